"""Gas that does not condense shows at rest, with its pressure."""

from __future__ import annotations

from datetime import timedelta

import pytest
from simulated import machine, season

from calibration.inert import AtRest, at_rest
from twin.finding import Refusal
from twin.simulate import Fault, FaultKind, Scenario

START = Scenario(name="x").start


def _fault(kind: FaultKind, size: float, day: float = 10) -> Fault:
    return Fault(unit="hp1", kind=kind, start=START + timedelta(days=day), size=size)


@pytest.mark.parametrize("sensors", ["good", "ordinary"])
@pytest.mark.parametrize("planted", [0.0, 3e4])
def test_at_standstill_the_pressure_says_how_much(planted: float, sensors: str) -> None:
    """After a day off the excess over saturation is the gas, and none where none is."""
    faults = [_fault(FaultKind.OVERRIDE, 1.0, 1)]
    if planted:
        faults.append(_fault(FaultKind.NON_CONDENSABLES, planted, 0))
    made = season(2, tuple(faults), sensors=sensors)
    told = at_rest(made.frames["hp1"], machine(made))
    assert isinstance(told, AtRest)
    assert told.low_pa < planted < told.high_pa
    assert told.high_pa - told.low_pa < 2e4
    assert told.gas is (planted > 0.0)
    assert told.hours == pytest.approx(24.0, abs=0.2)


def test_where_nothing_can_be_said_it_says_why() -> None:
    """A machine that runs, one just stopped, one without gauge."""
    runs = season(2, ())
    told = at_rest(runs.frames["hp1"], machine(runs))
    assert isinstance(told, Refusal)
    assert told.code == "inert.no_rest"
    off = season(2, (_fault(FaultKind.OVERRIDE, 1.0, 1),))
    warm = off.frames["hp1"].loc[: START + timedelta(days=1, hours=4.1)]  # type: ignore[misc]
    told = at_rest(warm, machine(off))
    assert isinstance(told, Refusal)
    assert told.code == "inert.unequal"
    water = season(2, (), "water")
    told = at_rest(water.frames["hp1"], machine(water))
    assert isinstance(told, Refusal)
    assert told.code == "inert.instruments"
