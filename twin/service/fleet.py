"""Many plants at once: replayed, or recalibrated, by whatever executor there is.

What is handed to a worker is a function of this module with paths and times, and
what comes back is small; data and results stay in files, which all workers must see
under the same names. Days of a plant rest on the days before and its machines share a
ledger, so a plant is what is replayed at a time, by the very code of ``hptwin
replay``, into a folder with the very same bytes. A recalibration rests on nothing but
its machine's last weeks, so there a machine is.

A worker that dies leaves checkpoints, from which the next one goes on. One that was
only thought dead ends when it sees that another has taken over.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from traceback import format_exception
from typing import TYPE_CHECKING, Any

from calibration.registry import RegistryError
from ingest.archive import ArchiveError, ArchiveUnavailableError
from ingest.files import InputError
from twin.service import executors, history
from twin.service.checkpoint import forget
from twin.service.config import DEFAULT_FILE, Config, ConfigError, load, overrides
from twin.service.replay import NothingToReplayError, period
from twin.service.results import Results, plain, to_json

if TYPE_CHECKING:
    from twin.service.models import Judged

LOOK_S = 0.5
"""How often it is looked how far everybody is. [s]"""
TELL_S = 1.0
"""How often a worker says so. [s]"""
_MWH = 3.6e9
_STANDING, _DONE = "standing.json", "unfinished.json"
# CoolProp's states, and how many threads BLAS takes, are of a whole process.
_ALONE = threading.Lock()


class FleetError(ValueError):
    """The plants as they were named cannot be a fleet."""


class OvertakenError(RuntimeError):
    """Somebody else replays into the same folder now."""


_FORESEEN = (
    ConfigError,
    InputError,
    NothingToReplayError,
    ArchiveError,
    ArchiveUnavailableError,
    OvertakenError,
    RegistryError,
)


class Trouble(StrEnum):
    """Why a plant has no result."""

    CONFIGURATION = "configuration"
    INPUT = "input"
    MODELS = "models"
    UNREACHABLE = "unreachable"
    DIED = "died"
    UNEXPECTED = "unexpected"


@dataclass(frozen=True, slots=True)
class Member:
    """A plant of a fleet: what it is called here, and the file that tells it."""

    name: str
    file: Path


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker is told of a plant to replay; ``seconds`` between checkpoints."""

    member: Member
    files: tuple[Path, ...]
    start: datetime | None
    stop: datetime | None
    zone: str
    out: Path
    seconds: float
    packages: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a plant.

    Attributes
    ----------
    name
        What it is called in the fleet.
    days, findings
        How many were judged, and what was found.
    delivered_j, missed_j, missed_eur
        Sums of the period, NaN where nothing tells them. [J, J, EUR]
    sha256
        Of each file that was written.
    attempts, went_on_from
        How many workers began it, and how many days the last one found done.
    trouble, sentence
        Why there is no result; None and ``""`` otherwise.
    """

    name: str
    days: int = 0
    findings: int = 0
    delivered_j: float = math.nan
    missed_j: float = math.nan
    missed_eur: float = math.nan
    sha256: Mapping[str, str] = field(default_factory=dict)
    attempts: int = 1
    went_on_from: int = 0
    trouble: Trouble | None = None
    sentence: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return what is the same whoever did the work, as plain data."""
        told: dict[str, Any] = plain(asdict(self))
        return {k: v for k, v in told.items() if k not in ("attempts", "went_on_from")}


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a replay is, and who is at it: a file beside its checkpoints."""

    by: str
    host: str
    pid: int
    attempt: int
    done: int
    total: int

    @classmethod
    def of(cls, out: Path) -> Standing | None:
        """Read where a replay into a folder stands, None where none does."""
        with suppress(OSError, ValueError, TypeError):
            return cls(**json.loads((history.unfinished(out) / _STANDING).read_bytes()))
        return None

    def write(self, out: Path) -> None:
        """Put it in the place of the one before."""
        folder = history.unfinished(out)
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f"{_STANDING}.{self.by}"
        beside.write_text(json.dumps(asdict(self)), encoding="utf-8")
        beside.replace(folder / _STANDING)

    def erase(self, out: Path) -> None:
        """Take it away with what is empty without it, unless it is another's by now."""
        there, folder = Standing.of(out), history.unfinished(out)
        if there is not None and there.by == self.by:
            (folder / _STANDING).unlink(missing_ok=True)
            with suppress(OSError):
                folder.rmdir()
                out.rmdir()


Progress = Callable[[int, int, int], None]
"""Called with plants done, plant-days done, and plant-days in all.

Plants that have not begun are counted as long as the others are.
"""


# --- the plants -----------------------------------------------------------------


