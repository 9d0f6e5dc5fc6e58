"""What deserves to be said of a device today: sensors before equipment.

The daily trend notices that something moved; the diagnosis says what, or that
the readings cannot tell. Only what both carry becomes a finding. An instrument
that lies holds back what was concluded from it, and says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibration.approach import EXCESS
from calibration.degradation import DEGRADATIONS, degraded, indicator_key
from calibration.diagnosis import (
    GAS,
    SURE,
    Blame,
    Diagnosis,
    Explanation,
    decisive,
    diagnose,
)
from calibration.forecast import last_cleaning
from calibration.health import (
    BALANCE,
    RESISTANCE,
    SLACK,
    WINSOR,
    balance_limit,
    day_ends,
    stuck,
)
from calibration.model import Model, conditions
from calibration.operation import APART
from calibration.standstill import SIDES
from calibration.trend import Series, Trend
from twin.finding import Finding, FindingKind, Refusal
from twin.heatpump import HeatPump
from twin.plant import Exchanger, Machine, Maintenance

SURE_OF_NAME = 0.99
"""Probability from which one instrument among those that lie is named. [1]"""
NOTICED = 6.0
"""Sum of daily deviations at which the energy balance is looked into. [1]"""
# Probability from which a part is named: one that its own trend shows, and one, as a
# valve, that only the readings of a week do.
_LIKELY, _LIKELY_UNSEEN = 0.5, 0.9
_RECENT = 7
_RECENTLY = timedelta(days=_RECENT)
_CHANCE = 0.25  # of the limit
# What daily values jump by when something happened: standard deviations, and more
# than a cold spell, of which physics may miss two per cent.
_STEP, _STEP_LEAST = 6.0, 0.04
_STALE = timedelta(days=3)
_NEVER = pd.DatetimeIndex([], tz="UTC")
_RESTED = timedelta(days=21)  # a machine seldom stands for hours
_STALE_LYING = timedelta(days=30)
_LOOK_BACK = timedelta(days=45)
_LONG_ENOUGH = timedelta(days=2, hours=12)

# Least loss worth a finding, by indicator.
_LEAST = {
    "conductance_ratio": 0.02,
    "isentropic_ratio": 0.01,
    "volumetric_ratio": 0.01,
    "efficiency_ratio": 0.01,
    "capacity_ratio": 0.01,
    "subcooling_ratio": 0.20,
    RESISTANCE: 0.10,
}
_WHAT = {
    "conductance_ratio": "conductance",
    "isentropic_ratio": "isentropic efficiency",
    "volumetric_ratio": "volumetric efficiency",
    "efficiency_ratio": "efficiency",
    "capacity_ratio": "capacity",
    "subcooling_ratio": "subcooling",
}
_ADVICE = {
    "condenser": "Clean the condenser's liquid side; check its strainer and flow"
    " first.",
    "evaporator": "Clean the evaporator's liquid side; check its strainer and flow"
    " first, and rule out lack of charge.",
    "exchanger": "Clean the exchanger; check its strainer and flows first.",
    "compressor": "Have the compressor checked: valves, leakage, oil, drive.",
    "machine": "Measure suction and discharge pressure to tell heat exchangers from"
    " compressor, and check both.",
    "charge": "Check the refrigerant charge and look for a leak.",
    GAS.name: "Compare the pressure after four hours at rest with saturation at the"
    " condenser's temperature; purge the gas, and look for where it came in.",
    "expansion": "Check the expansion valve, its sensor and its control.",
}
# What the diagnosis moves for each part, and the indicator that shows it.
_MOVES = {
    "condenser": ("condenser",),
    "evaporator": ("evaporator",),
    "compressor": ("isentropic", "volumetric"),
    "charge": ("subcooling",),
    "expansion": ("superheat",),
    GAS.name: (GAS.name,),
}
_INDICATORS = {
    "condenser": "conductance_ratio",
    "evaporator": "conductance_ratio",
    "isentropic": "isentropic_ratio",
    "volumetric": "volumetric_ratio",
    "subcooling": "subcooling_ratio",
}
PARAMETER_OF = {
    ("condenser", "conductance_ratio"): "condenser",
    ("evaporator", "conductance_ratio"): "evaporator",
    ("compressor", "isentropic_ratio"): "isentropic",
    ("compressor", "volumetric_ratio"): "volumetric",
    ("machine", "efficiency_ratio"): "isentropic",
    ("machine", "capacity_ratio"): "volumetric",
    ("charge", "subcooling_ratio"): "subcooling",
}
"""Degradation that an indicator of a component stands for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What a joule of electricity costs and emits; None is unknown."""

    electricity_eur_j: float | None = None
    electricity_kg_j: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """What a finding is made of: one device on one day."""

    trend: Trend
    model: Model
    device: Machine | Exchanger
    windows: pd.DataFrame
    now: datetime
    prices: Prices
    log: tuple[Maintenance, ...]
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Notice:
    """A trend that left what chance does to it, and the begin of its last step."""

    component: str
    indicator: str
    series: Series
    began: datetime
    stepped: datetime
    value: float
    low: float
    high: float
    days: int

    @property
    def sure(self) -> bool:
        """Whether its own interval excludes what is not worth a finding."""
        least = _LEAST[self.indicator]
        if self.indicator == RESISTANCE:
            return self.low > 1.0 + least
        return self.high < 1.0 - least


def findings(
    history: Trend,
    model: Model,
    device: Machine | Exchanger,
    windows: pd.DataFrame,
    *,
    now: datetime,
    prices: Prices | None = None,
    log: Iterable[Maintenance] = (),
    version: str = "",
) -> list[Finding]:
    """Say what is wrong with a device, sensors before equipment.

    Parameters
    ----------
    history : Trend
        All rows of :func:`calibration.health.daily` so far.
    model : Model
        The unit's reference.
    device : Machine or Exchanger
        The device as configured.
    windows : DataFrame
        The last days' windows (a week is enough): they tell causes apart and
        price the loss.
    now : datetime
        The clock of the data. UTC.
    prices : Prices, optional
        What electricity costs and emits.
    log : iterable of Maintenance
        Cleanings start the forecast anew.
    version : str
        The reference's version, for the evidence.

    Returns
    -------
    list of Finding
        What is on at ``now``. A sensor's finding names in its evidence the
        equipment findings that were held back because of it; an uncertain one
        the causes that the readings cannot tell apart, and the test that would.
    """
    case = _Case(
        trend=history,
        model=model,
        device=device,
        windows=windows,
        now=now,
        prices=prices or Prices(),
        log=tuple(log),
        version=version,
    )
    dead = _stuck(case)
    run = _balance_run(case)
    lying = bool(dead) or run.lies
    noticed = _noticed(case, _STALE_LYING if lying else _STALE)
    # What clogs is read from one pressure or one pump; no model can blame it on
    # another part, and no other part on it.
    clogged = [n for n in noticed if n.indicator == RESISTANCE]
    noticed = [n for n in noticed if n.indicator != RESISTANCE]
    strainers = [] if dead else _strainers(case, clogged, noticed)
    if dead or isinstance(device, Exchanger):
        equipment = [_equipment(case, n) for n in noticed if n.sure]
        if not lying:
            return equipment + strainers
        told = dead or [_lying(case, run, None)]
        return _holding(told, [*equipment, *strainers])
    apart = _apart(case)
    if not noticed and not run.noticed and not apart.noticed:
        return strainers
    # All that is there now has been there since the newest of it began.
    began = max(
        [max(n.began, n.stepped) for n in noticed]
        + ([run.began] if run.noticed else [])
        + ([apart.began] if apart.noticed else [])
    )
    if now - began >= _LONG_ENOUGH:
        began += timedelta(days=1)  # of the first day a part was as before
    recent = windows[windows.index > pd.Timestamp(began)]
    if not run.lies:
        # What an instrument said while it lied says nothing of today.
        recent = recent[~day_ends(recent.index).isin(run.unbalanced)]
    age = now - (history.first or now)
    diagnosis = _diagnosed(recent, model, device, age, apart.rests_since(began))
    if isinstance(diagnosis, Refusal):
        sure = [_equipment(case, n) for n in noticed if n.sure]
        told = _holding([_lying(case, run, None)], sure) if run.lies else sure
    else:
        told = _decided(case, noticed, run, diagnosis)
    liars = [f for f in told if f.kind is FindingKind.SENSOR]
    if not liars:
        return told + strainers
    # It may be the flow's own meter.
    return _holding(liars, strainers) + [f for f in told if f not in liars]


def _diagnosed(
    windows: pd.DataFrame,
    model: Model,
    machine: Machine,
    age: timedelta,
    rests: Mapping[str, tuple[float, float]],
) -> Diagnosis | Refusal:
    """Diagnose, and believe in gas only if both halves of the time show it.

    It differs from dirt by how its effect follows the load, and so does what
    physics misses in a week of odd loads.
    """
    told = diagnose(windows, model, machine, age=age, rests=rests)
    if isinstance(told, Refusal) or told.probability(GAS.blame, GAS.name) <= 0.5:
        return told
    half = len(windows) // 2
    for part in (windows.iloc[:half], windows.iloc[half:]):
        seen = diagnose(part, model, machine, age=age, rests=rests)
        if isinstance(seen, Refusal) or seen.probability(GAS.blame, GAS.name) <= SURE:
            return diagnose(
                windows, model, machine, age=age, without=(GAS,), rests=rests
            )
    return told


def _decided(
    case: _Case, noticed: Sequence[_Notice], run: _Run, diagnosis: Diagnosis
) -> list[Finding]:
    """Return what trend and diagnosis say together."""
    lying = diagnosis.probability(Blame.SENSOR)
    broken = diagnosis.probability(Blame.EQUIPMENT)
    if run.lies or lying >= SURE:
        accused = _accused(case, noticed, diagnosis) if broken >= SURE else []
        held = [n for n in noticed if n.component not in {f.component for f in accused}]
        sensor = _lying(case, run, diagnosis)
        return [
            *_holding([sensor], [_equipment(case, n) for n in held]),
            *accused,
        ]
    if broken >= SURE:
        return _accused(case, noticed, diagnosis)
    if lying + broken > 0.5 and noticed:
        return [_uncertain(case, noticed, diagnosis)]
    return []


def _accused(
    case: _Case, noticed: Sequence[_Notice], diagnosis: Diagnosis
) -> list[Finding]:
    """Return the findings of the parts that the diagnosis names."""
    shown = {n.component for n in noticed}
    parts = [
        cause.name
        for cause in diagnosis.names
        if cause.blame is Blame.EQUIPMENT
        and diagnosis.probability(Blame.EQUIPMENT, cause.name)
        > (_LIKELY if cause.name in shown else _LIKELY_UNSEEN)
    ]
    # Liquids and power show two things, capacity and efficiency, and five parts move
    # them. Which is told by small differences in how they follow load, where the
    # twin's physics is not the plant's: a lack of charge was named the evaporator.
    if not case.model.sees_pressures:
        whole = [n for n in noticed if n.component == "machine"]
        if whole:
            return [_equipment(case, n, diagnosis) for n in whole]
        parts = []
    if not parts:
        return [_uncertain(case, noticed, diagnosis)] if noticed else []
    told = []
    since = min([n.began for n in noticed] or [diagnosis.start])
    for part in parts:
        own = [n for n in noticed if n.component == part]
        if own:
            told += [_equipment(case, n, diagnosis) for n in own]
        else:
            told.append(_unnoticed(case, part, since, diagnosis))
    beside = sorted({n.component for n in noticed} - {*parts, "machine"})
    if beside:
        told = [replace(f, evidence={**f.evidence, "explains": beside}) for f in told]
    best: dict[str, Finding] = {}
    for finding in told:
        other = best.get(finding.key)
        if other is None or _weight(finding) > _weight(other):
            best[finding.key] = finding
    return [best[key] for key in sorted(best)]


def _weight(finding: Finding) -> tuple[float, float]:
    return (finding.cost_eur_day or 0.0, finding.size)


def _holding(sensors: Sequence[Finding], held: Sequence[Finding]) -> list[Finding]:
    """Return findings of instruments that name what they hold back."""
    keys = [finding.key for finding in held]
    if not keys and all("held_back" in f.evidence for f in sensors):
        return list(sensors)
    words = f" Held back because of it: {', '.join(keys)}." if keys else ""
    return [
        replace(
            finding,
            evidence={
                **finding.evidence,
                "held_back": [*finding.evidence.get("held_back", ()), *keys],
            },
            sentence=finding.sentence + words,
        )
        for finding in sensors
    ]


# --- what the trend notices -----------------------------------------------------


def _noticed(case: _Case, stale: timedelta = _STALE) -> list[_Notice]:
    """Return the trends of equipment that are over their limit now."""
    found = []
    for component, indicator in sorted(case.trend.series):
        if indicator not in _LEAST:
            continue
        series = _fresh(case.trend.of(component, indicator), case.now, stale)
        if series is None or not series.beyond[-1]:
            continue
        cleaned = last_cleaning(case.log, case.model.unit, component, case.now)
        series = series.between(after=cleaned)
        if not len(series):
            continue
        first = _began(series)
        # Days before it began would make it look smaller.
        last = series[first:].between(after=series.end(-1) - _RECENTLY)
        value, low, high = (
            float(np.median(ends)) for ends in (last.value, last.low, last.high)
        )
        worse = value - 1.0 if indicator == RESISTANCE else 1.0 - value
        if len(last) < 2 or worse <= _LEAST[indicator]:
            continue
        scatter = _scatter(case.model, component, indicator)
        found.append(
            _Notice(
                component=component,
                indicator=indicator,
                series=series,
                began=series.begin(first),
                stepped=series.begin(max(_stepped(series, scatter), first)),
                value=value,
                low=low,
                high=high,
                days=len(last),
            )
        )
    return found


def _fresh(series: Series, now: datetime, stale: timedelta) -> Series | None:
    """Return the days that were judged by now, None if the last is too old."""
    known = series.between(until=now).judged()
    return known if len(known) and now - known.end(-1) <= stale else None


def _scatter(model: Model, component: str, indicator: str) -> float:
    return model.tuning.get(indicator_key(component, indicator), {}).get(
        "scatter", 0.02
    )


def _began(series: Series) -> int:
    """Return the day on which the present run of the CUSUM left chance behind."""
    calm = np.flatnonzero(series.statistic <= _CHANCE * series.limit)
    return min(int(calm[-1]) + 1, len(series) - 1) if len(calm) else 0


def _stepped(series: Series, scatter: float) -> int:
    """Return the day at which the last days' value jumped, the first where none did.

    Evidence may have gathered for weeks when the machine changes at once. Days before
    such a step, and those after it, have no cause in common.
    """
    value = series.value[-_RECENT - 1 :]
    found, best = 0, _STEP
    for first in range(1, len(value)):
        before, after = value[:first], value[first:]
        chance = scatter * np.sqrt(1.0 / len(before) + 1.0 / len(after))
        size = float(abs(after.mean() - before.mean()))
        if size > _STEP_LEAST and size / chance > best:
            found, best = len(series) - len(value) + first, size / chance
    return found


@dataclass(frozen=True, slots=True)
class _Run:
    """How far the energy balance has left its place, and since when.

    ``statistic`` adds daily deviations up as a CUSUM does; ``lies`` is a shift
    that no machine makes and no instrument drifts, ``unbalanced`` are the days,
    by their ends, that had one.
    """

    shift: float
    half: float
    statistic: float
    began: datetime
    seen: datetime
    lies: bool
    unbalanced: pd.DatetimeIndex

    @property
    def noticed(self) -> bool:
        """Whether it is worth asking what did it."""
        return self.lies or self.statistic > NOTICED


@dataclass(frozen=True, slots=True)
class _Apart:
    """How far each side's probes were from each other when the machine last stood.

    ``noticed`` is whether a pair was surely apart at the last two rests, ``began``
    the first of these.
    """

    rests: Mapping[str, tuple[datetime, float, float]]
    noticed: bool
    began: datetime

    def rests_since(self, began: datetime) -> dict[str, tuple[float, float]]:
        """Return what rests since some time say, as :func:`diagnose` takes it."""
        return {
            side: (away, sigma)
            for side, (time, away, sigma) in self.rests.items()
            if time > began
        }


def _apart(case: _Case) -> _Apart:
    """Return what the machine's last rests say of its probes."""
    rests: dict[str, tuple[datetime, float, float]] = {}
    over: list[datetime] = []
    for side in SIDES:
        last = case.trend.of(side, APART).between(after=case.now - _RESTED)[-2:]
        if not len(last):
            continue
        sigma = float(last.high[-1] - last.low[-1]) / (2.0 * 1.96)
        rests[side] = (last.end(-1), float(last.value[-1]), sigma)
        if len(last) == 2 and last.beyond.all():
            over.append(last.begin(0))
    return _Apart(rests, bool(over), min(over, default=case.now))


