"""The simulated plant's property laws are those of CoolProp, to stated figures."""

from __future__ import annotations

import numpy as np
import pytest

from twin.plant import Coolant
from twin.simulate import media

CoolProp = pytest.importorskip("CoolProp")


def _heos(name: str):
    return CoolProp.AbstractState("HEOS", name)


@pytest.mark.parametrize("name", media.REFRIGERANTS)
def test_saturation_follows_the_equation_of_state(name: str) -> None:
    """Pressure within 1e-6, enthalpies within 10 J/kg, density within 1e-4."""
    fluid, state = media.refrigerant(name), _heos(name)
    temps = np.linspace(fluid.low + 1.0, fluid.high - 1.0, 37)
    found = {"p": [], "hl": [], "hg": [], "sg": [], "rg": []}
    for temp in temps:
        state.update(CoolProp.QT_INPUTS, 1.0, temp + 273.15)
        found["p"].append(state.p())
        found["hg"].append(state.hmass())
        found["sg"].append(state.smass())
        found["rg"].append(state.rhomass())
        state.update(CoolProp.QT_INPUTS, 0.0, temp + 273.15)
        found["hl"].append(state.hmass())
    assert fluid.pressure(temps) == pytest.approx(np.array(found["p"]), rel=1e-6)
    assert fluid.liquid_enthalpy(temps) == pytest.approx(np.array(found["hl"]), abs=10)
    assert fluid.vapour_enthalpy(temps) == pytest.approx(np.array(found["hg"]), abs=10)
    assert fluid.vapour_entropy(temps) == pytest.approx(np.array(found["sg"]), abs=0.03)
    assert fluid.vapour_density(temps) == pytest.approx(np.array(found["rg"]), rel=1e-4)


@pytest.mark.parametrize("name", media.REFRIGERANTS)
def test_vapour_follows_the_equation_of_state(name: str) -> None:
    """Suction within 15 J/kg and 1e-4; the discharge temperature within 0.02 K."""
    fluid, state = media.refrigerant(name), _heos(name)
    random = np.random.default_rng(4)
    for _ in range(40):
        te, superheat = random.uniform(-15.0, 45.0), random.uniform(1.0, 20.0)
        state.update(CoolProp.QT_INPUTS, 1.0, te + 273.15)
        pressure = state.p()
        state.specify_phase(CoolProp.iphase_gas)
        state.update(CoolProp.PT_INPUTS, pressure, te + superheat + 273.15)
        state.unspecify_phase()
        h, s, rho = fluid.suction(np.array([te]), np.array([superheat]))
        assert h[0] == pytest.approx(state.hmass(), abs=15.0)
        assert s[0] == pytest.approx(state.smass(), abs=0.05)
        assert rho[0] == pytest.approx(state.rhomass(), rel=2e-4)

        tc = random.uniform(max(te + 15.0, 30.0), fluid.high - 3.0)
        entropy = float(s[0]) + random.uniform(0.0, 40.0)
        h2 = fluid.isentropic_enthalpy(np.array([tc]), np.array([entropy]))
        state.update(CoolProp.QT_INPUTS, 1.0, tc + 273.15)
        dew = state.smass()
        state.update(CoolProp.PSmass_INPUTS, state.p(), entropy)
        assert h2[0] == pytest.approx(state.hmass(), abs=15.0)
        if entropy > dew and state.T() - 273.15 - tc < fluid.superheat:
            above = h2 - fluid.vapour_enthalpy(np.array([tc]))
            rise = fluid.superheat_of(np.array([tc]), above)
            assert tc + rise[0] == pytest.approx(state.T() - 273.15, abs=0.02)


def test_the_slope_of_the_saturation_line_is_its_derivative() -> None:
    """A difference quotient of the pressure law gives the same K/Pa."""
    fluid = media.refrigerant("R134a")
    temp = np.linspace(-10.0, 80.0, 19)
    slope = 2e-3 / (fluid.pressure(temp + 1e-3) - fluid.pressure(temp - 1e-3))
    assert fluid.temp_slope(temp) == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize(("kind", "share"), [("MPG", 0.27), ("MEG", 0.4)])
def test_glycol_follows_its_tables(kind: str, share: float) -> None:
    """Heat capacity within 6 J/(kg K), density within 0.4 kg/m3 of INCOMP."""
    state = CoolProp.AbstractState("INCOMP", kind)
    state.set_mass_fractions([share])
    for temp in (5.0, 30.0, 60.0, 85.0):
        state.update(CoolProp.PT_INPUTS, 3e5, temp + 273.15)
        at = np.array([temp])
        coolant = Coolant(kind, share)
        assert media.heat_capacity(coolant, at)[0] == pytest.approx(
            state.cpmass(), abs=6.0
        )
        assert media.density(coolant, at)[0] == pytest.approx(state.rhomass(), abs=0.4)


def test_water_follows_the_equation_of_state() -> None:
    """Heat capacity within 0.5 J/(kg K), density within 0.02 kg/m3 of HEOS."""
    state = _heos("Water")
    for temp in (3.0, 30.0, 60.0, 90.0):
        state.update(CoolProp.PT_INPUTS, 4e5, temp + 273.15)
        at = np.array([temp])
        assert media.heat_capacity(Coolant(), at)[0] == pytest.approx(
            state.cpmass(), abs=0.5
        )
        assert media.density(Coolant(), at)[0] == pytest.approx(
            state.rhomass(), abs=0.02
        )


def test_an_unknown_refrigerant_is_refused_with_what_there_is() -> None:
    """R744 has no laws here, and the sentence names those that have."""
    with pytest.raises(ValueError, match=r"R744.*R1234ze\(E\), R134a, R290, R717"):
        media.refrigerant("R744")
