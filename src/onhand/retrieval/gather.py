"""The merge: run sources, in order, into one pool."""

from typing import Any

import numpy as np

from onhand.kernel import Array, inner_kernel, kernel
from onhand.retrieval.arrivals import new_arrivals
from onhand.retrieval.content import alike, content
from onhand.retrieval.context import offer_context
from onhand.retrieval.followers import follow, follow_one
from onhand.retrieval.interest import aim
from onhand.retrieval.newest import newest
from onhand.retrieval.own import own
from onhand.retrieval.pool import settle
from onhand.retrieval.popular import popular
from onhand.retrieval.sources import (
    CART,
    CONTENT,
    CONTEXT,
    HISTORY,
    NEW_ARRIVALS,
    NEWEST,
    POPULAR,
    POPULAR_IN_COHORT,
    POPULAR_IN_COUNTRY,
    RECENT,
    REPEAT,
    SEED_CONTENT,
    SEED_COPURCHASES,
    SEED_TRANSITIONS,
    TRANSITIONS,
    TRENDING,
)
from onhand.retrieval.trending import trending
from onhand.state import decay
from onhand.state.content import DIMENSIONS
from onhand.state.contexts import DEVICES_AT, REFERRERS_AT, hour_row

__all__ = ["gather"]


@kernel
def gather(
    candidates: Array, parts: Array, place: Array, size: Array, near: Any, sight: Any,
    visitor: Any, now_ms: int, codes: Array, weights: Array, share: float, new_ms: int,
    compared: int,
) -> None:  # fmt: skip
    """Run the sources `codes`, (sources,) int64, with `share` of their `weights`, (sources,)
    float64, those of weight 0 not at all; items are new for `new_ms`, and of the content vectors
    about `compared` are compared.

    It is not split by family of sources, as a tuple of arrays is copied for each call: a home
    page's decision took 34 microseconds then instead of 30.
    """
    unit = decay.weight_at(now_ms, sight.landmark_ms[0])
    blocked, session, user = sight.blocked, visitor.session, visitor.user
    for step in range(codes.shape[0]):
        code, weight = codes[step], share * weights[step]
        if weight == 0.0:
            continue
        if code in (TRANSITIONS, SEED_TRANSITIONS):
            links, counts = sight.next_item, sight.next_weight
        else:
            links, counts = sight.with_item, sight.with_weight
        if code <= CART:
            anchors = sight.session_recent[session]
            if code == HISTORY:
                anchors = sight.user_recent[user]
            elif code == CART:
                anchors = sight.session_cart[session]
            follow(
                candidates, parts, place, size, blocked, links, counts, anchors, unit, code, weight
            )
        elif code <= SEED_COPURCHASES:
            seed = visitor.seed
            follow_one(
                candidates, parts, place, size, blocked, links, counts, seed, unit, code, weight
            )
        elif code in (POPULAR, POPULAR_IN_COUNTRY, POPULAR_IN_COHORT):
            where = visitor.country if code == POPULAR_IN_COUNTRY else 0
            if code == POPULAR_IN_COHORT:
                members = sight.cohort_item[0, visitor.cohort]
                there = sight.cohort_weight[0, visitor.cohort]
            else:
                members, there = sight.popular_item[where], sight.popular_weight[where]
            if where != 0 or code != POPULAR_IN_COUNTRY:
                popular(candidates, parts, place, size, blocked, members, there, code, weight)
        elif code == NEWEST:
            newest(candidates, parts, place, size, blocked, sight.arrived_item[0], code, weight)
        elif code == TRENDING:
            trending(
                candidates, parts, place, size, blocked, sight.surge_item[0],
                sight.surge_weight[0], sight.surge_landmark_ms[0], sight.popularity, unit,
                now_ms, code, weight,
            )  # fmt: skip
        elif code in (RECENT, REPEAT):
            latest, others = sight.session_recent[session], sight.user_recent[user]
            if code == REPEAT:
                latest, others = sight.session_bought[session], sight.user_bought[user]
            own(candidates, parts, place, size, blocked, latest, others, code, weight)
        elif code == SEED_CONTENT:
            alike(
                candidates, parts, place, size, blocked, sight.centroid, sight.cluster_size,
                sight.cluster_member, sight.cluster_vectors, sight.clusters[0], sight.content,
                visitor.seed, sight.moves[0], near.seed, near.moves, near.item, near.product,
                compared, code, weight,
            )  # fmt: skip
        elif code in (CONTENT, NEW_ARRIVALS):
            direction = np.zeros(DIMENSIONS, np.int8)
            interest, latest = sight.interest[session], sight.user_recent[user]
            length = aim(interest, latest, sight.content, direction)
            if code == NEW_ARRIVALS:
                new_arrivals(
                    candidates, parts, place, size, blocked, sight.arrived_item[0],
                    sight.arrived_ms[0], sight.sessions_of, sight.content, direction, length,
                    now_ms, new_ms, code, weight,
                )  # fmt: skip
            elif length > 0.0:
                content(
                    candidates, parts, place, size, blocked, sight.centroid, sight.cluster_size,
                    sight.cluster_member, sight.cluster_vectors, sight.clusters[0], direction,
                    length, compared, code, weight,
                )  # fmt: skip
        elif code == CONTEXT:
            offer_contexts(candidates, place, size, sight, visitor, now_ms, unit)
            settle(candidates, parts, size, code, weight)


@inner_kernel
def offer_contexts(
    candidates: Array, place: Array, size: Array, sight: Any, visitor: Any, now_ms: int, unit: int
) -> None:
    """Offer what visitors begin with at this hour, and from where and with what this one comes."""
    blocked = sight.blocked
    world, heavy = sight.popular_item[0], sight.popular_weight[0]
    rows = (
        hour_row(now_ms),
        REFERRERS_AT + visitor.referrer if visitor.referrer else -1,
        DEVICES_AT + visitor.device if visitor.device else -1,
    )
    for row in rows:
        if row >= 0:
            begun, weights = sight.begun_item[row], sight.begun_weight[row]
            offer_context(candidates, place, size, blocked, begun, weights, world, heavy, unit)
    if visitor.country:
        members, there = sight.popular_item[visitor.country], sight.popular_weight[visitor.country]
        offer_context(candidates, place, size, blocked, members, there, world, heavy, unit)
