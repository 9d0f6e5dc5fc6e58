"""A finding becomes one alarm, which lives until it is over, and no longer.

The engine is pure, so its promises are laws over arbitrary sequences of looks;
what is kept survives the death of the process that kept it.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy
from hypothesis import given, settings
from hypothesis import strategies as st

from twin.finding import Finding, FindingKind
from twin.service.alarms import (
    ActionError,
    Alarms,
    Board,
    Case,
    Change,
    Closure,
    Note,
    Rules,
    Severity,
    Status,
    acknowledge,
    close,
    flow,
    shelve,
    step,
)
from twin.service.state import AuditEntry, Message, State, StateError

ROOT = Path(__file__).resolve().parents[2]
START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def finding(
    unit="hp1",
    kind=FindingKind.FOULING,
    component="condenser",
    cost=20.0,
    seen=START,
    **more,
):
    """Make a condenser that fouls, or what the arguments say."""
    return Finding(
        unit=unit,
        kind=kind,
        component=component,
        since=START - 10 * DAY,
        seen=seen,
        size=0.2,
        low=0.15,
        high=0.25,
        sentence="The condenser has lost 20 % of its conductance.",
        advice="Clean it.",
        cost_eur_day=cost,
        **more,
    )


KEY = finding().key
LOST = {
    "kind": FindingKind.TELEMETRY,
    "component": "telemetry",
    "cost": None,
}


def run(looks, board=None, **options):
    """Take the looks one after another; return the board and all that changed."""
    board = board or Board()
    told = []
    for now, findings in looks:
        board, transitions = step(board, findings, now, **options)
        told += transitions
    return board, told


def changes(told):
    """Return what happened, in order."""
    return [transition.change for transition in told]


# --- one case, from its first sight to its end ------------------------------


def test_is_raised_once_and_then_updated():
    """A hundred looks at one fault are one alarm, with the newest numbers."""
    board, told = run(
        (START + n * HOUR, [finding(seen=START + n * HOUR)]) for n in range(100)
    )

    assert changes(told) == [Change.RAISED]
    assert board.cases[KEY].finding.seen == START + 99 * HOUR
    assert board.cases[KEY].status is Status.UNACKNOWLEDGED


def test_closes_only_after_the_off_delay():
    """Event time decides, and an acknowledged case then ends by itself."""
    board, _ = run([(START, [finding()])])
    board, _ = acknowledge(board, KEY, Note("Ada", START, "will look"))
    board, told = run([(START + DAY, []), (START + 3 * DAY, [])], board)
    assert told == []

    board, told = run([(START + 4 * DAY, [])], board)

    assert changes(told) == [Change.CLOSED]
    assert board.cases[KEY].status is Status.NORMAL


def test_what_nobody_saw_stays_on_the_list_after_it_has_gone():
    """Returned and unacknowledged: a person still has to take note."""
    board, told = run([(START, [finding()]), (START + DAY, []), (START + 5 * DAY, [])])
    assert changes(told) == [Change.RAISED, Change.RETURNED]
    assert board.cases[KEY].status is Status.RETURNED

    board, transition = acknowledge(board, KEY, Note("Ada", START + 6 * DAY))

    assert (transition.change, transition.after) == (Change.CLOSED, Status.NORMAL)


def test_on_delay_is_elapsed_time_not_looks():
    """Two looks 5 minutes apart are not ten minutes, fifty within them neither."""
    sensor = finding(kind=FindingKind.SENSOR, component="sink_outlet_temp_degc")
    minutes = [0, *(n / 10 for n in range(1, 51)), 9.9]
    board, told = run(
        (START + timedelta(minutes=minute), [sensor]) for minute in minutes
    )
    assert told == []
    assert board.cases[sensor.key].status is Status.PENDING

    _, told = run([(START + timedelta(minutes=10), [sensor])], board)

    assert changes(told) == [Change.RAISED]


def test_no_data_is_not_recovery():
    """A unit that could not be judged keeps its alarm, however long it lasts."""
    board, _ = run([(START, [finding()])])
    board, told = run(
        ((START + n * DAY, []) for n in range(1, 60)), board, judged=frozenset()
    )
    assert told == []

    _, told = run(((START + n * DAY, []) for n in range(60, 70)), board)

    assert changes(told) == [Change.RETURNED]  # the negative control: judged, gone


def test_severity_may_rise_and_never_falls_silently():
    """Getting dearer asks for a person again; getting cheaper does not."""
    board, _ = run([(START, [finding(cost=20.0)])])
    board, _ = acknowledge(board, KEY, Note("Ada", START))
    board, told = run([(START + DAY, [finding(cost=80.0)])], board)
    assert changes(told) == [Change.WORSENED]
    assert told[0].asks_for_a_person

    board, told = run([(START + 2 * DAY, [finding(cost=1.0)])], board)

    assert told == []
    assert board.cases[KEY].severity is Severity.HIGH


@pytest.mark.parametrize(
    ("cost", "clean_by", "severity"),
    [
        (1.0, None, Severity.LOW),
        (20.0, None, Severity.MEDIUM),
        (None, None, Severity.MEDIUM),
        (80.0, None, Severity.HIGH),
        (1.0, START + DAY, Severity.MEDIUM),
        (20.0, START + 90 * DAY, Severity.MEDIUM),
    ],
)
def test_severity_is_cost_and_urgency(cost, clean_by, severity):
    """An unknown cost is not a small one; a date that is near lifts by one."""
    board, _ = run([(START, [finding(cost=cost, clean_by=clean_by)])])

    assert board.cases[KEY].severity is severity


# --- laws -------------------------------------------------------------------

FAULTS = [
    finding(),
    finding(component="evaporator", cost=None),
    finding(unit="hp2", kind=FindingKind.MISSED_RECOVERY, component="control"),
    finding(kind=FindingKind.SENSOR, component="sink_inlet_temp_degc", cost=None),
]
looks = st.lists(
    st.tuples(
        st.integers(1, 60 * 24 * 9).map(lambda m: START + timedelta(minutes=m)),
        st.lists(st.sampled_from(FAULTS), max_size=5),
    ),
    max_size=25,
)


@given(looks)
def test_a_repeated_or_late_look_changes_nothing(given_looks):
    """Any sequence equals that of its looks in which time moves on."""
    forward = []
    for look in given_looks:
        if not forward or look[0] > forward[-1][0]:
            forward.append(look)

    doubled = [look for look in given_looks for _ in (0, 1)]

    assert run(doubled) == run(forward)


@given(looks, st.randoms(use_true_random=False))
def test_the_order_of_findings_does_not_matter(given_looks, dice: random.Random):
    """A look is a set, doubled members included."""
    shuffled = [
        (now, dice.sample(found + found[:1], len(found + found[:1])))
        for now, found in given_looks
    ]

    assert run(shuffled) == run(given_looks)


@given(looks)
def test_a_restart_at_any_look_changes_nothing(given_looks):
    """Written down and read back after each look, the same things happen."""
    board, told = Board(), []
    for now, found in given_looks:
        board = Board(
            {
                key: Case.from_dict(json.loads(json.dumps(case.to_dict())))
                for key, case in board.cases.items()
            },
            board.time,
        )
        board, transitions = step(board, found, now)
        told += transitions

    assert (board, told) == run(given_looks)


@given(st.lists(st.booleans(), min_size=288, max_size=288), st.sampled_from(FAULTS))
@settings(max_examples=40)
def test_dithering_for_a_day_is_at_most_two_changes(present, fault):
    """However a value dances on its limit, every five minutes for 24 h."""
    _, told = run(
        (START + n * timedelta(minutes=5), [fault] if there else [])
        for n, there in enumerate(present)
    )

    assert len(told) <= 2


def test_without_delays_dithering_floods():
    """The control of the law above: it is the delays that keep it."""
    none = type(next(iter(Rules().delays.values())))(timedelta(0), timedelta(0))
    rules = Rules(delays=dict.fromkeys(FindingKind, none))

    _, told = run(
        (
            (START + n * timedelta(minutes=5), [finding()] if n % 2 else [])
            for n in range(288)
        ),
        rules=rules,
    )

    assert len(told) > 100


# --- one cause, one alarm ---------------------------------------------------


def test_a_lost_gateway_is_one_alarm():
    """Fifty heat pumps fall silent together, and a person is asked once."""
    lost = [finding(unit="site", **LOST)]
    lost += [finding(unit=f"hp{n}", **LOST) for n in range(50)]
    board, told = run([(START, lost), (START + HOUR, lost)])

    assert Counter(t.asks_for_a_person for t in told)[True] == 1
    assert Counter(case.status for case in board.cases.values()) == {
        Status.SUPPRESSED: 50,
        Status.UNACKNOWLEDGED: 1,
    }


def test_without_the_gateway_the_units_speak_for_themselves():
    """The control: it is the common cause that keeps them silent."""
    lost = [finding(unit=f"hp{n}", **LOST) for n in range(5)]
    _, told = run([(START, lost), (START + HOUR, lost)])

    assert sum(t.asks_for_a_person for t in told) == 5


def test_a_lying_probe_silences_what_was_concluded_from_it_and_only_that():
    """The evidence names the points a conclusion rests on."""
    probe = finding(
        kind=FindingKind.SENSOR, component="sink_outlet_temp_degc", cost=None
    )
    leans = finding(evidence={"points": ["sink_outlet_temp_degc"]})
    stands = finding(
        component="evaporator", evidence={"points": ["source_inlet_temp_degc"]}
    )
    board, _ = run([(START, [probe]), (START + HOUR, [probe, leans, stands])])

    assert board.cases[leans.key].status is Status.SUPPRESSED
    assert board.cases[leans.key].suppressed_by == probe.key
    assert board.cases[stands.key].status is Status.UNACKNOWLEDGED

    board, told = run(
        [(START + HOUR + n * DAY, [leans, stands]) for n in range(1, 4)], board
    )

    assert board.cases[leans.key].status is Status.UNACKNOWLEDGED
    assert any(t.change is Change.UNSUPPRESSED and t.asks_for_a_person for t in told)


def test_a_unit_that_stays_silent_when_the_others_are_back_speaks_for_itself():
    """The gateway explains its own units, and only while it is away."""
    away = finding(unit="site", evidence={"units": ["hp1", "hp2"]}, **LOST)
    own, other = finding(unit="hp1", **LOST), finding(unit="hp3", **LOST)
    board, told = run([(START, [away, own, other]), (START + HOUR, [away, own, other])])
    assert [t.key for t in told if t.asks_for_a_person] == [other.key, away.key]
    assert board.cases[own.key].suppressed_by == away.key

    board, told = run([(START + 2 * HOUR, [own, other])], board, heard={"hp2"})

    assert [(t.key, t.change) for t in told] == [(own.key, Change.UNSUPPRESSED)]
    assert told[0].asks_for_a_person


def test_a_silence_is_over_when_the_unit_talks_though_it_cannot_be_judged():
    """A cooler is never judged, and a machine not before its reference is learnt."""
    lost = finding(unit="cooler1", **LOST)
    later = [(START + 2 * HOUR + n * DAY, []) for n in range(2)]
    board, _ = run([(START, [lost]), (START + HOUR, [lost])])

    _, told = run(later, board, judged=(), heard={"cooler1"})
    assert changes(told) == [Change.RETURNED]
    _, told = run(later, board, judged=("cooler1",), heard=())
    assert told == []  # the control: nobody has heard it


def test_the_end_of_a_day_says_nothing_of_who_talks():
    """Between two looks it neither ends a silence nor begins its delay anew."""
    lost = finding(unit="hp1", **LOST)
    board, _ = run([(START, [lost]), (START + HOUR, [lost])])
    board, told = run([(START + n * DAY, []) for n in range(1, 5)], board)
    assert told == []
    board, _ = run([(START + 4 * DAY + HOUR, [])], board, heard={"hp1"})
    board, told = run([(START + 5 * DAY, [])], board)

    _, told = run([(START + 5 * DAY + HOUR, [])], board, heard={"hp1"})

    assert changes(told) == [Change.RETURNED]


def test_what_nobody_was_told_of_leaves_nobody_a_chore():
    """Raised behind a lying probe and gone again: closed, and in the audit."""
    probe = finding(
        kind=FindingKind.SENSOR, component="sink_outlet_temp_degc", cost=None
    )
    leans = finding(evidence={"points": ["sink_outlet_temp_degc"]})
    board, _ = run([(START, [probe]), (START + HOUR, [probe, leans])])
    assert board.cases[leans.key].untold

    gone = [(START + HOUR + n * DAY, [probe]) for n in range(1, 5)]
    board, told = run(gone, board)

    assert [(t.change, t.quiet) for t in told] == [(Change.CLOSED, True)]
    assert board.cases[leans.key].status is Status.NORMAL


def test_a_lie_in_a_backlog_is_no_news_until_the_unit_talks():
    """What stands when it does is raised then; the control is a unit that talks."""
    named = {"evidence": {"named": "2026-01-01T00:00:00+00:00"}}
    lie = finding(kind=FindingKind.SENSOR, component="sink_flow_m3_s", **named)
    looks = [(START + n * HOUR, [lie]) for n in range(3)]
    board, told = run(looks, heard=())
    assert (board.cases, told) == ({}, [])
    assert changes(run(looks, heard={"hp1"})[1]) == [Change.RAISED]

    board, told = run([(START + 3 * HOUR, [lie])], board, heard={"hp1"})
    assert changes(told) == [Change.RAISED]
    later = [(START + 4 * HOUR + n * DAY, [lie]) for n in range(3)]
    board, told = run(later, board, heard=())

    assert told == []  # an open one stays as it is
    assert board.cases[lie.key].status is Status.UNACKNOWLEDGED


# --- history ----------------------------------------------------------------


def season(live):
    """Three weeks of catching up with three faults; the last look is the present."""
    gone, stands = finding(), finding(component="evaporator")
    acked = finding(unit="hp2")
    board, _ = run([(START, [acked])])
    board, _ = acknowledge(board, acked.key, Note("Ada", START))
    told = []
    for n in range(1, 22):
        found = [gone] if n < 8 else []
        found += [stands] if n > 10 else []
        found += [replace(acked, cost_eur_day=90.0 if n > 12 else 20.0)]
        now = START + n * DAY
        board, transitions = step(board, found, now, live=live or n == 21)
        told += transitions
    return board, told


def test_days_that_are_over_page_nobody():
    """What still stands is announced once, at the first look at the present."""
    board, told = season(live=False)
    asked = [t for t in told if t.asks_for_a_person]

    assert {t.time for t in asked} == {START + 21 * DAY}
    assert {(t.key, t.change) for t in asked} == {
        ("hp1/fouling/evaporator", Change.ANNOUNCED),
        ("hp2/fouling/condenser", Change.ANNOUNCED),
    }
    assert not any(t.is_an_end for t in told)
    assert board.cases[KEY].status is Status.NORMAL  # nobody has to take note
    assert Change.RAISED in changes(told)  # and the audit has it all
    assert not any(case.untold for case in board.cases.values())


def test_looked_at_live_the_same_days_page_each_time():
    """The control: it is the flag that keeps them silent."""
    board, told = season(live=True)

    assert sum(t.asks_for_a_person for t in told) == 3
    assert board.cases[KEY].status is Status.RETURNED


def test_history_that_a_restart_cut_short_is_announced_after_it():
    """That nobody was told yet is kept with the case."""
    state = State.in_memory()
    Alarms(state).step([finding()], START, live=False)
    again = Alarms(state)
    assert again.board.cases[KEY].untold
    told = again.step([finding()], START + HOUR) + again.step([finding()], START + DAY)

    assert changes(told) == [Change.ANNOUNCED]


def test_a_case_of_an_older_version_was_told():
    """It has no such fact; it must not be announced by an update."""
    board, _ = run([(START, [finding()])])
    kept = board.cases[KEY].to_dict()
    del kept["untold"]
    board = Board({KEY: Case.from_dict(kept)}, START)

    assert run([(START + DAY, [finding()])], board)[1] == []


# --- how many ---------------------------------------------------------------


def test_the_flow_counts_who_was_asked_and_when():
    """By hand: 12 in ten minutes, one of them three times within one."""
    alarms = Alarms(State.in_memory())
    many = [finding(unit=f"hp{n}") for n in range(9)]
    alarms.step(many, START + HOUR)
    for seconds, cost in ((20, 1.0), (30, 30.0), (40, 90.0)):
        look = [finding(unit="hp9", cost=cost)]
        alarms.step([*many, *look], START + HOUR + timedelta(seconds=seconds))
    alarms.step([], START + 2 * HOUR, live=False)
    cases = alarms.board.cases.values()
    told = flow(alarms.history(10**6), START, START + 30 * HOUR, cases)

    assert (told.alarms, told.most) == (12, 12)
    assert told.per_hour == pytest.approx(12 / 30)
    assert told.chattering == ("hp9/fouling/condenser",)
    assert len(told.standing) == 10
    quiet = flow(alarms.history(10**6), START + HOUR, START + 2 * HOUR)
    assert (quiet.alarms, quiet.most) == (3, 3)  # what was at its start is not in it


# --- persons ----------------------------------------------------------------


def test_a_shelf_needs_a_reason_and_an_end_and_ends_by_itself():
    """What is put away comes back unasked."""
    board, _ = run([(START, [finding()])])
    with pytest.raises(ActionError, match="reason"):
        shelve(board, KEY, Note("Ada", START, "", START + DAY))
    with pytest.raises(ActionError, match="end that lies ahead"):
        shelve(board, KEY, Note("Ada", START, "waiting for parts"))
    with pytest.raises(ActionError, match="7 days"):
        shelve(board, KEY, Note("Ada", START, "waiting", START + 8 * DAY))
    with pytest.raises(ActionError, match="who are you"):
        shelve(board, KEY, Note(" ", START, "waiting", START + DAY))

    board, _ = shelve(board, KEY, Note("Ada", START, "waiting", START + DAY))
    assert board.cases[KEY].status is Status.SHELVED
    board, told = run([(START + 23 * HOUR, [finding()])], board)
    assert told == []
    board, told = run([(START + 24 * HOUR, [finding()])], board)

    assert changes(told) == [Change.UNSHELVED]
    assert told[0].asks_for_a_person


def test_a_shelved_case_that_worsens_tells_nobody():
    """The shelf is a person's decision; it ends, and then all is said."""
    board, _ = run([(START, [finding(cost=1.0)])])
    board, _ = shelve(board, KEY, Note("Ada", START, "waiting", START + DAY))
    _, told = run([(START + HOUR, [finding(cost=500.0)])], board)

    assert changes(told) == [Change.WORSENED]
    assert not told[0].asks_for_a_person


