"""Every joule has one account, and only wanted, thrown-away heat is missed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from twin.finding import FindingKind
from twin.ledger import (
    ACCOUNTS,
    CAPACITY_UNKNOWN,
    COLUMNS,
    DEMAND_UNKNOWN,
    GAP,
    J_PER_KWH,
    MISSED,
    NOT_METERED,
    Agreement,
    Cause,
    account,
    agreement,
    events,
    findings,
    full_load_conditions,
    missed,
    model_capacity,
)
from twin.plant import (
    Consumer,
    Exchanger,
    Machine,
    Nameplate,
    Plant,
    Rejector,
    Tariff,
    Use,
)
from twin.states import derive_exchanger

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
STEP_S = 600.0
NAN = float("nan")

# COP 4: three of four delivered joules come from the source.
PLATE = Nameplate(
    sink_heat_w=400e3,
    power_w=100e3,
    source_inlet_temp_degc=35.0,
    source_outlet_temp_degc=28.0,
    sink_inlet_temp_degc=50.0,
    sink_outlet_temp_degc=60.0,
    speed_hz=50.0,
)
POINTS = frozenset({"available", "manual_override", "compressor_speed_hz"})
HP1 = Machine(
    id="hp1",
    refrigerant="R1234ze(E)",
    nameplate=PLATE,
    points=POINTS,
    sink_outlet_max_degc=75.0,
    source_inlet_min_degc=20.0,
)
HP2 = replace(HP1, id="hp2")
NETWORK = Consumer(id="network", points=frozenset({"demand_heat_w"}))
PLANT = Plant(
    name="hall",
    machines=(HP1,),
    rejectors=(Rejector(id="cooler"),),
    consumers=(NETWORK,),
    tariff=Tariff(
        electricity_price_eur_j=0.12 / J_PER_KWH,
        heat_price_eur_j=0.06 / J_PER_KWH,
        electricity_emission_kg_j=0.30 / J_PER_KWH,
        heat_emission_kg_j=0.20 / J_PER_KWH,
        emission_source="test",
    ),
)


def clock(n, start="2026-01-05 00:10"):
    """Name the intervals' ends."""
    return pd.date_range(start, periods=n, freq="10min", tz="UTC", name="time")


def unit(n=1, **columns):
    """Make one unit's frame from its columns."""
    return pd.DataFrame(
        {name: np.broadcast_to(np.asarray(v, float), n) for name, v in columns.items()},
        index=clock(n),
    )


def machine(n=1, sink=0.0, **more):
    """Frame of a machine that moves some sink heat at its nameplate's COP."""
    sink = np.broadcast_to(np.asarray(sink, float), n)
    on = np.where(np.isnan(sink), NAN, (sink > 0).astype(float))
    told = {
        "source_heat_w": 0.75 * sink,
        "sink_heat_w": sink,
        "compressor_power_w": 0.25 * sink,
        "compressor_running": on,
        "compressor_speed_hz": 50.0 * on,
        "available": 1.0,
        "manual_override": 0.0,
        "source_inlet_temp_degc": 35.0,
        "source_outlet_temp_degc": 28.0,
        "sink_inlet_temp_degc": 50.0,
        "sink_outlet_temp_degc": 60.0,
    }
    return unit(n, **(told | more))


def site(n=1, sink=0.0, rejected=300e3, demand=400e3, *, hp=None, cooler=None, **net):
    """Make a site of one machine, one cooler and one network."""
    return {
        "hp1": machine(n, sink, **(hp or {})),
        "cooler": unit(n, rejected_heat_w=rejected, **(cooler or {})),
        "network": unit(n, demand_heat_w=demand, **net),
    }


def line(ledger, name="site", row=0):
    """Pick one line of one unit."""
    return ledger[ledger["unit"] == name].iloc[row]


def kwh(value):
    """Read joules as kWh."""
    return float(value) / J_PER_KWH


# --- the worked example of docs/ledger.md -------------------------------------


def test_worked_example():
    """The example in docs/ledger.md, worked by hand there, digit by digit."""
    frames = site(
        sink=200e3,
        rejected=240e3,
        demand=360e3,
        hp={"compressor_speed_hz": 25.0, "compressor_power_w": 50e3},
        cooler={"fan_power_w": 4.8e3},
    )
    frames["site"] = unit(it_power_w=400e3)
    ledger = account(PLANT, frames)
    row = line(ledger)

    assert row["basis"] == "it_power"
    assert kwh(row["it_heat_j"]) == pytest.approx(400 / 6)
    assert kwh(row["recovered_j"]) == pytest.approx(150 / 6)
    assert kwh(row["rejected_j"]) == pytest.approx(240 / 6)
    assert kwh(row["potential_j"]) == pytest.approx(360 / 6)
    assert kwh(row["missed_delivered_j"]) == pytest.approx(160 / 6)
    assert kwh(row["missed_control_j"]) == pytest.approx(120 / 6)
    assert kwh(row["no_demand_j"]) == pytest.approx(120 / 6)
    assert kwh(row["closing_j"]) == pytest.approx(10 / 6)
    # 160 kW x 6 ct - 40 kW x 12 ct + 120 kW x 2 % fans x 12 ct, for ten minutes
    assert row["missed_eur"] == pytest.approx((9.6 - 4.8 + 0.288) / 6)
    assert row["missed_kg"] == pytest.approx((32.0 - 12.0 + 0.72) / 6)
    eur = missed(ledger).eur
    assert (round(eur.p10, 3), round(eur.p90, 3)) == (0.770, 0.926)


# --- laws ---------------------------------------------------------------------

watts = st.floats(0.0, 1.5e6) | st.sampled_from([0.0, NAN, 1.0, 4e5])
signed = st.floats(-5e4, 1.5e6) | st.sampled_from([NAN, 0.0])
ratios = st.sampled_from([0.0, 0.5, 1.0, NAN])
temps = st.floats(-5.0, 90.0) | st.just(NAN)
ROWS = 4


