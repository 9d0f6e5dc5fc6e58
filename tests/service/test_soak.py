"""A service watched for long: what is looked at, what it says, and a short run.

The two hours themselves are ``python -m tests.campaigns.soak``.
"""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from campaigns import chart, looks, soak
from campaigns.faults import FAULTS, schedule

FAULT = {"fault": "broker killed", "began": 2000.0, "ended": 2030.0}


def rows(seconds: int = 7200, *, seed: int = 1) -> list[looks.Row]:
    """Return looks at a service that grows for twenty minutes and then wanders."""
    chance = np.random.default_rng(seed)
    wander = 0.0
    found = []
    for t in range(0, seconds, 10):
        wander = 0.95 * wander + chance.normal(0.0, 0.15)
        memory = 200.0 + 20.0 * min(1.0, t / 1200) + wander
        away = FAULT["began"] <= t <= FAULT["ended"]
        found.append(
            {
                "t": float(t),
                "pid": 7,
                "rss_mb": memory + 150.0,
                "anon_mb": memory,
                "fds": 26 + int(chance.integers(0, 2)),
                "threads": 12,
                "cpu_s": 0.02 * t,
                "in_flight": 0,
                "lags": [(t + s, 0.5 + (t + s - 2000.0) * away) for s in (2.0, 8.0)],
                "page_lags": [0.7],
                "on": "broker killed" if away else "",
            }
        )
    return found


@pytest.mark.parametrize("planted", [0.0, 1.0, 5.0, -3.0])
def test_a_planted_slope_is_found_in_its_interval(planted: float) -> None:
    """Over looks that lean on each other, as those at a memory do."""
    inside = 0
    for seed in range(20):
        seen = rows(seed=seed)[120:]
        at = [row["t"] for row in seen]
        values = [row["anon_mb"] + planted * row["t"] / 3600 for row in seen]
        found = looks.slope(at, values)
        assert found.low <= found.middle <= found.high
        assert found.high - found.low < 2.0
        inside += found.low <= planted <= found.high

    assert inside >= 17


def test_a_minute_out_of_line_moves_nothing() -> None:
    """A burst that is given back is no leak; least squares would call it one."""
    seen = rows()[120:]
    at = [row["t"] for row in seen]
    calm = [row["anon_mb"] for row in seen]
    burst = [value + 300.0 * (t > 7100) for t, value in zip(at, calm, strict=True)]

    assert abs(looks.slope(at, burst).middle - looks.slope(at, calm).middle) < 0.2
    assert np.polyfit(at, burst, 1)[0] * 3600 > 5.0


def test_a_leak_breaks_the_promise_that_its_absence_keeps() -> None:
    """Block by block, as a leak comes; half of it is within the promise."""
    whole = looks.figures(rows(), [FAULT], 1200.0)
    leaky = looks.figures(looks.leaking(rows()), [FAULT], 1200.0)
    half = looks.figures(looks.leaking(rows(), 2.5), [FAULT], 1200.0)

    assert all(soak.promises(whole).values())
    assert all(soak.promises(half).values())
    broken = [sentence for sentence, kept in soak.promises(leaky).items() if not kept]
    assert [sentence.split(":")[0] for sentence in broken] == [
        "memory grows by less than 5 MB/h"
    ]


