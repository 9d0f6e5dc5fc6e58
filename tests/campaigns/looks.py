"""What a long run looked like: rows of a process and its metrics, and what they say.

A row is one look; a fault is when it began and when it ended. Both are lines of
JSON, written as they happen, so that a run that was cut short can be read too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from scipy.stats import theilslopes

Row = dict[str, Any]

# Readings are stamped to the second and looked for every two: this is at hand.
LIMIT_S = 5.0
LEAK_MB_H = 5.0
RESTART = "service restarted"
# The first messages wait for what is compiled, and for the first look at the day.
_BEGIN_S = 60.0
_BIN_S = 600.0
_IN_A_ROW = 3


def process(pid: int) -> Row:
    """Return a process' memory [MB], open files, threads and CPU time [s].

    Raises
    ------
    OSError, KeyError
        If it has ended, or is about to.
    """
    folder = Path(f"/proc/{pid}")
    said = dict(
        line.split(":", 1)
        for line in (folder / "status").read_text("ascii").splitlines()
        if ":" in line
    )
    ticks = (folder / "stat").read_text("ascii").rpartition(")")[2].split()
    return {
        "rss_mb": round(int(said["VmRSS"].split()[0]) / 1024, 3),
        "anon_mb": round(int(said["RssAnon"].split()[0]) / 1024, 3),
        "fds": sum(1 for _ in (folder / "fd").iterdir()),
        "threads": int(said["Threads"]),
        "cpu_s": (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK"),
    }


def metrics(text: str) -> dict[str, float]:
    """Return the samples of ``/metrics`` that a row has."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "hptwin_messages_total":
                found[sample.labels["verdict"]] = sample.value
            elif sample.name == "hptwin_messages_in_flight":
                found["in_flight"] = sample.value
            elif sample.name in ("hptwin_page_listeners", "hptwin_ready"):
                found[sample.name.removeprefix("hptwin_")] = sample.value
            elif sample.name == "hptwin_journal_bytes":
                found["journal_mb"] = round(sample.value / 2**20, 3)
    return found


