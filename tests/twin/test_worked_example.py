"""docs/reporting.md is true: every number in it follows from its readings.

Each is worked out twice: by the arithmetic that the page describes, with nothing
but the page's own numbers, and by the product from the same readings.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from twin import fluids, kpi
from twin.kpi import Boundary, Electricity, Entry, Quality
from twin.ledger import account
from twin.meter import Exchange, Meter, register
from twin.plant import Consumer, Coolant, Machine, Nameplate, Plant, Rejector, Tariff
from twin.states import derive, derive_rejector

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reporting.md"
TEXT = PAGE.read_text(encoding="utf-8")
GLYCOL, WATER = Coolant("MPG", 0.25), Coolant()


def listed(words):
    """Return the four numbers that stand before some words of the page."""
    told = re.search(
        r"([\d.]+),\s+([\d.]+),\s+([\d.]+)\s+and\s+([\d.]+)\s+" + words, TEXT
    )
    assert told is not None, words
    return [float(each) for each in told.groups()]


SUCTION, DISCHARGE = (
    listed(r"bar\(a\) of suction"),
    listed(r"bar\(a\) of discharge"),
)
GAS, LIQUID = listed("degC, the liquid"), listed("degC\\.")
DAY = datetime(2026, 2, 2, tzinfo=UTC)
START, STOP = DAY + timedelta(hours=8), DAY + timedelta(hours=9)
NAMEPLATE = Nameplate(
    sink_heat_w=650e3,
    power_w=162.5e3,
    source_inlet_temp_degc=36.0,
    source_outlet_temp_degc=30.0,
    sink_inlet_temp_degc=50.0,
    sink_outlet_temp_degc=65.0,
)


def table(name):
    """Return the cells of the table that follows a mark, without its head."""
    lines = TEXT.split(f"<!-- {name} -->", 1)[1].strip().splitlines()
    rows = lines[2 : _end(lines)]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def _end(lines):
    return next((k for k, line in enumerate(lines) if not line.startswith("|")), None)


def number(cell):
    """Return a cell as a number; an empty one is unknown."""
    return float(cell) if cell else math.nan


def same(cell, value):
    """Say whether a value is what the cell prints, to the cell's own last digit."""
    if not cell:
        return math.isnan(value)
    digits = len(cell.split(".")[1]) if "." in cell else 0
    return abs(value - float(cell)) <= 0.5 * 10.0**-digits * (1.0 + 1e-9)


def readings():
    """Return the page's raw readings, a column each."""
    rows = table("readings")
    names = (
        "until", "it", "site", "v_s", "s_in", "s_out", "v_k", "k_in", "k_out",
        "power", "pumps", "v_c", "c_in", "c_out",
    )  # fmt: skip
    return {
        name: [row[k] if name == "until" else number(row[k]) for row in rows]
        for k, name in enumerate(names)
    }


def plant_and_frames():
    """Return the page's plant with its readings, in SI."""
    raw = {k: np.array(v) for k, v in readings().items() if k != "until"}
    times = pd.date_range(
        START + timedelta(minutes=15), periods=4, freq="15min", name="time"
    )
    hp = pd.DataFrame(
        {
            "source_flow_m3_s": raw["v_s"] / 3600.0,
            "source_inlet_temp_degc": raw["s_in"],
            "source_outlet_temp_degc": raw["s_out"],
            "sink_flow_m3_s": raw["v_k"] / 3600.0,
            "sink_inlet_temp_degc": raw["k_in"],
            "sink_outlet_temp_degc": raw["k_out"],
            "compressor_power_w": raw["power"] * 1e3,
            "source_pump_power_w": raw["pumps"] * 1e3,
            "suction_pressure_pa": np.array(SUCTION) * 1e5,
            "compressor_discharge_pressure_pa": np.array(DISCHARGE) * 1e5,
            "suction_temp_degc": GAS,
            "liquid_temp_degc": LIQUID,
        },
        index=times,
    )
    machine = Machine(
        id="hp1",
        refrigerant="R1234ze(E)",
        nameplate=NAMEPLATE,
        source=GLYCOL,
        points=frozenset(hp.columns),
    )
    cooler = Rejector(id="cooler", coolant=GLYCOL)
    thrown = pd.DataFrame(
        {
            "rejector_flow_m3_s": raw["v_c"] / 3600.0,
            "rejector_inlet_temp_degc": raw["c_in"],
            "rejector_outlet_temp_degc": raw["c_out"],
        },
        index=times,
    )
    site = pd.DataFrame(
        {"it_power_w": raw["it"] * 1e3, "site_power_w": raw["site"] * 1e3}, index=times
    )
    plant = Plant(name="page", machines=(machine,), rejectors=(cooler,))
    frames = {
        "hp1": derive(hp, machine),
        "cooler": derive_rejector(thrown, cooler),
        "site": site,
    }
    return plant, frames


