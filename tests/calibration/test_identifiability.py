"""A model says what was determined, what was not, and what is known together."""

from __future__ import annotations

import json

import pytest
from simulated import reference

from calibration.identifiability import TOGETHER, report
from calibration.model import Model


@pytest.mark.parametrize(
    ("instruments", "told", "not_told"),
    [
        ("water", set(), {"superheat_k", "subcooling_k", "condenser_ratio"}),
        ("pressures", {"condenser_ua_w_k"}, {"superheat_k", "subcooling_k"}),
        ("full", {"condenser_ua_w_k", "superheat_k", "subcooling_k"}, set()),
    ],
)
def test_more_instruments_free_more(
    instruments: str, told: set[str], not_told: set[str]
):
    """Free and fixed are apart, and whatever is fixed has its reason."""
    found = report(reference(instruments).model)

    assert told <= set(found["free"])
    assert not_told <= set(found["fixed"])
    assert not set(found["free"]) & set(found["fixed"])
    assert all(entry["why"] for entry in found["fixed"].values())


def test_pressures_tell_the_conductances_better():
    """What is said of a conductance is said with its error."""
    shares = [
        report(reference(name).model)["free"]["condenser_ua_w_k"]["informed"]
        for name in ("water", "pressures")
    ]

    assert 0.0 < shares[1] < 0.5 * shares[0] < 0.5


def test_what_is_known_together_is_named():
    """Pairs are told once, symmetric, and none below the limit."""
    model = reference("water").model
    found = report(model)

    for pair in found["together"]:
        a, b = pair["parameters"]
        assert a < b
        assert model.related[a][b] == pytest.approx(model.related[b][a])
        assert TOGETHER <= abs(pair["correlation"]) <= 1.0
    below = [
        r
        for name, others in model.related.items()
        for other, r in others.items()
        if name < other and abs(r) < TOGETHER
    ]
    assert below


def test_the_report_survives_json():
    """It is plain data, and a model read back reports the same."""
    model = reference().model
    again = Model.from_dict(json.loads(json.dumps(model.to_dict())))

    assert report(again) == report(model)
    assert json.loads(json.dumps(report(model))) == report(model)


def test_an_older_model_is_still_read():
    """One written without these tells what it has."""
    old = reference().model.to_dict()
    del old["informed"], old["related"]
    found = report(Model.from_dict(old))

    assert found["free"]["condenser_ua_w_k"]["informed"] is None
    assert found["together"] == []
