"""A message is acknowledged when its owner has it, on the connection it came by."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import servers
from campaigns import broker as campaign

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
    until(lambda: made.status().subscribed)
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
    until(lambda: subscriber.status().subscribed)

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
    until(lambda: subscriber.status().subscribed)
    publisher.publish_all(("t", str(i)) for i in range(5, 10))
    found: list[int] = []
    until(lambda: found.extend(numbers(subscriber.take(timeout=0.1))) or 9 in found)  # type: ignore[func-returns-value]

    # An acknowledgement may die with the connection, so earlier ones may come
    # once more; the new ones are all there, behind them, in order.
    assert found[-5:] == list(range(5, 10))
    assert subscriber.status().problem == ""


def test_a_broker_that_no_longer_answers_is_given_up(
    mosquitto: servers.Server, publisher: Publisher
) -> None:
    """Its connections stay open, as those of a machine that lost its network."""
    subscriber = Subscriber(
        Connection(port=mosquitto.port, client_id="s", keepalive_s=2), ["t"]
    )
    subscriber.start()
    until(lambda: subscriber.status().subscribed)
    assert mosquitto.process is not None
    mosquitto.process.send_signal(signal.SIGSTOP)
    try:
        until(lambda: not subscriber.status().connected)
        assert subscriber.status().problem
    finally:
        mosquitto.process.send_signal(signal.SIGCONT)
    until(lambda: subscriber.status().subscribed)
    publisher.publish("t", "1")
    assert numbers(gather(subscriber, 1)) == [1]
    subscriber.stop()


def test_memory_is_bounded_and_what_was_let_go_is_fetched_again(
    mosquitto: servers.Server, publisher: Publisher
) -> None:
    """A reader that does not keep up costs no memory and no message."""
    subscriber = Subscriber(
        Connection(port=mosquitto.port, client_id="slow"), ["t"], limit_bytes=20_000
    )
    subscriber.start()
    until(lambda: subscriber.status().subscribed)
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
    assert "poison" in subscriber.status().problem
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
    until(lambda: subscriber.status().subscribed)
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


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an authority, what it signed, and what it did not."""
    folder = tmp_path_factory.mktemp("keys")
    servers.certificate(folder, "ca")
    servers.certificate(folder, "other")
    servers.certificate(folder, "server", "ca")
    servers.certificate(folder, "client", "ca")
    servers.certificate(folder, "elsewhere", "ca", name="DNS:broker.example")
    servers.certificate(folder, "expired", "ca", days=-1)
    return folder


def _me(keys: Path, port: int) -> Connection:
    return Connection(
        port=port,
        client_id="tls",
        username="me",
        password="hush-hush",  # noqa: S106
        ca_file=keys / "ca.crt",
        cert_file=keys / "client.crt",
        key_file=keys / "client.key",
    )


def _tls(keys: Path, certificate: str) -> str:
    return (
        f"cafile {keys}/ca.crt\ncertfile {keys}/{certificate}.crt\n"
        f"keyfile {keys}/{certificate}.key\nrequire_certificate true"
    )


def _said(connection: Connection) -> str:
    """Return what a subscriber says of a connection that does not come about."""
    subscriber = Subscriber(connection, ["t"])
    subscriber.start()
    until(lambda: subscriber.status().problem)
    said = subscriber.status()
    subscriber.stop()
    assert not said.connected
    return said.problem


def _told(connection: Connection) -> str:
    """Return what a publisher is told of it."""
    with Publisher(connection) as publisher, pytest.raises(BrokerError) as refused:
        publisher.publish("t", "1", timeout=1.0)
    return str(refused.value)


