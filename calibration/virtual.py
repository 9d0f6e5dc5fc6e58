"""What nobody measures, from what is: pressures, a flow, the heat of a side.

Each estimate has the interval that the data leave it, and stays apart from what
is measured: its columns say ``estimated_``. A flow and a heat follow from the
energy balance of the row; saturation states from the machine's model, whose
parameters are as uncertain as these windows leave them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibration.degradation import MEMORY_S, drifts_since_baseline, problem_of
from calibration.model import Model, conditions, heat_pump
from calibration.period import thin
from twin import fluids
from twin.plant import Machine

Array = NDArray[np.float64]

ESTIMATED = "estimated_"
STATES = (
    "evaporating_temp_degc",
    "condensing_temp_degc",
    "suction_pressure_pa",
    "compressor_discharge_pressure_pa",
)
"""What only a pressure shows."""
_BEHIND: Mapping[str, str] = MappingProxyType(
    {
        "evaporating_temp_degc": "suction_pressure_pa",
        "condensing_temp_degc": "compressor_discharge_pressure_pa",
    }
)
# What a machine may be that was bought to a nameplate, 1 sigma; of the logarithm
# where True. Conductances and efficiency are as open as for the reference's fit.
_DOUBT: Mapping[str, tuple[bool, float]] = MappingProxyType(
    {
        "evaporator_ua_w_k": (True, 0.5),
        "condenser_ua_w_k": (True, 0.5),
        "isentropic_efficiency": (True, 0.2),
        "isentropic_pressure_slope": (False, 0.05),
        "isentropic_speed_slope": (False, 0.15),
        "swept_flow_m3_s": (True, 0.4),
        "volumetric_pressure_slope": (False, 0.02),
        "volumetric_leak": (False, 0.02),
        "motor_efficiency": (True, 0.03),
        "heat_loss_ratio": (False, 0.03),
        "idle_loss_ratio": (False, 0.02),
        "superheat_k": (False, 2.0),
        "subcooling_k": (False, 2.0),
        "superheat_zone_ratio": (True, 0.4),
        "desuperheat_zone_ratio": (True, 0.4),
        "subcool_zone_ratio": (True, 0.4),
        "evaporator_flow_exponent": (False, 0.15),
        "condenser_flow_exponent": (False, 0.15),
        "evaporator_refrigerant_exponent": (False, 0.2),
        "condenser_refrigerant_exponent": (False, 0.2),
    }
)
# What lines and exchangers lose in pressure is not in the physics. Lines are sized to
# lose up to 1 K of saturation temperature on the suction side and less on the
# discharge side (ASHRAE Handbook - Refrigeration, ch. 1), so half of that is taken:
# mean and 1 sigma at the instruments, which sit at the compressor. An evaporator that
# dries out before its end is colder than one conductance makes it, which the wider
# one holds too; it was 0.6 K and held 7 of 10. [K]
_LINES = {
    "evaporating_temp_degc": (-0.5, 1.2),
    "condensing_temp_degc": (0.3, 0.4),
}
# What meters and a coolant's recipe may be wrong by from the beginning, 1 sigma,
# unless the machine's configuration knows better: kelvins, and shares.
_PROBE_K, _FLOW, _POWER, _COOLANT = 0.10, 0.01, 0.01, 0.01
_LOSS = 0.04  # of the electrical power, which leaves as heat to the room
_LEAST_CHANGE_K = 0.5
_MOST_ROWS = 150
_95 = 1.96


def estimate(windows: pd.DataFrame, model: Model, machine: Machine) -> pd.DataFrame:
    """Say what is not measured: saturation states, unmetered heat, unmetered flow.

    Parameters
    ----------
    windows : DataFrame
        Of :func:`calibration.steady.windows`; some days of them, for their steady
        part tells how well the machine is known.
    model : Model
        The current model, or the reference.
    machine : Machine
        As configured: ``points`` says what is measured.

    Returns
    -------
    DataFrame
        For each quantity that no instrument of this machine shows the columns
        ``estimated_<quantity>``, ``..._low`` and ``..._high``, its 95 % interval:
        of :data:`STATES`, ``source_heat_w`` or ``sink_heat_w``, and the flow of a
        side without a meter in kg/s. NaN at standstill and where there is no
        answer; no columns where everything is measured. [degC, Pa, W, kg/s]

    Notes
    -----
    Heat of one side is that of the other, plus or less the electrical power that
    does not warm the room; flow is heat over heat capacity and the rise of the
    liquid. Pressures are the model's at the row's conditions. Parameters of the
    machine are as open as its nameplate leaves them, less what these windows say
    of them by what is measured, drifts of the instruments included.
    """
    columns = _saturation(windows, model, machine)
    columns |= _unmetered(windows, model, machine)
    table = pd.DataFrame(index=windows.index)
    for name, (value, low, high) in columns.items():
        table[f"{ESTIMATED}{name}"] = value
        table[f"{ESTIMATED}{name}_low"] = low
        table[f"{ESTIMATED}{name}_high"] = high
    return table


def newest(table: pd.DataFrame) -> dict[str, dict[str, object]]:
    """Return the last row of each quantity that has one.

    Parameters
    ----------
    table : DataFrame
        Of :func:`estimate`.

    Returns
    -------
    dict
        By quantity ``value``, ``low``, ``high``, in its unit, and ``time``. UTC.
    """
    found: dict[str, dict[str, object]] = {}
    for column in map(str, table.columns):
        if column.endswith(("_low", "_high")):
            continue
        names = [column, f"{column}_low", f"{column}_high"]
        known = table[names].dropna()
        if not len(known):
            continue
        value, low, high = known.to_numpy(dtype=float)[-1]
        found[column.removeprefix(ESTIMATED)] = {
            "value": float(value),
            "low": float(low),
            "high": float(high),
            "time": pd.DatetimeIndex(known.index)[-1].to_pydatetime(),
        }
    return found


Range = tuple[Array, Array, Array]


def _measured(name: str, windows: pd.DataFrame, machine: Machine) -> bool:
    told = name in (machine.points or windows) and name in windows
    return told and bool(windows[name].notna().any())


def _runs(windows: pd.DataFrame) -> NDArray[np.bool_]:
    if "compressor_running" not in windows:
        return np.ones(len(windows), dtype=bool)
    return windows["compressor_running"].to_numpy(dtype=float) > 0.5


# --- what only a pressure shows -----------------------------------------------------


def _saturation(
    windows: pd.DataFrame, model: Model, machine: Machine
) -> dict[str, Range]:
    """Return saturation temperatures and pressures without an instrument."""
    missing = [
        name
        for name, pressure in _BEHIND.items()
        if not _measured(pressure, windows, machine)
    ]
    steady = windows[windows["steady"].to_numpy(dtype=bool)]
    steady = steady[conditions(steady, model).notna().all(axis=1).to_numpy()]
    if not missing or not len(steady):
        return {}
    pump = heat_pump(model)
    fluid = fluids.refrigerant(pump.refrigerant)
    asked = conditions(windows, model)
    asked.loc[~_runs(windows)] = np.nan
    names = list(_DOUBT)
    values = pump.parameters.to_dict()
    scale = np.array([values[n] if _DOUBT[n][0] else 1.0 for n in names])
    covariance = _left_open(thin(steady, _MOST_ROWS), model, machine, names, scale)
    answer, slopes = pump.slopes(pump.question(asked, model.given), missing, names)
    slopes = slopes * scale
    variance = np.einsum("rok,kl,rol->ro", slopes, covariance, slopes)
    found: dict[str, Range] = {}
    for k, name in enumerate(missing):
        lost, doubt = _LINES[name]
        value = answer[:, k] + lost
        half = _95 * np.sqrt(variance[:, k] + doubt**2)
        found[name] = (value, value - half, value + half)
        low, middle, high = (
            fluid.saturation_pressure(degc)
            for degc in (value - half, value, value + half)
        )
        found[_BEHIND[name]] = (middle, low, high)
    return found


def _left_open(
    steady: pd.DataFrame,
    model: Model,
    machine: Machine,
    names: Sequence[str],
    scale: Array,
) -> Array:
    """Return the parameters' covariance after what these windows say of them."""
    pump = heat_pump(model)
    problem = problem_of(steady, model)
    problem.hold(pump)
    drifting = problem.drifting(pump, drifts_since_baseline(model, machine, steady))
    by_name = problem.whitened(problem.jacobian(pump, names) * scale)
    full = np.hstack([by_name, problem.whitened(drifting.effects)])
    alike = max(MEMORY_S / float(steady["window_s"].median()), 1.0)
    prior = np.concatenate([[_DOUBT[name][1] for name in names], drifting.sigma])
    precision = full.T @ full / alike + np.diag(prior**-2.0)
    return np.asarray(np.linalg.inv(precision)[: len(names), : len(names)])


