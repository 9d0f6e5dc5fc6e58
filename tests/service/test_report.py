"""Two pages that stand alone and say what the results say, to paper and telephone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sample_books import ZONE, books, metered
from sample_results import NOW, cooling, results
from typer.testing import CliRunner

from twin import kpi, simulate
from twin.service import history, reporting
from twin.service import report as pages
from twin.service.alarms import Alarms, Case, Note, Severity
from twin.service.cli import app
from twin.service.config import load
from twin.service.reporting import ReportError, Reporting
from twin.service.results import MISSED_CAUSES
from twin.service.state import State

CHROMIUM = Path("/usr/bin/chromium")
FORM = "eu-2024-1364"


def cases():
    """Return an alarm that a person answered, one that nobody did, and an old one."""
    first, second, third = results().findings

    def case(finding, raised, **more):
        return Case(
            finding=finding,
            severity=Severity.MEDIUM,
            first_seen=raised,
            raised=raised,
            occurrence=1,
            **more,
        )

    january = NOW - timedelta(days=50)
    return [
        case(
            first,
            january,
            acknowledged=Note("Ada", january + timedelta(hours=5), "look"),
        ),
        case(second, january + timedelta(days=3)),
        case(third, january - timedelta(days=90), closed=january - timedelta(days=60)),
    ]


class Reader(HTMLParser):
    """Read what a page refers to, its text, and whether its tags close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words, self.tags, self.refers, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Remember a tag and what it refers to."""
        self.tags.append(tag)
        if tag not in ("meta", "br", "link", "input"):
            self.open.append(tag)
        self.refers += [
            value
            for name, value in attrs
            if name in ("src", "href", "srcset", "action")
        ]

    def handle_startendtag(self, tag, attrs):
        """Remember a tag that holds nothing."""
        self.tags.append(tag)

    def handle_endtag(self, tag):
        """Close the tag that is open."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Keep the text of the page, but for its style."""
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        """The page's words, spaces made one."""
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def page():
    """Return the sample's page, with alarms and a declared boundary."""
    told = Reporting(boundary="after_heat_pump", on_site_meter=True)
    return pages.document(pages.report(books(told=told), cases()))


def test_it_needs_nothing_beside_itself(page):
    """No script, no network, no image, no font; and every tag is closed."""
    read = Reader(page)

    assert not {"script", "img", "iframe", "link", "object"} & set(read.tags)
    assert [one for one in read.refers if not one.startswith("#")] == []
    assert not re.search(r"url\((?!#)", page)
    assert "@import" not in page
    assert read.open == []
    assert read.tags.count("article") == 2
    assert "@page { size: A4" in page
    assert "prefers-color-scheme: dark" in page


def test_the_same_books_make_the_same_bytes(page):
    """A report that is made again is the same report."""
    told = Reporting(boundary="after_heat_pump", on_site_meter=True)

    assert pages.document(pages.report(books(told=told), cases())) == page


def test_cold_is_told_where_somebody_is_cooled(page):
    """In a sentence, and in the whole that the accounts are shares of."""
    found = pages.report(books(cooling(metered())))
    text = re.sub(r"\s+", " ", pages.document(found))
    assert "of cold were handed over." in text
    assert "with the heat that it would have delivered. Why: held by hand" in (
        re.sub(r"<[^>]+>", "", text)
    )
    assert "of cold were" not in page


def test_recovered_and_missed_are_the_ledger_s():
    """Sums of the month's lines of the site, and of no other."""
    found = pages.report(books())
    lines = results().ledger
    span = reporting.month("2026-01", ZONE)
    mine = lines[
        (lines["unit"] == "site")
        & (lines["time"] > span.start)
        & (lines["time"] <= span.stop)
    ]

    assert found.recovered_j == pytest.approx(mine["recovered_j"].sum())
    assert found.missed_j == pytest.approx(mine["missed_j"].sum())
    assert found.missed_eur == pytest.approx(mine["missed_eur"].sum())
    assert found.worth_eur == pytest.approx(52.78 * len(mine))
    assert sum(heat for _, _, heat, _ in found.accounts) == pytest.approx(
        mine["it_heat_j"].sum()
    )
    by_cause = {cause: mine[f"missed_{cause}_j"].sum() for cause in MISSED_CAUSES}
    largest = sorted(by_cause.values(), reverse=True)[:3]
    told = [cause.heat_j for cause in found.causes]
    assert told == pytest.approx([heat for heat in largest if heat > 0.0][: len(told)])
    assert found.more_causes == max(sum(h > 0.0 for h in by_cause.values()) - 3, 0)


