"""Whatever breaks between broker and archive, nothing acknowledged is lost.

The campaigns of tests/campaigns, short enough for every run. Each has its
control, an ingester that is wrong on purpose, which must lose: were it to
lose nothing, the campaign would be blind.
"""

from __future__ import annotations

from pathlib import Path

from campaigns import damage, diskfull, failpoints, kills, outage, powercut


def test_killing_the_ingester_loses_nothing(tmp_path: Path) -> None:
    """Signal 9 at random moments under load; and the counts always balance."""
    kills.whole(tmp_path, quick=True).held()


def test_acknowledging_at_receipt_loses(tmp_path: Path) -> None:
    """The control of the kills."""
    outcome = kills.control(tmp_path, quick=True)

    assert outcome.faults
    assert outcome.lost


def test_verdicts_apart_from_their_cursor_do_not_balance(tmp_path: Path) -> None:
    """The control of the conservation law: the scrapes can see it broken."""
    outcome = kills.torn(tmp_path)

    assert outcome.figures["unbalanced_scrapes"]


def test_ending_at_any_step_loses_nothing(tmp_path: Path) -> None:
    """From before the append to after the renaming of a sealed day."""
    failpoints.run(tmp_path, quick=True).held()


def test_acknowledging_before_the_append_loses(tmp_path: Path) -> None:
    """The control of the failpoints."""
    outcome = failpoints.control(tmp_path, quick=True)

    assert outcome.faults
    assert outcome.lost


def test_an_archive_that_is_away_costs_nothing_but_disk(tmp_path: Path) -> None:
    """A real InfluxDB hangs, then is gone; memory stays, order and all do too."""
    outage.whole(tmp_path, quick=True).held()


def test_giving_up_what_the_archive_does_not_take_loses(tmp_path: Path) -> None:
    """The control of the outage."""
    outcome = outage.control(tmp_path, quick=True)

    assert outcome.faults
    assert outcome.lost


def test_full_disks_are_said_and_lose_nothing(tmp_path: Path) -> None:
    """The journal's, which stops the acknowledging, and the archive's."""
    diskfull.run(tmp_path, quick=True).held()


def test_acknowledging_on_a_full_disk_loses(tmp_path: Path) -> None:
    """The control of the full disk."""
    outcome = diskfull.control(tmp_path, quick=True)

    assert outcome.faults
    assert outcome.lost


def test_a_power_cut_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """On a filesystem of its own, shut down without flushing."""
    powercut.run(tmp_path, quick=True).held()


def test_without_a_sync_at_each_commit_a_power_cut_loses(tmp_path: Path) -> None:
    """The control of the power cut."""
    outcome = powercut.control(tmp_path, quick=True)

    assert outcome.faults
    assert outcome.lost


def test_damage_is_found_and_said_and_never_a_wrong_value(tmp_path: Path) -> None:
    """A flipped byte, a lost end, a page of zeros, in every file there is."""
    damage.run(tmp_path, quick=True).held()


def test_a_flipped_digit_in_the_journal_is_quarantined(tmp_path: Path) -> None:
    """The batch around it is missing and named; the rest is there."""
    damage.digits(tmp_path).held()


def test_without_checksums_a_flipped_digit_is_believed(tmp_path: Path) -> None:
    """The control of the damage: a value that nobody has sent."""
    outcome = damage.control(tmp_path, quick=True)

    assert outcome.faults
    assert outcome.lost
