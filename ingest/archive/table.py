"""Readings as columns: the form that every archive stores and answers in."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingest.reading import FLAG_CODE, Reading
from twin.points import POINTS

if TYPE_CHECKING:
    import pandas as pd

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
DAY_MS = 86_400_000
_ORDER = {name: number for number, name in enumerate(POINTS)}


class ArchiveError(ValueError):
    """The archive cannot be used as configured, or what it holds is damaged."""


class ArchiveUnavailableError(ConnectionError):
    """The archive takes nothing now; hold what you have and try again."""


class Refused(NamedTuple):
    """A reading that the archive will never take, and why."""

    reading: Reading
    reason: str


@dataclass(frozen=True, slots=True)
class Table:
    """Times by points: cells with NaN where there is none, and flag codes."""

    times: NDArray[np.int64]
    points: tuple[str, ...]
    cells: NDArray[np.float64]
    flags: NDArray[np.uint8]


EMPTY = Table(np.empty(0, np.int64), (), np.empty((0, 0)), np.empty((0, 0), np.uint8))


def ordered(points: Iterable[str]) -> tuple[str, ...]:
    """Return points in the vocabulary's order; strangers last, by name."""
    return tuple(sorted(set(points), key=lambda p: (_ORDER.get(p, len(_ORDER)), p)))


def tabulate(
    times: NDArray[np.int64],
    codes: NDArray[np.integer],
    values: NDArray[np.float64],
    flags: NDArray[np.uint8],
    names: Mapping[int, str],
) -> Table:
    """Return a table of long readings; of one time and point the last wins."""
    if not len(times):
        return EMPTY
    points = ordered(names[code] for code in np.unique(codes).tolist())
    place = {name: column for column, name in enumerate(points)}
    column_of = np.zeros(int(codes.max()) + 1, np.intp)
    for code in np.unique(codes).tolist():
        column_of[code] = place[names[code]]
    index, rows = np.unique(times, return_inverse=True)
    table = np.full((len(index), len(points)), np.nan)
    marks = np.zeros((len(index), len(points)), np.uint8)
    # numpy assigns in order, so of equal targets the last one stays; that is
    # documented for assignment through integer indices.
    table[rows, column_of[codes]] = values
    marks[rows, column_of[codes]] = flags
    return Table(index, points, table, marks)


def overlay(tables: Sequence[Table]) -> Table:
    """Return several tables as one; where two have a value the later wins."""
    tables = [table for table in tables if len(table.times)]
    if not tables:
        return EMPTY
    if len(tables) == 1:
        return tables[0]
    points = ordered(name for table in tables for name in table.points)
    place = {name: column for column, name in enumerate(points)}
    apart = all(a.times[-1] < b.times[0] for a, b in itertools.pairwise(tables))
    stacked = np.concatenate([table.times for table in tables])
    times = stacked if apart else np.unique(stacked)
    values = np.full((len(times), len(points)), np.nan)
    flags = np.zeros((len(times), len(points)), np.uint8)
    if apart:
        # Days one after another, the usual case: no cell has two candidates.
        first = 0
        for table in tables:
            rows = slice(first, first + len(table.times))
            first += len(table.times)
            if table.points == points:
                values[rows], flags[rows] = table.cells, table.flags
            else:
                targets = [place[name] for name in table.points]
                values[rows, targets] = table.cells
                flags[rows, targets] = table.flags
        return Table(times, points, values, flags)
    for table in tables:
        places = np.searchsorted(times, table.times)
        for column, name in enumerate(table.points):
            new = table.cells[:, column]
            here = ~np.isnan(new)
            target = place[name]
            values[places, target] = np.where(here, new, values[places, target])
            flags[places, target] = np.where(
                here, table.flags[:, column], flags[places, target]
            )
    return Table(times, points, values, flags)


def between(table: Table, start_ms: int, stop_ms: int) -> Table:
    """Return the part from ``start_ms`` until before ``stop_ms``."""
    first, last = np.searchsorted(table.times, [start_ms, stop_ms])
    if first == 0 and last == len(table.times):
        return table
    some = slice(int(first), int(last))
    return Table(table.times[some], table.points, table.cells[some], table.flags[some])


def select(table: Table, points: Iterable[str] | None) -> Table:
    """Return chosen columns, or those with a reading; rows with none go."""
    here = ~np.isnan(table.cells)
    if points is None:
        known = np.flatnonzero(here.any(axis=0)).tolist()
        wanted = tuple(table.points[column] for column in known)
    else:
        wanted = tuple(points)
    if wanted != table.points:
        place = {name: column for column, name in enumerate(table.points)}
        values = np.full((len(table.times), len(wanted)), np.nan)
        flags = np.zeros((len(table.times), len(wanted)), np.uint8)
        for column, name in enumerate(wanted):
            if name in place:
                values[:, column] = table.cells[:, place[name]]
                flags[:, column] = table.flags[:, place[name]]
        table = Table(table.times, wanted, values, flags)
        here = ~np.isnan(values)
    rows = here.any(axis=1)
    if rows.all():
        return table
    return Table(table.times[rows], wanted, table.cells[rows], table.flags[rows])


def values_frame(table: Table) -> pd.DataFrame:
    """Return values as they came."""
    return _frame(table, table.cells.copy())


def flags_frame(table: Table) -> pd.DataFrame:
    """Return the flag codes."""
    return _frame(table, table.flags.copy())


def clean_frame(table: Table) -> pd.DataFrame:
    """Return values with NaN in the place of suspect ones."""
    cells = table.cells.copy()
    cells[table.flags != 0] = np.nan
    return _frame(table, cells)


def _frame(
    table: Table, cells: NDArray[np.float64] | NDArray[np.uint8]
) -> pd.DataFrame:
    import pandas as pd

    index = pd.DatetimeIndex(
        table.times.astype("datetime64[ms]"), name="time"
    ).tz_localize("UTC")
    return pd.DataFrame(cells, index=index, columns=list(table.points), copy=False)


def as_arrays(
    readings: Sequence[Reading], codes: Mapping[str, int]
) -> tuple[
    NDArray[np.int64], NDArray[np.uint16], NDArray[np.float64], NDArray[np.uint8]
]:
    """Return readings as times, point codes, values and flag codes.

    Raises
    ------
    ValueError
        If a value is not finite, which no decoder lets through.
    """
    _, names, stamps, numbers, marks = zip(*readings, strict=True)
    times = np.array(stamps, np.int64)
    points = np.array([codes[name] for name in names], np.uint16)
    values = np.array(numbers, np.float64)
    flags = np.array([FLAG_CODE[mark] for mark in marks], np.uint8)
    if not np.isfinite(values).all():
        wrong = readings[int(np.flatnonzero(~np.isfinite(values))[0])]
        raise ValueError(f"{wrong.unit} {wrong.point}: {wrong.value} cannot be kept")
    return times, points, values, flags


def ms(moment: datetime) -> int:
    """Return an aware datetime in ms since 1970, rounded up.

    Raises
    ------
    ValueError
        If it has no zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone; give it one, such as UTC")
    return -((_EPOCH - moment) // _MILLISECOND)


def moment(time_ms: int) -> datetime:
    """Return ms since 1970 as an aware datetime."""
    return _EPOCH + int(time_ms) * _MILLISECOND
