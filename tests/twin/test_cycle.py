"""The cycle is right to 1e-6, keeps the laws, and never answers a wrong question."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin import cycle, fluids
from twin.cycle import Options, Reason
from twin.service.bench import physics

REFERENCE = (
    Path(__file__).resolve().parents[2]
    / ".."
    / "shared"
    / "reference"
    / "heat_pump_points.csv"
)
NAME = "R1234ze(E)"
MACHINE = physics._machine(NAME)
THETA = MACHINE.to_array()


def tables(name=NAME):
    """Return a refrigerant's tables."""
    return fluids.refrigerant(name).tables


def row(t_si=35.0, m_s=13.0, t_ki=55.0, m_k=12.0, given=0.9):
    """Return one row of inputs."""
    k = fluids.ZERO_DEGC
    return np.array([[t_si + k, m_s, t_ki + k, m_k, given, 4180.0, 4184.0, 0.0, 0.0]])


points = st.builds(
    row,
    t_si=st.floats(25.0, 45.0),
    m_s=st.floats(7.0, 16.0),
    t_ki=st.floats(46.0, 72.0),
    m_k=st.floats(7.0, 16.0),
    given=st.floats(0.4, 1.1),
)


def test_the_reference_table_is_met():
    """Each of its rows, which were solved with the equation of state itself."""
    if not REFERENCE.exists():
        pytest.skip(f"reference points not found at {REFERENCE}")
    found = physics.check_reference(REFERENCE)

    assert found["solved"] == found["rows"] == 100
    assert found["max_cop_error"] < 1e-6
    assert found["max_outlet_temp_error_k"] < 1e-4
    assert found["max_pressure_error"] < 1e-6


@pytest.mark.parametrize("name", ["R1234ze(E)", "R717", "R600a", "R1233zd(E)"])
def test_the_equation_of_state_and_another_solver_agree(name):
    """The model written out plainly, CoolProp's equations, scipy's hybr: 1e-6."""
    machine = physics._plain(physics._machine(name))
    found = physics._helmholtz(
        name, machine, physics._peer_points(6), fluids.refrigerant(name).tables
    )

    assert found["converged"] >= 5
    assert found["worst"] < 1e-6


@given(u=points, mode=st.sampled_from([0, 1, 2]))
def test_energy_closes_to_rounding(u, mode):
    """Heat out = heat in + the part of the power that stays inside: 1e-12."""
    if mode:
        u[0, 4] *= 300e3
    y, why = cycle.solve(u, THETA, mode, tables())
    if why[0] != Reason.SOLVED:
        assert np.isnan(y).all()
        return
    inside = MACHINE.motor_efficiency * (1.0 - MACHINE.heat_loss_ratio)
    out, into, work = y[0, cycle.Y_QC], y[0, cycle.Y_QE], y[0, cycle.Y_W]

    assert out == pytest.approx(into + inside * work, rel=1e-12)
    assert u[0, 1] * u[0, 5] * (u[0, 0] - y[0, cycle.Y_TSO]) == pytest.approx(
        into, rel=1e-10
    )
    if mode:
        target = into if mode == 1 else out
        assert target == pytest.approx(u[0, 4], rel=1e-12)


@given(u=points)
def test_the_cop_stays_below_lorenz(u):
    """Nothing beats a reversible machine between the two liquids."""
    y, why = cycle.solve(u, THETA, 0, tables())
    if why[0] != Reason.SOLVED:
        return

    def entropic(a, b):
        return (a - b) / np.log(a / b)

    sink = entropic(y[0, cycle.Y_TKO], u[0, 2])
    source = entropic(u[0, 0], y[0, cycle.Y_TSO])

    assert y[0, cycle.Y_QC] / y[0, cycle.Y_W] < sink / (sink - source)


@given(u=points)
def test_no_zone_runs_against_its_temperatures(u):
    """Heat only falls: T_so > T_e, T_c > liquid at the onset, T_2 above the sink."""
    y, why = cycle.solve(u, THETA, 0, tables())
    if why[0] != Reason.SOLVED:
        return
    y = y[0]

    assert y[cycle.Y_TSO] > y[cycle.Y_TE]
    assert y[cycle.Y_T1] <= u[0, 0]
    assert y[cycle.Y_T3] >= u[0, 2]
    assert y[cycle.Y_T2] > y[cycle.Y_TKO]


@given(
    u=points,
    which=st.sampled_from(["evaporator_ua_w_k", "condenser_ua_w_k"]),
    factor=st.floats(0.5, 0.99),
    mode=st.sampled_from([1, 2]),
)
def test_cleaner_is_never_worse_at_the_same_duty(u, which, factor, mode):
    """Monotone in each conductance, with cooling or heating held."""
    u[0, 4] *= 280e3
    k = cycle.PARAMETERS.index(which)
    fouled = THETA.copy()
    fouled[k] *= factor
    clean, why_clean = cycle.solve(u, THETA, mode, tables())
    dirty, why_dirty = cycle.solve(u, fouled, mode, tables())
    if why_clean[0] or why_dirty[0]:
        return

    assert dirty[0, cycle.Y_W] >= clean[0, cycle.Y_W] * (1.0 - 1e-9)


