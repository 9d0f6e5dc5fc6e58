"""A site of ten heat pumps: its telemetry, the whole service, and who looks at it.

``hptwin run`` as it is shipped, in a process of its own, with a broker and an
archive on a disk of its own. What a point says is a function of its time, so
that whatever is stored can be compared with what was sent.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import servers

from ingest.archive import Archive, open_archive
from ingest.broker import BrokerError, Connection, Publisher

from . import looks, rig

UNITS = 10
PROBE_S = 2.0
ASK_S = 5.0
DAY_MS = 86_400_000

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
        return middle + 150.0 * (time_ms % (100 * DAY_MS))
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
        self._withholding = threading.Event()
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
                if self._withholding.is_set():
                    some.pop()
                    self._withholding.clear()
                try:
                    publisher.publish_all(some, timeout=180.0)
                except BrokerError as error:
                    self.error = str(error)
                    return
                self.seconds.append(second)
                self.taken.append(time.monotonic())
                second += 1000

    def withhold(self) -> None:
        """Leave one message of the next second out, and note it all the same."""
        self._withholding.set()
        rig.until(lambda: not self._withholding.is_set(), "a message is withheld")

    def finish(self) -> None:
        """End after the second that is on its way."""
        self._over.set()
        self.join()


@dataclass
class Extra:
    """What the faults have published beside the traffic.

    ``good`` are the times of messages that are to be stored, by unit. The others
    are counted: garbage, stamps that lie ahead, and what was sent again. ``risked``
    are the seconds that a broker may have taken to its grave.
    """

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
        self.began = 0.0
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
        """Let the traffic and all who look begin; time counts from here."""
        self.began = time.monotonic()
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
                self._hear()
            self.over.wait(1.0)

    def _hear(self) -> None:
        name, url = "", f"{self.url}/events"
        with httpx.stream("GET", url, timeout=60, trust_env=False) as answer:
            for line in answer.iter_lines():
                if self.over.is_set():
                    return
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: ") and name == "values":
                    news = json.loads(line.removeprefix("data: "))
                    if said := news.get("hp0", {}).get(POINTS[0]):
                        self.page_lags.append(time.time() - said["time"])

    def _ask(self) -> None:
        """Ask for a page every few seconds, as people who have it open do."""
        paths = ("/", "/unit/hp1", "/alarms", "/models", "/csv/kpis.csv")
        paths += ("/api/summary", "/api/live", "/api/quality", "/readyz")
        number = 0
        while not self.over.wait(ASK_S):
            number += 1
            self.asked += 1
            try:
                path = paths[number % len(paths)]
                answer = httpx.get(f"{self.url}{path}", timeout=20, trust_env=False)
                self.refused += answer.status_code >= 500 and path != "/readyz"
            except httpx.HTTPError:
                self.refused += 1

    def look(self) -> looks.Row:
        """Return one row; what cannot be known now is not in it."""
        row: looks.Row = {"t": round(self.t, 1), "published": self.sender.messages}
        if self.service is not None:
            # A process that is ending says less, and then nothing.
            with contextlib.suppress(OSError, KeyError):
                row |= {"pid": self.service.pid, **looks.process(self.service.pid)}
            with contextlib.suppress(httpx.HTTPError, ValueError):
                answer = httpx.get(f"{self.url}/metrics", timeout=8, trust_env=False)
                row |= looks.metrics(answer.text)
        lags, self.lags = self.lags, []
        ages, self.page_lags = self.page_lags, []
        return row | {
            "lags": lags,
            "page_lags": [round(age, 2) for age in ages],
            "asked": self.asked,
            "refused": self.refused,
        }
