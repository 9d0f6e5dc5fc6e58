"""A newcomer's way by the README: from git clone to a page on which values change.

``python -m tests.campaigns.newcomer [--from REPOSITORY] [--pictures FOLDER]
[--json]`` clones what is committed into an empty folder, under an
empty HOME and without what pip has kept, and types what README.md and its first
guide say, as they stand in the clone: a line that is not there any more, or does
something else than they say, ends the walk with 1. Questions are answered, and
what is to be filled in by hand is filled in here; a person takes longer for these
two than the seconds that are told. The page is opened in a real chromium.

The plant is played from a file to a real mosquitto. Where port 8080 is taken the
walk takes another, as the README tells its reader to.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
import servers
from house.test_guides import command, fenced

from . import rig

README, GUIDE = "README.md", "docs/guide/install.md"
UNIT, PORT = "hp1", 8080
WANTED_S = 900.0
ANSWERS = ("Hall 2", UNIT, "R1234ze(E)", "127.0.0.1", f"plant/{UNIT}")
REPOSITORY = "<this repository>"
# What a shell of a fresh machine has; everything else of ours is left behind.
_KEPT = ("LANG", "LC_ALL", "TERM", "TZ", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


class StumbleError(Exception):
    """The walk cannot go on: which step, what was expected, and what came."""


@dataclass
class Step:
    """What was done, how long it took, and the longest wait without a word. [s].

    None where nobody watched the terminal: on it or on the page something was asked.
    """

    name: str
    typed: str
    seconds: float = 0.0
    silent_s: float | None = None


@dataclass
class Walk:
    """The steps so far, and what ended it."""

    steps: list[Step] = field(default_factory=list)
    stumbled: str = ""

    @property
    def seconds(self) -> float:
        """All of them together. [s]."""
        return sum(step.seconds for step in self.steps)

    @contextlib.contextmanager
    def step(self, name: str, typed: str = "") -> Iterator[Step]:
        """Time a step; what goes wrong in it says which it was."""
        made = Step(name, typed)
        rig.say(f"{name} ...")
        began = time.monotonic()
        try:
            yield made
        except (StumbleError, rig.BlindError) as error:
            raise StumbleError(f"{name}: {typed}: {error}") from error
        finally:
            made.seconds = round(time.monotonic() - began, 1)
            self.steps.append(made)
        rig.say(f"{name}: {made.seconds:g} s")


# --- what the pages say -------------------------------------------------------


def line_of(page: str, text: str, *words: str) -> str:
    """Return the one line of a page's blocks that has all these words.

    Words are compared whole; what stands behind a ``#`` is left out.

    Raises
    ------
    StumbleError
        If no line has them, or two that differ do.
    """
    found = []
    for line in fenced(text):
        said = line.partition(" #")[0].strip()
        known = command(page, line)
        typed = known.words if known else tuple(said.replace("&&", " ").split())
        if set(words) <= set(typed):
            found.append(said)
    if len(set(found)) != 1:
        number = len(set(found)) or "no"
        raise StumbleError(f"{page} has {number} line to type with {' '.join(words)}")
    return found[0]


def lacks(text: str, *said: str) -> list[str]:
    """Return which of these a text does not say, however its lines are broken."""
    plain = " ".join(text.split())
    return [one for one in said if one not in plain]


def filled_in(text: str, sheet: Mapping[str, Any], broker: int, page: int) -> str:
    """Return a first plant.toml as its reader leaves it.

    Parameters
    ----------
    text : str
        What ``hptwin init`` wrote.
    sheet : mapping
        The ``[[heat_pump]]`` of the plant that is played: its data sheet.
    broker, page : int
        Where they listen.

    Raises
    ------
    StumbleError
        If something that is to be filled in does not stand in the text once.
    """

    def put(pattern: str, instead: str) -> None:
        nonlocal text
        text, number = re.subn(pattern, lambda _: instead, text, flags=re.M)
        if number != 1:
            raise StumbleError(f"plant.toml has {number} lines like {pattern}")

    put(r"^port = 1883$", f"port = {broker}")
    put(r"^port = 8080$", f"port = {page}")
    for key, value in sheet["nameplate"].items():
        if key in ("speed", "speed_max", "sink_heat_min"):
            continue
        put(rf'^{key} = "[^"]*"', f'{key} = "{value}"')
    source = sheet["source"]
    put(
        r'^\[heat_pump\.source\]\ncoolant = "water"',
        f'[heat_pump.source]\ncoolant = "{source["coolant"]}"\n'
        f'mass_fraction = "{source["mass_fraction"]}"',
    )
    for begin in ("suction_pressure_pa =", "compressor_discharge_pressure_pa ="):
        put(rf"^# {begin}", begin)
    for begin in ("[[consumer]]", "id =", "use =", "supply_temp =", "demand ="):
        put(rf"^# {re.escape(begin)}", begin)
    return text


# --- the fresh machine --------------------------------------------------------


def environment(folder: Path, ours: Mapping[str, str]) -> dict[str, str]:
    """Return what a fresh user has: an empty HOME, nothing of this environment.

    Which index pip asks, and how, is the machine's and stays; what it has kept of
    earlier downloads does not.
    """
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    kept = {
        name: value
        for name, value in ours.items()
        if name in _KEPT or name.lower() in _PROXIES or name.startswith("PIP_")
    }
    own = Path(ours.get("HOME", "/")) / ".config" / "pip" / "pip.conf"
    if own.exists():
        kept.setdefault("PIP_CONFIG_FILE", str(own))
    venv = ours.get("VIRTUAL_ENV")
    places = ours.get("PATH", os.defpath).split(os.pathsep)
    path = [one for one in places if not venv or not one.startswith(venv)]
    return kept | {
        "HOME": str(home),
        "PATH": os.pathsep.join(path),
        "PIP_CACHE_DIR": str(home / ".cache" / "pip"),
        "TERM": kept.get("TERM", "xterm"),
    }


class Terminal:
    """A command on a terminal of its own: what it says, and when.

    Parameters
    ----------
    before : sequence of str
        What was typed here first: ``cd`` and the like.
    typed : str
        The command.
    where : Path
        Where the terminal was opened.
    environ : mapping
        Of the user.
    """

    def __init__(
        self, before: Sequence[str], typed: str, where: Path, environ: Mapping[str, str]
    ) -> None:
        self.typed = typed
        self._said: list[str] = []
        self._began = time.monotonic()
        self._times: list[float] = []
        ours, theirs = pty.openpty()
        script = "\n".join(["set -e", *before, f"exec {typed}"])
        self._process = subprocess.Popen(
            # What a shell starts in the background ignores Ctrl-C, and so would all
            # that is started here; a terminal's programs do not.
            ["env", "--default-signal=INT", "bash", "-c", script],
            cwd=where,
            env=dict(environ),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._line = ours
        self._ear = threading.Thread(target=self._listen, daemon=True)
        self._ear.start()

    def _listen(self) -> None:
        # When the last program has closed the terminal, reading it is an error.
        with contextlib.suppress(OSError):
            while some := os.read(self._line, 65536):
                self._said.append(some.decode("utf-8", "replace"))
                self._times.append(time.monotonic())

    @property
    def text(self) -> str:
        """What stands on it."""
        return _COLOURS.sub("", "".join(self._said)).replace("\r\n", "\n")

    @property
    def silent_s(self) -> float:
        """The longest wait without a word, up to now. [s]."""
        times = [self._began, *self._times, time.monotonic()]
        return round(max(b - a for a, b in itertools.pairwise(times)), 1)

    def until(self, words: str, seconds: float) -> str:
        """Wait for some words, and return all that was said."""
        end = time.monotonic() + seconds
        while words not in self.text:
            code = self._process.poll()
            if code is not None:
                self._ear.join(5)
                if words in self.text:
                    break
                raise StumbleError(f'ended with {code} before "{words}":{self.tail}')
            if time.monotonic() > end:
                raise StumbleError(f'no "{words}" in {seconds:g} s:{self.tail}')
            time.sleep(0.05)
        return self.text

    @property
    def tail(self) -> str:
        """The end of what was said, for a sentence about it."""
        return "\n" + self.text[-1500:]

    def answer(self, words: str) -> None:
        """Wait for a question, and type an answer."""
        asked = self.text.count("]: ")
        os.write(self._line, f"{words}\n".encode())
        rig.until(
            lambda: self.text.count("]: ") > asked or self._process.poll() is not None,
            "the next question",
        )

    def signal(self, number: int) -> None:
        """Send a signal to all that runs on it, as a terminal's Ctrl-C does."""
        os.killpg(self._process.pid, number)

    def end(self, seconds: float, *codes: int) -> str:
        """Wait for its end, and return all that was said.

        Raises
        ------
        StumbleError
            If it goes on, ends with another code, or leaves a traceback.
        """
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise StumbleError(f"goes on after {seconds:g} s:{self.tail}") from None
        self._ear.join(5)
        if code not in codes:
            wanted = " or ".join(map(str, codes))
            raise StumbleError(f"ended with {code}, not {wanted}:{self.tail}")
        if "Traceback" in self.text:
            raise StumbleError(f"leaves a traceback:{self.tail}")
        return self.text

    def close(self) -> None:
        """End what still runs."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGKILL)
            self._process.wait()
        self._ear.join(5)
        os.close(self._line)


# --- the page -----------------------------------------------------------------

_SHOWN = """unit => Object.fromEntries(
    [...document.querySelectorAll(`[data-unit="${unit}"][data-point]`)]
    .map(place => [place.dataset.point, place.textContent.trim()]))"""


class Window:
    """A page in a real browser, with every error of its scripts."""

    def __init__(self, browser: Any) -> None:
        self.errors: list[str] = []
        self.page = browser.new_page(
            viewport={"width": 1180, "height": 760}, locale="en-GB"
        )
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._console)

    def _console(self, said: Any) -> None:
        if said.type == "error":
            self.errors.append(said.text)

    def open(self, url: str) -> None:
        """Open an address, and wait until it is live."""
        self.page.goto(url)
        self.page.wait_for_selector("#line.on", timeout=60_000)

    def values(self) -> dict[str, str]:
        """Return what is shown of the machine that has a number, by point."""
        shown = self.page.evaluate(_SHOWN, UNIT)
        return {k: v for k, v in shown.items() if re.search(r"\d", v)}

    def until(
        self, true: Callable[[dict[str, str]], bool], what: str, seconds: float = 90.0
    ) -> None:
        """Wait until the values are so; the page's own events go on meanwhile."""
        end = time.monotonic() + seconds
        while not true(shown := self.values()):
            if time.monotonic() > end:
                raise StumbleError(f"{what}: not within {seconds:g} s; shown: {shown}")
            self.page.wait_for_timeout(250)

    def close(self, picture: Path | None) -> None:
        """Take a picture, and raise what went wrong in its scripts."""
        if picture is not None:
            picture.parent.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=picture)
        self.page.close()
        if self.errors:
            raise StumbleError(f"errors of the page's scripts: {self.errors[:3]}")


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Run a browser; skip where there is none."""
    path = servers.program("chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


# --- the walk -----------------------------------------------------------------


def free(port: int) -> bool:
    """Whether nobody listens on a port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Newcomer:
    """Who walks: a folder, an environment, and the pages as they were cloned."""

    def __init__(self, folder: Path, browser: Any, pictures: Path | None) -> None:
        self.folder, self.browser, self.pictures = folder, browser, pictures
        self.environ = environment(folder, os.environ)
        self.before: list[str] = []
        self.walk = Walk()
        self.port = PORT
        self._open = contextlib.ExitStack()

    @property
    def clone(self) -> Path:
        """Where the repository is."""
        return self.folder / "hptwin"

    def page(self, name: str) -> str:
        """Return a page of the clone."""
        return (self.clone / name).read_text("utf-8")

    def terminal(self, typed: str) -> Terminal:
        """Type a command into a terminal in which all before it was typed too."""
        made = Terminal(self.before, typed, self.folder, self.environ)
        self._open.callback(made.close)
        return made

    def types(self, name: str, typed: str, *codes: int, seconds: float = 120.0) -> str:
        """Type a command that ends by itself; return what it said."""
        with self.walk.step(name, typed) as step:
            shown = self.terminal(typed)
            said = shown.end(seconds, *(codes or (0,)))
            step.silent_s = shown.silent_s
        return said

    def close(self) -> None:
        """End whatever still runs."""
        self._open.close()

    def picture(self, name: str) -> Path | None:
        """Return where a picture goes, None where none is wanted."""
        return None if self.pictures is None else self.pictures / f"{name}.png"

    def clones(self, source: str, readme: str) -> None:
        """Step 1: what is committed, into an empty folder."""
        line = line_of(README, readme, "git", "clone")
        clone, _, change = line.partition(" && ")
        if REPOSITORY not in clone or not change.startswith("cd "):
            raise StumbleError(f"README: {line}: is no git clone {REPOSITORY} && cd")
        self.types("clone", clone.replace(REPOSITORY, shlex.quote(source)))
        self.before.append(change)

    def demo(self) -> None:
        """Step 2: make demo, its page, and Ctrl-C."""
        readme = self.page(README)
        typed = line_of(README, readme, "make", "demo")
        promised = f"http://127.0.0.1:{PORT}"
        if absent := lacks(readme, promised, "make demo PORT=", "Ctrl-C ends it"):
            raise StumbleError(f"README.md does not say {', '.join(absent)}")
        if not free(PORT):
            self.port = servers.free_port()
            typed = f"{typed} PORT={self.port}"
            rig.say(f"port {PORT} is taken on this machine: {typed}, as README says")
        url = f"http://127.0.0.1:{self.port}"
        with self.walk.step("set up", typed) as step:
            shown = self.terminal(typed)
            shown.until("broker  ", 900)
            step.silent_s = shown.silent_s
        with self.walk.step("demo, to its closing table", typed):
            shown.until(url, 60)
            said = shown.until("Ctrl-C ends.", 600)
            if absent := lacks(said, "planted / found", f"Open {url}"):
                raise StumbleError(f"does not say {absent}:{shown.tail}")
            if "not found" in said or "not planted" in said:
                raise StumbleError(f"not all is found:{shown.tail}")
        with self.walk.step("demo's page", url):
            window = Window(self.browser)
            window.open(f"{url}/unit/{UNIT}")
            window.until(lambda seen: len(seen) > 5, "live values")
            first = window.values()
            window.until(lambda seen: seen != first, "values that change")
            window.close(self.picture("demo"))
        with self.walk.step("demo, Ctrl-C", typed):
            shown.signal(signal.SIGINT)
            # make ends as a program does that was interrupted: 130 to a shell.
            shown.end(30, -signal.SIGINT, 130, 0)
            if absent := lacks(shown.text, "ended"):
                raise StumbleError(f"does not say {absent}:{shown.tail}")

    def describes(self, broker: int) -> None:
        """Step 3: init, by hand, check, check --online."""
        readme = self.page(README)
        enters = line_of(README, readme, ".", ".venv/bin/activate")
        self.before.append(enters)
        typed = line_of(README, readme, "hptwin", "init")
        with self.walk.step("init", typed):
            shown = self.terminal(typed)
            rig.until(lambda: "]: " in shown.text, "the first question")
            for words in ANSWERS:
                shown.answer(words)
            said = shown.end(30, 0)
            if absent := lacks(said, "Next: ", "hptwin check"):
                raise StumbleError(f"does not say {absent}:{shown.tail}")
        lines = [x for x in fenced(readme) if x.startswith("hptwin check -c")]
        check = line_of(README, "```\n" + "\n".join(lines) + "\n```", "hptwin", "check")
        said = self.types("check, nothing filled in", check, 1)
        if absent := lacks(said, "nameplate", "still the example", "missed_recovery"):
            raise StumbleError(f"{check}: does not say {absent}:\n{said}")
        guide = self.page(GUIDE)
        self.types("simulate a plant", line_of(GUIDE, guide, "hptwin", "simulate"))
        played = tomllib.loads(self.page("played/plant.toml"))
        file = self.clone / "my-plant" / "plant.toml"
        sheet = next(one for one in played["heat_pump"] if one["id"] == UNIT)
        text = filled_in(file.read_text("utf-8"), sheet, broker, self.port)
        file.write_text(text, "utf-8")
        said = self.types("check, filled in", check)
        if "nameplate" in said or lacks(said, "inferred missed_recovery"):
            raise StumbleError(f"{check}: goes on about what is filled in:\n{said}")
        online = line_of(README, readme, "hptwin", "check", "--online")
        said = self.types("check --online", online)
        if absent := lacks(said, f"broker: 127.0.0.1:{broker}", f"plant/{UNIT}"):
            raise StumbleError(f"{online}: does not say {absent}:\n{said}")

    def runs(self) -> None:
        """Step 4: run, telemetry that is played, the page, SIGTERM."""
        typed = line_of(README, self.page(README), "hptwin", "run")
        url = f"http://127.0.0.1:{self.port}"
        with self.walk.step("run, until its page answers", typed) as step:
            service = self.terminal(typed)
            service.until(f"page {url}", 60)
            step.silent_s = service.silent_s
        window = Window(self.browser)
        with self.walk.step("the page before any reading", url):
            window.open(f"{url}/unit/{UNIT}")
        guide = self.page(GUIDE)
        fast = line_of(GUIDE, guide, "hptwin", "publish", "--as-fast-as-possible")
        self.types("publish two days", fast)
        with self.walk.step("its values on the page", url):
            # The page was opened before there was any, and is not loaded again.
            window.until(lambda seen: len(seen) > 5, "live values")
            first = window.values()
        live = line_of(GUIDE, guide, "hptwin", "publish", "--speed")
        with self.walk.step("values that change", live):
            gateway = self.terminal(live)
            window.until(lambda seen: seen != first, "values that change")
            window.close(self.picture("plant"))
        with self.walk.step("the overview", url):
            overview = Window(self.browser)
            overview.open(f"{url}/")
            overview.close(self.picture("overview"))
        with self.walk.step("publish, Ctrl-C", live):
            gateway.signal(signal.SIGINT)
            gateway.end(20, 130)
        with self.walk.step("run, SIGTERM", typed):
            service.signal(signal.SIGTERM)
            said = service.end(30, 0)
            if "ERROR" in said:
                raise StumbleError(f"had errors:{service.tail}")


