"""Sparkplug B: who is alive, what an alias means, and what was measured.

A device of this kind names its metrics once, in its birth, and sends numbers
(aliases) from then on; what a message says depends on those before it. This
is the host's side of that conversation as the Sparkplug 3.0 specification
sets it out, as a function of the messages in their order: no clock and no
network. What it would like to say, that a node be born again, is handed out
by :meth:`Host.rebirths` to whoever is allowed to say it.

Points are addressed by ``Source.topic = "spBv1.0/<group>/<node>[/<device>]"``
and ``Source.pointer``, the metric's name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from ingest.payload import UnreadableError, instant, milliseconds, too_long, value
from ingest.reading import Flag, Reading, Rejection, Source
from twin.points import nearest

NAMESPACE = "spBv1.0"
TOLD = "birth or death"
"""Reason of a message that carries none of our values, and needs to carry none."""
# MQTT keeps the order of each topic only, so what is missing may still come. [ms]
_REORDER_MESSAGES, _REORDER_MS = 10, 2000
# A will can overtake the birth of the session that it ends. [ms]
_OVERTAKEN_MS = 1000
_ASK_AGAIN_MS = 60_000
_FORMAT = 1

_KINDS = ("BIRTH", "DATA", "DEATH")
_QUALITY, _GOOD = b"Quality", 192
_BOOLEAN = 11
# The numbers of the data types that are signed, and their bits.
_SIGNED = {1: 8, 2: 16, 3: 32, 4: 64}
# Stamps in this span are ms since 1970 beyond doubt.
_MS_LOW, _MS_HIGH = 100_000_000_000, 100_000_000_000_000


def _schema() -> Any:
    """Return the class of a payload, from the numbers of the fields we read.

    Text is declared as bytes, which is the same on the wire: a name that is
    not UTF-8 then is a name that nobody asked for, and not a fault. Tables and
    templates are left folded up for the same reason.
    """
    kinds = {
        "string": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
        "uint64": descriptor_pb2.FieldDescriptorProto.TYPE_UINT64,
        "uint32": descriptor_pb2.FieldDescriptorProto.TYPE_UINT32,
        "float": descriptor_pb2.FieldDescriptorProto.TYPE_FLOAT,
        "double": descriptor_pb2.FieldDescriptorProto.TYPE_DOUBLE,
        "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    }
    scalars = ["int uint32", "long uint64", "float float", "double double"]
    scalars += ["boolean bool", "string string"]
    folded = ["bytes string", "dataset string", "template string", "extension string"]
    layout = {
        "Payload": ["1 timestamp uint64", "2 metrics Metric *", "3 seq uint64"],
        "Metric": [
            "1 name string",
            "2 alias uint64",
            "3 timestamp uint64",
            "4 datatype uint32",
            "5 is_historical bool",
            "7 is_null bool",
            "9 properties PropertySet",
        ],
        "PropertySet": ["1 keys string *", "2 values PropertyValue *"],
        "PropertyValue": ["1 type uint32", "2 is_null bool"],
    }
    values = {"Metric": (10, scalars + folded), "PropertyValue": (3, scalars)}
    file = descriptor_pb2.FileDescriptorProto(name="sparkplug", package="sparkplug")
    for title, lines in layout.items():
        made = file.message_type.add(name=title)
        first, choices = values.get(title, (0, []))
        if choices:
            made.oneof_decl.add(name="value")
        choices = [
            f"{first + place} {kind.replace(' ', '_value ')}"
            for place, kind in enumerate(choices)
        ]
        for line in (*lines, *choices):
            number, name, kind, *many = line.split()
            entry = made.field.add(name=name, number=int(number))
            entry.label = entry.LABEL_REPEATED if many else entry.LABEL_OPTIONAL
            if kind in kinds:
                entry.type = kinds[kind]
            else:
                entry.type, entry.type_name = entry.TYPE_MESSAGE, f".sparkplug.{kind}"
            if line in choices:
                entry.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName("sparkplug.Payload")
    return message_factory.GetMessageClass(found)


_Payload = _schema()


def rebirth_payload(now_ms: int) -> bytes:
    """Return the command that asks a node for its births, as of ``now_ms``."""
    made = _Payload(timestamp=now_ms)
    made.metrics.add(
        name=b"Node Control/Rebirth",
        timestamp=now_ms,
        datatype=_BOOLEAN,
        boolean_value=True,
    )
    return bytes(made.SerializeToString(deterministic=True))


def address(topic: str) -> tuple[str, str]:
    """Return the node, as ``group/node``, and the device (or "") of a source.

    Raises
    ------
    ValueError
        If the topic is no such address, with what one looks like.
    """
    parts = topic.split("/")
    if len(parts) not in (3, 4) or parts[0] != NAMESPACE or not all(parts):
        raise ValueError(
            f"{topic!r} is no address of Sparkplug B; write"
            f' "{NAMESPACE}/<group>/<edge node>" or "{NAMESPACE}/<group>/<edge node>'
            '/<device>"'
        )
    return f"{parts[1]}/{parts[2]}", parts[3] if len(parts) == 4 else ""


_Known = tuple[Sequence[Source], int]
_NOBODY: _Known = ((), 0)


@dataclass(slots=True)
class _Device:
    """A device, or the node itself, whose name is "".

    ``metrics`` is what its birth told: name, alias and data type. ``told_ms``
    is the birth's own time, ``heard_ms`` when we had it.
    """

    wanted: dict[bytes, tuple[Source, ...]]
    born: bool = False
    metrics: list[tuple[bytes, int | None, int]] = field(default_factory=list)
    told_ms: int | None = None
    heard_ms: int = 0
    seq: int | None = None
    stale_ms: int | None = None
    by_alias: dict[int, _Known] = field(default_factory=dict)
    by_name: dict[bytes, _Known] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Hold nothing that a birth told."""
        self.learn([])
        self.born = False

    def learn(self, metrics: list[tuple[bytes, int | None, int]]) -> None:
        self.born, self.metrics = True, metrics
        self.by_alias = {}
        self.by_name = {name: (sources, 0) for name, sources in self.wanted.items()}
        for name, alias, kind in metrics:
            known = (self.wanted.get(name, ()), kind)
            self.by_name[name] = known
            if alias is not None:
                self.by_alias[alias] = known


