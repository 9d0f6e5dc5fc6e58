"""A real Alertmanager has what stands, and no more; a watchdog hears that we live."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import servers
from typer.testing import CliRunner

from ingest.broker import Connection
from twin.finding import Finding, FindingKind
from twin.service import run
from twin.service.alarms import Alarms
from twin.service.alertmanager import EVERY, LASTS, WATCHES, Alertmanager
from twin.service.cli import app
from twin.service.config import ArchiveConfig, NotifyConfig, WebConfig, load
from twin.service.heartbeat import Heartbeat
from twin.service.run import Service
from twin.service.state import Message, State

PLANT = servers.MOSQUITTO_CONF.parent / "plant.toml"
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)


def finding(unit: str = "hp1", cost: float = 20.0, seen: datetime | None = None):
    """Make a condenser that fouls."""
    seen = datetime.now(UTC) if seen is None else seen
    return Finding(
        unit=unit,
        kind=FindingKind.FOULING,
        component="condenser",
        since=seen - 10 * DAY,
        seen=seen,
        size=0.2,
        low=0.15,
        high=0.25,
        sentence=f"The condenser of {unit} has lost 20 % of its conductance.",
        advice="Clean it.",
        cost_eur_day=cost,
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """Run one for the module; each test has a site of its own."""
    with servers.alertmanager(tmp_path_factory.mktemp("alertmanager")) as found:
        yield found


def told(server: servers.Server, site: str) -> dict[str, dict[str, Any]]:
    """Return what an Alertmanager says stands at a site, by unit or name."""
    asked = urlencode({"filter": f'site="{site}"'})
    url = f"http://127.0.0.1:{server.port}/api/v2/alerts?{asked}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        found = json.load(answer)
    return {one["labels"].get("unit", one["labels"]["alertname"]): one for one in found}


def at(server: servers.Server, site: str) -> Alertmanager:
    """Return ours beside a running one."""
    return Alertmanager(
        f"http://127.0.0.1:{server.port}/", site, "https://twin.example.org/"
    )


def test_what_stands_is_there_and_what_ends_is_gone(server: servers.Server) -> None:
    """Acknowledged it stands; shelved, and returned, it does not."""
    now = datetime.now(UTC)
    ours = at(server, "north")
    with closing(State.in_memory()) as state:
        alarms = Alarms(state)
        alarms.step([finding("hp1", 20.0), finding("hp2", 2000.0)], now)
        assert ours.tell(alarms.board.cases.values(), now) == ""
        first = told(server, "north")
        assert set(first) == {"hp1", "hp2", WATCHES}
        assert first["hp1"]["labels"] == {
            "alertname": "hptwin_fouling",
            "site": "north",
            "unit": "hp1",
            "component": "condenser",
            "severity": first["hp1"]["labels"]["severity"],
        }
        assert first["hp1"]["labels"]["severity"] != first["hp2"]["labels"]["severity"]
        assert first["hp1"]["annotations"]["description"] == "Clean it."
        assert first["hp1"]["generatorURL"] == (
            "https://twin.example.org/alarms?case=hp1%2Ffouling%2Fcondenser"
        )

        alarms.acknowledge(finding().key, "Ada", now, "we see to it")
        alarms.shelve(finding("hp2").key, "Ada", now, now + DAY, "part ordered")
        assert ours.tell(alarms.board.cases.values(), now) == ""
        assert set(told(server, "north")) == {"hp1", WATCHES}

        # It costs more by now: one alert, with the severity of now.
        alarms.step([finding("hp1", 5000.0), finding("hp2", 2000.0)], now + MINUTE)
        assert ours.tell(alarms.board.cases.values(), now) == ""
        second = told(server, "north")
        assert set(second) == {"hp1", WATCHES}
        assert second["hp1"]["labels"]["severity"] == "critical"


def test_who_was_away_is_told_all_of_it(tmp_path: Path) -> None:
    """Nothing is lost by an outage; and what is said no more is not kept for ever."""
    now = datetime.now(UTC)
    with servers.alertmanager(tmp_path) as server, closing(State.in_memory()) as state:
        ours, alarms = at(server, "south"), Alarms(state)
        server.stop()
        alarms.step([finding()], now)
        problem = ours.tell(alarms.board.cases.values(), now)
        assert problem == "the Alertmanager does not answer: ConnectionRefusedError"
        assert ours.due(now)
        server.start()
        assert ours.tell(alarms.board.cases.values(), now) == ""
        assert set(told(server, "south")) == {"hp1", WATCHES}
        assert not ours.due(now + EVERY - timedelta(seconds=1))
        assert ours.due(now + EVERY)
        assert ours.due(now - DAY)  # the clock was set back
        stands = told(server, "south")["hp1"]["endsAt"]
        assert datetime.fromisoformat(stands) - now < LASTS + MINUTE


def test_what_nobody_was_to_be_told_of_is_not_told(server: servers.Server) -> None:
    """History; the control is the same alarm of today."""
    now = datetime.now(UTC)
    ours = at(server, "east")
    with closing(State.in_memory()) as state:
        alarms = Alarms(state)
        alarms.step([finding()], now, live=False)
        ours.tell(alarms.board.cases.values(), now)
        assert set(told(server, "east")) == {WATCHES}
        alarms.step([finding()], now + MINUTE)
        ours.tell(alarms.board.cases.values(), now)
        assert set(told(server, "east")) == {"hp1", WATCHES}


# --- a service's own -----------------------------------------------------------


@dataclass
class Watchdog:
    """A server that is asked for; ``status`` is what it answers."""

    url: str = ""
    status: int = 200
    asked: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def watchdog() -> Iterator[Watchdog]:
    """Run one on a port of its own."""
    kept = Watchdog()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kept.asked.append((self.path, self.headers.get("authorization", "")))
            self.send_response(kept.status)
            self.end_headers()

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with servers.http(Handler) as place:
        kept.url = f"http://{place}/ping/a-secret"
        yield kept


def test_a_heart_beats_as_often_as_it_should() -> None:
    """One that was not heard beats again; the address is in no sentence."""
    now = datetime.now(UTC)
    with watchdog() as dog:
        heart = Heartbeat(dog.url)
        assert heart.due(now)
        dog.status = 500
        problem = heart.beat(now)
        assert "500" in problem
        assert "secret" not in problem
        assert heart.due(now)
        dog.status = 200
        assert heart.beat(now) == ""
        assert not heart.due(now + 4 * MINUTE)
        assert heart.due(now + 5 * MINUTE)
        assert heart.due(now - MINUTE)  # the clock was set back
        assert [path for path, _ in dog.asked] == ["/ping/a-secret"] * 2


def test_a_token_goes_along() -> None:
    """As an Alertmanager behind a proxy asks for one."""
    with watchdog() as dog:
        word = "a word"
        ours = Alertmanager(dog.url.partition("/ping")[0], "west", token=word)
        assert ours.tell([], datetime.now(UTC)) == ""
        assert dog.asked == [("/api/v2/alerts", "Bearer a word")]


def test_everybody_can_be_tried(
    tmp_path: Path, server: servers.Server, mosquitto: servers.Server
) -> None:
    """By a command: who was reached and who was not, and nobody by accident."""
    with watchdog() as dog:
        url = dog.url.replace("http://", "json://")
        text = PLANT.read_text("utf-8").replace(
            "urls = []",
            f'urls = ["{url}", "json://127.0.0.1:9/"]\n'
            f'alertmanager = "http://127.0.0.1:{server.port}"\n'
            f'heartbeat = "{dog.url}"',
        )
        plant = tmp_path / "plant.toml"
        plant.write_text(text, "utf-8")
        asked = ["alarms", "test", "-c", str(plant)]
        done = CliRunner().invoke(app, [*asked, "--json"])
        assert done.exit_code == 1
        ways = json.loads(done.stdout)["ways"]
        assert ways.pop("route2") == "route route2: the service did not take it"
        assert ways == {"route1": "", "alertmanager": "", "heartbeat": ""}
        assert len(dog.asked) == 2

        plant.write_text(text.replace(', "json://127.0.0.1:9/"', ""), "utf-8")
        done = CliRunner().invoke(app, asked)
        assert (done.exit_code, done.stdout.count("arrived")) == (0, 3)
        plant.write_text(text.replace('"json://127.0.0.1:9/"', '"jsn://h"'), "utf-8")
        done = CliRunner().invoke(app, ["check", "-c", str(plant)])
        assert done.exit_code == 1
        assert 'did you mean "json://"?' in done.stdout
    done = CliRunner().invoke(app, ["alarms", "test", "-c", str(PLANT)])
    assert done.exit_code == 1
    assert "nobody is told" in done.stderr


def test_the_heart_stops_when_nobody_would_be_told(
    tmp_path: Path,
    mosquitto: servers.Server,
    server: servers.Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A service that lives and reaches nobody gives no sign of life."""
    now = [datetime.now(UTC)]
    monkeypatch.setattr(run, "utc_now", lambda: now[0])
    loaded = load(PLANT, {})
    with watchdog() as dog:
        config = replace(
            loaded,
            mqtt=Connection(port=mosquitto.port, client_id="hptwin"),
            archive=ArchiveConfig(path=tmp_path / "archive"),
            state_dir=tmp_path / "state",
            web=WebConfig(port=0),
            notify=NotifyConfig(
                alertmanager=f"http://127.0.0.1:{server.port}",
                heartbeat=dog.url,
            ),
        )
        with Service(config, judge_every=1e6, deliver_every=1e6) as service:
            service._unschedule()  # its rounds are gone by hand
            dog.asked.clear()
            service.heartbeat = Heartbeat(dog.url)
            service.announce()
            service.announce()
            assert len(dog.asked) == 1
            assert WATCHES in told(server, config.plant.name)

            # A message that nobody takes.
            late = now[0] - timedelta(minutes=20)
            waits = Message(
                idempotency_key="1", route="gone", created=late, content={"title": "-"}
            )
            service.state.save(messages=[waits])
            now[0] += timedelta(minutes=6)
            service.announce()
            assert len(dog.asked) == 1
            service.deliver()  # its route is no more: it is given up
            service.announce()
            assert len(dog.asked) == 2

            # The Alertmanager is away, and readiness says so.
            service.alertmanager = Alertmanager("http://127.0.0.1:9", "nobody")
            now[0] += timedelta(minutes=6)
            service.announce()
            assert len(dog.asked) == 2
            assert "the Alertmanager does not answer" in "".join(service.problems())
