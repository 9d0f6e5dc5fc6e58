"""The embedded archive: a tail that any process can read, and sealed days.

New readings go into the *tail*, a SQLite file (WAL, ``synchronous=FULL``) of
batches, each a block of fixed-size records of one unit and one UTC day. A day
that is over is *sealed*: merged with its file if there is one, written as
``unit=<id>/<date>.parquet`` beside it, renamed into place, and only then
deleted from the tail. A crash between the two leaves both, which reads the
same. Readings that come late for a sealed day wait in the tail and are merged
with the next sealing.

A reader takes the tail first and the files second; whatever is sealed
meanwhile it sees twice, never not at all. One process writes, which a lock
ensures from its first write on; any number read.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import threading
import urllib.parse
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ingest.archive.table import (
    DAY_MS,
    EMPTY,
    ArchiveError,
    ArchiveUnavailableError,
    Refused,
    Table,
    as_arrays,
    between,
    clean_frame,
    flags_frame,
    moment,
    ms,
    overlay,
    select,
    tabulate,
    values_frame,
)
from ingest.reading import Reading

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_log = logging.getLogger(__name__)

FORMAT = 1
_RECORD = np.dtype(
    [("time", "<i8"), ("point", "<u2"), ("value", "<f8"), ("flag", "u1")]
)
_SCHEMA = """
CREATE TABLE batch (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    unit TEXT NOT NULL,
    day INTEGER NOT NULL,
    readings INTEGER NOT NULL,
    records BLOB NOT NULL
);
CREATE INDEX batch_of_day ON batch (unit, day, id);
CREATE TABLE point (code INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
"""
_FLAG = "__flag"
_EPOCH_DAY = date(1970, 1, 1).toordinal()
# Small batches of one day are joined, else a slow plant's day is a hundred
# thousand rows; a joined batch of this size is left alone.
_JOIN_ROWS = 512
_BIG = 50_000


class ParquetArchive:
    """Readings in a folder, without any server.

    Parameters
    ----------
    directory : path
        Made if missing.
    read_only : bool
        For a second process: look, and change nothing.
    seal_after : int
        How many readings may be in the tail before finished days are sealed,
        beside the sealing at each new day.

    Raises
    ------
    ArchiveError
        If the folder cannot be used, or was written by a newer version.
    """

    def __init__(
        self, directory: Path, *, read_only: bool = False, seal_after: int = 2_000_000
    ) -> None:
        self.directory = Path(directory)
        self._read_only = read_only
        self._seal_after = seal_after
        self._lock = threading.Lock()
        self._tail_path = self.directory / "tail.sqlite"
        self._small: defaultdict[tuple[str, int], int] = defaultdict(int)
        self._newest: dict[str, int] = {}
        self._in_tail = 0
        self._codes: dict[str, int] = {}
        self._writer: sqlite3.Connection | None = None
        self._claim: IO[str] | None = None
        if not read_only:
            self._open()

    def write(self, readings: Sequence[Reading]) -> Sequence[Refused]:
        """Keep readings durably; see :class:`ingest.archive.Archive`."""
        if self._writer is None:
            raise ArchiveError(f"{self.directory}: opened for reading only")
        if not readings:
            return ()
        groups: dict[tuple[str, int], list[Reading]] = {}
        for reading in readings:
            key = (reading.unit, reading.time_ms // DAY_MS)
            group = groups.get(key)
            if group is None:
                group = groups[key] = []
            group.append(reading)
        with self._lock, _failing(self._tail_path):
            self._take_over()
            with self._writer:
                self._name({reading.point for reading in readings})
                for (unit, day), group in groups.items():
                    records = _records(group, self._codes)
                    self._insert(unit, day, records)
            # Nothing below may fail a write that is already durable.
            new_day = False
            for unit, day in groups:
                self._small[unit, day] += 1
                known = self._newest.get(unit)
                if known is None or day > known:
                    new_day = new_day or known is not None
                    self._newest[unit] = day
                if self._small[unit, day] >= _JOIN_ROWS:
                    self._join(unit, day)
            self._in_tail += len(readings)
            if new_day or self._in_tail > self._seal_after:
                self._seal(every=False)
        return ()

    def seal(self) -> None:
        """Move everything from the tail into the files, unfinished days too."""
        if self._writer is None:
            raise ArchiveError(f"{self.directory}: opened for reading only")
        with self._lock, _failing(self._tail_path):
            self._take_over()
            self._seal(every=True)

    def frame(
        self,
        unit: str,
        start: datetime,
        stop: datetime,
        points: Iterable[str] | None = None,
    ) -> pd.DataFrame:
        """Return a unit's clean values; see :class:`ingest.archive.Archive`."""
        return clean_frame(self._table(unit, start, stop, points))

    def flagged(
        self,
        unit: str,
        start: datetime,
        stop: datetime,
        points: Iterable[str] | None = None,
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return a unit's values as they came, and their flags."""
        table = self._table(unit, start, stop, points)
        return values_frame(table), flags_frame(table)

    def units(self) -> list[str]:
        """Return the units of which anything is kept, sorted."""
        found: set[str] = set()
        with self._reading() as tail:
            if tail is not None:
                found.update(
                    row[0] for row in tail.execute("SELECT DISTINCT unit FROM batch")
                )
        for folder in self.directory.glob("unit=*"):
            if next(folder.glob("*.parquet"), None) is not None:
                found.add(urllib.parse.unquote(folder.name.removeprefix("unit=")))
        return sorted(found)

    def span(self, unit: str) -> tuple[datetime, datetime] | None:
        """Return the times of a unit's first and last reading, None if none."""
        days = {_day(path) for path in self._folder(unit).glob("*.parquet")}
        with self._reading() as tail:
            if tail is not None:
                days.update(
                    row[0]
                    for row in tail.execute(
                        "SELECT DISTINCT day FROM batch WHERE unit = ?", (unit,)
                    )
                )
        if not days:
            return None
        first = self._load(unit, min(days) * DAY_MS, (min(days) + 1) * DAY_MS, None)
        last = self._load(unit, max(days) * DAY_MS, (max(days) + 1) * DAY_MS, None)
        return moment(int(first.times[0])), moment(int(last.times[-1]))

    def close(self) -> None:
        """Let go of the files; nothing that was written is lost."""
        with self._lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            if self._claim is not None:
                self._claim.close()
                self._claim = None

    def _open(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            writer = sqlite3.connect(
                self._tail_path, timeout=30.0, check_same_thread=False
            )
            writer.execute("PRAGMA journal_mode=WAL")
            writer.execute("PRAGMA synchronous=FULL")
            version = writer.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                with writer:
                    writer.executescript("BEGIN;" + _SCHEMA)
                    writer.execute(f"PRAGMA user_version={FORMAT}")
        except (OSError, sqlite3.Error) as error:
            raise ArchiveError(
                f"archive {self.directory}: {error}; the folder must be writable, and "
                "hold no other program's files"
            ) from error
        if version not in (0, FORMAT):
            writer.close()
            raise ArchiveError(
                f"archive {self.directory}: format {version}; this version of hptwin "
                f"reads {FORMAT}. Use the version that wrote it."
            )
        self._writer = writer

    def _take_over(self) -> None:
        """Before the first write: be the only writer, and know what is there."""
        if self._claim is not None:
            return
        assert self._writer is not None  # noqa: S101
        writer = self._writer
        claim = (self.directory / "writer.lock").open("w")
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            claim.close()
            raise ArchiveError(
                f"archive {self.directory}: another process writes to it; stop that "
                "one, or only read here"
            ) from error
        self._claim = claim
        self._codes = {
            name: code for code, name in writer.execute("SELECT code, name FROM point")
        }
        for unit, day, rows, readings in writer.execute(
            "SELECT unit, day, COUNT(*), SUM(readings) FROM batch GROUP BY unit, day"
        ):
            self._small[unit, day] = rows
            self._in_tail += readings
            self._newest[unit] = max(day, self._newest.get(unit, day))

    def _name(self, points: set[str]) -> None:
        assert self._writer is not None  # noqa: S101
        for point in sorted(points - self._codes.keys()):
            row = self._writer.execute("INSERT INTO point (name) VALUES (?)", (point,))
            self._codes[point] = int(row.lastrowid or 0)

    def _insert(self, unit: str, day: int, records: NDArray[np.void]) -> None:
        assert self._writer is not None  # noqa: S101
        self._writer.execute(
            "INSERT INTO batch (unit, day, readings, records) VALUES (?, ?, ?, ?)",
            (unit, day, len(records), records.tobytes()),
        )

    def _join(self, unit: str, day: int) -> None:
        """Make one batch of a day's newest small ones, keeping their order."""
        assert self._writer is not None  # noqa: S101
        rows = self._writer.execute(
            "SELECT id, records FROM batch WHERE unit = ? AND day = ? AND id > "
            "(SELECT COALESCE(MAX(id), 0) FROM batch "
            " WHERE unit = ? AND day = ? AND readings >= ?) ORDER BY id",
            (unit, day, unit, day, _BIG),
        ).fetchall()
        if len(rows) > 1:
            joined = np.concatenate([np.frombuffer(row[1], _RECORD) for row in rows])
            with self._writer:
                self._writer.executemany(
                    "DELETE FROM batch WHERE id = ?", [(row[0],) for row in rows]
                )
                self._insert(unit, day, joined)
        self._small[unit, day] = 1

    def _seal(self, *, every: bool) -> None:
        assert self._writer is not None  # noqa: S101
        days = self._writer.execute(
            "SELECT DISTINCT unit, day FROM batch ORDER BY unit, day"
        ).fetchall()
        for unit, day in days:
            if not every and day >= self._newest.get(unit, day):
                continue
            (last,) = self._writer.execute(
                "SELECT MAX(id) FROM batch WHERE unit = ? AND day = ?", (unit, day)
            ).fetchone()
            tail = _tail(self._writer, unit, day, day, None)
            path = self._file(unit, day)
            try:
                table = overlay([_file_table(path, None), tail])
            except ArchiveError as error:
                # The day stays in the tail, where it is safe, until somebody
                # has looked at the damaged file; other days go on.
                _log.error("not sealed: %s", error)
                continue
            _write_file(path, select(table, None))
            with self._writer:
                self._writer.execute(
                    "DELETE FROM batch WHERE unit = ? AND day = ? AND id <= ?",
                    (unit, day, last),
                )
            self._small.pop((unit, day), None)
        (left,) = self._writer.execute(
            "SELECT COALESCE(SUM(readings), 0) FROM batch"
        ).fetchone()
        self._in_tail = left
        # What is left cannot be sealed; wait for as much again.
        self._seal_after = max(self._seal_after, 2 * left)

    def _table(
        self,
        unit: str,
        start: datetime,
        stop: datetime,
        points: Iterable[str] | None,
    ) -> Table:
        wanted = None if points is None else tuple(points)
        return select(self._load(unit, ms(start), ms(stop), wanted), wanted)

    def _load(
        self, unit: str, start_ms: int, stop_ms: int, points: tuple[str, ...] | None
    ) -> Table:
        if stop_ms <= start_ms:
            return EMPTY
        first, last = start_ms // DAY_MS, (stop_ms - 1) // DAY_MS
        # The tail first: see the head of this file.
        with self._reading() as reader:
            tail = (
                _tail(reader, unit, first, last, points)
                if reader is not None
                else EMPTY
            )
        names = sorted(
            path
            for path in self._folder(unit).glob("*.parquet")
            if first <= _day(path) <= last
        )
        sealed = overlay([_file_table(path, points) for path in names])
        return between(overlay([sealed, tail]), start_ms, stop_ms)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        if not self._tail_path.exists():
            yield None
            return
        with _failing(self._tail_path):
            connection = sqlite3.connect(
                f"{self._tail_path.absolute().as_uri()}?mode=ro",
                uri=True,
                timeout=30.0,
                isolation_level=None,
            )
            with closing(connection):
                connection.execute("BEGIN")
                yield connection

    def _folder(self, unit: str) -> Path:
        return self.directory / f"unit={urllib.parse.quote(unit, safe='')}"

    def _file(self, unit: str, day: int) -> Path:
        name = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)).date()
        return self._folder(unit) / f"{name.isoformat()}.parquet"


def _records(readings: Sequence[Reading], codes: dict[str, int]) -> NDArray[np.void]:
    times, points, values, flags = as_arrays(readings, codes)
    records = np.empty(len(readings), _RECORD)
    records["time"], records["point"] = times, points
    records["value"], records["flag"] = values, flags
    return records


def _tail(
    reader: sqlite3.Connection,
    unit: str,
    first: int,
    last: int,
    points: tuple[str, ...] | None,
) -> Table:
    names = dict(reader.execute("SELECT code, name FROM point"))
    blocks = [
        np.frombuffer(row[0], _RECORD)
        for row in reader.execute(
            "SELECT records FROM batch WHERE unit = ? AND day BETWEEN ? AND ? "
            "ORDER BY id",
            (unit, first, last),
        )
    ]
    if not blocks:
        return EMPTY
    records = np.concatenate(blocks)
    if points is not None:
        wanted = [code for code, name in names.items() if name in points]
        records = records[np.isin(records["point"], wanted)]
    return tabulate(
        records["time"], records["point"], records["value"], records["flag"], names
    )


def _day(path: Path) -> int:
    try:
        return date.fromisoformat(path.stem).toordinal() - _EPOCH_DAY
    except ValueError:
        raise ArchiveError(
            f"{path}: no file of this archive; its name should be a date. Move it away."
        ) from None


def _file_table(path: Path, points: tuple[str, ...] | None) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        return EMPTY
    try:
        with pq.ParquetFile(path) as file:
            stored = file.schema_arrow.names
            columns = [
                name
                for name in stored
                if name == "time"
                or points is None
                or name.removesuffix(_FLAG) in points
            ]
            content: pa.Table = file.read(columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise ArchiveError(
            f"{path}: damaged: {error}; restore it from a backup, or move it away "
            "to go on without that day"
        ) from error
    names = tuple(n for n in columns if n != "time" and not n.endswith(_FLAG))
    times = content.column("time").cast(pa.int64()).to_numpy()
    # Column by column in memory, as the file has it.
    values = np.empty((len(names), len(times))).T
    flags = np.zeros((len(times), len(names)), np.uint8)
    for column, name in enumerate(names):
        values[:, column] = content.column(name).to_numpy()
        if name + _FLAG in columns:
            flags[:, column] = content.column(name + _FLAG).to_numpy()
    return Table(times, names, values, flags)


def _write_file(path: Path, table: Table) -> None:
    """Write a day beside its file and rename it into place, all of it synced."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays: dict[str, pa.Array] = {
        "time": pa.array(table.times, pa.timestamp("ms", tz="UTC"))
    }
    for column, name in enumerate(table.points):
        # NaN is this archive's missing, also on disk: no null bitmap to keep.
        arrays[name] = pa.array(table.cells[:, column], from_pandas=False)
        marks = table.flags[:, column]
        if marks.any():
            arrays[name + _FLAG] = pa.array(marks)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = pa.table(arrays).replace_schema_metadata({"hptwin_format": str(FORMAT)})
    beside = path.with_suffix(".tmp")
    with beside.open("wb") as file:
        pq.write_table(
            content,
            file,
            compression="zstd",
            use_dictionary=False,
            use_byte_stream_split=list(table.points),
            column_encoding={
                "time": "DELTA_BINARY_PACKED",
                **{n: "PLAIN" for n in arrays if n.endswith(_FLAG)},
            },
        )
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _failing(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        if isinstance(error, ArchiveUnavailableError):
            raise
        raise ArchiveUnavailableError(
            f"{path}: {error}; is the disk full, the folder writable?"
        ) from error
