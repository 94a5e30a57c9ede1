"""Messages of the Segment tracking API, and what they are as events.

E-commerce events (https://segment.com/docs/connections/spec/ecommerce/v2/) become ours, one for
each product. Every other message is kept as an event of its own type: `page`, `identify`, or the
event's name in lower case with underscores. `userId` is our user, `anonymousId` our session, and
`messageId` makes a message idempotent.
"""

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, cast

import msgspec

from onhand.contracts.batch import LIMITS, Limits, Parsed, collect, objects_of, refuse_batch
from onhand.contracts.errors import Fault, Invalid
from onhand.contracts.explain import DECODE_ERRORS, Patience
from onhand.contracts.gate import Gate
from onhand.contracts.records import Event
from onhand.steps import Steps

__all__ = ["EVENT_NAMES", "parse_segment", "to_events"]

EVENT_NAMES: Final = {
    "Product Viewed": "view",
    "Product Clicked": "click",
    "Product Added": "cart_add",
    "Product Removed": "cart_remove",
    "Product List Viewed": "impression",
    "Product List Filtered": "impression",
    "Products Searched": "search",
    "Order Completed": "purchase",
}
"""By Segment's name; spelled with any capitals."""

_MOST_PRODUCTS: Final = 500
_NAME_LETTERS: Final = 512
"""What counts of an event's name."""
_FIELDS: Final = (
    ("userId", "user"),
    ("anonymousId", "session"),
    ("messageId", "id"),
)
_PARTS: Final = (
    ("quantity", "quantity"),
    ("price", "value"),
    ("position", "position"),
)

_BY_LOWER: Final = {name.lower(): ours for name, ours in EVENT_NAMES.items()}
_NOT_A_NAME: Final = re.compile(r"[^a-z0-9]+")
_WHOLE = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST = msgspec.json.Decoder(list[msgspec.Raw])


def parse_segment(
    gate: Gate[Event], body: bytes, now_ms: int, limits: Limits = LIMITS, kind: str | None = None
) -> Steps[Parsed[Event]]:
    """Decode a message, or a batch of them, into events.

    `kind` is what a message is that does not say it: the route's last word. Raises `Invalid`
    when the body as a whole cannot be read, `TooLarge` when it is over a limit.
    """
    try:
        whole = _WHOLE.decode(body)
        batch = whole.get("batch")
        parts = [msgspec.Raw(body)] if batch is None else _LIST.decode(batch)
    except DECODE_ERRORS as error:
        raise Invalid("malformed", f"The body is no Segment message: {error}.") from None
    if len(parts) > limits.records:
        refuse_batch(limits)
    decode = objects_of(body).decode
    values = (_read(decode, part, kind, gate.own) for part in parts)
    outcomes = gate.read_each(values, now_ms, Patience(limits.errors))
    return (yield from collect(_judge(outcomes, limits), lambda index: bytes(parts[index]), limits))


def _read(
    decode: Callable[[msgspec.Raw], Any], part: msgspec.Raw, kind: str | None, own: Container[str]
) -> dict[str, Any] | tuple[dict[str, Any], ...] | Fault:
    try:
        message = decode(part)
    except DECODE_ERRORS as error:
        return Fault("malformed", f"The message is not JSON: {error}.")
    if not isinstance(message, dict):
        return Fault("wrong_type", "A Segment message is an object.")
    return to_events(cast("dict[str, Any]", message), kind, own)


def _judge(
    outcomes: Iterable[Event | Fault | list[Event | Fault]], limits: Limits
) -> Iterator[Event | Fault | list[Event | Fault]]:
    """Refuse a message whose events are not all good by the first fault. They all count, also
    those of refused messages: there may not be more in a body than records."""
    count = 0
    for outcome in outcomes:
        if type(outcome) is not list:
            count += 1
            yield outcome
            continue
        count += len(outcome)
        if count > limits.records:
            refuse_batch(limits)
        yield next((each for each in outcome if type(each) is Fault), outcome)


def to_events(
    message: Mapping[str, Any], kind: str | None = None, own: Container[str] = ()
) -> dict[str, Any] | tuple[dict[str, Any], ...] | Fault:
    """Return the event of a message as an object, or the events of its products. Properties that
    events do not have are left out, but for events in `own`, which have a contract that knows
    them."""
    kind = _text(message.get("type")) or kind
    if not kind:
        return Fault("missing_field", "A Segment message needs `type`.", "type")
    properties = _mapping(message.get("properties"))
    common = _common(message, properties)
    if kind != "track":
        name = _text(message.get("name"))
        return common | {"type": _name(kind)} | ({"query": name} if name else {})
    name = message.get("event")
    if not isinstance(name, str) or not name:
        return Fault("missing_field", "A Segment `track` needs `event`, its name.", "event")
    ours = _BY_LOWER.get(name.lower())
    if ours is None:
        more = properties if _name(name) in own else {}
        return {**more, **common, **_product(properties), "type": _name(name)}
    common["type"] = ours
    if ours == "search":
        return common | {"query": properties.get("query")}
    products = properties.get("products")
    if not isinstance(products, list) or not products:
        return common | _product(properties)
    if len(products) > _MOST_PRODUCTS:
        most = f"A Segment event has at most {_MOST_PRODUCTS} products here."
        return Fault("length", most, "properties.products")
    return tuple(
        common | _product(_mapping(product)) | _numbered(common, place)
        for place, product in enumerate(cast("list[Any]", products))
    )


def _common(message: Mapping[str, Any], properties: Mapping[str, Any]) -> dict[str, Any]:
    common = {ours: message[theirs] for theirs, ours in _FIELDS if message.get(theirs) is not None}
    time = message.get("timestamp") or message.get("originalTimestamp")
    if time is not None:
        common["time"] = time
    if properties.get("currency") is not None:
        common["currency"] = properties["currency"]
    if "context" in message or "referrer" in properties:
        where = _where(_mapping(message.get("context")), properties)
        if where:
            common["context"] = where
    return common


def _where(context: Mapping[str, Any], properties: Mapping[str, Any]) -> dict[str, str]:
    where = {
        "device": _text(_mapping(context.get("device")).get("type")),
        "country": _text(_mapping(context.get("location")).get("country")),
        "referrer": _text(_mapping(context.get("page")).get("referrer"))
        or _text(properties.get("referrer")),
    }
    return {name: value[:64] for name, value in where.items() if value}


def _product(product: Mapping[str, Any]) -> dict[str, Any]:
    found = {ours: product[theirs] for theirs, ours in _PARTS if product.get(theirs) is not None}
    item = product.get("product_id") or product.get("sku")
    return found if item is None else found | {"item": item}


def _numbered(event: Mapping[str, Any], place: int) -> dict[str, Any]:
    """The ids of a message's second and further events, which must not repeat the first's."""
    return {"id": f"{event['id']}:{place}"} if place and "id" in event else {}


def _name(text: str) -> str:
    return _type_of(text[:_NAME_LETTERS])


@lru_cache(maxsize=1024)
def _type_of(text: str) -> str:
    name = _NOT_A_NAME.sub("_", text.lower()).strip("_")[:64]
    return name if name[:1].isalpha() else f"event_{name}"[:64]


def _mapping(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
