"""Efficiency maps as the solver has them, and polynomials as makers print them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin import compressor
from twin.plant import Compressor


@given(ratio=st.floats(1.0, 30.0), speed=st.floats(0.1, 1.5), e=st.floats(0.3, 0.9))
def test_efficiencies_stay_efficiencies(ratio, speed, e):
    """However wild the coefficients, no compressor is better than reversible."""
    value = compressor.isentropic_efficiency(
        ratio, speed, e, -0.1, 0.05, 0.5, -2.0, 0.3
    )
    filling = compressor.volumetric_efficiency(ratio, 1.1, 0.1)

    assert 0.25 <= float(value) <= 0.95
    assert 0.2 <= float(filling) <= 1.0


def test_the_map_is_anchored_at_a_ratio_of_three():
    """At rated speed every other coefficient is then silent."""
    value = compressor.isentropic_efficiency(3.0, 1.0, 0.7, -0.1, 0.05, 0.5, -2.0, 0.3)

    assert float(value) == 0.7


@pytest.mark.parametrize("kind", list(Compressor))
def test_every_kind_has_a_typical_map(kind):
    """A kind is a set of numbers: efficient in its middle, less at the edges."""
    p = compressor.TYPICAL[kind]
    at = [
        float(
            compressor.isentropic_efficiency(
                ratio, 1.0, 0.7, p["isentropic_pressure_slope"],
                p["isentropic_pressure_curvature"],
            )
        )
        for ratio in (3.0, 7.0)
    ]  # fmt: skip

    assert at[1] < at[0]


def test_ten_coefficients_stand_in_the_order_of_the_standard():
    """EN 12900: 1, S, D, S2, SD, D2, S3, DS2, SD2, D3."""
    s, d = 2.0, 3.0
    terms = [1, s, d, s**2, s * d, d**2, s**3, d * s**2, s * d**2, d**3]
    for k, term in enumerate(terms):
        c = np.zeros(10)
        c[k] = 1.0
        assert float(compressor.ten_coefficients(c, s, d)) == pytest.approx(term)


def test_nine_coefficients_are_not_ten():
    """A column lost in copying shifts every term after it."""
    with pytest.raises(ValueError, match="10 coefficients, not 9"):
        compressor.ten_coefficients(np.ones(9), 0.0, 40.0)
