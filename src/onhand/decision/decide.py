"""The decision: a pure function of the state, the request and the moment.

Sources fill the pool, barriers mark what must not be shown as of this very state, the best that
may be shown are chosen, but for those that will probably be gone soon, and the page is completed
from the most popular items while the catalogue has any that may be shown. All of that is one
compiled call.
"""

from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from onhand.contracts.answers import RecommendedItem
from onhand.contracts.requests import RecommendRequest
from onhand.decision.slots import Plan
from onhand.decision.tiers import TIERS, tier_of
from onhand.decision.written import ITEM_BYTES, write_items
from onhand.kernel import Array, Held, short_kernel
from onhand.retrieval.content import FEW
from onhand.retrieval.filters import NO_FILTER, compile_filter
from onhand.retrieval.foresight import foresee, release
from onhand.retrieval.gather import gather
from onhand.retrieval.listed import LIVE_SHARE, NO_LIST, Listed, offer_listed
from onhand.retrieval.pool import CAPACITY, Pool, bar, bar_one, clear, select
from onhand.retrieval.selection import FREE, Conditions, bar_filtered, explore, fill, pick
from onhand.retrieval.sight import Asked, Visitor, look_up, recognise, sight_of
from onhand.retrieval.sources import POPULAR
from onhand.state.barriers import BOUGHT, EXCLUDED, IN_CART, SEED
from onhand.state.state import State

__all__ = ["Desk", "Page", "decide"]

_NOTHING: Final = np.zeros(0, np.int32)
_decode_items: Final = msgspec.json.Decoder(list[RecommendedItem]).decode


class Desk:
    """Where decisions of a state are made, one at a time, in the memory of a pool."""

    def __init__(self, state: State, pool: Pool) -> None:
        self.state = state
        self.pool = pool
        self.written = np.zeros(CAPACITY * ITEM_BYTES, np.uint8)
        self._ids = state.items.spelled()
        self._tables = Held((sight_of(state), pool, self._ids, self.written))
        pool.alike.seed[:] = 0  # what it remembers was of another state

    @property
    def tables(self) -> Held:
        """What a decision reads and where it writes, for compiled code."""
        ids = self.state.items.spelled()
        if ids is not self._ids:
            self._ids = ids
            self._tables = Held((sight_of(self.state), self.pool, ids, self.written))
        return self._tables


class Page(NamedTuple):
    """The chosen items as JSON, best first, and what was known of the visitor."""

    json: bytes
    tier: str

    @property
    def items(self) -> list[RecommendedItem]:
        """The chosen items, best first."""
        return _decode_items(self.json)


def decide(
    desk: Desk, request: RecommendRequest, plan: Plan, now_ms: int, prepared: Listed = NO_LIST
) -> Page:
    """Choose `request.n` items, fewer only when the shop has no more that may be shown.

    A `prepared` list counts 1 beside `LIVE_SHARE` of the plan's weights (see `retrieval.listed`).
    Afterwards the pool holds every candidate, and in `kept_off` how many a barrier kept off.
    """
    state, items = desk.state, len(desk.state.items)
    excluded = _rows(state, request.exclude) if request.exclude else _NOTHING
    conditions = _conditions(state, request)
    asked = look_up(state, request)
    size, known = choose(
        desk.tables, asked, plan, prepared, conditions, excluded, now_ms, items, request.n
    )
    return Page(desk.written[:size].tobytes(), TIERS[known])


@short_kernel
def choose(
    desk: Any,
    asked: Asked,
    plan: Any,
    prepared: Any,
    conditions: Any,
    excluded: Array,
    now_ms: int,
    items: int,
    n: int,
) -> tuple[int, int]:
    """Fill the pool, choose up to `n` of it, write them as JSON; return how many bytes that is, and
    the visitor's tier."""
    sight, pool, ids, written = desk.tables
    candidates, parts, place, size, chosen, kept_off, near = pool
    session, _, seed, _, device, referrer, _ = asked
    user, country, cohort = recognise(
        asked, sight.session_user, sight.session_country, sight.user_country,
        sight.user_interactions,
    )  # fmt: skip
    visitor = Visitor(session, user, seed, country, device, referrer, cohort)
    known = tier_of(max(sight.session_interactions[session], sight.user_interactions[user]))
    rows, scores, sources = prepared
    clear(candidates, parts, place, size)
    bar(candidates, place, size, excluded, EXCLUDED)
    bar_one(candidates, place, size, visitor.seed, SEED)
    bar(candidates, place, size, sight.session_cart[visitor.session], IN_CART)
    if not plan.repeat_bought:
        bar(candidates, place, size, sight.session_bought[visitor.session], BOUGHT)
        bar(candidates, place, size, sight.user_bought[visitor.user], BOUGHT)
    blocked, popularity = sight.blocked, sight.popularity
    offer_listed(candidates, place, size, blocked, rows, scores, sources)
    share = LIVE_SHARE if rows.shape[0] else 1.0
    gather(
        candidates, parts, place, size, near, sight, visitor, now_ms, plan.codes,
        plan.weights[known], share, plan.new_ms, FEW,
    )  # fmt: skip
    lets, per_brand, per_category, variety = conditions
    program, listed_rows = lets
    brand, category = sight.brand, sight.category
    price_cents, terms = sight.price_cents, sight.terms
    if program.shape[0]:
        bar_filtered(candidates, size[0], program, listed_rows, category, brand, price_cents, terms)
    stock, pieces, span_ms, sold_ms = sight.stock, sight.rush_pieces, sight.rush_ms, sight.sold_ms
    if plan.foresight:
        foresee(candidates, size[0], stock, pieces, span_ms, sold_ms, now_ms)
    places = int(n * plan.new_share + 0.5)
    found = 0
    for _ in range(2):
        if per_brand or per_category or variety > 0.0:
            found = pick(
                candidates, size[0], chosen, kept_off, popularity, n, brand, category, per_brand,
                per_category, variety, sight.content,
            )  # fmt: skip
        else:
            found = select(candidates, size[0], chosen, kept_off, popularity, n)
        if places:
            explore(
                candidates, size[0], chosen, found, places, brand, category, per_brand, per_category
            )
        if found < n:
            found = fill(
                candidates, place, size, chosen, blocked, popularity, items, found, n, POPULAR,
                program, listed_rows, category, brand, price_cents, terms, per_brand, per_category,
            )  # fmt: skip
        if found == n:
            break
        if not release(candidates, size[0], stock, pieces, span_ms, sold_ms, now_ms):
            break
    kept_off[1] += kept_off[0]
    ends, texts = ids
    return write_items(
        candidates, chosen, found, ends, texts, price_cents, stock, written
    ), known  # fmt: skip


def _conditions(state: State, request: RecommendRequest) -> Conditions:
    lets = compile_filter(state, request.filter) if request.filter is not None else NO_FILTER
    if lets is NO_FILTER and not (request.per_brand or request.per_category or request.variety):
        return FREE
    return Conditions(lets, request.per_brand or 0, request.per_category or 0, request.variety)


def _rows(state: State, ids: list[str]) -> NDArray[np.int32]:
    return np.array([row for id in ids if (row := state.items.rows.get(id))], np.int32)