def _sum_since(z: NDArray[np.float64]) -> tuple[float, int]:
    """Return what a one-sided CUSUM has come to, and where its run began.

    Two days within what it forgives end a run: an instrument that was mended does
    not stay accused for as long as it lied.
    """
    total, first = 0.0, 0
    for k, step in enumerate(z):
        total = max(0.0, total + float(step) - SLACK)
        if k and max(z[k - 1], step) < SLACK:
            total = 0.0
        if total == 0.0:
            first = k + 1
    return total, first


def _balance_run(case: _Case) -> _Run:
    """Add up what the energy balance has shown of late."""
    nothing = _Run(0.0, 0.0, 0.0, case.now, case.now, False, _NEVER)
    lately = case.trend.of(*BALANCE).between(after=case.now - _LOOK_BACK)
    series = _fresh(lately, case.now, _STALE)
    if series is None:
        return nothing
    scatter = _scatter(case.model, *BALANCE)
    away = series.value - 1.0
    # A day that is less certain says less, as its limit does.
    wider = series.limit * scatter / balance_limit(case.model, 0.0)
    z = np.clip(away / (scatter * wider), -WINSOR, WINSOR)
    high, first_high = _sum_since(z)
    low, first_low = _sum_since(-z)
    first = first_high if high >= low else first_low
    over = series.beyond
    recent = away[first:][-_RECENT:] if first < len(away) else away[-1:]
    return _Run(
        shift=float(np.median(recent)),
        half=float(series.high[-1] - series.value[-1]),
        statistic=max(high, low),
        began=series.begin(min(first, len(series) - 1)),
        seen=series.end(-1),
        lies=len(over) >= 2 and bool(over[-1]) and int(over[-3:].sum()) >= 2,
        unbalanced=series[over].ends,
    )


