"""The page over HTTP: what it says, what it refuses, and that it ends when told.

Every request goes to a real server on a port of its own.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import numpy as np
import pandas as pd
import pytest
import sample_results
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

import twin.service.web
from twin.points import POINTS
from twin.service.alarms import Alarms
from twin.service.results import Live, Results, ResultsView
from twin.service.state import State
from twin.service.web import evidence, field, views
from twin.service.web.app import create_app
from twin.service.web.server import PublicAddressError, Server

NOW = sample_results.NOW
KEY = "hp1/fouling/condenser"
STATIC = Path(twin.service.web.__file__).parent / "static"


class Site:
    """A served site: its view, alarms and live values, and a client."""

    def __init__(self, results: Results | None = None, **options) -> None:
        self.results = results or sample_results.results()
        self.view = ResultsView(self.results)
        self.alarms = Alarms(State.in_memory())
        self.alarms.step(self.results.findings, NOW)
        self.live = Live()
        options.setdefault("plant", sample_results.plant())
        options.setdefault("clock", lambda: NOW)
        self.app = create_app(
            self.view,
            self.alarms,
            self.live,
            timezone="Europe/Copenhagen",
            **options,
        )
        self.server = Server(self.app, port=0)

    def __enter__(self) -> Site:
        self.server.start()
        self.client = httpx.Client(base_url=self.server.url, trust_env=False)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.close()

    def post(self, path: str, **form: str) -> httpx.Response:
        """Send a form as the page's own would."""
        return self.client.post(path, data=form, headers={"origin": self.server.url})


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Serve the sample site; tests that change it make their own."""
    with Site() as served:
        yield served


PAGES = ["/", "/?unit=hp1", "/unit/hp1", "/unit/hp2", "/alarms", "/reports", "/compare"]
PATHS = [
    *PAGES,
    "/api/findings",
    "/api/cases",
    "/api/history",
    "/api/kpis",
    "/api/health",
    "/api/ledger",
    "/api/models",
    "/api/summary",
    "/api/live",
    "/api/quality",
    "/api/charts/cop?unit=hp1",
    "/api/charts/health?unit=hp1&component=condenser",
    "/api/charts/detector?unit=hp1&component=condenser",
    "/csv/kpis.csv",
    "/csv/health.csv",
    "/csv/ledger.csv",
    "/csv/fleet.csv",
    "/csv/outlook.csv",
    "/api/openapi.json",
    "/healthz",
    "/readyz",
    "/metrics",
    "/static/page.js",
]


@pytest.mark.parametrize("path", PATHS)
def test_answers_with_every_header(site: Site, path):
    """No page, table or file goes out without its policy."""
    answer = site.client.get(path)

    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self'")
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nowhere", 404),
        ("/unit/hp9", 404),
        ("/csv/secrets.csv", 404),
        ("/?from=yesterday", 422),
        ("/?from=2026-02-02&to=2026-02-01", 422),
        ("/?to=9999-12-31", 422),
        ("/static/../app.py", 404),
        ("/static/%2e%2e/app.py", 404),
        ("/docs", 404),
        ("/redoc", 404),
    ],
)
def test_what_is_not_there_is_said_calmly(site: Site, path, status):
    """No traceback, no version, and the headers all the same."""
    answer = site.client.get(path)

    assert answer.status_code == status
    assert "Traceback" not in answer.text
    assert "content-security-policy" in answer.headers


def test_the_page_says_what_how_sure_what_it_costs_and_what_to_do(site: Site):
    """What a person needs, on the first page, dearest first."""
    text = re.sub(r"\s+", " ", site.client.get("/").text)
    for words in (
        "has lost 21 % of its conductance",
        "18 % to 24 %",
        "38.40 EUR",
        "Clean the sink side",
        "24 Mar 2026",
        "machine not available",
        "kg CO₂e",
        "✕ rejected",
        "held-out error",
        "1 296 422",
    ):
        assert words in text, words
    assert text.index("was rejected on 9 of the") < text.index("has lost 21 %")


def test_nothing_on_any_page_comes_from_elsewhere_or_is_inline(site: Site):
    """The policy would refuse it; here it is not even asked for."""

    class Reader(HTMLParser):
        found: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag, attrs):
            for name, value in attrs:
                bad = name in ("style",) or name.startswith("on")
                outside = name in ("src", "href", "action", "data-chart") and (
                    not str(value).startswith("/") or str(value).startswith("//")
                )
                inline = tag == "script" and not dict(attrs).get("src")
                if bad or outside or inline or tag == "style":
                    self.found.append(f"{tag} {name}={value}")

    reader = Reader()
    for path in PAGES:
        reader.feed(site.client.get(path).text)

    assert reader.found == []


def test_uplot_is_the_one_that_was_vendored():
    """Version 1.6.32 from npm, byte for byte, with its licence."""
    folder = STATIC / "vendor" / "uplot-1.6.32"
    known = {
        "uPlot.iife.min.js": (
            "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f"
        ),
        "uPlot.min.css": (
            "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04"
        ),
        "LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
    }

    assert {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
    } == known


# --- figures -----------------------------------------------------------------


def test_the_csv_is_the_table_in_si(site: Site):
    """Names of the vocabulary, ISO times, and nothing rounded."""
    answer = site.client.get("/csv/kpis.csv?unit=hp1&from=2026-02-01&to=2026-02-02")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    kpis = site.results.kpis
    first = kpis[(kpis["unit"] == "hp1") & (kpis["time"] > "2026-01-31T23:00Z")].iloc[0]

    assert answer.headers["content-disposition"].endswith('"hptwin-kpis.csv"')
    assert len(rows) == 48  # two days of the site's calendar, ends included
    assert rows[0]["time"] == "2026-02-01T00:00:00Z"
    assert float(rows[0]["cop"]) == first["cop"]


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
def test_a_day_is_the_sites_day_also_when_the_clocks_change(day):
    """23 hours in March, 25 in October."""
    zone = field.zone("Europe/Copenhagen")
    span = views.parse_range(sample_results.results(), "", day, day, zone)
    hours = (span.stop - span.start) / timedelta(hours=1)

    # A local day's length is what the calendar says, so is ours.
    start = pd.Timestamp(day, tz="Europe/Copenhagen")
    assert hours == ((start + pd.DateOffset(days=1)) - start) / pd.Timedelta("1h")


def test_the_dearest_unit_stands_first():
    """Each by what is wrong with it now; a unit that nobody named is there as well."""
    found = sample_results.results("hp2", "hp1")  # hp2 fouls here
    span = views.parse_range(found, "", "", "", ZoneInfo("UTC"))
    rows = views.finding_rows(found, ())

    fleet = views.fleet(found, span, rows, ["hp1", "hp3"])

    # hp1's finding has no price, and hp3 has none at all.
    assert [one.unit for one in fleet] == ["hp2", "hp1", "hp3"]
    first, second, third = fleet
    assert first.cost_eur_day == pytest.approx(38.4 + 64.0)
    assert (second.cost_eur_day, second.unpriced, third.findings) == (0.0, 1, 0)
    assert first.surface == "condenser"
    last = found.health[
        (found.health["unit"] == "hp2") & (found.health["component"] == "condenser")
    ]["value"].iloc[-1]
    assert first.conductance == last
    assert first.cop < first.expected_cop * 1.01
    assert np.isnan([third.cop, third.conductance, third.missed_j]).all()
    table = views.csv_text(views.fleet_table(fleet)).splitlines()
    assert table[1].startswith("hp2,102.4,0,2,")
    assert "2026-03-24T12:00:00+00:00" in table[1]


def test_of_the_models_those_that_serve_and_the_last_try_are_shown():
    """A rejected try stands beside what serves; what is over is the other page's."""
    shown = views.newest_models(sample_results.results().models, "hp1")

    told = [(one["role"], one["version"], one["accepted"]) for one in shown]
    assert told == [("reference", 1, True), ("current", 5, True), ("current", 6, False)]


