"""A plant that is fouled when it is learnt does not become its own yardstick."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import cache

import pandas as pd
import pytest
from simulated import REFERENCE_DAYS, machine

from calibration.commissioning import admit
from calibration.fit import Fit, fit_exchanger, fit_reference
from calibration.gates import Verdict
from calibration.health import commission
from calibration.model import Model
from calibration.steady import windows
from twin.plant import Action, Exchanger, Machine, Maintenance
from twin.simulate import Fault, FaultKind, Scenario, Unit, simulate
from twin.simulate.machine import rated_power, size

START = Scenario(name="x").start
CONDENSER, EVAPORATOR = FaultKind.CONDENSER_FOULING, FaultKind.EVAPORATOR_FOULING


@cache
def offered(
    kind: FaultKind | None = None, share: float = 0.0, shape: str = "step"
) -> tuple[Machine, pd.DataFrame, Fit, pd.DataFrame]:
    """Learn a plant that was so from its first day; its nameplate is honest."""
    begins = START - timedelta(days=1) if shape == "step" else START
    fault = (
        ()
        if kind is None
        else (Fault(unit="hp1", kind=kind, start=begins, size=share, shape=shape),)
    )
    made = simulate(
        Scenario(
            name="offered",
            length=timedelta(days=REFERENCE_DAYS),
            step=timedelta(minutes=30),
            seed=2,
            machines=(Unit(id="hp1"),),
            it_heat_w=0.75e6,
            demand_heat_w=0.65e6,
            faults=fault,
            reference_length=timedelta(days=REFERENCE_DAYS),
        )
    )
    unit = made.scenario.machines[0]
    told = machine(made)
    plate = replace(
        told.nameplate,
        power_w=round(rated_power(size(unit.refrigerant, unit.rating)), -3),
        evaporating_temp_degc=28.0,
        condensing_temp_degc=70.0,
    )
    told = replace(told, nameplate=plate)
    found = windows(made.frames["hp1"], told, 30.0)
    fit = fit_reference(found, told)
    assert isinstance(fit, Fit), fit
    model, history = commission(found, fit.model, told)
    return told, found, replace(fit, model=model), history


def judged(
    kind: FaultKind | None = None,
    share: float = 0.0,
    shape: str = "step",
    *,
    before: Model | None = None,
    changes: tuple[Maintenance, ...] = (),
    accepted: str = "",
    silent: bool = False,
) -> Verdict:
    """Offer such a plant as the reference."""
    told, found, fit, history = offered(kind, share, shape)
    told = replace(told, reference_accepted=accepted)
    if silent:
        plate = replace(
            told.nameplate, evaporating_temp_degc=None, condensing_temp_degc=None
        )
        told = replace(told, nameplate=plate)
    return admit(fit, history, told, found, before=before, changes=changes)


def change(action: Action, component: str = "", unit: str = "hp1") -> Maintenance:
    """Return a line of the log."""
    return Maintenance(time=START, unit=unit, action=action, component=component)


def failed(verdict: Verdict) -> set[str]:
    """Return the names of the gates that were not passed."""
    return {gate.name for gate in verdict.gates if not gate.passed}


def test_a_clean_plant_is_admitted():
    """It is within its maker's promise, and it stood still."""
    verdict = judged()

    assert verdict.accepted, verdict.reason
    assert {"design_power", "design_condenser", "design_evaporator"} <= {
        gate.name for gate in verdict.gates
    }
    assert not verdict.remarks


@pytest.mark.parametrize(
    ("kind", "gate"),
    [(CONDENSER, "design_condenser"), (EVAPORATOR, "design_evaporator")],
)
def test_an_exchanger_fouled_from_the_first_day_is_found(kind: FaultKind, gate: str):
    """Thirty per cent of its conductance; the sentence says what to do."""
    verdict = judged(kind, 0.30)
    found = next(g for g in verdict.gates if g.name == gate)

    assert not verdict.accepted
    assert gate in failed(verdict)
    assert 0.20 < found.measured < 0.36
    assert "Clean it or correct the nameplate" in found.sentence
    assert "reference_accepted" in verdict.reason


