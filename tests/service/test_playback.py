"""A period replayed for the page: the very bytes, one at a time, and a way back."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import sample_results
from servers import until_true
from test_page import Visit, browser

from ingest import files
from twin import simulate
from twin.service import history
from twin.service.alarms import Alarms
from twin.service.config import ArchiveConfig, Config, load, open_configured
from twin.service.playback import Asked, Kept, Playback, PlaybackError
from twin.service.replay import midnight
from twin.service.results import Live, Results, ResultsView
from twin.service.state import State
from twin.service.web.app import create_app
from twin.service.web.server import Server

__all__ = ["browser"]  # the fixture

NOW = sample_results.NOW
DAY = timedelta(days=1)
DAYS = 4
BEGINS = midnight(NOW) - 6 * DAY
PERIOD = Asked(name="some days", start=BEGINS)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Return a plant with some days in its archive."""
    folder = tmp_path_factory.mktemp("plant")
    scenario = replace(
        simulate.scenario("healthy"),
        start=BEGINS - DAY,
        length=(DAYS + 1) * DAY,
        step=timedelta(minutes=30),
    )
    simulate.write(simulate.simulate(scenario), folder)
    found = load(folder / "plant.toml", {})
    found = replace(
        found,
        archive=ArchiveConfig(path=folder / "archive"),
        state_dir=folder / "state",
    )
    with closing(open_configured(found.archive)) as archive:
        for path in folder.glob("*.parquet"):
            if path.stem != "truth":
                own = [one for one in found.sources if one.unit == path.stem]
                files.read(path, own, partial=True).into(archive)
    return found


@pytest.fixture(scope="module")
def alone(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what the command line's replay of the period writes."""
    folder = tmp_path_factory.mktemp("alone")
    history.replayed(config, (), start=BEGINS, out=folder)
    assert len(written(folder)) == 6
    return folder


@pytest.fixture
def playback(config: Config, tmp_path: Path) -> Iterator[Playback]:
    """Return one that keeps its replays here, and ends with the test."""
    with closing(State.in_memory()) as state:
        found = Playback(config, tmp_path / "replays", state)
        yield found
        found.close()


def ended(playback: Playback) -> str:
    """Wait for the end of a replay, and return why it was none."""
    assert until_true(lambda: playback.course and not playback.course.running)
    assert playback.course is not None
    return playback.course.problem


def written(folder: Path) -> dict[str, bytes]:
    """Return the six files of some results."""
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != "asked.json"
    }


def test_it_is_the_replay_of_the_command_line(
    config: Config, playback: Playback, alone: Path
) -> None:
    """To the byte; the audit knows for whom, the service's models stay as they are."""
    assert playback.course is None
    assert playback.kept() == []
    playback.begin(PERIOD, "Ada", NOW)
    assert ended(playback) == ""

    assert written(playback.folder / PERIOD.name) == written(alone)
    course = playback.course
    assert course is not None
    assert (course.done, course.total, course.who) == (DAYS, DAYS, "Ada")
    found = Results.read(alone)
    assert playback.kept() == [
        Kept(
            name=PERIOD.name,
            asked=PERIOD,
            until=found.generated,
            findings=len(found.findings),
        )
    ]
    assert not (config.state_dir / "models").exists()
    with pytest.raises(PlaybackError, match='there is a replay called "some days"'):
        playback.begin(PERIOD, "Ada", NOW)
    playback.remove(PERIOD.name, "Grace", NOW)
    assert playback.kept() == []
    state = playback._state
    assert state is not None
    told = [(one.actor, one.action, one.subject) for one in Alarms(state).history()]
    assert told == [
        ("Grace", "replay_removed", "replay/some days"),
        ("Ada", "replay_begun", "replay/some days"),
    ]


@contextmanager
def held(playback: Playback) -> Iterator[int]:
    """Begin a replay and hold its process after its first day; yield its pid."""
    playback.begin(PERIOD, "Ada", NOW)
    process = playback._process
    assert process is not None
    assert process.pid is not None
    assert until_true(lambda: playback.course and playback.course.total)
    os.kill(process.pid, signal.SIGSTOP)
    yield process.pid
    assert not process.is_alive()
    assert not Path(f"/proc/{process.pid}").exists()


def test_one_that_died_is_told_and_goes_on(playback: Playback, alone: Path) -> None:
    """For want of memory for instance; asked for again it writes the same bytes."""
    with held(playback) as pid:
        os.kill(pid, signal.SIGKILL)
        assert "its process ended with -9" in ended(playback)
    [kept] = playback.kept()
    assert (kept.until, kept.asked) == (None, PERIOD)

    playback.begin(PERIOD, "Ada", NOW)
    assert ended(playback) == ""
    assert written(playback.folder / PERIOD.name) == written(alone)


