"""The merge: run a slot's sources, in order, into one pool.

A source has a code, which says what to do, and a label, which the answer shows. To add one, write
its kernel in a file of its own, give it a code here, and name it in a plan (`decision.slots`).
"""

from typing import Any, Final

from onhand.kernel import Array, kernel
from onhand.retrieval.followers import follow, follow_one
from onhand.retrieval.newest import newest
from onhand.retrieval.popular import popular
from onhand.state import decay

__all__ = ["LABELS", "gather"]

TRANSITIONS: Final = 0
COPURCHASES: Final = 1
HISTORY: Final = 2
CART: Final = 3
SEED_TRANSITIONS: Final = 4
SEED_COPURCHASES: Final = 5
POPULAR_IN_COUNTRY: Final = 6
POPULAR: Final = 7
NEWEST: Final = 8

LABELS: Final = (
    "transitions",
    "copurchases",
    "history",
    "copurchases",
    "transitions",
    "copurchases",
    "popular_in_country",
    "popular",
    "newest",
)
"""What an answer calls the source of an item, by code."""


@kernel
def gather(
    candidates: Array,
    place: Array,
    size: Array,
    sight: Any,
    visitor: Any,
    now_ms: int,
    codes: Array,
    weights: Array,
) -> None:
    """Run the sources `codes`, (sources,) int64, with `weights`, (sources,) float64."""
    unit = decay.weight_at(now_ms, sight.landmark_ms[0])
    for step in range(codes.shape[0]):
        code, weight = codes[step], weights[step]
        if code in (TRANSITIONS, SEED_TRANSITIONS):
            links, counts = sight.next_item, sight.next_weight
        else:
            links, counts = sight.with_item, sight.with_weight
        if code in (TRANSITIONS, COPURCHASES):
            anchors = sight.session_recent[visitor.session]
            follow(
                candidates, place, size, sight.blocked, links, counts, anchors, unit, code, weight
            )
        elif code == HISTORY:
            anchors = sight.user_recent[visitor.user]
            follow(
                candidates, place, size, sight.blocked, links, counts, anchors, unit, code, weight
            )
        elif code == CART:
            anchors = sight.session_cart[visitor.session]
            follow(
                candidates, place, size, sight.blocked, links, counts, anchors, unit, code, weight
            )
        elif code in (SEED_TRANSITIONS, SEED_COPURCHASES):
            follow_one(
                candidates,
                place,
                size,
                sight.blocked,
                links,
                counts,
                visitor.seed,
                unit,
                code,
                weight,
            )
        elif code == POPULAR_IN_COUNTRY:
            if visitor.country != 0:
                members = sight.popular_item[visitor.country]
                counts_there = sight.popular_weight[visitor.country]
                popular(candidates, place, size, sight.blocked, members, counts_there, code, weight)
        elif code == POPULAR:
            world = sight.popular_item[0]
            popular(
                candidates, place, size, sight.blocked, world, sight.popular_weight[0], code, weight
            )
        elif code == NEWEST:
            newest(candidates, place, size, sight.blocked, sight.arrived_item[0], code, weight)
