"""Rows for pairs of rows (user x category, item x country), bounded, found by hashing.

A pair's key may stand in any of the `WAYS` slots of its set. When all are taken, the pair that was
longest untouched leaves and its row is used again. Rows are handed out densely, so that only the
cells of used ones take memory. A pair of a user who has left is known by its age: it was last
touched before the user's row was cleared, and counts as absent.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onhand.kernel import Array, inlined_kernel, inner_kernel

__all__ = ["Pairs", "enter", "find", "pairs"]

WAYS: Final = 8


class Pairs(NamedTuple):
    """Slots, (slots,) each; `used[0]` rows are handed out, beginning with row 1."""

    key: NDArray[np.int64]
    row: NDArray[np.int32]
    touched: NDArray[np.int64]
    used: NDArray[np.int64]


def pairs(limit: int) -> Pairs:
    """Return room for at least `limit` pairs, none of them there yet."""
    slots = max(WAYS, 1 << (limit - 1).bit_length())
    return Pairs(
        np.zeros(slots, np.int64),
        np.zeros(slots, np.int32),
        np.zeros(slots, np.int64),
        np.zeros(1, np.int64),
    )


@inner_kernel
def first_slot(slots: int, key: int) -> Any:
    """Return where the set of a key begins."""
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    return np.int64(mixed & np.uint64(slots // WAYS - 1)) * WAYS


@inner_kernel
def find(keys: Array, rows: Array, touched: Array, key: int, born: int) -> int:
    """Return the row of a pair touched after `born`, 0 when there is none."""
    begin = first_slot(keys.shape[0], key)
    for slot in range(begin, begin + WAYS):
        if keys[slot] == key:
            return rows[slot] if touched[slot] > born else 0
    return 0


@inlined_kernel
def enter(
    keys: Array, rows: Array, touched: Array, used: Array, key: int, born: int, now: int
) -> Any:
    """Return the row of a pair, now touched at `now`, and whether it has to be cleared first."""
    begin = first_slot(keys.shape[0], key)
    chosen = begin
    for slot in range(begin, begin + WAYS):
        if keys[slot] == key:
            chosen = slot
            break
        if touched[slot] < touched[chosen]:
            chosen = slot
    stale = False
    if keys[chosen] == 0:
        used[0] += 1
        rows[chosen] = used[0]
    else:
        stale = keys[chosen] != key or touched[chosen] <= born
    keys[chosen] = key
    touched[chosen] = now
    return np.int64(rows[chosen]), stale
