"""A month or a year on paper: the report, and forms that others prescribe."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twin.service.cli.configuration import (
    DEFAULT_CONFIG,
    MaybeConfigFile,
    load_config,
)
from twin.service.cli.exits import FINE, PROBLEMS, USAGE, exit_on, stop
from twin.service.cli.terminal import Json, note, out, out_json

if TYPE_CHECKING:
    from twin.service.alarms import Case
    from twin.service.reporting import Books

ResultsFolder = Annotated[
    Path | None,
    typer.Option("--results", help="What hptwin replay --out wrote."),
]
Month = Annotated[str, typer.Option("--month", help="Such as 2026-03.")]


def report(
    month: Month,
    results: ResultsFolder = None,
    config: MaybeConfigFile = None,
    page: Annotated[
        Path | None, typer.Option("--out", help="An .html or, by the extra, a .pdf.")
    ] = None,
) -> None:
    """Write the month on two pages: recovered, missed, COP, surfaces, alarms, work.

    From a replay's folder, or from what the running service found last; with both,
    the plant file tells what no instrument does.

    Exit code 0: written. 1: written, and something in it cannot be.
    """
    from twin.service import report as pages
    from twin.service import reporting
    from twin.service.export import implausible

    target = page or Path(f"report-{month}.html")
    with exit_on("report", USAGE, reporting.ReportError, OSError):
        books, cases = _books(month, "", config, results)
        text = pages.document(pages.report(books, cases))
        if target.suffix.lower() == ".pdf":
            target.write_bytes(pages.pdf(text))
        else:
            target.write_text(text, encoding="utf-8")
    out(str(target))
    doubts = implausible(books)
    for sentence in doubts:
        note(f"cannot be: {sentence}")
    raise typer.Exit(PROBLEMS if doubts else FINE)


def export(
    profile: Annotated[
        str, typer.Option("--profile", help="eu-2024-1364, enefg-register or plain.")
    ] = "plain",
    year: Annotated[str, typer.Option("--year", help="Such as 2026.")] = "",
    month: Month = "",
    results: ResultsFolder = None,
    config: MaybeConfigFile = None,
    file: Annotated[
        Path | None, typer.Option("--out", help="A CSV; stdout without it.")
    ] = None,
    json: Json = False,
) -> None:
    """Write a period's figures in somebody's form, each with boundary and coverage.

    What the twin cannot know is empty, with a note; what stands in [reporting] of the
    plant file is taken from there.

    Exit code 0: written. 1: written, and something in it cannot be.
    """
    from twin.service import export as forms
    from twin.service import reporting

    if bool(year) == bool(month):
        stop(USAGE, "hptwin export: give --year or --month, one of them")
    with exit_on("export", USAGE, reporting.ReportError, OSError):
        form = forms.profile(profile)
        books, _ = _books(month, year, config, results)
        if json:
            lines = list(forms.lines(books, form))
            out_json({"profile": form.name, "status": form.status, "lines": lines})
        elif file is None:
            sys.stdout.write(forms.csv_text(books, form))
        if file is not None:
            file.write_text(forms.csv_text(books, form), encoding="utf-8", newline="")
            note(f"written to {file}")
    note(f"{form.title}, version {form.version}: {form.status}")
    for sentence in (*books.remarks, *(doubts := forms.implausible(books))):
        note(sentence)
    raise typer.Exit(PROBLEMS if doubts else FINE)


def _books(
    month: str, year: str, config: Path | None, results: Path | None
) -> tuple[Books, list[Case] | None]:
    """Open the books of a period, and the alarms where a service keeps some."""
    from twin.service import reporting
    from twin.service.alarms import Alarms
    from twin.service.results import Results, ResultsError
    from twin.service.state import State, StateError

    wired = cases = None
    if config is not None or results is None:
        wired = load_config(config or DEFAULT_CONFIG)
    try:
        if wired is None or results is not None:
            found = Results.read(results or Path())
        else:
            found = Results.read(wired.state_dir / "results")
            with closing(State.configured(wired)) as state:
                cases = list(Alarms(state).board.cases.values())
    except (ResultsError, StateError) as error:
        raise reporting.ReportError(str(error)) from error
    plant = None if wired is None else wired.plant
    zone = reporting.zone_of(found, plant)
    span = reporting.month(month, zone) if month else reporting.year(year, zone)
    told = None if wired is None else wired.reporting
    past = [case.finding for case in cases or ()]
    return reporting.books(found, span, told, plant, past), cases
