"""Before a page that others reach begins, there is somebody who may come in."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import servers

from twin.service.config import ArchiveConfig, WebConfig, load
from twin.service.run import Service
from twin.service.state import State
from twin.service.users import Role, Users
from twin.service.web.server import PublicAddressError

DEPLOY = servers.MOSQUITTO_CONF.parent
PASSWORD = "the first of all passwords"  # noqa: S105


def first_user(state: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the script as the containers do."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("HPTWIN")}
    environ |= {
        "HPTWIN": str(Path(sys.executable).with_name("hptwin")),
        "HPTWIN_STATE__DIR": str(state),
    }
    return subprocess.run(
        ["sh", str(DEPLOY / "first-user.sh"), str(DEPLOY / "plant.toml"), *words],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_there_is_an_admin_before_the_first_start_and_a_token_at_each(
    mosquitto: servers.Server, tmp_path: Path
) -> None:
    """Without anybody the service does not listen to others; a second start adds none.

    It does not take the door from whoever has changed it since, and the token of
    the start before ends.
    """
    state, password, token = (tmp_path / n for n in ("state", "password", "token"))
    state.mkdir()
    password.write_text(PASSWORD + "\n", "utf-8")
    loaded = load(DEPLOY / "plant.toml", {})
    config = replace(
        loaded,
        mqtt=replace(loaded.mqtt, port=mosquitto.port),
        archive=ArchiveConfig(path=tmp_path / "archive"),
        state_dir=state,
        web=WebConfig(host="0.0.0.0", port=0),  # noqa: S104  what is refused
    )
    service = Service(config)
    with pytest.raises(PublicAddressError, match="no users yet"):
        service.start()
    service.stop()

    assert first_user(state, str(password)).returncode == 0
    now = datetime.now(UTC)
    with closing(State.open(state / "state.sqlite")) as kept:
        users = Users(kept)
        assert {a.name: a.role for a in users.accounts().values()} == {"admin": "admin"}
        assert users.login("admin", PASSWORD, "10.0.0.1", now)
        old = users.issue("prometheus", Role.VIEWER, 30, "admin", now)
        users.set_password("admin", "another password since", "admin", now)

    done = first_user(state, str(password), str(token))
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(token.stat().st_mode) == 0o444
    with closing(State.open(state / "state.sqlite")) as kept:
        users = Users(kept)
        assert users.login("admin", "another password since", "10.0.0.1", now)
        assert users.of_token(old, now) is None
        almost = now + timedelta(days=365)
        prometheus = users.of_token(token.read_text("utf-8").strip(), almost)
    assert prometheus is not None
    assert prometheus.role is Role.VIEWER


def test_the_shell_has_nothing_to_warn_of() -> None:
    """By shellcheck."""
    command = [servers.program("shellcheck"), str(DEPLOY / "first-user.sh")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
