"""Items that are like what the session is about, or like one item: the nearest content vectors.

The clusters (`state.clusters`) whose centroids are nearest are looked through, until so many
vectors have been compared: `MANY` for a ranker, which is all of a catalogue of no more, `FEW` for
a page. `bench/vectors.py` measures what is missed. Additions, deletions and barriers hold at once.
"""

from typing import Final

import numpy as np

from onhand.kernel import Array, kernel
from onhand.retrieval.interest import FIT
from onhand.retrieval.pool import offer, settle
from onhand.state.content import LENGTH, dot

__all__ = ["FEW", "MANY", "content", "nearest"]

QUOTA: Final = 96
MANY: Final = 32_768
FEW: Final = 2_048
_SEEN: Final = np.iinfo(np.int64).min


@kernel
def content(
    candidates: Array, parts: Array, place: Array, size: Array, blocked: Array, centroid: Array,
    count: Array, member: Array, vectors: Array, clusters: int, direction: Array, length: float,
    compared: int, source: int, weight: float,
) -> None:  # fmt: skip
    """Offer the items nearest to a direction of a `length` above 0, by their cosine."""
    floor = int(FIT * LENGTH * length)
    item, product = np.zeros(QUOTA, np.int64), np.zeros(QUOTA, np.int64)
    found = nearest(
        centroid, count, member, vectors, clusters, blocked, direction, floor, compared, item,
        product,
    )  # fmt: skip
    for at in range(found):
        offer(candidates, place, size, blocked, item[at], product[at] / (LENGTH * length))
    settle(candidates, parts, size[0], source, weight)


@kernel
def nearest(
    centroid: Array, count: Array, member: Array, vectors: Array, clusters: int, blocked: Array,
    direction: Array, floor: int, compared: int, item: Array, product: Array,
) -> int:  # fmt: skip
    """Write the items with the greatest products above `floor`, best first, of the nearest
    clusters with at least `compared` items between them; return how many."""
    near = np.zeros(clusters, np.int64)
    for cluster in range(clusters):
        near[cluster] = dot(centroid[cluster], direction)
    found = looked = 0
    for _ in range(clusters):
        if looked >= compared:
            break
        cluster = near.argmax()
        near[cluster] = _SEEN
        looked += count[cluster]
        found, floor = look_through(
            vectors[cluster], member[cluster], count[cluster], blocked, direction, floor, item,
            product, found,
        )  # fmt: skip
    return found


@kernel
def look_through(
    vectors: Array, member: Array, count: int, blocked: Array, direction: Array, floor: int,
    item: Array, product: Array, found: int,
) -> tuple[int, int]:  # fmt: skip
    """Take what a cluster has above `floor` among the `found` nearest; return how many they are
    then, and what is above the floor of the next."""
    most = item.shape[0]
    for at in range(count):
        value = dot(vectors[at], direction)
        if value <= floor or blocked[member[at]] != 0:
            continue
        slot = min(found, most - 1)
        while slot > 0 and product[slot - 1] < value:
            item[slot] = item[slot - 1]
            product[slot] = product[slot - 1]
            slot -= 1
        item[slot] = member[at]
        product[slot] = value
        found = min(found + 1, most)
        if found == most:
            floor = product[most - 1]
    return found, floor
