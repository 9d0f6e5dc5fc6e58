"""Is a reading plausible? Verdicts, flags, and the memory they need.

Nothing is dropped here: a suspect value keeps its value and gains a flag, an
impossible time is quarantined, a reading that is already known is a
duplicate. Every limit is elapsed time, never a number of rows, because one
plant sends each second and the next one every quarter of an hour.

The rules, in the order in which they speak (the first one names the flag):

unit
    The value jumped to what the last good one is in another unit: degC in
    degF or K, a pressure in Pa, kPa or bar, W in kW. Somebody has changed a
    setting of the instrument, and the value means what it meant before.
range
    Outside the point's plausible bounds in :data:`twin.points.POINTS`.
counter
    A meter that counts up went back: it was replaced, reset or misread.
rate
    Temperatures and pressures only, faster than any liquid or refrigerant
    circuit moves. Flow, power and speed may step, so they have no limit.
stuck
    The same number, to the last digit, for at least two hours *and* for ten
    times as long as this instrument ever held a value before; only while the
    machine runs, only for quantities that jitter while it runs, and only
    after a hundred changes have shown that this instrument does jitter. An
    idle machine, a coarse display on a quiet plant and a quantity at zero are
    therefore never stuck. A unit without ``compressor_running`` or
    ``compressor_power_w`` is not judged: a false flag costs more than a late
    one.

The order of arrival does not matter in the end. A reading that comes late is
judged by range alone at first, and the unit is marked; :meth:`Checker.settle`
then judges everything since that time again, in the order of time, from the
memory that the unit had at the dawn of that day. So the flags that stay are a
function of what was read, and a replay of the same readings gives the same.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingest.reading import DEVICE_FLAGS, FLAG_CODE, FLAGS, SWITCHES, Flag, Readings
from twin.compiled import compiled
from twin.points import POINTS, unit_of

FUTURE_MS = 5 * 60_000
# No instrument of this plant is older; a clock that lost its battery says 1970.
EARLIEST_MS = 946_684_800_000
LATE_MS = 15 * 60_000
DAY_MS = 86_400_000

KEPT, DUPLICATE, QUARANTINED = 0, 1, 2
REASONS = (
    "",
    "",
    "unknown point",
    "time in the future",
    "time before 2000",
    "another value for its time",
)
"""Why a verdict of at least :data:`QUARANTINED` was given, by its number."""
_UNKNOWN, _FUTURE, _ANCIENT, _CONFLICT = 2, 3, 4, 5

# Fastest plausible change, by unit. A start moves a discharge line by some
# 2 K/s and a discharge pressure by some 2 bar/s; twice that and more is left.
_RATE = {"degC": 5.0, "Pa": 1.0e6}
# Two stamps a few ms apart turn noise into a rate; a second is the shortest
# interval that says anything.
_SHORTEST_S = 1.0

_STUCK_MS = 2 * 3_600_000
_STUCK_TIMES = 10
_STUCK_CHANGES = 100
# A gap in the telemetry is no observation that the value stood still, and
# after one nobody knows which unit a value was in before.
_GAP_MS = 3_600_000
_JITTERS = frozenset({"degC", "Pa", "m3/s", "W"})

# A start takes a discharge line from 20 to 68 degC, which is 20 degC in degF:
# only a machine that has been in one state for so long is judged by such a step.
_CALM_MS = 15 * 60_000
_KINDS = {"degC": 1, "Pa": 2, "W": 3}

_REMEMBERED = 2048
_DAWNS = 8
_NEVER = -(1 << 62)
_ALWAYS = 1 << 62

_RANGE, _RATE_FLAG = FLAG_CODE[Flag.RANGE], FLAG_CODE[Flag.RATE]
_STUCK, _COUNTER = FLAG_CODE[Flag.STUCK], FLAG_CODE[Flag.COUNTER]
_UNIT = FLAG_CODE[Flag.UNIT]
_BY_DEVICE = np.array([flag in DEVICE_FLAGS for flag in FLAGS])

_LIMITS = np.dtype(
    [
        ("low", "f8"),
        ("high", "f8"),
        ("rate", "f8"),
        ("kind", "i1"),
        ("jitters", "?"),
        ("counter", "?"),
        ("tells", "i1"),  # 1: whether the unit runs; 2: its power, a guess at it
        ("owner", "i4"),  # the unit's place
    ]
)
_MEMORY = np.dtype(
    [
        ("time", "i8"),
        ("value", "f8"),
        ("good_time", "i8"),
        ("good", "f8"),
        ("held_since", "i8"),  # _NEVER while nothing is held
        ("longest", "i8"),
        ("changes", "i8"),
        ("interval", "f8"),
    ]
)
_UNITS = np.dtype(
    [
        ("dawn", "i8"),  # when the day began that it is in
        ("oldest", "i8"),  # the earliest dawn that is remembered
        ("disorder", "i8"),  # the earliest reading that came late
        ("newest", "i8"),
        ("changed", "i8"),  # when it last began to run or stopped, ...
        ("now", "i1"),  # ... what it does since: -1 unknown, 0, 1, ...
        ("before", "i1"),  # ... what it did until then, ...
        ("earlier", "i8"),  # ... and since when
        ("most_power", "f8"),
    ]
)
_BLANK = np.array((_NEVER, 0.0, _NEVER, 0.0, _NEVER, 0, 0, 0.0), dtype=_MEMORY)
_BLANK_UNIT = np.array(
    (_NEVER, _NEVER, _ALWAYS, _NEVER, _NEVER, -1, -1, _NEVER, 0.0), dtype=_UNITS
)


class Judged(NamedTuple):
    """Readings with their flags, and one verdict for each.

    ``verdicts`` is :data:`KEPT`, :data:`DUPLICATE`, or a quarantine whose
    reason is ``REASONS[verdict]``.
    """

    readings: Readings
    verdicts: NDArray[np.uint8]

    @property
    def kept(self) -> Readings:
        """The readings to be stored, with their flags."""
        return self.readings.take(self.verdicts == KEPT)


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest reading of a point.

    ``interval_s`` is how often it usually comes, 0.0 while that is unknown. [s]
    """

    time_ms: int
    value: float
    interval_s: float


