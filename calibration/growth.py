"""How dirt grows on a surface since its last cleaning, and how far that is known.

Three laws of the fouling resistance compete [1]_: it grows evenly, ever more
slowly as the root of time, or towards a limit that shear keeps it at. While a
surface is young they look alike and lead to different years, so a forecast that
picks one is too sure of itself. Here the best law is named by AICc, and what is
said of the future is drawn from all of them, each with the weight that it has
earned, over the time constants and onsets that the days allow.

Neighbouring days share weather, load and the mood of the instruments: their
errors are an autoregression of the first order, whose memory is one more thing
that is not known and is drawn.

.. [1] Kern and Seaton, British Chemical Engineering 4 (1959) 258; the falling
   rate is that of a deposit through which its own growth must diffuse.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.linalg import block_diag
from scipy.special import logsumexp, ndtri

from twin.finding import Refusal

Array = NDArray[np.float64]

LEAST_DAYS = 21.0
LEAST_SIGNAL = 3.0
LEVEL = 0.05
"""How far from clean a surface may be after its cleaning, one deviation. [1]"""
SEASON = (0.0095, 0.0055, 0.0016)
"""How far model and instruments may err with the season: deviations of the waves of a
year, of half and of a third of one. [1]"""
SHARP = 2.0
"""A day whose own interval is so many times as wide as usual was judged from the few
windows of a weekend or a start, off its load; nothing is learnt from it. [1]"""
_POINTS = 150
_DRAWS = 400
_MEMORY = np.array([0.0, 0.2, 0.4, 0.6, 0.75, 0.87, 0.95])
# Of simulated machines without dirt those of a process hardly wander, the condensers
# of a district 0.4 times as far as the evaporators. Which kind it is the days tell.
_WANDER = np.array([0.1, 0.4, 1.0])
_TAUS = np.geomspace(10.0, 2000.0, 14)
_ONSETS = np.array([0.0, 0.15, 0.3, 0.45, 0.6])
_DAY = 86_400.0
_OUTLIER = 6.0
_USUAL = 0.01  # a day's error, before it is known


class Law(StrEnum):
    """How a fouling resistance grows with time."""

    LINEAR = "linear"
    FALLING_RATE = "falling rate"
    ASYMPTOTIC = "asymptotic"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Growth:
    """What the days since a cleaning tell of the growth, as many possible courses.

    Attributes
    ----------
    since
        The last cleaning, or the start of the record. UTC.
    until
        The last day that it rests on. UTC.
    law
        The law that AICc prefers.
    shares
        The weight of each law. [1]
    level
        What the last cleaning left, or what instruments add. [1]
    scatter
        Standard deviation of a day's resistance around the course. [1]
    memory
        Correlation of the error of one day with the next one's. [1]
    judged
        Days that could be judged. [1]
    """

    since: datetime
    until: datetime
    law: Law
    shares: Mapping[Law, float]
    level: float
    scatter: float
    memory: float
    judged: int
    _law: NDArray[np.int64]
    _tau: Array
    _onset: Array
    _fixed: Array
    _size: Array
    _span: float
    _noise: Array

    @property
    def days(self) -> float:
        """Days of record. [1]."""
        return self._span

    def days_at(self, times: pd.DatetimeIndex) -> Array:
        """Return days since the cleaning at each time. [1]."""
        return _since(times, self.since)

    def few(self, count: int) -> Growth:
        """Return the same with no more courses than that, taken evenly."""
        every = np.unique(np.linspace(0, len(self._size) - 1, count).astype(int))
        return replace(
            self,
            _law=self._law[every],
            _tau=self._tau[every],
            _onset=self._onset[every],
            _fixed=self._fixed[every],
            _size=self._size[every],
            _noise=self._noise[every],
        )

    def grown(self, days: Array) -> Array:
        """Return what has grown since the cleaning, a row for each course.

        As a share of the clean surface's whole resistance. [1]
        """
        now = _shape(self._law, self._tau, self._onset, np.array([self._span]))
        then = _shape(self._law, self._tau, self._onset, days)
        return self._size[:, None] * then / now

    def readings(self, days: Array) -> Array:
        """Return what the twin may read on those days, a row for each course. [1]."""
        course = self.grown(days) + self._fixed @ _steady(self.since, days)
        # An error of conductance weighs the more, the smaller that has become.
        return course + (1.0 + course) * self._noise[:, None]


def _since(times: pd.DatetimeIndex, begin: datetime) -> Array:
    """Return days from a time on. [1]."""
    since = pd.Timestamp(begin)
    return np.asarray((times - since).total_seconds(), dtype=float) / _DAY


def _shape(law: NDArray[np.int64], tau: Array, onset: Array, days: Array) -> Array:
    """Return each course's law at the given days, without its size."""
    ran = np.maximum(days[None, :] - onset[:, None], 0.0)
    return np.choose(law[:, None], [ran, np.sqrt(ran), -np.expm1(-ran / tau[:, None])])


