"""What is read from the plant: readings, where they come from, what they are not.

The data that the rest of ingest hands on: a :class:`Source` says how a point
is read, a payload becomes :class:`Reading` or :class:`Rejection`, and many
readings travel as columns, :class:`Readings`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

# A value of these is a state.
SWITCHES = frozenset({"compressor_running", "available", "manual_override"})


class Flag(StrEnum):
    """Why a stored value is suspect; the archive's code is its place here.

    Adding one at the end is safe; moving or removing one changes the meaning
    of what is already stored.
    """

    NONE = ""
    RANGE = "range"
    RATE = "rate"
    STUCK = "stuck"
    COUNTER = "counter"
    UNIT = "unit"
    QUALITY = "quality"


DEVICE_FLAGS = frozenset({Flag.QUALITY})
"""What the device says of its own value; the others are our judgement."""
FLAGS: tuple[Flag, ...] = tuple(Flag)
FLAG_CODE: Mapping[str, int] = MappingProxyType(
    {flag.value: code for code, flag in enumerate(FLAGS)}
)


class Reading(NamedTuple):
    """One value of one point at one time, in the vocabulary's unit.

    ``time_ms`` counts milliseconds since 1970 in UTC. ``flag`` is empty, or
    one of :class:`Flag`: the value is kept but no calculation may use it.
    """

    unit: str
    point: str
    time_ms: int
    value: float
    flag: str = ""


@dataclass(frozen=True, slots=True)
class Readings:
    """Many readings as columns, in the order in which they arrived.

    Attributes
    ----------
    keys : sequence of (str, str)
        The (unit, point) of each series. It may be longer than what occurs
        here and may grow at its end; a series keeps its place in it.
    series : ndarray of int32, shape (n,)
        The place in ``keys``.
    times : ndarray of int64, shape (n,)
        Milliseconds since 1970, UTC. [ms]
    values : ndarray of float64, shape (n,)
        Finite, in the vocabulary's unit.
    flags : ndarray of uint8, shape (n,)
        Codes of :data:`FLAG_CODE`, 0 for none.
    """

    keys: Sequence[tuple[str, str]]
    series: NDArray[np.int32]
    times: NDArray[np.int64]
    values: NDArray[np.float64]
    flags: NDArray[np.uint8]

    @classmethod
    def of(cls, rows: Iterable[Reading]) -> Self:
        """Return rows as columns; a flag that is none of ours raises KeyError."""
        rows = list(rows)
        places: dict[tuple[str, str], int] = {}
        series = [places.setdefault((row.unit, row.point), len(places)) for row in rows]
        return cls(
            list(places),
            np.array(series, np.int32),
            np.array([row.time_ms for row in rows], np.int64),
            np.array([row.value for row in rows], np.float64),
            np.array([FLAG_CODE[row.flag] for row in rows], np.uint8),
        )

    def __len__(self) -> int:
        return len(self.series)

    def __iter__(self) -> Iterator[Reading]:
        for series, time_ms, value, flag in zip(
            self.series.tolist(),
            self.times.tolist(),
            self.values.tolist(),
            self.flags.tolist(),
            strict=True,
        ):
            unit, point = self.keys[series]
            yield Reading(unit, point, time_ms, value, FLAGS[flag].value)

    def take(self, places: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Readings:
        """Return some of them: a mask, places in the order wanted, or a slice."""
        return Readings(
            self.keys,
            self.series[places],
            self.times[places],
            self.values[places],
            self.flags[places],
        )


class Rejection(NamedTuple):
    """A reading that could not be had, and why.

    ``reason`` is one of a small fixed set, so that it can be counted;
    ``detail`` is the sentence for the person who has to mend it.
    """

    topic: str
    unit: str
    point: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """How one point is read from the field.

    Attributes
    ----------
    topic : str
        The MQTT topic, without wildcards. Many sources may share one topic.
    unit, point : str
        Whose quantity it is, and which one of the vocabulary.
    scale, offset : float
        ``si = scale * value + offset``, from :func:`twin.units.conversion`.
    pointer : str
        Where the value stands: ``""`` when the payload is the value, else a
        JSON pointer (RFC 6901) such as ``"/temps/supply"``. In a file, the
        name of the column.
    time_pointer : str
        Where the timestamp stands; ``""`` takes the time of reception.
    counter : bool
        A meter that only counts up.
    decimal : str
        The decimal mark this device writes, ``"."`` or ``","``.
    format : str
        ``""`` for a plain value or JSON, else ``"telegraf"``, ``"influx"`` or
        ``"sparkplug"``; ``pointer`` then is the name of the field or metric.
    where : tuple of (str, str)
        Which of a message's measurements is meant: its ``name``, and the tags
        that it must carry.
    """

    topic: str
    unit: str
    point: str
    scale: float = 1.0
    offset: float = 0.0
    pointer: str = ""
    time_pointer: str = ""
    counter: bool = False
    decimal: str = "."
    format: str = ""
    where: tuple[tuple[str, str], ...] = ()
