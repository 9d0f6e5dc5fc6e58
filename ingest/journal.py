"""The durable commit point: what is in here may be acknowledged.

Batches of raw messages in one SQLite file (WAL, ``synchronous=FULL``, so a
committed batch survives a crash and a power cut), each consumer's cursor, and
the verdicts. A cursor moves in the same transaction as the verdicts of what
it passed, so a crash can neither count a message twice nor forget it.

One writer appends; a consumer reads and advances on a connection of its own,
in this or another thread. What a message says is not known here.
"""

from __future__ import annotations

import logging
import sqlite3
import struct
import threading
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from ingest.damage import is_damage, recover, same_schema, whole_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger(__name__)
FORMAT = 3
_SCHEMA = """
CREATE TABLE batch (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    messages INTEGER NOT NULL,
    size INTEGER NOT NULL,
    content BLOB NOT NULL
);
CREATE TABLE cursor (consumer TEXT PRIMARY KEY, position INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE TABLE verdict (
    consumer TEXT NOT NULL,
    subject TEXT NOT NULL,
    verdict TEXT NOT NULL,
    reason TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (consumer, subject, verdict, reason)
) WITHOUT ROWID;
CREATE TABLE received (
    one INTEGER PRIMARY KEY CHECK (one = 1), messages INTEGER NOT NULL
);
INSERT INTO received VALUES (1, 0);
CREATE TABLE dead_letter (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    received_ms INTEGER NOT NULL,
    topic TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    payload BLOB NOT NULL
);
"""
# What each later format adds; a new file goes through all of them.
_MEMORY = """
CREATE TABLE memory (name TEXT PRIMARY KEY, content BLOB NOT NULL) WITHOUT ROWID;
"""
_CHECKSUMS = """
ALTER TABLE batch ADD COLUMN checksum INTEGER;
DELETE FROM memory;
"""
_SCRIPTS = (_SCHEMA, _MEMORY, _CHECKSUMS)
_DAMAGED = "damaged in the journal"
# received_ms, retained, bytes of topic, bytes of payload
_HEAD = struct.Struct("<qBHI")
_LONGEST_LETTER = 4096
_LAST = (1 << 63) - 1
_NO_MEMORY: Mapping[str, bytes] = MappingProxyType({})
# Some megabytes at a time, however long the messages are. [B]
_LARGEST_READ = 16 << 20


class Message(NamedTuple):
    """What the broker gave us, as it was. ``received_ms`` since 1970."""

    topic: str
    payload: bytes
    received_ms: int
    retained: bool = False


class DeadLetter(NamedTuple):
    """A message, or a part of one, that became no stored reading, and why."""

    received_ms: int
    topic: str
    reason: str
    detail: str
    payload: bytes


class Batch(NamedTuple):
    """Messages in the order of their arrival; ``position`` is past them."""

    position: int
    messages: list[Message]


class JournalError(OSError):
    """The journal cannot take more now: no acknowledgement may follow."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Where every message is that was ever journaled.

    ``received = stored + duplicate + quarantined + rejected + in_flight``, in
    messages, at every moment, because all of it is read in one transaction. A
    message counts as *stored* when at least one of its readings was; else as
    *duplicate*, *quarantined* or *rejected*, whichever of these its readings
    were, in this order. ``in_flight`` is journaled and not judged yet.

    ``readings`` counts the parts by the same four words, and ``reasons`` says
    why readings were quarantined or rejected: a message may carry a hundred
    good ones and a bad one. ``archived`` readings obey the same law without
    anything in flight.
    """

    received: int = 0
    stored: int = 0
    duplicate: int = 0
    quarantined: int = 0
    rejected: int = 0
    in_flight: int = 0
    readings: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)

    @property
    def balanced(self) -> bool:
        """Whether every received message is in exactly one place."""
        return self.received == (
            self.stored
            + self.duplicate
            + self.quarantined
            + self.rejected
            + self.in_flight
        )


