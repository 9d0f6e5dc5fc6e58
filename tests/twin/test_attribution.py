"""A COP loss is split so that the parts sum, and the guilty component pays."""

from __future__ import annotations

from dataclasses import fields
from itertools import chain, combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from twin.attribution import (
    PARAMETERS_OF,
    Component,
    CopLoss,
    attribute,
    cop_loss,
    swapped,
)
from twin.finding import Refusal
from twin.heatpump import Parameters, from_nameplate
from twin.plant import Machine, Nameplate

NAMES = ["a", "b", "c", "d", "e"]
numbers = st.floats(-1e3, 1e3)


def subsets(names):
    """List every subset."""
    sizes = range(len(names) + 1)
    return [frozenset(s) for s in chain(*(combinations(names, k) for k in sizes))]


@st.composite
def games(draw):
    """Draw a value for each coalition of up to five factors."""
    names = NAMES[: draw(st.integers(1, 5))]
    values = draw(arrays(float, 2 ** len(names), elements=numbers))
    return names, dict(zip(subsets(names), values.tolist(), strict=True))


@given(games())
def test_the_parts_sum_to_the_whole(game):
    """Closes to 1e-12 of the largest value, for every game there is."""
    names, values = game
    shares = attribute(values.__getitem__, names)
    whole = values[frozenset(names)] - values[frozenset()]
    scale = max(1.0, *(abs(one) for one in values.values()))

    assert abs(sum(shares.values()) - whole) <= 1e-12 * scale


@given(games())
def test_the_order_does_not_matter(game):
    """Naming the factors the other way round changes nothing."""
    names, values = game
    there = attribute(values.__getitem__, names)
    back = attribute(values.__getitem__, reversed(names))

    assert there == pytest.approx(back, rel=1e-9, abs=1e-9)


@given(games())
def test_equal_factors_are_treated_equally(game):
    """Where exchanging a and b changes no coalition, they pay the same."""
    names, values = game
    if len(names) < 2:
        return
    turn = {"a": "b", "b": "a"}

    def even(changed):
        return values[changed] + values[frozenset(turn.get(k, k) for k in changed)]

    shares = attribute(even, names)
    assert shares["a"] == pytest.approx(shares["b"], rel=1e-9, abs=1e-9)


@given(games())
def test_a_factor_without_effect_pays_nothing(game):
    """The null player gets exactly nought."""
    names, values = game
    shares = attribute(lambda changed: values[changed - {"idle"}], [*names, "idle"])

    assert shares["idle"] == 0.0


@given(games(), numbers)
def test_a_single_effect_is_its_own(game, effect):
    """An effect that adds, whatever else happens, is paid by its factor in full."""
    names, values = game
    shares = attribute(
        lambda changed: values[changed - {"extra"}] + effect * ("extra" in changed),
        [*names, "extra"],
    )

    assert shares["extra"] == pytest.approx(effect, rel=1e-9, abs=1e-9)


def test_each_coalition_is_asked_once():
    """2^n evaluations, not n!: one of them may be a day of a whole machine."""
    asked = []
    attribute(lambda changed: asked.append(changed) or float(len(changed)), NAMES)

    assert len(asked) == len(set(asked)) == 2 ** len(NAMES)


# --- a heat pump --------------------------------------------------------------

MACHINE = Machine(
    id="hp1",
    refrigerant="R1234ze(E)",
    nameplate=Nameplate(
        sink_heat_w=500e3,
        power_w=125e3,
        source_inlet_temp_degc=35.0,
        source_outlet_temp_degc=28.0,
        sink_inlet_temp_degc=50.0,
        sink_outlet_temp_degc=65.0,
        speed_hz=50.0,
    ),
)
FAULTS = {
    Component.EVAPORATOR: "evaporator_fouling_k_w",
    Component.CONDENSER: "condenser_fouling_k_w",
}


@pytest.fixture(scope="module")
def reference():
    """Make the machine as its nameplate promises."""
    return from_nameplate(MACHINE)


