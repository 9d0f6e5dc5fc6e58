"""The door: every route with every role, and what a login is worth.

A real server on a port of its own; strangers come through a proxy's header, as
they would. The matrix is walked from the OpenAPI, which is read from the service.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest
import sample_results
from argon2 import PasswordHasher

from twin.service.alarms import Alarms
from twin.service.results import Live, ResultsView
from twin.service.state import State
from twin.service.users import IDLE, Role, Users
from twin.service.web import access
from twin.service.web.app import create_app
from twin.service.web.server import PublicAddressError, Server

NOW = sample_results.NOW
RESULTS = sample_results.results()
KEY = "hp1/fouling/condenser"
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
PASSWORD = "correct horse battery"  # noqa: S105
WRONG = "wrong horse battery"
AFAR = {"x-forwarded-for": "203.0.113.7"}
NAMES = {"ada": Role.ADMIN, "olga": Role.OPERATOR, "vera": Role.VIEWER}


class House:
    """A served site with a person and a token for each role."""

    def __init__(self, *, peopled: bool = True, **options) -> None:
        self.moment = NOW
        self.state = State.in_memory()
        self.alarms = Alarms(self.state)
        self.alarms.step(RESULTS.findings, NOW)
        self.users = Users(self.state, CHEAP)
        self.tokens: dict[str, str] = {}
        for name, role in NAMES.items() if peopled else ():
            self.users.add(name, PASSWORD, role, "test", NOW)
            self.tokens[role] = self.users.issue(role, role, 30, "ada", NOW)
        self.app = create_app(
            ResultsView(RESULTS),
            self.alarms,
            Live(),
            plant=sample_results.plant(),
            clock=self.now,
            users=self.users,
            **options,
        )
        self.server = Server(self.app, port=0)

    def now(self) -> datetime:
        """Return what the service takes for the time."""
        return self.moment

    def __enter__(self) -> House:
        self.server.start()
        self.url = self.server.url
        self.client = httpx.Client(base_url=self.url, trust_env=False, headers=AFAR)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.close()

    def ask(
        self,
        method: str,
        path: str,
        secret: str = "",
        *,
        token: str = "",
        csrf: str | None = None,
        headers: dict[str, str] | None = None,
        **form: str,
    ) -> httpx.Response:
        """Ask as a browser with a session does, or as a program with a token."""
        self.client.cookies.clear()  # who is asking is said each time
        sent = {**(headers or {})}
        if token:
            sent["authorization"] = f"Bearer {token}"
        elif method != "GET":
            sent.setdefault("origin", self.url)
            form["csrf"] = access.word(secret) if csrf is None else csrf
        if secret:
            sent["cookie"] = f"hptwin={secret}"
        request = self.client.build_request(
            method, path, data=form if method != "GET" else None, headers=sent
        )
        answer = self.client.send(request, stream=True)
        if "event-stream" not in answer.headers.get("content-type", ""):
            answer.read()
        answer.close()
        return answer

    def session(self, name: str) -> str:
        """Let somebody in."""
        return self.users.login(name, PASSWORD, "test", self.moment)


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """Serve one for all who change nothing."""
    with House() as served:
        yield served


# --- the matrix --------------------------------------------------------------


def decided(method: str, path: str) -> str:
    """Return what was decided a route needs; said here once more, by hand."""
    if (method, path) in {
        ("GET", "/healthz"),
        ("GET", "/login"),
        ("POST", "/login"),
    }:
        return "nobody"
    if path.split("/")[1] in ("users", "tokens"):
        return "admin"
    if method == "GET" or path in ("/logout", "/password"):
        return "viewer"
    return "operator"


def let_in(answer: httpx.Response) -> bool:
    """Return whether a route has seen the request, whatever it said to it."""
    to_login = answer.headers.get("location", "").startswith("/login?")
    return answer.status_code not in (401, 403, 421) and not to_login


def surprises(house: House) -> tuple[int, list[str], list[str]]:
    """Walk the OpenAPI: how many were asked, who came in wrongly, who did not."""
    asked, in_wrongly, out_wrongly = 0, [], []
    document = house.ask("GET", "/api/openapi.json", token=house.tokens["admin"]).json()
    for path, item in document["paths"].items():
        concrete = re.sub(r"\{number\}", "0", path)
        concrete = re.sub(r"\{[^}]+\}", "nothing", concrete)
        if "from" in str(item.get("get", {}).get("parameters", "")):
            # The route answers 422 to that, and need not draw a page each time.
            concrete += "?from=no-day"
        for verb, operation in item.items():
            method = verb.upper()
            assert operation["x-role"] == decided(method, path), (method, path)
            assert bool(operation["security"]) == (operation["x-role"] != "nobody")
            for who, role in (("nobody", None), *((r.value, r) for r in Role)):
                for way in ("session", "token"):
                    if role is None:
                        answer = house.ask(method, concrete, "a-cookie-of-nobody")
                    elif way == "session":
                        name = next(n for n, r in NAMES.items() if r == role)
                        answer = house.ask(method, concrete, house.session(name))
                    else:
                        answer = house.ask(method, concrete, token=house.tokens[role])
                    needed = operation["x-role"]
                    right = needed == "nobody" or (
                        role is not None and role.allows(Role(needed))
                    )
                    asked += 1
                    line = f"{method} {path} by {who} with a {way}"
                    if path == "/login" and method == "POST" and role is None:
                        # The password is asked for here; 401 is its word.
                        assert answer.status_code in (401, 422)
                    elif let_in(answer) and not right:
                        in_wrongly.append(line)
                    elif right and not let_in(answer):
                        out_wrongly.append(f"{line}: {answer.status_code}")
    return asked, in_wrongly, out_wrongly


def test_every_route_lets_in_whom_it_says_and_nobody_else(house: House):
    """0 unexpected successes and 0 unexpected refusals over the OpenAPI."""
    asked, in_wrongly, out_wrongly = surprises(house)

    assert asked >= 8 * 35
    assert in_wrongly == []
    assert out_wrongly == []


def hidden(house: House) -> set[str]:
    """Return the paths that answer and are not in the OpenAPI."""
    written = set(house.app.openapi()["paths"])
    found = list(house.app.routes)
    for route in found:  # grows: a router brings its own
        found += getattr(getattr(route, "original_router", None), "routes", [])
    there = {
        re.sub(r":\w+\}", "}", getattr(route, "path", repr(route)))
        for route in found
        if not hasattr(route, "original_router")
    }
    return there - written - {"/static", "/api/openapi.json"}


def test_no_route_hides_from_the_matrix(house: House):
    """What the document does not name, the matrix would not ask."""
    assert hidden(house) == set()
    for secret in ("", "a-cookie-of-nobody"):
        assert house.ask("GET", "/api/openapi.json", secret).status_code == 401


def test_the_matrix_would_find_a_route_without_a_guard(monkeypatch):
    """Without its guard, and with a wrong one; a hidden route is found as well."""
    with House() as house:
        house.app.openapi()  # it goes on saying what was decided
        real = access.needs

        def broken(method: str, path: str) -> Role | None:
            if path == "/users":
                return None
            return Role.ADMIN if path == "/alarms" else real(method, path)

        monkeypatch.setattr(access, "needs", broken)
        # Only what was broken is asked here; the whole walk is the test above.
        whole = house.app.openapi_schema
        assert whole is not None
        some = {
            path: whole["paths"][path]
            for path in ("/users", "/alarms", "/csv/{table}.csv")
        }
        house.app.openapi_schema = {**whole, "paths": some}
        _, in_wrongly, out_wrongly = surprises(house)
        house.app.openapi_schema = whole
        house.app.add_route("/leak", lambda request: None)

        assert sorted({line.partition(" with")[0] for line in in_wrongly}) == [
            "GET /users by nobody",
            "GET /users by operator",
            "GET /users by viewer",
        ]
        assert sorted({line.partition(" with")[0] for line in out_wrongly}) == [
            "GET /alarms by operator",
            "GET /alarms by viewer",
        ]
        assert hidden(house) == {"/leak"}


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize(
    "path",
    ["/nowhere", "//", "/users/", "//users", "/Users", "/alarm/x", "/static/../users"],
)
def test_a_stranger_learns_nothing_of_what_there_is(house: House, method, path):
    """What is not there is answered like what is: not without a login."""
    answer = house.ask(method, path)

    assert answer.status_code in (401, 403, 404)
    assert "hp1" not in answer.text
    if answer.status_code == 404:
        assert path.startswith("/static")


def test_a_new_route_is_closed_before_anybody_thinks_of_it():
    """To be read with a login; anything else is for admins."""
    assert access.needs("GET", "/api/of/tomorrow") is Role.VIEWER
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        assert access.needs(method, "/api/of/tomorrow") is Role.ADMIN


# --- in and out --------------------------------------------------------------


def word_of(page: httpx.Response) -> str:
    """Return the word that a page's forms bring with them."""
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page.text)
    assert found is not None
    return found.group(1)


