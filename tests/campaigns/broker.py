"""The broker is killed and restarted five times under traffic of QoS 1.

Signal 9, so nothing is tidied up: what the broker had on its disk and what the
publisher sends again is all there is. The promise is about what the broker
itself kept, so it keeps everything here (it writes its state at each change),
and whoever then misses a message is us. The control takes a session that the
broker forgets when the connection ends, as a client does that leaves the
library's settings as they are.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from pathlib import Path

import servers

from ingest.broker import BrokerError, Connection, Publisher, Subscriber

from . import rig

KILLS = 5
RATE = 200.0
TOPIC = "plant/hp1"
RECONNECT_S = 30.0


def run(
    folder: Path,
    *,
    seed: int = 1,
    quick: bool = False,
    lasting: bool = True,
    kills: int = KILLS,
) -> rig.Outcome:
    """Kill it five times (within some ten seconds if quick)."""
    outcome = rig.Outcome("broker", seed)
    chance = random.Random(seed)  # noqa: S311  not for secrets
    kept = "autosave_on_changes true\nautosave_interval 1"
    with servers.mosquitto(folder, kept) as broker:
        service = Subscriber(
            Connection(port=broker.port, client_id="service"), [TOPIC], lasting=lasting
        )
        service.start()
        rig.until(lambda: service.status().subscribed, "the service subscribes")
        time.sleep(0.3)  # until the subscription is acknowledged
        over, stored = threading.Event(), _Stored(service)
        sender = _Sender(broker.port, over)
        taker = threading.Thread(target=stored.go_on, args=(over,))
        taker.start()
        sender.start()
        back: list[float] = []
        early: list[int] = []
        try:
            for _ in range(kills):
                time.sleep(chance.uniform(0.3, 0.9) * (1 if quick else 10))
                epoch = service.status().epoch
                broker.stop(signal.SIGKILL)
                outcome.faults += 1
                time.sleep(chance.uniform(0.0, 0.3) * (1 if quick else 20))
                broker.start()
                began = time.monotonic()
                # Before the service is back, so that the session must have it.
                early += _early(broker.port, len(early))
                rig.until(
                    lambda epoch=epoch: (
                        (now := service.status()).connected and now.epoch > epoch
                    ),
                    "the service is back",
                )
                back.append(time.monotonic() - began)
                rig.say(f"killed, and back after {back[-1]:.1f} s")
            sender.finish()
            _settle(stored, sender.acknowledged + len(early))
        finally:
            over.set()
            sender.join()
            taker.join()
            service.stop()
    published = {*range(sender.acknowledged), *early}
    lost = published - stored.numbers
    outcome.checked, outcome.lost = len(published), len(lost)
    outcome.figures |= {
        "published": len(published),
        "redelivered": stored.taken - len(stored.numbers),
        "slowest_reconnect_s": round(max(back), 1),
        "thread_revivals": service.status().revivals,
    }
    outcome.promise(f"0 lost, not {len(lost)}", kept=not lost)
    outcome.promise("back within 30 s", kept=max(back) < RECONNECT_S)
    return outcome


whole = run


def control(folder: Path, *, seed: int = 1, quick: bool = False) -> rig.Outcome:
    """Let the broker forget us at each connection's end: this must lose."""
    kills = 2 if quick else KILLS
    return run(folder, seed=seed, quick=quick, lasting=False, kills=kills)


def _early(port: int, before: int) -> list[int]:
    """Publish some numbers below zero, and return them."""
    numbers = list(range(-before - 1, -before - 6, -1))
    with Publisher(Connection(port=port, client_id="early")) as publisher:
        publisher.publish_all((TOPIC, str(number)) for number in numbers)
    return numbers


class _Stored:
    """What has been taken, acknowledged after it is here."""

    def __init__(self, service: Subscriber) -> None:
        self.numbers: set[int] = set()
        self.taken = 0
        self._service = service

    def go_on(self, over: threading.Event) -> None:
        """Take and acknowledge until it is over."""
        while not over.is_set():
            some = self._service.take(timeout=0.1)
            self.numbers.update(int(item.message.payload) for item in some)
            self.taken += len(some)
            self._service.acknowledge(some)


class _Sender(threading.Thread):
    """Publishes numbers, and knows up to which one the broker has them."""

    def __init__(self, port: int, over: threading.Event) -> None:
        super().__init__()
        self.acknowledged = 0
        self._over, self._enough = over, threading.Event()
        self._connection = Connection(port=port, client_id="publisher")

    def run(self) -> None:
        """Publish at the rate; what was on its way is sent again by the library."""
        with Publisher(self._connection) as publisher:
            while not self._over.is_set() and not self._enough.is_set():
                some = range(self.acknowledged, self.acknowledged + 10)
                try:
                    publisher.publish_all(
                        ((TOPIC, str(number)) for number in some), timeout=60.0
                    )
                except BrokerError as error:
                    raise rig.BlindError(f"the publisher: {error}") from error
                self.acknowledged = some.stop
                time.sleep(len(some) / RATE)

    def finish(self) -> None:
        """End after what is on its way."""
        self._enough.set()
        self.join()


def _settle(stored: _Stored, expected: int, idle_s: float = 2.0) -> None:
    """Wait until all is there, or nothing comes any more."""
    last, since = stored.taken, time.monotonic()
    while len(stored.numbers) < expected and time.monotonic() - since < idle_s:
        time.sleep(0.05)
        if stored.taken != last:
            last, since = stored.taken, time.monotonic()


if __name__ == "__main__":
    rig.command("broker", whole, control)
