"""What the recorded plant would have given, had one thing been otherwise.

The ledger has said of every interval what was delivered, what was thrown away
because nobody wanted it, and what somebody wanted that no machine could serve. A
supposition moves heat between these accounts, never more than was there, and never
more than a machine can do; electricity follows by the share that physics gives, put
on what was measured. Everything else stays as it was recorded. It is modelled, and
every answer says under which assumption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibration.degradation import DEGRADATIONS, degraded
from twin.heatpump import HeatPump
from twin.ledger.capacity import (
    consumers_of,
    full_load_conditions,
    nominal_flows,
    running_share,
)
from twin.ledger.closing import rejected_of
from twin.ledger.demand import demand_of
from twin.ledger.intervals import Columns
from twin.ledger.thresholds import RULES
from twin.ledger.worth import Worth, worth_of
from twin.plant import Machine, Plant
from twin.timetable import Timetable

Array = NDArray[np.float64]

WATER_J_M3K = 4.13e6
"""Heat capacity of a store's water near 60 degC. [J/(m3 K)]"""
LOSS_A_DAY = 0.02
"""Share of its content that an insulated store loses in a day. [1]"""
_DAY_S = 86400.0
_WATER_J_KGK = 4180.0
# Wider than the ledger's 0.3 K, which gives it the benefit of the doubt before it is
# blamed: with 0.3 K a warmer source promises three times what the simulator gives.
_AT_GOAL_K = 0.5
_POWER, _HEAT, _SPEED = "compressor_power_w", "sink_heat_w", "compressor_speed_hz"


@dataclass(frozen=True, slots=True)
class Day:
    """A day as it was judged.

    Attributes
    ----------
    stop
        Its end. UTC.
    step
        Length of the ledger's intervals.
    tables
        Right-labelled frames by unit, derived columns included.
    ledger
        Of :func:`twin.ledger.account`.
    reference
        The machines as commissioned.
    health
        Of each, what was left of each degradation over the last days. [1]
    """

    stop: datetime
    step: timedelta
    tables: Mapping[str, pd.DataFrame]
    ledger: pd.DataFrame
    reference: Mapping[str, HeatPump]
    health: Mapping[str, Mapping[str, float]]


@dataclass(slots=True)
class Run:
    """One machine's day, an array for each interval. [W].

    ``delivered`` and ``power`` are what it did, ``capacity`` what it could have
    done as it was, ``able`` whether it was free to do more, ``flat_out`` whether it
    was its own strength that limited it: one at its set point is held back by its
    liquid, or wanted for no more. ``spread`` is how much hotter than its return the
    consumer wants his supply [K], ``lost`` what was missed for what it lost.
    """

    machine: Machine
    pump: HeatPump
    clean: HeatPump
    conditions: pd.DataFrame
    delivered: Array
    power: Array
    capacity: Array
    able: Array
    flat_out: Array
    spread: Array
    lost: Array

    def flowing(self, heat: Array, *, anew: bool = False) -> pd.DataFrame:
        """Return the conditions for some heat: liquids follow it, spreads stay.

        ``anew`` asks for a machine beside it, as for one that stood.
        """
        plate = self.machine.nameplate
        source, sink = nominal_flows(self.machine)
        ran = (self.delivered > 0.0) & (not anew)
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = np.where(ran, heat / self.delivered, 1.0)
        load = np.clip(heat / plate.sink_heat_w, 0.3, 1.2)
        flows = {
            "source_flow_kg_s": np.where(
                ran, self._now("source") * factor, source * load
            ),
            "sink_flow_kg_s": np.where(
                ran,
                self._now("sink") * factor,
                np.clip(heat / (_WATER_J_KGK * self.spread), 0.2 * sink, 1.2 * sink),
            ),
        }
        return self.conditions.assign(**flows)

    def _now(self, side: str) -> Array:
        return self.conditions[f"{side}_flow_kg_s"].to_numpy(dtype=float)

    @property
    def least(self) -> float:
        """The least heat that it starts for. [W]."""
        return RULES.least_heat_w(self.machine)

    def source_share(self, heat: Array) -> Array:
        """Return which part of some heat would come from the source. [1]."""
        probe = np.where(heat > 0.0, heat, self.machine.nameplate.sink_heat_w)
        power = _power(self.pump, self.conditions, probe)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = 1.0 - power / probe
        return np.nan_to_num(np.clip(share, 0.05, 1.0), nan=0.7)


