"""What the page shows and whom it asks: all that its rooms know of the service."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from prometheus_client import CollectorRegistry

from calibration.registry import Role
from twin.plant import Plant
from twin.service.alarms import Alarms
from twin.service.playback import Playback
from twin.service.results import Live, ResultsView
from twin.service.users import Users
from twin.service.web import field as say
from twin.service.web.monthly import Months

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from twin.service.state import Backlog
    from twin.service.web.fitted import Drawing


class Delivery(Protocol):
    """What the page must know of whoever delivers messages."""

    def backlog(self) -> Backlog:
        """Return what has not been delivered."""
        ...


class Library(Protocol):
    """What the page must know of whoever keeps the models."""

    @property
    def units(self) -> Sequence[str]:
        """Whose models there may be."""
        ...

    def history(self, unit: str) -> Sequence[Mapping[str, Any]]:
        """Return every version of a unit, newest first."""
        ...

    def shown(self, unit: str, version: str) -> Mapping[str, Any]:
        """Return everything that is kept of one model."""
        ...

    def drawn(self, unit: str, version: str) -> Sequence[Drawing]:
        """Draw its fit and its parameters."""
        ...

    def tracked(self, unit: str) -> Sequence[Drawing]:
        """Draw the degradations that all recalibrations of a unit saw."""
        ...

    def roll_back(
        self, unit: str, role: Role, who: str, reason: str, now: datetime
    ) -> object:
        """Put the version that served before back into service."""
        ...


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _no_counts() -> Mapping[str, float]:
    return {}


def _no_problems() -> Sequence[str]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Page:
    """What the page shows and whom it asks.

    Attributes
    ----------
    view, alarms, live
        The newest results, the alarms, the newest values.
    plant
        The plant as configured; None draws what the results name.
    delivery
        Who delivers messages; None where nobody is told.
    shelf
        Who keeps the models; None shows what the results say of them.
    replays
        Where replays are kept that are shown beside what the service finds.
    playback
        Who replays what the page is asked for; None where nobody does.
    months
        Who writes the months' reports; None writes none.
    counts
        Verdicts of payloads since the start, by name.
    problems
        Why the service is not ready; empty when it is.
    deaths
        Why it is not even alive; a supervisor restarts it then.
    registry
        Further metrics to be served beside the page's own.
    clock
        What time it is; a replay may show another. UTC.
    stale_after
        Age from which a value is shown as stale.
    heartbeat
        Seconds between two beats of the event stream. [s]
    hosts
        Names it answers to besides this machine's own.
    users
        Who may come in; None, or nobody there, asks for no login.
    """

    view: ResultsView
    alarms: Alarms
    live: Live
    plant: Plant | None = None
    delivery: Delivery | None = None
    shelf: Library | None = None
    replays: Path | None = None
    playback: Playback | None = None
    months: Months | None = None
    counts: Callable[[], Mapping[str, float]] = _no_counts
    problems: Callable[[], Sequence[str]] = _no_problems
    deaths: Callable[[], Sequence[str]] = _no_problems
    registry: CollectorRegistry | None = None
    clock: Callable[[], datetime] = _utc_now
    timezone: str = "UTC"
    stale_after: timedelta = timedelta(minutes=15)
    heartbeat: float = 15.0
    hosts: tuple[str, ...] = ()
    users: Users | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    @cached_property
    def where(self) -> ZoneInfo:
        """In whose time days and moments are said."""
        return say.zone(self.timezone)

    @property
    def units(self) -> list[str]:
        """The machines of the plant; without a plant, whatever has a COP."""
        if self.plant is not None and self.plant.machines:
            return [machine.id for machine in self.plant.machines]
        results = self.view.results
        kpis, health = results.kpis["unit"], results.health["unit"]
        named = set(map(str, kpis)) | set(map(str, health))
        return sorted(named - {"site", ""}) or results.units()

    @property
    def revision(self) -> str:
        """Another one whenever findings or alarms are."""
        return f"{self.view.revision}.{self.alarms.revision}"
