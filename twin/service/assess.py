"""One day of the plant: telemetry in; health, ledger, key figures, findings out.

The one path that live running and replay both take. It is moved by the data's
own clock: a day is judged when it is over, the same way whether it ended a
minute or a year ago, so equal telemetry makes equal answers. ::

    frames -> windows -> derived -> expected (reference, current) -> compare
           -> health, ledger, key figures -> findings

Nothing here reads a clock, a broker or a page.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from threadpoolctl import ThreadpoolController

from calibration import (
    approach,
    bill,
    commissioning,
    findings,
    fit,
    gates,
    health,
    operation,
    probes,
    steady,
    virtual,
    waterfall,
    whatif,
)
from calibration.cleaning import Cleaning, believed, cleanings, restarted
from calibration.degradation import indicator_of
from calibration.findings import Prices
from calibration.forecast import Forecast
from calibration.model import Model, expect
from calibration.outlook import PRICE, dated, outlooks
from calibration.registry import Registry, Role
from calibration.trend import Trend, trend
from twin import kpi, ledger
from twin.finding import Finding, FindingKind, Refusal
from twin.heatpump import HeatPump
from twin.plant import Action, Exchanger, Machine, Maintenance, Plant
from twin.service.results import Results, empty, in_order, plain, to_json
from twin.states import derive_rejector

if TYPE_CHECKING:
    Frames = Mapping[str, pd.DataFrame]
    Tables = Mapping[str, pd.DataFrame]

DAY = timedelta(days=1)
LEAD = timedelta(hours=2)
"""How much of the day before is read, to know how long a machine has run."""
INTERVAL = timedelta(minutes=10)
"""The ledger's and the key figures' interval, where telemetry is no coarser."""
AGAIN = timedelta(days=7)
"""How long after a refused reference it is tried again."""
_LEDGER_LOOK = timedelta(days=45)
# The largest matrix of a day has a thousand rows and a score of columns: on several
# threads BLAS waits for them longer than it computes, and how it splits a sum must
# not depend on how many cores a machine has.
_BLAS = ThreadpoolController()
_SAME_CASE = timedelta(days=7)
_EQUIPMENT = (FindingKind.FOULING, FindingKind.COP_DEGRADATION)


class Telemetry(dict[str, pd.DataFrame]):
    """Each unit's frame, in which a reading that the intake flagged is NaN.

    ``came`` has the same readings as they came, the flagged ones included: what
    a probe says wrongly tells how it lies. A plain mapping has nothing to add.
    """

    def __init__(self, clean: Frames, came: Frames) -> None:
        super().__init__(clean)
        self.came = came


@dataclass(slots=True)
class _Twin:
    """What is carried from day to day of one machine or exchanger."""

    device: Machine | Exchanger
    minutes: float = INTERVAL.total_seconds() / 60.0
    began: datetime | None = None
    raw: list[pd.DataFrame] = field(default_factory=list)
    windows: pd.DataFrame | None = None
    history: Trend | None = None
    reference: Model | None = None
    reference_version: str = ""
    before: Model | None = None
    before_made: datetime | None = None
    current: Model | None = None
    current_version: str = ""
    refusal: Refusal | None = None
    asked: datetime | None = None
    recalibrated: datetime | None = None
    commissioned: datetime | None = None
    score: Score = field(default_factory=lambda: Score())
    cleanings: tuple[Cleaning, ...] = ()
    ahead: dict[str, Forecast | Refusal] = field(default_factory=dict)
    looked: tuple[object, ...] = ()
    probes: probes.Memory = field(default_factory=probes.Memory)


@dataclass(slots=True)
class Score:
    """How well the frozen reference has predicted power since it was made.

    Over intervals in which the machine ran all the time, start-ups included.
    """

    rows: int = 0
    measured: float = 0.0
    error: float = 0.0
    squares: float = 0.0

    def add(self, measured: pd.Series[float], expected: pd.Series[float]) -> None:
        """Take more intervals in; those without either value are left out."""
        error = (expected - measured).dropna()
        self.rows += len(error)
        self.measured += float(measured[error.index].sum())
        self.error += float(error.sum())
        self.squares += float((error**2).sum())

    def to_dict(self) -> dict[str, float]:
        """Return CV(RMSE), NMBE (ASHRAE Guideline 14) [1] and the rows behind."""
        if self.rows == 0 or self.measured <= 0.0:
            return {"rows": 0}
        mean = self.measured / self.rows
        return {
            "rows": self.rows,
            "cv_rmse": math.sqrt(self.squares / self.rows) / mean,
            "nmbe": self.error / self.measured,
        }


def candidate(
    plant: Plant,
    machine: Machine,
    windows: pd.DataFrame,
    reference: tuple[str, Model],
    present: Model | None,
    stop: datetime,
) -> tuple[gates.Verdict, dict[str, Any]]:
    """Judge a candidate of the last weeks; nothing is written.

    Parameters
    ----------
    plant : Plant
        Its schedule says how many weeks, its log what was done.
    machine : Machine
        Of that plant.
    windows : DataFrame
        Of the machine, at least as far back.
    reference : tuple of str and Model
        Version and model of the reference in service.
    present : Model or None
        The current model in service.
    stop : datetime
        The end of the last day, by the clock of the data. UTC.

    Returns
    -------
    Verdict, dict
        Every gate, and whether the candidate was accepted; and what
        :meth:`calibration.registry.Registry.save` is to keep of it.
    """
    begin = pd.Timestamp(stop - plant.schedule.window)
    windows = windows[windows.index > begin]
    version, model = reference
    verdict = gates.recalibrate(
        windows,
        model,
        present,
        machine,
        now=stop,
        log=plant.maintenance,
        steps=(plant.schedule.step, plant.schedule.step_after_event),
    )
    return verdict, {
        "model": verdict.fit.model.to_dict() if verdict.fit is not None else {},
        "created": stop,
        "provenance": {
            "start": begin.to_pydatetime(),
            "stop": stop,
            "windows": int(windows["steady"].sum()),
            "reference": version,
            "config": _digest(plant),
        },
        "gates": [gate.to_dict() for gate in verdict.gates],
        "accepted": verdict.accepted,
        "reason": verdict.reason,
    }


class Assessor:
    """The twins of a plant, moved forward one day at a time.

    Parameters
    ----------
    plant : Plant
        The plant as configured.
    registry : Registry
        Where models are kept. Models in service there go on serving.
    witness : callable, optional
        Told of each day as it was judged.
    """

    def __init__(
        self,
        plant: Plant,
        registry: Registry,
        witness: Callable[[whatif.Day], None] | None = None,
    ) -> None:
        self.plant = plant
        self.registry = registry
        self._witness = witness
        self.until: datetime | None = None
        devices: tuple[Machine | Exchanger, ...] = (*plant.machines, *plant.exchangers)
        self._twins = {device.id: _Twin(device) for device in devices}
        self._config = _digest(plant)
        self._kpis: list[pd.DataFrame] = []
        self._ledger: list[pd.DataFrame] = []
        self._recent = empty("ledger")
        self._meters: dict[str, ledger.Agreement] = {}
        self._stores: dict[str, float] = {}
        self._cases: dict[str, list[Finding]] = {}
        self._active: tuple[Finding, ...] = ()
        self._lying: tuple[Finding, ...] = ()
        self._set_aside = 0
        self._judged: frozenset[str] = frozenset()
        self._latest: dict[str, dict[str, tuple[float, datetime]]] = {}
        self._expected: dict[str, dict[str, float]] = {}
        self._split: tuple[datetime | None, pd.DataFrame] = (None, empty("attribution"))
        self._guessed: tuple[datetime | None, dict[str, Any]] = (None, {})
        for unit, twin in self._twins.items():
            known = registry.active(unit, Role.REFERENCE)
            if known is None:
                continue
            twin.reference = Model.from_dict(known.model)
            twin.reference_version = known.version
            twin.minutes = float(known.provenance.get("minutes", twin.minutes))
            twin.recalibrated = twin.commissioned = known.created
            self._take_current(unit, twin)

    def _take_current(self, unit: str, twin: _Twin) -> None:
        """Take the current model that is in service, and when one was last tried."""
        made = twin.commissioned
        if made is None:
            return
        now = self.registry.active(unit, Role.CURRENT)
        serves = now is not None and now.created >= made
        current = Model.from_dict(now.model) if now and serves else None
        tried = [
            record.created
            for record in self.registry.history(unit)
            if record.role is Role.CURRENT and record.created >= made
        ]
        twin.current, twin.current_version = current, now.version if now else ""
        twin.recalibrated = max(tried, default=made)

    def follow(self) -> dict[str, tuple[str, str]]:
        """Take over what somebody else has put into service as current model.

        A recalibration or a rollback by hand happens in another process; days
        that are judged from now on are judged by what it left.

        Returns
        -------
        dict of str to tuple
            By unit the version that served and the one that serves; empty where
            nothing has changed.

        Raises
        ------
        RegistryError
            If a model that is to serve is not what was written. What served
            before goes on serving.
        """
        changed: dict[str, tuple[str, str]] = {}
        for unit, twin in self._twins.items():
            if twin.reference is None:
                continue
            there = self.registry.in_service(unit).get(Role.CURRENT, "")
            before = twin.current_version
            if there != before:
                self._take_current(unit, twin)
                changed[unit] = (before, there)
        return changed

    def overtaken(self) -> dict[str, tuple[str, str]]:
        """Return whose reference is no longer the one in service, as :meth:`follow`.

        A reference carries windows, trend and detection with it, so it is not
        exchanged in passing: who finds one begins anew, as after a restart.
        """
        found = {}
        for unit, twin in self._twins.items():
            there = self.registry.in_service(unit).get(Role.REFERENCE, "")
            if twin.reference is not None and there != twin.reference_version:
                found[unit] = (twin.reference_version, there)
        return found

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What stands at the end of the last day judged, and which probes lie now."""
        lying = {finding.key for finding in self._lying}
        rest = [finding for finding in self._active if finding.key not in lying]
        return tuple(sorted((*rest, *self._lying), key=lambda finding: finding.key))

    @property
    def judged(self) -> frozenset[str]:
        """The units that the last day could be judged of."""
        return self._judged

    @property
    def begins(self) -> datetime | None:
        """The end of the first interval that is accounted for, None before one."""
        first = [part["time"].min() for part in self._ledger if len(part)]
        return min(first).to_pydatetime() if first else None

    def carried(self) -> dict[str, Any]:
        """Return all that goes from one day to the next, for a checkpoint."""
        # Days that came one by one are one table each: a file each, if kept so.
        self._ledger = [_joined(self._ledger)] if self._ledger else []
        self._kpis = [_joined(self._kpis)] if self._kpis else []
        for twin in self._twins.values():
            twin.raw = [pd.concat(twin.raw)] if twin.raw else []
        made_anew = ("plant", "registry", "_witness")
        return {k: v for k, v in vars(self).items() if k not in made_anew}

    def take_up(self, carried: Mapping[str, Any]) -> None:
        """Go on where another of the same plant and registry was, to the bit."""
        vars(self).update(carried)

    # --- a day ---------------------------------------------------------------

    def day(self, stop: datetime, frames: Frames) -> None:
        """Judge the UTC day that ends at ``stop``.

        Parameters
        ----------
        stop : datetime
            The midnight that ends the day, aware.
        frames : mapping of str to DataFrame
            Each unit's telemetry of the day, preceded by :data:`LEAD` of the
            day before.
        """
        with _BLAS.limit(limits=1, user_api="blas"):
            self._judge(stop, frames)

    def _judge(self, stop: datetime, frames: Frames) -> None:
        start = stop - DAY
        memories, frames, set_aside = self._watch(frames, start, stop)
        judged: set[str] = set()
        today: dict[str, pd.DataFrame] = {}
        for unit, twin in self._twins.items():
            _forget(twin, start)
            for event in self._changes(twin, start, stop):
                self._new_epoch(twin, event.time)
            _blot(twin, memories[unit].lying, start)
            frame = frames.get(unit)
            if frame is None or frame.empty:
                continue
            today[unit] = self._advance(twin, frame, start, stop)
            if twin.reference is not None and self._has_news(twin, start):
                judged.add(unit)
        tables = self._interval_tables(frames, start, today)
        healthy = self._healthy(tables)
        accounts, hours = self._account(tables, healthy)
        self._ledger += accounts
        self._meters = ledger.agreement(self.plant, tables, self._meters)
        begin = pd.Timestamp(stop - _LEDGER_LOOK)
        self._recent = _joined([self._recent[self._recent["time"] > begin], *accounts])
        self._kpis += hours
        if self._witness is not None and accounts:
            self._witness(
                whatif.Day(
                    stop=stop,
                    step=self._step(tables),
                    tables=tables,
                    ledger=_joined(accounts),
                    reference=self._physics("reference"),
                    health={
                        m.id: _left(self._twins[m.id]) for m in self.plant.machines
                    },
                )
            )
        self._score(tables, healthy)
        for unit, expected in healthy.items():
            twin = self._twins[unit]
            if twin.reference is not None and twin.history is not None:
                rows = approach.daily(tables[unit], expected, twin.reference, stop)
                twin.history = twin.history.followed_by(rows)
        self._take_latest(tables, frames)
        self._find(stop, memories)
        if self._ledger and len(self._ledger[-1]):
            judged.add(Plant.SITE)
        self._judged = frozenset(judged)
        for unit, twin in self._twins.items():
            twin.probes = memories[unit]
        self._set_aside += set_aside
        self.until = stop

    def amend(self, stop: datetime, frames: Frames) -> None:
        """Account anew for a day that has been judged: readings came after that.

        Ledger and key figures of that day are replaced, by the models that serve
        now and by which probes are known to lie. What was judged of equipment and
        instruments stands: evidence adds up from day to day, and nobody is told
        today what was wrong then.

        Parameters
        ----------
        stop, frames
            As of :meth:`day`.
        """
        start = stop - DAY
        now = self._expected, self._stores
        self._expected, self._stores = {}, {}
        try:
            with _BLAS.limit(limits=1, user_api="blas"):
                _, honest, _ = self._watch(frames, start, stop, learn=False)
                tables = self._interval_tables(honest, start)
                healthy = self._healthy(tables)
                accounts, hours = self._account(tables, healthy, keep=False)
        finally:
            self._expected, self._stores = now
        self._ledger = [_with_day(_joined(self._ledger), accounts, stop)]
        self._kpis = [_with_day(_joined(self._kpis), hours, stop)]
        if self.until is not None and stop > self.until - _LEDGER_LOOK:
            self._recent = _with_day(self._recent, accounts, stop)

    def glance(
        self,
        now: datetime,
        frames: Frames,
        *,
        data_quality: Mapping[str, float] | None = None,
    ) -> Results:
        """Show the day that is not over yet; it is judged when it is.

        Parameters
        ----------
        now : datetime
            The event time of the look, aware.
        frames : mapping of str to DataFrame
            Each unit's telemetry since the last midnight, with its lead.
        data_quality : mapping, optional
            What else belongs into the results.

        Returns
        -------
        Results
            Everything of the days before, and today's hours so far.
        """
        start = self.until or now - DAY
        memories, frames, set_aside = self._watch(frames, start, now, learn=False)
        self._lying = tuple(
            told
            for unit, memory in memories.items()
            for told in probes.findings(memory, unit, now)
        )
        tables = self._interval_tables(frames, start)
        accounts, hours = self._account(tables, self._healthy(tables), keep=False)
        self._take_latest(tables, frames)
        results = self.results(
            now,
            summary={
                "instruments": _instruments(memories, self._set_aside + set_aside)
            },
            data_quality=data_quality,
        )
        return replace(
            results,
            ledger=_joined([results.ledger, *accounts]),
            kpis=_joined([results.kpis, *hours]),
        )

    def _watch(
        self, frames: Frames, start: datetime, stop: datetime, *, learn: bool = True
    ) -> tuple[dict[str, probes.Memory], dict[str, pd.DataFrame], int]:
        """Look at every probe until ``stop``, and set aside what lying ones say."""
        came = frames.came if isinstance(frames, Telemetry) else frames
        memories: dict[str, probes.Memory] = {}
        honest = dict(frames)
        set_aside = 0
        for unit, twin in self._twins.items():
            memory, frame = twin.probes, frames.get(unit)
            if frame is not None and not frame.empty:
                raw, device = came[unit], twin.device
                look = probes.watch_and_learn if learn else probes.watch
                memory = look(memory, raw, frame, device, start, stop)
                honest[unit] = probes.masked(frame, memory.lies)
                if honest[unit] is not frame:
                    told = raw[raw.index > pd.Timestamp(start)]
                    kept = probes.masked(told, memory.lies)
                    set_aside += int(told.notna().to_numpy().sum())
                    set_aside -= int(kept.notna().to_numpy().sum())
            memories[unit] = memory
        return memories, honest, set_aside

    def recall(self, results: Results) -> None:
        """Take over which probes lied, from results that were written before.

        Before :meth:`warm`: a lie must not be learnt as a habit.
        """
        told = results.summary.get("instruments")
        if not isinstance(told, Mapping):
            return
        self._set_aside = int(told.get("set_aside", 0))
        for unit, lies in told.get("lying", {}).items():
            if unit in self._twins:
                self._twins[unit].probes = probes.Memory(
                    lies=tuple(probes.Lie.from_dict(lie) for lie in lies)
                )

    def reopen(self, until: datetime) -> None:
        """Retire references that a recorded change has overtaken.

        Whether it was recorded while this process was away, or after the event.

        Parameters
        ----------
        until : datetime
            The end of the last day judged, aware.
        """
        for twin in self._twins.values():
            if twin.reference is not None and twin.commissioned is not None:
                for event in self._changes(twin, twin.commissioned, until):
                    self._new_epoch(twin, event.time)

    def warm(self, stop: datetime, frames: Frames) -> None:
        """Remember a day that was judged before this process began."""
        for unit, twin in self._twins.items():
            if twin.reference is None:
                for event in self._changes(twin, stop - DAY, stop):
                    self._new_epoch(twin, event.time)
            frame = frames.get(unit)
            if frame is None or frame.empty:
                continue
            came = frames.came if isinstance(frames, Telemetry) else frames
            twin.probes = probes.learn(
                twin.probes, came[unit], twin.device, stop - DAY, stop
            )
            frame = probes.masked(frame, twin.probes.lies)
            if twin.reference is None:
                self._remember_raw(twin, frame, stop - DAY)
            self._windows(twin, frame, stop - DAY)

    def resume(self, results: Results, until: datetime) -> None:
        """Go on where results that were written before leave off."""
        for unit, twin in self._twins.items():
            if twin.reference is None:
                continue
            twin.history = trend(results.health, unit).until(until)
            self._look_for_cleanings(twin, until)
        cut = pd.Timestamp(until)
        self._kpis = [results.kpis[results.kpis["time"] <= cut]]
        self._recent = results.ledger[results.ledger["time"] <= cut]
        self._ledger = [self._recent]
        for finding in results.findings:
            self._cases.setdefault(finding.key, []).append(finding)
        self._active = tuple(f for f in results.findings if not _of_probe(f))
        self._lying = tuple(f for f in results.findings if _of_probe(f))
        self.until = until

    def _advance(
        self, twin: _Twin, frame: pd.DataFrame, start: datetime, stop: datetime
    ) -> pd.DataFrame:
        """Move one twin by a day, and return the day's windows."""
        if twin.reference is None:
            self._remember_raw(twin, frame, start)
        today = self._windows(twin, frame, start)
        if twin.reference is None:
            self._commission(twin, stop)
        elif len(today):
            rows = health.daily(
                today,
                twin.reference,
                twin.device,
                history=twin.history,
                log=believed(self.plant.maintenance, twin.cleanings),
            )
            before = twin.history or Trend(twin.device.id, {})
            twin.history = before.followed_by(rows)
            if isinstance(twin.device, Machine):
                own = frame[frame.index > pd.Timestamp(start)]
                rows = operation.daily(own, twin.reference, twin.device, stop)
                twin.history = twin.history.followed_by(rows)
            self._look_for_cleanings(twin, stop)
        if twin.reference is not None and isinstance(twin.device, Machine):
            since = twin.recalibrated or stop
            if stop - since >= self.plant.schedule.every:
                self._recalibrate(twin, twin.device, stop)
        return today

    def _windows(
        self, twin: _Twin, frame: pd.DataFrame, start: datetime
    ) -> pd.DataFrame:
        found = steady.windows(frame, twin.device, twin.minutes)
        found = found[found.index > pd.Timestamp(start)]
        keep = pd.Timestamp(start) - max(self.plant.schedule.window, AGAIN)
        before = twin.windows
        if before is not None:
            before = before[before.index > keep]
        twin.windows = _joined([before, found])
        return found

    def _has_news(self, twin: _Twin, start: datetime) -> bool:
        if twin.windows is None:
            return False
        today = twin.windows.index > pd.Timestamp(start)
        return bool((twin.windows["steady"].to_numpy(dtype=bool) & today).any())

    def _remember_raw(self, twin: _Twin, frame: pd.DataFrame, start: datetime) -> None:
        begin = self.plant.schedule.reference_start
        own = frame[frame.index > pd.Timestamp(start)]
        for bound in (begin, twin.began):
            if bound is not None:
                own = own[own.index > pd.Timestamp(bound)]
        if twin.began is None and len(own):
            twin.began = begin or start
        twin.raw.append(own)

    def _changes(
        self, twin: _Twin, after: datetime, until: datetime
    ) -> list[Maintenance]:
        """Return what was recorded of a unit that begins its period anew.

        While nothing is learnt yet that is whatever was done to it: a machine that
        was refused for its dirt is learnt from its cleaning on.
        """
        learnt = twin.reference is not None
        actions = commissioning.NEW_EPOCH if learnt else set(Action) - {Action.NOTE}
        return sorted(
            (
                event
                for event in self.plant.maintenance
                if event.unit == twin.device.id
                and event.action in actions
                and after < event.time <= until
            ),
            key=lambda event: event.time,
        )

    def _new_epoch(self, twin: _Twin, began: datetime) -> None:
        if twin.reference is not None:
            twin.before, twin.before_made = twin.reference, twin.commissioned
        twin.reference = twin.current = twin.windows = twin.history = None
        twin.reference_version = ""
        twin.raw, twin.began, twin.asked = [], began, None

    # --- learning ------------------------------------------------------------

    def _commission(self, twin: _Twin, stop: datetime) -> None:
        """Learn the machine as commissioned, once the period is over."""
        length = self.plant.schedule.reference_length
        if twin.began is None or stop - twin.began < length:
            return
        if twin.asked is not None and stop - twin.asked < AGAIN:
            return
        twin.asked = stop
        frame = pd.concat(twin.raw)
        minutes = steady.suitable_minutes(frame, twin.device)
        windows = steady.windows(frame, twin.device, minutes)
        found: fit.Fit | Refusal
        if isinstance(twin.device, Exchanger):
            found = fit.fit_exchanger(windows, twin.device)
        else:
            flows = fit.learn_flows(frame, twin.device)
            found = (
                flows
                if isinstance(flows, Refusal)
                else fit.fit_reference(windows, twin.device, flows=flows)
            )
        if isinstance(found, Refusal):
            self._refuse(twin, found, stop)
            return
        model = found.model
        kept = ""
        if isinstance(model.physics, HeatPump):
            model, refused = fit.with_correction(model, windows)
            if refused is not None:
                kept = refused.sentence
            elif model.correction is not None:
                kept = "kept for " + ", ".join(sorted(model.correction.weights))
        model, history = health.commission(
            windows, model, twin.device, log=self.plant.maintenance
        )
        if isinstance(twin.device, Machine):
            model = operation.with_habits(frame, model, twin.device)
        since = twin.before_made
        verdict = commissioning.admit(
            replace(found, model=model),
            history,
            twin.device,
            windows,
            before=twin.before,
            changes=[] if since is None else self._changes(twin, since, stop),
        )
        if not verdict.accepted:
            failed = next(gate for gate in verdict.gates if not gate.passed)
            refusal = Refusal(f"reference.{failed.name}", verdict.reason)
            self._refuse(twin, refusal, stop, verdict)
            return
        record = self.registry.save(
            twin.device.id,
            Role.REFERENCE,
            model.to_dict(),
            created=stop,
            provenance={
                "start": found.start,
                "stop": found.stop,
                "windows": found.windows,
                "days": found.days,
                "minutes": minutes,
                "config": self._config,
                "correction": kept,
                "remarks": list(verdict.remarks),
            },
            gates=[gate.to_dict() for gate in verdict.gates],
            reason=f"{found.days} days of steady running, {found.windows} windows."
            f" {verdict.reason}",
        )
        twin.reference, twin.reference_version = model, record.version
        twin.current = twin.refusal = twin.before = None
        twin.minutes, twin.recalibrated, twin.commissioned = minutes, stop, stop
        twin.raw = []
        # The reference period is judged too: it is the trend's beginning.
        twin.history = trend(history, twin.device.id)
        keep = pd.Timestamp(stop) - max(self.plant.schedule.window, AGAIN)
        twin.windows = windows[windows.index > keep]

    def _refuse(
        self,
        twin: _Twin,
        refusal: Refusal,
        stop: datetime,
        verdict: gates.Verdict | None = None,
    ) -> None:
        if twin.refusal is not None and twin.refusal.code == refusal.code:
            return
        twin.refusal = refusal
        self.registry.save(
            twin.device.id,
            Role.REFERENCE,
            {},
            created=stop,
            provenance={
                "config": self._config,
                "evidence": dict(refusal.evidence),
                "remarks": [] if verdict is None else list(verdict.remarks),
            },
            gates=[] if verdict is None else [g.to_dict() for g in verdict.gates],
            accepted=False,
            reason=refusal.sentence,
        )

    def _recalibrate(self, twin: _Twin, machine: Machine, stop: datetime) -> None:
        if twin.reference is None or twin.windows is None:
            return
        verdict, kept = candidate(
            self.plant,
            machine,
            twin.windows,
            (twin.reference_version, twin.reference),
            twin.current,
            stop,
        )
        self.registry.save(machine.id, Role.CURRENT, **kept)
        twin.recalibrated = stop
        if verdict.accepted and verdict.fit is not None:
            twin.current = verdict.fit.model
            serving = self.registry.in_service(machine.id)
            twin.current_version = serving.get(Role.CURRENT, "")

    # --- the plant, interval by interval -------------------------------------

    def _interval_tables(
        self, frames: Frames, start: datetime, windows: Tables | None = None
    ) -> dict[str, pd.DataFrame]:
        """Average every unit over the ledger's intervals, and derive.

        ``windows`` that happen to be as long as the intervals are taken as they are.
        """
        minutes = self._step(frames).total_seconds() / 60.0
        tables: dict[str, pd.DataFrame] = {}
        for unit, twin in self._twins.items():
            frame = frames.get(unit)
            if frame is None or frame.empty:
                continue
            ready = (windows or {}).get(unit)
            if ready is not None and (ready["window_s"] == 60.0 * minutes).all():
                tables[unit] = ready
            else:
                tables[unit] = steady.windows(frame, twin.device, minutes)
        rejectors = {rejector.id: rejector for rejector in self.plant.rejectors}
        for unit, frame in frames.items():
            if unit in tables or frame.empty:
                continue
            mean = frame.resample(
                timedelta(minutes=minutes), label="right", closed="right"
            ).mean()
            mean = mean.dropna(how="all")
            if unit in rejectors:
                mean = derive_rejector(mean, rejectors[unit])
            tables[unit] = mean
        cut = pd.Timestamp(start)
        tables = {unit: table[table.index > cut] for unit, table in tables.items()}
        return ledger.foretold(self.plant, tables, timedelta(minutes=minutes))

    def _step(self, frames: Frames) -> timedelta:
        """Return the ledger's interval: telemetry that is coarser sets the pace."""
        widest = INTERVAL.total_seconds()
        for frame in frames.values():
            if len(frame) > 2:
                ns = pd.DatetimeIndex(frame.index).as_unit("ns").asi8
                widest = max(widest, float(np.median(np.diff(ns))) / 1e9)
        minutes = math.ceil(widest / 60.0 - 1e-6)
        # An interval that does not divide the day would straddle midnight.
        divisors = (10, 12, 15, 20, 30, 60, 120, 180, 240, 360, 720, 1440)
        return timedelta(minutes=next(d for d in divisors if d >= min(minutes, 1440)))

    def _healthy(self, tables: Tables) -> dict[str, pd.DataFrame]:
        """Return what each machine as commissioned would have shown."""
        return {
            unit: expect(tables[unit], twin.reference)
            for unit, twin in self._twins.items()
            if isinstance(twin.device, Machine)
            and twin.reference is not None
            and len(tables.get(unit, ()))
        }

    def _account(
        self, tables: Tables, healthy: Tables, *, keep: bool = True
    ) -> tuple[list[pd.DataFrame], list[pd.DataFrame]]:
        """Return the ledger's and the key figures' rows, as parts.

        ``keep`` remembers what stores would hold besides: not of a day that is not
        over.
        """
        accounts: list[pd.DataFrame] = []
        hours: list[pd.DataFrame] = []
        step = self._step(tables)
        if any(len(table) for table in tables.values()):
            capacity = ledger.model_capacity(
                self.plant, tables, self._physics("reference"), self._physics("current")
            )
            room, evidence, stored = ledger.headroom(
                self.plant, tables, capacity, self._stores, step=step
            )
            if keep:
                self._stores = stored
            own = ledger.account(
                self.plant,
                tables,
                capacity,
                step=step,
                headroom=room,
                evidence=evidence,
                agreement=self._meters,
            )
            accounts.append(kpi.with_flows(own, self.plant, tables, step=step))
        for machine in self.plant.machines:
            table = tables.get(machine.id)
            if table is None or table.empty:
                continue
            twin = self._twins[machine.id]
            if machine.id in healthy:
                clean = healthy[machine.id]
                now = twin.current
                expected = clean if now is None else expect(table, now)
                table = table.assign(
                    expected_cop=expected["expected_cop"],
                    reference_cop=clean["expected_cop"],
                )
                last = expected[_shown(expected)].dropna(how="all").tail(1)
                self._expected[machine.id] = {
                    name.removeprefix("expected_"): float(last[name].iloc[0])
                    for name in last.columns
                    if len(last) and last[name].notna().all()
                }
            hours.append(_with_price(kpi.hourly(machine, table, step=step), tables))
        return accounts, hours

    def _score(self, tables: Tables, healthy: Tables) -> None:
        """Score the reference's prediction; a commissioning day is no test."""
        for machine in self.plant.machines:
            twin, table = self._twins[machine.id], tables.get(machine.id)
            if machine.id not in healthy or table is None or twin.commissioned is None:
                continue
            ran = table["compressor_running"].to_numpy(dtype=float) > 0.999
            ran &= table.index > pd.Timestamp(twin.commissioned)
            if ran.any() and "compressor_power_w" in table:
                twin.score.add(
                    table["compressor_power_w"][ran],
                    healthy[machine.id]["expected_compressor_power_w"][ran],
                )

    def _physics(self, role: str) -> dict[str, HeatPump]:
        models = {unit: getattr(twin, role) for unit, twin in self._twins.items()}
        return {
            unit: model.physics
            for unit, model in models.items()
            if model is not None and isinstance(model.physics, HeatPump)
        }

    def _take_latest(self, tables: Tables, frames: Frames) -> None:
        """Keep the newest value of every column, and when it was last read.

        A window is named by its end, and the one at hand has not ended: its values
        are as old as the newest reading in it, not of a time to come, or the page
        would hold them for newer than every reading until then.
        """
        for unit, frame in {**frames, **tables}.items():
            into = self._latest.setdefault(unit, {})
            if frame.empty:
                continue
            readings = _newest(frames[unit]) if unit in frames else {}
            last = max((time for _, time in readings.values()), default=None)
            for name, (value, end) in _newest(frame).items():
                _, read = readings.get(name, (value, last))
                into[name] = (value, end if read is None else min(end, read))

    # --- findings ------------------------------------------------------------

    def _find(self, stop: datetime, memories: Mapping[str, probes.Memory]) -> None:
        prices = self._prices()
        found: list[Finding] = []
        lying = {unit: memory.lying for unit, memory in memories.items()}
        named = {
            probes.finding(lie, unit, stop).key
            for unit, lies in lying.items()
            for lie in lies
        }
        known = {finding.key for finding in self._active}
        held: dict[str, list[str]] = {}
        for twin in self._twins.values():
            if twin.reference is None or twin.history is None or twin.windows is None:
                continue
            week = twin.windows[twin.windows.index > pd.Timestamp(stop - AGAIN)]
            if not len(week):
                continue
            own = findings.findings(
                twin.history,
                twin.reference,
                twin.device,
                week,
                now=stop,
                prices=prices,
                log=believed(self.plant.maintenance, twin.cleanings),
                version=twin.reference_version,
            )
            if isinstance(twin.device, Machine):
                told_already = {finding.key for finding in own}
                own += [
                    finding
                    for finding in operation.findings(
                        twin.history,
                        twin.reference,
                        now=stop,
                        version=twin.reference_version,
                    )
                    if finding.key not in told_already
                ]
            own = dated(own, self._ahead(twin, stop), twin.cleanings)
            priced = bill.cop_findings(
                own,
                twin.reference,
                week,
                prices=prices,
                version=twin.reference_version,
            )
            new = {
                f.key: f
                for f in priced
                if lying[twin.device.id] and f.kind in _EQUIPMENT and f.key not in known
            }
            held[twin.device.id] = sorted(new)
            found += [f for f in priced if f.key not in new and f.key not in named]
        told = [
            _holding(probes.finding(lie, unit, stop), held.get(unit, ()))
            for unit, lies in lying.items()
            for lie in lies
        ]
        # A case that began and ended within the day is a case all the same.
        over = [
            probes.finding(lie, unit, stop)
            for unit, memory in memories.items()
            for lie in memory.lies
            if lie.until is not None and stop - DAY < lie.until <= stop
        ]
        for finding in (*over, *told):
            self._remember(finding)
        if len(self._recent):
            found += ledger.findings(self._recent, self.plant, stop)
        for finding in found:
            self._remember(finding)
        found += _unknown(self._active, [*found, *told])
        self._lying = tuple(told)
        self._active = tuple(sorted(found, key=lambda finding: finding.key))

    def _look_for_cleanings(self, twin: _Twin, stop: datetime) -> None:
        """Verify what the log claims; what shows begins its evidence anew."""
        if twin.reference is None or twin.history is None:
            return
        twin.cleanings = cleanings(twin.history, self.plant.maintenance, now=stop)
        twin.history = restarted(twin.history, twin.cleanings, twin.reference.tuning)

    def _ahead(self, twin: _Twin, stop: datetime) -> dict[str, Forecast | Refusal]:
        """Look ahead as of the last Monday: nobody plans by a date that moves daily."""
        if twin.reference is None or twin.history is None or twin.windows is None:
            return {}
        monday = stop - stop.weekday() * DAY
        log = believed(self.plant.maintenance, twin.cleanings)
        asked = (monday, twin.reference_version, *log)
        if twin.looked != asked:
            self._kpis = [_joined(self._kpis)] if self._kpis else []
            hours = self._kpis[0] if self._kpis else empty("kpis")
            twin.ahead = outlooks(
                twin.history,
                twin.reference,
                twin.device,
                twin.windows,
                now=monday,
                hours=hours[hours["unit"] == twin.device.id],
                prices=findings.Prices(
                    electricity_eur_j=self._site_value(
                        PRICE, self.plant.tariff.electricity_price_eur_j
                    )
                ),
                log=log,
            )
            twin.looked = asked
        return twin.ahead

    def _prices(self) -> Prices:
        """Return what electricity costs and emits now."""
        tariff = self.plant.tariff
        return Prices(
            electricity_eur_j=self._site_value(
                "electricity_price_eur_j", tariff.electricity_price_eur_j
            ),
            electricity_kg_j=self._site_value(
                "electricity_emission_kg_j", tariff.electricity_emission_kg_j
            ),
        )

    def _attribution(self) -> pd.DataFrame:
        """Return where each machine's COP of the last week went, made once a day."""
        if self.until is None or self._split[0] == self.until:
            return self._split[1]
        tables = []
        for machine in self.plant.machines:
            twin = self._twins[machine.id]
            if twin.reference is None or twin.windows is None:
                continue
            week = twin.windows[twin.windows.index > pd.Timestamp(self.until - AGAIN)]
            told = waterfall.waterfall(
                week, twin.reference, machine, prices=self._prices()
            )
            if isinstance(told, Refusal):
                told = pd.DataFrame(
                    {
                        "unit": [machine.id],
                        "component": [waterfall.COMMISSIONED],
                        "why": [told.sentence],
                    }
                )
            tables.append(told.assign(time=pd.Timestamp(self.until)))
        made = in_order(_joined(tables), "attribution")
        self._split = (self.until, made)
        return made

    def _estimated(self) -> dict[str, Any]:
        """Return the newest estimate of what no instrument shows, made once a day."""
        if self.until is None or self._guessed[0] == self.until:
            return self._guessed[1]
        found: dict[str, Any] = {}
        for machine in self.plant.machines:
            twin = self._twins[machine.id]
            model = twin.current or twin.reference
            if model is None or twin.windows is None:
                continue
            week = twin.windows[twin.windows.index > pd.Timestamp(self.until - AGAIN)]
            told = virtual.newest(virtual.estimate(week, model, machine))
            if told:
                found[machine.id] = plain(told)
        self._guessed = (self.until, found)
        return found

    def _site_value(self, point: str, otherwise: float | None) -> float | None:
        known = self._latest.get(Plant.SITE, {}).get(point)
        return otherwise if known is None else known[0]

    def _remember(self, finding: Finding) -> None:
        for question in _answered(finding):
            asked = self._cases.get(question, [])
            if asked and finding.since - asked[-1].seen <= _SAME_CASE:
                asked.pop()
        cases = self._cases.setdefault(finding.key, [])
        if cases and finding.since - cases[-1].seen <= _SAME_CASE:
            cases[-1] = replace(finding, since=min(finding.since, cases[-1].since))
        else:
            cases.append(finding)

    # --- what there is to say ------------------------------------------------

    def cases(self) -> tuple[Finding, ...]:
        """Return every case so far as it was last seen, by key and time."""
        return tuple(case for key in sorted(self._cases) for case in self._cases[key])

    def models(self) -> list[dict[str, Any]]:
        """Return what the registry holds of each unit, oldest first."""
        serving = {unit: self.registry.in_service(unit) for unit in self._twins}
        return [
            {
                "unit": record.unit,
                "role": record.role.value,
                "version": record.version,
                "in_service": serving[unit].get(record.role) == record.version,
                "reference": record.provenance.get("reference"),
                "remarks": record.provenance.get("remarks", []),
                "created": record.created,
                "window": [
                    record.provenance.get("start"),
                    record.provenance.get("stop"),
                ],
                "windows": record.provenance.get("windows"),
                "correction": record.provenance.get("correction"),
                "accepted": record.accepted,
                "reason": record.reason,
                "degradation": dict(record.model.get("degradation", {})),
                "sha256": record.sha256,
                "gates": [dict(gate) for gate in record.gates],
            }
            for unit in self._twins
            for record in self.registry.history(unit)
        ]

    def refusals(self) -> dict[str, str]:
        """Return why a unit has no reference yet, for those that have none."""
        return {
            unit: twin.refusal.sentence
            if twin.refusal is not None
            else "the reference period is not over"
            for unit, twin in self._twins.items()
            if twin.reference is None
        }

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return health, ledger and key figures of all days so far."""
        self._ledger = [_joined(self._ledger)] if self._ledger else []
        self._kpis = [_joined(self._kpis)] if self._kpis else []
        rows = [
            twin.history.rows()
            for twin in self._twins.values()
            if twin.history is not None
        ]
        return {
            "health": _joined(rows) if rows else empty("health"),
            "ledger": self._ledger[0] if self._ledger else empty("ledger"),
            "kpis": self._kpis[0] if self._kpis else empty("kpis"),
        }

    def results(
        self,
        generated: datetime,
        *,
        cases: bool = False,
        summary: Mapping[str, object] | None = None,
        data_quality: Mapping[str, float] | None = None,
    ) -> Results:
        """Return everything there is to say.

        Parameters
        ----------
        generated : datetime
            The event time it is said at, aware.
        cases : bool
            Whether cases that are over are among the findings.
        summary, data_quality : mapping, optional
            What else belongs there.
        """
        tables = self.tables()
        return Results(
            site=self.plant.name,
            generated=generated,
            findings=self.cases() if cases else self.findings,
            models=self.models(),
            summary={
                **totals(tables),
                "judged_until": self.until,
                "instruments": _instruments(
                    {unit: twin.probes for unit, twin in self._twins.items()},
                    self._set_aside,
                ),
                "not_assessable": self.refusals(),
                "plant": {
                    "timezone": self.plant.timezone,
                    "tariff": plain(self.plant.tariff),
                    "inferred": kpi.inferred(self.plant),
                    "maintenance": plain(self.plant.maintenance),
                },
                "demand": {
                    one.id: str(self.plant.demand_of(one))
                    for one in self.plant.consumers
                },
                "estimated": self._estimated(),
                "outlook": {
                    unit: plain(self._ahead(twin, self.until))
                    for unit, twin in self._twins.items()
                    if self.until is not None
                },
                "cleanings": [
                    plain(one)
                    for twin in self._twins.values()
                    for one in twin.cleanings
                ],
                "power_prediction": {
                    unit: twin.score.to_dict()
                    for unit, twin in self._twins.items()
                    if isinstance(twin.device, Machine)
                },
                **(summary or {}),
            },
            latest=self._latest,
            expected=self._expected,
            data_quality=data_quality or {},
            attribution=self._attribution(),
            **tables,
        )


def _left(twin: _Twin) -> dict[str, float]:
    """Return what is left of each tracked degradation, of the last week. [1]."""
    model, history = twin.reference, twin.history
    if model is None or history is None:
        return {}
    told = {
        name: history.of(*indicator_of(name, model)).lately(AGAIN // DAY)
        for name in model.tracked
    }
    return {name: value for name, value in told.items() if value > 0.0}


def _forget(twin: _Twin, after: datetime) -> None:
    """Drop what a day that failed half-way left: it is judged again, and once."""
    time = pd.Timestamp(after)
    if twin.windows is not None and (twin.windows.index > time).any():
        twin.windows = twin.windows[twin.windows.index <= time]
    if twin.history is not None:
        twin.history = twin.history.until(after)
    twin.raw = [part[part.index <= time] for part in twin.raw]


def _blot(twin: _Twin, lies: Iterable[probes.Lie], until: datetime) -> None:
    """Take back windows of days before that a lie had begun in unseen."""
    if twin.windows is None:
        return
    index = twin.windows.index
    for lie in lies:
        if lie.since < until < lie.named:
            false = (index > pd.Timestamp(lie.since)) & (index <= pd.Timestamp(until))
            rest = twin.windows["steady"] & ~false
            twin.windows = twin.windows.assign(steady=rest)


def _of_probe(finding: Finding) -> bool:
    """Tell what the looks of a day find from what the day's end does."""
    return finding.kind is FindingKind.SENSOR and "named" in finding.evidence