def rows(of):
    """Draw a column."""
    return st.lists(of, min_size=ROWS, max_size=ROWS)


@st.composite
def sites(draw):
    """Two machines that share work, or not; anything measured, or not."""
    feeds = draw(st.sampled_from([(), ("network",), ("pool",), ("network", "pool")]))
    plant = replace(
        PLANT,
        machines=(HP1, replace(HP2, consumers=feeds)),
        consumers=(NETWORK, Consumer(id="pool", supply_temp_degc=70.0)),
        rejectors=PLANT.rejectors if draw(st.booleans()) else (),
    )
    frames = {}
    for name in ("hp1", "hp2"):
        frames[name] = machine(
            ROWS,
            draw(rows(signed)),
            source_heat_w=draw(rows(signed)),
            compressor_running=draw(rows(ratios)),
            available=draw(rows(ratios)),
            manual_override=draw(rows(ratios)),
            source_inlet_temp_degc=draw(rows(temps)),
            sink_inlet_temp_degc=draw(rows(temps)),
            sink_setpoint_degc=draw(rows(temps)),
        )
    frames["cooler"] = unit(ROWS, rejected_heat_w=draw(rows(signed)))
    for name in ("network", "pool"):
        wanted = draw(rows(watts | st.just(float("inf"))))
        frames[name] = unit(
            ROWS, demand_heat_w=wanted, supply_setpoint_degc=draw(rows(temps))
        )
    if draw(st.booleans()):
        frames["site"] = unit(
            ROWS,
            it_power_w=draw(rows(watts)),
            electricity_price_eur_j=draw(rows(st.floats(-1e-7, 2e-7))),
        )
    able = {
        name: unit(
            ROWS,
            expected_sink_heat_w=draw(rows(watts)),
            reference_cop=draw(rows(st.floats(0.5, 9.0) | st.just(NAN))),
            current_sink_heat_w=draw(rows(watts)),
        )
        for name in ("hp1", "hp2")
    }
    return plant, frames, able


@settings(max_examples=50, deadline=None)
@given(sites())
def test_closes_in_every_interval(drawn):
    """The accounts sum to what was measured, whatever was measured."""
    plant, frames, able = drawn
    ledger = account(plant, frames, able)
    lines = ledger[(ledger["unit"] == "site") & (ledger["gap_s"] == 0.0)]
    accounts = lines[list(ACCOUNTS)]

    assert accounts.notna().all().all()
    largest = accounts.abs().max(axis=1).clip(lower=1.0)
    error = (accounts.sum(axis=1) - lines["it_heat_j"]).abs()
    assert (error <= 1e-9 * largest).all()
    # And the cooler's heat is shared out, not invented: all but the threshold.
    thrown = lines["rejected_j"].fillna(0.0).clip(lower=0.0)
    shared = accounts.drop(columns=["recovered_j", "closing_j"]).sum(axis=1)
    assert (shared <= thrown * (1 + 1e-9) + 1e-3).all()


@settings(max_examples=50, deadline=None)
@given(sites())
def test_nothing_is_negative_and_causes_exclude_each_other(drawn):
    """One cause per machine and interval, but for what degradation leaves over."""
    ledger = account(*drawn)
    lines = ledger[ledger["gap_s"] == 0.0]
    assert not (lines[[*MISSED, *ACCOUNTS[1:6]]] < 0.0).any().any()
    missed = lines[list(MISSED)].sum(axis=1)
    assert_allclose(missed, lines["missed_j"].fillna(0.0), rtol=1e-9, atol=1e-3)

    alone = ledger[ledger["unit"] != "site"]
    several = (alone[list(MISSED)] > 0.0).sum(axis=1) > 1
    rest = alone.loc[several].drop(
        columns=["missed_degradation_j", "missed_unexplained_j"]
    )
    assert (
        not (
            rest.filter(regex="^missed_[a-z]+(_[a-z]+)?_j$")[
                [c for c in rest if c in MISSED]
            ]
            > 0.0
        )
        .any()
        .any()
    )


@settings(max_examples=50, deadline=None)
@given(sites())
def test_machines_sum_to_the_site(drawn):
    """What is missed on the site is missed by a machine, no more and no less."""
    ledger = account(*drawn)
    for name in (*MISSED, "missed_delivered_j", "out_of_reach_j", "uneconomic_j"):
        alone = ledger[ledger["unit"] != "site"].groupby("time")[name].sum()
        whole = ledger[ledger["unit"] == "site"].set_index("time")[name].fillna(0.0)
        assert_allclose(alone, whole, rtol=1e-9, atol=1e-3)


@settings(max_examples=50, deadline=None)
@given(sites())
def test_nothing_missed_without_demand_rejection_or_data(drawn):
    """A gap, an unknown or met demand, an idle cooler: none of these is missed heat."""
    plant, frames, able = drawn
    ledger = account(plant, frames, able)
    lines = ledger[ledger["unit"] == "site"].set_index("time")
    sink = frames["hp1"]["sink_heat_w"] + frames["hp2"]["sink_heat_w"]
    wanted = frames["network"]["demand_heat_w"] + frames["pool"]["demand_heat_w"]
    thrown = frames["cooler"]["rejected_heat_w"]
    barred = (wanted <= sink.fillna(0.0)) | ~(thrown > 0.0) | (lines["gap_s"] > 0.0)
    barred |= not plant.rejectors
    missed = lines["missed_j"].fillna(0.0)

    assert not (missed[barred] > 0.0).any()
    assert lines.loc[lines["gap_s"] > 0.0, list(ACCOUNTS)].isna().all().all()
    # Nor can more be missed than was thrown away.
    assert (missed <= STEP_S * thrown.fillna(0.0).clip(lower=0.0) * (1 + 1e-9)).all()


