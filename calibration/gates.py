"""May this candidate replace the current model? Each gate measures one thing.

A gate is data: what it measured, what the limit was, and a sentence. A rejected
candidate leaves the good model where it is. The window is looked at first,
because a fit to a lying window can look excellent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibration.fit import (
    DEGRADATIONS,
    LEAST_DAY_HOURS,
    Fit,
    degraded,
    fit_degradation,
    indicator_key,
    indicator_of,
)
from calibration.health import balance_half, balance_limit, daily, stuck
from calibration.model import Model, conditions, expect, familiar, heat_pump
from calibration.steady import Why
from twin.finding import Refusal
from twin.plant import Machine, Maintenance
from twin.points import Kind, Origin, points_of
from twin.states import derive

Matrix = NDArray[np.float64]

LEAST_HOURS = 20.0
LEAST_DAYS = 4
LEAST_DATA = 0.4
WORSE = 0.05
"""Most that the held-out error may grow, relative to the present model's. [1]"""
KEPT = 0.95
"""Least share of the detection statistic that must survive. [1]"""
STEP = 0.15
"""Largest change of a ratio in one recalibration without a logged event. [1]"""
STEP_EVENT = 0.60
BOUNDS = (0.30, 1.25)
COST = 25.0
LEAST_RUN_HOURS = 1.0
"""Least running for each start: what is told between starts is transient. [h]"""
LEAST_SPAN = 0.15
"""Least share of the reference's span of some condition that is seen again. [1]"""
HIDDEN = 0.005
"""Most of any output that may be explained by what is no degradation. [1]"""
DRY_RUN = timedelta(days=30)
DRY_RUN_BAD = 0.2
"""Most of the last days, net of better ones, on which it may do worse. [1]"""
INJECTED: Mapping[str, float] = {
    "condenser": 0.90,
    "evaporator": 0.90,
    "isentropic": 0.97,
    "subcooling": 0.90,
}
"""Faults put on the hold-out, as ratios; a charge shows as its subcooling. [1]"""
INJECTED_K = 0.3
"""Offset put on a probe of the hold-out. [K]"""
_PROBES = (
    "sink_outlet_temp_degc",
    "source_outlet_temp_degc",
    "sink_inlet_temp_degc",
    "source_inlet_temp_degc",
)
_BALANCE, _COP = (
    indicator_key("balance", "closure"),
    indicator_key("machine", "cop_ratio"),
)
_DERIVED = frozenset(points_of(Kind.HEAT_PUMP, Origin.DERIVED))
_JUDGED_DAYS = 3
_TOLD = 0.2  # of its limit, each day: less is nothing that could be hidden
_SCATTER = 0.02  # where a reference was never tuned
_HELD_OUT = 0.25
_BLOCK = timedelta(hours=6)
_SURE = 1.645  # one-sided 95 %
_OUTSIDE = 0.5


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition: its name, whether it holds, what was measured, the limit."""

    name: str
    passed: bool
    measured: float
    limit: float
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON can hold."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a candidate goes into service, why, and what every gate measured.

    ``fit`` is the candidate, None where none could be fitted. ``remarks`` say
    what no gate could be asked, and what is unusual without being refused.
    """

    accepted: bool
    reason: str
    gates: tuple[Gate, ...]
    fit: Fit | None = None
    remarks: tuple[str, ...] = ()


def _steady(windows: pd.DataFrame) -> pd.DataFrame:
    return windows[windows["steady"].to_numpy(dtype=bool)]


def _coverage(windows: pd.DataFrame) -> list[Gate]:
    steady = _steady(windows)
    hours = float(steady["window_s"].sum()) / 3600.0
    days = int(pd.DatetimeIndex(steady.index).ceil("D").nunique())
    width = float(windows["window_s"].median())
    span = (windows.index[-1] - windows.index[0]).total_seconds() + width
    there = float((windows["why"] != "no_data").sum()) * width / span
    return [
        Gate(
            "data",
            there >= LEAST_DATA,
            there,
            LEAST_DATA,
            f"{there:.0%} of the time has telemetry; {LEAST_DATA:.0%} is needed.",
        ),
        Gate(
            "hours",
            hours >= LEAST_HOURS,
            hours,
            LEAST_HOURS,
            f"{hours:.1f} h of steady running; {LEAST_HOURS:.0f} h are needed.",
        ),
        Gate(
            "days",
            days >= LEAST_DAYS,
            float(days),
            float(LEAST_DAYS),
            f"Steady running on {days} days; {LEAST_DAYS} are needed.",
        ),
        _cycling(windows),
    ]


