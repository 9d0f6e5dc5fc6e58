"""A buried pair of pre-insulated pipes: what fits through it, and what it loses."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, log, pi

SPEED_M_S = 1.5
"""Speed of the water that a pipe is chosen by. [m/s]"""
_FRICTION_PA_M = 100.0
_FOAM_W_MK = 0.029
_SOIL_W_MK = 1.5
_DEPTH_M = 0.8
_WATER_J_M3K = 4.13e6
_PUMP = 0.6
# Steel service pipe and casing of standard insulation (series 1), by EN 253:
# nominal diameter, outer and inner diameter of the steel, outer of the casing. [mm]
_STEEL: tuple[tuple[int, float, float, float], ...] = (
    (20, 26.9, 21.6, 90.0), (25, 33.7, 28.5, 90.0), (32, 42.4, 37.2, 110.0),
    (40, 48.3, 43.1, 110.0), (50, 60.3, 54.5, 125.0), (65, 76.1, 70.3, 140.0),
    (80, 88.9, 82.5, 160.0), (100, 114.3, 107.1, 200.0), (125, 139.7, 132.5, 225.0),
    (150, 168.3, 160.3, 250.0), (200, 219.1, 210.1, 315.0), (250, 273.0, 263.0, 400.0),
    (300, 323.9, 312.7, 450.0),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pipe:
    """Supply and return, side by side in one trench.

    Attributes
    ----------
    length_m
        Of the trench. [m]
    heat_w
        The most that is to pass. [W]
    spread_k
        Supply less return at that heat. [K]
    """

    length_m: float
    heat_w: float
    spread_k: float

    def __post_init__(self) -> None:
        for name in ("length_m", "heat_w", "spread_k"):
            value = getattr(self, name)
            if not 0.0 < value < inf:
                raise ValueError(f"{name} = {value!r} is not positive")

    @property
    def flow_m3_s(self) -> float:
        """Volume flow at the most heat. [m3/s]."""
        return self.heat_w / (_WATER_J_M3K * self.spread_k)

    @property
    def lines(self) -> int:
        """How many pairs of the largest pipe it takes. [1]."""
        widest = _STEEL[-1][2] * 1e-3
        return max(ceil(self.flow_m3_s / (SPEED_M_S * pi / 4.0 * widest**2)), 1)

    @property
    def nominal(self) -> int:
        """Nominal diameter, DN: the least that carries it at the usual speed."""
        return self._size[0]

    @property
    def _size(self) -> tuple[int, float, float, float]:
        flow = self.flow_m3_s / self.lines
        return next(
            size
            for size in _STEEL
            if flow <= SPEED_M_S * pi / 4.0 * (size[2] * 1e-3) ** 2 * (1 + 1e-9)
        )

    def loss_w(self, supply_degc: float, return_degc: float, soil_degc: float) -> float:
        """Return what both pipes lose to the soil.

        Foam and soil in series, each pipe alone in the soil.

        Parameters
        ----------
        supply_degc, return_degc, soil_degc : float
            Temperatures. [degC]

        Returns
        -------
        float
            Heat of the whole length, of all lines. [W]
        """
        _, steel, _, casing = self._size
        foam = log(casing / steel) / (2.0 * pi * _FOAM_W_MK)
        soil = log(4.0 * _DEPTH_M / (casing * 1e-3)) / (2.0 * pi * _SOIL_W_MK)
        span = (supply_degc - soil_degc) + (return_degc - soil_degc)
        return max(span, 0.0) / (foam + soil) * self.length_m * self.lines

    @property
    def pump_w(self) -> float:
        """Electricity that pumps the most heat through and back. [W]."""
        return 2.0 * self.length_m * _FRICTION_PA_M * self.flow_m3_s / _PUMP
