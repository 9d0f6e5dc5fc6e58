"""What it costs to clean when the twin says so, and how often its intervals hold.

``python -m tests.campaigns.cleaning [--seed S] [--seeds N] [--plants P] [--json]
[--workers W] [--resume FILE]``

*Surfaces*: daily conductances of surfaces whose dirt follows one of the three laws
by turns, with errors as large, as alike from day to day and as seasonal as those that
the twin's own daily values have (:data:`ERRORS`), in a district's seasons and in a
process's weeks. Each is followed for three years from its first day: every 29 days
the twin looks ahead from what it has seen by then, and the surface is cleaned on its
date.
The clairvoyant knows the law, its constants and every day's load and price to
come, and has the cheapest of all plans, found by dynamic programming. ``excess``
is what following the twin costs beyond that, both carried on to the end of seven
years by the clairvoyant, so that a surface that is dirty at the end is not a gain.
``fixed`` is the same of whoever cleans once a year, each year on the same day.

*Plants*: the simulator's machine, whose physics is not the twin's, through windows,
reference and daily values, with a condenser that fouls by the same laws; what dirt
costs is the simulator's own electricity. Each is followed to its first cleaning.
What is held against the intervals is what the twin itself reads 30, 60 and 90 days
later.

``covered`` is the share of 80 % intervals that hold the value read then, on days that
could be judged about as well as usual; ``every_day`` is the same of all that could be
judged at all, and ``true`` is the share that hold the true resistance, of which the
errors of a day are no part.
Intervals of the figures are 95 %, by bootstrap over the seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from . import seeds  # isort: skip  (puts tests/calibration on the path)
from simulated import machine

from calibration.findings import Prices
from calibration.fit import fit_reference
from calibration.forecast import AHEAD, Calendar, Forecast, look_ahead
from calibration.growth import SHARP, Law
from calibration.health import commission, daily
from calibration.model import Model
from calibration.outlook import outlooks
from calibration.steady import windows
from calibration.trend import trend
from twin.finding import Refusal
from twin.kpi import hourly
from twin.plant import Action, Machine, Maintenance, Use
from twin.simulate import Fault, FaultKind, Scenario, Simulation, Unit, simulate

Array = NDArray[np.float64]

START = datetime(2026, 1, 1, tzinfo=UTC)
REFERENCE = timedelta(days=28)
FOLLOWED, KNOWN = 3 * 365, 7 * 365
EVERY = 29
"""Not whole weeks, so that the days ahead fall on every weekday by turns. [d]"""
LEAST, MOST = 0.75, 0.85
WITHIN = 0.05
ERRORS = {
    # Of the logarithm of a day's conductance: deviation and memory from one day to
    # the next, and amplitudes of the waves of a year, of half and of a third of one.
    ("district", "condenser"): (0.0069, 0.3, (0.0037, 0.0045, 0.0016)),
    ("district", "evaporator"): (0.0064, 0.5, (0.0134, 0.0059, 0.0011)),
    ("process", "condenser"): (0.0051, 0.0, (0.0004, 0.0006, 0.0006)),
    ("process", "evaporator"): (0.0034, 0.0, (0.0006, 0.0003, 0.0005)),
}
"""Errors of a day's conductance: of machines without dirt, simulated for a year. [1]"""


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """A surface that fouls: its law, its price by the day, its errors.

    ``price`` is the cost of a whole clean resistance on each day [EUR],
    ``grown`` the resistance by age in days [1], ``seen`` whether a day can be
    judged.
    """

    law: Law
    use: str
    kind: str
    price: Array
    grown: Array
    seen: NDArray[np.bool_]
    season: Array
    cleaning: float
    rng: np.random.Generator

    def readings(self, cleaned: int) -> tuple[Array, Array]:
        """Return true resistance and daily conductance from a cleaning on. [1]."""
        days = KNOWN - cleaned
        deviation, memory, _ = ERRORS[self.use, self.kind]
        error = deviation * _alike(memory, days, self.rng) + self.season[cleaned:]
        # No two cleanings leave the same.
        r = self.grown[1 : days + 1] + self.rng.normal(0.0, 0.015)
        value = np.exp(error) / (1.0 + r)
        return r, np.where(self.seen[cleaned:], value, np.nan)


