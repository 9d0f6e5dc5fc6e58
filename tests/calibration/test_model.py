"""A stored model is read as it was written, or not at all."""

from __future__ import annotations

import copy
import json
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.correction import BOUNDARY, Correction
from calibration.fit import DEGRADATIONS
from calibration.model import TRACKED, FlowLaw, Model
from calibration.registry import RegistryError, Role, canonical
from twin.exchanger import PlateExchanger
from twin.heatpump import from_nameplate
from twin.plant import Coolant, Machine, Nameplate

MACHINE = Machine(
    id="hp1",
    refrigerant="R1234ze(E)",
    source=Coolant("MPG", 0.25),
    nameplate=Nameplate(
        sink_heat_w=5.6e5,
        power_w=1.2e5,
        source_inlet_temp_degc=40.0,
        source_outlet_temp_degc=32.0,
        sink_inlet_temp_degc=50.0,
        sink_outlet_temp_degc=68.0,
    ),
)


@cache
def models() -> tuple[Model, Model]:
    """Return a machine's model with every part there is, and an exchanger's."""
    inputs = ("sink_inlet_temp_degc", "source_inlet_temp_degc")
    pump = Model(
        unit="hp1",
        role=Role.REFERENCE,
        physics=from_nameplate(MACHINE),
        given="source_heat_w",
        outputs=("compressor_power_w", "suction_pressure_pa"),
        flows=(
            FlowLaw(
                side="sink", coefficients=(1.0, 0.3), low=1e3, high=9e3, scatter=0.01
            ),
        ),
        correction=Correction(
            inputs=inputs,
            load="source_heat_w",
            centre=(45.0, 38.0),
            scale=(3.0, 1.0),
            low=(-2.0, -2.0),
            high=(2.0, 2.0),
            spread=tuple((0.1,) * 6 for _ in range(6)),
            reach=1.5,
            weights={"compressor_power_w": (0.0, 0.01, 0.0, 0.0, 0.0, 0.0)},
            gain={"compressor_power_w": 0.2},
            rows=900,
            held={"compressor_power_w": 1.0},
            cap={"compressor_power_w": 0.012},
        ),
        free=("isentropic_efficiency",),
        values={"isentropic_efficiency": 0.71},
        errors={"isentropic_efficiency": float("nan")},
        fixed={"superheat_k": "nothing measured here depends on it"},
        informed={"isentropic_efficiency": 0.1},
        related={"isentropic_efficiency": {"heat_loss_ratio": 0.3}},
        tracked=("isentropic",),
        degradation={"isentropic": (0.97, 0.95, 0.99)},
        scatter={"compressor_power_w": 0.005},
        daily_scatter={"compressor_power_w": 0.003},
        correlation={"compressor_power_w": 0.4},
        range={"source_inlet_temp_degc": (35.0, 41.0)},
        usual={"source_inlet_temp_degc": (38.0, 1.5)},
        tuning={"machine/cop_ratio": {"centre": 1.0, "scatter": 0.004, "limit": 9.0}},
        closure=0.01,
    )
    plate = Model(
        unit="cdu1",
        role=Role.CURRENT,
        physics=PlateExchanger(
            ua_w_k=5e4, hot_flow_rated_kg_s=12.0, cold_flow_rated_kg_s=13.0
        ),
        outputs=("exchanger_ua_w_k",),
        tracked=("exchanger",),
    )
    return pump, plate


def stored(which: int = 0) -> dict[str, Any]:
    """Return what the registry would have read of one."""
    return json.loads(canonical(models()[which].to_dict()))


@pytest.mark.parametrize("which", [0, 1])
def test_what_was_written_is_read(which: int):
    """From JSON and as it is in memory."""
    again = Model.from_dict(stored(which))

    assert canonical(again.to_dict()) == canonical(models()[which].to_dict())
    assert canonical(Model.from_dict(again.to_dict()).to_dict()) == canonical(
        again.to_dict()
    )


