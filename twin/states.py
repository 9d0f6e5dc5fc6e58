"""What the measured points say of themselves: heat flows, states, conductances.

Explicit arithmetic over the liquids' balances and the refrigerant's tables; no
operating point is solved for here. What no instrument tells is inferred from a
balance where one closes, and is NaN where none does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twin import fluids
from twin.exchanger import log_mean_temp_difference
from twin.heatpump import Parameters
from twin.plant import Coolant, Exchanger, Machine, Rejector
from twin.points import Kind, Origin, points_of

Array = NDArray[np.float64]

# Below this share of its nameplate a machine is not running, whatever drifts.
_RUNNING_SHARE = 0.03
# Differences smaller than this are mostly the probes' own. [K]
_SMALLEST_DIFFERENCE = 0.2
# A counter's step over more than so many usual intervals says nothing of now.
_LONGEST_GAP = 3.0

TYPICAL = Parameters(
    evaporator_ua_w_k=1.0,
    condenser_ua_w_k=1.0,
    swept_flow_m3_s=1.0,
    source_flow_rated_kg_s=1.0,
    sink_flow_rated_kg_s=1.0,
    refrigerant_flow_rated_kg_s=1.0,
)
"""Typical losses, zone ratios, superheat and subcooling, where none are known."""

_WATER_SIDES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {"source": ("source_inlet", "source_outlet"), "sink": ("sink_outlet", "sink_inlet")}
)
_DERIVED_HP = points_of(Kind.HEAT_PUMP, Origin.DERIVED)
_DERIVED_HX = points_of(Kind.EXCHANGER, Origin.DERIVED)


def derive(
    frame: pd.DataFrame, machine: Machine, *, parameters: Parameters | None = None
) -> pd.DataFrame:
    r"""Add everything that a heat pump's points allow to be said.

    Parameters
    ----------
    frame : DataFrame
        Measured points of one machine. [degC, m3/s, W, Pa, Hz, J]
    machine : Machine
        As configured: ``points`` says what is metered; where it is empty, the
        frame's columns do.
    parameters : Parameters, optional
        The machine's own losses, zone ratios and swept volume, once fitted;
        typical ones else.

    Returns
    -------
    DataFrame
        The frame with every derived column of the vocabulary, and with
        ``compressor_power_w`` filled from the electricity counter where no
        power is metered. NaN where there is no answer. At standstill only
        metered heat and flows remain: no COP, no efficiency, no conductance.
        [W, kg/s, K, degC, W/K, 1]

    Notes
    -----
    Liquid heat is :math:`\dot Q = \dot m\,c_p(\bar T)\,\Delta T`, with density
    at the inlet, where meters stand. One unmetered side is inferred from

    .. math:: \dot Q_{sink} = \dot Q_{source} + \eta_{em}(1 - f_q) W

    and its flow from that heat; its balance error is then unknown, not zero.
    Conductances are those of the two-phase zones, with the one-phase zones at
    fixed ratios to them, as in :mod:`twin.cycle`. Where suction or liquid
    temperature is not metered, typical superheat and subcooling are taken for
    the small zones; pressures always have to be measured.
    """
    p = parameters or TYPICAL
    names = machine.points or frozenset(frame.columns)
    column = _columns_of(frame)
    nothing = column("")
    told = _told(frame, machine)
    power, running = told.power, told.running
    t_si, t_so, t_ki, t_ko = told.liquids
    (source_flow, sink_flow), (source_heat, sink_heat) = told.flows, told.heats
    filled = {} if "compressor_power_w" in names else {"compressor_power_w": power}
    gained = p.motor_efficiency * (1.0 - p.heat_loss_ratio) * power
    metered = _metered(names)
    if not metered["sink"] and metered["source"]:
        sink_heat = np.where(running, source_heat + gained, np.nan)
    elif not metered["source"] and metered["sink"]:
        source_heat = np.where(running, sink_heat - gained, np.nan)
    if "source_flow_m3_s" not in names:
        source_flow = _flow_of(machine.source, source_heat, t_si, t_so, running)
    if "sink_flow_m3_s" not in names:
        sink_flow = _flow_of(machine.sink, sink_heat, t_ko, t_ki, running)

    with np.errstate(invalid="ignore", divide="ignore"):
        share = _RUNNING_SHARE * machine.nameplate.sink_heat_w
        heating = running & (sink_heat > share)
        cooling = running & (source_heat > share)
        cop = np.where(heating, sink_heat / power, np.nan)
        derived = {
            "source_heat_w": source_heat,
            "sink_heat_w": sink_heat,
            "source_flow_kg_s": source_flow,
            "sink_flow_kg_s": sink_flow,
            "cop": cop,
            "cooling_cop": np.where(cooling, source_heat / power, np.nan),
            "lorenz_cop": np.where(running, _lorenz(t_si, t_so, t_ki, t_ko), np.nan),
        }
        derived["lorenz_efficiency"] = cop / derived["lorenz_cop"]
        if metered["source"] and metered["sink"]:
            error = (source_heat + gained - sink_heat) / sink_heat
            derived["energy_balance_error"] = np.where(heating, error, np.nan)
    derived |= _refrigerant_side(
        machine, p, names, column, running,
        (t_si, t_so, t_ki, t_ko), source_heat, sink_heat, power,
    )  # fmt: skip
    return _with(frame, filled | _finite(derived, _DERIVED_HP, nothing))


def evaporation(frame: pd.DataFrame, machine: Machine) -> dict[str, Array]:
    """Return at which temperature the refrigerant boils, and its superheat.

    What :func:`derive` says of them and no more, for who asks of each sample.

    Parameters
    ----------
    frame : DataFrame
        Measured points of one machine, as for :func:`derive`.
    machine : Machine
        As configured.

    Returns
    -------
    dict of str to ndarray
        ``evaporating_temp_degc`` and ``superheat_k`` of each row, NaN at
        standstill and where it is not known. [degC, K]
    """
    running = _told(frame, machine).running
    fluid = fluids.refrigerant(machine.refrigerant)
    t_e, superheat = _evaporation(fluid, _columns_of(frame), running)
    names = ("evaporating_temp_degc", "superheat_k")
    return _finite(dict(zip(names, (t_e, superheat), strict=True)), names, t_e)


def _evaporation(
    fluid: fluids.Refrigerant,
    column: Callable[[str], Array],
    running: NDArray[np.bool_],
) -> tuple[Array, Array]:
    on = np.where(running, 0.0, np.nan)
    t_e = fluid.saturation_temp(column("suction_pressure_pa")) + on
    return t_e, column("suction_temp_degc") - t_e


@dataclass(frozen=True, slots=True)
class _Told:
    """What meters say of a machine, ahead of anything inferred from a balance.

    ``liquids`` are source inlet and outlet, sink inlet and outlet; ``flows`` and
    ``heats`` those of source and sink. [W, degC, kg/s, W]
    """

    power: Array
    liquids: tuple[Array, Array, Array, Array]
    flows: tuple[Array, Array]
    heats: tuple[Array, Array]
    running: NDArray[np.bool_]


def _columns_of(frame: pd.DataFrame) -> Callable[[str], Array]:
    """Return what gives a column as numbers, NaN throughout where there is none."""
    nothing = np.full(len(frame), np.nan)

    def column(name: str) -> Array:
        if name not in frame.columns:
            return nothing
        return frame[name].to_numpy(dtype=float)

    return column


def _told(frame: pd.DataFrame, machine: Machine) -> _Told:
    names = machine.points or frozenset(frame.columns)
    column = _columns_of(frame)

    def counted(name: str) -> Array:
        return _from_counter(frame, name) if name in frame.columns else column("")

    power = column("compressor_power_w")
    if "compressor_power_w" not in names:
        power = np.where(np.isnan(power), counted("compressor_energy_j"), power)
    t_si, t_so = column("source_inlet_temp_degc"), column("source_outlet_temp_degc")
    t_ki, t_ko = column("sink_inlet_temp_degc"), column("sink_outlet_temp_degc")
    source_flow = _mass_flow(machine.source, column("source_flow_m3_s"), t_si)
    sink_flow = _mass_flow(machine.sink, column("sink_flow_m3_s"), t_ki)
    source_heat = _heat(machine.source, source_flow, t_si, t_so)
    sink_heat = _heat(machine.sink, sink_flow, t_ko, t_ki)
    if "source_flow_m3_s" not in names:
        source_heat = counted("source_energy_j")
    if "sink_flow_m3_s" not in names:
        sink_heat = counted("sink_energy_j")
    return _Told(
        power=power,
        liquids=(t_si, t_so, t_ki, t_ko),
        flows=(source_flow, sink_flow),
        heats=(source_heat, sink_heat),
        running=_running(frame, machine, power, source_heat, sink_heat),
    )


def _finite(
    derived: Mapping[str, Array], names: Iterable[str], nothing: Array
) -> dict[str, Array]:
    found = ((name, derived.get(name, nothing)) for name in names)
    return {name: np.where(np.isfinite(x), x, np.nan) for name, x in found}


def _with(frame: pd.DataFrame, columns: Mapping[str, Array]) -> pd.DataFrame:
    """Set columns of a frame, all at once: one by one costs a copy of its index."""
    names = list(columns)
    new = pd.DataFrame(
        np.column_stack([columns[name] for name in names]),
        index=frame.index,
        columns=names,
    )
    old = frame.columns.isin(names)
    if not old.any():
        return pd.concat([frame, new], axis=1)
    order = [*frame.columns, *(name for name in names if name not in frame.columns)]
    return pd.concat([frame.loc[:, ~old], new], axis=1)[order]


def running(frame: pd.DataFrame, machine: Machine) -> pd.Series[bool]:
    """Say when a machine runs.

    By its own word where it gives one, else by its power, its speed, or the
    heat it moves, in this order.

    Parameters
    ----------
    frame : DataFrame
        A derived frame.
    machine : Machine
        As configured.

    Returns
    -------
    Series of bool
        False where it stands still or nothing says that it runs.
    """
    column = _columns_of(frame)
    answer = _running(
        frame,
        machine,
        column("compressor_power_w"),
        column("source_heat_w"),
        column("sink_heat_w"),
    )
    return pd.Series(answer, index=frame.index)


def _running(
    frame: pd.DataFrame,
    machine: Machine,
    power: Array,
    source_heat: Array,
    sink_heat: Array,
) -> NDArray[np.bool_]:
    plate = machine.nameplate
    least = max(_RUNNING_SHARE * plate.power_w, 1.2 * machine.standby_power_w)
    with np.errstate(invalid="ignore"):
        answer = np.where(np.isnan(power), np.nan, power > least)
        if "compressor_running" in frame.columns:
            said = frame["compressor_running"].to_numpy(dtype=float)
            # Its own word, unless no power is drawn: a status bit can stick.
            answer = np.where(np.isnan(said), answer, (said > 0.5) & ~(power <= least))
        if "compressor_speed_hz" in frame.columns:
            speed = frame["compressor_speed_hz"].to_numpy(dtype=float)
            answer = np.where(np.isnan(answer) & ~np.isnan(speed), speed > 0.5, answer)
        heat = np.where(np.isnan(sink_heat), source_heat, sink_heat)
        moved = heat > _RUNNING_SHARE * plate.sink_heat_w
        answer = np.where(np.isnan(answer), moved, answer)
    return answer.astype(bool)


def _from_counter(frame: pd.DataFrame, name: str) -> Array:
    """Mean power over each interval from a counter; NaN where it went back."""
    count = frame[name].to_numpy(dtype=float)
    answer = np.full(len(count), np.nan)
    known = np.flatnonzero(~np.isnan(count))
    if len(known) < 2 or not isinstance(frame.index, pd.DatetimeIndex):
        return answer
    stamp = frame.index.as_unit("ns").asi8[known] * 1e-9
    step, grown = np.diff(stamp), np.diff(count[known])
    usual = float(np.median(step))
    # A rollover and a new meter both look like a step back: neither is energy.
    good = (grown >= 0.0) & (step > 0.0) & (step <= _LONGEST_GAP * usual)
    with np.errstate(divide="ignore", invalid="ignore"):
        answer[known[1:]] = np.where(good, grown / step, np.nan)
    return answer


def _mass_flow(coolant: Coolant, flow: Array, temp: Array) -> Array:
    return flow * fluids.density(coolant, temp)


def _heat(coolant: Coolant, flow: Array, warm: Array, cold: Array) -> Array:
    return flow * fluids.heat_capacity(coolant, 0.5 * (warm + cold)) * (warm - cold)


def _flow_of(
    coolant: Coolant, heat: Array, warm: Array, cold: Array, running: NDArray[np.bool_]
) -> Array:
    difference = warm - cold
    with np.errstate(divide="ignore", invalid="ignore"):
        flow = heat / (fluids.heat_capacity(coolant, 0.5 * (warm + cold)) * difference)
        good = running & (difference > _SMALLEST_DIFFERENCE) & (flow > 0.0)
    return np.where(good, flow, np.nan)


def _lorenz(t_si: Array, t_so: Array, t_ki: Array, t_ko: Array) -> Array:
    """Reversible heating COP between the entropic means of two liquids. [1]."""
    source = _entropic_mean(t_si, t_so)
    sink = _entropic_mean(t_ko, t_ki)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sink > source, sink / (sink - source), np.nan)


def _entropic_mean(warm: Array, cold: Array) -> Array:
    return np.asarray(
        log_mean_temp_difference(warm + fluids.ZERO_DEGC, cold + fluids.ZERO_DEGC)
    )


def _refrigerant_side(
    machine: Machine,
    p: Parameters,
    names: frozenset[str],
    column: Callable[[str], Array],
    running: NDArray[np.bool_],
    liquids: tuple[Array, Array, Array, Array],
    source_heat: Array,
    sink_heat: Array,
    power: Array,
) -> dict[str, Array]:
    p_e, p_c = column("suction_pressure_pa"), column("compressor_discharge_pressure_pa")
    if np.isnan(p_e).all() and np.isnan(p_c).all():
        return {}
    t_si, t_so, t_ki, t_ko = liquids
    fluid = fluids.refrigerant(machine.refrigerant)
    t_e, superheat = _evaporation(fluid, column, running)
    t_c = fluid.saturation_temp(p_c) + np.where(running, 0.0, np.nan)
    t_2, t_3 = column("compressor_discharge_temp_degc"), column("liquid_temp_degc")
    subcooling = t_c - t_3
    # For the small one-phase zones: as metered where it is, else typical.
    sh = superheat if "suction_temp_degc" in names else np.full(len(t_e), p.superheat_k)
    sc = (
        subcooling if "liquid_temp_degc" in names else np.full(len(t_c), p.subcooling_k)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        sh, sc = np.maximum(sh, 0.0), np.maximum(sc, 0.0)
        rho1, h1, s1 = fluid.suction_state(t_e, sh)
        h3 = fluid.subcooled_enthalpy(t_c, sc)
        flow = source_heat / (h1 - h3)
        work = power * p.motor_efficiency / flow
        # The discharge temperature, where there is one, needs no power meter.
        h2 = fluid.superheated_enthalpy(t_c, t_2)
        if "compressor_discharge_temp_degc" in names:
            work = (h2 - h1) / (1.0 - p.heat_loss_ratio)
        else:
            h2 = h1 + (1.0 - p.heat_loss_ratio) * work
        if np.isnan(flow).all():
            flow = sink_heat / (h2 - h3)
        ideal = fluid.isentropic_enthalpy(t_c, s1) - h1
        efficiency = ideal / work
        answer = {
            "evaporating_temp_degc": t_e,
            "condensing_temp_degc": t_c,
            "superheat_k": superheat,
            "subcooling_k": subcooling,
            "evaporator_approach_k": t_so - t_e,
            "condenser_approach_k": t_c - t_ko,
            "pressure_ratio": np.where(running, p_c / p_e, np.nan),
            "carnot_cop": np.where(
                t_c > t_e, (t_c + fluids.ZERO_DEGC) / (t_c - t_e), np.nan
            ),
            "refrigerant_flow_kg_s": np.where(flow > 0.0, flow, np.nan),
            "isentropic_efficiency": np.where(
                (efficiency > 0.0) & (efficiency < 1.0), efficiency, np.nan
            ),
        }
        if p is not TYPICAL:
            # Relative to the swept flow that calibration found; Hz over Hz.
            speed = column("compressor_speed_hz")
            rated = machine.nameplate.speed_hz or 50.0
            filling = flow / (rho1 * p.swept_flow_m3_s * speed / rated)
            answer["volumetric_efficiency"] = np.where(
                (filling > 0.0) & (filling < 1.2), filling, np.nan
            )
        answer["evaporator_ua_w_k"] = _evaporator(
            fluid, p, (t_si, t_so), t_e, sh, (h1, h3), source_heat
        )
        answer["condenser_ua_w_k"] = _condenser(
            fluid, p, (t_ki, t_ko), t_c, sc, (h2, h3), t_2, sink_heat
        )
    return answer


def _evaporator(
    fluid: fluids.Refrigerant,
    p: Parameters,
    liquid: tuple[Array, Array],
    t_e: Array,
    superheat: Array,
    enthalpies: tuple[Array, Array],
    heat: Array,
) -> Array:
    """Conductance of the evaporating zone that fits the two liquid ends. [W/K]."""
    warm, cold = liquid
    h1, h3 = enthalpies
    share = (h1 - fluid.vapour_enthalpy(t_e)) / (h1 - h3)
    onset = warm - share * (warm - cold)  # the liquid where superheating begins
    boiling = log_mean_temp_difference(onset - t_e, cold - t_e)
    heating = log_mean_temp_difference(warm - t_e - superheat, onset - t_e)
    ua = heat * (1.0 - share) / boiling + np.where(
        share > 0.0, heat * share / (p.superheat_zone_ratio * heating), 0.0
    )
    return np.where(ua > 0.0, ua, np.nan)


def _condenser(
    fluid: fluids.Refrigerant,
    p: Parameters,
    liquid: tuple[Array, Array],
    t_c: Array,
    subcooling: Array,
    enthalpies: tuple[Array, Array],
    t_2: Array,
    heat: Array,
) -> Array:
    """Conductance of the condensing zone that fits the two liquid ends. [W/K]."""
    cold, warm = liquid
    h2, h3 = enthalpies
    h_g, h_l = fluid.vapour_enthalpy(t_c), fluid.liquid_enthalpy(t_c)
    total = h2 - h3
    hot = np.where(np.isfinite(t_2), t_2, fluid.superheated_temp(t_c, h2))
    top = np.maximum(h2 - h_g, 0.0) / total
    bottom = np.maximum(h_l - h3, 0.0) / total
    rise = warm - cold
    after_sub, at_onset = cold + bottom * rise, warm - top * rise
    condensing = log_mean_temp_difference(t_c - after_sub, t_c - at_onset)
    cooling = log_mean_temp_difference(t_c - subcooling - cold, t_c - after_sub)
    desuper = log_mean_temp_difference(t_c - at_onset, hot - warm)
    ua = (
        heat * (1.0 - top - bottom) / condensing
        + np.where(bottom > 0.0, heat * bottom / (p.subcool_zone_ratio * cooling), 0.0)
        + np.where(top > 0.0, heat * top / (p.desuperheat_zone_ratio * desuper), 0.0)
    )
    return np.where(ua > 0.0, ua, np.nan)


def derive_exchanger(frame: pd.DataFrame, exchanger: Exchanger) -> pd.DataFrame:
    """Add what a plate exchanger's points say.

    Parameters
    ----------
    frame : DataFrame
        Measured points of one exchanger. [degC, m3/s]
    exchanger : Exchanger
        As configured: ``points`` says what is metered; where it is empty, the
        frame's columns do.

    Returns
    -------
    DataFrame
        The frame with heat, conductance (counterflow), effectiveness and
        balance error. The heat is the mean of the two sides where both are
        metered, else that of the metered one; an unmetered side's capacity
        flow follows from the heat. NaN where no liquid flows, differences are
        within what probes lie, or temperatures cross. [W, W/K, 1]
    """
    column = _columns_of(frame)
    derived = _plate(column, exchanger, exchanger.points or frozenset(frame.columns))
    return _with(frame, _finite(derived, _DERIVED_HX, column("")))


def exchanger_conductance(points: Mapping[str, Array], exchanger: Exchanger) -> Array:
    """Return the conductance of an exchanger, as :func:`derive_exchanger` does.

    Parameters
    ----------
    points : mapping of str to ndarray
        Measured points of one exchanger, at least one of them. [degC, m3/s]
    exchanger : Exchanger
        As configured.

    Returns
    -------
    ndarray
        Conductance in each row, NaN where it is not known. [W/K]
    """
    nothing = np.full_like(next(iter(points.values())), np.nan)
    ua = _plate(
        lambda name: points.get(name, nothing),
        exchanger,
        exchanger.points or frozenset(points),
    )["exchanger_ua_w_k"]
    return np.where(np.isfinite(ua), ua, np.nan)


def _plate(
    column: Callable[[str], Array], exchanger: Exchanger, names: frozenset[str]
) -> dict[str, Array]:
    h_in, h_out = column("hot_inlet_temp_degc"), column("hot_outlet_temp_degc")
    c_in, c_out = column("cold_inlet_temp_degc"), column("cold_outlet_temp_degc")
    hot = _heat(
        exchanger.hot,
        _mass_flow(exchanger.hot, column("hot_flow_m3_s"), h_in),
        h_in,
        h_out,
    )
    cold = _heat(
        exchanger.cold,
        _mass_flow(exchanger.cold, column("cold_flow_m3_s"), c_in),
        c_out,
        c_in,
    )
    both = {"hot_flow_m3_s", "cold_flow_m3_s"} <= names
    heat = 0.5 * (hot + cold) if both else (hot if "hot_flow_m3_s" in names else cold)
    least = _RUNNING_SHARE * (exchanger.heat_w or 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        good = (
            (heat > max(least, 0.0))
            & (h_in - h_out > _SMALLEST_DIFFERENCE)
            & (c_out - c_in > _SMALLEST_DIFFERENCE)
        )
        mean = log_mean_temp_difference(h_in - c_out, h_out - c_in)
        least_capacity = heat / np.maximum(h_in - h_out, c_out - c_in)
        return {
            "exchanger_heat_w": heat,
            "exchanger_ua_w_k": np.where(good, heat / mean, np.nan),
            "exchanger_effectiveness": np.where(
                good & (h_in > c_in), heat / (least_capacity * (h_in - c_in)), np.nan
            ),
            "exchanger_balance_error": np.where(
                good & both, (hot - cold) / (0.5 * (hot + cold)), np.nan
            ),
        }


def derive_rejector(frame: pd.DataFrame, rejector: Rejector) -> pd.DataFrame:
    """Add the heat that a dry cooler or tower throws away.

    Parameters
    ----------
    frame : DataFrame
        Measured points of one rejector. [degC, m3/s, W]
    rejector : Rejector
        As configured.

    Returns
    -------
    DataFrame
        The frame with ``rejected_heat_w``: as metered where it is, else from
        flow and temperatures; NaN where neither is known. [W]
    """
    result = frame.copy()
    column = _columns_of(frame)
    warm, cold = column("rejector_inlet_temp_degc"), column("rejector_outlet_temp_degc")
    flow = _mass_flow(rejector.coolant, column("rejector_flow_m3_s"), warm)
    metered = column("rejected_heat_w")
    if "rejected_heat_w" in rejector.points:
        result["rejected_heat_w"] = metered
    else:
        own = _heat(rejector.coolant, flow, warm, cold)
        result["rejected_heat_w"] = np.where(np.isnan(metered), own, metered)
    return result


def _metered(names: Iterable[str]) -> dict[str, bool]:
    points = frozenset(names)
    return {
        side: f"{side}_energy_j" in points
        or {f"{side}_flow_m3_s", *(f"{end}_temp_degc" for end in ends)} <= points
        for side, ends in _WATER_SIDES.items()
    }


def capabilities(device: Machine | Exchanger | Rejector) -> dict[str, str]:
    """Say what can be known of a device from the points it has.

    Parameters
    ----------
    device : Machine, Exchanger or Rejector
        As configured.

    Returns
    -------
    dict
        By derived quantity: ``"measured"`` where instruments alone tell it,
        ``"inferred: how"`` where a balance or a typical number helps, and
        ``"off: needs <points>"`` where it cannot be known.
    """
    if isinstance(device, Machine):
        return _machine_capabilities(device)
    if isinstance(device, Exchanger):
        return _exchanger_capabilities(device)
    if "rejected_heat_w" in device.points:
        return {"rejected_heat_w": "measured"}
    return {
        "rejected_heat_w": _needs(
            device.points,
            "rejector_flow_m3_s",
            "rejector_inlet_temp_degc",
            "rejector_outlet_temp_degc",
        )
    }


def _needs(points: frozenset[str], *names: str) -> str:
    missing = [name for name in names if name not in points]
    return f"off: needs {', '.join(missing)}" if missing else "measured"


def _weakest(*answers: str) -> str:
    """Join what several parts of a quantity are: off beats inferred beats measured."""
    off = [a.removeprefix("off: needs ") for a in answers if a.startswith("off")]
    if off:
        return "off: needs " + ", ".join(dict.fromkeys(", ".join(off).split(", ")))
    inferred = [a for a in answers if a.startswith("inferred")]
    return inferred[0] if inferred else "measured"


def _machine_capabilities(machine: Machine) -> dict[str, str]:
    points = machine.points
    have = _metered(points)
    power = "measured"
    if "compressor_power_w" not in points:
        power = (
            "inferred: steps of compressor_energy_j"
            if "compressor_energy_j" in points
            else "off: needs compressor_power_w"
        )
    heat: dict[str, str] = {}
    flow: dict[str, str] = {}
    for side, other, sign in (("source", "sink", "less"), ("sink", "source", "plus")):
        ends = [f"{end}_temp_degc" for end in _WATER_SIDES[side]]
        metered = _needs(points, f"{side}_flow_m3_s", *ends)
        if metered == "measured":
            heat[side] = metered
        elif f"{side}_energy_j" in points and f"{side}_flow_m3_s" not in points:
            heat[side] = f"inferred: steps of {side}_energy_j"
        elif have[other] and not have[side] and not power.startswith("off"):
            heat[side] = (
                f"inferred: {other} heat {sign} compressor power that reaches the "
                "refrigerant"
            )
        else:
            heat[side] = metered
        if f"{side}_flow_m3_s" in points:
            flow[side] = _needs(points, f"{side}_inlet_temp_degc")
        elif heat[side].startswith("off"):
            flow[side] = f"off: needs {side}_flow_m3_s"
        else:
            missing = _needs(points, *ends)
            flow[side] = (
                missing
                if missing.startswith("off")
                else f"inferred: {side} heat over its temperature difference"
            )
    liquids = _needs(
        points, *(f"{end}_temp_degc" for ends in _WATER_SIDES.values() for end in ends)
    )
    low = _needs(points, "suction_pressure_pa")
    high = _needs(points, "compressor_discharge_pressure_pa")
    superheat = (
        "measured"
        if "suction_temp_degc" in points
        else "inferred: typical superheat, no suction_temp_degc"
    )
    subcooling = (
        "measured"
        if "liquid_temp_degc" in points
        else "inferred: typical subcooling, no liquid_temp_degc"
    )
    work = "measured"
    if "compressor_discharge_temp_degc" not in points:
        work = _weakest(
            power,
            heat["source"],
            "inferred: power over refrigerant flow, no compressor_discharge_temp_degc",
        )
    by_source = _weakest(low, high, heat["source"], superheat, subcooling)
    by_sink = _weakest(low, high, heat["sink"], superheat, subcooling, work)
    flow_r = by_sink if by_source.startswith("off") else by_source
    cop, lorenz = _weakest(heat["sink"], power), liquids
    return {
        "source_heat_w": heat["source"],
        "sink_heat_w": heat["sink"],
        "source_flow_kg_s": flow["source"],
        "sink_flow_kg_s": flow["sink"],
        "refrigerant_flow_kg_s": flow_r,
        "cop": cop,
        "cooling_cop": _weakest(heat["source"], power),
        "carnot_cop": _weakest(low, high),
        "lorenz_cop": lorenz,
        "lorenz_efficiency": _weakest(cop, lorenz),
        "evaporating_temp_degc": low,
        "condensing_temp_degc": high,
        "superheat_k": _weakest(low, _needs(points, "suction_temp_degc")),
        "subcooling_k": _weakest(high, _needs(points, "liquid_temp_degc")),
        "evaporator_approach_k": _weakest(
            low, _needs(points, "source_outlet_temp_degc")
        ),
        "condenser_approach_k": _weakest(high, _needs(points, "sink_outlet_temp_degc")),
        "evaporator_ua_w_k": _weakest(
            _needs(points, "source_inlet_temp_degc", "source_outlet_temp_degc"),
            by_source,
        ),
        "condenser_ua_w_k": _weakest(
            _needs(points, "sink_inlet_temp_degc", "sink_outlet_temp_degc"), by_sink
        ),
        "isentropic_efficiency": _weakest(low, high, superheat, work),
        "volumetric_efficiency": _weakest(
            flow_r,
            _needs(points, "compressor_speed_hz"),
            "inferred: swept volume from calibration",
        ),
        "pressure_ratio": _weakest(low, high),
        "energy_balance_error": (
            _weakest(power, heat["source"], heat["sink"])
            if have["source"] and have["sink"]
            else "off: needs "
            + ", ".join(f"{side}_flow_m3_s" for side in have if not have[side])
        ),
    }


def _exchanger_capabilities(exchanger: Exchanger) -> dict[str, str]:
    points = exchanger.points
    ends = (
        "hot_inlet_temp_degc",
        "hot_outlet_temp_degc",
        "cold_inlet_temp_degc",
        "cold_outlet_temp_degc",
    )
    flows = ("hot_flow_m3_s", "cold_flow_m3_s")
    known = [name for name in flows if name in points]
    one = "measured"
    if not known:
        one = "off: needs hot_flow_m3_s or cold_flow_m3_s"
    elif len(known) == 1:
        one = f"inferred: heat of the side that has {known[0]}"
    sides = [_needs(points, *ends[:2]), _needs(points, *ends[2:])]
    heat = one
    if known == [flows[0]]:
        heat = _weakest(sides[0]) if sides[0] != "measured" else "measured"
    elif known == [flows[1]]:
        heat = _weakest(sides[1]) if sides[1] != "measured" else "measured"
    elif known:
        heat = _weakest(*sides)
    return {
        "exchanger_heat_w": heat,
        "exchanger_ua_w_k": _weakest(one, _needs(points, *ends)),
        "exchanger_effectiveness": _weakest(one, _needs(points, *ends)),
        "exchanger_balance_error": _needs(points, *flows, *ends),
    }
