"""What consumers want, and what their machines could still have given them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from twin.ledger.cold import lead
from twin.ledger.intervals import Columns, split, summed
from twin.ledger.machines import State, too_little
from twin.ledger.meters import Agreement
from twin.plant import Consumer, Machine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from twin.ledger.thresholds import Rules

    Array = NDArray[np.float64]
    Flags = NDArray[np.bool_]


def demand_of(consumer: Consumer, columns: Columns, headroom: Array | None) -> Array:
    """Tell what a consumer wants, storage included; NaN where nobody knows; in W."""
    if "demand_heat_w" in columns.frame:
        want = np.maximum(columns["demand_heat_w"], 0.0)
    else:
        fixed = consumer.demand_heat_w
        want = np.full(len(columns.frame), np.nan if fixed is None else fixed)
    return want if headroom is None else want + np.maximum(headroom, 0.0)


class Want:
    """What one group of machines and consumers could still have used."""

    def __init__(
        self,
        machines: Sequence[Machine],
        consumers: Sequence[Consumer],
        states: Mapping[str, State],
        demands: Mapping[str, Array],
        n: int,
        rules: Rules,
        stores: frozenset[str] = frozenset(),
        meters: Agreement | None = None,
    ) -> None:
        self.states = [states[machine.id] for machine in machines]
        sink = np.nan_to_num(summed([one.sink for one in self.states], n))
        known = np.full(n, bool(consumers))
        total, near = np.zeros(n), np.zeros(n)
        for one in consumers:
            want = demands[one.id]
            known &= ~np.isnan(want)
            want = np.nan_to_num(want, posinf=np.inf)
            within = np.zeros(n, bool)
            for state in self.states:
                within |= state.reached.get(one.id, np.zeros(n, bool))
            total += want
            near += np.where(within, want, 0.0)
        self.known = known
        # The demand as the machines' meters would show it; what is then short is
        # told in the middle of both, for nobody knows which is right.
        apart = 0.0 if meters is None else meters.known
        seen, middle = np.exp(-apart), np.exp(0.5 * apart)
        missing_w = np.maximum(total * seen - sink, 0.0)
        # Where the meters are known to agree, one that is flat out is short of
        # however little.
        striving = np.zeros(n, bool)
        if meters is not None and meters.compared:
            for state in self.states:
                striving |= state.striving
        least = np.where(striving, 0.0, rules.least_shortage * np.maximum(sink, 0.0))
        short = missing_w > least
        self.open_demand = np.where(
            known, np.where(short, middle * missing_w, 0.0), np.inf
        )
        near_left = np.where(
            known & short, middle * np.maximum(near * seen - sink, 0.0), 0.0
        )
        all_left = np.where(known, self.open_demand, 0.0)

        near_left = lead(
            self.states, np.where(known, near * seen, 0.0), near_left, rules
        )
        all_left = np.maximum(
            all_left - summed([one.fresh for one in self.states], n), 0.0
        )

        # Those that cool somebody go first, and the others start for what they leave.
        ahead = [one.sink + one.would for one in self.states if one.machine.cools]
        wanted = np.maximum(total - np.nan_to_num(summed(ahead, n)), 0.0)
        # A store is charged at full load for a while, however little is wanted.
        if any(one.id in stores for one in consumers):
            wanted = np.full(n, np.inf)
        spare = {
            one.machine.id: np.where(
                too_little(one, wanted, rules) | bool(one.machine.cools), 0.0, one.spare
            )
            for one in self.states
        }
        inside = {
            one.machine.id: np.where(one.in_reach, spare[one.machine.id], 0.0)
            for one in self.states
        }
        proved = {
            one.machine.id: np.where(
                one.proved & ~one.starting, inside[one.machine.id], 0.0
            )
            for one in self.states
        }
        sure = split(proved, near_left)
        rest = np.maximum(near_left - summed(list(sure.values()), n), 0.0)
        warming = np.zeros(n, bool)
        for state in self.states:
            warming |= state.starting
        unsure = {
            name: np.where(warming, 0.0, inside[name] - proved[name]) for name in inside
        }
        likely = {
            one.machine.id: np.where(one.likely, unsure[one.machine.id], 0.0)
            for one in self.states
        }
        some = split(likely, rest)
        rest = np.maximum(rest - summed(list(some.values()), n), 0.0)
        more = split({name: unsure[name] - likely[name] for name in inside}, rest)
        self._wish: dict[str, dict[str, Array]] = {
            "taken": {name: sure[name] + some[name] + more[name] for name in inside}
        }
        first = summed(list(self._wish["taken"].values()), n)
        outside = {
            name: spare[name] - part for name, part in self._wish["taken"].items()
        }
        outside = {name: np.where(warming, 0.0, part) for name, part in outside.items()}
        self._wish["beyond_reach"] = split(outside, np.maximum(all_left - first, 0.0))
        second = summed(list(self._wish["beyond_reach"].values()), n)

        # The rest of the demand, as heat of the source at the group's mean COP.
        left = np.maximum(all_left - first - second, 0.0)
        share = np.mean(
            [
                np.where(
                    np.isfinite(one.cop),
                    one.source_share,
                    1.0 - 1.0 / max(one.machine.nameplate.cop, 1.0 + 1e-9),
                )
                for one in self.states
            ],
            axis=0,
        )
        with np.errstate(invalid="ignore"):
            left = np.where(left > 0.0, left * share, 0.0)
        missing = np.zeros(n, bool)
        for state in self.states:
            missing |= ~np.isfinite(state.capacity)
        self.lacking = missing & (left > 0.0)
        self.unserved = np.where(missing, 0.0, left)
        self.vague = np.where(known, np.where(missing, left, 0.0), np.inf)

    def ask(self, stage: str) -> dict[str, Array]:
        """Heat of the source that each machine would have taken; in W."""
        return {
            one.machine.id: np.nan_to_num(
                self._wish[stage][one.machine.id] * one.source_share
            )
            for one in self.states
        }


def share_potential(states: Sequence[State]) -> None:
    """Give each machine of a group its share of their potential, by capacity.

    One that cools somebody follows his cold, so its potential is its own.
    """
    n = len(states[0].sink)
    for one in states:
        one.potential = one.sink + one.fresh
    states = [one for one in states if not one.machine.cools]
    if not states:
        return
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        besides = [
            np.where(one.taken > 0.0, one.taken / one.source_share, 0.0)
            for one in states
        ]
    whole = summed([one.sink for one in states], n) + summed(besides, n)
    able = [
        np.where(
            np.isfinite(one.capacity), one.capacity, one.machine.nameplate.sink_heat_w
        )
        for one in states
    ]
    total = summed(able, n)
    for one, part in zip(states, able, strict=True):
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            share = np.where(total > 0.0, part / total, 1.0 / len(states))
        one.potential = whole * share
