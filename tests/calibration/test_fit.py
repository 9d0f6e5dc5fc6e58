"""Degradations planted in another physics come back inside their own interval."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from simulated import REFERENCE_DAYS, exchanger, judged, machine, reference, season

from calibration.fit import (
    Fit,
    choose_given,
    degraded,
    fit_degradation,
    fit_exchanger,
    fit_reference,
    learn_flows,
)
from calibration.model import Model, expect
from calibration.steady import windows
from twin.finding import Refusal
from twin.plant import Exchanger
from twin.simulate import Fault, FaultKind
from twin.simulate.scenario import Scenario

START = Scenario(name="x").start
DAYS = 31


def fault(kind: FaultKind, size: float) -> tuple[Fault, ...]:
    """Return one fault that begins when the reference period ends."""
    return (
        Fault(
            unit="hp1",
            kind=kind,
            start=START + timedelta(days=REFERENCE_DAYS),
            size=size,
        ),
    )


def late(found: pd.DataFrame, days: float = 8.0) -> pd.DataFrame:
    """Leave out the reference period."""
    return found[found.index > found.index[-1] - pd.Timedelta(days=days)]


@pytest.mark.parametrize("instruments", ["full", "pressures", "water"])
def test_a_reference_predicts_days_it_has_not_seen(instruments: str):
    """Power and sink heat within 2.5 %, whatever the instruments."""
    _, found = judged(DAYS, (), instruments)
    model = reference(instruments).model
    rest = late(found)
    rest = rest[rest["steady"]]
    expected = expect(rest, model)

    for name in ("compressor_power_w", "sink_heat_w"):
        error = expected[f"expected_{name}"] - rest[name]
        assert np.sqrt((error**2).mean()) / rest[name].mean() < 0.025
        assert abs(error.mean()) / rest[name].mean() < 0.01


@pytest.mark.parametrize(
    ("instruments", "kind", "size", "name"),
    [
        ("full", FaultKind.CONDENSER_FOULING, 0.20, "condenser"),
        ("full", FaultKind.EVAPORATOR_FOULING, 0.15, "evaporator"),
        ("full", FaultKind.ISENTROPIC_LOSS, 0.05, "isentropic"),
        ("full", FaultKind.VOLUMETRIC_LOSS, 0.06, "volumetric"),
        ("pressures", FaultKind.CONDENSER_FOULING, 0.20, "condenser"),
        ("pressures", FaultKind.ISENTROPIC_LOSS, 0.05, "isentropic"),
    ],
)
def test_a_planted_fault_is_inside_its_interval_and_alone(
    instruments: str, kind: FaultKind, size: float, name: str
):
    """Eight days show the right part, and leave the other parts whole."""
    told, found = judged(DAYS, fault(kind, size), instruments)
    fit = fit_degradation(late(found), reference(instruments).model, told)
    assert isinstance(fit, Fit)
    exchanging = name in ("condenser", "evaporator")
    truth = f"{name}_conductance_ratio" if exchanging else f"{name}_ratio"
    there = season(DAYS, fault(kind, size), instruments).truth["hp1"][truth]
    true = float(there.iloc[-8 * 144 :].mean())
    value, low, high = fit.model.degradation[name]

    assert low <= true <= high
    assert high < 1.0
    assert high - low < 0.25  # a uselessly wide interval would pass the first line
    assert value == pytest.approx(true, abs=0.04)
    for other, (_, _, highest) in fit.model.degradation.items():
        assert other == name or highest >= 1.0


@pytest.mark.parametrize("instruments", ["full", "pressures", "water"])
def test_a_healthy_machine_is_left_alone(instruments: str):
    """The negative control: every ratio's interval holds one."""
    told, found = judged(DAYS, (), instruments)
    fit = fit_degradation(late(found), reference(instruments).model, told)
    assert isinstance(fit, Fit)

    for low, high in [(v[1], v[2]) for v in fit.model.degradation.values()]:
        assert low <= 1.0 <= high


def test_without_pressures_no_conductance_is_offered():
    """It would be a guess, and the model says which point is missing."""
    model = reference("water").model

    assert not {"condenser", "evaporator"} & set(model.tracked)
    assert model.fixed["condenser_ratio"] == "needs compressor_discharge_pressure_pa"


def test_asked_by_name_a_conductance_from_water_alone_holds_the_truth():
    """It is far wider than with pressures, and far narrower than knowing nothing."""
    planted = fault(FaultKind.CONDENSER_FOULING, 0.20)
    told, found = judged(DAYS, planted, "water")
    model = reference("water").model
    names = ("condenser", "evaporator", *model.tracked)
    fit = fit_degradation(late(found), model, told, names=names)
    assert isinstance(fit, Fit)
    there = season(DAYS, planted, "water").truth["hp1"]["condenser_conductance_ratio"]
    _, low, high = fit.model.degradation["condenser"]

    assert low <= float(there.iloc[-8 * 144 :].mean()) <= high < 1.0
    assert fit.model.informed["condenser"] < 0.4
    _, low, high = fit.model.degradation["evaporator"]
    assert low <= 1.0 <= high


