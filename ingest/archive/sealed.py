"""Finished days and months as Parquet files, one folder per unit: pyarrow's door.

A day is ``unit=<id>/<YYYY-MM-DD>.parquet``. A month that is over becomes
``<YYYY-MM>.parquet`` out of its days, written beside, renamed into place, and
only then are the days deleted; where both are there, the day wins, and it says
what the month says. So a day that comes late to a finished month is a file of
its own until the month is put together again.

Each file has a checksum of all its bytes between its data and its footer, where
no reader of Parquet looks: pages have one of their own, but a flipped bit in the
footer is believed, or ends the process inside Arrow.

Whoever reads lists the folder before and after: a file that vanished meanwhile
has become part of another.
"""

from __future__ import annotations

import calendar
import functools
import itertools
import os
import re
import struct
import urllib.parse
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ingest.archive.table import (
    DAY_MS,
    EMPTY,
    ArchiveError,
    ArchiveUnavailableError,
    Table,
    between,
    ordered,
    overlay,
    select,
)

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

FORMAT = 1
_T = TypeVar("_T")
_FLAG = "__flag"
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_NAME = re.compile(r"(\d{4})-(\d{2})(?:-(\d{2}))?\.parquet")
# Rows of a month that are compressed together: large enough that a year of
# minutes is few pieces, small enough that a day of seconds is read by itself.
_GROUP_ROWS = 65_536
_LISTINGS = 20
_MARK = b"hptwinCK"
_CHECKSUM = struct.Struct("<8sI")
_PARQUET = b"PAR1"
_BLOCK = 1 << 20
# What pyarrow's answers about a damaged file lead to, here and in itself.
_ODD = (AttributeError, KeyError, IndexError, TypeError, ValueError, OverflowError)


@dataclass(frozen=True, slots=True, order=True)
class Piece:
    """A file, and the UTC days that it covers, counted from 1970, both included."""

    first: int
    last: int
    path: Path

    @property
    def is_month(self) -> bool:
        """Whether it is a whole month."""
        return len(self.path.stem) == len("2024-01")


class DamagedError(ArchiveError):
    """A file that cannot be read, or is not as it was written."""

    def __init__(self, path: Path, found: str) -> None:
        self.path = path
        super().__init__(
            f"{path}: damaged: {found}; restore it from a backup, or go on without it"
        )


class Sealed:
    """The files of one unit.

    Parameters
    ----------
    directory : path
        The archive's; the unit's folder in it is made when it is needed.
    unit : str
        Any name.
    """

    def __init__(self, directory: Path, unit: str) -> None:
        self.folder = directory / f"unit={urllib.parse.quote(unit, safe='')}"

    def pieces(self) -> list[Piece]:
        """Return the files, months before days, each in the order of time.

        Raises
        ------
        ArchiveError
            If a file has a name that this archive does not give.
        """
        found = [_piece(path) for path in self.folder.glob("*.parquet")]
        return sorted(found, key=lambda piece: (not piece.is_month, piece))

    def span(self) -> tuple[int, int] | None:
        """Return the first and the last time in ms, None without a file."""

        def edges(pieces: list[Piece]) -> tuple[int, int] | None:
            if not pieces:
                return None
            # A day inside a month may be outside what the month has.
            begin = min(piece.last for piece in pieces)
            end = max(piece.first for piece in pieces)
            times = [
                time
                for piece in pieces
                if piece.first <= begin or piece.last >= end
                for time in _extent(piece.path)
            ]
            return min(times), max(times)

        return self._steady(edges)

    def read(
        self, start_ms: int, stop_ms: int, points: Sequence[str] | None = None
    ) -> Table:
        """Return what the files hold of a period, and of some points.

        Raises
        ------
        ArchiveError
            If a file is damaged.
        """
        first, last = start_ms // DAY_MS, (stop_ms - 1) // DAY_MS
        tables = self._steady(
            lambda pieces: [
                _read(piece.path, start_ms, stop_ms, points)
                for piece in pieces
                if piece.first <= last and piece.last >= first
            ]
        )
        return between(overlay(tables), start_ms, stop_ms)

    def _steady(self, ask: Callable[[list[Piece]], _T]) -> _T:
        """Return an answer from files that were all there the whole time."""
        pieces = self.pieces()
        for _ in range(_LISTINGS):
            answer = None
            with suppress(FileNotFoundError):
                answer = (ask(pieces),)
            before, pieces = pieces, self.pieces()
            if answer is not None and pieces == before:
                return answer[0]
        raise ArchiveUnavailableError(
            f"{self.folder}: its files change all the time; is there one writer only?"
        )

    def add(self, day: int, table: Table) -> None:
        """Lay a table over what the file of its day has, durably."""
        path = self.folder / f"{date.fromordinal(day + _EPOCH_DAY).isoformat()}.parquet"
        known = EMPTY
        if path.exists():
            known = _read(path, day * DAY_MS, (day + 1) * DAY_MS, None)
        table = select(overlay([known, table]), None)
        _write(path, [table], _names([table]))

    def compact(self, until: int) -> None:
        """Make one file of each month that ends before a day and has day files."""
        for month in sorted({p.path.stem[:7] for p in self.pieces() if not p.is_month}):
            whole = _piece(self.folder / f"{month}.parquet")
            if whole.last < until:
                days = [p for p in self.pieces() if p.path.stem[:7] == month]
                _write(whole.path, _in_groups(days), _stored(days))
                for piece in days:
                    if not piece.is_month:
                        piece.path.unlink()

    def expire(self, before: int) -> None:
        """Delete the files of which every day is before this one."""
        for piece in self.pieces():
            if piece.last < before:
                piece.path.unlink()