def _steady(since: datetime, days: Array) -> Array:
    """Return what does not grow: a level, and the waves of a year. [1]."""
    turn = 2.0 * np.pi * (since.timetuple().tm_yday + days) / 365.25
    waves = [(np.cos(n * turn), np.sin(n * turn)) for n in range(1, len(SEASON) + 1)]
    return np.stack([np.ones_like(days), *(one for pair in waves for one in pair)])


def _no_days(span: float, judged: int) -> Refusal:
    return Refusal(
        "forecast.too_short",
        f"No forecast: it needs {LEAST_DAYS:.0f} days since the last cleaning;"
        f" there are {span:.0f} with {judged} judged.",
        {"days": span, "judged": judged, "needed": LEAST_DAYS},
    )


def _days(daily: pd.DataFrame) -> pd.DataFrame:
    """Return the resistances with their standard errors, by time."""
    table = daily.sort_values("time", kind="stable")
    value = table["value"].to_numpy(dtype=float)
    width = np.log(table["high"].to_numpy(dtype=float) / table["low"].to_numpy(float))
    kept = np.isfinite(value) & (value > 0.0)
    error = np.where(np.isfinite(width) & (width > 0.0), width, np.nan)
    usual = np.nanmedian(error[kept]) if np.isfinite(error[kept]).any() else 1.0
    weight = np.nan_to_num(error / usual, nan=1.0)
    kept &= weight <= SHARP
    with np.errstate(divide="ignore", invalid="ignore"):
        r = 1.0 / value - 1.0
    return pd.DataFrame(
        {
            "time": pd.DatetimeIndex(table["time"])[kept],
            "r": r[kept],
            "error": (np.maximum(weight, 0.5) * (1.0 + r))[kept],
        }
    )


def _runs(
    daily: pd.DataFrame, since: datetime | None, earlier: Iterable[datetime] | None
) -> tuple[pd.DataFrame, list[tuple[datetime, pd.DataFrame]]]:
    """Return the days since the last cleaning, and the runs before it."""
    table = _days(daily)
    if since is None:
        return table, []
    now = table[table["time"] > pd.Timestamp(since)]
    old = table[table["time"] <= pd.Timestamp(since)]
    if earlier is None or not len(old):
        return now, []
    first = (old["time"].iloc[0] - pd.Timedelta(days=1)).to_pydatetime()
    begins = sorted({first, *(one for one in earlier if first < one < since)})
    return now, [
        (begin, old[(old["time"] > begin) & (old["time"] <= end)])
        for begin, end in itertools.pairwise([*begins, since])
    ]


def _without_outliers(days: Array, r: Array) -> NDArray[np.bool_]:
    """Tell which days lie no farther from their neighbours than days do."""
    middle = pd.Series(r).rolling(9, center=True, min_periods=1).median().to_numpy()
    off = np.abs(r - middle)
    usual = 1.4826 * float(np.median(off))
    return np.asarray(off <= max(_OUTLIER * usual, 1e-9))


def _thinned(days: Array, r: Array, error: Array) -> tuple[Array, Array, Array]:
    """Return means of equal shares where there are more days than are needed."""
    if len(days) <= _POINTS:
        return days, r, error
    width = math.ceil(len(days) / _POINTS)
    first = np.arange(0, len(days), width)
    count = np.diff(np.append(first, len(days)))

    def mean(x: Array) -> Array:
        return np.asarray(np.add.reduceat(x, first) / count)

    return mean(days), mean(r), mean(error)


