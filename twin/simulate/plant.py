"""The whole plant through a season: solved, delayed, measured, and the truth.

Steady states come first and for all times at once; the slowness of liquids and
metal is laid over them, and what that stores is written down, so that the
energy of every interval closes to the last joule. What was missed is the
difference from the same plant with the same weather and nothing wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from twin.finding import FindingKind
from twin.simulate import machine, media
from twin.simulate.boundary import Boundary, boundary
from twin.simulate.gateway import plant_toml
from twin.simulate.instruments import measure
from twin.simulate.loops import (
    SPREAD_K,
    WATER,
    Loops,
    loops,
    source_liquid,
    strained,
    wear,
)
from twin.simulate.machine import ROOM_DEGC, Build, Outcome
from twin.simulate.scenario import (
    CAUSES,
    CDU,
    COLD,
    CONSUMER,
    COOLER,
    MORE,
    OPERATION,
    RATED_HZ,
    SITE,
    Cold,
    Fault,
    FaultKind,
    Scenario,
    Unit,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Flags = NDArray[np.bool_]


_LIQUID_LAG_S = {"source": 150.0, "sink": 210.0}
_REFRIGERANT_LAG_S = 60.0
_REST_LAG_S = {"liquid": 5400.0, "refrigerant": 3600.0, "pressure": 900.0}
_PUMP_SHARE = {"source": 0.012, "sink": 0.008}  # of the rated sink heat
_DROP_PA = {"hot": 45e3, "cold": 38e3, "source": 52e3, "sink": 31e3}
_DROP_EXPONENT = {"source": 1.82, "sink": 1.78}

_PRESSURES = ("suction_pressure_pa", "compressor_discharge_pressure_pa")
_REFRIGERANT = (
    "suction_temp_degc",
    "compressor_discharge_temp_degc",
    "liquid_temp_degc",
)


_RATIOS: Mapping[FaultKind, str] = {
    FaultKind.CONDENSER_FOULING: "condenser_conductance_ratio",
    FaultKind.EVAPORATOR_FOULING: "evaporator_conductance_ratio",
    FaultKind.EXCHANGER_FOULING: "exchanger_conductance_ratio",
}
# COP lost for a wear of one, near enough to tell which wear costs most
_COP_COST: Mapping[FaultKind, float] = {
    FaultKind.CONDENSER_FOULING: 0.18,
    FaultKind.EVAPORATOR_FOULING: 0.16,
    FaultKind.ISENTROPIC_LOSS: 0.75,
    FaultKind.VOLUMETRIC_LOSS: 0.02,
    FaultKind.UNDERCHARGE: 0.035,
    FaultKind.NON_CONDENSABLES: 8e-7,
    FaultKind.HUNTING: 1e-3,
}


@dataclass(frozen=True, slots=True)
class Simulation:
    """A simulated season.

    Attributes
    ----------
    scenario
        What was asked for.
    frames
        Unit id to frame of what its instruments report, named and in the units
        of :mod:`twin.points`, right-labelled. ``"site"`` is one.
    truth
        Unit id to frame of what nobody measures: true heat flows, conductance
        and efficiency over their healthy values, heat stored, and for each
        cause the heat missed in the interval, on the source side
        (``missed_<cause>_j``) and as it would have been delivered
        (``missed_delivered_<cause>_j``). [J] The source side is the racks' heat, of
        which a machine that cools takes none; it misses cold
        (``missed_cold_<cause>_j``). Where somebody wants cold, the site tells what
        he was handed and wanted (``cold_heat_w``, ``cold_demand_w``). [W]
    planted
        What a twin should find: unit, kind, component, since, until, size. A
        fouling is the share of conductance lost on its last day, as the films
        then were. A loss
        of COP is that of the last week at equal heat, named after the wear that
        costs most. A missed recovery is the share of what the unit would have
        delivered, heat and cold together. A sensor's is the fault's own size.
    builds
        How each machine is made.
    plant_toml
        The configuration of exactly this plant, as its operator would write it.
    """

    scenario: Scenario
    frames: Mapping[str, pd.DataFrame]
    truth: Mapping[str, pd.DataFrame]
    planted: tuple[Mapping[str, Any], ...]
    builds: Mapping[str, Build]
    plant_toml: str


def simulate(scenario: Scenario) -> Simulation:
    """Return the season that a scenario tells; equal scenarios, equal bytes.

    Raises
    ------
    ValueError
        If the scenario names a unit, refrigerant or instrument there is not, its
        length is no whole number of steps, or its machines and the cold that is
        wanted do not go together.
    """
    _check(scenario)
    conditions = boundary(scenario)
    builds = {unit.id: _build(unit) for unit in scenario.machines}
    actual = loops(scenario, conditions, builds)
    ideal = actual
    if scenario.faults:
        ideal = loops(scenario.healthy(), conditions, builds)
    made: dict[str, Outcome] = {}
    clean: dict[str, Outcome] = {}
    for unit in scenario.machines:
        made[unit.id], clean[unit.id] = _solve(
            scenario, conditions, builds[unit.id], unit.id, actual, ideal
        )
    frames: dict[str, pd.DataFrame] = {}
    truth: dict[str, pd.DataFrame] = {}
    for unit in scenario.machines:
        frames[unit.id], truth[unit.id] = _heat_pump(
            scenario, conditions, builds[unit.id], unit, actual, made[unit.id]
        )
    _blame(scenario, conditions, made, clean, truth)
    frames |= _rest_of_plant(scenario, conditions, actual, frames, truth)
    planted = _planted(scenario, conditions, made, clean, truth)
    seen = {unit: measure(scenario, unit, frame) for unit, frame in frames.items()}
    return Simulation(
        scenario, seen, truth, planted, builds, plant_toml(scenario, builds, seen)
    )


def _check(scenario: Scenario) -> None:
    taken = [CDU, COOLER, CONSUMER, SITE] + [COLD] * (scenario.cold is not None)
    units = {unit.id for unit in scenario.machines} | set(taken)
    if len(units) != len(scenario.machines) + len(taken):
        raise ValueError(
            f"simulate: machines {[u.id for u in scenario.machines]}: ids must differ, "
            f"and {', '.join(taken)} are taken"
        )
    _check_cold(scenario)
    for fault in scenario.faults:
        if fault.unit not in units:
            raise ValueError(
                f'simulate: fault {fault.kind.value}: unit "{fault.unit}" is none of '
                f"{', '.join(sorted(units))}"
            )
        of_exchanger = fault.kind in (FaultKind.EXCHANGER_FOULING, FaultKind.STRAINER)
        of_machine = fault.unit in {machine.id for machine in scenario.machines}
        fits = fault.unit == CDU if of_exchanger else of_machine
        if not fault.component and not fits:
            raise ValueError(
                f"simulate: fault {fault.kind.value} cannot befall {fault.unit}; "
                f"{CDU} fouls and clogs, machines have all the others"
            )
    for unit in scenario.machines:
        if unknown := sorted(set(unit.more) - set(MORE)):
            raise ValueError(
                f"simulate: {unit.id} cannot measure {', '.join(unknown)} as well; "
                f"there is {', '.join(MORE)}"
            )
    for fault in scenario.faults_of(FaultKind.SHORT_CYCLING):
        if fault.size * scenario.step.total_seconds() > 3600.0 / 3.0:
            raise ValueError(
                f"simulate: fault short_cycling of {fault.unit}: {fault.size:g} starts "
                f"an hour need three intervals each; make the step {scenario.step} "
                "shorter"
            )
    if scenario.length % scenario.step or not scenario.length:
        raise ValueError(
            f"simulate: length {scenario.length} is no whole number of steps of "
            f"{scenario.step}"
        )


def _check_cold(scenario: Scenario) -> None:
    cooling = [unit for unit in scenario.machines if unit.cools]
    if len(cooling) == len(scenario.machines):
        raise ValueError(
            f"simulate: of the machines {[u.id for u in cooling]} none takes heat from "
            "the facility loop; give the scenario one that does"
        )
    wants = scenario.cold
    if (wants is None) != (not cooling):
        raise ValueError(
            f"simulate: machines that cool are {[u.id for u in cooling]}, and cold is "
            f"{wants}; name who wants cold and at least one machine that cools, or "
            "neither"
        )
    if wants is None:
        return
    if wants.supply_degc < 6.0 or wants.spread_k <= 0.0:
        raise ValueError(
            f"simulate: cold at {wants.supply_degc:g} degC, {wants.spread_k:g} K "
            "warmer when it comes back: it is plain water, which an evaporator some "
            "kelvin colder would freeze; ask for 6 degC or more and a spread above 0 K"
        )
    back = wants.supply_degc + wants.spread_k
    for unit in cooling:
        rated = unit.rating.source_inlet_temp_degc
        if abs(rated - back) > 5.0:
            raise ValueError(
                f"simulate: {unit.id} cools water that comes at {back:g} degC, but its "
                f"rating has {rated:g} degC into the evaporator; rate it within 5 K"
            )


def _build(unit: Unit) -> Build:
    return machine.size(unit.refrigerant, unit.rating, **dict(unit.build))


# --- steady states ------------------------------------------------------------


def _solve(
    scenario: Scenario,
    conditions: Boundary,
    build: Build,
    unit: str,
    actual: Loops,
    ideal: Loops,
) -> tuple[Outcome, Outcome]:
    """Return what the machine does, and what it would do with nothing wrong."""
    orders, others = actual.orders[unit], ideal.orders[unit]
    worn = wear(scenario, conditions.times, unit)
    none = machine.Wear.none(len(conditions.times))
    made = _rows(build, orders.duty, worn, orders.on)
    if ideal is actual:
        return made, made
    new = np.ones(len(orders.on), dtype=bool)
    for name in worn.__slots__:
        new &= getattr(worn, name) == 0.0
    again = others.on & ~(orders.same(others) & new)
    clean = {name: value.copy() for name, value in made.items()}
    for name, value in _rows(build, others.duty, none, again).items():
        clean[name] = np.where(again, value, np.where(others.on, clean[name], 0.0))
    return made, clean


def _rows(build: Build, duty: machine.Duty, worn: machine.Wear, on: Flags) -> Outcome:
    some = machine.run(build, duty.take(on), worn.take(on))
    whole: Outcome = {}
    for name, value in some.items():
        whole[name] = np.zeros(len(on))
        whole[name][on] = value
    lost = int(np.isnan(whole["sink_heat_w"]).sum())
    if lost:
        raise ValueError(
            f"simulate: {lost} of {int(on.sum())} intervals ask a "
            f"{build.refrigerant} machine for a state it cannot have; "
            "choose a rating nearer to the plant's 70 degC sink and 40 degC source, or "
            "to the chilled water of a machine that cools"
        )
    return whole


# --- slowness -----------------------------------------------------------------


def _follow(target: Array, lag_s: Array, step_s: float, start: float) -> Array:
    """First-order answer to a target held through each interval: interval means."""
    decay = np.exp(-step_s / lag_s)
    weight = (1.0 - decay) * lag_s / step_s
    ends = np.empty(len(target) + 1)
    ends[0] = state = start
    for i, (goal, keep) in enumerate(zip(target.tolist(), decay.tolist(), strict=True)):
        state = goal + (state - goal) * keep
        ends[i + 1] = state
    return target + (ends[:-1] - target) * weight


def _lagged(
    value: Array,
    on: Flags,
    rest: Array | float,
    lag_s: float,
    rest_lag_s: float,
    step_s: float,
) -> Array:
    """Follow the machine while it runs, and the room while it does not."""
    target = np.where(on, value, rest)
    lag = np.where(on, lag_s, rest_lag_s)
    return _follow(target, lag, step_s, float(target[0]))


def _heat_pump(
    scenario: Scenario,
    conditions: Boundary,
    build: Build,
    unit: Unit,
    around: Loops,
    made: Outcome,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a machine's true points and the truth beside them."""
    times = conditions.times
    step_s = scenario.step.total_seconds()
    orders = around.orders[unit.id]
    on = orders.on
    duty = orders.duty
    fluid = media.refrigerant(build.refrigerant)

    wet = on | orders.waits
    source_in = _lagged(
        duty.source_inlet_degc, wet, ROOM_DEGC, 1.0, _REST_LAG_S["liquid"], step_s
    )
    warm = on | orders.cools
    sink_in = _lagged(
        duty.sink_inlet_degc, warm, ROOM_DEGC, 1.0, _REST_LAG_S["liquid"], step_s
    )
    source_out = _lagged(
        np.where(orders.waits, duty.source_inlet_degc, made["source_outlet_temp_degc"]),
        wet, ROOM_DEGC, _LIQUID_LAG_S["source"], _REST_LAG_S["liquid"], step_s,
    )  # fmt: skip
    sink_out = _lagged(
        np.where(orders.cools, duty.sink_inlet_degc, made["sink_outlet_temp_degc"]),
        warm, ROOM_DEGC, _LIQUID_LAG_S["sink"], _REST_LAG_S["liquid"], step_s,
    )  # fmt: skip
    source_heat = np.where(on, duty.source_capacity_w_k * (source_in - source_out), 0.0)
    sink_heat = np.where(on, duty.sink_capacity_w_k * (sink_out - sink_in), 0.0)
    power = np.where(on, made["compressor_power_w"], unit.standby_power_w)
    loss = np.where(
        on, power - made["sink_heat_w"] + made["source_heat_w"], unit.standby_power_w
    )
    stored = np.where(
        on, source_heat - made["source_heat_w"] + made["sink_heat_w"] - sink_heat, 0.0
    )
    available = orders.available.astype(float)
    point: dict[str, Array] = {
        "source_inlet_temp_degc": source_in,
        "source_outlet_temp_degc": source_out,
        "sink_inlet_temp_degc": sink_in,
        "sink_outlet_temp_degc": sink_out,
        "source_flow_m3_s": orders.source_kg_s
        / media.density(source_liquid(scenario, unit), source_in),
        "sink_flow_m3_s": orders.sink_kg_s / media.density(WATER, sink_in),
        "compressor_power_w": power,
        "compressor_speed_hz": np.where(on, RATED_HZ * made["speed"], 0.0),
        "compressor_running": on.astype(float),
        "sink_setpoint_degc": np.round(orders.setpoint_degc, 1),
        "available": available,
        "manual_override": orders.override.astype(float),
    }
    worn = wear(scenario, times, unit.id)
    rest_pa = float(fluid.pressure(np.array(ROOM_DEGC))) + worn.inert_pa
    if unit.instruments in ("pressures", "full"):
        for name in _PRESSURES:
            point[name] = _lagged(
                made[name], on, rest_pa, _REFRIGERANT_LAG_S, _REST_LAG_S["pressure"],
                step_s,
            )  # fmt: skip
    if unit.instruments == "full":
        for name in _REFRIGERANT:
            point[name] = _lagged(
                made[name], on, ROOM_DEGC, _REFRIGERANT_LAG_S,
                _REST_LAG_S["refrigerant"], step_s,
            )  # fmt: skip
    clogged: dict[str, Array] = {}
    for side, carried, rated in (
        ("source", orders.source_kg_s * duty.source_capacity_w_k,
         build.source_capacity_w_k),
        ("sink", orders.sink_kg_s * duty.sink_capacity_w_k, build.sink_capacity_w_k),
    ):  # fmt: skip
        kg_s = orders.source_kg_s if side == "source" else orders.sink_kg_s
        with np.errstate(invalid="ignore"):
            flow = np.where(kg_s > 0.0, carried / np.maximum(kg_s, 1e-9) / rated, 0.0)
        share = _PUMP_SHARE[side] * build.rating.sink_heat_w
        clogged[side] = strained(scenario, times, unit.id, side)[0]
        point[f"{side}_pump_power_w"] = share * (
            0.15 * (flow > 0.0) + 0.85 * flow**3 * clogged[side]
        )
        drop = f"{side}_pressure_drop_pa"
        if drop in unit.more:
            dirt = worn.evaporator if side == "source" else worn.condenser
            narrow = (1.0 + 0.4 * dirt) * clogged[side]
            point[drop] = _DROP_PA[side] * narrow * flow ** _DROP_EXPONENT[side]
    if "expansion_valve_ratio" in unit.more:
        point["expansion_valve_ratio"] = np.where(
            on, made["expansion_valve_ratio"], 0.0
        )
    point["compressor_energy_j"] = np.cumsum(power) * step_s
    point["sink_energy_j"] = np.cumsum(np.maximum(sink_heat, 0.0)) * step_s

    nothing = np.where(on, 0.0, np.nan)
    truth = {
        "source_heat_w": source_heat,
        "sink_heat_w": sink_heat,
        "compressor_power_w": power,
        "heat_loss_w": loss,
        "stored_heat_w": stored,
        "cop": nothing + made["sink_heat_w"] / np.where(on, power, 1.0),
        "refrigerant_flow_kg_s": made["refrigerant_flow_kg_s"],
        "source_flow_kg_s": orders.source_kg_s,
        "sink_flow_kg_s": orders.sink_kg_s,
        "speed": made["speed"],
        "limited": made["limited"],
    }
    for name in (
        "evaporating_temp_degc", "condensing_temp_degc", "superheat_k",
        "subcooling_k", "isentropic_efficiency", "volumetric_efficiency",
        "condenser_conductance_ratio", "evaporator_conductance_ratio",
    ):  # fmt: skip
        truth[name] = nothing + made[name]
    truth["isentropic_ratio"] = 1.0 - worn.isentropic
    truth["volumetric_ratio"] = 1.0 - worn.volumetric
    truth["subcooling_ratio"] = 1.0 - worn.charge
    truth["inert_pressure_pa"] = nothing + made["inert_pressure_pa"]
    truth["superheat_swing_k"] = worn.swing_k
    for side, factor in clogged.items():
        truth[f"{side}_strainer_ratio"] = factor
    return pd.DataFrame(point, index=times), pd.DataFrame(truth, index=times)


