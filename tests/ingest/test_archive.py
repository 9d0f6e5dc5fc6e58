"""Three archives, one answer: last write wins, flags stay, nothing is lost."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import sqlite3
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import servers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.archive import (
    Archive,
    ArchiveError,
    ArchiveUnavailableError,
    open_archive,
)
from ingest.archive.parquet import ParquetArchive
from ingest.archive.sealed import Sealed
from ingest.reading import FLAGS, Reading

T0 = datetime(2024, 2, 28, 22, tzinfo=UTC)
T0_MS = int(T0.timestamp() * 1000)
EVER = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
DAY_MS = 86_400_000
_numbers = itertools.count()
POINTS = ("source_inlet_temp_degc", "sink_outlet_temp_degc", "compressor_power_w")


def walk(days: float, step_ms: int = 600_000, unit: str = "hp1") -> list[Reading]:
    """Return a seeded random walk of three points."""
    rng = random.Random(7)  # noqa: S311  not for secrets
    return [
        Reading(unit, point, T0_MS + i * step_ms, rng.uniform(0.1, 90.0))
        for i in range(int(days * DAY_MS / step_ms))
        for point in POINTS
    ]


@pytest.fixture(params=["memory", "parquet", "influxdb"])
def archive(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> Iterator[Archive]:
    """Each of the archives in turn, empty."""
    if request.param == "influxdb":
        server = request.getfixturevalue("influxd")
        made = open_archive("influxdb", url=server.url, database=database)
    elif request.param == "parquet":
        made = open_archive("parquet", directory=tmp_path / "archive")
    else:
        made = open_archive("memory")
    yield made
    made.close()


def test_an_empty_archive_gives_empty_frames(archive: Archive) -> None:
    """With the columns that were asked for, so that arithmetic goes on."""
    frame = archive.frame("hp1", *EVER, points=["cop"])

    assert frame.empty
    assert list(frame.columns) == ["cop"]
    assert str(frame.index.dtype) == "datetime64[ms, UTC]"
    assert archive.units() == []
    assert archive.span("hp1") is None


def test_a_frame_is_what_was_written(archive: Archive) -> None:
    """To the last bit, in the vocabulary's order, over days and units."""
    readings = walk(3) + walk(1, unit="site")
    archive.write(readings)
    frame = archive.frame("hp1", *EVER)

    assert list(frame.columns) == list(POINTS)
    assert frame.index.name == "time"
    assert frame.index.is_monotonic_increasing
    assert frame.index.is_unique
    assert (frame.dtypes == np.float64).all()
    stored = {(r.point, r.time_ms): r.value for r in readings if r.unit == "hp1"}
    times = frame.index.astype(np.int64)
    assert len(frame) * len(POINTS) == len(stored)
    for point in POINTS:
        wanted = [stored[point, int(time)] for time in times]
        assert frame[point].tolist() == wanted
    assert archive.units() == ["hp1", "site"]
    assert archive.span("site") == (T0, T0 + timedelta(hours=23, minutes=50))


def test_the_period_includes_its_start_and_not_its_end(archive: Archive) -> None:
    """So periods that touch neither overlap nor leave a gap."""
    archive.write(walk(3))
    middle = T0 + timedelta(days=1, minutes=20)
    first = archive.frame("hp1", T0, middle)
    second = archive.frame("hp1", middle, EVER[1])

    assert second.index[0] == middle
    pd.testing.assert_frame_equal(
        pd.concat([first, second]), archive.frame("hp1", *EVER), check_freq=False
    )


def test_a_suspect_value_is_nan_and_still_there(archive: Archive) -> None:
    """No calculation can use it by mistake, and a person can look at it."""
    archive.write(
        [
            Reading("hp1", POINTS[0], T0_MS, 20.0),
            Reading("hp1", POINTS[1], T0_MS, 850.0, "range"),
            Reading("hp1", POINTS[1], T0_MS + 1000, 851.0, "range"),
        ]
    )
    frame = archive.frame("hp1", *EVER)
    values, flags = archive.flagged("hp1", *EVER)

    assert frame[POINTS[1]].isna().all()
    assert len(frame) == 2
    assert values[POINTS[1]].tolist() == [850.0, 851.0]
    assert flags[POINTS[1]].tolist() == [1, 1]
    assert flags[POINTS[0]].tolist() == [0, 0]


def test_the_last_write_wins_with_its_flag(archive: Archive) -> None:
    """Also when it takes a flag away."""
    archive.write([Reading("hp1", POINTS[0], T0_MS, 850.0, "range")])
    archive.write([Reading("hp1", POINTS[0], T0_MS, 20.0)])

    assert archive.frame("hp1", *EVER)[POINTS[0]].tolist() == [20.0]


