"""Popular items: the decayed weight of all visits, in a country or in the world."""

from typing import Final

from onhand.kernel import Array, kernel
from onhand.retrieval.pool import offer, settle

__all__ = ["popular"]

QUOTA: Final = 64


@kernel
def popular(
    candidates: Array,
    place: Array,
    size: Array,
    blocked: Array,
    members: Array,
    weights: Array,
    source: int,
    weight: float,
) -> None:
    """Offer the heaviest members of one row, (slots,), by their weight."""
    for slot in range(QUOTA):
        if members[slot] == 0:
            break
        offer(candidates, place, size, blocked, members[slot], float(weights[slot]))
    settle(candidates, size[0], source, weight)
