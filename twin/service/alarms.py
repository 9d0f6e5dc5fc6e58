"""Alarms: what becomes of a finding between its first sight and its end.

One case for each unit, kind and component. The engine is pure: a board of
cases, the findings of one look and the event time go in, a new board and what
changed come out; persons' actions are functions of the same shape.
:class:`Alarms` keeps a board in the state database. Who is told, and how, is
:mod:`twin.service.notify`'s business.

States follow ISA-18.2 / IEC 62682. Each is read off independent facts (is it
raised, has it returned, has a person taken note, is it shelved, suppressed,
out of service), so no path through them can be forgotten.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any

from twin.finding import Finding, FindingKind
from twin.service.results import (
    finding_from_dict,
    finding_to_dict,
    instant,
    parse_instant,
    to_json,
)
from twin.service.state import (
    AuditEntry,
    Message,
    State,
    StateUnavailableError,
    Writing,
)

if TYPE_CHECKING:
    from typing import Self

TWIN = "twin"


class Status(StrEnum):
    """Where a case stands; the words of ISA-18.2, and ``pending`` before them."""

    NORMAL = "normal"
    PENDING = "pending"
    UNACKNOWLEDGED = "unacknowledged"
    ACKNOWLEDGED = "acknowledged"
    RETURNED = "returned"
    SHELVED = "shelved"
    SUPPRESSED = "suppressed"
    OUT_OF_SERVICE = "out_of_service"


class Severity(IntEnum):
    """How much it matters: by what it costs and how soon it must be done."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3

    @property
    def word(self) -> str:
        """The severity as a page or a message says it."""
        return self.name.lower()


class Change(StrEnum):
    """What happened to a case."""

    RAISED = "raised"
    ANNOUNCED = "announced"
    WORSENED = "worsened"
    REOPENED = "reopened"
    RETURNED = "returned"
    CLOSED = "closed"
    VERIFIED = "verified"
    ACKNOWLEDGED = "acknowledged"
    SHELVED = "shelved"
    UNSHELVED = "unshelved"
    SUPPRESSED = "suppressed"
    UNSUPPRESSED = "unsuppressed"
    OUT_OF_SERVICE = "out_of_service"
    IN_SERVICE = "in_service"


class Closure(StrEnum):
    """Why a person closes a case while the twin may still see the finding.

    ``fixed`` is a claim that the twin checks; ``not_a_fault`` and ``accepted``
    hold until the finding has gone or grows more severe.
    """

    FIXED = "fixed"
    NOT_A_FAULT = "not_a_fault"
    ACCEPTED = "accepted"


_ASKS_FOR_A_PERSON = frozenset(
    {
        Change.RAISED,
        Change.ANNOUNCED,
        Change.WORSENED,
        Change.REOPENED,
        Change.UNSHELVED,
        Change.UNSUPPRESSED,
    }
)
_ENDS = frozenset({Change.CLOSED, Change.RETURNED, Change.VERIFIED})


