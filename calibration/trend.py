"""What each day said of a device, as one series for each indicator.

A history is a long table that grows by a score of rows a day; what is said of a day
asks for single indicators in it, many times. So it is kept taken apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Key = tuple[str, str]
"""Component and indicator."""
_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


def _us(time: datetime) -> int:
    return (time - _EPOCH) // _US


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One indicator's days in order; every array has as many entries as days.

    Attributes
    ----------
    us
        Ends of the days, since 1970 UTC. [us]
    value, low, high
        As :func:`calibration.health.daily` has them, with its 95 % interval.
    statistic, limit
        What the days' evidence had come to, and what is allowed.
    samples
        What each day rests on. [1]
    """

    us: NDArray[np.int64]
    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    statistic: NDArray[np.float64]
    limit: NDArray[np.float64]
    samples: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.us)

    def __getitem__(self, which: slice | NDArray[np.bool_]) -> Series:
        """Return some of the days: a slice, or a mask of them."""
        return Series(*(getattr(self, name)[which] for name in _FIELDS))

    def end(self, place: int) -> datetime:
        """Return when a day ended, counted from the first or, below 0, the last."""
        return _EPOCH + int(self.us[place]) * _US

    def begin(self, place: int) -> datetime:
        """Return when a day began."""
        return self.end(place) - _DAY

    @property
    def ends(self) -> pd.DatetimeIndex:
        """When each day ended. UTC."""
        return pd.DatetimeIndex(self.us.view("M8[us]")).tz_localize("UTC")

    def between(
        self, after: datetime | None = None, until: datetime | None = None
    ) -> Series:
        """Return the days that ended after one time and not after another."""
        first = 0 if after is None else self.us.searchsorted(_us(after), "right")
        last = len(self) if until is None else self.us.searchsorted(_us(until), "right")
        return self[int(first) : int(last)]

    def judged(self) -> Series:
        """Return the days that have a value."""
        known = ~np.isnan(self.value)
        return self if known.all() else self[known]

    @property
    def beyond(self) -> NDArray[np.bool_]:
        """Whether each day's statistic is over its limit."""
        return np.asarray(self.statistic > self.limit)

    def lately(self, days: int) -> float:
        """Return the median value of the last judged days; NaN without any."""
        last = self.judged().value[-days:]
        return float(np.median(last)) if len(last) else float("nan")

    def table(self) -> pd.DataFrame:
        """Return ``time`` and the other attributes as columns."""
        columns = {name: getattr(self, name) for name in _FIELDS[1:]}
        return pd.DataFrame({"time": self.ends, **columns})

    def with_statistic(self, statistic: NDArray[np.float64]) -> Series:
        """Return the same days with other evidence."""
        return replace(self, statistic=statistic)

    def followed_by(self, later: Series) -> Series:
        """Return these days and later ones."""
        pairs = ((getattr(self, name), getattr(later, name)) for name in _FIELDS)
        return Series(*map(np.concatenate, pairs))


_FIELDS = tuple(field.name for field in fields(Series))
_NAMELESS = {"unit": "", "component": "", "indicator": ""}
_EMPTY = Series(np.zeros(0, np.int64), *(np.zeros(0) for _ in _FIELDS[1:]))


@dataclass(frozen=True, slots=True, eq=False)
class Trend:
    """All of a unit's series; it is not changed, but followed by another.

    Attributes
    ----------
    unit
        Whose.
    series
        By component and indicator.
    """

    unit: str
    series: Mapping[Key, Series]

    def of(self, component: str, indicator: str) -> Series:
        """Return one series; one that never was has no days."""
        return self.series.get((component, indicator), _EMPTY)

    @property
    def first(self) -> datetime | None:
        """When the first day ended; None without any."""
        ends = [one.end(0) for one in self.series.values() if len(one)]
        return min(ends, default=None)

    def followed_by(self, rows: pd.DataFrame) -> Trend:
        """Return the trend with the rows of later days, as :func:`trend` reads them."""
        later = trend(rows, self.unit).series
        known = {
            key: self.series[key].followed_by(one) if key in self.series else one
            for key, one in later.items()
        }
        return Trend(self.unit, {**self.series, **known})

    def until(self, time: datetime) -> Trend:
        """Return the trend as it was at a time."""
        return Trend(
            self.unit,
            {key: one.between(until=time) for key, one in self.series.items()},
        )

    def rows(self) -> pd.DataFrame:
        """Return it as one table with the columns that :func:`trend` reads."""
        parts = [
            one.table().assign(unit=self.unit, component=component, indicator=indicator)
            for (component, indicator), one in self.series.items()
        ]
        frame = pd.concat(parts or [_EMPTY.table().assign(**_NAMELESS)])
        columns = ["time", *_NAMELESS, *_FIELDS[1:]]
        return frame[columns].sort_values("time", kind="stable", ignore_index=True)


def trend(history: pd.DataFrame, unit: str) -> Trend:
    """Take a history apart.

    Parameters
    ----------
    history : DataFrame
        Rows of :func:`calibration.health.daily` and of whatever has its columns.
    unit : str
        Whose rows; others are left out.

    Returns
    -------
    Trend
        Each series by time.
    """
    code, parts = pd.factorize(history["component"])
    kind, indicators = pd.factorize(history["indicator"])
    group = code * len(indicators) + kind
    mine = (history["unit"] == unit).to_numpy(dtype=bool)
    us = pd.DatetimeIndex(history["time"]).as_unit("us").asi8
    columns = [history[name].to_numpy(dtype=float) for name in _FIELDS[1:]]
    order = np.argsort(group, kind="stable")
    if not mine.all():
        order = order[mine[order]]
    group = group[order]
    bounds = np.flatnonzero(np.diff(group, prepend=-1, append=-1))
    found: dict[Key, Series] = {}
    for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        rows = order[begin:end]
        time = us[rows]
        if (np.diff(time) < 0).any():
            rows = rows[np.argsort(time, kind="stable")]
        component, indicator = divmod(int(group[begin]), len(indicators))
        found[str(parts[component]), str(indicators[indicator])] = Series(
            us[rows], *(column[rows] for column in columns)
        )
    return Trend(unit, found)
