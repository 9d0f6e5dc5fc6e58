"""Grafana's dashboards ask for what is there, by a real database where it can be.

No Grafana runs here: that it draws them was not seen. What they ask is asked of a
real InfluxDB 1.x in its place, and the names of metrics are those of a scrape.
"""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import servers
import yaml

from ingest.archive.influx import InfluxArchive
from ingest.reading import Reading, Readings
from twin.points import POINTS, Origin

FOLDER = servers.MOSQUITTO_CONF.parent / "grafana"
FILES = sorted((FOLDER / "dashboards").glob("*.json"))
DASHBOARDS = {file.stem: json.loads(file.read_text("utf-8")) for file in FILES}
NOW_MS = 1_700_000_000_000


def panels(name: str) -> list[dict[str, Any]]:
    """Return a dashboard's charts."""
    return [each for each in DASHBOARDS[name]["panels"] if each["type"] != "row"]


def test_they_are_what_is_made_of_the_vocabulary() -> None:
    """To the byte; after a change: python deploy/grafana/make.py."""
    made = runpy.run_path(str(FOLDER / "make.py"))["written"]()
    assert made == {file.name: file.read_text("utf-8") for file in FILES}


def test_every_panel_has_a_place_a_number_and_a_unit() -> None:
    """Nothing overlaps, and no value is without its unit."""
    for dashboard in DASHBOARDS.values():
        every = dashboard["panels"]
        numbers = [each["id"] for each in every]
        assert len(set(numbers)) == len(numbers)
        taken: set[tuple[int, int]] = set()
        for each in every:
            at = each["gridPos"]
            cells = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            assert not cells & taken, each["title"]
            assert at["x"] + at["w"] <= 24
            taken |= cells
            if each["type"] != "row":
                assert each["fieldConfig"]["defaults"]["unit"], each["title"]
                assert each["targets"], each["title"]


def test_the_data_sources_are_those_that_are_provisioned() -> None:
    """Each panel asks by a variable, whose first choice is a provisioned uid."""
    file = FOLDER / "provisioning" / "datasources" / "hptwin.yaml"
    sources = yaml.safe_load(file.read_text("utf-8"))["datasources"]
    provisioned = {each["type"]: each["uid"] for each in sources}
    for dashboard in DASHBOARDS.values():
        variables = {
            each["query"]: each["current"]["value"]
            for each in dashboard["templating"]["list"]
            if each["type"] == "datasource"
        }
        assert variables.items() <= provisioned.items()
        for each in dashboard["panels"]:
            if each["type"] != "row":
                kind = each["datasource"]["type"]
                assert each["datasource"]["uid"] == f"${{{kind}}}"
                assert kind in variables
    header = sources[1]["secureJsonData"]["httpHeaderValue1"]
    assert header == "Token $__file{/run/secrets/influx.token}"


def test_the_service_tells_what_is_asked(
    metrics: frozenset[str], tmp_path: Path
) -> None:
    """Every metric exists, every expression parses; a wrong one is found."""
    asked = [
        target["expr"]
        for each in panels("hptwin-service")
        for target in each["targets"]
    ]
    names = set(re.findall(r"\b(?:hptwin|process)_[a-z_]+\b", " ".join(asked)))
    told = metrics | {f"{name}_total" for name in metrics}
    assert names - told == set()

    def parsed(expressions: list[str]) -> bool:
        rules = [
            {"record": f"asked:{n}", "expr": re.sub(r"\$__rate_interval", "5m", expr)}
            for n, expr in enumerate(expressions)
        ]
        file = tmp_path / "asked.yml"
        file.write_text(json.dumps({"groups": [{"name": "asked", "rules": rules}]}))
        command = [servers.program("promtool"), "check", "rules", str(file)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    assert parsed(asked)
    assert not parsed([*asked, "sum by (unit (hptwin_cop)"])


def test_every_measured_point_is_drawn_once() -> None:
    """For each kind of device that has it."""
    drawn: dict[tuple[str, str], int] = {}
    for each in panels("hptwin-plant"):
        for name in re.findall(r'mean\("(\w+)"\)', each["targets"][0]["query"]):
            key = each["title"].split(":")[0], name
            drawn[key] = drawn.get(key, 0) + 1
    words = {"Heat pump": "heat_pump"}
    wanted = {
        (kind.value, point.name): 1
        for point in POINTS.values()
        if point.origin is Origin.MEASURED
        for kind in point.kinds
    }
    assert {
        (words.get(device, device.lower()), name): number
        for (device, name), number in drawn.items()
    } == wanted


def test_a_real_database_answers_every_question(
    influxd: servers.Influx, database: str
) -> None:
    """What the product has written comes back, point by point, by the panel's query."""
    measured = [p.name for p in POINTS.values() if p.origin is Origin.MEASURED]
    archive = InfluxArchive(influxd.url, database=database)
    archive.write(
        Readings.of(
            [
                Reading("hp1", name, NOW_MS, float(number))
                for number, name in enumerate(measured)
            ]
        )
    )
    archive.close()
    macros = {
        "$timeFilter": f"time >= {NOW_MS - 60_000}ms AND time <= {NOW_MS + 60_000}ms",
        "$__interval": "1m",
        "$unit": ".*",
    }

    def answer(query: str) -> dict[str, float]:
        for macro, value in macros.items():
            query = query.replace(macro, value)
        asked = urllib.parse.urlencode({"db": database, "q": query})
        with urllib.request.urlopen(f"{influxd.url}/query?{asked}") as got:  # noqa: S310
            [result] = json.load(got)["results"]
        return {
            name: value
            for series in result.get("series", [])
            for row in series["values"]
            for name, value in zip(series["columns"], row, strict=True)
            if name != "time" and value is not None
        }

    for each in panels("hptwin-plant"):
        query = each["targets"][0]["query"]
        names = re.findall(r'mean\("(\w+)"\)', query)
        assert answer(query) == {name: measured.index(name) for name in names}
    [unit] = [
        each
        for each in DASHBOARDS["hptwin-plant"]["templating"]["list"]
        if each["name"] == "unit"
    ]
    assert answer(unit["query"]) == {"key": "unit", "value": "hp1"}


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
def test_a_dashboard_says_which_it_is(name: str) -> None:
    """By its file's name, for good: a link to it survives a new version."""
    assert DASHBOARDS[name]["uid"] == name
    assert DASHBOARDS[name]["tags"] == ["hptwin"]
