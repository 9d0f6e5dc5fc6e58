"""A backup under load is whole up to its cut-off, and what it is not is said."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import servers
from typer.testing import CliRunner

from ingest.archive import open_archive
from ingest.broker import Connection, Publisher, Subscriber
from ingest.intake import Intake
from ingest.journal import Journal
from ingest.reading import Reading, Source
from twin.plant import Plant
from twin.service.backup import (
    BackupError,
    backup,
    restore,
    verify,
    without_secrets,
)
from twin.service.cli import app
from twin.service.config import ArchiveConfig, Config, NotifyConfig, WebConfig
from twin.service.state import State

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)
T0 = datetime(2024, 2, 28, 22, tzinfo=UTC)
T0_MS = int(T0.timestamp() * 1000)
EVER = (T0 - timedelta(days=1), T0 + timedelta(days=4000))
POINTS = ("source_inlet_temp_degc", "sink_outlet_temp_degc")
SOURCES = tuple(
    Source(
        topic="plant/hp1",
        unit="hp1",
        point=point,
        pointer=f"/{number}",
        time_pointer="/time",
    )
    for number, point in enumerate(POINTS)
)
RATE = 2000
STEP_MS = 20_000  # so that days are sealed while it is copied


def payload(number: int) -> bytes:
    """Return the message of a number, with values that tell it apart."""
    return json.dumps(
        {
            "0": 10.0 + number % 700 / 100,
            "1": 50.0 + number % 900 / 100,
            "time": T0_MS + number * STEP_MS,
        }
    ).encode()


def digest(archive_dir: Path, until: int) -> tuple[int, str]:
    """Return how many rows there are of the first messages, and their hash."""
    archive = open_archive("parquet", directory=archive_dir, read_only=True)
    stop = T0 + timedelta(milliseconds=until * STEP_MS)
    values, flags = archive.flagged("hp1", T0, stop)
    archive.close()
    table = hashlib.sha256(values.index.as_unit("ms").asi8.tobytes())
    for frame in (values, flags):
        table.update(frame.to_numpy().tobytes())
    return len(values), table.hexdigest()


def configured(folder: Path, plant: Config) -> Config:
    """Return a configuration whose data is in a folder."""
    return replace(
        plant,
        state_dir=folder / "state",
        archive=ArchiveConfig(path=folder / "archive"),
    )


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Return a configuration of which backup reads only the paths."""
    file = tmp_path / "plant.toml"
    file.write_text('[notify]\nurls = ["mailto://me:s3cret@example.org"]\n', "utf-8")
    return configured(
        tmp_path / "live",
        Config(
            file=file,
            plant=Plant(name="test"),
            sources=SOURCES,
            mqtt=Connection(),
            archive=ArchiveConfig(),
            web=WebConfig(),
            notify=NotifyConfig(),
            state_dir=tmp_path,
        ),
    )


@contextmanager
def running(config: Config, connection: Connection | None = None) -> Iterator[Intake]:
    """Run what the service runs between broker and archive."""
    config.state_dir.mkdir(parents=True, exist_ok=True)
    archive = open_archive("parquet", directory=config.archive.path)
    journal = Journal(config.state_dir / "journal.sqlite")
    subscriber = None if connection is None else Subscriber(connection, ["plant/hp1"])
    intake = Intake(SOURCES, archive, journal, subscriber)
    intake.start()
    try:
        yield intake
    finally:
        intake.stop()
        journal.close()
        archive.close()


def drained(config: Config) -> None:
    """Let a restored service work off what its journal says is waiting."""
    with running(config) as intake:
        assert intake.drain(30)
        assert intake.counts().balanced


def publish(connection: Connection, number: int, paced: threading.Event) -> None:
    """Publish so many messages at the rate, then say so."""
    begin = time.monotonic()
    with Publisher(connection) as publisher:
        for first in range(0, number, 100):
            publisher.publish_all(
                ("plant/hp1", payload(n)) for n in range(first, first + 100)
            )
            time.sleep(max(0.0, begin + (first + 100) / RATE - time.monotonic()))
    paced.set()


