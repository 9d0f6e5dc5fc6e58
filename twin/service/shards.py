"""Several processes beside one plant: who reads which units, and who judges.

What a unit sends goes through one process, so its order is kept; which one is
worked out from its name alone, and nobody has to agree on anything. Whole is the
plant only in the archive that all of them write to: there one of them reads it,
judges its days, keeps the ledger, raises alarms and sends them. It leads by a
lease in the state database, and when it is gone another does.

The lease and the reports go by the database's clock: hosts have their own.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from twin.service.config import ConfigError, Problem
from twin.service.results import instant, parse_instant

if TYPE_CHECKING:
    from twin.service.config import Config
    from twin.service.state import State

MOST = 256
"""How many shards there may be."""
_FORM = re.compile(r"(\d{1,3})/(\d{1,3})")
_LEASE = "lease/judge"
_REPORT = "shard/"


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """One of ``count`` processes that share the units of a plant.

    Examples
    --------
    >>> Shard.parse("0/4").owns("hp1"), Shard.parse("1/4").owns("hp1")
    (True, False)
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``0/4``.

        Raises
        ------
        ValueError
            If it is none; the sentence says what is right.
        """
        found = _FORM.fullmatch(text.strip())
        if found is None:
            raise ValueError(f'"{text}" is no shard; write 0/4 for the first of four')
        index, count = int(found[1]), int(found[2])
        if not 1 <= count <= MOST:
            raise ValueError(f'"{text}": there may be 1 to {MOST} shards')
        if index >= count:
            raise ValueError(
                f'"{text}": the shards of {count} are 0/{count} to {count - 1}/{count}'
            )
        return cls(index, count)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def name(self) -> str:
        """The shard as part of a file's name or of a client id."""
        return f"{self.index}-of-{self.count}"

    @property
    def others(self) -> tuple[Shard, ...]:
        """The shards that read what this one does not."""
        every = (Shard(index, self.count) for index in range(self.count))
        return tuple(shard for shard in every if shard != self)

    def owns(self, unit: str) -> bool:
        """Return whether a unit is read by this shard."""
        return owner(unit, self.count) == self.index


def owner(unit: str, count: int) -> int:
    """Return which of ``count`` shards reads a unit: rendezvous hashing [1]_.

    Every shard draws a number for the unit, the same in every process, and the
    highest has it. One shard more takes units from the others and moves none
    between them.

    References
    ----------
    .. [1] D. G. Thaler and C. V. Ravishankar, "Using name-based mappings to
       increase hit rates", IEEE/ACM Trans. Netw., vol. 6, no. 1, 1998.

    Examples
    --------
    >>> [owner(unit, 3) for unit in ("hp1", "hp2", "hp3", "site")]
    [0, 0, 2, 0]
    """
    return max(range(count), key=lambda shard: (_drawn(unit, shard), shard))


def _drawn(unit: str, shard: int) -> bytes:
    return hashlib.sha256(f"{shard} {unit}".encode()).digest()


def share(config: Config, shard: Shard) -> Config:
    """Return what one shard reads, under a name of its own at the broker.

    The plant stays whole: its units are read from an archive that all share.

    Raises
    ------
    ConfigError
        If archive or state cannot be shared.
    """
    problems = []

    def wrong(key: str, value: str, sentence: str, remedy: str) -> None:
        problems.append(Problem(str(config.file), key, value, sentence, remedy))

    if config.archive.kind != "influxdb":
        wrong(
            "archive.kind",
            f'"{config.archive.kind}"',
            "is written by one process, and shards are several",
            'write "influxdb" and its url',
        )
    if not config.state.url:
        wrong(
            "state.url",
            "",
            "is missing, and shards share one state",
            'write url = "postgresql://hptwin@db.example.org/hptwin"',
        )
    if problems:
        raise ConfigError(problems)
    sources = tuple(source for source in config.sources if shard.owns(source.unit))
    mqtt = replace(config.mqtt, client_id=f"{config.mqtt.client_id}-{shard.name}")
    return replace(config, sources=sources, mqtt=mqtt)


@dataclass(frozen=True, slots=True)
class Report:
    """What a shard last said of itself.

    ``age_s`` is how long ago. [s] ``settled`` is the midnight until which all
    that it has received is in the archive, None before the first. UTC.
    """

    by: str
    age_s: float
    settled: datetime | None


