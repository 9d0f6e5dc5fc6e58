"""People at the page: each has its live stream open and asks for a page now and then.

By sockets and threads, so that a hundred of them cost less than what they ask.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np

_TIMEOUT_S = 60.0
# Each is told the same; some are listened to closely.
_CLOSELY = 10


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request: asked when (monotonic), how long until its last byte.

    ``status`` is 0 where no whole answer came.
    """

    at: float
    path: str
    took_s: float
    status: int
    size: int

    @property
    def failed(self) -> bool:
        """Whether somebody would call it broken."""
        return not self.status or self.status >= 500


class Listener:
    """One live stream; ``end`` is how it ended, ``ages`` how old its news were."""

    def __init__(self, url: str, *, closely: bool) -> None:
        self.events = 0
        self.ages: list[tuple[float, float]] = []
        self.end = ""
        self._closely = closely
        self._line = _line(url)
        self._line.request("GET", "/events", headers={"accept": "text/event-stream"})
        self._answer = self._line.getresponse()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        name = b""
        try:
            while line := self._answer.readline():
                if line.startswith(b"event: "):
                    name = line[7:].strip()
                    self.events += name == b"values"
                elif self._closely and name == b"values" and line.startswith(b"data: "):
                    self._note(json.loads(line[6:]))
        except (OSError, http.client.HTTPException) as error:
            self.end = f"{type(error).__name__}: {error}"
        else:
            self.end = "whole"

    def _note(self, units: dict[str, dict[str, dict[str, float]]]) -> None:
        newest = max(
            said["time"] for points in units.values() for said in points.values()
        )
        self.ages.append((time.monotonic(), time.time() - newest))

    def close(self) -> None:
        """Wait for the end of the stream, which is the page's to make."""
        self._thread.join(timeout=_TIMEOUT_S)
        self._line.close()


class Reader:
    """Asks for one page after another on a connection that is kept."""

    def __init__(
        self,
        url: str,
        choose: Callable[[np.random.Generator], str],
        every_s: float,
        seed: Sequence[int],
    ) -> None:
        self.answers: list[Answer] = []
        self.reconnected = 0
        self._line = _line(url)
        self._choose, self._every_s = choose, every_s
        self._chance = np.random.default_rng(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._over.wait(float(self._chance.exponential(self._every_s))):
            self.answers.append(self._ask(self._choose(self._chance)))

    def _ask(self, path: str) -> Answer:
        began = time.monotonic()
        kept = self._line.sock is not None
        try:
            try:
                status, size = self._once(path)
            except (ConnectionError, http.client.BadStatusLine):
                # A server may close a line that was quiet for long, and whoever
                # meets that asks once more on a new one, as every browser does.
                if not kept:
                    raise
                self._line.close()
                self.reconnected += 1
                status, size = self._once(path)
        except (OSError, http.client.HTTPException):
            self._line.close()
            status = size = 0
        return Answer(began, path, time.monotonic() - began, status, size)

    def _once(self, path: str) -> tuple[int, int]:
        self._line.request("GET", path)
        answer = self._line.getresponse()
        return answer.status, len(answer.read())

    def stop(self) -> None:
        """Ask for no more; what was asked is waited for."""
        self._over.set()

    def close(self) -> None:
        """Wait for the last answer."""
        self._thread.join(timeout=_TIMEOUT_S)
        self._line.close()


class Crowd:
    """So many readers, each with a live stream; they begin at once."""

    def __init__(
        self,
        url: str,
        number: int,
        choose: Callable[[np.random.Generator], str],
        *,
        every_s: float,
        seed: int,
    ) -> None:
        self.listeners = [
            Listener(url, closely=one < _CLOSELY) for one in range(number)
        ]
        self.readers = [
            Reader(url, choose, every_s, (seed, one)) for one in range(number)
        ]

    def stop(self) -> list[Answer]:
        """Let them ask for no more; return all answers in the order of asking."""
        for reader in self.readers:
            reader.stop()
        for reader in self.readers:
            reader.close()
        answers = [answer for reader in self.readers for answer in reader.answers]
        return sorted(answers, key=lambda answer: answer.at)

    def leave(self) -> None:
        """Wait until the page has ended every stream."""
        for listener in self.listeners:
            listener.close()


def _line(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    return http.client.HTTPConnection(
        str(parts.hostname), parts.port, timeout=_TIMEOUT_S
    )
