"""Which probe lies, while the day runs: lost, stuck, unit, sign, swapped, spikes.

Every few minutes of event time each instrument is asked whether what it said
lately agrees with what it said before, with its own habits and with the order
that physics imposes. Where it does not, one question decides: which single
replacement (degF for degC, the sign turned, the pair exchanged, the point left
out) makes the readings agree again? Exactly one answer names the lie, two are
"ambiguous", none is silence: then the plant moved, and that is for others to
judge. Slow lies (an offset, a gain, a drift) are not found here.

Habits are learnt from the days before: how often a point speaks, how far it
steps, how long it holds a value. So a coarse display, a point that reports on
change and a reading every half hour are each judged by their own measure, and
what is not known after :data:`LEARN_DAYS` days is not judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibration import steady
from twin.finding import Finding, FindingKind
from twin.plant import Exchanger, Machine
from twin.points import unit_of
from twin.states import derive, derive_exchanger

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Device = Machine | Exchanger

LOOK = timedelta(minutes=2)
"""How often a look is taken; a coarser telemetry is looked at as often as it comes."""
KEEP_DAYS, LEARN_DAYS = 14, 2
"""How many days of habits are kept, and how many it takes to judge by them."""

_MINUTE, _HOUR = 60 * 10**9, 3600 * 10**9
_BASIS = timedelta(minutes=60)  # what a jump is measured from, at most
_STALE = timedelta(minutes=90)  # a jump that nothing has explained by then is none
_SETTLED = 15 * _MINUTE
# A liquid's temperature cannot go and come back between two readings of a
# minute or two; between those of ten minutes a flushed line can.
_INERT_S = 120.0
_FAR_K, _FAR_SHARE = 5.0, 0.3
_STEPS = 3.0  # of the usual daily maximum, that a step must exceed to be a jump
_FLOOR = {"degC": 0.3, "Pa": 0.03, "m3/s": 0.10, "W": 0.10}  # [K], else of the level
# Against which a held value is no accident, while standing and while running: a
# standing machine's liquids take the room's temperature and keep it.
_CHANCE = (np.log(1e12), np.log(5e7))
_CENTRED = 1.5  # how much rather a value repeats that lies amid its last digit [1]
_LOST = np.log(1e5)
_LONGEST = 2.0
_HELD_S = 1200.0
_SAME = 0.05  # of a level, within which a flow, power or pressure is the same [1]
_CLOSES = 0.35  # energy balance of a pair put right [1]

_UNITS: Mapping[str, tuple[tuple[str, float, float], ...]] = {
    "degC": (("degF", 1.0 / 1.8, -32.0 / 1.8), ("K", 1.0, -273.15)),
    "Pa": (
        ("gauge", 1.0, 101_325.0),
        *((name, factor, 0.0) for name, factor in (
            ("bar", 1e5), ("kPa", 1e3), ("hPa", 1e2), ("psi", 6894.757))),
        *((f"Pa taken for {name}", 1.0 / factor, 0.0) for name, factor in (
            ("bar", 1e5), ("kPa", 1e3), ("hPa", 1e2))),
    ),
    "W": (("kW", 1e3, 0.0), ("MW", 1e6, 0.0), ("W taken for kW", 1e-3, 0.0)),
    "m3/s": (
        ("m3/h", 1.0 / 3600.0, 0.0), ("l/s", 1e-3, 0.0), ("l/min", 1.0 / 6e4, 0.0)),
}  # fmt: skip
_SPIKED = frozenset({"degC", "Pa"})


class Reason(StrEnum):
    """How a probe lies."""

    LOST = "lost"
    STUCK = "stuck"
    UNIT = "unit"
    SIGN = "sign"
    SWAPPED = "swapped"
    SPIKES = "spikes"
    RANGE = "range"
    AMBIGUOUS = "ambiguous"


# How long a probe must speak truly before it is believed again.
_REST = {
    Reason.LOST: timedelta(minutes=30),
    Reason.STUCK: timedelta(0),
    Reason.UNIT: timedelta(minutes=30),
    Reason.SIGN: timedelta(minutes=30),
    Reason.SWAPPED: timedelta(minutes=30),
    Reason.RANGE: timedelta(minutes=30),
    Reason.AMBIGUOUS: timedelta(minutes=30),
}
_ADVICE = {
    Reason.LOST: "Check the probe's wiring, its input card and the gateway.",
    Reason.STUCK: "Check the probe, its cable and the gateway: the number no longer"
    " comes from the plant.",
    Reason.UNIT: "Set the instrument, the gateway or the plant.toml to one unit.",
    Reason.SIGN: "Check the polarity or the scaling that was set at the instrument.",
    Reason.SWAPPED: "Exchange the two probes, or their names in the plant.toml.",
    Reason.SPIKES: "Check terminals, screen and earth of the probe's cable.",
    Reason.RANGE: "Check the probe and its cable: a break or a short circuit reads so.",
    Reason.AMBIGUOUS: "Read the probe with a second instrument.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lie:
    """A probe, or a swapped pair, that does not tell what the plant does.

    Attributes
    ----------
    points
        Whose readings are not to be used after ``since`` and until ``until``.
    reason
        How it lies.
    since, named, until
        When it began by the evidence, the look that said so first, and the look
        at which it was believed again; None while it lies. UTC.
    last
        The last look at which it was not seen to speak truly. UTC.
    level
        What it would read, as last seen, where its readings can be put right;
        NaN elsewhere. [the point's unit]
    evidence
        The numbers behind it.
    """

    points: tuple[str, ...]
    reason: Reason
    since: datetime
    named: datetime
    last: datetime
    until: datetime | None = None
    level: float = float("nan")
    evidence: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def component(self) -> str:
        """Name of the case: the point, or both of a pair."""
        return ",".join(self.points)

    def to_dict(self) -> dict[str, Any]:
        """Return the lie as plain JSON values."""
        return {
            "points": list(self.points),
            "reason": self.reason.value,
            **{
                name: None if time is None else time.isoformat()
                for name in ("since", "named", "last", "until")
                for time in (getattr(self, name),)
            },
            "level": None if np.isnan(self.level) else self.level,
            "evidence": dict(self.evidence),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Lie:
        """Return the lie that :meth:`to_dict` wrote."""
        until = values["until"]
        level = values["level"]
        return cls(
            points=tuple(map(str, values["points"])),
            reason=Reason(values["reason"]),
            since=datetime.fromisoformat(values["since"]),
            named=datetime.fromisoformat(values["named"]),
            last=datetime.fromisoformat(values["last"]),
            until=None if until is None else datetime.fromisoformat(until),
            level=float("nan") if level is None else float(level),
            evidence=dict(values["evidence"]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Day:
    """The habits that one day showed: a row of :data:`_HABITS` for each point."""

    names: tuple[str, ...]
    table: Array


_HABITS = (
    "arrived", "spoke", "least", "step", "spacing", "low", "high", "difference",
    "pairs0", "equal0", "longest0", "pairs1", "equal1", "longest1",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """What is known of a device's probes: their habits, and who lies or lied."""

    days: tuple[_Day, ...] = ()
    lies: tuple[Lie, ...] = ()

    @property
    def step_s(self) -> float:
        """The interval at which readings are compared. [s]."""
        told = [day.table[:, _HABITS.index("spacing")] for day in self.days]
        known = np.concatenate([*told, np.zeros(0)])
        known = known[np.isfinite(known)]
        usual = float(np.median(known)) if len(known) else 0.0
        return max(60.0, 60.0 * round(usual / 60.0))

    @property
    def lying(self) -> tuple[Lie, ...]:
        """Those that lie now."""
        return tuple(lie for lie in self.lies if lie.until is None)


# --- readings on a common clock -------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Sheet:
    """Readings of one device side by side, and what follows from them alone.

    ``since`` is for how long the present value has been held, ``hold`` the
    repeats; ``step`` is the change from the reading before. [s, 1, unit]
    """

    names: tuple[str, ...]
    width: int
    ns: NDArray[np.int64]
    readings: Array
    refused: Flags
    here: Flags
    others: Flags
    run: Array
    ran: NDArray[np.int64]
    prior: NDArray[np.intp]
    step: Array
    hold: NDArray[np.int64]
    held: Array

    def rows(self, after: datetime, until: datetime) -> tuple[int, int]:
        """Return the places of the rows after one time until another."""
        low, high = (
            np.searchsorted(self.ns, _ns(time), side="right") for time in (after, until)
        )
        return int(low), int(high)


def _ns(time: datetime) -> int:
    return int(pd.Timestamp(time).as_unit("ns").value)


def _time(ns: int) -> datetime:
    return pd.Timestamp(ns, unit="ns", tz=UTC).to_pydatetime()


def _judged(name: str) -> bool:
    return unit_of(name) in _FLOOR and "setpoint" not in name


def _binned(frame: pd.DataFrame, width: int) -> pd.DataFrame:
    """Return the last reading of each interval; as it is where there is but one."""
    ns = pd.DatetimeIndex(frame.index).as_unit("ns").asi8
    bins = -(-ns // width)
    if len(np.unique(bins)) < len(bins):
        frame = frame.groupby(bins).last()
        bins = frame.index.to_numpy()
    index = pd.DatetimeIndex(pd.to_datetime(bins * width, utc=True, unit="ns"))
    return frame.set_axis(index, axis=0)


def _sheet(
    came: pd.DataFrame, clean: pd.DataFrame, device: Device, step_s: float
) -> _Sheet:
    width = round(step_s * 1e9)
    table = _binned(came, width)
    names = tuple(name for name in table.columns if _judged(name))
    ns = pd.DatetimeIndex(table.index).as_unit("ns").asi8
    values = table[list(names)].to_numpy(dtype=float)
    here = np.isfinite(values)
    refused = np.zeros_like(here)
    kept = table
    if clean is not came:
        kept = _binned(clean, width).reindex(table.index)
        accepted = kept.reindex(columns=list(names)).to_numpy(dtype=float)
        refused = here & ~np.isfinite(accepted)
    spoke = np.isfinite(table.to_numpy(dtype=float)).sum(axis=1)
    # A power that is read in kW must not tell that the machine stands.
    run = _runs(kept, device)
    n = len(ns)
    place = np.arange(n)[:, None]
    now = np.maximum.accumulate(np.where(here, place, -1), axis=0)
    prior = np.vstack([np.full((min(1, n), len(names)), -1), now[:-1]])
    before = np.take_along_axis(values, np.maximum(prior, 0), axis=0)
    apart = ns[:, None] - ns[np.maximum(prior, 0)]
    near = here & (prior >= 0) & (apart <= 3 * width)
    step = np.where(near, np.abs(values - before), np.nan)
    same_run = run[:, None] == run[np.maximum(prior, 0)]
    # A gap is no observation that a value stood still.
    equal = here & (prior >= 0) & (apart <= max(_HOUR // 2, 3 * width))
    equal &= same_run & (values == before) & (values != 0.0)
    breaks = here & ~equal
    count = np.cumsum(equal, axis=0)
    hold = count - np.maximum.accumulate(np.where(breaks, count, 0), axis=0)
    first = np.maximum.accumulate(np.where(breaks, place, 0), axis=0)
    held = (ns[np.maximum(now, 0)] - ns[first]).astype(float) * 1e-9
    turned = np.concatenate([[True] * min(1, n), run[1:] != run[:-1]])
    began = np.maximum.accumulate(np.where(turned, ns, 0))
    return _Sheet(
        names=names,
        width=width,
        ns=ns,
        readings=values,
        refused=refused,
        here=here,
        others=spoke[:, None] - here > 0,
        run=run,
        ran=ns - began,
        prior=prior,
        step=step,
        hold=hold,
        held=held,
    )


def _runs(table: pd.DataFrame, device: Device) -> Array:
    """Return 1 where the device runs, 0 where it stands, -1 where nobody knows."""
    if isinstance(device, Machine):
        run = steady.running(table, device).to_numpy(dtype=float)
        return np.where(np.isnan(run), -1.0, run)
    names = [name for name in map(str, table) if name.endswith("_flow_m3_s")]
    if not names:
        return np.ones(len(table))
    return np.asarray(table[names].min(axis=1) > 0.0, dtype=float)


def _pairs(device: Device) -> tuple[tuple[str, str], ...]:
    """Return what must read more than what, while the device runs."""
    if isinstance(device, Machine):
        return (
            ("source_inlet_temp_degc", "source_outlet_temp_degc"),
            ("sink_outlet_temp_degc", "sink_inlet_temp_degc"),
            ("compressor_discharge_pressure_pa", "suction_pressure_pa"),
        )
    return (
        ("hot_inlet_temp_degc", "hot_outlet_temp_degc"),
        ("cold_outlet_temp_degc", "cold_inlet_temp_degc"),
    )


# --- habits -----------------------------------------------------------------------


def learn(
    memory: Memory,
    came: pd.DataFrame,
    device: Device,
    start: datetime,
    stop: datetime,
) -> Memory:
    """Take a day that is over into the habits, but for what probes lied.

    Parameters
    ----------
    memory : Memory
        As :func:`watch` left it at the end of the day.
    came : DataFrame
        The device's readings as they came, UTC index.
    device : Machine or Exchanger
        The device as configured.
    start, stop : datetime
        The day.

    Returns
    -------
    Memory
        With the day's habits, and without those of a fortnight ago.
    """
    honest = masked(came, memory.lies)
    sheet = _sheet(honest, honest, device, memory.step_s)
    return _learnt(memory, sheet, device, start, stop)


def _learnt(
    memory: Memory, sheet: _Sheet, device: Device, start: datetime, stop: datetime
) -> Memory:
    low, high = sheet.rows(start, stop)
    table = np.full((len(sheet.names), len(_HABITS)), np.nan)
    if high - low < 12:
        return memory
    column = {name: k for k, name in enumerate(_HABITS)}
    rows = slice(low, high)
    here, ns = sheet.here[rows], sheet.ns[rows]
    values, run = sheet.readings[rows], sheet.run[rows]
    told = _told(sheet, memory.lies)[rows]
    spoke = sheet.others[rows] & told
    table[:, column["arrived"]] = (here & spoke).sum(axis=0)
    table[:, column["spoke"]] = spoke.sum(axis=0)
    hours = (ns - 1) // _HOUR
    first = np.flatnonzero(np.diff(hours, prepend=hours[0] - 1))
    all_of = np.add.reduceat(spoke.astype(float), first, axis=0)
    got = np.add.reduceat((here & spoke).astype(float), first, axis=0)
    share = np.where(all_of >= 2, got / np.maximum(all_of, 1.0), 1.0)
    table[:, column["least"]] = share.min(axis=0)
    calm = (sheet.ran[rows] > 2 * _SETTLED)[:, None]
    steps = np.where(calm, sheet.step[rows], np.nan)
    known = np.isfinite(steps).sum(axis=0) >= 12
    table[:, column["step"]] = np.where(
        known, np.max(np.where(np.isfinite(steps), steps, -1.0), axis=0), np.nan
    )
    apart = (ns[:, None] - sheet.ns[np.maximum(sheet.prior[rows], 0)]) * 1e-9
    for k in np.flatnonzero(here.sum(axis=0) >= 12):
        values_k = values[here[:, k], k]
        table[k, column["low"]] = values_k.min()
        table[k, column["high"]] = values_k.max()
        table[k, column["spacing"]] = np.median(apart[here[:, k], k])
    for state in (0, 1):
        mine = (run == state)[:, None] & here & (sheet.prior[rows] >= 0)
        hold = np.where(mine, sheet.hold[rows], 0)
        table[:, column[f"pairs{state}"]] = mine.sum(axis=0)
        table[:, column[f"equal{state}"]] = (hold > 0).sum(axis=0)
        table[:, column[f"longest{state}"]] = np.where(
            hold > 0, sheet.held[rows], 0.0
        ).max(axis=0)
    ready = (run == 1) & (sheet.ran[rows] >= _SETTLED)
    for warm, cool in _pairs(device):
        if warm in sheet.names and cool in sheet.names:
            a, b = sheet.names.index(warm), sheet.names.index(cool)
            both = values[ready, a] - values[ready, b]
            both = both[np.isfinite(both)]
            if len(both) >= 12:
                table[a, column["difference"]] = np.median(both)
    days = (*memory.days, _Day(sheet.names, table))[-KEEP_DAYS:]
    return replace(memory, days=days)


def _told(sheet: _Sheet, lies: Iterable[Lie]) -> Flags:
    """Return where a reading of each point can be believed, if there is one."""
    told = np.ones((len(sheet.ns), len(sheet.names)), dtype=bool)
    for lie in lies:
        low = int(np.searchsorted(sheet.ns, _ns(lie.since), side="right"))
        high = len(sheet.ns)
        if lie.until is not None:
            high = int(np.searchsorted(sheet.ns, _ns(lie.until), side="right"))
        for name in lie.points:
            if name in sheet.names:
                told[low:high, sheet.names.index(name)] = False
    return told


class _Habits:
    """The habits of a sheet's points, over the days that are remembered."""

    def __init__(self, memory: Memory, sheet: _Sheet) -> None:
        days = np.full((len(memory.days), len(sheet.names), len(_HABITS)), np.nan)
        for k, day in enumerate(memory.days):
            place = {name: row for row, name in enumerate(day.names)}
            some = [j for j, name in enumerate(sheet.names) if name in place]
            days[k, some] = day.table[[place[sheet.names[j]] for j in some]]
        of = {name: days[:, :, k] for k, name in enumerate(_HABITS)}
        none = np.full(len(sheet.names), np.nan)

        def over(fold: Any, name: str) -> Array:
            table = of[name]
            known = np.isfinite(table).any(axis=0)
            answer = none.copy()
            if known.any():
                answer[known] = fold(table[:, known], axis=0)
            return answer

        self.days = np.isfinite(of["spacing"]).sum(axis=0)
        spoke = over(np.nansum, "spoke")
        self.share = over(np.nansum, "arrived") / np.maximum(spoke, 1.0)
        self.least = over(np.nanmin, "least")
        step = over(np.nanmedian, "step")
        self.low, self.high = over(np.nanmin, "low"), over(np.nanmax, "high")
        self.difference = over(np.nanmedian, "difference")
        units = [unit_of(name) for name in sheet.names]
        level = np.fmax(np.abs(self.low), np.abs(self.high))
        floor = np.array([_FLOOR[unit] for unit in units])
        floor = np.where(np.array(units) == "degC", floor, floor * level)
        self.jump = np.where(
            (self.days >= LEARN_DAYS) & np.isfinite(step),
            np.fmax(floor, _STEPS * step),
            np.inf,
        )
        self.pairs, self.repeat, self.longest = {}, {}, {}
        for state in (0, 1):
            pairs = over(np.nansum, f"pairs{state}")
            equal = over(np.nansum, f"equal{state}")
            self.pairs[state] = pairs
            self.repeat[state] = np.clip(equal / np.maximum(pairs, 1.0), 0.02, 1.0)
            self.longest[state] = over(np.nanmax, f"longest{state}")


# --- the look ----------------------------------------------------------------------


def watch(
    memory: Memory,
    came: pd.DataFrame,
    clean: pd.DataFrame,
    device: Device,
    start: datetime,
    stop: datetime,
) -> Memory:
    """Look at a device's probes every few minutes of a span of event time.

    Parameters
    ----------
    memory : Memory
        What was known at ``start``.
    came : DataFrame
        Readings as they came, values that the intake flagged included, UTC
        index; begin an hour or two before ``start``.
    clean : DataFrame
        The same with the flagged ones NaN; ``came`` itself where none is.
    device : Machine or Exchanger
        The device as configured.
    start, stop : datetime
        The looks are those after ``start`` until ``stop``, aware.

    Returns
    -------
    Memory
        With who began to lie and who was believed again, each at its look.
    """
    if came.empty:
        return memory
    sheet = _sheet(came, clean, device, memory.step_s)
    return _walked(memory, sheet, device, start, stop)


def watch_and_learn(
    memory: Memory,
    came: pd.DataFrame,
    clean: pd.DataFrame,
    device: Device,
    start: datetime,
    stop: datetime,
) -> Memory:
    """Do :func:`watch` over a day and then :func:`learn` it, in less time.

    Readings of which none was refused and none is a lie are laid side by side
    once for both. Parameters and answer are theirs.
    """
    if came.empty:
        return memory
    sheet = _sheet(came, clean, device, memory.step_s)
    seen = _walked(memory, sheet, device, start, stop)
    if clean is came and masked(came, seen.lies) is came:
        return _learnt(seen, sheet, device, start, stop)
    return learn(seen, came, device, start, stop)


def _walked(
    memory: Memory, sheet: _Sheet, device: Device, start: datetime, stop: datetime
) -> Memory:
    if not len(sheet.names):
        return memory
    watcher = _Watcher(sheet, _Habits(memory, sheet), device, memory.lies)
    every = max(int(LOOK.total_seconds() * 1e9), sheet.width)
    looks = np.arange(_ns(start) // every + 1, _ns(stop) // every + 1) * every
    return replace(memory, lies=watcher.walk(looks))


@dataclass(slots=True)
class _Told:
    """A lie found at a look: of whom, since when, and the numbers behind it."""

    points: tuple[str, ...]
    reason: Reason
    since: int
    level: float = float("nan")
    evidence: dict[str, Any] = field(default_factory=dict)


class _Watcher:
    """One walk over a sheet. What it finds depends on the past of each look only."""

    def __init__(
        self, sheet: _Sheet, habits: _Habits, device: Device, lies: Sequence[Lie]
    ) -> None:
        self.sheet, self.habits, self.device = sheet, habits, device
        self.lies = list(lies)
        self.known = habits.days >= LEARN_DAYS
        with np.errstate(invalid="ignore"):
            self.jumped = sheet.step > habits.jump
        # Which points jump together: a reading earlier or later is together.
        wide = self.jumped.copy()
        wide[1:] |= self.jumped[:-1]
        wide[:-1] |= self.jumped[1:]
        self.alone = wide.sum(axis=1) == 1
        # Only what moves alone can be its probe's doing.
        self.jumps = self.jumped & self.alone[:, None]
        # Beyond anything of the last fortnight, and the only point that is.
        reach = np.fmax(habits.jump, 0.5 * (habits.high - habits.low))
        with np.errstate(invalid="ignore"):
            far = (sheet.readings > habits.high + reach) | (
                sheet.readings < habits.low - reach
            )
        far &= self.known
        self.outside = sheet.refused | (far & (far.sum(axis=1) == 1)[:, None])
        self.arrived = _sums(sheet.here & sheet.others)
        self.spoke = _sums(sheet.others)
        self.repeats = _sums(sheet.hold > 0)
        self.present = _sums(sheet.here)

    def walk(self, looks: NDArray[np.int64]) -> tuple[Lie, ...]:
        sheet = self.sheet
        high = np.searchsorted(sheet.ns, looks, side="right")
        lost, stuck = self._lost(looks, high), self._stuck(high)
        order = self._disorder()
        odd = np.zeros(len(sheet.ns), dtype=bool)
        odd |= (self.jumps | self.outside).any(axis=1)
        for wrong in order.values():
            odd |= wrong
        until = np.maximum.accumulate(np.where(odd, sheet.ns, 0))
        stale = _STALE.total_seconds() * 1e9
        recent = (high > 0) & (looks - until[np.maximum(high - 1, 0)] <= stale)
        flagged = lost.any(axis=1) | stuck.any(axis=1) | recent
        for k, look in enumerate(looks):
            open_ = [lie for lie in self.lies if lie.until is None]
            if not open_ and not flagged[k]:
                continue
            end = int(high[k])
            if end == 0:
                continue
            time = _time(int(look))
            for lie in open_:
                self._again(lie, time, end)
            if not flagged[k]:
                continue
            found = [
                *self._losses(lost[k], end, int(look)),
                *self._frozen(stuck[k], end),
                *self._reversed(order, end, int(look)),
                *self._jumps(end, int(look)),
            ]
            for told in found:
                self._open(told, time)
        return tuple(self.lies)

    def _open(self, told: _Told, time: datetime) -> None:
        busy = {name for lie in self.lies if lie.until is None for name in lie.points}
        if busy & set(told.points):
            return
        since = _time(told.since)
        for lie in self.lies:
            # What was believed again is not doubted for what it said before.
            if lie.until is not None and set(lie.points) & set(told.points):
                since = max(since, lie.until)
        self.lies.append(
            Lie(
                points=told.points,
                reason=told.reason,
                since=since,
                named=time,
                last=time,
                level=told.level,
                evidence={"reason": told.reason.value, **told.evidence},
            )
        )

    def _busy(self) -> set[str]:
        """Return the points of which it is known that they lie."""
        return {name for lie in self.lies if lie.until is None for name in lie.points}

    # --- lost, stuck: by habit

    def _lost(self, looks: NDArray[np.int64], high: NDArray[np.intp]) -> Flags:
        """Return at each look which points have all but ceased to arrive."""
        found = np.zeros((len(looks), len(self.sheet.names)), dtype=bool)
        usual = np.clip(self.habits.share, 1e-3, 0.98)
        least = self.habits.least
        for minutes in (30, 60, 120):
            low = np.searchsorted(
                self.sheet.ns, looks - minutes * _MINUTE, side="right"
            )
            asked = self.spoke[high] - self.spoke[low]
            share = (self.arrived[high] - self.arrived[low]) / np.maximum(asked, 1)
            with np.errstate(divide="ignore", invalid="ignore"):
                far = share * np.log(np.maximum(share, 1e-12) / usual) + (
                    1.0 - share
                ) * np.log(np.maximum(1.0 - share, 1e-12) / (1.0 - usual))
                found |= (asked * far > _LOST) & (share < 0.5 * least)
        return np.asarray(found & self.known)

    def _losses(self, lost: Flags, end: int, look: int) -> list[_Told]:
        found = []
        lately = {
            name
            for lie in self.lies
            if lie.until is not None and look - _ns(lie.until) < 2 * _HOUR
            for name in lie.points
        }
        for j in np.flatnonzero(lost):
            if self.sheet.names[j] in lately:
                continue  # its gaps are those that were told of before
            low = int(np.searchsorted(self.sheet.ns, look - 30 * _MINUTE, "right"))
            for minutes in (60, 120):
                if self.spoke[end, j] - self.spoke[low, j] >= 3:
                    break
                low = int(
                    np.searchsorted(self.sheet.ns, look - minutes * _MINUTE, "right")
                )
            gone = np.flatnonzero(
                self.sheet.others[low:end, j] & ~self.sheet.here[low:end, j]
            )
            first = low + (int(gone[0]) if len(gone) else 0)
            found.append(
                _Told(
                    (self.sheet.names[j],),
                    Reason.LOST,
                    int(self.sheet.ns[first]) - self.sheet.width,
                    evidence={
                        "readings": int(self.arrived[end, j] - self.arrived[first, j]),
                        "expected": round(
                            float(
                                (self.spoke[end, j] - self.spoke[first, j])
                                * self.habits.share[j]
                            ),
                            1,
                        ),
                    },
                )
            )
        return found

    def _stuck(self, high: NDArray[np.intp]) -> Flags:
        """Return at each look which points repeat one number beyond chance."""
        last = np.maximum(high - 1, 0)
        hold, held = self.sheet.hold[last], self.sheet.held[last]
        found = np.zeros(hold.shape, dtype=bool)
        for state in (0, 1):
            rarely = -np.log(np.minimum(_CENTRED * self.habits.repeat[state], 1.0))
            with np.errstate(invalid="ignore"):
                found |= (
                    (self.sheet.run[last] == state)[:, None]
                    & (self.habits.pairs[state] >= 300)
                    & (hold * rarely > _CHANCE[state])
                    & (held >= np.fmax(_HELD_S, _LONGEST * self.habits.longest[state]))
                )
        # A pump at its least speed draws the same to the last digit for hours.
        free = [not name.endswith("_pump_power_w") for name in self.sheet.names]
        return np.asarray(found & self.known & np.array(free))

    def _frozen(self, stuck: Flags, end: int) -> list[_Told]:
        found = []
        for j in np.flatnonzero(stuck):
            last = end - 1
            held = float(self.sheet.held[last, j])
            here = np.flatnonzero(self.sheet.here[:end, j])[-1]
            state = int(self.sheet.run[last])
            found.append(
                _Told(
                    (self.sheet.names[j],),
                    Reason.STUCK,
                    int(self.sheet.ns[here]) - int(held * 1e9),
                    evidence={
                        "value": float(self.sheet.readings[here, j]),
                        "repeats": int(self.sheet.hold[last, j]),
                        "held_s": held,
                        "usual_longest_s": float(self.habits.longest[state][j]),
                        "usual_repeat_share": round(
                            float(self.habits.repeat[state][j]), 3
                        ),
                    },
                )
            )
        return found

    # --- swapped: by the order that physics imposes

    def _disorder(self) -> dict[tuple[int, int], Flags]:
        """Return by pair where what must be the larger is clearly the smaller."""
        sheet, found = self.sheet, {}
        ready = (sheet.run == 1) & (sheet.ran >= _SETTLED)
        for warm, cool in _pairs(self.device):
            if warm not in sheet.names or cool not in sheet.names:
                continue
            a, b = sheet.names.index(warm), sheet.names.index(cool)
            with np.errstate(invalid="ignore"):
                wrong = sheet.readings[:, a] - sheet.readings[:, b] < -self._clear(a, b)
            found[a, b] = ready & wrong
        return found

    def _clear(self, a: int, b: int) -> float:
        """Return how far a pair must be apart before its order is seen."""
        usual = self.habits.difference[a]
        least = 0.5
        if unit_of(self.sheet.names[a]) == "Pa":
            level = self.habits.high[b]
            least = 0.2 * float(level) if np.isfinite(level) else 1e5
        return max(least, 0.25 * float(usual)) if usual > 0.0 else least

    def _reversed(
        self, order: Mapping[tuple[int, int], Flags], end: int, look: int
    ) -> list[_Told]:
        sheet, found = self.sheet, []
        busy = self._busy()
        for (a, b), wrong in order.items():
            if {sheet.names[a], sheet.names[b]} & busy or not wrong[:end].any():
                continue
            both = sheet.here[:end, a] & sheet.here[:end, b] & (sheet.run[:end] == 1)
            rows = np.flatnonzero(both)
            right = np.flatnonzero(~wrong[rows])
            rows = rows[int(right[-1]) + 1 if len(right) else 0 :]
            usual = float(self.habits.difference[a])
            least = 3 if sheet.width < 10 * _MINUTE else 2
            if len(rows) < least or sheet.ns[end - 1] - sheet.ns[rows[-1]] > _HOUR:
                continue
            if look - (sheet.ns[rows[0]] - sheet.width) < 10 * _MINUTE:
                continue
            if max(sheet.hold[rows[-1], a], sheet.hold[rows[-1], b]) > max(
                5, len(rows) // 2
            ):
                continue  # one of them stands still, and the other is right
            apart = float(np.median(sheet.readings[rows, b] - sheet.readings[rows, a]))
            balance = self._closes(rows, a, b)
            if usual > 0.0:
                if not 0.4 <= apart / usual <= 2.5:
                    continue
            elif not np.isfinite(balance) and len(rows) < 6 * least:
                continue
            if np.isfinite(balance) and abs(balance) > _CLOSES:
                continue
            since = int(sheet.ns[rows[0]]) - sheet.width
            found.append(
                _Told(
                    tuple(sorted((sheet.names[a], sheet.names[b]))),
                    Reason.SWAPPED,
                    since,
                    evidence={
                        "difference": -apart,
                        "usual_difference": usual if np.isfinite(usual) else None,
                        "balance_exchanged": round(balance, 4)
                        if np.isfinite(balance)
                        else None,
                        "readings": len(rows),
                    },
                )
            )
        return found

    def _closes(self, rows: NDArray[np.intp], a: int, b: int) -> float:
        """Return the energy balance with a pair exchanged, NaN where unmetered."""
        names = self.sheet.names
        values = self.sheet.readings[rows]
        values[:, [a, b]] = values[:, [b, a]]
        known = np.isfinite(values).any(axis=0)
        with np.errstate(invalid="ignore"):
            mean = np.where(known, np.nansum(values, axis=0), np.nan)
            mean = mean / np.maximum(np.isfinite(values).sum(axis=0), 1)
        row = pd.DataFrame([mean], columns=list(names))
        if isinstance(self.device, Machine):
            row["compressor_running"] = 1.0
            told, column = derive(row, self.device), "energy_balance_error"
        else:
            told, column = derive_exchanger(row, self.device), "exchanger_balance_error"
        return float(told[column].iloc[0]) if column in told else float("nan")

    # --- unit, sign, spikes: by which replacement agrees with what came before

    def _jumps(self, end: int, look: int) -> list[_Told]:
        sheet = self.sheet
        begin = int(
            np.searchsorted(sheet.ns, look - _STALE.total_seconds() * 1e9, "right")
        )
        found: list[_Told] = []
        told: Flags | None = None
        busy = self._busy()
        for j in np.flatnonzero(
            (self.jumps[begin:end] | self.outside[begin:end]).any(axis=0)
        ):
            if sheet.names[j] in busy:
                continue
            if told is None:
                told = _told(sheet, self.lies)
            first = np.flatnonzero(self.jumps[begin:end, j] & told[begin:end, j])
            for k in first + begin:
                answer = self._explained(int(k), int(j), end, told)
                if answer is not None:
                    found.append(answer)
                    break
            else:
                answer = self._refused(int(j), begin, end, told)
                if answer is not None:
                    found.append(answer)
        return found

    def _basis(self, k: int, j: int, told: Flags) -> float:
        """Return what a point read before a row: the median of five, or NaN."""
        sheet = self.sheet
        reach = max(_BASIS.total_seconds() * 1e9, 5 * sheet.width)
        low = int(np.searchsorted(sheet.ns, sheet.ns[k] - reach))
        before = sheet.readings[low:k, j][sheet.here[low:k, j] & told[low:k, j]]
        return float(np.median(before[-5:])) if len(before) >= 2 else float("nan")

    def _explained(self, k: int, j: int, end: int, told: Flags) -> _Told | None:
        sheet, name = self.sheet, self.sheet.names[j]
        basis = self._basis(k, j, told)
        limit = float(self.habits.jump[j])
        rows = k + np.flatnonzero(sheet.here[k:end, j])
        read = sheet.readings[rows, j]
        with np.errstate(invalid="ignore"):
            agree = np.abs(read - basis) <= limit
        if not np.isfinite(basis) or agree[0]:
            return None
        since = int(sheet.ns[k]) - sheet.width
        spike = self._spike(k, j, rows, agree, basis)
        if spike is not None:
            return spike
        # A start moves many points, and some of them as another unit would.
        settled = k > 0 and sheet.ran[k - 1] >= _SETTLED
        rows = rows[sheet.run[rows] == sheet.run[k - 1]]
        if agree.any() or not settled:
            return None
        need = 3 if sheet.width < 10 * _MINUTE else 2
        if len(rows) < need:
            return None
        read = sheet.readings[rows, j]
        fits = self._fits(name, read, basis, max(limit, _close(name, basis)))
        return _named(name, since, fits, read, basis)

    def _spike(
        self, k: int, j: int, rows: NDArray[np.intp], agree: Flags, basis: float
    ) -> _Told | None:
        """Tell a reading that went far off and came back, alone, from a process."""
        sheet, name = self.sheet, self.sheet.names[j]
        back = int(np.argmax(agree)) if agree.any() else 0
        if unit_of(name) not in _SPIKED or not 1 <= back <= 2:
            return None
        if not self.alone[rows[back]] or sheet.width > 10 * _MINUTE:
            return None
        # A level that moved for good comes near the old one by its noise alone.
        rest = abs(float(sheet.readings[rows[back], j]) - basis)
        if not self.jumped[rows[back], j] or rest > 0.5 * float(self.habits.jump[j]):
            return None
        far = float(np.max(np.abs(sheet.readings[rows[:back], j] - basis)))
        scale = _FAR_K if unit_of(name) == "degC" else _FAR_SHARE * abs(basis)
        if sheet.width > _INERT_S * 1e9 and far < scale:
            return None
        return _Told(
            (name,),
            Reason.SPIKES,
            int(sheet.ns[k]) - sheet.width,
            evidence={
                "value": float(sheet.readings[k, j]),
                "before_and_after": round(basis, 4),
                "usual_step": round(float(self.habits.jump[j]) / _STEPS, 4),
            },
        )

    def _fits(
        self, name: str, read: Array, basis: float, limit: float
    ) -> dict[str, tuple[Reason, float]]:
        """Return the replacements that agree with a level, and how well each does."""
        fits: dict[str, tuple[Reason, float]] = {}
        tried = [(Reason.UNIT, *unit) for unit in _UNITS[unit_of(name)]]
        if unit_of(name) != "Pa":
            tried.append((Reason.SIGN, "sign turned", -1.0, 0.0))
        if unit_of(name) != "degC":
            # A factor makes nothing of anything: what it makes must be near.
            limit = _SAME * abs(basis)
        for reason, what, factor, shift in tried:
            error = np.abs(read * factor + shift - basis)
            if (
                np.mean(error <= limit) >= 0.8
                and abs(float(np.median(read)) - basis) > 2.0 * limit
            ):
                fits[what] = (reason, round(float(np.median(error)), 4))
        return fits

    def _refused(self, j: int, begin: int, end: int, told: Flags) -> _Told | None:
        """Explain readings that the intake refused, where no jump was seen."""
        sheet, name = self.sheet, self.sheet.names[j]
        rows = begin + np.flatnonzero(sheet.here[begin:end, j] & told[begin:end, j])
        good = np.flatnonzero(~self.outside[rows, j])
        rows = rows[int(good[-1]) + 1 if len(good) else 0 :]
        low, high = float(self.habits.low[j]), float(self.habits.high[j])
        need = 3 if sheet.width < 10 * _MINUTE else 2
        if len(rows) < need or not self.known[j] or not np.isfinite(low + high):
            return None
        if sheet.ns[rows[-1]] - sheet.ns[rows[0]] < 5 * _MINUTE:
            return None
        read = sheet.readings[rows, j]
        middle, reach = 0.5 * (low + high), 0.5 * (high - low)
        reach += max(float(self.habits.jump[j]), _close(name, middle))
        since = int(sheet.ns[rows[0]]) - sheet.width
        if np.mean(np.abs(read - middle) <= reach) > 0.2:
            return None  # refused for another reason than what it reads
        fits = self._fits(name, read, middle, reach)
        answer = _named(name, since, fits, read, middle)
        if answer is not None or not sheet.refused[rows, j].all():
            return answer
        return _Told(
            (name,),
            Reason.RANGE,
            since,
            evidence={"value": float(np.median(read)), "usual": [low, high]},
        )

    # --- and believed again

    def _again(self, lie: Lie, time: datetime, end: int) -> None:
        """Take a look at somebody who lies: still, or true for long enough."""
        places = [
            self.sheet.names.index(p) for p in lie.points if p in self.sheet.names
        ]
        changed = lie
        wrong = True
        if len(places) == len(lie.points):
            wrong, level = self._wrong(lie, places, time, end)
            changed = replace(lie, level=level)
        if wrong:
            changed = replace(changed, last=time)
        elif time - lie.last >= self._rest(lie):
            changed = replace(changed, until=time)
        self.lies[self.lies.index(lie)] = changed

    def _rest(self, lie: Lie) -> timedelta:
        if lie.reason is not Reason.SPIKES:
            return _REST[lie.reason]
        long = 240 * self.sheet.width / 1e9
        return timedelta(seconds=float(np.clip(long, 7200.0, 86400.0)))

    def _wrong(
        self, lie: Lie, places: Sequence[int], time: datetime, end: int
    ) -> tuple[bool, float]:
        """Return whether a probe still lies at a look, and its level put right."""
        sheet, j = self.sheet, places[0]
        now = _ns(time)
        lately = int(np.searchsorted(sheet.ns, now - 30 * _MINUTE, "right"))
        since = int(
            np.searchsorted(sheet.ns, now - max(5 * _MINUTE, sheet.width), "right")
        )
        if lie.reason is Reason.LOST:
            asked = int(self.spoke[end, j] - self.spoke[lately, j])
            got = int(self.arrived[end, j] - self.arrived[lately, j])
            return asked == 0 or got < 0.7 * asked * self.habits.share[j], lie.level
        if lie.reason is Reason.STUCK:
            pairs = int(self.present[end, j] - self.present[lately, j])
            same = int(self.repeats[end, j] - self.repeats[lately, j])
            state = 1 if sheet.run[end - 1] == 1 else 0
            fresh = 0.5 * (1.0 - float(self.habits.repeat[state][j]))
            return pairs < 2 or (pairs - same) < max(2.0, fresh * pairs), lie.level
        rows = since + np.flatnonzero(sheet.here[since:end, places].all(axis=1))
        if lie.reason is Reason.SPIKES:
            return bool(self.jumped[since:end, j].any()) or not len(rows), lie.level
        if lie.reason is Reason.SWAPPED:
            a, b = next(
                (sheet.names.index(w), sheet.names.index(c))
                for w, c in _pairs(self.device)
                if {w, c} == set(lie.points)
            )
            rows = rows[(sheet.run[rows] == 1) & (sheet.ran[rows] >= _SETTLED)]
            apart = sheet.readings[rows, a] - sheet.readings[rows, b]
            return not len(rows) or bool((apart < self._clear(a, b)).any()), lie.level
        if not len(rows):
            return True, lie.level
        read = sheet.readings[rows, j]
        if lie.reason is Reason.RANGE:
            return bool(sheet.refused[rows, j].any()), lie.level
        factor, shift = lie.evidence["factor"], lie.evidence["shift"]
        right = read * factor + shift
        true = np.abs(read - lie.level) < np.abs(right - lie.level)
        level = float(np.median(np.where(true, read, right)))
        return not bool(true.all()), level


def _sums(flags: Flags) -> NDArray[np.int64]:
    """Return how many rows before each place are true."""
    return np.vstack([np.zeros((1, flags.shape[1]), int), np.cumsum(flags, axis=0)])


def _close(name: str, level: float) -> float:
    return 1.5 if unit_of(name) == "degC" else 0.02 * abs(level)


def _named(
    name: str,
    since: int,
    fits: Mapping[str, tuple[Reason, float]],
    read: Array,
    basis: float,
) -> _Told | None:
    """Name a lie by the replacements that would undo it; two are ambiguous."""
    if not fits:
        return None
    best = min(fits, key=lambda what: (fits[what][1], what))
    reason = fits[best][0] if len(fits) == 1 else Reason.AMBIGUOUS
    factor, shift = next(
        ((f, s) for what, f, s in _UNITS[unit_of(name)] if what == best), (-1.0, 0.0)
    )
    value = float(np.median(read))
    return _Told(
        (name,),
        reason,
        since,
        level=value * factor + shift,
        evidence={
            "value": value,
            "before": round(basis, 4),
            "replaced": round(value * factor + shift, 4),
            "explanations": {what: error for what, (_, error) in sorted(fits.items())},
            "factor": factor,
            "shift": shift,
        },
    )


# --- what becomes of it -------------------------------------------------------------


def masked(frame: pd.DataFrame, lies: Iterable[Lie]) -> pd.DataFrame:
    """Return the frame with NaN for what lying probes said.

    Parameters
    ----------
    frame : DataFrame
        Readings or windows, UTC index; it is not changed.
    lies : iterable of Lie
        Of that device.

    Returns
    -------
    DataFrame
        The frame itself where nothing in it is a lie.
    """
    copy = frame
    for lie in lies:
        low = int(frame.index.searchsorted(pd.Timestamp(lie.since), side="right"))
        high = len(frame)
        if lie.until is not None:
            high = int(frame.index.searchsorted(pd.Timestamp(lie.until), side="right"))
        mine = [name for name in lie.points if name in frame]
        if low >= high or not mine:
            continue
        if copy is frame:
            copy = frame.copy()
        for name in mine:
            copy.iloc[low:high, int(str(copy.columns.get_loc(name)))] = np.nan
    return copy


_SAYS = {
    Reason.LOST: "has sent {readings} of about {expected:.0f} readings",
    Reason.STUCK: "has repeated {value:.6g} for {repeats} readings, {minutes:.0f} min;"
    " it never held a value longer than {usual:.0f} min",
    Reason.UNIT: "reads {value:.6g}, which is {replaced:.6g} if it is taken for"
    " {best}; before it read {before:.6g}",
    Reason.SIGN: "reads {value:.6g}, the negative of what it read before, {before:.6g}",
    Reason.SPIKES: "jumps: {value:.6g} between readings of {before_and_after:.6g},"
    " while nothing else moved",
    Reason.RANGE: "reads {value:.6g}, which the intake refuses",
    Reason.AMBIGUOUS: "reads {value:.6g} where it read {before:.6g}; {several} would"
    " each explain it",
}


def findings(memory: Memory, unit: str, now: datetime) -> list[Finding]:
    """Say which probes of a unit lie at a time.

    Parameters
    ----------
    memory : Memory
        As :func:`watch` left it.
    unit : str
        Whose probes they are.
    now : datetime
        The last look, aware.

    Returns
    -------
    list of Finding
        Of kind sensor, one a lie; ``named`` of the evidence is when it was first
        said, ``lying`` whose readings are set aside.
    """
    return [finding(lie, unit, now) for lie in memory.lying]


def finding(lie: Lie, unit: str, now: datetime) -> Finding:
    """Return what is to be said of one lie, standing or over, as of a time."""
    told = lie.evidence
    if lie.reason is Reason.SWAPPED:
        one, other = lie.points
        what = (
            f"{one} and {other} read each other: the difference is"
            f" {told['difference']:.4g} while the unit runs"
        )
    else:
        several = " and ".join(told.get("explanations", ()))
        numbers = {
            **told,
            "best": several,
            "several": several,
            "minutes": told.get("held_s", 0.0) / 60.0,
            "usual": told.get("usual_longest_s", 0.0) / 60.0,
        }
        what = f"{lie.points[0]} " + _SAYS[lie.reason].format(**numbers)
    sentence = (
        f"{unit}: {what}, since {lie.since:%Y-%m-%d %H:%M} UTC."
        " Its readings are set aside."
    )
    return Finding(
        unit=unit,
        kind=FindingKind.SENSOR,
        component=lie.component,
        since=lie.since,
        seen=now if lie.until is None else lie.until,
        size=float("nan"),
        low=float("nan"),
        high=float("nan"),
        sentence=sentence,
        advice=_ADVICE[lie.reason],
        evidence={
            **told,
            "lying": list(lie.points),
            "named": lie.named.isoformat(),
        },
    )
