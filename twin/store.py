"""A stratified water store: layers, what flows through them, and what leaks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twin import fluids
from twin.plant import Coolant

Array = NDArray[np.float64]

_WATER = Coolant()


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A standing tank in equal layers, index 0 at the top.

    Attributes
    ----------
    volume_m3
        Content. [m3]
    loss_w_k
        Conductance of the whole insulation. [W/K]
    mixing_w_k
        Conductance between neighbouring layers: conduction, and the mixing of
        its jets. [W/K]
    coolant
        The liquid.
    """

    volume_m3: float
    loss_w_k: float = 0.0
    mixing_w_k: float = 0.0
    coolant: Coolant = _WATER

    def __post_init__(self) -> None:
        if not (np.isfinite(self.volume_m3) and self.volume_m3 > 0.0):
            raise ValueError(f"volume_m3 = {self.volume_m3!r} is not a positive volume")
        if self.loss_w_k < 0.0 or self.mixing_w_k < 0.0:
            raise ValueError("loss_w_k and mixing_w_k are conductances, not negative")

    def energy(self, layers: ArrayLike, reference: float = 0.0) -> float:
        """Heat content above a reference temperature.

        Parameters
        ----------
        layers : array_like
            Layer temperatures from the top down. [degC]
        reference : float
            Temperature at which the content counts as none. [degC]

        Returns
        -------
        float
            Heat content. [J]
        """
        t = np.asarray(layers, dtype=float)
        return float(np.sum(self._capacity(len(t)) * (t - reference)))

    def step(
        self,
        layers: ArrayLike,
        seconds: float,
        *,
        charge_flow: float = 0.0,
        charge_temp: float = 0.0,
        discharge_flow: float = 0.0,
        return_temp: float = 0.0,
        ambient: float = 20.0,
    ) -> tuple[Array, dict[str, float]]:
        """Advance the layers, and account for every joule.

        Charging enters at the top and leaves at the bottom; discharging the
        other way round. Solved implicitly upwind, so that no step is too long
        and no layer passes its neighbours; layers that would stand warm below
        cold are mixed.

        Parameters
        ----------
        layers : array_like
            Layer temperatures from the top down. [degC]
        seconds : float
            Length of the step. [s]
        charge_flow, discharge_flow : float
            Mass flows. [kg/s]
        charge_temp, return_temp : float
            What enters at the top when charging, at the bottom when
            discharging. [degC]
        ambient : float
            Air around the tank. [degC]

        Returns
        -------
        layers, energies : tuple
            New temperatures [degC]; ``charged``, ``discharged``, ``lost``,
            whose balance is the change of :meth:`energy`, to rounding. [J]

        Raises
        ------
        ValueError
            If a flow is negative or not a number.
        """
        for name, flow in (("charge", charge_flow), ("discharge", discharge_flow)):
            if not flow >= 0.0:
                raise ValueError(
                    f"{name}_flow = {flow!r} kg/s is negative or not a number; "
                    "charge and discharge have a flow each"
                )
        old = np.asarray(layers, dtype=float)
        n = len(old)
        cp = float(fluids.heat_capacity(self.coolant, 60.0))
        down, up = charge_flow * cp, discharge_flow * cp
        capacity = self._capacity(n) / seconds
        loss = self.loss_w_k / n
        matrix = np.zeros((n, n))
        right = capacity * old + loss * ambient
        for i in range(n):
            matrix[i, i] = capacity + loss + down + up
            if i > 0:
                matrix[i, i - 1] -= down + self.mixing_w_k
                matrix[i, i] += self.mixing_w_k
            else:
                right[i] += down * charge_temp
            if i < n - 1:
                matrix[i, i + 1] -= up + self.mixing_w_k
                matrix[i, i] += self.mixing_w_k
            else:
                right[i] += up * return_temp
        new: Array = np.asarray(np.linalg.solve(matrix, right), dtype=float)
        energies = {
            "charged": down * (charge_temp - new[-1]) * seconds,
            "discharged": up * (new[0] - return_temp) * seconds,
            "lost": float(np.sum(loss * (new - ambient))) * seconds,
        }
        return _settled(new), {name: float(v) for name, v in energies.items()}

    def _capacity(self, n: int) -> float:
        """Heat capacity of one layer, at one temperature so that it is conserved."""
        rho = float(fluids.density(self.coolant, 60.0))
        cp = float(fluids.heat_capacity(self.coolant, 60.0))
        return self.volume_m3 * rho * cp / n


def _settled(layers: Array) -> Array:
    """Mix layers until none is warmer than one above it; the sum is kept."""
    blocks: list[tuple[float, int]] = []
    for temp in layers:
        mean, count = float(temp), 1
        while blocks and blocks[-1][0] < mean:
            above, size = blocks.pop()
            mean = (above * size + mean * count) / (size + count)
            count += size
        blocks.append((mean, count))
    return np.concatenate([np.full(count, mean) for mean, count in blocks])
