"""A trend that jumps is diagnosed from its jump on; one that creeps, from its begin."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from calibration.findings import _stepped

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
SCATTER = 0.01


def course(values: Any) -> pd.DataFrame:
    """Return a trend with one value a day since it began."""
    time = pd.DatetimeIndex([BEGAN + timedelta(days=k + 1) for k in range(len(values))])
    return pd.DataFrame(
        {
            "time": time,
            "component": "evaporator",
            "indicator": "conductance_ratio",
            "value": values,
        }
    )


def begin(values: Any) -> datetime:
    """Return since when a trend of a known scatter is diagnosed."""
    tuning = {"evaporator/conductance_ratio": {"scatter": SCATTER}}
    case = SimpleNamespace(model=SimpleNamespace(tuning=tuning))
    return _stepped(cast("Any", case), course(values), BEGAN)


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
