"""Messages of the Segment tracking API, and what they are as events.

E-commerce events (https://segment.com/docs/connections/spec/ecommerce/v2/) become ours, one for
each product. Every other message is kept as an event of its own type: `page`, `identify`, or the
event's name in lower case with underscores. `userId` is our user, `anonymousId` our session, and
`messageId` makes a message idempotent.
"""

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar, cast

import msgspec

from onhand.contracts.batch import LIMITS, Limits, Parsed, collect, refuse_batch
from onhand.contracts.errors import Fault, Invalid
from onhand.contracts.explain import DECODE_ERRORS
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

T = TypeVar("T")

_MOST_PRODUCTS: Final = 500

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
    outcomes = _read_each(gate, parts, kind, now_ms, limits)
    return (yield from collect(outcomes, lambda index: bytes(parts[index]), limits))


def to_events(
    message: Mapping[str, Any], kind: str | None = None, own: Container[str] = ()
) -> Iterable[dict[str, Any]] | Fault:
    """Return the events of one message as objects. Properties that events do not have are left
    out, but for events in `own`, which have a contract that knows them."""
    kind = _text(message.get("type")) or kind
    if not kind:
        return Fault("missing_field", "A Segment message needs `type`.", "type")
    properties = _mapping(message.get("properties"))
    common = _common(message, properties)
    if kind != "track":
        name = _text(message.get("name"))
        return [common | {"type": _name(kind)} | ({"query": name} if name else {})]
    name = message.get("event")
    if not isinstance(name, str) or not name:
        return Fault("missing_field", "A Segment `track` needs `event`, its name.", "event")
    ours = _BY_LOWER.get(name.lower())
    if ours is None:
        more = properties if _name(name) in own else {}
        return [{**more, **common, **_product(properties), "type": _name(name)}]
    if ours == "search":
        return [common | {"type": ours, "query": properties.get("query")}]
    products = properties.get("products")
    if not isinstance(products, list) or not products:
        products = [properties]
    if len(products) > _MOST_PRODUCTS:
        most = f"A Segment event has at most {_MOST_PRODUCTS} products here."
        return Fault("length", most, "properties.products")
    return (
        event | {"type": ours} | _numbered(event, place)
        for place, product in enumerate(cast("list[Any]", products))
        for event in (common | _product(_mapping(product)),)
    )


def _read_each(
    gate: Gate[Event], parts: Sequence[msgspec.Raw], kind: str | None, now_ms: int, limits: Limits
) -> Iterator[Fault | list[Event | Fault]]:
    """Decode messages into their events, or the first fault of each. Those of refused messages
    count too: there may not be more events in a body than records."""
    count = 0
    for part in parts:
        found = _decode(part, kind, gate.own)
        if isinstance(found, Fault):
            yield found
            continue
        outcomes: list[Event | Fault] = []
        for outcome in gate.read_each(found, now_ms):
            outcomes.append(cast("Event | Fault", outcome))
            if type(outcome) is Fault:
                break
        count += len(outcomes)
        if count > limits.records:
            refuse_batch(limits)
        last = outcomes[-1]
        yield last if type(last) is Fault else outcomes


def _decode(
    part: msgspec.Raw, kind: str | None, own: Container[str]
) -> Iterable[dict[str, Any]] | Fault:
    try:
        message = msgspec.json.decode(part)
    except DECODE_ERRORS as error:
        return Fault("malformed", f"The message is not JSON: {error}.")
    if not isinstance(message, dict):
        return Fault("wrong_type", "A Segment message is an object.")
    return to_events(cast("dict[str, Any]", message), kind, own)


def _common(message: Mapping[str, Any], properties: Mapping[str, Any]) -> dict[str, Any]:
    fields = {
        "user": message.get("userId"),
        "session": message.get("anonymousId"),
        "time": message.get("timestamp") or message.get("originalTimestamp"),
        "id": message.get("messageId"),
        "currency": properties.get("currency"),
        "context": _where(_mapping(message.get("context")), properties),
    }
    return _present(fields.items())


def _where(context: Mapping[str, Any], properties: Mapping[str, Any]) -> dict[str, str] | None:
    if not context and "referrer" not in properties:
        return None
    where = {
        "device": _text(_mapping(context.get("device")).get("type")),
        "country": _text(_mapping(context.get("location")).get("country")),
        "referrer": _text(_mapping(context.get("page")).get("referrer"))
        or _text(properties.get("referrer")),
    }
    return {name: value[:64] for name, value in where.items() if value} or None


def _product(product: Mapping[str, Any]) -> dict[str, Any]:
    return _present(
        (
            ("item", product.get("product_id") or product.get("sku")),
            ("quantity", product.get("quantity")),
            ("value", product.get("price")),
            ("position", product.get("position")),
        )
    )


def _numbered(event: Mapping[str, Any], place: int) -> dict[str, Any]:
    """The ids of a message's second and further events, which must not repeat the first's."""
    return {"id": f"{event['id']}:{place}"} if place and "id" in event else {}


def _present(fields: Iterable[tuple[str, T | None]]) -> dict[str, T]:
    return {name: value for name, value in fields if value is not None}


def _name(text: str) -> str:
    name = _NOT_A_NAME.sub("_", text.lower()).strip("_")[:64]
    return name if name[:1].isalpha() else f"event_{name}"[:64]


def _mapping(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
