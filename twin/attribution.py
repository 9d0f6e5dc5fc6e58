"""What a lost COP is made of: parts by cause that sum exactly.

A loss is the difference of two models at the same delivered heat, never a
trend of the measured COP. Each cause gets its Shapley value: its effect
averaged over every order in which the causes could have come about, so no
order is preferred, and what one fault forces on a healthy component is paid
for by the fault. What to do about a cause is said elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pandas as pd

from twin.finding import Refusal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from twin.heatpump import HeatPump

    Array = NDArray[np.float64]

Value = TypeVar("Value", float, "Array")


class Component(StrEnum):
    """To what a loss can be laid."""

    BOUNDARY = "boundary"
    EVAPORATOR = "evaporator"
    CONDENSER = "condenser"
    COMPRESSOR = "compressor"
    CHARGE = "charge"
    AUXILIARIES = "auxiliaries"
    UNEXPLAINED = "unexplained"


PARAMETERS_OF: Mapping[Component, tuple[str, ...]] = MappingProxyType(
    {
        Component.EVAPORATOR: (
            "evaporator_ua_w_k",
            "evaporator_fouling_k_w",
            "evaporator_flow_exponent",
            "evaporator_refrigerant_exponent",
            "evaporator_liquid_share",
            "superheat_zone_ratio",
            "source_flow_rated_kg_s",
        ),
        Component.CONDENSER: (
            "condenser_ua_w_k",
            "condenser_fouling_k_w",
            "condenser_flow_exponent",
            "condenser_refrigerant_exponent",
            "condenser_liquid_share",
            "desuperheat_zone_ratio",
            "subcool_zone_ratio",
            "desuperheater_ua_w_k",
            "subcooler_ua_w_k",
            "sink_flow_rated_kg_s",
        ),
        Component.COMPRESSOR: (
            "isentropic_efficiency",
            "isentropic_pressure_slope",
            "isentropic_pressure_curvature",
            "isentropic_speed_slope",
            "isentropic_speed_curvature",
            "isentropic_cross_slope",
            "volumetric_efficiency",
            "volumetric_pressure_slope",
            "volumetric_leak",
            "idle_loss_ratio",
            "swept_flow_m3_s",
            "motor_efficiency",
            "heat_loss_ratio",
            "refrigerant_flow_rated_kg_s",
        ),
        Component.CHARGE: ("superheat_k", "subcooling_k"),
    }
)
"""Which parameters of a heat pump speak of which component; each of one."""


# --- any game -----------------------------------------------------------------


def attribute(
    evaluate: Callable[[frozenset[str]], Value], factors: Iterable[str]
) -> dict[str, Value]:
    r"""Split a difference into the contributions of its factors.

    The Shapley value [1]_: the only split that sums to the whole, treats equal
    factors equally, gives nothing to a factor without effect, and adds up over
    sums of games.

    Parameters
    ----------
    evaluate : callable
        The quantity when just these factors have changed; called once for each
        subset. Numbers or arrays.
    factors : iterable of str
        The factors; n of them cost 2^n evaluations.

    Returns
    -------
    dict
        By factor, in the order given; the sum is ``evaluate(all) -
        evaluate(none)``, in the unit of the quantity.

    Notes
    -----
    .. math:: \varphi_i = \sum_{S \not\ni i} \frac{|S|!\,(n-|S|-1)!}{n!}
                          \left(v(S \cup i) - v(S)\right)

    Examples
    --------
    Two faults, either of which alone would cost 10 and which cost 30 together:

    >>> cost = {0: 0.0, 1: 10.0, 2: 30.0}
    >>> attribute(lambda changed: cost[len(changed)], ["fouling", "charge"])
    {'fouling': 15.0, 'charge': 15.0}

    References
    ----------
    .. [1] L. S. Shapley, A value for n-person games, in Contributions to the
       Theory of Games II, Princeton, 1953, pp. 307-317.
    """
    players = list(dict.fromkeys(factors))
    n = len(players)
    coalitions = [
        frozenset(members)
        for size in range(n + 1)
        for members in combinations(players, size)
    ]
    known = {members: evaluate(members) for members in coalitions}
    weights = [
        math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
        for size in range(n)
    ]
    shares: dict[str, Value] = {}
    for player in players:
        terms = [
            weights[len(without)] * (known[without | {player}] - known[without])
            for without in coalitions
            if player not in without
        ]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        shares[player] = total
    return shares


# --- a heat pump --------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one component costs, at the same delivered heat.

    ``cop`` is the COP it takes away [1], ``power_w`` the electricity it adds
    while running [W]; the rest is for each day that it stays, None where no
    price or factor was given. A gain is negative.
    """

    cop: float
    power_w: float
    energy_j_day: float
    eur_day: float | None
    kg_day: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CopLoss:
    """A loss of COP, split.

    ``reference_cop`` less the parts' ``cop`` is ``cop``; both are ratios of
    sums over the same delivered heat. [1] ``parts`` hold every component that
    could be judged, ``lacking`` says of the others what would have to be
    known. ``heat_w`` is the mean heat delivered [W], ``rows`` the number of
    windows behind it.
    """

    reference_cop: float
    cop: float
    parts: Mapping[Component, Part]
    lacking: Mapping[Component, str]
    heat_w: float
    rows: int

    @property
    def degradation(self) -> float:
        """COP lost to the machine itself, the boundary apart."""
        return sum(self.parts[one].cop for one in PARAMETERS_OF if one in self.parts)


