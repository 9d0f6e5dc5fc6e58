"""A clogging loop is seen by its resistance, whatever its flow does meanwhile."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import exchanger, machine, season

from calibration.steady import windows
from calibration.strainer import By, Clogging, Loop, clogging, learn
from twin.finding import Refusal
from twin.simulate import Fault, FaultKind, Scenario
from twin.simulate.scenario import MORE

BEGINS = Scenario(name="x").start + timedelta(days=10)


def _told(
    side: str,
    *faults: Fault,
    sensors: str = "good",
    without: str = "",
) -> Clogging | Refusal:
    """Learn ten days, and judge the two after them."""
    made = season(12, faults, sensors=sensors, step_minutes=30, more=MORE)
    unit = "hp1" if side in ("source", "sink") else "cdu1"
    device = machine(made) if unit == "hp1" else exchanger(made)
    frame = made.frames[unit]
    if without:
        frame = frame.drop(columns=[name for name in frame if without in name])
    found = windows(frame, device, 30.0)
    loop = learn(found[found.index <= pd.Timestamp(BEGINS)], side)
    if isinstance(loop, Refusal):
        return loop
    return clogging(found[found.index > pd.Timestamp(BEGINS)], loop)


def _fault(kind: FaultKind, size: float = 0.3) -> Fault:
    unit = "cdu1" if kind is FaultKind.STRAINER else "hp1"
    return Fault(unit=unit, kind=kind, start=BEGINS, size=size)


@pytest.mark.parametrize(
    ("side", "kind", "sensors"),
    [
        ("source", FaultKind.SOURCE_STRAINER, "good"),
        ("sink", FaultKind.SINK_STRAINER, "good"),
        ("sink", FaultKind.SINK_STRAINER, "ordinary"),
        ("cold", FaultKind.STRAINER, "good"),
    ],
)
def test_thirty_per_cent_more_is_found_on_its_own_side(
    side: str, kind: FaultKind, sensors: str
) -> None:
    """The interval holds the truth and not one; the other side stays clean."""
    other = {"source": "sink", "sink": "source", "cold": "hot"}[side]
    told = _told(side, _fault(kind), sensors=sensors)
    assert isinstance(told, Clogging)
    assert told.by is By.PRESSURE_DROP
    assert 1.15 < told.low < 1.3 < told.high < 1.45
    clean = _told(other, _fault(kind), sensors=sensors)
    assert isinstance(clean, Clogging)
    assert clean.low < 1.0 < clean.high < 1.06
    healthy = _told(side, sensors=sensors)
    assert isinstance(healthy, Clogging)
    assert healthy.low < 1.0 < healthy.high


def test_without_a_gauge_the_pump_tells() -> None:
    """Power at equal flow where a pump is driven, and the bound by flow where not."""
    pump = _told("sink", _fault(FaultKind.SINK_STRAINER), without="pressure_drop")
    assert isinstance(pump, Clogging)
    assert pump.by is By.PUMP_POWER
    assert 1.15 < pump.low < 1.3 < pump.high
    flow = _told("source", _fault(FaultKind.SOURCE_STRAINER), without="pressure_drop")
    assert isinstance(flow, Clogging)
    assert flow.by is By.FLOW
    assert flow.flow_ratio < 0.93
    # no more than the truth, and surely more than none
    assert 1.1 < flow.low < flow.ratio < 1.3
    assert np.isinf(flow.high)
    still = _told("source", without="pressure_drop")
    assert isinstance(still, Clogging)
    assert still.low < 1.0 < still.ratio + 0.02


def test_what_it_takes_is_said() -> None:
    """No flow meter, no answer, and the points it would take by name."""
    told = _told("hot", without="pressure_drop")
    assert isinstance(told, Refusal)
    assert told.code == "strainer.instruments"
    assert "hot_pressure_drop_pa" in told.sentence
    assert isinstance(_told("sink", without="flow"), Refusal)


def _table(flow: np.ndarray, factor: float, exponent: float) -> pd.DataFrame:
    index = pd.date_range("2026-01-01", periods=len(flow), freq="1h", tz="UTC")
    return pd.DataFrame(
        {
            "sink_flow_m3_s": flow,
            "sink_pressure_drop_pa": 3e7 * factor * flow**exponent,
            "steady": True,
        },
        index=index,
    )


@settings(max_examples=25)
@given(
    factor=st.floats(0.5, 4.0),
    exponent=st.floats(1.4, 2.1),
    shift=st.floats(0.7, 1.3),
)
def test_the_answer_is_the_factor_at_any_flow(
    factor: float, exponent: float, shift: float
) -> None:
    """A law: the exponent is the loop's own, so another flow changes nothing."""
    flow = 0.01 * np.linspace(0.7, 1.3, 240)
    loop = learn(_table(flow, 1.0, exponent), "sink")
    assert isinstance(loop, Loop)
    assert loop.exponent == pytest.approx(exponent, abs=1e-6)
    told = clogging(_table(shift * flow[:24], factor, exponent), loop)
    assert isinstance(told, Clogging)
    assert told.ratio == pytest.approx(factor, rel=1e-6)


def test_a_short_reference_and_an_empty_day_are_refused() -> None:
    """Two days do not make a reference, three windows no day."""
    flow = 0.01 * np.linspace(0.7, 1.3, 240)
    short = learn(_table(flow[:48], 1.0, 1.8), "sink")
    assert isinstance(short, Refusal)
    assert short.code == "strainer.too_short"
    loop = learn(_table(flow, 1.0, 1.8), "sink")
    assert isinstance(loop, Loop)
    seldom = clogging(_table(flow[:3], 1.0, 1.8), loop)
    assert isinstance(seldom, Refusal)
    assert seldom.code == "strainer.no_data"
