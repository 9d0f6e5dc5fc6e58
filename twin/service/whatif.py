"""Six questions a plant is asked before money is spent, answered on its own record."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from calibration.degradation import DEGRADATIONS
from calibration.whatif import (
    Another,
    Clean,
    Cooler,
    Day,
    Neighbour,
    Sums,
    Supposition,
    Tank,
    Warmer,
    scene,
)
from ingest.files import InputError
from twin.ledger import J_PER_KWH
from twin.plant import Plant
from twin.service import history, timetables
from twin.service.config import Config
from twin.service.replay import Progress
from twin.units import UnitError, quantity

SURFACES = ("condenser", "evaporator")
DEW_MARGIN_K = 2.0
"""How far above the hall's dew point racks must be supplied. [K]"""
_HOURS_OF_STORE = 2.0
_DEW = "room_dew_point_degc"
_NUMBER = r"[+-]?\d+(?:\.\d+)?"
_SHIFT = re.compile(rf"(?P<side>source|sink)\s+(?P<kelvin>{_NUMBER})\s*K")
_ANOTHER = re.compile(r"(?:another|one more)\s+(?P<unit>\S+)")
_STORE = re.compile(
    rf"(?:a )?store\s+(?:of )?(?P<volume>{_NUMBER}\s*\S+?)"
    rf"(?:\s+over\s+(?P<spread>{_NUMBER})\s*K)?"
)
_CLEAN = re.compile(r"(?P<unit>\S+)[/ ](?P<component>\S+)\s+clean")
_CONSUMER = re.compile(
    rf"(?:a )?consumer\s+(?:of )?(?P<demand>.+?)\s+at\s+(?P<temp>{_NUMBER}\s*\S+)"
)
WRITTEN = (
    '"source +5 K"', '"sink -5 K"', '"another hp1"', '"store 50 m3"',
    '"hp1/condenser clean"', '"consumer 300 kW at 60 degC"',
    '"consumer pool.csv:demand kW at 60 degC"',
)  # fmt: skip


