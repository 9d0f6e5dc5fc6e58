"""A heat pump as parameters, and what it does under given conditions.

The equations are solved in :mod:`twin.cycle`; here they get the field's names
and units. A user can have a machine from its nameplate alone, from a maker's
table of points, or from a compressor's ten-coefficient polynomials.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twin import compressor, cycle, fluids
from twin.cycle import Options, Reason
from twin.exchanger import log_mean_temp_difference
from twin.plant import Coolant, Machine
from twin.points import POINTS, nearest

Array = NDArray[np.float64]

__all__ = [
    "CONDITIONS",
    "GIVEN",
    "PREDICTED",
    "ConditionError",
    "HeatPump",
    "NameplateError",
    "Parameters",
    "Question",
    "Reason",
    "check_conditions",
    "from_nameplate",
]

CONDITIONS: tuple[str, ...] = (
    "source_inlet_temp_degc",
    "sink_inlet_temp_degc",
    "source_flow_kg_s",
    "sink_flow_kg_s",
)
"""What must be known of the liquids, whatever else is given."""

GIVEN: tuple[str, ...] = (
    "compressor_speed_hz",
    "source_heat_w",
    "sink_heat_w",
    "sink_outlet_temp_degc",
    "source_outlet_temp_degc",
)
"""What may be given besides; the speed is found unless it is given."""

PREDICTED: tuple[str, ...] = (
    "source_outlet_temp_degc",
    "sink_outlet_temp_degc",
    "compressor_power_w",
    "source_heat_w",
    "sink_heat_w",
    "cop",
    "cooling_cop",
    "suction_pressure_pa",
    "compressor_discharge_pressure_pa",
    "suction_temp_degc",
    "compressor_discharge_temp_degc",
    "liquid_temp_degc",
    "evaporating_temp_degc",
    "condensing_temp_degc",
    "superheat_k",
    "subcooling_k",
    "refrigerant_flow_kg_s",
    "compressor_speed_hz",
    "evaporator_ua_w_k",
    "condenser_ua_w_k",
    "isentropic_efficiency",
    "volumetric_efficiency",
)
"""The columns of a prediction, ahead of ``reason``."""

# Exchangers that a machine may have on separate water, by the parameter that says
# so; their conditions are an inlet temperature and a flow each.
_SEPARATE: Mapping[str, str] = {
    "desuperheater": "desuperheater_ua_w_k",
    "subcooler": "subcooler_ua_w_k",
}

# The columns that are one output of the cycle, and what is taken off it.
_DIRECT: Mapping[str, tuple[int, float]] = {
    "source_outlet_temp_degc": (cycle.Y_TSO, fluids.ZERO_DEGC),
    "sink_outlet_temp_degc": (cycle.Y_TKO, fluids.ZERO_DEGC),
    "compressor_power_w": (cycle.Y_W, 0.0),
    "source_heat_w": (cycle.Y_QE, 0.0),
    "sink_heat_w": (cycle.Y_QC, 0.0),
    "suction_pressure_pa": (cycle.Y_PE, 0.0),
    "compressor_discharge_pressure_pa": (cycle.Y_PC, 0.0),
    "suction_temp_degc": (cycle.Y_T1, fluids.ZERO_DEGC),
    "compressor_discharge_temp_degc": (cycle.Y_T2, fluids.ZERO_DEGC),
    "liquid_temp_degc": (cycle.Y_T3, fluids.ZERO_DEGC),
    "evaporating_temp_degc": (cycle.Y_TE, fluids.ZERO_DEGC),
    "condensing_temp_degc": (cycle.Y_TC, fluids.ZERO_DEGC),
    "refrigerant_flow_kg_s": (cycle.Y_MR, 0.0),
    "evaporator_ua_w_k": (cycle.Y_UAE, 0.0),
    "condenser_ua_w_k": (cycle.Y_UAC, 0.0),
    "isentropic_efficiency": (cycle.Y_ETAIS, 0.0),
    "volumetric_efficiency": (cycle.Y_ETAV, 0.0),
    "desuperheater_heat_w": (cycle.Y_QDS, 0.0),
    "subcooler_heat_w": (cycle.Y_QSUB, 0.0),
}
# Differences and quotients of two outputs.
_DIFFERENCES = {
    "superheat_k": (cycle.Y_T1, cycle.Y_TE),
    "subcooling_k": (cycle.Y_TC, cycle.Y_T3),
    "evaporator_approach_k": (cycle.Y_TSO, cycle.Y_TE),
    "condenser_approach_k": (cycle.Y_TC, cycle.Y_TKO),
}
_QUOTIENTS = {
    "cop": (cycle.Y_QC, cycle.Y_W),
    "cooling_cop": (cycle.Y_QE, cycle.Y_W),
    "pressure_ratio": (cycle.Y_PC, cycle.Y_PE),
}


class ConditionError(ValueError):
    """Conditions that name no operating point: a column missing or misspelt."""


class NameplateError(ValueError):
    """A nameplate that no machine of that refrigerant could keep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What a heat pump is, in numbers.

    Attributes
    ----------
    evaporator_ua_w_k, condenser_ua_w_k
        Clean conductance at the rated flows. [W/K]
    evaporator_flow_exponent, condenser_flow_exponent
        How the liquid's share of the resistance falls with its flow. [1]
    isentropic_efficiency
        At a pressure ratio of 3 and rated speed. [1]
    isentropic_pressure_slope, isentropic_pressure_curvature
        Its change with the pressure ratio. [1]
    isentropic_speed_slope, isentropic_speed_curvature, isentropic_cross_slope
        Its change with relative speed, and with both. [1]
    volumetric_efficiency, volumetric_pressure_slope
        Without lift, and what is lost per unit of pressure ratio. [1]
    volumetric_leak
        What more is lost per unit of pressure ratio at rated speed, through
        gaps: of the lower speed it is a larger share. [1]
    swept_flow_m3_s
        Swept volume flow at rated speed. [m3/s]
    motor_efficiency
        Shaft over electrical power, drive included. [1]
    heat_loss_ratio
        Share of the shaft work that leaves as heat to the room. [1]
    idle_loss_ratio
        What drive and motor lose whatever the load, as a share of the power at
        the rated refrigerant flow; it warms the room. [1]
    superheat_k, subcooling_k
        What valve and charge hold. [K]
    evaporator_fouling_k_w, condenser_fouling_k_w
        Resistance of the dirt, over the whole area. [K/W]
    evaporator_liquid_share, condenser_liquid_share
        The liquid's share of the clean resistance at rated flows. [1]
    evaporator_refrigerant_exponent, condenser_refrigerant_exponent
        How the refrigerant's share falls with its flow. [1]
    superheat_zone_ratio, desuperheat_zone_ratio, subcool_zone_ratio
        Conductance of a one-phase zone over that of the two-phase one. [1]
    source_flow_rated_kg_s, sink_flow_rated_kg_s, refrigerant_flow_rated_kg_s
        The flows at which the conductances hold. [kg/s]
    desuperheater_ua_w_k, subcooler_ua_w_k
        Conductance of a separate plate on its own water, 0 where there is
        none. [W/K]
    """

    evaporator_ua_w_k: float
    condenser_ua_w_k: float
    evaporator_flow_exponent: float = 0.65
    condenser_flow_exponent: float = 0.65
    isentropic_efficiency: float = 0.70
    isentropic_pressure_slope: float = 0.0
    isentropic_pressure_curvature: float = 0.0
    isentropic_speed_slope: float = 0.0
    isentropic_speed_curvature: float = 0.0
    isentropic_cross_slope: float = 0.0
    volumetric_efficiency: float = 0.95
    volumetric_pressure_slope: float = 0.02
    swept_flow_m3_s: float
    motor_efficiency: float = 0.93
    heat_loss_ratio: float = 0.03
    superheat_k: float = 5.0
    subcooling_k: float = 4.0
    evaporator_fouling_k_w: float = 0.0
    condenser_fouling_k_w: float = 0.0
    evaporator_liquid_share: float = 0.5
    condenser_liquid_share: float = 0.5
    evaporator_refrigerant_exponent: float = 0.4
    condenser_refrigerant_exponent: float = 0.3
    superheat_zone_ratio: float = 0.25
    desuperheat_zone_ratio: float = 0.25
    subcool_zone_ratio: float = 0.5
    source_flow_rated_kg_s: float
    sink_flow_rated_kg_s: float
    refrigerant_flow_rated_kg_s: float
    desuperheater_ua_w_k: float = 0.0
    subcooler_ua_w_k: float = 0.0
    volumetric_leak: float = 0.0
    idle_loss_ratio: float = 0.0

    def __post_init__(self) -> None:
        for name in cycle.PARAMETERS:
            value = getattr(self, name)
            low, high = _BOUNDS.get(name, (-math.inf, math.inf))
            if not (low <= value <= high) or math.isinf(value):
                raise ValueError(
                    f"parameter {name} = {value!r} is not between {low:g} and {high:g}"
                )

    def to_array(self) -> Array:
        """Return the numbers in the solver's order, :data:`cycle.PARAMETERS`."""
        return np.array([getattr(self, name) for name in cycle.PARAMETERS])

    def to_dict(self) -> dict[str, float]:
        """Return name and number of each parameter."""
        return {name: float(getattr(self, name)) for name in cycle.PARAMETERS}

    @classmethod
    def from_dict(cls, values: Mapping[str, float]) -> Self:
        """Make parameters from names and numbers.

        Raises
        ------
        ValueError
            If a name is unknown, with the nearest known one, or a number is
            out of its bounds.
        """
        return cls(**_known(values))

    def replace(self, values: Mapping[str, float]) -> Parameters:
        """Return these with some changed; raises as :meth:`from_dict` does."""
        return dataclasses.replace(self, **_known(values))


