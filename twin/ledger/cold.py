"""Somebody's cooling at the other end of the machine, and what was missed of it.

The evaporator of a machine may be the cooling of a consumer. His heat comes beside
that of the racks, so it stands in the account on the same side. Cold is missed where
he wanted more than he was given, a machine that cools him stood idle, and the
consumers of heat could have used what it would have delivered. Such a machine goes
before its neighbours, since both of its sides are wanted; heat that they delivered
in its place is not missed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from twin.ledger.intervals import Columns, split, summed
from twin.ledger.machines import State, too_little
from twin.ledger.thresholds import Rules
from twin.plant import Consumer, Plant, Use

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


def circuits_of(plant: Plant) -> list[tuple[list[str], list[Consumer]]]:
    """Return who cools whom: ids of machines and their consumers, by liquid.

    Consumers whom the loop of the racks cools come last, with no machine.
    """
    circuits: list[tuple[list[str], list[Consumer]]] = []
    for machine in plant.machines:
        names = set(machine.cools)
        if not names:
            continue
        machines = [machine.id]
        apart = []
        for circuit in circuits:
            others = {one.id for one in circuit[1]}
            if others & names:
                machines, names = circuit[0] + machines, names | others
            else:
                apart.append(circuit)
        mine = [one for one in plant.consumers if one.id in names]
        circuits = [*apart, (machines, mine)]
    cooled = {one.id for _, mine in circuits for one in mine}
    rest = [
        one
        for one in plant.consumers
        if one.use is Use.COLD
        and one.id not in cooled
        and "delivered_heat_w" in one.points
    ]
    return [*circuits, ([], rest)] if rest else circuits


def handed_over(
    machines: Sequence[str],
    consumers: Sequence[Consumer],
    sources: Mapping[str, Array],
    frames: Mapping[str, Columns],
    length: int,
) -> Array:
    """Return the cold that a circuit's consumers were given. [W].

    By their own meters, where all have one; else what the machines took.
    """
    metered = [frames[one.id]["delivered_heat_w"] for one in consumers]
    taken = summed([sources[name] for name in machines], length)
    if not all(frames[one.id].has("delivered_heat_w") for one in consumers):
        return taken if machines else summed(metered, length)
    told = summed(metered, length)
    return np.where(np.isfinite(told), told, taken) if machines else told


def short_of(
    consumers: Sequence[Consumer],
    demands: Mapping[str, Array],
    given: Array,
    rules: Rules,
) -> Array:
    """Return the cold that was wanted besides; nought where nobody knows. [W]."""
    wanted = summed([demands[one.id] for one in consumers], len(given))
    short = np.nan_to_num(np.maximum(wanted - given, 0.0), posinf=np.inf)
    return np.where(short > rules.least_shortage * np.nan_to_num(given), short, 0.0)


def could_take(
    states: Sequence[State], short: Array, wanted: Array, rules: Rules
) -> None:
    """Write down for each machine of a circuit what it could have cooled besides."""
    most = {}
    for state in states:
        with np.errstate(divide="ignore", invalid="ignore"):
            needed = np.nan_to_num(wanted / state.source_share, posinf=np.inf)
        free = state.in_reach & ~state.starting & ~too_little(state, needed, rules)
        # It leads, so what its consumers' return allows is all there is.
        free &= ~state.held
        idle = np.nan_to_num(state.spare * state.source_share)
        most[state.machine.id] = np.where(free, idle, 0.0)
    for state in states:
        state.on_offer = split(most, short)[state.machine.id]
        # Below the least that two heat meters can tell, nothing was.
        plate = state.machine.nameplate
        least = rules.least_share * (plate.sink_heat_w - plate.power_w)
        state.on_offer = np.where(state.on_offer > least, state.on_offer, 0.0)


def lead(
    states: Sequence[State], wanted: Array, open_heat: Array, rules: Rules
) -> Array:
    """Let the machines that cool somebody go first, and return what stays open.

    Parameters
    ----------
    states : sequence of State
        The machines of one group; ``would`` and ``fresh`` of those that cool
        somebody are written: the heat that each would have delivered besides, and
        the part of it that nobody else delivered. [W]
    wanted : ndarray
        What the consumers of heat want, within reach. [W]
    open_heat : ndarray
        What they were not given of it. [W]
    rules : Rules
        The thresholds.

    Returns
    -------
    ndarray
        What they would then still not have been given. [W]
    """
    cooling = [state for state in states if state.machine.cools]
    room = np.maximum(
        wanted - np.nan_to_num(summed([one.sink for one in cooling], len(wanted))), 0.0
    )
    for state in cooling:
        with np.errstate(divide="ignore", invalid="ignore"):
            could = np.nan_to_num(state.on_offer / state.source_share)
        would = np.minimum(could, room)
        # Its other side has a least as well, and two heat meters differ.
        starts = (state.running > 0.0) | (room >= rules.least_heat_w(state.machine))
        counts = would > rules.least_shortage * np.nan_to_num(state.sink)
        state.would = np.where(starts & counts, would, 0.0)
        state.fresh = np.minimum(state.would, open_heat)
        room, open_heat = room - state.would, open_heat - state.fresh
    return open_heat