@dataclass(slots=True)
class _Node:
    """An edge node: its session, where its sequence stands, its devices.

    ``missing`` holds, for each message that should have been here, when the
    gap was seen: after how many messages and at what time. ``ended`` is the
    session of the last death, and when we had it.
    """

    devices: dict[str, _Device]
    session: int | None = None
    ended: tuple[int | None, int] | None = None
    next: int | None = None
    missing: dict[int, tuple[int, int]] = field(default_factory=dict)
    messages: int = 0
    awaiting: str = ""


class Host:
    """Reads the messages of edge nodes, in the order in which they arrive.

    Parameters
    ----------
    sources : iterable of Source
        Those of format ``"sparkplug"`` are read, the others passed over.

    Attributes
    ----------
    changed : bool
        Whether what a birth, a death or a gap told is not in a snapshot yet.
    """

    def __init__(self, sources: Iterable[Source]) -> None:
        self._sources = tuple(each for each in sources if each.format == "sparkplug")
        self._empty()

    def _empty(self) -> None:
        wanted: dict[str, dict[str, dict[bytes, tuple[Source, ...]]]] = {}
        for source in self._sources:
            name, device = address(source.topic)
            metrics = wanted.setdefault(name, {"": {}}).setdefault(device, {})
            metric = source.pointer.encode("utf-8", "surrogateescape")
            metrics[metric] = (*metrics.get(metric, ()), source)
        self._nodes = {
            name: _Node({title: _Device(of) for title, of in devices.items()})
            for name, devices in wanted.items()
        }
        self._routes: dict[str, tuple[_Node, str, str, str]] = {}
        for name, node in self._nodes.items():
            group, edge = name.split("/")
            for title in node.devices:
                for kind in _KINDS:
                    letter = "D" if title else "N"
                    tail = f"/{title}" if title else ""
                    topic = f"{NAMESPACE}/{group}/{letter}{kind}/{edge}{tail}"
                    self._routes[topic] = (node, name, title, kind)
        self._now = 0
        self._asked: dict[str, int] = {}
        self.changed = False

    def topics(self) -> tuple[str, ...]:
        """Return the topics that must be read, none with a wildcard."""
        return tuple(self._routes)

    def read(
        self, topic: str, payload: bytes, received_ms: int, retained: bool = False
    ) -> list[Reading | Rejection]:
        """Read one message and remember what it tells.

        Parameters
        ----------
        topic : str
            Where it arrived, one of :meth:`topics`.
        payload : bytes
            What arrived.
        received_ms : int
            When, in ms since 1970: the time of metrics that have none.
        retained : bool
            The broker kept it; a metric without a time is then no reading.

        Returns
        -------
        list of Reading or Rejection
            Never none, never an exception. A value whose ``Quality`` is not
            good is a reading with :attr:`Flag.QUALITY`.
        """
        route = self._routes.get(topic)
        if route is None:
            detail = f"no Sparkplug point is read from {topic!r}"
            return [Rejection(topic, "", "", "unmapped topic", detail[:300])]
        if refused := too_long(topic, payload):
            return [refused]
        try:
            content = _Payload.FromString(payload)
        except message.DecodeError:
            detail = f"{len(payload)} bytes that are no Sparkplug B payload"
            return [Rejection(topic, "", "", "not Sparkplug", detail)]
        node, name, title, kind = route
        device = node.devices[title]
        self._now = received_ms
        if kind == "DATA":
            self._follow(node, content, received_ms)
            self._revive(node, device, received_ms)
        elif kind == "DEATH":
            self._died(node, device, content, received_ms)
            return [_told(topic, f"{title or name} is dead; nothing is read from that")]
        elif title:
            self._device_born(node, device, content, received_ms)
        else:
            self._node_born(node, device, content, received_ms)
        judged = _QUALITY in payload
        found, unknown = _metrics(
            topic, device, content, received_ms, retained, judged=judged
        )
        if kind == "BIRTH":
            found.extend(_unborn(topic, device))
            return found or [_told(topic, f"{title or name} is born; nothing is read")]
        if unknown or not node.devices[""].born:
            if not node.awaiting:
                self._await(node, "has sent data before any birth that is known here")
            if unknown:
                which = ", ".join(map(str, unknown[:5]))
                more = ", ..." if len(unknown) > 5 else ""
                detail = f"no birth tells what alias {which}{more} is; {_remedy(name)}"
                found.append(Rejection(topic, "", "", "unknown alias", detail))
        if not found:
            detail = "none of its metrics is mapped to a point"
            found.append(Rejection(topic, "", "", "no known point", detail))
        return found

    def stale(self) -> dict[tuple[str, str], int]:
        """Return the (unit, point) of what is dead, and since when in ms.

        Not among them is what has not been heard of at all.
        """
        return {
            (source.unit, source.point): device.stale_ms
            for node in self._nodes.values()
            for device in node.devices.values()
            if device.stale_ms is not None
            for sources in device.wanted.values()
            for source in sources
        }

    def awaiting(self) -> dict[str, str]:
        """Return the nodes whose birth is waited for, and why."""
        waiting = {
            name: node.awaiting or _overdue(node, self._now)
            for name, node in self._nodes.items()
        }
        return {name: why for name, why in waiting.items() if why}

    def problem(self, *, asking: bool) -> str:
        """Return what a person should know of it, "" while all is well.

        ``asking`` says whether somebody publishes what :meth:`rebirths` gives.
        """
        waiting = self.awaiting()
        if not waiting:
            return ""
        name, why = next(iter(waiting.items()))
        others = f" (and {len(waiting) - 1} more)" if len(waiting) > 1 else ""
        remedy = "it has been asked for its birth" if asking else _remedy(name)
        return f"Sparkplug node {name}{others} {why}; {remedy}"

    def rebirths(self) -> list[str]:
        """Return the topics on which a rebirth is to be asked for now.

        Each at most once a minute, by the time at which messages arrive.
        """
        due = []
        for name in self.awaiting():
            asked = self._asked.get(name)
            if asked is None or abs(self._now - asked) >= _ASK_AGAIN_MS:
                self._asked[name] = self._now
                group, edge = name.split("/")
                due.append(f"{NAMESPACE}/{group}/NCMD/{edge}")
        return due

    def snapshot(self) -> bytes:
        """Return all it knows, so that another one understands the next message."""
        nodes = {
            name: {
                "session": node.session,
                "ended": node.ended,
                "next": node.next,
                "missing": [[seq, *seen] for seq, seen in node.missing.items()],
                "messages": node.messages,
                "awaiting": node.awaiting,
                "devices": {
                    title: {
                        "born": device.born,
                        "metrics": [
                            [name.decode("utf-8", "surrogateescape"), alias, kind]
                            for name, alias, kind in device.metrics
                        ],
                        "told": device.told_ms,
                        "heard": device.heard_ms,
                        "seq": device.seq,
                        "stale": device.stale_ms,
                    }
                    for title, device in node.devices.items()
                },
            }
            for name, node in self._nodes.items()
        }
        document = {"format": _FORMAT, "now": self._now, "nodes": nodes}
        text = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
        self.changed = False
        return hashlib.sha256(text).hexdigest().encode() + b"\n" + text

    def restore(self, content: bytes) -> None:
        """Know what a snapshot knew, of the nodes that are still configured.

        Raises
        ------
        ValueError
            If it is damaged or none of ours; nothing is known then.
        """
        self._empty()
        digest, _, text = content.partition(b"\n")
        if hashlib.sha256(text).hexdigest().encode() != digest:
            raise ValueError("what was remembered of Sparkplug nodes is damaged")
        document = json.loads(text)
        if not isinstance(document, dict) or document.get("format") != _FORMAT:
            raise ValueError(
                "what was remembered of Sparkplug nodes is of another version"
            )
        self._now = document["now"]
        for name, kept in document["nodes"].items():
            node = self._nodes.get(name)
            if node is None:
                continue
            node.session, node.next = kept["session"], kept["next"]
            node.ended = tuple(kept["ended"]) if kept["ended"] else None
            node.missing = {seq: (count, ms) for seq, count, ms in kept["missing"]}
            node.messages, node.awaiting = kept["messages"], kept["awaiting"]
            for title, known in kept["devices"].items():
                device = node.devices.get(title)
                if device is None:
                    continue
                if known["born"]:
                    device.learn(
                        [
                            (text.encode("utf-8", "surrogateescape"), alias, kind)
                            for text, alias, kind in known["metrics"]
                        ]
                    )
                device.told_ms, device.heard_ms = known["told"], known["heard"]
                device.seq, device.stale_ms = known["seq"], known["stale"]

    def _node_born(
        self, node: _Node, device: _Device, content: Any, received_ms: int
    ) -> None:
        session = _session(content)
        told = content.timestamp if content.HasField("timestamp") else None
        seq = content.seq if content.HasField("seq") else None
        node.session, node.missing, node.awaiting = session, {}, ""
        node.next = None if seq is None else (seq + 1) & 255
        early: set[int | None] = set()
        for title, other in node.devices.items():
            if not title:
                continue
            # Its birth may have overtaken this one, which comes before it.
            fresh = other.born and received_ms - other.heard_ms < _REORDER_MS
            if fresh and told is not None and (other.told_ms or 0) >= told:
                early.add(other.seq)
                continue
            other.forget()
            if other.stale_ms is None:
                other.stale_ms = received_ms
        while node.next is not None and node.next in early:
            early.discard(node.next)
            node.next = (node.next + 1) & 255
        self._learn(device, content, received_ms, seq)
        # What its own will has overtaken has ended already, or was started again
        # at once under the same number: only another birth can tell.
        if node.ended is not None:
            ended, at = node.ended
            if ended == session and abs(received_ms - at) < _OVERTAKEN_MS:
                for each in node.devices.values():
                    each.stale_ms = at
                self._await(node, "was reported dead just before its birth")

    def _device_born(
        self, node: _Node, device: _Device, content: Any, received_ms: int
    ) -> None:
        self._follow(node, content, received_ms)
        seq = content.seq if content.HasField("seq") else None
        self._learn(device, content, received_ms, seq)
        if not node.devices[""].born:
            self._await(node, "has sent a device's birth before its own")

    def _learn(
        self, device: _Device, content: Any, received_ms: int, seq: int | None
    ) -> None:
        device.learn(
            [
                (
                    metric.name,
                    metric.alias if metric.HasField("alias") else None,
                    metric.datatype,
                )
                for metric in content.metrics
            ]
        )
        device.told_ms = content.timestamp if content.HasField("timestamp") else None
        device.heard_ms, device.seq, device.stale_ms = received_ms, seq, None
        self.changed = True

    def _died(
        self, node: _Node, device: _Device, content: Any, received_ms: int
    ) -> None:
        self.changed = True
        if device is not node.devices[""]:
            self._follow(node, content, received_ms)
            told = content.timestamp if content.HasField("timestamp") else None
            if told is not None and told < (device.told_ms or 0):
                return  # of an earlier life; its next birth was faster
            device.forget()
            device.stale_ms = received_ms
            return
        session = _session(content)
        mine = None in (session, node.session) or session == node.session
        if not mine and not 0 < (session - node.session) % 256 < 128:  # type: ignore[operator]
            return  # the will of an older session, which the new one has replaced
        node.ended = (session, received_ms)
        for each in node.devices.values():
            if each.stale_ms is None:
                each.stale_ms = received_ms
            # The will of a session not heard of yet leaves what is known: its
            # birth is on the way, or its count began anew.
            if mine:
                each.forget()
        if mine:
            node.session, node.next, node.missing = None, None, {}

    def _revive(self, node: _Node, device: _Device, received_ms: int) -> None:
        """Take data from what is called dead, yet still known, as a sign of life."""
        if device.stale_ms is None or not device.born:
            return
        if received_ms - device.stale_ms >= _OVERTAKEN_MS:
            device.stale_ms = None
            node.awaiting = ""
            self.changed = True

    def _follow(self, node: _Node, content: Any, received_ms: int) -> None:
        """Follow the count of a node's messages, 0 to 255 and round again."""
        if not content.HasField("seq"):
            return
        seq = content.seq
        node.messages += 1
        if seq == node.next or node.next is None or seq > 255:
            node.next = (seq + 1) & 255
        elif node.missing.pop(seq, None) is None:
            ahead = (seq - node.next) & 255
            # A little behind is one that came twice.
            if ahead < 256 - _REORDER_MESSAGES:
                for step in range(ahead):
                    gap = (node.next + step) & 255
                    node.missing[gap] = (node.messages, received_ms)
                node.next = (seq + 1) & 255
        if node.missing and (why := _overdue(node, received_ms)):
            self._await(node, why)
            node.missing = {}

    def _await(self, node: _Node, why: str) -> None:
        node.awaiting = why
        self.changed = True


