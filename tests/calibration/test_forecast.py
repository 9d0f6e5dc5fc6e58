"""The cleaning date is where one more day costs more than the average day did."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.forecast import (
    AHEAD,
    Calendar,
    Forecast,
    cleaning_times,
    last_cleaning,
    look_ahead,
)
from twin.finding import Refusal
from twin.plant import Action, Maintenance

START = datetime(2026, 1, 1, tzinfo=UTC)


def days(
    count: int,
    rate: float,
    noise: float = 0.005,
    seed: int = 0,
    begin: datetime = START,
) -> pd.DataFrame:
    """Return daily conductances of a resistance that grows evenly."""
    times = pd.date_range(begin + timedelta(days=1), periods=count, freq="D")
    random = np.random.default_rng(seed).normal(0.0, noise, count)
    value = np.exp(random) / (1.0 + rate * np.arange(1, count + 1))
    return pd.DataFrame(
        {"time": times, "value": value, "low": value * 0.95, "high": value * 1.05}
    )


def even(cost: float, count: int = 60) -> Calendar:
    """Return a calendar on which every day costs the same."""
    return Calendar(
        pd.Series(cost, index=pd.date_range(START, periods=count, freq="D"))
    )


def heating(year: int) -> Calendar:
    """Return a year in which dirt costs in the seven cold months alone."""
    times = pd.date_range(datetime(year, 1, 1, tzinfo=UTC), periods=364, freq="D")
    cold = (times.month <= 4) | (times.month >= 10)
    return Calendar(pd.Series(np.where(cold, 200.0, 0.0), index=times))


def seen(
    table: pd.DataFrame,
    calendar: Calendar | None,
    cleaning: float = 1500.0,
    since: datetime | None = START,
) -> Forecast:
    """Return the forecast at the end of the table, which must be one."""
    now = table["time"].iloc[-1].to_pydatetime()
    found = look_ahead(
        table, now=now, since=since, cleaning_cost=cleaning, calendar=calendar
    )
    assert isinstance(found, Forecast)
    return found


def test_a_known_growth_gives_the_known_date():
    """T = sqrt(2 C / a): 1500 EUR against 0.25 EUR/day for each day of growth."""
    found = seen(days(90, 0.002), even(125.0))

    assert found.rate == pytest.approx(0.002, rel=0.1)
    assert found.rate_low < 0.002 < found.rate_high
    assert found.clean_by is not None
    age = (found.clean_by - START) / timedelta(days=1)
    # Dates are looked for by the week, and about the best one they are all as good.
    assert age == pytest.approx(math.sqrt(2 * 1500.0 / 0.25), rel=0.1)
    assert found.earliest is not None
    assert found.latest is not None
    assert found.earliest <= found.clean_by <= found.latest


def test_the_days_on_which_cleaning_is_as_good_lie_around_the_date():
    """The least of an average is flat, so nobody has to come on a Sunday."""
    found = seen(days(90, 0.002), even(125.0))

    assert found.clean_by is not None
    assert found.good_from is not None
    assert found.good_until is not None
    assert found.good_from < found.clean_by < found.good_until


TABLE = days(60, 0.002)


@settings(max_examples=8, deadline=None)
@given(st.floats(500.0, 1500.0), st.floats(1.3, 2.5))
def test_a_dearer_cleaning_is_put_off(cost: float, factor: float):
    """And never brought forward; what is overdue by now stays so or is not."""
    one, other = (seen(TABLE, even(125.0), c) for c in (cost, cost * factor))

    assert one.clean_by is not None
    assert other.clean_by is None or other.clean_by >= one.clean_by


def test_waiting_is_a_gain_before_the_date_and_a_loss_after_it():
    """The dirt's cost alone would always say: clean at once."""
    early, late = (seen(days(count, 0.002), even(125.0)) for count in (40, 170))

    assert [one.days for one in early.waiting] == list(AHEAD)
    assert all(one.net is not None and one.net < 0.0 for one in early.waiting)
    assert all(one.net is not None and one.net > 0.0 for one in late.waiting)
    for one in (*early.waiting, *late.waiting):
        assert one.low < one.mid < one.high
        assert one.cost_low is not None
        assert one.cost is not None
        assert one.cost_high is not None
        assert 0.0 < one.cost_low < one.cost < one.cost_high


def test_the_cost_of_waiting_is_that_of_the_dirt_over_those_days():
    """Linear growth at an even price is a trapeze."""
    (first, *_) = seen(days(120, 0.002, 0.001), even(125.0)).waiting

    assert first.cost == pytest.approx(125.0 * 30 * 0.002 * 135.5, rel=0.05)


