"""What the twin finds, how soon, under which name, and what it says of the healthy.

Each case is a plant of its own (weather, racks, consumer, the errors of its
instruments, the month in which it begins): three weeks of reference, some
healthy days, a fault, the weeks that the case needs. It goes through files, the
configuration and :class:`twin.service.assess.Assessor` as ``hptwin replay``
does, weekly recalibration included, and through the alarms' delays as beside a
plant. The simulator's physics is not the twin's.

An alarm is what asks for a person: raised, come back or worse, and not explained
by another case. Equipment alarms are of machine and exchanger; a fouling and the loss
of COP that it causes are one. ``delay`` is in days from the fault to the first
alarm on the planted component; days are the finest it can tell: equipment is judged
daily. Instruments that fail outright are another bench's, for they are named within
minutes. What was ever said decides the name, though it were taken back later:

* ``alone``: the planted cause, and nothing beside it, not even a question;
* ``wrong``: some other part or probe was accused by its name;
* ``honest``: no wrong name, and either the right one or an open question: causes
  that the readings cannot tell apart with the test that would, "the machine" where
  no pressure tells its parts, "the energy balance" where no point tells its probe.

A creeping loss also says what it had come to when it was found: of conductance, and
of COP against the same plant simulated without it, over the week before. What
creeps is watched until its first alarm, and what it said by then is judged.

Interval: 95 %, Clopper and Pearson for shares, Poisson for rates.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import beta, chi2

from calibration.registry import Registry
from twin.finding import FindingKind
from twin.service import alarms
from twin.service.assess import Assessor
from twin.service.bench.seeds import collect
from twin.service.config import load
from twin.service.replay import days, from_files, period
from twin.simulate import (
    Fault,
    FaultKind,
    Scenario,
    Simulation,
    Unit,
    simulate,
    write,
)

REFERENCE_DAYS, AFTER_DAYS = 21, 28
MINUTES = 10
EQUIPMENT = (FindingKind.FOULING, FindingKind.COP_DEGRADATION)
PROBES = (
    "sink_outlet_temp_degc",
    "source_outlet_temp_degc",
    "sink_inlet_temp_degc",
    "source_inlet_temp_degc",
)
FLOWS = ("sink_flow_m3_s", "source_flow_m3_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is planted, and what is asked of the answer.

    ``within`` is the delay that counts as found in time [d]; ``share`` the least
    share so found. ``points`` are the instruments that take turns over the seeds,
    ``days`` how long the fault is watched, ``most_cop`` the loss of COP before which
    it is to be found. [1]
    """

    kind: FaultKind
    size: float
    within: float = AFTER_DAYS
    share: float = 0.90
    shape: str = "step"
    unit: str = "hp1"
    points: tuple[str, ...] = ()
    days: int = AFTER_DAYS
    most_cop: float = math.inf

    @property
    def creeps(self) -> bool:
        """Whether it grows, so that only the time until it is found is of interest."""
        return self.shape == "linear" or self.kind is FaultKind.SENSOR_DRIFT

    @property
    def sensor(self) -> bool:
        """Whether an instrument lies."""
        return bool(self.points)

    def fault(self, seed: int, start: datetime) -> Fault:
        """Return the fault of one seed."""
        point = self.points[seed % len(self.points)] if self.points else ""
        size = self.size
        if self.kind in (FaultKind.SENSOR_OFFSET, FaultKind.SENSOR_GAIN):
            size *= 1.0 if seed // 2 % 2 else -1.0
        return Fault(
            unit=self.unit, kind=self.kind, start=start, size=size, shape=self.shape,
            component=point,
        )  # fmt: skip


