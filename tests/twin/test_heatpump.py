"""A machine speaks the vocabulary, keeps its nameplate, and names bad input."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin import fluids, heatpump, makers
from twin.heatpump import HeatPump, Reason
from twin.plant import Compressor, Coolant, Machine, Nameplate
from twin.points import POINTS

WAMAK = (
    Path(__file__).resolve().parents[2]
    / ".."
    / "shared"
    / "data"
    / "wamak_w2w_220kW_R513A.csv"
)
PLATE = Nameplate(
    sink_heat_w=600e3, power_w=140e3, source_inlet_temp_degc=35.0,
    source_outlet_temp_degc=29.0, sink_inlet_temp_degc=55.0,
    sink_outlet_temp_degc=65.0, speed_hz=50.0,
)  # fmt: skip
CONFIGURED = Machine(
    id="hp1", refrigerant="R1234ze(E)", nameplate=PLATE, source=Coolant("MPG", 0.3)
)
HP = heatpump.from_nameplate(CONFIGURED)


def rated(**changes):
    """Return the nameplate's conditions, changed."""
    p = HP.parameters
    values = {
        "source_inlet_temp_degc": 35.0,
        "sink_inlet_temp_degc": 55.0,
        "source_flow_kg_s": p.source_flow_rated_kg_s,
        "sink_flow_kg_s": p.sink_flow_rated_kg_s,
        "compressor_speed_hz": 50.0,
    } | changes
    return pd.DataFrame({name: [float(value)] for name, value in values.items()})


def test_the_nameplate_is_kept():
    """Its heat, power and four temperatures come out again."""
    out = HP.predict(rated()).iloc[0]

    assert out["reason"] == Reason.SOLVED
    assert out["sink_heat_w"] == pytest.approx(600e3, rel=1e-4)
    assert out["compressor_power_w"] == pytest.approx(140e3, rel=1e-4)
    assert out["source_outlet_temp_degc"] == pytest.approx(29.0, abs=0.01)
    assert out["sink_outlet_temp_degc"] == pytest.approx(65.0, abs=0.01)


@pytest.mark.parametrize("kind", list(Compressor))
@pytest.mark.parametrize(
    ("refrigerant", "power"),
    [("R134a", 135e3), ("R717", 130e3), ("R513A", 140e3), ("R1233zd(E)", 135e3)],
)
def test_every_kind_of_machine_keeps_its_nameplate(kind, refrigerant, power):
    """Screw, scroll, piston and turbo differ in numbers only."""
    machine = dataclasses.replace(
        CONFIGURED,
        refrigerant=refrigerant,
        compressor=kind,
        nameplate=dataclasses.replace(PLATE, power_w=power),
    )
    pump = heatpump.from_nameplate(machine)
    p = pump.parameters
    out = pump.predict(
        rated(
            source_flow_kg_s=p.source_flow_rated_kg_s,
            sink_flow_kg_s=p.sink_flow_rated_kg_s,
        )
    ).iloc[0]

    assert out["sink_heat_w"] == pytest.approx(600e3, rel=3e-4)
    assert out["compressor_power_w"] == pytest.approx(power, rel=3e-4)


@pytest.mark.parametrize(("evaporating", "condensing"), [(24.0, None), (23.0, 68.0)])
def test_the_refrigerants_temperatures_of_a_nameplate_are_kept(evaporating, condensing):
    """Where a data sheet tells them no typical approach is assumed."""
    plate = dataclasses.replace(
        PLATE, evaporating_temp_degc=evaporating, condensing_temp_degc=condensing
    )
    pump = heatpump.from_nameplate(dataclasses.replace(CONFIGURED, nameplate=plate))
    p = pump.parameters
    flows = {
        "source_flow_kg_s": p.source_flow_rated_kg_s,
        "sink_flow_kg_s": p.sink_flow_rated_kg_s,
    }
    out = pump.predict(rated(**flows)).iloc[0]

    assert out["evaporating_temp_degc"] == pytest.approx(evaporating, abs=0.02)
    if condensing is not None:
        assert out["condensing_temp_degc"] == pytest.approx(condensing, abs=0.02)
    assert out["sink_heat_w"] == pytest.approx(PLATE.sink_heat_w, rel=1e-3)


def test_a_prediction_is_in_the_vocabulary():
    """Every column but the reason is a point, so it can be stored as it is."""
    out = HP.predict(rated())

    assert set(out.columns) - {"reason"} == set(heatpump.PREDICTED)
    assert set(heatpump.PREDICTED) <= set(POINTS)


