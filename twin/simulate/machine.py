"""The simulated heat pump: another physics than the one the twin fits to it.

What the twin does not know of: the heat transfer coefficient of each zone
follows its own law of flow, flux and vapour quality; the exchangers are summed
cell by cell; refrigerant loses pressure in evaporator, suction line and
condenser; the compressor has a built-in volume ratio, leaks through its gaps
and is driven through a frequency converter; its shell warms the room; superheat
and subcooling move with load. Liquid and refrigerant energy close exactly.

The unknowns are evaporating temperature, condensing temperature and speed,
found for whole arrays at once by Newton's method.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from twin.simulate import media

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Flags = NDArray[np.bool_]

ROOM_DEGC = 24.0
KELVIN = 273.15
_CHUNK = 8192
_TOLERANCE = 1e-8
_ITERATIONS = 60
_RENEW = 8  # steps that a slope may serve
_BOIL_CELLS = 4
_DESUPERHEAT_CELLS = 2
_CONDENSE_CELLS = 4

# Share of each resistance in the whole at the rated point; the rest of the
# wall's is the refrigerant's film.
_LIQUID_SHARE, _WALL_SHARE = 0.40, 0.08

_CONDENSER_VOLUME = 0.55  # of all that gas can fill at standstill
_GAS_BLANKET = 6.0  # film resistance gained, by mole fraction of such gas
_RATED_OPENING = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """What a machine is bought for: heat and the four liquid temperatures [degC]."""

    sink_heat_w: float
    source_inlet_temp_degc: float
    source_outlet_temp_degc: float
    sink_inlet_temp_degc: float
    sink_outlet_temp_degc: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """How a machine is made. Conductances belong to the rated point [W/K].

    ``swept_m3_s`` is at rated speed, as are the flows. The converter's and
    motor's losses are shares of the rated shaft power.
    """

    refrigerant: str
    rating: Rating
    swept_m3_s: float
    evaporator_w_k: float
    condenser_w_k: float
    source_capacity_w_k: float
    sink_capacity_w_k: float
    refrigerant_kg_s: float
    shaft_w: float
    evaporating_degc: float
    condensing_degc: float
    speed_low: float = 0.35
    speed_high: float = 1.10
    superheat_k: float = 5.5
    subcooling_k: float = 4.0
    # compressor
    best_efficiency: float = 0.745
    best_ratio: float = 2.9
    over_compression: float = 0.16
    under_compression: float = 0.30
    best_speed: float = 0.82
    speed_loss: float = 0.12
    gap_leak: float = 0.030
    gap_leak_high: float = 0.006
    # converter and motor
    fixed_loss: float = 0.012
    running_loss: float = 0.036
    load_loss: float = 0.018
    shell_w_k: float = 0.0
    # pressure losses at the rated point, as saturation temperature [K]
    evaporator_drop_k: float = 0.35
    suction_drop_k: float = 0.30
    condenser_drop_k: float = 0.30


@dataclass(frozen=True, slots=True)
class Duty:
    """What a machine is asked for, row by row.

    Mass flow times heat capacity of the liquids [W/K], their inlet
    temperatures [degC], and the sink heat wanted [W].
    """

    source_inlet_degc: Array
    sink_inlet_degc: Array
    source_capacity_w_k: Array
    sink_capacity_w_k: Array
    sink_heat_w: Array

    def take(self, rows: Any) -> Duty:
        """Return those rows only."""
        return Duty(*(getattr(self, name)[rows] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Wear:
    """How far a machine has left its healthy state, row by row; all zero is new.

    ``condenser`` and ``evaporator`` are lost shares of the rated conductance,
    ``isentropic`` and ``volumetric`` lost shares of the efficiency, ``charge``
    the lost share of subcooling. ``inert_pa`` is the partial pressure of gas
    that does not condense, at standstill; ``swing_k`` is how far the valve has
    driven the superheat at half load from where it belongs, at that instant.
    """

    condenser: Array
    evaporator: Array
    isentropic: Array
    volumetric: Array
    charge: Array
    inert_pa: Array
    swing_k: Array

    @classmethod
    def none(cls, rows: int) -> Wear:
        """Return the wear of a new machine."""
        return cls(*(np.zeros(rows) for _ in cls.__slots__))

    def take(self, rows: Any) -> Wear:
        """Return those rows only."""
        return Wear(*(getattr(self, name)[rows] for name in self.__slots__))


Outcome = dict[str, "Array"]


def _open(difference: Array) -> Array:
    """Keep a temperature difference positive, so that Newton may stray."""
    return 0.5 * (difference + np.sqrt(difference * difference + 4e-4))


def _mean_difference(a: Array, b: Array) -> Array:
    """Logarithmic mean by Underwood's cube roots: 0.3 % up to a ratio of ten."""
    root = 0.5 * (np.cbrt(a) + np.cbrt(b))
    return root * root * root


