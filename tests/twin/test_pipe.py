"""A pipe is as wide as its flow asks for, and loses what its temperatures ask for."""

from __future__ import annotations

from math import log, pi

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin.pipe import SPEED_M_S, Pipe

heats = st.floats(1e3, 5e7)
spreads = st.floats(5.0, 60.0)


def test_one_is_worked_by_hand():
    """500 kW over 30 K through DN 65: 4.0 l/s, and 22 W for each metre of trench."""
    pipe = Pipe(100.0, 5e5, 30.0)

    assert pipe.flow_m3_s == pytest.approx(4.04e-3, rel=0.01)
    assert (pipe.nominal, pipe.lines) == (65, 1)
    foam = log(140.0 / 76.1) / (2 * pi * 0.029)
    soil = log(3.2 / 0.14) / (2 * pi * 1.5)
    loss = (60.0 + 30.0) / (foam + soil) * 100.0
    assert pipe.loss_w(70.0, 40.0, 10.0) == pytest.approx(loss)
    assert loss / 100.0 == pytest.approx(24.5, abs=1.0)
    assert pipe.pump_w == pytest.approx(2 * 100.0 * 100.0 * 4.04e-3 / 0.6, rel=0.01)


@given(heats, spreads)
def test_the_water_is_never_faster_than_is_usual(heat: float, spread: float):
    """And the next smaller pipe would be too small."""
    pipe = Pipe(10.0, heat, spread)
    inner = pipe._size[2] * 1e-3
    speed = pipe.flow_m3_s / pipe.lines / (pi / 4 * inner**2)

    assert speed <= SPEED_M_S * (1 + 1e-6)
    more = Pipe(10.0, heat * 2.0, spread)
    assert (more.lines, more.nominal) >= (pipe.lines, pipe.nominal) or more.lines > 1


@given(heats, spreads, st.floats(30.0, 120.0), st.floats(-10.0, 25.0))
def test_heat_goes_to_what_is_colder(heat, spread, supply, soil):
    """Never from it; twice the length loses twice as much."""
    pipe, longer = Pipe(50.0, heat, spread), Pipe(100.0, heat, spread)
    loss = pipe.loss_w(supply, supply - spread, soil)

    assert loss >= 0.0
    assert longer.loss_w(supply, supply - spread, soil) == pytest.approx(2.0 * loss)
    assert pipe.loss_w(supply + 5.0, supply, soil) >= pipe.loss_w(supply, supply, soil)
    assert pipe.loss_w(soil, soil, soil) == 0.0


@pytest.mark.parametrize(
    "wrong",
    [(0.0, 1e5, 20.0), (9.0, -1.0, 20.0), (9.0, 1e5, float("inf")), (9.0, 1e5, 0.0)],
)
def test_no_pipe_is_none(wrong):
    """Each refused by its name."""
    with pytest.raises(ValueError, match="is not positive"):
        Pipe(*wrong)
