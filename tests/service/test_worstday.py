"""The worst days of an operator, short enough for every run.

The campaign of tests/campaigns/worstday.py with three heat pumps and the service
in this process; its controls show that each limit can be exceeded.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from campaigns import worstday

from twin.service.alarms import MOST_AN_HOUR, MOST_AT_ONCE

SEED = 1


@pytest.fixture(scope="module")
def told() -> worstday.Telemetry:
    """Return three days of habits and the worst one, of three heat pumps."""
    return worstday.telemetry(3, SEED, 10)


@pytest.fixture(scope="module")
def house(
    told: worstday.Telemetry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[worstday.Plant]:
    """Set up a plant whose habits the service has learnt."""
    folder = tmp_path_factory.mktemp("worst") / "day"
    with worstday.plant(told, folder, here=True) as made:
        worstday.habits(made)
        yield made


def test_a_gateway_a_restart_and_a_backlog_are_one_alarm(
    house: worstday.Plant,
) -> None:
    """A probe before them is one more; two that lied in the backlog are none."""
    every = timedelta(hours=6)
    found = worstday.day(house, every=every, seed=SEED, kills=0)

    assert found["alarms_before_the_loss"] == 1
    assert found["alarms_of_a_lost_gateway"] == 1
    assert found["alarms_anew_by_restarts"] == 0
    assert found["backfilled_messages"] == 3 * 72
    assert found["alarms_of_the_backfill"] == 0
    assert found["alarms_of_the_day"] == 2
    assert found["messages_that_asked_somebody"] == 2
    assert found["alarms_an_hour"] <= MOST_AN_HOUR
    assert found["most_in_10_min"] <= MOST_AT_ONCE


def test_the_same_hours_told_live_do_alarm(house: worstday.Plant) -> None:
    """The control of the backlog: two of its probes lied for hours."""
    assert worstday.as_they_come(house, every=timedelta(hours=4)) == 2


def test_a_day_of_dithering_is_two_transitions_at_most() -> None:
    """Five kinds of finding, a cost and a silence, each dancing on its limit."""
    most, danced = worstday.dithering(SEED, minutes=5)

    assert most <= 2
    assert danced.alarms >= 5
    assert danced.chattering == ()


def test_without_delays_it_is_hundreds() -> None:
    """The control."""
    most, _ = worstday.dithering(SEED, worstday.undelayed(), minutes=5)

    assert most > 100