@dataclass(frozen=True, slots=True)
class _Waves:
    """What is known of the waves of a year before a run has begun.

    A row for each of :data:`_WANDER`: how likely it is, mean and precision of the
    level and the waves.
    """

    chance: Array
    mean: Array
    precision: Array


def _waves(runs: Iterable[tuple[datetime, pd.DataFrame]]) -> _Waves:
    """Learn from the runs between earlier cleanings how the readings wander.

    Dirt is gone with a cleaning; what model and instruments err by in March is not.
    Each run has a level and a growth of its own, even or ever slower, that are of
    no interest here.
    """
    sds = np.array([[LEVEL, *np.repeat(one, 2)] for one in np.outer(_WANDER, SEASON)])
    chance, mean = np.zeros(len(sds)), np.zeros_like(sds)
    precision = sds[:, :, None] ** -2.0 * np.eye(sds.shape[1])
    known = [(begin, table) for begin, table in runs if len(table) >= LEAST_DAYS]
    if not known:
        return _Waves(chance, mean, precision)
    rows, own, read = [], [], []
    for begin, table in known:
        days = _since(pd.DatetimeIndex(table["time"]), begin)
        r = table["r"].to_numpy(dtype=float)
        good = _without_outliers(days, r)
        days, r, error = (
            part[good] for part in (days, r, table["error"].to_numpy(dtype=float))
        )
        rows.append(_steady(begin, days)[1:].T / error[:, None])
        share = days / days[-1]
        own.append(np.stack([np.ones_like(share), share, np.sqrt(share)], 1))
        own[-1] /= error[:, None]
        read.append(r / error)
    x = np.hstack([np.vstack(rows), block_diag(*own)])
    z = np.concatenate(read)
    beta = np.linalg.lstsq(x, z, rcond=None)[0]
    rest = z - x @ beta
    free = max(len(z) - x.shape[1], 1)
    memory = float(np.clip(rest[1:] @ rest[:-1] / max(rest @ rest, 1e-18), 0.0, 0.95))
    # Days that err alike are worth fewer days.
    variance = max(float(rest @ rest) / free, 1e-12) * (1.0 + memory) / (1.0 - memory)
    gram, moment = x.T @ x / variance, x.T @ z / variance
    waves = sds.shape[1] - 1
    for place, deviations in enumerate(sds):
        drawn = np.full(len(beta), 1e-4)
        drawn[:waves] = deviations[1:] ** -2.0
        drawn[waves::3] = LEVEL**-2.0
        pulled = gram + np.diag(drawn)
        inverse = np.linalg.inv(pulled)
        middle = inverse @ moment
        mean[place, 1:] = middle[:waves]
        precision[place, 1:, 1:] = np.linalg.inv(inverse[:waves, :waves])
        chance[place] += 0.5 * (
            moment @ middle - np.linalg.slogdet(pulled)[1] + np.log(drawn).sum()
        )
    return _Waves(chance - logsumexp(chance), mean, precision)


