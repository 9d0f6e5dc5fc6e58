"""The product's ingester in a process of its own, for tests that break it.

Subscriber, journal, intake and archive are the product's, wrapped where a
fault is to be injected: nothing in the product knows of it. What is run is a
:class:`Plan`. While it runs, it leaves in the plan's ``folder``:
``connected``, ``problem`` (the intake's), ``committed``, ``acknowledged`` (a
line for each message acknowledged to the broker) and ``scrapes`` (a line for
each look at the counts).

Started as a program, this is where ingesters come from: it imports everything
once, and forks a process for each plan that it is told of on standard input.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client

from ingest.archive import ArchiveUnavailableError, open_archive
from ingest.broker import Connection, Delivery, Subscriber
from ingest.intake import Intake
from ingest.journal import Journal, JournalError, Message
from ingest.reading import Source

POINT = "sink_outlet_temp_degc"
DIED = 41
STEPS = (
    "before append",
    "inside append",
    "after append",
    "between acknowledgements",
    "after acknowledgements",
    "after read",
    "before write",
    "after write",
    "inside advance",
    "after advance",
    "before rename",
    "after rename",
)


@dataclass(frozen=True)
class Plan:
    """How the ingester is set up, and what is to go wrong.

    ``acknowledge`` is ``durable`` as the product does it, or a control:
    ``receipt`` (the client library's default), ``early`` (before the append)
    or ``regardless`` (also when the append has failed). At the ``visit``-th
    time that it comes to ``step``, the process ends there and then. More
    controls: ``torn`` moves the cursor apart from its verdicts, ``dropping``
    gives up what the archive does not take at once. ``log_order`` leaves a
    line in ``disorder`` for each reading written before an earlier one of its
    series.
    """

    port: int
    folder: str
    journal: str
    archive: dict[str, Any]
    units: int = 1
    acknowledge: str = "durable"
    synchronous: str = "FULL"
    slow: bool = False
    step: str = ""
    visit: int = 1
    torn: bool = False
    dropping: bool = False
    log_order: bool = False
    scrape_s: float = 0.0
    log_acknowledged: bool = False
    limit_bytes: int = 8 << 30
    settings: dict[str, Any] = field(default_factory=dict)


def topic(unit: int) -> str:
    """Return where a unit's messages go."""
    return f"plant/hp{unit}"


def sources(units: int) -> list[Source]:
    """Return one point of each unit."""
    return [
        Source(
            topic=topic(unit),
            unit=f"hp{unit}",
            point=POINT,
            pointer="/v",
            time_pointer="/ts",
        )
        for unit in range(units)
    ]


class Failpoint:
    """Ends the process at the n-th visit of a step, as a crash would."""

    def __init__(self, step: str, visit: int) -> None:
        self.step = step
        self.left = visit

    def __call__(self, step: str, before: Callable[[], None] | None = None) -> None:
        """Come to a step."""
        if step != self.step:
            return
        self.left -= 1
        if self.left <= 0:
            if before is not None:
                before()
            os._exit(DIED)


class BreakableJournal(Journal):
    """The product's journal, with a fault at each of its steps."""

    def __init__(self, plan: Plan, fail: Failpoint) -> None:
        super().__init__(Path(plan.journal), limit_bytes=plan.limit_bytes)
        self._plan = plan
        self._fail = fail
        self._doing = ""
        if plan.synchronous != "FULL":
            self._writer.execute(f"PRAGMA synchronous={plan.synchronous}")
        if plan.step.startswith("inside "):
            self._writer.set_trace_callback(self._traced)

    def _traced(self, statement: str) -> None:
        if statement == "COMMIT":
            self._fail(f"inside {self._doing}")

    def append(self, messages: Sequence[Message]) -> int:
        """Append as the product does, on a disk that may be slow."""
        self._fail("before append")
        if self._plan.slow:
            time.sleep(0.02)
        self._doing = "append"
        try:
            position = super().append(messages)
        except JournalError:
            if self._plan.acknowledge == "regardless":
                return 0
            raise
        (Path(self._plan.folder) / "committed").touch()
        self._fail("after append")
        if self._plan.slow:
            # Durable and not acknowledged yet: a kill here makes redeliveries.
            time.sleep(0.02)
        return position

    def read(self, after: int, **how: Any) -> Any:
        """Read as the product does."""
        batch = super().read(after, **how)
        if batch is not None:
            self._fail("after read")
        return batch

    def advance(self, position: int, tally: Any, *rest: Any, **how: Any) -> None:
        """Advance as the product does, or as a control in two steps."""
        self._doing = "advance"
        if self._plan.torn:
            super().advance(position, type(tally)())
            time.sleep(0.1)
            super().advance(position, tally, *rest, **how)
        else:
            super().advance(position, tally, *rest, **how)
        self._fail("after advance")


class BreakableSubscriber(Subscriber):
    """The product's subscriber, with faults around its acknowledgements."""

    plan: Plan
    fail: Failpoint

    def take(self, **how: Any) -> list[Delivery]:
        """Take as the product does; the control acknowledges here already."""
        taken = super().take(**how)
        if self.plan.acknowledge == "early" and taken:
            super().acknowledge(taken)
            time.sleep(0.02)
        return taken

    def acknowledge(self, deliveries: Iterable[Delivery]) -> int:
        """Acknowledge as the product does, and leave a note of it."""
        if self.plan.acknowledge == "early":
            return 0
        given = list(deliveries)
        half = len(given) // 2

        def some() -> None:
            Subscriber.acknowledge(self, given[:half])
            time.sleep(0.1)  # until the network thread has sent them

        if half:
            self.fail("between acknowledgements", some)
        number = super().acknowledge(given)
        if self.plan.log_acknowledged and number:
            with (Path(self.plan.folder) / "acknowledged").open("ab") as file:
                for delivery in given:
                    file.write(delivery.message.payload + b"\n")
        self.fail("after acknowledgements", lambda: time.sleep(0.1))
        return number


def _breakable_archive(plan: Plan, fail: Failpoint) -> Any:
    archive = open_archive(**plan.archive)
    real = archive.write

    newest: dict[tuple[str, str], int] = {}

    def write(readings: Any) -> Any:
        fail("before write")
        try:
            refused = real(readings)
        except ArchiveUnavailableError:
            if plan.dropping:
                return ()
            raise
        fail("after write")
        if plan.log_order:
            for reading in readings:
                series = reading.unit, reading.point
                if reading.time_ms < newest.get(series, reading.time_ms):
                    with (Path(plan.folder) / "disorder").open("a") as file:
                        file.write(f"{series} {reading.time_ms}\n")
                newest[series] = reading.time_ms
        return refused

    archive.write = write  # type: ignore[method-assign]
    return archive


def _breakable_rename(fail: Failpoint) -> None:
    """Stop around the renaming of a sealed day into its place."""
    real = os.replace

    def replace(source: Any, target: Any, **how: Any) -> None:
        sealed = str(target).endswith(".parquet")
        if sealed:
            fail("before rename")
        real(source, target, **how)
        if sealed:
            fail("after rename")

    os.replace = replace


def _acknowledge_at_receipt() -> None:
    real = Client.__init__

    def automatic(client: Client, *given: Any, **how: Any) -> None:
        real(client, *given, **{**how, "manual_ack": False})

    Client.__init__ = automatic  # type: ignore[method-assign]


def _scrape(intake: Intake, path: Path, every_s: float) -> None:
    with path.open("a", encoding="ascii") as file:
        while True:
            try:
                counts = intake.counts()
            except JournalError:
                time.sleep(every_s)  # the disk may be full; not what is tested
                continue
            row = (
                counts.received,
                counts.stored,
                counts.duplicate,
                counts.quarantined,
                counts.rejected,
                counts.in_flight,
            )
            file.write(" ".join(map(str, row)) + "\n")
            file.flush()
            time.sleep(every_s)


def main(plan: Plan) -> None:
    """Run until killed."""
    folder = Path(plan.folder)
    if plan.acknowledge == "receipt":
        _acknowledge_at_receipt()
    fail = Failpoint(plan.step, plan.visit)
    _breakable_rename(fail)
    subscriber = BreakableSubscriber(
        Connection(port=plan.port, client_id="ingester"),
        [topic(unit) for unit in range(plan.units)],
    )
    subscriber.plan, subscriber.fail = plan, fail
    intake = Intake(
        sources(plan.units),
        _breakable_archive(plan, fail),
        BreakableJournal(plan, fail),
        subscriber,
        **plan.settings,
    )
    intake.start()
    if plan.scrape_s:
        threading.Thread(
            target=_scrape,
            args=(intake, folder / "scrapes", plan.scrape_s),
            daemon=True,
        ).start()
    said = None
    while True:
        if subscriber.status().subscribed:
            (folder / "connected").touch()
        problem = intake.health(time.time_ns() // 1_000_000).problem
        if problem != said:
            beside = folder / "problem.tmp"
            beside.write_text(problem, "utf-8")
            beside.replace(folder / "problem")
            said = problem
        time.sleep(0.05)


def _warm() -> None:
    """Load what the first message would load."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "journal.sqlite")
        archive = open_archive("parquet", directory=Path(folder) / "archive")
        intake = Intake(sources(1), archive, journal)
        body = json.dumps({"ts": 1_700_000_000_000, "v": 40.0}).encode()
        journal.append([Message(topic(0), body, 1_700_000_000_000)])
        intake.start()
        intake.drain(60)
        intake.stop()
        archive.seal()  # type: ignore[attr-defined]
        archive.close()
        journal.close()


def serve() -> None:
    """Answer each line on standard input with one on standard output.

    A plan with ``"log"`` starts an ingester and gives its process id; a
    process id gives its exit code, or null while it runs.
    """
    _warm()
    for line in sys.stdin:
        asked = json.loads(line)
        if isinstance(asked, int):
            pid, status = os.waitpid(asked, os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            log = asked.pop("log")
            answer = os.fork()
            if not answer:
                out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
                null = os.open(os.devnull, os.O_RDONLY)
                for ours, standard in ((null, 0), (out, 1), (out, 2)):
                    os.dup2(ours, standard)
                main(Plan(**asked))
        print(json.dumps(answer), flush=True)  # noqa: T201


if __name__ == "__main__":
    serve()
