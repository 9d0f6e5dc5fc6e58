"""Who has stopped talking, and who fell silent together.

Units that fell silent within the time that silence needs to be known have one
cause, a gateway or its network, and are one finding that names them. Nothing
here asks a broker or a clock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta

from twin.finding import Finding, FindingKind
from twin.plant import Plant

TELEMETRY = "telemetry"
_NAMED = 4


def quiet(
    newest: Mapping[str, datetime],
    dead: Mapping[str, datetime],
    now: datetime,
    silence: timedelta,
) -> dict[str, datetime]:
    """Return the units that say nothing, and since when.

    Parameters
    ----------
    newest : mapping of str to datetime
        The time of each unit's newest reading; who was never heard is not there.
    dead : mapping of str to datetime
        The units that their edge node reports dead, and since when.
    now : datetime
        The time of the look. UTC.
    silence : timedelta
        How old the newest reading may be.
    """
    found = {unit: when for unit, when in newest.items() if now - when > silence}
    return found | {unit: when for unit, when in dead.items() if unit in newest}


def findings(
    silent: Mapping[str, datetime],
    units: Collection[str],
    now: datetime,
    together: timedelta,
    *,
    standing: Iterable[Finding] = (),
    topics: Mapping[str, Collection[str]] | None = None,
) -> list[Finding]:
    """Say who is silent: one finding for all that fell silent together.

    Parameters
    ----------
    silent : mapping of str to datetime
        What :func:`quiet` found.
    units : collection of str
        Every unit that was ever heard.
    now : datetime
        The time of the look. UTC.
    together : timedelta
        Two units whose last readings lie no farther apart, with nothing but
        others between them, fell silent together.
    standing : iterable of Finding
        What was found before and is not over. Units that come back one by one
        leave the rest under the name that it had.
    topics : mapping of str to collection of str, optional
        Where each unit's readings come from; what only the silent ones have in
        common is named.

    Examples
    --------
    >>> from datetime import UTC
    >>> at = datetime(2026, 1, 1, tzinfo=UTC)
    >>> since = {"hp1": at, "hp2": at + timedelta(minutes=3)}
    >>> hour, quarter = timedelta(hours=1), timedelta(minutes=15)
    >>> (one,) = findings(since, ("hp1", "hp2", "hp3"), at + hour, quarter)
    >>> one.key
    'site/telemetry/hp1_and_others'
    """
    named = {
        finding.component: frozenset(finding.evidence.get("units", ()))
        for finding in standing
        if finding.kind is FindingKind.TELEMETRY and finding.unit == Plant.SITE
    }
    groups = _together(silent, together)
    everybody = len(silent) == len(units) > 1
    found = []
    for place, group in enumerate(groups):
        since = max(silent[unit] for unit in group)
        whole = everybody and place == len(groups) - 1
        if len(group) == 1 and not whole:
            (unit,) = group
            sentence = f"{unit} has sent nothing since {_time(since)}"
            found.append(_finding(unit, TELEMETRY, since, now, sentence, group))
            continue
        before = [name for name, members in named.items() if members & set(group)]
        if before:
            component = min(before)
        else:
            names = [f"{unit}_and_others" for unit in group]
            names = [TELEMETRY, *names] if whole else names
            component = next((n for n in names if n not in named), names[0])
        # A name is one group's, and the next one's only when it is over.
        named[component] = frozenset()
        who = "The whole plant has" if whole else f"{_listed(group)} have"
        level = _common(group, units, topics or {})
        sentence = f"{who} sent nothing since {_time(since)}"
        if level and not whole:
            sentence += f" (all of {level})"
        found.append(_finding(Plant.SITE, component, since, now, sentence, group))
    return sorted(found, key=lambda finding: finding.key)


def _together(
    silent: Mapping[str, datetime], together: timedelta
) -> list[tuple[str, ...]]:
    """Return the units that fell silent one soon after another, in order of time."""
    groups: list[list[str]] = []
    last: datetime | None = None
    for when, unit in sorted((when, unit) for unit, when in silent.items()):
        if last is None or when - last > together:
            groups.append([])
        groups[-1].append(unit)
        last = when
    return [tuple(sorted(group)) for group in groups]


def _listed(group: tuple[str, ...]) -> str:
    if len(group) <= _NAMED:
        return " and ".join([", ".join(group[:-1]), group[-1]])
    first = ", ".join(group[: _NAMED - 1])
    return f"{first} and {len(group) - _NAMED + 1} more"


def _common(
    group: tuple[str, ...],
    units: Collection[str],
    topics: Mapping[str, Collection[str]],
) -> str:
    """Return the topic levels that all of a group share and nobody else has."""
    ours = [topic.split("/")[:-1] for unit in group for topic in topics.get(unit, ())]
    if not ours:
        return ""
    shared = 0
    while all(
        len(one) > shared and one[: shared + 1] == ours[0][: shared + 1] for one in ours
    ):
        shared += 1
    level = "/".join(ours[0][:shared])
    if not level:
        return ""
    others = set(units) - set(group)
    alike = any(
        topic.startswith(f"{level}/")
        for unit in others
        for topic in topics.get(unit, ())
    )
    return "" if alike else f"{level}/"


def _time(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"


def _finding(
    unit: str,
    component: str,
    since: datetime,
    now: datetime,
    sentence: str,
    group: tuple[str, ...],
) -> Finding:
    state = "its" if unit != Plant.SITE or sentence.startswith("The") else "their"
    return Finding(
        unit=unit,
        kind=FindingKind.TELEMETRY,
        component=component,
        since=since,
        seen=now,
        size=float("nan"),
        low=float("nan"),
        high=float("nan"),
        sentence=f"{sentence}; {state} state is unknown.",
        advice="Check the gateway, its network and the broker.",
        evidence={
            "silent_for_s": (now - since).total_seconds(),
            "units": list(group),
        },
    )
