"""The records: everything that can change a decision, and the whole content of the log.

Four kinds of fact enter: what a visitor did (`Event`), what the shop sells (`Item`, `ItemPatch`,
`ItemDelete`), how it stands right now (`Signal`), and what was decided about the engine itself
(`Control`). The structs are the schema: limits are part of the types, and the OpenAPI document
is generated from them.
"""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

__all__ = [
    "EVENT_TYPES",
    "Context",
    "Control",
    "Event",
    "Fulfilment",
    "Item",
    "ItemDelete",
    "ItemPatch",
    "Record",
    "Signal",
]

EVENT_TYPES = (
    "view",
    "click",
    "hover",
    "search",
    "impression",
    "cart_add",
    "cart_remove",
    "purchase",
)
"""The standard event types. Others are accepted and stored, and count as no interaction."""

Id = Annotated[str, Meta(min_length=1, max_length=128)]
Word = Annotated[str, Meta(min_length=1, max_length=64)]
Line = Annotated[str, Meta(max_length=512)]
Time = Annotated[int, Meta(ge=-(2**62), le=2**62)] | Annotated[str, Meta(max_length=40)]
Price = Annotated[float, Meta(ge=0, le=10_000_000)]
Stock = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Flags = Annotated[list[Word], Meta(max_length=16)]
Attribute = Annotated[str, Meta(max_length=1024)] | float | bool
Attributes = Annotated[dict[Word, Attribute], Meta(max_length=64)]
Body = Annotated[dict[Word, Any], Meta(max_length=64)]
Currency = Annotated[str, Meta(min_length=3, max_length=3)]


class Context(Struct, omit_defaults=True, frozen=True, gc=False):
    """Where the visitor is: what a decision may use before it knows anything else."""

    device: Word | None = None
    country: Word | None = None
    referrer: Line | None = None


class Event(Struct, tag_field="kind", tag="event", omit_defaults=True, gc=False):
    """Something a visitor did.

    `time` is RFC 3339 or epoch milliseconds on the way in, epoch milliseconds in the log; without
    it, the time of arrival. `id` makes the event idempotent: sent twice, it counts once.
    """

    type: Word
    user: Id | None = None
    session: Id | None = None
    item: Id | None = None
    time: Time | None = None
    id: Id | None = None
    value: Annotated[float, Meta(ge=-1e9, le=1e9)] | None = None
    quantity: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    query: Line | None = None
    position: Annotated[int, Meta(ge=0, le=10_000)] | None = None
    dwell_ms: Annotated[int, Meta(ge=0, le=86_400_000)] | None = None
    decision: Id | None = None
    context: Context | None = None
    currency: Currency | None = None
    attributes: Attributes | None = None


class Fulfilment(Struct, omit_defaults=True, frozen=True):
    """How well the item can be delivered now: open `slots`, and `congestion` from 0 to 1."""

    slots: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    congestion: Annotated[float, Meta(ge=0, le=1)] | None = None


class Item(Struct, tag_field="kind", tag="item", omit_defaults=True):
    """A whole catalogue entry; it replaces the one before.

    `category` is a path (`home/kitchen/mugs`), `price` in the shop's currency. A feed that knows
    neither price nor stock leaves both out, and the live values stay; `stock` null means that
    stock is not tracked.
    """

    id: Id
    title: Line = ""
    category: Annotated[str, Meta(max_length=256)] = ""
    brand: Annotated[str, Meta(max_length=128)] = ""
    price: Price | UnsetType = UNSET
    stock: Stock | None | UnsetType = UNSET
    tags: Annotated[list[Word], Meta(max_length=64)] = []
    text: Annotated[str, Meta(max_length=10_000)] = ""
    created: Time | None = None
    attributes: Attributes = {}
    currency: Currency | None = None


class ItemPatch(Struct, tag_field="kind", tag="item_patch", omit_defaults=True):
    """The fields of an item that change; what is left out stays."""

    id: Id
    title: Line | UnsetType = UNSET
    category: Annotated[str, Meta(max_length=256)] | UnsetType = UNSET
    brand: Annotated[str, Meta(max_length=128)] | UnsetType = UNSET
    price: Price | UnsetType = UNSET
    stock: Stock | None | UnsetType = UNSET
    tags: Annotated[list[Word], Meta(max_length=64)] | UnsetType = UNSET
    text: Annotated[str, Meta(max_length=10_000)] | UnsetType = UNSET
    created: Time | UnsetType = UNSET
    attributes: Attributes | UnsetType = UNSET


class ItemDelete(Struct, tag_field="kind", tag="item_delete", omit_defaults=True):
    """The item is gone; what visitors did with it stays known."""

    id: Id


class Signal(Struct, tag_field="kind", tag="signal", omit_defaults=True, gc=False):
    """Fast facts about an item: any of stock, price, policy holds, fulfilment.

    An item with any flag is held off every page; an empty list lifts the hold.
    """

    item: Id
    stock: Stock | None | UnsetType = UNSET
    price: Price | UnsetType = UNSET
    flags: Flags | UnsetType = UNSET
    fulfilment: Fulfilment | UnsetType = UNSET
    currency: Currency | None = None


class Control(Struct, tag_field="kind", tag="control", omit_defaults=True):
    """A decision about the engine itself (a contract, a rule, an experiment, a model), ordered
    like the rest.

    The last `body` under a `name`, any JSON object, holds; an empty one takes it back.
    """

    name: Id
    body: Body = {}


Record = Event | Item | ItemPatch | ItemDelete | Signal | Control
