"""From the broker to the archive: the one path that every reading takes.

::

    broker --> journal, synced --> acknowledged
                  |  cursor
                  decode --> check --> archive --> verdicts and cursor together

Two threads with the journal between them, so an archive that is down, slow or
full costs disk and nothing else: the first goes on taking messages in, the
second goes on trying, in order. What the archive has taken and the cursor has
not yet passed is written again after a crash, which changes nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from ingest.archive.table import ArchiveError, ArchiveUnavailableError
from ingest.checks import Checker
from ingest.journal import (
    Counts,
    DeadLetter,
    Journal,
    JournalError,
    Message,
    Tally,
)
from ingest.payload import decode, index
from ingest.reading import Reading, Rejection, Source

if TYPE_CHECKING:
    from ingest.archive import Archive
    from ingest.broker import Subscriber

_log = logging.getLogger(__name__)
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 10.0
_WARM_UP = 5000


@dataclass(frozen=True, slots=True)
class Health:
    """Whether readings flow, and if not, where they stand.

    ``problem`` is a sentence for a person, empty while all is well.
    ``message_age_s`` is the time since the last message arrived, None before
    the first. [s] ``lag`` is how many messages wait in the journal. ``late``
    readings were more than a quarter of an hour old when they arrived,
    ``conflicts`` are second values for one instant; both since the start.
    """

    connected: bool
    threads_alive: bool
    message_age_s: float | None
    lag: int
    late: int
    conflicts: int
    flagged: Mapping[str, int]
    refused_topics: tuple[str, ...]
    overflows: int
    problem: str

    @property
    def well(self) -> bool:
        """Whether nothing needs anybody's attention."""
        return not self.problem


