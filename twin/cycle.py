"""The vapour-compression cycle, solved for whole arrays of operating points.

Two unknowns, the saturation temperatures, found as logarithms of the two end
pinches from two residuals, the areas of evaporator and condenser. What a
machine is, in the field's words, is :mod:`twin.heatpump`'s business; here are
only numbers in the order of :data:`PARAMETERS`. All the compiled code stands in
this one file because the compiler's disk cache does not notice a change in
another.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin.compiled import compiled
from twin.fluids import (
    CRITICAL_MARGIN_K,
    G_CELLS_D,
    G_CELLS_SC,
    G_CELLS_SH,
    G_CELLS_T,
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
    NO_FLOW = 3  # a liquid flows at less than 1/200 of its rate, or backwards
    NEAR_CRITICAL = 4  # it would condense within 6 K of the critical point
    TOO_COLD = 5  # it would evaporate below the tables
    TOO_HOT = 6  # discharge, superheat or subcooling beyond the tables
    NO_LIFT = 7  # the pressure ratio would be below 1.05: nothing to pump
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
    "desuperheater_ua_w_k",
    "subcooler_ua_w_k",
    "volumetric_leak",
    "idle_loss_ratio",
)
(
    UA_E, UA_C, N_WE, N_WC, E0, E1, E2, E3, E4, E5, AV0, AV1, VD0, ETA_EM, F_Q, SH, SC,
    RF_E, RF_C, PHI_E, PHI_C, N_RE, N_RC, R_SH, R_DS, R_SC, M_S0, M_K0, M_R0,
    UA_DS, UA_SUB, LEAK, IDLE,
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
    # separate circuits, not needed where a machine has none
    "desuperheater_inlet_temp",  # K
    "desuperheater_capacity",  # W/K
    "subcooler_inlet_temp",
    "subcooler_capacity",
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
    "desuperheater_heat",
    "subcooler_heat",
)
(
    Y_TSO, Y_TKO, Y_W, Y_QE, Y_QC, Y_PE, Y_PC, Y_T1, Y_T2, Y_T3, Y_TE, Y_TC, Y_MR, Y_N,
    Y_UAE, Y_UAC, Y_ETAIS, Y_ETAV, Y_QDS, Y_QSUB,
) = range(len(OUTPUTS))  # fmt: skip
_N_Y = len(OUTPUTS)

GIVEN_SPEED, GIVEN_SOURCE_HEAT, GIVEN_SINK_HEAT = 0, 1, 2

# What one evaluation can find wrong with where it stands.
_EVAPORATOR, _CONDENSER, _OUTSIDE, _HOT, _NO_LIFT, _NO_EFFECT = 1, 2, 4, 8, 16, 32
_BLOCKING = _EVAPORATOR | _CONDENSER | _OUTSIDE | _NO_EFFECT

# With less lift the valve cannot feed the evaporator, and the COP is a quotient
# of two small numbers.
_LEAST_RATIO = 1.05
# The log of the smallest pinch: an exchanger too large by half ends at 1e-100 K.
_TIGHTEST = -690.0
# Share of its rated flow below which a liquid stands: what leaks past a valve.
_DEAD = 0.005
# Share of what a compressor sweeps that leaks at most: below, it pumps nothing.
_MOST_LEAK = 0.98
_MAX_STEPS = 40
_CRITICAL_MARGIN = CRITICAL_MARGIN_K


class Options(NamedTuple):
    """How a row is solved.

    The tolerance is that of the logarithms of the two area ratios; the limits
    are those of the speed over rated speed; ``warm`` 0 starts each row afresh
    instead of where the one before ended.
    """

    tolerance: float = 1e-8
    speed_low: float = 0.01
    speed_high: float = 4.0
    warm: float = 1.0


# Cells are read from flat arrays at an offset: a view of a cell would be counted
# in and out of use by the run time, which costs more than reading it.


@compiled
def _line(c, o, x):  # type: ignore[no-untyped-def]
    return ((c[o + 3] * x + c[o + 2]) * x + c[o + 1]) * x + c[o]


@compiled
def _plane(c, o, x, y):  # type: ignore[no-untyped-def]
    a = ((c[o + 3] * y + c[o + 2]) * y + c[o + 1]) * y + c[o]
    b = ((c[o + 7] * y + c[o + 6]) * y + c[o + 5]) * y + c[o + 4]
    d = ((c[o + 11] * y + c[o + 10]) * y + c[o + 9]) * y + c[o + 8]
    e = ((c[o + 15] * y + c[o + 14]) * y + c[o + 13]) * y + c[o + 12]
    return ((e * x + d) * x + b) * x + a


@compiled
def _beyond(c, o, x, y):  # type: ignore[no-untyped-def]
    # A straight line on from the last cell: no answer, but a way back to one.
    end = _plane(c, o, x, 1.0)
    return end + (end - _plane(c, o, x, 0.0)) * y


@compiled
def _log(x):  # type: ignore[no-untyped-def]
    # Near 1, where residuals end up, by the series of 2 artanh((x-1)/(x+1)).
    if 0.95 < x < 1.05:
        d = (x - 1.0) / (x + 1.0)
        d2 = d * d
        series = ((d2 / 9.0 + 1.0 / 7.0) * d2 + 1.0 / 5.0) * d2 + 1.0 / 3.0
        return 2.0 * d * (series * d2 + 1.0)
    return np.log(x)


@compiled
def _per_mean(a, b):  # type: ignore[no-untyped-def]
    # One over the log-mean of two positive temperature differences. [1/K]
    d = a - b
    if abs(d) < 1e-3 * b:  # the quotient loses digits; its series does not
        d /= a + b
        d2 = d * d
        return 2.0 / (a + b) * (1.0 + d2 * (1.0 / 3.0 + 0.2 * d2))
    return np.log(a / b) / d


# A refrigerant's flow term of both conductances, (m/m0)**-n, is developed around
# the last flow it was worked out for: [m, term_e, term_c, 8 + 8 coefficients].
_N_REF = 19


@compiled
def _reference(p, ref):  # type: ignore[no-untyped-def]
    ref[0] = 0.0
    a, b = 1.0, 1.0
    for k in range(8):
        a *= (-p[N_RE] - k) / (k + 1.0)
        b *= (-p[N_RC] - k) / (k + 1.0)
        ref[3 + k] = a
        ref[11 + k] = b


@compiled
def _binomial(ref, o, r):  # type: ignore[no-untyped-def]
    s = ref[o + 7]
    s = s * r + ref[o + 6]
    s = s * r + ref[o + 5]
    s = s * r + ref[o + 4]
    s = s * r + ref[o + 3]
    s = s * r + ref[o + 2]
    s = s * r + ref[o + 1]
    s = s * r + ref[o]
    return s * r + 1.0


@compiled
def _counterflow(ua, c_a, c_b):  # type: ignore[no-untyped-def]
    # Heat per kelvin between the two inlets of a counterflow exchanger. [W/K]
    small, large = min(c_a, c_b), max(c_a, c_b)
    if not small > 0.0:
        return 0.0
    r = 1.0 - small / large
    if r < 1e-9:
        return small * ua / (small + ua)
    gain = 1.0 - np.exp(-ua / small * r)
    return small * gain / (r + (1.0 - r) * gain)


@compiled
def _subcooler(mr, tc, ic, b, u, p, lines, liq, grid):  # type: ignore[no-untyped-def]
    """Enthalpy that a separate subcooler takes off the condensate. [J/kg]."""
    warm = tc - p[SC]
    room = warm - u[11]
    top = grid[G_CELLS_SC] / grid[G_SC_PER_CELL] - p[SC]
    if not (room > 0.0 and u[12] > 0.0 and mr > 0.0):
        return 0.0
    reach = min(room, top)
    lost = _condensate(tc, p[SC], ic, b, lines, liq, grid) - _condensate(
        tc, p[SC] + reach, ic, b, lines, liq, grid
    )
    cp = lost / reach  # mean heat capacity of the liquid over what it could lose
    heat = _counterflow(p[UA_SUB], mr * cp, u[12]) * room / mr
    return min(heat, lost)


@compiled
def _condensate(tc, subcooling, ic, b, lines, liq, grid):  # type: ignore[no-untyped-def]
    """Enthalpy of liquid below its own temperature's line and above. [J/kg]."""
    n_t = int(grid[G_CELLS_T])
    d = (tc - subcooling - grid[G_T0]) * grid[G_T_PER_CELL]
    i3 = min(max(int(d), 0), n_t - 1)
    n_o = int(grid[G_CELLS_SC])
    c = subcooling * grid[G_SC_PER_CELL]
    j = min(int(c), n_o - 1)
    return _line(lines, i3 * 24 + 12, d - i3) + _plane(
        liq, (ic * n_o + j) * 16, b, c - j
    )