def test_a_claimed_repair_is_checked():
    """If the finding stays, the case opens again; if it goes, that is said."""
    board, _ = run([(START, [finding()])])
    claimed, _ = close(board, KEY, Note("Ada", START, "cleaned"), Closure.FIXED)
    daily = range(1, 12)

    _, told = run([(START + n * DAY, [finding()]) for n in daily], claimed)
    assert changes(told) == [Change.REOPENED]
    assert told[0].time == START + 7 * DAY

    _, told = run([(START + n * DAY, []) for n in daily], claimed)
    assert changes(told) == [Change.VERIFIED]


def test_not_a_fault_holds_until_it_is_another_matter():
    """Feedback silences this severity of this case, not a worse one."""
    board, _ = run([(START, [finding(cost=20.0)])])
    board, _ = close(board, KEY, Note("Ada", START, "by design"), Closure.NOT_A_FAULT)
    board, told = run(
        [(START + n * DAY, [finding(cost=20.0)]) for n in range(1, 100)], board
    )
    assert told == []

    _, told = run([(START + 100 * DAY, [finding(cost=90.0)])], board)

    assert changes(told) == [Change.REOPENED]


def test_a_second_acknowledgement_says_who_was_first():
    """Two people at two screens: the second learns of the first."""
    board, _ = run([(START, [finding()])])
    board, _ = acknowledge(board, KEY, Note("Ada", START))

    with pytest.raises(ActionError, match="acknowledged by Ada"):
        acknowledge(board, KEY, Note("Bob", START + HOUR))


