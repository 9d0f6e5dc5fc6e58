"""Taken apart, a history says of each indicator what a mask of it would."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.health import COLUMNS
from calibration.trend import trend

FIRST = datetime(2026, 1, 1, tzinfo=UTC)

rows = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.sampled_from(("hp1", "cdu1")),
        st.sampled_from(("condenser", "evaporator", "machine")),
        st.sampled_from(("conductance_ratio", "efficiency_ratio")),
        st.one_of(st.floats(0.0, 2.0), st.just(float("nan"))),
    ),
    max_size=60,
    unique_by=lambda row: row[:4],
)


def history(given_rows: list[tuple[int, str, str, str, float]]) -> pd.DataFrame:
    """Return rows of a history, in no order."""
    made = [
        (FIRST + timedelta(days=day), unit, part, name, v, v - 1, v + 1, v, 1.0, day)
        for day, unit, part, name, v in given_rows
    ]
    frame = pd.DataFrame(made, columns=list(COLUMNS))
    return frame.assign(time=pd.DatetimeIndex(frame["time"], tz="UTC"))


@given(rows)
def test_a_series_is_what_a_mask_gives(given_rows):
    """Of every unit and indicator, by time, and nothing of another's."""
    frame = history(given_rows)
    for unit in ("hp1", "cdu1"):
        found = trend(frame, unit)
        mine = frame[frame["unit"] == unit]
        assert set(found.series) == set(
            zip(mine["component"], mine["indicator"], strict=True)
        )
        for (part, name), series in found.series.items():
            own = mine[(mine["component"] == part) & (mine["indicator"] == name)]
            own = own.sort_values("time")
            assert list(series.ends) == list(own["time"])
            for column in COLUMNS[4:]:
                np.testing.assert_array_equal(
                    getattr(series, column), own[column].to_numpy(dtype=float)
                )


@given(rows, st.integers(-1, 31), st.integers(-1, 31))
def test_a_period_begins_after_and_ends_with_its_bounds(given_rows, after, until):
    """As half-open as the days themselves are."""
    a, b = FIRST + timedelta(days=after), FIRST + timedelta(days=until)
    for series in trend(history(given_rows), "hp1").series.values():
        told = [end for end in series.ends if a < end <= b]
        part = series.between(after=a, until=b)
        assert list(part.ends) == told
        assert [part.end(k) for k in range(len(part))] == told
        assert not np.isnan(part.judged().value).any()
        assert len(part.judged()) == int((~np.isnan(part.value)).sum())


def test_what_was_never_judged_has_no_days():
    """Nothing is said of it, and nothing raised; a time in it there is none."""
    series = trend(history([]), "hp1").of("condenser", "conductance_ratio")
    assert not len(series)
    assert not len(series.between(after=FIRST).judged())
    with pytest.raises(IndexError):
        series.end(-1)
