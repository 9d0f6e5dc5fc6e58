"""What deploy/README.md says is there is there, and nothing else is."""

from __future__ import annotations

import re
import tomllib

import servers

DEPLOY = servers.MOSQUITTO_CONF.parent
TEXT = (DEPLOY / "README.md").read_text("utf-8")


def test_every_file_stands_in_the_table() -> None:
    """By its name, or by the folder that it is in."""
    table = TEXT[TEXT.index("| file | what it is |") : TEXT.index("## On Debian")]
    firsts = "\n".join(re.findall(r"^\| (.*?) \|", table, re.M))
    named = set(re.findall(r"`([\w./-]+)`", firsts))
    assert all((DEPLOY / name).exists() for name in named)
    there = {
        path.name + ("/" if path.is_dir() else "")
        for path in DEPLOY.iterdir()
        # What the example makes when somebody runs it here is no part of it.
        if path.name not in ("README.md", "__pycache__", "hptwin-data")
    }
    assert there - named == {"examples/"}


def test_every_path_in_a_command_leads_somewhere() -> None:
    """In the checkout, as the commands are given from its root."""
    commands = "\n".join(re.findall(r"```\n(.*?)```", TEXT, re.S))
    paths = set(re.findall(r"(?<![\w/])deploy/[\w./-]+", commands))
    assert len(paths) > 8
    assert {path for path in paths if not (DEPLOY.parent / path).exists()} == set()


def test_links_lead_to_headings() -> None:
    """By the rule that turns a heading into an anchor."""
    headings = re.findall(r"^#+ (.*)$", TEXT, re.M)
    anchors = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
    linked = set(re.findall(r"\]\(#([\w-]+)\)", TEXT))
    assert linked
    assert linked <= anchors


def test_numbers_are_those_of_the_files() -> None:
    """How many rules, which version."""
    rules = (DEPLOY / "prometheus" / "hptwin.rules.yml").read_text("utf-8")
    count = rules.count("- alert:")
    assert f"{count} alerting rules" in TEXT
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text("utf-8"))
    version = project["project"]["version"]
    for name in ("README.md", "Dockerfile", "compose/compose.yaml"):
        assert set(
            re.findall(r"hptwin:(\d+\.\d+\.\d+)", (DEPLOY / name).read_text("utf-8"))
        ) == {version}
