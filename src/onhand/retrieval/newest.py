"""The newest items of the catalogue, by the time they were created."""

from typing import Any, Final

from onhand.kernel import Array, kernel
from onhand.retrieval.pool import Pool, offer, settle
from onhand.retrieval.visitor import Visitor
from onhand.state.state import State

__all__ = ["newest"]

QUOTA: Final = 48


@kernel
def arrivals(pool: Any, blocked: Array, members: Array, source: int, weight: float) -> None:
    """Offer a list that 0 may end, its first item at 1 and falling evenly."""
    for at in range(members.shape[0]):
        if members[at] == 0:
            break
        offer(pool, blocked, members[at], 1.0 - at / members.shape[0])
    settle(pool, source, weight)


def newest(state: State, visitor: Visitor, pool: Pool, code: int, weight: float) -> None:  # noqa: ARG001 (all sources are called alike)
    """Offer the newest items, latest first."""
    arrivals(pool, state.item.blocked, state.shop.arrived_item[0, :QUOTA], code, weight)
