"""The command line: results on stdout, the rest on stderr, and its exit codes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from twin.points import POINTS
from twin.service.cli import app
from twin.service.config import load
from twin.service.first import guess

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ["-c", str(ROOT / "deploy" / "plant.toml")]


def hptwin(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a shell would, off a terminal."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("HPTWIN_")}
    return subprocess.run(
        [sys.executable, "-m", "twin.service.cli", *words],
        cwd=ROOT,
        env={**environ, **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_imports_no_giant() -> None:
    """`--help` waits for neither CoolProp, scikit-learn nor pandas."""
    script = (
        "import sys; from twin.service.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit as end: code = end.code\n"
        "giants = {'CoolProp', 'sklearn', 'pandas', 'numba', 'paho'}\n"
        "found = giants & set(sys.modules)\n"
        "sys.exit(f'{code} {found}' if code or found else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "check" in done.stdout


def test_check_of_the_sample() -> None:
    """Fine is 0, and one JSON object tells each unit's capabilities."""
    done = hptwin("check", "-c", "deploy/plant.toml", "--json")
    assert done.returncode == 0, done.stderr
    units = json.loads(done.stdout)["units"]
    assert units["hp1"]["capabilities"]["cop"]["state"] == "measured"


def test_check_says_what_is_off_for_lack_of_what() -> None:
    """The real chiller: no pressures, so no conductance, and it says so."""
    done = hptwin("check", "-c", "deploy/examples/esb_chiller.toml")
    assert done.returncode == 0
    (line,) = [x for x in done.stdout.splitlines() if "condenser_ua_w_k" in x]
    assert "off" in line
    assert "needs suction_pressure_pa, compressor_discharge_pressure_pa" in line


@pytest.mark.parametrize("as_json", [False, True])
def test_check_of_a_bad_one(tmp_path: Path, as_json: bool) -> None:
    """78, every problem with its key, and no traceback."""
    path = tmp_path / "plant.toml"
    path.write_text('[web]\nhost = "0.0.0.0"\nprot = 1\n')
    done = hptwin("check", "-c", str(path), *(["--json"] if as_json else []))
    assert done.returncode == 78
    assert "Traceback" not in done.stderr
    told = done.stdout if as_json else done.stderr
    assert "web.host" in told
    assert "web.prot" in told
    if as_json:
        assert len(json.loads(done.stdout)["problems"]) >= 3


def test_warnings_are_1(tmp_path: Path) -> None:
    """What loads with a doubt is neither fine nor refused."""
    path = tmp_path / "plant.toml"
    text = (ROOT / "deploy" / "plant.toml").read_text()
    path.write_text(text.replace("emission_source =", "# "))
    done = hptwin("check", "-c", str(path))
    assert done.returncode == 1
    assert "warning:" in done.stdout


def test_wrong_usage_is_2() -> None:
    """An unknown command and an unknown kind, with the nearest right one."""
    assert hptwin("chek").returncode == 2
    done = hptwin("points", "exchangr")
    assert done.returncode == 2
    assert 'did you mean "exchanger"' in done.stderr
    zone = CliRunner().invoke(app, ["replay", "x.csv", "--zone", "Mars/X", *SAMPLE])
    assert zone.exit_code == 2
    assert "write Europe/Berlin, or UTC" in zone.stderr


