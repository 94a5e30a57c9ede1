"""The slots: which sources fill a page, and how much each counts.

The score of an item is the sum over the slot's sources of weight x value, where a source's best
item has value 1. Ties go to the more popular item. Where a source has nothing to say (a visitor
nobody knows, an empty cart), the others decide.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onhand.contracts.requests import Slot
from onhand.retrieval.sources import (
    CART,
    COPURCHASES,
    HISTORY,
    NEWEST,
    POPULAR,
    POPULAR_IN_COUNTRY,
    SEED_COPURCHASES,
    SEED_TRANSITIONS,
    TRANSITIONS,
)

__all__ = ["PLANS", "SIMILAR", "Plan"]


class Plan(NamedTuple):
    """How a slot is filled: `codes` and `weights` of its sources, (sources,); `repeat_bought` lets
    it show what the visitor has bought."""

    codes: NDArray[Any]
    weights: NDArray[Any]
    repeat_bought: bool


def _plan(sources: dict[int, float], *, repeat_bought: bool) -> Plan:
    codes, weights = np.array(list(sources), np.int64), np.array(list(sources.values()))
    return Plan(codes, weights, repeat_bought)


PLANS: Final[dict[Slot, Plan]] = {
    "home": _plan(
        {
            TRANSITIONS: 1.0,
            COPURCHASES: 0.5,
            HISTORY: 0.6,
            POPULAR_IN_COUNTRY: 0.3,
            POPULAR: 0.2,
            NEWEST: 0.1,
        },
        repeat_bought=False,
    ),
    "product": _plan(
        {
            SEED_TRANSITIONS: 1.0,
            SEED_COPURCHASES: 0.8,
            TRANSITIONS: 0.3,
            POPULAR_IN_COUNTRY: 0.05,
            POPULAR: 0.05,
        },
        repeat_bought=True,
    ),
    "cart": _plan(
        {
            CART: 1.0,
            TRANSITIONS: 0.4,
            HISTORY: 0.2,
            POPULAR_IN_COUNTRY: 0.1,
            POPULAR: 0.1,
        },
        repeat_bought=False,
    ),
}
SIMILAR: Final = _plan({SEED_TRANSITIONS: 1.0, SEED_COPURCHASES: 1.0}, repeat_bought=True)
"""What `similar` answers by: the item alone, whoever asks."""
