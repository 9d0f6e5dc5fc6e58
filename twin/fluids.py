"""Properties of refrigerants, water and glycol: CoolProp's door.

A refrigerant is tabulated once from CoolProp's Helmholtz equations, in
coordinates that follow the saturation dome, and read from a cache afterwards;
CoolProp is imported only while a table is built. No cell of a table crosses
the dome, which is where lookups in pressure and temperature go silently wrong.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.polynomial import polynomial
from numpy.typing import ArrayLike, NDArray

from twin.plant import Coolant

Array = NDArray[np.float64]
_Cell = tuple[NDArray[np.int64], Array, Array]  # which, how far in, NaN outside

ZERO_DEGC = 273.15
CRITICAL_MARGIN_K = 6.0
"""Nearer than this to its critical point a condenser has no two zones. [K]"""

# Refrigerants that can be tabulated. A blend is treated as pure: it is
# azeotropic to within 0.1 K, and its composition is by mass.
_PURE = (
    "R1234ze(E)",
    "R1234yf",
    "R1233zd(E)",
    "R1336mzz(Z)",
    "R134a",
    "R290",
    "R600a",
    "R717",
    "R32",
    "R410A",
)
_BLENDS: Mapping[str, tuple[str, tuple[float, ...]]] = MappingProxyType(
    {
        "R513A": ("R1234yf&R134a", (0.56, 0.44)),
        "R515B": ("R1234ze(E)&R227EA", (0.911, 0.089)),
    }
)
REFRIGERANTS: tuple[str, ...] = (*_PURE, *_BLENDS)

_OTHER_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "r1234zee": "R1234ze(E)",
        "r1234ze": "R1234ze(E)",
        "r1233zd": "R1233zd(E)",
        "r1233zde": "R1233zd(E)",
        "r1336mzzz": "R1336mzz(Z)",
        "ammonia": "R717",
        "nh3": "R717",
        "propane": "R290",
        "isobutane": "R600a",
        "opteonxp10": "R513A",
    }
)


class FluidError(ValueError):
    """A fluid that cannot be used; the text says why and which can."""


# ---------------------------------------------------------------------------
# Refrigerants
# ---------------------------------------------------------------------------


class Tables(NamedTuple):
    """Cubic cells over the dome, as the solver reads them; T stands for T_sat.

    Every cell is a polynomial in its local coordinate(s) in 0..1, coefficient
    ``i * 4 + j`` belongs to ``x**i * y**j``. Temperatures in K.
    """

    saturation: Array  # (T, 6, 4): ln p, h_g, s_g, h_l, p, rho_g
    suction: Array  # (T, superheat, 3, 16): rho/rho_g, h-h_g, s-s_g
    liquid: Array  # (T, subcooling, 16): h less h_l of its own temperature
    isentropic: Array  # (T, s-s_g, 16): h - h_g at the pressure of T
    discharge: Array  # (T, h-h_g, 16): temperature less T at the pressure of T
    grid: Array  # see the _G_* numbers


# Where things stand in Tables.grid.
G_T0, G_T_PER_CELL, G_SH_PER_CELL, G_SC_PER_CELL, G_DS_PER_CELL, G_DH_PER_CELL = range(
    6
)
G_T_CRITICAL, G_T_LOW, G_T_HIGH = 6, 7, 8
G_CELLS_T, G_CELLS_SH, G_CELLS_SC, G_CELLS_D = 9, 10, 11, 12

_GRID_VERSION = 2
_NODES_T = 193
_NODES_SUPERHEAT = 49
_NODES_SUBCOOLING = 97
_NODES_DISCHARGE = 97
_SUPERHEAT_MAX = 48.0
_SUBCOOLING_MAX = 48.0
_DISCHARGE_RISE = 170.0
_T_LOW = 223.15


@dataclass(frozen=True, eq=False)
class Refrigerant:
    """A tabulated refrigerant.

    Attributes
    ----------
    name
        CoolProp's name, or that of a blend tabulated as if pure.
    critical_temp
        Critical temperature. [degC]
    low, high
        Saturation temperatures between which the tables hold. [degC]
    tables
        What the cycle solver reads.
    """

    name: str
    critical_temp: float
    low: float
    high: float
    tables: Tables = field(repr=False)

    def saturation_pressure(self, temp: ArrayLike) -> Array:
        """Pressure at which vapour of that temperature condenses.

        Parameters
        ----------
        temp : array_like
            Saturation temperature. [degC]

        Returns
        -------
        ndarray
            Absolute pressure, NaN outside ``low`` to ``high``. [Pa]
        """
        return self._saturation(temp, 4)[0]

    def saturation_temp(self, pressure: ArrayLike) -> Array:
        """Temperature at which vapour of that pressure condenses.

        Parameters
        ----------
        pressure : array_like
            Absolute pressure. [Pa]

        Returns
        -------
        ndarray
            Saturation temperature, NaN where the pressure is not positive or
            belongs to a temperature outside ``low`` to ``high``. [degC]
        """
        p = np.asarray(pressure, dtype=float)
        nodes = np.linspace(self.low, self.high, len(self.tables.saturation) + 1)
        log_nodes = self._saturation(nodes, 0)[0]
        with np.errstate(invalid="ignore", divide="ignore"):
            target = np.log(np.where(p > 0.0, p, np.nan))
        inside = (target >= log_nodes[0]) & (target <= log_nodes[-1])
        target = np.where(inside, target, np.nan)
        temp = np.interp(target, log_nodes, nodes)
        for _ in range(3):
            value, slope = self._saturation(np.clip(temp, self.low, self.high), 0)
            temp = temp - (value - target) / slope
        return np.clip(temp, self.low, self.high)

    def vapour_enthalpy(self, temp: ArrayLike) -> Array:
        """Specific enthalpy of saturated vapour at a temperature. [J/kg]."""
        return self._saturation(temp, 1)[0]

    def liquid_enthalpy(self, temp: ArrayLike) -> Array:
        """Specific enthalpy of saturated liquid at a temperature. [J/kg]."""
        return self._saturation(temp, 3)[0]

    def suction_state(
        self, temp: ArrayLike, superheat: ArrayLike
    ) -> tuple[Array, Array, Array]:
        """State of superheated vapour.

        Parameters
        ----------
        temp : array_like
            Saturation temperature. [degC]
        superheat : array_like
            Temperature above it, 0 to 48. [K]

        Returns
        -------
        density, enthalpy, entropy : tuple of ndarray
            NaN outside the tables. [kg/m3], [J/kg], [J/(kg K)]
        """
        value = self._plane("suction", G_SH_PER_CELL, temp, superheat)
        return (
            self._saturation(temp, 5)[0] * value[..., 0],
            self._saturation(temp, 1)[0] + value[..., 1],
            self._saturation(temp, 2)[0] + value[..., 2],
        )

    def subcooled_enthalpy(self, temp: ArrayLike, subcooling: ArrayLike) -> Array:
        """Specific enthalpy of subcooled liquid.

        Parameters
        ----------
        temp : array_like
            Saturation temperature at its pressure. [degC]
        subcooling : array_like
            Temperature below it, 0 to 48. [K]

        Returns
        -------
        ndarray
            Enthalpy, NaN outside the tables. [J/kg]
        """
        value = self._plane("liquid", G_SC_PER_CELL, temp, subcooling)
        own = np.asarray(temp, dtype=float) - np.asarray(subcooling, dtype=float)
        return self._saturation(own, 3)[0] + value

    def isentropic_enthalpy(self, temp: ArrayLike, entropy: ArrayLike) -> Array:
        """Specific enthalpy on the isobar of a saturation temperature.

        Parameters
        ----------
        temp : array_like
            Saturation temperature at the pressure. [degC]
        entropy : array_like
            Specific entropy; below that of saturated vapour the state is wet
            and the enthalpy linear in it, exactly. [J/(kg K)]

        Returns
        -------
        ndarray
            Enthalpy, NaN outside the tables. [J/kg]
        """
        t, s = np.broadcast_arrays(
            np.asarray(temp, dtype=float), np.asarray(entropy, dtype=float)
        )
        ds = s - self._saturation(t, 2)[0]
        dry = self._plane("isentropic", G_DS_PER_CELL, t, np.maximum(ds, 0.0))
        wet = (t + ZERO_DEGC) * ds
        return self._saturation(t, 1)[0] + np.where(ds > 0.0, dry, wet)

    def superheated_temp(self, temp: ArrayLike, enthalpy: ArrayLike) -> Array:
        """Temperature on the isobar of a saturation temperature.

        Parameters
        ----------
        temp : array_like
            Saturation temperature at the pressure. [degC]
        enthalpy : array_like
            Specific enthalpy; at or below saturated vapour the answer is the
            saturation temperature itself. [J/kg]

        Returns
        -------
        ndarray
            Temperature, NaN outside the tables. [degC]
        """
        t, h = np.broadcast_arrays(
            np.asarray(temp, dtype=float), np.asarray(enthalpy, dtype=float)
        )
        dh = np.maximum(h - self._saturation(t, 1)[0], 0.0)
        return t + self._plane("discharge", G_DH_PER_CELL, t, dh)

    def superheated_enthalpy(self, temp: ArrayLike, vapour_temp: ArrayLike) -> Array:
        """Specific enthalpy of superheated vapour from its own temperature.

        The inverse of :meth:`superheated_temp`.

        Parameters
        ----------
        temp : array_like
            Saturation temperature at the pressure. [degC]
        vapour_temp : array_like
            Temperature of the vapour. [degC]

        Returns
        -------
        ndarray
            Enthalpy; NaN below saturation, where a temperature says nothing
            about the enthalpy, and outside the tables. [J/kg]
        """
        t, t2 = np.broadcast_arrays(
            np.asarray(temp, dtype=float), np.asarray(vapour_temp, dtype=float)
        )
        h_g = self._saturation(t, 1)[0]
        span = 1.0 / self.tables.grid[G_DH_PER_CELL]
        high = np.full(t.shape, span * self.tables.discharge.shape[1])
        low = np.zeros(t.shape)
        # Its place on the saturation line is the same all the way.
        cell = self._cell(t)
        for _ in range(48):  # the temperature rises with enthalpy, so bisect
            middle = 0.5 * (low + high)
            dh = np.maximum(h_g + middle - h_g, 0.0)
            above = t + self._on_plane("discharge", G_DH_PER_CELL, cell, dh) > t2
            high = np.where(above, middle, high)
            low = np.where(above, low, middle)
        answer = h_g + 0.5 * (low + high)
        top = self.superheated_temp(t, h_g + span * self.tables.discharge.shape[1])
        return np.where((t2 >= t) & (t2 <= top), answer, np.nan)

    # -- reading the cells with numpy; the solver has its own scalar reader ---

    def _cell(self, temp: ArrayLike) -> _Cell:
        t = np.asarray(temp, dtype=float) + ZERO_DEGC
        grid = self.tables.grid
        good = (t >= grid[G_T_LOW] - 1e-9) & (t <= grid[G_T_HIGH] + 1e-9)
        x = np.where(good, (t - grid[G_T0]) * grid[G_T_PER_CELL], 0.0)
        i = np.clip(x.astype(np.int64), 0, len(self.tables.saturation) - 1)
        return i, x - i, np.where(good, 0.0, np.nan)

    def _saturation(self, temp: ArrayLike, which: int) -> tuple[Array, Array]:
        i, x, nan = self._cell(temp)
        c = self.tables.saturation[i, which]
        value = ((c[..., 3] * x + c[..., 2]) * x + c[..., 1]) * x + c[..., 0]
        slope = (3.0 * c[..., 3] * x + 2.0 * c[..., 2]) * x + c[..., 1]
        return value + nan, slope * self.tables.grid[G_T_PER_CELL] + nan

    def _plane(
        self, name: str, per_cell: int, temp: ArrayLike, offset: ArrayLike
    ) -> Array:
        t, y = np.broadcast_arrays(
            np.asarray(temp, dtype=float), np.asarray(offset, dtype=float)
        )
        return self._on_plane(name, per_cell, self._cell(t), y)

    def _on_plane(self, name: str, per_cell: int, cell: _Cell, y: Array) -> Array:
        cells: Array = getattr(self.tables, name)
        i, x, nan = cell
        v = y * self.tables.grid[per_cell]
        good = (v >= -1e-9) & (v <= cells.shape[1] + 1e-9)
        v = np.where(good, v, 0.0)
        j = np.minimum(np.maximum(v.astype(np.int64), 0), cells.shape[1] - 1)
        v = v - j
        c = cells[i, j]
        c = c.reshape(*c.shape[:-1], 4, 4)
        if c.ndim > x.ndim + 2:  # several quantities in a cell
            x, v = x[..., None], v[..., None]
            nan, good = nan[..., None], good[..., None]
        rows = ((c[..., 3] * v[..., None] + c[..., 2]) * v[..., None] + c[..., 1]) * v[
            ..., None
        ] + c[..., 0]
        value: Array = (
            (rows[..., 3] * x + rows[..., 2]) * x + rows[..., 1]
        ) * x + rows[..., 0]
        return value + nan + np.where(good, 0.0, np.nan)


def check_refrigerant(name: str) -> str | None:
    """Say why a refrigerant cannot be used.

    Parameters
    ----------
    name : str
        As in the configuration.

    Returns
    -------
    str or None
        None if it can be used; else a sentence with the nearest name that can.
    """
    if name in REFRIGERANTS:
        return None
    plain = "".join(c for c in name.lower() if c.isalnum())
    if plain in ("r744", "co2", "carbondioxide"):
        return (
            f'refrigerant "{name}" condenses above its critical point (31 degC) in any '
            "heat pump of this kind; a transcritical gas cooler is not modelled"
        )
    known = {"".join(c for c in k.lower() if c.isalnum()): k for k in REFRIGERANTS}
    known.update(_OTHER_NAMES)
    match = known.get(plain) or next(
        (known[n] for n in difflib.get_close_matches(plain, known, n=1, cutoff=0.6)),
        "",
    )
    hint = f'; write "{match}"' if match else f"; known are {', '.join(REFRIGERANTS)}"
    return f'refrigerant "{name}" is not known{hint}'


@lru_cache(maxsize=32)
def refrigerant(name: str) -> Refrigerant:
    """Return a refrigerant's tables: from memory, the disk cache, or built now.

    Parameters
    ----------
    name : str
        One of :data:`REFRIGERANTS`.

    Returns
    -------
    Refrigerant
        Its tables. Building takes a second or two, once per fluid, version of
        CoolProp and grid; a cache that cannot be written is done without.

    Raises
    ------
    FluidError
        If the name is not known, with the nearest one that is.
    """
    problem = check_refrigerant(name)
    if problem is not None:
        raise FluidError(problem)
    path = cache_folder() / f"{_cache_key(name)}.npz"
    tables = _read(path)
    if tables is None:
        tables = build_tables(name)
        with contextlib.suppress(OSError):
            _write(path, tables)
    grid = tables.grid
    return Refrigerant(
        name,
        float(grid[G_T_CRITICAL]) - ZERO_DEGC,
        float(grid[G_T_LOW]) - ZERO_DEGC,
        float(grid[G_T_HIGH]) - ZERO_DEGC,
        tables,
    )


def cache_folder() -> Path:
    """Return where tables are kept: ``$XDG_CACHE_HOME/hptwin``, else ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if base:
        return Path(base) / "hptwin"
    return Path(os.path.expanduser("~")) / ".cache" / "hptwin"  # noqa: PTH111 - no raise


