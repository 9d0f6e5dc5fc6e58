"""The door: who is asking, and whether that is enough for what is asked.

Every request passes here before any route sees it. What a path needs is decided
by :func:`needs` alone, which also writes it into the OpenAPI, so that what is
promised there is what is done here; a path that nobody thought of needs a login
to be read and an admin for anything else.

Without users the service answers on a loopback address only, and whoever is on
the machine is trusted as an operator.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qs, quote, urlsplit

from fastapi import FastAPI, Form, Query, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.concurrency import run_in_threadpool

from twin.service.state import StateError
from twin.service.users import (
    LONGEST,
    LONGEST_TOKEN_DAYS,
    SHORTEST_PASSWORD,
    TOKEN_DAYS,
    LoginError,
    Person,
    Role,
    Users,
    UsersError,
)
from twin.service.web import shapes

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

ALONE = Person("", Role.OPERATOR)
"""Whoever is on the machine while there are no users."""
_FREE = ("/healthz", "/login")
_FREE_UNDER = "/static/"
# Machines on this machine ask these without a name: a supervisor, a scraper.
LOCAL = ("/metrics", "/readyz")
_ANYBODY = ("/logout", "/password")
_ADMINS = ("/users", "/tokens")
_OPERATORS = ("/alarm/", "/models/", "/replays/")
_FORWARDED = (b"x-forwarded-for", b"forwarded", b"x-real-ip")


def needs(method: str, path: str) -> Role | None:
    """Return what a request needs; None lets everybody in.

    The path is the one that the router sees, or its template: what stands in
    braces never decides.
    """
    if path in _FREE or path.startswith(_FREE_UNDER):
        return None
    if path.startswith(_ADMINS):
        return Role.ADMIN
    if method in ("GET", "HEAD") or path in _ANYBODY:
        return Role.VIEWER
    return Role.OPERATOR if path.startswith(_OPERATORS) else Role.ADMIN


@dataclass
class Door:
    """What the door knows; ``public`` is set by the server that listens."""

    users: Users | None
    clock: Callable[[], datetime]
    public: bool = False

    @property
    def locked(self) -> bool:
        """Whether a login is asked for; a public one stays locked when empty."""
        return self.public or (self.users is not None and self.users.any())


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who is asking, how that is known, and the word of their forms."""

    person: Person | None
    secret: str = field(default="", repr=False)
    bearer: bool = False
    locked: bool = True

    @property
    def csrf(self) -> str:
        """The word that a form must bring; it shows nothing of the secret."""
        return word(self.secret) if self.secret else ""

    def may(self, role: str) -> bool:
        """Return whether this visitor may do what a role may."""
        return self.person is not None and self.person.role.allows(Role(role))


def word(secret: str) -> str:
    """Return the word that forms of a session bring with them."""
    return hmac.new(secret.encode(), b"form", hashlib.sha256).hexdigest()


def visitor(request: Request) -> Visitor:
    """Return who is asking; the door has found out before any route runs."""
    found = request.scope.get("hptwin.visitor")
    return found if isinstance(found, Visitor) else Visitor(None)


def actor(request: Request, said: str) -> str:
    """Return the name for the audit: the login's, else what was typed."""
    person = visitor(request).person
    return person.name if person is not None and person.name else said


def still(request: Request) -> bool:
    """Return whether who asked may still read; a stream outlasts many a login."""
    door = request.app.state.door
    headers = dict(request.scope["headers"])
    try:
        return who(door, request.scope, headers).may(Role.VIEWER)
    except StateError:
        return False


def who(door: Door, scope: Scope, headers: Mapping[bytes, bytes]) -> Visitor:
    """Find out who is asking."""
    if not door.locked:
        return Visitor(ALONE, locked=False)
    if door.users is None:
        return Visitor(None)
    kind, _, secret = (
        headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    )
    now = door.clock()
    if kind.lower() == "bearer":
        person = door.users.of_token(secret.strip(), now)
        return Visitor(person, bearer=person is not None)
    held = _cookie(headers, cookie_name(scope))
    return Visitor(door.users.of_session(held, now) if held else None, held)