def test_cop_by_day_is_a_ratio_of_sums():
    """A drawn point is that day's heat over that day's electricity, local days."""
    found = pages.report(books())
    table = results().kpis
    day = pd.Timestamp("2026-01-20", tz=ZONE)
    mine = table[
        (table["time"] > day)
        & (table["time"] <= day + pd.Timedelta(days=1))
        & table["cop"].notna()
    ]
    cop = mine["sink_heat_j"].sum() / mine["compressor_energy_j"].sum()
    (path,) = [p for name, _, p in found.lines.paths if name == "cop"]
    points = {float(x): float(y) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)}
    levels = {float(words): y for y, words in found.lines.levels}
    (one, y_one), (other, y_other) = list(levels.items())[:2]
    at = points[round(19.5 / 31 * 720, 1)]
    read = one + (at - y_one) / (y_other - y_one) * (other - one)

    # A tenth of a pixel of 92, over the range that is drawn.
    assert read == pytest.approx(cop, abs=0.01)


def test_the_page_says_it_all(page):
    """Every section, the site's figures on each boundary, response, effect, models."""
    text = Reader(page).text

    for words in (
        "heat recovery in January 2026",
        "Where the IT heat went",
        "the three largest causes",
        "Figures of the site",
        "PUE E_DC / E_IT 1.242 measured 1.452 measured 1.242 measured",
        "heat handed over",
        "their electricity left out",
        "the shaded boundary is the declared one",
        "EnEfG § 11(2), 17 Nov 2023",
        "asked is at most 1.2",
        "The Green Grid",
        "5 h, Ada",
        "nobody yet",
        "1 of 2 answered by a person, half of them within 5 h",
        "hp1 condenser cleaned",
        "verified: conductance 81",
        "No forecast: too early.",
        "source of the factors: the grid's average of 2025",
        "whether they bind this site is not for a twin to say",
    ):
        assert words in text.replace("\u202f", " "), words
    assert "complian" not in text.lower()


def test_old_alarms_are_not_this_month_s():
    """One that was closed before it began is of no concern."""
    found = pages.report(books(), cases())

    assert len(found.alarms) == 2
    assert found.has_alarms
    assert pages.report(books()).has_alarms is False


def test_no_carbon_without_its_source():
    """Factors that nobody can look up make a number that nobody can check."""
    bare = metered()
    plant = {**bare.summary["plant"], "tariff": {"emission_source": ""}}
    found = pages.report(books(replace(bare, summary={**bare.summary, "plant": plant})))
    text = Reader(pages.document(found)).text

    assert np.isnan(found.worth_kg)
    assert np.isnan(found.missed_kg)
    assert "CO₂e net" not in text
    assert "No CO₂e is printed" in text


def test_what_cannot_be_is_said_at_the_top():
    """Before any number that it spoils."""
    text = Reader(pages.document(pages.report(books(metered(site_energy=1100.0))))).text

    assert text.index("This cannot be: PUE is") < text.index("Of the IT heat")


def test_a_hostile_name_is_text():
    """The site's name is not markup."""
    found = books(replace(metered(), site="<script>alert(1)</script>"))

    assert "<script" not in pages.document(pages.report(found))


def test_an_empty_month_has_a_page():
    """Meters and nothing else: no machine, no surface, no model, no alarm."""
    from twin.service.results import empty

    bare = replace(
        metered(),
        findings=(),
        kpis=empty("kpis"),
        health=empty("health"),
        models=(),
    )
    text = Reader(pages.document(pages.report(books(bare), []))).text

    for words in ("No heat pump was measured", "No conductance", "No model has been"):
        assert words in text


