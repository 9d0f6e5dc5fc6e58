"""What one look at the plant has found, as data: written, read and shown.

A replay writes it to a directory, the running service holds the newest one,
the page reads either. Equal content makes equal bytes: the column order and
the types are written down here, keys are sorted, nothing depends on the clock.
Nothing here judges.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from twin.finding import Finding, FindingKind

if TYPE_CHECKING:
    import pyarrow as pa

MISSED_CAUSES: tuple[str, ...] = (
    "unavailable",
    "override",
    "source_cold",
    "sink_hot",
    "hydraulics",
    "control",
    "storage",
    "degradation",
    "unexplained",
)

_TEXT = ("unit", "component", "indicator", "why")
_HEALTH = (
    "time", "unit", "component", "indicator", "value", "low", "high",
    "statistic", "limit", "samples",
)  # fmt: skip
_LEDGER = (
    "time", "unit", "it_heat_j", "recovered_j", "no_demand_j", "uneconomic_j",
    "out_of_reach_j", *(f"missed_{cause}_j" for cause in MISSED_CAUSES),
    "missed_j", "missed_eur", "missed_kg", "gap_s", "closing_j",
)  # fmt: skip
_KPIS = (
    "time", "unit", "sink_heat_j", "source_heat_j", "compressor_energy_j", "cop",
    "expected_cop", "reference_cop", "lorenz_efficiency", "running_s", "coverage",
)  # fmt: skip
_ATTRIBUTION = (
    "time", "unit", "component",
    *(
        f"{name}{end}"
        for name in ("cop", "power_w", "energy_j_day", "eur_year", "kg_year")
        for end in ("", "_low", "_high")
    ),
    "windows", "why",
)  # fmt: skip

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "health": _HEALTH,
    "ledger": _LEDGER,
    "kpis": _KPIS,
    "attribution": _ATTRIBUTION,
}


Latest = Mapping[str, Mapping[str, tuple[float, datetime]]]
Expected = Mapping[str, Mapping[str, float]]


class ResultsError(ValueError):
    """A results directory that cannot be read, or a table that is not one."""


def empty(table: str) -> pd.DataFrame:
    """Return a table of :data:`COLUMNS` that has no rows."""
    return in_order(pd.DataFrame(), table)


def in_order(frame: pd.DataFrame, table: str) -> pd.DataFrame:
    """Return the rows with the columns, types and order that the files have.

    Parameters
    ----------
    frame : DataFrame
        Any column order; a column that is not there becomes NaN, one that the
        table does not know is kept behind the others, as numbers or as text.
    table : str
        Of :data:`COLUMNS`.

    Raises
    ------
    ResultsError
        If a time is naive or missing: nobody could say when that row was.
    """
    known = COLUMNS[table]
    columns = [*known, *sorted(set(map(str, frame.columns)) - set(known))]
    made: dict[str, pd.Series[Any]] = {}
    for name in columns:
        given = frame[name] if name in frame.columns else None
        if name == "time":
            made[name] = _times(given, frame, table)
        elif name in _TEXT:
            made[name] = (
                pd.Series("", index=frame.index, dtype="str")
                if given is None
                else given.fillna("").astype("str")
            )
        elif name not in known and not _is_number(given):
            made[name] = pd.Series(given, dtype="object").fillna("").astype("str")
        else:
            made[name] = (
                pd.Series(math.nan, index=frame.index, dtype="float64")
                if given is None
                else given.astype("float64")
            )
    keys = [name for name in ("time", *_TEXT) if name in columns]
    return (
        pd.DataFrame(made, columns=columns)
        .sort_values(keys, kind="stable")
        .reset_index(drop=True)
    )


def _is_number(column: Any) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column.dtype))


def _times(given: Any, frame: pd.DataFrame, table: str) -> pd.Series[Any]:
    if given is None:
        if len(frame):
            raise ResultsError(
                f"{table}: no column time among {list(frame.columns)}; "
                "each row needs the end of its interval, UTC"
            )
        given = pd.Series([], dtype="datetime64[ms, UTC]")
    times = pd.Series(pd.to_datetime(given), index=frame.index)
    zone = getattr(times.dtype, "tz", None)
    if zone is None or times.isna().any():
        raise ResultsError(
            f"{table}: time is {times.dtype} with {int(times.isna().sum())} missing; "
            "it must be present and aware, UTC"
        )
    return times.dt.tz_convert("UTC").astype("datetime64[ms, UTC]")


def instant(time: datetime) -> str:
    """Return an aware time as ISO 8601 in UTC with a ``Z``.

    >>> instant(datetime(2026, 1, 31, 12, tzinfo=UTC))
    '2026-01-31T12:00:00Z'
    """
    if time.tzinfo is None:
        raise ValueError(f"time {time} is naive; a time here is aware, UTC")
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse_instant(text: str) -> datetime:
    """Return the time that :func:`instant` wrote."""
    return datetime.fromisoformat(text).astimezone(UTC)


def plain(value: Any) -> Any:
    """Return a value as JSON knows it; what is not a number becomes null.

    >>> plain({"b": float("nan"), "a": (1, datetime(2026, 1, 1, tzinfo=UTC))})
    {'b': None, 'a': [1, '2026-01-01T00:00:00Z']}
    """
    if value is None or isinstance(value, (str, bool, int)):
        # A StrEnum is a str, yet json would not sort it as one.
        return str(value) if isinstance(value, str) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return None if pd.isna(value) else instant(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, (set, frozenset)):
        return sorted(plain(item) for item in value)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy's scalars and arrays
        return plain(value.tolist())
    if value is pd.NaT or value is pd.NA:
        return None
    return str(value)


def to_json(value: Any) -> str:
    """Return sorted, indented JSON, the same text for equal content."""
    return (
        json.dumps(
            plain(value), sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False
        )
        + "\n"
    )


def finding_to_dict(finding: Finding) -> dict[str, Any]:
    """Return a finding as plain JSON values, its key included."""
    return {
        "key": finding.key,
        "unit": finding.unit,
        "kind": finding.kind.value,
        "component": finding.component,
        "since": instant(finding.since),
        "seen": instant(finding.seen),
        "size": plain(float(finding.size)),
        "low": plain(float(finding.low)),
        "high": plain(float(finding.high)),
        "sentence": finding.sentence,
        "advice": finding.advice,
        "cost_eur_day": plain(finding.cost_eur_day),
        "energy_j_day": plain(finding.energy_j_day),
        "emission_kg_day": plain(finding.emission_kg_day),
        "clean_by": None if finding.clean_by is None else instant(finding.clean_by),
        "evidence": plain(finding.evidence),
    }


def finding_from_dict(values: Mapping[str, Any]) -> Finding:
    """Return the finding that :func:`finding_to_dict` wrote; null sizes are NaN."""

    def number(name: str) -> float:
        return math.nan if values[name] is None else float(values[name])

    clean_by = values.get("clean_by")
    return Finding(
        unit=values["unit"],
        kind=FindingKind(values["kind"]),
        component=values["component"],
        since=parse_instant(values["since"]),
        seen=parse_instant(values["seen"]),
        size=number("size"),
        low=number("low"),
        high=number("high"),
        sentence=values["sentence"],
        advice=values["advice"],
        cost_eur_day=values.get("cost_eur_day"),
        energy_j_day=values.get("energy_j_day"),
        emission_kg_day=values.get("emission_kg_day"),
        clean_by=None if clean_by is None else parse_instant(clean_by),
        evidence=dict(values.get("evidence") or {}),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Results:
    """Everything the twin has to say about a site at one time.

    Attributes
    ----------
    site
        Name of the plant.
    generated
        The event time it was made for. UTC.
    findings
        What is wrong, worst first is the reader's business.
    health, ledger, kpis
        Tables with the columns of :data:`COLUMNS`.
    attribution
        Where the COP of the last week went, a row for each unit and cause; the
        numbers are NaN and ``why`` says why where there is no answer.
    models
        One dict a model: unit, role, version, created, window, accepted,
        reason, gates (each a dict with name, passed, value, limit).
    summary
        Whatever a caller wants to keep beside: totals, planted faults, seconds.
    latest
        The newest value of every point with its time, by unit.
    expected
        What the current twin expects of the same points, by unit.
    data_quality
        Counts, by name: verdicts of payloads, suspect values, gaps.
    """

    site: str
    generated: datetime
    findings: tuple[Finding, ...] | list[Finding] = ()
    health: pd.DataFrame = field(default_factory=lambda: empty("health"))
    ledger: pd.DataFrame = field(default_factory=lambda: empty("ledger"))
    kpis: pd.DataFrame = field(default_factory=lambda: empty("kpis"))
    attribution: pd.DataFrame = field(default_factory=lambda: empty("attribution"))
    models: Sequence[Mapping[str, Any]] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    latest: Latest = field(default_factory=dict)
    expected: Expected = field(default_factory=dict)
    data_quality: Mapping[str, float] = field(default_factory=dict)

    def units(self) -> list[str]:
        """Return every unit that anything here is about, the site left out."""
        named = {finding.unit for finding in self.findings} | set(self.latest)
        for table in (self.health, self.ledger, self.kpis):
            if "unit" in table.columns:
                named |= set(map(str, table["unit"].unique()))
        named |= {str(model["unit"]) for model in self.models if "unit" in model}
        return sorted(named - {"site", ""})

    def write(self, directory: Path) -> None:
        """Write the six files; equal content makes equal bytes.

        Each file is written beside its name and then moved there, so a reader
        never meets half of one.
        """
        directory.mkdir(parents=True, exist_ok=True)
        ranked = sorted(self.findings, key=lambda finding: finding.key)
        _replace(
            directory / "findings.json",
            to_json([finding_to_dict(finding) for finding in ranked]).encode(),
        )
        for name in COLUMNS:
            _write_table(getattr(self, name), name, directory / f"{name}.parquet")
        document = {
            "site": self.site,
            "generated": self.generated,
            "summary": self.summary,
            "models": list(self.models),
            "latest": self.latest,
            "expected": self.expected,
            "data_quality": self.data_quality,
        }
        _replace(directory / "summary.json", to_json(document).encode())

    @classmethod
    def read(cls, directory: Path) -> Results:
        """Return what :meth:`write` wrote.

        Raises
        ------
        ResultsError
            If a file is missing or is not what it should be.
        """
        import pyarrow.parquet as pq

        try:
            findings = json.loads((directory / "findings.json").read_bytes())
            document = json.loads((directory / "summary.json").read_bytes())
            tables = {
                name: in_order(
                    pq.read_table(directory / f"{name}.parquet").to_pandas(), name
                )
                for name in COLUMNS
                # Results from before it was kept have none.
                if name != "attribution" or (directory / "attribution.parquet").exists()
            }
            return cls(
                site=document["site"],
                generated=parse_instant(document["generated"]),
                findings=tuple(map(finding_from_dict, findings)),
                models=tuple(document["models"]),
                summary=document["summary"],
                latest={
                    unit: {
                        point: (_number(value), parse_instant(time))
                        for point, (value, time) in points.items()
                    }
                    for unit, points in document["latest"].items()
                },
                expected={
                    unit: {point: _number(value) for point, value in points.items()}
                    for unit, points in document["expected"].items()
                },
                data_quality=document["data_quality"],
                **tables,
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ResultsError(
                f"{directory}: not a results directory ({error}); "
                "write one with: hptwin replay --out DIR"
            ) from error


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_name(path.name + ".part")
    beside.write_bytes(content)
    beside.replace(path)


def _schema(ordered: pd.DataFrame) -> pa.Schema:
    import pyarrow as pa

    def kind(name: str) -> pa.DataType:
        if name == "time":
            return pa.timestamp("ms", tz="UTC")
        return pa.float64() if _is_number(ordered[name]) else pa.string()

    return pa.schema([pa.field(name, kind(name)) for name in ordered.columns])


def _write_table(frame: pd.DataFrame, name: str, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    ordered = in_order(frame, name)
    schema = _schema(ordered)
    # Built column by column: pandas' own metadata block names library
    # versions, and would make equal tables differ.
    table = pa.Table.from_arrays(
        [
            pa.array(ordered[column].to_numpy(), type=schema.field(column).type)
            if column != "time"
            else pa.array(
                ordered["time"].dt.tz_localize(None).to_numpy(), pa.timestamp("ms")
            ).cast(schema.field("time").type)
            for column in ordered.columns
        ],
        schema=schema,
    )
    beside = path.with_name(path.name + ".part")
    pq.write_table(table, beside, compression="zstd")
    beside.replace(path)


class ResultsView:
    """The newest results, handed from whoever makes them to whoever shows them."""

    def __init__(self, results: Results) -> None:
        self._lock = threading.Lock()
        self._results = results
        self._revision = 1

    @property
    def results(self) -> Results:
        """The newest results; never changed in place."""
        with self._lock:
            return self._results

    @property
    def revision(self) -> int:
        """Grows by one with each publication."""
        with self._lock:
            return self._revision

    def publish(self, results: Results) -> None:
        """Put newer results in the place of the old ones."""
        with self._lock:
            self._results = results
            self._revision += 1


class Live:
    """The newest value of every point, written by intake and read by the page."""

    def __init__(self, latest: Latest | None = None) -> None:
        self._lock = threading.Lock()
        self._latest: dict[str, dict[str, tuple[float, datetime]]] = {
            unit: dict(points) for unit, points in (latest or {}).items()
        }
        self._sequence = 0

    def update(self, unit: str, point: str, value: float, time: datetime) -> None:
        """Take a value, unless a newer one is already known. UTC."""
        with self._lock:
            points = self._latest.setdefault(unit, {})
            known = points.get(point)
            if known is None or known[1] <= time:
                points[point] = (float(value), time)
                self._sequence += 1

    @property
    def sequence(self) -> int:
        """Grows with each value taken."""
        with self._lock:
            return self._sequence

    def snapshot(self) -> dict[str, dict[str, tuple[float, datetime]]]:
        """Return a copy of what is known."""
        with self._lock:
            return {unit: dict(points) for unit, points in self._latest.items()}
