"""The newest items of the catalogue, by the time they were created."""

from typing import Final

from onhand.kernel import Array, kernel
from onhand.retrieval.pool import offer, settle

__all__ = ["newest"]

QUOTA: Final = 48


@kernel
def newest(
    candidates: Array,
    place: Array,
    size: Array,
    blocked: Array,
    arrived: Array,
    source: int,
    weight: float,
) -> None:
    """Offer the first of a list that 0 may end, the first at 1 and falling evenly."""
    for at in range(QUOTA):
        if arrived[at] == 0:
            break
        offer(candidates, place, size, blocked, arrived[at], 1.0 - at / QUOTA)
    settle(candidates, size[0], source, weight)
