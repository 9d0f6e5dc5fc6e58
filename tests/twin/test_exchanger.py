"""An exchanger's heat, and why a change of flow is not fouling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin import exchanger
from twin.exchanger import PlateExchanger
from twin.plant import Coolant

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
GUNT = DATA / "gunt_wl315c_double_pipe.csv"
PLATE = PlateExchanger(
    ua_w_k=50e3, hot_flow_rated_kg_s=10.0, cold_flow_rated_kg_s=12.0,
    hot_share=0.45, cold_share=0.45, hot=Coolant("MPG", 0.25),
)  # fmt: skip

kelvins = st.floats(1e-3, 200.0)
units = st.floats(0.0, 20.0)
ratios = st.floats(0.0, 1.0)


def conditions(hot=45.0, cold=25.0, hot_flow=0.010, cold_flow=0.012):
    """Return rows of conditions."""
    return pd.DataFrame(
        {
            "hot_inlet_temp_degc": np.atleast_1d(hot).astype(float),
            "cold_inlet_temp_degc": np.atleast_1d(cold).astype(float),
            "hot_flow_m3_s": np.atleast_1d(hot_flow).astype(float),
            "cold_flow_m3_s": np.atleast_1d(cold_flow).astype(float),
        }
    )


def test_log_mean_agrees_with_the_textbook():
    """Bergman et al. 2011, example 11.1: 43.2 K, printed to three figures."""
    mean = exchanger.log_mean_temp_difference(59.8, 30.0)

    assert float(mean) == pytest.approx(43.2, abs=0.05)


@given(a=kelvins, b=kelvins)
def test_log_mean_lies_between_geometric_and_arithmetic_mean(a, b):
    """A theorem, so it holds for every pair, equal ends included."""
    mean = float(exchanger.log_mean_temp_difference(a, b))

    assert np.sqrt(a * b) * (1 - 1e-9) <= mean <= (a + b) / 2 * (1 + 1e-9)


@pytest.mark.parametrize("crossed", [0.0, -0.5, np.nan])
def test_crossed_streams_have_no_answer(crossed):
    """A plausible number here would turn a broken probe into a clean exchanger."""
    assert np.isnan(exchanger.log_mean_temp_difference(5.0, crossed))


@given(n=units, c=ratios)
def test_counterflow_beats_crossflow_beats_parallel_flow(n, c):
    """For one area, the order of every textbook."""
    counter, cross, parallel = (
        float(exchanger.effectiveness(n, c, kind))
        for kind in ("counter", "cross", "parallel")
    )

    # The crossflow form is a correlation, a few per mille beside the theorem.
    assert 0.0 <= parallel <= cross + 0.03
    assert cross <= counter + 0.005
    assert counter <= 1.0


def test_effectiveness_at_equal_capacity_flows_is_the_limit():
    """N/(1+N), and not 0/0."""
    assert float(exchanger.effectiveness(3.0, 1.0)) == pytest.approx(0.75)
    near = float(exchanger.effectiveness(3.0, 1.0 - 1e-7))
    assert near == pytest.approx(0.75, abs=1e-6)


@given(
    hot=st.floats(30.0, 80.0),
    cold=st.floats(5.0, 29.0),
    hot_flow=st.floats(1e-3, 0.05),
    cold_flow=st.floats(1e-3, 0.05),
)
def test_both_sides_move_the_same_heat(hot, cold, hot_flow, cold_flow):
    """And no liquid passes the other one's inlet."""
    out = PLATE.predict(conditions(hot, cold, hot_flow, cold_flow)).iloc[0]

    assert cold <= out["hot_outlet_temp_degc"] <= hot
    assert cold <= out["cold_outlet_temp_degc"] <= hot
    mean = exchanger.log_mean_temp_difference(
        hot - out["cold_outlet_temp_degc"], out["hot_outlet_temp_degc"] - cold
    )
    if out["exchanger_effectiveness"] < 0.99:
        assert out["exchanger_heat_w"] == pytest.approx(
            float(out["exchanger_ua_w_k"] * mean), rel=1e-6
        )


@given(dirt=st.floats(0.0, 1e-4), more=st.floats(1e-7, 1e-4))
def test_dirt_never_helps(dirt, more):
    """More fouling, less heat."""
    import dataclasses

    less = dataclasses.replace(PLATE, fouling_k_w=dirt).predict(conditions())
    worse = dataclasses.replace(PLATE, fouling_k_w=dirt + more).predict(conditions())

    assert float(worse["exchanger_heat_w"].iloc[0]) < float(
        less["exchanger_heat_w"].iloc[0]
    )


