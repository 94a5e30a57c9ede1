"""Popular items: the decayed weight of all visits, in the visitor's country and in the world."""

from typing import Any, Final

from onhand.kernel import Array, kernel
from onhand.retrieval.pool import Pool, offer, settle
from onhand.retrieval.visitor import Visitor
from onhand.state.state import State

__all__ = ["popular", "popular_in_country"]

QUOTA: Final = 64


@kernel
def heaviest(
    pool: Any,
    blocked: Array,
    members: Array,
    weights: Array,
    source: int,
    weight: float,
) -> None:
    """Offer the heaviest members of one sketch row by weight."""
    for slot in range(QUOTA):
        if members[slot] == 0:
            break
        offer(pool, blocked, members[slot], float(weights[slot]))
    settle(pool, source, weight)


def popular_in_country(
    state: State, visitor: Visitor, pool: Pool, code: int, weight: float
) -> None:
    """Offer what is popular in the visitor's country, where it is known."""
    if visitor.country:
        row = visitor.country
        places = state.place
        members, weights = places.popular_item[row], places.popular_weight[row]
        heaviest(pool, state.item.blocked, members, weights, code, weight)


def popular(state: State, visitor: Visitor, pool: Pool, code: int, weight: float) -> None:  # noqa: ARG001 (all sources are called alike)
    """Offer what is popular in the world."""
    members, weights = state.place.popular_item[0], state.place.popular_weight[0]
    heaviest(pool, state.item.blocked, members, weights, code, weight)
