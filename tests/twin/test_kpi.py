"""Key figures are ratios of sums over what was measured, and say how much that was."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin import fluids
from twin.kpi import (
    CHAIN,
    FLOWS,
    HOURLY,
    VARIANTS,
    Boundary,
    Electricity,
    Entry,
    Quality,
    flows,
    hourly,
    inferred,
    log_chain,
    mean_temp,
    ratio,
    sei,
    spf,
    standard,
    with_flows,
    within,
)
from twin.ledger import account
from twin.plant import Coolant, Machine, Nameplate, Plant, Rejector, Tariff
from twin.states import derive

START = datetime(2026, 1, 5, tzinfo=UTC)
NAN = float("nan")
MACHINE = Machine(
    id="hp1",
    refrigerant="R1234ze(E)",
    nameplate=Nameplate(
        sink_heat_w=400e3,
        power_w=100e3,
        source_inlet_temp_degc=35.0,
        source_outlet_temp_degc=28.0,
        sink_inlet_temp_degc=50.0,
        sink_outlet_temp_degc=60.0,
    ),
    points=frozenset({"sink_pump_power_w"}),
)
PLANT = Plant(name="hall", machines=(MACHINE,), rejectors=(Rejector(id="cooler"),))


def frame(n, **columns):
    """Make a frame of n ten-minute intervals."""
    times = pd.date_range(
        START + timedelta(minutes=10), periods=n, freq="10min", name="time"
    )
    return pd.DataFrame(
        {name: np.broadcast_to(np.asarray(v, float), n) for name, v in columns.items()},
        index=times,
    )


def machine(n=6, sink=300e3, power=100e3, **more):
    """Make a machine that lifts 200 kW to 300 kW."""
    sink = np.asarray(sink, float)
    told = {
        "sink_heat_w": sink,
        "source_heat_w": sink - np.asarray(power, float),
        "compressor_power_w": power,
    }
    return frame(n, **(told | more))


watts = st.integers(0, 500_000).map(float) | st.just(NAN)
columns = st.lists(st.tuples(watts, watts), min_size=6, max_size=6)


@given(columns)
def test_cop_is_a_ratio_of_sums(drawn):
    """Over the intervals where heat and electricity both were measured, no others."""
    sink, power = (np.array(part) for part in zip(*drawn, strict=True))
    (row,) = hourly(MACHINE, machine(sink=sink, power=power)).itertuples()
    both = np.isfinite(sink) & np.isfinite(power)
    # Standby power and no heat known: it stands still and moves none.
    rest = np.isnan(sink) & (power <= 2e3)
    heat = sink[both].sum()
    work = power[both | rest].sum()

    if heat > 0.0 and work > 0.0:
        assert row.cop == pytest.approx(heat / work, rel=1e-12)
    else:
        assert np.isnan(row.cop)
    assert row.coverage == pytest.approx((both | rest).mean())


@given(columns)
def test_a_sum_lies_between_its_parts(drawn):
    """A ratio of sums is never outside the ratios it is made of."""
    top, bottom = (np.array(part) for part in zip(*drawn, strict=True))
    bottom = bottom + 1.0
    value = ratio(top, bottom)
    each = (top / bottom)[np.isfinite(top / bottom)]

    if len(each):
        assert each.min() * (1 - 1e-12) <= value <= each.max() * (1 + 1e-12)
    else:
        assert np.isnan(value)


def test_an_hour_is_named_by_its_end():
    """00:10 to 01:00 is the hour of 01:00; its columns are the interface."""
    table = hourly(MACHINE, machine(12))

    assert tuple(table.columns) == HOURLY
    assert table["time"].tolist() == [
        pd.Timestamp("2026-01-05 01:00", tz="UTC"),
        pd.Timestamp("2026-01-05 02:00", tz="UTC"),
    ]
    assert table["sink_heat_j"].tolist() == [300e3 * 3600] * 2
    assert table["running_s"].tolist() == [3600.0] * 2
    assert table["cop"].tolist() == [3.0] * 2


def test_an_hour_at_rest_has_no_cop():
    """Standby electricity counts in the sum; no heat has no COP."""
    (row,) = hourly(MACHINE, machine(sink=NAN, power=500.0)).itertuples()

    assert np.isnan(row.cop)
    assert row.running_s == 0.0
    assert row.coverage == 1.0
    assert row.compressor_energy_j == 500.0 * 3600


def test_models_are_judged_at_the_same_heat():
    """Half the heat at 4, half at 2: the same heat needs 1/4 + 1/2, a COP of 2.67."""
    cop = np.repeat([4.0, 2.0], 3)
    (row,) = hourly(
        MACHINE, machine(expected_cop=cop, reference_cop=5.0, lorenz_cop=6.0)
    ).itertuples()

    assert row.expected_cop == pytest.approx(8 / 3)
    assert row.reference_cop == pytest.approx(5.0)
    assert row.lorenz_efficiency == pytest.approx(0.5)


def test_an_unknown_hour_is_not_nought():
    """No heat meter: NaN, not zero joules."""
    (row,) = hourly(MACHINE, machine(sink=NAN)).itertuples()

    assert np.isnan(row.sink_heat_j)
    assert row.coverage == 0.0


def test_spf_weighs_every_joule_alike():
    """An hour at 4 with tenfold heat outweighs one at 2; the mean would be 3."""
    sink, power = np.repeat([400e3, 20e3], 6), np.repeat([100e3, 10e3], 6)
    table = hourly(MACHINE, machine(12, sink=sink, power=power))
    found = spf(table, "hp1", START, START + timedelta(hours=2))

    assert found.value == pytest.approx(420 / 110)
    assert found.quality is Quality.MEASURED
    wider = spf(table, "hp1", START, START + timedelta(hours=4))
    assert wider.coverage == 0.5
    assert wider.quality is Quality.PARTIAL
    other = spf(table, "hp9", START, START + timedelta(hours=2))
    assert other.quality is Quality.MISSING


def site(n=144, **site_points):
    """Make a day of 1 MW of IT, 600 kW of its heat recovered and 300 kW rejected."""
    points = {"it_power_w": 1000e3, "site_power_w": 1450e3} | site_points
    return {
        "hp1": frame(
            n,
            sink_heat_w=800e3,
            source_heat_w=600e3,
            compressor_power_w=200e3,
            sink_pump_power_w=50e3,
            source_inlet_temp_degc=35.0,
            sink_outlet_temp_degc=65.0,
        ),
        "cooler": frame(n, rejected_heat_w=300e3, rejector_inlet_temp_degc=33.0),
        "site": frame(n, **points),
    }


def day(frames, plant=PLANT, days=1, **more):
    """Cut the flows of those frames to a day."""
    return within(flows(plant, frames), START, START + timedelta(days=days), **more)


def figures(frames, *, on_site_meter=True, **entries):
    """Name the figures of that day, by name, boundary and electricity."""
    found = standard(day(frames, on_site_meter=on_site_meter), **entries)
    return {(one.name, one.boundary, one.electricity): one for one in found}


HAND = (Boundary.HANDOVER, Electricity.OUT)
AFTER = (Boundary.AFTER_HEAT_PUMP, Electricity.IN)
LIFTED = (Boundary.AFTER_HEAT_PUMP, Electricity.OUT)


def test_worked_example():
    """The figures of docs/ledger.md, both boundaries, each with two numbers by hand."""
    found = figures(
        site(), water_m3=Entry(value=12.0), renewable_j=Entry(value=17.4 * 3.6e9)
    )

    assert found["PUE", *HAND].value == pytest.approx(1200 / 1000)
    assert found["ERF", *HAND].value == pytest.approx(600 / 1200)
    assert found["ERE", *HAND].value == pytest.approx(0.6)
    assert found["PUE", *AFTER].value == pytest.approx(1450 / 1000)
    assert found["ERF", *AFTER].value == pytest.approx(800 / 1450)
    assert found["ERE", *AFTER].value == pytest.approx(0.65)
    assert found["PUE", *LIFTED].value == pytest.approx(1200 / 1000)
    assert found["ERF", *LIFTED].value == pytest.approx(800 / 1200)
    assert found["ERE", *LIFTED].value == pytest.approx(0.4)
    assert found["HRR", None, None].value == pytest.approx(600 / 900)
    assert found["COP_system", None, None].value == pytest.approx(800 / 250)
    assert found["REF", None, Electricity.IN].value == pytest.approx(17.4 / (1.45 * 24))
    assert found["REF", None, Electricity.OUT].value == pytest.approx(
        17.4 / (1.20 * 24)
    )
    assert found["WUE", None, None].value == pytest.approx(12 / 24)
    assert {one.quality for one in found.values()} == {Quality.MEASURED}


def test_heat_pumps_on_a_meter_of_their_own():
    """The same plant, metered otherwise, has the same figures."""
    apart = figures(site(site_power_w=1200e3), on_site_meter=False)

    for key, one in figures(site()).items():
        if key[0] in ("PUE", "ERF", "ERE"):
            assert apart[key].value == pytest.approx(one.value)


@settings(max_examples=40)
@given(st.floats(1e5, 2e6), st.floats(1e5, 2e6), st.floats(0.0, 1e6))
def test_ere_is_pue_less_what_is_reused(it, overhead, reuse):
    """ERE = PUE (1 - ERF), on every boundary."""
    frames = site(6, it_power_w=it, site_power_w=it + overhead + 250e3)
    frames["hp1"] = frames["hp1"].assign(source_heat_w=reuse, sink_heat_w=reuse)
    found = figures(frames)
    for variant in VARIANTS:
        pue, erf = found["PUE", *variant].value, found["ERF", *variant].value
        ere = found["ERE", *variant].value
        assert ere == pytest.approx(pue * (1.0 - erf), rel=1e-9, abs=1e-9)


@settings(max_examples=40)
@given(st.floats(1e4, 5e5), st.floats(1e4, 3e5))
def test_the_boundary_changes_heat_and_the_electricity_the_total(heat, power):
    """The lifted heat is the larger; E_DC with the heat pumps is the larger."""
    frames = site(6)
    frames["hp1"] = frames["hp1"].assign(
        source_heat_w=heat, sink_heat_w=heat + power, compressor_power_w=power
    )
    found = figures(frames)

    assert found["ERF", *LIFTED].value >= found["ERF", *HAND].value
    assert found["ERF", *LIFTED].value >= found["ERF", *AFTER].value
    assert found["PUE", *AFTER].value >= found["PUE", *LIFTED].value
    assert found["PUE", *LIFTED].value == pytest.approx(found["PUE", *HAND].value)


def test_a_gap_lowers_the_coverage_and_not_the_value():
    """Six hours without a meter: the same ratio from the other eighteen."""
    frames = site()
    frames["site"].iloc[:36, 0] = NAN
    found = figures(frames)["PUE", *AFTER]

    assert found.value == pytest.approx(1.45)
    assert found.coverage == pytest.approx(0.75)
    assert found.quality is Quality.PARTIAL


def test_what_is_missing_is_named():
    """No site meter: no PUE, and the point that would give it."""
    frames = site()
    frames["site"] = frames["site"].drop(columns="site_power_w")
    found = figures(frames)

    assert found["PUE", *HAND].quality is Quality.MISSING
    assert found["PUE", *HAND].lacking == ("site_power_w",)
    assert found["HRR", None, None].quality is Quality.MEASURED
    assert found["WUE", None, None].quality is Quality.MISSING
    assert found["WUE", None, None].lacking == ("WUE: entry of the period",)


def test_an_entry_needs_the_whole_period():
    """A year's water over the IT energy of a part of it would be a false WUE."""
    frames = site()
    frames["site"].iloc[:36, 0] = NAN
    water = Entry(value=12.0, coverage=0.9, estimated=("read off monthly",))
    whole = figures(site(), water_m3=water)["WUE", None, None]

    assert np.isnan(figures(frames, water_m3=water)["WUE", None, None].value)
    assert whole.value == pytest.approx(0.5)
    assert whole.coverage == pytest.approx(0.9)
    assert whole.quality is Quality.ESTIMATED


