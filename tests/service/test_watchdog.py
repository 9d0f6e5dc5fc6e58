"""The watchdog is fed by loops that go round, and by nothing else.

The supervisor is a datagram socket of the test's own, as systemd's is; the
service, its threads and its broker are real. Only elapsed time is made up.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import servers

from ingest.broker import Publisher
from twin.service.config import ArchiveConfig, Config, WebConfig, load
from twin.service.run import Service
from twin.service.watchdog import Rounds, Supervisor

PLANT = Path(__file__).resolve().parents[2] / "deploy" / "plant.toml"


def until_true(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Wait for what another thread does; False if it never does."""
    gives_up = time.monotonic() + seconds
    while time.monotonic() < gives_up:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


class Systemd:
    """A notification socket, and what came in on it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.told: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        place = "\0" + address[1:] if address.startswith("@") else address
        self._socket.bind(place)
        self._socket.settimeout(0.05)

    def hears(self, text: str) -> bool:
        """Take in what has come, and say whether it has been told this."""
        try:
            while True:
                self.told.append(self._socket.recv(4096).decode())
        except TimeoutError:
            return text in self.told

    def close(self) -> None:
        """Go away."""
        self._socket.close()


@pytest.fixture(params=["a file", "an abstract name"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    """Listen as systemd does, at a file or at an abstract name."""
    made = Systemd(
        str(tmp_path / "notify")
        if request.param == "a file"
        else f"@hptwin-test-{os.getpid()}"
    )
    yield made
    made.close()


@pytest.fixture
def config(mosquitto: servers.Server, tmp_path: Path) -> Config:
    """Return the example plant at a real broker."""
    loaded = load(PLANT, {})
    return replace(
        loaded,
        mqtt=replace(loaded.mqtt, port=mosquitto.port),
        archive=ArchiveConfig(path=tmp_path / "archive"),
        state_dir=tmp_path / "state",
        web=WebConfig(port=0),
    )


def test_a_supervisor_hears_readiness_life_and_the_end(systemd: Systemd) -> None:
    """In this order, and nothing after the end."""
    supervisor = Supervisor(systemd.address, 0.1)
    supervisor.ready()
    supervisor.watch(lambda: [])
    assert until_true(lambda: systemd.hears("WATCHDOG=1"))
    supervisor.stopping()
    assert systemd.hears("STOPPING=1")
    number = len(systemd.told)
    time.sleep(0.3)
    systemd.hears("")

    assert systemd.told[0] == "READY=1"
    assert "STATUS=ready" in systemd.told
    assert systemd.told[-1] == "STOPPING=1"
    assert len(systemd.told) == number


def test_there_is_no_sign_of_life_from_the_dead(systemd: Systemd) -> None:
    """The status says why; life comes back with the loop."""
    dead = ["show has not come round"]
    supervisor = Supervisor(systemd.address, 0.1)
    supervisor.watch(lambda: dead)
    assert until_true(lambda: systemd.hears("STATUS=show has not come round"))
    time.sleep(0.3)
    assert not systemd.hears("WATCHDOG=1")
    dead.clear()
    assert until_true(lambda: systemd.hears("WATCHDOG=1"))
    supervisor.stopping()


@pytest.mark.parametrize("systemd", ["a file"], indirect=True)
def test_who_cannot_say_what_is_wrong_is_alive(systemd: Systemd) -> None:
    """A state that cannot be read is told in the status, and signs of life go on."""

    def problems() -> list[str]:
        raise OSError("disk I/O error")

    supervisor = Supervisor(systemd.address, 0.1)
    supervisor.watch(lambda: [], problems)
    assert until_true(lambda: systemd.hears("STATUS=OSError: disk I/O error"))
    assert until_true(
        lambda: systemd.hears("WATCHDOG=1") and systemd.told.count("WATCHDOG=1") > 2
    )
    supervisor.stopping()


def test_nobody_listening_harms_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a supervisor it is silent, with a lost one it says so once."""
    nobody = Supervisor.of({})
    nobody.watch(lambda: [])
    nobody.ready()
    nobody.stopping()
    assert caplog.text == ""
    lost = Supervisor(str(tmp_path / "gone"), 0.1)
    lost.ready()
    lost.stopping()

    assert caplog.text.count("systemd is not reached") == 1


