"""A clock that is set, back or ahead, and days of 23, 24 and 25 hours.

The service, its scheduler, its broker and its archive are real; the clock is one
that the test sets, for everything in this process that asks what time it is.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apscheduler.executors.base
import apscheduler.schedulers.base
import numpy as np
import pandas as pd
import pytest
import servers
from apscheduler.job import Job
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from ingest.broker import Publisher
from twin.service import run
from twin.service.config import ArchiveConfig, Config, WebConfig, load
from twin.service.results import Results, empty
from twin.service.run import GRACE, Service
from twin.service.web import field, views

PLANT = Path(__file__).resolve().parents[2] / "deploy" / "plant.toml"
DAY = timedelta(days=1)
YEAR = 365 * DAY
JOBS = ("judge", "deliver", "show", "ask")


def until_true(condition: Callable[[], bool]) -> bool:
    """Wait up to a minute, which is what the jobs may take to resume."""
    gives_up = time.monotonic() + 60.0
    while time.monotonic() < gives_up:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Return the example plant, whose broker is not there."""
    loaded = load(PLANT, {})
    return replace(
        loaded,
        mqtt=replace(loaded.mqtt, port=servers.free_port()),
        archive=ArchiveConfig(path=tmp_path / "archive"),
        state_dir=tmp_path / "state",
        web=WebConfig(port=0),
    )


class Wall:
    """The machine's clock as this process sees it; ``ahead`` sets it."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wall]:
    """Put a clock that can be set where the scheduler and the service look."""
    made, real = Wall(), time.time

    class Set(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + made.ahead

    for module in (apscheduler.schedulers.base, apscheduler.executors.base, run):
        monkeypatch.setattr(module, "datetime", Set)
    monkeypatch.setattr(time, "time", lambda: real() + made.ahead.total_seconds())
    yield made
    made.ahead = timedelta(0)


def ran(service: Service) -> Counter[str]:
    """Return how often each job has run well."""
    return Counter({job: service.jobs.runs[job, "done"] for job in JOBS})


@pytest.mark.parametrize(
    "steps",
    [
        [timedelta(minutes=-10)],
        [timedelta(minutes=10)],
        [timedelta(hours=1), timedelta(hours=-1)],  # as a machine on local time does
        [YEAR, -YEAR],
    ],
    ids=["back 10 min", "ahead 10 min", "both DST changes", "ahead a year and back"],
)
def test_every_job_goes_on_after_the_clock_is_set(
    config: Config, wall: Wall, steps: list[timedelta]
) -> None:
    """Each runs twice more within a minute, whichever way the clock went."""
    with Service(config, judge_every=1.0, deliver_every=1.0) as service:
        minding = threading.Thread(target=service.wait)
        minding.start()
        try:
            assert until_true(lambda: min(ran(service)[job] for job in JOBS) > 0)
            for number, step in enumerate(steps, start=1):
                wall.ahead += step
                assert until_true(lambda n=number: service.jobs.clock_steps >= n)
                before = ran(service)
                assert until_true(
                    lambda then=before: all(
                        ran(service)[job] >= then[job] + 2 for job in JOBS
                    )
                )
            assert service.jobs.clock_steps == len(steps)
            assert service.deaths() == []
            assert service.problems()[0].startswith("no connection")
        finally:
            service.end()
            minding.join()


def test_without_the_guard_they_wait_for_the_time_to_come_again(
    config: Config, wall: Wall
) -> None:
    """The control: nobody minds the clock, and ten minutes back nothing runs."""
    with Service(config, judge_every=1.0, deliver_every=1.0) as service:
        assert until_true(lambda: min(ran(service)[job] for job in JOBS) > 0)
        wall.ahead -= timedelta(minutes=10)
        time.sleep(2.5)  # what had begun is over, and each was due since
        before = ran(service)
        time.sleep(3.0)

        assert ran(service) == before


def test_a_year_that_was_missed_is_one_run() -> None:
    """The control, apscheduler's own trigger, counts up every two seconds of it."""
    scheduler = BackgroundScheduler(timezone="UTC")
    start = datetime(2026, 1, 1, tzinfo=UTC)

    def due(trigger: object, now: datetime) -> int:
        job = Job(
            scheduler, func=print, trigger=trigger, next_run_time=start, args=(),
            kwargs={}, executor="default", id="x", name="x", misfire_grace_time=None,
            coalesce=True, max_instances=1,
        )  # fmt: skip
        return len(job._get_run_times(now) or ())

    assert due(run.every(2.0), start + YEAR) == 1
    assert due(run.every(2.0), start - YEAR) == 0
    own = IntervalTrigger(seconds=2, timezone="UTC", start_date=start)
    assert due(own, start + DAY) == 43_201


