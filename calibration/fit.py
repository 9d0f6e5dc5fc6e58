"""From windows to models: every door of the calibration's arithmetic.

    instruments   what a machine measures, how well, what a reading can hide
    period        how much was seen
    leastsquares  robust least squares on the physics' own derivatives
    flows         the flow of a side without a meter
    reference     the machine as commissioned, once
    degradation   how far it is from there, daily
    exchanger     the same of a plate exchanger

:func:`fit_reference` and :func:`fit_exchanger` learn a unit once;
:func:`fit_degradation` moves nothing but degradations against it.
"""

from calibration.degradation import (
    DEGRADATIONS,
    IDENTIFIABLE,
    degraded,
    drifts_since_baseline,
    fit_degradation,
    indicator_key,
    indicator_of,
)
from calibration.exchanger import exchanger_windows, fit_exchanger
from calibration.flows import learn_flows
from calibration.instruments import INPUTS, OUTPUTS, choose_given
from calibration.model import Fit
from calibration.period import LEAST_DAY_HOURS, LEAST_DAYS, LEAST_HOURS, MOST_ROWS
from calibration.reference import INFORMED, fit_reference, with_correction

__all__ = [
    "DEGRADATIONS",
    "IDENTIFIABLE",
    "INFORMED",
    "INPUTS",
    "LEAST_DAYS",
    "LEAST_DAY_HOURS",
    "LEAST_HOURS",
    "MOST_ROWS",
    "OUTPUTS",
    "Fit",
    "choose_given",
    "degraded",
    "drifts_since_baseline",
    "exchanger_windows",
    "fit_degradation",
    "fit_exchanger",
    "fit_reference",
    "indicator_key",
    "indicator_of",
    "learn_flows",
    "with_correction",
]
