"""Users: what is kept of a secret, who comes in, how long, and who is kept out.

Against a real state database; the time is an argument.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from twin.service.alarms import Alarms
from twin.service.cli import app
from twin.service.state import VERSION, AuditEntry, State, StateError
from twin.service.users import (
    IDLE,
    LONGEST,
    LoginError,
    Person,
    Role,
    Throttle,
    Users,
    UsersError,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
PASSWORD = "correct horse battery"  # noqa: S105
SECOND = timedelta(seconds=1)


@pytest.fixture
def users(state: State) -> Users:
    """Return users with one admin."""
    users = Users(state, CHEAP)
    users.add("ada", PASSWORD, Role.ADMIN, "test", NOW)
    return users


def test_nothing_that_lets_one_in_is_kept(tmp_path: Path):
    """Not in any file of the database: neither password, session nor token."""
    with_file = State.open(tmp_path / "state.sqlite")
    users = Users(with_file, CHEAP)
    users.add("ada", PASSWORD, Role.ADMIN, "test", NOW)
    session = users.login("ada", PASSWORD, "192.0.2.1", NOW)
    token = users.issue("grafana", Role.VIEWER, 30, "ada", NOW)
    kept = b"".join(path.read_bytes() for path in sorted(tmp_path.iterdir()))
    with_file.close()

    assert b"ada" in kept
    for secret in (PASSWORD, session, token):
        assert secret.encode() not in kept
    assert PASSWORD not in repr(users.accounts()["ada"])
    assert len(token) >= 43 + len("hptwin_")  # 256 bits in base64


def test_the_hash_that_is_kept_is_argon2id_at_its_full_price(state: State):
    """What is cheap here is cheap in tests only."""
    Users(state).add("ada", PASSWORD, Role.ADMIN, "test", NOW)

    kept = state.accounts()["ada"].password
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")


def test_a_cheap_hash_is_made_dear_at_the_next_login(state: State, users: Users):
    """A parameter that was raised takes effect without anybody's doing."""
    dearer = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1)
    Users(state, dearer).login("ada", PASSWORD, "a", NOW)

    assert "m=16,t=2,p=1" in state.accounts()["ada"].password


def test_a_session_is_its_holders_and_ends(users: Users):
    """Unseen for a shift, after a week however busy, or when told."""
    secret = users.login("ada", PASSWORD, "a", NOW)
    assert users.of_session(secret, NOW) == Person("ada", Role.ADMIN)
    assert users.of_session(secret + "x", NOW) is None
    assert users.of_session(secret, NOW + IDLE + SECOND) is None

    busy, seen = NOW, []
    while busy < NOW + LONGEST + timedelta(hours=12):
        busy += timedelta(hours=6)
        seen.append((busy, users.of_session(secret, busy) is not None))
    assert all(there == (time <= NOW + LONGEST) for time, there in seen)

    other = users.login("ada", PASSWORD, "a", NOW)
    users.logout(other, NOW)
    assert users.of_session(other, NOW) is None


def test_a_clock_that_goes_back_prolongs_no_session(users: Users):
    """A year back, the session of tomorrow is none."""
    secret = users.login("ada", PASSWORD, "a", NOW)

    assert users.of_session(secret, NOW - timedelta(minutes=1)) is not None
    assert users.of_session(secret, NOW - timedelta(days=365)) is None


def test_login_changes_the_session(users: Users):
    """What somebody planted before the login is worth nothing after it."""
    first = users.login("ada", PASSWORD, "a", NOW)
    second = users.login("ada", PASSWORD, "a", NOW, old=first)

    assert first != second
    assert users.of_session(first, NOW) is None
    assert users.of_session(second, NOW) is not None


@pytest.mark.parametrize("change", ["password", "remove"])
def test_a_change_ends_every_session_and_a_role_counts_at_once(users: Users, change):
    """Whoever was let in under the old word is out."""
    users.add("bob", PASSWORD + "!", Role.OPERATOR, "ada", NOW)
    secret = users.login("bob", PASSWORD + "!", "a", NOW)
    own = users.login("ada", PASSWORD, "a", NOW)
    users.set_role("bob", Role.VIEWER, "ada", NOW)
    assert users.of_session(secret, NOW) == Person("bob", Role.VIEWER)

    if change == "password":
        users.set_password("bob", "quite another word", "ada", NOW)
    else:
        users.remove("bob", "ada", NOW)

    assert users.of_session(secret, NOW) is None
    assert users.of_session(own, NOW) is not None  # nobody else's


def test_a_token_lets_in_until_it_expires_or_is_revoked(users: Users):
    """And its role is its own."""
    secret = users.issue("grafana", Role.VIEWER, 30, "ada", NOW)
    other = users.issue("script", Role.OPERATOR, 30, "ada", NOW)
    last = NOW + timedelta(days=30)

    assert users.of_token(secret, last - SECOND) == Person("token grafana", "viewer")
    assert users.of_token(secret, last) is None
    users.revoke("grafana", "ada", NOW)
    assert users.of_token(secret, NOW) is None
    assert users.of_token(other, NOW) == Person("token script", Role.OPERATOR)
    assert users.of_session(other, NOW) is None  # one is not the other


