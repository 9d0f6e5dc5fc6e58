"""A poisoned window never becomes a model; a good one does."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from simulated import REFERENCE_DAYS, judged, machine, reference, season

from calibration.correction import Correction
from calibration.fit import Fit, degraded, fit_degradation
from calibration.gates import Verdict, judge, recalibrate
from calibration.model import Model, heat_pump
from calibration.registry import Registry, Role
from calibration.steady import windows
from twin.plant import Action, Maintenance
from twin.simulate import Fault, FaultKind
from twin.simulate.scenario import Scenario

START = Scenario(name="x").start
BEGINS = START + timedelta(days=REFERENCE_DAYS)
DAYS = 35
FOULING = (
    Fault(
        unit="hp1",
        kind=FaultKind.CONDENSER_FOULING,
        start=BEGINS,
        size=0.12,
        shape="linear",
    ),
)
Frame = pd.DataFrame


def gate(verdict: Verdict, name: str) -> bool:
    """Return whether one gate of a verdict was passed."""
    return next(g.passed for g in verdict.gates if g.name == name)


@pytest.mark.parametrize("faults", [(), FOULING])
def test_a_good_window_is_accepted(faults: tuple[Fault, ...]):
    """Healthy, or fouling at a rate that a plant fouls at."""
    told, found = judged(DAYS, faults)
    late = found[found.index > pd.Timestamp(BEGINS)]
    verdict = recalibrate(
        late, reference().model, None, told, now=found.index[-1].to_pydatetime()
    )

    assert verdict.accepted, verdict.reason
    assert all(g.passed for g in verdict.gates)
    assert {"hours", "balance", "step", "held_out", "injected"} <= {
        g.name for g in verdict.gates
    }


def stick(frame: Frame) -> Frame:
    """Freeze a probe for the second half."""
    frame = frame.copy()
    frame.loc[frame.index[len(frame) // 2 :], "sink_outlet_temp_degc"] = 64.3
    return frame


def lose(frame: Frame) -> Frame:
    """Lose 93 % of the rows."""
    keep = np.random.default_rng(0).random(len(frame)) > 0.93
    return frame.where(np.broadcast_to(keep[:, None], frame.shape))


def repeat(frame: Frame) -> Frame:
    """Tell the first half twice."""
    share = frame.iloc[: len(frame) // 2]
    return pd.concat([share, share.set_axis(frame.index[len(share) : 2 * len(share)])])


def starts(frame: Frame) -> Frame:
    """Stop the machine every other twenty minutes."""
    frame = frame.copy()
    rests = (np.arange(len(frame)) // 2) % 2 == 0
    frame.loc[rests, ["compressor_power_w", "compressor_speed_hz"]] = 0.0
    frame.loc[rests, "compressor_running"] = 0.0
    return frame


def column(
    name: str, change: Callable[[pd.Series], pd.Series]
) -> Callable[[Frame], Frame]:
    """Return what changes one point."""
    return lambda frame: frame.assign(**{name: change(frame[name])})


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        (stick, "stuck"),
        (column("source_inlet_temp_degc", lambda x: x * 1.8 + 32.0), "conditions"),
        (column("sink_flow_m3_s", lambda x: x * 1.1), "balance"),
        (column("sink_outlet_temp_degc", lambda x: x + 1.0), "balance"),
        (column("source_flow_m3_s", lambda x: x * 3.6), "conditions"),
        (column("compressor_power_w", lambda x: x * 2.0), "balance"),
        (column("compressor_discharge_pressure_pa", lambda x: x * 0.7), "bounds"),
        (lose, "data"),
        (repeat, "repeated"),
        (starts, "hours"),
        (lambda frame: frame.iloc[:200], "hours"),
        (lambda frame: frame.iloc[:0], "hours"),
    ],
)
def test_a_poisoned_window_is_rejected_with_its_reason(
    poison: Callable[[Frame], Frame], reason: str
):
    """The good model stays, and the record says which gate it was."""
    made = season(DAYS)
    told = machine(made)
    frame = made.frames["hp1"]
    found = windows(poison(frame[frame.index > pd.Timestamp(BEGINS)]), told)
    verdict = recalibrate(
        found, reference().model, None, told, now=frame.index[-1].to_pydatetime()
    )

    assert not verdict.accepted
    assert not gate(verdict, reason) or verdict.reason.startswith("fit:")
    assert len(verdict.reason) > 20


def test_a_large_step_needs_an_event_in_the_log():
    """A third of the conductance does not go at once by itself."""
    faults = (
        Fault(unit="hp1", kind=FaultKind.CONDENSER_FOULING, start=BEGINS, size=0.40),
    )
    told, found = judged(DAYS, faults)
    now = found.index[-1].to_pydatetime()
    late = found[found.index > pd.Timestamp(BEGINS)]
    log = (Maintenance(time=BEGINS, unit="hp1", action=Action.CLEANED, component="x"),)
    alone = recalibrate(late, reference().model, None, told, now=now)
    logged = recalibrate(late, reference().model, None, told, now=now, log=log)

    assert not gate(alone, "step")
    assert gate(logged, "step")


def moved(model: Model) -> Model:
    """Move what is no degradation: part of a fault is unseen."""
    pump = heat_pump(model)
    return model.with_(
        physics=pump.replace(
            condenser_ua_w_k=0.93 * pump.parameters.condenser_ua_w_k,
            motor_efficiency=0.98 * pump.parameters.motor_efficiency,
        )
    )


def corrected(model: Model) -> Model:
    """Let a correction say that the power of a faulty machine is usual."""
    learnt = Correction(
        inputs=("sink_inlet_temp_degc",),
        load=model.given,
        centre=(45.0,),
        scale=(5.0,),
        low=(-9.0,),
        high=(9.0,),
        spread=((0.0,) * 3,) * 3,
        reach=1.0,
        weights={"compressor_power_w": (0.01, 0.0, 0.0)},
        gain={},
        rows=1000,
    )
    return model.with_(correction=learnt)


def widened(model: Model) -> Model:
    """Take what a fault does for the usual scatter of a day."""
    tuning = {
        key: dict(own, scatter=1.5 * own["scatter"])
        for key, own in model.tuning.items()
    }
    return model.with_(tuning=tuning)


def shifted(model: Model) -> Model:
    """Take a fouled day for the usual one."""
    tuning = {
        key: dict(own, centre=0.97 * own["centre"]) for key, own in model.tuning.items()
    }
    return model.with_(tuning=tuning)


def shortened(model: Model) -> Model:
    """Look no longer at the condenser."""
    kept = tuple(name for name in model.tracked if name != "condenser")
    return model.with_(tracked=kept)


def honest(model: Model) -> Model:
    """Change nothing: the control of all of them."""
    return model


@pytest.mark.parametrize(
    ("sabotage", "gates"),
    [
        (honest, set()),
        (moved, {"injected_condenser", "injected_isentropic", "hidden"}),
        (corrected, {"injected_isentropic", "hidden"}),
        (widened, {"injected_condenser", "injected_evaporator", "injected_isentropic"}),
        (shifted, {"injected_condenser", "injected_evaporator", "injected_isentropic"}),
        (shortened, {"injected_condenser"}),
    ],
)
def test_a_candidate_with_a_sabotaged_part_is_rejected(
    sabotage: Callable[[Model], Model], gates: set[str]
):
    """Whatever the service would judge by has to show each fault as before."""
    told, found = judged(DAYS)
    late = found[found.index > pd.Timestamp(BEGINS)]
    model = reference().model
    fit = fit_degradation(late, model, told)
    assert isinstance(fit, Fit)
    candidate = replace(fit, model=sabotage(fit.model))
    verdict = judge(candidate, model, model, late, told, held_out=(1.0, 1.0, 0.0))
    failed = {g.name for g in verdict.gates if not g.passed}
    asked = [g for g in verdict.gates if g.name.startswith("injected")]

    assert verdict.accepted is (not gates)
    assert gates <= failed
    assert all(("by construction" in g.sentence) is (not gates) for g in asked)


def nearly_honest(model: Model) -> Verdict:
    """Judge a candidate that differs from the reference by less than matters.

    Of one that does not differ at all nothing is asked.
    """
    told, found = judged(DAYS)
    late = found[found.index > pd.Timestamp(BEGINS)]
    fit = fit_degradation(late, model, told)
    assert isinstance(fit, Fit)
    pump = heat_pump(fit.model)
    motor = pump.parameters.motor_efficiency
    moved = fit.model.with_(physics=pump.replace(motor_efficiency=motor * (1 - 1e-6)))
    candidate = replace(fit, model=moved)
    return judge(candidate, model, model, late, told, held_out=(1.0, 1.0, 0.0))


def test_every_fault_of_the_list_is_put_on_the_hold_out():
    """Both exchangers, compressor, charge and a probe; an honest one shows them."""
    verdict = nearly_honest(reference().model)
    injected = {g.name: g for g in verdict.gates if g.name.startswith("injected_")}

    assert set(injected) == {
        "injected_condenser",
        "injected_evaporator",
        "injected_isentropic",
        "injected_subcooling",
        "injected_offset",
    }
    assert all(g.measured >= 0.95 for g in injected.values())


def test_an_offset_that_silences_the_equipment_is_still_shown(
    monkeypatch: pytest.MonkeyPatch,
):
    """While a probe lies nothing is said of the machine; the balance says it."""
    monkeypatch.setattr("calibration.gates.INJECTED_K", 1.0)

    assert gate(nearly_honest(reference().model), "injected_offset")


def test_half_a_percent_of_the_power_cannot_be_hidden():
    """A motor that got worse is no degradation that is tracked."""
    told, found = judged(DAYS)
    late = found[found.index > pd.Timestamp(BEGINS)]
    model = reference().model
    fit = fit_degradation(late, model, told)
    assert isinstance(fit, Fit)
    pump = heat_pump(fit.model)

    def hidden(share: float) -> bool:
        moved = pump.replace(motor_efficiency=pump.parameters.motor_efficiency - share)
        candidate = replace(fit, model=fit.model.with_(physics=moved))
        return gate(
            judge(candidate, model, model, late, told, held_out=(1.0, 1.0, 0.0)),
            "hidden",
        )

    assert hidden(0.002)
    assert not hidden(0.010)


def test_a_candidate_that_would_have_served_badly_fails_its_dry_run():
    """On most of the last days it is further off than the model in service."""
    told, found = judged(DAYS)
    late = found[found.index > pd.Timestamp(BEGINS)]
    model = reference().model
    fit = fit_degradation(late, model, told)
    assert isinstance(fit, Fit)
    worse = fit.model.with_(physics=degraded(heat_pump(model), {"condenser": 0.7}))
    verdict = judge(
        replace(fit, model=worse), model, model, late, told, held_out=(1.0, 1.0, 0.0)
    )
    honest = judge(fit, model, model, late, told, held_out=(1.0, 1.0, 0.0))

    assert not gate(verdict, "dry_run")
    assert gate(honest, "dry_run")


def test_a_worse_candidate_is_rejected():
    """More than five per cent on what it had not seen, beyond what is chance."""
    told, found = judged(DAYS)
    late = found[found.index > pd.Timestamp(BEGINS)]
    model = reference().model
    fit = fit_degradation(late, model, told)
    assert isinstance(fit, Fit)

    def passes(worse: float, doubt: float) -> bool:
        errors = (1.0 + worse, 1.0, doubt)
        verdict = judge(fit, model, model, late, told, held_out=errors)
        return gate(verdict, "held_out")

    assert passes(0.04, 0.0)
    assert not passes(0.06, 0.0)
    assert passes(0.06, 0.02)
    assert not passes(0.10, 0.02)


def test_a_weekend_without_running_is_no_bad_day_of_the_dry_run():
    """What could not be judged counts for nobody."""
    told, found = judged(DAYS)
    late = found[found.index > pd.Timestamp(BEGINS)]
    rested = late["steady"] & (pd.DatetimeIndex(late.index).day_of_week < 5)
    verdict = recalibrate(
        late.assign(steady=rested),
        reference().model,
        None,
        told,
        now=found.index[-1].to_pydatetime(),
    )

    assert gate(verdict, "dry_run")


def test_a_verdict_is_data(tmp_path):
    """It goes into the registry as it is, accepted or not."""
    told, found = judged(DAYS)
    late = found[found.index > pd.Timestamp(BEGINS)]
    now = found.index[-1].to_pydatetime()
    verdict = recalibrate(late, reference().model, None, told, now=now)
    assert verdict.fit is not None
    registry = Registry(tmp_path)
    registry.save(
        "hp1",
        Role.CURRENT,
        verdict.fit.model.to_dict(),
        created=now,
        gates=[g.to_dict() for g in verdict.gates],
        accepted=verdict.accepted,
        reason=verdict.reason,
    )
    record = registry.active("hp1", Role.CURRENT)

    assert record is not None
    assert json.dumps(list(record.gates))
    assert record.gates[0]["name"] == "data"
