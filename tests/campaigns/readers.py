"""A hundred people read the page while two thousand messages arrive each second.

``python -m tests.campaigns.readers [--seed S] [--every S] [--json]`` gives
``hptwin run`` a plant with a season behind it and a real mosquitto, publishes the
season's readings to it once more, one a message, with the time of sending, and lets
each of the people keep the live stream open and ask for a page every few seconds.
Then every message is looked for in the archive. The control withholds one message
and stops the service for one second in every four: the one has to be missed, and
the answers have to be late.
"""

from __future__ import annotations

import contextlib
import functools
import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pandas as pd
import servers
from prometheus_client.parser import text_string_to_metric_families

from calibration.registry import Registry
from ingest import files
from ingest.archive import Archive
from twin import simulate
from twin.points import POINTS
from twin.service.config import load
from twin.service.demo import STEP
from twin.service.replay import midnight, replay
from twin.service.run import open_configured
from twin.simulate import Scenario, Simulation, gateway
from twin.simulate.export import field, write
from twin.units import conversion

from . import looks, rig
from .crowd import Answer, Crowd
from .gateway import Table

RATE = 2000
READERS = 100
EVERY_S = 5.0
WITHIN_MS = 500.0
DAYS = 60
_WARM_UP_S, _SECONDS = 20.0, 120.0
# Of these as many are asked for of each; a chart is any that a page shows.
_CHART = "/api/charts"
_PATHS = (
    "/",
    "/unit/hp1",
    "/unit/hp2",
    "/alarms",
    "/models",
    "/csv/kpis.csv",
    "/api/summary",
    "/api/live",
    "/api/quality",
    _CHART,
)
_STOPPED_S, _STOP_EVERY_S = 1.0, 4.0
_PLACES = ("received", "stored", "duplicate", "quarantined", "rejected", "in_flight")

Key = tuple[str, str]
"""Unit and point."""


def run(
    folder: Path,
    *,
    seed: int = 1,
    quick: bool = False,
    every: float = EVERY_S,
    wrong: bool = False,
) -> rig.Outcome:
    """Let them read; ``every`` is the mean time between two pages of one person [s].

    ``wrong`` withholds a message, and stops the service time and again.
    """
    outcome = rig.Outcome("readers", seed)
    number, every = (8, 0.25) if quick else (READERS, every)
    warm_up, seconds = (0.3, 1.7) if quick else (_WARM_UP_S, _SECONDS)
    (folder / "broker").mkdir()
    with servers.mosquitto(folder / "broker") as broker:
        plant = Plant(folder, broker.port, days=1 if quick else DAYS, seed=seed)
        since = datetime.now(UTC)
        with plant.service() as service:
            charts = [
                chart
                for page in ("/unit/hp1", "/unit/hp2", "/")
                for chart in _charts(plant.get(page))
            ]
            outcome.promise("a page has charts", kept=quick or charts)
            outcome.figures["cases"] = len(json.loads(plant.get("/api/cases")))
            with Sender(folder, broker.port, plant.simulation) as sender:
                rig.until(lambda: sender.messages > RATE / 2, "the load begins")
                crowd = Crowd(
                    plant.url,
                    number,
                    functools.partial(_choose, charts),
                    every_s=every,
                    seed=seed,
                )
                with _stopping(service.pid) if wrong else contextlib.nullcontext():
                    time.sleep(warm_up)
                    watch = _Watch(service.pid, sender)
                    time.sleep(seconds)
                    watched = watch.end()
                answers = crowd.stop()
                if wrong:
                    sender.withhold()
                sender.finish()
                counts = plant.settled(sender.messages, idle_s=2.0 if wrong else 15.0)
        crowd.leave()
        _heard(outcome, crowd, watch)
        _answered(outcome, [one for one in answers if one.at >= watch.began], watched)
        with contextlib.closing(
            open_configured(plant.config.archive, read_only=True)
        ) as archive:
            _account(outcome, sender, archive, since, counts)
    outcome.faults += number
    if not quick:
        p95, rate = outcome.figures["p95_ms"], outcome.figures["messages_per_s"]
        outcome.promise(f"{_P95}, not {p95:g}", kept=p95 < WITHIN_MS)
        outcome.promise(
            f"95 % of {RATE} messages/s arrive, not {rate:g}", kept=rate >= 0.95 * RATE
        )
    return outcome


_P95 = f"95 % of the answers take less than {WITHIN_MS:g} ms"
whole = run


def control(
    folder: Path, *, seed: int = 1, quick: bool = False, every: float = EVERY_S
) -> rig.Outcome:
    """Withhold one message, and stop the service for one second in every four."""
    return run(folder, seed=seed, quick=quick, every=every, wrong=True)


