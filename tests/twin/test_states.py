"""What is derived is what was measured, inferred where a balance closes, or NaN."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin import fluids, heatpump, states
from twin.plant import Compressor, Coolant, Exchanger, Machine, Nameplate, Rejector
from twin.points import Kind, Origin, points_of

CHILLER = (
    Path(__file__).resolve().parents[2]
    / ".."
    / "shared"
    / "data"
    / "esb_chiller1_5min.csv"
)
ALL = frozenset(points_of(Kind.HEAT_PUMP, Origin.MEASURED))
MACHINE = Machine(
    id="hp1", refrigerant="R1234ze(E)", source=Coolant("MPG", 0.3),
    nameplate=Nameplate(
        sink_heat_w=600e3, power_w=140e3, source_inlet_temp_degc=35.0,
        source_outlet_temp_degc=29.0, sink_inlet_temp_degc=55.0,
        sink_outlet_temp_degc=65.0, speed_hz=50.0,
    ),
    points=ALL,
)  # fmt: skip
HP = heatpump.from_nameplate(MACHINE)
WATER_SIDE = frozenset(
    {
        "source_inlet_temp_degc",
        "source_outlet_temp_degc",
        "sink_inlet_temp_degc",
        "sink_outlet_temp_degc",
        "compressor_power_w",
    }
)


def telemetry(n=4, **changes):
    """Return what instruments on a predicted machine would show."""
    p = HP.parameters
    rows = pd.DataFrame(
        {
            "source_inlet_temp_degc": 35.0,
            "sink_inlet_temp_degc": 55.0,
            "source_flow_kg_s": p.source_flow_rated_kg_s,
            "sink_flow_kg_s": p.sink_flow_rated_kg_s,
            "compressor_speed_hz": 45.0,
        }
        | changes,
        index=pd.date_range(
            "2026-01-01", periods=n, freq="10min", tz="UTC", name="time"
        ),
    )
    out = HP.predict(rows)
    frame = rows[["source_inlet_temp_degc", "sink_inlet_temp_degc"]].copy()
    for name in out.columns:
        if name in ALL:
            frame[name] = out[name]
    frame["source_flow_m3_s"] = rows["source_flow_kg_s"] / fluids.density(
        MACHINE.source, rows["source_inlet_temp_degc"]
    )
    frame["sink_flow_m3_s"] = rows["sink_flow_kg_s"] / fluids.density(
        MACHINE.sink, rows["sink_inlet_temp_degc"]
    )
    frame["compressor_running"] = 1.0
    return frame, out


def with_points(*more):
    """Return the machine with the liquid side, and more."""
    return dataclasses.replace(MACHINE, points=WATER_SIDE | frozenset(more))


@settings(max_examples=25)
@given(
    t_si=st.floats(26.0, 42.0), t_ki=st.floats(48.0, 62.0), speed=st.floats(28.0, 55.0)
)
def test_derived_is_what_was_predicted(t_si, t_ki, speed):
    """One machine seen from both ends: conductances, efficiencies, flows."""
    frame, out = telemetry(
        2,
        source_inlet_temp_degc=t_si,
        sink_inlet_temp_degc=t_ki,
        compressor_speed_hz=speed,
    )
    derived = states.derive(frame, MACHINE, parameters=HP.parameters)
    for name in (
        "cop", "cooling_cop", "source_heat_w", "sink_heat_w", "refrigerant_flow_kg_s",
        "evaporator_ua_w_k", "condenser_ua_w_k", "isentropic_efficiency",
        "volumetric_efficiency", "superheat_k", "subcooling_k", "evaporating_temp_degc",
        "condensing_temp_degc",
    ):  # fmt: skip
        np.testing.assert_allclose(derived[name], out[name], rtol=1e-3, err_msg=name)
    assert derived["energy_balance_error"].abs().max() < 1e-3
    assert (derived["cop"] < derived["lorenz_cop"]).all()


@pytest.mark.parametrize(
    "points",
    [
        ALL,
        WATER_SIDE,
        ALL - {"suction_temp_degc"},
        ALL - {"sink_flow_m3_s", "compressor_power_w", "compressor_running"},
    ],
)
def test_evaporation_says_what_derive_says(points):
    """To the bit, standstill, gaps and missing instruments included."""
    frame, _ = telemetry(12, compressor_speed_hz=np.linspace(28.0, 55.0, 12))
    frame.loc[frame.index[3:5], "compressor_running"] = 0.0
    frame.loc[frame.index[3:5], "compressor_power_w"] = 0.0
    frame.loc[frame.index[7], "suction_pressure_pa"] = np.nan
    frame = frame[[name for name in frame if name in points]]
    machine = dataclasses.replace(MACHINE, points=points)
    derived = states.derive(frame, machine)
    for name, told in states.evaporation(frame, machine).items():
        np.testing.assert_array_equal(told, derived[name], err_msg=name)


def test_every_derived_column_is_there():
    """So that nobody asks whether a column exists, only whether it is NaN."""
    frame, _ = telemetry()
    derived = states.derive(frame, MACHINE)

    assert set(points_of(Kind.HEAT_PUMP, Origin.DERIVED)) <= set(derived.columns)


def test_an_unmetered_sink_follows_from_the_balance():
    """Its heat from source and power, its flow from that heat, its error unknown."""
    frame, out = telemetry()
    machine = with_points("source_flow_m3_s")
    derived = states.derive(frame[sorted(machine.points)], machine)

    np.testing.assert_allclose(derived["sink_heat_w"], out["sink_heat_w"], rtol=1e-4)
    np.testing.assert_allclose(
        derived["sink_flow_kg_s"], HP.parameters.sink_flow_rated_kg_s, rtol=1e-3
    )
    assert derived["energy_balance_error"].isna().all()
    told = states.capabilities(machine)
    assert told["cooling_cop"] == "measured"
    assert told["cop"].startswith("inferred: source heat plus")
    assert told["energy_balance_error"] == "off: needs sink_flow_m3_s"


def test_an_unmetered_source_follows_from_the_balance():
    """The mirror image."""
    frame, out = telemetry()
    machine = with_points("sink_flow_m3_s")
    derived = states.derive(frame[sorted(machine.points)], machine)

    np.testing.assert_allclose(
        derived["source_heat_w"], out["source_heat_w"], rtol=1e-4
    )
    assert states.capabilities(machine)["cop"] == "measured"


def test_two_unmetered_sides_are_unknown():
    """No balance closes over two unknowns."""
    frame, _ = telemetry()
    machine = with_points()
    derived = states.derive(frame[sorted(machine.points)], machine)

    assert derived[["source_heat_w", "sink_heat_w", "cop"]].isna().all(axis=None)
    told = states.capabilities(machine)
    assert told["cop"] == "off: needs sink_flow_m3_s"


def test_a_suspect_flow_is_unknown_and_not_inferred():
    """A metered point that fails is a gap; a balance would hide that it failed."""
    frame, _ = telemetry()
    frame.loc[frame.index[1], "sink_flow_m3_s"] = np.nan
    derived = states.derive(frame, MACHINE)

    assert np.isnan(derived["sink_heat_w"].iloc[1])
    assert np.isnan(derived["cop"].iloc[1])
    assert derived["cop"].notna().sum() == 3


@pytest.mark.parametrize(
    "still",
    [
        {"compressor_running": 0.0},
        {"compressor_power_w": 900.0},
        {"compressor_running": np.nan, "compressor_power_w": 0.0},
    ],
)
def test_standstill_yields_no_cop(still):
    """Nor a conductance, efficiency or superheat: 0/0 is not a fault."""
    frame, _ = telemetry()
    frame = frame.assign(**still)
    derived = states.derive(frame, MACHINE)
    silent = [
        "cop", "cooling_cop", "lorenz_cop", "condenser_ua_w_k", "evaporator_ua_w_k",
        "isentropic_efficiency", "superheat_k", "energy_balance_error",
    ]  # fmt: skip

    assert derived[silent].isna().all(axis=None)
    assert not states.running(derived, MACHINE).any()
    # The negative control: the very same rows, running.
    assert telemetry()[0].pipe(states.derive, MACHINE)[silent].notna().all(axis=None)


def test_counters_stand_in_for_meters():
    """Joules per interval; a rollover or a reset is a gap of one interval."""
    frame, out = telemetry(8)
    seconds = 600.0
    frame["sink_energy_j"] = out["sink_heat_w"].to_numpy() * seconds * np.arange(1, 9)
    frame["compressor_energy_j"] = (
        out["compressor_power_w"].to_numpy() * seconds * np.arange(1, 9)
    )
    frame.loc[frame.index[5:], "sink_energy_j"] -= (
        4.5 * out["sink_heat_w"].iloc[0] * seconds
    )
    machine = dataclasses.replace(
        MACHINE,
        points=(ALL - {"compressor_power_w", "sink_flow_m3_s", "source_energy_j"}),
    )
    derived = states.derive(
        frame.drop(columns=["compressor_power_w", "sink_flow_m3_s"]), machine
    )

    assert np.isnan(derived["sink_heat_w"].iloc[[0, 5]]).all()
    kept = derived["sink_heat_w"].drop(frame.index[[0, 5]])
    np.testing.assert_allclose(kept, out["sink_heat_w"].iloc[0], rtol=1e-9)
    np.testing.assert_allclose(
        derived["compressor_power_w"].iloc[1:], out["compressor_power_w"].iloc[0]
    )
    assert states.capabilities(machine)["sink_heat_w"].startswith("inferred: steps of")


def test_a_pressure_in_bar_has_no_saturation_temperature():
    """5.1 Pa is outer space; a saturation temperature of it would be a lie."""
    frame, _ = telemetry()
    frame["suction_pressure_pa"] /= 1e5
    derived = states.derive(frame, MACHINE)

    assert derived["evaporating_temp_degc"].isna().all()
    assert derived["evaporator_ua_w_k"].isna().all()
    assert derived["condensing_temp_degc"].notna().all()


def test_the_input_is_left_alone():
    """A frame that is read twice must say the same twice."""
    frame, _ = telemetry()
    before = frame.copy(deep=True)
    states.derive(frame, MACHINE)

    pd.testing.assert_frame_equal(frame, before)


def test_an_empty_frame_is_derived_to_an_empty_one():
    """The first minute of a new plant."""
    frame, _ = telemetry()

    assert len(states.derive(frame.iloc[:0], MACHINE)) == 0


@pytest.mark.parametrize("flows", [{"hot"}, {"cold"}, {"hot", "cold"}])
def test_an_exchanger_needs_one_flow(flows):
    """The other follows from the heat; both give a balance error."""
    plate = Exchanger(
        id="cdu", hot=Coolant("MPG", 0.25), heat_w=400e3,
        points=frozenset(
            {f"{s}_{e}_temp_degc" for s in ("hot", "cold") for e in ("inlet", "outlet")}
            | {f"{side}_flow_m3_s" for side in flows}
        ),
    )  # fmt: skip
    frame = pd.DataFrame(
        {
            "hot_inlet_temp_degc": [45.0, 45.0],
            "hot_outlet_temp_degc": [37.0, 45.0],
            "cold_inlet_temp_degc": [30.0, 30.0],
            "cold_outlet_temp_degc": [40.0, 30.05],
            "hot_flow_m3_s": [0.0125, 0.0],
        }
    )
    heat = (
        0.0125
        * fluids.density(plate.hot, 45.0)
        * fluids.heat_capacity(plate.hot, 41.0)
        * 8
    )
    cold = float(heat) / (
        float(fluids.density(plate.cold, 30.0) * fluids.heat_capacity(plate.cold, 35.0))
        * 10
    )
    frame["cold_flow_m3_s"] = [cold, cold]
    derived = states.derive_exchanger(frame[sorted(plate.points)], plate)
    mean = (5.0 - 7.0) / np.log(5.0 / 7.0)

    assert derived["exchanger_ua_w_k"].iloc[0] == pytest.approx(float(heat) / mean)
    assert derived["exchanger_effectiveness"].iloc[0] == pytest.approx(10.0 / 15.0)
    assert np.isnan(derived["exchanger_ua_w_k"].iloc[1])  # it stands still
    told = states.capabilities(plate)
    if len(flows) == 2:
        assert derived["exchanger_balance_error"].iloc[0] == pytest.approx(
            0.0, abs=1e-9
        )
        assert told["exchanger_balance_error"] == "measured"
    else:
        assert derived["exchanger_balance_error"].isna().all()
        assert told["exchanger_balance_error"].startswith("off: needs")
        assert told["exchanger_ua_w_k"].startswith("inferred: heat of the side")


def test_a_rejectors_heat_is_metered_or_worked_out():
    """And off without its flow."""
    cooler = Rejector(
        id="dc",
        points=frozenset(
            {
                "rejector_inlet_temp_degc",
                "rejector_outlet_temp_degc",
                "rejector_flow_m3_s",
            }
        ),
    )
    frame = pd.DataFrame(
        {
            "rejector_inlet_temp_degc": [45.0],
            "rejector_outlet_temp_degc": [40.0],
            "rejector_flow_m3_s": [0.01],
        }
    )
    heat = float(states.derive_rejector(frame, cooler)["rejected_heat_w"].iloc[0])

    assert heat == pytest.approx(0.01 * 990.0 * 4180.0 * 5.0, rel=0.005)
    bare = Rejector(id="dc", points=frozenset({"fan_power_w"}))
    assert states.capabilities(bare)["rejected_heat_w"].startswith(
        "off: needs rejector_"
    )


def test_a_real_chiller_without_a_condenser_meter():
    """Standstill gives no COP, running a plausible one, and capabilities say how."""
    if not CHILLER.exists():
        pytest.skip(f"measured chiller not found at {CHILLER}")
    table = pd.read_csv(CHILLER, parse_dates=["time"], index_col="time")
    frame = pd.DataFrame(
        {
            "source_inlet_temp_degc": table["T_chw_in_C"],
            "source_outlet_temp_degc": table["T_chw_out_C"],
            "source_flow_m3_s": table["chw_flow_l_s"] / 1e3,
            "sink_inlet_temp_degc": table["T_cw_in_C"],
            "sink_outlet_temp_degc": table["T_cw_out_C"],
            "compressor_power_w": table["P_chiller_kW"] * 1e3,
        }
    )
    machine = Machine(
        id="c1", refrigerant="R134a", compressor=Compressor.CENTRIFUGAL,
        nameplate=Nameplate(
            sink_heat_w=2.4e6, power_w=4e5, source_inlet_temp_degc=12.0,
            source_outlet_temp_degc=6.7, sink_inlet_temp_degc=29.4,
            sink_outlet_temp_degc=35.0,
        ),
        points=frozenset(frame.columns),
    )  # fmt: skip
    derived = states.derive(frame, machine)
    on = states.running(derived, machine)

    assert 0.3 < on.mean() < 0.4
    assert derived.loc[~on, ["cop", "cooling_cop"]].isna().all(axis=None)
    assert derived.loc[on, "cooling_cop"].between(1.0, 15.0).mean() > 0.99
    assert states.capabilities(machine)["cop"].startswith("inferred")
    pump = heatpump.from_nameplate(machine)
    conditions = derived[[*heatpump.CONDITIONS, "source_heat_w"]].copy()
    conditions["sink_flow_kg_s"] = conditions["sink_flow_kg_s"].where(on).median()
    out = pump.predict(conditions[on].dropna(), "source_heat_w")
    assert (out["reason"] == 0).mean() > 0.99