@given(
    t_si=st.floats(25.0, 45.0), t_ki=st.floats(46.0, 62.0), speed=st.floats(25.0, 60.0)
)
def test_what_is_given_does_not_matter(t_si, t_ki, speed):
    """Speed, either heat or either outlet: one operating point, five ways in."""
    row = rated(
        source_inlet_temp_degc=t_si,
        sink_inlet_temp_degc=t_ki,
        compressor_speed_hz=speed,
    )
    first = HP.predict(row)
    if first["reason"].iloc[0] != Reason.SOLVED:
        return
    for name in heatpump.GIVEN[1:]:
        again = HP.predict(row.assign(**{name: first[name]}), given=name)
        np.testing.assert_allclose(
            again.to_numpy(dtype=float), first.to_numpy(dtype=float), rtol=1e-6
        )


@given(t_si=st.floats(25.0, 45.0), t_ki=st.floats(46.0, 62.0))
def test_liquids_close_with_the_heat_capacity_of_their_mean(t_si, t_ki):
    """Predicted and derived heat are the same arithmetic, to glycol's curvature."""
    row = rated(source_inlet_temp_degc=t_si, sink_inlet_temp_degc=t_ki)
    out = HP.predict(row).iloc[0]
    cold = out["source_outlet_temp_degc"]
    heat = (
        row["source_flow_kg_s"].iloc[0]
        * fluids.heat_capacity(HP.source, 0.5 * (t_si + cold))
        * (t_si - cold)
    )

    assert float(heat) == pytest.approx(out["source_heat_w"], rel=1e-4)


@settings(max_examples=15)
@given(
    t_si=st.floats(28.0, 42.0),
    speed=st.floats(30.0, 55.0),
    given_name=st.sampled_from(heatpump.GIVEN),
)
def test_sensitivities_are_differences_of_predictions(t_si, speed, given_name):
    """In the field's names and units, for parameters and conditions alike."""
    row = rated(source_inlet_temp_degc=t_si, compressor_speed_hz=speed)
    row = row.assign(
        **{n: HP.predict(row)[n] for n in heatpump.GIVEN if n not in row.columns}
    )
    outputs = [
        "sink_outlet_temp_degc", "compressor_power_w", "cop", "condensing_temp_degc",
        "superheat_k", "suction_pressure_pa", "condenser_ua_w_k",
    ]  # fmt: skip
    parameters = ["condenser_ua_w_k", "isentropic_efficiency", "subcooling_k",
                  "source_inlet_temp_degc", "sink_flow_kg_s", given_name]  # fmt: skip
    got = HP.sensitivities(row, given_name, outputs, parameters)
    base = HP.predict(row, given_name)[outputs].to_numpy()[0]
    for k, name in enumerate(parameters):
        sides = []
        for sign in (1.0, -1.0):
            if name in row.columns:
                step = 1e-4 * abs(float(row[name].iloc[0]))
                moved = HP.predict(
                    row.assign(**{name: row[name] + sign * step}), given_name
                )
            else:
                step = 1e-4 * getattr(HP.parameters, name)
                value = getattr(HP.parameters, name) + sign * step
                moved = HP.replace(**{name: value}).predict(row, given_name)
            sides.append(moved[outputs].to_numpy()[0])
        slope = (sides[0] - sides[1]) / (2.0 * step)
        size = np.abs(base) / (1e4 * step)  # 100 % per 100 %

        assert np.abs(got[0, :, k] - slope) / size == pytest.approx(0.0, abs=1e-3), name


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"source_inlet_temp_degc": 308.15}, Reason.IMPLAUSIBLE),
        ({"sink_inlet_temp_degc": np.nan}, Reason.NO_INPUT),
        ({"source_flow_kg_s": -12.0}, Reason.NO_FLOW),
        ({"sink_flow_kg_s": 0.0}, Reason.NO_FLOW),
        ({"compressor_speed_hz": 0.0}, Reason.STANDSTILL),
        ({"source_inlet_temp_degc": -20.0}, Reason.FROZEN),
        (
            {"source_inlet_temp_degc": -12.5, "sink_inlet_temp_degc": 30.0},
            Reason.FROZEN,
        ),
        ({"sink_inlet_temp_degc": 100.0}, Reason.NEAR_CRITICAL),
    ],
)
def test_bad_conditions_are_named_and_not_computed(change, reason):
    """Kelvin, reversed meters, ice in the evaporator: a reason, and NaN throughout."""
    out = HP.predict(rated(**change))

    assert Reason(int(out["reason"].iloc[0])) is reason
    assert out.drop(columns="reason").isna().all(axis=None)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"source_inlet_temp_degc": [308.0]}, "looks like kelvin"),
        ({"suction_pressure_pa": [4.2]}, "looks like bar"),
        ({"suction_pressure_pa": [420.0]}, "looks like kPa"),
        ({"source_flow_m3_s": [-0.01]}, "never negative"),
        ({"sink_temp": [50.0]}, "not in the vocabulary"),
        (
            {"source_inlet_temp_degc": [29.0], "source_outlet_temp_degc": [35.0]},
            "look swapped",
        ),
        (
            {"source_inlet_temp_degc": [55.0], "sink_inlet_temp_degc": [35.0]},
            "swapped",
        ),
    ],
)
def test_a_frame_in_the_wrong_units_is_told_which(columns, says):
    """Before anything is computed, and by name."""
    problems = heatpump.check_conditions(pd.DataFrame(columns))

    assert len(problems) == 1
    assert says in problems[0]


