"""A newcomer without a broker gets a real one, or is told what to install."""

from __future__ import annotations

import importlib
import importlib.util

import pytest
import servers

from ingest import embedded
from ingest.broker import BrokerError, Connection, Publisher, Subscriber


def _round_trip(port: int) -> None:
    subscriber = Subscriber(Connection(port=port, client_id="s"), ["t"])
    subscriber.start()
    with Publisher(Connection(port=port, client_id="p")) as publisher:
        got: list[bytes] = []
        for _ in range(50):
            publisher.publish("t", b"x" * 50_000)
            taken = subscriber.take(timeout=0.2)
            subscriber.acknowledge(taken)
            got += [item.message.payload for item in taken]
            if got:
                break
    subscriber.stop()
    assert got
    assert got[0] == b"x" * 50_000


def test_iotcore_serves_where_it_is_installed() -> None:
    """Payloads larger than its own default included."""
    if importlib.util.find_spec("iotcore") is None:
        pytest.skip('iotcore is not installed; pip install "hptwin[demo]"')
    with embedded.broker() as port:
        _round_trip(port)
    with (
        Publisher(Connection(port=port, client_id="p")) as publisher,
        pytest.raises(BrokerError, match="no broker takes our messages"),
    ):
        publisher.publish("t", "1", timeout=0.3)


def test_mosquitto_serves_without_iotcore(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found on the PATH, or where Debian keeps it."""
    servers.program("mosquitto")
    monkeypatch.setattr(embedded, "_importable", lambda name: False)
    with embedded.broker() as port:
        _round_trip(port)


def test_neither_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that helps."""
    monkeypatch.setattr(embedded, "_importable", lambda name: False)
    monkeypatch.setattr(embedded, "mosquitto_program", lambda: None)
    with (
        pytest.raises(embedded.NoBrokerError, match=r'pip install "hptwin\[demo\]"'),
        embedded.broker(),
    ):
        pass
