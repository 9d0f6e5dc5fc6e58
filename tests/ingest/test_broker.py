"""A message is acknowledged when its owner has it, on the connection it came by."""

from __future__ import annotations

import gc
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import servers

from ingest.broker import BrokerError, Connection, Delivery, Publisher, Subscriber


def until(true: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.02)


def gather(subscriber: Subscriber, number: int) -> list[Delivery]:
    """Take messages without acknowledging them."""
    found: list[Delivery] = []
    until(lambda: len(found.extend(subscriber.take(timeout=0.1)) or found) >= number)  # type: ignore[func-returns-value]
    return found


@pytest.fixture
def subscriber(mosquitto: servers.Server) -> Iterator[Subscriber]:
    """Return a subscriber to the topic ``t``, connected."""
    made = Subscriber(Connection(port=mosquitto.port, client_id="s"), ["t"])
    made.start()
    until(lambda: made.status().connected)
    yield made
    made.stop()


@pytest.fixture
def publisher(mosquitto: servers.Server) -> Iterator[Publisher]:
    """Return somebody who publishes."""
    with Publisher(Connection(port=mosquitto.port, client_id="p")) as made:
        yield made


def numbers(deliveries: list[Delivery]) -> list[int]:
    """Return what the payloads count."""
    return [int(item.message.payload) for item in deliveries]


def test_messages_arrive_in_order(subscriber: Subscriber, publisher: Publisher) -> None:
    """And a publisher knows that the broker has all of them."""
    assert publisher.publish_all(("t", str(i)) for i in range(3000)) == 3000
    found: list[Delivery] = []
    while len(found) < 3000:
        some = gather(subscriber, 1)
        assert subscriber.acknowledge(some) == len(some)
        found += some

    assert numbers(found) == list(range(3000))


def test_what_is_not_acknowledged_comes_again(
    subscriber: Subscriber, publisher: Publisher
) -> None:
    """All of it and nothing else, in its order."""
    publisher.publish_all(("t", str(i)) for i in range(100))
    found = gather(subscriber, 100)
    subscriber.acknowledge(found[:60])
    # The acknowledgements must be out before the connection goes.
    time.sleep(0.3)
    subscriber.stop()
    subscriber.start()

    assert numbers(gather(subscriber, 40)) == list(range(60, 100))


def test_an_acknowledgement_of_an_earlier_connection_is_not_sent(
    subscriber: Subscriber, publisher: Publisher
) -> None:
    """The broker numbers anew, so it would acknowledge a message unseen."""
    publisher.publish_all(("t", str(i)) for i in range(10))
    old = gather(subscriber, 10)
    subscriber.stop()
    subscriber.start()
    until(lambda: subscriber.status().connected)

    assert subscriber.acknowledge(old) == 0
    assert numbers(gather(subscriber, 10)) == list(range(10))


def test_the_broker_may_go_and_come_back(
    mosquitto: servers.Server, subscriber: Subscriber, publisher: Publisher
) -> None:
    """What it had queued for us survives, and so does the subscription."""
    publisher.publish_all(("t", str(i)) for i in range(5))
    subscriber.acknowledge(gather(subscriber, 5))
    mosquitto.stop()
    until(lambda: not subscriber.status().connected)
    assert subscriber.status().problem
    mosquitto.start()
    until(lambda: subscriber.status().connected)
    publisher.publish_all(("t", str(i)) for i in range(5, 10))
    found: list[int] = []
    until(lambda: found.extend(numbers(subscriber.take(timeout=0.1))) or 9 in found)  # type: ignore[func-returns-value]

    # An acknowledgement may die with the connection, so earlier ones may come
    # once more; the new ones are all there, behind them, in order.
    assert found[-5:] == list(range(5, 10))
    assert subscriber.status().problem == ""


def test_memory_is_bounded_and_what_was_let_go_is_fetched_again(
    mosquitto: servers.Server, publisher: Publisher
) -> None:
    """A reader that does not keep up costs no memory and no message."""
    subscriber = Subscriber(
        Connection(port=mosquitto.port, client_id="slow"), ["t"], limit_bytes=20_000
    )
    subscriber.start()
    until(lambda: subscriber.status().connected)
    publisher.publish_all(("t", str(i)) for i in range(300))
    until(lambda: subscriber.status().overflows > 0)
    assert subscriber.status().waiting <= 50
    found: list[int] = []
    end = time.monotonic() + 30
    while len(set(found)) < 300 and time.monotonic() < end:
        some = subscriber.take(timeout=0.2, messages=10)
        subscriber.acknowledge(some)
        found += numbers(some)
    subscriber.stop()

    assert sorted(set(found)) == list(range(300))


