"""Runs over seeds: told as they go, written down, and taken up again.

What a seed gave is a line of JSON in a file, written when the seed is through.
A run that finds the file does only what is missing.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


def say(text: str) -> None:
    """Tell how far it is, where it disturbs no figure."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def collect(
    cases: Iterable[tuple[str, Callable[[], Row]]], resume: Path | None
) -> list[Row]:
    """Return what each case gave, from the file where it is already there."""
    there: dict[str, Row] = {}
    if resume is not None and resume.exists():
        for line in resume.read_text().splitlines():
            row = json.loads(line)
            there[row["case"]] = row
    rows = []
    for case, run in cases:
        if case not in there:
            began = time.monotonic()
            there[case] = {"case": case, **run()}
            say(f"{case}: {_short(there[case])}, {time.monotonic() - began:.0f} s")
            if resume is not None:
                with resume.open("a") as file:
                    file.write(json.dumps(there[case]) + "\n")
        rows.append(there[case])
    return rows


def known(resume: Path | None) -> set[str]:
    """Return which cases a file already holds."""
    if resume is None or not resume.exists():
        return set()
    return {json.loads(line)["case"] for line in resume.read_text().splitlines()}


def _short(row: Row) -> str:
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in row.items()
        if name != "case" and not isinstance(value, list | dict)
    )
