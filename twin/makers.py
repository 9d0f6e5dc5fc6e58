"""Machines from what their makers print: tables of points, polynomials.

A nameplate alone is :func:`twin.heatpump.from_nameplate`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from twin import compressor, fluids
from twin.heatpump import HeatPump, Reason, from_nameplate
from twin.plant import Compressor, Coolant, Machine, Nameplate
from twin.points import nearest

Array = NDArray[np.float64]

_WATER = Coolant()
MAP_COLUMNS: tuple[str, ...] = (
    "source_inlet_temp_degc",
    "sink_outlet_temp_degc",
    "sink_heat_w",
    "compressor_power_w",
)
"""What a maker's table has to say of each point."""

# What a table of points tells, and how far it may move from a typical machine.
_FREE: tuple[tuple[str, float], ...] = (
    ("evaporator_ua_w_k", 1.0),
    ("condenser_ua_w_k", 1.0),
    ("swept_flow_m3_s", 1.0),
    ("isentropic_efficiency", 0.2),
    ("isentropic_pressure_slope", 0.1),
    ("isentropic_pressure_curvature", 0.05),
    ("volumetric_pressure_slope", 0.05),
)
_LOGARITHMIC = frozenset({"evaporator_ua_w_k", "condenser_ua_w_k", "swept_flow_m3_s"})
_PRINTED = 0.01  # what a printed point may be off by, as a share


class MapError(ValueError):
    """A maker's table or polynomial that no machine can be made of."""


def from_map(
    points: pd.DataFrame,
    refrigerant: str,
    *,
    kind: Compressor = Compressor.SCREW,
    source: Coolant = _WATER,
    sink: Coolant = _WATER,
    source_drop: float = 3.0,
    sink_rise: float = 5.0,
    name: str = "map",
) -> HeatPump:
    """Make a machine of a maker's table of points at full speed.

    Seven parameters (both conductances, swept volume, four of the compressor's
    map) are fitted to heat and power together, each held to a typical machine
    of its kind as far as the table does not say otherwise.

    Parameters
    ----------
    points : DataFrame
        Columns :data:`MAP_COLUMNS`. [degC, W]
    refrigerant : str
        One of :data:`twin.fluids.REFRIGERANTS`.
    kind : Compressor
        What the typical curves are taken from.
    source, sink : Coolant
        The liquids.
    source_drop, sink_rise : float
        By how much the liquids' temperatures change at every point, as test
        standards prescribe where the table does not say. [K]
    name : str
        What errors call the table.

    Returns
    -------
    HeatPump
        The machine, whose rated speed of 50 Hz is the table's.

    Raises
    ------
    MapError
        If a column is missing, fewer than four points are usable, or no
        parameters fit them.
    FluidError
        If the refrigerant or a coolant cannot be used.
    """
    from scipy.optimize import least_squares

    table = _table(points, name)
    if len(table) < 4:
        raise MapError(
            f"{name}: {len(table)} usable points; four or more are needed, with heat "
            "and power positive"
        )
    middle = table.iloc[
        int(np.argsort(np.abs(table["cop"] - table["cop"].median()).to_numpy())[0])
    ]
    start = from_nameplate(
        Machine(
            id=name,
            refrigerant=refrigerant,
            compressor=kind,
            source=source,
            sink=sink,
            nameplate=Nameplate(
                sink_heat_w=float(middle["sink_heat_w"]),
                power_w=float(middle["compressor_power_w"]),
                source_inlet_temp_degc=float(middle["source_inlet_temp_degc"]),
                source_outlet_temp_degc=float(middle["source_inlet_temp_degc"])
                - source_drop,
                sink_inlet_temp_degc=float(middle["sink_outlet_temp_degc"]) - sink_rise,
                sink_outlet_temp_degc=float(middle["sink_outlet_temp_degc"]),
            ),
        )
    )
    conditions = _conditions(
        start, table, source_drop, sink_rise, table["sink_heat_w"].to_numpy()
    )
    conditions["compressor_speed_hz"] = start.rated_speed_hz
    typical = start.parameters.to_dict()
    names = [free for free, _ in _FREE]
    spread = np.array([size for _, size in _FREE])
    wanted = np.log(table[["sink_heat_w", "compressor_power_w"]].to_numpy())

    def machine(moved: Array) -> HeatPump:
        values = {}
        for free, size, step in zip(names, spread, moved, strict=True):
            if free in _LOGARITHMIC:
                values[free] = typical[free] * float(np.exp(size * step))
            else:
                values[free] = typical[free] + float(size * step)
        return start.replace(**values)

    def misses(moved: Array) -> Array:
        answer = machine(moved).predict(conditions)
        got = np.log(answer[["sink_heat_w", "compressor_power_w"]].to_numpy())
        # A point without an answer must not look like one that fits.
        miss = np.where(np.isfinite(got), (got - wanted) / _PRINTED, 50.0)
        return np.concatenate([miss.ravel(), moved])

    fit = least_squares(misses, np.zeros(len(names)), method="trf", max_nfev=60)
    answer = machine(fit.x)
    reasons = answer.predict(conditions)["reason"]
    if (reasons != Reason.SOLVED).mean() > 0.2:
        why = Reason(int(reasons[reasons != Reason.SOLVED].mode().iloc[0])).name
        raise MapError(
            f"{name}: {int((reasons != 0).sum())} of {len(table)} points have no cycle "
            f"({why.lower()}) with {refrigerant}; is that the refrigerant?"
        )
    return answer