@pytest.mark.parametrize(
    "bad",
    [{"hot_flow": 0.0}, {"cold_flow": -0.01}, {"hot": 20.0}, {"hot": np.nan}],
)
def test_no_flow_or_no_difference_has_no_answer(bad):
    """A stopped pump is not an exchanger of zero heat, and swapped pipes are named."""
    assert PLATE.predict(conditions(**bad)).isna().all(axis=None)


def test_a_misspelt_column_is_told_its_name():
    """The error says which column is probably meant."""
    wrong = conditions().rename(columns={"hot_flow_m3_s": "hot_flow_l_s"})

    with pytest.raises(ValueError, match='no column "hot_flow_m3_s"; is it "hot_flow'):
        PLATE.predict(wrong)


def test_films_are_found_from_their_conductances():
    """What was put in comes out again, exponents and shares."""
    flows = np.array([(h, c) for h in (4.0, 8.0, 14.0) for c in (5.0, 9.0, 16.0)])
    ua = PLATE.conductance(flows[:, 0], flows[:, 1])
    found = exchanger.fit_conductance(flows[:, 0], flows[:, 1], ua)

    assert found.conductance(9.0, 11.0) == pytest.approx(
        PLATE.conductance(9.0, 11.0), rel=1e-3
    )
    assert found.hot_flow_exponent == pytest.approx(0.7, abs=0.06)


def test_too_few_flows_tell_no_films_apart():
    """One flow repeated a hundred times is still one flow."""
    with pytest.raises(ValueError, match="1 different pairs of flows"):
        exchanger.fit_conductance(np.full(100, 5.0), np.full(100, 6.0), np.ones(100))


@pytest.fixture(scope="module")
def laboratory():
    """Return the measured conductances of a double-pipe exchanger."""
    if not GUNT.exists():
        pytest.skip(f"measured exchanger not found at {GUNT}")
    table = pd.read_csv(GUNT)
    return pd.DataFrame(
        {
            "hot": table["Hot Flow (L/hr)"] / 3600.0,
            "cold": table["Cold Flow (L/hr)"] / 3600.0,
            "ua": table["UA"] * 1e3,
            "pair": table["Flow Rate H"] + table["Flow Rate C"],
        }
    )


def test_a_laboratory_exchanger_is_met_within_two_per_cent(laboratory):
    """24 points over a fourfold change of either flow; 2 % is the issue's bound."""
    found = exchanger.fit_conductance(
        laboratory["hot"], laboratory["cold"], laboratory["ua"]
    )
    error = found.conductance(laboratory["hot"], laboratory["cold"]) / laboratory["ua"]

    assert np.abs(error - 1.0).max() < 0.02


def test_a_flow_change_never_reads_as_fouling(laboratory):
    """Each pair of flows predicted from the others: 2 % rms, no pair above 4 %.

    The raw conductance halves over the same change.
    """
    errors = {}
    for pair in laboratory["pair"].unique():
        here = laboratory["pair"] == pair
        rest = laboratory[~here]
        found = exchanger.fit_conductance(rest["hot"], rest["cold"], rest["ua"])
        row = laboratory[here].mean(numeric_only=True)
        errors[pair] = float(found.conductance(row["hot"], row["cold"]) / row["ua"] - 1)

    values = np.array(list(errors.values()))
    assert np.sqrt(np.mean(values**2)) < 0.02, errors
    assert np.abs(values).max() < 0.04, errors
    assert laboratory["ua"].min() < 0.5 * laboratory["ua"].max()


@given(k=st.floats(1.0, 1e9), flow=st.floats(1e-4, 1.0))
def test_a_clean_strainer_keeps_its_resistance(k, flow):
    """Whatever the flow, so that only clogging moves it."""
    drop = exchanger.pressure_drop(k, flow)

    assert float(exchanger.flow_resistance(drop, flow)) == pytest.approx(k, rel=1e-9)


def test_pump_power_is_flow_times_pressure():
    """20 l/s against 1.5 bar at 60 %: 5 kW; a dead pump draws an unknown power."""
    assert float(exchanger.pump_power(0.02, 1.5e5, 0.6)) == pytest.approx(5000.0)
    assert np.isnan(exchanger.pump_power(0.02, -1.0))
    assert np.isnan(exchanger.flow_resistance(1e4, 0.0))
