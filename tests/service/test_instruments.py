"""A lying probe: set aside from its first reading on, raised in minutes, and shown.

The readings go through files and the intake's checks, whose flags are part of what
is judged; no reference is needed to tell that a probe lies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
import sample_results

from calibration.registry import Registry
from twin.finding import Finding, FindingKind
from twin.service import alarms
from twin.service.assess import DAY, Assessor, Telemetry
from twin.service.config import load
from twin.service.replay import cut, days, from_files, period, readings
from twin.service.results import Live, Results, ResultsView
from twin.service.state import State
from twin.service.web.app import create_app
from twin.service.web.server import Server
from twin.simulate import Fault, FaultKind, Scenario, Unit, simulate, write

START = datetime(2025, 11, 10, tzinfo=UTC)
BEGINS = START + timedelta(days=4, hours=13, minutes=7)
ENDS = BEGINS + timedelta(hours=14)
POINT = "sink_inlet_temp_degc"
KEY = f"hp1/sensor/{POINT}"


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory):
    """Return a plant of six days, one of whose probes reads degF for a night."""
    scenario = Scenario(
        name="instruments",
        start=START,
        length=timedelta(days=6),
        step=timedelta(minutes=2),
        seed=5,
        machines=(Unit(id="hp1"),),
        it_heat_w=0.75e6,
        demand_heat_w=0.65e6,
        faults=(
            Fault(
                unit="hp1",
                kind=FaultKind.SENSOR_UNIT,
                start=BEGINS,
                end=ENDS,
                component=POINT,
            ),
        ),
    )
    folder = tmp_path_factory.mktemp("plant")
    written = write(simulate(scenario), folder)
    config = load(folder / "plant.toml", {})
    archive, _ = from_files(
        [f for f in written if f.suffix == ".parquet" and f.stem != "truth"],
        config.sources,
    )
    return config.plant, archive


def judged(plant, tmp_path: Path, until: datetime | None = None) -> Assessor:
    """Return the assessor after all days until a midnight."""
    told, archive = plant
    assessor = Assessor(told, Registry(tmp_path / "models"))
    for day, frames in days(told, archive, *period(told, archive)):
        if until is None or day <= until:
            assessor.day(day, frames)
    return assessor


@pytest.fixture(scope="module")
def over(plant, tmp_path_factory: pytest.TempPathFactory) -> Assessor:
    """Return what is known when all days are over."""
    return judged(plant, tmp_path_factory.mktemp("over"))


def seen(plant, assessor: Assessor, now: datetime) -> Results:
    """Return what the running service shows at an instant."""
    told, archive = plant
    begin = assessor.until
    units = [*(device.id for device in told.units()), told.SITE]
    read = {
        unit: readings(archive, unit, begin - timedelta(hours=2), now) for unit in units
    }
    return assessor.glance(now, cut(read, begin - timedelta(hours=2), now))


def test_live_raises_it_at_the_look_that_replay_names(
    plant, over: Assessor, tmp_path: Path
) -> None:
    """A minute before there is nothing; and then nobody waits for midnight."""
    (case,) = (case for case in over.cases() if case.key == KEY)
    named = datetime.fromisoformat(case.evidence["named"])
    live = judged(plant, tmp_path, until=datetime(2025, 11, 14, tzinfo=UTC))

    assert BEGINS < named <= BEGINS + timedelta(minutes=30)
    assert not seen(plant, live, named - timedelta(minutes=1)).findings
    (found,) = seen(plant, live, named + timedelta(minutes=1)).findings
    assert found.key == KEY
    assert found.since == case.since
    assert datetime.fromisoformat(found.evidence["named"]) == named

    board, changes = alarms.step(alarms.Board(), live.findings, named)
    assert [change.change for change in changes] == [alarms.Change.RAISED]
    assert board.cases[KEY].open


def test_it_ends_by_itself(over: Assessor) -> None:
    """Over is over: the case stays on record, and nobody is said to lie."""
    (case,) = (case for case in over.cases() if case.key == KEY)

    assert over.findings == ()
    assert ENDS < case.seen <= ENDS + timedelta(hours=1)


def test_nothing_is_made_of_what_a_liar_says(plant, over: Assessor) -> None:
    """What cannot be known is NaN: the heat of that night is nobody's, not a lie."""
    _, archive = plant
    hours = over.tables()["kpis"]
    hours = hours[(hours["unit"] == "hp1") & hours["cop"].notna()]
    inside = (hours["time"] > BEGINS + timedelta(hours=1)) & (hours["time"] <= ENDS)

    assert not inside.any()
    assert len(hours) > 100
    assert hours["cop"].between(2.0, 7.0).all()
    raw, _ = archive.flagged("hp1", BEGINS + timedelta(minutes=2), ENDS)
    assert raw[POINT].min() > 100.0  # the archive keeps what was said
    told = over.results(ENDS).summary["instruments"]
    assert len(raw) <= told["set_aside"] <= len(raw) + 30