# The client library leaves the socket of a failed handshake to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_way_to_fail_tls_has_its_own_sentence(
    tmp_path: Path, keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the remedy in it, the right way works, and no secret is said."""
    caplog.set_level("DEBUG")
    passwords = tmp_path / "passwords"
    tool = servers.program("mosquitto_passwd")
    command = [tool, "-b", "-c", str(passwords), "me", "hush-hush"]
    subprocess.run(command, check=True, capture_output=True)
    said: dict[str, str] = {}
    # The fixture's own first line allows strangers; the last one counts.
    login = f"password_file {passwords}\nallow_anonymous false\n"
    with servers.mosquitto(tmp_path, login + _tls(keys, "server")) as broker:
        me = _me(keys, broker.port)
        for protocol in ("3.1.1", "5"):
            with Publisher(replace(me, protocol=protocol)) as publisher:
                publisher.publish("t", "1")
        said["username and password_file"] = _said(replace(me, password="hush-hash"))  # noqa: S106
        nobody = replace(me, cert_file=None, key_file=None)
        said["asks for a client certificate; set cert_file"] = _said(nobody)
        # A publisher is told the same.
        assert "asks for a client certificate; set cert_file" in _told(nobody)
        said["authority that we do not know"] = _said(
            replace(me, ca_file=keys / "other.crt")
        )
    for server, sentence in (
        ("elsewhere", 'not for "127.0.0.1"; set host'),
        ("expired", "has expired"),
        ("other", "signed by nobody but itself"),
    ):
        folder = tmp_path / server
        folder.mkdir()
        with servers.mosquitto(folder, _tls(keys, server)) as broker:
            said[sentence] = _said(_me(keys, broker.port))
    port = servers.free_port()
    command = [servers.program("openssl"), "s_server", "-accept", str(port), "-quiet"]
    command += ["-cert", f"{keys}/server.crt", "-key", f"{keys}/server.key"]
    command += ["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"]
    old = servers.Server(command, port, tmp_path)
    old.start()
    try:
        said["no version of TLS in common"] = _said(_me(keys, port))
    finally:
        old.stop()
    gc.collect()

    for sentence, found in said.items():
        assert sentence in found, f"{sentence}: {found}"
    assert len(set(said.values())) == len(said)
    assert "hush" not in caplog.text + "".join(said.values())
    with pytest.raises(BrokerError, match="look at ca_file"):
        Publisher(replace(_me(keys, port), ca_file=tmp_path / "none.crt"))


def test_a_port_where_nobody_listens_is_told_from_a_name_nobody_knows() -> None:
    """Two faults, two remedies."""
    nobody = Connection(port=servers.free_port())
    assert "are host and port right" in _said(nobody)
    nowhere = Connection(host="nowhere.invalid", allow_plaintext=True)
    assert "is host right" in _said(nowhere)


def test_silence_is_a_problem_and_a_message_ends_it(
    mosquitto: servers.Server, publisher: Publisher
) -> None:
    """Connected is not enough: nothing for a quarter of an hour is said."""
    now = 1_700_000_000_000
    subscriber = Subscriber(
        Connection(port=mosquitto.port, client_id="s"), ["t"], clock=lambda: now
    )
    subscriber.start()
    until(lambda: subscriber.status().subscribed)
    now += 899_000
    assert subscriber.status().problem == ""
    now += 2_000
    assert "nothing has arrived for 15 min" in subscriber.status().problem
    publisher.publish("t", "1")
    gather(subscriber, 1)
    assert subscriber.status().problem == ""
    subscriber.stop()


def test_mqtt_5_keeps_the_session_and_tells_retained_once(
    mosquitto: servers.Server, publisher: Publisher
) -> None:
    """What came while we were away arrives; what is retained does not again."""
    publisher.publish("t", "0", retain=True)
    subscriber = Subscriber(
        Connection(port=mosquitto.port, client_id="five", protocol="5"), ["t"]
    )
    subscriber.start()
    [first] = gather(subscriber, 1)
    assert first.message.retained
    assert subscriber.acknowledge([first]) == 1
    time.sleep(0.2)
    subscriber.stop()
    publisher.publish_all(("t", str(i)) for i in range(1, 50))
    subscriber.start()
    found = gather(subscriber, 49)
    time.sleep(0.1)
    found += subscriber.take(timeout=0.0)
    assert numbers(found) == list(range(1, 50))
    assert not any(item.message.retained for item in found)
    subscriber.stop()
    subscriber.start()
    assert numbers(gather(subscriber, 49)) == list(range(1, 50))
    subscriber.stop()
    with pytest.raises(BrokerError, match="is not spoken here"):
        Connection(protocol="4").check()


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_two_of_one_name_are_told_so_and_do_not_storm(
    tmp_path: Path, protocol: str
) -> None:
    """Each puts the other out at once, so both come back more and more rarely."""
    with servers.mosquitto(tmp_path, "log_type notice") as broker:
        same = Connection(port=broker.port, client_id="twin", protocol=protocol)
        both = [Subscriber(same, ["t"]) for _ in range(2)]
        began = time.monotonic()
        for one in both:
            one.start()
        until(lambda: any('client_id "twin"' in s.status().problem for s in both))
        if protocol == "3.1.1":
            time.sleep(max(0.0, 6.5 - (time.monotonic() - began)))
        lasted = time.monotonic() - began
        for one in both:
            one.stop()
    text = (tmp_path / "server.log").read_text("utf-8")
    connects = text.count("New client connected from 127.0.0.1")
    assert connects >= 2
    # One connection each is where they start; then less than one a second.
    assert connects - 2 <= lasted, f"{connects} connections in {lasted:.0f} s"


def test_what_an_access_list_throws_away_is_refused_in_mqtt_5(tmp_path: Path) -> None:
    """In 3.1.1 the broker acknowledges it all the same."""
    rules = tmp_path / "acl"
    rules.write_text("topic read #\ntopic write mine/#\n", "utf-8")
    with servers.mosquitto(tmp_path, f"acl_file {rules}") as broker:
        here = Connection(port=broker.port, client_id="p", protocol="5")
        with Publisher(here) as publisher:
            publisher.publish("mine/1", "1")
            with pytest.raises(BrokerError, match="does not let us write 'plant/1'"):
                publisher.publish("plant/1", "1")
        with Publisher(replace(here, protocol="3.1.1")) as publisher:
            publisher.publish("plant/1", "1")


def test_a_broker_that_is_killed_five_times_loses_nothing_of_ours(
    tmp_path: Path,
) -> None:
    """Under traffic, with signal 9; each time we are back within 30 s."""
    campaign.whole(tmp_path, quick=True).held()


def test_a_session_that_the_broker_forgets_loses(tmp_path: Path) -> None:
    """The control: were it to lose nothing, the campaign would be blind."""
    outcome = campaign.control(tmp_path, quick=True)

    assert outcome.faults
    assert outcome.lost
