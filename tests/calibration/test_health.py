"""A fault is found with its size; a healthy plant and a lying probe raise none."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated import REFERENCE_DAYS, exchanger, judged, machine, reference, season

from calibration.findings import Prices, findings
from calibration.fit import Fit, fit_exchanger
from calibration.health import COLUMNS, balance_limit, daily, stuck, tune
from calibration.model import Model
from calibration.steady import windows
from calibration.trend import trend
from twin.finding import Finding, FindingKind
from twin.plant import Action, Machine, Maintenance
from twin.simulate import Fault, FaultKind
from twin.simulate.scenario import Scenario

START = Scenario(name="x").start
BEGINS = START + timedelta(days=REFERENCE_DAYS)
DAYS = 31
PRICES = Prices(electricity_eur_j=0.20 / 3.6e6, electricity_kg_j=0.3 / 3.6e6)


def fault(kind: FaultKind, size: float, shape: str = "step") -> tuple[Fault, ...]:
    """Return one fault that begins when the reference period ends."""
    return (Fault(unit="hp1", kind=kind, start=BEGINS, size=size, shape=shape),)


@cache
def usual(faults: tuple[Fault, ...] = ()) -> tuple[Machine, pd.DataFrame, pd.DataFrame]:
    """Return a season's machine, the windows after its reference, their health."""
    told, found = judged(DAYS, faults)
    late = found[found.index > pd.Timestamp(BEGINS)]
    return told, late, daily(late, reference().model, told)


def said(
    told: Machine, found: pd.DataFrame, log: tuple[Maintenance, ...] = ()
) -> tuple[list[Finding], pd.DataFrame]:
    """Return the findings on the last day, and the health until then."""
    model = reference().model
    late = found[found.index > pd.Timestamp(BEGINS)]
    history = daily(late, model, told, log=log)
    now = found.index[-1]
    week = late[late.index > now - pd.Timedelta(days=7)]
    return (
        findings(
            trend(history, "hp1"),
            model,
            told,
            week,
            now=now.to_pydatetime(),
            prices=PRICES,
            log=log,
            version="reference-00001",
        ),
        history,
    )


@pytest.mark.parametrize(
    ("kind", "size", "expected", "component"),
    [
        (FaultKind.CONDENSER_FOULING, 0.20, FindingKind.FOULING, "condenser"),
        (FaultKind.EVAPORATOR_FOULING, 0.15, FindingKind.FOULING, "evaporator"),
        (FaultKind.ISENTROPIC_LOSS, 0.05, FindingKind.COP_DEGRADATION, "compressor"),
    ],
)
def test_a_fault_is_found_named_sized_and_priced(
    kind: FaultKind, size: float, expected: FindingKind, component: str
):
    """Within ten days, alone, inside its interval, from about the right day."""
    told, found = judged(DAYS, fault(kind, size))
    result, _ = said(told, found)
    truth = season(DAYS, fault(kind, size)).truth["hp1"]
    column = (
        f"{component}_conductance_ratio"
        if expected is FindingKind.FOULING
        else "isentropic_ratio"
    )
    lost = 1.0 - float(truth[column].iloc[-7 * 144 :].mean())

    assert [(f.kind, f.component) for f in result] == [(expected, component)]
    (one,) = result
    assert one.low <= lost <= one.high
    assert one.low > 0.0
    assert abs(one.since - BEGINS) <= timedelta(days=2)
    assert one.cost_eur_day is not None
    assert one.cost_eur_day > 0.0
    assert one.energy_j_day == pytest.approx(one.cost_eur_day / 0.20 * 3.6e6)
    assert one.emission_kg_day is not None
    assert one.evidence["reference"] == "reference-00001"
    assert component in one.sentence


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        (FaultKind.UNDERCHARGE, 0.875),
        (FaultKind.EVAPORATOR_FOULING, 0.20),
        (FaultKind.ISENTROPIC_LOSS, 0.05),
    ],
)
def test_liquids_and_power_say_that_it_lost_and_not_which_part(
    kind: FaultKind, size: float
):
    """The finding is of the machine, and its evidence holds what was planted."""
    told, found = judged(DAYS, fault(kind, size), "water")
    model = reference("water").model
    late = found[found.index > pd.Timestamp(BEGINS)]
    history = daily(late, model, told)
    now = found.index[-1]
    week = late[late.index > now - pd.Timedelta(days=7)]
    result = findings(
        trend(history, told.id), model, told, week, now=now.to_pydatetime()
    )
    assert result
    assert {f.component for f in result} == {"machine"}
    assert all("leave open which part" in f.sentence for f in result)
    part = {
        FaultKind.UNDERCHARGE: "charge",
        FaultKind.EVAPORATOR_FOULING: "evaporator",
        FaultKind.ISENTROPIC_LOSS: "compressor",
    }[kind]
    asked = result[0].evidence["diagnosis"]["explanations"]
    assert part in {cause for one in asked for cause in one["causes"]}