class Intake:
    """Takes messages in, judges them once, and keeps what they say.

    Parameters
    ----------
    sources : sequence of Source
        What is read from which topic.
    archive : Archive
        Where readings go.
    journal : Journal
        The commit point.
    subscriber : Subscriber, optional
        The broker; None works off what the journal holds.
    batch : int
        How many messages are decoded and written at once.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        archive: Archive,
        journal: Journal,
        subscriber: Subscriber | None = None,
        *,
        batch: int = 5000,
    ) -> None:
        self._sources = index(sources)
        self._counters = [(s.unit, s.point) for s in sources if s.counter]
        self._archive = archive
        self._journal = journal
        self._subscriber = subscriber
        self._batch = batch
        self._stopping = threading.Event()
        self._arrived = threading.Event()
        self._threads: list[threading.Thread] = []
        self._checker = Checker(self._counters)
        self._journal_problem = ""
        self._archive_problem = ""

    def start(self) -> None:
        """Begin to take messages in, and to work off what the journal holds."""
        if self._threads:
            return
        self._stopping.clear()
        self._threads = [
            threading.Thread(target=self._guarded, args=(step,), name=name, daemon=True)
            for name, step in (
                ("intake-archive", self._to_archive),
                ("intake-journal", self._to_journal),
            )
            if step == self._to_archive or self._subscriber is not None
        ]
        if self._subscriber is not None:
            self._subscriber.start()
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Stop taking messages in and finish what is at hand.

        What is not finished within the timeout stays in the journal, or with
        the broker. [s]
        """
        self._stopping.set()
        self._arrived.set()
        for thread in self._threads:
            thread.join(timeout)
        if self._subscriber is not None:
            self._subscriber.stop()
        self._threads = []

    def drain(self, timeout: float) -> bool:
        """Wait until the journal is worked off; say whether it is in time."""
        end = time.monotonic() + timeout
        while self.counts().in_flight:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def counts(self) -> Counts:
        """Return where every message is; see :class:`ingest.journal.Counts`."""
        return self._journal.counts()

    def latest(self) -> dict[tuple[str, str], tuple[int, float]]:
        """Return the newest time (in ms since 1970) and value of each point."""
        return self._checker.latest()

    def health(self, now_ms: int) -> Health:
        """Return how the intake is, at a given time in ms since 1970."""
        status = self._subscriber.status() if self._subscriber is not None else None
        alive = bool(self._threads) and all(t.is_alive() for t in self._threads)
        if status is not None:
            alive = alive and status.thread_alive
        problems = [self._journal_problem, self._archive_problem]
        if status is not None:
            waiting = "" if status.connected else "not connected to the broker yet"
            problems.append(status.problem or waiting)
            if status.refused:
                problems.append(
                    f"the broker does not let us read {', '.join(status.refused[:3])}"
                )
        if not alive:
            problems.append("a thread of the intake has ended; restart the service")
        last = status.last_message_ms if status is not None else None
        return Health(
            connected=status.connected if status is not None else False,
            threads_alive=alive,
            message_age_s=None if last is None else max(0.0, (now_ms - last) / 1e3),
            lag=self.counts().in_flight,
            late=self._checker.late,
            conflicts=self._checker.conflicts,
            flagged=dict(self._checker.flagged),
            refused_topics=status.refused if status is not None else (),
            overflows=status.overflows if status is not None else 0,
            problem="; ".join(problem for problem in problems if problem),
        )

    def backfill(self, readings: Iterable[Reading], now_ms: int | None = None) -> Tally:
        """Put readings of a file into the archive; see :func:`backfill`."""
        return backfill(readings, self._archive, now_ms, counters=self._counters)

    def _guarded(self, step: Callable[[], None]) -> None:
        """Keep a thread alive whatever happens in it."""
        while not self._stopping.is_set():
            try:
                step()
            except Exception as error:  # noqa: BLE001  it would end the thread
                _log.exception("the intake stumbled and goes on")
                self._archive_problem = f"{type(error).__name__}: {error}"
                self._stopping.wait(_FIRST_WAIT_S)

    def _to_journal(self) -> None:
        subscriber = self._subscriber
        if subscriber is None:
            return
        while not self._stopping.is_set():
            deliveries = subscriber.take(timeout=0.25)
            if not subscriber.status().thread_alive and not self._stopping.is_set():
                _log.error("the network thread has ended; starting it again")
                subscriber.revive()
            if not deliveries:
                continue
            messages = [delivery.message for delivery in deliveries]
            wait = _FIRST_WAIT_S
            while True:
                try:
                    self._journal.append(messages)
                except JournalError as error:
                    # Not acknowledged, so the broker keeps them; the network
                    # thread goes on answering its pings.
                    self._journal_problem = _said(str(error), self._journal_problem)
                    if self._stopping.wait(wait):
                        return
                    wait = min(2 * wait, _LONGEST_WAIT_S)
                else:
                    self._journal_problem = ""
                    break
            subscriber.acknowledge(deliveries)
            self._arrived.set()

    def _to_archive(self) -> None:
        journal = self._journal
        position = journal.position()
        self._checker = self._warm(position)
        while not self._stopping.is_set():
            self._arrived.clear()
            batch = journal.read(position, messages=self._batch)
            if batch is None:
                self._arrived.wait(0.25)
                continue
            outcomes = [
                _judged(message, self._sources, self._checker)
                for message in batch.messages
            ]
            refused = self._write(outcomes)
            if refused is None:
                return
            journal.advance(batch.position, _tally(outcomes, refused))
            position = batch.position

    def _write(self, outcomes: list[_Outcome]) -> dict[_Key, str] | None:
        """Write until the archive has it; None when we are to stop before."""
        readings = [reading for outcome in outcomes for reading in outcome.kept]
        wait = _FIRST_WAIT_S
        while readings:
            try:
                refused = self._archive.write(readings)
            except (ArchiveUnavailableError, ArchiveError) as error:
                self._archive_problem = _said(str(error), self._archive_problem)
                if self._stopping.wait(wait):
                    return None
                wait = min(2 * wait, _LONGEST_WAIT_S)
            else:
                if self._archive_problem:
                    _log.info("the archive takes readings again")
                self._archive_problem = ""
                return {_key(reading): reason for reading, reason in refused}
        return {}

    def _warm(self, position: int) -> Checker:
        """Return a judge that remembers what the last one had seen.

        The memory is what the newest passed messages make of it, so nothing
        of it needs to be stored, and what the broker sends again after a
        crash is known to be a duplicate.
        """
        checker = Checker(self._counters)
        for message in self._journal.before(position, messages=_WARM_UP):
            _judged(message, self._sources, checker)
        checker.forget_counts()
        return checker


