"""The state database: several writers lose nothing, and an outage is no end.

On both databases where both can do it; what only a server can do to a service,
against a real PostgreSQL that goes away and comes back.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import servers
from servers import until_true
from typer.testing import CliRunner

from ingest.broker import Publisher
from twin.finding import Finding, FindingKind
from twin.service.alarms import Alarms, Case, Transition
from twin.service.backup import BackupError, backup, restore
from twin.service.cli import app
from twin.service.config import ArchiveConfig, Config, StateConfig, WebConfig, load
from twin.service.run import Service
from twin.service.state import (
    FILE,
    AuditEntry,
    Message,
    State,
    StateError,
    StateUnavailableError,
    look,
)
from twin.service.users import Role, Users
from twin.service.web.app import create_app
from twin.service.web.server import Server

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
PLANT = servers.MOSQUITTO_CONF.parent / "plant.toml"


def finding(unit: str) -> Finding:
    """Return a fault of a machine."""
    return Finding(
        unit=unit,
        kind=FindingKind.FOULING,
        component="condenser",
        since=START,
        seen=START,
        size=0.2,
        low=0.1,
        high=0.3,
        sentence="It is fouled.",
        advice="Clean it.",
    )


@pytest.fixture
def config(tmp_path: Path, postgres: servers.Postgres, database: str) -> Config:
    """Return the example plant with its state in a schema of the test's own."""
    postgres.run(f"CREATE SCHEMA {database}")
    return wired(tmp_path, postgres, database)


def wired(folder: Path, postgres: servers.Postgres, schema: str) -> Config:
    """Return the example plant with its state in a schema."""
    secret = folder / "postgres.password"
    secret.write_text(postgres.password + "\n", "utf-8")
    secret.chmod(0o600)
    return replace(
        load(PLANT, {}),
        archive=ArchiveConfig(path=folder / "archive"),
        state_dir=folder / "state",
        state=StateConfig(
            url=f"{postgres.url}?options=-csearch_path%3D{schema}", secret_file=secret
        ),
        web=WebConfig(port=0),
    )


# --- several writers ---------------------------------------------------------


def test_two_that_look_at_the_same_plant_lose_no_case(kept) -> None:
    """Each finds its own, a person takes note, and each sees all of it."""
    one, two = Alarms(kept.open()), Alarms(kept.open())
    one.step([finding("hp1")], START, judged={"hp1"})
    two.step([finding("hp2")], START + HOUR, judged={"hp2"})
    two.acknowledge("hp1/fouling/condenser", "Ada", START + HOUR)
    one.step([finding("hp1")], START + 2 * HOUR, judged={"hp1"})
    two.step([finding("hp2")], START + 3 * HOUR, judged={"hp2"})

    for alarms in (one, two, Alarms(kept.open())):
        cases = alarms.board.cases
        assert sorted(case.finding.unit for case in cases.values()) == ["hp1", "hp2"]
        note = cases["hp1/fouling/condenser"].acknowledged
        assert note is not None
        assert note.who == "Ada"
    told = [entry.action for entry in one.history()]
    assert sorted(told) == ["acknowledged", "raised", "raised"]


def test_a_page_sees_what_another_process_did(kept) -> None:
    """At the next look at the board, and its listeners are told."""
    page, command = Alarms(kept.open()), Alarms(kept.open())
    before = page.revision
    command.step([finding("hp1")], START)

    assert len(page.cases()) == 1
    assert page.revision > before
    before = page.revision
    assert len(page.cases()) == 1
    assert page.revision == before


