"""The loops around the machines: who runs, how hard, with which liquid.

Racks -> CDU plate exchanger -> facility loop -> machines in parallel -> dry
cooler, which throws away what the machines have left; the consumer's network
on the other side. Machines that cool have somebody's chilled water as their
source instead, and go first. Everything here is known before a machine is
solved, so a whole season is one array.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from twin.plant import Coolant
from twin.simulate import media
from twin.simulate.boundary import stream
from twin.simulate.machine import KELVIN, Build, Duty, Wear, at_load
from twin.simulate.scenario import FaultKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from twin.simulate.boundary import Boundary
    from twin.simulate.scenario import Scenario, Unit

    Array = NDArray[np.float64]
    Flags = NDArray[np.bool_]

WATER = Coolant()
SUPPLY_DEGC = 31.0  # the facility loop's set point
SPREAD_K = 9.0  # which the loop's pumps hold over the racks
SINK_LIMIT_DEGC = 76.0  # the machines' highest sink outlet
SOURCE_LOW_DEGC = 30.0  # the machines' lowest source inlet
_FLOW_LOW, _FLOW_HIGH = 0.35, 1.15  # of the rated sink flow
_DECIDE_S = 600.0
HUNTING_S, HUNTING_WANDER = 300.0, 0.15  # its period, and radians lost in a minute
PUMP_FALL = 0.5
CYCLING_DUTY = 0.6  # share of the time that a cycling machine runs
_RUN_AT_LEAST_S, _REST_AT_LEAST_S = 1800.0, 1200.0
_SHEET_LOAD = 0.5  # the part load that a data sheet has beside the rated one
# At part load the lowest speed makes a tenth more than its share of the rated heat.
_SLOWEST = 1.1


@dataclass(frozen=True, slots=True)
class Orders:
    """What one machine is told to do, and the liquids it gets."""

    on: Flags
    waits: Flags  # for a warmer source, with its source pump running
    cools: Flags  # for a cooler return, with its sink pump running
    available: Flags
    override: Flags
    setpoint_degc: Array
    source_kg_s: Array
    sink_kg_s: Array
    duty: Duty

    def same(self, other: Orders) -> Flags:
        """Return the rows in which both ask for the same."""
        equal: Flags = self.on == other.on
        for entry in fields(self.duty):
            equal &= getattr(self.duty, entry.name) == getattr(other.duty, entry.name)
        return equal


@dataclass(frozen=True, slots=True)
class Loops:
    """The facility loop: temperatures, mass flow, and the orders by machine."""

    supply_degc: Array
    return_degc: Array
    flow_kg_s: Array
    capacity_w_k: Array
    orders: dict[str, Orders]


def wear(scenario: Scenario, times: pd.DatetimeIndex, unit: str) -> Wear:
    """Return the wear that a scenario plants in one machine."""

    def of(kind: FaultKind) -> Array:
        return scenario.size(times, kind, unit)

    return Wear(
        of(FaultKind.CONDENSER_FOULING),
        of(FaultKind.EVAPORATOR_FOULING),
        of(FaultKind.ISENTROPIC_LOSS),
        of(FaultKind.VOLUMETRIC_LOSS),
        of(FaultKind.UNDERCHARGE),
        of(FaultKind.NON_CONDENSABLES),
        of(FaultKind.HUNTING) * _swing(scenario, times, unit),
    )


def _swing(scenario: Scenario, times: pd.DatetimeIndex, unit: str) -> Array:
    """Return the mean, over each interval, of a hunting valve's swing of one.

    Its period of some minutes wanders, so that no sampling stays in step with it.
    """
    if not scenario.faults_of(FaultKind.HUNTING, unit=unit):
        return np.zeros(len(times))
    random = stream(scenario, f"hunting {unit}")
    step_s = scenario.step.total_seconds()
    wander = random.normal(0.0, HUNTING_WANDER, len(times)) * np.sqrt(step_s / 60.0)
    speed = 2.0 * np.pi / HUNTING_S
    phase = speed * step_s * np.arange(len(times) + 1)
    phase[1:] += np.cumsum(wander)
    ahead = np.diff(phase)
    mean: Array = (np.cos(phase[:-1]) - np.cos(phase[1:])) / ahead
    return mean


def strained(
    scenario: Scenario, times: pd.DatetimeIndex, unit: str, side: str
) -> tuple[Array, Array]:
    """Return what a strainer adds to a loop, as a factor, and the flow it leaves.

    A pump at full speed climbs its curve, whose fall over the rated flow is half
    of what the healthy loop then resists.
    """
    kinds = {"source": FaultKind.SOURCE_STRAINER, "sink": FaultKind.SINK_STRAINER}
    factor = 1.0 + scenario.size(times, kinds[side], unit)
    return factor, np.sqrt((1.0 + PUMP_FALL) / (factor + PUMP_FALL))


def source_low(scenario: Scenario, unit: Unit) -> float:
    """Return the lowest source inlet that a machine runs with [degC]."""
    if unit.cools and scenario.cold is not None:
        return scenario.cold.supply_degc + 0.5 * scenario.cold.spread_k
    return SOURCE_LOW_DEGC


def source_liquid(scenario: Scenario, unit: Unit) -> Coolant:
    """Return what flows through a machine's evaporator."""
    return WATER if unit.cools else scenario.coolant


