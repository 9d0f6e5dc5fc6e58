"""The heat ledger: where every joule of the IT heat went, and what it was worth.

Each interval has one line for the site and one for each machine. The accounts
of a site line sum to the heat that was measured, and what the meters leave
over stands in ``closing_j`` for everybody to see. Heat is called *missed* only
where it was really thrown away while somebody wanted it and a machine as
commissioned could have lifted it. Energy and money only; how good a machine
still is, is judged in :mod:`calibration`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from twin.finding import Finding, FindingKind
from twin.plant import Consumer, Machine, Plant, Use

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from twin.heatpump import HeatPump

    Array = NDArray[np.float64]
    Flags = NDArray[np.bool_]

    Capacity = (
        Mapping[str, pd.DataFrame] | Callable[[Machine, pd.DataFrame], pd.DataFrame]
    )

J_PER_KWH = 3.6e6


class Cause(StrEnum):
    """Why heat was missed, in order of priority: the first that is true has it."""

    UNAVAILABLE = "unavailable"
    OVERRIDE = "override"
    SOURCE_COLD = "source_cold"
    SINK_HOT = "sink_hot"
    HYDRAULICS = "hydraulics"
    CONTROL = "control"
    STORAGE = "storage"
    DEGRADATION = "degradation"
    UNEXPLAINED = "unexplained"


MISSED: tuple[str, ...] = tuple(f"missed_{cause.value}_j" for cause in Cause)
"""The accounts of missed heat, on the source side. [J]"""

ACCOUNTS: tuple[str, ...] = (
    "recovered_j",
    "no_demand_j",
    "uneconomic_j",
    "out_of_reach_j",
    "beyond_capacity_j",
    "unknown_j",
    *MISSED,
    "closing_j",
)
"""The accounts that sum to ``it_heat_j`` in every line of the site. [J]"""

COLUMNS: tuple[str, ...] = (
    "time",
    "unit",
    "it_heat_j",
    *ACCOUNTS,
    "rejected_j",
    "delivered_j",
    "potential_j",
    "missed_j",
    "missed_delivered_j",
    "missed_eur",
    "missed_kg",
    "gap_s",
    "basis",
    "note",
)

NO_NOTE = ""
GAP = "data gap"
DEMAND_UNKNOWN = "demand unknown: nothing can be called missed"
NOT_METERED = "rejected heat not metered: missed heat cannot be proved"
CAPACITY_UNKNOWN = "capacity unknown: part of the heat cannot be judged"


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


_RULES = Rules()


# --- frames on one grid -------------------------------------------------------


def _grid(frames: Mapping[str, pd.DataFrame], step: pd.Timedelta) -> pd.DatetimeIndex:
    spans = [frame.index for frame in frames.values() if len(frame)]
    if not spans:
        return pd.DatetimeIndex([], tz="UTC", name="time")
    for unit, frame in frames.items():
        index = frame.index
        if not isinstance(index, pd.DatetimeIndex) or index.tz is None:
            raise ValueError(
                f'ledger: frame "{unit}": its index has no time zone; '
                "a frame carries aware UTC times"
            )
        off = index[index != index.floor(step)]
        if len(off):
            raise ValueError(
                f'ledger: frame "{unit}": {off[0].isoformat()} is not a multiple of '
                f"{step}; average it to right-labelled windows of {step} first"
            )
        if not index.is_unique:
            raise ValueError(
                f'ledger: frame "{unit}": the same time stands in it twice; '
                "one row for each interval"
            )
    first = min(index[0] for index in spans)
    last = max(index[-1] for index in spans)
    return pd.date_range(first, last, freq=step, name="time")


class _Columns:
    """One unit's frame on the ledger's grid; an absent column is all NaN."""

    def __init__(self, frame: pd.DataFrame | None, times: pd.DatetimeIndex) -> None:
        self._length = len(times)
        self.frame = (
            pd.DataFrame(index=times) if frame is None else frame.reindex(times)
        )

    def has(self, name: str) -> bool:
        return name in self.frame and bool(self.frame[name].notna().any())

    def __getitem__(self, name: str) -> Array:
        if name not in self.frame:
            return np.full(self._length, np.nan)
        return np.asarray(self.frame[name].to_numpy(dtype=float, na_value=np.nan))


def _sum(columns: Sequence[Array], length: int) -> Array:
    """Sum that is NaN where any part is: half a total is no total."""
    return np.sum(columns, axis=0) if columns else np.zeros(length)


# --- what a machine could do --------------------------------------------------


def _nominal_flow(heat: float, spread: float, glycol: float) -> float:
    """Nameplate mass flow in kg/s; a round c_p, for only thresholds hang on it."""
    return heat / ((4180.0 - 1800.0 * glycol) * max(spread, 0.5))


def _nominal_flows(machine: Machine) -> tuple[float, float]:
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


def _flow(columns: _Columns, side: str) -> Array:
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
    columns = _Columns(frame, pd.DatetimeIndex(frame.index))
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
        nameplate has one, ``compressor_speed_hz`` [Hz], on the machine's own
        index; NaN where nothing tells.
    """
    own = frames[machine.id]
    times = pd.DatetimeIndex(own.index)
    columns = _Columns(own, times)
    source_nominal, sink_nominal = _nominal_flows(machine)
    runs = running_share(machine, columns.frame) > 0.0
    offered, returned = _site_temps(plant, machine, frames, times)
    conditions: dict[str, Array] = {}
    for side, nominal, other in (
        ("source", source_nominal, offered),
        ("sink", sink_nominal, returned),
    ):
        inlet, flow = columns[f"{side}_inlet_temp_degc"], _flow(columns, side)
        alive = runs | (flow > 0.3 * nominal)
        instead = np.where(np.isfinite(other), other, inlet)
        conditions[f"{side}_inlet_temp_degc"] = np.where(
            alive & np.isfinite(inlet), inlet, instead
        )
        fed = runs & (flow >= _RULES.starved_flow * nominal)
        conditions[f"{side}_flow_kg_s"] = np.where(fed, flow, nominal)
    if machine.nameplate.speed_hz is not None:
        conditions["compressor_speed_hz"] = np.full(
            len(times), machine.nameplate.speed_hz
        )
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