def units(directory: Path) -> set[str]:
    """Return the units that have a file."""
    return {
        urllib.parse.unquote(folder.name.removeprefix("unit="))
        for folder in directory.glob("unit=*")
        if next(folder.glob("*.parquet"), None) is not None
    }


def _piece(path: Path) -> Piece:
    name = _NAME.fullmatch(path.name)
    try:
        if name is None:
            raise ValueError
        year, month = int(name[1]), int(name[2])
        first = date(year, month, int(name[3] or 1)).toordinal() - _EPOCH_DAY
    except ValueError:
        raise ArchiveError(
            f"{path}: no file of this archive; its name should be a date or a month. "
            "Move it away."
        ) from None
    length = 1 if name[3] else calendar.monthrange(year, month)[1]
    return Piece(first, first + length - 1, path)


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    stat = path.stat()
    found = _fault(path, stat.st_size, stat.st_mtime_ns)
    if found:
        raise DamagedError(path, found)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except (FileNotFoundError, ArchiveError):
        raise
    except (pa.ArrowException, OSError, *_ODD) as error:
        raise DamagedError(path, str(error)) from error


@functools.lru_cache(maxsize=10_000)
def _fault(path: Path, size: int, changed_ns: int) -> str:
    """Return what is wrong with a file's bytes, looked at once after a change."""
    with path.open("rb") as file:
        footer = _footer(file, size)
        if footer < len(_PARQUET):
            return "its end is not that of a Parquet file"
        file.seek(max(0, footer - _CHECKSUM.size))
        mark, checksum = _CHECKSUM.unpack(file.read(_CHECKSUM.size))
        if mark == _MARK:
            same = checksum == _sum(file, footer - _CHECKSUM.size, footer)
            return "" if same else "its bytes are not those that were written"
        file.seek(max(0, size - _BLOCK))
        # A file of an early version has no mark anywhere.
        return "its footer is not where it was" if _MARK in file.read() else ""


def _footer(file: IO[bytes], size: int) -> int:
    """Return where a file's footer begins, 0 if there is none."""
    file.seek(max(0, size - 8))
    end = file.read(8)
    if end[4:] != _PARQUET:
        return 0
    return max(0, size - 8 - int.from_bytes(end[:4], "little"))


def _sum(file: IO[bytes], stop: int, again: int) -> int:
    """Return the checksum of a file's bytes but for those between two places."""
    file.seek(0)
    checksum = 0
    while block := file.read(min(_BLOCK, max(0, stop - file.tell()))):
        checksum = zlib.crc32(block, checksum)
    file.seek(again)
    while block := file.read(_BLOCK):
        checksum = zlib.crc32(block, checksum)
    return checksum


def _stamp(file: IO[bytes]) -> None:
    """Put the checksum in front of a finished file's footer."""
    footer = _footer(file, file.seek(0, os.SEEK_END))
    checksum = _sum(file, footer, footer)
    file.seek(footer)
    content = file.read()
    file.seek(footer)
    file.write(_CHECKSUM.pack(_MARK, checksum) + content)


def _extent(path: Path) -> tuple[int, int]:
    with _opened(path) as file:
        times = [_group_times(file, group) for group in range(file.num_row_groups)]
    return times[0][0], times[-1][1]


def _group_times(file: pq.ParquetFile, group: int) -> tuple[int, int]:
    known = file.metadata.row_group(group).column(0).statistics
    return int(known.min_raw), int(known.max_raw)


def _read(
    path: Path, start_ms: int, stop_ms: int, points: Sequence[str] | None
) -> Table:
    with _opened(path) as file:
        some = []
        for group in range(file.num_row_groups):
            first, last = _group_times(file, group)
            if first < stop_ms and last >= start_ms:
                some.append(group)
        stored = [name for name in file.schema_arrow.names if name != "time"]
        columns = [
            name
            for name in stored
            if points is None or name.removesuffix(_FLAG) in points
        ]
        # Arrow's own threads take a column each.
        return _table(file.read_row_groups(some, columns=["time", *columns]))


