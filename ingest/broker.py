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
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ingest.journal import Message

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage, MQTTMessageInfo

_log = logging.getLogger(__name__)
_TOPICS_PER_SUBSCRIBE = 100
_LINGER_S = 0.005


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
        A silent connection is given up after one and a half of these. [s]
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

    @property
    def encrypted(self) -> bool:
        """Whether TLS is used."""
        return self.tls or self.ca_file is not None or self.cert_file is not None

    def check(self) -> None:
        """Raise :class:`BrokerError` for a connection that must not be made."""
        if not self.client_id:
            raise BrokerError("client_id is empty; the session needs a fixed name")
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

    ``last_message_ms`` is None before the first message. ``refused`` names
    the topics that the broker does not let us read.
    """

    connected: bool
    thread_alive: bool
    epoch: int
    last_message_ms: int | None
    waiting: int
    overflows: int
    callback_errors: int
    refused: tuple[str, ...]
    problem: str


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
    ) -> None:
        connection.check()
        self.connection = connection
        self.topics = tuple(dict.fromkeys(topics))
        for topic in self.topics:
            if not topic or any(sign in topic for sign in "+#\x00"):
                raise BrokerError(
                    f"topic {topic!r}: a point is read from one topic, without "
                    "wildcards (+ or #); write the topic out"
                )
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._inbox: deque[Delivery] = deque()
        self._inbox_bytes = 0
        self._arrived = threading.Condition()
        self._epoch_lock = threading.Lock()
        self._epoch = 0
        self._connected = False
        self._client: Client | None = None
        self._thread: threading.Thread | None = None
        self._last_message_ms: int | None = None
        self._overflow_epoch = -1
        self._overflows = 0
        self._callback_errors = 0
        self._refused: dict[str, None] = {}
        self._subscribing: dict[int, Sequence[str]] = {}
        self._problem = ""

    def start(self) -> None:
        """Connect in the background, and again whenever the broker is lost."""
        client = _client(self.connection, clean_session=False, manual_ack=True)
        client.on_pre_connect = self._on_pre_connect
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_connect_fail = self._on_connect_fail
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.connect_async(
            self.connection.host, self.connection.port, self.connection.keepalive_s
        )
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
        with self._arrived:
            # They belong to the old epoch and will all come again.
            self._inbox.clear()
            self._inbox_bytes = 0
        self.start()

    def take(self, *, timeout: float, messages: int = 2000) -> list[Delivery]:
        """Return what has arrived, in order, waiting for the first of it.

        Empty after the timeout [s]. Whatever it returns is the caller's to
        make durable and to acknowledge.
        """
        with self._arrived:
            if not self._inbox and self._arrived.wait(timeout):
                # A moment more makes one commit of what arrives together.
                self._arrived.wait_for(lambda: len(self._inbox) >= messages, _LINGER_S)
            taken = [
                self._inbox.popleft() for _ in range(min(messages, len(self._inbox)))
            ]
            self._inbox_bytes -= sum(_size(item.message) for item in taken)
            empty = not self._inbox
        if empty and not taken and self._overflow_epoch == self._epoch:
            _log.warning("memory was full; fetching again what was let go")
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
            for delivery in deliveries:
                if delivery.epoch == self._epoch and delivery.qos > 0:
                    client.ack(delivery.mid, delivery.qos)
                    number += 1
        return number

    def status(self) -> Status:
        """Return the state of the connection as it is now."""
        return Status(
            connected=self._connected,
            thread_alive=self._thread is not None and self._thread.is_alive(),
            epoch=self._epoch,
            last_message_ms=self._last_message_ms,
            waiting=len(self._inbox),
            overflows=self._overflows,
            callback_errors=self._callback_errors,
            refused=tuple(self._refused),
            problem=self._problem,
        )

    def _new_epoch(self, *, connected: bool) -> None:
        with self._epoch_lock:
            self._epoch += 1
            self._connected = connected

    # Callbacks run in the network thread, which an exception would end.

    def _on_pre_connect(self, client: Client, userdata: object) -> None:
        self._new_epoch(connected=False)

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
                self._trouble(f"the broker refuses us: {reason}")
                return
            self._new_epoch(connected=True)
            self._refused.clear()
            self._subscribing.clear()
            for first in range(0, len(self.topics), _TOPICS_PER_SUBSCRIBE):
                some = self.topics[first : first + _TOPICS_PER_SUBSCRIBE]
                _, mid = client.subscribe([(topic, 1) for topic in some])
                if mid is not None:
                    self._subscribing[mid] = some
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
        reason: object,
        properties: object,
    ) -> None:
        # The reason first: nobody may see the loss without it.
        if self._connected and self._client is not None:
            self._trouble(f"connection lost: {reason}")
        self._new_epoch(connected=False)

    def _on_connect_fail(self, client: Client, userdata: object) -> None:
        self._trouble(f"no connection to {self.connection.host}:{self.connection.port}")

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
        except Exception as error:  # noqa: BLE001  it would end the thread
            self._failed(error)

    def _on_message(
        self, client: Client, userdata: object, message: MQTTMessage
    ) -> None:
        try:
            self._take_in(message)
        except BaseException as error:  # noqa: BLE001  it would end the thread
            self._failed(error)

    def _take_in(self, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = "\ufffd"
        received_ms = self._clock()
        item = Delivery(
            Message(topic, bytes(message.payload), received_ms, bool(message.retain)),
            message.mid,
            message.qos,
            self._epoch,
        )
        with self._arrived:
            self._last_message_ms = received_ms
            # Order must hold: after the first one let go, none of this
            # connection is taken.
            if self._overflow_epoch == self._epoch:
                self._overflows += 1
                return
            size = _size(item.message)
            if self._inbox_bytes + size > self._limit_bytes:
                self._overflow_epoch = self._epoch
                self._overflows += 1
                return
            self._inbox.append(item)
            self._inbox_bytes += size
            self._arrived.notify()

    def _failed(self, error: BaseException) -> None:
        self._callback_errors += 1
        self._trouble(f"{type(error).__name__}: {error}")

    def _trouble(self, problem: str) -> None:
        if problem != self._problem:
            _log.warning("broker %s: %s", self.connection.host, problem)
        self._problem = problem


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
        self._client = _client(connection, clean_session=True, manual_ack=False)
        self._client.max_inflight_messages_set(window)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.connect_async(
            connection.host, connection.port, connection.keepalive_s
        )
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
            If one of them is not acknowledged within the timeout.
        """
        pending: deque[MQTTMessageInfo] = deque()
        number = 0
        for topic, payload in messages:
            if not self._connected.wait(timeout):
                raise BrokerError(
                    f"{self.connection.host}:{self.connection.port}: no broker takes "
                    f"our messages{': ' + self._reason if self._reason else ''}; "
                    "is it running, are user and password right?"
                )
            pending.append(self._client.publish(topic, payload, qos=1, retain=retain))
            number += 1
            while len(pending) >= self._window:
                self._await(pending.popleft(), timeout)
        while pending:
            self._await(pending.popleft(), timeout)
        return number

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def _await(self, info: MQTTMessageInfo, timeout: float) -> None:
        # A message that was queued while the connection broke is sent again
        # by the library when it is back; its own wait refuses that case.
        end = time.monotonic() + timeout
        while not info.is_published():
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

    def _on_connect(
        self,
        client: Client,
        userdata: object,
        flags: object,
        reason: Any,
        properties: object,
    ) -> None:
        if reason.is_failure:
            self._reason = str(reason)
        else:
            self._connected.set()

    def _on_disconnect(
        self,
        client: Client,
        userdata: object,
        flags: object,
        reason: object,
        properties: object,
    ) -> None:
        self._connected.clear()
        self._reason = str(reason)


def _client(connection: Connection, *, clean_session: bool, manual_ack: bool) -> Client:
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=connection.client_id,
        clean_session=clean_session,
        protocol=MQTTProtocolVersion.MQTTv311,
        manual_ack=manual_ack,
    )
    client.reconnect_delay_set(min_delay=1, max_delay=30)
    if connection.username:
        client.username_pw_set(connection.username, connection.secret() or None)
    if connection.encrypted:
        client.tls_set_context(_tls(connection))
    return client


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


def _size(message: Message) -> int:
    # What Python's objects weigh beside the bytes themselves.
    return len(message.payload) + len(message.topic) + 400