# --- what was missed ----------------------------------------------------------


def _blame(
    scenario: Scenario,
    conditions: Boundary,
    made: dict[str, Outcome],
    clean: dict[str, Outcome],
    truth: dict[str, pd.DataFrame],
) -> None:
    """Add to each machine's truth the heat, and cold, that its faults have missed.

    The loss is the plant's: what the others made up for is not missed. It is
    shared by how far each machine fell short, and a machine's share goes to the
    first cause that is at work there. One that cools has no part in the racks'
    heat that is missed: it takes none, and while it stands the others take more.
    """
    step_s = scenario.step.total_seconds()
    units = [unit.id for unit in scenario.machines]
    cooling = [unit.id for unit in scenario.machines if unit.cools]
    racks = [unit.id for unit in scenario.machines if not unit.cools]
    less = {
        heat: {u: clean[u][heat] - made[u][heat] for u in units}
        for heat in ("sink_heat_w", "source_heat_w")
    }

    def lost(heat: str, group: list[str]) -> Array:
        gap: Array = np.sum([less[heat][u] for u in group], axis=0)
        return np.maximum(gap, 0.0)

    short = less["sink_heat_w"]
    delivered = lost("sink_heat_w", units)
    # a watt of numerical noise in a plant of megawatts is no finding
    real = delivered > 1.0
    missed = {
        "missed_delivered": (delivered, _shares(short, units, real)),
        "missed": (lost("source_heat_w", racks), _shares(short, racks, real)),
    }
    if cooling:
        could = np.sum([clean[u]["source_heat_w"] for u in cooling], axis=0)
        handed = np.minimum(could, conditions.cold_demand_w)
        taken = np.sum([made[u]["source_heat_w"] for u in cooling], axis=0)
        cold = np.maximum(handed - taken, 0.0)
        missed["missed_cold"] = (
            cold, _shares(less["source_heat_w"], cooling, cold > 1.0)
        )  # fmt: skip
        for u in cooling:
            part = clean[u]["source_heat_w"] / np.maximum(could, 1.0)
            truth[u]["potential_cold_w"] = handed * part
    for u in units:
        causes = {cause: np.zeros(len(delivered), dtype=bool) for cause in CAUSES}
        named = np.zeros(len(delivered), dtype=bool)
        for kind, cause in OPERATION.items():
            at_work = (scenario.size(conditions.times, kind, u) != 0.0) & ~named
            causes[cause] |= at_work
            named |= at_work
        causes["degradation"] = ~named
        for prefix, (whole, shares) in missed.items():
            if prefix == "missed_cold" and u not in cooling:
                continue
            share = shares.get(u, 0.0)
            for cause, at_work in causes.items():
                truth[u][f"{prefix}_{cause}_j"] = whole * share * at_work * step_s
        truth[u]["potential_heat_w"] = clean[u]["sink_heat_w"]


