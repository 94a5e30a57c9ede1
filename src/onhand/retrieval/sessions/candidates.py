"""Candidates for a session: the best of every source and the session's own items, with features.

One compiled pass finds the candidates and writes what the ranker sees of them, because both
read the same signals while these are still in the cache: a page waits for it. The features
themselves are defined in `onhand.features.sessions`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onhand.features.sessions import FEATURES, SIGNALS, ItemTable, write_features
from onhand.kernel import kernel
from onhand.retrieval.sessions.index import SessionIndex
from onhand.retrieval.sessions.neighbours import (
    NeighbourScratch,
    NeighbourSettings,
    NeighbourWeights,
    score_neighbours,
)
from onhand.retrieval.sessions.rows import RowArrays
from onhand.retrieval.sessions.top import best
from onhand.retrieval.sessions.transitions import Transitions, score_transitions

__all__ = ["Candidates", "Scratch", "SessionSources", "find_many", "find_neighbours"]

_SOURCES = tuple(
    SIGNALS.index(signal)
    for signal in (
        "neighbours",
        "close_neighbours",
        "followed_by",
        "followed_by_lately",
        "together",
    )
)
_OWN_STEPS = FEATURES.index("own_steps")
_MAX_CLICKS = 100  # a longer session is its newest clicks
_MAX_RECENT = 15  # distinct items, newest first, that neighbours and transitions start from
_MAX_OWN = 30  # newest clicks whose items are candidates
_ENOUGH = 20  # with fewer candidates, popular items fill up


class Candidates(NamedTuple):
    """Candidates of one session, in no particular order."""

    items: NDArray[np.int32]
    """(n,)"""
    features: NDArray[np.float32]
    """(n, len(FEATURES)); the first columns are the signals of the sources."""


class SourceArrays(NamedTuple):
    """Everything the compiled pass reads."""

    sessions: RowArrays
    recent: RowArrays
    sessions_of: NDArray[np.int64]
    n_sessions: int
    weights: NeighbourWeights
    transitions: Transitions
    table: ItemTable
    popular: NDArray[np.int32]
    per_source: int
    may_repeat_last: bool


class Scratch(NamedTuple):
    """Working memory of one thread; clean between calls."""

    neighbours: NeighbourScratch
    signals: NDArray[np.float32]
    touched: NDArray[np.int32]
    is_touched: NDArray[np.bool_]
    eligible: NDArray[np.int32]
    is_candidate: NDArray[np.bool_]
    heap: NDArray[np.int32]
    clicks: NDArray[np.int32]
    times: NDArray[np.float64]
    recent_items: NDArray[np.int32]
    recent_steps: NDArray[np.int32]
    items: NDArray[np.int32]
    features: NDArray[np.float32]


@dataclass(frozen=True)
class SessionSources:
    """All sources for one set of items, ready to be asked.

    `popular` int32: items from the most popular down, for sessions that nothing else is known
    of. `may_repeat_last` says whether the item just clicked may be recommended: on shops that
    log no reloads it is never the next click.
    """

    index: SessionIndex
    transitions: Transitions
    table: ItemTable
    popular: NDArray[np.int32]
    settings: NeighbourSettings
    per_source: int = 40
    may_repeat_last: bool = True

    @property
    def n_items(self) -> int:
        """Number of items there are tables for."""
        return len(self.table.popularity)

    @property
    def max_candidates(self) -> int:
        """No session has more candidates."""
        return len(_SOURCES) * self.per_source + _MAX_OWN + _ENOUGH

    def arrays(self) -> SourceArrays:
        """The sources as they are now; ask again when the index has grown."""
        return SourceArrays(
            self.index.sessions.arrays,
            self.index.recent.arrays,
            self.index.sessions_of,
            self.index.n_sessions,
            self.settings.weights(),
            self.transitions,
            self.table,
            self.popular,
            self.per_source,
            self.may_repeat_last,
        )

    def scratch(self, *, spare_sessions: int = 0) -> Scratch:
        """Working memory for one thread, with room for `spare_sessions` begun later."""
        n_items = self.n_items
        return Scratch(
            NeighbourScratch.of(self.index.n_sessions + spare_sessions, self.settings),
            np.zeros((n_items, len(SIGNALS)), np.float32),
            np.zeros(n_items, np.int32),
            np.zeros(n_items, np.bool_),
            np.zeros(n_items, np.int32),
            np.zeros(n_items, np.bool_),
            np.zeros(max(self.per_source, 1), np.int32),
            np.zeros(_MAX_CLICKS, np.int32),
            np.zeros(_MAX_CLICKS, np.float64),
            np.zeros(_MAX_RECENT, np.int32),
            np.zeros(_MAX_RECENT, np.int32),
            np.zeros(self.max_candidates, np.int32),
            np.zeros((self.max_candidates, len(FEATURES)), np.float32),
        )

    def allow_all(self) -> NDArray[np.bool_]:
        """A mask that forbids no item."""
        return np.ones(self.n_items, np.bool_)

    def find(
        self,
        arrays: SourceArrays,
        scratch: Scratch,
        items: NDArray[np.int32],
        times: NDArray[np.float64],
        allowed: NDArray[np.bool_],
        *,
        own_session: int = -1,
    ) -> Candidates:
        """Candidates for a session of `items` int32 (clicks,), oldest first.

        `times` float64 (clicks,) are seconds, or empty when not known. Negative item numbers
        are items never seen before and are passed over. Only items with `allowed` bool (items,)
        become candidates: the mask is applied inside every source, before its best are taken.
        The answer lies in `scratch` and is valid until the next call.
        """
        n = find_candidates(items, times, own_session, allowed, arrays, scratch, scratch.items)
        return Candidates(scratch.items[:n], scratch.features[:n])


@kernel
def find_many(
    items: NDArray[np.int32],  # int32 (clicks,): the clicks of many sessions
    times: NDArray[np.float64],  # float64 (clicks,) or empty
    begin: NDArray[np.int64],  # int64 (n,): session q is items[begin[q]:end[q]]
    end: NDArray[np.int64],
    allowed: NDArray[np.bool_],  # bool (items,)
    arrays: SourceArrays,
    scratch: Scratch,
    out_items: NDArray[np.int32],  # int32 (at least n * max_candidates,)
    out_features: NDArray[np.float32],  # float32 (the same, features)
    offsets: NDArray[
        np.int64
    ],  # int64 (n + 1,): candidates of q are out[offsets[q]:offsets[q + 1]]
) -> None:
    """Candidates and features of many sessions, one after the other."""
    offsets[0] = 0
    for query in range(len(begin)):
        at = offsets[query]
        query_times = times[begin[query] : end[query]] if len(times) > 0 else times
        n = find_candidates(
            items[begin[query] : end[query]],
            query_times,
            -1,
            allowed,
            arrays,
            scratch,
            out_items[at:],
        )
        out_features[at : at + n] = scratch.features[:n]
        offsets[query + 1] = at + n


@kernel
def find_candidates(
    items: NDArray[np.int32],
    times: NDArray[np.float64],
    own_session: int,
    allowed: NDArray[np.bool_],
    arrays: SourceArrays,
    scratch: Scratch,
    out: NDArray[np.int32],
) -> int:
    """Candidates into `out`, their features into `scratch.features`; return their number."""
    length = _known_clicks(items, times, arrays, scratch)
    clicks = scratch.clicks[:length]
    n_touched = 0
    if length > 0:
        n_recent = _recent_distinct(clicks, scratch)
        n_touched = score_neighbours(
            scratch.recent_items,
            scratch.recent_steps,
            n_recent,
            length,
            own_session,
            arrays.sessions,
            arrays.recent,
            arrays.sessions_of,
            arrays.n_sessions,
            arrays.weights,
            scratch.neighbours,
            scratch.signals,
            scratch.touched,
            scratch.is_touched,
            n_touched,
        )
        n_touched = score_transitions(
            scratch.recent_items,
            scratch.recent_steps,
            n_recent,
            arrays.transitions,
            scratch.signals,
            scratch.touched,
            scratch.is_touched,
            n_touched,
        )
    n = _merge(clicks, n_touched, allowed, arrays, scratch, out)
    if length > 0:
        times_known = scratch.times[: length if len(times) > 0 else 0]
        write_features(scratch.features, out, n, scratch.signals, clicks, times_known, arrays.table)
    else:
        scratch.features[:n] = 0
        scratch.features[:n, _OWN_STEPS] = -1
    _clean(n_touched, n, scratch, out)
    return n


def find_neighbours(
    items: NDArray[np.int32], n: int, arrays: SourceArrays, scratch: Scratch
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """VMIS-kNN alone: its best `n` items for a session, best first, with scores."""
    size = _find_neighbours(items, arrays, scratch, scratch.items[:n])
    return scratch.items[:size].copy(), scratch.features[:size, 0].copy()


@kernel
def _find_neighbours(
    items: NDArray[np.int32], arrays: SourceArrays, scratch: Scratch, out: NDArray[np.int32]
) -> int:
    length = _known_clicks(items, scratch.times[:0], arrays, scratch)
    if length == 0:
        return 0
    n_touched = score_neighbours(
        scratch.recent_items,
        scratch.recent_steps,
        _recent_distinct(scratch.clicks[:length], scratch),
        length,
        -1,
        arrays.sessions,
        arrays.recent,
        arrays.sessions_of,
        arrays.n_sessions,
        arrays.weights,
        scratch.neighbours,
        scratch.signals,
        scratch.touched,
        scratch.is_touched,
        0,
    )
    if not arrays.may_repeat_last:
        scratch.signals[scratch.clicks[length - 1], _SOURCES[0]] = 0
    size = best(scratch.touched, n_touched, scratch.signals, _SOURCES[0], len(out), out)
    score = np.empty(size, np.float32)
    for place in range(size):
        score[place] = -scratch.signals[out[place], _SOURCES[0]]
    order = np.argsort(score)
    out[:size] = out[:size][order]
    scratch.features[:size, 0] = -score[order]
    _clean(n_touched, 0, scratch, out)
    return size


@kernel
def _known_clicks(
    items: NDArray[np.int32], times: NDArray[np.float64], arrays: SourceArrays, scratch: Scratch
) -> int:
    """The newest clicks on known items, oldest first, into scratch; return their number."""
    n_items = len(arrays.table.popularity)
    n = 0
    k = len(items)
    while k > 0 and n < _MAX_CLICKS:
        k -= 1
        n += 0 <= items[k] < n_items
    length = n
    n = 0
    while n < length:
        if 0 <= items[k] < n_items:
            scratch.clicks[n] = items[k]
            if len(times) > 0:
                scratch.times[n] = times[k]
            n += 1
        k += 1
    return length


@kernel
def _recent_distinct(clicks: NDArray[np.int32], scratch: Scratch) -> int:
    """The newest distinct items and their steps from the end; return their number."""
    n = 0
    length = len(clicks)
    step = 0
    while step < length and n < _MAX_RECENT:
        item = clicks[length - 1 - step]
        new = True
        for place in range(n):
            if scratch.recent_items[place] == item:
                new = False
                break
        if new:
            scratch.recent_items[n] = item
            scratch.recent_steps[n] = step
            n += 1
        step += 1
    return n


@kernel
def _merge(
    clicks: NDArray[np.int32],
    n_touched: int,
    allowed: NDArray[np.bool_],
    arrays: SourceArrays,
    scratch: Scratch,
    out: NDArray[np.int32],
) -> int:
    """Each source's best, the session's own items and, if few, popular ones; their number."""
    length = len(clicks)
    forbidden = clicks[length - 1] if length > 0 and not arrays.may_repeat_last else -1
    n_eligible = 0
    for place in range(n_touched):
        item = scratch.touched[place]
        if allowed[item] and item != forbidden:
            scratch.eligible[n_eligible] = item
            n_eligible += 1
    n = 0
    for source in _SOURCES:
        n_best = best(
            scratch.eligible,
            n_eligible,
            scratch.signals,
            source,
            arrays.per_source,
            scratch.heap,
        )
        for place in range(n_best):
            item = scratch.heap[place]
            if not scratch.is_candidate[item] and scratch.signals[item, source] > 0:
                scratch.is_candidate[item] = True
                out[n] = item
                n += 1
    for click in range(max(0, length - _MAX_OWN), length):
        n = _add(clicks[click], forbidden, allowed, scratch, out, n)
    place = 0
    while n < _ENOUGH and place < len(arrays.popular):
        n = _add(arrays.popular[place], forbidden, allowed, scratch, out, n)
        place += 1
    return n


@kernel
def _add(
    item: int,
    forbidden: int,
    allowed: NDArray[np.bool_],
    scratch: Scratch,
    out: NDArray[np.int32],
    n: int,
) -> int:
    if scratch.is_candidate[item] or not allowed[item] or item == forbidden:
        return n
    scratch.is_candidate[item] = True
    out[n] = item
    return n + 1


@kernel
def _clean(n_touched: int, n_candidates: int, scratch: Scratch, out: NDArray[np.int32]) -> None:
    for place in range(n_touched):
        item = scratch.touched[place]
        scratch.is_touched[item] = False
        for signal in range(len(SIGNALS)):
            scratch.signals[item, signal] = 0
    for place in range(n_candidates):
        scratch.is_candidate[out[place]] = False