@given(st.floats(1e4, 1e6), st.floats(1e4, 2e6), st.floats(1.5, 8.0))
@settings(max_examples=60, deadline=None)
def test_potential_is_the_least_of_the_three(thrown, wanted, cop):
    """Capacity, demand, heat on offer: a stopped machine misses the least of them."""
    able = {"hp1": unit(expected_sink_heat_w=400e3, reference_cop=cop)}
    row = line(account(PLANT, site(rejected=thrown, demand=wanted), able))
    least = min(400e3, wanted, thrown * cop / (cop - 1.0))
    counts = thrown > 0.02 * 400e3
    gain = 0.06 - 0.12 / cop
    starts = wanted >= 0.4 * 400e3  # no machine starts for less
    missed = least if counts and gain >= 0.0 and starts else 0.0

    assert row["missed_delivered_j"] == pytest.approx(STEP_S * missed, rel=1e-9)
    if counts and starts:
        assert row["potential_j"] == pytest.approx(STEP_S * least, rel=1e-9)


# --- which account ------------------------------------------------------------


@pytest.mark.parametrize(
    ("cause", "hp", "net"),
    [
        ("unavailable", {"available": 0.0, "manual_override": 1.0}, {}),
        ("override", {"manual_override": 1.0}, {}),
        (
            "source_cold",
            {"source_inlet_temp_degc": 15.0, "source_flow_m3_s": 0.01},
            {},
        ),
        ("sink_hot", {"sink_inlet_temp_degc": 74.0, "sink_flow_m3_s": 0.009}, {}),
        ("sink_hot", {}, {"return_temp_degc": 74.0}),
        ("hydraulics", {"sink_pump_power_w": 2e3, "sink_flow_m3_s": 0.0}, {}),
        ("control", {}, {}),
        ("unexplained", {"available": NAN}, {}),
    ],
)
def test_a_standing_machine_has_one_cause(cause, hp, net):
    """The first cause in order of priority takes all; no evidence, no cause."""
    frames = site(hp=hp, cooler={"rejector_inlet_temp_degc": 34.0}, **net)
    row = line(account(PLANT, frames), "hp1")

    assert row[f"missed_{cause}_j"] == pytest.approx(STEP_S * 300e3)
    assert row["missed_j"] == pytest.approx(STEP_S * 300e3)


@pytest.mark.parametrize(
    ("cause", "hp"),
    [
        ("control", {"compressor_speed_hz": 30.0}),
        ("control", {"sink_setpoint_degc": 55.0}),
        ("control", {"compressor_running": 0.5}),
        (
            "hydraulics",
            {"sink_flow_m3_s": 0.004, "sink_outlet_temp_degc": 67.0},
        ),
        ("unexplained", {}),
    ],
)
def test_a_running_machine_has_one_cause(cause, hp):
    """Part load, a low set-point, cycling, starvation; flat out shows nothing."""
    frames = site(sink=240e3, hp=hp, supply_setpoint_degc=60.0)
    row = line(account(PLANT, frames), "hp1")

    assert row[f"missed_{cause}_j"] == pytest.approx(STEP_S * 120e3)


def test_degradation_takes_its_share_only():
    """A machine flat out: what the models say it lost, and the rest unexplained."""
    able = {
        "hp1": unit(
            expected_sink_heat_w=400e3, reference_cop=4.0, current_sink_heat_w=360e3
        )
    }
    row = line(account(PLANT, site(sink=320e3), able), "hp1")

    assert row["missed_degradation_j"] == pytest.approx(STEP_S * 30e3)
    assert row["missed_unexplained_j"] == pytest.approx(STEP_S * 30e3)


def test_evidence_from_elsewhere_keeps_its_rank():
    """A store's controller may testify; a trip still comes first."""
    told = {"hp1": pd.DataFrame({"storage": [True]}, index=clock(1))}
    stored = line(account(PLANT, site(hp={"available": NAN}), evidence=told))
    tripped = line(account(PLANT, site(hp={"available": 0.0}), evidence=told))

    assert stored["missed_storage_j"] > 0.0
    assert tripped["missed_storage_j"] == 0.0
    assert tripped["missed_unavailable_j"] > 0.0


def test_a_store_is_demand():
    """Headroom raises the potential of a satisfied consumer."""
    frames = site(demand=0.0)
    room = {"network": pd.Series([80e3], index=clock(1))}

    assert line(account(PLANT, frames))["missed_j"] == 0.0
    row = line(account(PLANT, frames, headroom=room))
    assert row["missed_delivered_j"] == pytest.approx(STEP_S * 80e3)


def test_no_demand_is_not_missed():
    """Heat that nobody wants is kept apart, and is no finding."""
    ledger = account(PLANT, site(demand=0.0))

    assert line(ledger)["no_demand_j"] == pytest.approx(STEP_S * 300e3)
    assert findings(ledger, PLANT, datetime(2026, 1, 6, tzinfo=UTC)) == []


def test_a_consumer_hotter_than_the_envelope_is_out_of_reach():
    """80 degC is more than the machine may make: nobody's fault."""
    row = line(account(PLANT, site(supply_setpoint_degc=80.0)))

    assert row["out_of_reach_j"] == pytest.approx(STEP_S * 300e3)
    assert row["missed_j"] == 0.0


def test_heat_colder_than_the_envelope_is_out_of_reach():
    """Cold heat on offer is out of reach; warm heat that arrives cold is missed."""
    row = line(account(PLANT, site(cooler={"rejector_inlet_temp_degc": 15.0})))

    assert row["out_of_reach_j"] == pytest.approx(STEP_S * 300e3)
    assert row["missed_j"] == 0.0


