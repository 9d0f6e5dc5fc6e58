"""The simulated heat pump keeps its energy and answers wear as machines do."""

from __future__ import annotations

import numpy as np
import pytest

from twin.simulate import machine, media
from twin.simulate.machine import Duty, Rating, Wear

RATING = Rating(
    sink_heat_w=560e3,
    source_inlet_temp_degc=40.0,
    source_outlet_temp_degc=32.0,
    sink_inlet_temp_degc=50.0,
    sink_outlet_temp_degc=68.0,
)
BUILD = machine.size("R1234ze(E)", RATING)


def _duty(rows: int, seed: int = 0) -> Duty:
    random = np.random.default_rng(seed)
    return Duty(
        random.uniform(36.0, 44.0, rows),
        random.uniform(44.0, 56.0, rows),
        BUILD.source_capacity_w_k * random.uniform(0.9, 1.1, rows),
        BUILD.sink_capacity_w_k * random.uniform(0.6, 1.1, rows),
        RATING.sink_heat_w * random.uniform(0.4, 1.0, rows),
    )


def _one(**wear: float) -> dict[str, float]:
    """Return what the machine does at 86 % load with that wear."""
    duty = Duty(
        *(
            np.array([value])
            for value in (
                40.0,
                50.0,
                BUILD.source_capacity_w_k,
                BUILD.sink_capacity_w_k,
                480e3,
            )
        )
    )
    worn = Wear(*(np.array([wear.get(name, 0.0)]) for name in Wear.__slots__))
    made = {name: float(v[0]) for name, v in machine.run(BUILD, duty, worn).items()}
    return made | {"cop": made["sink_heat_w"] / made["compressor_power_w"]}


NEW = _one()


@pytest.mark.parametrize("name", media.REFRIGERANTS)
def test_a_machine_makes_its_rating(name: str) -> None:
    """Sized for a rating, it makes it at its rated speed, with a likely COP."""
    build = machine.size(name, RATING)
    one = np.ones(1)
    duty = Duty(
        40.0 * one,
        50.0 * one,
        build.source_capacity_w_k * one,
        build.sink_capacity_w_k * one,
        560e3 * one,
    )
    made = machine.run(build, duty, Wear.none(1))
    assert made["speed"][0] == pytest.approx(1.0, abs=1e-6)
    assert made["source_outlet_temp_degc"][0] == pytest.approx(32.0, abs=1e-6)
    assert made["sink_outlet_temp_degc"][0] == pytest.approx(68.0, abs=1e-6)
    assert 4.0 < made["sink_heat_w"][0] / made["compressor_power_w"][0] < 5.5


def test_energy_closes_in_every_row() -> None:
    """Sink heat is source heat and shaft work less what warms the room."""
    made = machine.run(BUILD, _duty(500), Wear.none(500))
    left = made["source_heat_w"] + made["shaft_power_w"] - made["heat_loss_w"]
    assert left == pytest.approx(made["sink_heat_w"], rel=1e-9)
    assert (made["compressor_power_w"] > made["shaft_power_w"]).all()


def test_it_makes_what_is_asked_or_says_that_it_cannot() -> None:
    """Inside its speeds the heat is met to 1e-6; outside it is said on which side."""
    duty = _duty(400, seed=3)
    made = machine.run(BUILD, duty, Wear.none(400))
    free = made["limited"] == 0.0
    assert free.sum() > 200
    assert made["sink_heat_w"][free] == pytest.approx(duty.sink_heat_w[free], rel=1e-6)
    hard = Duty(
        duty.source_inlet_degc,
        duty.sink_inlet_degc,
        duty.source_capacity_w_k,
        duty.sink_capacity_w_k,
        np.full(400, 1.4 * RATING.sink_heat_w),
    )
    most = machine.run(BUILD, hard, Wear.none(400))
    assert (most["limited"] == 1.0).all()
    assert most["speed"] == pytest.approx(BUILD.speed_high)
    assert (most["sink_heat_w"] < hard.sink_heat_w).all()


