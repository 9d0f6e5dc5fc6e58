"""Gas that does not condense is told from dirt, at rest and while running."""

from __future__ import annotations

from datetime import timedelta

import pandas as pd
import pytest
from simulated import machine, season

from calibration.inert import (
    AtRest,
    Condenser,
    Running,
    Verdict,
    at_rest,
    compare,
    learn,
)
from calibration.steady import windows
from twin.finding import Refusal
from twin.simulate import Fault, FaultKind, Scenario

START = Scenario(name="x").start
BEGINS = START + timedelta(days=10)


def _fault(kind: FaultKind, size: float, day: float = 10) -> Fault:
    return Fault(unit="hp1", kind=kind, start=START + timedelta(days=day), size=size)


def _running(
    *faults: Fault, sensors: str = "good", instruments: str = "full", days: int = 20
) -> Running | Refusal:
    made = season(days, faults, instruments, sensors, step_minutes=60)
    device = machine(made)
    found = windows(made.frames["hp1"], device, 60.0)
    clean = learn(found[found.index <= pd.Timestamp(BEGINS)], device)
    if isinstance(clean, Refusal):
        return clean
    return compare(found[found.index > pd.Timestamp(BEGINS)], clean, device)


@pytest.mark.parametrize(
    ("kind", "size", "verdict", "sensors"),
    [
        (None, 0.0, Verdict.NOTHING, "good"),
        (FaultKind.NON_CONDENSABLES, 2e4, Verdict.GAS, "good"),
        (FaultKind.NON_CONDENSABLES, 2e4, Verdict.GAS, "ordinary"),
        (FaultKind.CONDENSER_FOULING, 0.2, Verdict.DIRT, "good"),
        (FaultKind.CONDENSER_FOULING, 0.2, Verdict.DIRT, "ordinary"),
        (FaultKind.UNDERCHARGE, 0.5, Verdict.NOTHING, "good"),
    ],
)
def test_gas_is_told_from_dirt_by_load_and_subcooling(
    kind: FaultKind | None, size: float, verdict: Verdict, sensors: str
) -> None:
    """Gas stays at low load and raises subcooling; dirt does neither."""
    faults = () if kind is None else (_fault(kind, size),)
    told = _running(*faults, sensors=sensors)
    assert isinstance(told, Running)
    assert told.verdict is verdict, told.sentence
    if verdict is Verdict.GAS:
        assert told.at_no_load_low > 0.5
        assert told.subcooling_k > 0.8
        assert "four hours of standstill tells them apart" in told.sentence
    if verdict is Verdict.DIRT:
        assert told.at_no_load_low < 0.0 < told.with_load_low
        assert abs(told.subcooling_k) < 0.3


def test_without_a_liquid_probe_the_load_alone_decides() -> None:
    """Pressures and water are enough, where the load has been small enough."""
    gas = _running(_fault(FaultKind.NON_CONDENSABLES, 4e4), instruments="pressures")
    dirt = _running(_fault(FaultKind.CONDENSER_FOULING, 0.3), instruments="pressures")
    assert isinstance(gas, Running)
    assert isinstance(dirt, Running)
    assert gas.verdict is Verdict.GAS
    assert dirt.verdict is not Verdict.GAS


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
    """A machine that runs, one just stopped, one without gauge, a short reference."""
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
    device = machine(runs)
    for frame, code in (
        (runs.frames["hp1"], "inert.too_short"),
        (water.frames["hp1"], "inert.instruments"),
    ):
        short = learn(windows(frame, device), device)
        assert not isinstance(short, Condenser)
        assert short.code == code
