"""The bench of the ledger measures what it says it measures.

Its arithmetic, and one short season with a trip; the controls must fail.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest

from twin.ledger import MISSED
from twin.plant import Plant
from twin.service.bench import ledger as bench
from twin.simulate import Fault, FaultKind

HOW = bench.How(days=3, minutes=60)


def few_days(how: bench.How, unit: str) -> tuple[bench.Season, pd.DataFrame]:
    """Three winter days of a district, with a trip of one machine and a gap."""
    patch = pytest.MonkeyPatch()
    plain = bench.scenarios

    def few(seed: int, how: bench.How) -> tuple[Any, Any]:
        new, year = plain(seed, how)
        begin = new.stop + 60 * bench.DAY
        trip = Fault(
            unit=unit,
            kind=FaultKind.TRIP,
            start=begin + timedelta(hours=20),
            end=begin + timedelta(hours=44),
        )
        year = replace(year, start=begin, faults=(trip,))
        return new, year

    patch.setattr(bench, "scenarios", few)
    try:
        one = bench.season(1, how)
    finally:
        patch.undo()
    return one, bench.kept(one)[0]


@pytest.fixture(scope="module")
def short() -> tuple[bench.Season, pd.DataFrame]:
    """Those days of the machines on the racks' loop alone."""
    return few_days(HOW, "hp1")


def kept(row: dict[str, Any]) -> dict[str, bool]:
    """Return the promises of one seed."""
    row = row | {"case": "seed 1", "unit_years": 2 * 3 / 365, "ledger_s": 0.01}
    return bench.promises_of(bench.figures_of([row]))


def test_a_trip_is_told_as_it_was(short: tuple[bench.Season, pd.DataFrame]) -> None:
    """One machine out for a day: its heat within 3 %, under its cause, and closed."""
    one, found = short
    row = bench.compared(one.made, found)

    assert row["true_kwh"] > 1000.0
    assert all(kept(row).values()), (row, kept(row))
    assert row["gap_h"] >= 6.0


@pytest.mark.parametrize(
    ("wrong", "broken"),
    [
        ("half", "missed total within 3 %"),
        ("cause", "95 % of the kWh under the right cause"),
        ("open", "closes to 0.01 %"),
        ("gap", "nothing missed in a gap"),
    ],
)
def test_a_ledger_that_is_wrong_is_caught(
    short: tuple[bench.Season, pd.DataFrame], wrong: str, broken: str
) -> None:
    """Half of the heat, another cause, a joule too many, heat in a gap."""
    one, found = short
    bad = found.copy()
    parts = [*MISSED, "missed_j", "missed_delivered_j"]
    if wrong == "half":
        bad[parts] *= 0.5
    elif wrong == "cause":
        swap = {"missed_unavailable_j": "missed_control_j"}
        swap |= {new: old for old, new in swap.items()}
        bad = bad.rename(columns=swap)
    elif wrong == "open":
        bad["closing_j"] += 2e-4 * bad["it_heat_j"]
    else:
        bad.loc[(bad["unit"] == Plant.SITE) & (bad["gap_s"] > 0.0), "missed_j"] = 1e9
    promises = kept(bench.compared(one.made, bad))

    assert not promises[broken.replace(" %", "%")]


def test_agreement_comes_first_and_every_kwh_has_a_place() -> None:
    """Truth and telling in one interval: 6 agree, 2 change their name, 1 is lost."""
    names = list(bench.CAUSES)
    true = pd.DataFrame(np.zeros((1, len(names))), columns=names)
    told = true.copy()
    true.loc[0, ["unavailable", "sink_hot"]] = [6.0, 3.0]
    told.loc[0, ["unavailable", "control"]] = [6.0, 2.0]

    assert bench.confusion(true, told) == {
        "unavailable": {"unavailable": 6.0},
        "sink_hot": {"control": 2.0, "nothing": 1.0},
    }


def test_years_are_plants_of_their_own_and_hold_every_fault() -> None:
    """Uses take turns; each fault of operation comes three times, apart."""
    years = [bench.scenarios(seed, bench.How())[1] for seed in (1, 2, 3)]

    assert {year.use for year in years} == set(bench.USES)
    assert len({year.start for year in years}) == 3
    for year in years:
        steps = [fault for fault in year.faults if fault.shape == "step"]
        starts = sorted(
            {(f.start, f.end, f.kind) for f in steps}, key=lambda one: one[0]
        )
        assert {kind for *_, kind in starts} == set(bench._SIZES)
        assert len(starts) == 3 * len(bench._SIZES)
        for (_, end, _), (start, _, _) in pairwise(starts):
            assert end is not None
            assert end <= start


def test_a_seed_with_hardly_anything_missed_is_judged_by_its_racks() -> None:
    """1 MWh told too much of 2: no error beside 20 GWh of the racks, one beside 5."""
    row = {
        "true_kwh": 2e3, "told_kwh": 3e3, "agreed_kwh": 2e3, "agreed_by_unit_kwh": 2e3,
        "false_kwh": 0.0, "unwanted_kwh": 0.0, "gap_kwh": 0.0, "gap_h": 6.0,
        "closing": 0.0, "confusion": {"control": {"control": 2e3}}, "unit_years": 2.0,
        "ledger_s": 1.0, "in_band": True, "case": "seed 1",
    }  # fmt: skip
    figures = bench.figures_of([row | {"it_kwh": 2e7}])
    assert figures["off"] == []
    assert figures["unit_year_s"] == 0.5
    assert bench.figures_of([row | {"it_kwh": 5e6}])["off"] == ["seed 1"]
    assert "control" in bench.table(figures)


def test_the_bootstrap_holds_the_ratio_of_sums() -> None:
    """Equal seeds leave no doubt; unlike ones leave some, around the ratio."""
    assert bench.bootstrapped([3.0] * 5, [10.0] * 5) == pytest.approx((0.3, 0.3, 0.3))
    middle, low, high = bench.bootstrapped([1.0, 0.0, 2.0], [10.0, 10.0, 10.0])
    assert low < middle < high
    assert middle == pytest.approx(0.1)


def test_cold_is_laid_beside_the_truth_as_well() -> None:
    """A trip of the machine that cools: most of its cold, under its cause."""
    one, found = few_days(replace(HOW, cold=True), bench.COOLING.id)
    row = bench.compared(one.made, found)
    assert row["true_cold_kwh"] > 300.0
    assert row["agreed_cold_kwh"] > 0.9 * row["true_cold_kwh"]
    assert row["unwanted_cold_kwh"] == 0.0
    assert row["closing"] < 1e-9

    # The control: the same cold under another cause, and half of it.
    swap = {"missed_unavailable_j": "missed_control_j"}
    swap |= {new: old for old, new in swap.items()}
    wrong = bench.compared(one.made, found.rename(columns=swap))
    assert wrong["agreed_cold_kwh"] < 0.1 * row["true_cold_kwh"]
    promises = kept(wrong)
    assert not promises["95% of the cold under the right cause"]
