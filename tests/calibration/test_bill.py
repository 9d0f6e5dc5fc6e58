"""One bill for what a machine's faults cost together, and each euro on it once."""

from __future__ import annotations

from datetime import UTC, datetime
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest

from calibration.bill import cop_findings
from calibration.findings import Prices
from calibration.model import Model
from calibration.registry import Role
from twin.finding import Finding, FindingKind, total_cost
from twin.heatpump import from_nameplate
from twin.plant import Machine, Nameplate

NOW = datetime(2026, 1, 8, tzinfo=UTC)
MACHINE = Machine(
    id="hp1",
    refrigerant="R1234ze(E)",
    nameplate=Nameplate(
        sink_heat_w=5e5,
        power_w=1.15e5,
        source_inlet_temp_degc=40.0,
        source_outlet_temp_degc=32.0,
        sink_inlet_temp_degc=50.0,
        sink_outlet_temp_degc=65.0,
        speed_hz=50.0,
    ),
)


@pytest.fixture(scope="module")
def reference() -> Model:
    """Return a machine as its nameplate has it."""
    return Model(
        unit="hp1",
        role=Role.REFERENCE,
        physics=from_nameplate(MACHINE),
        given="compressor_speed_hz",
    )


@pytest.fixture(scope="module")
def week(reference: Model) -> pd.DataFrame:
    """Return a week of steady running at several loads."""
    index = pd.date_range("2026-01-01T00:30Z", "2026-01-08T00:00Z", freq="30min")
    rows = len(index)
    asked = pd.DataFrame(
        {
            "source_inlet_temp_degc": 40.0,
            "sink_inlet_temp_degc": 50.0,
            "source_flow_kg_s": 12.0,
            "sink_flow_kg_s": 8.0,
            "compressor_speed_hz": 40.0 + 8.0 * np.sin(np.arange(rows) / 9.0),
        },
        index=index,
    )
    shown = reference.physics.predict(asked, given="compressor_speed_hz")
    return asked.assign(
        sink_heat_w=shown["sink_heat_w"],
        compressor_running=1.0,
        window_s=1800.0,
        steady=True,
    )


def fault(component: str, indicator: str, size: float, kind: FindingKind) -> Finding:
    """Return what health would say of a component."""
    return Finding(
        unit="hp1",
        kind=kind,
        component=component,
        since=datetime(2026, 1, 2, tzinfo=UTC),
        seen=NOW,
        size=size,
        low=0.8 * size,
        high=1.2 * size,
        sentence="",
        advice=f"look at the {component}",
        cost_eur_day=5.0,
        evidence=MappingProxyType({"indicator": indicator}),
    )


FOULED = fault("condenser", "conductance_ratio", 0.20, FindingKind.FOULING)
WORN = fault("compressor", "isentropic_ratio", 0.06, FindingKind.COP_DEGRADATION)
PRICES = Prices(electricity_eur_j=120.0 / 3.6e9, electricity_kg_j=0.3 / 3.6e6)


def test_the_worst_component_gives_the_bill_its_name(
    reference: Model, week: pd.DataFrame
) -> None:
    """Six per cent of efficiency cost more COP than a fifth of a condenser."""
    fouling, bill = cop_findings([FOULED, WORN], reference, week, prices=PRICES)

    assert fouling.kind is FindingKind.FOULING
    assert bill.key == "hp1/cop_degradation/compressor"
    assert bill.low < bill.size < bill.high
    assert 0.05 < bill.size < 0.12


def test_the_parts_sum_to_the_loss(reference: Model, week: pd.DataFrame) -> None:
    """Shapley's: reference COP less the parts is the COP."""
    *_, bill = cop_findings([FOULED, WORN], reference, week, prices=PRICES)
    parts = bill.evidence["cop_lost_by_component"]

    assert bill.evidence["reference_cop"] - sum(parts.values()) == pytest.approx(
        bill.evidence["cop"], rel=1e-9
    )
    assert set(parts) == {"condenser", "compressor"}


def test_a_euro_is_counted_once(reference: Model, week: pd.DataFrame) -> None:
    """The fouled condenser keeps its case; its cost is on the bill."""
    found = cop_findings([FOULED], reference, week, prices=PRICES)

    assert len(found) == 2
    assert total_cost(found) == pytest.approx(found[1].cost_eur_day)
    assert total_cost(found[:1]) == FOULED.cost_eur_day


def test_no_fault_no_bill(reference: Model, week: pd.DataFrame) -> None:
    """The control: a machine of which nothing was found owes nothing."""
    assert cop_findings([], reference, week, prices=PRICES) == []


def test_a_week_without_steady_running_has_no_bill(
    reference: Model, week: pd.DataFrame
) -> None:
    """Then what was found stands as it is."""
    still = week.assign(steady=False)

    assert cop_findings([WORN], reference, still, prices=PRICES) == [WORN]
