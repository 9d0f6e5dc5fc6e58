"""Field units at the edge: pint's door.

The configuration is where "kW", "bar(g)", "m3/h", "degF" and "%" are met; a
conversion is worked out there once and is afterwards two numbers. Nothing
behind the edge sees anything but SI.
"""

from __future__ import annotations

import math
import re
import tokenize
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pint

STANDARD_ATMOSPHERE_PA = 101_325.0

_QUANTITY = re.compile(r"^\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*?)\s*$")
# How controllers and people write what pint spells otherwise.
_SPELLING = {
    "": "dimensionless",
    "1": "dimensionless",
    "%": "percent",
    "°C": "degC",
    "C": "degC",
    "°F": "degF",
    "F": "degF",
    "K": "kelvin",
    "bool": "dimensionless",
    "rpm": "1 / minute",
    "Hz": "1 / second",
    "kHz": "1000 / second",
    "m3/h": "meter**3 / hour",
    "m3/s": "meter**3 / second",
    "m3": "meter**3",
    "l/s": "liter / second",
    "L/s": "liter / second",
    "l/min": "liter / minute",
    "L/min": "liter / minute",
    "l/h": "liter / hour",
    "gpm": "US_liquid_gallon / minute",
    "kg/h": "kilogram / hour",
    "kg/kWh": "kilogram / (kilowatt * hour)",
    "g/kWh": "gram / (kilowatt * hour)",
    "kg/MWh": "kilogram / (megawatt * hour)",
    "EUR/kWh": "EUR / (kilowatt * hour)",
    "EUR/MWh": "EUR / (megawatt * hour)",
    "ct/kWh": "EUR / (100 * kilowatt * hour)",
    "kWh": "kilowatt * hour",
    "MWh": "megawatt * hour",
    "GWh": "gigawatt * hour",
    "Wh": "watt * hour",
    "tons": "ton_of_refrigeration",
    "RT": "ton_of_refrigeration",
}
# Written together, as instruments print it.
_GAUGE = {"barg": "bar(g)", "bara": "bar(a)", "psig": "psi(g)", "psia": "psi(a)"}
# Powers of powers would be worked out for as long as it takes.
_TOWER = re.compile(r"(\*\*|\^)\s*([+-]?\s*\d{2}|[^/]*(\*\*|\^))")
# A difference has no zero: 1 K, 1 degC and 1.8 degF are the same one.
_DIFFERENCE = {"degC": "kelvin", "degF": "delta_degree_Fahrenheit"}


@dataclass(frozen=True, slots=True)
class Conversion:
    """``si = scale * field + offset``; every unit the field uses is that simple."""

    scale: float
    offset: float

    def __call__(self, value: float) -> float:
        """Convert one value from the field unit. [SI unit of the point]."""
        return self.scale * value + self.offset


class UnitError(ValueError):
    """A unit nobody knows, or one that measures something else."""


@cache
def _registry() -> pint.UnitRegistry[float]:
    import pint

    registry: pint.UnitRegistry[float] = pint.UnitRegistry()
    registry.define("EUR = [currency]")
    return registry


@cache
def conversion(field: str, unit: str) -> Conversion:
    """Return what turns a value in a field unit into the vocabulary's unit.

    Parameters
    ----------
    field : str
        The unit as an engineer writes it: ``"kW"``, ``"bar(g)"``, ``"degF"``,
        ``"m3/h"``, ``"%"``. A pressure with ``(g)`` is above one standard
        atmosphere; ``(a)`` says absolute, and is what none means.
    unit : str
        The vocabulary's unit, :attr:`twin.points.Point.unit`.

    Raises
    ------
    UnitError
        If the unit is unknown, or is of another dimension.

    Examples
    --------
    >>> conversion("bar(g)", "Pa")(0.0)
    101325.0
    >>> round(conversion("degF", "degC")(212.0), 9)
    100.0
    """
    import pint

    registry = _registry()
    text = _GAUGE.get(field.strip(), field.strip())
    gauge = text.lower().endswith("(g)")
    if text.lower().endswith(("(g)", "(a)")):
        if unit != "Pa":
            raise UnitError(f'unit "{field}" is a pressure, and {unit} is none')
        text = text[:-3]
    target = registry.Unit(_SPELLING.get(unit, unit))
    if len(text) > 40 or _TOWER.search(text):
        raise UnitError(f'unit "{field[:60]}" is no unit an instrument has')
    spelled = _SPELLING.get(text.strip(), text.strip())
    if unit == "K":
        spelled = _DIFFERENCE.get(spelled, spelled)
    try:
        source = registry.parse_expression(spelled)
        quantity = getattr(source, "units", None)
        magnitude = float(getattr(source, "magnitude", source))
        # A level has an offset, so it is read at two temperatures, not scaled.
        if unit == "degC":
            read = registry.Unit(spelled)
            zero = float(registry.Quantity(0.0, read).to(target).magnitude)
            one = float(registry.Quantity(1.0, read).to(target).magnitude)
            return Conversion(one - zero, zero)
        whole = registry.Quantity(magnitude, quantity or registry.dimensionless)
        scale = float(whole.to(target).magnitude)
    except (pint.UndefinedUnitError, pint.DimensionalityError, AttributeError) as error:
        raise UnitError(f'unit "{field}" does not measure {unit}: {error}') from error
    except (
        pint.PintError,
        tokenize.TokenError,
        ArithmeticError,
        AssertionError,
        SyntaxError,
        TypeError,
        ValueError,
    ) as error:
        raise UnitError(f'unit "{field}" cannot be read: {error}') from error
    if not math.isfinite(scale) or scale == 0.0:
        raise UnitError(f'unit "{field}" is no unit: one of it would be {scale} {unit}')
    return Conversion(scale, STANDARD_ATMOSPHERE_PA if gauge and unit == "Pa" else 0.0)


def quantity(text: str | float, unit: str) -> float:
    """Return a written quantity in the vocabulary's unit.

    Parameters
    ----------
    text : str or float
        ``"600 kW"``, ``"4.2 bar(g)"``, or a bare number already in ``unit``.
    unit : str
        The unit wanted.

    Returns
    -------
    float
        The value. [unit]

    Raises
    ------
    UnitError
        If it is no number with a unit, or measures something else.

    Examples
    --------
    >>> quantity("600 kW", "W"), quantity("35 degC", "degC"), quantity(0.25, "1")
    (600000.0, 35.0, 0.25)
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        return float(text)
    match = _QUANTITY.match(str(text))
    if match is None:
        raise UnitError(f'"{text}" is not a number with a unit, such as "35 {unit}"')
    value, field = match.groups()
    return conversion(field or unit, unit)(float(value))