def test_a_backup_under_load_has_every_row_up_to_its_cut_off(
    mosquitto: servers.Server, config: Config, tmp_path: Path
) -> None:
    """2,000 messages a second go on; each copy, restored, has the same rows.

    The control copies the archive before the journal, as one would without
    thinking: what was archived between the two is in neither.
    """
    total, copies = 5 * RATE, []
    broker = Connection(port=mosquitto.port, client_id="backed-up")
    done = threading.Event()
    naive = tmp_path / "naive"
    with running(config, broker) as intake:
        source = Connection(port=mosquitto.port, client_id="source")
        busy = threading.Thread(target=publish, args=(source, total, done))
        busy.start()
        while intake.counts().stored < RATE:
            time.sleep(0.01)
        for number in range(3):
            copies.append(backup(config, tmp_path / f"copy{number}", NOW))
            time.sleep(0.2)
        # The control, in the wrong order.
        shutil.copytree(config.archive.path, naive / "archive")
        stored = intake.counts().stored
        while intake.counts().stored < stored + 500:
            time.sleep(0.01)
        (naive / "state").mkdir()
        with (
            sqlite3.connect(config.state_dir / "journal.sqlite") as reader,
            sqlite3.connect(naive / "state" / "journal.sqlite") as writer,
        ):
            reader.backup(writer)
        reader.close()
        writer.close()
        busy.join()
        assert done.is_set()
        until = time.monotonic() + 60
        while intake.counts().received < total:
            assert time.monotonic() < until
            time.sleep(0.02)
        assert intake.drain(60)
    for number, copy in enumerate(copies):
        received = copy.counts["received"]
        assert 0 < received < total
        mine = configured(tmp_path / f"restored{number}", config)
        assert restore(mine, copy.directory, NOW)[1] == []
        drained(mine)
        rows = digest(mine.archive.path, received)
        assert rows[0] == received
        assert rows == digest(config.archive.path, received)
    other = configured(naive, config)
    drained(other)
    with sqlite3.connect(naive / "state" / "journal.sqlite") as reader:
        (received,) = reader.execute("SELECT messages FROM received").fetchone()
    reader.close()
    assert digest(naive / "archive", received)[0] < received


def test_a_restored_service_goes_on(
    mosquitto: servers.Server, config: Config, tmp_path: Path
) -> None:
    """With its journal, state and models, under the same name at the broker."""
    broker = Connection(port=mosquitto.port, client_id="goes-on")
    source = Connection(port=mosquitto.port, client_id="goes-on-source")
    state = State.open(config.state_dir / "state.sqlite")
    state.close()
    model = config.state_dir / "models" / "hp1" / "active.json"
    model.parent.mkdir(parents=True)
    model.write_text("{}")
    with running(config, broker) as intake:
        publish(source, 200, threading.Event())
        while intake.counts().stored < 200:
            time.sleep(0.01)
        copy = backup(config, tmp_path / "copy", NOW)
    mine = configured(tmp_path / "restored", config)
    restore(mine, copy.directory, NOW)
    assert (mine.state_dir / "models" / "hp1" / "active.json").read_text() == "{}"
    with running(mine, broker) as intake:
        with Publisher(source) as publisher:
            publisher.publish_all(("plant/hp1", payload(n)) for n in range(200, 300))
        while intake.counts().stored < 300:
            time.sleep(0.01)
        assert intake.counts().balanced
    assert digest(mine.archive.path, 300)[0] == 300


def small(config: Config) -> None:
    """Write a little of everything."""
    with running(config):
        pass
    (config.state_dir / "results").mkdir()
    (config.state_dir / "results" / "summary.json").write_text("{}")


@pytest.mark.parametrize("how", ["changed", "missing", "more"])
def test_a_backup_that_is_not_whole_is_not_restored(
    config: Config, tmp_path: Path, how: str
) -> None:
    """One flipped bit, one lost file, one that nobody knows: named, refused."""
    small(config)
    copy = backup(config, tmp_path / "copy", NOW)
    assert verify(copy.directory) == copy
    victim = copy.directory / "state" / "journal.sqlite"
    if how == "changed":
        content = bytearray(victim.read_bytes())
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
    elif how == "missing":
        victim.unlink()
    else:
        victim.with_name("stranger").write_text("?")
    mine = configured(tmp_path / "restored", config)
    with pytest.raises(BackupError, match=r"journal\.sqlite is|stranger is not"):
        restore(mine, copy.directory, NOW)
    assert not mine.state_dir.exists()


