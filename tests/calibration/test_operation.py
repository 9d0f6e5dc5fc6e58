"""How a machine is run is judged by its samples, and only where they can show it."""

from __future__ import annotations

from datetime import timedelta
from functools import cache

import pandas as pd
import pytest
from simulated import machine, reference, season

from calibration.health import COLUMNS
from calibration.model import Model
from calibration.operation import AT_REST, STARTS, SWINGS, daily, findings, with_habits
from calibration.trend import trend
from twin.finding import FindingKind
from twin.plant import Machine
from twin.simulate import Fault, FaultKind, Scenario
from twin.simulate.scenario import MORE

START = Scenario(name="x").start
LEARNT = START + timedelta(days=2)
DAYS = 4


@cache
def season_of(kind: FaultKind | None, size: float) -> tuple[pd.DataFrame, Machine]:
    """Return one-minute samples in which a fault begins on the third day."""
    faults = ()
    if kind is not None:
        faults = (Fault(unit="hp1", kind=kind, start=LEARNT, size=size),)
    made = season(DAYS, faults, step_minutes=1, more=MORE)
    return made.frames["hp1"], machine(made)


def judged(kind: FaultKind | None, size: float) -> tuple[pd.DataFrame, Model]:
    """Return the rows of the days after two from which it learnt."""
    frame, told = season_of(kind, size)
    model = with_habits(frame[: pd.Timestamp(LEARNT)], reference().model, told)
    ends = pd.DatetimeIndex(frame.index).ceil("D")
    parts = [
        daily(frame[ends == end], model, told, end.to_pydatetime())
        for end in ends.unique()
        if end > pd.Timestamp(LEARNT)
    ]
    return pd.concat(parts, ignore_index=True), model


@pytest.mark.parametrize(
    ("kind", "size", "key", "component"),
    [
        (FaultKind.HUNTING, 4.0, SWINGS, "expansion"),
        (FaultKind.SHORT_CYCLING, 8.0, STARTS, "cycling"),
    ],
)
def test_what_is_beyond_what_is_allowed_becomes_a_finding(
    kind: FaultKind, size: float, key: tuple[str, str], component: str
):
    """After two days of it, with the factor by which it exceeds."""
    rows, model = judged(kind, size)
    now = rows["time"].max().to_pydatetime()
    (one,) = findings(trend(rows, "hp1"), model, now=now)
    mine = rows[(rows["component"] == key[0]) & (rows["indicator"] == key[1])]

    assert tuple(rows.columns) == COLUMNS
    assert (one.kind, one.component) == (FindingKind.COP_DEGRADATION, component)
    assert one.since == LEARNT
    assert one.size == pytest.approx(float(mine["value"].median()) - 1.0)
    assert one.size > 0.0
    assert component in one.sentence or "compressor" in one.sentence
    first = rows[rows["time"] == rows["time"].min()]
    assert findings(trend(first, "hp1"), model, now=now) == []


def test_a_machine_that_runs_well_is_left_alone():
    """The control: its days are judged, and none is beyond."""
    rows, model = judged(None, 0.0)

    assert {SWINGS, STARTS} <= set(
        zip(rows["component"], rows["indicator"], strict=True)
    )
    assert (rows["statistic"] <= rows["limit"]).all()
    assert (
        findings(trend(rows, "hp1"), model, now=rows["time"].max().to_pydatetime())
        == []
    )


def test_gas_is_seen_at_rest_on_two_days():
    """A standing machine's pressure; without a standstill there is no row."""
    faults = (
        Fault(unit="hp1", kind=FaultKind.NON_CONDENSABLES, start=START, size=6e4),
        Fault(unit="hp1", kind=FaultKind.OVERRIDE, start=START + timedelta(hours=6)),
    )
    made = season(3, faults)
    told = machine(made)
    frame = made.frames["hp1"]
    ends = pd.DatetimeIndex(frame.index).ceil("D")
    rows = pd.concat(
        [
            daily(frame[ends == end], reference().model, told, end.to_pydatetime())
            for end in ends.unique()
        ],
        ignore_index=True,
    )
    at_rest = rows[
        (rows["component"] == AT_REST[0]) & (rows["indicator"] == AT_REST[1])
    ]
    found = findings(
        trend(rows, "hp1"), reference().model, now=ends[-1].to_pydatetime()
    )

    assert len(at_rest) >= 2
    assert [f.component for f in found] == ["non_condensables"]
    assert "purge" in found[0].advice.lower()


def test_coarse_samples_make_no_rows():
    """Not judged is not the same as well."""
    made = season(1)
    told = machine(made)
    frame = made.frames["hp1"]
    model = with_habits(frame, reference().model, told)

    assert model == reference().model
    assert daily(frame, model, told, START + timedelta(days=1)).empty
