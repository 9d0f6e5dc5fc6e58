"""A file gives its good rows, and says in words what is wrong with the rest."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.archive import open_archive
from ingest.files import InputError, read
from ingest.reading import Source

EVER = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
NOW = 1_800_000_000_000
SOURCES = (
    Source(
        topic="-", unit="hp1", point="compressor_power_w", pointer="/kW", scale=1000.0
    ),
    Source(topic="-", unit="hp1", point="sink_outlet_temp_degc", pointer="/T out"),
    Source(topic="-", unit="site", point="outdoor_temp_degc", pointer="/T air"),
)
ROWS = [
    f"2024-01-01T{i // 12:02d}:{i % 12 * 5:02d}:00Z,"
    f"{i / 7:.3f},{40 + i % 9 / 10},{i % 5}"
    for i in range(200)
]
HEAD = "time,kW,T out,T air"


def write(path: Path, *lines: str) -> Path:
    """Write a CSV."""
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def frames(
    path: Path, **settings: object
) -> tuple[dict[str, pd.DataFrame], dict[str, int]]:
    """Return what a file comes to, and its verdicts."""
    archive = open_archive("memory")
    tally = read(path, SOURCES).into(archive, NOW)
    return {u: archive.frame(u, *EVER) for u in archive.units()}, tally.verdicts


def test_a_wide_file_becomes_frames_in_si(tmp_path: Path) -> None:
    """One row is one time, one column one point of one unit."""
    found, verdicts = frames(write(tmp_path / "a.csv", HEAD, *ROWS))

    assert verdicts == {"stored": 600}
    assert found["hp1"]["compressor_power_w"].iloc[7] == pytest.approx(1000.0)
    assert found["hp1"].index[1] == pd.Timestamp("2024-01-01T00:05Z")
    assert list(found["site"].columns) == ["outdoor_temp_degc"]


def test_shuffled_and_duplicated_rows_give_the_same(tmp_path: Path) -> None:
    """And the repeated cells are counted as what they are."""
    whole, _ = frames(write(tmp_path / "a.csv", HEAD, *ROWS))
    mixed = ROWS + ROWS[:50]
    random.Random(3).shuffle(mixed)  # noqa: S311  not for secrets
    found, verdicts = frames(write(tmp_path / "b.csv", HEAD, *mixed))

    assert verdicts == {"stored": 600, "duplicate": 150}
    for unit, frame in whole.items():
        pd.testing.assert_frame_equal(found[unit], frame)


def test_parquet_gives_what_csv_gives(tmp_path: Path) -> None:
    """Also when the times are its index."""
    csv = write(tmp_path / "a.csv", HEAD, *ROWS)
    table = pd.read_csv(csv, parse_dates=["time"], index_col="time")
    table.to_parquet(tmp_path / "a.parquet")
    whole, _ = frames(csv)
    found, _ = frames(tmp_path / "a.parquet")

    for unit, frame in whole.items():
        pd.testing.assert_frame_equal(found[unit], frame)


def test_bad_cells_are_counted_and_their_neighbours_arrive(tmp_path: Path) -> None:
    """Unreadable numbers, unreadable times, short rows: each with its line."""
    path = write(
        tmp_path / "a.csv",
        HEAD,
        "2024-01-01T00:00:00Z,1,40,3",
        "2024-01-01T00:05:00Z,n/a,41,NaN",
        "2024-01-01T00:10:00Z,2;5,42,",
        "yesterday,1,43,3",
        "2024-01-01T00:20:00Z,1",
        "2024-01-01T00:25:00Z,inf,44,--",
        '2024-01-01T00:30:00Z,"1,5",45,true',
    )
    history = read(path, SOURCES)
    found, verdicts = frames(path)

    assert history.rejected == {
        "wrong number of cells": 1,
        "unreadable time": 1,
        "not a number": 1,
        "not finite": 1,
        "decimal comma": 1,
        "state for a number": 1,
    }
    assert any(text.startswith("line 5: ") for text in history.examples)
    assert found["hp1"]["sink_outlet_temp_degc"].tolist() == [40, 41, 42, 44, 45]
    assert verdicts == {"stored": 7, "rejected": 6}


def test_a_clock_in_the_future_is_quarantined(tmp_path: Path) -> None:
    """The rows of the present arrive."""
    path = write(tmp_path / "a.csv", HEAD, *ROWS, "2124-01-01T00:00:00Z,1,40,3")

    assert frames(path)[1] == {"stored": 600, "quarantined": 3}


def test_local_times_need_a_zone_and_keep_their_odd_hour_out(tmp_path: Path) -> None:
    """Half past two happened twice that night; nobody can know which it was."""
    path = write(
        tmp_path / "a.csv",
        HEAD,
        "2024-10-27 01:30:00,1,40,3",
        "2024-10-27 02:30:00,1,41,3",
        "2024-10-27 03:30:00,1,42,3",
    )
    history = read(path, SOURCES, zone="Europe/Copenhagen")

    assert history.rejected == {"unreadable time": 1}
    first, last = (pd.Timestamp(int(t), unit="ms") for t in history.times)
    assert (first.isoformat(), last.isoformat()) == (
        "2024-10-26T23:30:00",
        "2024-10-27T02:30:00",
    )


def test_semicolons_and_decimal_commas(tmp_path: Path) -> None:
    """What a spreadsheet south of the Channel writes."""
    sources = [
        Source(
            topic="-", unit="u", point="sink_outlet_temp_degc", pointer="T", decimal=","
        )
    ]
    path = write(tmp_path / "a.csv", "Zeit;T", "2024-01-01T00:00:00+01:00;47,3")
    (reading,) = read(path, sources)

    assert reading.value == 47.3
    assert reading.time_ms == 1_704_063_600_000


def test_times_may_be_counts(tmp_path: Path) -> None:
    """Since 1970, in s or ms."""
    path = write(tmp_path / "a.csv", HEAD, "1704067200,1,40,3", "1704067200500,1,41,3")

    assert read(path, SOURCES).times.tolist() == [1_704_067_200_000, 1_704_067_200_500]


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ((), r"an empty file; the first line names the columns"),
        ((HEAD,), r"a header and no rows"),
        (("time,kW,Tout,T air", ROWS[0]), r'no column "T out".*Did you mean "Tout"'),
        (("when,kW,T out,T air", ROWS[0]), r'no column of times among "when"'),
        (("time,kW,kW,T out,T air", ROWS[0] + ",1"), r'2 columns called "kW"'),
    ],
)
def test_a_file_that_cannot_be_read_says_why(
    tmp_path: Path, lines: tuple[str, ...], text: str
) -> None:
    """Where, what was found, what is right, and what to do."""
    path = tmp_path / "a.csv"
    path.write_text("\n".join(lines), "utf-8")
    with pytest.raises(InputError, match=rf"a\.csv.*{text}"):
        read(path, SOURCES)


def test_no_file_and_no_parquet(tmp_path: Path) -> None:
    """A path that is wrong, and bytes that are no Parquet."""
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "a.csv", SOURCES)
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(InputError, match="no readable Parquet"):
        read(tmp_path / "a.parquet", SOURCES)


def test_a_part_of_the_columns_can_be_enough(tmp_path: Path) -> None:
    """When it is asked for; what is missing is named."""
    path = write(tmp_path / "a.csv", "time,kW", "2024-01-01T00:00:00Z,1")
    history = read(path, SOURCES, partial=True)

    assert history.missing == ("/T out", "/T air")
    assert [reading.point for reading in history] == ["compressor_power_w"]


@settings(max_examples=150)
@given(
    st.binary(max_size=300)
    | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))
)
def test_no_file_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, body: bytes
) -> None:
    """Under a good header any bytes give readings or an InputError."""
    path = tmp_path_factory.mktemp("fuzz") / "a.csv"
    path.write_bytes(HEAD.encode() + b"\n" + ROWS[0].encode() + b"\n" + body)
    try:
        history = read(path, SOURCES)
    except InputError:
        return
    archive = open_archive("memory")
    tally = history.into(archive, NOW)

    assert tally.verdicts.get("stored", 0) >= 3


LONG_HEAD = "timestamp;TagName;Value"


def long_rows(decimal: str = ",") -> list[str]:
    """Return the wide rows as a historian would export them."""
    found = []
    for row in ROWS:
        time, *cells = row.split(",")
        found += [
            f"{time};{name};{cell.replace('.', decimal)}"
            for name, cell in zip(("kW", "T out", "T air"), cells, strict=True)
        ]
    return found


def test_long_gives_what_wide_gives(tmp_path: Path) -> None:
    """In any order of its rows, with the decimal mark of the plant."""
    comma = [replace(source, decimal=",") for source in SOURCES]
    wide, _ = frames(write(tmp_path / "a.csv", HEAD, *ROWS))
    rows = long_rows()
    random.Random(4).shuffle(rows)  # noqa: S311  not for secrets
    archive = open_archive("memory")
    history = read(write(tmp_path / "b.csv", LONG_HEAD, *rows), comma)
    tally = history.into(archive, NOW)

    assert tally.verdicts == {"stored": 600}
    assert history.rows == 600
    assert history.missing == ()
    for unit, frame in wide.items():
        pd.testing.assert_frame_equal(archive.frame(unit, *EVER), frame)


def test_a_long_file_names_values_by_tag_topic_or_both(tmp_path: Path) -> None:
    """Whatever tells one source from the others; strangers are passed over."""
    sources = [
        Source(topic="plant/hp1", unit="hp1", point="cop", pointer="/v/cop"),
        Source(topic="plant/hp2", unit="hp2", point="cop", pointer="/v/cop"),
        Source(topic="air", unit="site", point="outdoor_temp_degc", scale=2.0),
    ]
    rows = [
        "2024-01-01T00:00:00Z,plant/hp1/v/cop,3.5",
        "2024-01-01T00:00:00Z,hp2.cop,4.5",
        "2024-01-01T00:00:00Z,air,5",
        "2024-01-01T00:00:00Z,stranger,1",
        "2024-01-01T00:00:00Z,v/cop,9",
    ]
    history = read(write(tmp_path / "a.csv", "time,topic,value", *rows), sources)

    assert [(r.unit, r.value) for r in history] == [
        ("hp1", 3.5),
        ("hp2", 4.5),
        ("site", 10.0),
    ]


def test_what_an_archive_exports_is_read_in_its_own_units(tmp_path: Path) -> None:
    """As it is: no scale; the device's flag stays, our own are given anew."""
    table = pd.DataFrame(
        {
            "time": pd.to_datetime(["2024-01-01T00:00Z"] * 3 + [None]),
            "unit": ["hp1", "hp1", "site", "site"],
            "point": [source.point for source in SOURCES] + ["outdoor_temp_degc"],
            "value": [4000.0, 47.0, float("nan"), 3.0],
            "flag": ["quality", "stuck", "", ""],
        }
    )
    path = tmp_path / "a.parquet"
    table.to_parquet(path)
    history = read(path, SOURCES)

    assert [(r.point, r.value, r.flag) for r in history] == [
        ("compressor_power_w", 4000.0, "quality"),
        ("sink_outlet_temp_degc", 47.0, ""),
    ]
    assert history.rejected == {"unreadable time": 1}


def test_a_long_file_with_other_names_says_which(tmp_path: Path) -> None:
    """With the nearest one, as a wide file does."""
    path = write(tmp_path / "a.csv", "time,tag,value", "2024-01-01T00:00:00Z,T oot,1")
    with pytest.raises(InputError, match='no value called "kW"'):
        read(path, SOURCES)
    with pytest.raises(InputError, match='Did you mean "T oot"'):
        read(path, SOURCES[1:2])
    history = read(
        write(tmp_path / "b.csv", "time,tag,value", "2024-01-01T00:00:00Z,T out,1"),
        SOURCES,
        partial=True,
    )
    assert history.missing == ("kW", "T air")


def test_a_wide_file_may_have_such_columns_too(tmp_path: Path) -> None:
    """A mapped column decides when no row is called like a point of ours."""
    source = Source(topic="-", unit="hp1", point="cop", pointer="/value")
    path = write(tmp_path / "a.csv", "time,name,value", "2024-01-01T00:00:00Z,x,3.5")
    assert [r.value for r in read(path, [source])] == [3.5]