def test_evidence_is_said_in_words():
    """No name of the code, no time of a machine."""
    where = ZoneInfo("Europe/Copenhagen")
    told = evidence.text("points", ["sink_flow_m3_s", "cop"], where)
    forecast = {"clean_from": "2026-03-23T00:00:00+00:00", "law": "linear"}

    assert told == "sink flow, COP"
    assert evidence.text("indicator", "conductance_ratio", where) == "conductance"
    assert evidence.text("caused", KEY, where) == "hp1 condenser, fouling"
    assert evidence.text("forecast", forecast, where) == (
        "clean from 23 Mar 2026 01:00 CET, law linear"
    )


def test_the_sums_on_the_page_are_the_ledgers_and_no_joule_twice():
    """The site's line holds its machines'; adding both would double the heat."""
    results = sample_results.results()
    whole = views.Range(NOW - timedelta(days=400), NOW)
    seen = views.totals(results, whole, [])
    site_rows = results.ledger[results.ledger["unit"] == "site"]
    view = views.ledger_view(results, whole, field.zone("UTC"))
    assert view is not None

    assert seen.missed_j == pytest.approx(site_rows["missed_j"].sum())
    assert sum(line[1] for line in view.causes) == pytest.approx(seen.missed_j)
    assert sum(line[2] for line in view.causes) == pytest.approx(seen.missed_eur)
    assert sum(share for *_, share in view.accounts) == pytest.approx(1.0)
    drawn = sum(s.height for bar in view.bars for s in bar.segments)
    assert drawn > 0


