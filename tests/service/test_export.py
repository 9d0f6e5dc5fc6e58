"""A form is data, every line says its boundary, and nothing is called compliant."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from sample_books import JANUARY, books, entry, metered

from twin.kpi import VARIANTS, Quality
from twin.service import export, reporting
from twin.service.reporting import ReportError, Reporting

TOLD = Reporting(
    boundary="after_heat_pump",
    on_site_meter=True,
    facts={"dc_id": "DC-1", "installed_it": 1.5e6, "owner": "=cmd()"},
    sums=(entry(300.0, 0, 31),),
)


def rows(name, found=None):
    """Return the lines of an export, as a spreadsheet reads them."""
    made = books(told=TOLD) if found is None else found
    text = export.csv_text(made, export.profile(name))
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("name", export.profiles())
def test_every_column_says_whence(name):
    """Its key is known here, its source and date stand beside it."""
    form = export.profile(name)

    assert form.title
    assert form.version
    assert form.status
    for column in form.columns:
        assert column.key in export.KEYS
        assert column.source
        assert column.date.year >= 2023
    names = [column.name for column in form.columns]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", export.profiles())
def test_every_line_is_whole(name):
    """Boundary where there is one, quality always, a note where a value lacks."""
    lines = rows(name)

    assert set(lines[0]) == set(export.COLUMNS)
    assert {line["column"] for line in lines} == {
        column.name for column in export.profile(name).columns
    }
    for line in lines:
        assert line["quality"] in {*Quality, "declared"}
        assert bool(line["value"]) == (line["quality"] != "missing")
        if not line["value"]:
            assert line["estimation_note"]
        assert line["source_date"]


def test_the_european_form_by_hand():
    """744 hours of 1240 kW of IT, and so on: each value with two numbers."""
    found = {
        (line["column"], line["boundary"], line["heat_pump_electricity"]): line
        for line in rows("eu-2024-1364")
    }

    def value(column, boundary="", electricity=""):
        return float(found[column, boundary, electricity]["value"])

    assert value("EIT") == pytest.approx(744 * 1240)
    assert value("EDC", "", "in") == pytest.approx(744 * 1800)
    assert value("EDC", "", "out") == pytest.approx(744 * 1540)
    assert value("EREUSE", "handover") == pytest.approx(744 * 800)
    assert value("EREUSE", "after_heat_pump") == pytest.approx(744 * 1040)
    assert value("TWH", "after_heat_pump") == pytest.approx(68.0)
    assert value("PUE", "after_heat_pump", "in") == pytest.approx(1800 / 1240)
    assert value("PUE", "after_heat_pump", "out") == pytest.approx(1540 / 1240)
    assert value("ERF", "handover", "out") == pytest.approx(800 / 1540)
    assert value("WIN") == pytest.approx(300.0)
    assert value("WUE") == pytest.approx(300.0 / (0.744 * 1240))
    assert value("PDIT") == pytest.approx(1500.0)
    assert found["EREUSE", "after_heat_pump", ""]["declared"] == "yes"
    assert found["EREUSE", "handover", ""]["declared"] == "no"
    assert found["PUE", "after_heat_pump", "in"]["declared"] == "yes"
    assert found["EIT", "", ""]["declared"] == ""
    assert "write operator" in found["operator", "", ""]["estimation_note"]


def test_reused_and_released_in_the_german_register():
    """Delivered plus rejected heat is what was released, on either boundary."""
    found = {
        (line["column"], line["boundary"]): line for line in rows("enefg-register")
    }
    for boundary in ("handover", "after_heat_pump"):
        reused = float(found["Abwaerme an Waermeabnehmer", boundary]["value"])
        released = float(found["Abwaerme gesamt", boundary]["value"])
        thrown = float(found["Abwaerme an Luft, Gewaesser, Boden", ""]["value"])
        assert released == pytest.approx(reused + thrown)
        assert reused <= released


def test_undeclared_nothing_is_chosen():
    """Whose the heat pumps are is not guessed."""
    lines = rows("plain", books())

    assert {line["declared"] for line in lines} == {""}


def test_a_gap_is_said_and_not_filled():
    """Ten days without an IT meter: a smaller sum, its coverage, and a note."""
    found = metered()
    site = (found.ledger["unit"] == "site").to_numpy()
    time = found.ledger["time"]
    hole = site & (time > "2026-01-10") & (time <= "2026-01-20")
    found.ledger.loc[hole, "it_energy_j"] = float("nan")
    line = next(
        line for line in rows("plain", books(found)) if line["column"] == "it_energy"
    )

    assert float(line["value"]) == pytest.approx((744 - 240) * 1240)
    assert float(line["coverage"]) == pytest.approx(1 - 240 / 744)
    assert line["quality"] == "partial"
    assert "32.3% of the period is not measured" in line["estimation_note"]


def test_the_same_books_make_the_same_bytes():
    """And a text that a spreadsheet would run is written as text."""
    form = export.profile("eu-2024-1364")

    assert export.csv_text(books(told=TOLD), form) == export.csv_text(
        books(told=TOLD), form
    )
    (owner,) = [line for line in rows("eu-2024-1364") if line["column"] == "owner"]
    assert owner["value"] == "'=cmd()"


@pytest.mark.parametrize(
    "key", ["__import__('os').system('true')", "energy_it * 2", "energi_it", ""]
)
def test_a_profile_cannot_compute(key):
    """Its keys are names of a closed set; anything else is refused, never run."""
    text = (
        f'title = "x"\nversion = "1"\nchecked = 2026-01-01\nstatus = ""\n'
        f'[source]\nname = "x"\ndate = 2026-01-01\n'
        f'[[column]]\nname = "A"\nkey = "{key}"\n'
    )
    with pytest.raises(ReportError, match="is no key"):
        export.parsed("mine", text)


def test_an_unknown_profile_is_refused_with_the_nearest():
    """As every wrong word is."""
    with pytest.raises(ReportError, match='did you mean "eu-2024-1364"'):
        export.profile("eu-2024-1365")
    with pytest.raises(ReportError, match="is no profile"):
        export.profile("../thresholds")


# --- plausibility ---------------------------------------------------------------


def test_a_sound_month_contradicts_nothing():
    """The negative control."""
    assert export.implausible(books(told=TOLD)) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"site_energy": 1100.0}, "PUE is"),
        ({"source_heat": 1700.0, "sink_heat": 1940.0}, "ERF is"),
        ({"rejected_heat": -300.0}, "more waste heat is reused than released"),
        ({"source_heat": 1000.0}, "119.2% of the heat delivered"),
    ],
)
def test_a_contradiction_is_said(changed, words):
    """One meter wrong at a time: each is seen, with what to check."""
    found = export.implausible(books(metered(**changed)))

    assert any(words in sentence for sentence in found), found


def test_more_renewable_than_all_is_said():
    """An entry of a year where a month's was meant."""
    year = reporting.Sum(
        of="renewable_own_j",
        start=JANUARY.start,
        stop=JANUARY.stop,
        value=1e16,
    )
    small = reporting.Sum(
        of="potable_water_m3", start=JANUARY.start, stop=JANUARY.stop, value=400.0
    )
    told = Reporting(sums=(year, small, entry(300.0, 0, 31)))
    found = " ".join(export.implausible(books(told=told)))

    assert "REF is" in found
    assert "potable_water_m3 is more than water_m3" in found


# --- words ----------------------------------------------------------------------


def test_thresholds_are_data_with_their_law():
    """Each on a boundary that there is, with source and date."""
    for one in export.thresholds():
        assert (one.boundary, one.electricity) in VARIANTS
        assert one.source
        assert one.date.year >= 2023
        assert one.sense in ("at most", "at least")


def test_nothing_is_ever_called_compliant():
    """Neither in a form nor in a template nor in a style nor in a sentence of ours."""
    service = Path(export.__file__).parent
    files = [
        *service.glob("profiles/*.toml"),
        service / "thresholds.toml",
        service / "web" / "templates" / "report_file.html",
        *(service / f"{name}.py" for name in ("export", "report", "reporting")),
    ]
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"complian|konform|fulfil|passed the law", text, re.I), (
            file
        )
    for name in export.profiles():
        assert "complian" not in export.csv_text(books(), export.profile(name)).lower()
