"""At rest the two ends of a side agree; what still differs is a probe."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated import judged, machine, reference, season

from calibration import findings, operation
from calibration.diagnosis import Blame, Diagnosis, diagnose
from calibration.health import COLUMNS, daily
from calibration.operation import APART
from calibration.standstill import SIDES, Rest, apart, longest, usual
from calibration.trend import trend
from twin.finding import FindingKind
from twin.plant import Machine
from twin.simulate import Fault, FaultKind, Scenario

START = Scenario(name="x").start
NIGHTS = 4
PROBE = "sink_inlet_temp_degc"


def resting(hours: float, off_k: float, left_k: float) -> tuple[pd.DataFrame, Machine]:
    """Return a stop after an hour of running, with a probe off and ends unlike."""
    made = season(1)
    told = machine(made)
    minutes = np.arange(0.0, (hours + 1.0) * 60.0)
    index = pd.DatetimeIndex(
        START + pd.to_timedelta(minutes + 1.0, unit="min"), name="time"
    )
    ran = minutes < 60.0
    since = np.maximum(minutes - 60.0, 0.0) / 60.0
    decays = np.exp(-since / 1.5)
    frame = pd.DataFrame(
        {
            "compressor_running": ran.astype(float),
            "compressor_power_w": np.where(ran, 1e5, told.standby_power_w),
            "source_inlet_temp_degc": 20.0 + 10.0 * decays,
            "source_outlet_temp_degc": 20.0 + (10.0 - left_k) * decays,
            "sink_inlet_temp_degc": 20.0 + 20.0 * decays + off_k,
            "sink_outlet_temp_degc": 20.0 + 20.0 * decays,
        },
        index=index,
    )
    return frame, told


@given(
    hours=st.floats(4.5, 20.0), off_k=st.floats(-2.0, 2.0), left_k=st.floats(-9.0, 9.0)
)
def test_what_a_pair_is_apart_is_the_probe_and_what_is_left_is_doubt(
    hours: float, off_k: float, left_k: float
) -> None:
    """The offset is read to the last bit; what still decays is inside three sigma."""
    frame, told = resting(hours, off_k, left_k)
    rest = longest(frame, told)
    assert isinstance(rest, Rest)
    assert rest.hours == pytest.approx(hours, abs=0.05)
    found = apart(rest)
    assert set(found) == set(SIDES)
    assert found["sink"][0] == pytest.approx(off_k, abs=1e-9)
    away, sigma = found["source"]
    assert abs(away) < 3.0 * sigma
    left = left_k * np.exp(-hours / 1.5)
    assert away == pytest.approx(left, rel=0.2, abs=1e-6)


def test_a_short_stop_says_nothing() -> None:
    """Nor does one of which nobody knows when it began."""
    frame, told = resting(3.0, 0.5, 0.0)
    assert longest(frame, told) == pytest.approx(3.0, abs=0.05)
    assert longest(frame.iloc[:0], told) == 0.0
    late = frame[frame.index > frame.index[-1] - pd.Timedelta(hours=2)]
    assert longest(late, told) == pytest.approx(2.0, abs=0.05)


def test_what_a_pair_is_usually_apart_is_no_news() -> None:
    """A probe fitted where the pipe is warmer is so at every rest."""
    days = [resting(hours, 0.4, 0.0)[0] for hours in (6.0, 9.0, 12.0)]
    middle, spread = usual(days, resting(6.0, 0.4, 0.0)[1])["sink"]
    assert middle == pytest.approx(0.4, abs=1e-6)
    assert spread < 0.05


def nights(off_k: float) -> tuple[Machine, pd.DataFrame, pd.DataFrame]:
    """Return a machine that stands each night, its windows and daily rows.

    From the third night on a probe is off.
    """
    stops = tuple(
        Fault(
            unit="hp1",
            kind=FaultKind.OVERRIDE,
            start=START + timedelta(days=day),
            end=START + timedelta(days=day, hours=9),
            size=1.0,
        )
        for day in range(21, 21 + 2 * NIGHTS)
    )
    lies: tuple[Fault, ...] = ()
    begins = START + timedelta(days=21 + NIGHTS)
    if off_k:
        lies = (
            Fault(
                unit="hp1", kind=FaultKind.SENSOR_OFFSET, start=begins, size=off_k,
                component=PROBE,
            ),
        )  # fmt: skip
    days = 21 + 2 * NIGHTS
    told, windows = judged(days, stops + lies)
    frame = season(days, stops + lies).frames["hp1"]
    own = frame[frame.index > pd.Timestamp(START + timedelta(days=21))]
    learnt = own[own.index <= pd.Timestamp(begins)]
    model = operation.with_habits(learnt, reference().model, told)
    late = windows[windows.index > pd.Timestamp(begins)]
    rows = [daily(late, model, told)]
    ends = pd.DatetimeIndex(own.index).ceil("D")
    rows += [
        operation.daily(own[ends == end], model, told, end.to_pydatetime())
        for end in ends.unique()
        if end > pd.Timestamp(begins)
    ]
    history = pd.concat(rows, ignore_index=True)
    return replace(told), late, history


@pytest.mark.parametrize("off_k", [0.3, 0.0])
def test_nights_tell_a_probe_that_days_cannot(off_k: float) -> None:
    """An offset that drift could be is surely a probe's after two nights; none is not.

    The negative control stands as long and nobody is doubted.
    """
    told, late, history = nights(off_k)
    at_rest = history[history["indicator"] == APART]
    assert tuple(history.columns) == COLUMNS
    assert set(at_rest["component"]) == set(SIDES)
    sink = at_rest[at_rest["component"] == "sink"]
    assert (sink["low"] < off_k).all()
    assert (sink["high"] > off_k).all()
    model = operation.with_habits(
        season(21 + 2 * NIGHTS).frames["hp1"][:0], reference().model, told
    )
    found = findings.findings(
        trend(history, "hp1"),
        model,
        told,
        late,
        now=history["time"].max().to_pydatetime(),
    )
    sensors = [one for one in found if one.kind is FindingKind.SENSOR]
    assert [one for one in found if one.kind in (FindingKind.FOULING,)] == []
    if not off_k:
        assert sensors == []
        return
    (one,) = sensors
    assert one.component in (PROBE, "sink_outlet_temp_degc", "energy_balance")
    assert "At rest on" in one.sentence
    last = sink.iloc[-1]
    sigma = float(last["high"] - last["low"]) / (2.0 * 1.96)
    # Two months after the reference the readings of days alone leave it open.
    old = timedelta(days=60)
    rests = {"sink": (float(last["value"]), sigma)}
    without, with_them = (
        diagnose(late, model, told, age=old, rests=known) for known in ({}, rests)
    )
    assert isinstance(without, Diagnosis)
    assert isinstance(with_them, Diagnosis)
    assert with_them.probability(Blame.SENSOR) > without.probability(Blame.SENSOR)
    assert with_them.probability(Blame.SENSOR, PROBE) > 0.9