def test_a_plant_that_rests_in_summer_is_cleaned_before_it_starts_again():
    """In April dirt costs nothing for five months; in October it costs at once."""
    begin = datetime(2026, 1, 15, tzinfo=UTC)
    table = days(90, 0.002, begin=begin)
    found = seen(table, heating(2025), 2500.0, begin)
    blind = seen(table, even(200.0, 480), 2500.0, begin)

    assert found.clean_by is not None
    assert blind.clean_by is not None
    assert found.clean_by.month in (9, 10)
    assert blind.clean_by.month in (5, 6, 7)


def test_the_calendar_says_where_it_is_from():
    """The last year where there is one, else the last weeks."""
    table = days(60, 0.002)

    assert "last 28 days" in seen(table, even(125.0)).calendar
    assert seen(table, heating(2025)).calendar == "the plant's last year"


def test_a_day_ahead_costs_what_its_like_did_a_year_ago():
    """And what is not known of a year ago costs what the last weeks did."""
    calendar = heating(2025)
    times = pd.DatetimeIndex(["2026-02-10", "2026-07-10"], tz="UTC")

    assert calendar.cost(times) == pytest.approx([200.0, 0.0])
    assert even(125.0).cost(times[:0]).shape == (0,)
    assert Calendar(heating(2025).daily.iloc[:100]).cost(times) == pytest.approx(
        [200.0, 200.0]
    )


def test_a_growth_with_a_limit_that_costs_less_than_cleaning_has_no_date():
    """Nobody cleans what does not pay."""
    table = days(120, 0.0)
    table["value"] /= 1.0 - 0.03 * np.expm1(-np.arange(1, 121) / 15.0)
    found = seen(table, even(5.0), 20_000.0)

    assert found.clean_by is None


@pytest.mark.parametrize(
    ("table", "code"),
    [
        (days(15, 0.002), "forecast.too_short"),
        (days(60, 0.0, 0.01), "forecast.no_growth"),
        (days(60, -0.002), "forecast.no_growth"),
        (days(0, 0.0), "forecast.too_short"),
    ],
)
def test_without_growth_or_days_there_is_no_forecast(table: pd.DataFrame, code: str):
    """A date made of noise would be believed."""
    found = look_ahead(
        table,
        now=START + timedelta(days=400),
        since=START,
        cleaning_cost=1500.0,
        calendar=even(100.0),
    )

    assert isinstance(found, Refusal)
    assert found.code == code


def test_without_a_price_there_is_a_rate_and_no_date():
    """Unknown money is unknown, not nothing."""
    found = seen(days(60, 0.002), None)

    assert found.clean_by is None
    assert found.waiting[0].cost is None
    assert found.waiting[0].mid > 0.0


def test_a_cleaning_starts_the_growth_anew():
    """What was before the last cleaning says nothing of the next one."""
    old = days(60, 0.004)
    cleaned = old["time"].iloc[-1].to_pydatetime()
    new = days(60, 0.001, seed=1, begin=cleaned)
    found = seen(pd.concat([old, new]), even(100.0), since=cleaned)

    assert found.since == cleaned
    assert found.rate_low <= 0.001 <= found.rate_high


def test_days_after_now_are_not_looked_at():
    """A replay knows no more than the plant did."""
    table = days(120, 0.002)
    now = table["time"].iloc[59].to_pydatetime()

    def at(known: pd.DataFrame) -> Forecast | Refusal:
        return look_ahead(
            known, now=now, since=START, cleaning_cost=1e3, calendar=even(100.0)
        )

    assert at(table) == at(table.iloc[:60])


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


def test_what_was_before_an_overhaul_was_of_another_machine():
    """Its cleanings do not count, for it gets a new reference."""
    log = tuple(
        Maintenance(
            time=START + timedelta(days=day),
            unit="hp1",
            action=action,
            component=component,
        )
        for day, action, component in (
            (5, Action.CLEANED, "condenser"),
            (20, Action.OVERHAULED, ""),
            (60, Action.CLEANED, "condenser"),
            (70, Action.CLEANED, "evaporator"),
        )
    )

    def days_of(component: str, now: int) -> list[int]:
        times = cleaning_times(log, "hp1", component, START + timedelta(days=now))
        return [(time - START).days for time in times]

    assert days_of("condenser", 10) == [5]
    assert days_of("condenser", 99) == [20, 60]
    assert days_of("evaporator", 65) == [20]
    assert days_of("evaporator", 3) == []
