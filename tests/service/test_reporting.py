"""A period is the site's own, and what no instrument tells is said to be so."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_books import BERLIN, JANUARY, ZONE, books, entry, metered
from sample_results import results

from twin import kpi
from twin.finding import Finding, FindingKind
from twin.service import reporting
from twin.service.config import ConfigError, load
from twin.service.reporting import KINDS, HandRead, ReportError

ROOT = Path(__file__).resolve().parents[2]
PLANT = """
[site]
timezone = "Europe/Berlin"
[[heat_pump]]
id = "hp1"
refrigerant = "R134a"
nameplate = { sink_heat = "600 kW", power = "150 kW", source_inlet = "35 degC", source_outlet = "28 degC", sink_inlet = "50 degC", sink_outlet = "65 degC" }
points.compressor_power_w = { topic = "dc/p", unit = "kW" }
[reporting]
"""  # noqa: E501


def section(folder, text):
    """Read a plant file whose section [reporting] is this."""
    file = folder / "plant.toml"
    file.write_text(PLANT + text, encoding="utf-8")
    return load(file, {}).reporting


# --- periods --------------------------------------------------------------------


@settings(max_examples=40)
@given(
    st.integers(1995, 2090),
    st.sampled_from(["UTC", "Europe/Berlin", "America/Santiago", "Asia/Kathmandu"]),
)
def test_months_tile_the_year(number, name):
    """Twelve months are the year, without a gap, however clocks are changed."""
    zone = ZoneInfo(name)
    months = [reporting.month(f"{number}-{k:02d}", zone) for k in range(1, 13)]
    whole = reporting.year(str(number), zone)

    assert months[0].start == whole.start
    assert months[-1].stop == whole.stop
    for before, after in zip(months, months[1:], strict=False):  # noqa: RUF007
        assert before.stop == after.start
    for one in months:
        assert one.start.astimezone(zone).hour == 0
        assert one.start.tzinfo is UTC


@pytest.mark.parametrize("text", ["2026", "2026-13", "March", "2026-3-1", ""])
def test_what_is_no_month_is_refused(text):
    """And the sentence shows how one is written."""
    with pytest.raises(ReportError, match="write it as 2026-03"):
        reporting.month(text, BERLIN)


@pytest.mark.parametrize("text", ["26", "2026-03", "0000", "x"])
def test_what_is_no_year_is_refused(text):
    """Likewise."""
    with pytest.raises(ReportError, match="write it as 2026"):
        reporting.year(text, BERLIN)


# --- the section of the plant file ----------------------------------------------


def test_the_sample_has_everything():
    """deploy/plant.toml shows every key, and all of it arrives in SI."""
    told = load(ROOT / "deploy" / "plant.toml", {}).reporting

    assert told.boundary == "after_heat_pump"
    assert told.on_site_meter is True
    assert set(told.facts) == set(reporting.FACTS)
    assert told.facts["installed_it"] == 1.5e6
    assert told.facts["intake_setpoint"] == 27.0
    (meter,) = told.meters
    assert meter.meter.span == 100000
    assert meter.meter.most_per_s == pytest.approx(10 / 3600)
    assert meter.meter.exchanges[0].last == 81234.5
    (paper,) = told.sums
    assert paper.value == pytest.approx(6000 * 3.6e9)
    # A day without a time is the site's: midnight in Berlin.
    assert paper.start == datetime(2025, 12, 31, 23, tzinfo=UTC)


def test_without_a_section_nothing_is_declared(tmp_path):
    """Neither guessed nor required."""
    told = section(tmp_path, "")

    assert told == reporting.Reporting()
    assert told.on_site_meter is None


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ('boundary = "inside"', "reporting.boundary", "off-taker"),
        ("installed_it = 1500", "reporting.installed_it", "1.5 MW"),
        ("dc_name = 'x'", "reporting.dc_name", 'did you mean "dc_id"'),
        ("meter = 3", "reporting.meter", r"[[reporting.meter]]"),
        (
            '[[reporting.meter]]\nof = "gas"\nfile = "a.csv"\nmost = "1 MW"',
            "reporting.meter.gas.of",
            '"water_m3"',
        ),
        (
            '[[reporting.meter]]\nof = "water_m3"\nfile = "a.csv"',
            "reporting.meter.water_m3.most",
            "20 m3/h",
        ),
        (
            '[[reporting.meter]]\nof = "water_m3"\nmost = "9 m3/h"\nunit = "kWh"',
            "reporting.meter.water_m3.unit",
            '"m3"',
        ),
        (
            '[[reporting.entry]]\nof = "water_m3"\nvalue = "9 m3"',
            "reporting.entry.water_m3.from",
            "from, to and value",
        ),
        (
            '[[reporting.entry]]\nof = "water_m3"\nvalue = "9 m3"\n'
            "from = 2026-02-01\nto = 2026-01-01",
            "reporting.entry.water_m3.to",
            "first day that is not in it",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path, text, key, words):
    """Where, what was found, what is right."""
    with pytest.raises(ConfigError) as caught:
        section(tmp_path, text)

    assert key in [problem.key for problem in caught.value.problems]
    assert words in str(caught.value)


# --- entries --------------------------------------------------------------------


def entered(*sums, meters=(), kind="water_m3"):
    """Return what was entered for January 2026."""
    told = reporting.Reporting(sums=sums, meters=meters)
    return reporting.entered(told, kind, JANUARY)


def test_nothing_entered_is_nothing():
    """Not nought cubic metres."""
    assert entered() is None
    assert entered(entry(5.0, 40, 50)) is None
    assert entered(entry(5.0, 0, 31), kind="backup_energy_j") is None


@settings(max_examples=60)
@given(
    st.floats(0.0, 1e6),
    st.integers(-40, 30),
    st.integers(1, 90),
)
def test_a_sum_gives_its_share_by_time(value, start, length):
    """What reaches beyond the month is spread evenly, and is then estimated."""
    found = entered(entry(value, start, start + length))
    inside = min(start + length, 31) - max(start, 0)
    if inside <= 0:
        assert found is None
        return
    assert found.value == pytest.approx(value * inside / length)
    assert found.coverage == pytest.approx(inside / 31)
    assert bool(found.estimated) == (inside < length)


def test_sums_follow_one_another():
    """Two halves of the month are the month; one of them said it was guessed."""
    found = entered(
        entry(30.0, 0, 15), entry(40.0, 15, 31, source="the bill", estimated=True)
    )

    assert found.value == pytest.approx(70.0)
    assert found.coverage == pytest.approx(1.0)
    assert found.estimated == ("the bill: an estimate",)


def water(folder, text, **more):
    """Return a water meter whose readings are these."""
    file = folder / "water.csv"
    file.write_text("time,reading\n" + text, encoding="utf-8")
    meter = reporting.HandRead(
        of="water_m3", file=file, scale=1.0, zone=BERLIN, meter=_meter(**more)
    )
    assert isinstance(meter, HandRead)
    return meter


def _meter(**more):
    from twin.meter import Meter

    return Meter(most_per_s=10 / 3600, patience=timedelta(days=40), **more)


def test_a_meter_read_by_hand(tmp_path):
    """On the first of each month, and it has rolled over in between."""
    rolling = water(tmp_path, "2026-01-01,9800\n2026-02-01,20\n", span=10000.0)
    found = entered(meters=(rolling,))

    assert found.value == pytest.approx(220.0)
    assert found.coverage == pytest.approx(1.0)
    assert found.estimated == ()


def test_two_meters_stand_side_by_side(tmp_path):
    """Together they are as known as the one that is known less."""
    one = water(tmp_path, "2026-01-01,0\n2026-02-01,31\n")
    other = tmp_path / "other.csv"
    other.write_text("time,reading\n2026-01-11,0\n2026-02-01,21\n")
    found = entered(meters=(one, replace(one, file=other)))

    assert found.value == pytest.approx(31.0 + 21.0)
    assert found.coverage == pytest.approx(21 / 31)
    assert found.estimated == ("other.csv: not all of it was read",)


@pytest.mark.parametrize("text", ["", "a,b\n", "2026-01-01,x\n2026-02-01,y\n"])
def test_a_file_that_is_no_meter_is_named(tmp_path, text):
    """With what should stand in it."""
    meter = water(tmp_path, text)
    if not text:
        meter.file.write_text("")
    with pytest.raises(ReportError, match=r"water.csv: no readings .* second the"):
        entered(meters=(meter,))


# --- the books ------------------------------------------------------------------


def test_the_books_hold_the_standard_figures():
    """From the results alone what kpi says of the same flows."""
    found = books()

    assert found.figure("PUE", *kpi.VARIANTS[0]).value == pytest.approx(1540 / 1240)
    assert found.figure("PUE", *kpi.VARIANTS[1]).value == pytest.approx(1800 / 1240)
    assert found.figure("ERF", *kpi.VARIANTS[2]).value == pytest.approx(1040 / 1540)
    # January by Copenhagen's calendar has an hour at either end of another month's.
    assert len(found.site.table) == 31 * 24
    assert found.figure("PUE", *kpi.VARIANTS[0]).coverage == pytest.approx(1.0)
    assert any("boundary" in remark for remark in found.remarks)


def test_where_the_heat_pumps_are_metered_is_not_guessed_twice():
    """Declared outside the site's meter, E_DC changes and no remark is left."""
    told = reporting.Reporting(boundary="handover", on_site_meter=False)
    found = books(told=told)

    assert found.figure("PUE", *kpi.VARIANTS[0]).value == pytest.approx(1800 / 1240)
    assert found.figure("PUE", *kpi.VARIANTS[1]).value == pytest.approx(2060 / 1240)
    assert found.remarks == ()


