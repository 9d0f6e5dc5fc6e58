"""InfluxDB 2.x and 3 Core as they are documented, and servers that misbehave.

Neither can be installed here, so what they are asked and what they answer is
written down in ``exchanges/*.http`` after their documentation, and played by
a real HTTP server: each request must come as written, byte for byte.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import servers

from ingest.archive import ArchiveUnavailableError
from ingest.archive.influx import InfluxArchive
from ingest.reading import Reading

T0 = datetime(2024, 2, 28, 22, tzinfo=UTC)
T0_MS = int(T0.timestamp() * 1000)
EXCHANGES = Path(__file__).with_name("exchanges")
TEMP, POWER = "source_inlet_temp_degc", "compressor_power_w"


@dataclass
class Played:
    """A server that answers as it is told, and what it was asked."""

    url: str = ""
    asked: list[str] = field(default_factory=list)


@contextmanager
def played(answer: Any) -> Iterator[Played]:
    """Serve ``answer(request text) -> (status, headers, body)``, None hangs up."""
    seen = Played()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        disable_nagle_algorithm = True

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            lines = [f"{self.command} {self.path}"]
            lines += [
                f"{name}: {self.headers[name]}"
                for name in ("Authorization", "Accept", "Content-Type")
                if name in self.headers
            ]
            text = "\n".join([*lines, *(["", body.decode()] if body else [])])
            seen.asked.append(text)
            given = answer(text)
            if given is None:
                # A reset, as of a server that was killed.
                self.connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
                )
                self.close_connection = True
                self.connection.close()
                return
            status, headers, content = given
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _any  # noqa: N815  the names are http.server's

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    seen.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def exchanges(name: str) -> list[tuple[str, tuple[int, list[Any], bytes]]]:
    """Return the requests of a record with their answers."""
    found = []
    text = (EXCHANGES / f"{name}.http").read_text("utf-8")
    for part in text.split("\n###")[1:]:
        request, _, response = part.partition("\n\n<<<")[0:3]
        request = request.split("\n", 1)[1]
        head, _, body = response.strip("\n").partition("\n\n")
        status, *headers = head.strip().split("\n")
        pairs = [tuple(line.split(": ", 1)) for line in headers]
        answer = (int(status.split()[0]), pairs, body.encode())
        found.append((request.strip("\n"), answer))
    return found


@contextmanager
def recorded(name: str) -> Iterator[Played]:
    """Play a record: requests in its order, and no other."""
    script = iter(exchanges(name))

    def answer(text: str) -> tuple[int, list[Any], bytes]:
        expected, response = next(script, ("nothing more", (500, [], b"")))
        if text != expected:
            problems.append(f"asked:\n{text}\nrecorded:\n{expected}")
            return (500, [], b"not as recorded")
        return response

    problems: list[str] = []
    with played(answer) as server:
        yield server
    assert not problems, "\n\n".join(problems)
    assert next(script, None) is None, "not everything recorded was asked"


def opened(url: str, **more: Any) -> InfluxArchive:
    """Open the archive as the records have it."""
    settings = {"database": "hptwin", "org": "plant", "token": "T0ken"} | more
    return InfluxArchive(url, **settings)


READINGS = [
    Reading("cdu 1", TEMP, T0_MS, 7.25),
    Reading("cdu 1", POWER, T0_MS, 498.0),
    Reading("cdu 1", TEMP, T0_MS + 60_000, 7.5),
    Reading("hp1", POWER, T0_MS, 1e-05, "range"),
]


@pytest.mark.parametrize("name", ["v2", "v3"])
def test_what_was_written_is_asked_for_again_as_documented(name: str) -> None:
    """Write with a token, then read the frame back from the documented CSV."""
    with recorded(name) as server:
        archive = opened(server.url)
        assert archive.write(READINGS) == []
        frame = archive.frame("cdu 1", T0, T0 + timedelta(hours=1))
        archive.close()

    assert list(frame.columns) == [TEMP, POWER]
    assert frame[TEMP].tolist() == [7.25, 7.5]
    assert frame[POWER].iloc[0] == 498.0
    assert frame[POWER].isna().tolist() == [False, True]


def test_another_request_than_recorded_is_noticed() -> None:
    """The control: one wrong letter in the token, and the record says so."""
    with ExitStack() as stack:
        server = stack.enter_context(recorded("v2-unauthorized"))
        archive = opened(server.url, token="T1ken")  # noqa: S106
        with pytest.raises(ArchiveUnavailableError):
            archive.write(READINGS)
        archive.close()
        with pytest.raises(AssertionError, match="Token T1ken"):
            stack.close()


@pytest.mark.parametrize("name", ["v2-conflict", "v3-conflict"])
def test_one_field_is_refused_and_the_rest_is_taken(name: str) -> None:
    """The server names the field; nothing else has to be searched for."""
    with recorded(name) as server:
        archive = opened(server.url)
        refused = archive.write(READINGS)
        archive.close()

    assert [item.place for item in refused] == [1, 3]
    assert all("type" in item.reason for item in refused)


def test_what_is_older_than_the_retention_is_refused_at_once() -> None:
    """The server says how many it dropped: all, so none is asked for again."""
    with recorded("v2-retention") as server:
        archive = opened(server.url)
        refused = archive.write(READINGS[:3])
        archive.close()

    assert [item.place for item in refused] == [0, 1, 2]
    assert all("retention" in item.reason for item in refused)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("v2-unauthorized", "401 unauthorized access; are token"),
        ("v2-no-bucket", 'bucket "hptwin" not found; does the bucket exist'),
        ("v2-busy", "429 "),
        ("v2-unavailable", "503 "),
        ("v3-unauthorized", "401 "),
    ],
)
def test_what_may_be_mended_is_no_refusal(name: str, text: str) -> None:
    """A wrong token or a full server costs no reading: each is to be kept."""
    begin = time.monotonic()
    with recorded(name) as server:
        archive = opened(server.url)
        with pytest.raises(ArchiveUnavailableError) as error:
            archive.write(READINGS)
        archive.close()
    assert text in str(error.value)
    assert "T0ken" not in str(error.value)
    # Retry-After of an hour is for the one who tries again, not for a sleep.
    assert time.monotonic() - begin < 60


def test_too_long_a_body_is_sent_in_halves() -> None:
    """413 is about the request, not about what is in it."""

    def answer(text: str) -> tuple[int, list[Any], bytes]:
        if text.startswith("GET /ping"):
            return 204, [("X-Influxdb-Version", "v2.7.11")], b""
        if text.startswith("GET"):
            return 200, [], b'{"results":[{"statement_id":0}]}'
        if len(text) > 400:
            return 413, [], b'{"code":"request too large","message":"too large"}'
        return 204, [], b""

    with played(answer) as server:
        archive = opened(server.url)
        refused = archive.write(
            [Reading("hp1", TEMP, T0_MS + n, 7.25) for n in range(40)]
        )
        archive.close()
    assert refused == []
    taken = [text for text in server.asked if "POST" in text and len(text) <= 400]
    stamps = {line.split()[-1] for text in taken for line in text.split("\n")[5:]}
    assert stamps == {str(T0_MS + n) for n in range(40)}


def test_a_server_that_refuses_everything_is_not_stormed() -> None:
    """It is asked so often and no more; what it was asked to take is kept."""

    def answer(text: str) -> tuple[int, list[Any], bytes]:
        if text.startswith("GET /ping"):
            return 204, [("X-Influxdb-Version", "v2.7.11")], b""
        if text.startswith("GET"):
            return 200, [], b'{"results":[{"statement_id":0}]}'
        return 400, [], b'{"code":"invalid","message":"no"}'

    many = [Reading("hp1", TEMP, T0_MS + n, 7.25) for n in range(3000)]
    with played(answer) as server:
        archive = opened(server.url)
        with pytest.raises(ArchiveUnavailableError, match="refuses too much at once"):
            archive.write(many)
        archive.close()
    assert 100 < len(server.asked) < 500


@pytest.mark.parametrize("when", ["ping", "query", "write"])
@pytest.mark.parametrize("how", ["resets", "hangs"])
def test_a_server_that_resets_or_hangs_costs_its_timeout(when: str, how: str) -> None:
    """Wherever it does: an error that says try again, one request, no loss."""
    ended = threading.Event()

    def answer(text: str) -> tuple[int, list[Any], bytes] | None:
        step = next(name for name in ("ping", "query", "write") if name in text)
        if step == when:
            if how == "resets":
                return None
            ended.wait(20)
        if step == "ping":
            return 204, [("X-Influxdb-Version", "v2.7.11")], b""
        return 200, [], b'{"results":[{"statement_id":0}]}'

    with played(answer) as server:
        archive = opened(server.url, timeout_s=0.3)
        with pytest.raises(ArchiveUnavailableError, match="does not answer"):
            archive.write(READINGS)
        archive.close()
        ended.set()
    assert sum(when in text for text in server.asked) == 1


def test_influxd_with_passwords_takes_basic_and_no_token(tmp_path: Path) -> None:
    """A real 1.6: name and password work, ``Token user:pass`` is for 1.8 on."""
    with servers.influxd(tmp_path, password="s3cret") as server:  # noqa: S106
        settings: dict[str, Any] = {"database": "auth"}
        mine = InfluxArchive(
            server.url,
            username="hptwin",
            password="s3cret",  # noqa: S106
            **settings,
        )
        assert mine.write(READINGS) == []
        assert mine.units() == ["cdu 1", "hp1"]
        mine.close()
        for wrong in (
            {"username": "hptwin", "password": "guess"},
            {"token": "hptwin:s3cret"},
            {},
        ):
            other = InfluxArchive(server.url, **settings, **wrong)
            with pytest.raises(ArchiveUnavailableError, match=r"401.*are token, or"):
                other.write(READINGS)
            other.close()


@pytest.mark.parametrize(
    ("version", "known", "writing", "text"),
    [
        ("v2.1.1", False, 204, "influx v1 dbrp create"),
        ("v2.7.11", False, 204, 'make the bucket "hptwin"'),
        ("3.9.6", False, 204, "influxdb3 create database hptwin"),
        ("v2.7.11", True, 403, "nothing can be written: .* 403"),
        ("v2.7.11", True, 404, "nothing can be written: .* does the bucket exist"),
        ("v2.7.11", True, 400, ""),
        ("3.9.6", True, 204, ""),
    ],
)
def test_it_is_said_what_a_server_lacks(
    version: str, known: bool, writing: int, text: str
) -> None:
    """By its version, and by a request to write nothing; no point is sent."""

    def answer(request: str) -> tuple[int, list[Any], bytes]:
        if request.startswith("GET /ping"):
            return 204, [("X-Influxdb-Version", version)], b""
        if request.startswith("GET"):
            if known:
                return 200, [], b'{"results":[{"statement_id":0}]}'
            return 200, [], b'{"results":[{"error":"database not found: hptwin"}]}'
        assert "\n\n" not in request, "there is a body"
        return writing, [], b'{"code":"x","message":"as told"}'

    with played(answer) as server:
        archive = opened(server.url)
        found = archive.inspect()
        archive.close()
    assert found.version == version.removeprefix("v")
    if not text:
        assert found.problems == ()
    else:
        assert re.search(text, found.problems[0])