def _cycling(windows: pd.DataFrame) -> Gate:
    """Measure how long it runs from start to stop; a gap in the data is neither."""
    known = windows[windows["why"] != Why.NO_DATA.value]
    share = known["compressor_running"].fillna(0.0).to_numpy(dtype=float)
    rests = share < 0.5
    starts = int((rests[:-1] & ~rests[1:]).sum())
    # A rest shorter than a window shows as one that ran for a part of it.
    part = (share > 0.0) & (share < 1.0) & ~rests
    starts += int((part[1:-1] & ~rests[:-2] & ~rests[2:]).sum())
    ran = float((share * known["window_s"].to_numpy(dtype=float)).sum()) / 3600.0
    each = ran / max(starts, 1)
    return Gate(
        "cycling",
        each >= LEAST_RUN_HOURS,
        each,
        LEAST_RUN_HOURS,
        f"{each:.1f} h of running for each of {starts} starts;"
        f" {LEAST_RUN_HOURS:.0f} h are needed, or all of it is transient.",
    )


def _excited(windows: pd.DataFrame, reference: Model) -> Gate:
    """Measure how much of the reference's load and lift is seen again."""
    asked = conditions(_steady(windows), reference)
    spans = []
    for name, (low, high) in reference.range.items():
        level = max(abs(low), abs(high))
        least = 1.0 if name.endswith("_degc") else 0.05 * level
        # What never changed, for a flow that is held, cannot be asked to.
        if name in asked and high - low >= least and asked[name].notna().any():
            seen = asked[name].quantile(0.95) - asked[name].quantile(0.05)
            spans.append(float(seen) / (high - low))
    span = max(spans, default=1.0)
    return Gate(
        "excitation",
        span >= LEAST_SPAN,
        span,
        LEAST_SPAN,
        f"Load and temperatures move over {span:.0%} of what the reference saw at"
        f" most; {LEAST_SPAN:.0%} is needed to tell anything apart.",
    )


def _inside(windows: pd.DataFrame, reference: Model) -> Gate:
    """Measure what the reference never saw: another plant, or another unit."""
    outside = ~familiar(_steady(windows), reference, 10.0, 0.5)
    share = float(outside.mean()) if len(outside) else 1.0
    return Gate(
        "conditions",
        share <= _OUTSIDE,
        share,
        _OUTSIDE,
        f"{share:.0%} of the windows lie far outside the conditions of the reference"
        " or lack one.",
    )


def _repeated(windows: pd.DataFrame) -> Gate:
    """Rows that tell twice what was already told: a replayed or a copied week."""
    steady = _steady(windows)
    names = [n for n in steady.columns if n.endswith(("_degc", "_pa", "_m3_s"))]
    names += [n for n in steady.columns if n.endswith("_w") and "heat" not in n]
    names = [n for n in names if steady[n].notna().all()]
    share = 0.0
    if names and len(steady):
        # A copy that went through another unit or format differs in the last bits.
        told = steady[names].to_numpy(dtype=float)
        with np.errstate(divide="ignore"):
            size = np.floor(np.log10(np.where(told == 0.0, 1.0, np.abs(told))))
        digits = 10.0 ** (size - 6.0)
        same = pd.DataFrame(np.round(told / digits))
        share = float(same.duplicated().mean())
    return Gate(
        "repeated",
        share <= 0.2,
        share,
        0.2,
        f"{share:.0%} of the windows repeat an earlier one to the seventh digit.",
    )


def _sensors(windows: pd.DataFrame, reference: Model, machine: Machine) -> list[Gate]:
    steady = _steady(windows)
    frozen = stuck(windows, machine, by_day=True)
    gates = [
        Gate(
            "stuck",
            not frozen,
            float(len(frozen)),
            0.0,
            f"Frozen while running: {', '.join(frozen)}."
            if frozen
            else "No instrument is frozen.",
        )
    ]
    if np.isfinite(reference.closure):
        error = steady["energy_balance_error"].dropna()
        shift = abs(float(error.median()) - reference.closure) if len(error) else np.inf
        limit = balance_limit(reference, balance_half(steady, reference, machine))
        gates.append(
            Gate(
                "balance",
                shift <= limit,
                shift,
                limit,
                f"The energy balance lies {shift:.1%} from the reference's; beyond"
                f" {limit:.1%} an instrument is suspected.",
            )
        )
    return gates