CASES: Mapping[str, Case] = {
    "condenser -10 %": Case(
        kind=FaultKind.CONDENSER_FOULING, size=0.10, within=14, share=0.95
    ),
    "condenser -20 %": Case(
        kind=FaultKind.CONDENSER_FOULING, size=0.20, within=5, share=0.95
    ),
    "evaporator -10 %": Case(
        kind=FaultKind.EVAPORATOR_FOULING, size=0.10, within=21, share=0.95
    ),
    "evaporator -20 %": Case(
        kind=FaultKind.EVAPORATOR_FOULING, size=0.20, within=5, share=0.95
    ),
    "isentropic -5 %": Case(kind=FaultKind.ISENTROPIC_LOSS, size=0.05),
    "charge, subcooling 4 to 0.5 K": Case(kind=FaultKind.UNDERCHARGE, size=0.875),
    "cdu -15 %": Case(kind=FaultKind.EXCHANGER_FOULING, size=0.15, unit="cdu1"),
    "strainer +30 %": Case(kind=FaultKind.STRAINER, size=0.30, unit="cdu1"),
    "gas, 20 kPa": Case(kind=FaultKind.NON_CONDENSABLES, size=2e4),
    "condenser 5 % a year": Case(
        kind=FaultKind.CONDENSER_FOULING,
        size=0.10,
        within=728,
        share=0.95,
        shape="linear",
        days=728,
        most_cop=0.03,
    ),
    "probe off by 0.3 K": Case(
        kind=FaultKind.SENSOR_OFFSET, size=0.3, share=0.95, points=PROBES
    ),
    "flow meter off by 3 %": Case(
        kind=FaultKind.SENSOR_GAIN, size=0.03, share=0.95, points=FLOWS
    ),
    "probe drifts 0.1 K a month": Case(
        kind=FaultKind.SENSOR_DRIFT,
        size=0.1,
        within=182,
        share=0.95,
        points=PROBES,
        days=182,
    ),
}
HEALTHY = "healthy"
_CONDUCTANCE = {
    FaultKind.CONDENSER_FOULING: "condenser_conductance_ratio",
    FaultKind.EVAPORATOR_FOULING: "evaporator_conductance_ratio",
    FaultKind.EXCHANGER_FOULING: "exchanger_conductance_ratio",
}


@dataclass(frozen=True, slots=True)
class How:
    """What is common to all cases of a run."""

    sensors: str = "good"
    instruments: str = "full"
    healthy_days: int = 365


def plant(name: str, seed: int, how: How) -> tuple[Scenario, datetime | None]:
    """Return a seed's plant, and when its fault begins."""
    random = np.random.default_rng([seed, 76])
    start = datetime(2025, 9, 1, tzinfo=UTC) + timedelta(days=int(random.integers(150)))
    begins = start + timedelta(
        days=REFERENCE_DAYS + int(random.integers(2, 7)), hours=int(random.integers(24))
    )
    length = timedelta(days=REFERENCE_DAYS + how.healthy_days)
    faults: tuple[Fault, ...] = ()
    if name != HEALTHY:
        stop = begins + timedelta(days=CASES[name].days)
        length = timedelta(days=math.ceil((stop - start) / timedelta(days=1)))
        faults = (CASES[name].fault(seed, begins),)
    scenario = Scenario(
        name="detection", start=start, length=length,
        step=timedelta(minutes=MINUTES), seed=seed,
        machines=(Unit(id="hp1", instruments=how.instruments),),
        it_heat_w=0.75e6, demand_heat_w=0.65e6, faults=faults, sensors=how.sensors,
        reference_length=timedelta(days=REFERENCE_DAYS),
    )  # fmt: skip
    if faults and faults[0].kind in _CONDUCTANCE:
        scenario = as_large(scenario)
    return scenario, (begins if faults else None)


def as_large(scenario: Scenario) -> Scenario:
    """Return the scenario with dirt that really costs what it is called.

    The simulator counts dirt against the rated conductance; at part load, where
    the films are thicker, the same dirt is a smaller share. Resistances add.
    """
    (fault,) = scenario.faults
    # What creeps is as large at once, in a month of the same plant.
    at_once = replace(fault, shape="step")
    month = min(fault.start + timedelta(days=AFTER_DAYS), scenario.stop)
    short = replace(scenario, length=month - scenario.start, faults=(at_once,))
    left = ratio_left(at_once, simulate(short))
    wanted = fault.size / (1.0 - fault.size)
    dirt = wanted * wanted / (1.0 / left - 1.0)
    return replace(scenario, faults=(replace(fault, size=dirt / (1.0 + dirt)),))


def ratio_left(fault: Fault, made: Simulation) -> float:
    """Return the median share of its conductance that a fouled exchanger has left."""
    truth = made.truth[fault.unit][_CONDUCTANCE[fault.kind]]
    return float(truth[truth.index > fault.start].median())


