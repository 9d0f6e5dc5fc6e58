"""The plant as configured: its machines, exchangers, coolers and consumers.

Facts only, in SI, with no arithmetic and no file format: how an engineer
writes them down is :mod:`twin.service.config`'s business, how they behave is
the physics' business.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from twin.points import Kind
from twin.timetable import Timetable

_NOTHING: Mapping[str, float] = MappingProxyType({})
_NO_TABLES: Mapping[tuple[str, str], Timetable] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Coolant:
    """A liquid that carries heat: ``kind`` is ``water``, ``MEG`` or ``MPG``.

    ``mass_fraction`` is that of the glycol. [1]
    """

    kind: str = "water"
    mass_fraction: float = 0.0


class Compressor(StrEnum):
    """The way a compressor compresses; it chooses default efficiency curves."""

    SCREW = "screw"
    SCROLL = "scroll"
    RECIPROCATING = "reciprocating"
    CENTRIFUGAL = "centrifugal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nameplate:
    """What the maker promises at one operating point.

    Temperatures are the four liquid temperatures of that point, as seen from
    the machine. [degC] ``sink_heat_w`` and ``power_w`` belong to it. [W]
    ``speed_hz`` is the shaft speed there, None for a machine whose speed is
    not known; ``speed_max_hz`` how fast it may turn, None for no faster. [Hz]
    ``sink_heat_min_w`` is the least heat that it starts for, None if the data
    sheet does not tell. [W] ``evaporating_temp_degc`` and ``condensing_temp_degc``
    are the refrigerant's there where the data sheet tells them. [degC]
    """

    sink_heat_w: float
    power_w: float
    source_inlet_temp_degc: float
    source_outlet_temp_degc: float
    sink_inlet_temp_degc: float
    sink_outlet_temp_degc: float
    speed_hz: float | None = None
    speed_max_hz: float | None = None
    sink_heat_min_w: float | None = None
    evaporating_temp_degc: float | None = None
    condensing_temp_degc: float | None = None

    @property
    def cop(self) -> float:
        """Heating COP that the nameplate claims. [1]."""
        return self.sink_heat_w / self.power_w

    @property
    def top_speed_hz(self) -> float | None:
        """Speed at which the machine is flat out; None where not known. [Hz]."""
        return self.speed_hz if self.speed_max_hz is None else self.speed_max_hz


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A heat pump, or a chiller whose condenser heat is somebody's heat.

    ``points`` are the vocabulary names that are really measured; everything a
    machine can be asked depends on them. ``uncertainty`` overrides the
    standard uncertainty of an instrument, by point, in the point's unit.
    ``consumers`` take its heat, none named is all of them. ``cools`` are the
    consumers of cold whose liquid is its source; without any that is the loop of
    the racks. ``reference_accepted`` is why the operator takes the machine as it was
    found, where what was learnt of it is not what its nameplate promises.
    """

    id: str
    refrigerant: str
    nameplate: Nameplate
    compressor: Compressor = Compressor.SCREW
    source: Coolant = Coolant()
    sink: Coolant = Coolant()
    points: frozenset[str] = frozenset()
    consumers: tuple[str, ...] = ()
    cools: tuple[str, ...] = ()
    sink_outlet_max_degc: float | None = None
    source_inlet_min_degc: float | None = None
    standby_power_w: float = 0.0
    cleaning_cost_eur: float = 1500.0
    uncertainty: Mapping[str, float] = field(default_factory=lambda: _NOTHING)
    reference_accepted: str = ""

    kind = Kind.HEAT_PUMP


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanger:
    """A plate exchanger between two liquids: a CDU, a heat-network station.

    ``station`` is true where it hands heat to a consumer; otherwise it takes
    heat from the IT, and what it moves is IT heat. ``supply_max_degc`` is the
    hottest liquid that the racks behind it may be given; None is not told.
    """

    id: str
    hot: Coolant = Coolant()
    cold: Coolant = Coolant()
    heat_w: float | None = None
    supply_max_degc: float | None = None
    station: bool = False
    points: frozenset[str] = frozenset()
    cleaning_cost_eur: float = 800.0
    uncertainty: Mapping[str, float] = field(default_factory=lambda: _NOTHING)

    kind = Kind.EXCHANGER


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejector:
    """A dry cooler or tower that throws away what nobody recovered."""

    id: str
    coolant: Coolant = Coolant()
    heat_w: float | None = None
    points: frozenset[str] = frozenset()

    kind = Kind.REJECTOR


class Demand(StrEnum):
    """Who says what a consumer wants; a potential is worth no more than that."""

    METER = "meter"
    DISPATCH = "dispatch signal"
    PROFILE = "profile"
    CONSTANT = "constant"
    UNLIMITED = "unlimited"
    UNKNOWN = "unknown"