def error_of(windows: pd.DataFrame, model: Model) -> float:
    """Return how far a model lies from steady windows, over all its outputs.

    Parameters
    ----------
    windows : DataFrame
        Of :func:`calibration.steady.windows`.
    model : Model
        The model that is asked.

    Returns
    -------
    float
        Root mean square residual, each output in units of the reference's own
        scatter; NaN where nothing can be compared. [1]
    """
    return _root_mean(_squares(_steady(windows), model))


def _root_mean(squares: Matrix) -> float:
    known = squares[np.isfinite(squares)]
    return float(np.sqrt(known.mean())) if len(known) else float("nan")


def _squares(steady: pd.DataFrame, model: Model) -> Matrix:
    """Return the squared residuals of steady windows: windows x outputs."""
    expected = expect(steady, model.with_(correction=None))
    columns = []
    for name in model.outputs:
        if name not in steady:
            continue
        y = steady[name].to_numpy(dtype=float)
        p = expected[f"expected_{name}"].to_numpy(dtype=float)
        rest = np.log(p / y) if name.endswith(("_w", "_pa")) else p - y
        columns.append((rest / max(model.scatter.get(name, 1.0), 1e-9)) ** 2)
    return np.stack(columns, axis=-1) if columns else np.zeros((len(steady), 0))


def _doubt(held: pd.DataFrame, candidate: Model, present: Model) -> float:
    """Return 1 sigma of the ratio of two errors: which hours were held out is chance.

    A jackknife over blocks of :data:`_BLOCK`, for neighbours repeat one another.
    """
    steady = _steady(held)
    block = (held.index[-1] - steady.index) // _BLOCK
    pair = np.column_stack(
        [
            pd.DataFrame(_squares(steady, model)).sum(axis=1).groupby(block).sum()
            for model in (candidate, present)
        ]
    )
    count, rest = len(pair), pair.sum(axis=0) - pair
    if count < 2 or not (rest > 0.0).all():
        return 0.0
    left = np.sqrt(rest[:, 0] / rest[:, 1])
    return float(np.sqrt((count - 1) * np.var(left)))


def _injection(
    candidate: Model, reference: Model, held: pd.DataFrame, machine: Machine
) -> list[Gate]:
    """Put faults on the hold-out and see whether they still show.

    The candidate, its own degradation undone, judges the last days of the hold-out
    as the service would: by its physics and flow laws, its tracked degradations,
    its correction, and by its centre, scatter and limit. Each must find what the
    reference finds. One that differs from the reference in nothing but its
    degradation does so by construction; nothing is put then, and the sentence says
    it.
    """
    served = _undone(candidate, reference)
    if served == reference:
        return [
            Gate(
                "injected",
                True,
                1.0,
                KEPT,
                "Every fault would show by construction: the candidate judges by all"
                " that the reference judges by.",
            )
        ]
    ends = pd.DatetimeIndex(held.index).ceil("D")
    ran = held["window_s"].where(held["steady"]).groupby(ends).sum()
    last = ran.index[ran >= 3600.0 * LEAST_DAY_HOURS][-_JUDGED_DAYS:]
    days = held[np.asarray(ends.isin(last)) & held["steady"].to_numpy(dtype=bool)]
    if not len(days):
        return []
    # What is derived is derived again from the faulty readings.
    told = days[[name for name in days if name not in _DERIVED]]
    clean = heat_pump(reference)
    before = expect(days, reference.with_(correction=None))
    base = _evidence(days, reference, machine)

    def put(name: str, what: str, faulty: pd.DataFrame, own: str) -> list[Gate]:
        faulty = derive(faulty, machine)
        theirs = _evidence(faulty, reference, machine)
        ours = _evidence(faulty, served, machine)
        # An offset that makes a probe a liar leaves the equipment without a verdict.
        keys = [key for key in (own, _COP) if key in base and key in theirs]
        shown = {key: theirs[key] - base[key] for key in keys}
        # What was there before the fault belongs to neither.
        kept = {
            key: (ours.get(key, float("nan")) - base[key]) / size
            for key, size in shown.items()
            if size > (0.0 if key == own else _TOLD)
        }
        if own not in kept:
            return []  # the reference cannot tell it either
        worst = min(kept, key=lambda key: float(np.nan_to_num(kept[key], nan=-1e9)))
        share = kept[worst]
        return [
            Gate(
                f"injected_{name}",
                bool(share >= KEPT),
                share,
                KEPT,
                f"{what} put on the hold-out keeps {share:.0%} of its statistic in"
                f" {worst}, {shown[worst]:.2f} of the limit each day.",
            )
        ]

    gates = []
    for name, ratio in INJECTED.items():
        if name not in reference.tracked:
            continue
        sick = reference.with_(physics=degraded(clean, {name: ratio}), correction=None)
        after = expect(days, sick)
        faulty = told.copy()
        for output in reference.outputs:
            y, a, b = (
                days[output],
                after[f"expected_{output}"],
                before[f"expected_{output}"],
            )
            faulty[output] = y * a / b if output.endswith(("_w", "_pa")) else y + a - b
        own = indicator_key(*indicator_of(name, reference))
        gates += put(name, f"{1.0 - ratio:.0%} of fault in {name}", faulty, own)
    probe = next((name for name in _PROBES if name in days), None)
    if probe is not None and _BALANCE in base:
        faulty = told.assign(**{probe: told[probe] + INJECTED_K})
        what = f"{INJECTED_K:.1f} K of offset in {probe}"
        gates += put("offset", what, faulty, _BALANCE)
    return gates


