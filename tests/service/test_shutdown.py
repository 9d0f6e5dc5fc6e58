"""SIGTERM under load, a browser listening: a clean end, and nothing is lost.

The campaign of tests/campaigns/shutdown.py, short enough for every run; only
the campaign looks at the time that it took.
"""

from __future__ import annotations

from pathlib import Path

from campaigns import shutdown


def test_a_sigterm_under_load_loses_nothing(tmp_path: Path) -> None:
    """The stream is ended, what is at hand is finished, the broker keeps the rest."""
    shutdown.whole(tmp_path, quick=True).held()


def test_who_comes_back_under_another_name_has_lost_it(tmp_path: Path) -> None:
    """The control: what came meanwhile was kept for the one who went."""
    outcome = shutdown.control(tmp_path, quick=True)

    assert outcome.faults
    assert outcome.lost
