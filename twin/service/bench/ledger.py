"""How near the ledger comes to what was truly missed, and to why, over whole years.

Each seed is a plant of its own: its consumer (building, district and process take
turns), the size of its racks and of its network, the errors of its instruments,
the day on which its year begins; every fault of operation several times in the
year for one to six days, on one machine or on both; a fouling and a compressor
that leaks, which grow; and gaps in the telemetry. The reference is learnt, as in
service, on four healthy weeks before the year, the current model weekly on the 28
days before; the ledger is kept day by day. The simulator's physics is not the
twin's.

The truth is the same plant with the same weather and nothing wrong, less what was
delivered: by machine, interval and cause. Heat is under the right cause as far as
ledger and truth agree on it within one interval. Intervals without an account have
no truth either; what is told of them, and of intervals in which nobody wanted
heat, must be nothing.

A seed's total is judged against 3 % of what was truly missed, or against 0.01 % of
the racks' heat where that is more: where hardly anything was missed a ratio says
nothing. Intervals: 95 %, the middle of bootstrapped seeds.

With ``cold`` every plant has a third heat pump, whose source is the chilled water of
offices, and which has faults of its own; what they were not cooled is laid beside the
truth in the same way.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from calibration.fit import fit_degradation, fit_reference
from calibration.steady import windows
from twin import ledger
from twin.finding import Refusal
from twin.heatpump import HeatPump
from twin.ledger import ACCOUNTS, J_PER_KWH, Cause
from twin.plant import Plant, Use
from twin.service.bench.seeds import collect
from twin.service.config import load
from twin.simulate import (
    Cold,
    Fault,
    FaultKind,
    Scenario,
    Simulation,
    Unit,
    simulate,
)
from twin.simulate.machine import Rating
from twin.states import derive_exchanger, derive_rejector

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Flags = NDArray[np.bool_]

DAY = timedelta(days=1)
REFERENCE = 28 * DAY
WINDOW, EVERY = 28 * DAY, 7 * DAY
USES = (Use.BUILDING, Use.DISTRICT, Use.PROCESS)
CAUSES = tuple(cause.value for cause in Cause)
NOTHING = "nothing"

MOST_ERROR, LEAST_RIGHT, MOST_CLOSING, MOST_SECONDS = 0.03, 0.95, 1e-4, 10.0
HARDLY_ANYTHING = 1e-4
"""Share of the racks' heat below which an error of the total is no error. [1]"""

_SIZES: Mapping[FaultKind, tuple[float, float]] = {
    FaultKind.TRIP: (1.0, 1.0),
    FaultKind.OVERRIDE: (1.0, 1.0),
    FaultKind.SOURCE_COLD: (5.0, 14.0),
    FaultKind.SINK_HOT: (8.0, 18.0),
    FaultKind.LOW_FLOW: (0.2, 0.5),
    FaultKind.SETPOINT: (4.0, 10.0),
    FaultKind.MIN_OFF: (4.0, 10.0),
}
_SOURCE = "missed_{}_j"
_FOULING = (FaultKind.CONDENSER_FOULING, FaultKind.EVAPORATOR_FOULING)
_EVERY_KIND_DAYS = 120.0

COOLING = Unit(
    id="hp3",
    cools=True,
    rating=Rating(
        sink_heat_w=420e3,
        source_inlet_temp_degc=18.0,
        source_outlet_temp_degc=12.0,
        sink_inlet_temp_degc=50.0,
        sink_outlet_temp_degc=68.0,
    ),
)

Tables = dict[str, pd.DataFrame]


@dataclass(frozen=True, slots=True)
class How:
    """What is common to all seeds: the year's length, its step, whether some cool."""

    days: int = 365
    minutes: int = 30
    cold: bool = False


