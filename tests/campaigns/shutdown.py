"""SIGTERM under load, with a browser's stream open: a clean end, nothing lost.

``python -m tests.campaigns.shutdown [--seed S] [--json]`` runs ``hptwin run``
beside a real mosquitto, sends it 2,000 messages a second, opens the page's live
stream over a socket, and sends SIGTERM at a random moment; the sender never
stops. Then the service is started again, takes in what the broker has kept for
it, and every message is looked for in the archive. The control comes back under
another client id, to which the broker owes nothing: this must lose.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import servers

from ingest.broker import Connection, Publisher
from twin.service.config import ArchiveConfig, WebConfig, load
from twin.service.run import Service

from . import rig

PLANT = rig.ROOT / "deploy" / "plant.toml"
POINT = "source_inlet_temp_degc"
RATE = 2000
WITHIN_S = 10.0
_T0_MS = 1_700_000_000_000


def run(
    folder: Path,
    *,
    seed: int = 1,
    quick: bool = False,
    client_id: str = "hptwin",
) -> rig.Outcome:
    """End it once; ``client_id`` is who comes back."""
    outcome = rig.Outcome("shutdown", seed)
    random = np.random.default_rng(seed)
    (folder / "broker").mkdir()
    with servers.mosquitto(folder / "broker") as broker:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("HPTWIN_")}
        environ |= {
            "PYTHONPATH": str(rig.ROOT),
            "HPTWIN_MQTT__PORT": str(broker.port),
            "HPTWIN_WEB__PORT": "0",
            "HPTWIN_STATE__DIR": str(folder / "state"),
            "HPTWIN_ARCHIVE__PATH": str(folder / "archive"),
        }
        command = [sys.executable, "-m", "twin.service.cli", "run", "-c", str(PLANT)]
        sender = Sender(broker.port)
        with subprocess.Popen(
            command, env=environ, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            url = _page(process)
            # What else it says must not fill the pipe.
            said: list[str] = []
            log = process.stderr
            ear = threading.Thread(target=lambda: said.extend(log))
            ear.start()
            browser = Browser(url)
            sender.start()
            rig.until(lambda: sender.sent > RATE / 2, "the load begins")
            rig.until(lambda: browser.events > 2, "the browser is told of values")
            time.sleep(float(random.uniform(0.0, 0.5 if quick else 3.0)))
            process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            outcome.faults += 1
            try:
                code = process.wait(timeout=60.0)
            finally:
                process.kill()
                ear.join()
            outcome.figures["ended_after_s"] = round(time.monotonic() - began, 2)
        time.sleep(0.3 if quick else 1.0)  # somebody goes on sending meanwhile
        sender.stop()
        browser.close()
        text = "".join(said)
        outcome.promise(f"exit code 0, not {code}: {text[-800:]}", kept=code == 0)
        outcome.promise(f"no traceback: {text[-800:]}", kept="Traceback" not in text)
        outcome.promise(
            f"the browser's stream ends as a stream does: {browser.end}",
            kept=browser.end == "whole",
        )
        _account(outcome, folder, broker.port, sender.sent, client_id)
    return outcome


def whole(folder: Path, *, seed: int = 1, quick: bool = False) -> rig.Outcome:
    """End it, and hold the end to its time."""
    outcome = run(folder, seed=seed, quick=quick)
    took = outcome.figures["ended_after_s"]
    outcome.promise(
        f"it ends within {WITHIN_S:g} s: {took}", kept=quick or took <= WITHIN_S
    )
    return outcome


def control(folder: Path, *, seed: int = 1, quick: bool = False) -> rig.Outcome:
    """Come back under another name: what the broker has kept is not for it."""
    return run(folder, seed=seed, quick=quick, client_id="somebody-else")


def _page(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("page "):
            return line.split()[1].rstrip(";")
    raise rig.BlindError("the service did not start")


def _account(
    outcome: rig.Outcome, folder: Path, port: int, sent: int, client_id: str
) -> None:
    """Start it again, and look for every message that the broker acknowledged."""
    loaded = load(PLANT, {})
    config = replace(
        loaded,
        mqtt=replace(loaded.mqtt, port=port, client_id=client_id),
        archive=ArchiveConfig(path=folder / "archive"),
        state_dir=folder / "state",
        web=WebConfig(port=0),
    )
    with Service(config, judge_every=1e6, deliver_every=1e6) as service:
        rig.until(lambda: service.intake.health(0).connected, "it is connected again")
        before, since = -1, time.monotonic()
        while service.counts()["stored"] < sent or service.counts()["in_flight"]:
            if (stored := service.counts()["stored"]) != before:
                before, since = int(stored), time.monotonic()
            if time.monotonic() - since > (15.0 if client_id == "hptwin" else 2.0):
                break
            time.sleep(0.05)
        counts = service.intake.counts()
        values, _ = service.archive.flagged("hp1", *rig.EVER, [POINT])
    cells = values[POINT].dropna()
    times = cells.index.tz_convert(None).to_numpy().astype("datetime64[ms]")
    found = dict(zip(times.astype(np.int64).tolist(), cells.tolist(), strict=True))
    wrong = sum(
        abs(found[at] - _value(n)) > 1e-9
        for n in range(sent)
        if (at := _T0_MS + 1000 * n) in found
    )
    lost = sum(_T0_MS + 1000 * n not in found for n in range(sent))
    outcome.checked += sent
    outcome.lost += lost
    outcome.figures |= {
        "published": sent,
        "received_twice": counts.duplicate,
        "wrong": wrong,
    }
    outcome.promise(f"0 lost, not {lost}", kept=lost == 0)
    outcome.promise(f"0 wrong, not {wrong}", kept=wrong == 0)
    outcome.promise("every message is in one place", kept=counts.balanced)


def _value(number: int) -> float:
    return 20.0 + number * 7919 % 1000 / 100


class Sender:
    """A gateway that does not stop; ``sent`` is what the broker has."""

    def __init__(self, port: int) -> None:
        self.sent = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._port = port

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, with everything acknowledged."""
        self._over.set()
        self._thread.join()

    def _send(self) -> None:
        began = time.monotonic()
        with Publisher(Connection(port=self._port, client_id="gateway")) as gateway:
            while not self._over.is_set():
                some = range(self.sent, self.sent + 100)
                gateway.publish_all(("dc/hp1", self._message(n)) for n in some)
                self.sent = some.stop
                ahead = self.sent / RATE - (time.monotonic() - began)
                self._over.wait(max(0.0, ahead))

    @staticmethod
    def _message(number: int) -> str:
        time_ms = _T0_MS + 1000 * number
        stamp = rig.moment(time_ms).strftime("%Y-%m-%dT%H:%M:%SZ")
        return json.dumps({"ts": stamp, "t_src_in": _value(number)})


class Browser:
    """One that listens to the page's live stream; ``end`` is how it ended."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.events = 0
        self.end = ""
        self._line = http.client.HTTPConnection(
            str(parts.hostname), parts.port, timeout=60.0
        )
        self._line.request("GET", "/events", headers={"accept": "text/event-stream"})
        self._answer = self._line.getresponse()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        try:
            while line := self._answer.readline():
                self.events += line.startswith(b"event: values")
        except (OSError, http.client.HTTPException) as error:
            self.end = f"{type(error).__name__}: {error}"
        else:
            self.end = "whole"

    def close(self) -> None:
        """Wait for the end of the stream."""
        self._thread.join(timeout=60.0)
        self._line.close()


if __name__ == "__main__":
    rig.command("shutdown", whole, control)
