"""How often 95 % intervals of relative conductance cover the truth.

``python -m tests.campaigns.coverage [--seed S] [--seeds N] [--json] [--resume FILE]
[--no-drift]``

Each seed is a plant of its own: weather, racks, consumer, the errors of its
instruments, and what its condenser (0 to 25 %) and its evaporator (0 to 20 %)
have lost after three weeks of reference. One of the eight weeks after it is
fitted, with and without refrigerant pressures; by then every instrument has
drifted by a draw from its class, which is what the interval says that it covers.
``--no-drift`` leaves them as they were, and the intervals wider than need be,
for the twin cannot know. The truth is the simulator's conductance over that
of the clean exchanger in the same state, its median over the fitted windows.

Without pressures the twin tracks no conductance of a part by itself, because no
alarm could name it; what it says where both are asked for by name is what is
measured there.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from . import seeds  # isort: skip  (puts tests/calibration on the path)
from simulated import machine

from calibration.fit import INPUTS, OUTPUTS, fit_degradation, fit_reference
from calibration.health import tune
from calibration.steady import windows
from twin.finding import Refusal
from twin.simulate import Fault, FaultKind, Scenario, Unit, simulate

REFERENCE_DAYS, WEEKS = 21, 8
MINUTES = 60
PARTS = ("condenser", "evaporator")
LOW, HIGH = 0.90, 0.98
"""Between these a 95 % interval is an honest one. [1]"""


def drifted(frame: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """Let every instrument drift by a draw from what its class allows."""
    allowed = {name: instrument.drift for name, instrument in OUTPUTS.items()}
    allowed |= {name.replace("_kg_s", "_m3_s"): size for name, size in INPUTS.items()}
    moved = {}
    for name, size in sorted(allowed.items()):
        by = float(random.normal(0.0, size))
        if name in frame:
            absolute = name.endswith("_degc")
            moved[name] = frame[name] + by if absolute else frame[name] * (1.0 + by)
    return frame.assign(**moved)


def case(seed: int, instruments: str, drift: bool = True) -> dict[str, Any]:
    """Plant a loss, fit it, and see where the truth lies in the interval."""
    random = np.random.default_rng([seed, 95])
    size = dict(zip(PARTS, random.uniform(0.0, (0.25, 0.20)), strict=True))
    week = int(random.integers(1, WEEKS + 1))
    start = Scenario(name="x").start + timedelta(days=REFERENCE_DAYS)
    kinds = (FaultKind.CONDENSER_FOULING, FaultKind.EVAPORATOR_FOULING)
    made = simulate(
        Scenario(
            name="coverage",
            length=timedelta(days=REFERENCE_DAYS + 7 * week),
            step=timedelta(minutes=MINUTES),
            seed=seed,
            machines=(Unit(id="hp1", instruments=instruments),),
            it_heat_w=0.75e6,
            demand_heat_w=0.65e6,
            faults=tuple(
                Fault(unit="hp1", kind=kind, start=start, size=float(size[part]))
                for kind, part in zip(kinds, PARTS, strict=True)
            ),
            reference_length=timedelta(days=REFERENCE_DAYS),
        )
    )
    told = machine(made)
    frame = made.frames["hp1"]
    early = windows(frame[frame.index <= pd.Timestamp(start)], told, float(MINUTES))
    last = frame[frame.index > frame.index[-1] - pd.Timedelta(days=7)]
    late = windows(drifted(last, random) if drift else last, told, float(MINUTES))
    first = fit_reference(early, told)
    if isinstance(first, Refusal):
        return {"refused": first.sentence}
    reference = tune(early, first.model, told)
    offered = set(PARTS) <= set(reference.tracked)
    names = None if offered else (*PARTS, *_others(reference.tracked))
    fit = fit_degradation(late, reference, told, names=names)
    if isinstance(fit, Refusal):
        return {"refused": fit.sentence}
    steady = late.index[late["steady"].to_numpy(dtype=bool)]
    row: dict[str, Any] = {"offered": offered, "week": week}
    for part in PARTS:
        value, low, high = fit.model.degradation[part]
        seen = made.truth["hp1"][f"{part}_conductance_ratio"].reindex(steady)
        truth = float(seen.median())
        half = float(np.log(high / low)) / 2.0
        row |= {
            f"{part}_truth": truth,
            f"{part}_value": value,
            f"{part}_half": half,
            # In standard errors, so that its spread over seeds should be 1.
            f"{part}_z": float(np.log(value / truth)) / half * 1.96,
            f"{part}_covers": bool(low <= truth <= high),
        }
    return row


def _others(tracked: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in tracked if name not in PARTS)


def figures_of(rows: list[Any]) -> dict[str, Any]:
    """Return coverage, bias and spread over the seeds of one instrumentation."""
    good = [row for row in rows if "refused" not in row]
    figures: dict[str, Any] = {"seeds": len(rows), "refused": len(rows) - len(good)}
    for part in PARTS:
        z = np.array([row[f"{part}_z"] for row in good])
        figures[f"{part}_coverage"] = float(
            np.mean([row[f"{part}_covers"] for row in good])
        )
        figures[f"{part}_half_width"] = float(
            np.median([row[f"{part}_half"] for row in good])
        )
        figures[f"{part}_bias_sigma"] = float(np.mean(z))
        figures[f"{part}_spread_sigma"] = float(np.std(z, ddof=1))
        figures[f"{part}_coverage_by_week"] = {
            str(week): float(
                np.mean([row[f"{part}_covers"] for row in good if row["week"] == week])
            )
            for week in sorted({row["week"] for row in good})
        }
    return figures


def main() -> None:
    """Run the campaign over its seeds."""
    parser = seeds.arguments("coverage", __doc__, 200)
    parser.add_argument(
        "--instruments", nargs="+", default=["pressures", "water"], help="see Unit"
    )
    parser.add_argument("--no-drift", action="store_true", help="see above")
    options = parser.parse_args()
    drift = not options.no_drift
    numbers = range(options.seed, options.seed + options.seeds)
    rows = seeds.collect(
        (
            (f"{kind}, seed {seed}", partial(case, seed, kind, drift))
            for kind in options.instruments
            for seed in numbers
        ),
        options.resume,
        options.workers,
    )
    figures: dict[str, Any] = {}
    promises = {}
    for kind in options.instruments:
        mine = [row for row in rows if row["case"].startswith(f"{kind},")]
        figures[kind] = figures_of(mine)
        for part in PARTS:
            share = figures[kind][f"{part}_coverage"]
            promises[f"{kind}, {part}: {LOW:.0%} to {HIGH:.0%} covered"] = (
                LOW <= share <= HIGH
            )
    seeds.end(figures, promises, as_json=options.json)


if __name__ == "__main__":
    main()
