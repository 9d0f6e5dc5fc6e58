"""What the indicators of clogging, gas, hunting and cycling tell, over seeds.

``python -m tests.campaigns.indicators [--seed S] [--seeds N] [--json] [--resume FILE]
[--sensors good|ordinary]``

Each seed is a plant of its own whose instruments age as their class does. Two
weeks of hourly means are the reference, the ten days after it are judged; for
hunting, three days of one-minute samples and one. A clogging is found where its
whole interval lies above 1.05; every loop that nothing was planted in must not
be, and is a control. The intervals are also asked whether they hold the truth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from . import seeds  # isort: skip  (puts tests/calibration on the path)
from simulated import exchanger, machine

from calibration import cycling, hunting, strainer
from calibration.steady import windows
from twin.finding import Refusal
from twin.simulate import Fault, FaultKind, Scenario, Simulation, Unit, simulate
from twin.simulate.scenario import MORE

REFERENCE_DAYS, DAYS = 14, 24
FOUND = 1.05
LOOPS = {
    "source": ("hp1", FaultKind.SOURCE_STRAINER),
    "sink": ("hp1", FaultKind.SINK_STRAINER),
    "cold": ("cdu1", FaultKind.STRAINER),
}
SLOW: Mapping[str, tuple[FaultKind, float] | None] = {
    "healthy": None,
    "source strainer +15 %": (FaultKind.SOURCE_STRAINER, 0.15),
    "source strainer +30 %": (FaultKind.SOURCE_STRAINER, 0.30),
    "sink strainer +15 %": (FaultKind.SINK_STRAINER, 0.15),
    "sink strainer +30 %": (FaultKind.SINK_STRAINER, 0.30),
    "cdu strainer +15 %": (FaultKind.STRAINER, 0.15),
    "cdu strainer +30 %": (FaultKind.STRAINER, 0.30),
    "gas 10 kPa": (FaultKind.NON_CONDENSABLES, 1e4),
    "gas 20 kPa": (FaultKind.NON_CONDENSABLES, 2e4),
    "gas 40 kPa": (FaultKind.NON_CONDENSABLES, 4e4),
    "condenser dirt 0.10": (FaultKind.CONDENSER_FOULING, 0.10),
    "condenser dirt 0.20": (FaultKind.CONDENSER_FOULING, 0.20),
    "charge, half the subcooling": (FaultKind.UNDERCHARGE, 0.5),
}
FAST: Mapping[str, tuple[FaultKind, float]] = {
    "hunting 0 K": (FaultKind.HUNTING, 0.0),
    "hunting 2 K": (FaultKind.HUNTING, 2.0),
    "hunting 4 K": (FaultKind.HUNTING, 4.0),
    "cycling 5 an hour": (FaultKind.SHORT_CYCLING, 5.0),
    "cycling 8 an hour": (FaultKind.SHORT_CYCLING, 8.0),
}


def plant(
    seed: int, sensors: str, fault: tuple[FaultKind, float] | None, fast: bool = False
) -> tuple[Simulation, pd.Timestamp]:
    """Return a seed's plant, and when its fault begins."""
    random = np.random.default_rng([seed, 77])
    start = datetime(2025, 9, 1, tzinfo=UTC) + timedelta(days=int(random.integers(150)))
    begins = start + timedelta(days=3 if fast else REFERENCE_DAYS)
    faults: tuple[Fault, ...] = ()
    if fault is not None:
        kind, size = fault
        unit = "cdu1" if kind is FaultKind.STRAINER else "hp1"
        faults = (Fault(unit=unit, kind=kind, start=begins, size=size),)
    scenario = Scenario(
        name="indicators", start=start, length=timedelta(days=4 if fast else DAYS),
        step=timedelta(minutes=1 if fast else 60), seed=seed, sensors=sensors,
        machines=(Unit(id="hp1", more=MORE),), it_heat_w=0.75e6, demand_heat_w=0.65e6,
        faults=faults, ageing=1.0,
    )  # fmt: skip
    return simulate(scenario), pd.Timestamp(begins)


