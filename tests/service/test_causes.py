"""A lost COP is drawn so that the eye can add it up, and told in the same numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from xml.etree import ElementTree

import httpx
import pandas as pd
import pytest
import sample_results

from calibration import waterfall
from twin.attribution import Component
from twin.service.alarms import Alarms
from twin.service.results import COLUMNS, Live, Results, ResultsView, empty
from twin.service.state import State
from twin.service.web import causes
from twin.service.web.app import create_app
from twin.service.web.server import Server


@pytest.fixture(scope="module")
def results() -> Results:
    """Return the sample site as results hold it."""
    made = sample_results.results()
    return replace(made, attribution=made.attribution.sample(frac=1.0, random_state=1))


@pytest.fixture(scope="module")
def site(results: Results) -> Iterator[httpx.Client]:
    """Serve the sample site, and ask it."""
    app = create_app(
        ResultsView(results),
        Alarms(State.in_memory()),
        Live(),
        plant=sample_results.plant(),
        clock=lambda: sample_results.NOW,
    )
    server = Server(app, port=0)
    server.start()
    try:
        with httpx.Client(base_url=server.url, trust_env=False) as client:
            yield client
    finally:
        server.close()


def test_the_results_keep_what_the_split_tells() -> None:
    """One table, the same columns in both houses; every cause has words."""
    assert COLUMNS["attribution"] == waterfall.COLUMNS
    assert {str(one) for one in Component} < set(causes.WORDS)


def test_each_bar_begins_where_the_last_one_ends(results: Results) -> None:
    """From commissioned to now without a gap, whatever order the rows came in."""
    shown = causes.view(results, "hp1")

    assert shown is not None
    assert [bar.words for bar in shown.bars][:: len(shown.bars) - 1] == [
        "commissioned",
        "now",
    ]
    for before, after in zip(shown.bars[:-1], shown.bars[1:], strict=True):
        assert after.x == pytest.approx(before.end, abs=0.02)
    for bar in shown.bars:
        assert causes.LEFT <= bar.low <= bar.end <= bar.high <= causes.RIGHT
        assert {"level": 0, "loss": -1, "gain": 1}[bar.kind] * (bar.end - bar.x) >= 0.0


def test_the_scale_is_in_round_numbers(results: Results) -> None:
    """Three to eight ticks, each where its COP is."""
    shown = causes.view(results, "hp1")

    assert shown is not None
    places, levels = zip(*shown.ticks, strict=True)
    assert 3 <= len(levels) <= 8
    assert list(places) == sorted(places)
    first = shown.bars[0]
    slope = (places[-1] - places[0]) / (levels[-1] - levels[0])
    assert first.end == pytest.approx(
        places[0] + slope * (first.cop - levels[0]), abs=0.05
    )


def test_the_table_says_what_the_drawing_says(results: Results) -> None:
    """Losses are negative COP, and what cannot be judged says what it needs."""
    shown = causes.view(results, "hp1")

    assert shown is not None
    lines = {line.words: line for line in shown.lines}
    bars = {bar.words: bar for bar in shown.bars}
    assert lines["condenser"].cells[0] == ("−0.27", "−0.29 to −0.25")
    assert bars["condenser"].cop == pytest.approx(-0.27)
    assert lines["charge, valve"].cells == ()
    assert lines["charge, valve"].why == "needs liquid_temp_degc"
    assert "charge, valve" not in bars


def test_no_answer_is_a_sentence(results: Results) -> None:
    """Of a unit that was refused only the reason; of one never split nothing."""
    refused = causes.view(results, "hp2")

    assert refused is not None
    assert refused.refusal == "6 steady windows; 12 are needed."
    assert not refused.bars
    assert causes.view(results, "cdu1") is None
    assert (
        causes.view(replace(results, attribution=empty("attribution")), "hp1") is None
    )


def test_the_unit_page_draws_it(site: httpx.Client) -> None:
    """A whole SVG with a bar a cause, its table beside it, its CSV in that order."""
    text = site.get("/unit/hp1").text
    drawing = re.search(r'<svg class="fall".*?</svg>', text, re.S)

    assert drawing is not None
    tree = ElementTree.fromstring(drawing.group())  # noqa: S314 (our own)
    assert len(tree.findall(".//rect")) == 6
    assert "needs liquid_temp_degc" in text
    assert "6 steady windows; 12 are needed." in site.get("/unit/hp2").text
    assert 'class="fall"' not in site.get("/").text
    csv = site.get("/csv/attribution.csv?unit=hp1").text.splitlines()
    assert csv[0].startswith("time,unit,component,cop,cop_low,cop_high,power_w")
    assert [row.split(",")[2] for row in csv[1:4]] == [
        "commissioned",
        "boundary",
        "evaporator",
    ]


def test_a_machine_that_gained_is_drawn_too(results: Results) -> None:
    """Cleaner than the reference: the last level stands right of the first."""
    table = results.attribution.copy()
    parts = ~table["component"].isin(["commissioned", "now"])
    table.loc[parts, ["cop", "cop_low", "cop_high"]] *= -1.0
    now = table["component"] == "now"
    begin = table.loc[table["component"] == "commissioned", "cop"].max()
    table.loc[now, "cop"] = begin + 0.24
    shown = causes.view(replace(results, attribution=pd.DataFrame(table)), "hp1")

    assert shown is not None
    assert shown.bars[-1].end > shown.bars[0].end
