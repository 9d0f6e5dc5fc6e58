"""What physics leaves over in the reference period: scikit-learn's door.

A smooth, small, frozen factor on powers and heats. It sees boundary conditions
and commands only, because whatever lies downstream of a fault would teach it
to explain the fault away; and what it can learn is orthogonal to what each
degradation would do, so that a fault in the reference period does not get in
either. It turns no trend around that physics is sure of. Nothing in it is left
to chance. It is data (JSON): scikit-learn trains, and is not needed to predict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twin.finding import Refusal

CAP = 0.05
"""Largest relative correction that any reference may have. [1]"""
CAP_SIGMA = 2.0
"""The same in standard deviations of what physics left over in it. [1]"""
LEAST_GAIN = 0.10
"""Least relative improvement of the held-out CV(RMSE) that keeps a channel. [1]"""
LEAST_ROWS = 100
_FOLDS = 5
_ALPHAS = (0.1, 1.0, 10.0, 100.0, 1000.0)
_SURE = 0.1  # least slope over its median that counts as a sure sign
_LEFT = 0.1  # share of a sure slope that is left at least

BOUNDARY = frozenset(
    {
        "source_inlet_temp_degc",
        "sink_inlet_temp_degc",
        "source_flow_kg_s",
        "sink_flow_kg_s",
        "source_setpoint_degc",
        "sink_setpoint_degc",
        "compressor_speed_hz",
        "outdoor_temp_degc",
        "wet_bulb_temp_degc",
    }
)
"""Boundary conditions and commands: all that a correction may ever see."""
LOADS = frozenset({"source_heat_w", "sink_heat_w"})
"""May be seen as well, but only as the load that the model is given."""
CHANNELS = ("compressor_power_w", "source_heat_w", "sink_heat_w")
_BY_INPUT = ("centre", "scale", "low", "high")

Matrix = NDArray[np.float64]


class ForbiddenInputError(ValueError):
    """Somebody offered the correction a quantity that carries faults."""


def _admit(columns: Sequence[str], load: str) -> None:
    for name in columns:
        if name not in BOUNDARY and not (name == load and load in LOADS):
            raise ForbiddenInputError(
                f'correction: input "{name}" is not a boundary condition or command;'
                f" allowed are {', '.join(sorted(BOUNDARY))} and the imposed load"
            )


def _terms(unit: Matrix) -> Matrix:
    """Return 1, x, and all products of two of the scaled inputs."""
    rows, width = unit.shape
    columns = [np.ones(rows), *unit.T]
    columns += [unit[:, i] * unit[:, j] for i in range(width) for j in range(i, width)]
    return np.column_stack(columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """A quadratic factor on each kept channel, and where it may be trusted.

    Attributes
    ----------
    inputs, load
        What it sees, and which of it is the imposed load.
    centre, scale
        Of each input over the training rows, in the input's unit.
    low, high
        Range of each scaled input over the training rows. [1]
    spread, reach
        Inverse moment matrix of the terms and the largest leverage in training,
        which together bound the combinations that were seen. [1]
    weights
        Coefficients of the terms by channel. [1]
    gain
        Held-out improvement of the CV(RMSE) by channel, kept or not. [1]
    held
        By channel, how far it was scaled down to keep physics' trends. [1]
    cap
        By channel, the most that is corrected: :data:`CAP`, or
        :data:`CAP_SIGMA` of what physics left over if that is less. [1]
    rows
        How many windows it was trained on. [1]
    """

    inputs: tuple[str, ...]
    load: str
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    spread: tuple[tuple[float, ...], ...]
    reach: float
    weights: Mapping[str, tuple[float, ...]]
    gain: Mapping[str, float]
    rows: int
    held: Mapping[str, float] = field(default_factory=dict)
    cap: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _admit(self.inputs, self.load)
        width = len(self.inputs)
        terms = 1 + width + width * (width + 1) // 2
        for name, found, right in (
            *((n, len(getattr(self, n)), width) for n in _BY_INPUT),
            ("spread", len(self.spread), terms),
            *((f"spread.{k}", len(row), terms) for k, row in enumerate(self.spread)),
            *((f"weights.{n}", len(row), terms) for n, row in self.weights.items()),
        ):
            if found != right:
                raise ValueError(
                    f"correction: {name} has {found} numbers; {width} inputs need"
                    f" {right}"
                )
        for name in self.weights:
            if name not in CHANNELS:
                raise ValueError(
                    f'correction: "{name}" is no channel of {", ".join(CHANNELS)}'
                )

    def _scaled(self, conditions: pd.DataFrame) -> Matrix:
        values = conditions[list(self.inputs)].to_numpy(dtype=float)
        return np.asarray((values - np.asarray(self.centre)) / np.asarray(self.scale))

    def inside(self, conditions: pd.DataFrame) -> NDArray[np.bool_]:
        """Return where the conditions resemble those it was trained on."""
        unit = self._scaled(conditions)
        known = np.isfinite(unit).all(axis=1)
        unit = np.where(np.isfinite(unit), unit, 0.0)
        box = ((unit >= self.low) & (unit <= self.high)).all(axis=1)
        terms = _terms(unit)
        leverage = np.einsum("ij,jk,ik->i", terms, np.asarray(self.spread), terms)
        return np.asarray(known & box & (leverage <= self.reach))

    def factors(self, conditions: pd.DataFrame) -> pd.DataFrame:
        """Return the factor for each kept channel; 1 outside the training range.

        Parameters
        ----------
        conditions : DataFrame
            At least :attr:`inputs`.

        Returns
        -------
        DataFrame
            Factors within 1 -+ :attr:`cap` by channel [1], and ``extrapolating``
            (bool).
        """
        inside = self.inside(conditions)
        unit = np.where(inside[:, None], self._scaled(conditions), 0.0)
        terms = _terms(unit)
        columns: dict[str, Matrix | NDArray[np.bool_]] = {"extrapolating": ~inside}
        for name, weights in self.weights.items():
            cap = min(self.cap.get(name, CAP), CAP)
            raw = np.clip(terms @ np.asarray(weights), -cap, cap)
            columns[name] = 1.0 + np.where(inside, raw, 0.0)
        return pd.DataFrame(columns, index=conditions.index)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON can hold."""
        data = {name: getattr(self, name) for name in self.__slots__}
        named = ("weights", "gain", "held", "cap")
        return data | {name: dict(data[name]) for name in named}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Correction:
        """Return the correction that :meth:`to_dict` wrote.

        Raises
        ------
        ForbiddenInputError
            If the data name an input outside the allow-list.
        """
        return cls(
            inputs=tuple(str(name) for name in data["inputs"]),
            load=str(data["load"]),
            centre=tuple(float(x) for x in data["centre"]),
            scale=tuple(float(x) for x in data["scale"]),
            low=tuple(float(x) for x in data["low"]),
            high=tuple(float(x) for x in data["high"]),
            spread=tuple(tuple(float(x) for x in row) for row in data["spread"]),
            reach=float(data["reach"]),
            weights={
                str(name): tuple(float(x) for x in row)
                for name, row in data["weights"].items()
            },
            gain={str(name): float(x) for name, x in data["gain"].items()},
            rows=int(data["rows"]),
            # Those written before these were kept have neither.
            held={str(k): float(x) for k, x in data.get("held", {}).items()},
            cap={str(k): float(x) for k, x in data.get("cap", {}).items()},
        )


