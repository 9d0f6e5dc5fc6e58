"""How fast readings get from a real broker into the archive, and where time goes.

A backlog waits with mosquitto for two sessions, the product's and that of
``mosquitto_sub``, the C client of the same project. Each drains its own, one
after the other on the same core, the broker on another one, so the ratio of
the two is fair on any machine. The product's drain is the whole path: decode,
checks, the journal synced before the acknowledgement, and the Parquet archive.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ingest import embedded
from ingest.archive import open_archive
from ingest.broker import Connection, Publisher, Subscriber
from ingest.checks import Checker
from ingest.decoder import Decoder
from ingest.intake import Intake
from ingest.journal import Journal, Message, pack, unpack
from ingest.reading import Source
from twin.points import POINTS, Kind, Origin

T0 = 1_700_000_000_000
"""The time of the first message, in ms since 1970."""
UNITS = 10
POINTS_PER_MESSAGE = 20
_PEER, _OURS = "bench-peer", "bench-hptwin"
_COURSE = 20_000
_EVER = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
_SEARCH = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin"


class BenchError(RuntimeError):
    """What is needed to measure is not here; the message says what."""


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of traffic: what is read from it, and its n-th message."""

    name: str
    sources: Sequence[Source]
    points: int
    message: Callable[[int], tuple[str, bytes]]


def names() -> list[str]:
    """Return twenty measured points of a heat pump."""
    known = [
        name
        for name, point in POINTS.items()
        if Kind.HEAT_PUMP in point.kinds and point.origin is Origin.MEASURED
    ]
    return known[:POINTS_PER_MESSAGE]


@lru_cache
def course(name: str) -> list[float]:
    """Return what an instrument of a point says, second by second, with noise."""
    point = POINTS[name]
    rng = np.random.default_rng(sum(name.encode()))
    middle = 0.5 * (max(point.low, -1e6) + min(point.high, 1e6))
    slow = np.cumsum(rng.normal(0.0, 1e-5, _COURSE))
    quick = rng.normal(0.0, 1e-3, _COURSE)
    course: list[float] = np.round(middle * (1 + slow + quick), 2).tolist()
    return course


def value(name: str, step: int) -> float:
    """Return the value of a point at a step, as its instrument would say it."""
    return course(name)[step % _COURSE]


def one_value() -> Case:
    """One value with its time per message, a topic for each point."""
    wanted = names()
    sources = [
        Source(
            topic=f"plant/hp{unit}/{name}",
            unit=f"hp{unit}",
            point=name,
            pointer="/v",
            time_pointer="/ts",
        )
        for unit in range(UNITS)
        for name in wanted
    ]

    def message(number: int) -> tuple[str, bytes]:
        source = sources[number % len(sources)]
        step = number // len(sources)
        body = {
            "ts": T0 + 1000 * step,
            "seq": number,
            "v": value(source.point, step),
            "u": "si",
        }
        return source.topic, json.dumps(body).encode()

    return Case("one_value", sources, 1, message)


def flat_json() -> Case:
    """Twenty values with one time in a JSON object, a topic for each machine."""
    wanted = names()
    sources = [
        Source(
            topic=f"plant/hp{unit}",
            unit=f"hp{unit}",
            point=name,
            pointer=f"/{name}",
            time_pointer="/ts",
        )
        for unit in range(UNITS)
        for name in wanted
    ]

    def message(number: int) -> tuple[str, bytes]:
        step = number // UNITS
        body: dict[str, float] = {"ts": T0 + 1000 * step}
        body |= {name: value(name, step) for name in wanted}
        return f"plant/hp{number % UNITS}", json.dumps(body).encode()

    return Case("json_20", sources, POINTS_PER_MESSAGE, message)