def backfill(
    readings: Iterable[Reading],
    archive: Archive,
    now_ms: int | None = None,
    *,
    counters: Iterable[tuple[str, str]] = (),
    batch: int = 100_000,
) -> Tally:
    """Judge the readings of a file or of another archive, and keep them.

    Parameters
    ----------
    readings : iterable of Reading
        Best in the order of time: an older one than seen is judged by range
        alone.
    archive : Archive
        Where they go.
    now_ms : int, optional
        The present, in ms since 1970: what is later than that is quarantined.
        None trusts the times.
    counters : iterable of (str, str)
        The (unit, point) pairs that only count up.
    batch : int
        How many are written at once.

    Returns
    -------
    Tally
        One verdict for each reading.

    Raises
    ------
    ArchiveUnavailableError
        If the archive takes no more; what it took stays.
    """
    checker = Checker(counters)
    tally = Tally()
    iterator = iter(readings)
    while some := list(islice(iterator, batch)):
        judged = checker.judge(some, now_ms)
        refused = archive.write(judged.kept)
        tally.reading("stored", number=len(judged.kept) - len(refused))
        tally.reading("duplicate", number=len(judged.duplicates))
        tally.reading("quarantined", "refused by the archive", len(refused))
        for _, reason in judged.quarantined:
            tally.reading("quarantined", reason)
    return tally


_Key = tuple[str, str, int]


class _Outcome(NamedTuple):
    """What became of one message, but for what the archive says."""

    message: Message
    kept: list[Reading]
    duplicates: int
    quarantined: list[tuple[Reading, str]]
    rejected: list[Rejection]


def _judged(
    message: Message, sources: Mapping[str, Sequence[Source]], checker: Checker
) -> _Outcome:
    try:
        found = decode(
            message.topic,
            message.payload,
            sources,
            message.received_ms,
            retained=message.retained,
        )
        readings = [item for item in found if isinstance(item, Reading)]
        rejected = [item for item in found if isinstance(item, Rejection)]
        kept, duplicates, quarantined = checker.judge(readings, message.received_ms)
    except Exception as error:  # noqa: BLE001  see below
        # Ours to mend, not the sender's; but one message must not stop the rest.
        _log.exception("a message on %r cannot be judged", message.topic)
        detail = f"{type(error).__name__}: {error}"
        fault = Rejection(message.topic, "", "", "internal error", detail)
        return _Outcome(message, [], 0, [], [fault])
    return _Outcome(message, kept, len(duplicates), quarantined, rejected)


def _tally(outcomes: list[_Outcome], refused: Mapping[_Key, str]) -> Tally:
    tally = Tally()
    stored = duplicates = 0
    for message, kept, repeated, quarantined, rejected in outcomes:
        here = len(kept)
        duplicates += repeated
        bad = [(item.point, reason, reason) for item, reason in quarantined]
        if refused:
            for reading in kept:
                why = refused.get(_key(reading))
                if why is not None:
                    here -= 1
                    bad.append((reading.point, "refused by the archive", why))
        stored += here
        for point, reason, detail in bad:
            tally.reading("quarantined", reason)
            tally.dead.append(_letter(message, reason, f"{point}: {detail}"))
        for item in rejected:
            tally.reading("rejected", item.reason)
            tally.dead.append(_letter(message, item.reason, item.detail))
        if here:
            tally.message("stored")
        elif repeated:
            tally.message("duplicate")
        elif bad:
            tally.message("quarantined")
        else:
            tally.message("rejected")
    tally.reading("stored", number=stored)
    tally.reading("duplicate", number=duplicates)
    return tally


def _letter(message: Message, reason: str, detail: str) -> DeadLetter:
    return DeadLetter(
        message.received_ms, message.topic, reason, detail, message.payload
    )


def _key(reading: Reading) -> _Key:
    return reading.unit, reading.point, reading.time_ms


def _said(problem: str, before: str) -> str:
    """Log a trouble when it begins or changes, not each time it is met."""
    if problem != before:
        _log.warning("%s", problem)
    return problem