def printed_pages(page: str, folder: Path) -> int:
    """Return on how many sheets of A4 a browser prints it."""
    file, printed = folder / "report.html", folder / "report.pdf"
    file.write_text(page, encoding="utf-8")
    subprocess.run(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu",
            "--no-pdf-header-footer", f"--user-data-dir={folder / 'profile'}",
            f"--print-to-pdf={printed}", file.as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )  # fmt: skip
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", printed.read_bytes()))


@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}")
def test_on_paper_it_is_two_pages(page, tmp_path):
    """A4, as a browser prints it."""
    assert printed_pages(page, tmp_path) == 2


def many(count: int):
    """Return results in which every table's rows of hp1 are those of many."""
    found = metered()
    units = [f"hp{k}" for k in range(1, count + 1)]

    def multiplied(table: pd.DataFrame) -> pd.DataFrame:
        own, rest = table[table["unit"] == "hp1"], table[table["unit"] != "hp1"]
        return pd.concat([rest, *(own.assign(unit=unit) for unit in units)])

    return replace(
        found,
        health=multiplied(found.health),
        kpis=multiplied(found.kpis),
        summary={
            **found.summary,
            "outlook": dict.fromkeys(units, found.summary["outlook"]["hp1"]),
        },
        models=[
            {**one, "unit": unit}
            for one in found.models
            for unit in (units if one["unit"] == "hp1" else [one["unit"]])
        ],
    )


@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}")
def test_twelve_heat_pumps_fit_two_pages_as_well(tmp_path):
    """Those that matter most, and how many more there are."""
    found = pages.report(books(many(12)), cases())
    text = Reader(pages.document(found)).text

    assert len(found.machines) + len(found.more_machines) == 12
    assert "more with" in text
    assert len(found.surfaces) + found.more_surfaces >= 12
    assert "all of them cleaner" in text
    assert printed_pages(pages.document(found), tmp_path) == 2


def test_a_pdf_is_printed_or_the_extra_is_named(page, monkeypatch):
    """With WeasyPrint a PDF; without it, what to install."""
    try:
        import weasyprint  # noqa: F401
    except (ImportError, OSError):
        with pytest.raises(ReportError, match=r"pip install 'hptwin\[pdf\]'"):
            pages.pdf(page)
        pytest.skip("WeasyPrint is not installed: the extra pdf")
    assert pages.pdf(page).startswith(b"%PDF-")
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(ReportError, match=r"pip install 'hptwin\[pdf\]'"):
        pages.pdf(page)


def test_a_printer_is_given_colours(page):
    """Every drawing carries its own rules, and no variable is left in them."""
    made = pages._with_colours(page)
    drawn = re.findall(r"<svg\b[^>]*><style>(.*?)</style>", made, re.DOTALL)

    assert len(drawn) == page.count("<svg")
    for rules in drawn:
        assert "var(" not in rules
        assert ".recovered { fill: #3f8f79; }" in rules
        assert not re.search(r"(^|})\s*\{", rules)


# --- the command line, on a real replay -----------------------------------------


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    """Simulate four days and replay them; no reference is learnt yet."""
    folder = tmp_path_factory.mktemp("site")
    scenario = simulate.scenario("healthy", days=4, seed=3)
    scenario = replace(scenario, step=timedelta(minutes=60))
    written = simulate.write(simulate.simulate(scenario), folder)
    config = load(folder / "plant.toml", {})
    known = {device.id for device in config.plant.units()} | {"site"}
    files = [path for path in written if path.stem in known]
    history.replayed(config, files, out=folder / "out")
    return folder


