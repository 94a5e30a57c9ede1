import re
from datetime import UTC, date, datetime

from onhand.offline.shop.ledger import LAST_DAY, catalogue, days, history

PRODUCT = re.compile(r"\d{5}[A-Z]{0,2}|DCGS\d{4}[A-Z]?|DCGSS(BOY|GIRL)")


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_the_catalogue_has_every_product_once_and_nothing_else():
    products = catalogue()
    assert len(products) == 4_717
    assert len({product.code for product in products}) == 4_717
    assert all(PRODUCT.fullmatch(product.code) for product in products)
    assert all(product.price_cents > 0 for product in products)
    assert not any("voucher" in product.title.lower() for product in products)


def test_titles_are_in_title_case():
    titles = {product.code: product.title for product in catalogue()}
    assert titles["85123A"] == "White Hanging Heart T-Light Holder"
    assert titles["22423"] == "Regency Cakestand 3 Tier"


def test_most_products_have_a_derived_category():
    categories = {product.code: product.category for product in catalogue()}
    assert categories["85123A"] == "home/candles"
    assert categories["22423"] == "kitchen/tableware"
    known = sum(category != "other" for category in categories.values())
    assert known / len(categories) > 0.95


def test_a_basket_is_an_invoice_as_it_was():
    baskets = history(day("2010-12-02"), day("2010-12-01"))
    first = next(basket for basket in baskets if basket.invoice == 536365)
    assert (first.customer, first.country) == (17850, "GB")
    assert first.time_ms == int(day("2010-12-01T08:26").timestamp() * 1000)
    assert first.lines[0] == ("85123A", 6, 255)
    assert len(first.lines) == 7


def test_history_is_in_order_of_time_and_within_its_bounds():
    since, until = day("2011-09-01"), day("2011-09-08T10:00")
    baskets = history(until, since)
    times_ms = [basket.time_ms for basket in baskets]
    assert times_ms == sorted(times_ms)
    assert times_ms[0] >= since.timestamp() * 1000
    assert times_ms[-1] < until.timestamp() * 1000
    assert len({basket.invoice for basket in baskets}) == len(baskets)
    assert all(line.quantity > 0 < line.price_cents for b in baskets for line in b.lines)


def test_days_come_one_by_one_and_begin_where_history_ends():
    opening = day("2011-11-10T10:00")
    week = list(days(opening, date(2011, 11, 17)))
    assert [datetime.fromtimestamp(d[0].time_ms / 1000, UTC).day for d in week] == [
        10, 11, 13, 14, 15, 16,
    ]  # fmt: skip  # the shop is closed on Saturdays
    assert week[0][0].time_ms >= opening.timestamp() * 1000
    before = history(opening, day("2011-11-10"))
    whole = history(day("2011-11-11"), day("2011-11-10"))
    assert before + week[0] == whole


def test_nothing_is_sold_after_the_last_day():
    assert list(days(datetime.combine(LAST_DAY, datetime.max.time(), UTC), date(2012, 1, 1))) == []


def test_a_sale_taken_back_within_a_day_is_no_sale():
    baskets = history(day("2011-12-10"), day("2011-12-09"))
    sold = [line for basket in baskets for line in basket.lines if line.code == "23843"]
    assert sold == []  # 80,995 paper birdies, ordered and cancelled within 12 minutes
