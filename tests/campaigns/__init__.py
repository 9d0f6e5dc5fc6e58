"""Longer fault campaigns, each a command of its own.

``python -m tests.campaigns.<name> [--seed S] [--json]`` from the root of the
repository, with ``kills``, ``failpoints``, ``outage``, ``diskfull``,
``powercut``, ``damage``, ``broker``, ``shutdown`` or ``soak``. Each breaks the real
thing under real traffic, compares what is stored with what the broker
acknowledged to the publisher, and then runs its control: the same faults
against an ingester that is wrong on purpose, which must lose. It ends with 1
when a promise is broken, when the control lost nothing, and when no fault was
injected. A shorter form of each is in the suite. Two break nothing but in their
controls: ``newcomer`` walks the way from git clone to a living page by the README, and
in ``readers`` a hundred people read the page while messages arrive.
"""

import sys
from pathlib import Path

_TESTS = Path(__file__).resolve().parents[1]
for _folder in (_TESTS, _TESTS / "ingest"):
    if str(_folder) not in sys.path:
        sys.path.insert(0, str(_folder))
