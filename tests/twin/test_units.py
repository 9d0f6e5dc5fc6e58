"""A field unit becomes two numbers, or an error that says what is wrong."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin.units import UnitError, conversion, quantity


@pytest.mark.parametrize(
    ("field", "unit", "value", "si"),
    [
        ("kW", "W", 1.5, 1500.0),
        ("degF", "degC", 212.0, 100.0),
        ("K", "degC", 273.15, 0.0),
        ("bar(g)", "Pa", 0.0, 101_325.0),
        ("barg", "Pa", 1.0, 201_325.0),
        ("bar(a)", "Pa", 1.0, 100_000.0),
        ("bar", "Pa", 1.0, 100_000.0),
        ("psig", "Pa", 0.0, 101_325.0),
        ("m3/h", "m3/s", 3600.0, 1.0),
        ("l/min", "m3/s", 60_000.0, 1.0),
        ("gpm", "m3/s", 1.0, 6.30902e-5),
        ("rpm", "Hz", 3000.0, 50.0),
        ("MWh", "J", 1.0, 3.6e9),
        ("%", "1", 25.0, 0.25),
        ("EUR/MWh", "EUR/J", 36.0, 1e-8),
        ("ct/kWh", "EUR/J", 36.0, 1e-7),
        ("g/kWh", "kg/J", 360.0, 1e-7),
    ],
)
def test_what_the_field_writes(field: str, unit: str, value: float, si: float) -> None:
    """Each is the definition of its unit."""
    assert conversion(field, unit)(value) == pytest.approx(si, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "kelvin"), [("0.1 K", 0.1), ("0.1 degC", 0.1), ("1.8 degF", 1.0)]
)
def test_a_difference_has_no_zero(text: str, kelvin: float) -> None:
    """An uncertainty of 0.1 degC is 0.1 K, and not 27 K."""
    assert quantity(text, "K") == pytest.approx(kelvin)


@pytest.mark.parametrize(
    ("field", "unit"),
    [
        ("degC", "W"),
        ("kW", "degC"),
        ("furlongs per fortnite", "m3/s"),
        ("kW(g)", "W"),
        ("0 W", "W"),
        ("1e400 W", "W"),
        ("1/0", "W"),
        ("))", "W"),
        ("W*", "W"),
        ("__import__('os')", "W"),
        ("9**9**9**9 W", "W"),
    ],
)
def test_what_is_no_unit_is_refused(field: str, unit: str) -> None:
    """Another dimension, nonsense, code and towers of powers, all alike."""
    with pytest.raises(UnitError, match="unit"):
        conversion(field, unit)


@given(st.floats(-1e6, 1e6), st.sampled_from(["kW", "MW", "W"]))
def test_a_written_quantity_is_what_was_written(value: float, field: str) -> None:
    """Number, blank and unit read back as the conversion of the number."""
    assert quantity(f"{value!r} {field}", "W") == conversion(field, "W")(value)


@given(st.text(max_size=15))
def test_any_text_is_a_number_or_a_unit_error(text: str) -> None:
    """Nothing an engineer can type escapes as another exception."""
    with contextlib.suppress(UnitError):
        assert isinstance(quantity(text, "W"), float)
