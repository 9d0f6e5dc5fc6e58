"""A file of history becomes traffic: each row as the plant would publish it.

For trying a configuration, a broker, an archive or a whole second system with
telemetry that is known. The topics are the plant's own, so whoever else reads
them takes the file for the plant; that is why a broker on another machine has
to be named twice.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from ingest import files
from ingest.broker import Connection, Publisher
from ingest.reading import Source

_ROWS_AT_ONCE = 200
_SAY_EVERY_S = 2.0
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})

Message = tuple[str, str]


class PublishError(ValueError):
    """The file cannot be published as asked; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """A file as messages.

    Attributes
    ----------
    times : tuple of int
        When each row is from, in ms since 1970, in order.
    untimed : tuple of str
        The points, as ``unit.point``, whose messages carry no time: they are
        read with the time at which they arrive, not with the row's.
    rejected : mapping of str to int
        Cells of the file that mean nothing, by reason; they are not sent.
    missing : tuple of str
        Points that have no column in the file.
    columns : tuple of (Source, list of float)
        What is sent of each point, as the field writes it, NaN for nothing.
    """

    times: tuple[int, ...]
    untimed: tuple[str, ...]
    rejected: Mapping[str, int]
    missing: tuple[str, ...]
    columns: tuple[tuple[Source, list[float]], ...]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.times)

    def messages(self, row: int, shift_ms: int = 0) -> list[Message]:
        """Return what the plant publishes in a row, by topic."""
        time_ms = self.times[row] + shift_ms
        documents: dict[str, dict[str, Any]] = {}
        found: list[Message] = []
        for source, values in self.columns:
            value = values[row]
            if math.isnan(value):
                continue
            if not source.pointer:
                found.append((source.topic, _plain(value, source.decimal)))
                continue
            document = documents.setdefault(source.topic, {})
            _put(document, source.pointer, value)
            if source.time_pointer:
                _put(document, source.time_pointer, time_ms)
        found += [(topic, json.dumps(body)) for topic, body in documents.items()]
        return found


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is: rows and messages that the broker has, and the row's time."""

    rows: int
    messages: int
    per_s: float
    time_ms: int


def guard(connection: Connection, confirmed_host: str) -> None:
    """Refuse a broker of another machine that was not named for this.

    Raises
    ------
    PublishError
        With the option that permits it.
    """
    host = connection.host
    if host not in _LOCAL and confirmed_host != host:
        found = f'"{confirmed_host}" was named, but' if confirmed_host else ""
        raise PublishError(
            f"{found} the broker is {host}, not this machine: who reads the plant's "
            "topics there would take the file for the plant. If that is what you "
            f"want, say --to-plant-topics-of {host}".strip()
        )


def read(
    path: Path,
    sources: Sequence[Source],
    *,
    zone: str = "UTC",
    start: datetime | None = None,
    stop: datetime | None = None,
) -> Traffic:
    """Read a wide file as the messages that its rows are.

    A file named after a unit (``hp1.parquet``) holds that unit's columns, any
    other those of whichever units have such a column. A point whose payload is
    the value alone has the column of its own name.

    Parameters
    ----------
    path : path
        CSV or Parquet, in the units in which the field sends.
    sources : sequence of Source
        Topics, columns and pointers.
    zone : str
        Of times that do not say theirs.
    start, stop : datetime, optional
        Rows from the one and before the other.

    Raises
    ------
    ingest.files.InputError
        If the file cannot be read.
    PublishError
        If nothing of it can be published.
    """
    own = [source for source in sources if source.unit == path.stem] or list(sources)
    # As the field sends it: conversions are the receiver's business.
    asked = {
        replace(
            source, scale=1.0, offset=0.0, pointer=source.pointer or source.point
        ): source
        for source in own
    }
    history = files.read(path, list(asked), zone=zone, partial=True)
    columns = [(asked[source], values) for source, values in history.columns]
    foreign = sorted({source.format for source, _ in columns if source.format})
    if foreign:
        raise PublishError(
            f"{path}: points in the format {', '.join(foreign)} are read here, not "
            "written; plain values and JSON are"
        )
    low = -math.inf if start is None else _ms(start)
    high = math.inf if stop is None else _ms(stop)
    rows = [row for row, at in enumerate(history.times.tolist()) if low <= at < high]
    if not rows:
        raise PublishError(f"{path}: no row lies in the period asked for")
    return Traffic(
        times=tuple(history.times[rows].tolist()),
        untimed=tuple(f"{s.unit}.{s.point}" for s, _ in columns if not s.time_pointer),
        rejected=history.rejected,
        missing=history.missing,
        columns=tuple((source, values[rows].tolist()) for source, values in columns),
    )


