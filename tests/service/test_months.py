"""The page's reports: a month to read, to print, and in somebody's form."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest
import sample_results
from sample_books import metered

from twin.service import export
from twin.service.alarms import Alarms
from twin.service.months import Months
from twin.service.reporting import Reporting
from twin.service.results import Live, ResultsView
from twin.service.state import State
from twin.service.web.app import create_app
from twin.service.web.server import Server


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """Serve a metered site's page to a program."""
    found = metered()
    with closing(State.in_memory()) as state:
        alarms = Alarms(state)
        alarms.step(found.findings, sample_results.NOW)
        months = Months(lambda: found, sample_results.plant(), Reporting(), alarms)
        app = create_app(
            ResultsView(found),
            alarms,
            Live(),
            months=months,
            clock=lambda: sample_results.NOW,
        )
        with (
            Server(app, port=0) as server,
            httpx.Client(base_url=server.url, trust_env=False) as asking,
        ):
            yield asking


def test_every_month_that_is_accounted_for_is_listed(client: httpx.Client) -> None:
    """With its two pages and every form, the newest first."""
    page = client.get("/reports").text
    places = [f"/reports/{month}" for month in ("2026-03", "2026-02", "2026-01")]
    at = [page.index(f'href="{place}"') for place in places]

    assert at == sorted(at)
    assert 'href="/reports/2025-12"' in page  # the sample begins in it
    assert 'href="/reports/2025-11"' not in page
    for name in export.profiles():
        assert f'href="/reports/2026-02/{name}.csv"' in page
        assert f'href="/reports/2026/{name}.csv"' in page


def test_a_sheet_may_do_nothing_but_be_read(client: httpx.Client) -> None:
    """It brings its style, and no script of anybody's would run in it."""
    answer = client.get("/reports/2026-02")

    assert answer.status_code == 200
    assert "heat recovery in February 2026" in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_figures_come_as_the_command_line_writes_them(client: httpx.Client) -> None:
    """In a form, of a month and of a year; the PDF is one."""
    month = client.get("/reports/2026-02/plain.csv")
    year = client.get("/reports/2026/eu-2024-1364.csv")
    printed = client.get("/reports/2026-02.pdf")

    assert month.headers["content-disposition"].endswith('"plain-2026-02.csv"')
    assert len(list(csv.reader(io.StringIO(month.text)))) > 10
    assert len(list(csv.reader(io.StringIO(year.text)))) > 10
    assert printed.content.startswith(b"%PDF")


@pytest.mark.parametrize(
    "path",
    [
        "/reports/2026-13",
        "/reports/soon",
        "/reports/1999-01",
        "/reports/2026-02/tax.csv",
        "/reports/..%2Fstate/plain.csv",
    ],
)
def test_what_there_is_not_is_said(client: httpx.Client, path: str) -> None:
    """As a sentence of the page, with 404."""
    answer = client.get(path)

    assert answer.status_code == 404
    assert "<html" in answer.text