def test_a_healthy_machine_raises_nothing_on_any_day():
    """The negative control, looked at every day as the service does."""
    told, late, history = usual()
    model = reference().model
    for end in sorted(history["time"].unique()):
        past = history[history["time"] <= end]
        week = late[(late.index <= end) & (late.index > end - pd.Timedelta(days=7))]
        assert (
            findings(
                trend(past, "hp1"),
                model,
                told,
                week,
                now=pd.Timestamp(end).to_pydatetime(),
            )
            == []
        )


def test_day_by_day_equals_all_at_once():
    """Replay is live: the history is all the state there is."""
    told, late, whole = usual(fault(FaultKind.CONDENSER_FOULING, 0.20))
    model = reference().model
    history: pd.DataFrame | None = None
    for _, day in late.groupby(pd.DatetimeIndex(late.index).ceil("D")):
        before = None if history is None else trend(history, "hp1")
        rows = daily(day, model, told, history=before)
        history = rows if history is None else pd.concat([history, rows])

    assert history is not None
    assert tuple(whole.columns) == COLUMNS
    pd.testing.assert_frame_equal(history.reset_index(drop=True), whole)


def test_days_far_from_anything_the_reference_saw_are_not_judged():
    """A sink fourteen kelvin too hot is the network's fault, not the condenser's."""
    faults = (
        Fault(
            unit="hp1",
            kind=FaultKind.SINK_HOT,
            start=BEGINS + timedelta(days=4),
            size=14.0,
        ),
    )
    told, late, history = usual(faults)
    rows = history[history["component"] == "condenser"].reset_index(drop=True)

    assert rows["value"].iloc[:4].notna().all()
    assert rows["value"].iloc[-4:].isna().all()
    assert (
        findings(
            trend(history, "hp1"),
            reference().model,
            told,
            late,
            now=late.index[-1].to_pydatetime(),
        )
        == []
    )


def test_a_day_without_running_is_unknown_and_not_healthy():
    """NaN with zero samples, and the evidence so far is kept."""
    told, late, _ = usual(fault(FaultKind.CONDENSER_FOULING, 0.20))
    model = reference().model
    last = pd.DatetimeIndex(late.index).ceil("D") == late.index[-1].ceil("D")
    rested = late.assign(steady=late["steady"] & ~last)
    history = daily(rested, model, told)
    rows = history[history["component"] == "condenser"]

    assert np.isnan(rows["value"].iloc[-1])
    assert rows["samples"].iloc[-1] == 0
    assert rows["statistic"].iloc[-1] == rows["statistic"].iloc[-2] > 0.0


def test_a_logged_cleaning_starts_the_evidence_anew():
    """After it, what was fouled before counts no more."""
    told, found = judged(DAYS, fault(FaultKind.CONDENSER_FOULING, 0.20))
    log = (
        Maintenance(
            time=found.index[-1].to_pydatetime() - timedelta(days=1),
            unit="hp1",
            action=Action.CLEANED,
            component="condenser",
        ),
    )
    before, _ = said(told, found)
    after, history = said(told, found, log)
    rows = history[history["component"] == "condenser"]

    assert [f.component for f in before] == ["condenser"]
    assert after == []
    assert rows["statistic"].iloc[-1] < rows["statistic"].iloc[-3]


def offset(point: str, size: float) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Return a probe that reads too much."""
    return lambda frame: frame.assign(**{point: frame[point] + size})


def scaled(point: str, size: float) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Return a meter that reads too much."""
    return lambda frame: frame.assign(**{point: frame[point] * size})


@pytest.mark.parametrize(
    ("lie", "point"),
    [
        (offset("sink_outlet_temp_degc", -4.0), "sink_outlet_temp_degc"),
        (offset("sink_inlet_temp_degc", 1.0), "sink_inlet_temp_degc"),
        (scaled("sink_flow_m3_s", 1.06), "sink_flow_m3_s"),
    ],
)
def test_a_lying_sensor_is_named_and_the_equipment_left_alone(
    lie: Callable[[pd.DataFrame], pd.DataFrame], point: str
):
    """No fault of a machine moves its energy balance; a probe does."""
    made = season(DAYS)
    told = machine(made)
    frame = made.frames["hp1"]
    late = frame.index > pd.Timestamp(BEGINS)
    bad = pd.concat([frame[~late], lie(frame[late])])
    result, _ = said(told, windows(bad, told))

    assert result
    assert {f.kind for f in result} == {FindingKind.SENSOR}
    suspects = {name for name, _ in result[0].evidence["suspects"]}
    assert point in suspects
    assert result[0].component in (point, "energy_balance")
    assert point in result[0].sentence
    assert "held_back" in result[0].evidence


