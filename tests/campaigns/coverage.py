"""How often 95 % intervals of relative conductance cover the truth.

``python -m tests.campaigns.coverage [--seed S] [--seeds N] [--json] [--resume FILE]``

Each seed is a plant of its own: weather, racks, consumer, the errors of its
instruments, and what its condenser (0 to 25 %) and its evaporator (0 to 20 %)
have lost after three weeks of reference. The week after is fitted, with and
without refrigerant pressures. The truth is the simulator's conductance over that
of the clean exchanger in the same state, its median over the fitted windows.

Without pressures the twin offers no conductance of a part, because it could
not tell one from the other; what its arithmetic would say if it were forced to
is what is measured there.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd

from . import seeds  # isort: skip  (puts tests/calibration on the path)
from simulated import machine

from calibration.fit import fit_degradation, fit_reference
from calibration.health import tune
from calibration.steady import windows
from twin.finding import Refusal
from twin.simulate import Fault, FaultKind, Scenario, Unit, simulate

REFERENCE_DAYS, DAYS = 21, 28
MINUTES = 30
PARTS = ("condenser", "evaporator")
LOW, HIGH = 0.90, 0.98
"""Between these a 95 % interval is an honest one. [1]"""


def case(seed: int, instruments: str) -> dict[str, Any]:
    """Plant a loss, fit it, and see where the truth lies in the interval."""
    random = np.random.default_rng([seed, 95])
    size = dict(zip(PARTS, random.uniform(0.0, (0.25, 0.20)), strict=True))
    start = Scenario(name="x").start + timedelta(days=REFERENCE_DAYS)
    kinds = (FaultKind.CONDENSER_FOULING, FaultKind.EVAPORATOR_FOULING)
    made = simulate(
        Scenario(
            name="coverage",
            length=timedelta(days=DAYS),
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
    found = windows(made.frames["hp1"], told, float(MINUTES))
    early = found[found.index <= pd.Timestamp(start)]
    late = found[found.index > pd.Timestamp(start)]
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
    row: dict[str, Any] = {"offered": offered}
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
    return figures


def main() -> None:
    """Run the campaign over its seeds."""
    parser = seeds.arguments("coverage", __doc__, 200)
    parser.add_argument(
        "--instruments", nargs="+", default=["pressures", "water"], help="see Unit"
    )
    options = parser.parse_args()
    numbers = range(options.seed, options.seed + options.seeds)
    rows = seeds.collect(
        (
            (f"{kind}, seed {seed}", lambda kind=kind, seed=seed: case(seed, kind))
            for seed in numbers
            for kind in options.instruments
        ),
        options.resume,
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