class WhatIfError(ValueError):
    """What is supposed cannot be understood, or not of this plant."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one supposition would have changed over a period.

    ``refused`` says why it must not be done, though it is computed; ``remarks`` what
    else is to be known. Energies in J; EUR and kg CO2e are NaN where a price or a
    factor is not known.
    """

    what: Supposition
    sums: Sums
    refused: str
    remarks: tuple[str, ...]

    @property
    def cop(self) -> tuple[float, float]:
        """Heat over compressor power, as it was and as it would have been. [1]."""
        sums = self.sums
        return (
            sums.delivered / sums.power if sums.power > 0.0 else math.nan,
            sums.delivered_then / sums.power_then
            if sums.power_then > 0.0
            else math.nan,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, energies in kWh."""
        sums, (was, then) = self.sums, self.cop
        return {
            "what": self.what.name,
            "assumption": self.what.assumption,
            "refused": self.refused,
            "remarks": list(self.remarks),
            "days": sums.seconds / 86400.0,
            "delivered_kwh": sums.delivered / J_PER_KWH,
            "delivered_change_kwh": (sums.delivered_then - sums.delivered) / J_PER_KWH,
            "electricity_kwh": sums.power / J_PER_KWH,
            "electricity_change_kwh": (sums.power_then - sums.power) / J_PER_KWH,
            "recovered_change_kwh": sums.source / J_PER_KWH,
            "out_of_reach_kwh": sums.unreachable / J_PER_KWH,
            "cop": was,
            "cop_then": then,
            "eur": sums.eur,
            "kg_co2e": sums.kg,
            "modelled": True,
        }


def usual(plant: Plant) -> list[Supposition]:
    """Return what is asked where nothing is asked for by name."""
    on_loop = [machine for machine in plant.machines if not machine.cools]
    first = (on_loop or plant.machines)[0]
    plate = first.nameplate
    spread = plate.sink_outlet_temp_degc - plate.sink_inlet_temp_degc
    tank = Tank(1.0, spread)
    hours = _HOURS_OF_STORE * 3600.0 * plate.sink_heat_w
    volume = float(f"{hours / tank.size_j:.2g}")
    surfaces = [
        Clean(machine.id, part) for machine in plant.machines for part in SURFACES
    ]
    if not on_loop:
        return [Cooler(), *surfaces]
    return [Warmer(), Cooler(), Another(first.id), Tank(volume, spread), *surfaces]


def parse(text: str, plant: Plant, base: Path) -> Supposition:
    """Return what a text supposes of a plant.

    Parameters
    ----------
    text : str
        As one of :data:`WRITTEN`.
    plant : Plant
        It knows the units, and how far a store is used.
    base : path
        The folder that a file of demands is named from.

    Raises
    ------
    WhatIfError
        If it is written in no such way, or speaks of no such unit.
    """
    said = text.strip()
    try:
        for pattern, make in (
            (_SHIFT, _shift), (_ANOTHER, _another), (_STORE, _store),
            (_CLEAN, _clean), (_CONSUMER, _consumer),
        ):  # fmt: skip
            found = pattern.fullmatch(said)
            if found is not None:
                return make(found, plant, base)
    except (UnitError, InputError) as error:
        raise WhatIfError(f'"{text}": {error}') from error
    raise WhatIfError(
        f'"{text}" supposes nothing known; write one like {", ".join(WRITTEN)}'
    )


def _shift(found: re.Match[str], plant: Plant, base: Path) -> Supposition:
    kelvin = float(found["kelvin"])
    if not 0.0 < abs(kelvin) <= 20.0:
        raise WhatIfError(f"{kelvin:g} K: between 0 and 20 K either way can be told")
    return Warmer(kelvin) if found["side"] == "source" else Cooler(kelvin)


def _unit(name: str, plant: Plant) -> str:
    known = [machine.id for machine in plant.machines]
    if name not in known:
        raise WhatIfError(f'"{name}" is no heat pump of this plant: {", ".join(known)}')
    return name


def _another(found: re.Match[str], plant: Plant, base: Path) -> Supposition:
    name = _unit(found["unit"], plant)
    machine = next(one for one in plant.machines if one.id == name)
    if machine.cools:
        raise WhatIfError(
            f"{name} cools {', '.join(machine.cools)}: what more cold is wanted the"
            " ledger tells; name a heat pump on the racks' loop"
        )
    return Another(name)


def _clean(found: re.Match[str], plant: Plant, base: Path) -> Supposition:
    part = found["component"]
    if part not in DEGRADATIONS:
        raise WhatIfError(f'"{part}" is none of {", ".join(DEGRADATIONS)}')
    return Clean(_unit(found["unit"], plant), part)


def _store(found: re.Match[str], plant: Plant, base: Path) -> Supposition:
    plate = plant.machines[0].nameplate
    spread = plate.sink_outlet_temp_degc - plate.sink_inlet_temp_degc
    if found["spread"]:
        spread = float(found["spread"])
    volume = quantity(found["volume"], "m3")
    if not (0.0 < volume <= 1e6 and 0.0 < spread <= 100.0):
        raise WhatIfError(f"a store of {volume:g} m3 over {spread:g} K is none")
    return Tank(volume, spread)


def _consumer(found: re.Match[str], plant: Plant, base: Path) -> Supposition:
    return consumer(found["demand"], found["temp"], plant, base)


def consumer(demand: str, temp: str, plant: Plant, base: Path) -> Neighbour:
    """Return somebody who wants heat.

    Parameters
    ----------
    demand : str
        A power, or a file with its column and unit: ``"pool.csv:demand kW"``.
    temp : str
        How hot he needs it.
    plant, base
        As for :func:`parse`.

    Raises
    ------
    twin.units.UnitError, ingest.files.InputError
        If they cannot be read.
    """
    hot = quantity(temp, "degC")
    words = f"a consumer of {demand} at {hot:g} degC"
    name, parted, rest = demand.partition(":")
    if not parted:
        return Neighbour(quantity(demand, "W"), hot, words)
    column, _, unit = rest.rpartition(" ")
    table = timetables.read(
        base / name, column, unit, "W", zone=plant.timezone, allowed=(0.0, 1e10)
    )
    return Neighbour(table, hot, words)


class Inquiry:
    """Suppositions that are told of one judged day after another."""

    def __init__(self, plant: Plant, asked: Sequence[Supposition]) -> None:
        self.plant = plant
        self._asked = [(what, Sums()) for what in asked]
        self._hottest: dict[str, float] = {}
        self._driest: dict[str, float] = {}
        self.days = self.silent = 0

    def __call__(self, day: Day) -> None:
        """Take a day in; one without a model of any machine is counted and left out."""
        laid = scene(self.plant, day)
        self.days += 1
        if laid is None:
            self.silent += 1
            return
        for what, sums in self._asked:
            sums.add(laid, what.of(laid))
        for one in self.plant.exchangers:
            table = day.tables.get(one.id)
            if one.station or table is None or "hot_outlet_temp_degc" not in table:
                continue
            supply = table["hot_outlet_temp_degc"].dropna()
            if len(supply):
                # A spike is none of the loop's.
                high = float(np.quantile(supply, 0.99))
                self._hottest[one.id] = max(high, self._hottest.get(one.id, -math.inf))
            self._watch_dew(one.id, supply, day.tables.get(Plant.SITE))

    def _watch_dew(
        self, unit: str, supply: pd.Series[float], site: pd.DataFrame | None
    ) -> None:
        """Remember how near the supply came to the hall's dew point."""
        if site is None or _DEW not in site:
            return
        above = (supply - site[_DEW]).dropna()
        if len(above):
            low = float(np.quantile(above, 0.01))
            self._driest[unit] = min(low, self._driest.get(unit, math.inf))

    def answers(self) -> list[Answer]:
        """Return what was asked, answered over all days so far."""
        return [self._answer(what, sums) for what, sums in self._asked]

    def _answer(self, what: Supposition, sums: Sums) -> Answer:
        remarks = []
        if self.silent:
            remarks.append(
                f"{self.silent} of {self.days} days had no model of any heat pump yet"
                " and are not in it"
            )
        if sums.unreachable > 0.0:
            remarks.append(
                f"{sums.unreachable / J_PER_KWH:,.0f} kWh are hotter than any heat pump"
                " here delivers"
            )
        cooling = {one.id: one.cools for one in self.plant.machines if one.cools}
        if isinstance(what, Clean) and what.unit in cooling:
            remarks.append(
                f"what it would have cooled besides for {', '.join(cooling[what.unit])}"
                " is not in it"
            )
        elif isinstance(what, Warmer) and cooling:
            remarks.append(
                f"the source of {', '.join(cooling)} is somebody's cold and stays"
            )
        refused = ""
        if isinstance(what, Warmer) and what.kelvin > 0.0:
            refused = "; ".join(self._too_hot(what.kelvin))
            remarks += [
                f"{one.id} has no supply_max: ask what the racks allow, its supply"
                f" would reach {self._hottest[one.id] + what.kelvin:.1f} degC"
                for one in self.plant.exchangers
                if one.id in self._hottest and one.supply_max_degc is None
            ]
        if isinstance(what, Warmer) and what.kelvin < 0.0:
            refused = "; ".join(
                f"{unit} would supply its racks {above + what.kelvin:.1f} K above the"
                f" hall's dew point, and {DEW_MARGIN_K:g} K are the least"
                for unit, above in sorted(self._driest.items())
                if above + what.kelvin < DEW_MARGIN_K
            )
            if not self._driest:
                remarks.append(
                    f"{_DEW} of the site is not read: whether racks would get wet is"
                    " not known"
                )
        return Answer(what, sums, refused, tuple(remarks))

    def _too_hot(self, kelvin: float) -> Iterator[str]:
        """Yield where racks would get hotter liquid than they may: cooling first."""
        for one in self.plant.exchangers:
            highest = one.supply_max_degc
            if highest is None or one.id not in self._hottest:
                continue
            reached = self._hottest[one.id] + kelvin
            if reached > highest:
                yield (
                    f"{one.id} would supply {reached:.1f} degC where the racks may get"
                    f" {highest:g}"
                )


def answered(
    config: Config,
    files: Sequence[Path],
    asked: Sequence[Supposition],
    *,
    start: datetime | None = None,
    stop: datetime | None = None,
    zone: str = "UTC",
    progress: Progress = lambda done, total, day: None,
) -> list[Answer]:
    """Replay a record and answer each supposition on it.

    Parameters
    ----------
    config, files, start, stop, zone, progress
        As for :func:`twin.service.history.replayed`. The days before ``start`` are
        not read; the reference is learnt within the period.
    asked : sequence of Supposition
        What is supposed.
    """
    inquiry = Inquiry(config.plant, asked)
    history.witnessed(
        config, files, inquiry, start=start, stop=stop, zone=zone, progress=progress
    )
    return inquiry.answers()


def rows(answers: Sequence[Answer]) -> list[tuple[str, ...]]:
    """Return each answer in words: what, heat, electricity, COP, EUR and kg."""
    told: list[tuple[str, ...]] = []
    for one in answers:
        plain: Mapping[str, Any] = one.to_dict()
        was, then = one.cop
        told.append(
            (
                plain["what"],
                _signed(plain["delivered_change_kwh"], "kWh"),
                _signed(plain["electricity_change_kwh"], "kWh"),
                f"{was:.2f} to {then:.2f}" if math.isfinite(then) else "unknown",
                _signed(plain["eur"], "EUR"),
                _signed(plain["kg_co2e"], "kg"),
            )
        )
    return told


def _signed(value: float, unit: str) -> str:
    return f"{value:+,.0f} {unit}" if math.isfinite(value) else "unknown"