def slow(name: str, seed: int, sensors: str) -> dict[str, Any]:
    """Judge what hourly means show."""
    made, begins = plant(seed, sensors, SLOW[name])
    row: dict[str, Any] = {}
    devices = {"hp1": machine(made), "cdu1": exchanger(made)}
    found = {u: windows(made.frames[u], d, 60.0) for u, d in devices.items()}
    for how, without in (("", ""), (" without gauge", "pressure_drop")):
        for side, (unit, kind) in LOOPS.items():
            table = found[unit]
            if without:
                if unit == "cdu1":
                    continue
                table = table.drop(columns=[c for c in table if without in c])
            loop = strainer.learn(table[table.index <= begins], side)
            told = (
                loop
                if isinstance(loop, Refusal)
                else strainer.clogging(table[table.index > begins], loop)
            )
            if isinstance(told, Refusal):
                row[side + how] = told.code
                continue
            planted = SLOW[name]
            if planted and planted[0] is FaultKind.CONDENSER_FOULING and side == "sink":
                continue  # dirt narrows its passages as well, by what nobody planted
            truth = 1.0 + (planted[1] if planted and planted[0] is kind else 0.0)
            row[side + how] = {
                "truth": truth,
                "ratio": told.ratio,
                "found": told.low > FOUND,
                "holds": told.low <= truth <= told.high,
            }
    return row


def fast(name: str, seed: int, sensors: str) -> dict[str, Any]:
    """Judge what one-minute samples show."""
    made, begins = plant(seed, sensors, FAST[name], fast=True)
    frame, device = made.frames["hp1"], machine(made)
    last = frame[frame.index > begins]
    starts = cycling.cycling(last, device)
    row: dict[str, Any] = {
        "cycles": starts.code if isinstance(starts, Refusal) else starts.too_often
    }
    usual: list[hunting.Swing] = []
    for day in range(3):
        edge = begins - pd.Timedelta(days=3 - day)
        part = frame[(frame.index > edge) & (frame.index <= edge + pd.Timedelta("1D"))]
        told = hunting.swing(part, device)
        usual += [] if isinstance(told, Refusal) else told
    now = hunting.swing(last, device)
    if isinstance(now, Refusal):
        return row | {"hunts": now.code}
    judged = [hunting.judge(swing, usual) for swing in now]
    return row | {"hunts": judged[0].hunts, "amplitude": judged[0].swing.amplitude}


def figures_of(rows: Mapping[str, list[Any]]) -> dict[str, Any]:
    """Return the shares over all seeds."""
    figures: dict[str, Any] = {}
    loops: dict[str, list[Any]] = {}
    for name, mine in rows.items():
        if name in FAST:
            figures[f"{name}: hunts"] = dict(Counter(str(r["hunts"]) for r in mine))
            figures[f"{name}: too often"] = dict(
                Counter(str(r["cycles"]) for r in mine)
            )
        for row in mine:
            for side in row:
                if isinstance(row[side], dict):
                    loops.setdefault(side, []).append(row[side])
    for side, told in sorted(loops.items()):
        for truth in sorted({one["truth"] for one in told}):
            here = [one for one in told if one["truth"] == truth]
            figures[f"{side}, truth {truth:.2f}"] = {
                "cases": len(here),
                "found": float(np.mean([one["found"] for one in here])),
                "holds": float(np.mean([one["holds"] for one in here])),
                "ratio": float(np.median([one["ratio"] for one in here])),
            }
    return figures


def main() -> None:
    """Run the campaign over its seeds."""
    parser = seeds.arguments("indicators", __doc__, 20)
    parser.add_argument("--sensors", default="good", choices=["good", "ordinary"])
    options = parser.parse_args()
    numbers = range(options.seed, options.seed + options.seeds)
    asked = [
        (f"{name}, {options.sensors}, seed {seed}", name, seed)
        for seed in numbers
        for name in (*SLOW, *FAST)
    ]
    answers = seeds.collect(
        (
            (
                label,
                partial(slow if name in SLOW else fast, name, seed, options.sensors),
            )
            for label, name, seed in asked
        ),
        options.resume,
        options.workers,
    )
    rows: dict[str, list[Any]] = {}
    for (_, name, _), row in zip(asked, answers, strict=True):
        rows.setdefault(name, []).append(row)
    figures = figures_of(rows)
    promises = {}
    for side in LOOPS:
        control, large = (figures[f"{side}, truth {t}"] for t in ("1.00", "1.30"))
        promises[f"{side}: 90 % of +30 % found"] = large["found"] >= 0.9
        promises[f"{side}: none found where none is"] = control["found"] == 0.0
    for name, wanted in (("hunting 0 K", False), ("hunting 4 K", True)):
        right = sum(row["hunts"] is wanted for row in rows[name])
        promises[f"{name}: 95 % right"] = right >= 0.95 * len(rows[name])
    for name, wanted in (("cycling 5 an hour", False), ("cycling 8 an hour", True)):
        right = sum(row["cycles"] is wanted for row in rows[name])
        promises[f"{name}: 95 % right"] = right >= 0.95 * len(rows[name])
    seeds.end(figures, promises, as_json=options.json)


if __name__ == "__main__":
    main()