def test_far_from_the_reference_the_same_answer_is_less_sure():
    """Physics that was fitted elsewhere may bend; the values do not know it."""
    told, found = judged(DAYS, (), "full")
    model = reference().model
    elsewhere = {n: (middle - 3.0 * s, s) for n, (middle, s) in model.usual.items()}
    answers = []
    for one in (model, model.with_(usual=elsewhere)):
        fit = fit_degradation(late(found), one, told)
        assert isinstance(fit, Fit)
        answers.append(fit.model)
    near, far = answers

    for name in ("condenser", "evaporator"):
        assert far.degradation[name][0] == near.degradation[name][0]
        assert far.errors[name] > 1.3 * near.errors[name]


def test_a_model_from_before_usual_conditions_were_kept_has_an_interval():
    """Their place is taken by the range that it did keep."""
    told, found = judged(DAYS, (), "full")
    old = reference().model.with_(usual={})
    fit = fit_degradation(late(found), Model.from_dict(old.to_dict()), told)
    assert isinstance(fit, Fit)
    _, low, high = fit.model.degradation["condenser"]

    assert low <= 1.0 <= high < 1.3


def test_worse_instruments_widen_the_interval():
    """The configured uncertainty of a point is what the interval is made of."""
    told, found = judged(DAYS, (), "full")
    bad = replace(told, uncertainty={"compressor_discharge_pressure_pa": 1e5})
    widths = []
    for device in (told, bad):
        fit = fit_degradation(late(found), reference().model, device)
        assert isinstance(fit, Fit)
        _, low, high = fit.model.degradation["condenser"]
        widths.append(high - low)

    assert widths[1] > 1.05 * widths[0]


def test_windows_that_cannot_be_solved_never_count_as_perfect():
    """Rows beyond the tables do not drag the fit to where nothing is solved."""
    told, found = judged(DAYS, (), "full")
    rest = late(found).copy()
    wild = rest["steady"] & (np.arange(len(rest)) % 5 == 0)
    rest.loc[wild, "sink_inlet_temp_degc"] = 104.0
    fit = fit_degradation(rest, reference().model, told)
    assert isinstance(fit, Fit)
    _, low, high = fit.model.degradation["condenser"]

    assert fit.unsolved > 0.1
    assert low <= 1.0 <= high


def test_speed_is_imposed_where_it_is_measured_and_heat_where_it_is_not():
    """A machine whose speed nobody knows is asked with its load."""
    told, found = judged(REFERENCE_DAYS, (), "full")
    points = told.points - {"compressor_speed_hz"}

    assert choose_given(found, told) == "compressor_speed_hz"
    assert choose_given(found, replace(told, points=points)) == "source_heat_w"


def test_an_unmetered_flow_is_learnt_from_the_balance():
    """Without its meter the sink flow is known to some per cent all the same."""
    made = season(REFERENCE_DAYS)
    told = machine(made)
    blind = replace(told, points=told.points - {"sink_flow_m3_s", "sink_energy_j"})
    frame = made.frames["hp1"].drop(columns=["sink_flow_m3_s", "sink_energy_j"])
    laws = learn_flows(frame, blind)
    assert not isinstance(laws, Refusal)
    (law,) = laws
    full = windows(made.frames["hp1"], told)
    full = full[full["steady"]]
    flow = law(full)

    assert np.median(np.abs(flow / full["sink_flow_kg_s"] - 1.0)) < 0.05
    fit = fit_reference(windows(frame, blind), blind, flows=laws)
    assert isinstance(fit, Fit)
    assert "sink_outlet_temp_degc" not in fit.model.outputs
    found = windows(frame, blind)
    found = found[found["steady"]]
    expected = expect(found, fit.model)["expected_compressor_power_w"]
    error = expected - found["compressor_power_w"]
    assert np.sqrt((error**2).mean()) / found["compressor_power_w"].mean() < 0.03