@pytest.fixture(scope="module")
def worked():
    """Return the books of the hour, by the product."""
    plant, frames = plant_and_frames()
    step = timedelta(minutes=15)
    site = kpi.within(kpi.flows(plant, frames, step=step), START, STOP)
    figures = kpi.standard(
        site, water_m3=Entry(value=0.25), renewable_j=Entry(value=600 * 3.6e6)
    )
    hours = kpi.hourly(plant.machines[0], frames["hp1"], step=step)
    return site, {(f.name, f.boundary, f.electricity): f for f in figures}, hours


def test_heat_follows_from_readings(worked):
    """Q = V rho c_p dT of each line, by hand and by the product."""
    site, _, _ = worked
    raw = readings()
    for k, row in enumerate(table("heat")):
        assert row[0] == raw["until"][k]
        for first, liquid, flow, near, warm, cold, column in (
            (1, GLYCOL, "v_s", "s_in", "s_in", "s_out", "source_heat_j"),
            (4, WATER, "v_k", "k_in", "k_out", "k_in", "sink_heat_j"),
            (7, GLYCOL, "v_c", "c_in", "c_in", "c_out", "rejected_heat_j"),
        ):
            density, capacity, shown = row[first : first + 3]
            made = site.column(column)[k] / 900.0 / 1e3
            assert same(shown, made)
            if not shown:
                continue
            inlet, mean = raw[near][k], 0.5 * (raw[warm][k] + raw[cold][k])
            assert same(density, float(fluids.density(liquid, inlet)))
            assert same(capacity, float(fluids.heat_capacity(liquid, mean)))
            by_hand = raw[flow][k] / 3600.0 * float(density) * float(capacity)
            by_hand *= raw[warm][k] - raw[cold][k]
            # What is printed of density and heat capacity has five digits.
            assert by_hand / 1e3 == pytest.approx(float(shown), rel=3e-5)


def test_water_for_glycol_is_wrong_by_as_much_as_it_says():
    """The page warns of 498 kW and 4 %."""
    heat = 72 / 3600 * float(fluids.density(WATER, 36.0))
    heat *= float(fluids.heat_capacity(WATER, 33.0)) * 6.0 / 1e3

    assert "it would be 498 kW, and the ERF 4 % too high" in TEXT
    assert round(heat) == 498
    assert round(100 * (heat / 479.90 - 1)) == 4


def test_sums_follow_from_lines(worked):
    """A quarter of each kilowatt, and a gap is not in it."""
    site, _, _ = worked
    raw, heat = readings(), table("heat")
    said = {row[0]: row[1] for row in table("sums")}
    source, sink, thrown = ([number(row[k]) for row in heat] for k in (3, 6, 9))
    known = [s for s, r in zip(source, thrown, strict=True) if not math.isnan(r)]
    for name, values, column in (
        ("E_IT", raw["it"], "it_energy_j"),
        ("site meter", raw["site"], "site_energy_j"),
        ("source heat", source, "source_heat_j"),
        ("sink heat", sink, "sink_heat_j"),
        ("compressor", raw["power"], "compressor_energy_j"),
        ("pumps", raw["pumps"], "pump_energy_j"),
        ("rejected, in the 45 minutes known", thrown, "rejected_heat_j"),
    ):
        assert same(said[name], float(np.nansum(site.column(column))) / 3.6e6)
        assert 0.25 * np.nansum(values) == pytest.approx(float(said[name]), abs=0.01)
    assert 0.25 * sum(known) == pytest.approx(
        float(said["source heat in the same 45 minutes"]), abs=0.01
    )


