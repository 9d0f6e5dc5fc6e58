"""The bench replays what it says, and its stopwatches leave nothing behind."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from calibration import gates, health
from twin.service.bench import replay
from twin.service.config import load
from twin.simulate import scenario, shortened, simulate, write

DAYS = 3


def test_a_short_history_is_replayed_and_timed(tmp_path: Path) -> None:
    """Rows, values and days are those of the files; a stage is a part of the whole."""
    made = write(simulate(shortened(scenario("creep"), DAYS)), tmp_path)
    paths = [path for path in made if path.stem in replay.UNITS]
    before = (health.daily, gates.recalibrate)
    found = replay.measured(
        load(tmp_path / "plant.toml", {}), paths, lambda done, total, day: None
    )

    assert found["days"] == DAYS
    assert found["rows"] == len(replay.UNITS) * DAYS * (timedelta(days=1) // _STEP)
    assert found["values"] > 5 * found["rows"]
    for stage in ("read_s", "windows_s", "account_s", "frames_s"):
        assert 0.0 < found[stage] <= found["cpu_s"]
    # No reference is made in three days, so nothing hangs on one.
    assert found["recalibrate_s"] == found["daily_s"] == 0.0
    assert found["ratio_to_peer"] > 1.0
    assert (health.daily, gates.recalibrate) == before


_STEP = scenario("creep").step
