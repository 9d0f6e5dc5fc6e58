"""Who may come in: people with passwords, programs with tokens."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twin.service.cli.configuration import DEFAULT_CONFIG, ConfigFile, load_config
from twin.service.cli.exits import PROBLEMS, exit_on
from twin.service.cli.terminal import Json, note, out, out_json

if TYPE_CHECKING:
    from datetime import datetime

    from twin.service.users import Users

app = typer.Typer(help="Who may come in.", no_args_is_help=True)
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        help="Where the password stands; - is standard input. Else it is asked for."
    ),
]
RoleName = Annotated[str, typer.Option(help="viewer, operator or admin.")]
Named = Annotated[str, typer.Argument(help="The name.")]


@app.command()
def add(
    name: Named,
    role: RoleName = "viewer",
    password_file: PasswordFile = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Let a person in; the first one is an admin."""
    from twin.service.users import Role

    with _users_of(config) as (users, by, now):
        users.add(name, _password(password_file), Role(role), by, now)
    out(f"{name} may come in as {role}")


@app.command("list")
def list_(config: ConfigFile = DEFAULT_CONFIG, json: Json = False) -> None:
    """List people and programs; neither passwords nor tokens are known."""
    with _users_of(config) as (users, _, _):
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


@app.command()
def passwd(
    name: Named,
    password_file: PasswordFile = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Give a person another password; every session of theirs ends."""
    with _users_of(config) as (users, by, now):
        users.set_password(name, _password(password_file), by, now)
    out("done")


@app.command()
def role(name: Named, role: RoleName, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Let a person do more or less, from the next request on."""
    from twin.service.users import Role

    with _users_of(config) as (users, by, now):
        users.set_role(name, Role(role), by, now)
    out("done")


@app.command()
def remove(name: Named, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Let a person in no longer; without anybody left no login is asked for."""
    with _users_of(config) as (users, by, now):
        users.remove(name, by, now, last=True)
        left = users.any()
    out("done" if left else "done; nobody is left, so no login is asked for any more")


@app.command()
def token(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    role: RoleName = "viewer",
    days: Annotated[float, typer.Option(help="How long it lasts. [d]")] = 90.0,
    revoke: Annotated[bool, typer.Option("--revoke", help="End it instead.")] = False,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Let a program in; its token is the only line on stdout, this once."""
    from twin.service.users import Role

    with _users_of(config) as (users, by, now):
        if revoke:
            users.revoke(name, by, now)
            out("done")
            return
        secret = users.issue(name, Role(role), days, by, now)
    note(f"kept nowhere; {name} sends it as: Authorization: Bearer ...")
    out(secret)


@contextmanager
def _users_of(config: Path) -> Iterator[tuple[Users, str, datetime]]:
    """Open the users of a configuration; what cannot be done ends with 1."""
    import getpass
    from datetime import UTC, datetime

    from twin.service.state import State, StateError
    from twin.service.users import Users

    wired = load_config(config)
    with (
        exit_on("users", PROBLEMS, StateError, ValueError),
        closing(State.configured(wired)) as state,
    ):
        yield Users(state), f"{getpass.getuser()} on the machine", datetime.now(UTC)


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
