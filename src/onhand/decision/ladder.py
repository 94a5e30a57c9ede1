"""The ladder: an answer for every page, the best that time and health allow.

    fresh     the slot's plan, with the visitor's prepared list where there is one
    stale     the same with a list that does not know the visitor's latest events yet
    popular   what is popular for the context: when there is no time left, or deciding failed
    static    the list that the app declares: when that failed too, or the log is not folded yet

Live stock, holds and exclusions apply on every step.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from onhand.contracts.answers import RecommendedItem
from onhand.contracts.requests import RecommendRequest
from onhand.decision.slots import make_plan
from onhand.retrieval.filters import Filter, compile_filter, passes
from onhand.retrieval.sources import POPULAR, POPULAR_IN_COUNTRY
from onhand.state.state import State

__all__ = ["LOADING", "POPULAR_PLAN", "Fall", "SlotRule", "Step", "choose_static", "descend"]

Step = Literal["stale", "popular", "static"] | None
"""A step of the ladder, as the answer's `degraded` says it; None is the best."""

POPULAR_PLAN: Final = make_plan({POPULAR_IN_COUNTRY: 1.0, POPULAR: 0.5}, repeat_bought=False)
_DECIDING_MS: Final = 2.0
"""Time that a decision is given: more than its p99."""


class SlotRule(NamedTuple):
    """What an app declares of a slot: how soon a page must be answered, the ids of the last
    step's list, best first, whether a visitor's list is made at their first event (`ahead`) or when
    a page has asked for it, and whether what will soon be gone is demoted (`foresight`)."""

    deadline_ms: float = 50.0
    static: tuple[str, ...] = ()
    ahead: bool = False
    foresight: bool = True


class Fall(NamedTuple):
    """A step, and why it is not a better one."""

    step: Step
    reason: str


_WHOLE: Final = (Fall(None, ""), Fall("popular", "error"), Fall("static", "error"))
_LATE: Final = (Fall("popular", "deadline"), _WHOLE[-1])
_OVERLOADED: Final = (Fall("popular", "overload"), _WHOLE[-1])
LOADING: Final = Fall("static", "loading")
"""The one step there is before the log is folded."""


def descend(rule: SlotRule, behind: str, waited_ms: float, hurry: bool) -> tuple[Fall, ...]:
    """Return the steps to try, best first, for a request that has waited `waited_ms` already.

    `behind` says why there is no better list than an old one, empty where there is; `hurry` that
    the server has more to do than it can.
    """
    if hurry:
        return _OVERLOADED
    if waited_ms + _DECIDING_MS > rule.deadline_ms:
        return _LATE
    return (Fall("stale", behind), *_WHOLE[1:]) if behind else _WHOLE


def choose_static(
    state: State, request: RecommendRequest, ids: Sequence[str], whole: bool
) -> list[RecommendedItem]:
    """Return the first `request.n` of `ids` that may be shown. `whole` says that the state is
    folded to its end: until then an item it has not seen may be shown, unless there is a filter.
    """
    chosen: list[RecommendedItem] = []
    barred = {*request.exclude, request.item}
    lets = compile_filter(state, request.filter) if request.filter is not None else None
    brands: Counter[int] = Counter()
    categories: Counter[int] = Counter()
    for id in ids:
        row = state.items.rows.get(id, 0)
        if id in barred or (state.item.blocked[row] if row else whole):
            continue
        if lets is not None and not (row and _lets_through(state, lets, row)):
            continue
        brand, category = int(state.item.brand[row]), int(state.item.category[row])
        if brand and request.per_brand and brands[brand] == request.per_brand:
            continue
        if category and request.per_category and categories[category] == request.per_category:
            continue
        brands[brand] += 1
        categories[category] += 1
        price_cents, stock = int(state.item.price_cents[row]), int(state.item.stock[row])
        chosen.append(
            RecommendedItem(
                id,
                0.0,
                "static",
                None if price_cents < 0 or not row else price_cents / 100,
                None if stock < 0 or not row else stock,
            )
        )
        if len(chosen) == request.n:
            break
    return chosen


def _lets_through(state: State, lets: Filter, row: int) -> bool:
    items = state.item
    through: bool = passes(
        lets.program, lets.rows, row, items.category, items.brand, items.price_cents, items.terms
    )
    return through
