"""Items that follow items: transitions and co-purchases from what the visitor touched.

From each anchor (the seed, the cart, the session's or the user's latest items) the rows of the
sketches say where visitors went, or what they bought with it. An anchor's followers share one
unit, less what the evidence lacks: weight / (sum of weights + one event of today). Later anchors
weigh less by a constant factor.
"""

from typing import Any, Final

import numpy as np

from onhand.kernel import Array, kernel
from onhand.retrieval.pool import Pool, offer, settle
from onhand.retrieval.visitor import Visitor
from onhand.state import decay
from onhand.state.state import State

__all__ = [
    "cart_copurchases",
    "copurchases",
    "history",
    "seed_copurchases",
    "seed_transitions",
    "transitions",
]

ANCHORS: Final = 8
FADE: Final = 0.7
QUOTA: Final = 24
"""Followers taken of one anchor."""


@kernel
def follow(
    pool: Any,
    blocked: Array,
    members: Array,
    weights: Array,
    anchors: Array,
    now_ms: int,
    landmark_ms: int,
    source: int,
    weight: float,
) -> None:
    """Offer the followers of the first distinct `anchors`, a list that 0 may end."""
    unit = decay.weight_at(now_ms, landmark_ms)
    share = 1.0
    left = ANCHORS
    for at in range(anchors.shape[0]):
        anchor = anchors[at]
        if anchor == 0 or left == 0:
            break
        if anchor in anchors[:at]:
            continue
        left -= 1
        total = unit + weights[anchor].sum()
        for slot in range(QUOTA):
            if members[anchor, slot] == 0:
                break
            offer(pool, blocked, members[anchor, slot], share * weights[anchor, slot] / total)
        share *= FADE
    settle(pool, source, weight)


def _transitions_from(
    state: State, pool: Pool, anchors: Array, now_ms: int, code: int, weight: float
) -> None:
    items, landmark_ms = state.item, state.shop.landmark_ms[0]
    follow(
        pool, items.blocked, items.next_item, items.next_weight,
        anchors, now_ms, landmark_ms, code, weight,
    )  # fmt: skip


def _copurchases_of(
    state: State, pool: Pool, anchors: Array, now_ms: int, code: int, weight: float
) -> None:
    items, landmark_ms = state.item, state.shop.landmark_ms[0]
    follow(
        pool, items.blocked, items.with_item, items.with_weight,
        anchors, now_ms, landmark_ms, code, weight,
    )  # fmt: skip


def transitions(state: State, visitor: Visitor, pool: Pool, code: int, weight: float) -> None:
    """Offer where others went from the session's latest items."""
    anchors = state.session.recent_item[visitor.session]
    _transitions_from(state, pool, anchors, visitor.now_ms, code, weight)


def copurchases(state: State, visitor: Visitor, pool: Pool, code: int, weight: float) -> None:
    """Offer what others bought together with the session's latest items."""
    anchors = state.session.recent_item[visitor.session]
    _copurchases_of(state, pool, anchors, visitor.now_ms, code, weight)


def history(state: State, visitor: Visitor, pool: Pool, code: int, weight: float) -> None:
    """Offer what others bought together with the items of the user's past."""
    anchors = state.user.recent_item[visitor.user]
    _copurchases_of(state, pool, anchors, visitor.now_ms, code, weight)


def seed_transitions(state: State, visitor: Visitor, pool: Pool, code: int, weight: float) -> None:
    """Offer where others went from the seed item."""
    anchors = np.array([visitor.seed], np.int32)
    _transitions_from(state, pool, anchors, visitor.now_ms, code, weight)


def seed_copurchases(state: State, visitor: Visitor, pool: Pool, code: int, weight: float) -> None:
    """Offer what others bought together with the seed item."""
    anchors = np.array([visitor.seed], np.int32)
    _copurchases_of(state, pool, anchors, visitor.now_ms, code, weight)


def cart_copurchases(state: State, visitor: Visitor, pool: Pool, code: int, weight: float) -> None:
    """Offer what others bought together with what lies in the cart."""
    anchors = state.session.cart_item[visitor.session]
    _copurchases_of(state, pool, anchors, visitor.now_ms, code, weight)