def test_dear_electricity_makes_it_uneconomic():
    """At 30 ct for electricity and 6 ct for heat, COP 4 does not pay."""
    frames = site()
    frames["site"] = unit(electricity_price_eur_j=0.30 / J_PER_KWH)
    row = line(account(PLANT, frames))

    assert row["uneconomic_j"] == pytest.approx(STEP_S * 300e3)
    assert row["missed_j"] == 0.0


def test_beyond_the_machines_is_nobody_s_cause():
    """Demand and heat beyond the reference capacity want another machine."""
    row = line(account(PLANT, site(sink=400e3, demand=2e6)))

    assert row["missed_j"] == 0.0
    assert row["beyond_capacity_j"] == pytest.approx(STEP_S * 300e3)


def test_unknown_demand_is_said_and_nothing_is_missed():
    """Neither metered nor configured: unknown, which is not zero and not missed."""
    frames = site()
    del frames["network"]["demand_heat_w"]
    row = line(account(PLANT, frames))

    assert row["note"] == DEMAND_UNKNOWN
    assert row["missed_j"] == 0.0
    assert row["unknown_j"] == pytest.approx(STEP_S * 300e3)
    assert np.isnan(row["potential_j"])


def test_a_configured_demand_counts():
    """The negative control of the one above: a constant demand is a demand."""
    plant = replace(PLANT, consumers=(replace(NETWORK, demand_heat_w=400e3),))
    frames = site()
    del frames["network"]["demand_heat_w"]

    assert line(account(plant, frames))["missed_j"] == pytest.approx(STEP_S * 300e3)


def test_cold_is_no_demand_for_heat():
    """A consumer of cold does not make the condenser's heat wanted."""
    plant = replace(PLANT, consumers=(replace(NETWORK, use=Use.COLD),))

    assert line(account(plant, site()))["note"] == DEMAND_UNKNOWN


def test_an_unmetered_cooler_proves_nothing():
    """Without a meter on the rejected heat it says so and calls nothing missed."""
    frames = site()
    del frames["cooler"]
    row = line(account(PLANT, frames))

    assert row["note"] == NOT_METERED
    assert row["basis"] == "source"
    assert row["missed_j"] == 0.0
    assert np.isnan(row["rejected_j"])


def test_an_unknown_capacity_is_said():
    """No reference answer: what is thrown away while wanted stays unknown."""
    row = line(account(PLANT, site(), {}))

    assert row["note"] == CAPACITY_UNKNOWN
    assert row["missed_j"] == 0.0
    assert row["unknown_j"] == pytest.approx(STEP_S * 300e3)


def test_a_gap_is_hours_not_zero_kwh():
    """Missing rows and NaN rows are time without an account."""
    frames = site(4, sink=200e3)
    frames["hp1"].iloc[1] = NAN
    frames = {name: frame.drop(frame.index[2]) for name, frame in frames.items()}
    ledger = account(PLANT, frames)
    own = ledger[ledger["unit"] == "site"]

    assert own["gap_s"].tolist() == [0.0, 600.0, 600.0, 0.0]
    assert own["note"].tolist()[1:3] == [GAP, GAP]
    assert own.iloc[1:3][["it_heat_j", *ACCOUNTS]].isna().all().all()


def test_standstill_is_no_gap():
    """A machine known to stand still moves no heat, though derive() abstains."""
    frames = site(hp={"sink_heat_w": NAN, "source_heat_w": NAN})

    assert line(account(PLANT, frames))["gap_s"] == 0.0


def test_rejection_within_the_meter_s_noise_proves_nothing():
    """10 kW off 0.5 K at 0.1 m3/s is within twice the meter's uncertainty."""
    noisy = site(rejected=40e3, cooler={"rejector_flow_m3_s": 0.1})
    clear = site(rejected=40e3, cooler={"rejector_flow_m3_s": 0.001})

    assert line(account(PLANT, noisy))["missed_j"] == 0.0
    assert line(account(PLANT, noisy))["closing_j"] == pytest.approx(STEP_S * 40e3)
    assert line(account(PLANT, clear))["missed_j"] == pytest.approx(STEP_S * 40e3)


def test_machines_share_the_work():
    """The one flat out is never blamed for its tripped neighbour."""
    plant = replace(PLANT, machines=(HP1, HP2))
    frames = site(sink=400e3, demand=800e3)
    frames["hp2"] = machine(available=0.0)
    ledger = account(plant, frames)

    assert line(ledger, "hp1")["missed_j"] == 0.0
    assert line(ledger, "hp2")["missed_unavailable_j"] == pytest.approx(STEP_S * 300e3)


def test_a_fault_of_its_own_comes_before_part_load():
    """Two at half load, one starved: what the other could make up is not its fault."""
    plant = replace(PLANT, machines=(HP1, HP2))
    frames = site(sink=200e3, demand=600e3, hp={"compressor_speed_hz": 25.0})
    frames["hp2"] = machine(
        sink=200e3,
        compressor_speed_hz=25.0,
        sink_flow_m3_s=0.003,
        sink_outlet_temp_degc=66.0,
    )
    ledger = account(plant, frames)

    assert line(ledger, "hp1")["missed_j"] == 0.0
    assert line(ledger, "hp2")["missed_hydraulics_j"] == pytest.approx(STEP_S * 150e3)


def test_potential_is_shared_by_capacity():
    """Each of two equal machines has half of what both could have delivered."""
    plant = replace(PLANT, machines=(HP1, HP2))
    frames = site(sink=300e3, demand=500e3)
    frames["hp2"] = machine(available=0.0)
    ledger = account(plant, frames)

    assert line(ledger, "hp1")["potential_j"] == pytest.approx(STEP_S * 250e3)
    assert line(ledger, "hp2")["potential_j"] == pytest.approx(STEP_S * 250e3)
    assert line(ledger)["potential_j"] == pytest.approx(STEP_S * 500e3)


