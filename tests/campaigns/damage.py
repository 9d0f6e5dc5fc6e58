"""A file of the service is damaged while it is off: found, kept, and said.

A byte flips, a file loses its end, a page becomes zero; in the journal, the
archive's tail, their logs, or a sealed day. Then the service starts, works
off what is there, takes new messages, and every value is compared with what
was sent: one may be missing, if that is said, and none may be wrong. The
control believes the journal's batches without their checksums.
"""

from __future__ import annotations

import atexit
import functools
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ingester

import ingest.journal
from ingest.archive import ArchiveError, ArchiveUnavailableError, open_archive
from ingest.intake import Intake
from ingest.journal import Journal, JournalError, Message

from . import rig

UNITS = 2
# Archived and closed; archived; journaled and closed; journaled.
_PARTS = (3000, 300, 300, 200)
_NEW = 100
_PAGE = 4096
_DAY_MS = 86_400_000


def run(folder: Path, *, seed: int = 1, quick: bool = False) -> rig.Outcome:
    """Damage 200 copies of a service's files (30 if quick)."""
    outcome = rig.Outcome("damage", seed)
    pattern = _pattern()
    baseline = _start(_copy(pattern, folder / "untouched"))
    outcome.promise(
        f"untouched files lose nothing: {baseline}",
        kept=baseline.well and not baseline.missing,
    )
    found: dict[str, int] = {}
    for number in range(30 if quick else 200):
        rng = random.Random(seed * 100_000 + number)  # noqa: S311  not for secrets
        files = _copy(pattern, folder / "damaged")
        target = _targets(files)[number % len(_targets(files))]
        kind = rng.choice(list(_KINDS))
        _KINDS[kind](target, rng)
        outcome.faults += 1
        after = _start(files)
        outcome.checked += sum(_PARTS) + _NEW
        outcome.lost += after.missing
        what = f"seed {seed}, {number}: {kind} of {target.relative_to(files)}"
        outcome.promise(f"{what}: {after}", kept=after.well)
        verdict = f"{target.name.replace('.sqlite', '')}: {after.verdict}"
        found[verdict] = found.get(verdict, 0) + 1
        shutil.rmtree(files)
    outcome.figures |= dict(sorted(found.items()))
    return outcome


def control(folder: Path, *, seed: int = 1, quick: bool = False) -> rig.Outcome:
    """Flip digits in messages that wait, and believe them: values are wrong."""
    outcome = rig.Outcome("damage", seed)
    pattern = _pattern()
    with _believing():
        for number in range(3 if quick else 10):
            rng = random.Random(seed * 100_000 + number)  # noqa: S311
            files = _copy(pattern, folder / "damaged")
            _flip_digit(files / "journal.sqlite", rng)
            outcome.faults += 1
            after = _start(files)
            outcome.checked += sum(_PARTS) + _NEW
            # Lost is here what was replaced by something nobody has sent.
            outcome.lost += after.wrong
            shutil.rmtree(files)
    return outcome


def digits(folder: Path, *, seed: int = 1) -> rig.Outcome:
    """Make the same flips, and look: the batches are missing, and named."""
    outcome = rig.Outcome("damage", seed)
    pattern = _pattern()
    for number in range(3):
        rng = random.Random(seed * 100_000 + number)  # noqa: S311
        files = _copy(pattern, folder / "damaged")
        _flip_digit(files / "journal.sqlite", rng)
        outcome.faults += 1
        after = _start(files)
        outcome.checked += sum(_PARTS) + _NEW
        outcome.promise(f"{number}: {after}", kept=after.well and after.missing)
        shutil.rmtree(files)
    return outcome


@dataclass(frozen=True)
class After:
    """How a service came up over its files."""

    missing: int
    wrong: int
    new_missing: int
    balanced: bool
    said: bool
    trouble: str

    @property
    def well(self) -> bool:
        """Whether it runs, says nothing wrong, and hides nothing."""
        silent = self.missing and not self.said
        ill = self.trouble or self.wrong or self.new_missing or silent
        return self.balanced and not ill

    @property
    def verdict(self) -> str:
        """One word for the statistics."""
        if not self.well:
            return "BROKEN"
        if self.missing:
            return "lost some, and said so"
        return "found, nothing lost" if self.said else "harmless"