def test_cold_is_told_where_somebody_is_cooled():
    """How much was handed over and missed, and why; elsewhere not a word."""
    with Site(sample_results.cooling(sample_results.results())) as served:
        text = re.sub(r"\s+", " ", served.client.get("/").text)
        whole = views.Range(NOW - timedelta(days=400), NOW)
        cold = views.cold_view(served.results, whole)
    assert "of cold were handed over." in text
    assert "more were wanted, and a heat pump that could have made them" in text
    assert cold is not None
    assert cold.given_j == pytest.approx(4 * cold.missed_j)
    assert cold.causes == (("held by hand", pytest.approx(cold.missed_j)),)
    assert views.cold_view(sample_results.results(), whole) is None
    with Site() as served:
        assert "of cold were" not in served.client.get("/").text


def test_a_cop_over_a_range_is_energy_over_energy():
    """The mean of hourly COPs is no COP."""
    kpis = pd.DataFrame(
        {
            "time": pd.date_range("2026-01-01", periods=2, freq="h", tz="UTC"),
            "unit": "hp1",
            "sink_heat_j": [9.0e6, 1.0e6],
            "cop": [3.0, 5.0],
            "expected_cop": [3.0, 5.0],
        }
    )
    results = Results(
        site="x",
        generated=NOW,
        kpis=pd.concat([kpis]).reindex(columns=sample_results.results().kpis.columns),
    )
    span = views.Range(datetime(2025, 12, 31, tzinfo=UTC), NOW, "hp1")

    assert views.totals(results, span, []).cop == pytest.approx(10.0 / 3.2)


def test_an_unknown_price_stays_unknown():
    """A missing price makes the sum unknown for that cause, not smaller."""
    results = sample_results.results()
    ledger = results.ledger.copy()
    ledger.loc[ledger["missed_control_j"] > 0, "missed_eur"] = math.nan
    blind = Results(site="x", generated=NOW, ledger=ledger)
    whole = views.Range(NOW - timedelta(days=400), NOW)
    view = views.ledger_view(blind, whole, field.zone("UTC"))
    assert view is not None
    worth = {words: money for words, _, money, _, _ in view.causes}

    assert math.isnan(worth["control"])
    assert worth["machine not available"] > 0


