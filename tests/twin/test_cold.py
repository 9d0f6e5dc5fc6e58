"""Somebody is cooled by a machine's source: cold accounted, valued and missed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from tests.twin.test_ledger import (
    HP1,
    PLANT,
    STEP_S,
    clock,
    kwh,
    line,
    machine,
    unit,
)
from twin import kpi
from twin.finding import FindingKind
from twin.ledger import ACCOUNTS, J_PER_KWH, Cause, account, events, findings
from twin.plant import Consumer, Plant, Use

OFFICES = Consumer(
    id="offices",
    use=Use.COLD,
    points=frozenset({"demand_heat_w", "delivered_heat_w", "return_temp_degc"}),
    cold_price_eur_j=0.045 / J_PER_KWH,
    cold_emission_kg_j=0.10 / J_PER_KWH,
)
# Chilled water of 18 degC is below what HP1 may be given; this one is made for it.
COOLING = replace(HP1, id="hp3", cools=("offices",), source_inlet_min_degc=8.0)
BOTH: Plant = replace(
    PLANT, machines=(HP1, COOLING), consumers=(*PLANT.consumers, OFFICES)
)


def cooled(
    n=1, *, first=400e3, second=0.0, rejected=0.0, demand=600e3, wanted=300e3, **more
):
    """Make a site whose second machine cools offices, from sink heats and demands."""
    second = np.broadcast_to(np.asarray(second, float), n)
    chilled = {"source_inlet_temp_degc": 18.0, "source_outlet_temp_degc": 12.0}
    return {
        "hp1": machine(n, first),
        "hp3": machine(n, second, **(chilled | more)),
        "cooler": unit(n, rejected_heat_w=rejected),
        "network": unit(n, demand_heat_w=demand),
        "offices": unit(
            n,
            demand_heat_w=wanted,
            delivered_heat_w=0.75 * second,
            return_temp_degc=18.0,
        ),
        "site": unit(
            n, it_power_w=0.75 * np.broadcast_to(first, n) + rejected, site_power_w=1e6
        ),
    }


def test_cold_by_hand():
    """The example of docs/ledger.md, "Cold": nothing but a pencil."""
    ledger = account(BOTH, cooled())
    own, whole = line(ledger, "hp3"), line(ledger)
    # 300 kW of cold would have made 400 kW of heat, 200 kW of which nobody delivered.
    assert_allclose(kwh(whole["missed_cold_j"]), 300 / 6)
    assert_allclose(kwh(whole["missed_delivered_j"]), 200 / 6)
    assert_allclose(kwh(own["missed_control_j"]), 300 / 6)
    # 200 x 6 ct + 300 x 4.5 ct - (400 - 200) / 4 x 12 ct
    assert_allclose(whole["missed_cold_eur"], (12.0 + 13.5 - 6.0) / 6)
    assert_allclose(whole["missed_cold_kg"], (40.0 + 30.0 - 15.0) / 6)
    # No heat was thrown away for it, so no account of the site has any.
    assert whole["missed_j"] == 0.0
    assert whole["missed_eur"] == 0.0
    assert kwh(whole["cold_j"]) == 0.0


def test_cold_that_is_handed_over_is_beside_the_racks_heat():
    """Both heats have one account."""
    frames = cooled(second=200e3, wanted=150e3, rejected=100e3)
    whole = line(account(BOTH, frames))
    assert_allclose(kwh(whole["it_heat_j"]), 400 / 6)
    assert_allclose(kwh(whole["cold_j"]), 150 / 6)
    assert_allclose(kwh(whole["recovered_j"]), 450 / 6)
    assert whole["missed_cold_j"] == 0.0
    assert_allclose(
        sum(whole[name] for name in ACCOUNTS), whole["it_heat_j"] + whole["cold_j"]
    )


@pytest.mark.parametrize("basis", ["it_power", "source+rejected"])
def test_the_racks_heat_is_told_without_the_cold(basis):
    """Whatever the racks' heat is read off."""
    frames = cooled(second=200e3, wanted=150e3, rejected=100e3)
    if basis != "it_power":
        frames["site"] = frames["site"].drop(columns="it_power_w")
    ledger = account(BOTH, frames)
    assert ledger.attrs["basis"] == basis
    assert_allclose(kwh(line(ledger)["it_heat_j"]), 400 / 6)
    assert_allclose(line(ledger)["closing_j"], 0.0, atol=1e-3)


