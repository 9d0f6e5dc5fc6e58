"""How soon a lying probe is named, under which name, and what is said beside it.

``python -m tests.campaigns.instruments [--seed S] [--seeds N] [--json]
[--resume FILE] [--sampling MINUTES] [--sensors good|ordinary]
[--instruments full|pressures|water] [--probes-only] [--healthy-days N]``

One plant a seed: three weeks of reference, then six lies one after another,
each for fourteen hours from a random minute on, on a random one of the four
liquid probes: 90 % of the readings lost, the value stuck, degC as degF, the
pair swapped, the sign turned, 5 % of the readings far off. It goes through
files, the intake's checks, the configuration and
:class:`twin.service.assess.Assessor` as ``hptwin replay`` does, and through the
alarms. With ``--probes-only`` six days of habits stand in for the reference, and
nothing but the probes of machine and exchanger is watched, as the assessor does.
With ``--healthy-days N`` they are watched for N days in which none lies, so who
is doubted is doubted wrongly.

The delay is of event time, from the instant the fault begins to the look that
names the probe. A lie may be told late: of readings of which one in twenty is
far off the first comes when it comes, and a pair exchanged in a machine that
stands reads nothing wrong until it runs. So the delay from the first reading
that is wrong stands beside it, of those lies of which there was one. ``right``
says that the reason was the planted one too. An equipment alarm is any that asks
for a person, from the reference on until the end.

Interval: 95 %, Clopper and Pearson for shares, Poisson for rates.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration import probes
from calibration.registry import Registry
from twin.service import alarms
from twin.service.assess import DAY, Assessor
from twin.service.bench.detection import (
    EQUIPMENT,
    HEALTHY,
    PROBES,
    REFERENCE_DAYS,
    How,
    plant,
    rate,
    share,
)
from twin.service.config import load
from twin.service.replay import days, from_files, period
from twin.simulate import Fault, FaultKind, Scenario, simulate, write
from twin.simulate.boundary import stream

from . import seeds

if TYPE_CHECKING:
    from ingest.archive import Archive
    from twin.service.config import Config

LIES: Mapping[str, tuple[FaultKind, float]] = {
    "lost": (FaultKind.SENSOR_NAN, 0.9),
    "stuck": (FaultKind.SENSOR_STUCK, 1.0),
    "unit": (FaultKind.SENSOR_UNIT, 1.0),
    "swapped": (FaultKind.SENSOR_SWAP, 1.0),
    "sign": (FaultKind.SENSOR_SIGN, 1.0),
    "spikes": (FaultKind.SENSOR_SPIKES, 0.05),
}
HABIT_DAYS = 6
LASTS, APART = timedelta(hours=14), timedelta(days=2)
WITHIN = 30.0
"""Minutes within which a lie is to be named."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is common to all seeds of a run."""

    how: How
    minutes: int
    healthy_days: int
    alone: bool

    @property
    def before(self) -> timedelta:
        """How long nothing lies: a reference, or habits only."""
        return timedelta(days=HABIT_DAYS if self.alone else REFERENCE_DAYS)


def season(seed: int, options: Options) -> Scenario:
    """Return a seed's plant with its lies; those of a kind come in any order."""
    scenario, _ = plant(HEALTHY, seed, options.how)
    random = np.random.default_rng([seed, 41])
    faults: list[Fault] = []
    length = timedelta(days=options.healthy_days)
    if not options.healthy_days:
        for place, name in enumerate(random.permutation(list(LIES))):
            kind, size = LIES[str(name)]
            begins = (
                scenario.start
                + options.before
                + DAY
                + place * APART
                + timedelta(minutes=int(random.integers(24 * 60)))
            )
            faults.append(
                Fault(
                    unit="hp1",
                    kind=kind,
                    start=begins,
                    end=begins + LASTS,
                    size=size,
                    component=PROBES[int(random.integers(len(PROBES)))],
                )
            )
        length = options.before + 2 * DAY + len(LIES) * APART
        # A spike is as high as the healthy readings range.
        faults.sort(key=lambda fault: fault.kind is not FaultKind.SENSOR_SPIKES)
    return replace(
        scenario,
        step=timedelta(minutes=options.minutes),
        length=length,
        faults=tuple(faults),
    )


Doubted = Mapping[str, Sequence[probes.Lie]]


