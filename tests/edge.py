"""An edge node of Sparkplug B for the tests, with an encoder of its own.

It writes the wire format with shifts and masks and knows nothing of the
product's schema, so that one can be wrong without the other.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field


def varint(number: int) -> bytes:
    """Return an unsigned number, seven bits a byte, the lowest first."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + bytes([number])


def whole(tag: int, number: int) -> bytes:
    """Return a field that is a number or a boolean."""
    return varint(tag << 3) + varint(number)


def block(tag: int, content: bytes) -> bytes:
    """Return a field that has a length: text, bytes, a message."""
    return varint(tag << 3 | 2) + varint(len(content)) + content


def double(tag: int, number: float) -> bytes:
    """Return a field of 64 bits."""
    return varint(tag << 3 | 1) + struct.pack("<d", number)


def single(tag: int, number: float) -> bytes:
    """Return a field of 32 bits."""
    return varint(tag << 3 | 5) + struct.pack("<f", number)


INT32, INT64, UINT64, FLOAT, DOUBLE, BOOLEAN, STRING = 3, 4, 8, 9, 10, 11, 12


def metric(
    number: object = None,
    *,
    name: str = "",
    alias: int | None = None,
    time_ms: int | None = None,
    kind: int = DOUBLE,
    tell_kind: bool = True,
    historical: bool = False,
    quality: int | None = None,
) -> bytes:
    """Return one metric; without a number it says that it is null."""
    out = block(1, name.encode()) if name else b""
    if alias is not None:
        out += whole(2, alias)
    if time_ms is not None:
        out += whole(3, time_ms)
    if tell_kind:
        out += whole(4, kind)
    if historical:
        out += whole(5, 1)
    if number is None:
        out += whole(7, 1)
    if quality is not None:
        value = whole(1, INT32) + whole(3, quality)
        out += block(9, block(1, b"Quality") + block(2, value))
    if number is None:
        return out
    if kind in (INT64, UINT64):
        return out + whole(11, int(number) & (1 << 64) - 1)  # type: ignore[call-overload]
    if kind == FLOAT:
        return out + single(12, float(number))  # type: ignore[arg-type]
    if kind == DOUBLE:
        return out + double(13, float(number))  # type: ignore[arg-type]
    if kind == BOOLEAN:
        return out + whole(14, int(bool(number)))
    if kind == STRING:
        return out + block(15, str(number).encode())
    return out + whole(10, int(number) & (1 << 32) - 1)  # type: ignore[call-overload]


def payload(
    metrics: Iterable[bytes], *, time_ms: int | None = None, seq: int | None = None
) -> bytes:
    """Return a message of metrics."""
    out = b"" if time_ms is None else whole(1, time_ms)
    out += b"".join(block(2, each) for each in metrics)
    return out if seq is None else out + whole(3, seq)


@dataclass
class Edge:
    """A node with one device; it counts its sessions and messages.

    What it says is returned as topic and payload, for a test to deliver, to
    lose, or to deliver in another order.
    """

    group: str = "dc"
    node: str = "gw"
    device: str = "hp1"
    session: int = 0
    seq: int = 0
    now_ms: int = 1_700_000_000_000
    values: dict[str, float] = field(default_factory=lambda: {"T/out": 65.0, "P": 98.5})

    def topic(self, kind: str) -> str:
        """Return the topic of a kind of message."""
        tail = f"/{self.device}" if kind[0] == "D" else ""
        return f"spBv1.0/{self.group}/{kind}/{self.node}{tail}"

    def _message(self, kind: str, metrics: Iterable[bytes]) -> tuple[str, bytes]:
        made = payload(metrics, time_ms=self.now_ms, seq=self.seq)
        self.seq = (self.seq + 1) % 256
        return self.topic(kind), made

    def will(self) -> tuple[str, bytes]:
        """Return what the broker says when this session ends."""
        session = metric(self.session, name="bdSeq", kind=INT64)
        return self.topic("NDEATH"), payload([session], time_ms=self.now_ms)

    def births(self) -> list[tuple[str, bytes]]:
        """Return the births of the node and of its device."""
        self.seq = 0
        session = metric(self.session, name="bdSeq", kind=INT64)
        control = metric(False, name="Node Control/Rebirth", kind=BOOLEAN)
        metrics = [
            metric(number, name=name, alias=alias, time_ms=self.now_ms)
            for alias, (name, number) in enumerate(self.values.items(), start=1)
        ]
        return [
            self._message("NBIRTH", [session, control]),
            self._message("DBIRTH", metrics),
        ]

    def data(self, **numbers: float) -> tuple[str, bytes]:
        """Return some values by their aliases; ``a1`` is alias 1."""
        metrics = [
            metric(number, alias=int(key[1:]), tell_kind=False)
            for key, number in numbers.items()
        ]
        return self._message("DDATA", metrics)

    def device_death(self) -> tuple[str, bytes]:
        """Return the death of the device."""
        return self._message("DDEATH", [])

    def restart(self) -> None:
        """Begin the next session."""
        self.session = (self.session + 1) % 256


def asks_for_birth(content: bytes) -> bool:
    """Tell whether a command asks for a rebirth; by its bytes."""
    return b"Node Control/Rebirth" in content and bytes([14 << 3, 1]) in content