def _evidence(days: pd.DataFrame, model: Model, machine: Machine) -> dict[str, float]:
    """Return what each day says by each indicator, as a share of its limit.

    It is what the CUSUM adds up, before it is bounded and forgiven: a statistic
    that is at its bound would not show that a part of it is gone.
    """
    rows = daily(days, model, machine)
    pairs = zip(rows["component"], rows["indicator"], strict=True)
    names = np.array([indicator_key(*pair) for pair in pairs])
    values = rows["value"].to_numpy(dtype=float)
    statistics = rows["statistic"].to_numpy(dtype=float)
    limits = rows["limit"].to_numpy(dtype=float)
    found = {}
    for name in dict.fromkeys(names.tolist()):
        own = names == name
        known = own & ~np.isnan(values)
        if name == _BALANCE:
            # Of either sign, and never added up.
            found[name] = float((statistics[own] / limits[own]).mean())
        elif known.any():
            scatter = model.tuning.get(name, {}).get("scatter", _SCATTER)
            told = float(np.log(values[known]).mean())
            found[name] = -told / scatter / float(limits[own][0])
    return found


def _undone(candidate: Model, reference: Model) -> Model:
    """Return the candidate without its degradations: it must be the reference."""
    clean = heat_pump(reference).parameters
    names = [DEGRADATIONS[name][0] for name in reference.tracked]
    pump = heat_pump(candidate).replace(
        **{name: float(getattr(clean, name)) for name in names}
    )
    # What says how far it is from the reference, and how sure that is.
    told = ("role", "free", "values", "errors", "degradation", "informed", "related")
    return candidate.with_(
        physics=pump, **{name: getattr(reference, name) for name in told}
    )


def _hidden(candidate: Model, reference: Model, held: pd.DataFrame) -> Gate:
    """Measure what of the outputs is explained by something that is no degradation.

    Whatever a candidate may carry is asked: physics, flow laws, correction.
    """
    steady = _steady(held)
    ours = expect(steady, _undone(candidate, reference))
    theirs = expect(steady, reference)
    worst, share = "", 0.0
    for name in ("compressor_power_w", "source_heat_w", "sink_heat_w"):
        a, b = ours[f"expected_{name}"], theirs[f"expected_{name}"]
        moved = float((a - b).abs().mean() / b.abs().mean())
        if not moved <= share:
            worst, share = name, moved
    return Gate(
        "hidden",
        bool(share <= HIDDEN),
        share,
        HIDDEN,
        f"What is no degradation explains {share:.2%} of {worst or 'any output'};"
        f" {HIDDEN:.1%} is allowed.",
    )


