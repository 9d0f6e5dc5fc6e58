"""What of the past a command reads: files or the archive, from when, to when."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from twin.service.cli.exits import UNREACHABLE, USAGE, exit_on, stop

if TYPE_CHECKING:
    from datetime import datetime

Files = Annotated[
    list[Path] | None,
    typer.Argument(help="CSV or Parquet files; none reads the archive."),
]
From = Annotated[str, typer.Option("--from", help="ISO 8601, UTC.")]
To = Annotated[str, typer.Option("--to", help="ISO 8601, UTC.")]
Zone = Annotated[str, typer.Option(help="Of times in a file that do not say theirs.")]


class Span(TypedDict):
    """A stretch of a record, by the names under which its readers take it."""

    start: datetime | None
    stop: datetime | None
    zone: str


def span(start: str, end: str, zone: str) -> Span:
    """Read ``--from``, ``--to`` and ``--zone``."""
    from zoneinfo import available_timezones

    if zone not in available_timezones():
        stop(USAGE, f'--zone "{zone}" is no time zone; write Europe/Berlin, or UTC')
    return {
        "start": _moment(start, "--from"),
        "stop": _moment(end, "--to"),
        "zone": zone,
    }


def _moment(text: str, option: str) -> datetime | None:
    """Read a time of the command line; without a zone it is UTC."""
    from datetime import UTC, datetime

    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        stop(
            USAGE, f'{option} "{text}" is no time; write 2026-03-01 or 2026-03-01T08:00'
        )
    return found.replace(tzinfo=found.tzinfo or UTC)


@contextmanager
def reading(command: str, *also: type[Exception]) -> Iterator[None]:
    """End a command that reads a record with what is wrong with it, or with its words.

    ``also`` is what else its words may be refused by.
    """
    from ingest.archive import ArchiveError, ArchiveUnavailableError
    from ingest.files import InputError
    from twin.service.replay import NothingToReplayError

    with (
        exit_on(command, USAGE, InputError, NothingToReplayError, *also),
        exit_on(command, UNREACHABLE, ArchiveError, ArchiveUnavailableError),
    ):
        yield
