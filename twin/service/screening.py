"""Whether somebody who could use the heat is worth a pipe: on the recorded plant.

What a consumer would have got is asked of the record (:mod:`calibration.whatif`),
and what the pipe loses on the way is taken off. It pays when the heat, less the
electricity to lift and to pump it, pays trench and station back within their life.
It says no, and why.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from calibration.whatif import Neighbour
from twin.ledger import J_PER_KWH
from twin.pipe import Pipe
from twin.service.whatif import Answer

STATION_K = 3.0
"""What the consumer's exchanger takes of the temperature. [K]"""
DENSE_MWH_M = 0.5
"""Heat sold each year for a metre of trench below which networks do not pay: a
round figure of the trade. [MWh/(m a)]"""
_LEAST_DAYS = 30.0
_YEAR_DAYS = 365.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is assumed of money and ground; round figures, to be replaced by quotes.

    Costs of trench with pipes [EUR/m] and station [EUR/W]; interest [1/a]; life [a];
    temperature of the soil. [degC] Prices are the record's.
    """

    trench_eur_m: float = 1200.0
    station_eur_w: float = 0.12
    interest: float = 0.05
    life_years: float = 20.0
    soil_degc: float = 10.0

    @property
    def annuity(self) -> float:
        """Share of what was spent that each year of its life has to bring. [1/a]."""
        if self.interest == 0.0:
            return 1.0 / self.life_years
        grown = (1.0 + self.interest) ** self.life_years
        return float(self.interest * grown / (grown - 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where somebody is who could use the heat, and how.

    ``distance_m`` along the trench [m], ``peak_w`` the most he takes [W], supply and
    return at his station. [degC]
    """

    distance_m: float
    peak_w: float
    supply_degc: float
    return_degc: float

    @property
    def pipe(self) -> Pipe:
        """The pair that reaches him."""
        return Pipe(self.distance_m, self.peak_w, self.supply_degc - self.return_degc)

    def sent_degc(self, terms: Terms) -> float:
        """How hot the heat pump has to deliver, so that it arrives. [degC]."""
        pipe = self.pipe
        loss = pipe.loss_w(self.supply_degc, self.return_degc, terms.soil_degc)
        # Half of what both pipes lose is the supply's.
        cooled = 0.5 * loss / (pipe.heat_w / pipe.spread_k)
        return self.supply_degc + STATION_K + cooled


