"""A site as the page might meet it: seeded, so that every run sees the same.

Made here and for the page's tests only; no figure in it was measured.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from twin.finding import Finding, FindingKind
from twin.plant import (
    Consumer,
    Exchanger,
    Machine,
    Nameplate,
    Plant,
    Rejector,
    Use,
)
from twin.service.results import MISSED_CAUSES, Results, in_order

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAYS = 75

_NAMEPLATE = Nameplate(
    sink_heat_w=600e3,
    power_w=140e3,
    source_inlet_temp_degc=35.0,
    source_outlet_temp_degc=27.0,
    sink_inlet_temp_degc=50.0,
    sink_outlet_temp_degc=70.0,
)


def plant(*units: str) -> Plant:
    """Return a plant with the named heat pumps, ``hp1`` and ``hp2`` by default."""
    return Plant(
        name="Harbour data centre",
        timezone="Europe/Copenhagen",
        machines=tuple(
            Machine(
                id=unit,
                refrigerant="R1234ze(E)",
                nameplate=_NAMEPLATE,
                consumers=("district",),
            )
            for unit in units or ("hp1", "hp2")
        ),
        exchangers=(Exchanger(id="cdu1"),),
        rejectors=(Rejector(id="dry_cooler"),),
        consumers=(Consumer(id="district", use=Use.DISTRICT),),
    )


def results(unit: str = "hp1", other: str = "hp2", seed: int = 4) -> Results:
    """Return results in which one condenser fouls and heat is missed."""
    dice = np.random.default_rng(seed)
    return Results(
        site="Harbour data centre",
        generated=NOW,
        findings=_findings(unit, other),
        health=pd.concat(
            [
                _health(unit, "condenser", 0.26, dice),
                _health(unit, "evaporator", 0.02, dice),
                _health(other, "condenser", 0.01, dice),
            ]
        ),
        ledger=_ledger(unit, other, dice),
        kpis=pd.concat([_kpis(unit, 0.07, dice), _kpis(other, 0.0, dice)]),
        attribution=_attribution(unit, other),
        models=_models(unit, other),
        summary={"rows": 64800},
        latest=_latest(unit, other),
        expected={unit: {"compressor_power_w": 133.2e3, "cop": 4.41}},
        data_quality={
            "stored": 1_296_422,
            "duplicate": 318,
            "range": 12,
            "clock": 0,
            "unparsable": 4,
        },
    )


def _findings(unit: str, other: str) -> list[Finding]:
    return [
        Finding(
            unit=unit,
            kind=FindingKind.FOULING,
            component="condenser",
            since=NOW - timedelta(days=41),
            seen=NOW - timedelta(hours=12),
            size=0.21,
            low=0.18,
            high=0.24,
            sentence=(
                f"The condenser of {unit} has lost 21 % of its conductance since "
                "19 Jan; the loss grows by 0.4 % a day."
            ),
            advice="Clean the sink side of the condenser by 24 Mar.",
            cost_eur_day=38.4,
            energy_j_day=212 * 3.6e6,
            emission_kg_day=31.0,
            clean_by=NOW + timedelta(days=23),
            evidence={
                "points": [
                    "sink_inlet_temp_degc",
                    "sink_outlet_temp_degc",
                    "compressor_discharge_pressure_pa",
                ],
                "condenser_ua_w_k": 61_400.0,
                "reference_ua_w_k": 77_700.0,
                "windows": 1322,
                "model": "reference v1",
            },
        ),
        Finding(
            unit=unit,
            kind=FindingKind.MISSED_RECOVERY,
            component="control",
            since=NOW - timedelta(days=12),
            seen=NOW - timedelta(hours=1),
            size=0.12,
            low=0.09,
            high=0.16,
            sentence=(
                "Heat that the district network asked for was rejected on 9 of the "
                f"last 12 nights: {unit} was held at a fixed stage."
            ),
            advice="Return the night schedule to automatic.",
            cost_eur_day=64.0,
            energy_j_day=1150 * 3.6e6,
            emission_kg_day=172.0,
            evidence={"nights": 9, "manual_override": "22:00 to 05:30"},
        ),
        Finding(
            unit=other,
            kind=FindingKind.SENSOR,
            component="source_flow_m3_s",
            since=NOW - timedelta(days=3),
            seen=NOW - timedelta(hours=2),
            size=0.06,
            low=0.04,
            high=0.08,
            sentence=f"The source flow meter of {other} reads 6 % low.",
            advice="Check the meter against the pump curve.",
        ),
    ]


def _kpis(unit: str, loss: float, dice: np.random.Generator) -> pd.DataFrame:
    hours = pd.date_range(end=NOW, periods=24 * DAYS, freq="h", tz="UTC")
    day = np.arange(len(hours)) / 24.0
    lift = 4.45 + 0.18 * np.sin(2 * np.pi * day / 11) + 0.06 * np.sin(2 * np.pi * day)
    aged = 1 - loss * np.clip((day - 30) / (DAYS - 30), 0, None)
    heat = 3600 * (520e3 + 40e3 * np.sin(2 * np.pi * day))
    cop = lift * aged + dice.normal(0, 0.025, len(hours))
    frame = pd.DataFrame(
        {
            "time": hours,
            "unit": unit,
            "sink_heat_j": heat,
            "cop": cop,
            "expected_cop": lift * aged,
            "reference_cop": lift,
            "lorenz_efficiency": cop / 7.9,
            "running_s": 3600.0,
            "coverage": 0.998,
        }
    )
    frame["compressor_energy_j"] = frame["sink_heat_j"] / frame["cop"]
    frame["source_heat_j"] = frame["sink_heat_j"] - frame["compressor_energy_j"]
    stopped = (day > 52) & (day < 53.6)
    frame.loc[stopped, ["cop", "expected_cop", "reference_cop"]] = np.nan
    return frame


def _health(
    unit: str, component: str, loss: float, dice: np.random.Generator
) -> pd.DataFrame:
    days = pd.date_range(end=NOW.replace(hour=0), periods=DAYS, freq="D", tz="UTC")
    n = np.arange(DAYS)
    value = 1 - loss * np.clip((n - 28) / (DAYS - 28), 0, None)
    value = value + dice.normal(0, 0.007, DAYS)
    return pd.DataFrame(
        {
            "time": days,
            "unit": unit,
            "component": component,
            "indicator": "conductance_ratio",
            "value": value,
            "low": value - 0.03,
            "high": value + 0.03,
            "statistic": np.clip((1 - value) / 0.03, 0, None) ** 2,
            "limit": 9.0,
            "samples": 131.0,
        }
    )


def _ledger(unit: str, other: str, dice: np.random.Generator) -> pd.DataFrame:
    hours = pd.date_range(end=NOW, periods=24 * DAYS, freq="h", tz="UTC")
    n = len(hours)
    day = np.arange(n) / 24.0
    heat = 3600 * (1.24e6 + 0.06e6 * np.sin(2 * np.pi * day) + dice.normal(0, 1e4, n))
    night = (day % 1 < 0.3) & (day > DAYS - 12)
    down = (day > 52) & (day < 53.6)
    missed = {f"missed_{cause}_j": np.zeros(n) for cause in MISSED_CAUSES}
    missed["missed_control_j"] = np.where(night, 0.25, 0.0) * heat
    missed["missed_unavailable_j"] = np.where(down, 0.55, 0.0) * heat
    missed["missed_degradation_j"] = 0.02 * np.clip((day - 30) / 45, 0, None) * heat
    missed["missed_unexplained_j"] = 0.004 * heat
    total = sum(missed.values())
    rest = heat - total
    recovered = 0.74 * rest
    site = pd.DataFrame(
        {
            "time": hours,
            "unit": "site",
            "it_heat_j": heat,
            "recovered_j": recovered,
            "no_demand_j": 0.13 * rest,
            "uneconomic_j": 0.08 * rest,
            "out_of_reach_j": 0.05 * rest,
            **missed,
            "missed_j": total,
            "missed_eur": total / 3.6e9 * 41.0,
            "missed_kg": total / 3.6e6 * 0.15,
            "gap_s": np.where(dice.random(n) < 0.004, 900.0, 0.0),
            "closing_j": 0.0,
        }
    )
    shares = [
        site.assign(
            unit=name,
            **{
                column: site[column] / 2
                for column in site.columns
                if column.endswith(("_j", "_eur", "_kg"))
            },
        )
        for name in (unit, other)
    ]
    return pd.concat([site, *shares])


def _attribution(unit: str, other: str) -> pd.DataFrame:
    """Return where one unit's COP went, and why it is not known of the other."""
    heat, running = 520e3, 86400.0
    lost = {
        "boundary": -0.11, "evaporator": 0.05, "condenser": 0.27, "compressor": 0.03,
        "auxiliaries": 0.02, "unexplained": -0.02,
    }  # fmt: skip
    levels = [4.45 - sum(list(lost.values())[:k]) for k in range(len(lost) + 1)]
    rows = [("commissioned", levels[0], heat / levels[0], 0.0)]
    rows += [
        (name, part, heat / levels[k + 1] - heat / levels[k], 0.02)
        for k, (name, part) in enumerate(lost.items())
    ]
    more = heat / levels[-1] - heat / levels[0]
    rows += [("lost", sum(lost.values()), more, 0.04)]
    rows += [("now", levels[-1], heat / levels[-1], 0.04)]
    table = pd.DataFrame(rows, columns=["component", "cop", "power_w", "half"])
    factors = {
        "energy_j_day": running,
        "eur_year": 365.0 * running * 2.4e-8,
        "kg_year": 365.0 * running * 0.09e-6,
    }
    for name, factor in factors.items():
        table[name] = factor * table["power_w"]
    for name in ("cop", "power_w", *factors):
        half = table["half"].where(table["half"] > 0.0)
        if name != "cop":
            half = half * factors.get(name, 1.0) * heat / levels[0] ** 2
        table[f"{name}_low"] = table[name] - half
        table[f"{name}_high"] = table[name] + half
    charge = {"component": "charge", "why": "needs liquid_temp_degc"}
    nobody = {"component": "commissioned", "why": "6 steady windows; 12 are needed."}
    both = pd.concat(
        [
            table.drop(columns="half").assign(unit=unit, why="", windows=906.0),
            pd.DataFrame([charge | {"unit": unit}, nobody | {"unit": other}]),
        ]
    )
    return in_order(both.assign(time=NOW.replace(hour=0)), "attribution")


