"""What a machine could do: by its nameplate, or by its twin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from twin.ledger.intervals import Columns
from twin.ledger.thresholds import RULES
from twin.plant import Consumer, Machine, Plant, Use

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from twin.heatpump import HeatPump

    Array = NDArray[np.float64]

    Capacity = (
        Mapping[str, pd.DataFrame] | Callable[[Machine, pd.DataFrame], pd.DataFrame]
    )


def _nominal_flow(heat: float, spread: float, glycol: float) -> float:
    """Nameplate mass flow in kg/s; a round c_p, for only thresholds hang on it."""
    return heat / ((4180.0 - 1800.0 * glycol) * max(spread, 0.5))


def nominal_flows(machine: Machine) -> tuple[float, float]:
    """Nameplate mass flows of source and sink; in kg/s."""
    plate = machine.nameplate
    return (
        _nominal_flow(
            plate.sink_heat_w - plate.power_w,
            plate.source_inlet_temp_degc - plate.source_outlet_temp_degc,
            machine.source.mass_fraction,
        ),
        _nominal_flow(
            plate.sink_heat_w,
            plate.sink_outlet_temp_degc - plate.sink_inlet_temp_degc,
            machine.sink.mass_fraction,
        ),
    )


def flow_of(columns: Columns, side: str) -> Array:
    """Mass flow of one side; a volume counts as water's; in kg/s."""
    mass = columns[f"{side}_flow_kg_s"]
    return np.where(np.isfinite(mass), mass, 1e3 * columns[f"{side}_flow_m3_s"])


def running_share(machine: Machine, frame: pd.DataFrame) -> Array:
    """Tell which share of each interval the compressor ran.

    Parameters
    ----------
    machine : Machine
        The machine, for its standby power.
    frame : DataFrame
        Its intervals; ``compressor_running`` is believed first, then
        ``compressor_power_w``.

    Returns
    -------
    ndarray
        From 0 to 1; NaN where neither is known. [1]
    """
    columns = Columns(frame, pd.DatetimeIndex(frame.index))
    told = columns["compressor_running"]
    power = columns["compressor_power_w"]
    idle = machine.standby_power_w + 0.02 * machine.nameplate.power_w
    drawn = np.where(np.isfinite(power), (power > idle).astype(float), np.nan)
    return np.where(np.isfinite(told), told, drawn)


def nameplate_capacity(machine: Machine, frame: pd.DataFrame) -> pd.DataFrame:
    """Answer what a machine could do by its nameplate alone.

    The poor man's capacity, for a plant that has no reference model yet: it
    does not know how conditions change a machine.

    Parameters
    ----------
    machine : Machine
        The machine.
    frame : DataFrame
        Its intervals; only the index is used.

    Returns
    -------
    DataFrame
        ``expected_sink_heat_w`` at full load [W] and ``reference_cop`` [1].
    """
    plate = machine.nameplate
    return pd.DataFrame(
        {"expected_sink_heat_w": plate.sink_heat_w, "reference_cop": plate.cop},
        index=frame.index,
    )


def full_load_conditions(
    plant: Plant,
    machine: Machine,
    frames: Mapping[str, pd.DataFrame],
) -> pd.DataFrame:
    """Return the conditions under which a machine could have run flat out.

    A machine that stands still shows the temperature of the plant room. Then
    the heat that was on offer is what the cooler (else the coolant
    distribution unit) shows, the return is the consumer's, and the flows are
    the nameplate's. A starved flow counts as the nominal one: what the
    machine could do is asked with its pump in order.

    Parameters
    ----------
    plant : Plant
        The plant as configured.
    machine : Machine
        The machine asked.
    frames : mapping of str to DataFrame
        Frames by unit, with derived columns.

    Returns
    -------
    DataFrame
        ``source_inlet_temp_degc``, ``sink_inlet_temp_degc`` [degC],
        ``source_flow_kg_s``, ``sink_flow_kg_s`` [kg/s] and, where the
        nameplate has one, ``compressor_speed_hz``, the highest, [Hz] on the
        machine's own index; NaN where nothing tells.
    """
    own = frames[machine.id]
    times = pd.DatetimeIndex(own.index)
    columns = Columns(own, times)
    source_nominal, sink_nominal = nominal_flows(machine)
    runs = running_share(machine, columns.frame) > 0.0
    offered, returned = site_temps(plant, machine, frames, times)
    conditions: dict[str, Array] = {}
    for side, nominal, other in (
        ("source", source_nominal, offered),
        ("sink", sink_nominal, returned),
    ):
        inlet, flow = columns[f"{side}_inlet_temp_degc"], flow_of(columns, side)
        if side == "source":
            # Mixed on its way: what the machine could do is asked unmixed.
            inlet = np.where(inlet < offered - RULES.mixed_k, offered, inlet)
        alive = runs | (flow > 0.3 * nominal)
        instead = np.where(np.isfinite(other), other, inlet)
        conditions[f"{side}_inlet_temp_degc"] = np.where(
            alive & np.isfinite(inlet), inlet, instead
        )
        fed = runs & (flow >= RULES.starved_flow * nominal)
        conditions[f"{side}_flow_kg_s"] = np.where(fed, flow, nominal)
    top = machine.nameplate.top_speed_hz
    if top is not None:
        # One that is seen to turn faster could have done so.
        seen = columns["compressor_speed_hz"]
        conditions["compressor_speed_hz"] = np.fmax(top, np.where(runs, seen, top))
    return pd.DataFrame(conditions, index=times)


