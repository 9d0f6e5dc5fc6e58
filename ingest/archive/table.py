"""Readings as columns: the form that every archive stores and answers in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ingest.reading import Reading, Readings
from twin.points import POINTS

if TYPE_CHECKING:
    import pandas as pd

_T = TypeVar("_T", bound=np.generic)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
DAY_MS = 86_400_000
_ORDER = {name: number for number, name in enumerate(POINTS)}


class ArchiveError(ValueError):
    """The archive cannot be used as configured, or what it holds is damaged."""


class ArchiveUnavailableError(ConnectionError):
    """The archive takes nothing now; hold what you have and try again."""


class Refused(NamedTuple):
    """A reading that the archive will never take, and why.

    ``place`` is its row in what was written.
    """

    place: int
    reason: str


@dataclass(frozen=True, slots=True)
class Table:
    """Values by time: a column per point, NaN where there is no reading.

    Attributes
    ----------
    times : ndarray of int64
        Sorted and unique. [ms]
    cells : mapping of str to ndarray of float64
        In the vocabulary's order.
    flags : mapping of str to ndarray of uint8
        Codes, of the points that have any; a point that has none may be
        missing here.
    """

    times: NDArray[np.int64]
    cells: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    flags: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)

    @property
    def points(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.cells)

    def rows(self, some: slice | NDArray[np.bool_]) -> Table:
        """Return some of the rows."""
        return Table(
            self.times[some],
            {name: cells[some] for name, cells in self.cells.items()},
            {name: marks[some] for name, marks in self.flags.items()},
        )

    def columns(self, points: Iterable[str]) -> Table:
        """Return the columns of these points, those of them that there are."""
        wanted = [name for name in points if name in self.cells]
        return Table(
            self.times,
            {name: self.cells[name] for name in wanted},
            {name: self.flags[name] for name in wanted if name in self.flags},
        )


EMPTY = Table(np.empty(0, np.int64))


class Shelf(ABC):
    """What every archive answers alike, from the table that it finds."""

    @abstractmethod
    def _table(
        self, unit: str, start_ms: int, stop_ms: int, points: tuple[str, ...] | None
    ) -> Table:
        """Return what is kept of a unit; more points than wanted do no harm."""

    def frame(
        self,
        unit: str,
        start: datetime,
        stop: datetime,
        points: Iterable[str] | None = None,
    ) -> pd.DataFrame:
        """Return a unit's clean values; see :class:`ingest.archive.Archive`."""
        return clean_frame(self._selected(unit, start, stop, points))

    def flagged(
        self,
        unit: str,
        start: datetime,
        stop: datetime,
        points: Iterable[str] | None = None,
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return a unit's values as they came, and their flags."""
        table = self._selected(unit, start, stop, points)
        return values_frame(table), flags_frame(table)

    def _selected(
        self, unit: str, start: datetime, stop: datetime, points: Iterable[str] | None
    ) -> Table:
        wanted = None if points is None else tuple(points)
        return select(self._table(unit, ms(start), ms(stop), wanted), wanted)


def ordered(points: Iterable[str]) -> tuple[str, ...]:
    """Return points in the vocabulary's order; strangers last, by name."""
    return tuple(sorted(set(points), key=lambda p: (_ORDER.get(p, len(_ORDER)), p)))


def columnar(readings: Readings | Sequence[Reading]) -> Readings:
    """Return readings as columns.

    Raises
    ------
    ValueError
        If a value is not finite, which no decoder lets through.
    """
    if not isinstance(readings, Readings):
        readings = Readings.of(readings)
    finite = np.isfinite(readings.values)
    if not finite.all():
        wrong = next(iter(readings.take(~finite)))
        raise ValueError(f"{wrong.unit} {wrong.point}: {wrong.value} cannot be kept")
    return readings


def by_unit(readings: Readings) -> Iterator[tuple[str, NDArray[np.intp] | slice]]:
    """Yield each unit of some readings with its rows, in their order."""
    groups: dict[str, int] = {}
    group_of = np.zeros(len(readings.keys), np.intp)
    for series in np.flatnonzero(np.bincount(readings.series)).tolist():
        unit = readings.keys[series][0]
        group_of[series] = groups.setdefault(unit, len(groups))
    yield from zip(groups, _split(group_of[readings.series], len(groups)), strict=True)


def by_day(
    times: NDArray[np.int64],
) -> Iterator[tuple[int, NDArray[np.intp] | slice]]:
    """Yield each UTC day of some times with its rows, in their order."""
    first, last = int(times.min()) // DAY_MS, int(times.max()) // DAY_MS
    if first == last:
        yield first, slice(None)
        return
    day_of = times // DAY_MS
    days = np.unique(day_of)
    group = np.searchsorted(days, day_of)
    yield from zip(days.tolist(), _split(group, len(days)), strict=True)


def _split(
    group: NDArray[np.integer], number: int
) -> Iterator[NDArray[np.intp] | slice]:
    if number == 1:
        yield slice(None)
    elif number:
        # Of two bytes it is sorted by radix, not by comparing.
        small = group.astype(np.uint16) if number < 1 << 16 else group
        rows = np.argsort(small, kind="stable")
        yield from np.split(rows, np.cumsum(np.bincount(group, minlength=number))[:-1])


def tabulate(
    times: NDArray[np.int64],
    codes: NDArray[np.integer],
    values: NDArray[np.float64],
    flags: NDArray[np.uint8],
    names: Mapping[int, str] | Sequence[str],
) -> Table:
    """Return a table of long readings; of one time and point the last wins.

    ``names`` gives the point of each code.
    """
    if not len(times):
        return EMPTY
    known = np.flatnonzero(np.bincount(codes)).tolist()
    points = ordered(names[code] for code in known)
    place = {name: column for column, name in enumerate(points)}
    column_of = np.zeros(known[-1] + 1, np.intp)
    for code in known:
        column_of[code] = place[names[code]]
    # Readings of one instant mostly stand together: sort the runs, not each.
    begins = np.flatnonzero(np.diff(times, prepend=times[0] - 1))
    index, run = np.unique(times[begins], return_inverse=True)
    rows = np.repeat(run, np.diff(begins, append=len(times)))
    # Into one flat array: numpy assigns in order, so of equal targets the last
    # one stays; that is documented for assignment through integer indices.
    targets = column_of[codes] * len(index) + rows
    cells = np.full(len(points) * len(index), np.nan)
    cells[targets] = values
    marked: dict[str, NDArray[np.uint8]] = {}
    if flags.any():
        marks = np.zeros(len(cells), np.uint8)
        marks[targets] = flags
        marked = _named(points, marks.reshape(len(points), -1))
    return Table(index, _named(points, cells.reshape(len(points), -1)), marked)


def _named(points: Sequence[str], matrix: NDArray[_T]) -> dict[str, NDArray[_T]]:
    return dict(zip(points, matrix, strict=True))


def overlay(tables: Sequence[Table]) -> Table:
    """Return several tables as one; where two have a value the later wins."""
    tables = [table for table in tables if len(table.times)]
    clusters: list[list[int]] = []
    end = 0
    for place in sorted(range(len(tables)), key=lambda n: int(tables[n].times[0])):
        first, last = tables[place].times[[0, -1]].tolist()
        if not clusters or first > end:
            clusters.append([])
        clusters[-1].append(place)
        end = last if len(clusters[-1]) == 1 else max(end, last)
    # Days one after another, the usual case: no cell has two candidates.
    return _joined(
        [_merged([tables[place] for place in sorted(some)]) for some in clusters]
    )


def _joined(tables: Sequence[Table]) -> Table:
    """Return tables of which each ends before the next begins as one."""
    if len(tables) < 2:
        return tables[0] if tables else EMPTY
    values, flags = _blank(tables, sum(len(table.times) for table in tables))
    first = 0
    for table in tables:
        rows = slice(first, first + len(table.times))
        first += len(table.times)
        for name, column in values.items():
            column[rows] = table.cells.get(name, np.nan)
        for name, codes in table.flags.items():
            flags[name][rows] = codes
    return Table(np.concatenate([table.times for table in tables]), values, flags)


def _merged(tables: Sequence[Table]) -> Table:
    """Return tables that share times as one."""
    if len(tables) == 1:
        return tables[0]
    times = np.unique(np.concatenate([table.times for table in tables]))
    values, flags = _blank(tables, len(times))
    for column in values.values():
        column.fill(np.nan)
    for table in tables:
        places = np.searchsorted(times, table.times)
        for name, new in table.cells.items():
            here = ~np.isnan(new)
            values[name][places[here]] = new[here]
            if name in flags:
                codes = table.flags.get(name, np.zeros(len(new), np.uint8))
                flags[name][places[here]] = codes[here]
    return Table(times, values, flags)


def _blank(
    tables: Sequence[Table], rows: int
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.uint8]]]:
    points = ordered(name for table in tables for name in table.cells)
    marked = [name for name in points if any(name in t.flags for t in tables)]
    return (
        _named(points, np.empty((len(points), rows))),
        _named(marked, np.zeros((len(marked), rows), np.uint8)),
    )


