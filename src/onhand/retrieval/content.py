"""Items that are like what the session is about: the nearest content vectors.

Up to `EXACT` items every vector that may be shown is compared. Beyond, the signs of the vectors,
64 bits an item, say which `NEAREST` are compared (Charikar, "Similarity estimation techniques from
rounding algorithms", STOC 2002): `bench/retrieval.py` measures where that begins to pay and what
it misses. Either way additions, deletions and barriers hold at once, and there is no index.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onhand.kernel import Array, kernel
from onhand.retrieval.interest import FIT, dot
from onhand.retrieval.pool import offer, settle
from onhand.state.content import DIMENSIONS, LENGTH, signature

__all__ = ["EXACT", "ContentMemory", "content", "make_memory", "nearest"]

QUOTA: Final = 96
EXACT: Final = 200_000
NEAREST: Final = 8192


class ContentMemory(NamedTuple):
    """Working memory of one thread."""

    direction: NDArray[np.int8]  # (64,)
    distance: NDArray[np.uint8]  # (items,): signs in which an item differs
    item: NDArray[np.int64]  # the nearest, best first
    product: NDArray[np.int64]


def make_memory(items: int) -> ContentMemory:
    """Return memory for so many rows."""
    return ContentMemory(
        np.zeros(DIMENSIONS, np.int8),
        np.zeros(items, np.uint8),
        np.zeros(QUOTA, np.int64),
        np.zeros(QUOTA, np.int64),
    )


@kernel
def content(
    candidates: Array, parts: Array, place: Array, size: Array, blocked: Array, vectors: Array,
    signatures: Array, items: int, direction: Array, length: float, distance: Array, item: Array,
    product: Array, source: int, weight: float,
) -> None:  # fmt: skip
    """Offer the items nearest to a direction of a `length` above 0, by their cosine."""
    floor = int(FIT * LENGTH * length)
    cut = DIMENSIONS + 1
    if items > EXACT:
        cut = measure(signatures, blocked, items, signature(direction), distance)
    found = nearest(vectors, blocked, items, direction, floor, cut, distance, item, product)
    for at in range(found):
        offer(candidates, place, size, blocked, item[at], product[at] / (LENGTH * length))
    settle(candidates, parts, size[0], source, weight)


@kernel
def nearest(
    vectors: Array, blocked: Array, items: int, direction: Array, floor: int, cut: int,
    distance: Array, item: Array, product: Array,
) -> int:  # fmt: skip
    """Write the items with the greatest products above `floor`, best first, and return how many;
    with a `cut` that is a distance, only of those whose signs differ in fewer places."""
    found, most = 0, item.shape[0]
    for row in range(1, items):
        if blocked[row] != 0 or (cut <= DIMENSIONS and distance[row] >= cut):
            continue
        value = dot(vectors[row], direction)
        if value <= floor:
            continue
        slot = min(found, most - 1)
        while slot > 0 and product[slot - 1] < value:
            item[slot] = item[slot - 1]
            product[slot] = product[slot - 1]
            slot -= 1
        item[slot] = row
        product[slot] = value
        found = min(found + 1, most)
        if found == most:
            floor = product[most - 1]
    return found


@kernel
def measure(signatures: Array, blocked: Array, items: int, aimed: int, distance: Array) -> int:
    """Write in how many signs each item differs from `aimed`, and return the distance that about
    `NEAREST` items that may be shown are below."""
    counts = np.zeros(DIMENSIONS + 1, np.int64)
    for row in range(1, items):
        differs = np.uint64(signatures[row] ^ aimed)
        differs -= (differs >> np.uint64(1)) & np.uint64(0x5555555555555555)
        differs = (differs & np.uint64(0x3333333333333333)) + (
            (differs >> np.uint64(2)) & np.uint64(0x3333333333333333)
        )
        differs = (differs + (differs >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
        distance[row] = (differs * np.uint64(0x0101010101010101)) >> np.uint64(56)
    for row in range(1, items):
        if blocked[row] == 0:
            counts[distance[row]] += 1
    total, cut = 0, 0
    while cut < DIMENSIONS and total < NEAREST:
        total += counts[cut]
        cut += 1
    return cut