@compiled
def _clip(x, low, high):  # type: ignore[no-untyped-def]
    return min(max(x, low), high)


@compiled
def _speed_for_sink_heat(heat, k, leak, dh13, dhs, base, e3, e4, p, start):  # type: ignore[no-untyped-def]
    # Sink heat = (k n - leak) (h1 - h3 + (1 - f) dhs / eta(n)).
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
        flow = k * n - leak
        value = flow * (dh13 + lift) - heat
        grad = k * (dh13 + lift) - flow * lift * slope / eta
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


@compiled
def evaluate(x, y, u, p, mode, pow_s, pow_k, tables, ref, out):  # type: ignore[no-untyped-def]
    """Residuals and all outputs at one pair of log pinches.

    ``pow_s`` and ``pow_k`` are the liquids' flow terms of the conductances,
    which do not change while a row is solved; ``ref`` is that of the
    refrigerant. Returns the two residuals, ``ln(area needed / area there is)``,
    and what is infeasible.
    """
    lines, suc, liq, ise, dis, grid = tables
    pinch_e = np.exp(x)
    pinch_c = np.exp(y)
    te = u[0] - p[SH] - pinch_e
    tc = u[2] + p[SC] + pinch_c
    flag = 0
    n_t = int(grid[G_CELLS_T])
    # saturation lines
    a = (te - grid[G_T0]) * grid[G_T_PER_CELL]
    if not (a >= -8.0 and a <= n_t):
        return 0.0, 0.0, _OUTSIDE | _EVAPORATOR
    ie = min(max(int(a), 0), n_t - 1)
    a -= ie
    b = (tc - grid[G_T0]) * grid[G_T_PER_CELL]
    if not (b >= 0.0 and b <= n_t):
        return 0.0, 0.0, _OUTSIDE | _CONDENSER
    ic = min(int(b), n_t - 1)
    b -= ic
    o = ie * 24
    hge = _line(lines, o + 4, a)
    sge = _line(lines, o + 8, a)
    pe = _line(lines, o + 16, a)
    rho_g = _line(lines, o + 20, a)
    o = ic * 24
    hgc = _line(lines, o + 4, b)
    sgc = _line(lines, o + 8, b)
    hlc = _line(lines, o + 12, b)
    pc = _line(lines, o + 16, b)
    # suction
    n_o = int(grid[G_CELLS_SH])
    c = p[SH] * grid[G_SH_PER_CELL]
    j = min(int(c), n_o - 1)
    c -= j
    o = (ie * n_o + j) * 48
    rho1 = rho_g * _plane(suc, o, a, c)
    dh1 = _plane(suc, o + 16, a, c)
    h1 = hge + dh1
    s1 = sge + _plane(suc, o + 32, a, c)
    # liquid: its own temperature's line, and the pressure's small effect
    h3 = hlc
    if p[SC] > 0.0:
        h3 = _condensate(tc, p[SC], ic, b, lines, liq, grid)
    h4 = h3
    # compressor
    pi = pc / pe
    eta_v = _clip(p[AV0] - p[AV1] * (pi - 1.0), 0.2, 1.0)
    ds = s1 - sgc
    n_o = int(grid[G_CELLS_D])
    if ds >= 0.0:
        d = ds * grid[G_DS_PER_CELL]
        if d <= n_o:
            j = min(int(d), n_o - 1)
            h2s = hgc + _plane(ise, (ic * n_o + j) * 16, b, d - j)
        else:
            flag |= _HOT
            h2s = hgc + _beyond(ise, (ic * n_o + n_o - 1) * 16, b, d - n_o)
    else:
        h2s = hgc + tc * ds  # wet: exact inside the dome
    dhs = h2s - h1
    d3 = pi - 3.0
    base = p[E0] + (p[E1] + p[E2] * d3) * d3
    e3 = p[E3] + p[E5] * d3
    k = eta_v * p[VD0] * rho1
    # What leaks back through gaps does so per time, not per stroke.
    leak = p[LEAK] * (pi - 1.0) * p[VD0] * rho1
    rounds = 1
    if p[UA_SUB] > 0.0:
        rounds = 40  # its duty and the refrigerant's flow depend on each other
    mr = 0.0
    for _ in range(rounds):
        if mode == 0:
            n = u[4]
            new = max(k * n - leak, (1.0 - _MOST_LEAK) * k * n)
        elif mode == 1:
            new = u[4] / (h1 - h4)
            n = min(new + leak, new / (1.0 - _MOST_LEAK)) / k
        else:
            n = _speed_for_sink_heat(
                u[4],
                k,
                leak,
                h1 - h4,
                dhs,
                base,
                e3,
                p[E4],
                p,
                u[4] / (k * (h1 - h4 + max(dhs, 0.0) / max(base, 0.25))) + leak / k,
            )
            new = k * n - leak
        moved = abs(new - mr)
        mr = new
        if rounds == 1 or moved <= 1e-14 * mr:
            break
        h4 = h3 - _subcooler(mr, tc, ic, b, u, p, lines, liq, grid)
    d = n - 1.0
    eta = _clip(base + (e3 + p[E4] * d) * d, 0.25, 0.95)
    w = dhs / eta
    h2 = h1 + (1.0 - p[F_Q]) * w
    dh2 = h2 - hgc
    rise = 0.0
    if dh2 > 0.0:
        d = dh2 * grid[G_DH_PER_CELL]
        if d <= n_o:
            j = min(int(d), n_o - 1)
            rise = _plane(dis, (ic * n_o + j) * 16, b, d - j)
        else:
            flag |= _HOT
            rise = _beyond(dis, (ic * n_o + n_o - 1) * 16, b, d - n_o)
    t2 = tc + rise
    q_dsp = 0.0
    if p[UA_DS] > 0.0 and rise > 0.0 and u[10] > 0.0:
        # Gas at its mean heat capacity; what would condense is left to the condenser.
        heat = _counterflow(p[UA_DS], mr * dh2 / rise, u[10]) * (t2 - u[9])
        q_dsp = _clip(heat, 0.0, mr * dh2)
        h2 -= q_dsp / mr
        dh2 = h2 - hgc
        d = max(dh2 * grid[G_DH_PER_CELL], 0.0)
        j = min(int(d), n_o - 1)
        rise = _plane(dis, (ic * n_o + j) * 16, b, d - j)
    # resistances
    r = mr / ref[0] - 1.0
    if abs(r) < 0.04:
        pow_re = ref[1] * _binomial(ref, 3, r)
        pow_rc = ref[2] * _binomial(ref, 11, r)
    else:
        d = np.log(mr / p[M_R0])
        pow_re = np.exp(-p[N_RE] * d)
        pow_rc = np.exp(-p[N_RC] * d)
        ref[0] = mr
        ref[1] = pow_re
        ref[2] = pow_rc
    res_e = (p[PHI_E] * pow_s + (1.0 - p[PHI_E]) * pow_re) / p[UA_E] + p[RF_E]
    res_c = (p[PHI_C] * pow_k + (1.0 - p[PHI_C]) * pow_rc) / p[UA_C] + p[RF_C]
    # evaporator
    q_sh = mr * dh1
    q_et = mr * (hge - h4)
    q_e = q_sh + q_et
    cs = u[5]
    if u[7] != 0.0:  # the mean heat capacity between inlet and outlet, exactly
        cs = 0.5 * (cs + np.sqrt(max(cs * cs - 2.0 * u[7] * q_e / u[1], 0.0)))
    per_cs = 1.0 / (cs * u[1])
    inlet = pinch_e + p[SH]  # T_si - T_e
    onset = inlet - q_sh * per_cs
    end = inlet - q_e * per_cs
    fe = 0.0
    if not hge > h4:
        flag |= _NO_EFFECT  # the liquid is richer than the vapour it should become
    elif end > 0.0:
        area = q_et * _per_mean(onset, end)
        if q_sh > 0.0:
            area += q_sh * _per_mean(pinch_e, onset) / p[R_SH]
        fe = _log(area * res_e)
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
    per_ck = 1.0 / (ck * u[3])
    k1 = pinch_c + p[SC] - q_sc * per_ck  # T_c less the liquid's temperature
    k2 = k1 - q_ct * per_ck
    fc = 0.0
    if k2 > 0.0 and k1 > 0.0:
        area = q_ct * _per_mean(k1, k2)
        if q_sc > 0.0:
            area += q_sc * _per_mean(pinch_c, k1) / p[R_SC]
        if q_ds > 0.0:
            top = rise + k2 - q_ds * per_ck
            if top > 0.0:
                area += q_ds * _per_mean(k2, top) / p[R_DS]
            else:
                flag |= _CONDENSER
        fc = _log(area * res_c)
    else:
        flag |= _CONDENSER
    out[0] = u[0] - q_e * per_cs
    out[1] = u[2] + q_c * per_ck
    out[2] = (mr + p[IDLE] * p[M_R0]) * w / p[ETA_EM]
    out[3] = q_e
    q_sub = mr * (h3 - h4)
    out[4] = q_c + q_dsp + q_sub
    out[5] = pe
    out[6] = pc
    out[7] = te + p[SH]
    out[8] = t2
    out[9] = tc - p[SC]
    out[10] = te
    out[11] = tc
    out[12] = mr
    out[13] = n
    out[14] = res_e
    out[15] = res_c
    out[16] = eta
    out[17] = eta_v if leak == 0.0 else mr / (p[VD0] * rho1 * n)
    out[18] = q_dsp
    out[19] = q_sub
    if not (np.isfinite(fe) and np.isfinite(fc)):
        flag |= _OUTSIDE
    if not (w > 0.0 and pi >= _LEAST_RATIO):
        flag |= _NO_LIFT
    return fe, fc, flag


