"""From a real broker into a real archive: nothing lost, everything counted."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import servers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ingest.payload
from ingest.archive import Archive, ArchiveUnavailableError, Refused, open_archive
from ingest.archive.memory import MemoryArchive
from ingest.broker import Connection, Publisher, Subscriber
from ingest.intake import Intake, backfill
from ingest.journal import Counts, Journal, Message
from ingest.reading import FLAG_CODE, Reading, Readings, Source

# A hundred of them are a command: PERMUTATIONS=100 pytest -k any_order
PERMUTATIONS = int(os.environ.get("PERMUTATIONS", "10"))
EVER = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
T0 = 1_700_000_000_000
NOW = T0 + 86_400_000
POINTS = ("source_inlet_temp_degc", "sink_outlet_temp_degc", "compressor_power_w")
SOURCES = [
    Source(
        topic=f"plant/{unit}",
        unit=unit,
        point=point,
        pointer=f"/{point}",
        time_pointer="/ts",
    )
    for unit in ("hp1", "hp2")
    for point in POINTS
]


def payload(i: int) -> bytes:
    """Return one message of three points, told apart by its number."""
    values = {"ts": T0 + i * 1000}
    values |= {point: 20 + i % 11 + k / 10 for k, point in enumerate(POINTS)}  # type: ignore[dict-item]
    return json.dumps(values).encode()


def traffic(number: int) -> list[tuple[str, bytes]]:
    """Return the messages of two units, taking turns."""
    return [(f"plant/hp{1 + i % 2}", payload(i)) for i in range(number)]


def until(true: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.02)


def expected(number: int) -> dict[str, pd.DataFrame]:
    """Return the frames that the traffic comes to, without any of our path."""
    frames = {}
    for unit in (0, 1):
        rows = [json.loads(payload(i)) for i in range(unit, number, 2)]
        frame = pd.DataFrame(rows).set_index("ts")[list(POINTS)].astype("float64")
        index = pd.DatetimeIndex(frame.index.to_numpy().astype("datetime64[ms]"))
        frame.index = index.tz_localize("UTC").rename("time")
        frames[f"hp{unit + 1}"] = frame
    return frames


def holds(archive: Archive, frames: dict[str, pd.DataFrame]) -> None:
    """Check that an archive has exactly these frames."""
    assert archive.units() == sorted(frames)
    for unit, frame in frames.items():
        values, flags = archive.flagged(unit, *EVER)
        pd.testing.assert_frame_equal(values, frame, check_freq=False)
        assert not flags.to_numpy().any()


@pytest.fixture(params=["parquet", "influxdb"])
def archive(request: pytest.FixtureRequest, tmp_path: Path, database: str) -> Archive:
    """Each of the two durable archives, empty."""
    if request.param == "parquet":
        return open_archive("parquet", directory=tmp_path / "archive")
    server = request.getfixturevalue("influxd")
    return open_archive("influxdb", url=server.url, database=database)


def test_nothing_is_lost_between_publisher_and_archive(
    mosquitto: servers.Server, archive: Archive, tmp_path: Path
) -> None:
    """What the broker acknowledged is in the archive, bit for bit; no more is."""
    journal = Journal(tmp_path / "journal.sqlite")
    subscriber = Subscriber(Connection(port=mosquitto.port), ["plant/hp1", "plant/hp2"])
    intake = Intake(SOURCES, archive, journal, subscriber)
    intake.start()
    until(lambda: subscriber.status().subscribed)
    with Publisher(Connection(port=mosquitto.port, client_id="p")) as publisher:
        publisher.publish_all(traffic(3000))
    until(lambda: intake.counts().received == 3000)
    assert intake.drain(30)
    counts, health = intake.counts(), intake.health(NOW)
    intake.stop()

    assert counts == Counts(
        received=3000, stored=3000, readings={"stored": 9000}, reasons={}
    )
    assert health.well
    assert health.lag == 0
    holds(archive, expected(3000))
    archive.close()
    journal.close()


class Failing(MemoryArchive):
    """An archive that can be down, and that refuses what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.order: list[int] = []

    def write(self, readings: Readings) -> Sequence[Refused]:
        """Fail while down, refuse one point, keep the rest."""
        if self.down:
            raise ArchiveUnavailableError("it is down")
        rows = list(readings)
        bad = [place for place, row in enumerate(rows) if row.point == "cop"]
        self.order += [row.time_ms for row in rows if row.point == POINTS[0]]
        super().write(readings.take(np.array([r.point != "cop" for r in rows])))
        return [Refused(place, "not here") for place in bad]


