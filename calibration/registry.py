"""Reference and current models on disk: versions, provenance, rollback.

A model is a JSON file that is written once and never changed; which one is
active is a second, tiny file, replaced atomically. A power cut between the two
leaves the old model active and the new one merely present. Nothing here knows
what is inside a model.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

SCHEMA = 1
_FORMAT = "hptwin-model"
_BODY = frozenset(
    {
        "unit",
        "role",
        "version",
        "created",
        "model",
        "provenance",
        "gates",
        "accepted",
        "reason",
    }
)
"""All that a record may hold: whoever can write a digest can write more."""
_PACKAGES = ("hptwin", "numpy", "scipy", "scikit-learn", "CoolProp")


class Role(StrEnum):
    """The machine as commissioned, or as it is now."""

    REFERENCE = "reference"
    CURRENT = "current"


class RegistryError(RuntimeError):
    """A model file that is tampered with, foreign, truncated or not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One version of one unit's model, and where it came from.

    Attributes
    ----------
    unit, role, version
        Which model; versions count up within a unit and role.
    created
        When it was made, by the clock of the data. UTC.
    model
        The model itself, as plain data.
    provenance
        Data window, rows, configuration hash, parent version, packages.
    gates
        What each gate measured: name, passed, measured, limit, sentence.
    accepted, reason
        Whether it went into service, and why or why not.
    sha256
        Digest over everything above.
    """

    unit: str
    role: Role
    version: str
    created: datetime
    model: Mapping[str, Any]
    provenance: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    gates: Sequence[Mapping[str, Any]] = ()
    accepted: bool = True
    reason: str = ""
    sha256: str = ""


def packages() -> dict[str, str]:
    """Return the versions of the packages that a model's numbers depend on."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _plain(value: Any) -> Any:
    """Turn tuples, mappings and numpy scalars into what JSON holds; NaN is null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, str) or value is None:
        return None if value is None else str(value)
    if isinstance(value, bool):
        return value
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, Sequence | frozenset | set):
        items = sorted(value) if isinstance(value, frozenset | set) else value
        return [_plain(item) for item in items]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value
    raise TypeError(f"a model cannot hold a {type(value).__name__}")


def canonical(value: Any) -> bytes:
    """Return the one byte string that stands for some plain data."""
    text = json.dumps(
        _plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return text.encode()


def digest(value: Any) -> str:
    """Return the SHA-256 of plain data; equal data have equal digests."""
    return hashlib.sha256(canonical(value)).hexdigest()


def _write(path: Path, data: bytes) -> None:
    """Replace a file so that a reader sees the old or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".part")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Registry:
    """The models of all units under one directory.

    Parameters
    ----------
    root : Path
        The directory; made when the first model is saved.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def _folder(self, unit: str) -> Path:
        name = quote(unit, safe="")
        if name.strip(".") == "":
            raise RegistryError(f'"{unit}" cannot name a unit of the registry')
        return self.root / name

    def save(
        self,
        unit: str,
        role: Role,
        model: Mapping[str, Any],
        *,
        created: datetime,
        provenance: Mapping[str, Any] | None = None,
        gates: Sequence[Mapping[str, Any]] = (),
        accepted: bool = True,
        reason: str = "",
    ) -> Record:
        """Write a new version, and put it into service if it was accepted.

        Parameters
        ----------
        unit, role
            Which model it is.
        model : Mapping
            The model as plain data.
        created : datetime
            The clock of the data, aware.
        provenance, gates, accepted, reason
            See :class:`Record`; a rejected candidate is kept and not used.

        Returns
        -------
        Record
            What was written, with its version and digest.

        Raises
        ------
        RegistryError
            If a file of the registry cannot be trusted.
        """
        with self._alone(unit):
            numbers = [
                int(path.stem.rpartition("-")[2])
                for path in self._folder(unit).glob(f"{role.value}-*.json")
            ]
            number = 1 + max(numbers, default=0)
            parent = self._pointers(unit).get(role.value, [None])[-1]
            body = {
                "unit": unit,
                "role": role.value,
                "version": f"{role.value}-{number:05d}",
                "created": created.astimezone(UTC).isoformat(),
                "model": _plain(model),
                "provenance": _plain(
                    {"parent": parent, "packages": packages(), **(provenance or {})}
                ),
                "gates": _plain(list(gates)),
                "accepted": accepted,
                "reason": reason,
            }
            sha = digest(body)
            file = {"format": _FORMAT, "schema": SCHEMA, "sha256": sha, "body": body}
            path = self._folder(unit) / f"{body['version']}.json"
            _write(path, json.dumps(file, sort_keys=True, indent=1).encode() + b"\n")
            if accepted:
                self._promote(unit, role, str(body["version"]))
        return _record(body, sha)

    def load(self, unit: str, version: str) -> Record:
        """Return one version.

        Raises
        ------
        RegistryError
            If there is none, or if the file is not what was written.
        """
        return _read(self._folder(unit) / f"{quote(version, safe='')}.json", unit)

    def active(self, unit: str, role: Role) -> Record | None:
        """Return the version in service, None where there never was one."""
        line = self._pointers(unit).get(role.value, [])
        return self.load(unit, line[-1]) if line else None

    def in_service(self, unit: str) -> dict[Role, str]:
        """Return which version of each role serves, without opening a model.

        Raises
        ------
        RegistryError
            If which one is active cannot be read.
        """
        pointers = self._pointers(unit)
        return {role: pointers[role][-1] for role in Role if pointers.get(role)}

    def history(self, unit: str) -> list[Record]:
        """Return every version of a unit, rejected ones too, oldest first."""
        records = [
            _read(path, unit) for path in sorted(self._folder(unit).glob("*-*.json"))
        ]
        return sorted(records, key=lambda record: (record.created, record.version))

    def rollback(self, unit: str, role: Role) -> Record:
        """Put the version that served before back into service.

        Raises
        ------
        RegistryError
            If there is no earlier version.
        """
        if not self._folder(unit).is_dir():
            raise RegistryError(f"{unit}: there is no model of it")
        with self._alone(unit):
            pointers = self._pointers(unit)
            line = pointers.get(role.value, [])
            if len(line) < 2:
                raise RegistryError(
                    f"{unit}: there is no earlier {role.value} model to go back to"
                )
            record = self.load(unit, line[-2])
            pointers[role.value] = line[:-1]
            self._point(unit, pointers)
            return record

    @contextlib.contextmanager
    def _alone(self, unit: str) -> Iterator[None]:
        """Keep other processes and threads from changing a unit's models."""
        folder = self._folder(unit)
        folder.mkdir(parents=True, exist_ok=True)
        held = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield
        finally:
            os.close(held)

    def _pointers(self, unit: str) -> dict[str, list[str]]:
        path = self._folder(unit) / "active.json"
        if not path.exists():
            return {}
        try:
            found = json.loads(path.read_bytes())
            return {
                str(role): [str(item) for item in line] for role, line in found.items()
            }
        except (ValueError, AttributeError, TypeError) as error:
            raise RegistryError(
                f"{path}: which model is active cannot be read ({error}); restore the"
                " file from a backup, or delete it to start with no active model"
            ) from error

    def _promote(self, unit: str, role: Role, version: str) -> None:
        pointers = self._pointers(unit)
        pointers.setdefault(role.value, []).append(version)
        self._point(unit, pointers)

    def _point(self, unit: str, pointers: Mapping[str, Sequence[str]]) -> None:
        _write(self._folder(unit) / "active.json", canonical(pointers) + b"\n")


