"""The nightly backup keeps what it should and throws away nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import servers

from ingest.archive import open_archive
from ingest.journal import Journal, Message
from twin.service.state import State

DEPLOY = servers.MOSQUITTO_CONF.parent
SCRIPT = DEPLOY / "backup.sh"
OLD = [f"hptwin-202601{day:02}T031500Z" for day in (1, 2, 3, 4)]
OTHERS = ["hptwin-of-the-old-machine", "hptwin-2026", "notes"]


def backup(
    folder: Path,
    state: Path,
    *words: str,
    hptwin: str = str(Path(sys.executable).with_name("hptwin")),
) -> subprocess.CompletedProcess[str]:
    """Run the script as the timer does."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("HPTWIN")}
    environ |= {
        "HPTWIN": hptwin,
        "HPTWIN_STATE__DIR": str(state),
        "HPTWIN_ARCHIVE__PATH": str(state / "archive"),
    }
    return subprocess.run(
        ["sh", str(SCRIPT), str(DEPLOY / "plant.toml"), str(folder), *words],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of older backups, and of what is none."""
    for name in (*OLD, *OTHERS):
        (tmp_path / "backups" / name).mkdir(parents=True)
    return tmp_path / "backups"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Return what a service keeps, with one message in it."""
    kept = tmp_path / "state"
    kept.mkdir()
    journal = Journal(kept / "journal.sqlite")
    journal.append([Message("dc/cdu1/t_hot_in", b"31.5", 1_700_000_000_000)])
    journal.close()
    State.open(kept / "state.sqlite").close()
    open_archive("parquet", directory=kept / "archive").close()
    return kept


def test_the_oldest_goes_once_the_new_one_is_whole(folder: Path, state: Path) -> None:
    """Three stay, the new one among them; foreign names are not touched."""
    done = backup(folder, state, "3")
    assert done.returncode == 0, done.stderr
    left = sorted(path.name for path in folder.iterdir())
    dated = [name for name in left if re.fullmatch(r"hptwin-\d{8}T\d{6}Z", name)]
    assert dated[:-1] == OLD[2:]
    assert (folder / dated[-1] / "manifest.json").exists()
    assert set(OTHERS) <= set(left)


@pytest.mark.parametrize("keep", ["0", "-1", "many", ""])
def test_a_number_that_is_none_throws_nothing_away(
    folder: Path, state: Path, keep: str
) -> None:
    """It is said, and nothing is done."""
    done = backup(folder, state, keep)
    assert done.returncode == 2
    assert f'KEEP is "{keep}"' in done.stderr
    assert {path.name for path in folder.iterdir()} == {*OLD, *OTHERS}


def test_a_backup_that_fails_throws_nothing_away(folder: Path, state: Path) -> None:
    """Without a new one the oldest is the best there is."""
    assert backup(folder, state, "1", hptwin="false").returncode == 1
    assert {path.name for path in folder.iterdir()} == {*OLD, *OTHERS}


def test_the_shell_has_nothing_to_warn_of() -> None:
    """By shellcheck."""
    command = [servers.program("shellcheck"), str(SCRIPT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