def test_out_of_service_lasts_until_a_person_ends_it(state: State):
    """Even over the end of one occurrence and the start of the next."""
    alarms = Alarms(state)
    alarms.step([finding()], START)
    alarms.take_out_of_service(KEY, "Ada", START, "rebuilt in spring")
    alarms.acknowledge(KEY, "Ada", START)
    for n in range(1, 6):
        alarms.step([], START + n * DAY)
    told = alarms.step([finding()], START + 6 * DAY)
    assert [t.asks_for_a_person for t in told] == [False]

    alarms.bring_into_service(KEY, "Ada", START + 7 * DAY)

    case = alarms.case(KEY)
    assert case is not None
    assert (case.status, case.occurrence) == (Status.UNACKNOWLEDGED, 2)


# --- what is kept -----------------------------------------------------------


def test_a_restart_raises_nothing_anew(kept):
    """The same findings after a restart are the same case, note included."""
    alarms = Alarms(kept.open())
    alarms.step([finding()], START)
    alarms.acknowledge(KEY, "Ada", START, "will look")

    again = Alarms(kept.open())
    told = again.step([finding()], START) + again.step([finding()], START + HOUR)

    assert told == ()
    case = again.case(KEY)
    assert case is not None
    assert case.acknowledged == Note("Ada", START, "will look")
    assert [entry.action for entry in again.history()] == ["acknowledged", "raised"]