def swapped(
    reference: HeatPump, current: HeatPump, components: Iterable[Component]
) -> HeatPump:
    """Return the reference with some components as they are now.

    Parameters
    ----------
    reference, current : HeatPump
        The machine as commissioned and as it is.
    components : iterable of Component
        Those taken from the current model; others than the four that have
        parameters are of no effect.

    Returns
    -------
    HeatPump
        With all four it is the current machine.
    """
    now = current.parameters.to_dict()
    return reference.replace(
        **{name: now[name] for one in components for name in PARAMETERS_OF.get(one, ())}
    )


def cop_loss(
    reference: HeatPump,
    current: HeatPump,
    conditions: pd.DataFrame,
    *,
    usual: Mapping[str, float | Sequence[float] | Array] | None = None,
    measured_power: Sequence[float] | Array | None = None,
    auxiliaries: tuple[Sequence[float] | Array, Sequence[float] | Array] | None = None,
    left_over: tuple[Sequence[float] | Array, Sequence[float] | Array] | None = None,
    delivered_j_day: float | None = None,
    electricity_price: float | None = None,
    electricity_emission: float | None = None,
) -> CopLoss | Refusal:
    """Say what the COP lost against the reference is made of.

    Parameters
    ----------
    reference, current : HeatPump
        The machine as commissioned, and as it is now.
    conditions : DataFrame
        Steady windows: the four liquid conditions and ``sink_heat_w``, the
        heat that every variant of the machine has to deliver. [degC, kg/s, W]
    usual : mapping of str to float or array, optional
        Conditions of the reference period, by column, one for all windows or one
        each; what differs from them is the boundary's part. Without it the loss
        is that of two machines at the same boundary. [degC, kg/s]
    measured_power : array, optional
        The unit's electrical power in these windows; what the current model
        does not explain of it is a part of its own. [W]
    auxiliaries : (array, array), optional
        Pump power in these windows as in the reference period and as
        measured; with it the COP is that of the system. [W]
    left_over : (array, array), optional
        By how much the machine as commissioned made more heat, and drew more
        power, than its physics says of these windows; of every variant alike.
        One without it. [1]
    delivered_j_day : float, optional
        Heat delivered in a day, which scales the parts to a day; without it
        that of the windows, taken as 10 minutes each of one day. [J]
    electricity_price : float, optional
        [EUR/J]
    electricity_emission : float, optional
        [kg/J]

    Returns
    -------
    CopLoss or Refusal
        A refusal where no window has an answer from every variant.

    Raises
    ------
    ValueError
        If reference and current are not of one refrigerant, or an array is
        not as long as the conditions.
    """
    if reference.refrigerant != current.refrigerant:
        raise ValueError(
            f"attribution: the reference runs on {reference.refrigerant}, the current "
            f"model on {current.refrigerant}; another refrigerant opens a new reference"
        )
    length = len(conditions)
    heat = conditions["sink_heat_w"].to_numpy(dtype=float)
    then, since = (
        (np.zeros(length), np.zeros(length))
        if auxiliaries is None
        else (_long(auxiliaries[0], length), _long(auxiliaries[1], length))
    )
    measured = None if measured_power is None else _long(measured_power, length)
    more_heat, more_power = (
        (np.ones(length), np.ones(length))
        if left_over is None
        else (_long(left_over[0], length), _long(left_over[1], length))
    )

    before, now = reference.parameters.to_dict(), current.parameters.to_dict()
    moved = [
        one
        for one, names in PARAMETERS_OF.items()
        if any(before[name] != now[name] for name in names)
    ]
    runs: dict[frozenset[str], Array] = {}
    conditions = conditions.assign(sink_heat_w=heat / more_heat)
    place = conditions.assign(**(usual or {}))

    def power(changed: frozenset[str]) -> Array:
        """Power of one variant; only what really moved asks for a new solution."""
        differs = frozenset(one for one in moved if one in changed)
        here = usual is None or Component.BOUNDARY in changed
        key = differs | ({Component.BOUNDARY} if here else frozenset())
        if key not in runs:
            machine = swapped(reference, current, [Component(one) for one in differs])
            answer = machine.predict(conditions if here else place, given="sink_heat_w")
            drawn = answer["compressor_power_w"].to_numpy(dtype=float)
            runs[key] = drawn * more_power
        return runs[key]

    factors = [Component.BOUNDARY] if usual is not None else []
    factors += list(PARAMETERS_OF)
    lacking = (
        {}
        if usual is not None
        else {Component.BOUNDARY: "needs the conditions of the reference period"}
    )
    if auxiliaries is not None:
        factors.append(Component.AUXILIARIES)
    else:
        lacking[Component.AUXILIARIES] = (
            "needs source_pump_power_w and sink_pump_power_w"
        )
    if measured is not None:
        factors.append(Component.UNEXPLAINED)
    else:
        lacking[Component.UNEXPLAINED] = "needs compressor_power_w"

    everything = frozenset[str](factors)
    surplus = np.zeros(length) if measured is None else measured - power(everything)
    # One set of rows for all variants, or the parts would be of different days.
    fit = np.isfinite(heat) & (heat > 0.0) & np.isfinite(surplus + then + since)
    model = moved if usual is None else [*moved, Component.BOUNDARY]
    for size in range(len(model) + 1):
        for some in combinations(model, size):
            fit &= np.isfinite(power(frozenset[str](some)))
    rows = int(fit.sum())
    if rows == 0:
        return Refusal(
            "attribution.no_window",
            f"None of {length} windows has an answer from every variant of the "
            "machine; the parts of a COP loss need steady windows inside its limits.",
            {"windows": length},
        )
    delivered = float(heat[fit].sum())

    def evaluate(changed: frozenset[str]) -> Array:
        drawn = power(changed) + (since if Component.AUXILIARIES in changed else then)
        if Component.UNEXPLAINED in changed:
            drawn = drawn + surplus
        total = float(drawn[fit].sum())
        return np.array([delivered / total, total / rows])

    shares: dict[str, Array] = attribute(evaluate, factors)
    day = delivered * 600.0 if delivered_j_day is None else delivered_j_day
    running = day / (delivered / rows)  # seconds a day at the windows' mean heat
    parts = {}
    for one in factors:
        energy = float(shares[one][1]) * running
        parts[one] = Part(
            cop=-float(shares[one][0]),
            power_w=float(shares[one][1]),
            energy_j_day=energy,
            eur_day=None if electricity_price is None else energy * electricity_price,
            kg_day=(
                None if electricity_emission is None else energy * electricity_emission
            ),
        )
    return CopLoss(
        reference_cop=float(evaluate(frozenset())[0]),
        cop=float(evaluate(everything)[0]),
        parts=MappingProxyType(parts),
        lacking=MappingProxyType(lacking),
        heat_w=delivered / rows,
        rows=rows,
    )


def _long(values: Sequence[float] | Array, length: int) -> Array:
    array = np.asarray(values, dtype=float)
    if array.shape != (length,):
        raise ValueError(
            f"attribution: an array of shape {array.shape} stands beside {length} "
            "windows; give one value for each"
        )
    return array
