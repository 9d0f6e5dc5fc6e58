"""What the service says of its own intake, as Prometheus reads it."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import servers
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ingest.archive.memory import MemoryArchive
from ingest.broker import Connection, Publisher, Subscriber, now_ms
from ingest.intake import Intake
from ingest.journal import Journal, Message
from ingest.reading import Source
from twin.service import telemetry

TEMP = "sink_outlet_temp_degc"
SOURCES = [
    Source(topic="plant/hp1", unit="hp1", point=TEMP, pointer="/t", time_pointer="/ts"),
    Source(
        topic="plant/slow", unit="hp2", point=TEMP, pointer="/t", time_pointer="/ts"
    ),
]


def scraped(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    """Return every sample by name and its one label's value."""
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


def balanced(found: dict[tuple[str, str], float]) -> bool:
    """Whether every received message is in exactly one place."""
    judged = sum(
        found["hptwin_messages_total", verdict]
        for verdict in ("stored", "duplicate", "quarantined", "rejected")
    )
    waiting = found["hptwin_messages_in_flight", ""]
    return found["hptwin_messages_total", "received"] == judged + waiting


def test_every_scrape_balances(mosquitto: servers.Server, tmp_path: Path) -> None:
    """Good, repeated, impossible and unreadable messages, scraped all the while."""
    journal = Journal(tmp_path / "journal.sqlite")
    subscriber = Subscriber(Connection(port=mosquitto.port), ["plant/hp1"])
    intake = Intake(SOURCES, MemoryArchive(), journal, subscriber, batch=50)
    registry = telemetry.registry(intake, now_ms)
    intake.start()
    while not subscriber.status().subscribed:
        time.sleep(0.01)
    begin = now_ms()
    good = [json.dumps({"ts": begin - i, "t": 40 + i % 9}) for i in range(1500)]
    bad = ["?", json.dumps({"ts": begin + 10**8, "t": 1}), good[0]] * 200

    def traffic() -> None:
        with Publisher(Connection(port=mosquitto.port, client_id="p")) as publisher:
            publisher.publish_all([("plant/hp1", body) for body in good + bad])

    sender = threading.Thread(target=traffic)
    sender.start()
    scrapes = []
    while not scrapes or scrapes[-1]["hptwin_messages_total", "received"] < 2100:
        scrapes.append(scraped(registry))
    sender.join()
    assert intake.drain(30)
    last = scraped(registry)
    intake.stop()
    journal.close()

    assert all(balanced(found) for found in scrapes)
    assert any(found["hptwin_messages_in_flight", ""] for found in scrapes)
    assert last["hptwin_messages_total", "stored"] == 1500
    assert last["hptwin_readings_refused_total", "not JSON"] == 200
    assert last["hptwin_readings_refused_total", "time in the future"] == 200
    assert last["hptwin_broker_connected", ""] == 1.0
    # The negative control: a count that is off by one is noticed.
    last["hptwin_messages_total", "stored"] += 1
    assert not balanced(last)


def test_a_clock_that_is_wrong_is_shown_and_not_mended(tmp_path: Path) -> None:
    """The reading keeps its device's time; the difference is told, by topic."""
    journal = Journal(tmp_path / "journal.sqlite")
    archive = MemoryArchive()
    now = 1_700_000_000_000
    journal.append(
        [
            Message(
                topic, json.dumps({"ts": now + i - late, "t": 40}).encode(), now + i
            )
            for i in range(50)
            for topic, late in (("plant/hp1", 120), ("plant/slow", 3_600_000))
        ]
    )
    intake = Intake(SOURCES, archive, journal)
    intake.start()
    assert intake.drain(30)
    found = scraped(telemetry.registry(intake, lambda: now))
    intake.stop()
    journal.close()
    span = archive.span("hp2")

    assert found["hptwin_clock_offset_seconds", "plant/hp1"] == 0.12
    assert found["hptwin_clock_offset_seconds", "plant/slow"] == 3600.0
    assert span is not None
    assert span[0].timestamp() == (now - 3_600_000) / 1e3


def test_a_journal_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """Its counts are left out, and the scrape does not fail."""
    journal = Journal(tmp_path / "journal.sqlite")
    intake = Intake(SOURCES, MemoryArchive(), journal)
    registry = telemetry.registry(intake, lambda: 0)
    assert scraped(registry)["hptwin_journal_readable", ""] == 1.0
    journal.close()
    for file in tmp_path.iterdir():
        file.write_bytes(b"\xff" * 4096)
    found = scraped(registry)

    assert found["hptwin_journal_readable", ""] == 0.0
    assert ("hptwin_messages_total", "received") not in found
    assert ("hptwin_broker_connected", "") in found