def _known(values: Mapping[str, float]) -> dict[str, float]:
    """Return numbers by names that are parameters, or say which is none."""
    for name in values:
        if name not in cycle.PARAMETERS:
            near = nearest(name, cycle.PARAMETERS)
            raise ValueError(
                f'parameter "{name}" is not known'
                + (f'; write "{near}"' if near else "")
            )
    return {name: float(value) for name, value in values.items()}


_POSITIVE = 1e-12
_WATER = Coolant()
_BOUNDS: Mapping[str, tuple[float, float]] = {
    "evaporator_ua_w_k": (_POSITIVE, 1e12),
    "condenser_ua_w_k": (_POSITIVE, 1e12),
    "evaporator_flow_exponent": (0.0, 2.0),
    "condenser_flow_exponent": (0.0, 2.0),
    "swept_flow_m3_s": (_POSITIVE, 1e6),
    "motor_efficiency": (0.05, 1.0),
    "heat_loss_ratio": (0.0, 0.9),
    "superheat_k": (0.0, 48.0),
    "subcooling_k": (0.0, 48.0),
    "evaporator_liquid_share": (0.0, 1.0),
    "condenser_liquid_share": (0.0, 1.0),
    "superheat_zone_ratio": (1e-6, 1e3),
    "desuperheat_zone_ratio": (1e-6, 1e3),
    "subcool_zone_ratio": (1e-6, 1e3),
    "source_flow_rated_kg_s": (_POSITIVE, 1e9),
    "sink_flow_rated_kg_s": (_POSITIVE, 1e9),
    "refrigerant_flow_rated_kg_s": (_POSITIVE, 1e9),
    "desuperheater_ua_w_k": (0.0, 1e12),
    "subcooler_ua_w_k": (0.0, 1e12),
    "volumetric_leak": (0.0, 1.0),
    "idle_loss_ratio": (0.0, 1.0),
}


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """Conditions as the solver reads them.

    Attributes
    ----------
    inputs
        Rows of :data:`cycle.INPUTS`. [K, kg/s, J/(kg K), J/(kg K2)]
    mode
        What the fifth input is.
    early
        The :class:`Reason` of each row that is not worth asking, 0 of others.
    """

    inputs: Array
    mode: int
    early: NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatPump:
    """A heat pump: its refrigerant, parameters and liquids.

    ``rated_speed_hz`` is the shaft speed that the swept flow belongs to; for a
    machine whose speed nobody knows it is a mere scale, and its predicted
    speed says what fraction of the rated volume flow is drawn. [Hz]
    ``standby_power_w`` is what it draws at standstill. [W]
    """

    refrigerant: str
    parameters: Parameters
    source: Coolant = _WATER
    sink: Coolant = _WATER
    rated_speed_hz: float = 50.0
    standby_power_w: float = 0.0

    def __post_init__(self) -> None:
        for problem in (
            fluids.check_refrigerant(self.refrigerant),
            fluids.check_coolant(self.source),
            fluids.check_coolant(self.sink),
        ):
            if problem is not None:
                raise fluids.FluidError(problem)
        if not (np.isfinite(self.rated_speed_hz) and self.rated_speed_hz > 0.0):
            raise ValueError(
                f"rated_speed_hz = {self.rated_speed_hz!r} is not a positive speed"
            )

    def replace(self, **parameters: float) -> HeatPump:
        """Return the same machine with some parameters changed.

        Raises
        ------
        ValueError
            If a name is not a parameter, with the nearest one that is.
        """
        return dataclasses.replace(self, parameters=self.parameters.replace(parameters))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers and strings, for JSON."""
        return {
            "refrigerant": self.refrigerant,
            "source": dataclasses.asdict(self.source),
            "sink": dataclasses.asdict(self.sink),
            "rated_speed_hz": self.rated_speed_hz,
            "standby_power_w": self.standby_power_w,
            "parameters": self.parameters.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make the machine that :meth:`to_dict` described."""
        return cls(
            refrigerant=values["refrigerant"],
            parameters=Parameters.from_dict(values["parameters"]),
            source=Coolant(**values["source"]),
            sink=Coolant(**values["sink"]),
            rated_speed_hz=float(values["rated_speed_hz"]),
            standby_power_w=float(values["standby_power_w"]),
        )

    def predict(
        self,
        conditions: pd.DataFrame,
        given: str = "compressor_speed_hz",
        *,
        options: Options | None = None,
    ) -> pd.DataFrame:
        """Say what the machine does under conditions.

        Parameters
        ----------
        conditions : DataFrame
            Columns :data:`CONDITIONS` and the given one, as in the vocabulary.
            Others are ignored. [degC, kg/s, Hz or W]
        given : str
            Which of :data:`GIVEN` is known; the rest is found, the speed too.
        options : Options, optional
            Tolerance and limits of the relative speed.

        Returns
        -------
        DataFrame
            The rows of ``conditions`` with the columns :data:`PREDICTED` and
            ``reason``, a :class:`Reason` as a number. Heating and cooling are
            the same row: ``sink_heat_w`` with ``cop``, ``source_heat_w`` with
            ``cooling_cop``. A row without an answer is NaN throughout and its
            reason says why. [degC, K, W, Pa, kg/s, Hz, W/K, 1]

            A desuperheater or subcooler on its own water needs its
            ``_inlet_temp_degc`` and ``_flow_kg_s`` and adds its ``_heat_w`` and
            ``_outlet_temp_degc``. The sink heat is then that of all three, the
            sink outlet that of the condenser, and the liquid temperature the
            one ahead of the subcooler.

        Raises
        ------
        ConditionError
            If a column is missing, or ``given`` is none of those.

        Notes
        -----
        The heat capacity of a liquid is taken linear in temperature from its
        inlet on, so that heat, flow and temperatures agree with
        ``flow * heat_capacity(mean temperature) * difference``.
        """
        question = self.question(conditions, given)
        separate = [
            name
            for name, parameter in _SEPARATE.items()
            if getattr(self.parameters, parameter) > 0.0
        ]
        names = [*PREDICTED, *(f"{name}_heat_w" for name in separate)]
        answer, reasons = self.answer(question, names, options=options)
        frame = pd.DataFrame(answer, index=conditions.index, columns=names)
        for name in separate:
            place = cycle.INPUTS.index(f"{name}_inlet_temp")
            inlet = question.inputs[:, place] - fluids.ZERO_DEGC
            heat = frame[f"{name}_heat_w"].to_numpy()
            with np.errstate(invalid="ignore", divide="ignore"):
                rise = heat / question.inputs[:, place + 1]
            frame[f"{name}_outlet_temp_degc"] = inlet + np.where(heat == 0.0, 0.0, rise)
        frame["reason"] = reasons
        return frame

    def question(
        self, conditions: pd.DataFrame | Mapping[str, Array], given: str
    ) -> Question:
        """Put conditions as the solver reads them, to be asked of many machines.

        Parameters
        ----------
        conditions, given
            As for :meth:`predict`.

        Returns
        -------
        Question
            It may be asked of every machine with the same liquids, rated speed
            and exchangers on separate water: of all that calibration makes of
            this one by :meth:`replace`.

        Raises
        ------
        ConditionError
            If a column is missing, or ``given`` is none of those.
        """
        if given not in GIVEN:
            raise ConditionError(_unknown("given", given, GIVEN))
        for name in (*CONDITIONS, given):
            if name not in conditions:
                near = nearest(name, [str(c) for c in conditions])
                raise ConditionError(
                    f'conditions have no column "{name}"'
                    + (f'; is it "{near}"?' if near else "")
                )
        columns = {
            name: np.asarray(conditions[name], dtype=float)
            for name in (*CONDITIONS, given)
        }
        t_s, t_k = columns["source_inlet_temp_degc"], columns["sink_inlet_temp_degc"]
        m_s, m_k = columns["source_flow_kg_s"], columns["sink_flow_kg_s"]
        cp_s, cp_k = (
            fluids.heat_capacity(self.source, t_s),
            fluids.heat_capacity(self.sink, t_k),
        )
        slope_s = fluids.heat_capacity_slope(self.source, t_s)
        slope_k = fluids.heat_capacity_slope(self.sink, t_k)
        mode, value = cycle.GIVEN_SPEED, columns[given]
        if given == "compressor_speed_hz":
            value = value / self.rated_speed_hz
        elif given == "source_heat_w":
            mode = cycle.GIVEN_SOURCE_HEAT
        elif given == "sink_heat_w":
            mode = cycle.GIVEN_SINK_HEAT
        elif given == "source_outlet_temp_degc":
            mode, fall = cycle.GIVEN_SOURCE_HEAT, t_s - value
            value = m_s * (cp_s - 0.5 * slope_s * fall) * fall
        else:
            mode, rise = cycle.GIVEN_SINK_HEAT, value - t_k
            value = m_k * (cp_k + 0.5 * slope_k * rise) * rise
        inputs = np.column_stack(
            [
                t_s + fluids.ZERO_DEGC,
                m_s,
                t_k + fluids.ZERO_DEGC,
                m_k,
                value,
                cp_s,
                cp_k,
                slope_s,
                slope_k,
            ]
        )
        inputs = np.hstack([inputs, self._separate(conditions, given)])
        early = np.zeros(len(inputs), dtype=np.int8)
        with np.errstate(invalid="ignore"):
            for name, column in columns.items():
                point = POINTS[name]
                early[(column < point.low) | (column > point.high)] = Reason.IMPLAUSIBLE
            early[(t_s < fluids.freezing_point(self.source)) & (early == 0)] = (
                Reason.FROZEN
            )
            early[(t_k < fluids.freezing_point(self.sink)) & (early == 0)] = (
                Reason.FROZEN
            )
            early[(m_s <= 0.0) | (m_k <= 0.0)] = Reason.NO_FLOW
        for column in columns.values():
            early[np.isnan(column)] = Reason.NO_INPUT
        return Question(inputs, mode, early)

    def answer(
        self,
        question: Question,
        names: Sequence[str],
        *,
        options: Options | None = None,
    ) -> tuple[Array, NDArray[np.int8]]:
        """Answer as :meth:`predict` does, in bare numbers and only what is asked.

        Parameters
        ----------
        question : Question
            Of :meth:`question`.
        names : sequence of str
            Of :data:`PREDICTED`, or an approach or ``pressure_ratio``.
        options : Options, optional
            Tolerance and limits of the relative speed.

        Returns
        -------
        answer, reasons : ndarray
            Rows x names, all NaN in a row without an answer, and the
            :class:`Reason` of each row.
        """
        tables = fluids.refrigerant(self.refrigerant).tables
        outputs, reasons = cycle.solve(
            question.inputs, self.parameters.to_array(), question.mode, tables, options
        )
        self._overrule(outputs, reasons, question.early)
        return self._columns(names, outputs), reasons

    def slopes(
        self,
        question: Question,
        outputs: Sequence[str],
        parameters: Sequence[str],
        *,
        options: Options | None = None,
    ) -> tuple[Array, Array]:
        """Answer, and differentiate the answer by the machine's parameters.

        Parameters
        ----------
        question : Question
            Of :meth:`question`.
        outputs : sequence of str
            As for :meth:`answer`.
        parameters : sequence of str
            Of :data:`cycle.PARAMETERS`.
        options : Options, optional
            Tolerance and limits of the relative speed.

        Returns
        -------
        answer, slopes : ndarray
            Rows x outputs, and rows x outputs x parameters; NaN in rows without
            an answer. [output/parameter]
        """
        raw, reasons, full = cycle.differentiate(
            question.inputs,
            self.parameters.to_array(),
            question.mode,
            fluids.refrigerant(self.refrigerant).tables,
            tuple(parameters),
            options,
        )
        self._overrule(raw, reasons, question.early)
        slopes = self._slopes_of(outputs, raw, full)
        slopes[reasons != Reason.SOLVED] = np.nan
        return self._columns(outputs, raw), slopes

    def sensitivities(
        self,
        conditions: pd.DataFrame,
        given: str,
        outputs: Sequence[str],
        parameters: Sequence[str],
        *,
        options: Options | None = None,
    ) -> Array:
        """Differentiate outputs with respect to parameters and conditions.

        By the implicit-function theorem: each row is solved once.

        Parameters
        ----------
        conditions, given, options
            As for :meth:`predict`.
        outputs : sequence of str
            Of :data:`PREDICTED`, or an approach or ``pressure_ratio``.
        parameters : sequence of str
            Of :data:`cycle.PARAMETERS`, :data:`CONDITIONS` or the given one.

        Returns
        -------
        ndarray
            Rows x outputs x parameters, NaN in rows without an answer.
            [output/parameter]

        Raises
        ------
        ConditionError
            If a column is missing, or an output or parameter is unknown.
        """
        columns = [*CONDITIONS, given]
        separate = [
            f"{name}_{what}"
            for name, parameter in _SEPARATE.items()
            if getattr(self.parameters, parameter) > 0.0
            for what in ("inlet_temp_degc", "flow_kg_s")
        ]
        columns += separate
        known = (*cycle.PARAMETERS, *columns)
        for name in parameters:
            if name not in known:
                raise ConditionError(_unknown("parameter", name, known))
        results = (*_DIRECT, *_DIFFERENCES, *_QUOTIENTS, "compressor_speed_hz")
        for name in outputs:
            if name not in results:
                raise ConditionError(_unknown("output", name, results))
        of_machine = [name for name in parameters if name in cycle.PARAMETERS]
        of_rows = [name for name in parameters if name in columns]
        wanted = (*of_machine, *(cycle.INPUTS if of_rows else ()))
        question = self.question(conditions, given)
        raw, reasons, jacobian = cycle.differentiate(
            question.inputs,
            self.parameters.to_array(),
            question.mode,
            fluids.refrigerant(self.refrigerant).tables,
            wanted,
            options,
        )
        self._overrule(raw, reasons, question.early)
        full = np.empty((len(raw), raw.shape[1], len(parameters)))
        for k, name in enumerate(parameters):
            if name in of_machine:
                full[:, :, k] = jacobian[:, :, of_machine.index(name)]
                continue
            # A condition acts through several inputs: a warmer inlet has
            # another heat capacity, and another heat for the same outlet.
            by_input = jacobian[:, :, len(of_machine) :]
            step = 1e-4
            moved = []
            for sign in (1.0, -1.0):
                shifted = conditions.loc[:, columns].astype(float)
                size = np.maximum(np.abs(shifted[name].to_numpy()), 1.0)
                shifted[name] += sign * step * size
                moved.append(self.question(shifted, given).inputs)
            change = (moved[0] - moved[1]) / (2.0 * step * size)[:, None]
            full[:, :, k] = np.einsum("ryi,ri->ry", by_input, change)
        answer = self._slopes_of(outputs, raw, full)
        answer[reasons != Reason.SOLVED] = np.nan
        return answer

    def _slopes_of(self, outputs: Sequence[str], raw: Array, full: Array) -> Array:
        answer = np.empty((len(raw), len(outputs), full.shape[2]))
        for j, name in enumerate(outputs):
            if name in _DIRECT:
                answer[:, j] = full[:, _DIRECT[name][0]]
            elif name in _DIFFERENCES:
                a, b = _DIFFERENCES[name]
                answer[:, j] = full[:, a] - full[:, b]
            elif name in _QUOTIENTS:
                a, b = _QUOTIENTS[name]
                quotient = (raw[:, a] / raw[:, b])[:, None]
                answer[:, j] = (full[:, a] - quotient * full[:, b]) / raw[:, b, None]
            else:
                answer[:, j] = full[:, cycle.Y_N] * self.rated_speed_hz
        return answer

    def _columns(self, names: Sequence[str], outputs: Array) -> Array:
        answer = np.empty((len(outputs), len(names)))
        for j, name in enumerate(names):
            answer[:, j] = self._column(name, outputs)
        return answer

    def _column(self, name: str, outputs: Array) -> Array:
        if name in _DIRECT:
            column, less = _DIRECT[name]
            return outputs[:, column] - less
        if name in _DIFFERENCES:
            a, b = _DIFFERENCES[name]
            return outputs[:, a] - outputs[:, b]
        if name in _QUOTIENTS:
            a, b = _QUOTIENTS[name]
            return outputs[:, a] / outputs[:, b]
        return outputs[:, cycle.Y_N] * self.rated_speed_hz

    def _separate(
        self, conditions: pd.DataFrame | Mapping[str, Array], given: str
    ) -> Array:
        """Return inlet and capacity flow of each exchanger on separate water."""
        answer = np.zeros((len(conditions[given]), 2 * len(_SEPARATE)))
        for place, (name, parameter) in enumerate(_SEPARATE.items()):
            if not getattr(self.parameters, parameter) > 0.0:
                continue
            if given == "sink_outlet_temp_degc":
                raise ConditionError(
                    f"a machine with a {name} has more than one sink outlet; give "
                    "sink_heat_w, which is all of its heat"
                )
            columns = (f"{name}_inlet_temp_degc", f"{name}_flow_kg_s")
            for column in columns:
                if column not in conditions:
                    raise ConditionError(
                        f'conditions have no column "{column}", and {parameter} says '
                        f"that there is a {name}"
                    )
            temp, flow = (np.asarray(conditions[c], dtype=float) for c in columns)
            answer[:, 2 * place] = temp + fluids.ZERO_DEGC
            capacity = np.maximum(flow, 0.0) * fluids.heat_capacity(self.sink, temp)
            answer[:, 2 * place + 1] = capacity
        return answer

    def _overrule(
        self,
        outputs: Array,
        reasons: NDArray[np.int8],
        early: NDArray[np.int8],
    ) -> None:
        np.copyto(reasons, early, where=early != 0)
        freezing = fluids.freezing_point(self.source)
        with np.errstate(invalid="ignore"):
            ice = outputs[:, cycle.Y_TSO] - fluids.ZERO_DEGC < freezing
        reasons[ice & (reasons == 0)] = Reason.FROZEN
        outputs[reasons != 0] = np.nan


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    near = nearest(name, list(known))
    hint = f'; write "{near}"' if near else f"; it is one of {', '.join(known)}"
    return f'{what} "{name}" is not known{hint}'