def test_one_at_a_time_until_it_is_stopped(playback: Playback) -> None:
    """While it runs no other is begun, and it is not removed."""
    with held(playback) as pid:
        with pytest.raises(PlaybackError, match="wait for it or stop it"):
            playback.begin(replace(PERIOD, name="another"), "Ada", NOW)
        with pytest.raises(PlaybackError, match="stop it first"):
            playback.remove(PERIOD.name, "Ada", NOW)
        os.kill(pid, signal.SIGCONT)
        playback.stop("Grace", NOW)
        assert ended(playback) == "it was stopped; asked for again, it goes on"
    with pytest.raises(PlaybackError, match="no replay is running"):
        playback.stop("Grace", NOW)
    assert not (playback.folder / PERIOD.name / "summary.json").exists()


def test_it_ends_with_the_service(playback: Playback) -> None:
    """No process is left behind."""
    with held(playback) as pid:
        os.kill(pid, signal.SIGCONT)
        playback.close()
        assert "the service ended" in ended(playback)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"name": ""}, "cannot be the name of a replay"),
        ({"name": "../state"}, "cannot be the name of a replay"),
        ({"name": ".hidden"}, "cannot be the name of a replay"),
        ({"name": "x" * 81}, "cannot be the name of a replay"),
        ({"stop": BEGINS}, "ends before it begins"),
    ],
)
def test_what_cannot_be_replayed_is_said_at_once(
    playback: Playback, asked: dict[str, object], sentence: str
) -> None:
    """With what can be; nothing is begun."""
    with pytest.raises(PlaybackError, match=sentence):
        playback.begin(replace(PERIOD, **asked), "Ada", NOW)  # type: ignore[arg-type]
    with pytest.raises(PlaybackError, match="no replay is called"):
        playback.remove("../state", "Ada", NOW)
    assert playback.course is None
    assert not playback.folder.exists()


def test_what_only_the_archive_knows_is_said_at_the_end(playback: Playback) -> None:
    """Such as that it has nothing of the period."""
    playback.begin(replace(PERIOD, start=NOW + 99 * DAY), "Ada", NOW)
    assert "leaves nothing of the period" in ended(playback)


# --- the page ----------------------------------------------------------------


@contextmanager
def served(playback: Playback) -> Iterator[httpx.Client]:
    """Serve the page to a program."""
    results = sample_results.results()
    with closing(State.in_memory()) as state:
        app = create_app(
            ResultsView(results),
            Alarms(state),
            Live(),
            replays=playback.folder,
            playback=playback,
            clock=lambda: NOW,
        )
        with (
            Server(app, port=0) as server,
            httpx.Client(base_url=server.url, trust_env=False) as client,
        ):
            client.headers["origin"] = server.url
            yield client


def test_a_program_asks_for_a_replay_as_a_person_does(playback: Playback) -> None:
    """The form's fields; what is wrong with them is said, as text or as JSON."""
    with served(playback) as client:

        def post(path: str, **form: str) -> tuple[int, str]:
            answer = client.post(f"/replays/{path}", data={"who": "Ada", **form})
            said = re.sub(r"<[^>]+>", "", answer.text)
            return answer.status_code, said

        assert client.get("/api/replays").json() == {"course": None, "kept": []}
        for form, status, sentence in (
            ({"from": "soon"}, 409, "is no day"),
            ({"surface": "hp1/condenser"}, 409, "both what and on which day"),
            ({"who": " "}, 409, "a name is needed"),
            ({"name": "a/b"}, 409, "cannot be the name"),
        ):
            code, said = post("begin", **form)
            assert (code, sentence in said) == (status, True), said
        assert post("stop")[0] == 409
        assert post("remove", name="nothing")[0] == 409


def test_a_person_replays_some_days_and_compares(browser, playback: Playback) -> None:
    """Days are chosen, the page tells how far it is and then lays both side by side."""
    first, last = f"{BEGINS:%Y-%m-%d}", f"{BEGINS + DAY:%Y-%m-%d}"
    with Visit(browser, playback=playback) as visit:
        page = visit.open("/replays")
        page.get_by_label("From").fill(first)
        page.get_by_label("To, that day included").fill(last)
        page.get_by_label("Your name").fill("Ada")
        page.get_by_role("button", name="Replay").click()
        page.wait_for_selector("#course progress")
        page.wait_for_selector("text=✓ through", timeout=60_000)
        page.get_by_role("link", name="beside now").click()

        assert f"{first} to {last}" in page.locator(".sides").inner_text()
        # Its look comes from the one sheet that the page may have.
        second = page.locator(".sides span").nth(1)
        line = second.evaluate(
            "each => getComputedStyle(each, '::before').borderTopStyle"
        )
        assert line == "dashed"
        assert visit.errors == []
        assert visit.foreign() == []
    listed = [(one.name, one.asked) for one in playback.kept()]
    name = f"{first} to {last}"
    stop = BEGINS + 2 * DAY
    assert listed == [(name, Asked(name=name, start=BEGINS, stop=stop))]