def test_while_a_probe_lies_the_equipment_is_unknown_and_afterwards_innocent():
    """Five days of a lie leave no trace in the evidence against the condenser."""
    made = season(DAYS)
    told = machine(made)
    frame = made.frames["hp1"].copy()
    lies = (frame.index > pd.Timestamp(BEGINS + timedelta(days=2))) & (
        frame.index <= pd.Timestamp(BEGINS + timedelta(days=7))
    )
    frame.loc[lies, "sink_outlet_temp_degc"] -= 4.0
    result, history = said(told, windows(frame, told))
    rows = history[history["component"] == "condenser"].reset_index(drop=True)

    assert rows["value"].iloc[2:7].isna().all()
    assert rows["value"].iloc[7:].notna().all()
    assert (rows["statistic"] < rows["limit"]).all()
    assert result == []


def test_a_frozen_probe_is_named():
    """It read the same number all day though the unit ran."""
    made = season(DAYS)
    told = machine(made)
    frame = made.frames["hp1"].copy()
    frame.loc[frame.index[-200:], "source_outlet_temp_degc"] = 31.4
    found = windows(frame, told)
    result, _ = said(told, found)

    assert stuck(found[found.index > frame.index[-1] - pd.Timedelta(days=1)], told) == [
        "source_outlet_temp_degc"
    ]
    assert [(f.kind, f.component) for f in result] == [
        (FindingKind.SENSOR, "source_outlet_temp_degc")
    ]


def test_nothing_is_frozen_in_a_healthy_plant():
    """The negative control, on every day."""
    told, found = judged(DAYS)
    for _, day in found.groupby(pd.DatetimeIndex(found.index).ceil("D")):
        assert stuck(day, told) == []


def test_stale_evidence_raises_nothing():
    """A week without data says nothing of today."""
    told, late, history = usual(fault(FaultKind.CONDENSER_FOULING, 0.20))
    model = reference().model
    now = late.index[-1].to_pydatetime() + timedelta(days=7)

    assert findings(trend(history, told.id), model, told, late.iloc[:0], now=now) == []


def test_without_a_price_the_cost_is_unknown():
    """And not nothing."""
    told, late, history = usual(fault(FaultKind.CONDENSER_FOULING, 0.20))
    model = reference().model
    (one,) = findings(
        trend(history, told.id), model, told, late, now=late.index[-1].to_pydatetime()
    )

    assert one.cost_eur_day is None
    assert one.energy_j_day is not None


@pytest.mark.parametrize("size", [0.20, 0.0])
def test_a_fouled_exchanger_is_found_and_a_clean_one_left_alone(size: float):
    """By its conductance at the flows of the day."""
    faults = (
        Fault(unit="cdu1", kind=FaultKind.EXCHANGER_FOULING, start=BEGINS, size=size),
    )
    made = season(DAYS, faults if size else ())
    told = exchanger(made)
    found = windows(made.frames["cdu1"], told)
    early = found[found.index <= pd.Timestamp(BEGINS)]
    fit = fit_exchanger(early, told)
    assert isinstance(fit, Fit)
    model = tune(early, fit.model, told)
    late = found[found.index > pd.Timestamp(BEGINS)]
    history = daily(late, model, told)
    now: datetime = found.index[-1].to_pydatetime()
    result = findings(trend(history, told.id), model, told, late, now=now)
    truth = made.truth["cdu1"]["exchanger_conductance_ratio"].iloc[-7 * 144 :].mean()

    if size:
        (one,) = result
        assert (one.kind, one.component) == (FindingKind.FOULING, "exchanger")
        assert one.low <= 1.0 - float(truth) <= one.high
    else:
        assert result == []


def balance(late: pd.DataFrame, model: Model, told: Machine) -> pd.DataFrame:
    """Return the balance's rows of windows at a third of their load.

    The source's outlet probe has always read 0.1 K too high: a share of the
    temperature difference that grew.
    """
    span = late["source_inlet_temp_degc"] - late["source_outlet_temp_degc"]
    small = late.assign(
        source_outlet_temp_degc=late["source_inlet_temp_degc"] - span / 3.0,
        energy_balance_error=late["energy_balance_error"] + 0.1 / (span / 3.0)
        - 0.1 / span,
    )  # fmt: skip
    rows = daily(small, model, told)
    return rows[rows["component"] == "balance"]


def test_a_probe_that_always_erred_is_no_liar_at_small_loads():
    """The day's own uncertainty is in the limit; the control has the usual day's."""
    told, late, _ = usual()
    model = reference().model
    rows = balance(late, model, told)
    tuning = dict(model.tuning["balance/closure"])
    del tuning["half"]
    control = balance(
        late, model.with_(tuning={**model.tuning, "balance/closure": tuning}), told
    )

    assert (rows["statistic"] <= rows["limit"]).all()
    assert (control["statistic"] > control["limit"]).any()


@given(half=st.floats(0.0, 1.0))
def test_a_less_certain_day_never_has_a_closer_limit(half: float):
    """As certain as usual or more, the limit is what the reference's days gave."""
    model = reference().model
    usual_half = model.tuning["balance/closure"]["half"]
    limit = balance_limit(model, half)

    assert limit >= balance_limit(model, usual_half)
    assert limit <= balance_limit(model, half * 1.1)
    assert balance_limit(model, float("nan")) == balance_limit(model, usual_half)