def check_conditions(conditions: pd.DataFrame) -> list[str]:
    """Name what is wrong with conditions as a whole, before anything is computed.

    Parameters
    ----------
    conditions : DataFrame
        Columns of the vocabulary.

    Returns
    -------
    list of str
        A sentence per problem: what was found, and what it looks like. Empty
        if there is none.
    """
    problems = []
    for name in conditions.columns:
        if name not in POINTS:
            near = nearest(str(name), list(POINTS))
            hint = f'; write "{near}"' if near else ""
            problems.append(f'column "{name}" is not in the vocabulary{hint}')
            continue
        point = POINTS[name]
        values = conditions[name].to_numpy(dtype=float)
        bad = (values < point.low) | (values > point.high)
        if not bad.any():
            continue
        worst = float(values[bad][0])
        looks = ""
        if point.unit == "degC" and 200.0 < worst < 450.0:
            looks = "; it looks like kelvin, subtract 273.15"
        elif point.unit == "Pa" and 0.0 < worst < 100.0:
            looks = "; it looks like bar, multiply by 100 000"
        elif point.unit == "Pa" and 100.0 <= worst < 1e4:
            looks = "; it looks like kPa, multiply by 1000"
        elif "flow" in name and worst < 0.0:
            looks = "; a flow is never negative, is the meter mounted backwards?"
        problems.append(
            f"{name}: {int(bad.sum())} of {len(values)} values are outside "
            f"{point.low:g} to {point.high:g} {point.unit}, the first is "
            f"{worst:g}{looks}"
        )
    for inlet, outlet, sign, word in (
        ("source_inlet_temp_degc", "source_outlet_temp_degc", 1.0, "cooled"),
        ("sink_inlet_temp_degc", "sink_outlet_temp_degc", -1.0, "heated"),
    ):
        if inlet in conditions and outlet in conditions:
            fall = sign * (conditions[inlet] - conditions[outlet]).dropna()
            if len(fall) and float(fall.median()) < 0.0:
                problems.append(
                    f"{inlet} and {outlet} look swapped: this liquid is {word} by the "
                    "machine, and the columns say the opposite"
                )
    source, sink = "source_inlet_temp_degc", "sink_inlet_temp_degc"
    if source in conditions and sink in conditions:
        lift = (conditions[sink] - conditions[source]).dropna()
        if len(lift) and float(lift.median()) < 0.0:
            problems.append(
                f"{source} is above {sink} most of the time: are source (what is "
                "cooled) and sink (what is heated) swapped?"
            )
    return problems


