"""Everything in one process: a plant with planted faults, seen through the twin.

A simulated season is published to a real broker, comes back through journal,
checks and archive, and is judged by the very service that stands beside a real
plant. What was planted is known, so the demo ends by comparing.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ingest import embedded
from ingest.archive.table import moment, ms
from ingest.broker import Connection, Publisher
from twin import simulate
from twin.finding import Finding, FindingKind
from twin.service.assess import DAY
from twin.service.config import Config, WebConfig, load
from twin.service.run import GRACE, Service
from twin.simulate import Simulation

Say = Callable[[str], None]

DAYS = 72
STEP = timedelta(minutes=30)
_LIVE_STEP_S = 2.0


@dataclass(frozen=True, slots=True)
class Match:
    """A planted fault and the finding that answers it, None where none does.

    ``error`` is the found less the planted size, NaN where either has none. [1]
    """

    planted: Mapping[str, Any]
    found: Finding | None
    error: float


def compare(
    planted: Sequence[Mapping[str, Any]], found: Sequence[Finding]
) -> tuple[list[Match], list[Finding]]:
    """Lay what was found beside what was planted.

    A finding answers a fault of the same unit, kind and component that it
    overlaps in time; a month is allowed for a creeping fault to show.

    Returns
    -------
    list of Match, list of Finding
        One for each planted fault, and the findings that answer none.
    """
    left = list(found)
    matches = []
    for fault in planted:
        until = fault.get("until") or datetime.max.replace(tzinfo=UTC)
        answers = [
            finding
            for finding in left
            if finding.unit == fault["unit"]
            and finding.kind.value == fault["kind"]
            and finding.component == fault["component"]
            and finding.since - timedelta(days=2) <= until
            and finding.seen >= fault["since"]
        ]
        if not answers:
            matches.append(Match(fault, None, math.nan))
            continue
        best = max(answers, key=lambda finding: finding.seen)
        left = [finding for finding in left if finding not in answers]
        sized = fault["kind"] != FindingKind.SENSOR.value
        error = best.size - float(fault["size"]) if sized else math.nan
        matches.append(Match(fault, best, error))
    return matches, left


class Demo:
    """A running demo: broker, plant, service and page.

    Parameters
    ----------
    folder : path
        Where the demo keeps its archive, models and state.
    port : int
        Of the page; 0 takes a free one.
    say : callable
        Told what is happening, in a line.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 8080,
        seed: int = 1,
        days: int = DAYS,
        say: Say = lambda line: None,
    ) -> None:
        self._folder = folder
        self._port = port
        self._say = say
        self._scenario = replace(
            simulate.scenario("demo", days=days, seed=seed), step=STEP
        )
        self._stack = contextlib.ExitStack()
        self._stop = threading.Event()
        self._event_time = moment(0)
        self.simulation: Simulation
        self.service: Service

    def __enter__(self) -> Demo:
        # numba compiles while the season is simulated and published.
        warm = threading.Thread(target=warm_up, daemon=True)
        warm.start()
        port = self._stack.enter_context(embedded.broker())
        self._say(f"broker     127.0.0.1:{port}")
        self.simulation = simulate.simulate(self._scenario)
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / "plant.toml"
        file.write_text(self.simulation.plant_toml, encoding="utf-8")
        config = self._wired(load(file, {}), port)
        self._connection = replace(config.mqtt, client_id="hptwin-demo-plant")
        self.service = Service(
            config,
            clock=self._clock,
            judge_every=1.0,
            deliver_every=5.0,
            silence=3 * STEP,
        )
        self.service.start()
        self._stack.callback(self.service.stop)
        self._say(f"page       {self.service.page.url}")
        warm.join()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._stack.close()

    def _wired(self, config: Config, port: int) -> Config:
        return replace(
            config,
            mqtt=Connection(port=port, client_id="hptwin-demo"),
            archive=replace(config.archive, path=self._folder / "archive"),
            state_dir=self._folder / "state",
            web=WebConfig(port=self._port),
        )

    def _clock(self) -> datetime:
        """Return the plant's time: the demo lives faster than the wall."""
        return self._event_time

    def season(self, progress: Callable[[float], None] = lambda share: None) -> None:
        """Publish the season but its last day, and wait until it is judged."""
        live_from = self._live_from()
        messages = [
            message
            for message in simulate.messages(self.simulation)
            if message[2] <= ms(live_from)
        ]
        total = len(messages)
        with Publisher(self._connection) as publisher:
            sent = 0
            for block in _blocks(messages, 4000):
                publisher.publish_all((topic, payload) for topic, payload, _ in block)
                # The plant's clock must not run ahead of what is archived.
                if not self.service.intake.drain(timeout=120.0):
                    raise TimeoutError("the archive takes no readings; see the page")
                sent += len(block)
                self._event_time = moment(block[-1][2])
                progress(0.5 * sent / total)
        self._event_time = live_from + GRACE
        start = self.simulation.scenario.start
        days = max((live_from - start) // DAY, 1)
        while True:
            until = self.service.assessor.until
            done = 0 if until is None else (until - start) // DAY
            progress(0.5 + 0.5 * min(done / days, 1.0))
            if done >= days:
                break
            if self._stop.wait(0.2):
                return

    def live(self) -> None:
        """Go on with the last day, half an hour in two seconds, until it ends."""
        with Publisher(self._connection) as publisher:
            for time_ms, payloads in self._instants():
                if self._stop.wait(_LIVE_STEP_S):
                    return
                publisher.publish_all(payloads)
                self._event_time = max(self._event_time, moment(time_ms))

    def _instants(self) -> Iterator[tuple[int, list[tuple[str, bytes | str]]]]:
        after = ms(self._live_from())
        batch: list[tuple[str, bytes | str]] = []
        last: int | None = None
        for topic, payload, time_ms in simulate.messages(self.simulation):
            if time_ms <= after:
                continue
            if last is not None and time_ms != last:
                yield last, batch
                batch = []
            last = time_ms
            batch.append((topic, payload))
        if last is not None:
            yield last, batch

    def _live_from(self) -> datetime:
        scenario = self.simulation.scenario
        return scenario.start + scenario.length - DAY

    def comparison(self) -> tuple[list[Match], list[Finding]]:
        """Return what was planted beside what was found in the whole season."""
        return compare(self.simulation.planted, self.service.assessor.cases())

    def recalibrations(self) -> tuple[int, int, str]:
        """Return how many were accepted and rejected, and why the last one was."""
        records = [
            model
            for model in self.service.assessor.models()
            if model["role"] == "current"
        ]
        rejected = [model for model in records if not model["accepted"]]
        why = (
            f"{rejected[-1]['unit']}, {rejected[-1]['created']:%Y-%m-%d}:"
            f" {rejected[-1]['reason']}"
            if rejected
            else ""
        )
        return len(records) - len(rejected), len(rejected), why


def as_json(demo: Demo, seconds: float) -> dict[str, Any]:
    """Return the closing table as plain data."""
    matches, surplus = demo.comparison()

    def told(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: values[name] for name in ("unit", "kind", "component", "size")}

    def plain(finding: Finding) -> dict[str, Any]:
        return {
            "unit": finding.unit,
            "kind": finding.kind.value,
            "component": finding.component,
            "size": round(finding.size, 4) if math.isfinite(finding.size) else None,
            "low": round(finding.low, 4) if math.isfinite(finding.low) else None,
            "high": round(finding.high, 4) if math.isfinite(finding.high) else None,
            "since": finding.since.isoformat(),
            "cost_eur_day": finding.cost_eur_day,
            "clean_by": finding.clean_by and finding.clean_by.isoformat(),
        }

    accepted, rejected, why = demo.recalibrations()
    return {
        "planted": [told(match.planted) for match in matches],
        "found": [
            *(plain(match.found) for match in matches if match.found is not None),
            *(plain(finding) for finding in surplus),
        ],
        "missing": [told(match.planted) for match in matches if match.found is None],
        "not_planted": [plain(finding) for finding in surplus],
        "recalibrations": {"accepted": accepted, "rejected": rejected, "why": why},
        "seconds": round(seconds, 1),
    }


@contextlib.contextmanager
def folder_for(path: Path | None) -> Iterator[Path]:
    """Yield the folder asked for, or one that is removed afterwards."""
    if path is not None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="hptwin-demo-") as made:
        yield Path(made)


def warm_up() -> None:
    """Import the giants and compile the cycle before they are needed."""
    import pandas as pd

    from twin.heatpump import from_nameplate
    from twin.plant import Machine, Nameplate

    plate = Nameplate(
        sink_heat_w=5e5,
        power_w=1.1e5,
        source_inlet_temp_degc=40.0,
        source_outlet_temp_degc=32.0,
        sink_inlet_temp_degc=50.0,
        sink_outlet_temp_degc=65.0,
    )
    pump = from_nameplate(
        Machine(id="warm-up", refrigerant="R1234ze(E)", nameplate=plate)
    )
    asked = pd.DataFrame(
        {
            "source_inlet_temp_degc": [40.0],
            "sink_inlet_temp_degc": [50.0],
            "source_flow_kg_s": [12.0],
            "sink_flow_kg_s": [8.0],
            "compressor_speed_hz": [50.0],
        }
    )
    pump.predict(asked, given="compressor_speed_hz")
    pump.sensitivities(
        asked, "compressor_speed_hz", ["compressor_power_w"], ["condenser_ua_w_k"]
    )


def _blocks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