def test_a_right_frame_has_no_problems():
    """Or the check would be switched off after a week."""
    assert heatpump.check_conditions(rated()) == []


def test_a_missing_column_is_named():
    """With the one that was probably meant."""
    with pytest.raises(heatpump.ConditionError, match='no column "sink_flow_kg_s"'):
        HP.predict(rated().drop(columns="sink_flow_kg_s"))
    with pytest.raises(heatpump.ConditionError, match='write "sink_heat_w"'):
        HP.predict(rated(), given="sink_heat")
    with pytest.raises(heatpump.ConditionError, match='parameter "condenser_ua"'):
        HP.sensitivities(rated(), "compressor_speed_hz", ["cop"], ["condenser_ua"])


def test_a_machine_survives_json():
    """What is stored is what is loaded, to the last bit."""
    again = HeatPump.from_dict(json.loads(json.dumps(HP.to_dict())))

    assert again == HP
    pd.testing.assert_frame_equal(again.predict(rated()), HP.predict(rated()))


def test_a_misspelt_parameter_is_told_its_name():
    """The nearest right one stands in the error."""
    with pytest.raises(ValueError, match='write "condenser_ua_w_k"'):
        HP.replace(condenser_ua=1.0)
    with pytest.raises(ValueError, match="is not between"):
        HP.replace(motor_efficiency=1.2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"power_w": 60e3}, "isentropic efficiency"),
        ({"power_w": 800e3}, "leaves none to be taken from the source"),
        ({"source_outlet_temp_degc": 41.0}, "source_inlet_temp_degc"),
        ({"sink_outlet_temp_degc": 45.0}, "sink_outlet_temp_degc"),
        ({"sink_inlet_temp_degc": 95.0, "sink_outlet_temp_degc": 105.0}, "critical"),
    ],
)
def test_an_impossible_nameplate_is_refused(change, says):
    """A COP above Carnot is a typing error, and the text says where."""
    machine = dataclasses.replace(
        CONFIGURED, nameplate=dataclasses.replace(PLATE, **change)
    )

    with pytest.raises(heatpump.NameplateError, match=says):
        heatpump.from_nameplate(machine)


def test_fouling_costs_what_the_maps_say():
    """20 % of the condenser at fixed heat: 3 to 6 % of COP, and never a gain."""
    row = rated(sink_heat_w=450e3)
    clean = HP.predict(row, "sink_heat_w").iloc[0]
    ua = float(clean["condenser_ua_w_k"])
    dirty = (
        HP.replace(condenser_fouling_k_w=0.25 / ua).predict(row, "sink_heat_w").iloc[0]
    )

    assert dirty["condenser_ua_w_k"] == pytest.approx(0.8 * ua, rel=0.01)
    assert 0.01 < 1.0 - dirty["cop"] / clean["cop"] < 0.08


def test_predictions_of_nothing_are_nothing():
    """An empty frame gives an empty answer, with its columns."""
    out = HP.predict(rated().iloc[:0])

    assert len(out) == 0
    assert "cop" in out.columns


WITH_PLATES = HP.replace(desuperheater_ua_w_k=1e3, subcooler_ua_w_k=15e3)
OWN_WATER = {
    "desuperheater_inlet_temp_degc": 45.0,
    "desuperheater_flow_kg_s": 1.5,
    "subcooler_inlet_temp_degc": 20.0,
    "subcooler_flow_kg_s": 2.0,
}


