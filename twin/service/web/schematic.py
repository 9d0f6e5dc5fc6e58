"""The drawing of one heat pump between its IT load and its consumer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twin.service.web import field as say
from twin.service.web import newest, views
from twin.service.web.newest import PointLine
from twin.service.web.page import Page


@dataclass(frozen=True, slots=True)
class Schematic:
    """What the drawing needs: whose points stand where, and what is wrong there."""

    unit: str
    refrigerant: str
    exchanger: str
    rejector: str
    consumer: str
    consumer_name: str
    values: Mapping[tuple[str, str], PointLine]
    faults: Mapping[str, tuple[str, str]]

    def value(self, unit: str, point: str) -> PointLine | None:
        """Return the newest value of a point, None where nobody reports it."""
        return self.values.get((unit, point))


def drawn(page: Page, unit: str) -> Schematic:
    """Return the drawing of one heat pump between its IT load and its consumer."""
    plant = page.plant
    machine = next(
        (one for one in (plant.machines if plant else ()) if one.id == unit), None
    )
    known = newest.values(page)
    consumers = [
        one
        for one in (plant.consumers if plant else ())
        if machine is None or not machine.consumers or one.id in machine.consumers
    ]
    exchanger = plant.exchangers[0].id if plant and plant.exchangers else "cdu"
    rejector = plant.rejectors[0].id if plant and plant.rejectors else "dry_cooler"
    consumer = consumers[0].id if consumers else "consumer"
    if plant is None:
        exchanger = _bearer(known, "hot_inlet_temp_degc") or exchanger
        rejector = _bearer(known, "rejected_heat_w") or rejector
        consumer = _bearer(known, "delivered_heat_w") or consumer
    values = {
        (one.unit, one.point): one
        for name in dict.fromkeys((unit, "site", exchanger, rejector, consumer))
        for one in newest.lines(page, name)
    }
    faults: dict[str, tuple[str, str]] = {}
    rows = views.finding_rows(page.view.results, page.alarms.board.cases.values())
    for row in rows:
        if row.finding.unit in (unit, exchanger, rejector) and not row.muted:
            where = (
                row.finding.component if row.finding.unit == unit else row.finding.unit
            )
            faults.setdefault(
                where,
                (row.severity.word, f"{row.kind} {say.percent(row.finding.size)}"),
            )
    return Schematic(
        unit=unit,
        refrigerant=machine.refrigerant if machine else "",
        exchanger=exchanger,
        rejector=rejector,
        consumer=consumer,
        consumer_name=consumers[0].use.value if consumers else "heat consumer",
        values=values,
        faults=faults,
    )


def _bearer(newest: Mapping[str, Mapping[str, Any]], point: str) -> str:
    return next((unit for unit in sorted(newest) if point in newest[unit]), "")