def test_a_time_without_a_zone_is_refused(archive: Archive) -> None:
    """It means two instants once a year."""
    naive = datetime(2024, 1, 1)  # noqa: DTZ001  that is the point
    archive.write(walk(0.1))
    with pytest.raises(ValueError, match="no time zone"):
        archive.frame("hp1", naive, EVER[1])


_readings = st.lists(
    st.builds(
        Reading,
        unit=st.sampled_from(["hp1", "cdu 1,a=b", "größe'\"x"]),
        point=st.sampled_from(POINTS),
        time_ms=st.integers(0, 12).map(lambda n: T0_MS + n * 4_000_003),
        value=st.floats(-1e12, 1e12, allow_subnormal=False).map(lambda v: v + 0.0),
        flag=st.sampled_from([str(flag) for flag in FLAGS]),
    ),
    max_size=40,
)
_steps = st.lists(st.tuples(_readings, st.booleans()), min_size=1, max_size=4)


def _same(one: Archive, other: Archive) -> None:
    assert one.units() == other.units()
    for unit in one.units():
        assert one.span(unit) == other.span(unit)
        pd.testing.assert_frame_equal(
            one.frame(unit, *EVER), other.frame(unit, *EVER), check_exact=True
        )
        for mine, theirs in zip(
            one.flagged(unit, *EVER), other.flagged(unit, *EVER), strict=True
        ):
            pd.testing.assert_frame_equal(mine, theirs, check_exact=True)
        part = (T0 + timedelta(hours=1), T0 + timedelta(hours=9))
        pd.testing.assert_frame_equal(
            one.frame(unit, *part, points=[POINTS[2], POINTS[0]]),
            other.frame(unit, *part, points=[POINTS[2], POINTS[0]]),
            check_exact=True,
        )


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_steps)
def test_parquet_agrees_with_memory_whenever_it_seals(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[list[Reading], bool]],
) -> None:
    """Sealing, reopening and late readings change no answer."""
    folder = tmp_path_factory.mktemp("parquet")
    plain = open_archive("memory")
    sealed = ParquetArchive(folder)
    for readings, seal in steps:
        plain.write(readings)
        sealed.write(readings)
        if seal:
            sealed.seal()
            sealed.close()
            sealed = ParquetArchive(folder)
    _same(plain, sealed)
    sealed.close()


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_steps)
def test_influxdb_agrees_with_memory(
    influxd: servers.Influx, steps: list[tuple[list[Reading], bool]]
) -> None:
    """For the same readings the same frames, whatever the units are called."""
    name = f"law_{next(_numbers)}"
    plain = open_archive("memory")
    remote = open_archive("influxdb", url=influxd.url, database=name)
    for readings, reopen in steps:
        plain.write(readings)
        remote.write(readings)
        if reopen:
            remote.close()
            remote = open_archive("influxdb", url=influxd.url, database=name)
    _same(plain, remote)
    remote.close()


def test_many_small_writes_are_joined_and_read_the_same(tmp_path: Path) -> None:
    """A slow plant's day is not a hundred thousand rows."""
    archive = ParquetArchive(tmp_path)
    plain = open_archive("memory")
    for reading in walk(0.4, 60_000):
        archive.write([reading])
    plain.write(walk(0.4, 60_000))

    pd.testing.assert_frame_equal(
        archive.frame("hp1", *EVER), plain.frame("hp1", *EVER)
    )
    archive.close()


def test_days_and_months_are_sealed_by_themselves_and_late_readings_join_them(
    tmp_path: Path,
) -> None:
    """So are months, in their time; what comes late is merged, not lost."""
    archive = ParquetArchive(tmp_path)
    readings = walk(4)
    late = [r for i, r in enumerate(readings) if i % 5 == 0]
    for first in range(0, len(readings), 100):
        some = readings[first : first + 100]
        archive.write([r for r in some if r not in late])
    files = sorted(path.name for path in (tmp_path / "unit=hp1").iterdir())
    assert files == [f"2024-{it}.parquet" for it in ("02", "03-01", "03-02")]
    archive.write(late)
    plain = open_archive("memory")
    plain.write(readings)
    _same(plain, archive)
    archive.seal()
    _same(plain, archive)
    archive.close()


def months(directory: Path) -> list[str]:
    """Return the names of all sealed files."""
    return sorted(path.name for path in directory.glob("unit=*/*.parquet"))


