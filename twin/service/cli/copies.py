"""A copy of all that the service keeps, and the way back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twin.service.cli.configuration import DEFAULT_CONFIG, ConfigFile, load_config
from twin.service.cli.exits import PROBLEMS, exit_on
from twin.service.cli.terminal import Json, note, out, out_json


def backup(
    directory: Annotated[Path, typer.Argument(help="Made here; a new one.")],
    config: ConfigFile = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Copy journal, state, archive, models and results while the service runs."""
    from twin.service import backup as copies
    from twin.service.run import utc_now

    wired = load_config(config)
    with exit_on("backup", PROBLEMS, copies.BackupError):
        made = copies.backup(wired, directory, utc_now())
    if wired.state.url:
        note("the PostgreSQL's state is in it, as an SQLite file of one moment")
    if made.archive != "parquet":
        note("the InfluxDB is not in it: back it up by its own means, now, not before")
    if json:
        out_json(made.to_dict())
    else:
        out(f"{made.directory}: {len(made.files)} files, {made.bytes} bytes")


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
    with exit_on("restore", PROBLEMS, copies.BackupError):
        found, aside = copies.restore(wired, directory, utc_now(), replace=replace)
    for path in aside:
        note(f"what was there is now {path}")
    out(f"restored {len(found.files)} files of {found.made}")
