"""Whether broker, archive and state are as configured: ``hptwin check --online``.

It listens for a few seconds beside the service that may be running, takes
nothing away from it, and writes nothing unless asked to.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ingest.archive import ArchiveError, ArchiveUnavailableError
from ingest.archive.influx import InfluxArchive
from ingest.archive.table import ms
from ingest.broker import DROPPED, VERSION, BrokerError, probe
from ingest.decoder import Decoder
from ingest.journal import Message
from twin.service.config import ArchiveConfig, Config, open_configured
from twin.service.state import look


@dataclass(frozen=True, slots=True)
class Topic:
    """What was heard on a topic.

    ``unreadable`` says why no reading came of its messages, or of some; a
    topic that was silent may just speak seldom.
    """

    topic: str
    points: tuple[str, ...]
    allowed: bool
    messages: int
    retained: bool
    unreadable: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Online:
    """What was found out there."""

    broker: str
    broker_problems: tuple[str, ...]
    notes: tuple[str, ...]
    topics: tuple[Topic, ...]
    archive: str
    archive_problems: tuple[str, ...]
    state: str
    state_problems: tuple[str, ...]

    @property
    def fine(self) -> bool:
        """Whether the service can work with all of them."""
        return not (
            self.broker_problems or self.archive_problems or self.state_problems
        )

    @property
    def silent(self) -> tuple[Topic, ...]:
        """The topics that may be read and said nothing."""
        return tuple(t for t in self.topics if t.allowed and not t.messages)

    def to_dict(self) -> dict[str, Any]:
        """Return it as one JSON object."""
        return {
            "broker": {
                "found": self.broker,
                "problems": list(self.broker_problems),
                "notes": list(self.notes),
                "topics": [
                    {
                        "topic": each.topic,
                        "points": list(each.points),
                        "allowed": each.allowed,
                        "messages": each.messages,
                        "retained": each.retained,
                        "unreadable": list(each.unreadable),
                    }
                    for each in self.topics
                ],
            },
            "archive": {
                "found": self.archive,
                "problems": list(self.archive_problems),
            },
            "state": {"found": self.state, "problems": list(self.state_problems)},
        }

    def lines(self) -> Iterator[str]:
        """Yield what a person reads."""
        yield f"broker: {self.broker or 'not reached'}"
        for each in self.topics:
            points = ", ".join(each.points[:3])
            if len(each.points) > 3:
                points += f" and {len(each.points) - 3} more"
            if not self.broker:
                continue
            if not each.allowed:
                yield f"  refused   {each.topic} ({points})"
            elif not each.messages:
                yield f"  silent    {each.topic} ({points})"
            elif each.unreadable:
                yield f"  unread    {each.topic}: {each.unreadable[0]}"
            else:
                number = f"{each.messages} message{'s'[: each.messages != 1]}"
                kept = ", one of them retained" if each.retained else ""
                yield f"  heard     {each.topic}: {number}{kept}"
        for problem in self.broker_problems:
            yield f"  problem: {problem}"
        for note in self.notes:
            yield f"  note: {note}"
        for name, found, problems in (
            ("archive", self.archive, self.archive_problems),
            ("state", self.state, self.state_problems),
        ):
            yield f"{name}: {found or 'not reached'}"
            for problem in problems:
                yield f"  problem: {problem}"


def online(
    config: Config, now: datetime, *, seconds: float = 5.0, write_test: bool = False
) -> Online:
    """Look at the broker, the archive and the state.

    Parameters
    ----------
    config : Config
        Where they are.
    now : datetime
        The present; the time of the point that a write test writes.
    seconds : float
        How long to listen. [s]
    write_test : bool
        Write one point to an InfluxDB and read it back.
    """
    decoder = Decoder(config.sources)
    topics = decoder.topics()
    found = ""
    problems: list[str] = []
    notes: list[str] = []
    heard: tuple[Message, ...] = ()
    refused = topics
    try:
        seen = probe(config.mqtt, topics, seconds)
    except BrokerError as error:
        problems.append(str(error))
    else:
        heard, refused = seen.messages, seen.refused
        if seen.problem:
            problems.append(seen.problem)
        else:
            version = seen.system.get(VERSION, "it does not say which")
            found = f"{config.mqtt.host}:{config.mqtt.port}, {version}"
        if found and refused:
            problems.append(
                f"it does not let us read {len(refused)} of {len(topics)} topics; "
                "look at its access control for our name and client id"
            )
        dropped = seen.system.get(DROPPED, "0")
        if dropped.isdigit() and int(dropped):
            notes.append(
                f"it has dropped {dropped} messages since it started; see "
                "max_queued_messages in deploy/mosquitto.conf"
            )
    # A retained message without a time is no sample, and may well be as it
    # should: whether it can be read is the question here.
    decoded = decoder.decode([message._replace(retained=False) for message in heard])
    unread: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for place, rejection in decoded.rejected:
        unread[heard[place].topic][f"{rejection.reason}: {rejection.detail}"] = None
    numbers = Counter(message.topic for message in heard)
    kept = {message.topic for message in heard if message.retained}
    points: defaultdict[str, list[str]] = defaultdict(list)
    for source in config.sources:
        points[source.topic].append(f"{source.unit}.{source.point}")
    looked = tuple(
        Topic(
            topic,
            tuple(points[topic]),
            topic not in refused,
            numbers[topic],
            topic in kept,
            tuple(unread[topic]),
        )
        for topic in topics
    )
    for each in looked:
        if each.unreadable:
            problems.append(f"{each.topic} is not as configured: {each.unreadable[0]}")
    silent = [each.topic for each in looked if each.allowed and not each.messages]
    if found and silent:
        notes.append(
            f"{len(silent)} of {len(topics)} topics said nothing for {seconds:g} s: "
            "they are spelt otherwise, or speak seldom, and then --seconds 120 hears "
            "them"
        )
    archive, lacking = _looked_at(config.archive, ms(now) if write_test else None)
    state, wanting = look(config)
    return Online(
        found,
        tuple(problems),
        tuple(notes),
        looked,
        archive,
        tuple(lacking),
        state,
        tuple(wanting),
    )


def _looked_at(
    config: ArchiveConfig, write_test_ms: int | None
) -> tuple[str, list[str]]:
    """Return what the archive is, and what it lacks."""
    try:
        archive = open_configured(config, read_only=True)
    except (ArchiveError, OSError) as error:
        return "", [str(error)]
    try:
        if isinstance(archive, InfluxArchive):
            seen = archive.inspect(write_test_ms=write_test_ms)
            name = f'InfluxDB {seen.version}, database or bucket "{config.database}"'
            return name if seen.version else "", list(seen.problems)
        units = archive.units()
        problems = []
        if not os.access(config.path, os.W_OK):
            problems.append(f"{config.path} is not writable for this user")
        return f"{config.path}, with readings of {len(units)} units", problems
    except (ArchiveError, ArchiveUnavailableError) as error:
        return "", [str(error)]
    finally:
        archive.close()