def test_figures_on_every_boundary(worked):
    """To a hundredth of a percentage point, by hand from the sums and by the product.

    A tenth is what was promised.
    """
    _, figures, _ = worked
    said = {row[0]: float(row[1]) for row in table("sums")}
    it, meter = said["E_IT"], said["site meter"]
    without = meter - said["compressor"] - said["pumps"]
    places = (
        (Boundary.HANDOVER, Electricity.OUT, without, said["source heat"]),
        (Boundary.AFTER_HEAT_PUMP, Electricity.IN, meter, said["sink heat"]),
        (Boundary.AFTER_HEAT_PUMP, Electricity.OUT, without, said["sink heat"]),
    )
    rows = {row[0].split(" ")[0]: row[1:] for row in table("figures")}

    assert list(rows) == ["PUE", "ERF", "ERE", "REF"]
    for k, (boundary, electricity, total, reuse) in enumerate(places):
        by_hand = {
            "PUE": total / it,
            "ERF": reuse / total,
            "ERE": (total - reuse) / it,
            "REF": 600.0 / total,
        }
        for name, value in by_hand.items():
            place = None if name == "REF" else boundary
            figure = figures[name, place, electricity]
            assert same(rows[name][k], figure.value), (name, boundary, electricity)
            assert value == pytest.approx(figure.value, abs=1e-4)
            assert figure.quality is Quality.MEASURED


def test_the_other_figures(worked):
    """Each row's sum, as written out, gives its value, and so does the product."""
    _, figures, hours = worked
    period = (hours, "hp1", START, STOP)
    made = {
        "WUE, m3/MWh": figures["WUE", None, None],
        "heat-recovery rate": figures["HRR", None, None],
        "SPF, unit (SEPEMO H1)": kpi.spf(*period),
        "SPF, system (H4, no back-up heater)": kpi.spf(*period, pumps=True),
    }
    rows = table("others")

    assert [row[0] for row in rows] == list(made)
    for name, by_hand, value, coverage in rows:
        above, below = by_hand.split(" / ")
        below = sum(float(part) for part in re.findall(r"[\d.]+", below))
        assert same(value, float(above) / below)
        assert same(value, made[name].value)
        assert same(coverage, made[name].coverage)
    assert made["heat-recovery rate"].quality is Quality.PARTIAL


def test_the_chain(worked):
    """From Lorenz to the meter: kWh, logarithms, and that they sum."""
    _, _, hours = worked
    found = kpi.log_chain(hours, "hp1", START, STOP)
    row = hours.iloc[0]
    columns = (
        "lorenz_energy_j", "carnot_energy_j", "isentropic_energy_j", "unit_energy_j",
        "system_energy_j",
    )  # fmt: skip
    links = found.links
    steps = [
        math.nan,
        links["evaporator"] + links["condenser"],
        links["cycle"],
        links["compressor"],
        links["auxiliaries"],
    ]
    rows = table("chain")

    for (_, energy, log), column, step in zip(rows, columns, steps, strict=True):
        assert same(energy, row[column] / 3.6e6)
        assert same(log, step)
    for (_, before, _), (_, after, log) in pairwise(rows):
        assert math.log(float(after) / float(before)) == pytest.approx(
            float(log), abs=2e-4
        )
    said = "ln(13.396 / 4.059) = 1.1939 exactly: the SEI, 0.303"
    assert said in TEXT
    assert same("13.396", found.lorenz_cop)
    assert same("4.059", found.cop)
    assert same("1.1939", found.total)
    assert same("0.303", kpi.sei(hours, "hp1", START, STOP).value)
    told = re.search(r"0\.5011 is (\S+) for the evaporator and\s+(\S+) for", TEXT)
    assert told is not None
    assert same(told[1], links["evaporator"])
    assert same(told[2], links["condenser"])
    # Lorenz' COP of each line, by hand, from the four liquid temperatures.
    raw, heat = readings(), table("heat")
    work = 0.0
    for k, line in enumerate(heat):
        warm, cool = raw["k_out"][k] + 273.15, raw["k_in"][k] + 273.15
        sink = (warm - cool) / math.log(warm / cool)
        warm, cool = raw["s_in"][k] + 273.15, raw["s_out"][k] + 273.15
        source = (warm - cool) / math.log(warm / cool)
        work += 0.25 * float(line[6]) * (sink - source) / sink
    assert same(rows[0][1], work)