def _overdue(node: _Node, now_ms: int) -> str:
    """Return what is missing and can hardly be on its way any more, or ""."""
    # A copy, because another thread may ask while one reads.
    for count, seen_ms in list(node.missing.values()):
        waited = node.messages - count
        if waited >= _REORDER_MESSAGES or now_ms - seen_ms >= _REORDER_MS:
            number = len(node.missing)
            lost = "a message" if number <= 1 else f"{number} messages"
            return f"has sent {lost} that did not arrive"
    return ""


def _remedy(name: str) -> str:
    return f"set mqtt.rebirth = true, and {name} is asked for its births, or restart it"


def _told(topic: str, detail: str) -> Rejection:
    """Return that a message told of life and death and of nothing else."""
    return Rejection(topic, "", "", TOLD, detail)


def _session(content: Any) -> int | None:
    for metric in content.metrics:
        if metric.name == b"bdSeq":
            which = metric.WhichOneof("value")
            return (
                getattr(metric, which) if which in ("int_value", "long_value") else None
            )
    return None


def _unborn(topic: str, device: _Device) -> list[Rejection]:
    """Return what is to be read and stands in no birth: a name spelt otherwise."""
    names = {name for name, _, _ in device.metrics}
    missing = [name for name in device.wanted if name not in names]
    if not missing:
        return []
    shown = [name.decode("utf-8", "replace") for name in sorted(names)[:300]]
    found = []
    for name in missing:
        for source in device.wanted[name]:
            near = nearest(source.pointer, shown)
            remedy = f"did you mean {near[:60]!r}" if near else "see the device's list"
            detail = f"its birth has no metric {source.pointer[:60]!r}; {remedy}"
            found.append(
                Rejection(topic, source.unit, source.point, "not in the birth", detail)
            )
    return found


