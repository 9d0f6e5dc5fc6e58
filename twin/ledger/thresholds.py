"""Where the ledger draws its lines, and why there."""

from __future__ import annotations

from dataclasses import dataclass

from twin.plant import Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The thresholds of the ledger; the defaults are the recommended ones.

    Attributes
    ----------
    least_share
        Rejection below this share of the machines' capacity is no rejection. [1]
    least_shortage
        Demand is met when no more than this share of the delivered heat is
        short: two heat meters never agree better. [1]
    full_lift
        A return is too hot when 1.2 times the nominal flow could carry no more
        than this share of the capacity up to the consumer's temperature. [1]
    flow_uncertainty
        Standard uncertainty of a flow meter, of its reading. [1]
    pair_uncertainty_k
        Standard uncertainty of a temperature difference. [K]
    full_running, full_speed, full_power
        From these shares on, a machine counts as flat out. [1]
    starved_flow, starved_spread
        A running machine is starved of liquid below the one share of its
        nominal flow and above the other of its nominal spread. [1]
    lift_margin_k
        How near the sink return may come to the highest sink outlet. [K]
    short_flow
        Below this share of its nominal sink flow a machine whose outlet is at its
        goal is held back by its liquid. [1]
    at_goal_k
        An outlet no farther below its set point than this has reached it. [K]
    mixed_k
        A source this much colder than the heat on offer arrives mixed. [K]
    least_load
        No machine starts for less than this share of its nameplate's heat: a
        screw turns down to a quarter or a third, and starts with a margin. [1]
    runs_on
        One that started for its least heat runs on down to this share of it. [1]
    cools_from, cools_on
        One that cools somebody starts where his cold makes so many times its least
        heat, and runs on down to so many: what a cold makes hangs on its COP, and a
        little less would freeze his water. [1]
    """

    least_share: float = 0.02
    least_shortage: float = 0.01
    full_lift: float = 0.75
    flow_uncertainty: float = 0.02
    pair_uncertainty_k: float = 0.1
    full_running: float = 0.9
    full_speed: float = 0.93
    full_power: float = 0.85
    starved_flow: float = 0.6
    starved_spread: float = 1.3
    lift_margin_k: float = 2.0
    short_flow: float = 0.9
    at_goal_k: float = 0.3
    mixed_k: float = 3.0
    least_load: float = 0.4
    runs_on: float = 0.85
    cools_from: float = 1.2
    cools_on: float = 1.1

    def least_heat_w(self, machine: Machine) -> float:
        """Return the least heat that a machine starts for. [W].

        Its data sheet's, else a share of its nameplate's.
        """
        told = machine.nameplate.sink_heat_min_w
        share = self.least_load * machine.nameplate.sink_heat_w
        return share if told is None else told


RULES = Rules()
