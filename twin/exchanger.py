"""Heat exchangers between two liquids, and the mean difference that drives them.

Explicit throughout. The evaporator and the condenser of a heat pump are zones
of :mod:`twin.cycle`; coolant distribution units, heat-network stations and the
strainers and pumps around them are here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def log_mean_temp_difference(end_a: ArrayLike, end_b: ArrayLike) -> Array:
    r"""Mean temperature difference that drives a heat exchanger.

    The constant difference that would move the same heat as the real, varying
    one [1]_:

    .. math:: \Delta T_m = (\Delta T_a - \Delta T_b) / \ln(\Delta T_a / \Delta T_b)

    Parameters
    ----------
    end_a, end_b : array_like
        Hot-side less cold-side temperature at either end. [K]

    Returns
    -------
    ndarray
        The mean, that of the limit for equal ends; NaN where an end is not
        positive, because streams that cross mean that a sensor lies. [K]

    References
    ----------
    .. [1] T. L. Bergman et al., Introduction to Heat Transfer, 6th ed.,
       Wiley 2011, sec. 11.3.
    """
    a, b = np.broadcast_arrays(
        np.asarray(end_a, dtype=float), np.asarray(end_b, dtype=float)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        good = (a > 0.0) & (b > 0.0)
        d = (a - b) / (a + b)
        near = np.abs(d) < 1e-3
        quotient = (a - b) / np.log(np.where(near, 2.0, a / b))
        series = 0.5 * (a + b) * (1.0 - d**2 / 3.0 - 4.0 * d**4 / 45.0)
        return np.where(good, np.where(near, series, quotient), np.nan)