def members(named: Sequence[Path], environ: Mapping[str, str]) -> tuple[Member, ...]:
    """Return the plants that were named, by files or by their folders.

    A plant is called as its folder, or as its file where that is no ``plant.toml``.

    Raises
    ------
    FleetError
        If two would be called the same, or a variable would hold for all of them.
    """
    for variable in overrides():
        if variable in environ:
            raise FleetError(
                f"{variable} is set and would hold for every plant; unset it: "
                "a fleet's plants are what their files say"
            )
    found: dict[str, Member] = {}
    for path in named:
        file = (path / DEFAULT_FILE if path.is_dir() else path).resolve()
        name = file.parent.name if file.name == DEFAULT_FILE else file.stem
        if name in found:
            raise FleetError(
                f'{found[name].file} and {file} would both be called "{name}"; '
                "rename a folder"
            )
        found[name] = Member(name, file)
    return tuple(found.values())


def data_of(member: Member, pattern: str) -> tuple[Path, ...]:
    """Return the files of a plant, by a pattern from its folder on; none without.

    Raises
    ------
    InputError
        If there are none.
    """
    if not pattern:
        return ()
    folder = member.file.parent
    found = tuple(path for path in sorted(folder.glob(pattern)) if path.is_file())
    if not found:
        raise InputError(
            folder,
            found=f'no file matches "{pattern}"',
            right="its telemetry should be there",
            remedy="correct --data, or leave it out to read the archive",
        )
    return found


# --- replay ---------------------------------------------------------------------


def replay(
    plants: Sequence[Member],
    executor: Executor,
    out: Path,
    *,
    pattern: str = "",
    start: datetime | None = None,
    stop: datetime | None = None,
    zone: str = "UTC",
    afresh: bool = False,
    seconds: float = 10.0,
    progress: Progress = lambda plants, done, total: None,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Outcome]:
    """Replay every plant into a folder of its own.

    What a fleet that was interrupted, or in which some plants had no result, had done
    is not done again, if it was of the same data, configurations and period.

    Parameters
    ----------
    plants : sequence of Member
        See :func:`members`.
    executor : Executor
        Its workers see the same files under the same names.
    out : Path
        Each plant's results are in a folder of its name within.
    pattern : str
        Which files of a plant's folder are its telemetry; ``""`` reads the archives.
    start, stop, zone
        As for :func:`twin.service.history.replayed`.
    afresh : bool
        Begin everything anew.
    seconds : float
        Least time between two checkpoints of a plant. [s]
    progress, tell : callable
        Are told how far it is, and in words who is through or has no result.

    Returns
    -------
    list of Outcome
        In the order of the plants. One that fails keeps no other from its result.
    """
    found: dict[str, Outcome] = {}
    tasks: dict[str, Task] = {}
    works: dict[str, str] = {}
    book = out / _DONE
    before = {} if afresh else _noted(book)
    for member in plants:
        try:
            files = data_of(member, pattern)
            config = load(member.file, {})
            works[member.name] = history.work(config, files, start, stop, zone)
        except Exception as error:  # noqa: BLE001  whatever it is, the others go on
            found[member.name] = _failed(member.name, error)
            continue
        folder = (out / member.name).resolve()
        work, known = before.get(member.name, ("", None))
        if known is not None and work == works[member.name] and _arrived(known, folder):
            found[member.name] = known
            tell(f"{member.name}: was judged before; --afresh judges it again")
            continue
        if afresh:
            forget(history.unfinished(folder))
        here = executors.packages()
        tasks[member.name] = Task(
            member, files, start, stop, zone, folder, seconds, here
        )
    for outcome in found.values():
        if outcome.trouble is not None:
            tell(f"{outcome.name}: {outcome.sentence}")

    def look() -> None:
        stands = [Standing.of(t.out) for n, t in tasks.items() if n not in found]
        ahead = [one for one in stands if one is not None and one.total]
        days = [one.days for one in found.values()]
        totals = [each for each in (*days, *(one.total for one in ahead)) if each]
        waiting = len(stands) - len(ahead)
        mean = sum(totals) / len(totals) if totals else 0.0
        progress(
            len(found),
            sum(days) + sum(one.done for one in ahead),
            sum(totals) + round(waiting * mean),
        )

    calls = {name: (judge, task) for name, task in tasks.items()}
    for name, future in _through(executor, calls, look):
        try:
            outcome = future.result()
            if outcome.trouble is None and not _arrived(outcome, tasks[name].out):
                raise FleetError(
                    f"what a worker wrote is not in {tasks[name].out}; every worker "
                    "must see this folder under the same name"
                )
        except Exception as error:  # noqa: BLE001  as above
            outcome = _failed(name, error)
            if outcome.trouble is Trouble.UNEXPECTED:
                tell("".join(format_exception(error)).rstrip())
        found[name] = outcome
        tell(_sentence(outcome, len(found), len(plants)))
        done = {n: (works[n], o) for n, o in found.items() if n in works}
        _note(book, {**before, **done})
        look()
    if all(outcome.trouble is None for outcome in found.values()):
        book.unlink(missing_ok=True)
    return [found[member.name] for member in plants]


