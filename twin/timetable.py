"""A quantity that is known beforehand: a year of prices, a usual week of demand."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]

WEEK = 7 * 24
"""Values of a week that repeats: one for each local hour from Monday's first. [1]"""
_QUARTER = timedelta(minutes=15)


def _us(time: pd.Timestamp) -> int:
    return int(time.value) // 1000  # which counts in ns, whatever its unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """Values that each hold until the next.

    Attributes
    ----------
    source
        Where it is from, for reports: a file's name.
    values
        In SI; NaN is unknown.
    begins
        When each value begins to hold, since 1970 UTC; empty for a week that
        repeats. [us]
    until
        When the last one ends to hold, since 1970 UTC. [us]
    timezone
        Whose hours a repeated week counts.
    """

    source: str
    values: tuple[float, ...]
    begins: tuple[int, ...] = ()
    until: int = 0
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        if self.begins and len(self.begins) != len(self.values):
            raise ValueError(
                f"{self.source}: {len(self.values)} values and {len(self.begins)} times"
            )
        if not self.begins and len(self.values) != WEEK:
            raise ValueError(
                f"{self.source}: {len(self.values)} values; a week has {WEEK} hours"
            )

    def means(self, ends: pd.DatetimeIndex, step: timedelta) -> Array:
        """Return the mean over each interval that ends at a time.

        Parameters
        ----------
        ends : DatetimeIndex
            Aware, rising.
        step : timedelta
            Length of each interval.

        Returns
        -------
        ndarray
            NaN for an interval of which any part is not told.
        """
        if not len(ends):
            return np.zeros(0)
        stop = ends.as_unit("us").asi8
        start = stop - step // timedelta(microseconds=1)
        begins, values = self._told(ends[0] - step, ends[-1])
        known = np.isfinite(values[:-1])
        lengths = np.diff(begins)
        told = np.concatenate(
            [[0.0], np.cumsum(np.where(known, values[:-1], 0) * lengths)]
        )
        silent = np.concatenate([[0.0], np.cumsum(np.where(known, 0.0, lengths))])
        inside = (start >= begins[0]) & (stop <= begins[-1])

        def over(whole: Array) -> Array:
            return np.asarray(
                np.interp(stop, begins, whole) - np.interp(start, begins, whole)
            )

        with np.errstate(divide="ignore", invalid="ignore"):
            mean = over(told) / (stop - start)
        # Interpolation rounds; a microsecond of an interval is none.
        return np.where(inside & (over(silent) < 1.0), mean, np.nan)

    def _told(self, start: pd.Timestamp, stop: pd.Timestamp) -> tuple[Array, Array]:
        """Return when values begin, the end at last, and the values, NaN at last."""
        if self.begins:
            # A year of quarter hours is asked for a day at a time.
            first = max(bisect_right(self.begins, _us(start)) - 1, 0)
            last = bisect_left(self.begins, _us(stop)) + 1
            ends = (*self.begins[last : last + 1], self.until)[:1]
            return (
                np.array([*self.begins[first:last], *ends], dtype=float),
                np.array([*self.values[first:last], np.nan]),
            )
        # Every offset from UTC is a multiple of a quarter of an hour.
        quarters = pd.date_range(
            start.floor(_QUARTER), stop.ceil(_QUARTER), freq=_QUARTER
        )
        local = quarters.tz_convert(self.timezone)
        hour = np.asarray(local.day_of_week) * 24 + np.asarray(local.hour)
        return (
            quarters.as_unit("us").asi8.astype(float),
            np.asarray(self.values, dtype=float)[hour],
        )
