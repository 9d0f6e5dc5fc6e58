"""From the broker to the archive: the one path that every reading takes.

::

    broker --> journal, synced --> acknowledged
                  |  cursor
                  decode --> check --> archive --> verdicts, memory and cursor
                                                   together

Two threads with the journal between them, so an archive that is down, slow or
full costs disk and nothing else: the first goes on taking messages in, the
second goes on trying, in order. What the archive has taken and the cursor has
not yet passed is written again after a crash, which changes nothing.
"""

from __future__ import annotations

import logging
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from ingest import checks
from ingest.archive.table import (
    DAY_MS,
    ArchiveError,
    ArchiveUnavailableError,
    Refused,
    moment,
)
from ingest.checks import DUPLICATE, KEPT, Checker, Judged, Latest
from ingest.damage import told
from ingest.decoder import Decoded, Decoder
from ingest.journal import (
    Counts,
    DeadLetter,
    Journal,
    JournalError,
    Message,
    Tally,
)
from ingest.reading import Readings, Source
from ingest.sparkplug import TOLD

if TYPE_CHECKING:
    import pandas as pd

    from ingest.archive import Archive
    from ingest.broker import Subscriber

_log = logging.getLogger(__name__)
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 10.0
# How much is read again after a restart: what the checks' memory has not seen
# yet, and before that, to know what the broker sends twice.
_REMEMBER_EVERY = 8 << 20
_WARM_UP = 5000
_CHECKS, _NODES = "checks", "nodes"
_CLOCKS = 101
_END = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Health:
    """Whether readings flow, and if not, where they stand.

    ``connected`` is with every subscription answered: only then is what the
    plant sends sent to us. ``problem`` is a sentence for a person, empty while
    all is well. ``message_age_s`` is the time since the last message arrived,
    None before the first. [s] ``lag`` is how many messages wait in the journal.
    ``late`` readings were more than a quarter of an hour old when they arrived,
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
    asking : bool
        Whether somebody publishes what :meth:`rebirths` asks for.
    beat : callable
        Called with the name of a thread each time that its loop comes round,
        while it tries again too: ``intake-archive`` and ``intake-journal``.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        archive: Archive,
        journal: Journal,
        subscriber: Subscriber | None = None,
        *,
        batch: int = 5000,
        asking: bool = False,
        beat: Callable[[str], object] = lambda thread: None,
    ) -> None:
        self._asking = asking
        self._beat = beat
        self._sources = tuple(sources)
        self._counters = [(s.unit, s.point) for s in sources if s.counter]
        self._archive = archive
        self._journal = journal
        self._subscriber = subscriber
        self._batch = batch
        self._stopping = threading.Event()
        self._arrived = threading.Event()
        self._threads: list[threading.Thread] = []
        self._checker = Checker(self._counters)
        self._decoder = Decoder(self._sources)
        self._judging = threading.Lock()
        self._delays: dict[str, deque[int]] = {}
        self._days: set[int] = set()
        # Not the judge's lock: that one is held for as long as an archive is away.
        self._noting = threading.Lock()
        self._unremembered = 0
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

    def latest(self) -> dict[tuple[str, str], Latest]:
        """Return the newest reading of each point."""
        return self._checker.latest()

    def days(self) -> list[datetime]:
        """Return the midnights that begin the days readings have come for.

        Since this was last asked. UTC, in order.
        """
        with self._noting:
            days, self._days = self._days, set()
        return [moment(day * DAY_MS) for day in sorted(days)]

    def clock_offsets(self) -> dict[str, float]:
        """Return how much later than their stamps messages arrive, by topic.

        The median of the last ones: transport and the difference of the
        clocks together, negative for a clock that is ahead. [s] Readings are
        kept with their device's time whatever it is.
        """
        return {
            topic: statistics.median(delays) / 1e3
            for topic, delays in self._delays.copy().items()
        }

    def stale(self) -> dict[tuple[str, str], int]:
        """Return the (unit, point) whose edge node says it is dead, and since when.

        In ms since 1970. Their last values are old, however young they look.
        """
        return self._decoder.host.stale()

    def rebirths(self) -> list[str]:
        """Return the topics on which an edge node should be asked who it is.

        Whoever publishes :func:`ingest.sparkplug.rebirth_payload` there is
        heard by the node, not by the plant behind it.
        """
        return self._decoder.host.rebirths()

    def settle(self) -> int:
        """Judge again, in the order of time, what came in another order.

        Call it before a finished day is used. What the archive then holds no
        longer depends on the order of arrival.

        Returns
        -------
        int
            How many flags it has changed.

        Raises
        ------
        ingest.archive.ArchiveUnavailableError
            If the archive cannot be read or written now; call it again later.
        """
        if not self._judging.acquire(timeout=_LONGEST_WAIT_S):
            raise ArchiveUnavailableError(
                self._archive_problem or "the intake is busy; settle again later"
            )
        changed = 0
        try:
            for unit, since_ms in self._checker.disordered().items():
                span = self._archive.span(unit)
                if span is None:
                    continue
                start = max(span[0], moment(max(since_ms, checks.EARLIEST_MS)))
                kept = long_form(unit, *self._archive.flagged(unit, start, _END))
                again = self._checker.settle(unit, kept)
                if len(again):
                    self._archive.write(again)
                    changed += len(again)
        finally:
            self._judging.release()
        return changed

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
        problems.append(self._decoder.host.problem(asking=self._asking))
        lag = 0
        try:
            lag = self.counts().in_flight
        except JournalError as error:
            problems.append(str(error))
        folder = self._journal.path.parent
        for kept in {folder, getattr(self._archive, "directory", folder)}:
            problems += told(kept)
        if not alive:
            problems.append("a thread of the intake has ended; restart the service")
        last = status.last_message_ms if status is not None else None
        return Health(
            connected=status.subscribed if status is not None else False,
            threads_alive=alive,
            message_age_s=None if last is None else max(0.0, (now_ms - last) / 1e3),
            lag=lag,
            late=self._checker.late,
            conflicts=self._checker.conflicts,
            flagged=dict(self._checker.flagged),
            refused_topics=status.refused if status is not None else (),
            overflows=status.overflows if status is not None else 0,
            problem="; ".join(dict.fromkeys(filter(None, problems))),
        )

    def _guarded(self, step: Callable[[], None]) -> None:
        """Keep a thread alive whatever happens in it."""
        while not self._stopping.is_set():
            try:
                step()
            except Exception as error:  # noqa: BLE001  it would end the thread
                said = f"{type(error).__name__}: {error}"
                if said != self._archive_problem:
                    _log.error("the intake stumbled and goes on", exc_info=error)
                self._archive_problem = said
                self._stopping.wait(_FIRST_WAIT_S)

    def _to_journal(self) -> None:
        subscriber = self._subscriber
        if subscriber is None:
            return
        while not self._stopping.is_set():
            self._beat("intake-journal")
            deliveries = subscriber.take(timeout=0.25)
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
                    self._beat("intake-journal")
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
        if getattr(self._archive, "bereft", False):
            _log.warning(
                "the archive lacks what it had last; %d messages are read again",
                journal.rewind(),
            )
            self._archive.bereft = False  # type: ignore[attr-defined]
        position = journal.position()
        self._warm(position)
        while not self._stopping.is_set():
            self._beat("intake-archive")
            self._arrived.clear()
            batch = journal.read(position, messages=self._batch)
            if batch is None:
                self._arrived.wait(0.25)
                continue
            with self._judging:
                decoded, judged = self._judged(batch.messages)
                refused = self._write(judged.kept)
                if refused is None:
                    self._checker = Checker(self._counters)  # it saw what is not kept
                    return
                # What is said at midnight belongs to the day that ends there.
                days = np.unique((judged.kept.times - 1) // DAY_MS)
                with self._noting:
                    self._days.update(days.tolist())
                self._compare_clocks(batch.messages, decoded)
                tally = _tally(batch.messages, decoded, judged, refused)
                self._unremembered += sum(len(m.payload) for m in batch.messages)
                memory = {}
                if self._unremembered > _REMEMBER_EVERY:
                    memory[_CHECKS] = _stamped(batch.position, self._checker)
                    memory[_NODES] = self._decoder.host.snapshot()
                journal.advance(batch.position, tally, memory=memory)
                if memory:
                    self._unremembered = 0
            position = batch.position

    def _judged(self, messages: Sequence[Message]) -> tuple[Decoded, Judged]:
        decoded = self._decoder.decode(messages)
        received = np.array([message.received_ms for message in messages], np.int64)
        return decoded, self._checker.judge(
            decoded.readings, received[decoded.messages]
        )

    def _compare_clocks(self, messages: Sequence[Message], decoded: Decoded) -> None:
        """Note how much later than their stamps the last messages arrived."""
        places, first = np.unique(decoded.messages, return_index=True)
        stamps = decoded.readings.times[first]
        for place, stamp in zip(
            places[-_CLOCKS:].tolist(), stamps[-_CLOCKS:].tolist(), strict=True
        ):
            message = messages[place]
            # One without a time of its own has that of its reception.
            if stamp != message.received_ms and not message.retained:
                delays = self._delays.setdefault(message.topic, deque(maxlen=_CLOCKS))
                delays.append(message.received_ms - stamp)

    def _write(self, readings: Readings) -> Sequence[Refused] | None:
        """Write until the archive has it; None when we are to stop before."""
        wait = _FIRST_WAIT_S
        while len(readings):
            try:
                refused = self._archive.write(readings)
            except (ArchiveUnavailableError, ArchiveError) as error:
                self._archive_problem = _said(str(error), self._archive_problem)
                self._beat("intake-archive")
                if self._stopping.wait(wait):
                    return None
                wait = min(2 * wait, _LONGEST_WAIT_S)
            else:
                if self._archive_problem:
                    _log.info("the archive takes readings again")
                self._archive_problem = ""
                return refused
        return ()

    def _warm(self, position: int) -> None:
        """Remember what the last process had seen up to a position.

        Its memory was kept now and then, and what it judged since is judged
        again and goes nowhere. What is older than that memory only tells
        which instants are known, so that what the broker sends again after a
        crash is a duplicate.
        """
        journal = self._journal
        self._decoder, self._checker = Decoder(self._sources), Checker(self._counters)
        content = journal.recall(_CHECKS)
        since = 0
        if content is not None:
            since = int.from_bytes(content[:8], "big")
            self._judged(journal.before(since, messages=_WARM_UP))
            try:
                self._checker.restore(content[8:])
                self._decoder.host.restore(journal.recall(_NODES) or b"")
            except ValueError as error:
                _log.warning("%s; it is learned anew", error)
        while batch := journal.read(since, until=position):
            self._judged(batch.messages)
            since = batch.position
        self._checker.forget_counts()


def _stamped(position: int, checker: Checker) -> bytes:
    return position.to_bytes(8, "big") + checker.snapshot()


def backfill(
    parts: Iterable[Readings],
    archive: Archive,
    now_ms: int | None = None,
    *,
    counters: Iterable[tuple[str, str]] = (),
) -> Tally:
    """Judge the readings of a file or of another archive, and keep them.

    Parameters
    ----------
    parts : iterable of Readings
        Best in the order of time: an older one than seen is judged by range
        alone.
    archive : Archive
        Where they go.
    now_ms : int, optional
        The present, in ms since 1970: what is later than that is quarantined.
        None trusts the times.
    counters : iterable of (str, str)
        The (unit, point) pairs that only count up.

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
    for part in parts:
        judged = checker.judge(part, now_ms)
        refused = archive.write(judged.kept)
        numbers = np.bincount(judged.verdicts, minlength=len(checks.REASONS)).tolist()
        tally.reading("stored", number=numbers[KEPT] - len(refused))
        tally.reading("duplicate", number=numbers[DUPLICATE])
        tally.reading("quarantined", "refused by the archive", len(refused))
        for reason, number in zip(checks.REASONS, numbers, strict=True):
            if reason:
                tally.reading("quarantined", reason, number)
    return tally