def _site_temps(
    plant: Plant,
    machine: Machine,
    frames: Mapping[str, pd.DataFrame],
    times: pd.DatetimeIndex,
) -> tuple[Array, Array]:
    """Temperature of the heat on offer, and of the consumers' return; in degC."""
    offered = np.full(len(times), np.nan)
    for rejector in plant.rejectors:
        inlet = _Columns(frames.get(rejector.id), times)["rejector_inlet_temp_degc"]
        offered = np.fmax(offered, inlet)
    if not np.isfinite(offered).any():
        for exchanger in plant.exchangers:
            outlet = _Columns(frames.get(exchanger.id), times)["cold_outlet_temp_degc"]
            offered = np.fmax(offered, outlet)
    returned = np.full(len(times), np.nan)
    for consumer in _consumers_of(plant, machine):
        back = _Columns(frames.get(consumer.id), times)["return_temp_degc"]
        returned = np.fmin(returned, back)
    return offered, returned


def _consumers_of(plant: Plant, machine: Machine) -> tuple[Consumer, ...]:
    """Who takes a machine's heat; one that names nobody feeds them all."""
    warm = [one for one in plant.consumers if one.use is not Use.COLD]
    if not machine.consumers:
        return tuple(warm)
    return tuple(one for one in warm if one.id in machine.consumers)


def _groups(plant: Plant) -> list[tuple[list[Machine], list[Consumer]]]:
    """Machines that share a consumer share the work: connected components."""
    groups: list[tuple[list[Machine], list[Consumer]]] = []
    for machine in plant.machines:
        mine = list(_consumers_of(plant, machine))
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


# --- the evidence for a cause -------------------------------------------------


@dataclass(slots=True)
class _State:
    """What the ledger knows of one machine, an array for each interval."""

    machine: Machine
    columns: _Columns
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
    offered: Array = field(default_factory=lambda: np.zeros(0))
    returned: Array = field(default_factory=lambda: np.zeros(0))
    needed: Array = field(default_factory=lambda: np.zeros(0))
    potential: Array = field(default_factory=lambda: np.zeros(0))
    taken: Array = field(default_factory=lambda: np.zeros(0))
    beyond_reach: Array = field(default_factory=lambda: np.zeros(0))

    @property
    def source_share(self) -> Array:
        """Part of a delivered joule that comes from the source."""
        return np.where(np.isfinite(self.cop), 1.0 - 1.0 / self.cop, np.nan)

    @property
    def spare(self) -> Array:
        """Reference capacity not in use; an unknown one is none; in W."""
        return np.nan_to_num(np.maximum(self.capacity - self.sink, 0.0))


def _heat(state_source: Array, running: Array) -> Array:
    """Give a machine known to stand still no heat, where derive() abstains."""
    return np.where(np.isnan(state_source) & (running == 0.0), 0.0, state_source)


def _state(
    machine: Machine,
    frame: pd.DataFrame | None,
    capacity: Capacity,
    times: pd.DatetimeIndex,
) -> _State:
    columns = _Columns(frame, times)
    answer = (
        capacity(machine, columns.frame)
        if callable(capacity)
        else capacity.get(machine.id)
    )
    able = _Columns(answer, times)
    running = running_share(machine, columns.frame)
    heat, cop = able["expected_sink_heat_w"], able["reference_cop"]
    usable = np.isfinite(heat) & (heat >= 0.0) & (cop > 1.0) & np.isfinite(cop)
    return _State(
        machine=machine,
        columns=columns,
        source=_heat(columns["source_heat_w"], running),
        sink=_heat(columns["sink_heat_w"], running),
        capacity=np.where(usable, heat, np.nan),
        cop=np.where(usable, cop, np.nan),
        current=able["current_sink_heat_w"],
        running=running,
    )


_HALF_A_DAY = 72  # intervals of ten minutes


