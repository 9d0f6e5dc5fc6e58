"""Tables are the equation of state to within what no instrument can see."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin import fluids
from twin.plant import Coolant

WATER = Coolant()


@pytest.mark.parametrize("name", fluids.REFRIGERANTS)
def test_tables_are_the_equation_of_state(name):
    """Where heat pumps work: 1e-7 of pressure, 1e-6 of the enthalpy differences."""
    fluid, state = fluids.refrigerant(name), fluids.Helmholtz(name)
    rng = np.random.default_rng(1)
    worst = dict.fromkeys(("pressure", "density", "vapour", "liquid", "work"), 0.0)
    for _ in range(60):
        cold = rng.uniform(-30.0, min(40.0, fluid.critical_temp - 30.0))
        hot = rng.uniform(cold + 15.0, fluid.critical_temp - 12.0)
        superheat, subcooling = rng.uniform(0.5, 20.0), rng.uniform(0.5, 15.0)
        kelvin = fluids.ZERO_DEGC
        try:
            p_e, h_g, _, _, _ = state.saturation(cold + kelvin)
            p_c, _, s_gc, _, _ = state.saturation(hot + kelvin)
            h1, s1, rho1 = state.vapour(p_e, cold + superheat + kelvin)
            h3 = state.liquid(p_c, hot - subcooling + kelvin)
        except ValueError:  # the equation of a blend fails at single states
            continue
        rho, h, s = fluid.suction_state(cold, superheat)
        error = {
            "pressure": fluid.saturation_pressure(cold) / p_e - 1.0,
            "density": rho / rho1 - 1.0,
            "vapour": (h - h1) / (h_g - h3),
            "liquid": (fluid.subcooled_enthalpy(hot, subcooling) - h3) / (h_g - h3),
        }
        if s1 > s_gc:
            ideal = fluid.isentropic_enthalpy(hot, s)
            error["work"] = (ideal - state.isentropic(p_c, s1)) / (ideal - h)
        for key, value in error.items():
            worst[key] = max(worst[key], abs(float(value)))

    assert worst["pressure"] < 1e-7
    assert worst["density"] < 1e-6
    # A blend's liquid is taken at its bubble pressure, 0.3 % above the dew's.
    blend = 2e-3 if name in ("R410A", "R513A", "R515B") else 1e-5
    assert worst["vapour"] < 1e-6
    assert worst["liquid"] < blend
    assert worst["work"] < 2e-6


def test_water_is_the_international_standard():
    """IAPWS-95 at 3 bar through CoolProp, 0.01 to 120 degC: 5e-5 of cp and rho."""
    CoolProp = pytest.importorskip("CoolProp.CoolProp")
    temp = np.linspace(0.01, 120.0, 40)
    cp = CoolProp.PropsSI("C", "T", temp + 273.15, "P", 3e5, "Water")
    rho = CoolProp.PropsSI("D", "T", temp + 273.15, "P", 3e5, "Water")

    assert fluids.heat_capacity(WATER, temp) == pytest.approx(cp, rel=5e-5)
    assert fluids.density(WATER, temp) == pytest.approx(rho, rel=5e-6)


@pytest.mark.parametrize("kind", ["MEG", "MPG"])
@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_glycol_is_the_tabulated_solution(kind, share):
    """Melinder's solutions through CoolProp, printed digits and all."""
    CoolProp = pytest.importorskip("CoolProp.CoolProp")
    coolant = Coolant(kind, share)
    frozen = fluids.freezing_point(coolant)
    name = f"INCOMP::{kind}[{share}]"
    temp = np.linspace(max(frozen + 1.0, -20.0), 95.0, 15)
    cp = [CoolProp.PropsSI("C", "T", t + 273.15, "P", 3e5, name) for t in temp]
    rho = [CoolProp.PropsSI("D", "T", t + 273.15, "P", 3e5, name) for t in temp]

    assert fluids.heat_capacity(coolant, temp) == pytest.approx(cp, rel=1e-6)
    assert fluids.density(coolant, temp) == pytest.approx(rho, rel=1e-6)
    assert frozen == pytest.approx(
        CoolProp.PropsSI("T_freeze", "T", 300.0, "P", 3e5, name) - 273.15, abs=1e-3
    )


@given(
    temp=st.floats(5.0, 90.0),
    share=st.floats(0.0, 0.6),
    kind=st.sampled_from(["MEG", "MPG"]),
)
def test_slope_is_the_derivative_of_the_heat_capacity(temp, share, kind):
    """The solver's heat capacity is linear with this slope from the inlet on."""
    coolant = Coolant(kind, share) if share > 0.0 else WATER
    step = 1e-3
    up, down = (fluids.heat_capacity(coolant, temp + d) for d in (step, -step))

    assert fluids.heat_capacity_slope(coolant, temp) == pytest.approx(
        float(up - down) / (2.0 * step), abs=1e-4
    )


