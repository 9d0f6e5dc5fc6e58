"""What the API answers to what nobody would ask.

``python -m tests.campaigns.api [--seconds S] [--seed S] [--examples N] [--json]``

A real server with users is started, and schemathesis asks it everything that its
OpenAPI allows, and what it does not, with an admin's token. All checks but one
are held: ``positive_data_acceptance`` takes a word that the schema allows for
one that must be welcome, and a unit or a day has to exist as well. The event
stream never ends and is left out; tests/service/test_web.py listens to it.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher

sys.path.insert(0, str(Path(__file__).parents[1] / "service"))
import sample_results

from twin.service.alarms import Alarms
from twin.service.months import Months
from twin.service.reporting import Reporting
from twin.service.results import Live, ResultsView
from twin.service.state import State
from twin.service.users import Role, Users
from twin.service.web.app import create_app
from twin.service.web.server import Server

NOW = sample_results.NOW
_CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def campaign(
    seconds: int | None, seed: int, examples: int, only: str = "/", **options: Any
) -> dict[str, Any]:
    """Ask for a while, and return what was wrong with the answers.

    Parameters
    ----------
    seconds, seed, examples : int
        How long to go on asking [s], None for one round; the seed; the cases of
        an operation in a round.
    only : str
        What the paths begin with that are asked.
    **options
        Of :func:`twin.service.web.app.create_app`.

    Returns
    -------
    dict
        Operations and cases, the server's errors, and each further failure with
        how often it was met and where.
    """
    state = State.in_memory()
    results = sample_results.results()
    alarms = Alarms(state)
    alarms.step(results.findings, NOW)
    users = Users(state, _CHEAP)
    users.add("ada", "correct horse battery", Role.ADMIN, "campaign", NOW)
    token = users.issue("campaign", Role.ADMIN, 1, "campaign", NOW)
    plant = options.setdefault("plant", sample_results.plant())
    options.setdefault("months", Months(lambda: results, plant, Reporting(), alarms))
    app = create_app(
        ResultsView(results), alarms, Live(), users=users, clock=lambda: NOW, **options
    )
    with tempfile.TemporaryDirectory() as folder, Server(app, port=0) as server:
        report = Path(folder) / "report.json"
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")),
                *("run", f"{server.url}/api/openapi.json"),
                *("-H", f"Authorization: Bearer {token}"),
                # As through a proxy: what is asked here itself is trusted more.
                *("-H", "X-Forwarded-For: 203.0.113.7"),
                *("--include-path-regex", f"^{re.escape(only)}"),
                *("--checks", "all"),
                *("--exclude-checks", "positive_data_acceptance"),
                *("--exclude-path", "/events"),
                *("--phases", "examples,coverage,fuzzing"),
                *("--max-examples", str(examples)),
                *(() if seconds is None else ("--max-time", str(seconds))),
                *("--request-timeout", "10", "--continue-on-failure"),
                *("--seed", str(seed), "--no-shrink", "--no-color"),
                *("--report", "json", "--report-json-path", str(report)),
            ],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=(seconds or 0) + 240,
        )
        if not report.exists():
            raise RuntimeError(f"schemathesis wrote no report:\n{done.stderr}")
        said = json.loads(report.read_text())
    counted: Counter[str] = Counter()
    where: dict[str, list[str]] = {}
    for failure in said["failures"]:
        counted[failure["type"]] += failure["count"]
        where.setdefault(failure["type"], []).extend(failure["operations"])
    return {
        "operations": said["operations"]["tested"],
        "cases": said["test_cases"]["generated"],
        "server_errors": counted.pop("ServerError", 0),
        "errors": len(said["errors"]),
        "failures": {name: [n, sorted(where[name])] for name, n in counted.items()},
        "seed": seed,
        "text": done.stdout,
    }


def main() -> None:
    """Run the campaign and say what it found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    asked = parser.parse_args()
    found = campaign(asked.seconds, asked.seed, asked.examples)
    text = found.pop("text")
    if asked.verbose:
        sys.stdout.write(text)
    sys.stdout.write(json.dumps(found, indent=None if asked.json else 2) + "\n")
    sys.exit(1 if found["server_errors"] or found["errors"] else 0)


if __name__ == "__main__":
    main()
