"""Items that follow items: transitions and co-purchases from what the visitor touched.

From each anchor (the seed, the cart, the session's or the user's latest items) the rows of the
sketches say where visitors went, or what they bought with it. An anchor's followers share one
unit, less what the evidence lacks: weight / (sum of weights + one event of today). Later anchors
weigh less by a constant factor.
"""

from typing import Final

from onhand.kernel import Array, inner_kernel, kernel
from onhand.retrieval.pool import offer, settle

__all__ = ["follow", "follow_one"]

ANCHORS: Final = 8
FADE: Final = 0.7
QUOTA: Final = 24
"""Followers taken of one anchor that may be shown."""


@inner_kernel
def follow(
    candidates: Array,
    parts: Array,
    place: Array,
    size: Array,
    blocked: Array,
    members: Array,
    weights: Array,
    anchors: Array,
    unit: int,
    source: int,
    weight: float,
) -> None:
    """Offer the followers of the first distinct `anchors`, a list that 0 may end.

    `members` and `weights` are the sketches, (items, slots); `unit` is what an event of today
    weighs.
    """
    share = 1.0
    left = ANCHORS
    for at in range(anchors.shape[0]):
        anchor = anchors[at]
        if anchor == 0 or left == 0:
            break
        if anchor in anchors[:at]:
            continue
        left -= 1
        _offer_followers(
            candidates, place, size, blocked, members[anchor], weights[anchor], unit, share
        )
        share *= FADE
    settle(candidates, parts, size, source, weight)


@inner_kernel
def follow_one(
    candidates: Array,
    parts: Array,
    place: Array,
    size: Array,
    blocked: Array,
    members: Array,
    weights: Array,
    anchor: int,
    unit: int,
    source: int,
    weight: float,
) -> None:
    """Offer the followers of one item; nothing for item 0."""
    if anchor != 0:
        _offer_followers(
            candidates, place, size, blocked, members[anchor], weights[anchor], unit, 1.0
        )
        settle(candidates, parts, size, source, weight)


@kernel
def _offer_followers(
    candidates: Array,
    place: Array,
    size: Array,
    blocked: Array,
    members: Array,
    weights: Array,
    unit: int,
    share: float,
) -> None:
    scale = share / (unit + weights.sum())
    left = QUOTA
    for slot in range(members.shape[0]):
        if members[slot] == 0 or left == 0:
            break
        left -= blocked[members[slot]] == 0
        offer(candidates, place, size, blocked, members[slot], scale * weights[slot])
