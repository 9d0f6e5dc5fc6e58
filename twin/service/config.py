"""The one file an engineer writes: ``plant.toml`` becomes a plant and its wiring.

Everything wrong with it is reported at once, each problem with file, key,
value and remedy. Field units end here: what leaves this module is SI. Secrets
come from files or the environment and are never shown.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo, available_timezones

from ingest.broker import PROTOCOLS, Connection
from ingest.files import InputError
from ingest.reading import Source
from ingest.sparkplug import NAMESPACE, address
from twin.plant import (
    Action,
    Compressor,
    Consumer,
    Coolant,
    Demand,
    Exchanger,
    Machine,
    Maintenance,
    Nameplate,
    Plant,
    Rejector,
    Schedule,
    Tariff,
    Use,
)
from twin.points import POINTS, Kind, Origin, nearest, points_of
from twin.service import reporting, timetables
from twin.service.first import EXAMPLE_NAMEPLATE
from twin.service.reporting import Reporting
from twin.timetable import Timetable
from twin.units import UnitError, conversion, quantity

if TYPE_CHECKING:
    from ingest.archive import Archive

ENVIRONMENT = "HPTWIN_"
DEFAULT_FILE = "plant.toml"
_ZERO_DEGC = 273.15
# An id stands in file names, database tags and MQTT topics.
_ID = re.compile(r"\w[\w.-]{0,63}")
_BARE_NUMBER = re.compile(r"[+-]?[\d.]+(?:[eE][+-]?\d+)?")
_Word = TypeVar("_Word", bound=StrEnum)


class Format(StrEnum):
    """How a payload is written; the plain value and JSON need no word."""

    JSON = "json"
    TELEGRAF = "telegraf"
    INFLUX = "influx"
    SPARKPLUG = "sparkplug"


# What names a value in each format, for the sentences about it.
_NAMED = {"telegraf": "field", "influx": "field", "sparkplug": "metric"}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where, what was found, what is right, what to do."""

    file: str
    key: str
    value: str
    sentence: str
    remedy: str

    def __str__(self) -> str:
        shown = f" = {self.value}" if self.value else ""
        where = f"{self.file}: {self.key}{shown}" if self.key else self.file
        return f"{where}: {self.sentence}; {self.remedy}."