@pytest.mark.parametrize(
    ("coolant", "temp"),
    [
        (WATER, -0.5),
        (WATER, 131.0),
        (Coolant("MEG", 0.3), -20.0),
        (Coolant("MPG", 0.3), 101.0),
        (WATER, np.nan),
    ],
)
def test_frozen_or_boiling_has_no_heat_capacity(coolant, temp):
    """A number here would let a frozen evaporator look like a running one."""
    assert np.isnan(fluids.heat_capacity(coolant, temp))
    assert np.isnan(fluids.density(coolant, temp))


@given(temp=st.floats(-40.0, 90.0))
def test_saturation_temperature_inverts_pressure(temp):
    """There and back again, to 1e-7 K."""
    fluid = fluids.refrigerant("R1234ze(E)")
    pressure = fluid.saturation_pressure(temp)

    assert float(fluid.saturation_temp(pressure)) == pytest.approx(temp, abs=1e-7)


@pytest.mark.parametrize("pressure", [4.2, 0.0, -1e5, np.nan, 1e9])
def test_an_impossible_pressure_has_no_saturation_temperature(pressure):
    """4.2 is a pressure in bar where pascals are meant: no answer, not a cold one."""
    assert np.isnan(fluids.refrigerant("R134a").saturation_temp(pressure))


@given(hot=st.floats(20.0, 90.0), rise=st.floats(0.0, 100.0))
def test_discharge_temperature_and_enthalpy_invert_each_other(hot, rise):
    """Derived efficiencies go one way, predictions the other."""
    fluid = fluids.refrigerant("R600a")
    enthalpy = fluid.superheated_enthalpy(hot, hot + rise)

    assert float(fluid.superheated_temp(hot, enthalpy)) == pytest.approx(
        hot + rise, abs=1e-6
    )


def test_a_wet_temperature_tells_no_enthalpy():
    """Below saturation the discharge probe lies, or the gas carries liquid."""
    assert np.isnan(fluids.refrigerant("R134a").superheated_enthalpy(60.0, 59.0))


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("R1234ze", 'write "R1234ze(E)"'),
        ("r134A", 'write "R134a"'),
        ("R-513A", 'write "R513A"'),
        ("ammonia", 'write "R717"'),
        ("water", "known are"),
    ],
)
def test_an_unknown_refrigerant_is_told_its_name(wrong, right):
    """A configuration is corrected by what the error says, not by a manual."""
    problem = fluids.check_refrigerant(wrong)

    assert problem is not None
    assert right in problem
    with pytest.raises(fluids.FluidError, match="is not known"):
        fluids.refrigerant(wrong)


def test_carbon_dioxide_is_refused_with_the_reason():
    """Its condenser would be a gas cooler, which has no two zones."""
    problem = fluids.check_refrigerant("R744")

    assert problem is not None
    assert "critical point" in problem


@pytest.mark.parametrize(
    ("coolant", "says"),
    [
        (Coolant("glycol", 0.3), "none of water, MEG, MPG"),
        (Coolant("MEG", 30.0), "it is a fraction, not per cent"),
        (Coolant("water", 0.3), 'write kind "MEG" or "MPG"'),
    ],
)
def test_a_wrong_coolant_is_named(coolant, says):
    """Thirty per cent written as 30 is the likeliest slip of all."""
    problem = fluids.check_coolant(coolant)

    assert problem is not None
    assert says in problem
    with pytest.raises(fluids.FluidError):
        fluids.heat_capacity(coolant, 20.0)


def test_a_torn_cache_is_built_again(tmp_path, monkeypatch):
    """Power fails while a table is written: the next start pays, nobody else."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    whole = fluids.refrigerant.__wrapped__("R290")
    (path,) = (tmp_path / "hptwin").glob("*.npz")
    path.write_bytes(path.read_bytes()[:1000])
    again = fluids.refrigerant.__wrapped__("R290")

    assert all(
        np.array_equal(a, b) for a, b in zip(whole.tables, again.tables, strict=True)
    )
    assert [p.suffix for p in (tmp_path / "hptwin").iterdir()] == [".npz"]


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    """A read-only home is no reason not to run."""
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))

    assert fluids.refrigerant.__wrapped__("R290").name == "R290"


def test_a_cached_table_needs_no_coolprop():
    """Its import takes seconds, which a service's restart should not."""
    fluids.refrigerant("R134a")
    code = (
        "import sys, twin.heatpump, twin.fluids as f; f.refrigerant('R134a');"
        "f.check_refrigerant('R1234'); print('CoolProp' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[2]
    answer = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
    )

    assert answer.stdout.strip() == "False"
