"""What a configuration can and cannot tell: ``hptwin check``.

Each quantity that the twin could work out is measured, inferred (from a
balance, a counter, a typical number), or off for lack of points. This is known
from the configuration alone, before the first message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from twin.plant import Consumer, Demand, Exchanger, Machine, Plant, Rejector, Use
from twin.service.config import Config, ConfigError, Format, Problem

MEASURED, INFERRED, OFF = "measured", "inferred", "off"


@dataclass(frozen=True, slots=True)
class Ability:
    """One quantity of one unit, and on what it rests.

    ``state`` is ``"measured"``, ``"inferred"`` or ``"off"``; ``because`` says
    how it is inferred, or which points it needs.
    """

    unit: str
    quantity: str
    state: str
    because: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """A configuration that loads: what it makes possible, and what is doubtful."""

    config: Config
    abilities: tuple[Ability, ...]

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What can be meant and mostly is not."""
        return (*self.config.warnings, *_unusable(self.config))

    @property
    def formats(self) -> dict[str, int]:
        """How many points are read in each format."""
        return dict(Counter(s.format or "json" for s in self.config.sources))

    def to_dict(self) -> dict[str, Any]:
        """Return it as one JSON object."""
        plant = self.config.plant
        return {
            "file": str(self.config.file),
            "problems": [],
            "warnings": [as_dict(problem) for problem in self.warnings],
            "formats": self.formats,
            "units": {
                unit: {
                    "points": sorted(plant.points_of(unit)),
                    "capabilities": {
                        each.quantity: {"state": each.state, "because": each.because}
                        for each in self.abilities
                        if each.unit == unit
                    },
                }
                for unit in units(plant)
            },
        }

    def lines(self) -> Iterator[str]:
        """Yield what a person reads."""
        plant, sources = self.config.plant, self.config.sources
        topics = {source.topic for source in sources}
        yield (
            f'{self.config.file}: "{plant.name}" has '
            f"{_count(len(list(plant.units())), 'unit')}; "
            f"{_count(len(sources), 'point')} read from {_count(len(topics), 'topic')}"
        )
        for form, number in sorted(self.formats.items()):
            if form != Format.JSON:
                yield f"  {_count(number, 'point')} in the format {form}"
        for unit in units(plant):
            of_unit = [each for each in self.abilities if each.unit == unit]
            yield ""
            yield f"{unit}: {_count(len(plant.points_of(unit)), 'point')}"
            measured = [each.quantity for each in of_unit if each.state == MEASURED]
            if measured:
                yield f"  measured  {', '.join(measured)}"
            for state in (INFERRED, OFF):
                # One line for each reason: a missing probe takes several along.
                reasons: dict[str, list[str]] = {}
                for each in of_unit:
                    if each.state == state:
                        reasons.setdefault(each.because, []).append(each.quantity)
                for because, quantities in reasons.items():
                    yield f"  {state:8}  {', '.join(quantities)}: {because}"
        if self.warnings:
            yield ""
            for problem in self.warnings:
                yield f"warning: {problem}"


def _unusable(config: Config) -> Iterator[Problem]:
    """Yield what is wrong with addresses of people; none of them is asked."""
    if not config.notify.ways:
        return  # what knows the addresses takes a while to load
    from twin.service.notify import check_url

    for way in config.notify.ways:
        why = check_url(way.url)
        if why is not None:
            yield Problem(
                str(config.file),
                f"notify.{way.name}",
                "",
                why,
                "correct it; hptwin alarms test tells whether a message arrives",
            )


def report(config: Config) -> Report:
    """Say what can be known of a plant from the points it has.

    Parameters
    ----------
    config : Config
        From :func:`twin.service.config.load`.

    Returns
    -------
    Report
        Each unit's capabilities in the plant's order, and the warnings.
    """
    # pandas comes with it; a configuration that does not load need not wait.
    from twin.states import capabilities

    plant = config.plant
    found: list[Ability] = []
    devices: tuple[Machine | Exchanger | Rejector, ...] = (
        *plant.machines,
        *plant.exchangers,
        *plant.rejectors,
    )
    for device in devices:
        for quantity, answer in capabilities(device).items():
            state, _, because = answer.partition(": ")
            found.append(Ability(device.id, quantity, state, because))
    found.extend(_demand(plant, consumer) for consumer in plant.consumers)
    if not plant.consumers:
        because = "needs a [[consumer]] with demand_heat_w, or with demand"
        found.append(Ability(Plant.SITE, "missed_recovery", OFF, because))
    found.extend(_worth(plant))
    return Report(config, tuple(found))


def problems_of(error: ConfigError) -> dict[str, Any]:
    """Return a refused configuration as one JSON object."""
    return {
        "file": error.problems[0].file if error.problems else "",
        "problems": [as_dict(problem) for problem in error.problems],
        "warnings": [],
        "units": {},
    }


def as_dict(problem: Problem) -> dict[str, str]:
    """Return a problem with its five parts named."""
    return {
        "file": problem.file,
        "key": problem.key,
        "value": problem.value,
        "sentence": problem.sentence,
        "remedy": problem.remedy,
    }


def units(plant: Plant) -> tuple[str, ...]:
    """Return every id of the plant, the site last."""
    return (*(device.id for device in plant.units()), Plant.SITE)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _demand(plant: Plant, consumer: Consumer) -> Ability:
    # Without a demand nothing can be called missed: nobody may have wanted it.
    said = plant.demand_of(consumer)
    if said is Demand.METER:
        return Ability(consumer.id, "missed_recovery", MEASURED)
    if said is Demand.UNKNOWN:
        because = "needs demand_heat_w, or demand in the configuration"
        return Ability(consumer.id, "missed_recovery", OFF, because)
    because = {
        Demand.DISPATCH: "a demand that the dispatcher asks for",
        Demand.PROFILE: "a demand from a file, as declared",
        Demand.CONSTANT: "a constant demand, as declared",
        Demand.UNLIMITED: "whatever comes is wanted, as declared",
    }[said]
    return Ability(consumer.id, "missed_recovery", INFERRED, because)


def _worth(plant: Plant) -> Iterator[Ability]:
    """Yield whether energy can be told in EUR and in kg."""
    told = [
        ("electricity_price_eur_j", "electricity_price"),
        ("heat_price_eur_j", "heat_price"),
        ("electricity_emission_kg_j", "electricity_emission"),
        ("heat_emission_kg_j", "heat_emission"),
    ]
    cooled = [one for one in plant.consumers if one.use is Use.COLD]
    told += [
        (name, name.rpartition("_eur_j" if "price" in name else "_kg_j")[0])
        for name in ("cold_price_eur_j", "cold_emission_kg_j")
        if any(getattr(one, name) is None for one in cooled)
    ]
    for name, key in told:
        if name in plant.site_points:
            yield Ability(Plant.SITE, name, MEASURED)
        elif getattr(plant.tariff, name) is not None:
            yield Ability(Plant.SITE, name, INFERRED, "the constant of [tariff]")
        else:
            because = f"needs {name}, or {key} in [tariff]"
            yield Ability(Plant.SITE, name, OFF, because)
