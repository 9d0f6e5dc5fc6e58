"""The broker: paho's door.

A :class:`Subscriber` hands over what arrives and acknowledges what its owner
has made durable, never earlier. A :class:`Publisher` returns when the broker
has the message. Decoding, journals and retries of archives are not here.

What the client library does on its own is not trusted in four places, all of
which lose messages or stop silently. Automatic acknowledgement, so it is off.
An exception in a callback ends the network thread while the client still says
it is connected, so no callback lets one out and the thread is watched. An
acknowledgement that is queued while the connection changes would acknowledge
another message of the same number, so each one belongs to an epoch. And a
session that the broker has lost needs its subscriptions again, so they are
made on each connect.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ingest.journal import Message

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage, MQTTMessageInfo

_log = logging.getLogger(__name__)
_TOPICS_PER_SUBSCRIBE = 100
# What arrives together makes one commit: until no more comes, or so long.
_LINGER_S, _LONGEST_LINGER_S = 0.005, 0.05
# What Python's objects weigh beside the payload's own bytes. [B]
_OVERHEAD = 500
# A connection that ends sooner than this was not a good one, and after so many
# of them in succession we try more and more rarely.
_STEADY_S, _PATIENCE = 10.0, 3
_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 1, 30
_SESSION_S = 14 * 86_400
_RECEIVE_MAXIMUM = 4000
_TAKEN_OVER = 142  # MQTT 5's reason code, 0x8E
PROTOCOLS = ("3.1.1", "5")
# What mosquitto and others tell of themselves, mosquitto(8).
VERSION, DROPPED = "$SYS/broker/version", "$SYS/broker/publish/messages/dropped"
_SYSTEM = (VERSION, DROPPED)


class BrokerError(ValueError):
    """The broker cannot be used as configured, or did not take a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How the broker is reached.

    Attributes
    ----------
    host, port : str, int
        Where it listens.
    client_id : str
        Fixed, and of one client only: the broker keeps our messages under
        this name while we are away, and a second client of the same name
        takes the session over.
    username, password, password_file, password_env : str or path
        Who we are. The password itself, or the file or the environment
        variable that holds it; the first one that is set is used.
    tls : bool
        Encrypt; implied by ``ca_file``. Certificate and host name are always
        verified.
    ca_file, cert_file, key_file : path, optional
        The authority that signed the broker's certificate (None trusts the
        system's), and our own certificate with its key.
    allow_plaintext : bool
        Permit an unencrypted connection to another machine.
    keepalive_s : int
        A connection on which nothing answers is given up within two of these. [s]
    protocol : str
        ``"3.1.1"``, or ``"5"``, which costs the client library twice the time
        per message, and in which a broker says why it ends a connection.
    silence_s : float
        Connected, and nothing arrives for so long: that is a problem. 0 never
        says so. [s]
    """

    host: str = "127.0.0.1"
    port: int = 1883
    client_id: str = "hptwin"
    username: str = ""
    password: str = field(default="", repr=False)
    password_file: Path | None = None
    password_env: str = ""
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    allow_plaintext: bool = False
    keepalive_s: int = 30
    protocol: str = "3.1.1"
    silence_s: float = 900.0

    @property
    def encrypted(self) -> bool:
        """Whether TLS is used."""
        return self.tls or self.ca_file is not None or self.cert_file is not None

    def check(self) -> None:
        """Raise :class:`BrokerError` for a connection that must not be made."""
        if not self.client_id:
            raise BrokerError("client_id is empty; the session needs a fixed name")
        if self.protocol not in PROTOCOLS:
            raise BrokerError(
                f'protocol = "{self.protocol}" is not spoken here; write "3.1.1" or "5"'
            )
        if not self.encrypted and not self.allow_plaintext and not _local(self.host):
            raise BrokerError(
                f"{self.host}:{self.port}: readings and password would cross the "
                "network unencrypted; set ca_file (or tls = true), or say "
                "allow_plaintext = true if that network is yours alone"
            )

    def secret(self) -> str:
        """Return the password, ``""`` for none.

        Raises
        ------
        BrokerError
            If the file or the variable that should hold it cannot be read.
        """
        if self.password:
            return self.password
        if self.password_file is not None:
            try:
                mode = self.password_file.stat().st_mode
                text = self.password_file.read_text("utf-8").strip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                raise BrokerError(
                    f"password_file {self.password_file}: cannot be read: {error}"
                ) from error
            if mode & 0o007:
                _log.warning(
                    "password_file %s is open to every user; chmod 600 it",
                    self.password_file,
                )
            return text
        if self.password_env:
            try:
                return os.environ[self.password_env]
            except KeyError:
                raise BrokerError(
                    f"password_env: the variable {self.password_env} is not set"
                ) from None
        return ""


class Delivery(NamedTuple):
    """A message and what its acknowledgement needs."""

    message: Message
    mid: int
    qos: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Status:
    """What a subscriber knows of its connection.

    ``subscribed`` is when the broker has answered for every topic, refused ones
    included; until then what is published meets no subscription of ours.
    ``last_message_ms`` is None before the first message. ``refused`` names
    the topics that the broker does not let us read. ``overflows`` counts the
    messages that were let go and fetched again, ``revivals`` the times the
    network thread had to be started again. ``problem`` is a sentence for a
    person, empty while all is well.
    """

    connected: bool
    subscribed: bool
    thread_alive: bool
    epoch: int
    last_message_ms: int | None
    waiting: int
    overflows: int
    callback_errors: int
    revivals: int
    refused: tuple[str, ...]
    problem: str


# What the network thread hands over: topic, payload, when, retained, and what
# its acknowledgement needs.
_Arrival = tuple[str, bytes | bytearray, int, bool, int, int, int]


def now_ms() -> int:
    """Return the clock's ms since 1970, the one look at a clock down here."""
    return time.time_ns() // 1_000_000


