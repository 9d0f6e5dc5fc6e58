"""Who may come in: people with a password, programs with a token.

Passwords are kept as argon2id hashes; what a browser or a program holds is
random, and only its hash is kept. Whoever reads the state database therefore
cannot come in with what he found. Every login, failure and change is a line of
the audit, under the subject ``access/``.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from twin.service.state import Account, AuditEntry, Session, State, Token, Writing

SUBJECT = "access/"
"""What the subjects of all lines begin with that are about coming in."""
IDLE = timedelta(hours=8)
"""After how long unseen a session ends: a shift."""
LONGEST = timedelta(days=7)
"""After how long a session ends however busy it is."""
TOKEN_DAYS = 90
LONGEST_TOKEN_DAYS = 366
SHORTEST_PASSWORD, LONGEST_PASSWORD = 12, 128
_LONGEST_NAME = 64
_PREFIX = "hptwin_"  # so that scanners for leaked secrets can know it
_SEEN_EVERY = timedelta(minutes=1)
_BACK = timedelta(minutes=5)
# A hash takes 64 MB for a tenth of a second: a flood of logins must queue.
_HASHING = threading.BoundedSemaphore(2)


class Role(StrEnum):
    """What somebody may do; each may do what those before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def allows(self, needed: Role) -> bool:
        """Return whether this role is enough where another is needed."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


class UsersError(ValueError):
    """What was asked for cannot be done; the sentence says why."""


class LoginError(UsersError):
    """Nobody came in. ``wait`` is how long to stay away first."""

    def __init__(self, sentence: str, wait: timedelta = timedelta(0)) -> None:
        super().__init__(sentence)
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Person:
    """Who is asking: a name for the audit, and what it may do."""

    name: str
    role: Role


class Throttle:
    """A leaking bucket for each name: so many failures at once, then one a while.

    Parameters
    ----------
    burst : int
        Failures that are let pass at once.
    leak : timedelta
        Time after which one failure is forgotten.
    most : int
        Names that are remembered; beyond it the emptiest bucket is forgotten,
        so that a flood of new names cannot wash an old offender out.
    """

    def __init__(self, burst: int, leak: timedelta, most: int = 4096) -> None:
        self._burst, self._leak, self._most = burst, leak, most
        self._full: dict[str, tuple[float, datetime]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._full)

    def _level(self, name: str, now: datetime) -> float:
        level, since = self._full.get(name, (0.0, now))
        # A clock that went back forgives nothing and adds nothing.
        return max(level - max(now - since, timedelta(0)) / self._leak, 0.0)

    def take(self, name: str, now: datetime) -> timedelta:
        """Count a failure before it is one; return how long to wait instead.

        Zero means that it may be tried, and was counted: a burst at once would
        else pass before its first failure is known.
        """
        with self._lock:
            level = self._level(name, now)
            if level > self._burst - 1:
                return (level - (self._burst - 1)) * self._leak
            if name not in self._full and len(self._full) >= self._most:
                del self._full[min(self._full, key=lambda x: self._level(x, now))]
            self._full[name] = (level + 1.0, now)
        return timedelta(0)

    def give_back(self, name: str, now: datetime) -> None:
        """Take back what was counted: it was no failure."""
        with self._lock:
            level = self._level(name, now) - 1.0
            if level > 0.0:
                self._full[name] = (level, now)
            else:
                self._full.pop(name, None)


class Users:
    """Who may come in, in a state database.

    Parameters
    ----------
    state : State
        Where they are kept.
    hasher : PasswordHasher, optional
        Tests take a cheap one; what is hashed otherwise is hashed anew at the
        next login.
    """

    def __init__(self, state: State, hasher: PasswordHasher | None = None) -> None:
        self._state = state
        self._hasher = hasher or PasswordHasher()
        self._decoy = ""
        self._names = Throttle(10, timedelta(seconds=30))
        self._addresses = Throttle(20, timedelta(seconds=6))

    # --- who there is --------------------------------------------------------

    def any(self) -> bool:
        """Return whether there is anybody; without users there is no door."""
        return self._state.inhabited()

    def accounts(self) -> Mapping[str, Account]:
        """Return every account by its name."""
        return self._state.accounts()

    def tokens(self) -> Mapping[str, Token]:
        """Return every token by its name."""
        return self._state.tokens()

    def history(self, limit: int = 200) -> list[AuditEntry]:
        """Return the newest lines of the audit about coming in, newest first."""
        return self._state.audit(limit, under=SUBJECT)

    # --- changes -------------------------------------------------------------

    def add(
        self, name: str, password: str, role: Role, by: str, now: datetime
    ) -> Account:
        """Let a person in.

        Raises
        ------
        UsersError
            If there is one of that name, name or password will not do, or the
            first of all is no admin.
        """
        name = _name(name)
        hashed = self._hashed(name, password)
        with self._state.alone() as kept:
            known = kept.accounts()
            if any(other.casefold() == name.casefold() for other in known):
                raise UsersError(f'there is a user "{name}" already')
            if not known and role is not Role.ADMIN:
                raise UsersError(
                    "the first user must be an admin, or nobody could let others in"
                )
            account = Account(name=name, role=role, password=hashed, created=now)
            line = _line(now, by, "user added", name, role=role.value)
            kept.admit(accounts={name: account}, audit=[line])
        return account

    def set_password(self, name: str, password: str, by: str, now: datetime) -> None:
        """Give a person another password; every session of theirs ends.

        Raises
        ------
        UsersError
            If there is no such person or the password will not do.
        """
        hashed = self._hashed(name, password)
        with self._state.alone() as kept:
            account = replace(_account(kept, name), password=hashed)
            line = _line(now, by, "password changed", name)
            kept.admit(accounts={name: account}, ended=name, audit=[line])

    def set_role(self, name: str, role: Role, by: str, now: datetime) -> None:
        """Let a person do more or less from the next request on.

        Raises
        ------
        UsersError
            If there is no such person, or no admin would be left.
        """
        with self._state.alone() as kept:
            account = _account(kept, name)
            if role is not Role.ADMIN:
                _not_the_last_admin(kept, account)
            line = _line(now, by, "role changed", name, role=role.value)
            kept.admit(accounts={name: replace(account, role=role)}, audit=[line])

    def remove(self, name: str, by: str, now: datetime, *, last: bool = False) -> None:
        """Let a person in no longer; every session of theirs ends at once.

        ``last`` says that the last admin may go too, if nobody else is left:
        then there are no users, and no login, any more.

        Raises
        ------
        UsersError
            If there is no such person, or others would be left without an admin.
        """
        with self._state.alone() as kept:
            account = _account(kept, name)
            if not (last and len(kept.accounts()) == 1):
                _not_the_last_admin(kept, account)
            line = _line(now, by, "user removed", name)
            kept.admit(accounts={name: None}, ended=name, audit=[line])

    def issue(self, name: str, role: Role, days: float, by: str, now: datetime) -> str:
        """Let a program in; the token is returned once and kept nowhere.

        Raises
        ------
        UsersError
            If there are no users, there is one of that name, or it would last
            longer than a year.
        """
        name = _name(name)
        if not 0 < days <= LONGEST_TOKEN_DAYS:
            raise UsersError(f"a token lasts 1 to {LONGEST_TOKEN_DAYS} days")
        with self._state.alone() as kept:
            if not kept.accounts():
                raise UsersError(
                    "without users nobody is asked for a token; add an admin first"
                )
            if any(x.casefold() == name.casefold() for x in kept.tokens()):
                raise UsersError(f'there is a token "{name}" already; revoke it first')
            secret = _PREFIX + secrets.token_urlsafe(32)
            token = Token(
                name=name,
                role=role,
                key=_key(secret),
                created=now,
                expires=now + timedelta(days=days),
            )
            line = _line(now, by, "token issued", f"token {name}", role=role.value)
            kept.admit(tokens={name: token}, audit=[line])
        return secret

    def revoke(self, name: str, by: str, now: datetime) -> None:
        """Let a program in no longer.

        Raises
        ------
        UsersError
            If there is no such token.
        """
        with self._state.alone() as kept:
            if name not in kept.tokens():
                raise UsersError(f'there is no token "{name}"')
            line = _line(now, by, "token revoked", f"token {name}")
            kept.admit(tokens={name: None}, audit=[line])

    # --- coming in -----------------------------------------------------------

    def login(
        self, name: str, password: str, address: str, now: datetime, old: str = ""
    ) -> str:
        """Return the secret of a new session; the one of before ends.

        An unknown name is answered as late as a wrong password is, so that
        nobody learns by the time who there is.

        Raises
        ------
        LoginError
            If name and password do not belong together, or there were too many
            failures; then nothing was looked at.
        """
        name = unicodedata.normalize("NFKC", name).strip()
        # An address first: one that is kept out must not keep others out. A name
        # that nobody has is counted like any other, or it would show.
        wait = self._addresses.take(address, now) or self._names.take(
            name.casefold(), now
        )
        if wait:
            seconds = int(wait.total_seconds()) + 1
            raise LoginError(f"too many failed logins; try again in {seconds} s", wait)
        account = self.accounts().get(name)
        if not self._fits(account, password):
            # An unknown name may be a password in the wrong place.
            known = name if account is not None else "unknown name"
            line = _line(now, known, "login failed", known, address=address)
            self._state.admit(audit=[line])
            raise LoginError("name and password do not belong together")
        assert account is not None  # noqa: S101  nothing fits nobody
        self._names.give_back(name.casefold(), now)
        self._addresses.give_back(address, now)
        hashed = account.password
        if self._hasher.check_needs_rehash(hashed):
            with _HASHING:
                hashed = self._hasher.hash(_text(password))
        secret = secrets.token_urlsafe(32)
        session = Session(key=_key(secret), name=name, created=now, seen=now)
        with self._state.alone() as kept:
            current = kept.accounts().get(name)
            if current is None or current.password != account.password:
                # It was changed while the hash was worked out.
                raise LoginError("name and password do not belong together")
            kept.admit(
                accounts={name: replace(current, password=hashed)},
                sessions={**({_key(old): None} if old else {}), session.key: session},
                unseen_since=now - IDLE,
                audit=[_line(now, name, "login", name, address=address)],
            )
        return secret

    def logout(self, secret: str, now: datetime) -> None:
        """End a session, if it is one."""
        found = self._state.session(_key(secret))
        if found is not None:
            session, account = found
            line = _line(now, account.name, "logout", account.name)
            self._state.admit(sessions={session.key: None}, audit=[line])

    def of_session(self, secret: str, now: datetime) -> Person | None:
        """Return whose session it is; None if it has ended or never was."""
        found = self._state.session(_key(secret))
        if found is None:
            return None
        session, account = found
        idle, age = now - session.seen, now - session.created
        if idle > IDLE or age > LONGEST or age < -_BACK:
            return None
        if idle > _SEEN_EVERY:
            self._state.seen(session.key, now)
        return Person(account.name, Role(account.role))

    def of_token(self, secret: str, now: datetime) -> Person | None:
        """Return whose token it is; None if it has expired or never was."""
        for token in self._state.tokens(_key(secret)).values():
            if now < token.expires:
                return Person(f"token {token.name}", Role(token.role))
        return None

    # --- within --------------------------------------------------------------

    def _hashed(self, name: str, password: str) -> str:
        password = _text(password)
        if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
            raise UsersError(
                f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters"
            )
        if password.casefold() == name.casefold() or len(set(password)) < 4:
            raise UsersError("that password would be guessed first; take another")
        with _HASHING:
            return self._hasher.hash(password)

    def _fits(self, account: Account | None, password: str) -> bool:
        with _HASHING:
            if not self._decoy:
                self._decoy = self._hasher.hash(secrets.token_urlsafe(32))
            try:
                self._hasher.verify(
                    self._decoy if account is None else account.password,
                    _text(password)[: LONGEST_PASSWORD + 1],
                )
            except (VerificationError, InvalidHashError):
                return False
        return account is not None


def _account(kept: Writing, name: str) -> Account:
    try:
        return kept.accounts()[name]
    except KeyError:
        raise UsersError(f'there is no user "{name}"') from None


def _not_the_last_admin(kept: Writing, account: Account) -> None:
    others = [
        other
        for other in kept.accounts().values()
        if other.name != account.name and other.role == Role.ADMIN
    ]
    if not others and account.role == Role.ADMIN:
        raise UsersError(
            f'"{account.name}" is the last admin; make somebody else one first'
        )


def _text(password: str) -> str:
    # The same letters may be typed as different code points.
    return unicodedata.normalize("NFKC", password)


def _name(name: str) -> str:
    name = unicodedata.normalize("NFKC", name).strip()
    if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
        raise UsersError(
            f"a name has 1 to {_LONGEST_NAME} characters that can be printed"
        )
    if name.casefold().startswith("token "):
        raise UsersError('a name must not begin with "token ", as tokens do')
    return name


def _key(secret: str) -> str:
    # 256 random bits cannot be guessed, so a fast hash is enough.
    return hashlib.sha256(secret.encode()).hexdigest()


def _line(now: datetime, by: str, action: str, about: str, **detail: str) -> AuditEntry:
    return AuditEntry(
        time=now, actor=by, action=action, subject=f"{SUBJECT}{about}", detail=detail
    )
