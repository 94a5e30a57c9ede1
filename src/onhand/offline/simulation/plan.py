"""What happens in a flash sale: who reads which page when, what they do, what happens to stock.

Everything is drawn from one seed before the sale begins, but for the clicks: those follow what was
shown. Demand is Zipf over the shop's own best sellers, so the first of them sell out within
seconds; deliveries come some seconds later, or never. Now and then a price drops, or an item is
held for a while.

Times are microseconds from the beginning, items are ranks in `Shop.codes`, visitors are numbers.
"""

from collections import Counter
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Final, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from onhand.offline.shop.play import Play

__all__ = ["EVENT_TYPES", "SLOTS", "Acts", "Change", "Phase", "Plan", "Reads", "Shop", "draw_plan"]

SLOTS: Final = ("home", "product", "cart")
SLOT_SHARES: Final = (0.4, 0.5, 0.1)
EVENT_TYPES: Final = ("view", "cart_add", "purchase")
CART_SHARE: Final = 0.1
"""Of the events that are neither clicks nor purchases; the others are views."""

PAGES_A_VISIT: Final = 6.0
VISIT_S: Final = 20.0
"""Mean time that a visitor has been there already when a page is read."""

CLICK_SHARE: Final = 0.1
"""Pages that lead to a click."""
CLICK_AFTER_S: Final = 2.5
"""Median time from a page to the click on it; log-normal."""
CLICK_SPREAD: Final = 0.7
NEXT_POSITION: Final = 0.7
"""Chance that a visitor who clicks looks past a position to the next."""

OPENING_LOT: Final = (5, 60)
LOT: Final = (10, 40)
"""Pieces of an item when the sale opens, and in a delivery."""
RESTOCK_S: Final = 8.0
"""Mean time from a sell-out to the delivery, where one comes."""
RESTOCK_SHARE: Final = 0.9
PRICE_SHARE: Final = 0.02
HOLD_SHARE: Final = 0.01
HOLD_S: Final = 5.0
ZIPF: Final = 1.0
TRIES: Final = 50


