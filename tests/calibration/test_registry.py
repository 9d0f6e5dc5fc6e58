"""A model that was changed after it was written is never used."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from calibration.registry import Registry, RegistryError, Role, digest

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def save(registry: Registry, value: float, accepted: bool = True, days: int = 0) -> str:
    """Save a version that holds one number."""
    return registry.save(
        "hp1",
        Role.CURRENT,
        {"condenser": value},
        created=NOW + timedelta(days=days),
        provenance={"windows": 1000},
        gates=[{"name": "step", "passed": accepted}],
        accepted=accepted,
        reason="because",
    ).version


def test_what_was_saved_comes_back(tmp_path: Path):
    """With its provenance, its gates and its reason."""
    registry = Registry(tmp_path)
    save(registry, 0.9)
    record = Registry(tmp_path).active("hp1", Role.CURRENT)

    assert record is not None
    assert record.model == {"condenser": 0.9}
    assert record.created == NOW
    assert record.provenance["windows"] == 1000
    assert record.gates[0]["name"] == "step"
    assert "numpy" in record.provenance["packages"]


def test_there_may_be_no_model_yet(tmp_path: Path):
    """Unknown is an answer."""
    assert Registry(tmp_path).active("hp1", Role.REFERENCE) is None
    assert Registry(tmp_path).history("hp1") == []


def test_a_rejected_candidate_is_kept_and_not_used(tmp_path: Path):
    """The good model stays, and the reason is on record."""
    registry = Registry(tmp_path)
    good = save(registry, 0.9)
    save(registry, 0.1, accepted=False, days=7)
    active = registry.active("hp1", Role.CURRENT)

    assert active is not None
    assert active.version == good
    assert [r.accepted for r in registry.history("hp1")] == [True, False]


def test_rollback_restores_the_one_before(tmp_path: Path):
    """And refuses where there is none."""
    registry = Registry(tmp_path)
    first = save(registry, 0.9)
    save(registry, 0.8, days=7)

    assert registry.rollback("hp1", Role.CURRENT).version == first
    with pytest.raises(RegistryError, match="no earlier current model"):
        registry.rollback("hp1", Role.CURRENT)


def test_the_parent_is_the_model_that_served_before(tmp_path: Path):
    """A line of models can be walked back."""
    registry = Registry(tmp_path)
    first = save(registry, 0.9)
    second = registry.load("hp1", save(registry, 0.8, days=7))

    assert second.provenance["parent"] == first


@pytest.mark.parametrize(
    "how", ["edited", "truncated", "foreign", "renamed", "schema", "more", "less"]
)
def test_a_file_that_is_not_as_written_is_refused(tmp_path: Path, how: str):
    """By digest, by format, by name: and the message says what to do."""
    registry = Registry(tmp_path)
    version = save(registry, 0.9)
    path = tmp_path / "hp1" / f"{version}.json"
    file = json.loads(path.read_text())
    if how == "edited":
        file["body"]["model"]["condenser"] = 1.0
    elif how == "foreign":
        file = {"model": 1}
    elif how == "schema":
        file["schema"] = 99
    elif how in ("more", "less"):
        # Whoever wrote this knew how to make a digest.
        if how == "more":
            file["body"]["code"] = "import os"
        else:
            del file["body"]["gates"]
        file["sha256"] = digest(file["body"])
    elif how == "renamed":
        version = "current-00009"
    text = json.dumps(file)
    target = path.with_name(f"{version}.json")
    target.write_text(text[: len(text) // 2] if how == "truncated" else text)
    message = {
        "edited": "does not match its SHA-256",
        "truncated": "not a whole JSON file",
        "foreign": "not a model of this twin",
        "renamed": "not what its name says",
        "schema": "schema 99",
        "more": "more or less than that is code",
        "less": "more or less than that is gates",
    }[how]

    with pytest.raises(RegistryError, match=message):
        registry.load("hp1", version)


TIMES = int(os.environ.get("HPTWIN_KILLS", "1"))
FORK = multiprocessing.get_context("fork")


class Steps:
    """Signal 9 to one's own process, before or after the n-th thing done to disk.

    That is each file opened, read ones too, each synced and each replaced.
    """

    def __init__(self, fatal: int) -> None:
        self.fatal, self.done = fatal, 0

    def __call__(self, of: Callable[..., Any]) -> Callable[..., Any]:
        """Return what counts a call as two steps."""

        def call(*given: Any, **named: Any) -> Any:
            self.step()
            answer = of(*given, **named)
            self.step()
            return answer

        return call

    def step(self) -> None:
        """Die if this is the one."""
        self.done += 1
        if self.done == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)


def dying(root: Path, fatal: int, act: Callable[[Registry], object]) -> int | None:
    """Do something to a registry in a process that is killed at a step of it."""

    def run() -> None:
        steps = Steps(fatal)
        Path.open, Path.replace = steps(Path.open), steps(Path.replace)  # type: ignore[method-assign]
        os.fsync = steps(os.fsync)
        act(Registry(root))

    child = FORK.Process(target=run)
    child.start()
    child.join()
    return child.exitcode


def in_place(path: Path, data: bytes) -> None:
    """Write as one should not, for the control: the file itself, in two halves."""
    with path.open("wb") as file:
        file.write(data[: len(data) // 2])
        file.flush()
        os.fsync(file.fileno())
        file.write(data[len(data) // 2 :])


def outcomes(
    root: Path, act: Callable[[Registry], object], times: int = TIMES
) -> list[object]:
    """Kill an act at every step, some times each; return which model served after."""
    seen: list[object] = []
    whole = Registry(root / "whole")
    save(whole, 0.9)
    save(whole, 0.8, days=7)
    for fatal in itertools.count(1):
        for time in range(times):
            registry = Registry(root / f"{fatal}-{time}")
            shutil.copytree(whole.root, registry.root)
            code = dying(registry.root, fatal, act)
            if code == 0:
                return seen  # it was through before that step
            assert code == -signal.SIGKILL
            try:
                active = registry.active("hp1", Role.CURRENT)
                assert active is not None
                seen.append(active.model["condenser"])
                registry.history("hp1")
                if not time:
                    assert save(registry, 0.6, days=21) > active.version
            except RegistryError as error:
                seen.append(error)
    raise AssertionError


@pytest.mark.parametrize(
    ("act", "new", "steps"),
    [
        (lambda registry: save(registry, 0.7, days=14), 0.7, 20),
        (lambda registry: registry.rollback("hp1", Role.CURRENT), 0.9, 12),
    ],
    ids=["promotion", "rollback"],
)
def test_signal_9_leaves_the_old_model_or_the_new_one(
    tmp_path: Path, act: Callable[[Registry], object], new: float, steps: int
):
    """At every step, and what is left over disturbs no later promotion."""
    seen = outcomes(tmp_path, act)

    assert len(seen) >= TIMES * steps
    assert set(seen) == {0.8, new}


def test_a_pointer_that_is_written_in_place_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The control: the same kills leave neither where nothing is replaced whole."""

    def act(registry: Registry) -> None:
        monkeypatch.setattr("calibration.registry._write", in_place)
        save(registry, 0.7, days=14)

    assert any(isinstance(found, RegistryError) for found in outcomes(tmp_path, act, 1))


def test_equal_models_are_equal_bytes(tmp_path: Path):
    """Replay is live: nothing of the wall clock or of chance gets in."""
    for name in ("a", "b"):
        save(Registry(tmp_path / name), 0.9)

    files = [sorted((tmp_path / n / "hp1").iterdir()) for n in ("a", "b")]
    assert [p.read_bytes() for p in files[0]] == [p.read_bytes() for p in files[1]]


def test_a_unit_cannot_leave_the_registry(tmp_path: Path):
    """A name from a configuration is not a path."""
    registry = Registry(tmp_path / "models")
    registry.save("../evil", Role.CURRENT, {}, created=NOW)

    assert [p.name for p in tmp_path.iterdir()] == ["models"]
    with pytest.raises(RegistryError, match="cannot name a unit"):
        registry.save("..", Role.CURRENT, {}, created=NOW)