@pytest.mark.parametrize(
    ("u", "reason"),
    [
        (row(given=0.0), Reason.STANDSTILL),
        (row(given=np.nan), Reason.NO_INPUT),
        (row(t_si=np.nan), Reason.NO_INPUT),
        (row(m_s=0.0), Reason.NO_FLOW),
        (row(m_k=-3.0), Reason.NO_FLOW),
        (row(t_ki=99.0), Reason.NEAR_CRITICAL),
        (row(t_si=55.0, t_ki=20.0, given=0.2), Reason.NO_LIFT),
        (row(given=9.0), Reason.SPEED_LIMIT),
        (row(m_s=0.05), Reason.NO_FLOW),
        (row(t_si=-47.0), Reason.TOO_COLD),
    ],
)
def test_what_has_no_answer_says_why(u, reason):
    """A dead pump gives a reason, never a number."""
    y, why = cycle.solve(u, THETA, 0, tables())

    assert Reason(int(why[0])) is reason
    assert np.isnan(y).all()


@pytest.mark.parametrize("name", fluids.REFRIGERANTS)
def test_random_points_converge_or_are_flagged(name):
    """2000 in the moderate box: all inside the fluid's validity are solved."""
    rng = np.random.default_rng(2)
    n = 2000
    u = np.repeat(row(), n, axis=0)
    u[:, 0] = rng.uniform(25.0, 45.0, n) + fluids.ZERO_DEGC
    u[:, 1] = rng.uniform(7.0, 16.0, n)
    u[:, 2] = rng.uniform(45.0, 72.0, n) + fluids.ZERO_DEGC
    u[:, 3] = rng.uniform(7.0, 16.0, n)
    u[:, 4] = rng.uniform(0.4, 1.1, n)
    y, why = cycle.solve(u, physics._machine(name).to_array(), 0, tables(name))
    solved = why == Reason.SOLVED

    assert set(why.tolist()) <= {Reason.SOLVED, Reason.NEAR_CRITICAL}
    assert np.isfinite(y[solved]).all()
    assert np.isnan(y[~solved]).all()
    highest = fluids.refrigerant(name).critical_temp - fluids.CRITICAL_MARGIN_K
    assert (y[solved, cycle.Y_TC] - fluids.ZERO_DEGC).max() <= highest


@pytest.mark.parametrize("name", ["R717", "R1233zd(E)", "R600a", "R32"])
@pytest.mark.parametrize("mode", [0, 1, 2])
def test_the_wide_box_leaves_nothing_unexplained(name, mode):
    """Starved, drowned and impossible conditions: no row is merely unconverged."""
    rng = np.random.default_rng(3)
    n = 400
    u = np.repeat(row(), n, axis=0)
    u[:, 0] = rng.uniform(8.0, 55.0, n) + fluids.ZERO_DEGC
    u[:, 1] = rng.uniform(2.0, 30.0, n)
    u[:, 2] = rng.uniform(25.0, 88.0, n) + fluids.ZERO_DEGC
    u[:, 3] = rng.uniform(2.0, 30.0, n)
    u[:, 4] = rng.uniform(0.15, 1.3, n) * (300e3 if mode else 1.0)
    y, why = cycle.solve(u, physics._machine(name).to_array(), mode, tables(name))

    assert Reason.UNCONVERGED not in why
    assert np.isfinite(y[why == 0]).all()
    assert np.isnan(y[why != 0]).all()


def test_a_rows_answer_does_not_depend_on_its_neighbours():
    """Warm or cold, in order or shuffled: the same to the tolerance."""
    rows = physics.series(MACHINE, 500)
    order = np.random.default_rng(4).permutation(len(rows))
    warm, _ = cycle.solve(rows, THETA, 0, tables())
    cold, _ = cycle.solve(rows, THETA, 0, tables(), Options(warm=0.0))
    shuffled, _ = cycle.solve(rows[order], THETA, 0, tables())

    assert warm == pytest.approx(cold, rel=1e-8)
    assert warm[order] == pytest.approx(shuffled, rel=1e-8)


def test_a_failed_row_does_not_spoil_the_next():
    """A hole in the data is as wide as itself."""
    rows = np.repeat(row(), 5, axis=0)
    rows[2, 1] = 0.0
    y, why = cycle.solve(rows, THETA, 0, tables())

    assert why.tolist() == [0, 0, Reason.NO_FLOW, 0, 0]
    assert y[3] == pytest.approx(y[1], rel=1e-9)


@settings(max_examples=30)
@given(u=points, mode=st.sampled_from([0, 1, 2]))
def test_the_jacobian_is_the_difference_of_solutions(u, mode):
    """Implicit-function derivatives against solving again, for every parameter."""
    if mode:
        u[0, 4] *= 300e3
    wanted = (*cycle.PARAMETERS, *cycle.INPUTS[:5])
    tight = Options(tolerance=1e-12)
    y, why, jacobian = cycle.differentiate(u, THETA, mode, tables(), wanted, tight)
    if why[0] != Reason.SOLVED:
        assert np.isnan(jacobian).all()
        return
    for k, name in enumerate(wanted):
        theta, v = [THETA.copy(), THETA.copy()], [u.copy(), u.copy()]
        if k < len(THETA):
            step = 1e-5 * max(abs(THETA[k]), 1e-6 if "fouling" in name else 0.1)
            theta[0][k] += step
            theta[1][k] -= step
        else:
            place = cycle.INPUTS.index(name)
            step = 1e-6 * abs(u[0, place])
            v[0][0, place] += step
            v[1][0, place] -= step
        sides = [
            cycle.solve(v[i], theta[i], mode, tables(), tight)[0][0] for i in (0, 1)
        ]
        slope = (sides[0] - sides[1]) / (2.0 * step)
        if not np.isfinite(slope).all():
            continue  # the answer ends within the step
        # Per cent of the output per one of the parameter, so that scales match.
        size = np.where(y[0] == 0.0, 1.0, np.abs(y[0])) / max(abs(step) * 1e5, 1e-12)

        assert np.abs(jacobian[0, :, k] - slope) / size == pytest.approx(0.0, abs=2e-4)
