"""Dry and adiabatic coolers: what is thrown to the air, and what the fans draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twin import fluids
from twin.exchanger import effectiveness
from twin.plant import Coolant
from twin.points import nearest

Array = NDArray[np.float64]

_AIR_HEAT_CAPACITY = 1006.0  # J/(kg K), dry air at 20 degC
_WATER = Coolant()


@dataclass(frozen=True, slots=True, kw_only=True)
class DryCooler:
    """A finned cooler with fans, dry or with wetted pads ahead of it.

    Attributes
    ----------
    ua_w_k
        Conductance at rated liquid and air flow. [W/K]
    air_flow_rated_kg_s
        Air flow at full fan speed. [kg/s]
    flow_rated_kg_s
        Rated liquid flow. [kg/s]
    fan_power_rated_w
        Electrical power at full fan speed. [W]
    air_share
        The air side's share of the resistance at rated flows. [1]
    air_exponent, liquid_exponent
        How a side's resistance falls with its flow. [1]
    fouling_k_w
        Resistance of dirt on fins or tubes. [K/W]
    pad_effectiveness
        How far wetted pads bring the air from dry to wet bulb; 0 is dry. [1]
    coolant
        The liquid.
    """

    ua_w_k: float
    air_flow_rated_kg_s: float
    flow_rated_kg_s: float
    fan_power_rated_w: float
    air_share: float = 0.7
    air_exponent: float = 0.6
    liquid_exponent: float = 0.7
    fouling_k_w: float = 0.0
    pad_effectiveness: float = 0.0
    coolant: Coolant = _WATER

    def predict(self, conditions: pd.DataFrame) -> pd.DataFrame:
        r"""Say what a cooler does at a fan speed.

        Parameters
        ----------
        conditions : DataFrame
            ``rejector_inlet_temp_degc``, ``rejector_flow_m3_s``,
            ``outdoor_temp_degc``, ``fan_speed_ratio`` (0 stopped, 1 full), and
            ``wet_bulb_temp_degc`` if the pads are wetted. [degC, m3/s, 1]

        Returns
        -------
        DataFrame
            ``rejector_outlet_temp_degc``, ``rejected_heat_w``, ``fan_power_w``;
            NaN where the liquid does not flow or is frozen. Stopped fans
            reject nothing. Outdoor air warmer than the liquid heats it: the
            heat is then negative, as it is in the plant. [degC, W]

        Raises
        ------
        ValueError
            If a column is missing.

        Notes
        -----
        Crossflow, neither side mixed; fans after the affinity laws, power with
        the cube of the speed. Wet bulb: :math:`T_{air} = T_{db} - \epsilon_p
        (T_{db} - T_{wb})`. Natural draught is left out.
        """
        t_in = _column(conditions, "rejector_inlet_temp_degc")
        volume = _column(conditions, "rejector_flow_m3_s")
        speed = np.clip(_column(conditions, "fan_speed_ratio"), 0.0, 1.0)
        return self._at(t_in, volume, self._air(conditions), speed, conditions.index)

    def fan_speed(
        self, conditions: pd.DataFrame, outlet_temp_degc: float
    ) -> pd.Series[float]:
        """Find the fan speed that holds an outlet temperature.

        Parameters
        ----------
        conditions : DataFrame
            As for :meth:`predict`, without the fan speed. [degC, m3/s]
        outlet_temp_degc : float
            Liquid temperature to be held. [degC]

        Returns
        -------
        Series
            Fan speed over full speed: 0 where no cooling is wanted, NaN where
            even full speed does not reach it. [1]

        Raises
        ------
        ValueError
            If a column is missing.
        """
        t_in = _column(conditions, "rejector_inlet_temp_degc")
        volume = _column(conditions, "rejector_flow_m3_s")
        air = self._air(conditions)

        def outlet(speed: Array) -> Array:
            frame = self._at(t_in, volume, air, speed, conditions.index)
            return frame["rejector_outlet_temp_degc"].to_numpy()

        low, high = np.zeros(len(t_in)), np.ones(len(t_in))
        reachable = outlet(high) <= outlet_temp_degc
        for _ in range(50):  # more air always cools more, so bisect
            middle = 0.5 * (low + high)
            warm = outlet(middle) > outlet_temp_degc
            low, high = np.where(warm, middle, low), np.where(warm, high, middle)
        idle = t_in <= outlet_temp_degc
        answer = np.where(idle, 0.0, np.where(reachable, high, np.nan))
        return pd.Series(answer, index=conditions.index, name="fan_speed_ratio")

    def capacity(
        self, inlet_temp: float, outdoor_temp: float, flow: float | None = None
    ) -> float:
        """Heat that full fan speed rejects.

        Parameters
        ----------
        inlet_temp, outdoor_temp : float
            Liquid and (dry) air into the cooler. [degC]
        flow : float, optional
            Liquid volume flow; the rated one if left out. [m3/s]

        Returns
        -------
        float
            Capacity. [W]
        """
        rated = self.flow_rated_kg_s / float(fluids.density(self.coolant, inlet_temp))
        frame = self._at(
            np.array([inlet_temp]),
            np.array([rated if flow is None else flow]),
            np.array([outdoor_temp]),
            np.ones(1),
            pd.RangeIndex(1),
        )
        return float(frame["rejected_heat_w"].iloc[0])

    def _air(self, conditions: pd.DataFrame) -> Array:
        dry = _column(conditions, "outdoor_temp_degc")
        if self.pad_effectiveness <= 0.0:
            return dry
        wet = _column(conditions, "wet_bulb_temp_degc")
        return dry - self.pad_effectiveness * (dry - wet)

    def _at(
        self, t_in: Array, volume: Array, air: Array, speed: Array, index: pd.Index
    ) -> pd.DataFrame:
        with np.errstate(invalid="ignore", divide="ignore"):
            volume = np.where(volume > 0.0, volume, np.nan)
            flow = volume * fluids.density(self.coolant, t_in)
            blown = speed > 0.0
            c_a = speed * self.air_flow_rated_kg_s * _AIR_HEAT_CAPACITY
            films = self.air_share * np.where(blown, speed, np.nan) ** (
                -self.air_exponent
            ) + (1.0 - self.air_share) * (flow / self.flow_rated_kg_s) ** (
                -self.liquid_exponent
            )
            ua = 1.0 / (films / self.ua_w_k + self.fouling_k_w)
            out = t_in
            heat = np.zeros_like(t_in)
            for _ in range(5):  # heat capacity at the mean temperature
                c_l = flow * fluids.heat_capacity(self.coolant, 0.5 * (t_in + out))
                small, large = np.minimum(c_a, c_l), np.maximum(c_a, c_l)
                eps = effectiveness(ua / small, small / large, "cross")
                heat = np.where(blown, eps * small * (t_in - air), 0.0)
                out = t_in - heat / c_l
            known = np.isfinite(out)
        return pd.DataFrame(
            {
                "rejector_outlet_temp_degc": out,
                "rejected_heat_w": np.where(known, heat, np.nan),
                "fan_power_w": np.where(
                    known, self.fan_power_rated_w * speed**3, np.nan
                ),
            },
            index=index,
        )


def from_rating(
    *,
    heat_w: float,
    inlet_temp_degc: float,
    outlet_temp_degc: float,
    outdoor_temp_degc: float,
    fan_power_w: float,
    air_rise_ratio: float = 0.6,
    pad_effectiveness: float = 0.0,
    coolant: Coolant = _WATER,
) -> DryCooler:
    """Make a cooler that keeps its rating.

    Parameters
    ----------
    heat_w : float
        Heat rejected at the rating. [W]
    inlet_temp_degc, outlet_temp_degc, outdoor_temp_degc : float
        Liquid in and out, and dry air in, at the rating. [degC]
    fan_power_w : float
        Electrical power of the fans at full speed. [W]
    air_rise_ratio : float
        How far the air warms towards the liquid's inlet; 0.6 is usual. [1]
    pad_effectiveness : float
        Of wetted pads, dry at the rating. [1]
    coolant : Coolant
        The liquid.

    Returns
    -------
    DryCooler
        The cooler.

    Raises
    ------
    ValueError
        If the temperatures do not descend from inlet over outlet to air, or no
        crossflow cooler can come so near.
    """
    if not inlet_temp_degc > outlet_temp_degc > outdoor_temp_degc:
        raise ValueError(
            f"a rating of {inlet_temp_degc:g} to {outlet_temp_degc:g} degC in air of "
            f"{outdoor_temp_degc:g}: write inlet above outlet above outdoor air"
        )
    mean = 0.5 * (inlet_temp_degc + outlet_temp_degc)
    cp = float(fluids.heat_capacity(coolant, mean))
    flow = heat_w / (cp * (inlet_temp_degc - outlet_temp_degc))
    span = inlet_temp_degc - outdoor_temp_degc
    c_l, c_a = flow * cp, heat_w / (air_rise_ratio * span)
    small, large = min(c_l, c_a), max(c_l, c_a)
    wanted = heat_w / (small * span)
    low, high = 0.0, 200.0
    if not float(effectiveness(high, small / large, "cross")) > wanted:
        raise ValueError(
            f"an effectiveness of {wanted:.2f} is beyond a crossflow cooler; check "
            "the temperatures of the rating or lower air_rise_ratio"
        )
    for _ in range(100):
        middle = 0.5 * (low + high)
        if float(effectiveness(middle, small / large, "cross")) < wanted:
            low = middle
        else:
            high = middle
    return DryCooler(
        ua_w_k=high * small,
        air_flow_rated_kg_s=c_a / _AIR_HEAT_CAPACITY,
        flow_rated_kg_s=flow,
        fan_power_rated_w=fan_power_w,
        pad_effectiveness=pad_effectiveness,
        coolant=coolant,
    )


def _column(conditions: pd.DataFrame, name: str) -> Array:
    if name not in conditions.columns:
        near = nearest(name, [str(c) for c in conditions.columns])
        raise ValueError(
            f'conditions have no column "{name}"'
            + (f'; is it "{near}"?' if near else "")
        )
    return conditions[name].to_numpy(dtype=float)
