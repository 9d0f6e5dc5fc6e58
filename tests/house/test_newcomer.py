"""What the newcomer's walk reads, fills in and leaves behind; the walk is a command."""

from __future__ import annotations

import signal
from contextlib import closing
from pathlib import Path

import pytest
from campaigns import newcomer

from twin import simulate
from twin.service import first
from twin.service.check import OFF, report
from twin.service.config import load

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    name: (ROOT / name).read_text("utf-8") for name in (newcomer.README, newcomer.GUIDE)
}
TYPED = [
    (newcomer.README, "git", "clone"),
    (newcomer.README, "make", "demo"),
    (newcomer.README, ".", ".venv/bin/activate"),
    (newcomer.README, "hptwin", "init"),
    (newcomer.README, "hptwin", "check", "--online"),
    (newcomer.README, "hptwin", "run"),
    (newcomer.GUIDE, "hptwin", "simulate"),
    (newcomer.GUIDE, "hptwin", "publish", "--as-fast-as-possible"),
    (newcomer.GUIDE, "hptwin", "publish", "--speed"),
]


@pytest.mark.parametrize(("page", "words"), [(p, w) for p, *w in TYPED])
def test_each_line_of_the_walk_stands_on_its_page(page: str, words: list[str]) -> None:
    """Once; and a page without it, or with a second one, is no way to walk."""
    line = newcomer.line_of(page, PAGES[page], *words)
    without = PAGES[page].replace(line, "true")
    twice = f"{PAGES[page]}\n```\n{line} --otherwise\n```\n"
    for changed in (without, twice):
        with pytest.raises(newcomer.StumbleError, match=words[-1].lstrip(".")):
            newcomer.line_of(page, changed, *words)


def test_what_is_filled_in_by_hand_is_a_plant_that_is_fine(tmp_path: Path) -> None:
    """No warning, parts can be named, heat can be called missed; one lack is seen."""
    told = simulate.simulate(simulate.scenario("healthy", days=1)).plant_toml
    sheet = newcomer.tomllib.loads(told)["heat_pump"][0]
    answers = dict(zip(first.QUESTIONS, newcomer.ANSWERS, strict=True))
    made = first.plant_toml(answers, [])
    path = tmp_path / "plant.toml"
    path.write_text(newcomer.filled_in(made, sheet, 21883, 28080), "utf-8")
    config = load(path, {})
    found = report(config)
    off = {each.quantity for each in found.abilities if each.state == OFF}

    assert config.warnings == ()
    assert (config.mqtt.port, config.web.port) == (21883, 28080)
    assert not {"condenser_ua_w_k", "missed_recovery"} & off
    with pytest.raises(newcomer.StumbleError, match="0 lines like"):
        newcomer.filled_in(made.replace("# [[consumer]]", ""), sheet, 1, 2)


def test_nothing_of_this_machine_s_user_comes_along(tmp_path: Path) -> None:
    """HOME, caches, virtual environments and our own variables; the index stays."""
    ours = {
        "HOME": str(tmp_path / "ours"),
        "PATH": "/venv/bin:/usr/bin",
        "VIRTUAL_ENV": "/venv",
        "PYTHONPATH": "/work",
        "HPTWIN_MQTT__PORT": "1",
        "PIP_CACHE_DIR": "/var/cache/pip",
        "PIP_INDEX_URL": "https://index.example.org/simple",
        "XDG_CACHE_HOME": "/cache",
    }
    own = tmp_path / "ours" / ".config" / "pip" / "pip.conf"
    own.parent.mkdir(parents=True)
    own.touch()
    fresh = newcomer.environment(tmp_path / "new", ours)

    assert fresh["PATH"] == "/usr/bin"
    assert fresh["PIP_INDEX_URL"] == ours["PIP_INDEX_URL"]
    assert fresh["PIP_CONFIG_FILE"] == str(own)
    assert fresh["PIP_CACHE_DIR"].startswith(fresh["HOME"])
    assert list(Path(fresh["HOME"]).iterdir()) == []
    gone = {"VIRTUAL_ENV", "PYTHONPATH", "HPTWIN_MQTT__PORT", "XDG_CACHE_HOME"}
    assert not gone & set(fresh)


def test_a_terminal_answers_interrupts_and_tells_a_wrong_end(tmp_path: Path) -> None:
    """Each line sees what was typed before; a code that nobody promised is told."""
    (tmp_path / "there").mkdir()
    fresh = newcomer.environment(tmp_path, {"PATH": "/usr/bin:/bin"})

    def typed(line: str) -> closing[newcomer.Terminal]:
        script = f"bash -c '{line}'"
        return closing(newcomer.Terminal(["cd there"], script, tmp_path, fresh))

    with typed('read -p "name [x]: " n; echo "$n in ${PWD##*/}"') as shown:
        shown.until("]: ", 10)
        shown.answer("Ada")
        assert "Ada in there" in shown.end(10, 0)
    with typed('trap "exit 7" INT; echo ready; while :; do sleep 0.05; done') as on:
        on.until("ready", 10)
        on.signal(signal.SIGINT)
        with pytest.raises(newcomer.StumbleError, match="ended with 7, not 0"):
            on.end(10, 0)
    with typed("exit 3") as gone, pytest.raises(newcomer.StumbleError, match="with 3"):
        gone.until("never", 10)


def test_a_step_says_which_it_was(tmp_path: Path) -> None:
    """A stumble has the step's name and line, and the step is told all the same."""
    walk = newcomer.Walk()
    with (
        pytest.raises(newcomer.StumbleError, match="check: hptwin check: it is so"),
        walk.step("check", "hptwin check"),
    ):
        raise newcomer.StumbleError("it is so")
    assert [step.name for step in walk.steps] == ["check"]
