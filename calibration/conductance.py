"""What an exchanger still passes, at whichever flows one asks.

Dirt is a constant resistance, a clean film is not: where much flows films are
thin, and the same dirt takes a larger share. A model's ratio belongs to the
flows that were usual in its reference period. To compare it with a maker's
promise, ask at rated flows; with what was measured in some weeks, at theirs.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibration.model import Model, conditions, heat_pump
from twin.heatpump import from_nameplate
from twin.plant import Machine

PARTS = ("evaporator", "condenser")


def remaining(
    part: str, current: Model, reference: Model, windows: pd.DataFrame
) -> NDArray[np.float64]:
    """Return the share of its conductance that an exchanger has left, window by window.

    Parameters
    ----------
    part : str
        ``"evaporator"`` or ``"condenser"``.
    current, reference : Model
        A machine as it is and as it was commissioned.
    windows : DataFrame
        Where to ask: windows of :func:`calibration.steady.windows`.

    Returns
    -------
    ndarray
        Conductance of the one over that of the other under the same conditions;
        NaN where physics has no answer for either. [1]
    """
    asked = conditions(windows, reference)
    return _ratio(part, current, reference, asked, reference.given)


def remaining_rated(
    part: str, current: Model, reference: Model, machine: Machine
) -> float:
    """Return the share of its conductance that an exchanger has left as rated.

    Parameters
    ----------
    part : str
        ``"evaporator"`` or ``"condenser"``.
    current, reference : Model
        A machine as it is and as it was commissioned.
    machine : Machine
        The machine as configured; its nameplate is where it is asked.

    Returns
    -------
    float
        Conductance of the one over that of the other at the nameplate's inlet
        temperatures, flows and sink heat; NaN where physics has no answer. [1]
    """
    plate, rated = machine.nameplate, from_nameplate(machine).parameters
    asked = pd.DataFrame(
        {
            "source_inlet_temp_degc": [plate.source_inlet_temp_degc],
            "sink_inlet_temp_degc": [plate.sink_inlet_temp_degc],
            "source_flow_kg_s": [rated.source_flow_rated_kg_s],
            "sink_flow_kg_s": [rated.sink_flow_rated_kg_s],
            "sink_heat_w": [plate.sink_heat_w],
        }
    )
    return float(_ratio(part, current, reference, asked, "sink_heat_w")[0])


def _ratio(
    part: str, current: Model, reference: Model, asked: pd.DataFrame, given: str
) -> NDArray[np.float64]:
    if part not in PARTS:
        raise ValueError(
            f'conductance: "{part}" is no exchanger of a machine; write one of'
            f" {', '.join(PARTS)}"
        )
    found = []
    for model in (current, reference):
        pump = heat_pump(model)
        answer, _ = pump.answer(pump.question(asked, given), (f"{part}_ua_w_k",))
        found.append(answer[:, 0])
    return np.asarray(found[0] / found[1])