class Subscriber:
    """What arrives on some topics, acknowledged when its owner says so.

    Parameters
    ----------
    connection : Connection
        Where the broker is.
    topics : iterable of str
        What to read, without wildcards.
    limit_bytes : int
        How much may wait in memory. Beyond it what arrives is let go without
        acknowledgement, and fetched again when the rest has been taken. [B]
    clock : callable
        Gives the time of reception, in ms since 1970.
    lasting : bool
        Let the broker keep the session, and messages for it, while we are
        away. Without it nothing of us remains there.

    Raises
    ------
    BrokerError
        If the connection must not be made, or a topic is none.
    """

    def __init__(
        self,
        connection: Connection,
        topics: Iterable[str],
        *,
        limit_bytes: int = 64 << 20,
        clock: Callable[[], int] = now_ms,
        lasting: bool = True,
    ) -> None:
        connection.check()
        self.connection = connection
        self._lasting = lasting
        self.topics = tuple(dict.fromkeys(topics))
        for topic in self.topics:
            if not topic or any(sign in topic for sign in "+#\x00"):
                raise BrokerError(
                    f"topic {topic!r}: a point is read from one topic, without "
                    "wildcards (+ or #); write the topic out"
                )
        self._limit_bytes = limit_bytes
        self._clock = clock
        # The network thread only appends and the taker only takes, and each
        # counts for itself, so neither waits for the other's lock.
        self._inbox: deque[_Arrival] = deque()
        self._bytes_in = self._bytes_out = 0
        self._waiting = False
        self._arrived = threading.Event()
        self._epoch_lock = threading.Lock()
        self._epoch = 0
        self._connected = False
        self._subscribed = False
        self._connected_ms = 0
        self._client: Client | None = None
        self._thread: threading.Thread | None = None
        self._last_message_ms: int | None = None
        self._letting_go = False
        self._overflows = 0
        self._callback_errors = 0
        self._revivals = 0
        self._short_ones = 0
        self._refused: dict[str, None] = {}
        self._subscribing: dict[int, Sequence[str]] = {}
        self._fault = ""
        self._problem = ""

    def start(self) -> None:
        """Connect in the background, and again whenever the broker is lost."""
        client = _client(self.connection, persistent=self._lasting)
        client.on_pre_connect = self._on_pre_connect
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_connect_fail = self._on_connect_fail
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        before = set(threading.enumerate())
        client.loop_start()
        self._client = client
        # The library keeps its thread to itself; the watchdog must see it.
        self._thread = next(
            (
                thread
                for thread in threading.enumerate()
                if thread not in before and thread.name.startswith("paho-mqtt-client")
            ),
            None,
        )

    def stop(self) -> None:
        """Disconnect; what was not acknowledged stays with the broker."""
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            client.loop_stop()
        self._new_epoch(connected=False)

    def revive(self) -> None:
        """Start afresh under the same session, after the thread has died."""
        self.stop()
        # They belong to the old epoch and will all come again.
        self._inbox.clear()
        self._bytes_in = self._bytes_out = 0
        self.start()

    def take(self, *, timeout: float, messages: int = 2000) -> list[Delivery]:
        """Return what has arrived, in order, waiting for the first of it.

        Empty after the timeout [s]. Whatever it returns is the caller's to
        make durable and to acknowledge. One thread calls it, and regularly:
        it also starts the network thread again where that has ended.
        """
        self._await(timeout, messages)
        inbox = self._inbox
        number = min(messages, len(inbox))
        taken = [
            Delivery(Message(topic, bytes(payload), received_ms, retain), mid, qos, at)
            for topic, payload, received_ms, retain, mid, qos, at in (
                inbox.popleft() for _ in range(number)
            )
        ]
        self._bytes_out += sum(
            [len(item.message.payload) for item in taken], number * _OVERHEAD
        )
        if not taken and self._client is not None:
            if self._letting_go:
                _log.warning("memory was full; fetching again what was let go")
                self.revive()
            elif self._thread is None or not self._thread.is_alive():
                _log.error("the network thread has ended; starting it again")
                self._revivals += 1
                self.revive()
        return taken

    def acknowledge(self, deliveries: Iterable[Delivery]) -> int:
        """Acknowledge durable messages in order; return how many were.

        Those of an earlier connection are not: the broker sends them again.
        """
        number = 0
        with self._epoch_lock:
            client = self._client
            if client is None or not self._connected:
                return 0
            ack, now = client.ack, self._epoch
            for _, mid, qos, epoch in deliveries:
                if epoch == now and qos > 0:
                    ack(mid, qos)
                    number += 1
        return number

    def status(self) -> Status:
        """Return the state of the connection as it is now."""
        return Status(
            connected=self._connected,
            subscribed=self._subscribed,
            thread_alive=self._thread is not None and self._thread.is_alive(),
            epoch=self._epoch,
            last_message_ms=self._last_message_ms,
            waiting=len(self._inbox),
            overflows=self._overflows,
            callback_errors=self._callback_errors,
            revivals=self._revivals,
            refused=tuple(self._refused),
            problem=self._trouble_now(),
        )

    def _trouble_now(self) -> str:
        if not self._connected:
            return self._problem
        now = self._clock()
        steady = now - self._connected_ms > _STEADY_S * 1e3
        if steady and self._short_ones:
            # What broke one connection after the other is over.
            self._short_ones, self._problem = 0, ""
        if self._problem:
            return self._problem
        limit_s = self.connection.silence_s
        silent_s = (now - max(self._last_message_ms or 0, self._connected_ms)) / 1e3
        if limit_s and self.topics and silent_s > limit_s:
            return (
                f"connected to {self.connection.host}, but nothing has arrived for "
                f"{silent_s / 60:.0f} min on any of {len(self.topics)} topics; does "
                "the gateway publish, and on these topics?"
            )
        return ""

    def _await(self, timeout: float, messages: int) -> None:
        """Wait for the first message, and while more come, for those."""
        inbox = self._inbox
        if not inbox:
            self._arrived.clear()
            self._waiting = True
            # One may have come before it was said that we wait.
            if not inbox:
                self._arrived.wait(timeout)
            self._waiting = False
        if not inbox:
            return
        end = time.monotonic() + _LONGEST_LINGER_S
        before = 0
        while before < (now := len(inbox)) < messages and time.monotonic() < end:
            before = now
            time.sleep(_LINGER_S)

    def _new_epoch(self, *, connected: bool) -> None:
        with self._epoch_lock:
            self._epoch += 1
            self._connected = connected
            self._subscribed = False
            self._letting_go = False

    # Callbacks run in the network thread, which an exception would end.

    def _on_pre_connect(self, client: Client, userdata: object) -> None:
        self._new_epoch(connected=False)
        self._fault = ""
        # The library tells why a connection fails to its log and to nobody
        # else. Its log costs each message time, so only until we are in.
        client.on_log = self._on_log

    def _on_log(self, client: Client, userdata: object, level: int, text: str) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, OSError) and not self._fault:
            self._fault = _explained(error, self.connection)

    def _on_connect(
        self,
        client: Client,
        userdata: object,
        flags: Any,
        reason: Any,
        properties: object,
    ) -> None:
        try:
            if reason.is_failure:
                self._trouble(_refusal(reason, self.connection))
                return
            client.on_log = None
            self._connected_ms = self._clock()
            self._new_epoch(connected=True)
            self._refused.clear()
            self._subscribing.clear()
            for first in range(0, len(self.topics), _TOPICS_PER_SUBSCRIBE):
                some = self.topics[first : first + _TOPICS_PER_SUBSCRIBE]
                _, mid = client.subscribe(_wanted(some, self.connection))
                if mid is not None:
                    self._subscribing[mid] = some
            if self._short_ones < _PATIENCE:
                if self._problem:
                    _log.info("broker %s: connected again", self.connection.host)
                self._problem = ""
        except Exception as error:  # noqa: BLE001  it would end the thread
            self._failed(error)

    def _on_disconnect(
        self,
        client: Client,
        userdata: object,
        flags: object,
        reason: Any,
        properties: object,
    ) -> None:
        try:
            # The reason first: nobody may see the loss without it.
            if self._client is not None:
                if self._connected:
                    self._lost(client, reason)
                elif self._fault:
                    self._trouble(self._fault)
                elif not self._problem:
                    self._trouble("the broker ended the connection without an answer")
        except Exception as error:  # noqa: BLE001  it would end the thread
            self._failed(error)
        self._new_epoch(connected=False)

    def _lost(self, client: Client, reason: Any) -> None:
        lived_s = (self._clock() - self._connected_ms) / 1e3
        self._short_ones = self._short_ones + 1 if lived_s < _STEADY_S else 0
        taken_over = getattr(reason, "value", 0) == _TAKEN_OVER
        if taken_over:
            self._short_ones = max(self._short_ones, _PATIENCE)
        rarely = self._short_ones - _PATIENCE
        client.reconnect_delay_set(
            min(_LONGEST_WAIT_S, max(_SHORTEST_WAIT_S, 2 ** max(0, min(rarely, 5)))),
            _LONGEST_WAIT_S,
        )
        if taken_over:
            self._trouble(f"another client took our session over; {self._namesake()}")
        elif rarely >= 0:
            self._trouble(
                f"the connection breaks within seconds, {self._short_ones} times so "
                f"far; if the broker runs well, {self._namesake()}"
            )
        else:
            self._trouble(f"connection lost: {reason}")

    def _namesake(self) -> str:
        return (
            f'another client uses client_id "{self.connection.client_id}" and the two '
            "put each other out: give every client an id of its own"
        )

    def _on_connect_fail(self, client: Client, userdata: object) -> None:
        # Called while the library handles what has gone wrong.
        error = sys.exc_info()[1]
        self._short_ones = 0
        self._trouble(
            _explained(error, self.connection)
            if isinstance(error, OSError)
            else f"no connection to {self.connection.host}:{self.connection.port}"
        )

    def _on_subscribe(
        self,
        client: Client,
        userdata: object,
        mid: int,
        reasons: Any,
        properties: object,
    ) -> None:
        try:
            for topic, reason in zip(
                self._subscribing.pop(mid, ()), reasons, strict=False
            ):
                if reason.is_failure:
                    self._refused[topic] = None
                    _log.warning("the broker does not let us read %r", topic)
            self._subscribed = not self._subscribing
        except Exception as error:  # noqa: BLE001  it would end the thread
            self._failed(error)

    def _on_message(
        self, client: Client, userdata: object, message: MQTTMessage
    ) -> None:
        # Each line costs some thousandth of a core at the rates we are made for.
        try:
            payload = message.payload
            received_ms = self._last_message_ms = self._clock()
            size = len(payload) + _OVERHEAD
            # Order must hold: after the first one let go, none of this
            # connection is taken.
            if (
                self._letting_go
                or self._bytes_in - self._bytes_out + size > self._limit_bytes
            ):
                self._letting_go = True
                self._overflows += 1
                return
            try:
                topic = message.topic
            except UnicodeDecodeError:
                topic = "\ufffd"
            self._bytes_in += size
            self._inbox.append(
                (
                    topic,
                    payload,
                    received_ms,
                    message.retain,
                    message.mid,
                    message.qos,
                    self._epoch,
                )
            )
            if self._waiting:
                self._waiting = False
                self._arrived.set()
        except BaseException as error:  # noqa: BLE001  it would end the thread
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        self._callback_errors += 1
        self._trouble(f"{type(error).__name__}: {error}")

    def _trouble(self, problem: str) -> None:
        if problem != self._problem:
            _log.warning("broker %s: %s", self.connection.host, problem)
        self._problem = problem


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at a broker has shown; see :func:`probe`.

    ``system`` is what the broker tells of itself, by topic.
    """

    messages: tuple[Message, ...]
    system: Mapping[str, str]
    refused: tuple[str, ...]
    problem: str


def probe(connection: Connection, topics: Iterable[str], seconds: float) -> Seen:
    """Listen to a broker for a while, and leave nothing of us there.

    Parameters
    ----------
    connection : Connection
        Where it is. The client id gets an end of its own, so that a service
        that runs keeps its session.
    topics : iterable of str
        What to listen to.
    seconds : float
        How long, from the connection on, which is waited for as long. [s]

    Raises
    ------
    BrokerError
        If the connection must not be made, or a topic is none.
    """
    ours = replace(connection, client_id=f"{connection.client_id}-check")
    subscriber = Subscriber(ours, (*topics, *_SYSTEM), lasting=False)
    found: list[Message] = []
    subscriber.start()
    try:
        end = time.monotonic() + seconds
        while not (status := subscriber.status()).connected:
            if time.monotonic() > end:
                problem = status.problem or "no answer from the broker yet"
                return Seen((), {}, tuple(topics), problem)
            time.sleep(0.02)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            taken = subscriber.take(timeout=min(left, 0.25))
            subscriber.acknowledge(taken)
            found += [item.message for item in taken]
        status = subscriber.status()
    finally:
        subscriber.stop()
    system = {
        message.topic: message.payload.decode("utf-8", "replace")
        for message in found
        if message.topic in _SYSTEM
    }
    return Seen(
        tuple(message for message in found if message.topic not in _SYSTEM),
        system,
        tuple(topic for topic in status.refused if topic not in _SYSTEM),
        status.problem,
    )


class Publisher:
    """Publishes with QoS 1 and returns when the broker has the message.

    Parameters
    ----------
    connection : Connection
        Where the broker is; its client id must not be the subscriber's.
    window : int
        How many messages may be on their way at once. The client library
        walks through all of them at each acknowledgement, so a wide window is
        slower: 100 publishes six times as fast as 1000.

    Examples
    --------
    >>> with Publisher(Connection(client_id="demo")) as publisher:  # doctest: +SKIP
    ...     publisher.publish("plant/hp1/sink", "47.3")
    """

    def __init__(self, connection: Connection, *, window: int = 100) -> None:
        connection.check()
        self.connection = connection
        self._window = window
        self._connected = threading.Event()
        self._reason = ""
        self._answers: dict[int, str] = {}
        self._client = _client(connection, persistent=False, window=window)
        self._client.on_log = self._on_log
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.loop_start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def publish(
        self,
        topic: str,
        payload: bytes | str,
        *,
        retain: bool = False,
        timeout: float = 10.0,
    ) -> None:
        """Publish one message and wait until the broker has it.

        Raises
        ------
        BrokerError
            If it has not within the timeout; it may still arrive later.
        """
        self.publish_all([(topic, payload)], retain=retain, timeout=timeout)

    def publish_all(
        self,
        messages: Iterable[tuple[str, bytes | str]],
        *,
        retain: bool = False,
        timeout: float = 30.0,
    ) -> int:
        """Publish in order, many at once on their way; return how many.

        Raises
        ------
        BrokerError
            If one of them is not acknowledged within the timeout; or is
            refused, which only MQTT 5 says: in 3.1.1 a broker acknowledges
            even what its access list makes it throw away.
        """
        pending: deque[tuple[str, MQTTMessageInfo]] = deque()
        number = 0
        for topic, payload in messages:
            if not self._connected.wait(timeout):
                raise BrokerError(
                    f"{self.connection.host}:{self.connection.port}: no broker takes "
                    f"our messages{': ' + self._reason if self._reason else ''}; "
                    "is it running, are user and password right?"
                )
            info = self._client.publish(topic, payload, qos=1, retain=retain)
            pending.append((topic, info))
            number += 1
            while len(pending) >= self._window:
                self._await(*pending.popleft(), timeout)
        while pending:
            self._await(*pending.popleft(), timeout)
        return number

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def _await(self, topic: str, info: MQTTMessageInfo, timeout: float) -> None:
        end = time.monotonic() + timeout
        while not self._answered(info):
            left = end - time.monotonic()
            if left <= 0:
                raise BrokerError(
                    f"{self.connection.host}:{self.connection.port}: a message was "
                    f"not acknowledged within {timeout:g} s"
                )
            try:
                info.wait_for_publish(min(left, 1.0))
            except (RuntimeError, ValueError):
                time.sleep(min(left, 0.05))
        if refusal := self._answers.pop(info.mid, ""):
            raise BrokerError(
                f"{self.connection.host}:{self.connection.port}: the broker does not "
                f"let {self.connection.username or 'us'} write {topic!r}: {refusal}; "
                "look at its access list"
            )

    def _on_log(self, client: Client, userdata: object, level: int, text: str) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, OSError) and not self._connected.is_set():
            self._reason = _explained(error, self.connection)

    def _on_connect_fail(self, client: Client, userdata: object) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            self._reason = _explained(error, self.connection)

    def _answered(self, info: MQTTMessageInfo) -> bool:
        # A message that was published while the connection broke is sent again
        # by the library when it is back, whose own record of it then still
        # says that it failed.
        try:
            return info.is_published()
        except (RuntimeError, ValueError):
            return info.mid in self._answers

    def _on_publish(
        self,
        client: Client,
        userdata: object,
        mid: int,
        reason: Any,
        properties: object,
    ) -> None:
        self._answers[mid] = str(reason) if reason.is_failure else ""

    def _on_connect(
        self,
        client: Client,
        userdata: object,
        flags: object,
        reason: Any,
        properties: object,
    ) -> None:
        if reason.is_failure:
            self._reason = _refusal(reason, self.connection)
        else:
            client.on_log = None
            self._connected.set()

    def _on_disconnect(
        self,
        client: Client,
        userdata: object,
        flags: object,
        reason: object,
        properties: object,
    ) -> None:
        if self._connected.is_set():
            self._reason = f"connection lost: {reason}"
            client.on_log = self._on_log
        self._connected.clear()


def _client(connection: Connection, *, persistent: bool, window: int = 20) -> Client:
    """Return a client of the library that is to connect."""
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    newer = connection.protocol == "5"
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=connection.client_id,
        clean_session=None if newer else not persistent,
        protocol=MQTTProtocolVersion.MQTTv5 if newer else MQTTProtocolVersion.MQTTv311,
        manual_ack=True,
    )
    client.max_inflight_messages_set(window)
    client.reconnect_delay_set(_SHORTEST_WAIT_S, _LONGEST_WAIT_S)
    if connection.username:
        client.username_pw_set(connection.username, connection.secret() or None)
    if connection.encrypted:
        client.tls_set_context(_tls(connection))
    where = (connection.host, connection.port, connection.keepalive_s)
    if newer:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        if persistent:
            properties.SessionExpiryInterval = _SESSION_S
            properties.ReceiveMaximum = _RECEIVE_MAXIMUM
        client.connect_async(*where, clean_start=not persistent, properties=properties)
    else:
        client.connect_async(*where)
    return client


def _wanted(topics: Sequence[str], connection: Connection) -> Any:
    """Return the subscriptions as the library takes them."""
    if connection.protocol != "5":
        return [(topic, 1) for topic in topics]
    from paho.mqtt.subscribeoptions import SubscribeOptions

    # What is retained is told once, not at each connection.
    once = SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
    return [(topic, SubscribeOptions(qos=1, retainHandling=once)) for topic in topics]


def _tls(connection: Connection) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(
            cafile=str(connection.ca_file) if connection.ca_file else None
        )
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if connection.cert_file is not None:
            context.load_cert_chain(connection.cert_file, connection.key_file)
    except (OSError, ssl.SSLError) as error:
        raise BrokerError(
            f"TLS to {connection.host}: {error}; look at ca_file = "
            f"{connection.ca_file}, cert_file = {connection.cert_file}, key_file = "
            f"{connection.key_file}"
        ) from error
    return context


def _local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refusal(reason: Any, connection: Connection) -> str:
    """Say why a broker answered and does not let us in."""
    words = str(reason)
    if "protocol" in words.lower():
        other = "3.1.1" if connection.protocol == "5" else "5"
        remedy = f'try protocol = "{other}"'
    elif "identifier" in words.lower():
        remedy = f'it does not like client_id "{connection.client_id}"'
    else:
        remedy = "look at username and password_file or password_env"
    return f"the broker refuses us: {words}; {remedy}"


# OpenSSL's numbers of what is wrong with a certificate, x509_vfy.h.
_CERTIFICATE_FAULTS = {
    9: "the broker's certificate is not valid yet; compare the clocks of both",
    10: "the broker's certificate has expired; it needs a new one",
    18: "the broker's certificate is signed by nobody but itself; have an authority "
    "sign it and set ca_file to that authority",
    19: "the broker's certificate comes from an authority that we do not know; set "
    "ca_file to the right one",
    20: "the broker's certificate comes from an authority that we do not know; set "
    "ca_file to the right one",
}
_OTHER_NAME = (62, 64)
_TLS_FAULTS = {
    "CERTIFICATE_REQUIRED": "the broker asks for a client certificate; set cert_file "
    "and key_file",
    "HANDSHAKE_FAILURE": "the broker ended the handshake; does it ask for a client "
    "certificate (cert_file, key_file)?",
    "UNKNOWN_CA": "the broker does not know the authority that signed cert_file",
    "CERTIFICATE_EXPIRED": "cert_file has expired; it needs a new one",
    "UNSUPPORTED_PROTOCOL": "the broker speaks TLS older than 1.2 only; it needs a "
    "newer one",
    "PROTOCOL_VERSION": "the broker and we have no version of TLS in common; 1.2 and "
    "1.3 are spoken here",
    "WRONG_VERSION_NUMBER": "the port answers without TLS; is it the right one?",
}


def _explained(error: OSError, connection: Connection) -> str:
    """Say why there is no connection, and what to do about it."""
    host = connection.host
    why = ""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = _CERTIFICATE_FAULTS.get(error.verify_code, "")
        if error.verify_code in _OTHER_NAME:
            why = (
                f'the broker\'s certificate is not for "{host}"; set host to the name '
                "in it, or have one made for this name"
            )
        why = why or f"the broker's certificate is refused: {error.verify_message}"
    elif isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        found = (text for end, text in _TLS_FAULTS.items() if reason.endswith(end))
        why = next(found, f"TLS: {reason or error}")
    elif isinstance(error, socket.gaierror):
        why = "nobody knows that name; is host right?"
    elif isinstance(error, ConnectionRefusedError):
        why = "nobody listens there; does the broker run, are host and port right?"
    elif isinstance(error, TimeoutError):
        why = "no answer; is there a firewall between?"
    return f"no connection to {host}:{connection.port}: {why or error}"
