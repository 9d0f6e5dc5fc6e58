"""Models as a person asks for them: what one knows, and a recalibration by hand."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd

from calibration.identifiability import report
from calibration.model import Model
from calibration.registry import Record, Registry, RegistryError, Role, digest
from calibration.steady import windows
from twin.service.alarms import ActionError
from twin.service.assess import LEAD, candidate
from twin.service.config import Config
from twin.service.replay import midnight, period
from twin.service.results import parse_instant, plain
from twin.service.state import AuditEntry, State

if TYPE_CHECKING:
    from ingest.archive import Archive
    from twin.plant import Exchanger, Machine, Plant
    from twin.service.web.fitted import Drawing

_KEPT = 12  # drawn models that are remembered; a page asks for each drawing by itself


class Library:
    """The models of a plant as somebody looks at them.

    Parameters
    ----------
    registry : Registry
        Where they are.
    plant : Plant
        Whose.
    archive : Archive
        The telemetry that they were fitted to; read only.
    state : State, optional
        Whose audit keeps a rollback; None where nobody may.
    """

    def __init__(
        self,
        registry: Registry,
        plant: Plant,
        archive: Archive,
        state: State | None = None,
    ) -> None:
        self.registry, self.plant = registry, plant
        self._archive, self._state = archive, state
        self._devices: tuple[Machine | Exchanger, ...] = (
            *plant.machines,
            *plant.exchangers,
        )
        self._drawn: OrderedDict[str, list[Drawing]] = OrderedDict()
        self._drawing = threading.Lock()

    @property
    def units(self) -> list[str]:
        """Ids of everything that may have a model, machines first."""
        return [device.id for device in self._devices]

    def history(self, unit: str) -> list[dict[str, Any]]:
        """Return every version of a unit as :func:`shown` does, newest first."""
        serving = self.registry.in_service(unit)
        return [
            _shown(record) | {"in_service": serving.get(record.role) == record.version}
            for record in reversed(self.registry.history(unit))
        ]

    def shown(self, unit: str, version: str) -> dict[str, Any]:
        """Return everything that is kept of one model; see :func:`shown`."""
        record = _record(self.registry, unit, version)
        serving = self.registry.in_service(unit)
        return _shown(record) | {
            "in_service": serving.get(record.role) == record.version,
            "known": plain(report(Model.from_dict(record.model)))
            if record.model
            else None,
        }

    def drawn(self, unit: str, version: str) -> list[Drawing]:
        """Draw a model: its fit over its own window, and how sure it is.

        Raises
        ------
        RegistryError
            If there is no such model, or its file is not what was written.
        """
        from twin.service.web import fitted

        record = _record(self.registry, unit, version)

        def draw() -> list[Drawing]:
            if not record.model:
                return []
            model = Model.from_dict(record.model)
            seen = self._windows(record)
            fit = [] if seen is None else fitted.of_fit(model, seen)
            return [*fitted.of_parameters(model), *fit]

        return self._once(record.sha256, draw)

    def tracked(self, unit: str) -> list[Drawing]:
        """Draw each degradation over all recalibrations of a unit."""
        from twin.service.web import fitted

        records = self.registry.history(unit)
        known = digest([record.sha256 for record in records])
        return self._once(known, lambda: fitted.of_versions(records))

    def _once(self, name: str, draw: Callable[[], list[Drawing]]) -> list[Drawing]:
        """Draw what is asked for drawing by drawing once for all of them."""
        with self._drawing:
            known = self._drawn.pop(name, None)
            self._drawn[name] = draw() if known is None else known
            while len(self._drawn) > _KEPT:
                self._drawn.popitem(last=False)
            return self._drawn[name]

    def _windows(self, record: Record) -> pd.DataFrame | None:
        """Return the windows a model was fitted to, None where they are gone."""
        device = next((one for one in self._devices if one.id == record.unit), None)
        told = record.provenance
        if device is None or not told.get("start") or not told.get("stop"):
            return None
        of = record
        if "minutes" not in told and told.get("reference"):
            of = self.registry.load(record.unit, str(told["reference"]))
        minutes = float(of.provenance.get("minutes", 10.0))
        start, stop = (parse_instant(str(told[name])) for name in ("start", "stop"))
        frame = self._archive.frame(
            record.unit, start - LEAD, stop + timedelta(milliseconds=1)
        )
        if frame.empty:
            return None
        seen = windows(frame, device, minutes)
        return seen[seen.index > pd.Timestamp(start)]

    def roll_back(
        self, unit: str, role: Role, who: str, reason: str, now: datetime
    ) -> Record:
        """Put the version before into service; see :func:`rolled_back`."""
        if self._state is None:
            raise ActionError("nobody keeps an audit here, so nothing can be changed")
        return rolled_back(self.registry, self._state, unit, role, who, reason, now)


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
    return _shown(record) | {
        "known": plain(report(Model.from_dict(record.model))) if record.model else None,
    }


def _shown(record: Record) -> dict[str, Any]:
    return {
        "unit": record.unit,
        "role": record.role.value,
        "version": record.version,
        "created": record.created.isoformat(),
        "accepted": record.accepted,
        "reason": record.reason,
        "sha256": record.sha256,
        "provenance": plain(record.provenance),
        "gates": [plain(gate) for gate in record.gates],
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


@dataclass(frozen=True, slots=True)
class Judged:
    """A candidate of one machine as it was judged; nothing is written of it yet.

    Attributes
    ----------
    found
        For a person: ``unit``, ``accepted``, ``reason``, the ``gates``.
    record
        What the registry is to keep of it, None where there was none to judge.
    against
        The versions that served when it was judged.
    """

    found: Mapping[str, Any]
    record: Mapping[str, Any] | None = None
    against: Mapping[Role, str] = field(default_factory=dict)


def judged(
    config: Config,
    archive: Archive,
    machine: Machine,
    last: datetime | None,
    say: Callable[[str], None] = lambda _: None,
) -> Judged:
    """Judge a candidate of a machine from the archive's last weeks.

    Parameters
    ----------
    config : Config
        The plant and its state directory; both are only read.
    archive : Archive
        Its telemetry.
    machine : Machine
        Of that plant.
    last : datetime or None
        When the plant's newest reading is, see :func:`twin.service.replay.period`;
        the weeks end with the last whole day. None without any.
    say : callable
        Is told what is being done, a line each.

    Returns
    -------
    Judged
        One that has no reference, or no telemetry, is not accepted and says so.

    Raises
    ------
    RegistryError
        If a model's file is not what was written.
    """
    plant, registry = config.plant, Registry(config.state_dir / "models")
    found: dict[str, Any] = {"unit": machine.id, "accepted": False, "gates": []}
    against = registry.in_service(machine.id)
    reference = registry.active(machine.id, Role.REFERENCE)
    if reference is None:
        why = "there is no reference yet, so nothing to compare"
        return Judged(found | {"reason": why})
    if last is None:
        why = "the archive has no telemetry of this plant"
        return Judged(found | {"reason": why})
    stop = midnight(last)
    begin = stop - plant.schedule.window
    say(f"reads {begin:%Y-%m-%d} to {stop:%Y-%m-%d}")
    frame = archive.frame(machine.id, begin - LEAD, stop)
    current = registry.active(machine.id, Role.CURRENT)
    before = current.version if current else reference.version
    say(f"{len(frame)} rows; fits and judges against {before}")
    verdict, record = candidate(
        plant,
        machine,
        windows(frame, machine, float(reference.provenance["minutes"])),
        (reference.version, Model.from_dict(reference.model)),
        Model.from_dict(current.model) if current else None,
        stop,
    )
    told = {
        "accepted": verdict.accepted,
        "reason": verdict.reason,
        "stop": stop.isoformat(),
        "gates": [plain(gate.to_dict()) for gate in verdict.gates],
    }
    return Judged(found | told, record, against)


def keep(config: Config, one: Judged) -> None:
    """Write down what was judged; accepted, it goes into service.

    Raises
    ------
    RegistryError
        If another model has come into service since it was judged.
    """
    if one.record is None:
        return
    unit = str(one.found["unit"])
    registry = Registry(config.state_dir / "models")
    if registry.in_service(unit) != one.against:
        raise RegistryError(
            f"{unit}: another model came into service while this one was judged, so"
            " it was judged against one that is gone; recalibrate once more"
        )
    registry.save(unit, Role.CURRENT, **one.record)


def recalibrated(
    config: Config,
    archive: Archive,
    *,
    unit: str | None = None,
    dry_run: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Iterator[dict[str, Any]]:
    """Recalibrate from the archive's last weeks, up to its last whole day.

    Parameters
    ----------
    config : Config
        The plant and its state directory.
    archive : Archive
        Its telemetry.
    unit : str, optional
        Only this machine; all of them by default.
    dry_run : bool
        Judge only; nothing is written.
    tell : callable, optional
        Is told what is being done, a line each.

    Yields
    ------
    dict
        By machine: ``unit``, ``accepted``, ``reason``, and the ``gates``. One that
        has no reference, or no telemetry, is not accepted and says so.

    Raises
    ------
    RegistryError
        If there is no such machine, or a model's file is not what was written.
    """
    machines = [m for m in config.plant.machines if unit in (None, m.id)]
    if not machines:
        names = ", ".join(m.id for m in config.plant.machines)
        raise RegistryError(
            f'"{unit}" is no heat pump of this plant; there are {names}'
        )
    span = period(config.plant, archive)
    say = tell or (lambda _: None)
    for number, machine in enumerate(machines, start=1):
        which = f"{machine.id} ({number} of {len(machines)})"
        one = judged(
            config,
            archive,
            machine,
            None if span is None else span[1],
            lambda text, which=which: say(f"{which}: {text}"),  # type: ignore[misc]
        )
        if not dry_run:
            keep(config, one)
        yield dict(one.found)


def rolled_back(
    registry: Registry,
    state: State,
    unit: str,
    role: Role,
    who: str,
    reason: str,
    now: datetime,
) -> Record:
    """Put the version that served before back into service, and say who did.

    Parameters
    ----------
    registry, state : Registry and State
        Where the models are, and where the audit is.
    unit : str
        Whose model.
    role : Role
        Which of its two.
    who, reason : str
        Kept by the audit, and wanted therefore.
    now : datetime
        When, aware.

    Returns
    -------
    Record
        What serves now.

    Raises
    ------
    ActionError
        If the name or the reason is missing.
    RegistryError
        If there is no earlier version, or it is not what was written.
    """
    if not who.strip():
        raise ActionError("who are you? A name is needed, the audit keeps it")
    if not reason.strip():
        raise ActionError("a reason is needed, the next shift will ask for it")
    before = registry.in_service(unit).get(role, "")
    record = registry.rollback(unit, role)
    entry = AuditEntry(
        time=now,
        actor=who.strip(),
        action="model_rolled_back",
        subject=f"{unit}/model",
        detail={
            "before": before,
            "version": record.version,
            "sentence": f"{before} gave way to {record.version}",
            "comment": reason.strip(),
        },
    )
    state.save(audit=[entry])
    return record
