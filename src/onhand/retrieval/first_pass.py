"""The first pass: about 500 candidates from every source at once, for a ranker to order.

All sources fill a pool, as for a page, but with what each says of each candidate kept apart.
Nothing that must not be shown is among them. One compiled call, without the interpreter lock, in
memory of its own: it may run beside page reads, but not beside a fold.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onhand.kernel import Array, entry_kernel, kernel
from onhand.retrieval.arrivals import NEW_MS
from onhand.retrieval.content import MANY
from onhand.retrieval.gather import gather
from onhand.retrieval.neighbours import NeighbourMemory, make_memory, neighbours
from onhand.retrieval.pool import Pool, clear, make_pool
from onhand.retrieval.sight import Sight, Visitor
from onhand.retrieval.sources import GATHERED, NEIGHBOURS, SOURCES
from onhand.state.state import State

__all__ = ["MOST", "SOURCES", "Found", "Scratch", "find", "make_scratch"]

MOST: Final = 500
"""Candidates, at most."""
QUOTA: Final = 32
"""The best of each source stay, however little the others say of them."""
_CODES: Final = np.array(GATHERED)
_WEIGHTS: Final = np.ones(len(_CODES))


class Found(NamedTuple):
    """Candidates: rows of `items`, int64 (k,); `parts`, float32 (k, SOURCES), what each source
    says, its best item 1, 0 where it says nothing; `source`, int32 (k,), the code of the one that
    says most."""

    items: NDArray[np.int64]
    parts: NDArray[np.float32]
    source: NDArray[np.int32]


class Scratch(NamedTuple):
    """The memory that one thread finds candidates in."""

    pool: Pool
    neighbours: NeighbourMemory


def make_scratch(state: State) -> Scratch:
    """Return scratch memory for a state and any other of its size."""
    ring, recent = state.item.recent_session, state.session.recent_item
    return Scratch(
        make_pool(len(ring), parts=True),
        make_memory(len(ring), len(recent), ring.shape[1], recent.shape[1]),
    )


def find(state: State, sight: Sight, visitor: Visitor, now_ms: int, scratch: Scratch) -> Found:
    """Return up to `MOST` candidates for a visitor, as of the state's offset and `now_ms`.

    The order means nothing, and is the same for the same state. Where the sources offer more, the
    best `QUOTA` of each stay, and of the others those with the greatest sum of parts.
    """
    pool = scratch.pool
    found = first_pass(
        pool, scratch.neighbours, sight, state.item, state.session, state.shop, visitor, _CODES,
        _WEIGHTS, now_ms,
    )  # fmt: skip
    chosen = pool.chosen[:found]
    candidates = pool.candidates[chosen]
    return Found(candidates["item"].copy(), pool.parts[chosen], candidates["source"].copy())


@entry_kernel
def first_pass(
    pool: Any, memory: Any, sight: Any, items: Any, sessions: Any, shop: Any, visitor: Any,
    codes: Array, weights: Array, now_ms: int,
) -> int:  # fmt: skip
    """Fill the pool, write the places of the candidates to keep, return how many."""
    candidates, parts, place, size, chosen, _kept_off, near = pool
    blocked = sight.blocked
    clear(candidates, parts, place, size)
    gather(
        candidates, parts, place, size, near, sight, visitor, now_ms, codes, weights, 1.0, NEW_MS,
        MANY,
    )  # fmt: skip
    anchors = sessions.recent_item[visitor.session]
    if anchors[0] == 0:
        anchors = sight.user_recent[visitor.user]
    similarity, step, counted, matched, vote, voted, heap = memory
    neighbours(
        candidates, parts, place, size, blocked, items.recent_session, items.sessions,
        sessions.recent_item, sessions.recent_ms, shop.sessions[0], anchors, visitor.session,
        now_ms, similarity, step, counted, matched, vote, voted, heap, NEIGHBOURS, 1.0,
    )  # fmt: skip
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
