"""The embedded archive: a tail that any process can read, and sealed files.

New readings go into the *tail*, a SQLite file (WAL, ``synchronous=FULL``) of
batches, each a block of fixed-size records of one unit and one UTC day. A day
that is over is *sealed*: merged with its file if there is one
(:mod:`ingest.archive.sealed`), and only then deleted from the tail. A crash
between the two leaves both, which reads the same. Readings that come late for
a sealed day wait in the tail and are merged with the next sealing.

A reader takes the tail first and the files second; whatever is sealed
meanwhile it sees twice, never not at all. One process writes, which a lock
ensures from its first write on; any number read.
"""

from __future__ import annotations

import fcntl
import logging
import sqlite3
import threading
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ingest.archive import sealed
from ingest.archive.sealed import DamagedError, Sealed
from ingest.archive.table import (
    DAY_MS,
    EMPTY,
    ArchiveError,
    ArchiveUnavailableError,
    Refused,
    Shelf,
    Table,
    between,
    by_day,
    by_unit,
    columnar,
    moment,
    overlay,
    tabulate,
)
from ingest.damage import (
    is_damage,
    recover,
    same_schema,
    set_aside,
    whole_pairs,
    whole_rows,
)
from ingest.reading import Reading, Readings
from twin.points import POINTS

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

FORMAT = 2
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
_CHECKSUMS = "ALTER TABLE batch ADD COLUMN checksum INTEGER;"
# What each format adds; a new file goes through all of them.
_SCRIPTS = (_SCHEMA, _CHECKSUMS)
# Small batches of one day are joined, else a slow plant's day is a hundred
# thousand rows; what is joined until it is this big is left alone.
_JOIN_ROWS = 512
_BIG = 5000
# How long a month that is over waits for late readings.
_SETTLING_DAYS = 2


@dataclass(slots=True)
class _Small:
    """The small batches of one unit and day."""

    batches: int = 0
    readings: int = 0

    @property
    def many(self) -> bool:
        return self.batches >= _JOIN_ROWS or self.readings >= 20 * _BIG