def test_two_meters_that_nearly_agree_miss_nothing():
    """A shortage of half a per cent is the meters'; of five per cent it is ours."""
    near = line(account(PLANT, site(sink=300e3, demand=301.5e3)))
    far = line(account(PLANT, site(sink=300e3, demand=315e3)))

    assert near["missed_j"] == 0.0
    assert near["no_demand_j"] == pytest.approx(STEP_S * 300e3)
    assert far["missed_delivered_j"] == pytest.approx(STEP_S * 15e3)


def met(days, ratio, **more):
    """Days on which the machine follows a demand that its meter reads otherwise."""
    n = 144 * days
    sink = 250e3 + 50e3 * np.sin(np.arange(n) / 20.0)
    slow = {"compressor_speed_hz": 30.0} | more
    return site(n, sink=sink, demand=ratio * sink, hp=slow)


@given(st.floats(0.95, 1.05), st.integers(1, 3))
@settings(max_examples=10, deadline=None)
def test_meters_that_see_the_same_heat_tell_how_they_differ(ratio, days):
    """While the demand is met, their ratio is known; then a shortage is the middle."""
    known = agreement(PLANT, met(days, ratio), {})
    known = agreement(PLANT, met(days, ratio), known)
    assert known["hp1"].log_ratio == pytest.approx(np.log(ratio), abs=1e-9)

    frames = site(sink=300e3, demand=ratio * 330e3, hp={"compressor_speed_hz": 40.0})
    row = line(account(PLANT, frames, agreement=known))
    assert row["missed_delivered_j"] == pytest.approx(STEP_S * 30e3 * ratio**0.5)


def test_meters_are_not_compared_where_the_demand_may_be_short():
    """Flat out, stopped and started, or far apart: nothing is learnt of the meters."""
    for frames in (
        met(2, 1.02, compressor_speed_hz=50.0),
        met(2, 1.02, compressor_running=np.arange(288) % 2.0),
        met(2, 1.2),
        {unit: frame for unit, frame in met(2, 1.02).items() if unit != "network"},
    ):
        assert agreement(PLANT, frames, {}) == {}
    short = agreement(PLANT, {u: f.iloc[:12] for u, f in met(1, 1.02).items()}, {})
    assert not short["hp1"].compared
    assert short["hp1"].known == 0.0


def test_one_that_is_flat_out_is_short_of_however_little():
    """Of meters known to agree half a per cent counts, of a machine flat out."""
    known = {"hp1": Agreement(0.0, 100.0)}
    frames = site(sink=300e3, demand=301.5e3)
    slow = site(sink=300e3, demand=301.5e3, hp={"compressor_speed_hz": 40.0})

    flat_out = line(account(PLANT, frames, agreement=known))
    assert flat_out["missed_delivered_j"] == pytest.approx(STEP_S * 1.5e3)
    assert line(account(PLANT, slow, agreement=known))["missed_j"] == 0.0


def test_a_small_demand_s_liquid_is_no_fault():
    """Half the flow and a wide spread at the set point, a neighbour held too low."""
    plant = replace(PLANT, machines=(HP1, HP2))
    frames = site(
        sink=200e3,
        demand=500e3,
        supply_setpoint_degc=65.0,
        hp={"compressor_speed_hz": 25.0, "sink_setpoint_degc": 60.0},
    )
    frames["hp2"] = machine(
        sink=200e3,
        compressor_speed_hz=25.0,
        sink_flow_m3_s=0.0035,
        sink_outlet_temp_degc=65.0,
    )
    ledger = account(plant, frames)

    assert line(ledger, "hp2")["missed_j"] == 0.0
    assert line(ledger, "hp1")["missed_control_j"] == pytest.approx(STEP_S * 75e3)


def test_a_return_too_hot_for_the_lift_is_named():
    """Four kelvin to the consumer's 60 degC: the flow cannot carry the heat."""
    hot = site(sink=100e3, hp={"sink_inlet_temp_degc": 56.0}, supply_setpoint_degc=60.0)

    assert line(account(PLANT, hot))["missed_sink_hot_j"] > 0.0


def test_less_than_a_machine_s_least_wants_a_smaller_one():
    """100 kW of 400 start no machine; a running one, or a store, could have had it."""
    small = line(account(PLANT, site(demand=100e3)))
    slow = {"compressor_speed_hz": 20.0}
    runs = line(account(PLANT, site(sink=50e3, demand=100e3, hp=slow)))
    room = {"network": pd.Series([1e3], index=clock(1))}
    store = line(account(PLANT, site(demand=100e3), headroom=room))

    assert small["missed_j"] == 0.0
    assert small["beyond_capacity_j"] == pytest.approx(STEP_S * 75e3)
    assert runs["missed_delivered_j"] == pytest.approx(STEP_S * 50e3)
    assert store["missed_delivered_j"] == pytest.approx(STEP_S * 101e3)


def test_one_that_started_runs_on_for_somewhat_less():
    """160 kW start it, 140 keep it running, 130 do not; 140 alone start nothing."""
    wanted = np.array([160e3, 140e3, 130e3, 140e3])
    books = account(PLANT, site(4, demand=wanted))
    missed = [line(books, row=i)["missed_delivered_j"] for i in range(4)]

    assert missed == pytest.approx([STEP_S * 160e3, STEP_S * 140e3, 0.0, 0.0])


def test_a_start_first_warms_the_machine():
    """The heat of one start is nobody's fault; starts without end are the control's."""
    once = account(PLANT, site(3, sink=np.array([0.0, 200e3, 200e3])))
    often = account(PLANT, site(4, sink=np.array([0.0, 200e3, 0.0, 200e3])))
    missed = [line(once, row=i)["missed_j"] for i in range(3)]

    assert missed[0] > 0.0
    assert missed[1] == 0.0
    assert missed[2] == pytest.approx(STEP_S * 150e3)
    assert line(often, row=1)["missed_j"] == 0.0
    assert line(often, row=3)["missed_j"] > 0.0


