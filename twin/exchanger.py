"""Heat exchangers between two liquids, and the mean difference that drives them.

Explicit throughout. The evaporator and the condenser of a heat pump are zones
of :mod:`twin.cycle`; coolant distribution units, heat-network stations and the
strainers and pumps around them are here.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from twin import fluids
from twin.plant import Coolant
from twin.points import nearest

Array = NDArray[np.float64]

_WATER = Coolant()


def log_mean_temp_difference(end_a: ArrayLike, end_b: ArrayLike) -> Array:
    r"""Mean temperature difference that drives a heat exchanger.

    The constant difference that would move the same heat as the real, varying
    one [1]_:

    .. math:: \Delta T_m = (\Delta T_a - \Delta T_b) / \ln(\Delta T_a / \Delta T_b)

    Parameters
    ----------
    end_a, end_b : array_like
        Hot-side less cold-side temperature at either end. [K]

    Returns
    -------
    ndarray
        The mean, that of the limit for equal ends; NaN where an end is not
        positive, because streams that cross mean that a sensor lies. [K]

    References
    ----------
    .. [1] T. L. Bergman et al., Introduction to Heat Transfer, 6th ed.,
       Wiley 2011, sec. 11.3.
    """
    a, b = np.broadcast_arrays(
        np.asarray(end_a, dtype=float), np.asarray(end_b, dtype=float)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        good = (a > 0.0) & (b > 0.0)
        d = (a - b) / (a + b)
        near = np.abs(d) < 1e-3
        quotient = (a - b) / np.log(np.where(near, 2.0, a / b))
        series = 0.5 * (a + b) * (1.0 - d**2 / 3.0 - 4.0 * d**4 / 45.0)
        return np.where(good, np.where(near, series, quotient), np.nan)


def effectiveness(
    transfer_units: ArrayLike, capacity_ratio: ArrayLike, arrangement: str = "counter"
) -> Array:
    r"""Heat exchanged over the most that could be.

    Parameters
    ----------
    transfer_units : array_like
        Conductance over the smaller capacity flow. [1]
    capacity_ratio : array_like
        Smaller over larger capacity flow, 0 to 1. [1]
    arrangement : str
        ``"counter"``, ``"parallel"``, or ``"cross"`` with neither side mixed.

    Returns
    -------
    ndarray
        Effectiveness; NaN where an argument is negative or the ratio is above
        one. [1]

    Raises
    ------
    ValueError
        If the arrangement is none of the three.

    Notes
    -----
    .. math:: \epsilon_{counter} = \frac{1 - e^{-N(1-c)}}{1 - c\,e^{-N(1-c)}},\quad
              \epsilon_{cross} \approx
              1 - \exp\{[\exp(-c N^{0.78}) - 1] N^{0.22}/c\}

    References
    ----------
    .. [1] T. L. Bergman et al., Introduction to Heat Transfer, 6th ed.,
       Wiley 2011, table 11.3.
    """
    n, c = np.broadcast_arrays(
        np.asarray(transfer_units, dtype=float), np.asarray(capacity_ratio, dtype=float)
    )
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        good = (n >= 0.0) & (c >= 0.0) & (c <= 1.0)
        if arrangement == "counter":
            # -expm1 keeps the digits as the two capacity flows become equal.
            gain = -np.expm1(-n * (1.0 - c))
            balanced = n / (1.0 + n)
            value = np.where(1.0 - c < 1e-9, balanced, gain / ((1.0 - c) + c * gain))
        elif arrangement == "parallel":
            value = -np.expm1(-n * (1.0 + c)) / (1.0 + c)
        elif arrangement == "cross":
            small = -np.expm1(-n)
            value = -np.expm1(np.expm1(-c * n**0.78) * n**0.22 / c)
            value = np.where(c < 1e-9, small, np.where(n == 0.0, 0.0, value))
        else:
            raise ValueError(
                f'arrangement "{arrangement}" is none of counter, parallel, cross'
            )
        return np.where(good, value, np.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlateExchanger:
    """A plate exchanger between two liquids, in counterflow.

    Attributes
    ----------
    ua_w_k
        Clean conductance at the reference flows. [W/K]
    hot_flow_rated_kg_s, cold_flow_rated_kg_s
        The reference flows. [kg/s]
    hot_flow_exponent, cold_flow_exponent
        How a side's film resistance falls with its flow. [1]
    hot_share, cold_share
        Shares of the two films in the clean resistance at the reference flows;
        what is left is the wall. [1]
    fouling_k_w
        Resistance of the dirt, over the whole area. [K/W]
    hot, cold
        The liquids.
    """

    ua_w_k: float
    hot_flow_rated_kg_s: float
    cold_flow_rated_kg_s: float
    hot_flow_exponent: float = 0.7
    cold_flow_exponent: float = 0.7
    hot_share: float = 0.5
    cold_share: float = 0.5
    fouling_k_w: float = 0.0
    hot: Coolant = _WATER
    cold: Coolant = _WATER

    def __post_init__(self) -> None:
        for name in ("ua_w_k", "hot_flow_rated_kg_s", "cold_flow_rated_kg_s"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} = {value!r} is not a positive number")
        shares = (self.hot_share, self.cold_share)
        if min(shares) < 0.0 or sum(shares) > 1.0 + 1e-9:
            raise ValueError(
                f"hot_share {shares[0]:g} and cold_share {shares[1]:g} are shares of "
                "one resistance: none negative, together at most 1"
            )

    def conductance(self, hot_flow: ArrayLike, cold_flow: ArrayLike) -> Array:
        r"""Conductance at other flows.

        .. math:: \frac{1}{UA} = \frac{1}{UA_0} \left[ s_h
                  (\dot m_h/\dot m_{h0})^{-n_h} + s_c (\dot m_c/\dot m_{c0})^{-n_c}
                  + 1 - s_h - s_c \right] + R_f

        Parameters
        ----------
        hot_flow, cold_flow : array_like
            Mass flows. [kg/s]

        Returns
        -------
        ndarray
            Conductance; NaN where a liquid does not flow. [W/K]
        """
        h, c = np.broadcast_arrays(
            np.asarray(hot_flow, dtype=float), np.asarray(cold_flow, dtype=float)
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            h = np.where(h > 0.0, h, np.nan) / self.hot_flow_rated_kg_s
            c = np.where(c > 0.0, c, np.nan) / self.cold_flow_rated_kg_s
            wall = 1.0 - self.hot_share - self.cold_share
            films = (
                self.hot_share * h**-self.hot_flow_exponent
                + self.cold_share * c**-self.cold_flow_exponent
            )
            return np.asarray(1.0 / ((films + wall) / self.ua_w_k + self.fouling_k_w))

    def clean_conductance(self, hot_flow: ArrayLike, cold_flow: ArrayLike) -> Array:
        """Conductance at other flows, were it clean. [W/K]."""
        return dataclasses.replace(self, fouling_k_w=0.0).conductance(
            hot_flow, cold_flow
        )

    def predict(self, conditions: pd.DataFrame) -> pd.DataFrame:
        """Say what leaves the exchanger.

        Parameters
        ----------
        conditions : DataFrame
            ``hot_inlet_temp_degc``, ``cold_inlet_temp_degc``, ``hot_flow_m3_s``
            and ``cold_flow_m3_s``, metered at the inlets. [degC, m3/s]

        Returns
        -------
        DataFrame
            Outlet temperatures, heat, conductance and effectiveness, in the
            vocabulary; NaN where a liquid does not flow, is frozen, or the
            hot one is not the warmer. [degC, W, W/K, 1]

        Raises
        ------
        ValueError
            If a column is missing.
        """
        t = {
            name: _column(conditions, name)
            for name in (
                "hot_inlet_temp_degc",
                "cold_inlet_temp_degc",
                "hot_flow_m3_s",
                "cold_flow_m3_s",
            )
        }
        h_in, c_in = t["hot_inlet_temp_degc"], t["cold_inlet_temp_degc"]
        m_h = t["hot_flow_m3_s"] * fluids.density(self.hot, h_in)
        m_c = t["cold_flow_m3_s"] * fluids.density(self.cold, c_in)
        ua = self.conductance(m_h, m_c)
        h_out, c_out = h_in, c_in
        with np.errstate(invalid="ignore", divide="ignore"):
            # The heat capacities belong to mean temperatures not yet known;
            # each round gains three digits.
            for _ in range(6):
                c_h = m_h * fluids.heat_capacity(self.hot, 0.5 * (h_in + h_out))
                c_c = m_c * fluids.heat_capacity(self.cold, 0.5 * (c_in + c_out))
                small, large = np.minimum(c_h, c_c), np.maximum(c_h, c_c)
                eps = effectiveness(ua / small, small / large)
                heat = np.where(h_in >= c_in, eps * small * (h_in - c_in), np.nan)
                h_out, c_out = h_in - heat / c_h, c_in + heat / c_c
        return pd.DataFrame(
            {
                "hot_outlet_temp_degc": h_out,
                "cold_outlet_temp_degc": c_out,
                "exchanger_heat_w": heat,
                "exchanger_ua_w_k": np.where(np.isfinite(heat), ua, np.nan),
                "exchanger_effectiveness": np.where(np.isfinite(heat), eps, np.nan),
            },
            index=conditions.index,
        )


def fit_conductance(
    hot_flow: ArrayLike,
    cold_flow: ArrayLike,
    ua: ArrayLike,
    *,
    hot: Coolant = _WATER,
    cold: Coolant = _WATER,
    flow_exponent: float | None = None,
) -> PlateExchanger:
    r"""Find an exchanger's films from conductances at several flows.

    Wilson's plot [1]_, by non-negative least squares of the relative error:

    .. math:: 1/UA = w + a\,\dot m_h^{-n_h} + b\,\dot m_c^{-n_c}

    Parameters
    ----------
    hot_flow, cold_flow : array_like
        Mass flows. [kg/s]
    ua : array_like
        Conductances, from clean running. [W/K]
    hot, cold : Coolant
        The liquids.
    flow_exponent : float, optional
        Exponent of both films: 0.8 in turbulent tubes, 0.65 to 0.75 in plates.
        Left out, each film's own is sought between 0.3 and 1.2; that takes
        points at five or more pairs of flows. [1]

    Returns
    -------
    PlateExchanger
        Referred to the mean flows.

    Raises
    ------
    ValueError
        If there are fewer than three points with both flows and a conductance.

    References
    ----------
    .. [1] E. E. Wilson, Trans. ASME 37 (1915) 47.
    """
    from scipy.optimize import nnls

    h, c, u = (np.asarray(v, dtype=float) for v in (hot_flow, cold_flow, ua))
    good = np.isfinite(h) & np.isfinite(c) & np.isfinite(u)
    good &= (h > 0.0) & (c > 0.0) & (u > 0.0)
    h, c, u = h[good], c[good], u[good]
    pairs = len(np.unique(np.round(np.log(np.column_stack([h, c])), 2), axis=0))
    if pairs < (3 if flow_exponent is not None else 5):
        raise ValueError(
            f"conductances at {pairs} different pairs of flows; "
            "three are needed to tell two films and a wall apart, five to find their "
            "exponents as well"
        )
    h0, c0 = float(h.mean()), float(c.mean())

    def films(n_h: float, n_c: float) -> tuple[float, Array]:
        terms = np.column_stack([np.ones(len(u)), (h / h0) ** -n_h, (c / c0) ** -n_c])
        share, miss = nnls(terms * u[:, None], np.ones(len(u)))
        return float(miss), np.asarray(share)

    best = (flow_exponent or 0.7, flow_exponent or 0.7)
    if flow_exponent is None:
        for step in (0.1, 0.02):  # coarse over the whole range, then fine around it
            around = [np.arange(0.3, 1.21, 0.1)] * 2
            if step < 0.1:
                around = [np.arange(x - 0.1, x + 0.101, step) for x in best]
            best = min(
                ((a, b) for a in around[0] for b in around[1]),
                key=lambda pair: films(*pair)[0],
            )
    wall, a, b = films(*best)[1]
    total = wall + a + b
    return PlateExchanger(
        ua_w_k=float(1.0 / total),
        hot_flow_rated_kg_s=h0,
        cold_flow_rated_kg_s=c0,
        hot_flow_exponent=float(best[0]),
        cold_flow_exponent=float(best[1]),
        hot_share=float(a / total),
        cold_share=float(b / total),
        hot=hot,
        cold=cold,
    )


def flow_resistance(pressure_drop: ArrayLike, flow: ArrayLike) -> Array:
    r"""Resistance of a strainer or an exchanger's channels to flow.

    :math:`\Delta p = k\,\dot V^2`: for a clean strainer ``k`` is constant, and
    it grows as it clogs, whatever the flow does.

    Parameters
    ----------
    pressure_drop : array_like
        Pressure drop. [Pa]
    flow : array_like
        Volume flow. [m3/s]

    Returns
    -------
    ndarray
        ``k``; NaN where nothing flows or the drop is negative. [Pa/(m3/s)2]
    """
    dp, v = np.asarray(pressure_drop, dtype=float), np.asarray(flow, dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((v > 0.0) & (dp >= 0.0), dp / v**2, np.nan)


def pressure_drop(resistance: ArrayLike, flow: ArrayLike) -> Array:
    """Pressure drop of a flow resistance, the inverse of :func:`flow_resistance`.

    Parameters
    ----------
    resistance : array_like
        Resistance. [Pa/(m3/s)2]
    flow : array_like
        Volume flow. [m3/s]

    Returns
    -------
    ndarray
        Pressure drop; NaN for a negative flow. [Pa]
    """
    v = np.asarray(flow, dtype=float)
    with np.errstate(invalid="ignore"):
        return np.where(v >= 0.0, np.asarray(resistance, dtype=float) * v**2, np.nan)


def pump_power(
    flow: ArrayLike, pressure_rise: ArrayLike, efficiency: ArrayLike = 0.6
) -> Array:
    """Electrical power of a pump.

    Parameters
    ----------
    flow : array_like
        Volume flow. [m3/s]
    pressure_rise : array_like
        What the pump adds. [Pa]
    efficiency : array_like
        Of pump, motor and drive together. [1]

    Returns
    -------
    ndarray
        Power; NaN where flow or rise is negative or the efficiency not between
        0 and 1. [W]
    """
    v, dp, eta = (np.asarray(x, dtype=float) for x in (flow, pressure_rise, efficiency))
    with np.errstate(invalid="ignore", divide="ignore"):
        good = (v >= 0.0) & (dp >= 0.0) & (eta > 0.0) & (eta <= 1.0)
        return np.where(good, v * dp / eta, np.nan)


def _column(conditions: pd.DataFrame, name: str) -> Array:
    if name not in conditions.columns:
        near = nearest(name, [str(c) for c in conditions.columns])
        raise ValueError(
            f'conditions have no column "{name}"'
            + (f'; is it "{near}"?' if near else "")
        )
    return conditions[name].to_numpy(dtype=float)