def scenarios(seed: int, how: How) -> tuple[Scenario, Scenario]:
    """Return the healthy four weeks of commissioning, and the judged year."""
    random = np.random.default_rng([seed, 53])
    first = datetime(2025, 10, 1, tzinfo=UTC)
    new = Scenario(
        name="commissioning",
        start=first,
        length=REFERENCE,
        step=timedelta(minutes=how.minutes),
        seed=seed,
        use=USES[seed % len(USES)],
        it_heat_w=1.35e6 * float(random.uniform(0.85, 1.15)),
        demand_heat_w=1.2e6 * float(random.uniform(0.85, 1.25)),
        least_load=float(random.uniform(0.30, 0.50)),
        reference_length=REFERENCE,
    )
    # Of a stream of its own, so that the plants without cold stay what they were.
    chilled = np.random.default_rng([seed, 67])
    if how.cold:
        new = replace(
            new,
            machines=(*new.machines, COOLING),
            demand_heat_w=1.3 * new.demand_heat_w,
            cold=Cold(demand_heat_w=400e3 * float(chilled.uniform(0.7, 1.2))),
        )
    start = first + REFERENCE + DAY * int(random.integers(0, 365))
    length = DAY * how.days
    kinds = list(_SIZES) * max(1, round(how.days / _EVERY_KIND_DAYS))
    random.shuffle(kinds)
    share = length / len(kinds)
    faults = []
    for place, kind in enumerate(kinds):
        began = start + place * share + float(random.uniform(0.05, 0.4)) * share
        lasts = min(DAY * float(random.uniform(1.0, 6.0)), 0.55 * share)
        low, high = _SIZES[kind]
        units = ("hp1", "hp2") if random.random() < 0.5 else ("hp1",)
        size = float(random.uniform(low, high))
        # Its source has no bypass, and short of liquid at low speed it would trip.
        of_loop = kind in (FaultKind.SOURCE_COLD, FaultKind.LOW_FLOW)
        if how.cold and not of_loop and chilled.random() < 0.5:
            units = (COOLING.id,)
        faults += [
            Fault(unit=unit, kind=kind, start=began, end=began + lasts, size=size)
            for unit in units
        ]
    for kind, low, high in (
        (_FOULING[int(random.integers(2))], 0.1, 0.3),
        (FaultKind.VOLUMETRIC_LOSS, 0.04, 0.12),
    ):
        faults.append(
            Fault(
                unit=("hp1", "hp2")[int(random.integers(2))],
                kind=kind,
                start=start,
                size=float(random.uniform(low, high)),
                shape="linear",
            )
        )
    return new, replace(
        new, name="ledger", start=start, length=length, faults=tuple(faults)
    )


