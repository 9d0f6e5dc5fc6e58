"""The vapour-compression cycle, solved for whole arrays of operating points.

Two unknowns, the saturation temperatures, found as logarithms of the two end
pinches from two residuals, the areas of evaporator and condenser. What a
machine is, in the field's words, is :mod:`twin.heatpump`'s business; here are
only numbers in the order of :data:`PARAMETERS`. All the compiled code stands in
this one file because the compiler's disk cache does not notice a change in
another.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from twin.fluids import (
    CRITICAL_MARGIN_K,
    G_DH_PER_CELL,
    G_DS_PER_CELL,
    G_SC_PER_CELL,
    G_SH_PER_CELL,
    G_T0,
    G_T_CRITICAL,
    G_T_LOW,
    G_T_PER_CELL,
    Tables,
)

Array = NDArray[np.float64]


class Reason(IntEnum):
    """Why a row has no answer; ``SOLVED`` is why it has one."""

    SOLVED = 0
    NO_INPUT = 1  # a condition is missing or not a number
    STANDSTILL = 2  # no speed, or no heat asked for
    NO_FLOW = 3  # a liquid does not flow, or flows backwards
    NEAR_CRITICAL = 4  # it would condense within 6 K of the critical point
    TOO_COLD = 5  # it would evaporate below the tables
    TOO_HOT = 6  # discharge, superheat or subcooling beyond the tables
    NO_LIFT = 7  # it would condense below the evaporating temperature
    INFEASIBLE = 8  # no saturation temperatures fit the two exchangers
    SPEED_LIMIT = 9  # the heat asked for needs a speed beyond the limits
    FROZEN = 10  # a coolant is below its freezing point
    UNCONVERGED = 11  # none of the above, and still no answer
    IMPLAUSIBLE = 12  # a condition is not in its unit


# The parameters of the machine, in the kernel's order.
PARAMETERS: tuple[str, ...] = (
    "evaporator_ua_w_k",
    "condenser_ua_w_k",
    "evaporator_flow_exponent",
    "condenser_flow_exponent",
    "isentropic_efficiency",
    "isentropic_pressure_slope",
    "isentropic_pressure_curvature",
    "isentropic_speed_slope",
    "isentropic_speed_curvature",
    "isentropic_cross_slope",
    "volumetric_efficiency",
    "volumetric_pressure_slope",
    "swept_flow_m3_s",
    "motor_efficiency",
    "heat_loss_ratio",
    "superheat_k",
    "subcooling_k",
    "evaporator_fouling_k_w",
    "condenser_fouling_k_w",
    "evaporator_liquid_share",
    "condenser_liquid_share",
    "evaporator_refrigerant_exponent",
    "condenser_refrigerant_exponent",
    "superheat_zone_ratio",
    "desuperheat_zone_ratio",
    "subcool_zone_ratio",
    "source_flow_rated_kg_s",
    "sink_flow_rated_kg_s",
    "refrigerant_flow_rated_kg_s",
)
(
    UA_E, UA_C, N_WE, N_WC, E0, E1, E2, E3, E4, E5, AV0, AV1, VD0, ETA_EM, F_Q, SH, SC,
    RF_E, RF_C, PHI_E, PHI_C, N_RE, N_RC, R_SH, R_DS, R_SC, M_S0, M_K0, M_R0,
) = range(len(PARAMETERS))  # fmt: skip

# The inputs of a row.
INPUTS: tuple[str, ...] = (
    "source_inlet_temp",  # K
    "source_flow",  # kg/s
    "sink_inlet_temp",  # K
    "sink_flow",  # kg/s
    "given",  # speed relative to rated [1], or heat [W]
    "source_heat_capacity",  # J/(kg K), at the inlet temperature
    "sink_heat_capacity",
    "source_heat_capacity_slope",  # J/(kg K2)
    "sink_heat_capacity_slope",
)
# The outputs of a row. Temperatures in K.
OUTPUTS: tuple[str, ...] = (
    "source_outlet_temp",
    "sink_outlet_temp",
    "compressor_power",
    "source_heat",
    "sink_heat",
    "suction_pressure",
    "discharge_pressure",
    "suction_temp",
    "discharge_temp",
    "liquid_temp",
    "evaporating_temp",
    "condensing_temp",
    "refrigerant_flow",
    "relative_speed",
    "evaporator_ua",
    "condenser_ua",
    "isentropic_efficiency",
    "volumetric_efficiency",
)
(
    Y_TSO, Y_TKO, Y_W, Y_QE, Y_QC, Y_PE, Y_PC, Y_T1, Y_T2, Y_T3, Y_TE, Y_TC, Y_MR, Y_N,
    Y_UAE, Y_UAC, Y_ETAIS, Y_ETAV,
) = range(len(OUTPUTS))  # fmt: skip
_N_Y = len(OUTPUTS)

GIVEN_SPEED, GIVEN_SOURCE_HEAT, GIVEN_SINK_HEAT = 0, 1, 2

# What one evaluation can find wrong with where it stands.
_EVAPORATOR, _CONDENSER, _OUTSIDE, _HOT, _NO_LIFT = 1, 2, 4, 8, 16
_BLOCKING = _EVAPORATOR | _CONDENSER | _OUTSIDE

_TINY = 1e-12
_MAX_STEPS = 40
_CRITICAL_MARGIN = CRITICAL_MARGIN_K


class Options(NamedTuple):
    """How a row is solved: tolerance of the log residuals, limits of the speed."""

    tolerance: float = 1e-9
    speed_low: float = 0.01
    speed_high: float = 4.0


def _compiled(function: Callable[..., Any]) -> Any:
    settings: dict[str, Any] = {
        "error_model": "numpy",
        # NaN and infinity keep their meaning: they are how a row says no.
        "fastmath": {"contract", "nsz", "arcp"},
        "nogil": True,
    }
    try:
        return njit(cache=True, **settings)(function)
    except RuntimeError:  # no folder to cache in: compiled again in each process
        return njit(**settings)(function)


@_compiled
def _line(c, x):  # type: ignore[no-untyped-def]
    return ((c[3] * x + c[2]) * x + c[1]) * x + c[0]


@_compiled
def _plane(c, x, y):  # type: ignore[no-untyped-def]
    a = ((c[3] * y + c[2]) * y + c[1]) * y + c[0]
    b = ((c[7] * y + c[6]) * y + c[5]) * y + c[4]
    d = ((c[11] * y + c[10]) * y + c[9]) * y + c[8]
    e = ((c[15] * y + c[14]) * y + c[13]) * y + c[12]
    return ((e * x + d) * x + b) * x + a


@_compiled
def log_mean(a, b):  # type: ignore[no-untyped-def]
    """Mean of two positive temperature differences that drive a heat flow. [K]."""
    d = (a - b) / (a + b)
    if abs(d) < 1e-3:  # the quotient loses digits; its series does not
        d2 = d * d
        return 0.5 * (a + b) * (1.0 - d2 / 3.0 - 4.0 * d2 * d2 / 45.0)
    return (a - b) / np.log(a / b)


@_compiled
def _clip(x, low, high):  # type: ignore[no-untyped-def]
    return min(max(x, low), high)


@_compiled
def _speed_for_sink_heat(heat, k, dh13, dhs, base, e3, e4, p, start):  # type: ignore[no-untyped-def]
    # Sink heat = k n (h1 - h3 + (1 - f) dhs / eta(n)), k n the refrigerant flow.
    n = start
    loss = 1.0 - p[F_Q]
    for _ in range(60):
        d = n - 1.0
        eta = base + e3 * d + e4 * d * d
        slope = e3 + 2.0 * e4 * d
        if eta <= 0.25 or eta >= 0.95:
            eta = _clip(eta, 0.25, 0.95)
            slope = 0.0
        lift = loss * dhs / eta
        value = k * n * (dh13 + lift) - heat
        grad = k * (dh13 + lift) - k * n * lift * slope / eta
        if grad <= 0.0:
            return np.nan
        step = value / grad
        new = n - step
        if new <= 0.0:
            new = 0.5 * n
        moved = abs(new - n)
        n = new
        if moved <= 1e-15 * n or abs(step) <= 2e-16 * n:
            break
    return n


@_compiled
def evaluate(x, y, u, p, mode, pow_s, pow_k, tables, out):  # type: ignore[no-untyped-def]
    """Residuals and all outputs at one pair of log pinches.

    ``pow_s`` and ``pow_k`` are the liquids' flow terms of the conductances,
    which do not change while a row is solved. Returns the two residuals,
    ``ln(area needed / area there is)``, and what is infeasible.
    """
    sat, suc, liq, ise, dis, _, grid = tables
    pinch_e = np.exp(x)
    pinch_c = np.exp(y)
    te = u[0] - p[SH] - pinch_e
    tc = u[2] + p[SC] + pinch_c
    flag = 0
    n_t = sat.shape[0]
    # saturation lines
    a = (te - grid[G_T0]) * grid[G_T_PER_CELL]
    if not (a >= -8.0 and a <= n_t + 0.0):
        return 0.0, 0.0, _OUTSIDE | _EVAPORATOR
    ie = min(max(int(a), 0), n_t - 1)
    a -= ie
    b = (tc - grid[G_T0]) * grid[G_T_PER_CELL]
    if not (b >= 0.0 and b <= n_t + 0.0):
        return 0.0, 0.0, _OUTSIDE | _CONDENSER
    ic = min(int(b), n_t - 1)
    b -= ic
    lnpe = _line(sat[ie, 0], a)
    lnpc = _line(sat[ic, 0], b)
    hge = _line(sat[ie, 1], a)
    sge = _line(sat[ie, 2], a)
    hgc = _line(sat[ic, 1], b)
    sgc = _line(sat[ic, 2], b)
    hlc = _line(sat[ic, 3], b)
    rho_g = _line(tables[5][ie], a)
    # suction
    c = p[SH] * grid[G_SH_PER_CELL]
    j = min(max(int(c), 0), suc.shape[1] - 1)
    c -= j
    cell = suc[ie, j]
    rho1 = np.exp(rho_g + _plane(cell[0], a, c))
    dh1 = _plane(cell[1], a, c)
    h1 = hge + dh1
    s1 = sge + _plane(cell[2], a, c)
    # liquid: its own temperature's line, and the pressure's small effect
    if p[SC] > 0.0:
        t3 = tc - p[SC]
        d = (t3 - grid[G_T0]) * grid[G_T_PER_CELL]
        i3 = min(max(int(d), 0), n_t - 1)
        d -= i3
        e = p[SC] * grid[G_SC_PER_CELL]
        j = min(int(e), liq.shape[1] - 1)
        e -= j
        h3 = _line(sat[i3, 3], d) + _plane(liq[ic, j], b, e)
    else:
        h3 = hlc
    # compressor
    pi = np.exp(lnpc - lnpe)
    eta_v = _clip(p[AV0] - p[AV1] * (pi - 1.0), 0.2, 1.0)
    ds = s1 - sgc
    if ds >= 0.0:
        d = ds * grid[G_DS_PER_CELL]
        if d > ise.shape[1]:
            flag |= _HOT
        j = min(int(d), ise.shape[1] - 1)
        h2s = hgc + _plane(ise[ic, j], b, d - j)
    else:
        h2s = hgc + tc * ds
    dhs = h2s - h1
    d3 = pi - 3.0
    base = p[E0] + (p[E1] + p[E2] * d3) * d3
    e3 = p[E3] + p[E5] * d3
    k = eta_v * p[VD0] * rho1
    if mode == 0:
        n = u[4]
        mr = k * n
    elif mode == 1:
        mr = u[4] / (h1 - h3)
        n = mr / k
    else:
        n = _speed_for_sink_heat(
            u[4],
            k,
            h1 - h3,
            dhs,
            base,
            e3,
            p[E4],
            p,
            u[4] / (k * (h1 - h3 + max(dhs, 0.0) / max(base, 0.25))),
        )
        mr = k * n
    d = n - 1.0
    eta = _clip(base + (e3 + p[E4] * d) * d, 0.25, 0.95)
    w = dhs / eta
    h2 = h1 + (1.0 - p[F_Q]) * w
    dh2 = h2 - hgc
    rise = 0.0
    if dh2 > 0.0:
        d = dh2 * grid[G_DH_PER_CELL]
        if d > dis.shape[1]:
            flag |= _HOT
        j = min(int(d), dis.shape[1] - 1)
        rise = _plane(dis[ic, j], b, d - j)
    # conductances
    log_mr = np.log(mr / p[M_R0])
    ua_e = 1.0 / (
        (p[PHI_E] * pow_s + (1.0 - p[PHI_E]) * np.exp(-p[N_RE] * log_mr)) / p[UA_E]
        + p[RF_E]
    )
    ua_c = 1.0 / (
        (p[PHI_C] * pow_k + (1.0 - p[PHI_C]) * np.exp(-p[N_RC] * log_mr)) / p[UA_C]
        + p[RF_C]
    )
    # evaporator
    q_sh = mr * dh1
    q_et = mr * (hge - h3)
    q_e = q_sh + q_et
    cs = u[5]
    if u[7] != 0.0:  # the mean heat capacity between inlet and outlet, exactly
        cs = 0.5 * (cs + np.sqrt(max(cs * cs - 2.0 * u[7] * q_e / u[1], 0.0)))
    cs *= u[1]
    inlet = pinch_e + p[SH]  # T_si - T_e
    onset = inlet - q_sh / cs
    end = inlet - q_e / cs
    fe = 0.0
    if end > 0.0 and q_et > 0.0:
        area = q_et / (ua_e * log_mean(onset, end))
        if q_sh > 0.0:
            area += q_sh / (p[R_SH] * ua_e * log_mean(pinch_e, onset))
        fe = np.log(area)
    else:
        flag |= _EVAPORATOR
    # condenser
    q_ds = 0.0
    h_c = h2
    if dh2 > 0.0:
        q_ds = mr * dh2
        h_c = hgc
    q_ct = mr * (h_c - hlc)
    q_sc = mr * (hlc - h3)
    q_c = q_ds + q_ct + q_sc
    ck = u[6]
    if u[8] != 0.0:
        ck = 0.5 * (ck + np.sqrt(max(ck * ck + 2.0 * u[8] * q_c / u[3], 0.0)))
    ck *= u[3]
    k1 = pinch_c + p[SC] - q_sc / ck  # T_c less the liquid's temperature
    k2 = k1 - q_ct / ck
    fc = 0.0
    if k2 > 0.0 and k1 > 0.0:
        area = q_ct / (ua_c * log_mean(k1, k2))
        if q_sc > 0.0:
            area += q_sc / (p[R_SC] * ua_c * log_mean(pinch_c, k1))
        if q_ds > 0.0:
            top = rise + k2 - q_ds / ck
            if top > 0.0:
                area += q_ds / (p[R_DS] * ua_c * log_mean(k2, top))
            else:
                flag |= _CONDENSER
        fc = np.log(area)
    else:
        flag |= _CONDENSER
    out[0] = u[0] - q_e / cs
    out[1] = u[2] + q_c / ck
    out[2] = mr * w / p[ETA_EM]
    out[3] = q_e
    out[4] = q_c
    out[5] = lnpe
    out[6] = lnpc
    out[7] = te + p[SH]
    out[8] = tc + rise
    out[9] = tc - p[SC]
    out[10] = te
    out[11] = tc
    out[12] = mr
    out[13] = n
    out[14] = ua_e
    out[15] = ua_c
    out[16] = eta
    out[17] = eta_v
    if not (np.isfinite(fe) and np.isfinite(fc)):
        flag |= _OUTSIDE
    if not w > 0.0:
        flag |= _NO_LIFT
    return fe, fc, flag


@_compiled
def _flow_terms(u, p):  # type: ignore[no-untyped-def]
    return (u[1] / p[M_S0]) ** (-p[N_WE]), (u[3] / p[M_K0]) ** (-p[N_WC])


@_compiled
def _newton(x, y, u, p, mode, pow_s, pow_k, tables, tolerance, jac, keep, out):  # type: ignore[no-untyped-def]
    """Damped Newton with Broyden's update; ``jac`` comes and goes with the caller.

    Returns x, y, whether it converged, and the number of evaluations.
    """
    count = 1
    fe, fc, flag = evaluate(x, y, u, p, mode, pow_s, pow_k, tables, out)
    tries = 0
    while flag & _BLOCKING:
        # Widen the pinch that cannot carry its heat; come back from outside.
        if tries >= 14:
            return x, y, False, count
        if flag & _OUTSIDE:
            if flag & _EVAPORATOR:
                x -= 0.7
            elif flag & _CONDENSER:
                y -= 0.7
            else:
                return x, y, False, count
        else:
            if flag & _EVAPORATOR:
                x = np.log(np.exp(x) + 3.0)
            if flag & _CONDENSER:
                y = np.log(np.exp(y) + 3.0)
        keep = False
        tries += 1
        count += 1
        fe, fc, flag = evaluate(x, y, u, p, mode, pow_s, pow_k, tables, out)
    size = max(abs(fe), abs(fc))
    fresh = False
    for _ in range(_MAX_STEPS):
        if size < tolerance:
            return x, y, True, count
        if not keep:
            h = 1e-6
            ge, gc, flag = evaluate(x + h, y, u, p, mode, pow_s, pow_k, tables, out)
            if flag & _BLOCKING:
                h = -h
                ge, gc, flag = evaluate(x + h, y, u, p, mode, pow_s, pow_k, tables, out)
            jac[0] = (ge - fe) / h
            jac[2] = (gc - fc) / h
            h = 1e-6
            ge, gc, flag = evaluate(x, y + h, u, p, mode, pow_s, pow_k, tables, out)
            jac[1] = (ge - fe) / h
            jac[3] = (gc - fc) / h
            count += 2
            keep = True
            fresh = True
        det = jac[0] * jac[3] - jac[1] * jac[2]
        sx = -(jac[3] * fe - jac[1] * fc) / det
        sy = -(jac[0] * fc - jac[2] * fe) / det
        biggest = max(abs(sx), abs(sy))
        if not biggest < 1e6:
            if fresh:
                return x, y, False, count
            keep = False
            continue
        if biggest > 1.5:
            sx *= 1.5 / biggest
            sy *= 1.5 / biggest
        moved = False
        for _ in range(12):
            ge, gc, flag = evaluate(
                x + sx, y + sy, u, p, mode, pow_s, pow_k, tables, out
            )
            count += 1
            new = max(abs(ge), abs(gc))
            if not flag & _BLOCKING and (new < size or new < tolerance):
                moved = True
                break
            sx *= 0.5
            sy *= 0.5
            if not fresh:
                break  # an old Jacobian has no right to a long line search
        if not moved:
            if fresh:
                return x, y, False, count
            keep = False
            continue
        x += sx
        y += sy
        if new > 0.5 * size and not fresh:
            keep = False
        else:
            # Broyden: the Jacobian that would have foreseen this step.
            norm = sx * sx + sy * sy
            re = (ge - fe - jac[0] * sx - jac[1] * sy) / norm
            rc = (gc - fc - jac[2] * sx - jac[3] * sy) / norm
            jac[0] += re * sx
            jac[1] += re * sy
            jac[2] += rc * sx
            jac[3] += rc * sy
        fresh = False
        fe, fc, size = ge, gc, new
    return x, y, size < tolerance, count


@_compiled
def _inner(y, low, high, u, p, mode, pow_s, pow_k, tables, out):  # type: ignore[no-untyped-def]
    """Evaporator pinch that fits a condenser pinch, by bisection.

    The area needed falls as the pinch widens. Returns the pinch, the
    condenser's residual, and 1 (too cold), 2 (condenser infeasible), 0.
    """
    fe, fc, flag = evaluate(high, y, u, p, mode, pow_s, pow_k, tables, out)
    if flag & _OUTSIDE and not flag & _EVAPORATOR:
        return high, 0.0, 3
    if flag & _EVAPORATOR or fe > 0.0:
        return high, 0.0, 1
    for _ in range(200):
        x = 0.5 * (low + high)
        fe, fc, flag = evaluate(x, y, u, p, mode, pow_s, pow_k, tables, out)
        if flag & _EVAPORATOR or fe > 0.0:
            low = x
        else:
            high = x
        if high - low < 1e-14 * max(1.0, abs(high)):
            break
    fe, fc, flag = evaluate(high, y, u, p, mode, pow_s, pow_k, tables, out)
    if flag & _CONDENSER:
        return high, np.inf, 2
    return high, fc, 0


@_compiled
def _bracket(u, p, mode, pow_s, pow_k, tables, out):  # type: ignore[no-untyped-def]
    """Nested bisection: slow, and sure where the areas are monotone.

    Returns x, y and the reason why there is no solution, 0 if there is one.
    """
    grid = tables[6]
    room_e = u[0] - p[SH] - grid[G_T_LOW]
    room_c = grid[G_T_CRITICAL] - _CRITICAL_MARGIN - u[2] - p[SC]
    if room_e <= 0.0:
        return 0.0, 0.0, 5
    if room_c <= 0.0:
        return 0.0, 0.0, 4
    x_low, x_high = -90.0, np.log(room_e)
    low, high = -90.0, np.log(room_c)
    if u[2] + p[SC] + 1e-30 < grid[G_T_LOW]:
        low = np.log(grid[G_T_LOW] - u[2] - p[SC])
    x, fc, why = _inner(high, x_low, x_high, u, p, mode, pow_s, pow_k, tables, out)
    if why == 1:
        return x, high, 5
    if why == 3:
        return x, high, 8
    if why == 2 or fc > 0.0:
        return x, high, 4
    for _ in range(200):
        y = 0.5 * (low + high)
        x, fc, why = _inner(y, x_low, x_high, u, p, mode, pow_s, pow_k, tables, out)
        if why == 1:
            return x, y, 5
        if why == 3:
            return x, y, 8
        if why == 2 or fc > 0.0:
            low = y
        else:
            high = y
        if high - low < 1e-14 * max(1.0, abs(high)):
            break
    x, fc, why = _inner(high, x_low, x_high, u, p, mode, pow_s, pow_k, tables, out)
    if why == 0 and abs(fc) < 1e-6:
        return x, high, 0
    return x, high, 8


@_compiled
def _judge(u, p, mode, pow_s, pow_k, tables, options, x, y, out):  # type: ignore[no-untyped-def]
    """Evaluate the answer once more and say whether it may stand."""
    grid = tables[6]
    fe, fc, flag = evaluate(x, y, u, p, mode, pow_s, pow_k, tables, out)
    if out[11] > grid[G_T_CRITICAL] - _CRITICAL_MARGIN:
        return 4
    if out[10] < grid[G_T_LOW]:
        return 5
    if flag & _NO_LIFT or out[11] <= out[10]:
        return 7
    if flag & _HOT:
        return 6
    if flag & _BLOCKING or not max(abs(fe), abs(fc)) < 1e-6:
        return 11
    if not (out[13] >= options[1] and out[13] <= options[2]):
        return 9
    return 0


@_compiled
def _refuse(u, p, mode):  # type: ignore[no-untyped-def]
    """Reason not to try a row at all, 0 if there is none."""
    for i in range(9):
        if not np.isfinite(u[i]):
            return 1
    if u[1] <= 0.0 or u[3] <= 0.0:
        return 3
    if u[4] <= 0.0:
        return 2
    return 0


@_compiled
def _solve_row(u, p, mode, tables, options, state, jac, out):  # type: ignore[no-untyped-def]
    """Solve one row from ``state`` (x, y, 1 if warm) and leave its own there."""
    why = _refuse(u, p, mode)
    if why != 0:
        state[2] = 0.0
        return why
    pow_s, pow_k = _flow_terms(u, p)
    tolerance = options[0]
    done = False
    x, y = state[0], state[1]
    if state[2] > 0.0:
        x, y, done, _ = _newton(
            x, y, u, p, mode, pow_s, pow_k, tables, tolerance, jac, True, out
        )
    if not done:
        x, y, done, _ = _newton(
            np.log(6.0),
            np.log(12.0),
            u,
            p,
            mode,
            pow_s,
            pow_k,
            tables,
            tolerance,
            jac,
            False,
            out,
        )
    if done:
        why = _judge(u, p, mode, pow_s, pow_k, tables, options, x, y, out)
    if not done or why == 11 or why == 7:
        x, y, why = _bracket(u, p, mode, pow_s, pow_k, tables, out)
        if why == 0:
            x, y, done, _ = _newton(
                x, y, u, p, mode, pow_s, pow_k, tables, tolerance, jac, False, out
            )
            why = _judge(u, p, mode, pow_s, pow_k, tables, options, x, y, out)
    if why == 0:
        state[0], state[1], state[2] = x, y, 1.0
    else:
        state[2] = 0.0
    return why


@_compiled
def _solve(u, p, mode, tables, options, result, reason):  # type: ignore[no-untyped-def]
    state = np.zeros(3)
    jac = np.zeros(4)
    out = np.empty(_N_Y)
    for i in range(u.shape[0]):
        why = _solve_row(u[i], p, mode, tables, options, state, jac, out)
        reason[i] = why
        if why == 0:
            for k in range(_N_Y):
                result[i, k] = out[k]
            result[i, 5] = np.exp(out[5])
            result[i, 6] = np.exp(out[6])
        else:
            for k in range(_N_Y):
                result[i, k] = np.nan


@_compiled
def _differentiate(u, p, mode, tables, options, which, scale, result, reason, jacobian):  # type: ignore[no-untyped-def]
    """Solve, and differentiate every output by the implicit-function theorem.

    ``which`` numbers parameters from 0 and, after them, the inputs.
    """
    n_p = p.shape[0]
    state = np.zeros(3)
    jac = np.zeros(4)
    out = np.empty(_N_Y)
    up, down = np.empty(_N_Y), np.empty(_N_Y)
    by_x, by_y = np.empty(_N_Y), np.empty(_N_Y)
    q = p.copy()
    v = np.empty(u.shape[1])
    h = 2e-6
    for i in range(u.shape[0]):
        why = _solve_row(u[i], p, mode, tables, options, state, jac, out)
        reason[i] = why
        if why != 0:
            result[i, :] = np.nan
            jacobian[i, :, :] = np.nan
            continue
        x, y = state[0], state[1]
        v[:] = u[i]
        result[i, :] = out
        result[i, 5] = np.exp(out[5])
        result[i, 6] = np.exp(out[6])
        ps, pk = _flow_terms(v, p)
        fa, ga, _ = evaluate(x + h, y, v, p, mode, ps, pk, tables, up)
        fb, gb, _ = evaluate(x - h, y, v, p, mode, ps, pk, tables, down)
        fx, gx = (fa - fb) / (2 * h), (ga - gb) / (2 * h)
        by_x[:] = (up - down) / (2 * h)
        fa, ga, _ = evaluate(x, y + h, v, p, mode, ps, pk, tables, up)
        fb, gb, _ = evaluate(x, y - h, v, p, mode, ps, pk, tables, down)
        fy, gy = (fa - fb) / (2 * h), (ga - gb) / (2 * h)
        by_y[:] = (up - down) / (2 * h)
        det = fx * gy - fy * gx
        for k in range(which.shape[0]):
            m = which[k]
            # The pinch is held while a temperature moves: the saturation
            # temperature moves with it, as x and y are defined.
            if m < n_p:
                step = 1e-6 * max(abs(p[m]), scale[k])
                q[m] = p[m] + step
                ps, pk = _flow_terms(v, q)
                fa, ga, _ = evaluate(x, y, v, q, mode, ps, pk, tables, up)
                q[m] = p[m] - step
                ps, pk = _flow_terms(v, q)
                fb, gb, _ = evaluate(x, y, v, q, mode, ps, pk, tables, down)
                q[m] = p[m]
            else:
                m -= n_p
                step = 1e-6 * max(abs(u[i, m]), scale[k])
                v[m] = u[i, m] + step
                ps, pk = _flow_terms(v, p)
                fa, ga, _ = evaluate(x, y, v, p, mode, ps, pk, tables, up)
                v[m] = u[i, m] - step
                ps, pk = _flow_terms(v, p)
                fb, gb, _ = evaluate(x, y, v, p, mode, ps, pk, tables, down)
                v[m] = u[i, m]
            ft, gt = (fa - fb) / (2 * step), (ga - gb) / (2 * step)
            dx = -(gy * ft - fy * gt) / det
            dy = -(fx * gt - gx * ft) / det
            for j in range(_N_Y):
                jacobian[i, j, k] = (
                    (up[j] - down[j]) / (2 * step) + by_x[j] * dx + by_y[j] * dy
                )
            jacobian[i, 5, k] *= result[i, 5]
            jacobian[i, 6, k] *= result[i, 6]


# Sizes of a parameter that is zero, from which its difference step is taken.
_SCALE = {"evaporator_fouling_k_w": 1e-6, "condenser_fouling_k_w": 1e-6}


def solve(
    inputs: Array,
    parameters: Array,
    given: int,
    tables: Tables,
    options: Options | None = None,
) -> tuple[Array, NDArray[np.int8]]:
    """Solve every row for what the machine does.

    Rows near each other are solved fastest in order: each starts where the one
    before ended. A row's answer does not depend on its neighbours beyond the
    tolerance.

    Parameters
    ----------
    inputs : ndarray
        Rows of :data:`INPUTS`. [K, kg/s, J/(kg K), J/(kg K2)]
    parameters : ndarray
        The machine, in the order of :data:`PARAMETERS`.
    given : int
        What the fifth input is: relative speed, source heat or sink heat.
    tables : Tables
        Its refrigerant.
    options : Options, optional
        Tolerance and limits of the speed.

    Returns
    -------
    outputs, reasons : tuple of ndarray
        Rows of :data:`OUTPUTS`, all NaN where there is no answer, and the
        :class:`Reason` of each row. [K, W, Pa, kg/s, W/K]
    """
    u = np.ascontiguousarray(inputs, dtype=float)
    result = np.empty((len(u), _N_Y))
    reason = np.empty(len(u), dtype=np.int8)
    _solve(
        u,
        np.ascontiguousarray(parameters, dtype=float),
        given,
        tables,
        options or Options(),
        result,
        reason,
    )
    return result, reason


def differentiate(
    inputs: Array,
    parameters: Array,
    given: int,
    tables: Tables,
    wanted: tuple[str, ...],
    options: Options | None = None,
) -> tuple[Array, NDArray[np.int8], Array]:
    r"""Solve every row and differentiate its outputs, without solving again.

    .. math:: dy/d\theta = y_\theta - y_z F_z^{-1} F_\theta

    Parameters
    ----------
    inputs, parameters, given, tables, options
        As for :func:`solve`.
    wanted : tuple of str
        Names of :data:`PARAMETERS` or :data:`INPUTS`.

    Returns
    -------
    outputs, reasons, jacobian : tuple of ndarray
        The first two as from :func:`solve`; rows x outputs x wanted, in the
        units of output over parameter, NaN where there is no answer.
    """
    names = (*PARAMETERS, *INPUTS)
    which = np.array([names.index(name) for name in wanted], dtype=np.int64)
    # A share or an exponent is of the order of 1, a slope of 0.1.
    scale = np.array([_SCALE.get(name, 0.1) for name in wanted])
    u = np.ascontiguousarray(inputs, dtype=float)
    result = np.empty((len(u), _N_Y))
    reason = np.empty(len(u), dtype=np.int8)
    jacobian = np.empty((len(u), _N_Y, len(wanted)))
    _differentiate(
        u,
        np.ascontiguousarray(parameters, dtype=float),
        given,
        tables,
        options or Options(),
        which,
        scale,
        result,
        reason,
        jacobian,
    )
    return result, reason, jacobian
