"""Trending items: those whose weight of the last hours is most beyond what is usual for them.

Both weights are decayed (`state.decay`), one within an hour, one within a week; a week's weight
spread over its hours is what is usual.
"""

from typing import Final

from onhand.kernel import Array, inner_kernel
from onhand.retrieval.pool import offer, settle
from onhand.state import decay
from onhand.state.fold import SURGE_HALF_LIFE_MS

__all__ = ["trending"]

QUOTA: Final = 48
LEAST: Final = 2.0
"""Events of now that an item must weigh to count."""
SMOOTH: Final = 3.0


@inner_kernel
def trending(
    candidates: Array, parts: Array, place: Array, size: Array, blocked: Array, members: Array,
    weights: Array, landmark_ms: int, popularity: Array, unit: int, now_ms: int, source: int,
    weight: float,
) -> None:  # fmt: skip
    """Offer the heaviest of the last hours; `unit` is what an event of now weighs in
    `popularity`."""
    now = 2.0 ** ((now_ms - landmark_ms) / SURGE_HALF_LIFE_MS) * decay.UNIT
    usual = SURGE_HALF_LIFE_MS / decay.HALF_LIFE_MS / unit
    left = QUOTA
    for slot in range(members.shape[0]):
        item = members[slot]
        if item == 0 or left == 0 or weights[slot] < LEAST * now:
            break
        left -= blocked[item] == 0
        value = weights[slot] / now / (popularity[item] * usual + SMOOTH)
        offer(candidates, place, size, blocked, item, value)
    settle(candidates, parts, size, source, weight)