class ActionError(ValueError):
    """A person asked for what cannot be done; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Note:
    """Who did something, when, and what was said. ``until`` ends a shelf. UTC."""

    who: str
    when: datetime
    comment: str = ""
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Dismissal:
    """A person's closing of a case; ``until`` is when a claimed repair is doubted."""

    note: Note
    closure: Closure
    severity: Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Everything known about one unit, kind and component.

    ``occurrence`` counts how often it was raised. ``raised`` None means that
    the on-delay still runs; ``absent_since`` is when the finding was first not
    seen; ``returned`` is when the off-delay had run out. UTC.
    ``untold`` is a case that nobody has been told of: it was raised under a mask,
    or from days that were over long ago.
    """

    finding: Finding
    severity: Severity
    first_seen: datetime
    occurrence: int = 0
    raised: datetime | None = None
    absent_since: datetime | None = None
    returned: datetime | None = None
    closed: datetime | None = None
    acknowledged: Note | None = None
    shelved: Note | None = None
    out_of_service: Note | None = None
    dismissed: Dismissal | None = None
    suppressed_by: str = ""
    untold: bool = False

    @property
    def key(self) -> str:
        """Name of the case, :attr:`twin.finding.Finding.key`."""
        return self.finding.key

    @property
    def open(self) -> bool:
        """Whether it has been raised and is not over yet."""
        return self.raised is not None and self.closed is None

    @property
    def status(self) -> Status:
        """The one word for all the facts; the strongest mask comes first."""
        if self.out_of_service is not None:
            return Status.OUT_OF_SERVICE
        if self.closed is not None:
            return Status.NORMAL
        if self.shelved is not None:
            return Status.SHELVED
        if self.suppressed_by:
            return Status.SUPPRESSED
        if self.raised is None:
            return Status.PENDING
        if self.returned is not None:
            return Status.RETURNED
        if self.acknowledged is not None:
            return Status.ACKNOWLEDGED
        return Status.UNACKNOWLEDGED

    def to_dict(self) -> dict[str, Any]:
        """Return the case as plain JSON values, its status included."""
        return {
            "finding": finding_to_dict(self.finding),
            "status": self.status.value,
            "severity": self.severity.word,
            "first_seen": instant(self.first_seen),
            "occurrence": self.occurrence,
            "raised": _write(self.raised),
            "absent_since": _write(self.absent_since),
            "returned": _write(self.returned),
            "closed": _write(self.closed),
            "acknowledged": _write_note(self.acknowledged),
            "shelved": _write_note(self.shelved),
            "out_of_service": _write_note(self.out_of_service),
            "dismissed": None
            if self.dismissed is None
            else {
                "note": _write_note(self.dismissed.note),
                "closure": self.dismissed.closure.value,
                "severity": self.dismissed.severity.word,
            },
            "suppressed_by": self.suppressed_by,
            "untold": self.untold,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the case that :meth:`to_dict` wrote."""
        dismissed = values["dismissed"]
        note = None if dismissed is None else _read_note(dismissed["note"])
        return cls(
            finding=finding_from_dict(values["finding"]),
            severity=Severity[values["severity"].upper()],
            first_seen=parse_instant(values["first_seen"]),
            occurrence=int(values["occurrence"]),
            raised=_read(values["raised"]),
            absent_since=_read(values["absent_since"]),
            returned=_read(values["returned"]),
            closed=_read(values["closed"]),
            acknowledged=_read_note(values["acknowledged"]),
            shelved=_read_note(values["shelved"]),
            out_of_service=_read_note(values["out_of_service"]),
            dismissed=None
            if note is None
            else Dismissal(
                note,
                Closure(dismissed["closure"]),
                Severity[dismissed["severity"].upper()],
            ),
            suppressed_by=str(values["suppressed_by"]),
            # An older version kept no such fact, and told everybody.
            untold=bool(values.get("untold", False)),
        )


def _write(time: datetime | None) -> str | None:
    return None if time is None else instant(time)


def _read(text: str | None) -> datetime | None:
    return None if text is None else parse_instant(text)


def _write_note(note: Note | None) -> dict[str, Any] | None:
    if note is None:
        return None
    return {
        "who": note.who,
        "when": instant(note.when),
        "comment": note.comment,
        "until": _write(note.until),
    }