def test_a_watchdog_that_is_meant_for_another_process_is_not_fed(
    systemd: Systemd,
) -> None:
    """WATCHDOG_PID says whose it is."""
    environ = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "100000"}
    other = Supervisor.of({**environ, "WATCHDOG_PID": str(os.getppid())})
    other.watch(lambda: [])
    assert until_true(lambda: systemd.hears("STATUS=ready"))
    time.sleep(0.2)
    assert not systemd.hears("WATCHDOG=1")
    other.stopping()
    ours = Supervisor.of({**environ, "WATCHDOG_PID": str(os.getpid())})
    ours.watch(lambda: [])
    assert until_true(lambda: systemd.hears("WATCHDOG=1"))
    ours.stopping()


def test_a_stuck_thread_is_a_death_and_an_absent_broker_is_none(
    config: Config, mosquitto: servers.Server
) -> None:
    """The one waits for a lock that nobody gives back, and is named; it comes back.

    Without a broker every loop goes round: not ready, and a restart mends nothing.
    """
    ahead = [0.0]
    service = Service(config, judge_every=0.1, deliver_every=0.1)
    service.rounds = Rounds(lambda: time.monotonic() + ahead[0])
    with service:

        def healthz() -> int:
            try:
                with urllib.request.urlopen(f"{service.page.url}/healthz") as answer:  # noqa: S310
                    return int(answer.status)
            except urllib.error.HTTPError as error:
                with error:
                    return error.code

        assert until_true(lambda: service.intake.health(0).connected)
        # Nothing is stuck: an hour of rounds that were not seen is made up for.
        ahead[0] += 3600.0
        assert until_true(lambda: service.deaths() == [])
        assert healthz() == 200
        with service.intake._judging:
            with Publisher(replace(config.mqtt, client_id="gateway")) as gateway:
                gateway.publish("dc/cdu1/t_hot_in", "31.5")
            assert until_true(lambda: service.intake.counts().in_flight == 1)
            time.sleep(0.6)  # it has now come to the lock, whatever it waited for
            ahead[0] += 3600.0
            assert until_true(lambda: len(service.deaths()) == 1)
            [reason] = service.deaths()
            assert reason.startswith("intake-archive has not come round for 36")
            assert healthz() == 503
        assert until_true(lambda: service.deaths() == [])
        assert healthz() == 200

        mosquitto.stop()
        assert until_true(lambda: service.problems() != [])
        ahead[0] += 3600.0
        assert until_true(lambda: service.deaths() == [])
        assert service.problems() != []
        assert healthz() == 200


@pytest.mark.parametrize("systemd", ["a file"], indirect=True)
def test_the_command_tells_its_supervisor(
    mosquitto: servers.Server, tmp_path: Path, systemd: Systemd
) -> None:
    """``hptwin run`` under a socket: ready, alive, ending on SIGTERM, code 0."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("HPTWIN_")}
    environ |= {
        "NOTIFY_SOCKET": systemd.address,
        "WATCHDOG_USEC": "200000",
        "HPTWIN_MQTT__PORT": str(mosquitto.port),
        "HPTWIN_WEB__PORT": "0",
        "HPTWIN_STATE__DIR": str(tmp_path / "state"),
        "HPTWIN_ARCHIVE__PATH": str(tmp_path / "archive"),
    }
    command = [sys.executable, "-m", "twin.service.cli", "run", "-c", str(PLANT)]
    with subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL) as process:
        assert until_true(lambda: systemd.hears("WATCHDOG=1"), 60.0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0

    assert systemd.hears("STOPPING=1")
    assert systemd.told[0] == "READY=1"
    assert systemd.told[-1] == "STOPPING=1"
