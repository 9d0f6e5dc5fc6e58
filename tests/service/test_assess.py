"""A day is judged once, the same way live and in replay; unknown is a state."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from calibration.registry import Registry, Role
from twin.finding import Finding, FindingKind
from twin.plant import Action, Machine, Maintenance, Nameplate, Plant, Schedule
from twin.service.assess import DAY, Assessor, Score, _digest, _unknown
from twin.service.replay import NothingToReplayError, between, days, replay

START = datetime(2026, 1, 1, tzinfo=UTC)


def finding(unit: str, kind: FindingKind, component: str) -> Finding:
    """Return a finding of no importance."""
    return Finding(
        unit=unit,
        kind=kind,
        component=component,
        since=START,
        seen=START,
        size=0.1,
        low=0.05,
        high=0.15,
        sentence="",
        advice="",
    )


def test_equipment_of_a_lying_instrument_stands_as_last_seen() -> None:
    """Absent is not gone where nothing can be judged; elsewhere it is gone."""
    fouled = finding("hp1", FindingKind.FOULING, "condenser")
    other = finding("hp2", FindingKind.FOULING, "condenser")
    lying = finding("hp1", FindingKind.SENSOR, "sink_outlet_temp_degc")

    assert _unknown([fouled, other], [lying]) == [fouled]
    assert _unknown([fouled, other], []) == []
    assert _unknown([fouled], [lying, fouled]) == []


def test_a_score_is_the_textbook_one() -> None:
    """ASHRAE Guideline 14: CV(RMSE) and NMBE over the mean of the measured."""
    score = Score()
    measured = pd.Series([90.0, 100.0, 110.0, np.nan])
    score.add(measured, pd.Series([91.0, 102.0, 107.0, 5.0]))
    told = score.to_dict()

    assert told["rows"] == 3
    assert told["cv_rmse"] == pytest.approx(np.sqrt((1 + 4 + 9) / 3) / 100.0)
    assert told["nmbe"] == pytest.approx((1 + 2 - 3) / 300.0)
    assert Score().to_dict() == {"rows": 0}


def plant(**changes: object) -> Plant:
    """Return a plant of one machine."""
    machine = Machine(
        id="hp1",
        refrigerant="R134a",
        nameplate=Nameplate(
            sink_heat_w=5e5,
            power_w=1.1e5,
            source_inlet_temp_degc=30.0,
            source_outlet_temp_degc=24.0,
            sink_inlet_temp_degc=45.0,
            sink_outlet_temp_degc=55.0,
        ),
        points=frozenset({"compressor_power_w", "source_inlet_temp_degc"}),
    )
    return replace(Plant(name="one", machines=(machine,)), **changes)


class Recorded:
    """An archive of one unit's frame."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def frame(
        self, unit: str, start: datetime, stop: datetime, points: object = None
    ) -> pd.DataFrame:
        """Return the rows from start until before stop."""
        if unit != "hp1":
            return self._frame.iloc[:0]
        index = self._frame.index
        return self._frame[(index >= start) & (index < stop)]

    def flagged(
        self, unit: str, start: datetime, stop: datetime, points: object = None
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the same rows, none of them suspect."""
        found = self.frame(unit, start, stop, points)
        return found, found * 0.0 != 0.0

    def span(self, unit: str) -> tuple[datetime, datetime] | None:
        """Return the first and last time."""
        if unit != "hp1" or self._frame.empty:
            return None
        return (
            self._frame.index[0].to_pydatetime(),
            self._frame.index[-1].to_pydatetime(),
        )


def telemetry(length: float) -> pd.DataFrame:
    """Return a machine that stands still for some days."""
    index = pd.date_range(
        START + timedelta(minutes=10),
        START + timedelta(days=length),
        freq="10min",
        name="time",
    )
    return pd.DataFrame(
        {"compressor_power_w": 0.0, "source_inlet_temp_degc": 30.0}, index=index
    )


def test_every_row_belongs_to_exactly_one_day() -> None:
    """A sample at midnight ends the day before; none is judged twice or never."""
    archive = Recorded(telemetry(40.0))
    one = plant()
    seen = [
        between(frames["hp1"], day - DAY, day)
        for day, frames in days(one, archive, START, START + timedelta(days=40))
    ]
    joined = pd.concat(seen)

    assert len(seen) == 40
    assert joined.index.is_unique
    assert joined.index.equals(telemetry(40.0).index)


def test_a_standing_machine_is_not_assessable_and_has_no_cop(tmp_path: Path) -> None:
    """A refusal with its reason, kept once; never "healthy", never a number."""
    schedule = Schedule(reference_length=timedelta(days=3))
    registry = Registry(tmp_path)
    results = replay(
        plant(schedule=schedule), Recorded(telemetry(20.0)), registry=registry
    )

    assert results.findings == ()
    assert results.kpis["cop"].isna().all()
    assert "hp1" in results.summary["not_assessable"]
    assert [record.accepted for record in registry.history("hp1")] == [False]
    assert registry.active("hp1", Role.REFERENCE) is None


def test_a_look_in_the_middle_of_a_window_is_as_old_as_its_readings(
    tmp_path: Path,
) -> None:
    """Its windows are named by their ends, of which the last is yet to come.

    The page lays live values over these, the newer of both: held for readings of
    that end, they would stand for minutes where a value moves every second.
    """
    index = pd.date_range(
        START, START + timedelta(minutes=34, seconds=30), freq="10s", name="time"
    )
    frame = pd.DataFrame(
        {"compressor_power_w": 0.0, "source_inlet_temp_degc": 30.0}, index=index
    )
    frame.loc[frame.index > START + timedelta(minutes=33), "compressor_power_w"] = (
        np.nan
    )
    now = START + timedelta(minutes=34, seconds=37)
    assessor = Assessor(plant(), Registry(tmp_path))
    seen = assessor.glance(now, {"hp1": frame}).latest["hp1"]

    assert seen["source_inlet_temp_degc"][1] == frame.index[-1]
    assert seen["compressor_power_w"][1] == START + timedelta(minutes=33)
    assert max(time for _, time in seen.values()) <= frame.index[-1]


def test_an_empty_archive_is_a_clear_error(tmp_path: Path) -> None:
    """It names the plant, its units and what to check."""
    with pytest.raises(NothingToReplayError, match="no telemetry of its units"):
        replay(plant(), Recorded(telemetry(1.0).iloc[:0]), registry=Registry(tmp_path))


def test_a_period_outside_the_telemetry_is_a_clear_error(tmp_path: Path) -> None:
    """It says from when to when there is any."""
    with pytest.raises(NothingToReplayError, match="leaves nothing"):
        replay(
            plant(),
            Recorded(telemetry(2.0)),
            registry=Registry(tmp_path),
            start=START + timedelta(days=9),
        )


def test_a_replaced_sensor_opens_a_new_reference(tmp_path: Path) -> None:
    """The period begins again at the event, and no earlier."""
    event = Maintenance(
        time=START + timedelta(days=2, hours=5),
        unit="hp1",
        action=Action.SENSOR_REPLACED,
    )
    assessor = Assessor(plant(maintenance=(event,)), Registry(tmp_path))
    frames = telemetry(5.0)
    for number in range(1, 6):
        stop = START + number * DAY
        assessor.day(stop, {"hp1": between(frames, stop - DAY, stop)})

    assert assessor._twins["hp1"].began == event.time


class _Asked(dict[str, pd.DataFrame]):
    """Frames that note how many threads BLAS has while they are asked for."""

    def __init__(self, frames: dict[str, pd.DataFrame]) -> None:
        super().__init__(frames)
        self.threads: set[int] = set()

    def get(self, unit: str, otherwise: Any = None) -> Any:
        self.threads |= _threads()
        return super().get(unit, otherwise)


def _threads() -> set[int]:
    pools = threadpool_info()
    return {int(p["num_threads"]) for p in pools if p["user_api"] == "blas"}


def test_a_day_is_judged_on_one_thread_of_blas(tmp_path: Path) -> None:
    """However many there are before and after, so that bytes do not depend on it."""
    frames = _Asked({"hp1": telemetry(1.0)})
    with threadpool_limits(2, user_api="blas"):
        before = _threads()
        Assessor(plant(), Registry(tmp_path))._watch(frames, START, START + DAY)
        free = set(frames.threads)
        frames.threads.clear()
        Assessor(plant(), Registry(tmp_path)).day(START + DAY, frames)
        assert _threads() == before
    assert frames.threads == {1}
    assert free == before == {2}


def test_a_configuration_is_known_by_its_content() -> None:
    """Equal plants have one digest whatever order their sets are in."""
    points = ("compressor_power_w", "source_inlet_temp_degc", "suction_pressure_pa")
    one, other = (
        replace(
            plant(),
            machines=(replace(plant().machines[0], points=frozenset(order)),),
        )
        for order in (points, points[::-1])
    )

    assert _digest(one) == _digest(other)
    assert _digest(one) != _digest(plant())
