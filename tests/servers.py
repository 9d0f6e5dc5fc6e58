"""Real servers for the tests: started on free ports, ended by their own pid.

Each is a context manager that yields what a client needs. None of them uses
a port, a file or a process that it did not make.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

# What pip has installed beside the interpreter, then what the machine has.
_SEARCH = os.pathsep.join(
    [
        str(Path(sys.executable).parent),
        os.environ.get("PATH", os.defpath),
        "/usr/sbin:/usr/local/sbin",
        # Debian keeps these beside each other by version; the newest goes first.
        *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True),
    ]
)


def program(name: str) -> str:
    """Return the path of a server; skip without it, but fail where CI is set."""
    found = shutil.which(name, path=_SEARCH)
    if found is None:
        reason = f"{name} is not installed here; install it to run this"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}, and in CI no server-backed test may skip")
        pytest.skip(reason)
    return found


def until_true(condition: Callable[[], object], seconds: float = 60.0) -> bool:
    """Wait for what must come, and say whether it has."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@contextlib.contextmanager
def http(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Answer by HTTP in a thread; yield host and port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """One server process of ours, and how to start it again.

    ``ending`` is the signal that ends it; ``asked`` a command that succeeds once
    it serves, where an open port is not enough.
    """

    command: list[str]
    port: int
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    ending: int = signal.SIGTERM
    asked: Sequence[str] = ()

    def start(self) -> None:
        """Start it and wait until its port answers."""
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        end = time.monotonic() + 30
        while True:
            if self.process.poll() is not None:
                text = (self.folder / "server.log").read_text("utf-8", "replace")
                raise RuntimeError(f"{self.command[0]} ended at once:\n{text[-2000:]}")
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
                if (
                    not self.asked
                    or not subprocess.run(
                        self.asked, capture_output=True, check=False
                    ).returncode
                ):
                    return
            if time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"{self.command[0]} does not answer")
            time.sleep(0.05)

    def stop(self, number: int | None = None) -> None:
        """End it, by its own pid."""
        if self.process is None:
            return
        self.process.send_signal(self.ending if number is None else number)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


@contextlib.contextmanager
def _running(server: Server) -> Iterator[Server]:
    server.start()
    try:
        yield server
    finally:
        server.stop()


MOSQUITTO_CONF = Path(__file__).resolve().parents[1] / "deploy" / "mosquitto.conf"


@contextlib.contextmanager
def mosquitto(folder: Path, extra: str = "") -> Iterator[Server]:
    """Run a mosquitto with the queue and persistence settings we ship."""
    port = free_port()
    shipped = [
        line
        for line in MOSQUITTO_CONF.read_text("utf-8").splitlines()
        if line.startswith(("max_", "autosave", "queue_", "persistent_client"))
    ]
    conf = folder / "mosquitto.conf"
    conf.write_text(
        "\n".join(
            [
                f"listener {port} 127.0.0.1",
                "allow_anonymous true",
                "persistence true",
                f"persistence_location {folder}/",
                "user root",
                *shipped,
                extra,
                "",
            ]
        ),
        "utf-8",
    )
    with _running(Server([program("mosquitto"), "-c", str(conf)], port, folder)) as it:
        yield it


@dataclass
class Influx:
    """An influxd behind nginx; ``url`` is the nginx, ``server`` the influxd."""

    url: str
    server: Server


_INFLUXD_CONF = """reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  query-log-enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  log-enabled = false
  auth-enabled = {auth}
[monitor]
  store-enabled = false
"""

INFLUXDB_1_CONF = MOSQUITTO_CONF.with_name("influxdb-1.nginx.conf")

_NGINX_CONF = """daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  {shipped}
}}
"""


@contextlib.contextmanager
def influxd(folder: Path, password: str = "") -> Iterator[Influx]:
    """Run an influxd 1.x, and an nginx that gives it the path of 2.x.

    With a password it asks for it, and for the name ``hptwin``.
    """
    behind, rpc, port = free_port(), free_port(), free_port()
    conf = folder / "influxd.conf"
    conf.write_text(
        _INFLUXD_CONF.format(
            folder=folder,
            port=behind,
            rpc=rpc,
            auth="true" if password else "false",
        ),
        "utf-8",
    )
    proxy = folder / "nginx.conf"
    shipped = INFLUXDB_1_CONF.read_text("utf-8")
    for ours, theirs in (("127.0.0.1:8087", port), ("127.0.0.1:8086", behind)):
        assert ours in shipped
        shipped = shipped.replace(ours, f"127.0.0.1:{theirs}")
    proxy.write_text(_NGINX_CONF.format(folder=folder, shipped=shipped), "utf-8")
    database = Server([program("influxd"), "-config", str(conf)], behind, folder)
    front = Server(
        [program("nginx"), "-c", str(proxy), "-e", str(folder / "early.log")],
        port,
        folder,
    )
    with _running(database), _running(front):
        url = f"http://127.0.0.1:{port}"
        end = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{url}/ping", timeout=2).close()  # noqa: S310
                break
            if time.monotonic() > end:
                raise RuntimeError("influxd does not answer through nginx")
            time.sleep(0.05)
        if password:
            # The first user is made without any, as its documentation has it.
            first = urllib.parse.urlencode(
                {
                    "q": f"CREATE USER hptwin WITH PASSWORD '{password}' "
                    "WITH ALL PRIVILEGES"
                }
            )
            urllib.request.urlopen(  # noqa: S310
                f"{url}/query", data=first.encode(), timeout=10
            ).close()
        yield Influx(url, database)


