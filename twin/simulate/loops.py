"""The loops around the machines: who runs, how hard, with which liquid.

Racks -> CDU plate exchanger -> facility loop -> machines in parallel -> dry
cooler, which throws away what the machines have left; the consumer's network
on the other side. Everything here is known before a machine is solved, so a
whole season is one array.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from twin.plant import Coolant
from twin.simulate import media
from twin.simulate.boundary import stream
from twin.simulate.machine import KELVIN, Build, Duty, Wear
from twin.simulate.scenario import FaultKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from twin.simulate.boundary import Boundary
    from twin.simulate.scenario import Scenario

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
    rows = len(times)
    step_s = scenario.step.total_seconds()
    units = [unit.id for unit in scenario.machines]
    it_heat, outdoor = conditions.it_heat_w, conditions.outdoor_degc

    supply = np.maximum(SUPPLY_DEGC, outdoor + 3.0 + 5.0 * it_heat / scenario.it_heat_w)
    cp = media.heat_capacity(scenario.coolant, supply + SPREAD_K / 2.0)
    rated_source = {
        u: builds[u].source_capacity_w_k
        / float(
            media.heat_capacity(
                scenario.coolant,
                np.array(builds[u].rating.source_inlet_temp_degc),
            )
        )
        for u in units
    }

    free: list[Flags] = []
    waits: dict[str, Flags] = {}
    cools: dict[str, Flags] = {}
    available: dict[str, Flags] = {}
    override: dict[str, Flags] = {}
    sink_in: dict[str, Array] = {}
    goal: dict[str, Array] = {}
    for u in units:
        available[u] = scenario.size(times, FaultKind.TRIP, u) == 0.0
        override[u] = scenario.size(times, FaultKind.OVERRIDE, u) > 0.0
        hours = scenario.size(times, FaultKind.MIN_OFF, u)
        of_day = (times.hour + times.minute / 60.0).to_numpy(dtype=float)
        locked = (of_day > 5.0) & (of_day <= 5.0 + hours)
        sink_in[u] = conditions.return_degc + scenario.size(
            times, FaultKind.SINK_HOT, u
        )
        goal[u] = np.minimum(
            conditions.supply_degc - scenario.size(times, FaultKind.SETPOINT, u),
            SINK_LIMIT_DEGC,
        )
        build = builds[u]
        reach = (
            _FLOW_HIGH * build.sink_capacity_w_k * (goal[u] - sink_in[u])
            >= 0.2 * build.rating.sink_heat_w
        )
        # the loop's warmest is known without the machines: its least flow
        warm = supply + SPREAD_K - scenario.size(times, FaultKind.SOURCE_COLD, u)
        free.append(
            available[u] & ~override[u] & ~locked & reach & (warm >= SOURCE_LOW_DEGC)
        )
        # a lock that a cold source sets must feel the source to let go, and one
        # that a hot return sets must feel the return
        cold = warm < SOURCE_LOW_DEGC
        waits[u] = available[u] & ~override[u] & ~locked & reach & cold
        cools[u] = available[u] & ~override[u] & ~locked & ~reach

    wanted = np.minimum(conditions.demand_w, _enough(builds, conditions, supply))
    every = max(1, round(_DECIDE_S / step_s))
    rated = [builds[u].rating.sink_heat_w for u in units]
    on = _stages(wanted, rated, free, every, step_s, scenario.least_load)
    on = [
        runs & ~_cut_out(scenario, times, u) for u, runs in zip(units, on, strict=True)
    ]

    drawn = np.zeros(rows)
    for u, runs in zip(units, on, strict=True):
        drawn += rated_source[u] * runs
    flow = np.maximum(it_heat / (cp * SPREAD_K), 1.02 * drawn)
    flow = np.maximum(flow, 0.25 * scenario.it_heat_w / (4000.0 * SPREAD_K))
    capacity = flow * cp
    back = supply + it_heat / capacity

    rises: dict[str, Array] = {}
    capacities: dict[str, Array] = {}
    most: dict[str, Array] = {}
    for u, runs in zip(units, on, strict=True):
        build = builds[u]
        # the network's pump holds the flow for the rise that the network needs
        rises[u] = np.maximum(conditions.supply_degc - sink_in[u], 2.0)
        capacities[u] = media.heat_capacity(WATER, sink_in[u] + rises[u] / 2.0)
        flowing = 1.0 - scenario.size(times, FaultKind.LOW_FLOW, u)
        flowing = flowing * strained(scenario, times, u, "sink")[1]
        can = _FLOW_HIGH * flowing * build.sink_capacity_w_k * rises[u]
        most[u] = np.minimum(can, 1.08 * build.rating.sink_heat_w) * runs
    shares = _shared(wanted, rated, on, [most[u] for u in units])

    orders: dict[str, Orders] = {}
    for u, runs, share in zip(units, on, shares, strict=True):
        build = builds[u]
        heat = _ramp(share, runs, step_s)
        rated_kg_s = build.sink_capacity_w_k / 4183.0
        sink_cp = capacities[u]
        sink_kg_s = np.clip(
            share / (rises[u] * sink_cp),
            _FLOW_LOW * rated_kg_s,
            _FLOW_HIGH * rated_kg_s * strained(scenario, times, u, "sink")[1],
        )
        sink_kg_s = sink_kg_s * (1.0 - scenario.size(times, FaultKind.LOW_FLOW, u))
        rise = np.maximum(goal[u] - sink_in[u], 2.0)
        heat = np.minimum(heat, sink_kg_s * sink_cp * rise)
        heat = np.maximum(heat, 1.0)
        source_in = back - scenario.size(times, FaultKind.SOURCE_COLD, u)
        source_kg_s = rated_source[u] * strained(scenario, times, u, "source")[1]
        hot = cools[u] & ~runs
        orders[u] = Orders(
            runs, waits[u] & ~runs, hot, available[u], override[u], goal[u],
            source_kg_s * (runs | waits[u]), sink_kg_s * (runs | hot),
            Duty(source_in, sink_in[u], source_kg_s * cp, sink_kg_s * sink_cp, heat),
        )  # fmt: skip
    return Loops(supply, back, flow, capacity, orders)


def _cut_out(scenario: Scenario, times: pd.DatetimeIndex, unit: str) -> Flags:
    """Return when a control without hysteresis holds a machine off."""
    starts = scenario.size(times, FaultKind.SHORT_CYCLING, unit)
    hours = (times - scenario.start).total_seconds().to_numpy() / 3600.0
    # an interval is what it is at its middle
    turns = starts * (hours - scenario.step.total_seconds() / 7200.0)
    off: Flags = turns - np.floor(turns) >= CYCLING_DUTY
    return off


def _enough(builds: dict[str, Build], conditions: Boundary, supply: Array) -> Array:
    """Return the sink heat that would take all but a little of the racks' heat [W].

    The controller knows each machine's share of Carnot at its rated point.
    """
    warm = conditions.supply_degc + KELVIN
    carnot = warm / np.maximum(warm - supply - KELVIN, 5.0)
    share = 0.0
    for build in builds.values():
        hot = build.rating.sink_outlet_temp_degc + KELVIN
        lift = hot - KELVIN - build.rating.source_outlet_temp_degc
        cop = build.rating.sink_heat_w / (
            build.rating.sink_heat_w - build.source_capacity_w_k * _spread(build)
        )
        share = max(share, cop * lift / hot)
    return 0.985 * conditions.it_heat_w / (1.0 - 1.0 / (share * carnot))


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