def _stages(
    wanted: Array,
    rated: list[float],
    free: list[Flags],
    every: int,
    step_s: float,
    lowest: float,
) -> list[Flags]:
    """Who runs, decided every few minutes with hysteresis and least run times."""
    count = len(rated)
    rows = len(wanted)
    on = [np.zeros(rows, dtype=bool) for _ in range(count)]
    runs = [False] * count
    since = [1e9] * count
    for i in range(0, rows, every):
        stop = min(i + every, rows)
        demand = float(wanted[i])
        ready = [bool(free[k][i]) for k in range(count)]
        order = sorted(range(count), key=lambda k: (not ready[k], not runs[k], k))
        # as many as are needed, and one fewer only with something to spare
        need, held = 0, 0.0
        for k in order:
            if not ready[k]:
                break
            margin = 0.80 if runs[k] else 0.92
            least = 0.75 * lowest if runs[k] else lowest
            if need == 0 and demand < least * rated[k]:
                break
            if need and demand <= margin * held:
                break
            held += rated[k]
            need += 1
        for place, k in enumerate(order):
            want = place < need
            if runs[k] and not want and ready[k] and since[k] < _RUN_AT_LEAST_S:
                want = True
            if not runs[k] and want and since[k] < _REST_AT_LEAST_S:
                want = False
            if want != runs[k]:
                runs[k], since[k] = want, 0.0
            on[k][i:stop] = runs[k] & free[k][i:stop]
            if runs[k] and not free[k][stop - 1]:
                runs[k], since[k] = False, 0.0
            since[k] += (stop - i) * step_s
    return on