def day(reference, n=24):
    """Make a day of windows, swinging about the nameplate."""
    swing = np.sin(np.linspace(0.0, 2.0 * np.pi, n))
    own = reference.parameters
    return pd.DataFrame(
        {
            "source_inlet_temp_degc": 35.0 + swing,
            "sink_inlet_temp_degc": 50.0 - swing,
            "source_flow_kg_s": own.source_flow_rated_kg_s,
            "sink_flow_kg_s": own.sink_flow_rated_kg_s,
            "sink_heat_w": 350e3 + 60e3 * swing,
        },
        index=pd.date_range("2026-01-05 00:10", periods=n, freq="10min", tz="UTC"),
    )


def faulty(reference, component, grade):
    """Return the machine with one component spoilt by a grade."""
    own = reference.parameters
    if component is Component.COMPRESSOR:
        worse = {"isentropic_efficiency": own.isentropic_efficiency * (1 - grade)}
    elif component is Component.CHARGE:
        worse = {"subcooling_k": own.subcooling_k * (1 - grade)}
    else:
        clean = getattr(own, f"{component.value}_ua_w_k")
        worse = {FAULTS[component]: grade / (1 - grade) / clean}
    return reference.replace(**worse)


def test_every_parameter_speaks_of_one_component():
    """None forgotten, none twice: with all four swapped it is the current machine."""
    named = [name for names in PARAMETERS_OF.values() for name in names]

    assert sorted(named) == sorted(one.name for one in fields(Parameters))


def test_all_swapped_is_the_current_machine(reference):
    """And none swapped is the reference."""
    current = faulty(faulty(reference, Component.CONDENSER, 0.3), Component.CHARGE, 0.5)

    assert swapped(reference, current, PARAMETERS_OF) == current
    assert swapped(reference, current, ()) == reference


@pytest.mark.parametrize("component", list(PARAMETERS_OF))
def test_a_single_fault_pays_alone(reference, component):
    """One component changed: it has all of the loss, the others exactly nought."""
    found = cop_loss(reference, faulty(reference, component, 0.3), day(reference))

    assert isinstance(found, CopLoss)
    assert found.rows == 24
    lost = found.reference_cop - found.cop
    assert lost > 0.0
    assert found.parts[component].cop == pytest.approx(lost, rel=1e-12)
    assert found.parts[component].power_w > 0.0
    for other in set(PARAMETERS_OF) - {component}:
        assert found.parts[other].cop == 0.0
        assert found.parts[other].power_w == 0.0


@settings(max_examples=8, deadline=None)
@given(st.lists(st.floats(0.0, 0.4), min_size=4, max_size=4), st.floats(-3.0, 3.0))
def test_everything_at_once_closes(grades, shift):
    """All seven parts, in COP and in watts, sum to the whole to 1e-12."""
    reference = from_nameplate(MACHINE)
    current = reference
    for component, grade in zip(PARAMETERS_OF, grades, strict=True):
        current = faulty(current, component, grade)
    windows = day(reference, 6)
    power = np.linspace(90e3, 110e3, 6)
    found = cop_loss(
        reference,
        current,
        windows,
        usual={"source_inlet_temp_degc": 35.0 + shift},
        measured_power=power,
        auxiliaries=(np.full(6, 4e3), np.full(6, 6e3)),
    )

    assert isinstance(found, CopLoss)
    assert set(found.parts) == set(Component)
    assert not found.lacking
    lost = sum(part.cop for part in found.parts.values())
    assert found.reference_cop - found.cop == pytest.approx(lost, abs=1e-12)
    whole = windows["sink_heat_w"].sum()
    assert found.cop == pytest.approx(whole / (power + 6e3).sum(), rel=1e-12)
    watts = sum(part.power_w for part in found.parts.values())
    before = whole / found.reference_cop / 6
    assert watts == pytest.approx((power + 6e3).mean() - before, rel=1e-9)


