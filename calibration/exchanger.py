"""A clean exchanger: its conductance as a function of both flows."""

from __future__ import annotations

import numpy as np
import pandas as pd

from calibration.leastsquares import ALIKE
from calibration.model import Fit, Model
from calibration.period import (
    LEAST_DAYS,
    LEAST_HOURS,
    long_enough,
    scatter_of,
    span_of,
)
from calibration.registry import Role
from twin.exchanger import PlateExchanger, fit_conductance
from twin.finding import Refusal
from twin.fluids import density, heat_capacity
from twin.plant import Exchanger


def exchanger_windows(windows: pd.DataFrame, exchanger: Exchanger) -> pd.DataFrame:
    """Return an exchanger's windows with an unmetered flow filled from the balance.

    Parameters
    ----------
    windows : DataFrame
        Of :func:`calibration.steady.windows`.
    exchanger : Exchanger
        The exchanger as configured.

    Returns
    -------
    DataFrame
        With ``hot_flow_m3_s`` and ``cold_flow_m3_s``; NaN where there is no heat.
    """
    result = windows.copy()
    for side, coolant in (("hot", exchanger.hot), ("cold", exchanger.cold)):
        name = f"{side}_flow_m3_s"
        if name in exchanger.points and name in windows:
            continue
        inlet = windows[f"{side}_inlet_temp_degc"].to_numpy(dtype=float)
        outlet = windows[f"{side}_outlet_temp_degc"].to_numpy(dtype=float)
        heat = windows["exchanger_heat_w"].to_numpy(dtype=float)
        capacity = heat_capacity(coolant, 0.5 * (inlet + outlet))
        with np.errstate(invalid="ignore", divide="ignore"):
            flow = heat / (capacity * np.abs(inlet - outlet))
            flow = flow / density(coolant, inlet)
        result[name] = np.where(np.isfinite(flow) & (flow > 0.0), flow, np.nan)
    return result


def fit_exchanger(
    windows: pd.DataFrame,
    exchanger: Exchanger,
    *,
    least_hours: float = LEAST_HOURS,
    least_days: int = LEAST_DAYS,
) -> Fit | Refusal:
    """Learn a clean exchanger: its conductance as a function of both flows.

    Parameters
    ----------
    windows : DataFrame
        Of :func:`calibration.steady.windows` over the reference period.
    exchanger : Exchanger
        The exchanger as configured.
    least_hours : float
        Less steady running is refused. [h]
    least_days : int
        Fewer days with any steady running are refused. [1]

    Returns
    -------
    Fit or Refusal
        The reference model. Where the flows hardly change, the films' exponents
        are typical ones and said to be fixed.
    """
    steady = windows[windows["steady"].to_numpy(dtype=bool)]
    ua = steady.get("exchanger_ua_w_k", pd.Series(np.nan, index=steady.index))
    chosen = exchanger_windows(steady[ua.notna()], exchanger) if len(steady) else steady
    refused = long_enough(
        chosen, exchanger.id, least_hours, least_days, " with a conductance"
    )
    if refused is not None:
        return refused
    start, stop, days = span_of(chosen)
    hot, cold = (
        (
            chosen[f"{side}_flow_m3_s"]
            * density(coolant, chosen[f"{side}_inlet_temp_degc"].to_numpy(dtype=float))
        ).to_numpy(dtype=float)
        for side, coolant in (("hot", exchanger.hot), ("cold", exchanger.cold))
    )
    seen = chosen["exchanger_ua_w_k"].to_numpy(dtype=float)
    fixed: dict[str, str] = {}
    varied = [float(np.std(np.log(flow[flow > 0.0]))) for flow in (hot, cold)]
    if max(varied) > 0.03:
        # A film's own exponent needs flows over a wide range; noise would set it.
        exponent = None if min(varied) > 0.25 else 0.7
        plate = fit_conductance(
            hot,
            cold,
            seen,
            hot=exchanger.hot,
            cold=exchanger.cold,
            flow_exponent=exponent,
        )
        if exponent is not None:
            fixed["flow_exponent"] = "the flows vary too little; 0.7 is typical"
    else:
        plate = PlateExchanger(
            ua_w_k=float(np.median(seen)),
            hot_flow_rated_kg_s=float(np.median(hot)),
            cold_flow_rated_kg_s=float(np.median(cold)),
            hot_share=0.45,
            cold_share=0.45,
            hot=exchanger.hot,
            cold=exchanger.cold,
        )
        fixed["films"] = "the flows do not vary; typical shares and exponents"
    rest = np.log(seen / plate.conductance(hot, cold))
    scatter, daily, correlation = scatter_of(rest, chosen.index)
    name = "exchanger_ua_w_k"
    error = scatter / np.sqrt(max(len(rest) / ALIKE, 1.0))
    balance = chosen["exchanger_balance_error"].dropna()
    model = Model(
        unit=exchanger.id,
        role=Role.REFERENCE,
        physics=plate,
        outputs=(name,),
        free=("ua_w_k",),
        values={"ua_w_k": plate.ua_w_k},
        errors={"ua_w_k": plate.ua_w_k * error},
        fixed=fixed,
        tracked=("exchanger",),
        scatter={name: scatter},
        daily_scatter={name: daily},
        correlation={name: correlation},
        range={
            "hot_flow_kg_s": (float(np.nanmin(hot)), float(np.nanmax(hot))),
            "cold_flow_kg_s": (float(np.nanmin(cold)), float(np.nanmax(cold))),
        },
        closure=float(balance.median()) if len(balance) else float("nan"),
    )
    return Fit(
        model=model,
        start=start,
        stop=stop,
        windows=len(chosen),
        days=days,
        cost=1.0,
        correlation=np.ones((1, 1)),
    )