def test_what_the_neighbours_made_up_for_is_missed_as_cold_alone():
    """Nobody went without heat."""
    whole = line(account(BOTH, cooled(demand=400e3)))
    assert_allclose(kwh(whole["missed_cold_j"]), 300 / 6)
    assert whole["missed_delivered_j"] == 0.0
    # 300 x 4.5 ct, and the same COP in the neighbour's place: no electricity more.
    assert_allclose(whole["missed_cold_eur"], 13.5 / 6)


def test_cold_needs_somebody_who_takes_its_heat():
    """A machine has two sides."""
    whole = line(account(BOTH, cooled(first=0.0, demand=0.0, rejected=300e3)))
    assert whole["missed_cold_j"] == 0.0
    assert_allclose(kwh(whole["no_demand_j"]), 300 / 6)


@pytest.mark.parametrize("wanted", [0.0, np.nan])
def test_cold_that_nobody_asked_for_is_not_missed(wanted):
    """Nor where nobody knows."""
    assert line(account(BOTH, cooled(wanted=wanted)))["missed_cold_j"] == 0.0


def test_heat_that_is_thrown_away_is_none_of_a_cooling_machine_s():
    """Its source is the offices': the loop's heat is the other machine's to take."""
    frames = cooled(first=200e3, rejected=500e3, wanted=0.0, demand=800e3)
    ledger = account(BOTH, frames)
    assert line(ledger, "hp3")["missed_j"] == 0.0
    assert_allclose(kwh(line(ledger, "hp1")["missed_delivered_j"]), 200 / 6)


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (Cause.UNAVAILABLE, {"available": 0.0}),
        (Cause.OVERRIDE, {"manual_override": 1.0}),
        (Cause.CONTROL, {}),
    ],
)
def test_missed_cold_has_one_cause(cause, told):
    """The same evidence as for heat."""
    own = line(account(BOTH, cooled(**told)), "hp3")
    assert_allclose(own[f"missed_{cause.value}_j"], own["missed_cold_j"])
    others = [f"missed_{one.value}_j" for one in Cause if one is not cause]
    assert own[others].sum() == 0.0


def test_cold_that_costs_more_than_it_is_worth_is_not_missed():
    """It is uneconomic."""
    cheap = replace(OFFICES, cold_price_eur_j=0.0)
    plant = replace(BOTH, consumers=(*PLANT.consumers, cheap))
    dear = replace(plant.tariff, electricity_price_eur_j=1.0 / J_PER_KWH)
    ledger = account(replace(plant, tariff=dear), cooled())
    assert line(ledger)["missed_cold_j"] == 0.0
    assert line(ledger, "hp3")["uneconomic_j"] > 0.0


def test_cold_without_a_price_is_kwh_without_eur():
    """An unknown price is unknown."""
    plant = replace(
        BOTH, consumers=(*PLANT.consumers, replace(OFFICES, cold_price_eur_j=None))
    )
    whole = line(account(plant, cooled()))
    assert_allclose(kwh(whole["missed_cold_j"]), 300 / 6)
    assert np.isnan(whole["missed_cold_eur"])


def test_a_lost_meter_of_cold_is_read_off_the_machine():
    """Its source is his cold."""
    frames = cooled(second=200e3, wanted=150e3)
    frames["offices"] = frames["offices"].drop(columns="delivered_heat_w")
    assert_allclose(kwh(line(account(BOTH, frames))["cold_j"]), 150 / 6)


def test_one_on_the_racks_loop_is_counted_where_he_is_metered():
    """What he adds to the loop, the loop recovers or rejects."""
    plant = replace(PLANT, consumers=(*PLANT.consumers, OFFICES))
    frames = {
        "hp1": machine(1, 400e3),
        "cooler": unit(rejected_heat_w=100e3),
        "network": unit(demand_heat_w=400e3),
        "offices": unit(demand_heat_w=50e3, delivered_heat_w=50e3),
        "site": unit(it_power_w=350e3, site_power_w=500e3),
    }
    whole = line(account(plant, frames))
    assert_allclose(kwh(whole["cold_j"]), 50 / 6)
    assert_allclose(whole["closing_j"], 0.0, atol=1e-3)
    flows = kpi.flows(plant, frames).iloc[0]
    # An eighth of the loop's 400 kW is his, and so an eighth of what is recovered.
    assert_allclose(kwh(flows["source_of_cold_j"]), 300 / 8 / 6)