def cookie_name(scope: Mapping[str, Any]) -> str:
    """Return the cookie's name; with TLS one that no neighbour can plant."""
    return "__Host-hptwin" if scope.get("scheme") == "https" else "hptwin"


class Gate:
    """The door as middleware; see the module."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app, self._door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        needed = needs(method, path)
        if needed is None and method in ("GET", "HEAD") and path != "/login":
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        near = path in LOCAL and method in ("GET", "HEAD") and _here(scope, headers)
        try:
            found = await run_in_threadpool(who, self._door, scope, headers)
        except StateError as error:
            # Who it is cannot be looked up, so it is nobody.
            found = Visitor(None)
            if not near:
                await _sentence(scope, 503, str(error))(scope, receive, send)
                return
        scope["hptwin.visitor"] = found
        if needed is not None and not found.may(needed) and not near:
            await self._refuse(found, needed, headers, scope, receive, send)
            return
        if method not in ("GET", "HEAD") and found.locked and not found.bearer:
            body = await _read(receive)
            if not _brings(found, headers, body):
                await _sentence(
                    scope,
                    403,
                    "the form was too old or not ours; go back, load the page anew"
                    " and send it again",
                )(scope, receive, send)
                return
            receive = _again(body, receive)
        await self._app(scope, receive, send)

    async def _refuse(
        self,
        found: Visitor,
        needed: Role,
        headers: Mapping[bytes, bytes],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        if found.person is not None:
            answer: Response = _sentence(
                scope,
                403,
                f"this needs the role {needed}, and {found.person.name or 'you'}"
                f" may do what {found.person.role} may"
                + (
                    "" if found.locked else "; there are no users yet: hptwin users add"
                ),
            )
        elif scope["method"] == "GET" and b"text/html" in headers.get(b"accept", b""):
            back = quote(scope["path"], safe="/")
            if scope["query_string"]:
                back += "?" + scope["query_string"].decode("latin-1")
            answer = RedirectResponse(f"/login?back={quote(back, safe='')}", 303)
        else:
            answer = _sentence(scope, 401, "log in, or send a token")
            answer.headers["www-authenticate"] = 'Bearer realm="hptwin"'
        await answer(scope, receive, send)


def for_programs(path: str) -> bool:
    """Tell whether a program asks there, which is told its errors in JSON."""
    return path.startswith(("/api/", "/csv/"))


def _sentence(scope: Scope, status: int, sentence: str) -> Response:
    if for_programs(scope["path"]):
        return JSONResponse({"error": sentence}, status)
    return PlainTextResponse(sentence + "\n", status)


def _cookie(headers: Mapping[bytes, bytes], name: str) -> str:
    try:
        morsel = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1")).get(name)
    except CookieError:
        return ""
    return "" if morsel is None else morsel.value


def _here(scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
    """Return whether it comes from this machine, and from no proxy on it."""
    if any(name in headers for name in _FORWARDED):
        return False
    try:
        return ipaddress.ip_address((scope.get("client") or ("",))[0]).is_loopback
    except ValueError:
        return False


def _brings(found: Visitor, headers: Mapping[bytes, bytes], body: bytes) -> bool:
    """Return whether a request brings the word that only our pages know."""
    if not found.secret:
        return False
    said = headers.get(b"x-csrf-token", b"").decode("latin-1")
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if not said and kind == b"application/x-www-form-urlencoded":
        try:
            said = parse_qs(body.decode("latin-1")).get("csrf", [""])[0]
        except ValueError:
            return False
    return hmac.compare_digest(said.encode(), found.csrf.encode())


async def _read(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _again(body: bytes, receive: Receive) -> Receive:
    told = False

    async def repeat() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return repeat


# --- the routes --------------------------------------------------------------

Name = Annotated[str, Form(max_length=200)]
Password = Annotated[str, Form(max_length=1000)]


def routes(
    app: FastAPI,
    door: Door,
    render: Callable[..., HTMLResponse],
    inside: Callable[[str], str],
) -> None:
    """Add login, logout, and the pages of users and of one's own password."""

    def users() -> Users:
        if door.users is None or not door.locked:
            raise UsersError(
                "there are no users yet; the first is made on the machine, with:"
                " hptwin users add NAME --role admin"
            )
        return door.users

    def give(request: Request, answer: Response, secret: str) -> Response:
        answer.set_cookie(
            cookie_name(request.scope),
            secret,
            max_age=int(LONGEST.total_seconds()),
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
            path="/",
        )
        return answer

    def form(
        request: Request, status: int = 200, said: str = "", back: str = "/"
    ) -> Response:
        # Also who has not come in needs a word, or a page elsewhere could let
        # him in under a foreign name.
        held = visitor(request).secret or secrets.token_urlsafe(32)
        answer = render(
            request,
            "login.html",
            status,
            csrf=word(held),
            said=said,
            back=inside(back),
            empty=not (door.users is not None and door.users.any()),
        )
        answer.headers["cache-control"] = "no-store"
        return give(request, answer, held)

    @app.get("/login", response_class=HTMLResponse, tags=["access"])
    def login_page(
        request: Request, back: Annotated[str, Query(max_length=2000)] = "/"
    ) -> Response:
        """Return the form that lets people in."""
        if not door.locked or visitor(request).person is not None:
            return RedirectResponse(inside(back), 303)
        return form(request, back=back)

    @app.post("/login", response_class=HTMLResponse, tags=["access"])
    def login(
        request: Request,
        name: Name,
        password: Password,
        back: Annotated[str, Form(max_length=2000)] = "/",
    ) -> Response:
        """Let a person in, with a new session."""
        address = request.client.host if request.client else ""
        try:
            secret = users().login(
                name, password, address, door.clock(), visitor(request).secret
            )
        except LoginError as error:
            wait = int(error.wait.total_seconds())
            answer = form(request, 429 if wait else 401, str(error), back)
            if wait:
                answer.headers["retry-after"] = str(wait + 1)
            return answer
        return give(request, RedirectResponse(inside(back), 303), secret)

    @app.post("/logout", response_class=HTMLResponse, tags=["access"])
    def logout(request: Request) -> Response:
        """End the session."""
        users().logout(visitor(request).secret, door.clock())
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(cookie_name(request.scope), path="/")
        return answer

    def page(request: Request, status: int = 200, **shown: Any) -> Response:
        kept = door.users
        there = kept is not None and door.locked
        answer = render(
            request,
            "users.html",
            status,
            accounts=list(kept.accounts().values()) if kept and there else [],
            tokens=list(kept.tokens().values()) if kept and there else [],
            log=kept.history(100) if kept and there else [],
            roles=list(Role),
            shortest=SHORTEST_PASSWORD,
            days=TOKEN_DAYS,
            longest_days=LONGEST_TOKEN_DAYS,
            **{"secret": "", "secret_name": "", **shown},
        )
        answer.headers["cache-control"] = "no-store"
        return answer

    @app.get("/users", response_class=HTMLResponse, tags=["access"])
    def users_page(request: Request) -> Response:
        """Return who may come in, and who did."""
        return page(request)

    def done() -> Response:
        return RedirectResponse("/users", 303)

    @app.post("/users/add", response_class=HTMLResponse, tags=["access"])
    def add(
        request: Request, name: Name, password: Password, role: Annotated[Role, Form()]
    ) -> Response:
        """Let a person in from now on."""
        users().add(name, password, role, actor(request, ""), door.clock())
        return done()

    @app.post("/users/role", response_class=HTMLResponse, tags=["access"])
    def set_role(
        request: Request, name: Name, role: Annotated[Role, Form()]
    ) -> Response:
        """Let a person do more or less."""
        users().set_role(name, role, actor(request, ""), door.clock())
        return done()

    @app.post("/users/password", response_class=HTMLResponse, tags=["access"])
    def set_password(request: Request, name: Name, password: Password) -> Response:
        """Give a person another password; their sessions end."""
        users().set_password(name, password, actor(request, ""), door.clock())
        return done()

    @app.post("/users/remove", response_class=HTMLResponse, tags=["access"])
    def remove(request: Request, name: Name) -> Response:
        """Let a person in no longer."""
        users().remove(name, actor(request, ""), door.clock())
        return done()

    @app.post("/tokens/issue", response_class=HTMLResponse, tags=["access"])
    def issue(
        request: Request,
        name: Name,
        role: Annotated[Role, Form()],
        days: Annotated[float, Form(gt=0, le=LONGEST_TOKEN_DAYS)] = TOKEN_DAYS,
    ) -> Response:
        """Let a program in; its token is shown in the answer and never again."""
        secret = users().issue(name, role, days, actor(request, ""), door.clock())
        return page(request, secret=secret, secret_name=name)

    @app.post("/tokens/revoke", response_class=HTMLResponse, tags=["access"])
    def revoke(request: Request, name: Name) -> Response:
        """Let a program in no longer."""
        users().revoke(name, actor(request, ""), door.clock())
        return done()

    @app.get("/password", response_class=HTMLResponse, tags=["access"])
    def password_page(request: Request) -> Response:
        """Return the form for one's own password."""
        return render(request, "password.html", shortest=SHORTEST_PASSWORD, said="")

    @app.post("/password", response_class=HTMLResponse, tags=["access"])
    def own_password(request: Request, old: Password, new: Password) -> Response:
        """Give oneself another password; every other session of one's ends."""
        person = visitor(request).person
        kept, now = users(), door.clock()
        if person is None or visitor(request).bearer:
            raise UsersError("a token has no password; log in")
        address = request.client.host if request.client else ""
        try:
            kept.login(person.name, old, address, now)
            kept.set_password(person.name, new, person.name, now)
        except UsersError as error:
            return render(
                request,
                "password.html",
                409,
                shortest=SHORTEST_PASSWORD,
                said=str(error),
            )
        secret = kept.login(person.name, new, address, now)
        return give(request, RedirectResponse("/", 303), secret)


