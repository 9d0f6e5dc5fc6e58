"""Which probes lie, as the page says it: beside their values and among the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from twin.service.results import parse_instant
from twin.service.web import field as say

if TYPE_CHECKING:
    from twin.service.results import Results

SHOWN = timedelta(days=7)
"""For how long a probe that is believed again is still told of."""
WORDS: Mapping[str, str] = {
    "lost": "readings lost",
    "stuck": "stuck",
    "unit": "another unit",
    "sign": "sign turned",
    "swapped": "swapped pair",
    "spikes": "spikes",
    "range": "out of range",
    "ambiguous": "implausible, cause ambiguous",
}


@dataclass(frozen=True, slots=True)
class Doubt:
    """A probe, or a pair, whose readings are or were set aside, and why."""

    unit: str
    points: tuple[str, ...]
    reason: str
    since: datetime
    named: datetime
    until: datetime | None

    @property
    def label(self) -> str:
        """The probes as a person calls them."""
        return " and ".join(say.label(point) for point in self.points)


def doubts(results: Results, now: datetime) -> list[Doubt]:
    """Return who lies, and who did in the last days, the newest first."""
    told: Any = results.summary.get("instruments", {})
    found = [
        Doubt(
            unit=unit,
            points=tuple(lie["points"]),
            reason=WORDS.get(lie["reason"], lie["reason"]),
            since=parse_instant(lie["since"]),
            named=parse_instant(lie["named"]),
            until=None if lie["until"] is None else parse_instant(lie["until"]),
        )
        for unit, lies in told.get("lying", {}).items()
        for lie in lies
    ]
    recent = [one for one in found if one.until is None or now - one.until <= SHOWN]
    recent.sort(key=lambda one: one.named, reverse=True)
    return sorted(recent, key=lambda one: one.until is not None)


def set_aside(results: Results) -> int:
    """Return how many readings were not used because their probe lies."""
    told: Any = results.summary.get("instruments", {})
    return int(told.get("set_aside", 0))


def lying(results: Results, unit: str, now: datetime) -> dict[str, str]:
    """Return by point why what a unit's probe says now is not used."""
    return {
        point: one.reason
        for one in doubts(results, now)
        if one.unit == unit and one.until is None
        for point in one.points
    }
