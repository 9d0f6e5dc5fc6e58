"""What a machine's faults cost together: its COP loss, split so that it closes.

The bill, not the detector. Conductance and efficiencies say that something is
wrong and how large it is; this says what the COP has lost by it at equal
delivered heat, and which component owes which part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from calibration.findings import PARAMETER_OF, Prices
from calibration.fit import degraded
from calibration.model import Model, conditions
from twin import attribution
from twin.finding import ON_THE_BILL, Finding, FindingKind, Refusal
from twin.heatpump import HeatPump

LEAST_WINDOWS = 12
LEAST_LOSS = 0.01
"""A smaller loss of COP is not worth a line. [1]"""


def cop_findings(
    found: Sequence[Finding],
    reference: Model,
    week: pd.DataFrame,
    *,
    prices: Prices | None = None,
    version: str = "",
) -> list[Finding]:
    """Replace the efficiency findings of a machine by the bill of all of them.

    Parameters
    ----------
    found : sequence of Finding
        What :func:`calibration.findings.findings` says of one machine.
    reference : Model
        Its reference.
    week : DataFrame
        The windows of the last days, which say at what load it runs.
    prices : Prices, optional
        What electricity costs and emits.
    version : str
        The reference's version, for the evidence.

    Returns
    -------
    list of Finding
        ``found`` with its COP findings replaced by one whose component owes
        most and whose ``size`` is the COP lost at equal delivered heat [1],
        with the interval that those of the components give it; ``found``
        itself where there is nothing to price, or no window to price it in.
    """
    prices = prices or Prices()
    faults = {name: finding for finding in found if (name := _parameter(finding))}
    pump = reference.physics
    if not faults or not isinstance(pump, HeatPump) or "sink_heat_w" not in week:
        return list(found)
    steady = week[week["steady"].to_numpy(dtype=bool)]
    asked = conditions(steady, reference)
    asked["sink_heat_w"] = steady["sink_heat_w"]
    asked = asked.dropna()
    if len(asked) < LEAST_WINDOWS:
        return list(found)
    days = max(int(pd.DatetimeIndex(week.index).ceil("D").nunique()), 1)
    runs = float((week["compressor_running"].fillna(0.0) * week["window_s"]).sum())
    delivered = float(asked["sink_heat_w"].mean()) * runs / days

    def loss(sizes: Iterable[float]) -> attribution.CopLoss | Refusal:
        ratios = dict(zip(faults, (1.0 - size for size in sizes), strict=True))
        return attribution.cop_loss(
            pump, degraded(pump, ratios), asked, delivered_j_day=delivered
        )

    whole = loss(finding.size for finding in faults.values())
    if isinstance(whole, Refusal):
        return list(found)
    bounds = [
        loss(getattr(finding, end) for finding in faults.values())
        for end in ("low", "high")
    ]
    size, *ends = (
        float("nan") if isinstance(one, Refusal) else 1.0 - one.cop / one.reference_cop
        for one in (whole, *bounds)
    )
    if size < LEAST_LOSS:
        return list(found)
    parts = {
        str(component): part.cop
        for component, part in whole.parts.items()
        if abs(part.cop) > 1e-12
    }
    worst = max(parts, key=lambda name: parts[name])
    if worst == "compressor" and any(f.component == "machine" for f in faults.values()):
        worst = "machine"  # the instruments cannot tell which part of it
    extra = delivered / whole.cop - delivered / whole.reference_cop
    cost = _priced(extra, prices.electricity_eur_j)
    told = list(faults.values())
    bill = Finding(
        unit=reference.unit,
        kind=FindingKind.COP_DEGRADATION,
        component=worst,
        since=min(finding.since for finding in told),
        seen=max(finding.seen for finding in told),
        size=size,
        low=float(np.nanmin([size, *ends])),
        high=float(np.nanmax([size, *ends])),
        sentence=(
            f"{reference.unit}: COP {whole.cop:.2f} where the machine as commissioned"
            f" would have {whole.reference_cop:.2f} at the same heat and temperatures:"
            f" {size:.1%} lost, most of it by the {worst}."
            + ("" if cost is None else f" It costs {cost:.2f} EUR a day.")
        ),
        advice=next((f.advice for f in told if f.component == worst), told[0].advice),
        cost_eur_day=cost,
        energy_j_day=extra,
        emission_kg_day=_priced(extra, prices.electricity_kg_j),
        evidence={
            "cop": whole.cop,
            "reference_cop": whole.reference_cop,
            "cop_lost_by_component": parts,
            "rests_on": {
                finding.key: [finding.size, finding.low, finding.high]
                for finding in told
            },
            "windows": whole.rows,
            "reference": version,
        },
    )
    # A fouled exchanger keeps its own case, for it has its own remedy; what it
    # costs is on the bill, and said there once.
    kept = [
        replace(finding, evidence={**finding.evidence, ON_THE_BILL: bill.key})
        if finding.kind is FindingKind.FOULING
        else finding
        for finding in found
        if finding.kind is not FindingKind.COP_DEGRADATION or finding not in told
    ]
    return [*kept, bill]


def _parameter(finding: Finding) -> str | None:
    indicator = str(finding.evidence.get("indicator", ""))
    return PARAMETER_OF.get((finding.component, indicator))


def _priced(energy: float, price: float | None) -> float | None:
    return None if price is None else energy * price
