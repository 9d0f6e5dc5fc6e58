"""The vocabulary holds to its own grammar."""

from __future__ import annotations

import pytest

from twin.points import DIMENSIONLESS, POINTS, Kind, Origin, nearest, points_of, unit_of
from twin.units import conversion


def test_a_name_promises_its_unit() -> None:
    """The unit of a point is the one its name ends with."""
    assert all(point.unit == unit_of(name) for name, point in POINTS.items())
    assert unit_of("cop") == DIMENSIONLESS


def test_every_range_is_one() -> None:
    """Low is below high, and every point belongs to somebody and means something."""
    for point in POINTS.values():
        assert point.low < point.high, point.name
        assert point.kinds, point.name
        assert point.meaning, point.name


def test_every_unit_can_be_converted_to_itself() -> None:
    """What no conversion knows could not be configured."""
    for point in POINTS.values():
        same = conversion(point.unit, point.unit)
        assert (same.scale, same.offset) == pytest.approx((1.0, 0.0)), point.name


@pytest.mark.parametrize("kind", list(Kind))
def test_measured_and_derived_are_all(kind: Kind) -> None:
    """A point is measured or derived, and nothing is both."""
    measured = points_of(kind, Origin.MEASURED)
    derived = points_of(kind, Origin.DERIVED)
    assert measured
    assert not set(measured) & set(derived)
    assert set(measured) | set(derived) == set(points_of(kind))


def test_the_nearest_word_or_none() -> None:
    """A typo finds its word; what is like nothing finds nothing."""
    assert nearest("sink_outlt_temp_degc", points_of(Kind.HEAT_PUMP)) == (
        "sink_outlet_temp_degc"
    )
    assert nearest("zzzz", points_of(Kind.HEAT_PUMP)) == ""
