"""What changed: a part of the machine, or one of the instruments that read it.

Each cause moves the readings along a direction of its own. A fouled condenser
raises discharge pressure and power and leaves the heat balance alone; a probe
that is off moves every quantity that physics computes from it, and the balance.
Every explanation is asked for its evidence, the probability of the readings with
its sizes integrated out, so that one with more freedom pays for it [1]_ [2]_.
None, one cause or several may be meant; where the readings cannot tell, that is
the answer, and the test that would.

.. [1] C.M. Bishop, Pattern Recognition and Machine Learning, section 4.4.1
   (Laplace), eq. 4.137: ln Z = ln p(x^) + ln prior(x^) + M/2 ln 2 pi - 1/2 ln |A|.
.. [2] C.E. Rasmussen, C.K.I. Williams, Gaussian Processes for Machine Learning,
   section 2.3: what physics may miss and what instruments drift without any
   fault are linear states of known variance, and leave the sum as a covariance.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibration.degradation import (
    MEMORY_S,
    coordinates,
    drifts_since_baseline,
    misses,
    problem_of,
)
from calibration.instruments import logarithmic
from calibration.leastsquares import Coordinates, Problem
from calibration.model import Model, conditions, familiar, heat_pump
from calibration.period import LEAST_DAY_HOURS, hours_of, refuse, thin
from calibration.standstill import SIDES
from twin.finding import Refusal
from twin.heatpump import HeatPump
from twin.plant import Machine

Array = NDArray[np.float64]

SURE = 0.95
"""Probability from which an explanation is taken for the answer. [1]"""
_DRIFTED = timedelta(days=365)
_SETTLED = timedelta(days=14)  # no instrument is asked to stand stiller than this
_ROWS = 48
_MOST = 0.7  # of the logarithm of a ratio
_STEPS = 4
_MOST_CAUSES = 3
_WORTH_HEARING = 0.5  # nats that a further cause must promise
_FAR = 10.0  # nats behind the most promising that are too far, if half of it as well
_NEAR = 5.0  # nats: explanations further behind the best are not extended
# Superheat and subcooling follow load and season of themselves, as 1 sigma. [1]
_FOLLOWS = {"superheat": 0.07, "subcooling": 0.05}
_CLIP = 3.0  # sigma: a window further from the median of all counts less
_STRANGE_K, _STRANGE = 6.0, 0.25

# Chance that a cause is there when something was noticed, each on its own; about
# one in five for the machine's parts together and one in eight for instruments.
_PRIOR_EQUIPMENT, _PRIOR_SENSOR = 0.03, 0.01
_PRIOR_GAS = (
    0.002  # a circuit that was never opened and stays above the room's pressure
)
# What a part's fault moves, by name of calibration.degradation.DEGRADATIONS. Lack
# of charge starves the evaporator: superheat rises while subcooling goes.
_PARTS: dict[str, tuple[str, ...]] = {
    "condenser": ("condenser",),
    "evaporator": ("evaporator",),
    "compressor": ("isentropic", "volumetric"),
    "charge": ("subcooling", "superheat"),
    "expansion": ("superheat",),
}
_WORSE = ("condenser", "evaporator", "isentropic", "volumetric")
# What a fault changes elsewhere by being there, as 1 sigma: more superheat dries a
# part of the evaporator, and liquid that is missing leaves the condenser other room.
_INDUCED: dict[str, dict[str, float]] = {
    "charge": {"evaporator": 0.03, "condenser": 0.02},
    "expansion": {"evaporator": 0.03},
}
# How far off a faulty instrument may be, as 1 sigma. [K or 1]
_WRONG_WATER_K, _WRONG_GAS_K, _WRONG = 2.0, 5.0, 0.10
_KNOWN = 0.07  # relative, 1 sigma: how well physics knows what a cause does
_SPREAD = 0.3  # of the largest load, over which gas shows that it is not dirt
_GAS_PRIOR = 0.3  # of the logarithm of the conductance that it looks like
_GAS = ("suction_temp_degc", "compressor_discharge_temp_degc", "liquid_temp_degc")


class Blame(StrEnum):
    """Whether a part of the machine changed or an instrument."""

    EQUIPMENT = "equipment"
    SENSOR = "sensor"


@dataclass(frozen=True, slots=True, order=True)
class Cause:
    """One thing that may have changed.

    Attributes
    ----------
    blame
        Machine or instrument.
    name
        The component, or the point that an instrument reads.
    """

    blame: Blame
    name: str


_PRIOR = {Blame.EQUIPMENT: _PRIOR_EQUIPMENT, Blame.SENSOR: _PRIOR_SENSOR}
GAS = Cause(Blame.EQUIPMENT, "non_condensables")
"""Gas that does not condense; its size is that of the fouling it looks like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Causes that together explain the readings; no cause is the instruments' drift.

    Attributes
    ----------
    causes
        What changed.
    probability
        Of this explanation among those that were asked. [1]
    sizes
        By what moved (a degradation's ratio to the reference [1], a probe's
        offset [K] or an instrument's relative error [1]) its value with the
        95 % interval that this explanation gives it.
    """

    causes: tuple[Cause, ...]
    probability: float
    sizes: dict[str, tuple[float, float, float]]

    def blames(self, blame: Blame) -> bool:
        """Tell whether some cause is of one sort."""
        return any(cause.blame is blame for cause in self.causes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What may have changed, likeliest first.

    Attributes
    ----------
    explanations
        With their probabilities, which add up to one.
    start, stop, windows
        What it rests on. UTC.
    """

    explanations: tuple[Explanation, ...]
    start: datetime
    stop: datetime
    windows: int

    @property
    def best(self) -> Explanation:
        """The likeliest explanation."""
        return self.explanations[0]

    def probability(self, blame: Blame | None = None, name: str = "") -> float:
        """Return how likely a cause of some sort or name is involved. [1].

        Parameters
        ----------
        blame : Blame, optional
            Any where it is left out.
        name : str
            A component or point; any where it is empty.
        """
        return sum(
            told.probability
            for told in self.explanations
            if any(
                (blame is None or cause.blame is blame)
                and (not name or cause.name == name)
                for cause in told.causes
            )
        )

    @property
    def names(self) -> tuple[Cause, ...]:
        """The fewest causes, likeliest first, that hold the truth with :data:`SURE`.

        Of explanations as a whole; several causes of one explanation count each.
        """
        told: list[Cause] = []
        total = 0.0
        for explanation in self.explanations:
            told += [cause for cause in explanation.causes if cause not in told]
            total += explanation.probability
            if total >= SURE:
                break
        return tuple(told)

    def to_dict(self) -> dict[str, Any]:
        """Return what a finding keeps as its evidence."""
        return {
            "windows": self.windows,
            "start": self.start.isoformat(),
            "stop": self.stop.isoformat(),
            "explanations": [
                {
                    "causes": [cause.name for cause in told.causes],
                    "probability": round(told.probability, 4),
                    "sizes": {
                        name: [round(x, 5) for x in size]
                        for name, size in told.sizes.items()
                    },
                }
                for told in self.explanations
                if told.probability >= 0.005
            ],
        }


def diagnose(
    windows: pd.DataFrame,
    model: Model,
    machine: Machine,
    *,
    age: timedelta = _DRIFTED,
    without: Collection[Cause] = (),
    rests: Mapping[str, tuple[float, float]] = MappingProxyType({}),
) -> Diagnosis | Refusal:
    """Ask every explanation for its evidence.

    Parameters
    ----------
    windows : DataFrame
        Of :func:`calibration.steady.windows`: the days since something was
        noticed, a week or two at most.
    model : Model
        The machine's reference.
    machine : Machine
        As configured; ``uncertainty`` says what its instruments may drift.
    age : timedelta
        Since the reference was learnt: instruments wander, so that what they may
        have moved grows with the root of it, up to their class after a year.
    without : collection of Cause
        Causes that are not asked.
    rests : mapping of str to tuple
        By side how far its inlet read above its outlet at rest, less what it did
        when the reference was learnt, and the standard deviation of that. No part
        of the machine can do it. [K]

    Returns
    -------
    Diagnosis or Refusal
        ``diagnosis.too_short`` where there is less than two hours of complete
        steady running near what the reference has seen, ``diagnosis.unsolvable``
        where physics has no answer for most of it.
    """
    pump = heat_pump(model)
    ready = windows["steady"].to_numpy(dtype=bool)
    ready = ready & familiar(windows, model, _STRANGE_K, _STRANGE)
    chosen = windows[ready]
    chosen = chosen[conditions(chosen, model).notna().all(axis=1).to_numpy()]
    if hours_of(chosen) < LEAST_DAY_HOURS or len(chosen) < 3:
        return refuse(
            "diagnosis.too_short",
            f"{machine.id}: {hours_of(chosen):.1f} h of complete steady running near"
            f" what the reference has seen; {LEAST_DAY_HOURS:.1f} h are needed.",
            machine.id,
            hours=hours_of(chosen),
            needed=LEAST_DAY_HOURS,
        )
    used = thin(chosen, _ROWS)
    problem = problem_of(used, model)
    # What a probe was off by when the reference was learnt is no news.
    problem.y = problem.y - np.array([model.offsets.get(n, 0.0) for n in model.outputs])
    unsolved = problem.hold(pump)
    if unsolved > 0.5:
        return refuse(
            "diagnosis.unsolvable",
            f"{machine.id}: physics has no answer for {unsolved:.0%} of the windows.",
            machine.id,
            unsolved=unsolved,
        )
    wandered = float(np.sqrt(min(max(age, _SETTLED) / _DRIFTED, 1.0)))
    court = _Court(problem, pump, model, machine, used, wandered, rests)
    return Diagnosis(
        explanations=_deliberate(court, without),
        start=chosen.index[0].to_pydatetime(),
        stop=chosen.index[-1].to_pydatetime(),
        windows=len(chosen),
    )


# --- evidence -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Verdict:
    """Evidence over that of no cause [nats], and the sizes that carry it."""

    causes: tuple[Cause, ...]
    evidence: float
    sizes: dict[str, tuple[float, float, float]]
    pump: HeatPump
    rest: Array
    noise: _Noise

    @property
    def posterior(self) -> float:
        return self.evidence + sum(
            float(np.log(_PRIOR_GAS if cause == GAS else _PRIOR[cause.blame]))
            for cause in self.causes
        )


class _Court:
    """The readings of some windows, whitened by all that needs no cause.

    What instruments drift and physics misses are states of known variance; they
    are integrated out once, and every explanation is heard before the rest.
    """

    def __init__(
        self,
        problem: Problem,
        pump: HeatPump,
        model: Model,
        machine: Machine,
        used: pd.DataFrame,
        wandered: float,
        rests: Mapping[str, tuple[float, float]],
    ) -> None:
        self.problem, self.pump = problem, pump
        self._rests = [(SIDES[side], *told) for side, told in sorted(rests.items())]
        drifts = drifts_since_baseline(model, machine, used, wandered)
        drifting = problem.drifting(pump, drifts)
        hours = float(used.index[-1].timestamp() - used.index[0].timestamp()) or 1.0
        apart = max(hours / len(used), float(used["window_s"].median()))
        rest = problem.residuals(pump, np.zeros(1))
        self.weight = _weights(rest, problem) / np.sqrt(max(MEMORY_S / apart, 1.0))
        at_rest = self._at_rest(drifting.names)
        read = self._whitened(drifting.effects, at_rest)
        free = read * drifting.sigma
        missed = self._whitened(misses(problem, model))
        follows = coordinates(pump, list(_FOLLOWS))
        slopes = problem.jacobian(pump, follows.names) * follows.slope(np.zeros(2))
        wander = self._whitened(slopes) * np.array(list(_FOLLOWS.values()))
        states = np.hstack([free, missed, wander])
        self.noise = _Noise(states)
        self.rest = self._beside(rest * self.weight)
        # A rest is of no output, and physics has nothing to say of it.
        self._output = np.append(np.nonzero(problem.use)[1], [-1] * len(self._rests))
        laws = {f"{law.side}_flow_kg_s" for law in model.flows}
        # Causes of which the readings are a linear function: column and prior.
        self.linear = {
            Cause(Blame.SENSOR, point_of(name)): (
                read[:, k],
                _wrong(name),
            )
            for k, name in enumerate(drifting.names)
            if name not in laws and name not in ("source_heat_w", "sink_heat_w")
        }
        heat = pump.answer(problem.question, ["sink_heat_w"])[0][:, 0]
        low, high = np.nanquantile(heat, (0.05, 0.95))
        # At one load gas is dirt, and dirt is what it is.
        if (
            "compressor_discharge_pressure_pa" in problem.outputs
            and high - low > _SPREAD * high
        ):
            self.linear[GAS] = (self._gas(heat)[:, 0], _GAS_PRIOR)
        # Without its speed, what a compressor sweeps is not told from how it is run.
        speed = model.given == "compressor_speed_hz"
        self.parts = {
            part: [name for name in names if name != "volumetric" or speed]
            for part, names in _PARTS.items()
        }

    def causes(self) -> list[Cause]:
        """Return all that can be accused with these instruments."""
        return [
            *(Cause(Blame.EQUIPMENT, part) for part in self.parts),
            *self.linear,
        ]

    def _gas(self, heat: Array) -> Array:
        """Return what gas in the condenser does, as large as the dirt it looks like.

        Dirt holds back heat in proportion to it; gas adds a pressure that is there
        at any load, and leaves the liquid as cold as it was: in physics without
        gas a larger subcooling, below a condensing temperature that is not its own.
        """
        moves = coordinates(self.pump, ["condenser", "subcooling"])
        by = moves.slope(np.zeros(2))
        raw = self.problem.jacobian(self.pump, moves.names) * by
        question, liquid = self.problem.question, ["liquid_temp_degc"]
        warmer = self.pump.slopes(question, liquid, moves.names)[1][:, 0, :] * by
        load = (float(np.nanmedian(heat)) / heat)[:, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            below = -(warmer[:, 0] / warmer[:, 1])[:, None]
            column = (raw[..., 0] + raw[..., 1] * below) * load
        return self._whitened(np.where(np.isfinite(column), column, 0.0)[..., None])

    def hear(self, causes: Iterable[Cause]) -> _Verdict:
        """Return the evidence of some causes, over that of none."""
        causes = tuple(sorted(causes))
        parts = [cause.name for cause in causes if cause.name in self.parts]
        # Two parts may move the same thing; it moves once.
        names = list(dict.fromkeys(n for part in parts for n in self.parts[part]))
        induced = {
            name: sigma
            for part in parts
            for name, sigma in _INDUCED.get(part, {}).items()
            if name not in names
        }
        names += induced
        straight = [cause for cause in causes if cause in self.linear]
        free = coordinates(self.pump, names)
        linear = [self.linear[cause] for cause in straight]
        own = [induced.get(n, p) for n, p in zip(names, free.prior, strict=True)]
        prior = np.array([*own, *(sigma for _, sigma in linear)])
        columns = np.stack([c for c, _ in linear], axis=-1) if linear else None
        z: Array = np.zeros(len(prior))
        # A fault makes worse. One that would have to make better is not there.
        worse = np.array(
            [n in _WORSE for n in names] + [cause == GAS for cause in straight]
        )
        live = np.ones(len(prior), dtype=bool)
        for _ in range(_STEPS if names else 2):
            slope, rest = self._at(free, z, columns)
            target = rest + slope @ z
            z = np.zeros(len(prior))
            part = slope[:, live]
            kept = self.noise.kept(part)
            precision = part.T @ kept + np.diag(prior[live] ** -2.0)
            # Gauss and Newton: the residual is linear around where it stands.
            z[live] = np.linalg.solve(precision, kept.T @ target)
            # More than twice the superheat or subcooling is beyond what physics knows.
            z[: len(names)] = np.clip(z[: len(names)], -free.reach, _MOST)
            live &= ~(worse & (z > 0.0))
            z = np.where(live, z, 0.0)
        slope, rest = self._at(free, z, columns)
        noise = self.noise.and_(self._misjudged(self.rest - rest))
        precision = slope.T @ noise.kept(slope) + np.diag(prior**-2.0)
        covariance = np.linalg.inv(precision)
        _, volume = np.linalg.slogdet(precision * np.outer(prior, prior))
        fitted = noise.likelihood(rest) - 0.5 * float(((z / prior) ** 2).sum())
        evidence = fitted - self.noise.likelihood(self.rest) - 0.5 * float(volume)
        half = 1.96 * np.sqrt(np.diag(covariance))
        sizes = {}
        for k, name in enumerate([*names, *(cause.name for cause in straight)]):
            ends = np.array([z[k], z[k] - half[k], z[k] + half[k]])
            ratio = k < len(names) or name == GAS.name
            value, low, high = np.exp(ends) if ratio else ends
            sizes[name] = (float(value), float(low), float(high))
        pump = free.build(z[: len(names)])
        return _Verdict(causes, evidence, sizes, pump, rest, noise)

    def nobody(self) -> _Verdict:
        """Return the verdict that there is no cause."""
        return _Verdict((), 0.0, {}, self.pump, self.rest, self.noise)

    def promising(self, verdict: _Verdict, without: Collection[Cause]) -> list[Cause]:
        """Return what, beside the causes of a verdict, may explain what they leave.

        To first order around where the verdict stands, which a large cause leaves
        by a part of its size; it is cheaper to ask this of all than to hear all.
        """
        gains = {}
        every = list(dict.fromkeys(n for part in self.parts.values() for n in part))
        moves = coordinates(self.pump, every)
        raw = self.problem.jacobian(verdict.pump, moves.names)
        slopes = self._whitened(raw * moves.slope(np.zeros(len(every))))
        for cause in self.causes():
            if cause in verdict.causes or cause in without:
                continue
            if cause in self.linear:
                column, sigma = self.linear[cause]
                columns, prior = column[:, None], np.array([sigma])
            else:
                own = [every.index(n) for n in self.parts[cause.name]]
                columns, prior = slopes[:, own], moves.prior[own]
            kept = verdict.noise.kept(columns) * prior
            precision = np.eye(len(prior)) + (columns * prior).T @ kept
            pull = kept.T @ verdict.rest
            gain = 0.5 * float(pull @ np.linalg.solve(precision, pull))
            gains[cause] = gain - 0.5 * float(np.linalg.slogdet(precision)[1])
        best = max(gains.values())
        least = max(min(best - _FAR, 0.5 * best), _WORTH_HEARING)
        return [cause for cause, gain in gains.items() if gain > least]

    def _misjudged(self, effect: Array) -> Array:
        """Return how far physics may be wrong of what causes did, by output."""
        each = self._output[:, None] == np.arange(len(self.problem.outputs))
        return np.asarray(_KNOWN * np.where(each, effect[:, None], 0.0))

    def _at(
        self, free: Coordinates, z: Array, columns: Array | None
    ) -> tuple[Array, Array]:
        """Return slope and residual where the causes have some size."""
        x, wrong = z[: len(free.names)], z[len(free.names) :]
        slopes = []
        rest = self.rest
        if len(x):
            pump = free.build(x)
            left = self.problem.residuals(pump, np.zeros(1)) * self.weight
            rest = self._beside(left)
            raw = self.problem.jacobian(pump, free.names) * free.slope(x)
            slopes.append(self._whitened(raw))
        if columns is not None:
            rest = rest - columns @ wrong
            slopes.append(columns)
        return np.hstack(slopes), rest

    def _whitened(self, raw: Array, at_rest: Array | None = None) -> Array:
        """Return what a unit of each column does to what is heard, rests last."""
        running = self.problem.whitened(raw) * self.weight[:, None]
        if at_rest is None:
            at_rest = np.zeros((len(self._rests), running.shape[1]))
        return np.vstack([running, at_rest])

    def _beside(self, rest: Array) -> Array:
        """Return residuals of the windows with those of the rests behind them."""
        return np.append(rest, [away / sigma for _, away, sigma in self._rests])

    def _at_rest(self, names: Sequence[str]) -> Array:
        """Return what a unit of each instrument's error does to a pair at rest."""
        signs = np.zeros((len(self._rests), len(names)))
        for row, ((inlet, outlet), _, sigma) in enumerate(self._rests):
            for probe, sign in ((inlet, 1.0), (outlet, -1.0)):
                if probe in names:
                    signs[row, names.index(probe)] = sign / sigma
        return signs


class _Noise:
    """What readings do without any cause: white noise and states of one sigma each."""

    def __init__(self, states: Array) -> None:
        self._states = states
        inner = np.eye(states.shape[1]) + states.T @ states
        self._inner = np.linalg.inv(inner)
        self._volume = float(np.linalg.slogdet(inner)[1])

    def and_(self, states: Array) -> _Noise:
        """Return the same with more states."""
        return _Noise(np.hstack([self._states, states]))

    def kept(self, columns: Array) -> Array:
        """Return what the states leave of columns."""
        return np.asarray(
            columns - self._states @ (self._inner @ (self._states.T @ columns))
        )

    def likelihood(self, rest: Array) -> float:
        """Return the logarithm of a residual's density, but for a constant. [nats]."""
        squares = float(rest @ self.kept(rest[:, None])[:, 0])
        return -0.5 * (squares + self._volume)


def _deliberate(court: _Court, without: Collection[Cause]) -> tuple[Explanation, ...]:
    """Hear single causes, then what extends the best of them, while it helps."""
    heard: dict[tuple[Cause, ...], _Verdict] = {(): court.nobody()}
    asked: set[tuple[Cause, ...]] = set()
    for _ in range(_MOST_CAUSES):
        ranked = sorted(heard.values(), key=lambda v: -v.posterior)
        best = ranked[0].posterior
        leaders = [
            v
            for v in ranked[:3]
            if best - v.posterior < _NEAR
            and v.causes not in asked
            and len(v.causes) < _MOST_CAUSES
        ]
        for leader in leaders:
            asked.add(leader.causes)
            for cause in court.promising(leader, without):
                both = tuple(sorted({*leader.causes, cause}))
                if both not in heard:
                    heard[both] = court.hear(both)
    ranked = sorted(heard.values(), key=lambda v: (-v.posterior, v.causes))
    weights = np.exp([v.posterior - ranked[0].posterior for v in ranked])
    weights /= weights.sum()
    return tuple(
        Explanation(causes=v.causes, probability=float(w), sizes=v.sizes)
        for v, w in zip(ranked, weights, strict=True)
    )


def _weights(rest: Array, problem: Problem) -> Array:
    """Let a window that stands apart from the others count less."""
    whole = np.full(problem.use.shape, np.nan)
    whole[problem.use] = rest
    away = np.abs(whole - np.nanmedian(whole, axis=0))
    away /= np.maximum(1.4826 * np.nanmedian(away, axis=0), 1.0)
    return np.asarray(np.minimum(1.0, _CLIP / np.maximum(away[problem.use], 1e-9)))


def _wrong(name: str) -> float:
    if logarithmic(name):
        return _WRONG
    return _WRONG_GAS_K if name in _GAS else _WRONG_WATER_K


def point_of(name: str) -> str:
    """Return the point whose instrument is behind a quantity."""
    return name.replace("_flow_kg_s", "_flow_m3_s")


_TESTS: tuple[tuple[str, str], ...] = (
    ("_flow_m3_s", "compare {} with a clamp-on meter or with the pump's curve"),
    ("_power_w", "compare {} with a second power meter"),
    ("_pressure_pa", "compare {} with a gauge, at rest with the saturation pressure"),
    ("_speed_hz", "compare {} with the drive's own display"),
    ("_temp_degc", "compare {} with a second probe, or at standstill with its side's"
     " other one"),
)  # fmt: skip
_TESTS_OF_PARTS = {
    "condenser": "look at the condenser's approach at equal load",
    "evaporator": "look at the evaporator's approach at equal load",
    "compressor": "have the compressor's discharge temperature and valves checked",
    "charge": "look at the sight glass and weigh subcooling against superheat",
    "non_condensables": "compare the pressure after four hours at rest with saturation",
    "expansion": "watch the valve's opening and the superheat over an hour",
}


def decisive(causes: Sequence[Cause], blame: Blame | None = None) -> str:
    """Return the tests that tell causes apart, cheapest first, in words.

    Parameters
    ----------
    causes : sequence of Cause
        Which.
    blame : Blame, optional
        Only causes of this sort.

    Returns
    -------
    str
        At most three, as one sentence; empty where there is no cause.
    """
    told = []
    # A probe is checked sooner than a machine is opened.
    for cause in sorted(causes, key=lambda c: c.blame is Blame.EQUIPMENT):
        if blame is not None and cause.blame is not blame:
            continue
        if cause.blame is Blame.SENSOR:
            words = next((w for end, w in _TESTS if cause.name.endswith(end)), "")
            told.append(words.format(cause.name))
        else:
            told.append(_TESTS_OF_PARTS[cause.name])
    text = "; ".join(told[:3])
    return text[:1].upper() + text[1:] + "." if text else ""