def test_descriptors_that_are_not_given_back_break_a_promise() -> None:
    """One in ten minutes is enough; some that a crowd has left once are none."""
    leaking = [row | {"fds": row["fds"] + int(row["t"] // 600)} for row in rows()]
    crowded = [row | {"fds": row["fds"] + 4 * (row["t"] > 4000)} for row in rows()]
    found = looks.figures(leaking, [FAULT], 1200.0)
    once = looks.figures(crowded, [FAULT], 1200.0)

    assert list(soak.promises(found).values()).count(False) == 1
    assert found["fds_per_h"]["low"] > 4.0
    assert all(soak.promises(once).values())


def test_figures_tell_calm_times_from_faults() -> None:
    """The lag of a fault is the largest of all, and none of the calm ones."""
    found = looks.figures(rows(), [FAULT], 1200.0)

    assert found["lag_most_s"] == pytest.approx(38.5)
    assert found["calm_lag_s"]["most"] == 0.5
    assert found["recovery_s"] == {"broker killed": [12.0]}
    assert found["cores"] == pytest.approx(0.02)
    assert found["rss_mb"]["warm"] < found["rss_mb"]["most"]


def test_a_process_that_is_ending_is_no_measure_of_one_that_runs() -> None:
    """It has closed most of what it had; the next one is another process."""
    seen = rows()
    ending = seen[-1] | {"fds": 3, "anon_mb": 20.0, "on": looks.RESTART}
    next_one = seen[-1] | {"pid": 8, "fds": 90}
    found = looks.figures([*seen, ending, next_one], [FAULT], 1200.0)

    assert found["fds"]["last"] in (26, 27)
    assert found["fds"]["most"] == 27
    assert found["anon_mb"]["last"] > 200.0


def test_who_is_back_for_a_moment_is_not_back() -> None:
    """Three looks in a row; and never is never."""
    lags = [(0.0, 1.0), (2.0, 9.0), (4.0, 1.0), (6.0, 9.0), (8.0, 1.0), (10.0, 2.0)]

    assert looks.recovery([*lags, (12.0, 1.0)], 3.0) == 5.0
    assert looks.recovery(lags, 3.0) is None
    assert looks.recovery([*lags, (12.0, 6.0)], 3.0) is None
    assert looks.recovery([*lags, (12.0, 6.0)], 3.0, limit_s=6.0) == 5.0


def test_a_process_is_seen_to_take_memory_and_files(tmp_path: Path) -> None:
    """The control of all of it: this process takes both, and gives them back."""
    before = looks.process(os.getpid())
    held = np.ones(8 << 20)
    files = [(tmp_path / str(n)).open("w") for n in range(7)]
    during = looks.process(os.getpid())
    for file in files:
        file.close()
    taken = held.nbytes / 2**20
    del held
    after = looks.process(os.getpid())

    assert during["anon_mb"] - before["anon_mb"] > 0.9 * taken
    assert during["fds"] - before["fds"] == 7
    assert after["fds"] == before["fds"]
    assert after["anon_mb"] < during["anon_mb"] - 0.9 * taken
    with pytest.raises(FileNotFoundError):
        looks.process(2**22 + 1)


def test_a_run_that_was_cut_short_is_read_as_far_as_it_went(tmp_path: Path) -> None:
    """A fault that was on is without an end, the last line half a line."""
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(row) for row in rows(seconds=3000)]
    told = {"fault": "garbage", "began": 2990.0}
    path.write_text("\n".join([*lines, json.dumps(told), lines[0][:40]]), "utf-8")
    seen, faults = looks.read(path)

    assert len(seen) == 300
    assert faults == [{"fault": "garbage", "began": 2990.0, "ended": None}]
    assert not looks.quiet(faults, 2995.0)
    assert looks.quiet(faults, 2980.0)
    assert looks.figures(seen, faults, 1200.0)["recovery_s"] == {}


def test_every_fault_comes_once_in_each_round() -> None:
    """From the seed, in order, none in the first tenth of the time or the last."""
    plan = schedule(4, 7200.0)
    names = [name for _, name in plan]

    assert plan == schedule(4, 7200.0)
    assert plan != schedule(5, 7200.0)
    assert Counter(names) == dict.fromkeys(FAULTS, 3)
    for first in (0, 10, 20):
        assert set(names[first : first + 10]) == set(FAULTS)
    times = [at for at, _ in plan]
    assert times == sorted(times)
    assert times[0] >= 720.0
    assert times[-1] <= 6480.0


def test_the_drawing_is_the_same_each_time(tmp_path: Path) -> None:
    """No date, no random name, no background; each fault is behind each curve."""
    for name in ("one.svg", "two.svg"):
        chart.draw(rows(3000), [FAULT], tmp_path / name)
    text = (tmp_path / "one.svg").read_text("utf-8")

    assert text == (tmp_path / "two.svg").read_text("utf-8")
    assert "<dc:date>" not in text
    assert "broker killed" in text
    root = ET.fromstring(text)  # noqa: S314  our own
    assert root.tag.endswith("svg")
    chart.draw(rows(3000, seed=2), [FAULT], tmp_path / "two.svg")
    assert text != (tmp_path / "two.svg").read_text("utf-8")


def test_a_whole_service_under_each_fault_misses_only_what_was_withheld(
    tmp_path: Path,
) -> None:
    """``hptwin run``, a broker killed and frozen, a full disk, garbage and more.

    The gateway leaves one message out and says that it sent it. That one has to be
    missed, or the account is blind; and nothing else.
    """
    outcome = soak.control(tmp_path, quick=True)

    assert outcome.faults == 8
    assert outcome.checked > 200
    assert outcome.lost == 1
    assert outcome.figures["wrong"] == 0
    assert [sentence.split(":")[0] for sentence in outcome.broken] == [
        "0 lost, not 1",
        "each is counted as stored once",
    ]