@given(t_ki=st.floats(46.0, 62.0), speed=st.floats(28.0, 55.0))
def test_separate_water_takes_its_share_and_energy_closes(t_ki, speed):
    """Three circuits heated, one cooled: every watt is somewhere."""
    row = rated(sink_inlet_temp_degc=t_ki, compressor_speed_hz=speed, **OWN_WATER)
    out, plain = WITH_PLATES.predict(row).iloc[0], HP.predict(row).iloc[0]
    p = HP.parameters
    inside = p.motor_efficiency * (1.0 - p.heat_loss_ratio) * out["compressor_power_w"]
    condenser = (
        row["sink_flow_kg_s"].iloc[0]
        * float(
            fluids.heat_capacity(HP.sink, 0.5 * (t_ki + out["sink_outlet_temp_degc"]))
        )
        * (out["sink_outlet_temp_degc"] - t_ki)
    )

    assert out["reason"] == Reason.SOLVED
    assert out["sink_heat_w"] == pytest.approx(out["source_heat_w"] + inside, rel=1e-12)
    assert out["sink_heat_w"] == pytest.approx(
        condenser + out["desuperheater_heat_w"] + out["subcooler_heat_w"], rel=3e-4
    )
    assert 0.0 < out["desuperheater_heat_w"] < 0.2 * out["sink_heat_w"]
    assert out["cop"] > plain["cop"]  # colder liquid, and less for the condenser
    assert (
        45.0
        < out["desuperheater_outlet_temp_degc"]
        < plain["compressor_discharge_temp_degc"]
    )
    assert 20.0 < out["subcooler_outlet_temp_degc"] < out["liquid_temp_degc"]


@pytest.mark.parametrize(
    "name", ["source_heat_w", "sink_heat_w", "source_outlet_temp_degc"]
)
def test_separate_water_does_not_matter_to_what_is_given(name):
    """Speed or heat: one operating point, with all circuits."""
    row = rated(**OWN_WATER)
    first = WITH_PLATES.predict(row)
    again = WITH_PLATES.predict(row.assign(**{name: first[name]}), name)

    np.testing.assert_allclose(
        again.to_numpy(dtype=float), first.to_numpy(dtype=float), rtol=1e-6
    )


def test_plates_without_water_change_nothing():
    """A valve is shut: the condenser does it all."""
    row = rated(
        **(OWN_WATER | {"desuperheater_flow_kg_s": 0.0, "subcooler_flow_kg_s": 0.0})
    )
    out, plain = WITH_PLATES.predict(row), HP.predict(row)

    assert out["cop"].iloc[0] == pytest.approx(plain["cop"].iloc[0], rel=1e-9)
    assert out["subcooler_heat_w"].iloc[0] == 0.0


def test_separate_water_must_be_known():
    """A plate without its inlet temperature is not an idle plate."""
    with pytest.raises(
        heatpump.ConditionError, match='"desuperheater_inlet_temp_degc"'
    ):
        WITH_PLATES.predict(rated())
    with pytest.raises(heatpump.ConditionError, match="more than one sink outlet"):
        WITH_PLATES.predict(
            rated(**OWN_WATER, sink_outlet_temp_degc=65.0), "sink_outlet_temp_degc"
        )
    out = WITH_PLATES.predict(
        rated(**(OWN_WATER | {"subcooler_inlet_temp_degc": np.nan}))
    )
    assert out["reason"].iloc[0] == Reason.NO_INPUT


def test_sensitivities_reach_the_separate_water():
    """By the same theorem."""
    row = rated(**OWN_WATER)
    name = "desuperheater_inlet_temp_degc"
    got = WITH_PLATES.sensitivities(row, "compressor_speed_hz", ["cop"], [name])
    sides = [
        WITH_PLATES.predict(row.assign(**{name: 45.0 + d}))["cop"].iloc[0]
        for d in (0.01, -0.01)
    ]

    assert got[0, 0, 0] == pytest.approx((sides[0] - sides[1]) / 0.02, rel=1e-3)


# -- what makers print ------------------------------------------------------


@pytest.fixture(scope="module")
def printed():
    """Return a maker's map of a 220 kW machine."""
    if not WAMAK.exists():
        pytest.skip(f"manufacturer's map not found at {WAMAK}")
    table = pd.read_csv(WAMAK)
    return pd.DataFrame(
        {
            "source_inlet_temp_degc": table["T_source_C"],
            "sink_outlet_temp_degc": table["T_sink_C"],
            "sink_heat_w": table["Q_W"],
            "compressor_power_w": table["P_el_W"],
        }
    )


