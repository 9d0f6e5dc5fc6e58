"""What the campaigns share: traffic, the ingester to break, and the account."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import functools
import itertools
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ingester
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import servers

from ingest.archive import Archive, open_archive
from ingest.broker import BrokerError, Connection, Publisher

ROOT = Path(__file__).resolve().parents[2]
EVER = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
T0 = 1_700_000_000_000
# Some messages a day, so that days are sealed while faults come.
STEP_MS = 60_000


class BlindError(Exception):
    """The campaign could not do what it is for."""


@dataclass
class Outcome:
    """What a campaign injected, checked and found lost.

    ``broken`` are the promises that did not hold, as sentences.
    """

    name: str
    seed: int
    faults: int = 0
    checked: int = 0
    lost: int = 0
    figures: dict[str, Any] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    control: dict[str, Any] = field(default_factory=dict)

    def promise(self, sentence: str, *, kept: object) -> None:
        """Note a promise that was not kept."""
        if not kept:
            self.broken.append(sentence)

    @property
    def summary(self) -> str:
        """The account in one line."""
        return (
            f"{self.name}: {self.faults} faults injected / "
            f"{self.checked} checked / {self.lost} lost"
        )

    def held(self) -> None:
        """Raise what is broken, for a test."""
        assert self.faults, f"{self.name}: nothing was injected, nothing shown"
        assert self.checked, f"{self.name}: nothing was checked, nothing shown"
        assert not self.broken, f"{self.summary}; {'; '.join(self.broken)}"


def say(text: str) -> None:
    """Tell whoever waits how far it is."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def command(
    name: str,
    run: Callable[..., Outcome],
    control: Callable[..., Outcome],
    *,
    options: Mapping[str, tuple[float, str]] | None = None,
    breaks: Sequence[str] = (),
) -> None:
    """Run a campaign and its control, print the account, and end the process.

    ``options`` are further numbers that both are given, each with its default and
    what it is; ``breaks`` are how the promises begin that the control has to break,
    unless it is quick.
    """
    parser = argparse.ArgumentParser(prog=f"python -m tests.campaigns.{name}")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="the result as one object")
    parser.add_argument("--quick", action="store_true", help="as in the suite")
    for option, (usual, words) in (options or {}).items():
        parser.add_argument(f"--{option}", type=float, default=usual, help=words)
    given = parser.parse_args()
    began = time.monotonic()
    how: dict[str, Any] = {"seed": given.seed, "quick": given.quick}
    how |= {option: getattr(given, option) for option in options or {}}
    try:
        with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder:
            outcome = run(Path(folder), **how)
        say(outcome.summary)
        with tempfile.TemporaryDirectory(prefix=f"{name}-control-") as folder:
            blind = control(Path(folder), **how)
        say(f"control: {blind.summary}")
    except pytest.skip.Exception as reason:
        say(f"{name}: skipped: {reason}")
        sys.exit(1 if os.environ.get("CI") else 0)
    outcome.control = {
        "faults": blind.faults,
        "checked": blind.checked,
        "lost": blind.lost,
        **blind.figures,
    }
    outcome.promise("at least one fault is injected", kept=outcome.faults)
    outcome.promise("at least one thing is checked", kept=outcome.checked)
    outcome.promise("the control loses", kept=blind.lost)
    for sentence in () if given.quick else breaks:
        broken = any(one.startswith(sentence) for one in blind.broken)
        outcome.promise(f"the control breaks this: {sentence}", kept=broken)
    outcome.figures["seconds"] = round(time.monotonic() - began, 1)
    outcome.figures["peak_child_rss_mb"] = round(
        resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    )
    if given.json:
        print(json.dumps(asdict(outcome)))  # noqa: T201
    else:
        print(outcome.summary)  # noqa: T201
        for key, value in outcome.figures.items():
            print(f"  {key}: {value}")  # noqa: T201
        print(f"  control: {outcome.control}")  # noqa: T201
        for sentence in outcome.broken:
            print(f"  BROKEN: {sentence}")  # noqa: T201
    sys.exit(1 if outcome.broken else 0)


Condition = Callable[[], object]