@dataclass(frozen=True, slots=True, kw_only=True)
class Screening:
    """What comes of it in a year, and the verdict.

    Attributes
    ----------
    sold_j, lost_j, wanted_j
        Heat that he gets, that the pipe loses, and that he wants. [J/a]
    earned_eur
        Heat sold less electricity to lift and pump, with what rejection saved. [EUR/a]
    spent_eur
        Trench and station. [EUR]
    payback_years
        Infinite where nothing is earned. [a]
    kg
        Avoided emission; NaN where no factor is known. [kg/a]
    reaches_m
        How far away he might be before it stops paying. [m]
    no
        Why not, each as a sentence; empty where it pays.
    remarks
        What else is to be known.
    """

    site: Site
    terms: Terms
    sent_degc: float
    nominal: int
    sold_j: float
    lost_j: float
    wanted_j: float
    earned_eur: float
    spent_eur: float
    payback_years: float
    kg: float
    reaches_m: float
    no: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def pays(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.no

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values; energies in kWh, what is not known as None."""
        told = {
            "pays": self.pays,
            "no": list(self.no),
            "remarks": list(self.remarks),
            "distance_m": self.site.distance_m,
            "sent_degc": self.sent_degc,
            "nominal_diameter": self.nominal,
            "sold_kwh_a": self.sold_j / J_PER_KWH,
            "lost_kwh_a": self.lost_j / J_PER_KWH,
            "wanted_kwh_a": self.wanted_j / J_PER_KWH,
            "earned_eur_a": self.earned_eur,
            "spent_eur": self.spent_eur,
            "payback_years": self.payback_years,
            "co2e_kg_a": self.kg,
            "reaches_m": self.reaches_m,
        }
        return {
            name: None
            if isinstance(value, float) and not math.isfinite(value)
            else value
            for name, value in told.items()
        }


def asked(site: Site, consumer: Neighbour, terms: Terms) -> Neighbour:
    """Return the consumer as the heat pumps see him: as hot as it must be sent."""
    return replace(consumer, temp_degc=site.sent_degc(terms))


def screen(site: Site, terms: Terms, answer: Answer) -> Screening:
    """Judge a possible consumer.

    Parameters
    ----------
    site, terms : Site, Terms
        Where he is and what is assumed.
    answer : Answer
        Of the record to :func:`asked`: what he would have been given there.

    Returns
    -------
    Screening
        Scaled to a year; a record of less than a year says so.
    """
    sums = answer.sums
    days = sums.seconds / 86400.0
    yearly = _YEAR_DAYS / days if days > 0.0 else 0.0
    given = max(sums.delivered_then - sums.delivered, 0.0) * yearly
    wanted = sums.wanted * yearly
    price = sums.eur * yearly / given if given > 0.0 else math.nan

    def at(distance: float) -> tuple[float, float, float, float]:
        """Return heat sold and lost, EUR earned a year and spent, at a distance."""
        there = replace(site, distance_m=distance)
        pipe = there.pipe
        flowing = given / max(site.peak_w * _YEAR_DAYS * 86400.0, 1.0)
        lost = min(
            pipe.loss_w(site.supply_degc, site.return_degc, terms.soil_degc)
            * _YEAR_DAYS
            * 86400.0,
            given,
        )
        pumped = pipe.pump_w * flowing * _YEAR_DAYS * 86400.0
        cost = pumped * sums.electricity_price
        # What the pipe loses is made, and not paid for.
        earned = price * given - sums.heat_price * lost - cost
        spent = terms.trench_eur_m * distance * pipe.lines
        spent += terms.station_eur_w * site.peak_w
        return given - lost, lost, earned, spent

    sold, lost, earned, spent = at(site.distance_m)
    payback = spent / earned if earned > 0.0 else math.inf
    no = []
    if sums.unreachable > 0.0:
        no.append(
            f"no heat pump here delivers the {site.sent_degc(terms):.0f} degC that it"
            " must be sent at"
        )
    elif given <= 0.0:
        no.append("no heat was left over that he could have had")
    elif math.isnan(earned):
        no.append("what heat is worth is not known: set heat_price in [tariff]")
    else:
        if earned <= spent * terms.annuity:
            no.append(
                f"it earns {earned:,.0f} EUR a year and would have to earn"
                f" {spent * terms.annuity:,.0f} to pay back {spent:,.0f} EUR in"
                f" {terms.life_years:g} years at {terms.interest:.0%}"
            )
        dense = sold / J_PER_KWH / 1e3 / site.distance_m
        if dense < DENSE_MWH_M:
            no.append(
                f"{dense:.2f} MWh a year for a metre of trench are few: below"
                f" {DENSE_MWH_M:g} there is no user nearby enough"
            )
    remarks = list(answer.remarks)
    if days < _LEAST_DAYS:
        no.append(f"{days:.0f} days of record say too little of a year")
    elif days < _YEAR_DAYS:
        remarks.append(f"scaled to a year from {days:.0f} days, whatever their season")
    if 0.0 < given < 0.9 * wanted:
        remarks.append(
            f"he gets {given / (wanted):.0%} of what he wants and needs"
            " another source besides"
        )
    return Screening(
        site=site,
        terms=terms,
        sent_degc=site.sent_degc(terms),
        nominal=site.pipe.nominal,
        sold_j=sold,
        lost_j=lost,
        wanted_j=wanted,
        earned_eur=earned,
        spent_eur=spent,
        payback_years=payback,
        kg=sums.kg * yearly,
        reaches_m=_reach(lambda far: (at(far)[2], at(far)[3]), terms),
        no=tuple(no),
        remarks=tuple(remarks),
    )


def _reach(money: Callable[[float], tuple[float, float]], terms: Terms) -> float:
    """Return the distance at which it earns what it has to; 0 where it never does."""

    def over(distance: float) -> float:
        earned, spent = money(distance)
        return float(earned - spent * terms.annuity)

    near, far = 1.0, 1e5
    if not over(near) > 0.0:
        return 0.0
    if over(far) > 0.0:
        return far
    for _ in range(60):
        middle = 0.5 * (near + far)
        near, far = (middle, far) if over(middle) > 0.0 else (near, middle)
    return near


def lines(found: Screening) -> list[str]:
    """Return the screening in words."""
    site, terms = found.site, found.terms
    told = [
        f"{site.peak_w / 1e3:,.0f} kW at {site.supply_degc:g} degC,"
        f" {site.distance_m:,.0f} m away: a pair of DN {found.nominal}, sent at"
        f" {found.sent_degc:.1f} degC",
        f"sold {found.sold_j / J_PER_KWH:,.0f} kWh a year of"
        f" {found.wanted_j / J_PER_KWH:,.0f} wanted; the pipe loses"
        f" {found.lost_j / J_PER_KWH:,.0f}",
    ]
    if math.isfinite(found.earned_eur):
        told.append(
            f"earns {found.earned_eur:,.0f} EUR a year for {found.spent_eur:,.0f} EUR:"
            + (
                f" paid back in {found.payback_years:.1f} years"
                if math.isfinite(found.payback_years)
                else " never paid back"
            )
        )
        told.append(
            f"at {terms.interest:.0%} over {terms.life_years:g} years it would pay up"
            f" to {found.reaches_m:,.0f} m away"
        )
    if math.isfinite(found.kg):
        told.append(f"{found.kg / 1e3:,.1f} t CO2e a year avoided")
    told += ["it pays"] if found.pays else [f"no: {why}" for why in found.no]
    told += [*found.remarks]
    told.append("all of it is modelled; costs are round figures unless you gave yours")
    return told