def _evidence(
    state: _State, rules: Rules, told: pd.DataFrame | None
) -> tuple[dict[Cause, Flags], Flags]:
    """Which causes the instruments speak for, and where one is surely its own."""
    machine, columns, plate = state.machine, state.columns, state.machine.nameplate
    running = state.running
    runs = running > 0.5
    source_nominal, sink_nominal = _nominal_flows(machine)
    available = columns["available"]
    source_in, source_out = (
        columns["source_inlet_temp_degc"],
        columns["source_outlet_temp_degc"],
    )
    sink_in, sink_out = (
        columns["sink_inlet_temp_degc"],
        columns["sink_outlet_temp_degc"],
    )
    source_flow, sink_flow = _flow(columns, "source"), _flow(columns, "sink")
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
    wet = runs | (sink_flow > 0.3 * sink_nominal)
    # A machine locked out by its return stands without flow: what it last felt
    # counts for half a day, then what the consumer sends back.
    felt = pd.Series(np.where(wet, sink_in, np.nan)).ffill(limit=_HALF_A_DAY)
    back = np.where(felt.notna(), felt, state.returned)
    goal = np.where(
        np.isfinite(state.needed), state.needed, columns["sink_setpoint_degc"]
    )
    carried = 1.2 * 4180.0 * sink_nominal * (goal - back)
    evidence[Cause.SINK_HOT] = carried < rules.full_lift * state.capacity
    hottest = machine.sink_outlet_max_degc
    if hottest is not None:
        evidence[Cause.SINK_HOT] |= (back > hottest - rules.lift_margin_k) | (
            runs & (sink_out > hottest - 0.5)
        )

    starved = np.zeros(len(running), bool)
    for flow, nominal, spread, usual, pump in (
        (
            source_flow,
            source_nominal,
            source_in - source_out,
            plate.source_inlet_temp_degc - plate.source_outlet_temp_degc,
            columns["source_pump_power_w"],
        ),
        (
            sink_flow,
            sink_nominal,
            sink_out - sink_in,
            plate.sink_outlet_temp_degc - plate.sink_inlet_temp_degc,
            columns["sink_pump_power_w"],
        ),
    ):
        starved |= (
            runs
            & (flow < rules.starved_flow * nominal)
            & (spread > rules.starved_spread * usual)
        )
        # A pump that draws power and moves nothing: a shut valve, an air lock.
        starved |= ~runs & (pump > 100.0) & (flow < 0.1 * nominal)
    evidence[Cause.HYDRAULICS] = starved

    # Standing though nothing forbids it is the controller's doing, but only
    # where somebody measures that nothing forbids it.
    idle = (running < rules.full_running) & (available >= 0.5)
    if columns.has("compressor_speed_hz") and plate.speed_hz is not None:
        slow = columns["compressor_speed_hz"] < rules.full_speed * plate.speed_hz
    else:
        full = state.capacity / state.cop
        slow = columns["compressor_power_w"] < rules.full_power * full
    slow = slow & (running >= rules.full_running)
    low = columns["sink_setpoint_degc"] < state.needed - 1.0
    evidence[Cause.CONTROL] = idle | slow | low
    if told is not None:
        for cause in Cause:
            if cause.value in told:
                said = told[cause.value].reindex(columns.frame.index)
                true = said.astype(float).fillna(0.0).to_numpy() > 0.5
                evidence[cause] = evidence.get(cause, np.zeros(len(true), bool)) | true
    # Part load and standstill may be a neighbour's fault; the rest is its own.
    proved = low.copy()
    for cause, flags in evidence.items():
        if cause is not Cause.CONTROL:
            proved |= flags
    return evidence, proved


def _causes(state: _State, missed: Array, rules: Rules) -> dict[Cause, Array]:
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


# --- money and carbon ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Worth:
    """What a joule is worth in each interval; NaN is unknown.

    ``electricity`` and ``heat`` per joule [EUR/J], ``electricity_emission`` and
    ``heat_emission`` likewise [kg/J], ``fan`` the electricity spent to throw a
    joule away. [1]
    """

    electricity: Array
    heat: Array
    electricity_emission: Array
    heat_emission: Array
    fan: Array

    def value(self, delivered: Array, source: Array, cop: Array) -> tuple[Array, Array]:
        """Return what heat would have brought, had it been delivered.

        What the consumer pays for it, less the electricity to lift it, plus
        the fan electricity that throwing it away has cost. The electricity
        to lift it is what a machine as commissioned needs.

        Parameters
        ----------
        delivered : ndarray
            Heat at the consumer's side. [J]
        source : ndarray
            The same heat on the source side, as it was thrown away. [J]
        cop : ndarray
            COP of the machine as commissioned. [1]

        Returns
        -------
        eur, kg : ndarray
            Value [EUR] and avoided emission [kg], both negative where
            delivering would have cost; NaN where a price or factor is unknown.
        """
        lift = delivered / cop
        saved = source * self.fan
        eur = delivered * self.heat + (saved - lift) * self.electricity
        kg = delivered * self.heat_emission + (saved - lift) * self.electricity_emission
        return eur, kg


def _series(site: _Columns, name: str, fixed: float | None, length: int) -> Array:
    """Price each interval: the site's topic, else the tariff, else unknown."""
    constant = np.full(length, np.nan if fixed is None else fixed)
    if not site.has(name):
        return constant
    told = site[name]
    return np.where(np.isfinite(told), told, constant)


def _worth(
    plant: Plant,
    consumers: Sequence[Consumer],
    demands: Mapping[str, Array],
    site: _Columns,
    fan: Array,
) -> Worth:
    length, tariff = len(fan), plant.tariff

    def of_heat(name: str, fixed: float | None) -> Array:
        common = _series(site, name, fixed, length)
        if all(getattr(one, name) is None for one in consumers):
            return common
        worth, weight = np.zeros(length), np.zeros(length)
        for one in consumers:
            own = getattr(one, name)
            share = np.nan_to_num(np.clip(demands[one.id], 1e-9, 1e15), nan=1e-9)
            worth += share * (common if own is None else own)
            weight += share
        return worth / weight

    return Worth(
        electricity=_series(
            site, "electricity_price_eur_j", tariff.electricity_price_eur_j, length
        ),
        heat=of_heat("heat_price_eur_j", tariff.heat_price_eur_j),
        electricity_emission=_series(
            site,
            "electricity_emission_kg_j",
            tariff.electricity_emission_kg_j,
            length,
        ),
        heat_emission=of_heat("heat_emission_kg_j", tariff.heat_emission_kg_j),
        fan=fan,
    )


# --- the account --------------------------------------------------------------


def _it_heat(
    plant: Plant,
    frames: Mapping[str, _Columns],
    recovered: Array,
    rejected: Array | None,
) -> tuple[Array, str]:
    """Find the heat to be accounted for, by the best instrument there is; in W."""
    site = frames[Plant.SITE]
    if site.has("it_power_w"):
        return site["it_power_w"], "it_power"
    cdus = [
        frames[one.id]["exchanger_heat_w"]
        for one in plant.exchangers
        if not one.station and frames[one.id].has("exchanger_heat_w")
    ]
    expected = [one for one in plant.exchangers if not one.station]
    if cdus and len(cdus) == len(expected):
        return _sum(cdus, len(recovered)), "cdu_heat"
    if rejected is not None:
        return recovered + rejected, "source+rejected"
    return recovered.copy(), "source"