def _shares(less: dict[str, Array], group: list[str], real: Flags) -> dict[str, Array]:
    """Return each one's part in what a group fell short of together [1]."""
    short = {u: np.maximum(less[u], 0.0) for u in group}
    total = np.sum(list(short.values()), axis=0)
    return {u: np.where(real, short[u] / np.maximum(total, 1e-9), 0.0) for u in group}


def _planted(
    scenario: Scenario,
    conditions: Boundary,
    made: dict[str, Outcome],
    clean: dict[str, Outcome],
    truth: dict[str, pd.DataFrame],
) -> tuple[Mapping[str, Any], ...]:
    times = conditions.times
    planted: list[dict[str, Any]] = []

    def plant(unit: str, kind: str, component: str, fault: Fault, size: float) -> None:
        planted.append(
            {
                "unit": unit,
                "kind": kind,
                "component": component,
                "since": fault.start,
                "until": fault.end,
                "size": size,
            }
        )

    step_s = scenario.step.total_seconds()
    for fault in scenario.faults:
        kind, component = fault.finding
        sizes = fault.sizes(times, scenario.stop)
        there = np.flatnonzero(sizes)
        if not len(there) or kind is FindingKind.COP_DEGRADATION:
            continue
        size = float(sizes[np.abs(sizes).argmax()])
        if kind is FindingKind.MISSED_RECOVERY:
            of = truth[fault.unit]
            lost = of[f"missed_delivered_{component}_j"].to_numpy()
            could = of["potential_heat_w"].to_numpy() * step_s
            if "potential_cold_w" in of:
                lost = lost + of[f"missed_cold_{component}_j"].to_numpy()
                could = could + of["potential_cold_w"].to_numpy() * step_s
            if not lost[there].any():
                continue
            size = float(lost[there].sum() / could[there].sum())
        elif fault.kind in _RATIOS:
            ratio = truth[fault.unit][_RATIOS[fault.kind]].iloc[there]
            last = ratio.index > ratio.index[-1] - pd.Timedelta(days=1)
            size = 1.0 - float(ratio[last].median())
        plant(fault.unit, kind.value, component, fault, size)
    # the bill: what wear that is still there costs, at equal delivered heat
    week = np.asarray(times > times[-1] - pd.Timedelta(days=7))
    for unit in scenario.machines:
        worn = [
            fault
            for fault in scenario.faults_of(*_COP_COST, unit=unit.id)
            if fault.end is None and fault.size
        ]
        now, new = made[unit.id], clean[unit.id]
        with np.errstate(invalid="ignore", divide="ignore"):
            same = np.abs(now["sink_heat_w"] / new["sink_heat_w"] - 1.0) < 1e-6
        rows = week & same
        if not worn or not rows.any():
            continue
        first = max(worn, key=lambda fault: _COP_COST[fault.kind] * fault.size)
        before = new["compressor_power_w"][rows].sum()
        size = 1.0 - float(before / now["compressor_power_w"][rows].sum())
        plant(
            unit.id,
            FindingKind.COP_DEGRADATION.value,
            first.finding[1],
            min(worn, key=lambda fault: fault.start),
            size,
        )
    return tuple(planted)