def _holding(finding: Finding, held: Iterable[str]) -> Finding:
    """Say what is not said of the equipment because a probe lies."""
    keys = list(held)
    if not keys:
        return finding
    return replace(
        finding,
        sentence=f"{finding.sentence} Held back because of it: {', '.join(keys)}.",
        evidence={**finding.evidence, "held_back": keys},
    )


def _instruments(
    memories: Mapping[str, probes.Memory], set_aside: int
) -> dict[str, object]:
    """Return which probes lied or lie, and how many readings are set aside."""
    return {
        "lying": {
            unit: [lie.to_dict() for lie in memory.lies]
            for unit, memory in sorted(memories.items())
            if memory.lies
        },
        "set_aside": set_aside,
    }


def _answered(finding: Finding) -> tuple[str, ...]:
    """Return the open questions about a unit that a finding answers."""
    uncertain = f"{finding.unit}/{FindingKind.UNCERTAIN.value}/cause"
    balance = f"{finding.unit}/{FindingKind.SENSOR.value}/energy_balance"
    if finding.kind is FindingKind.SENSOR:
        return (uncertain,) if finding.key == balance else (uncertain, balance)
    if finding.kind in (FindingKind.FOULING, FindingKind.COP_DEGRADATION):
        return (uncertain,)
    return ()


