"""The units are what systemd takes without a word, and let little through.

No systemd runs here: they are verified and rated, not started. What the service
says to its socket is held in tests/service/test_watchdog.py.
"""

from __future__ import annotations

import configparser
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import servers

DEPLOY = servers.MOSQUITTO_CONF.parent
UNITS = ("hptwin.service", "hptwin-backup.service", "hptwin-backup.timer")


def settings(name: str) -> dict[str, dict[str, str]]:
    """Return a unit's settings; of those that stand twice, the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(DEPLOY / name)
    return {section: dict(parser[section]) for section in parser.sections()}


def verified(folder: Path, name: str) -> str:
    """Return what systemd has to say against a unit."""
    tool = servers.program("systemd-analyze")
    done = subprocess.run(
        [tool, "verify", str(folder / name)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr + ("" if done.returncode == 0 else f"exit {done.returncode}")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Copy the units, with what is installed in /opt where it is here."""
    places = {
        "/opt/hptwin/.venv/bin/hptwin": str(Path(sys.executable).with_name("hptwin")),
        "/opt/hptwin/deploy/": f"{DEPLOY}/",
    }
    for name in UNITS:
        text = (DEPLOY / name).read_text("utf-8")
        for there, now in places.items():
            text = text.replace(there, now)
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path


@pytest.mark.parametrize("name", UNITS)
def test_systemd_takes_it_without_a_word(here: Path, name: str) -> None:
    """Every key and value is known; a misspelt key is not."""
    assert verified(here, name) == ""
    unit = here / name
    section = "[Timer]" if name.endswith("timer") else "[Service]"
    text = unit.read_text("utf-8").replace(section, f"{section}\nWatchdogSecs=5")
    unit.write_text(text, "utf-8")
    assert "Unknown key 'WatchdogSecs'" in verified(here, name)


@pytest.mark.parametrize(
    ("name", "worst"), [("hptwin.service", 15), ("hptwin-backup.service", 10)]
)
def test_little_of_the_machine_is_open_to_it(
    here: Path, name: str, worst: int, tmp_path: Path
) -> None:
    """Ten times systemd's own exposure level; a unit that says nothing has 96."""
    tool = servers.program("systemd-analyze")
    rate = [tool, "security", "--offline=true", f"--threshold={worst}"]
    done = subprocess.run([*rate, str(here / name)], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode()
    open_wide = tmp_path / "open.service"
    open_wide.write_text("[Service]\nExecStart=/bin/true\n", "utf-8")
    done = subprocess.run([*rate, str(open_wide)], capture_output=True, check=False)
    assert done.returncode != 0


def test_the_watchdog_is_asked_for_and_outlasts_the_end() -> None:
    """A clean end takes less than a watchdog's patience, and is not taken for one."""
    service = settings("hptwin.service")["Service"]
    assert service["Type"] == "notify"
    assert service["NotifyAccess"] == "main"
    assert int(service["WatchdogSec"]) > int(service["TimeoutStopSec"])
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"].split() == ["2", "78"]


def test_the_backup_is_of_what_the_service_keeps() -> None:
    """The same plant.toml, the same folders, the same user."""
    ours, backup = (
        settings(name)["Service"]
        for name in ("hptwin.service", "hptwin-backup.service")
    )
    assert shlex.split(ours["ExecStart"])[-1] == "/etc/hptwin/plant.toml"
    assert shlex.split(backup["ExecStart"])[1] == "/etc/hptwin/plant.toml"
    for key in ("User", "Group", "StateDirectory", "CacheDirectory", "UMask"):
        assert backup[key] == ours[key]
    texts = [(DEPLOY / n).read_text("utf-8") for n in UNITS[:2]]
    for line in (
        "Environment=HPTWIN_STATE__DIR=/var/lib/hptwin\n",
        "Environment=HPTWIN_ARCHIVE__PATH=/var/lib/hptwin/archive\n",
    ):
        assert all(line in text for text in texts)
