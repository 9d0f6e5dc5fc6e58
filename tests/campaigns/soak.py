"""Two hours of a whole service under faults: memory, descriptors and lag.

``hptwin run`` as it is shipped, in a process of its own, between a real mosquitto
and its own archive on a disk of its own; ten heat pumps send two hundred stamped
messages a second, one client listens to the page all the time, others ask for
pages and metrics. Every few minutes something breaks, from a seed. Each look is
a line of JSON, so that a run which is cut short is one as far as it went.

The controls are analyses of the same rows and the same archive, to which a leak
of 5 MB/h was added and from which one message was taken.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

import httpx
import numpy as np
import pandas as pd
import servers
from prometheus_client.parser import text_string_to_metric_families
from scipy.stats import theilslopes

from ingest.archive import Archive, ArchiveError, ArchiveUnavailableError, open_archive
from ingest.broker import BrokerError, Connection, Publisher

from . import disk, rig

Row = dict[str, Any]

UNITS = 10
HOURS = 2.0
LOOK_S = 10.0
PROBE_S = 2.0
WARM_UP_S = 1200.0
# Stamped to the second, written twice a second to the page: this is at hand.
LIMIT_S = 5.0
LEAK_MB_H = 5.0
_DISK_MB = 512
_DAY_MS = 86_400_000

# What each point says around, and by how much it moves: a machine of 600 kW.
_POINTS: Mapping[str, tuple[float, float]] = {
    "source_inlet_temp_degc": (35.0, 1.5),
    "source_outlet_temp_degc": (28.0, 1.5),
    "sink_inlet_temp_degc": (50.0, 1.0),
    "sink_outlet_temp_degc": (65.0, 1.0),
    "source_flow_m3_s": (0.0165, 0.0005),
    "sink_flow_m3_s": (0.0097, 0.0003),
    "compressor_power_w": (150e3, 6e3),
    "compressor_speed_hz": (50.0, 2.0),
    "suction_pressure_pa": (450e3, 15e3),
    "compressor_discharge_pressure_pa": (1.6e6, 4e4),
    "suction_temp_degc": (30.0, 1.5),
    "compressor_discharge_temp_degc": (82.0, 2.0),
    "liquid_temp_degc": (60.0, 1.0),
    "sink_setpoint_degc": (65.0, 0.5),
    "source_pump_power_w": (4e3, 200.0),
    "sink_pump_power_w": (3e3, 150.0),
    "compressor_running": (1.0, 0.0),
    "available": (1.0, 0.0),
    "manual_override": (0.0, 0.0),
    "compressor_energy_j": (5.4e12, 0.0),
}
POINTS = tuple(_POINTS)
# A device sends its points in four messages, as its controllers do.
GROUPS = tuple(POINTS[first : first + 5] for first in range(0, len(POINTS), 5))

_PLANT = """
[site]
name = "Soak"
timezone = "Europe/Berlin"
[mqtt]
host = "127.0.0.1"
port = {broker}
client_id = "hptwin"
[archive]
kind = "parquet"
path = "{archive}"
[state]
dir = "{state}"
[web]
host = "127.0.0.1"
port = {web}
[tariff]
electricity_price = "120 EUR/MWh"
heat_price = "60 EUR/MWh"
[[consumer]]
id = "town"
use = "district"
supply_temp = "62 degC"
demand = "unlimited"
"""

_HEAT_PUMP = """
[[heat_pump]]
id = "{unit}"
refrigerant = "R1234ze(E)"
compressor = "screw"
sink_outlet_max = "80 degC"
source_inlet_min = "15 degC"
standby_power = "0.5 kW"
[heat_pump.nameplate]
sink_heat = "600 kW"
power = "150 kW"
source_inlet = "35 degC"
source_outlet = "28 degC"
sink_inlet = "50 degC"
sink_outlet = "65 degC"
speed = "50 Hz"
[heat_pump.source]
coolant = "water"
[heat_pump.sink]
coolant = "water"
[heat_pump.payload]
time = "/ts"
[heat_pump.points]
"""


def plant(broker: int, web: int, archive: Path, state: Path) -> str:
    """Return the configuration of a site of ten heat pumps."""
    text = _PLANT.format(broker=broker, web=web, archive=archive, state=state)
    for number in range(UNITS):
        text += _HEAT_PUMP.format(unit=f"hp{number}")
        for group, points in enumerate(GROUPS):
            topic = f"dc/hp{number}/{group}"
            for point in points:
                text += f'{point} = {{ topic = "{topic}", pointer = "/{point}" }}\n'
    return text


def value(unit: int, point: str, time_ms: int) -> float:
    """Return what a point says at a time; the same whenever it is asked."""
    middle, span = _POINTS[point]
    if point.endswith("_energy_j"):
        return middle + 150.0 * (time_ms % (100 * _DAY_MS))
    place = POINTS.index(point)
    slow = math.sin(time_ms / 1.8e6 + unit + place)
    jitter = ((time_ms // 1000 * 7919 + unit * 104729 + place * 1299709) % 1000) / 1e3
    return round(middle + span * (0.8 * slow + 0.2 * (2 * jitter - 1)), 6)


def messages(unit: int, time_ms: int) -> list[tuple[str, str]]:
    """Return what a device publishes of a time, a message for each group."""
    return [
        (
            f"dc/hp{unit}/{group}",
            json.dumps(
                {"ts": time_ms, **{each: value(unit, each, time_ms) for each in points}}
            ),
        )
        for group, points in enumerate(GROUPS)
    ]


def now_ms() -> int:
    """Return the time by the machine's clock. [ms]."""
    return time.time_ns() // 1_000_000


