"""The service in a process of its own, by a clock that it is told.

All of it is the product's: broker, journal, archive, judgement, alarms and
delivery. It looks when it is asked to, by a line of JSON on standard input with
the time and how many messages must be stored by then, and answers with one:
how many times people were asked so far, and which cases are open. What a
control switches off is switched off here, and nothing in the product knows.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

from ingest.broker import Connection
from twin.service import silence
from twin.service.alarms import TWIN
from twin.service.config import ArchiveConfig, NotifyConfig, WebConfig, load
from twin.service.run import Service

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Plan:
    """How the service is set up; ``grouping`` is whether a common cause is one."""

    file: str
    folder: str
    port: int
    url: str
    at: str
    grouping: bool = True


class Station:
    """A service to be asked, ended and killed; the parent's side."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed with the rest
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.campaigns.station", json.dumps(asdict(plan))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=ROOT,
        )
        self.answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.kill()

    def ask(self, at: datetime, stored: int = 0) -> None:
        """Ask for a look, and do not wait for it."""
        assert self._process.stdin is not None
        question = json.dumps({"at": at.isoformat(), "stored": stored})
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Wait for what a look has found."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            said = self._log.read().decode()[-3000:]
            raise RuntimeError(f"the service ended:\n{said}")
        return dict(json.loads(line))

    def look(self, at: datetime, stored: int = 0) -> dict[str, Any]:
        """Look at the plant at a time, when so many messages are stored."""
        self.ask(at, stored)
        return self.answer()

    def end(self) -> int:
        """End it as a supervisor does; return its exit code."""
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(60)
        self._close()
        return code

    def kill(self) -> None:
        """End it with signal 9."""
        self._process.kill()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout, self._log):
            assert stream is not None
            stream.close()


class Here:
    """The same in this process, for the suite: soon there, and not to be killed."""

    def __init__(self, plan: Plan) -> None:
        self._clock = [datetime.fromisoformat(plan.at)]
        self._service = _made(plan, self._clock)
        self._service.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._service.stop()

    def look(self, at: datetime, stored: int = 0) -> dict[str, Any]:
        """Look at the plant at a time, when so many messages are stored."""
        return _looked(self._service, self._clock, at, stored)

    def end(self) -> int:
        """End it."""
        self._service.stop()
        return 0


def serve(plan: Plan) -> None:
    """Run the service; look when asked."""
    if not plan.grouping:
        grouped = silence.findings

        def alone(silent: Any, units: Any, now: Any, together: Any, **more: Any) -> Any:
            return grouped(silent, units, now, timedelta(seconds=-1), **more)

        silence.findings = alone
    clock = [datetime.fromisoformat(plan.at)]
    signal.signal(signal.SIGTERM, _end)
    with _made(plan, clock) as service:
        _say({"ready": True})
        for line in sys.stdin:
            asked = json.loads(line)
            at = datetime.fromisoformat(asked["at"])
            _say(_looked(service, clock, at, asked["stored"]))


def _made(plan: Plan, clock: list[datetime]) -> Service:
    folder = Path(plan.folder)
    config = replace(
        load(Path(plan.file), {}),
        mqtt=Connection(port=plan.port, client_id="hptwin-worst"),
        archive=ArchiveConfig(path=folder / "archive"),
        state_dir=folder / "state",
        web=WebConfig(port=0),
        notify=NotifyConfig(urls=(plan.url,)),
    )
    return Service(config, clock=lambda: clock[0], judge_every=1e6, deliver_every=1e6)


def _looked(
    service: Service, clock: list[datetime], at: datetime, stored: int
) -> dict[str, Any]:
    _stored(service, stored)
    service.show()
    clock[0] = at
    service.judge()
    service.deliver()
    return {
        "told": sum(
            entry.actor == TWIN and bool(entry.detail.get("told"))
            for entry in service.alarms.history(10**6)
        ),
        "open": [case.key for case in service.alarms.cases()],
    }


def _stored(service: Service, number: int) -> None:
    end = time.monotonic() + 300.0
    while number and service.intake.counts().stored < number:
        if time.monotonic() > end:
            counts = service.intake.counts()
            raise TimeoutError(f"{number} messages were to be stored: {counts}")
        time.sleep(0.01)


def _end(*_: object) -> None:
    raise SystemExit(0)


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve(Plan(**json.loads(sys.argv[1])))