def shift_to(traffic: Traffic, now: datetime, speed: float) -> int:
    """Return what makes a file end at the present and no row lie ahead of it.

    Played at the speed of life its first row is now; faster, its last one is
    now when it is its turn; infinitely fast, its last one is now. [ms]
    """
    first, last = traffic.times[0], traffic.times[-1]
    ends_ms = _ms(now) + round((last - first) / speed)
    return min(_ms(now) - first, ends_ms - last)


def play(
    traffic: Traffic,
    connection: Connection,
    *,
    speed: float = math.inf,
    shift_ms: int = 0,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    """Publish rows in order; return when the broker has the last one.

    Parameters
    ----------
    traffic : Traffic
        What.
    connection : Connection
        Where to; with a client id of its own.
    speed : float
        How much faster than it happened; ``inf`` is as fast as can be.
    shift_ms : int
        Added to the times. [ms]
    progress : callable
        Called with what the broker has, after some rows at a time. What was
        reported last is what the broker has when an exception ends it.

    Raises
    ------
    ingest.broker.BrokerError
        If the broker takes no more.
    """
    first = traffic.times[0]
    began = time.monotonic()
    done = Progress(0, 0, 0.0, first + shift_ms)
    with Publisher(connection) as publisher:
        for rows in _steps(traffic, speed):
            if math.isfinite(speed):
                due_s = (traffic.times[rows.start] - first) / 1e3 / speed
                time.sleep(max(0.0, began + due_s - time.monotonic()))
            number = publisher.publish_all(
                message for row in rows for message in traffic.messages(row, shift_ms)
            )
            spent_s = max(time.monotonic() - began, 1e-9)
            sent = done.messages + number
            done = Progress(
                rows.stop, sent, sent / spent_s, traffic.times[rows.stop - 1] + shift_ms
            )
            progress(done)
    return done


def identity(connection: Connection) -> Connection:
    """Return a connection under another client id than the service's."""
    return replace(connection, client_id=f"{connection.client_id}-publish")


def remarks(traffic: Traffic) -> list[str]:
    """Return what should be known of a file before it is played."""
    found = []
    if traffic.untimed:
        found.append(
            f"{len(traffic.untimed)} points have no time in their payload and get that "
            f"of their arrival: {_some(traffic.untimed)}"
        )
    if traffic.missing:
        found.append(f"not in the file: {_some(traffic.missing)}")
    found += [
        f"{number} cells are not sent: {reason}"
        for reason, number in sorted(traffic.rejected.items())
    ]
    return found


class Reporter:
    """Says now and then how far it is, and at the end what the broker has."""

    def __init__(self, rows: int, say: Callable[[str], None]) -> None:
        self._rows, self._say = rows, say
        self._last = Progress(0, 0, 0.0, 0)
        self._said = time.monotonic()

    def __call__(self, done: Progress) -> None:
        """Take note, and say so every other second."""
        self._last = done
        if time.monotonic() - self._said > _SAY_EVERY_S:
            self._said = time.monotonic()
            at = datetime.fromtimestamp(done.time_ms / 1e3, UTC)
            self._say(
                f"row {done.rows} of {self._rows}, {done.per_s:.0f} messages/s, "
                f"{at:%Y-%m-%d %H:%M:%S} UTC"
            )

    def line(self) -> str:
        """Return the account."""
        return (
            f"{self._last.messages} messages of {self._last.rows} of {self._rows} rows "
            "are acknowledged by the broker"
        )

    def to_dict(self) -> dict[str, object]:
        """Return the account for a program."""
        return {
            "rows": self._rows,
            "rows_acknowledged": self._last.rows,
            "messages_acknowledged": self._last.messages,
            "messages_per_s": round(self._last.per_s, 1),
        }


def _some(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _steps(traffic: Traffic, speed: float) -> Iterator[range]:
    """Yield rows that go out together: all of one time, or some hundreds."""
    begin, times = 0, traffic.times
    for row in range(1, traffic.rows + 1):
        if row < traffic.rows:
            same = times[row] == times[begin] or not math.isfinite(speed)
            if same and row - begin < _ROWS_AT_ONCE:
                continue
        yield range(begin, row)
        begin = row


def _put(document: dict[str, Any], pointer: str, value: object) -> None:
    """Set what a JSON pointer leads to."""
    steps = [
        step.replace("~1", "/").replace("~0", "~")
        for step in pointer.removeprefix("/").split("/")
    ]
    for step in steps[:-1]:
        document = document.setdefault(step, {})
    document[steps[-1]] = value


def _plain(value: float, decimal: str) -> str:
    """Return a number in digits alone, none lost."""
    return f"{Decimal(repr(value)):f}".replace(".", decimal)


def _ms(moment: datetime) -> int:
    return round(moment.astimezone(UTC).timestamp() * 1000)