def test_a_healthy_machine_loses_nothing(reference):
    """The negative control: the same machine twice."""
    found = cop_loss(reference, reference, day(reference))

    assert isinstance(found, CopLoss)
    assert found.reference_cop == found.cop
    assert all(part.cop == 0.0 for part in found.parts.values())


def test_weather_is_not_degradation(reference):
    """A colder source costs COP; the boundary pays and the machine does not."""
    found = cop_loss(
        reference, reference, day(reference), usual={"source_inlet_temp_degc": 38.0}
    )

    assert isinstance(found, CopLoss)
    assert found.parts[Component.BOUNDARY].cop > 0.05
    assert found.degradation == 0.0


def test_the_larger_of_two_faults_is_named(reference):
    """A third of the condenser against a twentieth of the evaporator."""
    current = faulty(reference, Component.CONDENSER, 0.35)
    current = faulty(current, Component.EVAPORATOR, 0.05)
    found = cop_loss(reference, current, day(reference))

    assert isinstance(found, CopLoss)
    worst = max(found.parts, key=lambda one: found.parts[one].cop)
    assert worst is Component.CONDENSER
    assert found.parts[Component.EVAPORATOR].cop > 0.0


def test_a_day_is_priced(reference):
    """Watts at the windows' mean heat, over the time that the day's heat takes."""
    windows = day(reference)
    found = cop_loss(
        reference,
        faulty(reference, Component.CONDENSER, 0.3),
        windows,
        delivered_j_day=windows["sink_heat_w"].mean() * 86400.0,
        electricity_price=0.2 / 3.6e6,
    )

    assert isinstance(found, CopLoss)
    part = found.parts[Component.CONDENSER]
    assert part.energy_j_day == pytest.approx(part.power_w * 86400.0)
    assert part.eur_day == pytest.approx(part.power_w / 1e3 * 24 * 0.2)
    assert part.kg_day is None


def test_what_cannot_be_judged_is_said(reference):
    """No pumps, no meter, no usual conditions: named, not nought."""
    found = cop_loss(reference, reference, day(reference))

    assert isinstance(found, CopLoss)
    assert set(found.lacking) == {
        Component.BOUNDARY,
        Component.AUXILIARIES,
        Component.UNEXPLAINED,
    }
    assert not set(found.lacking) & set(found.parts)


def test_no_window_is_a_refusal(reference):
    """Standstill all day: the reason why there is no answer."""
    windows = day(reference).assign(sink_heat_w=0.0)
    found = cop_loss(reference, reference, windows)

    assert isinstance(found, Refusal)
    assert found.code == "attribution.no_window"


def test_another_refrigerant_is_no_degradation(reference):
    """It opens a new reference; a comparison would be of two machines."""
    other = from_nameplate(
        Machine(id="hp1", refrigerant="R134a", nameplate=MACHINE.nameplate)
    )
    with pytest.raises(ValueError, match="opens a new reference"):
        cop_loss(reference, other, day(reference))


def test_what_physics_leaves_over_is_no_fault(reference):
    """A machine that always drew 3 % more than its physics says has lost nothing."""
    windows = day(reference)
    told = reference.predict(windows, given="sink_heat_w")["compressor_power_w"]
    found = cop_loss(
        reference,
        reference,
        windows,
        measured_power=1.03 * told.to_numpy(),
        left_over=(np.ones(24), np.full(24, 1.03)),
    )

    assert isinstance(found, CopLoss)
    assert found.parts[Component.UNEXPLAINED].cop == pytest.approx(0.0, abs=1e-12)
    assert found.heat_w == pytest.approx(windows["sink_heat_w"].mean())


def test_usual_conditions_may_swing(reference):
    """One value for each window, as well as one for all."""
    windows = day(reference)
    warmer = windows["source_inlet_temp_degc"].to_numpy() + 3.0
    found = cop_loss(
        reference, reference, windows, usual={"source_inlet_temp_degc": warmer}
    )

    assert isinstance(found, CopLoss)
    assert found.parts[Component.BOUNDARY].cop > 0.05
