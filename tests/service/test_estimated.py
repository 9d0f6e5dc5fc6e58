"""What is estimated is told as such, apart from what is measured."""

from __future__ import annotations

import re
from dataclasses import replace

import httpx
import sample_results

from twin.service.alarms import Alarms
from twin.service.results import Live, Results, ResultsView
from twin.service.state import State
from twin.service.web import estimated
from twin.service.web.app import create_app
from twin.service.web.server import Server

TOLD = {
    "value": 71.24,
    "low": 68.3,
    "high": 74.2,
    "time": "2026-02-28T23:50:00Z",
}


def results() -> Results:
    """Return the sample site with one estimate."""
    made = sample_results.results()
    told = {"hp1": {"condensing_temp_degc": TOLD}}
    return replace(made, summary={**made.summary, "estimated": told})


def test_an_estimate_is_said_in_field_units_with_its_interval() -> None:
    """One line a quantity; none of a unit or of results that have none."""
    (line,) = estimated.lines(results(), "hp1")

    assert line.label == "condensing temperature"
    assert line.value.split() == ["71.2", "°C"]
    assert line.range.split() == ["68.3", "°C", "to", "74.2", "°C"]
    assert estimated.lines(results(), "hp2") == []
    assert estimated.lines(sample_results.results(), "hp1") == []


def test_the_unit_page_keeps_estimates_apart() -> None:
    """In a section of their own; a unit without any has no such section."""
    app = create_app(
        ResultsView(results()),
        Alarms(State.in_memory()),
        Live(),
        plant=sample_results.plant(),
        clock=lambda: sample_results.NOW,
    )
    server = Server(app, port=0)
    server.start()
    try:
        with httpx.Client(base_url=server.url, trust_env=False) as client:
            there, other = (client.get(f"/unit/{u}").text for u in ("hp1", "hp2"))
    finally:
        server.close()
    section = re.search(r'<section[^>]*id="estimated".*?</section>', there, re.S)

    assert section is not None
    assert "condensing temperature" in section.group()
    assert "71.2" in section.group()
    assert 'id="estimated"' not in other