def _metrics(
    topic: str,
    device: _Device,
    content: Any,
    received_ms: int,
    retained: bool,
    *,
    judged: bool,
) -> tuple[list[Reading | Rejection], list[int]]:
    """Return what is read, and the aliases that no birth has told of.

    ``judged`` says whether any metric may carry the device's own judgement.
    Twenty metrics a message pass here, so each access of the parsed message
    is paid for twenty times.
    """
    by_alias, by_name = device.by_alias, device.by_name
    sent_ms = 0
    new = tuple.__new__
    found: list[Reading | Rejection] = []
    unknown: list[int] = []
    for metric in content.metrics:
        name = metric.name
        if name:
            sources, kind = by_name.get(name, _NOBODY)
        else:
            alias = metric.alias
            known = by_alias.get(alias)
            if known is None or not (alias or metric.HasField("alias")):
                unknown.append(alias)
                continue
            sources, kind = known
        for source in sources:
            try:
                time_ms = metric.timestamp
                if not time_ms:  # as good as none: a clock that was never set
                    if metric.is_historical:
                        raise UnreadableError(
                            "historical without a time",
                            "a historical value must have a time of its own",
                        )
                    sent_ms = sent_ms or _sent(content, received_ms, retained)
                    time_ms = sent_ms
                elif not _MS_LOW <= time_ms < _MS_HIGH:
                    time_ms = milliseconds(time_ms)
                which = metric.WhichOneof("value")
                if metric.is_null or which is None:
                    raise UnreadableError("null", "null where a number belongs")
                raw = getattr(metric, which)
                if which == "double_value" or which == "float_value":
                    si = source.scale * raw + source.offset
                    if not isfinite(si):
                        raise UnreadableError("not finite", f"{raw} is not finite")
                elif which == "int_value" or which == "long_value":
                    si = value(_signed(raw, metric.datatype or kind), source)
                elif which == "boolean_value":
                    si = value(raw, source)
                else:
                    what = which.removesuffix("_value")
                    raise UnreadableError(
                        "not a number", f"a {what} where a number belongs"
                    )
                flag = ""
                if judged and not _good(metric.properties):
                    flag = Flag.QUALITY.value
                # Reading(...) goes through Python code, at twice the price.
                found.append(
                    new(Reading, (source.unit, source.point, time_ms, si, flag))
                )
            except UnreadableError as error:
                found.append(
                    Rejection(
                        topic, source.unit, source.point, error.reason, str(error)
                    )
                )
    return found, unknown


def _sent(content: Any, received_ms: int, retained: bool) -> int:
    stamp = content.timestamp or None
    return instant(stamp, received_ms, retained=retained, what="message")


def _signed(number: int, kind: int) -> int:
    bits = _SIGNED.get(kind)
    if bits is None:
        return number
    number &= (1 << bits) - 1
    return number - (1 << bits) if number >> (bits - 1) else number


def _good(properties: Any) -> bool:
    """Tell whether the device trusts its value; it does where it says nothing."""
    for key, quality in zip(properties.keys, properties.values, strict=False):
        if key == _QUALITY:
            which = quality.WhichOneof("value")
            if which in ("int_value", "long_value"):
                return bool(getattr(quality, which) == _GOOD)
            return False
    return True
