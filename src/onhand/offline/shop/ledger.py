"""The bundled shop's books: its catalogue, and every basket it sold in two years.

Times here are the shop's own (epoch milliseconds, its clock read as UTC); `play` moves them to
the present. What the files hold, and what of it is derived, stands in `data/README.md`.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from onhand.contracts.errors import Unavailable

if TYPE_CHECKING:
    import polars as pl

__all__ = ["FIRST_DAY", "LAST_DAY", "Basket", "Line", "Product", "catalogue", "days", "history"]

FOLDER = Path(__file__).parent / "data"
FIRST_DAY = date(2009, 12, 1)
LAST_DAY = date(2011, 12, 9)


class Product(NamedTuple):
    """One product of the catalogue; `category` is derived from the title."""

    code: str
    title: str
    category: str
    price_cents: int
    created_ms: int


class Line(NamedTuple):
    """One product of a basket: how many, and the price of one."""

    code: str
    quantity: int
    price_cents: int


class Basket(NamedTuple):
    """One invoice. `customer` is None for guests, `country` ISO 3166 or None."""

    invoice: int
    time_ms: int
    customer: int | None
    country: str | None
    lines: tuple[Line, ...]


def catalogue() -> list[Product]:
    """Every product ever sold, by code."""
    rows = _items().select("code", "title", "category", "price_cents", "created").iter_rows()
    return [
        Product(c, title, category, cents, milliseconds(day))
        for c, title, category, cents, day in rows
    ]


def history(until: datetime, since: datetime) -> list[Basket]:
    """The baskets sold from `since` (included) up to `until` (not included), in order of time."""
    return list(_baskets(since, until))


def days(start: datetime, stop: date) -> Iterator[list[Basket]]:
    """The baskets of each day on which the shop sold, from `start` up to the day `stop`."""
    end = datetime(stop.year, stop.month, stop.day, tzinfo=UTC)
    sold = _baskets(start, end)
    for _, baskets in groupby(sold, key=lambda basket: basket.time_ms // 86_400_000):
        yield list(baskets)


def milliseconds(day: date) -> int:
    """The first millisecond of a day."""
    return (day - date(1970, 1, 1)) // timedelta(milliseconds=1)


def _baskets(since: datetime, until: datetime) -> Iterator[Basket]:
    codes = _items()["code"].to_list()
    columns = ("invoice", "time_ms", "customer", "country", "item", "quantity", "price_cents")
    rows = _lines(since, until).select(columns).iter_rows()
    for head, group in groupby(rows, key=lambda row: row[:4]):
        lines = tuple(Line(codes[row[4]], row[5], row[6]) for row in group)
        invoice, time_ms, customer, country = head
        yield Basket(invoice, time_ms, customer, country, lines)


def _lines(since: datetime, until: datetime) -> "pl.DataFrame":
    pl = _polars()
    rows = pl.scan_parquet(FOLDER / "lines.parquet").filter(
        pl.col("time") >= since.astimezone(UTC).replace(tzinfo=None),
        pl.col("time") < until.astimezone(UTC).replace(tzinfo=None),
    )
    return rows.with_columns(
        pl.col("time").dt.epoch("ms").alias("time_ms"), pl.col("country").cast(pl.String)
    ).collect()


@cache
def _items() -> "pl.DataFrame":
    return _polars().read_parquet(FOLDER / "items.parquet")


def _polars():
    """Polars, or the sentence that says how to get it."""
    try:
        import polars
    except ImportError:
        raise Unavailable(
            "polars_missing", "the shop's files need polars: pip install 'onhand[offline]'"
        ) from None
    return polars
