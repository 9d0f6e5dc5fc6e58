"""A file that is published arrives as if the plant had sent it."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
import servers
from typer.testing import CliRunner

from ingest import files
from ingest.archive.memory import MemoryArchive
from ingest.broker import Connection, Subscriber
from ingest.intake import Intake
from ingest.journal import Journal
from ingest.reading import Source
from twin.service import publish
from twin.service.cli import app
from twin.service.config import load

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVER = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
SOURCES = [
    # A document with its time, in field units; and one deeper, of another unit.
    Source(
        topic="plant/hp1",
        unit="hp1",
        point="sink_outlet_temp_degc",
        scale=5 / 9,
        offset=-160 / 9,
        pointer="/t/out",
        time_pointer="/ts",
    ),
    Source(
        topic="plant/hp1",
        unit="hp1",
        point="compressor_power_w",
        scale=1000.0,
        pointer="/kw",
        time_pointer="/ts",
    ),
    Source(
        topic="plant/hp2",
        unit="hp2",
        point="compressor_power_w",
        scale=1000.0,
        pointer="/kw2",
        time_pointer="/meta/ts",
    ),
]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Return a file of two hours, with gaps and a number that has no end."""
    path = tmp_path / "day.csv"
    lines = ["time,t/out,kw,kw2"]
    for minute in range(120):
        at = NOW + timedelta(minutes=minute)
        gap = "" if minute % 7 == 3 else f"{117.1 + minute / 30:.3f}"
        row = (f"{at:%Y-%m-%dT%H:%M:%SZ}", gap, repr(60 + minute / 3), repr(1 / 3))
        lines.append(",".join(row))
    path.write_text("\n".join(lines), "utf-8")
    return path


def test_it_comes_back_as_a_backfill_of_the_file_would_have_it(
    tmp_path: Path, table: Path, mosquitto: servers.Server
) -> None:
    """Through a real broker, the journal and the checks: the same to the last bit."""
    direct, arrived = MemoryArchive(), MemoryArchive()
    files.read(table, SOURCES).into(direct)
    connection = Connection(port=mosquitto.port, client_id="service")
    traffic = publish.read(table, SOURCES)
    subscriber = Subscriber(connection, ["plant/hp1", "plant/hp2"])
    journal = Journal(tmp_path / "journal.sqlite")
    intake = Intake(SOURCES, arrived, journal, subscriber)
    intake.start()
    while not subscriber.status().subscribed:
        time.sleep(0.01)
    seen: list[publish.Progress] = []
    done = publish.play(traffic, publish.identity(connection), progress=seen.append)
    end = time.monotonic() + 20
    while intake.counts().stored < done.messages and time.monotonic() < end:
        time.sleep(0.02)
    intake.stop()
    journal.close()

    assert done == seen[-1]
    assert (done.rows, done.messages) == (120, 240)
    for unit in ("hp1", "hp2"):
        for ours, theirs in zip(
            arrived.flagged(unit, *EVER), direct.flagged(unit, *EVER), strict=True
        ):
            columns = sorted(theirs)
            assert len(theirs) == 120
            pd.testing.assert_frame_equal(
                ours[columns], theirs[columns], check_exact=True, check_freq=False
            )


def test_a_payload_that_is_the_value_is_one_again(tmp_path: Path) -> None:
    """With its decimal mark, all of its digits, and a word about its time."""
    path = tmp_path / "hp1.csv"
    path.write_text(
        "time,sink_outlet_temp_degc,source_outlet_temp_degc\n2026-03-01T12:00:00Z,47.25,1e-07\n",
        "utf-8",
    )
    sources = [
        Source(topic="a", unit="hp1", point="sink_outlet_temp_degc", decimal=","),
        Source(topic="b", unit="hp1", point="source_outlet_temp_degc"),
        Source(topic="c", unit="hp2", point="sink_outlet_temp_degc"),
    ]
    traffic = publish.read(path, sources)
    assert traffic.messages(0) == [("a", "47,25"), ("b", "0.0000001")]
    assert "2 points have no time" in publish.remarks(traffic)[0]