def rate(
    machine: HeatPump,
    points: pd.DataFrame,
    *,
    source_drop: float = 3.0,
    sink_rise: float = 5.0,
) -> pd.DataFrame:
    """Predict a machine at the points of a table, as its maker states them.

    Parameters
    ----------
    machine : HeatPump
        The machine, at its rated speed.
    points : DataFrame
        ``source_inlet_temp_degc`` and ``sink_outlet_temp_degc``; what else
        stands there is not looked at. [degC]
    source_drop, sink_rise : float
        By how much the liquids' temperatures change. [K]

    Returns
    -------
    DataFrame
        As from :meth:`HeatPump.predict`; the flows are those that give the
        prescribed temperature changes.

    Raises
    ------
    MapError
        If a column is missing.
    """
    for column in MAP_COLUMNS[:2]:
        _need(points, column, "rate")
    heat = np.full(len(points), np.nan)
    rated = machine.parameters.sink_flow_rated_kg_s
    heat[:] = rated * 4180.0 * sink_rise
    answer = pd.DataFrame()
    for _ in range(6):  # flow follows heat, and heat barely follows flow
        conditions = _conditions(machine, points, source_drop, sink_rise, heat)
        conditions["compressor_speed_hz"] = machine.rated_speed_hz
        answer = machine.predict(conditions)
        heat = answer["sink_heat_w"].to_numpy()
    return answer


