"""Transitions: what comes after, before and together with an item within a few clicks.

A pair of clicks `lag` apart in one session weighs 1/lag. Row `a` of the table lists the items
`b` seen near `a` with five weights each (`WEIGHTS`). Item-to-item tables of this kind are the
oldest session model and still a strong one (Ludewig and Jannach, "Evaluation of session-based
recommendation algorithms", UMUAI 2018, "sequential rules").
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onhand.features.sessions import SIGNALS
from onhand.kernel import kernel

__all__ = ["WEIGHTS", "Transitions", "count_transitions", "score_transitions"]

WEIGHTS = ("next", "followed_by", "followed_by_lately", "followed", "together")
"""Columns of `Transitions.weight`: share of direct successors; of successors by 1/lag; the same
with recent sessions counting more; of predecessors by 1/lag; cosine of co-occurrence."""

_NEXT, _BY, _LATELY, _FOLLOWED, _TOGETHER = range(5)
_SESSION = SIGNALS.index("followed_by")  # four columns: by, lately, followed, together
_LAST = SIGNALS.index("last_next")  # five columns: WEIGHTS
_PREVIOUS = SIGNALS.index("previous_followed_by")  # two: followed_by, together
_THIRD = SIGNALS.index("third_followed_by")
_MAX_LAG = 10
_STEP_DECAY = 1.8  # clicks after which a session item's transitions weigh 1/e
_AGE_DECAY = 0.12  # share of all sessions after which a pair weighs 1/e in "lately"


class Transitions(NamedTuple):
    """Rows by item number: `item[start[a]:start[a + 1]]` with their `weight`."""

    start: NDArray[np.int64]
    """(items + 1,)"""
    item: NDArray[np.int32]
    """(entries,)"""
    weight: NDArray[np.float32]
    """(entries, len(WEIGHTS))"""


def count_transitions(
    offsets: NDArray[np.int64],
    items: NDArray[np.int32],
    n_items: int,
    *,
    max_row: int = 600,
) -> Transitions:
    """Count pairs of clicks at most ten apart, in sessions in time order.

    `offsets` int64 (sessions + 1,) cuts `items` int32 (clicks,). Only the `max_row` strongest
    entries of a row are kept. Memory is the clicks plus the table: no list of pairs is made.
    """
    session_of = np.repeat(np.arange(len(offsets) - 1, dtype=np.int64), np.diff(offsets))
    clicks_of = np.bincount(items, minlength=n_items)
    click_start = np.concatenate([[0], np.cumsum(clicks_of)])
    clicks = np.argsort(items, kind="stable")
    return Transitions(
        *_count(offsets, items, session_of, clicks, click_start, clicks_of, n_items, max_row)
    )


@kernel
def _count(
    offsets: NDArray[np.int64],
    items: NDArray[np.int32],
    session_of: NDArray[np.int64],
    clicks: NDArray[np.int64],
    click_start: NDArray[np.int64],
    clicks_of: NDArray[np.int64],
    n_items: int,
    max_row: int,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    near = np.zeros((n_items, 4), np.float32)
    met = np.empty(n_items, np.int32)
    start = np.zeros(n_items + 1, np.int64)
    for item in range(n_items):
        begin, end = click_start[item], click_start[item + 1]
        n_met = _meet(offsets, items, session_of, clicks[begin:end], near, met)
        start[item + 1] = start[item] + min(n_met, max_row)
        _forget(near, met, n_met)
    kept = np.empty(start[n_items], np.int32)
    weight = np.empty((start[n_items], 5), np.float32)
    for item in range(n_items):
        begin, end = click_start[item], click_start[item + 1]
        n_met = _meet(offsets, items, session_of, clicks[begin:end], near, met)
        row = _strongest(near, met[:n_met], max_row)
        at = start[item]
        for place in range(len(row)):
            kept[at + place] = row[place]
        _normalise(near, met[:n_met], row, clicks_of, item, weight[at : at + len(row)])
        _forget(near, met, n_met)
    return start, kept, weight


@kernel
def _meet(
    offsets: NDArray[np.int64],
    items: NDArray[np.int32],
    session_of: NDArray[np.int64],
    clicks: NDArray[np.int64],
    near: NDArray[np.float32],
    met: NDArray[np.int32],
) -> int:
    """Add up, for one item's clicks, the items around them; return how many were met."""
    n_sessions = len(offsets) - 1
    n_met = 0
    for k in range(len(clicks)):
        click = clicks[k]
        session = session_of[click]
        recency = np.float32(np.exp(-(n_sessions - session) / (_AGE_DECAY * n_sessions)))
        first = max(offsets[session], click - _MAX_LAG)
        last = min(offsets[session + 1], click + _MAX_LAG + 1)
        for other in range(first, last):
            if other == click:
                continue
            item = items[other]
            if near[item, _BY] == 0 and near[item, _FOLLOWED] == 0:
                met[n_met] = item
                n_met += 1
            weight = np.float32(1.0 / abs(other - click))
            if other > click:
                near[item, _BY] += weight
                near[item, _LATELY] += weight * recency
                near[item, _NEXT] += other == click + 1
            else:
                near[item, _FOLLOWED] += weight
    return n_met