def test_what_is_there_is_moved_aside_and_never_lost(
    config: Config, tmp_path: Path
) -> None:
    """Only if asked for, and not from under a service that runs."""
    small(config)
    copy = backup(config, tmp_path / "copy", NOW)
    before = (config.state_dir / "journal.sqlite").read_bytes()
    with pytest.raises(BackupError, match="not empty; --replace"):
        restore(config, copy.directory, NOW)
    found, aside = restore(config, copy.directory, NOW, replace=True)
    assert found == copy
    assert sorted(path.name for path in aside) == [
        "archive.before-20240301T120000Z",
        "state.before-20240301T120000Z",
    ]
    assert any(
        (path / "journal.sqlite").exists()
        and (path / "journal.sqlite").read_bytes() == before
        for path in aside
    )
    archive = open_archive("parquet", directory=config.archive.path)
    archive.write([Reading("hp1", POINTS[0], T0_MS, 20.0)])
    with pytest.raises(BackupError, match="stop the service first"):
        restore(config, copy.directory, NOW, replace=True)
    archive.close()


def test_an_archive_inside_the_state_is_put_back_there(
    config: Config, tmp_path: Path
) -> None:
    """As the configuration has it when it says nothing about either."""
    inside = replace(config, archive=ArchiveConfig(path=config.state_dir / "archive"))
    small(inside)
    copy = backup(inside, tmp_path / "copy", NOW)
    _, aside = restore(inside, copy.directory, NOW, replace=True)
    assert len(aside) == 1
    assert (inside.archive.path / "tail.sqlite").exists()
    assert not list(config.state_dir.parent.glob(".*"))


def test_a_backup_is_whole_or_not_there(config: Config, tmp_path: Path) -> None:
    """It does not write over another, and leaves nothing when it fails."""
    small(config)
    target = tmp_path / "copies" / "one"
    backup(config, target, NOW)
    with pytest.raises(BackupError, match="name a new directory"):
        backup(config, target, NOW)
    (config.state_dir / "state.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(BackupError, match="no backup was made"):
        backup(config, tmp_path / "copies" / "two", NOW)
    assert [path.name for path in (tmp_path / "copies").iterdir()] == ["one"]


def test_no_secret_is_in_a_backup(config: Config, tmp_path: Path) -> None:
    """The configuration is there to be read, not to log in with."""
    small(config)
    copy = backup(config, tmp_path / "copy", NOW)
    text = (copy.directory / "config" / "plant.toml").read_text("utf-8")
    assert "s3cret" not in text
    assert "[notify]" in text
    plain = '[archive]\nurl = "http://me:pass@host:8086"\npath = "x"\n'
    assert without_secrets(plain) == plain.replace("me:pass", "removed-from-this-copy")


def test_the_commands_make_and_restore_one(tmp_path: Path) -> None:
    """Told on stdout; what is wrong on stderr with exit code 1."""
    plant = tmp_path / "plant.toml"
    text = (Path(__file__).parents[2] / "deploy" / "plant.toml").read_text("utf-8")
    plant.write_text(text, "utf-8")
    environ = {
        "HPTWIN_CONFIG": str(plant),
        "HPTWIN_STATE__DIR": str(tmp_path / "state"),
        "HPTWIN_ARCHIVE__PATH": str(tmp_path / "archive"),
    }
    archive = open_archive("parquet", directory=tmp_path / "archive")
    archive.write([Reading("hp1", POINTS[0], T0_MS, 20.0)])
    archive.seal()
    archive.close()
    cli = CliRunner()
    made = cli.invoke(app, ["backup", str(tmp_path / "copy"), "--json"], env=environ)
    assert made.exit_code == 0, made.output
    files = json.loads(made.stdout)["files"]
    assert "archive/unit=hp1/2024-02-28.parquet" in files
    again = cli.invoke(app, ["restore", str(tmp_path / "copy")], env=environ)
    assert again.exit_code == 1
    assert "--replace moves it aside" in again.stderr
    forced = cli.invoke(
        app, ["restore", str(tmp_path / "copy"), "--replace"], env=environ
    )
    assert forced.exit_code == 0, forced.output
    assert digest(tmp_path / "archive", 1)[0] == 1
