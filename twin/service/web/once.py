"""What results say is worked out once for all who ask, until there are newer ones."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Concatenate, ParamSpec, TypeVar, cast
from weakref import WeakKeyDictionary

from twin.service.results import Results

P = ParamSpec("P")
T = TypeVar("T")

# A range is whatever somebody writes into an address. What was asked for longest
# ago is forgotten, so that nobody can fill the memory.
MOST = 64

_kept: WeakKeyDictionary[Results, OrderedDict[Hashable, object]] = WeakKeyDictionary()
_lock = threading.RLock()


def once(
    work: Callable[Concatenate[Results, P], T],
) -> Callable[Concatenate[Results, P], T]:
    """Keep what a function finds in results, by its further arguments.

    Results are never changed in place, and what was found goes with them; nobody
    may change that either. Who asks for what is just being worked out waits for it:
    with new results a hundred ask at the same time.

    Parameters
    ----------
    work : callable
        Takes results first; its further arguments can be hashed, and nothing else
        has a say in what it returns.
    """

    @functools.wraps(work)
    def found(results: Results, *args: P.args, **kwargs: P.kwargs) -> T:
        key = (work, args, tuple(sorted(kwargs.items())))
        with _lock:
            known = _kept.setdefault(results, OrderedDict())
            if key in known:
                known.move_to_end(key)
            else:
                known[key] = work(results, *args, **kwargs)
            while len(known) > MOST:
                known.popitem(last=False)
            return cast("T", known[key])

    return found  # type: ignore[return-value]  # results may come by any name
