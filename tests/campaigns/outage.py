"""The archive is away for ten minutes at 2,000 messages a second.

A real InfluxDB behind nginx: half of the time it hangs (stopped by a signal,
so that connections are taken and nothing answers), half of the time it is
gone. What waits is on the disk and not in memory, and is worked off in its
order while the traffic goes on. The control gives up what the archive does
not take.
"""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import servers

from . import rig

RATE = 2000.0
UNITS = 20
GROWTH_MB = 64.0
CATCH_UP = 5.0


def run(
    folder: Path, *, seed: int = 1, quick: bool = False, dropping: bool = False
) -> rig.Outcome:
    """Take it away for 10 minutes (5 seconds if quick)."""
    outcome = rig.Outcome("outage", seed)
    warm_s, away_s = (1.0, 5.0) if quick else (20.0, 600.0)
    if dropping:
        warm_s, away_s = 0.5, 2.0
    (folder / "influxd").mkdir()
    over = threading.Event()
    with (
        servers.influxd(folder / "influxd") as influx,
        rig.set_up(
            folder,
            units=UNITS,
            archive={
                "kind": "influxdb",
                "url": influx.url,
                "database": "campaign",
                "timeout_s": 1.0 if quick or dropping else 10.0,
            },
            dropping=dropping,
            log_order=True,
        ) as (_, service, stream),
    ):
        service.start()
        watch = _Watch(service)
        sender = threading.Thread(
            target=stream.send, args=(10**9,), kwargs={"rate": RATE, "over": over}
        )
        sender.start()
        try:
            time.sleep(warm_s)
            rig.until(lambda: service.counts().stored > 1000, "messages are stored")
            watch.begin()
            _hang(influx, away_s / 2)
            outcome.faults += 1
            influx.server.stop()
            time.sleep(away_s / 2)
            said = service.problem
            outcome.promise("the health says so", kept=said or dropping)
            waiting = service.counts().in_flight
            rig.say(f"away for {away_s} s; {waiting} messages wait: {said}")
            influx.server.start()
            outcome.faults += 1
            caught_up = _catch_up(service, waiting) if not dropping else 0.0
        finally:
            over.set()
            sender.join()
        watch.end()
        if not dropping:
            outcome.figures |= {
                "away_s": away_s,
                "waited": waiting,
                "catch_up_per_s": round(caught_up),
                "catch_up_to_live": round(caught_up / RATE, 1),
                "rss_before_mb": round(watch.before),
                "rss_growth_mb": round(watch.growth, 1),
                "journal_mb": round(
                    Path(service.plan.journal).stat().st_size / 2**20, 1
                ),
            }
            outcome.promise(
                f"memory grows by at most {GROWTH_MB} MB: {watch.growth:.0f}",
                kept=watch.growth <= GROWTH_MB,
            )
        rig.account(outcome, service, stream)
        disorder = service.folder / "disorder"
        outcome.promise(
            "each series is written in the order of its times",
            kept=not disorder.exists(),
        )
    return outcome


def whole(folder: Path, *, seed: int = 1, quick: bool = False) -> rig.Outcome:
    """Run the campaign; hold the long one to its speed, too."""
    outcome = run(folder, seed=seed, quick=quick)
    ratio = outcome.figures["catch_up_to_live"]
    outcome.promise(
        f"catch-up is {CATCH_UP} times the live rate: {ratio}",
        kept=quick or ratio >= CATCH_UP,
    )
    return outcome


def control(folder: Path, *, seed: int = 1, quick: bool = False) -> rig.Outcome:
    """Give up what the archive does not take: this must lose."""
    return run(folder, seed=seed, quick=quick, dropping=True)


def _hang(influx: servers.Influx, seconds: float) -> None:
    assert influx.server.process is not None
    influx.server.process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        influx.server.process.send_signal(signal.SIGCONT)


def _catch_up(service: rig.Ingester, waiting: int) -> float:
    """Wait until the backlog is gone; return how fast it was, the live included."""
    before = service.counts().stored
    rig.until(lambda: service.counts().stored > before, "it goes on", 60)
    began, first = time.monotonic(), service.counts().stored
    rig.until(lambda: service.counts().in_flight < RATE, "it catches up", 1800)
    return (service.counts().stored - first) / (time.monotonic() - began)


class _Watch:
    """Looks at the memory of the ingester twice a second."""

    def __init__(self, service: rig.Ingester) -> None:
        self._service = service
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.before = 0.0
        self._most = 0.0

    @property
    def growth(self) -> float:
        """By how much it has grown since the beginning, at most. [MB]."""
        return self._most - self.before

    def begin(self) -> None:
        self.before = self._most = self._service.rss_mb()
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.5):
            self._most = max(self._most, self._service.rss_mb())


if __name__ == "__main__":
    rig.command("outage", whole, control)