def model_capacity(
    plant: Plant,
    frames: Mapping[str, pd.DataFrame],
    reference: Mapping[str, HeatPump],
    current: Mapping[str, HeatPump] | None = None,
) -> dict[str, pd.DataFrame]:
    """Ask the twins what each machine could have done in every interval.

    Parameters
    ----------
    plant : Plant
        The plant as configured.
    frames : mapping of str to DataFrame
        Frames by unit, with derived columns.
    reference, current : mapping of str to HeatPump
        The machines as commissioned, and as they are now; a machine without a
        reference is answered by its nameplate.

    Returns
    -------
    dict of str to DataFrame
        By machine: ``expected_sink_heat_w`` [W], ``reference_cop`` [1] and,
        with a current model, ``current_sink_heat_w`` [W]; NaN where the
        physics has no answer.
    """
    answers: dict[str, pd.DataFrame] = {}
    for machine in plant.machines:
        if machine.id not in frames:
            continue
        if machine.id not in reference:
            answers[machine.id] = nameplate_capacity(machine, frames[machine.id])
            continue
        conditions = full_load_conditions(plant, machine, frames)
        if "compressor_speed_hz" not in conditions:
            conditions["compressor_speed_hz"] = reference[machine.id].rated_speed_hz
        given = "compressor_speed_hz"
        healthy = reference[machine.id].predict(conditions, given=given)
        answer = pd.DataFrame(
            {
                "expected_sink_heat_w": healthy["sink_heat_w"],
                "reference_cop": healthy["cop"],
            },
            index=conditions.index,
        )
        if current is not None and machine.id in current:
            now = current[machine.id].predict(conditions, given=given)
            answer["current_sink_heat_w"] = now["sink_heat_w"]
        answers[machine.id] = answer
    return answers


def site_temps(
    plant: Plant,
    machine: Machine,
    frames: Mapping[str, pd.DataFrame],
    times: pd.DatetimeIndex,
) -> tuple[Array, Array]:
    """Temperature of the heat on offer, and of the consumers' return; in degC.

    To a machine that cools somebody it is what he sends back, else the loop's.
    """
    offered = np.full(len(times), np.nan)
    for consumer in cooled_by(plant, machine):
        back = Columns(frames.get(consumer.id), times)["return_temp_degc"]
        offered = np.fmax(offered, back)
    on_loop = not machine.cools
    for rejector in plant.rejectors if on_loop else ():
        inlet = Columns(frames.get(rejector.id), times)["rejector_inlet_temp_degc"]
        offered = np.fmax(offered, inlet)
    for exchanger in plant.exchangers if on_loop else ():
        if not exchanger.station:
            outlet = Columns(frames.get(exchanger.id), times)["cold_outlet_temp_degc"]
            offered = np.fmax(offered, outlet)
    returned = np.full(len(times), np.nan)
    for consumer in consumers_of(plant, machine):
        back = Columns(frames.get(consumer.id), times)["return_temp_degc"]
        returned = np.fmin(returned, back)
    return offered, returned


def consumers_of(plant: Plant, machine: Machine) -> tuple[Consumer, ...]:
    """Who takes a machine's heat; one that names nobody feeds them all."""
    warm = [one for one in plant.consumers if one.use is not Use.COLD]
    if not machine.consumers:
        return tuple(warm)
    return tuple(one for one in warm if one.id in machine.consumers)


def cooled_by(plant: Plant, machine: Machine) -> tuple[Consumer, ...]:
    """Whose cold is a machine's source; nobody's where that is the racks' loop."""
    return tuple(one for one in plant.consumers if one.id in machine.cools)


def groups_of(plant: Plant) -> list[tuple[list[Machine], list[Consumer]]]:
    """Machines that share a consumer share the work: connected components."""
    groups: list[tuple[list[Machine], list[Consumer]]] = []
    for machine in plant.machines:
        mine = list(consumers_of(plant, machine))
        names = {one.id for one in mine}
        machines, consumers = [machine], mine
        apart = []
        for group in groups:
            if names & {one.id for one in group[1]}:
                machines = group[0] + machines
                consumers = group[1] + [one for one in consumers if one not in group[1]]
            else:
                apart.append(group)
        groups = [*apart, (machines, consumers)]
    return groups