_SHOWN = frozenset(
    f"expected_{name}"
    for name in (
        "cop",
        "compressor_power_w",
        "sink_heat_w",
        "source_heat_w",
        "sink_outlet_temp_degc",
        "source_outlet_temp_degc",
        "evaporating_temp_degc",
        "condensing_temp_degc",
    )
)


def _unknown(before: Iterable[Finding], found: Iterable[Finding]) -> list[Finding]:
    """Return what stood yesterday of units whose instruments lie today.

    Nobody can tell whether it is gone, so it stands as it was last seen.
    """
    told = list(found)
    keys = {finding.key for finding in told}
    lying = {finding.unit for finding in told if finding.kind is FindingKind.SENSOR}
    return [
        finding
        for finding in before
        if finding.unit in lying
        and finding.kind in _EQUIPMENT
        and finding.key not in keys
    ]


def _digest(plant: Plant) -> str:
    """Return what names a configuration, the same in every process."""
    return hashlib.sha256(to_json(plant).encode()).hexdigest()


def _with_price(hours: pd.DataFrame, tables: Tables) -> pd.DataFrame:
    """Return the hours with the price of each, where the site tells one."""
    site = tables.get(Plant.SITE)
    if site is None or PRICE not in site:
        return hours
    price = site[PRICE].groupby(pd.DatetimeIndex(site.index).ceil("h")).mean()
    told = price.reindex(pd.DatetimeIndex(hours["time"])).to_numpy()
    return hours.assign(**{PRICE: told})


