"""Approach: how near an exchanger brings its two sides, beyond what it should.

The oldest sign of fouling, and the one that maintenance staff know: the condensing
temperature above the liquid that leaves, and that liquid above the evaporating one
on the other side. It grows with load, so that what counts is the excess over the
reference's own at the same load, flows and temperatures.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import numpy as np
import pandas as pd

from calibration.health import COLUMNS
from calibration.model import Model
from calibration.period import LEAST_DAY_HOURS, hours_of

EXCESS = "approach_excess_k"
"""Indicator of the excess; the component is the exchanger."""
_PARTS = {
    "condenser": ("expected_condensing_temp_degc", "expected_sink_outlet_temp_degc"),
    "evaporator": (
        "expected_source_outlet_temp_degc",
        "expected_evaporating_temp_degc",
    ),
}
_DRIFT_K = 0.1  # 1 sigma: liquid probe and gauge since the reference
_MEMORY = 6.0  # windows that tell the same, of ten minutes


def daily(
    windows: pd.DataFrame, expected: pd.DataFrame, model: Model, end: datetime
) -> pd.DataFrame:
    """Say how much wider the approaches of one day are than the reference's.

    Parameters
    ----------
    windows : DataFrame
        Of :func:`calibration.steady.windows`, of one day.
    expected : DataFrame
        What the reference expects of them, of :func:`calibration.model.expect`.
    model : Model
        The machine's reference.
    end : datetime
        The end of the day. UTC.

    Returns
    -------
    DataFrame
        Rows with the columns of :func:`calibration.health.daily`: ``value`` is the
        median excess with its 95 % interval, of scatter and of what probe and gauge
        may have drifted [K]. ``statistic`` is 0, for conductance is the detector. No
        row where pressures lack or the day ran steadily for less than two hours.
    """
    rows = [
        {
            "time": pd.Timestamp(end),
            "unit": model.unit,
            "component": part,
            "indicator": EXCESS,
            "value": value,
            "low": value - half,
            "high": value + half,
            "statistic": 0.0,
            "limit": 1.0,
            "samples": samples,
        }
        for part, value, half, samples in _excesses(windows, expected)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _excesses(
    windows: pd.DataFrame, expected: pd.DataFrame
) -> Iterator[tuple[str, float, float, int]]:
    steady = windows["steady"].to_numpy(dtype=bool)
    for part, (warm, cold) in _PARTS.items():
        name = f"{part}_approach_k"
        if name not in windows:
            continue
        excess = (windows[name] - (expected[warm] - expected[cold])).to_numpy(float)
        good = steady & np.isfinite(excess)
        if hours_of(windows[good]) < LEAST_DAY_HOURS:
            continue
        own = excess[good]
        middle = float(np.median(own))
        spread = 1.4826 * float(np.median(np.abs(own - middle)))
        alone = max(len(own) / _MEMORY, 1.0)
        # A median of normal deviates scatters 1.25 times as much as their mean.
        sigma = float(np.hypot(_DRIFT_K, 1.25 * spread / np.sqrt(alone)))
        yield part, middle, 1.96 * sigma, len(own)
