"""Items that are like what the session is about, or like one item: the nearest content vectors.

The clusters (`state.clusters`) whose centroids are nearest are looked through, until so many
vectors have been compared: `MANY` for a ranker, which is all of a catalogue of no more, `FEW` for
a page. `bench/vectors.py` measures what is missed. Additions, deletions and barriers hold at once.

What is like an item stays the same until an item comes, changes or goes. So a page's pool
remembers it: to compare vectors took most of a product page's decision.
"""

from typing import Final

import numpy as np

from onhand.kernel import Array, inner_kernel, kernel
from onhand.retrieval.interest import FIT
from onhand.retrieval.pool import NEIGHBOURS, offer, settle
from onhand.state.content import LENGTH, dot

__all__ = ["FEW", "MANY", "alike", "content", "nearest"]

QUOTA: Final = NEIGHBOURS
MANY: Final = 32_768
FEW: Final = 2_048
ENOUGH: Final = 24
"""Neighbours that may be shown: with fewer of those remembered, others are looked for."""
_SEEN: Final = np.iinfo(np.int64).min
_ORDER_BITS: Final = 32
_ORDER: Final = 2**_ORDER_BITS - 1


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
    settle(candidates, parts, size, source, weight)


@inner_kernel
def alike(
    candidates: Array, parts: Array, place: Array, size: Array, blocked: Array, centroid: Array,
    count: Array, member: Array, vectors: Array, clusters: int, contents: Array, seed: int,
    moves: int, seeds: Array, seeds_moves: Array, items: Array, products: Array, compared: int,
    source: int, weight: float,
) -> None:  # fmt: skip
    """Offer the items nearest to the item `seed`, by their cosine: those that are remembered as of
    as many `moves`, as far as they may be shown."""
    direction = contents[seed]
    if not direction.any():
        return
    if seeds.shape[0]:
        at = seed % seeds.shape[0]
        item, product = items[at], products[at]
        if seeds[at] != seed or seeds_moves[at] != moves:
            floor = int(FIT * LENGTH * LENGTH)
            found = nearest(
                centroid, count, member, vectors, clusters, blocked[:0], direction, floor,
                compared, item, product,
            )  # fmt: skip
            product[found:] = 0
            seeds[at], seeds_moves[at] = seed, moves
        shown = found = 0
        while found < item.shape[0] and product[found] > 0:
            shown += blocked[item[found]] == 0
            found += 1
        if shown >= ENOUGH or shown == found:
            for each in range(found):
                if blocked[item[each]] == 0:
                    offer(
                        candidates, place, size, blocked, item[each],
                        product[each] / (LENGTH * LENGTH),
                    )  # fmt: skip
            settle(candidates, parts, size, source, weight)
            return
    content(
        candidates, parts, place, size, blocked, centroid, count, member, vectors, clusters,
        direction, LENGTH, compared, source, weight,
    )  # fmt: skip


@kernel
def nearest(
    centroid: Array, count: Array, member: Array, vectors: Array, clusters: int, blocked: Array,
    direction: Array, floor: int, compared: int, item: Array, product: Array,
) -> int:  # fmt: skip
    """Write the items with the greatest products above `floor`, best first, of the nearest
    clusters with at least `compared` items between them; return how many. An empty `blocked` bars
    nothing."""
    near = np.zeros(clusters, np.int64)
    for cluster in range(clusters):
        near[cluster] = dot(centroid[cluster], direction)
    product[:] = floor << _ORDER_BITS
    found = looked = 0
    for _ in range(clusters):
        if looked >= compared:
            break
        cluster = near.argmax()
        near[cluster] = _SEEN
        found += look_through(
            vectors[cluster], member[cluster], count[cluster], blocked, direction, item, product,
            looked,
        )  # fmt: skip
        looked += count[cluster]
    rank(item, product)
    product >>= _ORDER_BITS
    return min(found, item.shape[0])


@inner_kernel
def look_through(
    vectors: Array, member: Array, count: int, blocked: Array, direction: Array, item: Array,
    product: Array, looked: int,
) -> int:  # fmt: skip
    """Put what a cluster has above the least of the nearest among them; return how many.

    The nearest are a heap with the least first: sorted by insertion, they took twice as long as
    the products. Of equal products the first is the greater, so a key is a product and, below it,
    how many vectors were not looked at before.
    """
    floor = product[0] >> _ORDER_BITS
    entered = 0
    for at in range(count):
        value = dot(vectors[at], direction)
        if value > floor and (blocked.shape[0] == 0 or blocked[member[at]] == 0):
            key = (value << _ORDER_BITS) + _ORDER - looked - at
            sink(item, product, item.shape[0], member[at], key)
            floor = product[0] >> _ORDER_BITS
            entered += 1
    return entered


@inner_kernel
def sink(item: Array, product: Array, size: int, new: int, key: int) -> None:
    """Put a new one into a heap of `size` in place of its least."""
    at = 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        child += child + 1 < size and product[child + 1] < product[child]
        if product[child] >= key:
            break
        item[at], product[at] = item[child], product[child]
        at = child
    item[at], product[at] = new, key


@inner_kernel
def rank(item: Array, product: Array) -> None:
    """Turn a heap into a list, the greatest first."""
    for last in range(item.shape[0] - 1, 0, -1):
        new, key = item[last], product[last]
        item[last], product[last] = item[0], product[0]
        sink(item, product, last, new, key)
