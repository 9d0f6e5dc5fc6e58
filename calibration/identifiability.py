"""What telemetry determined of a machine, what it could not, and what goes together.

A parameter is free where these instruments say something of it, else it keeps the
nameplate's or a typical value and the model says why. Two free parameters whose
errors are strongly correlated are known together and not one by one.
"""

from __future__ import annotations

from typing import Any

from calibration.model import Model
from twin.heatpump import HeatPump

TOGETHER = 0.9
"""Correlation from which two parameters are not known one by one. [1]"""


def report(model: Model) -> dict[str, Any]:
    """Tell how well a model's parameters are known.

    Parameters
    ----------
    model : Model
        A reference or a current model.

    Returns
    -------
    dict
        Plain data. ``instruments``: what it was fitted to. ``free``: by
        parameter its value, 95 % interval, standard error over the one before
        any data [1], and the parameter it is most correlated with. ``together``:
        pairs above :data:`TOGETHER`. ``fixed``: by parameter the value it keeps
        and why. ``tracked``: the degradations that can be told apart.
    """
    physics = model.physics
    kept = physics.parameters.to_dict() if isinstance(physics, HeatPump) else {}
    free = {}
    together = []
    for name in model.free:
        value, error = model.values[name], model.errors[name]
        others = model.related.get(name, {})
        most = max(others, key=lambda other: abs(others[other]), default=None)
        free[name] = {
            "value": value,
            "low": value - 1.96 * error,
            "high": value + 1.96 * error,
            "informed": model.informed.get(name),
            "most_related": most,
            "correlation": None if most is None else others[most],
        }
        together += [
            {"parameters": [name, other], "correlation": found}
            for other, found in others.items()
            if abs(found) >= TOGETHER and name < other
        ]
    return {
        "unit": model.unit,
        "role": model.role.value,
        "given": model.given,
        "instruments": list(model.outputs),
        "free": free,
        "together": sorted(together, key=lambda pair: -abs(pair["correlation"])),
        "fixed": {
            name: {"value": kept.get(name), "why": why}
            for name, why in model.fixed.items()
        },
        "tracked": list(model.tracked),
    }