class Use(StrEnum):
    """What a consumer does with the heat, or the cold, it is given."""

    BUILDING = "building"
    DISTRICT = "district"
    PROCESS = "process"
    COLD = "cold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """Somebody who wants heat (or cold) at a temperature.

    What a consumer of cold demands and is delivered is the heat taken from him; one
    whom no machine cools alone stands on the loop of the racks. Where no demand is
    metered, ``demand_heat_w`` is a constant demand, infinite for one that takes
    whatever comes; None as well means that demand is unknown, so nothing can be
    called missed. [W] ``dispatched`` is whether the demand that is
    read is what a dispatcher asks for, and not what a meter shows.
    ``store_volume_m3`` is the hot water that stands before him; None is no store.
    [m3]
    ``heat_price_eur_j`` and ``heat_emission_kg_j`` are those of what our heat
    replaces there, ``cold_price_eur_j`` and ``cold_emission_kg_j`` those of what our
    cold does; None takes the site's. [EUR/J] [kg/J]
    """

    id: str
    use: Use = Use.DISTRICT
    supply_temp_degc: float | None = None
    demand_heat_w: float | None = None
    store_volume_m3: float | None = None
    dispatched: bool = False
    heat_price_eur_j: float | None = None
    heat_emission_kg_j: float | None = None
    cold_price_eur_j: float | None = None
    cold_emission_kg_j: float | None = None
    points: frozenset[str] = frozenset()

    kind = Kind.CONSUMER


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """What energy costs and emits where the site does not report it.

    None means unknown: kWh are then reported without EUR or kg. [EUR/J] [kg/J]
    """

    electricity_price_eur_j: float | None = None
    heat_price_eur_j: float | None = None
    cold_price_eur_j: float | None = None
    electricity_emission_kg_j: float | None = None
    heat_emission_kg_j: float | None = None
    cold_emission_kg_j: float | None = None
    emission_source: str = ""


class Action(StrEnum):
    """What was done to the plant, so far as the twin must know."""

    CLEANED = "cleaned"
    CHARGED = "charged"
    OVERHAULED = "overhauled"
    SENSOR_REPLACED = "sensor_replaced"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance:
    """One line of the maintenance log; ``time`` is aware, in UTC."""

    time: datetime
    unit: str
    action: Action
    component: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When the twin learns: the reference once, the current model regularly.

    ``reference_start`` None takes the first sample as the start. ``step`` and
    ``step_after_event`` are how far a ratio to the reference may move in one
    recalibration, without and with an event in the maintenance log. [1]
    """

    reference_start: datetime | None = None
    reference_length: timedelta = timedelta(days=30)
    every: timedelta = timedelta(days=7)
    window: timedelta = timedelta(days=28)
    step: float = 0.15
    step_after_event: float = 0.60


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """Everything that stands on the site and what it is worth.

    ``timetables`` are what is known beforehand, by unit and point; a reading of the
    same goes before it.
    """

    name: str
    timezone: str = "UTC"
    machines: tuple[Machine, ...] = ()
    exchangers: tuple[Exchanger, ...] = ()
    rejectors: tuple[Rejector, ...] = ()
    consumers: tuple[Consumer, ...] = ()
    site_points: frozenset[str] = frozenset()
    tariff: Tariff = Tariff()
    maintenance: tuple[Maintenance, ...] = ()
    schedule: Schedule = Schedule()
    timetables: Mapping[tuple[str, str], Timetable] = field(
        default_factory=lambda: _NO_TABLES
    )

    SITE = "site"

    def units(self) -> Iterator[Machine | Exchanger | Rejector | Consumer]:
        """Yield every device that has an id, machines first."""
        yield from self.machines
        yield from self.exchangers
        yield from self.rejectors
        yield from self.consumers

    def demand_of(self, consumer: Consumer) -> Demand:
        """Return who says what a consumer wants, the best that there is."""
        if "demand_heat_w" in consumer.points:
            return Demand.DISPATCH if consumer.dispatched else Demand.METER
        if (consumer.id, "demand_heat_w") in self.timetables:
            return Demand.PROFILE
        if consumer.demand_heat_w is None:
            return Demand.UNKNOWN
        endless = math.isinf(consumer.demand_heat_w)
        return Demand.UNLIMITED if endless else Demand.CONSTANT

    def points_of(self, unit: str) -> frozenset[str]:
        """Return what is measured at a unit; ``"site"`` is one.

        Raises
        ------
        KeyError
            If the plant has no such unit.
        """
        if unit == self.SITE:
            return self.site_points
        for device in self.units():
            if device.id == unit:
                return device.points
        raise KeyError(unit)
