"""Write Grafana's dashboards: the plant from the vocabulary, and the service.

    python deploy/grafana/make.py

A point that is added to ``twin/points.py`` is drawn after the next run. The page
of the twin itself stands alone; these are for people who have Grafana anyway.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from twin.points import POINTS, Kind, Origin, Point  # noqa: E402

DASHBOARDS = Path(__file__).parent / "dashboards"
PROMETHEUS = {"type": "prometheus", "uid": "${prometheus}"}
INFLUXDB = {"type": "influxdb", "uid": "${influxdb}"}

# What Grafana calls our units, and what a panel of such points is called.
UNITS: Mapping[str, tuple[str, str]] = {
    "degC": ("celsius", "temperatures"),
    "W": ("watt", "power and heat"),
    "m3/s": ("flowcms", "flows"),
    "Pa": ("pressurepa", "pressures"),
    "Hz": ("hertz", "speed"),
    "J": ("joule", "meters"),
    "1": ("none", "states"),
    "EUR/J": ("suffix:EUR/J", "prices"),
    "kg/J": ("suffix:kg/J", "emissions"),
}
DEVICES: Mapping[Kind, str] = {
    Kind.HEAT_PUMP: "Heat pump",
    Kind.EXCHANGER: "Exchanger",
    Kind.REJECTOR: "Rejector",
    Kind.CONSUMER: "Consumer",
    Kind.SITE: "Site",
}

# Title, Grafana's unit, and what is asked for: (PromQL, legend).
SERVICE: Mapping[str, tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...]] = {
    "Is it well?": (
        ("Ready", "none", (("hptwin_ready", "{{instance}}"),)),
        (
            "Connected to the broker",
            "none",
            (("hptwin_broker_connected", "{{instance}}"),),
        ),
        (
            "Time since the last message",
            "s",
            (("hptwin_last_message_age_seconds", "{{instance}}"),),
        ),
        (
            "Alarms",
            "short",
            (
                (
                    "sum by (status, severity) (hptwin_alarms)",
                    "{{severity}}, {{status}}",
                ),
            ),
        ),
        (
            "Messages that have reached nobody",
            "short",
            (("hptwin_undelivered_messages", "{{instance}}"),),
        ),
        (
            "What present findings cost a day",
            "currencyEUR",
            (("hptwin_findings_cost_eur_per_day", "{{instance}}"),),
        ),
    ),
    "Telemetry": (
        (
            "Messages",
            "cps",
            (
                (
                    "sum by (verdict) (rate(hptwin_messages_total[$__rate_interval]))",
                    "{{verdict}}",
                ),
            ),
        ),
        (
            "Messages that wait in the journal",
            "short",
            (("hptwin_messages_in_flight", "{{instance}}"),),
        ),
        (
            "Readings refused, by reason",
            "cps",
            (
                (
                    "sum by (reason) (rate(hptwin_readings_refused_total"
                    "[$__rate_interval]))",
                    "{{reason}}",
                ),
            ),
        ),
        (
            "Age of the oldest point",
            "s",
            (("max by (unit) (hptwin_sample_age_seconds)", "{{unit}}"),),
        ),
        (
            "Points that are stale or were never heard",
            "short",
            (
                (
                    'sum by (unit, state) (hptwin_points{state!="fresh"}) > 0',
                    "{{unit}}, {{state}}",
                ),
            ),
        ),
        (
            "Clock offset of what sends",
            "s",
            (("hptwin_clock_offset_seconds", "{{topic}}"),),
        ),
        (
            "Readings that came late, and second values",
            "cps",
            (
                ("rate(hptwin_readings_late_total[$__rate_interval])", "late"),
                ("rate(hptwin_readings_conflicts_total[$__rate_interval])", "second"),
            ),
        ),
        (
            "Readings that no calculation uses",
            "cps",
            (
                (
                    "sum by (flag) (rate(hptwin_readings_flagged_total"
                    "[$__rate_interval]))",
                    "{{flag}}",
                ),
            ),
        ),
        (
            "Journal",
            "bytes",
            (("hptwin_journal_bytes", "{{instance}}"),),
        ),
    ),
    "Judgement": (
        (
            "COP, and what is expected of it",
            "none",
            (
                ("hptwin_cop", "{{unit}}"),
                ("hptwin_expected_cop", "{{unit}}, expected"),
            ),
        ),
        (
            "Time since the end of the last judged day",
            "s",
            (("time() - hptwin_judged_until_timestamp_seconds", "{{instance}}"),),
        ),
        (
            "Recalibrations of four weeks",
            "short",
            (
                (
                    "sum by (unit, outcome) "
                    "(increase(hptwin_recalibrations_total[28d]))",
                    "{{unit}}, {{outcome}}",
                ),
            ),
        ),
    ),
    "The process": (
        (
            "Free disk",
            "bytes",
            (("hptwin_disk_free_bytes", "{{instance}}, {{folder}}"),),
        ),
        (
            "Memory",
            "bytes",
            (('process_resident_memory_bytes{job="hptwin"}', "{{instance}}"),),
        ),
        (
            "Processor",
            "percentunit",
            (
                (
                    'rate(process_cpu_seconds_total{job="hptwin"}[$__rate_interval])',
                    "{{instance}}",
                ),
            ),
        ),
        (
            "For how long a loop has not come round",
            "s",
            (("hptwin_loop_age_seconds", "{{loop}}"),),
        ),
        (
            "Tasks that failed or were due too soon",
            "short",
            (
                (
                    'increase(hptwin_job_runs_total{outcome="failed"}[1h])',
                    "{{task}} failed",
                ),
                ("increase(hptwin_job_misses_total[1h])", "{{task}} still ran"),
            ),
        ),
        (
            "Open files, and who looks",
            "short",
            (
                ('process_open_fds{job="hptwin"}', "{{instance}}, files"),
                ("hptwin_page_listeners", "{{instance}}, pages"),
            ),
        ),
    ),
}


def measured(kind: Kind) -> dict[str, list[Point]]:
    """Return what a kind of device measures, by unit."""
    found: dict[str, list[Point]] = {}
    for point in POINTS.values():
        if kind in point.kinds and point.origin is Origin.MEASURED:
            found.setdefault(point.unit, []).append(point)
    return found


def influxql(points: Iterable[Point]) -> str:
    """Return the question for the means of some points, by unit."""
    means = ", ".join(f'mean("{point.name}") AS "{point.name}"' for point in points)
    return (
        f'SELECT {means} FROM "telemetry" '  # noqa: S608  names of the vocabulary
        'WHERE "unit" =~ /^$unit$/ AND $timeFilter '
        'GROUP BY time($__interval), "unit" fill(null)'
    )


def panel(title: str, unit: str, source: Any, targets: list[Any]) -> dict[str, Any]:
    """Return a chart over time; where it stands is said later."""
    return {
        "type": "timeseries",
        "title": title,
        "datasource": source,
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "custom": {"lineWidth": 1, "fillOpacity": 0, "showPoints": "auto"},
            },
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": targets,
    }


def asked(letter: int, **question: Any) -> dict[str, Any]:
    """Return a target, named by a letter."""
    return {"refId": chr(ord("A") + letter), **question}


def laid_out(rows: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the panels of all rows, three beside each other, numbered."""
    placed: list[dict[str, Any]] = []
    down = 0
    for title, panels in rows.items():
        place = {"h": 1, "w": 24, "x": 0, "y": down}
        placed.append(
            {"type": "row", "title": title, "collapsed": False, "gridPos": place}
        )
        down += 1
        for number, each in enumerate(panels):
            across, below = number % 3, number // 3
            place = {"h": 8, "w": 8, "x": 8 * across, "y": down + 8 * below}
            placed.append({**each, "gridPos": place})
        down += 8 * -(-len(panels) // 3)
    return [{"id": number, **each} for number, each in enumerate(placed, start=1)]


def dashboard(
    uid: str, title: str, variables: list[dict[str, Any]], panels: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return a dashboard."""
    return {
        "uid": uid,
        "title": title,
        "tags": ["hptwin"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "timezone": "browser",
        "refresh": "1m",
        "time": {"from": "now-24h", "to": "now"},
        "templating": {"list": variables},
        "annotations": {"list": []},
        "panels": panels,
    }


def source_variable(name: str, uid: str) -> dict[str, Any]:
    """Return the variable that says which data source; the provisioned one first."""
    return {
        "name": name,
        "label": name,
        "type": "datasource",
        "query": name,
        "current": {"text": uid, "value": uid},
    }


def service() -> dict[str, Any]:
    """Return the dashboard of the service itself."""
    rows = {
        row: [
            panel(
                title,
                unit,
                PROMETHEUS,
                [
                    asked(n, datasource=PROMETHEUS, expr=expr, legendFormat=legend)
                    for n, (expr, legend) in enumerate(questions)
                ],
            )
            for title, unit, questions in panels
        ]
        for row, panels in SERVICE.items()
    }
    return dashboard(
        "hptwin-service",
        "hptwin: the service",
        [source_variable("prometheus", "hptwin-prometheus")],
        laid_out(rows),
    )


def plant() -> dict[str, Any]:
    """Return the dashboard of what is measured."""
    rows = {
        device: [
            panel(
                f"{device}: {UNITS[unit][1]}",
                UNITS[unit][0],
                INFLUXDB,
                [
                    asked(
                        0,
                        datasource=INFLUXDB,
                        query=influxql(points),
                        rawQuery=True,
                        resultFormat="time_series",
                        alias="$tag_unit $col",
                    )
                ],
            )
            for unit, points in measured(kind).items()
        ]
        for kind, device in DEVICES.items()
    }
    units = {
        "name": "unit",
        "label": "unit",
        "type": "query",
        "datasource": INFLUXDB,
        "query": 'SHOW TAG VALUES FROM "telemetry" WITH KEY = "unit"',
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }
    return dashboard(
        "hptwin-plant",
        "hptwin: the plant as measured",
        [source_variable("influxdb", "hptwin-influxdb"), units],
        laid_out(rows),
    )


def written() -> dict[str, str]:
    """Return the files and their contents."""
    return {
        f"{made['uid']}.json": json.dumps(made, indent=1, ensure_ascii=False) + "\n"
        for made in (service(), plant())
    }


if __name__ == "__main__":
    for name, content in written().items():
        (DASHBOARDS / name).write_text(content, encoding="utf-8")
