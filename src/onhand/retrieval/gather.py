"""The merge: run sources, in order, into one pool."""

from typing import Any

from onhand.kernel import Array, kernel
from onhand.retrieval.followers import follow, follow_one
from onhand.retrieval.newest import newest
from onhand.retrieval.popular import popular
from onhand.retrieval.sources import (
    CART,
    HISTORY,
    NEWEST,
    POPULAR,
    POPULAR_IN_COUNTRY,
    SEED_COPURCHASES,
    SEED_TRANSITIONS,
    TRANSITIONS,
)
from onhand.state import decay

__all__ = ["gather"]


@kernel
def gather(
    candidates: Array,
    parts: Array,
    place: Array,
    size: Array,
    sight: Any,
    visitor: Any,
    now_ms: int,
    codes: Array,
    weights: Array,
    share: float,
) -> None:
    """Run the sources `codes`, (sources,) int64, with `share` of their `weights`, (sources,)
    float64."""
    unit = decay.weight_at(now_ms, sight.landmark_ms[0])
    blocked = sight.blocked
    for step in range(codes.shape[0]):
        code, weight = codes[step], share * weights[step]
        if code in (TRANSITIONS, SEED_TRANSITIONS):
            links, counts = sight.next_item, sight.next_weight
        else:
            links, counts = sight.with_item, sight.with_weight
        if code <= CART:
            anchors = sight.session_recent[visitor.session]
            if code == HISTORY:
                anchors = sight.user_recent[visitor.user]
            elif code == CART:
                anchors = sight.session_cart[visitor.session]
            follow(
                candidates, parts, place, size, blocked, links, counts, anchors, unit, code, weight
            )
        elif code <= SEED_COPURCHASES:
            seed = visitor.seed
            follow_one(
                candidates, parts, place, size, blocked, links, counts, seed, unit, code, weight
            )
        elif code == POPULAR or (code == POPULAR_IN_COUNTRY and visitor.country != 0):
            where = visitor.country if code == POPULAR_IN_COUNTRY else 0
            members, there = sight.popular_item[where], sight.popular_weight[where]
            popular(candidates, parts, place, size, blocked, members, there, code, weight)
        elif code == NEWEST:
            newest(candidates, parts, place, size, blocked, sight.arrived_item[0], code, weight)
