"""The flow of a side without a meter, from the energy balance.

Learnt once, frozen with the reference, and a function of the pump's power
alone: it never sees the row that is predicted.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibration.leastsquares import ROBUST
from calibration.model import FlowLaw
from calibration.period import refuse
from calibration.steady import windows as steady_windows
from twin.finding import Refusal
from twin.fluids import heat_capacity
from twin.heatpump import from_nameplate
from twin.plant import Machine

Matrix = NDArray[np.float64]


def _flow_law(
    windows: pd.DataFrame, side: str, loss: float, capacity: float
) -> FlowLaw | None:
    """Learn an unmetered flow from the energy balance of the reference period."""
    other = "source" if side == "sink" else "sink"
    needed = [
        f"{other}_heat_w",
        "compressor_power_w",
        f"{side}_inlet_temp_degc",
        f"{side}_outlet_temp_degc",
    ]
    if any(name not in windows for name in needed):
        return None
    work = (1.0 - loss) * windows["compressor_power_w"]
    sign = 1.0 if side == "sink" else -1.0
    heat = windows[f"{other}_heat_w"] + sign * work
    change = sign * (windows[needed[3]] - windows[needed[2]])
    flow = (heat / (capacity * change)).to_numpy(dtype=float)
    good: NDArray[np.bool_] = np.isfinite(flow) & (flow > 0.0)
    good &= change.to_numpy(dtype=float) > 0.5
    if good.sum() < 20:
        return None
    y = np.log(flow[good])
    pump = f"{side}_pump_power_w"
    degree = 0
    x = np.zeros(len(y))
    if pump in windows:
        power = windows[pump].to_numpy(dtype=float)[good]
        if np.isfinite(power).all() and (power > 0.0).all():
            x = np.log(power)
            degree = 2 if np.std(x) > 0.05 else 0
    law: Matrix = np.array([np.median(y)])
    if degree:
        weight = np.ones(len(y))
        for _ in range(8):  # iterated reweighting, soft_l1
            law = np.polynomial.polynomial.polyfit(x, y, degree, w=np.sqrt(weight))
            rest = y - np.polynomial.polynomial.polyval(x, law)
            sigma = max(1.4826 * float(np.median(np.abs(rest))), 1e-6)
            weight = 1.0 / np.sqrt(1.0 + (rest / (ROBUST * sigma)) ** 2)
    rest = y - np.polynomial.polynomial.polyval(x, law)
    return FlowLaw(
        side=side,
        coefficients=tuple(float(c) for c in law),
        low=float(np.exp(np.quantile(x, 0.005))),
        high=float(np.exp(np.quantile(x, 0.995))),
        scatter=float(1.4826 * np.median(np.abs(rest))),
    )


def learn_flows(frame: pd.DataFrame, machine: Machine) -> tuple[FlowLaw, ...] | Refusal:
    """Learn the flow of every side without a meter from the energy balance.

    From single samples, because a mean over a hunting pump's power is not the
    power of the mean flow.

    Parameters
    ----------
    frame : DataFrame
        Points of one machine over its reference period.
    machine : Machine
        The machine as configured.

    Returns
    -------
    tuple of FlowLaw or Refusal
        Empty if both flows are metered; a refusal if a flow can be had from
        neither a meter nor the balance.
    """
    return learn_from(steady_windows(frame, machine, 0.0), machine)


def learn_from(
    windows: pd.DataFrame, machine: Machine
) -> tuple[FlowLaw, ...] | Refusal:
    """Do what :func:`learn_flows` does, from windows of any length."""
    laws = []
    loss = float(from_nameplate(machine).parameters.heat_loss_ratio)
    ran = windows[windows["compressor_running"].to_numpy(dtype=float) > 1.0 - 1e-9]
    for side, coolant in (("source", machine.source), ("sink", machine.sink)):
        metered = f"{side}_flow_m3_s"
        if metered in machine.points and ran.get(metered, pd.Series()).notna().any():
            continue
        inlet = f"{side}_inlet_temp_degc"
        if inlet not in ran or not ran[inlet].notna().any():
            return refuse(
                "reference.no_inlet",
                f"{machine.id}: {inlet} is not measured.",
                machine.id,
                point=inlet,
            )
        capacity = float(np.asarray(heat_capacity(coolant, float(ran[inlet].median()))))
        law = _flow_law(ran, side, loss, capacity)
        if law is None:
            return refuse(
                "reference.no_flow",
                f"{machine.id}: the {side} flow is neither measured nor can it be had"
                " from the energy balance; measure it, or the heat of the other side"
                " and the power.",
                machine.id,
                side=side,
            )
        laws.append(law)
    return tuple(laws)
