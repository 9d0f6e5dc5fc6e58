"""A COP loss of some days is laid to its causes, sums, and says how sure it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import cache

import numpy as np
import pandas as pd
import pytest
from simulated import REFERENCE_DAYS, judged, reference

from calibration.findings import Prices
from calibration.model import Model
from calibration.waterfall import COLUMNS, COMMISSIONED, LOST, NOW, waterfall
from twin.attribution import Component
from twin.finding import Refusal
from twin.simulate import Fault, FaultKind, Scenario

BEGIN = Scenario(name="x").start + timedelta(days=REFERENCE_DAYS)
PRICES = Prices(electricity_eur_j=120.0 / 3.6e9, electricity_kg_j=0.3 / 3.6e6)
FOULED = (Fault(unit="hp1", kind=FaultKind.CONDENSER_FOULING, start=BEGIN, size=0.30),)
CAUSES = [str(one) for one in Component]


def last_week(windows: pd.DataFrame) -> pd.DataFrame:
    """Return the windows of the last seven days."""
    return windows[windows.index > windows.index[-1] - pd.Timedelta(days=7)]


@cache
def split(
    instruments: str = "full", faults: tuple[Fault, ...] = FOULED
) -> pd.DataFrame:
    """Return the waterfall of a machine's fourth week."""
    machine, windows = judged(REFERENCE_DAYS + 7, faults, instruments)
    model = reference(instruments).model
    table = waterfall(last_week(windows), model, machine, prices=PRICES)
    assert isinstance(table, pd.DataFrame), table
    return table.set_index("component")


@pytest.mark.parametrize("name", ["cop", "power_w", "energy_j_day", "eur_year"])
def test_the_causes_sum_to_what_was_lost(name: str) -> None:
    """To float precision, in every number, whatever could not be judged."""
    table = split()
    sign = -1.0 if name == "cop" else 1.0
    begin, lost, now = table.loc[[COMMISSIONED, LOST, NOW], name]

    assert table.loc[CAUSES, name].sum() == pytest.approx(lost, rel=1e-9)
    assert begin + sign * lost == pytest.approx(now, rel=1e-12)


def test_the_end_is_what_was_measured() -> None:
    """The COP now is the heat over compressor and pumps, of those windows."""
    _, windows = judged(REFERENCE_DAYS + 7, FOULED)
    steady = last_week(windows).query("steady")
    drawn = steady["compressor_power_w"] + steady["source_pump_power_w"]
    drawn += steady["sink_pump_power_w"]

    assert split().loc[NOW, "cop"] == pytest.approx(
        steady["sink_heat_w"].sum() / drawn.sum(), rel=1e-6
    )


def test_the_fouled_condenser_pays() -> None:
    """Among the parts of the machine it owes most, and surely."""
    table = split()
    machine = table.loc[["evaporator", "condenser", "compressor", "charge"]]

    assert machine["cop"].idxmax() == "condenser"
    assert table.loc["condenser", "cop_low"] > 0.0


def test_a_healthy_machine_owes_nothing() -> None:
    """The control: nought lies in the interval of every part of it."""
    table = split(faults=())
    of_machine = table.loc[["evaporator", "condenser", "compressor", "charge"]]

    assert (of_machine["cop_low"] < 0.0).all()
    assert (of_machine["cop_high"] > 0.0).all()
    assert (of_machine["cop"].abs() < 0.02 * table.loc[COMMISSIONED, "cop"]).all()


def test_another_boundary_is_no_fault() -> None:
    """A network that returns 4 K hotter costs COP, and only the boundary pays."""
    machine, windows = judged(REFERENCE_DAYS + 7, ())
    model = reference().model
    usual = {**model.usual}
    mean, spread = usual["sink_inlet_temp_degc"]
    usual["sink_inlet_temp_degc"] = (mean - 4.0, spread)
    told = waterfall(last_week(windows), model.with_(usual=usual), machine)
    assert isinstance(told, pd.DataFrame)
    there, here = told.set_index("component"), split(faults=())

    assert there.loc["boundary", "cop"] - here.loc["boundary", "cop"] > 0.2
    assert there.loc[NOW, "cop"] == pytest.approx(here.loc[NOW, "cop"])


def test_a_clogged_loop_is_its_pumps() -> None:
    """A pump that takes twice as much for the same flow is the auxiliaries' part."""
    machine, windows = judged(REFERENCE_DAYS + 7, ())
    week = last_week(windows)
    clogged = week.assign(sink_pump_power_w=2.0 * week["sink_pump_power_w"])
    told = waterfall(clogged, reference().model, machine)
    assert isinstance(told, pd.DataFrame)
    more = told.set_index("component")["power_w"] - split(faults=())["power_w"]
    taken = week.loc[week["steady"], "sink_pump_power_w"].mean()

    assert more["auxiliaries"] == pytest.approx(taken, rel=0.02)
    assert more.drop(["auxiliaries", LOST, NOW]).abs().max() < 0.01 * taken


def test_money_and_carbon_follow_the_power() -> None:
    """One price for each joule; without it nothing is said of money."""
    table = split()
    machine, windows = judged(REFERENCE_DAYS + 7, FOULED)
    free = waterfall(last_week(windows), reference().model, machine)
    assert isinstance(free, pd.DataFrame)

    assert list(free.columns) == list(COLUMNS)
    np.testing.assert_allclose(
        table["eur_year"], 365.0 * table["energy_j_day"] * PRICES.electricity_eur_j
    )
    np.testing.assert_allclose(
        table["kg_year"], 365.0 * table["energy_j_day"] * PRICES.electricity_kg_j
    )
    assert free["eur_year"].isna().all()
    np.testing.assert_array_equal(free["cop"], table["cop"])


def test_what_cannot_be_judged_says_what_it_needs() -> None:
    """From water and power alone: no exchanger, no charge, and yet it sums."""
    table = split("water")

    for name in ("evaporator", "condenser", "charge"):
        assert np.isnan(table.loc[name, "cop"])
        assert table.loc[name, "why"]
    assert "machine" in table.index
    parts = table.drop([COMMISSIONED, LOST, NOW])["cop"]
    assert parts.sum() == pytest.approx(table.loc[LOST, "cop"], rel=1e-9)


def test_worse_meters_know_less() -> None:
    """A power meter of 5 % makes the loss uncertain, not another one."""
    machine, windows = judged(REFERENCE_DAYS + 7, FOULED)
    week = last_week(windows)
    model: Model = reference().model
    level = float(week["compressor_power_w"].median())
    poor = replace(machine, uncertainty={"compressor_power_w": 0.05 * level})
    told = waterfall(week, model, poor)
    assert isinstance(told, pd.DataFrame)
    there, here = told.set_index("component"), split()
    width = [t.loc[LOST, "cop_high"] - t.loc[LOST, "cop_low"] for t in (there, here)]

    assert width[0] > 3.0 * width[1]
    assert there.loc[LOST, "cop"] == pytest.approx(here.loc[LOST, "cop"])


def test_a_few_windows_are_refused() -> None:
    """Eleven are one too few; a machine without heat has no COP to lose."""
    machine, windows = judged(REFERENCE_DAYS + 7, ())
    model = reference().model
    steady = windows.query("steady")
    few = waterfall(steady.iloc[:11], model, machine)
    none = waterfall(steady.drop(columns="sink_heat_w"), model, machine)

    assert isinstance(few, Refusal)
    assert few.code == "attribution.too_short"
    assert isinstance(none, Refusal)
    assert none.code == "attribution.no_heat"