def _cache_key(name: str) -> str:
    try:
        coolprop = version("CoolProp")
    except PackageNotFoundError:
        coolprop = "none"
    plain = name.replace("(", "_").replace(")", "")
    nodes = f"{_NODES_T}x{_NODES_SUPERHEAT}x{_NODES_SUBCOOLING}x{_NODES_DISCHARGE}"
    return f"{plain}-CoolProp{coolprop}-v{_GRID_VERSION}-{nodes}"


def _read(path: Path) -> Tables | None:
    try:
        # Opened here, for numpy leaves a torn archive open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            tables = Tables(
                *(np.ascontiguousarray(stored[name]) for name in Tables._fields)
            )
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None  # absent or torn: it is built again
    if tables.saturation.shape != (_NODES_T - 1, 6, 4) or tables.grid.shape != (13,):
        return None
    return tables if all(np.isfinite(a).all() for a in tables) else None


def _write(path: Path, tables: Tables) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed, so that a reader never meets half a file.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            arrays: dict[str, Any] = dict(tables._asdict())
            np.savez(file, **arrays)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _state(name: str) -> Any:
    from CoolProp.CoolProp import AbstractState

    if name in _BLENDS:
        components, fractions = _BLENDS[name]
        state = AbstractState("HEOS", components)
        state.set_mass_fractions(list(fractions))
        return state
    return AbstractState("HEOS", name)


