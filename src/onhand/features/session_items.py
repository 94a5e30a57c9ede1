"""The item table of the session ranker, counted from sessions in time order."""

import numpy as np
from numpy.typing import NDArray

from onhand.features.sessions import ItemTable
from onhand.kernel import kernel

__all__ = ["count_items"]

_RECENT = 0.07  # share of the newest sessions that "recent popularity" counts


def count_items(
    offsets: NDArray[np.int64],
    items: NDArray[np.int32],
    category: NDArray[np.int32],
    vectors: NDArray[np.float32],
) -> ItemTable:
    """Count what the ranker sees of items.

    `offsets` int64 (sessions + 1,) cuts `items` int32 (clicks,) into sessions, oldest first;
    `category` int32 and `vectors` float32 are by item number.
    """
    n_items = len(category)
    n_sessions = len(offsets) - 1
    clicks = np.bincount(items, minlength=n_items)
    newest = items[offsets[n_sessions - int(np.ceil(_RECENT * n_sessions))] :]
    first, last, sessions, revisits, repeats = _count_visits(offsets, items, n_items)
    return ItemTable(
        popularity=_log_rate(clicks, len(items), 1e5),
        recent_popularity=_log_rate(np.bincount(newest, minlength=n_items), len(newest), 1e5),
        newness=(first / max(1, n_sessions)).astype(np.float32),
        quiet=(1 - last / max(1, n_sessions)).astype(np.float32),
        revisit_rate=((revisits + 0.5) / (sessions + 5)).astype(np.float32),
        repeat_rate=((repeats + 0.5) / (clicks + 5)).astype(np.float32),
        popularity_in_category=_log_rate(clicks, _clicks_in_category(clicks, category), 1e3),
        category=category,
        vectors=vectors,
    )


def _log_rate(
    count: NDArray[np.int64], total: int | NDArray[np.int64], unit: float
) -> NDArray[np.float32]:
    return np.log1p(count / np.maximum(total, 1) * unit).astype(np.float32)


def _clicks_in_category(
    clicks: NDArray[np.int64], category: NDArray[np.int32]
) -> NDArray[np.int64]:
    of_category = np.bincount(category + 1, clicks)
    of_category[0] = 0
    return of_category[category + 1].astype(np.int64)


@kernel
def _count_visits(
    offsets: NDArray[np.int64], items: NDArray[np.int32], n_items: int
) -> tuple[
    NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]
]:
    """First and last session of each item, sessions with it, with it twice, clicks repeated."""
    n_sessions = len(offsets) - 1
    first = np.full(n_items, n_sessions, np.int64)
    last = np.zeros(n_items, np.int64)
    sessions = np.zeros(n_items, np.int64)
    revisits = np.zeros(n_items, np.int64)
    repeats = np.zeros(n_items, np.int64)
    seen_in = np.full(n_items, -1, np.int64)
    revisited_in = np.full(n_items, -1, np.int64)
    for session in range(n_sessions):
        for click in range(offsets[session], offsets[session + 1]):
            item = items[click]
            first[item] = min(first[item], session)
            last[item] = session
            if seen_in[item] != session:
                seen_in[item] = session
                sessions[item] += 1
            elif revisited_in[item] != session:
                revisited_in[item] = session
                revisits[item] += 1
            if click > offsets[session] and items[click - 1] == item:
                repeats[item] += 1
    return first, last, sessions, revisits, repeats