class Checker:
    """The judge of a stream of readings, with one small memory per point.

    Parameters
    ----------
    counters : iterable of (str, str)
        The (unit, point) pairs that only count up, beside those whose name
        ends in ``_energy_j``.
    """

    def __init__(self, counters: Iterable[tuple[str, str]] = ()) -> None:
        self._counters = frozenset(counters)
        self._places: dict[tuple[str, str], int] = {}
        self._owners: dict[str, int] = {}
        self._limits = np.zeros(0, _LIMITS)
        self._memory = np.zeros(0, _MEMORY)
        self._units = np.zeros(0, _UNITS)
        self._ring_times = np.zeros((0, _REMEMBERED), np.int64)
        self._ring_values = np.zeros((0, _REMEMBERED))
        self._ring_counts = np.zeros(0, np.int64)
        self._dawns: dict[int, list[_Dawn]] = {}
        self._seen: tuple[Sequence[tuple[str, str]], NDArray[np.int32]] | None = None
        self._counts = np.zeros(2, np.int64)
        self._flag_counts = np.zeros(len(FLAGS), np.int64)

    @property
    def late(self) -> int:
        """How many readings were over a quarter of an hour old on arrival."""
        return int(self._counts[0])

    @property
    def conflicts(self) -> int:
        """How many second, different values there were for one instant."""
        return int(self._counts[1])

    @property
    def flagged(self) -> dict[str, int]:
        """How many readings got each flag."""
        return {
            FLAGS[code].value: int(number)
            for code, number in enumerate(self._flag_counts)
            if code and number
        }

    def forget_counts(self) -> None:
        """Begin to count late, conflicting and flagged readings anew."""
        self._counts[:] = 0
        self._flag_counts[:] = 0

    def judge(
        self,
        readings: Readings,
        received_ms: NDArray[np.int64] | int | None = None,
    ) -> Judged:
        """Judge readings in the order in which they arrived.

        Parameters
        ----------
        readings : Readings
            Finite, in SI.
        received_ms : int or ndarray of int64, optional
            When they arrived, in ms since 1970; None judges no reading by how
            far it is ahead of the clock.

        Returns
        -------
        Judged
            A point the vocabulary does not know is quarantined. Of two
            different values for one instant the larger is kept, a rule as
            good as any that does not depend on which came first.
        """
        return self._run(readings, received_ms, record=True)

    def disordered(self) -> dict[str, int]:
        """Return since which day units want :meth:`settle`, in ms since 1970."""
        return {
            unit: self._dawn_before(owner).day
            for unit, owner in self._owners.items()
            if self._units[owner]["disorder"] != _ALWAYS
        }

    def settle(self, unit: str, readings: Readings) -> Readings:
        """Judge a unit's readings again, in the order of time.

        Parameters
        ----------
        unit : str
            One of :meth:`disordered`.
        readings : Readings
            All that was kept of it since that day, in any order, each instant
            of a point once.

        Returns
        -------
        Readings
            Those whose flag is another one now. What the unit's memory was
            made of is, from here on, these readings in the order of time.
        """
        owner = self._owners[unit]
        dawn = self._dawn_before(owner)
        self._take_back(owner, dawn)
        readings = readings.take(np.argsort(readings.times, kind="stable"))
        fresh = readings.flags.copy()
        fresh[~_BY_DEVICE[fresh]] = 0
        again = Readings(
            readings.keys, readings.series, readings.times, readings.values, fresh
        )
        judged = self._run(again, None, record=False).readings
        return judged.take(judged.flags != readings.flags)

    def latest(self) -> dict[tuple[str, str], Latest]:
        """Return the newest reading of each point."""
        # A copy first: another thread may be adding a point.
        places, memory = self._places.copy(), self._memory
        return {
            key: Latest(
                int(memory[place]["time"]),
                float(memory[place]["value"]),
                float(memory[place]["interval"]),
            )
            for key, place in places.items()
            if place < len(memory) and memory[place]["time"] > EARLIEST_MS
        }

    def snapshot(self) -> bytes:
        """Return the whole memory, but for which instants are known already."""
        arrays: dict[str, Any] = {
            "series": np.array(json.dumps(list(self._places))),
            "units": np.array(json.dumps(list(self._owners))),
            "memory": self._memory[: len(self._places)],
            "of_units": self._units[: len(self._owners)],
        }
        for owner, dawns in self._dawns.items():
            for number, dawn in enumerate(dawns):
                arrays[f"dawn {owner} {number} {dawn.day}"] = dawn.memory
                arrays[f"unit {owner} {number}"] = dawn.unit
        stream = io.BytesIO()
        np.savez(stream, allow_pickle=False, **arrays)
        return stream.getvalue()

    def restore(self, content: bytes) -> None:
        """Take over a memory that :meth:`snapshot` gave.

        Raises
        ------
        ValueError
            If it is none, or another version's; the memory stays as it was.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                series = [tuple(key) for key in json.loads(str(arrays["series"]))]
                units = [str(unit) for unit in json.loads(str(arrays["units"]))]
                memory, of_units = arrays["memory"], arrays["of_units"]
                dawns: dict[int, list[_Dawn]] = {}
                for name in arrays.files:
                    if name.startswith("dawn "):
                        _, owner, number, day = name.split(" ")
                        dawns.setdefault(int(owner), []).append(
                            _Dawn(
                                int(day),
                                arrays[name].astype(_MEMORY),
                                arrays[f"unit {owner} {number}"].astype(_UNITS),
                            )
                        )
            known = (len(memory), len(of_units)) == (len(series), len(units))
            if not known or memory.dtype != _MEMORY or of_units.dtype != _UNITS:
                raise ValueError("its fields are not this version's")
        except (OSError, EOFError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the checks' memory cannot be read: {error}") from error
        for unit in units:
            self._owner(unit)
        for unit, point in series:
            self._place(unit, point)
        owners = [self._owners[unit] for unit in units]
        self._memory[[self._places[key] for key in series]] = memory
        self._units[owners] = of_units
        self._dawns = {owners[owner]: found for owner, found in dawns.items()}

    def _run(
        self,
        readings: Readings,
        received_ms: NDArray[np.int64] | int | None,
        *,
        record: bool,
    ) -> Judged:
        codes = self._codes(readings)
        flags = readings.flags.copy()
        verdicts = np.zeros(len(readings), np.uint8)
        if received_ms is None:
            received = np.full(1, _ALWAYS, np.int64)
        else:
            received = np.atleast_1d(np.asarray(received_ms, np.int64))
        start = 0
        while start < len(readings):
            start = _judge(
                start,
                codes,
                readings.times,
                readings.values,
                received,
                flags,
                verdicts,
                self._limits,
                self._memory,
                self._units,
                self._ring_times,
                self._ring_values,
                self._ring_counts,
                self._counts,
                self._flag_counts,
                _BY_DEVICE,
                record,
            )
            if start < len(readings):
                time_ms = int(readings.times[start])
                self._day_breaks(
                    int(self._limits[codes[start]]["owner"]),
                    time_ms - time_ms % DAY_MS,
                )
        if record:
            kept = flags[verdicts == KEPT]
            self._flag_counts += np.bincount(kept, minlength=len(FLAGS))
        judged = Readings(
            readings.keys, readings.series, readings.times, readings.values, flags
        )
        return Judged(judged, verdicts)

    def _codes(self, readings: Readings) -> NDArray[np.int32]:
        """Return our own place of each reading's series, -1 for a stranger."""
        keys = readings.keys
        if self._seen is None or self._seen[0] is not keys:
            self._seen = (keys, np.zeros(0, np.int32))
        known = self._seen[1]
        if len(known) < len(keys):
            more = [self._place(*key) for key in keys[len(known) :]]
            known = np.concatenate([known, np.array(more, np.int32)])
            self._seen = (keys, known)
        return known[readings.series]

    def _place(self, unit: str, point: str) -> int:
        place = self._places.get((unit, point))
        if place is not None:
            return place
        if point not in POINTS:
            return -1
        place = len(self._places)
        if place == len(self._memory):
            size = max(16, 2 * place)
            self._limits = _grown(self._limits, size)
            self._memory = _grown(self._memory, size)
            self._ring_times = _grown(self._ring_times, size)
            self._ring_values = _grown(self._ring_values, size)
            self._ring_counts = _grown(self._ring_counts, size)
        self._memory[place] = _BLANK
        self._limits[place] = _limits(
            point, (unit, point) in self._counters, self._owner(unit)
        )
        self._places[unit, point] = place
        return place

    def _owner(self, unit: str) -> int:
        owner = self._owners.setdefault(unit, len(self._owners))
        if owner == len(self._units):
            self._units = _grown(self._units, max(8, 2 * owner))
            self._units[owner:] = _BLANK_UNIT
        return owner

    def _places_of(self, owner: int) -> NDArray[np.intp]:
        return np.flatnonzero(self._limits["owner"][: len(self._places)] == owner)

    def _day_breaks(self, owner: int, day: int) -> None:
        """Remember what a unit's memory was before a new day's first reading."""
        unit = self._units[owner]
        first = unit["dawn"] == _NEVER
        # What was before the first day that we saw is nothing at all.
        dawn = _Dawn(
            _NEVER if first else day,
            self._memory[self._places_of(owner)].copy(),
            self._units[[owner]],
        )
        if first:
            dawn.memory[:] = _BLANK
        dawns = self._dawns.setdefault(owner, [])
        dawns.append(dawn)
        del dawns[:-_DAWNS]
        unit["oldest"] = dawns[0].day
        unit["dawn"] = day

    def _dawn_before(self, owner: int) -> _Dawn:
        disorder = self._units[owner]["disorder"]
        return next(d for d in reversed(self._dawns[owner]) if d.day <= disorder)

    def _take_back(self, owner: int, dawn: _Dawn) -> None:
        dawns = self._dawns[owner]
        places = self._places_of(owner)
        self._memory[places] = _BLANK
        # Points that were new since then have no memory of it.
        self._memory[places[: len(dawn.memory)]] = dawn.memory
        del dawns[dawns.index(dawn) :]
        if dawn.day == _NEVER:
            self._units[owner] = _BLANK_UNIT
        else:
            self._units[[owner]] = dawn.unit
            self._units[owner]["disorder"] = _ALWAYS


