"""How much was seen: hours and days of quiet running, and how far they scatter."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twin.finding import Refusal

Matrix = NDArray[np.float64]

LEAST_HOURS = 25.0
LEAST_DAYS = 3
LEAST_DAY_HOURS = 2.0
LEAST_COVERAGE = 0.7
"""Share of the running time under conditions that were seen quiet as well. [1]"""
_LOAD_STEP, _LIFT_STEP_K, _CELL_HOURS = 0.2, 5.0, 1.0
MOST_ROWS = 1000
"""More windows than this are thinned evenly before a model is fitted. [1]"""


def thin(frame: pd.DataFrame, most: int = MOST_ROWS) -> pd.DataFrame:
    """Return at most so many windows, evenly taken."""
    if len(frame) <= most:
        return frame
    return frame.iloc[np.unique(np.linspace(0, len(frame) - 1, most).astype(int))]


def hours_of(windows: pd.DataFrame) -> float:
    """Return how long the windows last together. [h]."""
    return float(windows["window_s"].sum()) / 3600.0


def span_of(windows: pd.DataFrame) -> tuple[datetime, datetime, int]:
    """Return the first and last window's end, and on how many days they lie."""
    days = int(pd.DatetimeIndex(windows.index).normalize().nunique())
    return windows.index[0].to_pydatetime(), windows.index[-1].to_pydatetime(), days


def covered(windows: pd.DataFrame, load: str) -> tuple[float, str]:
    """Return how much of where a machine runs was seen quiet, and what most was not.

    Parameters
    ----------
    windows : DataFrame
        All of the period, the steady ones and the others.
    load : str
        Column of the load: the speed or a heat.

    Returns
    -------
    float, str
        Share of the running time in cells of load and lift (fifths of the largest
        load, 5 K of sink over source inlet) in which an hour at least was steady,
        NaN if it never ran [1]; and the cell in which most of the rest lies, in
        words.
    """
    ran = windows[windows["compressor_running"].to_numpy(dtype=float) > 1.0 - 1e-9]
    lift = (ran["sink_inlet_temp_degc"] - ran["source_inlet_temp_degc"]).to_numpy()
    at = ran[load].to_numpy(dtype=float)
    known = np.isfinite(at) & np.isfinite(lift)
    if not known.any():
        return float("nan"), "none"
    # The largest but for a start's overshoot.
    full = max(float(np.quantile(at[known], 0.99)), 1e-9)
    place = np.column_stack(
        [
            np.clip(np.floor(at[known] / full / _LOAD_STEP), 0.0, 1.0 / _LOAD_STEP - 1),
            np.floor(lift[known] / _LIFT_STEP_K),
        ]
    )
    cells, which = np.unique(place, axis=0, return_inverse=True)
    hours = ran["window_s"].to_numpy(dtype=float)[known] / 3600.0
    quiet = np.where(ran["steady"].to_numpy(dtype=bool)[known], hours, 0.0)
    total = np.bincount(which, hours, len(cells))
    seen = np.bincount(which, quiet, len(cells)) >= _CELL_HOURS
    load_at, lift_at = cells[int(np.argmax(np.where(seen, 0.0, total)))]
    return float(total[seen].sum() / total.sum()), (
        f"{load_at * _LOAD_STEP:.0%} to {(load_at + 1.0) * _LOAD_STEP:.0%} of its"
        f" largest load at {lift_at * _LIFT_STEP_K:.0f} to"
        f" {(lift_at + 1.0) * _LIFT_STEP_K:.0f} K from source to sink inlet"
    )


def autocorrelation(rest: Matrix, index: pd.Index) -> float:
    """Return the correlation of neighbouring windows' residuals, 0 if too few."""
    step = np.diff(pd.DatetimeIndex(index).as_unit("ns").asi8)
    if len(step) < 20:
        return 0.0
    near = step <= 1.5 * np.median(step)
    a, b = rest[:-1][near], rest[1:][near]
    good = np.isfinite(a) & np.isfinite(b)
    if good.sum() < 20 or np.std(a[good]) == 0.0 or np.std(b[good]) == 0.0:
        return 0.0
    return float(np.clip(np.corrcoef(a[good], b[good])[0, 1], 0.0, 0.95))


def scatter_of(rest: Matrix, index: pd.Index) -> tuple[float, float, float]:
    """Return a residual's scatter by window and by day, and its memory.

    Parameters
    ----------
    rest : ndarray
        Residuals of which at least one is finite.
    index : DatetimeIndex
        Their windows.

    Returns
    -------
    tuple of float
        Robust standard deviation, standard deviation of the daily medians (the
        former where there are but two days), lag-1 correlation.
    """
    good = rest[np.isfinite(rest)]
    scatter = 1.4826 * float(np.median(np.abs(good - np.median(good))))
    day = pd.DatetimeIndex(index).floor("D")
    medians = pd.Series(rest, index=day).dropna().groupby(level=0).median()
    daily = float(medians.std(ddof=1)) if len(medians) > 2 else scatter
    return scatter, daily, autocorrelation(rest, index)


def pairs(names: Sequence[str], covariance: Matrix) -> dict[str, dict[str, float]]:
    """Return the correlation of each pair of parameters. [1]."""
    deviation = np.sqrt(np.diag(covariance))
    matrix = covariance / np.outer(deviation, deviation)
    return {
        a: {b: float(matrix[i, j]) for j, b in enumerate(names) if j != i}
        for i, a in enumerate(names)
    }


def refuse(code: str, sentence: str, unit: str, **evidence: Any) -> Refusal:
    """Return a refusal about a unit."""
    return Refusal(code, sentence, {"unit": unit, **evidence})


def long_enough(
    windows: pd.DataFrame, unit: str, hours: float, days: int, of: str = ""
) -> Refusal | None:
    """Return why these windows cannot carry a reference, None if they can.

    Parameters
    ----------
    windows : DataFrame
        Those that would be used.
    unit : str
        Whose they are.
    hours, days : float, int
        The least that is needed.
    of : str
        What the running has to have, for the sentence.

    Returns
    -------
    Refusal or None
        It says what is needed and what there is.
    """
    ran = hours_of(windows)
    if ran < hours:
        return refuse(
            "reference.too_short",
            f"A reference needs {hours:.0f} h of steady running{of}; {unit} has"
            f" {ran:.1f} h.",
            unit,
            hours=ran,
            needed=hours,
        )
    seen = span_of(windows)[2]
    if seen < days:
        return refuse(
            "reference.too_few_days",
            f"A reference needs {days} days with steady running; {unit} has {seen}.",
            unit,
            days=seen,
            needed=days,
        )
    return None