def test_a_taken_port_says_what_to_do(tmp_path: Path) -> None:
    """Who has it, the machine does not know; how to take another one, we do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = hptwin(
            *("run", *SAMPLE),
            HPTWIN_WEB__PORT=str(taken.getsockname()[1]),
            HPTWIN_STATE__DIR=str(tmp_path / "state"),
            HPTWIN_ARCHIVE__PATH=str(tmp_path / "archive"),
        )
    assert done.returncode == 69
    assert "set another port under [web] in" in done.stderr


def test_points_is_the_vocabulary() -> None:
    """One JSON object holds every point; the table has a row for each."""
    told = json.loads(hptwin("points", "--json").stdout)["points"]
    assert [each["name"] for each in told] == list(POINTS)
    rows = hptwin("points", "--markdown").stdout.splitlines()
    assert len(rows) == len(POINTS) + 2


def test_init_from_a_log_file(tmp_path: Path) -> None:
    """The guessed plant loads; a second init overwrites nothing."""
    log = tmp_path / "log.csv"
    log.write_text("time,P_chiller_kW,T_cw_in_C,T_chw_out_C,chw_flow_l_s,RH\n")
    words = ("init", str(tmp_path), "--from-csv", str(log), "--site", 'a"b\\')
    done = hptwin(*words)
    assert done.returncode == 0, done.stderr
    config = load(tmp_path / "plant.toml", {})
    assert config.plant.name == 'a"b\\'
    scales = {source.point: source.scale for source in config.sources}
    assert scales["compressor_power_w"] == 1000.0
    assert scales["source_flow_m3_s"] == pytest.approx(1e-3)
    assert "RH: not understood" in done.stderr
    again = hptwin(*words)
    assert again.returncode == 2
    assert "there already" in again.stderr


def test_a_column_is_guessed_once() -> None:
    """Two columns that look alike are not both taken; nonsense is not guessed."""
    first, second, none = guess(["T_src_in_degC", "t source inlet", "xyzzy"])
    assert (first.point, first.unit, first.sure) == (
        "source_inlet_temp_degc", "degC", True,
    )  # fmt: skip
    assert second.point == none.point == ""


def test_a_person_does_by_command_what_the_page_does(tmp_path: Path) -> None:
    """Every action on a case, each in the audit; the flow is said in figures."""
    from datetime import UTC, datetime, timedelta

    from twin.finding import Finding, FindingKind
    from twin.service.alarms import Alarms
    from twin.service.state import State

    now = datetime.now(UTC)
    plant = tmp_path / "plant.toml"
    text = (ROOT / "deploy" / "plant.toml").read_text("utf-8")
    plant.write_text(text, "utf-8")
    environ = {"HPTWIN_CONFIG": str(plant), "HPTWIN_STATE__DIR": str(tmp_path)}
    state = State.open(tmp_path / "state.sqlite")
    fault = Finding(
        unit="hp1", kind=FindingKind.FOULING, component="condenser", since=now,
        seen=now, size=0.2, low=0.1, high=0.3, sentence="It fouls.", advice="Clean.",
    )  # fmt: skip
    Alarms(state).step([fault], now - timedelta(minutes=1))
    signed = ("--who", "Ada")
    why = (*signed, "--reason", "parts are ordered")

    def alarms(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["alarms", *words], env=environ)
        return done.exit_code, done.output

    key = fault.key
    assert alarms("shelve", key, *why, "--hours", "200")[0] == 1  # a week at the most
    assert alarms("shelve", key, *why, "--hours", "8")[0] == 0
    assert "shelved" in alarms("list")[1]
    assert alarms("unshelve", key, *signed)[0] == 0
    assert alarms("out-of-service", key, *why)[0] == 0
    assert alarms("out-of-service", key, *why)[0] == 1
    assert "out_of_service" in alarms("list")[1]
    assert alarms("in-service", key, *signed, "--comment", "back")[0] == 0
    assert alarms("close", key, *why, "--as", "a_ghost")[0] == 2
    assert alarms("close", key, *why, "--as", "not_a_fault")[0] == 0
    assert "no open case" in alarms("list")[1]
    kept = Alarms(state)
    assert [entry.action for entry in kept.history()] == [
        "closed", "in_service", "out_of_service", "unshelved", "shelved", "raised",
    ]  # fmt: skip
    case = kept.case(key)
    assert case is not None
    assert case.dismissed is not None
    assert case.dismissed.closure.value == "not_a_fault"
    code, said = alarms("flow", "--json")
    assert (code, json.loads(said)["alarms"]) == (0, 1)
    code, said = alarms("flow", "--hours", "0.1")
    assert code == 1  # one in six minutes are ten an hour
    assert "1 alarms in 0.1 h: 10.0 an hour" in said
    state.close()