def _critical_temp(name: str) -> float:
    state = _state(name)
    if name in _BLENDS:
        return max(
            float(point.T) for point in state.all_critical_points() if point.stable
        )
    return float(state.T_critical())


def build_tables(name: str) -> Tables:
    """Tabulate a refrigerant from CoolProp's Helmholtz equations.

    Parameters
    ----------
    name : str
        One of :data:`REFRIGERANTS`.

    Returns
    -------
    Tables
        Bicubic cells from C2 splines. Phases are imposed, so that a state on
        the dome, or just inside it, belongs to the branch that is meant.
    """
    import CoolProp.CoolProp as CoolProp

    critical = _critical_temp(name)
    probe = _state(name)
    lowest = _T_LOW if name in _BLENDS else max(_T_LOW, probe.Ttriple() + 2.0)
    t = np.linspace(lowest, critical - CRITICAL_MARGIN_K + 0.5, _NODES_T)
    dew, gas, liquid = _state(name), _state(name), _state(name)
    gas.specify_phase(CoolProp.iphase_gas)
    liquid.specify_phase(CoolProp.iphase_liquid)

    def dew_point(temp: float) -> tuple[float, ...]:
        dew.update(CoolProp.QT_INPUTS, 0.0, temp)
        bubble = dew.p(), dew.hmass()
        dew.update(CoolProp.QT_INPUTS, 1.0, temp)
        return dew.p(), dew.hmass(), dew.smass(), dew.rhomass(), *bubble

    # Blends: the search for the phase boundary fails at single temperatures.
    saturated = _filled(_evaluate(dew_point, t, 6), t)
    pressure, h_g, s_g, rho_g, bubble_pressure, h_l = saturated.T
    # A subcooled state is compared with saturated liquid of its own, lower,
    # temperature; what is left is small and smooth.
    liquid_line = _spline(t, h_l)

    superheat = np.linspace(0.0, _SUPERHEAT_MAX, _NODES_SUPERHEAT)
    subcooling = np.linspace(0.0, _SUBCOOLING_MAX, _NODES_SUBCOOLING)
    suction = np.empty((_NODES_T, _NODES_SUPERHEAT, 3))
    compression = np.zeros((_NODES_T, _NODES_SUBCOOLING))
    # Offsets dense at the dome, where the heat capacity falls fastest.
    offsets = np.linspace(0.0, 1.0, 161) ** 1.7
    rises = np.empty((_NODES_T, len(offsets)))
    isobar = np.zeros((_NODES_T, len(offsets), 3))  # h - h_g, s - s_g, cp
    top = [0.0, 0.0]
    for i in range(_NODES_T - 1, -1, -1):  # the hottest dome needs the widest table

        def vapour(at: float, p: float = pressure[i]) -> tuple[float, ...]:
            gas.update(CoolProp.PT_INPUTS, p, at)
            return gas.hmass(), gas.smass(), gas.cpmass(), gas.rhomass()

        def subcooled(at: float, p: float = bubble_pressure[i]) -> tuple[float]:
            liquid.update(CoolProp.PT_INPUTS, p, at)
            return (liquid.hmass(),)

        warm = _filled(_evaluate(vapour, t[i] + superheat, 4), superheat)
        suction[i, :, 0] = warm[:, 3] / rho_g[i]
        suction[i, 1:, 1] = warm[1:, 0] - h_g[i]
        suction[i, 1:, 2] = warm[1:, 1] - s_g[i]
        suction[i, 0] = 1.0, 0.0, 0.0
        reach = t[i] - subcooling >= t[0]
        if reach[1:].any():
            cold = _evaluate(subcooled, t[i] - subcooling[reach], 1)[:, 0]
            cold[0] = h_l[i]
            cold = _filled(cold[:, None], subcooling[reach])[:, 0]
            compression[i, reach] = cold - liquid_line(t[i] - subcooling[reach])
            compression[i, 0] = 0.0
        # Below the lowest line there is nothing to compare with; the effect
        # of pressure is then the last one known, which is next to nothing.
        compression[i, ~reach] = compression[i, np.count_nonzero(reach) - 1]
        widest = _DISCHARGE_RISE
        while True:
            end = vapour(t[i] + widest)
            dh_end, ds_end = end[0] - h_g[i], end[1] - s_g[i]
            if dh_end >= top[0] and ds_end >= top[1]:
                break
            widest *= 1.1
        if i == _NODES_T - 1:
            top = [dh_end, ds_end]
        rises[i] = widest * offsets
        hot = _filled(_evaluate(vapour, t[i] + rises[i], 4), rises[i])
        isobar[i, 1:, 0] = hot[1:, 0] - h_g[i]
        isobar[i, 1:, 1] = hot[1:, 1] - s_g[i]
        isobar[i, :, 2] = hot[:, 2]

    dh = np.linspace(0.0, top[0], _NODES_DISCHARGE)
    ds = np.linspace(0.0, top[1], _NODES_DISCHARGE)
    isentropic = np.empty((_NODES_T, _NODES_DISCHARGE))
    discharge = np.empty((_NODES_T, _NODES_DISCHARGE))
    for i in range(_NODES_T):
        h, s, cp = isobar[i].T
        # On an isobar dh = T ds and dh = cp dT: the slopes are exact.
        isentropic[i] = _hermite(s, h, t[i] + rises[i], ds)
        discharge[i] = _hermite(h, rises[i], 1.0 / cp, dh)

    lines = (np.log(pressure), h_g, s_g, h_l, pressure, rho_g)
    grid = np.array(
        [
            t[0],
            1.0 / (t[1] - t[0]),
            1.0 / (superheat[1] - superheat[0]),
            1.0 / (subcooling[1] - subcooling[0]),
            1.0 / (ds[1] - ds[0]),
            1.0 / (dh[1] - dh[0]),
            critical,
            t[0],
            t[-1],
            len(t) - 1,
            len(superheat) - 1,
            len(subcooling) - 1,
            len(dh) - 1,
        ]
    )
    return Tables(
        saturation=np.ascontiguousarray(
            np.stack([_cubic_cells(t, y) for y in lines], axis=1)
        ),
        suction=np.ascontiguousarray(
            np.stack(
                [_bicubic_cells(t, superheat, suction[..., k]) for k in range(3)],
                axis=2,
            )
        ),
        liquid=_bicubic_cells(t, subcooling, compression),
        isentropic=_bicubic_cells(t, ds, isentropic),
        discharge=_bicubic_cells(t, dh, discharge),
        grid=grid,
    )


