"""Who fell silent together has one cause, and is one finding with one name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from twin.service import silence
from twin.service.alarms import Board, step

START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SILENCE = 15 * MINUTE
FIFTY = [f"hp{n}" for n in range(1, 51)]


def found(silent, units=FIFTY, now=START + 60 * MINUTE, **more):
    """Return the findings of units that were last heard some minutes in."""
    since = {unit: START + minutes * MINUTE for unit, minutes in silent.items()}
    return silence.findings(since, units, now, SILENCE, **more)


def test_who_is_silent_is_who_was_heard_and_is_not_any_more():
    """A unit that never spoke is not silent, dead or not."""
    newest = {"hp1": START, "hp2": START + 20 * MINUTE, "hp3": START + 29 * MINUTE}
    dead = {"hp3": START + 25 * MINUTE, "hp4": START}

    assert silence.quiet(newest, dead, START + 30 * MINUTE, SILENCE) == {
        "hp1": START,
        "hp3": START + 25 * MINUTE,
    }


def test_half_a_plant_behind_one_gateway_is_one_finding():
    """Its units are named, and so is what only their topics have in common."""
    topics = {unit: {f"dc/hall{1 + n // 25}/{unit}"} for n, unit in enumerate(FIFTY)}
    (one,) = found({unit: n / 5 for n, unit in enumerate(FIFTY[:25])}, topics=topics)

    assert one.key == "site/telemetry/hp1_and_others"
    assert one.sentence == (
        "hp1, hp10, hp11 and 22 more have sent nothing since 2026-01-01 00:04 UTC"
        " (all of dc/hall1/); their state is unknown."
    )
    assert one.evidence["units"] == sorted(FIFTY[:25])
    (flat,) = found(
        {"hp1": 0, "hp2": 1}, topics={unit: {f"dc/{unit}"} for unit in FIFTY}
    )
    assert "all of" not in flat.sentence


def test_units_that_fell_silent_at_different_times_are_findings_of_their_own():
    """A second gateway must not hide behind the first."""
    keys = [
        one.key for one in found({"hp1": 0, "hp2": 3, "hp3": 30, "hp4": 31, "hp5": 59})
    ]

    assert keys == [
        "hp5/telemetry/telemetry",
        "site/telemetry/hp1_and_others",
        "site/telemetry/hp3_and_others",
    ]


def test_the_whole_plant_is_called_that():
    """The last ones to fall silent complete it; who was silent before stays so."""
    units = ("hp1", "hp2", "site")
    (one,) = found(dict.fromkeys(units, 0), units)
    assert one.key == "site/telemetry/telemetry"
    assert one.sentence.startswith("The whole plant has sent nothing since")
    before, last = found({"hp1": 0, "hp2": 30, "site": 30}, units)
    assert (before.key, last.key) == (
        "hp1/telemetry/telemetry",
        "site/telemetry/telemetry",
    )
    (alone,) = found({"hp1": 0}, ("hp1",))
    assert alone.key == "hp1/telemetry/telemetry"


def test_two_groups_have_two_names():
    """A unit that came back and went again does not take the name of the others."""
    before = found({"hp1": 0, "hp2": 0, "hp3": 0})
    old, new = found({"hp2": 0, "hp3": 0, "hp1": 40, "hp9": 40}, standing=before)

    assert old.evidence["units"] == ["hp2", "hp3"]
    assert (old.component, new.component) == ("hp1_and_others", "hp9_and_others")
    units = ("hp1", "hp2", "hp3", "hp4")
    whole = found(dict.fromkeys(units, 0), units)
    rest = {"hp1": 0, "hp2": 0, "hp3": 40, "hp4": 40}
    keys = [each.component for each in found(rest, units, standing=whole)]
    assert keys == ["hp3_and_others", "telemetry"]


def test_units_that_come_back_one_by_one_leave_the_name_as_it_was():
    """Else every return would be a new alarm."""
    before = found(dict.fromkeys(FIFTY, 0))
    few = found(dict.fromkeys(FIFTY[40:], 0), standing=before)

    assert [one.key for one in few] == [one.key for one in before]
    assert found(dict.fromkeys(FIFTY[40:], 0))[0].key != before[0].key  # the control


@given(
    st.dictionaries(st.sampled_from(FIFTY), st.integers(0, 40), max_size=50),
    st.dictionaries(st.sampled_from(FIFTY), st.integers(0, 40), max_size=50),
)
def test_each_silent_unit_is_in_one_finding_and_each_finding_has_its_key(one, other):
    """Whatever stood before, and however units come and go."""
    before = found(one)
    after = found(other, standing=before)
    members = sorted(unit for each in after for unit in each.evidence["units"])
    again = found(dict(reversed(other.items())), standing=before[::-1])

    assert members == sorted(other)
    assert len({each.key for each in after}) == len(after)
    assert [each.sentence for each in after] == [each.sentence for each in again]


def test_a_gateway_whose_units_report_minutes_apart_is_one_alarm():
    """Fifty units, each heard every five minutes, fall silent in that order."""
    last = {unit: START + n * 0.1 * MINUTE for n, unit in enumerate(FIFTY)}
    board, asked = Board(), []
    for minute in range(90):
        now = START + 5 * MINUTE + minute * MINUTE
        quiet = silence.quiet(last, {}, now, SILENCE)
        cases = board.cases.values()
        standing = [case.finding for case in cases if case.closed is None]
        told = silence.findings(quiet, FIFTY, now, SILENCE, standing=standing)
        board, transitions = step(board, told, now, heard=last.keys() - quiet.keys())
        asked += [t.key for t in transitions if t.asks_for_a_person]

    assert len(asked) == 1
    assert asked[0].startswith("site/telemetry/")