def sparkplug() -> Case:
    """Twenty metrics by alias per message, after a birth, a node for each machine."""
    wanted = names()
    sources = [
        Source(
            topic=f"spBv1.0/plant/hp{unit}",
            unit=f"hp{unit}",
            point=name,
            pointer=name,
            format="sparkplug",
        )
        for unit in range(UNITS)
        for name in wanted
    ]

    def message(number: int) -> tuple[str, bytes]:
        step, unit = divmod(number, UNITS)
        kind = "NDATA" if step else "NBIRTH"
        time_ms = T0 + 1000 * step
        body = _field(1, time_ms)
        for alias, name in enumerate(wanted):
            metric = b"" if step else _field(1, name.encode())
            metric += _field(2, alias) + _field(3, time_ms) + _field(4, _DOUBLE)
            metric += b"\x69" + struct.pack("<d", value(name, step))
            body += _field(2, metric)
        if not step:
            session = _field(1, b"bdSeq") + _field(4, _INT64) + _field(11, 0)
            body += _field(2, session)
        return f"spBv1.0/plant/{kind}/hp{unit}", body + _field(3, step % 256)

    return Case("sparkplug_20", sources, POINTS_PER_MESSAGE, message)


_DOUBLE, _INT64 = 10, 4


def _field(number: int, content: int | bytes) -> bytes:
    """Return a field of a protobuf message: a number, or bytes with their length."""
    if isinstance(content, bytes):
        return _varint(number << 3 | 2) + _varint(len(content)) + content
    return _varint(number << 3) + _varint(content)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


CASES: dict[str, Callable[[], Case]] = {
    "json_20": flat_json,
    "one_value": one_value,
    "sparkplug_20": sparkplug,
}