def until(true: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """Wait for something to become true, and return it."""
    end = time.monotonic() + seconds
    while not (found := true()):
        if time.monotonic() > end:
            raise BlindError(f"within {seconds:g} s: {what}: it did not happen")
        time.sleep(0.01)
    return found


def when_ms(number: int, units: int) -> int:
    """Return the time of a message, which with its unit is its identity."""
    return T0 + number // units * STEP_MS


def value(number: int) -> float:
    """Return what a message says."""
    return 40 + number * 7919 % 1000 / 100


def message(number: int, units: int) -> tuple[str, str]:
    """Return a message by its number."""
    body = {"ts": when_ms(number, units), "v": value(number)}
    return ingester.topic(number % units), json.dumps(body)


class Stream:
    """Publishes numbered messages at a rate, and knows which the broker has."""

    def __init__(self, port: int, *, units: int = 1) -> None:
        self.units = units
        self.acknowledged = 0
        self._publisher = Publisher(
            Connection(port=port, client_id="publisher"), window=100
        )

    def send(
        self,
        number: int,
        *,
        rate: float = float("inf"),
        over: threading.Event | None = None,
    ) -> None:
        """Publish so many more, or until it is over; the broker then has them."""
        began, first = time.monotonic(), self.acknowledged
        end = first + number
        while self.acknowledged < end and not (over and over.is_set()):
            some = range(self.acknowledged, min(end, self.acknowledged + 100))
            ahead = (some.start - first) / rate - (time.monotonic() - began)
            if ahead > 0:
                time.sleep(ahead)
            try:
                self._publisher.publish_all(message(i, self.units) for i in some)
            except BrokerError as error:
                raise BlindError(f"the publisher: {error}") from error
            self.acknowledged = some.stop

    def close(self) -> None:
        """Disconnect."""
        self._publisher.close()


class Nursery:
    """Where ingesters come from: one process that has imported everything."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, ingester.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def ask(self, question: object) -> Any:
        """Start an ingester, or ask for its end; see :func:`ingester.serve`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise BlindError("the process that starts ingesters has ended")
        return json.loads(answer)

    def close(self) -> None:
        """End it."""
        self._process.communicate()


class Ingester:
    """The process under test."""

    def __init__(self, plan: ingester.Plan, nursery: Nursery) -> None:
        self.plan = plan
        self.folder = Path(plan.folder)
        self.starts = 0
        self._nursery = nursery
        self._running = 0
        self._code: int | None = None

    def start(self, *, connected: bool = True, **changes: Any) -> None:
        """Start it, and wait for its connection to the broker."""
        self.spawn(**changes)
        if connected:
            self.wait_connected()

    def spawn(self, **changes: Any) -> None:
        """Start it and do not wait."""
        for name in ("connected", "problem", "committed"):
            (self.folder / name).unlink(missing_ok=True)
        plan = asdict(replace(self.plan, **changes))
        self._running = self._nursery.ask({**plan, "log": str(self.folder / "log")})
        self._code = None
        self.starts += 1

    def wait_connected(self) -> None:
        """Wait until the broker has taken it, or a failpoint has ended it."""
        until(
            lambda: (self.folder / "connected").exists() or not self.alive,
            "the ingester connects",
        )

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        if self._running and self._code is None:
            self._code = self._nursery.ask(self._running)
        return bool(self._running) and self._code is None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._running

    def kill(self) -> None:
        """End it with signal 9."""
        if self.alive:
            os.kill(self._running, signal.SIGKILL)
            until(lambda: not self.alive, "signal 9 ends it")
        self._running = 0

    def died(self, seconds: float) -> bool:
        """Wait for its failpoint; raise if it ended in another way."""
        end = time.monotonic() + seconds
        while self.alive:
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        if self._code != ingester.DIED:
            code = self._code
            raise BlindError(f"the ingester ended with {code}:\n{self.log[-2000:]}")
        self._running = 0
        return True

    @property
    def log(self) -> str:
        """What it has said."""
        return (self.folder / "log").read_text("utf-8", "replace")

    @property
    def problem(self) -> str:
        """What its health says is wrong."""
        try:
            return (self.folder / "problem").read_text("utf-8")
        except FileNotFoundError:
            return ""

    def rss_mb(self) -> float:
        """Return its resident memory. [MB]."""
        status = Path(f"/proc/{self.pid}/status").read_text("ascii")
        (line,) = (row for row in status.splitlines() if row.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def scrapes(self) -> list[Counts]:
        """Return every look at the counts, of all its lives."""
        path = self.folder / "scrapes"
        if not path.exists():
            return []
        rows = path.read_text("ascii").splitlines()
        # A kill may have cut a line short, and the next life writes on it.
        return [Counts(*map(int, row)) for r in rows if len(row := r.split()) == 6]

    def counts(self) -> Counts:
        """Return the newest look at the counts."""
        path = self.folder / "scrapes"
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 400))
            for line in reversed(file.read().split(b"\n")[:-1]):
                if len(row := line.split()) == 6:
                    return Counts(*map(int, row))
        return Counts()

    def settle(self, expected: int, *, idle_s: float = 15.0) -> bool:
        """Wait until so many are stored, or nothing moves any more."""
        last, since = self.counts(), time.monotonic()
        while last.stored < expected or last.in_flight:
            if not self.alive:
                raise BlindError(f"the ingester ended:\n{self.log[-2000:]}")
            if time.monotonic() - since > idle_s:
                return False
            time.sleep(0.05)
            if (now := self.counts()) != last:
                last, since = now, time.monotonic()
        return True