@dataclass(frozen=True, slots=True, eq=False)
class _Dawn:
    """What a unit's memory was when a day began; ``_NEVER`` before the first."""

    day: int
    memory: NDArray[np.void]
    unit: NDArray[np.void]


def _grown(array: NDArray[Any], size: int) -> NDArray[Any]:
    grown = np.zeros((size, *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown


def _limits(point: str, counter: bool, owner: int) -> tuple[Any, ...]:
    known = POINTS[point]
    unit = unit_of(point)
    setpoint = "setpoint" in point
    free = setpoint or point.endswith("_pressure_drop_pa")
    tells = {"compressor_running": 1, "compressor_power_w": 2}.get(point, 0)
    # Whether the machine runs is guessed from its power; the power's own step
    # to a thousandth is then a stop as well as a change of its unit.
    kind = 0 if setpoint or tells else _KINDS.get(unit, 0)
    return (
        known.low,
        known.high,
        0.0 if free else _RATE.get(unit, 0.0),
        kind,
        unit in _JITTERS and not setpoint and point not in SWITCHES,
        counter or point.endswith("_energy_j"),
        tells,
        owner,
    )


# All the compiled code stands in this one file because the compiler's disk
# cache does not notice a change in another.


@compiled
def _judge(  # type: ignore[no-untyped-def]  # pragma: no cover
    start,
    codes,
    times,
    values,
    received,
    flags,
    verdicts,
    limits,
    memories,
    units,
    ring_times,
    ring_values,
    ring_counts,
    counts,
    flag_counts,
    by_device,
    record,
):
    """Judge from ``start`` on; return where a unit's day breaks, or the end."""
    for i in range(start, len(codes)):
        code = codes[i]
        if code < 0:
            verdicts[i] = _UNKNOWN
            continue
        time, value = times[i], values[i]
        arrived = received[i if len(received) > 1 else 0]
        if time > arrived + FUTURE_MS:
            verdicts[i] = _FUTURE
            continue
        if time < EARLIEST_MS:
            verdicts[i] = _ANCIENT
            continue
        limit, memory = limits[code], memories[code]
        unit = units[limit.owner]
        if unit.dawn == _NEVER or time >= unit.dawn + DAY_MS:
            return i
        late = time <= memory.time
        if record:
            if late:
                found = _find(ring_times[code], ring_counts[code], time)
                if found >= 0:
                    known = ring_values[code, found]
                    if known == value:
                        verdicts[i] = DUPLICATE
                        continue
                    counts[1] += 1
                    if known > value:
                        verdicts[i] = _CONFLICT
                        continue
                    ring_values[code, found] = value
            else:
                found = -1
            if found < 0:
                place = ring_counts[code] % _REMEMBERED
                ring_times[code, place] = time
                ring_values[code, place] = value
                ring_counts[code] += 1
            if arrived != _ALWAYS and arrived - time > LATE_MS:
                counts[0] += 1
        if (late or time < unit.dawn) and time >= unit.oldest:
            unit.disorder = min(unit.disorder, time)
        if by_device[flags[i]]:
            continue
        if late:
            if value < limit.low or value > limit.high:
                flags[i] = _RANGE
            continue
        flags[i] = _flag(limit, memory, unit, time, value)
        unit.newest = max(unit.newest, time)
        if limit.tells and (not flags[i]):
            _note(limit, unit, time, value)
    return len(codes)


@compiled
def _find(times, count, time):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Return the place of an instant among the remembered ones, or -1."""
    for back in range(1, min(count, _REMEMBERED) + 1):
        place = (count - back) % _REMEMBERED
        if times[place] == time:
            return place
    return -1


@compiled
def _flag(limit, memory, unit, time, value):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Return the flag of a reading later than all before, and remember it."""
    flag = 0
    first = memory.time < EARLIEST_MS
    known = memory.good_time >= EARLIEST_MS
    elapsed = time - memory.good_time
    meant = value
    # What the unit was doing before this very instant: readings of one
    # instant are then judged alike, whichever comes first.
    running, since = unit.now, unit.changed
    if time <= unit.changed:
        running, since = unit.before, unit.earlier
        if time <= unit.earlier:
            unit.disorder = min(unit.disorder, time)
    if limit.kind and known and elapsed < _GAP_MS:
        calm = running >= 0 and time - since > _CALM_MS
        meant = _meant(limit.kind, value, memory.good, calm)
        if meant != value:
            flag = _UNIT
    if (not flag) and (value < limit.low or value > limit.high):
        flag = _RANGE
    if (not flag) and (not first):
        if limit.counter:
            if value < memory.value:
                flag = _COUNTER
        elif limit.rate > 0.0 and known:
            allowed = limit.rate * max(elapsed / 1e3, _SHORTEST_S)
            if abs(value - memory.good) > allowed:
                flag = _RATE_FLAG
    if limit.jitters:
        gap = time - memory.time > _GAP_MS
        moves = running == 1 and value != 0.0
        if first or gap or not moves:
            memory.held_since = _NEVER
        elif value != memory.value:
            memory.changes += 1
            if memory.held_since != _NEVER:
                held = memory.time - memory.held_since
                # What was called stuck must not teach that it is normal.
                if held <= max(_STUCK_MS, _STUCK_TIMES * memory.longest):
                    memory.longest = max(memory.longest, held)
            memory.held_since = _NEVER
        if moves:
            if memory.held_since == _NEVER:
                memory.held_since = time
            elif (
                memory.changes >= _STUCK_CHANGES
                and time - memory.held_since
                > max(_STUCK_MS, _STUCK_TIMES * memory.longest)
                and not flag
            ):
                flag = _STUCK
    if flag in (0, _UNIT):
        memory.good_time, memory.good = time, meant
    if not first:
        step = (time - memory.time) / 1e3
        # A long memory that a single outage does not lengthen much.
        if memory.interval == 0.0:
            memory.interval = step
        else:
            memory.interval += 0.1 * (
                min(step, 3.0 * memory.interval) - memory.interval
            )
    memory.time, memory.value = time, value
    return flag


@compiled
def _meant(kind, value, good, calm):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Return the value in the unit of the last good one, itself if in that."""
    if kind == 1:
        if abs(value - good) < 20.0:
            return value
        # K for degC and degC for K: 273 K are beyond any real step.
        for candidate in (value - 273.15, value + 273.15):
            if abs(candidate - good) < 3.0:
                return candidate
        if calm:
            for candidate in ((value - 32.0) / 1.8, 1.8 * value + 32.0):
                if abs(candidate - good) < 1.5:
                    return candidate
    elif kind == 2:
        if good > 0.0 and value > 0.0:
            for factor in (1e2, 1e3, 1e5, 1e-2, 1e-3, 1e-5):
                if abs(value * factor / good - 1.0) < 0.2:
                    return value * factor
    elif calm and good > 0.0 and value > 0.0:
        for factor in (1e3, 1e-3):
            if abs(value * factor / good - 1.0) < 0.1:
                return value * factor
    return value


@compiled
def _note(limit, unit, time, value):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Take in what a reading says about whether its unit runs."""
    if limit.tells == 1:
        # The state outranks the power from which it is guessed.
        unit.most_power = np.inf
        running = 1 if value > 0.5 else 0
    elif unit.most_power == np.inf:
        return
    else:
        unit.most_power = max(unit.most_power, value)
        if not unit.most_power > 0.0:
            return
        running = 1 if value > 0.1 * unit.most_power else 0
    if running == unit.now:
        return
    if time < unit.newest:
        # Others of this unit were already judged by what it had said before.
        unit.disorder = min(unit.disorder, time)
    if unit.changed < time:
        unit.before, unit.earlier = unit.now, unit.changed
    unit.changed, unit.now = time, running
