"""The state database: what the service must still know after a restart.

SQLAlchemy's door. Cases of alarms, small facts, an audit that nobody can
rewrite, the outbox of messages, and who may come in. What they mean is their
writers' business; here they are rows. SQLite by default; the URL of another
server will do.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from twin.service.results import instant, parse_instant, plain

if TYPE_CHECKING:
    from typing import Self

VERSION = 2
"""Of the tables. Every change so far was a table more, which an older database
is given when it is opened; the first change of a column will need Alembic."""

_schema = sa.MetaData()
_cases = sa.Table(
    "cases",
    _schema,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("document", sa.Text, nullable=False),
)
_facts = sa.Table(
    "facts",
    _schema,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
_audit = sa.Table(
    "audit",
    _schema,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("time", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False, index=True),
    sa.Column("detail", sa.Text, nullable=False),
    sqlite_autoincrement=True,
)
_outbox = sa.Table(
    "outbox",
    _schema,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("idempotency_key", sa.Text, nullable=False, unique=True),
    sa.Column("route", sa.Text, nullable=False),
    sa.Column("created", sa.Text, nullable=False),
    # Milliseconds since 1970, because they are compared.
    sa.Column("due_ms", sa.BigInteger, nullable=False),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("delivered", sa.Text, nullable=True),
    sa.Column("error", sa.Text, nullable=False, default=""),
    sqlite_autoincrement=True,
)
# Since version 2. Secrets are here as hashes only.
_accounts = sa.Table(
    "accounts",
    _schema,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("password", sa.Text, nullable=False),
    sa.Column("created", sa.Text, nullable=False),
)
_sessions = sa.Table(
    "sessions",
    _schema,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, index=True),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("seen_ms", sa.BigInteger, nullable=False),
)
_tokens = sa.Table(
    "tokens",
    _schema,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False, unique=True),
    sa.Column("created", sa.Text, nullable=False),
    sa.Column("expires", sa.Text, nullable=False),
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


class StateError(RuntimeError):
    """The state database cannot be used; the sentence says what to do."""


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


class State:
    """An open state database; every method may be called from any thread."""

    def __init__(self, url: str) -> None:
        memory = url in ("sqlite://", "sqlite:///:memory:")
        sqlite = url.startswith("sqlite")
        options: dict[str, Any] = {}
        if sqlite:
            options["connect_args"] = {"check_same_thread": False, "timeout": 30.0}
        if memory:
            options["poolclass"] = StaticPool
        self._engine = sa.create_engine(url, **options)
        # One writer at a time, and in memory one connection for all threads.
        self._lock = threading.RLock()
        if sqlite:
            sa.event.listen(self._engine, "connect", _prepare)
        try:
            with self._engine.begin() as connection:
                _schema.create_all(connection)
                self._check(connection)
        except sa.exc.DatabaseError as error:
            self._engine.dispose()
            raise StateError(
                f"{url}: the state database cannot be opened: {error.orig}; "
                "put the last backup in its place, or move it away to start anew"
            ) from error

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open, or make, the SQLite database at a path."""
        path.parent.mkdir(parents=True, exist_ok=True)
        return cls(f"sqlite:///{path}")

    @classmethod
    def in_memory(cls) -> Self:
        """Open a database that ends with the process; a replay uses it."""
        return cls("sqlite://")

    def _check(self, connection: sa.Connection) -> None:
        known = connection.execute(
            sa.select(_facts.c.value).where(_facts.c.name == "version")
        ).scalar()
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
            raise StateError(
                f"{self._engine.url}: written by a newer hptwin (version {known}, "
                f"this one knows {VERSION}); start the newer one"
            )

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        with self._lock, self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        with self._lock, self._engine.connect() as connection:
            yield connection

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

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
        with self._write() as connection:
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
                self._post(connection, message)

    def _post(self, connection: sa.Connection, message: Message) -> None:
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

    def cases(self) -> dict[str, dict[str, Any]]:
        """Return every stored case by its key."""
        with self._read() as connection:
            rows = connection.execute(sa.select(_cases).order_by(_cases.c.key)).all()
        return {row.key: json.loads(row.document) for row in rows}

    def fact(self, name: str) -> str | None:
        """Return a small fact, or None if it was never set."""
        with self._read() as connection:
            found = connection.execute(
                sa.select(_facts.c.value).where(_facts.c.name == name)
            ).scalar()
        return None if found is None else str(found)

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
        with self._write() as connection:
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
        query = sa.select(_accounts).order_by(_accounts.c.name)
        with self._read() as connection:
            rows = connection.execute(query).all()
        return {row.name: _account(row) for row in rows}

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
        query = sa.select(_tokens).order_by(_tokens.c.name)
        if key:
            query = query.where(_tokens.c.key == key)
        with self._read() as connection:
            rows = connection.execute(query).all()
        return {
            row.name: Token(
                name=row.name,
                role=row.role,
                key=row.key,
                created=parse_instant(row.created),
                expires=parse_instant(row.expires),
            )
            for row in rows
        }

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