@pytest.mark.parametrize(
    ("cause", "outlet", "flow"),
    [("hydraulics", 60.0, 0.006), ("control", 56.0, 0.006), ("control", 56.0, 0.0097)],
)
def test_at_its_set_point_a_machine_wants_liquid(cause, outlet, flow):
    """Hot enough and short of flow: liquid. Too cold: its compressor is held back."""
    frames = site(
        sink=200e3,
        supply_setpoint_degc=60.0,
        hp={
            "compressor_speed_hz": 25.0,
            "sink_outlet_temp_degc": outlet,
            "sink_flow_m3_s": flow,
        },
    )

    assert line(account(PLANT, frames), "hp1")[f"missed_{cause}_j"] > 0.0


@pytest.mark.parametrize(("outlet", "missed"), [(59.9, False), (59.2, True)])
def test_one_that_is_flat_out_shows_in_its_outlet_what_it_lacks(outlet, missed):
    """At its set point the return is its limit; below it, its own strength."""
    told = {
        "compressor_speed_hz": 50.0,
        "sink_flow_m3_s": 0.0097,
        "sink_outlet_temp_degc": outlet,
    }
    books = account(PLANT, site(sink=300e3, supply_setpoint_degc=60.0, hp=told))

    assert bool(line(books, "hp1")["missed_j"] > 0.0) is missed


def test_a_return_that_allows_no_more_is_nobody_s_fault():
    """At its set point with all its liquid: nothing missed, though more is wanted."""
    told = {"compressor_speed_hz": 25.0, "sink_flow_m3_s": 0.0097}
    full = site(
        sink=200e3,
        supply_setpoint_degc=60.0,
        hp=told | {"sink_inlet_temp_degc": 51.0, "sink_outlet_temp_degc": 60.0},
    )
    row = line(account(PLANT, full))

    assert row["missed_j"] == 0.0
    assert row["beyond_capacity_j"] == pytest.approx(STEP_S * 150e3)


@pytest.mark.parametrize(("back", "missed"), [(50.0, True), (54.0, False)])
def test_a_return_hotter_than_the_consumer_s_went_round_it(back, missed):
    """55 degC arrive: where the consumer returns 50, it has been mixed on the way."""
    hot = site(
        sink=200e3,
        supply_setpoint_degc=63.0,
        hp={
            "compressor_speed_hz": 25.0,
            "sink_inlet_temp_degc": 55.0,
            "sink_outlet_temp_degc": 63.0,
            "sink_flow_m3_s": 0.0097,
        },
        return_temp_degc=back,
    )
    assert (line(account(PLANT, hot))["missed_sink_hot_j"] > 0.0) == missed


def test_a_machine_is_asked_at_its_highest_speed():
    """55 Hz of the data sheet; one that is seen to turn at 57 could have done so."""
    fast = replace(HP1, nameplate=replace(PLATE, speed_max_hz=55.0))
    plant = replace(PLANT, machines=(fast,))
    for seen, asked in ((40.0, 55.0), (57.0, 57.0)):
        frames = site(sink=300e3, hp={"compressor_speed_hz": seen})
        told = full_load_conditions(plant, fast, frames)
        assert told["compressor_speed_hz"].iloc[0] == asked
        row = line(account(plant, frames), "hp1")
        assert (row["missed_control_j"] > 0.0) == (seen == 40.0)


def test_the_least_load_is_the_data_sheet_s():
    """150 kW of 400 start no machine by the rule; one that goes down to 120 they do."""
    low = replace(HP1, nameplate=replace(PLATE, sink_heat_min_w=120e3))
    frames = site(demand=150e3)

    assert line(account(PLANT, frames))["missed_j"] == 0.0
    told = line(account(replace(PLANT, machines=(low,)), frames))
    assert told["missed_delivered_j"] == pytest.approx(STEP_S * 150e3)


@pytest.mark.parametrize(("flow", "cause"), [(0.004, "hydraulics"), (0.01, "sink_hot")])
def test_little_liquid_gets_hot_whatever_returns(flow, cause):
    """At the highest outlet with a starved flow the return is not to blame."""
    hp = {"sink_outlet_temp_degc": 75.0, "sink_flow_m3_s": flow}
    frames = site(sink=200e3, hp=hp, supply_setpoint_degc=70.0)

    assert line(account(PLANT, frames), "hp1")[f"missed_{cause}_j"] > 0.0


@pytest.mark.parametrize(("offered", "cause"), [(42.0, "source_cold"), (36.0, "none")])
def test_warm_heat_that_arrives_mixed_is_missed(offered, cause):
    """Flat out on 35 degC while 42 are on offer: mixing took the capacity."""
    plant = replace(PLANT, exchangers=(Exchanger(id="cdu1"),))
    frames = site(sink=320e3) | {"cdu1": unit(cold_outlet_temp_degc=offered)}
    row = line(account(plant, frames), "hp1")

    assert row["missed_delivered_j"] == pytest.approx(STEP_S * 80e3)
    assert (row["missed_source_cold_j"] > 0.0) == (cause == "source_cold")


def test_a_mixed_source_is_asked_unmixed():
    """What the machine could do is asked at the heat on offer, near it at its own."""
    plant = replace(PLANT, exchangers=(Exchanger(id="cdu1"),))
    for offered, asked in ((42.0, 42.0), (36.0, 35.0)):
        frames = site(sink=320e3) | {"cdu1": unit(cold_outlet_temp_degc=offered)}
        told = full_load_conditions(plant, HP1, frames)
        assert told["source_inlet_temp_degc"].iloc[0] == asked