def test_unknown_and_wrong_are_one_answer_with_one_hash_each(state: State):
    """Nobody learns who there is: neither by the words nor by the work done."""
    verified: list[str] = []

    class Counting(PasswordHasher):
        def verify(self, hash, password):
            verified.append(hash.split("$")[3])
            return super().verify(hash, password)

    users = Users(state, Counting(time_cost=1, memory_cost=8, parallelism=1))
    users.add("ada", PASSWORD, Role.ADMIN, "test", NOW)
    said = set()
    for name in ("ada", "nobody"):
        with pytest.raises(LoginError) as refused:
            users.login(name, "wrong" * 4, "a", NOW)
        said.add(str(refused.value))

    assert len(said) == 1
    assert verified == ["m=8,t=1,p=1"] * 2


def failures(users: Users, number: int, now: datetime, name="ada", address="a") -> int:
    """Return after how many wrong passwords no more was looked at."""
    for tried in range(number):
        with pytest.raises(LoginError) as refused:
            users.login(name, "wrong" * 4, address, now)
        if refused.value.wait:
            return tried
    return number


def test_guessing_is_slow_by_name_and_by_address(users: Users):
    """Ten a name, twenty an address; then the right word waits as well."""
    assert failures(users, 50, NOW) == 10
    with pytest.raises(LoginError, match="too many"):
        users.login("ada", PASSWORD, "elsewhere", NOW)
    assert users.login("ada", PASSWORD, "elsewhere", NOW + timedelta(seconds=31))

    seen = 0
    for number in range(60):
        seen += failures(users, 1, NOW, name=f"n{number}", address="one place")
    assert seen == 20


def test_a_day_of_guessing_gets_few_guesses(users: Users):
    """From any number of addresses: 10, and one each half minute."""
    looked = 0
    for second in range(0, 3600, 5):
        now = NOW + second * SECOND
        looked += failures(users, 1, now, address=f"192.0.2.{second % 256}")

    assert 10 + 110 <= looked <= 10 + 121


def test_those_who_come_in_are_not_counted(users: Users):
    """A shift that logs in all day is never kept waiting."""
    for _ in range(40):
        users.login("ada", PASSWORD, "a", NOW)


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 400)), min_size=1, max_size=60
    )
)
def test_a_throttle_is_bounded_and_forgets_whom_it_may(tries):
    """Never more names than room; never more than burst and leak allow."""
    throttle = Throttle(3, timedelta(seconds=10), most=8)
    now, let = NOW, 0
    for name, seconds in tries:
        now += seconds * SECOND
        throttle.take(f"n{name}", now)
        let += not throttle.take("one", now)
        assert len(throttle) <= 8

    wait = throttle.take("one", now)
    if wait:
        assert not throttle.take("one", now + wait + timedelta(milliseconds=1))


def test_a_flood_of_names_does_not_wash_an_offender_out():
    """The emptiest bucket goes first, and his is full."""
    throttle = Throttle(3, timedelta(seconds=60), most=16)
    while not throttle.take("offender", NOW):
        pass
    for number in range(500):
        throttle.take(f"n{number}", NOW)

    assert throttle.take("offender", NOW)
    assert len(throttle) == 16


@pytest.mark.parametrize(
    ("name", "password", "words"),
    [
        ("ada", PASSWORD, "already"),
        ("ADA", PASSWORD, "already"),
        ("", PASSWORD, "characters that can be printed"),
        ("a\nb", PASSWORD, "characters that can be printed"),
        ("x" * 65, PASSWORD, "characters that can be printed"),
        ("token x", PASSWORD, "as tokens do"),
        ("bob", "short", "12 to 128"),
        ("bob", "x" * 129, "12 to 128"),
        ("bob", "a" * 20, "guessed first"),
        ("longer than twelve", "Longer than twelve", "guessed first"),
    ],
)
def test_what_will_not_do_is_said(users: Users, name, password, words):
    """And nobody is added."""
    with pytest.raises(UsersError, match=words):
        users.add(name, password, Role.VIEWER, "ada", NOW)

    assert list(users.accounts()) == ["ada"]


def test_there_is_always_an_admin_while_there_is_anybody(state: State):
    """The first is one; the last cannot go before the others."""
    users = Users(state, CHEAP)
    with pytest.raises(UsersError, match="must be an admin"):
        users.add("bob", PASSWORD, Role.VIEWER, "test", NOW)
    with pytest.raises(UsersError, match="add an admin first"):
        users.issue("grafana", Role.VIEWER, 1, "test", NOW)
    users.add("ada", PASSWORD, Role.ADMIN, "test", NOW)
    users.add("bob", PASSWORD, Role.VIEWER, "test", NOW)

    for attempt in (
        lambda: users.remove("ada", "ada", NOW, last=True),
        lambda: users.set_role("ada", Role.OPERATOR, "ada", NOW),
    ):
        with pytest.raises(UsersError, match="last admin"):
            attempt()
    users.remove("bob", "ada", NOW)
    users.remove("ada", "ada", NOW, last=True)
    assert not users.any()