def test_an_exception_in_a_callback_ends_nothing(
    mosquitto: servers.Server, publisher: Publisher
) -> None:
    """It is counted; without the guard the thread would end in silence."""
    calls = 0

    def clock() -> int:
        nonlocal calls
        calls += 1
        if calls == 14 and threading.current_thread().name.startswith("paho"):
            raise RuntimeError("poison")
        return 0

    subscriber = Subscriber(
        Connection(port=mosquitto.port, client_id="s"), ["t"], clock=clock
    )
    subscriber.start()
    while not subscriber._connected:
        time.sleep(0.01)
    calls = 0
    publisher.publish_all(("t", str(i)) for i in range(20))
    found = numbers(gather(subscriber, 19))

    assert found == [i for i in range(20) if i != 13]
    assert subscriber.status().callback_errors == 1
    assert subscriber.status().thread_alive
    subscriber.stop()


def test_a_thread_that_ended_is_started_again(
    subscriber: Subscriber, publisher: Publisher
) -> None:
    """The library still says that it is connected; taking brings it back."""
    assert subscriber._client is not None
    subscriber._client._thread_terminate = True
    subscriber._client.disconnect()
    until(lambda: not subscriber.status().thread_alive)
    assert subscriber.take(timeout=0.0) == []
    assert subscriber.status().revivals == 1
    until(lambda: subscriber.status().connected)
    publisher.publish("t", "1")

    assert numbers(gather(subscriber, 1)) == [1]


def test_plain_text_does_not_leave_the_machine_unasked() -> None:
    """Refused before a connection is made, with both ways out."""
    for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9"):
        Connection(host=host).check()
    with pytest.raises(BrokerError, match="allow_plaintext = true"):
        Subscriber(Connection(host="broker.example"), ["t"])
    with pytest.raises(BrokerError, match="unencrypted"):
        Publisher(Connection(host="10.0.0.7"))
    Connection(host="10.0.0.7", allow_plaintext=True).check()
    Connection(host="10.0.0.7", tls=True).check()