def lost_when(found: datetime, made: Simulation) -> tuple[float, float]:
    """Return the conductance and the COP that a fault had cost when it was found.

    Over the week before, the COP against the same plant without the fault. [1, 1]
    """
    scenario = made.scenario
    (fault,) = scenario.faults
    clean = simulate(replace(scenario, faults=()))

    def week(of: Simulation) -> pd.DataFrame:
        truth = of.truth[fault.unit]
        return truth[(truth.index > found - timedelta(days=7)) & (truth.index <= found)]

    left = float(week(made)[_CONDUCTANCE[fault.kind]].median())
    with_it, without = (
        float(truth["sink_heat_w"].sum() / truth["compressor_power_w"].sum())
        for truth in (week(made), week(clean))
    )
    return 1.0 - left, 1.0 - with_it / without


@dataclass(frozen=True, slots=True)
class Raised:
    """One alarm: when, and of what."""

    time: datetime
    unit: str
    kind: FindingKind
    component: str


def watched(
    made: Simulation, enough: Callable[[Raised], bool] = lambda _: False
) -> tuple[list[Raised], list[str], list[str]]:
    """Return every alarm of a season, what stands at its end, and refusals.

    It ends early with the day of an alarm that is ``enough``.
    """
    raised: list[Raised] = []
    with tempfile.TemporaryDirectory(prefix="detection-") as name:
        folder = Path(name)
        files = write(made, folder)
        config = load(folder / "plant.toml", {})
        archive, _ = from_files(
            [f for f in files if f.suffix == ".parquet" and f.stem != "truth"],
            config.sources,
        )
        span = period(config.plant, archive)
        if span is None:
            raise ValueError(f"{made.scenario.name}: simulated no telemetry")
        assessor = Assessor(config.plant, Registry(folder / "models"))
        board = alarms.Board()
        for day, frames in days(config.plant, archive, *span):
            assessor.day(day, frames)
            board, changes = alarms.step(
                board, assessor.findings, day, judged=assessor.judged
            )
            for change in changes:
                if not change.asks_for_a_person:
                    continue
                told = board.cases[change.key].finding
                # A look of the day named it; the day's end only hears of it here.
                named = told.evidence.get("named")
                when = day if named is None else datetime.fromisoformat(named)
                raised.append(Raised(when, told.unit, told.kind, told.component))
            if any(map(enough, raised)):
                break
        refused = [f"{u}: {why}" for u, why in sorted(assessor.refusals().items())]
    standing = sorted(
        key
        for key, case in board.cases.items()
        if case.raised is not None and case.open and not case.suppressed_by
    )
    return raised, standing, refused


def run(name: str, seed: int, how: How) -> dict[str, Any]:
    """Plant one case and say what became of it."""
    scenario, begins = plant(name, seed, how)
    made = simulate(scenario)
    raised, standing, refused = watched(made, partial(_is_enough, name, scenario))
    judged_days = scenario.length / timedelta(days=1) - REFERENCE_DAYS
    equipment = [r for r in raised if r.kind in EQUIPMENT]
    open_ = [r for r in raised if r.kind is FindingKind.UNCERTAIN]
    before = [r for r in equipment + open_ if begins is None or r.time <= begins]
    row: dict[str, Any] = {
        "refused": refused,
        "healthy_days": judged_days
        if begins is None
        else (begins - scenario.start) / timedelta(days=1) - REFERENCE_DAYS,
        "false": sorted({f"{r.unit}/{r.component} {r.time:%Y-%m-%d}" for r in before}),
        "false_sensor": sorted(
            {
                f"{r.unit}/{r.component} {r.time:%Y-%m-%d}"
                for r in raised
                if r.kind is FindingKind.SENSOR and (begins is None or r.time <= begins)
            }
        ),
    }
    if begins is None:
        # Nothing is planted, so nothing is missed: these are the ledger's own.
        row["missed"] = sorted(
            {r.component for r in raised if r.kind is FindingKind.MISSED_RECOVERY}
        )
        return row
    fault = scenario.faults[0]
    after = [r for r in raised if r.time > begins]
    if CASES[name].sensor:
        mine = [r for r in after if r.kind is FindingKind.SENSOR]
        mine = [r for r in mine if r.unit == fault.unit]
        right = {fault.component, _other(fault.component)}
        exact = [r for r in mine if right & set(r.component.split(","))]
    else:
        component = fault.finding[1]
        mine = exact = [
            r
            for r in after
            if r.kind in EQUIPMENT and (r.unit, r.component) == (fault.unit, component)
        ]
    told = [r for r in after if r.kind in (*EQUIPMENT, *_OTHER_KINDS)]
    others = [r for r in told if r not in mine]
    open_ = [r for r in told if r.component in _OPEN and r not in exact]
    wrong = [r for r in told if r not in exact and r not in open_]
    first = min((r.time for r in mine), default=None)
    row["delay"] = None if first is None else (first - begins) / timedelta(days=1)
    if fault.kind in _CONDUCTANCE:
        row["lost"] = 1.0 - ratio_left(fault, made)
        if math.isfinite(CASES[name].most_cop) and first is not None:
            row["lost"], row["cop_lost"] = lost_when(first, made)
    row |= {
        "found": bool(mine),
        "exact": bool(exact),
        "alone": bool(exact) and not wrong and not open_,
        "wrong": bool(wrong),
        "honest": bool(exact or open_) and not wrong,
        "as_equipment": any(r.kind in EQUIPMENT for r in others),
        "others": sorted({f"{r.unit}/{r.kind.value}/{r.component}" for r in others}),
        "standing": standing,
    }
    return row