@dataclass(slots=True)
class Tally:
    """The verdicts of what one step of a consumer passed."""

    messages: dict[str, int] = field(default_factory=dict)
    readings: dict[tuple[str, str], int] = field(default_factory=dict)
    dead: list[DeadLetter] = field(default_factory=list)

    def message(self, verdict: str, number: int = 1) -> None:
        """Count messages under their one verdict."""
        self.messages[verdict] = self.messages.get(verdict, 0) + number

    def reading(self, verdict: str, reason: str = "", number: int = 1) -> None:
        """Count readings under their one verdict and its reason."""
        key = (verdict, reason)
        if number:
            self.readings[key] = self.readings.get(key, 0) + number

    @property
    def verdicts(self) -> dict[str, int]:
        """How many readings there are of each verdict."""
        sums: dict[str, int] = {}
        for (verdict, _), number in self.readings.items():
            sums[verdict] = sums.get(verdict, 0) + number
        return sums


class Journal:
    """The journal in one SQLite file, made if missing.

    Parameters
    ----------
    path : path
        The file; its folder must exist.
    keep_bytes : int
        How much of what all consumers have passed is kept, for a look back
        and to warm up the checks after a restart. [B]
    limit_bytes : int
        How much may wait for its consumers before no more is taken: an
        archive that is down for days must not fill the disk. [B]
    dead_letters : int
        How many unreadable messages are kept, the newest ones.
    """

    def __init__(
        self,
        path: Path,
        *,
        keep_bytes: int = 64 << 20,
        limit_bytes: int = 8 << 30,
        dead_letters: int = 1000,
        consumers: Sequence[str] = ("archive",),
    ) -> None:
        self.path = Path(path)
        self._keep_bytes = keep_bytes
        self._limit_bytes = limit_bytes
        self._dead_letters = dead_letters
        self._consumers = tuple(consumers)
        self._lock = threading.Lock()
        self._since_prune = 0
        self._waiting_bytes = 0
        self._damaged: dict[int, tuple[int, bytes]] = {}
        with self._failing("open"):
            recover(self.path, _unsound, self._refill)
            self._writer = self._connect()
            self._make(self._writer)
            with self._writer:
                self._writer.executemany(
                    "INSERT OR IGNORE INTO cursor VALUES (?, 0)",
                    [(name,) for name in self._consumers],
                )
            self._prune()

    def append(self, messages: Sequence[Message]) -> int:
        """Store messages durably; they may be acknowledged when it returns.

        Returns
        -------
        int
            The position past them.

        Raises
        ------
        JournalError
            If they are not stored: the disk or the journal's limit is full.
            Nothing of the batch is kept, and trying again later is right.
        """
        content = pack(messages)
        with self._lock, self._failing("append"):
            if self._waiting_bytes + len(content) > self._limit_bytes:
                self._prune()
            # A batch larger than the whole limit must go through some day.
            full = self._waiting_bytes + len(content) > self._limit_bytes
            if full and self._waiting_bytes:
                raise JournalError(
                    f"{self.path}: {self._waiting_bytes} bytes wait for the archive "
                    f"and {self._limit_bytes} may; see why the archive takes nothing"
                )
            with self._writer:
                row = self._writer.execute(
                    "INSERT INTO batch (messages, size, content, checksum) "
                    "VALUES (?, ?, ?, ?)",
                    (
                        len(messages),
                        len(content),
                        content,
                        _checksum(len(messages), content),
                    ),
                )
                self._writer.execute(
                    "UPDATE received SET messages = messages + ?", (len(messages),)
                )
            self._waiting_bytes += len(content)
            self._since_prune += len(content)
            if self._since_prune > self._keep_bytes // 4:
                self._prune()
            return int(row.lastrowid or 0)

    def position(self, consumer: str = "archive") -> int:
        """Return the position up to which a consumer has passed."""
        with closing(self._connect(read_only=True)) as reader:
            return _position(reader, consumer)

    def read(
        self, after: int, *, messages: int = 5000, until: int | None = None
    ) -> Batch | None:
        """Return what follows a position, some ``messages`` of it, or None.

        Nothing that is past ``until`` is returned.
        """
        last = _LAST if until is None else until
        with self._failing("read"), closing(self._connect(read_only=True)) as reader:
            return self._read(reader, after, last, messages)

    def before(self, position: int, *, messages: int = 5000) -> list[Message]:
        """Return the last messages up to a position that are still kept."""
        with self._failing("read"), closing(self._connect(read_only=True)) as reader:
            found: list[list[Message]] = []
            for number, content, checksum in reader.execute(
                "SELECT messages, content, checksum FROM batch WHERE id <= ? "
                "ORDER BY id DESC",
                (position,),
            ):
                if not _whole(number, content, checksum):
                    continue
                found.append(unpack(content))
                messages -= len(found[-1])
                if messages <= 0:
                    break
        return [message for batch in reversed(found) for message in batch]

    def advance(
        self,
        position: int,
        tally: Tally,
        consumer: str = "archive",
        *,
        memory: Mapping[str, bytes] = _NO_MEMORY,
    ) -> None:
        """Move a cursor, count what it passed and remember, in one transaction.

        ``memory`` is what the consumer must know to go on from this position
        after a restart, by name; see :meth:`recall`.
        """
        with self._lock, self._failing("advance"), self._writer:
            before = _position(self._writer, consumer)
            for number, (lost, content) in self._damaged.items():
                if before < number <= position:
                    tally.message("quarantined", lost)
                    tally.reading("quarantined", _DAMAGED, lost)
                    detail = f"batch {number} of {lost} messages"
                    tally.dead.append(DeadLetter(0, "", _DAMAGED, detail, content))
            self._writer.execute(
                "UPDATE cursor SET position = ? WHERE consumer = ?",
                (position, consumer),
            )
            rows = [
                (consumer, "message", verdict, "", number)
                for verdict, number in tally.messages.items()
            ]
            rows += [
                (consumer, "reading", verdict, reason, number)
                for (verdict, reason), number in tally.readings.items()
            ]
            self._writer.executemany(
                "INSERT INTO verdict VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET number = number + excluded.number",
                rows,
            )
            self._writer.executemany(
                "INSERT OR REPLACE INTO memory VALUES (?, ?)",
                [
                    (name, _checksum(0, content).to_bytes(4) + content)
                    for name, content in memory.items()
                ],
            )
            if tally.dead:
                self._bury(tally.dead)

    def rewind(self, consumer: str = "archive") -> int:
        """Let a consumer read again what is still kept; return how many messages.

        They count as received again, as those do that a broker delivers again,
        and nothing is remembered of them.
        """
        with self._lock, self._failing("rewind"):
            with self._writer:
                (number,) = self._writer.execute(
                    "SELECT COALESCE(SUM(messages), 0) FROM batch WHERE id <= ?",
                    (_position(self._writer, consumer),),
                ).fetchone()
                self._writer.execute(
                    "UPDATE received SET messages = messages + ?", (number,)
                )
                self._writer.execute(
                    "UPDATE cursor SET position = 0 WHERE consumer = ?", (consumer,)
                )
                self._writer.execute("DELETE FROM memory")
            self._prune()
        return int(number)

    def recall(self, name: str) -> bytes | None:
        """Return what was last remembered under a name.

        None if nothing was, or if it is damaged.
        """
        with self._failing("read"), closing(self._connect(read_only=True)) as reader:
            row = reader.execute(
                "SELECT content FROM memory WHERE name = ?", (name,)
            ).fetchone()
        if row is None or row[0][:4] != _checksum(0, row[0][4:]).to_bytes(4):
            return None
        return bytes(row[0][4:])

    def counts(self, consumer: str = "archive") -> Counts:
        """Return where every message is, at one moment."""
        with self._failing("read"), closing(self._connect(read_only=True)) as reader:
            reader.execute("BEGIN")
            (received,) = reader.execute("SELECT messages FROM received").fetchone()
            (in_flight,) = reader.execute(
                "SELECT COALESCE(SUM(messages), 0) FROM batch WHERE id > ?",
                (_position(reader, consumer),),
            ).fetchone()
            of_messages: dict[str, int] = {}
            of_readings: dict[str, int] = {}
            reasons: dict[str, int] = {}
            for subject, verdict, reason, number in reader.execute(
                "SELECT subject, verdict, reason, number FROM verdict "
                "WHERE consumer = ? ORDER BY subject, verdict, reason",
                (consumer,),
            ):
                if subject == "message":
                    of_messages[verdict] = number
                else:
                    of_readings[verdict] = of_readings.get(verdict, 0) + number
                    if reason:
                        reasons[reason] = reasons.get(reason, 0) + number
        return Counts(
            received=received,
            stored=of_messages.get("stored", 0),
            duplicate=of_messages.get("duplicate", 0),
            quarantined=of_messages.get("quarantined", 0),
            rejected=of_messages.get("rejected", 0),
            in_flight=in_flight,
            readings=of_readings,
            reasons=reasons,
        )

    def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """Return the newest messages that became no stored reading."""
        with self._failing("read"), closing(self._connect(read_only=True)) as reader:
            rows = reader.execute(
                "SELECT received_ms, topic, reason, detail, payload FROM dead_letter "
                "ORDER BY id DESC LIMIT ?",
                (limit,),
            ).fetchall()
        return [DeadLetter(*row) for row in rows]

    def close(self) -> None:
        """Close the file; what was appended stays."""
        with self._lock:
            self._writer.close()

    def _connect(self, *, read_only: bool = False) -> sqlite3.Connection:
        mode = "rw" if read_only else "rwc"
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=30.0,
            check_same_thread=False,
            isolation_level=None if read_only else "DEFERRED",
        )
        if read_only:
            connection.execute("PRAGMA query_only=ON")
        else:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
        return connection

    def _make(self, writer: sqlite3.Connection) -> None:
        """Bring a file to the present format, an empty one included."""
        (version,) = writer.execute("PRAGMA user_version").fetchone()
        if version > FORMAT:
            raise JournalError(
                f"{self.path}: journal format {version}; this version of hptwin "
                f"reads {FORMAT}. Use the version that wrote it, or move it away."
            )
        if version < FORMAT:
            with writer:
                writer.executescript("BEGIN;" + "".join(_SCRIPTS[version:]))
                writer.execute(f"PRAGMA user_version={FORMAT}")

    def _refill(self, aside: Path, writer: sqlite3.Connection) -> str:
        """Put what is whole in a damaged journal into a new one.

        All that it still has is read again, also what had been passed: the
        damage may have moved the cursor, and writing twice is writing once.
        """
        self._make(writer)
        found = lost = 0
        with writer:
            for number, row in whole_rows(
                aside, "batch", "messages, content, checksum"
            ):
                if row is None or not _whole(*row):
                    lost += 1
                    continue
                messages, content, checksum = row
                writer.execute(
                    "INSERT INTO batch VALUES (?, ?, ?, ?, ?)",
                    (number, messages, len(content), content, checksum),
                )
                found += messages
            writer.execute("UPDATE received SET messages = ?", (found,))
        return (
            f"{found} messages were whole and are read again, {lost} batches among "
            "them were not; what had not been read of these, and of anything after "
            "them, is lost"
        )

    def _read(
        self, reader: sqlite3.Connection, after: int, last: int, limit: int
    ) -> Batch | None:
        messages: list[Message] = []
        position, size = after, 0
        for number, count, content, checksum in reader.execute(
            "SELECT id, messages, content, checksum FROM batch "
            "WHERE id > ? AND id <= ? ORDER BY id",
            (after, last),
        ):
            position = number
            size += len(content)
            if _whole(count, content, checksum):
                messages.extend(unpack(content))
            else:
                self._set_damaged(number, count, content)
            if len(messages) >= limit or size >= _LARGEST_READ:
                break
        return Batch(position, messages) if position > after else None

    def _set_damaged(self, number: int, count: int, content: bytes) -> None:
        """Remember a batch that cannot be read, until its verdict is written."""
        if number not in self._damaged:
            _log.error(
                "%s: batch %d of %d messages is damaged; it is quarantined, and the "
                "rest goes on",
                self.path,
                number,
                count,
            )
        self._damaged[number] = (count, content[:_LONGEST_LETTER])

    @contextmanager
    def _failing(self, doing: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            remedy = "(is the disk full, the folder writable?)"
            if is_damage(error, self.path):
                remedy = (
                    "(the file is damaged: restart the service, which will keep it "
                    "aside and what is whole in it)"
                )
            raise JournalError(
                f"{self.path}: cannot {doing}: {error}; nothing is acknowledged until "
                f"it can {remedy}"
            ) from error

    def _bury(self, dead: Iterable[DeadLetter]) -> None:
        letters = list(dead)[-self._dead_letters :]
        self._writer.executemany(
            "INSERT INTO dead_letter (received_ms, topic, reason, detail, payload) "
            "VALUES (?, ?, ?, ?, ?)",
            [
                (d.received_ms, d.topic[:1024], d.reason, d.detail[:400], d.payload)
                for d in (
                    letter._replace(payload=letter.payload[:_LONGEST_LETTER])
                    for letter in letters
                )
            ],
        )
        self._writer.execute(
            "DELETE FROM dead_letter WHERE id <= (SELECT MAX(id) FROM dead_letter) - ?",
            (self._dead_letters,),
        )

    def _prune(self) -> None:
        """Forget what every consumer has passed, but for the newest of it."""
        self._since_prune = 0
        (passed,) = self._writer.execute("SELECT MIN(position) FROM cursor").fetchone()
        (self._waiting_bytes,) = self._writer.execute(
            "SELECT COALESCE(SUM(size), 0) FROM batch WHERE id > ?", (passed,)
        ).fetchone()
        kept = 0
        for number, size in self._writer.execute(
            "SELECT id, size FROM batch WHERE id <= ? ORDER BY id DESC", (passed,)
        ):
            kept += size
            if kept > self._keep_bytes:
                with self._writer:
                    self._writer.execute("DELETE FROM batch WHERE id <= ?", (number,))
                break


def pack(messages: Iterable[Message]) -> bytes:
    """Return messages as the bytes that a batch stores."""
    parts: list[bytes] = []
    for message in messages:
        topic = message.topic.encode("utf-8", "surrogatepass")
        parts.append(
            _HEAD.pack(
                message.received_ms, message.retained, len(topic), len(message.payload)
            )
        )
        parts.append(topic)
        parts.append(message.payload)
    return b"".join(parts)


def unpack(content: bytes) -> list[Message]:
    """Return the messages that :func:`pack` packed."""
    messages: list[Message] = []
    at, end = 0, len(content)
    while at < end:
        received_ms, retained, topic_size, size = _HEAD.unpack_from(content, at)
        at += _HEAD.size
        topic = content[at : at + topic_size].decode("utf-8", "surrogatepass")
        at += topic_size
        messages.append(
            Message(topic, content[at : at + size], received_ms, bool(retained))
        )
        at += size
    return messages


def _position(reader: sqlite3.Connection, consumer: str) -> int:
    row = reader.execute(
        "SELECT position FROM cursor WHERE consumer = ?", (consumer,)
    ).fetchone()
    return int(row[0]) if row else 0


def _checksum(messages: int, content: bytes) -> int:
    return zlib.crc32(content, messages & 0xFFFFFFFF)


def _whole(messages: int, content: bytes, checksum: int | None) -> bool:
    """Whether a batch is as it was written; early formats cannot tell."""
    return checksum is None or checksum == _checksum(messages, content)


def _unsound(connection: sqlite3.Connection) -> str:
    """Return what is wrong with a journal whose structure is whole."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > FORMAT:
        return ""
    if not same_schema(connection, "".join(_SCRIPTS[:version])):
        return "its tables are not those of a journal"
    if version == 0:
        return ""
    (received,) = connection.execute("SELECT messages FROM received").fetchone()
    for consumer, judged in connection.execute(
        "SELECT consumer, SUM(number) FROM verdict WHERE subject = 'message' "
        "GROUP BY consumer"
    ).fetchall():
        (in_flight,) = connection.execute(
            "SELECT COALESCE(SUM(messages), 0) FROM batch WHERE id > ?",
            (_position(connection, consumer),),
        ).fetchone()
        if received != judged + in_flight:
            return f"of {received} messages it accounts for {judged + in_flight}"
    return ""