class Helmholtz:
    """The equation of state itself: what tables are checked against, and slow.

    Temperatures in K, pressures in Pa, mass-specific SI throughout. Raises
    ``ValueError`` where CoolProp finds no state.
    """

    def __init__(self, name: str) -> None:
        import CoolProp.CoolProp as CoolProp

        self._pairs = CoolProp
        self._dew, self._gas, self._liquid = (_state(name) for _ in range(3))
        self._gas.specify_phase(CoolProp.iphase_gas)
        self._liquid.specify_phase(CoolProp.iphase_liquid)
        self.critical_temp = _critical_temp(name)

    def saturation(self, temp: float) -> tuple[float, float, float, float, float]:
        """Return p, h_g, s_g, rho_g and h_l at a saturation temperature."""
        self._dew.update(self._pairs.QT_INPUTS, 0.0, temp)
        liquid = self._dew.hmass()
        self._dew.update(self._pairs.QT_INPUTS, 1.0, temp)
        vapour = self._dew
        return vapour.p(), vapour.hmass(), vapour.smass(), vapour.rhomass(), liquid

    def vapour(self, pressure: float, temp: float) -> tuple[float, float, float]:
        """Return h, s and rho of a vapour."""
        self._gas.update(self._pairs.PT_INPUTS, pressure, temp)
        return self._gas.hmass(), self._gas.smass(), self._gas.rhomass()

    def liquid(self, pressure: float, temp: float) -> float:
        """Return h of a liquid."""
        self._liquid.update(self._pairs.PT_INPUTS, pressure, temp)
        return float(self._liquid.hmass())

    def isentropic(self, pressure: float, entropy: float) -> float:
        """Return h of a vapour of that pressure and entropy."""
        self._gas.update(self._pairs.PSmass_INPUTS, pressure, entropy)
        return float(self._gas.hmass())

    def temperature(self, pressure: float, enthalpy: float) -> float:
        """Return the temperature of a vapour of that pressure and enthalpy."""
        self._gas.update(self._pairs.HmassP_INPUTS, enthalpy, pressure)
        return float(self._gas.T())


