"""From bytes on a topic to readings in SI, or to the reason why not.

Everything here is a function from data to data: no broker, no clock, no file.
A payload that cannot be read is an answer (a :class:`Rejection`), never an
exception, because anything may arrive on a topic and the next message must
still be read. What a *plausible* value is, is :mod:`ingest.checks`' business.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import orjson

from ingest.reading import SWITCHES, Reading, Rejection, Source

LONGEST_PAYLOAD = 1 << 20
# Further away than any clock means, and far inside a 64-bit count of ms.
_LATEST_MS = 253_402_300_799_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

# "ON" or true is a way to write the value of a switch.
_STATES: Mapping[str, float] = MappingProxyType(
    {"on": 1.0, "true": 1.0, "yes": 1.0, "off": 0.0, "false": 0.0, "no": 0.0}
)

# float() also reads "1_000" and "infinity", which no instrument means.
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


class UnreadableError(ValueError):
    """A value or time that means nothing; ``reason`` can be counted."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def index(sources: Iterable[Source]) -> dict[str, tuple[Source, ...]]:
    """Return the sources of each topic, in the order given."""
    found: dict[str, list[Source]] = {}
    for source in sources:
        found.setdefault(source.topic, []).append(source)
    return {topic: tuple(of_topic) for topic, of_topic in found.items()}


def decode(
    topic: str,
    payload: bytes,
    sources: Mapping[str, Sequence[Source]],
    received_ms: int,
    *,
    retained: bool = False,
) -> list[Reading | Rejection]:
    """Read every point that a message carries.

    Parameters
    ----------
    topic : str
        Where the message arrived.
    payload : bytes
        What arrived: a plain value, or a JSON document.
    sources : mapping of str to sequence of Source
        What is read from which topic, from :func:`index`.
    received_ms : int
        When it arrived, in ms since 1970; the time of a reading whose source
        has no timestamp. Being an argument, it makes a second decoding of a
        journaled message give the same readings. A message without a time
        that the broker sends twice, after a crash, is two readings, some
        seconds apart: only a device's own time makes them one.
    retained : bool
        The broker kept this message for us. Without a time of its own its
        value may be months old, so it is no reading.

    Returns
    -------
    list of Reading or Rejection
        One for each point found, never none: a message that carries nothing
        of ours is one rejection that says so. A pointer that leads nowhere is
        no fault as long as another one of the same message does, because
        devices may send what has changed only.
    """
    wanted = sources.get(topic)
    if not wanted:
        return [
            Rejection(
                topic,
                "",
                "",
                "unmapped topic",
                f"no point is read from {_shown(topic)}",
            )
        ]
    if refused := too_long(topic, payload):
        return [refused]
    document: Any = None
    if not (len(wanted) == 1 and not wanted[0].pointer and not wanted[0].time_pointer):
        try:
            document = json_document(payload)
        except UnreadableError as error:
            # A topic may be read both whole and by pointers; a plain value
            # then still is one.
            if all(source.pointer or source.time_pointer for source in wanted):
                return [Rejection(topic, "", "", error.reason, str(error))]
            document = _ABSENT
    found: list[Reading | Rejection] = []
    clock: dict[str, int] = {}
    for source in wanted:
        try:
            reading = _read(source, payload, document, received_ms, retained, clock)
        except UnreadableError as error:
            found.append(
                Rejection(topic, source.unit, source.point, error.reason, str(error))
            )
        else:
            if reading is not None:
                found.append(reading)
    if not found:
        detail = (
            f"nothing at {', '.join(repr(source.pointer) for source in wanted[:5])}"
        )
        return [Rejection(topic, "", "", "no known point", detail)]
    return found