# --- what is said ----------------------------------------------------------------


def _equipment(
    case: _Case, notice: _Notice, diagnosis: Diagnosis | None = None
) -> Finding:
    """Return the finding of a part that lost, with its price and its forecast."""
    model, series = case.model, notice.series
    component, indicator = notice.component, notice.indicator
    value, low, high = notice.value, notice.low, notice.high
    energy = extra_energy(component, indicator, value, model, case.windows)
    cost = _priced(energy, case.prices.electricity_eur_j)
    fouling = indicator == "conductance_ratio"
    sentence = (
        f"{model.unit}: {component} at {value:.0%} of its {_WHAT[indicator]} as"
        f" commissioned (95 %: {low:.0%} to {high:.0%}), since"
        f" {notice.began:%Y-%m-%d}."
    )
    wider = _wider(case, notice) if fouling else None
    if wider is not None:
        sentence += f" Its approach is {wider:.1f} K wider than it should be."
    if component == "machine" and diagnosis is not None:
        sentence += f" The readings leave open which part: {_listed(diagnosis)}."
    if cost is not None:
        sentence += f" It costs {cost:.2f} EUR a day."
    evidence: dict[str, Any] = {
        "indicator": indicator,
        "statistic": float(series.statistic[-1]),
        "limit": float(series.limit[-1]),
        "days": notice.days,
        "windows": int(series.samples[-notice.days :].sum()),
        "points": sorted(case.device.points),
        "reference": case.version,
    }
    if wider is not None:
        evidence[EXCESS] = wider
    if diagnosis is not None:
        evidence["diagnosis"] = diagnosis.to_dict()
    return Finding(
        unit=model.unit,
        kind=FindingKind.FOULING if fouling else FindingKind.COP_DEGRADATION,
        component=component,
        since=notice.began,
        seen=series.end(-1),
        size=1.0 - value,
        low=1.0 - high,
        high=1.0 - low,
        sentence=sentence,
        advice=_ADVICE[component],
        cost_eur_day=cost,
        energy_j_day=energy,
        emission_kg_day=_priced(energy, case.prices.electricity_kg_j),
        evidence=evidence,
    )