def test_cdu_heat_is_it_heat_and_a_station_s_is_not():
    """The basis is named; a heat-network station moves no IT heat."""
    plant = replace(
        PLANT, exchangers=(Exchanger(id="cdu1"), Exchanger(id="hx", station=True))
    )
    frames = site(sink=400e3)
    frames["cdu1"] = unit(exchanger_heat_w=610e3)
    frames["hx"] = unit(exchanger_heat_w=400e3)
    row = line(account(plant, frames))

    assert row["basis"] == "cdu_heat"
    assert row["it_heat_j"] == pytest.approx(STEP_S * 610e3)
    assert row["closing_j"] == pytest.approx(STEP_S * 10e3)


def test_air_coolers_are_a_source_by_their_water_alone():
    """Their heat is IT heat like a CDU's; without a flow nothing is known of it."""
    plate = Exchanger(id="cdu1")
    coils = Exchanger(
        id="crah1",
        points=frozenset(
            {"cold_inlet_temp_degc", "cold_outlet_temp_degc", "cold_flow_m3_s"}
        ),
    )
    index = pd.date_range("2026-01-01 00:10", periods=6, freq="10min", tz="UTC")
    water = pd.DataFrame(
        {"cold_inlet_temp_degc": 18.0, "cold_outlet_temp_degc": 24.0,
         "cold_flow_m3_s": 0.01},
        index=index,
    )  # fmt: skip
    told = derive_exchanger(water, coils)
    heat = told["exchanger_heat_w"].to_numpy()
    plant = replace(PLANT, exchangers=(plate, coils), site_points=frozenset())
    frames = {
        "cdu1": pd.DataFrame({"exchanger_heat_w": 3e5}, index=index),
        "crah1": told,
        "hp1": pd.DataFrame(
            {"source_heat_w": 1e5, "sink_heat_w": 1.3e5, "compressor_running": 1.0},
            index=index,
        ),
    }
    books = account(plant, frames)
    site = books[books["unit"] == "site"]

    assert heat == pytest.approx(0.01 * 998.0 * 4182.0 * 6.0, rel=0.005)
    assert told["exchanger_ua_w_k"].isna().all()
    assert site["it_heat_j"].to_numpy() == pytest.approx((3e5 + heat) * 600.0)
    assert set(site["basis"]) == {"cdu_heat"}
    blind = derive_exchanger(water.drop(columns="cold_flow_m3_s"), coils)
    assert blind["exchanger_heat_w"].isna().all()


def test_the_columns_are_the_interface():
    """Stored names are an interface: these, in this order."""
    ledger = account(PLANT, site(2))

    assert tuple(ledger.columns) == COLUMNS
    assert ledger["unit"].tolist() == ["site", "hp1", "site", "hp1"]


def test_an_unaligned_frame_is_refused():
    """Minute rows are not averaged behind anybody's back."""
    frames = site()
    frames["hp1"].index = frames["hp1"].index + pd.Timedelta(minutes=3)

    with pytest.raises(ValueError, match=r'frame "hp1".* is not a multiple of'):
        account(PLANT, frames)


def test_it_survives_parquet(tmp_path):
    """Written and read back, the ledger is the same table."""
    ledger = account(PLANT, site(3))
    ledger.to_parquet(tmp_path / "ledger.parquet")
    back = pd.read_parquet(tmp_path / "ledger.parquet")

    pd.testing.assert_frame_equal(ledger, back, check_column_type=False)


# --- value --------------------------------------------------------------------


def by_hand(missed_w, heat_price, power_price, cop):
    """Add the same integral up, one interval after another."""
    total = 0.0
    for watt, heat, power in zip(missed_w, heat_price, power_price, strict=True):
        total += watt * STEP_S / J_PER_KWH * (heat - power / cop)
    return total


def test_negative_prices_are_income():
    """At -20 ct the electricity to lift the heat is paid for: value rises."""
    prices = np.array([0.10, 0.0, -0.05, -0.20])
    frames = site(4)
    frames["site"] = unit(4, electricity_price_eur_j=prices / J_PER_KWH)
    own = account(PLANT, frames).query("unit == 'site'")

    assert own["missed_eur"].sum() == pytest.approx(
        by_hand([400e3] * 4, [0.06] * 4, prices, 4.0), abs=1e-9
    )
    assert own["missed_eur"].is_monotonic_increasing


@pytest.mark.skipif(
    not (SHARED / "district_heat_and_prices_15min.csv").exists(),
    reason="../shared/data/district_heat_and_prices_15min.csv is not there",
)
def test_value_over_a_real_year():
    """A year of a real network's demand and spot prices, to the cent."""
    told = pd.read_csv(SHARED / "district_heat_and_prices_15min.csv").iloc[:35000]
    times = pd.date_range(
        "2020-01-01 00:15", periods=len(told), freq="15min", tz="UTC", name="time"
    )
    power = told["Strompr.€/MWh"].to_numpy()
    gas = told["Gaspr.€/MWh"].to_numpy()
    demand = told["Q_Netz/MW"].to_numpy() * 1e6 / 300.0
    frames = {
        "hp1": pd.DataFrame(
            {"source_heat_w": 0.0, "sink_heat_w": 0.0, "available": 0.0}, index=times
        ),
        "cooler": pd.DataFrame({"rejected_heat_w": 280e3}, index=times),
        "network": pd.DataFrame({"demand_heat_w": demand}, index=times),
        "site": pd.DataFrame(
            {
                "electricity_price_eur_j": power / 1e3 / J_PER_KWH,
                "heat_price_eur_j": gas / 0.9 / 1e3 / J_PER_KWH,
            },
            index=times,
        ),
    }
    ledger = account(PLANT, frames, step=timedelta(minutes=15))
    own = ledger[ledger["unit"] == "site"]

    expected, dear = 0.0, 0
    for wanted, heat, electricity in zip(demand, gas / 0.9, power, strict=True):
        missed = min(wanted, 400e3, 280e3 * 4.0 / 3.0) * 0.25 / 1e6
        worth = missed * (heat - electricity / 4.0)
        dear += worth < 0.0
        expected += max(worth, 0.0)

    assert (power < 0.0).any()
    assert own["missed_eur"].sum() == pytest.approx(expected, abs=0.005)
    assert (own["uneconomic_j"] > 0.0).sum() == dear


