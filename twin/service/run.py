"""The service: it stands beside the plant for years; apscheduler's door.

Top to bottom in the order of the data: broker and journal, archive, the daily
judgement, alarms, delivery, page. This is where the clock is read, and it is
handed down as an argument from here.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from prometheus_client import ProcessCollector

from calibration.registry import Registry, RegistryError
from ingest.archive.table import moment, ms
from ingest.broker import Publisher, Subscriber
from ingest.decoder import Decoder
from ingest.intake import Intake
from ingest.journal import Journal, JournalError
from ingest.sparkplug import rebirth_payload
from twin.finding import Finding
from twin.plant import Plant
from twin.service import heap, reach, silence, telemetry
from twin.service.alarms import Alarms, Board
from twin.service.alertmanager import Alertmanager
from twin.service.assess import DAY, LEAD, Assessor, Telemetry
from twin.service.config import Config, open_configured
from twin.service.heartbeat import Heartbeat
from twin.service.models import Library
from twin.service.months import Months
from twin.service.notify import Notifier
from twin.service.playback import Playback
from twin.service.replay import cut, midnight, period, readings, units_of
from twin.service.results import (
    Live,
    Results,
    ResultsError,
    ResultsView,
    instant,
    parse_instant,
)
from twin.service.shards import Roster, Shard, share
from twin.service.state import (
    AuditEntry,
    State,
    StateError,
    StateUnavailableError,
)
from twin.service.users import Users
from twin.service.vitals import Jobs, Vitals
from twin.service.watchdog import Rounds
from twin.service.web.app import create_app
from twin.service.web.server import Server

if TYPE_CHECKING:
    from apscheduler.schedulers.background import BackgroundScheduler
    from prometheus_client import CollectorRegistry


_log = logging.getLogger(__name__)

GRACE = timedelta(minutes=15)
"""How long after midnight a day's last readings may still come."""
SILENCE = timedelta(minutes=15)
"""How old a unit's newest reading may be before the unit counts as silent."""
PATIENCE = timedelta(days=1)
"""How long a day that is over waits for the readings of a shard that is away."""
_CLOCK_STEP_S = 30.0
_CLOCK_OFF_S = 30.0
_BEHIND = 5000
_QUIET_S = 120.0
_TELL_EVERY_S = 2.0
_ANNOUNCE_S = 5.0
_LOOK_BACK = timedelta(days=35)
_LATE_DAYS = "late/"
# A backlog is accounted for once, not as often as somebody looks while it comes.
_LATE_QUIET = timedelta(minutes=2)
# How long a loop may take to come round before it counts as dead. Judging says
# so with every day, in which every machine may be recalibrated; delivering may
# wait for a time-out of each message; a write waits for the database's. The
# clock's guard waits for all of them when it sets the jobs anew. [s]
_LONGEST_S = {
    "judge": 1800.0,
    "deliver": 900.0,
    "show": 120.0,
    "ask": 120.0,
    "announce": 120.0,
    "report": 120.0,
    "intake-archive": 300.0,
    "intake-journal": 300.0,
    "page": 60.0,
    "clock": 2000.0,
}


def _named(shards: Sequence[Shard]) -> str:
    return ", ".join(map(str, shards))


def utc_now() -> datetime:
    """Return the time by the machine's clock. UTC."""
    return datetime.now(UTC)


def every(seconds: float) -> Any:
    """Return a trigger that fires each so many seconds, and never for the past.

    apscheduler's own walks through every time that was missed: with a clock that
    was set a year ahead those of a job of two seconds are sixteen million, and a
    gigabyte. [s]
    """
    from apscheduler.triggers.base import BaseTrigger

    class Every(BaseTrigger):  # type: ignore[misc]
        __slots__ = ()

        def get_next_fire_time(
            self, previous: datetime | None, now: datetime
        ) -> datetime:
            due = now if previous is None else previous + timedelta(seconds=seconds)
            return due if due > now else now + timedelta(seconds=seconds)

    return Every()