def _read(
    source: Source,
    payload: bytes,
    document: Any,
    received_ms: int,
    retained: bool,
    clock: dict[str, int],
) -> Reading | None:
    raw: Any = payload
    if source.pointer:
        raw = _at(document, source.pointer)
        if raw is _ABSENT:
            return None
    elif source.time_pointer:
        raw = document
    si = value(raw, source)
    time_ms = clock.get(source.time_pointer)
    if time_ms is None:
        stamp = _at(document, source.time_pointer) if source.time_pointer else None
        stamp = None if stamp is _ABSENT else stamp
        time_ms = instant(stamp, received_ms, retained=retained, what="message")
        if stamp is not None:
            clock[source.time_pointer] = time_ms
    return Reading(source.unit, source.point, time_ms, si)


def too_long(topic: str, payload: bytes) -> Rejection | None:
    """Return why a payload is not even looked at, None if it is."""
    if len(payload) <= LONGEST_PAYLOAD:
        return None
    detail = f"{len(payload)} bytes; at most {LONGEST_PAYLOAD} are read"
    return Rejection(topic, "", "", "payload too long", detail)


def instant(stamp: object, received_ms: int, *, retained: bool, what: str) -> int:
    """Return the time of a value in ms since 1970: its own, else that of reception.

    Raises
    ------
    UnreadableError
        If its own means nothing; or if it has none and the broker kept it, for
        it may then be months old. ``what`` it is stands in the sentence.
    """
    if stamp is not None:
        return milliseconds(stamp)
    if retained:
        raise UnreadableError(
            "retained without a time",
            f"a retained {what} has no time of its own; publish it with one",
        )
    return received_ms


def value(raw: object, source: Source) -> float:
    """Return a field value in SI.

    Parameters
    ----------
    raw : object
        Bytes or text as it was sent, or what JSON made of it.
    source : Source
        Its scale, offset, decimal mark, and whether its point is a switch.

    Returns
    -------
    float
        The value, always finite. [SI unit of the point]

    Raises
    ------
    UnreadableError
        If it is no number, with what it is and what would be right.
    """
    number: float
    if isinstance(raw, bool):
        if source.point not in SWITCHES:
            raise UnreadableError(
                "state for a number", f"{raw} where {source.point} needs a number"
            )
        number = float(raw)
    elif isinstance(raw, (int, float)):
        try:
            number = float(raw)
        except OverflowError:
            raise UnreadableError("not finite", "an integer beyond any float") from None
    elif isinstance(raw, (bytes, str)):
        number = _number(raw, source)
    elif raw is None:
        raise UnreadableError("null", "null where a number belongs")
    else:
        kind = "an object" if isinstance(raw, dict) else "a list"
        raise UnreadableError(
            "not a number", f"{kind} where a number belongs; give a pointer into it"
        )
    number = source.scale * number + source.offset
    if not math.isfinite(number):
        raise UnreadableError("not finite", f"{_shown(raw)} is not a finite number")
    return number


def _number(raw: bytes | str, source: Source) -> float:
    if isinstance(raw, bytes):
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise UnreadableError(
                "not text", f"{_shown(raw)} is not UTF-8 text"
            ) from None
    else:
        text = raw
    text = text.strip().strip("\x00")
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if not text:
        raise UnreadableError("empty", "an empty value")
    if source.decimal == "," and _DECIMAL_COMMA.fullmatch(text):
        text = text.replace(",", ".")
    # Bounded before it is matched: a real number is short.
    if len(text) <= 400 and text.isascii() and _NUMBER.fullmatch(text):
        return float(text)
    state = _STATES.get(text.lower())
    if state is not None:
        if source.point in SWITCHES:
            return state
        raise UnreadableError(
            "state for a number", f"{_shown(text)} where {source.point} needs a number"
        )
    if text.lower().lstrip("+-") in {"nan", "inf", "infinity"}:
        raise UnreadableError("not finite", f"{_shown(text)} is not a finite number")
    if text.lower() == "null":
        raise UnreadableError("null", "null where a number belongs")
    if _DECIMAL_COMMA.fullmatch(text[:400]):
        raise UnreadableError(
            "decimal comma",
            f"value {_shown(text)} is not a number; this device writes a decimal "
            'comma, set decimal = "," for it',
        )
    if text[0] in "{[":
        raise UnreadableError(
            "not a number", "a JSON document where a number belongs; give a pointer"
        )
    raise UnreadableError("not a number", f"value {_shown(text)} is not a number")


