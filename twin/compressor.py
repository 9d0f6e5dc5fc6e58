"""Compressors: efficiency maps, and what makers print instead of them.

A kind of compressor is a set of numbers, not a class. How the efficiencies
act on the cycle stands in :mod:`twin.cycle`; here is where they come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twin.plant import Compressor

Array = NDArray[np.float64]

LOWEST_EFFICIENCY, HIGHEST_EFFICIENCY = 0.25, 0.95
LOWEST_FILLING, HIGHEST_FILLING = 0.2, 1.0

# Shapes of typical machines around their design point: engineering judgement,
# to start a calibration from, not data of any product.
TYPICAL: Mapping[Compressor, Mapping[str, float]] = MappingProxyType(
    {
        Compressor.SCREW: {
            "isentropic_pressure_slope": -0.010,
            "isentropic_pressure_curvature": -0.008,
            "isentropic_speed_slope": -0.02,
            "volumetric_efficiency": 0.95,
            "volumetric_pressure_slope": 0.015,
        },
        Compressor.SCROLL: {
            "isentropic_pressure_slope": -0.010,
            "isentropic_pressure_curvature": -0.015,
            "isentropic_speed_slope": -0.02,
            "volumetric_efficiency": 0.98,
            "volumetric_pressure_slope": 0.015,
        },
        Compressor.RECIPROCATING: {
            "isentropic_pressure_slope": -0.010,
            "isentropic_pressure_curvature": -0.004,
            "isentropic_speed_slope": -0.04,
            "volumetric_efficiency": 0.92,
            "volumetric_pressure_slope": 0.035,
        },
        Compressor.CENTRIFUGAL: {
            "isentropic_pressure_slope": 0.0,
            "isentropic_pressure_curvature": -0.02,
            # Relative speed stands for relative volume flow: guide vanes.
            "isentropic_speed_slope": 0.05,
            "isentropic_speed_curvature": -0.25,
            "volumetric_efficiency": 1.0,
            "volumetric_pressure_slope": 0.0,
        },
    }
)


def isentropic_efficiency(
    pressure_ratio: ArrayLike,
    relative_speed: ArrayLike,
    at_three: float,
    slope: float = 0.0,
    curvature: float = 0.0,
    speed_slope: float = 0.0,
    speed_curvature: float = 0.0,
    cross_slope: float = 0.0,
) -> Array:
    r"""Isentropic over real specific work, as the cycle solver has it.

    .. math:: \eta = e_0 + e_1 (\pi-3) + e_2 (\pi-3)^2
              + (e_3 + e_5 (\pi-3)) (n-1) + e_4 (n-1)^2

    Parameters
    ----------
    pressure_ratio, relative_speed : array_like
        Discharge over suction pressure, and speed over rated speed. [1]
    at_three : float
        Efficiency at a pressure ratio of 3 and rated speed. [1]
    slope, curvature, speed_slope, speed_curvature, cross_slope : float
        The other coefficients, in the order of the equation. [1]

    Returns
    -------
    ndarray
        Efficiency, held between 0.25 and 0.95. [1]
    """
    d = np.asarray(pressure_ratio, dtype=float) - 3.0
    n = np.asarray(relative_speed, dtype=float) - 1.0
    value = (
        at_three
        + (slope + curvature * d) * d
        + (speed_slope + cross_slope * d + speed_curvature * n) * n
    )
    return np.clip(value, LOWEST_EFFICIENCY, HIGHEST_EFFICIENCY)


def volumetric_efficiency(
    pressure_ratio: ArrayLike, at_one: float, slope: float
) -> Array:
    r"""Drawn over swept volume: :math:`\eta_v = a_0 - a_1 (\pi - 1)`.

    Parameters
    ----------
    pressure_ratio : array_like
        Discharge over suction pressure. [1]
    at_one, slope : float
        Efficiency without lift, and what it loses per unit of ratio. [1]

    Returns
    -------
    ndarray
        Efficiency, held between 0.2 and 1. [1]
    """
    ratio = np.asarray(pressure_ratio, dtype=float)
    return np.clip(at_one - slope * (ratio - 1.0), LOWEST_FILLING, HIGHEST_FILLING)


def ten_coefficients(
    coefficients: ArrayLike, evaporating: ArrayLike, condensing: ArrayLike
) -> Array:
    r"""Evaluate a maker's polynomial: power, refrigerant flow, capacity, current.

    .. math:: X = C_1 + C_2 S + C_3 D + C_4 S^2 + C_5 S D + C_6 D^2
              + C_7 S^3 + C_8 D S^2 + C_9 S D^2 + C_{10} D^3

    Parameters
    ----------
    coefficients : array_like
        The ten coefficients in the standard's order, for S and D in degC.
    evaporating, condensing : array_like
        Dew-point temperatures at suction S and discharge D. [degC]

    Returns
    -------
    ndarray
        The quantity, in the unit that the coefficients were printed for. [unit]

    Raises
    ------
    ValueError
        If there are not ten coefficients.

    References
    ----------
    .. [1] EN 12900:2013, annex; AHRI Standard 540-2020, section 6.4.
    """
    c = np.asarray(coefficients, dtype=float)
    if c.shape != (10,):
        raise ValueError(
            f"a compressor polynomial has 10 coefficients, not {c.size}; "
            "write C1 to C10 in the order of EN 12900 / AHRI 540"
        )
    s = np.asarray(evaporating, dtype=float)
    d = np.asarray(condensing, dtype=float)
    value: Array = (
        c[0]
        + c[1] * s
        + c[2] * d
        + c[3] * s**2
        + c[4] * s * d
        + c[5] * d**2
        + c[6] * s**3
        + c[7] * d * s**2
        + c[8] * s * d**2
        + c[9] * d**3
    )
    return value