def _models(unit: str, other: str) -> list[dict[str, object]]:
    def model(unit, role, version, created, days, accepted, reason, gates=()):
        return {
            "unit": unit,
            "role": role,
            "version": version,
            "created": created,
            "window": [created - timedelta(days=days), created],
            "accepted": accepted,
            "reason": reason,
            "gates": list(gates),
        }

    good = [
        {"name": "coverage", "passed": True, "value": 0.98, "limit": 0.8},
        {"name": "held-out error", "passed": True, "value": 0.031, "limit": 0.07},
    ]
    bad = [
        {"name": "coverage", "passed": True, "value": 0.97, "limit": 0.8},
        {"name": "held-out error", "passed": False, "value": 0.094, "limit": 0.07},
    ]
    return [
        model(
            unit, "reference", 1, NOW - timedelta(days=45), 30, True,
            "first fit after commissioning", good,
        ),
        model(
            unit, "current", 6, NOW - timedelta(days=4), 28, False,
            "Held-out error 9.4 % is above 7 %: the window holds a source probe "
            "that drifted. Version 5 stays in service.", bad,
        ),
        model(
            unit, "current", 5, NOW - timedelta(days=11), 28, True,
            "Held-out error 3.1 %, was 3.6 %.", good,
        ),
        model(
            other, "reference", 1, NOW - timedelta(days=45), 30, True,
            "first fit after commissioning", good,
        ),
    ]  # fmt: skip


