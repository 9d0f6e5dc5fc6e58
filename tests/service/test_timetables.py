"""Prices and demands from files: read whole, or refused with the line that is wrong."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ingest.files import InputError
from twin import ledger
from twin.plant import Consumer, Demand, Machine, Nameplate, Plant, Rejector
from twin.service import history, timetables
from twin.service.config import ConfigError, load
from twin.simulate import Fault, FaultKind, Scenario, simulate
from twin.simulate import write as write_plant
from twin.units import UnitError

START = datetime(2026, 1, 1, tzinfo=UTC)
TEN = timedelta(minutes=10)
PRICE = ("EUR/MWh", "EUR/J")


def write(path: Path, text: str) -> Path:
    """Write a file and return where."""
    path.write_text(text)
    return path


def price(path: Path, column: str = "price", zone: str = "UTC"):
    """Read a file of prices."""
    return timetables.read(path, column, *PRICE, zone=zone, allowed=(-1e-6, 2e-6))


def test_quarter_hours_are_read_with_their_unit_and_a_gap_stays_one(tmp_path: Path):
    """Of ten rows one is missing; what is negative is so."""
    times = [START + timedelta(minutes=15 * k) for k in range(12) if k != 5]
    rows = "".join(f"{t.isoformat()};{k * 10 - 20}\n" for k, t in enumerate(times))
    table = price(write(tmp_path / "spot.csv", "time;price\n" + rows))
    quarter = timedelta(minutes=15)
    found = table.means(
        pd.date_range(START + quarter, periods=13, freq=quarter), quarter
    )
    told = [-20, -10, 0, 10, 20, np.nan, 30, 40, 50, 60, 70, 80, np.nan]

    assert found * 3.6e9 == pytest.approx(told, nan_ok=True)
    assert table.source == "spot.csv"


def test_a_tariff_that_changes_twice_a_year_holds_until_it_changes(tmp_path: Path):
    """No step is usual, so none is a gap."""
    table = price(
        write(
            tmp_path / "t.csv",
            "time,price\n2026-01-01,50\n2026-04-01,80\n2027-01-01,90\n",
        )
    )
    ends = pd.DatetimeIndex(["2026-03-31 12:00", "2026-09-01 00:00"], tz="UTC")
    assert table.means(ends, TEN) * 3.6e9 == pytest.approx([50.0, 80.0])


def week(text: str = "") -> str:
    """Return a week of demands: 500 kW by day, 300 by night."""
    days = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    rows = [
        f"{day},{hour},{500 if 6 <= hour < 18 else 300}\n"
        for day in days
        for hour in range(24)
    ]
    return "weekday,hour,kw\n" + (text or "".join(rows))


@pytest.mark.parametrize(
    ("text", "found", "remedy"),
    [
        ("time,price\n2026-01-01,50\nsoon,60\n", "rows that say nothing", "Correct"),
        ("time,price\n2026-01-01,50\n2026-01-01,60\n", "twice", "Leave out"),
        ("time,price\n2026-01-01,50000\n2026-01-02,60\n", "50000 EUR/MWh", "unit"),
        ("time,other\n2026-01-01,50\n", "price", ""),
        ("", "empty file", "header"),
        (week("mon,24,5\n"), "mon, 24, 5", "Correct it"),
        (week("mon,-1,5\n"), "mon, -1, 5", "Correct it"),
        (week("mon,0,5\n"), "no value for mon, hour 1", "Add it"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, text: str, found: str, remedy: str):
    """Where, what, and what to do."""
    column = "kw" if text.startswith("weekday") else "price"
    with pytest.raises(InputError) as caught:
        price(write(tmp_path / "wrong.csv", text), column)
    assert found in str(caught.value)
    assert remedy in str(caught.value)


def test_an_hour_that_a_zone_shows_twice_is_refused_and_said(tmp_path: Path):
    """In autumn, without an offset, nobody can know which."""
    rows = "".join(f"2026-10-25 0{h}:00,{h}\n" for h in (0, 1, 2, 2, 3))
    with pytest.raises(InputError, match="offset from UTC"):
        price(write(tmp_path / "l.csv", "time,price\n" + rows), zone="Europe/Berlin")


def test_a_unit_of_another_kind_is_refused(tmp_path: Path):
    """A price is no power."""
    path = write(tmp_path / "p.csv", "time,price\n2026-01-01,50\n")
    with pytest.raises(UnitError):
        timetables.read(path, "price", "kW", "EUR/J", zone="UTC", allowed=(0.0, 1.0))


# --- in a plant -----------------------------------------------------------------

TOML = """
[site]
name = "x"
timezone = "Europe/Berlin"
[tariff]
electricity_price = {{ file = "spot.csv", column = "price", unit = "EUR/MWh" }}
heat_price = "50 EUR/MWh"
[[heat_pump]]
id = "hp1"
refrigerant = "R1234ze(E)"
[heat_pump.nameplate]
sink_heat = "600 kW"
power = "130 kW"
source_inlet = "35 degC"
source_outlet = "28 degC"
sink_inlet = "50 degC"
sink_outlet = "65 degC"
[[consumer]]
id = "net"
{demand}
"""


def test_a_plant_names_its_files_and_says_who_says_what_is_wanted(tmp_path: Path):
    """Beside the file, and every kind of demand by its name."""
    write(tmp_path / "spot.csv", "time,price\n2026-01-01,50\n2026-01-02,60\n")
    write(tmp_path / "week.csv", week())
    asked = {
        'demand = { file = "week.csv", column = "kw", unit = "kW" }': Demand.PROFILE,
        'demand = "unlimited"': Demand.UNLIMITED,
        'demand = "1 MW"': Demand.CONSTANT,
        "": Demand.UNKNOWN,
        'points.demand_heat_w = { topic = "a", unit = "kW" }': Demand.METER,
        'demand_topic_is = "dispatch"\npoints.demand_heat_w ='
        ' { topic = "a", unit = "kW" }': Demand.DISPATCH,
    }
    for demand, kind in asked.items():
        path = write(tmp_path / "plant.toml", TOML.format(demand=demand))
        plant = load(path).plant
        assert plant.demand_of(plant.consumers[0]) is kind
        assert ("site", "electricity_price_eur_j") in plant.timetables
        assert plant.tariff.electricity_price_eur_j is None


@pytest.mark.parametrize(
    ("demand", "key"),
    [
        ('demand = { file = "none.csv", column = "kw", unit = "kW" }', "file"),
        ('demand = { file = "week.csv", column = "kw" }', "demand"),
        ('demand = { file = "week.csv", column = "kw", unit = "EUR" }', "unit"),
        ('demand = { file = "week.csv", column = "no", unit = "kW" }', "file"),
        ('demand = { file = "week.csv", column = "kw", unit = "kW", timezone = "x" }',
         "timezone"),
        ('demand_topic_is = "rumour"', "demand_topic_is"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_do_is_a_problem_of_the_configuration(
    tmp_path: Path, demand: str, key: str
):
    """Told with its key, like any other."""
    write(tmp_path / "spot.csv", "time,price\n2026-01-01,50\n2026-01-02,60\n")
    write(tmp_path / "week.csv", week())
    path = write(tmp_path / "plant.toml", TOML.format(demand=demand))
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert [p.key.rpartition(".")[2] for p in caught.value.problems] == [key]


def frames(demand: pd.Series | None = None) -> dict[str, pd.DataFrame]:
    """Return two days of a plant whose machine stands while heat is thrown away."""
    index = pd.date_range(START + TEN, periods=288, freq=TEN, name="time")
    made = {
        "site": pd.DataFrame({"it_power_w": 5e5}, index=index),
        "hp1": pd.DataFrame(
            {
                "sink_heat_w": 0.0, "source_heat_w": 0.0, "compressor_power_w": 0.0,
                "compressor_running": 0.0, "source_inlet_temp_degc": 35.0,
                "sink_inlet_temp_degc": 50.0, "tripped": 1.0,
            },
            index=index,
        ),
        "c1": pd.DataFrame(
            {"rejected_heat_w": 5e5, "rejector_flow_m3_s": 0.02}, index=index
        ),
    }  # fmt: skip
    if demand is not None:
        made["net"] = pd.DataFrame({"demand_heat_w": demand}, index=index)
    return made


PLANT = Plant(
    name="x",
    machines=(
        Machine(
            id="hp1", refrigerant="R1234ze(E)",
            nameplate=Nameplate(
                sink_heat_w=6e5, power_w=1.3e5, source_inlet_temp_degc=35.0,
                source_outlet_temp_degc=28.0, sink_inlet_temp_degc=50.0,
                sink_outlet_temp_degc=65.0,
            ),
        ),
    ),
    rejectors=(Rejector(id="c1"),),
    consumers=(Consumer(id="net", supply_temp_degc=60.0),),
)  # fmt: skip


def test_a_demand_from_a_file_accounts_as_the_same_demand_from_a_meter(tmp_path: Path):
    """Joule by joule; without the file nothing is called missed."""
    table = timetables.read(
        write(tmp_path / "week.csv", week()), "kw", "kW", "W", zone="UTC",
        allowed=(0.0, 1e9),
    )  # fmt: skip
    told = replace(PLANT, timetables={("net", "demand_heat_w"): table})
    silent = frames()
    index = silent["site"].index
    by_file = ledger.account(told, ledger.foretold(told, silent, TEN))
    by_meter = ledger.account(
        PLANT, frames(pd.Series(table.means(index, TEN), index=index))
    )
    control = ledger.account(PLANT, ledger.foretold(PLANT, silent, TEN))

    pd.testing.assert_frame_equal(by_file, by_meter)
    assert by_file["missed_j"].sum() > 0.0
    assert np.nan_to_num(control["missed_j"]).sum() == 0.0


def test_a_reading_goes_before_the_file(tmp_path: Path):
    """The file fills in where nothing was read, and only there."""
    table = timetables.read(
        write(tmp_path / "week.csv", week()), "kw", "kW", "W", zone="UTC",
        allowed=(0.0, 1e9),
    )  # fmt: skip
    told = replace(PLANT, timetables={("net", "demand_heat_w"): table})
    index = frames()["site"].index
    read = pd.Series(7e4, index=index).where(np.arange(len(index)) % 2 == 0)
    filled = ledger.foretold(told, frames(read), TEN)["net"]["demand_heat_w"]

    assert (filled[read.notna()] == 7e4).all()
    assert set(filled[read.isna()].round()) == {5e5, 3e5}


def test_whoever_takes_whatever_comes_is_limited_by_heat_and_machine():
    """Everything thrown away was wanted, and all of it is accounted for."""
    endless = replace(
        PLANT, consumers=(replace(PLANT.consumers[0], demand_heat_w=float("inf")),)
    )
    told = ledger.account(endless, frames())
    site = told[told["unit"] == "site"]

    assert endless.demand_of(endless.consumers[0]) is Demand.UNLIMITED
    assert np.isfinite(site["missed_j"]).all()
    assert (site["missed_j"] > 0.0).all()
    assert site["no_demand_j"].abs().max() == 0.0
    assert np.allclose(site[list(ledger.ACCOUNTS)].sum(axis=1), site["it_heat_j"])


def test_a_replay_from_files_books_as_one_from_topics(tmp_path: Path):
    """A season with a standing machine: the same joules and the same euros."""
    stop = datetime(2026, 1, 3, 6, tzinfo=UTC)
    made = simulate(
        Scenario(
            name="x", start=START, length=timedelta(days=4), step=TEN, seed=3,
            faults=(
                Fault(unit="hp1", kind=FaultKind.OVERRIDE, start=stop,
                      end=stop + timedelta(hours=20)),
            ),
        )
    )  # fmt: skip
    write_plant(made, tmp_path)
    told = tmp_path / "plant.toml"
    by_topic = load(told)
    text = told.read_text()
    columns = {
        ("network", "demand_heat_w"): ("demand", "kW", 1e3),
        ("site", "electricity_price_eur_j"): (
            "electricity_price",
            "EUR/MWh",
            1 / 3.6e9,
        ),
    }
    for (unit, point), (name, measure, scale) in columns.items():
        series = made.frames[unit][point] / scale
        # A reading stands for the ten minutes that end with it.
        begins = series.index - TEN
        pd.DataFrame({"time": begins, name: series.to_numpy()}).to_csv(
            tmp_path / f"{name}.csv", index=False
        )
        text = re.sub(rf"^{point} = .*\n", "", text, flags=re.M)
        line = (
            f'{name} = {{ file = "{name}.csv", column = "{name}", unit = "{measure}" }}'
        )
        home = "[tariff]\n" if unit == "site" else 'use = "district"\n'
        text = re.sub(rf"^{name} = .*\n", "", text, flags=re.M)
        text = text.replace(home, f"{home}{line}\n")
    told.write_text(text)
    by_file = load(told)
    data = [f for f in tmp_path.glob("*.parquet") if f.stem != "truth"]
    books = [history.replayed(config, data)[0] for config in (by_topic, by_file)]
    first, second = (one.ledger[one.ledger["unit"] == "site"] for one in books)

    assert books[0].summary["demand"] == {"network": "meter"}
    assert books[1].summary["demand"] == {"network": "profile"}
    assert first["missed_eur"].sum() > 10.0
    for name in ("missed_j", "missed_eur", "no_demand_j", "recovered_j"):
        assert second[name].sum() == pytest.approx(first[name].sum(), rel=1e-6)
