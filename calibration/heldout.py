"""How well a twin predicts weeks that it has not seen, beside its rivals.

Predictors of the same windows, from present boundary conditions alone: physics,
physics with its correction, the correction's terms without physics. And two that
know what was measured until some time before: persistence, which says that
everything stays as it was then, and the twin tracked, which adds what it was
missed by until then. Tracking forecasts; it follows a fault within hours, so
nothing is ever judged by it.
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
PREDICTORS = ("physics", "corrected", "without_physics", "persistence", "tracked")
_HALF_LIVES_H = (0.25, 1.0, 6.0, 48.0)


def forecasts(
    early: pd.DataFrame, late: pd.DataFrame, model: Model, *, ahead: float | None = None
) -> dict[str, pd.DataFrame]:
    """Return what every predictor says of the steady windows of a later time.

    Parameters
    ----------
    early : DataFrame
        Windows that the model was fitted to.
    late : DataFrame
        Windows that it has not seen.
    model : Model
        The reference, with its correction if it has one.
    ahead : float, optional
        How long before a window the last measurement was that persistence and
        tracking know; one window by default. [s]

    Returns
    -------
    dict of DataFrame
        By channel: ``measured`` and one column per predictor, NaN where one has
        no answer. [as measured]
    """
    known = early[early["steady"].to_numpy(dtype=bool)]
    judged = late[late["steady"].to_numpy(dtype=bool)]
    channels = [name for name in CHANNELS if name in judged and name != model.given]
    plain = expect(judged, model.with_(correction=None))
    full = expect(judged, model)
    rival = without_physics(
        conditions(known, model), known[channels], conditions(judged, model)
    )
    everything = pd.concat([early, late])
    gap = float(late["window_s"].iloc[0]) if ahead is None else ahead
    past = expect(known, model)
    result = {}
    for name in channels:
        truth, expected = judged[name], full[f"{EXPECTED}{name}"]
        before = _before(everything, name, gap)
        result[name] = pd.DataFrame(
            {
                "measured": truth,
                "physics": plain[f"{EXPECTED}{name}"],
                "corrected": expected,
                "without_physics": rival[name],
                "persistence": before.reindex(judged.index),
                "tracked": _tracked(
                    pd.concat([known[name], truth]),
                    pd.concat([past[f"{EXPECTED}{name}"], expected]),
                    before,
                    gap,
                    len(known),
                ).reindex(judged.index),
            }
        )
    return result


def compare(
    early: pd.DataFrame, late: pd.DataFrame, model: Model, *, ahead: float | None = None
) -> pd.DataFrame:
    """Score what :func:`forecasts` says, with the same parameters.

    Returns
    -------
    DataFrame
        One row per channel and predictor, over the same windows for all of them:
        ``cv_rmse`` and ``nmbe`` relative to the mean of the measured [1],
        ``rmse`` in the channel's unit, and ``windows`` [1].
    """
    rows = []
    for name, said in forecasts(early, late, model, ahead=ahead).items():
        both = said.dropna()
        truth = both["measured"]
        scale = float(np.abs(truth.mean())) if len(both) else np.nan
        for predictor in PREDICTORS:
            error = (both[predictor] - truth).to_numpy(dtype=float)
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


def _before(windows: pd.DataFrame, name: str, ahead: float) -> pd.Series:
    """Return the value so long before each window, NaN in a gap or at standstill."""
    ran = windows["compressor_running"] > 1.0 - 1e-9
    value = windows[name].where(ran)
    value.index = value.index + pd.Timedelta(seconds=ahead)
    near = pd.Timedelta(seconds=0.5 * float(windows["window_s"].iloc[0]))
    return value.reindex(windows.index, method="nearest", tolerance=near)


def _tracked(
    measured: pd.Series,
    expected: pd.Series,
    before: pd.Series,
    ahead: float,
    learnt: int,
) -> pd.Series:
    """Return what an expectation, its recent misses and the last reading say together.

    Over what span recent is, which share of a miss lasts and what a reading is
    worth beside the expectation is learnt in the first so many windows.
    """
    miss = measured - expected
    there = miss.dropna()
    last = before.reindex(measured.index)
    best, result = np.inf, expected
    for hours in _HALF_LIVES_H:
        half = pd.Timedelta(hours=hours)
        times = pd.DatetimeIndex(there.index)
        # The stubs know of no half-life in time.
        level = there.ewm(halflife=half, times=times).mean()  # type: ignore[arg-type]
        level.index = times + pd.Timedelta(seconds=ahead)
        level = level.reindex(measured.index, method="ffill").fillna(0.0)
        terms = np.column_stack([level, last - expected])[:learnt]
        wanted = miss.to_numpy(dtype=float)[:learnt]
        good = np.isfinite(terms).all(axis=1) & np.isfinite(wanted)
        share, left, *_ = np.linalg.lstsq(terms[good], wanted[good], rcond=None)
        if len(left) and left[0] < best:
            best = float(left[0])
            result = expected + share[0] * level + share[1] * (last - expected)
    return result