def _dry_run(candidate: Model, present: Model, windows: pd.DataFrame) -> Gate:
    """Replay the last days with the candidate as it would have served."""
    last = windows[windows.index > windows.index[-1] - DRY_RUN]
    steady = _steady(last)
    theirs, ours = _squares(steady, present), _squares(steady, candidate)
    usual = _root_mean(theirs)
    ends = pd.DatetimeIndex(steady.index).ceil("D")
    bad = good = days = 0
    for end in ends.unique():
        day = np.asarray(ends == end)
        before = _root_mean(theirs[day])
        if not np.isfinite(before):
            continue
        days += 1
        after = _root_mean(ours[day])
        # A day without an answer is a bad one.
        bad += not after <= 1.25 * max(before, usual)
        good += max(after, usual) <= 0.8 * before
    # A plant that changes within these days is better told on some than on others.
    share = max(bad - good, 0) / days if days else float("nan")
    return Gate(
        "dry_run",
        bool(share <= DRY_RUN_BAD),
        share,
        DRY_RUN_BAD,
        f"In a dry run over the last {days} days the candidate would have done worse"
        f" on {bad} and better on {good}.",
    )


def _bounds(candidate: Model) -> Gate:
    ratios = {name: value[0] for name, value in candidate.degradation.items()}
    worst = max(ratios, key=lambda n: abs(np.log(ratios[n])), default="")
    value = ratios.get(worst, 1.0)
    # A charge may do what a conductance may not: it is of no fixed sign.
    fine = all(
        BOUNDS[0] <= ratio <= (2.5 if name == "subcooling" else BOUNDS[1])
        for name, ratio in ratios.items()
    )
    return Gate(
        "bounds",
        fine,
        value,
        BOUNDS[0] if value < 1.0 else BOUNDS[1],
        f"{worst or 'nothing'} at {value:.2f} of the reference; {BOUNDS[0]:.2f} to"
        f" {BOUNDS[1]:.2f} is physical.",
    )


def _step(candidate: Model, present: Model, event: bool, limit: float) -> Gate:
    worst, size = "", 0.0
    for name, (value, low, high) in candidate.degradation.items():
        if name == "subcooling":
            continue
        before = present.degradation.get(name, (1.0, 1.0, 1.0))[0]
        # A wide interval is no step.
        half = 0.5 * abs(np.log(high / low))
        step = max(0.0, abs(float(np.log(value / before))) - float(half) / 2.0)
        if step > size:
            worst, size = name, step
    return Gate(
        "step",
        size <= limit,
        size,
        limit,
        f"{worst or 'nothing'} would move by {size:.1%} at once; {limit:.0%} is allowed"
        + (" after the logged event." if event else " without a logged event."),
    )


def judge(
    candidate: Fit,
    present: Model,
    reference: Model,
    windows: pd.DataFrame,
    machine: Machine,
    *,
    held_out: tuple[float, float, float] | None = None,
    event: bool = False,
    steps: tuple[float, float] = (STEP, STEP_EVENT),
) -> Verdict:
    """Judge a candidate current model.

    Parameters
    ----------
    candidate : Fit
        Of :func:`calibration.fit.fit_degradation`.
    present : Model
        The current model in service; the reference if there is none yet.
    reference : Model
        The unit's reference.
    windows : DataFrame
        The windows that the candidate was fitted to.
    machine : Machine
        The machine as configured.
    held_out : tuple of float, optional
        Errors of candidate and present model on windows that the fit had not
        seen, and 1 sigma of their ratio; on the last quarter of ``windows`` if not
        given. [1]
    event : bool
        Whether the maintenance log explains a larger step.
    steps : tuple of float
        Largest change of a ratio at once, without an event and with one. [1]

    Returns
    -------
    Verdict
        Accepted if every gate is passed; the reason is the first that is not.
    """
    held = _last(windows)
    if held_out is None:
        held_out = (
            error_of(held, candidate.model),
            error_of(held, present),
            _doubt(held, candidate.model, present),
        )
    early = _window_gates(windows, reference, machine)
    return _judge(
        candidate,
        present,
        reference,
        windows,
        held,
        machine,
        early,
        held_out,
        event,
        steps,
    )


