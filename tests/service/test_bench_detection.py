"""The bench of detection counts what it says it counts.

The bench's arithmetic, and one small plant.
"""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

import pytest

from twin.service.bench import detection
from twin.service.bench.detection import CASES, HEALTHY, How
from twin.simulate import FaultKind, simulate


def test_shares_and_rates_have_their_textbook_intervals() -> None:
    """None in twenty is below 16.8 %; no event in a year is below 3.69 a year."""
    assert detection.share(0, 20) == pytest.approx((0.0, 0.0, 0.1684), abs=1e-4)
    assert detection.share(20, 20) == pytest.approx((1.0, 0.8316, 1.0), abs=1e-4)
    assert detection.rate(0, 1.0) == pytest.approx((0.0, 0.0, 3.6889), abs=1e-4)
    assert detection.rate(4, 2.0) == pytest.approx((2.0, 0.545, 5.1208), abs=1e-3)
    assert math.isnan(detection.share(0, 0)[0])


@pytest.mark.parametrize("name", ["condenser -10 %"])
def test_what_is_called_ten_per_cent_is_ten_per_cent(name: str) -> None:
    """The truth after planting is the share that the case is named after."""
    scenario, begins = detection.plant(name, 7, How())
    (fault,) = scenario.faults
    assert fault.start == begins
    assert fault.kind is CASES[name].kind
    lost = 1.0 - detection.ratio_left(fault, simulate(scenario))
    assert lost == pytest.approx(CASES[name].size, abs=0.003)


def test_every_case_can_be_planted_and_is_a_plant_of_its_own() -> None:
    """All begin after the reference, and the healthy one has nothing wrong."""
    kinds = set()
    for name in CASES:
        if CASES[name].kind in detection._CONDUCTANCE:
            continue
        scenario, begins = detection.plant(name, 3, How())
        assert begins is not None
        assert begins > scenario.start + scenario.reference_length
        assert scenario.stop >= begins + timedelta(days=detection.AFTER_DAYS)
        kinds.add(scenario.faults[0].kind)
        assert detection.plant(name, 4, How())[0].start != scenario.start
    assert FaultKind.STRAINER in kinds
    scenario, begins = detection.plant(HEALTHY, 3, How(healthy_days=10))
    assert begins is None
    assert scenario.faults == ()


def test_a_line_of_the_curve_counts_late_and_missing_findings() -> None:
    """Four plants: in time, late, never, and in time beside a wrong name."""
    found = {"refused": [], "found": True, "exact": True, "others": []}
    found |= {"alone": True, "wrong": False, "honest": True}
    nothing = {"delay": None, "found": False, "exact": False}
    rows = [
        found | {"delay": 3.0},
        found | {"delay": 20.0},
        found | nothing | {"alone": False, "honest": False},
        found
        | {"delay": 5.0, "alone": False, "wrong": True, "honest": False}
        | {"others": ["hp1/fouling/evaporator"]},
    ]
    told = detection.figures_of("condenser -10 %", rows)
    assert told["found"][0] == 0.75
    assert told["in_time"][0] == 0.5
    assert told["alone"][0] == told["honest"][0] == 0.5
    assert told["wrong"][0] == 0.25
    assert told["right"][0] == pytest.approx(2 / 3)
    assert (told["delay_50%"], told["delay_90%"]) == (5.0, None)
    assert told["others"] == {"hp1/fouling/evaporator": 1}
    assert not all(detection.promises_of("condenser -10 %", told).values())
    assert "condenser -10 %" in detection.table({"condenser -10 %": told})
    blind = detection.promises_of("condenser -10 %", told, "water")
    assert list(blind.values()) == [False]
    late = detection.figures_of(
        "condenser 5 % a year", [found | {"delay": 99.0, "cop_lost": 0.031}] * 2
    )
    assert late["in_time"][0] == 0.0
    assert late["cop_lost"] == [0.031, 0.031]
    quiet = [{"refused": [], "healthy_days": 365.0, "false": [], "false_sensor": []}]
    healthy = detection.figures_of(HEALTHY, quiet * 4)
    assert healthy["false_per_year"][0] == 0.0
    assert all(detection.promises_of(HEALTHY, healthy).values())
    noisy = [quiet[0] | {"false": ["hp1/condenser 2026-01-01"]}]
    loud = detection.figures_of(HEALTHY, noisy * 4)
    assert not all(detection.promises_of(HEALTHY, loud).values())


def test_a_stuck_probe_is_watched_as_it_would_be_beside_the_plant() -> None:
    """A week's reference and a quiet day without any alarm; then one, of the probe."""
    off = "probe off by 0.3 K"
    scenario, _ = detection.plant(off, 5, How(instruments="pressures"))
    start = scenario.start + timedelta(days=8)
    (fault,) = (
        replace(fault, start=start, kind=FaultKind.SENSOR_STUCK)
        for fault in scenario.faults
    )
    short = replace(
        scenario,
        length=timedelta(days=10),
        reference_length=timedelta(days=7),
        step=timedelta(minutes=30),
        faults=(fault,),
    )
    raised, standing, refused = detection.watched(simulate(short))
    assert refused == []
    assert [r.component for r in raised] == [fault.component]
    assert raised[0].time > start
    assert len(standing) == 1
