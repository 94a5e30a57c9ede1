"""The newest items of the catalogue, by the time they were created."""

from typing import Final

from onhand.kernel import Array, inner_kernel
from onhand.retrieval.pool import offer, settle

__all__ = ["newest"]

QUOTA: Final = 48


@inner_kernel
def newest(
    candidates: Array,
    parts: Array,
    place: Array,
    size: Array,
    blocked: Array,
    arrived: Array,
    source: int,
    weight: float,
) -> None:
    """Offer the first of a list that 0 may end, the first at 1 and falling evenly."""
    left = QUOTA
    for at in range(arrived.shape[0]):
        if arrived[at] == 0 or left == 0:
            break
        offer(candidates, place, size, blocked, arrived[at], left / QUOTA)
        left -= blocked[arrived[at]] == 0
    settle(candidates, parts, size, source, weight)
