"""What a machine measures, how well, and what each reading can hide.

Noise is what the mean of a window still has; drift is how far an instrument may
have moved since the reference. A drift is a state of the fit, with the
instrument's class as its prior, so that no fault is found in a sensor's error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twin.plant import Machine

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Instrument:
    """Noise of a window's mean, and drift since the baseline, as 1 sigma.

    Relative where the quantity is compared as a logarithm.
    """

    noise: float
    drift: float


# Ordinary good instruments; `Machine.uncertainty` overrides the drift by point.
_WATER, _GAS = Instrument(0.05, 0.07), Instrument(0.3, 0.3)
_PRESSURE, _POWER = Instrument(0.003, 0.002), Instrument(0.006, 0.005)
OUTPUTS: Mapping[str, Instrument] = MappingProxyType(
    {
        "source_outlet_temp_degc": _WATER,
        "sink_outlet_temp_degc": _WATER,
        "compressor_power_w": _POWER,
        "suction_pressure_pa": _PRESSURE,
        "compressor_discharge_pressure_pa": _PRESSURE,
        "suction_temp_degc": _GAS,
        "compressor_discharge_temp_degc": _GAS,
        "liquid_temp_degc": _GAS,
    }
)
INPUTS: Mapping[str, float] = MappingProxyType(
    {
        "source_inlet_temp_degc": 0.07,
        "sink_inlet_temp_degc": 0.07,
        "source_flow_kg_s": 0.005,
        "sink_flow_kg_s": 0.005,
        "compressor_speed_hz": 0.001,
    }
)


def logarithmic(name: str) -> bool:
    """Return whether a quantity of one sign is compared as its logarithm."""
    return name.endswith(("_w", "_pa", "_kg_s", "_hz"))


def levels(values: Matrix, names: Sequence[str]) -> Matrix:
    """Return what is compared, column by column; NaN for no logarithm."""
    result = values.astype(float)
    for k, name in enumerate(names):
        if logarithmic(name):
            of = values[:, k]
            with np.errstate(invalid="ignore", divide="ignore"):
                log = np.log(np.maximum(of, 1e-300))
            result[:, k] = np.where(of > 0.0, log, np.nan)
    return result


def drifts(machine: Machine, frame: pd.DataFrame, given: str) -> dict[str, float]:
    """Return how far each instrument may drift, as 1 sigma, by quantity."""
    drift = {name: instrument.drift for name, instrument in OUTPUTS.items()}
    drift.update(INPUTS)
    for point, value in machine.uncertainty.items():
        if point.endswith("_flow_m3_s"):
            name = point.replace("_m3_s", "_kg_s")
            level = frame[point].median() if point in frame else np.nan
        else:
            name = point
            level = frame[point].median() if point in frame else np.nan
        if name in drift:
            relative = logarithmic(name)
            if not relative:
                drift[name] = float(value)
            elif np.isfinite(level) and level > 0.0:
                drift[name] = float(value / level)
    if given in ("source_heat_w", "sink_heat_w"):
        # The imposed heat is itself measured, by a flow and two temperatures.
        side = given.partition("_")[0]
        inlet, outlet = f"{side}_inlet_temp_degc", f"{side}_outlet_temp_degc"
        span = float((frame[inlet] - frame[outlet]).abs().median())
        pair = np.hypot(drift[inlet], drift[outlet]) / max(span, 0.1)
        drift[given] = float(np.hypot(drift[f"{side}_flow_kg_s"], pair))
    return drift


def choose_given(windows: pd.DataFrame, machine: Machine) -> str | None:
    """Return what can be imposed on the machine: its speed if measured, else a heat.

    Parameters
    ----------
    windows : DataFrame
        Steady windows.
    machine : Machine
        What it measures.

    Returns
    -------
    str or None
        A column that is there in most windows, None if there is none.
    """
    for name in ("compressor_speed_hz", "source_heat_w", "sink_heat_w"):
        measured = name != "compressor_speed_hz" or name in machine.points
        if measured and name in windows and windows[name].notna().mean() > 0.5:
            return name
    return None


def outputs_of(windows: pd.DataFrame, machine: Machine, given: str) -> tuple[str, ...]:
    """Return the measured quantities that are not the imposed one in disguise."""
    hidden = {"source_heat_w": "source_outlet_temp_degc"}.get(given, "")
    if given == "sink_heat_w":
        hidden = "sink_outlet_temp_degc"
    return tuple(
        name
        for name in OUTPUTS
        if name in machine.points
        and name != hidden
        and name in windows
        and windows[name].notna().mean() > 0.5
    )