def growth(
    daily: pd.DataFrame,
    *,
    since: datetime | None = None,
    earlier: Iterable[datetime] | None = None,
) -> Growth | Refusal:
    """Learn from the days since a cleaning how the surface fouls.

    Parameters
    ----------
    daily : DataFrame
        ``time`` (UTC), ``value``, ``low`` and ``high``: a surface's conductance
        over the reference's by the day, with its interval. [1]
    since : datetime or None
        The last cleaning; what grew before it is gone. None takes all as one run. UTC.
    earlier : iterable of datetime or None
        The cleanings before the last one: from the days between them the twin learns
        how its readings wander with the season. None leaves those days out. UTC.

    Returns
    -------
    Growth or Refusal
        Refused with fewer than 21 days, or while what has grown is less than
        three of its standard errors.
    """
    table, before = _runs(daily, since, earlier)
    times = pd.DatetimeIndex(table["time"])
    judged = len(times)
    span = (times[-1] - times[0]).total_seconds() / _DAY if judged > 1 else 0.0
    if span < LEAST_DAYS - 1.5 or judged < LEAST_DAYS / 3:
        return _no_days(span, judged)
    begin: datetime = since or (times[0] - pd.Timedelta(days=1)).to_pydatetime()
    every = _since(times, begin)
    r = table["r"].to_numpy(dtype=float)
    good = _without_outliers(every, r)
    t, y, error = _thinned(
        every[good], r[good], table["error"].to_numpy(dtype=float)[good]
    )
    now = float(every[-1])

    onset = _ONSETS * now
    taus = _TAUS
    law, tau, start = (
        np.concatenate(parts)
        for parts in zip(
            *(
                (
                    np.concatenate([[0, 1], np.full(len(taus), 2)]),
                    np.concatenate([[1.0, 1.0], taus]),
                    np.full(len(taus) + 2, begins),
                )
                for begins in onset
            ),
            strict=True,
        )
    )
    law = law.astype(np.int64)
    basis = _shape(law, tau, start, t) / _shape(law, tau, start, np.array([now]))
    fits = _fits(t, y, error, basis, _steady(begin, t), _waves(before))
    count = len(t)
    # Level, size, variance and memory; a time constant; an onset.
    spent = 4.0 + (law == 2) + (start > 0.0)
    aicc = (
        fits.deviance
        + 2.0 * spent
        + 2.0 * spent * (spent + 1) / np.maximum(count - spent - 1.0, 1.0)
    )
    best = int(np.argmin(aicc.min(axis=0)))
    weight, shares = _weights(fits.evidence, aicc, law, start)

    rng = np.random.default_rng(0)
    picks = rng.choice(weight.size, size=_DRAWS, p=weight.ravel())
    memory, shape = np.unravel_index(picks, weight.shape)
    free = max(count - 4.0, 3.0)
    # Evenly spread over the normal law, so that few draws have its quantiles.
    even = ndtri((np.arange(_DRAWS) + 0.5) / _DRAWS)
    known = fits.beta.shape[-1]
    chance = np.stack([rng.permutation(even) for _ in range(known)], axis=-1)
    spread = np.sqrt(free / rng.chisquare(free, _DRAWS))
    root = fits.root[memory, shape]
    beta = fits.beta[memory, shape] + spread[:, None] * np.einsum(
        "nij,nj->ni", root, chance
    )
    grown, doubt = float(beta[:, 0].mean()), float(beta[:, 0].std())
    if grown <= LEAST_SIGNAL * max(doubt, 1e-12):
        return Refusal(
            "forecast.no_growth",
            "No forecast: what has grown since the last cleaning is not more than"
            f" three standard errors ({grown:+.1%} +- {doubt:.1%} of the clean"
            " resistance).",
            {"grown": grown, "standard_error": doubt, "days": span},
        )
    where = int(np.argmax(weight.max(axis=0)))
    course = np.interp(every, t, basis[where])
    chosen = int(np.argmax(weight[:, where]))
    rest = r - fits.beta[chosen, where] @ np.vstack([course, _steady(begin, every)])
    rest /= 1.0 + r
    # What a day may read has the tails that days have had, outliers included.
    odd = np.sort(rest - np.median(rest))
    odd = odd[((np.arange(_DRAWS) + 0.5) / _DRAWS * len(odd)).astype(int)]
    rest = rest[good]
    sigma = fits.sigma[memory, shape]
    scatter = float(np.std(rest, ddof=min(2, len(rest) - 1)))
    return Growth(
        since=begin,
        until=times[-1].to_pydatetime(),
        law=list(Law)[int(law[best])],
        shares={name: float(shares[i]) for i, name in enumerate(Law)},
        level=float(beta[:, 1].mean()),
        scatter=scatter,
        memory=float(np.clip(np.corrcoef(rest[:-1], rest[1:])[0, 1], -1.0, 1.0)),
        judged=judged,
        _law=law[shape],
        _tau=tau[shape],
        _onset=start[shape],
        _fixed=beta[:, 1:],
        # Dirt does not grow backwards.
        _size=np.maximum(beta[:, 0], 0.0),
        _span=now,
        _noise=rng.permutation(odd) * np.maximum(sigma / scatter, 1.0),
    )


