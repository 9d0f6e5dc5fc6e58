"""Robust least squares on the physics' own derivatives, with priors and bounds.

A window that physics cannot solve never counts as a perfect one: the set of
windows is fixed beforehand and a step that loses one of them is made expensive,
so that it is taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares

from calibration.instruments import levels, logarithmic
from twin.heatpump import HeatPump, Question

Matrix = NDArray[np.float64]

_PENALTY = 50.0  # sigma, for a window that stops being solvable
ROBUST = 2.0
"""Where a residual begins to count less than its square. [sigma]"""
ALIKE = 3.0
"""How many neighbouring windows are worth one, where nothing better is known. [1]"""


class Problem:
    """Residuals of a set of windows and their derivatives, for least squares.

    The conditions are put once; every machine that ``pump`` may become is asked.
    The last answer of each kind is kept, for a search asks where it just was.
    """

    _answer: tuple[HeatPump, Matrix] | None = None
    _slopes: tuple[HeatPump, tuple[str, ...], Matrix] | None = None

    def __init__(
        self,
        pump: HeatPump,
        asked: pd.DataFrame,
        measured: pd.DataFrame,
        given: str,
        outputs: Sequence[str],
        sigma: Mapping[str, float],
    ) -> None:
        self.asked, self.given, self.outputs = asked, given, tuple(outputs)
        self.question = pump.question(asked, given)
        self.y = levels(measured[list(outputs)].to_numpy(dtype=float), outputs)
        self.sigma = np.array([sigma[name] for name in outputs])
        self.known = np.isfinite(self.y)
        self.use = self.known.copy()

    def predict(self, pump: HeatPump) -> Matrix:
        """Return the levels of the outputs: rows x outputs."""
        if self._answer is None or self._answer[0] != pump:
            self._answer = (pump, self._ask(pump, self.question))
        return self._answer[1]

    def _ask(self, pump: HeatPump, question: Question) -> Matrix:
        return levels(pump.answer(question, self.outputs)[0], self.outputs)

    def hold(self, pump: HeatPump) -> float:
        """Fix which windows count: those that are solved here. Return the rest."""
        solved = np.asarray(np.isfinite(self.predict(pump)).all(axis=1))
        self.use = self.known & solved[:, None]
        return 1.0 - float(solved.mean())

    def residuals(self, pump: HeatPump, shift: Matrix) -> Matrix:
        """Return what is left over of the windows that count. [sigma]."""
        rest = (self.y - self.predict(pump) - shift) / self.sigma
        rest = np.where(np.isfinite(rest), rest, _PENALTY)
        return np.asarray(rest[self.use], dtype=float)

    def jacobian(self, pump: HeatPump, names: Sequence[str]) -> Matrix:
        """Differentiate the levels: rows x outputs x parameters."""
        if self._slopes is not None and self._slopes[:2] == (pump, tuple(names)):
            return self._slopes[2]
        at, raw = pump.slopes(self.question, self.outputs, names)
        for k, name in enumerate(self.outputs):
            if logarithmic(name):
                raw[:, k, :] /= at[:, k, None]
        self._slopes = (pump, tuple(names), np.where(np.isfinite(raw), raw, 0.0))
        return self._slopes[2]

    def effects(self, pump: HeatPump, names: Sequence[str]) -> Matrix:
        """Return what a unit of each drift does: rows x outputs x drifts."""
        base = self.predict(pump)
        asked = {str(name): x.to_numpy(dtype=float) for name, x in self.asked.items()}
        columns = []
        for name in names:
            if name in self.outputs:
                column = np.zeros_like(base)
                column[:, self.outputs.index(name)] = 1.0
            else:
                # A reading that is too high is a condition that was lower, so
                # what physics makes of the reading is what the drift adds.
                step = 0.01 if logarithmic(name) else 0.1
                value = asked[name]
                moved = value * (1.0 + step) if logarithmic(name) else value + step
                question = pump.question(asked | {name: moved}, self.given)
                column = -(self._ask(pump, question) - base) / step
            columns.append(np.where(np.isfinite(column), column, 0.0))
        return np.stack(columns, axis=-1) if columns else np.zeros((*base.shape, 0))

    def doubt(self, pump: HeatPump) -> None:
        """Let each output's deviation hold how far this machine misses it."""
        rest = np.where(self.use, self.y - self.predict(pump), np.nan)
        for k in range(len(self.outputs)):
            good = rest[np.isfinite(rest[:, k]), k]
            if len(good):
                missed = 1.4826 * np.median(np.abs(good))
                self.sigma[k] = np.hypot(self.sigma[k], missed)

    def whitened(self, raw: Matrix) -> Matrix:
        """Return derivatives of the residuals that count: residuals x columns."""
        return np.asarray((raw / self.sigma[None, :, None])[self.use])

    def drifting(self, pump: HeatPump, drifts: Mapping[str, float]) -> Drifting:
        """Return what instruments that may drift so far, as 1 sigma, can do here."""
        names = [n for n in (*self.asked.columns, *self.outputs) if n in drifts]
        sigma = np.array([drifts[name] for name in names])
        return Drifting(tuple(names), self.effects(pump, names), sigma)


@dataclass(frozen=True, slots=True)
class Drifting:
    """Instruments as states of a fit: what a unit of each does, and its prior.

    ``effects`` is rows x outputs x drifts, ``sigma`` in the drift's unit.
    """

    names: tuple[str, ...]
    effects: Matrix
    sigma: Matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinates:
    """What may move, as numbers of which the prior's mean is 0.

    Attributes
    ----------
    names
        The physics' parameters, one per coordinate.
    prior, reach
        Standard deviation before any data, and how far each may go at most.
    build
        The machine at given coordinates.
    slope
        Each parameter differentiated by its coordinate, at given coordinates.
    """

    names: tuple[str, ...]
    prior: Matrix
    reach: Matrix
    build: Callable[[Matrix], HeatPump]
    slope: Callable[[Matrix], Matrix]


