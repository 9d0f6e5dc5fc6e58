"""The state database: what the service must still know after a restart.

SQLAlchemy's door. Cases of alarms, small facts, an audit that nobody can
rewrite, the outbox of messages, and who may come in. What they mean is their
writers' business; here they are rows. An SQLite file by default; a PostgreSQL
where several processes share them. In both one writes at a time, and whoever
writes sees what was written last.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from twin.service.config import StateConfig, secret
from twin.service.results import instant, parse_instant, plain

if TYPE_CHECKING:
    from typing import Self

    from twin.service.config import Config

VERSION = 2
"""Of the tables. Every change so far was a table more, which an older database
is given when it is opened; the first change of a column will need Alembic."""

FILE = "state.sqlite"
"""What the file is called in the folder of the state."""

_log = logging.getLogger(__name__)
_REVISION = "cases.revision"
_SITE = "site"
# How long to wait for a connection, and for whoever writes; a writer that has
# stopped in the middle, with its machine perhaps, is put out after twice that. [s]
_CONNECT_S, _WAIT_S = 5, 30
# libpq's words. A server that is gone without a word is noticed within these.
_ALERT = {
    "connect_timeout": _CONNECT_S,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # [ms]
}
_ALONE = {
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": (
        f"SET LOCAL lock_timeout = '{_WAIT_S}s';"
        f"SET LOCAL idle_in_transaction_session_timeout = '{2 * _WAIT_S}s';"
        "SELECT pg_advisory_xact_lock(hashtext('hptwin'), hashtext(current_schema()))"
    ),
}


_CLOCKS = {
    "sqlite": "SELECT (julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())",
}
# Whatever a driver or the pool may raise.
_TROUBLE = (sa.exc.DBAPIError, sa.exc.TimeoutError)


class _Text(sa.types.TypeDecorator[str]):
    """Text as both databases can keep it: a PostgreSQL takes no NUL."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else value.replace("\0", "\ufffd")


