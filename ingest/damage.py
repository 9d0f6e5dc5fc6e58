"""What becomes of a damaged file: found, kept aside, and what is whole saved.

SQLite notices a structure that is broken. It does not notice a byte that has
flipped inside a value, which is what the checksums of journal and archive are
for; nor that the end of its log is gone, which reads as an older state. That
one is seen from outside: the log's index (``-shm``) outlives a process that
crashed, and never speaks of more than the log had been synced with.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)
# What the disk, the memory or another process does to us, as opposed to what
# the file is: https://www.sqlite.org/rescode.html
_ENVIRONMENT = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
    }
)
# Two copies of one head, https://www.sqlite.org/walformat.html section 2.1: at
# 16 how many pages the log has, at 32 the salts of its generation.
_INDEX_HEAD = 48
_LOG_HEAD = 32
_SIDES = ("-wal", "-shm")
# How many identities below the newest are tried without being listed.
_TRIED = 5000


def is_damage(error: sqlite3.Error, path: Path) -> bool:
    """Whether an error speaks of the file itself, not of disk or memory."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code == sqlite3.SQLITE_READONLY:  # also what an unknown format is taken for
        return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    return code not in _ENVIRONMENT


def recover(
    path: Path,
    unsound: Callable[[sqlite3.Connection], str],
    refill: Callable[[Path, sqlite3.Connection], str],
    *,
    check: str = "quick_check",
) -> bool:
    """Before a SQLite file is opened: if it is damaged, make it anew.

    Parameters
    ----------
    path : path
        The file. If it is damaged it is kept aside and replaced.
    unsound : callable
        Looks at what the structure does not show, and says what is wrong.
    refill : callable
        Puts into a new file what is whole in the damaged one, and says so.
    check : str
        How SQLite checks the structure; ``"integrity_check"`` also compares
        the tables with their indices.

    Returns
    -------
    bool
        Whether it was made anew, and so may lack something.
    """
    found = damage(path, unsound, check)
    if found:
        _log.error("%s is damaged: %s", path, found)
        set_aside(path)
    aside = kept_aside(path.parent, path.name)
    if path.exists() or not aside:
        return False
    # Also where a crash came between the two.
    take_along(path, aside[-1])
    beside = path.with_name(path.name + ".salvaged")
    for side in ("", *_SIDES):
        beside.with_name(beside.name + side).unlink(missing_ok=True)
    with closing(sqlite3.connect(beside)) as writer:
        saved = refill(aside[-1], writer)
    beside.replace(path)
    _log.error(
        "%s: made anew of the damaged one, which is kept as %s: %s",
        path,
        aside[-1].name,
        saved,
    )
    return True


def damage(path: Path, unsound: Callable[[sqlite3.Connection], str], check: str) -> str:
    """Return what is wrong with a SQLite file that nobody writes to.

    A missing one is not damaged; the parameters are those of :func:`recover`.

    Returns
    -------
    str
        Empty if nothing was found.

    Raises
    ------
    sqlite3.Error
        If it cannot be looked at: no damage, but no answer either.
    """
    if not path.exists():
        return ""
    log = _head(path, "-wal", _LOG_HEAD)
    promised, salts = _index(path)
    if len(log) < _LOG_HEAD and promised:
        return "its -wal is gone"
    if len(log) == _LOG_HEAD and not _log_head_whole(log):
        return "the head of its -wal is damaged"
    try:
        with closing(_look(path, "mode=ro")) as connection:
            connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
            found, _ = _index(path)
            # An index of an earlier generation says nothing of this log.
            if log[16:24] == salts and found < promised:
                return f"its -wal has {found} whole pages of {promised}"
            (answer,) = connection.execute(f"PRAGMA {check}(1)").fetchone()
            return unsound(connection) if answer == "ok" else str(answer)
    except sqlite3.Error as error:
        if is_damage(error, path):
            return str(error)
        raise
    except (TypeError, ValueError, OverflowError) as error:
        return f"unreadable values: {error}"


def same_schema(connection: sqlite3.Connection, script: str) -> bool:
    """Whether a file has exactly the tables that a script makes."""
    query = "SELECT name, sql FROM sqlite_schema WHERE sql NOT NULL ORDER BY name"
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(script)
        return fresh.execute(query).fetchall() == connection.execute(query).fetchall()


def set_aside(path: Path, folder: Path | None = None) -> Path:
    """Rename a damaged file, with what SQLite keeps beside it.

    Parameters
    ----------
    path : path
        The file.
    folder : path, optional
        A folder above it, in which it is to lie.

    Returns
    -------
    path
        The new name, after the time of the last change to the file: so far
        its content goes.
    """
    folder = folder or path.parent
    changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    name = ".".join(path.relative_to(folder).parts)
    stem = f"{name}.corrupt-{changed:%Y%m%dT%H%M%SZ}"
    aside, again = folder / stem, 1
    while aside.exists():
        again += 1
        aside = folder / f"{stem}-{again}"
    # The file first: as long as it has its name, it is not without its log.
    path.replace(aside)
    take_along(path, aside)
    return aside