@dataclass(frozen=True, slots=True)
class Answer:
    """Coordinates and drifts at the least squares, and how sure they are.

    ``cost`` is the mean squared residual in units of its expectation,
    ``objective`` half the sum of all squares, those of the priors too. [1]
    """

    x: Matrix
    drift: Matrix
    covariance: Matrix
    cost: float
    objective: float


def minimise(
    problem: Problem,
    free: Coordinates,
    alike: float,
    drifting: Drifting | None = None,
    *,
    start: Matrix | None = None,
) -> Answer:
    """Minimise over coordinates and instrument drifts.

    Parameters
    ----------
    problem : Problem
        The windows.
    free : Coordinates
        What may move.
    alike : float
        How many neighbouring windows are worth one. [1]
    drifting : Drifting, optional
        Instruments that may have drifted; none without it.
    start : ndarray, optional
        Coordinates to begin at, the origin without it.

    Returns
    -------
    Answer
        The least squares and their covariance, coordinates first.
    """
    if drifting is None:
        drifting = Drifting((), np.zeros((*problem.y.shape, 0)), np.zeros(0))
    prior, effects, drift_sigma = free.prior, drifting.effects, drifting.sigma
    count, drifts = len(prior), effects.shape[-1]
    weight = 1.0 / np.sqrt(alike)
    flat = problem.whitened(effects)
    rows = int(problem.use.sum())

    def residual(z: Matrix) -> Matrix:
        x, b = z[:count], z[count:]
        rest = problem.residuals(free.build(x), effects @ b if drifts else np.zeros(1))
        return np.concatenate([rest * weight, x / prior, b / drift_sigma])

    def jacobian(z: Matrix) -> Matrix:
        x = z[:count]
        raw = problem.whitened(problem.jacobian(free.build(x), free.names))
        by = -(raw * free.slope(x)) * weight
        top = np.hstack([by, -flat * weight])
        return np.vstack([top, np.diag(1.0 / np.concatenate([prior, drift_sigma]))])

    def loss(squared: Matrix) -> Matrix:
        # The data are robust; the priors, at the end, are not.
        scale = ROBUST**2 / alike
        t = 1.0 + squared / scale
        rho = np.vstack(
            [2.0 * scale * (np.sqrt(t) - 1.0), t**-0.5, -0.5 / scale * t**-1.5]
        )
        rho[0, rows:], rho[1, rows:], rho[2, rows:] = squared[rows:], 1.0, 0.0
        return rho

    limit = np.concatenate([free.reach, np.full(drifts, 20.0) * drift_sigma])
    begin = np.zeros(count + drifts)
    if start is not None:
        begin[:count] = np.clip(start, -0.99 * free.reach, 0.99 * free.reach)
    found = least_squares(
        residual,
        begin,
        jac=jacobian,
        bounds=(-limit, limit),
        x_scale=np.concatenate([prior, drift_sigma]),
        loss=loss,  # type: ignore[arg-type]
        method="trf",
        ftol=1e-6,
        xtol=1e-6,
        gtol=1e-6,
        max_nfev=40,
    )
    rest = residual(found.x)
    slope = jacobian(found.x)
    importance = loss(rest**2)[1]
    information = slope.T @ (importance[:, None] * slope)
    covariance = np.linalg.inv(information)
    data = rest[:rows] ** 2 * importance[:rows]
    cost = float(data.mean()) * alike if rows else float("nan")
    return Answer(found.x[:count], found.x[count:], covariance, cost, float(found.cost))


def identify(
    problem: Problem,
    pump: HeatPump,
    free: Coordinates,
    enough: float,
    drifting: Drifting | None = None,
) -> tuple[list[int], dict[int, float]]:
    """Drop, worst first, what data and drifts leave as uncertain as the prior.

    Parameters
    ----------
    problem : Problem
        The windows.
    pump : HeatPump
        Where the derivatives are taken; the coordinates' origin.
    free : Coordinates
        The candidates.
    enough : float
        Posterior over prior standard deviation at which one may stay. [1]
    drifting : Drifting, optional
        Instruments that may have drifted.

    Returns
    -------
    list of int, dict
        The kept coordinates, and for each dropped one its posterior over prior.
    """
    prior = free.prior
    by_x = problem.jacobian(pump, free.names) * free.slope(np.zeros(len(prior)))
    slopes = problem.whitened(by_x)
    effects, drift_sigma = np.zeros((len(slopes), 0)), np.zeros(0)
    if drifting is not None:
        effects, drift_sigma = problem.whitened(drifting.effects), drifting.sigma
    kept = list(range(len(prior)))
    dropped: dict[int, float] = {}
    weight = 1.0 / ALIKE
    full = np.hstack([slopes, effects])
    moment = weight * full.T @ full
    rear = list(range(len(prior), full.shape[1]))
    while kept:
        columns = kept + rear
        precision = moment[np.ix_(columns, columns)] + np.diag(
            np.concatenate([prior[kept], drift_sigma]) ** -2.0
        )
        posterior = np.sqrt(np.diag(np.linalg.inv(precision)))[: len(kept)]
        ratio = posterior / prior[kept]
        worst = int(np.argmax(ratio))
        if ratio[worst] <= enough:
            break
        dropped[kept[worst]] = float(ratio[worst])
        del kept[worst]
    return kept, dropped


def inflation(correlation: float) -> float:
    """Return how many correlated windows are worth one independent one. [1]."""
    return (1.0 + correlation) / (1.0 - correlation)