def test_who_lied_is_known_after_a_restart(plant, tmp_path: Path) -> None:
    """What was named before is neither learnt as a habit nor named again."""
    told, archive = plant
    noon = datetime(2025, 11, 15, tzinfo=UTC)
    before = judged(plant, tmp_path, until=noon)
    written = before.results(noon)
    again = Assessor(told, Registry(tmp_path / "models"))
    again.recall(written)
    for day, frames in days(told, archive, *period(told, archive)):
        if day <= noon:
            again.warm(day, frames)
    again.resume(written, noon)

    assert [f.key for f in again.findings] == [KEY]
    for day, frames in days(told, archive, *period(told, archive)):
        if day > noon:
            before.day(day, frames)
            again.day(day, frames)
    assert (
        again.results(noon).summary["instruments"]
        == (before.results(noon).summary["instruments"])
    )


def test_a_plain_mapping_of_frames_is_telemetry_too(plant, tmp_path: Path) -> None:
    """Without what the intake refused, a refused reading is a lost one."""
    told, archive = plant
    assessor = Assessor(told, Registry(tmp_path / "models"))
    for day, frames in days(told, archive, *period(told, archive)):
        assert isinstance(frames, Telemetry)
        assessor.day(day, dict(frames))
    (case,) = (case for case in assessor.cases() if case.key == KEY)

    assert case.evidence["reason"] == "lost"


def test_new_equipment_findings_of_the_unit_are_held_back() -> None:
    """They are listed with the probe; what stood before stands as last seen."""
    sensor = Finding(
        unit="hp1",
        kind=FindingKind.SENSOR,
        component="source_inlet_temp_degc,source_outlet_temp_degc",
        since=START,
        seen=START + DAY,
        size=np.nan,
        low=np.nan,
        high=np.nan,
        sentence="",
        advice="",
        evidence={
            "named": START.isoformat(),
            "lying": ["source_inlet_temp_degc", "source_outlet_temp_degc"],
        },
    )
    fouled = replace(
        sensor,
        kind=FindingKind.FOULING,
        component="evaporator",
        evidence={"points": ["source_outlet_temp_degc"]},
    )
    board, _ = alarms.step(alarms.Board(), [fouled], START)
    board, changes = alarms.step(board, [fouled, sensor], START + DAY)

    assert board.cases[fouled.key].suppressed_by == sensor.key
    assert [c.key for c in changes if c.asks_for_a_person] == [sensor.key]


@contextmanager
def served(results: Results, now: datetime) -> Iterator[httpx.Client]:
    """Serve results, and return a client."""
    app = create_app(
        ResultsView(results),
        alarms.Alarms(State.in_memory()),
        Live(),
        plant=sample_results.plant(),
        clock=lambda: now,
    )
    server = Server(app, port=0)
    server.start()
    try:
        with httpx.Client(base_url=server.url, trust_env=False) as client:
            yield client
    finally:
        server.close()


def test_the_page_says_which_probe_lies_and_why(plant, tmp_path: Path) -> None:
    """Beside its value on the unit's page, and with its times among the data."""
    live = judged(plant, tmp_path, until=datetime(2025, 11, 14, tzinfo=UTC))
    now = BEGINS + timedelta(hours=1)
    results = seen(plant, live, now)
    with served(results, now) as client:
        page = re.sub(r"\s+", " ", client.get("/unit/hp1").text)
        told = client.get("/api/quality").json()["probes"]

    (line,) = re.findall(r"<th scope=\"row\">sink inlet temperature(.*?)</tr>", page)
    assert "another unit, set aside" in line
    assert "hp1 sink inlet temperature</th>" in page
    assert told[0]["points"] == [POINT]
    assert told[0]["until"] is None

    honest = replace(results, summary={}, findings=())
    with served(honest, now) as client:
        page = client.get("/unit/hp1").text
    assert "set aside" not in re.sub(r"readings set aside, their probe lies", "", page)
    assert "Every probe that can be judged is believed." in page


def test_readings_that_a_device_calls_bad_are_no_readings() -> None:
    """Bad quality is the device's own word; our flags keep the value to be judged."""
    index = pd.date_range(START, periods=3, freq="min", tz=UTC, name="time")

    class Flagged:
        def flagged(self, *_: object) -> tuple[pd.DataFrame, pd.DataFrame]:
            values = pd.DataFrame({POINT: [40.0, 104.0, 41.0]}, index=index)
            return values, pd.DataFrame({POINT: [0, 5, 6]}, index=index)

    clean, came = readings(Flagged(), "hp1", START, START + DAY)
    assert clean[POINT].isna().tolist() == [False, True, True]
    assert came[POINT].isna().tolist() == [False, False, True]
