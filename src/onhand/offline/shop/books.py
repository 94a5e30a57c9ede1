"""The whole of the shop's books as a log: what it sold in two years, and nothing derived.

A product enters the catalogue on the day that it was first sold. Stock is not tracked: the books
do not know it.
"""

from datetime import UTC, datetime, timedelta

from onhand.contracts.records import Event, Item, Record
from onhand.log.memory import MemoryLog
from onhand.offline.shop.ledger import FIRST_DAY, LAST_DAY, catalogue, history
from onhand.offline.shop.visits import purchases

__all__ = ["books"]

_BATCH = 5_000


def books() -> MemoryLog:
    """Return the books as a log in memory: about a million records."""
    log = MemoryLog()
    arrivals = sorted(catalogue(), key=lambda product: product.created_ms)
    arrivals.reverse()
    batch: list[Record] = []
    begin = datetime.combine(FIRST_DAY, datetime.min.time(), UTC)
    end = datetime.combine(LAST_DAY, datetime.min.time(), UTC) + timedelta(days=1)
    for basket in history(end, begin):
        while arrivals and arrivals[-1].created_ms <= basket.time_ms:
            product = arrivals.pop()
            price, created_ms = product.price_cents / 100, product.created_ms
            batch.append(
                Item(product.code, product.title, product.category, price=price, created=created_ms)
            )
        for at_ms, sale in purchases(basket):
            if isinstance(sale, Event):
                sale.time, sale.id = at_ms, None
                batch.append(sale)
        if len(batch) >= _BATCH:
            log.append(batch)
            batch = []
    log.append(batch)
    return log
