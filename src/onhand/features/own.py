"""What a visitor has to do with each candidate: features that only a ranker reads.

Unlike declared features they keep nothing: they compare a candidate with the latest items of the
visitor's session and of the user, as the state's lists and sketches hold them. Ties between items
come in two scales, as a share of all that follows the visitor's item, which favours what is
popular anyway, and as a cosine, which does not.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onhand.kernel import Array, inner_kernel, kernel
from onhand.state import cohorts, decay
from onhand.state.columns import HISTORY, RECENT
from onhand.state.state import State

__all__ = ["OWN", "Places", "make_places", "read_own"]

OWN: Final = (
    "own_place",  # of the candidate in the session's latest items, the last one 0
    "own_count",  # how often it is there
    "own_in_cart",
    "own_category_share",  # of the session's latest items
    "own_category_last",  # whether the last item has its category
    "own_price_ratio",  # log2 of its price over the mean of the session's latest
    "own_length",  # how many latest items the session has
    "known_place",  # as above, of the user
    "known_count",
    "known_category_share",  # of what the user bought
    "known_bought_place",
    "known_bought_count",
    "known_bought_days",  # since the user bought it; a year where not of late
    "known_bought_length",
    "next_last",  # share of those who went on from the last item that went here
    "next_own",  # the same over the session's latest items, each later one counting 0.8 times
    "next_cosine",
    "with_last",  # share of what was bought with the last item
    "with_own",
    "with_cosine",
    "with_back",  # share of what was bought with the candidate that is in the session
    "known_with_cosine",  # with what the user bought
    "popularity",  # log2 of the decayed weight, in events of today
    "cohort_popularity",  # the same within the visitor's cohort
    "cohort_lift",  # the latter less the former
)
"""The names, in the order of the columns."""

_FADE: Final = 0.8
_DAY_MS: Final = 86_400_000.0
_YEAR_DAYS: Final = 365.0


class Places(NamedTuple):
    """Memory of one thread: for each item 1 + its place among the candidates, and among the
    session's latest items, int32 (items,); zeros between calls."""

    candidate: NDArray[np.int32]
    latest: NDArray[np.int32]


def make_places(items: int) -> Places:
    """Return the memory for at most `items` rows."""
    return Places(np.zeros(items, np.int32), np.zeros(items, np.int32))


def read_own(
    state: State, session: int, user: int, cohort: int, items: NDArray[np.int64], now_ms: int,
    places: Places,
) -> NDArray[np.float32]:  # fmt: skip
    """Return the features of candidate rows `items`, distinct, for a session's and a user's row
    and a cohort: float32 (n, OWN), all finite."""
    values = np.zeros((len(items), len(OWN)), np.float32)
    _read(
        items, session, user, cohort, state.item, state.session, state.user, now_ms,
        int(state.shop.landmark_ms[0]), places.candidate, places.latest, values,
    )  # fmt: skip
    return values


@inner_kernel
def _read(
    items: Array,
    session: int,
    user: int,
    cohort: int,
    item: Any,
    sessions: Any,
    users: Any,
    now_ms: int,
    landmark_ms: int,
    candidate: Array,
    latest: Array,
    values: Array,
) -> None:
    """Fill `values`, float32 (n, OWN)."""
    unit = float(decay.weight_at(now_ms, landmark_ms))
    cohort_unit = decay.weigh(now_ms, landmark_ms, cohorts.HALF_LIFE_MS)
    recent, bought = sessions.recent_item[session], users.bought_item[user]
    for at in range(items.shape[0]):
        candidate[items[at]] = at + 1
    values[:, 0] = RECENT
    values[:, 7] = HISTORY
    values[:, 10] = bought.shape[0]
    values[:, 12] = _YEAR_DAYS
    _find_own(recent, candidate, 0, values)
    for row in sessions.cart_item[session]:
        if row != 0 and candidate[row] != 0:
            values[candidate[row] - 1, 2] = 1.0
    _find_own(users.recent_item[user], candidate, 7, values)
    _find_own(bought, candidate, 10, values)
    for at in range(bought.shape[0] - 1, -1, -1):
        if bought[at] != 0 and candidate[bought[at]] != 0:
            days = max((now_ms - users.bought_ms[user, at]) / _DAY_MS, 0.0)
            values[candidate[bought[at]] - 1, 12] = min(days, _YEAR_DAYS)
    _compare(items, recent, item.category, item.price_cents, values)
    _share_category(items, bought, item.category, 9, values)
    popularity = item.popularity
    share = 1.0
    for at in range(recent.shape[0]):
        anchor = recent[at]
        if anchor == 0:
            break
        if latest[anchor] != 0:
            continue
        latest[anchor] = at + 1
        _tie(item.next_item[anchor], item.next_weight[anchor], anchor, candidate, popularity,
             unit, share, at == 0, 14, values)  # fmt: skip
        _tie(item.with_item[anchor], item.with_weight[anchor], anchor, candidate, popularity,
             unit, share, at == 0, 17, values)  # fmt: skip
        share *= _FADE
    for at in range(bought.shape[0]):
        if bought[at] == 0:
            break
        _add_cosine(item.with_item[bought[at]], item.with_weight[bought[at]], bought[at],
                    candidate, popularity, unit, 21, values)  # fmt: skip
    for at in range(items.shape[0]):
        row = items[at]
        values[at, 20] = _share_of_latest(item.with_item[row], item.with_weight[row], latest, unit)
        values[at, 22] = np.log2(1.0 + popularity[row] / unit)
        values[at, 23] = np.log2(1.0 + item.cohort_weight[row, cohort] / cohort_unit)
        values[at, 24] = values[at, 23] - values[at, 22]
    for row in items:
        candidate[row] = 0
    for row in recent:
        latest[row] = 0