def _read_note(values: Mapping[str, Any] | None) -> Note | None:
    if values is None:
        return None
    return Note(
        values["who"],
        parse_instant(values["when"]),
        values["comment"],
        _read(values["until"]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One change of one case: when, from what to what, by whom and why.

    ``quiet`` is history: it is kept, and nobody is told.
    """

    time: datetime
    key: str
    change: Change
    before: Status
    after: Status
    occurrence: int
    severity: Severity
    sentence: str
    who: str = TWIN
    comment: str = ""
    quiet: bool = False

    @property
    def asks_for_a_person(self) -> bool:
        """Whether somebody should be told now; a masked case tells nobody."""
        return (
            self.change in _ASKS_FOR_A_PERSON
            and self.after is Status.UNACKNOWLEDGED
            and not self.quiet
        )

    @property
    def is_an_end(self) -> bool:
        """Whether it is over, which is news but wakes nobody."""
        return self.change in _ENDS and self.who == TWIN and not self.quiet

    def to_entry(self) -> AuditEntry:
        """Return the line that the audit keeps for ever."""
        return AuditEntry(
            time=self.time,
            actor=self.who,
            action=self.change.value,
            subject=self.key,
            detail={
                "before": self.before.value,
                "after": self.after.value,
                "occurrence": self.occurrence,
                "severity": self.severity.word,
                "sentence": self.sentence,
                "comment": self.comment,
                "told": self.asks_for_a_person,
            },
        )


@dataclass(frozen=True, slots=True)
class Delay:
    """How long a finding must be seen before, and unseen after, an alarm."""

    on: timedelta
    off: timedelta


_DAY = timedelta(days=1)
# A finding on equipment is a daily statistic that has already crossed its
# limit, so that is its on-delay. No off-delay is shorter than a day: whatever
# dithers then makes one alarm, and not a second within the day.
DEFAULT_DELAYS: Mapping[FindingKind, Delay] = {
    FindingKind.FOULING: Delay(timedelta(0), 3 * _DAY),
    FindingKind.COP_DEGRADATION: Delay(timedelta(0), 3 * _DAY),
    # More days may tell what it is; nobody is called to a question before.
    FindingKind.UNCERTAIN: Delay(5 * _DAY, 3 * _DAY),
    FindingKind.MISSED_RECOVERY: Delay(timedelta(0), 2 * _DAY),
    FindingKind.SENSOR: Delay(timedelta(minutes=10), _DAY),
    FindingKind.TELEMETRY: Delay(timedelta(minutes=5), _DAY),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the engine may be told to do otherwise.

    ``medium_cost`` and ``high_cost`` are the costs from which a case is of
    medium and of high severity [EUR/d]; ``urgent`` is how near a clean-by date
    lifts it by one; an unknown cost is medium, because unknown is not nothing.
    """

    delays: Mapping[FindingKind, Delay] = field(
        default_factory=lambda: dict(DEFAULT_DELAYS)
    )
    medium_cost: float = 10.0
    high_cost: float = 50.0
    urgent: timedelta = timedelta(days=14)
    longest_shelf: timedelta = timedelta(days=7)
    repair_shows_within: timedelta = timedelta(days=7)


DEFAULT_RULES = Rules()


def severity_of(finding: Finding, now: datetime, rules: Rules) -> Severity:
    """Return how much a finding matters, by cost and by urgency."""
    cost = finding.cost_eur_day
    if cost is None or cost >= rules.medium_cost:
        level = Severity.MEDIUM
    else:
        level = Severity.LOW
    if cost is not None and cost >= rules.high_cost:
        level = Severity.HIGH
    if finding.clean_by is not None and finding.clean_by - now <= rules.urgent:
        level = Severity(min(level + 1, Severity.HIGH))
    return level


@dataclass(frozen=True, slots=True)
class Board:
    """All cases by key, and the event time of the last look; None before it."""

    cases: Mapping[str, Case] = field(default_factory=dict)
    time: datetime | None = None


def step(
    board: Board,
    findings: Iterable[Finding],
    now: datetime,
    *,
    judged: Collection[str] | None = None,
    heard: Collection[str] | None = None,
    live: bool = True,
    rules: Rules = DEFAULT_RULES,
) -> tuple[Board, tuple[Transition, ...]]:
    """Bring the board up to one look at the plant.

    Parameters
    ----------
    board : Board
        The board after the look before.
    findings : iterable of Finding
        Everything found now, in any order; of two with one key, the later
        seen and dearer counts.
    now : datetime
        Event time of the look. A look that is not newer than the board's
        changes nothing: it has been counted. UTC.
    judged : collection of str, optional
        The units that could be judged; None is all. A finding that is absent
        where nothing could be judged is unknown, not gone, so the delays of
        that unit's cases start again.
    heard : collection of str, optional
        The units that talk now, by which a silence and a probe's lie are over,
        whether or not more could be judged, and without which no lie is new:
        what a gateway sends later was not so now. None is that nobody asked who
        talks, as at the end of a day: then a silence stays as it was.
    live : bool
        Whether it is a look at the present. Of a day that was over long ago
        nobody is told; what still stands at the next live look is announced
        then, and what has gone by itself is closed.
    rules : Rules

    Returns
    -------
    Board, tuple of Transition
        The new board, and what changed in order of key.
    """
    if board.time is not None and now <= board.time:
        return board, ()
    seen = _one_a_key(findings)
    cases = dict(board.cases)
    changes: dict[str, list[tuple[Change, str]]] = {}
    for key in sorted(cases.keys() | seen.keys()):
        told: list[tuple[Change, str]] = []
        case = cases.get(key)
        if key in seen and _of_the_past(seen[key], case, heard):
            case = case and replace(case, absent_since=None)
        elif key in seen:
            case = _present(case, seen[key], now, rules, told)
        elif case is not None:
            gone = _gone(case.finding, judged, heard)
            if gone:
                case = _absent(case, now, rules, told)
            elif gone is not None:
                case = replace(case, absent_since=None)
                if case.raised is None:
                    case = replace(case, first_seen=now)
        if case is not None:
            case = _off_the_shelf(case, now, told)
        if case is None:
            cases.pop(key, None)
        else:
            cases[key] = case
        changes[key] = told
    for key, case in _masked(cases).items():
        if case.suppressed_by != cases[key].suppressed_by and case.open:
            masked = bool(case.suppressed_by)
            changes[key].append(
                (
                    Change.SUPPRESSED if masked else Change.UNSUPPRESSED,
                    case.suppressed_by or cases[key].suppressed_by,
                )
            )
        cases[key] = case
    transitions = []
    for key in sorted(changes):
        known = board.cases.get(key)
        before = _status(known)
        if live and key in cases:
            _announce(cases[key], changes[key])
        for change, comment in changes[key]:
            case = cases[key]
            quiet = not live and change in _ASKS_FOR_A_PERSON
            quiet |= change in _ENDS and known is not None and known.untold
            made = _transition(case, before, change, now, TWIN, comment)
            made = replace(made, quiet=quiet)
            transitions.append(made)
            before = case.status
            if change in _ASKS_FOR_A_PERSON:
                fresh = made.quiet or change in (Change.RAISED, Change.REOPENED)
                untold = not made.asks_for_a_person and (case.untold or fresh)
                cases[key] = replace(case, untold=untold)
    return Board(cases, now), tuple(transitions)


def _gone(
    finding: Finding, judged: Collection[str] | None, heard: Collection[str] | None
) -> bool | None:
    """Tell whether a finding that is absent is gone, rather than unknown.

    None is that nobody looked for it.
    """
    settled = judged is None or finding.unit in judged
    if finding.kind is FindingKind.TELEMETRY:
        members = finding.evidence.get("units", ()) or (finding.unit,)
        return None if heard is None else any(unit in heard for unit in members)
    if "named" in finding.evidence and not settled:
        return None if heard is None else finding.unit in heard
    return settled


def _of_the_past(
    finding: Finding, case: Case | None, heard: Collection[str] | None
) -> bool:
    """Tell whether a lie is news of what a silent unit said long ago.

    A gateway that is back sends its backlog in order, and every lie in it once
    looks as if it stood. Whether it does is seen when the unit talks again.
    """
    silent = heard is not None and finding.unit not in heard
    return silent and "named" in finding.evidence and not (case and case.open)


def _announce(case: Case, told: list[tuple[Change, str]]) -> None:
    """Say at last what was raised while nobody could be told."""
    asked = any(change in _ASKS_FOR_A_PERSON for change, _ in told)
    if case.untold and case.status is Status.UNACKNOWLEDGED and not asked:
        told.append((Change.ANNOUNCED, "it stood when somebody could be told"))


def _one_a_key(findings: Iterable[Finding]) -> dict[str, Finding]:
    best: dict[str, tuple[Any, Finding]] = {}
    for finding in findings:
        # The text at the end makes the choice independent of the order.
        rank = (
            finding.seen,
            finding.cost_eur_day or 0.0,
            to_json(finding_to_dict(finding)),
        )
        known = best.get(finding.key)
        if known is None or rank > known[0]:
            best[finding.key] = (rank, finding)
    return {key: finding for key, (_, finding) in best.items()}


def _present(
    case: Case | None,
    finding: Finding,
    now: datetime,
    rules: Rules,
    told: list[tuple[Change, str]],
) -> Case:
    severity = severity_of(finding, now, rules)
    opening = Change.RAISED
    if case is not None and case.dismissed is not None:
        until = case.dismissed.note.until
        if severity <= case.dismissed.severity and (until is None or now < until):
            return replace(case, finding=finding, absent_since=None)
        opening = Change.REOPENED
    if case is None or case.closed is not None:
        case = Case(
            finding=finding,
            severity=severity,
            first_seen=now,
            occurrence=0 if case is None else case.occurrence,
            shelved=None if case is None else case.shelved,
            out_of_service=None if case is None else case.out_of_service,
        )
    else:
        worse = severity > case.severity
        case = replace(
            case,
            finding=replace(finding, since=min(finding.since, case.finding.since)),
            severity=max(severity, case.severity),
            absent_since=None,
        )
        if case.returned is not None:
            case = replace(case, returned=None)
            told.append((Change.REOPENED, ""))
        elif worse and case.raised is not None:
            # What was taken note of was something smaller.
            case = replace(case, acknowledged=None)
            told.append((Change.WORSENED, ""))
    # What a look at the probes has named was waited for by the look.
    on = timedelta(0) if "named" in finding.evidence else rules.delays[finding.kind].on
    if case.raised is None and now - case.first_seen >= on:
        case = replace(case, raised=now, occurrence=case.occurrence + 1)
        told.append((opening, ""))
    return case


def _absent(
    case: Case, now: datetime, rules: Rules, told: list[tuple[Change, str]]
) -> Case | None:
    if case.closed is not None and case.dismissed is None:
        return case
    case = replace(case, absent_since=case.absent_since or now)
    assert case.absent_since is not None  # noqa: S101  # set one line above
    absent = now - case.absent_since
    delay = rules.delays[case.finding.kind]
    if case.dismissed is not None:
        if absent >= delay.off:
            if case.dismissed.closure is Closure.FIXED:
                told.append((Change.VERIFIED, "the twin no longer sees it"))
            case = replace(case, dismissed=None, absent_since=None)
    elif case.raised is None:
        if absent >= delay.on:
            kept = case.occurrence or case.shelved or case.out_of_service
            return replace(case, closed=now, absent_since=None) if kept else None
    elif case.returned is None and absent >= delay.off:
        if case.acknowledged is None and not case.untold:
            case = replace(case, returned=now)
            told.append((Change.RETURNED, ""))
        else:
            said = "the twin no longer sees it"
            if case.untold:
                said += ", and nobody was told"
            case = replace(
                case, closed=now, absent_since=None, suppressed_by="", untold=False
            )
            told.append((Change.CLOSED, said))
    return case


def _off_the_shelf(case: Case, now: datetime, told: list[tuple[Change, str]]) -> Case:
    if case.shelved is None or case.shelved.until is None or now < case.shelved.until:
        return case
    if case.open:
        told.append((Change.UNSHELVED, "the shelving ended"))
    return replace(case, shelved=None)


def _masked(cases: Mapping[str, Case]) -> dict[str, Case]:
    """Return the cases with who explains each of them, ``""`` where nobody does.

    A lost gateway explains the units it carried; a probe that lies explains
    what was concluded from it; and a finding may name its cause itself.
    """
    standing = {
        key: case
        for key, case in cases.items()
        if case.open and case.returned is None and case.dismissed is None
    }
    return {
        key: replace(case, suppressed_by=_explained_by(case, standing))
        for key, case in cases.items()
    }


_EQUIPMENT = (FindingKind.FOULING, FindingKind.COP_DEGRADATION, FindingKind.UNCERTAIN)


def _explained_by(case: Case, standing: Mapping[str, Case]) -> str:
    finding = case.finding
    if case.closed is not None:
        return ""
    named = str(finding.evidence.get("caused_by", ""))
    if named in standing and named != finding.key:
        return named
    points = finding.evidence.get("points", ())
    used = set(points) if isinstance(points, Sequence) else set()
    for key in sorted(standing):
        cause = standing[key].finding
        if key == finding.key:
            continue
        if (
            cause.kind is FindingKind.TELEMETRY
            and cause.unit == "site"
            and finding.kind is FindingKind.TELEMETRY
            and finding.unit != "site"
            # A unit that stays silent when the others are back speaks for itself.
            and standing[key].absent_since is None
            and finding.unit in cause.evidence.get("units", (finding.unit,))
        ):
            return key
        if (
            cause.kind is FindingKind.SENSOR
            and finding.kind in _EQUIPMENT
            and cause.unit == finding.unit
            and used & {cause.component, *cause.evidence.get("lying", ())}
        ):
            return key
    return ""


def _not_after(case: Case, now: datetime) -> Case:
    """Return the case with nothing of what the clock did lying ahead."""

    def by(time: datetime | None) -> datetime | None:
        return None if time is None else min(time, now)

    return replace(
        case,
        first_seen=min(case.first_seen, now),
        raised=by(case.raised),
        absent_since=by(case.absent_since),
        returned=by(case.returned),
        closed=by(case.closed),
    )


def _status(case: Case | None) -> Status:
    return Status.NORMAL if case is None else case.status


def _transition(
    case: Case, before: Status, change: Change, time: datetime, who: str, comment: str
) -> Transition:
    return Transition(
        time=time,
        key=case.key,
        change=change,
        before=before,
        after=case.status,
        occurrence=case.occurrence,
        severity=case.severity,
        sentence=case.finding.sentence,
        who=who,
        comment=comment,
    )


# --- how many there are ---------------------------------------------------------


MOST_AN_HOUR = 6.0
"""What a person can attend to in the long run: one in ten minutes. [1/h]"""
MOST_AT_ONCE = 10
"""More than so many in ten minutes are a flood."""


@dataclass(frozen=True, slots=True)
class Flow:
    """How often people were asked in a period, as ISA-18.2 and EEMUA 191 count.

    ``per_hour`` is the mean of the period, ``most`` the largest number in any
    ten minutes: more than ten are a flood, whatever the mean is. ``chattering``
    are the cases that asked three times or more within a minute, and ``standing``
    the open ones that nobody has taken note of for a day.
    """

    alarms: int
    hours: float
    most: int
    chattering: tuple[str, ...]
    standing: tuple[str, ...]

    @property
    def per_hour(self) -> float:
        """How many an hour, on average. [1/h]."""
        return self.alarms / self.hours if self.hours > 0.0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain JSON values."""
        return {
            "alarms": self.alarms,
            "hours": self.hours,
            "per_hour": round(self.per_hour, 2),
            "most_in_10_min": self.most,
            "chattering": list(self.chattering),
            "standing_24_h": list(self.standing),
        }


def flow(
    audit: Iterable[AuditEntry],
    start: datetime,
    stop: datetime,
    cases: Iterable[Case] = (),
) -> Flow:
    """Count the alarms of a period from the audit.

    Parameters
    ----------
    audit : iterable of AuditEntry
        In any order. What asked nobody is not counted, nor what a person brought
        back from the shelf.
    start, stop : datetime
        The period; an alarm at its start is not in it. UTC.
    cases : iterable of Case, optional
        As they stand at the end.
    """
    asked = sorted(
        (entry.time, entry.subject)
        for entry in audit
        if entry.detail.get("told")
        and entry.actor == TWIN
        and start < entry.time <= stop
    )
    times = [time for time, _ in asked]
    of_case: dict[str, list[datetime]] = {}
    for time, subject in asked:
        of_case.setdefault(subject, []).append(time)
    return Flow(
        alarms=len(asked),
        hours=(stop - start) / timedelta(hours=1),
        most=_most(times, timedelta(minutes=10)),
        chattering=tuple(
            subject
            for subject, own in sorted(of_case.items())
            if _most(own, timedelta(minutes=1)) >= 3
        ),
        standing=tuple(
            sorted(
                case.key
                for case in cases
                if case.status is Status.UNACKNOWLEDGED
                and case.raised is not None
                and stop - case.raised > _DAY
            )
        ),
    )


def _most(times: Sequence[datetime], width: timedelta) -> int:
    """Return how many of the times, in order, lie in the fullest window."""
    most = first = 0
    for last, time in enumerate(times):
        while time - times[first] >= width:
            first += 1
        most = max(most, last - first + 1)
    return most


# --- what persons do --------------------------------------------------------


def _case(board: Board, key: str) -> Case:
    try:
        return board.cases[key]
    except KeyError:
        raise ActionError(f'there is no case "{key}"') from None


def _named(note: Note, reason: bool = False) -> None:
    if not note.who.strip():
        raise ActionError("who are you? A name is needed, the audit keeps it")
    if reason and not note.comment.strip():
        raise ActionError("a reason is needed, the next shift will ask for it")


def _put(
    board: Board, before: Case, after: Case, change: Change, note: Note
) -> tuple[Board, Transition]:
    return (
        Board({**board.cases, after.key: after}, board.time),
        _transition(
            after, before.status, change, note.when, note.who.strip(), note.comment
        ),
    )


def acknowledge(board: Board, key: str, note: Note) -> tuple[Board, Transition]:
    """Take note of a case; one that has returned is thereby closed.

    Raises
    ------
    ActionError
        If there is nothing to take note of, or nobody is named.
    """
    _named(note)
    case = _case(board, key)
    if not case.open:
        raise ActionError(f"{key} is {case.status.value}: nothing to acknowledge")
    if case.acknowledged is not None:
        by = case.acknowledged
        raise ActionError(
            f"{key} was acknowledged by {by.who} at {instant(by.when)} already"
        )
    after = replace(case, acknowledged=note, untold=False)
    if case.returned is not None:
        after = replace(after, closed=note.when, absent_since=None)
        return _put(board, case, after, Change.CLOSED, note)
    return _put(board, case, after, Change.ACKNOWLEDGED, note)


def shelve(
    board: Board, key: str, note: Note, rules: Rules = DEFAULT_RULES
) -> tuple[Board, Transition]:
    """Put a case out of sight until ``note.until``; a reason is required.

    Raises
    ------
    ActionError
        If it is not open, or the end or the reason is missing, past or too far.
    """
    _named(note, reason=True)
    case = _case(board, key)
    if not case.open:
        raise ActionError(f"{key} is {case.status.value}: nothing to shelve")
    if note.until is None or note.until <= note.when:
        raise ActionError("a shelf needs an end that lies ahead")
    if note.until - note.when > rules.longest_shelf:
        raise ActionError(
            f"a shelf may last {rules.longest_shelf.days} days at the most; "
            "what should stay silent longer is taken out of service"
        )
    return _put(board, case, replace(case, shelved=note), Change.SHELVED, note)


def unshelve(board: Board, key: str, note: Note) -> tuple[Board, Transition]:
    """Bring a shelved case back before its end."""
    _named(note)
    case = _case(board, key)
    if case.shelved is None:
        raise ActionError(f"{key} is not shelved")
    return _put(board, case, replace(case, shelved=None), Change.UNSHELVED, note)


def close(
    board: Board, key: str, note: Note, closure: Closure, rules: Rules = DEFAULT_RULES
) -> tuple[Board, Transition]:
    """Close a case by a person's word; a reason is required.

    A claimed repair is believed for ``rules.repair_shows_within``: the twin
    then says that it verified it, or opens the case again.
    """
    _named(note, reason=True)
    case = _case(board, key)
    if not case.open:
        raise ActionError(f"{key} is {case.status.value}: nothing to close")
    if closure is Closure.FIXED:
        note = replace(note, until=note.when + rules.repair_shows_within)
    after = replace(
        case,
        closed=note.when,
        suppressed_by="",
        untold=False,
        shelved=None,
        dismissed=Dismissal(note, closure, case.severity),
    )
    said = replace(note, comment=f"{closure.value}: {note.comment}")
    return _put(board, case, after, Change.CLOSED, said)


def take_out_of_service(board: Board, key: str, note: Note) -> tuple[Board, Transition]:
    """Silence a case until a person brings it back; a reason is required."""
    _named(note, reason=True)
    case = _case(board, key)
    if case.out_of_service is not None:
        raise ActionError(f"{key} is out of service already")
    after = replace(case, out_of_service=note)
    return _put(board, case, after, Change.OUT_OF_SERVICE, note)


def bring_into_service(board: Board, key: str, note: Note) -> tuple[Board, Transition]:
    """End what :func:`take_out_of_service` began."""
    _named(note)
    case = _case(board, key)
    if case.out_of_service is None:
        raise ActionError(f"{key} is in service")
    after = replace(case, out_of_service=None)
    return _put(board, case, after, Change.IN_SERVICE, note)


# --- the board that is kept -------------------------------------------------

Compose = Callable[[Transition, Case], Sequence[Message]]


def _nobody(transition: Transition, case: Case) -> Sequence[Message]:
    return ()


class Alarms:
    """The board of a site, kept in a state database.

    A change, its audit line and the messages it causes are one transaction:
    after a crash either all of them are there, or none, and the look that
    caused them comes again. It begins with the board as it is then, whoever
    wrote it last: the command line and a service change the same cases. Without
    ``compose`` nobody is ever told, which is how a replay runs.
    """

    _CLOCK = "alarms.time"

    def __init__(
        self,
        state: State,
        rules: Rules = DEFAULT_RULES,
        compose: Compose = _nobody,
    ) -> None:
        self._state = state
        self._rules = rules
        self._compose = compose
        self._lock = threading.RLock()
        self._revision = 1
        self._board, self._known = Board(), -1
        # A database that does not answer yet is asked again by whoever looks.
        with suppress(StateUnavailableError):
            self._refresh()

    @property
    def board(self) -> Board:
        """The board as it stands; never changed in place."""
        self._refresh()
        return self._board

    @property
    def revision(self) -> int:
        """Grows with each change that a reader would see; asks nobody."""
        return self._revision

    def cases(self) -> tuple[Case, ...]:
        """Return the open cases, dearest first."""
        found = [case for case in self.board.cases.values() if case.open]
        return tuple(
            sorted(
                found,
                key=lambda case: (
                    -(case.finding.cost_eur_day or 0.0),
                    -case.severity,
                    case.key,
                ),
            )
        )

    def case(self, key: str) -> Case | None:
        """Return a case by its key, or None."""
        return self.board.cases.get(key)

    def history(self, limit: int = 200, subject: str = "") -> list[AuditEntry]:
        """Return the newest audit lines first, of one case if ``subject`` is given.

        Who came in is in the same audit and not an alarm's business.
        """
        return self._state.audit(limit=limit, subject=subject, beside="access/")

    def step(
        self,
        findings: Iterable[Finding],
        now: datetime,
        judged: Collection[str] | None = None,
        heard: Collection[str] | None = None,
        *,
        live: bool = True,
    ) -> tuple[Transition, ...]:
        """Bring the board up to one look; see :func:`step`."""
        found = tuple(findings)
        return self._change(
            lambda board: step(
                board,
                found,
                now,
                judged=judged,
                heard=heard,
                live=live,
                rules=self._rules,
            )
        )

    def rewind(self, now: datetime, who: str) -> None:
        """Set the board's clock back after it ran ahead, and say so in the audit.

        A clock that jumped a year ahead and back would otherwise leave every
        look uncounted, and every delay that began there running, until the
        year is over.
        """
        with self._lock, self._state.alone() as kept:
            before, _ = self._current(kept)
            if before.time is None or before.time <= now:
                return
            cases = {key: _not_after(case, now) for key, case in before.cases.items()}
            entry = AuditEntry(
                time=now,
                actor=who,
                action="rewound",
                subject="alarms",
                detail={"from": instant(before.time), "to": instant(now)},
            )
            kept.save(
                cases={
                    key: case.to_dict()
                    for key, case in cases.items()
                    if case != before.cases[key]
                },
                facts={self._CLOCK: instant(now)},
                audit=[entry],
            )
            self._show(Board(cases, now), kept.revision)

    def acknowledge(
        self, key: str, who: str, when: datetime, comment: str = ""
    ) -> Transition:
        """Take note of a case; see :func:`acknowledge`."""
        return self._act(
            lambda board: acknowledge(board, key, Note(who, when, comment))
        )

    def shelve(
        self, key: str, who: str, when: datetime, until: datetime, reason: str
    ) -> Transition:
        """Put a case out of sight for a while; see :func:`shelve`."""
        note = Note(who, when, reason, until)
        return self._act(lambda board: shelve(board, key, note, self._rules))

    def unshelve(
        self, key: str, who: str, when: datetime, comment: str = ""
    ) -> Transition:
        """Bring a shelved case back; see :func:`unshelve`."""
        return self._act(lambda board: unshelve(board, key, Note(who, when, comment)))

    def close(
        self,
        key: str,
        who: str,
        when: datetime,
        reason: str,
        closure: Closure = Closure.FIXED,
    ) -> Transition:
        """Close a case by a person's word; see :func:`close`."""
        note = Note(who, when, reason)
        return self._act(lambda board: close(board, key, note, closure, self._rules))

    def take_out_of_service(
        self, key: str, who: str, when: datetime, reason: str
    ) -> Transition:
        """Silence a case until it is brought back."""
        note = Note(who, when, reason)
        return self._act(lambda board: take_out_of_service(board, key, note))

    def bring_into_service(
        self, key: str, who: str, when: datetime, comment: str = ""
    ) -> Transition:
        """End the silence of a case."""
        note = Note(who, when, comment)
        return self._act(lambda board: bring_into_service(board, key, note))

    def _act(self, action: Callable[[Board], tuple[Board, Transition]]) -> Transition:
        def acted(board: Board) -> tuple[Board, tuple[Transition]]:
            board, transition = action(board)
            return board, (transition,)

        return self._change(acted)[0]

    def _change(
        self, action: Callable[[Board], tuple[Board, tuple[Transition, ...]]]
    ) -> tuple[Transition, ...]:
        """Change the board as it is now, while nobody else changes it."""
        with self._lock:
            with self._state.alone() as kept:
                before, known = self._current(kept)
                board, transitions = action(before)
                if board is not before:
                    self._write(kept, before, board, transitions)
                    known = kept.revision
            self._show(board, known)
        return transitions

    def _current(self, kept: Writing) -> tuple[Board, int]:
        """Return the board as it is kept, and how often it has been written."""
        clock, known = kept.fact(self._CLOCK), kept.revision
        cases = self._board.cases
        if known != self._known:
            cases = {key: Case.from_dict(case) for key, case in kept.cases().items()}
        return Board(cases, None if clock is None else parse_instant(clock)), known

    def _write(
        self,
        kept: Writing,
        before: Board,
        board: Board,
        transitions: Sequence[Transition],
    ) -> None:
        old = before.cases
        changed = {
            key: case.to_dict()
            for key, case in board.cases.items()
            if old.get(key) != case
        }
        kept.save(
            cases={**changed, **dict.fromkeys(old.keys() - board.cases.keys())},
            facts={} if board.time is None else {self._CLOCK: instant(board.time)},
            audit=[transition.to_entry() for transition in transitions],
            messages=[
                message
                for transition in transitions
                for message in self._compose(transition, board.cases[transition.key])
            ],
        )

    def _show(self, board: Board, known: int) -> None:
        if known != self._known:
            self._revision += 1
        self._board, self._known = board, known

    def _refresh(self) -> None:
        """Take up what another process has written."""
        if self._state.revision() != self._known:
            with self._lock, self._state.alone() as kept:
                self._show(*self._current(kept))
