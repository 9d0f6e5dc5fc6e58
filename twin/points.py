"""The vocabulary: every quantity the twin knows, named once.

A column, a stored field, a payload key, a page label and a row of the README
are all made from this table. What measures a quantity, and in which field
unit, is the plant configuration's business and not found here.

Grammar of a name: ``[expected_|residual_] part [place] quantity [unit]``.
*Source* is what the heat pump cools, *sink* what it heats, *inlet* and
*outlet* are as seen from the machine. Units are SI, with two exceptions that
the field insists on: temperature levels in degrees Celsius, and nothing else.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

EXPECTED = "expected_"
RESIDUAL = "residual_"


class Kind(StrEnum):
    """What a telemetry device is, and so which points it may have."""

    HEAT_PUMP = "heat_pump"
    EXCHANGER = "exchanger"
    REJECTOR = "rejector"
    CONSUMER = "consumer"
    SITE = "site"


class Origin(StrEnum):
    """Where a value comes from: an instrument, or the twin's own arithmetic."""

    MEASURED = "measured"
    DERIVED = "derived"


@dataclass(frozen=True, slots=True)
class Point:
    """One quantity of the vocabulary.

    ``low`` and ``high`` bound what an instrument can plausibly report in this
    plant, in ``unit``; outside them a reading is suspect, not impossible.
    """

    name: str
    unit: str
    low: float
    high: float
    meaning: str
    kinds: tuple[Kind, ...]
    origin: Origin = Origin.MEASURED


# The unit stands at the end of a name. Longest suffix first: ``_w_k`` before ``_k``.
UNIT_OF_SUFFIX: Mapping[str, str] = MappingProxyType(
    {
        "_eur_j": "EUR/J",
        "_kg_j": "kg/J",
        "_kg_s": "kg/s",
        "_m3_s": "m3/s",
        "_k_w": "K/W",
        "_w_k": "W/K",
        "_j_k": "J/K",
        "_degc": "degC",
        "_pa": "Pa",
        "_hz": "Hz",
        "_kg": "kg",
        "_m3": "m3",
        "_k": "K",
        "_j": "J",
        "_w": "W",
        "_s": "s",
    }
)
DIMENSIONLESS = "1"


def unit_of(name: str) -> str:
    """Return the unit that a name's suffix promises, ``"1"`` when it has none.

    >>> unit_of("condenser_ua_w_k"), unit_of("superheat_k"), unit_of("cop")
    ('W/K', 'K', '1')
    """
    for suffix, unit in UNIT_OF_SUFFIX.items():
        if name.endswith(suffix):
            return unit
    return DIMENSIONLESS


_HP, _HX, _RJ, _CO, _ST = (
    Kind.HEAT_PUMP,
    Kind.EXCHANGER,
    Kind.REJECTOR,
    Kind.CONSUMER,
    Kind.SITE,
)
_MEASURED, _DERIVED = Origin.MEASURED, Origin.DERIVED

