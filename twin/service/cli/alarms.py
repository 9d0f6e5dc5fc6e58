"""The alarms of the service: what a person does on the page, by command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twin.service.cli.configuration import DEFAULT_CONFIG, ConfigFile, load_config
from twin.service.cli.exits import FINE, PROBLEMS, exit_on, must_be_of
from twin.service.cli.terminal import Json, note, out, out_json

if TYPE_CHECKING:
    from datetime import datetime

    from twin.service.alarms import Alarms

app = typer.Typer(help="The alarms of the service.", no_args_is_help=True)
CaseKey = Annotated[str, typer.Argument(help="As `alarms list` shows it.")]
Who = Annotated[str, typer.Option(help="Your name.")]
Reason = Annotated[str, typer.Option(help="Why; the next shift will ask.")]


@app.command("list")
def list_(config: ConfigFile = DEFAULT_CONFIG, json: Json = False) -> None:
    """List the open cases, dearest first, and what is out of service."""
    with _alarms_of(config) as alarms:
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


@app.command()
def ack(
    key: CaseKey,
    who: Who,
    comment: Annotated[str, typer.Option(help="What you think of it.")] = "",
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Take note of a case."""
    with _acting(config, "ack") as (alarms, now):
        alarms.acknowledge(key, who, now, comment)


@app.command()
def shelve(
    key: CaseKey,
    who: Who,
    reason: Reason,
    hours: Annotated[float, typer.Option(help="For how long.", min=0.0)] = 24.0,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Put a case out of sight for some hours; it comes back by itself."""
    from datetime import timedelta

    with _acting(config, "shelve") as (alarms, now):
        alarms.shelve(key, who, now, now + timedelta(hours=hours), reason)


@app.command()
def unshelve(key: CaseKey, who: Who, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Bring a shelved case back before its time."""
    with _acting(config, "unshelve") as (alarms, now):
        alarms.unshelve(key, who, now)


@app.command()
def close(
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
    must_be_of(known, "hptwin alarms close: --as", closure)
    with _acting(config, "close") as (alarms, now):
        alarms.close(key, who, now, reason, Closure(closure))


@app.command()
def out_of_service(
    key: CaseKey, who: Who, reason: Reason, config: ConfigFile = DEFAULT_CONFIG
) -> None:
    """Silence a case until somebody brings it back."""
    with _acting(config, "out-of-service") as (alarms, now):
        alarms.take_out_of_service(key, who, now, reason)


@app.command()
def in_service(
    key: CaseKey,
    who: Who,
    comment: Annotated[str, typer.Option(help="What was done.")] = "",
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """End the silence of a case."""
    with _acting(config, "in-service") as (alarms, now):
        alarms.bring_into_service(key, who, now, comment)


@app.command()
def flow(
    hours: Annotated[float, typer.Option(help="Of the last hours.", min=0.1)] = 24.0,
    config: ConfigFile = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Say how often people were asked; ends with 1 when it was too often."""
    from datetime import UTC, datetime, timedelta

    from twin.service.alarms import MOST_AN_HOUR, MOST_AT_ONCE
    from twin.service.alarms import flow as counted

    now = datetime.now(UTC)
    with _alarms_of(config) as alarms:
        audit = alarms.history(limit=1_000_000)
        cases = alarms.board.cases.values()
        told = counted(audit, now - timedelta(hours=hours), now, cases)
    flooded = told.per_hour > MOST_AN_HOUR or told.most > MOST_AT_ONCE
    if json:
        out_json(told.to_dict())
    else:
        out(f"{told.alarms} alarms in {told.hours:g} h: {told.per_hour:.1f} an hour")
        out(f"at most {told.most} in any 10 minutes; {MOST_AT_ONCE} are the limit")
        out(f"chattering: {', '.join(told.chattering) or 'none'}")
        out(f"untouched for a day: {', '.join(told.standing) or 'none'}")
    raise typer.Exit(PROBLEMS if flooded else FINE)


@app.command("test")
def try_ways(config: ConfigFile = DEFAULT_CONFIG, json: Json = False) -> None:
    """Send everybody who would be told a message that nothing is wrong.

    Exit code 0: each arrived. 1: one did not, or there is nobody.
    """
    from datetime import UTC, datetime

    from twin.service.reach import tried

    told = tried(load_config(config), datetime.now(UTC))
    if json:
        out_json({"ways": told})
    for name, why in () if json else told.items():
        out(f"{name}: {why or 'arrived'}")
    if not told:
        note("nobody is told: [notify] names no address, Alertmanager or watchdog")
    raise typer.Exit(PROBLEMS if not told or any(told.values()) else FINE)


@contextmanager
def _alarms_of(config: Path) -> Iterator[Alarms]:
    """Open the alarms of a configuration."""
    from twin.service.alarms import Alarms
    from twin.service.state import State, StateError

    wired = load_config(config)
    with (
        exit_on("alarms", PROBLEMS, StateError),
        closing(State.configured(wired)) as state,
    ):
        yield Alarms(state)


@contextmanager
def _acting(config: Path, verb: str) -> Iterator[tuple[Alarms, datetime]]:
    """Open the alarms for one act at this moment, and say that it is done."""
    from datetime import UTC, datetime

    from twin.service.alarms import ActionError

    with _alarms_of(config) as alarms, exit_on(f"alarms {verb}", PROBLEMS, ActionError):
        yield alarms, datetime.now(UTC)
    out("done")
