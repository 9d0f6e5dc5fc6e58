"""Why heat was missed: what the instruments speak for, one cause for each joule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from twin.ledger.accounts import Cause
from twin.ledger.capacity import flow_of, nominal_flows
from twin.ledger.machines import State
from twin.ledger.thresholds import Rules

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Flags = NDArray[np.bool_]

_MEMORY = pd.Timedelta(hours=12)


def evidence_of(
    state: State, rules: Rules, told: pd.DataFrame | None
) -> tuple[dict[Cause, Flags], Flags]:
    """Which causes the instruments speak for, and where one is surely its own."""
    machine, columns, plate = state.machine, state.columns, state.machine.nameplate
    running = state.running
    runs = running > 0.5
    source_nominal, sink_nominal = nominal_flows(machine)
    available = columns["available"]
    source_in, source_out = (
        columns["source_inlet_temp_degc"],
        columns["source_outlet_temp_degc"],
    )
    sink_in, sink_out = (
        columns["sink_inlet_temp_degc"],
        columns["sink_outlet_temp_degc"],
    )
    source_flow, sink_flow = flow_of(columns, "source"), flow_of(columns, "sink")
    evidence: dict[Cause, Flags] = {
        Cause.UNAVAILABLE: available < 0.5,
        Cause.OVERRIDE: columns["manual_override"] >= 0.5,
    }

    coldest = machine.source_inlet_min_degc
    wet = runs | (source_flow > 0.3 * source_nominal)
    evidence[Cause.SOURCE_COLD] = (
        wet & (source_in < coldest)
        if coldest is not None
        else np.zeros(len(running), bool)
    )
    slow = _slow(state, rules)
    # Only a speed tells who is flat out: power falls with what is lost.
    top = plate.top_speed_hz
    state.striving = (running >= rules.full_running) & ~slow
    if top is None or not columns.has("compressor_speed_hz"):
        state.striving = np.zeros(len(running), bool)
    # Warm heat that arrives mixed takes capacity, of a machine that is flat out.
    evidence[Cause.SOURCE_COLD] |= (
        (running >= rules.full_running)
        & ~slow
        & (source_in < state.offered - rules.mixed_k)
    )
    wet = runs | (sink_flow > 0.3 * sink_nominal)
    # A machine locked out by its return stands without flow: what it last felt
    # counts for half a day, then what the consumer sends back.
    times = columns.frame.index
    back = _felt(np.where(wet, sink_in, np.nan), times)
    back = np.where(np.isfinite(back), back, state.returned)
    # Hotter than what the consumer sends back: it has gone round the consumer.
    round_it = _felt(np.where(wet, sink_in - state.returned, np.nan), times)
    goal = np.where(
        np.isfinite(state.needed), state.needed, columns["sink_setpoint_degc"]
    )
    carried = 1.2 * 4180.0 * sink_nominal * (goal - back)
    # One that cools somebody is seldom asked for all that it can do.
    evidence[Cause.SINK_HOT] = (carried < rules.full_lift * state.capacity) & (
        not machine.cools
    )
    evidence[Cause.SINK_HOT] |= (round_it > rules.mixed_k) & (carried < state.capacity)
    hottest = machine.sink_outlet_max_degc
    if hottest is not None:
        evidence[Cause.SINK_HOT] |= (back > hottest - rules.lift_margin_k) | (
            # Little liquid gets hot whatever returns: that is hydraulics.
            runs
            & (sink_out > hottest - 0.5)
            & ~(sink_flow < rules.starved_flow * sink_nominal)
        )

    starved = np.zeros(len(running), bool)
    # A pump that follows a small demand moves little, and no hotter than wanted.
    hot = ~(sink_out <= goal + 1.0)
    for flow, nominal, spread, usual, pump, odd in (
        (
            source_flow,
            source_nominal,
            source_in - source_out,
            plate.source_inlet_temp_degc - plate.source_outlet_temp_degc,
            columns["source_pump_power_w"],
            runs,
        ),
        (
            sink_flow,
            sink_nominal,
            sink_out - sink_in,
            plate.sink_outlet_temp_degc - plate.sink_inlet_temp_degc,
            columns["sink_pump_power_w"],
            hot,
        ),
    ):
        starved |= (
            runs
            & odd
            & (flow < rules.starved_flow * nominal)
            & (spread > rules.starved_spread * usual)
        )
        # A pump that draws power and moves nothing: a shut valve, an air lock.
        starved |= ~runs & (pump > 100.0) & (flow < 0.1 * nominal)
    # At its set point, and still short of the demand with less liquid than it was
    # built for: only more liquid could carry more. Were it the compressor that is
    # held back, the outlet would fall short.
    thin = (
        slow & (sink_flow < rules.short_flow * sink_nominal) & (sink_out > goal - 1.0)
    )
    evidence[Cause.HYDRAULICS] = starved | thin

    # At its set point with all the liquid that it was built for: what this return
    # allows, and no cause of its own. One that is flat out is there only if its outlet
    # is too: what it has lost would show in it.
    near = np.where(slow, 1.0, rules.at_goal_k)
    at_goal = (
        (sink_flow >= rules.short_flow * sink_nominal)
        & (sink_out > goal - near)
        & (running >= rules.full_running)
    )
    state.filled = at_goal & ~evidence[Cause.SINK_HOT]
    state.held = at_goal & ~(round_it > rules.mixed_k)

    # Standing though nothing forbids it is the controller's doing, but only
    # where somebody measures that nothing forbids it.
    idle = (running < rules.full_running) & (available >= 0.5)
    low = columns["sink_setpoint_degc"] < state.needed - 1.0
    evidence[Cause.CONTROL] = idle | slow | low
    if told is not None:
        for cause in Cause:
            if cause.value in told:
                said = told[cause.value].reindex(columns.frame.index)
                true = said.astype(float).fillna(0.0).to_numpy() > 0.5
                evidence[cause] = evidence.get(cause, np.zeros(len(true), bool)) | true
        # A store that was not charged is that, though only a controller could have.
        stored = evidence.get(Cause.STORAGE)
        if stored is not None:
            evidence[Cause.CONTROL] = evidence[Cause.CONTROL] & ~stored
    # Part load and standstill may be a neighbour's fault; the rest is its own. To be
    # short of liquid at its set point is so too, unless a neighbour's fault is proved.
    proved = low | starved
    for cause, flags in evidence.items():
        if cause not in (Cause.CONTROL, Cause.HYDRAULICS):
            proved |= flags
    state.likely = thin & ~proved
    return evidence, proved


def _felt(inlet: Array, times: pd.Index) -> Array:
    """Carry what a probe last felt on for half a day."""
    if len(times) < 2:
        return inlet
    most = int(_MEMORY / (times[1] - times[0]))
    return np.asarray(pd.Series(inlet).ffill(limit=max(most, 1)), dtype=float)


def _slow(state: State, rules: Rules) -> Flags:
    """Tell where a running machine is not flat out."""
    top = state.machine.nameplate.top_speed_hz
    if state.columns.has("compressor_speed_hz") and top is not None:
        slow = state.columns["compressor_speed_hz"] < rules.full_speed * top
    else:
        full = state.capacity / state.cop
        slow = state.columns["compressor_power_w"] < rules.full_power * full
    told: Flags = slow & (state.running >= rules.full_running)
    return told


def blame(state: State, missed: Array, rules: Rules) -> dict[Cause, Array]:
    """Share the missed heat of one machine out: one cause each, as sure as known."""
    evidence = state.evidence
    left = np.ones(len(missed), bool)
    shares: dict[Cause, Array] = {}
    for cause in Cause:
        if cause in (Cause.DEGRADATION, Cause.UNEXPLAINED):
            continue
        mine = left & evidence.get(cause, np.zeros(len(missed), bool))
        shares[cause] = np.where(mine, missed, 0.0)
        left &= ~mine
    lost = np.nan_to_num(np.maximum(state.capacity - state.current, 0.0))
    # The one share that may be partial: a machine flat out that has grown weaker.
    fresh = np.where(left & (state.running >= rules.full_running), lost, 0.0)
    shares[Cause.DEGRADATION] = np.minimum(fresh, missed)
    shares[Cause.UNEXPLAINED] = np.where(
        left, np.maximum(missed - shares[Cause.DEGRADATION], 0.0), 0.0
    )
    return shares
