"""Frames of many units on one grid of intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from twin.plant import Plant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


def grid(frames: Mapping[str, pd.DataFrame], step: pd.Timedelta) -> pd.DatetimeIndex:
    """Return every interval from the first to the last, and refuse what is off it."""
    spans = [frame.index for frame in frames.values() if len(frame)]
    if not spans:
        return pd.DatetimeIndex([], tz="UTC", name="time")
    for unit, frame in frames.items():
        index = frame.index
        if not isinstance(index, pd.DatetimeIndex) or index.tz is None:
            raise ValueError(
                f'ledger: frame "{unit}": its index has no time zone; '
                "a frame carries aware UTC times"
            )
        off = index[index != index.floor(step)]
        if len(off):
            raise ValueError(
                f'ledger: frame "{unit}": {off[0].isoformat()} is not a multiple of '
                f"{step}; average it to right-labelled windows of {step} first"
            )
        if not index.is_unique:
            raise ValueError(
                f'ledger: frame "{unit}": the same time stands in it twice; '
                "one row for each interval"
            )
    first = min(index[0] for index in spans)
    last = max(index[-1] for index in spans)
    return pd.date_range(first, last, freq=step, name="time")


def foretold(
    plant: Plant, frames: Mapping[str, pd.DataFrame], step: timedelta
) -> dict[str, pd.DataFrame]:
    """Fill in what timetables know, where nothing was read.

    Parameters
    ----------
    plant : Plant
        Its timetables.
    frames : mapping of str to DataFrame
        Right-labelled frames by unit, on multiples of ``step``.
    step : timedelta
        Length of an interval.

    Returns
    -------
    dict of str to DataFrame
        The frames, and one of each unit of which only a timetable knows.
    """
    filled = dict(frames)
    if not plant.timetables or not any(len(frame) for frame in frames.values()):
        return filled
    times = grid(frames, pd.Timedelta(step))
    for (unit, point), table in plant.timetables.items():
        frame = filled.get(unit)
        frame = pd.DataFrame(index=times) if frame is None else frame.reindex(times)
        known = pd.Series(table.means(times, step), index=times)
        own = frame[point].fillna(known) if point in frame else known
        filled[unit] = frame.assign(**{point: own})
    return filled


class Columns:
    """One unit's frame on the ledger's grid; an absent column is all NaN."""

    def __init__(self, frame: pd.DataFrame | None, times: pd.DatetimeIndex) -> None:
        self._length = len(times)
        self.frame = (
            pd.DataFrame(index=times) if frame is None else frame.reindex(times)
        )

    def has(self, name: str) -> bool:
        """Tell whether the unit reports it at all."""
        return name in self.frame and bool(self.frame[name].notna().any())

    def __getitem__(self, name: str) -> Array:
        if name not in self.frame:
            return np.full(self._length, np.nan)
        return np.asarray(self.frame[name].to_numpy(dtype=float, na_value=np.nan))


def summed(columns: Sequence[Array], length: int) -> Array:
    """Sum that is NaN where any part is: half a total is no total."""
    return np.sum(columns, axis=0) if columns else np.zeros(length)


def split(parts: Mapping[str, Array], limit: Array) -> dict[str, Array]:
    """Share a limit out in proportion to the parts, to none more than its own."""
    total = summed(list(parts.values()), len(limit))
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        factor = np.where(total > 0.0, np.minimum(1.0, limit / total), 0.0)
    return {name: factor * part for name, part in parts.items()}


def step_of(ledger: pd.DataFrame) -> pd.Timedelta:
    """Return the length of a ledger's intervals."""
    told = ledger.attrs.get("step_s")
    if told is not None:
        return pd.Timedelta(seconds=float(told))
    times = pd.DatetimeIndex(ledger["time"].unique()).sort_values()
    gaps = times.to_series().diff().dropna()
    return pd.Timedelta(minutes=10) if gaps.empty else gaps.min()
