"""Many plants at once, by processes of this machine or by a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twin.service.cli.exits import (
    BAD_CONFIGURATION,
    FINE,
    PROBLEMS,
    UNREACHABLE,
    USAGE,
    exit_on,
)
from twin.service.cli.history import Afresh
from twin.service.cli.models import DryRun, verdict
from twin.service.cli.record import From, To, Zone, span
from twin.service.cli.terminal import Json, note, out, out_json, out_table, progress

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from twin.service.fleet import Member, Outcome

app = typer.Typer(help="Many plants at once.", no_args_is_help=True)
Plants = Annotated[
    list[Path], typer.Argument(help="Each plant's plant.toml, or the folder it is in.")
]
ExecutorWords = Annotated[
    str,
    typer.Option(
        "--executor",
        metavar="processes[=N]|dask=ADDRESS",
        help="Processes of this machine, or a Dask scheduler at tcp://127.0.0.1:PORT"
        " or tls://HOST:PORT.",
    ),
]
TlsCa = Annotated[
    Path | None, typer.Option(help="Whose certificates are believed, for tls://.")
]
TlsCert = Annotated[Path | None, typer.Option(help="Our certificate, for tls://.")]
TlsKey = Annotated[Path | None, typer.Option(help="Its key, for tls://.")]


@app.command()
def replay(
    plants: Plants,
    out_dir: Annotated[
        Path,
        typer.Option("--out", help="Each plant's results are in a folder within."),
    ],
    data: Annotated[
        str,
        typer.Option(
            metavar="PATTERN",
            help="A plant's CSV or Parquet files, from its folder on, such as"
            ' "winter/*.csv"; none reads its archive.',
        ),
    ] = "",
    start: From = "",
    end: To = "",
    zone: Zone = "UTC",
    executor: ExecutorWords = "processes",
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    afresh: Afresh = False,
    json: Json = False,
) -> None:
    """Judge the history of many plants, each as `hptwin replay` would.

    A plant is called as its folder, and its results, in --out, are those of
    `hptwin replay` to the byte, wherever they were computed. One that was interrupted
    is gone on with where it stopped. A plant that cannot be replayed is told, and the
    others are.

    Exit code 0: all judged. 1: all judged, and something was found. 2, 69, 78: the
    worst of what kept a plant from being judged, as of `hptwin replay`; 69 too where
    its workers died.
    """
    from twin.service import fleet

    when = span(start, end, zone)
    with (
        _opened(plants, executor, (tls_ca, tls_cert, tls_key)) as (named, workers),
        _bar(len(named), quiet=json) as bar,
    ):
        outcomes = fleet.replay(
            named,
            workers,
            out_dir,
            pattern=data,
            **when,
            afresh=afresh,
            progress=bar,
            tell=note,
        )
    if json:
        out_json({"plants": [one.to_dict() for one in outcomes]})
    else:
        head = ("plant", "days", "delivered", "missed", "", "findings")
        out_table(head, fleet.rows(outcomes))
        for one in outcomes:
            if one.trouble:
                out(f"{one.name}: {one.sentence}")
    note(f"written to {out_dir}")
    found = any(one.findings for one in outcomes)
    raise typer.Exit(_worst(outcomes, PROBLEMS if found else FINE))


@app.command()
def recalibrate(
    plants: Plants,
    dry_run: DryRun = False,
    executor: ExecutorWords = "processes",
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    json: Json = False,
) -> None:
    """Fit the last weeks of every machine of many plants again, gates judging.

    Exit code 0: all accepted. 1: one is rejected. 2, 69, 78: the worst of what kept
    a machine from being judged.
    """
    from twin.service import fleet

    with _opened(plants, executor, (tls_ca, tls_cert, tls_key)) as (named, workers):
        found, failed = fleet.recalibrate(
            named,
            workers,
            dry_run=dry_run,
            progress=lambda done, total: note(f"{done} of {total} machines judged"),
        )
    if json:
        out_json(
            {
                "dry_run": dry_run,
                "recalibrations": found,
                "failed": [one.to_dict() for one in failed],
            }
        )
    for one in () if json else found:
        out(f"{one['plant']}  {one['unit']}  {verdict(one)}")
    for trouble in failed:
        note(f"{trouble.name}: {trouble.sentence}")
    rejected = not all(one["accepted"] for one in found)
    raise typer.Exit(_worst(failed, PROBLEMS if rejected else FINE))


@contextmanager
def _opened(
    plants: list[Path], words: str, tls: tuple[Path | None, Path | None, Path | None]
) -> Iterator[tuple[tuple[Member, ...], Executor]]:
    """Name the plants and open who computes, or say what is wrong and end."""
    from twin.service import executors, fleet

    with (
        exit_on("fleet", USAGE, executors.ExecutorError, fleet.FleetError),
        exit_on("fleet", UNREACHABLE, executors.NoClusterError),
    ):
        named = fleet.members(plants, os.environ)
        with executors.opened(words, tls=executors.Tls(*tls), tell=note) as executor:
            yield named, executor


def _worst(outcomes: list[Outcome], otherwise: int) -> int:
    """Return the exit code of the worst that happened to a plant."""
    codes = {
        "configuration": BAD_CONFIGURATION,
        "died": UNREACHABLE,
        "unreachable": UNREACHABLE,
        "input": USAGE,
    }
    return max(
        otherwise,
        *(codes.get(one.trouble, PROBLEMS) for one in outcomes if one.trouble),
        FINE,
    )


@contextmanager
def _bar(plants: int, *, quiet: bool) -> Iterator[Callable[[int, int, int], None]]:
    """Show how many plants and plant-days are done, on a terminal's stderr."""
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with progress(*columns, quiet=quiet) as bar:
        task = bar.add_task("", total=None)

        def show(through: int, days: int, total: int) -> None:
            words = f"{through} of {plants} plants, {days:,} plant-days"
            bar.update(task, description=words, completed=days, total=total or None)

        yield show
