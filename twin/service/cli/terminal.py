"""How a command speaks: results on stdout, everything else on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from datetime import datetime

    from rich.progress import Progress, ProgressColumn

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def out(text: str = "") -> None:
    """Write a line of result to stdout."""
    sys.stdout.write(text + "\n")


def out_lines(lines: Iterable[str]) -> None:
    """Write lines of result to stdout, each as it comes."""
    for line in lines:
        out(line)


def out_json(value: Mapping[str, Any]) -> None:
    """Write one JSON object to stdout, keys in the order given."""
    import json

    out(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def out_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Draw a table of results on stdout."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*head)
    for row in rows:
        table.add_row(*row)
    Console(file=sys.stdout).print(table)


def note(text: str) -> None:
    """Write a line of progress to stderr."""
    sys.stderr.write(text + "\n")


def progress(*columns: ProgressColumn, quiet: bool) -> Progress:
    """Return a progress bar for a terminal's stderr, which is silent elsewhere."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(
        *(columns or Progress.get_default_columns()),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    )


class Bar:
    """How many days of a record are done."""

    def __init__(self, what: str = "days", *, quiet: bool = False) -> None:
        self._bar = progress(quiet=quiet)
        self._task = self._bar.add_task(what, total=None)
        self._bar.start()
        self._begun = False

    def __call__(self, done: int, total: int, day: datetime) -> None:
        """Show how far it is; a beginning in the middle is said in words too."""
        if done > 1 and not self._begun:
            note(f"goes on from {day:%Y-%m-%d}, where it was interrupted")
        self._begun = True
        self._bar.update(
            self._task, completed=done, total=total, description=f"{day:%Y-%m-%d}"
        )
        if done >= total:
            self._bar.stop()
