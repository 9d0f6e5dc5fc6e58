"""A tank keeps every joule, warm above cold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin.store import Store

TANK = Store(volume_m3=20.0, loss_w_k=30.0, mixing_w_k=50.0)
flows = st.floats(0.0, 20.0)
temps = st.lists(st.floats(20.0, 90.0), min_size=2, max_size=12)


@given(layers=temps, seconds=st.floats(1.0, 7200.0), charge=flows, discharge=flows)
def test_every_joule_is_accounted_for(layers, seconds, charge, discharge):
    """Change of content = charged - discharged - lost, whatever the step."""
    after, moved = TANK.step(
        layers, seconds, charge_flow=charge, charge_temp=85.0,
        discharge_flow=discharge, return_temp=40.0,
    )  # fmt: skip
    change = TANK.energy(after) - TANK.energy(layers)
    booked = moved["charged"] - moved["discharged"] - moved["lost"]

    assert change == pytest.approx(booked, abs=1e-9 * TANK.energy([90.0]))


@given(layers=temps, seconds=st.floats(1.0, 86400.0), charge=flows, discharge=flows)
def test_layers_stay_in_order_and_within_what_enters(
    layers, seconds, charge, discharge
):
    """No step is too long: implicit, upwind, and buoyancy mixes what inverts."""
    after, _ = TANK.step(
        layers, seconds, charge_flow=charge, charge_temp=85.0,
        discharge_flow=discharge, return_temp=40.0, ambient=20.0,
    )  # fmt: skip
    known = [*layers, 85.0, 40.0, 20.0]

    assert np.all(np.diff(after) <= 1e-9)
    assert min(known) - 1e-6 <= after.min()
    assert after.max() <= max(known) + 1e-6


def test_a_negative_flow_is_named():
    """Which way round is what charge and discharge are for."""
    with pytest.raises(ValueError, match="charge_flow = -1"):
        TANK.step([60.0, 40.0], 60.0, charge_flow=-1.0)
