"""New arrivals: items too new for anybody's clicks to speak for them, so their content does.

Each is worth the cosine of its content with what the visitor is about; where nothing is known of
the visitor, less the older it is. An item leaves when its time is over or when enough sessions
have touched it. Those that fit are marked: a slot's plan keeps places for them.
"""

from typing import Final

from onhand.kernel import Array, inner_kernel
from onhand.retrieval.interest import FIT, cosine
from onhand.retrieval.pool import mark, offer, settle

__all__ = ["ENOUGH", "NEW_MS", "new_arrivals"]

QUOTA: Final = 48
NEW_MS: Final = 72 * 3_600_000
ENOUGH: Final = 50
"""Sessions after which an item speaks for itself."""


@inner_kernel
def new_arrivals(
    candidates: Array, parts: Array, place: Array, size: Array, blocked: Array, arrived: Array,
    arrived_ms: Array, sessions_of: Array, vectors: Array, direction: Array, length: float,
    now_ms: int, new_ms: int, source: int, weight: float,
) -> None:  # fmt: skip
    """Offer what of a list, the latest first, arrived within `new_ms`; `direction` is what the
    visitor is about, and `length` its length, 0 when nothing is known."""
    left = QUOTA
    for at in range(arrived.shape[0]):
        item = arrived[at]
        if item == 0 or left == 0 or arrived_ms[at] <= now_ms - new_ms:
            break
        if sessions_of[item] >= ENOUGH or blocked[item] != 0:
            continue
        if length == 0.0:
            age = max(now_ms - arrived_ms[at], 0) / new_ms
            offer(candidates, place, size, blocked, item, 1.0 - age)
            left -= 1
            continue
        value = cosine(vectors[item], direction, length)
        if value >= FIT:
            offer(candidates, place, size, blocked, item, value)
            mark(candidates, place, item, value)
            left -= 1
    settle(candidates, parts, size, source, weight)