def alone(config: Config, archive: Archive) -> Doubted:
    """Watch the probes only, as the assessor does; by unit who was doubted."""
    known = period(config.plant, archive)
    assert known is not None
    devices = (*config.plant.machines, *config.plant.exchangers)
    memories = {device.id: probes.Memory() for device in devices}
    for day, frames in days(config.plant, archive, *known):
        for device in devices:
            raw, clean = frames.came[device.id], frames[device.id]
            memories[device.id] = probes.watch_and_learn(
                memories[device.id], raw, clean, device, day - DAY, day
            )
    return {unit: memory.lies for unit, memory in memories.items()}


def judged(
    config: Config, archive: Archive, folder: Path
) -> tuple[Doubted, list[str], list[str]]:
    """Judge everything; who was doubted, equipment alarms, units not assessable."""
    known = period(config.plant, archive)
    assert known is not None
    assessor = Assessor(config.plant, Registry(folder / "models"))
    board = alarms.Board()
    raised: set[str] = set()
    for day, frames in days(config.plant, archive, *known):
        assessor.day(day, frames)
        board, changes = alarms.step(
            board, assessor.findings, day, judged=assessor.judged
        )
        for change in changes:
            told = board.cases[change.key].finding
            if change.asks_for_a_person and told.kind in EQUIPMENT:
                raised.add(f"{told.unit}/{told.component} {day:%Y-%m-%d}")
    instruments: Any = assessor.results(day).summary["instruments"]
    lies = {
        unit: [probes.Lie.from_dict(lie) for lie in told]
        for unit, told in instruments["lying"].items()
    }
    return lies, sorted(raised), sorted(assessor.refusals())


def run(seed: int, options: Options) -> dict[str, Any]:
    """Let one plant's probes lie, or none of them, and say what became of it."""
    scenario = season(seed, options)
    made = simulate(scenario)
    with tempfile.TemporaryDirectory(prefix="instruments-") as name:
        folder = Path(name)
        files = write(made, folder)
        config = load(folder / "plant.toml", {})
        archive, _ = from_files(
            [f for f in files if f.suffix == ".parquet" and f.stem != "truth"],
            config.sources,
        )
        if options.alone:
            lies, equipment, refused = alone(config, archive), [], []
        else:
            lies, equipment, refused = judged(config, archive, folder)
    row: dict[str, Any] = {
        "refused": refused,
        "unit_days": 2 * (scenario.length / DAY),
        "equipment": equipment,
    }
    mine: set[tuple[str, datetime]] = set()
    for fault in scenario.faults:
        kind = next(name for name, (k, _) in LIES.items() if k is fault.kind)
        assert fault.end is not None
        there = [
            lie
            for lie in lies.get("hp1", ())
            if fault.component in lie.points and fault.start <= lie.named <= fault.end
        ]
        mine |= {("hp1", lie.named) for lie in there}
        row[kind] = _told(fault, there, made.frames["hp1"], scenario)
    row["false"] = [
        f"{unit}/{lie.component} {lie.reason.value} {lie.named:%Y-%m-%d %H:%M}"
        for unit, told in sorted(lies.items())
        for lie in told
        if (unit, lie.named) not in mine
    ]
    return row


def _told(
    fault: Fault, lies: list[probes.Lie], read: Any, scenario: Scenario
) -> dict[str, Any]:
    """Return when a lie was named after it began, and after it could be seen."""
    assert fault.end is not None
    during = (read.index > fault.start) & (read.index <= fault.end)
    if fault.kind is FaultKind.SENSOR_SPIKES:
        draws = stream(scenario, f"spikes {fault.unit} {fault.component}")
        during &= draws.random(len(read)) < fault.size
    elif fault.kind is FaultKind.SENSOR_SWAP:
        during &= (read["compressor_running"] > 0.5).to_numpy()
    row: dict[str, Any] = {"seen": bool(during.any()), "delay": None, "over": None}
    row |= {"from_first": None, "reason": None}
    if not lies:
        return row
    named, minute = lies[0].named, timedelta(minutes=1)
    row |= {"delay": (named - fault.start) / minute, "reason": lies[0].reason.value}
    if during.any():
        first = (read.index[during][0] - scenario.step).to_pydatetime()
        row["from_first"] = (named - first) / minute
    if lies[-1].until is not None:
        row["over"] = (lies[-1].until - fault.end) / minute
    return row