def test_the_flow_law_never_sees_the_row_it_predicts():
    """Power and outlet of a row do not move the flow that it is asked with."""
    made = season(REFERENCE_DAYS)
    told = machine(made)
    blind = replace(told, points=told.points - {"sink_flow_m3_s", "sink_energy_j"})
    frame = made.frames["hp1"].drop(columns=["sink_flow_m3_s", "sink_energy_j"])
    fit = fit_reference(windows(frame, blind), blind)
    assert isinstance(fit, Fit)
    usual = expect(windows(frame, blind), fit.model)
    odd = frame.assign(
        compressor_power_w=frame["compressor_power_w"] * 1.2,
        sink_outlet_temp_degc=frame["sink_outlet_temp_degc"] + 3.0,
    )
    name = "expected_compressor_power_w"

    pd.testing.assert_series_equal(
        expect(windows(odd, blind), fit.model)[name], usual[name]
    )


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda w: w.iloc[:100], "reference.too_short"),
        (lambda w: w.assign(steady=False), "reference.too_short"),
        (
            lambda w: w[w.index <= w.index[0] + pd.Timedelta(days=1.9)],
            "reference.too_few_days",
        ),
        (lambda w: w.assign(sink_inlet_temp_degc=np.nan), "reference.incomplete"),
        (
            lambda w: w.assign(source_inlet_temp_degc=w["source_inlet_temp_degc"] + 70),
            "reference.unsolvable",
        ),
    ],
)
def test_a_period_that_cannot_carry_a_reference_is_refused(change, code: str):
    """And the refusal says what is missing, in a sentence and in numbers."""
    told, found = judged(REFERENCE_DAYS)
    refused = fit_reference(change(found), told)

    assert isinstance(refused, Refusal)
    assert refused.code == code
    assert "hp1" in refused.sentence
    assert refused.evidence["unit"] == "hp1"


def test_a_power_meter_in_the_wrong_unit_makes_no_reference():
    """A factor of ten is not a machine."""
    told, found = judged(REFERENCE_DAYS)
    wrong = found.assign(compressor_power_w=found["compressor_power_w"] / 10.0)

    assert isinstance(fit_reference(wrong, told), Refusal)


def test_a_model_survives_json():
    """What is read back predicts the same to the last bit."""
    _, found = judged(REFERENCE_DAYS)
    model = reference().model
    again = Model.from_dict(json.loads(json.dumps(model.to_dict())))

    pd.testing.assert_frame_equal(expect(found, again), expect(found, model))
    assert again.tuning == model.tuning


def test_standstill_is_expected_to_do_nothing():
    """No prediction for a machine that rests."""
    _, found = judged(DAYS)
    still = found[found["why"] == "standstill"]
    expected = expect(still, reference().model)

    assert len(still) > 10
    assert expected["expected_cop"].isna().all()


def test_equal_windows_make_equal_models():
    """Replay is live: nothing of chance gets in."""
    told, found = judged(REFERENCE_DAYS)
    again = fit_reference(found, told)
    assert isinstance(again, Fit)
    first = reference().model.with_(tuning={}, loops=())

    assert again.model.to_dict() == first.to_dict()


def test_undegraded_is_the_reference():
    """Ratios of one change nothing; less conductance costs power."""
    pump = reference().model.physics
    asked = pd.DataFrame(
        {
            "source_inlet_temp_degc": [38.0],
            "sink_inlet_temp_degc": [50.0],
            "source_flow_kg_s": [13.0],
            "sink_flow_kg_s": [7.0],
            "sink_heat_w": [450e3],
        }
    )
    clean = pump.predict(asked, given="sink_heat_w")["compressor_power_w"].iloc[0]
    same = degraded(pump, {"condenser": 1.0, "isentropic": 1.0})
    dirty = degraded(pump, {"condenser": 0.8})

    assert same.predict(asked, given="sink_heat_w")["compressor_power_w"].iloc[
        0
    ] == pytest.approx(clean, rel=1e-9)
    assert (
        dirty.predict(asked, given="sink_heat_w")["compressor_power_w"].iloc[0] > clean
    )


def cdu(faults: tuple[Fault, ...] = ()) -> tuple[Exchanger, pd.DataFrame]:
    """Return the exchanger of a season and its windows."""
    made = season(DAYS, faults)
    told = exchanger(made)
    return told, windows(made.frames["cdu1"], told)


def test_a_flow_change_does_not_read_as_fouling():
    """The reference knows how the conductance follows both flows."""
    told, found = cdu()
    fit = fit_exchanger(found[found.index <= found.index[20 * 144]], told)
    assert isinstance(fit, Fit)
    rest = late(found)
    rest = rest[rest["steady"]]
    expected = expect(rest, fit.model)["expected_exchanger_ua_w_k"]
    ratio = (
        (rest["exchanger_ua_w_k"] / expected).groupby(rest.index.floor("D")).median()
    )

    assert (ratio - 1.0).abs().max() < 0.04


def test_an_exchanger_that_hardly_ran_has_no_reference():
    """Refused with the hours it had."""
    told, found = cdu()
    refused = fit_exchanger(found.iloc[:60], told)

    assert isinstance(refused, Refusal)
    assert refused.code == "reference.too_short"
