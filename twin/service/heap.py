"""What a look at the day has used goes back to the machine when it is over.

A service that runs for years looks at the day at hand each minute, and needs
hundreds of megabytes for some seconds. glibc keeps what was freed, more of it the
larger the pieces that were freed before, and each thread keeps its own.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

_M_MMAP_THRESHOLD = -3  # malloc.h
_PIECE = 1 << 20


def give_back(environ: Mapping[str, str] = os.environ) -> bool:
    """Let every piece of memory of 1 MiB and more be the machine's own when freed.

    Each is then mapped by itself, and glibc no longer raises that limit as large
    pieces are freed. Whoever has set ``MALLOC_MMAP_THRESHOLD_`` has decided otherwise.

    Parameters
    ----------
    environ : mapping of str to str
        Where that is looked for.

    Returns
    -------
    bool
        Whether it is so: another C library than glibc has its own ways.
    """
    if "MALLOC_MMAP_THRESHOLD_" in environ:
        return False
    try:
        limit = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(limit(_M_MMAP_THRESHOLD, _PIECE))


def trim() -> bool:
    """Give back what is free between pieces that are not, in every thread's heap.

    An hour of one column is far below 1 MiB, and such holes glibc keeps until
    somebody asks. Costs some milliseconds; for after a look, not within one.

    Returns
    -------
    bool
        Whether the C library could be asked.
    """
    try:
        ask = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return False
    ask(0)
    return True
