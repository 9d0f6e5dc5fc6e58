"""A first plant.toml: from a few answers, and from the header of a log file.

A guessed column is a proposal that a person confirms: each one says from which
words it was made, and a column that is not understood stands in the file as a
comment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from twin.plant import Nameplate
from twin.points import POINTS
from twin.units import UnitError, conversion

QUESTIONS: Mapping[str, tuple[str, str]] = {
    "site": ("What is the site called?", "my site"),
    "unit": ("A short id for the heat pump?", "hp1"),
    "refrigerant": ("Its refrigerant?", "R134a"),
    "broker": ("The MQTT broker's host?", "127.0.0.1"),
    "topic": ("The topic it publishes JSON objects on?", "plant/hp1"),
}

# What stands in the file until it is filled in; `hptwin check` knows it again.
EXAMPLE_NAMEPLATE = Nameplate(
    sink_heat_w=600e3,
    power_w=150e3,
    source_inlet_temp_degc=35.0,
    source_outlet_temp_degc=28.0,
    sink_inlet_temp_degc=50.0,
    sink_outlet_temp_degc=65.0,
)

# Words of a header, as loggers write them, and what they say.
_SIDES = {
    "source": {"src", "source", "chw", "evap", "evaporator", "brine", "quelle", "sole"},
    "sink": {"snk", "sink", "cw", "cond", "condenser", "hot", "heating", "senke"},
}
_ENDS = {
    "inlet": {"in", "inlet", "entering", "ein", "eintritt", "return", "ret", "rl"},
    "outlet": {"out", "outlet", "leaving", "aus", "austritt", "supply", "sup", "vl"},
}
_FLOW = {"flow", "v", "vdot", "vol", "durchfluss", "volumenstrom", "flowrate"}
_PUMP = {"pump", "pumpe", "pmp"}
_POWER = {"p", "pel", "power", "kw", "w", "leistung", "el"}
_MACHINE = {
    "chiller",
    "comp",
    "compressor",
    "hp",
    "heatpump",
    "unit",
    "el",
    "verdichter",
}
_PRESSURE = {"bar", "barg", "bara", "kpa", "pressure", "druck", "mbar", "psi"}
_SUCTION = {"suc", "suction", "saug"}
_DISCHARGE = {"dis", "disch", "discharge", "druckgas"}
_TIME = {"time", "timestamp", "datetime", "ts", "date", "zeit"}
# The unit at the end of a column's name.
_UNITS = {
    "degc": "degC", "c": "degC", "degf": "degF", "f": "degF", "kw": "kW", "w": "W",
    "mw": "MW", "l_s": "l/s", "m3_h": "m3/h", "m3h": "m3/h", "m3_s": "m3/s",
    "l_min": "l/min", "lpm": "l/min", "gpm": "gpm", "ls": "l/s", "bar": "bar",
    "barg": "bar(g)", "bar_g": "bar(g)", "bara": "bar(a)", "bar_a": "bar(a)",
    "kpa": "kPa", "pa": "Pa", "hz": "Hz", "rpm": "rpm", "mwh": "MWh", "kwh": "kWh",
    "pct": "%",
}  # fmt: skip
# Where a name holds no unit, what such a logger mostly means.
_USUAL = {"degC": "degC", "W": "kW", "m3/s": "m3/h", "Pa": "bar(g)", "Hz": "Hz"}
_SITE = ("outdoor_temp_degc", "wet_bulb_temp_degc", "it_power_w")


@dataclass(frozen=True, slots=True)
class Guess:
    """What a column may be; ``point`` is empty where nothing fits."""

    column: str
    point: str = ""
    unit: str = ""
    sure: bool = False

    def sentence(self) -> str:
        """Say it for the person who confirms it."""
        if not self.point:
            return f"{self.column}: not understood; left as a comment"
        doubt = "" if self.sure else " (no unit in the name: check it)"
        return f"{self.column}: {self.point} in {self.unit}{doubt}"


def header(path: Path) -> list[str]:
    """Return the column names of a CSV file: its first line.

    Raises
    ------
    OSError, UnicodeDecodeError
        If it cannot be read.
    """
    with path.open(encoding="utf-8-sig") as file:
        line = file.readline().strip("\r\n")
    mark = max(",;\t", key=line.count)
    return [name.strip().strip('"') for name in line.split(mark) if name.strip()]


def guess(columns: Sequence[str]) -> list[Guess]:
    """Return what each column may be, in their order; each point at most once.

    The column of times is left out: it is found by its name again.
    """
    found: list[Guess] = []
    taken: set[str] = set()
    for column in columns:
        words = _words(column)
        if words and words[0] in _TIME:
            continue
        point = _point(words)
        if not point or point in taken:
            found.append(Guess(column))
            continue
        unit, sure = _unit(words, POINTS[point].unit)
        taken.add(point)
        found.append(Guess(column, point, unit, sure))
    return found


def _words(column: str) -> list[str]:
    spaced = re.sub(r"([a-z])([A-Z][a-z])", r"\1_\2", column).lower()
    return [word for word in re.split(r"[^a-z0-9]+", spaced) if word]


def _has(words: Sequence[str], known: set[str]) -> bool:
    return any(word in known or word.rstrip("0123456789") in known for word in words)


def _point(words: Sequence[str]) -> str:
    joined = "_".join(words)
    if joined in POINTS:
        return joined
    if "wb" in words or "wet" in words:
        return "wet_bulb_temp_degc"
    if _has(words, {"oa", "oat", "outdoor", "ambient", "aussen"}):
        return "outdoor_temp_degc"
    if "it" in words and _has(words, _POWER):
        return "it_power_w"
    side = next((s for s, known in _SIDES.items() if _has(words, known)), "")
    end = next((e for e, known in _ENDS.items() if _has(words, known)), "")
    if side and _has(words, _PUMP):
        return f"{side}_pump_power_w" if _has(words, _POWER) else ""
    temperature = words[0] in {"t", "temp", "temperature"} or words[-1] in {
        "degc", "c", "degf", "f",
    }  # fmt: skip
    if side and _has(words, _FLOW) and not temperature:
        return f"{side}_flow_m3_s"
    if side and end and temperature:
        return f"{side}_{end}_temp_degc"
    for known, name in ((_SUCTION, "suction"), (_DISCHARGE, "compressor_discharge")):
        if _has(words, known) and temperature:
            return f"{name}_temp_degc"
        if _has(words, known) and (_has(words, _PRESSURE) or words[0] == "p"):
            return f"{name}_pressure_pa"
    if temperature and _has(words, {"liq", "liquid"}):
        return "liquid_temp_degc"
    if _has(words, _MACHINE) and _has(words, _POWER) and "pct" not in words:
        return "compressor_power_w"
    if _has(words, {"rpm", "hz", "speed"}):
        return "compressor_speed_hz"
    return ""


def _unit(words: Sequence[str], wanted: str) -> tuple[str, bool]:
    for last in (2, 1):
        unit = _UNITS.get("_".join(words[-last:])) if len(words) > last else None
        if unit is None:
            continue
        try:
            conversion(unit, wanted)
        except UnitError:
            continue
        return unit, True
    return _USUAL.get(wanted, wanted), False


def plant_toml(answers: Mapping[str, str], guesses: Sequence[Guess]) -> str:
    """Return a commented configuration that still wants its nameplate.

    Parameters
    ----------
    answers : mapping
        A text for each of :data:`QUESTIONS`.
    guesses : sequence of Guess
        From :func:`guess`; none writes the usual points of tier 1.
    """
    site = [each for each in guesses if each.point in _SITE]
    unit = [each for each in guesses if each.point and each.point not in _SITE]
    rest = [each.column for each in guesses if not each.point]
    if not guesses:
        unit = [Guess(name, point, field) for name, point, field in _TIER_1]
    parts = [
        _HEAD.format(
            site=_text(answers["site"]),
            broker=_text(answers["broker"]),
            plaintext=""
            if answers["broker"] in ("127.0.0.1", "localhost", "::1")
            else 'tls = { enabled = true }       # or ca_file = "..." for your own\n',
        )
    ]
    if site:
        parts.append(
            f"[site.payload]\ntopic = {_text(answers['topic'])}\n"
            f'time = "/time"\n\n[site.points]\n{_mapping(site)}\n'
        )
    parts.append(
        _MACHINE_TEXT.format(
            id=_text(answers["unit"]),
            refrigerant=_text(answers["refrigerant"]),
            topic=_text(answers["topic"]),
            points=_mapping(unit),
            pressures=_wanting(unit),
        )
    )
    if rest:
        parts.append("# Columns that were not understood:\n")
        parts.extend(f"#   {_comment(column)}\n" for column in rest)
        parts.append("\n")
    parts.append(_CONSUMER)
    return "".join(parts)


_TIER_1 = (
    ("t_src_in", "source_inlet_temp_degc", "degC"),
    ("t_src_out", "source_outlet_temp_degc", "degC"),
    ("t_snk_in", "sink_inlet_temp_degc", "degC"),
    ("t_snk_out", "sink_outlet_temp_degc", "degC"),
    ("v_src", "source_flow_m3_s", "m3/h"),
    ("v_snk", "sink_flow_m3_s", "m3/h"),
    ("p_el", "compressor_power_w", "kW"),
)


_PRESSURES = (
    ("p_suc", "suction_pressure_pa", "bar(g)"),
    ("p_dis", "compressor_discharge_pressure_pa", "bar(g)"),
)


def _wanting(guesses: Sequence[Guess]) -> str:
    """Return the pressures that nobody has named, to be filled in."""
    named = {each.point for each in guesses}
    absent = [Guess(n, p, u) for n, p, u in _PRESSURES if p not in named]
    if not absent:
        return ""
    lines = _mapping(absent).splitlines()
    return _WITHOUT_PRESSURES + "".join(f"# {line}\n" for line in lines)


def _mapping(guesses: Sequence[Guess]) -> str:
    return "".join(
        f"{each.point} = {{ pointer = {_text(_pointer(each.column))}, "
        f"unit = {_text(each.unit)} }}\n"
        for each in guesses
    )


def _pointer(column: str) -> str:
    return "/" + column.replace("~", "~0").replace("/", "~1")


def _text(value: str) -> str:
    """Return a TOML string; what the user typed must not become syntax."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(
        c if c.isprintable() else f"\\u{ord(c):04x}" for c in escaped
    ) + '"'  # fmt: skip