def between(table: Table, start_ms: int, stop_ms: int) -> Table:
    """Return the part from ``start_ms`` until before ``stop_ms``."""
    first, last = np.searchsorted(table.times, [start_ms, stop_ms])
    if first == 0 and last == len(table.times):
        return table
    return table.rows(slice(int(first), int(last)))


def select(table: Table, points: Iterable[str] | None) -> Table:
    """Return chosen columns, or those with a reading; rows with none go."""
    there = np.zeros(len(table.times), np.bool_)
    wanted: dict[str, NDArray[np.float64]] = {}
    for name in table.cells if points is None else points:
        cells = table.cells.get(name)
        if cells is None:
            wanted[name] = np.full(len(table.times), np.nan)
            continue
        here = ~np.isnan(cells)
        if points is not None or here.any():
            wanted[name] = cells
        there |= here
    flags = {name: marks for name, marks in table.flags.items() if name in wanted}
    table = Table(table.times, wanted, flags)
    return table if there.all() else table.rows(there)


def values_frame(table: Table) -> pd.DataFrame:
    """Return values as they came."""
    return _frame(table, _matrix(table))


def flags_frame(table: Table) -> pd.DataFrame:
    """Return the flag codes."""
    marks = np.zeros((len(table.cells), len(table.times)), np.uint8)
    for row, name in zip(marks, table.cells, strict=True):
        if name in table.flags:
            row[:] = table.flags[name]
    return _frame(table, marks)


def clean_frame(table: Table) -> pd.DataFrame:
    """Return values with NaN in the place of suspect ones."""
    cells = _matrix(table)
    for row, name in zip(cells, table.cells, strict=True):
        if name in table.flags:
            row[table.flags[name] != 0] = np.nan
    return _frame(table, cells)


def _matrix(table: Table) -> NDArray[np.float64]:
    cells = np.empty((len(table.cells), len(table.times)))
    for row, values in zip(cells, table.cells.values(), strict=True):
        row[:] = values
    return cells


def _frame(
    table: Table, matrix: NDArray[np.float64] | NDArray[np.uint8]
) -> pd.DataFrame:
    """Return a frame over a matrix with a row per point, pandas' own layout."""
    import pandas as pd

    index = pd.DatetimeIndex(
        table.times.astype("datetime64[ms]"), name="time"
    ).tz_localize("UTC")
    return pd.DataFrame(matrix.T, index=index, columns=list(table.cells), copy=False)


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
