"""numba's door: functions over arrays that are compiled once and kept.

What is compiled here is scalar code in a loop, written as the page of the
book has it; it runs without the interpreter's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Any:
    """Return a function compiled on its first call, kept on disk where possible.

    A division by zero gives infinity, as arrays do, instead of an exception.
    """
    settings: dict[str, Any] = {
        "error_model": "numpy",
        # NaN and infinity keep their meaning: they are how a row says no.
        "fastmath": {"contract", "nsz", "arcp"},
        "nogil": True,
    }
    try:
        return njit(cache=True, **settings)(function)
    except RuntimeError:  # no folder to cache in: compiled again in each process
        return njit(**settings)(function)