def test_what_was_inferred_makes_a_figure_estimated():
    """A sink without a flow meter: its heat is a balance's, and the figure says so."""
    liquids = {
        f"{side}_{end}_temp_degc"
        for side in ("source", "sink")
        for end in ("inlet", "outlet")
    }
    blind = replace(
        MACHINE, points=frozenset({*liquids, "source_flow_m3_s", "compressor_power_w"})
    )
    told = inferred(replace(PLANT, machines=(blind,)))
    found = standard(day(site(), inferred=told))
    by_name = {(one.name, one.boundary, one.electricity): one for one in found}

    assert list(told) == ["sink_heat_j"]
    assert told["sink_heat_j"][0].startswith("hp1: source heat plus compressor power")
    assert by_name["ERF", *AFTER].quality is Quality.ESTIMATED
    assert by_name["ERF", *AFTER].estimated == tuple(told["sink_heat_j"])
    assert by_name["ERF", *HAND].quality is Quality.MEASURED


def test_glycol_is_not_water():
    """25 % propylene glycol carries less heat a litre; taken for water ERF is wrong."""
    n = 144
    raw = frame(
        n,
        source_inlet_temp_degc=36.0,
        source_outlet_temp_degc=30.0,
        sink_inlet_temp_degc=50.0,
        sink_outlet_temp_degc=65.0,
        source_flow_m3_s=0.010,
        sink_flow_m3_s=0.005,
        compressor_power_w=70e3,
    )
    frames = site(n)
    erf = {}
    for liquid in (Coolant("MPG", 0.25), Coolant()):
        device = replace(MACHINE, source=liquid, points=frozenset(raw.columns))
        frames["hp1"] = derive(raw, device)
        plant = replace(PLANT, machines=(device,))
        found = standard(day(frames, plant))
        erf[liquid.kind] = next(one.value for one in found if one.name == "ERF")
        density = float(fluids.density(liquid, 36.0))
        capacity = float(fluids.heat_capacity(liquid, 33.0))
        heat = 0.010 * density * capacity * 6.0
        assert erf[liquid.kind] == pytest.approx(heat / (1450e3 - 70e3), rel=1e-12)

    # Incropera's tables have no glycol; CoolProp's (Melinder 2010) say 1.2 to 3 %.
    assert 1.005 < erf["water"] / erf["MPG"] < 1.04