def _is_enough(name: str, scenario: Scenario, told: Raised) -> bool:
    """Tell whether an alarm ends a case: that of something that creeps."""
    if name == HEALTHY or not CASES[name].creeps:
        return False
    fault = scenario.faults[0]
    if told.unit != fault.unit or told.time <= fault.start:
        return False
    if CASES[name].sensor:
        return told.kind is FindingKind.SENSOR
    return told.kind in EQUIPMENT and told.component == fault.finding[1]


_OTHER_KINDS = (FindingKind.SENSOR, FindingKind.UNCERTAIN)
# What a finding is called that leaves open which part or probe it is.
_OPEN = ("cause", "machine", "energy_balance")


def _other(point: str) -> str:
    if "_inlet_" in point:
        return point.replace("_inlet_", "_outlet_")
    return point.replace("_outlet_", "_inlet_")


# --- the operating curve --------------------------------------------------------


def share(hits: int, of: int) -> tuple[float, float, float]:
    """Return a share with its 95 % interval after Clopper and Pearson. [1]."""
    if not of:
        return math.nan, 0.0, 1.0
    low = float(beta.ppf(0.025, hits, of - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, of - hits)) if hits < of else 1.0
    return hits / of, low, high


def rate(events: int, years: float) -> tuple[float, float, float]:
    """Return a rate with its exact 95 % Poisson interval. [1/a]."""
    if years <= 0.0:
        return math.nan, 0.0, math.inf
    low = float(chi2.ppf(0.025, 2 * events)) / 2.0 if events else 0.0
    high = float(chi2.ppf(0.975, 2 * events + 2)) / 2.0
    return events / years, low / years, high / years


def figures_of(name: str, rows: list[Any]) -> dict[str, Any]:
    """Return one line of the operating curve."""
    told: dict[str, Any] = {
        "seeds": len(rows),
        "refused": sum(bool(row["refused"]) for row in rows),
    }
    if name == HEALTHY:
        years = sum(row["healthy_days"] for row in rows) / 365.0
        told["unit_years"] = years
        told["false_per_year"] = rate(sum(len(row["false"]) for row in rows), years)
        told["false_sensor_per_year"] = rate(
            sum(len(row["false_sensor"]) for row in rows), years
        )
        told["missed_recovery"] = share(
            sum(bool(row.get("missed")) for row in rows), len(rows)
        )
        return told
    within = CASES[name].within
    delays = [row["delay"] if row["delay"] is not None else math.inf for row in rows]
    told["found"] = share(sum(row["found"] for row in rows), len(rows))
    most = CASES[name].most_cop
    in_time = [
        d <= within and row.get("cop_lost", 0.0) <= most
        for d, row in zip(delays, rows, strict=True)
    ]
    told["in_time"] = share(sum(in_time), len(rows))
    told["within_days"] = within
    for quantile in (0.5, 0.9):
        # of all, those never found included
        at = sorted(delays)[math.ceil(quantile * len(delays)) - 1]
        told[f"delay_{quantile:.0%}"] = at if math.isfinite(at) else None
    for what in ("alone", "wrong", "honest"):
        told[what] = share(sum(row[what] for row in rows), len(rows))
    exact = [row for row in rows if row["exact"]]
    told["right"] = share(sum(not row["wrong"] for row in exact), len(exact))
    if CASES[name].sensor:
        told["exact"] = share(len(exact), len(rows))
        told["as_equipment"] = share(sum(r["as_equipment"] for r in rows), len(rows))
    for what in ("lost", "cop_lost"):
        if lost := [row[what] for row in rows if what in row]:
            told[what] = [float(np.median(lost)), max(lost)]
    names = [other for row in rows for other in row["others"]]
    told["others"] = {other: names.count(other) for other in sorted(set(names))}
    return told