def test_passwords_come_from_files_and_variables_and_are_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that is not there is named by its place, not by its content."""
    secret = tmp_path / "secret"
    secret.write_text("hush\n", "utf-8")
    secret.chmod(0o600)
    monkeypatch.setenv("HP_PASSWORD", "quiet")

    assert Connection(password_file=secret).secret() == "hush"
    assert Connection(password_env="HP_PASSWORD").secret() == "quiet"  # noqa: S106
    assert "hush" not in repr(Connection(password="hush"))  # noqa: S106
    with pytest.raises(BrokerError, match="HP_NONE is not set"):
        Connection(password_env="HP_NONE").secret()  # noqa: S106
    with pytest.raises(BrokerError, match="cannot be read"):
        Connection(password_file=tmp_path / "none").secret()
    if os.getuid() == 0:
        assert secret.stat().st_mode & 0o007 == 0


def test_a_wrong_password_is_said_in_the_status(tmp_path: Path) -> None:
    """A broker that refuses us is no broker that is away."""
    passwords = tmp_path / "passwords"
    passwords.write_text("", "utf-8")
    with servers.mosquitto(
        tmp_path, f"allow_anonymous false\npassword_file {passwords}"
    ) as broker:
        stranger = Connection(port=broker.port, username="me", password="x")  # noqa: S106
        subscriber = Subscriber(stranger, ["t"])
        subscriber.start()
        until(lambda: "refuses us" in subscriber.status().problem)
        assert not subscriber.status().connected
        subscriber.stop()


@pytest.mark.parametrize("topic", ["", "a/#", "a/+/b", "a\x00b"])
def test_a_topic_has_no_wildcards(topic: str) -> None:
    """One topic, one device: a wildcard would merge what must stay apart."""
    with pytest.raises(BrokerError, match="write the topic out"):
        Subscriber(Connection(), [topic])


def _certificate(folder: Path, name: str, signer: str | None) -> None:
    """Make a key and a certificate for 127.0.0.1, signed by ``signer``."""
    key, request = folder / f"{name}.key", folder / f"{name}.csr"
    subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    openssl = servers.program("openssl")
    new = [openssl, "req", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key)]
    certificate = str(folder / f"{name}.crt")
    if signer is None:
        command = [*new, "-x509", "-days", "2", "-out", certificate, *subject]
        subprocess.run(command, check=True, capture_output=True)
        return
    command = [*new, "-out", str(request), *subject]
    subprocess.run(command, check=True, capture_output=True)
    command = [openssl, "x509", "-req", "-in", str(request), "-days", "2"]
    command += ["-CA", str(folder / f"{signer}.crt"), "-CAcreateserial"]
    command += ["-CAkey", str(folder / f"{signer}.key"), "-out", certificate]
    command += ["-copy_extensions", "copyall"]
    subprocess.run(command, check=True, capture_output=True)


# The client library leaves the socket of a failed handshake to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_is_spoken_and_strangers_are_not_trusted(tmp_path: Path) -> None:
    """With our certificate to the right authority; never to another one."""
    for name, signer in (("ca", None), ("srv", "ca"), ("me", "ca"), ("other", None)):
        _certificate(tmp_path, name, signer)
    with servers.mosquitto(
        tmp_path,
        f"cafile {tmp_path}/ca.crt\ncertfile {tmp_path}/srv.crt\n"
        f"keyfile {tmp_path}/srv.key\nrequire_certificate true",
    ) as broker:
        good = Connection(
            port=broker.port,
            client_id="tls",
            ca_file=tmp_path / "ca.crt",
            cert_file=tmp_path / "me.crt",
            key_file=tmp_path / "me.key",
        )
        with Publisher(good) as publisher:
            publisher.publish("t", "1")
        for wrong in (
            replace(good, ca_file=tmp_path / "other.crt"),
            replace(good, cert_file=None, key_file=None),
        ):
            with Publisher(wrong) as publisher, pytest.raises(BrokerError):
                publisher.publish("t", "1", timeout=1.0)
    gc.collect()
    with pytest.raises(BrokerError, match="look at ca_file"):
        Publisher(replace(good, ca_file=tmp_path / "none.crt"))


def _kept_for_an_absent_service(port: int, number: int, **who: str) -> int:
    """Publish while the subscriber is away; return how many it then gets."""
    subscriber = Subscriber(Connection(port=port, client_id="svc", **who), ["t"])  # type: ignore[arg-type]
    subscriber.start()
    until(lambda: subscriber.status().connected)
    subscriber.stop()
    with Publisher(Connection(port=port, client_id="p", **who)) as publisher:  # type: ignore[arg-type]
        assert publisher.publish_all(("t", str(i)) for i in range(number)) == number
    subscriber.start()
    got, quiet = 0, 0
    while got < number and quiet < 4:
        some = subscriber.take(timeout=0.25)
        subscriber.acknowledge(some)
        got += len(some)
        quiet = 0 if some else quiet + 1
    subscriber.stop()
    return got


def test_the_configuration_we_ship_keeps_what_the_default_drops(
    tmp_path: Path,
) -> None:
    """As it stands, but for ports and paths; it also asks who we are."""
    passwords = tmp_path / "passwords"
    tool = servers.program("mosquitto_passwd")
    command = [tool, "-b", "-c", str(passwords), "hptwin", "hush"]
    subprocess.run(command, check=True, capture_output=True)
    port, folder = servers.free_port(), tmp_path / "shipped"
    folder.mkdir()
    text = servers.MOSQUITTO_CONF.read_text("utf-8")
    for ours, here in (
        ("listener 1883 ", f"listener {port} "),
        ("/etc/mosquitto/hptwin.passwd", str(passwords)),
        ("/var/lib/mosquitto/", f"{folder}/"),
    ):
        assert ours in text
        text = text.replace(ours, here)
    conf = folder / "mosquitto.conf"
    conf.write_text(f"{text}\nuser root\n", "utf-8")
    command = [servers.program("mosquitto"), "-c", str(conf)]
    server = servers.Server(command, port, folder)
    server.start()
    try:
        who = {"username": "hptwin", "password": "hush"}
        assert _kept_for_an_absent_service(port, 2500, **who) == 2500
        with (
            Publisher(Connection(port=port, client_id="nobody")) as publisher,
            pytest.raises(BrokerError, match="are user and password right"),
        ):
            publisher.publish("t", "1", timeout=1.0)
    finally:
        server.stop()
    bare = servers.free_port()
    conf.write_text(f"listener {bare} 127.0.0.1\nallow_anonymous true\nuser root\n")
    server = servers.Server(command, bare, folder)
    server.start()
    try:
        # The control: each one was acknowledged to the publisher all the same.
        assert _kept_for_an_absent_service(bare, 2500) < 2500
    finally:
        server.stop()