def _cv_rmse(measured: Matrix, predicted: Matrix) -> float:
    error = float(np.sqrt(np.mean((predicted - measured) ** 2)))
    return error / abs(float(np.mean(measured)))


def _terms_by(unit: Matrix, i: int) -> Matrix:
    """Differentiate the terms by the i-th scaled input."""
    rows, width = unit.shape
    columns = [np.zeros(rows)] + [np.full(rows, float(k == i)) for k in range(width)]
    for k in range(width):
        for j in range(k, width):
            by = unit[:, j] * (k == i) + unit[:, k] * (j == i)
            columns.append(by)
    return np.column_stack(columns)


def _blind(terms: Matrix, faults: Matrix | None) -> Matrix:
    """Return a basis of the weights that no degradation can be told by.

    With the sensitivities S of the rows to the degradations, weights w are left
    for which S' T w = 0.
    """
    if faults is None or faults.shape[1] == 0:
        return np.eye(terms.shape[1])
    scale = np.sqrt((faults**2).sum(axis=0))
    seen = faults[:, scale > 0.0] / scale[scale > 0.0]
    # Degradations that look alike take one direction from the correction, not two.
    _, sizes, directions = np.linalg.svd(seen.T @ terms, full_matrices=True)
    rank = int((sizes > 1e-6 * max(sizes[0], 1e-300)).sum()) if len(sizes) else 0
    return np.asarray(directions[rank:].T)