def _alike(memory: float, days: int, rng: np.random.Generator) -> Array:
    """Return chance of deviation one that is alike from day to day. [1]."""
    made = rng.standard_normal(days)
    for day in range(1, days):
        made[day] = memory * made[day - 1] + math.sqrt(1.0 - memory**2) * made[day]
    return made


def _law(law: Law, age: Array, whole: float, rng: np.random.Generator) -> Array:
    """Return a law's course over age, one at an age. [1]."""
    if law is Law.LINEAR:
        return age / whole
    if law is Law.FALLING_RATE:
        return np.sqrt(age / whole)
    tau = whole / rng.uniform(0.5, 2.0)
    return np.asarray(np.expm1(-age / tau) / np.expm1(-whole / tau))


def surface(seed: int) -> Surface:
    """Return the surface of a seed."""
    rng = np.random.default_rng(seed)
    law = list(Law)[seed % 3]
    use = ("district", "process")[seed // 3 % 2]
    kind = ("condenser", "evaporator")[seed // 6 % 2]
    day = np.arange(KNOWN)
    winter = np.cos(2.0 * np.pi * (day - 15) / 365.0)
    weather = _alike(0.85, KNOWN, rng)
    if use == "district":
        load = np.clip(0.5 + 0.5 * winter + 0.12 * weather, 0.0, 1.1)
        load[load < 0.12] = 0.0
    else:
        load = np.where(day % 7 < 5, 0.9, 0.4) + 0.05 * weather
    tariff = 1.0 + 0.15 * winter + 0.1 * weather
    # What dirt costs grows with the heat that must pass it and the power it raises.
    price = float(np.exp(rng.uniform(np.log(30), np.log(150)))) * load**2 * tariff
    best = float(np.exp(rng.uniform(np.log(90), np.log(400))))
    then = float(np.exp(rng.uniform(np.log(0.08), np.log(0.5))))
    grown = then * _law(law, np.arange(KNOWN + 1, dtype=float), best, rng)
    # The cost of a cleaning that would be right at that age, at an even price.
    whole = then * best - float(np.trapezoid(grown[: round(best) + 1]))
    season = np.zeros(KNOWN)
    for number, amplitude in enumerate(ERRORS[use, kind][2], start=1):
        turn = 2.0 * np.pi * (number * day / 365.25 + rng.uniform())
        season += amplitude * np.cos(turn)
    return Surface(
        law=law, use=use, kind=kind, price=price, grown=grown, seen=load > 0.0,
        season=season, cleaning=whole * float(price.mean()), rng=rng,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Clairvoyant:
    """The cheapest plans from every day on, for a surface that is known."""

    surface: Surface
    ahead: Array

    def run(self, cleaned: int) -> Array:
        """Return the cost of dirt from a cleaning to each day's end. [EUR]."""
        price = self.surface.price[cleaned:]
        return np.cumsum(price * self.surface.grown[1 : len(price) + 1])

    def on(self, cleaned: int, day: int) -> float:
        """Return the least cost from a day on of what was cleaned on another. [EUR]."""
        run = self.run(cleaned)
        spent = run[day - cleaned - 1] if day > cleaned else 0.0
        stops = run[max(day - cleaned - 1, 0) :] - spent
        onward = self.surface.cleaning + self.ahead[max(day, cleaned + 1) :]
        return float(min(stops[-1], (stops[: len(onward)] + onward).min()))

    def plan(self) -> list[int]:
        """Return the days on which he cleans."""
        days: list[int] = []
        cleaned = 0
        while True:
            run = self.run(cleaned)
            onward = run + self.surface.cleaning + self.ahead[cleaned + 1 :]
            best = int(np.argmin(onward))
            if run[-1] <= onward[best]:
                return days
            cleaned += best + 1
            days.append(cleaned)


def clairvoyant(one: Surface) -> Clairvoyant:
    """Return who knows everything: backwards from the last day."""
    ahead = np.zeros(KNOWN + 1)
    him = Clairvoyant(one, ahead)
    for day in range(KNOWN - 1, -1, -1):
        run = him.run(day)
        ahead[day] = min(run[-1], (run + one.cleaning + ahead[day + 1 :]).min())
    return him


def cost(him: Clairvoyant, cleanings: Iterable[int], until: int = FOLLOWED) -> float:
    """Return what cleaning on those days costs, carried on by him. [EUR]."""
    total, last = 0.0, 0
    for day in cleanings:
        total += float(him.run(last)[day - last - 1]) + him.surface.cleaning
        last = day
    run = him.run(last)
    total += float(run[until - last - 1]) if last < until else 0.0
    return total + him.on(last, until)


def _ends(first: int, days: int, start: datetime = START) -> pd.DatetimeIndex:
    """Return the ends of so many days from one on."""
    begin = start + timedelta(days=first + 1)
    return pd.date_range(begin, periods=days, freq="D")


def _table(value: Array, first: int) -> pd.DataFrame:
    times = _ends(first, len(value))
    return pd.DataFrame(
        {"time": times, "value": value, "low": value * 0.93, "high": value * 1.07}
    )


def _held(
    ahead: Forecast, value: Array, truth: Array, usual: NDArray[np.bool_], age: int
) -> list[Any]:
    """Return how each interval held: days, the reading, the truth, a usual day."""
    told = []
    for one in ahead.waiting:
        place = age + one.days - 1
        # Where that day cannot be judged, the next that can.
        later = np.flatnonzero(np.isfinite(value[place : place + 7]))
        if len(later):
            there = place + int(later[0])
            read = 1.0 / value[there] - 1.0
            told.append(
                [one.days, bool(one.low <= read <= one.high),
                 bool(one.low <= truth[there] <= one.high), bool(usual[there])]
            )  # fmt: skip
    return told


def followed(one: Surface) -> tuple[list[int], list[Any]]:
    """Clean as the twin says; return the days, and how its intervals held."""
    calendar = pd.Series(one.price, index=_ends(0, KNOWN))
    cleanings: list[int] = []
    held: list[Any] = []
    cleaned = 0
    truth, value = one.readings(cleaned)
    usual = np.ones(KNOWN, dtype=bool)
    before: list[pd.DataFrame] = []
    day = EVERY
    while day < FOLLOWED:
        now = START + timedelta(days=day)
        seen = value[: day - cleaned]
        ahead = look_ahead(
            pd.concat([*before, _table(seen, cleaned)], ignore_index=True),
            now=now,
            since=START + timedelta(days=cleaned),
            earlier=[START + timedelta(days=last) for last in (0, *cleanings[:-1])],
            cleaning_cost=one.cleaning,
            calendar=Calendar(calendar.iloc[:day]),
        )
        due = FOLLOWED
        if isinstance(ahead, Forecast):
            held += _held(ahead, value, truth, usual, day - cleaned)
            if ahead.clean_by is not None:
                due = max(day, math.ceil((ahead.clean_by - START) / timedelta(days=1)))
        if due < min(day + EVERY, FOLLOWED):
            before.append(_table(value[: due - cleaned], cleaned))
            cleaned = due
            cleanings.append(due)
            truth, value = one.readings(cleaned)
            day = due
        day += EVERY
    return cleanings, held


def surfaces(seed: int) -> dict[str, Any]:
    """Follow one surface."""
    one = surface(seed)
    him = clairvoyant(one)
    days, held = followed(one)
    least = float(him.ahead[0])
    plan = [day for day in him.plan() if day < FOLLOWED]
    # What he spends in the years that are followed.
    his = least - him.on(plan[-1] if plan else 0, FOLLOWED)
    yearly = list(range(365, FOLLOWED, 365))
    return {
        "law": one.law.value,
        "use": one.use,
        "cost": his,
        "lost": cost(him, days) - least,
        "excess": (cost(him, days) - least) / his,
        "fixed": (cost(him, yearly) - least) / his,
        "days": days,
        "his_days": plan,
        "held": held,
    }


# --- through the whole chain --------------------------------------------------

WATCHED = 330
EUR_J = 0.20 / 3.6e6


def _faults(grown: Array, begin: datetime) -> tuple[Fault, ...]:
    """Return faults whose sum is a resistance that grows by a law."""
    # Closer at the beginning, where the root of time is steep.
    days = np.concatenate([[0, 1, 3, 6, 10], np.arange(15, 366, 15)])
    lost = 1.0 - 1.0 / (1.0 + grown[days])
    return tuple(
        Fault(
            unit="hp1",
            kind=FaultKind.CONDENSER_FOULING,
            start=begin + timedelta(days=int(first)),
            full=begin + timedelta(days=int(last)),
            size=float(more),
            shape="linear",
        )
        for first, last, more in zip(days[:-1], days[1:], np.diff(lost), strict=True)
    )


def _simulated(seed: int, use: Use, faults: tuple[Fault, ...]) -> Simulation:
    return simulate(
        Scenario(
            name="cleaning",
            length=REFERENCE + timedelta(days=365),
            step=timedelta(hours=1),
            seed=seed,
            use=use,
            machines=(Unit(id="hp1"),),
            it_heat_w=0.75e6,
            demand_heat_w=0.65e6,
            faults=faults,
            reference_length=REFERENCE,
        )
    )


def _spent(made: Simulation, begin: pd.Timestamp) -> Array:
    """Return what the machine drew on each day of a year. [EUR]."""
    power = made.truth["hp1"]["compressor_power_w"]
    daily = power.resample("D", label="right", closed="right").mean() * 86_400.0
    return np.asarray(daily[daily.index > begin].to_numpy()[:365] * EUR_J, dtype=float)


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """A simulated machine whose condenser fouls, and what the twin made of it."""

    one: Surface
    told: Machine
    found: pd.DataFrame
    model: Model
    history: pd.DataFrame
    begin: datetime


def chain(seed: int) -> Chain:
    """Simulate a machine for a year, and judge its days as the service does."""
    rng = np.random.default_rng(seed)
    law = list(Law)[seed % 3]
    use = (Use.DISTRICT, Use.PROCESS)[seed // 3 % 2]
    begin = Scenario(name="cleaning").start + REFERENCE
    age = np.arange(KNOWN + 1, dtype=float)
    grown = float(rng.uniform(0.25, 0.6)) * _law(law, age, 365.0, rng)
    made = _simulated(seed, use, _faults(grown, begin))
    # What a resistance costs on a day is asked of the simulator, not of the twin.
    step = Fault(
        unit="hp1",
        kind=FaultKind.CONDENSER_FOULING,
        start=begin - REFERENCE,
        size=0.2,
    )
    dirty, clean = (
        _spent(_simulated(seed, use, some), pd.Timestamp(begin))
        for some in ((step,), ())
    )
    price = np.tile((dirty - clean) / 0.25, KNOWN // 365)
    best = int(rng.uniform(110, 220))
    whole = grown[best] * best - float(np.trapezoid(grown[: best + 1]))
    one = Surface(
        law=law, use=use.value, kind="condenser", price=price, grown=grown,
        seen=np.ones(KNOWN, dtype=bool), season=np.zeros(KNOWN),
        cleaning=whole * float(price.mean()), rng=rng,
    )  # fmt: skip
    told = replace(machine(made), cleaning_cost_eur=one.cleaning)
    found = windows(made.frames["hp1"], told, 60.0)
    early = found[found.index <= pd.Timestamp(begin)]
    fit = fit_reference(early, told)
    if isinstance(fit, Refusal):
        raise RuntimeError(fit.sentence)
    model, history = commission(early, fit.model, told)
    late = found[found.index > pd.Timestamp(begin)]
    history = pd.concat(
        [history, daily(late, model, told, history=trend(history, told.id))]
    )
    mine = (history["component"] == "condenser") & (
        history["indicator"] == "conductance_ratio"
    )
    return Chain(one, told, found, model, history[mine], begin)


def plants(seed: int) -> dict[str, Any]:
    """Follow the condenser of one simulated machine to its first cleaning."""
    made = chain(seed)
    one, begin, mine, found = made.one, made.begin, made.history, made.found
    him = clairvoyant(one)
    days = mine.set_index("time").reindex(_ends(0, 365, begin))
    value = days["value"].to_numpy(dtype=float)
    width = np.log(days["high"] / days["low"])
    usual = (width <= SHARP * width.median()).to_numpy()
    hours = hourly(made.told, found, step=timedelta(hours=1))
    prices = Prices(electricity_eur_j=EUR_J)
    cleaned = Maintenance(
        time=begin, unit="hp1", action=Action.CLEANED, component="condenser"
    )
    told = trend(mine, made.told.id)
    chosen = WATCHED
    held: list[Any] = []
    for day in range(EVERY, WATCHED, EVERY):
        now = begin + timedelta(days=day)
        ahead = outlooks(
            told.until(now), made.model, made.told, found[found.index <= now],
            now=now, hours=hours, prices=prices, log=(cleaned,),
        )["condenser"]  # fmt: skip
        if isinstance(ahead, Refusal):
            continue
        held += _held(ahead, value, one.grown[1:], usual, day)
        if ahead.clean_by is not None:
            due = math.ceil((ahead.clean_by - begin) / timedelta(days=1))
            if due < day + EVERY and chosen == WATCHED:
                chosen = max(due, day)
    least = float(him.ahead[0])
    plan = him.plan()
    until = max(chosen, plan[0])
    his = least - him.on(plan[0] if plan[0] < until else 0, until)
    lost = cost(him, [chosen] if chosen < WATCHED else [], until) - least
    return {
        "law": one.law.value,
        "use": one.use,
        "cost": his,
        "lost": lost,
        "excess": lost / his,
        "days": [chosen],
        "his_days": plan[:1],
        "held": held,
    }


# --- the figures --------------------------------------------------------------


def _bounds(
    rows: Sequence[Any], figure: Callable[[Sequence[Any]], float]
) -> list[float]:
    """Return a figure with its 95 % interval by bootstrap over the seeds."""
    rng = np.random.default_rng(0)
    draws = [
        figure([rows[i] for i in rng.integers(0, len(rows), len(rows))])
        for _ in range(400)
    ]
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return [round(float(x), 4) for x in (figure(rows), low, high)]


def _excess(rows: Sequence[Any]) -> float:
    return float(sum(row["lost"] for row in rows) / sum(row["cost"] for row in rows))


def _covered(rows: Sequence[Any], days: int, what: int, every: bool = False) -> float:
    held = [
        one[what]
        for row in rows
        for one in row["held"]
        if one[0] == days and (every or one[3])
    ]
    return float(np.mean(held)) if held else math.nan


def figures(rows: Sequence[Any]) -> dict[str, Any]:
    """Return what the seeds say together."""
    told: dict[str, Any] = {
        "seeds": len(rows),
        "excess": _bounds(rows, _excess),
        "excess_mean_of_seeds": float(np.mean([row["excess"] for row in rows])),
        "seeds_within_5_percent": float(
            np.mean([row["excess"] <= WITHIN for row in rows])
        ),
        "forecasts": sum(len(row["held"]) for row in rows) // len(AHEAD),
    }
    if "fixed" in rows[0]:
        told["fixed_yearly_excess"] = float(
            sum(row["fixed"] * row["cost"] for row in rows)
            / sum(row["cost"] for row in rows)
        )
    for days in AHEAD:
        told[f"covered_{days}"] = _bounds(rows, partial(_covered, days=days, what=1))
        told[f"covered_{days}_every_day"] = _bounds(
            rows, partial(_covered, days=days, what=1, every=True)
        )
        told[f"true_{days}"] = _bounds(rows, partial(_covered, days=days, what=2))
    return told


def main() -> None:
    """Run the campaign over its seeds."""
    parser = seeds.arguments("cleaning", __doc__, 200)
    parser.add_argument("--plants", type=int, default=20, help="seeds of the chain")
    options = parser.parse_args()
    wanted = [
        (kind, seed)
        for kind, count in (("plant", options.plants), ("surface", options.seeds))
        for seed in range(options.seed, options.seed + count)
    ]
    rows = seeds.collect(
        (
            (
                f"{kind}, seed {seed}",
                partial(surfaces if kind == "surface" else plants, seed),
            )
            for kind, seed in wanted
        ),
        options.resume,
        options.workers,
    )
    told: dict[str, Any] = {}
    promises = {}
    for kind in ("surface", "plant"):
        mine = [row for row in rows if row["case"].startswith(kind)]
        if not mine:
            continue
        told[kind] = figures(mine)
        for what in ("law", "use"):
            for name in sorted({row[what] for row in mine}):
                told[f"{kind}: {name}"] = figures([r for r in mine if r[what] == name])
        kept = told[kind]["excess"][0] <= WITHIN
        promises[f"{kind}: within {WITHIN:.0%} of the clairvoyant's cost"] = kept
        for days in AHEAD:
            share = told[kind][f"covered_{days}"][0]
            promises[f"{kind}: {LEAST:.0%} to {MOST:.0%} covered at {days} days"] = (
                LEAST <= share <= MOST
            )
    seeds.end(told, promises, as_json=options.json)


if __name__ == "__main__":
    main()