def _latest(unit: str, other: str) -> dict[str, dict[str, tuple[float, datetime]]]:
    fresh = NOW - timedelta(seconds=40)
    machine = {
        "source_inlet_temp_degc": 35.2,
        "source_outlet_temp_degc": 27.4,
        "sink_inlet_temp_degc": 50.1,
        "sink_outlet_temp_degc": 69.6,
        "source_flow_m3_s": 0.01282,
        "sink_flow_m3_s": 0.00702,
        "compressor_power_w": 141.3e3,
        "compressor_speed_hz": 48.7,
        "expansion_valve_ratio": 0.43,
        "compressor_running": 1.0,
        "suction_pressure_pa": 4.6e5,
        "compressor_discharge_pressure_pa": 18.2e5,
        "condensing_temp_degc": 73.8,
        "evaporating_temp_degc": 23.9,
        "sink_heat_w": 572.4e3,
        "source_heat_w": 431.0e3,
        "cop": 4.05,
    }
    return {
        unit: {point: (value, fresh) for point, value in machine.items()},
        other: {
            point: (value * 0.98, NOW - timedelta(minutes=47))
            for point, value in machine.items()
        },
        "site": {
            "it_power_w": (1_243e3, fresh),
            "outdoor_temp_degc": (3.4, fresh),
            "electricity_price_eur_j": (2.4e-8, fresh),
        },
        "cdu1": {
            "hot_inlet_temp_degc": (41.8, fresh),
            "cold_outlet_temp_degc": (36.0, fresh),
        },
        "dry_cooler": {"rejected_heat_w": (211e3, NOW - timedelta(hours=3))},
        "district": {"delivered_heat_w": (1_104e3, fresh)},
    }


def cooling(found: Results, unit: str = "hp2") -> Results:
    """Return results in which a machine cools somebody: 8 kWh an hour, 2 missed."""
    ledger = found.ledger.copy()
    site, mine = (ledger["unit"] == name for name in ("site", unit))
    missed = {f"missed_{cause}_j": 0.0 for cause in MISSED_CAUSES}
    missed |= {"missed_override_j": 2 * 3.6e6, "missed_j": 2 * 3.6e6}
    ledger.loc[mine, list(missed)] = list(missed.values())
    ledger["cold_j"] = np.where(site, 8 * 3.6e6, np.nan)
    ledger["missed_cold_j"] = np.where(site | mine, 2 * 3.6e6, np.nan)
    ledger["missed_cold_eur"] = np.where(site | mine, 0.10, np.nan)
    ledger["missed_delivered_j"] = ledger["missed_j"]
    ledger["delivered_j"] = ledger["recovered_j"]
    return replace(found, ledger=ledger)