def test_what_was_reported_done_survives_a_kill(kept):
    """Killed at an arbitrary moment, five times: no case, line or message lost.

    The child prints a look's number after the look has returned. Whatever was
    printed must be there, whole, and nothing may be there twice.
    """
    child = textwrap.dedent(
        """
        import sys
        from datetime import UTC, datetime, timedelta
        from twin.finding import Finding, FindingKind
        from twin.service.alarms import Alarms
        from twin.service.state import Message, State

        start = datetime(2026, 1, 1, tzinfo=UTC)

        def say(transition, case):
            return [Message(idempotency_key=transition.key, route="r",
                            created=transition.time, content={})]

        alarms = Alarms(State(sys.argv[1]), compose=say)
        first = len(alarms.board.cases)
        for n in range(first, 100000):
            alarms.step([Finding(unit=f"hp{n}", kind=FindingKind.FOULING,
                component="condenser", since=start, seen=start, size=.2, low=.1,
                high=.3, sentence="s", advice="a")], start + timedelta(seconds=n))
            print(n, flush=True)
        """
    )
    dice = random.Random(3)  # noqa: S311  # a seed, not a secret
    said = -1
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", child, kept.url],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert process.stdout is not None
        for _ in range(dice.randrange(1, 40)):
            said = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
        process.wait()
        process.stdout.close()
        said = max([said, *map(int, rest)])
    state = kept.open()
    count = len(Alarms(state).board.cases)

    assert said > 5
    assert said + 1 <= count <= said + 2  # the last one may not have been printed
    assert len(state.audit(limit=10**6)) == count
    assert state.backlog().count == count


