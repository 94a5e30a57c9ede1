"""The first pass: about 500 candidates from every source at once, for a ranker to order.

All sources fill a pool, as for a page, but with what each says of each candidate kept apart.
Nothing that must not be shown is among them. One compiled call, without the interpreter lock, in
memory of its own: it may run beside page reads, but not beside a fold.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onhand.kernel import Array, kernel
from onhand.retrieval.gather import gather
from onhand.retrieval.pool import Pool, clear, make_pool
from onhand.retrieval.sight import Sight, Visitor
from onhand.retrieval.sources import SOURCES

__all__ = ["MOST", "SOURCES", "Found", "find", "make_scratch"]

MOST: Final = 500
"""Candidates, at most."""
QUOTA: Final = 32
"""The best of each source stay, however little the others say of them."""
_CODES: Final = np.arange(len(SOURCES))
_WEIGHTS: Final = np.ones(len(SOURCES))


class Found(NamedTuple):
    """Candidates: rows of `items`, int64 (k,); `parts`, float32 (k, SOURCES), what each source
    says, its best item 1, 0 where it says nothing; `source`, int32 (k,), the code of the one that
    says most."""

    items: NDArray[np.int64]
    parts: NDArray[np.float32]
    source: NDArray[np.int32]


def make_scratch(items: int) -> Pool:
    """Return the memory that one thread finds candidates in, for at most `items` rows."""
    return make_pool(items, parts=True)


def find(sight: Sight, visitor: Visitor, now_ms: int, scratch: Pool) -> Found:
    """Return up to `MOST` candidates for a visitor, as of the state's offset and `now_ms`.

    The order means nothing, and is the same for the same state. Where the sources offer more, the
    best `QUOTA` of each stay, and of the others those with the greatest sum of parts.
    """
    found = first_pass(scratch, sight, visitor, _CODES, _WEIGHTS, now_ms)
    chosen = scratch.chosen[:found]
    candidates = scratch.candidates[chosen]
    return Found(candidates["item"].copy(), scratch.parts[chosen], candidates["source"].copy())


@kernel
def first_pass(
    scratch: Any, sight: Any, visitor: Any, codes: Array, weights: Array, now_ms: int
) -> int:
    """Fill the pool, write the places of the candidates to keep, return how many."""
    candidates, parts, place, size, chosen, _page, _kept_off = scratch
    clear(candidates, parts, place, size)
    gather(candidates, parts, place, size, sight, visitor, now_ms, codes, weights, 1.0)
    return keep(candidates, parts, size[0], chosen)


@kernel
def keep(candidates: Array, parts: Array, size: int, chosen: Array) -> int:
    """Choose by quotas and score, and write the places to `chosen`, in the pool's order."""
    allowed = 0
    for at in range(size):
        allowed += candidates[at].reason == 0 and candidates[at].score > 0.0
    kept = np.zeros(size, np.bool_)
    values = np.zeros(size, np.float64)
    room = MOST
    if allowed > MOST:
        for source in range(parts.shape[1]):
            for at in range(size):
                values[at] = parts[at, source] if candidates[at].reason == 0 else 0.0
            room -= keep_best(values, kept, min(QUOTA, room))
    for at in range(size):
        values[at] = candidates[at].score if candidates[at].reason == 0 else 0.0
        if kept[at]:
            values[at] = 0.0
    keep_best(values, kept, room)
    found = 0
    for at in range(size):
        if kept[at]:
            chosen[found] = at
            found += 1
    return found


@kernel
def keep_best(values: Array, kept: Array, most: int) -> int:
    """Mark the `most` greatest of those above 0, of equals the first; return how many are new."""
    above = values[values > 0.0]
    floor = 0.0
    if above.shape[0] > most:
        floor = np.sort(above)[above.shape[0] - most]
    over = (values > floor).sum() if floor > 0.0 else 0
    ties = most - over
    new = 0
    for at in range(values.shape[0]):
        value = values[at]
        if value <= 0.0 or value < floor:
            continue
        if value == floor:
            if ties == 0:
                continue
            ties -= 1
        if not kept[at]:
            kept[at] = True
            new += 1
    return new