def counted(state: State, once: Callable[[State, threading.Barrier], None]) -> int:
    """Return what two at once make of a number that each counts up by one."""
    state.save(facts={"number": "0"})
    ready = threading.Barrier(2, timeout=30.0)
    writers = [threading.Thread(target=once, args=(state, ready)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    return int(state.fact("number") or 0)


def test_reading_and_writing_are_one(kept) -> None:
    """Who is alone counts on from what the other wrote; who is not, does not."""

    def alone(state: State, ready: threading.Barrier) -> None:
        ready.wait()
        with state.alone() as kept:
            kept.save(facts={"number": str(int(kept.fact("number") or 0) + 1)})

    def apart(state: State, ready: threading.Barrier) -> None:
        number = int(state.fact("number") or 0)
        ready.wait()
        state.save(facts={"number": str(number + 1)})

    state = kept.open()
    assert counted(state, alone) == 2
    assert counted(state, apart) == 1


_CHILD = """
import sys
from datetime import UTC, datetime, timedelta
from twin.finding import Finding, FindingKind
from twin.service.alarms import Alarms
from twin.service.state import Message, State

name, start = sys.argv[2], datetime(2026, 1, 1, tzinfo=UTC)

def say(transition, case):
    return [Message(idempotency_key=transition.key, route="r", created=start,
                    content={})]

alarms = Alarms(State(sys.argv[1]), compose=say)
print("ready", flush=True)
sys.stdin.readline()
for n in range(25):
    unit = f"{name}{n:02}"
    alarms.step([Finding(unit=unit, kind=FindingKind.FOULING, component="condenser",
        since=start, seen=start, size=.2, low=.1, high=.3, sentence="s", advice="a")],
        datetime.now(UTC), judged=[])
"""


def test_two_processes_at_full_speed_lose_nothing(kept) -> None:
    """Fifty cases, fifty lines, fifty messages; the audit counts without a gap."""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _CHILD, kept.url, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=PLANT.parents[1],
        )
        for name in "ab"
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.communicate("go\n", timeout=120)
        assert child.returncode == 0
    state = kept.open()

    units = {case["finding"]["unit"] for case in state.cases().values()}
    assert units == {f"{name}{n:02}" for name in "ab" for n in range(25)}
    assert state.revision() == 50
    assert state.backlog().count == 50
    assert len(state.audit(limit=1000)) == 50


def test_two_that_begin_at_once_make_the_tables_once(
    postgres: servers.Postgres, config: Config
) -> None:
    """Of two hosts that start together neither fails."""
    failed: list[Exception] = []

    def begin() -> None:
        try:
            State.configured(config).close()
        except StateError as error:
            failed.append(error)

    starters = [threading.Thread(target=begin) for _ in range(4)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()

    assert failed == []
    with closing(State.configured(config)) as state:
        assert state.fact("site") == config.plant.name


def test_a_name_that_a_database_cannot_hold_is_held(state: State) -> None:
    """A NUL in what somebody typed is no reason to lose the line."""
    state.save(
        audit=[AuditEntry(time=START, actor="A\0da", action="x", subject="hp\0")]
    )

    [line] = state.audit(subject="hp\0")
    assert line.actor == "A\ufffdda"
    assert state.audit(subject="hp") == []


def test_who_may_come_in_is_decided_by_one_at_a_time(kept) -> None:
    """A new password and a new role, by two processes: both hold."""
    one, two = Users(kept.open()), Users(kept.open())
    one.add("ada", "correct horse battery", Role.ADMIN, "test", START)
    one.add("bob", "incorrect horse", Role.ADMIN, "test", START)
    before = two.accounts()["bob"].password
    one.set_password("bob", "another horse", "ada", START)
    two.set_role("bob", Role.VIEWER, "ada", START)

    bob = one.accounts()["bob"]
    assert bob.role == Role.VIEWER
    assert bob.password != before
    assert one.login("bob", "another horse", "a", START)


# --- what is refused, and what is said ---------------------------------------


def test_the_password_is_shown_nowhere(
    config: Config, postgres: servers.Postgres, tmp_path: Path
) -> None:
    """Neither the right one nor a wrong one, in no error and no representation."""
    wrong = tmp_path / "wrong"
    wrong.write_text("hunter2", "utf-8")
    bad = replace(config, state=replace(config.state, secret_file=wrong))
    with pytest.raises(StateUnavailableError, match="password authentication") as error:
        State.configured(bad)
    said, problems = look(bad)
    with closing(State.configured(config)) as state:
        shown = [state.place, repr(state), repr(config), repr(bad), look(config)[0]]
    shown += [str(error.value), repr(error.value.__cause__), said, *problems]

    assert "password authentication failed" in problems[0]
    for secret in ("hunter2", postgres.password):
        assert secret not in " ".join(shown)


def test_a_variable_will_do(config: Config, postgres: servers.Postgres, monkeypatch):
    """As with every secret; and without any the server says what it lacks."""
    named = replace(
        config,
        state=replace(config.state, secret_file=None, secret_env="HPTWIN_PG"),  # noqa: S106
    )
    monkeypatch.setenv("HPTWIN_PG", postgres.password)
    assert look(named)[1] == []
    monkeypatch.delenv("HPTWIN_PG")
    assert "no password supplied" in look(named)[1][0]


@pytest.fixture
def lacking(
    request: pytest.FixtureRequest, postgres: servers.Postgres, config: Config
) -> Iterator[Config]:
    """Spoil the configured database in one way."""
    schema = request.getfixturevalue("database")
    url = config.state.url
    drop = ""
    match request.param:
        case "database":
            url = url.replace("/postgres?", "/nowhere?")
        case "schema":
            url = url.replace(schema, "nowhere")
        case "rights":
            postgres.run(f"CREATE ROLE {schema} LOGIN PASSWORD '{postgres.password}'")
            postgres.run(f"GRANT USAGE ON SCHEMA {schema} TO {schema}")
            url = url.replace("//hptwin@", f"//{schema}@")
            drop = f"REVOKE ALL ON SCHEMA {schema} FROM {schema}; DROP ROLE {schema}"
        case "newer":
            with closing(State.configured(config)) as state:
                state.save(facts={"version": "99"})
        case "other":
            with closing(State.configured(config)) as state:
                state.save(facts={"site": "another plant"})
        case "letters":
            postgres.run(
                f"CREATE DATABASE {schema} ENCODING 'LATIN1' TEMPLATE template0"
            )
            url = postgres.url.replace("/postgres", f"/{schema}")
            drop = f"DROP DATABASE {schema} WITH (FORCE)"
        case "port":
            port = servers.free_port()
            url = url.replace(f":{postgres.server.port}/", f":{port}/")
    yield replace(config, state=replace(config.state, url=url))
    if drop:
        for statement in drop.split("; "):
            postgres.run(statement)


@pytest.mark.parametrize(
    ("lacking", "sentence"),
    [
        ("database", 'database "nowhere" does not exist'),
        ("schema", "search_path is not there"),
        ("rights", "may make no tables in the schema"),
        ("newer", "written by a newer hptwin (version 99"),
        ("other", 'holds the state of "another plant"'),
        ("letters", "its encoding is LATIN1"),
        ("port", "onnection refused"),
    ],
    indirect=["lacking"],
)
def test_what_is_wrong_with_it_is_said_and_refused(
    lacking: Config, sentence: str
) -> None:
    """By ``hptwin check --online`` beforehand, and by whoever opens it."""
    _, problems = look(lacking)
    assert any(sentence in problem for problem in problems), problems
    with pytest.raises(StateError):
        State.configured(lacking)


def test_a_look_makes_and_writes_nothing(
    config: Config, postgres: servers.Postgres, database: str
) -> None:
    """And finds nothing wrong where nothing is, before the tables and after."""
    there = f"SELECT count(*) FROM pg_tables WHERE schemaname = '{database}'"  # noqa: S608
    found, problems = look(config)
    assert (problems, postgres.run(there)) == ([], "0")
    assert "PostgreSQL 1" in found
    State.configured(config).close()
    assert look(config)[1] == []
    assert postgres.run(there) == "7"
    assert postgres.run(f"TABLE {database}.audit") == ""


def test_a_file_is_looked_at_too(tmp_path: Path) -> None:
    """Whether it can be made, without making it."""
    config = replace(load(PLANT, {}), state_dir=tmp_path / "a" / "b")
    assert look(config) == (f"{tmp_path / 'a' / 'b' / FILE}, not made yet", [])
    assert not (tmp_path / "a").exists()


def test_the_driver_is_asked_for_by_its_name(config: Config) -> None:
    """Where the extra is not installed, the sentence is what to install."""
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from twin.service.state import State\n"
        "State('postgresql://hptwin@127.0.0.1/hptwin')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "StateError" in done.stderr
    assert "pip install 'hptwin[postgres]'" in done.stderr


def test_the_command_looks_at_it(
    config: Config,
    postgres: servers.Postgres,
    mosquitto: servers.Server,
    tmp_path: Path,
) -> None:
    """Exit code 0 with it, 1 without; configured by the environment alone."""
    environ = {
        "HPTWIN_CONFIG": str(PLANT),
        "HPTWIN_MQTT__PORT": str(mosquitto.port),
        "HPTWIN_ARCHIVE__PATH": str(tmp_path / "archive"),
        "HPTWIN_STATE__URL": config.state.url,
        "HPTWIN_STATE__SECRET_FILE": str(config.state.secret_file),
    }
    words = ["check", "--online", "--seconds", "0.3", "--json"]
    done = CliRunner().invoke(app, words, env=environ)
    assert done.exit_code == 0, done.output
    assert "PostgreSQL" in json.loads(done.stdout)["state"]["found"]
    port = f":{servers.free_port()}/"
    environ["HPTWIN_STATE__URL"] = config.state.url.replace(
        f":{postgres.server.port}/", port
    )
    done = CliRunner().invoke(app, words, env=environ)
    assert done.exit_code == 1
    assert "onnection refused" in json.loads(done.stdout)["state"]["problems"][0]
    listed = CliRunner().invoke(app, ["alarms", "list"], env=environ)
    assert listed.exit_code == 1
    assert "the state database does not serve" in listed.stderr


# --- backup ------------------------------------------------------------------


def written(config: Config) -> Alarms:
    """Write a little of everything."""

    def say(transition: Transition, case: Case) -> list[Message]:
        key = f"{transition.key} {transition.change}"
        return [Message(idempotency_key=key, route="r", created=START, content={})]

    state = State.configured(config)
    Users(state).add("ada", "correct horse battery", Role.ADMIN, "test", START)
    Users(state).issue("grafana", Role.VIEWER, 30, "ada", START)
    alarms = Alarms(state, compose=say)
    alarms.step([finding("hp1"), finding("hp2")], START)
    alarms.acknowledge("hp1/fouling/condenser", "Ada", START, "schon gesehen: µ, 水")
    return alarms


def everything(state: State) -> list[object]:
    """Return what a state database knows."""
    return [
        state.cases(),
        state.audit(limit=1000),
        state.accounts(),
        state.tokens(),
        [waiting.message for waiting in state.due(START + HOUR, "r")],
        state.revision(),
    ]


def test_a_backup_goes_either_way(
    config: Config, postgres: servers.Postgres, tmp_path: Path, database: str
) -> None:
    """From the server into a file, from the file to another server, and on there."""
    alarms = written(config)
    with closing(alarms._state) as state:
        wanted = everything(state)
    copy = backup(config, tmp_path / "copy", START)
    names = sorted(path.name for path in (copy.directory / "state").iterdir())
    assert names == [FILE]

    plain = replace(config, state=StateConfig(), state_dir=tmp_path / "plain")
    plain = replace(plain, archive=ArchiveConfig(path=tmp_path / "plain-archive"))
    restore(plain, copy.directory, START)
    with closing(State.configured(plain)) as state:
        assert everything(state) == wanted

    postgres.run(f"CREATE SCHEMA {database}_b")
    (tmp_path / "b").mkdir()
    other = wired(tmp_path / "b", postgres, f"{database}_b")
    restore(other, copy.directory, START)
    assert not (other.state_dir / FILE).exists()
    with closing(State.configured(other)) as state:
        assert everything(state) == wanted
        on = Alarms(state)
        on.acknowledge("hp2/fouling/condenser", "Bob", START + HOUR)
        assert len(state.audit(limit=1000)) == len(wanted[1]) + 1  # type: ignore[arg-type]
        assert state.audit(limit=1)[0].actor == "Bob"

    with pytest.raises(BackupError, match=r"not empty .there are cases, audit"):
        restore(other, copy.directory, START, replace=True)
    assert (other.state_dir / "config").exists() is False
    with closing(State.configured(other)) as state:
        assert state.audit(limit=1)[0].actor == "Bob"


def test_no_backup_is_better_than_one_without_the_state(
    config: Config, postgres: servers.Postgres, tmp_path: Path
) -> None:
    """While the server is away none is made, and the sentence says why."""
    port = f":{servers.free_port()}/"
    url = config.state.url.replace(f":{postgres.server.port}/", port)
    away = replace(config, state=replace(config.state, url=url))
    with pytest.raises(BackupError, match=r"no backup was made: .*does not serve"):
        backup(away, tmp_path / "copies" / "one", START)
    assert list((tmp_path / "copies").iterdir()) == []


# --- an outage ---------------------------------------------------------------


def test_a_server_that_was_restarted_is_found_again(tmp_path: Path) -> None:
    """No exception: the connections that broke are noticed before they are used."""
    with (
        servers.postgres() as postgres,
        closing(State.configured(wired(tmp_path, postgres, "public"))) as state,
    ):
        state.save(facts={"a": "1"})
        postgres.server.stop()
        with pytest.raises(StateUnavailableError, match="does not serve"):
            state.fact("a")
        postgres.server.start()
        assert state.fact("a") == "1"
        postgres.server.stop()
        postgres.server.start()
        state.save(facts={"a": "2"})
        assert state.fact("a") == "2"


def test_a_line_that_breaks_in_the_middle_leaves_nothing_half(
    config: Config, postgres: servers.Postgres
) -> None:
    """Neither a case nor its line; the same again, unbroken, leaves both."""
    ours = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'hptwin' AND state = 'idle in transaction'"
    )
    with closing(State.configured(config)) as state:
        entry = AuditEntry(time=START, actor="Ada", action="x", subject="hp1")

        def write(*, broken: bool) -> None:
            with state.alone() as kept:
                kept.save(cases={"a": {}}, audit=[entry])
                if broken:
                    assert postgres.run(ours) == "t"

        with pytest.raises(StateUnavailableError, match=r"terminating connection|clos"):
            write(broken=True)
        assert (state.cases(), state.audit(), state.revision()) == ({}, [], 0)
        write(broken=False)
        assert (state.cases(), len(state.audit()), state.revision()) == (
            {"a": {}},
            1,
            1,
        )


def answered(url: str, **headers: str) -> tuple[int, str]:
    """Return status and text of an answer."""
    request = urllib.request.Request(url, headers=headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return int(answer.status), answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_an_outage_is_told_and_outlived(
    mosquitto: servers.Server, tmp_path: Path
) -> None:
    """It begins without a database, takes readings in, and is ready once it is there.

    Meanwhile it is alive, says why it is not ready, and knows nobody: no page is
    shown. A case that was open before the second outage is open after it.
    """
    with servers.postgres() as postgres:
        config = wired(tmp_path, postgres, "public")
        config = replace(config, mqtt=replace(config.mqtt, port=mosquitto.port))
        postgres.server.stop()
        with (
            Service(config, judge_every=0.2, deliver_every=0.2) as service,
            Publisher(replace(config.mqtt, client_id="gateway")) as gateway,
        ):

            def says(path: str, status: int, word: str) -> bool:
                found, text = answered(f"{service.page.url}{path}")
                return found == status and word in text

            assert until_true(lambda: service.intake.health(0).connected)
            gateway.publish("dc/cdu1/t_hot_in", "31.5")
            assert until_true(lambda: service.intake.counts().stored == 1)
            assert says("/readyz", 503, "the state database does not serve")
            assert says("/healthz", 200, "alive")
            assert says("/api/cases", 503, "does not serve")
            assert says("/", 503, "does not serve")
            assert says("/metrics", 200, "hptwin_ready 0")

            postgres.server.start()
            assert until_true(lambda: says("/readyz", 200, "ready"))
            assert answered(f"{service.page.url}/api/cases") == (200, "[]")
            # The service looks too, and a look that is not the newest is not counted.
            assert until_true(
                lambda: service.alarms.step([finding("hp1")], service._clock()) != ()
            )
            assert says("/api/cases", 200, "hp1/fouling/condenser")

            postgres.server.stop()
            assert says("/readyz", 503, "the state database does not serve")
            assert until_true(
                lambda: (
                    service.jobs.runs["judge", "failed"] > 0
                    and service.jobs.runs["deliver", "failed"] > 0
                )
            )
            gateway.publish("dc/cdu1/t_hot_in", "32.5")
            assert until_true(lambda: service.intake.counts().stored == 2)
            postgres.server.start()
            assert until_true(lambda: says("/readyz", 200, "ready"))
            assert says("/api/cases", 200, "hp1/fouling/condenser")
            assert service.deaths() == []


def test_nobody_comes_in_while_it_is_not_known_who_may(
    postgres: servers.Postgres, config: Config
) -> None:
    """A page that others reach begins without its database, and stays shut."""
    port = f":{servers.free_port()}/"
    url = config.state.url.replace(f":{postgres.server.port}/", port)
    away = replace(config, state=replace(config.state, url=url))
    with closing(State.configured(away, patient=True)) as state:
        app = create_app(
            Service(away).view, Alarms(state), Service(away).live, users=Users(state)
        )
        with Server(app, "0.0.0.0", 0) as server:  # noqa: S104
            url = f"http://127.0.0.1:{server.port}"
            assert answered(f"{url}/api/cases")[0] == 401
            for held in ({"authorization": "Bearer hptwin_x"}, {"cookie": "hptwin=x"}):
                for path in ("/", "/api/cases", "/users"):
                    status, text = answered(url + path, **held)
                    assert (status, "does not serve" in text) == (503, True), path
            assert answered(f"{url}/healthz")[0] == 200
