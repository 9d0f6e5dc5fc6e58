"""How near the ledger comes to what was truly missed, and to why.

``python -m tests.campaigns.ledger [--seed S] [--seeds N] [--json] [--resume FILE]``

Each seed is a plant of its own: what its consumer is, when in the year its 40 to
70 judged days begin, the errors of its instruments, and one to three days of
every fault of operation, a fouling, and a gap in the telemetry. The reference
is learnt, as in service, on four weeks before it that were healthy, and the
current model on the 28 days up to each week of the judged days.

The truth is the same plant with the same weather and nothing wrong, less what
was delivered: by machine, interval and cause. Heat counts as under the right
cause as far as the ledger and the truth agree on it within one interval.
Intervals in which there is no account have no truth either. What is told of
them, and of intervals in which nobody wanted heat, must be nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from calibration.fit import fit_degradation, fit_reference
from calibration.steady import windows
from twin import ledger
from twin.finding import Refusal
from twin.heatpump import HeatPump
from twin.ledger import ACCOUNTS, J_PER_KWH, Cause
from twin.plant import Plant, Use
from twin.service.config import load
from twin.simulate import Fault, FaultKind, Scenario, Simulation, simulate
from twin.states import derive_exchanger, derive_rejector

from . import seeds

MINUTES = 30
REFERENCE = timedelta(days=28)
DAY = timedelta(days=1)
USES = (Use.BUILDING, Use.DISTRICT, Use.PROCESS)
CAUSES = tuple(cause.value for cause in Cause)
MOST_ERROR, LEAST_RIGHT, MOST_CLOSING = 0.03, 0.95, 1e-4

_SIZES: Mapping[FaultKind, tuple[float, float]] = {
    FaultKind.TRIP: (1.0, 1.0),
    FaultKind.OVERRIDE: (1.0, 1.0),
    FaultKind.SOURCE_COLD: (5.0, 14.0),
    FaultKind.SINK_HOT: (8.0, 18.0),
    FaultKind.LOW_FLOW: (0.2, 0.5),
    FaultKind.SETPOINT: (4.0, 10.0),
    FaultKind.MIN_OFF: (4.0, 10.0),
}
_FOULING = (FaultKind.CONDENSER_FOULING, FaultKind.EVAPORATOR_FOULING)
Tables = dict[str, pd.DataFrame]


def scenarios(seed: int) -> tuple[Scenario, Scenario]:
    """Return the healthy four weeks of commissioning, and the judged days."""
    random = np.random.default_rng([seed, 53])
    first = datetime(2025, 10, 1, tzinfo=UTC)
    use = USES[int(random.integers(len(USES)))]
    new = Scenario(
        name="commissioning",
        start=first,
        length=REFERENCE,
        step=timedelta(minutes=MINUTES),
        seed=seed,
        use=use,
        reference_length=REFERENCE,
    )
    start = first + REFERENCE + DAY * int(random.integers(0, 365))
    length = DAY * int(random.integers(40, 71))
    faults = []
    share = length / len(_SIZES)
    kinds = list(_SIZES)
    random.shuffle(kinds)
    for place, kind in enumerate(kinds):
        began = start + place * share + float(random.uniform(0.05, 0.4)) * share
        lasts = DAY * float(random.uniform(1.0, 3.0))
        low, high = _SIZES[kind]
        units = ("hp1", "hp2") if random.random() < 0.5 else ("hp1",)
        size = float(random.uniform(low, high))
        faults += [
            Fault(unit=unit, kind=kind, start=began, end=began + lasts, size=size)
            for unit in units
        ]
    faults.append(
        Fault(
            unit=("hp1", "hp2")[int(random.integers(2))],
            kind=_FOULING[int(random.integers(2))],
            start=start,
            size=float(random.uniform(0.1, 0.3)),
            shape="linear",
        )
    )
    return new, replace(
        new, name="ledger", start=start, length=length, faults=tuple(faults)
    )


def gaps(seed: int, times: pd.DatetimeIndex) -> np.ndarray[Any, Any]:
    """Return the intervals of which nothing arrives: 6 to 48 hours."""
    random = np.random.default_rng([seed, 59])
    first = int(random.integers(len(times)))
    lasts = int(random.integers(6, 49) * 60 / MINUTES)
    lost = np.zeros(len(times), bool)
    lost[first : first + lasts] = True
    return lost


def configured(made: Simulation) -> Plant:
    """Return the plant as its plant.toml tells it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plant.toml"
        path.write_text(made.plant_toml)
        return load(path).plant