def test_what_the_operator_takes_as_found_serves_and_stays_on_record():
    """With the reason, and with the gate that it did not pass."""
    verdict = judged(CONDENSER, 0.30, accepted="second-hand, bought so")

    assert verdict.accepted
    assert "design_condenser" in failed(verdict)
    assert "second-hand, bought so" in verdict.reason


def test_a_nameplate_that_is_silent_is_not_compared_and_says_so():
    """A wide approach is then remarked upon; what is within tolerance is not."""
    fouled, clean = judged(CONDENSER, 0.30, silent=True), judged(silent=True)

    assert clean.accepted
    for verdict in (fouled, clean):
        assert any("not compared with design" in r for r in verdict.remarks)
        assert not any(g.name == "design_condenser" for g in verdict.gates)
    assert any(r.startswith("warning: an approach") for r in fouled.remarks)
    assert not any(r.startswith("warning") for r in clean.remarks)


def test_a_reference_learnt_while_it_fouled_is_refused():
    """Twelve per cent in three weeks is no single state."""
    verdict = judged(CONDENSER, 0.12, "linear")

    assert failed(verdict) == {"drift_condenser_conductance_ratio"}


def test_a_new_epoch_needs_a_recorded_change():
    """Nothing moves a reference by itself, nor what was done elsewhere."""
    before = offered()[2].model
    alone = judged(before=before)
    note = judged(before=before, changes=(change(Action.NOTE),))
    other = judged(before=before, changes=(change(Action.OVERHAULED, unit="hp2"),))
    recorded = judged(before=before, changes=(change(Action.OVERHAULED),))

    assert failed(alone) == failed(note) == failed(other) == {"epoch"}
    assert recorded.accepted, recorded.reason


@pytest.mark.parametrize(
    ("action", "component", "explained"),
    [
        (Action.OVERHAULED, "compressor", False),
        (Action.SENSOR_REPLACED, "compressor_power_w", False),
        (Action.SENSOR_REPLACED, "source_inlet_temp_degc", False),
        (Action.OVERHAULED, "condenser", True),
        (Action.SENSOR_REPLACED, "compressor_discharge_pressure_pa", True),
    ],
)
def test_dirt_does_not_come_in_with_another_ones_change(
    action: Action, component: str, explained: bool
):
    """A new compressor is no reason for a condenser to pass less than before."""
    verdict = judged(
        CONDENSER,
        0.30,
        before=offered()[2].model,
        changes=(change(action, component),),
        silent=True,
    )

    assert ("epoch_condenser" not in failed(verdict)) is explained


def test_a_plate_exchanger_has_no_design_and_says_so():
    """Its trend is looked at all the same."""
    random = pd.Series(range(400)) % 7
    index = pd.date_range(START, periods=400, freq="2h", name="time")
    frame = pd.DataFrame(
        {
            "hot_inlet_temp_degc": 40.0 + 0.01 * random.to_numpy(),
            "hot_outlet_temp_degc": 33.0,
            "cold_inlet_temp_degc": 30.0,
            "cold_outlet_temp_degc": 37.0 + 0.01 * random.to_numpy(),
            "hot_flow_m3_s": 0.012,
            "cold_flow_m3_s": 0.012,
        },
        index=index,
    )
    device = Exchanger(id="cdu1", points=frozenset(frame.columns))
    found = windows(frame, device, 120.0)
    fit = fit_exchanger(found, device)
    assert isinstance(fit, Fit), fit
    model, history = commission(found, fit.model, device)
    verdict = admit(replace(fit, model=model), history, device, found)

    assert verdict.accepted
    assert [g.name for g in verdict.gates] == ["drift_exchanger_conductance_ratio"]
    assert "not compared with design" in verdict.remarks[0]