def milliseconds(stamp: object) -> int:
    """Return a timestamp in ms since 1970 in UTC.

    A number counts s, ms, us or ns since 1970, told apart by magnitude, which
    is unambiguous from 1973 to 5138. Text is such a number or ISO 8601 with
    its zone.

    Raises
    ------
    UnreadableError
        If it is no time; or a local time without a zone, which means two
        different instants once a year.

    Examples
    --------
    >>> milliseconds(1700000000), milliseconds("2023-11-14T22:13:20Z")
    (1700000000000, 1700000000000)
    """
    if isinstance(stamp, str):
        text = stamp.strip()
        if len(text) <= 40 and text.isascii() and _NUMBER.fullmatch(text):
            stamp = float(text) if not text.lstrip("+-").isdigit() else int(text)
        else:
            return _iso(text)
    if isinstance(stamp, bool) or not isinstance(stamp, (int, float)):
        raise UnreadableError("unreadable time", f"{_shown(stamp)} is not a time")
    if isinstance(stamp, float) and not math.isfinite(stamp):
        raise UnreadableError("unreadable time", f"{stamp} is not a time")
    size = abs(stamp)
    if size < 100_000_000_000:
        time_ms = stamp * 1000 if isinstance(stamp, int) else round(stamp * 1000)
    elif size < 100_000_000_000_000:
        time_ms = round(stamp)
    elif size < 100_000_000_000_000_000:
        time_ms = int(stamp) // 1000
    else:
        time_ms = int(stamp) // 1_000_000
    if abs(time_ms) > _LATEST_MS:
        raise UnreadableError(
            "unreadable time", f"{_shown(stamp)} is beyond the year 9999"
        )
    return time_ms


def _iso(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UnreadableError(
            "unreadable time",
            f"{_shown(text)} is not a time; ISO 8601 or a count since 1970 is",
        ) from None
    if moment.tzinfo is None:
        raise UnreadableError(
            "time without a zone",
            f"{_shown(text)} has no zone; end it with Z or an offset such as +01:00",
        )
    return (moment - _EPOCH) // _MILLISECOND


class _Absent:
    """What a pointer that leads nowhere finds; None would be JSON's null."""


_ABSENT = _Absent()


def json_document(payload: bytes) -> Any:
    """Return what a JSON payload says, NaN and Infinity included.

    Raises
    ------
    UnreadableError
        If it is no JSON.
    """
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        message = str(error)
    # Python's own writer emits NaN and Infinity; the object's other points
    # must not be lost with them. Both words are short, so is the search.
    if b"NaN" in payload or b"Infinity" in payload or b"infinity" in message.encode():
        try:
            return json.loads(payload)
        except (ValueError, RecursionError, UnicodeDecodeError):
            pass
    raise UnreadableError("not JSON", f"{_shown(payload)} is not JSON: {message}")


@lru_cache(maxsize=65_536)
def _steps(pointer: str) -> tuple[str, ...]:
    text = pointer[1:] if pointer.startswith("/") else pointer
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in text.split("/"))


def _at(document: Any, pointer: str) -> Any:
    here = document
    for step in _steps(pointer):
        if isinstance(here, dict):
            here = here.get(step, _ABSENT)
        elif isinstance(here, list) and step.isdecimal() and len(step) < 10:
            here = here[int(step)] if int(step) < len(here) else _ABSENT
        else:
            return _ABSENT
    return here


def _shown(raw: object) -> str:
    """Foreign text, quoted and cut to a length that a log can bear."""
    if isinstance(raw, int):  # str() of a huge integer is an error of its own
        return str(raw) if abs(raw) < 10**20 else "a huge integer"
    text = repr(raw[:60] if isinstance(raw, (bytes, str)) else raw)
    return text if len(text) <= 100 else text[:100] + "..."