def tables_of(plant: Plant, frames: Mapping[str, pd.DataFrame]) -> Tables:
    """Return every unit's intervals with what is derived, as in service."""
    tables = dict(frames)
    for machine in plant.machines:
        tables[machine.id] = windows(frames[machine.id], machine, float(MINUTES))
    for exchanger in plant.exchangers:
        tables[exchanger.id] = derive_exchanger(frames[exchanger.id], exchanger)
    for rejector in plant.rejectors:
        tables[rejector.id] = derive_rejector(frames[rejector.id], rejector)
    return tables


def accounted(seed: int) -> tuple[Simulation, pd.DataFrame]:
    """Return a simulated season and its ledger, by models learnt as in service."""
    new, season = scenarios(seed)
    early, made = simulate(new), simulate(season)
    plant = configured(made)
    told = tables_of(configured(early), early.frames)
    lost = gaps(seed, made.frames["site"].index)
    frames = {unit: frame[~lost] for unit, frame in made.frames.items()}
    tables = tables_of(plant, frames)
    models, reference = {}, {}
    for machine in plant.machines:
        fit = fit_reference(told[machine.id], machine)
        if isinstance(fit, Refusal):
            raise RuntimeError(f"seed {seed}, {machine.id}: {fit.sentence}")
        models[machine.id] = fit.model
        reference[machine.id] = _physics(fit.model)
    parts = []
    current = dict(reference)
    cut = pd.Timestamp(season.start)
    while cut < pd.Timestamp(season.stop):
        week = {
            unit: table[(table.index > cut) & (table.index <= cut + 7 * DAY)]
            for unit, table in tables.items()
        }
        for machine in plant.machines:
            own = tables[machine.id]
            seen = own[(own.index > cut - 28 * DAY) & (own.index <= cut)]
            if seen["steady"].sum() > 0:
                now = fit_degradation(seen, models[machine.id], machine)
                if not isinstance(now, Refusal):
                    current[machine.id] = _physics(now.model)
        if len(week["site"]):
            able = ledger.model_capacity(plant, week, reference, current)
            parts.append(ledger.account(plant, week, able, step=season.step))
        cut += 7 * DAY
    return made, pd.concat(parts, ignore_index=True)


def _physics(model: Any) -> HeatPump:
    assert isinstance(model.physics, HeatPump)
    return model.physics


def compared(made: Simulation, found: pd.DataFrame) -> dict[str, Any]:
    """Lay the ledger beside the truth: totals, agreement by cause, what is false."""
    units = [unit.id for unit in made.scenario.machines]
    site = found[found["unit"] == Plant.SITE].set_index("time")
    known = site.index[site["gap_s"] == 0.0]
    truth, told = {}, {}
    for unit in units:
        true = made.truth[unit].reindex(known)
        own = found[found["unit"] == unit].set_index("time").reindex(known)
        with np.errstate(invalid="ignore", divide="ignore"):
            lift = (own["missed_delivered_j"] / own["missed_j"]).fillna(0.0)
        truth[unit] = _kwh(true, known, "missed_delivered_{}_j")
        told[unit] = _kwh(_scaled(own, lift), known, "missed_{}_j")
    whole, said = sum(truth.values()), sum(told.values())
    rows = site.loc[known]
    unwanted = made.truth["site"].reindex(known)["demand_heat_w"] <= 0.0
    missed = said.sum(axis=1)
    real = whole.sum(axis=1)
    closing = (rows[list(ACCOUNTS)].sum(axis=1) - rows["it_heat_j"]).abs()
    total = float(real.sum())
    in_gap = site.loc[site["gap_s"] > 0.0, "missed_j"].fillna(0.0)
    return {
        "use": made.scenario.use.value,
        "start": f"{made.scenario.start:%Y-%m-%d}",
        "true_kwh": total,
        "told_kwh": float(missed.sum()),
        "agreed_kwh": float(np.minimum(whole, said).to_numpy().sum()),
        "agreed_by_unit_kwh": float(
            sum(np.minimum(truth[u], told[u]).to_numpy().sum() for u in units)
        ),
        "false_kwh": float(missed[real <= 0.0].sum()),
        "unwanted_kwh": float(missed[unwanted].sum()),
        "gap_kwh": float(in_gap.sum() / J_PER_KWH),
        "gap_h": float(site["gap_s"].sum() / 3600.0),
        "closing": float((closing / rows["it_heat_j"]).max()),
        "confusion": confusion(whole, said),
    }


def _scaled(own: pd.DataFrame, lift: pd.Series) -> pd.DataFrame:
    """Return a machine's causes as they would have been delivered."""
    names = [f"missed_{cause}_j" for cause in CAUSES]
    return own[names].mul(lift, axis=0)


def _kwh(frame: pd.DataFrame, times: pd.DatetimeIndex, name: str) -> pd.DataFrame:
    columns = {
        cause: frame[name.format(cause)].fillna(0.0) / J_PER_KWH
        if name.format(cause) in frame
        else 0.0
        for cause in CAUSES
    }
    return pd.DataFrame(columns, index=times)


