"""The page behind nginx as shipped: TLS, a login, live values, and no foreign form."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlencode

import pytest
import servers

from twin.service.run import Service
from twin.service.users import Role, Users

CONF = servers.MOSQUITTO_CONF.with_name("hptwin.nginx.conf")
NAME = "twin.example.org"
PASSWORD = "a password of the tests"  # noqa: S105


@dataclass(frozen=True)
class Proxy:
    """nginx, and a way in."""

    port: int
    authority: Path

    @contextlib.contextmanager
    def asked(
        self, path: str, *, name: str = NAME, body: str | None = None, **headers: str
    ) -> Iterator[http.client.HTTPResponse]:
        """Ask by a name, and read what you like of the answer."""
        secure = ssl.create_default_context(cafile=str(self.authority))
        line = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20)
        plain = socket.create_connection(("127.0.0.1", self.port), 20)
        with contextlib.closing(line), contextlib.closing(plain):
            line.sock = secure.wrap_socket(plain, server_hostname=name)
            method = "GET" if body is None else "POST"
            line.request(method, path, body, {"Host": name, **headers})
            with line.getresponse() as answer:
                yield answer

    def status(self, path: str, **more: str) -> int:
        """Return only the number of the answer."""
        with self.asked(path, **more) as answer:
            return answer.status


@pytest.fixture(scope="module")
def proxy(
    service: Service, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """Run nginx with the shipped file; only ports and paths are others."""
    folder = tmp_path_factory.mktemp("proxy")
    servers.certificate(folder, "ca")
    servers.certificate(folder, "server", "ca", name=f"DNS:{NAME}")
    port = servers.free_port()
    text = CONF.read_text("utf-8")
    for ours, here in (
        ("127.0.0.1:8080", f"127.0.0.1:{service.page.port}"),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/hptwin/", f"{folder}/"),
    ):
        assert ours in text
        text = text.replace(ours, here)
    paths = "\n".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    conf = folder / "nginx.conf"
    conf.write_text(
        f"daemon off; user root; pid {folder}/pid; error_log {folder}/error.log;\n"
        "events { worker_connections 64; }\n"
        f"http {{ access_log off; {paths}\n{text}\n}}\n",
        "utf-8",
    )
    command = [servers.program("nginx"), "-c", str(conf), "-e", str(folder / "early")]
    done = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr
    server = servers.Server(command, port, folder)
    server.start()
    yield Proxy(port, folder / "ca.crt")
    server.stop()


class _Form(HTMLParser):
    """The hidden fields of a page's form."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take one in."""
        given = {name: value or "" for name, value in attrs}
        if tag == "input" and given.get("type") == "hidden":
            self.fields[given["name"]] = given["value"]


FORM = "application/x-www-form-urlencoded"
OWN = f"https://{NAME}"


@pytest.fixture(scope="module")
def session(proxy: Proxy) -> str:
    """Log in by the page's own form; return the cookie."""
    with proxy.asked("/login") as answer:
        cookie = answer.headers["Set-Cookie"]
        fields = _Form(answer.read().decode()).fields
    sent = urlencode({**fields, "name": "ada", "password": PASSWORD})
    held = cookie.partition(";")[0]
    more = {"Content-Type": FORM, "Origin": OWN, "Cookie": held}
    with proxy.asked("/login", body=sent, **more) as answer:
        assert answer.status == 303
        cookie = answer.headers["Set-Cookie"]
    # One that only travels encrypted, and that no neighbour can plant.
    assert cookie.startswith("__Host-hptwin=")
    assert "Secure" in cookie
    return str(cookie.partition(";")[0])


def test_nobody_comes_in_without_a_login(proxy: Proxy, session: str) -> None:
    """Nor by another name; and who comes by the proxy is not of this machine."""
    for path in ("/", "/metrics", "/readyz", "/api/cases"):
        assert proxy.status(path) == 401
        # What a client says of itself does not make it one of this machine.
        assert proxy.status(path, **{"X-Forwarded-For": "127.0.0.1"}) == 401
    assert proxy.status("/healthz") == 200
    with pytest.raises(ssl.SSLError):
        proxy.status("/", name="localhost", Cookie=session)
    with proxy.asked("/", Cookie=session) as answer:
        assert answer.status == 200
        assert "Example data centre" in answer.read().decode()
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_a_program_comes_in_by_its_token(proxy: Proxy, service: Service) -> None:
    """As Prometheus does from another machine, and no longer once it is revoked."""
    now = datetime.now(UTC)
    users = Users(service.state)
    token = users.issue("afar", Role.VIEWER, 1, "tests", now)
    assert proxy.status("/metrics", Authorization=f"Bearer {token}") == 200
    assert proxy.status("/metrics", Authorization=f"Bearer {token}x") == 401
    users.revoke("afar", "tests", now)
    assert proxy.status("/metrics", Authorization=f"Bearer {token}") == 401


def test_an_action_comes_from_the_page_itself_only(proxy: Proxy, session: str) -> None:
    """By its outer name, with its word, it is let in, and finds no such alarm."""
    with proxy.asked("/alarms", Cookie=session) as answer:
        word = _Form(answer.read().decode()).fields["csrf"]
    form = {"Cookie": session, "Content-Type": FORM}
    path = "/alarm/acknowledge"
    sent = urlencode({"key": "none", "who": "Ada", "csrf": word})
    assert proxy.status(path, body=sent, Origin=OWN, **form) == 409
    for origin in ("https://elsewhere.example", "null"):
        with proxy.asked(path, body=sent, Origin=origin, **form) as answer:
            assert answer.status == 403
            assert b"Origin" in answer.read()


def test_live_values_are_not_held_back(proxy: Proxy, session: str) -> None:
    """A value is through while the stream goes on, whatever event came before."""
    with proxy.asked("/events", Cookie=session) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        for line in answer:
            if line.startswith(b"event: values"):
                break
        answer.readline()  # its number
        assert b"31.5" in answer.readline()
