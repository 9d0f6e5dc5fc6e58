"""The page in a real browser: it lives, it obeys, it stays at home.

Chromium, headless, driven from outside; skipped with a reason where there is
none, failing where CI is set.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import sample_results
from sample_books import books, metered
from test_fitted import shelf

from twin.service import report
from twin.service.alarms import Alarms
from twin.service.models import Library
from twin.service.months import Months
from twin.service.playback import Playback
from twin.service.reporting import Reporting
from twin.service.results import Live, Results, ResultsView
from twin.service.state import State
from twin.service.web.app import create_app
from twin.service.web.server import Server

CHROMIUM = Path("/usr/bin/chromium")
if not CHROMIUM.exists() and not os.environ.get("CI"):
    pytest.skip(
        f"no browser at {CHROMIUM}: apt-get install chromium", allow_module_level=True
    )
if os.environ.get("CI"):
    from playwright import sync_api
else:
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright")

NOW = sample_results.NOW
GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guide"
KEY = "hp1/fouling/condenser"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# Each chart is fetched by itself; the first on the page says nothing of the last.
DRAWN = """() => [...document.querySelectorAll('[data-chart]')]
    .every(place => place.getAttribute('aria-busy') === 'false')"""


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    """One browser for all; a context each."""
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=str(CHROMIUM), headless=True, args=FLAGS
        )
        yield browser
        browser.close()


class Visit:
    """A served site, and a visitor whose every request and error is noted."""

    def __init__(
        self,
        browser: sync_api.Browser,
        *units: str,
        heartbeat: float = 1.0,
        library: Library | None = None,
        results: Results | None = None,
        replays: Path | None = None,
        playback: Playback | None = None,
        **context: object,
    ) -> None:
        units = units or ("hp1", "hp2")
        self.results = sample_results.results(*units) if results is None else results
        self.moment = NOW
        self.view = ResultsView(self.results)
        self.alarms = Alarms(State.in_memory())
        self.alarms.step(self.results.findings, NOW)
        self.live = Live()
        plant = sample_results.plant(*units)
        self.app = create_app(
            self.view,
            self.alarms,
            self.live,
            plant=plant,
            replays=replays if playback is None else playback.folder,
            playback=playback,
            months=Months(lambda: self.results, plant, Reporting(), self.alarms),
            clock=lambda: self.moment,
            timezone="Europe/Copenhagen",
            heartbeat=heartbeat,
            shelf=library,
        )
        self.server = Server(self.app, port=0)
        self.context = browser.new_context(**context)
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.dialogs: list[str] = []

    def __enter__(self) -> Visit:
        self.server.start()
        self.page = self.context.new_page()
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "console",
            lambda said: said.type == "error" and self.errors.append(said.text),
        )
        self.page.on("dialog", self._dialog)
        return self

    def _dialog(self, dialog: sync_api.Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def __exit__(self, *_: object) -> None:
        self.context.close()
        self.server.close()

    def open(self, path: str = "/") -> sync_api.Page:
        """Open a page and wait until it is live and drawn."""
        self.page.goto(self.server.url + path)
        self.page.wait_for_selector("#line.on")
        self.page.wait_for_function(DRAWN)
        return self.page

    def foreign(self) -> list[str]:
        """Return every request that went to another host than ours."""
        return [
            url
            for url in self.requests
            if urlsplit(url).hostname != "127.0.0.1" and not url.startswith("blob:")
        ]


def text_of(page: sync_api.Page, unit: str, point: str) -> sync_api.Locator:
    """Return where the drawing shows a point."""
    return page.locator(f'.drawing [data-unit="{unit}"][data-point="{point}"]')


def test_live_values_change_under_the_eyes(browser):
    """A value that arrives is on the drawing without a reload."""
    with Visit(browser) as visit:
        page = visit.open()
        place = text_of(page, "hp1", "sink_outlet_temp_degc")
        sync_api.expect(place).to_have_text("69.6\u202f°C")
        page.evaluate("window.stillHere = true")

        visit.live.update("hp1", "sink_outlet_temp_degc", 71.23, NOW)

        sync_api.expect(place).to_have_text("71.2\u202f°C")
        assert page.evaluate("window.stillHere")
        assert visit.errors == []
        assert visit.foreign() == []
        assert len(visit.requests) > 5


def test_the_first_value_is_shown_as_the_next_ones_are(browser):
    """Who opens the page before a plant has said anything need not load it again."""
    silent = replace(sample_results.results(), latest={})
    with Visit(browser, results=silent) as visit:
        page = visit.open()
        place = text_of(page, "hp1", "sink_outlet_temp_degc")
        sync_api.expect(place).to_have_text("–")

        visit.live.update("hp1", "sink_outlet_temp_degc", 71.23, NOW)

        sync_api.expect(place).to_have_text("71.2\u202f°C")
        assert "none" not in place.get_attribute("class").split()
        assert visit.errors == []


def test_an_alarm_is_acknowledged_by_click(browser):
    """The name is asked for once, and the state is then a word on the page."""
    with Visit(browser) as visit:
        page = visit.open()
        case = page.locator(f'[data-key="{KEY}"]')
        sync_api.expect(case.locator(".badge")).to_have_text("unacknowledged")
        case.locator("summary", has_text="Acknowledge").click()
        case.locator("form:visible [name=who]").fill("Ada")
        case.locator("form:visible [name=comment]").fill("cleaning is booked")
        case.locator("form:visible button").click()

        case = page.locator(f'[data-key="{KEY}"]')
        sync_api.expect(case.locator(".badge")).to_have_text("acknowledged")
        sync_api.expect(case.locator(".note")).to_contain_text("Ada")
        kept = visit.alarms.case(KEY)
        assert kept is not None
        assert kept.acknowledged is not None
        assert kept.acknowledged.comment == "cleaning is booked"

        other = page.locator('[data-key="hp1/missed_recovery/control"]')
        other.locator("summary", has_text="Shelve").click()
        name = other.locator("form:visible [name=who]")
        sync_api.expect(name).to_have_value("Ada")
        other.locator("form:visible [name=reason]").fill("until the night shift")
        other.locator("form:visible button").click()
        other = page.locator('[data-key="hp1/missed_recovery/control"]')
        sync_api.expect(other.locator(".badge")).to_have_text("shelved")
        assert visit.errors == []


def test_news_is_offered_and_not_forced(browser):
    """What somebody is typing is not thrown away by an update."""
    with Visit(browser) as visit:
        page = visit.open()
        case = page.locator(f'[data-key="{KEY}"]')
        case.locator("summary", has_text="Acknowledge").click()
        field = case.locator("form:visible [name=comment]")
        field.fill("half a sent")

        visit.view.publish(sample_results.results(seed=5))

        page.wait_for_selector("#news")
        sync_api.expect(field).to_have_value("half a sent")
        page.click("#news")
        page.wait_for_selector("#line.on")
        assert page.locator("#news").count() == 0


def test_stale_data_looks_stale_and_says_so(browser):
    """Struck through, and in words; fresh data does neither."""
    with Visit(browser) as visit:
        page = visit.open()
        fresh = text_of(page, "hp1", "cop")
        old = text_of(page, "dry_cooler", "rejected_heat_w")
        look = "element => getComputedStyle(element).textDecorationLine"
        assert fresh.evaluate(look) == "none"
        assert old.evaluate(look) == "line-through"
        sync_api.expect(page.locator("#staleness")).to_contain_text("1 of")

        visit.live.update("dry_cooler", "rejected_heat_w", 1.0e5, NOW)

        sync_api.expect(page.locator("#staleness")).to_contain_text("fresh")


def test_a_lost_server_is_said(browser):
    """Old values under a green lamp would be the worst of all."""
    with Visit(browser) as visit:
        page = visit.open()
        visit.server.close()

        sync_api.expect(page.locator("#line")).to_contain_text("connection lost")


def test_a_charts_csv_downloads(browser, tmp_path):
    """One click, one file, and what is in it is what was drawn."""
    with Visit(browser) as visit:
        page = visit.open("/unit/hp1")
        for title, column in (("COP", "cop"), ("Conductance", "statistic")):
            chart = page.locator("figure", has=page.locator("h2", has_text=title))
            with page.expect_download() as waiting:
                chart.first.locator("a.csv").click()
            path = tmp_path / f"{title}.csv"
            waiting.value.save_as(path)
            rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
            assert len(rows) > 20
            assert {row["unit"] for row in rows} == {"hp1"}
            assert float(rows[-1][column]) > 0


def test_the_chart_is_really_drawn_and_reaches_to_the_cleaning_date(browser):
    """Ink on the canvas, and an axis that goes as far as the mark."""
    with Visit(browser) as visit:
        page = visit.open("/unit/hp1")
        inked = page.evaluate(
            """() => [...document.querySelectorAll('.uplot canvas')].map(canvas => {
                const ink = canvas.getContext('2d').getImageData(
                    0, 0, canvas.width, canvas.height).data;
                let count = 0;
                for (let i = 3; i < ink.length; i += 4) count += ink[i] > 0;
                return count / (canvas.width * canvas.height);
            })"""
        )

        assert len(inked) == 5
        assert min(inked) > 0.01
        chart = visit.page.request.get(
            visit.server.url + "/api/charts/health?unit=hp1&component=condenser"
        ).json()
        clean_by = int((NOW + timedelta(days=23)).timestamp())
        assert [mark["time"] for mark in chart["marks"]] == [clean_by]


@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")]
)
def test_it_fits_and_can_be_read(browser, width, scheme):
    """Nothing runs out of a phone, and ink stands clear of paper in both."""
    with Visit(
        browser, viewport={"width": width, "height": 844}, color_scheme=scheme
    ) as visit:
        # The unit's page is the longest, and has all that the overview has.
        for path in ("/unit/hp1", "/alarms"):
            page = visit.open(path)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            for place in (".sentence", ".advice", ".facts dt", "h2 small", ".badge"):
                ratio = page.evaluate(CONTRAST, place)
                assert ratio >= 4.5, f"{path} {place} in {scheme}: {ratio:.2f}"
        assert visit.errors == []


CONTRAST = """place => {
    const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
    const light = text => {
        const [r, g, b] = parse(text).map(v => v / 255)
            .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const paper = element => {
        for (let at = element; at; at = at.parentElement) {
            const ground = getComputedStyle(at).backgroundColor;
            const parts = parse(ground);
            if (parts.length === 3 || parts[3] > 0) return ground;
        }
        return 'rgb(255, 255, 255)';
    };
    return Math.min(...[...document.querySelectorAll(place)]
        .filter(element => !element.closest('.muted')).map(element => {
        const a = light(getComputedStyle(element).color), b = light(paper(element));
        return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    }));
}"""


@pytest.mark.parametrize(
    "names",
    [
        ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>'),
        ("</script><svg onload=alert(1)>", "javascript:alert(1)"),
        ("__proto__", "{{ alert(1) }}"),
    ],
)
def test_hostile_names_do_not_execute(browser, names):
    """As the units' names, and as one that arrives live."""
    with Visit(browser, *names) as visit:
        page = visit.open()
        for name in names:
            visit.live.update(name, "cop", 9.87, NOW)
            visit.live.update(name, name, 1.0, NOW)
        cop = page.locator('.drawing .big[data-point="cop"]')
        sync_api.expect(cop).to_have_text("9.87")
        page.locator("nav a", has_text=names[0]).first.click()
        page.wait_for_selector("#line.on")
        page.goto(visit.server.url + "/alarms")
        page.wait_for_selector("#line.on")

        assert visit.dialogs == []
        assert visit.errors == []
        assert visit.foreign() == []


def test_a_script_that_got_in_would_be_caught(browser):
    """The control of the test above: inline script is refused by the policy."""
    with Visit(browser) as visit:
        page = visit.open()
        page.evaluate(
            """() => {
                const script = document.createElement('script');
                script.textContent = 'alert(1)';
                document.body.append(script);
            }"""
        )

        assert visit.dialogs == []
        assert any("Content Security Policy" in error for error in visit.errors)


def test_the_server_ends_with_a_browser_connected(browser):
    """SIGTERM's path: streams first, then the server, in seconds."""
    others = set(threading.enumerate())
    with Visit(browser) as visit:
        visit.open()
        before = datetime.now(UTC)
        visit.server.close()

        assert not visit.server.alive
        assert datetime.now(UTC) - before < timedelta(seconds=10)
        left = set(threading.enumerate()) - others
        assert "hptwin-page" not in {thread.name for thread in left}


def test_a_person_rolls_a_model_back(browser, tmp_path):
    """From the overview to the room; the form wants a name, then the older serves."""
    visit = Visit(
        browser,
        library=shelf(tmp_path, sample_results.plant("hp1", "hp2")),
        color_scheme="dark",
        viewport={"width": 375, "height": 800},
    )
    with visit:
        page = visit.open("/unit/hp1")
        page.click("text=what they know, and roll back")
        page.wait_for_selector("#line.on")
        assert (
            page.locator("tr.serves").all_inner_texts()[0].startswith("current-00003")
        )
        page.click("summary:has-text('Roll current back')")
        button = page.locator("button:has-text('the one before')")
        button.click()
        assert page.locator("input:invalid").count() > 0
        page.fill("input[name=who]", "Ada")
        page.fill("input[name=reason]", "looks odd")
        with page.expect_navigation():
            button.click()
        assert (
            page.locator("tr.serves").all_inner_texts()[0].startswith("current-00001")
        )
        page.click("th a:has-text('current-00001')")
        page.wait_for_function(
            "() => [...document.images].every(i => i.complete && i.naturalWidth)"
        )
        assert page.locator(".small-charts img").count() == 1
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide == 375
        assert not visit.errors
        ours = urlsplit(visit.server.url).netloc
        assert {urlsplit(one).netloc for one in visit.requests} == {ours}


# A name that a person gave a replay, or a file system that he was sent.
REPLAY = '"><img src=x onerror=alert(1)>'


def replayed(folder: Path) -> tuple[Results, Path]:
    """Return metered results, and where a replay with a clean condenser is kept."""
    found = metered()
    health = found.health.copy()
    mine = (health["unit"] == "hp1") & (health["component"] == "condenser")
    health.loc[mine, "value"] = 0.99
    kpis = found.kpis.assign(compressor_energy_j=0.9 * found.kpis.compressor_energy_j)
    gone = [one for one in found.findings if one.key != KEY]
    replace(found, health=health, kpis=kpis, findings=gone).write(folder / REPLAY)
    return found, folder


def test_the_fleet_stands_by_what_it_costs(browser):
    """Dearest first, and what it is known by; old values say that they are old."""
    with Visit(browser) as visit:
        page = visit.open("/?from=2026-02-01&to=2026-02-28")
        lines = page.locator(".fleet tbody tr")
        shown = [one.get_attribute("data-unit") for one in lines.all()]
        first, second = lines.nth(0), lines.nth(1)

        assert shown == ["hp1", "hp2"]
        sync_api.expect(first).to_contain_text("102\u202fEUR")
        sync_api.expect(first).to_contain_text("24 Mar 2026")
        sync_api.expect(first).to_contain_text("condenser")
        sync_api.expect(second).to_contain_text("1 unpriced")
        sync_api.expect(second.locator(".age.stale")).to_have_text("47 min stale")
        sync_api.expect(first.locator(".age.stale")).to_have_count(0)

        visit.live.update("hp2", "cop", 4.0, NOW)

        sync_api.expect(second.locator(".age")).not_to_contain_text("stale")
        first.locator("a").click()
        page.wait_for_url("**/unit/hp1?from=2026-02-01&to=2026-02-28")
        assert visit.errors == []


def test_the_address_carries_unit_and_range(browser):
    """Who is sent the address sees what the sender saw, charts and files too."""
    with Visit(browser) as visit:
        page = visit.open("/unit/hp1")
        page.click("nav[aria-label=Range] a:has-text('7 days')")
        page.wait_for_selector("#line.on")
        page.wait_for_function(DRAWN)
        address = page.url
        before = len(visit.requests)

        page.goto(address)
        page.wait_for_selector("#line.on")
        page.wait_for_function(DRAWN)

        assert re.search(r"/unit/hp1\?from=2026-02-22T.*&to=2026-03-01T", address)
        chosen = page.locator("nav[aria-label=Range] [aria-current]")
        sync_api.expect(chosen).to_have_text("7 days")
        asked = [one for one in visit.requests[before:] if "/api/charts/" in one]
        assert len(asked) == 5
        assert all("unit=hp1&from=2026-02-22T" in one for one in asked)
        assert "from=2026-02-22T" in page.locator("a.csv").first.get_attribute("href")


def test_every_chart_of_a_page_has_its_file(browser):
    """Whatever is drawn of the results can be had as numbers."""
    with Visit(browser) as visit:
        for path in ("/", "/unit/hp1"):
            page = visit.open(path)
            drawn = page.locator("figure.chart, section:has(.bars), section:has(.fall)")
            assert drawn.count() >= 3
            for one in drawn.all():
                href = one.locator("a.csv").get_attribute("href")
                answer = page.request.get(visit.server.url + href)
                assert answer.headers["content-type"].startswith("text/csv"), href
                assert len(answer.text().splitlines()) > 5, href


def test_no_button_moves_when_a_form_opens(browser):
    """A second click on the same spot closes what the first one opened."""
    with Visit(browser, viewport={"width": 1180, "height": 900}) as visit:
        page = visit.open("/alarms")
        case = page.locator(f'[data-key="{KEY}"]')
        buttons = case.locator(".acts summary")
        where = """element => [...element.querySelectorAll('.acts summary')].map(b => {
            const at = b.getBoundingClientRect(), to = element.getBoundingClientRect();
            return [at.left - to.left, at.top - to.top, at.width];
        })"""
        closed = case.evaluate(where)
        assert len(closed) == 5
        for place in range(5):
            buttons.nth(place).click()
            assert case.evaluate(where) == closed
            assert case.locator("form:visible, table:visible").count() == 1
            buttons.nth(place).click()
            assert case.locator("form:visible, table:visible").count() == 0


def test_evidence_is_one_click_away(browser):
    """In words of the field, and with what happened before."""
    with Visit(browser) as visit:
        page = visit.open("/alarms")
        case = page.locator(f'[data-key="{KEY}"]')
        assert not case.locator(".evidence table").is_visible()

        case.locator("summary", has_text="Evidence").click()

        table = case.locator(".evidence table")
        sync_api.expect(table).to_contain_text("sink inlet temperature")
        sync_api.expect(table).to_contain_text("61.4\u202fkW/K")
        table.locator("a", has_text="history").click()
        page.wait_for_url("**/alarms?case=*")
        sync_api.expect(page.locator(".history")).to_contain_text(
            "hp1 condenser, fouling"
        )


@pytest.mark.parametrize(
    ("key", "words", "closure"),
    [
        (KEY, "it was cleaned; the twin will check", "fixed"),
        ("hp1/missed_recovery/control", "it is not a fault", "not_a_fault"),
    ],
)
def test_a_person_closes_a_case_with_a_reason(browser, key, words, closure):
    """Cleaned, or no fault at all: it leaves the desk, and its history keeps why."""
    with Visit(browser) as visit:
        page = visit.open("/alarms")
        case = page.locator(f'[data-key="{key}"]')
        case.locator("summary", has_text="Close").click()
        case.locator("form:visible [name=who]").fill("Ada")
        case.locator("form:visible [name=closure]").select_option(label=words)
        case.locator("form:visible [name=reason]").fill("seen to on Monday")
        case.locator("form:visible button").click()
        page.wait_for_selector("#line.on")

        assert page.locator(f'[data-key="{key}"]').count() == 0
        sync_api.expect(page.locator(".history")).to_contain_text("seen to on Monday")
        kept = visit.alarms.case(key)
        assert kept is not None
        assert kept.dismissed is not None
        assert kept.dismissed.closure == closure
        assert visit.errors == []


def test_a_replay_is_compared_over_a_period(browser, tmp_path):
    """Chosen by its name, drawn as lines, had as numbers; the address says it all."""
    found, folder = replayed(tmp_path)
    with Visit(browser, results=found, replays=folder) as visit:
        page = visit.open("/")
        page.click("nav a:has-text('Replays')")
        page.locator("[name=b]").select_option(REPLAY)
        page.fill("[name=from]", "2026-02-10")
        page.fill("[name=to]", "2026-02-20")
        page.click("button:has-text('Compare')")
        page.wait_for_url("**/compare?*from=2026-02-10*")
        page.wait_for_selector("#line.on")

        sync_api.expect(page.locator(".sides")).to_contain_text("10 Feb 2026 to 20 Feb")
        line = page.locator("tr", has_text="hp1: COP").first.locator("td")
        cop, other = (float(one) for one in line.all_inner_texts()[:2])
        assert other == pytest.approx(cop / 0.9, rel=0.001)
        lines = page.locator("svg.beside polyline")
        assert lines.count() == 2
        looks = lines.evaluate_all(
            """all => all.map(one => getComputedStyle(one))
                .map(one => [one.fill, one.strokeDasharray])"""
        )
        assert looks == [["none", "none"], ["none", "5px, 2px"]]
        with page.expect_download() as waiting:
            page.click("a.csv")
        waiting.value.save_as(tmp_path / "compare.csv")
        text = (tmp_path / "compare.csv").read_text("utf-8")
        rows = list(csv.DictReader(text.splitlines()))
        assert {row["time"][:7] for row in rows} == {"2026-02"}
        mine = [
            row[REPLAY]
            for row in rows
            if (row["unit"], row["component"]) == ("hp1", "condenser")
        ]
        assert {float(value) for value in mine} == {0.99}
        assert visit.dialogs == []
        assert visit.errors == []
        assert visit.foreign() == []


def test_a_month_is_read_and_taken_away(browser, tmp_path):
    """Two sheets in their own style under a strict policy, and the figures as CSV."""
    with Visit(browser, results=metered()) as visit:
        page = visit.open("/")
        page.click("nav a:has-text('Reports')")
        page.wait_for_selector("#line.on")
        sync_api.expect(page.locator("tbody th").first).to_contain_text("not a whole")
        with page.expect_download() as waiting:
            page.locator("tr", has_text="January 2026").get_by_text("plain").click()
        waiting.value.save_as(tmp_path / "month.csv")
        figures = list(
            csv.DictReader((tmp_path / "month.csv").read_text("utf-8").splitlines())
        )
        assert {row["period_from"][:10] for row in figures} == {"2026-01-01"}

        page.click("a:has-text('January 2026')")

        sheets = page.locator("article.sheet")
        assert sheets.count() == 2
        look = "element => getComputedStyle(element).borderTopStyle"
        assert sheets.first.evaluate(look) == "solid"
        frames = page.locator(".scroll").evaluate_all(
            "all => all.map(one => one.scrollWidth - one.clientWidth)"
        )
        assert max(frames) <= 1
        answer = page.request.get(page.url)
        assert "unsafe" not in answer.headers["content-security-policy"]
        for odd in ("0001-01", "9999-12", "2026-13", "..", "%2e%2e"):
            told = page.request.get(f"{visit.server.url}/reports/{odd}.csv")
            assert told.status == 404, odd
        none = page.request.get(visit.server.url + "/reports/1999-01")
        assert none.status == 404
        assert "nothing of January 1999" in none.text()
        assert visit.errors == []
        assert visit.foreign() == []


def test_lines_differ_by_more_than_colour(browser):
    """Solid, dashed and dotted; and what was missed is hatched among the bars."""
    with Visit(browser) as visit:
        page = visit.open("/unit/hp1")
        chart = page.locator("figure", has=page.locator("h2", has_text="COP")).first
        styles = chart.locator(
            ".u-legend .measured .u-marker, .u-legend .expected .u-marker,"
            " .u-legend .reference .u-marker"
        ).evaluate_all("all => all.map(one => getComputedStyle(one).borderTopStyle)")
        missed = page.locator(".bars .missed").first
        fill = missed.evaluate("element => getComputedStyle(element).fill")

        assert styles == ["solid", "dashed", "dotted"]
        assert "#hatch" in fill
        newest = chart.locator(".u-legend .measured .u-value")
        sync_api.expect(newest).to_have_text(re.compile(r"^3\.\d\d$"))


@pytest.mark.parametrize(("width", "scheme"), [(1180, "light"), (390, "dark")])
def test_nothing_is_cut_on_any_page(browser, tmp_path, width, scheme):
    """No table runs out of its frame, no script fails, nothing leaves this machine."""
    found, folder = replayed(tmp_path / "replays")
    library = shelf(tmp_path / "models", sample_results.plant("hp1", "hp2"))
    with Visit(
        browser,
        results=found,
        replays=folder,
        library=library,
        viewport={"width": width, "height": 844},
        color_scheme=scheme,
    ) as visit:
        cut = """() => [document.documentElement,
                ...document.querySelectorAll('.scroll')]
            .filter(one => one.scrollWidth > one.clientWidth + 1)
            .map(one => one.closest('section')?.textContent.slice(0, 60) || 'page')"""
        for path in ("/", "/unit/hp1", "/alarms", "/models", "/compare", "/reports"):
            page = visit.open(path)
            assert page.evaluate(cut) == [], path
        assert visit.errors == []
        assert visit.foreign() == []


def test_the_pictures_of_the_guides_can_be_taken(browser, tmp_path):
    """By their script, of any site; those that are there are small enough to load."""
    spec = importlib.util.spec_from_file_location("pictures", GUIDES / "pictures.py")
    pictures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pictures)
    with Visit(browser) as visit:
        told = report.document(report.report(books()))
        (tmp_path / "report.html").write_text(told, encoding="utf-8")

        made = pictures.take(
            browser, visit.server.url, tmp_path / "report.html", tmp_path
        )

    for path in made:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert (GUIDES / path.name).stat().st_size < 150_000
    assert {path.name for path in made} == {p.name for p in GUIDES.glob("*.png")}