def test_one_who_comes_in_is_the_one_who_acted(house: House):
    """From the redirect to the login, back, and into the audit; no free text."""
    with (
        House() as house,
        httpx.Client(
            base_url=house.url,
            headers={**AFAR, "origin": house.url, "accept": "text/html"},
            trust_env=False,
        ) as browser,
    ):
        sent = browser.get("/unit/hp1?from=2026-02-01")
        assert sent.status_code == 303
        page = browser.get(sent.headers["location"])
        planted = browser.cookies["hptwin"]
        form = {"name": "olga", "password": PASSWORD, "csrf": word_of(page)}
        back = re.search(r'name="back" value="([^"]+)"', page.text)
        assert back is not None
        came = browser.post("/login", data={**form, "back": back.group(1)})

        assert came.headers["location"] == "/unit/hp1?from=2026-02-01"
        said = came.headers["set-cookie"].lower()
        assert all(word in said for word in ("httponly", "samesite=lax", "path=/"))
        assert browser.cookies["hptwin"] != planted
        there = browser.get("/")
        assert "olga" in there.text
        assert 'name="who"' not in there.text
        did = browser.post(
            "/alarm/acknowledge",
            data={"key": KEY, "who": "Somebody Else", "csrf": word_of(there)},
        )
        assert did.status_code == 303
        case = house.alarms.case(KEY)
        assert case is not None
        assert case.acknowledged is not None
        assert case.acknowledged.who == "olga"

        kept = browser.cookies["hptwin"]
        gone = browser.post("/logout", data={"csrf": word_of(there)})
        assert gone.headers["location"] == "/login"
        assert house.ask("GET", "/api/cases", kept).status_code == 401