def hptwin(*words, code=(0,)):
    """Run the command in this process: its modules are here already."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code in code, done.output
    return done


def test_raw_data_to_form(replayed):
    """PUE and ERF of an export from the raw telemetry, to 0.1 percentage point.

    The raw side is summed from the files alone: powers as they were sent, and heat
    from flow, temperatures and the glycol's own properties.
    """
    from twin import fluids
    from twin.plant import Coolant

    site = pd.read_parquet(replayed / "site.parquet").set_index("ts")
    months = pd.DatetimeIndex(site.index).tz_convert("UTC").strftime("%Y-%m")
    month = str(pd.Series(months).mode()[0])
    form = json.loads(
        hptwin(
            "export", "--profile", "plain", "--month", month, "--json",
            "--results", replayed / "out", "-c", replayed / "plant.toml",
            code=(0, 1),
        ).stdout
    )["lines"]  # fmt: skip
    told = {
        (line["column"], line["boundary"], line["heat_pump_electricity"]): line["value"]
        for line in form
    }

    def of_month(frame):
        time = pd.DatetimeIndex(frame.index)
        begin = pd.Timestamp(f"{month}-01", tz="UTC")
        end = begin + pd.offsets.MonthBegin(1)
        return frame[(time > begin) & (time <= end)]

    frame = of_month(site)
    it, total = frame["p_it"].sum(), frame["p_site"].sum()
    source = sink = lift = 0.0
    for file in sorted(replayed.glob("hp*.parquet")):
        hp = of_month(pd.read_parquet(file).set_index("ts"))
        for side, liquid, warm, cold, near in (
            ("src", Coolant("MPG", 0.25), "t_src_in", "t_src_out", "t_src_in"),
            ("snk", Coolant(), "t_snk_out", "t_snk_in", "t_snk_in"),
        ):
            mean = 0.5 * (hp[warm] + hp[cold])
            heat = hp[f"v_{side}"] / 3600.0 * fluids.density(liquid, hp[near])
            heat = heat * fluids.heat_capacity(liquid, mean) * (hp[warm] - hp[cold])
            moved = float(heat[hp["run"] > 0.0].sum()) / 1e3
            source, sink = (
                (source + moved, sink) if side == "src" else (source, sink + moved)
            )
        lift += float(hp[["p_el", "p_pump_src", "p_pump_snk"]].sum().sum())
    for place, reuse, below in (
        (kpi.VARIANTS[0], source, total - lift),
        (kpi.VARIANTS[1], sink, total),
        (kpi.VARIANTS[2], sink, total - lift),
    ):
        assert told["PUE", *place] == pytest.approx(below / it, abs=1e-3)
        assert told["ERF", *place] == pytest.approx(reuse / below, abs=1e-3)
        assert told["ERE", *place] == pytest.approx((below - reuse) / it, abs=1e-3)


def test_the_commands_tell_what_is_wrong(replayed, tmp_path):
    """A page, a usage error each for a wrong month, profile, folder and choice."""
    out = tmp_path / "january.html"
    results_ = ("--results", replayed / "out")
    spans = hptwin("report", "--month", "1999-01", *results_, code=(2,)).stderr
    month = re.search(r"reach from (\d{4}-\d\d)", spans)[1]
    done = hptwin("report", "--month", month, *results_, "--out", out, code=(0, 1))

    assert done.stdout.strip() == str(out)
    assert "<!doctype html>" in out.read_text(encoding="utf-8")
    for words, said in (
        (("report", "--month", "March", *results_), "write it as 2026-03"),
        (("export", "--month", month, "--year", "2026", *results_), "one of them"),
        (("export", "--year", "2026", "--profile", "x", *results_), "is no profile"),
        (("export", "--year", "2026", "--results", tmp_path), "hptwin replay --out"),
    ):
        assert said in hptwin(*words, code=(2,)).stderr


def test_of_a_running_service(replayed, tmp_path):
    """Its newest results and its alarms, with the answer that a person gave."""
    told = (replayed / "plant.toml").read_text(encoding="utf-8")
    file = tmp_path / "plant.toml"
    file.write_text(
        told + '\n[reporting]\nboundary = "handover"\nowner = "Ada Ltd"\n',
        encoding="utf-8",
    )
    state_dir = load(file, {}).state_dir
    metered().write(state_dir / "results")
    (finding, *_) = results().findings
    raised = NOW - timedelta(days=40)
    with closing(State.open(state_dir / "state.sqlite")) as state:
        alarms = Alarms(state)
        alarms.step([finding], raised)
        alarms.acknowledge(finding.key, "Ada", raised + timedelta(hours=3))
    out = tmp_path / "january.html"
    hptwin("report", "--month", "2026-01", "-c", file, "--out", out)
    text = Reader(out.read_text(encoding="utf-8")).text
    form = hptwin("export", "--month", "2026-01", "-c", file, "--profile", FORM)

    assert "3 h, Ada" in text
    assert "the shaded boundary is the declared one" in text
    assert "Ada Ltd" in form.output