def _held(unit: Matrix, weights: Matrix, trends: Matrix | None) -> float:
    """Return the share of the weights that turns no sure trend of physics around."""
    if trends is None:
        return 1.0
    share = 1.0
    for i in range(unit.shape[1]):
        trend = trends[:, i]
        size = np.abs(trend)
        one_sign = (trend > 0.0).all() or (trend < 0.0).all()
        if not one_sign or size.min() < _SURE * np.median(size):
            continue
        against = -np.sign(trend[0]) * (_terms_by(unit, i) @ weights)
        worst = np.max(against / size)
        if worst > 0.0:
            share = min(share, (1.0 - _LEFT) / float(worst))
    return share


def _learn(
    unit: Matrix,
    target: Matrix,
    alpha: float,
    faults: Matrix | None,
    trends: Matrix | None,
) -> tuple[Matrix, float]:
    """Return the weights, and how far they were scaled down."""
    from sklearn.linear_model import Ridge

    terms = _terms(unit)
    basis = _blind(terms, faults)
    if basis.shape[1] == 0:
        return np.zeros(terms.shape[1]), 1.0
    model = Ridge(alpha=alpha, fit_intercept=False).fit(terms @ basis, target)
    weights = basis @ np.asarray(model.coef_, dtype=float)
    share = _held(unit, weights, trends)
    return weights * share, share


def train(
    conditions: pd.DataFrame,
    measured: pd.DataFrame,
    predicted: pd.DataFrame,
    *,
    load: str = "",
    faults: Mapping[str, Matrix] | None = None,
    trends: Mapping[str, Matrix] | None = None,
) -> Correction | Refusal:
    """Learn the correction from the windows of the reference period.

    Parameters
    ----------
    conditions : DataFrame
        Boundary conditions and commands, and the imposed load; every column is
        used, so a forbidden one is an error and not overlooked.
    measured, predicted : DataFrame
        The channels (:data:`CHANNELS`) as measured and by physics alone.
    load : str
        Which column of the conditions the model is given as its load.
    faults : Mapping, optional
        By channel, what a unit of each degradation does to the logarithm of the
        prediction, rows x degradations; the correction is orthogonal to it. [1]
    trends : Mapping, optional
        By channel, the prediction's logarithm differentiated by each column of
        the conditions, rows x columns. Where physics is sure of a sign, the
        corrected prediction has it too. [1/unit]

    Returns
    -------
    Correction or Refusal
        Only channels whose error in held-out blocks of time fell by at least
        :data:`LEAST_GAIN` are in it; a refusal if none did or rows are few.

    Raises
    ------
    ForbiddenInputError
        If a column of the conditions is not on the allow-list.
    """
    _admit(list(conditions.columns), load)
    channels = [
        name
        for name in CHANNELS
        if name in measured and name in predicted and name != load
    ]
    ratios = {
        name: (measured[name] / predicted[name] - 1.0).to_numpy(dtype=float)
        for name in channels
    }
    inputs = _moving(conditions)
    good = np.isfinite(conditions[inputs].to_numpy(dtype=float)).all(axis=1)
    for name, ratio in ratios.items():
        good &= np.isfinite(ratio) & (np.abs(ratio) < 0.5)
        for slopes in (faults, trends):
            if slopes is not None:
                good &= np.isfinite(slopes[name]).all(axis=1)
    rows = int(good.sum())
    if rows < LEAST_ROWS or not inputs or not channels:
        return Refusal(
            "correction.too_few",
            f"A correction needs {LEAST_ROWS} steady windows of the reference period;"
            f" there are {rows}.",
            {"rows": rows, "needed": LEAST_ROWS, "inputs": inputs},
        )
    values = conditions.loc[good, inputs].to_numpy(dtype=float)
    centre, scale = values.mean(axis=0), values.std(axis=0)
    unit = (values - centre) / scale
    terms = _terms(unit)
    # Contiguous blocks in time: neighbours are too alike to test one another.
    fold = np.arange(rows) * _FOLDS // rows
    columns = [list(conditions.columns).index(name) for name in inputs]

    weights: dict[str, tuple[float, ...]] = {}
    gain: dict[str, float] = {}
    held_back: dict[str, float] = {}
    caps: dict[str, float] = {}
    for name in channels:
        target = ratios[name][good]
        cap = min(CAP, CAP_SIGMA * float(np.std(target)))
        truth = measured[name].to_numpy(dtype=float)[good]
        physics = predicted[name].to_numpy(dtype=float)[good]
        sick = None if faults is None else faults[name][good]
        slope = None if trends is None else trends[name][good][:, columns] * scale

        def learn(
            which: NDArray[np.bool_],
            alpha: float,
            target: Matrix = target,
            sick: Matrix | None = sick,
            slope: Matrix | None = slope,
        ) -> tuple[Matrix, float]:
            return _learn(
                unit[which],
                target[which],
                alpha,
                None if sick is None else sick[which],
                None if slope is None else slope[which],
            )

        best, chosen = math.inf, _ALPHAS[-1]
        for alpha in _ALPHAS:
            guess = np.zeros(rows)
            for k in range(_FOLDS):
                held = fold == k
                found, _ = learn(~held, alpha)
                # What lies beyond the other blocks would not be corrected either.
                low, high = unit[~held].min(axis=0), unit[~held].max(axis=0)
                seen = ((unit[held] >= low) & (unit[held] <= high)).all(axis=1)
                guess[held] = np.where(seen, terms[held] @ found, 0.0)
            error = _cv_rmse(truth, physics * (1.0 + np.clip(guess, -cap, cap)))
            if error < best:
                best, chosen = error, alpha
        before = _cv_rmse(truth, physics)
        gain[name] = 1.0 - best / before if before > 0.0 else 0.0
        if gain[name] >= LEAST_GAIN:
            kept, held_back[name] = learn(np.ones(rows, dtype=bool), chosen)
            weights[name] = tuple(map(float, kept))
            caps[name] = cap
    if not weights:
        return Refusal(
            "correction.no_gain",
            "The correction was not kept: it does not lower the held-out error of any"
            f" channel by {LEAST_GAIN:.0%}.",
            {"gain": gain, "rows": rows},
        )
    moment = terms.T @ terms + 1e-3 * rows * np.eye(terms.shape[1])
    spread = np.linalg.inv(moment)
    leverage = np.einsum("ij,jk,ik->i", terms, spread, terms)
    return Correction(
        inputs=tuple(inputs),
        load=load,
        centre=tuple(map(float, centre)),
        scale=tuple(map(float, scale)),
        low=tuple(map(float, unit.min(axis=0))),
        high=tuple(map(float, unit.max(axis=0))),
        spread=tuple(tuple(map(float, row)) for row in spread),
        reach=float(leverage.max()),
        weights=weights,
        gain=gain,
        rows=rows,
        held=held_back,
        cap=caps,
    )


