"""What nobody measures is estimated with an interval, apart from what is measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from simulated import REFERENCE_DAYS, judged, reference, season

from calibration.model import Model
from calibration.virtual import ESTIMATED, STATES, estimate, newest
from twin.fluids import refrigerant
from twin.plant import Machine


def without(*points: str) -> tuple[Machine, pd.DataFrame, Model]:
    """Return a machine of which some instruments are told not to be there."""
    machine, windows = judged(REFERENCE_DAYS, (), "full")
    machine = replace(machine, points=machine.points - set(points))
    return machine, windows.drop(columns=list(points)), reference().model


def ranges(table: pd.DataFrame, name: str) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Return value, low and high of one quantity."""
    value, low, high = (
        table[f"{ESTIMATED}{name}{end}"] for end in ("", "_low", "_high")
    )
    return value, low, high


@pytest.fixture(scope="module")
def blind() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a machine without pressures: its windows, and the estimates."""
    machine, windows = judged(REFERENCE_DAYS, (), "water")
    return windows, estimate(windows, reference("water").model, machine)


def test_what_is_measured_is_not_estimated() -> None:
    """The negative control: a machine with all instruments has no column."""
    machine, windows = judged(REFERENCE_DAYS, (), "full")

    assert list(estimate(windows, reference().model, machine).columns) == []


def test_pressures_hold_the_truth(blind: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    """From water and power alone, of a machine whose physics is another one."""
    windows, table = blind
    truth = season(REFERENCE_DAYS, (), "water").truth["hp1"].reindex(windows.index)
    steady = windows["steady"]

    for name in ("evaporating_temp_degc", "condensing_temp_degc"):
        _, low, high = ranges(table[steady], name)
        inside = (low < truth[name][steady]) & (truth[name][steady] < high)
        assert inside.mean() > 0.9
        assert ((high - low) < 10.0).all()


def test_a_pressure_is_its_saturation_temperature(
    blind: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    """Value and both ends lie on the vapour pressure curve."""
    _, table = blind
    fluid = refrigerant("R1234ze(E)")

    for temp, pressure in (STATES[0::2], STATES[1::2]):
        for degc, pa in zip(ranges(table, temp), ranges(table, pressure), strict=True):
            np.testing.assert_allclose(pa, fluid.saturation_pressure(degc.to_numpy()))


def test_columns_never_bear_a_measured_name(
    blind: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    """Each says that it is estimated; standstill has no estimate."""
    windows, table = blind
    still = windows["compressor_running"] < 0.5

    assert {name.startswith(ESTIMATED) for name in table} == {True}
    assert still.any()
    assert table[still].isna().all(axis=None)


@pytest.mark.parametrize("side", ["source", "sink"])
def test_a_side_without_a_meter_is_had_from_the_balance(side: str) -> None:
    """Heat and flow lie in their intervals, which are of a few per cent."""
    hidden = {
        "source": ("source_flow_m3_s",),
        "sink": ("sink_flow_m3_s", "sink_energy_j"),
    }
    machine, windows, model = without(*hidden[side])
    table = estimate(windows, model, machine)
    steady = windows["steady"]
    truth = season(REFERENCE_DAYS).truth["hp1"].reindex(windows.index)[steady]

    assert len(table.columns) == 6
    for name in (f"{side}_heat_w", f"{side}_flow_kg_s"):
        value, low, high = ranges(table[steady], name)
        assert ((low < truth[name]) & (truth[name] < high)).mean() > 0.9
        assert float(((high - low) / 2.0 / value).median()) < 0.08


def test_a_heat_says_nothing_of_its_own_meter() -> None:
    """What the hidden meter would have said does not enter its estimate."""
    machine, windows, model = without("source_flow_m3_s")
    other = windows.assign(source_heat_w=0.0, source_flow_kg_s=1.0)
    plain, turned = (estimate(one, model, machine) for one in (windows, other))

    pd.testing.assert_frame_equal(plain, turned)


def test_a_better_meter_narrows_the_estimate() -> None:
    """An interval is of the instruments that it rests on."""
    machine, windows, model = without("source_flow_m3_s")
    exact = {"sink_inlet_temp_degc": 0.01, "sink_outlet_temp_degc": 0.01}
    halves = []
    for uncertainty in ({}, exact):
        table = estimate(windows, model, replace(machine, uncertainty=uncertainty))
        _, low, high = ranges(table, "source_heat_w")
        halves.append(float((high - low).median()))

    assert halves[1] < halves[0]


def test_both_sides_without_a_meter_are_beyond_a_balance() -> None:
    """One equation cannot give two heats."""
    machine, windows, model = without(
        "source_flow_m3_s", "sink_flow_m3_s", "sink_energy_j"
    )

    assert list(estimate(windows, model, machine).columns) == []


def test_the_newest_is_the_last_that_is_known(
    blind: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    """A machine that stands now is told as it last ran, with the time of it."""
    _, table = blind
    column = f"{ESTIMATED}condensing_temp_degc"
    last = table[column].last_valid_index()
    told = newest(table)

    assert set(told) == set(STATES)
    one = told["condensing_temp_degc"]
    assert one["time"] == last
    assert one["low"] < one["value"] < one["high"]
    assert newest(table.iloc[:0]) == {}