def _power(pump: HeatPump, conditions: pd.DataFrame, heat: Array) -> Array:
    found = np.zeros(len(heat))
    runs = heat > 0.0
    if runs.any():
        asked = conditions[runs].assign(**{_HEAT: heat[runs]})
        found[runs] = pump.predict(asked, given=_HEAT)[_POWER].to_numpy()
    return found


def _capacity(pump: HeatPump, conditions: pd.DataFrame) -> Array:
    if _SPEED not in conditions:
        conditions = conditions.assign(**{_SPEED: pump.rated_speed_hz})
    found = pump.predict(conditions, given=_SPEED)[_HEAT].to_numpy(dtype=float)
    return np.asarray(np.nan_to_num(found))


@dataclass(slots=True)
class Scene:
    """A day laid out: the machines, and the heat that could go elsewhere. [W].

    ``idle`` was thrown away and wanted by nobody, ``unserved`` was thrown away and
    wanted by somebody whom no machine could serve; both as heat of the source.
    """

    plant: Plant
    day: Day
    times: pd.DatetimeIndex
    runs: list[Run]
    idle: Array
    unserved: Array
    worth: Worth

    @property
    def seconds(self) -> float:
        """Length of an interval. [s]."""
        return self.day.step.total_seconds()


def scene(plant: Plant, day: Day) -> Scene | None:
    """Lay a day out; None where no machine has a model yet or nothing was booked."""
    site = day.ledger[day.ledger["unit"] == Plant.SITE]
    times = pd.DatetimeIndex(site["time"])
    n, seconds = len(times), day.step.total_seconds()
    runs = []
    for machine in plant.machines:
        clean, table = day.reference.get(machine.id), day.tables.get(machine.id)
        if clean is None or table is None or table.empty:
            continue
        runs.append(_run(plant, machine, clean, day, times))
    if not n or not runs:
        return None
    booked = Columns(site.set_index("time"), times)
    on_grid = {
        device.id: Columns(day.tables.get(device.id), times) for device in plant.units()
    }
    _, _, fan = rejected_of(plant, on_grid, RULES, n)
    told = Columns(day.tables.get(Plant.SITE), times)
    demands = {one.id: demand_of(one, on_grid[one.id], None) for one in plant.consumers}
    consumers = consumers_of(plant, runs[0].machine)
    return Scene(
        plant=plant,
        day=day,
        times=times,
        runs=runs,
        idle=np.nan_to_num(booked["no_demand_j"]) / seconds,
        unserved=np.nan_to_num(booked["beyond_capacity_j"]) / seconds,
        worth=worth_of(plant, consumers, demands, told, fan),
    )


def _run(
    plant: Plant, machine: Machine, clean: HeatPump, day: Day, times: pd.DatetimeIndex
) -> Run:
    seconds = day.step.total_seconds()
    # A recalibrated model is of four weeks; the trend is of these days.
    pump = degraded(clean, day.health.get(machine.id, {}))
    columns = Columns(day.tables[machine.id], times)
    conditions = full_load_conditions(plant, machine, day.tables).reindex(times)
    own = day.ledger[day.ledger["unit"] == machine.id].set_index("time")
    booked = Columns(own, times)
    power = np.nan_to_num(columns[_POWER])
    held = (columns["available"] < 0.5) | (columns["manual_override"] >= 0.5)
    running = running_share(machine, columns.frame)
    top, speed = machine.nameplate.top_speed_hz, columns[_SPEED]
    capacity = _capacity(pump, conditions)
    delivered = np.nan_to_num(booked["delivered_j"]) / seconds
    striving = delivered >= RULES.full_speed * capacity
    if top is not None and columns.has(_SPEED):
        striving = speed >= RULES.full_speed * top
    goal = columns["sink_setpoint_degc"]
    held_back = columns["sink_outlet_temp_degc"] >= goal - _AT_GOAL_K
    plate = machine.nameplate
    usual = plate.sink_outlet_temp_degc - plate.sink_inlet_temp_degc
    wanted = goal - conditions["sink_inlet_temp_degc"].to_numpy(dtype=float)
    known = conditions.notna().all(axis=1).to_numpy()
    return Run(
        machine=machine,
        pump=pump,
        clean=clean,
        conditions=conditions,
        delivered=delivered,
        power=np.where(running > 0.0, power, 0.0),
        capacity=capacity,
        # One that cools somebody follows his cold, and takes nothing of the loop's.
        able=(known & ~held & (not machine.cools)).astype(float),
        spread=np.clip(np.where(np.isfinite(wanted), wanted, usual), 3.0, 100.0),
        flat_out=((running > RULES.full_running) & striving & ~held_back).astype(float),
        lost=np.zeros(len(times))
        if machine.cools
        else np.nan_to_num(booked["missed_degradation_j"]) / seconds,
    )


