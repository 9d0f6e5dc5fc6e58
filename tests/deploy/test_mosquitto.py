"""The broker's configuration as it is shipped: nothing lost, nobody let in.

A real mosquitto runs these very files; only paths and ports are others.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import servers

from ingest.broker import BrokerError, Connection, Publisher, Subscriber

QUEUED = 5000
SECRET = "hush"  # noqa: S105  of a broker that lives for one test


def until(true: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.02)


@dataclass(frozen=True)
class Shipped:
    """The broker, and how it is reached."""

    server: servers.Server
    tls_port: int
    keys: Path

    def local(self, name: str, client_id: str = "") -> Connection:
        """Return the way in from the machine itself, in MQTT 5, which says no."""
        return Connection(
            port=self.server.port,
            client_id=client_id or name,
            username=name,
            password=SECRET,
            protocol="5",
        )

    def remote(self, name: str) -> Connection:
        """Return the way in from the network."""
        return replace(
            self.local(name, f"{name}-far"),
            port=self.tls_port,
            ca_file=self.keys / "ca.crt",
            cert_file=self.keys / "client.crt",
            key_file=self.keys / "client.key",
        )


@pytest.fixture
def shipped(tmp_path: Path) -> Iterator[Shipped]:
    """Run a mosquitto with the files of deploy/."""
    for stem, signer in (("ca", None), ("server", "ca"), ("client", "ca")):
        servers.certificate(tmp_path, stem, signer)
    passwords, rules = tmp_path / "hptwin.passwd", tmp_path / "hptwin.acl"
    passwords.touch()
    tool = servers.program("mosquitto_passwd")
    for name in ("hptwin", "gateway1", "gateway2"):
        command = [tool, "-b", str(passwords), name, SECRET]
        subprocess.run(command, check=True, capture_output=True)
    rules.write_bytes(servers.MOSQUITTO_CONF.with_suffix(".acl").read_bytes())
    near, far = servers.free_port(), servers.free_port()
    (tmp_path / "data").mkdir()
    text = servers.MOSQUITTO_CONF.read_text("utf-8")
    for ours, here in (
        ("listener 1883 ", f"listener {near} "),
        ("listener 8883\n", f"listener {far} 127.0.0.1\n"),
        ("password_file /etc/mosquitto/hptwin.passwd", f"password_file {passwords}"),
        ("acl_file /etc/mosquitto/hptwin.acl", f"acl_file {rules}"),
        ("file /etc/mosquitto/certs/", f"file {tmp_path}/"),
        ("/var/lib/mosquitto/", f"{tmp_path}/data/"),
    ):
        assert ours in text
        text = text.replace(ours, here)
    conf = tmp_path / "mosquitto.conf"
    conf.write_text(f"{text}\nuser root\n", "utf-8")
    command = [servers.program("mosquitto"), "-c", str(conf)]
    server = servers.Server(command, near, tmp_path)
    server.start()
    try:
        yield Shipped(server, far, tmp_path)
    finally:
        server.stop()


def test_each_may_write_its_own_branch_only(shipped: Shipped) -> None:
    """And hptwin none of the plant's: it is read-only by the broker's word."""
    allowed = {
        "gateway1": ["plant/gateway1/hp1"],
        "hptwin": ["hptwin/alarms", "spBv1.0/dc/NCMD/gateway1"],
    }
    denied = {
        "gateway1": ["plant/gateway2/hp1", "hptwin/alarms", "elsewhere"],
        "hptwin": ["plant/gateway1/hp1", "plant/set", "spBv1.0/dc/DCMD/gateway1/hp1"],
    }
    for name, topics in allowed.items():
        with Publisher(shipped.local(name)) as publisher:
            publisher.publish_all((topic, "1") for topic in topics)
    for name, topics in denied.items():
        with Publisher(shipped.local(name)) as publisher:
            for topic in topics:
                with pytest.raises(BrokerError, match=f"let {name} write '{topic}'"):
                    publisher.publish(topic, "1")


def test_hptwin_reads_the_plant_and_a_gateway_does_not(shipped: Shipped) -> None:
    """What a gateway publishes arrives at the one, and not at the other."""
    topic = "plant/gateway1/hp1"
    service = Subscriber(shipped.local("hptwin"), [topic, "spBv1.0/dc/NBIRTH/gw"])
    neighbour = Subscriber(shipped.local("gateway2"), [topic])
    for one in (service, neighbour):
        one.start()
    until(lambda: service.status().subscribed and neighbour.status().subscribed)
    with Publisher(shipped.local("gateway1")) as publisher:
        publisher.publish(topic, "47.3")
    [delivery] = service.take(timeout=5.0)
    assert delivery.message.payload == b"47.3"
    assert neighbour.take(timeout=0.3) == []
    assert service.status().refused == ()
    for one in (service, neighbour):
        one.stop()


# The client library leaves the socket of a failed handshake to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_network_needs_certificate_and_password(shipped: Shipped) -> None:
    """Neither is enough, and without TLS there is no way in at all."""
    gateway = shipped.remote("gateway1")
    with Publisher(gateway) as publisher:
        publisher.publish("plant/gateway1/hp1", "1")
    for wrong, sentence in (
        (replace(gateway, password="hash"), "username and password"),  # noqa: S106
        (replace(gateway, cert_file=None, key_file=None), "client certificate"),
        (replace(shipped.local("gateway1"), port=shipped.tls_port), "no broker takes"),
    ):
        with (
            Publisher(wrong) as publisher,
            pytest.raises(BrokerError, match=sentence),
        ):
            publisher.publish("plant/gateway1/hp1", "1", timeout=1.0)


def _away_and_back(
    who: Connection, gateway: Connection, between: Callable[[], None]
) -> int:
    """Publish while the service is away; return how many messages it then gets."""
    topic = "plant/gateway1/hp1"
    service = Subscriber(who, [topic])
    service.start()
    until(lambda: service.status().subscribed)
    service.stop()
    with Publisher(gateway) as publisher:
        number = publisher.publish_all((topic, str(i)) for i in range(QUEUED))
    assert number == QUEUED
    between()
    service.start()
    found: set[bytes] = set()
    quiet = 0
    while len(found) < QUEUED and quiet < 4:
        some = service.take(timeout=0.5)
        service.acknowledge(some)
        found |= {item.message.payload for item in some}
        quiet = 0 if some else quiet + 1
    service.stop()
    return len(found)


def test_an_absent_service_gets_all_of_it_over_a_restart(shipped: Shipped) -> None:
    """Five thousand messages wait for it, on the disk."""

    def restart() -> None:
        shipped.server.stop()
        shipped.server.start()

    service, gateway = shipped.local("hptwin"), shipped.local("gateway1")
    assert _away_and_back(service, gateway, restart) == QUEUED


def test_with_the_defaults_some_are_lost(tmp_path: Path) -> None:
    """The control: each one was acknowledged to the gateway all the same."""
    port, conf = servers.free_port(), tmp_path / "mosquitto.conf"
    conf.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n")
    command = [servers.program("mosquitto"), "-c", str(conf)]
    server = servers.Server(command, port, tmp_path)
    server.start()
    try:
        service = Connection(port=port, client_id="hptwin")
        gateway = replace(service, client_id="gateway1")
        assert 0 < _away_and_back(service, gateway, lambda: None) < QUEUED
    finally:
        server.stop()