def gaps(seed: int, times: pd.DatetimeIndex, how: How) -> Flags:
    """Return the intervals of which nothing arrives: 6 to 48 hours, every 60 days."""
    random = np.random.default_rng([seed, 59])
    lost = np.zeros(len(times), bool)
    for _ in range(max(1, how.days // 60)):
        first = int(random.integers(len(times)))
        lasts = int(random.integers(6, 49) * 60 / how.minutes)
        lost[first : first + lasts] = True
    return lost


def configured(made: Simulation) -> Plant:
    """Return the plant as its plant.toml tells it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plant.toml"
        path.write_text(made.plant_toml)
        return load(path).plant


def tables_of(plant: Plant, frames: Mapping[str, pd.DataFrame], minutes: int) -> Tables:
    """Return every unit's intervals with what is derived, as in service."""
    tables = dict(frames)
    for machine in plant.machines:
        tables[machine.id] = windows(frames[machine.id], machine, float(minutes))
    for exchanger in plant.exchangers:
        tables[exchanger.id] = derive_exchanger(frames[exchanger.id], exchanger)
    for rejector in plant.rejectors:
        tables[rejector.id] = derive_rejector(frames[rejector.id], rejector)
    return tables


@dataclass(frozen=True, slots=True)
class Season:
    """A simulated year, what its instruments told, and the models learnt of it.

    ``current`` holds each week's beginning and the models then in service.
    """

    made: Simulation
    plant: Plant
    tables: Tables
    reference: Mapping[str, HeatPump]
    current: Sequence[tuple[pd.Timestamp, Mapping[str, HeatPump]]]
    how: How


def season(seed: int, how: How) -> Season:
    """Simulate a seed's year, and learn its machines as in service.

    Raises
    ------
    RuntimeError
        If the commissioning was refused as a reference.
    """
    new, year = scenarios(seed, how)
    early, made = simulate(new), simulate(year)
    plant = configured(made)
    told = tables_of(configured(early), early.frames, how.minutes)
    lost = gaps(seed, pd.DatetimeIndex(made.frames[Plant.SITE].index), how)
    frames = {unit: frame[~lost] for unit, frame in made.frames.items()}
    tables = tables_of(plant, frames, how.minutes)
    models, reference = {}, {}
    for machine in plant.machines:
        fit = fit_reference(told[machine.id], machine)
        if isinstance(fit, Refusal):
            raise RuntimeError(f"seed {seed}, {machine.id}: {fit.sentence}")
        models[machine.id] = fit.model
        reference[machine.id] = _physics(fit.model)
    current, weeks = dict(reference), []
    cut = pd.Timestamp(year.start)
    while cut < pd.Timestamp(year.stop):
        for machine in plant.machines:
            own = tables[machine.id]
            seen = own[(own.index > cut - WINDOW) & (own.index <= cut)]
            if seen["steady"].sum() > 0:
                now = fit_degradation(seen, models[machine.id], machine)
                if not isinstance(now, Refusal):
                    current[machine.id] = _physics(now.model)
        weeks.append((cut, dict(current)))
        cut += EVERY
    return Season(made, plant, tables, reference, weeks, how)


def _physics(model: Any) -> HeatPump:
    if not isinstance(model.physics, HeatPump):
        raise TypeError(f"{type(model.physics).__name__} is the model of no machine")
    return model.physics


def kept(one: Season) -> tuple[pd.DataFrame, float]:
    """Return a season's ledger, kept day by day, and the CPU time it took. [s]."""
    began = time.process_time()
    parts = []
    meters: dict[str, ledger.Agreement] = {}
    step = timedelta(minutes=one.how.minutes)
    for cut, current in one.current:
        for day in pd.date_range(cut, periods=EVERY.days, freq="D"):
            today = {
                unit: table.loc[(table.index > day) & (table.index <= day + DAY)]
                for unit, table in one.tables.items()
            }
            if not len(today[Plant.SITE]):
                continue
            able = ledger.model_capacity(one.plant, today, one.reference, current)
            parts.append(
                ledger.account(one.plant, today, able, step=step, agreement=meters)
            )
            meters = ledger.agreement(one.plant, today, meters)
    return pd.concat(parts, ignore_index=True), time.process_time() - began


# --- against the truth ----------------------------------------------------------


def compared(made: Simulation, found: pd.DataFrame) -> dict[str, Any]:
    """Lay the ledger beside the truth: totals, agreement by cause, what is false."""
    units = [unit.id for unit in made.scenario.machines]
    site = found[found["unit"] == Plant.SITE].set_index("time")
    times = pd.DatetimeIndex(site.index[site["gap_s"] == 0.0])
    truth, told = {}, {}
    for unit in units:
        true = made.truth[unit].reindex(times)
        own = found[found["unit"] == unit].set_index("time").reindex(times)
        with np.errstate(invalid="ignore", divide="ignore"):
            lift = (own["missed_delivered_j"] / own["missed_j"]).fillna(0.0)
        truth[unit] = _kwh(true, times, "missed_delivered_{}_j")
        told[unit] = _kwh(_scaled(own, lift), times, "missed_{}_j")
    whole, said = _together(truth), _together(told)
    rows = site.loc[times]
    hours = made.scenario.step / timedelta(hours=1)
    of_site = made.truth[Plant.SITE].reindex(times)
    missed, real = said.sum(axis=1), whole.sum(axis=1)
    heat = rows["it_heat_j"] + rows["cold_j"]
    closing = (rows[list(ACCOUNTS)].sum(axis=1) - heat).abs()
    band = ledger.missed(found).heat_j
    source = _together(
        {u: _kwh(made.truth[u].reindex(times), times, _SOURCE) for u in units}
    )
    in_gap = site.loc[site["gap_s"] > 0.0, "missed_j"].fillna(0.0)
    return {
        "use": made.scenario.use.value,
        "start": f"{made.scenario.start:%Y-%m-%d}",
        "it_kwh": float(of_site["it_heat_w"].sum() * hours / 1e3),
        "true_kwh": float(real.sum()),
        "told_kwh": float(missed.sum()),
        "agreed_kwh": _both(whole, said),
        "agreed_by_unit_kwh": float(sum(_both(truth[u], told[u]) for u in units)),
        "false_kwh": float(missed[real <= 0.0].sum()),
        "unwanted_kwh": float(missed[of_site["demand_heat_w"] <= 0.0].sum()),
        "gap_kwh": float(in_gap.sum() / J_PER_KWH),
        "gap_h": float(site["gap_s"].sum() / 3600.0),
        "closing": float((closing / heat).max()),
        "in_band": band.p10 <= float(source.to_numpy().sum()) * J_PER_KWH <= band.p90,
        "confusion": confusion(whole, said),
        **(_cold(made, found, times) if made.scenario.cold is not None else {}),
    }


def _cold(
    made: Simulation, found: pd.DataFrame, times: pd.DatetimeIndex
) -> dict[str, float]:
    """Lay what was not cooled beside the truth. [kWh]."""
    true, told = {}, {}
    for unit in (one.id for one in made.scenario.machines if one.cools):
        own = found[found["unit"] == unit].set_index("time").reindex(times)
        true[unit] = _kwh(made.truth[unit].reindex(times), times, "missed_cold_{}_j")
        told[unit] = _kwh(own, times, _SOURCE)
    whole, said = _together(true), _together(told)
    missed, real = said.sum(axis=1), whole.sum(axis=1)
    of_site = made.truth[Plant.SITE].reindex(times)
    hours = made.scenario.step / timedelta(hours=1)
    return {
        "cold_kwh": float(of_site["cold_heat_w"].sum() * hours / 1e3),
        "true_cold_kwh": float(real.sum()),
        "told_cold_kwh": float(missed.sum()),
        "agreed_cold_kwh": _both(whole, said),
        "false_cold_kwh": float(missed[real <= 0.0].sum()),
        "unwanted_cold_kwh": float(missed[of_site["cold_demand_w"] <= 0.0].sum()),
    }


def _together(parts: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the sum of tables of one shape."""
    first, *rest = parts.values()
    for one in rest:
        first = first + one
    return first


def _both(true: pd.DataFrame, told: pd.DataFrame) -> float:
    """Return what both have in common. [kWh]."""
    return float(np.minimum(true.to_numpy(), told.to_numpy()).sum())


def _scaled(own: pd.DataFrame, lift: pd.Series) -> pd.DataFrame:
    """Return a machine's causes as they would have been delivered."""
    names = [f"missed_{cause}_j" for cause in CAUSES]
    return own[names].mul(lift, axis=0)


def _kwh(frame: pd.DataFrame, times: pd.DatetimeIndex, name: str) -> pd.DataFrame:
    columns = {
        cause: frame[name.format(cause)].fillna(0.0) / J_PER_KWH
        if name.format(cause) in frame
        else 0.0
        for cause in CAUSES
    }
    return pd.DataFrame(columns, index=times)


def confusion(true: pd.DataFrame, told: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return kWh by true and told cause; :data:`NOTHING` is heat only one has.

    In each interval agreement comes first; what is left of the one is laid
    over what is left of the other in proportion.
    """
    both = np.minimum(true.to_numpy(), told.to_numpy())
    left, over = true.to_numpy() - both, told.to_numpy() - both
    owed, extra = left.sum(axis=1), over.sum(axis=1)
    pairs = np.minimum(owed, extra)
    with np.errstate(invalid="ignore", divide="ignore"):
        rows = np.where(owed[:, None] > 0.0, left / owed[:, None], 0.0)
        columns = np.where(extra[:, None] > 0.0, over / extra[:, None], 0.0)
    matrix = np.zeros((len(CAUSES) + 1, len(CAUSES) + 1))
    matrix[:-1, :-1] = np.einsum("t,ti,tj->ij", pairs, rows, columns)
    matrix[:-1, :-1] += np.diag(both.sum(axis=0))
    matrix[:-1, -1] = np.einsum("t,ti->i", owed - pairs, rows)
    matrix[-1, :-1] = np.einsum("t,ti->i", extra - pairs, columns)
    names = [*CAUSES, NOTHING]
    return {
        row: {
            name: round(float(value), 1)
            for name, value in zip(names, values, strict=True)
            if value > 0.05
        }
        for row, values in zip(names, matrix, strict=True)
        if values.sum() > 0.05
    }


def run(seed: int, how: How) -> dict[str, Any]:
    """Return what one seed gave."""
    one = season(seed, how)
    found, seconds = kept(one)
    years = how.days / 365.0 * len(one.plant.machines)
    return compared(one.made, found) | {"unit_years": years, "ledger_s": seconds}


# --- the figures ----------------------------------------------------------------


def bootstrapped(
    top: Sequence[float], bottom: Sequence[float], draws: int = 2000
) -> tuple[float, float, float]:
    """Return a ratio of sums over the seeds with its 95 % bootstrap interval. [1]."""
    above, below = np.asarray(top, float), np.asarray(bottom, float)
    random = np.random.default_rng(61)
    picks = random.integers(len(above), size=(draws, len(above)))
    ratios = above[picks].sum(axis=1) / below[picks].sum(axis=1)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(above.sum() / below.sum()), float(low), float(high)


def figures_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the figures of all seeds: ratios of sums, and each seed's own error."""
    true = [row["true_kwh"] for row in rows]
    told = [row["told_kwh"] for row in rows]
    error = [row["told_kwh"] - row["true_kwh"] for row in rows]
    total = sum(true)
    matrix: dict[str, dict[str, float]] = {}
    for row in rows:
        for cause, cells in row["confusion"].items():
            own = matrix.setdefault(cause, {})
            for name, value in cells.items():
                own[name] = round(own.get(name, 0.0) + value, 1)
    off = [
        row["case"]
        for row, difference in zip(rows, error, strict=True)
        if abs(difference)
        > max(MOST_ERROR * row["true_kwh"], HARDLY_ANYTHING * row["it_kwh"])
    ]
    years = sum(row["unit_years"] for row in rows)
    cold: dict[str, Any] = {}
    if all("true_cold_kwh" in row for row in rows):
        whole = [row["true_cold_kwh"] for row in rows]
        apart = [row["told_cold_kwh"] - row["true_cold_kwh"] for row in rows]
        agreed = [row["agreed_cold_kwh"] for row in rows]
        cold = {
            "cold_kwh": sum(row["cold_kwh"] for row in rows),
            "true_cold_kwh": sum(whole),
            "cold_error": bootstrapped(apart, whole),
            "cold_right_cause": bootstrapped(agreed, whole),
            "false_cold_share": sum(row["false_cold_kwh"] for row in rows) / sum(whole),
            "unwanted_cold_kwh": sum(row["unwanted_cold_kwh"] for row in rows),
            "cold_error_by_seed": {
                row["case"]: round(difference / row["true_cold_kwh"], 4)
                for row, difference in zip(rows, apart, strict=True)
                if row["true_cold_kwh"] > 0.0
            },
        }
    return {
        "seeds": len(rows),
        "unit_years": years,
        "true_kwh": total,
        "told_kwh": sum(told),
        "missed_share_of_it": total / sum(row["it_kwh"] for row in rows),
        "total_error": bootstrapped(error, true),
        "kwh_right_cause": bootstrapped([row["agreed_kwh"] for row in rows], true),
        "kwh_right_machine_and_cause": bootstrapped(
            [row["agreed_by_unit_kwh"] for row in rows], true
        ),
        "false_share": sum(row["false_kwh"] for row in rows) / total,
        "unwanted_kwh": sum(row["unwanted_kwh"] for row in rows),
        "gap_kwh": sum(row["gap_kwh"] for row in rows),
        "gap_h": sum(row["gap_h"] for row in rows),
        "closing_error": max(row["closing"] for row in rows),
        "unit_year_s": sum(row["ledger_s"] for row in rows) / years,
        "total_error_by_seed": {
            row["case"]: round(difference / row["true_kwh"], 4)
            for row, difference in zip(rows, error, strict=True)
            if row["true_kwh"] > 0.0
        },
        "off": off,
        "in_band": sum(bool(row["in_band"]) for row in rows),
        **cold,
        "confusion_kwh": {
            cause: matrix[cause] for cause in (*CAUSES, NOTHING) if cause in matrix
        },
    }


def promises_of(figures: Mapping[str, Any]) -> dict[str, bool]:
    """Return what the figures are asked to show."""
    right = {
        cause: cells.get(cause, 0.0)
        for cause, cells in figures["confusion_kwh"].items()
        if cause != NOTHING
    }
    cold = {}
    if "cold_error" in figures:
        cold = {
            f"missed cold within {MOST_ERROR:.0%}": (
                abs(figures["cold_error"][0]) <= MOST_ERROR
            ),
            f"{LEAST_RIGHT:.0%} of the cold under the right cause": (
                figures["cold_right_cause"][0] >= LEAST_RIGHT
            ),
            "no cold missed that nobody wanted": figures["unwanted_cold_kwh"] == 0.0,
        }
    return {
        **cold,
        f"missed total within {MOST_ERROR:.0%}": (
            abs(figures["total_error"][0]) <= MOST_ERROR
        ),
        f"missed total within {MOST_ERROR:.0%} in every seed": not figures["off"],
        f"{LEAST_RIGHT:.0%} of the kWh under the right cause": (
            figures["kwh_right_cause"][0] >= LEAST_RIGHT
        ),
        "every cause that was planted is named": all(right.values()),
        "nothing missed without demand": figures["unwanted_kwh"] == 0.0,
        "nothing missed in a gap": figures["gap_kwh"] == 0.0,
        f"closes to {MOST_CLOSING:.2%}": figures["closing_error"] <= MOST_CLOSING,
        f"a unit-year in {MOST_SECONDS:g} s": figures["unit_year_s"] <= MOST_SECONDS,
    }


def table(figures: Mapping[str, Any]) -> str:
    """Return the figures, and what was told of each true cause, as text."""
    lines = []
    for name, value in figures.items():
        if isinstance(value, tuple):
            middle, low, high = value
            lines.append(f"{name:<28} {middle:.4f} ({low:.4f} to {high:.4f})")
        elif isinstance(value, float):
            lines.append(f"{name:<28} {value:.6g}")
        elif not isinstance(value, dict):
            lines.append(f"{name:<28} {value}")
    lines += ["", "truly kWh, and what was told of them"]
    for cause, cells in figures["confusion_kwh"].items():
        told = sorted(cells.items(), key=lambda cell: -cell[1])
        lines.append(
            f"{cause:<14} {sum(cells.values()):>12,.0f}  "
            + ", ".join(f"{name} {value:,.0f}" for name, value in told)
        )
    return "\n".join(lines) + "\n"


# --- the run --------------------------------------------------------------------


def measured(
    numbers: Iterable[int], how: How, *, workers: int, resume: Path | None = None
) -> tuple[dict[str, Any], dict[str, bool]]:
    """Keep every seed's ledger, and lay it beside the truth.

    Parameters
    ----------
    numbers : iterable of int
        The seeds.
    how : How
        The year's length and step.
    workers : int
        Processes.
    resume : Path, optional
        A file of what was already run, which this one goes on with.

    Returns
    -------
    dict, dict
        Figures, and by promise whether it is kept.
    """
    asked = (
        (
            f"seed {seed}, {how.days} d, {how.minutes} min" + ", cold" * how.cold,
            partial(run, seed, how),
        )
        for seed in numbers
    )
    figures = figures_of(collect(asked, resume, workers))
    return figures, promises_of(figures)