def _wider(case: _Case, notice: _Notice) -> float | None:
    """Return the median excess of an exchanger's approach since it began. [K]."""
    since = case.trend.of(notice.component, EXCESS).between(after=notice.began)
    values = since.value[-_RECENT:]
    return float(np.median(values)) if len(values) else None


def _strainers(
    case: _Case, clogged: Sequence[_Notice], noticed: Sequence[_Notice]
) -> list[Finding]:
    """Return the findings of sides that resist their flow, if not by dirt on plates.

    Dirt that costs conductance narrows its channels as well, by less.
    """
    beside = {"source": "evaporator", "sink": "condenser"}
    found = []
    for notice in clogged:
        side = notice.component.removesuffix("_strainer")
        part = beside.get(side, "exchanger")
        lost = max((1.0 - n.value for n in noticed if n.component == part), default=0.0)
        rise = notice.value - 1.0
        if not notice.sure or rise < lost:
            continue
        power = f"{side}_pump_power_w"
        energy = None
        if power in case.windows:
            days = max(len(day_ends(case.windows.index).unique()), 1)
            spent = float((case.windows[power] * case.windows["window_s"]).sum()) / days
            energy = spent * (1.0 - 1.0 / notice.value)
        cost = _priced(energy, case.prices.electricity_eur_j)
        bound = (
            "at least"
            if not np.isfinite(notice.high)
            else f"95 %: {notice.low - 1.0:.0%} to {notice.high - 1.0:.0%};"
        )
        found.append(
            Finding(
                unit=case.model.unit,
                kind=FindingKind.FOULING,
                component=notice.component,
                since=notice.began,
                seen=notice.series.end(-1),
                size=rise,
                low=notice.low - 1.0,
                high=notice.high - 1.0 if np.isfinite(notice.high) else float("nan"),
                sentence=f"{case.model.unit}: the {side} side resists its flow by"
                f" {rise:.0%} more than when it was new ({bound} at equal flow),"
                f" since {notice.began:%Y-%m-%d}."
                + ("" if cost is None else f" It costs {cost:.2f} EUR a day to pump."),
                advice=f"Clean the {side} side's strainer; look for a valve that is"
                " not fully open.",
                cost_eur_day=cost,
                energy_j_day=energy,
                emission_kg_day=_priced(energy, case.prices.electricity_kg_j),
                evidence={
                    "indicator": notice.indicator,
                    "statistic": float(notice.series.statistic[-1]),
                    "limit": float(notice.series.limit[-1]),
                    "days": notice.days,
                    "points": [
                        name
                        for name in (
                            f"{side}_flow_m3_s", f"{side}_pressure_drop_pa", power
                        )
                        if name in case.device.points
                    ],
                    "reference": case.version,
                },
            )
        )  # fmt: skip
    return found


