"""What the API says it answers is what it answers, and it never falls over.

A real server, asked by schemathesis from the OpenAPI it serves.
"""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
from test_users_access import House

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.campaigns.api import campaign


def test_nothing_that_may_be_asked_makes_the_server_fail():
    """0 server errors, and every answer has the shape, type and code it promised."""
    found = campaign(None, seed=11, examples=1)

    assert found["server_errors"] == 0, found["text"]
    assert found["errors"] == 0, found["text"]
    assert found["failures"] == {}, found["text"]
    assert found["operations"] >= 30
    assert found["cases"] >= 50


def test_a_route_that_falls_over_and_one_that_lies_would_be_found():
    """A failure within, and an answer of another shape than was promised."""
    asked: list[int] = []

    def odd():
        asked.append(1)
        if len(asked) % 2:
            raise RuntimeError("broken on purpose")
        return {"counted": "many"}

    found = campaign(None, 1, 2, "/api/quality", counts=odd)

    assert found["server_errors"] > 0
    assert "JsonSchemaError" in found["failures"]


def test_every_operation_has_an_answer_and_a_role_in_the_document():
    """No table without its columns, no route without who may ask it."""
    with House() as house:
        document = house.ask(
            "GET", "/api/openapi.json", token=house.tokens["viewer"]
        ).json()
        plain = httpx.get(f"{house.url}/healthz", trust_env=False)

    assert plain.json() == {"status": "alive", "reasons": []}
    for path, item in document["paths"].items():
        for operation in item.values():
            assert operation["x-role"] in ("nobody", "viewer", "operator", "admin")
            media = operation["responses"]["200"]["content"]
            assert list(media) != ["application/json"] or media["application/json"][
                "schema"
            ] not in ({}, {"type": "string"}), path
    assert {"token", "session"} == set(document["components"]["securitySchemes"])
    assert document["components"]["schemas"]["Ledger"]["required"][0] == "time"