@settings(max_examples=150)
@given(
    first=st.floats(0.0, 400e3),
    second=st.floats(0.0, 400e3),
    rejected=st.floats(0.0, 600e3),
    demand=st.floats(0.0, 1e6),
    wanted=st.floats(0.0, 500e3),
)
def test_cold_s_laws(first, second, rejected, demand, wanted):
    """Closes; never more cold than was wanted, could be made, or its heat be used."""
    ledger = account(
        BOTH,
        cooled(
            first=first,
            second=second,
            rejected=rejected,
            demand=demand,
            wanted=wanted,
        ),
    )
    whole, own = line(ledger), line(ledger, "hp3")
    heat = whole["it_heat_j"] + whole["cold_j"]
    assert_allclose(sum(whole[name] for name in ACCOUNTS), heat, rtol=1e-12, atol=1e-3)
    missed = own["missed_cold_j"]
    assert_allclose(whole["missed_cold_j"], missed)
    assert missed >= 0.0
    assert missed <= max(wanted - 0.75 * second, 0.0) * STEP_S + 1e-3
    assert missed <= 0.75 * max(400e3 - second, 0.0) * STEP_S + 1e-3
    assert missed <= 0.75 * max(demand - second, 0.0) * STEP_S + 1e-3
    assert_allclose(sum(own[f"missed_{one.value}_j"] for one in Cause), missed)
    # Heat that nobody delivered is missed once, whoever could have.
    both = ledger[ledger["unit"] != "site"]["missed_delivered_j"].sum()
    assert_allclose(whole["missed_delivered_j"], both, atol=1e-6)
    assert both <= max(demand - first - second, 0.0) * STEP_S + 1e-3


def test_a_sentence_says_that_it_is_cold():
    """In events and findings, with the size on the side of the source."""
    ledger = account(BOTH, cooled(144, available=0.0))
    [told] = [one for one in events(ledger) if one.unit == "hp3"]
    assert told.cold
    assert "hp3 could have cooled 7200.0 kWh more and delivered 4800.0 kWh" in (
        told.sentence
    )
    assert "thrown away" not in told.sentence
    now = clock(144)[-1].to_pydatetime()
    [found] = [one for one in findings(ledger, BOTH, now) if one.unit == "hp3"]
    assert found.kind is FindingKind.MISSED_RECOVERY
    assert found.component == "unavailable"
    assert_allclose(found.size, 1.0)
    assert_allclose(found.energy_j_day, 7200.0 * J_PER_KWH)
    assert "has not cooled 7,200 kWh that were wanted" in found.sentence


def test_what_is_cooled_is_no_heat_of_the_data_centre_s():
    """ERF and its like leave out what came from the offices; the value does not."""
    frames = cooled(144, second=200e3, wanted=150e3, rejected=100e3)
    flows = kpi.flows(BOTH, frames)
    span = (pd.Timestamp("2026-01-05", tz="UTC"), pd.Timestamp("2026-01-06", tz="UTC"))
    site = kpi.within(flows, *(one.to_pydatetime() for one in span))
    told = {(one.name, one.boundary): one for one in kpi.standard(site)}
    reuse = told["ERF", kpi.Boundary.HANDOVER]
    assert_allclose(reuse.value, 300e3 / (1e6 - 150e3))
    combined = told["COP_combined", None]
    assert_allclose(combined.value, (400e3 + 200e3 + 150e3) / 150e3)
    row = flows.iloc[0]
    hours = STEP_S / 3600.0
    assert_allclose(
        row["recovered_eur"],
        (600 * 0.06 + 150 * 0.045 - 150 * 0.12) * hours,
    )
    without = kpi.standard(
        kpi.within(
            kpi.flows(
                PLANT,
                {
                    name: frame
                    for name, frame in frames.items()
                    if name not in ("hp3", "offices")
                },
            ),
            *(one.to_pydatetime() for one in span),
        )
    )
    assert "COP_combined" not in {one.name for one in without}