def test_every_degradation_has_a_name_that_may_be_stored():
    """A new one that is not on the list could be fitted and not read."""
    assert set(DEGRADATIONS) | {"exchanger"} == TRACKED


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("kind", "exchangr", 'model.kind: "exchangr" is none of exchanger, heat_pump'),
        ("kind", "exchanger", "model: "),
        ("role", "boss", "'boss' is not a valid Role"),
        ("unit", 7, "model.unit: 7 is not understood"),
        ("given", "power", 'model.given: "power" is none of'),
        ("outputs", ["cop"], 'model.outputs: "cop" is none of'),
        ("tracked", ["wear"], 'model.tracked: "wear" is none of'),
        ("closure", True, "model.closure: is a bool"),
        ("closure", "0.01", "model.closure: '0.01' is not understood"),
        ("values.isentropic_efficiency", "0.7", "is not understood"),
        ("physics.refrigerant", "R1234", "R1234"),
        ("physics.parameters.isentropic_efficency", 0.7, "is not known; write"),
        ("physics.parameters.condenser_ua_w_k", -1.0, "is not between"),
        ("physics.parameters.condenser_ua_w_k", float("inf"), "is no finite number"),
        ("physics.parameters.condenser_ua_w_k", None, "model: "),
        ("physics.source.mass_fraction", "a lot", "model"),
        ("physics.source.colour", "blue", "colour"),
        ("code", "import os", "model.code: is no part of a model"),
        ("correction.code", "import os", "model.correction.code: is no part"),
        ("correction.inputs", ["run_hours", "x"], "not a boundary condition"),
        ("correction.reach", None, "model"),
        ("flows", {"side": "sink"}, "model"),
        ("tuning.machine/cop_ratio.centre", None, "model"),
        ("range.source_inlet_temp_degc", [1.0, 2.0, 3.0], "is not understood"),
    ],
)
def test_a_part_that_no_model_has_is_named(path: str, value: object, message: str):
    """Where it is, what was found, and what there could be."""
    data = stored()
    place: Any = data
    *way, last = path.split(".")
    for name in way:
        place = place[name]
    place[last] = value

    with pytest.raises(RegistryError) as raised:
        Model.from_dict(data)
    assert message in str(raised.value)


@pytest.mark.parametrize("name", ["kind", "physics", "tracked", "tuning", "scatter"])
def test_a_part_that_is_missing_is_named(name: str):
    """Older models lack what was not kept then; no model lacks these."""
    data = stored()
    del data[name]
    with pytest.raises(RegistryError, match=f'model: "{name}" is missing'):
        Model.from_dict(data)


def test_an_older_model_is_read():
    """One that was written before some parts were kept."""
    data = stored()
    del data["informed"], data["related"]
    del data["correction"]["held"], data["correction"]["cap"]
    again = Model.from_dict(data)

    assert again.informed == {}
    assert again.correction is not None
    assert again.correction.cap == {}


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**6), 10**6),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(sorted(BOUNDARY | TRACKED)),
    st.lists(st.floats(-1.0, 1.0), max_size=3),
    st.dictionaries(st.text(max_size=4), st.floats(-1.0, 1.0), max_size=2),
)


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to everything in it."""
    found = [path] if path else []
    parts = data.items() if isinstance(data, dict) else enumerate(data)
    for name, value in parts:
        if isinstance(value, dict | list):
            found += places(value, (*path, name))
        else:
            found.append((*path, name))
    return found


@settings(max_examples=400, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_changed_model_is_read_as_it_stands_or_refused(data: st.DataObject):
    """Never anything else: no other error, no part that is passed over."""
    which = data.draw(st.integers(0, 1))
    text = copy.deepcopy(stored(which))
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from(places(text)))
        place: Any = text
        for name in way:
            place = place[name]
        how = data.draw(st.sampled_from(("replace", "remove", "add", "rename")))
        if how == "replace":
            place[last] = data.draw(ODD)
        elif how == "remove":
            del place[last]
        elif isinstance(place, dict):
            name = data.draw(st.text(max_size=4))
            place[name] = data.draw(ODD) if how == "add" else place.pop(last)
        else:
            place.append(data.draw(ODD))
        if not text:
            break
    try:
        model = Model.from_dict(text)
    except RegistryError:
        return
    again = json.loads(canonical(model.to_dict()))
    for name in ("informed", "related", "usual", "offsets", "loops"):
        if name not in text:
            del again[name]
    for name in ("held", "cap"):
        if text.get("correction") and name not in text["correction"]:
            del again["correction"][name]
    assert again == json.loads(canonical(text))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(data=st.one_of(ODD, st.recursive(ODD, lambda x: st.lists(x, max_size=2))))
def test_what_is_no_model_at_all_is_refused(data: Any):
    """Whatever JSON can hold."""
    with pytest.raises(RegistryError):
        Model.from_dict(data)
