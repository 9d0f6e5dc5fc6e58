"""Two hours of the whole service under faults: memory, descriptors and lag.

``hptwin run`` between a real mosquitto and its archive; ten heat pumps send forty
messages of five readings each second, one client listens to the page all the time,
others ask for pages and metrics. Every few minutes something breaks, from a seed,
and at the end the service is ended and started again. Each look is a line of JSON,
so that a run which is cut short is one as far as it went, and can be drawn.

The controls: a leak of 5 MB/h put into the same rows must break the promise of a
flat memory, and a gateway that withholds one message must be caught.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

import httpx
import numpy as np
import pandas as pd
import pytest
import servers

from ingest.archive import Archive
from ingest.broker import BrokerError

from . import chart, disk, looks, rig
from .faults import FAULTS, restarted, schedule
from .site import GROUPS, UNITS, Site, value

HOURS = 2.0
LOOK_S = 10.0
WARM_UP_S = 1200.0
# What the quick run has no time for: each starts a process, or waits by the minute.
_LONG = frozenset({"other readers", "slow readers"})
_DISK_MB = 512
# As many as the page reads with at once.
_READERS = 40
_PLACES = ("received", "stored", "duplicate", "quarantined", "rejected", "in_flight")


def run(
    folder: Path,
    *,
    seed: int = 1,
    quick: bool = False,
    hours: float = HOURS,
    out: Path | None = None,
    withholding: bool = False,
) -> rig.Outcome:
    """Run it for hours (some seconds if quick), and judge what was seen."""
    outcome = rig.Outcome("soak", seed)
    seconds = 6.0 if quick else hours * 3600
    scale = 0.02 if quick else min(1.0, hours)
    chance = random.Random(seed)  # noqa: S311  not for secrets
    plan = schedule(seed, seconds, rounds=3 if hours >= 1 and not quick else 1)
    if quick:
        plan = [(at, name) for at, name in plan if name not in _LONG]
    else:
        plan.append((0.93 * seconds, looks.RESTART))
    path = out or folder / "rows.jsonl"
    (folder / "broker").mkdir()
    # A broker that keeps what it has said it has, as far as it can.
    kept = "autosave_on_changes true\nautosave_interval 1"
    with (
        disk.volume(folder / "disk", _DISK_MB) as volume,
        servers.mosquitto(folder / "broker", kept) as broker,
        path.open("w", encoding="utf-8") as file,
    ):
        site = Site(folder, broker, volume.folder)
        looker = _Looker(site, file, 0.5 if quick else LOOK_S)
        try:
            site.start()
            site.watch()
            looker.start()
            for at, name in plan:
                time.sleep(max(0.0, at - site.t))
                looker.note(name, "began")
                try:
                    FAULTS.get(name, restarted)(site, chance, scale)
                except (BrokerError, OSError, subprocess.SubprocessError) as error:
                    outcome.promise(f"{name} at {at:.0f} s: {error}", kept=False)
                looker.note(name, "ended")
                outcome.faults += 1
            time.sleep(max(0.0, seconds - site.t))
            if withholding:
                site.sender.withhold()
            site.sender.finish()
            counts = _settled(site, idle_s=2.0 if withholding else 10.0)
            looker.finish()
        finally:
            site.over.set()
            outcome.promise("it ends when it is told to", kept=site.stop() == 0)
            site.end()
        _account(outcome, site, counts)
    rows, faults = looks.read(path)
    _judge(outcome, rows, faults, quick=quick)
    return outcome


whole = run


def control(folder: Path, *, seed: int = 1, quick: bool = False) -> rig.Outcome:
    """Let the gateway withhold one message and say it was sent: this must lose."""
    return run(folder, seed=seed, quick=True, withholding=True)


class _Looker(threading.Thread):
    """Writes a row every few seconds, and what befalls the site in between."""

    def __init__(self, site: Site, file: TextIO, every_s: float) -> None:
        super().__init__(name="looker", daemon=True)
        self._site, self._file, self._every_s = site, file, every_s
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._now = ""

    def run(self) -> None:
        """Look until it is over."""
        while not self._over.wait(self._every_s):
            self._write(self._site.look() | {"on": self._now})

    def finish(self) -> None:
        """Look a last time."""
        self._over.set()
        self.join()
        self._write(self._site.look() | {"on": ""})

    def note(self, fault: str, what: str) -> None:
        """Note that a fault began or ended."""
        at = round(self._site.t, 1)
        self._now = fault if what == "began" else ""
        self._write({"fault": fault, what: at})
        rig.say(f"{at:7.1f} s: {fault} {what}")

    def _write(self, row: looks.Row) -> None:
        with self._lock:
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()


def _settled(site: Site, *, idle_s: float) -> dict[str, float]:
    """Wait until nothing waits and nothing moves; return the last counts."""
    wanted = site.sender.messages + site.extra.stored
    last: dict[str, float] = {}
    since = time.monotonic()
    while time.monotonic() - since < idle_s:
        with contextlib.suppress(httpx.HTTPError):
            answer = httpx.get(f"{site.url}/metrics", timeout=8, trust_env=False)
            found = looks.metrics(answer.text)
            if found.get("received") != last.get("received") or found.get("in_flight"):
                since = time.monotonic()
            last = found
            if found.get("stored", 0) >= wanted and not found["in_flight"]:
                break
        time.sleep(0.2)
    return last


def _account(outcome: rig.Outcome, site: Site, counts: Mapping[str, float]) -> None:
    """Compare what is stored with what was published, by instant and value."""
    extra, published = site.extra, site.sender.messages + site.extra.stored
    lost: list[tuple[int, int]] = []
    wrong = 0
    with contextlib.closing(site.reader()) as archive:
        for unit in range(UNITS):
            times = [*site.sender.seconds, *extra.good.get(unit, ())]
            missed, differs = _compared(archive, unit, times)
            lost += [(unit, at) for at in missed]
            wrong += differs
    by_broker = [each for each in lost if each[1] in extra.risked]
    ours = [each for each in lost if each[1] not in extra.risked]
    places = {key: int(counts.get(key, 0)) for key in _PLACES}
    outcome.checked, outcome.lost = published, len(ours)
    outcome.figures |= {
        "published": published,
        "garbage": extra.garbage,
        "ahead": extra.ahead,
        "sent_again": extra.again,
        "wrong": wrong,
        "lost": ours[:20],
        "seconds_at_risk_in_a_killed_broker": len(extra.risked),
        "lost_by_a_killed_broker": len(by_broker),
        "counts": places,
        "pages_asked": site.asked,
        "pages_refused": site.refused,
    }
    promise = outcome.promise
    promise(f"the traffic goes on: {site.sender.error}", kept=not site.sender.error)
    promise(f"0 lost, not {len(ours)}", kept=not ours)
    promise(f"0 wrong values, not {wrong}", kept=not wrong)
    promise(
        f"each is counted as stored once: {places['stored']} of {published}",
        kept=published - len(by_broker) <= places["stored"] <= published,
    )
    for sent, place in (
        (extra.garbage, "rejected"),
        (extra.ahead, "quarantined"),
        (extra.again, "duplicate"),
    ):
        promise(
            f"all that is to be {place} is: {places[place]} of {sent}",
            kept=places[place] >= sent,
        )
    promise(
        f"the counts balance: {places}",
        kept=places["received"] == sum(places[key] for key in _PLACES[1:]),
    )


def _compared(
    archive: Archive, unit: int, times: Sequence[int]
) -> tuple[list[int], int]:
    """Return which instants are lost and how many values are wrong.

    An instant is lost once for each message of it that has a value missing. Wrong
    is a value that is not the one sent, and one that nobody sent.
    """
    lost: list[int] = []
    wrong = 0
    for group in GROUPS:
        values, _ = archive.flagged(f"hp{unit}", *rig.EVER, group)
        missed: set[int] = set()
        for point in group:
            found = _column(values[point])
            for at in times:
                stored = found.pop(at, None)
                if stored is None:
                    missed.add(at)
                else:
                    wrong += stored != value(unit, point, at)
            wrong += len(found)
        lost += sorted(missed)
    return lost, wrong


def _column(cells: pd.Series[float]) -> dict[int, float]:
    """Return a point's values by their times in ms."""
    kept = cells.dropna()
    times = kept.index.to_numpy("datetime64[ms]").astype(np.int64)
    return dict(zip(times.tolist(), kept.tolist(), strict=True))