# What a nameplate does not say: the approaches of a good plate exchanger.
_EVAPORATOR_APPROACH_K = 3.0
_CONDENSER_APPROACH_K = 2.0
_PLAUSIBLE_EFFICIENCY = (0.55, 0.82)


def from_nameplate(machine: Machine) -> HeatPump:
    """Make a machine that keeps its nameplate, from that and typical numbers.

    Conductances, swept volume and isentropic efficiency are solved so that the
    nameplate's point is reproduced. Where it says nothing, a typical machine
    of its kind speaks: approaches of 3 K and 2 K where it tells no saturation
    temperatures (wider or narrower if the efficiency would otherwise be
    implausible), 5 K superheat, 4 K subcooling.

    Parameters
    ----------
    machine : Machine
        As configured.

    Returns
    -------
    HeatPump
        The machine at its rated speed, 50 Hz where the nameplate has none.

    Raises
    ------
    FluidError
        If the refrigerant or a coolant cannot be used.
    NameplateError
        If no such machine can be: the text says which number is wrong.
    """
    plate = machine.nameplate
    t_si, t_so = plate.source_inlet_temp_degc, plate.source_outlet_temp_degc
    t_ki, t_ko = plate.sink_inlet_temp_degc, plate.sink_outlet_temp_degc
    where = f"{machine.id}: nameplate"
    if not t_si > t_so:
        raise NameplateError(
            f"{where}: the source enters at {t_si:g} degC and leaves at {t_so:g}; it "
            "is cooled, so write the warmer temperature as source_inlet_temp_degc"
        )
    if not t_ko > t_ki:
        raise NameplateError(
            f"{where}: the sink enters at {t_ki:g} degC and leaves at {t_ko:g}; it is "
            "heated, so write the warmer temperature as sink_outlet_temp_degc"
        )
    typical = dict(compressor.TYPICAL[machine.compressor])
    base = Parameters(
        evaporator_ua_w_k=1.0,
        condenser_ua_w_k=1.0,
        swept_flow_m3_s=1.0,
        source_flow_rated_kg_s=1.0,
        sink_flow_rated_kg_s=1.0,
        refrigerant_flow_rated_kg_s=1.0,
        **typical,
    )
    loss = 1.0 - base.heat_loss_ratio
    work = base.motor_efficiency * plate.power_w
    source_heat = plate.sink_heat_w - loss * work
    if not (plate.power_w > 0.0 and source_heat > 0.0):
        raise NameplateError(
            f"{where}: {plate.sink_heat_w:g} W of heat from {plate.power_w:g} W of "
            "power leaves none to be taken from the source; is power_w in W?"
        )
    fluid = fluids.refrigerant(machine.refrigerant)
    efficiency = np.nan
    found: tuple[float, float, float, float, float] | None = None
    # The narrowest change of the approaches that makes the efficiency plausible.
    for stretch in (1.0, 0.8, 1.25, 0.65, 1.6, 0.5, 2.0, 0.35, 2.6, 0.25, 3.5, 5.0):
        t_e = t_so - _EVAPORATOR_APPROACH_K * stretch
        t_c = max(t_ko + _CONDENSER_APPROACH_K * stretch, t_ki + base.subcooling_k + 1)
        if plate.evaporating_temp_degc is not None:
            t_e = plate.evaporating_temp_degc
        if plate.condensing_temp_degc is not None:
            t_c = plate.condensing_temp_degc
        superheat = min(base.superheat_k, 0.8 * (t_si - t_e))
        h1, s1 = (float(v) for v in fluid.suction_state(t_e, superheat)[1:])
        h3 = float(fluid.subcooled_enthalpy(t_c, base.subcooling_k))
        flow = source_heat / (h1 - h3)
        ideal = float(fluid.isentropic_enthalpy(t_c, s1)) - h1
        value = ideal * flow / work
        if not np.isfinite(value):
            continue
        if found is None:
            found, efficiency = (t_e, t_c, superheat, flow, value), value
        low, high = _PLAUSIBLE_EFFICIENCY
        if low <= value <= high:
            found, efficiency = (t_e, t_c, superheat, flow, value), value
            break
        miss = max(low - value, value - high)
        if miss < max(low - efficiency, efficiency - high):
            found, efficiency = (t_e, t_c, superheat, flow, value), value
    if found is None:
        raise NameplateError(
            f"{where}: {machine.refrigerant} cannot work between {t_so:g} and "
            f"{t_ko:g} degC; its tables hold from {fluid.low:.0f} degC to "
            f"{fluid.critical_temp - fluids.CRITICAL_MARGIN_K:.0f} degC, 6 K below its "
            "critical point"
        )
    if not 0.3 <= efficiency <= compressor.HIGHEST_EFFICIENCY:
        raise NameplateError(
            f"{where}: a COP of {plate.cop:.2f} between {t_si:g}/{t_so:g} and "
            f"{t_ki:g}/{t_ko:g} degC needs a compressor of {efficiency:.0%} isentropic "
            "efficiency; check power_w, sink_heat_w and the temperatures"
        )
    t_e, t_c, superheat, flow, _ = found
    cp_s = float(fluids.heat_capacity(machine.source, 0.5 * (t_si + t_so)))
    cp_k = float(fluids.heat_capacity(machine.sink, 0.5 * (t_ki + t_ko)))
    if not (np.isfinite(cp_s) and np.isfinite(cp_k)):
        raise NameplateError(
            f"{where}: a liquid is frozen or boiling: source {t_so:g} to {t_si:g} "
            f"degC, sink {t_ki:g} to {t_ko:g} degC"
        )
    source_flow = source_heat / (cp_s * (t_si - t_so))
    sink_flow = plate.sink_heat_w / (cp_k * (t_ko - t_ki))
    ratio = float(fluid.saturation_pressure(t_c) / fluid.saturation_pressure(t_e))
    slope = base.isentropic_pressure_slope
    curvature = base.isentropic_pressure_curvature
    at_three = efficiency - slope * (ratio - 3.0) - curvature * (ratio - 3.0) ** 2
    filling = float(
        compressor.volumetric_efficiency(
            ratio, base.volumetric_efficiency, base.volumetric_pressure_slope
        )
    )
    density = float(fluid.suction_state(t_e, superheat)[0])
    ua_e, ua_c = _conductances(
        fluid, base, (t_si, t_so, t_ki, t_ko), (t_e, t_c, superheat), flow,
        loss * work, (cp_s * source_flow, cp_k * sink_flow),
    )  # fmt: skip
    return HeatPump(
        refrigerant=machine.refrigerant,
        source=machine.source,
        sink=machine.sink,
        rated_speed_hz=plate.speed_hz or 50.0,
        standby_power_w=machine.standby_power_w,
        parameters=dataclasses.replace(
            base,
            evaporator_ua_w_k=ua_e,
            condenser_ua_w_k=ua_c,
            isentropic_efficiency=at_three,
            swept_flow_m3_s=flow / (filling * density),
            superheat_k=superheat,
            source_flow_rated_kg_s=source_flow,
            sink_flow_rated_kg_s=sink_flow,
            refrigerant_flow_rated_kg_s=flow,
        ),
    )


