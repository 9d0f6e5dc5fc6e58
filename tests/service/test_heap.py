"""Memory that was freed is the machine's again, in a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from twin.service import heap

ROOT = Path(__file__).resolve().parents[2]

# Large pieces with something small behind each, as a look at a day leaves behind.
_WORK = """
import ctypes
import sys
import numpy as np
from pathlib import Path
from twin.service import heap

def held():
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024

if sys.argv[1] == "given back":
    told = heap.give_back()
else:
    # What glibc comes to by itself, sooner or later, in a process of large pieces:
    # they are of its own heap, whose end it gives back at some size.
    told, limit = None, ctypes.CDLL(None).mallopt
    limit(-3, 32 << 20), limit(-1, 1 << 30)
warm = np.ones(3 << 20)  # 24 MB: what glibc learns its limit from
del warm
before, large, small = held(), [], []
for _ in range(20):
    large.append(np.ones(1 << 20))
    small.append(bytearray(100_000))  # no hole of before holds it
del large
print(told, held() - before)
"""


def kept(how: str, work: str = _WORK) -> tuple[str, float]:
    """Return what is said, and how much of what it freed a process keeps. [MB]."""
    done = subprocess.run(
        [sys.executable, "-c", work, how],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    told, size = done.stdout.split()
    return told, float(size)


@pytest.mark.skipif(
    not os.confstr_names.get("CS_GNU_LIBC_VERSION"),
    reason="this C library is not glibc",
)
def test_what_is_freed_is_given_back() -> None:
    """And a process whose heap holds such pieces keeps them: the control."""
    told, size = kept("given back")
    assert told == "True"
    assert size < 20.0

    _, size = kept("as it comes")
    assert size > 100.0


# Small pieces, of which every hundredth stays: the hour of a column at a time.
_HOLES = """
import sys
from pathlib import Path
import numpy as np
from twin.service import heap

def held():
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024

heap.give_back()
before = held()
pieces = [np.ones(3600) for _ in range(4000)]
kept = pieces[::100]
del pieces
print(heap.trim() if sys.argv[1] == "trimmed" else None, held() - before)
"""


@pytest.mark.skipif(
    not os.confstr_names.get("CS_GNU_LIBC_VERSION"),
    reason="this C library is not glibc",
)
def test_holes_are_given_back_when_asked() -> None:
    """What lies between what stays; unasked it is kept, 110 MB of it: the control."""
    told, size = kept("trimmed", _HOLES)
    assert told == "True"
    assert size < 20.0

    _, size = kept("as it comes", _HOLES)
    assert size > 60.0


def test_who_has_set_the_limit_has_decided() -> None:
    """The environment goes before."""
    assert not heap.give_back({"MALLOC_MMAP_THRESHOLD_": "4194304"})
