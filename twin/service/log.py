"""Where the service's own words go: stderr, one line each, for a journal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def to_stderr(level: int = logging.INFO) -> None:
    """Send the records of every library to stderr, one line each."""
    logging.basicConfig(
        stream=sys.stderr,
        level=level,
        format="%(levelname)s %(name)s: %(message)s",
    )
    # A look that takes longer than its interval is no news.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)


@contextmanager
def only_errors() -> Iterator[None]:
    """Keep warnings quiet meanwhile: what they are of is told in another way."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
