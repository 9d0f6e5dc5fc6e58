"""Every command on a page works as it stands there, in the order of the page.

A small simulated plant stands in for the reader's: three weeks of one heat pump whose
condenser fouls in the last, its reference learnt in nine days. Commands of hptwin are
run, against a real broker where they need one; what cannot be run here stands in a
table with the reason and with the test that has it.

A command is expected to end with 0, or with what its comment says: "ends with 1",
"may end with 1".
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from calibration.registry import Registry
from ingest import files
from twin import simulate
from twin.service.alarms import Alarms
from twin.service.cli import app
from twin.service.config import load, open_configured
from twin.service.replay import replay
from twin.service.state import State

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in (
        ROOT / "README.md",
        ROOT / "deploy" / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    )
}
GUIDES = [f"docs/guide/{n}.md" for n in ("install", "alarms", "replay", "report")]

DAY = timedelta(days=1)
START = datetime(2026, 2, 23, tzinfo=UTC)
REFERENCE, FOULS, ENDS = 9, 15, 23  # days from the start
RECALIBRATED = 3  # days; two models serve before it fouls, so one can be rolled back

# Commands that are not run here: what is in the way, and the test that has them.
ELSEWHERE = {
    "hptwin run": (
        "it goes on until it is ended",
        "tests/cases/test_simulated_season.py::test_a_sigterm_ends_the_service_cleanly",
    ),
    "hptwin publish --speed": (
        "it goes on for as long as the file did",
        "tests/service/test_publish.py::test_it_keeps_the_pace_asked_for",
    ),
    "hptwin fleet replay": (
        "it takes many plants, and some lines a cluster",
        "tests/service/test_fleet.py::test_the_command_tells_everybody_and_the_worst",
    ),
    "hptwin fleet recalibrate": (
        "it takes many plants",
        "tests/service/test_fleet.py::test_a_fleet_is_recalibrated_as_its_plants_are",
    ),
    "hptwin check --shard": (
        "shards need an InfluxDB and a PostgreSQL",
        "tests/service/test_shards.py::test_the_command_says_what_a_shard_reads",
    ),
}
# Other programs on the pages, and the test that holds their lines to the files.
PROGRAMS = {
    "git": "",
    "cd": "",
    ".": "",
    "make": "tests/house/test_guides.py::test_what_is_made_can_be_made",
    "python": "tests/house/test_guides.py::test_a_campaign_named_is_there",
    "useradd": "tests/deploy/test_systemd.py",
    "python3": "tests/deploy/test_readme.py",
    ".venv/bin/pip": "tests/deploy/test_readme.py",
    "pip": "tests/deploy/test_container.py",
    "dask": "tests/service/test_fleet.py",
    "createuser": "tests/service/test_state.py",
    "createdb": "tests/service/test_state.py",
    "install": "tests/deploy/test_readme.py",
    "cp": "tests/deploy/test_readme.py",
    "systemctl": "tests/deploy/test_systemd.py",
    "sudo": "tests/deploy/test_container.py",
    "$EDITOR": "tests/deploy/test_readme.py",
    "docker": "tests/deploy/test_container.py",
    "kubectl": "tests/deploy/test_kubernetes.py",
}
# Where a page's absolute paths lie in the folder of the test.
PLACES = {"/etc/hptwin/": "", "/backup/": "copies/"}
# The front door replays a part, so that only one page takes its time for the whole.
SHORT = {"README.md": ("last-winter.csv", "year.csv")}
BROKER = ("hptwin check --online", "hptwin publish")
# What the test adds: nobody speaks on the topics, so listening for five seconds hears
# no more; and a password is typed into a pipe.
ADDED = {
    "hptwin check --online": ("--seconds", "0.2"),
    "hptwin users add": ("--password-file", "-"),
}
PASSWORD = "a password of the guides"  # noqa: S105


# --- what stands on a page ---------------------------------------------------


@dataclass(frozen=True)
class Line:
    """One command of a page: its words from ``hptwin`` on, and how it should end."""

    page: str
    text: str
    words: tuple[str, ...]
    codes: frozenset[int] = frozenset({0})

    def begins(self, command: str) -> bool:
        """Whether it is this command, with these options at any place."""
        wanted = command.split()
        names = [word for word in wanted if not word.startswith("-")]
        options = set(wanted) - set(names)
        head = ["hptwin", *self.words[1 : len(names)]]
        return head == names and options <= set(self.words)


COMMANDS = typer.main.get_command(app)


def fenced(text: str) -> Iterator[str]:
    """Yield what a reader would type: a block without a language, or of a shell's.

    A drawing or a table in a block says that it is ``text``. Continued lines are one.
    """
    for language, block in re.findall(r"^ *```(\w*)\n(.*?)^ *```", text, re.M | re.S):
        if language in ("", "sh", "console"):
            for line in re.sub(r"\\\n\s*", " ", block).splitlines():
                yield line.strip().removeprefix("$ ")


def spoken(text: str) -> Iterator[str]:
    """Yield the commands that stand within sentences."""
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S)
    for span in re.findall(r"`([^`]+)`", prose):
        yield " ".join(span.split())


def command(page: str, text: str) -> Line | None:
    """Return the command of hptwin in a line of a page, None where there is none."""
    said, _, comment = text.partition(" #")
    try:
        words = shlex.split(said)
    except ValueError:  # an apostrophe: words, not a line to type
        return None
    for place, word in enumerate(words[:-1]):
        ours = word == "hptwin" or word.endswith("/hptwin")
        if ours and (words[place + 1] in COMMANDS.commands):
            own = ("hptwin", *words[place + 1 :])
            return Line(page, said.strip(), own, ends(comment))
    return None


def ends(comment: str) -> frozenset[int]:
    """Return the exit codes that a comment allows."""
    found = re.search(r"(ends|may end) with (\d+)", comment)
    if found is None:
        return frozenset({0})
    return frozenset({int(found[2])} if found[1] == "ends" else {0, int(found[2])})


def commands(page: str, text: str) -> list[Line]:
    """Return what a page has its reader type of hptwin."""
    return [found for line in fenced(text) if (found := command(page, line))]


def foreign(page: str, text: str) -> list[str]:
    """Return what a page has its reader type of other programs."""
    return [line for line in fenced(text) if line and command(page, line) is None]


def misread(words: tuple[str, ...], *, whole: bool) -> str:
    """Return what the command line cannot read of some words, "" if nothing.

    Only a ``whole`` one must have everything that is required.
    """
    group, rest, context = COMMANDS, list(words[1:]), None
    while isinstance(group, typer.core.TyperGroup) and rest:
        context = group.make_context(
            "hptwin", [], parent=context, resilient_parsing=True
        )
        name, rest = rest[0], rest[1:]
        if name not in group.commands:
            return f"no command {name}"
        group = group.commands[name]
    if isinstance(group, typer.core.TyperGroup) or "--help" in rest or "..." in rest:
        return ""
    try:
        group.make_context(words[-1], rest, parent=context)
    except Exception as error:  # noqa: BLE001  # of the parser, which has no one base
        absent = type(error).__name__ in ("MissingParameter", "BadOptionUsage")
        return "" if absent and not whole else str(error) or type(error).__name__
    return ""


ALL = [line for page, text in PAGES.items() for line in commands(page, text)]


# --- the reader's plant ------------------------------------------------------


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder as after some weeks of service, with the same as files beside."""
    folder = tmp_path_factory.mktemp("plant")
    made = simulate.simulate(
        simulate.Scenario(
            name="guides",
            start=START,
            length=ENDS * DAY,
            step=timedelta(hours=1),
            machines=(simulate.Unit(id="hp1"),),
            it_heat_w=0.75e6,
            demand_heat_w=0.65e6,
            reference_length=REFERENCE * DAY,
            faults=(
                simulate.Fault(
                    unit="hp1",
                    kind=simulate.FaultKind.CONDENSER_FOULING,
                    start=START + FOULS * DAY,
                    size=0.3,
                ),
            ),
        )
    )
    simulate.write(made, folder, csv=True)
    file = folder / "plant.toml"
    often = f"[schedule]\nrecalibrate_every_days = {RECALIBRATED}\n"
    file.write_text(file.read_text().replace("[schedule]\n", often))
    config = load(file, {})
    told = [
        pd.DataFrame(
            {
                "time": [stamp for _, stamp in rows],
                "topic": [name for name, _ in rows],
                "value": frame.to_numpy().ravel(),
            }
        )
        for unit in made.frames
        for frame in [pd.read_csv(folder / f"{unit}.csv", index_col=0)]
        for rows in [
            [(f"dc/sim/{unit}/{name}", t) for t in frame.index for name in frame]
        ]
    ]
    history = pd.concat(told)
    history.to_csv(folder / "last-winter.csv", index=False)
    shutil.copy(folder / "plant.toml", folder / "otherwise.toml")
    with closing(open_configured(config.archive)) as archive:
        files.read(folder / "last-winter.csv", config.sources).into(archive)
        registry = Registry(config.state_dir / "models")
        results = replay(config.plant, archive, registry=registry)
    results.write(config.state_dir / "results")
    results.write(folder / "results")
    with closing(State.open(config.state_dir / "state.sqlite")) as state:
        Alarms(state).step(results.findings, results.generated)
    early = history[history["time"] < (START + 11 * DAY).isoformat()]
    early.to_csv(folder / "year.csv", index=False)
    return folder


