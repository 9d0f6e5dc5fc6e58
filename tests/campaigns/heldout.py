"""How well weeks that were not seen are predicted, on a plant with other physics.

``python -m tests.campaigns.heldout [--seed S] [--seeds N] [--instruments ...]
[--sensors ...] [--json] [--resume FILE]``

Every seed is another machine: compressor, losses and pressure drops drawn anew,
the glycol two points off what is configured, instruments with their offsets,
noise and last digits. Zone ratios, exponents, efficiency curve and lags are the
simulator's own. Three weeks are fitted; the three after them are predicted in
ten-minute windows by every predictor of :mod:`calibration.heldout`.

``corrected`` knows the boundary conditions of the moment and nothing else.
``persistence`` and ``tracked`` know what was measured until 10 minutes, an hour,
a day before: where a controller holds an outlet at its setpoint, the last reading
is as good a forecast as there is, and a rival that never looks at a reading is
compared with it unevenly. So each horizon is promised for ``tracked``, which
knows exactly what persistence knows, and counted for ``corrected``.
"""

from __future__ import annotations

from datetime import timedelta
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd

from . import seeds  # isort: skip  (puts tests/calibration on the path)
from simulated import REFERENCE_DAYS, machine

from calibration.fit import fit_reference, with_correction
from calibration.heldout import PREDICTORS, compare
from calibration.model import Model
from calibration.steady import windows
from twin.finding import Refusal
from twin.plant import Coolant
from twin.simulate import Scenario, Unit, simulate

HORIZONS_S = {"10 min": 600.0, "1 h": 3600.0, "1 day": 86400.0}
CV_RMSE, NMBE, OUTLET_K = 0.025, 0.005, 0.3
"""Wanted of power and sink heat [1], and of the sink outlet [K]."""
_BUILDS = {
    "best_efficiency": (0.68, 0.78),
    "over_compression": (0.08, 0.25),
    "under_compression": (0.15, 0.45),
    "best_speed": (0.70, 0.95),
    "speed_loss": (0.06, 0.20),
    "gap_leak": (0.015, 0.045),
    "superheat_k": (4.0, 8.0),
    "subcooling_k": (2.5, 6.0),
    "evaporator_drop_k": (0.1, 0.6),
    "suction_drop_k": (0.1, 0.5),
    "condenser_drop_k": (0.1, 0.5),
    "running_loss": (0.02, 0.05),
    "load_loss": (0.01, 0.03),
}


def drawn(seed: int) -> tuple[tuple[str, float], ...]:
    """Return the characteristics of one drawn machine."""
    random = np.random.default_rng(seed)
    return tuple((name, float(random.uniform(*ab))) for name, ab in _BUILDS.items())


@cache
def learnt(
    seed: int, instruments: str = "full", minutes: float = 10.0, sensors: str = "good"
) -> tuple[pd.DataFrame, pd.DataFrame, Model]:
    """Fit three weeks of one drawn machine; return them, the next three, the model.

    Raises
    ------
    RuntimeError
        If the reference is refused, with its sentence.
    """
    made = simulate(
        Scenario(
            name="held out",
            length=timedelta(days=2 * REFERENCE_DAYS),
            seed=seed,
            machines=(Unit(id="hp1", instruments=instruments, build=drawn(seed)),),
            it_heat_w=0.75e6,
            demand_heat_w=0.65e6,
            sensors=sensors,
            reference_length=timedelta(days=REFERENCE_DAYS),
            coolant=Coolant("MPG", 0.27 if seed % 2 else 0.23),
            coolant_said=Coolant("MPG", 0.25),
        )
    )
    told = machine(made)
    found = windows(made.frames["hp1"], told, minutes)
    early = found.index <= found.index[0] + pd.Timedelta(days=REFERENCE_DAYS)
    fit = fit_reference(found[early], told)
    if isinstance(fit, Refusal):
        raise RuntimeError(fit.sentence)
    model, _ = with_correction(fit.model, found[early])
    return found[early], found[~early], model


