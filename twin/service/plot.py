"""A machine drawn: temperature over heat, pressure over enthalpy, and its map.

Drawn with matplotlib's own canvas, without a display and without a date in the
file, so that the same machine gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twin import fluids
from twin.heatpump import CONDITIONS, HeatPump, Reason

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

_SOURCE, _SINK, _CYCLE, _DOME = "#1f77b4", "#d62728", "#2ca02c", "#888888"


class PlotError(ValueError):
    """An operating point that cannot be drawn, and why."""


def rated_conditions(machine: HeatPump) -> pd.DataFrame:
    """Return the conditions that a machine is drawn at when none are given.

    Returns
    -------
    DataFrame
        One row: 30 degC source, sink 25 K warmer, rated flows and speed.
        [degC, kg/s, Hz]
    """
    p = machine.parameters
    return pd.DataFrame(
        {
            "source_inlet_temp_degc": [30.0],
            "sink_inlet_temp_degc": [55.0],
            "source_flow_kg_s": [p.source_flow_rated_kg_s],
            "sink_flow_kg_s": [p.sink_flow_rated_kg_s],
            "compressor_speed_hz": [machine.rated_speed_hz],
        }
    )


def draw(
    machine: HeatPump,
    folder: Path,
    conditions: pd.DataFrame | None = None,
    given: str = "compressor_speed_hz",
) -> list[Path]:
    """Draw a machine's three diagrams.

    Parameters
    ----------
    machine : HeatPump
        The machine.
    folder : Path
        Where ``temperature_heat.svg``, ``pressure_enthalpy.svg`` and
        ``map.svg`` are written; made if absent.
    conditions : DataFrame, optional
        One operating point, as for :meth:`HeatPump.predict`; else
        :func:`rated_conditions`.
    given : str
        As for :meth:`HeatPump.predict`.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    PlotError
        If there is no cycle under the conditions; the text says why.
    """
    conditions = rated_conditions(machine) if conditions is None else conditions
    point = operating_point(machine, conditions, given)
    folder.mkdir(parents=True, exist_ok=True)
    drawings = {
        "temperature_heat.svg": temperature_heat(machine, point),
        "pressure_enthalpy.svg": pressure_enthalpy(machine, point),
        "map.svg": machine_map(machine, conditions),
    }
    written = []
    for name, figure in drawings.items():
        path = folder / name
        figure.savefig(path, format="svg", metadata={"Date": None})
        written.append(path)
    return written


def operating_point(
    machine: HeatPump, conditions: pd.DataFrame, given: str = "compressor_speed_hz"
) -> pd.Series[Any]:
    """Return a prediction together with its conditions, to be drawn.

    Raises
    ------
    PlotError
        If there is no cycle under the conditions; the text says why.
    """
    answer = machine.predict(conditions, given).iloc[0]
    if answer["reason"] != Reason.SOLVED:
        why = Reason(int(answer["reason"])).name.lower().replace("_", " ")
        raise PlotError(f"no cycle under these conditions: {why}; nothing to draw")
    inlets = conditions.iloc[0][list(CONDITIONS)]
    point: pd.Series[Any] = pd.concat([inlets, answer]).astype(float)
    return point


def temperature_heat(machine: HeatPump, point: pd.Series[Any]) -> Figure:
    """Draw temperature over transferred heat in both exchangers.

    The pinches are where the lines come nearest: at the source's outlet, and
    at the onset of condensing.

    Parameters
    ----------
    machine : HeatPump
        The machine.
    point : Series
        From :func:`operating_point`.

    Returns
    -------
    Figure
        The drawing.
    """
    fluid = fluids.refrigerant(machine.refrigerant)
    t_e, t_c = point["evaporating_temp_degc"], point["condensing_temp_degc"]
    flow = point["refrigerant_flow_kg_s"] / 1e3
    h1 = float(fluid.suction_state(t_e, point["superheat_k"])[1])
    h3 = float(fluid.subcooled_enthalpy(t_c, point["subcooling_k"]))
    h2 = h3 + point["sink_heat_w"] / 1e3 / flow
    figure = _figure()
    left, right = figure.subplots(1, 2, sharey=True)
    heat = np.array(
        [0.0, flow * (float(fluid.vapour_enthalpy(t_e)) - h3), flow * (h1 - h3)]
    )
    left.plot(heat, [t_e, t_e, t_e + point["superheat_k"]], color=_CYCLE)
    left.plot(
        [0.0, heat[-1]],
        [point["source_outlet_temp_degc"], point["source_inlet_temp_degc"]],
        color=_SOURCE,
    )
    left.set_title("evaporator")
    h_l, h_g = float(fluid.liquid_enthalpy(t_c)), float(fluid.vapour_enthalpy(t_c))
    enthalpy = np.concatenate([[h3, h_l], np.linspace(min(h_g, h2), max(h_g, h2), 20)])
    hot = np.concatenate(
        [[t_c - point["subcooling_k"], t_c], fluid.superheated_temp(t_c, enthalpy[2:])]
    )
    right.plot(flow * (enthalpy - h3), hot, color=_CYCLE, label=machine.refrigerant)
    right.plot(
        [0.0, flow * (h2 - h3)],
        [point["sink_inlet_temp_degc"], point["sink_outlet_temp_degc"]],
        color=_SINK,
    )
    right.set_title("condenser")
    for axes in (left, right):
        axes.set_xlabel("heat / kW")
        axes.grid(visible=True, alpha=0.3)
    left.set_ylabel("temperature / °C")
    right.legend(loc="lower right", frameon=False)
    return figure


def pressure_enthalpy(machine: HeatPump, point: pd.Series[Any]) -> Figure:
    """Draw the cycle in the refrigerant's pressure-enthalpy diagram.

    Parameters
    ----------
    machine : HeatPump
        The machine.
    point : Series
        From :func:`operating_point`.

    Returns
    -------
    Figure
        The drawing.
    """
    fluid = fluids.refrigerant(machine.refrigerant)
    t_e, t_c = point["evaporating_temp_degc"], point["condensing_temp_degc"]
    p_e, p_c = (
        point[name] / 1e5
        for name in ("suction_pressure_pa", "compressor_discharge_pressure_pa")
    )
    h1 = float(fluid.suction_state(t_e, point["superheat_k"])[1])
    h3 = float(fluid.subcooled_enthalpy(t_c, point["subcooling_k"]))
    h2 = h3 + point["sink_heat_w"] / point["refrigerant_flow_kg_s"]
    figure = _figure()
    axes = figure.subplots()
    dome = np.linspace(fluid.low + 0.5, fluid.high, 200)
    bars = fluid.saturation_pressure(dome) / 1e5
    for line in (fluid.liquid_enthalpy(dome), fluid.vapour_enthalpy(dome)):
        axes.plot(line / 1e3, bars, color=_DOME, linewidth=1.0)
    axes.plot(
        np.array([h1, h2, h3, h3, h1]) / 1e3,
        [p_e, p_c, p_c, p_e, p_e],
        color=_CYCLE,
        marker="o",
        markersize=4,
    )
    for label, h, p in (("1", h1, p_e), ("2", h2, p_c), ("3", h3, p_c), ("4", h3, p_e)):
        axes.annotate(label, (h / 1e3, p), textcoords="offset points", xytext=(5, 5))
    axes.set_yscale("log")
    axes.set_xlabel("specific enthalpy / (kJ/kg)")
    axes.set_ylabel("pressure / bar")
    axes.set_title(f"{machine.refrigerant}, COP {point['cop']:.2f}")
    axes.grid(visible=True, which="both", alpha=0.3)
    return figure


def machine_map(machine: HeatPump, conditions: pd.DataFrame) -> Figure:
    """Draw COP and heat over the sink's inlet, for three source temperatures.

    Parameters
    ----------
    machine : HeatPump
        The machine, at its rated speed.
    conditions : DataFrame
        One row, whose flows are taken. [kg/s]

    Returns
    -------
    Figure
        The drawing; a line ends where the machine does.
    """
    figure = _figure()
    left, right = figure.subplots(1, 2)
    sink = np.linspace(25.0, 90.0, 66)
    middle = float(conditions["source_inlet_temp_degc"].iloc[0])
    for source in (middle - 10.0, middle, middle + 10.0):
        grid = pd.DataFrame({"sink_inlet_temp_degc": sink})
        grid["source_inlet_temp_degc"] = source
        for name in ("source_flow_kg_s", "sink_flow_kg_s"):
            grid[name] = float(conditions[name].iloc[0])
        grid["compressor_speed_hz"] = machine.rated_speed_hz
        answer = machine.predict(grid)
        shown = answer["cop"] < 12.0
        label = f"source {source:.0f} °C"
        left.plot(sink[shown], answer["cop"][shown], label=label)
        right.plot(sink[shown], answer["sink_heat_w"][shown] / 1e3, label=label)
    _label(left, "COP")
    _label(right, "sink heat / kW")
    left.legend(frameon=False)
    return figure


def _label(axes: Axes, quantity: str) -> None:
    axes.set_xlabel("sink inlet / °C")
    axes.set_ylabel(quantity)
    axes.grid(visible=True, alpha=0.3)


def _figure() -> Figure:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Names inside the file are random without a salt.
    mpl.rcParams["svg.hashsalt"] = "hptwin"
    return Figure(figsize=(8.0, 4.0), layout="constrained")
