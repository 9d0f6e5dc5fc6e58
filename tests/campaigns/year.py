"""A year of a plant read back: 60 signals, one minute, 31.5 million values.

``python -m tests.campaigns.year --json`` writes the year into an embedded
archive as the service would, month by month, reads it into one frame, compares
every value, and prints what it took.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from ingest.archive.parquet import ParquetArchive
from ingest.reading import FLAG_CODE, Readings

START = datetime(2023, 1, 1, tzinfo=UTC)
STOP = datetime(2024, 1, 1, tzinfo=UTC)
MINUTE_MS = 60_000
DAY = 1440


def signals(number: int, rows: int, seed: int) -> np.ndarray:
    """Return random walks as sensors tell them, with two decimals."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0.0, 0.05, (rows, number))
    return np.round(40.0 + np.cumsum(steps, axis=0), 2)


def write(archive: ParquetArchive, days: int, number: int, seed: int) -> float:
    """Write a day at a time, every reading by itself; return the seconds."""
    keys = [("hp1", f"signal_{n:02d}") for n in range(number)]
    series = np.tile(np.arange(number, dtype=np.int32), DAY)
    flags = np.zeros(len(series), np.uint8)
    # One reading in ten thousand is suspect, so that flags are read as well.
    flags[::10_007] = FLAG_CODE["range"]
    values = signals(number, days * DAY, seed)
    first = int(START.timestamp() * 1000)
    begin = time.perf_counter()
    for day in range(days):
        minutes = np.arange(day * DAY, (day + 1) * DAY, dtype=np.int64)
        archive.write(
            Readings(
                keys,
                series,
                np.repeat(first + minutes * MINUTE_MS, number),
                values[day * DAY : (day + 1) * DAY].ravel(),
                flags,
            )
        )
    return time.perf_counter() - begin


def measure(days: int = 365, number: int = 60, seed: int = 1) -> dict[str, object]:
    """Return the figures of one year."""
    with tempfile.TemporaryDirectory() as folder:
        archive = ParquetArchive(Path(folder))
        written_s = write(archive, days, number, seed)
        archive.close()
        files = list(Path(folder).rglob("*.parquet"))
        size = sum(path.stat().st_size for path in Path(folder).rglob("*.*"))
        reader = ParquetArchive(Path(folder), read_only=True)
        # A first small answer loads pandas and pyarrow, which is not reading.
        reader.frame("hp1", START, START + pd.Timedelta(hours=1))
        walls, cpus = [], []
        for _ in range(3):
            wall, cpu = time.perf_counter(), time.process_time()
            frame = reader.frame("hp1", START, STOP)
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
        begin = time.perf_counter()
        one = reader.frame("hp1", START, STOP, points=["signal_07"])
        one_s = time.perf_counter() - begin
        values = signals(number, days * DAY, seed)
        suspect = np.isnan(frame.to_numpy())
        same = bool((frame.to_numpy()[~suspect] == values[~suspect]).all())
        flagged = days * len(range(0, DAY * number, 10_007))
        return {
            "values": int(frame.size),
            "read_s": round(sorted(walls)[1], 2),
            "read_s_each": [round(wall, 2) for wall in walls],
            "read_cpu_s": round(sorted(cpus)[1], 2),
            "one_signal_s": round(one_s, 3),
            "written_s": round(written_s, 2),
            "bytes_per_value": round(size / frame.size, 2),
            "files": len(files),
            "identical": same and int(suspect.sum()) == flagged and len(one) > 0,
            "threads": pa.cpu_count(),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }


def main() -> None:
    """Print the figures, as sentences or as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--days", type=int, default=365)
    chosen = parser.parse_args()
    found = measure(chosen.days)
    if chosen.json:
        print(json.dumps(found))  # noqa: T201  it is a command
        return
    for name, value in found.items():
        print(f"{name:16} {value}")  # noqa: T201


if __name__ == "__main__":
    main()
