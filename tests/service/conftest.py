"""The service's tests share a sample site: ``import sample_results``.

``kept``
    A state database, of SQLite and of PostgreSQL in turn.
``state``
    That database, open.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from twin.service.state import State


@dataclass
class Kept:
    """A database that outlives who opens it; ``url`` holds the password."""

    url: str = field(repr=False)
    stack: ExitStack

    def open(self) -> State:
        """Open it once more; it is closed after the test."""
        return self.stack.enter_context(closing(State(self.url)))


@pytest.fixture(params=["sqlite", "postgresql"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    """Give a database of this test's own."""
    url = f"sqlite:///{tmp_path / 'state.sqlite'}"
    if request.param == "postgresql":
        postgres = request.getfixturevalue("postgres")
        schema = request.getfixturevalue("database")
        postgres.run(f"CREATE SCHEMA {schema}")
        login = f"hptwin:{quote(postgres.password)}@"
        url = postgres.url.replace("hptwin@", login, 1)
        url += f"?options=-csearch_path%3D{schema}"
    with ExitStack() as stack:
        yield Kept(url, stack)


@pytest.fixture
def state(kept: Kept) -> State:
    """Open a database of this test's own."""
    return kept.open()
