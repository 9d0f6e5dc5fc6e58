"""What a stored model may hold: plain numbers and names, each of them known.

A digest says that a file is as it was written, not that what was written is a
model: whoever can write a file can write its digest. So nothing is read that
would not be written again, letter by letter.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from calibration.registry import RegistryError

_DEEPEST = 8


def plain(data: Any, path: str) -> None:
    """Refuse what JSON could not have held.

    Parameters
    ----------
    data : object
        As it was read.
    path : str
        Where it stands, for the message.

    Raises
    ------
    RegistryError
        At the first thing that is no text, number, list or table, that is
        infinite, or that lies too deep. NaN is JSON's null, an unknown number.
    """
    if path.count(".") + path.count("[") > _DEEPEST:
        raise RegistryError(f"{path}: lies deeper than any model does")
    if data is None or isinstance(data, str):
        return
    if isinstance(data, bool) or not isinstance(data, int | float | Mapping | Sequence):
        raise RegistryError(
            f"{path}: is a {type(data).__name__}; a model holds numbers, names, lists"
            " and tables of them"
        )
    if isinstance(data, int | float):
        if abs(data) > 1e300 or math.isinf(data):
            raise RegistryError(f"{path}: {data:g} is no finite number")
    elif isinstance(data, Mapping):
        for name, value in data.items():
            if not isinstance(name, str):
                raise RegistryError(f"{path}: the name {name!r} is no text")
            plain(value, f"{path}.{name}")
    else:
        for k, value in enumerate(data):
            plain(value, f"{path}[{k}]")


def known(names: Collection[Any], allowed: Collection[str], path: str) -> None:
    """Refuse names that no model has.

    Parameters
    ----------
    names : collection
        As they were read.
    allowed : collection of str
        All that there are.
    path : str
        Where they stand, for the message.

    Raises
    ------
    RegistryError
        At the first one that is not allowed, with those that are.
    """
    for name in names:
        if name not in allowed:
            raise RegistryError(
                f'{path}: "{name}" is none of {", ".join(sorted(allowed))}'
            )


def same(read: Any, kept: Any, path: str, *, unknown: Collection[str] = ()) -> None:
    """Refuse what was read if it would be written otherwise.

    Parameters
    ----------
    read, kept
        What was read, and what its model would write.
    path : str
        Where it stands, for the message.
    unknown : collection of str
        Paths below which a number may be unknown.

    Raises
    ------
    RegistryError
        At the first difference: what was found, and what is understood. A part
        that is empty may be missing, for an older model had none.
    """
    if isinstance(kept, Mapping) and isinstance(read, Mapping):
        for name in (*read, *(name for name in kept if name not in read)):
            place = f"{path}.{name}"
            if name not in kept:
                raise RegistryError(f"{place}: is no part of a model; remove it")
            if name in read:
                same(read[name], kept[name], place, unknown=unknown)
            elif kept[name] not in ({}, [], None):
                raise RegistryError(f"{place}: is missing")
        return
    if isinstance(kept, list) and isinstance(read, list | tuple):
        if len(read) == len(kept):
            for k, (a, b) in enumerate(zip(read, kept, strict=True)):
                same(a, b, f"{path}[{k}]", unknown=unknown)
            return
    elif isinstance(kept, float) and not math.isfinite(kept):
        allowed = any(path == p or path.startswith(f"{p}.") for p in unknown)
        if allowed and (read is None or read != read):
            return
    elif read == kept and _number(read) is _number(kept):
        return
    raise RegistryError(f"{path}: {_short(read)} is not understood")


def _number(value: Any) -> bool:
    return isinstance(value, int | float)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
