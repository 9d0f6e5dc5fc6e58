"""What is kept of a model can be read, by a person and by a program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from calibration.model import Model
from calibration.registry import Registry, RegistryError, Role
from ingest.archive import Archive
from twin import simulate
from twin.heatpump import from_nameplate
from twin.service import models
from twin.service.alarms import ActionError
from twin.service.config import ArchiveConfig, Config, WebConfig, load
from twin.service.replay import from_files, replay
from twin.service.run import Service
from twin.service.state import State

ROOT = Path(__file__).resolve().parents[2]
PLANT = ROOT / "deploy" / "plant.toml"
NOW = datetime(2026, 1, 5, tzinfo=UTC)


def hptwin(state: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command with a state directory, off a terminal."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("HPTWIN_")}
    return subprocess.run(
        [sys.executable, "-m", "twin.service.cli", *words, "-c", str(PLANT)],
        env={
            **environ,
            "HPTWIN_STATE__DIR": str(state),
            "HPTWIN_ARCHIVE__PATH": str(state / "archive"),
        },
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
    """One JSON object, with its digest; a drawing goes into a file beside it."""
    file = state / "model.html"
    words = ("models", "show", "hp1", "reference", "--json", "--plot", str(file))
    done = hptwin(state, *words)
    told = json.loads(done.stdout)

    assert "condenser_ua_w_k" in file.read_text()
    assert "data:image/svg+xml;base64," in file.read_text()
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


@pytest.fixture(scope="module")
def commissioned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Archive]:
    """Return a plant of one machine that has its reference, and five weeks of it."""
    folder = tmp_path_factory.mktemp("plant")
    made = simulate.simulate(
        simulate.Scenario(
            name="models",
            length=timedelta(days=35),
            step=timedelta(minutes=30),
            machines=(simulate.Unit(id="hp1"),),
            it_heat_w=0.75e6,
            demand_heat_w=0.65e6,
            reference_length=timedelta(days=14),
        )
    )
    simulate.write(made, folder)
    config = replace(load(folder / "plant.toml", {}), state_dir=folder / "state")
    archive, _ = from_files([folder / "hp1.parquet"], config.sources)
    registry = Registry(config.state_dir / "models")
    stop = made.scenario.start + timedelta(days=16)
    replay(config.plant, archive, stop=stop, registry=registry)
    assert registry.active("hp1", Role.REFERENCE) is not None
    return config, archive


def test_a_dry_run_judges_and_writes_nothing(
    commissioned: tuple[Config, Archive],
) -> None:
    """Every gate is told, and the state directory is what it was."""
    config, archive = commissioned
    before = {p: p.read_bytes() for p in config.state_dir.rglob("*") if p.is_file()}
    (found,) = models.recalibrated(config, archive, dry_run=True)
    after = {p: p.read_bytes() for p in config.state_dir.rglob("*") if p.is_file()}

    assert found["unit"] == "hp1"
    assert len(found["gates"]) > 3
    assert all(gate["sentence"] for gate in found["gates"])
    assert after == before


def test_a_recalibration_is_kept_as_it_was_judged(
    commissioned: tuple[Config, Archive],
) -> None:
    """The record has the dry run's verdict; accepted, it is in service."""
    config, archive = commissioned
    (dry,) = models.recalibrated(config, archive, dry_run=True)
    (wet,) = models.recalibrated(config, archive, unit="hp1")
    registry = Registry(config.state_dir / "models")
    record = registry.history("hp1")[-1]
    current = registry.active("hp1", Role.CURRENT)

    assert (wet["accepted"], wet["reason"]) == (dry["accepted"], dry["reason"])
    assert record.role is Role.CURRENT
    assert record.accepted == wet["accepted"]
    assert len(record.gates) == len(wet["gates"])
    assert (current is not None and current.version == record.version) is (
        record.accepted
    )


def test_a_machine_without_a_reference_is_not_recalibrated(
    commissioned: tuple[Config, Archive], tmp_path: Path
) -> None:
    """It says so; a machine that there is not is an error with the names."""
    config, archive = commissioned
    new = replace(config, state_dir=tmp_path)
    (found,) = models.recalibrated(new, archive)

    assert not found["accepted"]
    assert "no reference yet" in found["reason"]
    with pytest.raises(RegistryError, match=r'"hp9" is no heat pump .* hp1'):
        list(models.recalibrated(new, archive, unit="hp9"))


def test_the_command_ends_with_1_where_nothing_was_accepted(state: Path) -> None:
    """Whatever the reason; it is on stdout, as data if that is asked for."""
    done = hptwin(state, "recalibrate", "hp1", "--dry-run", "--json")

    assert done.returncode == 1, done.stderr
    (found,) = json.loads(done.stdout)["recalibrations"]
    assert "no telemetry" in found["reason"]
    assert "Traceback" not in done.stderr


def second(state: Path) -> tuple[str, str]:
    """Give the reference two current models; return both versions."""
    registry = Registry(state / "models")
    made = registry.history("hp1")[0].model
    one, two = (
        registry.save(
            "hp1", Role.CURRENT, {**made, "role": "current"},
            created=NOW + timedelta(days=day), reason="every gate passed",
        )
        for day in (7, 14)
    )  # fmt: skip
    return one.version, two.version


