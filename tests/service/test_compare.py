"""Two results side by side: only what both have counts, and what differs is shown."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from tests.service import sample_results
from twin.service.alarms import Alarms
from twin.service.cli import app
from twin.service.compare import (
    CompareError,
    Comparison,
    compare,
    courses_table,
    cut,
    said,
    tables,
)
from twin.service.results import Live, Results, ResultsView
from twin.service.state import State
from twin.service.web.app import create_app
from twin.service.web.beside import document, kept, pictures

TARIFF = {"electricity_price_eur_j": 1e-7, "electricity_emission_kg_j": None}


@pytest.fixture(scope="module")
def sides() -> tuple[Results, Results]:
    """Return a site, and the same with a tenth less electricity and one case less."""
    first = replace(sample_results.results(), summary={"tariff": TARIFF})
    kpis = first.kpis.assign(
        compressor_energy_j=0.9 * first.kpis["compressor_energy_j"]
    )
    health = first.health.copy()
    mine = (health["unit"] == "hp1") & (health["component"] == "condenser")
    health.loc[mine, "value"] = 1.0
    gone = tuple(f for f in first.findings if f.key != "hp1/fouling/condenser")
    return first, replace(first, kpis=kpis, health=health, findings=gone)


@pytest.fixture(scope="module")
def found(sides: tuple[Results, Results]) -> Comparison:
    """Return both side by side."""
    return compare(*sides, names=("recorded", "<supposed>"))


def test_a_tenth_less_electricity_is_a_ninth_more_cop(found: Comparison) -> None:
    """Ratios are of sums; what has no price has no figure."""
    lines = {(line.unit, line.name): line for line in found.lines}
    work, cop = lines["hp1", "electricity"], lines["hp1", "COP"]

    assert work.second == pytest.approx(0.9 * work.first)
    assert cop.second == pytest.approx(cop.first / 0.9)
    cost = lines["hp1", "electricity at the tariff"]
    assert cost.difference == pytest.approx(-0.1 * work.first * 3.6e6 * 1e-7)
    assert ("hp1", "emission at the tariff") not in lines
    assert lines["hp1", "heat delivered"].difference == 0.0


def test_only_findings_that_differ_are_told(found: Comparison) -> None:
    """One that both have alike is left out; one that is gone has an empty side."""
    assert [each.key for each in found.differences] == ["hp1/fouling/condenser"]
    assert found.differences[0].first is not None
    assert found.differences[0].second is None


def test_a_side_beside_itself_differs_in_nothing(
    sides: tuple[Results, Results],
) -> None:
    """The control: no finding, no drawing, no figure other than nought."""
    same = compare(sides[0], sides[0])

    assert same.differences == ()
    assert pictures(same) == []
    assert {line.difference for line in same.lines} == {0.0}


def test_only_common_hours_count(sides: tuple[Results, Results]) -> None:
    """A shorter side cuts the longer one, and the reader is told; none is refused."""
    first, second = sides
    times = second.kpis["time"]
    middle = times.min() + (times.max() - times.min()) / 2
    short = replace(second, kpis=second.kpis[times <= middle])
    cut = compare(first, short)

    assert cut.stop <= middle
    work = next(line for line in cut.lines if line.name == "electricity")
    assert work.second == pytest.approx(0.9 * work.first)
    assert "different periods" in cut.remarks[0]
    with pytest.raises(CompareError, match="no hour in common"):
        compare(first, replace(second, kpis=second.kpis[:0]))


def test_a_period_is_cut_out_of_both(sides: tuple[Results, Results]) -> None:
    """Its hours alone are summed and drawn; a finding from before it is not told."""
    end = sample_results.NOW - timedelta(days=45)
    begin = end - timedelta(days=10)
    first, second = (cut(side, begin, end) for side in sides)

    found = compare(first, second, ("a", "b"))

    lines = {(line.unit, line.name): line for line in found.lines}
    assert lines["hp1", "running"].first == 240.0
    assert (begin, end) == (found.start - timedelta(hours=1), found.stop)
    assert found.differences == ()
    table = courses_table(found)
    assert list(table.columns[-2:]) == ["a", "b"]
    assert table["time"].between(begin, end).all()
    mine = table[(table["unit"] == "hp1") & (table["component"] == "condenser")]
    assert (mine["b"] == 1.0).all()
    assert (mine["a"] < 0.99).any()


def test_what_is_modelled_says_so(sides: tuple[Results, Results]) -> None:
    """A supposed side is never passed off as measured, on any surface."""
    figure = {
        "name": "electricity",
        "measure": "kWh",
        "digits": 0,
        "was": 100.0,
        "supposed": 90.0,
        "difference": -10.0,
        "low": -12.0,
        "high": -8.0,
    }
    told = {"sentence": "it supposes.", "since": "2026-03-01", "figures": [figure]}
    side = replace(sides[1], summary={"supposed": told})
    both = compare(sides[0], side, ("recorded", "supposed"))

    assert both.remarks == ("supposed is modelled, not measured: it supposes.",)
    assert "-12 to -8" in document(both)
    assert "never measured" in document(both)
    assert both.to_dict()["supposed"]["figures"][0]["low"] == -12.0
    assert any("-12 to -8" in str(row) for row in _cells(both))


def _cells(both: Comparison) -> list[str]:
    return [
        str(cell)
        for each in tables(both)
        if not isinstance(each, str)
        for column in each.columns
        for cell in column.cells
    ]


class _Names(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href")]


def test_the_page_needs_nothing_beside_itself(found: Comparison) -> None:
    """No address, no script; drawings are inline; a name cannot become markup."""
    page = document(found)
    names = _Names()
    names.feed(page)

    assert names.addresses == []
    assert "script" not in names.tags
    assert names.tags.count("svg") == 1
    assert "supposed" not in names.tags
    assert "&lt;supposed&gt;" in page
    assert "prefers-color-scheme: dark" in page
    assert page == document(found)


def test_a_drawing_has_both_lines_in_its_frame(found: Comparison) -> None:
    """Two lines of many points, all of them inside."""
    (picture,) = pictures(found)
    lines = re.findall(r'polyline class="(\w)" points="([^"]+)"', picture.svg)

    assert [kind for kind, _ in lines] == ["a", "b"]
    for _, points in lines:
        at = np.array([pair.split(",") for pair in points.split()], dtype=float)
        assert len(at) > 50
        assert (at >= 0.0).all()
        assert (at[:, 0] <= 640).all()
        assert (at[:, 1] <= 190).all()


def test_the_command_compares_two_folders(
    sides: tuple[Results, Results], tmp_path: Path
) -> None:
    """JSON on stdout, the page where asked for; a folder that is none is refused."""
    for name, side in zip(("a", "b"), sides, strict=True):
        side.write(tmp_path / name)
    page = tmp_path / "page.html"
    run = CliRunner().invoke(
        app,
        [
            "compare",
            str(tmp_path / "a"),
            str(tmp_path / "b"),
            "--json",
            "--out",
            str(page),
        ],
    )
    none = CliRunner().invoke(
        app, ["compare", str(tmp_path / "a"), str(tmp_path / "c")]
    )

    assert run.exit_code == 0
    told = json.loads(run.stdout)
    assert (told["first"], told["second"]) == ("a", "b")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert none.exit_code == 2
    assert kept(tmp_path) == ["a", "b"]
    assert kept(tmp_path / "nowhere") == []


def test_figures_are_said_plainly() -> None:
    """Thousands, a sign where it is a difference, a dash for what is unknown."""
    assert said(12345.6, 0) == "12,346"
    assert said(0.5, 2, sign=True) == "+0.50"
    assert said(float("nan"), 1) == "–"


def test_the_page_shows_kept_replays_and_opens_nothing_else(
    sides: tuple[Results, Results], tmp_path: Path
) -> None:
    """What the service found beside a replay by name; a path is no name."""
    folder = tmp_path / "replays"
    sides[1].write(folder / "cheaper")
    sides[0].write(tmp_path / "secret")
    state = State.open(tmp_path / "state.sqlite")
    app = create_app(ResultsView(sides[0]), Alarms(state), Live(), replays=folder)

    def page(query: str) -> httpx.Response:
        async def ask() -> httpx.Response:
            inside = httpx.ASGITransport(app)
            async with httpx.AsyncClient(
                transport=inside, base_url="http://127.0.0.1"
            ) as client:
                return await client.get(f"/compare{query}")

        return asyncio.run(ask())

    shown, same = page(""), page("?a=now&b=now")
    outside = page("?a=now&b=../secret")
    state.close()

    assert shown.status_code == 200
    assert "hp1/fouling/condenser" in shown.text
    assert "cheaper" in shown.text
    assert "None: both say the same." in same.text
    assert outside.status_code == 404