def take_along(path: Path, aside: Path) -> None:
    """Move what SQLite keeps beside a file to where the file is now."""
    for side in _SIDES:
        beside = path.with_name(path.name + side)
        if beside.exists():
            beside.replace(aside.with_name(aside.name + side))


def kept_aside(folder: Path, name: str = "*") -> list[Path]:
    """Return the damaged files that somebody still has to look at, oldest first."""
    found = [
        path
        for path in folder.glob(f"{name}.corrupt-*")
        if not path.name.endswith(_SIDES)
    ]
    return sorted(found, key=lambda path: (path.stat().st_mtime, path.name))


def told(folder: Path) -> list[str]:
    """Return a sentence for each damaged file that is kept aside in a folder."""
    return [
        f"{path} was damaged and is kept; the log says what of it is lost; delete it, "
        "or move it away, when you have looked at it"
        for path in kept_aside(folder)
    ]


def whole_rows(path: Path, table: str, columns: str) -> Iterator[tuple[int, Any]]:
    """Return the rows of a damaged file that can be read, by falling identity.

    A row is None where none is or it cannot be read, down to the last that
    can. The file is read with what its log adds and, where that fails, without.
    """
    # Names of ours, which no parameter can stand for.
    listed = f"SELECT id FROM {table} ORDER BY id"  # noqa: S608
    newest = f"SELECT seq FROM sqlite_sequence WHERE name = '{table}'"  # noqa: S608
    query = f"SELECT {columns} FROM {table} WHERE id = ?"  # noqa: S608
    try:
        with (
            closing(_look(path, "mode=ro")) as first,
            closing(_look(path, "immutable=1")) as second,
        ):
            ways = (first, second)
            known = {
                number
                for way in ways
                for asked in (listed, f"{listed} DESC", newest)
                for number in _numbers(way, asked)
            }
            # A listing ends where the damage is; beyond it they are tried.
            highest = max(known, default=0)
            known.update(range(max(1, highest - _TRIED), highest))
            missing: list[int] = []
            for number in sorted(known, reverse=True):
                row = next(
                    (row for way in ways if (row := _row(way, query, number))), None
                )
                if row is None:
                    missing.append(number)
                    continue
                yield from ((gap, None) for gap in missing)
                missing.clear()
                yield number, row
    finally:
        # What reading has put there; the log itself stays with the file.
        path.with_name(path.name + "-shm").unlink(missing_ok=True)
        log = path.with_name(path.name + "-wal")
        if log.exists() and not log.stat().st_size:
            log.unlink()


def whole_pairs(
    path: Path, table: str, one: str, other: str
) -> Iterator[tuple[Any, Any]]:
    """Return the pairs that a damaged file or an index of it has, once each."""
    seen: set[tuple[Any, Any]] = set()
    for how in ("mode=ro", "immutable=1"):
        for order in (one, other):
            with closing(_look(path, how)) as way, suppress(sqlite3.Error, ValueError):
                for pair in way.execute(
                    f"SELECT {one}, {other} FROM {table} ORDER BY {order}"  # noqa: S608
                ):
                    if pair not in seen:
                        seen.add(pair)
                        yield pair


def _row(way: sqlite3.Connection, query: str, number: int) -> tuple[Any, ...] | None:
    try:
        return way.execute(query, (number,)).fetchone()  # type: ignore[no-any-return]
    except (sqlite3.Error, ValueError):
        return None


def _numbers(way: sqlite3.Connection, query: str) -> list[int]:
    """Return whole numbers up to where they cannot be read any more."""
    found: list[int] = []
    with suppress(sqlite3.Error, ValueError):
        for (number,) in way.execute(query):
            if isinstance(number, int):
                found.append(number)
    return found


def _look(path: Path, how: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}",
        uri=True,
        timeout=30.0,
        isolation_level=None,
    )


def _head(path: Path, side: str, size: int) -> bytes:
    try:
        with path.with_name(path.name + side).open("rb") as file:
            return file.read(size)
    except FileNotFoundError:
        return b""


def _index(path: Path) -> tuple[int, bytes]:
    """Return how many pages the index says the log has, and of which salts."""
    head = _head(path, "-shm", 2 * _INDEX_HEAD)
    if len(head) < 2 * _INDEX_HEAD or head[:_INDEX_HEAD] != head[_INDEX_HEAD:]:
        return 0, b""
    (pages,) = struct.unpack_from("=I", head, 16)
    return pages, head[32:40]


def _log_head_whole(head: bytes) -> bool:
    """Check the head's checksum, section 4.2 of the file format."""
    if head[:3] != b"\x37\x7f\x06":
        return False
    words = struct.unpack_from("<6I" if head[3] & 1 == 0 else ">6I", head)
    first = second = 0
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = first + one + second & 0xFFFFFFFF
        second = second + other + first & 0xFFFFFFFF
    return struct.unpack_from(">2I", head, 24) == (first, second)