def _rejected(
    plant: Plant, frames: Mapping[str, _Columns], rules: Rules, length: int
) -> tuple[Array | None, Array, Array]:
    """Heat thrown away, its standard uncertainty [W], and fan power per watt [1]."""
    heats, variances, fans = [], [], []
    for rejector in plant.rejectors:
        columns = frames[rejector.id]
        if not columns.has("rejected_heat_w"):
            continue
        heat = columns["rejected_heat_w"]
        flow = np.nan_to_num(columns["rejector_flow_m3_s"])
        heats.append(heat)
        # 4.1 MJ/(m3 K): water and thin glycol alike; it only sets a threshold.
        variances.append(
            (rules.flow_uncertainty * heat) ** 2
            + (4.1e6 * flow * rules.pair_uncertainty_k) ** 2
        )
        fans.append(np.nan_to_num(columns["fan_power_w"]))
    if not heats:
        return None, np.zeros(length), np.zeros(length)
    total = _sum(heats, length)
    with np.errstate(divide="ignore", invalid="ignore"):
        fan = np.where(total > 0.0, np.maximum(np.sum(fans, axis=0), 0.0) / total, 0.0)
    # Near standstill of the cooler the ratio means nothing; 10 % is a poor cooler.
    return total, np.sqrt(_sum(variances, length)), np.clip(fan, 0.0, 0.1)


def _demand(consumer: Consumer, columns: _Columns, headroom: Array | None) -> Array:
    """Tell what a consumer wants, storage included; NaN where nobody knows; in W."""
    if "demand_heat_w" in columns.frame:
        want = np.maximum(columns["demand_heat_w"], 0.0)
    else:
        fixed = consumer.demand_heat_w
        want = np.full(len(columns.frame), np.nan if fixed is None else fixed)
    return want if headroom is None else want + np.maximum(headroom, 0.0)


def account(
    plant: Plant,
    frames: Mapping[str, pd.DataFrame],
    capacity: Capacity = nameplate_capacity,
    *,
    step: timedelta = timedelta(minutes=10),
    headroom: Mapping[str, pd.Series] | None = None,
    evidence: Mapping[str, pd.DataFrame] | None = None,
    rules: Rules = _RULES,
) -> pd.DataFrame:
    """Account for the IT heat of every interval.

    Several machines that feed the same consumer share the work: what could
    have been delivered besides is laid to them in proportion to the reference
    capacity that each left idle, first to those with a fault of their own, so
    that one that follows its share is not blamed for its tripped neighbour.
    Their potential is shared by capacity. Groups with consumers of their own share
    the rejected heat in proportion to what each could have used.

    Parameters
    ----------
    plant : Plant
        The plant as configured.
    frames : mapping of str to DataFrame
        Right-labelled frames by unit (``"site"`` is one), derived columns
        included, on multiples of ``step``. A time that is missing is a gap.
    capacity : callable or mapping of str to DataFrame
        By machine, what it could do as commissioned under the conditions of
        each interval: ``expected_sink_heat_w`` at full load [W],
        ``reference_cop`` [1] and, where the current model is known,
        ``current_sink_heat_w`` [W]. A callable is given the machine and its
        frame.
    step : timedelta
        Length of an interval.
    headroom : mapping of str to Series, optional
        By consumer, what its store could take besides. [W]
    evidence : mapping of str to DataFrame, optional
        By machine, causes known from elsewhere: columns named as
        :class:`Cause`, true in the intervals concerned. Storage is only ever
        known this way.
    rules : Rules
        The thresholds.

    Returns
    -------
    DataFrame
        Columns :data:`COLUMNS`. A line with unit ``"site"`` for each interval,
        whose :data:`ACCOUNTS` sum to ``it_heat_j``, then one for each machine
        with what is its own. ``potential_j``, ``delivered_j`` and
        ``missed_delivered_j`` are heat at the sink, every other account is heat
        of the source. [J] In a gap ``gap_s`` is the length of the interval and
        the accounts are NaN. ``missed_eur`` [EUR] and ``missed_kg`` [kg] are
        NaN where a price or an emission factor is unknown. ``basis`` names the
        instrument behind ``it_heat_j``, ``note`` what could not be judged.

    Raises
    ------
    ValueError
        If a frame is not on the grid, or its times have no zone.
    """
    width = pd.Timedelta(step)
    seconds = width.total_seconds()
    times = _grid(frames, width)
    n = len(times)
    on_grid = {
        unit: _Columns(frames.get(unit), times)
        for unit in (Plant.SITE, *(device.id for device in plant.units()))
    }
    states = {
        machine.id: _state(machine, frames.get(machine.id), capacity, times)
        for machine in plant.machines
    }
    recovered = _sum([one.source for one in states.values()], n)
    delivered = _sum([one.sink for one in states.values()], n)
    metered, doubt, fan = _rejected(plant, on_grid, rules, n)
    it_heat, basis = _it_heat(plant, on_grid, recovered, metered)
    rejected = np.zeros(n) if metered is None else metered

    gap = ~(np.isfinite(recovered + delivered) & np.isfinite(it_heat + rejected))
    thrown = np.where(gap, 0.0, np.maximum(rejected, 0.0))

    demands = {
        one.id: _demand(
            one,
            on_grid[one.id],
            None
            if headroom is None or one.id not in headroom
            else headroom[one.id].reindex(times).fillna(0.0).to_numpy(dtype=float),
        )
        for one in plant.consumers
    }
    groups = _groups(plant)
    for machine in plant.machines:
        state = states[machine.id]
        _reach(plant, state, frames, on_grid, times)
        state.evidence, state.proved = _evidence(
            state, rules, (evidence or {}).get(machine.id)
        )

    size = _sum(
        [
            np.where(
                np.isfinite(one.capacity),
                one.capacity,
                one.machine.nameplate.sink_heat_w,
            )
            for one in states.values()
        ],
        n,
    )
    counted = thrown > np.maximum(2.0 * doubt, rules.least_share * size)
    wants = [
        _Want(machines, consumers, states, demands, n, rules.least_shortage)
        for machines, consumers in groups
    ]

    # First what machines within their envelope could have taken, then the rest.
    rest = np.where(counted, thrown, 0.0)
    for stage in ("taken", "beyond_reach"):
        asked = [want.ask(stage) for want in wants]
        total = _sum([part for ask in asked for part in ask.values()], n)
        with np.errstate(divide="ignore", invalid="ignore"):
            grant = np.where(total > 0.0, np.minimum(1.0, rest / total), 0.0)
        used = np.zeros(n)
        for ask in asked:
            for name, part in ask.items():
                setattr(states[name], stage, grant * part)
                used += grant * part
        rest = np.maximum(rest - used, 0.0)

    # What is left was wanted by nobody, or by somebody no machine could serve.
    more = _sum([want.unserved for want in wants], n)
    vague = _sum([want.vague for want in wants], n) if wants else np.full(n, np.inf)
    beyond = np.minimum(rest, more)
    unknown = np.minimum(rest - beyond, vague)
    idle = rest - beyond - unknown
    # Below the least that the meter can tell, heat is only allotted where no
    # demand is certain; otherwise it stays in the closing term.
    satisfied = _sum([want.open_demand for want in wants], n) == 0.0
    idle = idle + np.where(~counted & satisfied & bool(wants), thrown, 0.0)

    lines = []
    totals: dict[str, Array] = {name: np.zeros(n) for name in COLUMNS[2:-2]}
    judged = np.full(n, bool(wants))
    for want in wants:
        judged &= want.known
    for machines, consumers in groups:
        worth = _worth(plant, consumers, demands, on_grid[Plant.SITE], fan)
        _share_potential([states[machine.id] for machine in machines])
        for machine in machines:
            own = _line(states[machine.id], worth, rules)
            for name, values in own.items():
                totals[name] += np.where(gap, 0.0, values)
            lines.append((machine.id, own))

    totals["it_heat_j"] = it_heat
    totals["recovered_j"] = recovered
    totals["rejected_j"] = rejected if metered is not None else np.full(n, np.nan)
    totals["delivered_j"] = delivered
    totals["no_demand_j"] = idle
    totals["beyond_capacity_j"] = beyond
    totals["unknown_j"] = unknown
    totals["potential_j"] = np.where(
        judged & (metered is not None), totals["potential_j"], np.nan
    )
    spent = np.zeros(n)
    for name in ACCOUNTS[:-1]:
        spent += totals[name]
    totals["closing_j"] = it_heat - spent
    energy = [name for name in COLUMNS[2:-2] if name.endswith("_j")]
    site = {name: totals[name] * seconds for name in energy}
    site["missed_eur"] = totals["missed_eur"] * seconds
    site["missed_kg"] = totals["missed_kg"] * seconds
    lacking = np.zeros(n, bool)
    for want in wants:
        lacking |= want.lacking
    note = np.select(
        [gap, np.full(n, metered is None), ~judged, lacking],
        [GAP, NOT_METERED, DEMAND_UNKNOWN, CAPACITY_UNKNOWN],
        NO_NOTE,
    )
    tables = [_table(times, Plant.SITE, site, gap, seconds, basis, note)]
    for name, own in lines:
        state = states[name]
        lost = ~np.isfinite(state.source + state.sink)
        scaled = {key: values * seconds for key, values in own.items()}
        scaled["potential_j"] = np.where(
            judged & (metered is not None), scaled["potential_j"], np.nan
        )
        # Without the site nothing of a machine can be called missed, but what
        # it recovered stays measured.
        for key in scaled:
            if key not in ("recovered_j", "delivered_j"):
                scaled[key] = np.where(gap, np.nan, scaled[key])
        tables.append(_table(times, name, scaled, lost, seconds, basis, note))
    ledger = pd.concat(tables, ignore_index=True)
    ledger["unit"] = ledger["unit"].astype("str")
    order = {name: place for place, name in enumerate((Plant.SITE, *states))}
    ledger = (
        ledger.assign(_place=ledger["unit"].map(order))
        .sort_values(["time", "_place"], kind="stable", ignore_index=True)
        .drop(columns="_place")
    )
    ledger.attrs["basis"] = basis
    ledger.attrs["step_s"] = seconds
    return ledger