@dataclass(frozen=True)
class Counts:
    """One look at where every message is."""

    received: int = 0
    stored: int = 0
    duplicate: int = 0
    quarantined: int = 0
    rejected: int = 0
    in_flight: int = 0

    @property
    def balanced(self) -> bool:
        """Whether every message is in exactly one place."""
        return self.received == (
            self.stored
            + self.duplicate
            + self.quarantined
            + self.rejected
            + self.in_flight
        )


@functools.cache
def nursery() -> Nursery:
    """Return the one nursery of this process."""
    it = Nursery()
    atexit.register(it.close)
    return it


@contextlib.contextmanager
def set_up(
    folder: Path, *, units: int = 1, **plan: Any
) -> Iterator[tuple[servers.Server, Ingester, Stream]]:
    """Run a broker, prepare an ingester (not started) and a publisher."""
    (folder / "broker").mkdir()
    (folder / "notes").mkdir()
    plan.setdefault("journal", str(folder / "journal.sqlite"))
    plan.setdefault(
        "archive", {"kind": "parquet", "directory": str(folder / "archive")}
    )
    plan.setdefault("scrape_s", 0.05)
    with servers.mosquitto(folder / "broker") as broker:
        service = Ingester(
            ingester.Plan(
                port=broker.port, folder=str(folder / "notes"), units=units, **plan
            ),
            nursery(),
        )
        stream = Stream(broker.port, units=units)
        try:
            yield broker, service, stream
        finally:
            service.kill()
            stream.close()


def missing(archive: Archive, published: int, units: int) -> tuple[int, int]:
    """Return how many of the published are not there, and how many are wrong.

    Wrong is a value that is not the one sent, and a row that nobody sent.
    """
    lost = wrong = 0
    for unit in range(units):
        sent = range(unit, published, units)
        values, _ = archive.flagged(f"hp{unit}", *EVER, [ingester.POINT])
        found = column(values)
        wrong += len(values) - len(found)
        for number in sent:
            stored = found.pop(when_ms(number, units), None)
            if stored is None:
                lost += 1
            elif stored != value(number):
                wrong += 1
        wrong += len(found)
    return lost, wrong


def column(values: pd.DataFrame) -> dict[int, float]:
    """Return the point's values by their times in ms."""
    if ingester.POINT not in values:
        return {}
    cells = values[ingester.POINT].dropna()
    times = cells.index.tz_convert(None).to_numpy().astype("datetime64[ms]")
    return dict(zip(times.astype(np.int64).tolist(), cells.tolist(), strict=True))


def moment(time_ms: int) -> datetime:
    """Return a time in ms as a datetime."""
    return datetime.fromtimestamp(time_ms / 1000, UTC)


def account(outcome: Outcome, service: Ingester, stream: Stream) -> None:
    """Stop the ingester and compare what is stored with what was published."""
    published, units = stream.acknowledged, stream.units
    # A control will not get there, and is not waited for as long.
    plan = service.plan
    durable = plan.acknowledge == "durable" and not plan.dropping
    outcome.figures["drained"] = service.settle(published, idle_s=15 if durable else 2)
    counts, scrapes = service.counts(), service.scrapes()
    service.kill()
    settings = dict(service.plan.archive)
    archive = open_archive(**settings)
    lost, wrong = missing(archive, published, units)
    outcome.checked += published
    outcome.lost += lost
    outcome.figures |= {
        "published": published,
        "received": counts.received,
        "duplicates_collapsed": counts.duplicate,
        "wrong": wrong,
        "scrapes": len(scrapes),
        "unbalanced_scrapes": sum(not scrape.balanced for scrape in scrapes),
    }
    outcome.promise(f"0 lost, not {lost}", kept=lost == 0)
    outcome.promise(f"0 wrong values, not {wrong}", kept=wrong == 0)
    outcome.promise(
        f"each is counted as stored once: {counts.stored} of {published}",
        kept=counts.stored == published,
    )
    outcome.promise("every scrape balances", kept=all(s.balanced for s in scrapes))
    fell = sum(
        b.received < a.received or b.stored < a.stored
        for a, b in itertools.pairwise(scrapes)
    )
    outcome.promise(f"no count ever falls ({fell} times)", kept=not fell)
    faults = [integrity(Path(service.plan.journal))]
    if settings["kind"] == "parquet":
        archive.seal()  # type: ignore[attr-defined]
        directory = Path(settings["directory"])
        files = sorted(directory.glob("unit=*/*.parquet"))
        rows = sum(pq.ParquetFile(path).metadata.num_rows for path in files)
        outcome.figures |= {"rows_on_disk": rows, "sealed_days": len(files)}
        outcome.promise(
            f"0 duplicate rows on disk: {rows} rows of {published - lost} messages",
            kept=rows == published - lost,
        )
        faults.append(integrity(directory / "tail.sqlite"))
    archive.close()
    outcome.promise(f"every file is whole: {faults}", kept=set(faults) == {"ok"})


def integrity(path: Path) -> str:
    """Return what SQLite says of a file."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