def _conductances(
    fluid: fluids.Refrigerant,
    base: Parameters,
    liquids: tuple[float, float, float, float],
    saturation: tuple[float, float, float],
    flow: float,
    gained: float,
    capacities: tuple[float, float],
) -> tuple[float, float]:
    """Clean conductances that fit one known point, zone by zone."""
    t_si, t_so, t_ki, t_ko = liquids
    t_e, t_c, superheat = saturation
    c_s, c_k = capacities
    h1 = float(fluid.suction_state(t_e, superheat)[1])
    h3 = float(fluid.subcooled_enthalpy(t_c, base.subcooling_k))
    h_ge, h_gc = float(fluid.vapour_enthalpy(t_e)), float(fluid.vapour_enthalpy(t_c))
    h_lc = float(fluid.liquid_enthalpy(t_c))
    h2 = h1 + gained / flow
    t2 = float(fluid.superheated_temp(t_c, h2))
    q_sh, q_et = flow * (h1 - h_ge), flow * (h_ge - h3)
    onset = t_si - q_sh / c_s
    ua_e = q_et / float(log_mean_temp_difference(onset - t_e, t_so - t_e))
    if q_sh > 0.0:
        mean = float(log_mean_temp_difference(t_si - t_e - superheat, onset - t_e))
        ua_e += q_sh / (base.superheat_zone_ratio * mean)
    q_ds = flow * max(h2 - h_gc, 0.0)
    q_ct, q_sc = flow * (min(h2, h_gc) - h_lc), flow * (h_lc - h3)
    t_k1 = t_ki + q_sc / c_k
    t_k2 = t_k1 + q_ct / c_k
    ua_c = q_ct / float(log_mean_temp_difference(t_c - t_k1, t_c - t_k2))
    if q_sc > 0.0:
        mean = float(
            log_mean_temp_difference(t_c - base.subcooling_k - t_ki, t_c - t_k1)
        )
        ua_c += q_sc / (base.subcool_zone_ratio * mean)
    if q_ds > 0.0:
        mean = float(log_mean_temp_difference(t_c - t_k2, t2 - t_ko))
        ua_c += q_ds / (base.desuperheat_zone_ratio * mean)
    return ua_e, ua_c
