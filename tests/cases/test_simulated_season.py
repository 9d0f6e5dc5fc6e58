"""What was planted is found, live and in replay, and whatever happens on the way.

A short season of the simulated plant, by the commands a person types and by
the service with a real broker. The plant's physics is not the twin's.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
import servers

from ingest.broker import Connection, Publisher
from twin import simulate
from twin.service.config import ArchiveConfig, WebConfig, load
from twin.service.run import GRACE, Service

COMMAND = [sys.executable, "-m", "twin.service.cli"]
UNITS = ("hp1", "hp2", "cdu1", "cooler1", "network", "site")


def hptwin(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a person would."""
    return subprocess.run(
        [*COMMAND, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200"},
    )


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a simulated season of 42 days, in half hours."""
    folder = tmp_path_factory.mktemp("season")
    done = hptwin(
        "simulate", "demo", "--days", "42", "--minutes", "30", "--out", folder
    )
    assert done.returncode == 0, done.stderr
    return folder


def replayed(season: Path, out: Path, *more: str | Path) -> dict[str, object]:
    """Replay the season's files into a folder."""
    files = [season / f"{unit}.parquet" for unit in UNITS]
    words = ("replay", "-c", season / "plant.toml", "--out", out, "--json")
    done = hptwin(*words, *files, *more)
    assert done.returncode == 1, done.stderr  # it works, and something is found
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def first(season: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the results of one replay."""
    folder = tmp_path_factory.mktemp("first")
    replayed(season, folder)
    return folder


def test_a_replay_repeats_to_the_byte(
    season: Path, first: Path, tmp_path: Path
) -> None:
    """Same input, same bytes, in another process."""
    replayed(season, tmp_path)

    for file in sorted(first.iterdir()):
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name


def test_the_planted_faults_are_found(season: Path, first: Path) -> None:
    """The worn compressor and the machine held by hand, with the right size."""
    found = {
        finding["key"]: finding
        for finding in json.loads((first / "findings.json").read_text())
    }
    planted = {
        f"{fault['unit']}/{fault['kind']}/{fault['component']}": fault
        for fault in json.loads((season / "planted.json").read_text())
    }
    override = found["hp2/missed_recovery/override"]

    assert override["size"] == pytest.approx(
        planted["hp2/missed_recovery/override"]["size"], abs=0.05
    )
    assert override["cost_eur_day"] > 0.0
    assert any(key.startswith("hp2/sensor/") for key in found)


def test_shuffled_and_duplicated_rows_change_nothing(
    season: Path, first: Path, tmp_path: Path
) -> None:
    """A file is a set of rows; garbage among them is counted, and named."""
    rows = pd.read_parquet(season / "hp1.parquet")
    twice = pd.concat([rows, rows.iloc[::7]]).sample(frac=1.0, random_state=3)
    messy = tmp_path / "messy"
    messy.mkdir()
    for unit in UNITS[1:]:
        (messy / f"{unit}.parquet").write_bytes(
            (season / f"{unit}.parquet").read_bytes()
        )
    text = twice.to_csv(index=False, date_format="%Y-%m-%dT%H:%M:%SZ").splitlines()
    text.insert(5, ",".join(["2025-12-01T00:00:00Z", "forty", *[""] * 20]))
    text.insert(9, "yesterday," + ",".join(["1.0"] * 21))
    (messy / "hp1.csv").write_text("\n".join(text) + "\n")
    files = [messy / "hp1.csv", *(messy / f"{unit}.parquet" for unit in UNITS[1:])]
    words = ("replay", "-c", season / "plant.toml", "--out", tmp_path / "out", "--json")
    done = hptwin(*words, *files)
    told = json.loads(done.stdout)["files"]["hp1.csv"]

    assert done.returncode == 1, done.stderr
    assert told["verdicts"]["rejected: not a number"] == 1
    assert told["verdicts"]["rejected: unreadable time"] == 1
    assert "Traceback" not in done.stderr
    clean = json.loads((first / "findings.json").read_text())
    dirty = json.loads((tmp_path / "out" / "findings.json").read_text())
    assert [f["key"] for f in dirty] == [f["key"] for f in clean]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "empty"),
        ("time,one,two\n", "no"),
        ("time,nothing_known\n2026-01-01T00:00:00Z,1\n", "column"),
    ],
)
def test_a_file_that_says_nothing_is_a_clear_error(
    season: Path, tmp_path: Path, content: str, said: str
) -> None:
    """File, what was found, what is right; no traceback, exit code 2."""
    file = tmp_path / "bad.csv"
    file.write_text(content)
    done = hptwin("replay", "-c", season / "plant.toml", file)

    assert done.returncode == 2
    assert "bad.csv" in done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_service_judges_as_the_replay_does_and_survives_a_restart(
    season: Path, first: Path, mosquitto: servers.Server, tmp_path: Path
) -> None:
    """Same findings from the broker; acknowledged stays acknowledged, nothing anew."""
    scenario = replace(simulate.scenario("demo", days=42), step=timedelta(minutes=30))
    simulation = simulate.simulate(scenario)
    config = replace(
        load(season / "plant.toml", {}),
        mqtt=Connection(port=mosquitto.port, client_id="hptwin-story"),
        archive=ArchiveConfig(path=tmp_path / "archive"),
        state_dir=tmp_path / "state",
        web=WebConfig(port=0),
    )
    end = scenario.start + scenario.length
    clock = [scenario.start]
    service = Service(config, clock=lambda: clock[0], judge_every=3600.0)
    with service:
        with Publisher(replace(config.mqtt, client_id="plant")) as plant:
            sent = plant.publish_all(
                (
                    (topic, payload)
                    for topic, payload, _ in simulate.messages(simulation)
                ),
                timeout=60.0,
            )
        assert service.intake.drain(timeout=120.0)
        assert service.counts()["stored"] == sent
        clock[0] = end + GRACE
        service.judge()
        live = {finding.key for finding in service.assessor.cases()}
        open_cases = {case.key: case.status for case in service.alarms.cases()}
        assert open_cases
        key = sorted(open_cases)[0]
        service.alarms.acknowledge(key, "Ada", datetime.now(UTC), "seen")
        audit = len(service.alarms.history(limit=10_000))
    replay = {f["key"] for f in json.loads((first / "findings.json").read_text())}

    assert live == replay
    again = Service(config, clock=lambda: clock[0], judge_every=3600.0)
    with again:
        again.judge()
        assert {case.key for case in again.alarms.cases()} == set(open_cases)
        case = again.alarms.case(key)
        assert case is not None
        assert case.acknowledged is not None
        assert len(again.alarms.history(limit=10_000)) == audit
        assert again.assessor.until == end


def test_a_sigterm_ends_the_service_cleanly(
    season: Path, mosquitto: servers.Server, tmp_path: Path
) -> None:
    """Exit code 0 within seconds, page and broker connected."""
    toml = (season / "plant.toml").read_text()
    file = tmp_path / "plant.toml"
    file.write_text(toml)
    environment = {
        **os.environ,
        "HPTWIN_MQTT__PORT": str(mosquitto.port),
        "HPTWIN_WEB__PORT": "0",
        "HPTWIN_STATE__DIR": str(tmp_path / "state"),
        "HPTWIN_ARCHIVE__PATH": str(tmp_path / "archive"),
    }
    with subprocess.Popen(
        [*COMMAND, "run", "-c", str(file)],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith("page "):
                break
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=30)[1]

    assert process.returncode == 0, "".join(lines) + rest
    assert "Traceback" not in "".join(lines) + rest