def read(path: Path) -> tuple[list[Row], list[Row]]:
    """Return the rows and the faults of a run; a last line cut short is left out."""
    rows: list[Row] = []
    faults: list[Row] = []
    for line in path.read_text("utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if "began" in row:
            faults.append({"fault": row["fault"], "began": row["began"], "ended": None})
        elif "ended" in row:
            faults[-1]["ended"] = row["ended"]
        elif "rss_mb" in row:
            rows.append(row)
    return rows, faults


@dataclass(frozen=True)
class Slope:
    """How fast something grows, with its 95 % interval, per hour."""

    middle: float
    low: float
    high: float


def slope(seconds: Sequence[float], values: Sequence[float]) -> Slope:
    """Return the median of the slopes between all pairs, after Theil and Sen.

    Single looks lean on those before them, which would make the interval from
    ranks far too narrow: it is worked out over medians of ten minutes.

    Parameters
    ----------
    seconds : sequence of float, shape (n,)
        When each look was. [s]
    values : sequence of float, shape (n,)
        What was seen.
    """
    times, seen = np.asarray(seconds, float), np.asarray(values, float)
    width = min(_BIN_S, (times[-1] - times[0]) / 8)
    bins = ((times - times[0]) // width).astype(int)
    kept = np.unique(bins)
    at = [float(np.median(times[bins == one])) / 3600 for one in kept]
    middles = [float(np.median(seen[bins == one])) for one in kept]
    found = theilslopes(middles, at, 0.95)
    return Slope(*(round(float(each), 3) for each in (found[0], found[2], found[3])))


def goes_on(values: Sequence[float]) -> bool:
    """Return whether something grows in every third of the time.

    A leak does. What a crowd has left once is a step, which would move a slope.
    """
    for third in np.array_split(np.asarray(values, float), 3):
        end = max(1, len(third) // 5)
        if np.median(third[-end:]) <= np.median(third[:end]):
            return False
    return True


def recovery(
    lags: Sequence[tuple[float, float]], ended: float, limit_s: float = LIMIT_S
) -> float | None:
    """Return how long after a fault's end the lag is small, and stays so. [s].

    Parameters
    ----------
    lags : sequence of (float, float)
        When it was looked, and how old the newest stored reading was. [s]
    ended : float
        When the fault was over. [s]
    limit_s : float
        What is small; three looks in a row have to be. [s]

    Returns
    -------
    float or None
        None if it never came back.
    """
    after = [(at, lag) for at, lag in lags if at >= ended]
    for place in range(len(after) - _IN_A_ROW + 1):
        if all(lag <= limit_s for _, lag in after[place : place + _IN_A_ROW]):
            return round(after[place][0] - ended, 1)
    return None


def quiet(faults: Iterable[Row], at: float, rest_s: float = 60.0) -> bool:
    """Return whether no fault is on at a time, nor ended within the rest before."""
    return not any(
        each["began"] <= at <= (at if each["ended"] is None else each["ended"]) + rest_s
        for each in faults
    )


def lags(rows: Iterable[Row]) -> list[tuple[float, float]]:
    """Return when it was looked, and how old the newest stored reading was. [s]."""
    return [(at, lag) for row in rows for at, lag in row["lags"]]


def figures(rows: Sequence[Row], faults: Sequence[Row], warm_up_s: float) -> Row:
    """Return what a run's rows say.

    Slopes are those of the first process, after its warm-up; lags those of all.

    Parameters
    ----------
    rows, faults : sequence of dict
        As :func:`read` gives them.
    warm_up_s : float
        How long caches and pools may fill. [s]
    """
    life = [
        row
        for row in rows
        if row["pid"] == rows[0]["pid"] and row["on"] != RESTART  # it is ending
    ]
    warm = [row for row in life if row["t"] >= warm_up_s]
    seen = lags(rows)
    calm = [lag for at, lag in seen if at > _BEGIN_S and quiet(faults, at)]
    page = [
        age
        for row in rows
        if row["t"] > _BEGIN_S and quiet(faults, row["t"], 70.0)
        for age in row["page_lags"]
    ]
    at = [row["t"] for row in warm]
    spent = life[-1]["cpu_s"] - life[0]["cpu_s"]
    found: Row = {
        "seconds": round(rows[-1]["t"]),
        "rows": len(rows),
        **{
            f"{name}_per_h": asdict(slope(at, [row[name] for row in warm]))
            for name in ("rss_mb", "anon_mb", "fds")
        },
        **{
            name: {
                "warm": warm[0][name],
                "last": warm[-1][name],
                "most": max(row[name] for row in life),
            }
            for name in ("rss_mb", "anon_mb", "fds", "threads")
        },
        "fds_go_on": goes_on([row["fds"] for row in warm]),
        "cores": round(spent / (life[-1]["t"] - life[0]["t"]), 3),
        "calm_lag_s": _spread(calm),
        "calm_page_lag_s": _spread(page),
        "lag_most_s": round(max(lag for _, lag in seen), 1),
        "backlog_most": max(int(row.get("in_flight", 0)) for row in rows),
        "recovery_s": {},
    }
    for each in faults:
        if each["ended"] is not None:
            times = found["recovery_s"].setdefault(each["fault"], [])
            times.append(recovery(seen, each["ended"]))
    return found


def _spread(values: Sequence[float]) -> Row:
    if not values:
        return {"looks": 0}
    middle, high = np.percentile(values, [50, 99])
    return {
        "looks": len(values),
        "median": round(float(middle), 2),
        "p99": round(float(high), 2),
        "most": round(max(values), 2),
    }


def leaking(
    rows: Sequence[Row], mb_h: float = LEAK_MB_H, step_mb: float = 1.0
) -> list[Row]:
    """Return the same rows as of a service that leaks, a block at a time."""
    return [
        row | {name: row[name] + leaked for name in ("rss_mb", "anon_mb")}
        for row in rows
        for leaked in [mb_h * row["t"] / 3600 // step_mb * step_mb]
    ]
