"""A counter tells what went through, whatever happens to the counter."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin.meter import Exchange, Meter, Step, register

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
FILE = SHARED / "danish_heat_meter_hourly.csv"
HOURLY = Meter(most_per_s=100.0 / 3600.0)


def read(values, freq="1h"):
    """Return hourly readings."""
    index = pd.date_range("2026-01-01", periods=len(values), freq=freq, tz="UTC")
    return pd.Series(np.asarray(values, float), index=index)


def over(readings, meter=HOURLY):
    """Return what went through from the first reading to the last."""
    return register(readings, meter).between(readings.index[0], readings.index[-1])


uses = st.lists(st.floats(0.0, 99.0), min_size=3, max_size=30)


@settings(max_examples=60, deadline=None)
@given(uses, st.data())
def test_amounts_add_up(used, data):
    """Two parts are the whole, wherever an instant cuts them."""
    readings = read(np.cumsum([0.0, *used]))
    found = register(readings, HOURLY)
    first, last = readings.index[0], readings.index[-1]
    cut = first + (last - first) * data.draw(st.floats(0.01, 0.99))
    both = found.between(first, cut).value + found.between(cut, last).value

    assert both == pytest.approx(found.between(first, last).value, abs=1e-6)
    assert found.between(first, last).value == pytest.approx(sum(used), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(uses, st.floats(0.0, 999.0))
def test_rolling_over_changes_nothing(used, start):
    """A counter of three digits tells what one without end tells."""
    endless = read(start + np.cumsum([0.0, *used]))
    short = endless % 1000.0
    meter = Meter(most_per_s=100.0 / 3600.0, span=1000.0)

    assert over(short, meter).value == pytest.approx(over(endless).value, abs=1e-6)
    assert over(short, meter).measured


@settings(max_examples=60, deadline=None)
@given(uses, st.data())
def test_a_replaced_meter_loses_the_gap_and_no_more(used, data):
    """What both meters counted is kept; the hour of the change is missing, not nil."""
    at = data.draw(st.integers(1, len(used) - 1))
    total = 5000.0 + np.cumsum([0.0, *used])
    changed = np.where(np.arange(len(total)) > at, total - total[at + 1], total)
    found = register(read(changed), HOURLY)
    whole = over(read(changed))

    assert found.steps["what"].tolist().count(Step.REPLACED) == 1
    assert whole.value == pytest.approx(sum(used) - used[at], abs=1e-6)
    assert whole.coverage == pytest.approx(1.0 - 1.0 / len(used))
    assert not whole.measured


@settings(max_examples=60, deadline=None)
@given(uses, st.data())
def test_an_exchange_that_was_written_down_loses_nothing(used, data):
    """Old meter's end, new meter's beginning: the total is what went through."""
    at = data.draw(st.integers(1, len(used) - 1))
    share = data.draw(st.floats(0.01, 1.0))
    begun = data.draw(st.floats(0.0, 3.0))
    total = 5000.0 + np.cumsum([0.0, *used])
    last = total[at] + share * used[at]
    changed = np.where(np.arange(len(total)) > at, total - last + begun, total)
    readings = read(changed)
    step = readings.index[at + 1] - readings.index[at]
    when = (readings.index[at] + share * step).to_pydatetime()
    told = Meter(
        most_per_s=HOURLY.most_per_s,
        exchanges=(Exchange(time=when, last=last, first=begun),),
    )

    assert register(readings, told).steps["what"].tolist().count(Step.EXCHANGED) == 1
    assert over(readings, told).value == pytest.approx(sum(used), abs=1e-6)
    assert over(readings, told).measured


def test_an_exchange_that_cannot_be_is_not_believed():
    """The old meter cannot have gone with less than it had shown."""
    readings = read([500.0, 510.0, 5.0])
    when = readings.index[1] + pd.Timedelta("30min")
    lie = Exchange(time=when.to_pydatetime(), last=400.0)
    meter = Meter(most_per_s=HOURLY.most_per_s, exchanges=(lie,))

    assert register(readings, meter).steps["what"].tolist()[-1] == Step.IMPLAUSIBLE
    assert over(readings, meter).value == pytest.approx(10.0)
    with pytest.raises(ValueError, match="no zone"):
        Exchange(time=datetime(2026, 1, 1), last=1.0)  # noqa: DTZ001
    with pytest.raises(ValueError, match="nought or more"):
        Exchange(time=when.to_pydatetime(), last=-1.0)


@settings(max_examples=60, deadline=None)
@given(st.floats(1.0, 99.0), st.integers(3, 20), st.data())
def test_a_gap_of_even_use_is_bridged_exactly(rate, hours, data):
    """Replaced or skipped: the hour is as its neighbours were, and is estimated."""
    at = data.draw(st.integers(1, hours - 2))
    total = 5000.0 + rate * np.arange(hours + 1.0)
    off = data.draw(st.sampled_from([-total[at + 1], 700.0]))
    changed = np.where(np.arange(hours + 1) > at, total + off, total)
    found = register(read(changed), HOURLY)
    ends = read(changed).index[[0, -1]]
    whole = found.bridged().between(*ends)

    assert np.isnan(found.steps["amount"]).sum() == 1
    assert found.between(*ends).value == pytest.approx(rate * (hours - 1))
    assert whole.value == pytest.approx(rate * hours)
    assert whole.coverage == pytest.approx(1.0)
    assert not whole.measured
    # A gap that is longer than somebody will answer for stays one.
    short = found.bridged(timedelta(minutes=30))
    assert short.between(*ends).value == pytest.approx(rate * (hours - 1))


def test_without_a_span_a_fall_is_a_replacement():
    """The negative control: nobody has said that this counter rolls over."""
    short = read([980.0, 990.0, 10.0, 20.0])

    assert over(short).value == pytest.approx(20.0)
    assert over(short, Meter(most_per_s=HOURLY.most_per_s, span=1000.0)).value == (
        pytest.approx(40.0)
    )


@pytest.mark.parametrize("wrong", [9000.0, 90.0, -1.0, float("nan")])
def test_a_wrong_reading_is_dropped(wrong):
    """A spike, a step back that comes back, a lost value: the neighbours know."""
    readings = read([500.0, 510.0, wrong, 530.0, 540.0])
    found = register(readings, HOURLY)

    assert found.dropped.tolist() == [readings.index[2]]
    assert over(readings).value == pytest.approx(40.0)


def test_a_long_silence_is_estimated():
    """What went through is known, when it did is not; hourly readings are measured."""
    readings = read([0.0, 10.0, 20.0, 250.0, 260.0])
    readings.index = readings.index[:3].append(
        readings.index[3:] + pd.Timedelta(hours=9)
    )
    found = register(readings, HOURLY)
    first, last = readings.index[0], readings.index[-1]
    inside = found.between(readings.index[2], readings.index[2] + timedelta(hours=5))

    assert found.between(first, last).value == pytest.approx(260.0)
    assert not found.between(first, last).measured
    assert inside.value == pytest.approx(115.0)
    assert found.between(first, readings.index[2]).measured


def test_beyond_the_readings_nothing_is_known():
    """Half of the time is covered by half of the readings."""
    readings = read([0.0, 10.0, 20.0])
    first, last = readings.index[0], readings.index[-1]
    found = register(readings, HOURLY)

    assert found.between(first, last + (last - first)).coverage == pytest.approx(0.5)
    assert np.isnan(found.between(last, last + timedelta(hours=1)).value)
    assert np.isnan(
        register(read([1.0]), HOURLY).between(first, first + timedelta(hours=1)).value
    )


def test_times_without_a_zone_are_refused():
    """And so is a meter that can carry nothing."""
    with pytest.raises(ValueError, match="no zone"):
        register(pd.Series([1.0], index=pd.DatetimeIndex(["2026-01-01"])), HOURLY)
    with pytest.raises(ValueError, match="most_per_s"):
        Meter(most_per_s=0.0)


@pytest.mark.skipif(
    not FILE.exists(), reason=f"../shared/data/{FILE.name} is not there"
)
def test_a_real_meter_closes_and_its_replacement_is_bridged():
    """Three years: kWh from volume and temperatures is 1.00 +- 0.02 of what it counts.

    A meter replaced in the middle loses the hour of the change and nothing else.
    """
    told = pd.read_csv(FILE, parse_dates=["time_rounded"]).set_index("time_rounded")
    first, last = told.index[0], told.index[-1]

    def through(name, most):
        found = register(told[name], Meter(most_per_s=most / 3600.0))
        return found.between(first, last)

    heat = through("energy_heat_kwh", 50.0)
    carried = (
        through("inlet_flow_energy_m3xC", 500.0).value
        - through("back_flow_energy_m3xC", 500.0).value
    )
    # water of district heating: 4.19 kJ/(kg K), 983 kg/m3 at 60 degC
    assert carried * 4.19 * 983.0 / 3600.0 / heat.value == pytest.approx(1.0, abs=0.02)
    assert heat.coverage == pytest.approx(1.0)

    middle = len(told) // 2
    shown = told["energy_heat_kwh"].to_numpy().copy()
    lost = shown[middle] - shown[middle - 1]
    shown[middle:] -= shown[middle]
    changed = register(
        pd.Series(shown, index=told.index), Meter(most_per_s=50.0 / 3600)
    )
    assert changed.between(first, last).value == pytest.approx(heat.value - lost)
    # An hour of three years is 1/26256 of them; a neighbour's rate is as good.
    whole = changed.bridged().between(first, last)
    assert whole.value == pytest.approx(heat.value, rel=1e-4)
    assert whole.coverage == pytest.approx(1.0)
    assert not whole.measured