def _comment(value: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in value)


_HEAD = """\
# Written by hptwin init. Quantities are text with their unit ("600 kW").
#   hptwin check     says what is wrong, and what is off for lack of which point
#   hptwin points    lists the points and their meaning

[site]
name = {site}
timezone = "UTC"                # reports are local; everything stored is UTC

[mqtt]
host = {broker}
port = 1883
client_id = "hptwin"
# username = "hptwin"
# password_file = "mqtt.password"   # chmod 600; or password_env = "MQTT_PASSWORD"
{plaintext}
[archive]
kind = "parquet"

[web]
port = 8080

[tariff]                        # left out, kWh are reported without EUR and kg
# electricity_price = "120 EUR/MWh"
# heat_price = "60 EUR/MWh"
# electricity_emission = "0.35 kg/kWh"
# heat_emission = "0.21 kg/kWh"
# emission_source = "supplier, 2026"

"""

_MACHINE_TEXT = """\
[[heat_pump]]
id = {id}
refrigerant = {refrigerant}
compressor = "screw"            # screw, scroll, reciprocating, centrifugal

# TODO: one operating point of your data sheet. These are examples: hptwin check
# warns until they are yours, because all that is found is found against them.
[heat_pump.nameplate]
sink_heat = "600 kW"
power = "150 kW"                # or cop = "4.0"
source_inlet = "35 degC"
source_outlet = "28 degC"
sink_inlet = "50 degC"
sink_outlet = "65 degC"

[heat_pump.source]
coolant = "water"               # or MEG, MPG with mass_fraction = "25 %"

[heat_pump.sink]
coolant = "water"

[heat_pump.payload]
topic = {topic}
time = "/time"

[heat_pump.points]
{points}{pressures}
"""

_WITHOUT_PRESSURES = """\
# TODO: without both refrigerant pressures a loss is seen, but no part is named.
"""

_CONSUMER = """\
# TODO: who takes the heat. Without a demand no heat is called missed.
# [[consumer]]
# id = "network"
# use = "district"              # building, district, process, cold
# supply_temp = "62 degC"
# demand = "400 kW"             # or "unlimited"; or a meter, instead of this line:
# points = { demand_heat_w = { topic = "plant/network", pointer = "/q", unit = "kW" } }
"""
