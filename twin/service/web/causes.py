"""Where a unit's COP went, as a drawing and a table: from results to a page."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from calibration.waterfall import COMMISSIONED, LOST, MACHINE, NOW
from twin.attribution import Component
from twin.service.results import Results
from twin.service.web import field as say
from twin.service.web.once import once

ROW, TOP, LEFT, RIGHT = 30.0, 22.0, 132.0, 420.0
"""The drawing's measures, in its own units: row height and edges of the scale."""
WORDS: Mapping[str, str] = {
    COMMISSIONED: "commissioned",
    str(Component.BOUNDARY): "boundary",
    str(Component.EVAPORATOR): "evaporator",
    str(Component.CONDENSER): "condenser",
    str(Component.COMPRESSOR): "compressor",
    MACHINE: "machine",
    str(Component.CHARGE): "charge, valve",
    str(Component.AUXILIARIES): "pumps",
    str(Component.UNEXPLAINED): "unexplained",
    LOST: "lost in all",
    NOW: "now",
}
"""The rows, in the order in which they are drawn."""
_LEVELS = (COMMISSIONED, NOW)
Row = Mapping[Hashable, Any]


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of the drawing; ``x`` and ``end`` in its units, ``low`` to ``high`` too.

    ``kind`` is ``level``, ``loss`` or ``gain``.
    """

    words: str
    kind: str
    y: float
    x: float
    end: float
    low: float
    high: float
    cop: float


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table: each cell is a number and its 95 % interval, as text.

    Without cells ``why`` says what the cause would need.
    """

    words: str
    whole: bool
    cells: Sequence[tuple[str, str]]
    why: str


@dataclass(frozen=True, slots=True)
class Causes:
    """What a page shows of one unit.

    ``lines`` are the table's, ``bars`` the drawing's, in the order of :data:`WORDS`;
    ``refusal`` says why there are none; ``ticks`` are places on the scale and their
    COP.
    """

    unit: str
    time: datetime
    lines: Sequence[Line]
    bars: Sequence[Bar]
    ticks: Sequence[tuple[float, float]]
    height: float
    refusal: str


def ordered(results: Results, unit: str) -> pd.DataFrame:
    """Return the rows of a unit, or of all, in the order in which they add up."""
    table = results.attribution
    mine = table[table["unit"] == unit] if unit else table
    place = {name: number for number, name in enumerate(WORDS)}
    order = mine["component"].map(place).fillna(len(place))
    return (
        mine.assign(_order=order)
        .sort_values(["unit", "_order"], kind="stable")
        .drop(columns="_order")
        .reset_index(drop=True)
    )


@once
def view(results: Results, unit: str) -> Causes | None:
    """Return what a page shows of a unit's lost COP, None where nothing was split.

    Parameters
    ----------
    results : Results
        The newest.
    unit : str
        A machine.

    Returns
    -------
    Causes or None
        Drawing and table; only a reason where there was no answer.
    """
    table = ordered(results, unit)
    if table.empty:
        return None
    rows = table.to_dict("records")
    time = table["time"].iloc[0].to_pydatetime()
    begin = rows[0]
    if not math.isfinite(begin["cop"]):
        return Causes(unit, time, (), (), (), 0.0, str(begin["why"]))
    drawn = [row for row in rows if math.isfinite(row["cop"])]
    level, spans = float(begin["cop"]), []
    for row in drawn:
        if row["component"] == LOST:
            continue
        if row["component"] in _LEVELS:
            level = float(row["cop"])
            spans.append((row, level, level))
        else:
            spans.append((row, level, level - float(row["cop"])))
            level = spans[-1][2]
    low, high = _scale([edge for _, a, b in spans for edge in (a, b)])

    def x(cop: float) -> float:
        at = LEFT + (RIGHT - LEFT) * (cop - low) / (high - low)
        return round(min(max(at, LEFT), RIGHT), 2)

    bars = []
    for number, (row, start, end) in enumerate(spans):
        half = (float(row["cop_high"]) - float(row["cop_low"])) / 2.0
        half = half if math.isfinite(half) else 0.0
        kind = "loss" if end < start else "gain"
        bars.append(
            Bar(
                words=WORDS.get(row["component"], str(row["component"])),
                kind="level" if row["component"] in _LEVELS else kind,
                y=TOP + ROW * number,
                x=x(start),
                end=x(end),
                low=x(end - half),
                high=x(end + half),
                cop=end if row["component"] in _LEVELS else end - start,
            )
        )
    step = _step(high - low)
    first = math.ceil(low / step - 1e-9)
    ticks = [(x(k * step), k * step) for k in range(first, math.floor(high / step) + 1)]
    return Causes(
        unit, time, [_line(row) for row in rows], bars, ticks, TOP + ROW * len(bars), ""
    )


def _scale(levels: Sequence[float]) -> tuple[float, float]:
    """Return the ends of a scale on which small parts can be seen."""
    low, high = min(levels), max(levels)
    room = max(0.25 * (high - low), 0.02 * high)
    return low - room, high + room


def _step(span: float) -> float:
    """Return a round step that leaves three to seven ticks."""
    raw = span / 6.0
    ten = 10.0 ** math.floor(math.log10(raw))
    return next(f * ten for f in (1.0, 2.0, 5.0, 10.0) if f * ten >= raw)


# What a cell is: number of the results, factor to the field, digits.
_CELLS = (
    ("cop", 1.0, 2),
    ("power_w", 1e-3, 1),
    ("energy_j_day", 1.0 / 3.6e6, 0),
    ("eur_year", 1.0, 0),
    ("kg_year", 1.0, 0),
)


def _line(row: Row) -> Line:
    """Return a row of the table; what a cause takes from the COP is negative there."""
    name = str(row["component"])
    words = WORDS.get(name, name)
    whole = name in (COMMISSIONED, LOST, NOW)
    if not math.isfinite(row["cop"]):
        return Line(words, whole, (), str(row["why"]) or "not known")
    cells = []
    for number, factor, digits in _CELLS:
        if number == "cop" and name not in _LEVELS:
            factor = -factor
        value, *ends = (factor * row[f"{number}{end}"] for end in ("", "_low", "_high"))
        low, high = sorted(ends)
        told = math.isfinite(low)
        cells.append(
            (
                say.number(value, digits),
                f"{say.number(low, digits)} to {say.number(high, digits)}"
                if told
                else "",
            )
        )
    return Line(words, whole, cells, "")