def test_flows_are_on_every_line_of_the_site_and_no_other():
    """The ledger keeps its accounts; its site lines say what the meters said."""
    frames = site(6)
    accounts = account(PLANT, frames)
    told = with_flows(accounts, PLANT, frames)
    of_site = told["unit"] == "site"

    pd.testing.assert_frame_equal(told[accounts.columns], accounts)
    assert told.attrs == accounts.attrs
    assert told.loc[of_site, "it_energy_j"].tolist() == [600e6] * 6
    assert told.loc[~of_site, list(FLOWS)].isna().all().all()
    assert mean_temp(day(frames), "sink_heat_j", "sink_temp_degc") == 65.0
    assert mean_temp(day(frames), "rejected_heat_j", "rejected_temp_degc") == 33.0


def test_half_a_sum_is_no_sum():
    """One machine of two that is not known makes the heat of both unknown."""
    other = replace(MACHINE, id="hp2")
    frames = site(6)
    frames["hp2"] = frames["hp1"].assign(source_heat_w=NAN)
    told = flows(replace(PLANT, machines=(MACHINE, other)), frames)

    assert told["source_heat_j"].isna().all()
    assert (told["sink_heat_j"] == 2 * 800e3 * 600).all()


def test_mixed_water_has_the_temperature_of_its_heat():
    """300 kW at 60 and 100 kW at 80 degC are 400 kW at 65."""
    other = replace(MACHINE, id="hp2")
    frames = {
        "hp1": machine(6, sink=300e3, sink_outlet_temp_degc=60.0),
        "hp2": machine(6, sink=100e3, power=30e3, sink_outlet_temp_degc=80.0),
    }
    told = flows(replace(PLANT, machines=(MACHINE, other)), frames)

    assert told["sink_temp_degc"].tolist() == pytest.approx([65.0] * 6)


