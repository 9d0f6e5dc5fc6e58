"""One model of one unit, in words and as data: what it knows and how well."""

from __future__ import annotations

from typing import Any

from calibration.identifiability import report
from calibration.model import Model
from calibration.registry import Record, Registry, RegistryError, Role
from twin.service.config import Config
from twin.service.results import plain


def shown(config: Config, unit: str, version: str) -> dict[str, Any]:
    """Return everything that is kept of one model.

    Parameters
    ----------
    config : Config
        Whose state directory has the models.
    unit : str
        Id of a machine or exchanger.
    version : str
        As ``models list`` has it, or ``reference`` or ``current`` for the one in
        service.

    Returns
    -------
    dict
        Plain data: version, provenance, gates, and what
        :func:`calibration.identifiability.report` says; that is None of a record
        without a model, such as a refusal.

    Raises
    ------
    RegistryError
        If there is no such model, or its file is not what was written.
    """
    record = _record(Registry(config.state_dir / "models"), unit, version)
    return {
        "unit": unit,
        "version": record.version,
        "created": record.created.isoformat(),
        "accepted": record.accepted,
        "reason": record.reason,
        "sha256": record.sha256,
        "provenance": plain(record.provenance),
        "gates": [plain(gate) for gate in record.gates],
        "known": plain(report(Model.from_dict(record.model))) if record.model else None,
    }


def _record(registry: Registry, unit: str, version: str) -> Record:
    if version not in set(Role):
        return registry.load(unit, version)
    record = registry.active(unit, Role(version))
    if record is None:
        raise RegistryError(
            f'{unit}: no {version} model is in service; "hptwin models list" shows'
            " what there is and why not"
        )
    return record


def told(shown: dict[str, Any]) -> list[str]:
    """Return the same in lines for a person.

    Parameters
    ----------
    shown : dict
        Of :func:`shown`.

    Returns
    -------
    list of str
        Lines without their ends.
    """
    verdict = "accepted" if shown["accepted"] else "rejected"
    lines = [f"{shown['unit']}  {shown['version']}  {verdict}  {shown['reason']}"]
    lines += [
        f"{name:>12}  {value}"
        for name, value in shown["provenance"].items()
        if name not in ("packages", "evidence")
    ]
    for gate in shown["gates"]:
        passed = "passed" if gate["passed"] else "failed"
        lines.append(f"{'gate':>12}  {gate['name']} {passed}: {gate['sentence']}")
    known = shown["known"]
    if known is None:
        return lines
    lines.append(f"{'fitted to':>12}  {', '.join(known['instruments'])}")
    lines.append("")
    lines.append(f"{'free':<34}{'value':>12}{'95 % from':>12}{'to':>12}  of prior")
    for name, one in known["free"].items():
        share = one["informed"]
        lines.append(
            f"{name:<34}{one['value']:>12.5g}{one['low']:>12.5g}{one['high']:>12.5g}"
            + ("" if share is None else f"{share:>9.0%}")
        )
    for pair in known["together"]:
        a, b = pair["parameters"]
        lines.append(f"known only together: {a}, {b} ({pair['correlation']:+.2f})")
    lines.append("")
    lines.append(f"{'fixed':<34}{'value':>12}  why")
    for name, one in known["fixed"].items():
        value = "" if one["value"] is None else f"{one['value']:.5g}"
        lines.append(f"{name:<34}{value:>12}  {one['why']}")
    lines.append("")
    lines.append(f"told apart: {', '.join(known['tracked']) or 'nothing'}")
    return lines