def _unnoticed(
    case: _Case, part: str, since: datetime, diagnosis: Diagnosis
) -> Finding:
    """Return the finding of a part whose own trend is silent and that explains all.

    Its size is that of the likeliest explanation that accuses it.
    """
    told = next(
        e for e in diagnosis.explanations if any(c.name == part for c in e.causes)
    )
    # Whichever of a compressor's two efficiencies lost more.
    moved = min(
        (name for name in _MOVES[part] if name in told.sizes),
        key=lambda name: told.sizes[name][0],
    )
    value, low, high = told.sizes[moved]
    indicator = _INDICATORS.get(moved, "")
    shown = "condenser" if part == GAS.name else part
    known = "conductance_ratio" if part == GAS.name else indicator
    energy = extra_energy(shown, known, value, case.model, case.windows)
    cost = _priced(energy, case.prices.electricity_eur_j)
    size, *ends = (
        (x - 1.0 if part == "expansion" else 1.0 - x) for x in (value, low, high)
    )
    what = {
        GAS.name: f"gas that does not condense acts like a condenser at {value:.0%}",
        "expansion": f"the expansion valve keeps {value:.0%} of the superheat",
    }.get(part, f"{part} at {value:.0%} of its {_WHAT.get(indicator, 'state')}")
    return Finding(
        unit=case.model.unit,
        kind=FindingKind.FOULING
        if indicator == "conductance_ratio"
        else FindingKind.COP_DEGRADATION,
        component=part,
        since=since,
        seen=diagnosis.stop,
        size=size,
        low=min(ends),
        high=max(ends),
        sentence=f"{case.model.unit}: {what} as commissioned (95 %: {low:.0%} to"
        f" {high:.0%}); it explains what its neighbours show since {since:%Y-%m-%d}."
        + ("" if cost is None else f" It costs {cost:.2f} EUR a day."),
        advice=_ADVICE[part],
        cost_eur_day=cost,
        energy_j_day=energy,
        emission_kg_day=_priced(energy, case.prices.electricity_kg_j),
        evidence={
            "indicator": indicator,
            "points": sorted(case.device.points),
            "diagnosis": diagnosis.to_dict(),
            "reference": case.version,
        },
    )


