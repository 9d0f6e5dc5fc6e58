"""History judged again, and two judgements of it laid side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twin.service.cli.configuration import DEFAULT_CONFIG, ConfigFile, load_config
from twin.service.cli.exits import FINE, PROBLEMS, USAGE, exit_on
from twin.service.cli.record import Files, From, Span, To, Zone, reading, span
from twin.service.cli.terminal import Bar, Json, note, out_json, out_lines

if TYPE_CHECKING:
    from twin.service.compare import Comparison
    from twin.service.config import Config
    from twin.service.suppose import Supposition

Afresh = Annotated[
    bool, typer.Option("--afresh", help="Begin anew, whatever --out holds.")
]


def replay(
    data: Files = None,
    config: ConfigFile = DEFAULT_CONFIG,
    start: From = "",
    end: To = "",
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="Where the results are written.")
    ] = None,
    zone: Zone = "UTC",
    suppose: Annotated[
        str,
        typer.Option(
            metavar='"UNIT/SURFACE cleaned DAY"',
            help="Replay it once more as if that had been done, and compare.",
        ),
    ] = "",
    afresh: Afresh = False,
    json: Json = False,
) -> None:
    """Judge history by the very code that runs beside the plant.

    One into --out that was interrupted is gone on with where it stopped, if it
    was of the same data, configuration and period; the results are the same.

    Exit code 0: judged. 1: judged, and something was found.
    """
    from twin.service import history
    from twin.service.checkpoint import forget
    from twin.service.suppose import SupposeError, parse

    wired = load_config(config)
    if out_dir is not None and afresh:
        for folder in (out_dir, out_dir / "supposed"):
            forget(history.unfinished(folder))
    with reading("replay", SupposeError):
        what = parse(suppose) if suppose else None
    when = span(start, end, zone)
    if what is not None:
        found = _supposed(wired, data or [], what, when, out_dir, quiet=json)
        page = None if out_dir is None else out_dir / "compare.html"
        _out_comparison(found, page, json=json)
        return
    with reading("replay"):
        results, verdicts = history.replayed(
            wired, data or [], **when, progress=Bar(quiet=json), out=out_dir
        )
    if out_dir is not None:
        note(f"written to {out_dir}")
    if json:
        out_json(history.as_json(results, verdicts))
    else:
        out_lines(history.lines(results, verdicts))
    raise typer.Exit(PROBLEMS if results.findings else FINE)


def _supposed(
    wired: Config,
    data: list[Path],
    what: Supposition,
    when: Span,
    out_dir: Path | None,
    *,
    quiet: bool,
) -> Comparison:
    """Replay what was recorded, and as it would have been, and compare them."""
    from twin.service import history
    from twin.service.compare import compare as beside
    from twin.service.suppose import SupposeError

    with reading("replay", SupposeError):
        recorded, made, _ = history.supposed(
            wired,
            data,
            what,
            **when,
            progress=lambda name: Bar(name, quiet=quiet),
            out=out_dir,
        )
    return beside(recorded, made, ("recorded", what.name))


def compare(
    first: Annotated[Path, typer.Argument(help="What hptwin replay --out wrote.")],
    second: Annotated[Path, typer.Argument(help="The same of another replay.")],
    page: Annotated[
        Path | None, typer.Option("--out", help="Draw it into this HTML file.")
    ] = None,
    json: Json = False,
) -> None:
    """Lay two replays side by side: figures, findings, conductances."""
    from twin.service.compare import CompareError
    from twin.service.compare import compare as beside
    from twin.service.results import Results, ResultsError

    with exit_on("compare", USAGE, CompareError, ResultsError):
        sides = [Results.read(folder) for folder in (first, second)]
        names = (first.name, second.name)
        if names[0] == names[1]:
            names = (str(first), str(second))
        found = beside(sides[0], sides[1], names)
    _out_comparison(found, page, json=json)


def _out_comparison(found: Comparison, page: Path | None, *, json: bool) -> None:
    """Say what two results differ in, and draw it into a file."""
    if page is not None:
        from twin.service.web.beside import document

        page.write_text(document(found), encoding="utf-8")
        note(f"drawn in {page}")
    if json:
        out_json(found.to_dict())
        return
    from rich.console import Console

    from twin.service.compare import tables

    console = Console(file=sys.stdout)
    for each in tables(found):
        console.print(each)
