"""Features that are not counted: facts about the item, the moment, the visitor, and mixtures."""

from typing import Final, Unpack

from onhand.features import accumulators as kept
from onhand.features import read
from onhand.features.declare import By, Events, Feature, Options, build, distinct, match, mean
from onhand.features.declare import count as counted
from onhand.features.declare import sum as summed
from onhand.features.windows import parse_duration_ms

__all__ = [
    "age", "country", "device", "fact", "hour", "hours_of_stock", "intent", "price_position",
    "relative_price", "session_age", "session_events", "touched", "weekday",
]  # fmt: skip

_MONTH_S: Final = 30 * 86_400.0
_FACTS: Final = {
    "price": (read.PRICE, "float", "currency", 0.0, "The price now."),
    "stock": (read.STOCK, "int", "pieces", 1e6, "Pieces left; a million where not tracked."),
    "slots": (read.OPEN_SLOTS, "int", "slots", 1e6, "Open fulfilment slots; a million: unknown."),
    "congestion": (read.CONGESTION, "float", "share", 0.0, "Congestion of fulfilment, 0 to 1."),
    "held": (read.HELD, "bool", "", 0.0, "1 while a policy flag holds the item off pages."),
    "listed": (read.LISTED, "bool", "", 0.0, "1 while the item is in the catalogue."),
    "category": (read.CATEGORY, "category", "", 0.0, "The item's category path."),
    "brand": (read.BRAND, "brand", "", 0.0, "The item's brand."),
}


def fact(which: str, **options: Unpack[Options]) -> Feature:
    """A fact about the item as it stands now: price, stock, slots, congestion, held, listed,
    category or brand."""
    if which not in _FACTS:
        raise ValueError(f"{which!r} is no fact about an item; known are {', '.join(_FACTS)}")
    place, kind, unit, default, doc = _FACTS[which]
    return build(
        options,
        name=f"item_{which}",
        doc=doc,
        type=kind,
        unit=unit,
        default=default,
        entities=("item",),
        code=read.FACT,
        parameter=place,
    )


def age(**options: Unpack[Options]) -> Feature:
    """Hours since the item was created."""
    return build(
        options,
        name="item_age_h",
        doc="Hours since the item was created.",
        unit="h",
        default=10 * 8_760.0,
        entities=("item",),
        code=read.FACT,
        parameter=read.AGE,
    )


def price_position(**options: Unpack[Options]) -> Feature:
    """The share of its category's listed items that are cheaper, in steps of a quarter octave."""
    return build(
        options,
        name="item_price_position",
        doc="Share of the category's listed items that are cheaper; those of the same price step "
        "count half.",
        unit="share",
        default=0.5,
        entities=("item",),
        code=read.PRICE_POSITION,
    )


def hours_of_stock(*, window: str = "1d", **options: Unpack[Options]) -> Feature:
    """Hours until the stock is sold at the velocity of the window; the default is the most."""
    sold = summed("quantity", of="purchase", by="item", window=window)
    return build(
        options,
        name="item_hours_of_stock",
        doc=f"Hours until the stock is sold out at the velocity of the last {window}, a year at "
        "most.",
        unit="h",
        default=8_760.0,
        entities=("item",),
        code=read.HOURS_OF_STOCK,
        needs=sold.needs,
        buckets=sold.buckets,
        floats=(parse_duration_ms(window) / 3_600_000,),
    )


def _of_the_moment(name: str, doc: str, code: int, options: Options) -> Feature:
    return build(options, name=name, doc=doc, type="int", entities=("session",), code=code)


def hour(**options: Unpack[Options]) -> Feature:
    """The hour of the day in the visitor's zone, 0 to 23: that of the country, else the app's."""
    return _of_the_moment("hour", "Hour of the day in the visitor's zone.", read.HOUR, options)


def weekday(**options: Unpack[Options]) -> Feature:
    """The day of the week in the visitor's zone, Monday 0."""
    doc = "Day of the week in the visitor's zone, Monday 0."
    return _of_the_moment("weekday", doc, read.WEEKDAY, options)


def device(**options: Unpack[Options]) -> Feature:
    """The visitor's kind of device, as asked for, else as the session last said."""
    doc = "The visitor's kind of device."
    return build(
        options, name="device", doc=doc, type="device", entities=("session",), code=read.DEVICE
    )


def country(**options: Unpack[Options]) -> Feature:
    """The visitor's country, as asked for, else as the session last said."""
    doc = "The visitor's country."
    return build(
        options, name="country", doc=doc, type="country", entities=("session",), code=read.COUNTRY
    )


def session_age(**options: Unpack[Options]) -> Feature:
    """Seconds since the session's first event."""
    doc = "Seconds since the session's first event."
    return build(
        options,
        name="session_age_s",
        doc=doc,
        unit="s",
        entities=("session",),
        code=read.SESSION_AGE,
    )


def session_events(**options: Unpack[Options]) -> Feature:
    """How many events the session has."""
    doc = "Events of the session so far."
    return build(
        options,
        name="session_events",
        doc=doc,
        type="int",
        unit="events",
        entities=("session",),
        code=read.SESSION_EVENTS,
    )


def intent(*, leaning: float = 0.6, **options: Unpack[Options]) -> Feature:
    """What the session is about: 2 buying (put something in the cart or bought in 30 minutes),
    1 comparing (looked at two or more items in 10 minutes, mostly of one category), 0 browsing."""
    buying = counted(("cart_add", "purchase"), by="session", window="30m")
    looked = distinct("item", of=("click", "view"), by="session", window="10m")
    leans = match("category", of=("click", "view"), by="session", half_life="1h")
    return build(
        options,
        name="session_intent",
        doc="What the session is about: 0 browsing, 1 comparing, 2 buying.",
        type="intent",
        entities=("session",),
        code=read.INTENT,
        needs=(*buying.needs, *looked.needs, *leans.needs),
        buckets=buying.buckets,
        parameter=looked.parameter,
        floats=(leaning,),
    )


def touched(*, by: By, **options: Unpack[Options]) -> Feature:
    """Seconds since this visitor last touched this item, of the latest 20 (session) or 30 (user);
    the default, a month, where it is not among them."""
    if by not in ("session", "user"):
        raise ValueError(f"who touched an item is a session or a user, not {by!r}")
    return build(
        options,
        name=f"{by}_touched_s",
        doc=f"Seconds since this {by} last touched the item; a month where not of late.",
        unit="s",
        default=_MONTH_S,
        entities=(by, "item"),
        code=read.TOUCHED,
        parameter=kept.SESSION if by == "session" else kept.USER,
    )


def relative_price(*, of: Events, by: By, window: str, **options: Unpack[Options]) -> Feature:
    """The item's price over the mean price of what the visitor touched in the window."""
    mean_price = mean("price", of=of, by=by, window=window)
    return build(
        options,
        name=f"{by}_relative_price",
        doc=f"The item's price over the mean price that the {by} touched in {window}.",
        unit="ratio",
        default=1.0,
        entities=(by, "item"),
        code=read.RELATIVE_PRICE,
        needs=mean_price.needs,
        buckets=mean_price.buckets,
    )