def run(
    messages: int = 100_000,
    repeats: int = 3,
    cases: Sequence[str] = (),
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measure every kind of traffic.

    Parameters
    ----------
    messages : int
        How many wait with the broker each time.
    repeats : int
        How often each drain is measured; the median is reported, and the range.
    cases : sequence of str
        Names of :data:`CASES`; none means all.
    progress : callable
        Is told what is being done.

    Returns
    -------
    dict
        Of the 20-point JSON ``points_per_s``, ``ratio_to_mosquitto_sub``,
        ``lost`` and ``duplicates``; then all of it for each case.

    Raises
    ------
    BenchError
        If mosquitto or mosquitto_sub is not installed, or a drain stands still.
    """
    chosen = list(cases or CASES)
    unknown = [name for name in chosen if name not in CASES]
    if unknown:
        raise BenchError(f"no case {unknown[0]!r}; there are {', '.join(CASES)}")
    found = {name: _case(CASES[name](), messages, repeats, progress) for name in chosen}
    head = found[chosen[0]]
    return {
        "points_per_s": head["points_per_s"],
        "ratio_to_mosquitto_sub": head["ratio_to_mosquitto_sub"],
        "lost": sum(case["lost"] for case in found.values()),
        "duplicates": sum(case["duplicates"] for case in found.values()),
        "cores": sorted(_cores()),
        **found,
    }


def _case(
    case: Case, number: int, repeats: int, progress: Callable[[str], None]
) -> dict[str, Any]:
    traffic = [case.message(i) for i in range(number)]
    topics = sorted(Decoder(case.sources).topics())
    ours: list[dict[str, float]] = []
    peers: list[float] = []
    for repeat in range(repeats):
        with contextlib.ExitStack() as stack:
            folder = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="hptwin-bench-"))
            )
            port = stack.enter_context(_mosquitto(folder))
            progress(f"{case.name} {repeat + 1}/{repeats}: {number} messages wait")
            _subscribe(port, topics)
            with Publisher(
                Connection(port=port, client_id="bench-publisher")
            ) as publisher:
                publisher.publish_all(traffic)
            # Taking turns at going first, for the second finds a warm broker.
            progress(f"{case.name} {repeat + 1}/{repeats}: draining")
            if repeat % 2:
                peers.append(_drain_peer(port, topics, number))
            ours.append(_drain_ours(case, port, folder, number))
            if not repeat % 2:
                peers.append(_drain_peer(port, topics, number))
    rates = [number / one["wall_s"] for one in ours]
    rate = statistics.median(rates)
    peer = number / statistics.median(peers)
    progress(f"{case.name}: each stage alone")
    return {
        "messages": number,
        "points_per_message": case.points,
        "bytes_per_message": round(
            statistics.mean(len(body) for _, body in traffic[:1000]), 1
        ),
        "messages_per_s": round(rate),
        "points_per_s": round(rate * case.points),
        "points_per_s_range": [
            round(min(rates) * case.points),
            round(max(rates) * case.points),
        ],
        "mosquitto_sub_messages_per_s": round(peer),
        "ratio_to_mosquitto_sub": round(rate / peer, 3),
        "cpu_us_per_message": round(
            statistics.median(one["cpu_s"] for one in ours) / number * 1e6, 2
        ),
        "lost": int(sum(one["lost"] for one in ours)),
        "duplicates": int(sum(one["duplicates"] for one in ours)),
        "redelivered": int(sum(one["redelivered"] for one in ours)),
        "peak_memory_mb": round(max(one["peak_mb"] for one in ours), 1),
        "archive_bytes_per_point": round(ours[-1]["archive_bytes_per_point"], 2),
        "journal_bytes_per_point": round(ours[-1]["journal_bytes_per_point"], 2),
        "stages_us_per_message": _stages(case, traffic[:20_000]),
    }


def _stages(case: Case, traffic: Sequence[tuple[str, bytes]]) -> dict[str, float]:
    """Return what each stage costs alone, on a warm machine, in us of CPU."""
    messages = [Message(topic, body, T0 + 10**9) for topic, body in traffic]
    batches = [messages[i : i + 2000] for i in range(0, len(messages), 2000)]
    found: dict[str, float] = {}

    def measured(name: str, step: Callable[[Any], Any], inputs: Sequence[Any]) -> Any:
        begin = time.process_time()
        results = [step(item) for item in inputs]
        spent = time.process_time() - begin
        found[name] = round(spent / len(messages) * 1e6, 2)
        return results

    with tempfile.TemporaryDirectory(prefix="hptwin-bench-") as name:
        folder = Path(name)
        journal = Journal(folder / "journal.sqlite")
        archive = open_archive("parquet", directory=folder / "archive")
        decoder, checker = Decoder(case.sources), Checker()
        checker.judge(decoder.decode(messages[:10]).readings)  # compiles once
        packed = measured("pack", pack, batches)
        measured("journal", journal.append, batches)
        unpacked = measured("unpack", unpack, packed)
        decoded = measured("decode", decoder.decode, unpacked)
        judged = measured(
            "checks",
            lambda one: checker.judge(one.readings, T0 + 10**9).kept,
            decoded,
        )
        measured("archive", archive.write, judged)
        journal.close()
        archive.close()
    # What the journal's own figure holds of it is not counted twice.
    found["journal"] = round(found["journal"] - found["pack"], 2)
    return found


def _drain_peer(port: int, topics: Sequence[str], number: int) -> float:
    program = _program("mosquitto_sub")
    command = [program, "-h", "127.0.0.1", "-p", str(port), "-i", _PEER, "-c"]
    command += ["-q", "1", "-C", str(number)]
    for topic in topics:
        command += ["-t", topic]
    begin = time.perf_counter()
    subprocess.run(  # noqa: S603  a program found by us, no shell
        command,
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=600,
        preexec_fn=_on_the_last_core,
    )
    return time.perf_counter() - begin


def _drain_ours(case: Case, port: int, folder: Path, number: int) -> dict[str, float]:
    command = [sys.executable, "-m", __name__, case.name, str(port), str(folder)]
    process = subprocess.run(  # noqa: S603  ourselves
        [*command, str(number)],
        check=False,
        capture_output=True,
        timeout=600,
        preexec_fn=_on_the_last_core,
    )
    if process.returncode:
        raise BenchError(process.stderr.decode("utf-8", "replace")[-2000:])
    answer: dict[str, float] = json.loads(process.stdout)
    archive = open_archive("parquet", directory=folder / "archive", read_only=True)
    rows = repeated = 0
    for unit in archive.units():
        frame = archive.frame(unit, *_EVER)
        rows += int(frame.notna().to_numpy().sum())
        repeated += int(frame.index.duplicated().sum())
    answer |= {"lost": number * case.points - rows, "duplicates": repeated}
    return answer


def _drain_here(case: Case, port: int, folder: Path, number: int) -> dict[str, float]:
    """Drain the backlog in this process, from connecting to the last verdict."""
    journal = Journal(folder / "journal.sqlite", keep_bytes=1 << 40)
    archive = open_archive("parquet", directory=folder / "archive")
    subscriber = Subscriber(
        Connection(port=port, client_id=_OURS), Decoder(case.sources).topics()
    )
    intake = Intake(case.sources, archive, journal, subscriber)
    # The compiler's time belongs to the service's start, not to its rate.
    warm = Decoder(case.sources).decode([Message(*case.message(0), T0)])
    Checker().judge(warm.readings, T0)
    begin, spent = time.perf_counter(), time.process_time()
    intake.start()
    while True:
        counts = intake.counts()
        if counts.received - counts.in_flight >= number:
            break
        if time.perf_counter() - begin > 500:
            raise BenchError(f"it stands still: {counts}, {intake.health(0).problem}")
        time.sleep(0.02)
    wall, cpu = time.perf_counter() - begin, time.process_time() - spent
    journal_bytes = (folder / "journal.sqlite").stat().st_size
    intake.stop()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    archive.seal()  # type: ignore[attr-defined]
    archive.close()
    journal.close()
    files = (folder / "archive").rglob("*.parquet")
    points = number * case.points
    return {
        "wall_s": wall,
        "cpu_s": cpu,
        "peak_mb": peak,
        "redelivered": counts.duplicate,
        "archive_bytes_per_point": sum(f.stat().st_size for f in files) / points,
        "journal_bytes_per_point": journal_bytes / points,
    }


def _subscribe(port: int, topics: Sequence[str]) -> None:
    """Let both sessions exist before anything is published."""
    for client in (_PEER, _OURS):
        subscriber = Subscriber(Connection(port=port, client_id=client), topics)
        subscriber.start()
        end = time.monotonic() + 30
        while not subscriber.status().subscribed:
            if time.monotonic() > end:
                raise BenchError("mosquitto lets nobody in")
            time.sleep(0.01)
        time.sleep(0.3)  # until the subscriptions are acknowledged
        subscriber.stop()


@contextlib.contextmanager
def _mosquitto(folder: Path) -> Iterator[int]:
    program, port = _program("mosquitto"), embedded.free_port()
    path = folder / "mosquitto.conf"
    path.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
        "max_queued_messages 0\nmax_inflight_messages 4000\nlog_type none\n",
        "utf-8",
    )
    process = subprocess.Popen(  # noqa: S603  a program found by us, no shell
        [program, "-c", str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=_on_the_first_core,
    )
    try:
        embedded._await(port, lambda: process.poll() is None)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def _program(name: str) -> str:
    found = shutil.which(name, path=_SEARCH)
    if found is None:
        raise BenchError(f"{name} is not installed; on Debian: mosquitto-clients")
    return found


def _cores() -> set[int]:
    return os.sched_getaffinity(0)


def _on_the_first_core() -> None:
    os.sched_setaffinity(0, {min(_cores())})


def _on_the_last_core() -> None:
    os.sched_setaffinity(0, {max(_cores())})


if __name__ == "__main__":
    _name, _port, _folder, _number = sys.argv[1:5]
    sys.stdout.write(
        json.dumps(_drain_here(CASES[_name](), int(_port), Path(_folder), int(_number)))
    )