# --- the plant ---------------------------------------------------------------


def moved(simulation: Simulation, stop: datetime) -> Simulation:
    """Return a season in which everything happens later, so that it ends at a time.

    It is the same season whenever it is asked for, which one that is simulated for
    this time of the year would not be.
    """
    scenario = simulation.scenario
    by = stop - scenario.stop

    def later(time: datetime | None) -> datetime | None:
        return None if time is None else time + by

    told: Scenario = replace(
        scenario,
        start=scenario.start + by,
        faults=tuple(
            replace(one, start=later(one.start), end=later(one.end))
            for one in scenario.faults
        ),
        maintenance=tuple(
            replace(one, time=one.time + by) for one in scenario.maintenance
        ),
    )
    frames = {
        unit: frame.set_axis(frame.index + by)
        for unit, frame in simulation.frames.items()
    }
    return replace(
        simulation,
        scenario=told,
        frames=frames,
        truth={u: one.set_axis(one.index + by) for u, one in simulation.truth.items()},
        plant_toml=gateway.plant_toml(told, simulation.builds, frames),
    )


@functools.cache
def _season(
    days: int, seed: int, stop: datetime
) -> tuple[tempfile.TemporaryDirectory[str], Simulation]:
    """Return a folder with a season that was judged up to a time, and the season.

    A control begins with the same one. A short one has no faults.
    """
    name = "demo" if days >= 40 else "healthy"
    scenario = replace(simulate.scenario(name, days=days, seed=seed), step=STEP)
    simulation = moved(simulate.simulate(scenario), stop)
    kept = tempfile.TemporaryDirectory(prefix="season-")
    folder = Path(kept.name)
    write(simulation, folder / "plant")
    config = load(folder / "plant" / "plant.toml", _places(folder))
    with contextlib.closing(open_configured(config.archive)) as archive:
        for unit in simulation.frames:
            sources = [one for one in config.sources if one.unit == unit]
            files.read(folder / "plant" / f"{unit}.parquet", sources).into(archive)
        registry = Registry(config.state_dir / "models")
        results = replay(config.plant, archive, registry=registry)
    results.write(config.state_dir / "results")
    return kept, simulation


def _places(folder: Path) -> dict[str, str]:
    """Return where a service keeps its things, as its environment says it."""
    return {
        "HPTWIN_STATE__DIR": str(folder / "state"),
        "HPTWIN_ARCHIVE__PATH": str(folder / "archive"),
    }