def test_the_meter():
    """What went through, line by line, and in all."""
    rows = table("meter")
    index = pd.DatetimeIndex(
        [pd.Timestamp(f"2026-02-02 {row[0]}", tz="UTC") for row in rows]
    )
    shown = pd.Series([float(row[1]) for row in rows], index=index)
    meter = Meter(
        most_per_s=50.0 / 3600.0,
        span=10000.0,
        exchanges=(
            Exchange(time=DAY + timedelta(hours=3, minutes=30), last=58.0, first=703.0),
        ),
    )
    found = register(shown, meter)

    assert "58 - 36 + 705 - 703 = 24" in TEXT
    for row, step in zip(rows[1:], found.steps.itertuples(), strict=True):
        assert same(row[2], step.amount)
        assert row[3] == step.what
    whole = found.between(index[0], index[-1])
    bridged = found.bridged().between(index[0], index[-1])
    told = re.search(r"([\d.]+) kWh in (\d) of 9 hours;\s+bridged.*?([\d.]+) kWh", TEXT)
    assert told is not None
    assert same(told[1], whole.value)
    assert whole.coverage == pytest.approx(int(told[2]) / 9)
    assert same(told[3], bridged.value)
    assert not bridged.measured


def test_the_value_of_missed_heat():
    """To the cent, a negative price in it; by hand and by the ledger."""
    rows = table("missed")
    prices = np.array([float(row[1]) for row in rows])
    times = pd.date_range(
        DAY + timedelta(minutes=15), periods=4, freq="15min", name="time"
    )
    plant = Plant(
        name="page",
        machines=(
            Machine(
                id="hp1",
                refrigerant="R1234ze(E)",
                nameplate=NAMEPLATE,
                points=frozenset({"available"}),
                consumers=("town",),
            ),
        ),
        rejectors=(Rejector(id="cooler"),),
        consumers=(Consumer(id="town", demand_heat_w=300e3),),
        tariff=Tariff(heat_price_eur_j=60 / 3.6e9),
    )
    frames = {
        "hp1": pd.DataFrame(
            {"source_heat_w": 0.0, "sink_heat_w": 0.0, "available": 0.0}, index=times
        ),
        "cooler": pd.DataFrame({"rejected_heat_w": 400e3}, index=times),
        "site": pd.DataFrame({"electricity_price_eur_j": prices / 3.6e9}, index=times),
    }
    ledger = account(plant, frames, step=timedelta(minutes=15))
    own = ledger[ledger["unit"] == "site"]["missed_eur"].to_numpy()

    for k, (_, price, heat, lift, worth) in enumerate(rows):
        assert same(heat, 300 / 4 * 60 / 1000)
        assert same(lift, 300 / 4 / 4.0 * float(price) / 1000)
        assert same(worth, float(heat) - float(lift))
        assert same(worth, own[k])
    assert "16.875 EUR" in TEXT
    assert own.sum() == pytest.approx(16.875, abs=1e-9)
