"""The vocabulary as a person reads it: a list, a table, an object."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from twin.points import POINTS, Kind, Point


def chosen(kind: Kind | None) -> list[Point]:
    """Return the points that a kind of device may carry; None is all of them."""
    return [point for point in POINTS.values() if kind is None or kind in point.kinds]


def as_dict(point: Point) -> dict[str, Any]:
    """Return a point for JSON; a bound that is none is null."""
    return {
        "name": point.name,
        "unit": point.unit,
        "low": point.low if math.isfinite(point.low) else None,
        "high": point.high if math.isfinite(point.high) else None,
        "kinds": [kind.value for kind in point.kinds],
        "origin": point.origin.value,
        "meaning": point.meaning,
    }


def lines(points: Iterable[Point]) -> Iterator[str]:
    """Yield a line for each point, aligned."""
    rows = [_row(point) for point in points]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        parts = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join([*parts, row[4]])


def markdown(points: Iterable[Point]) -> str:
    """Return the points as a table for the README, without a final line end."""
    head = ["name", "unit", "plausible", "of", "meaning"]
    rows = [head, ["---"] * len(head)]
    rows += [[f"`{cells[0]}`", *cells[1:]] for cells in map(_row, points)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _row(point: Point) -> list[str]:
    kinds = ", ".join(kind.value.replace("_", " ") for kind in point.kinds)
    span = f"{_number(point.low)} to {_number(point.high)}"
    origin = "" if point.origin.value == "measured" else f" ({point.origin.value})"
    return [point.name, point.unit, span, kinds + origin, point.meaning]


def _number(value: float) -> str:
    return "any" if math.isinf(value) else f"{value:g}"