class Plant:
    """A plant that has been through a season, and its service."""

    def __init__(self, folder: Path, broker: int, *, days: int, seed: int) -> None:
        kept, self.simulation = _season(days, seed, midnight(datetime.now(UTC)))
        shutil.copytree(kept.name, folder, dirs_exist_ok=True)
        self.folder, self._port = folder, servers.free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._environ = {
            **_places(folder),
            "HPTWIN_MQTT__PORT": str(broker),
            "HPTWIN_WEB__PORT": str(self._port),
        }
        self.config = load(folder / "plant" / "plant.toml", self._environ)
        self._browser = httpx.Client(base_url=self.url, timeout=30.0, trust_env=False)

    @contextlib.contextmanager
    def service(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run ``hptwin run`` until it has taken up where the season ended."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("HPTWIN_")}
        environ = {**inherited, **self._environ, "PYTHONPATH": str(rig.ROOT)}
        command = [sys.executable, "-m", "twin.service.cli", "run"]
        command += ["-c", str(self.folder / "plant" / "plant.toml")]
        with (self.folder / "service.log").open("wb") as log:
            process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
        try:
            rig.until(lambda: self._judged(process), "the service takes up", 180.0)
            yield process
            process.send_signal(signal.SIGTERM)
            if code := process.wait(60.0):
                raise rig.BlindError(f"the service ended with {code}:\n{self.log}")
        finally:
            process.kill()
            process.wait()
            self._browser.close()

    def _judged(self, process: subprocess.Popen[bytes]) -> bool:
        if process.poll() is not None:
            raise rig.BlindError(f"the service ended:\n{self.log}")
        time.sleep(0.1)
        with contextlib.suppress(httpx.HTTPError):
            families = text_string_to_metric_families(self.get("/metrics"))
            return any(
                sample.name == "hptwin_job_runs_total"
                and sample.labels == {"task": "judge", "outcome": "done"}
                for family in families
                for sample in family.samples
            )
        return False

    @property
    def log(self) -> str:
        """The last of what the service has said."""
        return (self.folder / "service.log").read_text("utf-8", "replace")[-3000:]

    def get(self, path: str) -> str:
        """Return what the page answers."""
        return self._browser.get(path).raise_for_status().text

    def settled(self, messages: int, *, idle_s: float) -> dict[str, int]:
        """Wait until nothing waits and nothing moves; return where each message is."""
        last: dict[str, float] = {}
        since = time.monotonic()
        while time.monotonic() - since < idle_s:
            found = looks.metrics(self.get("/metrics"))
            if any(found.get(place) != last.get(place) for place in _PLACES):
                since = time.monotonic()
            last = found
            if found.get("stored", 0) >= messages and not found["in_flight"]:
                break
            time.sleep(0.1)
        return {place: int(last.get(place, 0)) for place in _PLACES}


class Sender:
    """The gateway, and what it has said that the broker has.

    ``times`` are those of the rows, in ms, and ``taken`` when each was taken; a
    message that was withheld is among them.
    """

    def __init__(self, folder: Path, port: int, simulation: Simulation) -> None:
        tables = {unit: field(one) for unit, one in simulation.frames.items()}
        points = {unit: list(one.columns) for unit, one in simulation.frames.items()}
        self.keys: list[Key] = [(unit, one) for unit in points for one in points[unit]]
        self.rows = np.hstack([one.to_numpy(dtype=float) for one in tables.values()])
        table: Table = {
            "columns": [
                (gateway.topic(unit), str(key))
                for unit, one in tables.items()
                for key in one.columns
            ],
            "rows": [
                [None if np.isnan(value) else value for value in row]
                for row in self.rows.tolist()
            ],
        }
        path = folder / "table.json"
        path.write_text(json.dumps(table), "utf-8")
        self._each = np.isfinite(self.rows).sum(axis=1).tolist()
        self.times: list[int] = []
        self.messages = 0
        self._error = (folder / "gateway.log").open("w+b")
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.campaigns.gateway",
                path,
                str(port),
                str(RATE),
            ],
            cwd=rig.ROOT,
            env={**os.environ, "PYTHONPATH": str(rig.ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._error,
            text=True,
        )
        self._thread = threading.Thread(target=self._hear, daemon=True)
        self._thread.start()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.messages += self._each[len(self.times) % len(self._each)]
            self.times.append(int(line))

    def sent(self) -> Iterator[tuple[Key, pd.Series[float]]]:
        """Yield what each point has said, by times in ms, in the units of points."""
        rows = self.rows[np.arange(len(self.times)) % len(self.rows)]
        for column, (unit, point) in enumerate(self.keys):
            change = conversion(gateway.FIELD[point][1], POINTS[point].unit)
            told = pd.Series(rows[:, column], index=self.times).dropna()
            yield (unit, point), told * change.scale + change.offset

    def withhold(self) -> None:
        """Have it leave a message out, and wait until it has."""
        assert self._process.stdin is not None
        self._process.stdin.write("withhold\n")
        self._process.stdin.flush()
        rows = len(self.times) + 3
        rig.until(lambda: len(self.times) >= rows, "a message is withheld")

    def finish(self) -> None:
        """End it after the row that is on its way."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        code = self._process.wait(200.0)
        self._thread.join()
        if code:
            self._error.seek(0)
            said = self._error.read().decode("utf-8", "replace")
            raise rig.BlindError(f"the gateway ended with {code}:\n{said[-2000:]}")

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()
        for pipe in (self._process.stdin, self._process.stdout, self._error):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


# --- who reads ---------------------------------------------------------------


def _charts(page: str) -> list[str]:
    return [html.unescape(one) for one in re.findall(r'data-chart="([^"]+)"', page)]


def _choose(charts: Sequence[str], chance: np.random.Generator) -> str:
    path = _PATHS[int(chance.integers(len(_PATHS)))]
    if path != _CHART:
        return path
    return charts[int(chance.integers(len(charts)))] if charts else "/api/charts/cop"


@contextlib.contextmanager
def _stopping(pid: int) -> Iterator[None]:
    """Stop a process for one second in every four."""
    over = threading.Event()

    def stop() -> None:
        while not over.wait(_STOP_EVERY_S - _STOPPED_S):
            os.kill(pid, signal.SIGSTOP)
            try:
                over.wait(_STOPPED_S)
            finally:
                os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class _Watch:
    """What service, gateway and readers have used since it began."""

    def __init__(self, pid: int, sender: Sender) -> None:
        self._pid, self._sender = pid, sender
        self.began, self.ended = time.monotonic(), 0.0
        self._before = looks.process(pid)
        self._messages, self._ours = sender.messages, time.process_time()

    def end(self) -> dict[str, float]:
        """Return it, by names of figures."""
        now, self.ended = looks.process(self._pid), time.monotonic()
        seconds = self.ended - self.began
        return {
            "messages_per_s": round((self._sender.messages - self._messages) / seconds),
            "service_cores": round((now["cpu_s"] - self._before["cpu_s"]) / seconds, 3),
            "service_rss_mb": round(now["rss_mb"]),
            "readers_cores": round((time.process_time() - self._ours) / seconds, 3),
        }

    def covers(self, at: float) -> bool:
        """Whether a time of the steady clock lies in it."""
        return self.began <= at <= self.ended


# --- what they saw -----------------------------------------------------------


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(seconds, [50, 95, 99]) * 1000
    return {
        "requests": len(seconds),
        "p50_ms": round(float(p50), 1),
        "p95_ms": round(float(p95), 1),
        "p99_ms": round(float(p99), 1),
        "max_ms": round(max(seconds) * 1000, 1),
    }


def _answered(
    outcome: rig.Outcome, answers: Sequence[Answer], watched: Mapping[str, float]
) -> None:
    if not answers:
        raise rig.BlindError("nobody asked for a page")
    took: dict[str, list[float]] = {}
    sizes: dict[str, int] = {}
    for answer in answers:
        path = urlsplit(answer.path).path
        took.setdefault(path, []).append(answer.took_s)
        sizes[path] = max(sizes.get(path, 0), answer.size)
    failed = sorted({f"{a.path}: {a.status}" for a in answers if a.failed})
    outcome.figures |= {
        **_spread([answer.took_s for answer in answers]),
        "requests_per_s": round(
            len(answers) / (answers[-1].at - answers[0].at or 1.0), 1
        ),
        "failed": sum(answer.failed for answer in answers),
        **watched,
        "paths": {
            path: {**_spread(took[path]), "kb": round(sizes[path] / 1024, 1)}
            for path in sorted(took)
        },
    }
    outcome.promise(f"no answer fails: {failed[:5]}", kept=not failed)
    refused = sorted({a.path for a in answers if 400 <= a.status < 500})
    outcome.promise(f"whatever is asked for is there: {refused[:5]}", kept=not refused)


def _heard(outcome: rig.Outcome, crowd: Crowd, watch: _Watch) -> None:
    """Note what the live streams have said, and how they ended."""
    events = [listener.events for listener in crowd.listeners]
    ages = [
        age
        for listener in crowd.listeners
        for at, age in listener.ages
        if watch.covers(at)
    ]
    ends = {one.end for one in crowd.listeners} - {"whole"}
    outcome.figures |= {
        "listeners": len(events),
        "events_of_a_listener": [min(events), max(events)],
        "live_age_p95_s": round(float(np.percentile(ages, 95)), 2) if ages else None,
        "reconnected": sum(reader.reconnected for reader in crowd.readers),
    }
    outcome.promise("every listener is told of values", kept=min(events) > 0)
    outcome.promise(f"every stream ends as a stream does: {ends}", kept=not ends)


def _account(
    outcome: rig.Outcome,
    sender: Sender,
    archive: Archive,
    since: datetime,
    counts: Mapping[str, int],
) -> None:
    """Look for every message in the archive, and for what nobody sent."""
    published, lost, wrong = sender.messages, 0, 0
    stored: dict[str, pd.DataFrame] = {}
    for (unit, point), sent in sender.sent():
        if unit not in stored:
            stored[unit], _ = archive.flagged(unit, since, rig.EVER[1])
        found = _column(stored[unit].get(point))
        there = found.reindex(sent.index)
        lost += int(there.isna().sum())
        differs = (there - sent).abs() > 1e-6 * sent.abs()
        wrong += int(differs.sum()) + len(found.index.difference(sent.index))
    outcome.checked += published
    outcome.lost += lost
    outcome.figures |= {"published": published, "wrong": wrong, "counts": counts}
    outcome.promise(f"0 lost, not {lost}", kept=lost == 0)
    outcome.promise(f"0 wrong, not {wrong}", kept=wrong == 0)
    outcome.promise(
        f"each is counted as stored once: {counts['stored']} of {published}",
        kept=counts["stored"] == published,
    )
    places = sum(counts[place] for place in _PLACES[1:])
    outcome.promise(f"the counts balance: {counts}", kept=counts["received"] == places)


def _column(cells: pd.Series[float] | None) -> pd.Series[float]:
    """Return the values that are there by their times in ms."""
    if cells is None:
        return pd.Series([], index=pd.Index([], dtype=np.int64), dtype=float)
    kept = cells.dropna()
    times = kept.index.to_numpy("datetime64[ms]").astype(np.int64)
    return pd.Series(kept.to_numpy(), index=times)


if __name__ == "__main__":
    rig.command(
        "readers",
        whole,
        control,
        options={"every": (EVERY_S, "mean seconds between two pages of one person")},
        breaks=[_P95],
    )