def _uncertain(
    case: _Case, noticed: Sequence[_Notice], diagnosis: Diagnosis
) -> Finding:
    """Return a finding that names what it may be, and the test that decides."""
    names = diagnosis.names
    moved = min(noticed, key=lambda n: n.value)
    listed = _listed(diagnosis)
    return Finding(
        unit=case.model.unit,
        kind=FindingKind.UNCERTAIN,
        component="cause",
        since=min(n.began for n in noticed),
        seen=diagnosis.stop,
        size=1.0 - moved.value,
        low=1.0 - moved.high,
        high=1.0 - moved.low,
        sentence=f"{case.model.unit}: since"
        f" {min(n.began for n in noticed):%Y-%m-%d} its"
        f" {moved.component}'s {_WHAT[moved.indicator]} reads {moved.value:.0%}; the"
        f" readings cannot tell whether it is {listed}.",
        advice=decisive(names),
        evidence={
            "indicator": moved.indicator,
            "points": sorted(case.device.points),
            "diagnosis": diagnosis.to_dict(),
            "reference": case.version,
        },
    )


def _listed(diagnosis: Diagnosis) -> str:
    """Return the likeliest causes in words, each with its probability."""
    return " or ".join(
        " with ".join(cause.name for cause in told.causes)
        + f" ({told.probability:.0%})"
        for told in diagnosis.explanations[:4]
        if told.causes and told.probability > 0.01
    )


