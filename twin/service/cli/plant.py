"""From the first ``plant.toml`` to the service beside the plant."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twin.service.cli.configuration import (
    DEFAULT_CONFIG,
    ConfigFile,
    ShardName,
    load_config,
    shard_of,
    share_config,
)
from twin.service.cli.exits import (
    BAD_CONFIGURATION,
    FINE,
    PROBLEMS,
    UNREACHABLE,
    USAGE,
    exit_on,
    stop,
)
from twin.service.cli.terminal import Json, note, out, out_json, out_lines

if TYPE_CHECKING:
    from twin.service import first


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
        from twin.service.log import only_errors
        from twin.service.online import online as look
        from twin.service.run import utc_now

        note(f"listening for {seconds:g} s ...")
        with only_errors():
            seen = look(wired, utc_now(), seconds=seconds, write_test=write_test)
        if json:
            out_json(seen.to_dict())
        else:
            out_lines(seen.lines())
        raise typer.Exit(FINE if seen.fine else PROBLEMS)
    from twin.service.check import report, units

    found = report(wired)
    own = [] if part is None else [u for u in units(wired.plant) if part.owns(u)]
    if json:
        out_json(found.to_dict() | ({} if part is None else {"shard": own}))
    else:
        out_lines(found.lines())
        if part is not None:
            out()
            out(f"shard {part} reads {', '.join(own) or 'no unit'}")
    raise typer.Exit(PROBLEMS if found.warnings else FINE)


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
        out_lines(vocabulary.lines(chosen))


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
    guesses = [] if from_csv is None else _guesses(from_csv)
    folder.mkdir(parents=True, exist_ok=True)
    target.write_text(first.plant_toml(answers, guesses), encoding="utf-8")
    out(str(target))
    note(f"Next: fill in what is marked TODO, then: hptwin check -c {target}")


def _guesses(log: Path) -> list[first.Guess]:
    """Guess, aloud, which point each column of a file is."""
    from twin.service import first

    with exit_on(f"init: {log} cannot be read", USAGE, OSError, UnicodeDecodeError):
        guesses = first.guess(first.header(log))
    for each in guesses:
        note(each.sentence())
    return guesses


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
    from twin.service.web.server import PublicAddressError

    to_stderr()
    heap.give_back()
    wired, part = load_config(config), shard_of(shard)
    if part is not None:
        share_config(wired, part)
    service, supervisor = Service(wired, shard=part), Supervisor.of(os.environ)
    with (
        exit_on("run", BAD_CONFIGURATION, PublicAddressError),
        exit_on("run", UNREACHABLE, OSError, StateError),
    ):
        try:
            service.start()
        except (PublicAddressError, OSError, StateError) as error:
            service.stop()
            if getattr(error, "errno", None) == errno.EADDRINUSE:
                remedy = f"end who has it, or set another port under [web] in {config}"
                stop(UNREACHABLE, f"hptwin run: {error}; {remedy}")
            raise
    signal.signal(signal.SIGTERM, lambda *_: service.end())
    note(f"page {service.page.url}; Ctrl-C ends")
    supervisor.ready()
    supervisor.watch(service.deaths, service.problems)
    try:
        service.wait()
    except KeyboardInterrupt:
        note("ending ...")
    finally:
        supervisor.stopping()
        service.stop()
