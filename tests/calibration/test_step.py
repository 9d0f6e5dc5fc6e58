"""A trend that jumps is diagnosed from its jump on; one that creeps, from its begin."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from calibration.findings import _stepped
from calibration.trend import trend

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
SCATTER = 0.01


def begin(values: Any) -> datetime:
    """Return since when a trend with one value a day is diagnosed."""
    time = pd.DatetimeIndex([BEGAN + timedelta(days=k + 1) for k in range(len(values))])
    rows = pd.DataFrame(
        {"time": time, "unit": "hp1", "component": "evaporator", "indicator": "x"}
    ).assign(value=values, low=0.0, high=0.0, statistic=0.0, limit=0.0, samples=0.0)
    series = trend(rows, "hp1").of("evaporator", "x")
    return series.begin(_stepped(series, SCATTER))


@given(
    seed=st.integers(0, 2**32 - 1),
    before=st.integers(20, 60),
    after=st.integers(2, 6),
    size=st.floats(0.10, 0.5),
)
def test_what_came_before_a_jump_is_left_out(
    seed: int, before: int, after: int, size: float
) -> None:
    """Ten deviations at once begin the diagnosis on the day of the jump."""
    noise = np.random.default_rng(seed).uniform(-SCATTER, SCATTER, before + after)
    low = np.repeat([0.98, 0.98 - size], [before, after])
    assert begin(low + 0.3 * noise) == BEGAN + timedelta(days=before)


@given(before=st.integers(20, 60), after=st.integers(2, 6))
def test_a_cold_spell_is_no_jump(before: int, after: int) -> None:
    """Two per cent at once are what physics may miss, however still the days were."""
    spell = np.repeat([0.98, 0.96], [before, after])
    assert begin(spell) == BEGAN


@given(seed=st.integers(0, 2**32 - 1), days=st.integers(10, 60))
def test_what_creeps_has_begun_when_it_began(seed: int, days: int) -> None:
    """The control: a tenth of a deviation a day, and what days scatter, is no jump."""
    noise = np.random.default_rng(seed).normal(0.0, SCATTER, days).clip(-0.02, 0.02)
    slope = 1.0 - 0.1 * SCATTER * np.arange(days)
    assert begin(slope + 0.8 * noise) == BEGAN
