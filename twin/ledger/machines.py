"""What the ledger knows of one machine: its heat, its reference, its envelope."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from twin.ledger.accounts import Cause
from twin.ledger.capacity import consumers_of, running_share, site_temps
from twin.ledger.intervals import Columns
from twin.ledger.thresholds import Rules
from twin.plant import Machine, Plant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from twin.ledger.capacity import Capacity

    Array = NDArray[np.float64]
    Flags = NDArray[np.bool_]


@dataclass(slots=True)
class State:
    """What the ledger knows of one machine, an array for each interval."""

    machine: Machine
    columns: Columns
    source: Array
    sink: Array
    capacity: Array
    cop: Array
    current: Array
    running: Array
    reached: dict[str, Flags] = field(default_factory=dict)
    in_reach: Flags = field(default_factory=lambda: np.zeros(0, bool))
    evidence: dict[Cause, Flags] = field(default_factory=dict)
    proved: Flags = field(default_factory=lambda: np.zeros(0, bool))
    striving: Flags = field(default_factory=lambda: np.zeros(0, bool))
    likely: Flags = field(default_factory=lambda: np.zeros(0, bool))
    filled: Flags = field(default_factory=lambda: np.zeros(0, bool))
    held: Flags = field(default_factory=lambda: np.zeros(0, bool))
    offered: Array = field(default_factory=lambda: np.zeros(0))
    returned: Array = field(default_factory=lambda: np.zeros(0))
    needed: Array = field(default_factory=lambda: np.zeros(0))
    potential: Array = field(default_factory=lambda: np.zeros(0))
    taken: Array = field(default_factory=lambda: np.zeros(0))
    beyond_reach: Array = field(default_factory=lambda: np.zeros(0))
    # of a machine that cools somebody; see twin.ledger.cold
    on_offer: Array = field(default_factory=lambda: np.zeros(0))
    would: Array = field(default_factory=lambda: np.zeros(0))
    fresh: Array = field(default_factory=lambda: np.zeros(0))

    @property
    def source_share(self) -> Array:
        """Part of a delivered joule that comes from the source."""
        return np.where(np.isfinite(self.cop), 1.0 - 1.0 / self.cop, np.nan)

    @property
    def cooled(self) -> Array:
        """Cold that it would have given besides; in W."""
        return np.where(self.would > 0.0, self.would * self.source_share, 0.0)

    @property
    def starting(self) -> Flags:
        """Intervals in which it has just started, and first warms itself.

        Every machine loses that heat, the healthy one too. One that starts more
        than once in three hours has no such excuse.
        """
        ran = pd.Series(self.running, index=self.columns.frame.index)
        begun = (ran > 0.0) & (ran.shift(1) == 0.0)
        often = begun.astype(float).rolling("3h").sum() > 1.5
        return np.asarray(begun & ~often)

    @property
    def spare(self) -> Array:
        """Reference capacity not in use; an unknown one is none; in W.

        Nor is there any where the return allows no more than is delivered.
        """
        idle = np.nan_to_num(np.maximum(self.capacity - self.sink, 0.0))
        return np.where(self.filled, 0.0, idle)


def _heat(state_source: Array, running: Array) -> Array:
    """Give a machine known to stand still no heat, where derive() abstains."""
    return np.where(np.isnan(state_source) & (running == 0.0), 0.0, state_source)


def state_of(
    machine: Machine,
    frame: pd.DataFrame | None,
    capacity: Capacity,
    times: pd.DatetimeIndex,
) -> State:
    """Gather what is known of a machine on the ledger's grid."""
    columns = Columns(frame, times)
    answer = (
        capacity(machine, columns.frame)
        if callable(capacity)
        else capacity.get(machine.id)
    )
    able = Columns(answer, times)
    running = running_share(machine, columns.frame)
    heat, cop = able["expected_sink_heat_w"], able["reference_cop"]
    usable = np.isfinite(heat) & (heat >= 0.0) & (cop > 1.0) & np.isfinite(cop)
    return State(
        machine=machine,
        columns=columns,
        source=_heat(columns["source_heat_w"], running),
        sink=_heat(columns["sink_heat_w"], running),
        capacity=np.where(usable, heat, np.nan),
        cop=np.where(usable, cop, np.nan),
        current=able["current_sink_heat_w"],
        running=running,
        on_offer=np.zeros(len(times)),
        would=np.zeros(len(times)),
        fresh=np.zeros(len(times)),
    )


def reach(
    plant: Plant,
    state: State,
    frames: Mapping[str, pd.DataFrame],
    on_grid: Mapping[str, Columns],
    times: pd.DatetimeIndex,
) -> None:
    """Say in which intervals the machine's envelope holds source and consumers."""
    machine, n = state.machine, len(times)
    offered, state.returned = site_temps(plant, machine, frames, times)
    # A loop in series shows the cooler a temperature the machine has lowered.
    wet = np.where(state.running > 0.0, state.columns["source_inlet_temp_degc"], np.nan)
    state.offered = np.fmax(offered, wet)
    coldest, hottest = machine.source_inlet_min_degc, machine.sink_outlet_max_degc
    cold = np.zeros(n, bool) if coldest is None else np.asarray(state.offered < coldest)
    anyone = np.zeros(n, bool)
    state.needed = np.full(n, np.nan)
    for consumer in consumers_of(plant, machine):
        columns = on_grid[consumer.id]
        fixed = consumer.supply_temp_degc
        needed = columns["supply_setpoint_degc"]
        needed = np.where(
            np.isfinite(needed), needed, np.nan if fixed is None else fixed
        )
        reached = np.ones(n, bool) if hottest is None else ~(needed > hottest + 0.1)
        state.reached[consumer.id] = reached & ~cold
        state.needed = np.fmin(state.needed, np.where(reached, needed, np.nan))
        anyone |= reached
    state.in_reach = anyone & ~cold


def too_little(state: State, wanted: Array, rules: Rules) -> Flags:
    """Tell where a standing machine could not have run: less is wanted than its least.

    Nobody's fault, and no more of the same: a smaller machine, or a store. One that
    started for more runs on for somewhat less.
    """
    least = rules.least_heat_w(state.machine)
    on, off = 1.0, rules.runs_on
    if state.machine.cools:
        # A little less cold than its least makes would freeze the water, and what a
        # cold makes is known to some per cent.
        on, off = rules.cools_from, rules.cools_on
    starts, stops = wanted >= on * least, wanted < off * least
    runs = np.where(starts, 1.0, np.where(stops, 0.0, np.nan))
    told = pd.Series(runs).ffill().fillna(0.0).to_numpy(dtype=float)
    return np.asarray((state.running == 0.0) & (told == 0.0))