def _reach(
    plant: Plant,
    state: _State,
    frames: Mapping[str, pd.DataFrame],
    on_grid: Mapping[str, _Columns],
    times: pd.DatetimeIndex,
) -> None:
    """Say in which intervals the machine's envelope holds source and consumers."""
    machine, n = state.machine, len(times)
    offered, state.returned = _site_temps(plant, machine, frames, times)
    # A loop in series shows the cooler a temperature the machine has lowered.
    wet = np.where(state.running > 0.0, state.columns["source_inlet_temp_degc"], np.nan)
    state.offered = np.fmax(offered, wet)
    coldest, hottest = machine.source_inlet_min_degc, machine.sink_outlet_max_degc
    cold = np.zeros(n, bool) if coldest is None else np.asarray(state.offered < coldest)
    anyone = np.zeros(n, bool)
    state.needed = np.full(n, np.nan)
    for consumer in _consumers_of(plant, machine):
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


class _Want:
    """What one group of machines and consumers could still have used."""

    def __init__(
        self,
        machines: Sequence[Machine],
        consumers: Sequence[Consumer],
        states: Mapping[str, _State],
        demands: Mapping[str, Array],
        n: int,
        least: float,
    ) -> None:
        self.states = [states[machine.id] for machine in machines]
        sink = np.nan_to_num(_sum([one.sink for one in self.states], n))
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
        self.open_demand = np.where(known, np.maximum(total - sink, 0.0), np.inf)
        short = total - sink > least * np.maximum(sink, 0.0)
        self.open_demand = np.where(short | ~known, self.open_demand, 0.0)
        near_left = np.where(known & short, np.maximum(near - sink, 0.0), 0.0)
        all_left = np.where(known, self.open_demand, 0.0)

        spare = {one.machine.id: one.spare for one in self.states}
        inside = {
            one.machine.id: np.where(one.in_reach, spare[one.machine.id], 0.0)
            for one in self.states
        }
        proved = {
            one.machine.id: np.where(one.proved, inside[one.machine.id], 0.0)
            for one in self.states
        }
        sure = _split(proved, near_left)
        rest = np.maximum(near_left - _sum(list(sure.values()), n), 0.0)
        unsure = {name: inside[name] - proved[name] for name in inside}
        more = _split(unsure, rest)
        self._wish: dict[str, dict[str, Array]] = {
            "taken": {name: sure[name] + more[name] for name in inside}
        }
        first = _sum(list(self._wish["taken"].values()), n)
        outside = {
            name: spare[name] - part for name, part in self._wish["taken"].items()
        }
        self._wish["beyond_reach"] = _split(outside, np.maximum(all_left - first, 0.0))
        second = _sum(list(self._wish["beyond_reach"].values()), n)

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