def test_an_archive_that_is_down_costs_nothing_but_disk(tmp_path: Path) -> None:
    """Readings wait in the journal, then go in their order, by themselves."""
    journal = Journal(tmp_path / "journal.sqlite")
    archive = Failing()
    archive.down = True
    intake = Intake(SOURCES, archive, journal, batch=100)
    intake.start()
    for i in range(0, 2000, 50):
        some = traffic(2000)[i : i + 50]
        journal.append([Message(topic, body, NOW) for topic, body in some])
    until(lambda: intake.health(NOW).problem == "it is down")
    assert intake.counts().in_flight == 2000
    assert intake.counts().balanced
    archive.down = False
    assert intake.drain(30)
    until(lambda: intake.health(NOW).problem == "")
    intake.stop()

    assert archive.order == sorted(archive.order)
    assert intake.counts().stored == 2000
    holds(archive, expected(2000))
    journal.close()


def test_an_influxdb_goes_and_comes_back(
    influxd: servers.Influx, tmp_path: Path, database: str
) -> None:
    """The real one, stopped and started under us."""
    journal = Journal(tmp_path / "journal.sqlite")
    archive = open_archive("influxdb", url=influxd.url, database=database)
    intake = Intake(SOURCES, archive, journal)
    intake.start()
    messages = [Message(topic, body, NOW) for topic, body in traffic(1000)]
    journal.append(messages[:300])
    assert intake.drain(30)
    influxd.server.stop()
    try:
        journal.append(messages[300:])
        until(lambda: intake.health(NOW).problem)
        assert intake.counts().in_flight == 700
    finally:
        influxd.server.start()
    assert intake.drain(30)
    intake.stop()

    holds(archive, expected(1000))
    archive.close()
    journal.close()


def test_a_full_journal_stops_acknowledging_and_resumes(
    mosquitto: servers.Server, tmp_path: Path
) -> None:
    """The broker keeps what we cannot; the connection stays; nothing is lost."""
    journal = Journal(tmp_path / "journal.sqlite", limit_bytes=20_000)
    archive = Failing()
    archive.down = True
    subscriber = Subscriber(Connection(port=mosquitto.port), ["plant/hp1", "plant/hp2"])
    intake = Intake(SOURCES, archive, journal, subscriber)
    intake.start()
    until(lambda: subscriber.status().subscribed)
    with Publisher(Connection(port=mosquitto.port, client_id="p")) as publisher:
        for i in range(0, 500, 10):
            publisher.publish_all(traffic(500)[i : i + 10])
    until(lambda: "wait for the archive" in intake.health(NOW).problem)
    health = intake.health(NOW)
    assert health.connected
    assert not health.well
    assert intake.counts().received < 500
    archive.down = False
    until(lambda: intake.counts().stored == 500)
    until(lambda: intake.health(NOW).well)
    intake.stop()

    holds(archive, expected(500))
    journal.close()


class Stumbling(MemoryArchive):
    """An archive with a fault that nobody has thought of."""

    faults = 2

    def write(self, readings: Readings) -> Sequence[Refused]:
        """Fail twice, then work."""
        if self.faults:
            self.faults -= 1
            raise RuntimeError("unheard of")
        return super().write(readings)


def test_an_unforeseen_fault_ends_no_thread(tmp_path: Path) -> None:
    """It is said, what was at hand is done again, and counted once."""
    journal = Journal(tmp_path / "journal.sqlite")
    journal.append([Message(topic, body, NOW) for topic, body in traffic(100)])
    archive = Stumbling()
    intake = Intake(SOURCES, archive, journal)
    intake.start()
    until(lambda: "unheard of" in intake.health(NOW).problem)
    assert intake.drain(10)
    until(lambda: intake.health(NOW).well)
    intake.stop()

    assert intake.counts().stored == 100
    holds(archive, expected(100))
    journal.close()


