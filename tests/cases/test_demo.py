"""The demo is the smoke test: one command, one JSON object, exit code 0."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def closing() -> dict[str, object]:
    """Return what ``hptwin demo --once --json`` prints."""
    command = [sys.executable, "-m", "twin.service.cli"]
    done = subprocess.run(
        [*command, "demo", "--once", "--json", "--port", "0"],
        capture_output=True,
        text=True,
        timeout=290,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return dict(json.loads(done.stdout))


def key(row: dict[str, object]) -> tuple[object, object, object]:
    """Return what names a fault."""
    return row["unit"], row["kind"], row["component"]


def test_everything_planted_is_found(closing: dict[str, object]) -> None:
    """Fouling, COP, sensor, missed recovery: unit, kind and component right."""
    planted = {key(row) for row in closing["planted"]}
    found = {key(row) for row in closing["found"]}

    assert len(planted) >= 6
    assert planted <= found


def test_sizes_lie_within_their_intervals_or_near(closing: dict[str, object]) -> None:
    """A fouling's interval covers what was planted."""
    found = {key(row): row for row in closing["found"]}
    fouled = [row for row in closing["planted"] if row["kind"] == "fouling"]

    assert fouled
    for row in fouled:
        answer = found[key(row)]
        assert answer["low"] <= row["size"] <= answer["high"]


def test_there_is_a_date_a_cost_and_a_verdict_on_models(
    closing: dict[str, object],
) -> None:
    """A clean-by date, EUR a day, one recalibration accepted and one rejected."""
    assert any(row["clean_by"] for row in closing["found"])
    assert any((row["cost_eur_day"] or 0.0) > 0.0 for row in closing["found"])
    assert closing["recalibrations"]["accepted"] >= 1
    assert closing["recalibrations"]["rejected"] >= 1
    assert closing["recalibrations"]["why"]


def test_nothing_is_found_that_was_not_planted(closing: dict[str, object]) -> None:
    """A false finding costs trust."""
    assert closing["not_planted"] == []
