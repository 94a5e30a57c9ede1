"""Clusters: items whose content vectors are near lie side by side: a search looks at few of them.

An item is in the cluster whose centroid is nearest to its vector. A full cluster splits in two, by
2-means with at least a quarter on each side; what is left of one that has become small joins the
others (as in Xu et al., "SPFresh: Incremental In-Place Update for Billion-Scale Vector Search",
SOSP 2023). So the work of adding, changing or deleting an item is bounded, and the clusters are
state like any other: as of one offset, and the same bytes after a replay.
"""

from typing import Any, Final

import numpy as np

from onhand.kernel import Array, inner_kernel, kernel
from onhand.state.content import DIMENSIONS, LENGTH, dot

__all__ = ["CAPACITY", "drop", "most_clusters", "move"]

CAPACITY: Final = 1024
"""Items of a cluster at which it splits."""
LEAST: Final = 128
"""Items below which a cluster is given up."""
ROUNDS: Final = 4


def most_clusters(items: int) -> int:
    """Return the number of clusters that so many rows of items can come to."""
    return items // LEAST + 2


@inner_kernel
def move(clusters: Any, items: Any, shop: Any, item: int) -> None:
    """Bring an item to where its vector, which may be another than before, belongs."""
    vector = items.content[item]
    home, at = items.cluster[item] - 1, items.cluster_at[item]
    if home >= 0:
        same = True
        for dimension in range(DIMENSIONS):
            same &= clusters.vectors[home, at, dimension] == vector[dimension]
        if same:
            return
        drop(clusters, items, shop, item)
    if vector.any():
        join(clusters, items, shop, item)


@inner_kernel
def drop(clusters: Any, items: Any, shop: Any, item: int) -> None:
    """Take an item out of its cluster, if it is in one."""
    home, at = items.cluster[item] - 1, items.cluster_at[item]
    if home < 0:
        return
    items.cluster[item] = 0
    shop.moves[0] += 1
    last = clusters.size[home] - 1
    clusters.size[home] = last
    if at != last:
        put(clusters, items, home, at, clusters.member[home, last])
    if last < LEAST and shop.clusters[0] > 1:
        give_up(clusters, items, shop, home)


@inner_kernel
def join(clusters: Any, items: Any, shop: Any, item: int) -> None:
    """Put an item into the cluster that is nearest, and split that if it is full then."""
    vector = items.content[item]
    shop.moves[0] += 1
    used = shop.clusters[0]
    if used == 0:
        used = shop.clusters[0] = 1
    if used == 1 and clusters.size[0] == 0:
        for dimension in range(DIMENSIONS):
            clusters.centroid[0, dimension] = vector[dimension]
    home, most = 0, dot(clusters.centroid[0], vector)
    for other in range(1, used):
        product = dot(clusters.centroid[other], vector)
        if product > most:
            home, most = other, product
    at = clusters.size[home]
    clusters.size[home] = at + 1
    put(clusters, items, home, at, item)
    if at + 1 == CAPACITY:
        split(clusters, items, home, used)
        shop.clusters[0] = used + 1


@inner_kernel
def put(clusters: Any, items: Any, home: int, at: int, item: int) -> None:
    """Write an item to a place of a cluster."""
    clusters.member[home, at] = item
    items.cluster[item] = home + 1
    items.cluster_at[item] = at
    for dimension in range(DIMENSIONS):
        clusters.vectors[home, at, dimension] = items.content[item, dimension]


@kernel
def split(clusters: Any, items: Any, old: int, new: int) -> None:
    """Give the items of a full cluster that are nearer to each other than to the rest to a new
    one."""
    vectors, centroid = clusters.vectors[old], clusters.centroid
    seed(vectors, centroid, old, new)
    keys = np.zeros(CAPACITY, np.int64)
    bound = 0
    for _ in range(ROUNDS):
        nearer = 0
        for at in range(CAPACITY):
            gain = dot(vectors[at], centroid[new]) - dot(vectors[at], centroid[old])
            keys[at] = gain * CAPACITY + at
            nearer += gain > 0
        nearer = min(max(nearer, CAPACITY // 4), CAPACITY - CAPACITY // 4)
        bound = np.sort(keys)[CAPACITY - nearer]
        center(vectors, keys, bound, centroid, old, new)
    kept = moved = 0
    for at in range(CAPACITY):
        item = clusters.member[old, at]
        if keys[at] >= bound:
            put(clusters, items, new, moved, item)
            moved += 1
        else:
            put(clusters, items, old, kept, item)
            kept += 1
    clusters.size[old], clusters.size[new] = kept, moved


@inner_kernel
def seed(vectors: Array, centroid: Array, old: int, new: int) -> None:
    """Begin with the item furthest from the centroid, and the one furthest from that."""
    for home in (new, old):
        other = old if home == new else new
        far, least = 0, dot(vectors[0], centroid[other])
        for at in range(1, CAPACITY):
            product = dot(vectors[at], centroid[other])
            if product < least:
                far, least = at, product
        for dimension in range(DIMENSIONS):
            centroid[home, dimension] = vectors[far, dimension]


@kernel
def center(vectors: Array, keys: Array, bound: int, centroid: Array, old: int, new: int) -> None:
    """Make the centroids the directions of the sums of their sides' vectors."""
    total = np.zeros((2, DIMENSIONS), np.int64)
    for at in range(CAPACITY):
        side = int(keys[at] >= bound)
        for dimension in range(DIMENSIONS):
            total[side, dimension] += vectors[at, dimension]
    for side, home in enumerate((old, new)):
        square = 0
        for dimension in range(DIMENSIONS):
            square += total[side, dimension] * total[side, dimension]
        if square:
            scale = LENGTH / np.sqrt(square)
            for dimension in range(DIMENSIONS):
                centroid[home, dimension] = np.rint(total[side, dimension] * scale)


@kernel
def give_up(clusters: Any, items: Any, shop: Any, home: int) -> None:
    """Let the items of a cluster join others, and the last cluster take its place."""
    left = clusters.member[home, : clusters.size[home]].copy()
    last = shop.clusters[0] - 1
    shop.clusters[0] = last
    if home != last:
        clusters.centroid[home] = clusters.centroid[last]
        clusters.size[home] = clusters.size[last]
        for at in range(clusters.size[last]):
            put(clusters, items, home, at, clusters.member[last, at])
    clusters.centroid[last] = 0
    clusters.size[last] = 0
    clusters.member[last] = 0
    clusters.vectors[last] = 0
    for item in left:
        join(clusters, items, shop, item)