# --- what is looked at -------------------------------------------------------


def process(pid: int) -> Row:
    """Return a process' memory [MB], open files, threads and CPU time [s]."""
    folder = Path(f"/proc/{pid}")
    said = dict(
        line.split(":", 1)
        for line in (folder / "status").read_text("ascii").splitlines()
        if ":" in line
    )
    ticks = (folder / "stat").read_text("ascii").rpartition(")")[2].split()
    return {
        "rss_mb": round(int(said["VmRSS"].split()[0]) / 1024, 3),
        "anon_mb": round(int(said["RssAnon"].split()[0]) / 1024, 3),
        "fds": len(os.listdir(folder / "fd")),  # noqa: PTH208  names alone
        "threads": int(said["Threads"]),
        "cpu_s": (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK"),
    }


def metrics(text: str) -> dict[str, float]:
    """Return the samples of ``/metrics`` that a row has."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "hptwin_messages_total":
                found[sample.labels["verdict"]] = sample.value
            elif sample.name == "hptwin_messages_in_flight":
                found["in_flight"] = sample.value
            elif sample.name in ("hptwin_page_listeners", "hptwin_ready"):
                found[sample.name.removeprefix("hptwin_")] = sample.value
            elif sample.name == "hptwin_journal_bytes":
                found["journal_mb"] = round(sample.value / 2**20, 3)
    return found


# --- the analysis ------------------------------------------------------------


@dataclass(frozen=True)
class Slope:
    """How fast something grows, with its 95 % interval. [per h]."""

    middle: float
    low: float
    high: float


def slope(seconds: Sequence[float], values: Sequence[float]) -> Slope:
    """Return the median of the slopes between all pairs of looks.

    Half of a minute's looks may be anything without moving it. The interval is
    Sen's, from ranks; looks that lean on each other make it too narrow, so it is
    worked out over medians of five minutes, which hardly do.

    Parameters
    ----------
    seconds : sequence of float, shape (n,)
        When each look was. [s]
    values : sequence of float, shape (n,)
        What was seen.
    """
    times, seen = np.asarray(seconds, float), np.asarray(values, float)
    width = min(300.0, (times[-1] - times[0]) / 8)
    bins = ((times - times[0]) // width).astype(int)
    kept = np.unique(bins)
    middle_times = [float(np.median(times[bins == one])) / 3600 for one in kept]
    middles = [float(np.median(seen[bins == one])) for one in kept]
    found = theilslopes(middles, middle_times, 0.95)
    return Slope(*(round(float(each), 4) for each in (found[0], found[2], found[3])))


def recovery(
    lags: Sequence[tuple[float, float]], ended: float, limit_s: float = LIMIT_S
) -> float | None:
    """Return how long after a fault's end the lag is small, and stays so. [s].

    Parameters
    ----------
    lags : sequence of (float, float)
        When it was looked, and how old the newest stored reading was. [s]
    ended : float
        When the fault was over. [s]
    limit_s : float
        What is small; three looks in a row have to be. [s]

    Returns
    -------
    float or None
        None if it never came back.
    """
    after = [(at, lag) for at, lag in lags if at >= ended]
    for place in range(len(after) - 2):
        if all(lag <= limit_s for _, lag in after[place : place + 3]):
            return round(after[place][0] - ended, 1)
    return None


def quiet(faults: Sequence[Row], at: float, rest_s: float = 60.0) -> bool:
    """Whether no fault is on at a time, nor was within the rest before."""
    return not any(
        each["began"] <= at <= (each.get("ended") or at) + rest_s for each in faults
    )


def analysed(rows: Sequence[Row], faults: Sequence[Row], warm_up_s: float) -> Row:
    """Return the figures of a run from its looks and its faults."""
    life = [row for row in rows if row["pid"] == rows[0]["pid"]]
    warm = [row for row in life if row["t"] >= warm_up_s]
    lags = [tuple(pair) for row in rows for pair in row["lags"]]
    calm = np.array([lag for at, lag in lags if quiet(faults, at)])
    at = [row["t"] for row in warm]
    found: Row = {
        "seconds": round(rows[-1]["t"]),
        "rows": len(rows),
        "slope_rss_mb_h": asdict(slope(at, [row["rss_mb"] for row in warm])),
        "slope_anon_mb_h": asdict(slope(at, [row["anon_mb"] for row in warm])),
        "slope_fds_h": asdict(slope(at, [row["fds"] for row in warm])),
        "rss_mb": [warm[0]["rss_mb"], warm[-1]["rss_mb"]],
        "rss_most_mb": max(row["rss_mb"] for row in rows),
        "fds": [warm[0]["fds"], warm[-1]["fds"]],
        "fds_most": max(row["fds"] for row in rows),
        "threads": [warm[0]["threads"], warm[-1]["threads"]],
        "cores": round(
            (life[-1]["cpu_s"] - life[0]["cpu_s"]) / (life[-1]["t"] - life[0]["t"]), 3
        ),
        "lag_looks": len(lags),
        "calm_lag_s": {
            "median": round(float(np.median(calm)), 2),
            "p99": round(float(np.percentile(calm, 99)), 2),
            "most": round(float(calm.max()), 2),
        },
        "lag_most_s": round(max(lag for _, lag in lags), 1),
        "recovery_s": {},
    }
    for each in faults:
        if each.get("ended") is not None:
            times = found["recovery_s"].setdefault(each["fault"], [])
            times.append(recovery(lags, each["ended"]))
    return found


def leaking(rows: Sequence[Row], mb_h: float = LEAK_MB_H) -> list[Row]:
    """Return the same rows as of a service that leaks."""
    return [
        {
            **row,
            "rss_mb": row["rss_mb"] + mb_h * row["t"] / 3600,
            "anon_mb": row["anon_mb"] + mb_h * row["t"] / 3600,
        }
        for row in rows
    ]


# --- the site ----------------------------------------------------------------


class Sender(threading.Thread):
    """Publishes every second what ten machines say, and notes what was taken.

    A second is noted when the broker has acknowledged all of it. While there is
    no broker it waits, and then sends what it owes with the stamps it had.
    """

    def __init__(self, port: int) -> None:
        super().__init__(name="sender", daemon=True)
        self.seconds: list[int] = []
        self.taken: list[float] = []
        self.error = ""
        self._over = threading.Event()
        self._connection = Connection(port=port, client_id="gateway")

    @property
    def messages(self) -> int:
        """How many the broker has."""
        return len(self.seconds) * UNITS * len(GROUPS)

    def run(self) -> None:
        """Publish until it is over."""
        second = now_ms() // 1000 * 1000 + 1000
        with Publisher(self._connection) as publisher:
            while not self._over.is_set():
                time.sleep(max(0.0, (second - now_ms()) / 1000))
                some = [
                    each for unit in range(UNITS) for each in messages(unit, second)
                ]
                try:
                    publisher.publish_all(some, timeout=180.0)
                except BrokerError as error:
                    self.error = str(error)
                    return
                self.seconds.append(second)
                self.taken.append(time.monotonic())
                second += 1000

    def finish(self) -> None:
        """End after the second that is on its way."""
        self._over.set()
        self.join()


@dataclass
class Extra:
    """What the faults have published beside the traffic."""

    good: dict[int, list[int]] = field(default_factory=dict)
    garbage: int = 0
    ahead: int = 0
    again: int = 0
    risked: set[int] = field(default_factory=set)

    @property
    def stored(self) -> int:
        """How many messages of it have to be in the archive."""
        return sum(map(len, self.good.values())) * len(GROUPS)


class Site:
    """The broker, the service, its traffic and its watchers."""

    def __init__(self, folder: Path, broker: servers.Server, archive: Path) -> None:
        self.folder, self.broker, self.archive = folder, broker, archive
        self.web = servers.free_port()
        self.config = folder / "plant.toml"
        self.config.write_text(
            plant(broker.port, self.web, archive / "rows", folder / "state"), "utf-8"
        )
        self.url = f"http://127.0.0.1:{self.web}"
        self.extra = Extra()
        self.lags: list[tuple[float, float]] = []
        self.page_lags: list[float] = []
        self.asked = self.refused = 0
        self.over = threading.Event()
        self.sender = Sender(broker.port)
        self.service: subprocess.Popen[bytes] | None = None
        self.began = time.monotonic()
        self._threads: list[threading.Thread] = []
        environ = {k: v for k, v in os.environ.items() if not k.startswith("HPTWIN_")}
        self.environ = {**environ, "PYTHONPATH": str(rig.ROOT)}

    @property
    def t(self) -> float:
        """Seconds since the beginning. [s]."""
        return time.monotonic() - self.began

    def hptwin(self, *given: str) -> list[str]:
        """Return a command of the product on this configuration."""
        command = [sys.executable, "-m", "twin.service.cli", *given]
        return [*command, "-c", str(self.config)]

    def start(self) -> None:
        """Start the service and wait until it is ready."""
        with (self.folder / "service.log").open("ab") as log:
            self.service = subprocess.Popen(
                self.hptwin("run"), env=self.environ, stdout=log, stderr=log
            )
        rig.until(self._alive, "the service answers", 120)

    def _alive(self) -> bool:
        if self.service is None or self.service.poll() is not None:
            raise rig.BlindError(f"the service ended:\n{self.log[-3000:]}")
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/healthz", trust_env=False).status_code == 200
        return False

    @property
    def log(self) -> str:
        """What the service has said."""
        return (self.folder / "service.log").read_text("utf-8", "replace")

    def stop(self) -> int:
        """End the service as a supervisor does, and return its code."""
        if self.service is None:
            return 0
        self.service.send_signal(signal.SIGTERM)
        try:
            code = self.service.wait(60)
        except subprocess.TimeoutExpired:
            self.service.kill()
            code = self.service.wait()
        self.service = None
        return code

    def watch(self) -> None:
        """Let the traffic and all who look begin."""
        self.sender.start()
        for look in (self._probe, self._listen, self._ask):
            thread = threading.Thread(target=look, daemon=True)
            thread.start()
            self._threads.append(thread)

    def end(self) -> None:
        """End all who look."""
        self.over.set()
        for thread in self._threads:
            thread.join(30)

    def reader(self) -> Archive:
        """Open the archive as another process does."""
        return open_archive(
            "parquet", directory=str(self.archive / "rows"), read_only=True
        )

    def _probe(self) -> None:
        """Look how old the newest stored reading is."""
        newest = now_ms()
        while not self.over.wait(PROBE_S):
            # What cannot be read now is as old as what was read last.
            with contextlib.suppress(Exception):
                with contextlib.closing(self.reader()) as archive:
                    start = rig.moment(newest - 5000)
                    stop = rig.moment(now_ms() + 60_000)
                    frame = archive.frame("hp0", start, stop, [POINTS[0]])
                if len(frame):
                    newest = max(newest, int(frame.index[-1].timestamp() * 1000))
            self.lags.append((round(self.t, 2), round((now_ms() - newest) / 1000, 3)))

    def _listen(self) -> None:
        """Listen to the page all the time, and note how old its news are."""
        while not self.over.is_set():
            with contextlib.suppress(httpx.HTTPError, ValueError):
                with httpx.stream(
                    "GET", f"{self.url}/events", timeout=60, trust_env=False
                ) as answer:
                    name = ""
                    for line in answer.iter_lines():
                        if self.over.is_set():
                            return
                        if line.startswith("event: "):
                            name = line.removeprefix("event: ")
                        elif line.startswith("data: ") and name == "values":
                            news = json.loads(line.removeprefix("data: "))
                            said = news.get("hp0", {}).get(POINTS[0])
                            if said:
                                self.page_lags.append(time.time() - said["time"])
            self.over.wait(1.0)

    def _ask(self) -> None:
        """Ask for a page every few seconds, as people who have it open do."""
        paths = ("/", "/unit/hp1", "/alarms", "/models", "/csv/kpis.csv")
        paths += ("/api/summary", "/api/live", "/api/quality", "/readyz")
        number = 0
        while not self.over.wait(5.0):
            number += 1
            self.asked += 1
            try:
                path = paths[number % len(paths)]
                answer = httpx.get(f"{self.url}{path}", timeout=20, trust_env=False)
                self.refused += answer.status_code >= 500 and path != "/readyz"
            except httpx.HTTPError:
                self.refused += 1

    def look(self) -> Row:
        """Return one row; what cannot be known now is not in it."""
        row: Row = {"t": round(self.t, 1), "published": self.sender.messages}
        if self.service is not None:
            # A process that is ending says less, and then nothing.
            with contextlib.suppress(OSError, KeyError):
                row |= {"pid": self.service.pid, **process(self.service.pid)}
            with contextlib.suppress(httpx.HTTPError, ValueError):
                answer = httpx.get(f"{self.url}/metrics", timeout=8, trust_env=False)
                row |= metrics(answer.text)
        lags, self.lags = self.lags, []
        ages, self.page_lags = self.page_lags, []
        return row | {
            "lags": lags,
            "page_lags": [round(age, 2) for age in ages],
            "asked": self.asked,
            "refused": self.refused,
        }


# --- the faults --------------------------------------------------------------


def _publish(site: Site, some: Sequence[tuple[str, str | bytes]], rate: float) -> int:
    """Publish beside the traffic, at a rate; the broker then has them."""
    connection = Connection(port=site.broker.port, client_id="beside")
    with Publisher(connection) as publisher:
        for first in range(0, len(some), 100):
            publisher.publish_all(some[first : first + 100], timeout=120)
            time.sleep(100 / rate)
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
    midnight = now_ms() // _DAY_MS * _DAY_MS - days * _DAY_MS
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


def _restarted(site: Site, chance: random.Random, scale: float) -> None:
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


# --- the run -----------------------------------------------------------------


def run(
    folder: Path,
    *,
    seed: int = 1,
    quick: bool = False,
    hours: float = HOURS,
    rows_to: Path | None = None,
) -> rig.Outcome:
    """Run it for hours (some seconds if quick), and judge what was seen."""
    outcome = rig.Outcome("soak", seed)
    seconds = 8.0 if quick else hours * 3600
    scale = 0.02 if quick else min(1.0, hours)
    chance = random.Random(seed)  # noqa: S311  not for secrets
    plan = schedule(seed, seconds, 1 if quick or hours < 1 else 3)
    if quick:
        plan = [(at, name) for at, name in plan if name not in _LONG]
    (folder / "broker").mkdir()
    rows: list[Row] = []
    faults: list[Row] = []
    kept = "autosave_on_changes true\nautosave_interval 1"
    with (
        disk.volume(folder / "disk", _DISK_MB) as volume,
        servers.mosquitto(folder / "broker", kept) as broker,
        (rows_to or folder / "rows.jsonl").open("w", encoding="utf-8") as file,
    ):
        site = Site(folder, broker, volume.folder)
        try:
            site.start()
            site.watch()
            site.began = time.monotonic()
            looker = _Looker(site, rows, file, 1.0 if quick else LOOK_S)
            looker.start()
            for at, name in [*plan, (0.93 * seconds, "service restarted")]:
                time.sleep(max(0.0, at - site.t))
                looker.note(faults, name, "began")
                fault = FAULTS.get(name, _restarted)
                try:
                    fault(site, chance, scale)
                except (BrokerError, OSError, subprocess.SubprocessError) as error:
                    outcome.promise(f"{name} at {at:.0f} s: {error}", kept=False)
                looker.note(faults, name, "ended")
                outcome.faults += 1
            time.sleep(max(0.0, seconds - site.t))
            site.sender.finish()
            outcome.promise(
                f"the traffic never ended: {site.sender.error}",
                kept=not site.sender.error,
            )
            settled = _settled(site)
            looker.finish()
            site.end()
            _account(outcome, site, settled)
        finally:
            site.over.set()
            site.stop()
    warm = WARM_UP_S if hours > 1 and not quick else 0.3 * seconds
    _judge(outcome, rows, faults, warm, quick=quick)
    return outcome


_LONG = frozenset({"other readers", "slow readers"})


class _Looker(threading.Thread):
    """Writes a row every few seconds, and what is done in between."""

    def __init__(
        self, site: Site, rows: list[Row], file: TextIO, every_s: float
    ) -> None:
        super().__init__(name="looker", daemon=True)
        self._site, self._rows, self._file = site, rows, file
        self._every_s = every_s
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._now = ""

    def run(self) -> None:
        while not self._over.wait(self._every_s):
            self._look()

    def finish(self) -> None:
        self._over.set()
        self.join()
        self._look()

    def note(self, faults: list[Row], name: str, what: str) -> None:
        at = round(self._site.t, 1)
        if what == "began":
            faults.append({"fault": name, "began": at, "ended": None})
            self._now = name
        else:
            faults[-1]["ended"] = at
            self._now = ""
        self._write({"fault": name, what: at})
        rig.say(f"{at:7.1f} s: {name} {what}")

    def _look(self) -> None:
        row = self._site.look() | {"on": self._now}
        self._write(row)
        if "rss_mb" in row:
            self._rows.append(row)

    def _write(self, row: Row) -> None:
        with self._lock:
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()


def _settled(site: Site, idle_s: float = 30.0) -> dict[str, float]:
    """Wait until nothing waits and nothing moves; return the last counts."""
    wanted = site.sender.messages + site.extra.stored
    last: dict[str, float] = {}
    since = time.monotonic()
    while time.monotonic() - since < idle_s:
        with contextlib.suppress(httpx.HTTPError):
            answer = httpx.get(f"{site.url}/metrics", timeout=8, trust_env=False)
            found = metrics(answer.text)
            if found.get("received") != last.get("received"):
                since = time.monotonic()
            last = found
            if found.get("stored", 0) >= wanted and not found["in_flight"]:
                break
        time.sleep(0.3)
    return last


def _account(outcome: rig.Outcome, site: Site, counts: Mapping[str, float]) -> None:
    """Compare what is stored with what was published, by instant and value."""
    extra, published = site.extra, site.sender.messages + site.extra.stored
    lost: list[tuple[int, int]] = []
    wrong = 0
    again = 0
    with contextlib.closing(site.reader()) as archive:
        for unit in range(UNITS):
            missed, differs, blind = _compared(
                archive, unit, [*site.sender.seconds, *extra.good.get(unit, ())]
            )
            lost += [(unit, at) for at in missed]
            wrong, again = wrong + differs, again + blind
    whole = {key: int(number) for key, number in counts.items() if key in _PLACES}
    outcome.checked = published
    by_broker = [each for each in lost if each[1] in extra.risked]
    lost = [each for each in lost if each[1] not in extra.risked]
    outcome.lost = len(lost)
    outcome.figures |= {
        "published": published,
        "garbage": extra.garbage,
        "ahead": extra.ahead,
        "sent_again": extra.again,
        "wrong": wrong,
        "lost": lost[:50],
        "seconds_at_risk_in_a_killed_broker": len(extra.risked),
        "lost_by_a_killed_broker": len(by_broker),
        "counts": whole,
        "pages_asked": site.asked,
        "pages_refused": site.refused,
    }
    outcome.control |= {"one_message_taken_lost": again}
    promise = outcome.promise
    promise(f"0 lost, not {len(lost)}", kept=not lost)
    promise(f"0 wrong values, not {wrong}", kept=wrong == 0)
    stored = whole.get("stored", 0)
    promise(
        f"each is stored once: {stored} of {published}",
        kept=published - len(by_broker) <= stored <= published,
    )
    promise("all garbage is counted", kept=whole.get("rejected", 0) >= extra.garbage)
    promise("all ahead is counted", kept=whole.get("quarantined", 0) >= extra.ahead)
    promise("all sent again is counted", kept=whole.get("duplicate", 0) >= extra.again)
    promise(
        "the counts balance",
        kept=whole.get("received", -1) == sum(whole.get(k, 0) for k in _PLACES[1:]),
    )
    promise("a message that was taken is missed", kept=again == UNITS)


_PLACES = (
    "received",
    "stored",
    "duplicate",
    "quarantined",
    "rejected",
    "in_flight",
)


def _compared(
    archive: Archive, unit: int, times: Sequence[int]
) -> tuple[list[int], int, int]:
    """Return which are lost, how many wrong; and how many more, were one taken.

    An instant is lost once for each message of it that has a value missing.
    """
    lost: list[int] = []
    wrong = taken = 0
    for group in GROUPS:
        values, _ = archive.flagged(f"hp{unit}", *rig.EVER, group)
        missed: set[int] = set()
        for point in group:
            found = _column(values[point])
            gone = {at for at in times if at not in found}
            missed |= gone
            wrong += sum(
                found[at] != value(unit, point, at) for at in times if at in found
            )
            wrong += len(found.keys() - set(times))
            if point == POINTS[0]:
                found.pop(next(at for at in times if at in found))
                taken = sum(at not in found for at in times) - len(gone)
        lost += sorted(missed)
        gc.collect()
    return lost, wrong, taken


def _column(cells: pd.Series[float]) -> dict[int, float]:
    """Return a point's values by their times in ms."""
    kept = cells.dropna()
    times = kept.index.to_numpy("datetime64[ms]").astype(np.int64)
    return dict(zip(times.tolist(), kept.tolist(), strict=True))


def _judge(
    outcome: rig.Outcome,
    rows: Sequence[Row],
    faults: Sequence[Row],
    warm_up_s: float,
    *,
    quick: bool,
) -> None:
    """Note what the rows say, and whether an injected leak would be seen."""
    figures = analysed(rows, faults, warm_up_s)
    leaky = analysed(leaking(rows), faults, warm_up_s)
    outcome.figures |= figures
    outcome.control["slope_with_a_leak_mb_h"] = leaky["slope_anon_mb_h"]
    never = [name for name, times in figures["recovery_s"].items() if None in times]
    if quick:
        return
    outcome.promise(f"it recovers from every fault, not {never}", kept=not never)
    found = figures["slope_anon_mb_h"]
    outcome.promise(
        f"memory grows by less than {LEAK_MB_H:g} MB/h: {found}",
        kept=found["high"] < LEAK_MB_H,
    )
    outcome.promise(
        "a leak that is injected is found",
        kept=leaky["slope_anon_mb_h"]["high"] >= LEAK_MB_H,
    )
    begin, end = figures["fds"]
    outcome.promise(f"descriptors stay: {begin} and {end}", kept=end <= begin + 2)


def read(path: Path) -> tuple[list[Row], list[Row]]:
    """Return the rows and the faults of a run, also of one that was cut short."""
    rows: list[Row] = []
    faults: list[Row] = []
    for line in path.read_text("utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if "began" in row:
            faults.append({"fault": row["fault"], "began": row["began"], "ended": None})
        elif "ended" in row:
            faults[-1]["ended"] = row["ended"]
        elif "rss_mb" in row:
            rows.append(row)
    return rows, faults


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.soak")
    parser.add_argument("--hours", type=float, default=HOURS)
    parser.add_argument("--out", type=Path, help="where the rows go, as JSON lines")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="the result as one object")
    parser.add_argument("--folder", type=Path, help="a new one, that stays")
    given = parser.parse_args()
    if given.folder is not None:
        given.folder.mkdir()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        outcome = run(
            given.folder or Path(folder),
            seed=given.seed,
            hours=given.hours,
            rows_to=given.out,
        )
    print(json.dumps(asdict(outcome), indent=None if given.json else 1))  # noqa: T201
    sys.exit(1 if outcome.broken else 0)


if __name__ == "__main__":
    _main()
