"""A cooler rejects what physics lets it, and its fans pay the cube."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin import rejector
from twin.plant import Coolant

GLYCOL = Coolant("MEG", 0.3)
COOLER = rejector.from_rating(
    heat_w=500e3, inlet_temp_degc=45.0, outlet_temp_degc=38.0,
    outdoor_temp_degc=30.0, fan_power_w=15e3, coolant=GLYCOL,
)  # fmt: skip


def conditions(inlet=45.0, flow=0.0183, air=30.0, speed=1.0, wet=20.0):
    """Return one row of conditions."""
    return pd.DataFrame(
        {
            "rejector_inlet_temp_degc": [inlet],
            "rejector_flow_m3_s": [flow],
            "outdoor_temp_degc": [air],
            "wet_bulb_temp_degc": [wet],
            "fan_speed_ratio": [speed],
        }
    )


def test_the_rating_is_kept():
    """What the maker promised comes out again."""
    assert COOLER.capacity(45.0, 30.0) == pytest.approx(500e3, rel=1e-6)


@given(
    inlet=st.floats(20.0, 60.0),
    air=st.floats(-20.0, 40.0),
    speed=st.floats(0.05, 1.0),
    flow=st.floats(0.002, 0.05),
)
def test_the_liquid_never_passes_the_air(inlet, air, speed, flow):
    """Neither cooled below it nor warmed above it."""
    out = COOLER.predict(conditions(inlet, flow, air, speed)).iloc[0]
    low, high = min(inlet, air), max(inlet, air)

    assert low - 1e-9 <= out["rejector_outlet_temp_degc"] <= high + 1e-9
    assert np.sign(out["rejected_heat_w"]) == np.sign(inlet - air)


@given(slow=st.floats(0.1, 0.9), more=st.floats(0.01, 0.1))
def test_more_air_cools_more_and_costs_the_cube(slow, more):
    """Affinity laws."""
    a = COOLER.predict(conditions(speed=slow)).iloc[0]
    b = COOLER.predict(conditions(speed=slow + more)).iloc[0]

    assert b["rejected_heat_w"] > a["rejected_heat_w"]
    assert a["fan_power_w"] == pytest.approx(15e3 * slow**3)


@settings(max_examples=20)
@given(target=st.floats(32.0, 44.0), air=st.floats(-10.0, 28.0))
def test_the_fan_speed_holds_its_setpoint(target, air):
    """Found by one function, confirmed by the other."""
    ratio = float(COOLER.fan_speed(conditions(air=air), target).iloc[0])
    if np.isnan(ratio):
        best = COOLER.predict(conditions(air=air)).iloc[0]
        assert best["rejector_outlet_temp_degc"] > target
        return
    out = COOLER.predict(conditions(air=air, speed=ratio)).iloc[0]

    assert out["rejector_outlet_temp_degc"] == pytest.approx(target, abs=1e-4)


def test_wetted_pads_reach_towards_the_wet_bulb():
    """At 85 % of 10 K, the air comes in 8.5 K colder."""
    import dataclasses

    wetted = dataclasses.replace(COOLER, pad_effectiveness=0.85)
    wet = wetted.predict(conditions(wet=20.0)).iloc[0]
    cold = COOLER.predict(conditions(air=21.5)).iloc[0]

    assert wet["rejected_heat_w"] == pytest.approx(cold["rejected_heat_w"])


@pytest.mark.parametrize("flow", [0.0, -0.01, np.nan])
def test_a_stopped_liquid_has_no_answer(flow):
    """A dead pump is unknown, not zero."""
    assert COOLER.predict(conditions(flow=flow)).isna().all(axis=None)


def test_stopped_fans_reject_nothing():
    """Natural draught is left out, and the liquid leaves as it came."""
    out = COOLER.predict(conditions(speed=0.0)).iloc[0]

    assert out["rejected_heat_w"] == 0.0
    assert out["rejector_outlet_temp_degc"] == 45.0


def test_a_rating_upside_down_is_named():
    """Outlet above inlet is a slip that no cooler survives."""
    with pytest.raises(ValueError, match="write inlet above outlet above outdoor air"):
        rejector.from_rating(
            heat_w=1e5,
            inlet_temp_degc=35.0,
            outlet_temp_degc=40.0,
            outdoor_temp_degc=20.0,
            fan_power_w=1e3,
        )
