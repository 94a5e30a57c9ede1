"""Derive the stock behind a shop's sales.

The books know what was sold, not what lay on the shelf. So deliveries are derived from the sales
to come, such that every sale finds what it takes: a delivery covers a run of sales to the last
piece. The sale that takes the last piece is a sell-out; the next delivery comes before the next
sale. Most items are stocked for all their coming sales; a share of them is stocked tightly, in
short runs, and sells out again and again. What no longer sells at all has nothing left.

The law: stock is never negative, and each sale lowers it by exactly what was sold.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from random import Random
from typing import NamedTuple

from onhand.contracts.records import Signal
from onhand.offline.shop.ledger import Basket
from onhand.offline.shop.visits import Moment

__all__ = ["Shelves", "plan_shelves"]

SHARE_TIGHT = 0.25
RUN_SALES = 8
"""A tight delivery covers 1 to this many sales."""

RESTOCK_MS = 6 * 3_600_000
"""A delivery comes at most this long after the sell-out, if the next sale does."""

SPARE_PIECES = 60


class Shelves(NamedTuple):
    """What lies there at first, and every change after it, in order of time."""

    first: dict[str, int]
    moments: list[Moment]


class Sale(NamedTuple):
    """One line of a basket, for one item."""

    at_ms: int
    quantity: int


def plan_shelves(coming: Iterable[Basket], recent: Iterable[Basket], seed: int) -> Shelves:
    """The stock of every item with a coming or a recent sale; all others have none."""
    first: dict[str, int] = {}
    moments: list[Moment] = []
    for item, sales in sorted(sales_of(coming).items()):
        random = Random(f"{seed}/{item}")  # noqa: S311  # a game, and its own for each item
        tight = random.random() < SHARE_TIGHT
        runs = list(runs_of(sales, random)) if tight else [sales]
        spare = 0 if tight else 1 + int(random.random() * SPARE_PIECES)
        first[item] = taken(runs[0]) + spare
        moments.extend(changes(item, runs, spare, random))
    for item, sales in sorted(sales_of(recent).items()):
        first.setdefault(item, taken(sales[-3:]))
    moments.sort(key=lambda moment: moment.at_ms)
    return Shelves(first, moments)


def sales_of(baskets: Iterable[Basket]) -> dict[str, list[Sale]]:
    """The sales of each item, in order of time."""
    sales: dict[str, list[Sale]] = defaultdict(list)
    for basket in baskets:
        for line in basket.lines:
            sales[line.code].append(Sale(basket.time_ms, line.quantity))
    return sales


def runs_of(sales: list[Sale], random: Random) -> Iterator[list[Sale]]:
    """The sales in short runs; sales of the same minute are not torn apart."""
    start = 0
    while start < len(sales):
        stop = min(start + 1 + int(random.random() * RUN_SALES), len(sales))
        while stop < len(sales) and sales[stop].at_ms == sales[stop - 1].at_ms:
            stop += 1
        yield sales[start:stop]
        start = stop


def taken(sales: Iterable[Sale]) -> int:
    """The pieces these sales take."""
    return sum(sale.quantity for sale in sales)


def changes(item: str, runs: list[list[Sale]], spare: int, random: Random) -> Iterator[Moment]:
    """Every sale and every delivery of one item, each with the stock after it."""
    for place, run in enumerate(runs):
        left = taken(run) + spare
        if place:
            out_ms = runs[place - 1][-1].at_ms
            wait_ms = min(run[0].at_ms - out_ms, RESTOCK_MS)
            yield Moment(out_ms + int(wait_ms * random.random()), Signal(item, left))
        for sale in run:
            left -= sale.quantity
            yield Moment(sale.at_ms, Signal(item, left))