# --- the rest of the plant ----------------------------------------------------


def _rest_of_plant(
    scenario: Scenario,
    conditions: Boundary,
    around: Loops,
    frames: dict[str, pd.DataFrame],
    truth: dict[str, pd.DataFrame],
) -> dict[str, pd.DataFrame]:
    """Return the true points of exchanger, cooler, consumers and site."""
    times = conditions.times
    units = [unit.id for unit in scenario.machines]
    it_heat = conditions.it_heat_w
    racks = [unit.id for unit in scenario.machines if not unit.cools]
    taken = np.sum([truth[u]["source_heat_w"].to_numpy() for u in racks], axis=0)
    given = np.sum([truth[u]["sink_heat_w"].to_numpy() for u in units], axis=0)
    left = it_heat - taken
    rejected = np.maximum(left, 0.0)
    mixed = around.supply_degc + rejected / around.capacity_w_k

    cdu, truth[CDU] = _exchanger(scenario, conditions, around)

    # full fans carry the whole load at 6 K; their power follows the cube
    force = rejected / (scenario.it_heat_w / 6.0)
    reach = np.maximum(around.supply_degc - conditions.outdoor_degc, 1.0)
    fans = np.clip(force / reach, 0.0, 1.15)
    fan_w = 0.020 * scenario.it_heat_w * fans**3
    fan_w = fan_w + 0.004 * scenario.it_heat_w * (rejected > 0.0)
    cold = media.density(scenario.coolant, around.supply_degc)
    cooler = pd.DataFrame(
        {
            "rejector_inlet_temp_degc": mixed,
            "rejector_outlet_temp_degc": around.supply_degc,
            "rejector_flow_m3_s": around.flow_kg_s / cold,
            "rejected_heat_w": rejected,
            "fan_power_w": fan_w,
        },
        index=times,
    )

    flow = np.sum([truth[u]["sink_flow_kg_s"].to_numpy() for u in units], axis=0)
    carried = np.sum(
        [
            truth[u]["sink_flow_kg_s"].to_numpy()
            * frames[u]["sink_outlet_temp_degc"].to_numpy()
            for u in units
        ],
        axis=0,
    )
    supply = np.where(flow > 0.0, carried / np.maximum(flow, 1e-9), np.nan)
    supply = pd.Series(supply).ffill().bfill().fillna(ROOM_DEGC).to_numpy()
    # What is too hot for all of them comes from the network; what is too hot for
    # one has gone round it.
    common = np.min(
        [scenario.size(times, FaultKind.SINK_HOT, u) for u in units], axis=0
    )
    consumer = pd.DataFrame(
        {
            "demand_heat_w": conditions.demand_w,
            "delivered_heat_w": given,
            "supply_setpoint_degc": np.round(conditions.supply_degc, 1),
            "supply_temp_degc": supply,
            "return_temp_degc": conditions.return_degc + common,
        },
        index=times,
    )

    power = np.sum(
        [
            frames[u][name].to_numpy()
            for u in units
            for name in (
                "compressor_power_w", "source_pump_power_w", "sink_pump_power_w",
            )
        ],
        axis=0,
    )  # fmt: skip
    it_power = it_heat * 1.22  # what air takes away is not in this loop
    site = pd.DataFrame(
        {
            "it_power_w": it_power,
            "site_power_w": it_power * 1.09 + power + fan_w,
            "outdoor_temp_degc": conditions.outdoor_degc,
            "electricity_price_eur_j": conditions.electricity_eur_j,
        },
        index=times,
    )
    truth[SITE] = pd.DataFrame(
        {
            "it_heat_w": it_heat,
            "source_heat_w": taken,
            "rejected_heat_w": rejected,
            "loop_stored_heat_w": np.minimum(left, 0.0),
            "delivered_heat_w": given,
            "demand_heat_w": conditions.demand_w,
        },
        index=times,
    )
    made = {CDU: cdu, COOLER: cooler, CONSUMER: consumer}
    if scenario.cold is not None:
        made[COLD] = _cold(scenario, scenario.cold, conditions, truth)
    return made | {SITE: site}


