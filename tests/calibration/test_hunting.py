"""A valve that hunts is seen at its own period; noise and load are not taken for it."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from simulated import machine, season

from calibration.hunting import Swing, judge, swing
from twin.finding import Refusal
from twin.simulate import Fault, FaultKind, Scenario
from twin.simulate.loops import HUNTING_S
from twin.simulate.scenario import MORE

START = Scenario(name="x").start


@cache
def _day(size: float) -> tuple[Swing, ...]:
    faults = ()
    if size:
        faults = (Fault(unit="hp1", kind=FaultKind.HUNTING, start=START, size=size),)
    made = season(1, faults, sensors="ordinary", step_minutes=1, more=MORE)
    told = swing(made.frames["hp1"], machine(made))
    assert not isinstance(told, Refusal)
    return told


def test_a_hunting_valve_is_told_from_a_calm_one() -> None:
    """In superheat, in suction pressure and in the valve itself, at its period."""
    calm, wild = _day(0.0), _day(4.0)
    assert [s.signal for s in wild] == [
        "superheat_k", "evaporating_temp_degc", "expansion_valve_ratio",
    ]  # fmt: skip
    for before, now in zip(calm, wild, strict=True):
        found = judge(now, [before])
        assert found.hunts, now.signal
        assert found.usual == before.amplitude
        assert now.period_s == pytest.approx(HUNTING_S, rel=0.15)
        assert not judge(before, [before]).hunts


def test_the_amplitude_grows_with_the_fault() -> None:
    """Half the fault, about half the swing; and the smallest is nobody's concern."""
    small, large = (_day(size)[0] for size in (1.0, 2.0))
    assert 1.7 < large.amplitude / small.amplitude < 2.2
    assert not judge(small, []).hunts
    assert judge(large, []).hunts


def test_a_machine_that_always_swung_is_judged_by_itself() -> None:
    """The reference's own swing is the measure, not a table's."""
    wild = _day(4.0)[0]
    assert judge(wild, []).hunts
    assert not judge(wild, [wild] * 5).hunts


def test_noise_alone_has_no_period() -> None:
    """A probe four kelvin rough swings enough, but at no period: it does not hunt."""
    made = season(1, (), sensors="ordinary", step_minutes=1, more=MORE)
    frame = made.frames["hp1"].copy()
    random = np.random.default_rng(3)
    frame["suction_temp_degc"] += random.normal(0.0, 4.0, len(frame))
    told = swing(frame, machine(made))
    assert not isinstance(told, Refusal)
    found = judge(told[0], [])
    assert told[0].amplitude > found.limit
    assert not found.hunts


def test_slow_samples_and_blind_machines_are_refused() -> None:
    """Ten-minute means cannot show it; without pressure or valve nothing can."""
    slow = season(1, ())
    told = swing(slow.frames["hp1"], machine(slow))
    assert isinstance(told, Refusal)
    assert told.code == "hunting.sampling"
    assert "600 s apart" in told.sentence
    water = season(1, (), "water")
    told = swing(water.frames["hp1"], machine(water))
    assert isinstance(told, Refusal)
    assert told.code == "hunting.instruments"
    short = season(1, (), sensors="ordinary", step_minutes=1, more=MORE)
    told = swing(short.frames["hp1"].iloc[:120], machine(short))
    assert isinstance(told, Refusal)
    assert told.code == "hunting.too_short"


def test_a_gap_makes_no_swing() -> None:
    """Stretches end at a gap: what is left gives the same answer."""
    made = season(1, (), sensors="ordinary", step_minutes=1, more=MORE)
    frame = made.frames["hp1"]
    hole = frame.drop(frame.index[500:520])
    told = swing(hole, machine(made))
    assert not isinstance(told, Refusal)
    assert not judge(told[0], []).hunts
    assert told[0].amplitude == pytest.approx(_day(0.0)[0].amplitude, rel=0.5)
    assert isinstance(hole.index, pd.DatetimeIndex)
