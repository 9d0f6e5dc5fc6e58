"""Is a reading plausible? Flags, verdicts and the memory they need.

Nothing is dropped here: a suspect value keeps its value and gains a flag, an
impossible time is quarantined, a reading that is already known is a
duplicate. Every limit is elapsed time, never a number of rows, because one
plant sends each second and the next one every quarter of an hour.

The rules, in the order in which they speak (the first one names the flag):

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

A reading that is older than one already seen is judged by range alone, since
its neighbours in time have gone by.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ingest.reading import FLAG_CODE, SWITCHES, Flag, Reading
from twin.points import POINTS, unit_of

FUTURE_MS = 5 * 60_000
# No instrument of this plant is older; a clock that lost its battery says 1970.
EARLIEST_MS = 946_684_800_000
LATE_MS = 15 * 60_000

# Fastest plausible change, by unit. A start moves a discharge line by some
# 2 K/s and a discharge pressure by some 2 bar/s; twice that and more is left.
_RATE = {"degC": 5.0, "Pa": 1.0e6}
# Two stamps a few ms apart turn noise into a rate; a second is the shortest
# interval that says anything.
_SHORTEST_S = 1.0

_STUCK_MS = 2 * 3_600_000
_STUCK_TIMES = 10
_STUCK_CHANGES = 100
# A gap in the telemetry is no observation that the value stood still.
_GAP_MS = 3_600_000
_JITTERS = frozenset({"degC", "Pa", "m3/s", "W"})
_REMEMBERED = 1024


class Judged(NamedTuple):
    """What became of some readings; every one is in exactly one of the three.

    ``kept`` may carry flags. ``quarantined`` holds the reason beside each.
    """

    kept: list[Reading]
    duplicates: list[Reading]
    quarantined: list[tuple[Reading, str]]


@dataclass(slots=True)
class _Limits:
    low: float
    high: float
    rate: float
    jitters: bool
    counter: bool
    tells_running: bool


@dataclass(slots=True)
class _Memory:
    """What must be known of a point to judge its next reading."""

    limits: _Limits
    time_ms: int = -(1 << 62)
    value: float = 0.0
    good_ms: int = -(1 << 62)
    good: float = 0.0
    held_since_ms: int = 0
    held: bool = False
    longest_ms: int = 0
    changes: int = 0
    recent: dict[int, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Unit:
    known: bool = False
    running: bool = False
    most_power_w: float = 0.0


def _limits(point: str, counter: bool) -> _Limits:
    known = POINTS[point]
    unit = unit_of(point)
    rate = _RATE.get(unit, 0.0)
    setpoint = "setpoint" in point
    return _Limits(
        low=known.low,
        high=known.high,
        rate=0.0 if setpoint or point.endswith("_pressure_drop_pa") else rate,
        jitters=unit in _JITTERS and not setpoint and point not in SWITCHES,
        counter=counter,
        tells_running=point in {"compressor_running", "compressor_power_w"},
    )


def _allowed_ms(memory: _Memory) -> int:
    return max(_STUCK_MS, _STUCK_TIMES * memory.longest_ms)


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
        self._memory: dict[tuple[str, str], _Memory] = {}
        self._units: dict[str, _Unit] = {}
        self.late = 0
        self.conflicts = 0
        self.flagged: dict[str, int] = {}

    def judge(
        self, readings: Iterable[Reading], received_ms: int | None = None
    ) -> Judged:
        """Judge readings in the order in which they arrived.

        Parameters
        ----------
        readings : iterable of Reading
            Finite, in SI, of points of the vocabulary.
        received_ms : int, optional
            When they arrived, in ms since 1970; None judges no reading by how
            far it is ahead of the clock.

        Returns
        -------
        Judged
            A point the vocabulary does not know is quarantined.
        """
        kept: list[Reading] = []
        duplicates: list[Reading] = []
        quarantined: list[tuple[Reading, str]] = []
        for reading in readings:
            reason = self._impossible(reading, received_ms)
            if reason:
                quarantined.append((reading, reason))
                continue
            memory = self._memory.get((reading.unit, reading.point))
            if memory is None:
                memory = self._remember(reading)
            known = memory.recent.get(reading.time_ms)
            if known is not None:
                if known == reading.value:
                    duplicates.append(reading)
                    continue
                # Two values for one instant: the later arrival wins, counted.
                self.conflicts += 1
            elif len(memory.recent) >= _REMEMBERED:
                del memory.recent[next(iter(memory.recent))]
            memory.recent[reading.time_ms] = reading.value
            if received_ms is not None and received_ms - reading.time_ms > LATE_MS:
                self.late += 1
            flag = reading.flag or self._flag(reading, memory)
            if flag:
                flag = str(flag)
                self.flagged[flag] = self.flagged.get(flag, 0) + 1
                kept.append(reading._replace(flag=flag))
            else:
                kept.append(reading)
        return Judged(kept, duplicates, quarantined)

    def forget_counts(self) -> None:
        """Begin to count late, conflicting and flagged readings anew."""
        self.late = self.conflicts = 0
        self.flagged = {}

    def latest(self) -> dict[tuple[str, str], tuple[int, float]]:
        """Return the newest time (in ms since 1970) and value of each point."""
        # A copy first: another thread may be adding a point.
        return {
            key: (memory.time_ms, memory.value)
            for key, memory in self._memory.copy().items()
        }

    @staticmethod
    def _impossible(reading: Reading, received_ms: int | None) -> str:
        if reading.point not in POINTS:
            return "unknown point"
        if received_ms is not None and reading.time_ms > received_ms + FUTURE_MS:
            return "time in the future"
        if reading.time_ms < EARLIEST_MS:
            return "time before 2000"
        if reading.flag not in FLAG_CODE:
            return "unknown flag"
        return ""

    def _remember(self, reading: Reading) -> _Memory:
        key = (reading.unit, reading.point)
        counter = key in self._counters or reading.point.endswith("_energy_j")
        memory = self._memory[key] = _Memory(_limits(reading.point, counter))
        return memory

    def _flag(self, reading: Reading, memory: _Memory) -> str:
        limits, value = memory.limits, reading.value
        flag = ""
        if not limits.low <= value <= limits.high:
            flag = Flag.RANGE
        if reading.time_ms <= memory.time_ms:
            return flag
        first = memory.time_ms < EARLIEST_MS
        if not flag and not first:
            if limits.counter:
                flag = Flag.COUNTER if value < memory.value else ""
            elif limits.rate and memory.good_ms >= EARLIEST_MS:
                elapsed = max((reading.time_ms - memory.good_ms) / 1e3, _SHORTEST_S)
                if abs(value - memory.good) > limits.rate * elapsed:
                    flag = Flag.RATE
        if limits.jitters and self._stuck(reading, memory, first) and not flag:
            flag = Flag.STUCK
        if not flag:
            memory.good_ms, memory.good = reading.time_ms, value
        memory.time_ms, memory.value = reading.time_ms, value
        if limits.tells_running:
            self._note_running(reading)
        return flag

    def _stuck(self, reading: Reading, memory: _Memory, first: bool) -> bool:
        """Follow how long the value has been held; say whether too long."""
        unit = self._units.get(reading.unit)
        running = unit is not None and unit.known and unit.running
        gap = reading.time_ms - memory.time_ms > _GAP_MS
        if first or gap or not running or reading.value == 0.0:
            memory.held = False
        elif reading.value != memory.value:
            memory.changes += 1
            if memory.held:
                held = memory.time_ms - memory.held_since_ms
                # What was called stuck must not teach that it is normal.
                if held <= _allowed_ms(memory):
                    memory.longest_ms = max(memory.longest_ms, held)
            memory.held = False
        if not running or reading.value == 0.0:
            return False
        if not memory.held:
            memory.held, memory.held_since_ms = True, reading.time_ms
            return False
        held = reading.time_ms - memory.held_since_ms
        return memory.changes >= _STUCK_CHANGES and held > _allowed_ms(memory)

    def _note_running(self, reading: Reading) -> None:
        unit = self._units.setdefault(reading.unit, _Unit())
        if reading.point == "compressor_running":
            # The state outranks the power from which it is guessed.
            unit.known, unit.running = True, reading.value > 0.5
            unit.most_power_w = float("inf")
        elif unit.most_power_w != float("inf"):
            unit.most_power_w = max(unit.most_power_w, reading.value)
            unit.known = unit.most_power_w > 0.0
            unit.running = reading.value > 0.1 * unit.most_power_w