@kernel
def _strongest(
    near: NDArray[np.float32], met: NDArray[np.int32], max_row: int
) -> NDArray[np.int32]:
    """The `max_row` strongest of the met items, or all of them; in item order."""
    if len(met) <= max_row:
        return np.sort(met)
    strength = np.empty(len(met), np.float32)
    for place in range(len(met)):
        item = met[place]
        strength[place] = near[item, _BY] + near[item, _LATELY] + 0.5 * near[item, _FOLLOWED]
    order = np.argsort(-strength, kind="mergesort")
    return np.sort(met[order[:max_row]])


@kernel
def _normalise(
    near: NDArray[np.float32],
    met: NDArray[np.int32],
    row: NDArray[np.int32],
    clicks_of: NDArray[np.int64],
    item: int,
    weight: NDArray[np.float32],
) -> None:
    """Sums to shares (smoothed by one pair) and co-occurrence to its cosine."""
    total = np.array([1.0, 1.0, 0.2, 1.0], np.float32)
    for place in range(len(met)):
        for column in range(4):
            total[column] += near[met[place], column]
    for place in range(len(row)):
        other = row[place]
        for column in range(4):
            weight[place, column] = near[other, column] / total[column]
        both = near[other, _BY] + near[other, _FOLLOWED]
        size = np.sqrt((clicks_of[item] + 2.0) * (clicks_of[other] + 2.0))
        weight[place, _TOGETHER] = both / size


@kernel
def _forget(near: NDArray[np.float32], met: NDArray[np.int32], n_met: int) -> None:
    for place in range(n_met):
        for column in range(4):
            near[met[place], column] = 0


@kernel
def score_transitions(
    recent_items: NDArray[np.int32],  # int32 (n,): the session's distinct items, newest first
    recent_steps: NDArray[np.int32],  # int32 (n,): clicks between each and the end of the session
    n_recent: int,
    transitions: Transitions,
    signals: NDArray[np.float32],  # float32 (items, signals): the transition signals are added to
    touched: NDArray[np.int32],  # int32 (items,)
    is_touched: NDArray[np.bool_],  # bool (items,)
    n_touched: int,
) -> int:
    """Add the transition signals of one session; return the new number of touched items."""
    for place in range(n_recent):
        item = recent_items[place]
        if item >= len(transitions.start) - 1:
            continue
        decay = np.float32(np.exp(-recent_steps[place] / _STEP_DECAY))
        for k in range(transitions.start[item], transitions.start[item + 1]):
            other = transitions.item[k]
            if not is_touched[other]:
                is_touched[other] = True
                touched[n_touched] = other
                n_touched += 1
            weight = transitions.weight[k]
            row = signals[other]
            for column in range(4):
                row[_SESSION + column] += decay * weight[_BY + column]
            if place == 0:
                for column in range(5):
                    row[_LAST + column] = weight[column]
            elif place == 1:
                row[_PREVIOUS] = weight[_BY]
                row[_PREVIOUS + 1] = weight[_TOGETHER]
            elif place == 2:
                row[_THIRD] = weight[_BY]
    return n_touched
