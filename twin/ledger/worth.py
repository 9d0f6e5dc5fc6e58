"""What a joule is worth, in money and in carbon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from twin.ledger.intervals import Columns
from twin.plant import Consumer, Plant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Worth:
    """What a joule is worth in each interval; NaN is unknown.

    ``electricity`` and ``heat`` per joule [EUR/J], ``electricity_emission`` and
    ``heat_emission`` likewise [kg/J], ``fan`` the electricity spent to throw a
    joule away [1], ``cold`` and ``cold_emission`` those of a joule of cold.
    """

    electricity: Array
    heat: Array
    electricity_emission: Array
    heat_emission: Array
    fan: Array
    cold: Array
    cold_emission: Array

    def value(self, delivered: Array, source: Array, cop: Array) -> tuple[Array, Array]:
        """Return what heat would have brought, had it been delivered.

        What the consumer pays for it, less the electricity to lift it, plus
        the fan electricity that throwing it away has cost. The electricity
        to lift it is what a machine as commissioned needs.

        Parameters
        ----------
        delivered : ndarray
            Heat at the consumer's side. [J]
        source : ndarray
            The same heat on the source side, as it was thrown away. [J]
        cop : ndarray
            COP of the machine as commissioned. [1]

        Returns
        -------
        eur, kg : ndarray
            Value [EUR] and avoided emission [kg], both negative where
            delivering would have cost; NaN where a price or factor is unknown.
        """
        lift = delivered / cop
        saved = source * self.fan
        eur = delivered * self.heat + (saved - lift) * self.electricity
        kg = delivered * self.heat_emission + (saved - lift) * self.electricity_emission
        return eur, kg

    def of_cooling(
        self, delivered: Array, instead: Array, cold: Array, cop: Array, others: Array
    ) -> tuple[Array, Array]:
        """Return what a machine would have brought that cools somebody.

        What both of its consumers pay for, less the electricity to lift it. Where
        it would have taken a neighbour's place, his electricity is saved, and the
        heat that he took is thrown away.

        Parameters
        ----------
        delivered : ndarray
            Heat that nobody delivered. [J]
        instead : ndarray
            Heat that it would have delivered in its neighbours' place. [J]
        cold : ndarray
            Cold that it would have given. [J]
        cop, others : ndarray
            COP as commissioned of the machine, and of its neighbours. [1]

        Returns
        -------
        eur, kg : ndarray
            As :meth:`value`.
        """
        fans = instead * (1.0 - 1.0 / others) * self.fan
        lift = (delivered + instead) / cop - instead / others + fans
        eur = delivered * self.heat + cold * self.cold - lift * self.electricity
        kg = (
            delivered * self.heat_emission
            + cold * self.cold_emission
            - lift * self.electricity_emission
        )
        return eur, kg


def _series(site: Columns, name: str, fixed: float | None, length: int) -> Array:
    """Price each interval: the site's topic, else the tariff, else unknown."""
    constant = np.full(length, np.nan if fixed is None else fixed)
    if not site.has(name):
        return constant
    told = site[name]
    return np.where(np.isfinite(told), told, constant)


def worth_of(
    plant: Plant,
    consumers: Sequence[Consumer],
    demands: Mapping[str, Array],
    site: Columns,
    fan: Array,
    cooled: Sequence[Consumer] = (),
) -> Worth:
    """Price the heat of one group of consumers, each its share of the demand.

    And the cold of those who are ``cooled``.
    """
    length, tariff = len(fan), plant.tariff

    def of(who: Sequence[Consumer], name: str, fixed: float | None) -> Array:
        common = _series(site, name, fixed, length)
        if all(getattr(one, name) is None for one in who):
            return common
        worth, weight = np.zeros(length), np.zeros(length)
        for one in who:
            own = getattr(one, name)
            share = np.nan_to_num(np.clip(demands[one.id], 1e-9, 1e15), nan=1e-9)
            worth += share * (common if own is None else own)
            weight += share
        return worth / weight

    return Worth(
        electricity=_series(
            site, "electricity_price_eur_j", tariff.electricity_price_eur_j, length
        ),
        heat=of(consumers, "heat_price_eur_j", tariff.heat_price_eur_j),
        electricity_emission=_series(
            site,
            "electricity_emission_kg_j",
            tariff.electricity_emission_kg_j,
            length,
        ),
        heat_emission=of(consumers, "heat_emission_kg_j", tariff.heat_emission_kg_j),
        fan=fan,
        cold=of(cooled, "cold_price_eur_j", tariff.cold_price_eur_j),
        cold_emission=of(cooled, "cold_emission_kg_j", tariff.cold_emission_kg_j),
    )
