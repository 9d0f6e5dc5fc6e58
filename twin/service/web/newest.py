"""The newest values: what results and telemetry say now, and how old that is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from twin.service.web import field as say
from twin.service.web import instruments, views
from twin.service.web.page import Page


@dataclass(frozen=True, slots=True)
class PointLine:
    """A newest value as the page says it; ``stale`` is a word and a look."""

    unit: str
    point: str
    label: str
    text: str
    expected: str
    time: datetime
    stale: bool
    doubt: str = ""


def values(page: Page) -> dict[str, dict[str, tuple[float, datetime]]]:
    """Return results' values overlaid by live ones, the newer of both."""
    newest = {unit: dict(points) for unit, points in page.view.results.latest.items()}
    for unit, points in page.live.snapshot().items():
        known = newest.setdefault(unit, {})
        for point, (value, time) in points.items():
            if point not in known or known[point][1] <= time:
                known[point] = (value, time)
    return newest


def lines(page: Page, unit: str) -> list[PointLine]:
    """Return a unit's newest values, each beside what was expected of it."""
    now = page.clock()
    expected = page.view.results.expected.get(unit, {})
    doubted = instruments.lying(page.view.results, unit, now)
    return [
        PointLine(
            unit,
            point,
            say.label(point),
            say.value_text(point, value),
            say.value_text(point, expected[point]) if point in expected else "",
            time,
            now - time > page.stale_after,
            doubted.get(point, ""),
        )
        for point, value, time in views.unit_points(values(page), unit)
    ]


def quality(page: Page) -> dict[str, Any]:
    """Return what there is to know about the data themselves: ages, doubts, counts."""
    known = values(page)
    now = page.clock()
    ages = {
        unit: (
            len(points),
            sum(now - time > page.stale_after for _, time in points.values()),
            max(time for _, time in points.values()),
        )
        for unit, points in sorted(known.items())
        if points
    }
    return {
        "counts": dict(
            sorted({**page.view.results.data_quality, **page.counts()}.items())
        ),
        "ages": ages,
        "doubts": instruments.doubts(page.view.results, now),
        "set_aside": instruments.set_aside(page.view.results),
        "backlog": None if page.delivery is None else page.delivery.backlog(),
        "problems": list(page.problems()),
    }
