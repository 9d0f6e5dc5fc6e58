"""Property laws of the simulated plant: its own, and not the twin's.

A plant whose refrigerant came from the twin's tables could not show an error
in them. Here every property is a polynomial, fitted once by least squares to
CoolProp 8 (HEOS; INCOMP for glycols) and kept in ``media.json``. Against HEOS
inside the stated range: saturation pressure 5e-7, enthalpies 10 J/kg, suction
density 1e-4, discharge temperature 0.01 K; against INCOMP: heat capacity
5 J/(kg K), density 0.3 kg/m3. The tests hold these figures.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from twin.plant import Coolant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


@cache
def _media() -> dict[str, Any]:
    text = files(__package__).joinpath("media.json").read_text(encoding="utf-8")
    media: dict[str, Any] = json.loads(text)
    return media


def _line(coefficients: list[float], x: Array) -> Array:
    value = np.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        value *= x
        value += c
    return value


def _slope(coefficients: list[float], x: Array) -> Array:
    return _line([i * c for i, c in enumerate(coefficients)][1:], x)


def _plane(rows: list[list[float]], x: Array, y: Array) -> Array:
    value = _line(rows[-1], y)
    for row in rows[-2::-1]:
        value *= x
        value += _line(row, y)
    return value


@dataclass(frozen=True, slots=True)
class Refrigerant:
    """One refrigerant between ``low`` and ``high`` saturation temperature [degC].

    ``superheat`` is as far as the vapour law reaches above saturation. [K]
    """

    name: str
    low: float
    high: float
    superheat: float
    laws: dict[str, Any]

    def _x(self, temp: Array) -> Array:
        return (2.0 * temp - self.low - self.high) / (self.high - self.low)

    def pressure(self, temp: Array) -> Array:
        """Saturation pressure [Pa]."""
        return np.exp(_line(self.laws["ln_p"], self._x(temp)))

    def temp_slope(self, temp: Array) -> Array:
        """Change of saturation temperature with pressure [K/Pa]."""
        x = self._x(temp)
        slope = _slope(self.laws["ln_p"], x) * 2.0 / (self.high - self.low)
        return 1.0 / (slope * np.exp(_line(self.laws["ln_p"], x)))

    def liquid_enthalpy(self, temp: Array) -> Array:
        """Enthalpy of saturated liquid, of subcooled liquid at its own one [J/kg]."""
        return _line(self.laws["h_liquid"], self._x(temp))

    def vapour_enthalpy(self, temp: Array) -> Array:
        """Enthalpy of saturated vapour [J/kg]."""
        return _line(self.laws["h_vapour"], self._x(temp))

    def vapour_entropy(self, temp: Array) -> Array:
        """Entropy of saturated vapour [J/(kg K)]."""
        return _line(self.laws["s_vapour"], self._x(temp))

    def vapour_density(self, temp: Array) -> Array:
        """Density of saturated vapour [kg/m3]."""
        return np.exp(_line(self.laws["ln_rho_vapour"], self._x(temp)))

    def suction(self, temp: Array, superheat: Array) -> tuple[Array, Array, Array]:
        """Enthalpy [J/kg], entropy [J/(kg K)] and density [kg/m3] of vapour.

        ``temp`` is its saturation temperature, up to 65 degC; ``superheat``
        reaches to 30 K.
        """
        x, y = self._x(temp), superheat / self.superheat
        return (
            self.vapour_enthalpy(temp)
            + superheat * _plane(self.laws["dh_of_dt"], x, y),
            self.vapour_entropy(temp) + superheat * _plane(self.laws["ds_of_dt"], x, y),
            self.vapour_density(temp)
            * np.exp(superheat * _plane(self.laws["dlnrho_of_dt"], x, y)),
        )

    def isentropic_enthalpy(self, temp: Array, entropy: Array) -> Array:
        """Enthalpy at the saturation pressure of ``temp`` and an entropy [J/kg].

        Inside the dome it is exact by Tds = dh.
        """
        more = entropy - self.vapour_entropy(temp)
        dry = np.maximum(more, 0.0)
        gain = dry * _plane(
            self.laws["dh_of_ds"], self._x(temp), dry / self.laws["ds_scale"]
        )
        return (
            self.vapour_enthalpy(temp) + gain + (temp + 273.15) * np.minimum(more, 0.0)
        )

    def superheat_of(self, temp: Array, enthalpy_above: Array) -> Array:
        """Temperature above saturation of vapour so much above saturated [K]."""
        more = np.maximum(enthalpy_above, 0.0)
        y = more / self.laws["dh_scale"]
        return more * _plane(self.laws["dt_of_dh"], self._x(temp), y)


REFRIGERANTS: tuple[str, ...] = ("R1234ze(E)", "R134a", "R290", "R717")


def refrigerant(name: str) -> Refrigerant:
    """Return the property laws of one of :data:`REFRIGERANTS`.

    Raises
    ------
    ValueError
        If the simulator has no laws for that refrigerant.
    """
    if name not in REFRIGERANTS:
        raise ValueError(
            f'simulate: refrigerant "{name}": the simulator has laws for '
            f"{', '.join(REFRIGERANTS)} only; choose one of them"
        )
    laws = _media()[name]
    return Refrigerant(name, laws["low"], laws["high"], laws["superheat"], laws)


def _coolant(coolant: Coolant, temp: Array, law: str) -> Array:
    x = (temp - 45.0) / 50.0
    rows = _media()[coolant.kind if coolant.mass_fraction > 0.0 else "water"][law]
    if not isinstance(rows[0], list):
        return _line(rows, x)
    y = np.full_like(x, (coolant.mass_fraction - 0.3) / 0.25)
    return _plane(rows, x, y)


def heat_capacity(coolant: Coolant, temp: Array) -> Array:
    """Specific heat capacity, 0 to 95 degC, glycol 5 to 55 % [J/(kg K)]."""
    return _coolant(coolant, temp, "cp")


def density(coolant: Coolant, temp: Array) -> Array:
    """Density, 0 to 95 degC, glycol 5 to 55 % [kg/m3]."""
    return _coolant(coolant, temp, "rho")