def test_a_rollback_is_signed(state: Path) -> None:
    """Who and why are in the audit; without a name nothing is rolled back."""
    first, later = second(state)
    registry = Registry(state / "models")
    with closing(State.open(state / "state.sqlite")) as kept:
        for who, reason in ((" ", "odd"), ("Ada", "")):
            with pytest.raises(ActionError):
                models.rolled_back(
                    registry, kept, "hp1", Role.CURRENT, who, reason, NOW
                )
    assert registry.in_service("hp1")[Role.CURRENT] == later
    words = ("models", "rollback", "hp1", "--who", "Ada", "--reason", "looks odd")
    done = hptwin(state, *words)
    assert done.returncode == 0, done.stderr
    assert registry.in_service("hp1")[Role.CURRENT] == first
    with closing(State.open(state / "state.sqlite")) as kept:
        (entry,) = kept.audit()
    assert (entry.actor, entry.action) == ("Ada", "model_rolled_back")
    assert (entry.detail["before"], entry.detail["version"]) == (later, first)
    assert entry.detail["comment"] == "looks odd"


def until_true(condition: Callable[[], bool]) -> bool:
    """Wait for what another thread or process does; False if it never does."""
    gives_up = time.monotonic() + 30.0
    while time.monotonic() < gives_up:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def test_a_running_service_follows_a_rollback_of_another_process(state: Path) -> None:
    """It judges by what was left in service, and the audit has it once."""
    first, later = second(state)
    config = replace(
        load(PLANT, {}),
        archive=ArchiveConfig(path=state / "archive"),
        state_dir=state,
        web=WebConfig(port=0),
    )
    with Service(config, judge_every=0.1) as service:
        twin = service.assessor._twins["hp1"]
        assert twin.current_version == later
        before = twin.current
        words = ("models", "rollback", "hp1", "--who", "Ada", "--reason", "odd")
        assert hptwin(state, *words).returncode == 0
        assert until_true(lambda: len(service.alarms.history()) > 1)
        taken = service.assessor._twins["hp1"]
        assert (taken.current_version, taken.current is before) == (first, False)
        served = {m["version"]: m["in_service"] for m in service.assessor.models()}
        assert (served[first], served[later]) == (True, False)
        service.judge()
        actions = [entry.action for entry in service.alarms.history()]
        assert actions == ["model_taken_up", "model_rolled_back"]


def test_a_tampered_model_does_not_replace_what_serves(state: Path) -> None:
    """The service says so among its problems, and judges on with what it has."""
    first, later = second(state)
    config = replace(
        load(PLANT, {}),
        archive=ArchiveConfig(path=state / "archive"),
        state_dir=state,
        web=WebConfig(port=0),
    )
    with Service(config, judge_every=3600.0) as service:
        file = state / "models" / "hp1" / f"{first}.json"
        whole = file.read_text()
        file.write_text(whole.replace("every gate", "no gate"))
        (file.parent / "active.json").write_text(
            json.dumps({"reference": ["reference-00001"], "current": [first]})
        )
        service.judge()
        assert service.assessor._twins["hp1"].current_version == later
        assert any("SHA-256" in problem for problem in service.problems())
        file.write_text(whole)
        service.judge()
        assert service.assessor._twins["hp1"].current_version == first
        assert not any("SHA-256" in problem for problem in service.problems())


def test_a_reference_that_was_rolled_back_begins_anew(state: Path) -> None:
    """The service judges by the older reference, as after a restart."""
    registry = Registry(state / "models")
    made = registry.history("hp1")[0].model
    registry.save("hp1", Role.REFERENCE, made, created=NOW + timedelta(days=7))
    config = replace(
        load(PLANT, {}),
        archive=ArchiveConfig(path=state / "archive"),
        state_dir=state,
        web=WebConfig(port=0),
    )
    with Service(config, judge_every=3600.0) as service:
        registry.rollback("hp1", Role.REFERENCE)
        service.judge()
        twin = service.assessor._twins["hp1"]
        assert twin.reference_version == "reference-00001"
        assert twin.commissioned == NOW
        (entry,) = service.alarms.history()
        assert entry.detail["version"] == "reference-00001"


@pytest.mark.parametrize("step", [-86_400.0, 86_400.0, 0.0])
def test_jobs_go_on_after_the_clock_stepped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    """A clock that went back leaves every job a day ahead; set anew, they fire.

    Without a step they stay where they were put, which is what the guard mends.
    """
    config = replace(
        load(PLANT, {}),
        archive=ArchiveConfig(path=tmp_path / "archive"),
        state_dir=tmp_path,
        web=WebConfig(port=0),
    )
    real, stepped = time.time, [0.0]
    with Service(config, judge_every=3600.0) as service:
        minding = threading.Thread(target=service.wait)
        minding.start()
        scheduler = service._scheduler
        assert scheduler is not None
        far = datetime.now(UTC) + timedelta(days=1)
        for job in scheduler.get_jobs():
            job.modify(next_run_time=far)
        monkeypatch.setattr(time, "time", lambda: real() + stepped[0])
        stepped[0] = step

        def anew() -> bool:
            now = service._scheduler
            return now is not None and now is not scheduler and now.running

        if step:
            assert until_true(anew)
            assert service._scheduler is not None
            due = [job.next_run_time for job in service._scheduler.get_jobs()]
            assert len(due) == 4
            assert all(time < far - timedelta(hours=1) for time in due)
        else:
            time.sleep(1.5)
            assert not anew()
            assert {job.next_run_time for job in scheduler.get_jobs()} == {far}
        service.end()
        minding.join()