# --- what may be otherwise ------------------------------------------------------


@dataclass(slots=True)
class Otherwise:
    """What each machine would have done, and what would have reached a consumer. [W].

    ``stored`` is what went into a store less what came out of it; ``wanted`` is the
    supposed consumer's, of it ``unreachable`` hotter than any machine may deliver;
    ``source`` is what was recovered besides.
    """

    delivered: list[Array]
    power: list[Array]
    stored: Array | float = 0.0
    unreachable: Array | float = 0.0
    wanted: Array | float = 0.0
    source: Array | float = 0.0


class Supposition(Protocol):
    """One thing that is otherwise."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def assumption(self) -> str:
        """Under which assumption it is answered."""
        ...

    def of(self, scene: Scene) -> Otherwise:
        """Return the day as it would have been."""
        ...


def _as_it_was(scene: Scene) -> Otherwise:
    return Otherwise(
        [run.delivered for run in scene.runs], [run.power for run in scene.runs]
    )


def _repowered(
    run: Run, pump: HeatPump, conditions: pd.DataFrame, heat: Array
) -> Array:
    """Return what it would have drawn: the physics' share, on what was measured."""
    before = _power(run.pump, run.conditions, run.delivered)
    after = _power(pump, conditions, heat)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = run.power * after / before
    usable = (run.power > 0.0) & np.isfinite(scaled) & (before > 0.0)
    fallback = np.where(np.isfinite(after), after, run.power)
    return np.where(usable, scaled, np.where(heat > 0.0, fallback, run.power))


def _shifted(scene: Scene, side: str, kelvin: float) -> Otherwise:
    """Return the day with one side's liquid so much warmer at every machine."""
    name = f"{side}_inlet_temp_degc"
    delivered, powers, source = [], [], np.zeros(len(scene.times))
    left = scene.unserved.copy()
    for run in scene.runs:
        if side == "source" and run.machine.cools:
            delivered.append(run.delivered)
            powers.append(run.power)
            continue
        conditions = run.conditions.assign(**{name: run.conditions[name] + kelvin})
        more = np.maximum(_capacity(run.pump, conditions) - run.capacity, 0.0)
        more = more * run.flat_out * run.able
        share = run.source_share(run.delivered)
        taken = np.minimum(left, more * share)
        left -= taken
        source += taken
        heat = run.delivered + taken / share
        delivered.append(heat)
        powers.append(_repowered(run, run.pump, conditions, heat))
    return Otherwise(delivered, powers, source=source)


@dataclass(frozen=True, slots=True)
class Warmer:
    """The heat pumps' source so much warmer. [K]."""

    kelvin: float = 5.0

    @property
    def name(self) -> str:
        """What it is called."""
        return f"source {self.kelvin:+g} K"

    @property
    def assumption(self) -> str:
        """Under which assumption it is answered."""
        return (
            f"the liquid that reaches the heat pumps is {abs(self.kelvin):g} K"
            f" {'warmer' if self.kelvin > 0 else 'colder'}, at the same flow and with"
            " the same IT heat in it"
        )

    def of(self, scene: Scene) -> Otherwise:
        """Return the day as it would have been."""
        return _shifted(scene, "source", self.kelvin)