def test_a_month_that_is_over_is_one_file(tmp_path: Path) -> None:
    """And a day that comes late to it joins it with the next new day."""
    archive = ParquetArchive(tmp_path)
    plain = open_archive("memory")
    readings = walk(70, 7_200_000)
    days: dict[int, list[Reading]] = {}
    for reading in readings:
        days.setdefault(reading.time_ms // DAY_MS, []).append(reading)
    late = days.pop(min(days) + 20)
    *others, last = days.values()
    for day in others:
        archive.write(day)
        plain.write(day)
    # 28 February to 6 May; a month waits two days for what is late.
    assert months(tmp_path)[:3] == [
        "2024-02.parquet",
        "2024-03.parquet",
        "2024-04.parquet",
    ]
    mended = [r._replace(value=1.5, flag="stuck") for r in others[10][:5]]
    archive.write([*late, *mended])
    plain.write([*late, *mended])
    _same(plain, archive)
    archive.seal()
    assert "2024-03-19.parquet" in months(tmp_path)
    _same(plain, archive)
    archive.write(last)
    plain.write(last)
    assert [name for name in months(tmp_path) if name < "2024-05"] == [
        "2024-02.parquet",
        "2024-03.parquet",
        "2024-04.parquet",
    ]
    _same(plain, archive)
    archive.close()


def test_a_crash_between_a_month_and_its_days_changes_nothing(tmp_path: Path) -> None:
    """Then the days are still there beside the month that has them."""
    archive = ParquetArchive(tmp_path)
    plain = open_archive("memory")
    readings = walk(40, 7_200_000)
    archive.write(readings)
    plain.write(readings)
    archive.seal()
    files = Sealed(tmp_path, "hp1")
    days = {path: path.read_bytes() for path in files.folder.glob("2024-03-*")}
    until = (T0_MS // DAY_MS) + 60
    files.compact(until)
    assert not any(path.exists() for path in days)
    _same(plain, archive)
    for path, content in days.items():
        path.write_bytes(content)
    _same(plain, archive)
    content = (files.folder / "2024-03.parquet").read_bytes()
    files.compact(until)
    assert not any(path.exists() for path in days)
    assert (files.folder / "2024-03.parquet").read_bytes() == content
    _same(plain, archive)
    archive.close()


def test_whoever_reads_sees_a_month_whole_while_it_is_put_together(
    tmp_path: Path,
) -> None:
    """A file that vanished has become part of another: listed again."""
    archive = ParquetArchive(tmp_path)
    archive.write(walk(33, 7_200_000))
    archive.seal()
    files = Sealed(tmp_path, "hp1")
    days = {path: path.read_bytes() for path in files.folder.iterdir()}
    before = archive.frame("hp1", *EVER)
    ended = threading.Event()

    def churn() -> None:
        while not ended.is_set():
            files.compact(T0_MS // DAY_MS + 60)
            for path, content in days.items():
                beside = path.with_suffix(".new")
                beside.write_bytes(content)
                beside.replace(path)

    busy = threading.Thread(target=churn)
    busy.start()
    steady = gaps = 0
    try:
        for _ in range(500):
            if steady >= 12 and gaps:
                break
            # The control: one listing, and what is not there is passed over.
            found = [path for path in sorted(days) if path.exists()]
            naive = sum(path.exists() for path in found)
            gaps += naive < len(days)
            with contextlib.suppress(ArchiveUnavailableError):
                pd.testing.assert_frame_equal(archive.frame("hp1", *EVER), before)
                steady += 1
    finally:
        ended.set()
        busy.join()
        archive.close()
    assert steady
    assert gaps


def test_retention_lets_go_of_the_oldest_only(tmp_path: Path) -> None:
    """Days as they pass; those that a month has are kept as long as the month."""
    archive = ParquetArchive(tmp_path, retention_days=20)
    for reading in walk(75, DAY_MS // 2):
        archive.write([reading])
    kept = archive.span("hp1")

    # The newest is of 13 May, so 23 April is wanted. April became one file on
    # 3 May, when its first twelve days had gone.
    assert kept is not None
    assert kept[0].date().isoformat() == "2024-04-13"
    assert months(tmp_path)[0] == "2024-04.parquet"
    archive.close()
    for_ever = ParquetArchive(tmp_path / "other")
    for reading in walk(75, DAY_MS // 2):
        for_ever.write([reading])
    assert for_ever.span("hp1") == (T0, kept[1])
    for_ever.close()


def test_another_process_reads_while_this_one_writes(tmp_path: Path) -> None:
    """The page and the reports need no permission of the service."""
    archive = ParquetArchive(tmp_path)
    readings = walk(2)
    archive.write(readings[:300])
    code = (
        "import sys; from datetime import *; from pathlib import Path\n"
        "from ingest.archive import open_archive\n"
        "a = open_archive('parquet', directory=Path(sys.argv[1]), read_only=True)\n"
        "u = timezone.utc\n"
        "for _ in sys.stdin:\n"
        "    f = a.frame('hp1', datetime(2000,1,1,tzinfo=u),"
        "        datetime(2100,1,1,tzinfo=u))\n"
        "    print(int(f.notna().sum().sum()), flush=True)\n"
    )
    reader = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert reader.stdin is not None
    assert reader.stdout is not None
    seen = []
    for first in range(300, len(readings), 100):
        reader.stdin.write("\n")
        reader.stdin.flush()
        archive.write(readings[first : first + 100])
        seen.append(int(reader.stdout.readline()))
    reader.communicate("")
    archive.close()

    # Each answer is between what was durable when it was asked and answered.
    assert seen[0] in (300, 400)
    assert all(
        300 + 100 * i <= number <= 400 + 100 * i for i, number in enumerate(seen)
    )


def test_a_crash_between_renaming_and_forgetting_changes_nothing(
    tmp_path: Path,
) -> None:
    """Then a day is both in its file and in the tail, which reads the same."""
    archive = ParquetArchive(tmp_path)
    archive.write(walk(2))
    before = archive.frame("hp1", *EVER)
    tail = (tmp_path / "tail.sqlite").read_bytes()
    archive.close()
    tail = (tmp_path / "tail.sqlite").read_bytes()
    archive = ParquetArchive(tmp_path)
    archive.seal()
    archive.close()
    for extra in tmp_path.glob("tail.sqlite-*"):
        extra.unlink()
    (tmp_path / "tail.sqlite").write_bytes(tail)
    again = ParquetArchive(tmp_path)

    pd.testing.assert_frame_equal(again.frame("hp1", *EVER), before)
    again.close()


def test_a_damaged_day_is_named_and_the_others_answer(tmp_path: Path) -> None:
    """Who only reads is told; who writes keeps it aside and goes on without."""
    archive = ParquetArchive(tmp_path)
    archive.write(walk(2))
    archive.seal()
    path = tmp_path / "unit=hp1" / "2024-02-29.parquet"
    content = path.read_bytes()[:-40]
    path.write_bytes(content)
    reader = ParquetArchive(tmp_path, read_only=True)
    with pytest.raises(ArchiveError, match=r"2024-02-29\.parquet: damaged"):
        reader.frame("hp1", *EVER)
    assert not reader.frame("hp1", T0, T0 + timedelta(hours=2)).empty
    assert path.exists()
    assert len(archive.frame("hp1", *EVER)) == len(archive.frame("hp1", T0, EVER[1]))
    (aside,) = tmp_path.glob("unit=hp1.2024-02-29.parquet.corrupt-*")
    assert aside.read_bytes() == content
    archive.write(walk(2))
    archive.seal()
    assert path.exists()
    archive.close()


def test_no_flipped_bit_in_a_sealed_file_is_believed(tmp_path: Path) -> None:
    """Nor does it reach Arrow, which some flips in the footer would end."""
    archive = ParquetArchive(tmp_path)
    archive.write(walk(2))
    archive.seal()
    archive.close()
    path = tmp_path / "unit=hp1" / "2024-02-29.parquet"
    content = path.read_bytes()
    reader = ParquetArchive(tmp_path, read_only=True)
    whole = reader.frame("hp1", *EVER)
    places = range(0, len(content), max(1, len(content) // 200))
    harmless = 0
    for number, place in enumerate(places):
        flipped = bytearray(content)
        flipped[place] ^= 1 << number % 8
        path.write_bytes(flipped)
        os.utime(path, ns=(number, number))
        try:
            pd.testing.assert_frame_equal(reader.frame("hp1", *EVER), whole)
            harmless += 1  # the mark of the checksum itself
        except ArchiveError:
            pass

    assert harmless <= 8
    assert len(places) > 150


def test_a_damaged_tail_is_kept_aside_and_what_is_whole_stays(tmp_path: Path) -> None:
    """A flipped bit in a value is no other value; other batches are there."""
    archive = ParquetArchive(tmp_path)
    for hours in (0.5, 1.0):
        archive.write(walk(hours))
    archive.close()
    tail = tmp_path / "tail.sqlite"
    content = bytearray(tail.read_bytes())
    whole = ParquetArchive(tmp_path, read_only=True).frame("hp1", *EVER)
    # The newest batch of hp1 lies before older ones in the file.
    marker = whole.iloc[-1].dropna().iloc[0]
    place = content.index(struct.pack("<d", marker))
    content[place] ^= 1
    tail.write_bytes(content)
    with pytest.raises(ArchiveError, match="damaged"):
        ParquetArchive(tmp_path, read_only=True).frame("hp1", *EVER)
    archive = ParquetArchive(tmp_path)
    left = archive.frame("hp1", *EVER)
    archive.close()

    assert 0 < len(left) < len(whole)
    pd.testing.assert_frame_equal(left, whole.loc[left.index], check_freq=False)
    assert next(tmp_path.glob("tail.sqlite.corrupt-*")).read_bytes() == content


def test_there_is_one_writer_and_any_number_of_readers(tmp_path: Path) -> None:
    """Two sealing at once would write over each other's days."""
    first, second = ParquetArchive(tmp_path), ParquetArchive(tmp_path)
    first.write(walk(0.1))
    assert not second.frame("hp1", *EVER).empty
    with pytest.raises(ArchiveError, match="another process writes to it"):
        second.write(walk(0.1))
    first.close()
    second.write(walk(0.2))
    assert len(second.frame("hp1", *EVER)) == 28
    with pytest.raises(ArchiveError, match="for reading only"):
        ParquetArchive(tmp_path, read_only=True).write(walk(0.1))
    second.close()


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    """A downgrade must not misread what it does not know."""
    ParquetArchive(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "tail.sqlite")
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(ArchiveError, match="format 99"):
        ParquetArchive(tmp_path)


def test_an_influxdb_that_is_not_there_can_be_tried_again() -> None:
    """The readings wait in the journal meanwhile."""
    url = f"http://127.0.0.1:{servers.free_port()}"
    archive = open_archive("influxdb", url=url)
    with pytest.raises(ArchiveUnavailableError, match="does not answer"):
        archive.write(walk(0.1))
    archive.close()


def test_influxdb_refuses_one_reading_and_takes_the_rest(
    influxd: servers.Influx, database: str
) -> None:
    """A field that is an integer there already: found by halving, reported."""
    import urllib.request

    archive = open_archive("influxdb", url=influxd.url, database=database)
    archive.write(walk(0.1))
    line = f"telemetry,unit=hp1 cop=1i {T0_MS}".encode()
    urllib.request.urlopen(  # noqa: S310
        f"{influxd.url}/write?db={database}&precision=ms", data=line
    ).close()
    good = walk(1, 60_000)
    bad = Reading("hp1", "cop", T0_MS + 60_000, 4.2)
    refused = archive.write([*good, bad])

    assert [[*good, bad][item.place] for item in refused] == [bad]
    assert "field type conflict" in refused[0].reason
    frame = archive.frame("hp1", *EVER, points=POINTS)
    assert int(frame.notna().sum().sum()) == len(
        {(r.point, r.time_ms) for r in [*good, *walk(0.1)]}
    )
    archive.close()


@pytest.mark.parametrize(
    ("kind", "settings", "text"),
    [
        ("duckdb", {}, 'there are "parquet" and "influxdb"'),
        ("parquet", {}, "setting 'directory' is missing"),
        ("influxdb", {"url": "localhost:8086"}, "write http://"),
        ("influxdb", {"url": "http://x", "bukket": "y"}, "bukket"),
    ],
)
def test_a_wrong_setting_is_named(
    kind: str, settings: dict[str, str], text: str
) -> None:
    """Before anything is written anywhere."""
    with pytest.raises(ArchiveError, match=text):
        open_archive(kind, **settings)


def test_what_is_durable_is_not_refused_for_want_of_tidiness(tmp_path: Path) -> None:
    """A batch that cannot be joined costs a log line, and no write is repeated."""
    archive = ParquetArchive(tmp_path)
    readings = [Reading("hp1", POINTS[0], T0_MS + n * 1000, 20.0) for n in range(520)]
    for reading in readings[:500]:
        archive.write([reading])
    broken = sqlite3.connect(tmp_path / "tail.sqlite")
    with broken:
        broken.execute("UPDATE batch SET checksum = checksum + 1 WHERE id = 1")
    for reading in readings[500:520]:
        assert archive.write([reading]) == ()
    (number,) = broken.execute("SELECT COUNT(*) FROM batch").fetchone()
    broken.close()
    assert number == 520
    with pytest.raises(ArchiveError, match="batch 1 of hp1 is damaged"):
        archive.frame("hp1", *EVER)
    archive.close()
