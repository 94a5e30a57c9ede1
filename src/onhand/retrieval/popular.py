"""Popular items: the decayed weight of all visits, in the world, a country or a cohort."""

from typing import Final

from onhand.kernel import Array, inner_kernel
from onhand.retrieval.pool import offer, settle

__all__ = ["popular"]

QUOTA: Final = 64


@inner_kernel
def popular(
    candidates: Array,
    parts: Array,
    place: Array,
    size: Array,
    blocked: Array,
    members: Array,
    weights: Array,
    source: int,
    weight: float,
) -> None:
    """Offer the heaviest members of one row, (slots,), by their weight."""
    left = QUOTA
    for slot in range(members.shape[0]):
        if members[slot] == 0 or left == 0:
            break
        left -= blocked[members[slot]] == 0
        offer(candidates, place, size, blocked, members[slot], float(weights[slot]))
    settle(candidates, parts, size, source, weight)