def test_a_journal_damaged_at_work_is_said_once_and_healed_by_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not a line of log for each attempt; and the new messages are taken in."""
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    archive = MemoryArchive()
    messages = [Message(topic, body, NOW) for topic, body in traffic(200)]
    for i in range(0, 100, 10):
        journal.append(messages[i : i + 10])
    journal.close()
    journal = Journal(path)
    content = bytearray(path.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    path.write_bytes(content)
    intake = Intake(SOURCES, archive, journal)
    intake.start()
    until(lambda: "restart the service" in intake.health(NOW).problem)
    time.sleep(1.2)
    intake.stop()
    assert len([r for r in caplog.records if r.exc_info]) == 1
    journal.close()
    journal = Journal(path)
    intake = Intake(SOURCES, archive, journal)
    intake.start()
    journal.append(messages[100:])
    assert intake.drain(10)
    health, counts = intake.health(NOW), intake.counts()
    intake.stop()

    assert "journal.sqlite.corrupt-" in health.problem
    assert counts.balanced
    assert counts.stored >= 100
    journal.close()


def test_a_message_that_breaks_the_decoder_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours to mend: rejected as an internal error, kept as a dead letter."""
    real = ingest.payload.decode

    def broken(topic: str, body: bytes, *args: Any, **options: Any) -> Any:
        if body == b"poison":
            raise ZeroDivisionError("ours")
        return real(topic, body, *args, **options)

    monkeypatch.setattr(ingest.payload, "decode", broken)
    messages = [Message(topic, body, NOW) for topic, body in traffic(10)]
    poison = Message("plant/hp1", b"poison", NOW)
    archive, counts = judge(tmp_path, [[*messages[:5], poison, *messages[5:]]])

    assert counts.reasons == {"internal error": 1}
    assert counts.stored == 10
    holds(archive, expected(10))


def test_a_network_thread_that_ended_is_started_again(
    mosquitto: servers.Server, tmp_path: Path
) -> None:
    """The library would say that it is connected, and nothing would arrive."""
    journal = Journal(tmp_path / "journal.sqlite")
    subscriber = Subscriber(Connection(port=mosquitto.port), ["plant/hp1", "plant/hp2"])
    intake = Intake(SOURCES, MemoryArchive(), journal, subscriber)
    intake.start()
    until(lambda: subscriber.status().subscribed)
    first, client = subscriber._thread, subscriber._client
    assert first is not None
    assert client is not None
    client._thread_terminate = True
    client.disconnect()
    until(lambda: not first.is_alive())
    until(lambda: intake.health(NOW).well)
    with Publisher(Connection(port=mosquitto.port, client_id="p")) as publisher:
        publisher.publish_all(traffic(10))
    until(lambda: intake.counts().stored == 10)
    intake.stop()
    journal.close()


