"""What the journal has taken it keeps, and every message is in one place."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.damage import whole_rows
from ingest.journal import (
    DeadLetter,
    Journal,
    JournalError,
    Message,
    Tally,
    pack,
    unpack,
)

_messages = st.lists(
    st.builds(
        Message,
        topic=st.text(max_size=30),
        payload=st.binary(max_size=100),
        received_ms=st.integers(-(2**62), 2**62),
        retained=st.booleans(),
    ),
    max_size=20,
)


def some(number: int, size: int = 10) -> list[Message]:
    """Return messages that can be told apart."""
    return [Message("t", b"%0*d" % (size, i), i) for i in range(number)]


@given(_messages)
def test_messages_come_back_as_they_were(messages: list[Message]) -> None:
    """Whatever bytes, topics and times they have."""
    assert unpack(pack(messages)) == messages


def test_a_journal_is_read_in_the_order_of_arrival(tmp_path: Path) -> None:
    """Batch after batch, from any position, also after it was reopened."""
    journal = Journal(tmp_path / "j.sqlite")
    messages = some(1000)
    for first in range(0, 1000, 100):
        journal.append(messages[first : first + 100])
    journal.close()
    journal = Journal(tmp_path / "j.sqlite")
    position, read = journal.position(), []
    while batch := journal.read(position, messages=250):
        read += batch.messages
        position = batch.position

    assert read == messages
    assert journal.counts().in_flight == 1000
    journal.close()


def test_long_messages_are_read_a_few_at_a_time(tmp_path: Path) -> None:
    """A backlog of them must not become a backlog in memory."""
    journal = Journal(tmp_path / "j.sqlite")
    for _ in range(30):
        journal.append(some(1, size=1 << 20))
    batch = journal.read(0)

    assert batch is not None
    assert len(batch.messages) == 16
    journal.close()


def test_cursor_and_verdicts_move_together(tmp_path: Path) -> None:
    """So a crash can neither count a message twice nor forget it."""
    journal = Journal(tmp_path / "j.sqlite")
    journal.append(some(10))
    tally = Tally()
    tally.message("stored", 7)
    tally.message("rejected", 3)
    tally.reading("stored", number=14)
    tally.reading("rejected", "not JSON", 3)
    batch = journal.read(0)
    assert batch is not None
    journal.advance(batch.position, tally)
    journal.append(some(5))
    counts = journal.counts()

    assert counts.balanced
    assert (counts.received, counts.stored, counts.in_flight) == (15, 7, 5)
    assert counts.readings == {"stored": 14, "rejected": 3}
    assert counts.reasons == {"not JSON": 3}
    journal.close()


def test_what_was_passed_is_forgotten_and_what_waits_is_not(tmp_path: Path) -> None:
    """The disk is bounded by what is kept, and the newest of it stays."""
    journal = Journal(tmp_path / "j.sqlite", keep_bytes=40_000)
    for _ in range(20):
        position = journal.append(some(100, size=100))
        journal.advance(position, Tally())
    kept = journal.before(position, messages=10**6)
    assert 100 <= len(kept) < 500
    waiting = [journal.append(some(100, size=100)) for _ in range(20)]
    batch = journal.read(position, messages=10**6)

    assert batch is not None
    assert len(batch.messages) == 2000
    assert batch.position == waiting[-1]
    journal.close()


def test_a_full_journal_refuses_and_resumes(tmp_path: Path) -> None:
    """An archive that is down for weeks must not fill the disk unseen."""
    journal = Journal(tmp_path / "j.sqlite", limit_bytes=20_000)
    position = journal.append(some(100, size=100))
    with pytest.raises(JournalError, match="wait for the archive"):
        journal.append(some(100, size=100))
    assert journal.counts().received == 100
    journal.advance(position, Tally())
    journal.append(some(100, size=100))

    assert journal.counts().in_flight == 100
    journal.close()


def test_a_full_disk_refuses_whole_batches_and_resumes(tmp_path: Path) -> None:
    """SQLite's own limit of pages stands for the disk's end."""
    journal = Journal(tmp_path / "j.sqlite")
    journal._writer.execute("PRAGMA max_page_count = 30")
    taken = 0
    with pytest.raises(JournalError, match="is the disk full"):  # noqa: PT012
        for _ in range(100):
            journal.append(some(100, size=100))
            taken += 100
    assert journal.counts().received == taken
    journal._writer.execute("PRAGMA max_page_count = 100000")
    journal.append(some(100))

    assert journal.counts().received == taken + 100
    journal.close()


def test_dead_letters_are_bounded_and_the_newest_stay(tmp_path: Path) -> None:
    """A gateway that sends garbage for a week fills nothing."""
    journal = Journal(tmp_path / "j.sqlite", dead_letters=50)
    for round_ in range(10):
        tally = Tally()
        tally.dead = [
            DeadLetter(i, "t", "not JSON", f"{round_}/{i}", b"x" * 10_000)
            for i in range(40)
        ]
        journal.advance(0, tally)
    letters = journal.dead_letters(1000)

    assert len(letters) == 50
    assert letters[0].detail == "9/39"
    assert max(len(letter.payload) for letter in letters) == 4096
    journal.close()


def test_a_killed_process_loses_no_committed_batch(tmp_path: Path) -> None:
    """It prints a number only after the append has returned."""
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from ingest.journal import Journal, Message\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for i in range(200):\n"
        "    journal.append([Message('t', b'%d' % i, i)])\n"
        "    print(i, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "j.sqlite")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    assert done.returncode == -9
    journal = Journal(tmp_path / "j.sqlite")
    batch = journal.read(0, messages=10**6)

    assert batch is not None
    assert [int(m.payload) for m in batch.messages] == list(range(200))
    journal.close()


def test_it_is_synced_at_every_commit(tmp_path: Path) -> None:
    """NORMAL would lose acknowledged messages with the power."""
    journal = Journal(tmp_path / "j.sqlite")

    assert journal._writer.execute("PRAGMA synchronous").fetchone() == (2,)
    assert journal._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    journal.close()


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    """A downgrade must not misread what it does not know."""
    Journal(tmp_path / "j.sqlite").close()
    connection = sqlite3.connect(tmp_path / "j.sqlite")
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(JournalError, match="format 99"):
        Journal(tmp_path / "j.sqlite")


def test_a_journal_of_the_first_format_is_taken_over(tmp_path: Path) -> None:
    """An upgrade keeps what waits, and what was counted."""
    path = tmp_path / "journal.sqlite"
    old = Journal(path)
    old.append([Message("t", b"1", 5)])
    old.close()
    with closing(sqlite3.connect(path)) as plain:
        plain.executescript("DROP TABLE memory; PRAGMA user_version = 1;")
    new = Journal(path)

    assert new.counts().in_flight == 1
    assert new.recall("checks") is None
    new.advance(1, Tally(), memory={"checks": b"\x00abc"})
    assert new.recall("checks") == b"\x00abc"
    new.close()


def _in_file(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


def test_a_flipped_byte_costs_its_batch_and_nothing_else(tmp_path: Path) -> None:
    """It is counted, the law holds, and the rest is read."""
    path = tmp_path / "j.sqlite"
    journal = Journal(path)
    for word in (b"one", b"fourteen", b"three"):
        journal.append([Message("t", word, 0)] * 2)
    journal.close()
    content = path.read_bytes()
    path.write_bytes(content.replace(b"fourteen", b"nineteen"))
    journal = Journal(path)
    batch = journal.read(0)
    assert batch is not None
    journal.advance(batch.position, Tally({"stored": len(batch.messages)}))
    counts = journal.counts()

    assert [m.payload for m in batch.messages] == [b"one"] * 2 + [b"three"] * 2
    assert counts.balanced
    assert counts.quarantined == 2
    assert counts.reasons == {"damaged in the journal": 2}
    assert b"nineteen" in journal.dead_letters()[0].payload
    journal.close()


def test_a_damaged_memory_is_forgotten(tmp_path: Path) -> None:
    """A consumer that remembers nothing learns it anew; a wrong one misjudges."""
    path = tmp_path / "j.sqlite"
    journal = Journal(path)
    journal.advance(0, Tally(), memory={"checks": b"the memory"})
    journal.close()
    _in_file(path, b"the memory", b"tha memory")
    journal = Journal(path)

    assert journal.recall("checks") is None
    journal.close()


def test_a_damaged_journal_is_kept_aside_and_made_anew(tmp_path: Path) -> None:
    """From what is whole in it, also when a crash came between the two."""
    path = tmp_path / "j.sqlite"
    journal = Journal(path)
    for i in range(40):
        journal.append(some(100, size=100 + i))
    journal.close()
    content = bytearray(path.read_bytes())
    content[200_000:204_096] = bytes(4096)
    path.write_bytes(content)
    Journal(path).close()
    (aside,) = tmp_path.glob("j.sqlite.corrupt-*")
    assert aside.read_bytes() == content
    path.unlink()
    journal = Journal(path)
    kept = journal.before(10**9, messages=10**9)

    assert 3800 <= len(kept) < 4000
    assert journal.counts().in_flight == len(kept)
    journal.close()


def test_a_log_that_lost_its_end_is_no_older_state(tmp_path: Path) -> None:
    """SQLite would begin where the log ends, and say nothing."""
    path = tmp_path / "j.sqlite"
    journal = Journal(path)
    for _ in range(20):
        journal.append(some(10))
    log = path.with_name("j.sqlite-wal")
    sides = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    journal.close()
    for name, side in sides.items():
        (tmp_path / name).write_bytes(side)
    os.truncate(log, log.stat().st_size // 2)
    journal = Journal(path)
    received = journal.counts().received
    journal.close()

    assert 0 < received < 200
    assert list(tmp_path.glob("j.sqlite.corrupt-*"))


def test_a_consumer_may_read_again_what_is_kept(tmp_path: Path) -> None:
    """For an archive that has lost its newest; the law holds, and counts both."""
    journal = Journal(tmp_path / "j.sqlite")
    position = journal.append(some(10))
    journal.advance(position, Tally({"stored": 10}), memory={"checks": b"x"})
    journal.append(some(5))
    again = journal.rewind()
    batch = journal.read(journal.position())
    counts = journal.counts()

    assert again == 10
    assert batch is not None
    assert batch.messages == some(10) + some(5)
    assert counts.balanced
    assert (counts.received, counts.stored, counts.in_flight) == (25, 10, 15)
    assert journal.recall("checks") is None
    journal.close()


def test_rows_of_a_damaged_file_are_found_beyond_any_gap(tmp_path: Path) -> None:
    """The archive's tail deletes days that are sealed; what is older may wait."""
    path = tmp_path / "t.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "CREATE TABLE batch (id INTEGER PRIMARY KEY AUTOINCREMENT, content BLOB)"
        )
        connection.executemany(
            "INSERT INTO batch VALUES (?, ?)",
            [(number, b"%d" % number * 2000) for number in (3, 5, 100_000)],
        )
    rows = {n: row for n, row in whole_rows(path, "batch", "content") if row}

    assert sorted(rows) == [3, 5, 100_000]
    assert rows[3] == (b"3" * 2000,)