def test_a_viewer_is_shown_no_button_that_would_refuse(house: House):
    """And the page of users only to whom it opens."""
    seen = house.ask("GET", "/", house.session("vera")).text
    able = house.ask("GET", "/", house.session("ada")).text

    assert "/alarm/" not in seen
    assert 'href="/users"' not in seen
    assert 'action="/alarm/acknowledge"' in able
    assert 'href="/users"' in able


@pytest.mark.parametrize("csrf", ["", "0" * 64, "ü", access.word("another session")])
def test_a_form_without_its_word_changes_nothing(house: House, csrf):
    """Although the cookie, the origin and the role are right."""
    secret = house.session("olga")
    answer = house.ask("POST", "/alarm/acknowledge", secret, csrf=csrf, key=KEY)

    assert answer.status_code == 403
    case = house.alarms.case(KEY)
    assert case is not None
    assert case.acknowledged is None


def test_a_login_needs_a_word_as_well_and_a_token_none(house: House):
    """A page elsewhere could else let one in under its own name."""
    form = {"name": "olga", "password": PASSWORD}
    assert house.ask("POST", "/login", csrf="", **form).status_code == 403
    assert house.ask("POST", "/login", "mine", **form).status_code == 303

    asked = house.ask(
        "POST", "/alarm/acknowledge", token=house.tokens["operator"], key="nobody/x/y"
    )
    assert asked.status_code == 409  # the route has seen it
    wrong = house.ask("POST", "/alarm/acknowledge", token=WRONG, key=KEY)
    assert wrong.status_code == 401