def loops(scenario: Scenario, conditions: Boundary, builds: dict[str, Build]) -> Loops:
    """Return what the controls make of the boundary conditions and the faults."""
    times = conditions.times
    it_heat, outdoor = conditions.it_heat_w, conditions.outdoor_degc

    supply = np.maximum(SUPPLY_DEGC, outdoor + 3.0 + 5.0 * it_heat / scenario.it_heat_w)
    cp = media.heat_capacity(scenario.coolant, supply + SPREAD_K / 2.0)
    rated_source = {
        unit.id: builds[unit.id].source_capacity_w_k
        / float(
            media.heat_capacity(
                source_liquid(scenario, unit),
                np.array(builds[unit.id].rating.source_inlet_temp_degc),
            )
        )
        for unit in scenario.machines
    }
    states = {
        # the loop's warmest is known without the machines: its least flow
        unit.id: _state(
            scenario, conditions, builds[unit.id], unit,
            conditions.cold_return_degc if unit.cools else supply + SPREAD_K,
        )
        for unit in scenario.machines
    }  # fmt: skip

    on, sinks, left = _leading(scenario, conditions, builds, states)
    others = [unit.id for unit in scenario.machines if not unit.cools]
    share = max(_carnot_share(builds[u]) for u in others)
    wanted = np.minimum(left, _enough(share, conditions, supply, it_heat))
    taking = _staged(
        scenario, times, builds, wanted, {u: states[u].free for u in others}
    )
    sinks |= _sinks(scenario, conditions, builds, states, wanted, taking)

    drawn = np.zeros(len(times))
    for u, runs in taking.items():
        drawn += rated_source[u] * runs
    flow = np.maximum(it_heat / (cp * SPREAD_K), 1.02 * drawn)
    flow = np.maximum(flow, 0.25 * scenario.it_heat_w / (4000.0 * SPREAD_K))
    capacity = flow * cp
    back = supply + it_heat / capacity

    chilled_cp, chilled_kg_s = _chilled(conditions, rated_source, on)
    orders: dict[str, Orders] = {}
    for unit in scenario.machines:
        u = unit.id
        state, sink = states[u], sinks[u]
        source_kg_s = rated_source[u] * strained(scenario, times, u, "source")[1]
        if unit.cools:
            runs, source_in, source_cp = on[u], conditions.cold_return_degc, chilled_cp
            source_kg_s = np.clip(
                chilled_kg_s[u], _FLOW_LOW * rated_source[u], source_kg_s
            )
        else:
            runs, source_in, source_cp = taking[u], back, cp
        source_in = source_in - scenario.size(times, FaultKind.SOURCE_COLD, u)
        waits, hot = state.waits & ~runs, state.cools & ~runs
        orders[u] = Orders(
            runs, waits, hot, state.available, state.override, state.goal_degc,
            source_kg_s * (runs | waits), sink.kg_s * (runs | hot),
            Duty(
                source_in, state.sink_in_degc, source_kg_s * source_cp,
                sink.kg_s * sink.cp, sink.heat_w,
            ),
        )  # fmt: skip
    return Loops(supply, back, flow, capacity, orders)


@dataclass(frozen=True, slots=True)
class _State:
    """What a machine may do before anybody asks: see :class:`Orders`."""

    free: Flags
    waits: Flags
    cools: Flags
    available: Flags
    override: Flags
    sink_in_degc: Array
    goal_degc: Array


def _state(
    scenario: Scenario, conditions: Boundary, build: Build, unit: Unit, warmest: Array
) -> _State:
    times = conditions.times
    available = scenario.size(times, FaultKind.TRIP, unit.id) == 0.0
    override = scenario.size(times, FaultKind.OVERRIDE, unit.id) > 0.0
    hours = scenario.size(times, FaultKind.MIN_OFF, unit.id)
    of_day = (times.hour + times.minute / 60.0).to_numpy(dtype=float)
    locked = (of_day > 5.0) & (of_day <= 5.0 + hours)
    sink_in = conditions.return_degc + scenario.size(times, FaultKind.SINK_HOT, unit.id)
    goal = np.minimum(
        conditions.supply_degc - scenario.size(times, FaultKind.SETPOINT, unit.id),
        SINK_LIMIT_DEGC,
    )
    reach = (
        _FLOW_HIGH * build.sink_capacity_w_k * (goal - sink_in)
        >= 0.2 * build.rating.sink_heat_w
    )
    warm = warmest - scenario.size(times, FaultKind.SOURCE_COLD, unit.id)
    cold = warm < source_low(scenario, unit)
    may = available & ~override & ~locked
    # a lock that a cold source sets must feel the source to let go, and one
    # that a hot return sets must feel the return
    return _State(
        may & reach & ~cold, may & reach & cold, may & ~reach,
        available, override, sink_in, goal,
    )  # fmt: skip


def _slowest(build: Build) -> float:
    """Return the heat that a machine makes at its lowest speed [W]."""
    return _SLOWEST * build.speed_low * build.rating.sink_heat_w


def least_heat(scenario: Scenario, unit: Unit, build: Build) -> float:
    """Return the least heat that a machine starts for, as its data sheet tells [W]."""
    least = scenario.least_load * build.rating.sink_heat_w
    return max(least, _slowest(build)) if unit.cools else least


