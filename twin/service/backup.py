"""A copy of everything the service knows, made while it runs, and its return.

The order makes the copies one: **the journal first, the archive after it, in
the archive its tail before its files**. What the journal's copy calls archived
was in the archive before, so it is in the archive's later copy; what it calls
waiting is archived by whoever starts from it, and written twice is written
once. The other way round, what moves from the journal's waiting part into the
archive between the two copies would be in neither. For the same reason state
goes before the models it speaks of, and which model is active before the
models.

State in a PostgreSQL is copied row by row, as of one moment, into the file that
it would otherwise be: one form of backup, which either kind goes on from.

The cut-off is the journal's copy: every message that it had received is in
the backup. Sealed files never change, so on the same filesystem they are
linked and take no room.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import sqlite3
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from twin import __version__
from twin.service.config import Config
from twin.service.results import instant
from twin.service.state import FILE, State, StateError

FORMAT = 1
MANIFEST = "manifest.json"
REMOVED = "removed-from-this-copy"
_SECRET = frozenset({"urls", "password", "token", "secret"})
_LOGIN = re.compile(r"://[^/@\s\"']+@")


class BackupError(RuntimeError):
    """No backup was made, or this one cannot be put back; nothing is changed."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup on disk, as its manifest describes it."""

    directory: Path
    made: str
    version: str
    archive: str
    counts: Mapping[str, int]
    files: Mapping[str, Mapping[str, Any]]

    @property
    def bytes(self) -> int:
        """Size of all its files in bytes."""
        return sum(int(entry["bytes"]) for entry in self.files.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest."""
        return {
            "format": FORMAT,
            "made": self.made,
            "version": self.version,
            "archive": self.archive,
            "counts": dict(self.counts),
            "files": {name: dict(entry) for name, entry in self.files.items()},
        }


def backup(config: Config, directory: Path, now: datetime) -> Backup:
    """Copy all that a running service keeps into a new directory.

    Parameters
    ----------
    config : Config
        Whose data it is. An InfluxDB is not copied: back it up by its own
        means, after this.
    directory : Path
        Made here; it appears whole, or not at all.
    now : datetime
        The present, for the manifest.

    Raises
    ------
    BackupError
        If the directory is there already, or something cannot be read or
        written.
    """
    directory = directory.absolute()
    if directory.exists() and any(directory.iterdir()):
        raise BackupError(
            f"{directory}: there is something in it; name a new directory, such as "
            f"{directory / now.strftime('%Y-%m-%d')}"
        )
    partial = directory.with_name(f".{directory.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        counts = _copy_all(config, partial)
        made = Backup(
            directory,
            instant(now),
            __version__,
            config.archive.kind,
            counts,
            dict(_entries(partial)),
        )
        (partial / MANIFEST).write_text(
            json.dumps(made.to_dict(), indent=1, sort_keys=True) + "\n", "utf-8"
        )
        _sync(partial)
        if directory.exists():
            directory.rmdir()
        partial.rename(directory)
        _sync_folder(directory.parent)
    except (OSError, sqlite3.Error, StateError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise BackupError(f"{directory}: no backup was made: {error}") from error
    return made


def verify(directory: Path) -> Backup:
    """Return a backup whose files are all as its manifest has them.

    Raises
    ------
    BackupError
        Naming the files that are missing, changed or not in the manifest.
    """
    try:
        document = json.loads((directory / MANIFEST).read_text("utf-8"))
        if document["format"] != FORMAT:
            raise BackupError(
                f"{directory}: backup format {document['format']}; this version of "
                f"hptwin reads {FORMAT}. Use {document.get('version')}."
            )
        found = Backup(
            directory,
            document["made"],
            document["version"],
            document["archive"],
            document["counts"],
            document["files"],
        )
        there = dict(_entries(directory))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackupError(
            f"{directory}: no whole backup: {MANIFEST}: {error}"
        ) from error
    there.pop(MANIFEST, None)
    wrong = [f"{name} is missing" for name in found.files.keys() - there.keys()]
    wrong += [f"{name} is not its" for name in there.keys() - found.files.keys()]
    wrong += [
        f"{name} is damaged"
        for name, entry in found.files.items()
        if name in there and there[name] != entry
    ]
    if wrong:
        raise BackupError(
            f"{directory}: not as it was made: {', '.join(sorted(wrong)[:5])}"
            f"{f' and {len(wrong) - 5} more' if len(wrong) > 5 else ''}; use another"
        )
    return found


def restore(
    config: Config, directory: Path, now: datetime, *, replace: bool = False
) -> tuple[Backup, list[Path]]:
    """Put a backup where a configuration says, for a service to go on from.

    Parameters
    ----------
    config : Config
        Where to; not the configuration in the backup.
    directory : Path
        The backup; it is verified first and stays as it is.
    now : datetime
        The present, for the names of what is moved aside.
    replace : bool
        Move what is there aside. Otherwise nothing may be there.

    Returns
    -------
    tuple of Backup and list of Path
        What was restored, and where what was there is now.

    Raises
    ------
    BackupError
        If it is damaged, something is there, or a service runs.
    """
    found = verify(directory)
    if found.archive != config.archive.kind:
        raise BackupError(
            f"{directory}: is of an archive of kind {found.archive}, and this "
            f"configuration has {config.archive.kind}"
        )
    server = bool(config.state.url) and f"state/{FILE}" in found.files
    if server:
        _must_be_empty(config)
    state = config.state_dir.absolute()
    places = {state: [("state", Path())]}
    if config.archive.kind == "parquet":
        archive = config.archive.path.absolute()
        _nobody_writes(archive)
        if archive.is_relative_to(state):
            places[state].append(("archive", archive.relative_to(state)))
        else:
            places[archive] = [("archive", Path())]
    occupied = [place for place in places if place.exists() and any(place.iterdir())]
    if occupied and not replace:
        raise BackupError(
            f"{', '.join(map(str, occupied))}: not empty; --replace moves it aside"
        )
    aside: list[Path] = []
    try:
        ready = {
            place: _beside(place, parts, directory) for place, parts in places.items()
        }
        for place, staged in ready.items():
            if place in occupied:
                moved = place.with_name(
                    f"{place.name}.before-{now.strftime('%Y%m%dT%H%M%SZ')}"
                )
                place.rename(moved)
                aside.append(moved)
            elif place.exists():
                place.rmdir()
            staged.rename(place)
            _sync_folder(place.parent)
        if server:
            _fill_server(config, state / FILE)
    except (OSError, StateError) as error:
        raise BackupError(
            f"{directory}: not restored: {error}; what was there is in "
            f"{', '.join(map(str, aside)) or 'its place'}"
        ) from error
    return found, aside


def _copy_all(config: Config, target: Path) -> dict[str, int]:
    """Copy everything, in the order that the head of this file explains."""
    state, files = config.state_dir, target / "state"
    files.mkdir()
    counts: dict[str, int] = {}
    if (state / "journal.sqlite").exists():
        _copy_database(state / "journal.sqlite", files / "journal.sqlite")
        counts = _counts(files / "journal.sqlite")
    if config.state.url:
        _copy_server(config, files / FILE)
    elif (state / FILE).exists():
        _copy_database(state / FILE, files / FILE)
    for name in ("models", "results"):
        _copy_files(state / name, files / name, "**/*", _copy)
    if config.archive.kind == "parquet":
        archive, kept = config.archive.path, target / "archive"
        kept.mkdir()
        if (archive / "tail.sqlite").exists():
            _copy_database(archive / "tail.sqlite", kept / "tail.sqlite")
        _copy_files(archive, kept, "unit=*/*.parquet", _link)
    (target / "config").mkdir()
    (target / "config" / config.file.name).write_text(
        without_secrets(config.file.read_text("utf-8")), "utf-8"
    )
    return counts


def _copy_database(source: Path, target: Path) -> None:
    """Copy an SQLite database at one moment, its writer undisturbed."""
    with (
        closing(
            sqlite3.connect(
                f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=30.0
            )
        ) as reader,
        closing(sqlite3.connect(target)) as writer,
    ):
        # In one step: in smaller ones each commit would begin it again.
        reader.backup(writer, pages=-1)
        # As one file: a log beside it would be made by the first who looks.
        writer.execute("PRAGMA journal_mode=DELETE")


def _copy_server(config: Config, target: Path) -> None:
    """Copy the rows of a PostgreSQL into an SQLite database."""
    beside = target.with_name(f".{target.name}")
    with closing(State.configured(config)) as state:
        state.copy(beside)
    _copy_database(beside, target)
    for path in target.parent.glob(f"{beside.name}*"):
        path.unlink()


def _must_be_empty(config: Config) -> None:
    try:
        with closing(State.configured(config)) as state:
            state.must_be_empty()
    except StateError as error:
        raise BackupError(str(error)) from error


def _fill_server(config: Config, source: Path) -> None:
    """Move the rows of an SQLite database into an empty PostgreSQL."""
    with closing(State.configured(config)) as state:
        state.fill(source)
    for path in source.parent.glob(f"{source.name}*"):
        path.unlink()


def _counts(journal: Path) -> dict[str, int]:
    """Return where the messages of a copied journal are."""
    with closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True)) as reader:
        (position,) = reader.execute(
            "SELECT COALESCE(MIN(position), 0) FROM cursor"
        ).fetchone()
        (received,) = reader.execute("SELECT messages FROM received").fetchone()
        (waiting,) = reader.execute(
            "SELECT COALESCE(SUM(messages), 0) FROM batch WHERE id > ?", (position,)
        ).fetchone()
    return {"received": received, "waiting": waiting, "position": position}


def _copy_files(
    source: Path, target: Path, pattern: str, copy: Callable[[Path, Path], None]
) -> None:
    """Copy files that may come and go meanwhile, until none has."""
    while True:
        listed = sorted(path for path in source.glob(pattern) if path.is_file())
        wanted = {
            path: target / path.relative_to(source)
            for path in listed
            if path.suffix not in (".tmp", ".partial")
        }
        for path in [p for p in target.rglob("*") if p.is_file()]:
            if path not in wanted.values() and path.match(pattern):
                path.unlink()
        new = {path: place for path, place in wanted.items() if not place.exists()}
        if not new:
            return
        for path, place in new.items():
            place.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # it has become part of another
                copy(path, place)


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another filesystem, or one without links
        shutil.copyfile(source, target)


def without_secrets(text: str) -> str:
    """Return a plant.toml without what only its owner may know.

    Passwords and tokens are in files or the environment in any case; what a
    configuration can hold are the addresses of those who are told, which have
    passwords in them, and the login in an address.
    """
    text = _LOGIN.sub(f"://{REMOVED}@", text)
    for secret in sorted(_secrets(tomllib.loads(text)), key=len, reverse=True):
        text = text.replace(secret, REMOVED)
    return text


def _secrets(document: Any, key: str = "") -> Iterator[str]:
    if isinstance(document, dict):
        for name, value in document.items():
            yield from _secrets(value, name)
    elif isinstance(document, list):
        for value in document:
            yield from _secrets(value, key)
    elif isinstance(document, str) and document and key in _SECRET:
        yield document


def _entries(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            name = path.relative_to(folder).as_posix()
            yield name, {"sha256": digest, "bytes": path.stat().st_size}


def _beside(place: Path, parts: list[tuple[str, Path]], backup: Path) -> Path:
    """Copy parts of a backup beside where they belong, all of it synced."""
    staged = place.with_name(f".{place.name}.restoring")
    shutil.rmtree(staged, ignore_errors=True)
    for name, inside in parts:
        (staged / inside).mkdir(parents=True, exist_ok=True)
        if (backup / name).exists():
            shutil.copytree(backup / name, staged / inside, dirs_exist_ok=True)
    _sync(staged)
    return staged


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    number = os.open(path, os.O_RDONLY)
    try:
        yield number
    finally:
        os.close(number)


def _sync(folder: Path) -> None:
    """Sync a folder and everything in it."""
    inside: Iterable[Path] = folder.rglob("*")
    for path in (folder, *inside):
        with _opened(path) as number:
            os.fsync(number)


def _sync_folder(folder: Path) -> None:
    with _opened(folder) as number:
        os.fsync(number)


def _nobody_writes(archive: Path) -> None:
    claim = archive / "writer.lock"
    if not claim.exists():
        return
    with _opened(claim) as number:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError(
                f"archive {archive}: a service writes to it; stop the service first"
            ) from None
