"""People read the page while two thousand messages arrive each second.

The campaign of tests/campaigns/readers.py, short enough for every run; only the
campaign looks at the time that answers took.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
from campaigns import readers

from twin import simulate


def test_nothing_is_lost_while_people_read(tmp_path: Path) -> None:
    """Every message is stored as it was sent; nobody's answer fails."""
    outcome = readers.run(tmp_path, quick=True)

    outcome.held()
    assert outcome.figures["requests"] > 10


def test_a_message_that_was_withheld_is_missed(tmp_path: Path) -> None:
    """The control: one was left out and counted as sent, and the service was stopped.

    Nothing but the one is missed, and a stopped service fails nobody.
    """
    outcome = readers.control(tmp_path, quick=True)

    assert outcome.lost == 1
    assert outcome.figures["wrong"] == 0
    assert outcome.figures["failed"] == 0
    assert [sentence.split(":")[0] for sentence in outcome.broken] == [
        "0 lost, not 1",
        "each is counted as stored once",
    ]


def test_a_season_that_is_moved_is_the_same_season() -> None:
    """Everything in it happens as much later as its end does, readings and all."""
    scenario = simulate.scenario("demo", days=40)
    made = simulate.simulate(simulate.shortened(scenario, 1.0))
    stop = datetime(2031, 5, 2, tzinfo=UTC)
    moved = readers.moved(made, stop)
    by = stop - made.scenario.stop

    assert moved.scenario.stop == stop
    assert by > timedelta(days=365)
    for unit, frame in made.frames.items():
        pd.testing.assert_frame_equal(
            moved.frames[unit].set_axis(moved.frames[unit].index - by), frame
        )
    for before, after in zip(made.scenario.faults, moved.scenario.faults, strict=True):
        assert after.start - before.start == by
    assert "time = 2031-" in moved.plant_toml
    assert "time = 2025-" not in moved.plant_toml