@dataclass(frozen=True, slots=True)
class Cooler:
    """The consumer takes its heat so much cooler. [K]."""

    kelvin: float = -5.0

    @property
    def name(self) -> str:
        """What it is called."""
        return f"sink {self.kelvin:+g} K"

    @property
    def assumption(self) -> str:
        """Under which assumption it is answered."""
        return (
            f"supply and return of the consumer are {abs(self.kelvin):g} K"
            f" {'hotter' if self.kelvin > 0 else 'cooler'} at the same flow, and it"
            " takes the same heat"
        )

    def of(self, scene: Scene) -> Otherwise:
        """Return the day as it would have been."""
        return _shifted(scene, "sink", self.kelvin)


@dataclass(frozen=True, slots=True)
class Another:
    """One more machine beside one that is there."""

    like: str

    @property
    def name(self) -> str:
        """What it is called."""
        return f"one more {self.like}"

    @property
    def assumption(self) -> str:
        """Under which assumption it is answered."""
        return (
            f"a second {self.like} as commissioned stands beside it, and takes what was"
            " thrown away though somebody wanted it and no machine could serve him"
        )

    def of(self, scene: Scene) -> Otherwise:
        """Return the day as it would have been."""
        made = _as_it_was(scene)
        run = next((one for one in scene.runs if one.machine.id == self.like), None)
        if run is None:
            return made
        capacity = _capacity(run.clean, run.conditions)
        share = replace(run, pump=run.clean).source_share(capacity)
        more = np.minimum(scene.unserved / share, capacity)
        # Two that are alike share the work where half of it is enough for each.
        whole = run.delivered + more
        shared = (more > 0.0) & (run.delivered > 0.0) & (whole >= 2.0 * run.least)
        alone = np.where(more >= run.least, more, 0.0)
        heat = np.where(shared, np.minimum(0.5 * whole, capacity), alone)
        rest = np.where(shared, whole - heat, run.delivered)
        place = scene.runs.index(run)
        again = _repowered(run, run.pump, run.flowing(rest), rest)
        made.delivered[place] = rest
        made.power[place] = np.where(shared, again, run.power)
        made.delivered = [*made.delivered, heat]
        beside = run.flowing(heat, anew=True)
        power = np.nan_to_num(_power(run.clean, beside, heat))
        made.power = [*made.power, power]
        made.source = (heat + rest - run.delivered) * share
        return made


@dataclass(frozen=True, slots=True)
class Clean:
    """A surface, or a compressor, as commissioned from the first day on."""

    unit: str
    component: str

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{self.unit} {self.component} clean"

    @property
    def assumption(self) -> str:
        """Under which assumption it is answered."""
        return (
            f"{self.unit}'s {self.component} is as it was commissioned all the time;"
            " hptwin replay --suppose lets it foul again after one cleaning"
        )

    def of(self, scene: Scene) -> Otherwise:
        """Return the day as it would have been."""
        made = _as_it_was(scene)
        parameter = DEGRADATIONS[self.component][0]
        for k, run in enumerate(scene.runs):
            if run.machine.id != self.unit:
                continue
            new = float(getattr(run.clean.parameters, parameter))
            pump = run.pump.replace(**{parameter: new})
            # The ledger knows what was missed for lost capacity.
            share = run.source_share(run.delivered)
            gained = np.minimum(
                run.lost / share,
                np.maximum(_capacity(pump, run.conditions) - run.capacity, 0.0),
            )
            heat = run.delivered + gained
            made.delivered[k] = heat
            made.power[k] = _repowered(run, pump, run.conditions, heat)
            made.source = gained * share
        return made


