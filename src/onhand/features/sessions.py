"""What the session ranker sees of one candidate for one session: names, order, values.

`FEATURES` is the one definition, for training and for serving: column `k` of a float32 matrix
is `FEATURES[k]`. The first columns are the signals that retrieval found the candidates by;
the rest is computed here from the session and from tables about items. A feature that a shop
has no data for (no categories, no times) is 0 for every candidate, and trees never split on it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onhand.kernel import kernel

__all__ = ["FEATURES", "SIGNALS", "ItemTable", "write_features"]

SIGNALS = (
    "neighbours",  # VMIS-kNN score: similar sessions that contain the item, rare items up
    "neighbours_flat",  # the same without the weight for rarity
    "close_neighbours",  # STAN-like score: recent, short, and near the shared item
    "close_neighbours_after",  # of these, only what came after the shared item
    "followed_by",  # the item came after items of this session, later items count more
    "followed_by_lately",  # the same, recent sessions count more
    "followed",  # the item came before items of this session
    "together",  # cosine of co-occurrence within ten clicks, summed over the session
    "last_next",  # share of the last item's direct successors
    "last_followed_by",
    "last_followed_by_lately",
    "last_followed",
    "last_together",
    "previous_followed_by",  # the same from the item before the last
    "previous_together",
    "third_followed_by",  # and from the one before that
)
"""What retrieval measures for every candidate: float32 (items, len(SIGNALS))."""

_SHARED = (0, 2, 4, 5, 7)  # signals that are also shown relative to the session's best candidate
_SHARES = tuple(f"{SIGNALS[signal]}_share" for signal in _SHARED)
_VECTORS = (
    "session_cosine",  # candidate's vector with the decayed sum of the session's
    "last_cosine",  # and with the last item's
    "previous_cosine",
)
_ITEM = (
    "popularity",  # log of clicks a 100,000
    "recent_popularity",  # the same over the newest 7% of sessions
    "newness",  # where in the training data the item first appeared, 0 oldest to 1 newest
    "quiet",  # share of the training data since the item's last click
    "revisit_rate",  # how often a session that touched the item came back to it; own items only
    "repeat_rate",  # how often the item was clicked twice in a row; own items only
    "same_category",  # 1 when the category is the last item's
    "category_share",  # share of the session in the candidate's category
    "popularity_in_category",  # log of clicks a 1,000 of its category
)
_OWN = (
    "own_count",  # clicks of the session on the candidate
    "own_steps",  # clicks since then, -1 when never
    "own_order",  # distinct items since then, -1 when never
    "own_dwell",  # log seconds between the first click on it and the next click, when known
)
_SESSION = (
    "length",
    "distinct",
    "last_popularity",
    "last_count",
    "last_revisit_rate",
    "last_repeat_rate",
    "last_gap",  # log seconds between the last two clicks
    "best_followed_by",  # the best candidate's signals: how sure a source is
    "best_close_neighbours",
    "categories",  # distinct categories in the session
)
FEATURES = SIGNALS + _SHARES + _VECTORS + _ITEM + _OWN + _SESSION
"""Column names of the ranker's input, in order."""

_N_SIGNALS = len(SIGNALS)
_VECTOR_AT = _N_SIGNALS + len(_SHARES)
_ITEM_AT = _VECTOR_AT + len(_VECTORS)
_OWN_AT = _ITEM_AT + len(_ITEM)
_SESSION_AT = _OWN_AT + len(_OWN)
_FOLLOWED_BY = SIGNALS.index("followed_by")
_CLOSE = SIGNALS.index("close_neighbours")
_SESSION_STEPS = 2.0  # clicks after which an item's part in the session vector is 1/e
_MAX_VECTOR_ITEMS = 15


class ItemTable(NamedTuple):
    """What is known of every item, by item number. All float32 unless named otherwise."""

    popularity: NDArray[np.float32]
    recent_popularity: NDArray[np.float32]
    newness: NDArray[np.float32]
    quiet: NDArray[np.float32]
    revisit_rate: NDArray[np.float32]
    repeat_rate: NDArray[np.float32]
    popularity_in_category: NDArray[np.float32]
    category: NDArray[np.int32]
    """Category number, -1 when unknown."""
    vectors: NDArray[np.float32]
    """(items, dimensions), rows of length 1 or 0."""


@kernel
def write_features(
    out: NDArray[np.float32],
    candidates: NDArray[np.int32],
    n: int,
    signals: NDArray[np.float32],
    items: NDArray[np.int32],
    times: NDArray[np.float64],
    table: ItemTable,
) -> None:
    """Write the features of `candidates[:n]` into `out[:n]`, float32 (at least n, features).

    `signals` is float32 (items, signals); `items` int32 (clicks,) is the session, oldest first,
    at least one; `times` float64 (clicks,) its times in seconds, or empty when not known.
    """
    _write_signals(out, candidates, n, signals)
    _write_vectors(out, candidates, n, items, table.vectors)
    _write_items(out, candidates, n, items, table)
    _write_own(out, candidates, n, items, times, table)
    _write_session(out, n, items, times, table)


@kernel
def _write_signals(
    out: NDArray[np.float32], candidates: NDArray[np.int32], n: int, signals: NDArray[np.float32]
) -> None:
    for place in range(n):
        for signal in range(_N_SIGNALS):
            out[place, signal] = signals[candidates[place], signal]
    for share in range(len(_SHARED)):
        signal = _SHARED[share]
        top = np.float32(1e-9)
        for place in range(n):
            top = max(top, out[place, signal])
        scale = np.float32(1.0) / top
        for place in range(n):
            out[place, _N_SIGNALS + share] = out[place, signal] * scale


