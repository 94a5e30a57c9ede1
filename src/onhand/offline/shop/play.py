"""Play the shop: what was, and what is derived from it, in one order of time.

A `Play` opens at a moment of the shop's books. Before it lies the history, after it come the days
that are played live, faster than they were; nights are skipped. The same seed plays the same
moments. After a month, or where the books end, the days begin again as the next round, with
ids of their own.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from heapq import heappop, heappush, merge
from itertools import chain
from math import inf
from random import Random
from typing import NamedTuple

from onhand.contracts.errors import Invalid
from onhand.contracts.records import Event, Item, Signal
from onhand.offline.shop.ledger import LAST_DAY, Basket, Product, catalogue, days, history
from onhand.offline.shop.stock import plan_shelves
from onhand.offline.shop.visits import (
    LEAD_MS,
    Moment,
    Page,
    Stroll,
    buyer,
    purchases,
    window_shopper,
)

__all__ = ["UNTIL", "Moment", "Page", "Play", "Sample"]

UNTIL = date(2011, 11, 10)
"""A busy Thursday before Christmas: 127 orders."""

FIRST_UNTIL = date(2010, 3, 1)
"""The first day with a whole history before it."""

OPENING = time(10)
"""The time of that day that becomes now."""

HISTORY_DAYS, BROWSED_DAYS, RECENT_DAYS = 90, 7, 60
PLAYED = timedelta(days=30)
"""After these days, or where the books end, the days begin again."""

SHOPPERS_LIVE = 24
"""Window shoppers for each buyer: of 25 visits one buys, an ordinary share."""

SHOPPERS_BEFORE = 8
"""The same in the history, where fewer do."""

LONGEST_GAP_MS = 5 * 60_000
"""A longer time without any moment (a night) is played as this."""


class Sample(NamedTuple):
    """Whom and what to ask about."""

    user: str
    session: str
    item: str


class Play:
    """The shop around one moment of its books, which becomes `now_ms`.

    Raises `Invalid` for a day that the books do not cover.
    """

    def __init__(
        self,
        until: date = UNTIL,
        now_ms: int | None = None,
        seed: int = 1,
        history_days: int = HISTORY_DAYS,
    ) -> None:
        if not FIRST_UNTIL <= until <= LAST_DAY:
            raise Invalid("day", f"{until} cannot be played: choose {FIRST_UNTIL} to {LAST_DAY}")
        self.opening = datetime.combine(until, OPENING, UTC)
        self.opening_ms = int(self.opening.timestamp() * 1000)
        self._shift_ms = 0 if now_ms is None else now_ms - self.opening_ms
        self.seed = seed
        self.products = {product.code: product for product in catalogue()}
        self.past = history(self.opening, self.opening - timedelta(days=history_days))
        self.coming = spread(chain.from_iterable(days(self.opening, until + PLAYED)), seed)
        self.shelves = plan_shelves(self.coming, self._since(RECENT_DAYS), seed)
        self._stroll = Stroll(self.past)
        self._titles = {code: product.title for code, product in self.products.items()}

    def items(self) -> list[Item]:
        """The catalogue at the opening, with the first stock."""
        return [self._item(p) for p in self.products.values() if p.created_ms < self.opening_ms]

    def past_events(self) -> Iterator[Event]:
        """The history, in order of time: every purchase, and the browsing of the last days.

        There are no ids, because a fresh store has seen nothing twice.
        """
        browsed = self._since(BROWSED_DAYS)
        bought = self.past[: len(self.past) - len(browsed)]
        early = chain.from_iterable(purchases(basket) for basket in bought)
        late = self._visits(browsed, SHOPPERS_BEFORE)
        for at_ms, event in merge(early, late, key=time_of):
            if isinstance(event, Event) and at_ms < self.opening_ms:
                event.time = at_ms + self._shift_ms
                event.id = None
                yield event

    def sample(self) -> Sample:
        """The customer with most orders, and the most bought item with much stock."""
        customers = Counter(basket.customer for basket in self.past if basket.customer is not None)
        sold = Counter(line.code for basket in self.past for line in basket.lines)
        stocked = (item for item, _ in sold.most_common() if self.shelves.first.get(item, 0) > 100)
        return Sample(str(customers.most_common(1)[0][0]), "you", next(stocked))

    def live(self) -> Iterator[Moment]:
        """The coming days without end, in order; `at_ms` counts from the opening, nights cut."""
        played_ms, before_ms = 0, self.opening_ms
        for at_ms, what in self._rounds():
            played_ms += min(max(at_ms - before_ms, 0), LONGEST_GAP_MS)
            before_ms = at_ms
            yield Moment(played_ms, what)

    def _rounds(self) -> Iterator[Moment]:
        """Round after round; each but the first opens with a delivery of all first stock."""
        yield from self._round("")
        number = 1
        while self.coming:
            number += 1
            first = self.shelves.first.items()
            yield from (Moment(self.opening_ms, Signal(item, left)) for item, left in first)
            yield from self._round(f"r{number}-")

    def _round(self, prefix: str) -> Iterator[Moment]:
        visits = self._visits(self.coming, SHOPPERS_LIVE, prefix)
        moments = merge(self._arrivals(), visits, self.shelves.moments, key=time_of)
        return (moment for moment in moments if moment.at_ms >= self.opening_ms)

    def _arrivals(self) -> list[Moment]:
        """The products first sold in the coming days: each new in the catalogue that morning."""
        new = (p for p in self.products.values() if p.created_ms >= self.opening_ms)
        return sorted((Moment(p.created_ms, self._item(p)) for p in new), key=time_of)

    def _item(self, product: Product) -> Item:
        return Item(
            product.code,
            product.title,
            product.category,
            price=product.price_cents / 100,
            stock=self.shelves.first.get(product.code, 0),
            created=product.created_ms + self._shift_ms,
            attributes={"category_source": "derived from the title"},
        )

    def _since(self, before_days: int) -> list[Basket]:
        """The past baskets of the last days."""
        start_ms = self.opening_ms - before_days * 86_400_000
        return [basket for basket in self.past if basket.time_ms >= start_ms]

    def _visits(
        self, baskets: Iterable[Basket], shoppers: int, prefix: str = ""
    ) -> Iterator[Moment]:
        """The visits of the buyers and of the window shoppers about them, in order of time.

        A visit is derived when its time has come, so that playing never pauses to prepare.
        """
        active: list[tuple[int, int, Moment, Iterator[Moment]]] = []
        number = 0
        for basket in baskets:
            yield from advance(active, basket.time_ms - LEAD_MS)
            for visit in self._visits_about(basket, shoppers, prefix):
                number += 1
                push(active, number, visit)
        yield from advance(active, inf)

    def _visits_about(
        self, basket: Basket, shoppers: int, prefix: str
    ) -> Iterator[Iterator[Moment]]:
        yield buyer(basket, self._stroll, self._random(basket, "buyer"), prefix)
        for place in range(shoppers):
            name = f"{prefix}w{basket.invoice}-{place}"
            random = self._random(basket, place)
            yield window_shopper(name, basket, self._stroll, self._titles, random)

    def _random(self, basket: Basket, who: str | int) -> Random:
        return Random(f"{self.seed}/{basket.invoice}/{who}")  # noqa: S311  # a game


def spread(baskets: Iterable[Basket], seed: int) -> list[Basket]:
    """The baskets at some second of their minute: the books know no more than that."""
    random = Random(f"{seed}/seconds")  # noqa: S311  # a game
    moved = (b._replace(time_ms=b.time_ms + int(random.random() * 60_000)) for b in baskets)
    return sorted(moved, key=lambda basket: basket.time_ms)


def advance(
    active: list[tuple[int, int, Moment, Iterator[Moment]]], until_ms: float
) -> Iterator[Moment]:
    """The moments of all active visits before a time, in order of time."""
    while active and active[0][0] < until_ms:
        _, number, moment, visit = heappop(active)
        push(active, number, visit)
        yield moment


def push(
    active: list[tuple[int, int, Moment, Iterator[Moment]]],
    number: int,
    visit: Iterator[Moment],
) -> None:
    """Put a visit back at the time of its next moment; `number` decides ties."""
    moment = next(visit, None)
    if moment is not None:
        heappush(active, (moment.at_ms, number, moment, visit))


def time_of(moment: Moment) -> int:
    """When it happens."""
    return moment.at_ms