def test_results_from_before_are_refused_with_the_way_out():
    """The ledger's accounts alone cannot give a PUE."""
    with pytest.raises(ReportError, match="hptwin replay --out"):
        books(results())


def test_a_month_that_is_not_there_is_refused():
    """With what is."""
    with pytest.raises(ReportError, match=r"nothing of May 2031 .* 2025-12-1\d to"):
        reporting.books(metered(), reporting.month("2031-05", ZONE))


@pytest.mark.parametrize(
    ("component", "begins", "figures"),
    [
        ("source_outlet_temp_degc", 10, {"handover"}),
        ("source_inlet_temp_degc,source_outlet_temp_degc", 10, {"handover"}),
        ("sink_flow_m3_s", 10, {"after_heat_pump"}),
        ("source_outlet_temp_degc", -40, set()),
        ("source_outlet_temp_degc", 60, set()),
    ],
)
def test_a_figure_on_a_wrong_instrument_is_estimated(component, begins, figures):
    """Found wrong for five days of the month: measured it is no longer."""
    begin = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=begins)
    wrong = Finding(
        unit="hp1",
        kind=FindingKind.SENSOR,
        component=component,
        since=begin,
        seen=begin + timedelta(days=5),
        size=-4.0,
        low=-4.5,
        high=-3.5,
        sentence="It reads 4 K low.",
        advice="Put it back.",
    )
    span = reporting.month("2026-01", ZONE)
    clean = replace(metered(), findings=())
    for found in (
        reporting.books(replace(clean, findings=(wrong,)), span),
        reporting.books(clean, span, past=[wrong]),
    ):
        erf = [one for one in found.figures if one.name == "ERF"]
        assert {str(one.boundary) for one in erf if one.estimated} == figures
        # Neither PUE nor any other instrument's figure is touched.
        assert not found.figure("PUE", *kpi.VARIANTS[1]).estimated
        for one in erf:
            if one.estimated:
                assert one.quality is kpi.Quality.ESTIMATED
                assert "hp1" in one.estimated[0]


def test_every_kind_has_a_unit_and_a_place():
    """What may be entered is in the books of every period."""
    assert set(books().entries) == set(KINDS)
    assert np.isnan(books().figure("WUE").value)
