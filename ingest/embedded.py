"""A broker of our own, for the demo and for a first look without one.

A real one: iotcore from PyPI, or a ``mosquitto`` found on this machine. It
listens on 127.0.0.1, on a free port, and ends with the ``with`` block. It is
no broker for a plant: ``deploy/mosquitto.conf`` is.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_STARTS_WITHIN_S = 15.0
_LARGEST_PAYLOAD = 1 << 20


class NoBrokerError(RuntimeError):
    """Neither broker can be started here; the message says what to install."""


@contextlib.contextmanager
def broker(port: int | None = None) -> Iterator[int]:
    """Run a broker on 127.0.0.1 and yield its port.

    Parameters
    ----------
    port : int, optional
        Where to listen; None takes a free one.

    Raises
    ------
    NoBrokerError
        If there is none to start, or it does not come up.
    """
    chosen = port if port is not None else free_port()
    with contextlib.ExitStack() as stack:
        if _importable("iotcore"):
            stack.enter_context(_iotcore(chosen))
        else:
            program = mosquitto_program()
            if program is None:
                raise NoBrokerError(
                    "no MQTT broker to start: neither the Python package iotcore nor "
                    'a mosquitto program is here; run pip install "hptwin[demo]", or '
                    "install mosquitto"
                )
            stack.enter_context(_mosquitto(program, chosen))
        yield chosen


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def mosquitto_program() -> str | None:
    """Return the path of a mosquitto, which Debian keeps off a user's PATH."""
    search = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin"
    return shutil.which("mosquitto", path=search)


def _importable(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


@contextlib.contextmanager
def _iotcore(port: int) -> Iterator[None]:
    from iotcore import Broker

    server = Broker(
        port=port,
        listen="127.0.0.1",
        max_payload_size=_LARGEST_PAYLOAD,
        max_inflight_count=1000,
    )
    try:
        server.start()
        _await(port, lambda: True)
        yield
    finally:
        server.stop()


@contextlib.contextmanager
def _mosquitto(program: str, port: int) -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="hptwin-broker-") as folder:
        path = Path(folder) / "mosquitto.conf"
        path.write_text(
            f"listener {port} 127.0.0.1\n"
            "allow_anonymous true\n"
            "persistence false\n"
            "max_queued_messages 0\n"
            "max_inflight_messages 1000\n"
            "log_type none\n",
            "utf-8",
        )
        process = subprocess.Popen(  # noqa: S603  a program found by us, no shell
            [program, "-c", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _await(port, lambda: process.poll() is None)
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await(port: int, alive: Callable[[], bool]) -> None:
    end = time.monotonic() + _STARTS_WITHIN_S
    while True:
        if not alive():
            raise NoBrokerError(f"the broker on port {port} ended while starting")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1.0):
                return
        except OSError as error:
            if time.monotonic() > end:
                raise NoBrokerError(
                    f"the broker on port {port} did not answer within "
                    f"{_STARTS_WITHIN_S:g} s: {error}"
                ) from error
        time.sleep(0.05)