class _Said(logging.Handler):
    """What was logged as a person would have to see it."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.sentences: list[str] = []
        self.tracebacks: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.sentences.append(record.getMessage())
        if record.exc_info:
            self.tracebacks.append(f"{record.getMessage()}: {record.exc_info[1]!r}")


def _messages(first: int, number: int) -> list[Message]:
    return [
        Message(topic, body.encode(), rig.when_ms(i, UNITS) + 1000)
        for i in range(first, first + number)
        for topic, body in [rig.message(i, UNITS)]
    ]


def _append(journal: Journal, first: int, number: int) -> int:
    for start in range(first, first + number, 50):
        journal.append(_messages(start, min(50, first + number - start)))
    return first + number


def make(folder: Path) -> None:
    """Write the files of a service that is at work, and end without closing."""
    folder.mkdir()
    at = 0
    for part, closing in zip(_PARTS[:2], (True, False), strict=True):
        archive = open_archive("parquet", directory=folder / "archive")
        journal = Journal(folder / "journal.sqlite")
        at = _append(journal, at, part)
        intake = Intake(ingester.sources(UNITS), archive, journal)
        intake.start()
        assert intake.drain(60)
        intake.stop()
        journal.close()
        if closing:
            archive.close()
    for part in _PARTS[2:]:
        journal.close()
        journal = Journal(folder / "journal.sqlite")
        at = _append(journal, at, part)
    os._exit(0)


@functools.cache
def _pattern() -> Path:
    """Return a service's files, made once and copied for each damage."""
    folder = tempfile.TemporaryDirectory(prefix="pattern-")
    atexit.register(folder.cleanup)
    files = Path(folder.name) / "files"
    code = "import sys, pathlib; from campaigns import damage; "
    code += "damage.make(pathlib.Path(sys.argv[1]))"
    path = f"{rig.ROOT}:{rig.ROOT / 'tests'}"
    subprocess.run(
        [sys.executable, "-c", code, str(files)],
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    return files


def _copy(pattern: Path, folder: Path) -> Path:
    shutil.copytree(pattern, folder)
    return folder


def _targets(files: Path) -> list[Path]:
    sealed = sorted(files.glob("archive/unit=*/*.parquet"))
    return [
        files / "journal.sqlite",
        files / "journal.sqlite-wal",
        files / "archive" / "tail.sqlite",
        files / "archive" / "tail.sqlite-wal",
        sealed[len(sealed) // 2],
    ]


def _flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    # Every fourth in the head, which is small and matters most.
    at = rng.randrange(min(100, len(content)) if rng.random() < 0.25 else len(content))
    content[at] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def _truncate(path: Path, rng: random.Random) -> None:
    os.truncate(path, rng.randrange(path.stat().st_size))


def _zero(path: Path, rng: random.Random) -> None:
    size = path.stat().st_size
    at = rng.randrange((size + _PAGE - 1) // _PAGE) * _PAGE
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes(min(_PAGE, size - at)))


_KINDS: dict[str, Callable[[Path, random.Random], None]] = {
    "flip": _flip,
    "truncation": _truncate,
    "zero page": _zero,
}


def _flip_digit(path: Path, rng: random.Random) -> None:
    """Change the value in a message that waits, in the file itself."""
    first = sum(_PARTS[:2]) + 50
    content = path.read_bytes()
    number = rng.randrange(first, sum(_PARTS[:3]) - 50)
    _, body = rig.message(number, UNITS)
    # A page's end may part a message; another one then.
    while (at := content.find(body.encode())) < 0:
        number += 1
        _, body = rig.message(number, UNITS)
    place = at + body.index('"v": ') + 6
    changed = bytearray(content)
    changed[place] = ord("7") if changed[place] != ord("7") else ord("3")
    path.write_bytes(changed)


@contextmanager
def _believing() -> Iterator[None]:
    real = ingest.journal._whole
    ingest.journal._whole = lambda *_: True
    try:
        yield
    finally:
        ingest.journal._whole = real


def _start(files: Path) -> After:
    """Start the service over files, let it work, and see what it has."""
    listener = _Said()
    logger = logging.getLogger("ingest")
    logger.addHandler(listener)
    logger.propagate = False
    total = sum(_PARTS)
    balanced, trouble, problem, reasons = False, "", "", {}
    missing = wrong = new_missing = 0
    try:
        archive = open_archive("parquet", directory=files / "archive")
        journal = Journal(files / "journal.sqlite")
        intake = Intake(ingester.sources(UNITS), archive, journal)
        try:
            intake.start()
            _append(journal, total, _NEW)
            drained = intake.drain(20)
            problem = intake.health(rig.T0).problem
            intake.stop()
            counts = intake.counts()
            balanced, reasons = counts.balanced, dict(counts.reasons)
            if not drained:
                trouble = f"it does not work off its journal: {problem}"
            missing, wrong, new_missing = _compare(archive, total, listener)
        finally:
            intake.stop()
            journal.close()
            archive.close()
    except (ArchiveError, ArchiveUnavailableError, JournalError) as error:
        trouble = f"it does not start: {error}"
    except Exception as error:  # noqa: BLE001  the very thing that is looked for
        trouble = f"{type(error).__name__}: {error}"
    finally:
        logger.removeHandler(listener)
        logger.propagate = True
    if listener.tracebacks and not trouble:
        trouble = f"a traceback: {listener.tracebacks[0]}"
    text = "\n".join([*listener.sentences, problem, *reasons])
    said = any(
        name in text for name in ("journal.sqlite", "tail.sqlite", ".parquet")
    ) and ("damaged" in text)
    return After(missing, wrong, new_missing, balanced, said, trouble)


def _compare(archive: object, total: int, said: _Said) -> tuple[int, int, int]:
    """Return what is missing, what is wrong, and what is missing of the new.

    Read day by day: a day that says it is damaged is missing as a whole.
    """
    missing = wrong = new_missing = 0
    for unit in range(UNITS):
        found: dict[int, float] = {}
        first, last = rig.T0 // _DAY_MS, rig.when_ms(total + _NEW, UNITS) // _DAY_MS
        for day in range(first, last + 1):
            start, stop = (rig.moment((day + k) * _DAY_MS) for k in (0, 1))
            try:
                values, _ = archive.flagged(f"hp{unit}", start, stop)  # type: ignore[attr-defined]
            except ArchiveError as error:
                said.sentences.append(str(error))
                continue
            found |= rig.column(values)
            wrong += values.shape[1] > 1
        for number in range(unit, total + _NEW, UNITS):
            stored = found.pop(rig.when_ms(number, UNITS), None)
            if stored is None:
                missing += number < total
                new_missing += number >= total
            else:
                wrong += stored != rig.value(number)
        wrong += len(found)
    return missing, wrong, new_missing


if __name__ == "__main__":
    rig.command("damage", run, control)
