"""The pool: the candidates of one decision, in memory that is used again for the next.

Each source offers items with raw values and then settles: its values are scaled so that its best
is 1, multiplied by its weight, and added to the candidates' scores. A candidate's source is the
one that gave it most. An item that must not be shown enters too, with the reason, so that a
decision can tell what it kept off the page; `select` passes it over.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onhand.kernel import Array, kernel
from onhand.state.barriers import REASONS

__all__ = ["Pool", "bar", "clear", "fill", "offer", "pool", "select", "settle"]

CAPACITY = 2048


class Pool(NamedTuple):
    """Candidate columns, (CAPACITY,), of which `size[0]` are in use."""

    size: NDArray[np.int64]
    item: NDArray[np.int32]
    reason: NDArray[np.uint8]
    score: NDArray[np.float64]
    raw: NDArray[np.float64]
    best: NDArray[np.float64]
    source: NDArray[np.uint8]
    place: NDArray[np.int32]  # (items,): 1 + the place of an item in the pool, 0: not in it
    chosen: NDArray[np.int64]  # places of the chosen, best first
    kept_off: NDArray[np.int64]  # (reasons,): what a barrier kept off the page


def pool(items: int) -> Pool:
    """Return an empty pool for a catalogue of at most `items` rows."""
    return Pool(
        size=np.zeros(1, np.int64),
        item=np.zeros(CAPACITY, np.int32),
        reason=np.zeros(CAPACITY, np.uint8),
        score=np.zeros(CAPACITY),
        raw=np.zeros(CAPACITY),
        best=np.zeros(CAPACITY),
        source=np.zeros(CAPACITY, np.uint8),
        place=np.zeros(items, np.int32),
        chosen=np.zeros(CAPACITY, np.int64),
        kept_off=np.zeros(len(REASONS), np.int64),
    )


@kernel
def clear(pool: Any) -> None:
    """Empty the pool."""
    for at in range(pool.size[0]):
        pool.place[pool.item[at]] = 0
    pool.size[0] = 0


@kernel
def enter(pool: Any, item: int, reason: int) -> int:
    """Return the place of `item`, a new one when it has none; -1 when the pool is full."""
    at = pool.place[item] - 1
    if at >= 0:
        return at
    at = pool.size[0]
    if at == CAPACITY:
        return -1
    pool.size[0] += 1
    pool.place[item] = at + 1
    pool.item[at] = item
    pool.reason[at] = reason
    pool.score[at] = 0.0
    pool.raw[at] = 0.0
    pool.best[at] = 0.0
    pool.source[at] = 0
    return at


@kernel
def bar(pool: Any, members: Array, reason: int) -> None:
    """Keep the items of a list, which 0 may end, off this page for `reason`."""
    for item in members:
        if item == 0:
            return
        at = enter(pool, item, reason)
        if at >= 0 and pool.reason[at] == 0:
            pool.reason[at] = reason


@kernel
def offer(pool: Any, blocked: Array, item: int, raw: float) -> None:
    """Add `raw` to what the current source says of `item`."""
    at = enter(pool, item, blocked[item])
    if at >= 0:
        pool.raw[at] += raw


@kernel
def settle(pool: Any, source: int, weight: float) -> None:
    """Close the current source: turn its raw values into scores."""
    size = pool.size[0]
    top = 0.0
    for at in range(size):
        top = max(top, pool.raw[at])
    if top == 0.0:
        return
    for at in range(size):
        if pool.raw[at] > 0.0:
            part = weight * pool.raw[at] / top
            pool.raw[at] = 0.0
            pool.score[at] += part
            if part > pool.best[at]:
                pool.best[at] = part
                pool.source[at] = source


@kernel
def ahead(pool: Any, popularity: Array, one: int, other: int) -> bool:
    """Return whether place `one` ranks before `other`: by score, then popularity, then row."""
    if pool.score[one] != pool.score[other]:
        return pool.score[one] > pool.score[other]
    first, second = pool.item[one], pool.item[other]
    if popularity[first] != popularity[second]:
        return popularity[first] > popularity[second]
    return first < second


@kernel
def select(pool: Any, popularity: Array, n: int) -> int:
    """Choose the best `n` that may be shown, write their places to `chosen`, return how many;
    their scores are rounded to six digits.

    `kept_off` counts by reason what a barrier passed over that would have been among them.
    """
    found = 0
    for at in range(pool.size[0]):
        if pool.reason[at] != 0:
            continue
        if found == n and not ahead(pool, popularity, at, pool.chosen[n - 1]):
            continue
        slot = min(found, n - 1)
        while slot > 0 and ahead(pool, popularity, at, pool.chosen[slot - 1]):
            pool.chosen[slot] = pool.chosen[slot - 1]
            slot -= 1
        pool.chosen[slot] = at
        found = min(found + 1, n)
    for slot in range(found):
        at = pool.chosen[slot]
        pool.score[at] = np.rint(pool.score[at] * 1e6) / 1e6
    pool.kept_off[:] = 0
    floor = pool.score[pool.chosen[n - 1]] if found == n else 0.0
    for at in range(pool.size[0]):
        if pool.reason[at] != 0 and pool.score[at] > floor:
            pool.kept_off[pool.reason[at]] += 1
    return found


@kernel
def fill(
    pool: Any,
    blocked: Array,
    popularity: Array,
    items: int,
    found: int,
    n: int,
    source: int,
) -> int:
    """Complete a page of `found` to `n` with the most popular items not in the pool, of the first
    `items` rows, as long as there are any that may be shown; return how many are chosen then."""
    start = found
    for item in range(1, items):
        if blocked[item] != 0 or pool.place[item] != 0:
            continue
        if found == n and popularity[item] <= popularity[pool.chosen[n - 1]]:
            continue
        slot = min(found, n - 1)
        while slot > start and popularity[item] > popularity[pool.chosen[slot - 1]]:
            pool.chosen[slot] = pool.chosen[slot - 1]
            slot -= 1
        pool.chosen[slot] = item
        found = min(found + 1, n)
    for slot in range(start, found):
        at = enter(pool, pool.chosen[slot], 0)
        pool.source[at] = source
        pool.chosen[slot] = at
    return found
