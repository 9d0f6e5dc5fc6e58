"""The bench fits what it says, and the peer finds the same minimum."""

from __future__ import annotations

import pytest

from twin.service.bench import calibrate


def test_every_row_and_eight_parameters_are_fitted():
    """The long fits are of the telemetry's own step, and nothing is thinned."""
    found = calibrate.run(days=6, repeats=1, peer_rows=120)

    for minutes in (5, 1):
        assert found[f"four_weeks_{minutes}min_parameters"] == 8
        rows = found[f"four_weeks_{minutes}min_rows"]
        assert 0.5 * 6 * 1440 / minutes < rows <= 6 * 1440 / minutes
    assert found["one_day_rows"] > 50
    assert found["peer_cost_apart"] < 1e-3
    assert all(value > 0.0 for name, value in found.items() if name.endswith("_s"))


def test_a_refused_fit_is_said():
    """A day is too little to fit anything, which is an error and not a time."""
    with pytest.raises(calibrate.BenchError, match="A reference needs"):
        calibrate.run(days=1, repeats=1)
