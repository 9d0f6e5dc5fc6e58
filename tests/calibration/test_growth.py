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


RUNS = (200, 190, 60)


def seasonal(seed: int) -> tuple[pd.DataFrame, list[datetime], np.ndarray]:
    """Return days of three runs that wander with the year, the cleanings, the waves."""
    day = np.arange(1.0, sum(RUNS) + 91.0)
    turn = 2.0 * np.pi * day / 365.25
    waves = 0.015 * np.sin(turn + seed) + 0.006 * np.cos(2.0 * turn)
    age = np.concatenate([np.arange(1.0, length + 1.0) for length in RUNS])
    table = days(0.001 * age + waves[: len(age)], seed=seed)
    begins = [START + timedelta(days=sum(RUNS[:n])) for n in range(len(RUNS))]
    return table, begins, waves


def test_a_season_that_earlier_runs_showed_is_not_taken_for_dirt():
    """Dirt goes with the cleaning; what the instruments err by in March comes back."""
    age = RUNS[-1] + 90

    def told(known: bool) -> tuple[float, float]:
        errors, widths = [], []
        for seed in range(6):
            table, (*earlier, since), waves = seasonal(seed)
            found = growth(table, since=since, earlier=earlier if known else None)
            if isinstance(found, Refusal):
                assert not known
                continue
            readings = found.readings(np.array([float(age)]))
            low, middle, high = np.quantile(readings, [0.1, 0.5, 0.9])
            errors.append(middle - 0.001 * age - waves[-1])
            widths.append(high - low)
        return float(np.std(errors)), float(np.mean(widths))

    (off, width), (off_alone, width_alone) = told(True), told(False)
    assert off < 0.7 * off_alone
    assert width < 0.8 * width_alone


def test_a_season_that_earlier_runs_did_not_show_is_not_expected():
    """Two years of readings that did not wander make the forecast sharper."""
    table, (*earlier, since), waves = seasonal(0)
    even = 1.0 / (1.0 / table["value"] - waves[: len(table)])
    table = table.assign(value=even, low=even * 0.95, high=even * 1.05)
    at = np.array([RUNS[-1] + 90.0])

    def width(known: list[datetime] | None) -> float:
        found = growth(table, since=since, earlier=known)
        assert isinstance(found, Growth)
        low, high = np.quantile(found.readings(at), [0.1, 0.9])
        return float(high - low)

    assert width(earlier) < 0.8 * width(None)


def test_days_judged_from_few_windows_teach_nothing():
    """A Sunday at a quarter of the load reads clean, and its own interval says so."""
    table = days(TRUTHS[Law.LINEAR][:90])
    sunday = table.index % 7 == 6
    odd = table.copy()
    odd.loc[sunday, "value"] **= 0.5
    usual = odd.assign(low=odd["value"] * 0.95, high=odd["value"] * 1.05)
    odd.loc[sunday, "low"] *= 0.8
    odd.loc[sunday, "high"] *= 1.2
    at = np.array([120.0])

    assert (learnt(odd).readings(at) == learnt(table[~sunday]).readings(at)).all()
    low, low_usual = (np.quantile(learnt(t).readings(at), 0.05) for t in (odd, usual))
    assert low_usual < low - 0.01


def test_an_interval_holds_as_often_as_it_says():
    """Eighty of a hundred; readings that err four times as far are not covered."""
    held = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        age = int(rng.integers(40, 200))
        law = TRUTHS[list(Law)[seed % 3]] * rng.uniform(0.3, 1.5)
        far = age + int(rng.integers(20, 91))
        found = growth(days(law[:age], seed=seed), since=START)
        if isinstance(found, Growth):
            low, high = np.quantile(found.readings(np.array([far])), [0.1, 0.9])
            error = rng.normal(0.0, 0.005) * np.array([1.0, 4.0])
            read = (1.0 + law[far - 1]) * np.exp(error) - 1.0
            held.append((low <= read) & (read <= high))
    covered, covered_off = np.mean(held, axis=0)

    assert len(held) > 50
    assert 0.7 <= covered <= 0.9
    assert covered_off < 0.65


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