def _shown(expected: pd.DataFrame) -> list[str]:
    return [name for name in expected.columns if name in _SHOWN]


def totals(tables: Tables) -> dict[str, object]:
    """Return the sums that a summary begins with; null is unknown.

    Energies are those of the whole period [J], COPs ratios of sums. [1] Beside what
    was missed stands between what it lies, as :class:`twin.ledger.Missed`.
    """
    site = tables["ledger"]
    site = site[site["unit"] == Plant.SITE] if len(site) else site
    hours = tables["kpis"]

    def total(frame: pd.DataFrame, name: str) -> float | None:
        if name not in frame or not frame[name].notna().any():
            return None
        return float(frame[name].sum())

    machines: dict[str, object] = {}
    for unit, rows in hours.groupby("unit"):
        heat, work = total(rows, "sink_heat_j"), total(rows, "compressor_energy_j")
        known = rows[rows["cop"].notna() & (rows["compressor_energy_j"] > 0.0)]
        spf = None
        if len(known):
            real = known["sink_heat_j"].sum() / known["compressor_energy_j"].sum()
            spf = float(real)
        machines[str(unit)] = {
            "sink_heat_j": heat,
            "compressor_energy_j": work,
            "running_s": total(rows, "running_s"),
            "spf": spf,
        }
    return {
        "machines": machines,
        "heat": {
            name: total(site, name)
            for name in (
                "it_heat_j",
                "cold_j",
                *ledger.ACCOUNTS,
                "missed_j",
                "missed_eur",
                "missed_kg",
                "missed_cold_j",
                "missed_cold_eur",
                "missed_cold_kg",
                "gap_s",
            )
        },
        "missed": plain(ledger.missed(tables["ledger"])),
    }