@dataclass(frozen=True, slots=True)
class _Fits:
    """Least squares for every memory (rows) and shape (columns)."""

    beta: Array
    root: Array
    sigma: Array
    deviance: Array
    evidence: Array


def _fits(
    t: Array, y: Array, error: Array, basis: Array, steady: Array, waves: _Waves
) -> _Fits:
    """Fit size, level and season of each shape under each memory of the errors.

    The level is drawn towards nothing, for a cleaned surface is about clean, and the
    season towards what is known of it.
    """
    count = len(t)
    gaps = np.diff(t)
    step = float(np.median(gaps))
    columns = [basis, *(np.broadcast_to(one, basis.shape) for one in steady)]
    x = np.stack(columns, axis=-1) / error[None, :, None]
    # Rows: what the readings are beyond the season that each kind expects.
    z = (y - waves.mean @ steady) / error
    # A grain of salt keeps shapes solvable that have barely begun.
    pull = np.zeros((len(z), 1, x.shape[-1], x.shape[-1]))
    pull[:, 0, 0, 0] = 1e-4
    pull[:, 0, 1:, 1:] = waves.precision
    held = (waves.chance + 0.5 * np.linalg.slogdet(waves.precision)[1])[:, None]
    betas, roots, sigmas, deviances, evidences = [], [], [], [], []
    for memory in _MEMORY:
        keeps = memory ** (gaps / step) if memory > 0.0 else np.zeros_like(gaps)
        shrink = np.sqrt(1.0 - keeps**2)
        wx = np.concatenate(
            [x[:, :1], (x[:, 1:] - keeps[:, None] * x[:, :-1]) / shrink[:, None]], 1
        )
        wz = np.concatenate([z[:, :1], (z[:, 1:] - keeps * z[:, :-1]) / shrink], axis=1)
        jacobian = -float(np.log(shrink).sum())
        turned = wx.swapaxes(1, 2)
        gram = turned @ wx
        moment = np.moveaxis(turned @ wz.T, -1, 0)
        whole = (wz**2).sum(axis=1)[:, None]
        # Thrice: what the level is drawn by depends on how much the days scatter.
        variance = np.full((len(z), len(basis)), _USUAL**2)
        for _ in range(3):
            pulled = gram + variance[..., None, None] * pull
            inverse = np.linalg.inv(pulled)
            beta = (inverse @ moment[..., None])[..., 0]
            rest = np.maximum(whole - (beta * moment).sum(axis=-1), 1e-18)
            variance = rest / max(count - 2, 1)
        beta[:, :, 1:] += waves.mean[:, None]
        betas.append(beta)
        roots.append(np.linalg.cholesky(inverse * variance[..., None, None]))
        sigmas.append(np.sqrt(variance))
        deviances.append(count * np.log(rest / count) - 2.0 * jacobian)
        # Of the waves' deviations too: wide ones that nothing shows are unlikely.
        evidences.append(
            jacobian
            + held
            + 0.5 * len(steady) * np.log(variance)
            - 0.5 * np.linalg.slogdet(pulled)[1]
            - 0.5 * (count - 2) * np.log(rest)
        )
    parts = (betas, roots, sigmas, deviances, evidences)
    return _Fits(*(np.concatenate(part) for part in parts))


def _weights(
    evidence: Array, aicc: Array, law: NDArray[np.int64], start: Array
) -> tuple[Array, Array]:
    """Return the weight of every memory and shape, and of every law.

    Between laws, and between an onset and none, AICc decides [2]_; within each,
    what the days say of the time constant, the onset and the memory.

    .. [2] Burnham and Anderson, Model Selection and Multimodel Inference (2002).
    """
    weight = np.full(evidence.shape, -np.inf)
    for one in range(3):
        for late in (False, True):
            mine = (law == one) & ((start > 0.0) == late)
            if not mine.any():
                continue
            inside = evidence[:, mine] - logsumexp(evidence[:, mine])
            weight[:, mine] = inside - 0.5 * aicc[:, mine].min()
    weight = np.exp(weight - logsumexp(weight))
    shares = np.array([weight[:, law == one].sum() for one in range(3)])
    return weight / weight.sum(), shares