class Service:
    """Everything that runs beside a plant, wired.

    Parameters
    ----------
    config : Config
        The plant and its wiring.
    clock : callable
        What time it is, aware; the demo's runs faster than the wall's.
    judge_every, deliver_every : float
        Seconds between two looks, and between two rounds of delivery. [s]
    silence : timedelta
        Age of a unit's newest reading from which it is stale and silent.
    shard : Shard, optional
        Which part of the units it reads; None reads all of them.
    report_every : float
        Seconds between two reports of a shard; a lease lasts six of them. [s]

    Raises
    ------
    ConfigError
        If it is one of several shards, and archive or state cannot be shared.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock: Callable[[], datetime] = utc_now,
        judge_every: float = 60.0,
        deliver_every: float = 30.0,
        silence: timedelta = SILENCE,
        shard: Shard | None = None,
        report_every: float = 10.0,
    ) -> None:
        if shard is not None:
            config = share(config, shard)
        self.config = config
        self.plant = config.plant
        self._shard, self._report_every = shard, report_every
        self._roster: Roster | None = None
        self._term, self._started = 0, 0.0
        self._settled: datetime | None = None
        self._waits = ""
        self._shown = 0
        self._clock, self._silence = clock, silence
        self._judge_every, self._deliver_every = judge_every, deliver_every
        self._stack = contextlib.ExitStack()
        self._judging = threading.Lock()
        self._stop = threading.Event()
        self._problem = self._doubt = self._unheard = self._faint = ""
        self._announced: Board | None = None
        self.alertmanager: Alertmanager | None = None
        self.heartbeat: Heartbeat | None = None
        self._told = time.monotonic()
        self.jobs, self.rounds = Jobs(), Rounds()
        config.state_dir.mkdir(parents=True, exist_ok=True)
        self._results_dir = config.state_dir / "results"
        self._scheduler: BackgroundScheduler | None = None
        self._asker: Publisher | None = None
        self.live = Live()
        self.view = ResultsView(self._last_results())

    # --- start and stop ------------------------------------------------------

    def start(self) -> None:
        """Begin: page first, so that whoever looks sees how far things are."""
        self._started = time.monotonic()
        config, stack = self.config, self._stack
        self.state = State.configured(config, patient=True)
        stack.callback(self.state.close)
        name = "journal"
        if self._shard is not None:
            name = f"journal-{self._shard.name}"
            self._roster = Roster(
                self.state, self._shard, lease_s=6.0 * self._report_every
            )
        publisher = None
        if config.notify.mqtt_prefix:
            identity = f"{config.mqtt.client_id}-alerts"
            publisher = Publisher(replace(config.mqtt, client_id=identity))
            stack.callback(publisher.close)
        self.archive = open_configured(config.archive)
        stack.callback(self.archive.close)
        self.journal = Journal(config.state_dir / f"{name}.sqlite")
        stack.callback(self.journal.close)
        topics = Decoder(config.sources).topics()
        self.intake = Intake(
            config.sources,
            self.archive,
            self.journal,
            Subscriber(config.mqtt, topics),
            asking=config.rebirth,
            beat=self.rounds.beat,
        )
        if config.rebirth:
            identity = f"{config.mqtt.client_id}-rebirths"
            self._asker = Publisher(replace(config.mqtt, client_id=identity))
            stack.callback(self._asker.close)
        self.registry = Registry(config.state_dir / "models")
        self.assessor = Assessor(self.plant, self.registry)
        self.notifier = Notifier(
            self.state,
            self.plant.name,
            reach.routes(config),
            publisher,
            config.notify.mqtt_prefix,
            page=config.web.url,
        )
        self.alarms = Alarms(self.state, compose=self.notifier.compose)
        self.alertmanager = reach.alertmanager(config)
        self.heartbeat = reach.heartbeat(config)
        self.playback = Playback(config, config.state_dir / "replays", self.state)
        stack.callback(self.playback.close)
        app = create_app(
            self.view,
            self.alarms,
            self.live,
            plant=self.plant,
            delivery=self.notifier,
            shelf=Library(self.registry, self.plant, self.archive, self.state),
            replays=self.playback.folder,
            playback=self.playback,
            months=Months(
                lambda: self.view.results, self.plant, config.reporting, self.alarms
            ),
            counts=self.quality,
            problems=self.problems,
            deaths=self.deaths,
            clock=self._clock,
            timezone=self.plant.timezone,
            stale_after=self._silence,
            registry=self._metrics(),
            users=Users(self.state),
            hosts=(config.web.host, *config.web.names),
        )
        self.page = Server(
            app,
            config.web.host,
            config.web.port,
            lambda: self.rounds.beat("page"),
            config.web.tls,
        )
        self.page.start()
        stack.callback(self.page.close)
        stack.callback(self._remember_late)
        self.intake.start()
        stack.callback(self.intake.stop)
        for loop in ("page", "intake-archive", "intake-journal"):
            self.rounds.expect(loop, _LONGEST_S[loop])
        self._schedule()
        stack.callback(self._leave)
        stack.callback(self._unschedule)

    def stop(self) -> None:
        """End everything in the reverse order; what is at hand is finished."""
        self._stop.set()
        self._stack.close()

    def end(self) -> None:
        """Let :meth:`wait` return; safe in a signal handler."""
        self._stop.set()

    def __enter__(self) -> Service:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait(self) -> None:
        """Stay until stopped, and mind the clock."""
        wall, steady = time.time(), time.monotonic()
        self.rounds.expect("clock", _LONGEST_S["clock"])
        while not self._stop.wait(1.0):
            self.rounds.beat("clock")
            step = (time.time() - wall) - (time.monotonic() - steady)
            wall, steady = time.time(), time.monotonic()
            if abs(step) > _CLOCK_STEP_S:
                # apscheduler stops firing when the clock goes back.
                _log.warning("the clock stepped by %.0f s; jobs are set anew", step)
                self.jobs.clock_steps += 1
                self._unschedule()
                self._schedule()
                if step < 0:
                    self.alarms.rewind(self._clock(), "clock guard")

    def _metrics(self) -> CollectorRegistry:
        config = self.config
        folders = {"state": config.state_dir}
        if config.archive.kind == "parquet":
            folders["archive"] = config.archive.path
        found = telemetry.registry(self.intake, lambda: ms(utc_now()))
        found.register(
            Vitals(
                sources=config.sources,
                live=self.live,
                view=self.view,
                jobs=self.jobs,
                rounds=self.rounds,
                folders=folders,
                journal=self.journal.path,
                now=self._clock,
                stale_after=self._silence,
            )
        )
        ProcessCollector(registry=found)
        return found

    def _schedule(self) -> None:
        from apscheduler.events import EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED
        from apscheduler.executors.pool import ThreadPoolExecutor
        from apscheduler.schedulers.background import BackgroundScheduler

        scheduler = BackgroundScheduler(
            timezone="UTC",
            executors={"default": ThreadPoolExecutor(5)},
            job_defaults={
                "coalesce": True,
                "max_instances": 1,
                "misfire_grace_time": None,
            },
        )
        jobs = [
            (self.judge, self._judge_every),
            (self.deliver, self._deliver_every),
            (self.show, 2.0),
            (self.ask, 2.0),
        ]
        if self.alertmanager is not None or self.heartbeat is not None:
            jobs.append((self.announce, _ANNOUNCE_S))
        if self._roster is not None:
            jobs.append((self.report, self._report_every))
        for job, seconds in jobs:
            scheduler.add_job(
                self._guarded(job),
                every(seconds),
                next_run_time=datetime.now(UTC),
                id=job.__name__,
            )
            self.rounds.expect(job.__name__, seconds + _LONGEST_S[job.__name__])
        scheduler.add_listener(
            lambda event: self.jobs.misses.update([event.job_id]),
            EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES,
        )
        scheduler.start()
        self._scheduler = scheduler

    def _unschedule(self) -> None:
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=True)
            self._scheduler = None

    def _guarded(self, job: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            if self._stop.is_set():
                return
            name = job.__name__
            self.rounds.beat(name)
            try:
                job()
            except StateUnavailableError as error:
                # Readiness asks the database itself, and it is tried again.
                _log.warning("%s: %s", name, error)
                self.jobs.runs[name, "failed"] += 1
            except Exception as error:  # noqa: BLE001
                # Whatever it was, the next round must come; the page says so.
                _log.exception("%s failed and will be tried again", name)
                self._problem = f"{name}: {type(error).__name__}: {error}"
                self.jobs.runs[name, "failed"] += 1
            else:
                if self._problem.startswith(name):
                    self._problem = ""
                self.jobs.runs[name, "done"] += 1
                self.jobs.succeeded[name] = time.time()
            self.rounds.beat(name)

        return run

    # --- what it says of itself ----------------------------------------------

    def counts(self) -> Mapping[str, float]:
        """Return the verdicts of all messages so far; none without a journal."""
        try:
            counts = self.intake.counts()
        except JournalError:  # why, is among the problems
            return {}
        return {
            "received": counts.received,
            "stored": counts.stored,
            "duplicate": counts.duplicate,
            "quarantined": counts.quarantined,
            "rejected": counts.rejected,
            "in_flight": counts.in_flight,
        }

    def quality(self) -> Mapping[str, float]:
        """Return the verdicts, and what readings and clocks are like."""
        health = self.intake.health(ms(utc_now()))
        found = {
            **self.counts(),
            "readings that came late": health.late,
            "second values for one instant": health.conflicts,
        }
        found |= {
            f"readings flagged {flag}": number
            for flag, number in health.flagged.items()
        }
        off = [
            abs(offset)
            for offset in self.intake.clock_offsets().values()
            if abs(offset) > _CLOCK_OFF_S
        ]
        found["topics whose clock is off"] = len(off)
        if off:
            found["largest clock offset in seconds"] = max(off)
        return found

    def problems(self) -> list[str]:
        """Return why the service is not ready; empty when it is."""
        found = [self.intake.health(ms(utc_now())).problem, self._problem, self._doubt]
        if self._roster is not None:
            found += [self._waits, *self._roster.problems()]
        try:
            if self._leads():
                found += [*self.notifier.problems(utc_now()), self._unheard]
            else:
                self.state.revision()
        except StateError as error:
            found.append(str(error))
        return [problem for problem in found if problem]

    def deaths(self) -> list[str]:
        """Return why a supervisor should restart the service; mostly nothing."""
        if self._stop.is_set():
            return []
        return self.rounds.overdue()

    # --- jobs ----------------------------------------------------------------

    def deliver(self) -> None:
        """Send what waits in the outbox, if that is ours to do."""
        if self._leads():
            self.notifier.deliver(utc_now())

    def announce(self) -> None:
        """Tell the Alertmanager what stands, and the watchdog that we are there."""
        if not self._leads():
            return
        now = utc_now()
        if self.alertmanager is not None:
            board = self.alarms.board
            if board is not self._announced or self.alertmanager.due(now):
                said = self.alertmanager.tell(board.cases.values(), now)
                self._unheard = self._noted(said, self._unheard)
                self._announced = None if said else board
        well = not (self._unheard or self.deaths() or self.notifier.problems(now))
        if self.heartbeat is not None and well and self.heartbeat.due(now):
            self._faint = self._noted(self.heartbeat.beat(now), self._faint)

    @staticmethod
    def _noted(problem: str, before: str) -> str:
        if problem and problem != before:
            _log.warning("%s; it is tried again", problem)
        return problem

    def report(self) -> None:
        """Tell the other shards how far we are, and whether we lead."""
        assert self._roster is not None  # noqa: S101  else it is no job
        led, leads = self._leads(), self._roster.report(self._settled)
        if leads != led:
            _log.info("shard %s %s", self._shard, "leads" if leads else "follows")

    def _leads(self) -> bool:
        """Whether judging, raising alarms and sending them is ours to do."""
        return self._roster is None or self._roster.leads

    def _leave(self) -> None:
        if self._roster is not None:
            with contextlib.suppress(StateError):
                self._roster.leave()

    def show(self) -> None:
        """Hand the newest values to the page."""
        for (unit, point), newest in self.intake.latest().items():
            self.live.update(unit, point, newest.value, moment(newest.time_ms))

    def ask(self) -> None:
        """Ask Sparkplug nodes that are not understood who they are, if we may."""
        if self._asker is not None:
            for topic in self.intake.rebirths():
                self._asker.publish(topic, rebirth_payload(ms(utc_now())))

    def judge(self) -> None:
        """Judge every day that is over, then look at the one that is not."""
        with self._judging:
            try:
                self._look(self._clock())
            finally:
                heap.trim()

    def _look(self, now: datetime) -> None:
        if self.intake.counts().in_flight > _BEHIND:
            # A day whose readings are still in the journal is not over.
            return
        self._hear_late(now)
        if self._roster is not None and not self._takes_the_chair(now):
            return
        self._follow(now)
        over = list(self._days_over(now))
        for day in over:
            if self._stop.is_set() or not self._leads():
                return
            self._judge_day(day, last=day == over[-1])
        if self._leads():
            self._amend(now)
            self._glance(now)

    def _follow(self, now: datetime) -> None:
        """Use what was recalibrated or rolled back by hand, without a restart."""
        try:
            references = self.assessor.overtaken()
            if references:
                # As after a restart: its windows and its trend are made anew.
                self.assessor = Assessor(self.plant, self.registry)
            changed = [*references.items(), *self.assessor.follow().items()]
        except RegistryError as error:
            if str(error) != self._doubt:
                _log.error("%s; what served before goes on serving", error)
            self._doubt = str(error)
            return
        self._doubt = ""
        entries = []
        for unit, (before, after) in changed:
            sentence = f"{after or 'no model'} serves in place of {before or 'none'}"
            _log.warning("%s: %s", unit, sentence)
            entries.append(
                AuditEntry(
                    time=now,
                    actor="hptwin",
                    action="model_taken_up",
                    subject=f"{unit}/model",
                    detail={"before": before, "version": after, "sentence": sentence},
                )
            )
        if entries:
            self.state.save(audit=entries)

    def _days_over(self, now: datetime) -> Iterator[datetime]:
        if self.assessor.until is None:
            self._take_up()
        until = self.assessor.until
        if until is None:
            known = period(self.plant, self.archive)
            if known is None:
                return
            until = midnight(known[0])
        if until + DAY + GRACE > now:
            return
        newest = self._newest(now)
        while until + DAY + GRACE <= now and self._all_in(until + DAY, now):
            until += DAY
            # The plant has been silent for days, or the clock is wrong: until
            # telemetry has passed a day, nobody knows that it is over.
            if now - newest > DAY and until > newest:
                return
            yield until

    def _takes_the_chair(self, now: datetime) -> bool:
        """Do what every shard does for the days that are over; say whether we lead.

        Who begins to lead goes on from what was last written, by whomever; who
        does not shows it.
        """
        assert self._roster is not None  # noqa: S101  asked for by shards only
        over = midnight(now - GRACE)
        if (self._settled is None or self._settled < over) and self._is_past(over):
            self.intake.settle()
            self._settled = over
        if self._leads():
            if self._term != self._roster.term:
                self._term = self._roster.term
                self.assessor = Assessor(self.plant, self.registry)
                self.view.publish(self._last_results())
            return True
        self._waits = ""
        written = self._results_dir / "summary.json"
        if written.exists() and (at := written.stat().st_mtime_ns) != self._shown:
            self._shown = at
            self.view.publish(self._last_results())
        return False

    def _is_past(self, day: datetime) -> bool:
        """Whether all that the broker had for us of a day has come.

        It hands over in the order in which it took; a reading of the next day tells
        that none of this one is left. A plant that says nothing is waited for a while.
        """
        newest = max((one.time_ms for one in self.intake.latest().values()), default=0)
        if newest > ms(day) or not self.config.sources:
            return True
        health = self.intake.health(ms(utc_now()))
        quiet = health.message_age_s is None or health.message_age_s > _QUIET_S
        since = time.monotonic() - self._started
        return health.connected and quiet and since > _QUIET_S

    def _all_in(self, day: datetime, now: datetime) -> bool:
        """Whether the other shards have archived all that they have of a day.

        One that stays away is not waited for endlessly: its units are then not
        judged for that day, as if they had sent nothing.
        """
        late = [] if self._roster is None else self._roster.unsettled(day)
        self._waits = ""
        if not late:
            return True
        if now - day > PATIENCE:
            _log.warning("%s is judged without shard %s", day.date(), _named(late))
            return True
        self._waits = (
            f"the day until {day:%Y-%m-%d %H:%M} UTC waits to be judged for shard "
            f"{_named(late)}, until {day + PATIENCE:%Y-%m-%d %H:%M} at the latest"
        )
        return False

    def _newest(self, now: datetime) -> datetime:
        """Return when any unit was last heard of; longer ago than a day, exactly."""
        heard = [latest.time_ms for latest in self.intake.latest().values()]
        newest = moment(max(heard, default=0))
        if now - newest > DAY:
            # What was imported has not been heard.
            known = period(self.plant, self.archive)
            newest = newest if known is None else max(newest, known[1])
        return newest

    def _take_up(self) -> None:
        """Go on where the last process left off."""
        before = self.view.results
        told = before.summary.get("judged_until")
        if not told:
            return
        until = datetime.fromisoformat(str(told)).astimezone(UTC)
        keep = max(self.plant.schedule.window, _LOOK_BACK)
        self.assessor.recall(before)
        self.assessor.reopen(until)
        if self.assessor.refusals():
            keep = max(keep, self.plant.schedule.reference_length + _LOOK_BACK)
        day = until - keep
        while day < until:
            day += DAY
            self.rounds.beat("judge")
            self.assessor.warm(day, self._frames(day - DAY, day))
        self.assessor.resume(before, until)

    def _judge_day(self, stop: datetime, last: bool) -> None:
        self.rounds.beat("judge")
        self.intake.settle()
        self.assessor.day(stop, self._frames(stop - DAY, stop))
        # A day that is followed by another one is history, which pages nobody.
        self.alarms.step(
            self.assessor.findings,
            stop,
            judged=self.assessor.judged,
            live=last,
        )
        # A season of catching up is not written a hundred times.
        if last or time.monotonic() - self._told > _TELL_EVERY_S:
            self._tell(stop)

    def _tell(self, until: datetime) -> None:
        """Write down, and show, what is known until the end of the last day judged."""
        results = self.assessor.results(until, data_quality=self.counts())
        results.write(self._results_dir)
        self.view.publish(results)
        self._told = time.monotonic()

    def _hear_late(self, now: datetime) -> None:
        """Note which judged days readings have come for, until they are accounted."""
        told = self.view.results.summary.get("judged_until")
        until = parse_instant(str(told)) if told else None
        days = [instant(day) for day in self.intake.days() if until and day < until]
        if days:
            name = f"{_LATE_DAYS}{self._shard or ''}"
            known = json.loads(self.state.fact(name) or "{}").get("days", ())
            noted = {"days": sorted({*known, *days}), "at": instant(now)}
            self.state.save(facts={name: json.dumps(noted)})

    def _remember_late(self) -> None:
        """Note what came since the last look, for the process after this one."""
        with contextlib.suppress(StateError):
            self._hear_late(self._clock())

    def _amend(self, now: datetime) -> None:
        """Account anew for days whose readings came late, once no more come."""
        noted = {
            name: text for name, text in self.state.facts(_LATE_DAYS).items() if text
        }
        told = [json.loads(text) for text in noted.values()]
        begins = self.assessor.begins if told else None
        if begins is None or self.assessor.until is None:
            return
        # A clock that was set back does not hold it up for as long.
        since = [now - parse_instant(one["at"]) for one in told]
        if any(timedelta(0) <= each < _LATE_QUIET for each in since):
            return
        self.intake.settle()
        first = midnight(begins - timedelta(milliseconds=1))
        for day in sorted({parse_instant(day) for one in told for day in one["days"]}):
            if self._stop.is_set():
                return
            self.rounds.beat("judge")
            # What lies before the first day judged is history, for a replay.
            if first <= day:
                self.assessor.amend(day + DAY, self._frames(day, day + DAY))
                _log.info("%s is accounted anew: readings came late", day.date())
        self._tell(self.assessor.until)
        with self.state.alone() as kept:
            # Another shard may have heard of more meanwhile.
            done = {n: "" for n, text in noted.items() if kept.fact(n) == text}
            kept.save(facts=done)

    def _glance(self, now: datetime) -> None:
        begin = self.assessor.until or midnight(now)
        frames = self._frames(begin, now)
        if self._roster is not None:
            self._show_others(frames)
        silent, heard = self._silent(now)
        if any(len(frame) for frame in frames.values()):
            seen = self.assessor.glance(now, frames, data_quality=self.counts())
            if silent:
                seen = replace(seen, findings=(*seen.findings, *silent))
            self.view.publish(seen)
        # Who says nothing now cannot be well, whatever yesterday was like.
        judged = self.assessor.judged & (heard | {Plant.SITE})
        self.alarms.step(
            (*self.assessor.findings, *silent), now, judged=judged, heard=heard
        )
        # What a person closed by the command line is published from here too.
        self.notifier.refresh(
            case
            for case in self.alarms.board.cases.values()
            if case.open or (case.closed is not None and now - case.closed < DAY)
        )

    def _frames(self, start: datetime, stop: datetime) -> Telemetry:
        end = stop + timedelta(milliseconds=1)
        read = {
            unit: readings(self.archive, unit, start - LEAD, end)
            for unit in units_of(self.plant)
        }
        return cut(read, start - LEAD, stop)

    def _silent(self, now: datetime) -> tuple[list[Finding], frozenset[str]]:
        """Find who has stopped talking; return it with the units that talk."""
        newest: dict[str, datetime] = {}
        for unit, points in self.live.snapshot().items():
            times = [when for _, when in points.values()]
            if times:
                newest[unit] = max(times)
        if self._roster is not None:
            newest = {**self._last_of_others(newest), **newest}
        known = frozenset(newest)
        if self._roster is not None:
            # Theirs may be waiting with the broker, and readiness says so.
            away = self._roster.absent()
            newest = {
                unit: when
                for unit, when in newest.items()
                if not any(shard.owns(unit) for shard in away)
            }
        still = silence.quiet(newest, self._dead(), now, self._silence)
        topics: dict[str, set[str]] = {}
        for source in self.config.sources:
            topics.setdefault(source.unit, set()).add(source.topic)
        cases = self.alarms.board.cases.values()
        found = silence.findings(
            still,
            known,
            now,
            self._silence,
            standing=[case.finding for case in cases if case.closed is None],
            topics=topics,
        )
        return found, frozenset(newest.keys() - still.keys())

    def _show_others(self, frames: Telemetry) -> None:
        """Hand the newest values of what other shards read to the page."""
        for unit, frame in frames.items():
            if self._shard is None or self._shard.owns(unit):
                continue
            for point in frame.columns:
                known = frame[point].dropna()
                if len(known):
                    at = known.index[-1].to_pydatetime()
                    self.live.update(unit, str(point), float(known.iloc[-1]), at)

    def _last_of_others(self, newest: Mapping[str, datetime]) -> dict[str, datetime]:
        """Return when what other shards read last spoke, where nobody has seen it."""
        found = {}
        for unit in units_of(self.plant):
            if unit in newest or self._shard is None or self._shard.owns(unit):
                continue
            span = self.archive.span(unit)
            if span is not None:
                found[unit] = span[1]
        return found

    def _dead(self) -> dict[str, datetime]:
        """Return the units that their edge node has reported dead, and since when."""
        stale = self.intake.stale()
        points: dict[str, set[str]] = {}
        for source in self.config.sources:
            points.setdefault(source.unit, set()).add(source.point)
        return {
            unit: moment(max(stale[unit, point] for point in of_unit))
            for unit, of_unit in points.items()
            if all((unit, point) in stale for point in of_unit)
        }

    def _last_results(self) -> Results:
        if (self._results_dir / "summary.json").exists():
            try:
                return Results.read(self._results_dir)
            except ResultsError as error:
                _log.warning("%s; they are made anew from the archive", error)
        return Results(site=self.plant.name, generated=self._clock())