class ParquetArchive(Shelf):
    """Readings in a folder, without any server.

    Parameters
    ----------
    directory : path
        Made if missing.
    read_only : bool
        For a second process: look, and change nothing.
    retention_days : int, optional
        How many days are kept at least, counted back from the newest reading
        of any unit; a finished month goes as a whole. None keeps for ever.
    seal_after : int
        How many readings may be in the tail before finished days are sealed,
        beside the sealing at each new day.

    Raises
    ------
    ArchiveError
        If the folder cannot be used, or was written by a newer version.

    Attributes
    ----------
    bereft : bool
        The tail was damaged and had to be made anew: whoever still has what
        was written lately should write it again, and say so by setting this
        to False.
    """

    def __init__(
        self,
        directory: Path,
        *,
        read_only: bool = False,
        retention_days: int | None = None,
        seal_after: int = 2_000_000,
    ) -> None:
        self.directory = Path(directory)
        self._read_only = read_only
        self._retention_days = retention_days
        self._seal_after = seal_after
        self._lock = threading.Lock()
        self._tail_path = self.directory / "tail.sqlite"
        self._small: defaultdict[tuple[str, int], _Small] = defaultdict(_Small)
        self._newest: dict[str, int] = {}
        self._in_tail = 0
        self._codes: dict[str, int] = {}
        self._writer: sqlite3.Connection | None = None
        self._claim: IO[str] | None = None
        self.bereft = False
        if not read_only:
            self._open()

    def write(self, readings: Readings | Sequence[Reading]) -> Sequence[Refused]:
        """Keep readings durably; see :class:`ingest.archive.Archive`."""
        if self._writer is None:
            raise ArchiveError(f"{self.directory}: opened for reading only")
        readings = columnar(readings)
        if not len(readings):
            return ()
        with self._lock, _failing(self._tail_path):
            self._take_over()
            records = self._records(readings)
            blocks: list[tuple[str, int, NDArray[np.void]]] = []
            for unit, rows in by_unit(readings):
                mine = records[rows]
                for day, places in by_day(mine["time"]):
                    blocks.append((unit, day, mine[places]))
            with self._writer:
                for unit, day, block in blocks:
                    self._insert(unit, day, block)
        try:
            with self._lock:
                self._keep_house(
                    [(unit, day, len(block)) for unit, day, block in blocks]
                )
        except (OSError, sqlite3.Error, ArchiveError) as error:
            # What was written is durable, and stays where it is until later.
            _log.error("%s: not tidied up: %s", self.directory, error)
        return ()

    def _keep_house(self, written: Sequence[tuple[str, int, int]]) -> None:
        """Join, seal and put together what has become ready for it."""
        if self._writer is None:
            return  # closed meanwhile; the next one who opens it goes on
        new_day = False
        for unit, day, readings in written:
            known = self._newest.get(unit)
            if known is None or day > known:
                new_day = new_day or known is not None
                self._newest[unit] = day
            small = self._small[unit, day]
            if readings < _BIG:
                small.batches += 1
                small.readings += readings
            self._in_tail += readings
            if small.many:
                self._join(unit, day)
        if new_day or self._in_tail > self._seal_after:
            self._seal(every=False)
        if new_day:
            self._tidy()

    def seal(self) -> None:
        """Move everything from the tail into the files, unfinished days too."""
        if self._writer is None:
            raise ArchiveError(f"{self.directory}: opened for reading only")
        with self._lock, _failing(self._tail_path):
            self._take_over()
            self._seal(every=True)

    def units(self) -> list[str]:
        """Return the units of which anything is kept, sorted."""
        found = set(self._ask("SELECT DISTINCT unit FROM batch"))
        return sorted(found | sealed.units(self.directory))

    def span(self, unit: str) -> tuple[datetime, datetime] | None:
        """Return the times of a unit's first and last reading, None if none."""
        days = self._ask("SELECT DISTINCT day FROM batch WHERE unit = ?", unit)
        edges: set[int] = set()
        with self._reading() as tail:
            if tail is not None and days:
                for day in {min(days), max(days)}:
                    for block in _blocks(tail, unit, day, day).get(day, ()):
                        edges |= {int(block["time"].min()), int(block["time"].max())}
        known = self._whole(Sealed(self.directory, unit).span)
        edges.update(known or ())
        return (moment(min(edges)), moment(max(edges))) if edges else None

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
            self.bereft = recover(
                self._tail_path, _unsound, _refill, check="integrity_check"
            )
            writer = sqlite3.connect(
                self._tail_path, timeout=30.0, check_same_thread=False
            )
            writer.execute("PRAGMA journal_mode=WAL")
            writer.execute("PRAGMA synchronous=FULL")
            version = _make(writer)
        except (OSError, sqlite3.Error) as error:
            raise ArchiveError(
                f"archive {self.directory}: {error}; the folder must be writable, and "
                "hold no other program's files"
            ) from error
        if version > FORMAT:
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
        self._learn()
        for unit in sealed.units(self.directory):
            try:
                pieces = Sealed(self.directory, unit).pieces()
            except ArchiveError as error:
                _log.error("%s", error)  # whoever reads that unit is told
                continue
            self._newest[unit] = max(piece.last for piece in pieces)
        for unit, day, readings in writer.execute(
            "SELECT unit, day, readings FROM batch"
        ):
            if readings < _BIG:
                self._small[unit, day].batches += 1
                self._small[unit, day].readings += readings
            self._in_tail += readings
            self._newest[unit] = max(day, self._newest.get(unit, day))

    def _learn(self) -> None:
        assert self._writer is not None  # noqa: S101
        self._codes = dict(self._writer.execute("SELECT name, code FROM point"))

    def _records(self, readings: Readings) -> NDArray[np.void]:
        """Return readings as the tail stores them."""
        assert self._writer is not None  # noqa: S101
        occurring = np.flatnonzero(np.bincount(readings.series)).tolist()
        points = {series: readings.keys[series][1] for series in occurring}
        new = sorted(set(points.values()) - self._codes.keys())
        if new:
            with self._writer:
                self._writer.executemany(
                    "INSERT INTO point (name) VALUES (?)", [(name,) for name in new]
                )
            self._learn()
        codes = np.zeros(len(readings.keys), np.uint16)
        codes[occurring] = [self._codes[point] for point in points.values()]
        records = np.empty(len(readings), _RECORD)
        records["time"], records["point"] = readings.times, codes[readings.series]
        records["value"], records["flag"] = readings.values, readings.flags
        return records

    def _insert(self, unit: str, day: int, records: NDArray[np.void]) -> None:
        assert self._writer is not None  # noqa: S101
        self._writer.execute(
            "INSERT INTO batch (unit, day, readings, records, checksum) "
            "VALUES (?, ?, ?, ?, ?)",
            (
                unit,
                day,
                len(records),
                content := records.tobytes(),
                _checksum(unit, day, content),
            ),
        )

    def _join(self, unit: str, day: int) -> None:
        """Make one batch of a day's newest small ones, keeping their order."""
        assert self._writer is not None  # noqa: S101
        rows = self._writer.execute(
            "SELECT id, records, checksum FROM batch "
            "WHERE unit = ? AND day = ? AND id > "
            "(SELECT COALESCE(MAX(id), 0) FROM batch "
            " WHERE unit = ? AND day = ? AND readings >= ?) ORDER BY id",
            (unit, day, unit, day, _BIG),
        ).fetchall()
        if len(rows) > 1:
            joined = np.concatenate([_block(unit, day, *row) for row in rows])
            with self._writer:
                self._writer.executemany(
                    "DELETE FROM batch WHERE id = ?", [(row[0],) for row in rows]
                )
                self._insert(unit, day, joined)
        self._small.pop((unit, day))

    def _seal(self, *, every: bool) -> None:
        assert self._writer is not None  # noqa: S101
        days = self._writer.execute(
            "SELECT unit, day, MAX(id) FROM batch GROUP BY unit, day ORDER BY unit, day"
        ).fetchall()
        for unit, day, last in days:
            if not every and day >= self._newest.get(unit, day):
                continue
            try:
                table = overlay(_tail(self._writer, unit, day, day, None))
                files = Sealed(self.directory, unit)
                self._whole(lambda: files.add(day, table))  # noqa: B023  called at once
            except ArchiveError as error:
                # The day stays in the tail, where it is safe, until somebody
                # has looked at the damaged file; other days go on.
                _log.error("not sealed: %s", error)
                continue
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

    def _tidy(self) -> None:
        """Put finished months together, and let go of what is too old."""
        newest = max(self._newest.values(), default=0)
        for unit in sealed.units(self.directory):
            files = Sealed(self.directory, unit)
            try:
                if self._retention_days is not None:
                    files.expire(newest - self._retention_days)
                self._whole(lambda: files.compact(newest - _SETTLING_DAYS))  # noqa: B023
            except ArchiveError as error:
                _log.error("not put together: %s", error)

    def _table(
        self, unit: str, start_ms: int, stop_ms: int, points: tuple[str, ...] | None
    ) -> Table:
        if stop_ms <= start_ms:
            return EMPTY
        # The tail first: see the head of this file.
        tail: list[Table] = []
        with self._reading() as reader:
            if reader is not None:
                first, last = start_ms // DAY_MS, (stop_ms - 1) // DAY_MS
                tail = _tail(reader, unit, first, last, points)
        files = Sealed(self.directory, unit)
        kept = self._whole(lambda: files.read(start_ms, stop_ms, points))
        return between(overlay([kept, *tail]), start_ms, stop_ms)

    def _whole(self, ask: Callable[[], _T]) -> _T:
        """Ask the files that are whole; who only reads is told of the others."""
        while True:
            try:
                return ask()
            except DamagedError as error:
                if self._writer is None:
                    raise
                with suppress(FileNotFoundError):  # another thread was faster
                    aside = set_aside(error.path, self.directory)
                    _log.error("%s; it is kept as %s", error, aside.name)

    def _ask(self, query: str, *values: str) -> list[Any]:
        """Return the first column of an answer of the tail."""
        with self._reading() as tail:
            if tail is None:
                return []
            return [row[0] for row in tail.execute(query, values)]

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