def _priced(energy: float | None, price: float | None) -> float | None:
    return None if energy is None or price is None else energy * price


def extra_energy(
    component: str, indicator: str, value: float, model: Model, windows: pd.DataFrame
) -> float | None:
    """Return the electricity that a loss costs a day at equal delivered heat. [J].

    Parameters
    ----------
    component, indicator : str
        What lost.
    value : float
        What is left of it, over the reference. [1]
    model : Model
        The unit's reference.
    windows : DataFrame
        Of the days that are priced.

    Returns
    -------
    float or None
        None where physics does not price it, or nothing ran steadily. [J]
    """
    name = PARAMETER_OF.get((component, indicator))
    pump = model.physics
    if name is None or not isinstance(pump, HeatPump) or name not in DEGRADATIONS:
        return None
    steady = windows[windows["steady"].to_numpy(dtype=bool)]
    if not len(steady):
        return None
    asked = conditions(steady, model)
    clean = pump.predict(asked, given=model.given)
    heat = "sink_heat_w"
    if "sink_heat_w" in steady and steady[heat].notna().mean() > 0.5:
        asked[heat] = steady[heat]
    else:
        asked[heat] = clean[heat]
    now = degraded(pump, {name: value}).predict(asked, given=heat)
    then = pump.predict(asked, given=heat)
    extra = (now["compressor_power_w"] - then["compressor_power_w"]).dropna()
    if not len(extra):
        return None
    days = max(len(day_ends(windows.index).unique()), 1)
    runs = windows["compressor_running"].fillna(0.0) * windows["window_s"]
    return float(extra.mean()) * float(runs.sum()) / days


