"""How well a twin predicts weeks that it has not seen, beside its rivals.

Four predictors of the same windows: physics alone, physics with its correction,
the correction's terms without physics, and persistence, which says that
everything stays as it was in the window before.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from calibration.correction import without_physics
from calibration.model import Model, conditions, expect
from twin.points import EXPECTED

CHANNELS = (
    "compressor_power_w",
    "sink_heat_w",
    "source_heat_w",
    "sink_outlet_temp_degc",
    "source_outlet_temp_degc",
)
PREDICTORS = ("physics", "corrected", "without_physics", "persistence")


def compare(early: pd.DataFrame, late: pd.DataFrame, model: Model) -> pd.DataFrame:
    """Score the four predictors on the steady windows of a later time.

    Parameters
    ----------
    early : DataFrame
        Windows that the model was fitted to.
    late : DataFrame
        Windows that it has not seen.
    model : Model
        The reference, with its correction if it has one.

    Returns
    -------
    DataFrame
        One row per channel and predictor, over the same windows for all four:
        ``cv_rmse`` and ``nmbe`` relative to the mean of the measured [1],
        ``rmse`` in the channel's unit, and ``windows`` [1].
    """
    known = early[early["steady"].to_numpy(dtype=bool)]
    judged = late[late["steady"].to_numpy(dtype=bool)]
    channels = [name for name in CHANNELS if name in judged and name != model.given]
    plain = expect(judged, model.with_(correction=None))
    full = expect(judged, model)
    rival = without_physics(
        conditions(known, model), known[channels], conditions(judged, model)
    )
    rows = []
    for name in channels:
        truth = judged[name]
        guesses = {
            "physics": plain[f"{EXPECTED}{name}"],
            "corrected": full[f"{EXPECTED}{name}"],
            "without_physics": rival[name],
            "persistence": _before(late, name).reindex(judged.index),
        }
        both = truth.notna()
        for guess in guesses.values():
            both &= guess.notna()
        scale = float(np.abs(truth[both].mean())) if both.any() else np.nan
        for predictor in PREDICTORS:
            error = (guesses[predictor] - truth)[both].to_numpy(dtype=float)
            rmse = float(np.sqrt(np.mean(error**2))) if len(error) else np.nan
            rows.append(
                {
                    "channel": name,
                    "predictor": predictor,
                    "cv_rmse": rmse / scale,
                    "nmbe": float(np.mean(error)) / scale if len(error) else np.nan,
                    "rmse": rmse,
                    "windows": len(error),
                }
            )
    return pd.DataFrame(rows).set_index(["channel", "predictor"])


def _before(late: pd.DataFrame, name: str) -> pd.Series:
    """Return the value of the window before, NaN after a gap or at standstill."""
    ran = late["compressor_running"].shift(1) > 1.0 - 1e-9
    near = late.index.to_series().diff().dt.total_seconds() <= 1.5 * late["window_s"]
    return late[name].shift(1).where(ran & near)