@dataclass
class Postgres:
    """A PostgreSQL of ours, whose only user is ``hptwin`` with a password."""

    server: Server
    password: str

    @property
    def url(self) -> str:
        """Where it is, as ``[state] url`` names it: without the password."""
        return f"postgresql://hptwin@127.0.0.1:{self.server.port}/postgres"

    def run(self, statement: str) -> str:
        """Return what psql prints of a statement."""
        done = subprocess.run(
            [
                program("psql"),
                "-XqAt",
                "-v",
                "ON_ERROR_STOP=1",
                "-c",
                statement,
                self.url,
            ],
            env={**os.environ, "PGPASSWORD": self.password},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a PostgreSQL that asks for a password; all of it is gone afterwards.

    It refuses to be root, so there it is the user ``postgres`` of Debian's
    package, in a folder that this user can reach.
    """
    make, serve = program("initdb"), program("postgres")
    port, password = free_port(), "a word of the tests"
    with tempfile.TemporaryDirectory(prefix="hptwin-postgres-") as name:
        folder, data = Path(name), Path(name) / "data"
        secret = folder / "password"
        secret.write_text(password, "utf-8")
        become: list[str] = []
        if os.geteuid() == 0:
            become = [program("setpriv"), "--reuid=postgres", "--regid=postgres"]
            become += ["--clear-groups"]
            for path in (folder, secret):
                shutil.chown(path, "postgres", "postgres")
        made = [*become, make, "-D", str(data), "-U", "hptwin", "-A", "scram-sha-256"]
        made += [f"--pwfile={secret}", "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run(made, check=True, capture_output=True, cwd=folder)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "fsync": "off",  # it need not outlive this machine
            "log_min_messages": "fatal",
        }
        command = [*become, serve, "-D", str(data)]
        for key, value in settings.items():
            command += ["-c", f"{key}={value}"]
        # SIGTERM would wait until every client has gone.
        server = Server(
            command,
            port,
            folder,
            ending=signal.SIGINT,
            asked=[program("pg_isready"), "-h", "127.0.0.1", "-p", str(port)],
        )
        with _running(server):
            yield Postgres(server, password)


def certificate(
    folder: Path,
    stem: str,
    signer: str | None = None,
    *,
    name: str = "IP:127.0.0.1",
    days: int = 2,
) -> None:
    """Make a key and a certificate for ``name``; signed by itself without a signer.

    With negative days it has expired.
    """
    openssl = program("openssl")
    certificate, request = str(folder / f"{stem}.crt"), str(folder / f"{stem}.csr")
    made = [openssl, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    made += ["-nodes", "-keyout", str(folder / f"{stem}.key"), "-subj", f"/CN={stem}"]
    made += ["-addext", f"subjectAltName={name}"]
    if signer is None:
        own = [*made, "-x509", "-days", str(days), "-out", certificate]
        subprocess.run(own, check=True, capture_output=True)
        return
    subprocess.run([*made, "-out", request], check=True, capture_output=True)
    sign = [openssl, "x509", "-req", "-in", request, "-days", str(days)]
    sign += ["-CA", str(folder / f"{signer}.crt"), "-CAcreateserial"]
    sign += ["-CAkey", str(folder / f"{signer}.key"), "-out", certificate]
    sign += ["-copy_extensions", "copyall"]
    subprocess.run(sign, check=True, capture_output=True)


@contextlib.contextmanager
def alertmanager(folder: Path) -> Iterator[Server]:
    """Run an Alertmanager that keeps what it is told and passes it on to nobody."""
    conf = folder / "alertmanager.yml"
    conf.write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n", "utf-8")
    port = free_port()
    command = [
        program("prometheus-alertmanager"),
        f"--config.file={conf}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with _running(Server(command, port, folder)) as server:
        yield server
