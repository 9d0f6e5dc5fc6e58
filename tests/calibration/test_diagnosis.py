"""What changed is named if the readings can tell, and not guessed if they cannot."""

from __future__ import annotations

from datetime import timedelta
from functools import cache

import pandas as pd
import pytest
from simulated import REFERENCE_DAYS, judged, reference

from calibration.diagnosis import (
    SURE,
    Blame,
    Cause,
    Diagnosis,
    decisive,
    diagnose,
)
from twin.finding import Refusal
from twin.plant import Machine
from twin.simulate import Fault, FaultKind
from twin.simulate.scenario import Scenario

BEGINS = Scenario(name="x").start + timedelta(days=REFERENCE_DAYS)
DAYS = 31
AGE = timedelta(days=DAYS)


@cache
def after(*faults: tuple[FaultKind, float, str]) -> tuple[Machine, pd.DataFrame]:
    """Return a machine and its windows since some faults began."""
    planted = tuple(
        Fault(unit="hp1", kind=kind, start=BEGINS, size=size, component=point)
        for kind, size, point in faults
    )
    told, found = judged(DAYS, planted)
    return told, found[found.index > pd.Timestamp(BEGINS)]


def told(*faults: tuple[FaultKind, float, str]) -> Diagnosis:
    """Return the diagnosis of the last week."""
    machine_told, late = after(*faults)
    week = late[late.index > late.index[-1] - pd.Timedelta(days=7)]
    found = diagnose(week, reference().model, machine_told, age=AGE)
    assert isinstance(found, Diagnosis)
    return found


@pytest.mark.parametrize(
    ("kind", "size", "part"),
    [
        (FaultKind.CONDENSER_FOULING, 0.15, "condenser"),
        (FaultKind.EVAPORATOR_FOULING, 0.15, "evaporator"),
        (FaultKind.ISENTROPIC_LOSS, 0.05, "compressor"),
        (FaultKind.UNDERCHARGE, 0.875, "charge"),
        (FaultKind.NON_CONDENSABLES, 2e4, "non_condensables"),
    ],
)
def test_a_part_that_changed_is_named_alone(kind: FaultKind, size: float, part: str):
    """A lack of charge too, though the evaporator suffers with it."""
    found = told((kind, size, ""))

    assert found.best.causes == (Cause(Blame.EQUIPMENT, part),)
    assert found.probability(Blame.EQUIPMENT, part) > SURE
    assert found.probability(Blame.SENSOR) < 1.0 - SURE


@pytest.mark.parametrize(
    ("kind", "size", "point"),
    [
        (FaultKind.SENSOR_OFFSET, 0.3, "source_outlet_temp_degc"),
        (FaultKind.SENSOR_OFFSET, -0.3, "sink_inlet_temp_degc"),
        (FaultKind.SENSOR_GAIN, 0.03, "source_flow_m3_s"),
        (FaultKind.SENSOR_GAIN, 0.03, "compressor_discharge_pressure_pa"),
    ],
)
def test_an_instrument_that_lies_is_told_from_the_machine(
    kind: FaultKind, size: float, point: str
):
    """It is among the few that may be meant, and its error has the right size."""
    found = told((kind, size, point))
    named = {cause.name for cause in found.names}

    assert found.probability(Blame.SENSOR) > SURE
    assert found.probability(Blame.EQUIPMENT) < 1.0 - SURE
    assert point in named
    assert len(named) <= 3
    accused = next(e for e in found.explanations if point in e.sizes)
    _, low, high = accused.sizes[point]
    assert low <= size <= high


def test_two_faults_at_once_are_two_causes():
    """A part and another, and a part and a probe."""
    both = told(
        (FaultKind.CONDENSER_FOULING, 0.20, ""), (FaultKind.ISENTROPIC_LOSS, 0.06, "")
    )
    mixed = told(
        (FaultKind.CONDENSER_FOULING, 0.20, ""),
        (FaultKind.SENSOR_OFFSET, 0.5, "source_inlet_temp_degc"),
    )

    assert {c.name for c in both.best.causes} == {"condenser", "compressor"}
    assert mixed.probability(Blame.EQUIPMENT, "condenser") > SURE
    assert mixed.probability(Blame.SENSOR) > SURE


def test_a_healthy_machine_has_nothing_to_explain():
    """The control: on every week the likeliest cause is none."""
    told, late = after()
    for _, week in late.groupby(pd.Grouper(freq="7D")):
        found = diagnose(week, reference().model, told, age=AGE)
        assert isinstance(found, Diagnosis)
        assert found.best.causes == ()
        assert found.best.probability > 0.9


def test_what_does_the_same_is_left_open_with_the_test_that_decides():
    """At one load a flow meter 3 % off is a probe half a kelvin off; at many not."""
    lie = (FaultKind.SENSOR_GAIN, 0.03, "sink_flow_m3_s")
    machine_told, late = after(lie)
    speed = late["compressor_speed_hz"]
    alike = late[(speed / speed.median() - 1.0).abs() < 0.02]
    found = diagnose(alike, reference().model, machine_told, age=AGE)

    assert isinstance(found, Diagnosis)
    assert found.probability(Blame.SENSOR) > SURE
    named = {cause.name for cause in found.names}
    assert {"sink_flow_m3_s", "sink_inlet_temp_degc"} <= named
    assert all(name in decisive(found.names) for name in named)
    assert {cause.name for cause in told(lie).names} == {"sink_flow_m3_s"}


def test_probabilities_are_of_all_that_was_asked():
    """They add up to one, and a cause is no likelier than its sort."""
    found = told((FaultKind.CONDENSER_FOULING, 0.15, ""))

    assert sum(e.probability for e in found.explanations) == pytest.approx(1.0)
    for cause in found.names:
        assert found.probability(cause.blame, cause.name) <= found.probability(
            cause.blame
        )
    assert found.probability() <= 1.0 + 1e-12


@pytest.mark.parametrize("column", ["sink_outlet_temp_degc", "compressor_power_w"])
def test_one_window_that_stands_apart_accuses_nobody(column: str):
    """A transient that slipped through is not a fault."""
    machine_told, late = after()
    week = late[late["steady"].to_numpy(dtype=bool)].iloc[-50:].copy()
    week.loc[week.index[20], column] *= 1.2
    found = diagnose(week, reference().model, machine_told, age=AGE)

    assert isinstance(found, Diagnosis)
    assert found.best.causes == ()


def test_an_older_reference_trusts_its_instruments_less():
    """What a probe may have drifted grows with time, and so does its part."""
    machine_told, late = after((FaultKind.SENSOR_OFFSET, 0.3, "sink_inlet_temp_degc"))
    model = reference().model
    young, old = (
        diagnose(late, model, machine_told, age=timedelta(days=days))
        for days in (20, 2000)
    )

    assert isinstance(young, Diagnosis)
    assert isinstance(old, Diagnosis)
    assert young.probability(Blame.SENSOR) > old.probability(Blame.SENSOR)


def test_a_day_at_rest_is_refused():
    """And the refusal says what it lacks."""
    machine_told, late = after()
    rested = late.assign(steady=False)
    found = diagnose(rested, reference().model, machine_told)

    assert isinstance(found, Refusal)
    assert found.code == "diagnosis.too_short"
    assert "hp1" in found.sentence
