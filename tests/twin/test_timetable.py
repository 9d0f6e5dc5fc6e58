"""A timetable's mean over an interval is the integral that a person would do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin.timetable import WEEK, Timetable

START = datetime(2026, 3, 29, tzinfo=UTC)  # a Sunday, and clocks are put on
MINUTE = 60_000_000


def us(time: datetime) -> int:
    """Return microseconds since 1970."""
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def ends(minutes: int, count: int = 200) -> pd.DatetimeIndex:
    """Return the ends of intervals from the start on."""
    step = timedelta(minutes=minutes)
    return pd.date_range(START + step, periods=count, freq=step)


@given(
    values=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40),
    holds=st.integers(1, 90),
    minutes=st.sampled_from((1, 10, 15, 60)),
)
def test_intervals_add_up_to_what_the_table_holds(
    values: list[float], holds: int, minutes: int
):
    """Minute by minute, and nothing is told of what lies outside."""
    begins = tuple(us(START) + k * holds * MINUTE for k in range(len(values)))
    until = us(START) + len(values) * holds * MINUTE
    table = Timetable(source="x", values=tuple(values), begins=begins, until=until)
    found = table.means(ends(minutes), timedelta(minutes=minutes))
    each = np.repeat(values, holds)
    for k, mean in enumerate(found):
        own = each[k * minutes : (k + 1) * minutes]
        if len(own) == minutes:
            assert mean == pytest.approx(own.mean(), rel=1e-9, abs=1e-6)
        else:
            assert np.isnan(mean)


def test_what_is_unknown_for_a_minute_is_unknown():
    """Half a price is none."""
    begins = tuple(us(START) + k * 15 * MINUTE for k in range(3))
    table = Timetable(
        source="x", values=(1.0, float("nan"), 3.0), begins=begins,
        until=begins[-1] + 15 * MINUTE,
    )  # fmt: skip
    found = table.means(ends(10, 5), timedelta(minutes=10))

    assert found[0] == pytest.approx(1.0)
    assert np.isnan(found[1:3]).all()
    assert found[3:] == pytest.approx([3.0] * 1 + [np.nan], nan_ok=True)


def test_a_week_repeats_in_local_hours():
    """On the night in which clocks are put on an hour is left out."""
    table = Timetable(
        source="x", values=tuple(map(float, range(WEEK))), timezone="Europe/Berlin"
    )
    found = table.means(ends(60, 30), timedelta(hours=1))

    # Midnight UTC is one o'clock on Sunday; two o'clock there is none.
    assert found[:3] == pytest.approx([6 * 24 + 1, 6 * 24 + 3, 6 * 24 + 4])
    assert found[22] == pytest.approx(0.0)
    assert table.means(pd.DatetimeIndex([], tz="UTC"), timedelta(hours=1)).size == 0


def test_a_week_has_all_its_hours():
    """And each value its time."""
    with pytest.raises(ValueError, match="168"):
        Timetable(source="x", values=(1.0,))
    with pytest.raises(ValueError, match="2 values and 1 times"):
        Timetable(source="x", values=(1.0, 2.0), begins=(0,))
