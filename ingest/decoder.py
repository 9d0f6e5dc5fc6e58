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
from collections.abc import Callable, Sequence
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


class _Plan:
    """How the messages of one topic are read by the hundred."""

    def __init__(
        self, sources: Sequence[Source], series: Callable[[str, str], int]
    ) -> None:
        first = sources[0]
        self.columns = len(sources)
        self.series = np.array([series(s.unit, s.point) for s in sources], np.int32)
        self.scale = np.array([source.scale for source in sources])
        self.offset = np.array([source.offset for source in sources])
        keys = [_key(source.pointer) for source in sources]
        stamp = _key(first.time_pointer)
        self.get: Callable[[Any], Any] | None = None
        # A single number as the whole payload has the time of reception.
        self.bare = self.columns == 1 and not first.pointer and not first.time_pointer
        alike = all(source.time_pointer == first.time_pointer for source in sources)
        self.fits = self.bare
        if all(keys) and stamp and alike:
            self.get = itemgetter(stamp, *keys)
            self.fits = True
        self.rows: list[Any] = []
        self.places: list[int] = []


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
        self.host = Host(sources)
        self._nodes = frozenset(self.host.topics())
        self._sources = payload.index(s for s in sources if s.format != "sparkplug")
        self._plans: dict[str, _Plan] = {}
        for topic, wanted in self._sources.items():
            plan = _Plan(wanted, self._series)
            if plan.fits and not wanted[0].format:
                self._plans[topic] = plan

    def topics(self) -> tuple[str, ...]:
        """Return the topics that must be read, none with a wildcard."""
        return (*self._sources, *self.host.topics())

    def decode(self, messages: Sequence[Message]) -> Decoded:
        """Return every reading of the messages, in their order.

        A message of which nothing is read is one rejection that says so; none
        raises anything.
        """
        odd: list[int] = []
        loads = orjson.loads
        plans = self._plans
        for place, (topic, content, _, retained) in enumerate(messages):
            plan = plans.get(topic)
            if plan is None or len(content) > payload.LONGEST_PAYLOAD:
                odd.append(place)
                continue
            try:
                document = loads(content)
                if plan.get is not None:
                    row = plan.get(document)
                    # Anything else about its time is for the ordinary path.
                    if type(row[0]) is not int or not _MS_LOW <= row[0] < _MS_HIGH:
                        raise TypeError
                elif retained:
                    raise TypeError
                else:
                    row = document
            except (ValueError, KeyError, TypeError):
                odd.append(place)
                continue
            plan.rows.append(row)
            plan.places.append(place)
        parts: list[_Part] = []
        for plan in self._plans.values():
            if plan.rows:
                parts.append(self._columns(plan, messages, odd))
        rejected: list[tuple[int, Rejection]] = []
        parts.append(self._ordinary(messages, sorted(odd), rejected))
        return self._joined(parts, rejected)

    def _columns(
        self, plan: _Plan, messages: Sequence[Message], odd: list[int]
    ) -> _Part:
        rows, places = plan.rows, plan.places
        plan.rows, plan.places = [], []
        table = _table(rows, plan.bare)
        if table is None:
            good = [_table([row], plan.bare) is not None for row in rows]
            odd.extend(p for p, ok in zip(places, good, strict=True) if not ok)
            rows = [row for row, ok in zip(rows, good, strict=True) if ok]
            places = [place for place, ok in zip(places, good, strict=True) if ok]
            table = _table(rows, plan.bare) if rows else None
        if table is None:
            return _NOTHING
        if plan.bare:
            times = np.array([messages[place][2] for place in places], np.int64)
            values = table
        else:
            times = np.array([row[0] for row in rows], np.int64)
            values = table[:, 1:]
        values = plan.scale * values + plan.offset
        finite = np.isfinite(values).all(axis=1)
        if not finite.all():
            odd.extend(np.array(places)[~finite].tolist())
            times, values = times[finite], values[finite]
            places = np.array(places)[finite].tolist()
        return _Part(
            np.repeat(np.array(places, np.int32), plan.columns),
            np.tile(plan.series, len(places)),
            np.repeat(times, plan.columns),
            values.ravel(),
            None,
        )

    def _ordinary(
        self,
        messages: Sequence[Message],
        places: list[int],
        rejected: list[tuple[int, Rejection]],
    ) -> _Part:
        of_message: list[int] = []
        readings: list[Reading] = []
        for place in places:
            for item in self._one(messages[place]):
                if isinstance(item, Reading):
                    of_message.append(place)
                    readings.append(item)
                else:
                    rejected.append((place, item))
        if not readings:
            return _NOTHING
        return _Part(
            np.array(of_message, np.int32),
            np.array([self._series(r.unit, r.point) for r in readings], np.int32),
            np.array([reading.time_ms for reading in readings], np.int64),
            np.array([reading.value for reading in readings], np.float64),
            np.array([FLAG_CODE[reading.flag] for reading in readings], np.uint8),
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