def promises_of(
    name: str, figures: Mapping[str, Any], instruments: str = "full"
) -> dict[str, bool]:
    """Return what a line of the curve is asked to show with some instruments."""
    if name == HEALTHY:
        return {"healthy: at most 0.3 a unit-year": figures["false_per_year"][0] <= 0.3}
    case = CASES[name]
    if instruments == "water":
        # Without a pressure many causes look alike; none is to be named wrongly.
        return {f"{name}: no wrong name in 95 %": figures["wrong"][0] <= 0.05}
    asked = {
        f"{name}: {case.share:.0%} within {case.within:g} d": figures["in_time"][0]
        >= case.share
    }
    if case.sensor:
        asked[f"{name}: at most 2 % as equipment"] = figures["as_equipment"][0] <= 0.02
    else:
        asked[f"{name}: the right part in 95 % of these"] = figures["right"][0] >= 0.95
    return asked


def _interval(values: tuple[float, float, float], scale: float = 100.0) -> str:
    value, low, high = (scale * v for v in values)
    return f"{value:.3g} ({low:.2g}-{high:.3g})"


def table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the operating curve as text."""
    lines = [
        f"{'case':<30} {'n':>3} {'in time %':>16} {'in':>5} {'found %':>16}"
        f" {'d50':>5} {'d90':>5} {'alone %':>16} {'wrong %':>16} {'honest %':>16}"
        "  beside it"
    ]
    for name, told in figures.items():
        if name == HEALTHY:
            lines.append(
                f"{name:<30} {told['seeds']:>3} false equipment alarms a unit-year:"
                f" {_interval(told['false_per_year'], 1.0)}, sensor alarms:"
                f" {_interval(told['false_sensor_per_year'], 1.0)},"
                f" plants with missed recovery: {_interval(told['missed_recovery'])} %,"
                f" over {told['unit_years']:.1f} unit-years"
            )
            continue
        quick, slow = (
            "-" if told[q] is None else f"{told[q]:.0f}"
            for q in ("delay_50%", "delay_90%")
        )
        others = ", ".join(f"{n} {count}" for n, count in told["others"].items())
        lines.append(
            f"{name:<30} {told['seeds']:>3} {_interval(told['in_time']):>16}"
            f" {told['within_days']:>4g}d {_interval(told['found']):>16}"
            f" {quick:>5} {slow:>5} {_interval(told['alone']):>16}"
            f" {_interval(told['wrong']):>16} {_interval(told['honest']):>16}"
            f"  {others}"
        )
    return "\n".join(lines) + "\n"


# --- the run --------------------------------------------------------------------


def curve(
    names: Sequence[str],
    numbers: Iterable[int],
    how: How,
    *,
    workers: int,
    resume: Path | None = None,
) -> tuple[dict[str, Any], dict[str, bool]]:
    """Compute the operating curve.

    Parameters
    ----------
    names : sequence of str
        Of :data:`CASES`, or :data:`HEALTHY`.
    numbers : iterable of int
        The seeds.
    how : How
        Instruments, their class, and the length of a healthy plant.
    workers : int
        Processes.
    resume : Path, optional
        A file of what was already run, which this one goes on with.

    Returns
    -------
    dict, dict
        Figures by case, and by promise whether it is kept.
    """
    kind = f"{how.sensors}, {how.instruments}"
    numbers = list(numbers)
    asked = []
    for name in names:
        label = f"{name}, {how.healthy_days} d" if name == HEALTHY else name
        asked += [
            (f"{label}, {kind}, seed {seed}", partial(run, name, seed, how))
            for seed in numbers
        ]
    rows = collect(asked, resume, workers)
    figures: dict[str, Any] = {}
    promises: dict[str, bool] = {}
    for place, name in enumerate(names):
        of = rows[place * len(numbers) : (place + 1) * len(numbers)]
        figures[name] = figures_of(name, of)
        promises |= promises_of(name, figures[name], how.instruments)
    return figures, promises
