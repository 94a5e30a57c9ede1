"""The session index: which items a session touched, and which recent sessions touched an item.

Both directions are growing rows, so a click can be added to a session that is still going on
and the session can be a neighbour of the next visitor at once. A session is kept as its
*distinct* items in the order of their first touch: what VMIS-kNN (Kersbergen et al., "Serenade",
SIGMOD 2022) scores, and no duplicate has to be looked for while a visitor waits.
"""

import numpy as np
from numpy.typing import NDArray

from onhand.kernel import kernel
from onhand.retrieval.sessions.rows import GrowingRows

__all__ = ["SessionIndex"]


class SessionIndex:
    """Sessions by row number, newest last, and for every item its most recent sessions.

    `offsets` int64 (sessions + 1,) and `items` int32 (clicks,) are sessions in time order, each
    a slice of item numbers below `n_items`. `sessions_per_item` is how many of an item's most
    recent sessions are kept (the paper's m).
    """

    def __init__(
        self,
        offsets: NDArray[np.int64],
        items: NDArray[np.int32],
        n_items: int,
        *,
        sessions_per_item: int = 1000,
    ) -> None:
        kept_offsets, kept = _distinct_items(offsets, items, n_items)
        lengths = np.diff(kept_offsets).astype(np.int32)
        self.sessions = GrowingRows(kept_offsets[:-1].copy(), lengths, kept)
        start, length, pool, n_sessions_of = _recent_sessions(
            kept_offsets, kept, n_items, sessions_per_item
        )
        self.recent = GrowingRows(start, length, pool, limit=sessions_per_item)
        self.sessions_of = n_sessions_of

    @property
    def n_sessions(self) -> int:
        """Number of sessions, those begun since the build among them."""
        return self.sessions.n_rows

    @property
    def n_items(self) -> int:
        """Number of item numbers in use."""
        return len(self.sessions_of)

    def add(self, session: int, item: int) -> None:
        """Note that session number `session` touched `item`; both may be new.

        A new session takes the number `n_sessions`. Touching an item again changes nothing.
        """
        if not 0 <= session <= self.n_sessions:
            raise IndexError(f"session {session} is not one of 0..{self.n_sessions}")
        if session < self.n_sessions and item in self.sessions.row(session):
            return
        if item >= self.n_items:
            missing = item + 1 - self.n_items
            self.sessions_of = np.append(self.sessions_of, np.zeros(missing, np.int64))
        self.sessions.append(session, item)
        self.recent.append(item, session)
        self.sessions_of[item] += 1


@kernel
def _distinct_items(
    offsets: NDArray[np.int64], items: NDArray[np.int32], n_items: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Every session's distinct items in the order of first touch, as (offsets, items)."""
    n_sessions = len(offsets) - 1
    kept_offsets = np.zeros(n_sessions + 1, np.int64)
    kept = np.empty(len(items), np.int32)
    seen_in = np.full(n_items, -1, np.int64)
    n = 0
    for session in range(n_sessions):
        for place in range(offsets[session], offsets[session + 1]):
            item = items[place]
            if seen_in[item] != session:
                seen_in[item] = session
                kept[n] = item
                n += 1
        kept_offsets[session + 1] = n
    return kept_offsets, kept[:n].copy()


@kernel
def _recent_sessions(
    offsets: NDArray[np.int64], items: NDArray[np.int32], n_items: int, limit: int
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    """For every item its `limit` newest sessions, oldest of these first."""
    n_sessions = len(offsets) - 1
    sessions_of = np.zeros(n_items, np.int64)
    for place in range(len(items)):
        sessions_of[items[place]] += 1
    start = np.zeros(n_items, np.int64)
    length = np.zeros(n_items, np.int32)
    total = 0
    for item in range(n_items):
        start[item] = total
        length[item] = min(limit, sessions_of[item])
        total += length[item]
    pool = np.empty(total, np.int32)
    free = length.copy()
    for session in range(n_sessions - 1, -1, -1):
        for place in range(offsets[session], offsets[session + 1]):
            item = items[place]
            if free[item] > 0:
                free[item] -= 1
                pool[start[item] + free[item]] = session
    return start, length, pool, sessions_of