@kernel
def _write_vectors(
    out: NDArray[np.float32],
    candidates: NDArray[np.int32],
    n: int,
    items: NDArray[np.int32],
    vectors: NDArray[np.float32],
) -> None:
    length = len(items)
    n_dimensions = vectors.shape[1]
    session = np.zeros(n_dimensions, np.float32)
    for step in range(min(length, _MAX_VECTOR_ITEMS)):
        weight = np.float32(np.exp(-step / _SESSION_STEPS))
        item = items[length - 1 - step]
        for d in range(n_dimensions):
            session[d] += weight * vectors[item, d]
    norm = np.float32(1e-9)
    for d in range(n_dimensions):
        norm += session[d] * session[d]
    scale = np.float32(1.0) / np.sqrt(norm)
    last = vectors[items[length - 1]]
    previous = vectors[items[max(0, length - 2)]]
    for place in range(n):
        vector = vectors[candidates[place]]
        with_session = np.float32(0)
        with_last = np.float32(0)
        with_previous = np.float32(0)
        for d in range(n_dimensions):
            with_session += session[d] * vector[d]
            with_last += last[d] * vector[d]
            with_previous += previous[d] * vector[d]
        out[place, _VECTOR_AT] = with_session * scale
        out[place, _VECTOR_AT + 1] = with_last
        out[place, _VECTOR_AT + 2] = with_previous if length > 1 else np.float32(0)


@kernel
def _write_items(
    out: NDArray[np.float32],
    candidates: NDArray[np.int32],
    n: int,
    items: NDArray[np.int32],
    table: ItemTable,
) -> None:
    length = len(items)
    last_category = table.category[items[length - 1]]
    for place in range(n):
        item = candidates[place]
        row = out[place]
        row[_ITEM_AT] = table.popularity[item]
        row[_ITEM_AT + 1] = table.recent_popularity[item]
        row[_ITEM_AT + 2] = table.newness[item]
        row[_ITEM_AT + 3] = table.quiet[item]
        category = table.category[item]
        same = 0
        if category >= 0:
            for click in range(length):
                same += table.category[items[click]] == category
        row[_ITEM_AT + 6] = category >= 0 and category == last_category
        row[_ITEM_AT + 7] = np.float32(same) / np.float32(length)
        row[_ITEM_AT + 8] = table.popularity_in_category[item]


@kernel
def _write_own(
    out: NDArray[np.float32],
    candidates: NDArray[np.int32],
    n: int,
    items: NDArray[np.int32],
    times: NDArray[np.float64],
    table: ItemTable,
) -> None:
    length = len(items)
    for place in range(n):
        item = candidates[place]
        count = 0
        latest = -1
        dwell = np.float32(0)
        for click in range(length):
            if items[click] == item:
                if count == 0 and len(times) > 0 and click + 1 < length:
                    dwell = _log_seconds(times[click + 1] - times[click])
                count += 1
                latest = click
        own = count > 0
        row = out[place]
        row[_ITEM_AT + 4] = table.revisit_rate[item] if own else np.float32(-1)
        row[_ITEM_AT + 5] = table.repeat_rate[item] if own else np.float32(-1)
        row[_OWN_AT] = count
        row[_OWN_AT + 1] = length - 1 - latest if own else -1
        row[_OWN_AT + 2] = _distinct(items, latest + 1) if own else -1
        row[_OWN_AT + 3] = dwell


@kernel
def _write_session(
    out: NDArray[np.float32],
    n: int,
    items: NDArray[np.int32],
    times: NDArray[np.float64],
    table: ItemTable,
) -> None:
    length = len(items)
    last = items[length - 1]
    last_count = 0
    for click in range(length):
        last_count += items[click] == last
    gap = np.float32(0)
    if len(times) > 1:
        gap = _log_seconds(times[length - 1] - times[length - 2])
    best_followed_by = np.float32(0)
    best_close = np.float32(0)
    for place in range(n):
        best_followed_by = max(best_followed_by, out[place, _FOLLOWED_BY])
        best_close = max(best_close, out[place, _CLOSE])
    distinct = _distinct(items, 0)
    categories = _distinct_categories(items, table.category)
    for place in range(n):
        row = out[place]
        row[_SESSION_AT] = length
        row[_SESSION_AT + 1] = distinct
        row[_SESSION_AT + 2] = table.popularity[last]
        row[_SESSION_AT + 3] = last_count
        row[_SESSION_AT + 4] = table.revisit_rate[last]
        row[_SESSION_AT + 5] = table.repeat_rate[last]
        row[_SESSION_AT + 6] = gap
        row[_SESSION_AT + 7] = best_followed_by
        row[_SESSION_AT + 8] = best_close
        row[_SESSION_AT + 9] = categories


@kernel
def _log_seconds(seconds: float) -> np.float32:
    return np.float32(np.log1p(max(0.0, seconds)))


@kernel
def _distinct(items: NDArray[np.int32], begin: int) -> int:
    """How many different items `items[begin:]` holds."""
    n = 0
    for click in range(begin, len(items)):
        new = True
        for earlier in range(begin, click):
            if items[earlier] == items[click]:
                new = False
                break
        n += new
    return n


@kernel
def _distinct_categories(items: NDArray[np.int32], category: NDArray[np.int32]) -> int:
    n = 0
    for click in range(len(items)):
        own = category[items[click]]
        new = bool(own >= 0)
        for earlier in range(click):
            if category[items[earlier]] == own:
                new = False
                break
        n += new
    return n
