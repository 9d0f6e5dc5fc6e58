"""``hptwin check --online`` says what is there, and changes nothing."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import servers
from typer.testing import CliRunner

from ingest.broker import Connection, Publisher, Subscriber
from ingest.reading import Source
from twin.plant import Plant
from twin.service.cli import app
from twin.service.config import ArchiveConfig, Config, NotifyConfig, WebConfig
from twin.service.online import online

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)
POINT = "source_inlet_temp_degc"


def source(unit: str) -> Source:
    """Return where a unit's temperature comes from."""
    return Source(topic=f"plant/{unit}", unit=unit, point=POINT)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Return a plant with three topics and an embedded archive."""
    return Config(
        file=tmp_path / "plant.toml",
        plant=Plant(name="test"),
        sources=tuple(map(source, ("hp1", "hp2", "hp3"))),
        mqtt=Connection(client_id="twin"),
        archive=ArchiveConfig(path=tmp_path / "archive"),
        web=WebConfig(),
        notify=NotifyConfig(),
        state_dir=tmp_path / "state",
    )


def test_each_topic_is_heard_unreadable_or_silent(
    mosquitto: servers.Server, config: Config
) -> None:
    """And the broker says which it is."""
    mqtt = replace(config.mqtt, port=mosquitto.port)
    with Publisher(replace(mqtt, client_id="plant")) as publisher:
        publisher.publish("plant/hp1", b"21.5", retain=True)
        publisher.publish("plant/hp2", b"[not json", retain=True)
    found = online(replace(config, mqtt=mqtt), NOW, seconds=0.4)

    assert "mosquitto version 2" in found.broker
    one, two, three = found.topics
    assert (one.messages, one.retained, one.unreadable) == (1, True, ())
    assert two.unreadable
    assert found.silent == (three,)
    assert not found.fine
    assert any("plant/hp2 is not as configured" in p for p in found.broker_problems)
    text = "\n".join(found.lines())
    assert "silent    plant/hp3 (hp3.source_inlet_temp_degc)" in text
    (said,) = found.notes
    assert said.startswith("1 of 3 topics said nothing for 0.4 s")
    only = replace(config, mqtt=mqtt, sources=config.sources[:1])
    heard = online(only, NOW, seconds=0.4)
    assert heard.fine
    assert heard.notes == ()


def test_the_service_keeps_its_session_and_its_messages(
    mosquitto: servers.Server, config: Config
) -> None:
    """What came while it was away is still for it, after somebody has looked."""
    mqtt = replace(config.mqtt, port=mosquitto.port)
    service = Subscriber(mqtt, ["plant/hp1"])
    service.start()
    while not service.status().subscribed:
        service.take(timeout=0.05)
    with Publisher(replace(mqtt, client_id="plant")) as publisher:
        publisher.publish("plant/hp1", b"1")
        while not (first := service.take(timeout=0.1)):
            pass
        service.acknowledge(first)
        service.stop()
        publisher.publish("plant/hp1", b"2")
    online(replace(config, mqtt=mqtt), NOW, seconds=0.5)
    service.start()
    deliveries = service.take(timeout=5.0)
    service.stop()
    assert [delivery.message.payload for delivery in deliveries] == [b"2"]


def test_a_broker_that_is_not_there_or_wants_another_name(
    tmp_path: Path, config: Config
) -> None:
    """Said, with what to look at; nothing raised."""
    nowhere = replace(config.mqtt, port=servers.free_port())
    found = online(replace(config, mqtt=nowhere), NOW, seconds=0.3)
    assert not found.fine
    assert any("no connection to 127.0.0.1" in p for p in found.broker_problems)
    passwords = tmp_path / "passwords"
    passwords.write_text("", "utf-8")
    extra = "allow_anonymous false"
    with servers.mosquitto(tmp_path, extra) as server:
        stranger = replace(config.mqtt, port=server.port)
        found = online(replace(config, mqtt=stranger), NOW, seconds=0.5)
    assert any("refuses us" in problem for problem in found.broker_problems)


def test_dropped_messages_are_told(tmp_path: Path, config: Config) -> None:
    """A queue that was too short shows in the broker's own count."""
    extra = "max_queued_messages 5\nsys_interval 1"
    with servers.mosquitto(tmp_path, extra) as server:
        mqtt = replace(config.mqtt, port=server.port)
        away = Subscriber(mqtt, ["plant/hp1"])
        away.start()
        while not away.status().subscribed:
            away.take(timeout=0.05)
        with Publisher(replace(mqtt, client_id="plant")) as publisher:
            publisher.publish("plant/hp1", b"0")
            while not away.take(timeout=0.1):
                pass
            away.stop()
            publisher.publish_all(("plant/hp1", b"%d" % n) for n in range(50))
        found = online(replace(config, mqtt=mqtt), NOW, seconds=2.5)
    assert any("dropped" in note for note in found.notes)


def test_an_influxdb_and_what_it_lacks(
    influxd: servers.Influx, mosquitto: servers.Server, config: Config
) -> None:
    """Its version; then the database; and a point only if one is asked for."""
    wired = replace(
        config,
        mqtt=replace(config.mqtt, port=mosquitto.port),
        sources=config.sources[:1],
        archive=ArchiveConfig(kind="influxdb", url=influxd.url, database="looked_at"),
    )
    missing = online(wired, NOW, seconds=0.3)
    assert "InfluxDB 1.6" in missing.archive
    assert 'no database "looked_at"' in missing.archive_problems[0]

    def query(text: str) -> str:
        words = urllib.parse.urlencode({"db": "looked_at", "q": text})
        with urllib.request.urlopen(  # noqa: S310
            f"{influxd.url}/query", data=words.encode()
        ) as answer:
            return str(answer.read().decode())

    query("CREATE DATABASE looked_at")
    assert online(wired, NOW, seconds=0.3).archive_problems == ()
    assert "hptwin_check" not in query("SHOW MEASUREMENTS")
    assert online(wired, NOW, seconds=0.3, write_test=True).archive_problems == ()
    assert "hptwin_check" in query("SHOW MEASUREMENTS")
    unmapped = f"http://127.0.0.1:{influxd.server.port}"
    direct = replace(wired, archive=replace(wired.archive, url=unmapped))
    problems = online(direct, NOW, seconds=0.3).archive_problems
    assert "nothing can be written" in problems[0]
    assert "deploy/" in problems[0]


def test_the_command_ends_with_what_it_found(
    mosquitto: servers.Server, tmp_path: Path
) -> None:
    """Exit code 0 or 1, and one JSON object."""
    plant = tmp_path / "plant.toml"
    text = (Path(__file__).parents[2] / "deploy" / "plant.toml").read_text("utf-8")
    plant.write_text(text, "utf-8")
    environ = {
        "HPTWIN_CONFIG": str(plant),
        "HPTWIN_MQTT__HOST": "127.0.0.1",
        "HPTWIN_MQTT__PORT": str(mosquitto.port),
        "HPTWIN_ARCHIVE__PATH": str(tmp_path / "archive"),
    }
    words = ["check", "--online", "--seconds", "0.5"]
    done = CliRunner().invoke(app, [*words, "--json"], env=environ)
    found = json.loads(done.stdout)
    assert done.exit_code == 0, done.output
    assert found["broker"]["topics"]
    environ["HPTWIN_MQTT__PORT"] = str(servers.free_port())
    assert CliRunner().invoke(app, words, env=environ).exit_code == 1
