"""Gas that does not condense: pressure at rest that no temperature explains.

Air or nitrogen gathers in the condenser and adds its pressure to the
refrigerant's. At standstill, when everything has come to one temperature, it is
all that the pressure has above saturation. While the machine runs it looks much
like dirt; :mod:`calibration.diagnosis` tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from calibration.standstill import REST_S, Rest, longest
from twin.finding import Refusal
from twin.fluids import refrigerant
from twin.plant import Machine

EQUAL_K = 0.7
"""How near to each other its temperatures must then be. [K]"""
_PROBE_K, _GAUGE = 0.2, 0.003  # 1 sigma: a probe's offset, a gauge's error

_RESTING = (
    "liquid_temp_degc",
    "source_inlet_temp_degc",
    "source_outlet_temp_degc",
    "sink_inlet_temp_degc",
    "sink_outlet_temp_degc",
)
_PRESSURE = "compressor_discharge_pressure_pa"


@dataclass(frozen=True, slots=True, kw_only=True)
class AtRest:
    """Pressure above saturation at standstill, with its 95 % interval. [Pa].

    ``temp_degc`` is what everything had come to [degC], ``hours`` how long the
    machine had stood. [h]
    """

    excess_pa: float
    low_pa: float
    high_pa: float
    temp_degc: float
    hours: float

    @property
    def gas(self) -> bool:
        """Whether there is surely some."""
        return self.low_pa > 0.0


def at_rest(frame: pd.DataFrame, machine: Machine) -> AtRest | Refusal:
    """Compare the pressure of a machine that has long stood with saturation.

    Parameters
    ----------
    frame : DataFrame
        Points of the machine, a day or more.
    machine : Machine
        As configured.

    Returns
    -------
    AtRest or Refusal
        Of the longest standstill's last half hour. ``inert.instruments`` without
        discharge pressure, ``inert.no_rest`` where the machine stood less than
        four hours, ``inert.unequal`` where its temperatures still differ.
    """
    names = [n for n in _RESTING if n in frame and frame[n].notna().any()]
    if _PRESSURE not in frame or frame[_PRESSURE].isna().all() or not names:
        return _blind(machine)
    rest = longest(frame, machine)
    if not isinstance(rest, Rest):
        return Refusal(
            "inert.no_rest",
            f"{machine.id}: it stood for {rest:.1f} hours at most; after "
            f"{REST_S / 3600.0:.0f} its pressure would tell whether there is gas "
            "that does not condense.",
            {"hours": rest},
        )
    last = rest.last
    temps = last[names].median()
    temp = float(temps.median())
    if len(temps) > 3:
        # One probe that is off must not silence the others.
        temps = temps.drop((temps - temp).abs().idxmax())
    apart = float(temps.max() - temps.min())
    if apart > EQUAL_K:
        return Refusal(
            "inert.unequal",
            f"{machine.id}: after {rest.hours:.1f} hours its temperatures "
            f"still differ by {apart:.1f} K; the pressure belongs to none of them.",
            {str(name): float(value) for name, value in temps.items()},
        )
    fluid = refrigerant(machine.refrigerant)
    saturated, above = (
        float(p) for p in fluid.saturation_pressure(np.array([temp, temp + 0.1]))
    )
    pressure = float(last[_PRESSURE].median())
    spread = max(float(temps.std(ddof=0)), _PROBE_K)
    sigma = np.hypot((above - saturated) * 10.0 * spread, _GAUGE * pressure)
    excess = pressure - saturated
    return AtRest(
        excess_pa=excess,
        low_pa=excess - 1.96 * float(sigma),
        high_pa=excess + 1.96 * float(sigma),
        temp_degc=temp,
        hours=rest.hours,
    )


def _blind(machine: Machine) -> Refusal:
    return Refusal(
        "inert.instruments",
        f"{machine.id}: whether there is gas at rest cannot be seen; it needs "
        f"{_PRESSURE} and a liquid's temperature.",
    )
