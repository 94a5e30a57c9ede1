"""Derive the visits behind a shop's baskets.

The books know what was bought, not what was looked at. A visit is derived from a basket plainly:

- **a buyer** opens the home page, then for each line sees a product (often from a list: a click),
  sometimes a second one that other customers bought with it, puts the line in the cart, and at
  the invoice's time buys all of it. Of long order lists only the first lines are browsed.
- **a window shopper** starts at something that sold around that time and strolls to what others
  bought with it; a few search, a few fill a cart, nobody buys.

Everything but the purchases is derived, and says so: its `context.referrer` is `derived`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import NamedTuple, TypeVar

from onhand.contracts.records import Context, Event, Item, Signal
from onhand.offline.shop.ledger import Basket, Line

__all__ = ["DERIVED", "LEAD_MS", "Moment", "Page", "Stroll", "buyer", "purchases", "window_shopper"]

DERIVED = "derived"
BROWSED_LINES = 30
STEP_MS = 20_000
VISIT_MS = 40 * 60_000
LEAD_MS = VISIT_MS + 2 * STEP_MS
"""No visit starts earlier before its basket."""

SHARE_CLICKED, SHARE_COMPARED, SHARE_SEARCHED, SHARE_CARTED, SHARE_KNOWN = 0.6, 0.3, 0.15, 0.1, 0.25

T = TypeVar("T")


class Page(NamedTuple):
    """A page a visitor opens: one read of a slot, with the product on it as seed."""

    slot: str
    session: str
    user: str | None
    country: str | None
    item: str | None = None


class Moment(NamedTuple):
    """Something that happens at a time of the shop."""

    at_ms: int
    what: Event | Signal | Item | Page


class Visitor(NamedTuple):
    """Who visits. `sold` marks what the books say, `looked` what is derived."""

    session: str
    user: str | None
    sold: Context | None
    looked: Context

    @property
    def country(self) -> str | None:
        """Where the visitor is, if known."""
        return self.looked.country

    def event(self, type_: str, item: str | None, number: int, query: str | None = None) -> Event:
        """A derived event, with an id that is the same in every run."""
        return Event(
            type_,
            self.user,
            self.session,
            item,
            id=f"{self.session}-{number}",
            query=query,
            context=self.looked,
        )

    def purchase(self, line: Line, number: int) -> Event:
        """A line of the books; its value is what was paid for all of it."""
        return Event(
            "purchase",
            self.user,
            self.session,
            line.code,
            id=f"{self.session}-{number}",
            value=line.quantity * line.price_cents / 100,
            quantity=min(line.quantity, 1_000_000),
            context=self.sold,
        )

    def page(self, slot: str, item: str | None = None) -> Page:
        """A page this visitor opens."""
        return Page(slot, self.session, self.user, self.country, item)


def visitor_of(session: str, customer: int | None, country: str | None) -> Visitor:
    """The visitor of a basket; guests have a session and no user."""
    user = None if customer is None else str(customer)
    sold = None if country is None else Context(country=country)
    return Visitor(session, user, sold, Context(country=country, referrer=DERIVED))


class Stroll:
    """What lies near what: another line of another basket that holds the same item."""

    def __init__(self, baskets: Iterable[Basket]) -> None:
        self._baskets: dict[str, list[tuple[Line, ...]]] = defaultdict(list)
        self.add(baskets)

    def add(self, baskets: Iterable[Basket]) -> None:
        """Learn from more baskets."""
        for basket in baskets:
            for line in basket.lines:
                self._baskets[line.code].append(basket.lines)

    def next(self, item: str, random: Random) -> str:
        """An item that was bought together with this one, or the item itself."""
        baskets = self._baskets.get(item)
        return pick(pick(baskets, random), random).code if baskets else item


def pick(choices: Sequence[T], random: Random) -> T:
    """One of the choices: as `random.choice`, three times as fast."""
    return choices[int(random.random() * len(choices))]


def buyer(basket: Basket, stroll: Stroll, random: Random, prefix: str = "") -> Iterator[Moment]:
    """The visit that ends in this basket, in order of time."""
    who = visitor_of(f"{prefix}s{basket.invoice}", basket.customer, basket.country)
    browsed = basket.lines[:BROWSED_LINES]
    step_ms = min(STEP_MS, VISIT_MS // len(browsed))
    start_ms = basket.time_ms - (len(browsed) + 1) * step_ms
    yield Moment(start_ms, who.page("home"))
    number = 0
    for place, line in enumerate(browsed):
        at_ms = start_ms + int((place + 0.5 + random.random() / 2) * step_ms)
        for event in look(who, line.code, number, stroll, random):
            yield Moment(at_ms, event)
        yield Moment(at_ms, who.page("product", line.code))
        yield Moment(at_ms, who.event("cart_add", line.code, number + 4))
        number += 5
    yield Moment(basket.time_ms - step_ms // 2, who.page("cart"))
    yield from purchases(basket, prefix)


def purchases(basket: Basket, prefix: str = "") -> Iterator[Moment]:
    """The sales of a basket: what the books say, nothing derived."""
    who = visitor_of(f"{prefix}s{basket.invoice}", basket.customer, basket.country)
    for place, line in enumerate(basket.lines):
        yield Moment(basket.time_ms, who.purchase(line, 5 * BROWSED_LINES + place))


def look(who: Visitor, item: str, number: int, stroll: Stroll, random: Random) -> Iterator[Event]:
    """See one product, from a list or not, after comparing it with another or not."""
    if random.random() < SHARE_COMPARED and (other := stroll.next(item, random)) != item:
        yield who.event("view", other, number)
    if random.random() < SHARE_CLICKED:
        yield who.event("click", item, number + 1)
    yield who.event("view", item, number + 2)


def window_shopper(
    name: str, near: Basket, stroll: Stroll, titles: dict[str, str], random: Random
) -> Iterator[Moment]:
    """A visit about the time and the taste of a basket that buys nothing, in order of time."""
    known = near.customer if random.random() < SHARE_KNOWN else None
    who = visitor_of(name, known, near.country)
    at_ms = near.time_ms + int((random.random() - 0.7) * VISIT_MS)
    item = pick(near.lines, random).code
    yield Moment(at_ms, who.page("home"))
    if random.random() < SHARE_SEARCHED and item in titles:
        words = " ".join(titles[item].lower().split()[-2:])
        yield Moment(at_ms + STEP_MS // 2, who.event("search", None, 0, words))
    number = 1
    while True:
        at_ms += int(STEP_MS * (0.5 + random.random()))
        if random.random() < SHARE_CLICKED:
            yield Moment(at_ms, who.event("click", item, number))
        yield Moment(at_ms, who.event("view", item, number + 1))
        yield Moment(at_ms, who.page("product", item))
        if random.random() < SHARE_CARTED:
            yield Moment(at_ms + STEP_MS // 4, who.event("cart_add", item, number + 2))
            yield Moment(at_ms + STEP_MS // 3, who.page("cart"))
        if random.random() < 0.25:
            return
        number += 3
        item = stroll.next(item, random)
