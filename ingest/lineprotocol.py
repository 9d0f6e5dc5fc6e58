r"""InfluxDB's line protocol: ``measurement,tag=a field=1.5,other=2i 1700000000``.

Telegraf, Node-RED and many gateways publish it, one line or many a message. A
source takes the field that its ``pointer`` names from the lines of the
measurement and with the tags that its ``where`` names. Lines follow each
other as the grammar says and not as line feeds fall, because a text in quotes
may hold one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from ingest.payload import UnreadableError, instant, too_long, value
from ingest.reading import Reading, Rejection, Source

# So many bad lines are told one by one, and so many are gone through at all.
_TOLD, _MOST_BAD = 20, 1000

# Possessive (++, *+): a long line that does not fit is given up at once.
_MEASUREMENT = re.compile(rb"(?:[^\\, \n]|\\[^\n])++")
_TAG = re.compile(rb",((?:[^\\,= \n]|\\[^\n])++)=((?:[^\\,= \n]|\\[^\n])++)")
_FIELD = re.compile(
    rb'((?:[^\\,= \n]|\\[^\n])++)=("(?:[^"\\]|\\.)*+"|[^", \n\r]++)', re.DOTALL
)
_STAMP = re.compile(rb" ++(-?\d{1,20})")
_END = re.compile(rb"[ \r\t]*+(?:\n|\Z)")
_BLANK = re.compile(rb"(?:[ \r\t]*+(?:#[^\n]*+)?(?:\n|\Z))++")
_ESCAPED = re.compile(r"\\([,= ])")
_ESCAPED_TEXT = re.compile(r'\\(["\\])')
_COUNT = re.compile(rb"[+-]?\d+[iu]")
_BOOLEANS = {
    spelling: spelling[0] in b"tT"
    for spelling in (
        b"t", b"T", b"true", b"True", b"TRUE", b"f", b"F", b"false", b"False", b"FALSE"
    )
}  # fmt: skip


class _Line(NamedTuple):
    number: int
    tags: dict[str, str]
    fields: dict[str, bytes]
    stamp: str


class _BadLineError(ValueError):
    """A line that is none, with the place up to which it could be read."""

    def __init__(self, place: int, expected: str) -> None:
        super().__init__(expected)
        self.place = place


def decode(
    payload: bytes,
    wanted: Sequence[Source],
    topic: str,
    received_ms: int,
    retained: bool = False,
) -> list[Reading | Rejection]:
    """Read every point that a message of lines carries.

    Parameters
    ----------
    payload : bytes
        Lines; empty ones and comments are passed over.
    wanted : sequence of Source
        What is read from this topic.
    topic : str
        Where it arrived.
    received_ms : int
        When it arrived, in ms since 1970: the time of a line without one.
    retained : bool
        The broker kept it; a line without a time is then no reading.

    Returns
    -------
    list of Reading or Rejection
        Never none, and never an exception. A line that cannot be read is a
        rejection with its number, and takes no other line with it; only after
        a thousand such lines the rest of the message is given up.
    """
    if refused := too_long(topic, payload):
        return [refused]
    found: list[Reading | Rejection] = []
    bad = seen = place = 0
    number = 1
    while place < len(payload) and bad < _MOST_BAD:
        start = place
        blank = _BLANK.match(payload, place)
        if blank is not None:
            place = blank.end()
        else:
            try:
                line, place = _line(payload, place, number)
            except _BadLineError as error:
                end = payload.find(b"\n", error.place)
                place = len(payload) if end < 0 else end + 1
                bad += 1
                if bad <= _TOLD:
                    detail = (
                        f"line {number}: {error}; found {payload[start:place][:60]!r}"
                    )
                    found.append(Rejection(topic, "", "", "not line protocol", detail))
            else:
                seen += 1
                _read(found, line, wanted, topic, received_ms, retained)
        number += payload.count(b"\n", start, place)
    if bad > _TOLD:
        detail = f"{bad - _TOLD} more lines that cannot be read"
        if place < len(payload):
            detail += f"; nothing is read from line {number} on"
        found.append(Rejection(topic, "", "", "not line protocol", detail))
    if not found:
        names = ", ".join(repr(source.pointer) for source in wanted[:5])
        detail = f"none of its {seen} lines has {names} of the measurement wanted"
        found.append(Rejection(topic, "", "", "no known point", detail))
    return found


def _line(payload: bytes, place: int, number: int) -> tuple[_Line, int]:
    measurement = _MEASUREMENT.match(payload, place)
    if measurement is None:
        raise _BadLineError(place, "a measurement's name belongs here")
    tags = {"name": _name(measurement.group())}
    place = measurement.end()
    while tag := _TAG.match(payload, place):
        # The measurement keeps the key that it is asked for by.
        tags.setdefault(_name(tag.group(1)), _name(tag.group(2)))
        place = tag.end()
    fields: dict[str, bytes] = {}
    if payload[place : place + 1] != b" ":
        raise _BadLineError(place, "name,tag=value and then a space belong here")
    while payload[place : place + 1] == b" ":
        place += 1
    while True:
        entry = _FIELD.match(payload, place)
        if entry is None:
            raise _BadLineError(place, "field=number belongs after the first space")
        fields[_name(entry.group(1))] = entry.group(2)
        place = entry.end()
        if payload[place : place + 1] != b",":
            break
        place += 1
    stamp = _STAMP.match(payload, place)
    text = ""
    if stamp is not None:
        text, place = stamp.group(1).decode(), stamp.end()
    end = _END.match(payload, place)
    if end is None:
        raise _BadLineError(place, "only a whole number of time may follow the fields")
    return _Line(number, tags, fields, text), end.end()


def _read(
    found: list[Reading | Rejection],
    line: _Line,
    wanted: Sequence[Source],
    topic: str,
    received_ms: int,
    retained: bool,
) -> None:
    for source in wanted:
        raw = line.fields.get(source.pointer)
        if raw is None or any(line.tags.get(k) != v for k, v in source.where):
            continue
        try:
            si = value(_value(raw), source)
            stamp = line.stamp or None
            time_ms = instant(stamp, received_ms, retained=retained, what="line")
        except UnreadableError as error:
            detail = f"line {line.number}: {error}"
            found.append(
                Rejection(topic, source.unit, source.point, error.reason, detail)
            )
        else:
            found.append(Reading(source.unit, source.point, time_ms, si))


def _name(raw: bytes) -> str:
    return _ESCAPED.sub(r"\1", raw.decode("utf-8", "replace"))


def _value(raw: bytes) -> bytes | str | bool:
    """Return what a field says; its number is still to be read."""
    state = _BOOLEANS.get(raw)
    if state is not None:
        return state
    if raw[:1] == b'"':
        text = raw[1:-1].decode("utf-8", "replace")
        return _ESCAPED_TEXT.sub(r"\1", text)
    return raw[:-1] if _COUNT.fullmatch(raw) else raw
