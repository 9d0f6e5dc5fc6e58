"""Somebody is told, once it is known, and it is known whether they were.

Receivers are real: an HTTP server behind apprise's ``json://``, a mosquitto
for the retained state.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler

import pytest
import servers

from ingest.broker import BrokerError, Connection, Publisher, Subscriber
from twin.finding import Finding, FindingKind
from twin.service.alarms import Alarms, Change, Closure, Severity
from twin.service.notify import (
    FIRST_PAUSE,
    GIVE_UP_AFTER,
    LONGEST_PAUSE,
    Delivered,
    Notifier,
    Route,
    check_url,
    topic_part,
)
from twin.service.state import State

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def finding(unit="hp1", cost=20.0, seen=START):
    """Make a condenser that fouls."""
    return Finding(
        unit=unit,
        kind=FindingKind.FOULING,
        component="condenser",
        since=START - 10 * DAY,
        seen=seen,
        size=0.2,
        low=0.15,
        high=0.25,
        sentence="The condenser has lost 20 % of its conductance.",
        advice="Clean it.",
        cost_eur_day=cost,
    )


KEY = finding().key


@dataclass
class Receiver:
    """An HTTP server that keeps what it takes; ``status`` is what it answers."""

    url: str = ""
    status: int = 200
    got: list[dict[str, str]] = field(default_factory=list)

    def titles(self) -> list[str]:
        """Return the titles of what was taken."""
        return [one["title"] for one in self.got]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Give a real receiver of apprise's JSON, on a port of its own."""
    state = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if state.status == 200:
                state.got.append(body)
            self.send_response(state.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with servers.http(Handler) as place:
        state.url = f"json://{place}/"
        yield state


def service(state: State, *routes: Route, **options):
    """Return alarms whose changes a notifier delivers, and the notifier."""
    notifier = Notifier(state, "harbour", routes, **options)
    return Alarms(state, compose=notifier.compose), notifier


def test_a_raised_alarm_arrives_once_with_what_to_do(state: State, receiver: Receiver):
    """Sentence, advice, cost and a reference; nothing is sent a second time."""
    alarms, notifier = service(state, Route(name="mail", url=receiver.url))
    alarms.step([finding()], START)

    assert notifier.deliver(START) == Delivered(1, 0)
    assert notifier.deliver(START + DAY) == Delivered(0, 0)

    [message] = receiver.got
    assert message["title"] == "harbour: hp1 condenser: fouling (medium)"
    for said in ("lost 20 %", "Clean it.", "20 EUR a day", "ref "):
        assert said in message["message"]


def test_an_update_tells_nobody_and_an_end_does(state: State, receiver: Receiver):
    """A hundred looks at one fault are one message; its end is the second."""
    alarms, notifier = service(state, Route(name="mail", url=receiver.url))
    for n in range(100):
        alarms.step([finding()], START + n * timedelta(hours=1))
    alarms.step([], START + 5 * DAY)
    alarms.step([], START + 9 * DAY)
    notifier.deliver(START + 9 * DAY)

    assert receiver.titles() == [
        "harbour: hp1 condenser: fouling (medium)",
        "harbour: hp1 condenser: fouling is over",
    ]


def test_what_a_person_does_is_not_news_to_persons(state: State, receiver: Receiver):
    """Acknowledging, shelving and closing page nobody."""
    alarms, notifier = service(state, Route(name="mail", url=receiver.url))
    alarms.step([finding()], START)
    alarms.acknowledge(KEY, "Ada", START)
    alarms.shelve(KEY, "Ada", START, START + DAY, "parts")
    alarms.close(KEY, "Ada", START, "cleaned", Closure.FIXED)
    notifier.deliver(START)

    assert len(receiver.got) == 1


def test_a_failing_receiver_is_tried_again_with_growing_pauses(
    state: State, receiver: Receiver, caplog
):
    """Down for hours: nothing is lost, nothing is sent twice, order is kept."""
    receiver.status = 500
    alarms, notifier = service(state, Route(name="mail", url=receiver.url))
    alarms.step([finding()], START)
    alarms.step([finding(cost=90.0)], START + timedelta(minutes=1))
    now, tries = START + timedelta(minutes=1), 0
    for _ in range(6 * 3600 // 10):
        tries += notifier.deliver(now).failed
        now += timedelta(seconds=10)

    assert 8 <= tries <= 16  # 30 s, doubling, to once an hour; not 2160
    assert notifier.problems(now)
    assert "did not take it" in notifier.problems(now)[0]
    assert alarms.board.cases[KEY].severity is Severity.HIGH

    receiver.status = 200
    assert notifier.deliver(now + LONGEST_PAUSE) == Delivered(2, 0)
    assert receiver.titles() == [
        "harbour: hp1 condenser: fouling (medium)",
        "harbour: hp1 condenser: fouling (high)",
    ]
    assert notifier.problems(now + LONGEST_PAUSE) == []
    assert FIRST_PAUSE < LONGEST_PAUSE


def test_a_dead_route_does_not_hold_up_another(
    state: State, receiver: Receiver, caplog
):
    """Each route has its own queue."""
    alarms, notifier = service(
        state,
        Route(name="dead", url="json://127.0.0.1:9/"),
        Route(name="well", url=receiver.url),
    )
    alarms.step([finding()], START)

    assert notifier.deliver(START) == Delivered(1, 1)
    assert len(receiver.got) == 1


def test_what_nobody_took_for_a_week_is_given_up_and_counted(state: State, caplog):
    """Old news is not delivered years later; that it was lost is not hidden."""
    alarms, notifier = service(state, Route(name="dead", url="json://127.0.0.1:9/"))
    alarms.step([finding()], START)
    notifier.deliver(START)
    assert notifier.backlog().count == 1

    notifier.deliver(START + GIVE_UP_AFTER + DAY)

    assert (notifier.backlog().count, notifier.backlog().given_up) == (0, 1)


def test_a_message_written_before_a_restart_is_delivered_after_it(
    kept, receiver: Receiver
):
    """The outbox is on disk; the change and its message are one."""
    state = kept.open()
    alarms, _ = service(state, Route(name="mail", url=receiver.url))
    alarms.step([finding()], START)
    state.close()

    again = kept.open()
    alarms, notifier = service(again, Route(name="mail", url=receiver.url))
    alarms.step([finding()], START + DAY)

    assert notifier.deliver(START + DAY) == Delivered(1, 0)
    again.close()


def test_a_replay_pages_nobody(state: State, receiver: Receiver):
    """A year of history through a state of its own: the outbox stays empty."""
    alarms = Alarms(state)
    for n in range(365):
        alarms.step([finding()] if n // 30 % 2 else [], START + n * DAY)

    assert alarms.history()  # it did happen
    assert state.backlog().count == 0


@pytest.mark.parametrize(
    ("route", "told"),
    [
        (Route(name="r", url="json://127.0.0.1"), True),
        (Route(name="r", url="json://127.0.0.1", least=Severity.HIGH), False),
        (Route(name="r", url="json://127.0.0.1", units=frozenset({"hp2"})), False),
        (Route(name="r", url="json://127.0.0.1", units=frozenset({"hp1"})), True),
    ],
)
def test_a_route_is_told_what_it_asked_for(state: State, route, told):
    """By severity and by unit."""
    alarms, notifier = service(state, route)
    alarms.step([finding()], START)

    assert bool(notifier.backlog().count) is told


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("json://127.0.0.1:9/", None),
        ("mailtoo://me:secret@example.com", 'did you mean "mailto://"'),
        ("mailto://", "missing or wrong"),
        ("me@example.com", "begins with its service"),
    ],
)
def test_a_bad_url_is_found_before_anything_happens(url, sentence):
    """At check time, in a sentence that keeps the password to itself."""
    said = check_url(url)

    assert said is None if sentence is None else sentence in said
    assert "secret" not in str(said)
    assert "secret" not in repr(Route(name="r", url="mailto://me:secret@example.com"))


def test_the_probe_says_whether_it_arrived(state: State, receiver: Receiver, caplog):
    """A route can be tried without an alarm."""
    _, notifier = service(
        state,
        Route(name="well", url=receiver.url),
        Route(name="dead", url="json://127.0.0.1:9/"),
    )

    assert notifier.probe("well") is None
    assert "did not take it" in str(notifier.probe("dead"))


# --- the retained state on MQTT ----------------------------------------------


def retained(port: int, topic: str, client: str) -> dict[str, object]:
    """Return what a newcomer to the topic is given by the broker."""
    subscriber = Subscriber(Connection(port=port, client_id=client), [topic])
    subscriber.start()
    try:
        [delivery] = subscriber.take(timeout=10.0)
        subscriber.acknowledge([delivery])
    finally:
        subscriber.stop()
    found: dict[str, object] = json.loads(delivery.message.payload)
    return found


def test_the_state_stands_on_the_broker_for_who_comes_later(state: State, mosquitto):
    """Raised, acknowledged, over: always the newest, also for a newcomer."""
    topic = "hptwin/harbour/hp1/alert/fouling/condenser"
    with Publisher(Connection(port=mosquitto.port, client_id="out")) as publisher:
        alarms, notifier = service(state, publisher=publisher)
        alarms.step([finding()], START)
        assert notifier.deliver(START) == Delivered(1, 0)
        first = retained(mosquitto.port, topic, "a")
        assert (first["status"], first["active"]) == ("unacknowledged", True)

        alarms.acknowledge(KEY, "Ada", START + DAY, "will look")
        alarms.step([], START + 2 * DAY)
        alarms.step([], START + 6 * DAY)
        assert notifier.deliver(START + 6 * DAY).failed == 0
        last = retained(mosquitto.port, topic, "b")

    assert (last["status"], last["open"]) == ("normal", False)


def test_numbers_that_moved_are_published_and_others_are_not(state: State, mosquitto):
    """Refreshing is free of repeats: the same state has the same key."""
    with Publisher(Connection(port=mosquitto.port, client_id="out")) as publisher:
        alarms, notifier = service(state, publisher=publisher)
        alarms.step([finding()], START)
        notifier.deliver(START)
        later = START + timedelta(hours=1)
        alarms.step([finding(cost=21.0, seen=later)], later)
        for _ in range(3):
            notifier.refresh(alarms.cases())
        assert notifier.deliver(later) == Delivered(1, 0)
        topic = notifier.topic(alarms.cases()[0])
        now = retained(mosquitto.port, topic, "a")

    assert isinstance(now["finding"], dict)
    assert now["finding"]["cost_eur_day"] == 21.0


class Gone:
    """A broker that is not there."""

    def publish(self, topic: str, payload: str, *, retain: bool) -> None:
        """Fail as the real publisher does."""
        raise BrokerError("no broker takes our messages")


def test_without_a_broker_the_states_wait_in_order(state: State, mosquitto, caplog):
    """An old state must not overtake a newer one when the broker is back."""
    alarms, notifier = service(state, publisher=Gone())
    alarms.step([finding()], START)
    assert notifier.deliver(START) == Delivered(0, 1)
    alarms.acknowledge(KEY, "Ada", START + timedelta(seconds=1))
    # The newer one is not due by itself: it stands behind the older one.
    assert notifier.deliver(START + timedelta(seconds=2)) == Delivered(0, 0)

    with Publisher(Connection(port=mosquitto.port, client_id="out")) as publisher:
        back = Notifier(state, "harbour", publisher=publisher)
        assert back.deliver(START + timedelta(hours=1)) == Delivered(2, 0)
        now = retained(mosquitto.port, back.topic(alarms.cases()[0]), "a")

    assert now["status"] == "acknowledged"
    assert Change.ACKNOWLEDGED.value == now["status"]


@pytest.mark.parametrize("name", ["a/b", "+", "#", "a\nb", "", "$SYS", "%2F"])
def test_no_name_leaves_its_level_of_the_topic(name):
    """A unit called ``+/#`` must not become somebody else's topic."""
    part = topic_part(name)

    assert part
    assert not set(part) & set("/+#\n")


def test_two_names_never_share_a_topic():
    """The percent sign is itself escaped."""
    names = ["a/b", "a%2Fb", "a%b", "a+b", "ab"]

    assert len({topic_part(name) for name in names}) == len(names)
