"""The heat ledger: where every joule of the IT heat went, and what it was worth.

Each interval has one line for the site and one for each machine. The accounts
of a site line sum to the heat that was measured, and what the meters leave
over stands in ``closing_j`` for everybody to see. Heat is called *missed* only
where it was really thrown away while somebody wanted it and a machine as
commissioned could have lifted it. Energy and money only; how good a machine
still is, is judged in :mod:`calibration`.
"""

from twin.ledger.accounts import (
    ACCOUNTS,
    CAPACITY_UNKNOWN,
    COLUMNS,
    DEMAND_UNKNOWN,
    GAP,
    J_PER_KWH,
    MISSED,
    NO_NOTE,
    NOT_METERED,
    Cause,
)
from twin.ledger.capacity import (
    full_load_conditions,
    model_capacity,
    nameplate_capacity,
    running_share,
)
from twin.ledger.certainty import (
    CAPACITY_UNCERTAINTY,
    METER_UNCERTAINTY,
    Band,
    Missed,
    missed,
)
from twin.ledger.closing import account
from twin.ledger.events import Event, events, findings
from twin.ledger.intervals import foretold
from twin.ledger.meters import Agreement, agreement
from twin.ledger.storage import headroom
from twin.ledger.thresholds import Rules
from twin.ledger.worth import Worth

__all__ = [
    "ACCOUNTS",
    "CAPACITY_UNCERTAINTY",
    "CAPACITY_UNKNOWN",
    "COLUMNS",
    "DEMAND_UNKNOWN",
    "GAP",
    "J_PER_KWH",
    "METER_UNCERTAINTY",
    "MISSED",
    "NOT_METERED",
    "NO_NOTE",
    "Agreement",
    "Band",
    "Cause",
    "Event",
    "Missed",
    "Rules",
    "Worth",
    "account",
    "agreement",
    "events",
    "findings",
    "foretold",
    "full_load_conditions",
    "headroom",
    "missed",
    "model_capacity",
    "nameplate_capacity",
    "running_share",
]