def _stuck(case: _Case) -> list[Finding]:
    """Return a finding for each probe that did not move while the device ran."""
    found = []
    for name in stuck(case.windows, case.device):
        values = case.windows[name].dropna()
        same = values[values == values.iloc[-1]]
        changed = values[values != values.iloc[-1]]
        since = same.index[0] if not len(changed) else changed.index[-1]
        unit = case.model.unit
        found.append(
            Finding(
                unit=unit,
                kind=FindingKind.SENSOR,
                component=name,
                since=since.to_pydatetime(),
                seen=case.windows.index[-1].to_pydatetime(),
                size=float("nan"),
                low=float("nan"),
                high=float("nan"),
                sentence=f"{unit}: {name} has read {values.iloc[-1]:.6g} without"
                f" moving since {since:%Y-%m-%d %H:%M}, though the unit ran.",
                advice="Check the probe, its cable and the gateway.",
                evidence={
                    "value": float(values.iloc[-1]),
                    "reference": case.version,
                },
            )
        )
    return found


def _lying(case: _Case, run: _Run, diagnosis: Diagnosis | None) -> Finding:
    """Return the finding of an instrument, by its name where only it can be meant."""
    suspects = _suspects(diagnosis)
    best = next(iter(suspects), "")
    since = run.began if run.noticed or diagnosis is None else diagnosis.start
    # A day in which a lie began holds honest readings too.
    long = case.now - since >= _LONG_ENOUGH
    named = bool(best) and suspects[best][0] >= SURE_OF_NAME and long
    # A name that changes from day to day would be a new case every day.
    component = best if named else "energy_balance"
    names = " or ".join(
        name + ("" if size is None else f" (by {_off(name, size)})")
        for name, (_, size) in suspects.items()
    )
    half = max(run.half, 0.0)
    said = (
        f"the energy balance has moved by {run.shift:+.1%}"
        if run.noticed
        else "the readings have come to contradict each other"
    )
    apart = [
        f" At rest on {time:%Y-%m-%d} the {side}'s inlet read {away:+.2f} K"
        f" ({away - 1.96 * sigma:+.2f} to {away + 1.96 * sigma:+.2f}) above its outlet,"
        " less what it usually does."
        for side, (time, away, sigma) in _apart(case).rests.items()
        if time > since
    ]
    return Finding(
        unit=case.model.unit,
        kind=FindingKind.SENSOR,
        component=component,
        since=since,
        seen=run.seen,
        size=abs(run.shift),
        low=max(0.0, abs(run.shift) - half),
        high=abs(run.shift) + half,
        sentence=f"{case.model.unit}: {said} since {since:%Y-%m-%d}; no fault of"
        " the machine does that, an instrument does:"
        f" {names or 'which, its points do not tell'}." + "".join(apart),
        advice=(decisive(diagnosis.names, Blame.SENSOR) if diagnosis else "")
        or "Compare each liquid probe with its neighbour at standstill, where both"
        " should agree, and the flow meters with their pumps' curves.",
        evidence={
            "closure_shift": run.shift,
            "statistic": run.statistic,
            "suspects": [[name, told] for name, (told, _) in suspects.items()],
            "reference": case.version,
        }
        | ({} if diagnosis is None else {"diagnosis": diagnosis.to_dict()}),
    )


def _suspects(
    diagnosis: Diagnosis | None,
) -> Mapping[str, tuple[float, tuple[float, float, float] | None]]:
    """Return instruments by how likely each is meant, and how far each is off."""
    if diagnosis is None:
        return {}
    lying = diagnosis.probability(Blame.SENSOR)
    found: dict[str, tuple[float, tuple[float, float, float] | None]] = {}
    for cause in diagnosis.names:
        if cause.blame is Blame.SENSOR:
            told: Explanation = next(
                e for e in diagnosis.explanations if cause in e.causes
            )
            share = diagnosis.probability(Blame.SENSOR, cause.name) / lying
            found[cause.name] = (share, told.sizes.get(cause.name))
    return dict(sorted(found.items(), key=lambda item: (-item[1][0], item[0])))


def _off(name: str, size: tuple[float, float, float]) -> str:
    value, low, high = size
    if name.endswith("_degc"):
        return f"{value:+.2f} K, {low:+.2f} to {high:+.2f}"
    return f"{value:+.1%}, {low:+.1%} to {high:+.1%}"