def judge(folder: Path, batches: list[list[Message]]) -> tuple[MemoryArchive, Counts]:
    """Work a journal off into a fresh archive."""
    (folder / "journal.sqlite").unlink(missing_ok=True)
    journal = Journal(folder / "journal.sqlite")
    for batch in batches:
        journal.append(batch)
    archive = MemoryArchive()
    intake = Intake(SOURCES, archive, journal)
    intake.start()
    assert intake.drain(30)
    intake.stop()
    counts = journal.counts()
    journal.close()
    return archive, counts


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_order_repetition_and_batches_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Any permutation, with any repeated, in any batches, is the same archive."""
    whole = [Message(topic, body, NOW) for topic, body in traffic(60)]
    again = data.draw(st.lists(st.sampled_from(whole), max_size=30))
    mixed = data.draw(st.permutations(whole + again))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(mixed) - 1), max_size=6)))
    batches = [mixed[a:b] for a, b in zip([0, *cuts], [*cuts, len(mixed)], strict=True)]
    archive, counts = judge(tmp_path_factory.mktemp("order"), batches)

    holds(archive, expected(60))
    assert (counts.stored, counts.duplicate) == (60, len(again))


def dirty_day() -> list[Message]:
    """Return a day of two machines with all that may be wrong with a value."""
    rng = np.random.default_rng(4)
    messages = []
    for i in range(1440):
        for unit in ("hp1", "hp2"):
            values: dict[str, float | str] = {"ts": T0 - T0 % 86_400_000 + i * 60_000}
            values[POINTS[0]] = round(30 + rng.normal() / 5, 2)
            # Held from 9:00, in K from 13:20, and out of range now and then.
            values[POINTS[1]] = 55.25 if 540 < i < 700 else 55 + rng.normal() / 9
            if 800 < i < 830:
                values[POINTS[1]] = float(values[POINTS[1]]) + 273.15
            if rng.random() < 0.01:
                values[POINTS[0]] = rng.choice([900.0, 400.0])
            values[POINTS[2]] = 5e4 + 500 * rng.normal()
            if rng.random() < 0.01:
                values[POINTS[2]] = "n/a"
            messages.append(Message(f"plant/{unit}", json.dumps(values).encode(), NOW))
            if i % 97 == 0:
                # The same instant said twice, differently.
                values[POINTS[2]] = 4e4
                body = json.dumps(values).encode()
                messages.append(Message(f"plant/{unit}", body, NOW))
    return messages


def digest(folder: Path, messages: list[Message], cuts: list[int]) -> str:
    """Return the hash of the sealed files that messages in this order leave."""
    journal = Journal(folder / "journal.sqlite")
    archive = open_archive("parquet", directory=folder / "archive")
    edges = [0, *cuts, len(messages)]
    for first, last in pairwise(edges):
        journal.append(messages[first:last])
    intake = Intake(SOURCES, archive, journal, batch=500)
    intake.start()
    assert intake.drain(60)
    intake.settle()
    intake.stop()
    assert journal.counts().balanced
    journal.close()
    archive.seal()  # type: ignore[attr-defined]
    archive.close()
    files = sorted((folder / "archive").rglob("*.parquet"))
    assert files
    whole = hashlib.sha256()
    for file in files:
        whole.update(str(file.relative_to(folder)).encode() + file.read_bytes())
    return whole.hexdigest()


def test_a_day_in_any_order_is_one_archive(tmp_path: Path) -> None:
    """Permuted, repeated and cut anew: the same sealed files, hash for hash."""
    day = dirty_day()
    folders = (tmp_path / str(number) for number in itertools.count())

    def mixed(seed: int) -> str:
        rng = np.random.default_rng(seed)
        again = [day[i] for i in rng.integers(0, len(day), 200)]
        whole = [*day, *again]
        messages = [whole[i] for i in rng.permutation(len(whole))]
        cuts = sorted(rng.choice(np.arange(1, len(whole)), 7, replace=False).tolist())
        (folder := next(folders)).mkdir()
        return digest(folder, messages, cuts)

    (folder := next(folders)).mkdir()
    expected = digest(folder, day, [])
    _, flags = open_archive(
        "parquet", directory=folder / "archive", read_only=True
    ).flagged("hp1", *EVER)
    wanted = {FLAG_CODE[name] for name in ("range", "stuck", "unit")}

    assert wanted <= set(np.unique(flags.to_numpy()).tolist())
    assert {mixed(seed) for seed in range(PERMUTATIONS)} == {expected}
    # The negative control: one reading less is another hash.
    (folder := next(folders)).mkdir()
    assert digest(folder, day[:-1], []) != expected


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    garbage=st.lists(
        st.tuples(
            st.sampled_from(["plant/hp1", "plant/hp2", "other", ""]),
            st.binary(max_size=60)
            | st.dictionaries(
                st.sampled_from(["ts", *POINTS]),
                st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
                max_size=4,
            ).map(lambda document: json.dumps(document).encode()),
            st.booleans(),
        ),
        max_size=40,
    )
)
def test_garbage_is_counted_and_good_messages_arrive(
    tmp_path_factory: pytest.TempPathFactory,
    garbage: list[tuple[str, bytes, bool]],
) -> None:
    """Exactly one verdict for each message, whatever it is."""
    bad = [Message(topic, body, NOW, kept) for topic, body, kept in garbage]
    good = [Message("plant/hp2", payload(i), NOW) for i in range(1, 20, 2)]
    archive, counts = judge(tmp_path_factory.mktemp("garbage"), [bad, good])

    assert counts.balanced
    assert counts.received == len(bad) + len(good)
    assert counts.in_flight == 0
    assert counts.stored + counts.duplicate >= len(good)
    assert archive.frame("hp2", *EVER).index.isin(expected(20)["hp2"].index).sum() == 10


def test_each_verdict_has_its_reason(tmp_path: Path) -> None:
    """A day of trouble, counted by message, by reading and by reason."""
    future = json.dumps({"ts": NOW + 3_600_000, POINTS[0]: 20}).encode()
    half = json.dumps({"ts": T0, POINTS[0]: 21, POINTS[1]: "n/a"}).encode()
    _, counts = judge(
        tmp_path,
        [
            [
                Message("plant/hp1", half, NOW),
                Message("plant/hp1", half, NOW),
                Message("plant/hp1", future, NOW),
                Message("plant/hp1", b"\xff", NOW),
                Message("plant/hp9", b"1", NOW),
            ]
        ],
    )

    assert counts == Counts(
        received=5,
        stored=1,
        duplicate=1,
        quarantined=1,
        rejected=2,
        in_flight=0,
        readings={"duplicate": 1, "quarantined": 1, "rejected": 4, "stored": 1},
        reasons={
            "time in the future": 1,
            "not JSON": 1,
            "not a number": 2,
            "unmapped topic": 1,
        },
    )


def test_what_the_archive_refuses_is_quarantined(tmp_path: Path) -> None:
    """With its reason in the dead letters, and it stops nothing."""
    sources = [*SOURCES, Source(topic="c", unit="hp1", point="cop")]
    journal = Journal(tmp_path / "journal.sqlite")
    journal.append([Message("c", b"4.2", NOW), Message("plant/hp1", payload(0), NOW)])
    intake = Intake(sources, Failing(), journal)
    intake.start()
    assert intake.drain(10)
    intake.stop()
    counts = journal.counts()

    assert (counts.stored, counts.quarantined) == (1, 1)
    assert counts.reasons == {"refused by the archive": 1}
    assert journal.dead_letters()[0].detail == "cop: not here"
    journal.close()


def test_a_restart_knows_what_it_has_seen(tmp_path: Path) -> None:
    """What the broker sends again after a restart is a duplicate."""
    journal = Journal(tmp_path / "journal.sqlite")
    archive = MemoryArchive()
    messages = [Message(topic, body, NOW) for topic, body in traffic(100)]
    for _ in range(2):
        journal.append(messages)
        intake = Intake(SOURCES, archive, journal)
        intake.start()
        assert intake.drain(10)
        intake.stop()
    counts = journal.counts()

    assert (counts.stored, counts.duplicate) == (100, 100)
    journal.close()


def test_backfill_judges_like_the_stream() -> None:
    """Flags, duplicates and quarantine, one verdict for each reading."""
    archive = MemoryArchive()
    readings = [
        Reading("hp1", POINTS[1], T0, 40.0),
        Reading("hp1", POINTS[1], T0, 40.0),
        Reading("hp1", POINTS[1], T0 + 1, 900.0),
        Reading("hp1", POINTS[1], NOW * 2, 40.0),
    ]
    tally = backfill([Readings.of(readings)], archive, NOW)

    assert tally.verdicts == {"stored": 2, "duplicate": 1, "quarantined": 1}
    assert archive.frame("hp1", *EVER)[POINTS[1]].tolist()[0] == 40.0
    assert archive.flagged("hp1", *EVER)[1][POINTS[1]].tolist() == [0, 1]