def case(seed: int, instruments: str, sensors: str) -> dict[str, Any]:
    """Score one machine at every horizon."""
    early, late, model = learnt(seed, instruments, 10.0, sensors)
    scores: dict[str, Any] = {}
    for horizon, ahead in HORIZONS_S.items():
        table = compare(early, late, model, ahead=ahead).reset_index()
        scores[horizon] = table.to_dict("records")
    learnt.cache_clear()
    return {"with_correction": model.correction is not None, "scores": scores}


def _table(rows: list[Any]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"seed": k, "horizon": horizon, **score}
            for k, row in enumerate(rows)
            for horizon, scores in row["scores"].items()
            for score in scores
        ]
    )


def figures_of(rows: list[Any]) -> tuple[dict[str, Any], dict[str, bool]]:
    """Return what was scored over the seeds, and which promises it keeps."""
    table = _table(rows)
    now = table[table["horizon"] == "10 min"].set_index(["channel", "predictor"])
    figures: dict[str, Any] = {
        "seeds": len(rows),
        "corrections_kept": sum(row["with_correction"] for row in rows),
    }
    for channel in now.index.get_level_values(0).unique():
        temp = channel.endswith("_degc")
        figures[channel] = {}
        for predictor in PREDICTORS[:3]:
            of = now.loc[(channel, predictor)]
            error = of["rmse"] if temp else of["cv_rmse"]
            figures[channel][predictor] = {
                "rmse_k" if temp else "cv_rmse": float(error.mean()),
                "worst": float(error.max()),
                "nmbe_worst": float(of["nmbe"].abs().max()),
            }
        for horizon in HORIZONS_S:
            at = table[(table["channel"] == channel) & (table["horizon"] == horizon)]
            by = at.pivot_table(
                values="rmse" if temp else "cv_rmse", index="seed", columns="predictor"
            )
            figures[channel][horizon] = {
                "persistence": float(by["persistence"].mean()),
                "tracked": float(by["tracked"].mean()),
                "corrected_wins": int((by["corrected"] < by["persistence"]).sum()),
                "tracked_wins": int((by["tracked"] < by["persistence"]).sum()),
            }
    promises = {}
    for channel in ("compressor_power_w", "sink_heat_w"):
        if channel not in figures:
            continue
        of = figures[channel]["corrected"]
        promises[f"{channel}: CV(RMSE) at most {CV_RMSE:.1%}"] = of["worst"] <= CV_RMSE
        promises[f"{channel}: NMBE at most {NMBE:.1%}"] = of["nmbe_worst"] <= NMBE
    outlet = figures["sink_outlet_temp_degc"]["corrected"]
    promises[f"sink outlet: RMSE at most {OUTLET_K} K"] = outlet["worst"] <= OUTLET_K
    for horizon in HORIZONS_S:
        promises[f"{horizon}: tracked beats persistence on every channel and seed"] = (
            all(
                of[horizon]["tracked_wins"] == len(rows)
                for of in figures.values()
                if isinstance(of, dict)
            )
        )
    return figures, promises


def main() -> None:
    """Run the campaign over its seeds."""
    parser = seeds.arguments("heldout", __doc__, 10)
    parser.add_argument("--instruments", nargs="+", default=["full"], help="see Unit")
    parser.add_argument(
        "--sensors", nargs="+", default=["good", "ordinary"], help="see Scenario"
    )
    options = parser.parse_args()
    numbers = range(options.seed, options.seed + options.seeds)
    kinds = [(a, b) for a in options.instruments for b in options.sensors]
    rows = seeds.collect(
        (
            (
                f"{a}, {b}, seed {seed}",
                partial(case, seed, a, b),
            )
            for a, b in kinds
            for seed in numbers
        ),
        options.resume,
        options.workers,
    )
    figures: dict[str, Any] = {}
    promises: dict[str, bool] = {}
    for a, b in kinds:
        mine = [row for row in rows if row["case"].startswith(f"{a}, {b}, seed ")]
        figures[f"{a}, {b}"], kept = figures_of(mine)
        promises |= {f"{a}, {b}: {name}": value for name, value in kept.items()}
    seeds.end(figures, promises, as_json=options.json)


if __name__ == "__main__":
    main()
