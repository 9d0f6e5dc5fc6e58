"""What befalls a site: each fault begins, does its harm, and is over on return.

``scale`` shortens and thins all of them alike. None of them ends a process that
the site has not started.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

from ingest.broker import Connection, Publisher

from .site import DAY_MS, GROUPS, UNITS, Site, messages, now_ms


def _publish(site: Site, some: Sequence[tuple[str, str | bytes]], rate: float) -> int:
    """Publish beside the traffic, at a rate; the broker then has them."""
    connection = Connection(port=site.broker.port, client_id="beside")
    with Publisher(connection) as publisher:
        for first in range(0, len(some), 20):
            part = some[first : first + 20]
            publisher.publish_all(part, timeout=120)
            time.sleep(len(part) / rate)
    return len(some)


def _killed(site: Site, chance: random.Random, scale: float) -> None:
    """Kill the broker; it is away for some seconds."""
    killed = time.monotonic()
    site.broker.stop(signal.SIGKILL)
    sender = site.sender
    # The broker acknowledges before it has written: what it says it has in its
    # last moments may die with it, and is accounted for apart.
    site.extra.risked |= {
        second
        for second, taken in list(zip(sender.seconds, sender.taken, strict=False))[-9:]
        if taken > killed - 2.0
    }
    time.sleep(chance.uniform(2, 15) * scale)
    site.broker.start()


def _frozen(site: Site, chance: random.Random, scale: float) -> None:
    """Freeze the broker: it is connected and answers nothing."""
    assert site.broker.process is not None
    site.broker.process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(20 * scale)
    finally:
        site.broker.process.send_signal(signal.SIGCONT)


def _garbage(site: Site, chance: random.Random, scale: float) -> None:
    """Send what no reading can be made of, small and large."""
    kinds: tuple[Callable[[], bytes], ...] = (
        lambda: b"",
        lambda: chance.randbytes(chance.randint(1, 400)),
        lambda: b"{" * 300,
        lambda: json.dumps({"ts": now_ms()}).encode(),
        lambda: json.dumps({"ts": now_ms(), "available": "warm"}).encode(),
        lambda: json.dumps({"ts": "yesterday", "available": 1.0}).encode(),
        lambda: b'{"ts": %d, "available": NaN}' % now_ms(),
        lambda: b"[" + b"0," * 60_000 + b"0]",
    )
    some = [
        (
            f"dc/hp{chance.randrange(UNITS)}/{chance.randrange(len(GROUPS))}",
            kinds[n % 8](),
        )
        for n in range(int(3000 * scale))
    ]
    site.extra.garbage += _publish(site, some, 100)


def _skewed(site: Site, chance: random.Random, scale: float) -> None:
    """Send with the stamps of a clock that is hours ahead, then hours behind."""
    now = now_ms()
    ahead = [
        each
        for n in range(max(1, int(150 * scale)))
        for each in messages(9, now + chance.randint(1, 9) * 3_600_000 + n)
    ]
    site.extra.ahead += _publish(site, ahead, 100)
    # Between the seconds of the traffic, so that each is an instant of its own.
    late = now // 1000 * 1000 - 7_200_000 + 500
    _late(site, 9, [late + 1000 * n for n in range(max(1, int(120 * scale)))], 100)


def _late(site: Site, unit: int, times: Sequence[int], rate: float) -> None:
    some = [each for at in times for each in messages(unit, at)]
    _publish(site, some, rate)
    site.extra.good.setdefault(unit, []).extend(times)


def _stormed(site: Site, chance: random.Random, scale: float) -> None:
    """Send what was sent a minute ago again, many times over."""
    back = site.sender.seconds[-60:][: max(1, int(50 * scale))]
    some = [each for at in back for unit in range(UNITS) for each in messages(unit, at)]
    for _ in range(3):
        site.extra.again += _publish(site, some, 100)


def _vanishing(site: Site, chance: random.Random, scale: float) -> None:
    """Let listeners come and go without a word, some in the middle of a line."""
    for _ in range(int(200 * scale)):
        with socket.create_connection(("127.0.0.1", site.web), 5) as line:
            line.sendall(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            if chance.random() < 0.5:
                line.recv(100)
            # Gone with a reset, as by a cut cable's other end.
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        time.sleep(0.2)


def _slow(site: Site, chance: random.Random, scale: float) -> None:
    """Let twenty listeners and pages be read by nobody, or byte by byte."""
    with contextlib.ExitStack() as stack:
        lines = []
        for number in range(20):
            line = stack.enter_context(socket.socket())
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            line.connect(("127.0.0.1", site.web))
            path = b"/events" if number % 2 else b"/"
            line.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            lines.append(line)
        end = time.monotonic() + 60 * scale
        while time.monotonic() < end:
            for line in lines[::3]:
                with contextlib.suppress(OSError):
                    line.recv(1, socket.MSG_DONTWAIT)
            time.sleep(0.5)


def _full(site: Site, chance: random.Random, scale: float) -> None:
    """Let the archive's disk be full for a minute."""
    ballast = site.archive / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            room = os.statvfs(site.archive)
            with contextlib.suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize)
            file.seek(0, os.SEEK_END)
            with contextlib.suppress(OSError):
                while file.write(bytes(4096)):
                    pass
        time.sleep(60 * scale)
    finally:
        ballast.unlink()


def _past(site: Site, chance: random.Random, scale: float) -> None:
    """Deliver a day of the past of one machine, by the minute, late."""
    days = chance.randint(2, 20)
    midnight = now_ms() // DAY_MS * DAY_MS - days * DAY_MS
    unit = chance.randrange(1, UNITS - 1)
    taken = set(site.extra.good.get(unit, ()))
    times = [midnight + 60_000 * minute for minute in range(int(1440 * scale))]
    _late(site, unit, [at for at in times if at not in taken], 100)


def _asked(site: Site, chance: random.Random, scale: float) -> None:
    """Let other processes read the archive while it is written."""
    for given in (("recalibrate", "--dry-run"), ("check",)):
        subprocess.run(
            site.hptwin(*given),
            env=site.environ,
            capture_output=True,
            timeout=300,
            check=False,
        )


def restarted(site: Site, chance: random.Random, scale: float) -> None:
    """End the service with SIGTERM and start it again."""
    site.stop()
    time.sleep(5 * scale)
    site.start()


Fault = Callable[[Site, random.Random, float], None]
FAULTS: Mapping[str, Fault] = {
    "broker killed": _killed,
    "broker frozen": _frozen,
    "garbage": _garbage,
    "clocks off": _skewed,
    "duplicates": _stormed,
    "listeners vanish": _vanishing,
    "slow readers": _slow,
    "disk full": _full,
    "a past day": _past,
    "other readers": _asked,
}


def schedule(seed: int, seconds: float, rounds: int = 3) -> list[tuple[float, str]]:
    """Return when which fault begins: each once in every round, in any order.

    The first tenth of the time and the last are left alone.
    """
    chance = random.Random(seed)  # noqa: S311  not for secrets
    names: list[str] = []
    for _ in range(rounds):
        names += chance.sample(list(FAULTS), len(FAULTS))
    step = 0.8 * seconds / len(names)
    return [
        (0.1 * seconds + step * (n + chance.uniform(0, 0.3)), name)
        for n, name in enumerate(names)
    ]
