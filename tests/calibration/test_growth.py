"""Three laws of dirt compete, and none is believed beyond what the days show."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from calibration.growth import Growth, Law, growth
from twin.finding import Refusal

START = datetime(2026, 1, 1, tzinfo=UTC)
AGE = np.arange(1.0, 366.0)
TRUTHS = {
    Law.LINEAR: 0.3 * AGE / 180.0,
    Law.FALLING_RATE: 0.3 * np.sqrt(AGE / 180.0),
    Law.ASYMPTOTIC: -0.35 * np.expm1(-AGE / 50.0),
}


def days(
    resistance: np.ndarray, noise: float = 0.005, seed: int = 0, level: float = 0.0
) -> pd.DataFrame:
    """Return daily conductances of a resistance, with errors."""
    error = np.random.default_rng(seed).normal(0.0, noise, len(resistance))
    value = np.exp(error) / (1.0 + resistance + level)
    times = pd.date_range(START + timedelta(days=1), periods=len(value), freq="D")
    return pd.DataFrame(
        {"time": times, "value": value, "low": value * 0.95, "high": value * 1.05}
    )


def learnt(table: pd.DataFrame, since: datetime | None = START) -> Growth:
    """Return the growth, which must be one."""
    found = growth(table, since=since)
    assert isinstance(found, Growth)
    return found


@pytest.mark.parametrize("law", list(Law))
def test_a_law_that_ran_for_half_a_year_is_recognised(law: Law):
    """And what it will be a month later lies where the courses say."""
    found = learnt(days(TRUTHS[law][:180]))
    low, high = np.quantile(found.readings(np.array([210.0])), [0.05, 0.95])

    assert found.law is law
    assert found.shares[law] > 0.5
    assert low < TRUTHS[law][209] < high


def test_the_shares_are_all_there_is():
    """They sum to one."""
    assert sum(learnt(days(TRUTHS[Law.LINEAR][:60])).shares.values()) == pytest.approx(
        1
    )


def test_a_young_surface_leaves_the_laws_undecided():
    """After six weeks none has earned all the weight, and the years ahead differ."""
    young, old = (learnt(days(TRUTHS[Law.LINEAR][:count])) for count in (42, 180))

    def spread(found: Growth) -> float:
        ahead = found.grown(np.array([found.days + 90.0]))
        low, high = np.quantile(ahead, [0.1, 0.9])
        return float(high - low)

    assert max(young.shares.values()) < 0.95
    assert spread(young) > 1.5 * spread(old)


def test_errors_that_are_alike_leave_more_doubt():
    """Neighbouring days that err together are worth fewer days."""
    table = days(TRUTHS[Law.LINEAR][:90], noise=0.0)
    chance = np.random.default_rng(3).normal(0.0, 0.01, 90)
    slow = chance.copy()
    for day in range(1, 90):
        slow[day] = 0.9 * slow[day - 1] + np.sqrt(1.0 - 0.81) * chance[day]

    def doubt(error: np.ndarray) -> float:
        found = learnt(table.assign(value=table["value"] * np.exp(error)))
        return float(np.std(found.grown(np.array([180.0]))))

    assert doubt(slow) > 1.15 * doubt(chance)


def test_an_outlier_does_not_decide():
    """A day that reads half as much changes little."""
    table = days(TRUTHS[Law.LINEAR][:90])
    odd = table.copy()
    odd.loc[80, ["value", "low", "high"]] *= 0.5
    at = np.array([120.0])

    assert learnt(odd).grown(at).mean() == pytest.approx(
        learnt(table).grown(at).mean(), rel=0.1
    )


def test_what_a_cleaning_left_is_a_level_and_not_growth():
    """Six per cent that stayed are told apart from what comes on top."""
    found = learnt(days(TRUTHS[Law.LINEAR][:120], level=0.06))

    assert found.level == pytest.approx(0.06, abs=0.02)
    assert found.grown(np.array([120.0])).mean() == pytest.approx(0.2, abs=0.03)


def test_growth_may_begin_late():
    """Sixty clean days, then dirt: ahead counts from where it began."""
    late = np.maximum(AGE[:120] - 60.0, 0.0) * 0.003
    ahead = learnt(days(late), since=None).grown(np.array([150.0]))

    assert np.mean(ahead) == pytest.approx(0.27, rel=0.15)


def test_the_same_days_give_the_same_courses():
    """Drawn, yet reproducible."""
    table = days(TRUTHS[Law.ASYMPTOTIC][:60])
    at = np.array([90.0])

    assert (learnt(table).readings(at) == learnt(table).readings(at)).all()


@pytest.mark.parametrize(
    ("table", "code"),
    [
        (days(TRUTHS[Law.LINEAR][:15]), "forecast.too_short"),
        (days(TRUTHS[Law.LINEAR][:0]), "forecast.too_short"),
        (days(np.zeros(90), 0.01), "forecast.no_growth"),
        (days(-0.001 * AGE[:90]), "forecast.no_growth"),
    ],
)
def test_without_days_or_growth_there_is_no_law(table: pd.DataFrame, code: str):
    """A law made of noise would be believed."""
    found = growth(table, since=START)

    assert isinstance(found, Refusal)
    assert found.code == code
