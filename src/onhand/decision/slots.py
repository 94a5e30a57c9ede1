"""The slots: which sources fill a page, and how much each counts.

The score of an item is the sum over the slot's sources of weight x value, where a source's best
item has value 1. Ties go to the more popular item. Where a source has nothing to say (a visitor
nobody knows, an empty cart), the others decide.

A source may weigh differently by tier: for a visitor nobody knows the context speaks, after a few
clicks what is like them, later what others did next. And a slot keeps a share of its places for
new items that fit.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onhand.contracts.requests import Slot
from onhand.decision.tiers import TIERS
from onhand.retrieval.arrivals import NEW_MS
from onhand.retrieval.sources import (
    CART,
    CONTEXT,
    COPURCHASES,
    HISTORY,
    NEW_ARRIVALS,
    NEWEST,
    POPULAR,
    POPULAR_IN_COHORT,
    POPULAR_IN_COUNTRY,
    SEED_CONTENT,
    SEED_COPURCHASES,
    SEED_TRANSITIONS,
    TRANSITIONS,
    TRENDING,
)

__all__ = ["PLANS", "SIMILAR", "Plan", "make_plan"]


class Plan(NamedTuple):
    """How a slot is filled: `codes` of its sources, (sources,), and their `weights`, (tiers,
    sources); `repeat_bought` lets it show what the visitor has bought. Items are new for `new_ms`,
    and those that fit have `new_share` of the places; `foresight` demotes what will soon be gone.
    """

    codes: NDArray[Any]
    weights: NDArray[Any]
    repeat_bought: bool
    new_share: float = 0.0
    new_ms: int = NEW_MS
    foresight: bool = True


Weight = float | tuple[float, float, float]
"""Of a source in all tiers, or in each of `TIERS`."""


def make_plan(sources: dict[int, Weight], *, repeat_bought: bool, new_share: float = 0.0) -> Plan:
    """Return the plan with these sources, by code."""
    weights = np.zeros((len(TIERS), len(sources)))
    for at, weight in enumerate(sources.values()):
        weights[:, at] = weight
    return Plan(np.array(list(sources), np.int64), weights, repeat_bought, new_share)


PLANS: Final[dict[Slot, Plan]] = {
    "home": make_plan(
        {
            TRANSITIONS: 1.0,
            COPURCHASES: 0.5,
            HISTORY: 0.6,
            NEW_ARRIVALS: (0.1, 0.3, 0.2),
            CONTEXT: (0.1, 0.0, 0.0),
            POPULAR_IN_COHORT: 0.3,
            POPULAR_IN_COUNTRY: 0.3,
            TRENDING: (0.15, 0.1, 0.05),
            NEWEST: 0.1,
        },
        repeat_bought=False,
        new_share=0.1,
    ),
    "product": make_plan(
        {
            SEED_TRANSITIONS: 1.0,
            SEED_COPURCHASES: 0.8,
            SEED_CONTENT: 0.3,
            TRANSITIONS: 0.3,
            POPULAR_IN_COUNTRY: 0.05,
            POPULAR: 0.05,
        },
        repeat_bought=True,
    ),
    "cart": make_plan(
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
SIMILAR: Final = make_plan(
    {SEED_TRANSITIONS: 1.0, SEED_COPURCHASES: 1.0, SEED_CONTENT: 0.5}, repeat_bought=True
)
"""What `similar` answers by: the item alone, whoever asks."""