def test_a_clock_a_year_ahead_judges_no_day_that_has_not_been(
    config: Config, mosquitto: servers.Server
) -> None:
    """Back again, the days are judged as they come; nothing is in between."""
    config = replace(config, mqtt=replace(config.mqtt, port=mosquitto.port))
    start = datetime(2026, 1, 1, tzinfo=UTC)
    clock, sent = [start], [0]

    def publish(first: datetime, stop: datetime) -> None:
        times = pd.date_range(first, stop, freq="10min")
        with Publisher(replace(config.mqtt, client_id="gateway")) as gateway:
            sent[0] += gateway.publish_all(
                ("dc/hp1", json.dumps({"ts": at.isoformat(), "t_src_in": 30.0 + n % 7}))
                for n, at in enumerate(times[1:])
            )

    def look(at: datetime) -> datetime | None:
        assert until_true(lambda: service.intake.counts().stored == sent[0])
        clock[0] = at
        service.show()
        service.judge()
        return service.assessor.until

    service = Service(config, clock=lambda: clock[0], judge_every=1e6)
    with service:
        assert until_true(lambda: service.intake.health(0).connected)
        noon = start + 1.5 * DAY
        publish(start, noon)
        assert look(noon) == start + DAY
        assert look(noon + YEAR) == start + DAY
        # It is silent, by this clock; that is one alarm, when it lasts.
        assert look(noon + YEAR + timedelta(minutes=6)) == start + DAY
        assert [case.key for case in service.alarms.cases()] == [
            "hp1/telemetry/telemetry"
        ]
        service.alarms.rewind(noon, "clock guard")
        publish(noon, start + 2 * DAY + GRACE)
        assert look(start + 2 * DAY + GRACE) == start + 2 * DAY
        # The alarm of the year ahead is over a day after it was set back.
        publish(start + 2 * DAY + GRACE, start + 4 * DAY)
        look(start + 2.6 * DAY)
        look(start + 3.7 * DAY)
        case = service.alarms.case("hp1/telemetry/telemetry")
        assert case is not None
        assert case.returned is not None

        # The control: who believes the clock has judged days that are not over.
        service._newest = lambda now: now  # type: ignore[method-assign]
        assert look(start + 9.5 * DAY) == start + 9 * DAY


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "UTC"])
@pytest.mark.parametrize(
    "days", [("2026-03-07", "2026-04-01"), ("2026-10-23", "2026-11-03")]
)
def test_the_sum_of_a_day_is_exact_over_23_24_and_25_hours(
    zone: str, days: tuple[str, str]
) -> None:
    """To the joule: each ten minutes in one day, and as many as the calendar has."""
    times = pd.date_range("2026-01-01", "2026-12-31", freq="10min", tz="UTC")
    energy = {name: 0.0 for name, _ in views.ACCOUNTS}
    ledger = pd.DataFrame(
        {
            "time": times,
            "unit": "site",
            **energy,
            "it_heat_j": 3.6e6,
            "recovered_j": 3.6e6,
        }
    ).reindex(columns=empty("ledger").columns)
    results = Results(
        site="x", generated=datetime(2027, 1, 1, tzinfo=UTC), ledger=ledger
    )
    where = field.zone(zone)
    lengths = []
    for day in pd.date_range(*days):
        text = f"{day:%Y-%m-%d}"
        span = views.parse_range(results, "", text, text, where)
        begin = pd.Timestamp(text, tz=zone)
        hours = (begin + pd.DateOffset(days=1) - begin) / pd.Timedelta(hours=1)
        lengths.append(hours)
        said = views.totals(results, span, [])
        hourly = views.ledger_view(results, span, where)

        assert said.it_heat_j == 3.6e6 * 6 * hours
        assert hourly is not None
        assert len(hourly.bars) == hours
        assert {bar.title.split("\n")[1] for bar in hourly.bars} == {"recovered 6 kWh"}
    span = views.parse_range(results, "", *days, where)
    daily = views.ledger_view(results, span, where)
    assert daily is not None
    told = [bar.title.split("\n")[1] for bar in daily.bars]

    assert told == [f"recovered {6 * hours:g} kWh" for hours in lengths]
    odd = {"UTC": set()}.get(zone, {23.0} if days[0] < "2026-06" else {25.0})
    assert set(lengths) == {24.0} | odd
    assert np.sum(lengths) * 6 * 3.6e6 == daily.accounts[0][2]