def test_long_ranges_are_thinned_and_short_ones_are_not(site: Site):
    """Five years of hours are drawn from means; the file has them all."""
    chart = site.client.get("/api/charts/cop?unit=hp1&from=2025-01-01").json()
    assert len(chart["times"]) == 24 * sample_results.DAYS

    hours = pd.date_range(end=NOW, periods=5 * 8766, freq="h", tz="UTC")
    long = pd.DataFrame({"time": hours, "cop": 4.0})
    assert 2000 < len(views._thin(long, ["cop"])) <= views.MOST_POINTS + 1


def test_a_gap_is_a_gap_in_the_chart(site: Site):
    """Standstill has no COP, and the line does not pretend otherwise."""
    chart = site.client.get("/api/charts/cop?unit=hp1&from=2025-12-01").json()

    assert None in chart["series"][0]["values"]
    assert "NaN" not in json.dumps(chart)


@given(st.sampled_from(sorted(POINTS)), st.floats(-1e12, 1e12))
def test_every_point_of_the_vocabulary_can_be_said(point, value):
    """Label and value never fail, and never show SI's joule, pascal or watt."""
    text = field.value_text(point, value)

    assert field.label(point)
    assert not re.search(r"\d\u202f(W|J|Pa)$", text)
    assert field.value_text(point, math.nan) == field.NOTHING


# --- actions -----------------------------------------------------------------


def test_an_acknowledgement_is_kept_with_name_and_comment():
    """And the page then says who took it on."""
    with Site() as site:
        answer = site.post(
            "/alarm/acknowledge",
            key=KEY,
            who="Ada",
            comment="will look",
            back="/alarms",
        )

        assert (answer.status_code, answer.headers["location"]) == (303, "/alarms")
        assert "Acknowledged by Ada" in site.client.get("/").text
        assert site.alarms.history(subject=KEY)[0].actor == "Ada"
        again = site.post("/alarm/acknowledge", key=KEY, who="Bob")
        assert again.status_code == 409
        assert "acknowledged by Ada" in again.text


def test_shelving_and_closing_by_the_page():
    """With a reason each; the case leaves the desk, not the records."""
    with Site() as site:
        assert (
            site.post("/alarm/shelve", key=KEY, who="Ada", hours="8").status_code == 409
        )
        shelved = site.post(
            "/alarm/shelve", key=KEY, who="Ada", hours="8", reason="parts"
        )
        assert shelved.status_code == 303
        assert "Shelved by Ada" in site.client.get("/").text
        assert site.post("/alarm/unshelve", key=KEY, who="Ada").status_code == 303
        closed = site.post(
            "/alarm/close",
            key=KEY,
            who="Ada",
            closure="not_a_fault",
            reason="by design",
        )
        assert closed.status_code == 303
        assert [entry.action for entry in site.alarms.history(subject=KEY)] == [
            "closed",
            "unshelved",
            "shelved",
            "raised",
        ]


def test_out_of_service_and_back_by_the_page():
    """With a reason; it stays in sight until somebody brings it back."""
    with Site() as site:
        form = {"key": KEY, "who": "Ada"}
        assert site.post("/alarm/out_of_service", **form).status_code == 409
        taken = site.post("/alarm/out_of_service", **form, reason="rebuilt in May")
        assert taken.status_code == 303
        site.alarms.acknowledge(KEY, "Ada", NOW)
        for days in (1, 9):
            site.alarms.step([], NOW + timedelta(days=days))
        page = site.client.get("/alarms").text
        assert "Taken out of service by Ada" in page
        assert "rebuilt in May" in page
        assert 'action="/alarm/in_service"' in page
        assert site.post("/alarm/out_of_service", **form, reason="x").status_code == 409
        back = site.post("/alarm/in_service", **form, comment="it runs")
        assert back.status_code == 303
        assert site.alarms.history(subject=KEY)[0].detail["comment"] == "it runs"
        assert site.post("/alarm/in_service", **form).status_code == 409


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:1"}, 403),
    ],
)
def test_an_action_from_elsewhere_is_refused(site: Site, headers, status):
    """Another page must not act in the operator's name."""
    answer = site.client.post(
        "/alarm/acknowledge", data={"key": KEY, "who": "Eve"}, headers=headers
    )

    assert answer.status_code == status
    case = site.alarms.case(KEY)
    assert case is not None
    assert case.acknowledged is None