def _share_potential(states: Sequence[_State]) -> None:
    """Give each machine of a group its share of their potential, by capacity."""
    n = len(states[0].sink)
    with np.errstate(divide="ignore", invalid="ignore"):
        besides = [
            np.where(one.taken > 0.0, one.taken / one.source_share, 0.0)
            for one in states
        ]
    whole = _sum([one.sink for one in states], n) + _sum(besides, n)
    able = [
        np.where(
            np.isfinite(one.capacity), one.capacity, one.machine.nameplate.sink_heat_w
        )
        for one in states
    ]
    total = _sum(able, n)
    for one, part in zip(states, able, strict=True):
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(total > 0.0, part / total, 1.0 / len(states))
        one.potential = whole * share


def _split(parts: Mapping[str, Array], limit: Array) -> dict[str, Array]:
    """Share a limit out in proportion to the parts, to none more than its own."""
    total = _sum(list(parts.values()), len(limit))
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where(total > 0.0, np.minimum(1.0, limit / total), 0.0)
    return {name: factor * part for name, part in parts.items()}


def _line(state: _State, worth: Worth, rules: Rules) -> dict[str, Array]:
    """One machine's own accounts, as powers; in W."""
    with np.errstate(divide="ignore", invalid="ignore"):
        delivered = np.where(state.taken > 0.0, state.taken / state.source_share, 0.0)
        gain, _ = worth.value(delivered, state.taken, state.cop)
    dear = (state.taken > 0.0) & (gain < 0.0)
    missed = np.where(dear, 0.0, delivered)
    source = np.where(dear, 0.0, state.taken)
    shares = _causes(state, missed, rules)
    own = {
        "recovered_j": state.source,
        "delivered_j": state.sink,
        "uneconomic_j": np.where(dear, state.taken, 0.0),
        "out_of_reach_j": state.beyond_reach,
        "potential_j": state.potential,
        "missed_j": source,
        "missed_delivered_j": missed,
    }
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(missed > 0.0, source / missed, 0.0)
    for cause in Cause:
        own[f"missed_{cause.value}_j"] = shares[cause] * scale
    nothing = missed == 0.0
    eur, kg = worth.value(missed, source, np.where(nothing, 1.0, state.cop))
    own["missed_eur"], own["missed_kg"] = eur, kg
    return own


def _table(
    times: pd.DatetimeIndex,
    unit: str,
    values: Mapping[str, Array],
    gap: Flags,
    seconds: float,
    basis: str,
    note: Any,
) -> pd.DataFrame:
    n = len(times)
    columns: dict[str, Any] = {"time": times, "unit": np.full(n, unit, object)}
    for name in COLUMNS[2:]:
        if name == "gap_s":
            columns[name] = np.where(gap, seconds, 0.0)
        elif name == "basis":
            columns[name] = pd.Categorical(np.full(n, basis), categories=[basis])
        elif name == "note":
            columns[name] = pd.Categorical(
                np.where(gap, GAP, note),
                categories=[
                    NO_NOTE,
                    GAP,
                    NOT_METERED,
                    DEMAND_UNKNOWN,
                    CAPACITY_UNKNOWN,
                ],
            )
        elif name in values:
            columns[name] = np.where(gap, np.nan, values[name])
        else:
            columns[name] = np.full(n, np.nan)
    return pd.DataFrame(columns)


# --- events -------------------------------------------------------------------