def test_the_audit_says_who_came_in_and_no_secret(state: State, users: Users):
    """Logins, failures and changes; a password in the name's place is not kept."""
    token = users.issue("grafana", Role.VIEWER, 1, "ada", NOW)
    failures(users, 1, NOW)
    failures(users, 1, NOW, name=PASSWORD)
    secret = users.login("ada", PASSWORD, "192.0.2.7", NOW)
    users.logout(secret, NOW)
    state.save(audit=[AuditEntry(time=NOW, actor="x", action="raised", subject="hp1")])
    lines = users.history()

    assert [line.action for line in reversed(lines)] == [
        "user added",
        "token issued",
        "login failed",
        "login failed",
        "login",
        "logout",
    ]
    assert lines[1].detail == {"address": "192.0.2.7"}
    text = repr(lines)
    assert all(word not in text for word in (PASSWORD, token, secret))
    # The history of alarms is everybody's to read, and this is not in it.
    assert [line.subject for line in Alarms(state).history()] == ["hp1"]
    assert Alarms(state).history(subject="access/ada") == []


# --- the database ------------------------------------------------------------


def test_a_database_of_the_version_before_is_brought_up_in_place(tmp_path: Path):
    """What it knew is still known, and users find room in it."""
    path = tmp_path / "state.sqlite"
    with sqlite3.connect(path) as old:  # as version 1 made it
        old.executescript(
            """
            CREATE TABLE cases (key TEXT PRIMARY KEY, document TEXT NOT NULL);
            CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
            CREATE TABLE audit (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
              time TEXT NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
              subject TEXT NOT NULL, detail TEXT NOT NULL);
            CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
              BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
            CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
              idempotency_key TEXT NOT NULL UNIQUE, route TEXT NOT NULL,
              created TEXT NOT NULL, due_ms BIGINT NOT NULL, content TEXT NOT NULL,
              attempts INTEGER NOT NULL, delivered TEXT, error TEXT NOT NULL);
            INSERT INTO facts VALUES ('version', '1'), ('judged', '2026-02-28');
            INSERT INTO audit (time, actor, action, subject, detail)
              VALUES ('2026-02-28T00:00:00Z', 'Ada', 'closed', 'hp1', '{}');
            """
        )
    old.close()

    for _ in range(2):  # the second time there is nothing left to do
        state = State.open(path)
        assert state.fact("version") == str(VERSION) == "2"
        assert state.fact("judged") == "2026-02-28"
        assert state.audit()[-1].actor == "Ada"
        if not state.inhabited():
            Users(state, CHEAP).add("ada", PASSWORD, Role.ADMIN, "test", NOW)
        state.close()

    state = State.open(path)
    assert Users(state, CHEAP).login("ada", PASSWORD, "a", NOW)
    state.save(facts={"version": "3"})
    state.close()
    with pytest.raises(StateError, match="newer hptwin"):
        State.open(path)


# --- the command line --------------------------------------------------------


def test_the_command_takes_a_password_from_a_pipe_and_shows_none(
    tmp_path: Path, monkeypatch
):
    """Add, list, token and remove; the token is shown once and works."""
    plant = tmp_path / "plant.toml"
    plant.write_text((Path(__file__).parents[2] / "deploy/plant.toml").read_text())
    state_dir = tmp_path / "state"
    monkeypatch.setenv("HPTWIN_STATE__DIR", str(state_dir))
    piped = ("--password-file", "-")

    def hptwin(*words: str, given: str = "") -> Result:
        return CliRunner().invoke(
            app, ["users", *words, "--config", str(plant)], input=given
        )

    early = hptwin("add", "bob", *piped, given=PASSWORD)
    added = hptwin("add", "ada", "--role", "admin", *piped, given=PASSWORD + "\n")
    wrong = hptwin("add", "eve", "--role", "king", *piped, given=PASSWORD)
    token = hptwin("token", "grafana", "--days", "7")
    listed = hptwin("list", "--json")

    assert (early.exit_code, wrong.exit_code, token.exit_code) == (1, 1, 0)
    assert "must be an admin" in early.stderr
    assert (added.exit_code, added.stderr) == (0, "")
    assert [one["name"] for one in json.loads(listed.stdout)["users"]] == ["ada"]
    said = "".join(one.output for one in (early, added, wrong, listed))
    assert PASSWORD not in said
    assert token.stdout.strip() not in said
    with closing(State.open(state_dir / "state.sqlite")) as state:
        now = datetime.now(UTC)
        assert Users(state).of_token(token.stdout.strip(), now) is not None
        assert Users(state).login("ada", PASSWORD, "a", now)
    assert "no login is asked for any more" in hptwin("remove", "ada").stdout
