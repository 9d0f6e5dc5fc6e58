"""The page behind nginx as shipped: TLS, a login, live values, and no foreign form."""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import servers

from twin.service.run import Service

CONF = servers.MOSQUITTO_CONF.with_name("hptwin.nginx.conf")
NAME = "twin.example.org"
LOGIN = "Basic " + base64.b64encode(b"ada:hush").decode()


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
    hashed = subprocess.run(
        [servers.program("openssl"), "passwd", "-6", "hush"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    (folder / "users").write_text(f"ada:{hashed}", "utf-8")
    folder.chmod(0o755)
    port = servers.free_port()
    text = CONF.read_text("utf-8")
    for ours, here in (
        ("127.0.0.1:8080", f"127.0.0.1:{service.page.port}"),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/hptwin/", f"{folder}/"),
        ("/etc/nginx/hptwin.users", f"{folder}/users"),
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


def test_nobody_comes_in_without_a_login(proxy: Proxy) -> None:
    """Nor by another name, nor to the metrics; with it, the page is there."""
    wrong = "Basic " + base64.b64encode(b"ada:hash").decode()
    assert proxy.status("/") == 401
    assert proxy.status("/", Authorization=wrong) == 401
    assert proxy.status("/metrics", Authorization=LOGIN) == 403
    with pytest.raises(ssl.SSLError):
        proxy.status("/", name="localhost", Authorization=LOGIN)
    with proxy.asked("/", Authorization=LOGIN) as answer:
        assert answer.status == 200
        assert "Example data centre" in answer.read().decode()
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_an_action_comes_from_the_page_itself_only(proxy: Proxy) -> None:
    """By its outer name it is let in, and there finds no such alarm."""
    form = {"Authorization": LOGIN, "Content-Type": "application/x-www-form-urlencoded"}
    form["body"] = "key=none&who=Ada"
    path = "/alarm/acknowledge"
    assert proxy.status(path, Origin=f"https://{NAME}", **form) == 409
    for origin in ("https://elsewhere.example", f"http://{NAME}", "null"):
        with proxy.asked(path, Origin=origin, **form) as answer:
            assert answer.status == 403
            assert b"Origin" in answer.read()


def test_live_values_are_not_held_back(proxy: Proxy) -> None:
    """The first event is through while the stream goes on."""
    with proxy.asked("/events", Authorization=LOGIN) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        lines = [answer.readline().decode() for _ in range(6)]
    assert any(line.startswith("event: values") for line in lines)
    assert any("31.5" in line for line in lines)