def judge(task: Task) -> Outcome:
    """Replay one plant, on a worker; what can be wrong with it is told, not raised."""
    _alike(task.packages)
    with _ALONE:
        try:
            return _judged(task)
        except _FORESEEN as error:
            return _failed(task.member.name, error)


def _alike(wanted: Mapping[str, str]) -> None:
    """Refuse to work with other versions: a worker may have come late."""
    if other := executors.unlike(executors.packages(), wanted):
        raise FleetError(
            f"{socket.gethostname()}: {other}: the results could differ; install "
            "the same"
        )


def _judged(task: Task) -> Outcome:
    before = Standing.of(task.out)
    stand = Standing(
        by=uuid.uuid4().hex,
        host=socket.gethostname(),
        pid=os.getpid(),
        attempt=1 if before is None else before.attempt + 1,
        done=0 if before is None else before.done,
        total=0 if before is None else before.total,
    )
    stand.write(task.out)
    told, first = time.monotonic(), 0

    def progress(done: int, total: int, day: datetime) -> None:
        nonlocal stand, told, first
        first = first or done
        if time.monotonic() - told < TELL_S and done < total:
            return
        there = Standing.of(task.out)
        if there is not None and there.by != stand.by:
            raise OvertakenError(
                f"{there.host}, process {there.pid}, replays into {task.out} too, and "
                "was the last to begin; leave it to that one"
            )
        stand = replace(stand, done=done, total=total)
        stand.write(task.out)
        told = time.monotonic()

    try:
        results, _ = history.replayed(
            load(task.member.file, {}),
            task.files,
            start=task.start,
            stop=task.stop,
            zone=task.zone,
            progress=progress,
            out=task.out,
            seconds=task.seconds,
        )
    except Exception:
        stand.erase(task.out)
        raise
    return replace(
        _summed(task.member.name, results),
        days=stand.total,
        sha256=digests(task.out),
        attempts=stand.attempt,
        # A replay that begins has done one day when it first tells.
        went_on_from=first if first > 1 else 0,
    )


def _summed(name: str, results: Results) -> Outcome:
    def number(value: Any) -> float:
        return math.nan if value is None else float(value)

    heat = results.summary["heat"]
    delivered = [
        each["sink_heat_j"]
        for each in results.summary["machines"].values()
        if each["sink_heat_j"] is not None
    ]
    return Outcome(
        name=name,
        findings=len(results.findings),
        delivered_j=sum(delivered) if delivered else math.nan,
        missed_j=number(heat["missed_j"]),
        missed_eur=number(heat["missed_eur"]),
    )


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a folder, folders in it left out."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.is_file()
    }


def _arrived(outcome: Outcome, folder: Path) -> bool:
    with suppress(OSError):
        return digests(folder) == outcome.sha256
    return False


def _failed(name: str, error: BaseException) -> Outcome:
    sentence = str(error)
    if isinstance(error, ConfigError):
        trouble, sentence = Trouble.CONFIGURATION, "; ".join(map(str, error.problems))
    elif isinstance(
        error, (InputError, NothingToReplayError, OvertakenError, FleetError)
    ):
        trouble = Trouble.INPUT
    elif isinstance(error, (ArchiveError, ArchiveUnavailableError)):
        trouble = Trouble.UNREACHABLE
    elif isinstance(error, RegistryError):
        trouble = Trouble.MODELS
    elif isinstance(error, CancelledError):
        trouble, sentence = Trouble.DIED, "the cluster's scheduler is gone"
    elif executors.died(error):
        trouble = Trouble.DIED
    else:
        trouble, sentence = Trouble.UNEXPECTED, f"{type(error).__name__}: {error}"
    return Outcome(name=name, trouble=trouble, sentence=sentence)


def _sentence(outcome: Outcome, done: int, total: int) -> str:
    if outcome.trouble is not None:
        told = outcome.sentence
    else:
        told = f"{outcome.days} days, {outcome.findings} findings"
        if outcome.attempts > 1:
            told += (
                f"; begun {outcome.attempts} times, the last time from day "
                f"{outcome.went_on_from + 1}"
            )
    return f"{outcome.name}: {told} ({done} of {total})"


