"""What is kept of a model can be read, by a person and by a program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from calibration.model import Model
from calibration.registry import Registry, Role
from twin.heatpump import from_nameplate
from twin.service.config import load

ROOT = Path(__file__).resolve().parents[2]
PLANT = ROOT / "deploy" / "plant.toml"
NOW = datetime(2026, 1, 5, tzinfo=UTC)


def hptwin(state: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command with a state directory, off a terminal."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("HPTWIN_")}
    return subprocess.run(
        [sys.executable, "-m", "twin.service.cli", *words, "-c", str(PLANT)],
        env={**environ, "HPTWIN_STATE__DIR": str(state)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Return a state directory with one reference and one refusal."""
    (machine,) = (m for m in load(PLANT, {}).plant.machines if m.id == "hp1")
    pump = from_nameplate(machine)
    free = ("condenser_ua_w_k", "isentropic_efficiency", "motor_efficiency")
    values = {name: float(getattr(pump.parameters, name)) for name in free}
    model = Model(
        unit="hp1",
        role=Role.REFERENCE,
        physics=pump,
        given="compressor_speed_hz",
        outputs=("compressor_power_w",),
        free=free,
        values=values,
        errors={name: 0.01 * value for name, value in values.items()},
        fixed={"superheat_k": "nothing measured here depends on it"},
        informed=dict.fromkeys(free, 0.02),
        related={
            "condenser_ua_w_k": {free[1]: 0.1, free[2]: 0.2},
            free[1]: {"condenser_ua_w_k": 0.1, free[2]: -0.97},
            free[2]: {"condenser_ua_w_k": 0.2, free[1]: -0.97},
        },
        tracked=("isentropic",),
    )
    registry = Registry(tmp_path / "models")
    registry.save(
        "hp1", Role.REFERENCE, model.to_dict(), created=NOW, reason="21 days",
        provenance={"windows": 1000},
    )  # fmt: skip
    registry.save(
        "hp2", Role.REFERENCE, {}, created=NOW, accepted=False,
        reason="A reference needs 25 h of steady running.",
    )  # fmt: skip
    return tmp_path


def test_a_person_reads_what_is_free_fixed_and_known_together(state: Path) -> None:
    """Values with intervals, reasons, and the pair that is not known one by one."""
    done = hptwin(state, "models", "show", "hp1")

    assert done.returncode == 0, done.stderr
    assert "condenser_ua_w_k" in done.stdout
    assert "nothing measured here depends on it" in done.stdout
    assert "known only together: isentropic_efficiency, motor_efficiency (-0.97)" in (
        done.stdout
    )
    assert "told apart: isentropic" in done.stdout


def test_a_program_reads_the_same(state: Path) -> None:
    """One JSON object, with its digest."""
    done = hptwin(state, "models", "show", "hp1", "reference", "--json")
    told = json.loads(done.stdout)

    assert told["provenance"]["windows"] == 1000
    assert told["known"]["free"]["condenser_ua_w_k"]["informed"] == 0.02
    assert len(told["sha256"]) == 64


def test_a_refusal_has_no_parameters_and_can_be_shown(state: Path) -> None:
    """By its version, since it never was in service."""
    version = Registry(state / "models").history("hp2")[0].version
    done = hptwin(state, "models", "show", "hp2", version)

    assert done.returncode == 0, done.stderr
    assert "A reference needs 25 h" in done.stdout
    missing = hptwin(state, "models", "show", "hp2")
    assert missing.returncode == 1
    assert "no reference model is in service" in missing.stderr
    assert "Traceback" not in missing.stderr


def test_a_tampered_model_is_not_shown(state: Path) -> None:
    """Its digest does not fit, and nothing is printed of it."""
    (file,) = (state / "models" / "hp1").glob("reference-*.json")
    file.chmod(0o644)
    file.write_text(file.read_text().replace("21 days", "28 days"))
    done = hptwin(state, "models", "show", "hp1")

    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
