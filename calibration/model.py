"""What the twin keeps of a unit: physics, flow laws, correction, and how sure.

A model is data. It is made by :mod:`calibration.fit` and
:mod:`calibration.health`, stored by :mod:`calibration.registry` and asked by
:func:`expect` what each window should have shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibration import stored
from calibration.correction import Correction
from calibration.instruments import OUTPUTS
from calibration.registry import RegistryError, Role
from calibration.strainer import By, Loop
from twin.exchanger import PlateExchanger
from twin.fluids import check_coolant
from twin.heatpump import CONDITIONS, GIVEN, PREDICTED, HeatPump
from twin.plant import Coolant
from twin.points import EXPECTED

_EMPTY: Mapping[str, Any] = MappingProxyType({})
CONDUCTANCE = "exchanger_ua_w_k"
"""What an exchanger is judged by."""
TRACKED = frozenset(
    {"evaporator", "condenser", "isentropic", "volumetric", "subcooling", "exchanger"}
)
"""All that a model may say to be degraded."""
# Numbers that a fit may have left unknown; no other may be.
_UNKNOWN = tuple(
    f"model.{name}"
    for name in (
        "values",
        "errors",
        "scatter",
        "daily_scatter",
        "correlation",
        "closure",
    )
)
LOADS = ("source_heat_w", "sink_heat_w")


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowLaw:
    """The mass flow of a side without a flow meter, learnt in the reference.

    Frozen with it, and used as a condition: it never sees the power or the
    outlet of the row that is predicted.

    Attributes
    ----------
    side
        ``"source"`` or ``"sink"``.
    coefficients
        Of ln(flow) over ln(pump power), constant term first; one coefficient
        is a constant flow. [ln(kg/s)]
    low, high
        Range of the pump power it was learnt on; held at its ends. [W]
    scatter
        Relative standard deviation of the windows around it. [1]
    """

    side: str
    coefficients: tuple[float, ...]
    low: float
    high: float
    scatter: float

    def __call__(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """Return the mass flow of each row, NaN without its pump power. [kg/s]."""
        if len(self.coefficients) == 1:
            return np.full(len(frame), np.exp(self.coefficients[0]))
        pump = f"{self.side}_pump_power_w"
        if pump not in frame:
            return np.full(len(frame), np.nan)
        power = np.clip(frame[pump].to_numpy(dtype=float), self.low, self.high)
        law = np.polynomial.polynomial.polyval(np.log(power), self.coefficients)
        return np.asarray(np.exp(law), dtype=float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One unit's twin: the reference, or the machine as it is now.

    Attributes
    ----------
    unit, role
        Whose it is, and which of the two.
    physics
        A :class:`twin.heatpump.HeatPump` or a
        :class:`twin.exchanger.PlateExchanger`.
    given
        What is imposed on a machine when it is asked: its speed or a heat.
    outputs
        The measured quantities that it was fitted to and is judged by.
    flows
        Laws for the sides without a flow meter.
    loops
        How each side resisted its flow when it was new, where that is measured.
    correction
        What physics leaves over, None where none was kept.
    free, values, errors
        Fitted parameters, their values and standard errors, in their units.
    fixed
        Parameters that were not fitted, and why.
    informed
        Standard error of each fitted parameter over what it was before any data;
        near 1, the data said little. [1]
    related
        Correlation of the fitted parameters' errors, pair by pair. [1]
    tracked
        Degradations that the instruments can tell apart.
    degradation
        Ratio to the reference with its 95 % interval, of a current model. [1]
    scatter, daily_scatter, correlation
        Residual standard deviation by output (relative for powers, heats and
        pressures), the same of daily medians, and lag-1 correlation.
    range
        Least and largest value of every condition that was seen.
    usual
        Mean and standard deviation of every condition in the reference; empty in
        models from before it was kept.
    offsets
        Median by which each output missed the physics in the reference: what probes
        were off by when it was learnt; empty in models from before it was kept.
        [K or, of logarithms, 1]
    tuning
        Detection: centre, scatter and limit by component and indicator.
    closure
        Median energy-balance error in the reference. [1]
    """

    unit: str
    role: Role
    physics: HeatPump | PlateExchanger
    given: str = ""
    outputs: tuple[str, ...] = ()
    flows: tuple[FlowLaw, ...] = ()
    loops: tuple[Loop, ...] = ()
    correction: Correction | None = None
    free: tuple[str, ...] = ()
    values: Mapping[str, float] = field(default_factory=lambda: _EMPTY)
    errors: Mapping[str, float] = field(default_factory=lambda: _EMPTY)
    fixed: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    informed: Mapping[str, float] = field(default_factory=lambda: _EMPTY)
    related: Mapping[str, Mapping[str, float]] = field(default_factory=lambda: _EMPTY)
    tracked: tuple[str, ...] = ()
    degradation: Mapping[str, tuple[float, float, float]] = field(
        default_factory=lambda: _EMPTY
    )
    scatter: Mapping[str, float] = field(default_factory=lambda: _EMPTY)
    daily_scatter: Mapping[str, float] = field(default_factory=lambda: _EMPTY)
    correlation: Mapping[str, float] = field(default_factory=lambda: _EMPTY)
    range: Mapping[str, tuple[float, float]] = field(default_factory=lambda: _EMPTY)
    usual: Mapping[str, tuple[float, float]] = field(default_factory=lambda: _EMPTY)
    offsets: Mapping[str, float] = field(default_factory=lambda: _EMPTY)
    tuning: Mapping[str, Mapping[str, float]] = field(default_factory=lambda: _EMPTY)
    closure: float = float("nan")

    @property
    def sees_pressures(self) -> bool:
        """Whether both pressures are measured, which tell a machine's parts apart."""
        needed = {"suction_pressure_pa", "compressor_discharge_pressure_pa"}
        return needed <= set(self.outputs)

    def with_(self, **changes: Any) -> Model:
        """Return the model with some attributes replaced."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON can hold."""
        kind = "heat_pump" if isinstance(self.physics, HeatPump) else "exchanger"
        return {
            "kind": kind,
            "unit": self.unit,
            "role": self.role.value,
            "physics": (
                self.physics.to_dict()
                if isinstance(self.physics, HeatPump)
                else asdict(self.physics)
            ),
            "given": self.given,
            "outputs": list(self.outputs),
            "flows": [
                {name: getattr(law, name) for name in law.__slots__}
                for law in self.flows
            ],
            "loops": [
                {name: getattr(loop, name) for name in loop.__slots__}
                | {"by": loop.by.value}
                for loop in self.loops
            ],
            "correction": None
            if self.correction is None
            else self.correction.to_dict(),
            "free": list(self.free),
            "values": dict(self.values),
            "errors": dict(self.errors),
            "fixed": dict(self.fixed),
            "informed": dict(self.informed),
            "related": {k: dict(v) for k, v in self.related.items()},
            "tracked": list(self.tracked),
            "degradation": {k: list(v) for k, v in self.degradation.items()},
            "scatter": dict(self.scatter),
            "daily_scatter": dict(self.daily_scatter),
            "correlation": dict(self.correlation),
            "range": {k: list(v) for k, v in self.range.items()},
            "usual": {k: list(v) for k, v in self.usual.items()},
            "offsets": dict(self.offsets),
            "tuning": {k: dict(v) for k, v in self.tuning.items()},
            "closure": self.closure,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Model:
        """Return the model that :meth:`to_dict` wrote.

        Raises
        ------
        RegistryError
            If it did not write them: which part of the data it is, what was found
            there, and what there could be.
        """
        path = "model"
        stored.plain(data, path)
        try:
            model = cls._read(data)
        except KeyError as error:
            raise RegistryError(f'{path}: "{error.args[0]}" is missing') from error
        except (ValueError, TypeError, AttributeError, IndexError) as error:
            raise RegistryError(f"{path}: {error}") from error
        stored.same(data, _listed(model.to_dict()), path, unknown=_UNKNOWN)
        return model

    @classmethod
    def _read(cls, data: Mapping[str, Any]) -> Model:
        def numbers(name: str) -> dict[str, float]:
            return {
                str(key): float("nan") if value is None else float(value)
                for key, value in data[name].items()
            }

        stored.known([data["kind"]], ("heat_pump", "exchanger"), "model.kind")
        stored.known([data["given"]], ("", *GIVEN), "model.given")
        stored.known(data["outputs"], (*OUTPUTS, CONDUCTANCE), "model.outputs")
        stored.known(data.get("offsets", {}), OUTPUTS, "model.offsets")
        for name in ("tracked", "degradation"):
            stored.known(data[name], TRACKED, f"model.{name}")
        physics: HeatPump | PlateExchanger
        if data["kind"] == "heat_pump":
            physics = HeatPump.from_dict(data["physics"])
        else:
            plate = data["physics"]
            sides = {side: Coolant(**plate[side]) for side in ("hot", "cold")}
            for coolant in sides.values():
                complaint = check_coolant(coolant)
                if complaint is not None:
                    raise ValueError(complaint)
            told: dict[str, Any] = {
                n: float(x) for n, x in plate.items() if n not in sides
            }
            physics = PlateExchanger(**(told | sides))
        for law in data["flows"]:
            stored.known([law["side"]], ("source", "sink"), "model.flows.side")
        flows = tuple(
            FlowLaw(
                side=str(law["side"]),
                coefficients=tuple(float(c) for c in law["coefficients"]),
                low=float(law["low"]),
                high=float(law["high"]),
                scatter=float(law["scatter"]),
            )
            for law in data["flows"]
        )
        loops = []
        for told in data.get("loops", []):
            stored.known(
                [told["side"]], ("source", "sink", "hot", "cold"), "model.loops.side"
            )
            numbered = {k: float(v) for k, v in told.items() if k not in ("side", "by")}
            loops.append(Loop(side=str(told["side"]), by=By(told["by"]), **numbered))
        found = data["correction"]
        closure = data["closure"]
        return cls(
            unit=str(data["unit"]),
            role=Role(data["role"]),
            physics=physics,
            given=str(data["given"]),
            outputs=tuple(data["outputs"]),
            flows=flows,
            loops=tuple(loops),
            correction=None if found is None else Correction.from_dict(found),
            free=tuple(data["free"]),
            values=numbers("values"),
            errors=numbers("errors"),
            fixed={str(k): str(v) for k, v in data["fixed"].items()},
            # Models written before these were kept have neither.
            informed={str(k): float(v) for k, v in data.get("informed", {}).items()},
            related={
                str(k): {str(n): float(x) for n, x in v.items()}
                for k, v in data.get("related", {}).items()
            },
            tracked=tuple(data["tracked"]),
            degradation={
                str(k): (float(v[0]), float(v[1]), float(v[2]))
                for k, v in data["degradation"].items()
            },
            scatter=numbers("scatter"),
            daily_scatter=numbers("daily_scatter"),
            correlation=numbers("correlation"),
            range={
                str(k): (float(v[0]), float(v[1])) for k, v in data["range"].items()
            },
            usual={
                str(k): (float(v[0]), float(v[1]))
                for k, v in data.get("usual", {}).items()
            },
            offsets={str(k): float(v) for k, v in data.get("offsets", {}).items()},
            tuning={
                str(k): {str(n): float(x) for n, x in v.items()}
                for k, v in data["tuning"].items()
            },
            closure=float("nan") if closure is None else float(closure),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A model and how well it was determined.

    Attributes
    ----------
    model
        The reference or the current model.
    start, stop
        Of the windows used. UTC.
    windows, days
        How many were used. [1]
    cost
        Mean squared residual in units of its expectation. [1]
    correlation
        Between the free parameters, in the order of the model's ``free``. [1]
    biases
        What the instruments seem to have drifted since the reference: value
        and standard error, relative for flows, powers and pressures. [K or 1]
    unsolved
        Share of the windows that physics could not solve. [1]
    objective
        What was minimised: half the sum of all squares, those of the priors too;
        it compares explanations of the same windows. [1]
    """

    model: Model
    start: datetime
    stop: datetime
    windows: int
    days: int
    cost: float
    correlation: NDArray[np.float64]
    biases: Mapping[str, tuple[float, float]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    unsolved: float = 0.0
    objective: float = float("nan")

    def interval(self, name: str) -> tuple[float, float]:
        """Return the 95 % interval of a fitted parameter, in its unit."""
        value = self.model.values[name]  # noqa: PD011 (a mapping)
        error = self.model.errors[name]
        return value - 1.96 * error, value + 1.96 * error


def _listed(data: Any) -> Any:
    """Return data with lists for tuples, as JSON has them."""
    if isinstance(data, Mapping):
        return {name: _listed(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [_listed(value) for value in data]
    return data


def heat_pump(model: Model) -> HeatPump:
    """Return the physics of a machine's model.

    Raises
    ------
    TypeError
        If the model is an exchanger's.
    """
    if not isinstance(model.physics, HeatPump):
        raise TypeError(f"{model.unit}: an exchanger's model has no heat pump")
    return model.physics


def conditions(windows: pd.DataFrame, model: Model) -> pd.DataFrame:
    """Return the boundary conditions and the load that a machine is asked with.

    Parameters
    ----------
    windows : DataFrame
        Windows of :func:`calibration.steady.windows`, or a derived frame.
    model : Model
        A machine's; its flow laws fill the flow of an unmetered side.

    Returns
    -------
    DataFrame
        Inlet temperatures, mass flows and :attr:`Model.given`; NaN where one
        is not known.
    """
    return pd.DataFrame(_conditions(windows, model), index=windows.index)


def _conditions(windows: pd.DataFrame, model: Model) -> dict[str, NDArray[np.float64]]:
    laws = {f"{law.side}_flow_kg_s": law for law in model.flows}
    result = {}
    for name in (*CONDITIONS, model.given):
        if name in laws:
            result[name] = laws[name](windows)
        elif name in windows:
            result[name] = windows[name].to_numpy(dtype=float)
        else:
            result[name] = np.full(len(windows), np.nan)
    return result


def familiar(
    windows: pd.DataFrame, model: Model, kelvin: float, share: float
) -> NDArray[np.bool_]:
    """Return which windows lie near the conditions that the reference has seen.

    Parameters
    ----------
    windows : DataFrame
        Windows of a machine.
    model : Model
        Its reference.
    kelvin : float
        How far a temperature may lie outside. [K]
    share : float
        How far a flow, speed or heat may, relative to its largest. [1]

    Returns
    -------
    ndarray of bool
        False as well where a condition is missing.
    """
    asked = _conditions(windows, model)
    near = np.ones(len(windows), dtype=bool)
    for name, (low, high) in model.range.items():
        if name not in asked:
            continue
        margin = kelvin if name.endswith("_degc") else share * max(abs(low), abs(high))
        value = asked[name]
        with np.errstate(invalid="ignore"):
            near &= (value >= low - margin) & (value <= high + margin)
    return near


def expect(windows: pd.DataFrame, model: Model) -> pd.DataFrame:
    """Return what the model says each window should have shown.

    Parameters
    ----------
    windows : DataFrame
        Windows of :func:`calibration.steady.windows`, or a derived frame.
    model : Model
        The reference or the current model.

    Returns
    -------
    DataFrame
        ``expected_`` columns, NaN at standstill and where physics has no
        answer, and ``extrapolating``: True where the correction was switched
        off because it had not seen such conditions.
    """
    if not isinstance(model.physics, HeatPump):
        plate = model.physics.predict(windows)
        return plate.select_dtypes("number").add_prefix(EXPECTED)
    asked = _conditions(windows, model)
    if "compressor_running" in windows:
        standing = windows["compressor_running"].to_numpy(dtype=float) <= 0.5
        asked = {name: np.where(standing, np.nan, x) for name, x in asked.items()}
    pump = model.physics
    answer, _ = pump.answer(pump.question(asked, model.given), PREDICTED)
    predicted = {name: answer[:, k] for k, name in enumerate(PREDICTED)}
    extrapolating = np.zeros(len(windows), dtype=bool)
    if model.correction is not None:
        factors = model.correction.factors(pd.DataFrame(asked, index=windows.index))
        extrapolating = factors["extrapolating"].to_numpy(dtype=bool)
        kept = {
            name: factors[name].to_numpy(dtype=float)
            for name in model.correction.weights
        }
        predicted = _corrected(predicted, asked, kept)
    table = pd.DataFrame(
        np.column_stack(list(predicted.values())),
        index=windows.index,
        columns=[f"{EXPECTED}{name}" for name in predicted],
    )
    table["extrapolating"] = extrapolating
    return table


def _corrected(
    predicted: Mapping[str, NDArray[np.float64]],
    asked: Mapping[str, NDArray[np.float64]],
    factors: Mapping[str, NDArray[np.float64]],
) -> dict[str, NDArray[np.float64]]:
    """Apply the correction's factors, and what follows from power and heats."""
    result = dict(predicted)
    for name, factor in factors.items():
        if name in predicted:
            result[name] = predicted[name] * factor
    # The liquids' outlets follow their heats; the coefficients of performance both.
    for side in ("source", "sink"):
        heat = f"{side}_heat_w"
        if heat in factors:
            inlet = asked[f"{side}_inlet_temp_degc"]
            change = predicted[f"{side}_outlet_temp_degc"] - inlet
            result[f"{side}_outlet_temp_degc"] = inlet + change * factors[heat]
    with np.errstate(invalid="ignore", divide="ignore"):
        result["cop"] = result["sink_heat_w"] / result["compressor_power_w"]
        result["cooling_cop"] = result["source_heat_w"] / result["compressor_power_w"]
    return result