def _blocks(
    reader: sqlite3.Connection, unit: str, first: int, last: int
) -> dict[int, list[NDArray[np.void]]]:
    """Return the tail's batches of a unit by day, in the order of arrival."""
    blocks: dict[int, list[NDArray[np.void]]] = {}
    for day, *row in reader.execute(
        "SELECT day, id, records, checksum FROM batch "
        "WHERE unit = ? AND day BETWEEN ? AND ? ORDER BY id",
        (unit, first, last),
    ):
        blocks.setdefault(day, []).append(_block(unit, day, *row))
    return blocks


def _block(
    unit: str, day: int, number: int, content: bytes, checksum: int | None
) -> NDArray[np.void]:
    if checksum is not None and checksum != _checksum(unit, day, content):
        raise ArchiveError(
            f"tail.sqlite: batch {number} of {unit} is damaged; restart the service, "
            "which will keep the file aside and what is whole in it"
        )
    return np.frombuffer(content, _RECORD)


def _checksum(unit: str, day: int, content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(f"{day} {unit}".encode()))


def _make(writer: sqlite3.Connection) -> int:
    """Bring a tail to the present format; return which it had."""
    (version,) = writer.execute("PRAGMA user_version").fetchone()
    if version < FORMAT:
        with writer:
            writer.executescript("BEGIN;" + "".join(_SCRIPTS[version:]))
            writer.execute(f"PRAGMA user_version={FORMAT}")
    return int(version)