# name, plausible low, plausible high, kinds, origin, meaning
_TABLE: tuple[tuple[str, float, float, tuple[Kind, ...], Origin, str], ...] = (
    # --- the heat pump, water side and power: tier 1
    ("source_inlet_temp_degc", -25.0, 95.0, (_HP,), _MEASURED,
     "liquid into the evaporator"),
    ("source_outlet_temp_degc", -30.0, 90.0, (_HP,), _MEASURED,
     "liquid out of the evaporator"),
    ("sink_inlet_temp_degc", -5.0, 115.0, (_HP,), _MEASURED,
     "liquid into the condenser"),
    ("sink_outlet_temp_degc", -5.0, 125.0, (_HP,), _MEASURED,
     "liquid out of the condenser"),
    ("source_flow_m3_s", 0.0, 2.0, (_HP,), _MEASURED,
     "volume flow through the evaporator, as metered"),
    ("sink_flow_m3_s", 0.0, 2.0, (_HP,), _MEASURED,
     "volume flow through the condenser, as metered"),
    ("compressor_power_w", -1.0e3, 2.0e7, (_HP,), _MEASURED,
     "electrical power of the unit, drive and oil heater included"),
    ("compressor_speed_hz", 0.0, 400.0, (_HP,), _MEASURED,
     "shaft speed of the compressor"),
    ("compressor_running", 0.0, 1.0, (_HP,), _MEASURED,
     "1 while the compressor runs"),
    # --- refrigerant pressures: tier 2
    ("suction_pressure_pa", 1.0e4, 4.0e6, (_HP,), _MEASURED,
     "absolute pressure at the compressor inlet"),
    ("compressor_discharge_pressure_pa", 5.0e4, 8.0e6, (_HP,), _MEASURED,
     "absolute pressure at the compressor outlet"),
    # --- refrigerant temperatures: tier 3
    ("suction_temp_degc", -50.0, 110.0, (_HP,), _MEASURED,
     "refrigerant into the compressor"),
    ("compressor_discharge_temp_degc", -20.0, 180.0, (_HP,), _MEASURED,
     "refrigerant out of the compressor"),
    ("liquid_temp_degc", -20.0, 125.0, (_HP,), _MEASURED,
     "refrigerant out of the condenser, ahead of the valve"),
    # --- what else a controller knows
    ("expansion_valve_ratio", 0.0, 1.0, (_HP,), _MEASURED,
     "expansion valve: 0 shut, 1 open"),
    ("source_pump_power_w", -100.0, 2.0e6, (_HP,), _MEASURED,
     "electrical power of the source pump"),
    ("sink_pump_power_w", -100.0, 2.0e6, (_HP,), _MEASURED,
     "electrical power of the sink pump"),
    ("source_pressure_drop_pa", -5.0e3, 1.0e6, (_HP,), _MEASURED,
     "pressure drop of the source liquid over the evaporator"),
    ("sink_pressure_drop_pa", -5.0e3, 1.0e6, (_HP,), _MEASURED,
     "pressure drop of the sink liquid over the condenser"),
    ("source_setpoint_degc", -25.0, 95.0, (_HP,), _MEASURED,
     "source temperature the controller holds"),
    ("sink_setpoint_degc", -5.0, 125.0, (_HP,), _MEASURED,
     "sink temperature the controller holds"),
    ("available", 0.0, 1.0, (_HP,), _MEASURED,
     "1 while the unit could run: not tripped, not under maintenance"),
    ("manual_override", 0.0, 1.0, (_HP,), _MEASURED,
     "1 while somebody or a schedule holds the unit off or at a fixed stage"),
    ("compressor_energy_j", 0.0, math.inf, (_HP,), _MEASURED,
     "electricity counter of the unit"),
    ("source_energy_j", 0.0, math.inf, (_HP,), _MEASURED,
     "heat counter of the source side"),
    ("sink_energy_j", 0.0, math.inf, (_HP,), _MEASURED,
     "heat counter of the sink side"),
    # --- a plate exchanger: coolant distribution unit, heat-network station
    ("hot_inlet_temp_degc", -25.0, 125.0, (_HX,), _MEASURED,
     "the warmer liquid into the exchanger"),
    ("hot_outlet_temp_degc", -25.0, 125.0, (_HX,), _MEASURED,
     "the warmer liquid out of the exchanger"),
    ("cold_inlet_temp_degc", -25.0, 125.0, (_HX,), _MEASURED,
     "the colder liquid into the exchanger"),
    ("cold_outlet_temp_degc", -25.0, 125.0, (_HX,), _MEASURED,
     "the colder liquid out of the exchanger"),
    ("hot_flow_m3_s", 0.0, 2.0, (_HX,), _MEASURED,
     "volume flow of the warmer liquid, as metered"),
    ("cold_flow_m3_s", 0.0, 2.0, (_HX,), _MEASURED,
     "volume flow of the colder liquid, as metered"),
    ("hot_pressure_drop_pa", -5.0e3, 1.0e6, (_HX,), _MEASURED,
     "pressure drop on the warmer side, strainer included"),
    ("cold_pressure_drop_pa", -5.0e3, 1.0e6, (_HX,), _MEASURED,
     "pressure drop on the colder side, strainer included"),
    # --- a rejector: dry cooler, tower
    ("rejector_inlet_temp_degc", -25.0, 95.0, (_RJ,), _MEASURED,
     "liquid into the cooler"),
    ("rejector_outlet_temp_degc", -30.0, 95.0, (_RJ,), _MEASURED,
     "liquid out of the cooler"),
    ("rejector_flow_m3_s", 0.0, 4.0, (_RJ,), _MEASURED,
     "volume flow through the cooler, as metered"),
    ("rejected_heat_w", -1.0e5, 1.0e8, (_RJ,), _MEASURED,
     "heat thrown to the air, as metered or from flow and temperatures"),
    ("fan_power_w", -1.0e3, 5.0e6, (_RJ,), _MEASURED,
     "electrical power of the fans and of the cooler's pump"),
    # --- a consumer of heat or cold
    ("demand_heat_w", -1.0e3, 1.0e9, (_CO,), _MEASURED,
     "heat, or cold, the consumer asks for now, from us and from anybody else"),
    ("delivered_heat_w", -1.0e5, 1.0e9, (_CO,), _MEASURED,
     "heat, or cold, handed over to the consumer, as metered"),
    ("store_top_temp_degc", -5.0, 125.0, (_CO,), _MEASURED,
     "the store before the consumer, at its top"),
    ("store_middle_temp_degc", -5.0, 125.0, (_CO,), _MEASURED,
     "the same, half-way down"),
    ("store_bottom_temp_degc", -5.0, 125.0, (_CO,), _MEASURED,
     "the same, at its bottom"),
    ("supply_setpoint_degc", -5.0, 125.0, (_CO,), _MEASURED,
     "temperature the consumer needs"),
    ("supply_temp_degc", -5.0, 125.0, (_CO,), _MEASURED,
     "liquid handed to the consumer"),
    ("return_temp_degc", -5.0, 115.0, (_CO,), _MEASURED,
     "liquid that comes back from the consumer"),
    # --- the site
    ("it_power_w", 0.0, 1.0e9, (_ST,), _MEASURED,
     "electrical power of the IT equipment"),
    ("site_power_w", 0.0, 1.0e9, (_ST,), _MEASURED,
     "electrical power of the whole data centre"),
    ("outdoor_temp_degc", -50.0, 60.0, (_ST,), _MEASURED,
     "dry-bulb temperature of the outdoor air"),
    ("wet_bulb_temp_degc", -50.0, 45.0, (_ST,), _MEASURED,
     "wet-bulb temperature of the outdoor air"),
    ("room_dew_point_degc", -40.0, 50.0, (_ST,), _MEASURED,
     "dew point of the air in the halls"),
    ("electricity_price_eur_j", -1.0e-6, 2.0e-6, (_ST,), _MEASURED,
     "price of electricity, negative when somebody pays to be rid of it"),
    ("heat_price_eur_j", -1.0e-6, 1.0e-6, (_ST,), _MEASURED,
     "price of the heat that ours replaces"),
    ("cold_price_eur_j", -1.0e-6, 1.0e-6, (_ST,), _MEASURED,
     "price of the cold that ours replaces"),
    ("electricity_emission_kg_j", 0.0, 5.0e-7, (_ST,), _MEASURED,
     "CO2-equivalent emitted for a joule of electricity"),
    ("heat_emission_kg_j", 0.0, 5.0e-7, (_ST,), _MEASURED,
     "CO2-equivalent emitted for a joule of the heat that ours replaces"),
    ("cold_emission_kg_j", 0.0, 5.0e-7, (_ST,), _MEASURED,
     "CO2-equivalent emitted for a joule of the cold that ours replaces"),
    # --- derived: what the twin's arithmetic makes of the above
    ("source_heat_w", -1.0e6, 1.0e9, (_HP,), _DERIVED,
     "heat taken from the source, positive in normal running"),
    ("sink_heat_w", -1.0e6, 1.0e9, (_HP,), _DERIVED,
     "heat given to the sink, positive in normal running"),
    ("source_flow_kg_s", 0.0, 2.0e3, (_HP,), _DERIVED,
     "mass flow of the source liquid"),
    ("sink_flow_kg_s", 0.0, 2.0e3, (_HP,), _DERIVED,
     "mass flow of the sink liquid"),
    ("refrigerant_flow_kg_s", 0.0, 1.0e3, (_HP,), _DERIVED,
     "mass flow of the refrigerant"),
    ("cop", 0.0, 100.0, (_HP,), _DERIVED,
     "heating coefficient of performance: sink heat over electrical power"),
    ("cooling_cop", 0.0, 100.0, (_HP,), _DERIVED,
     "cooling coefficient of performance: source heat over electrical power"),
    ("carnot_cop", 1.0, math.inf, (_HP,), _DERIVED,
     "the reversible machine's COP between the two saturation temperatures"),
    ("lorenz_cop", 1.0, math.inf, (_HP,), _DERIVED,
     "the reversible machine's COP between the two mean liquid temperatures"),
    ("lorenz_efficiency", 0.0, 1.0, (_HP,), _DERIVED,
     "COP over Lorenz COP"),
    ("evaporating_temp_degc", -60.0, 100.0, (_HP,), _DERIVED,
     "saturation temperature at the suction pressure"),
    ("condensing_temp_degc", -30.0, 160.0, (_HP,), _DERIVED,
     "saturation temperature at the discharge pressure"),
    ("superheat_k", -5.0, 60.0, (_HP,), _DERIVED,
     "suction temperature above evaporating temperature"),
    ("subcooling_k", -5.0, 60.0, (_HP,), _DERIVED,
     "condensing temperature above liquid temperature"),
    ("evaporator_approach_k", -5.0, 60.0, (_HP,), _DERIVED,
     "source outlet above evaporating temperature"),
    ("condenser_approach_k", -20.0, 60.0, (_HP,), _DERIVED,
     "condensing temperature above sink outlet"),
    ("evaporator_ua_w_k", 0.0, 1.0e8, (_HP,), _DERIVED,
     "conductance of the evaporator"),
    ("condenser_ua_w_k", 0.0, 1.0e8, (_HP,), _DERIVED,
     "conductance of the condenser"),
    ("isentropic_efficiency", 0.0, 1.0, (_HP,), _DERIVED,
     "isentropic over real specific work of the compressor"),
    ("volumetric_efficiency", 0.0, 1.2, (_HP,), _DERIVED,
     "drawn over swept volume of the compressor"),
    ("pressure_ratio", 1.0, 30.0, (_HP,), _DERIVED,
     "discharge over suction pressure"),
    ("energy_balance_error", -2.0, 2.0, (_HP,), _DERIVED,
     "source heat plus shaft work less sink heat, over sink heat"),
    ("exchanger_heat_w", -1.0e6, 1.0e9, (_HX,), _DERIVED,
     "heat from the warmer to the colder liquid"),
    ("exchanger_ua_w_k", 0.0, 1.0e8, (_HX,), _DERIVED,
     "conductance of the exchanger"),
    ("exchanger_effectiveness", 0.0, 1.0, (_HX,), _DERIVED,
     "heat exchanged over the most that could be"),
    ("exchanger_balance_error", -2.0, 2.0, (_HX,), _DERIVED,
     "hot-side heat less cold-side heat, over their mean"),
)  # fmt: skip

POINTS: Mapping[str, Point] = MappingProxyType(
    {
        name: Point(name, unit_of(name), low, high, meaning, kinds, origin)
        for name, low, high, kinds, origin, meaning in _TABLE
    }
)


def points_of(kind: Kind, origin: Origin | None = None) -> tuple[str, ...]:
    """Return the names a device of that kind may carry, in the table's order."""
    return tuple(
        point.name
        for point in POINTS.values()
        if kind in point.kinds and (origin is None or point.origin is origin)
    )


def nearest(word: str, known: Iterator[str] | tuple[str, ...] | list[str]) -> str:
    """Return the known word most like a misspelt one, or ``""`` if none is near.

    >>> nearest("sink_inlet_temp", points_of(Kind.HEAT_PUMP))
    'sink_inlet_temp_degc'
    """
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)), "")
