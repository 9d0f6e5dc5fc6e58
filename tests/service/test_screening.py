"""A consumer pays or not by the numbers of a record, and a no says why."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.whatif import Neighbour, Sums
from twin.service.screening import Site, Terms, asked, lines, screen
from twin.service.whatif import Answer

SITE = Site(distance_m=100.0, peak_w=2e5, supply_degc=60.0, return_degc=40.0)
CONSUMER = Neighbour(2e5, 60.0)
YEAR = 365.0 * 86400.0
KWH = 3.6e6


def answer(served: float = 1.0, **more: float) -> Answer:
    """Return a record of a year in which so much of 200 kW was served, at COP 4.

    Heat brings 60 EUR/MWh, electricity costs 120.
    """
    given_j = served * 2e5 * YEAR
    sums = Sums(
        delivered=1e12, delivered_then=1e12 + given_j, power=2e11,
        power_then=2e11 + given_j / 4.0, heat_eur=given_j / KWH * 0.06,
        eur=given_j / KWH * (0.06 - 0.12 / 4.0), kg=given_j / KWH * 0.1,
        price_s=0.12 / KWH * YEAR, seconds=YEAR, wanted=2e5 * YEAR,
    )  # fmt: skip
    for name, value in more.items():
        setattr(sums, name, value)
    return Answer(CONSUMER, sums, "", ())


def test_one_is_worked_by_hand():
    """1752 MWh at 30 EUR net, less what the pipe loses and the pump takes."""
    terms = Terms()
    found = screen(SITE, terms, answer())
    pipe = SITE.pipe
    lost = pipe.loss_w(60.0, 40.0, 10.0) * YEAR / KWH
    pumped = pipe.pump_w * YEAR / KWH
    earned = 1_752_000 * 0.03 - lost * 0.06 - pumped * 0.12
    spent = 100.0 * 1200.0 + 200.0 * 120.0

    assert found.wanted_j / KWH == pytest.approx(1_752_000)
    assert found.lost_j / KWH == pytest.approx(lost)
    assert found.sold_j / KWH == pytest.approx(1_752_000 - lost)
    assert found.earned_eur == pytest.approx(earned)
    assert found.spent_eur == pytest.approx(spent)
    assert found.payback_years == pytest.approx(spent / earned)
    assert terms.annuity == pytest.approx(0.0802426, abs=1e-6)
    assert found.pays
    assert "it pays" in lines(found)
    # 60 at his station, three kelvin of exchanger, and what the supply loses.
    assert 63.0 < found.sent_degc < 64.0
    assert asked(SITE, CONSUMER, terms).temp_degc == found.sent_degc


@pytest.mark.parametrize(
    ("site", "told", "why"),
    [
        (replace(SITE, distance_m=9000.0), answer(), "pay back"),
        (replace(SITE, distance_m=5000.0), answer(), "no user nearby enough"),
        (SITE, answer(unreachable=1.0), "no heat pump here delivers"),
        (SITE, answer(0.0), "no heat was left over"),
        (SITE, answer(eur=float("nan")), "set heat_price"),
        (SITE, answer(seconds=10 * 86400.0), "say too little"),
    ],
)
def test_a_no_says_why(site: Site, told: Answer, why: str):
    """In a sentence, whatever it is."""
    found = screen(site, Terms(), told)

    assert not found.pays
    assert any(why in sentence for sentence in found.no)
    assert any(line.startswith("no: ") for line in lines(found))
    assert found.to_dict()["pays"] is False


@given(st.floats(10.0, 5000.0), st.floats(0.1, 1.0))
def test_nobody_nearer_pays_less(distance: float, served: float):
    """And up to how far it reaches, it earns what it has to."""
    terms = Terms()
    near = screen(replace(SITE, distance_m=distance), terms, answer(served))
    far = screen(replace(SITE, distance_m=distance * 1.5), terms, answer(served))

    assert far.payback_years >= near.payback_years
    assert near.reaches_m == pytest.approx(far.reaches_m)
    if near.reaches_m > 1.0:
        just = screen(replace(SITE, distance_m=near.reaches_m), terms, answer(served))
        owed = just.spent_eur * terms.annuity
        assert just.earned_eur == pytest.approx(owed, rel=1e-3)


def test_without_interest_a_year_pays_its_share():
    """A twentieth of what was spent, for twenty years."""
    assert Terms(interest=0.0).annuity == pytest.approx(0.05)
