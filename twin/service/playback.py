"""Replays that somebody asks for while the service runs: one, in a process of its own.

It is the replay of the command line, on the service's own archive, at the lowest
priority, with a registry of its own: what runs beside the plant does not meet it. It
ends with the service, or when it is told to, and leaves its checkpoints; asked for
again, it goes on.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
from dataclasses import dataclass, replace
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin.service.replay import Progress
from twin.service.results import parse_instant, plain
from twin.service.state import AuditEntry

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from twin.service.config import Config
    from twin.service.state import State

_SPAWN = get_context("spawn")
_NICE = 19
_NAME = re.compile(r"\w[\w .,+-]{0,79}")
_ASKED = "asked.json"
_ENDS_S = 10.0


class PlaybackError(ValueError):
    """What was asked for cannot be done; the sentence says what can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A replay that somebody wants.

    Attributes
    ----------
    name
        What it is called, on the page and as a folder.
    start, stop
        The period; None reaches as far as the archive does. UTC.
    suppose
        As of :func:`twin.service.suppose.parse`; empty supposes nothing.
    """

    name: str
    start: datetime | None = None
    stop: datetime | None = None
    suppose: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How a replay is going, or how the last one went.

    Attributes
    ----------
    asked, who, begun
        What is replayed, for whom, since when. UTC.
    part
        What is replayed now, where one is recorded and another supposed.
    done, total, day
        Days judged, days in all (0 is not known yet), and the last of them. UTC.
    running
        Whether it still is.
    problem
        Why it has ended before it was through; empty while it has not.
    """

    asked: Asked
    who: str
    begun: datetime
    part: str = ""
    done: int = 0
    total: int = 0
    day: datetime | None = None
    running: bool = True
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A replay in the folder.

    Attributes
    ----------
    name
        Its folder, below the one where replays are kept.
    asked
        What it is of, None where it came by the command line.
    until
        The end of what it has judged, None while it is unfinished. UTC.
    findings
        How many.
    """

    name: str
    asked: Asked | None
    until: datetime | None
    findings: int = 0


class Playback:
    """Who replays for the page, and what has been replayed.

    Parameters
    ----------
    config : Config
        The plant and its archive, as the service has them.
    folder : Path
        Where replays are kept.
    state : State, optional
        Whose audit is told who asked for what.
    """

    def __init__(
        self, config: Config, folder: Path, state: State | None = None
    ) -> None:
        self.folder = folder
        self._config, self._state = config, state
        self._lock = threading.Lock()
        self._course: Course | None = None
        self._process: BaseProcess | None = None
        self._listener: threading.Thread | None = None

    @property
    def course(self) -> Course | None:
        """How it is going, or went; None before the first."""
        return self._course

    def begin(self, asked: Asked, who: str, now: datetime) -> None:
        """Begin a replay, or go on with the same one that was interrupted.

        Raises
        ------
        PlaybackError
            If one is running, the name is taken or cannot be one, or the period
            ends before it begins.
        """
        if not _NAME.fullmatch(asked.name):
            raise PlaybackError(
                f'"{asked.name}" cannot be the name of a replay; take letters, digits,'
                " blanks and . , + - _, 80 at most, a letter or a digit first"
            )
        if asked.start and asked.stop and asked.stop <= asked.start:
            raise PlaybackError("the period ends before it begins")
        out = self.folder / asked.name
        with self._lock:
            if self._course is not None and self._course.running:
                raise PlaybackError(
                    f'"{self._course.asked.name}" is being replayed; wait for it or'
                    " stop it"
                )
            if (out / "summary.json").exists():
                raise PlaybackError(
                    f'there is a replay called "{asked.name}"; take another name, or'
                    " remove it first"
                )
            out.mkdir(parents=True, exist_ok=True)
            (out / _ASKED).write_text(json.dumps(_written(asked)), "utf-8")
            near, far = _SPAWN.Pipe(duplex=False)
            process = _SPAWN.Process(
                target=_work, args=(self._config, asked, out, far), daemon=True
            )
            process.start()
            # Only its own end is left open, so that its end is heard.
            far.close()
            self._course = Course(asked=asked, who=who, begun=now)
            self._process = process
            self._listener = threading.Thread(
                target=self._listen, args=(near, process), name="playback"
            )
            self._listener.start()
        self._audit(now, who, "replay_begun", asked.name, _words(asked))

    def stop(self, who: str, now: datetime) -> None:
        """End the one that runs; its checkpoints stay.

        Raises
        ------
        PlaybackError
            If none is running.
        """
        course = self._end("it was stopped; asked for again, it goes on")
        if course is None:
            raise PlaybackError("no replay is running")
        self._audit(now, who, "replay_stopped", course.asked.name, "")

    def remove(self, name: str, who: str, now: datetime) -> None:
        """Delete a replay that is kept, or was begun.

        Raises
        ------
        PlaybackError
            If there is none of that name, or it is running.
        """
        with self._lock:
            course = self._course
            if course is not None and course.running and course.asked.name == name:
                raise PlaybackError(f'"{name}" is being replayed; stop it first')
            if name not in {one.name for one in self.kept()}:
                raise PlaybackError(f'no replay is called "{name}"')
            shutil.rmtree(self.folder / name)
        self._audit(now, who, "replay_removed", name, "")

    def kept(self) -> list[Kept]:
        """Return every replay in the folder, the newest first."""
        if not self.folder.is_dir():
            return []
        found = []
        for folder in self.folder.iterdir():
            done = folder / "summary.json"
            mark = done if done.exists() else folder / _ASKED
            if mark.exists():
                found.append((mark.stat().st_mtime, folder))
        return [_kept(folder) for _, folder in sorted(found, reverse=True)]

    def close(self) -> None:
        """End what runs."""
        self._end("the service ended; asked for again, it goes on")

    def _end(self, why: str) -> Course | None:
        with self._lock:
            course, process, listener = self._course, self._process, self._listener
            if course is None or not course.running:
                return None
            assert process is not None and listener is not None  # noqa: S101, PT018
            self._course = replace(course, problem=why)
            process.terminate()
            process.join(_ENDS_S)
            process.kill()
        listener.join(_ENDS_S)
        return course

    def _listen(self, line: Connection, process: BaseProcess) -> None:
        problem: str | None = None
        while True:
            try:
                told: dict[str, Any] = line.recv()
            except (EOFError, OSError):
                break
            problem = told.pop("ended", problem)
            if told and self._course is not None:
                self._course = replace(self._course, **told)
        line.close()
        process.join()
        if problem is None:
            problem = (
                f"its process ended with {process.exitcode}, for want of memory"
                " perhaps; asked for again, it goes on"
            )
        course = self._course
        assert course is not None  # noqa: S101  it was there before this began
        # Why somebody ended it is known better than by how its process did.
        self._course = replace(course, running=False, problem=course.problem or problem)

    def _audit(
        self, now: datetime, who: str, action: str, name: str, said: str
    ) -> None:
        if self._state is not None:
            entry = AuditEntry(
                time=now,
                actor=who,
                action=action,
                subject=f"replay/{name}",
                detail={"sentence": said} if said else {},
            )
            self._state.save(audit=[entry])


def _work(config: Config, asked: Asked, out: Path, line: Connection) -> None:
    """Replay, and tell how far it is; the process' whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal tells the service too
    os.nice(_NICE)
    from ingest.archive import ArchiveError, ArchiveUnavailableError
    from twin.service import history, suppose
    from twin.service.replay import NothingToReplayError

    def telling(part: str = "") -> Progress:
        def tell(done: int, total: int, day: datetime) -> None:
            line.send({"part": part, "done": done, "total": total, "day": day})

        return tell

    problem = ""
    start, stop = asked.start, asked.stop
    try:
        if asked.suppose:
            what = suppose.parse(asked.suppose)
            history.supposed(
                config, (), what, start=start, stop=stop, progress=telling, out=out
            )
        else:
            history.replayed(
                config, (), start=start, stop=stop, progress=telling(), out=out
            )
    except BrokenPipeError:
        return  # nobody is there any more; the checkpoints are
    except (
        ArchiveError,
        ArchiveUnavailableError,
        NothingToReplayError,
        suppose.SupposeError,
        OSError,
    ) as error:
        problem = str(error)
    line.send({"ended": problem})


def _written(asked: Asked) -> Any:
    return plain(
        {
            "name": asked.name,
            "from": asked.start,
            "to": asked.stop,
            "suppose": asked.suppose,
        }
    )


def _kept(folder: Path) -> Kept:
    asked = until = None
    findings = 0
    try:
        told = json.loads((folder / _ASKED).read_text("utf-8"))
        asked = Asked(
            name=folder.name,
            start=_instant(told["from"]),
            stop=_instant(told["to"]),
            suppose=str(told["suppose"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        asked = None  # it came by the command line
    try:
        summary = json.loads((folder / "summary.json").read_text("utf-8"))
        until = parse_instant(str(summary["generated"]))
        findings = len(json.loads((folder / "findings.json").read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        until = None  # it is unfinished
    return Kept(name=folder.name, asked=asked, until=until, findings=findings)


def _instant(text: str | None) -> datetime | None:
    return None if text is None else parse_instant(text)


def _words(asked: Asked) -> str:
    start = "the beginning" if asked.start is None else f"{asked.start:%Y-%m-%d}"
    stop = "the end" if asked.stop is None else f"{asked.stop:%Y-%m-%d}"
    text = f"from {start} to {stop}"
    return f"{text}, as if {asked.suppose}" if asked.suppose else text
