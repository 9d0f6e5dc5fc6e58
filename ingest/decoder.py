"""A batch of messages to columns of readings, whatever their format.

What each message says is defined by the functions that read one message:
:func:`ingest.payload.decode` and its kin. Here the common ones, a number or a
flat JSON object of numbers with the device's time, are read by the hundred:
one lookup of all keys per message, one array per topic. A message that is in
any way unlike that takes the ordinary path; so the answer is always that of
the ordinary path, an order of magnitude sooner.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from ingest import lineprotocol, payload, telegraf
from ingest.journal import Message
from ingest.reading import FLAG_CODE, Reading, Readings, Rejection, Source
from ingest.sparkplug import Host

_log = logging.getLogger(__name__)

_FORMATS = {"telegraf": telegraf.decode, "influx": lineprotocol.decode}
# The columns of a reading, unit and point together.
_SERIES = itemgetter(0, 1)
_TIME, _VALUE, _FLAG = itemgetter(2), itemgetter(3), itemgetter(4)
_NUMBERS = frozenset({int, float})
# Stamps in this span are ms since 1970 beyond doubt, and plain integers.
_MS_LOW, _MS_HIGH = 100_000_000_000, 100_000_000_000_000


class Decoded(NamedTuple):
    """What some messages say.

    ``messages`` is the place of the message that each reading is from;
    ``rejected`` are the places of messages with what could not be had.
    """

    readings: Readings
    messages: NDArray[np.int32]
    rejected: list[tuple[int, Rejection]]


class _Shape:
    """Topics whose messages are built alike, and what is at hand of them.

    One row of ``series``, ``scale`` and ``offset`` for each topic.
    """

    def __init__(self, stamp: str, keys: tuple[str, ...]) -> None:
        # A single number as the whole payload has the time of reception.
        self.get = itemgetter(stamp, *keys) if keys else None
        self.series = np.empty((0, max(1, len(keys))), np.int32)
        self.scale = self.offset = np.empty((0, max(1, len(keys))))
        self.forget()

    def add(self, series: list[int], scale: list[float], offset: list[float]) -> int:
        """Take in one more topic; return its row."""
        self.series = np.vstack([self.series, np.array(series, np.int32)])
        self.scale = np.vstack([self.scale, np.array(scale)])
        self.offset = np.vstack([self.offset, np.array(offset)])
        return len(self.series) - 1

    def forget(self) -> None:
        """Begin a new batch."""
        self.rows: list[Any] = []
        self.places: list[int] = []
        self.topics: list[int] = []


def _signature(sources: Sequence[Source]) -> tuple[str, tuple[str, ...]] | None:
    """Return the keys of time and values in a flat object, None for another one."""
    first = sources[0]
    if any(source.format for source in sources):
        return None
    if len(sources) == 1 and not first.pointer and not first.time_pointer:
        return "", ()
    stamp, keys = _key(first.time_pointer), tuple(_key(s.pointer) for s in sources)
    alike = all(source.time_pointer == first.time_pointer for source in sources)
    return (stamp, keys) if stamp and all(keys) and alike else None


def _key(pointer: str) -> str:
    """Return the key of a pointer into a flat object, ``""`` for another one."""
    text = pointer.removeprefix("/")
    return "" if "/" in text or "~" in text else text


class Decoder:
    """Reads messages in the order in which they arrived.

    Parameters
    ----------
    sources : sequence of Source
        What is read from which topic.

    Attributes
    ----------
    host : Host
        What is known of Sparkplug nodes; the one memory that decoding has.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.keys: list[tuple[str, str]] = []
        self._places: dict[tuple[str, str], int] = {}
        for source in sources:
            self._series(source.unit, source.point)
        self.host = Host(sources)
        self._nodes = frozenset(self.host.topics())
        self._sources = payload.index(s for s in sources if s.format != "sparkplug")
        shapes: dict[tuple[str, tuple[str, ...]], _Shape] = {}
        self._shape_of: dict[str, tuple[_Shape, int]] = {}
        for topic, wanted in self._sources.items():
            signature = _signature(wanted)
            if signature is None:
                continue
            if signature not in shapes:
                shapes[signature] = _Shape(*signature)
            shape = shapes[signature]
            row = shape.add(
                [self._series(source.unit, source.point) for source in wanted],
                [source.scale for source in wanted],
                [source.offset for source in wanted],
            )
            self._shape_of[topic] = shape, row
        self._shapes = tuple(shapes.values())

    def topics(self) -> tuple[str, ...]:
        """Return the topics that must be read, none with a wildcard."""
        return (*self._sources, *self.host.topics())

    def decode(self, messages: Sequence[Message]) -> Decoded:
        """Return every reading of the messages, in their order.

        A message of which nothing is read is one rejection that says so; none
        raises anything.
        """
        odd: list[int] = []
        loads, shape_of = orjson.loads, self._shape_of
        for place, (topic, content, _, retained) in enumerate(messages):
            known = shape_of.get(topic)
            if known is None or len(content) > payload.LONGEST_PAYLOAD:
                odd.append(place)
                continue
            shape, topic_row = known
            try:
                row = loads(content)
                if shape.get is not None:
                    row = shape.get(row)
                    # Anything else about its time is for the ordinary path.
                    if type(row[0]) is not int or not _MS_LOW <= row[0] < _MS_HIGH:
                        raise TypeError
                elif retained:
                    raise TypeError
            except (ValueError, KeyError, TypeError):
                odd.append(place)
                continue
            shape.rows.append(row)
            shape.places.append(place)
            shape.topics.append(topic_row)
        parts = [
            self._columns(shape, messages, odd) for shape in self._shapes if shape.rows
        ]
        rejected: list[tuple[int, Rejection]] = []
        parts.append(self._ordinary(messages, sorted(odd), rejected))
        return self._joined(parts, rejected)

    def _columns(
        self, shape: _Shape, messages: Sequence[Message], odd: list[int]
    ) -> _Part:
        rows = shape.rows
        places, topics = np.array(shape.places, np.int32), np.array(shape.topics)
        shape.forget()
        bare = shape.get is None
        table = _table(rows, bare)
        if table is None:
            good = np.array([_table([row], bare) is not None for row in rows])
            odd.extend(places[~good].tolist())
            places, topics = places[good], topics[good]
            rows = [row for row, ok in zip(rows, good, strict=True) if ok]
            table = _table(rows, bare) if rows else None
        if table is None:
            return _NOTHING
        if bare:
            times = np.array([messages[place][2] for place in places], np.int64)
        else:
            # Exact: these stamps are far below 2^53.
            times, table = table[:, 0].astype(np.int64), table[:, 1:]
        values = shape.scale[topics] * table + shape.offset[topics]
        finite = np.isfinite(values).all(axis=1)
        if not finite.all():
            odd.extend(places[~finite].tolist())
            places, topics = places[finite], topics[finite]
            times, values = times[finite], values[finite]
        columns = values.shape[1]
        return _Part(
            np.repeat(places, columns),
            shape.series[topics].ravel(),
            np.repeat(times, columns),
            values.ravel(),
            None,
        )

    def _ordinary(
        self,
        messages: Sequence[Message],
        places: list[int],
        rejected: list[tuple[int, Rejection]],
    ) -> _Part:
        numbers: list[int] = []
        readings: list[Any] = []
        for place in places:
            items = self._one(messages[place])
            if Rejection in set(map(type, items)):
                rejected += [(place, x) for x in items if isinstance(x, Rejection)]
                items = [item for item in items if isinstance(item, Reading)]
            numbers.append(len(items))
            readings += items
        if not readings:
            return _NOTHING
        series = map(self._places.__getitem__, map(_SERIES, readings))
        flags = map(FLAG_CODE.__getitem__, map(_FLAG, readings))
        return _Part(
            np.repeat(np.array(places, np.int32), numbers),
            np.array(list(series), np.int32),
            np.array(list(map(_TIME, readings)), np.int64),
            np.array(list(map(_VALUE, readings)), np.float64),
            np.array(list(flags), np.uint8),
        )

    def _one(self, message: Message) -> list[Reading | Rejection]:
        topic, content, received_ms, retained = message
        try:
            if topic in self._nodes:
                return self.host.read(topic, content, received_ms, retained)
            wanted = self._sources.get(topic)
            of_format = _FORMATS.get(wanted[0].format) if wanted else None
            if of_format is not None and wanted:
                return of_format(content, wanted, topic, received_ms, retained)
            return payload.decode(
                topic, content, self._sources, received_ms, retained=retained
            )
        except Exception as error:  # noqa: BLE001  see below
            # Ours to mend, not the sender's; but one message must not stop the rest.
            _log.exception("a message on %r cannot be read", message.topic)
            detail = f"{type(error).__name__}: {error}"
            return [Rejection(message.topic, "", "", "internal error", detail)]

    def _joined(
        self, parts: list[_Part], rejected: list[tuple[int, Rejection]]
    ) -> Decoded:
        parts = [part for part in parts if len(part.places)]
        if not parts:
            return Decoded(Readings.of([]), np.empty(0, np.int32), rejected)
        places = np.concatenate([part.places for part in parts])
        flags = np.concatenate(
            [
                np.zeros(len(part.places), np.uint8)
                if part.flags is None
                else part.flags
                for part in parts
            ]
        )
        readings = Readings(
            self.keys,
            np.concatenate([part.series for part in parts]),
            np.concatenate([part.times for part in parts]),
            np.concatenate([part.values for part in parts]),
            flags,
        )
        if len(parts) > 1:
            order = np.argsort(places, kind="stable")
            readings, places = readings.take(order), places[order]
        return Decoded(readings, places, rejected)

    def _series(self, unit: str, point: str) -> int:
        place = self._places.get((unit, point))
        if place is None:
            place = self._places[unit, point] = len(self.keys)
            self.keys.append((unit, point))
        return place


class _Part(NamedTuple):
    places: NDArray[np.int32]
    series: NDArray[np.int32]
    times: NDArray[np.int64]
    values: NDArray[np.float64]
    flags: NDArray[np.uint8] | None


_NOTHING = _Part(
    np.empty(0, np.int32),
    np.empty(0, np.int32),
    np.empty(0, np.int64),
    np.empty(0),
    None,
)


def _table(rows: list[Any], bare: bool) -> NDArray[np.float64] | None:
    """Return rows of JSON numbers as an array, None if anything else is there."""
    kinds = set(map(type, rows if bare else itertools.chain.from_iterable(rows)))
    if not kinds <= _NUMBERS:
        return None
    try:
        table = np.array(rows, np.float64)
    except OverflowError:
        return None
    return table.reshape(len(rows), -1)