def test_an_unknown_price_is_unknown():
    """Energy without EUR: no price, no value, and no nought either."""
    plant = replace(PLANT, tariff=Tariff())
    ledger = account(plant, site())

    assert line(ledger)["missed_j"] > 0.0
    assert np.isnan(line(ledger)["missed_eur"])
    assert "of unknown value" in events(ledger)[0].sentence
    (found,) = findings(ledger, plant, datetime(2026, 1, 6, tzinfo=UTC))
    assert found.cost_eur_day is None


def test_a_consumer_s_own_price_counts():
    """What our heat replaces there, not what the site pays on average."""
    own = replace(NETWORK, heat_price_eur_j=0.09 / J_PER_KWH)
    plant = replace(PLANT, consumers=(own,))

    assert line(account(plant, site()))["missed_eur"] == pytest.approx(
        by_hand([400e3], [0.09], [0.12], 4.0)
    )


# --- events and findings ------------------------------------------------------


def two_trips():
    """Ten hours; out for 00:00-02:00 but for one interval, and from 08:00 on."""
    n = 60
    sink = np.full(n, 400e3)
    sink[:5] = sink[6:12] = sink[48:] = 0.0
    frames = site(
        n,
        sink=sink,
        rejected=np.where(sink > 0.0, 0.0, 300e3),
        hp={"available": (sink > 0.0).astype(float)},
    )
    return account(PLANT, frames)


def test_neighbours_are_one_event():
    """One interval of running does not end an event; six hours do."""
    ledger = two_trips()
    found = events(ledger)

    assert [one.cause for one in found] == [Cause.UNAVAILABLE] * 2
    assert found[0].start == datetime(2026, 1, 5, 0, 0, tzinfo=UTC)
    assert found[0].end == datetime(2026, 1, 5, 2, 0, tzinfo=UTC)
    assert kwh(found[0].delivered_j) == pytest.approx(400 * 11 / 6)
    assert sum(one.delivered_j for one in found) == pytest.approx(
        ledger.query("unit == 'hp1'")["missed_delivered_j"].sum()
    )
    assert "hp1 could have delivered 733.3 kWh more" in found[0].sentence
    assert "tripped" in found[0].sentence


def test_a_finding_holds_the_truth():
    """Size within its own interval, worth per day, advice that spares the IT."""
    ledger = two_trips()
    (found,) = findings(ledger, PLANT, datetime(2026, 1, 5, 10, tzinfo=UTC))

    assert found.kind is FindingKind.MISSED_RECOVERY
    assert (found.unit, found.component) == ("hp1", "unavailable")
    assert found.low <= found.size <= found.high <= 1.0
    assert found.size == pytest.approx(23 / 60)
    assert found.high - found.low < 0.1
    assert found.energy_j_day == pytest.approx(23 * 400e3 * STEP_S / (10 / 24))
    assert found.cost_eur_day == pytest.approx(
        by_hand([400e3] * 23, [0.06] * 23, [0.12] * 23, 4.0) / (10 / 24)
    )


def test_a_plant_that_misses_nothing_has_no_finding():
    """The negative control: flat out, nothing rejected, nothing said."""
    ledger = account(PLANT, site(60, sink=400e3, rejected=0.0))

    assert events(ledger) == []
    assert findings(ledger, PLANT, datetime(2026, 1, 6, tzinfo=UTC)) == []


def test_an_old_case_is_closed():
    """A week after the last trip there is nothing to act on."""
    ledger = two_trips()

    assert findings(ledger, PLANT, datetime(2026, 1, 20, tzinfo=UTC)) == []


def test_the_future_is_not_looked_at():
    """`now` is an argument: before the second trip the first is all there is."""
    (found,) = findings(two_trips(), PLANT, datetime(2026, 1, 5, 6, tzinfo=UTC))

    assert found.seen == datetime(2026, 1, 5, 2, 0, tzinfo=UTC)


@pytest.mark.parametrize("cause", list(Cause))
def test_advice_never_asks_for_less_cooling(cause):
    """Cooling first: no advice mentions doing less of it."""
    told = {"hp1": pd.DataFrame({cause.value: [True]}, index=clock(1))}
    ledger = account(PLANT, site(hp={"available": NAN}), evidence=told)
    for found in findings(ledger, PLANT, datetime(2026, 1, 6, tzinfo=UTC)):
        assert "less cooling" not in found.advice.lower()
        assert "reduce the it" not in found.advice.lower()


# --- what a machine could have done -------------------------------------------


def test_a_standing_machine_is_asked_at_the_heat_on_offer():
    """Not at the temperature of its plant room, nor with its pump off."""
    frames = site(
        hp={
            "source_inlet_temp_degc": 18.0,
            "sink_inlet_temp_degc": 18.0,
            "source_flow_m3_s": 0.0,
            "sink_flow_m3_s": 0.0,
        },
        cooler={"rejector_inlet_temp_degc": 34.0},
        return_temp_degc=48.0,
    )
    asked = full_load_conditions(PLANT, HP1, frames).iloc[0]

    assert asked["source_inlet_temp_degc"] == 34.0
    assert asked["sink_inlet_temp_degc"] == 48.0
    assert asked["sink_flow_kg_s"] == pytest.approx(400e3 / 41800.0, rel=1e-3)


def test_a_machine_without_reference_is_answered_by_its_nameplate():
    """Until the reference is fitted, the maker's promise is all there is."""
    able = model_capacity(PLANT, site(), {})["hp1"].iloc[0]

    assert able["expected_sink_heat_w"] == 400e3
    assert able["reference_cop"] == 4.0