@dataclass(slots=True)
class Tank:
    """A store of hot water at the sink; it is carried from day to day.

    ``volume_m3`` is used over ``spread_k``, from the return to the supply.
    """

    volume_m3: float
    spread_k: float
    content_j: float = field(default=0.0, compare=False)

    @property
    def name(self) -> str:
        """What it is called."""
        return f"a store of {self.volume_m3:g} m3"

    @property
    def assumption(self) -> str:
        """Under which assumption it is answered."""
        return (
            f"{self.size_j / 3.6e6:,.0f} kWh between return and supply,"
            f" {self.spread_k:g} K apart; charged by machines that were free, from"
            f" heat that nobody wanted; {LOSS_A_DAY:.0%} of its content is lost a day"
        )

    @property
    def size_j(self) -> float:
        """What it holds. [J]."""
        return self.volume_m3 * WATER_J_M3K * self.spread_k

    def of(self, scene: Scene) -> Otherwise:
        """Return the day as it would have been."""
        made, n, seconds = _as_it_was(scene), len(scene.times), scene.seconds
        free, shares = _free(scene)
        spare = np.sum(free, axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.sum([f * s for f, s in zip(free, shares, strict=True)], axis=0)
            share = np.where(spare > 0.0, share / spare, 0.7)
        least = min(run.least for run in scene.runs)
        standing = np.sum(made.delivered, axis=0) <= 0.0
        offered = np.minimum(spare, scene.idle / share)
        offered = np.where(standing & (offered < least), 0.0, offered)
        wanted = scene.unserved / share
        kept = 1.0 - LOSS_A_DAY * seconds / _DAY_S
        into, out = np.zeros(n), np.zeros(n)
        for k in range(n):
            self.content_j *= kept
            room = (self.size_j - self.content_j) / seconds
            into[k] = min(offered[k], room)
            # A machine that stands starts for no less than it can do.
            if standing[k] and into[k] < least:
                into[k] = 0.0
            out[k] = min(wanted[k], self.content_j / seconds)
            self.content_j += (into[k] - out[k]) * seconds
        _spread(scene, made, into, free)
        made.stored = into - out
        made.source = into * share
        return made


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One more consumer of heat at a temperature: a power, or a timetable of it."""

    demand: float | Timetable
    temp_degc: float
    words: str = ""

    @property
    def peak_w(self) -> float:
        """The most that he wants. [W]."""
        if isinstance(self.demand, Timetable):
            return float(np.nanmax(self.demand.values))
        return self.demand

    @property
    def name(self) -> str:
        """What it is called."""
        return self.words or f"a consumer at {self.temp_degc:g} degC"

    @property
    def assumption(self) -> str:
        """Under which assumption it is answered."""
        return (
            "he takes what machines that were free could make of heat that nobody"
            " wanted; where he needs it hotter than it was delivered, all of it is"
            " made as hot"
        )

    def of(self, scene: Scene) -> Otherwise:
        """Return the day as it would have been."""
        made, n = _as_it_was(scene), len(scene.times)
        if isinstance(self.demand, Timetable):
            wanted = np.nan_to_num(self.demand.means(scene.times, scene.day.step))
        else:
            wanted = np.full(n, self.demand)
        left, source = scene.idle.copy(), np.zeros(n)
        served = np.zeros(n)
        far = np.ones(n, bool)
        for k, run in enumerate(scene.runs):
            lift = np.maximum(self.temp_degc - _supplied(run, scene), 0.0)
            hot = {
                "sink_inlet_temp_degc": run.conditions["sink_inlet_temp_degc"] + lift
            }
            conditions = run.conditions.assign(**hot)
            hottest = run.machine.sink_outlet_max_degc
            reach = np.full(n, hottest is None or self.temp_degc <= hottest)
            far &= ~reach
            spare = np.maximum(_capacity(run.pump, conditions) - run.delivered, 0.0)
            share = run.source_share(run.capacity)
            more = np.minimum(np.minimum(spare, wanted - served), left / share)
            more = np.where(reach, np.maximum(more, 0.0), 0.0) * run.able
            starts = run.delivered <= 0.0
            more = np.where(starts & (more < run.least), 0.0, more)
            heat = run.delivered + more
            again = _repowered(run, run.pump, run.flowing(heat).assign(**hot), heat)
            made.delivered[k] = heat
            made.power[k] = np.where(more > 0.0, again, run.power)
            served += more
            left -= more * share
            source += more * share
        made.source = source
        made.wanted = wanted
        made.unreachable = np.where(far, wanted, 0.0)
        return made


def _supplied(run: Run, scene: Scene) -> Array:
    """Return how hot a machine delivered; its nameplate's where it stood. [degC]."""
    columns = Columns(scene.day.tables[run.machine.id], scene.times)
    told = np.where(run.delivered > 0.0, columns["sink_outlet_temp_degc"], np.nan)
    plate = run.machine.nameplate
    spread = plate.sink_outlet_temp_degc - plate.sink_inlet_temp_degc
    cold = run.conditions["sink_inlet_temp_degc"].to_numpy(dtype=float)
    return np.where(np.isfinite(told), told, cold + spread)


def _free(scene: Scene) -> tuple[list[Array], list[Array]]:
    """Return what each machine could have done besides [W], and the source's part."""
    free = [
        np.maximum(run.capacity - run.delivered, 0.0) * run.able for run in scene.runs
    ]
    return free, [run.source_share(run.capacity) for run in scene.runs]


def _spread(scene: Scene, made: Otherwise, more: Array, free: Sequence[Array]) -> None:
    """Lay more heat to the machines by what each had free."""
    total = np.sum(free, axis=0)
    for k, run in enumerate(scene.runs):
        with np.errstate(divide="ignore", invalid="ignore"):
            own = np.where(total > 0.0, more * free[k] / total, 0.0)
        heat = run.delivered + own
        made.delivered[k] = heat
        again = _repowered(run, run.pump, run.flowing(heat), heat)
        made.power[k] = np.where(own > 0.0, again, run.power)


# --- what comes of it -----------------------------------------------------------


@dataclass(slots=True)
class Sums:
    """What a supposition has come to so far. [J, EUR, kg, s]."""

    delivered: float = 0.0
    delivered_then: float = 0.0
    power: float = 0.0
    power_then: float = 0.0
    eur: float = 0.0
    kg: float = 0.0
    source: float = 0.0
    wanted: float = 0.0
    unreachable: float = 0.0
    seconds: float = 0.0
    heat_eur: float = 0.0
    price_s: float = 0.0

    @property
    def heat_price(self) -> float:
        """What the heat that was delivered besides was paid by. [EUR/J]."""
        more = self.delivered_then - self.delivered
        return self.heat_eur / more if more else 0.0

    @property
    def electricity_price(self) -> float:
        """The mean over time. [EUR/J]."""
        return self.price_s / self.seconds if self.seconds else float("nan")

    def add(self, scene: Scene, made: Otherwise) -> None:
        """Take a day in."""
        step = scene.seconds
        was_heat = np.sum([run.delivered for run in scene.runs], axis=0)
        was_power = np.sum([run.power for run in scene.runs], axis=0)
        heat = np.sum(made.delivered, axis=0) - made.stored
        power = np.sum(made.power, axis=0)
        more, dear = heat - was_heat, power - was_power
        taken = np.broadcast_to(np.asarray(made.source, dtype=float), more.shape)
        saved = taken * scene.worth.fan
        self.delivered += float(was_heat.sum()) * step
        self.delivered_then += float(heat.sum()) * step
        self.power += float(was_power.sum()) * step
        self.power_then += float(power.sum()) * step
        self.source += float(taken.sum()) * step
        for name in ("wanted", "unreachable"):
            told = np.asarray(getattr(made, name), dtype=float)
            whole = float(np.broadcast_to(told, more.shape).sum()) * step
            setattr(self, name, getattr(self, name) + whole)
        self.heat_eur += (
            float(np.where(more == 0.0, 0.0, more * scene.worth.heat).sum()) * step
        )
        self.price_s += float(scene.worth.electricity.sum()) * step
        self.eur += (
            _valued(more, scene.worth.heat, saved - dear, scene.worth.electricity)
            * step
        )
        self.kg += step * _valued(
            more,
            scene.worth.heat_emission,
            saved - dear,
            scene.worth.electricity_emission,
        )
        self.seconds += step * len(scene.times)


def _valued(heat: Array, by_heat: Array, saved: Array, by_power: Array) -> float:
    """Return what heat brings and electricity saves; NaN where a rate is unknown."""
    # What did not change is worth nothing, whatever it would cost.
    first = np.where(heat == 0.0, 0.0, heat * by_heat)
    second = np.where(saved == 0.0, 0.0, saved * by_power)
    return float((first + second).sum())