def _evaluate(
    function: Callable[[float], tuple[float, ...]], at: Array, width: int
) -> Array:
    rows = np.full((len(at), width), np.nan)
    for i, x in enumerate(at):
        try:
            rows[i] = function(float(x))
        except ValueError:
            continue  # CoolProp found no such state; the caller fills or fails
    if np.isfinite(rows).all(axis=1).mean() < 0.9:
        raise FluidError("CoolProp finds too few of the states that a table needs")
    return rows


def _spline(x: Array, y: Array) -> Callable[[Array], Array]:
    from scipy.interpolate import CubicSpline

    spline: Callable[[Array], Array] = CubicSpline(x, y)
    return spline


def _filled(rows: Array, x: Array) -> Array:
    for column in rows.T:
        hole = ~np.isfinite(column)
        if hole.any():
            column[hole] = _spline(x[~hole], column[~hole])(x[hole])
    return rows


def _hermite(x: Array, y: Array, slope: Array, at: Array) -> Array:
    from scipy.interpolate import CubicHermiteSpline

    value: Array = CubicHermiteSpline(x, y, slope)(at)
    return value


def _slopes(x: Array, y: Array, axis: int) -> Array:
    from scipy.interpolate import CubicSpline

    slopes: Array = CubicSpline(x, y, axis=axis)(x, 1)
    return slopes


