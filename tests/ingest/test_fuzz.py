"""Twenty thousand of the million messages of tests/campaigns/fuzz.py."""

from __future__ import annotations

from campaigns import fuzz


def test_any_message_on_any_topic_is_answered() -> None:
    """None raises, none is forgotten, and the verdicts sum to the messages."""
    outcome = fuzz.run(20_000, seed=1)
    assert outcome.broken == []


def test_a_planted_error_and_a_swallowed_message_are_noticed() -> None:
    """The control: were it not so, the fuzzing would have shown nothing."""
    assert all(fuzz.control(2000, seed=1).values())


def test_a_seed_makes_the_same_messages() -> None:
    """So that what one run finds another can show."""
    assert fuzz.Maker(7).messages(300) == fuzz.Maker(7).messages(300)
    assert fuzz.Maker(7).messages(300) != fuzz.Maker(8).messages(300)