def test_the_audit_cannot_be_rewritten(kept):
    """Not even by somebody with the database in hand and SQL to hand."""
    state = kept.open()
    state.save(
        audit=[AuditEntry(time=START, actor="Ada", action="closed", subject="x")]
    )
    engine = sqlalchemy.create_engine(kept.url)
    statements = ["DELETE FROM audit", "UPDATE audit SET actor = 'Bob'"]
    if engine.name == "postgresql":
        statements += ["TRUNCATE audit", "DELETE FROM audit WHERE id < 0"]
    for statement in statements:
        with (
            pytest.raises(sqlalchemy.exc.IntegrityError, match="append-only"),
            engine.begin() as connection,
        ):
            connection.execute(sqlalchemy.text(statement))
    with engine.begin() as connection:  # it is the audit that is closed, no other
        connection.execute(sqlalchemy.text("DELETE FROM cases"))
    engine.dispose()

    assert [entry.actor for entry in state.audit()] == ["Ada"]


def test_a_change_and_its_messages_are_one(state: State):
    """If a message cannot be written down, the change has not happened."""

    def refuse(transition, case):
        return [
            Message(
                idempotency_key="k",
                route=None,  # type: ignore[arg-type]
                created=START,
                content={},
            )
        ]

    alarms = Alarms(state, compose=refuse)
    with pytest.raises(sqlalchemy.exc.IntegrityError):
        alarms.step([finding()], START)

    assert alarms.board.cases == {}
    assert state.cases() == {}
    assert state.audit() == []