# Hermite data (f0, f1, f0', f1') of a unit cell to power coefficients.
_TO_POWERS = np.array(
    [
        [1.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 1.0, 0.0],
        [-3.0, 3.0, -2.0, -1.0],
        [2.0, -2.0, 1.0, 1.0],
    ]
)


def _cubic_cells(x: Array, y: Array) -> Array:
    step = x[1] - x[0]
    slope = _slopes(x, y, 0) * step
    data = np.stack([y[:-1], y[1:], slope[:-1], slope[1:]])
    return np.ascontiguousarray((_TO_POWERS @ data).T)


def _bicubic_cells(x: Array, y: Array, z: Array) -> Array:
    step_x, step_y = x[1] - x[0], y[1] - y[0]
    z_x = _slopes(x, z, 0) * step_x
    z_y = _slopes(y, z, 1) * step_y
    z_xy = _slopes(y, z_x, 1) * step_y
    nx, ny = len(x) - 1, len(y) - 1
    data = np.empty((nx, ny, 4, 4))
    for row, of_x in ((0, (z, z_y)), (2, (z_x, z_xy))):
        for column, values in ((0, of_x[0]), (2, of_x[1])):
            for dx in (0, 1):
                for dy in (0, 1):
                    data[:, :, row + dx, column + dy] = values[
                        dx : nx + dx, dy : ny + dy
                    ]
    cells = np.einsum("ia,xyab,jb->xyij", _TO_POWERS, data, _TO_POWERS)
    return np.ascontiguousarray(cells.reshape(nx, ny, 16))