def _noted(book: Path) -> dict[str, tuple[str, Outcome]]:
    """Return what an unfinished fleet had done, each with what names its work."""
    found: dict[str, tuple[str, Outcome]] = {}
    with suppress(OSError, ValueError, TypeError, KeyError):
        for name, one in json.loads(book.read_bytes()).items():
            kept: dict[str, Any] = {
                key: math.nan if value is None else value
                for key, value in one["of"].items()
            }
            found[name] = (one["work"], Outcome(**kept))
    return found


_UNTROUBLED = ("trouble", "sentence")


def _note(book: Path, done: Mapping[str, tuple[str, Outcome]]) -> None:
    text = to_json(
        {
            name: {
                "work": work,
                "of": {k: v for k, v in asdict(one).items() if k not in _UNTROUBLED},
            }
            for name, (work, one) in done.items()
            if one.trouble is None
        }
    )
    book.parent.mkdir(parents=True, exist_ok=True)
    beside = book.with_name(book.name + ".part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(book)


def _through(
    executor: Executor,
    calls: Mapping[str, tuple[Any, ...]],
    look: Callable[[], None],
) -> Iterator[tuple[str, Future[Any]]]:
    """Hand in every call, and yield each with its future as it comes to an end."""
    begun = {executor.submit(*call): name for name, call in calls.items()}
    while begun:
        done, _ = wait(begun, timeout=LOOK_S, return_when=FIRST_COMPLETED)
        for future in done:
            yield begun.pop(future), future
        look()


def rows(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """Return a line of cells for each plant: days, MWh, MWh, EUR, findings."""

    def cell(value: float, of: float, unit: str, digits: int = 1) -> str:
        return "" if math.isnan(value) else f"{value / of:,.{digits}f} {unit}"

    return [
        (one.name, f"not judged: {one.trouble}", "", "", "", "")
        if one.trouble is not None
        else (
            one.name,
            f"{one.days}",
            cell(one.delivered_j, _MWH, "MWh"),
            cell(one.missed_j, _MWH, "MWh"),
            cell(one.missed_eur, 1.0, "EUR", 0),
            f"{one.findings}",
        )
        for one in outcomes
    ]


# --- recalibration --------------------------------------------------------------


def recalibrate(
    plants: Sequence[Member],
    executor: Executor,
    *,
    dry_run: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[dict[str, Any]], list[Outcome]]:
    """Recalibrate every machine of every plant from its archive's last weeks.

    Workers only read; what they judged is kept here, so one that dies leaves nothing
    behind, and what is done twice is kept once.

    Parameters
    ----------
    plants : sequence of Member
        See :func:`members`.
    executor : Executor
        Its workers see the same archives and state directories.
    dry_run : bool
        Judge only; nothing is written.
    progress : callable
        Is told how many machines are judged, and of how many.

    Returns
    -------
    list of dict, list of Outcome
        By plant and machine what :func:`twin.service.models.recalibrated` tells, with
        ``plant``; and what had no result, called ``plant/machine`` or as the plant.
    """
    from twin.service.models import keep

    configs: dict[str, Config] = {}
    calls: dict[str, tuple[Any, ...]] = {}
    failed: dict[str, Outcome] = {}
    for member in plants:
        try:
            configs[member.name] = load(member.file, {})
        except ConfigError as error:
            failed[member.name] = _failed(member.name, error)
            continue
        for machine in configs[member.name].plant.machines:
            name = f"{member.name}/{machine.id}"
            calls[name] = (candidate, member, machine.id, executors.packages())
    found: dict[str, dict[str, Any]] = {}
    for name, future in _through(executor, calls, lambda: None):
        plant = name.partition("/")[0]
        try:
            one = future.result()
            if isinstance(one, Outcome):
                failed[name] = one
                continue
            if not dry_run:
                keep(configs[plant], one)
            found[name] = {"plant": plant, **one.found}
        except Exception as error:  # noqa: BLE001  whatever it is, the others go on
            failed[name] = _failed(name, error)
        progress(len(found) + len(failed), len(calls))
    return [found[name] for name in calls if name in found], list(failed.values())


def candidate(
    member: Member, unit: str, packages: Mapping[str, str]
) -> Judged | Outcome:
    """Judge a candidate of one machine, on a worker; nothing is written."""
    from twin.service.config import open_configured
    from twin.service.models import judged

    _alike(packages)
    with _ALONE:
        try:
            config = load(member.file, {})
            (machine,) = (one for one in config.plant.machines if one.id == unit)
            with closing(open_configured(config.archive, read_only=True)) as archive:
                span = period(config.plant, archive)
                last = None if span is None else span[1]
                return judged(config, archive, machine, last)
        except _FORESEEN as error:
            return _failed(f"{member.name}/{unit}", error)