def _judge(
    candidate: Fit,
    present: Model,
    reference: Model,
    windows: pd.DataFrame,
    held: pd.DataFrame,
    machine: Machine,
    early: Iterable[Gate],
    held_out: tuple[float, float, float],
    event: bool,
    steps: tuple[float, float],
) -> Verdict:
    ours, theirs, doubt = held_out
    worse = ours / theirs - 1.0 if theirs > 0.0 else float("nan")
    chance = _SURE * doubt
    gates = [
        *early,
        _bounds(candidate.model),
        _step(candidate.model, present, event, steps[1] if event else steps[0]),
        Gate(
            "fit",
            candidate.cost <= COST,
            candidate.cost,
            COST,
            f"The candidate leaves {candidate.cost:.1f} times the expected squared"
            " residual.",
        ),
        Gate(
            "held_out",
            bool(worse <= WORSE + chance),
            worse,
            WORSE + chance,
            f"On windows it had not seen, its error is {worse:+.1%} of the present"
            f" model's; {WORSE:.0%} are allowed and {chance:.0%} could be chance.",
        ),
        *_injection(candidate.model, reference, held, machine),
        _hidden(candidate.model, reference, held),
        _dry_run(candidate.model, present, windows),
    ]
    return _verdict(gates, candidate)


def _window_gates(
    windows: pd.DataFrame, reference: Model, machine: Machine
) -> list[Gate]:
    return [
        *_coverage(windows),
        _inside(windows, reference),
        _excited(windows, reference),
        _repeated(windows),
        *_sensors(windows, reference, machine),
    ]


def _last(windows: pd.DataFrame) -> pd.DataFrame:
    start, stop = windows.index[0], windows.index[-1]
    late = pd.DatetimeIndex(windows.index) > stop - (stop - start) * _HELD_OUT
    return windows.loc[np.asarray(late)]


def _verdict(gates: Iterable[Gate], candidate: Fit | None) -> Verdict:
    gates = tuple(gates)
    failed = [gate for gate in gates if not gate.passed]
    if not failed:
        return Verdict(
            accepted=True, reason="All gates passed.", gates=gates, fit=candidate
        )
    return Verdict(
        accepted=False,
        reason=f"{failed[0].name}: {failed[0].sentence}",
        gates=gates,
        fit=candidate,
    )


def recalibrate(
    windows: pd.DataFrame,
    reference: Model,
    present: Model | None,
    machine: Machine,
    *,
    now: datetime,
    log: Iterable[Maintenance] = (),
    steps: tuple[float, float] = (STEP, STEP_EVENT),
) -> Verdict:
    """Fit a candidate to the last weeks and judge it.

    Parameters
    ----------
    windows : DataFrame
        The recalibration's window of :func:`calibration.steady.windows`.
    reference : Model
        The unit's reference.
    present : Model or None
        The current model in service.
    machine : Machine
        The machine as configured.
    now : datetime
        The clock of the data. UTC.
    log : iterable of Maintenance
        An event of the last 35 days at this unit allows a larger step, and data
        from before the last one are left out.
    steps : tuple of float
        Largest change of a ratio at once, without an event and with one. [1]

    Returns
    -------
    Verdict
        With the candidate, accepted or not.
    """
    events = [
        e.time
        for e in log
        if e.unit == machine.id
        and e.action.value != "note"
        and now - timedelta(days=35) <= e.time <= now
    ]
    if events:
        windows = windows[windows.index > pd.Timestamp(max(events))]
    if not len(windows) or not windows["steady"].any():
        gate = Gate("hours", False, 0.0, LEAST_HOURS, "There is no steady running.")
        return _verdict([gate], None)
    early = _window_gates(windows, reference, machine)
    if not all(gate.passed for gate in early):
        return _verdict(early, None)
    held = _last(windows)
    known = windows[windows.index < held.index[0]] if len(held) else windows
    fit = fit_degradation(windows, reference, machine)
    blind = fit_degradation(known, reference, machine)
    if isinstance(fit, Refusal) or isinstance(blind, Refusal):
        refusal = fit if isinstance(fit, Refusal) else blind
        sentence = refusal.sentence if isinstance(refusal, Refusal) else ""
        gate = Gate("fit", False, float("nan"), COST, sentence)
        return _verdict([*early, gate], None)
    before = present or reference
    # Where the error is at its noise anyway, five per cent of it is luck.
    floor = error_of(known, blind.model)
    held_out = (
        error_of(held, blind.model),
        max(error_of(held, before), floor),
        _doubt(held, blind.model, before),
    )
    return _judge(
        fit,
        before,
        reference,
        windows,
        held,
        machine,
        early,
        held_out,
        bool(events),
        steps,
    )