def test_a_wrong_token_is_not_mended_by_a_right_cookie(house: House):
    """Who shows both is who the token says, or a form could pass as a program."""
    answer = house.ask(
        "POST",
        "/alarm/acknowledge",
        house.session("olga"),
        token=WRONG,
        key=KEY,
    )

    assert answer.status_code == 401


def test_guessing_is_answered_with_when_to_come_back():
    """401 ten times, then 429 with the seconds; the right word has to wait too."""
    with House() as house:
        codes = [
            house.ask("POST", "/login", "v", name="vera", password=WRONG)
            for _ in range(12)
        ]
        right = house.ask("POST", "/login", "v", name="vera", password=PASSWORD)
        house.moment += timedelta(seconds=60)
        later = house.ask("POST", "/login", "v", name="vera", password=PASSWORD)

    assert [one.status_code for one in codes] == [401] * 10 + [429] * 2
    assert int(codes[-1].headers["retry-after"]) > 0
    assert (right.status_code, later.status_code) == (429, 303)
    assert house.users.history()[1].detail == {"address": "203.0.113.7"}


def test_a_session_ends_by_the_clock(house: House):
    """The next request is asked to log in."""
    with House() as house:
        secret = house.session("vera")
        assert house.ask("GET", "/api/cases", secret).status_code == 200
        house.moment += IDLE + timedelta(minutes=2)
        assert house.ask("GET", "/api/cases", secret).status_code == 401


def test_a_stream_ends_with_the_login_that_opened_it():
    """Live values go to nobody who was let out in the meantime."""
    with House(heartbeat=0.5) as house:
        secret = house.session("vera")
        with house.client.stream(
            "GET", "/events", headers={"cookie": f"hptwin={secret}"}, timeout=20.0
        ) as stream:
            lines = stream.iter_lines()
            next(lines)
            house.users.remove("vera", "ada", NOW)
            assert len(list(lines)) < 30  # it ends


def test_metrics_are_for_this_machine_and_for_those_who_may(house: House):
    """A scraper here needs no token; what came through a proxy does."""
    for path in ("/metrics", "/readyz"):
        here = httpx.get(house.url + path, trust_env=False)
        assert here.status_code == 200
        assert house.ask("GET", path).status_code == 401
        token = house.tokens["viewer"]
        assert house.ask("GET", path, token=token).status_code == 200
    assert httpx.get(house.url + "/api/live", trust_env=False).status_code == 401


# --- users by the page -------------------------------------------------------


def test_an_admin_lets_people_and_programs_in_and_out():
    """By forms only; the token is on that one answer and on no other."""
    with House() as house:
        ada = house.session("ada")

        def does(path: str, **form: str) -> httpx.Response:
            return house.ask("POST", path, ada, **form)

        word = {"password": PASSWORD}
        assert does("/users/add", name="bob", role="viewer", **word).status_code == 303
        assert does("/users/add", name="bob", role="viewer", **word).status_code == 409
        assert does("/users/add", name="eve", role="king", **word).status_code == 422
        bob = house.session("bob")
        assert does("/users/role", name="bob", role="operator").status_code == 303
        assert house.ask("POST", "/alarm/shelve", bob).status_code == 422  # he may
        new = {"password": "another good word"}
        assert does("/users/password", name="bob", **new).status_code == 303
        assert house.ask("GET", "/", bob).status_code == 401
        assert does("/users/remove", name="ada").status_code == 409
        assert does("/users/remove", name="bob").status_code == 303

        issued = does("/tokens/issue", name="scraper", role="viewer", days="7")
        token = re.findall(r"hptwin_[\w-]{43}", issued.text)
        assert len(token) == 1
        assert issued.headers["cache-control"] == "no-store"
        page = house.ask("GET", "/users", ada).text
        assert token[0] not in page
        assert "scraper" in page
        assert house.ask("GET", "/api/cases", token=token[0]).status_code == 200
        assert does("/tokens/revoke", name="scraper").status_code == 303
        assert house.ask("GET", "/api/cases", token=token[0]).status_code == 401
        assert {line.actor for line in house.users.history(4)} == {"ada"}