# --- what the energy balance shows --------------------------------------------------


def _unmetered(
    windows: pd.DataFrame, model: Model, machine: Machine
) -> dict[str, Range]:
    """Return heat and flow of a side without a meter, from the other and the power."""
    bare = [
        side
        for side in ("source", "sink")
        if not _measured(f"{side}_flow_m3_s", windows, machine)
        and not _measured(f"{side}_energy_j", windows, machine)
    ]
    if len(bare) != 1 or "compressor_power_w" not in windows:
        return {}
    (side,) = bare
    other = "sink" if side == "source" else "source"
    coolants = {"source": machine.source, "sink": machine.sink}
    own = heat_pump(model).parameters
    gained = own.motor_efficiency * (1.0 - own.heat_loss_ratio)
    sign = 1.0 if side == "sink" else -1.0
    on = np.where(_runs(windows), 1.0, np.nan)
    power = windows["compressor_power_w"].to_numpy(dtype=float) * on
    metered = windows[f"{other}_heat_w"].to_numpy(dtype=float) * on
    heat = metered + sign * gained * power
    meter = np.hypot.reduce(
        [
            np.full(
                len(windows), _known(machine, f"{other}_flow_m3_s", windows, _FLOW)
            ),
            np.full(len(windows), _COOLANT),
            _pair(machine, windows, other),
        ]
    )
    watt = _known(machine, "compressor_power_w", windows, _POWER)
    sigma = np.hypot.reduce([metered * meter, gained * power * watt, power * _LOSS])
    found = {f"{side}_heat_w": _within(heat, sigma)}
    ends = [f"{side}_{end}_temp_degc" for end in ("inlet", "outlet")]
    if not all(_measured(name, windows, machine) for name in ends):
        return found
    first, last = (windows[name].to_numpy(dtype=float) for name in ends)
    change = sign * (last - first)
    capacity = fluids.heat_capacity(coolants[side], 0.5 * (first + last))
    with np.errstate(invalid="ignore", divide="ignore"):
        flow = np.where(change > _LEAST_CHANGE_K, heat / (capacity * change), np.nan)
        share = np.hypot.reduce(
            [
                sigma / heat,
                np.full(len(windows), _COOLANT),
                _pair(machine, windows, side),
            ]
        )
    return found | {f"{side}_flow_kg_s": _within(flow, flow * share)}


def _within(value: Array, sigma: Array) -> Range:
    half = _95 * sigma
    return value, value - half, value + half


def _known(machine: Machine, point: str, windows: pd.DataFrame, usual: float) -> float:
    """Return an instrument's relative standard uncertainty. [1]."""
    if point not in machine.uncertainty or point not in windows:
        return usual
    ran = windows[point][_runs(windows)]
    return float(machine.uncertainty[point] / ran.median())


def _pair(machine: Machine, windows: pd.DataFrame, side: str) -> Array:
    """Return how uncertain two probes leave the change of a side's liquid. [1]."""
    ends = [f"{side}_{end}_temp_degc" for end in ("inlet", "outlet")]
    off = np.hypot.reduce([machine.uncertainty.get(name, _PROBE_K) for name in ends])
    first, last = (windows[name].to_numpy(dtype=float) for name in ends)
    return np.asarray(off / np.maximum(np.abs(last - first), _LEAST_CHANGE_K))