@inner_kernel
def _find_own(members: Array, candidate: Array, column: int, values: Array) -> None:
    """Write place and count of the candidates in a list."""
    length = 0
    for at in range(members.shape[0] - 1, -1, -1):
        if members[at] == 0:
            continue
        length += 1
        if candidate[members[at]] != 0:
            row = candidate[members[at]] - 1
            values[row, column] = at
            values[row, column + 1] += 1.0
    if column == 0:
        values[:, 6] = length
    elif column == 10:
        values[:, 13] = length


@inner_kernel
def _compare(
    items: Array, recent: Array, category: Array, price_cents: Array, values: Array
) -> None:
    """Compare the candidates' category and price with those of the session's latest items."""
    _share_category(items, recent, category, 3, values)
    total, priced = 0.0, 0
    for row in recent:
        if row != 0 and price_cents[row] > 0:
            total += price_cents[row]
            priced += 1
    for at in range(items.shape[0]):
        row = items[at]
        if recent[0] != 0 and category[row] != 0:
            values[at, 4] = category[row] == category[recent[0]]
        if priced and price_cents[row] > 0:
            values[at, 5] = np.log2(price_cents[row] * priced / total)


@inner_kernel
def _share_category(
    items: Array, members: Array, category: Array, column: int, values: Array
) -> None:
    """Write the share of a list's items that have the candidate's category."""
    length = 0
    for row in members:
        length += row != 0
    if length == 0:
        return
    for at in range(items.shape[0]):
        mine = category[items[at]]
        if mine == 0:
            continue
        same = 0
        for row in members:
            same += row != 0 and category[row] == mine
        values[at, column] = same / length


@kernel
def _tie(
    members: Array,
    weights: Array,
    anchor: int,
    candidate: Array,
    popularity: Array,
    unit: float,
    share: float,
    is_last: bool,
    column: int,
    values: Array,
) -> None:
    """Add how an anchor's sketch leads to the candidates: to the last item's share, the share
    over all, and the cosine."""
    scale = 1.0 / (unit + weights.sum())
    for slot in range(members.shape[0]):
        if members[slot] == 0:
            break
        at = candidate[members[slot]] - 1
        if at >= 0:
            part = weights[slot] * scale
            if is_last:
                values[at, column] = part
            values[at, column + 1] += share * part
    _add_cosine(members, weights, anchor, candidate, popularity, unit, column + 2, values)


@inner_kernel
def _add_cosine(
    members: Array,
    weights: Array,
    anchor: int,
    candidate: Array,
    popularity: Array,
    unit: float,
    column: int,
    values: Array,
) -> None:
    """Add the weight of each tie over the root of both popularities."""
    for slot in range(members.shape[0]):
        if members[slot] == 0:
            break
        at = candidate[members[slot]] - 1
        if at >= 0:
            both = (popularity[anchor] + unit) * (popularity[members[slot]] + unit)
            values[at, column] += weights[slot] / np.sqrt(both)


@inner_kernel
def _share_of_latest(members: Array, weights: Array, latest: Array, unit: float) -> float:
    """Return the share of a sketch's weight that is on the session's latest items."""
    total, own = unit, 0.0
    for slot in range(members.shape[0]):
        if members[slot] == 0:
            break
        total += weights[slot]
        if latest[members[slot]] != 0:
            own += weights[slot]
    return own / total