def long_form(unit: str, values: pd.DataFrame, flags: pd.DataFrame) -> Readings:
    """Return an archive's frames as readings, in the order of time."""
    cells = values.to_numpy()
    rows, columns = np.nonzero(~np.isnan(cells))
    times = values.index.to_numpy("datetime64[ms]").astype(np.int64)
    return Readings(
        [(unit, point) for point in values.columns],
        columns.astype(np.int32),
        times[rows],
        cells[rows, columns],
        flags.to_numpy()[rows, columns],
    )


def _tally(
    messages: Sequence[Message],
    decoded: Decoded,
    judged: Judged,
    refused: Sequence[Refused],
) -> Tally:
    """Give every message and every reading its one verdict."""
    verdicts, of_message = judged.verdicts, decoded.messages
    tally = Tally()
    kept = np.flatnonzero(verdicts == KEPT)
    lost = [(int(kept[place]), reason) for place, reason in refused]
    stored = np.bincount(of_message[kept], minlength=len(messages))
    np.subtract.at(stored, of_message[[place for place, _ in lost]], 1)
    repeated = np.bincount(of_message[verdicts == DUPLICATE], minlength=len(messages))
    tally.reading("stored", number=int(stored.sum()))
    tally.reading("duplicate", number=int(repeated.sum()))
    doubted = np.zeros(len(messages), np.bool_)
    bad = [
        (int(place), checks.REASONS[verdicts[place]], checks.REASONS[verdicts[place]])
        for place in np.flatnonzero(verdicts > DUPLICATE)
    ]
    bad += [(place, "refused by the archive", reason) for place, reason in lost]
    for place, reason, detail in bad:
        message = messages[of_message[place]]
        _, point = judged.readings.keys[judged.readings.series[place]]
        doubted[of_message[place]] = True
        tally.reading("quarantined", reason)
        tally.dead.append(_letter(message, reason, f"{point}: {detail}"))
    for place, rejection in decoded.rejected:
        tally.reading("rejected", rejection.reason)
        if rejection.reason != TOLD:
            letter = _letter(messages[place], rejection.reason, rejection.detail)
            tally.dead.append(letter)
    verdict = np.select(
        [stored > 0, repeated > 0, doubted],
        [0, 1, 2],
        default=3,
    )
    for name, number in zip(
        ("stored", "duplicate", "quarantined", "rejected"),
        np.bincount(verdict, minlength=4).tolist(),
        strict=True,
    ):
        if number:
            tally.message(name, number)
    return tally


def _letter(message: Message, reason: str, detail: str) -> DeadLetter:
    return DeadLetter(
        message.received_ms, message.topic, reason, detail, message.payload
    )


def _said(problem: str, before: str) -> str:
    """Log a trouble when it begins or changes, not each time it is met."""
    if problem != before:
        _log.warning("%s", problem)
    return problem
