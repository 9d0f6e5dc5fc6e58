"""Delivery: who is told of an alarm, and that it reached them.

Messages are written down with the change that causes them, then delivered at
least once, in order for each route, with growing pauses while a route fails;
the same idempotency key always marks the same message. What an alarm is, is
:mod:`twin.service.alarms`' business. Apprise's door.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import threading
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from types import ModuleType
from typing import Any, Protocol

from twin.service.alarms import Case, Severity, Status, Transition
from twin.service.results import instant, to_json
from twin.service.state import Backlog, Message, State, Waiting

log = logging.getLogger(__name__)

MQTT = "mqtt"
FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(hours=1)
# What was not delivered in a week is on the page, and old news elsewhere.
GIVE_UP_AFTER = timedelta(days=7)
LATE_AFTER = timedelta(minutes=15)
_BATCH = 100


class Publisher(Protocol):
    """What delivers to MQTT: it returns when the broker has the message."""

    def publish(self, topic: str, payload: str, *, retain: bool) -> None:
        """Publish a message, or raise."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A way to people: an apprise URL, from which severity on, for which units.

    No units means all of them. ``ends`` is whether the end is told as well.
    """

    name: str
    url: str = field(repr=False)
    least: Severity = Severity.LOW
    units: frozenset[str] = frozenset()
    ends: bool = True

    def wants(self, transition: Transition, case: Case) -> bool:
        """Whether this route is told of that change."""
        news = transition.asks_for_a_person or (self.ends and transition.is_an_end)
        mine = not self.units or case.finding.unit in self.units
        return news and mine and case.severity >= self.least


@dataclass(frozen=True, slots=True)
class Delivered:
    """What one round of delivery did."""

    sent: int
    failed: int


def check_url(url: str) -> str | None:
    """Return None if apprise can use the URL, else the sentence why not.

    Nothing is sent, and the sentence does not repeat what may be a password.
    """
    apprise = _apprise()
    schema = url.split("://", 1)[0] if "://" in url else ""
    if not schema:
        return (
            "a notification URL begins with its service, such as mailto:// or json://"
        )
    known = _schemas()
    if schema.lower() not in known:
        from twin.points import nearest

        near = nearest(schema.lower(), sorted(known))
        hint = f'; did you mean "{near}://"?' if near else ""
        return f'apprise knows no service "{schema}://"{hint}'
    if not apprise.Apprise().add(url):
        return (
            f'apprise cannot use this "{schema}://" URL: a part of it is missing or '
            "wrong; its form is in apprise's list of services"
        )
    return None


@cache
def _apprise() -> ModuleType:
    """Return apprise, imported when it is needed: it costs most of a second."""
    with warnings.catch_warnings():
        # One of its modules asks for imghdr, which Python 3.11 frowns upon.
        warnings.filterwarnings("ignore", "'imghdr'", DeprecationWarning)
        importlib.import_module("apprise.utils.pgp")
        return importlib.import_module("apprise")


def _schemas() -> frozenset[str]:
    apprise = _apprise()
    found: set[str] = set()
    for service in apprise.Apprise().details()["schemas"]:
        found |= set(service["protocols"] or ()) | set(
            service["secure_protocols"] or ()
        )
    return frozenset(found)


def topic_part(name: str) -> str:
    """Return a name as one level of a topic, whatever stands in it.

    >>> topic_part("hall 2/hp#1"), topic_part("")
    ('hall 2%2Fhp%231', '%')
    """
    kept = "".join(
        f"%{ord(letter):02X}" if letter in "/+#%$" or ord(letter) < 32 else letter
        for letter in name
    )
    return kept or "%"


class Notifier:
    """Writes messages for changes of alarms, and delivers them.

    Parameters
    ----------
    state : State
        Where the outbox is.
    site : str
        Name of the site, in topics and texts.
    routes : sequence of Route
        Whom to tell.
    publisher : Publisher, optional
        Where alarm states go as retained messages; None is nowhere.
    prefix : str
        First level of the topics.
    page : str
        Address of the page, named in the texts if it is given.
    """

    def __init__(
        self,
        state: State,
        site: str,
        routes: Sequence[Route] = (),
        publisher: Publisher | None = None,
        prefix: str = "hptwin",
        page: str = "",
    ) -> None:
        names = [route.name for route in routes]
        if len(set(names)) < len(names) or MQTT in names:
            raise ValueError(
                f'notify: route names {names} must differ, and "{MQTT}" is taken'
            )
        self._state = state
        self._site = site
        self._routes = {route.name: route for route in routes}
        self._publisher = publisher
        self._prefix = prefix
        self._page = page
        self._lock = threading.Lock()

    def compose(self, transition: Transition, case: Case) -> list[Message]:
        """Return what must be said of a change; it is written down with it."""
        messages = [
            self._told(route, transition, case)
            for route in self._routes.values()
            if route.wants(transition, case)
        ]
        # What history raised is published when it still stands today.
        if self._publisher is not None and not (transition.quiet and case.open):
            messages.append(self._state_of(case, transition.time))
        return messages

    def refresh(self, cases: Iterable[Case]) -> None:
        """Write down the retained state of cases whose numbers have moved on.

        What has been published already makes the same key, and is not again.
        """
        if self._publisher is not None:
            self._state.save(
                messages=[self._state_of(case, case.finding.seen) for case in cases]
            )

    def topic(self, case: Case) -> str:
        """Return where the state of a case is published."""
        finding = case.finding
        names = (finding.unit, "alert", finding.kind.value, finding.component)
        return "/".join(
            [self._prefix, *(topic_part(name) for name in (self._site, *names))]
        )

    def deliver(self, now: datetime) -> Delivered:
        """Deliver what is due; a route that fails keeps what it has for later."""
        sent = failed = 0
        with self._lock:
            for route in self._state.routes():
                for waiting in self._state.due(now, route, _BATCH):
                    error = self._send(route, waiting)
                    if error is None:
                        self._state.delivered(waiting.id, now)
                        sent += 1
                        continue
                    failed += 1
                    late = now - waiting.message.created > GIVE_UP_AFTER
                    if late or not self._knows(route):
                        self._state.gave_up(waiting.id, now, error)
                        log.warning("a message for %s is given up: %s", route, error)
                        continue
                    pause = min(
                        FIRST_PAUSE * 2 ** min(waiting.attempts, 20), LONGEST_PAUSE
                    )
                    self._state.failed(waiting.id, now + pause, error)
                    if waiting.attempts == 0:
                        log.warning("delivery by %s fails: %s", route, error)
                    break
        return Delivered(sent, failed)

    def backlog(self) -> Backlog:
        """Return what has not been delivered."""
        return self._state.backlog()

    def problems(self, now: datetime) -> list[str]:
        """Return why people may not know what they should."""
        backlog = self.backlog()
        if backlog.oldest is None or now - backlog.oldest < LATE_AFTER:
            return []
        return [
            f"{backlog.count} messages are not delivered, the oldest since "
            f"{instant(backlog.oldest)}: {backlog.error or 'not tried yet'}"
        ]

    def probe(self, route: str) -> str | None:
        """Send a test message; return None if it arrived, else why not."""
        return self._notify(
            self._routes[route],
            {
                "title": f"{self._site}: test",
                "body": "hptwin can reach you by this route. Nothing is wrong.",
                "type": "info",
            },
        )

    def _knows(self, name: str) -> bool:
        return name in self._routes or (name == MQTT and self._publisher is not None)

    def _told(self, route: Route, transition: Transition, case: Case) -> Message:
        key = _digest(
            self._site,
            transition.key,
            str(transition.occurrence),
            transition.change.value,
            instant(transition.time),
            route.name,
        )
        return Message(
            idempotency_key=key,
            route=route.name,
            created=transition.time,
            content={
                "title": _title(self._site, transition, case),
                "body": _body(transition, case, self._page, key),
                "type": _tone(transition, case),
            },
        )

    def _state_of(self, case: Case, time: datetime) -> Message:
        topic = self.topic(case)
        payload = to_json(
            {
                **case.to_dict(),
                "site": self._site,
                "time": time,
                "open": case.open,
                "active": case.open and case.returned is None,
            }
        )
        return Message(
            idempotency_key=_digest(topic, payload),
            route=MQTT,
            created=time,
            content={"topic": topic, "payload": payload},
        )

    def _send(self, name: str, waiting: Waiting) -> str | None:
        """Return None if a message has arrived, else why it has not."""
        content = waiting.message.content
        if name == MQTT:
            if self._publisher is None:
                return "no broker is configured for alarms any more"
            try:
                self._publisher.publish(
                    content["topic"], content["payload"], retain=True
                )
            # Whatever a publisher raises, the message stays and is tried again.
            except Exception as error:  # noqa: BLE001
                return f"{type(error).__name__}: {error}"
            return None
        route = self._routes.get(name)
        if route is None:
            return f'no route "{name}" is configured any more'
        return self._notify(route, content)

    def _notify(self, route: Route, content: Mapping[str, Any]) -> str | None:
        apprise = _apprise()
        sender = apprise.Apprise()
        if not sender.add(route.url):
            return f"route {route.name}: {check_url(route.url)}"
        try:
            arrived = sender.notify(
                title=content["title"],
                body=content["body"],
                notify_type=content["type"],
                body_format="text",
            )
        # A plugin's surprise must not end the service; it is tried again.
        except Exception as error:  # noqa: BLE001
            return f"route {route.name}: {type(error).__name__}"
        if not arrived:
            return f"route {route.name}: the service did not take it"
        return None


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


def _title(site: str, transition: Transition, case: Case) -> str:
    finding = case.finding
    what = f"{finding.unit} {finding.component}: {finding.kind.value}".replace("_", " ")
    if transition.is_an_end:
        return f"{site}: {what} is over"
    return f"{site}: {what} ({case.severity.word})"


def _body(transition: Transition, case: Case, page: str, key: str) -> str:
    finding = case.finding
    lines = [finding.sentence]
    if transition.is_an_end:
        ended = (
            "The twin no longer sees it. Please acknowledge, then it is closed."
            if transition.after is Status.RETURNED
            else "The twin no longer sees it. It is closed."
        )
        lines.append(ended)
    else:
        lines.append(finding.advice)
        if finding.cost_eur_day is not None:
            lines.append(f"It costs about {finding.cost_eur_day:.0f} EUR a day.")
        if finding.clean_by is not None:
            lines.append(f"Clean by {finding.clean_by:%Y-%m-%d}.")
    lines.append(f"Since {instant(finding.since)}; {transition.change.value} now.")
    if page:
        lines.append(page)
    lines.append(f"ref {key}")
    return "\n".join(lines)


def _tone(transition: Transition, case: Case) -> str:
    if transition.is_an_end:
        return "success"
    return {Severity.LOW: "info", Severity.MEDIUM: "warning"}.get(
        case.severity, "failure"
    )