def _leading(
    scenario: Scenario,
    conditions: Boundary,
    builds: dict[str, Build],
    states: dict[str, _State],
) -> tuple[dict[str, Flags], dict[str, _Sink], Array]:
    """Let the machines that cool go first, for both their sides are wanted.

    Returns which of them run, what they give, and the demand they leave [W].
    """
    demand = conditions.demand_w
    free = {unit.id: states[unit.id].free for unit in scenario.machines if unit.cools}
    if not free:
        return {}, {}, demand
    able = _chillable(builds, conditions, {u: np.ones_like(free[u]) for u in free})
    for u in free:
        # one that must make more than the cold allows would freeze the water
        free[u] = free[u] & (able >= _slowest(builds[u]))
    on = _staged(scenario, conditions.times, builds, np.minimum(demand, able), free)
    able = _chillable(builds, conditions, on)
    sinks = _sinks(scenario, conditions, builds, states, np.minimum(demand, able), on)
    given = np.sum([sinks[u].heat_w * on[u] for u in on], axis=0)
    return on, sinks, np.maximum(demand - given, 0.0)


def _staged(
    scenario: Scenario,
    times: pd.DatetimeIndex,
    builds: dict[str, Build],
    wanted: Array,
    free: dict[str, Flags],
) -> dict[str, Flags]:
    """Return which of the machines that are free run for the heat wanted."""
    step_s = scenario.step.total_seconds()
    on = _stages(
        wanted,
        [builds[u].rating.sink_heat_w for u in free],
        list(free.values()),
        max(1, round(_DECIDE_S / step_s)),
        step_s,
        scenario.least_load,
    )
    return {
        u: runs & ~_cut_out(scenario, times, u)
        for u, runs in zip(free, on, strict=True)
    }


@dataclass(frozen=True, slots=True)
class _Sink:
    """What a machine is to give the network [W], by how much water of which cp."""

    heat_w: Array
    kg_s: Array
    cp: Array


def _sinks(
    scenario: Scenario,
    conditions: Boundary,
    builds: dict[str, Build],
    states: dict[str, _State],
    wanted: Array,
    on: dict[str, Flags],
) -> dict[str, _Sink]:
    """Share the heat wanted among the machines that run, and set their flows."""
    times = conditions.times
    step_s = scenario.step.total_seconds()
    rises: dict[str, Array] = {}
    capacities: dict[str, Array] = {}
    most: dict[str, Array] = {}
    for u, runs in on.items():
        build, sink_in = builds[u], states[u].sink_in_degc
        # the network's pump holds the flow for the rise that the network needs
        rises[u] = np.maximum(conditions.supply_degc - sink_in, 2.0)
        capacities[u] = media.heat_capacity(WATER, sink_in + rises[u] / 2.0)
        flowing = 1.0 - scenario.size(times, FaultKind.LOW_FLOW, u)
        flowing = flowing * strained(scenario, times, u, "sink")[1]
        can = _FLOW_HIGH * flowing * build.sink_capacity_w_k * rises[u]
        most[u] = np.minimum(can, 1.08 * build.rating.sink_heat_w) * runs
    rated = [builds[u].rating.sink_heat_w for u in on]
    shares = _shared(wanted, rated, list(on.values()), list(most.values()))

    sinks: dict[str, _Sink] = {}
    for (u, runs), share in zip(on.items(), shares, strict=True):
        rated_kg_s = builds[u].sink_capacity_w_k / 4183.0
        kg_s = np.clip(
            share / (rises[u] * capacities[u]),
            _FLOW_LOW * rated_kg_s,
            _FLOW_HIGH * rated_kg_s * strained(scenario, times, u, "sink")[1],
        )
        kg_s = kg_s * (1.0 - scenario.size(times, FaultKind.LOW_FLOW, u))
        rise = np.maximum(states[u].goal_degc - states[u].sink_in_degc, 2.0)
        heat = np.minimum(_ramp(share, runs, step_s), kg_s * capacities[u] * rise)
        sinks[u] = _Sink(np.maximum(heat, 1.0), kg_s, capacities[u])
    return sinks


