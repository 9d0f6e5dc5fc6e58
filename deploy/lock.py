"""Print a hash-pinned lock file of what the service needs to run, or to be built.

    python deploy/lock.py > deploy/requirements.lock
    python deploy/lock.py build > deploy/build.lock
    pip install --require-hashes --no-deps -r deploy/requirements.lock

The versions are those installed here, so a lock is what the tests ran with.
The hashes come from the package index, through pip, and are of the archives
that fit this machine's Python and platform: lock where you deploy alike.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections import deque
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent


def closure(requirements: list[str]) -> dict[str, str]:
    """Return every distribution that is needed, with the version installed."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    queue = deque((Requirement(text), frozenset({""})) for text in requirements)
    while queue:
        wanted, extras = queue.popleft()
        marker = wanted.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in extras):
            continue
        name = canonicalize_name(wanted.name)
        own = frozenset({"", *wanted.extras})
        if all((name, extra) in seen for extra in own):
            continue
        seen |= {(name, extra) for extra in own}
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            sys.exit(f"lock: {name} is needed and not installed; run: make test")
        found[name] = installed.version
        queue.extend((Requirement(text), own) for text in installed.requires or [])
    return dict(sorted(found.items()))


def hashes(versions: dict[str, str]) -> dict[str, str]:
    """Return each archive's SHA-256, as pip would install it here."""
    asked = [f"{name}=={version}" for name, version in versions.items()]
    done = subprocess.run(  # noqa: S603  our own interpreter, names from metadata
        [
            sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps",
            "--ignore-installed", "--only-binary", ":all:", "--report", "-", *asked,
        ],
        stdout=subprocess.PIPE,
        check=True,
    )  # fmt: skip
    return {
        canonicalize_name(each["metadata"]["name"]): each["download_info"][
            "archive_info"
        ]["hashes"]["sha256"]
        for each in json.loads(done.stdout)["install"]
    }


def main() -> None:
    """Print the lock of what is named on the command line: run, or build."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wanted = {
        # One image for a site with a file and for one with a server.
        "run": (
            "requirements.lock",
            document["project"]["dependencies"]
            + document["project"]["optional-dependencies"]["postgres"],
        ),
        "build": ("build.lock", document["build-system"]["requires"]),
    }
    named = sys.argv[1] if len(sys.argv) > 1 else "run"
    if named not in wanted:
        sys.exit(f'lock: "{named}" is nothing to lock; write run or build')
    file, requirements = wanted[named]
    versions = closure(requirements)
    digests = hashes(versions)
    python = ".".join(map(str, sys.version_info[:2]))
    lines = [
        f"# Written by deploy/lock.py on Python {python}, {sys.platform}.",
        f"# pip install --require-hashes --no-deps -r deploy/{file}",
    ]
    lines += [
        f"{name}=={version} \\\n    --hash=sha256:{digests[name]}"
        for name, version in versions.items()
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