_schema = sa.MetaData()
_cases = sa.Table(
    "cases",
    _schema,
    sa.Column("key", _Text, primary_key=True),
    sa.Column("document", _Text, nullable=False),
)
_facts = sa.Table(
    "facts",
    _schema,
    sa.Column("name", _Text, primary_key=True),
    sa.Column("value", _Text, nullable=False),
)
_audit = sa.Table(
    "audit",
    _schema,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("time", _Text, nullable=False),
    sa.Column("actor", _Text, nullable=False),
    sa.Column("action", _Text, nullable=False),
    sa.Column("subject", _Text, nullable=False, index=True),
    sa.Column("detail", _Text, nullable=False),
    sqlite_autoincrement=True,
)
_outbox = sa.Table(
    "outbox",
    _schema,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("idempotency_key", _Text, nullable=False, unique=True),
    sa.Column("route", _Text, nullable=False),
    sa.Column("created", _Text, nullable=False),
    # Milliseconds since 1970, because they are compared.
    sa.Column("due_ms", sa.BigInteger, nullable=False),
    sa.Column("content", _Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("delivered", _Text, nullable=True),
    sa.Column("error", _Text, nullable=False, default=""),
    sqlite_autoincrement=True,
)
# Since version 2. Secrets are here as hashes only.
_accounts = sa.Table(
    "accounts",
    _schema,
    sa.Column("name", _Text, primary_key=True),
    sa.Column("role", _Text, nullable=False),
    sa.Column("password", _Text, nullable=False),
    sa.Column("created", _Text, nullable=False),
)
_sessions = sa.Table(
    "sessions",
    _schema,
    sa.Column("key", _Text, primary_key=True),
    sa.Column("name", _Text, nullable=False, index=True),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("seen_ms", sa.BigInteger, nullable=False),
)
_tokens = sa.Table(
    "tokens",
    _schema,
    sa.Column("name", _Text, primary_key=True),
    sa.Column("role", _Text, nullable=False),
    sa.Column("key", _Text, nullable=False, unique=True),
    sa.Column("created", _Text, nullable=False),
    sa.Column("expires", _Text, nullable=False),
)
# Append-only is a promise the database keeps, whoever holds the pen.
for _verb in ("UPDATE", "DELETE"):
    sa.event.listen(
        _audit,
        "after_create",
        sa.DDL(  # type: ignore[no-untyped-call]
            f"CREATE TRIGGER audit_no_{_verb.lower()} BEFORE {_verb} ON audit "
            "BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END"
        ).execute_if(dialect="sqlite"),
    )
# One code for both, so that who tries is told the same.
for _statement in (
    "CREATE OR REPLACE FUNCTION audit_is_append_only() RETURNS trigger"
    " LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the audit is append-only'"
    " USING ERRCODE = 'integrity_constraint_violation'; END $$",
    "CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE"
    " ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()",
):
    sa.event.listen(
        _audit,
        "after_create",
        sa.DDL(_statement).execute_if(  # type: ignore[no-untyped-call]
            dialect="postgresql"
        ),
    )


class StateError(RuntimeError):
    """The state database cannot be used; the sentence says what to do."""


class StateUnavailableError(StateError):
    """The state database does not answer now; trying again may help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """Who did what to what, when. UTC."""

    time: datetime
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Something to be delivered by a route, once for each idempotency key."""

    idempotency_key: str
    route: str
    created: datetime
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A message that is due, with how often it has been tried."""

    id: int
    message: Message
    attempts: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What has not arrived: how many, since when, the last complaint, the lost."""

    count: int
    oldest: datetime | None
    error: str
    given_up: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A person who may come in; the password is an argon2 hash."""

    name: str
    role: str
    password: str = field(repr=False)
    created: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A login that lasts; the key is the hash of what the browser holds. UTC."""

    key: str = field(repr=False)
    name: str
    created: datetime
    seen: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A program that may come in; the key is the hash of what it shows. UTC."""

    name: str
    role: str
    key: str = field(repr=False)
    created: datetime
    expires: datetime


def _ms(time: datetime) -> int:
    return round(time.timestamp() * 1000.0)


class Writing:
    """A transaction that is alone: nobody else writes until it ends.

    What it reads is what was written last, by whichever process.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    @property
    def revision(self) -> int:
        """How often cases have been written, by anybody."""
        return int(_fact(self._connection, _REVISION) or 0)

    def cases(self) -> dict[str, dict[str, Any]]:
        """Return every stored case by its key."""
        return _stored(self._connection)

    def fact(self, name: str) -> str | None:
        """Return a small fact, or None if it was never set."""
        return _fact(self._connection, name)

    def facts(self, under: str) -> dict[str, str]:
        """Return the facts whose names begin so."""
        return _facts_under(self._connection, under)

    def clock(self) -> float:
        """Return what time it is by the database, in seconds since 1970."""
        name = self._connection.dialect.name
        return float(self._connection.exec_driver_sql(_CLOCKS[name]).scalar_one())

    def accounts(self) -> dict[str, Account]:
        """Return every account by its name."""
        return _people(self._connection)

    def tokens(self) -> dict[str, Token]:
        """Return every token by its name."""
        return _programs(self._connection)

    def save(
        self,
        *,
        cases: Mapping[str, Mapping[str, Any] | None] | None = None,
        facts: Mapping[str, str] | None = None,
        audit: Sequence[AuditEntry] = (),
        messages: Sequence[Message] = (),
    ) -> None:
        """Write what :meth:`State.save` writes."""
        connection = self._connection
        if cases:
            facts = {**(facts or {}), _REVISION: str(self.revision + 1)}
        for key, document in (cases or {}).items():
            connection.execute(_cases.delete().where(_cases.c.key == key))
            if document is not None:
                connection.execute(
                    _cases.insert().values(key=key, document=_dump(document))
                )
        for name, value in (facts or {}).items():
            connection.execute(_facts.delete().where(_facts.c.name == name))
            connection.execute(_facts.insert().values(name=name, value=value))
        _note(connection, audit)
        for message in messages:
            _post(connection, message)

    def admit(
        self,
        *,
        accounts: Mapping[str, Account | None] | None = None,
        sessions: Mapping[str, Session | None] | None = None,
        tokens: Mapping[str, Token | None] | None = None,
        ended: str = "",
        unseen_since: datetime | None = None,
        audit: Sequence[AuditEntry] = (),
    ) -> None:
        """Write what :meth:`State.admit` writes."""
        connection = self._connection
        if ended:
            connection.execute(_sessions.delete().where(_sessions.c.name == ended))
        if unseen_since is not None:
            old = _sessions.c.seen_ms < _ms(unseen_since)
            connection.execute(_sessions.delete().where(old))
        for name, account in (accounts or {}).items():
            connection.execute(_accounts.delete().where(_accounts.c.name == name))
            if account is not None:
                connection.execute(
                    _accounts.insert().values(
                        name=name,
                        role=account.role,
                        password=account.password,
                        created=instant(account.created),
                    )
                )
        for key, session in (sessions or {}).items():
            connection.execute(_sessions.delete().where(_sessions.c.key == key))
            if session is not None:
                connection.execute(
                    _sessions.insert().values(
                        key=key,
                        name=session.name,
                        created_ms=_ms(session.created),
                        seen_ms=_ms(session.seen),
                    )
                )
        for name, token in (tokens or {}).items():
            connection.execute(_tokens.delete().where(_tokens.c.name == name))
            if token is not None:
                connection.execute(
                    _tokens.insert().values(
                        name=name,
                        role=token.role,
                        key=token.key,
                        created=instant(token.created),
                        expires=instant(token.expires),
                    )
                )
        _note(connection, audit)


class State:
    """An open state database; every method may be called from any thread.

    Parameters
    ----------
    url : str or sqlalchemy.URL
        ``sqlite:///...`` or ``postgresql://...``.
    site : str
        Whose it is; a database of another site is refused. Empty asks nothing.
    patient : bool
        Whether one that does not answer yet will do: it is then made ready by
        whoever first reaches it.

    Raises
    ------
    StateError
        If it is damaged, of a newer version, or of another site.
    StateUnavailableError
        If it does not answer, as from every method.
    """

    def __init__(
        self, url: str | sa.URL, *, site: str = "", patient: bool = False
    ) -> None:
        made = sa.make_url(url)
        self.place = _place(made)
        self._site = site
        options: dict[str, Any] = {}
        self._sqlite = made.get_backend_name() == "sqlite"
        if self._sqlite:
            options["connect_args"] = {
                "check_same_thread": False,
                "timeout": float(_WAIT_S),
            }
            if made.database in (None, "", ":memory:"):
                options["poolclass"] = StaticPool
        else:
            options |= {
                "pool_pre_ping": True,
                "pool_timeout": 2 * _CONNECT_S,
                # The lock is asked for within the transaction, and what it sees
                # afterwards must be of afterwards.
                "isolation_level": "READ COMMITTED",
                "connect_args": {
                    # A pooler between us and it may lend us another connection.
                    "prepare_threshold": None,
                    "application_name": "hptwin",
                    **{k: v for k, v in _ALERT.items() if k not in made.query},
                },
            }
        try:
            self._engine = sa.create_engine(made, **options)
        except ImportError as error:
            raise StateError(
                f"{self.place}: {error}; pip install 'hptwin[postgres]'"
            ) from error
        # In memory there is one connection for all threads, and in a file one
        # writer; a server lets its writers queue by itself.
        self._lock: AbstractContextManager[object] = (
            threading.RLock() if self._sqlite else nullcontext()
        )
        self._made = False
        self._making = threading.Lock()
        if self._sqlite:
            sa.event.listen(self._engine, "connect", _prepare)
        try:
            self._make()
        except StateUnavailableError as error:
            if not patient:
                self.close()
                raise
            _log.warning("%s", error)
        except StateError:
            self.close()
            raise

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open, or make, the SQLite database at a path."""
        path.parent.mkdir(parents=True, exist_ok=True)
        return cls(f"sqlite:///{path}")

    @classmethod
    def in_memory(cls) -> Self:
        """Open a database that ends with the process; a replay uses it."""
        return cls("sqlite://")

    @classmethod
    def configured(cls, config: Config, *, patient: bool = False) -> Self:
        """Open, or make, the one that a configuration names."""
        if not config.state.url:
            return cls.open(config.state_dir / FILE)
        return cls(_url(config.state), site=config.plant.name, patient=patient)

    def _make(self) -> None:
        """Make the tables that are missing; refuse what is not for us."""
        with self._making:
            if self._made:
                return
            try:
                with self._engine.begin() as connection:
                    connection.exec_driver_sql(_ALONE[connection.dialect.name])
                    if not self._sqlite:
                        _speaks_every_language(connection, self.place)
                    _schema.create_all(connection)
                    self._check(connection)
            except _TROUBLE as error:
                if self._sqlite:
                    raise StateError(
                        f"{self.place}: the state database cannot be opened: "
                        f"{_said(error)}; put the last backup in its place, or move "
                        "it away to start anew"
                    ) from error
                raise self._unavailable(error) from error
            self._made = True

    def _unavailable(self, error: sa.exc.SQLAlchemyError) -> StateUnavailableError:
        """Return what to say of a database that could not do it just now."""
        return StateUnavailableError(
            f"{self.place}: the state database does not serve: {_said(error)}; it will "
            "be tried again"
        )

    def _check(self, connection: sa.Connection) -> None:
        known = _fact(connection, "version")
        if known is None:
            connection.execute(
                _facts.insert().values(name="version", value=str(VERSION))
            )
        elif int(known) < VERSION:
            connection.execute(
                _facts.update()
                .where(_facts.c.name == "version")
                .values(value=str(VERSION))
            )
        elif int(known) > VERSION:
            raise StateError(_newer(self.place, known))
        if not self._site:
            return
        whose = _fact(connection, _SITE)
        if whose is None:
            connection.execute(_facts.insert().values(name=_SITE, value=self._site))
        elif whose != self._site:
            raise StateError(_of_another(self.place, whose, self._site))

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        with self._served(), self._lock, self._engine.begin() as connection:
            connection.exec_driver_sql(_ALONE[connection.dialect.name])
            yield connection

    @contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        with self._served(), self._lock, self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _served(self) -> Iterator[None]:
        if not self._made:
            self._make()
        try:
            yield
        except (sa.exc.IntegrityError, sa.exc.DataError):
            raise  # it served, and what was asked of it was wrong
        except _TROUBLE as error:
            raise self._unavailable(error) from error

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    # --- moving house --------------------------------------------------------

    def copy(self, path: Path) -> None:
        """Copy everything, as of one moment, into a new SQLite database."""
        with self._served(), self._lock, self._engine.connect() as connection:
            if not self._sqlite:
                connection.execution_options(isolation_level="REPEATABLE READ")
            rows = {
                name: connection.execute(sa.select(table)).mappings().all()
                for name, table in _schema.tables.items()
            }
        with closing(State.open(path)) as other:
            other._take(rows)

    def must_be_empty(self) -> None:
        """Raise a StateError if anything has been written into it yet."""
        with self._read() as connection:
            used = [
                name
                for name, table in _schema.tables.items()
                if table is not _facts
                and connection.execute(sa.select(table).limit(1)).first()
            ]
        if used:
            raise StateError(
                f"{self.place}: not empty (there are {', '.join(used)}), and its audit "
                "cannot be deleted; name a new database or schema in [state] url"
            )

    def fill(self, path: Path) -> None:
        """Write everything that an SQLite database holds into this empty one.

        Raises
        ------
        StateError
            If it is not empty, or the other cannot be read.
        """
        self.must_be_empty()
        with closing(State.open(path)) as other, other._read() as connection:
            rows = {
                name: connection.execute(sa.select(table)).mappings().all()
                for name, table in _schema.tables.items()
            }
        self._take(rows)

    def _take(self, rows: Mapping[str, Sequence[Mapping[Any, Any]]]) -> None:
        with self._write() as connection:
            connection.execute(_facts.delete())
            for name, table in _schema.tables.items():
                if rows[name]:
                    connection.execute(
                        table.insert(), [dict(row) for row in rows[name]]
                    )
                if "id" in table.columns and not self._sqlite:
                    # Its counter knows nothing of numbers that were brought along.
                    last = sa.func.coalesce(sa.func.max(table.c.id), 0)
                    counter = sa.func.pg_get_serial_sequence(name, "id")
                    connection.execute(
                        sa.select(sa.func.setval(counter, last + 1, False))
                    )
            self._check(connection)

    # --- reading and writing -------------------------------------------------

    @contextmanager
    def alone(self) -> Iterator[Writing]:
        """Read and write as one, while nobody else writes.

        All of it is written or, after any crash or exception, nothing.
        """
        with self._write() as connection:
            yield Writing(connection)

    def revision(self) -> int:
        """Return how often cases have been written, by anybody."""
        return int(self.fact(_REVISION) or 0)

    def save(
        self,
        *,
        cases: Mapping[str, Mapping[str, Any] | None] | None = None,
        facts: Mapping[str, str] | None = None,
        audit: Sequence[AuditEntry] = (),
        messages: Sequence[Message] = (),
    ) -> None:
        """Write all of it or, after any crash, nothing.

        A case that is None is removed; a message whose idempotency key is
        known already is not written again.
        """
        with self.alone() as kept:
            kept.save(cases=cases, facts=facts, audit=audit, messages=messages)

    def cases(self) -> dict[str, dict[str, Any]]:
        """Return every stored case by its key."""
        with self._read() as connection:
            return _stored(connection)

    def fact(self, name: str) -> str | None:
        """Return a small fact, or None if it was never set."""
        with self._read() as connection:
            return _fact(connection, name)

    def facts(self, under: str) -> dict[str, str]:
        """Return the small facts whose names begin so."""
        with self._read() as connection:
            return _facts_under(connection, under)

    def audit(
        self, limit: int = 200, subject: str = "", *, under: str = "", beside: str = ""
    ) -> list[AuditEntry]:
        """Return the newest entries first.

        Of one subject if it is given, of the subjects that begin with ``under``,
        and of those only that do not begin with ``beside``.
        """
        query = sa.select(_audit).order_by(_audit.c.id.desc()).limit(limit)
        if subject:
            query = query.where(_audit.c.subject == subject)
        if under:
            query = query.where(_audit.c.subject.startswith(under, autoescape=True))
        if beside:
            query = query.where(~_audit.c.subject.startswith(beside, autoescape=True))
        with self._read() as connection:
            rows = connection.execute(query).all()
        return [
            AuditEntry(
                time=parse_instant(row.time),
                actor=row.actor,
                action=row.action,
                subject=row.subject,
                detail=json.loads(row.detail),
            )
            for row in rows
        ]

    def admit(
        self,
        *,
        accounts: Mapping[str, Account | None] | None = None,
        sessions: Mapping[str, Session | None] | None = None,
        tokens: Mapping[str, Token | None] | None = None,
        ended: str = "",
        unseen_since: datetime | None = None,
        audit: Sequence[AuditEntry] = (),
    ) -> None:
        """Write who may come in: all of it or, after any crash, nothing.

        What is None is removed. ``ended`` names whose sessions end, and all end
        that nobody was seen in since ``unseen_since``.
        """
        with self.alone() as kept:
            kept.admit(
                accounts=accounts,
                sessions=sessions,
                tokens=tokens,
                ended=ended,
                unseen_since=unseen_since,
                audit=audit,
            )

    def seen(self, key: str, now: datetime) -> None:
        """Note that somebody was seen in a session, if it has not ended."""
        with self._write() as connection:
            connection.execute(
                _sessions.update()
                .where(_sessions.c.key == key)
                .values(seen_ms=_ms(now))
            )

    def inhabited(self) -> bool:
        """Return whether there is any account."""
        with self._read() as connection:
            found = connection.execute(sa.select(_accounts.c.name).limit(1)).first()
        return found is not None

    def accounts(self) -> dict[str, Account]:
        """Return every account by its name."""
        with self._read() as connection:
            return _people(connection)

    def session(self, key: str) -> tuple[Session, Account] | None:
        """Return a session and whose it is; None if there is no such session."""
        query = sa.select(_accounts, _sessions.c.created_ms, _sessions.c.seen_ms).where(
            _sessions.c.key == key, _sessions.c.name == _accounts.c.name
        )
        with self._read() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        session = Session(
            key=key,
            name=row.name,
            created=datetime.fromtimestamp(row.created_ms / 1000.0, UTC),
            seen=datetime.fromtimestamp(row.seen_ms / 1000.0, UTC),
        )
        return session, _account(row)

    def tokens(self, key: str = "") -> dict[str, Token]:
        """Return every token by its name, or the one of a key."""
        with self._read() as connection:
            return _programs(connection, key)

    def routes(self) -> list[str]:
        """Return the routes that have something undelivered."""
        query = (
            sa.select(_outbox.c.route).where(_outbox.c.delivered.is_(None)).distinct()
        )
        with self._read() as connection:
            return sorted(str(row.route) for row in connection.execute(query))

    def due(self, now: datetime, route: str, limit: int = 100) -> list[Waiting]:
        """Return what a route should deliver now, oldest first.

        While the oldest one waits to be tried again, those behind it wait too:
        an older state must never overtake a newer one.
        """
        query = (
            sa.select(_outbox)
            .where(_outbox.c.delivered.is_(None), _outbox.c.route == route)
            .order_by(_outbox.c.id)
            .limit(limit)
        )
        with self._read() as connection:
            rows = connection.execute(query).all()
        if not rows or rows[0].due_ms > _ms(now):
            return []
        return [
            Waiting(
                id=row.id,
                message=Message(
                    idempotency_key=row.idempotency_key,
                    route=row.route,
                    created=parse_instant(row.created),
                    content=json.loads(row.content),
                ),
                attempts=row.attempts,
                error=row.error,
            )
            for row in rows
        ]

    def delivered(self, id: int, now: datetime) -> None:
        """Note that a message has arrived."""
        with self._write() as connection:
            connection.execute(
                _outbox.update()
                .where(_outbox.c.id == id)
                .values(
                    delivered=instant(now), attempts=_outbox.c.attempts + 1, error=""
                )
            )

    def failed(self, id: int, due: datetime, error: str) -> None:
        """Note that a delivery failed, and when to try again."""
        with self._write() as connection:
            connection.execute(
                _outbox.update()
                .where(_outbox.c.id == id)
                .values(
                    due_ms=_ms(due), attempts=_outbox.c.attempts + 1, error=error[:500]
                )
            )

    def gave_up(self, id: int, now: datetime, error: str) -> None:
        """Note that a message will never be delivered, and why."""
        with self._write() as connection:
            connection.execute(
                _outbox.update()
                .where(_outbox.c.id == id)
                .values(delivered=instant(now), error=f"given up: {error}"[:500])
            )

    def backlog(self) -> Backlog:
        """Return what has not been delivered."""
        waiting = _outbox.c.delivered.is_(None)
        with self._read() as connection:
            count, oldest = connection.execute(
                sa.select(sa.func.count(), sa.func.min(_outbox.c.created)).where(
                    waiting
                )
            ).one()
            error = connection.execute(
                sa.select(_outbox.c.error)
                .where(waiting, _outbox.c.error != "")
                .order_by(_outbox.c.id.desc())
                .limit(1)
            ).scalar()
            given_up = connection.execute(
                sa.select(sa.func.count()).where(
                    _outbox.c.delivered.is_not(None), _outbox.c.error != ""
                )
            ).scalar_one()
        return Backlog(
            given_up=int(given_up),
            count=int(count),
            oldest=None if oldest is None else parse_instant(oldest),
            error=error or "",
        )


def look(config: Config) -> tuple[str, list[str]]:
    """Say which database a configuration names, and what is wrong with it.

    Nothing is made and nothing written.

    Returns
    -------
    str, list of str
        What was found, "" if nothing answered; and the problems.
    """
    if not config.state.url:
        path = config.state_dir / FILE
        folder = next(each for each in path.parents if each.exists())
        lacking = [] if os.access(folder, os.W_OK) else [f"{folder} is not writable"]
        return f"{path}{'' if path.exists() else ', not made yet'}", lacking
    url = _url(config.state)
    place = _place(url)
    try:
        engine = sa.create_engine(url, connect_args={"connect_timeout": _CONNECT_S})
    except ImportError as error:
        return "", [f"{error}; pip install 'hptwin[postgres]'"]
    try:
        with engine.connect() as connection:
            return _looked(connection, place, config.plant.name)
    except _TROUBLE as error:
        return "", [f"{place}: {_said(error)}"]
    finally:
        engine.dispose()


def _looked(connection: sa.Connection, place: str, site: str) -> tuple[str, list[str]]:
    def asked(text: str) -> Any:
        return connection.exec_driver_sql(f"SELECT {text}").scalar()

    found = f"{place}, PostgreSQL {asked('version()').split()[1]}"
    lacking = []
    try:
        _speaks_every_language(connection, place)
    except StateError as error:
        lacking.append(str(error))
    if asked("pg_is_in_recovery()"):
        lacking.append(f"{place}: it is a standby, which takes nothing; name the other")
    schema, user = asked("current_schema()"), asked("current_user")
    if schema is None:
        lacking.append(f"{place}: the schema of its search_path is not there; make it")
        return found, lacking
    missing = {*_schema.tables} - {*sa.inspect(connection).get_table_names()}
    if missing and not asked("has_schema_privilege(current_schema(), 'CREATE')"):
        lacking.append(
            f"{place}: {user} may make no tables in the schema {schema}; "
            f'GRANT CREATE ON SCHEMA "{schema}" TO "{user}"'
        )
    if _facts.name not in missing:
        version, whose = _fact(connection, "version"), _fact(connection, _SITE)
        if version is not None and int(version) > VERSION:
            lacking.append(_newer(place, version))
        if whose not in (None, site):
            lacking.append(_of_another(place, str(whose), site))
    return found, lacking


def _url(config: StateConfig) -> sa.URL:
    hidden = secret(config.secret_file, config.secret_env)
    # libpq takes both names, SQLAlchemy one.
    url = sa.make_url(config.url.replace("postgres://", "postgresql://", 1))
    url = url.set(drivername="postgresql+psycopg")
    return url.set(password=hidden) if hidden else url


def _place(url: sa.URL) -> str:
    """Return what may be shown: no password, and no option that could hold one."""
    return sa.URL.create(
        url.get_backend_name(),
        username=url.username,
        host=url.host,
        port=url.port,
        database=url.database,
    ).render_as_string()


def _said(error: sa.exc.SQLAlchemyError) -> str:
    """Return what the database itself said, in one line."""
    return " ".join(str(getattr(error, "orig", None) or error).split())


def _newer(place: str, known: str) -> str:
    return (
        f"{place}: written by a newer hptwin (version {known}, this one knows "
        f"{VERSION}); start the newer one"
    )


def _of_another(place: str, whose: str, site: str) -> str:
    return (
        f'{place}: holds the state of "{whose}", and this is "{site}"; give each site '
        "a database, or a schema, of its own; if it was renamed, correct the row "
        f'"{_SITE}" of the table facts'
    )


def _speaks_every_language(connection: sa.Connection, place: str) -> None:
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
    if encoding != "UTF8":
        raise StateError(
            f"{place}: its encoding is {encoding}, which lacks letters that names and "
            "comments may hold; CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        )


def _facts_under(connection: sa.Connection, under: str) -> dict[str, str]:
    query = sa.select(_facts).where(_facts.c.name.startswith(under, autoescape=True))
    rows = connection.execute(query).all()
    return {row.name: row.value for row in sorted(rows)}


def _fact(connection: sa.Connection, name: str) -> str | None:
    found = connection.execute(
        sa.select(_facts.c.value).where(_facts.c.name == name)
    ).scalar()
    return None if found is None else str(found)


# Each database has an order of letters of its own, so what is sorted is sorted here.


def _stored(connection: sa.Connection) -> dict[str, dict[str, Any]]:
    rows = connection.execute(sa.select(_cases)).all()
    return {row.key: json.loads(row.document) for row in sorted(rows)}


def _people(connection: sa.Connection) -> dict[str, Account]:
    rows = connection.execute(sa.select(_accounts)).all()
    return {row.name: _account(row) for row in sorted(rows)}


def _programs(connection: sa.Connection, key: str = "") -> dict[str, Token]:
    query = sa.select(_tokens)
    if key:
        query = query.where(_tokens.c.key == key)
    rows = connection.execute(query).all()
    return {
        row.name: Token(
            name=row.name,
            role=row.role,
            key=row.key,
            created=parse_instant(row.created),
            expires=parse_instant(row.expires),
        )
        for row in sorted(rows)
    }


def _account(row: Any) -> Account:
    return Account(
        name=row.name,
        role=row.role,
        password=row.password,
        created=parse_instant(row.created),
    )


def _note(connection: sa.Connection, audit: Sequence[AuditEntry]) -> None:
    for entry in audit:
        connection.execute(
            _audit.insert().values(
                time=instant(entry.time),
                actor=entry.actor,
                action=entry.action,
                subject=entry.subject,
                detail=_dump(entry.detail),
            )
        )


def _dump(document: Mapping[str, Any]) -> str:
    return json.dumps(plain(document), sort_keys=True, ensure_ascii=False)


def _prepare(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _post(connection: sa.Connection, message: Message) -> None:
    known = connection.execute(
        sa.select(_outbox.c.id).where(
            _outbox.c.idempotency_key == message.idempotency_key
        )
    ).scalar()
    if known is None:
        connection.execute(
            _outbox.insert().values(
                idempotency_key=message.idempotency_key,
                route=message.route,
                created=instant(message.created),
                due_ms=0,
                content=_dump(message.content),
                attempts=0,
                error="",
            )
        )