def confusion(true: pd.DataFrame, told: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return kWh by true and told cause; ``nothing`` is heat only one of them has.

    In each interval agreement comes first; what is left of the one is laid
    over what is left of the other in proportion.
    """
    both = np.minimum(true, told)
    left, over = (true - both).to_numpy(), (told - both).to_numpy()
    owed, extra = left.sum(axis=1), over.sum(axis=1)
    pairs = np.minimum(owed, extra)
    with np.errstate(invalid="ignore", divide="ignore"):
        rows = np.where(owed[:, None] > 0.0, left / owed[:, None], 0.0)
        columns = np.where(extra[:, None] > 0.0, over / extra[:, None], 0.0)
    matrix = np.zeros((len(CAUSES) + 1, len(CAUSES) + 1))
    matrix[:-1, :-1] = np.einsum("t,ti,tj->ij", pairs, rows, columns)
    matrix[:-1, :-1] += np.diag(both.to_numpy().sum(axis=0))
    matrix[:-1, -1] = np.einsum("t,ti->i", owed - pairs, rows)
    matrix[-1, :-1] = np.einsum("t,ti->i", extra - pairs, columns)
    names = [*CAUSES, "nothing"]
    return {
        row: {
            name: round(float(value), 1)
            for name, value in zip(names, values, strict=True)
            if value > 0.05
        }
        for row, values in zip(names, matrix, strict=True)
        if values.sum() > 0.05
    }


def case(seed: int) -> dict[str, Any]:
    """Return what one seed gave."""
    try:
        return compared(*accounted(seed))
    except ValueError as error:  # the simulator has no such state
        if not str(error).startswith("simulate:"):
            raise
        return {"refused": str(error)}


def figures_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the figures of all seeds: ratios of sums, and each seed's own error."""
    refused = [row["case"] for row in rows if "refused" in row]
    rows = [row for row in rows if "refused" not in row]
    true = sum(row["true_kwh"] for row in rows)
    told = sum(row["told_kwh"] for row in rows)
    names = [*CAUSES, "nothing"]
    matrix = {
        cause: {
            name: round(total, 1)
            for name in names
            if (total := sum(row["confusion"].get(cause, {}).get(name, 0.0)
                             for row in rows)) > 0.0
        }
        for cause in names
    }  # fmt: skip
    return {
        "seeds": len(rows),
        "not_simulated": refused,
        "true_kwh": true,
        "total_error": told / true - 1.0,
        "total_error_by_seed": {
            row["case"]: round(row["told_kwh"] / row["true_kwh"] - 1.0, 4)
            for row in rows
            if row["true_kwh"] > 0.0
        },
        "kwh_right_cause": sum(row["agreed_kwh"] for row in rows) / true,
        "kwh_right_machine_and_cause": (
            sum(row["agreed_by_unit_kwh"] for row in rows) / true
        ),
        "false_share": sum(row["false_kwh"] for row in rows) / true,
        "unwanted_kwh": sum(row["unwanted_kwh"] for row in rows),
        "gap_kwh": sum(row["gap_kwh"] for row in rows),
        "gap_h": sum(row["gap_h"] for row in rows),
        "closing_error": max(row["closing"] for row in rows),
        "confusion_kwh": {row: cells for row, cells in matrix.items() if cells},
    }


def main() -> None:
    """Run the campaign over its seeds."""
    options = seeds.arguments("ledger", __doc__, 20).parse_args()
    numbers = range(options.seed, options.seed + options.seeds)
    rows = seeds.collect(
        ((f"seed {seed}", lambda seed=seed: case(seed)) for seed in numbers),
        options.resume,
    )
    figures = figures_of(rows)
    by_seed = np.array(list(figures["total_error_by_seed"].values()))
    promises = {
        f"missed total within {MOST_ERROR:.0%}": (
            abs(figures["total_error"]) <= MOST_ERROR
        ),
        f"missed total within {MOST_ERROR:.0%} in every seed": bool(
            (np.abs(by_seed) <= MOST_ERROR).all()
        ),
        f"{LEAST_RIGHT:.0%} of the kWh under the right cause": (
            figures["kwh_right_cause"] >= LEAST_RIGHT
        ),
        "nothing missed without demand": figures["unwanted_kwh"] == 0.0,
        "nothing missed in a gap": figures["gap_kwh"] == 0.0,
        f"closes to {MOST_CLOSING:.2%}": figures["closing_error"] <= MOST_CLOSING,
    }
    seeds.end(figures, promises, as_json=options.json)


if __name__ == "__main__":
    main()
