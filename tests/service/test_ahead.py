"""What lies ahead of a surface is drawn and told in the same numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import numpy as np
import pandas as pd
import pytest

from calibration.cleaning import cleanings
from calibration.forecast import Calendar, look_ahead
from calibration.trend import trend
from twin.plant import Action, Maintenance
from twin.service.alarms import Alarms
from twin.service.results import (
    Live,
    Results,
    ResultsView,
    in_order,
    plain,
    to_json,
)
from twin.service.state import State
from twin.service.web import ahead
from twin.service.web.app import create_app
from twin.service.web.server import Server

START = datetime(2026, 1, 1, tzinfo=UTC)
CLEANED = START + timedelta(days=60, hours=9)
DAYS = 130


def health() -> pd.DataFrame:
    """Return a condenser that fouls, is cleaned on day 60 and fouls again."""
    end = np.arange(1, DAYS + 1)
    age = np.where(end <= 61, end, end - 61)
    random = np.random.default_rng(0).normal(0.0, 0.004, DAYS)
    value = np.exp(random) / (1.0 + 0.003 * age)
    return in_order(
        pd.DataFrame(
            {
                "time": pd.date_range(START, periods=DAYS + 1, freq="D")[1:],
                "unit": "hp1",
                "component": "condenser",
                "indicator": "conductance_ratio",
                "value": value,
                "low": value * 0.95,
                "high": value * 1.05,
                "statistic": 0.0,
                "limit": 12.0,
                "samples": 50.0,
            }
        ),
        "health",
    )


def made(price: float | None = 100.0, cleaning: float = 1500.0) -> Results:
    """Return results as the assessor writes them, looked at on the last day."""
    rows = health()
    now = rows["time"].iloc[-1].to_pydatetime()
    log = (
        Maintenance(
            time=CLEANED, unit="hp1", action=Action.CLEANED, component="condenser"
        ),
    )
    calendar = None
    if price is not None:
        calendar = Calendar(pd.Series(price, index=pd.DatetimeIndex(rows["time"])))
    told = look_ahead(
        rows, now=now, since=CLEANED, cleaning_cost=cleaning, calendar=calendar
    )
    early = look_ahead(
        rows.iloc[:9], now=now, since=None, cleaning_cost=1.0, calendar=None
    )
    return Results(
        site="site",
        generated=now,
        health=rows,
        summary={
            "outlook": {"hp1": {"condenser": plain(told), "evaporator": plain(early)}},
            "cleanings": [
                plain(one) for one in cleanings(trend(rows, "hp1"), log, now=now)
            ],
        },
    )


@pytest.fixture(scope="module")
def results() -> Results:
    """Return them once."""
    return made()


@pytest.fixture(scope="module")
def site(results: Results) -> Iterator[httpx.Client]:
    """Serve them, and ask."""
    app = create_app(
        ResultsView(results),
        Alarms(State.in_memory()),
        Live(),
        clock=lambda: results.generated,
    )
    server = Server(app, port=0)
    server.start()
    try:
        with httpx.Client(base_url=server.url, trust_env=False) as client:
            yield client
    finally:
        server.close()


def numbers(path: str) -> list[tuple[float, float]]:
    """Return the corners of a path."""
    return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)]


def test_a_surface_has_a_panel_whether_or_not_it_has_a_forecast(results: Results):
    """And what has none says why."""
    condenser, evaporator = ahead.panels(results, "hp1")

    assert condenser.ahead is not None
    assert condenser.refused == ""
    assert evaporator.ahead is None
    assert evaporator.refused.startswith("No forecast")
    assert evaporator.fan is None
    assert ahead.panels(results, "hp2") == ()
    assert ahead.panels(replace(results, summary={}), "hp1") == ()


def test_the_fan_begins_where_the_past_ends_and_opens(results: Results):
    """Inside the box, with the middle within the band."""
    fan = ahead.panels(results, "hp1")[0].fan
    assert fan is not None
    past, middle, band = (numbers(p) for p in (fan.past, fan.middle, fan.band))
    upper, lower = band[: len(middle)], band[len(middle) :][::-1]

    assert middle[0] == pytest.approx(past[-1], abs=8.0)
    for (x, y), (_, top), (_, bottom) in zip(middle, upper, lower, strict=True):
        # Downwards is larger in a drawing: the smallest resistance is on top.
        assert top <= y <= bottom
        assert 0.0 <= x <= ahead.WIDTH
        assert 0.0 <= top <= bottom <= ahead.HEIGHT
    assert lower[-1][1] - upper[-1][1] > lower[0][1] - upper[0][1]


def test_the_date_and_the_cleaning_are_marked_at_their_days(results: Results):
    """In the order of time, with their words."""
    panel = ahead.panels(results, "hp1")[0]
    assert panel.fan is not None
    assert panel.clean_by is not None

    assert [mark.words for mark in panel.fan.marks] == ["verified", "clean by"]
    assert panel.fan.marks[0].x < panel.fan.marks[1].x
    assert panel.good is not None
    assert panel.good[0] <= panel.clean_by <= panel.good[1]
    assert [one["verdict"] for one in panel.cleanings] == ["verified"]


def test_a_large_resistance_is_a_small_conductance(results: Results):
    """The bounds change places."""
    panel = ahead.panels(results, "hp1")[0]

    assert [one["days"] for one in panel.waiting] == [30, 60, 90]
    for one in panel.waiting:
        assert one["low"] < one["mid"] < one["high"] < 1.0


def test_the_fan_can_be_had_as_numbers(results: Results):
    """Shares of the commissioned conductance, their ends in order, day after day."""
    table = ahead.table(results, "hp1")

    assert set(table["component"]) == {"condenser"}
    assert (table["low"] <= table["mid"]).all()
    assert (table["mid"] <= table["high"]).all()
    assert table["time"].is_monotonic_increasing
    fan = results.summary["outlook"]["hp1"]["condenser"]["fan"]
    assert table["mid"].tolist() == [1.0 / (1.0 + one[2]) for one in fan]
    assert not len(ahead.table(results, "hp9"))


def test_the_page_tells_date_waiting_and_verdict(site: httpx.Client, results: Results):
    """On the unit's own page, in words and in a table."""
    text = site.get("/unit/hp1").raise_for_status().text
    panel = ahead.panels(results, "hp1")[0]
    assert panel.clean_by is not None

    assert f"Clean by {panel.clean_by:%d %b %Y}" in text
    assert "verified" in text
    assert "lost by it" in text
    assert 'class="band"' in text
    assert "No forecast" in text


@pytest.mark.parametrize(
    ("price", "cleaning", "words"),
    [
        (None, 1500.0, "what its dirt costs is not known"),
        (100.0, 10.0, "Clean now."),
        (0.001, 1e6, "within three years"),
    ],
)
def test_a_page_without_a_date_ahead_says_which_case_it_is(
    price: float | None, cleaning: float, words: str
):
    """No price, overdue, and never worth it are three different things."""
    found = made(price, cleaning)
    app = create_app(
        ResultsView(found),
        Alarms(State.in_memory()),
        Live(),
        clock=lambda: found.generated,
    )
    server = Server(app, port=0)
    server.start()
    try:
        answer = httpx.get(f"{server.url}/unit/hp1", trust_env=False)
    finally:
        server.close()

    assert words in answer.text


def test_the_summary_is_written_and_read_as_it_is(results: Results, tmp_path):
    """A page reads from a directory what the service would have told it."""
    results.write(tmp_path)
    again = Results.read(tmp_path)

    assert to_json(again.summary) == to_json(results.summary)
    assert ahead.panels(again, "hp1") == ahead.panels(results, "hp1")
