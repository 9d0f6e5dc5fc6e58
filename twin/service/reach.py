"""Whom a configuration reaches: routes to people, an Alertmanager, a watchdog."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING

from twin.service.alarms import Severity
from twin.service.alertmanager import Alertmanager
from twin.service.config import secret
from twin.service.heartbeat import Heartbeat
from twin.service.notify import Notifier, Route
from twin.service.state import State

if TYPE_CHECKING:
    from twin.service.config import Config


def routes(config: Config) -> list[Route]:
    """Return the ways to people."""
    return [
        Route(
            name=way.name,
            url=way.url,
            least=Severity[way.least.upper()],
            units=frozenset(way.units),
            ends=way.ends,
        )
        for way in config.notify.ways
    ]


def alertmanager(config: Config) -> Alertmanager | None:
    """Return the Alertmanager that is told what stands, None where there is none."""
    told = config.notify
    if not told.alertmanager:
        return None
    token = secret(told.alertmanager_token_file, "")
    return Alertmanager(told.alertmanager, config.plant.name, config.web.url, token)


def heartbeat(config: Config) -> Heartbeat | None:
    """Return the watchdog that is shown a sign of life, None where there is none."""
    told = config.notify
    return Heartbeat(told.heartbeat, told.heartbeat_every) if told.heartbeat else None


def tried(config: Config, now: datetime) -> dict[str, str]:
    """Tell everybody that nothing is wrong; return by name why it did not arrive.

    An empty reason is an arrival. An Alertmanager is told no alert but the one that
    always stands.
    """
    with closing(State.in_memory()) as state:
        notifier = Notifier(state, config.plant.name, ways := routes(config))
        found = {way.name: notifier.probe(way.name) or "" for way in ways}
    if (manager := alertmanager(config)) is not None:
        found["alertmanager"] = manager.tell([], now)
    if (heart := heartbeat(config)) is not None:
        found["heartbeat"] = heart.beat(now)
    return found
