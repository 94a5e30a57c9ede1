"""Session neighbours, live: what was touched in recent sessions that touched the same items.

VMIS-kNN (Kersbergen, Sprangers, Schelter: "Serenade", SIGMOD 2022) over columns that the fold
keeps, so a session counts as soon as its click is folded: `items.recent_session` is a ring of
the latest sessions of each item, `sessions.recent_item` what each of them touched. How a session
is weighed is shared with the search over recorded sessions (`sessions.neighbours`), which walks
other memory; its age counts by time here (as in Garg et al., "Sequence and Time Aware
Neighborhood", SIGIR 2019).

A ring may hold the row of a session that has left or has gone on to other items. So a session is
a neighbour only while its own list holds the item.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onhand.kernel import Array, inner_kernel
from onhand.retrieval.pool import offer, settle
from onhand.retrieval.sessions.neighbours import item_rarity, position_weight, vote_weight
from onhand.retrieval.sessions.top import best

__all__ = ["NeighbourMemory", "make_memory", "neighbours"]

LENGTH: Final = 10
"""Latest touches of the session that count."""
NEIGHBOURS: Final = 100
QUOTA: Final = 128
VOTE_DECAY: Final = 0.1
AGE_MS: Final = 7 * 86_400_000
"""After which a neighbour's weight beyond `OLD` is 1/e."""
OLD: Final = 0.35


class NeighbourMemory(NamedTuple):
    """Working memory of one thread; `similarity` and `vote` are all zeros between calls."""

    similarity: NDArray[np.float32]  # (sessions, 1)
    step: NDArray[np.int32]  # (sessions,): touches since the latest shared item
    counted: NDArray[np.int32]  # (sessions,): the anchor that added to the similarity last
    matched: NDArray[np.int32]  # rows of sessions that share an item
    vote: NDArray[np.float32]  # (items, 1)
    voted: NDArray[np.int32]  # rows of items that have votes
    heap: NDArray[np.int32]


def make_memory(items: int, sessions: int, ring: int, recent: int) -> NeighbourMemory:
    """Return memory for so many rows, rings of `ring` sessions and lists of `recent` items."""
    return NeighbourMemory(
        similarity=np.zeros((sessions, 1), np.float32),
        step=np.zeros(sessions, np.int32),
        counted=np.zeros(sessions, np.int32),
        matched=np.zeros(LENGTH * ring, np.int32),
        vote=np.zeros((items, 1), np.float32),
        voted=np.zeros(NEIGHBOURS * recent, np.int32),
        heap=np.zeros(max(NEIGHBOURS, QUOTA), np.int32),
    )


@inner_kernel
def neighbours(
    candidates: Array, parts: Array, place: Array, size: Array, blocked: Array,
    recent_session: Array, sessions_of: Array, recent_item: Array, recent_ms: Array,
    n_sessions: int, anchors: Array, own: int, now_ms: int,
    similarity: Array, step: Array, counted: Array, matched: Array,
    vote: Array, voted: Array, heap: Array, source: int, weight: float,
) -> None:  # fmt: skip
    """Offer what the neighbours of a session touched; `anchors` is its list, the latest first,
    and `own` its row, which is no neighbour."""
    n_matched = _match(
        recent_session, recent_item, anchors, own, similarity, step, counted, matched
    )
    for at in range(n_matched):
        session = matched[at]
        age = max(now_ms - recent_ms[session, 0], 0) / AGE_MS
        similarity[session, 0] *= OLD + (1.0 - OLD) * np.exp(-age)
    n_voted = 0
    for at in range(best(matched, n_matched, similarity, 0, NEIGHBOURS, heap)):
        session = heap[at]
        strength = vote_weight(similarity[session, 0], step[session], VOTE_DECAY)
        n_voted = _vote(recent_item[session], blocked, strength, vote, voted, n_voted)
    for at in range(n_matched):
        similarity[matched[at], 0] = 0.0
        counted[matched[at]] = 0
    for at in range(n_voted):
        vote[voted[at], 0] *= item_rarity(n_sessions, sessions_of[voted[at]])
    for at in range(best(voted, n_voted, vote, 0, QUOTA, heap)):
        offer(candidates, place, size, blocked, heap[at], vote[heap[at], 0])
    for at in range(n_voted):
        vote[voted[at], 0] = 0.0
    settle(candidates, parts, size, source, weight)


@inner_kernel
def _match(
    recent_session: Array, recent_item: Array, anchors: Array, own: int,
    similarity: Array, step: Array, counted: Array, matched: Array,
) -> int:  # fmt: skip
    """Add up the similarity of the sessions that share an item; return how many there are."""
    length = 0
    while length < min(LENGTH, anchors.shape[0]) and anchors[length] != 0:
        length += 1
    n_matched = 0
    for at in range(length):
        item = anchors[at]
        if item in anchors[:at]:
            continue
        for session in recent_session[item]:
            if session == 0 or session == own or counted[session] == at + 1:
                continue
            if item not in recent_item[session]:
                continue
            if counted[session] == 0:
                step[session] = at
                matched[n_matched] = session
                n_matched += 1
            counted[session] = at + 1
            similarity[session, 0] += position_weight(at, length)
    return n_matched


@inner_kernel
def _vote(
    touched: Array, blocked: Array, strength: float, vote: Array, voted: Array, n_voted: int
) -> int:
    """Give a neighbour's vote to its items that may be shown; return how many have votes."""
    for at in range(touched.shape[0]):
        item = touched[at]
        if item == 0:
            break
        if blocked[item] != 0 or item in touched[:at]:
            continue
        if vote[item, 0] == 0.0:
            voted[n_voted] = item
            n_voted += 1
        vote[item, 0] += strength
    return n_voted
