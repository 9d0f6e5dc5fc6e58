"""InfluxDB as the archive: influxdb-client's door.

One measurement, a tag ``unit``, a field per point, times in ms. A suspect
value has a second field ``<point>_flag``; once a point has had one, every
later value of it says 0 in so many words, or an earlier flag would outlive
the value that it was for.

Written is our own line protocol through the client's synchronous writer (its
batching one holds data in memory and gives it up after some retries). Read is
InfluxQL, the one language that 1.8, 2.x and 3 Core all answer, as chunked CSV
that pandas parses while it arrives, in slices that 3 Core can scan.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ingest.archive.table import (
    EMPTY,
    ArchiveError,
    ArchiveUnavailableError,
    Refused,
    Table,
    clean_frame,
    flags_frame,
    moment,
    ms,
    ordered,
    overlay,
    select,
    values_frame,
)
from ingest.reading import FLAG_CODE, Reading

if TYPE_CHECKING:
    import pandas as pd

MEASUREMENT = "telemetry"
_FLAG = "_flag"
# The one precision that every version takes for the same.
_PRECISION = "ms"
_SLICE_MS = 48 * 3_600_000
_LINES_PER_REQUEST = 5000
_CHUNK_ROWS = 10_000
_LONG_MS = 30 * 86_400_000
# The client's own line: a refusal of what was sent, not of who sent it.
_REFUSED = frozenset({400, 413, 422})
# What line protocol cannot carry in a tag, whatever is escaped.
_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f]|\\$|^$")


class InfluxArchive:
    """Readings in an InfluxDB.

    Parameters
    ----------
    url : str
        Where it answers, such as ``"http://127.0.0.1:8086"``.
    database : str
        The database, or bucket. One of 1.x is made if it is missing.
    org, token : str
        For 2.x and 3.
    username, password : str
        For 1.x with authentication; they win over a token.
    ca_file : path, optional
        The authority that signed the server's certificate.
    timeout_s : float
        How long one request may take. [s]
    """

    def __init__(
        self,
        url: str,
        *,
        database: str = "hptwin",
        org: str = "-",
        token: str = "",
        username: str = "",
        password: str = "",
        ca_file: Path | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ArchiveError(
                f'archive url "{url}": write http:// or https:// with host and port'
            )
        from influxdb_client.client.influxdb_client import InfluxDBClient
        from influxdb_client.client.write_api import SYNCHRONOUS

        self.url = url
        self.database = database
        self._client: Any = InfluxDBClient(
            url,
            token=f"{username}:{password}" if username else token or "-",
            org=org or "-",
            auth_basic=bool(username),
            timeout=int(timeout_s * 1000),
            ssl_ca_cert=str(ca_file) if ca_file else None,
        )
        self._writer: Any = self._client.write_api(write_options=SYNCHRONOUS)
        self._lock = threading.Lock()
        self._ready = False
        self._flag_fields: set[str] = set()

    def write(self, readings: Sequence[Reading]) -> Sequence[Refused]:
        """Keep readings durably; see :class:`ingest.archive.Archive`."""
        refused: list[Refused] = []
        with self._lock:
            if not self._ready:
                self._prepare()
            lines: dict[tuple[str, int], dict[str, Reading]] = {}
            for reading in readings:
                if _UNWRITABLE.search(reading.unit):
                    reason = f"InfluxDB cannot hold the unit name {reading.unit!r}"
                    refused.append(Refused(reading, reason))
                    continue
                key = (reading.unit, reading.time_ms)
                line = lines.get(key)
                if line is None:
                    line = lines[key] = {}
                line[reading.point] = reading
            self._flag_fields.update(r.point for r in readings if r.flag)
            groups = [list(line.values()) for line in lines.values()]
            for first in range(0, len(groups), _LINES_PER_REQUEST):
                self._send(groups[first : first + _LINES_PER_REQUEST], refused)
        return refused

    def frame(
        self,
        unit: str,
        start: datetime,
        stop: datetime,
        points: Iterable[str] | None = None,
    ) -> pd.DataFrame:
        """Return a unit's clean values; see :class:`ingest.archive.Archive`."""
        return clean_frame(self._table(unit, start, stop, points))

    def flagged(
        self,
        unit: str,
        start: datetime,
        stop: datetime,
        points: Iterable[str] | None = None,
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return a unit's values as they came, and their flags."""
        table = self._table(unit, start, stop, points)
        return values_frame(table), flags_frame(table)

    def units(self) -> list[str]:
        """Return the units of which anything is kept, sorted."""
        rows = self._query(f'SHOW TAG VALUES FROM "{MEASUREMENT}" WITH KEY = "unit"')
        return sorted(str(row["value"]) for row in rows)

    def span(self, unit: str) -> tuple[datetime, datetime] | None:
        """Return the times of a unit's first and last reading, None if none."""
        found = []
        for order in ("ASC", "DESC"):
            rows = self._query(
                f'SELECT * FROM "{MEASUREMENT}" '  # noqa: S608  quoted by _text
                f'WHERE "unit" = {_text(unit)} '
                f"ORDER BY time {order} LIMIT 1"
            )
            if not rows:
                return None
            found.append(moment(int(rows[0]["time"])))
        return found[0], found[1]

    def close(self) -> None:
        """Close the connections."""
        self._writer.close()
        self._client.close()

    def _prepare(self) -> None:
        """See that the server is there and has our database."""
        with self._failing():
            version = str(self._client.version())
        if version.startswith("1."):
            names = [row["name"] for row in self._query("SHOW DATABASES", database="")]
            if self.database not in names:
                self._query(
                    f"CREATE DATABASE {_name(self.database)}",
                    database="",
                    method="POST",
                )
        self._flag_fields.update(
            field.removesuffix(_FLAG) for field in self._fields() if _is_flag(field)
        )
        self._ready = True

    def _send(self, groups: list[list[Reading]], refused: list[Refused]) -> None:
        from influxdb_client.rest import ApiException

        body = b"\n".join([self._line(group) for group in groups])
        try:
            with self._failing():
                self._writer.write(
                    self.database, record=body, write_precision=_PRECISION
                )
        except ApiException as error:
            # Some of it is refused; halving finds which, and all the rest of
            # it may be written twice without harm.
            if len(groups) > 1:
                half = len(groups) // 2
                parts = [groups[:half], groups[half:]]
            elif len(groups[0]) > 1:
                parts = [[[reading]] for reading in groups[0]]
            else:
                reason = f"refused by InfluxDB: {_reason(error)}"
                refused.append(Refused(groups[0][0], reason))
                parts = []
            for part in parts:
                self._send(part, refused)

    def _line(self, group: list[Reading]) -> bytes:
        fields = []
        for reading in group:
            fields.append(f"{_escaped(reading.point)}={reading.value!r}")
            if reading.point in self._flag_fields:
                code = FLAG_CODE[reading.flag]
                fields.append(f"{_escaped(reading.point)}{_FLAG}={code}i")
        first = group[0]
        return (
            f"{MEASUREMENT},unit={_escaped(first.unit)} {','.join(fields)} "
            f"{first.time_ms}"
        ).encode()

    def _table(
        self,
        unit: str,
        start: datetime,
        stop: datetime,
        points: Iterable[str] | None,
    ) -> Table:
        wanted = None if points is None else tuple(points)
        start_ms, stop_ms = ms(start), ms(stop)
        fields = self._fields()
        names = [
            name
            for name in ordered(field for field in fields if not _is_flag(field))
            if wanted is None or name in wanted
        ]
        if names and stop_ms - start_ms > _LONG_MS:
            # An open-ended period is cut to what there is, not asked for in
            # slices of two days since 1970.
            span = self.span(unit)
            if span is None:
                names = []
            else:
                start_ms = max(start_ms, ms(span[0]))
                stop_ms = min(stop_ms, ms(span[1]) + 1)
        tables: list[Table] = []
        if names:
            for first in range(start_ms, stop_ms, _SLICE_MS):
                last = min(first + _SLICE_MS, stop_ms)
                tables.append(self._slice(unit, first, last, names, fields))
        return select(overlay(tables), wanted)

    def _slice(
        self, unit: str, start_ms: int, stop_ms: int, names: list[str], fields: set[str]
    ) -> Table:
        import pandas as pd

        flags = [name + _FLAG for name in names if name + _FLAG in fields]
        chosen = ",".join(_name(field) for field in [*names, *flags])
        query = (
            f'SELECT {chosen} FROM "{MEASUREMENT}" '  # noqa: S608  quoted by _text
            f'WHERE "unit" = {_text(unit)} '
            f"AND time >= {_time(start_ms)} AND time < {_time(stop_ms)}"
        )
        with self._failing(query=True):
            response = self._ask(query, self.database, "GET", "application/csv")
            try:
                content = pd.read_csv(
                    response,
                    usecols=lambda column: column not in ("name", "tags"),
                    dtype={
                        "time": "int64",
                        **dict.fromkeys([*names, *flags], "float64"),
                    },
                )
            except pd.errors.EmptyDataError:
                # No row at all, or no such database: both say nothing.
                return EMPTY
            finally:
                response.release_conn()
        marks = np.zeros((len(content), len(names)), np.uint8)
        for column, name in enumerate(names):
            if name + _FLAG in content:
                marks[:, column] = content[name + _FLAG].fillna(0.0).to_numpy()
        return Table(
            content["time"].to_numpy(np.int64),
            tuple(names),
            content[names].to_numpy(np.float64),
            marks,
        )

    def _fields(self) -> set[str]:
        rows = self._query(f'SHOW FIELD KEYS FROM "{MEASUREMENT}"')
        return {str(row["fieldKey"]) for row in rows}

    def _query(
        self, query: str, *, database: str | None = None, method: str = "GET"
    ) -> list[dict[str, Any]]:
        """Return the rows of a small answer."""
        with self._failing(query=True):
            response = self._ask(
                query,
                self.database if database is None else database,
                method,
                "application/json",
            )
            try:
                answer = json.loads(response.data)
            except ValueError as error:
                raise ArchiveUnavailableError(
                    f"InfluxDB at {self.url}: its answer is no JSON: {error}; is it "
                    "an InfluxDB, and does the proxy before it pass /query?"
                ) from error
        rows: list[dict[str, Any]] = []
        for result in answer.get("results", []):
            if "error" in result:
                if "database not found" in result["error"]:
                    return []
                raise ArchiveUnavailableError(
                    f"InfluxDB at {self.url}: {result['error']}"
                )
            for series in result.get("series", []):
                rows.extend(
                    dict(zip(series["columns"], values, strict=True))
                    for values in series.get("values", [])
                )
        return rows

    def _ask(self, query: str, database: str, method: str, accept: str) -> Any:
        parameters = [("q", query), ("epoch", "ms")]
        if database:
            parameters.append(("db", database))
        if accept == "application/csv":
            parameters += [("chunked", "true"), ("chunk_size", str(_CHUNK_ROWS))]
        call: Callable[..., Any] = self._client.api_client.call_api
        return call(
            "/query",
            method,
            header_params={"Accept": accept},
            query_params=parameters,
            _preload_content=False,
            _return_http_data_only=True,
        )

    @contextmanager
    def _failing(self, *, query: bool = False) -> Iterator[None]:
        """Tell what may be tried again from what will never be taken."""
        from influxdb_client.rest import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ApiException as error:
            if error.status in _REFUSED and not query:
                raise
            self._ready = False
            raise ArchiveUnavailableError(
                f"InfluxDB at {self.url}: {_reason(error)}{_remedy(error.status)}"
            ) from error
        except (HTTPError, OSError) as error:
            if isinstance(error, ArchiveUnavailableError):
                raise
            self._ready = False
            raise ArchiveUnavailableError(
                f"InfluxDB at {self.url} does not answer: {error}"
            ) from error


def _remedy(status: int | None) -> str:
    if status in (401, 403):
        return "; are token, or username and password, right?"
    if status == 404:
        return (
            "; does the bucket exist, and is this InfluxDB 1.8 or newer (older ones "
            "need the mapping of /api/v2/write in deploy/)?"
        )
    return ""


def _reason(error: Any) -> str:
    body = error.body or ""
    if isinstance(body, bytes):  # a streamed answer is not decoded by the client
        body = body.decode("utf-8", "replace")
    return f"{error.status} {body.strip()[:300] or error.reason}"


def _is_flag(field: str) -> bool:
    return field.endswith(_FLAG)


def _escaped(text: str) -> str:
    return text.replace(",", "\\,").replace("=", "\\=").replace(" ", "\\ ")


def _name(identifier: str) -> str:
    escaped = identifier.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _text(literal: str) -> str:
    escaped = literal.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _time(time_ms: int) -> str:
    text = moment(time_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f"'{text}'"
