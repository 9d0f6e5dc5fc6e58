"""The plant's gateway: its short names and field units, and the file that maps them.

A gateway speaks in field units; the configuration written here maps them back,
so that what is read again is what was measured.
"""

from __future__ import annotations

import json
from datetime import UTC
from typing import TYPE_CHECKING

from twin.plant import Use
from twin.simulate.loops import SINK_LIMIT_DEGC, least_heat, source_low
from twin.simulate.machine import rated_power
from twin.simulate.scenario import (
    CDU,
    COLD,
    CONSUMER,
    COOLER,
    ELECTRICITY_KG_J,
    HEAT_KG_J,
    HEAT_PRICE_EUR_J,
    RATED_HZ,
    SITE,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    import pandas as pd

    from twin.plant import Coolant
    from twin.simulate.machine import Build
    from twin.simulate.scenario import Scenario

# point -> the gateway's name for it, its unit there, and its decimals
FIELD: Mapping[str, tuple[str, str, int]] = {
    "source_inlet_temp_degc": ("t_src_in", "degC", 2),
    "source_outlet_temp_degc": ("t_src_out", "degC", 2),
    "sink_inlet_temp_degc": ("t_snk_in", "degC", 2),
    "sink_outlet_temp_degc": ("t_snk_out", "degC", 2),
    "source_flow_m3_s": ("v_src", "m3/h", 3),
    "sink_flow_m3_s": ("v_snk", "m3/h", 3),
    "compressor_power_w": ("p_el", "kW", 3),
    "compressor_speed_hz": ("n", "Hz", 2),
    "compressor_running": ("run", "1", 0),
    "suction_pressure_pa": ("p_suc", "bar(g)", 4),
    "compressor_discharge_pressure_pa": ("p_dis", "bar(g)", 4),
    "suction_temp_degc": ("t_suc", "degC", 2),
    "compressor_discharge_temp_degc": ("t_dis", "degC", 2),
    "liquid_temp_degc": ("t_liq", "degC", 2),
    "source_pump_power_w": ("p_pump_src", "kW", 3),
    "sink_pump_power_w": ("p_pump_snk", "kW", 3),
    "source_pressure_drop_pa": ("dp_src", "kPa", 3),
    "sink_pressure_drop_pa": ("dp_snk", "kPa", 3),
    "expansion_valve_ratio": ("exv", "%", 2),
    "sink_setpoint_degc": ("t_snk_set", "degC", 1),
    "available": ("avail", "1", 0),
    "manual_override": ("manual", "1", 0),
    "compressor_energy_j": ("e_el", "MWh", 3),
    "sink_energy_j": ("e_snk", "MWh", 3),
    "hot_inlet_temp_degc": ("t_hot_in", "degC", 2),
    "hot_outlet_temp_degc": ("t_hot_out", "degC", 2),
    "cold_inlet_temp_degc": ("t_cold_in", "degC", 2),
    "cold_outlet_temp_degc": ("t_cold_out", "degC", 2),
    "hot_flow_m3_s": ("v_hot", "m3/h", 3),
    "cold_flow_m3_s": ("v_cold", "m3/h", 3),
    "hot_pressure_drop_pa": ("dp_hot", "kPa", 3),
    "cold_pressure_drop_pa": ("dp_cold", "kPa", 3),
    "rejector_inlet_temp_degc": ("t_in", "degC", 2),
    "rejector_outlet_temp_degc": ("t_out", "degC", 2),
    "rejector_flow_m3_s": ("v", "m3/h", 3),
    "rejected_heat_w": ("q", "kW", 2),
    "fan_power_w": ("p_fan", "kW", 3),
    "demand_heat_w": ("q_demand", "kW", 2),
    "delivered_heat_w": ("q", "kW", 2),
    "supply_setpoint_degc": ("t_set", "degC", 1),
    "supply_temp_degc": ("t_sup", "degC", 2),
    "return_temp_degc": ("t_ret", "degC", 2),
    "it_power_w": ("p_it", "kW", 2),
    "site_power_w": ("p_site", "kW", 2),
    "outdoor_temp_degc": ("t_out", "degC", 2),
    "electricity_price_eur_j": ("price", "EUR/MWh", 3),
}


def topic(unit: str) -> str:
    """Return the topic that a unit's gateway publishes on."""
    return f"dc/sim/{unit}"


def _quoted(text: str) -> str:
    """Return a TOML basic string; JSON's escapes are a part of TOML's."""
    return json.dumps(text)


def _mapping(table: str, unit: str, frame: pd.DataFrame) -> list[str]:
    lines = [f"[{table}.payload]", f"topic = {_quoted(topic(unit))}", 'time = "/ts"']
    lines += ["", f"[{table}.points]"]
    for point in frame.columns:
        key, field_unit, _ = FIELD[point]
        lines.append(f'{point} = {{ pointer = "/{key}", unit = "{field_unit}" }}')
    return [*lines, ""]


def _liquid(table: str, coolant: Coolant) -> list[str]:
    if not coolant.mass_fraction:
        return []
    share = f"{100.0 * coolant.mass_fraction:g} %"
    return [
        f"[{table}]",
        f"coolant = {_quoted(coolant.kind)}",
        f"mass_fraction = {_quoted(share)}",
        "",
    ]


def _stamp(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def plant_toml(
    scenario: Scenario,
    builds: Mapping[str, Build],
    frames: Mapping[str, pd.DataFrame],
) -> str:
    """Return the configuration of a simulated plant, as its operator would write it.

    The operator believes the datasheets: the nameplate is the true rated point
    to the kilowatt, the glycol is what the label of the drum says.
    """
    price, warmth = 85.0, HEAT_PRICE_EUR_J * 3.6e9
    lines = [
        f"# The simulated plant of the scenario {_quoted(scenario.name)}, "
        f"seed {scenario.seed}.",
        "",
        "[site]",
        f"name = {_quoted(f'simulated {scenario.name}')}",
        'timezone = "UTC"',
        "",
        *_mapping("site", SITE, frames[SITE]),
        "[tariff]",
        f'electricity_price = "{price:g} EUR/MWh"',
        f'heat_price = "{warmth:g} EUR/MWh"',
        f'electricity_emission = "{ELECTRICITY_KG_J * 3.6e6:g} kg/kWh"',
        f'heat_emission = "{HEAT_KG_J * 3.6e6:g} kg/kWh"',
        'emission_source = "the scenario: no real grid"',
        "",
        "[schedule]",
        f"reference_start = {_stamp(scenario.start)}",
        f"reference_days = {scenario.reference_length.days}",
        "",
    ]
    for unit in scenario.machines:
        build, rating = builds[unit.id], unit.rating
        lines += [
            "[[heat_pump]]",
            f"id = {_quoted(unit.id)}",
            f"refrigerant = {_quoted(unit.refrigerant)}",
            'compressor = "screw"',
            f'consumers = ["{CONSUMER}"]',
            *([f'cools = ["{COLD}"]'] if unit.cools else []),
            f'standby_power = "{unit.standby_power_w:g} W"',
            f'sink_outlet_max = "{SINK_LIMIT_DEGC:g} degC"',
            f'source_inlet_min = "{source_low(scenario, unit):g} degC"',
            "",
            "[heat_pump.nameplate]",
            f'sink_heat = "{rating.sink_heat_w / 1e3:g} kW"',
            f'power = "{rated_power(build) / 1e3:.0f} kW"',
            f'source_inlet = "{rating.source_inlet_temp_degc:g} degC"',
            f'source_outlet = "{rating.source_outlet_temp_degc:g} degC"',
            f'sink_inlet = "{rating.sink_inlet_temp_degc:g} degC"',
            f'sink_outlet = "{rating.sink_outlet_temp_degc:g} degC"',
            f'speed = "{RATED_HZ:g} Hz"',
            f'speed_max = "{RATED_HZ * build.speed_high:g} Hz"',
            f'sink_heat_min = "{least_heat(scenario, unit, build) / 1e3:g} kW"',
            "",
            *([] if unit.cools else _liquid("heat_pump.source", scenario.coolant_said)),
            *_mapping("heat_pump", unit.id, frames[unit.id]),
        ]
    lines += [
        "[[exchanger]]",
        f"id = {_quoted(CDU)}",
        f'heat = "{scenario.it_heat_w / 1e3:g} kW"',
        "",
        *_liquid("exchanger.cold", scenario.coolant_said),
        *_mapping("exchanger", CDU, frames[CDU]),
        "[[rejector]]",
        f"id = {_quoted(COOLER)}",
        f'heat = "{scenario.it_heat_w / 1e3:g} kW"',
        "",
        *_liquid("rejector.liquid", scenario.coolant_said),
        *_mapping("rejector", COOLER, frames[COOLER]),
        "[[consumer]]",
        f"id = {_quoted(CONSUMER)}",
        f"use = {_quoted(scenario.use.value)}",
        "",
        *_mapping("consumer", CONSUMER, frames[CONSUMER]),
    ]
    if scenario.cold is not None:
        lines += [
            "[[consumer]]",
            f"id = {_quoted(COLD)}",
            f"use = {_quoted(Use.COLD.value)}",
            f'supply_temp = "{scenario.cold.supply_degc:g} degC"',
            f'cold_price = "{scenario.cold.price_eur_j * 3.6e9:g} EUR/MWh"',
            f'cold_emission = "{scenario.cold.emission_kg_j * 3.6e6:g} kg/kWh"',
            "",
            *_mapping("consumer", COLD, frames[COLD]),
        ]
    for entry in scenario.maintenance:
        lines += [
            "[[maintenance]]",
            f"time = {_stamp(entry.time)}",
            f"unit = {_quoted(entry.unit)}",
            f"action = {_quoted(entry.action.value)}",
            f"component = {_quoted(entry.component)}",
            f"note = {_quoted(entry.note)}",
            "",
        ]
    return "\n".join(lines)