def _newest(frame: pd.DataFrame) -> dict[str, tuple[float, datetime]]:
    """Return the last known value of every column of numbers, and its row's time."""
    numbers = frame.select_dtypes("float64")
    values = numbers.to_numpy()
    if not len(values):
        return {}
    known = ~np.isnan(values)
    last = len(values) - 1 - known[::-1].argmax(axis=0)
    return {
        str(name): (float(values[row, column]), numbers.index[row].to_pydatetime())
        for column, (name, row) in enumerate(
            zip(numbers.columns, last.tolist(), strict=True)
        )
        if known[row, column]
    }


def _with_day(
    table: pd.DataFrame, parts: Iterable[pd.DataFrame], stop: datetime
) -> pd.DataFrame:
    """Return a table with these rows in place of those of the day until ``stop``."""
    early = table["time"] <= pd.Timestamp(stop - DAY)
    late = table["time"] > pd.Timestamp(stop)
    return _joined([table[early], *parts, table[late]])


def _joined(parts: Iterable[pd.DataFrame | None]) -> pd.DataFrame:
    given = [part for part in parts if part is not None and len(part)]
    if not given:
        return next((part for part in parts if part is not None), pd.DataFrame())
    return pd.concat(
        given, ignore_index=not isinstance(given[0].index, pd.DatetimeIndex)
    )
