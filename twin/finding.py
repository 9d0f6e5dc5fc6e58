"""What the twin has to say: a finding, or the reason why it has none.

A finding is data, made by whoever judges (conductance, COP, ledger, sensors)
and read by whoever tells people (alarms, page, reports). Nothing here decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any


class FindingKind(StrEnum):
    """What has been found; unit, kind and component together name one case."""

    FOULING = "fouling"
    COP_DEGRADATION = "cop_degradation"
    MISSED_RECOVERY = "missed_recovery"
    SENSOR = "sensor"
    TELEMETRY = "telemetry"
    UNCERTAIN = "uncertain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong, how sure the twin is, what it costs, what to do.

    Attributes
    ----------
    unit, kind, component
        Where and what; the identity of the case.
    since, seen
        When it began by the evidence, and the last interval that shows it. UTC.
    size, low, high
        How large, with its 95 % interval, as a fraction of the reference (a
        condenser at 0.80 of its conductance has size 0.20); a missed recovery
        is the fraction of the potential. [1]
    sentence
        One sentence a person can act on.
    advice
        What to do about it.
    cost_eur_day, energy_j_day, emission_kg_day
        What it costs for each day that it stays; None is unknown, not nothing.
    clean_by
        The date by which cleaning pays, None where there is no forecast.
    evidence
        Numbers and names a reader can check: points, window, model version.
    """

    unit: str
    kind: FindingKind
    component: str
    since: datetime
    seen: datetime
    size: float
    low: float
    high: float
    sentence: str
    advice: str
    cost_eur_day: float | None = None
    energy_j_day: float | None = None
    emission_kg_day: float | None = None
    clean_by: datetime | None = None
    evidence: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def key(self) -> str:
        """Name of the case, the same for as long as it lasts."""
        return f"{self.unit}/{self.kind.value}/{self.component}"


ON_THE_BILL = "caused_cop_loss"
"""Evidence of a finding whose cost another one, named there, has on its bill."""


def total_cost(findings: Iterable[Finding]) -> float:
    """Return what findings cost together, each euro once; unknown is left out.

    A fouled condenser and the COP it costs are two cases with one price. [EUR/d]
    """
    told = list(findings)
    keys = {finding.key for finding in told}
    return sum(
        finding.cost_eur_day or 0.0
        for finding in told
        if finding.evidence.get(ON_THE_BILL) not in keys
    )


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no answer: a machine's name for it, a sentence, the numbers.

    Expected trouble is data, not an exception: too few days, no excitation, a
    point that nobody measures.
    """

    code: str
    sentence: str
    evidence: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
