"""Two years of a condenser that loses 10 % a year, recalibrated every week.

``python -m tests.campaigns.creep [--seed S] [--seeds N] [--json] [--resume FILE]
[--uses USE ...] [--minutes M] [--every WEEKS]``

The simulator's physics is not the twin's. Every interval of the two years is
solved, measured and averaged; a recalibration sees the 28 days before it, as in
service. After 104 of them the last accepted model must still report 95 % of the
true loss.

Dirt is a constant resistance, and takes a larger share where films are thin. So
a loss belongs to flows, and only like is compared with like: ``operated`` is what
the model and what the simulator say of the windows that were fitted, median
against median; ``rated`` what both say of rated flows. A model's own number
belongs to the flows that were usual in its reference, and is told as ``reported``.

A district's plant has seasons: learnt in October, it is judged in January at
loads and sink temperatures that its reference hardly knew. A process has none.

The control is one model refitted each month as its own reference: what it
reports at the end is the last month against the one before, and must hide most
of the loss.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from . import seeds  # isort: skip  (puts tests/calibration on the path)
from simulated import machine

from calibration.conductance import remaining, remaining_rated
from calibration.fit import Fit, fit_degradation, fit_reference
from calibration.gates import recalibrate
from calibration.health import tune
from calibration.model import Model
from calibration.steady import windows
from twin.finding import Refusal
from twin.plant import Machine, Use
from twin.simulate import Fault, FaultKind, Scenario, Unit, simulate

REFERENCE = timedelta(days=28)
WINDOW = timedelta(days=28)
WEEK = timedelta(days=7)
YEARLY = 0.10
LEAST = 0.95
"""Share of the true loss that must still be reported. [1]"""
HIDDEN = 0.5
"""Share that the control may at most report. [1]"""


def plant(
    seed: int,
    weeks: int,
    rate: float = YEARLY,
    minutes: int = 10,
    use: Use = Use.DISTRICT,
) -> tuple[Machine, pd.DataFrame, pd.DataFrame]:
    """Return the machine, its windows, and what its condenser truly lost.

    The truth has two columns: ``rated`` and, at the films of the moment,
    ``operated``.
    """
    start = Scenario(name="creep").start
    length = REFERENCE + weeks * WEEK
    made = simulate(
        Scenario(
            name="creep",
            length=length,
            step=timedelta(minutes=minutes),
            seed=seed,
            use=use,
            machines=(Unit(id="hp1"),),
            it_heat_w=0.75e6,
            demand_heat_w=0.65e6,
            faults=(
                Fault(
                    unit="hp1",
                    kind=FaultKind.CONDENSER_FOULING,
                    start=start + REFERENCE,
                    size=rate * weeks * WEEK / timedelta(days=365),
                    shape="linear",
                ),
            ),
            reference_length=REFERENCE,
        )
    )
    told = machine(made)
    found = windows(made.frames["hp1"], told, float(minutes))
    truth = made.truth["hp1"]["condenser_conductance_ratio"]
    (fault,) = made.scenario.faults
    times = pd.DatetimeIndex(truth.index)
    rated = fault.sizes(times, made.scenario.stop)
    return told, found, pd.DataFrame({"rated": rated, "operated": 1.0 - truth})


def _between(table: Any, start: pd.Timestamp, stop: pd.Timestamp) -> Any:
    return table[(table.index > start) & (table.index <= stop)]


def _true_loss(
    truth: pd.DataFrame, fitted: pd.DataFrame, how: str = "operated"
) -> float:
    """Return the loss over the windows that a fit saw. [1]."""
    steady = fitted.index[fitted["steady"].to_numpy(dtype=bool)]
    return float(truth[how].reindex(steady).median())


def _losses(
    current: Model,
    reference: Model,
    told: Machine,
    truth: pd.DataFrame,
    fitted: pd.DataFrame,
) -> dict[str, float]:
    """Return what is said and what is true of a loss, each at the same flows. [1]."""
    steady = fitted[fitted["steady"].to_numpy(dtype=bool)]
    left = remaining("condenser", current, reference, steady)
    return {
        "reported": 1.0 - current.degradation["condenser"][0],
        "operated": 1.0 - float(np.nanmedian(left)),
        "true_operated": _true_loss(truth, fitted),
        "rated": 1.0 - remaining_rated("condenser", current, reference, told),
        "true_rated": _true_loss(truth, fitted, "rated"),
    }


def _shares(weeks: pd.DataFrame, of: str, since: int) -> dict[str, float]:
    """Return the reported shares of the true loss from some week on. [1]."""
    # Of a loss that has hardly begun a share says nothing.
    late = weeks[(weeks["week"] > since) & (weeks[f"true_{of}"] > 0.03)]
    share = late[of] / late[f"true_{of}"]
    return {
        f"{of}_share_mean": float(late[of].sum() / late[f"true_{of}"].sum()),
        f"{of}_share_least": float(share.min()),
        f"{of}_share_most": float(share.max()),
    }


def twin(
    told: Machine, found: pd.DataFrame, truth: pd.DataFrame, weeks: int, every: int = 1
) -> dict[str, Any]:
    """Recalibrate as the service does, every week or every few; tell the report."""
    begin = found.index[0].floor("D")
    commissioned = begin + REFERENCE
    early = found[found.index <= commissioned]
    fit = fit_reference(early, told)
    if isinstance(fit, Refusal):
        raise RuntimeError(fit.sentence)
    reference = tune(early, fit.model, told)
    present = None
    refused: dict[str, int] = {}
    said: list[dict[str, float]] = []
    for week in range(every, weeks + 1, every):
        now = commissioned + week * WEEK
        seen = _between(found, now - WINDOW, now)
        verdict = recalibrate(seen, reference, present, told, now=now.to_pydatetime())
        if verdict.accepted and verdict.fit is not None:
            present = verdict.fit.model
            said.append(
                {"week": week, **_losses(present, reference, told, truth, seen)}
            )
        else:
            gate = verdict.reason.partition(":")[0]
            refused[gate] = refused.get(gate, 0) + 1
    if present is None:
        raise RuntimeError(f"creep: no recalibration was accepted: {refused}")
    # The last model that was accepted serves on, whatever happens after it.
    now = commissioned + weeks * WEEK
    newest = _losses(
        present, reference, told, truth, _between(found, now - WINDOW, now)
    )
    table = pd.DataFrame(said)
    return {
        "recalibrations": weeks // every,
        "accepted": len(said),
        "refused": refused,
        "last_accepted_week": int(said[-1]["week"]),
        **newest,
        "share": newest["operated"] / newest["true_operated"],
        "share_rated": newest["rated"] / newest["true_rated"],
        **_shares(table, "operated", weeks - 52),
        **_shares(table, "rated", weeks - 52),
        "weeks": table.round(5).to_dict("records"),
    }


def control(
    told: Machine, found: pd.DataFrame, truth: pd.DataFrame, weeks: int
) -> dict[str, Any]:
    """Refit one model each month and let it be its own reference."""
    begin = found.index[0].floor("D")
    now = begin + REFERENCE + weeks * WEEK
    newest = _between(found, now - WINDOW, now)
    before = begin
    refits = 0
    model = None
    while before + 2 * WINDOW <= now:
        fit = fit_reference(_between(found, before, before + WINDOW), told)
        if isinstance(fit, Fit):
            model, refits = fit.model, refits + 1
        before += WINDOW
    if model is None:
        raise RuntimeError("control: no month could be fitted")
    last = fit_degradation(newest, model, told)
    if isinstance(last, Refusal):
        raise RuntimeError(last.sentence)
    losses = _losses(last.model, model, told, truth, newest)
    return {
        "refits": refits,
        "reported": losses["reported"],
        "share": losses["operated"] / losses["true_operated"],
    }


def case(
    seed: int,
    weeks: int = 104,
    rate: float = YEARLY,
    minutes: int = 10,
    use: Use = Use.DISTRICT,
    every: int = 1,
) -> dict[str, Any]:
    """Run one plant through its years, with the twin and with the control."""
    told, found, truth = plant(seed, weeks, rate, minutes, use)
    ours = twin(told, found, truth, weeks, every)
    naive = control(told, found, truth, weeks)
    return ours | {f"control_{name}": value for name, value in naive.items()}


def _over(rows: list[Any], name: str) -> dict[str, Any]:
    values = [row[name] for row in rows]
    return {"least": min(values), "mean": float(np.mean(values)), "most": max(values)}


def main() -> None:
    """Run the campaign over its seeds."""
    parser = seeds.arguments("creep", __doc__, 5)
    parser.add_argument(
        "--uses", nargs="+", default=["district", "process"], help="see twin.plant.Use"
    )
    parser.add_argument("--minutes", type=int, default=60, help="of an interval")
    parser.add_argument("--every", type=int, default=1, help="weeks")
    options = parser.parse_args()
    rows = seeds.collect(
        (
            (
                f"{use}, {options.minutes} min, {options.every} weekly, seed {seed}",
                partial(
                    case,
                    seed,
                    minutes=options.minutes,
                    use=Use(use),
                    every=options.every,
                ),
            )
            for seed in range(options.seed, options.seed + options.seeds)
            for use in options.uses
        ),
        options.resume,
        options.workers,
    )
    figures: dict[str, Any] = {}
    promises = {}
    for use in options.uses:
        mine = [row for row in rows if row["case"].startswith(f"{use},")]
        figures[use] = {
            "seeds": len(mine),
            "accepted": sum(row["accepted"] for row in mine),
            "recalibrations": sum(row["recalibrations"] for row in mine),
            **{
                name: _over(mine, name)
                for name in (
                    "true_operated",
                    "true_rated",
                    "reported",
                    "share",
                    "operated_share_mean",
                    "operated_share_least",
                    "operated_share_most",
                    "share_rated",
                    "rated_share_mean",
                    "rated_share_least",
                    "rated_share_most",
                    "control_share",
                )
            },
        }
        kept = figures[use]["share"]["least"] >= LEAST
        promises[f"{use}: at least {LEAST:.0%} of the loss is still reported"] = kept
        hides = max(abs(row["control_share"]) for row in mine) < HIDDEN
        promises[f"{use}: the control hides more than {1.0 - HIDDEN:.0%} of it"] = hides
    seeds.end(figures, promises, as_json=options.json)


if __name__ == "__main__":
    main()