# ---------------------------------------------------------------------------
# Water and glycol
# ---------------------------------------------------------------------------

# Polynomials fitted once to CoolProp 8.0 at 3 bar. Water to its Helmholtz
# equation, 0 to 130 degC, in (T - 60)/60: 4e-5 of cp, 3e-6 of density. Glycol
# to the incompressible solutions after Melinder (2010), which are themselves
# such polynomials, in (T - 40)/60 and (x - 0.3)/0.3: exact to printing.
_WATER_CP = (
    4184.489202, 26.22819276, 27.21440575, -0.3146941248,
    9.475304867, -9.549565303, 9.61280682, -3.884855524,
)  # fmt: skip
_WATER_DENSITY = (
    983.2832806, -30.86292174, -10.6370293, 2.005472304,
    -0.8100475791, 0.3520171115, -0.2842239795, 0.110342526,
)  # fmt: skip
_GLYCOL_CP: Mapping[str, Array] = MappingProxyType(
    {
        "MEG": np.array(
            [
                [3775.353709, -509.5449399, -92.3615647, 68.5063782, 15.13238728,
                 -39.3174],
                [166.0422262, 174.7016341, 23.19591223, -3.987132077, -20.76192, 0.0],
                [-16.81259108, -44.94074829, 12.16531192, -15.96996, 0.0, 0.0],
                [-3.045039503, 1.979662758, -13.876272, 0.0, 0.0, 0.0],
            ]
        ),
        "MPG": np.array(
            [
                [3910.419406, -373.457579, -143.6031978, 11.77103078, 37.69797389,
                 -12.05037],
                [158.276843, 89.87025487, 10.76154836, 46.53376193, -34.6761, 0.0],
                [-6.729853344, -3.194197407, 36.37524066, -28.674, 0.0, 0.0],
                [-2.465465694, 10.30632297, -9.46728, 0.0, 0.0, 0.0],
            ]
        ),
    }
)  # fmt: skip
_GLYCOL_DENSITY: Mapping[str, Array] = MappingProxyType(
    {
        "MEG": np.array(
            [
                [1028.80016, 37.68090426, 0.8450549079, -2.462298364, -1.430243025,
                 1.188513],
                [-30.98832432, -11.15760547, 3.780964606, 2.077367485, -3.504546, 0.0],
                [-9.417419091, 5.282441877, -0.7989730812, -1.120716, 0.0, 0.0],
                [1.018281586, 0.05487564154, 0.9685008, 0.0, 0.0, 0.0],
            ]
        ),
        "MPG": np.array(
            [
                [1013.432256, 20.92360434, -1.836773874, -3.537032454, -1.11397815,
                 0.569106],
                [-34.27378918, -15.64158448, 0.8567913322, 4.514660565, -1.079406, 0.0],
                [-8.670222779, 5.715651169, -1.013522009, -0.69741, 0.0, 0.0],
                [2.930276575, -0.9010267062, 0.6562944, 0.0, 0.0, 0.0],
            ]
        ),
    }
)  # fmt: skip
_COOLANT_LAWS: Mapping[str, tuple[tuple[float, ...], Mapping[str, Array]]] = (
    MappingProxyType(
        {
            "heat_capacity": (_WATER_CP, _GLYCOL_CP),
            "density": (_WATER_DENSITY, _GLYCOL_DENSITY),
        }
    )
)
_FREEZING: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "MEG": (0.000295580995, -30.61472215, -11.81987572, -186.2351404,
                83.06943771, 11.36509442),
        "MPG": (-0.0250622867, -17.71991273, -134.3268035, 328.4449957,
                -565.7512737, 146.4664941),
    }
)  # fmt: skip
_GLYCOL_MAX = 0.6
_WATER_MAX = 130.0
_GLYCOL_TEMP_MAX = 100.0
COOLANTS = ("water", *_FREEZING)


