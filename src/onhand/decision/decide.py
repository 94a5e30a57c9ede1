"""The decision: a pure function of the state, the request and the moment.

Sources fill the pool, barriers mark what must not be shown as of this very state, the best that
may be shown are chosen, and the page is completed from the most popular items while the catalogue
has any that may be shown.
"""

from typing import NamedTuple

import numpy as np

from onhand.contracts.answers import RecommendedItem
from onhand.contracts.requests import RecommendRequest
from onhand.decision.slots import FILL, SOURCES, Plan
from onhand.decision.tiers import tier
from onhand.retrieval.pool import Pool, bar, clear, fill, select
from onhand.retrieval.visitor import Visitor, find
from onhand.state.barriers import BOUGHT, EXCLUDED, IN_CART, SEED
from onhand.state.state import State

__all__ = ["Page", "decide"]


class Page(NamedTuple):
    """The chosen items, best first, and what was known of the visitor."""

    items: list[RecommendedItem]
    tier: str


def decide(state: State, request: RecommendRequest, plan: Plan, now_ms: int, pool: Pool) -> Page:
    """Choose `request.n` items, fewer only when the shop has no more that may be shown.

    Afterwards `pool` holds every candidate, and in `kept_off` how many a barrier kept off.
    """
    visitor = find(state, request, now_ms)
    clear(pool)
    _bar(state, request, plan, visitor, pool)
    for step in plan.steps:
        step.source(state, visitor, pool, step.code, step.weight)
    items = state.item
    found = select(pool, items.popularity, request.n)
    if found < request.n:
        rows = len(state.items)
        found = fill(pool, items.blocked, items.popularity, rows, found, request.n, FILL)
    return Page(_chosen(state, pool, found), tier(_interactions(state, visitor)))


def _bar(state: State, request: RecommendRequest, plan: Plan, visitor: Visitor, pool: Pool) -> None:
    if request.exclude:
        rows = [row for id in request.exclude if (row := state.items.rows.get(id))]
        bar(pool, np.array(rows, np.int32), EXCLUDED)
    if visitor.seed:
        bar(pool, np.array([visitor.seed], np.int32), SEED)
    if visitor.session:
        bar(pool, state.session.cart_item[visitor.session], IN_CART)
        if not plan.repeat_bought:
            bar(pool, state.session.bought_item[visitor.session], BOUGHT)
    if visitor.user and not plan.repeat_bought:
        bar(pool, state.user.bought_item[visitor.user], BOUGHT)


def _interactions(state: State, visitor: Visitor) -> int:
    return max(
        int(state.session.interactions[visitor.session]),
        int(state.user.interactions[visitor.user]),
    )


def _chosen(state: State, pool: Pool, found: int) -> list[RecommendedItem]:
    places = pool.chosen[:found]
    rows = pool.item[places]
    names = state.items.names
    return [
        RecommendedItem(
            names[row],
            score,
            SOURCES[source],
            None if price_cents < 0 else price_cents / 100,
            None if stock < 0 else stock,
        )
        for row, score, source, price_cents, stock in zip(
            rows.tolist(),
            pool.score[places].tolist(),
            pool.source[places].tolist(),
            state.item.price_cents[rows].tolist(),
            state.item.stock[rows].tolist(),
            strict=True,
        )
    ]
