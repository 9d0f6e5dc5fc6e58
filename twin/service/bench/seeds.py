"""Runs over seeds: told as they go, written down, and taken up again.

What a seed gave is a line of JSON in a file, written when the seed is through.
A run that finds the file does only what is missing.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


def say(text: str) -> None:
    """Tell how far it is, where it disturbs no figure."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def collect(
    cases: Iterable[tuple[str, Callable[[], Row]]],
    resume: Path | None,
    workers: int = 1,
) -> list[Row]:
    """Run each case that a file does not hold yet, and write down what it gave.

    Parameters
    ----------
    cases : iterable of tuple
        Name and what to run; of several workers each must be picklable.
    resume : Path or None
        A file of JSON lines to go on with; it is made.
    workers : int
        Processes; 1 runs all in this one.

    Returns
    -------
    list of mapping
        What each case gave, in their order, whoever was through first.
    """
    asked = dict(cases)
    there = {case: row for case, row in _known(resume).items() if case in asked}
    say(f"{len(asked)} cases, {len(there)} of them known")
    todo = {case: run for case, run in asked.items() if case not in there}
    for case, (row, seconds) in _through(todo, workers):
        there[case] = {"case": case, **row}
        say(f"{len(there)}/{len(asked)} {case}: {_short(row)}, {seconds:.0f} s")
        if resume is not None:
            with resume.open("a") as file:
                file.write(json.dumps(there[case]) + "\n")
    return [there[case] for case in asked]


def _known(resume: Path | None) -> dict[str, Row]:
    if resume is None or not resume.exists():
        return {}
    rows = [json.loads(line) for line in resume.read_text().splitlines()]
    return {row["case"]: row for row in rows}


def _through(
    todo: Mapping[str, Callable[[], Row]], workers: int
) -> Iterator[tuple[str, tuple[Row, float]]]:
    """Yield what each case gave and took [s], as they come."""
    if workers <= 1:
        for case, run in todo.items():
            yield case, _timed(run)
        return
    with ProcessPoolExecutor(workers) as pool:
        started = {pool.submit(_timed, run): case for case, run in todo.items()}
        for future in as_completed(started):
            yield started[future], future.result()


def _timed(run: Callable[[], Row]) -> tuple[Row, float]:
    began = time.monotonic()
    return run(), time.monotonic() - began


def _short(row: Row) -> str:
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in row.items()
        if not isinstance(value, list | dict)
    )