def _chillable(
    builds: dict[str, Build], conditions: Boundary, on: dict[str, Flags]
) -> Array:
    """Return the sink heat that would take all but a little of the cold wanted [W].

    The controller has the data sheets' rated point and one at part load.
    """
    rated = [builds[u].source_capacity_w_k * _spread(builds[u]) * on[u] for u in on]
    together = np.maximum(np.sum(rated, axis=0), 1.0)
    load = np.clip(conditions.cold_demand_w / together, 0.0, 1.0)
    full = max(_carnot_share(builds[u]) for u in on)
    part = max(_carnot_share(builds[u], _SHEET_LOAD) for u in on)
    share = full + (part - full) * (1.0 - load) / (1.0 - _SHEET_LOAD)
    return _enough(
        share, conditions, conditions.cold_supply_degc, conditions.cold_demand_w
    )


def _chilled(
    conditions: Boundary, rated: dict[str, float], on: dict[str, Flags]
) -> tuple[Array, dict[str, Array]]:
    """Return the chilled water's heat capacity, and what flows to each machine.

    All of it passes those that run, by size, and they take no more than that:
    what they cooled already would come back to them.
    """
    supply, back = conditions.cold_supply_degc, conditions.cold_return_degc
    cp = media.heat_capacity(WATER, (supply + back) / 2.0)
    if not on:
        return cp, {}
    flow = conditions.cold_demand_w / (cp * (back - supply))
    together = np.sum([rated[u] * runs for u, runs in on.items()], axis=0)
    return cp, {
        u: flow * (rated[u] * runs) / np.maximum(together, 1e-9)
        for u, runs in on.items()
    }


def _cut_out(scenario: Scenario, times: pd.DatetimeIndex, unit: str) -> Flags:
    """Return when a control without hysteresis holds a machine off."""
    starts = scenario.size(times, FaultKind.SHORT_CYCLING, unit)
    hours = (times - scenario.start).total_seconds().to_numpy() / 3600.0
    # an interval is what it is at its middle
    turns = starts * (hours - scenario.step.total_seconds() / 7200.0)
    off: Flags = turns - np.floor(turns) >= CYCLING_DUTY
    return off


def _enough(
    share: Array | float, conditions: Boundary, source_degc: Array, source_w: Array
) -> Array:
    """Return the sink heat that would take all but a little of a source's heat [W].

    The controller knows the machines' best share of Carnot.
    """
    warm = conditions.supply_degc + KELVIN
    carnot = warm / np.maximum(warm - source_degc - KELVIN, 5.0)
    enough: Array = 0.985 * source_w / (1.0 - 1.0 / (share * carnot))
    return enough


def _carnot_share(build: Build, load: float = 1.0) -> float:
    """Return the COP over Carnot's at the rated temperatures [1]."""
    hot = build.rating.sink_outlet_temp_degc + KELVIN
    lift = hot - KELVIN - build.rating.source_outlet_temp_degc
    heat, source = build.rating.sink_heat_w, build.source_capacity_w_k * _spread(build)
    if load != 1.0:
        made = at_load(build, load)
        heat, source = made["sink_heat_w"], made["source_heat_w"]
    return heat / (heat - source) * lift / hot


def _spread(build: Build) -> float:
    rating = build.rating
    return rating.source_inlet_temp_degc - rating.source_outlet_temp_degc


def _shared(
    wanted: Array, rated: list[float], on: list[Flags], most: list[Array]
) -> list[Array]:
    """Share the work by size; what one cannot take goes to those that can [W]."""
    together = np.sum([r * runs for r, runs in zip(rated, on, strict=True)], axis=0)
    first = [
        np.minimum(wanted * (r * runs) / np.maximum(together, 1.0), m)
        for r, runs, m in zip(rated, on, most, strict=True)
    ]
    left = np.maximum(wanted * (together > 0.0) - np.sum(first, axis=0), 0.0)
    room = np.sum([m - f for m, f in zip(most, first, strict=True)], axis=0)
    part = np.clip(left / np.maximum(room, 1.0), 0.0, 1.0)
    return [f + (m - f) * part for f, m in zip(first, most, strict=True)]


def _ramp(heat: Array, runs: Flags, step_s: float) -> Array:
    """Let a change take five minutes; long steps show nothing of it."""
    width = round(300.0 / step_s)
    if width < 2:
        return heat
    total = np.cumsum(np.concatenate([np.zeros(width), heat]))
    mean: Array = (total[width:] - total[:-width]) / width
    return np.where(runs, mean, heat)
