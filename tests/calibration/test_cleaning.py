"""A repair is closed by what the twin sees, not by a click."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.cleaning import (
    LEAST_JUMP,
    Cleaning,
    Verdict,
    believed,
    cleanings,
    restarted,
)
from calibration.trend import trend
from twin.plant import Action, Maintenance

START = datetime(2026, 1, 1, tzinfo=UTC)
CLEANED = START + timedelta(days=60, hours=10)


def line(time: datetime = CLEANED, action: Action = Action.CLEANED) -> Maintenance:
    """Return a line in the log."""
    return Maintenance(time=time, unit="hp1", action=action, component="condenser")


def course(
    before: float = 0.80,
    after: float = 0.99,
    *,
    count: int = 90,
    noise: float = 0.008,
    seed: int = 0,
    ramp: int = 0,
) -> pd.DataFrame:
    """Return a trend with a jump on day 60, at once or over some days."""
    end = np.arange(1, count + 1)
    share = np.clip((end - 61) / max(ramp, 1e-9), 0.0, 1.0)
    slow = 1.0 - (1.0 - before) * np.minimum(end / 60.0, 1.0)
    value = np.where(end <= 61, slow, slow + (after - before) * share)
    value = value * np.exp(np.random.default_rng(seed).normal(0.0, noise, count))
    return pd.DataFrame(
        {
            "time": pd.date_range(START + timedelta(days=1), periods=count, freq="D"),
            "unit": "hp1",
            "component": "condenser",
            "indicator": "conductance_ratio",
            "value": value,
            "low": value * 0.93,
            "high": value * 1.07,
            "statistic": 5.0 * end,
            "limit": 12.0,
            "samples": 50.0,
        }
    )


def said(table: pd.DataFrame, *log: Maintenance) -> tuple[Cleaning, ...]:
    """Return what is said at the end of the table."""
    now = table["time"].iloc[-1].to_pydatetime()
    return cleanings(trend(table, "hp1"), log, now=now)


def test_a_logged_cleaning_that_worked_is_verified():
    """With what it was before and after, and the gain inside its interval."""
    (one,) = said(course(), line())

    assert one.verdict is Verdict.VERIFIED
    assert one.seen
    assert one.before == pytest.approx(0.80, abs=0.03)
    assert one.after == pytest.approx(0.99, abs=0.02)
    assert one.low < 0.19 < one.high
    assert "verified" in one.sentence


def test_a_cleaning_that_was_only_logged_is_not_seen():
    """The surface is as dirty as before."""
    (one,) = said(course(after=0.80), line())

    assert one.verdict is Verdict.NOT_SEEN
    assert one.low < 0.0 < one.high
    assert not one.seen


def test_the_day_after_it_is_too_early():
    """Three judged days are the least; seven decide that nothing came of it."""
    verdicts = [
        said(course(after=0.80, count=count), line())[0].verdict
        for count in (61, 62, 63, 67, 68)
    ]

    assert verdicts == [Verdict.TOO_EARLY] * 4 + [Verdict.NOT_SEEN]
    assert said(course(count=64), line())[0].verdict is Verdict.VERIFIED


def test_a_cleaning_in_part_is_verified_and_called_so():
    """Half of the dirt is still there."""
    (one,) = said(course(after=0.88), line())

    assert one.verdict is Verdict.VERIFIED
    assert one.sentence.endswith("It is cleaned in part.")


def test_a_cleaning_that_nobody_logged_is_seen():
    """With the day."""
    (one,) = said(course())

    assert one.verdict is Verdict.UNLOGGED
    assert abs(one.time - CLEANED) <= timedelta(days=2)


def test_the_same_cleaning_is_not_told_twice():
    """A jump beside its own line is that line's."""
    assert len(said(course(), line(CLEANED + timedelta(days=3)))) == 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.7, 1.0))
def test_where_nothing_was_done_nothing_is_seen(seed: int, dirty: float):
    """A year's worth of fouling and noise has no jump in it."""
    assert said(course(dirty, dirty, count=200, noise=0.012, seed=seed)) == ()


def test_what_came_over_weeks_was_no_cleaning():
    """A season is not a brush."""
    assert said(course(ramp=40, count=120)) == ()


def test_a_new_probe_is_not_a_cleaning():
    """A jump beside a logged instrument, or to above clean, is the instrument's."""
    replaced = line(action=Action.SENSOR_REPLACED)

    assert said(course(), replaced) == ()
    assert said(course(before=0.90, after=1.20)) == ()


def test_a_jump_that_is_too_small_needs_a_line_in_the_log():
    """With it, three per cent are enough."""
    table = course(before=0.96, after=0.96 + 0.7 * LEAST_JUMP, noise=0.003)

    assert said(table) == ()
    (one,) = said(table, line())
    assert one.verdict is Verdict.VERIFIED


def test_the_log_is_believed_as_far_as_it_shows():
    """What is not seen is left out, what is seen is in, all else stays."""
    note = line(CLEANED - timedelta(days=20), Action.CHARGED)
    other = Maintenance(time=CLEANED, unit="hp2", action=Action.CLEANED)
    dirty, clean = said(course(after=0.80), line()), said(course(), line())

    assert believed((note, line(), other), dirty) == (note, other)
    lines = believed((note, line(), other), clean)
    assert [one.time for one in lines] == [note.time, CLEANED, CLEANED]
    (seen,) = said(course())
    (added,) = believed((), (seen,))
    assert (added.action, added.time) == (Action.CLEANED, seen.time)


TUNING = {"condenser/conductance_ratio": {"scatter": 0.01}}


def test_evidence_begins_anew_where_a_cleaning_is_seen():
    """And only there: before it, and without it, the rows stay."""
    table = course(after=1.0)
    after = (table["time"] > pd.Timestamp(CLEANED)).to_numpy()
    before = trend(table, "hp1")
    anew = restarted(before, said(table, line()), TUNING)
    (was, now) = (one.of("condenser", "conductance_ratio") for one in (before, anew))

    assert (now.statistic[~after] == was.statistic[~after]).all()
    assert now.statistic[after].max() < 15.0 < was.statistic[after].min()
    dirty = course(after=0.80)
    still = trend(dirty, "hp1")
    assert restarted(still, said(dirty, line()), TUNING) is still
