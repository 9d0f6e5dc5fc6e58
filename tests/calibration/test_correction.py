"""The correction sees boundary conditions only and stays within its training."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from calibration.correction import (
    CAP,
    CAP_SIGMA,
    Correction,
    ForbiddenInputError,
    train,
)
from calibration.instruments import OUTPUTS
from calibration.model import Model, expect
from calibration.registry import Role
from twin.finding import Refusal
from twin.heatpump import from_nameplate
from twin.plant import Machine, Nameplate

LOAD = "source_heat_w"
MACHINE = Machine(
    id="hp1",
    refrigerant="R1234ze(E)",
    nameplate=Nameplate(
        sink_heat_w=5.6e5,
        power_w=1.2e5,
        source_inlet_temp_degc=40.0,
        source_outlet_temp_degc=32.0,
        sink_inlet_temp_degc=50.0,
        sink_outlet_temp_degc=68.0,
    ),
)


def season(rows: int = 800, seed: int = 0, size: float = 0.03):
    """Return conditions, and a machine whose power bends as no physics here says."""
    random = np.random.default_rng(seed)
    index = pd.date_range("2026-01-01", periods=rows, freq="h", tz="UTC", name="time")
    wave = np.arange(rows) / 24.0
    conditions = pd.DataFrame(
        {
            "source_inlet_temp_degc": 38.0 + 3.0 * np.sin(wave),
            "sink_inlet_temp_degc": 50.0 + 5.0 * np.sin(0.37 * wave + 1.0),
            "source_heat_w": 4e5 * (1.0 + 0.2 * np.sin(1.7 * wave)),
        },
        index=index,
    )
    power = 1e5 * (1.0 + 0.01 * (conditions["sink_inlet_temp_degc"] - 50.0))
    bend = (
        size * np.sin(1.7 * wave)
        + size * ((conditions["sink_inlet_temp_degc"] - 50) / 5) ** 2
    )
    noise = random.normal(0.0, 0.003, rows)
    physics = pd.DataFrame({"compressor_power_w": power}, index=index)
    measured = physics.mul(1.0 + bend + noise, axis=0)
    return conditions, measured, physics


@pytest.fixture(scope="module")
def trained() -> Correction:
    """Return a correction learnt on one season."""
    found = train(*season(), load=LOAD)
    assert isinstance(found, Correction)
    return found


def test_it_learns_what_physics_left_over(trained: Correction):
    """On data of another noise the error falls by more than half."""
    conditions, measured, physics = season(seed=1)
    factor = trained.factors(conditions)["compressor_power_w"]
    truth = measured["compressor_power_w"]
    before = (physics["compressor_power_w"] / truth - 1.0).std()
    after = (physics["compressor_power_w"] * factor / truth - 1.0).std()

    assert after < 0.5 * before


@pytest.mark.parametrize(
    "name",
    [
        "sink_outlet_temp_degc",
        "compressor_power_w",
        "suction_pressure_pa",
        "sink_heat_w",  # a heat that is not the imposed load
        "residual_compressor_power_w",
        "run_hours",
    ],
)
def test_what_carries_a_fault_cannot_get_in(name: str):
    """By construction, in training and when a stored one is read."""
    conditions, measured, physics = season()
    with pytest.raises(
        ForbiddenInputError, match="not a boundary condition or command"
    ):
        train(conditions.assign(**{name: 1.0}), measured, physics, load=LOAD)
    found = train(conditions, measured, physics, load=LOAD)
    assert isinstance(found, Correction)
    stored = found.to_dict()
    stored["inputs"] = [*stored["inputs"][:-1], name]
    with pytest.raises(ForbiddenInputError):
        Correction.from_dict(stored)


def test_it_is_blind_to_faults(trained: Correction):
    """A fault moves power, pressures and outlets: none of them moves the factor."""
    conditions, _, _ = season(seed=2)
    sick = conditions.assign(compressor_power_w=3e5, sink_outlet_temp_degc=90.0)

    pd.testing.assert_frame_equal(trained.factors(conditions), trained.factors(sick))


@pytest.mark.parametrize("column", ["source_inlet_temp_degc", LOAD])
def test_outside_its_training_it_is_nothing_and_says_so(
    trained: Correction, column: str
):
    """Extrapolated smoothness is invention."""
    conditions, _, _ = season()
    far = conditions.copy()
    far[column] *= 2.0
    found = trained.factors(far)

    assert found["extrapolating"].all()
    assert (found["compressor_power_w"] == 1.0).all()
    assert not trained.factors(conditions)["extrapolating"].all()


def test_a_combination_it_never_saw_is_outside_as_well():
    """Both within range, but never together."""
    random = np.random.default_rng(3)
    x = random.uniform(-1.0, 1.0, 600)
    index = pd.date_range("2026-01-01", periods=600, freq="h", tz="UTC", name="time")
    conditions = pd.DataFrame(
        {
            "source_inlet_temp_degc": 38.0 + 3.0 * x,
            "sink_inlet_temp_degc": 50.0 + 5.0 * x + random.normal(0.0, 0.2, 600),
        },
        index=index,
    )
    physics = pd.DataFrame({"compressor_power_w": 1e5}, index=index)
    found = train(conditions, physics.mul(1.0 + 0.03 * x, axis=0), physics)
    assert isinstance(found, Correction)
    odd = conditions.iloc[:1].assign(
        source_inlet_temp_degc=40.5, sink_inlet_temp_degc=45.5
    )

    assert found.factors(odd)["extrapolating"].all()


def test_it_never_exceeds_its_cap():
    """Whatever was left over, five per cent is the most that is believed."""
    found = train(*season(size=0.12), load=LOAD)
    assert isinstance(found, Correction)
    factor = found.factors(season()[0])["compressor_power_w"]

    assert factor.between(1.0 - CAP, 1.0 + CAP).all()
    assert factor.max() == pytest.approx(1.0 + CAP)


def test_it_never_exceeds_two_sigma_of_what_was_left_over():
    """Where physics was right within half a per cent nothing larger is believed."""
    conditions, _, physics = season()
    lift = (conditions["sink_inlet_temp_degc"].to_numpy() - 50.0) / 5.0
    # A bend that is small nearly everywhere, and large at one end of the range.
    left = 0.004 * lift + 0.03 * np.clip(lift - 0.9, 0.0, None)
    found = train(conditions, physics.mul(1.0 + left, axis=0), physics, load=LOAD)
    assert isinstance(found, Correction)
    name = "compressor_power_w"
    cap = found.cap[name]
    loose = replace(found, cap={name: CAP})

    assert cap == pytest.approx(CAP_SIGMA * np.std(left), rel=0.01)
    assert cap < CAP
    assert (found.factors(conditions)[name] - 1.0).abs().max() <= cap + 1e-12
    assert (loose.factors(conditions)[name] - 1.0).abs().max() <= CAP + 1e-12
    strong = replace(found, weights={name: tuple(9.0 * w for w in found.weights[name])})
    assert (strong.factors(conditions)[name] - 1.0).abs().max() == pytest.approx(cap)


def test_neither_outlets_nor_powers_reach_it_through_the_model():
    """What is downstream of a fault changes no expected value, whatever it says."""
    conditions, _, _ = season()
    correction = train(*season(), load="source_heat_w")
    assert isinstance(correction, Correction)
    random = np.random.default_rng(1)
    downstream = {
        name: random.uniform(0.0, 1e5, len(conditions))
        for name in (*OUTPUTS, "sink_heat_w", "cop", "energy_balance_error")
    }
    model = Model(
        unit="hp1",
        role=Role.REFERENCE,
        physics=from_nameplate(MACHINE),
        given=LOAD,
        correction=correction,
    )
    asked = conditions.assign(source_flow_kg_s=15.0, sink_flow_kg_s=6.0)
    plain = expect(asked, model)

    assert not plain["extrapolating"].all()
    pd.testing.assert_frame_equal(plain, expect(asked.assign(**downstream), model))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("centre", (1.0,), "centre has 1 numbers; 3 inputs need 3"),
        ("spread", ((0.0,),), "spread has 1 numbers; 3 inputs need 10"),
        ("weights", {"compressor_power_w": (0.1,)}, "need 10"),
        ("weights", {"cop": (0.0,) * 10}, "no channel"),
    ],
)
def test_a_correction_of_the_wrong_shape_is_refused(
    trained: Correction, name: str, value: object, message: str
):
    """It says which part, what was found and what it has to be."""
    with pytest.raises(ValueError, match=message):
        replace(trained, **{name: value})


def test_noise_alone_is_not_kept():
    """No held-out gain, no correction."""
    found = train(*season(size=0.0), load=LOAD)

    assert isinstance(found, Refusal)
    assert found.code == "correction.no_gain"


def test_few_rows_are_refused():
    """Fewer than a hundred windows teach nothing smooth."""
    conditions, measured, physics = season(rows=60)
    found = train(conditions, measured, physics, load=LOAD)

    assert isinstance(found, Refusal)
    assert found.code == "correction.too_few"


def test_a_missing_condition_gives_no_correction(trained: Correction):
    """NaN in, factor one, and said so."""
    conditions, _, _ = season(rows=50)
    found = trained.factors(conditions.assign(source_inlet_temp_degc=np.nan))

    assert found["extrapolating"].all()
    assert (found["compressor_power_w"] == 1.0).all()


def test_it_survives_json(trained: Correction):
    """Plain data, the same to the last bit."""
    again = Correction.from_dict(json.loads(json.dumps(trained.to_dict())))

    pd.testing.assert_frame_equal(
        again.factors(season()[0]), trained.factors(season()[0])
    )


def sensitivity(conditions: pd.DataFrame) -> np.ndarray:
    """Say what a fault would do: nothing smooth is special about it."""
    warm = (conditions["sink_inlet_temp_degc"].to_numpy() - 50.0) / 5.0
    return np.column_stack([np.full(len(warm), -1.0), 0.3 + 0.1 * warm**2])


@pytest.mark.parametrize("blind", [True, False])
def test_a_fault_in_its_training_does_not_get_in(blind: bool):
    """Orthogonal to the fault it learns none of it; the control up to its cap."""
    conditions, measured, physics = season(size=0.0)
    sick = sensitivity(conditions)
    fouled = measured.mul(1.0 + 0.10 * sick[:, 1], axis=0)
    found = train(
        conditions,
        fouled,
        physics,
        load=LOAD,
        faults={"compressor_power_w": sick} if blind else None,
    )

    if blind:
        assert isinstance(found, Refusal)
        assert found.evidence["gain"]["compressor_power_w"] < 0.01
    else:
        assert isinstance(found, Correction)
        assert found.gain["compressor_power_w"] > 0.2


def test_what_it_learns_is_orthogonal_to_every_fault():
    """On the rows it was trained on, whatever else there was to learn."""
    conditions, measured, physics = season()
    sick = sensitivity(conditions)
    found = train(
        conditions, measured, physics, load=LOAD, faults={"compressor_power_w": sick}
    )
    assert isinstance(found, Correction)
    factor = found.factors(conditions)
    inside = ~factor["extrapolating"].to_numpy()
    learnt = factor["compressor_power_w"].to_numpy() - 1.0

    assert inside.all()
    assert np.abs(learnt).max() > 0.01
    assert np.abs(learnt).max() < CAP
    for direction in sick.T:
        along = learnt @ direction / np.linalg.norm(direction)
        assert abs(along) < 1e-6 * np.linalg.norm(learnt)


@pytest.mark.parametrize("sure", [True, False])
def test_it_turns_no_sure_trend_around(sure: bool):
    """Physics says that power grows with the lift; without it, noise may win."""
    conditions, _, physics = season(size=0.0)
    lift = (conditions["sink_inlet_temp_degc"].to_numpy() - 50.0) / 5.0
    # A season whose colder sink came with a meter that read too much.
    measured = physics.mul(1.0 - 0.045 * lift, axis=0)
    slope = np.zeros((len(lift), 3))
    slope[:, 1] = 0.002  # of the logarithm, per kelvin
    found = train(
        conditions,
        measured,
        physics,
        load=LOAD,
        trends={"compressor_power_w": slope} if sure else None,
    )
    assert isinstance(found, Correction)
    warmer = conditions.assign(
        sink_inlet_temp_degc=conditions["sink_inlet_temp_degc"] + 0.01
    )
    both = found.inside(conditions) & found.inside(warmer)
    change = (
        found.factors(warmer)["compressor_power_w"]
        - found.factors(conditions)["compressor_power_w"]
    )[both] / 0.01
    rises = (change + 0.002 > 0.0).to_numpy()

    assert both.sum() > 400
    assert rises.all() if sure else not rises.any()
    assert (found.held["compressor_power_w"] < 1.0) is sure


def test_equal_windows_make_equal_corrections():
    """There is no chance in it."""
    assert train(*season(), load=LOAD) == train(*season(), load=LOAD)