def _cold(
    scenario: Scenario,
    wants: Cold,
    conditions: Boundary,
    truth: dict[str, pd.DataFrame],
) -> pd.DataFrame:
    """Return the true points of who wants cold, and add his truth to the site's.

    He is handed no more than he wants; what the machines took beyond that has
    cooled the water of his loop.
    """
    wanted = conditions.cold_demand_w
    taken = np.sum(
        [truth[u.id]["source_heat_w"].to_numpy() for u in scenario.machines if u.cools],
        axis=0,
    )
    handed = np.minimum(taken, wanted)
    truth[SITE]["cold_heat_w"] = handed
    truth[SITE]["cold_demand_w"] = wanted
    truth[SITE]["cold_stored_heat_w"] = np.minimum(wanted - taken, 0.0)
    return pd.DataFrame(
        {
            "demand_heat_w": wanted,
            "delivered_heat_w": handed,
            "supply_setpoint_degc": np.full(len(wanted), wants.supply_degc),
            "supply_temp_degc": conditions.cold_supply_degc,
            "return_temp_degc": conditions.cold_return_degc,
        },
        index=conditions.times,
    )


def _exchanger(
    scenario: Scenario, conditions: Boundary, around: Loops
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the CDU's points and its true conductance: effectiveness-NTU."""
    times = conditions.times
    heat = conditions.it_heat_w
    load = heat / scenario.it_heat_w
    fouling = scenario.size(times, FaultKind.EXCHANGER_FOULING, CDU)
    strainer = scenario.size(times, FaultKind.STRAINER, CDU)
    # the racks' pumps follow the load half way
    rated_kg_s = scenario.it_heat_w / (4181.0 * 10.0)
    hot_kg_s = rated_kg_s * (0.45 + 0.55 * load)
    hot_w_k = hot_kg_s * media.heat_capacity(WATER, np.full(len(heat), 41.0))
    cold_w_k = around.capacity_w_k
    rated_w_k = 0.5 * scenario.it_heat_w  # a 2 K mean difference
    cold_kg_s = scenario.it_heat_w / (3900.0 * SPREAD_K)
    resistance = (
        0.42 * (hot_kg_s / rated_kg_s) ** -0.68
        + 0.50 * (around.flow_kg_s / cold_kg_s) ** -0.66
        + 0.08
    ) / rated_w_k
    ua = 1.0 / (resistance + fouling / (1.0 - fouling) / rated_w_k)
    least = np.minimum(hot_w_k, cold_w_k)
    ratio = least / np.maximum(hot_w_k, cold_w_k)
    ntu = ua / least
    decay = np.exp(-ntu * (1.0 - ratio))
    with np.errstate(invalid="ignore", divide="ignore"):
        effect = (1.0 - decay) / (1.0 - ratio * decay)
    effect = np.where(np.abs(1.0 - ratio) < 1e-7, ntu / (1.0 + ntu), effect)
    cold_in = around.supply_degc
    hot_in = cold_in + heat / (effect * least)
    cold_m3_s = around.flow_kg_s / media.density(scenario.coolant, cold_in)
    hot_m3_s = hot_kg_s / media.density(WATER, hot_in)
    cold_rated = cold_kg_s / float(media.density(scenario.coolant, np.array(31.0)))
    narrow = 1.0 + 0.5 * fouling
    points = {
        "hot_inlet_temp_degc": hot_in,
        "hot_outlet_temp_degc": hot_in - heat / hot_w_k,
        "cold_inlet_temp_degc": cold_in,
        "cold_outlet_temp_degc": around.return_degc,
        "hot_flow_m3_s": hot_m3_s,
        "cold_flow_m3_s": cold_m3_s,
        "hot_pressure_drop_pa": _DROP_PA["hot"] * narrow
        * (hot_m3_s / (rated_kg_s / 992.0)) ** 1.85,
        "cold_pressure_drop_pa": _DROP_PA["cold"] * narrow * (1.0 + strainer)
        * (cold_m3_s / cold_rated) ** 1.85,
    }  # fmt: skip
    truth = {
        "exchanger_heat_w": heat,
        "exchanger_ua_w_k": ua,
        "exchanger_conductance_ratio": ua * resistance,
        "strainer_ratio": 1.0 + strainer,
    }
    return pd.DataFrame(points, index=times), pd.DataFrame(truth, index=times)


def shortened(scenario: Scenario, days: float) -> Scenario:
    """Return the first days of a scenario, for a look or a test."""
    return replace(scenario, length=pd.Timedelta(days=days).to_pytimedelta())
