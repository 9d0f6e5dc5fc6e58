"""Whatever breaks between broker and archive, nothing acknowledged is lost.

The campaigns of tests/campaigns, short enough for every run. Each has its
control, an ingester that is wrong on purpose, which must lose: were it to
lose nothing, the campaign would be blind.
"""

from __future__ import annotations

from pathlib import Path

from campaigns import failpoints, kills


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
