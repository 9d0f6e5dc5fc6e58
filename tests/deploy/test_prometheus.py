"""Each rule asks for what the service tells, fires when it should, and only then."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import servers
import yaml

from twin.service.run import Service

FOLDER = servers.MOSQUITTO_CONF.parent / "prometheus"
RULES = FOLDER / "hptwin.rules.yml"
TESTS = sorted(FOLDER.glob("*.test.yml"))
# Prometheus' own, and of the process; ALERTS is a test's.
FOREIGN = {"up"}


def promtool(*arguments: str, cwd: Path = FOLDER) -> subprocess.CompletedProcess[str]:
    """Run promtool in a folder."""
    return subprocess.run(
        [servers.program("promtool"), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def rules() -> list[dict[str, object]]:
    """Return every rule."""
    document = yaml.safe_load(RULES.read_text("utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def named(text: str) -> set[str]:
    """Return the metrics that a query is about, without the ends of counters."""
    found = set(re.findall(r"\b(?:hptwin|process)_[a-z_]+\b", text))
    return {re.sub(r"_(total|bucket|count|sum)$", "", name) for name in found}


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.name)
def test_rules_fire_where_they_should_and_nowhere_else(file: Path) -> None:
    """By Prometheus' own arithmetic over made-up series."""
    done = promtool("test", "rules", file.name)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_rule_that_is_wrong_is_noticed(tmp_path: Path) -> None:
    """The control: patience made longer, and the test fails."""
    text = RULES.read_text("utf-8")
    assert "expr: time() - hptwin_judged_until_timestamp_seconds" not in text
    file = FOLDER / "hptwin.rules.weeks.test.yml"
    (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / RULES.name).write_text(text.replace("[28d]) >= 3", "[28d]) >= 9"))
    assert text.count("[28d]) >= 3") == 1
    assert promtool("test", "rules", file.name, cwd=tmp_path).returncode != 0


def test_every_rule_is_tested() -> None:
    """By its name, as one that fires; the healthy days are for all of them."""
    fired = "\n".join(
        json.dumps(test.get(key, []))
        for file in TESTS
        for test in yaml.safe_load(file.read_text("utf-8"))["tests"]
        for key in ("alert_rule_test", "promql_expr_test")
    )
    untested = {str(rule["alert"]) for rule in rules()} - set(
        re.findall(r"Hptwin\w+", fired)
    )
    assert untested == set()


def test_every_rule_asks_for_what_the_service_tells(metrics: frozenset[str]) -> None:
    """A metric that is renamed would leave its rule silent for ever."""
    told = metrics | {re.sub("_total$", "", name) for name in metrics}
    for rule in rules():
        assert named(str(rule["expr"])) <= told, rule["alert"]
    # The control.
    assert not named("rate(hptwin_message_total[1h])") <= told


def test_a_rule_says_what_to_do() -> None:
    """Each has a severity of three, a sentence, and an action."""
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}  # type: ignore[index]
        assert set(rule["annotations"]) == {"summary", "action"}  # type: ignore[call-overload]


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    """And the name of the job is the one that the rules ask for."""
    for file in (FOLDER / "prometheus.yml", RULES):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "token").mkdir()
    (tmp_path / "token" / "prometheus").touch()
    done = promtool("check", "config", "prometheus.yml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules())} rules found" in done.stdout
    document = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))
    jobs = {each["job_name"] for each in document["scrape_configs"]}
    asked = set(re.findall(r'job="(\w+)"', RULES.read_text("utf-8")))
    assert asked == jobs == {"hptwin"}


def test_a_real_prometheus_scrapes_the_service_and_evaluates_every_rule(
    service: Service, tmp_path: Path
) -> None:
    """Its configuration as shipped, but for the address and the pace."""
    text = (FOLDER / "prometheus.yml").read_text("utf-8")
    for ours, here in (
        ("hptwin:8080", f"127.0.0.1:{service.page.port}"),
        ("scrape_interval: 30s", "scrape_interval: 1s"),
        ("evaluation_interval: 30s", "evaluation_interval: 1s"),
    ):
        assert text.count(ours) == 1
        text = text.replace(ours, here)
    (tmp_path / "prometheus.yml").write_text(text, "utf-8")
    (tmp_path / RULES.name).write_bytes(RULES.read_bytes())
    (tmp_path / "token").mkdir()
    (tmp_path / "token" / "prometheus").write_text("asked for from afar only", "utf-8")
    port = servers.free_port()
    command = [
        servers.program("prometheus"),
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    server = servers.Server(command, port, tmp_path)

    def answer(path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{path}") as got:
            return json.load(got)["data"]

    server.start()
    try:
        end = time.monotonic() + 30.0
        while True:
            with contextlib.suppress(urllib.error.URLError):
                targets = answer("targets")["activeTargets"]
                states = {
                    rule["health"]
                    for group in answer("rules")["groups"]
                    for rule in group["rules"]
                }
                up = [target["health"] for target in targets] == ["up"]
                if up and states == {"ok"}:
                    break
            assert time.monotonic() < end, "it was not scraped, or a rule not evaluated"
            time.sleep(0.1)
        assert targets[0]["labels"]["job"] == "hptwin"
        # What we call a task is not taken for what Prometheus calls a job.
        [series] = answer("query?query=hptwin_job_misses_total%7Btask%3D%22show%22%7D")[
            "result"
        ]
        assert series["metric"]["job"] == "hptwin"
        assert "exported_job" not in series["metric"]
    finally:
        server.stop()
