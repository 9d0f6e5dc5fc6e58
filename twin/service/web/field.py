"""Field units and words: how a value is said to a person.

SI ends here. The unit follows from a name's suffix, so a new point of the
vocabulary is shown rightly without a line of code.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from twin.points import EXPECTED, unit_of

NOTHING = "–"

# SI unit of the vocabulary: factor, field unit, digits behind the point
_FIELD: dict[str, tuple[float, str, int]] = {
    "W": (1e-3, "kW", 1),
    "J": (1 / 3.6e6, "kWh", 0),
    "degC": (1.0, "°C", 1),
    "K": (1.0, "K", 1),
    "Pa": (1e-5, "bar", 2),
    "m3/s": (3600.0, "m³/h", 1),
    "m3": (1.0, "m³", 1),
    "kg/s": (1.0, "kg/s", 2),
    "kg": (1.0, "kg", 1),
    "Hz": (1.0, "Hz", 1),
    "W/K": (1e-3, "kW/K", 1),
    "K/W": (1e3, "K/kW", 3),
    "J/K": (1 / 3.6e6, "kWh/K", 2),
    "EUR/J": (3.6e9, "EUR/MWh", 1),
    "kg/J": (3.6e9, "g/kWh", 0),
    "s": (1.0, "s", 0),
    "1": (1.0, "", 2),
}
_FLAGS = frozenset({"compressor_running", "available", "manual_override"})
_SHARES = frozenset(
    {
        "expansion_valve_ratio",
        "isentropic_efficiency",
        "volumetric_efficiency",
        "lorenz_efficiency",
        "exchanger_effectiveness",
        "energy_balance_error",
        "exchanger_balance_error",
    }
)
_WORDS = {
    "cop": "COP",
    "cooling_cop": "cooling COP",
    "carnot_cop": "Carnot COP",
    "lorenz_cop": "Lorenz COP",
    "ua": "UA",
    "it": "IT",
    "carnot": "Carnot",
    "lorenz": "Lorenz",
    "temp": "temperature",
}
_THIN = "\N{NARROW NO-BREAK SPACE}"


def number(value: float | None, digits: int = 1) -> str:
    """Return a number with thin spaces between thousands, a dash for none.

    >>> number(1234.56).replace(_THIN, " "), number(float("nan"))
    ('1 234.6', '–')
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    # What rounds to nought has no sign.
    text = f"{round(value, digits) + 0.0:,.{digits}f}".replace(",", _THIN)
    return text.replace("-", "\N{MINUS SIGN}")


def field_unit(unit: str) -> tuple[float, str, int]:
    """Return factor, name and digits of the field's unit for one of SI."""
    return _FIELD.get(unit, (1.0, unit, 2))


def value_text(point: str, value: float | None) -> str:
    """Return a value of the vocabulary in its field unit.

    >>> value_text("condenser_approach_k", 4.21).replace(_THIN, " ")
    '4.2 K'
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    if point.removeprefix(EXPECTED) in _FLAGS:
        return "yes" if value >= 0.5 else "no"
    if point.removeprefix(EXPECTED) in _SHARES:
        return percent(value, 1)
    factor, unit, digits = field_unit(unit_of(point))
    scaled = value * factor
    text = number(scaled, 0 if digits and abs(scaled) >= 10_000 else digits)
    return f"{text}{_THIN}{unit}" if unit else text


def label(name: str) -> str:
    """Return a vocabulary name as a person says it, without its unit.

    >>> label("sink_outlet_temp_degc"), label("condenser_ua_w_k")
    ('sink outlet temperature', 'condenser UA')
    >>> label("source_inlet_temp_degc,source_outlet_temp_degc")
    'source inlet temperature and source outlet temperature'
    """
    if "," in name:
        return " and ".join(label(one) for one in name.split(","))
    unit = unit_of(name)
    stem = name
    if unit != "1":
        for cut in range(len(name)):
            if name[cut] == "_" and unit_of(name[cut:]) == unit:
                stem = name[:cut]
        stem = stem or name
    if stem in _WORDS:
        return _WORDS[stem]
    return " ".join(_WORDS.get(word, word) for word in stem.split("_"))


def kwh(joules: float | None) -> str:
    """Return heat in kWh, or in MWh where kWh would be long."""
    if joules is None or not math.isfinite(joules):
        return NOTHING
    amount = joules / 3.6e6
    if abs(amount) >= 10_000:
        return f"{number(amount / 1000, 1)}{_THIN}MWh"
    return f"{number(amount, 0)}{_THIN}kWh"


def euro(amount: float | None) -> str:
    """Return an amount of money, to the euro where cents say nothing."""
    if amount is None or not math.isfinite(amount):
        return NOTHING
    return f"{number(amount, 0 if abs(amount) >= 100 else 2)}{_THIN}EUR"


def percent(share: float | None, digits: int = 0) -> str:
    """Return a share of one as a percentage."""
    if share is None or not math.isfinite(share):
        return NOTHING
    return f"{number(100 * share, digits)}{_THIN}%"


def age(span: timedelta) -> str:
    """Return how long ago something was, in its one fitting unit.

    >>> age(timedelta(seconds=42)), age(timedelta(hours=49))
    ('42 s', '2 d')
    """
    seconds = max(0.0, span.total_seconds())
    for size, word in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size or (seconds >= size and word == "min"):
            return f"{seconds / size:.0f} {word}"
    return f"{seconds:.0f} s"


def zone(name: str) -> ZoneInfo:
    """Return a time zone by its name, UTC where the name is unknown."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def moment(time: datetime | None, where: tzinfo) -> str:
    """Return a time as the site's clock shows it, zone included."""
    if time is None:
        return NOTHING
    return time.astimezone(where).strftime("%d %b %Y %H:%M %Z")


def day(time: datetime | None, where: ZoneInfo) -> str:
    """Return the day of a time by the site's calendar."""
    if time is None:
        return NOTHING
    return time.astimezone(where).strftime("%d %b %Y")


def iso(time: datetime | None) -> str:
    """Return a time for a machine, empty for none."""
    return "" if time is None else time.astimezone(UTC).isoformat()