def walk(folder: Path, source: str, pictures: Path | None) -> Walk:
    """Walk all of it, and return how it was.

    Parameters
    ----------
    folder : Path
        Empty; everything is in there afterwards.
    source : str
        What is cloned: a path or a URL.
    pictures : Path, optional
        Where pictures of the pages are left.
    """
    (folder / "broker").mkdir()
    with (
        chromium() as browser,
        servers.mosquitto(folder / "broker") as broker,
        contextlib.closing(Newcomer(folder, browser, pictures)) as newcomer,
    ):
        try:
            newcomer.clones(source, (rig.ROOT / README).read_text("utf-8"))
            newcomer.demo()
            newcomer.describes(broker.port)
            newcomer.runs()
        except StumbleError as error:
            newcomer.walk.stumbled = str(error)
        return newcomer.walk


def main() -> None:
    """Walk, print what each step took, and end the process."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.newcomer")
    parser.add_argument(
        "--from", dest="source", default=rig.ROOT.as_uri(), help="what is cloned"
    )
    parser.add_argument("--pictures", type=Path, help="where pictures are left")
    parser.add_argument("--json", action="store_true", help="the result as one object")
    given = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="newcomer-") as folder:
            done = walk(Path(folder), given.source, given.pictures)
    except pytest.skip.Exception as reason:
        rig.say(f"newcomer: skipped: {reason}")
        sys.exit(1 if os.environ.get("CI") else 0)
    broken = [done.stumbled] if done.stumbled else []
    if done.seconds > WANTED_S:
        broken.append(f"it took {done.seconds:.0f} s; wanted are {WANTED_S:g}")
    if given.json:
        told = {"steps": [asdict(each) for each in done.steps]}
        total = {"seconds": round(done.seconds, 1), "wanted_s": WANTED_S}
        print(json.dumps({**told, **total, "broken": broken}))  # noqa: T201
    else:
        for each in done.steps:
            print(f"{each.seconds:7.1f} s  {each.name}: {each.typed}")  # noqa: T201
        print(f"{done.seconds:7.1f} s  in all; wanted: {WANTED_S:g}")  # noqa: T201
        for sentence in broken:
            print(f"STUMBLED: {sentence}")  # noqa: T201
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
