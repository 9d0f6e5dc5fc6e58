"""The models of the machines: drawn, fitted again, listed, rolled back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twin.service.cli.alarms import Who
from twin.service.cli.configuration import DEFAULT_CONFIG, ConfigFile, load_config
from twin.service.cli.exits import PROBLEMS, UNREACHABLE, USAGE, exit_on, stop
from twin.service.cli.terminal import Json, note, out, out_json, out_lines

if TYPE_CHECKING:
    from ingest.archive import Archive
    from twin.service.config import Config

DryRun = Annotated[bool, typer.Option("--dry-run", help="Judge only; write nothing.")]
Whose = Annotated[str, typer.Argument(help="Whose model.")]
app = typer.Typer(help="The models of every unit.", no_args_is_help=True)


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
    from twin.service.plot import draw

    machines = {machine.id: machine for machine in load_config(config).plant.machines}
    name = unit or next(iter(machines))
    if name not in machines:
        near = nearest(name, list(machines)) or ", ".join(machines)
        stop(USAGE, f'hptwin plot: "{name}" is no heat pump of this plant; try {near}')
    with exit_on("plot", PROBLEMS, ValueError):
        out_lines(str(path) for path in draw(from_nameplate(machines[name]), out_dir))


def recalibrate(
    unit: Annotated[
        str | None, typer.Argument(help="One machine; all without it.")
    ] = None,
    dry_run: DryRun = False,
    config: ConfigFile = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Fit the last weeks again and let the gates judge; 1 if one is rejected."""
    from calibration.registry import RegistryError
    from twin.service import models

    wired = load_config(config, as_json=json)
    with (
        exit_on("recalibrate", PROBLEMS, RegistryError),
        _archive_of(wired, "recalibrate") as archive,
    ):
        found = list(
            models.recalibrated(wired, archive, unit=unit, dry_run=dry_run, tell=note)
        )
    if json:
        out_json({"dry_run": dry_run, "recalibrations": found})
    for one in () if json else found:
        out(f"{one['unit']}  {verdict(one)}")
        for gate in one["gates"]:
            out(f"  {gate['name']:<16} {gate['sentence']}")
    if not json and not dry_run and any(one["accepted"] for one in found):
        out("a running service takes up what was accepted at its next look")
    if not all(one["accepted"] for one in found):
        stop(PROBLEMS)


def verdict(judged: Mapping[str, Any]) -> str:
    """Return what the gates said of a model, and why."""
    return f"{'accepted' if judged['accepted'] else 'rejected'}  {judged['reason']}"


@app.command("list")
def list_(config: ConfigFile = DEFAULT_CONFIG, json: Json = False) -> None:
    """List every version, rejected ones too, with the reason."""
    from calibration.registry import Registry, RegistryError
    from twin.service.assess import Assessor

    wired = load_config(config)
    with exit_on("models", PROBLEMS, RegistryError):
        found = Assessor(wired.plant, Registry(wired.state_dir / "models")).models()
    if json:
        from twin.service.results import plain

        out_json({"models": plain(found)})
        return
    for model in found:
        out(f"{model['unit']}  {model['version']}  {verdict(model)}")
    if not found:
        out("no model yet")


@app.command()
def show(
    unit: Whose,
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
    from twin.service import models

    wired = load_config(config, as_json=json)
    with (
        exit_on("models show", PROBLEMS, RegistryError),
        exit_on(f"models show: {plot}", PROBLEMS, OSError),
    ):
        found = models.shown(wired, unit, version)
        if plot is not None:
            note(f"{unit}: reads the telemetry of {found['version']} and draws it")
            _draw(wired, unit, version, plot)
    if json:
        out_json(found)
    else:
        out_lines(models.told(found))


def _draw(wired: Config, unit: str, version: str, plot: Path) -> None:
    """Draw a model over the telemetry it was learnt from, into an HTML file."""
    from calibration.registry import Registry
    from twin.service.models import Library
    from twin.service.web import fitted

    with _archive_of(wired, "models show") as archive:
        registry = Registry(wired.state_dir / "models")
        library = Library(registry, wired.plant, archive)
        drawings = [*library.drawn(unit, version), *library.tracked(unit)]
        text = fitted.document(library.shown(unit, version), drawings)
    plot.write_text(text, encoding="utf-8")
    note(f"{plot}: {len(drawings)} drawings")


@contextmanager
def _archive_of(wired: Config, command: str) -> Iterator[Archive]:
    """Open a plant's archive, or say what is wrong with it and end."""
    from ingest.archive import ArchiveError, ArchiveUnavailableError
    from twin.service.config import open_configured

    with (
        exit_on(
            f"{command}: archive", UNREACHABLE, ArchiveError, ArchiveUnavailableError
        ),
        closing(open_configured(wired.archive, read_only=True)) as archive,
    ):
        yield archive


@app.command()
def rollback(
    unit: Whose,
    who: Who,
    reason: Annotated[str, typer.Option(help="Why; the audit keeps it.")],
    role: Annotated[str, typer.Option(help="current or reference.")] = "current",
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Put the version that served before back into service."""
    from datetime import UTC, datetime

    from calibration.registry import Registry, RegistryError, Role
    from twin.service import models
    from twin.service.state import State, StateError

    wired = load_config(config)
    registry = Registry(wired.state_dir / "models")
    with (
        exit_on("models rollback", PROBLEMS, RegistryError, StateError, ValueError),
        closing(State.configured(wired)) as state,
    ):
        record = models.rolled_back(
            registry, state, unit, Role(role), who, reason, datetime.now(UTC)
        )
    out(f"{unit}: {record.version} is in service; a running service takes it up")