_REASON: Mapping[Cause, str] = MappingProxyType(
    {
        Cause.UNAVAILABLE: "it was not available: tripped, or under maintenance",
        Cause.OVERRIDE: "it was held in manual or by a schedule",
        Cause.SOURCE_COLD: "its source was too cold, though warm enough water was "
        "on offer: mixing, a leaking bypass or too much flow",
        Cause.SINK_HOT: "the return from the consumer was too hot for its lift",
        Cause.HYDRAULICS: "it lacked liquid: a pump, a valve or a strainer",
        Cause.CONTROL: "its controller kept it off or at part load",
        Cause.STORAGE: "the store was not used as it could have been",
        Cause.DEGRADATION: "it no longer has the capacity it had when commissioned",
        Cause.UNEXPLAINED: "of something that the instruments do not show",
    }
)
_EVIDENCE: Mapping[Cause, tuple[str, ...]] = MappingProxyType(
    {
        Cause.UNAVAILABLE: ("available",),
        Cause.OVERRIDE: ("manual_override",),
        Cause.SOURCE_COLD: ("source_inlet_temp_degc", "rejector_inlet_temp_degc"),
        Cause.SINK_HOT: ("sink_inlet_temp_degc", "sink_outlet_temp_degc"),
        Cause.HYDRAULICS: (
            "source_flow_m3_s",
            "sink_flow_m3_s",
            "source_pump_power_w",
            "sink_pump_power_w",
        ),
        Cause.CONTROL: (
            "available",
            "compressor_running",
            "compressor_speed_hz",
            "sink_setpoint_degc",
        ),
        Cause.STORAGE: (),
        Cause.DEGRADATION: ("sink_heat_w", "compressor_power_w"),
        Cause.UNEXPLAINED: (),
    }
)
_ADVICE: Mapping[Cause, str] = MappingProxyType(
    {
        Cause.UNAVAILABLE: "Read the alarm list and restore the unit; agree with the "
        "consumer on maintenance in hours without demand.",
        Cause.OVERRIDE: "Find out who holds the unit and why; hand it back to the "
        "controller, or set the schedule to the consumer's hours.",
        Cause.SOURCE_COLD: "Check bypass and rejection valves for leakage and the "
        "source flow for excess, so that the IT return reaches the unit unmixed; "
        "leave the supply to the IT as it is.",
        Cause.SINK_HOT: "Ask the consumer for a lower return (short circuits, "
        "hydronic balance) or raise the sink flow; leave the IT side as it is.",
        Cause.HYDRAULICS: "Check pumps, valves, strainers and air on the side whose "
        "flow is short.",
        Cause.CONTROL: "Review staging, minimum off time and the sink set-point "
        "against what the consumer asks for.",
        Cause.STORAGE: "Review when the store is charged and discharged.",
        Cause.DEGRADATION: "See the fouling and COP findings of this unit; clean or "
        "repair what they name.",
        Cause.UNEXPLAINED: "Connect the points that would tell: available, "
        "manual_override, compressor_speed_hz, the setpoints and the flows.",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Heat missed without interruption, by one unit and for one cause.

    ``delivered_j`` is what the consumer went without, ``source_j`` what was
    thrown away for it. [J] ``eur`` and ``kg`` are what it would have been
    worth; None is unknown.
    """

    start: datetime
    end: datetime
    unit: str
    cause: Cause
    delivered_j: float
    source_j: float
    eur: float | None
    kg: float | None
    sentence: str


def events(
    ledger: pd.DataFrame, *, merge: timedelta = timedelta(minutes=30)
) -> list[Event]:
    """List what was missed, neighbours in time put together.

    Parameters
    ----------
    ledger : DataFrame
        What :func:`account` returned, or a part of it.
    merge : timedelta
        Two stretches no further apart than this are one event.

    Returns
    -------
    list of Event
        By start, unit and cause. Their heat sums to the ledger's.
    """
    found: list[Event] = []
    for unit, cause, rows, part in _missed_rows(ledger):
        step = _step(ledger)
        times = pd.DatetimeIndex(rows["time"])
        apart = np.diff(times.to_numpy()) > np.timedelta64(pd.Timedelta(merge)) + (
            np.timedelta64(step)
        )
        cuts = np.concatenate([[0], np.flatnonzero(apart) + 1, [len(rows)]])
        delivered = part * rows["missed_delivered_j"].to_numpy()
        source = part * rows["missed_j"].to_numpy()
        eur = part * rows["missed_eur"].to_numpy()
        kg = part * rows["missed_kg"].to_numpy()
        for first, last in pairwise(cuts):
            span = slice(first, last)
            found.append(
                _event(
                    unit,
                    cause,
                    (times[first] - step).to_pydatetime(),
                    times[last - 1].to_pydatetime(),
                    float(delivered[span].sum()),
                    float(source[span].sum()),
                    _known(eur[span].sum()),
                    _known(kg[span].sum()),
                )
            )
    return sorted(found, key=lambda one: (one.start, one.unit, one.cause.value))


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _step(ledger: pd.DataFrame) -> pd.Timedelta:
    told = ledger.attrs.get("step_s")
    if told is not None:
        return pd.Timedelta(seconds=float(told))
    times = pd.DatetimeIndex(ledger["time"].unique()).sort_values()
    gaps = times.to_series().diff().dropna()
    return pd.Timedelta(minutes=10) if gaps.empty else gaps.min()


def _missed_rows(
    ledger: pd.DataFrame,
) -> list[tuple[str, Cause, pd.DataFrame, Array]]:
    """Rows of each unit and cause with missed heat, and the cause's part of each."""
    parts = []
    missed = ledger["missed_j"].to_numpy(dtype=float) > 0.0
    machines = ledger[missed & (ledger["unit"] != Plant.SITE).to_numpy()]
    for unit, rows in machines.groupby("unit", sort=True):
        whole = rows["missed_j"].to_numpy(dtype=float)
        for cause in Cause:
            own = rows[f"missed_{cause.value}_j"].to_numpy(dtype=float)
            mine = own > 0.0
            if mine.any():
                parts.append((str(unit), cause, rows[mine], own[mine] / whole[mine]))
    return parts


def _money(eur: float | None, kg: float | None) -> str:
    worth = "of unknown value" if eur is None else f"worth {eur:.2f} EUR"
    carbon = "" if kg is None else f" and {kg:.0f} kg CO2e"
    return worth + carbon


def _event(
    unit: str,
    cause: Cause,
    start: datetime,
    end: datetime,
    delivered: float,
    source: float,
    eur: float | None,
    kg: float | None,
) -> Event:
    points = _EVIDENCE[cause]
    shown = f" Evidence: {', '.join(points)}." if points else ""
    sentence = (
        f"From {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC {unit} could have "
        f"delivered {delivered / J_PER_KWH:.1f} kWh more, {_money(eur, kg)}, and did "
        f"not because {_REASON[cause]}; {source / J_PER_KWH:.1f} kWh of IT heat "
        f"were thrown away for it.{shown}"
    )
    return Event(
        start=start,
        end=end,
        unit=unit,
        cause=cause,
        delivered_j=delivered,
        source_j=source,
        eur=eur,
        kg=kg,
        sentence=sentence,
    )


# --- findings -----------------------------------------------------------------

# Standard uncertainties behind a potential: a class-2 heat meter in its usual
# range (EN 1434), and a reference capacity within its acceptance gate.
METER_UNCERTAINTY = 0.02
CAPACITY_UNCERTAINTY = 0.03


def findings(
    ledger: pd.DataFrame,
    plant: Plant,
    now: datetime,
    *,
    window: timedelta = timedelta(days=7),
    quiet: timedelta = timedelta(days=2),
    least: float = 0.02,
) -> list[Finding]:
    """Say what keeps being missed, and why, as seen at ``now``.

    A unit and cause are worth a finding when they miss more than ``least`` of
    the unit's potential over the last ``window``. The affected period is the
    worst stretch that reaches into the window, from its first missed interval to
    its last, with no ``quiet`` between; the size is the part of the unit's
    potential missed in it, so that machine's share of what could have been
    delivered.

    Parameters
    ----------
    ledger : DataFrame
        What :func:`account` returned.
    plant : Plant
        The plant as configured, for what would have to be connected.
    now : datetime
        Aware; later lines are not looked at.
    window : timedelta
        Over which a cause must matter.
    quiet : timedelta
        So long without a missed interval ends a stretch.
    least : float
        Least share of the potential. [1]

    Returns
    -------
    list of Finding
        Kind ``missed_recovery``, the cause as component, largest loss first.
        The interval is that of the meters and of the reference capacity at
        95 %, taken as biases that time does not average away.
    """
    if now.tzinfo is None:
        raise ValueError(
            "ledger.findings: now has no time zone; give an aware UTC time"
        )
    moment = pd.Timestamp(now)
    seen = ledger[ledger["time"] <= moment]
    step = _step(ledger)
    pause = pd.Timedelta(quiet)
    made: list[Finding] = []
    parts = _missed_rows(seen)
    owned = {
        unit: seen.loc[seen["unit"] == unit, ["time", "potential_j", "gap_s"]]
        for unit in dict.fromkeys(unit for unit, *_ in parts)
    }
    for unit, cause, rows, part in parts:
        times = pd.DatetimeIndex(rows["time"])
        delivered = part * rows["missed_delivered_j"].to_numpy()
        recent = times > moment - pd.Timedelta(window)
        own = owned[unit]
        lately = own[own["time"] > moment - pd.Timedelta(window)]
        potential = float(lately["potential_j"].sum())
        if not recent.any() or delivered[recent].sum() < least * potential:
            continue
        cuts = np.flatnonzero(np.diff(times.to_numpy()) > np.timedelta64(pause)) + 1
        stretches = [
            slice(first, last)
            for first, last in pairwise([0, *(int(cut) for cut in cuts), len(times)])
            if recent[last - 1]
        ]
        case = max(stretches, key=lambda one: float(delivered[one].sum()))
        since, until = times[case][0] - step, times[case][-1]
        span = own[(own["time"] > since) & (own["time"] <= until)]
        mine = delivered[case]
        eur = part[case] * rows["missed_eur"].to_numpy()[case]
        kg = part[case] * rows["missed_kg"].to_numpy()[case]
        days = max((until - since) / pd.Timedelta(days=1), step / pd.Timedelta(days=1))
        total = float(span["potential_j"].sum())
        size = float(mine.sum()) / total
        spread = _spread(rows.iloc[case], total)
        made.append(
            Finding(
                unit=unit,
                kind=FindingKind.MISSED_RECOVERY,
                component=cause.value,
                since=since.to_pydatetime(),
                seen=until.to_pydatetime(),
                size=size,
                low=max(0.0, size - spread),
                high=min(1.0, size + spread),
                sentence=_said(unit, cause, since, until, mine.sum(), size, eur, kg),
                advice=_ADVICE[cause],
                cost_eur_day=_per_day(eur, days),
                energy_j_day=float(mine.sum()) / days,
                emission_kg_day=_per_day(kg, days),
                evidence=MappingProxyType(
                    {
                        "points": _EVIDENCE[cause],
                        "not_connected": _absent(plant, unit, cause),
                        "basis": str(rows["basis"].iloc[-1]),
                        "intervals": len(mine),
                        "missed_delivered_j": float(mine.sum()),
                        "potential_j": total,
                        "affected_days": float(days),
                        "gap_s": float(span["gap_s"].sum()),
                        "emission_source": plant.tariff.emission_source,
                    }
                ),
            )
        )
    return sorted(made, key=lambda one: (-(one.energy_j_day or 0.0), one.key))


def _spread(rows: pd.DataFrame, total: float) -> float:
    """Half the 95 % interval of a missed share."""
    sink = float(rows["delivered_j"].sum())
    could = sink + float(rows["missed_delivered_j"].sum())
    bias = np.hypot(CAPACITY_UNCERTAINTY * could, METER_UNCERTAINTY * sink)
    return float(1.96 * bias / total)


def _per_day(values: Array, days: float) -> float | None:
    return _known(values.sum() / days)


def _absent(plant: Plant, unit: str, cause: Cause) -> tuple[str, ...]:
    """Points that would sharpen the cause and that nobody has connected."""
    wanted = (
        _EVIDENCE[cause]
        if cause is not Cause.UNEXPLAINED
        else (
            "available",
            "manual_override",
            "compressor_running",
            "sink_setpoint_degc",
        )
    )
    have = frozenset[str]().union(
        plant.points_of(unit), *(one.points for one in plant.rejectors)
    )
    derived = ("sink_heat_w",)
    return tuple(one for one in wanted if one not in have and one not in derived)


def _said(
    unit: str,
    cause: Cause,
    since: pd.Timestamp,
    until: pd.Timestamp,
    missed: float,
    size: float,
    eur: Array,
    kg: Array,
) -> str:
    return (
        f"Since {since:%Y-%m-%d %H:%M} UTC {unit} has not delivered "
        f"{missed / J_PER_KWH:,.0f} kWh that were wanted and on offer "
        f"({size:.1%} of its potential until {until:%Y-%m-%d %H:%M}), "
        f"{_money(_known(eur.sum()), _known(kg.sum()))}, because {_REASON[cause]}."
    )
