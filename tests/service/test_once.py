"""What results say is worked out once, and forgotten with them."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from datetime import UTC, datetime

from twin.service.results import Results
from twin.service.web.once import MOST, once


def results() -> Results:
    """Return results in which there is nothing."""
    return Results(site="nowhere", generated=datetime(2026, 1, 1, tzinfo=UTC))


def test_the_same_question_is_answered_once() -> None:
    """Other arguments, other results and other functions are other questions."""
    asked: list[tuple[object, ...]] = []

    @once
    def one(of: Results, unit: str, *, days: int = 1) -> tuple[str, int]:
        asked.append((of, unit, days))
        return unit, days

    @once
    def other(of: Results, unit: str) -> str:
        asked.append((of, unit))
        return unit

    first, second = results(), results()

    assert one(first, "hp1") == one(first, "hp1") == ("hp1", 1)
    assert len(asked) == 1
    assert one(first, "hp2", days=2) == ("hp2", 2)
    assert one(second, "hp1") == ("hp1", 1)
    assert other(first, "hp1") == "hp1"
    assert len(asked) == 4


def test_what_was_found_goes_with_the_results() -> None:
    """A service that runs for years has new ones every minute."""

    class Found:
        pass

    @once
    def find(of: Results) -> Found:
        return Found()

    mine = results()
    found = weakref.ref(find(mine))
    gc.collect()
    assert found() is not None
    del mine
    gc.collect()

    assert found() is None


def test_nobody_fills_the_memory_with_questions() -> None:
    """What was asked for longest ago is worked out anew."""
    asked = []

    @once
    def find(of: Results, number: int) -> int:
        asked.append(number)
        return number

    mine = results()
    for number in range(MOST + 1):
        find(mine, number)
        find(mine, 1)

    assert len(asked) == MOST + 1
    find(mine, 1)
    assert len(asked) == MOST + 1
    find(mine, 0)
    assert len(asked) == MOST + 2


def test_who_comes_meanwhile_waits_for_the_same_answer() -> None:
    """With new results a hundred ask the same at once; one works it out."""
    asked = []

    @once
    def find(of: Results) -> int:
        asked.append(of)
        time.sleep(0.05)
        return 7

    mine, found = results(), []
    crowd = [
        threading.Thread(target=lambda: found.append(find(mine))) for _ in range(8)
    ]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join()

    assert found == [7] * 8
    assert len(asked) == 1
