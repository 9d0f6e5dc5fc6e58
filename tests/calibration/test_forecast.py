"""The cleaning date is where one more day costs more than the average day did."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from calibration.forecast import Forecast, forecast, last_cleaning
from twin.finding import Refusal
from twin.plant import Action, Maintenance

START = datetime(2026, 1, 1, tzinfo=UTC)


def ratios(days: int, rate: float, noise: float = 0.005, seed: int = 0) -> pd.Series:
    """Return daily conductance ratios of a resistance that grows evenly."""
    index = pd.date_range(START + timedelta(days=1), periods=days, freq="D")
    random = np.random.default_rng(seed).normal(0.0, noise, days)
    return pd.Series(1.0 / (1.0 + rate * np.arange(1, days + 1)) + random, index=index)


def test_a_known_growth_gives_the_known_date():
    """T = sqrt(2 C / a): 1500 EUR against 0.25 EUR/day for each day of growth."""
    found = forecast(
        ratios(60, 0.002), since=START, cleaning_cost=1500.0, cost_per_resistance=125.0
    )

    assert isinstance(found, Forecast)
    assert found.rate == pytest.approx(0.002, rel=0.1)
    assert found.clean_by is not None
    days = (found.clean_by - START) / timedelta(days=1)
    assert days == pytest.approx(math.sqrt(2 * 1500.0 / 0.25), rel=0.05)
    assert found.earliest is not None
    assert found.latest is not None
    assert found.earliest < found.clean_by < found.latest


def test_the_date_is_the_cheapest_of_all_dates():
    """No other interval has a lower average cost per day."""
    slope, cost = 0.25, 1500.0
    days = np.arange(1, 400)
    average = (cost + slope * days**2 / 2) / days

    assert days[np.argmin(average)] == round(math.sqrt(2 * cost / slope))


def test_the_interval_of_the_rate_covers_the_truth_about_as_often_as_it_says():
    """An 80 % interval over 60 draws: between 65 and 95 %."""
    inside = 0
    for seed in range(60):
        found = forecast(
            ratios(60, 0.002, 0.01, seed),
            since=START,
            cleaning_cost=1500.0,
            cost_per_resistance=1.0,
        )
        assert isinstance(found, Forecast)
        inside += found.rate_low <= 0.002 <= found.rate_high

    assert 0.65 <= inside / 60 <= 0.95


@pytest.mark.parametrize(
    ("series", "code"),
    [
        (ratios(15, 0.002), "forecast.too_short"),
        (ratios(60, 0.0, 0.01), "forecast.no_growth"),
        (ratios(60, -0.002), "forecast.no_growth"),
        (ratios(0, 0.0), "forecast.too_short"),
    ],
)
def test_without_growth_or_days_there_is_no_forecast(series: pd.Series, code: str):
    """A date made of noise would be believed."""
    found = forecast(
        series, since=START, cleaning_cost=1500.0, cost_per_resistance=100.0
    )

    assert isinstance(found, Refusal)
    assert found.code == code


def test_without_a_price_there_is_a_rate_and_no_date():
    """Unknown money is unknown, not nothing."""
    found = forecast(
        ratios(60, 0.002), since=START, cleaning_cost=1500.0, cost_per_resistance=None
    )

    assert isinstance(found, Forecast)
    assert found.clean_by is None


def test_a_cleaning_starts_the_growth_anew():
    """What was before the last cleaning says nothing of the next one."""
    old, new = ratios(60, 0.004), ratios(40, 0.001, seed=1)
    cleaned = old.index[-1].to_pydatetime()
    series = pd.concat([old, new.set_axis(new.index + pd.Timedelta(days=60))])
    found = forecast(
        series, since=cleaned, cleaning_cost=1500.0, cost_per_resistance=100.0
    )

    assert isinstance(found, Forecast)
    assert found.rate_low <= 0.001 <= found.rate_high


def test_the_log_says_what_was_cleaned_when():
    """Another unit's, another component's and a future cleaning do not count."""

    def line(day: int, unit: str, component: str, action: Action) -> Maintenance:
        return Maintenance(
            time=START + timedelta(days=day),
            unit=unit,
            action=action,
            component=component,
        )

    log = (
        line(5, "hp1", "condenser", Action.CLEANED),
        line(9, "hp1", "", Action.CLEANED),
        line(12, "hp1", "evaporator", Action.CLEANED),
        line(13, "hp2", "condenser", Action.CLEANED),
        line(14, "hp1", "condenser", Action.NOTE),
        line(99, "hp1", "condenser", Action.CLEANED),
    )

    assert last_cleaning(log, "hp1", "condenser", START + timedelta(days=50)) == (
        START + timedelta(days=9)
    )
    assert last_cleaning(log, "hp3", "condenser", START + timedelta(days=50)) is None