@pytest.mark.parametrize("damage", [b"not a database at all " * 50, b"SQLite format 3"])
def test_a_damaged_database_is_named_with_the_way_out(tmp_path: Path, damage):
    """No traceback from below: the file, and what to do."""
    path = tmp_path / "state.sqlite"
    path.write_bytes(damage * 10)

    with pytest.raises(StateError, match="put the last backup in its place"):
        State.open(path)


def test_a_newer_database_is_not_touched(kept):
    """An old program must not guess at a new one's tables."""
    kept.open().save(facts={"version": "99"})

    with pytest.raises(StateError, match="newer hptwin"):
        kept.open()


def test_a_clock_that_ran_ahead_is_set_back_by_name(state: State):
    """Until then older looks are not counted; the audit says who did it."""
    alarms = Alarms(state)
    alarms.step([], START + 365 * DAY)
    assert alarms.step([finding()], START) == ()

    alarms.rewind(START - HOUR, "service")

    assert changes(alarms.step([finding()], START)) == [Change.RAISED]
    assert alarms.history()[-1].action == "rewound"


def test_delays_that_began_in_the_future_are_set_back_with_the_clock():
    """Else what is pending or absent would be waited for until the year is over."""
    alarms = Alarms(State.in_memory())
    probe = finding(kind=FindingKind.SENSOR, component="sink_flow_m3_s", cost=None)
    alarms.step([finding()], START)
    alarms.acknowledge(KEY, "Ada", START)
    alarms.step([probe], START + 365 * DAY)
    alarms.rewind(START + HOUR, "clock guard")
    told = alarms.step([probe], START + 2 * HOUR)
    assert changes(told) == [Change.RAISED]

    told = alarms.step([probe], START + HOUR + 3 * DAY)

    assert changes(told) == [Change.CLOSED]
    kept = Alarms(alarms._state).board
    assert kept == alarms.board


def test_what_a_command_did_beside_the_service_is_not_written_over(tmp_path: Path):
    """Two processes at one database: the service goes on from what the other left."""
    service = Alarms(State.open(tmp_path / "state.sqlite"))
    service.step([finding()], START)
    command = Alarms(State.open(tmp_path / "state.sqlite"))
    command.acknowledge(KEY, "Ada", START + HOUR)
    told = service.step([finding(cost=21.0, seen=START + DAY)], START + DAY)

    assert told == ()
    case = service.case(KEY)
    assert case is not None
    assert case.status is Status.ACKNOWLEDGED
    assert case.finding.seen == START + DAY
    with pytest.raises(ActionError, match="acknowledged by Ada"):
        service.acknowledge(KEY, "Bob", START + DAY)
    service.shelve(KEY, "Bob", START + DAY, START + 2 * DAY, "parts")
    assert command.unshelve(KEY, "Ada", START + DAY).before is Status.SHELVED