class Shop(Struct, frozen=True):
    """What the sale sells, best sellers first, and who comes: `customers` are known users, and
    each country is there as often as its orders were. `gone` has no stock and is not sold."""

    codes: list[str]
    prices: list[float]
    gone: list[str]
    customers: list[str]
    countries: list[str]

    @classmethod
    def of(cls, play: Play) -> "Shop":
        """The bundled shop at the opening: what had stock, by how often it was ordered."""
        ordered = Counter(line.code for basket in play.past for line in basket.lines)
        items = [item for item in play.items() if item.stock]
        items.sort(key=lambda item: (-ordered[item.id], item.id))
        customers = {str(basket.customer) for basket in play.past if basket.customer is not None}
        countries = [basket.country for basket in play.past if basket.country is not None]
        return cls(
            [item.id for item in items],
            [item.price if isinstance(item.price, float) else 0.0 for item in items],
            [item.id for item in play.items() if not item.stock],
            sorted(customers),
            sorted(countries)[:: max(len(countries) // 200, 1)],
        )


class Phase(Struct, frozen=True):
    """A stretch of the sale: so many pages, events and stock changes a second."""

    seconds: float
    rate: float
    events: float
    stock_changes: float


class Reads(NamedTuple):
    """Page reads, (pages,) each: `item` is -1 where the slot takes none, `click_us` the time from
    the answer to the click, -1 where none follows, `position` the place that is clicked."""

    at_us: NDArray[np.int64]
    slot: NDArray[np.int8]
    visitor: NDArray[np.int32]
    item: NDArray[np.int32]
    click_us: NDArray[np.int64]
    position: NDArray[np.int32]


class Acts(NamedTuple):
    """Events but for clicks, (events,) each, in order of time."""

    at_us: NDArray[np.int64]
    type: NDArray[np.int8]
    visitor: NDArray[np.int32]
    item: NDArray[np.int32]


class Change(NamedTuple):
    """One fact about an item that changes: the one that is not None. `sold` says that somebody
    bought it."""

    at_us: int
    item: int
    stock: int | None = None
    price: float | None = None
    held: bool | None = None
    sold: bool = False


class Plan(NamedTuple):
    """The whole sale; `opening` is the stock of each item when it begins."""

    opening: list[int]
    reads: Reads
    acts: Acts
    changes: list[Change]


def draw_plan(shop: Shop, phases: Sequence[Phase], seed: int) -> Plan:
    """Draw a sale from a seed."""
    random = np.random.default_rng(seed)
    ranks = np.arange(1, len(shop.codes) + 1)
    demand = np.cumsum(ranks**-ZIPF, dtype=np.float64)
    opening = random.integers(*OPENING_LOT, len(shop.codes), endpoint=True).tolist()
    changes_us = _moments(random, [(p.seconds, p.stock_changes) for p in phases])
    changes = _draw_changes(random, shop, demand, opening, changes_us)
    reads = _draw_reads(random, demand, phases)
    return Plan(opening, reads, _draw_acts(random, demand, phases, changes), changes)


def _moments(
    random: np.random.Generator, phases: Sequence[tuple[float, float]]
) -> NDArray[np.int64]:
    """Moments of a Poisson process whose rate changes by phase, given their number."""
    begin_s, parts = 0.0, [np.zeros(0)]
    for seconds, rate in phases:
        parts.append(begin_s + np.sort(random.random(round(seconds * rate))) * seconds)
        begin_s += seconds
    return (np.concatenate(parts) * 1e6).astype(np.int64)


def _draw_items(
    random: np.random.Generator, demand: NDArray[np.float64], count: int
) -> NDArray[np.int32]:
    return np.searchsorted(demand, random.random(count) * demand[-1]).astype(np.int32)


def _draw_visitors(
    random: np.random.Generator, at_us: NDArray[np.int64], rate: float
) -> NDArray[np.int32]:
    """Visitors arrive one after the other; each moment belongs to one of the latest of them."""
    arrivals = max(rate / PAGES_A_VISIT, 1.0)
    ago = random.exponential(arrivals * VISIT_S, len(at_us))
    return np.maximum(at_us * arrivals / 1e6 + 5 * arrivals * VISIT_S - ago, 0).astype(np.int32)


def _draw_reads(
    random: np.random.Generator, demand: NDArray[np.float64], phases: Sequence[Phase]
) -> Reads:
    at_us = _moments(random, [(p.seconds, p.rate) for p in phases])
    count = len(at_us)
    slot = random.choice(len(SLOTS), count, p=SLOT_SHARES).astype(np.int8)
    after_s = random.lognormal(np.log(CLICK_AFTER_S), CLICK_SPREAD, count)
    clicked = random.random(count) < CLICK_SHARE
    return Reads(
        at_us,
        slot,
        _draw_visitors(random, at_us, phases[0].rate),
        np.where(slot == SLOTS.index("product"), _draw_items(random, demand, count), -1),
        np.where(clicked, (after_s * 1e6).astype(np.int64), -1),
        (random.geometric(1 - NEXT_POSITION, count) - 1).astype(np.int32),
    )


def _draw_acts(
    random: np.random.Generator,
    demand: NDArray[np.float64],
    phases: Sequence[Phase],
    changes: Sequence[Change],
) -> Acts:
    """The purchases behind the stock, and as many views and cart adds as bring the events to
    their rate, clicks included."""
    bought = [change for change in changes if change.sold]
    sold = len(bought) / max(sum(p.seconds for p in phases), 1e-9)
    others = [(p.seconds, max(p.events - p.rate * CLICK_SHARE - sold, 0.0)) for p in phases]
    other_us = _moments(random, others)
    at_us = np.concatenate((np.array([c.at_us for c in bought], np.int64), other_us))
    kind = (random.random(len(other_us)) < CART_SHARE).astype(np.int8)
    type_ = np.concatenate((np.full(len(bought), EVENT_TYPES.index("purchase"), np.int8), kind))
    item = np.concatenate(
        (np.array([c.item for c in bought], np.int32), _draw_items(random, demand, len(other_us)))
    )
    order = np.argsort(at_us, kind="stable")
    visitor = _draw_visitors(random, at_us[order], phases[0].rate)
    return Acts(at_us[order], type_[order], visitor, item[order])


class _Shelves:
    """Stock while the changes are drawn: what there is, and what is due to come back."""

    def __init__(self, random: np.random.Generator, opening: Sequence[int]) -> None:
        self._random = random
        self._left = list(opening)
        self._held: set[int] = set()
        self._due: list[tuple[int, int, bool]] = []

    def due(self, at_us: int) -> Change | None:
        """What was to come back by now, if anything: a delivery, or the end of a hold."""
        if not self._due or self._due[0][0] > at_us:
            return None
        _, item, is_hold = heappop(self._due)
        if is_hold:
            self._held.discard(item)
            return Change(at_us, item, held=False)
        self._left[item] = int(self._random.integers(*LOT, endpoint=True))
        return Change(at_us, item, stock=self._left[item])

    def hold(self, at_us: int, item: int) -> Change | None:
        """Hold an item for a while, unless it is held."""
        if item in self._held:
            return None
        self._held.add(item)
        self._later(at_us, HOLD_S, item, is_hold=True)
        return Change(at_us, item, held=True)

    def sell(self, at_us: int, item: int) -> Change | None:
        """Sell one piece, unless it is gone or held."""
        if not self._left[item] or item in self._held:
            return None
        self._left[item] -= 1
        if not self._left[item] and self._random.random() < RESTOCK_SHARE:
            self._later(at_us, RESTOCK_S, item, is_hold=False)
        return Change(at_us, item, stock=self._left[item], sold=True)

    def _later(self, at_us: int, mean_s: float, item: int, *, is_hold: bool) -> None:
        due_us = at_us + 1 + int(self._random.exponential(mean_s) * 1e6)
        heappush(self._due, (due_us, item, is_hold))


def _draw_changes(
    random: np.random.Generator,
    shop: Shop,
    demand: NDArray[np.float64],
    opening: Sequence[int],
    at_us: NDArray[np.int64],
) -> list[Change]:
    shelves, prices = _Shelves(random, opening), list(shop.prices)
    changes: list[Change] = []
    for moment in at_us.tolist():
        change = shelves.due(moment)
        for _ in range(TRIES):
            if change is not None:
                break
            item = int(_draw_items(random, demand, 1)[0])
            kind = random.random()
            if kind < PRICE_SHARE:
                prices[item] = round(prices[item] * 0.9, 2)
                change = Change(moment, item, price=prices[item])
            elif kind < PRICE_SHARE + HOLD_SHARE:
                change = shelves.hold(moment, item)
            else:
                change = shelves.sell(moment, item)
        if change is not None:
            changes.append(change)
    return changes
