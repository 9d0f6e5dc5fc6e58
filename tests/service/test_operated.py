"""How a machine is run becomes a case, through the whole judgement."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from twin.finding import FindingKind
from twin.service.bench import detection
from twin.simulate import Fault, FaultKind, simulate


def test_a_control_without_hysteresis_is_told_and_a_steady_one_is_not() -> None:
    """Eight starts an hour raise one alarm; the days before them raise none."""
    scenario, _ = detection.plant(
        detection.HEALTHY, 5, detection.How(instruments="pressures")
    )
    begins = scenario.start + timedelta(days=9)
    cycles = Fault(unit="hp1", kind=FaultKind.SHORT_CYCLING, start=begins, size=8.0)
    short = replace(
        scenario,
        length=timedelta(days=12),
        reference_length=timedelta(days=7),
        step=timedelta(minutes=2),
        faults=(cycles,),
    )
    raised, _, refused = detection.watched(simulate(short))
    assert refused == []
    equipment = [r for r in raised if r.kind in detection.EQUIPMENT]
    told = [(r.kind, r.component) for r in equipment]
    assert told == [(FindingKind.COP_DEGRADATION, "cycling")]
    assert equipment[0].time > begins
