"""Session neighbours: what similar recent sessions touched.

Two scorers share one pass over the index.

- VMIS-kNN (Kersbergen, Sprangers, Schelter: "Serenade", SIGMOD 2022): a past session's
  similarity is the sum of the linear position weights of the items it shares; a neighbour's
  vote weighs less the earlier its latest shared item was; rare items are worth more.
- STAN-like (Garg et al., "Sequence and Time Aware Neighborhood", SIGIR 2019): exponential
  weights for the position in the session, for the age of the neighbour, and for the distance
  between the candidate and the shared item inside the neighbour.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onhand.features.sessions import SIGNALS
from onhand.kernel import Array, kernel
from onhand.retrieval.sessions.rows import RowArrays
from onhand.retrieval.sessions.top import best

__all__ = [
    "NeighbourScratch",
    "NeighbourSettings",
    "NeighbourWeights",
    "item_rarity",
    "position_weight",
    "score_neighbours",
    "vote_weight",
]

_NEIGHBOURS = SIGNALS.index("neighbours")
_FLAT = SIGNALS.index("neighbours_flat")
_CLOSE = SIGNALS.index("close_neighbours")
_AFTER = SIGNALS.index("close_neighbours_after")
_MAX_DISTANCE = 64  # in a neighbour, candidates further from the shared item count as this far


class NeighbourSettings(NamedTuple):
    """How neighbours are found and weighed. The defaults are good on many shops."""

    n_neighbours: int = 200
    """Past sessions that vote (the paper's k)."""
    vote_decay: float = 0.1
    """VMIS-kNN: a vote loses this much for every click since the shared item."""
    step_decay: float = 2.0
    """STAN: clicks after which a shared item's weight is 1/e."""
    age_decay: float = 0.15
    """STAN: a neighbour's weight is 1/e after this share of all sessions."""
    distance_decay: float = 3.0
    """STAN: places from the shared item after which a candidate's weight is 1/e."""
    after_decay: float = 1.5
    """The same for `close_neighbours_after`."""

    def weights(self) -> "NeighbourWeights":
        """The settings as a kernel reads them."""
        distance = np.arange(_MAX_DISTANCE + 1)
        return NeighbourWeights(
            self.n_neighbours,
            self.vote_decay,
            self.step_decay,
            self.age_decay,
            np.exp(-distance / self.distance_decay).astype(np.float32),
            np.exp(-np.maximum(distance - 1, 0) / self.after_decay).astype(np.float32),
        )


class NeighbourWeights(NamedTuple):
    """`NeighbourSettings` with the decays by distance as tables, float32 (_MAX_DISTANCE + 1,)."""

    n_neighbours: int
    vote_decay: float
    step_decay: float
    age_decay: float
    by_distance: NDArray[np.float32]
    by_distance_after: NDArray[np.float32]


class NeighbourScratch(NamedTuple):
    """Working memory of one thread; `score` is all zeros between calls."""

    score: NDArray[np.float32]
    """(sessions, 2): VMIS-kNN and STAN similarity."""
    step: NDArray[np.int32]
    """Clicks between the latest shared item and the end of the session."""
    touched: NDArray[np.int32]
    heap: NDArray[np.int32]

    @classmethod
    def of(cls, n_sessions: int, settings: NeighbourSettings) -> "NeighbourScratch":
        """Working memory for an index of `n_sessions` sessions."""
        return cls(
            np.zeros((n_sessions, 2), np.float32),
            np.zeros(n_sessions, np.int32),
            np.zeros(n_sessions, np.int32),
            np.zeros(settings.n_neighbours, np.int32),
        )


@kernel
def position_weight(step: int, length: int) -> Array:
    """VMIS-kNN: what an item that a session of `length` clicks touched `step` clicks before its
    end adds to the similarity of a session that shares it."""
    return np.float32((length - step) / length)


@kernel
def vote_weight(similarity: Array, step: int, decay: float) -> Array:
    """VMIS-kNN: the vote of a neighbour whose latest shared item lies `step` clicks back."""
    return np.float32(similarity * np.float32(1.0 - decay * (step + 1)))


@kernel
def item_rarity(n_sessions: int, sessions_of: Array) -> Array:
    """VMIS-kNN: how much more a vote for an item is worth that few sessions touched."""
    return np.float32(np.log(n_sessions / max(1, sessions_of)))


@kernel
def score_neighbours(
    recent_items: NDArray[np.int32],  # int32 (n,): the session's distinct items, newest first
    recent_steps: NDArray[np.int32],  # int32 (n,): clicks between each and the end of the session
    n_recent: int,
    length: int,  # clicks in the session
    own_session: int,  # number of a session that may not be its own neighbour, or -1
    sessions: RowArrays,  # session -> items
    recent: RowArrays,  # item -> sessions
    sessions_of: NDArray[np.int64],  # int64 (items,): sessions that ever touched an item
    n_sessions: int,
    weights: NeighbourWeights,
    scratch: NeighbourScratch,
    signals: NDArray[
        np.float32
    ],  # float32 (items, signals): the four neighbour signals are added to
    touched: NDArray[np.int32],  # int32 (items,): items with any signal
    is_touched: NDArray[np.bool_],  # bool (items,)
    n_touched: int,
) -> int:
    """Add the neighbour signals of one session; return the new number of touched items."""
    n_matched = _match(
        recent_items,
        recent_steps,
        n_recent,
        length,
        own_session,
        recent,
        sessions_of,
        n_sessions,
        weights,
        scratch,
    )
    _weigh_by_age(n_matched, sessions, n_sessions, weights, scratch)
    n_items = len(signals)  # an item newer than the tables has no signals yet
    for scorer in range(2):
        n = best(
            scratch.touched, n_matched, scratch.score, scorer, weights.n_neighbours, scratch.heap
        )
        for place in range(n):
            session = scratch.heap[place]
            step = int(scratch.step[session])
            begin = int(sessions.start[session])
            end = begin + int(sessions.length[session])
            for k in range(begin, end):
                item = sessions.pool[k]
                if item < n_items and not is_touched[item]:
                    is_touched[item] = True
                    touched[n_touched] = item
                    n_touched += 1
            if scorer == 0:
                vote = vote_weight(scratch.score[session, 0], step, weights.vote_decay)
                if vote > 0:
                    for k in range(begin, end):
                        if sessions.pool[k] < n_items:
                            signals[sessions.pool[k], _FLAT] += vote
            else:
                vote = scratch.score[session, 1]
                shared = _shared_place(sessions.pool, begin, end, recent_items, recent_steps, step)
                _vote_near(signals, sessions.pool, begin, end, shared, vote, weights)
    for place in range(n_matched):
        session = scratch.touched[place]
        scratch.score[session, 0] = 0
        scratch.score[session, 1] = 0
    for place in range(n_touched):
        item = touched[place]
        rarity = item_rarity(n_sessions, sessions_of[item])
        signals[item, _NEIGHBOURS] = signals[item, _FLAT] * rarity
    return n_touched


@kernel
def _match(
    recent_items: NDArray[np.int32],
    recent_steps: NDArray[np.int32],
    n_recent: int,
    length: int,
    own_session: int,
    recent: RowArrays,
    sessions_of: NDArray[np.int64],
    n_sessions: int,
    weights: NeighbourWeights,
    scratch: NeighbourScratch,
) -> int:
    """Add up the similarity of all sessions that share an item; return how many there are."""
    n_matched = 0
    for place in range(n_recent):
        item = recent_items[place]
        if item >= len(sessions_of):
            continue
        step = recent_steps[place]
        linear = position_weight(step, length)
        rarity = np.log(1.0 + n_sessions / (sessions_of[item] + 1.0))
        close = np.float32(np.exp(-step / weights.step_decay) * rarity)
        begin = recent.start[item]
        for k in range(begin, begin + recent.length[item]):
            session = recent.pool[k]
            if session == own_session or session >= len(scratch.score):
                continue
            if scratch.score[session, 0] == 0:
                scratch.step[session] = step
                scratch.touched[n_matched] = session
                n_matched += 1
            scratch.score[session, 0] += linear
            scratch.score[session, 1] += close
    return n_matched


@kernel
def _weigh_by_age(
    n_matched: int,
    sessions: RowArrays,
    n_sessions: int,
    weights: NeighbourWeights,
    scratch: NeighbourScratch,
) -> None:
    """Turn the second similarity into STAN's: short and recent sessions count more."""
    for place in range(n_matched):
        session = scratch.touched[place]
        age = np.float32((n_sessions - session) / (weights.age_decay * n_sessions))
        size = np.float32(sessions.length[session] + 2)
        scratch.score[session, 1] *= (np.float32(0.35) + np.exp(-age)) / np.sqrt(size)


@kernel
def _shared_place(
    pool: NDArray[np.int32],
    begin: int,
    end: int,
    recent_items: NDArray[np.int32],
    recent_steps: NDArray[np.int32],
    step: int,
) -> int:
    """Where in a neighbour the latest shared item stands."""
    which = 0
    while recent_steps[which] != step:
        which += 1
    shared = recent_items[which]
    place = begin
    while place < end - 1 and pool[place] != shared:
        place += 1
    return place


@kernel
def _vote_near(
    signals: NDArray[np.float32],
    pool: NDArray[np.int32],
    begin: int,
    end: int,
    shared: int,
    vote: float,
    weights: NeighbourWeights,
) -> None:
    """Give a neighbour's vote to its items, more to those near the shared one."""
    for k in range(begin, end):
        item = pool[k]
        if item >= len(signals):
            continue
        distance = min(abs(k - shared), _MAX_DISTANCE)
        signals[item, _CLOSE] += vote * weights.by_distance[distance]
        if k > shared:
            signals[item, _AFTER] += vote * weights.by_distance_after[distance]
