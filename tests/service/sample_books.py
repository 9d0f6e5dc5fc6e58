"""A month of the sample site with what its meters said; no figure was measured."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from sample_results import NOW, results

from twin import kpi
from twin.service import reporting
from twin.service.reporting import Sum
from twin.service.results import Results, instant

ZONE = ZoneInfo("Europe/Copenhagen")
BERLIN = ZoneInfo("Europe/Berlin")
MONTH = "2026-01"
TARIFF = {
    "electricity_price_eur_j": 85 / 3.6e9,
    "heat_price_eur_j": 72 / 3.6e9,
    "electricity_emission_kg_j": 0.32 / 3.6e6,
    "heat_emission_kg_j": 0.21 / 3.6e6,
    "emission_source": "the grid's average of 2025",
}


def metered(found: Results | None = None, **changed: float) -> Results:
    """Return the sample's results, its site with meters: kW that never change.

    ``changed`` are powers in kW by their column of FLOWS, without the ending.
    """
    found = results() if found is None else found
    kw = {
        "it_energy": 1240.0, "site_energy": 1800.0, "source_heat": 800.0,
        "sink_heat": 1040.0, "compressor_energy": 240.0, "pump_energy": 20.0,
        "rejected_heat": 400.0, "cold_heat": 0.0, "source_of_cold": 0.0,
        "sink_of_cold": 0.0,
    } | changed  # fmt: skip
    ledger = found.ledger.copy()
    site = (ledger["unit"] == "site").to_numpy()
    values = {
        "interval_s": 3600.0,
        **{f"{name}_j": power * 3.6e6 for name, power in kw.items()},
        "source_temp_degc": 35.0,
        "sink_temp_degc": 68.0,
        "rejected_temp_degc": 33.0,
        "recovered_eur": 52.78,
        "recovered_kg": 135.2,
    }
    for name in kpi.FLOWS:
        ledger[name] = np.where(site, values[name], np.nan)
    summary = {
        **found.summary,
        "plant": {
            "timezone": ZONE.key,
            "tariff": TARIFF,
            "inferred": {},
            "maintenance": [
                {
                    "time": instant(NOW - timedelta(days=40)),
                    "unit": "hp1",
                    "action": "cleaned",
                    "component": "condenser",
                    "note": "CIP, 4 h",
                }
            ],
        },
        "cleanings": [
            {
                "unit": "hp1", "component": "condenser", "verdict": "verified",
                "time": instant(NOW - timedelta(days=40)), "before": 0.81,
                "after": 0.99, "gain": 0.18, "low": 0.16, "high": 0.2, "days": 7,
                "sentence": "",
            }
        ],
        "outlook": {"hp1": {"condenser": {"sentence": "No forecast: too early."}}},
    }  # fmt: skip
    return replace(found, ledger=ledger, summary=summary)


def books(
    found: Results | None = None, told: reporting.Reporting | None = None
) -> reporting.Books:
    """Open the books of January 2026."""
    span = reporting.month(MONTH, ZONE)
    return reporting.books(metered() if found is None else found, span, told)


def entry(value, start, stop, **more):
    """Return water of a period, given by its days of January 2026."""
    day = datetime(2026, 1, 1, tzinfo=BERLIN)
    return Sum(
        of="water_m3",
        start=day + timedelta(days=start),
        stop=day + timedelta(days=stop),
        value=value,
        **more,
    )


JANUARY = reporting.month("2026-01", BERLIN)
