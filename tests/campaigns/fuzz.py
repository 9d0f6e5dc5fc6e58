"""Any bytes on any topic: each message gets an answer, and none an exception.

``python -m tests.campaigns.fuzz --number 1000000 --seed 1 --json`` makes
messages of every format, by grammar and by mutation, and gives them to the
decoder and the checks of the service. A control plants an error in a decoder,
and another swallows messages; both must be noticed.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import logging
import math
import os
import random
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import edge
import numpy as np

from ingest.checks import DUPLICATE, KEPT, Checker
from ingest.decoder import Decoded, Decoder
from ingest.journal import Message
from ingest.reading import Reading, Readings, Rejection, Source

T0 = 1_700_000_000_000
A, B, C = "source_inlet_temp_degc", "sink_outlet_temp_degc", "compressor_power_w"
ENERGY, RUN = "compressor_energy_j", "compressor_running"
NODE = "spBv1.0/g/e"
_WHERE = (("host", "a"), ("name", "m"))
SOURCES = (
    *(
        Source(topic="flat", unit="hp1", point=p, pointer=f"/{p}", time_pointer="/ts")
        for p in (A, B, C)
    ),
    Source(topic="plain", unit="hp1", point=RUN),
    Source(topic="comma", unit="hp2", point=A, decimal=","),
    Source(topic="deep", unit="hp2", point=B, pointer="/a/0/b", time_pointer="/ts"),
    Source(topic="deep", unit="hp2", point=ENERGY, pointer="/a/1", counter=True),
    *(
        Source(
            topic=topic, unit=topic, point=p, pointer=p[:3], where=where, format=topic
        )
        for topic in ("telegraf", "influx")
        for p, where in ((A, _WHERE), (B, ()), (RUN, _WHERE[1:]))
    ),
    *(
        Source(topic=topic, unit="node", point=p, pointer=p[:3], format="sparkplug")
        for topic, p in ((NODE, C), (f"{NODE}/d", A), (f"{NODE}/d", B))
    ),
)
TOPICS = (
    "flat", "plain", "comma", "deep", "telegraf", "influx",
    *(f"spBv1.0/g/N{kind}/e" for kind in ("BIRTH", "DATA", "DEATH")),
    *(f"spBv1.0/g/D{kind}/e/d" for kind in ("BIRTH", "DATA", "DEATH")),
)  # fmt: skip
ODD_TOPICS = (
    "", "#", "+/+", "flat/#", "$SYS/x", "spBv1.0/STATE/h", "spBv1.0/g/NCMD/e",
    "spBv1.0/g/DDATA/e", "\x00", "\udcff\ud800", "flat\n", "/", "x" * 65_535,
)  # fmt: skip
_NUMBERS = (
    "21.5", "0", "-0.0", "1e999", "-1e-999", "NaN", "Infinity", "9" * 400, "null",
    "true", "false", '"on"', '"21,5"', '""', "1_0", "0x1f", "18446744073709551616",
    "[1]", "{}", '"\\ud800"', "99999999999999999999999", "1" + "0" * 4400,
)  # fmt: skip
_TIMES = (
    str(T0), str(T0 // 1000), str(T0 * 1000), str(T0 * 10**6), "0", "-1", "1e300",
    "1700000000.5", '"2023-11-14T22:13:20Z"', '"2023-11-14T22:13:20"', '"now"', "{}",
    '"2016-12-31T23:59:60Z"', "9" * 30, "true", str(T0 + 10**10),
)  # fmt: skip
# Long ones are made once: it is their reading that is to be tried.
HUGE = (
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"ts":1,"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    b"9" * 100_000,
    b"x" * ((1 << 20) + 1),
    b"m host=a\n" * 100_000,
    b'm v="' + b'\\"' * 100_000,
    b'{"metrics":[' + b"0," * 100_000 + b"0]}",
    b"\x12\x02\x10\x01" * 50_000,
    (b"\x0a\x80\x80\x01" + b"\x0a" * 16_384) * 20,
)
CLAIMS = (
    b"\x12\x80\x80\x80\x80\x04",  # a metric of 1 GB
    b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # of 2^64 - 1
    b"\x0b" * 1000,  # groups in groups
    b"\x12\x05\x0a\xff\xff\xff\x7f",
)


def words(rng: random.Random) -> Iterator[str]:
    """Yield names, mostly those that are asked for."""
    while True:
        yield rng.choice(
            ("sou", "sin", "com", A, B, C, "a", "b", "ts", "name", "host", "m", "é", "")
        )


class Maker:
    """Makes messages from a seed: by grammar, by mutation, and odd ones."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311  not for secrets
        self._word = words(self.rng)
        self._node = edge.Edge(group="g", node="e", device="d")
        self._node.values = {A[:3]: 20.0, B[:3]: 60.0}
        self._pool: list[tuple[str, bytes]] = [("plain", b"1")]
        self._now = T0

    def messages(self, number: int) -> list[Message]:
        """Return the next ones."""
        rng = self.rng
        made = []
        for _ in range(number):
            self._now += rng.randrange(2000)
            topic, content = self._one()
            made.append(Message(topic, content, self._now, rng.random() < 0.05))
        return made

    def _one(self) -> tuple[str, bytes]:
        rng = self.rng
        chance = rng.random()
        topic = rng.choice(TOPICS)
        if chance < 0.0005:
            return topic, rng.choice(HUGE)
        if chance < 0.005:
            return topic, rng.choice(CLAIMS)
        if chance < 0.02:
            return rng.choice(ODD_TOPICS), rng.choice(self._pool)[1]
        if chance < 0.05:
            return topic, rng.randbytes(rng.randrange(60))
        if chance < 0.40:
            own, content = self._mutated()
            return (topic if chance < 0.1 else own), content
        found = self._sensible(topic)
        if len(self._pool) < 500:
            self._pool.append(found)
        else:
            self._pool[rng.randrange(500)] = found
        return found

    def _sensible(self, topic: str) -> tuple[str, bytes]:
        if topic.startswith("spB"):
            return self._sparkplug(topic)
        if topic == "influx":
            return topic, self._lines().encode("utf-8", "surrogatepass")
        if topic in ("plain", "comma"):
            return topic, self._number().strip('"').encode()
        if topic == "telegraf":
            metrics = [self._metric() for _ in range(self.rng.randrange(1, 4))]
            text = metrics[0]
            if self.rng.random() < 0.5:
                text = '{"metrics":[' + ",".join(metrics) + "]}"
            return topic, text.encode()
        if topic == "deep":
            inner = f'[{{"b":{self._number()}}},{self._number()}]'
            return topic, f'{{"a":{inner},"ts":{self._time()}}}'.encode()
        return topic, self._object((A, B, C), ts=self._time()).encode()

    def _number(self) -> str:
        rng = self.rng
        if rng.random() < 0.7:
            return f"{rng.gauss(40.0, 20.0):.3f}"
        return rng.choice(_NUMBERS)

    def _time(self) -> str:
        if self.rng.random() < 0.7:
            return str(self._now - self.rng.randrange(5000))
        return self.rng.choice(_TIMES)

    def _object(self, names: Sequence[str], **others: str) -> str:
        pairs = [(name, self._number()) for name in names if self.rng.random() < 0.9]
        pairs += others.items()
        if self.rng.random() < 0.1:
            pairs.append((next(self._word), self._number()))  # often a second time
        return "{" + ",".join(f'"{name}":{value}' for name, value in pairs) + "}"

    def _metric(self) -> str:
        rng = self.rng
        if rng.random() < 0.05:
            return self._number()
        parts = {
            "fields": self._object((A[:3], B[:3], RUN[:3])),
            "name": rng.choice(('"m"', '"m"', '"x"', self._number())),
            "tags": rng.choice(('{"host":"a"}', '{"host":"a"}', "{}", "5", "null")),
            "timestamp": self._time(),
        }
        kept = [f'"{k}":{v}' for k, v in parts.items() if rng.random() < 0.95]
        return "{" + ",".join(kept) + "}"

    def _lines(self) -> str:
        rng = self.rng
        lines = []
        for _ in range(rng.randrange(1, 4)):
            tags = rng.choice((",host=a", ",host=a", "", ",host=", ",x=\\ y,host=a"))
            fields = ",".join(
                f"{name[:3]}={self._number()}{rng.choice(('', '', 'i', 'u'))}"
                for name in (A, B, RUN)
            )
            stamp = rng.choice(
                (f" {self._now * 10**6}", "", " " + self._time(), " 1.5")
            )
            lines.append(
                rng.choice(("m", "m", "#m", "", "m\\,")) + tags + " " + fields + stamp
            )
        return rng.choice(("\n", "\n", "\r\n", "\n\n")).join(lines)

    def _sparkplug(self, topic: str) -> tuple[str, bytes]:
        rng, node = self.rng, self._node
        node.now_ms = self._now
        chance = rng.random()
        if chance < 0.5:
            return node.data(a1=rng.gauss(20.0, 5.0), a2=rng.gauss(60.0, 5.0))
        if chance < 0.6:
            births = node.births()
            return births[0] if rng.random() < 0.5 else births[1]
        if chance < 0.63:
            return node.will()
        if chance < 0.65:
            node.restart()
        metrics = [
            edge.metric(
                rng.choice((None, 5.0, math.inf, -1, 2**40))
                if kind != edge.INT32
                else -7,
                name=rng.choice(("", "", "sou", "sin", "com", "bdSeq")),
                alias=rng.choice((None, 0, 1, 2, 3, 2**64 - 1)),
                time_ms=rng.choice((None, 0, self._now, T0, 2**64 - 1, 5)),
                kind=kind,
                tell_kind=rng.random() < 0.5,
                historical=rng.random() < 0.2,
                quality=rng.choice((None, None, 192, 0)),
            )
            for kind in rng.choices((edge.DOUBLE, edge.INT32), k=rng.randrange(4))
        ]
        seq = rng.choice((None, rng.randrange(256), 10**6))
        return topic, edge.payload(metrics, time_ms=self._now, seq=seq)

    def _mutated(self) -> tuple[str, bytes]:
        rng = self.rng
        topic, whole = rng.choice(self._pool)
        content = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            if not content:
                break
            at = rng.randrange(len(content))
            kind = rng.randrange(8)
            if kind == 0:
                content[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                del content[at:]
            elif kind == 2:
                content[at:at] = content[at : at + rng.randrange(20)] * 2
            elif kind == 3:
                content[at:at] = rng.randbytes(rng.randrange(1, 9))
            elif kind == 4:
                content[at:] = rng.choice(self._pool)[1]
            elif kind == 5:
                content[at : at + 4] = rng.choice(_NUMBERS).encode()
            elif kind == 6:
                content[at : at + 1] = struct.pack("<Q", rng.getrandbits(64))
            else:
                text = bytes(content).decode("utf-8", "replace")
                content = bytearray(
                    text.encode(rng.choice(("utf-16", "utf-8-sig", "utf-32-le")))
                )
        return topic, bytes(content[:100_000])


@dataclass
class Outcome:
    """What came of it; ``broken`` are the promises that did not hold.

    ``uncaught`` counts exceptions, also those that the decoder kept to itself;
    ``unanswered`` the messages of which nothing at all was said.
    """

    number: int
    seed: int
    uncaught: int = 0
    unanswered: int = 0
    odd_answers: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    timed: int = 0
    median_us: float = 0.0
    p99_us: float = 0.0
    longest_ms: float = 0.0
    rss_growth_mb: float = 0.0
    seconds: float = 0.0
    broken: list[str] = field(default_factory=list)
    control: dict[str, int] = field(default_factory=dict)

    def judge(self) -> None:
        """Write down which promises did not hold."""
        total = sum(self.verdicts.values())
        for sentence, kept in (
            ("nothing is raised", not self.uncaught),
            ("every message is answered", not self.unanswered),
            ("every answer is a finite reading or a reason", not self.odd_answers),
            ("the verdicts sum to the messages", total == self.number),
            ("some of each verdict were seen", len(self.verdicts) == 4),
            ("memory grows by less than 20 MB", self.rss_growth_mb < 20),
        ):
            if not kept:
                self.broken.append(sentence)


def resident_mb() -> float:
    """Return how much memory this process has now. [MB]."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def run(
    number: int, seed: int, decoder: Callable[[], Decoder] = lambda: Decoder(SOURCES)
) -> Outcome:
    """Give so many messages to the decoder and the checks of the service."""
    outcome = Outcome(number, seed)
    maker, subject, checker = Maker(seed), decoder(), Checker([("hp2", ENERGY)])
    verdicts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    times: list[float] = []
    before, began, done = 0.0, time.monotonic(), 0
    checker.judge(Readings.of([]))  # compiled once, which is no message's time
    # The decoder logs what it catches, with its trace: it is counted here.
    logging.getLogger("ingest.decoder").setLevel(logging.CRITICAL)
    for size in itertools.cycle((1, 200)):
        messages = maker.messages(min(size, number - done))
        start = time.perf_counter()
        try:
            decoded = subject.decode(messages)
            received = np.array([message.received_ms for message in messages])
            judged = checker.judge(decoded.readings, received[decoded.messages])
        except Exception as error:  # noqa: BLE001  it is what is looked for
            outcome.uncaught += 1
            reasons[f"uncaught {type(error).__name__}: {error}"[:100]] += 1
            verdicts["uncaught"] += len(messages)
        else:
            if size == 1:
                times.append(time.perf_counter() - start)
            _account(outcome, messages, decoded, judged.verdicts, verdicts, reasons)
        done += len(messages)
        if not before and done >= number // 4:
            before = resident_mb()
        if done == number:
            break
    outcome.seconds = round(time.monotonic() - began, 1)
    outcome.rss_growth_mb = round(resident_mb() - before, 1)
    outcome.verdicts, outcome.reasons = dict(verdicts), dict(reasons.most_common())
    outcome.timed = len(times)
    outcome.median_us, outcome.p99_us = (
        round(float(np.percentile(times, share)) * 1e6, 1) for share in (50, 99)
    )
    outcome.longest_ms = round(max(times) * 1e3, 2)
    outcome.judge()
    return outcome


def _account(
    outcome: Outcome,
    messages: Sequence[Message],
    decoded: Decoded,
    judged: Any,
    verdicts: Counter[str],
    reasons: Counter[str],
) -> None:
    answers: dict[int, set[str]] = {}
    for place, verdict in zip(decoded.messages.tolist(), judged.tolist(), strict=True):
        name = {KEPT: "stored", DUPLICATE: "duplicate"}.get(verdict, "quarantined")
        answers.setdefault(place, set()).add(name)
    for place, item in decoded.rejected:
        answers.setdefault(place, set()).add("rejected")
        reasons[item.reason] += 1
        outcome.uncaught += item.reason == "internal error"
        outcome.odd_answers += not item.reason or len(item.detail) > 1000
    outcome.odd_answers += int((~np.isfinite(decoded.readings.values)).sum())
    for place in range(len(messages)):
        said = answers.get(place, set())
        outcome.unanswered += not said
        for name in ("stored", "duplicate", "quarantined", "rejected"):
            if name in said:
                verdicts[name] += 1
                break


def planted() -> Decoder:
    """Return a decoder in which one sort of Sparkplug message raises."""
    made = Decoder(SOURCES)
    read = made.host.read

    def faulty(
        topic: str, content: bytes, received_ms: int, retained: bool = False
    ) -> list[Reading | Rejection]:
        if content.startswith(b"\x08") and content.endswith(b"\x07"):
            raise IndexError("planted")
        return read(topic, content, received_ms, retained)

    made.host.read = faulty  # type: ignore[method-assign]
    return made


class Swallowing(Decoder):
    """Says nothing of what it cannot read."""

    def decode(self, messages: Sequence[Message]) -> Decoded:
        """Return the readings and forget the rest."""
        return super().decode(messages)._replace(rejected=[])


def control(number: int, seed: int) -> dict[str, int]:
    """Return what was noticed of two decoders that are wrong on purpose."""
    return {
        "uncaught": run(number, seed, planted).uncaught,
        "unanswered": run(number, seed, lambda: Swallowing(SOURCES)).unanswered,
    }


def main() -> None:
    """Run it, print the figures, and end with 1 if a promise did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.fuzz")
    parser.add_argument("--number", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="the result as one object")
    given = parser.parse_args()
    outcome = run(given.number, given.seed)
    outcome.control = control(min(given.number, 10_000), given.seed)
    if not all(outcome.control.values()):
        outcome.broken.append("the control is noticed")
    if outcome.median_us > 1000:
        outcome.broken.append("the median is at most 1 ms")
    if given.json:
        print(json.dumps(asdict(outcome)))  # noqa: T201  it is a command
    else:
        for name, value in asdict(outcome).items():
            print(f"{name:14} {value}")  # noqa: T201
    sys.exit(bool(outcome.broken))


if __name__ == "__main__":
    main()