def by_hand(line: Line, folder: Path) -> None:
    """Do what the page has its reader do by hand, before or after a command."""
    if line.begins("hptwin init"):
        # The nameplate and the points are filled in, and telemetry comes.
        written = folder / line.words[2]
        shutil.copy(folder / "plant.toml", written / "plant.toml")
        shutil.copytree(folder / "hptwin-data", written / "hptwin-data")
    if line.begins("hptwin backup"):
        # What a backup is for.
        config = load(folder / config_of(line), {})
        shutil.move(
            config.state_dir, folder / f"lost-{len(list(folder.glob('lost-*')))}"
        )


def config_of(line: Line) -> str:
    """Return which plant.toml a command names."""
    return (
        line.words[line.words.index("-c") + 1] if "-c" in line.words else "plant.toml"
    )


@dataclass
class Reader:
    """Who goes through a page, in a folder, with these variables set."""

    folder: Path
    environ: dict[str, str]

    def types(self, line: Line) -> None:
        """Type a command, and see that it ends as the page says."""
        words = list(line.words)
        for theirs, ours in PLACES.items():
            words = [
                ours + word.removeprefix(theirs) if word.startswith(theirs) else word
                for word in words
            ]
        if line.page in SHORT:
            whole, part = SHORT[line.page]
            words = [part if word == whole else word for word in words]
        here = Line(line.page, line.text, tuple(words), line.codes)
        for typed, more in ADDED.items():
            words += more if here.begins(typed) else ()
        done = CliRunner().invoke(app, words[1:], env=self.environ, input=PASSWORD)
        assert done.exit_code in line.codes, f"{line.page}: {line.text}\n{done.output}"
        by_hand(here, self.folder)