def _record(body: Mapping[str, Any], sha: str) -> Record:
    return Record(
        unit=str(body["unit"]),
        role=Role(body["role"]),
        version=str(body["version"]),
        created=datetime.fromisoformat(str(body["created"])),
        model=body["model"],
        provenance=body["provenance"],
        gates=tuple(body["gates"]),
        accepted=bool(body["accepted"]),
        reason=str(body["reason"]),
        sha256=sha,
    )


def _read(path: Path, unit: str) -> Record:
    try:
        file = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise RegistryError(f"{path}: there is no such model") from error
    except ValueError as error:
        raise RegistryError(
            f"{path}: not a whole JSON file ({error}); restore it from a backup or"
            " roll back to an earlier version"
        ) from error
    if not isinstance(file, dict) or file.get("format") != _FORMAT:
        raise RegistryError(f"{path}: not a model of this twin; remove it")
    if file.get("schema") != SCHEMA:
        raise RegistryError(
            f"{path}: schema {file.get('schema')!r}, this version reads {SCHEMA}"
        )
    body = file.get("body")
    sha = file.get("sha256")
    if not isinstance(body, dict) or digest(body) != sha:
        raise RegistryError(
            f"{path}: its content does not match its SHA-256, so it was changed"
            " after it was written; restore it from a backup or roll back"
        )
    if set(body) != _BODY:
        odd = ", ".join(sorted(set(body) ^ _BODY))
        raise RegistryError(
            f"{path}: a record holds {', '.join(sorted(_BODY))}; more or less than that"
            f" is {odd}; remove it or roll back"
        )
    try:
        record = _record(body, str(sha))
    except (KeyError, ValueError, TypeError) as error:
        raise RegistryError(f"{path}: a part is missing or wrong ({error})") from error
    if record.unit != unit or path.stem != record.version:
        raise RegistryError(
            f'{path}: holds {record.version} of "{record.unit}", not what its name says'
        )
    return record