def test_another_name_for_this_address_is_refused(site: Site):
    """A foreign name that points here would make a foreign page ours."""
    port = site.server.port
    for name in ("evil.example", f"evil.example:{port}", "", "127.0.0.1.evil.example"):
        assert site.client.get("/", headers={"host": name}).status_code == 421
    assert (
        site.client.get("/", headers={"host": f"localhost:{port}"}).status_code == 200
    )


@pytest.mark.parametrize(
    "back",
    ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:x", ""],
)
def test_the_way_back_stays_here(back):
    """An action never leads to another site."""
    with Site() as site:
        answer = site.post("/alarm/acknowledge", key=KEY, who="Ada", back=back)

        assert answer.headers["location"] == "/"


def test_a_huge_form_is_not_read(site: Site):
    """Length is asked for first."""
    answer = site.post("/alarm/acknowledge", key=KEY, who="Ada", comment="x" * 70_000)

    assert answer.status_code == 413


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"key": "nobody/knows/this", "who": "Ada"},
        {"key": KEY, "who": "  "},
        {"key": KEY, "who": "Ada", "comment": "x" * 501},
    ],
)
def test_a_bad_form_is_answered_with_a_sentence(site: Site, form):
    """Neither a traceback nor a change."""
    answer = site.post("/alarm/acknowledge", **form)

    assert answer.status_code in (409, 422)
    assert "That did not work" in answer.text


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7*7 }}",
    "a/b?c=d#e",
    "=cmd|' /C calc'!A0",
    "ünit 水",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_words_and_nothing_else(name):
    """On every page, in every link, in every file."""
    results = sample_results.results(unit=name)
    with Site(results, plant=sample_results.plant(name, "hp2")) as site:
        for path in ("/", "/alarms"):
            text = site.client.get(path).text
            assert "<script>alert" not in text
            assert "<img src=x" not in text
            assert "49" not in re.findall(r">\s*49\s*<", text)
        link = re.findall(r'href="(/unit/[^"]+)"', site.client.get("/").text)[0]
        assert site.client.get(link).status_code == 200
        cells = site.client.get("/csv/kpis.csv", params={"unit": name}).text
        rows = list(csv.DictReader(io.StringIO(cells)))
        assert rows
        assert not rows[0]["unit"].startswith("=")


# --- the service's own -------------------------------------------------------


def test_ready_and_alive_are_two_things():
    """A lost broker makes it not ready; only a dead loop makes it dead."""
    problems: list[str] = ["no broker for 3 min"]
    deaths: list[str] = []
    with Site(problems=lambda: problems, deaths=lambda: deaths) as site:
        assert site.client.get("/healthz").status_code == 200
        ready = site.client.get("/readyz")
        assert (ready.status_code, ready.json()["reasons"]) == (503, problems)
        assert "no broker for 3 min" in site.client.get("/").text
        problems.clear()
        assert site.client.get("/readyz").status_code == 200
        deaths.append("intake has ended")
        assert site.client.get("/healthz").status_code == 503


def test_metrics_can_be_scraped(site: Site):
    """By the reference parser, with the open alarms in them."""
    found = {
        family.name: family
        for family in text_string_to_metric_families(site.client.get("/metrics").text)
    }

    assert sum(s.value for s in found["hptwin_alarms"].samples) == 2
    ages = {
        s.labels["unit"]: s.value
        for s in found["hptwin_newest_sample_age_seconds"].samples
    }
    assert ages["hp1"] == 40.0


def test_a_failure_within_says_so_without_its_insides():
    """The log has the traceback, the visitor a sentence."""

    def fail():
        raise RuntimeError("secret path /etc/x")

    with Site(counts=fail) as site:
        answer = site.client.get("/")

    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "content-security-policy" in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/alarm/close", "POST"),
        ("GET", "/replays/begin", "POST"),
        ("PUT", "/login", "GET, POST"),
    ],
)
def test_who_asks_by_a_wrong_method_is_told_the_right_ones(
    site: Site, method, path, allowed
):
    """In whatever room the route is, and by all the routes that share its path."""
    answer = site.client.request(
        method, path, headers={"origin": site.server.url, "content-length": "0"}
    )

    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