def _film(liquid: Array, wall: Array | float, refrigerant: Array) -> Array:
    return 1.0 / (liquid + wall + 1.0 / refrigerant)


def state(
    build: Build,
    fluid: media.Refrigerant,
    unknown: Array,
    duty: Duty,
    wear: Wear,
) -> tuple[Array, Array, Outcome]:
    """Return the misfit of both exchangers, the sink heat and every other quantity.

    ``unknown`` holds evaporating temperature at the evaporator's outlet,
    condensing temperature at the condenser's inlet [degC] and relative speed.
    A misfit is the logarithm of the area needed over the area there is.
    """
    te, tc, speed = unknown
    source_in, sink_in = duty.source_inlet_degc, duty.sink_inlet_degc

    # valve: superheat moves with load, and rises when liquid runs short
    starved = np.maximum(wear.charge - 0.7, 0.0)
    superheat = build.superheat_k * (0.72 + 0.28 * speed) + 14.0 * starved
    # a valve too large for the load hunts the more, the smaller the load
    # until it floods the compressor, or has opened no further
    swing = wear.swing_k * (1.3 - 0.6 * speed) / superheat
    superheat = superheat * (1.0 + 0.9 * np.tanh(swing))
    subcooling = (
        build.subcooling_k * (1.0 - np.minimum(wear.charge, 1.0)) * (0.75 + 0.3 * speed)
    )

    # suction line: isothermal, its loss follows the velocity head
    p_evaporator = fluid.pressure(te)
    slip = build.suction_drop_k * speed * speed
    t1 = te + superheat
    te1 = te - slip
    p1 = p_evaporator - slip / fluid.temp_slope(te)
    h1, s1, rho1 = fluid.suction(te1, t1 - te1)

    # compressor
    # running sweeps all gas that does not condense into the condenser
    inert = wear.inert_pa / _CONDENSER_VOLUME * (tc + KELVIN) / (ROOM_DEGC + KELVIN)
    p2 = fluid.pressure(tc) + inert
    t2 = tc + inert * fluid.temp_slope(tc)
    ratio = p2 / p1
    leak = (build.gap_leak / speed + build.gap_leak_high) * (ratio - 1.0)
    volumetric = np.clip(1.0 - leak, 0.25, 1.0) * (1.0 - wear.volumetric)
    lean = np.log(np.maximum(ratio, 1.01) / build.best_ratio)
    bend = build.under_compression * np.minimum(lean, 0.0) ** 2
    bend += build.over_compression * np.maximum(lean, 0.0) ** 2
    efficiency = build.best_efficiency * (1.0 - bend)
    efficiency *= 1.0 - build.speed_loss * (speed - build.best_speed) ** 2
    efficiency = np.maximum(efficiency, 0.25) * (1.0 - wear.isentropic)
    flow = volumetric * build.swept_m3_s * speed * rho1
    work = (fluid.isentropic_enthalpy(t2, s1) - h1) / efficiency
    shaft = flow * work
    power = (
        build.fixed_loss * build.shaft_w
        + (1.0 + build.running_loss) * shaft
        + build.load_loss * shaft * shaft / build.shaft_w
    )
    loss = build.shell_w_k * (tc + 12.0 - ROOM_DEGC)
    h2 = h1 + work - loss / flow

    # evaporator: boiling and superheating, cell by cell
    lift = flow / build.refrigerant_kg_s
    drop_c = build.condenser_drop_k * lift * lift
    t3 = tc - drop_c - subcooling
    h3 = fluid.liquid_enthalpy(t3)
    hg_e = fluid.vapour_enthalpy(te)
    heat_boil = flow * (hg_e - h3)
    heat_dry = flow * (h1 - hg_e)
    heat_e = heat_boil + heat_dry
    t_s1 = source_in - heat_dry / duty.source_capacity_w_k
    source_out = source_in - heat_e / duty.source_capacity_w_k
    drop_e = build.evaporator_drop_k * lift * lift
    clean_e, fouled_e, area_e = _evaporator(
        build, duty, wear, te, t1, drop_e, t_s1, source_out, heat_boil, heat_dry,
        lift, (h3, hg_e, fluid.liquid_enthalpy(te)),
    )  # fmt: skip

    # condenser: desuperheating, condensing, subcooling, cell by cell
    hg_c = fluid.vapour_enthalpy(tc)
    hl_c = fluid.liquid_enthalpy(tc - drop_c)
    heat_hot = flow * np.maximum(h2 - hg_c, 0.0)
    heat_wet = flow * (np.minimum(h2, hg_c) - hl_c)
    heat_cool = flow * (hl_c - h3)
    heat_c = heat_hot + heat_wet + heat_cool
    t_k1 = sink_in + heat_cool / duty.sink_capacity_w_k
    t_k2 = t_k1 + heat_wet / duty.sink_capacity_w_k
    sink_out = t_k2 + heat_hot / duty.sink_capacity_w_k
    gas = [
        tc + fluid.superheat_of(tc, (h2 - hg_c) * (k / _DESUPERHEAT_CELLS))
        for k in range(_DESUPERHEAT_CELLS + 1)
    ]
    clean_c, fouled_c, area_c = _condenser(
        build, duty, wear, tc, t3, drop_c, (sink_in, t_k1, t_k2, sink_out),
        (heat_cool, heat_wet, heat_hot), gas, lift, p2,
    )  # fmt: skip

    misfit = np.stack([np.log(area_e), np.log(area_c)])
    return (
        misfit,
        heat_c,
        {
            "speed": speed,
            "source_heat_w": heat_e,
            "sink_heat_w": heat_c,
            "compressor_power_w": power,
            "shaft_power_w": shaft,
            "heat_loss_w": loss,
            "source_outlet_temp_degc": source_out,
            "sink_outlet_temp_degc": sink_out,
            "suction_pressure_pa": p1,
            "compressor_discharge_pressure_pa": p2,
            "suction_temp_degc": t1,
            "compressor_discharge_temp_degc": gas[-1],
            "liquid_temp_degc": t3,
            "evaporating_temp_degc": te1,
            "condensing_temp_degc": tc,
            "superheat_k": t1 - te1,
            "subcooling_k": tc - t3,
            "inert_pressure_pa": inert,
            "expansion_valve_ratio": _opening(build, fluid, wear, flow, p2, p1),
            "refrigerant_flow_kg_s": flow,
            "isentropic_efficiency": efficiency,
            "volumetric_efficiency": volumetric,
            "evaporator_conductance_ratio": clean_e / fouled_e,
            "condenser_conductance_ratio": clean_c / fouled_c,
        },
    )