def from_polynomials(
    machine: Machine,
    *,
    power: ArrayLike,
    refrigerant_flow: ArrayLike | None = None,
    capacity: ArrayLike | None = None,
    superheat: float = 10.0,
    subcooling: float = 0.0,
    evaporating: tuple[float, float] = (-5.0, 20.0),
    condensing: tuple[float, float] = (40.0, 70.0),
) -> HeatPump:
    r"""Make a machine with a compressor that its maker prints as polynomials.

    Exchangers and flows come from the nameplate, the compressor's two
    efficiency maps from the ten-coefficient polynomials, over their envelope:

    .. math:: \eta_{is}\eta_{em} = \dot m (h_{2s} - h_1)/P, \quad
              \eta_v \dot V_{swept} = \dot m/\rho_1

    Parameters
    ----------
    machine : Machine
        As configured.
    power : array_like
        Ten coefficients of the electrical power. [W]
    refrigerant_flow : array_like, optional
        Ten coefficients of the mass flow. [kg/s]
    capacity : array_like, optional
        Ten coefficients of the cooling capacity, if no mass flow is printed.
        [W]
    superheat, subcooling : float
        At which they were measured: 10 K and 0 K by EN 12900. [K]
    evaporating, condensing : tuple of float
        The envelope of dew-point temperatures. [degC]

    Returns
    -------
    HeatPump
        The machine.

    Raises
    ------
    MapError
        If neither flow nor capacity is given, or the numbers make no
        compressor: they are in another unit, or beyond the refrigerant.
    ValueError
        If there are not ten coefficients.

    References
    ----------
    .. [1] EN 12900:2013; AHRI Standard 540-2020.
    """
    if (refrigerant_flow is None) == (capacity is None):
        raise MapError(
            f"{machine.id}: give the polynomial of the refrigerant flow, or that of "
            "the cooling capacity, and not both"
        )
    base = from_nameplate(machine)
    fluid = fluids.refrigerant(machine.refrigerant)
    grid_e, grid_c = np.meshgrid(
        np.linspace(*evaporating, 9), np.linspace(*condensing, 9)
    )
    t_e, t_c = grid_e.ravel(), grid_c.ravel()
    rho1, h1, s1 = fluid.suction_state(t_e, superheat)
    h3 = fluid.subcooled_enthalpy(t_c, subcooling)
    drawn = compressor.ten_coefficients(power, t_e, t_c)
    if refrigerant_flow is not None:
        flow = compressor.ten_coefficients(refrigerant_flow, t_e, t_c)
    else:
        flow = compressor.ten_coefficients(np.asarray(capacity), t_e, t_c) / (h1 - h3)
    ratio = fluid.saturation_pressure(t_c) / fluid.saturation_pressure(t_e)
    overall = flow * (fluid.isentropic_enthalpy(t_c, s1) - h1) / drawn
    volume = flow / rho1
    good = np.isfinite(overall) & (overall > 0.0) & (drawn > 0.0) & (ratio > 1.2)
    middle = float(np.median(overall[good])) if good.any() else np.nan
    if good.mean() < 0.5 or not 0.1 < middle < 0.95:
        raise MapError(
            f"{machine.id}: the polynomials make an overall compressor efficiency of "
            f"{middle:.3g} over the envelope; power must be in W, flow in kg/s, "
            "capacity in W, temperatures in degC, in the standard's order C1 to C10"
        )
    d = ratio[good] - 3.0
    shape = np.polynomial.polynomial.polyfit(d, overall[good], 2)
    shape = shape / base.parameters.motor_efficiency
    line = np.polynomial.polynomial.polyfit(ratio[good] - 1.0, volume[good], 1)
    return base.replace(
        isentropic_efficiency=float(shape[0]),
        isentropic_pressure_slope=float(shape[1]),
        isentropic_pressure_curvature=float(shape[2]),
        # Referred to no lift: swept flow is then the drawn one at ratio 1.
        volumetric_efficiency=1.0,
        volumetric_pressure_slope=float(-line[1] / line[0]),
        swept_flow_m3_s=float(line[0]),
    )


def _table(points: pd.DataFrame, name: str) -> pd.DataFrame:
    for column in MAP_COLUMNS:
        _need(points, column, name)
    table = points.loc[:, list(MAP_COLUMNS)].astype(float)
    good = table.notna().all(axis=1)
    good &= (table["sink_heat_w"] > 0.0) & (table["compressor_power_w"] > 0.0)
    table = table[good]
    return table.assign(cop=table["sink_heat_w"] / table["compressor_power_w"])


def _need(points: pd.DataFrame, column: str, name: str) -> None:
    if column not in points.columns:
        near = nearest(column, [str(c) for c in points.columns])
        raise MapError(
            f'{name}: the table has no column "{column}"'
            + (f'; is it "{near}"?' if near else "")
        )


def _conditions(
    machine: HeatPump,
    points: pd.DataFrame,
    source_drop: float,
    sink_rise: float,
    heat: Array,
) -> pd.DataFrame:
    t_s = points["source_inlet_temp_degc"].to_numpy(dtype=float)
    t_k = points["sink_outlet_temp_degc"].to_numpy(dtype=float) - sink_rise
    cp_s = fluids.heat_capacity(machine.source, t_s - 0.5 * source_drop)
    cp_k = fluids.heat_capacity(machine.sink, t_k + 0.5 * sink_rise)
    cooling = heat * 0.75  # a flow to 10 % is enough: it acts through the film only
    return pd.DataFrame(
        {
            "source_inlet_temp_degc": t_s,
            "sink_inlet_temp_degc": t_k,
            "source_flow_kg_s": cooling / (cp_s * source_drop),
            "sink_flow_kg_s": heat / (cp_k * sink_rise),
        },
        index=points.index,
    )
