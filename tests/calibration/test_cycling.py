"""Starts are counted as they were seen, and nothing is said where they could hide."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import machine, season

from calibration.cycling import Cycling, cycling
from twin.finding import Refusal
from twin.plant import Machine
from twin.simulate import Fault, FaultKind, Scenario

START = Scenario(name="x").start


def _machine() -> Machine:
    return machine(season(1))


def _state(on: np.ndarray, step_s: float = 60.0) -> pd.DataFrame:
    index = pd.date_range(
        START, periods=len(on), freq=pd.Timedelta(seconds=step_s), name="time"
    )
    return pd.DataFrame({"compressor_running": on.astype(float)}, index=index)


@pytest.mark.parametrize(
    ("starts", "too_often"), [(0.0, False), (3.0, False), (10.0, True)]
)
def test_a_cycling_machine_is_told_from_a_running_one(
    starts: float, too_often: bool
) -> None:
    """Starts an hour as planted, the shortest run, and whether the maker allows it."""
    fault = Fault(
        unit="hp1", kind=FaultKind.SHORT_CYCLING, start=START + timedelta(hours=12),
        size=starts,
    )  # fmt: skip
    made = season(1, (fault,), "water", step_minutes=1)
    told = cycling(made.frames["hp1"], machine(made))
    assert isinstance(told, Cycling)
    assert told.worst_hour == starts
    assert told.too_often is too_often
    assert abs(told.starts - 12 * starts) <= 1
    if starts:
        assert told.shortest_s == pytest.approx(0.6 * 3600.0 / starts, abs=60.0)
        assert (told.short_share > 0.3) is too_often
        assert told.worst_at is not None
    else:
        assert np.isnan(told.shortest_s)
        assert told.short_share == 0.0


@settings(max_examples=25)
@given(st.lists(st.integers(1, 90), min_size=12, max_size=40))
def test_every_start_is_counted_once(lengths: list[int]) -> None:
    """A law: runs and rests of any lengths, and the shortest whole run among them."""
    lengths = [60 * 7, *lengths]
    on = np.concatenate([np.full(n, i % 2) for i, n in enumerate(lengths)])
    told = cycling(_state(on), _machine(), limit=12.0)
    assert isinstance(told, Cycling)
    runs = [n for i, n in enumerate(lengths) if i % 2]
    assert told.starts == len(runs)
    whole = runs if len(lengths) % 2 else runs[:-1]
    assert told.shortest_s == 60.0 * min(whole)
    assert told.running_h == pytest.approx(sum(runs) / 60.0)


def test_a_gap_hides_and_does_not_invent() -> None:
    """Off before a gap and on after it is no start; an end alone is no short run."""
    on = np.ones(600)
    on[:240] = 0.0
    for stop in (600, 303):
        on[stop:] = 0.0
        frame = _state(on)
        seen = cycling(frame, _machine())
        told = cycling(frame.drop(frame.index[200:300]), _machine())
        assert isinstance(seen, Cycling)
        assert isinstance(told, Cycling)
        assert (seen.starts, told.starts) == (1, 0)
        assert np.isnan(told.shortest_s)


def test_coarse_samples_are_refused() -> None:
    """Ten-minute samples cannot show six starts an hour, but they can show two."""
    on = (np.arange(144) // 12) % 2
    told = cycling(_state(on, 600.0), _machine())
    assert isinstance(told, Refusal)
    assert told.code == "cycling.sampling"
    assert "every 200 s or faster" in told.sentence
    assert isinstance(cycling(_state(on, 600.0), _machine(), limit=2.0), Cycling)


def test_too_little_and_unmeasured_are_refused() -> None:
    """Two hours are no day; without state or power there is nothing to count."""
    brief = cycling(_state(np.ones(120)), _machine())
    assert isinstance(brief, Refusal)
    assert brief.code == "cycling.too_short"
    blind = _state(np.ones(600)).rename(columns={"compressor_running": "available"})
    told = cycling(blind, _machine())
    assert isinstance(told, Refusal)
    assert told.code == "cycling.instruments"
