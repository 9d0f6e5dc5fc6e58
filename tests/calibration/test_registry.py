"""A model that was changed after it was written is never used."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from calibration.registry import Registry, RegistryError, Role

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


@pytest.mark.parametrize("how", ["edited", "truncated", "foreign", "renamed", "schema"])
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
    }[how]

    with pytest.raises(RegistryError, match=message):
        registry.load("hp1", version)


def test_a_crash_before_promotion_leaves_the_old_model(tmp_path: Path):
    """The pointer moves last: a version that is merely there is not active."""
    registry = Registry(tmp_path)
    save(registry, 0.9)
    pointer = tmp_path / "hp1" / "active.json"
    before = pointer.read_bytes()
    save(registry, 0.8, days=7)
    pointer.write_bytes(before)  # the power failed between the two writes
    active = registry.active("hp1", Role.CURRENT)

    assert active is not None
    assert active.model == {"condenser": 0.9}
    assert save(registry, 0.7, days=14) == "current-00003"


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
