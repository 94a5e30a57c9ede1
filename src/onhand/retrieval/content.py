"""Items that are like what the session is about: the nearest content vectors.

The clusters (`state.clusters`) whose centroids are nearest are looked through, until `PROBED`
vectors have been compared: in a catalogue of fewer that is all of them. `bench/vectors.py` measures
what is missed beyond. Additions, deletions and barriers hold at once.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onhand.kernel import Array, kernel
from onhand.retrieval.interest import FIT
from onhand.retrieval.pool import offer, settle
from onhand.state.clusters import most_clusters
from onhand.state.content import DIMENSIONS, LENGTH, dot

__all__ = ["PROBED", "ContentMemory", "content", "make_memory", "nearest"]

QUOTA: Final = 96
PROBED: Final = 32_768
_SEEN: Final = np.iinfo(np.int64).min


class ContentMemory(NamedTuple):
    """Working memory of one thread."""

    direction: NDArray[np.int8]  # (64,)
    near: NDArray[np.int64]  # (clusters,): products of the centroids with the direction
    item: NDArray[np.int64]  # the nearest, best first
    product: NDArray[np.int64]


def make_memory(items: int) -> ContentMemory:
    """Return memory for so many rows."""
    return ContentMemory(
        np.zeros(DIMENSIONS, np.int8),
        np.zeros(most_clusters(items), np.int64),
        np.zeros(QUOTA, np.int64),
        np.zeros(QUOTA, np.int64),
    )


@kernel
def content(
    candidates: Array, parts: Array, place: Array, size: Array, blocked: Array, centroid: Array,
    count: Array, member: Array, vectors: Array, clusters: int, direction: Array, length: float,
    near: Array, item: Array, product: Array, source: int, weight: float,
) -> None:  # fmt: skip
    """Offer the items nearest to a direction of a `length` above 0, by their cosine."""
    floor = int(FIT * LENGTH * length)
    found = nearest(
        centroid, count, member, vectors, clusters, blocked, direction, floor, PROBED, near, item,
        product,
    )  # fmt: skip
    for at in range(found):
        offer(candidates, place, size, blocked, item[at], product[at] / (LENGTH * length))
    settle(candidates, parts, size[0], source, weight)


@kernel
def nearest(
    centroid: Array, count: Array, member: Array, vectors: Array, clusters: int, blocked: Array,
    direction: Array, floor: int, probed: int, near: Array, item: Array, product: Array,
) -> int:  # fmt: skip
    """Write the items with the greatest products above `floor`, best first, of the nearest
    clusters with at least `probed` items between them; return how many."""
    for cluster in range(clusters):
        near[cluster] = dot(centroid[cluster], direction)
    found, compared = 0, 0
    for _ in range(clusters):
        if compared >= probed:
            break
        cluster = near[:clusters].argmax()
        near[cluster] = _SEEN
        compared += count[cluster]
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