def _table(content: pa.Table) -> Table:
    columns: dict[str, Any] = {
        name: content.column(name).to_numpy() for name in content.column_names
    }
    times = columns.pop("time").astype(np.int64)
    return Table(
        times,
        {name: cells for name, cells in columns.items() if not name.endswith(_FLAG)},
        {
            name.removesuffix(_FLAG): marks
            for name, marks in columns.items()
            if name.endswith(_FLAG)
        },
    )


def _in_groups(pieces: Sequence[Piece]) -> Iterator[Table]:
    """Yield a month's tables in the order of time, a few days in memory at once.

    A row group is made of whole days, so what a day file has over it is
    merged group by group.
    """
    days = [piece for piece in pieces if not piece.is_month]
    for piece in pieces:
        if piece.is_month:
            with _opened(piece.path) as file:
                for group in range(file.num_row_groups):
                    _, last = _group_times(file, group)
                    mine = [day for day in days if day.first <= last // DAY_MS]
                    days = days[len(mine) :]
                    yield overlay(
                        [_table(file.read_row_group(group)), *map(_whole, mine)]
                    )
    yield from map(_whole, days)


def _whole(piece: Piece) -> Table:
    return _read(piece.path, piece.first * DAY_MS, (piece.last + 1) * DAY_MS, None)


def _names(tables: Sequence[Table]) -> list[str]:
    """Return the columns of a file that is to hold these tables."""
    marked = {name for t in tables for name, marks in t.flags.items() if marks.any()}
    return _columns({name for table in tables for name in table.cells}, marked)


def _stored(pieces: Sequence[Piece]) -> list[str]:
    """Return the columns of a file that is to hold these files."""
    points: set[str] = set()
    marked: set[str] = set()
    for piece in pieces:
        with _opened(piece.path) as file:
            for name in file.schema_arrow.names:
                if name.endswith(_FLAG):
                    marked.add(name.removesuffix(_FLAG))
                elif name != "time":
                    points.add(name)
    return _columns(points, marked)


def _columns(points: set[str], marked: set[str]) -> list[str]:
    both = (
        [name, name + _FLAG] if name in marked else [name] for name in ordered(points)
    )
    return ["time", *itertools.chain.from_iterable(both)]


def _write(path: Path, tables: Iterable[Table], names: Sequence[str]) -> None:
    """Write tables beside a file and rename it into place, all of it synced."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def kind(name: str) -> pa.DataType:
        if name == "time":
            return pa.timestamp("ms", tz="UTC")
        return pa.uint8() if name.endswith(_FLAG) else pa.float64()

    schema = pa.schema(
        [(name, kind(name)) for name in names], {"hptwin_format": str(FORMAT)}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp")
    groups = _groups(tables)
    first = next(groups)
    repeating = [name for name, cells in first.cells.items() if _repeats(cells)]
    try:
        with (
            beside.open("w+b") as file,
            pq.ParquetWriter(
                file,
                schema,
                compression="zstd",
                write_page_checksum=True,
                use_dictionary=repeating,
                use_byte_stream_split=[
                    name
                    for name in names
                    if kind(name) == pa.float64() and name not in repeating
                ],
                column_encoding={
                    "time": "DELTA_BINARY_PACKED",
                    **{n: "PLAIN" for n in names if n.endswith(_FLAG)},
                },
            ) as writer,
        ):
            for group in itertools.chain([first], groups):
                writer.write_table(_arrow(group, schema), len(group.times))
            writer.close()
            _stamp(file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _groups(tables: Iterable[Table]) -> Iterator[Table]:
    """Yield tables joined to at least the size of a row group."""
    waiting: list[Table] = []
    for table in tables:
        waiting.append(table)
        if sum(len(t.times) for t in waiting) >= _GROUP_ROWS:
            yield overlay(waiting)
            waiting = []
    if waiting:
        yield overlay(waiting)


def _repeats(cells: NDArray[np.float64]) -> bool:
    """Whether a column has few values, as a sensor with few digits does.

    A dictionary then takes a third of the space of the split bytes, which are
    the better ones for values that were calculated.
    """
    some = cells[:8192]
    return len(np.unique(some)) < len(some) // 2


def _arrow(table: Table, schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    rows = len(table.times)
    arrays = []
    for item in schema:
        point = item.name.removesuffix(_FLAG)
        # NaN is this archive's missing, also on disk: no null bitmap to keep.
        if item.name == "time":
            column: NDArray[np.generic] = table.times
        elif item.name == point:
            column = table.cells.get(point, np.full(rows, np.nan))
        else:
            column = table.flags.get(point, np.zeros(rows, np.uint8))
        arrays.append(pa.array(column, item.type, from_pandas=False))
    return pa.table(arrays, schema=schema)
