"""Each rule asks for what the service tells, fires when it should, and only then."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import servers
import yaml

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


def test_prometheus_takes_its_configuration() -> None:
    """And the name of the job is the one that the rules ask for."""
    done = promtool("check", "config", "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules())} rules found" in done.stdout
    document = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))
    jobs = {each["job_name"] for each in document["scrape_configs"]}
    asked = set(re.findall(r'job="(\w+)"', RULES.read_text("utf-8")))
    assert asked == jobs == {"hptwin"}
