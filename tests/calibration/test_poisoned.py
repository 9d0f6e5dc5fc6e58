"""What lies about the plant does not become its model, whatever the lie.

A part of the campaign of tests/campaigns, on one plant.
"""

from __future__ import annotations

import pytest
from campaigns import poisoned


@pytest.mark.parametrize(
    ("kind", "gate"),
    [
        ("short cycling", "cycling"),
        ("no excitation", "excitation"),
        ("duplicated week", "repeated"),
        ("drifted sensor", "balance"),
        ("fouled plant without an event", "step"),
        ("fouled plant as the reference", "design_evaporator"),
    ],
)
def test_a_poisoned_window_is_refused_for_its_own_reason(kind: str, gate: str):
    """And would have become a model without the gates."""
    found = poisoned.poison(kind, 1)

    assert found["without_gates"]
    assert not found["promoted"]
    assert found["reason"].startswith(f"{gate}: ")


@pytest.mark.parametrize("name", ["fouling", "as reference"])
def test_a_plant_that_is_clean_or_ages_slowly_is_accepted(name: str):
    """The control: gates that refuse everything would be worth nothing."""
    assert poisoned.good(1, poisoned.GOOD.index(name))["promoted"]
