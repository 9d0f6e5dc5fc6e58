"""Which plant a command is about: ``--config``, and ``--shard`` for a part of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from twin.service.cli.exits import BAD_CONFIGURATION, USAGE, stop
from twin.service.cli.terminal import note, out_json

if TYPE_CHECKING:
    from twin.service.config import Config, ConfigError
    from twin.service.shards import Shard

_CONFIG = typer.Option(
    "--config", "-c", envvar="HPTWIN_CONFIG", help="The plant's configuration."
)
ConfigFile = Annotated[Path, _CONFIG]
MaybeConfigFile = Annotated[Path | None, _CONFIG]
DEFAULT_CONFIG = Path("plant.toml")
ShardName = Annotated[
    str,
    typer.Option(
        "--shard", envvar="HPTWIN_SHARD", help="Read a part of the units, such as 0/4."
    ),
]


def load_config(path: Path, *, as_json: bool = False) -> Config:
    """Read a plant's configuration, or say all that is wrong with it and end."""
    from twin.service.config import ConfigError, load

    try:
        return load(path, os.environ)
    except ConfigError as error:
        _refuse(error, as_json=as_json)


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
        _refuse(error, as_json=as_json)


def _refuse(error: ConfigError, *, as_json: bool) -> NoReturn:
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
