"""Recalibration does not learn a slow loss away.

The campaign of tests/campaigns, short enough for every run: twelve weeks of a
process without seasons in hourly means, and a condenser that loses in them what
takes years.
"""

from __future__ import annotations

from campaigns import creep

from twin.plant import Use


def test_a_slow_loss_is_still_reported_and_a_refitted_model_hides_it():
    """The control, a model that is its own reference each month, must hide it."""
    found = creep.case(1, weeks=12, rate=0.8, minutes=60, use=Use.PROCESS, every=3)

    assert found["accepted"] == found["recalibrations"] == 4
    assert found["share"] >= creep.LEAST
    assert abs(found["control_share"]) < creep.HIDDEN
