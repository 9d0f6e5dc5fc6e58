"""A drawing shows the cycle that was solved, and is the same twice."""

from __future__ import annotations

import numpy as np
import pytest

from twin import fluids
from twin.heatpump import HeatPump
from twin.service import plot
from twin.service.bench import physics

MACHINE = HeatPump(refrigerant="R1234ze(E)", parameters=physics._machine("R1234ze(E)"))


def test_three_drawings_the_same_twice(tmp_path):
    """Same machine, same bytes."""
    first = plot.draw(MACHINE, tmp_path / "a")
    second = plot.draw(MACHINE, tmp_path / "b")

    assert [p.name for p in first] == [
        "temperature_heat.svg",
        "pressure_enthalpy.svg",
        "map.svg",
    ]
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes()
        assert b"</svg>" in a.read_bytes()


def test_the_lines_of_the_exchangers_never_cross():
    """Heat falls from the upper line to the lower one everywhere."""
    point = plot.operating_point(MACHINE, plot.rated_conditions(MACHINE))
    figure = plot.temperature_heat(MACHINE, point)
    evaporator, condenser = figure.axes
    for axes, above in ((evaporator, -1.0), (condenser, 1.0)):
        refrigerant, liquid = (line.get_xydata() for line in axes.lines)
        grid = np.linspace(0.0, liquid[-1, 0], 200)
        gap = np.interp(grid, *refrigerant.T) - np.interp(grid, *liquid.T)
        assert (above * gap > -1e-6).all()
        assert refrigerant[-1, 0] == pytest.approx(liquid[-1, 0], rel=1e-9)


def test_the_cycle_closes_on_its_dome():
    """Four corners, the last the first, the valve at constant enthalpy."""
    point = plot.operating_point(MACHINE, plot.rated_conditions(MACHINE))
    axes = plot.pressure_enthalpy(MACHINE, point).axes[0]
    corners = axes.lines[2].get_xydata()

    assert corners[0] == pytest.approx(corners[-1])
    assert corners[2, 0] == pytest.approx(corners[3, 0])
    assert corners[1, 0] > corners[0, 0]


def test_nothing_is_drawn_of_no_cycle():
    """The reason stands in the error."""
    conditions = plot.rated_conditions(MACHINE)
    conditions["sink_inlet_temp_degc"] = 101.0
    with pytest.raises(plot.PlotError, match="near critical"):
        plot.operating_point(MACHINE, conditions)
    assert fluids.refrigerant("R1234ze(E)").critical_temp < 110.0
