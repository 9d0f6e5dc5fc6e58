"""Whether the service's loops go round, and telling systemd so.

A process can be there and do nothing: a thread waits for a lock, a scheduler
has stopped firing. So every loop says each time that it came round, and one
that has not for too long is dead, whatever else is alive. ``/healthz`` and the
supervisor's watchdog are told by the same list. What lies outside, a broker or
a database that is away, stops no loop: each goes round and tries again.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Self

_log = logging.getLogger(__name__)


class Rounds:
    """When each loop last came round.

    Parameters
    ----------
    clock : callable
        Seconds that only ever grow. [s]

    Examples
    --------
    >>> now = [0.0]
    >>> rounds = Rounds(lambda: now[0])
    >>> rounds.expect("judge", 600.0)
    >>> now[0] = 601.0
    >>> rounds.overdue()
    ['judge has not come round for 601 s; at most 600 s are expected']
    >>> rounds.beat("judge")
    >>> rounds.overdue()
    []
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._limits: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def expect(self, loop: str, within_s: float) -> None:
        """Mind a loop from now on, which comes round within so many seconds."""
        with self._lock:
            self._limits[loop] = within_s
            self._last[loop] = self._clock()

    def beat(self, loop: str) -> None:
        """Note that a loop has come round; one that nobody minds is ignored."""
        with self._lock:
            if loop in self._limits:
                self._last[loop] = self._clock()

    def ages(self) -> dict[str, float]:
        """Return for how many seconds each loop has not come round."""
        return {loop: age for loop, (age, _) in self._seen().items()}

    def overdue(self) -> list[str]:
        """Return a sentence for each loop that should have come round by now."""
        return [
            f"{loop} has not come round for {age:.0f} s;"
            f" at most {limit:.0f} s are expected"
            for loop, (age, limit) in self._seen().items()
            if age > limit
        ]

    def _seen(self) -> dict[str, tuple[float, float]]:
        with self._lock:
            now = self._clock()
            return {
                loop: (now - last, self._limits[loop])
                for loop, last in self._last.items()
            }


def _nothing() -> Sequence[str]:
    return ()


class Supervisor:
    """systemd, told over its datagram socket; silent where there is none.

    The protocol is sd_notify(3): one datagram of ``NAME=value`` lines. A
    service that cannot reach its supervisor goes on; the log says so once.

    Parameters
    ----------
    address : str
        Of the socket; "@" begins an abstract one. Empty: there is nobody.
    within_s : float
        How long systemd waits for a sign of life; 0 if it does not. [s]
    """

    def __init__(self, address: str = "", within_s: float = 0.0) -> None:
        self._address = address
        self._within_s = within_s
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._reached = True
        self._said = ""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """Return the supervisor that an environment names, or nobody.

        ``WATCHDOG_PID`` says whom the watchdog is meant for: a variable
        inherited from a supervised parent is none of ours.
        """
        address = environ.get("NOTIFY_SOCKET", "")
        micros = environ.get("WATCHDOG_USEC", "")
        ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        within = int(micros) / 1e6 if ours and micros.isdecimal() else 0.0
        return cls(address, within)

    def ready(self) -> None:
        """Say that starting is over."""
        self._tell("READY=1")

    def watch(
        self,
        deaths: Callable[[], Sequence[str]],
        problems: Callable[[], Sequence[str]] = _nothing,
    ) -> None:
        """Give a sign of life twice a period, as long as nothing is dead.

        Parameters
        ----------
        deaths : callable
            Why the service should be restarted; while it names a reason there
            is no sign of life, and systemd does the rest.
        problems : callable
            Why it is not ready; ``systemctl status`` shows it.
        """
        if not self._address:
            return

        def go_round() -> None:
            while True:
                dead = list(deaths())
                if not dead and self._within_s:
                    self._tell("WATCHDOG=1")
                try:
                    said = [*dead, *problems()]
                except Exception as error:  # noqa: BLE001
                    # A state that cannot be read is told, and is no death.
                    said = [*dead, f"{type(error).__name__}: {error}"]
                self._status("; ".join(said) or "ready")
                if self._ended.wait(self._within_s / 2 or 10.0):
                    return

        self._thread = threading.Thread(
            target=go_round, name="hptwin-watchdog", daemon=True
        )
        self._thread.start()

    def stopping(self) -> None:
        """Say that the end has begun; there are no signs of life after it."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0)
        self._tell("STOPPING=1")

    def _status(self, sentence: str) -> None:
        line = " ".join(sentence.split())
        if line != self._said:
            self._tell(f"STATUS={line}")
            self._said = line

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        place = self._address
        if place.startswith("@"):
            place = "\0" + place[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
                line.settimeout(1.0)
                line.connect(place)
                line.send(text.encode())
        except OSError as error:
            if self._reached:
                _log.warning("systemd is not reached at %s: %s", self._address, error)
            self._reached = False
        else:
            self._reached = True