def test_ones_own_password_takes_the_old_one():
    """And logs out everywhere else."""
    with House() as house:
        here, there = house.session("vera"), house.session("vera")
        wrong = house.ask("POST", "/password", here, old=WRONG, new="a whole new one")
        assert wrong.status_code == 409
        right = house.ask(
            "POST", "/password", here, old=PASSWORD, new="a whole new one"
        )
        assert right.status_code == 303
        assert house.ask("GET", "/api/cases", there).status_code == 401
        fresh = right.cookies["hptwin"]
        assert house.ask("GET", "/api/cases", fresh).status_code == 200
        assert house.users.login("vera", "a whole new one", "a", NOW)


# --- without users, and in public --------------------------------------------


def test_without_users_all_is_as_it_was_and_nobody_makes_the_first_here():
    """Whoever is on the machine acts; the first admin comes from the command."""
    with House(peopled=False) as house:
        assert house.ask("GET", "/").status_code == 200
        acted = house.ask("POST", "/alarm/acknowledge", key=KEY, who="Ada")
        assert acted.status_code == 303
        made = house.ask(
            "POST", "/users/add", name="eve", role="admin", password=PASSWORD
        )
        assert made.status_code == 403
        assert "hptwin users add" in made.text
        assert house.ask("POST", "/login", name="e", password=WRONG).status_code == 409

        house.users.add("ada", PASSWORD, Role.ADMIN, "test", NOW)
        assert house.ask("GET", "/").status_code == 401  # from now on


def test_a_public_page_has_users_and_stays_shut_without():
    """Refused at the start without; shut, not open, when the last one goes."""
    empty = House(peopled=False)
    with pytest.raises(PublicAddressError, match="hptwin users add"):
        Server(empty.app, "0.0.0.0", 0)  # noqa: S104

    house = House()
    house.server._socket.close()
    with Server(house.app, "0.0.0.0", 0) as server:  # noqa: S104
        url = f"http://127.0.0.1:{server.port}"

        def code(path: str, host: str = f"192.0.2.1:{server.port}") -> int:
            return httpx.get(
                url + path, headers={"host": host}, trust_env=False
            ).status_code

        assert code("/api/cases") == 401
        assert code("/login") == 200
        assert code("/login", "evil.example") == 421
        for name in ("vera", "olga", "ada"):
            house.users.remove(name, "test", NOW, last=True)
        assert not house.users.any()
        assert code("/api/cases") == 401


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")
def test_with_tls_the_cookie_is_kept_from_plain_lines_and_neighbours(tmp_path: Path):
    """Secure, and under a name that no other port or domain can plant."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", cert,
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    house = House()
    house.server._socket.close()
    import ssl

    trusted = ssl.create_default_context(cafile=cert)
    with (
        Server(house.app, "127.0.0.1", 0, tls=(cert, key)) as server,
        httpx.Client(base_url=server.url, verify=trusted, trust_env=False) as client,
    ):
        page = client.get("/login")
        came = client.post(
            "/login",
            data={"name": "vera", "password": PASSWORD, "csrf": word_of(page)},
            headers={"origin": server.url},
        )
        said = came.headers["set-cookie"]
        assert said.startswith("__Host-hptwin=")
        assert "Secure" in said
        assert client.get("/api/cases").status_code == 200
