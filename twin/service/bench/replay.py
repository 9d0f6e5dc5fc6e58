"""How long a year of history takes, through everything, and what of it takes longest.

A simulated heat pump with its exchanger, cooler, consumer and site, a reading
each minute of every point, written to files; its condenser loses a tenth a year.
The replay reads them, and judges, recalibrates, accounts and attributes day by
day, as ``hptwin replay`` does. The peer is pandas, which reads the same files and
averages them to ten minutes, and judges nothing.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import pandas as pd

from calibration import findings, gates, health, steady
from twin import ledger
from twin.service import assess, history
from twin.service import replay as replaying
from twin.service.config import Config, load
from twin.simulate import scenario, simulate, write

UNITS = ("hp1", "cdu1", "cooler1", "network", "site")
_STAGES: tuple[tuple[str, Any, str], ...] = (
    ("read_s", history, "from_files"),
    ("windows_s", steady, "windows"),
    ("daily_s", health, "daily"),
    ("recalibrate_s", gates, "recalibrate"),
    ("findings_s", findings, "findings"),
    ("account_s", ledger, "account"),
    ("frames_s", replaying, "cut"),
    ("reference_s", assess.Assessor, "_commission"),
)
"""What is timed of it: the name, where it is asked for, and what it is."""


def written(folder: Path, days: int, minutes: int, seed: int) -> list[Path]:
    """Write a year of a plant to a folder; return the units' files."""
    planned = replace(
        scenario("creep", days=days, seed=seed), step=timedelta(minutes=minutes)
    )
    made = write(simulate(planned), folder)
    return [path for path in made if path.stem in UNITS and path.suffix == ".parquet"]


def run(
    *,
    days: int = 365,
    minutes: int = 1,
    seed: int = 1,
    folder: Path | None = None,
    progress: replaying.Progress = lambda done, total, day: None,
) -> dict[str, Any]:
    """Measure one replay.

    Parameters
    ----------
    days, minutes, seed : int
        Of the simulated history: its length, between two readings, its dice.
    folder : Path, optional
        Where it is written, or was before; a temporary one else.
    progress : callable
        Told after each day.

    Returns
    -------
    dict
        Plain numbers, for JSON: ``year_s`` by the clock and ``cpu_s`` of this
        process, the rows and values read, the seconds by stage (CPU, each with
        what it asks for: a stage within another is counted in both), peak memory
        [MB], what was found, and the peer's time with the ratio to it.
    """
    with tempfile.TemporaryDirectory(prefix="hptwin-bench-") as aside:
        where = Path(aside) if folder is None else folder
        paths = [where / f"{unit}.parquet" for unit in UNITS]
        if not all(path.exists() for path in paths):
            paths = written(where, days, minutes, seed)
        config = load(where / "plant.toml", {})
        return measured(config, paths, progress)


def measured(
    config: Config, paths: list[Path], progress: replaying.Progress
) -> dict[str, Any]:
    """Replay files once under the clocks, and let the peer read them."""
    spent: dict[str, float] = defaultdict(float)
    undo = [_timed(spent, name, home, what) for name, home, what in _STAGES]
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        results, verdicts = history.replayed(config, paths, progress=progress)
    finally:
        for restore in undo:
            restore()
    cpu_s = time.process_time() - cpu
    year_s = time.perf_counter() - wall
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    begin = time.process_time()
    values = sum(_averaged(path) for path in paths)
    peer_s = time.process_time() - begin
    return {
        "year_s": year_s,
        "cpu_s": cpu_s,
        "days": int(results.kpis["time"].dt.ceil("D").nunique()),
        "rows": sum(int(told["rows"]) for told in verdicts.values()),
        "values": values,
        "recalibrations": sum(m["role"] == "current" for m in results.models),
        "findings": len(results.findings),
        **{name: spent[name] for name, _, _ in _STAGES},
        "peak_mb": peak_mb,
        "peer_pandas_s": peer_s,
        "ratio_to_peer": cpu_s / peer_s,
    }


def _timed(
    spent: dict[str, float], name: str, home: Any, what: str
) -> Callable[[], None]:
    """Put a stopwatch around a function; return what takes it off again."""
    plain = getattr(home, what)

    @wraps(plain)
    def timed(*given: Any, **named: Any) -> Any:
        begin = time.process_time()
        try:
            return plain(*given, **named)
        finally:
            spent[name] += time.process_time() - begin

    setattr(home, what, timed)
    return lambda: setattr(home, what, plain)


def _averaged(path: Path) -> int:
    """Read a file with pandas and average it to ten minutes; return its values."""
    frame = pd.read_parquet(path).set_index("ts")
    means = frame.resample("10min", label="right", closed="right").mean()
    return int(frame.size) if len(means) else 0