def test_a_makers_map_is_predicted_between_its_lines(printed):
    """Fitted at 55 and 80 degC, COP at 60 and 70: CV(RMSE) within 5 %.

    A constant share of Carnot's gives 6.5 % over the map.
    """
    outer = printed["sink_outlet_temp_degc"].isin([55.0, 80.0])
    machine = makers.from_map(printed[outer], "R513A", source=Coolant("MEG", 0.3))
    held = printed[~outer]
    out = makers.rate(machine, held)
    cop = held["sink_heat_w"] / held["compressor_power_w"]

    assert (out["reason"] == Reason.SOLVED).all()
    assert np.sqrt(((out["cop"] - cop) ** 2).mean()) / cop.mean() < 0.05
    assert np.sqrt(((out["sink_heat_w"] / held["sink_heat_w"] - 1) ** 2).mean()) < 0.03


def test_a_map_of_our_own_machine_is_met():
    """Points that a machine predicts make a machine that predicts them."""
    grid = [(s, k) for s in (25.0, 30.0, 35.0, 40.0) for k in (55.0, 62.0, 70.0)]
    table = pd.DataFrame(
        grid, columns=["source_inlet_temp_degc", "sink_outlet_temp_degc"]
    )
    true = makers.rate(HP, table, source_drop=6.0, sink_rise=10.0)
    table["sink_heat_w"] = true["sink_heat_w"]
    table["compressor_power_w"] = true["compressor_power_w"]
    found = makers.from_map(
        table, "R1234ze(E)", source=HP.source, source_drop=6.0, sink_rise=10.0
    )
    out = makers.rate(found, table, source_drop=6.0, sink_rise=10.0)

    np.testing.assert_allclose(out["cop"], true["cop"], rtol=0.01)


def test_a_map_without_a_column_is_named():
    """And so is one with too few points."""
    with pytest.raises(makers.MapError, match='no column "compressor_power_w"'):
        makers.from_map(
            pd.DataFrame({n: [1.0] for n in makers.MAP_COLUMNS[:3]}), "R134a"
        )
    with pytest.raises(makers.MapError, match="four or more"):
        makers.from_map(pd.DataFrame({n: [50.0] for n in makers.MAP_COLUMNS}), "R134a")


def _polynomial(values, evaporating, condensing):
    s, d = evaporating, condensing
    terms = [s**0, s, d, s**2, s * d, d**2, s**3, d * s**2, s * d**2, d**3]
    return np.linalg.lstsq(np.column_stack(terms), values, rcond=None)[0]


def test_a_compressor_of_polynomials_draws_what_they_say():
    """Power and flow printed from known efficiencies come back within 2 %."""
    fluid = fluids.refrigerant("R134a")
    s, d = (
        v.ravel() for v in np.meshgrid(np.linspace(0, 20, 8), np.linspace(45, 70, 8))
    )
    rho, h1, s1 = fluid.suction_state(s, 10.0)
    ratio = fluid.saturation_pressure(d) / fluid.saturation_pressure(s)
    flow = 0.15 * (0.97 - 0.03 * (ratio - 1.0)) * rho
    power = flow * (fluid.isentropic_enthalpy(d, s1) - h1) / 0.66
    machine = dataclasses.replace(CONFIGURED, refrigerant="R134a")
    pump = makers.from_polynomials(
        machine,
        power=_polynomial(power, s, d),
        refrigerant_flow=_polynomial(flow, s, d),
        evaporating=(0.0, 20.0),
        condensing=(45.0, 70.0),
    )
    p = pump.parameters

    assert p.isentropic_efficiency * p.motor_efficiency == pytest.approx(0.66, rel=0.02)
    assert p.swept_flow_m3_s == pytest.approx(0.15 * 0.97, rel=0.02)


def test_polynomials_in_the_wrong_unit_are_refused():
    """Flow in kg/h makes a compressor of 2000 efficiency."""
    c = np.zeros(10)
    c[0] = 100e3
    f = np.zeros(10)
    f[0] = 3600.0 * 3.0
    with pytest.raises(makers.MapError, match="flow in kg/s"):
        makers.from_polynomials(
            dataclasses.replace(CONFIGURED, refrigerant="R134a"),
            power=c,
            refrigerant_flow=f,
        )
    with pytest.raises(makers.MapError, match="not both"):
        makers.from_polynomials(CONFIGURED, power=c)
