"""What lies ahead of each surface, drawn: its past, the fan of its future, its date.

From results to what a template draws: an SVG's coordinates, a table's rows,
sentences. Neither HTML nor HTTP is known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from twin.service.results import Results, parse_instant
from twin.service.web.once import once

WIDTH, HEIGHT = 480.0, 210.0
_PAST = timedelta(days=270)
_LATER = timedelta(days=150)
_MOST = 160
_DAY = 86_400.0
WORDS = {
    "verified": "verified",
    "not seen": "not seen",
    "too early": "too early to say",
    "seen, not logged": "seen, not logged",
}


@dataclass(frozen=True, slots=True)
class Mark:
    """A vertical line at a time, with its words; ``kind`` is how it looks."""

    x: float
    words: str
    kind: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Fan:
    """A surface's conductance in % of commissioned: what was, and what may come.

    Paths and ticks in the coordinates of a box :data:`WIDTH` by :data:`HEIGHT`.
    """

    past: str
    band: str
    middle: str
    marks: tuple[Mark, ...]
    levels: tuple[tuple[float, str], ...]
    dates: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """What is known of one surface of one unit.

    ``ahead`` is a forecast as results keep it, None where there is none and
    ``refused`` says why. ``waiting`` has, for each span, days, the conductance
    with its 80 % interval [1], what the dirt costs with its interval and what is
    lost by waiting. [EUR]
    """

    component: str
    ahead: Mapping[str, Any] | None
    refused: str
    clean_by: datetime | None
    earliest: datetime | None
    latest: datetime | None
    good: tuple[datetime, datetime] | None
    overdue: bool
    waiting: tuple[Mapping[str, Any], ...]
    cleanings: tuple[Mapping[str, Any], ...]
    fan: Fan | None


@once
def panels(results: Results, unit: str) -> tuple[Panel, ...]:
    """Return one panel for each surface of a unit that is followed."""
    told = results.summary.get("outlook", {})
    of_unit = told.get(unit, {}) if isinstance(told, Mapping) else {}
    cleanings = [
        one for one in results.summary.get("cleanings", ()) if one["unit"] == unit
    ]
    return tuple(
        _panel(
            results,
            unit,
            component,
            of_unit[component],
            [one for one in cleanings if one["component"] == component],
        )
        for component in sorted(of_unit)
    )


def table(results: Results, unit: str) -> pd.DataFrame:
    """Return the fans of a unit, or of all, as a table.

    Columns are time, unit, component, and the conductance over the commissioned one
    with its 80 % interval: low, mid, high. [1]
    """
    told = results.summary.get("outlook", {})
    rows = [
        (pd.Timestamp(parse_instant(time)), name, component, *shares)
        for name, surfaces in sorted(told.items())
        if unit in ("", name)
        for component, one in sorted(surfaces.items())
        for time, *quantiles in one.get("fan", ())
        # A large resistance is a small conductance.
        for shares in [sorted(1.0 / (1.0 + r) for r in quantiles)]
    ]
    return pd.DataFrame(
        rows, columns=["time", "unit", "component", "low", "mid", "high"]
    )


def _time(text: str | None) -> datetime | None:
    return None if text is None else parse_instant(text)


def _panel(
    results: Results,
    unit: str,
    component: str,
    told: Mapping[str, Any],
    cleanings: Sequence[Mapping[str, Any]],
) -> Panel:
    ahead = told if "law" in told else None
    clean_by = _time(ahead["clean_by"]) if ahead else None
    made = _time(ahead["made"]) if ahead else None
    first, last = (
        (_time(ahead[name]) if ahead else None) for name in ("good_from", "good_until")
    )
    return Panel(
        component=component,
        ahead=ahead,
        refused="" if ahead else str(told.get("sentence", "")),
        clean_by=clean_by,
        earliest=_time(ahead["earliest"]) if ahead else None,
        latest=_time(ahead["latest"]) if ahead else None,
        good=None if first is None or last is None else (first, last),
        overdue=clean_by is not None and made is not None and clean_by <= made,
        waiting=tuple(
            {
                **one,
                # A large resistance is a small conductance.
                **{
                    name: 1.0 / (1.0 + one[other])
                    for name, other in (
                        ("low", "high"),
                        ("mid", "mid"),
                        ("high", "low"),
                    )
                },
            }
            for one in (ahead["waiting"] if ahead else ())
        ),
        cleanings=tuple(
            {**one, "time": parse_instant(one["time"]), "words": WORDS[one["verdict"]]}
            for one in reversed(cleanings)
        ),
        fan=_fan(results, unit, component, ahead, clean_by, cleanings),
    )


def _fan(
    results: Results,
    unit: str,
    component: str,
    ahead: Mapping[str, Any] | None,
    clean_by: datetime | None,
    cleanings: Sequence[Mapping[str, Any]],
) -> Fan | None:
    rows = results.health
    rows = rows[
        (rows["unit"] == unit)
        & (rows["component"] == component)
        & (rows["indicator"] == "conductance_ratio")
        & rows["value"].notna()
    ]
    if not len(rows):
        return None
    end = rows["time"].iloc[-1]
    rows = rows[rows["time"] > end - _PAST]
    # One line a day would be noise on a telephone.
    step = max(1, -(-len(rows) // _MOST))
    value = rows.set_index("time")["value"].rolling(step).median()
    value = value.iloc[step - 1 :: step]
    past = [(time.timestamp(), 100.0 * float(v)) for time, v in value.items()]
    future = [
        (parse_instant(time).timestamp(), *(100.0 / (1.0 + r) for r in quantiles))
        for time, *quantiles in (ahead["fan"] if ahead else ())
    ]
    stop = max([past[-1][0], *(one[0] for one in future)])
    if clean_by is not None and clean_by.timestamp() <= stop + _LATER.total_seconds():
        stop = max(stop, clean_by.timestamp() + 5 * _DAY)
    start = past[0][0]
    every = [v for _, v in past] + [v for one in future for v in one[1:]]
    low, high = min([*every, 95.0]) - 2.0, max([*every, 100.0]) + 2.0

    def x(time: float) -> float:
        return round(float(WIDTH * (time - start) / max(stop - start, 1.0)), 1)

    def y(share: float) -> float:
        return round(float(HEIGHT * (high - share) / (high - low)), 1)

    def path(points: Sequence[tuple[float, float]]) -> str:
        return "M" + "L".join(f"{x(time)} {y(v)}" for time, v in points)

    marks = [
        _mark(x(time.timestamp()), f"{WORDS[one['verdict']]}", one["verdict"])
        for one in cleanings
        if (time := parse_instant(one["time"])).timestamp() >= start
    ]
    if clean_by is not None and start <= clean_by.timestamp() <= stop:
        marks.append(_mark(x(clean_by.timestamp()), "clean by", "due"))
    band = ""
    if future:
        upper = [(t, a) for t, a, _, _ in future]
        lower = [(t, c) for t, _, _, c in future]
        band = path([*upper, *reversed(lower)]) + "Z"
    raster = 5.0 if high - low < 30.0 else 10.0
    levels = np.arange(np.ceil(low / raster) * raster, high, raster)
    months = pd.date_range(
        pd.Timestamp(start, unit="s", tz="UTC").normalize(),
        pd.Timestamp(stop, unit="s", tz="UTC"),
        freq="MS",
    )
    months = months[:: max(1, -(-len(months) // 6))]
    return Fan(
        past=path(past),
        band=band,
        middle=path([(t, b) for t, _, b, _ in future]) if future else "",
        marks=tuple(marks),
        levels=tuple((y(float(level)), f"{level:.0f}") for level in levels),
        dates=tuple((x(month.timestamp()), f"{month:%b %y}") for month in months),
    )


def _mark(x: float, words: str, verdict: str) -> Mark:
    return Mark(x, words, verdict.replace(", ", "-").replace(" ", "-"),
                "end" if x > WIDTH / 2 else "start")  # fmt: skip