@settings(max_examples=40)
@given(
    st.lists(st.floats(-0.3, 0.5), min_size=6, max_size=6),
    st.floats(0.0, 0.2),
)
def test_recovered_heat_is_worth_its_price_less_the_lift(prices, heat_price):
    """By hand, an interval at a time; a negative price is income."""
    frames = site(6, electricity_price_eur_j=np.array(prices) / 3.6e6)
    tariff = Tariff(heat_price_eur_j=heat_price / 3.6e6)
    told = flows(replace(PLANT, tariff=tariff), frames)
    by_hand = [800 / 6 * heat_price - 250 / 6 * price for price in prices]

    assert told["recovered_eur"].tolist() == pytest.approx(by_hand, abs=1e-9)
    assert told["recovered_kg"].isna().all()


def test_nothing_is_called_compliant():
    """Values with their standard; the verdict is not ours."""
    for one in figures(site()).values():
        assert one.standard
        assert "complian" not in f"{one.name}{one.formula}{one.standard}".lower()


# --- from Lorenz to the meter -------------------------------------------------


def running_machine(n=6, power=100e3, pump=4e3, t_e=24.0, t_c=68.0):
    """Make a machine whose refrigerant is metered."""
    return machine(
        n,
        sink=400e3,
        power=power,
        sink_pump_power_w=pump,
        source_inlet_temp_degc=36.0,
        source_outlet_temp_degc=30.0,
        sink_inlet_temp_degc=50.0,
        sink_outlet_temp_degc=64.0,
        evaporating_temp_degc=t_e,
        condensing_temp_degc=t_c,
        superheat_k=6.0,
        subcooling_k=4.0,
    )


