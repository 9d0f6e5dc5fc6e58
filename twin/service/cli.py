"""The command ``hptwin``.

Results go to stdout and everything else to stderr. Exit codes: 0 fine, 1 the
command worked and found problems, 2 wrong usage, 78 bad configuration, 130
interrupted. Every command imports what it needs when it runs, so that
``hptwin --help`` is free.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from twin.service.config import Config

FINE, PROBLEMS, USAGE, UNREACHABLE, BAD_CONFIGURATION, INTERRUPTED = (
    0,
    1,
    2,
    69,
    78,
    130,
)

app = typer.Typer(
    name="hptwin",
    help="A digital twin for the heat pumps that recover a data centre's waste heat.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigFile = Annotated[
    Path,
    typer.Option(
        "--config", "-c", envvar="HPTWIN_CONFIG", help="The plant's configuration."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
DEFAULT_CONFIG = Path("plant.toml")


def out(text: str = "") -> None:
    """Write a line of result to stdout."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """Write a line of progress to stderr."""
    sys.stderr.write(text + "\n")


def out_json(value: Mapping[str, Any]) -> None:
    """Write one JSON object to stdout, keys in the order given."""
    out(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def stop(code: int, text: str = "") -> NoReturn:
    """End with an exit code, and a sentence on stderr."""
    if text:
        note(text)
    raise typer.Exit(code)


def load_config(path: Path, *, as_json: bool = False) -> Config:
    """Read a plant's configuration, or say all that is wrong with it and end."""
    from twin.service.config import ConfigError, load

    try:
        return load(path, os.environ)
    except ConfigError as error:
        if as_json:
            from twin.service.check import problems_of

            out_json(problems_of(error))
        else:
            for problem in error.problems:
                note(str(problem))
            number = len(error.problems)
            note(f"{path}: {number} problem{'' if number == 1 else 's'}")
        stop(BAD_CONFIGURATION)


def _version(wanted: bool) -> None:
    if wanted:
        from twin import __version__

        out(f"hptwin {__version__}")
        raise typer.Exit(FINE)


@app.callback()
def _hptwin(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Say which."),
    ] = False,
) -> None:
    pass


@app.command()
def check(config: ConfigFile = DEFAULT_CONFIG, json: Json = False) -> None:
    """Say what is wrong with a plant.toml, and what it makes possible.

    Exit code 0: fine. 1: it loads, with warnings. 78: it cannot be used.
    """
    from twin.service.check import report

    found = report(load_config(config, as_json=json))
    if json:
        out_json(found.to_dict())
    else:
        for line in found.lines():
            out(line)
    raise typer.Exit(PROBLEMS if found.warnings else FINE)


@app.command()
def points(
    kind: Annotated[
        str, typer.Argument(help="heat_pump, exchanger, rejector, consumer or site.")
    ] = "",
    json: Json = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="As a table for the README.")
    ] = False,
) -> None:
    """List the vocabulary: each point's name, unit, plausible range and meaning."""
    from twin.points import Kind, nearest
    from twin.service import vocabulary

    kinds = [each.value for each in Kind]
    if kind and kind not in kinds:
        near = nearest(kind, kinds)
        hint = f'did you mean "{near}"?' if near else f"there are {', '.join(kinds)}"
        stop(USAGE, f'hptwin points: "{kind}" is no kind of device; {hint}')
    chosen = vocabulary.chosen(Kind(kind) if kind else None)
    if json:
        out_json({"points": [vocabulary.as_dict(point) for point in chosen]})
    elif markdown:
        out(vocabulary.markdown(chosen))
    else:
        for line in vocabulary.lines(chosen):
            out(line)


@app.command()
def init(
    folder: Annotated[
        Path, typer.Argument(help="Where plant.toml is written.")
    ] = Path(),
    from_csv: Annotated[
        Path | None,
        typer.Option("--from-csv", help="Guess the points from this file's header."),
    ] = None,
    site: Annotated[str, typer.Option(help="What the site is called.")] = "",
    unit: Annotated[str, typer.Option(help="The heat pump's id.")] = "",
    refrigerant: Annotated[str, typer.Option(help="What it runs on.")] = "",
    broker: Annotated[str, typer.Option(help="The MQTT broker's host.")] = "",
    topic: Annotated[str, typer.Option(help="The heat pump's topic.")] = "",
) -> None:
    """Write a first plant.toml, with what is known and what is still to do.

    It asks for what no option tells, on a terminal only; otherwise the
    defaults are written. A file that is there is never overwritten.
    """
    from twin.service import first

    target = folder / "plant.toml"
    if target.exists():
        stop(USAGE, f"hptwin init: {target} is there already; move it away first")
    given = {
        "site": site,
        "unit": unit,
        "refrigerant": refrigerant,
        "broker": broker,
        "topic": topic,
    }
    asking = sys.stdin.isatty() and sys.stderr.isatty()
    answers = {}
    for name, (question, default) in first.QUESTIONS.items():
        answer = given[name]
        if not answer and asking:
            answer = typer.prompt(question, default=default, err=True)
        answers[name] = answer or default
    guesses: list[first.Guess] = []
    if from_csv is not None:
        try:
            guesses = first.guess(first.header(from_csv))
        except (OSError, UnicodeDecodeError) as error:
            stop(USAGE, f"hptwin init: {from_csv} cannot be read: {error}")
        for each in guesses:
            note(each.sentence())
    folder.mkdir(parents=True, exist_ok=True)
    target.write_text(first.plant_toml(answers, guesses), encoding="utf-8")
    out(str(target))
    note("Next: fill in the nameplate, then: hptwin check -c " + str(target))


def main() -> None:
    """Run the command line."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough.
        sys.stderr.close()
        sys.exit(FINE)


if __name__ == "__main__":
    main()