class Roster:
    """Who is there, and whether we lead.

    Parameters
    ----------
    state : State
        Where the lease and the reports are.
    shard : Shard
        Which one we are.
    lease_s : float
        How long a lease lasts that is not renewed, and from which age a report
        is of one that is gone. [s]
    steady : callable
        Seconds that only ever grow, by which we stop leading of ourselves. [s]

    Attributes
    ----------
    term : int
        How often we have begun to lead.
    """

    def __init__(
        self,
        state: State,
        shard: Shard,
        *,
        lease_s: float = 60.0,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.shard, self.term = shard, 0
        self.me = f"{socket.gethostname()} {os.getpid()} {secrets.token_hex(4)}"
        self._state, self._lease_s, self._steady = state, lease_s, steady
        self._lock = threading.Lock()
        self._held_until = -1.0
        self._reports: dict[Shard, Report] = {}
        self._reported = False
        self._rival = ""

    @property
    def leads(self) -> bool:
        """Whether we lead now.

        Whoever cannot reach the database stops of itself, and before another one
        can begin: its own clock began to run before the lease did.
        """
        return self._steady() < self._held_until

    def report(self, settled: datetime | None) -> bool:
        """Say that we are there and how far, and lead on or begin to if nobody does.

        Parameters
        ----------
        settled : datetime, optional
            See :class:`Report`.

        Returns
        -------
        bool
            Whether we lead.

        Raises
        ------
        twin.service.state.StateUnavailableError
            If the database does not answer; we lead until the lease is over.
        """
        begun = self._steady()
        with self._lock:
            with self._state.alone() as kept:
                now = kept.clock()
                told = {
                    Shard.parse(name.removeprefix(_REPORT)): json.loads(text)
                    for name, text in kept.facts(_REPORT).items()
                }
                lease = json.loads(kept.fact(_LEASE) or "{}")
                ours = bool(lease.get("by") == self.me)
                leads = ours or float(lease.get("until", 0.0)) <= now
                facts = {
                    f"{_REPORT}{self.shard}": _written(
                        by=self.me,
                        time=now,
                        settled=None if settled is None else instant(settled),
                    )
                }
                if leads:
                    facts[_LEASE] = _written(by=self.me, until=now + self._lease_s)
                kept.save(facts=facts)
            self._take(told, now)
            if not leads:
                self._held_until = -1.0
            else:
                if not (ours and self.leads):
                    self.term += 1
                self._held_until = begun + self._lease_s
        return leads

    def _take(self, told: Mapping[Shard, Mapping[str, Any]], now: float) -> None:
        self._reports = {
            shard: Report(
                by=one["by"],
                age_s=now - one["time"],
                settled=None
                if one["settled"] is None
                else parse_instant(one["settled"]),
            )
            for shard, one in told.items()
        }
        before = self._reports.get(self.shard)
        # The process before us left a report too, and does not write another.
        twice = self._reported and before is not None and before.by != self.me
        self._rival = before.by if before is not None and twice else ""
        self._reported = True

    def leave(self) -> None:
        """Be gone at once: nobody need wait for the end of our lease."""
        mine = f"{_REPORT}{self.shard}"
        with self._lock:
            self._held_until = -1.0
            with self._state.alone() as kept:
                lease = json.loads(kept.fact(_LEASE) or "{}")
                report = json.loads(kept.fact(mine) or "{}")
                facts = {}
                if lease.get("by") == self.me:
                    facts[_LEASE] = _written(by="", until=0.0)
                if report.get("by") == self.me:
                    # How far it has settled stays true.
                    facts[mine] = _written(**{**report, "time": 0.0})
                kept.save(facts=facts)

    def absent(self) -> list[Shard]:
        """Return the other shards that say nothing; none before we have looked."""
        if not self._reported:
            return []
        return [shard for shard in self.shard.others if not self._there(shard)]

    def unsettled(self, day: datetime) -> list[Shard]:
        """Return the other shards that may still have readings until a midnight."""
        found = []
        for shard in self.shard.others:
            report = self._reports.get(shard)
            if report is None or report.settled is None or report.settled < day:
                found.append(shard)
        return found

    def problems(self) -> list[str]:
        """Return what is wrong with how the plant is shared."""
        found = []
        if absent := self.absent():
            found.append(
                f"shard {', '.join(map(str, absent))} does not report: nobody reads "
                "its units; what they send waits with the broker"
            )
        if self._rival:
            found.append(
                f"shard {self.shard} runs twice: {self.me} and {self._rival}; end one"
            )
        others = [
            str(shard)
            for shard in sorted(self._reports)
            if shard.count != self.shard.count and self._there(shard)
        ]
        if others:
            found.append(
                f"shard {', '.join(others)} runs too, of another cut than {self.shard};"
                " end it once it has nothing left to archive"
            )
        return found

    def _there(self, shard: Shard) -> bool:
        report = self._reports.get(shard)
        return report is not None and report.age_s <= self._lease_s


def _written(**values: object) -> str:
    return json.dumps(values, sort_keys=True)
