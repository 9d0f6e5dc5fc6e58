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
    joule away. [1]
    """

    electricity: Array
    heat: Array
    electricity_emission: Array
    heat_emission: Array
    fan: Array

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
) -> Worth:
    """Price the heat of one group of consumers, each its share of the demand."""
    length, tariff = len(fan), plant.tariff

    def of_heat(name: str, fixed: float | None) -> Array:
        common = _series(site, name, fixed, length)
        if all(getattr(one, name) is None for one in consumers):
            return common
        worth, weight = np.zeros(length), np.zeros(length)
        for one in consumers:
            own = getattr(one, name)
            share = np.nan_to_num(np.clip(demands[one.id], 1e-9, 1e15), nan=1e-9)
            worth += share * (common if own is None else own)
            weight += share
        return worth / weight

    return Worth(
        electricity=_series(
            site, "electricity_price_eur_j", tariff.electricity_price_eur_j, length
        ),
        heat=of_heat("heat_price_eur_j", tariff.heat_price_eur_j),
        electricity_emission=_series(
            site,
            "electricity_emission_kg_j",
            tariff.electricity_emission_kg_j,
            length,
        ),
        heat_emission=of_heat("heat_emission_kg_j", tariff.heat_emission_kg_j),
        fan=fan,
    )
