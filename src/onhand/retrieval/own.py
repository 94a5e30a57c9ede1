"""The visitor's own items: what they looked at lately, and what they bought before."""

from typing import Final

from onhand.kernel import Array, inner_kernel
from onhand.retrieval.pool import offer, settle

__all__ = ["own"]

FADE: Final = 0.9


@inner_kernel
def own(
    candidates: Array, parts: Array, place: Array, size: Array, blocked: Array, latest: Array,
    others: Array, source: int, weight: float,
) -> None:  # fmt: skip
    """Offer the items of two lists, each with the latest first and ended by 0; the first list's
    come before the other's."""
    value = 1.0
    for at in range(latest.shape[0] + others.shape[0]):
        item = latest[at] if at < latest.shape[0] else others[at - latest.shape[0]]
        if item != 0:
            offer(candidates, place, size, blocked, item, value)
            value *= FADE
    settle(candidates, parts, size, source, weight)
