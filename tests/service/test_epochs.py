"""A new reference comes only with a recorded change, and not dirtier than before."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest

from calibration.model import Model
from calibration.registry import Registry, Role
from calibration.steady import windows
from twin.plant import Action, Machine, Maintenance, Nameplate, Plant, Schedule
from twin.points import POINTS, Origin
from twin.service.assess import DAY, LEAD, Assessor, candidate
from twin.simulate import Fault, FaultKind, Scenario, Simulation, Unit, simulate

LENGTH = timedelta(days=6)
START = Scenario(name="x").start
CHANGED = START + LENGTH
REPLACED = Maintenance(
    time=CHANGED + timedelta(hours=1),
    unit="hp1",
    action=Action.SENSOR_REPLACED,
    component="compressor_power_w",
)


@cache
def telemetry(fouled: bool, cleaned: datetime | None = None) -> Simulation:
    """Return thirteen days of a machine.

    Its condenser is fouled after the first six, or from before until it is cleaned.
    """
    fault = Fault(
        unit="hp1",
        kind=FaultKind.CONDENSER_FOULING,
        start=CHANGED if cleaned is None else START - DAY,
        end=cleaned,
        size=0.3,
    )
    return simulate(
        Scenario(
            name="epochs",
            length=2 * LENGTH + DAY,
            step=timedelta(minutes=20),
            machines=(Unit(id="hp1"),),
            it_heat_w=0.75e6,
            demand_heat_w=0.65e6,
            faults=(fault,) if fouled else (),
            reference_length=LENGTH,
        )
    )


def plant(made: Simulation, *log: Maintenance) -> Plant:
    """Return it as configured; its data sheet tells no saturation temperatures."""
    frame = made.frames["hp1"]
    rating = made.scenario.machines[0].rating
    machine = Machine(
        id="hp1",
        refrigerant="R1234ze(E)",
        nameplate=Nameplate(
            sink_heat_w=rating.sink_heat_w,
            power_w=rating.sink_heat_w / 4.0,
            source_inlet_temp_degc=rating.source_inlet_temp_degc,
            source_outlet_temp_degc=rating.source_outlet_temp_degc,
            sink_inlet_temp_degc=rating.sink_inlet_temp_degc,
            sink_outlet_temp_degc=rating.sink_outlet_temp_degc,
            speed_hz=50.0,
        ),
        source=made.scenario.coolant_said,
        points=frozenset(
            name
            for name in frame
            if name in POINTS
            and POINTS[name].origin is Origin.MEASURED
            and frame[name].notna().any()
        ),
    )
    return Plant(
        name="one",
        machines=(machine,),
        maintenance=log,
        schedule=Schedule(reference_length=LENGTH, every=timedelta(days=60)),
    )


def live(made: Simulation, site: Plant, registry: Registry, days: int) -> Assessor:
    """Judge the first days one by one."""
    assessor = Assessor(site, registry)
    frame = made.frames["hp1"]
    for day in range(1, days + 1):
        stop: datetime = START + day * DAY
        from_, to = pd.Timestamp(stop - DAY - LEAD), pd.Timestamp(stop)
        part = frame[(frame.index > from_) & (frame.index <= to)]
        assessor.day(stop, {"hp1": part})
    return assessor


def references(registry: Registry) -> list[bool]:
    """Return of every reference that was offered whether it was accepted."""
    history = registry.history("hp1")
    return [r.accepted for r in history if r.role is Role.REFERENCE]


@pytest.mark.parametrize("fouled", [True, False])
def test_dirt_does_not_come_in_with_a_replaced_meter(tmp_path: Path, fouled: bool):
    """A new meter begins a new reference; a condenser that passes less does not."""
    made = telemetry(fouled)
    registry = Registry(tmp_path)
    assessor = live(made, plant(made, REPLACED), registry, 13)

    assert references(registry) == [True, not fouled]
    if fouled:
        refused = registry.history("hp1")[-1]
        assert refused.reason.startswith("epoch_condenser: condenser at ")
        assert "a recorded change must account for it" in refused.reason
        assert assessor.refusals()["hp1"] == refused.reason
    else:
        second = registry.active("hp1", Role.REFERENCE)
        assert second is not None
        assert second.provenance["start"] > REPLACED.time.isoformat()
        assert any(gate["name"] == "epoch_condenser" for gate in second.gates)
        assert any("not compared" in said for said in second.provenance["remarks"])


@pytest.mark.parametrize("logged", [True, False])
def test_a_machine_that_was_refused_for_its_dirt_is_learnt_from_its_cleaning_on(
    tmp_path: Path, logged: bool
):
    """Once it is logged; without that the dirt stays among what would be learnt."""
    cleaned = START + LENGTH + timedelta(hours=12)
    made = telemetry(fouled=True, cleaned=cleaned)
    log = Maintenance(time=cleaned, unit="hp1", action=Action.CLEANED)
    site = plant(made, *((log,) if logged else ()))
    (told,) = site.machines
    sheet = replace(
        told.nameplate, evaporating_temp_degc=28.0, condensing_temp_degc=70.0
    )
    site = replace(site, machines=(replace(told, nameplate=sheet),))
    registry = Registry(tmp_path)
    live(made, site, registry, 13)
    offered = registry.history("hp1")

    assert offered[0].reason.startswith("design_condenser: ")
    if logged:
        assert references(registry) == [False, True]
        assert offered[1].provenance["start"] > cleaned.isoformat()
    else:
        assert not any(references(registry))


def test_an_overhaul_on_a_day_without_telemetry_opens_an_epoch(tmp_path: Path):
    """Nobody measures a machine that is taken apart."""
    made = telemetry(fouled=False)
    assessor = live(made, plant(made, REPLACED), Registry(tmp_path), 6)
    assert not assessor.refusals()
    assessor.day(START + 7 * DAY, {"hp1": made.frames["hp1"].iloc[:0]})

    assert set(assessor.refusals()) == {"hp1"}


def test_a_change_recorded_while_nobody_ran_opens_an_epoch_too(tmp_path: Path):
    """A restart takes up the period where it was; what is older than the model not."""
    made = telemetry(fouled=False)
    registry = Registry(tmp_path)
    live(made, plant(made), registry, 6)
    again = Assessor(plant(made, REPLACED), registry)
    older = replace(REPLACED, time=START + DAY)
    same = Assessor(plant(made, older), registry)
    for assessor in (again, same):
        assert not assessor.refusals()
        assessor.reopen(START + 8 * DAY)

    assert set(again.refusals()) == {"hp1"}
    assert not same.refusals()
    assert references(registry) == [True]


def test_a_day_that_failed_half_way_is_judged_once(tmp_path: Path):
    """Its windows and its health are not there twice when it is tried again."""
    made = telemetry(fouled=False)
    assessor = live(made, plant(made), Registry(tmp_path), 8)
    twin = assessor._twins["hp1"]
    assert twin.windows is not None
    assert twin.history is not None
    windows, history = len(twin.windows), len(twin.history.rows())
    frame = made.frames["hp1"]
    begin, stop = START + 7 * DAY - LEAD, START + 8 * DAY
    seen = (frame.index > pd.Timestamp(begin)) & (frame.index <= pd.Timestamp(stop))
    assessor.day(stop, {"hp1": frame[seen]})

    assert twin.windows.index.is_unique
    assert (len(twin.windows), len(twin.history.rows())) == (windows, history)


CLEANED = Maintenance(
    time=CHANGED, unit="hp1", action=Action.CLEANED, component="condenser"
)


@pytest.mark.parametrize(
    ("log", "limits", "passed"),
    [
        ((), (0.15, 0.60), False),
        ((CLEANED,), (0.15, 0.60), True),
        ((replace(CLEANED, unit="hp2"),), (0.15, 0.60), False),
        ((), (0.60, 0.60), True),
        ((CLEANED,), (0.15, 0.10), False),
    ],
)
def test_a_recorded_event_widens_the_step(
    log: tuple[Maintenance, ...],
    limits: tuple[float, float],
    passed: bool,
):
    """A loss of 30 % at once needs an event of this unit, or a wider limit."""
    made = telemetry(fouled=True)
    site = plant(made, *log)
    step, after = limits
    site = replace(
        site,
        schedule=replace(site.schedule, step=step, step_after_event=after),
    )
    seen = windows(made.frames["hp1"], site.machines[0], minutes=20.0)
    verdict, _ = candidate(
        site,
        site.machines[0],
        seen[seen.index > pd.Timestamp(CHANGED)],
        ("reference-00001", learnt()),
        None,
        START + 13 * DAY,
    )
    (gate,) = (gate for gate in verdict.gates if gate.name == "step")

    assert gate.passed is passed
    assert gate.limit == (after if log and log[0].unit == "hp1" else step)
    assert ("after the logged event" in gate.sentence) is (log == (CLEANED,))


@cache
def learnt() -> Model:
    """Return the reference of the six days before the condenser fouled."""
    with TemporaryDirectory() as folder:
        registry = Registry(Path(folder))
        made = telemetry(fouled=True)
        live(made, plant(made), registry, 6)
        record = registry.active("hp1", Role.REFERENCE)
        assert record is not None
        return Model.from_dict(record.model)


def test_old_epochs_stay_and_old_dates_are_judged_by_them(tmp_path: Path):
    """A replay of both epochs judges each day by the reference of its time."""
    made = telemetry(fouled=False)
    registry = Registry(tmp_path)
    assessor = live(made, plant(made, REPLACED), registry, 13)
    epochs = [m for m in assessor.models() if m["role"] == "reference"]

    assert [m["version"] for m in epochs] == ["reference-00001", "reference-00002"]
    assert [m["in_service"] for m in epochs] == [False, True]
    first = registry.load("hp1", epochs[0]["version"])
    assert Model.from_dict(first.model).unit == "hp1"
    again = Registry(tmp_path / "again")
    live(made, plant(made, REPLACED), again, 8)
    old = again.active("hp1", Role.REFERENCE)
    assert old is not None
    assert old.sha256 == first.sha256
