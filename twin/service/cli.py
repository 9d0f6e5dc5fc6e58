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
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from datetime import datetime

    from twin.service.alarms import Alarms, Case
    from twin.service.compare import Comparison
    from twin.service.config import Config, ConfigError
    from twin.service.fleet import Member, Outcome
    from twin.service.reporting import Books
    from twin.service.shards import Shard
    from twin.service.users import Users

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

_CONFIG = typer.Option(
    "--config", "-c", envvar="HPTWIN_CONFIG", help="The plant's configuration."
)
ConfigFile = Annotated[Path, _CONFIG]
MaybeConfigFile = Annotated[Path | None, _CONFIG]
ShardName = Annotated[
    str,
    typer.Option(
        "--shard", envvar="HPTWIN_SHARD", help="Read a part of the units, such as 0/4."
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
        _refused(error, as_json=as_json)


def _refused(error: ConfigError, *, as_json: bool) -> NoReturn:
    if as_json:
        from twin.service.check import problems_of

        out_json(problems_of(error))
    else:
        for problem in error.problems:
            note(str(problem))
        number = len(error.problems)
        file = error.problems[0].file
        note(f"{file}: {number} problem{'' if number == 1 else 's'}")
    stop(BAD_CONFIGURATION)


def shard_of(text: str) -> Shard | None:
    """Read which shard is asked for; none is all of the plant."""
    from twin.service.shards import Shard

    if not text:
        return None
    try:
        return Shard.parse(text)
    except ValueError as error:
        stop(USAGE, f"--shard {error}")


def share_config(wired: Config, shard: Shard, *, as_json: bool = False) -> Config:
    """Return a shard's part of a configuration, or say why it has none and end."""
    from twin.service.config import ConfigError
    from twin.service.shards import share

    try:
        return share(wired, shard)
    except ConfigError as error:
        _refused(error, as_json=as_json)


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
def check(
    config: ConfigFile = DEFAULT_CONFIG,
    online: Annotated[
        bool,
        typer.Option("--online", help="Look at broker, archive and state."),
    ] = False,
    seconds: Annotated[float, typer.Option(help="How long to listen.")] = 5.0,
    write_test: Annotated[
        bool, typer.Option("--write-test", help="Write a point to the InfluxDB.")
    ] = False,
    shard: ShardName = "",
    json: Json = False,
) -> None:
    """Say what is wrong with a plant.toml, and what it makes possible.

    Exit code 0: fine. 1: it loads, with warnings; or, with --online, something
    out there is not as configured. 78: it cannot be used.
    """
    wired, part = load_config(config, as_json=json), shard_of(shard)
    if part is not None:
        wired = share_config(wired, part, as_json=json)
    if online or write_test:
        from twin.service.online import online as look
        from twin.service.run import utc_now

        seen = look(wired, utc_now(), seconds=seconds, write_test=write_test)
        if json:
            out_json(seen.to_dict())
        else:
            for line in seen.lines():
                out(line)
        raise typer.Exit(FINE if seen.fine else PROBLEMS)
    from twin.service.check import report, units

    found = report(wired)
    own = [] if part is None else [u for u in units(wired.plant) if part.owns(u)]
    if json:
        out_json(found.to_dict() | ({} if part is None else {"shard": own}))
    else:
        for line in found.lines():
            out(line)
        if part is not None:
            out()
            out(f"shard {part} reads {', '.join(own) or 'no unit'}")
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


@app.command()
def run(config: ConfigFile = DEFAULT_CONFIG, shard: ShardName = "") -> None:
    """Run beside the plant: broker, archive, judgement, alarms, page.

    As one of several, --shard 0/4, it reads its own units and writes them to the
    archive that all share; whichever of them leads judges the whole plant.
    """
    import signal

    from twin.service import heap
    from twin.service.log import to_stderr
    from twin.service.run import Service
    from twin.service.state import StateError
    from twin.service.watchdog import Supervisor
    from twin.service.web.app import PublicAddressError

    to_stderr()
    heap.give_back()
    wired, part = load_config(config), shard_of(shard)
    if part is not None:
        share_config(wired, part)
    service, supervisor = Service(wired, shard=part), Supervisor.of(os.environ)

    def end() -> None:
        supervisor.stopping()
        service.stop()

    try:
        service.start()
    except PublicAddressError as error:
        service.stop()
        stop(BAD_CONFIGURATION, f"hptwin run: {error}")
    except (OSError, StateError) as error:
        service.stop()
        stop(UNREACHABLE, f"hptwin run: {error}")
    signal.signal(signal.SIGTERM, lambda *_: service.end())
    note(f"page {service.page.url}; Ctrl-C ends")
    supervisor.ready()
    supervisor.watch(service.deaths, service.problems)
    with service_until_done(end):
        service.wait()


@contextmanager
def _reading(command: str, *also: type[Exception]) -> Iterator[None]:
    """End a command that reads a record with what is wrong with it, or with its words.

    ``also`` is what else its words may be refused by.
    """
    from ingest.archive import ArchiveError, ArchiveUnavailableError
    from ingest.files import InputError
    from twin.service.replay import NothingToReplayError

    wrong: tuple[type[Exception], ...] = (InputError, NothingToReplayError, *also)
    try:
        yield
    except (ArchiveError, ArchiveUnavailableError) as error:
        stop(UNREACHABLE, f"hptwin {command}: {error}")
    except wrong as error:
        stop(USAGE, f"hptwin {command}: {error}")


@app.command()
def replay(
    data: Annotated[
        list[Path] | None,
        typer.Argument(help="CSV or Parquet files; none reads the archive."),
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    start: Annotated[str, typer.Option("--from", help="ISO 8601, UTC.")] = "",
    end: Annotated[str, typer.Option("--to", help="ISO 8601, UTC.")] = "",
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="Where the results are written.")
    ] = None,
    zone: Annotated[
        str, typer.Option(help="Of times in a file that do not say theirs.")
    ] = "UTC",
    suppose: Annotated[
        str,
        typer.Option(
            metavar='"UNIT/SURFACE cleaned DAY"',
            help="Replay it once more as if that had been done, and compare.",
        ),
    ] = "",
    afresh: Annotated[
        bool, typer.Option("--afresh", help="Begin anew, whatever --out holds.")
    ] = False,
    json: Json = False,
) -> None:
    """Judge history by the very code that runs beside the plant.

    One into --out that was interrupted is gone on with where it stopped, if it
    was of the same data, configuration and period; the results are the same.

    Exit code 0: judged. 1: judged, and something was found.
    """
    from twin.service import history
    from twin.service.checkpoint import forget

    wired = load_config(config)
    if out_dir is not None and afresh:
        for folder in (out_dir, out_dir / "supposed"):
            forget(history.unfinished(folder))
    if suppose:
        _suppose(wired, data or [], suppose, start, end, zone, out_dir, json=json)
    with _reading("replay"):
        results, verdicts = history.replayed(
            wired,
            data or [],
            start=moment(start, "--from"),
            stop=moment(end, "--to"),
            zone=zone,
            progress=Bar("days", quiet=json),
            out=out_dir,
        )
    if out_dir is not None:
        note(f"written to {out_dir}")
    if json:
        out_json(history.as_json(results, verdicts))
    else:
        for line in history.lines(results, verdicts):
            out(line)
    raise typer.Exit(PROBLEMS if results.findings else FINE)


def _suppose(
    wired: Config,
    data: list[Path],
    text: str,
    start: str,
    end: str,
    zone: str,
    out_dir: Path | None,
    *,
    json: bool,
) -> NoReturn:
    from twin.service import history, suppose
    from twin.service.compare import compare as beside

    with _reading("replay", suppose.SupposeError):
        what = suppose.parse(text)
        recorded, made, _ = history.supposed(
            wired,
            data,
            what,
            start=moment(start, "--from"),
            stop=moment(end, "--to"),
            zone=zone,
            progress=lambda name: Bar(name, quiet=json),
            out=out_dir,
        )
    found = beside(recorded, made, ("recorded", what.name))
    _compared(found, None if out_dir is None else out_dir / "compare.html", json=json)
    raise typer.Exit(FINE)


@app.command("what-if")
def what_if(
    data: Annotated[
        list[Path] | None,
        typer.Argument(help="CSV or Parquet files; none reads the archive."),
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    asked: Annotated[
        list[str] | None,
        typer.Option(
            "--if",
            metavar='"source +5 K"',
            help="What is otherwise, again for more: source or sink by so many K,"
            ' "another hp1", "store 50 m3", "hp1/condenser clean", "consumer 300 kW at'
            ' 60 degC". None asks the usual ones.',
        ),
    ] = None,
    start: Annotated[str, typer.Option("--from", help="ISO 8601, UTC.")] = "",
    end: Annotated[str, typer.Option("--to", help="ISO 8601, UTC.")] = "",
    zone: Annotated[
        str, typer.Option(help="Of times in a file that do not say theirs.")
    ] = "UTC",
    json: Json = False,
) -> None:
    """Ask what the record would have been, had one thing been otherwise."""
    from twin.service import whatif

    wired = load_config(config)
    with _reading("what-if", whatif.WhatIfError):
        questions = [
            whatif.parse(text, wired.plant, Path.cwd()) for text in asked or ()
        ] or whatif.usual(wired.plant)
        answers = whatif.answered(
            wired,
            data or [],
            questions,
            start=moment(start, "--from"),
            stop=moment(end, "--to"),
            zone=zone,
            progress=Bar("days", quiet=json),
        )
    if json:
        out_json({"answers": [one.to_dict() for one in answers]})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("what if", "heat", "electricity", "COP", "worth", "CO2e")
    for row in whatif.rows(answers):
        table.add_row(*row)
    Console(file=sys.stdout).print(table)
    for one in answers:
        out(f"{one.what.name}: {one.what.assumption}.")
        if one.refused:
            out(f"  It must not be done: {one.refused}.")
        for remark in one.remarks:
            out(f"  {remark}.")
    out("All of it is modelled, on the recorded weather, load and demand.")


@app.command()
def screen(
    data: Annotated[
        list[Path] | None,
        typer.Argument(help="CSV or Parquet files; none reads the archive."),
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    demand: Annotated[
        str, typer.Option(help='"300 kW", or a file as "pool.csv:demand kW".')
    ] = "",
    peak: Annotated[str, typer.Option(help="The most of it; else the most told.")] = "",
    distance: Annotated[str, typer.Option(help='Along the trench, "400 m".')] = "",
    supply: Annotated[str, typer.Option(help="At his station.")] = "60 degC",
    back: Annotated[str, typer.Option("--return", help="From him.")] = "40 degC",
    trench: Annotated[str, typer.Option(help="Pipes laid.")] = "1200 EUR/m",
    station: Annotated[str, typer.Option(help="His exchanger.")] = "120 EUR/kW",
    interest: Annotated[float, typer.Option(help="A year, in per cent.")] = 5.0,
    life: Annotated[float, typer.Option(help="Of trench and station, years.")] = 20.0,
    soil: Annotated[str, typer.Option(help="The soil's temperature.")] = "10 degC",
    start: Annotated[str, typer.Option("--from", help="ISO 8601, UTC.")] = "",
    end: Annotated[str, typer.Option("--to", help="ISO 8601, UTC.")] = "",
    zone: Annotated[
        str, typer.Option(help="Of times in a file that do not say theirs.")
    ] = "UTC",
    json: Json = False,
) -> None:
    """Ask whether somebody who could use the heat is worth a pipe.

    Exit code 0: it pays. 1: it does not, and why is said.
    """
    from twin.service import screening, whatif
    from twin.units import quantity

    wired = load_config(config)
    with _reading("screen", ValueError):
        if not demand or not distance:
            raise whatif.WhatIfError("name who: --demand and --distance")
        consumer = whatif.consumer(demand, supply, wired.plant, Path.cwd())
        site = screening.Site(
            distance_m=quantity(distance, "m"),
            peak_w=quantity(peak, "W") if peak else consumer.peak_w,
            supply_degc=quantity(supply, "degC"),
            return_degc=quantity(back, "degC"),
        )
        terms = screening.Terms(
            trench_eur_m=quantity(trench, "EUR/m"),
            station_eur_w=quantity(station, "EUR/W"),
            interest=interest / 100.0,
            life_years=life,
            soil_degc=quantity(soil, "degC"),
        )
        (answer,) = whatif.answered(
            wired,
            data or [],
            [screening.asked(site, consumer, terms)],
            start=moment(start, "--from"),
            stop=moment(end, "--to"),
            zone=zone,
            progress=Bar("days", quiet=json),
        )
    found = screening.screen(site, terms, answer)
    if json:
        out_json(found.to_dict())
    else:
        for line in screening.lines(found):
            out(line)
    raise typer.Exit(FINE if found.pays else PROBLEMS)


def _compared(found: Comparison, page: Path | None, *, json: bool) -> None:
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


@app.command()
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

    try:
        sides = [Results.read(folder) for folder in (first, second)]
        names = (first.name, second.name)
        if names[0] == names[1]:
            names = (str(first), str(second))
        found = beside(sides[0], sides[1], names)
    except (CompareError, ResultsError) as error:
        stop(USAGE, f"hptwin compare: {error}")
    _compared(found, page, json=json)


ResultsFolder = Annotated[
    Path | None,
    typer.Option("--results", help="What hptwin replay --out wrote."),
]


@app.command()
def report(
    month: Annotated[str, typer.Option("--month", help="Such as 2026-03.")],
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
    try:
        books, cases = _books(month, "", config, results)
        text = pages.document(pages.report(books, cases))
        if target.suffix.lower() == ".pdf":
            target.write_bytes(pages.pdf(text))
        else:
            target.write_text(text, encoding="utf-8")
    except (reporting.ReportError, OSError) as error:
        stop(USAGE, f"hptwin report: {error}")
    out(str(target))
    doubts = implausible(books)
    for sentence in doubts:
        note(f"cannot be: {sentence}")
    raise typer.Exit(PROBLEMS if doubts else FINE)


@app.command()
def export(
    profile: Annotated[
        str, typer.Option("--profile", help="eu-2024-1364, enefg-register or plain.")
    ] = "plain",
    year: Annotated[str, typer.Option("--year", help="Such as 2026.")] = "",
    month: Annotated[str, typer.Option("--month", help="Such as 2026-03.")] = "",
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
    try:
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
    except (reporting.ReportError, OSError) as error:
        stop(USAGE, f"hptwin export: {error}")
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


@app.command()
def backup(
    directory: Annotated[Path, typer.Argument(help="Made here; a new one.")],
    config: ConfigFile = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Copy journal, state, archive, models and results while the service runs."""
    from twin.service import backup as copies
    from twin.service.run import utc_now

    wired = load_config(config)
    try:
        made = copies.backup(wired, directory, utc_now())
    except copies.BackupError as error:
        stop(PROBLEMS, f"hptwin backup: {error}")
    if wired.state.url:
        note("the PostgreSQL's state is in it, as an SQLite file of one moment")
    if made.archive != "parquet":
        note("the InfluxDB is not in it: back it up by its own means, now, not before")
    if json:
        out_json(made.to_dict())
    else:
        out(f"{made.directory}: {len(made.files)} files, {made.bytes} bytes")


@app.command()
def restore(
    directory: Annotated[Path, typer.Argument(help="What hptwin backup made.")],
    config: ConfigFile = DEFAULT_CONFIG,
    replace: Annotated[
        bool, typer.Option("--replace", help="Move what is there aside.")
    ] = False,
) -> None:
    """Verify a backup and put it where the configuration says; the service is off."""
    from twin.service import backup as copies
    from twin.service.run import utc_now

    wired = load_config(config)
    try:
        found, aside = copies.restore(wired, directory, utc_now(), replace=replace)
    except copies.BackupError as error:
        stop(PROBLEMS, f"hptwin restore: {error}")
    for path in aside:
        note(f"what was there is now {path}")
    out(f"restored {len(found.files)} files of {found.made}")


@app.command()
def publish(
    data: Annotated[Path, typer.Argument(help="A wide CSV or Parquet file.")],
    config: ConfigFile = DEFAULT_CONFIG,
    speed: Annotated[
        float, typer.Option(min=1e-3, help="How much faster than it happened.")
    ] = 1.0,
    fast: Annotated[
        bool, typer.Option("--as-fast-as-possible", help="Without any waiting.")
    ] = False,
    start: Annotated[str, typer.Option("--from", help="ISO 8601, UTC.")] = "",
    end: Annotated[str, typer.Option("--to", help="ISO 8601, UTC.")] = "",
    now: Annotated[
        bool, typer.Option("--now", help="Move the times so that it ends now.")
    ] = False,
    zone: Annotated[
        str, typer.Option(help="Of times in a file that do not say theirs.")
    ] = "UTC",
    to_plant_topics_of: Annotated[
        str,
        typer.Option(
            metavar="HOST",
            help="The broker's host once more, if it is another machine: who reads "
            "the plant's topics there takes the file for the plant.",
        ),
    ] = "",
    json: Json = False,
) -> None:
    """Play a file to the broker, each row as the plant would publish it.

    Ends with how many messages the broker has acknowledged. In MQTT 3.1.1 it
    acknowledges even what its access list throws away; with protocol = "5" in
    [mqtt] it refuses that, and so does this. Exit code 69: no broker takes it.
    """
    from datetime import UTC, datetime

    from ingest.broker import BrokerError
    from ingest.files import InputError
    from twin.service import publish as publishing

    wired = load_config(config)
    try:
        publishing.guard(wired.mqtt, to_plant_topics_of)
        traffic = publishing.read(
            data,
            wired.sources,
            zone=zone,
            start=moment(start, "--from"),
            stop=moment(end, "--to"),
        )
    except (InputError, publishing.PublishError) as error:
        stop(USAGE, f"hptwin publish: {error}")
    for line in publishing.remarks(traffic):
        note(line)
    rate = float("inf") if fast else speed
    shift_ms = publishing.shift_to(traffic, datetime.now(UTC), rate) if now else 0
    seen = publishing.Reporter(traffic.rows, note)
    code, why = FINE, ""
    try:
        publishing.play(
            traffic,
            publishing.identity(wired.mqtt),
            speed=rate,
            shift_ms=shift_ms,
            progress=seen,
        )
    except KeyboardInterrupt:
        code, why = INTERRUPTED, "interrupted"
    except BrokerError as error:
        code, why = UNREACHABLE, f"hptwin publish: {error}"
    if json:
        out_json(seen.to_dict())
    else:
        out(seen.line())
    stop(code, why)


@app.command()
def simulate(
    name: Annotated[str, typer.Argument(help="demo, healthy or creep.")] = "demo",
    out_dir: Annotated[
        Path, typer.Option("--out", help="Where the files are written.")
    ] = Path("simulated"),
    days: Annotated[int | None, typer.Option(help="How long.")] = None,
    seed: Annotated[int, typer.Option(help="Of weather, load and noise.")] = 1,
    minutes: Annotated[int, typer.Option(help="Between two samples.")] = 10,
    csv: Annotated[bool, typer.Option("--csv", help="CSV, not Parquet.")] = False,
) -> None:
    """Write the telemetry of a plant whose faults are known, with its plant.toml."""
    from dataclasses import replace
    from datetime import timedelta

    from twin import simulate as simulator

    try:
        scenario = simulator.scenario(name, days=days, seed=seed)
        scenario = replace(scenario, step=timedelta(minutes=minutes))
        written = simulator.write(simulator.simulate(scenario), out_dir, csv=csv)
    except ValueError as error:
        stop(USAGE, f"hptwin simulate: {error}")
    for path in written:
        out(str(path))
    # The truth is no telemetry, and a replay would say so.
    told = [path for path in written if path.suffix in (".csv", ".parquet")]
    files = " ".join(str(path) for path in told if path.stem != "truth")
    note(f"Next: hptwin replay -c {out_dir / 'plant.toml'} {files}")


@app.command()
def demo(
    once: Annotated[
        bool, typer.Option("--once", help="End after the closing table.")
    ] = False,
    json: Json = False,
    port: Annotated[int, typer.Option(help="Of the page; 0 takes a free one.")] = 8080,
    seed: Annotated[int, typer.Option(help="Of weather, load and noise.")] = 1,
    folder: Annotated[
        Path | None, typer.Option(help="Keep the demo's data here.")
    ] = None,
) -> None:
    """See it work: a plant with planted faults, a real broker, the page."""
    from ingest.embedded import NoBrokerError
    from twin.service import show

    try:
        show.demo(once=once, json=json, port=port, seed=seed, folder=folder)
    except NoBrokerError as error:
        stop(UNREACHABLE, f"hptwin demo: {error}")
    except OSError as error:
        stop(UNREACHABLE, f"hptwin demo: port {port}: {error}; try --port 0")


@app.command()
def plot(
    unit: Annotated[
        str, typer.Argument(help="Which heat pump; the first one by default.")
    ] = "",
    config: ConfigFile = DEFAULT_CONFIG,
    out_dir: Annotated[
        Path, typer.Option("--out", help="Where the three SVG files are written.")
    ] = Path("plots"),
) -> None:
    """Draw a machine by its nameplate: T over Q, p over h, and its map."""
    from twin.heatpump import from_nameplate
    from twin.points import nearest
    from twin.service.plot import PlotError, draw

    machines = {machine.id: machine for machine in load_config(config).plant.machines}
    name = unit or next(iter(machines))
    if name not in machines:
        near = nearest(name, list(machines)) or ", ".join(machines)
        stop(USAGE, f'hptwin plot: "{name}" is no heat pump of this plant; try {near}')
    try:
        for path in draw(from_nameplate(machines[name]), out_dir):
            out(str(path))
    except (PlotError, ValueError) as error:
        stop(PROBLEMS, f"hptwin plot: {error}")


users_app = typer.Typer(help="Who may come in.", no_args_is_help=True)
app.add_typer(users_app, name="users")
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        help="Where the password stands; - is standard input. Else it is asked for."
    ),
]
RoleName = Annotated[str, typer.Option(help="viewer, operator or admin.")]
Named = Annotated[str, typer.Argument(help="The name.")]


@users_app.command("add")
def users_add(
    name: Named,
    role: RoleName = "viewer",
    password_file: PasswordFile = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Let a person in; the first one is an admin."""
    from twin.service.users import Role

    with users_of(config) as (users, by, now):
        users.add(name, _password(password_file), Role(role), by, now)
    out(f"{name} may come in as {role}")


@users_app.command("list")
def users_list(config: ConfigFile = DEFAULT_CONFIG, json: Json = False) -> None:
    """List people and programs; neither passwords nor tokens are known."""
    with users_of(config) as (users, _, _):
        people, programs = users.accounts().values(), users.tokens().values()
    if json:
        out_json(
            {
                "users": [
                    {"name": one.name, "role": one.role, "created": one.created}
                    for one in people
                ],
                "tokens": [
                    {"name": one.name, "role": one.role, "expires": one.expires}
                    for one in programs
                ],
            }
        )
        return
    for one in people:
        out(f"{one.name}  {one.role}")
    for token in programs:
        out(f"token {token.name}  {token.role}  until {token.expires:%Y-%m-%d}")
    if not people:
        out("no users: the page asks for no login, and answers on loopback only")


@users_app.command("passwd")
def users_passwd(
    name: Named,
    password_file: PasswordFile = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Give a person another password; every session of theirs ends."""
    with users_of(config) as (users, by, now):
        users.set_password(name, _password(password_file), by, now)
    out("done")


@users_app.command("role")
def users_role(
    name: Named, role: RoleName, config: ConfigFile = DEFAULT_CONFIG
) -> None:
    """Let a person do more or less, from the next request on."""
    from twin.service.users import Role

    with users_of(config) as (users, by, now):
        users.set_role(name, Role(role), by, now)
    out("done")


@users_app.command("remove")
def users_remove(name: Named, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Let a person in no longer; without anybody left no login is asked for."""
    with users_of(config) as (users, by, now):
        users.remove(name, by, now, last=True)
        left = users.any()
    out("done" if left else "done; nobody is left, so no login is asked for any more")


@users_app.command("token")
def users_token(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    role: RoleName = "viewer",
    days: Annotated[float, typer.Option(help="How long it lasts. [d]")] = 90.0,
    revoke: Annotated[bool, typer.Option("--revoke", help="End it instead.")] = False,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Let a program in; its token is the only line on stdout, this once."""
    from twin.service.users import Role

    with users_of(config) as (users, by, now):
        if revoke:
            users.revoke(name, by, now)
            out("done")
            return
        secret = users.issue(name, Role(role), days, by, now)
    note(f"kept nowhere; {name} sends it as: Authorization: Bearer ...")
    out(secret)


@contextmanager
def users_of(config: Path) -> Iterator[tuple[Users, str, datetime]]:
    """Open the users of a configuration; what cannot be done ends with 1."""
    import getpass
    from datetime import UTC, datetime

    from twin.service.state import State, StateError
    from twin.service.users import Users

    wired = load_config(config)
    try:
        with closing(State.configured(wired)) as state:
            by = f"{getpass.getuser()} on the machine"
            yield Users(state), by, datetime.now(UTC)
    except (StateError, ValueError) as error:
        stop(PROBLEMS, f"hptwin users: {error}")


def _password(file: Path | None) -> str:
    """Read a password from where nobody else sees it."""
    import getpass

    if file is None:
        first = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != first:
            raise ValueError("these were two different passwords")
        return first
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from error
    return text.rstrip("\r\n")


CaseKey = Annotated[str, typer.Argument(help="As `alarms list` shows it.")]
Who = Annotated[str, typer.Option(help="Your name.")]
Reason = Annotated[str, typer.Option(help="Why; the next shift will ask.")]
alarms_app = typer.Typer(help="The alarms of the service.", no_args_is_help=True)
app.add_typer(alarms_app, name="alarms")


@alarms_app.command("list")
def alarms_list(config: ConfigFile = DEFAULT_CONFIG, json: Json = False) -> None:
    """List the open cases, dearest first, and what is out of service."""
    with alarms_of(config) as alarms:
        cases = list(alarms.cases())
        silent = [each for each in alarms.board.cases.values() if each.out_of_service]
    cases += [case for case in silent if not case.open]
    if json:
        out_json({"alarms": [case.to_dict() for case in cases]})
        return
    for case in cases:
        out(f"{case.key}  {case.status.value}  {case.finding.sentence}")
    if not cases:
        out("no open case")


@alarms_app.command("ack")
def alarms_ack(
    key: CaseKey,
    who: Who,
    comment: Annotated[str, typer.Option(help="What you think of it.")] = "",
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Take note of a case."""
    _act(config, "ack", lambda alarms, now: alarms.acknowledge(key, who, now, comment))


@alarms_app.command("shelve")
def alarms_shelve(
    key: CaseKey,
    who: Who,
    reason: Reason,
    hours: Annotated[float, typer.Option(help="For how long.", min=0.0)] = 24.0,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Put a case out of sight for some hours; it comes back by itself."""
    from datetime import timedelta

    _act(
        config,
        "shelve",
        lambda alarms, now: alarms.shelve(
            key, who, now, now + timedelta(hours=hours), reason
        ),
    )


@alarms_app.command("unshelve")
def alarms_unshelve(
    key: CaseKey, who: Who, config: ConfigFile = DEFAULT_CONFIG
) -> None:
    """Bring a shelved case back before its time."""
    _act(config, "unshelve", lambda alarms, now: alarms.unshelve(key, who, now))


@alarms_app.command("close")
def alarms_close(
    key: CaseKey,
    who: Who,
    reason: Reason,
    closure: Annotated[
        str, typer.Option("--as", help="fixed, not_a_fault or accepted.")
    ] = "fixed",
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Close a case by your word; the twin checks whether it is so."""
    from twin.service.alarms import Closure

    known = [each.value for each in Closure]
    if closure not in known:
        said = f'--as "{closure}" is none of {", ".join(known)}'
        stop(USAGE, f"hptwin alarms close: {said}")
    _act(
        config,
        "close",
        lambda alarms, now: alarms.close(key, who, now, reason, Closure(closure)),
    )


@alarms_app.command("out-of-service")
def alarms_out_of_service(
    key: CaseKey, who: Who, reason: Reason, config: ConfigFile = DEFAULT_CONFIG
) -> None:
    """Silence a case until somebody brings it back."""
    _act(
        config,
        "out-of-service",
        lambda alarms, now: alarms.take_out_of_service(key, who, now, reason),
    )


@alarms_app.command("in-service")
def alarms_in_service(
    key: CaseKey,
    who: Who,
    comment: Annotated[str, typer.Option(help="What was done.")] = "",
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """End the silence of a case."""
    _act(
        config,
        "in-service",
        lambda alarms, now: alarms.bring_into_service(key, who, now, comment),
    )


@alarms_app.command("flow")
def alarms_flow(
    hours: Annotated[float, typer.Option(help="Of the last hours.", min=0.1)] = 24.0,
    config: ConfigFile = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Say how often people were asked; ends with 1 when it was too often."""
    from datetime import UTC, datetime, timedelta

    from twin.service.alarms import MOST_AN_HOUR, MOST_AT_ONCE, flow

    now = datetime.now(UTC)
    with alarms_of(config) as alarms:
        audit = alarms.history(limit=1_000_000)
        cases = alarms.board.cases.values()
        told = flow(audit, now - timedelta(hours=hours), now, cases)
    flooded = told.per_hour > MOST_AN_HOUR or told.most > MOST_AT_ONCE
    if json:
        out_json(told.to_dict())
    else:
        out(f"{told.alarms} alarms in {told.hours:g} h: {told.per_hour:.1f} an hour")
        out(f"at most {told.most} in any 10 minutes; {MOST_AT_ONCE} are the limit")
        out(f"chattering: {', '.join(told.chattering) or 'none'}")
        out(f"untouched for a day: {', '.join(told.standing) or 'none'}")
    sys.exit(PROBLEMS if flooded else FINE)


@app.command()
def recalibrate(
    unit: Annotated[
        str | None, typer.Argument(help="One machine; all without it.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Judge only; write nothing.")
    ] = False,
    config: ConfigFile = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Fit the last weeks again and let the gates judge; 1 if one is rejected."""
    from calibration.registry import RegistryError
    from ingest.archive import ArchiveError, ArchiveUnavailableError
    from twin.service import models
    from twin.service.config import open_configured

    wired = load_config(config, as_json=json)
    try:
        with closing(open_configured(wired.archive, read_only=True)) as archive:
            found = list(
                models.recalibrated(
                    wired, archive, unit=unit, dry_run=dry_run, tell=note
                )
            )
    except RegistryError as error:
        stop(PROBLEMS, f"hptwin recalibrate: {error}")
    except (ArchiveError, ArchiveUnavailableError) as error:
        stop(UNREACHABLE, f"hptwin recalibrate: archive: {error}")
    if json:
        out_json({"dry_run": dry_run, "recalibrations": found})
    for one in () if json else found:
        verdict = "accepted" if one["accepted"] else "rejected"
        out(f"{one['unit']}  {verdict}  {one['reason']}")
        for gate in one["gates"]:
            out(f"  {gate['name']:<16} {gate['sentence']}")
    if not json and not dry_run and any(one["accepted"] for one in found):
        out("a running service takes up what was accepted at its next look")
    if not all(one["accepted"] for one in found):
        stop(PROBLEMS)


models_app = typer.Typer(help="The models of every unit.", no_args_is_help=True)
app.add_typer(models_app, name="models")


@models_app.command("list")
def models_list(config: ConfigFile = DEFAULT_CONFIG, json: Json = False) -> None:
    """List every version, rejected ones too, with the reason."""
    from calibration.registry import Registry, RegistryError
    from twin.service.assess import Assessor

    wired = load_config(config)
    try:
        found = Assessor(wired.plant, Registry(wired.state_dir / "models")).models()
    except RegistryError as error:
        stop(PROBLEMS, f"hptwin models: {error}")
    if json:
        from twin.service.results import plain

        out_json({"models": plain(found)})
        return
    for model in found:
        verdict = "accepted" if model["accepted"] else "rejected"
        out(f"{model['unit']}  {model['version']}  {verdict}  {model['reason']}")
    if not found:
        out("no model yet")


@models_app.command("show")
def models_show(
    unit: Annotated[str, typer.Argument(help="Whose model.")],
    version: Annotated[
        str, typer.Argument(help="As `models list` has it, or reference, or current.")
    ] = "reference",
    plot: Annotated[
        Path | None, typer.Option(help="Draw it too, into this HTML file.")
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Show one model: what was determined, how well, and what was not."""
    from calibration.registry import RegistryError
    from ingest.archive import ArchiveError, ArchiveUnavailableError
    from twin.service import models

    wired = load_config(config, as_json=json)
    try:
        found = models.shown(wired, unit, version)
        if plot is not None:
            note(f"{unit}: reads the telemetry of {found['version']} and draws it")
            _draw_model(wired, unit, version, plot)
    except RegistryError as error:
        stop(PROBLEMS, f"hptwin models show: {error}")
    except (ArchiveError, ArchiveUnavailableError) as error:
        stop(UNREACHABLE, f"hptwin models show: archive: {error}")
    except OSError as error:
        stop(PROBLEMS, f"hptwin models show: {plot}: {error}")
    if json:
        out_json(found)
        return
    for line in models.told(found):
        out(line)


def _draw_model(wired: Config, unit: str, version: str, plot: Path) -> None:
    from calibration.registry import Registry
    from twin.service.config import open_configured
    from twin.service.models import Library
    from twin.service.web import fitted

    with closing(open_configured(wired.archive, read_only=True)) as archive:
        registry = Registry(wired.state_dir / "models")
        library = Library(registry, wired.plant, archive)
        drawings = [*library.drawn(unit, version), *library.tracked(unit)]
        text = fitted.document(library.shown(unit, version), drawings)
    plot.write_text(text, encoding="utf-8")
    note(f"{plot}: {len(drawings)} drawings")


@models_app.command("rollback")
def models_rollback(
    unit: Annotated[str, typer.Argument(help="Whose model.")],
    who: Annotated[str, typer.Option(help="Your name.")],
    reason: Annotated[str, typer.Option(help="Why; the audit keeps it.")],
    role: Annotated[str, typer.Option(help="current or reference.")] = "current",
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Put the version that served before back into service."""
    from datetime import UTC, datetime

    from calibration.registry import Registry, RegistryError, Role
    from twin.service import models
    from twin.service.alarms import ActionError
    from twin.service.state import State, StateError

    wired = load_config(config)
    registry = Registry(wired.state_dir / "models")
    try:
        with closing(State.configured(wired)) as state:
            record = models.rolled_back(
                registry, state, unit, Role(role), who, reason, datetime.now(UTC)
            )
    except (ActionError, RegistryError, StateError, ValueError) as error:
        stop(PROBLEMS, f"hptwin models rollback: {error}")
    out(f"{unit}: {record.version} is in service; a running service takes it up")


fleet_app = typer.Typer(help="Many plants at once.", no_args_is_help=True)
app.add_typer(fleet_app, name="fleet")
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


@contextmanager
def _fleet(
    plants: list[Path], words: str, tls: tuple[Path | None, Path | None, Path | None]
) -> Iterator[tuple[tuple[Member, ...], Executor]]:
    """Name the plants and open who computes, or say what is wrong and end."""
    from twin.service import executors, fleet

    try:
        named = fleet.members(plants, os.environ)
        with executors.opened(words, tls=executors.Tls(*tls), tell=note) as executor:
            yield named, executor
    except (executors.ExecutorError, fleet.FleetError) as error:
        stop(USAGE, f"hptwin fleet: {error}")
    except executors.NoClusterError as error:
        stop(UNREACHABLE, f"hptwin fleet: {error}")


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


@fleet_app.command("replay")
def fleet_replay(
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
    start: Annotated[str, typer.Option("--from", help="ISO 8601, UTC.")] = "",
    end: Annotated[str, typer.Option("--to", help="ISO 8601, UTC.")] = "",
    zone: Annotated[
        str, typer.Option(help="Of times in a file that do not say theirs.")
    ] = "UTC",
    executor: ExecutorWords = "processes",
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    afresh: Annotated[
        bool, typer.Option("--afresh", help="Begin anew, whatever --out holds.")
    ] = False,
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

    first, last = moment(start, "--from"), moment(end, "--to")
    with (
        _fleet(plants, executor, (tls_ca, tls_cert, tls_key)) as (named, workers),
        _fleet_bar(len(named), quiet=json) as bar,
    ):
        outcomes = fleet.replay(
            named,
            workers,
            out_dir,
            pattern=data,
            start=first,
            stop=last,
            zone=zone,
            afresh=afresh,
            progress=bar,
            tell=note,
        )
    if json:
        out_json({"plants": [one.to_dict() for one in outcomes]})
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table("plant", "days", "delivered", "missed", "", "findings")
        for row in fleet.rows(outcomes):
            table.add_row(*row)
        Console(file=sys.stdout).print(table)
        for one in outcomes:
            if one.trouble:
                out(f"{one.name}: {one.sentence}")
    note(f"written to {out_dir}")
    found = any(one.findings for one in outcomes)
    raise typer.Exit(_worst(outcomes, PROBLEMS if found else FINE))


@fleet_app.command("recalibrate")
def fleet_recalibrate(
    plants: Plants,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Judge only; write nothing.")
    ] = False,
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

    with _fleet(plants, executor, (tls_ca, tls_cert, tls_key)) as (named, workers):
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
        verdict = "accepted" if one["accepted"] else "rejected"
        out(f"{one['plant']}  {one['unit']}  {verdict}  {one['reason']}")
    for trouble in failed:
        note(f"{trouble.name}: {trouble.sentence}")
    rejected = not all(one["accepted"] for one in found)
    raise typer.Exit(_worst(failed, PROBLEMS if rejected else FINE))


@contextmanager
def _fleet_bar(
    plants: int, *, quiet: bool
) -> Iterator[Callable[[int, int, int], None]]:
    """Show how many plants and plant-days are done, on a terminal's stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    ) as bar:
        task = bar.add_task("", total=None)

        def show(through: int, days: int, total: int) -> None:
            words = f"{through} of {plants} plants, {days:,} plant-days"
            bar.update(task, description=words, completed=days, total=total or None)

        yield show


bench_app = typer.Typer(help="Measure, against peers in one run.", no_args_is_help=True)
app.add_typer(bench_app, name="bench")


@bench_app.command("physics")
def bench_physics(
    reference: Annotated[
        Path | None, typer.Option(help="Check a table of solved points instead.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure the cycle's speed, or its agreement with solved points."""
    from twin.service.bench import physics

    try:
        found = physics.run(reference)
    except (physics.ReferenceTableError, OSError) as error:
        stop(USAGE, f"hptwin bench physics: {error}")
    if json:
        out_json(found)
    else:
        for name, value in found.items():
            out(f"{name:<28} {value}")


@bench_app.command("ingest")
def bench_ingest(
    messages: Annotated[
        int, typer.Option(min=1000, help="How many wait with the broker each time.")
    ] = 100_000,
    repeats: Annotated[int, typer.Option(min=1, help="Drains of each kind.")] = 3,
    case: Annotated[
        list[str] | None, typer.Option(help="json_20, one_value or sparkplug_20.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure the way from a real mosquitto into the archive, beside its C client."""
    from twin.service.bench import ingest

    try:
        found = ingest.run(messages, repeats, case or (), progress=note)
    except ingest.BenchError as error:
        stop(UNREACHABLE, f"hptwin bench ingest: {error}")
    if json:
        out_json(found)
    else:
        for name, value in found.items():
            out(f"{name:<28} {value}")


@bench_app.command("calibrate")
def bench_calibrate(
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the simulated plant.")] = 1,
    json: Json = False,
) -> None:
    """Measure a calibration from telemetry to parameters, beside finite differences."""
    from twin.service.bench import calibrate

    found = calibrate.run(repeats=repeats, seed=seed)
    if json:
        out_json(found)
    else:
        for name, value in found.items():
            out(f"{name:<28} {value}")


@bench_app.command("detection")
def bench_detection(
    seed: Annotated[int, typer.Option(help="The first.")] = 1,
    seeds: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    only: Annotated[
        list[str] | None, typer.Option(help="A case; may be given again.")
    ] = None,
    sensors: Annotated[str, typer.Option(help="good or ordinary.")] = "good",
    instruments: Annotated[
        str, typer.Option(help="full, pressures or water.")
    ] = "full",
    healthy_days: Annotated[
        int, typer.Option(min=28, help="How long a healthy plant is watched.")
    ] = 365,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    resume: Annotated[
        Path | None, typer.Option(help="A file of what was run, to go on with.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure what is found, how soon and under which name, on simulated plants."""
    from twin.service.bench import detection as bench

    every = [bench.HEALTHY, *bench.CASES]
    for name in only or ():
        if name not in every:
            stop(USAGE, f'--only "{name}" is none of {", ".join(every)}')
    if sensors not in ("good", "ordinary"):
        stop(USAGE, f'--sensors "{sensors}" is none of good, ordinary')
    if instruments not in ("full", "pressures", "water"):
        stop(USAGE, f'--instruments "{instruments}" is none of full, pressures, water')
    figures, promises = bench.curve(
        only or every,
        range(seed, seed + seeds),
        bench.How(sensors, instruments, healthy_days),
        workers=workers,
        resume=resume,
    )
    broken = [name for name, kept in promises.items() if not kept]
    if json:
        out_json({**figures, "broken": broken})
    else:
        out(bench.table(figures))
        for name in broken:
            out(f"not met: {name}")


@bench_app.command("ledger")
def bench_ledger(
    seed: Annotated[int, typer.Option(help="The first.")] = 1,
    seeds: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    days: Annotated[int, typer.Option(min=28, help="Length of a year.")] = 365,
    minutes: Annotated[
        int, typer.Option(min=5, max=60, help="Length of an interval.")
    ] = 30,
    cold: Annotated[
        bool, typer.Option("--cold", help="With a third heat pump that cools offices.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    resume: Annotated[
        Path | None, typer.Option(help="A file of what was run, to go on with.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure the heat ledger against the truth of simulated years."""
    from twin.service.bench import ledger as bench

    if 1440 % minutes:
        stop(USAGE, f"--minutes {minutes} does not divide a day; such as 10 or 30")
    figures, promises = bench.measured(
        range(seed, seed + seeds),
        bench.How(days, minutes, cold),
        workers=workers,
        resume=resume,
    )
    broken = [name for name, kept in promises.items() if not kept]
    if json:
        out_json({**figures, "broken": broken})
    else:
        out(bench.table(figures))
        for name in broken:
            out(f"not met: {name}")


@bench_app.command("replay")
def bench_replay(
    days: Annotated[int, typer.Option(min=40, help="Length of the history.")] = 365,
    minutes: Annotated[int, typer.Option(min=1, help="Between two readings.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the simulated plant.")] = 1,
    folder: Annotated[
        Path | None, typer.Option(help="Keep the history here, or take it from here.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure a year of one-minute data through everything, beside pandas."""
    from twin.service.bench import replay

    found = replay.run(
        days=days,
        minutes=minutes,
        seed=seed,
        folder=folder,
        progress=Bar("days", quiet=json),
    )
    if json:
        out_json(found)
    else:
        for name, value in found.items():
            out(f"{name:<28} {value}")


@bench_app.command("fleet")
def bench_fleet(
    plants: Annotated[int, typer.Option(min=2, help="How many.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the first.")] = 1,
    days: Annotated[int, typer.Option(min=40, help="Length of each history.")] = 365,
    minutes: Annotated[int, typer.Option(min=1, help="Between two readings.")] = 30,
    workers: Annotated[int, typer.Option(min=2, help="Processes of each kind.")] = 2,
    folder: Annotated[
        Path | None, typer.Option(help="Keep the plants here, or take them from here.")
    ] = None,
    kills_only: Annotated[
        bool, typer.Option("--kills-only", help="Leave out the runs without a kill.")
    ] = False,
    resume: Annotated[
        Path | None, typer.Option(help="A file of what was run, to go on with.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure a fleet by processes and by Dask, a killed worker included."""
    from twin.service.bench import fleet as bench

    figures, promises = bench.run(
        count=plants,
        seed=seed,
        how=bench.How(days, minutes, workers),
        folder=folder,
        undisturbed=not kills_only,
        resume=resume,
    )
    broken = [name for name, kept in promises.items() if not kept]
    if json:
        out_json({**figures, "broken": broken})
    else:
        for name, value in figures.items():
            out(f"{name:<28} {value}")
        for name in broken:
            out(f"not met: {name}")


# --- what several commands need ----------------------------------------------


def moment(text: str, option: str) -> datetime | None:
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


class Bar:
    """A progress bar on a terminal's stderr, silence elsewhere."""

    def __init__(self, what: str, *, quiet: bool = False) -> None:
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        self._bar = Progress(
            *Progress.get_default_columns(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
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


@contextmanager
def service_until_done(end: Callable[[], None]) -> Iterator[None]:
    """End a service however its waiting ends; Ctrl-C is a clean end."""
    try:
        yield
    except KeyboardInterrupt:
        note("ending ...")
    finally:
        end()


@contextmanager
def alarms_of(config: Path) -> Iterator[Alarms]:
    """Open the alarms of a configuration."""
    from twin.service.alarms import Alarms
    from twin.service.state import State, StateError

    wired = load_config(config)
    try:
        with closing(State.configured(wired)) as state:
            yield Alarms(state)
    except StateError as error:
        stop(PROBLEMS, f"hptwin alarms: {error}")


def _act(config: Path, verb: str, action: Callable[[Alarms, datetime], object]) -> None:
    from datetime import UTC, datetime

    from twin.service.alarms import ActionError

    with alarms_of(config) as alarms:
        try:
            action(alarms, datetime.now(UTC))
        except ActionError as error:
            stop(PROBLEMS, f"hptwin alarms {verb}: {error}")
    out("done")


def main() -> None:
    """Run the command line."""
    # The fits are small: threads of the linear algebra only get in their way,
    # and would make the order of a sum depend on the machine.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
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