@settings(max_examples=40)
@given(
    st.lists(st.floats(80e3, 160e3), min_size=6, max_size=6),
    st.floats(0.0, 20e3),
    st.floats(10.0, 28.0),
    st.floats(66.0, 80.0),
)
def test_the_links_sum_to_the_whole(power, pump, t_e, t_c):
    """ln(COP_Lor/COP_sys), exactly, and every link of a real machine is a loss."""
    frames = running_machine(power=np.array(power), pump=pump, t_e=t_e, t_c=t_c)
    hours = hourly(MACHINE, frames)
    found = log_chain(hours, "hp1", START, START + timedelta(hours=1))
    sink, source = (64 - 50) / np.log(337.15 / 323.15), 6 / np.log(309.15 / 303.15)
    lorenz = sink / (sink - source)

    assert found.lorenz_cop == pytest.approx(lorenz, rel=1e-9)
    assert found.cop == pytest.approx(6 * 400e3 / (sum(power) + 6 * pump), rel=1e-9)
    assert found.total == pytest.approx(np.log(lorenz / found.cop), abs=1e-12)
    assert min(found.links[name] for name in ("evaporator", "condenser", "cycle")) > 0.0
    assert found.links["auxiliaries"] == pytest.approx(
        np.log(1.0 + 6 * pump / sum(power)), abs=1e-12
    )
    index = sei(hours, "hp1", START, START + timedelta(hours=1))
    assert index.value == pytest.approx(np.exp(-found.total), rel=1e-12)
    assert index.coverage == pytest.approx(1.0)


def test_a_link_moves_when_its_part_does():
    """2 K more across the condenser cost in that link; the evaporator's stays."""
    links = {}
    for name, t_c in (("clean", 68.0), ("fouled", 70.0)):
        hours = hourly(MACHINE, running_machine(t_c=t_c))
        links[name] = log_chain(hours, "hp1", START, START + timedelta(hours=1)).links

    assert links["fouled"]["condenser"] - links["clean"]["condenser"] > 0.03
    assert links["fouled"]["evaporator"] == pytest.approx(
        links["clean"]["evaporator"], abs=0.01
    )


def test_the_links_against_coolprop():
    """The isentropic cycle solved with HEOS, by hand, gives the cycle's link."""
    exact = fluids.Helmholtz("R1234ze(E)")
    t_e, t_c = 24.0 + 273.15, 68.0 + 273.15
    low, high = exact.saturation(t_e)[0], exact.saturation(t_c)[0]
    h1, s1, _ = exact.vapour(low, t_e + 6.0)
    h2, h3 = exact.isentropic(high, s1), exact.liquid(high, t_c - 4.0)
    carnot = t_c / (t_c - t_e)
    device = replace(
        MACHINE, points=MACHINE.points | {"suction_temp_degc", "liquid_temp_degc"}
    )
    hours = hourly(device, running_machine())
    found = log_chain(hours, "hp1", START, START + timedelta(hours=1))

    # The tables agree with HEOS to 1e-6 of an enthalpy; a difference of two is worse.
    assert found.links["cycle"] == pytest.approx(
        np.log(carnot * (h2 - h1) / (h2 - h3)), abs=2e-4
    )
    assert found.links["compressor"] == pytest.approx(
        np.log((h2 - h3) / (h2 - h1) / 4.0), abs=2e-4
    )


def test_without_pressures_there_is_no_chain():
    """No saturation temperatures: NaN, and the SPF all the same."""
    hours = hourly(MACHINE, machine())
    found = log_chain(hours, "hp1", START, START + timedelta(hours=1))

    assert hours[list(CHAIN)].isna().all().all()
    assert np.isnan(found.total)
    assert set(map(np.isnan, found.links.values())) == {True}
    index = sei(hours, "hp1", START, START + timedelta(hours=1))
    assert index.quality is Quality.MISSING
    assert spf(hours, "hp1", START, START + timedelta(hours=1)).value == 3.0


def test_the_system_has_its_pumps():
    """300 kW from 100 kW and a pump's 20: 3.0 for the unit, 2.5 for the system."""
    hours = hourly(MACHINE, machine(sink_pump_power_w=20e3))
    stop = START + timedelta(hours=1)

    assert spf(hours, "hp1", START, stop).value == pytest.approx(3.0)
    assert spf(hours, "hp1", START, stop, pumps=True).value == pytest.approx(2.5)
    lost = hourly(MACHINE, machine(sink_pump_power_w=NAN))
    found = spf(lost, "hp1", START, stop, pumps=True)
    assert found.quality is Quality.MISSING
    assert spf(lost, "hp1", START, stop).quality is Quality.MEASURED
