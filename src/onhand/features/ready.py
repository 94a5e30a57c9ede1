"""The ready-made features: what the default app declares."""

from typing import Final

from onhand.features.declare import (
    By,
    Feature,
    count,
    decayed,
    distinct,
    last,
    match,
    mean,
    rate,
    ratio,
    since,
    sum,
    top,
    trend,
)  # fmt: skip
from onhand.features.facts import (
    age,
    country,
    device,
    fact,
    hour,
    hours_of_stock,
    intent,
    price_position,
    relative_price,
    session_age,
    session_events,
    touched,
    weekday,
)  # fmt: skip

__all__ = ["READY", "WINDOWS", "in_zone"]

_SEEN: Final = ("click", "view")

_ITEM: Final = (
    *(
        count(_SEEN, by="item", window=window, name=f"item_clicks_{window}")
        for window in ("30s", "1h", "1d", "7d")
    ),
    *(
        sum("quantity", of="purchase", by="item", window=window, name=f"item_sales_{window}")
        for window in ("5s", "1h", "1d", "7d")
    ),
    count("cart_add", by="item", window="1d", name="item_carts_1d"),
    count("impression", by="item", window="7d", name="item_impressions_7d"),
    sum("value", of="purchase", by="item", window="7d", name="item_revenue_7d"),
    ratio(
        _SEEN, "impression", by="item", window="7d", prior=0.05, strength=50,
        name="item_click_rate_7d",
    ),
    ratio(
        "cart_add", _SEEN, by="item", window="7d", prior=0.05, strength=50,
        name="item_cart_rate_7d",
    ),
    ratio(
        "purchase", _SEEN, by="item", window="7d", prior=0.02, strength=50,
        name="item_purchase_rate_7d",
    ),
    trend(_SEEN, by="item", short="1h", long="1d", name="item_clicks_trend"),
    trend("purchase", by="item", short="1d", long="7d", name="item_purchases_trend"),
    mean("dwell_ms", of=_SEEN, by="item", window="7d", name="item_dwell_s_7d"),
    mean("position", of="impression", by="item", window="7d", name="item_position_7d"),
    decayed(_SEEN, by="item", half_life="2d", name="item_clicks_decayed"),
    decayed("purchase", by="item", half_life="7d", name="item_purchases_decayed"),
    since("purchase", by="item", name="item_since_purchase_s"),
    age(),
    fact("price"),
    fact("stock"),
    fact("slots"),
    fact("congestion"),
    fact("held"),
    price_position(),
    hours_of_stock(),
)  # fmt: skip


def _leanings(by: By, half_life: str) -> tuple[Feature, ...]:
    return (
        top("category", of=_SEEN, by=by, half_life=half_life, name=f"{by}_top_category"),
        match("category", of=_SEEN, by=by, half_life=half_life, name=f"{by}_match_category"),
        match("brand", of=_SEEN, by=by, half_life=half_life, name=f"{by}_match_brand"),
    )


_SESSION: Final = (
    count(_SEEN, by="session", window="30m", name="session_clicks_30m"),
    count("search", by="session", window="30m", name="session_searches_30m"),
    count(("cart_add", "purchase"), by="session", window="30m", name="session_carts_30m"),
    distinct("item", of=_SEEN, by="session", window="10m", name="session_items_10m"),
    mean("dwell_ms", of=_SEEN, by="session", window="30m", name="session_dwell_s_30m"),
    last("category", of=_SEEN, by="session", name="session_last_category"),
    last("price", of=_SEEN, by="session", name="session_last_price", ttl="30m"),
    since(_SEEN, by="session", name="session_since_click_s"),
    relative_price(of=_SEEN, by="session", window="30m"),
    touched(by="session"),
    session_events(),
    session_age(),
    intent(),
    *_leanings("session", "1h"),
    hour(),
    weekday(),
    device(),
    country(),
)

_USER: Final = (
    count(_SEEN, by="user", window="7d", name="user_clicks_7d"),
    count("purchase", by="user", window="30d", name="user_purchases_30d"),
    sum("value", of="purchase", by="user", window="30d", name="user_spent_30d"),
    count("session_start", by="user", window="7d", name="user_sessions_7d"),
    decayed(_SEEN, by="user", half_life="7d", name="user_clicks_decayed"),
    since("purchase", by="user", name="user_since_purchase_s"),
    touched(by="user"),
    *_leanings("user", "7d"),
)

_PAIRS: Final = (
    count(_SEEN, by="user x category", window="7d", name="user_category_clicks_7d"),
    count("purchase", by="user x category", name="user_category_purchases"),
    since(_SEEN, by="user x category", name="user_category_since_click_s"),
    count(_SEEN, by="item x country", window="1d", name="item_country_clicks_1d"),
    sum("quantity", of="purchase", by="item x country", window="7d", name="item_country_sales_7d"),
    rate(_SEEN, by="global", window="1h", name="shop_clicks_per_h"),
    rate("purchase", by="global", window="1h", name="shop_purchases_per_h"),
)

READY: Final[tuple[Feature, ...]] = (*_ITEM, *_SESSION, *_USER, *_PAIRS)


def in_zone(zone: str) -> tuple[Feature, ...]:
    """Return the ready-made features that are of calendar days, in a zone. Raises `ValueError`."""
    name = "user_sessions_7_calendar_days"
    return (count("session_start", by="user", window="7d", zone=zone, name=name),)


WINDOWS: Final = {
    "clicks_30s": "item_clicks_30s",
    "clicks_1d": "item_clicks_1d",
    "sales_5s": "item_sales_5s",
    "sales_1d": "item_sales_1d",
}
"""The live counts that an item's facts show, by the names they have there."""