@pytest.mark.parametrize("page", sorted({line.page for line in ALL}))
def test_a_page_s_commands_do_what_it_says(
    page: str,
    plant: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """From the first to the last, each in the folder that the one before left."""
    folder = tmp_path / "reader"
    shutil.copytree(plant, folder)
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.startswith("HPTWIN_")]:
        monkeypatch.delenv(name)
    reader = Reader(folder, {"COLUMNS": "200"})
    lines = [line for line in ALL if line.page == page]
    needing = [line for line in lines if any(map(line.begins, BROKER))]
    if needing:
        broker = request.getfixturevalue("mosquitto")
        reader.environ["HPTWIN_MQTT__PORT"] = str(broker.port)
    for line in lines:
        if not any(map(line.begins, ELSEWHERE)):
            reader.types(line)


@pytest.mark.parametrize("form", [(), ("--csv",)])
def test_what_simulate_says_comes_next_works(
    form: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command it prints reads what it wrote, the truth left out."""
    monkeypatch.chdir(tmp_path)
    asked = ["simulate", "healthy", "--days", "2", "--minutes", "60", *form]
    said = CliRunner().invoke(app, asked).stderr
    said = said.replace("Next: ", "").replace("or, beside a running service: ", "")
    line, play = commands("simulate", f"```\n{said}```")

    assert misread(play.words, whole=True) == ""
    assert Path(play.words[-2]).exists()
    done = CliRunner().invoke(app, line.words[1:])

    assert done.exit_code == 0, done.output
    assert "truth" not in done.output


# --- nothing stands on a page that nobody tries ------------------------------


def test_every_command_on_a_page_can_be_read() -> None:
    """Those to type as they are; those in a sentence may leave out what is needed."""
    wrong = [
        f"{line.page}: {line.text}: {why}"
        for line in ALL
        if (why := misread(line.words, whole=True))
    ]
    for page, text in PAGES.items():
        for span in spoken(text):
            line = command(page, span)
            if line is not None and (why := misread(line.words, whole=False)):
                wrong.append(f"{page}: {span}: {why}")
            if line is None and re.match(r"hptwin [a-z]", span):
                wrong.append(f"{page}: {span}: no such command")

    assert wrong == []


@pytest.mark.parametrize(
    "typed",
    [
        "hptwin check --onlin -c plant.toml",
        "hptwin replay --form 2026-01-01 -c plant.toml",
        "hptwin alarms acknowledge hp1/fouling/condenser",
        "hptwin simulate --days many",
        "hptwin report -c plant.toml",
    ],
)
def test_a_wrong_line_is_seen(typed: str) -> None:
    """The control: an option, a command, a value that are none, and one that lacks."""
    (line,) = commands("a page", f"```\n{typed}\n```\n")

    assert misread(line.words, whole=True)


def test_a_wrong_command_is_seen() -> None:
    """The control: what is no command of hptwin is a program that nobody knows."""
    (line,) = foreign("a page", "```\nhptwin chekc -c plant.toml\n```")

    assert line.split(" ")[0] not in PROGRAMS


def test_a_wrong_line_fails_its_page(
    plant: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the run: another end than the page says is seen, either way."""
    monkeypatch.chdir(plant)
    reader = Reader(plant, {})
    page = "```sh\nhptwin alarms ack hp1/none --who Ada{}\n```"
    (bare,) = commands("a page", page.format(""))
    (said,) = commands("a page", page.format("   # ends with 1: there is none"))
    (fine,) = commands("a page", "```\nhptwin points   # ends with 1\n```")

    reader.types(said)
    for wrong in (bare, fine):
        with pytest.raises(AssertionError, match="a page: hptwin"):
            reader.types(wrong)


def test_each_exception_is_needed_and_tried_elsewhere() -> None:
    """No line of the tables is idle, and the tests that they name are there."""
    idle = [name for name in ELSEWHERE if not any(line.begins(name) for line in ALL)]
    for name in (*BROKER, *ADDED):
        idle += [] if any(line.begins(name) for line in ALL) else [name]
    typed = {
        line.split(" ")[0]
        for page, text in PAGES.items()
        for line in foreign(page, text)
    }
    wrapped = {line.text.split(" ")[0] for line in ALL}
    tests = [test for _, test in ELSEWHERE.values()] + list(PROGRAMS.values())

    assert idle == []
    assert set(PROGRAMS) - typed - wrapped == set()
    for test in filter(None, tests):
        path, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text("utf-8") if name else True
        assert (ROOT / path).exists()


def test_no_other_program_is_asked_for() -> None:
    """What a page has its reader type is hptwin, or is in the table."""
    lines = [
        (page, line) for page, text in PAGES.items() for line in foreign(page, text)
    ]

    assert [x for x in lines if x[1].split(" ")[0] not in PROGRAMS] == []
    assert len(lines) > 20


def test_what_is_made_can_be_made() -> None:
    """Every ``make`` on a page has its target."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.M))
    asked = {
        words[1]
        for text in PAGES.values()
        for line in (*fenced(text), *spoken(text))
        if (words := line.split())[:1] == ["make"] and len(words) > 1
    }

    assert asked
    assert asked <= targets


def test_a_campaign_named_is_there() -> None:
    """``python -m`` of a page names a module of the house, and options that it has."""
    seen = 0
    for page, text in PAGES.items():
        for line in (*fenced(text), *spoken(text)):
            found = re.match(r"(?:nice )?python -m (tests(?:\.\w+)+)(.*)", line)
            if found is None or "NAME" in found[1]:
                continue
            path = ROOT / (found[1].replace(".", "/") + ".py")
            assert path.exists(), f"{page}: {line}"
            known = path.read_text("utf-8")
            known += (ROOT / "tests" / "campaigns" / "seeds.py").read_text("utf-8")
            options = re.findall(r"--[\w-]+", found[2].partition(" #")[0])
            absent = [one for one in options if f'"{one}"' not in known]
            assert absent == [], f"{page}: {line}"
            seen += 1
    assert seen > 5


def test_links_between_pages_lead_somewhere() -> None:
    """To a file that is there, and to a heading that it has."""
    wrong = []
    for page, text in PAGES.items():
        for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
            name, _, anchor = target.partition("#")
            path = (ROOT / page).parent / name if name else ROOT / page
            if not path.exists():
                wrong.append(f"{page}: {target}")
            elif anchor:
                headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.M)
                anchors = {
                    re.sub(r"[^\w -]", "", h).lower().replace(" ", "-")
                    for h in headings
                }
                if anchor not in anchors:
                    wrong.append(f"{page}: {target}")

    assert wrong == []


def test_the_front_door_leads_to_every_guide() -> None:
    """No guide is left where nobody finds it."""
    guides = {page for page in PAGES if page.startswith("docs/guide/")}

    assert set(GUIDES) < guides
    assert {page for page in guides if f"({page})" not in PAGES["README.md"]} == set()