# --- what is promised --------------------------------------------------------

_SENTENCE = {
    "application/json": {
        "schema": {
            "type": "object",
            "properties": {"error": {"type": "string"}},
            "required": ["error"],
        }
    }
}
_WORDS: dict[str, Any] = {
    "text/plain": {"schema": {"type": "string"}},
    "text/html": {"schema": {"type": "string"}},
}
_REFUSALS = {
    "400": "not to be understood",
    "401": "nobody known is asking",
    "403": "the role is not enough, or the form is not ours",
    "404": "there is no such thing",
    "409": "it cannot be done as things are",
    "411": "the length is missing",
    "413": "too long",
    "421": "asked under a foreign name",
    "422": "what was given is wrong; the sentence says what",
}


def document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI with what every operation needs, from :func:`needs`."""
    if app.openapi_schema:
        return app.openapi_schema
    made = get_openapi(title=app.title, version=app.version, routes=app.routes)
    parts = made.setdefault("components", {})
    parts["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer"},
        "session": {"type": "apiKey", "in": "cookie", "name": "hptwin"},
    }
    for path, item in made["paths"].items():
        for method, operation in item.items():
            needed = needs(method.upper(), path)
            operation["x-role"] = needed.value if needed else "nobody"
            operation["x-local"] = path in LOCAL
            operation["security"] = (
                [] if needed is None else [{"token": []}, {"session": []}]
            )
            said = for_programs(path)
            answers = operation["responses"]
            shown, named = shapes.content(path)
            parts.setdefault("schemas", {}).update(named)
            answers["200"] = {"description": "as asked", "content": shown}
            if path in ("/healthz", "/readyz"):
                answers["503"] = {"description": "it is not", "content": shown}
            elif "html" in str(shown):
                answers["303"] = {"description": "go on there"}
            if path == "/login":
                answers["429"] = {"description": "too often", "content": _WORDS}
            for status, why in _REFUSALS.items():
                answers[status] = {
                    "description": why,
                    "content": _SENTENCE if said else _WORDS,
                }
    app.openapi_schema = made
    return made


def hostname(url: str) -> str:
    """Return whose name a URL bears; nothing if it bears none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