def figures_of(rows: list[Any], options: Options) -> dict[str, Any]:
    """Return what the seeds show together."""
    years = sum(row["unit_days"] for row in rows) / 365.0
    false = [name for row in rows for name in row["false"]]
    told: dict[str, Any] = {
        "seeds": len(rows),
        "refused": sum(bool(row["refused"]) for row in rows),
        "unit_years": years,
        "false_sensor_per_year": rate(len(false), years),
        "false": false,
        "with_equipment_alarm": share(
            sum(bool(row["equipment"]) for row in rows), len(rows)
        ),
        "equipment": sorted({name for row in rows for name in row["equipment"]}),
    }
    if options.healthy_days:
        return told
    for name in LIES:
        of = [row[name] for row in rows]
        delays = sorted(
            math.inf if one["delay"] is None else one["delay"] for one in of
        )
        first = [
            math.inf if one["from_first"] is None else one["from_first"]
            for one in of
            if one["seen"]
        ]
        told[name] = {
            "in_time": share(sum(d <= WITHIN for d in delays), len(of)),
            "seen": len(first),
            "from_first_in_time": share(sum(d <= WITHIN for d in first), len(first)),
            "right": share(
                sum(one["reason"] == name for one in of if one["seen"]), len(first)
            ),
            "median_min": delays[len(delays) // 2],
            "worst_min": delays[-1],
            "over_h": max(
                (o["over"] / 60.0 for o in of if o["over"] is not None), default=None
            ),
        }
    return told


def promises_of(figures: Mapping[str, Any], options: Options) -> dict[str, bool]:
    """Return what is asked of the figures."""
    if options.healthy_days:
        rate_of = figures["false_sensor_per_year"][0]
        return {"false sensor alarms below 0.1 a unit-year": rate_of < 0.1}
    asked = {}
    if not options.alone:
        asked["no equipment alarm"] = figures["with_equipment_alarm"][0] == 0.0
    return asked | {
        f"{name}: 95 % named within {WITHIN:g} min of the first wrong reading": (
            figures[name]["from_first_in_time"][0] >= 0.95
        )
        for name in LIES
    }


def table(figures: Mapping[str, Any]) -> str:
    """Return the figures as text."""

    def interval(values: tuple[float, float, float], scale: float = 100.0) -> str:
        value, low, high = (scale * v for v in values)
        return f"{value:.3g} ({low:.2g}-{high:.3g})"

    lines = [
        f"{figures['seeds']} seeds, {figures['unit_years']:.2f} unit-years,"
        f" {figures['refused']} without a reference",
        f"false sensor alarms a unit-year:"
        f" {interval(figures['false_sensor_per_year'], 1.0)} {figures['false']}",
        f"seeds with an equipment alarm:"
        f" {interval(figures['with_equipment_alarm'])} % {figures['equipment']}",
    ]
    if "lost" in figures:
        lines.append(
            f"{'lie':<8} {'named in 30 min %':>20} {'from the first':>18}"
            f" {'of':>3} {'right reason':>18} {'median':>7} {'worst':>7}"
            f" {'over after':>10}"
        )
    for name in LIES:
        if name not in figures:
            continue
        told = figures[name]
        over = "-" if told["over_h"] is None else f"{told['over_h']:.1f} h"
        lines.append(
            f"{name:<8} {interval(told['in_time']):>20}"
            f" {interval(told['from_first_in_time']):>18} {told['seen']:>3}"
            f" {interval(told['right']):>18} {told['median_min']:>7.0f}"
            f" {told['worst_min']:>7.0f} {over:>10}"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the campaign over its seeds."""
    parser = seeds.arguments("instruments", __doc__, 20)
    parser.add_argument("--sampling", type=int, default=1, help="minutes a reading")
    parser.add_argument("--sensors", default="good", choices=["good", "ordinary"])
    parser.add_argument(
        "--instruments", default="full", choices=["full", "pressures", "water"]
    )
    parser.add_argument("--probes-only", action="store_true")
    parser.add_argument("--healthy-days", type=int, default=0)
    asked = parser.parse_args()
    options = Options(
        How(asked.sensors, asked.instruments),
        asked.sampling,
        asked.healthy_days,
        asked.probes_only or asked.healthy_days > 0,
    )
    numbers = range(asked.seed, asked.seed + asked.seeds)
    what = "healthy" if asked.healthy_days else "lies"
    what += ", probes only" if asked.probes_only else ""
    kind = f"{what}, {asked.sensors}, {asked.instruments}, {asked.sampling} min" + (
        f", {asked.healthy_days} d" if asked.healthy_days else ""
    )
    rows = seeds.collect(
        ((f"{kind}, seed {seed}", partial(run, seed, options)) for seed in numbers),
        asked.resume,
        asked.workers,
    )
    figures = figures_of(rows, options)
    if not asked.json:
        sys.stdout.write(table(figures))
    seeds.end(
        figures if asked.json else {},
        promises_of(figures, options),
        as_json=asked.json,
    )


if __name__ == "__main__":
    main()