def test_moved_to_the_present_no_row_lies_ahead_of_it(table: Path) -> None:
    """Whatever the speed: a row is at most as late as its turn."""
    traffic = publish.read(table, SOURCES)
    now = datetime(2027, 1, 1, tzinfo=UTC)
    now_ms = round(now.timestamp() * 1000)
    first = traffic.times[0]
    for speed in (0.5, 1.0, 7.0, math.inf):
        shift = publish.shift_to(traffic, now, speed)
        ahead = [at + shift - (now_ms + (at - first) / speed) for at in traffic.times]
        assert max(ahead) == pytest.approx(0.0, abs=1.0)
    assert publish.shift_to(traffic, now, math.inf) + traffic.times[-1] == now_ms
    [body] = {body for topic, body in traffic.messages(0, 5) if topic == "plant/hp2"}
    assert json.loads(body) == {"kw2": 1 / 3, "meta": {"ts": first + 5}}


def test_it_keeps_the_pace_asked_for(table: Path, mosquitto: servers.Server) -> None:
    """A row goes out when it is its turn, never before."""
    stop = NOW + timedelta(minutes=4)
    traffic = publish.read(table, SOURCES, start=NOW + timedelta(minutes=1), stop=stop)
    assert traffic.rows == 3
    seen: list[tuple[float, int]] = []
    began = time.monotonic()
    publish.play(
        traffic,
        Connection(port=mosquitto.port, client_id="p"),
        speed=300.0,
        progress=lambda done: seen.append((time.monotonic() - began, done.rows)),
    )
    assert [rows for _, rows in seen] == [1, 2, 3]
    assert all(at >= 0.2 * (row - 1) for at, row in seen)


def test_another_machine_must_be_named_twice() -> None:
    """Who reads the plant's topics there would take the file for the plant."""
    far = Connection(host="broker.example", tls=True)
    publish.guard(Connection(), "")
    publish.guard(far, "broker.example")
    for confirmed in ("", "other.example"):
        with pytest.raises(
            publish.PublishError, match=r"--to-plant-topics-of broker\.example"
        ):
            publish.guard(far, confirmed)


def test_formats_that_are_only_read_are_refused(table: Path) -> None:
    """Said before anything is sent."""
    spoken = [
        replace(source, format="sparkplug", pointer=source.pointer[1:])
        for source in SOURCES
    ]
    with pytest.raises(publish.PublishError, match="sparkplug"):
        publish.read(table, spoken)
    with pytest.raises(publish.PublishError, match="no row lies in the period"):
        publish.read(table, SOURCES, start=NOW + timedelta(days=9))


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """Return the command that plays two rows to the plant that is shipped."""
    config = servers.MOSQUITTO_CONF.with_name("plant.toml")
    source = next(s for s in load(config, {}).sources if s.pointer and not s.format)
    path = tmp_path / f"{source.unit}.csv"
    path.write_text(
        f"time,{source.pointer[1:]}\n2026-03-01T12:00:00Z,1\n2026-03-01T13:00:00Z,2\n",
        "utf-8",
    )
    return ["publish", str(path), "-c", str(config), "--json"]


def test_the_command_counts_what_the_broker_has(
    command: list[str], mosquitto: servers.Server
) -> None:
    """And asks twice before it plays to another machine."""
    env = {"HPTWIN_MQTT__PORT": str(mosquitto.port)}
    found = CliRunner().invoke(app, [*command, "--as-fast-as-possible"], env=env)
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["messages_acknowledged"] == 2
    env |= {"HPTWIN_MQTT__HOST": "192.0.2.1", "HPTWIN_MQTT__ALLOW_PLAINTEXT": "true"}
    found = CliRunner().invoke(app, command, env=env)
    assert found.exit_code == 2
    assert "--to-plant-topics-of 192.0.2.1" in found.stderr


def test_an_interrupt_ends_it_with_its_account(
    command: list[str], mosquitto: servers.Server
) -> None:
    """One row is out, the next would come in an hour."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from twin.service.cli import main; main()", *command],
        env={**os.environ, "HPTWIN_MQTT__PORT": str(mosquitto.port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # What a shell has put in the background would not hear of an interrupt.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    log = mosquitto.folder / "server.log"
    end = time.monotonic() + 30
    while "hptwin-publish" not in log.read_text("utf-8") and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(2.0)  # until its first row is acknowledged
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=20)

    assert process.returncode == 130, stderr.decode()
    assert json.loads(stdout)["messages_acknowledged"] == 1
    assert b"Traceback" not in stderr