def check_coolant(coolant: Coolant) -> str | None:
    """Say why a coolant cannot be used.

    Parameters
    ----------
    coolant : Coolant
        As in the configuration.

    Returns
    -------
    str or None
        None if it can be used, else a sentence with what is right.
    """
    if coolant.kind not in COOLANTS:
        match = next(
            iter(difflib.get_close_matches(coolant.kind, COOLANTS, n=1, cutoff=0.3)), ""
        )
        hint = f'; write "{match}"' if match else ""
        return f'coolant "{coolant.kind}" is none of {", ".join(COOLANTS)}{hint}'
    if coolant.kind == "water" and coolant.mass_fraction != 0.0:
        return (
            f"water with a glycol mass fraction of {coolant.mass_fraction:g}; "
            'write kind "MEG" or "MPG"'
        )
    if not 0.0 <= coolant.mass_fraction <= _GLYCOL_MAX:
        return (
            f"glycol mass fraction {coolant.mass_fraction:g} is not between 0 and "
            f"{_GLYCOL_MAX:g}; it is a fraction, not per cent"
        )
    return None


@lru_cache(maxsize=256)
def freezing_point(coolant: Coolant) -> float:
    """Temperature at which a coolant begins to freeze.

    Parameters
    ----------
    coolant : Coolant
        Water, MEG or MPG, up to 60 % glycol by mass.

    Returns
    -------
    float
        Freezing point. [degC]

    Raises
    ------
    FluidError
        If the coolant cannot be used; the text says why.
    """
    problem = check_coolant(coolant)
    if problem is not None:
        raise FluidError(problem)
    if coolant.mass_fraction == 0.0:
        return 0.0
    return float(polynomial.polyval(coolant.mass_fraction, _FREEZING[coolant.kind]))


def heat_capacity(coolant: Coolant, temp: ArrayLike) -> Array:
    """Specific heat capacity of a coolant.

    One property model per coolant, so that a balance over it is consistent:
    water and glycol solutions differ by 0.3 % where they should meet.

    Parameters
    ----------
    coolant : Coolant
        Water, MEG or MPG, up to 60 % glycol by mass.
    temp : array_like
        Temperature; for a heat flow, the mean of inlet and outlet. [degC]

    Returns
    -------
    ndarray
        Heat capacity; NaN where the coolant is frozen, or hotter than the
        property model allows (130 degC for water, 100 for glycol). [J/(kg K)]

    Raises
    ------
    FluidError
        If the coolant cannot be used; the text says why.

    References
    ----------
    .. [1] I. H. Bell et al., Ind. Eng. Chem. Res. 53 (2014) 2498 (CoolProp);
       glycols after A. Melinder, Properties of Secondary Working Fluids, 2010.
    """
    return _coolant_property(coolant, temp, "heat_capacity")


def density(coolant: Coolant, temp: ArrayLike) -> Array:
    """Density of a coolant, at the temperature of its flow meter.

    Parameters
    ----------
    coolant : Coolant
        Water, MEG or MPG, up to 60 % glycol by mass.
    temp : array_like
        Temperature. [degC]

    Returns
    -------
    ndarray
        Density; NaN where :func:`heat_capacity` is. [kg/m3]

    Raises
    ------
    FluidError
        If the coolant cannot be used; the text says why.
    """
    return _coolant_property(coolant, temp, "density")


def heat_capacity_slope(coolant: Coolant, temp: ArrayLike) -> Array:
    """Change of a coolant's heat capacity with temperature.

    Parameters
    ----------
    coolant : Coolant
        Water, MEG or MPG, up to 60 % glycol by mass.
    temp : array_like
        Temperature. [degC]

    Returns
    -------
    ndarray
        Slope; NaN where :func:`heat_capacity` is. [J/(kg K2)]

    Raises
    ------
    FluidError
        If the coolant cannot be used; the text says why.
    """
    return _coolant_property(coolant, temp, "heat_capacity", slope=True)


def _coolant_property(
    coolant: Coolant, temp: ArrayLike, quantity: str, *, slope: bool = False
) -> Array:
    t = np.asarray(temp, dtype=float)
    frozen, highest, middle, terms = _coolant_terms(coolant, quantity, slope)
    value = np.asarray(polynomial.polyval((t - middle) / 60.0, terms), dtype=float)
    with np.errstate(invalid="ignore"):
        return np.where((t >= frozen) & (t <= highest), value, np.nan)


@lru_cache(maxsize=256)
def _coolant_terms(
    coolant: Coolant, quantity: str, slope: bool
) -> tuple[float, float, float, Array]:
    """Return where a coolant is liquid, and its polynomial about a middle. [degC]."""
    water, glycol = _COOLANT_LAWS[quantity]
    frozen = freezing_point(coolant)
    if coolant.mass_fraction == 0.0:
        highest, middle, terms = _WATER_MAX, 60.0, np.array(water)
    else:
        x = (coolant.mass_fraction - 0.3) / 0.3
        terms = np.asarray(polynomial.polyval(x, glycol[coolant.kind].T), dtype=float)
        highest, middle = _GLYCOL_TEMP_MAX, 40.0
    if slope:
        terms = polynomial.polyder(terms) / 60.0
    return frozen, highest, middle, terms