def _opening(
    build: Build,
    fluid: media.Refrigerant,
    wear: Wear,
    flow: Array,
    high: Array,
    low: Array,
) -> Array:
    """Return how far the expansion valve is open: an orifice, as at the rated point.

    Liquid that flashes ahead of it, and a superheat that is too small, close
    and open it; a hunting valve is ahead of the superheat that it drives.
    """
    rated = fluid.pressure(np.array(build.condensing_degc)) - fluid.pressure(
        np.array(build.evaporating_degc)
    )
    drive = np.sqrt(np.maximum(high - low, 1.0) / rated)
    flash = 1.0 + 0.8 * np.maximum(wear.charge - 0.5, 0.0)
    ratio = _RATED_OPENING * flow / build.refrigerant_kg_s / drive * flash
    return np.clip(ratio * (1.0 - 0.03 * wear.swing_k), 0.0, 1.0)


def _evaporator(
    build: Build, duty: Duty, wear: Wear, te: Array, t1: Array, drop: Array,
    t_s1: Array, source_out: Array, heat_boil: Array, heat_dry: Array, lift: Array,
    enthalpies: tuple[Array, Array, Array],
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Area needed over area there is: clean, as fouled, and the one that counts."""
    ua = build.evaporator_w_k
    film = ua / (1.0 - _LIQUID_SHARE - _WALL_SHARE)
    brought = duty.source_capacity_w_k / build.source_capacity_w_k
    liquid = _LIQUID_SHARE / ua * brought**-0.76
    liquid = liquid * (
        1.0 - 0.005 * (source_out - build.rating.source_outlet_temp_degc)
    )
    wall = _WALL_SHARE / ua
    dirt = wear.evaporator / (1.0 - wear.evaporator) / ua
    h_in, h_gas, h_liquid = enthalpies
    wet_in = (h_in - h_liquid) / (h_gas - h_liquid)
    rated = build.rating.sink_heat_w - build.shaft_w
    pool = film * np.maximum(heat_boil / rated, 1e-3) ** 0.52
    clean = np.zeros_like(te)
    fouled = np.zeros_like(te)
    share = heat_boil / _BOIL_CELLS
    gap = source_out - (te + drop)
    near = _open(gap)
    for k in range(_BOIL_CELLS):
        end = (k + 1.0) / _BOIL_CELLS
        far = _open(source_out + end * (t_s1 - source_out) - te - drop * (1.0 - end))
        pull = share / _mean_difference(near, far)
        quality = wet_in + (1.0 - wet_in) * (end - 0.5 / _BOIL_CELLS)
        dry_out = 1.0 - 0.55 / (1.0 + np.exp(-(quality - 0.88) / 0.03))
        local = pool * (0.82 + 0.45 * quality) * dry_out
        clean += pull / _film(liquid, wall, local)
        fouled += pull / _film(liquid, wall + dirt, local)
        near = far
    dry = 0.14 * film * lift**0.8
    # the vapour leaves against the warmest liquid
    pull = heat_dry / _mean_difference(
        _open(duty.source_inlet_degc - t1), _open(t_s1 - te)
    )
    clean += pull / _film(liquid, wall, dry)
    fouled += pull / _film(liquid, wall + dirt, dry)
    return clean, fouled, fouled


def _condenser(
    build: Build, duty: Duty, wear: Wear, tc: Array, t3: Array, drop: Array,
    water: tuple[Array, Array, Array, Array], heats: tuple[Array, Array, Array],
    gas: list[Array], lift: Array, pressure: Array,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Area needed over area there is: clean, as fouled, and the one that counts."""
    ua = build.condenser_w_k
    # vapour reaches the film only through the gas that stays behind before it
    blanket = 1.0 + _GAS_BLANKET * wear.inert_pa / _CONDENSER_VOLUME / pressure
    film = ua / (1.0 - _LIQUID_SHARE - _WALL_SHARE) / blanket
    sink_in, t_k1, t_k2, sink_out = water
    heat_cool, heat_wet, heat_hot = heats
    brought = duty.sink_capacity_w_k / build.sink_capacity_w_k
    liquid = _LIQUID_SHARE / ua * brought**-0.72
    liquid = liquid * (1.0 - 0.004 * (sink_in - build.rating.sink_inlet_temp_degc))
    wall = _WALL_SHARE / ua
    dirt = wear.condenser / (1.0 - wear.condenser) / ua
    flooded = 0.42 * film * lift**0.5
    pull = heat_cool / _mean_difference(_open(t3 - sink_in), _open(tc - drop - t_k1))
    clean = pull / _film(liquid, wall, flooded)
    fouled = pull / _film(liquid, wall + dirt, flooded)
    near = _open(tc - drop - t_k1)
    for k in range(_CONDENSE_CELLS):
        end = (k + 1.0) / _CONDENSE_CELLS
        quality = end - 0.5 / _CONDENSE_CELLS
        far = _open(tc - drop * (1.0 - end) - t_k1 - end * (t_k2 - t_k1))
        # shear carries the film off where there is vapour, gravity where not
        local = film * (0.45 + 0.95 * quality) * lift ** (0.05 + 0.35 * quality)
        pull = heat_wet / _CONDENSE_CELLS / _mean_difference(near, far)
        clean += pull / _film(liquid, wall, local)
        fouled += pull / _film(liquid, wall + dirt, local)
        near = far
    for k in range(_DESUPERHEAT_CELLS):
        end = (k + 1.0) / _DESUPERHEAT_CELLS
        far = _open(gas[k + 1] - t_k2 - end * (sink_out - t_k2))
        # vapour above saturation condenses on a wall that is below it
        damp = 1.0 + 0.6 * np.tanh(np.maximum(tc - t_k2, 0.0) / 2.0)
        local = 0.26 * film * lift**0.6 * damp
        pull = heat_hot / _DESUPERHEAT_CELLS / _mean_difference(near, far)
        clean += pull / _film(liquid, wall, local)
        fouled += pull / _film(liquid, wall + dirt, local)
        near = far
    return clean, fouled, fouled


def size(refrigerant: str, rating: Rating, **changes: float) -> Build:
    """Return the machine that makes the rating at its rated speed.

    Approaches at the rated point are 4 K in the evaporator and 2 K in the
    condenser; ``changes`` replaces characteristics of :class:`Build`.
    """
    fluid = media.refrigerant(refrigerant)
    te = rating.source_outlet_temp_degc - 4.0
    tc = rating.sink_outlet_temp_degc + 2.0
    heat = rating.sink_heat_w
    sink_k = rating.sink_outlet_temp_degc - rating.sink_inlet_temp_degc
    source_k = rating.source_inlet_temp_degc - rating.source_outlet_temp_degc
    low, high = np.array(te), np.array(tc)
    # near enough for what follows to converge
    flow = heat / float(fluid.vapour_enthalpy(high) - fluid.liquid_enthalpy(high))
    build = Build(
        refrigerant=refrigerant, rating=rating,
        swept_m3_s=flow / float(fluid.vapour_density(low)),
        evaporator_w_k=0.8 * heat / 6.0, condenser_w_k=heat / 8.0,
        source_capacity_w_k=0.8 * heat / source_k, sink_capacity_w_k=heat / sink_k,
        refrigerant_kg_s=flow, shaft_w=0.2 * heat, evaporating_degc=te,
        condensing_degc=tc,
    )  # fmt: skip
    # a screw is bought with the volume ratio that suits its job
    ratio = float(fluid.pressure(np.array(tc)) / fluid.pressure(np.array(te)))
    build = replace(build, best_ratio=0.95 * ratio)
    build = replace(build, **changes)  # type: ignore[arg-type]
    at = np.array([[te], [tc], [1.0]])
    shell = 0.045 / (tc + 12.0 - ROOM_DEGC)
    for _ in range(40):
        duty = Duty(
            np.array([rating.source_inlet_temp_degc]),
            np.array([rating.sink_inlet_temp_degc]),
            np.array([build.source_capacity_w_k]),
            np.array([build.sink_capacity_w_k]),
            np.array([heat]),
        )
        misfit, made, full = state(build, fluid, at, duty, Wear.none(1))
        scale = heat / float(made[0])
        build = replace(
            build,
            swept_m3_s=build.swept_m3_s * scale,
            evaporator_w_k=build.evaporator_w_k * math.exp(float(misfit[0, 0])),
            condenser_w_k=build.condenser_w_k * math.exp(float(misfit[1, 0])),
            source_capacity_w_k=float(full["source_heat_w"][0]) / source_k,
            sink_capacity_w_k=heat / sink_k,
            refrigerant_kg_s=float(full["refrigerant_flow_kg_s"][0]),
            shaft_w=float(full["shaft_power_w"][0]),
            shell_w_k=shell * float(full["shaft_power_w"][0]),
        )
    return build


def at_load(build: Build, load: float) -> dict[str, float]:
    """Return what the new machine does at its rated temperatures and a part load.

    Heat and both flows are that share of the rated ones [1], as a data sheet has it.
    """
    rating = build.rating
    duty = Duty(
        *(
            np.array([value])
            for value in (
                rating.source_inlet_temp_degc,
                rating.sink_inlet_temp_degc,
                load * build.source_capacity_w_k,
                load * build.sink_capacity_w_k,
                load * rating.sink_heat_w,
            )
        )
    )
    made = run(build, duty, Wear.none(1))
    return {name: float(value[0]) for name, value in made.items()}


def rated_power(build: Build) -> float:
    """Return the electrical power at the rated point [W]."""
    return at_load(build, 1.0)["compressor_power_w"]


def run(build: Build, duty: Duty, wear: Wear) -> Outcome:
    """Return what the machine does in a steady state, row by row.

    It makes the heat asked for, or what its lowest or highest speed makes; the
    outcome's ``limited`` is -1, 0 or 1 accordingly. Rows that have no answer
    are NaN.
    """
    rows = len(duty.sink_heat_w)
    parts = [
        _run(build, duty.take(part), wear.take(part))
        for part in (slice(i, i + _CHUNK) for i in range(0, rows, _CHUNK))
    ]
    if not parts:
        parts = [_run(build, duty, wear)]
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def _run(build: Build, duty: Duty, wear: Wear) -> Outcome:
    fluid = media.refrigerant(build.refrigerant)
    wanted = duty.sink_heat_w
    speed = np.clip(
        wanted / build.rating.sink_heat_w, build.speed_low, build.speed_high
    )
    evaporating = duty.source_inlet_degc - (
        build.rating.source_inlet_temp_degc - build.evaporating_degc
    ) * (0.25 + 0.75 * speed)
    condensing = duty.sink_inlet_degc + wanted / duty.sink_capacity_w_k + 2.0 * speed
    unknown = np.stack([evaporating, condensing, speed])
    held = np.full_like(speed, np.nan)
    unknown, done = _newton(build, fluid, unknown, duty, wear, held)
    limited = np.zeros_like(speed)
    for bound, sign in ((build.speed_high, 1.0), (build.speed_low, -1.0)):
        over = (unknown[2] - bound) * sign > 1e-9
        # What found no answer wants more than the highest speed makes; where that
        # has none either, with little liquid, less than the lowest makes.
        over |= ~done
        limited[over & done] = sign
        if over.any():
            held = np.full(int(over.sum()), bound)
            start = np.stack([evaporating[over], condensing[over], held])
            fixed, ok = _newton(
                build, fluid, start, duty.take(over), wear.take(over), held
            )
            if sign < 0:
                made = state(build, fluid, fixed, duty.take(over), wear.take(over))[1]
                ok &= made >= (1.0 - 1e-6) * wanted[over]
            unknown[:, over] = fixed
            done[over] = ok
            limited[over] = sign
    _, _, outcome = state(build, fluid, unknown, duty, wear)
    outcome["limited"] = limited
    for value in outcome.values():
        value[~done] = np.nan
    return outcome


def _newton(
    build: Build,
    fluid: media.Refrigerant,
    start: Array,
    duty: Duty,
    wear: Wear,
    held: Array,
) -> tuple[Array, Flags]:
    """Solve every row; where ``held`` is a number, speed is that and heat is free."""
    rows = start.shape[1]
    unknown = start.copy()
    done = np.zeros(rows, dtype=bool)
    left = np.arange(rows)
    steps = np.array([1e-4, 1e-4, 1e-6])
    most = np.array([4.0, 4.0, 0.25])[:, None]
    fixed = ~np.isnan(held)

    def misfit(x: Array, d: Duty, w: Wear, hold: Array, fix: Flags) -> Array:
        pair, heat, _ = state(build, fluid, x, d, w)
        last = np.where(fix, x[2] - hold, heat / d.sink_heat_w - 1.0)
        return np.concatenate([pair, last[None]])

    d, w, x, hold, fix = duty, wear, unknown.copy(), held, fixed
    f = misfit(x, d, w, hold, fix)
    inverse = np.zeros((rows, 3, 3))
    age = np.full(rows, _RENEW)
    for _ in range(_ITERATIONS):
        good = np.abs(f).max(axis=0) < _TOLERANCE
        unknown[:, left] = x
        done[left[good]] = True
        if good.any():
            keep = ~good
            left, x, f = left[keep], x[:, keep], f[:, keep]
            d, w, hold, fix = d.take(keep), w.take(keep), hold[keep], fix[keep]
            inverse, age = inverse[keep], age[keep]
        if not len(left):
            break
        old = np.flatnonzero(age >= _RENEW)
        if len(old):
            at, fo = x[:, old], f[:, old]
            do, wo, ho, io = d.take(old), w.take(old), hold[old], fix[old]
            jacobian = np.empty((len(old), 3, 3))
            for k in range(3):
                moved = at.copy()
                moved[k] += steps[k]
                jacobian[:, :, k] = ((misfit(moved, do, wo, ho, io) - fo) / steps[k]).T
            determinant = np.linalg.det(jacobian)
            lost = ~np.isfinite(determinant) | (np.abs(determinant) < 1e-12)
            jacobian[lost] = np.eye(3)
            inverse[old] = np.linalg.inv(jacobian)
            age[old] = 0
        move = -np.einsum("nij,jn->in", inverse, f)
        move = move * np.min(most / np.maximum(np.abs(move), most), axis=0)
        # the vapour must stay vapour, the liquid below its critical point
        to = x + move
        to[0] = np.clip(to[0], fluid.low, 64.0)
        to[1] = np.clip(to[1], to[0] + 3.0, fluid.high)
        to[2] = np.clip(to[2], 0.1, 3.0)
        new = misfit(to, d, w, hold, fix)
        # Broyden's update, and a fresh slope where it does not help
        went, gave = to - x, new - f
        guess = np.einsum("nij,jn->in", inverse, gave)
        along = np.einsum("in,nij->jn", went, inverse)
        scale = np.einsum("in,in->n", went, guess)
        scale = np.where(np.abs(scale) > 1e-30, scale, np.inf)
        inverse += np.einsum("in,jn->nij", (went - guess) / scale, along)
        better = np.abs(new).max(axis=0) < 0.3 * np.abs(f).max(axis=0)
        age = np.where(better, age + 1, _RENEW)
        x, f = to, new
    return unknown, done