def _moving(conditions: pd.DataFrame) -> list[str]:
    """Return the inputs that vary; a constant one would divide by zero."""
    deviation = conditions.std()
    level = conditions.abs().mean()
    return [
        str(name)
        for name in conditions.columns
        if deviation[name] > 1e-3 * max(float(level[name]), 1e-9)
    ]


def without_physics(
    conditions: pd.DataFrame, measured: pd.DataFrame, asked: pd.DataFrame
) -> pd.DataFrame:
    """Return what the same terms say when there is no physics beneath them.

    The rival of the twin: a quadratic of the conditions for every channel, not
    capped and not blind to faults.

    Parameters
    ----------
    conditions, measured : DataFrame
        Of the reference period; every column of the latter is a channel.
    asked : DataFrame
        The conditions it is asked about.

    Returns
    -------
    DataFrame
        Its predictions, NaN where a condition is missing. [as measured]
    """
    from sklearn.linear_model import Ridge

    inputs = _moving(conditions)
    values = conditions[inputs].to_numpy(dtype=float)
    known = np.isfinite(values).all(axis=1)
    centre, scale = values[known].mean(axis=0), values[known].std(axis=0)
    late = (asked[inputs].to_numpy(dtype=float) - centre) / scale
    there = np.isfinite(late).all(axis=1)
    columns = {}
    for name in measured.columns:
        truth = measured[name].to_numpy(dtype=float)
        good = known & np.isfinite(truth)
        terms = _terms((values[good] - centre) / scale)[:, 1:]
        model = Ridge(alpha=1.0).fit(terms, truth[good])
        guess = np.full(len(asked), np.nan)
        guess[there] = model.predict(_terms(late[there])[:, 1:])
        columns[name] = guess
    return pd.DataFrame(columns, index=asked.index)
