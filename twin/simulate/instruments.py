"""What the instruments make of the truth: offset, gain, noise, resolution, faults.

Three classes. ``good``: what an auditor would ask for, matched pairs and class 1
meters. ``ordinary``: what a building has. ``perfect``: the truth itself.
Offsets and gains are drawn once for each instrument and stay; where the scenario
lets instruments age, each drifts at a rate of its own. What a fault or an age
draws comes from a stream of its own, so that nothing else changes with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from twin.simulate.boundary import stream
from twin.simulate.scenario import FaultKind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from numpy.typing import NDArray

    from twin.simulate.scenario import Scenario

    Array = NDArray[np.float64]

_ATMOSPHERE_PA = 101_325.0
_SPIKE_RANGES = 3.0  # how far a spike can reach, in ranges of the healthy reading


@dataclass(frozen=True, slots=True)
class Grade:
    """Standard deviations of an instrument's offset, gain, noise and drift.

    ``offset`` and ``noise`` are in the point's unit, ``gain`` and
    ``relative_noise`` of the reading; ``resolution`` is the last digit.
    ``drift`` is what the offset, or the gain of an instrument that has one,
    moves by in a year.
    """

    offset: float = 0.0
    gain: float = 0.0
    noise: float = 0.0
    relative_noise: float = 0.0
    resolution: float = 0.0
    drift: float = 0.0


# point's ending or name -> (good, ordinary)
_GRADES: tuple[tuple[tuple[str, ...], Grade, Grade], ...] = (
    (("suction_temp_degc", "compressor_discharge_temp_degc", "liquid_temp_degc"),
     Grade(offset=0.2, noise=0.15, resolution=0.1, drift=0.1),
     Grade(offset=0.6, noise=0.3, resolution=0.1, drift=0.3)),
    (("_setpoint_degc",), Grade(), Grade()),
    (("outdoor_temp_degc",), Grade(offset=0.1, noise=0.05, resolution=0.1, drift=0.05),
     Grade(offset=0.5, noise=0.1, resolution=0.1, drift=0.2)),
    (("_temp_degc",), Grade(offset=0.03, noise=0.03, resolution=0.01, drift=0.03),
     Grade(offset=0.15, noise=0.08, resolution=0.1, drift=0.1)),
    (("_flow_m3_s",),
     Grade(gain=0.005, relative_noise=0.004, resolution=1e-6, drift=0.002),
     Grade(gain=0.02, relative_noise=0.01, resolution=1e-5, drift=0.006)),
    (("suction_pressure_pa", "compressor_discharge_pressure_pa"),
     Grade(gain=0.0015, relative_noise=0.002, resolution=100.0, drift=0.001),
     Grade(gain=0.005, relative_noise=0.004, resolution=1000.0, drift=0.003)),
    (("_pressure_drop_pa",),
     Grade(gain=0.01, relative_noise=0.01, resolution=10.0, drift=0.005),
     Grade(gain=0.03, relative_noise=0.03, resolution=100.0, drift=0.02)),
    (("_power_w",),
     Grade(gain=0.004, relative_noise=0.004, resolution=10.0, drift=0.001),
     Grade(gain=0.015, relative_noise=0.008, resolution=100.0, drift=0.003)),
    (("_heat_w",),
     Grade(gain=0.005, relative_noise=0.005, resolution=100.0, drift=0.002),
     Grade(gain=0.02, relative_noise=0.01, resolution=1000.0, drift=0.006)),
    (("compressor_speed_hz",), Grade(resolution=0.01), Grade(resolution=0.1)),
    (("_energy_j",), Grade(gain=0.004, resolution=3.6e6),
     Grade(gain=0.015, resolution=3.6e6)),
)  # fmt: skip
_EXACT = Grade()


def grade(point: str, sensors: str) -> Grade:
    """Return the class of instrument that measures a point.

    Raises
    ------
    ValueError
        If ``sensors`` is none of good, ordinary, perfect.
    """
    if sensors not in ("good", "ordinary", "perfect"):
        raise ValueError(
            f'simulate: sensors "{sensors}" is none of good, ordinary, perfect'
        )
    if sensors != "perfect":
        for endings, good, ordinary in _GRADES:
            if point.endswith(endings):
                return good if sensors == "good" else ordinary
    return _EXACT


def measure(scenario: Scenario, unit: str, truth: pd.DataFrame) -> pd.DataFrame:
    """Return what the instruments of one unit report of its true quantities."""
    faults = [fault for fault in scenario.faults if fault.unit == unit]
    times = pd.DatetimeIndex(truth.index)
    read = {
        point: _read(scenario, unit, point, truth[point].to_numpy(dtype=float), times)
        for point in truth.columns
    }
    for fault in faults:
        if not fault.component:
            continue
        if fault.component not in read:
            raise ValueError(
                f'simulate: fault {fault.kind.value} of {unit}: "{fault.component}" '
                f"is not measured there; measured are {', '.join(read)}"
            )
        size = fault.sizes(times, scenario.stop)
        value = read[fault.component]
        there = size != 0.0
        if fault.kind is FaultKind.SENSOR_OFFSET:
            value = value + size
        elif fault.kind is FaultKind.SENSOR_GAIN:
            value = value * (1.0 + size)
        elif fault.kind is FaultKind.SENSOR_STUCK and there.any():
            value = np.where(there, value[max(int(there.argmax()) - 1, 0)], value)
        elif fault.kind is FaultKind.SENSOR_UNIT:
            wrong = (
                value - _ATMOSPHERE_PA
                if fault.component.endswith("_pa")
                else value * 1.8 + 32.0
            )
            value = np.where(there, wrong, value)
        elif fault.kind is FaultKind.SENSOR_NAN:
            lost = stream(scenario, f"lost {unit} {fault.component}").random(len(value))
            value = np.where(lost < size, np.nan, value)
        elif fault.kind is FaultKind.SENSOR_DRIFT:
            value = value + size * np.maximum(_days(times, fault.start), 0.0) / 30.0
        elif fault.kind is FaultKind.SENSOR_SIGN:
            value = np.where(there, -value, value)
        elif fault.kind is FaultKind.SENSOR_SPIKES:
            random = stream(scenario, f"spikes {unit} {fault.component}")
            hit = random.random(len(value)) < size
            far = random.uniform(0.3, 1.0, len(value)) * random.choice(
                (-1.0, 1.0), len(value)
            )
            value = np.where(hit, value + far * _SPIKE_RANGES * np.ptp(value), value)
        elif fault.kind is FaultKind.SENSOR_SWAP:
            other = _partner(fault.component, read)
            read[other], value = (
                np.where(there, value, read[other]),
                np.where(there, read[other], value),
            )
        read[fault.component] = value
    return pd.DataFrame(read, index=times)


def _days(times: pd.DatetimeIndex, since: datetime) -> Array:
    elapsed: Array = (times - since).total_seconds().to_numpy() / 86_400.0
    return elapsed


def _partner(point: str, read: Mapping[str, Array]) -> str:
    """Return the probe on the other side of the same exchanger."""
    other = (
        point.replace("_inlet_", "_outlet_")
        if "_inlet_" in point
        else point.replace("_outlet_", "_inlet_")
    )
    if other == point or other not in read:
        raise ValueError(
            f'simulate: fault sensor_swap: "{point}" has no inlet or outlet that is '
            "measured beside it; name one of a pair"
        )
    return other


def _read(
    scenario: Scenario, unit: str, point: str, true: Array, times: pd.DatetimeIndex
) -> Array:
    how = grade(point, scenario.sensors)
    if how == _EXACT:
        return true.copy()
    random = stream(scenario, f"{unit} {point}")
    offset, gain = random.normal(0.0, 1.0, 2) * (how.offset, how.gain)
    value: Array = true * (1.0 + gain) + offset
    if scenario.ageing and how.drift:
        own = stream(scenario, f"ageing {unit} {point}")
        rate = scenario.ageing * own.normal(0.0, how.drift) / 365.0
        moved = rate * _days(times, scenario.start)
        value = value + (true * moved if how.gain else moved)
    if how.noise:
        value = value + random.normal(0.0, how.noise, len(true))
    if how.relative_noise:
        value = value * (1.0 + random.normal(0.0, how.relative_noise, len(true)))
    if how.resolution:
        value = np.round(value / how.resolution) * how.resolution
    return value