@compiled
def _flow_terms(u, p):  # type: ignore[no-untyped-def]
    return (u[1] / p[M_S0]) ** (-p[N_WE]), (u[3] / p[M_K0]) ** (-p[N_WC])


@compiled
def _newton(x, y, u, p, mode, pow_s, pow_k, tables, ref, tolerance, jac, keep, out):  # type: ignore[no-untyped-def]
    """Damped Newton with Broyden's update; ``jac`` comes and goes with the caller.

    Returns x, y, whether it converged, the number of evaluations, and the last
    residuals' flag; ``out`` is then that of x, y.
    """
    count = 1
    fe, fc, flag = evaluate(x, y, u, p, mode, pow_s, pow_k, tables, ref, out)
    tries = 0
    while flag & _BLOCKING:
        # Widen the pinch that cannot carry its heat; come back from outside.
        if tries >= 14:
            return x, y, False, count, flag
        if flag & _OUTSIDE:
            if flag & _EVAPORATOR:
                x -= 0.7
            elif flag & _CONDENSER:
                y -= 0.7
            else:
                return x, y, False, count, flag
        else:
            if flag & _EVAPORATOR:
                x = np.log(np.exp(x) + 3.0)
            if flag & _CONDENSER:
                y = np.log(np.exp(y) + 3.0)
        keep = False
        tries += 1
        count += 1
        fe, fc, flag = evaluate(x, y, u, p, mode, pow_s, pow_k, tables, ref, out)
    size = max(abs(fe), abs(fc))
    fresh = False
    for _ in range(_MAX_STEPS):
        if size < tolerance:
            return x, y, True, count, flag
        if not keep:
            h = 1e-6
            ge, gc, flag = evaluate(
                x + h, y, u, p, mode, pow_s, pow_k, tables, ref, out
            )
            if flag & _BLOCKING:
                h = -h
                ge, gc, flag = evaluate(
                    x + h, y, u, p, mode, pow_s, pow_k, tables, ref, out
                )
            jac[0] = (ge - fe) / h
            jac[2] = (gc - fc) / h
            h = 1e-6
            ge, gc, flag = evaluate(
                x, y + h, u, p, mode, pow_s, pow_k, tables, ref, out
            )
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
                return x, y, False, count, flag
            keep = False
            continue
        if biggest > 1.5:
            sx *= 1.5 / biggest
            sy *= 1.5 / biggest
        moved = False
        for _ in range(12):
            ge, gc, flag = evaluate(
                x + sx, y + sy, u, p, mode, pow_s, pow_k, tables, ref, out
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
                return x, y, False, count, flag
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
    return x, y, size < tolerance, count, flag


@compiled
def _inner(y, low, high, u, p, mode, pow_s, pow_k, tables, ref, out):  # type: ignore[no-untyped-def]
    """Evaporator pinch that fits a condenser pinch, by bisection.

    The area needed falls as the pinch widens. Returns the pinch, the
    condenser's residual, and 1 (too cold), 2 (no area is enough), 0.
    """
    fe, fc, flag = evaluate(high, y, u, p, mode, pow_s, pow_k, tables, ref, out)
    if not flag & _NO_EFFECT and (flag & _EVAPORATOR or fe > 0.0):
        return high, 0.0, 1
    for _ in range(120):
        x = 0.5 * (low + high)
        fe, fc, flag = evaluate(x, y, u, p, mode, pow_s, pow_k, tables, ref, out)
        if not flag & _NO_EFFECT and (flag & _EVAPORATOR or fe > 0.0):
            low = x
        else:
            high = x
        if high - low < 1e-14 * max(1.0, abs(high)):
            break
    fe, fc, flag = evaluate(high, y, u, p, mode, pow_s, pow_k, tables, ref, out)
    if flag & _BLOCKING:
        return high, np.inf, 2
    return high, fc, 0


@compiled
def _bracket(u, p, mode, pow_s, pow_k, tables, ref, out):  # type: ignore[no-untyped-def]
    """Nested bisection from a scan: slow, for what Newton's method gave up.

    Returns x, y and the reason why there is no solution, 0 if there is one.
    """
    grid = tables[5]
    room_e = u[0] - p[SH] - grid[G_T_LOW]
    room_c = grid[G_T_CRITICAL] - _CRITICAL_MARGIN - u[2] - p[SC]
    if room_e <= 0.0:
        return 0.0, 0.0, 5
    if room_c <= 0.0:
        return 0.0, 0.0, 4
    x_low, x_high = _TIGHTEST, np.log(room_e)
    low, high = _TIGHTEST, np.log(room_c)
    if u[2] + p[SC] < grid[G_T_LOW]:
        low = np.log(grid[G_T_LOW] - u[2] - p[SC])
    found = False
    cold = False
    y = high
    x, fc, why = _inner(y, x_low, x_high, u, p, mode, pow_s, pow_k, tables, ref, out)
    if mode == 0 and why == 0 and fc > 0.0:
        return x, y, 4  # at a given speed, hotter condensing always needs less area
    steps = 32
    for i in range(steps + 1):
        # Even in temperature, but for the first, which is next to nothing.
        y = low if i == 0 else np.log(room_c * i / steps)
        if y < low:
            continue
        x, fc, why = _inner(
            y, x_low, x_high, u, p, mode, pow_s, pow_k, tables, ref, out
        )
        if why == 1:
            cold = True
        elif why == 0 and fc <= 0.0:
            high = y
            found = True
            break
        else:
            low = y
    if not found:
        return x, y, 5 if cold else 4
    for _ in range(120):
        y = 0.5 * (low + high)
        x, fc, why = _inner(
            y, x_low, x_high, u, p, mode, pow_s, pow_k, tables, ref, out
        )
        if why == 0 and fc <= 0.0:
            high = y
        else:
            low = y
        if high - low < 1e-14 * max(1.0, abs(high)):
            break
    x, fc, why = _inner(high, x_low, x_high, u, p, mode, pow_s, pow_k, tables, ref, out)
    if why == 0 and abs(fc) < 1e-6:
        return x, high, 0
    return x, high, 8


@compiled
def _judge(flag, tables, options, out):  # type: ignore[no-untyped-def]
    """Say whether a converged answer may stand."""
    grid = tables[5]
    if out[11] > grid[G_T_CRITICAL] - _CRITICAL_MARGIN:
        return 4
    if out[10] < grid[G_T_LOW]:
        return 5
    if flag & _NO_LIFT or out[11] <= out[10]:
        return 7
    if flag & _HOT:
        return 6
    if flag & _BLOCKING:
        return 11
    if not (out[13] >= options[1] and out[13] <= options[2]):
        return 9
    return 0


@compiled
def _refuse(u, p, mode, options):  # type: ignore[no-untyped-def]
    """Reason not to try a row at all, 0 if there is none."""
    for i in range(9):
        if not np.isfinite(u[i]):
            return 1
    if p[UA_DS] > 0.0 and not (np.isfinite(u[9]) and np.isfinite(u[10])):
        return 1
    if p[UA_SUB] > 0.0 and not (np.isfinite(u[11]) and np.isfinite(u[12])):
        return 1
    if u[1] <= _DEAD * p[M_S0] or u[3] <= _DEAD * p[M_K0]:
        return 3
    if u[4] <= 0.0:
        return 2
    if mode == 0 and not (u[4] >= options[1] and u[4] <= options[2]):
        return 9
    return 0


@compiled
def _solve_row(u, p, mode, tables, options, state, jac, ref, out):  # type: ignore[no-untyped-def]
    """Solve one row from ``state`` (x, y, 1 if warm) and leave its own there."""
    why = _refuse(u, p, mode, options)
    if why != 0:
        state[2] = 0.0
        return why
    pow_s, pow_k = _flow_terms(u, p)
    tolerance = options[0]
    done = False
    flag = 0
    x, y = state[0], state[1]
    if state[2] > 0.0 and options[3] > 0.0:
        x, y, done, _, flag = _newton(
            x, y, u, p, mode, pow_s, pow_k, tables, ref, tolerance, jac, True, out
        )
    if not done:
        x, y, done, _, flag = _newton(
            np.log(6.0),
            np.log(12.0),
            u,
            p,
            mode,
            pow_s,
            pow_k,
            tables,
            ref,
            tolerance,
            jac,
            False,
            out,
        )
    if done:
        why = _judge(flag, tables, options, out)
    if not done or why == 11:
        x, y, why = _bracket(u, p, mode, pow_s, pow_k, tables, ref, out)
        if why == 0:
            x, y, done, _, flag = _newton(
                x, y, u, p, mode, pow_s, pow_k, tables, ref, tolerance, jac, False, out
            )
            why = _judge(flag, tables, options, out) if done else 11
    if why == 0:
        state[0], state[1], state[2] = x, y, 1.0
    else:
        state[2] = 0.0
    return why


@compiled
def _solve(u, p, mode, tables, options, result, reason):  # type: ignore[no-untyped-def]
    state = np.zeros(3)
    jac = np.zeros(4)
    ref = np.empty(_N_REF)
    _reference(p, ref)
    out = np.empty(_N_Y)
    for i in range(u.shape[0]):
        why = _solve_row(u[i], p, mode, tables, options, state, jac, ref, out)
        reason[i] = why
        if why == 0:
            for k in range(_N_Y):
                result[i, k] = out[k]
            result[i, 14] = 1.0 / out[14]
            result[i, 15] = 1.0 / out[15]
        else:
            for k in range(_N_Y):
                result[i, k] = np.nan


@compiled
def _exactly(x, y, u, p, mode, pow_s, pow_k, tables, ref, out):  # type: ignore[no-untyped-def]
    ref[0] = 0.0  # the flow term itself, not its development
    return evaluate(x, y, u, p, mode, pow_s, pow_k, tables, ref, out)


@compiled
def _differentiate(u, p, mode, tables, options, which, scale, result, reason, jacobian):  # type: ignore[no-untyped-def]
    """Solve, and differentiate every output by the implicit-function theorem.

    ``which`` numbers parameters from 0 and, after them, the inputs.
    """
    n_p = p.shape[0]
    state = np.zeros(3)
    jac = np.zeros(4)
    ref = np.empty(_N_REF)
    _reference(p, ref)
    out = np.empty(_N_Y)
    up, down = np.empty(_N_Y), np.empty(_N_Y)
    by_x, by_y = np.empty(_N_Y), np.empty(_N_Y)
    q = p.copy()
    v = np.empty(u.shape[1])
    h = 2e-6
    for i in range(u.shape[0]):
        why = _solve_row(u[i], p, mode, tables, options, state, jac, ref, out)
        reason[i] = why
        if why != 0:
            result[i, :] = np.nan
            jacobian[i, :, :] = np.nan
            continue
        x, y = state[0], state[1]
        v[:] = u[i]
        result[i, :] = out
        result[i, 14] = 1.0 / out[14]
        result[i, 15] = 1.0 / out[15]
        ps, pk = _flow_terms(v, p)
        fa, ga, _ = _exactly(x + h, y, v, p, mode, ps, pk, tables, ref, up)
        fb, gb, _ = _exactly(x - h, y, v, p, mode, ps, pk, tables, ref, down)
        fx, gx = (fa - fb) / (2 * h), (ga - gb) / (2 * h)
        by_x[:] = (up - down) / (2 * h)
        fa, ga, _ = _exactly(x, y + h, v, p, mode, ps, pk, tables, ref, up)
        fb, gb, _ = _exactly(x, y - h, v, p, mode, ps, pk, tables, ref, down)
        fy, gy = (fa - fb) / (2 * h), (ga - gb) / (2 * h)
        by_y[:] = (up - down) / (2 * h)
        det = fx * gy - fy * gx
        for k in range(which.shape[0]):
            m = which[k]
            # The pinch is held while a temperature moves: the saturation
            # temperature moves with it, as x and y are defined.
            if m < n_p:
                # Powers are dear, and few parameters are in the flow terms.
                powers = m in (M_S0, N_WE, M_K0, N_WC)
                step = 1e-6 * max(abs(p[m]), scale[k])
                q[m] = p[m] + step
                if powers:
                    ps, pk = _flow_terms(v, q)
                fa, ga, _ = _exactly(x, y, v, q, mode, ps, pk, tables, ref, up)
                q[m] = p[m] - step
                if powers:
                    ps, pk = _flow_terms(v, q)
                fb, gb, _ = _exactly(x, y, v, q, mode, ps, pk, tables, ref, down)
                q[m] = p[m]
                if powers:
                    ps, pk = _flow_terms(v, p)
            else:
                m -= n_p
                step = 1e-6 * max(abs(u[i, m]), scale[k])
                v[m] = u[i, m] + step
                ps, pk = _flow_terms(v, p)
                fa, ga, _ = _exactly(x, y, v, p, mode, ps, pk, tables, ref, up)
                v[m] = u[i, m] - step
                ps, pk = _flow_terms(v, p)
                fb, gb, _ = _exactly(x, y, v, p, mode, ps, pk, tables, ref, down)
                v[m] = u[i, m]
                ps, pk = _flow_terms(v, p)
            ft, gt = (fa - fb) / (2 * step), (ga - gb) / (2 * step)
            dx = -(gy * ft - fy * gt) / det
            dy = -(fx * gt - gx * ft) / det
            for j in range(_N_Y):
                jacobian[i, j, k] = (
                    (up[j] - down[j]) / (2 * step) + by_x[j] * dx + by_y[j] * dy
                )
            # Conductances are kept as resistances until here.
            jacobian[i, 14, k] *= -(result[i, 14] ** 2)
            jacobian[i, 15, k] *= -(result[i, 15] ** 2)


# Sizes of a parameter that is zero, from which its difference step is taken.
_SCALE = {"evaporator_fouling_k_w": 1e-6, "condenser_fouling_k_w": 1e-6}


def _rows(inputs: Array) -> Array:
    """Rows of the solver's width: a machine without separate circuits has none."""
    u = np.atleast_2d(np.asarray(inputs, dtype=float))
    missing = len(INPUTS) - u.shape[1]
    if missing:
        u = np.hstack([u, np.zeros((len(u), missing))])
    return np.ascontiguousarray(u)


def _flat(tables: Tables) -> tuple[Array, ...]:
    return tuple(table.ravel() for table in tables)


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
    u = _rows(inputs)
    result = np.empty((len(u), _N_Y))
    reason = np.empty(len(u), dtype=np.int8)
    _solve(
        u,
        np.ascontiguousarray(parameters, dtype=float),
        given,
        _flat(tables),
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
    u = _rows(inputs)
    result = np.empty((len(u), _N_Y))
    reason = np.empty(len(u), dtype=np.int8)
    jacobian = np.empty((len(u), _N_Y, len(wanted)))
    _differentiate(
        u,
        np.ascontiguousarray(parameters, dtype=float),
        given,
        _flat(tables),
        options or Options(),
        which,
        scale,
        result,
        reason,
        jacobian,
    )
    return result, reason, jacobian