def test_an_empty_site_has_a_page(tmp_path):
    """On the first day there is nothing but the plant."""
    with Site(Results(site="new", generated=NOW), plant=None) as site:
        for path in ("/", "/alarms", "/api/charts/cop", "/csv/ledger.csv"):
            assert site.client.get(path).status_code == 200
        assert "Nothing is known to be wrong" in site.client.get("/").text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])  # noqa: S104
def test_a_public_address_is_refused_while_there_are_no_users(host):
    """Before anything listens."""
    app = create_app(
        ResultsView(sample_results.results()), Alarms(State.in_memory()), Live()
    )
    with pytest.raises(PublicAddressError, match="hptwin users add"):
        Server(app, host, 0)


def test_the_stream_tells_a_newcomer_all_and_then_what_changes():
    """Values in field units; then only what is new, and a heartbeat."""
    with Site(heartbeat=0.5) as site, site.client.stream("GET", "/events") as stream:
        lines = events_of(stream)
        name, values = next(lines)
        assert (name, values["hp1"]["cop"]["text"]) == ("values", "4.05")
        assert next(lines)[0] == "revision"
        site.live.update("hp1", "sink_outlet_temp_degc", 71.23, NOW)
        seen = [next(lines) for _ in range(3)]
        changed = [data for name, data in seen if name == "values"]
        assert changed == [
            {
                "hp1": {
                    "sink_outlet_temp_degc": {
                        "text": "71.2\u202f°C",
                        "time": NOW.timestamp(),
                    }
                }
            }
        ]
        assert "beat" in [name for name, _ in seen]
        site.alarms.acknowledge(KEY, "Ada", NOW)
        assert "revision" in [next(lines)[0] for _ in range(3)]


def test_each_listener_is_told_what_is_new_to_him():
    """Who came later is told all at first; from then on they hear the same."""

    def told(lines: Iterator[tuple[str, dict]]) -> dict:
        return next(data for name, data in lines if name == "values")

    with Site() as site, site.client.stream("GET", "/events") as early:
        first = events_of(early)
        assert "cop" in told(first)["hp1"]
        site.live.update("hp1", "sink_outlet_temp_degc", 71.23, NOW)
        assert list(told(first)["hp1"]) == ["sink_outlet_temp_degc"]
        with site.client.stream("GET", "/events") as late:
            second = events_of(late)
            everything = told(second)["hp1"]
            assert "cop" in everything
            assert everything["sink_outlet_temp_degc"]["text"] == "71.2\u202f°C"
            # The same once more is no news; the next is, and to both of them.
            site.live.update("hp1", "sink_outlet_temp_degc", 71.23, NOW)
            site.live.update("hp1", "source_inlet_temp_degc", 35.0, NOW)
            news = told(first)
            assert list(news["hp1"]) == ["source_inlet_temp_degc"]
            assert told(second) == news


def events_of(stream: httpx.Response) -> Iterator[tuple[str, dict]]:
    """Yield the events of a stream as they come."""
    name = ""
    for line in stream.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def test_the_server_ends_while_a_listener_holds_its_stream():
    """A browser that never hangs up must not keep the service alive."""
    site = Site()
    site.server.start()
    closing = threading.Thread(target=site.server.close)
    with (
        httpx.Client(base_url=site.server.url, trust_env=False) as client,
        client.stream("GET", "/events") as stream,
    ):
        lines = events_of(stream)
        next(lines)
        closing.start()
        rest = list(lines)  # the stream is ended, not broken
    closing.join(timeout=15.0)

    assert not closing.is_alive()
    assert not site.server.alive
    assert len(rest) < 10
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", site.server.port), 1.0)