def _unsound(connection: sqlite3.Connection) -> str:
    """Return what is wrong with a tail whose structure is whole."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > FORMAT:
        return ""
    if not same_schema(connection, "".join(_SCRIPTS[:version])):
        return "its tables are not those of a tail"
    if version < FORMAT:
        return ""
    for unit, day, content, checksum in connection.execute(
        "SELECT unit, day, records, checksum FROM batch"
    ):
        if checksum is not None and checksum != _checksum(unit, day, content):
            return f"a batch of {unit} is not as it was written"
    return ""


def _refill(aside: Path, writer: sqlite3.Connection) -> str:
    """Put what is whole in a damaged tail into a new one."""
    _make(writer)
    found = lost = 0
    with writer:
        # The vocabulary decides where the table and its index do not agree.
        names = {
            name: code
            for code, name in whole_pairs(aside, "point", "code", "name")
            if isinstance(code, int) and isinstance(name, str)
        }
        codes: dict[int, str] = {}
        for name, code in names.items():
            if code not in codes or name in POINTS:
                codes[code] = name
        writer.executemany("INSERT INTO point VALUES (?, ?)", codes.items())
        for number, row in whole_rows(
            aside, "batch", "unit, day, readings, records, checksum"
        ):
            if row is None:
                continue  # sealed and deleted, or joined with others, as a rule
            if row[4] not in (None, _checksum(row[0], row[1], row[3])):
                lost += 1
                continue
            known = np.isin(np.frombuffer(row[3], _RECORD)["point"], list(codes))
            if not known.all():
                lost += 1
                continue
            writer.execute(
                "INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?)", (number, *row)
            )
            found += row[2]
    return (
        f"{found} readings of days that were not sealed were whole and are kept, "
        f"{lost} batches among them were not and are lost, and so is anything after"
    )


def _tail(
    reader: sqlite3.Connection,
    unit: str,
    first: int,
    last: int,
    points: tuple[str, ...] | None,
) -> list[Table]:
    """Return the tail's tables of a unit, one for each day."""
    names = dict(reader.execute("SELECT code, name FROM point"))
    tables = []
    for blocks in _blocks(reader, unit, first, last).values():
        records = np.concatenate(blocks)
        if points is not None:
            wanted = [code for code, name in names.items() if name in points]
            records = records[np.isin(records["point"], wanted)]
        tables.append(
            tabulate(
                records["time"],
                records["point"],
                records["value"],
                records["flag"],
                names,
            )
        )
    return tables


@contextmanager
def _failing(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        if isinstance(error, ArchiveUnavailableError):
            raise
        if isinstance(error, sqlite3.Error) and is_damage(error, path):
            raise ArchiveError(
                f"{path}: damaged: {error}; restart the service, which will keep the "
                "file aside and what is whole in it"
            ) from error
        raise ArchiveUnavailableError(
            f"{path}: {error}; is the disk full, the folder writable?"
        ) from error
