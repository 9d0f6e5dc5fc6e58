"""What the service says of itself beyond its intake: metrics for Prometheus.

Few labels, and only such as grow with the plant and not with time: a unit, a
point, a task. (``job`` is a word of Prometheus' own, for what it scrapes.) What
nobody knows has no sample, never a zero.
"""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from calibration.registry import Role
from twin import __version__

if TYPE_CHECKING:
    from ingest.reading import Source
    from twin.service.results import Live, ResultsView
    from twin.service.watchdog import Rounds

Family = CounterMetricFamily | GaugeMetricFamily


@dataclass(kw_only=True)
class Jobs:
    """How the scheduled jobs went since the start.

    Attributes
    ----------
    runs
        How often, by job and ``done`` or ``failed``.
    misses
        How often a job's time came while it was still running, by job.
    succeeded
        When it last was done, in s since 1970, by job. [s]
    clock_steps
        How often the machine's clock was set.
    """

    runs: Counter[tuple[str, str]] = field(default_factory=Counter)
    misses: Counter[str] = field(default_factory=Counter)
    succeeded: dict[str, float] = field(default_factory=dict)
    clock_steps: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Vitals(Collector):
    """Age of samples, disk, jobs, judgement and recalibrations, when asked.

    Attributes
    ----------
    sources
        The points that are configured, heard of or not.
    live, view
        The newest values and the newest results.
    jobs, rounds
        The scheduled jobs, and every loop.
    folders
        What is written into, by what it is called.
    journal
        The journal's file.
    now
        What time it is, as the values' stamps tell it. UTC.
    stale_after
        Age from which a point counts as stale.
    """

    sources: Sequence[Source]
    live: Live
    view: ResultsView
    jobs: Jobs
    rounds: Rounds
    folders: Mapping[str, Path]
    journal: Path
    now: Callable[[], datetime]
    stale_after: timedelta

    def describe(self) -> Iterable[Family]:
        """Register without looking: nothing may run yet."""
        return ()

    def collect(self) -> Iterable[Family]:
        """Yield every family."""
        build = GaugeMetricFamily(
            "hptwin_build_info", "1, with the version that runs.", labels=["version"]
        )
        build.add_metric([__version__], 1.0)
        yield build
        yield from self._samples()
        yield from self._disk()
        yield from self._work()
        yield from self._judgement()

    def _samples(self) -> Iterable[Family]:
        ages = GaugeMetricFamily(
            "hptwin_sample_age_seconds",
            "Age of a point's newest value; a point never heard has none.",
            labels=["unit", "point"],
        )
        states = GaugeMetricFamily(
            "hptwin_points",
            "Configured points of a unit: fresh, stale, or never heard.",
            labels=["unit", "state"],
        )
        newest, now = self.live.snapshot(), self.now()
        counted: dict[str, Counter[str]] = {}
        for unit, point in sorted({(each.unit, each.point) for each in self.sources}):
            of_unit = counted.setdefault(unit, Counter())
            known = newest.get(unit, {}).get(point)
            if known is None:
                of_unit["never"] += 1
                continue
            age = now - known[1]
            of_unit["stale" if age > self.stale_after else "fresh"] += 1
            ages.add_metric([unit, point], age.total_seconds())
        for unit, numbers in counted.items():
            for state in ("fresh", "stale", "never"):
                states.add_metric([unit, state], numbers[state])
        yield from (ages, states)

    def _disk(self) -> Iterable[Family]:
        free = GaugeMetricFamily(
            "hptwin_disk_free_bytes",
            "Room that the service may still fill, by folder.",
            labels=["folder"],
        )
        size = GaugeMetricFamily(
            "hptwin_disk_size_bytes",
            "Size of the file system that a folder is on.",
            labels=["folder"],
        )
        for name, folder in self.folders.items():
            with contextlib.suppress(OSError):
                room = shutil.disk_usage(folder)
                free.add_metric([name], room.free)
                size.add_metric([name], room.total)
        yield from (free, size)
        journal = GaugeMetricFamily(
            "hptwin_journal_bytes", "Size of the journal, what is not yet merged too."
        )
        with contextlib.suppress(OSError):
            log = self.journal.with_name(self.journal.name + "-wal")
            merged = self.journal.stat().st_size
            journal.add_metric([], merged + (log.stat().st_size if log.exists() else 0))
        yield journal

    def _work(self) -> Iterable[Family]:
        runs = CounterMetricFamily(
            "hptwin_job_runs", "Runs of a job that ended.", labels=["task", "outcome"]
        )
        for key, number in sorted(self.jobs.runs.copy().items()):
            runs.add_metric(list(key), number)
        yield runs
        misses = CounterMetricFamily(
            "hptwin_job_misses",
            "Times that a job was due and its last run had not ended.",
            labels=["task"],
        )
        # Named from the first scrape on, so that a rate sees the first miss.
        jobs = {job for job, _ in self.jobs.runs.copy()} | set(self.jobs.misses.copy())
        for job in sorted(jobs):
            misses.add_metric([job], self.jobs.misses[job])
        yield misses
        succeeded = GaugeMetricFamily(
            "hptwin_job_last_success_timestamp_seconds",
            "When a job last ended well.",
            labels=["task"],
        )
        for job, when in sorted(self.jobs.succeeded.copy().items()):
            succeeded.add_metric([job], when)
        yield succeeded
        loops = GaugeMetricFamily(
            "hptwin_loop_age_seconds",
            "For how long a loop has not come round.",
            labels=["loop"],
        )
        for loop, age in sorted(self.rounds.ages().items()):
            loops.add_metric([loop], age)
        yield loops
        yield CounterMetricFamily(
            "hptwin_clock_steps",
            "Times that the machine's clock was set while the service ran.",
            value=self.jobs.clock_steps,
        )

    def _judgement(self) -> Iterable[Family]:
        results = self.view.results
        until = results.summary.get("judged_until")
        judged = GaugeMetricFamily(
            "hptwin_judged_until_timestamp_seconds",
            "End of the last day that was judged.",
        )
        if until:
            moment = datetime.fromisoformat(str(until))
            judged.add_metric([], moment.timestamp())
        yield judged
        tried: Counter[tuple[str, str]] = Counter()
        for model in results.models:
            if model.get("role") == Role.CURRENT.value:
                outcome = "accepted" if model.get("accepted") else "rejected"
                tried[str(model.get("unit")), outcome] += 1
        recalibrations = CounterMetricFamily(
            "hptwin_recalibrations",
            "Recalibrations that were judged, ever.",
            labels=["unit", "outcome"],
        )
        for key, number in sorted(tried.items()):
            recalibrations.add_metric(list(key), number)
        yield recalibrations
        for name, words, table in (
            (
                "hptwin_cop",
                "Coefficient of performance when it last ran steadily.",
                {unit: values.get("cop") for unit, values in results.latest.items()},
            ),
            (
                "hptwin_expected_cop",
                "What the current twin expects of it then.",
                {unit: values.get("cop") for unit, values in results.expected.items()},
            ),
        ):
            family = GaugeMetricFamily(name, words, labels=["unit"])
            for unit, value in sorted(table.items()):
                if value is not None:
                    cop = value[0] if isinstance(value, tuple) else value
                    family.add_metric([unit], cop)
            yield family