class ConfigError(ValueError):
    """The configuration cannot be used; ``problems`` are all of its faults."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveConfig:
    """Where readings are kept: ``parquet`` in a folder, or ``influxdb``.

    With ``retention_days`` 0 they are kept for ever; an InfluxDB has a
    retention of its own.
    """

    kind: str = "parquet"
    path: Path = Path("hptwin-data/archive")
    url: str = ""
    database: str = "hptwin"
    org: str = ""
    username: str = ""
    secret_file: Path | None = None
    secret_env: str = ""
    retention_days: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StateConfig:
    """Which PostgreSQL keeps the state; without a URL a file in ``state_dir`` does.

    The password is in a file or a variable, never in the URL.
    """

    url: str = ""
    secret_file: Path | None = None
    secret_env: str = ""


def secret(file: Path | None, variable: str) -> str:
    """Return a secret from its file, else from the environment, else nothing."""
    if file is not None:
        return file.read_text(encoding="utf-8").strip()
    return os.environ.get(variable, "") if variable else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebConfig:
    """Where the page is served, under which further names, and with what TLS."""

    host: str = "127.0.0.1"
    port: int = 8080
    names: tuple[str, ...] = ()
    cert_file: Path | None = None
    key_file: Path | None = None

    @property
    def tls(self) -> tuple[Path, Path] | None:
        """The certificate and its key; None speaks plainly."""
        if self.cert_file is None or self.key_file is None:
            return None
        return self.cert_file, self.key_file

    @property
    def url(self) -> str:
        """Where a person finds the page."""
        name = self.names[0] if self.names else self.host
        place = f"[{name}]" if ":" in name else name
        return f"http{'s' if self.tls else ''}://{place}:{self.port}"


SEVERITIES = ("low", "medium", "high")
"""How much an alarm may matter, as a configuration says it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteConfig:
    """One way to people: an apprise address, from which severity on, for which units.

    No units means all of them; ``ends`` is whether an end is told as well.
    """

    name: str
    url: str = field(repr=False)
    least: str = SEVERITIES[0]
    units: tuple[str, ...] = ()
    ends: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyConfig:
    """Who is told.

    Attributes
    ----------
    urls
        Apprise addresses that are told everything.
    routes
        Those that are told a part.
    mqtt_prefix
        First level of the topics of alarms; "" is off.
    alertmanager
        Where one is; "" is nowhere. Its token is a secret.
    heartbeat
        A watchdog's address, which may be a secret; "" is none.
    heartbeat_every
        How often it is asked for.
    """

    urls: tuple[str, ...] = field(default=(), repr=False)
    routes: tuple[RouteConfig, ...] = ()
    mqtt_prefix: str = "hptwin"
    alertmanager: str = ""
    alertmanager_token_file: Path | None = None
    heartbeat: str = field(default="", repr=False)
    heartbeat_every: timedelta = timedelta(minutes=5)

    @property
    def ways(self) -> tuple[RouteConfig, ...]:
        """Every way to people, those without a name by their number."""
        plain = (
            RouteConfig(name=f"route{number}", url=url)
            for number, url in enumerate(self.urls, start=1)
        )
        return (*plain, *self.routes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A plant, how it is read, and where the service keeps and shows things.

    ``rebirth`` permits the one thing that is ever written toward the plant: to
    ask a Sparkplug node to say again what its metrics are.
    """

    file: Path
    plant: Plant
    sources: tuple[Source, ...]
    mqtt: Connection
    archive: ArchiveConfig
    web: WebConfig
    notify: NotifyConfig
    state_dir: Path
    state: StateConfig = StateConfig()
    rebirth: bool = False
    reporting: Reporting = field(default_factory=Reporting)
    warnings: tuple[Problem, ...] = ()


class _Signal(StrEnum):
    """What the topic of a consumer's demand says."""

    METER = "meter"
    DISPATCH = "dispatch"


class _Told:
    """What a configuration tells beforehand, in files that it names.

    Where a quantity may stand, so may ``{ file = "spot.csv", column = "price",
    unit = "EUR/MWh" }``.
    """

    def __init__(self, base: Path, zone: str) -> None:
        self.tables: dict[tuple[str, str], Timetable] = {}
        self._base, self._zone = base, zone

    def amount(
        self,
        table: _Table,
        name: str,
        at: tuple[str, str],
        *,
        low: float,
        high: float,
        example: str,
    ) -> float | None:
        """Read a quantity, or keep the timetable that stands in its place."""
        wanted = POINTS[at[1]].unit
        if not isinstance(table.raw(name), dict):
            return table.amount(name, wanted, low=low, high=high, example=example)
        each = table.table(name)
        file, column = each.path("file", self._base), each.text("column")
        unit, zone = each.text("unit"), each.text("timezone", self._zone)
        each.finish()
        if file is None or not column or not unit:
            table.wrong(
                name,
                "does not say which column of which file, in which unit",
                '{ file = "spot.csv", column = "price", unit = "EUR/MWh" }',
            )
            return None
        if zone not in available_timezones():
            each.wrong(
                "timezone", "is not a time zone", 'write one like "Europe/Paris"'
            )
            return None
        try:
            self.tables[at] = timetables.read(
                file, column, unit, wanted, zone=zone, allowed=(low, high)
            )
        except UnitError as error:
            each.wrong("unit", str(error), f'write one as in "{example}"')
        except InputError as error:
            each.wrong("file", f"{error.found}; {error.right}", error.remedy)
        return None


class _Table:
    """A table of the file that knows its key path and what has been read of it.

    Reading a key marks it as known; what is left over at the end is an
    unknown key, reported with the nearest right one.
    """

    def __init__(
        self, values: Mapping[str, Any], key: str, report: Callable[..., None]
    ) -> None:
        self.values, self.key, self._report = dict(values), key, report
        self._known: set[str] = set()

    def at(self, name: str) -> str:
        return f"{self.key}.{name}" if self.key else name

    def wrong(self, name: str, sentence: str, remedy: str) -> None:
        self._report(self.at(name), self.values.get(name), sentence, remedy)

    def has(self, name: str) -> bool:
        self._known.add(name)
        return name in self.values

    def raw(self, name: str, default: Any = None) -> Any:
        self._known.add(name)
        return self.values.get(name, default)

    def text(self, name: str, default: str = "") -> str:
        found = self.raw(name, default)
        if not isinstance(found, str):
            self.wrong(name, "is not text", 'put it in quotes: "..."')
            return default
        return found

    def flag(self, name: str, default: bool = False) -> bool:
        found = self.raw(name, default)
        if not isinstance(found, bool):
            self.wrong(name, "is neither true nor false", "write true or false")
            return default
        return found

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        found = self.raw(name, default)
        if isinstance(found, bool) or not isinstance(found, int):
            self.wrong(name, "is not a whole number", f"write one, {low} to {high}")
            return default
        if not low <= found <= high:
            self.wrong(name, f"is not between {low} and {high}", "correct it")
            return default
        return found

    def amount(
        self,
        name: str,
        unit: str,
        default: float | None = None,
        *,
        low: float = -math.inf,
        high: float = math.inf,
        example: str = "",
    ) -> float | None:
        """Read a quantity with its unit, such as "600 kW"; SI is returned."""
        if not self.has(name):
            return default
        found = self.values[name]
        if isinstance(found, bool) or not isinstance(found, (str, int, float)):
            self.wrong(name, "is no quantity", f'write one, such as "{example}"')
            return default
        bare = not isinstance(found, str) or _BARE_NUMBER.fullmatch(found.strip())
        if bare and unit != "1":
            self.wrong(name, "has no unit", f'write it with one, such as "{example}"')
            return default
        try:
            value = quantity(found, unit)
        except UnitError as error:
            self.wrong(name, str(error), f'write it as in "{example}"')
            return default
        if not (math.isfinite(value) and low <= value <= high):
            self.wrong(name, "is out of any sensible range", f'e.g. "{example}"')
            return default
        return value

    def word(self, name: str, kinds: type[_Word], default: _Word) -> _Word:
        found = self.text(name, default.value)
        try:
            return kinds(found)
        except ValueError:
            known = [kind.value for kind in kinds]
            self.wrong(
                name,
                f"is not one of {', '.join(known)}",
                f'write "{nearest(found, known) or default.value}"',
            )
            return default

    def moment(self, name: str) -> datetime | None:
        if not self.has(name):
            return None
        found = self.values[name]
        if isinstance(found, datetime):
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(
                UTC
            )
        if isinstance(found, date):
            return datetime(found.year, found.month, found.day, tzinfo=UTC)
        self.wrong(
            name, "is not a date or time", "write 2026-03-01T08:00:00Z, unquoted"
        )
        return None

    def path(self, name: str, base: Path, default: Path | None = None) -> Path | None:
        found = self.text(name)
        return (base / found).resolve() if found else default

    def table(self, name: str) -> _Table:
        found = self.raw(name, {})
        if not isinstance(found, dict):
            self.wrong(name, "is not a table", f"write [{self.at(name)}] and its keys")
            found = {}
        return _Table(found, self.at(name), self._report)

    def tables(self, name: str, *labels: str) -> list[_Table]:
        """Return a list of tables, each called by one of its keys or by its place."""
        found = self.raw(name, [])
        if not isinstance(found, list) or not all(isinstance(x, dict) for x in found):
            remedy = f"write [[{self.at(name)}]] for each one"
            self.wrong(name, "is not a list of tables", remedy)
            return []
        made = []
        for index, values in enumerate(found, start=1):
            called = next((values[key] for key in labels if values.get(key)), index)
            made.append(_Table(values, f"{self.at(name)}.{called}", self._report))
        return made

    def names(self, name: str) -> tuple[str, ...]:
        found = self.raw(name, [])
        if isinstance(found, str):
            found = [found]
        if not isinstance(found, list) or not all(isinstance(x, str) for x in found):
            self.wrong(name, "is not a list of names", 'write ["one", "two"]')
            return ()
        return tuple(found)

    def finish(self, also: Iterable[str] = ()) -> None:
        """Report every key that nobody asked for."""
        known = sorted(self._known | set(also))
        for name in self.values:
            if name not in known:
                near = nearest(name, known)
                self.wrong(
                    name,
                    "is not a key of this table",
                    f'did you mean "{near}"'
                    if near
                    else f"known are {', '.join(known)}",
                )


_USUAL = {"Pa": "bar(g)", "W": "kW", "m3/s": "m3/h", "J": "MWh", "1": "%"}


def _points(
    table: _Table, unit: str, kind: Kind, sources: list[Source]
) -> frozenset[str]:
    """Read which topic, column or pointer each point of a device comes from."""
    payload = table.table("payload")
    topic = payload.text("topic")
    stamp = payload.text("time")
    decimal = payload.text("decimal", ".")
    if decimal not in (".", ","):
        payload.wrong("decimal", "is not a decimal mark", 'write "." or ","')
        decimal = "."
    form = _format(payload, "")
    tags = _tags(payload, form, ())
    payload.finish()
    points = table.table("points")
    allowed = points_of(kind, Origin.MEASURED)
    mapped = []
    for name, entry in points.values.items():
        points.has(name)
        if name not in allowed:
            near = nearest(name, allowed)
            elsewhere = name in POINTS
            points.wrong(
                name,
                f"is no point of a {kind.value.replace('_', ' ')}"
                if elsewhere
                else "is not in the vocabulary",
                f'did you mean "{near}"' if near else "see: hptwin points",
            )
            continue
        if isinstance(entry, str):
            entry = {"pointer": entry} if topic else {"topic": entry}
        if not isinstance(entry, dict):
            points.wrong(
                name, "is neither a topic nor a table", '{ topic = "...", unit = "kW" }'
            )
            continue
        each = _Table(entry, points.at(name), points._report)
        wanted = POINTS[name].unit
        counter = name.endswith("_energy_j")
        field_unit = each.text("unit", wanted)
        pointer = each.text("pointer")
        column = each.text("column")
        where = each.text("topic", topic)
        factor = each.raw("scale", 1.0)
        if (
            isinstance(factor, bool)
            or not isinstance(factor, (int, float))
            or not factor
        ):
            each.wrong("scale", "is no factor", "write a number that is not 0")
            factor = 1.0
        own_form = _format(each, form)
        own_tags = _tags(each, own_form, tags if own_form == form else ())
        own_stamp = each.text("time", "" if own_form else stamp)
        own_decimal = each.text("decimal", decimal)
        each.finish()
        if own_form:
            pointer = column or pointer
        elif column:
            pointer = "/" + column.replace("~", "~0").replace("/", "~1")
        elif pointer and not pointer.startswith("/"):
            pointer = "/" + pointer
        if not where:
            points.wrong(
                name,
                "has no topic",
                f"name one here, or for the whole device in [{table.key}.payload]",
            )
            continue
        if any(sign in where for sign in "+#\x00"):
            each.wrong("topic", "holds a wildcard", "name each device's own topic")
            continue
        if own_form and not pointer:
            points.wrong(
                name,
                f"does not name its {_NAMED[own_form]}",
                'write { pointer = "t_out", unit = "degC" } with its name',
            )
            continue
        if fault := _misplaced(where, own_form):
            (points if isinstance(points.values[name], str) else each).wrong(
                name if isinstance(points.values[name], str) else "topic", *fault
            )
            continue
        if not pointer and where == topic:
            points.wrong(
                name,
                "does not say where in the payload it stands",
                'give a pointer, such as { pointer = "/t1", unit = "degC" }',
            )
            continue
        try:
            turn = conversion(field_unit, wanted)
        except UnitError as error:
            each.wrong(
                "unit", str(error), f'write one like "{_USUAL.get(wanted, wanted)}"'
            )
            continue
        sources.append(
            Source(
                topic=where,
                unit=unit,
                point=name,
                scale=turn.scale * float(factor),
                offset=turn.offset,
                pointer=pointer,
                time_pointer=own_stamp
                if not own_stamp or own_stamp.startswith("/")
                else "/" + own_stamp,
                counter=counter,
                decimal=own_decimal,
                format=own_form,
                where=own_tags,
            )
        )
        mapped.append(name)
    return frozenset(mapped)


def _format(table: _Table, inherited: str) -> str:
    """Read how a payload is written; "" is a plain value or JSON."""
    found = table.word("format", Format, Format(inherited or "json")).value
    found = "" if found == Format.JSON else found
    if found:
        for name in ("time", "decimal"):
            if table.has(name):
                table.wrong(
                    name,
                    f"has no meaning for {found}, which has rules of its own",
                    "leave it out",
                )
    return found


def _tags(
    table: _Table, form: str, inherited: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    """Read which measurement is meant: its name, and tags that it must carry."""
    if not table.has("where"):
        return inherited
    found = table.values["where"]
    texts = isinstance(found, dict) and all(isinstance(x, str) for x in found.values())
    if not texts:
        table.wrong(
            "where",
            "is not a table of texts",
            'write where = { name = "modbus", host = "hp1" }',
        )
        return ()
    if form not in ("telegraf", "influx"):
        table.wrong(
            "where",
            f"has no meaning for {form or 'json'}",
            'leave it out, or set format = "telegraf" or "influx"',
        )
        return ()
    return tuple(sorted(found.items()))


def _misplaced(topic: str, form: str) -> tuple[str, str] | None:
    """Return what is wrong with a topic of a format, and what to do."""
    if form == Format.SPARKPLUG:
        try:
            address(topic)
        except ValueError:
            right = f'write "{NAMESPACE}/<group>/<edge node>[/<device>]"'
            return "is no address of Sparkplug B", right
    elif topic.startswith(f"{NAMESPACE}/"):
        return "is an address of Sparkplug B", 'set format = "sparkplug"'
    return None


def _coolant(table: _Table, name: str, coldest: float | None) -> Coolant:
    each = table.table(name)
    kinds = {"water": "water", "MEG": "MEG", "MPG": "MPG"}
    kind = each.text("coolant", "water")
    if kind not in kinds:
        each.wrong(
            "coolant",
            "is not a liquid known here",
            'write "water", "MEG" (ethylene glycol) or "MPG" (propylene glycol)',
        )
        kind = "water"
    fraction = each.amount("mass_fraction", "1", 0.0, low=0.0, high=0.6, example="25 %")
    each.finish()
    if kind != "water" and not fraction:
        each.wrong(
            "mass_fraction",
            f"is missing for {kind}",
            'write the mass fraction of the glycol, such as "25 %"',
        )
        fraction = 0.25
    if kind == "water" and fraction:
        each.wrong(
            "mass_fraction", "is set for water", 'name the glycol: coolant = "MPG"'
        )
        fraction = 0.0
    coolant = Coolant(kind, float(fraction or 0.0))
    if coldest is not None:
        from twin.fluids import freezing_point

        freezes = float(freezing_point(coolant))
        if coldest < freezes:
            each.wrong(
                "coolant",
                f"freezes at {freezes:.1f} degC, and gets down to {coldest:.1f} degC",
                "correct the mass fraction or the temperature",
            )
    return coolant


def _nameplate(table: _Table) -> Nameplate | None:
    plate = table.table("nameplate")
    if not plate.values:
        table.wrong(
            "nameplate",
            "is missing",
            "copy the maker's operating point: sink_heat, power (or cop), and the four"
            " liquid temperatures",
        )
        return None
    heat = plate.amount("sink_heat", "W", low=100.0, high=1e9, example="600 kW")
    cold = plate.amount("source_heat", "W", low=100.0, high=1e9, example="450 kW")
    power = plate.amount("power", "W", low=10.0, high=1e9, example="130 kW")
    cop = plate.amount("cop", "1", low=0.1, high=100.0, example="4.5")
    temps = {
        f"{side}_{end}": plate.amount(
            f"{side}_{end}", "degC", low=-60.0, high=180.0, example="35 degC"
        )
        for side in ("source", "sink")
        for end in ("inlet", "outlet")
    }
    speed = plate.amount("speed", "Hz", low=1.0, high=2000.0, example="50 Hz")
    top = plate.amount("speed_max", "Hz", low=1.0, high=2000.0, example="60 Hz")
    least = plate.amount("sink_heat_min", "W", low=1.0, high=1e9, example="200 kW")
    saturation = {
        name: plate.amount(name, "degC", low=-60.0, high=180.0, example="70 degC")
        for name in ("evaporating", "condensing")
    }
    plate.finish()
    # Two of heat, cold, power and COP give the others; heat = cold + power.
    if heat is None and cold is not None and power is not None:
        heat = cold + power
    if heat is None and cop is not None and power is not None:
        heat = cop * power
    if power is None and heat is not None and cop is not None:
        power = heat / cop
    if power is None and heat is not None and cold is not None:
        power = heat - cold
    # A key that is there and wrong has been reported already.
    missing = [name for name in temps if name not in plate.values]
    rated = [
        name
        for name in ("sink_heat", "source_heat", "power", "cop")
        if name in plate.values
    ]
    if len(rated) < 2 or rated == ["source_heat", "cop"]:
        missing.append("sink_heat and power")
    if missing:
        table.wrong(
            "nameplate",
            f"lacks {', '.join(missing)}",
            'write them with units, such as sink_inlet = "50 degC"',
        )
    t = {name: value for name, value in temps.items() if value is not None}
    if heat is None or power is None or len(t) < len(temps):
        return None
    if cold is not None and abs(heat - power - cold) > 0.1 * heat:
        plate.wrong(
            "source_heat",
            f"and power make {(cold + power) / 1e3:.0f} kW, not the sink_heat of"
            f" {heat / 1e3:.0f} kW",
            "leave out the one that is not of this operating point",
        )
        return None
    for side, warm, cool in (
        ("source", "source_inlet", "source_outlet"),
        ("sink", "sink_outlet", "sink_inlet"),
    ):
        if t[warm] <= t[cool]:
            plate.wrong(
                warm,
                f"is not warmer than {cool} ({t[cool]:.1f} degC)",
                f"swap them: the machine {'cools' if side == 'source' else 'heats'}"
                f" its {side}",
            )
            return None
    # The reversible machine between the two mean temperatures (Lorenz) bounds
    # any machine; between the outlets (Carnot) is the tighter, customary check.
    cool_k, warm_k = t["source_outlet"] + _ZERO_DEGC, t["sink_outlet"] + _ZERO_DEGC
    if warm_k <= cool_k:
        plate.wrong(
            "sink_outlet",
            f"is not above the source outlet ({t['source_outlet']:.1f} degC)",
            "a heat pump lifts heat; check all four temperatures",
        )
        return None
    carnot = warm_k / (warm_k - cool_k)
    if heat / power > carnot:
        name = "cop" if "cop" in plate.values else "power"
        plate.wrong(
            name,
            f"means a COP of {heat / power:.2f}, above Carnot's {carnot:.2f} between"
            f" {t['source_outlet']:.1f} and {t['sink_outlet']:.1f} degC",
            "check for swapped temperatures, or W where kW is meant",
        )
        return None
    if heat / power <= 1.0:
        plate.wrong(
            "power",
            f"means a COP of {heat / power:.2f}: no heat would come from the source",
            "check the units of sink_heat and power",
        )
        return None
    cold, hot = saturation["evaporating"], saturation["condensing"]
    for name, side, wrong in (
        ("evaporating", "source_inlet", cold is not None and cold >= t["source_inlet"]),
        ("condensing", "sink_inlet", hot is not None and hot <= t["sink_inlet"]),
    ):
        if wrong:
            plate.wrong(
                name,
                f"is on the wrong side of {side} ({t[side]:.1f} degC)",
                "copy the refrigerant's saturation temperature of this operating point,"
                " or leave it out",
            )
            return None
    if top is not None and (speed is None or top < speed):
        plate.wrong(
            "speed_max",
            "needs the speed of the operating point, and is not below it",
            'write both, such as speed = "50 Hz" and speed_max = "60 Hz"',
        )
        return None
    if least is not None and least > heat:
        plate.wrong(
            "sink_heat_min",
            f"is more than the sink_heat of {heat / 1e3:.0f} kW",
            "copy the least heat that the machine runs at, or leave it out",
        )
        return None
    return Nameplate(
        sink_heat_w=heat,
        power_w=power,
        source_inlet_temp_degc=t["source_inlet"],
        source_outlet_temp_degc=t["source_outlet"],
        sink_inlet_temp_degc=t["sink_inlet"],
        sink_outlet_temp_degc=t["sink_outlet"],
        speed_hz=speed,
        speed_max_hz=top,
        sink_heat_min_w=least,
        evaporating_temp_degc=saturation["evaporating"],
        condensing_temp_degc=saturation["condensing"],
    )


def _uncertainty(table: _Table) -> dict[str, float]:
    """Read the standard uncertainties of instruments that differ from their class."""
    each = table.table("uncertainty")
    found = {}
    for name in each.values:
        if name not in POINTS:
            each.has(name)
            each.wrong(
                name,
                "is not in the vocabulary",
                f'did you mean "{nearest(name, tuple(POINTS))}"',
            )
            continue
        unit = "K" if POINTS[name].unit == "degC" else POINTS[name].unit
        value = each.amount(name, unit, low=0.0, example="0.1 K")
        if value is not None:
            found[name] = value
    return found


def _machine(table: _Table, sources: list[Source]) -> Machine | None:
    name = _id(table)
    refrigerant = table.text("refrigerant")
    if not table.has("refrigerant"):
        table.wrong("refrigerant", "is missing", 'name it, such as "R1234ze(E)"')
    else:
        from twin.fluids import check_refrigerant

        complaint = check_refrigerant(refrigerant)
        if complaint is not None:
            table.wrong(
                "refrigerant", complaint, "see the README's list of refrigerants"
            )
    compressor = table.word("compressor", Compressor, Compressor.SCREW)
    plate = _nameplate(table)
    source = _coolant(
        table, "source", None if plate is None else plate.source_outlet_temp_degc
    )
    sink = _coolant(
        table, "sink", None if plate is None else plate.sink_inlet_temp_degc
    )
    standby = table.amount("standby_power", "W", 0.0, low=0.0, high=1e6, example="1 kW")
    highest = table.amount(
        "sink_outlet_max", "degC", low=-50, high=250, example="80 degC"
    )
    lowest = table.amount(
        "source_inlet_min", "degC", low=-60, high=150, example="15 degC"
    )
    cleaning = _money(table, "cleaning_cost", 1500.0)
    consumers, cools = table.names("consumers"), table.names("cools")
    uncertainty = _uncertainty(table)
    accepted = table.text("reference_accepted")
    points = _points(table, name, Kind.HEAT_PUMP, sources)
    table.finish()
    if plate is None:
        return None
    return Machine(
        id=name,
        refrigerant=refrigerant,
        nameplate=plate,
        compressor=compressor,
        source=source,
        sink=sink,
        points=points,
        consumers=consumers,
        cools=cools,
        sink_outlet_max_degc=highest,
        source_inlet_min_degc=lowest,
        standby_power_w=float(standby or 0.0),
        cleaning_cost_eur=cleaning,
        uncertainty=uncertainty,
        reference_accepted=accepted,
    )


def _exchanger(table: _Table, sources: list[Source]) -> Exchanger:
    name = _id(table)
    made = Exchanger(
        id=name,
        hot=_coolant(table, "hot", None),
        cold=_coolant(table, "cold", None),
        heat_w=table.amount("heat", "W", low=100.0, high=1e9, example="1.2 MW"),
        supply_max_degc=table.amount(
            "supply_max", "degC", low=5.0, high=100.0, example="45 degC"
        ),
        cleaning_cost_eur=_money(table, "cleaning_cost", 800.0),
        uncertainty=_uncertainty(table),
        points=_points(table, name, Kind.EXCHANGER, sources),
        station=table.flag("station"),
    )
    table.finish()
    return made


def _rejector(table: _Table, sources: list[Source]) -> Rejector:
    name = _id(table)
    made = Rejector(
        id=name,
        coolant=_coolant(table, "liquid", None),
        heat_w=table.amount("heat", "W", low=100.0, high=1e9, example="1.5 MW"),
        points=_points(table, name, Kind.REJECTOR, sources),
    )
    table.finish()
    return made


def _consumer(table: _Table, sources: list[Source], told: _Told) -> Consumer:
    name = _id(table)
    endless = table.raw("demand") == "unlimited"
    said = table.word("demand_topic_is", _Signal, _Signal.METER)
    made = Consumer(
        id=name,
        use=table.word("use", Use, Use.DISTRICT),
        supply_temp_degc=table.amount(
            "supply_temp", "degC", low=-40, high=200, example="65 degC"
        ),
        demand_heat_w=math.inf
        if endless
        else told.amount(
            table, "demand", (name, "demand_heat_w"), low=0.0, high=1e10, example="1 MW"
        ),
        dispatched=said is _Signal.DISPATCH,
        store_volume_m3=table.amount(
            "store_volume", "m3", low=0.01, high=1e6, example="50 m3"
        ),
        heat_price_eur_j=table.amount(
            "heat_price", "EUR/J", low=0.0, high=1e-6, example="60 EUR/MWh"
        ),
        heat_emission_kg_j=table.amount(
            "heat_emission", "kg/J", low=0.0, high=1e-6, example="0.2 kg/kWh"
        ),
        cold_price_eur_j=table.amount(
            "cold_price", "EUR/J", low=0.0, high=1e-6, example="45 EUR/MWh"
        ),
        cold_emission_kg_j=table.amount(
            "cold_emission", "kg/J", low=0.0, high=1e-6, example="0.09 kg/kWh"
        ),
        points=_points(table, name, Kind.CONSUMER, sources),
    )
    takes, other = ("cold", "heat") if made.use is Use.COLD else ("heat", "cold")
    for each in ("price", "emission"):
        if f"{other}_{each}" in table.values:
            table.wrong(
                f"{other}_{each}",
                f"is of {other}, and this consumer takes {takes}",
                f'write {takes}_{each}, or correct use = "{made.use.value}"',
            )
    if made.use is Use.COLD and made.store_volume_m3 is not None:
        table.wrong(
            "store_volume",
            "is a store of cold, which is not accounted for",
            "leave it out",
        )
    table.finish()
    return made


def _id(table: _Table) -> str:
    name = table.text("id")
    if not name:
        table.wrong("id", "is missing", 'give every unit a short name, such as "hp1"')
    elif not _ID.fullmatch(name):
        table.wrong(
            "id",
            "is no short name",
            "use up to 64 letters, digits, dots, dashes and underscores",
        )
    return name


def _money(table: _Table, name: str, default: float) -> float:
    found = table.raw(name, default)
    if isinstance(found, str) and found.replace("EUR", "").strip():
        try:
            found = float(found.replace("EUR", "").strip())
        except ValueError:
            found = None
    if isinstance(found, bool) or not isinstance(found, (int, float)) or found < 0:
        table.wrong(name, "is no amount of money", 'write "1500 EUR"')
        return default
    return float(found)


def _tariff(table: _Table, told: _Told) -> Tariff:
    def each(name: str, point: str, low: float, high: float, example: str) -> Any:
        at = (Plant.SITE, point)
        return told.amount(table, name, at, low=low, high=high, example=example)

    made = Tariff(
        # Negative electricity prices are real; negative heat prices are typos.
        electricity_price_eur_j=each(
            "electricity_price", "electricity_price_eur_j", -1e-6, 2e-6, "120 EUR/MWh"
        ),
        heat_price_eur_j=each(
            "heat_price", "heat_price_eur_j", 0.0, 1e-6, "60 EUR/MWh"
        ),
        cold_price_eur_j=each(
            "cold_price", "cold_price_eur_j", 0.0, 1e-6, "45 EUR/MWh"
        ),
        electricity_emission_kg_j=each(
            "electricity_emission",
            "electricity_emission_kg_j",
            0.0,
            1e-6,
            "0.35 kg/kWh",
        ),
        heat_emission_kg_j=each(
            "heat_emission", "heat_emission_kg_j", 0.0, 1e-6, "0.2 kg/kWh"
        ),
        cold_emission_kg_j=each(
            "cold_emission", "cold_emission_kg_j", 0.0, 1e-6, "0.09 kg/kWh"
        ),
        emission_source=table.text("emission_source"),
    )
    table.finish()
    return made


def _schedule(table: _Table) -> Schedule:
    made = Schedule(
        reference_start=table.moment("reference_start"),
        reference_length=timedelta(days=table.whole("reference_days", 30, 1, 3660)),
        every=timedelta(days=table.whole("recalibrate_every_days", 7, 1, 366)),
        window=timedelta(days=table.whole("window_days", 28, 1, 366)),
        step=table.whole("step_percent", 15, 1, 100) / 100.0,
        step_after_event=table.whole("step_after_event_percent", 60, 1, 100) / 100.0,
    )
    table.finish()
    return made


def _maintenance(table: _Table) -> Maintenance | None:
    time = table.moment("time")
    if time is None:
        table.wrong("time", "is missing", "write time = 2026-03-01T08:00:00Z")
    unit = table.text("unit")
    action = table.word("action", Action, Action.NOTE)
    component, note = table.text("component"), table.text("note")
    table.finish()
    if time is None:
        return None
    return Maintenance(
        time=time, unit=unit, action=action, component=component, note=note
    )


def loopback(host: str) -> bool:
    """Tell whether a host is this machine and nobody else can speak to it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _private(
    path: Path | None, table: _Table, name: str, warn: Callable[..., None]
) -> None:
    """Warn of a secret that everybody on the machine can read."""
    if path is None:
        return
    if not path.is_file():
        table.wrong(name, "is not a file", "put the secret there, readable by us alone")
    elif path.stat().st_mode & 0o007:
        warn(
            table.at(name),
            str(path),
            "may be read by other users of this machine",
            f"chmod 600 {path.name}",
        )


def _mqtt(table: _Table, base: Path, warn: Callable[..., None]) -> Connection:
    tls = table.table("tls")
    secret = table.path("password_file", base)
    _private(secret, table, "password_file", warn)
    if "password" in table.values:
        table.has("password")
        table.values["password"] = "..."  # noqa: S105  it must not be shown
        table.wrong(
            "password",
            "does not belong into this file",
            "use password_file, or password_env with the name of a variable",
        )
    key = tls.path("key_file", base)
    _private(key, tls, "key_file", warn)
    protocol = table.text("protocol", "3.1.1")
    if protocol not in PROTOCOLS:
        known = " or ".join(f'"{each}"' for each in PROTOCOLS)
        table.wrong("protocol", "is no version of MQTT spoken here", f"write {known}")
        protocol = "3.1.1"
    made = Connection(
        protocol=protocol,
        host=table.text("host", "127.0.0.1"),
        port=table.whole("port", 1883, 1, 65535),
        client_id=table.text("client_id", "hptwin"),
        username=table.text("username"),
        password_file=secret,
        password_env=table.text("password_env"),
        tls=tls.flag("enabled", default=bool(tls.values)),
        ca_file=tls.path("ca_file", base),
        cert_file=tls.path("cert_file", base),
        key_file=key,
        allow_plaintext=table.flag("allow_plaintext"),
        silence_s=table.amount("silence", "s", 900.0, low=0.0, example="15 min") or 0.0,
    )
    tls.finish()
    table.finish()
    if not loopback(made.host) and not made.encrypted and not made.allow_plaintext:
        table.wrong(
            "host",
            "would be spoken to without encryption",
            "set [mqtt.tls] ca_file, or allow_plaintext = true if the network is yours",
        )
    return made


def _archive(table: _Table, base: Path, warn: Callable[..., None]) -> ArchiveConfig:
    kind = table.text("kind", "parquet")
    if kind not in ("parquet", "influxdb"):
        table.wrong("kind", "is no kind of archive", 'write "parquet" or "influxdb"')
        kind = "parquet"
    secret = table.path("secret_file", base)
    _private(secret, table, "secret_file", warn)
    made = ArchiveConfig(
        kind=kind,
        path=table.path("path", base) or base / "hptwin-data" / "archive",
        url=table.text("url"),
        database=table.text("database", "hptwin"),
        org=table.text("org"),
        username=table.text("username"),
        secret_file=secret,
        secret_env=table.text("secret_env"),
        retention_days=table.whole("retention_days", 0, 0, 36_525),
    )
    table.finish()
    if kind == "influxdb" and made.retention_days:
        table.wrong(
            "retention_days",
            "is not for an InfluxDB",
            "set the retention of its bucket or database there",
        )
    if kind == "influxdb" and not made.url:
        table.wrong("url", "is missing", 'write url = "http://127.0.0.1:8086"')
    return made


_ENCRYPTED = ("require", "verify-ca", "verify-full")


def _state(
    table: _Table, base: Path, warn: Callable[..., None]
) -> tuple[Path, StateConfig]:
    hidden = table.path("secret_file", base)
    _private(hidden, table, "secret_file", warn)
    folder = table.path("dir", base) or base / "hptwin-data"
    made = StateConfig(
        url=table.text("url"),
        secret_file=hidden,
        secret_env=table.text("secret_env"),
    )
    plain = table.flag("allow_plaintext")
    table.finish()
    example = 'write url = "postgresql://hptwin@db.example.org/hptwin"'
    if not made.url:
        for name in ("secret_file", "secret_env"):
            if table.has(name):
                table.wrong(name, "is for a PostgreSQL, and none is named", example)
        return folder, made
    try:
        parts = urlsplit(made.url)
        asked = parse_qs(parts.query)
        password, _ = parts.password or asked.get("password"), parts.port
    except ValueError as error:
        table.wrong("url", f"is no address: {error}", example)
        return folder, StateConfig()
    if password:
        table.values["url"] = "..."  # it must not be shown
        table.wrong(
            "url",
            "holds a password",
            "leave it out; use secret_file, or secret_env with the name of a variable",
        )
    elif parts.scheme not in ("postgresql", "postgres"):
        table.wrong(
            "url", "is of no PostgreSQL", f"{example}; without one it is a file"
        )
    elif not (parts.path.strip("/") or asked.get("dbname")):
        table.wrong("url", "names no database", example)
    hosts = [parts.hostname or "", *asked.get("host", [])]
    # A socket's folder, or nothing, is this machine.
    far = [h for h in hosts if h and h[0] not in "/@" and not loopback(h)]
    if far and asked.get("sslmode", [""])[-1] not in _ENCRYPTED and not plain:
        table.wrong(
            "url",
            "would be spoken to without encryption",
            "add ?sslmode=verify-full&sslrootcert=/path/ca.crt,"
            " or allow_plaintext = true if the network is yours",
        )
    return folder, made


def _web(table: _Table, base: Path, warn: Callable[..., None]) -> WebConfig:
    key = table.path("key_file", base)
    _private(key, table, "key_file", warn)
    plain = table.flag("allow_plaintext")
    made = WebConfig(
        host=table.text("host", "127.0.0.1"),
        port=table.whole("port", 8080, 0, 65535),
        names=tuple(table.names("names")),
        cert_file=table.path("cert_file", base),
        key_file=key,
    )
    table.finish()
    if (made.cert_file is None) != (made.key_file is None):
        lacking = "cert_file" if made.cert_file is None else "key_file"
        table.wrong(lacking, "is missing", "TLS needs cert_file and key_file")
    elif made.cert_file is not None and not made.cert_file.is_file():
        table.wrong("cert_file", "is not a file", "put the certificate there")
    if not loopback(made.host) and not made.tls and not plain:
        table.wrong(
            "host",
            "would send passwords over the network without encryption",
            'set cert_file and key_file, or keep "127.0.0.1" behind a proxy with TLS;'
            " allow_plaintext = true if the network is yours",
        )
    return made


def _notify(
    table: _Table, base: Path, units: Iterable[str], warn: Callable[..., None]
) -> NotifyConfig:
    urls = list(table.names("urls"))
    listed = table.path("urls_file", base)
    _private(listed, table, "urls_file", warn)
    if listed is not None and listed.is_file():
        lines = listed.read_text(encoding="utf-8").splitlines()
        urls += [line.strip() for line in lines if line.strip() and line[0] != "#"]
    prefix = table.text("mqtt_prefix", "hptwin")
    if any(sign in prefix for sign in "+#\x00"):
        table.wrong("mqtt_prefix", "holds a wildcard", "leave + and # out")
        prefix = "hptwin"
    every = table.amount(
        "heartbeat_every", "s", 300.0, low=60.0, high=86_400.0, example="5 min"
    )
    made = NotifyConfig(
        urls=tuple(urls),
        routes=_routes(table, base, units, warn),
        mqtt_prefix=prefix,
        alertmanager=_address(table, "alertmanager", base, warn),
        alertmanager_token_file=table.path("alertmanager_token_file", base),
        heartbeat=_address(table, "heartbeat", base, warn),
        heartbeat_every=timedelta(seconds=every or 300.0),
    )
    _private(made.alertmanager_token_file, table, "alertmanager_token_file", warn)
    table.finish()
    return made


def _routes(
    table: _Table, base: Path, units: Iterable[str], warn: Callable[..., None]
) -> tuple[RouteConfig, ...]:
    """Read [[notify.route]]: each a way to people for a part of the alarms."""
    made: list[RouteConfig] = []
    known = sorted(units)
    for number, one in enumerate(table.tables("route", "name"), start=1):
        name = one.text("name", f"extra{number}")
        url = _address(one, "url", base, warn, schemes=())
        if not url:
            one.wrong("url", "is missing", "write url, or url_file, of apprise's form")
        if name == "mqtt" or name in {route.name for route in made}:
            one.wrong("name", "is taken", "give each route a name of its own")
        for unit in one.names("units"):
            if unit not in known:
                near = nearest(unit, known)
                one.wrong(
                    "units",
                    f'names no unit of the plant: "{unit}"',
                    f'did you mean "{near}"' if near else f"known: {', '.join(known)}",
                )
        least = one.text("least", SEVERITIES[0])
        if least not in SEVERITIES:
            one.wrong("least", "is no severity", f"write {', '.join(SEVERITIES)}")
            least = SEVERITIES[0]
        made.append(
            RouteConfig(
                name=name,
                url=url,
                least=least,
                units=one.names("units"),
                ends=one.flag("ends", True),
            )
        )
        one.finish()
    return tuple(made)


def _address(
    table: _Table,
    name: str,
    base: Path,
    warn: Callable[..., None],
    schemes: tuple[str, ...] = ("http", "https"),
) -> str:
    """Read an address, from a file of its own if it holds a secret."""
    found = table.text(name)
    listed = table.path(f"{name}_file", base)
    _private(listed, table, f"{name}_file", warn)
    if listed is not None and listed.is_file():
        found = listed.read_text(encoding="utf-8").strip()
    if found and schemes and urlsplit(found).scheme not in schemes:
        table.wrong(name, "is no web address", "it begins with https:// or http://")
        return ""
    return found


# Scalars that the environment may set: HPTWIN_MQTT__HOST is [mqtt] host.
_SETTABLE: Mapping[str, tuple[str, ...]] = {
    "site": ("name", "timezone"),
    "mqtt": (
        "host", "port", "client_id", "username", "password_file", "password_env",
        "allow_plaintext", "protocol", "rebirth", "silence",
    ),
    "archive": (
        "kind", "path", "url", "database", "org", "username", "secret_file",
        "secret_env", "retention_days",
    ),
    "state": ("dir", "url", "secret_file", "secret_env", "allow_plaintext"),
    "web": ("host", "port", "cert_file", "key_file", "allow_plaintext"),
    "notify": ("urls_file", "mqtt_prefix", "alertmanager", "heartbeat_file"),
}  # fmt: skip
_OWN = ("HPTWIN_CONFIG", "HPTWIN_SHARD")


def overrides() -> tuple[str, ...]:
    """Return every environment variable that overrides what a plant's file says."""
    return tuple(
        f"{ENVIRONMENT}{table}__{key}".upper()
        for table, keys in _SETTABLE.items()
        for key in keys
    )


def variables() -> tuple[str, ...]:
    """Return every environment variable that is understood."""
    return (*_OWN, *overrides())


def _override(
    document: dict[str, Any],
    environ: Mapping[str, str],
    report: Callable[..., None],
    secrets: Iterable[str],
) -> None:
    known = set(variables())
    named = set(secrets)
    for name in sorted(environ):
        if not name.startswith(ENVIRONMENT) or name in _OWN or name in named:
            continue
        if name not in known:
            near = nearest(name, sorted(known))
            report(
                f"environment.{name}",
                None,
                "is not a variable of hptwin",
                f'did you mean "{near}"' if near else "unset it",
            )
            continue
        table, key = name.removeprefix(ENVIRONMENT).lower().split("__", 1)
        text: Any = environ[name]
        if key == "port":
            text = int(text) if text.isdecimal() else text
        elif key in ("allow_plaintext", "rebirth"):
            text = {"true": True, "false": False}.get(text.lower(), text)
        into = document.setdefault(table, {})
        if isinstance(into, dict):
            into[key] = text


def load(path: Path, environ: Mapping[str, str] | None = None) -> Config:
    """Read a plant's configuration.

    Parameters
    ----------
    path : path
        The TOML file; paths in it are relative to its folder.
    environ : mapping, optional
        Environment variables; ``HPTWIN_MQTT__HOST`` overrides ``[mqtt] host``,
        and so on for scalars of tables. Members of lists stand in the file only.

    Returns
    -------
    Config
        Everything in SI.

    Raises
    ------
    ConfigError
        If anything in it is wrong, with every problem there is.
    """
    path = Path(path)
    shown = str(path)
    problems: list[Problem] = []
    warnings: list[Problem] = []

    def report(key: str, value: Any, sentence: str, remedy: str) -> None:
        problems.append(Problem(shown, key, _shown(value), sentence, remedy))

    def warn(key: str, value: Any, sentence: str, remedy: str) -> None:
        warnings.append(Problem(shown, key, _shown(value), sentence, remedy))

    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        report("", None, "there is no such file", "write one with: hptwin init")
        raise ConfigError(problems) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        report("", None, f"cannot be read as TOML: {error}", "correct that line")
        raise ConfigError(problems) from None
    base = path.resolve().parent
    secrets = {
        str(document.get(table, {}).get(key, ""))
        for table, key in (
            ("mqtt", "password_env"),
            ("archive", "secret_env"),
            ("state", "secret_env"),
        )
        if isinstance(document.get(table), dict)
    }
    _override(document, environ or {}, report, secrets)
    top = _Table(document, "", report)
    sources: list[Source] = []

    site = top.table("site")
    name = site.text("name", "plant")
    zone = site.text("timezone", "UTC")
    if zone not in available_timezones():
        near = nearest(zone, sorted(available_timezones()))
        site.wrong("timezone", "is not a time zone", f'did you mean "{near or "UTC"}"')
        zone = "UTC"
    ZoneInfo(zone)
    site_points = _points(site, Plant.SITE, Kind.SITE, sources)
    site.finish()

    def each(kind: str, made: Callable[[_Table], Any]) -> tuple[Any, ...]:
        tables = top.tables(kind, "id", "time")
        return tuple(x for x in (made(table) for table in tables) if x is not None)

    told = _Told(base, zone)
    plant = Plant(
        name=name,
        timezone=zone,
        machines=each("heat_pump", lambda t: _machine(t, sources)),
        exchangers=each("exchanger", lambda t: _exchanger(t, sources)),
        rejectors=each("rejector", lambda t: _rejector(t, sources)),
        consumers=each("consumer", lambda t: _consumer(t, sources, told)),
        site_points=site_points,
        tariff=_tariff(top.table("tariff"), told),
        maintenance=tuple(
            sorted(each("maintenance", _maintenance), key=lambda entry: entry.time)
        ),
        schedule=_schedule(top.table("schedule")),
        timetables=told.tables,
    )
    broker = top.table("mqtt")
    rebirth = broker.flag("rebirth")
    mqtt = _mqtt(broker, base, warn)
    archive = _archive(top.table("archive"), base, warn)
    web = _web(top.table("web"), base, warn)
    named = [Plant.SITE, *(device.id for device in plant.units())]
    notify = _notify(top.table("notify"), base, named, warn)
    state_dir, state = _state(top.table("state"), base, warn)
    reports = reporting.read(top.table("reporting"), base, ZoneInfo(zone))
    top.finish()
    _cross_check(plant, report)
    _one_format_a_topic(sources, report)
    _doubts(plant, sources, warn)
    if not document.get("heat_pump"):
        report("heat_pump", None, "there is none", "describe one in [[heat_pump]]")
    if problems:
        raise ConfigError(problems)
    return Config(
        file=path,
        plant=plant,
        sources=tuple(sources),
        mqtt=mqtt,
        archive=archive,
        web=web,
        notify=notify,
        state_dir=state_dir,
        state=state,
        rebirth=rebirth,
        reporting=reports,
        warnings=tuple(warnings),
    )


def _cross_check(plant: Plant, report: Callable[..., None]) -> None:
    """Check what no table can check alone: names that refer to other tables."""
    ids = [device.id for device in plant.units()]
    for name in sorted({x for x in ids if ids.count(x) > 1}):
        report(name, None, "is the id of more than one unit", "give each its own")
    if Plant.SITE in ids:
        report(
            Plant.SITE, None, "is taken as an id", "it names the site; choose another"
        )
    for machine in plant.machines:
        for key, names, cold in (
            ("consumers", machine.consumers, False),
            ("cools", machine.cools, True),
        ):
            at = f"heat_pump.{machine.id}.{key}"
            fitting = [
                one.id for one in plant.consumers if (one.use is Use.COLD) is cold
            ]
            for name in names:
                if name in fitting:
                    continue
                near = nearest(name, fitting)
                remedy = "describe it in [[consumer]]"
                if name in ids:
                    other = "cools" if key == "consumers" else "consumers"
                    remedy = f"name it in {other}, or correct its use"
                elif near:
                    remedy = f'did you mean "{near}"'
                what = "cold" if cold else "heat"
                report(at, name, f"is no consumer of {what} in this plant", remedy)
    for entry in plant.maintenance:
        if entry.unit not in ids:
            near = nearest(entry.unit, ids)
            report(
                "maintenance.unit",
                entry.unit,
                "is no unit of this plant",
                f'did you mean "{near}"' if near else "name one of its ids",
            )


def _one_format_a_topic(sources: Iterable[Source], report: Callable[..., None]) -> None:
    """Check that a message can be taken for one thing only."""
    first: dict[str, Source] = {}
    for source in sources:
        other = first.setdefault(source.topic, source)
        if other.format != source.format:
            report(
                f"{source.unit}.points.{source.point}",
                source.topic,
                f"is read as {source.format or 'json'} here and as"
                f" {other.format or 'json'} for {other.point} of {other.unit}",
                "give both the format in which the device writes",
            )


def _doubts(plant: Plant, sources: Iterable[Source], warn: Callable[..., None]) -> None:
    """Warn of what can be meant, and mostly is not."""
    first: dict[tuple[str, str, tuple[tuple[str, str], ...]], Source] = {}
    for source in sources:
        place = source.topic, source.pointer, source.where
        other = first.setdefault(place, source)
        if other is not source:
            warn(
                f"{source.unit}.points.{source.point}",
                source.pointer or source.topic,
                f"is also read as {other.point} of {other.unit}",
                "check whether one of them was copied and not changed",
            )
    for device in plant.units():
        declared = isinstance(device, Consumer) and (
            plant.demand_of(device) is not Demand.UNKNOWN
        )
        if not device.points and not declared:
            warn(
                f"{device.kind.value}.{device.id}.points",
                None,
                "nothing is read from this unit",
                "map its topics to points; hptwin points lists them",
            )
    for machine in plant.machines:
        plate, highest = machine.nameplate, machine.sink_outlet_max_degc
        if plate == EXAMPLE_NAMEPLATE:
            warn(
                f"heat_pump.{machine.id}.nameplate",
                None,
                "is still the example that hptwin init wrote",
                "fill in one operating point of your machine's data sheet",
            )
        if highest is not None and highest < plate.sink_outlet_temp_degc:
            warn(
                f"heat_pump.{machine.id}.sink_outlet_max",
                f"{highest:g} degC",
                f"is below the nameplate's own {plate.sink_outlet_temp_degc:g} degC",
                "correct one of them",
            )
    tariff = plant.tariff
    emissions = tariff.electricity_emission_kg_j, tariff.heat_emission_kg_j
    if any(x is not None for x in emissions) and not tariff.emission_source:
        warn(
            "tariff.emission_source",
            None,
            "the emission factors have no source",
            "say where they are from and of which year; reports print it",
        )


def _shown(value: Any) -> str:
    if value is None or isinstance(value, (dict, list)):
        return ""
    return f'"{value}"' if isinstance(value, str) else str(value)


def open_configured(config: ArchiveConfig, *, read_only: bool = False) -> Archive:
    """Open the archive that a configuration names.

    Raises
    ------
    ingest.archive.ArchiveError
        If its settings are not those of its kind.
    """
    from ingest.archive import open_archive

    if config.kind == "parquet":
        config.path.mkdir(parents=True, exist_ok=True)
        return open_archive(
            "parquet",
            directory=config.path,
            read_only=read_only,
            retention_days=config.retention_days or None,
        )
    hidden = secret(config.secret_file, config.secret_env)
    settings: dict[str, Any] = {"url": config.url, "database": config.database}
    if config.username:
        settings |= {"username": config.username, "password": hidden}
    else:
        settings |= {"org": config.org, "token": hidden}
    return open_archive("influxdb", **settings)