# COP at equal heat, of a R1234ze machine between 35 and 55 degC inlets, found
# with log-mean zones and polynomial efficiencies: another model altogether.
@pytest.mark.parametrize(
    ("wear", "size", "cop"),
    [
        ("condenser", 0.1, -1.7),
        ("condenser", 0.2, -3.8),
        ("condenser", 0.3, -6.4),
        ("evaporator", 0.1, -1.4),
        ("evaporator", 0.2, -3.1),
        ("evaporator", 0.3, -5.3),
        ("isentropic", 0.05, -3.7),
        ("isentropic", 0.1, -7.5),
        ("charge", 0.875, -3.3),
    ],
)
def test_wear_costs_what_other_models_say(wear: str, size: float, cop: float) -> None:
    """COP lost at equal heat is that of an independent model within a quarter."""
    change = 100.0 * (_one(**{wear: size})["cop"] / NEW["cop"] - 1.0)
    assert change == pytest.approx(cop, rel=0.35 if wear == "charge" else 0.25)


def test_wear_moves_what_a_mechanic_would_look_at() -> None:
    """Each wear has its own sign: pressures, discharge, subcooling, speed."""
    dirty = _one(condenser=0.2)
    assert 0.8 < dirty["condensing_temp_degc"] - NEW["condensing_temp_degc"] < 2.0
    assert dirty["condenser_conductance_ratio"] == pytest.approx(0.8, abs=0.03)
    assert dirty["evaporator_conductance_ratio"] == pytest.approx(1.0)
    cold = _one(evaporator=0.2)
    assert -2.0 < cold["evaporating_temp_degc"] - NEW["evaporating_temp_degc"] < -0.6
    assert cold["evaporator_conductance_ratio"] == pytest.approx(0.8, abs=0.04)
    worn = _one(isentropic=0.1)
    rise = (
        worn["compressor_discharge_temp_degc"] - NEW["compressor_discharge_temp_degc"]
    )
    assert 1.0 < rise < 4.0
    leaky = _one(volumetric=0.05)
    assert leaky["speed"] / NEW["speed"] == pytest.approx(1.052, abs=0.01)
    assert leaky["cop"] / NEW["cop"] == pytest.approx(1.0, abs=0.01)
    short = _one(charge=0.875)
    assert short["subcooling_k"] < NEW["subcooling_k"] - 3.0
    assert short["superheat_k"] > NEW["superheat_k"] + 1.0


def test_no_wear_moves_nothing() -> None:
    """The control: the same machine twice gives the same numbers."""
    assert _one(condenser=0.0) == NEW


def test_conductance_follows_load_by_laws_of_its_own() -> None:
    """The film changes with load, so a plain power law of flow cannot fit it."""
    rows = 5
    loads = np.linspace(0.4, 1.0, rows)
    each = Duty(
        np.full(rows, 40.0),
        np.full(rows, 50.0),
        np.full(rows, BUILD.source_capacity_w_k),
        np.full(rows, BUILD.sink_capacity_w_k),
        loads * RATING.sink_heat_w,
    )
    made = machine.run(BUILD, each, Wear.none(rows))
    # log-mean conductance of the evaporator at constant liquid flow
    near = made["source_outlet_temp_degc"] - made["evaporating_temp_degc"]
    far = each.source_inlet_degc - made["evaporating_temp_degc"]
    ua = made["source_heat_w"] * np.log(far / near) / (far - near)
    assert ua[-1] / ua[0] > 1.1


def test_little_liquid_at_the_lowest_speed_has_an_answer() -> None:
    """Starved and asked for less than its least, it makes its least, and hot."""
    random = np.random.default_rng(4)
    rows = 400
    duty = Duty(
        random.uniform(39.0, 41.0, rows),
        random.uniform(44.5, 47.0, rows),
        np.full(rows, BUILD.source_capacity_w_k),
        random.uniform(6.2e3, 7.8e3, rows),
        random.uniform(110e3, 150e3, rows),
    )
    made = machine.run(BUILD, duty, Wear.none(rows))

    assert np.isfinite(made["sink_heat_w"]).all()
    assert (made["limited"] == -1.0).all()
    assert np.allclose(made["speed"], BUILD.speed_low)
    assert (made["sink_heat_w"] > duty.sink_heat_w).all()