def _judge(
    outcome: rig.Outcome,
    rows: Sequence[looks.Row],
    faults: Sequence[looks.Row],
    *,
    quick: bool,
) -> None:
    """Note what the rows say; a few seconds say nothing of memory."""
    seconds = rows[-1]["t"]
    warm_up = WARM_UP_S if seconds > 3 * WARM_UP_S else 0.3 * seconds
    found = looks.figures(rows, faults, warm_up)
    outcome.figures |= found
    if quick:
        return
    leaky = looks.figures(looks.leaking(rows), faults, warm_up)
    outcome.control["with_a_leak_mb_per_h"] = leaky["anon_mb_per_h"]
    for sentence, kept in promises(found).items():
        outcome.promise(sentence, kept=kept)
    outcome.promise(
        "a leak that is put in breaks a promise", kept=not all(promises(leaky).values())
    )


def promises(found: Mapping[str, object] | looks.Row) -> dict[str, bool]:
    """Return what the figures of a long run have to hold, and whether they do."""
    never = [name for name, times in found["recovery_s"].items() if None in times]
    memory, files = found["anon_mb_per_h"], found["fds"]
    # SQLite keeps the descriptor of a closed connection for the next one while
    # another is open: as many as ever read the journal at once, and no more.
    few = files["last"] <= files["warm"] + _READERS
    return {
        f"it recovers from every fault, not {never}": not never,
        f"memory grows by less than {looks.LEAK_MB_H:g} MB/h: {memory}": (
            memory["high"] < looks.LEAK_MB_H
        ),
        f"descriptors stay: {files}": few and not found["fds_go_on"],
    }


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.soak")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hours", type=float, default=HOURS)
    parser.add_argument("--out", type=Path, help="where the rows go, as JSON lines")
    parser.add_argument("--read", type=Path, help="judge the rows of an earlier run")
    parser.add_argument("--draw", type=Path, help="draw the rows, as an SVG")
    parser.add_argument("--json", action="store_true", help="the result as one object")
    given = parser.parse_args()
    outcome = rig.Outcome("soak", given.seed)
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        path = given.read or given.out or Path(name, "rows.jsonl")
        if given.read:
            _judge(outcome, *looks.read(path), quick=False)
        else:
            try:
                outcome = _both(Path(name), given.seed, given.hours, path)
            except pytest.skip.Exception as reason:
                rig.say(f"soak: skipped: {reason}")
                sys.exit(1 if os.environ.get("CI") else 0)
        if given.draw:
            chart.draw(*looks.read(path), given.draw)
    print(json.dumps(asdict(outcome), indent=None if given.json else 1))  # noqa: T201
    sys.exit(1 if outcome.broken else 0)


def _both(folder: Path, seed: int, hours: float, path: Path) -> rig.Outcome:
    """Run the campaign and its control."""
    for room in ("run", "control"):
        (folder / room).mkdir()
    outcome = run(folder / "run", seed=seed, hours=hours, out=path)
    rig.say(outcome.summary)
    blind = control(folder / "control", seed=seed)
    rig.say(f"control: {blind.summary}")
    outcome.control |= {"checked": blind.checked, "lost": blind.lost}
    outcome.promise("the control loses one message", kept=blind.lost == 1)
    return outcome


if __name__ == "__main__":
    _main()
