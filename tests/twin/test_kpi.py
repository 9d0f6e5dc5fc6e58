"""Key figures are ratios of sums over what was measured, and say how much that was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin.kpi import (
    HOURLY,
    Boundary,
    Quality,
    hourly,
    powers,
    ratio,
    spf,
    standard,
)
from twin.plant import Machine, Nameplate, Plant, Rejector

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
        ),
        "cooler": frame(n, rejected_heat_w=300e3),
        "site": frame(n, **points),
    }


def figures(frames, **more):
    """Name the figures of that day, by name and boundary."""
    flows = powers(PLANT, frames, START, START + timedelta(days=1))
    return {(one.name, one.boundary): one for one in standard(flows, **more)}


def test_worked_example():
    """The figures of docs/ledger.md, both boundaries, each with two numbers by hand."""
    found = figures(site(), water_m3=12.0, renewable_j=17.4 * 3.6e9)
    hand, after = Boundary.HANDOVER, Boundary.AFTER_HEAT_PUMP

    assert found["PUE", hand].value == pytest.approx(1200 / 1000)
    assert found["ERF", hand].value == pytest.approx(600 / 1200)
    assert found["ERE", hand].value == pytest.approx(0.6)
    assert found["PUE", after].value == pytest.approx(1450 / 1000)
    assert found["ERF", after].value == pytest.approx(800 / 1450)
    assert found["ERE", after].value == pytest.approx(0.65)
    assert found["HRR", None].value == pytest.approx(600 / 900)
    assert found["COP_system", None].value == pytest.approx(800 / 250)
    assert found["REF", None].value == pytest.approx(17.4 / (1.45 * 24))
    assert found["WUE", None].value == pytest.approx(12 / 24)
    assert {one.quality for one in found.values()} == {Quality.MEASURED}


def test_heat_pumps_on_a_meter_of_their_own():
    """The same plant, metered otherwise, has the same figures."""
    apart = figures(site(site_power_w=1200e3), heat_pumps_on_site_meter=False)

    for key, one in figures(site()).items():
        if key[0] in ("PUE", "ERF", "ERE"):
            assert apart[key].value == pytest.approx(one.value)


@given(st.floats(1e5, 2e6), st.floats(1e5, 2e6), st.floats(0.0, 1e6))
def test_ere_is_pue_less_what_is_reused(it, overhead, reuse):
    """ERE = PUE (1 - ERF), on either boundary."""
    frames = site(6, it_power_w=it, site_power_w=it + overhead + 250e3)
    frames["hp1"] = frames["hp1"].assign(source_heat_w=reuse, sink_heat_w=reuse)
    found = figures(frames)
    for boundary in Boundary:
        pue, erf = found["PUE", boundary].value, found["ERF", boundary].value
        ere = found["ERE", boundary].value
        assert ere == pytest.approx(pue * (1.0 - erf), rel=1e-9, abs=1e-9)


def test_a_gap_lowers_the_coverage_and_not_the_value():
    """Six hours without a meter: the same ratio from the other eighteen."""
    frames = site()
    frames["site"].iloc[:36, 0] = NAN
    found = figures(frames)["PUE", Boundary.AFTER_HEAT_PUMP]

    assert found.value == pytest.approx(1.45)
    assert found.coverage == pytest.approx(0.75)
    assert found.quality is Quality.PARTIAL


def test_what_is_missing_is_named():
    """No site meter: no PUE, and the point that would give it."""
    frames = site()
    frames["site"] = frames["site"].drop(columns="site_power_w")
    found = figures(frames)

    assert found["PUE", Boundary.HANDOVER].quality is Quality.MISSING
    assert found["PUE", Boundary.HANDOVER].lacking == ("site_power_w",)
    assert found["HRR", None].quality is Quality.MEASURED
    assert found["WUE", None].quality is Quality.MISSING
    assert found["WUE", None].lacking == ("WUE: entry of the period",)


def test_nothing_is_called_compliant():
    """Values with their standard; the verdict is not ours."""
    for one in figures(site()).values():
        assert one.standard
        assert "complian" not in f"{one.name}{one.formula}{one.standard}".lower()
