"""What a page asks for."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from onhand.contracts.records import Context, Id, Line

__all__ = ["SLOTS", "RecommendRequest", "Slot"]

Slot = Literal["home", "product", "cart"]
SLOTS: tuple[Slot, ...] = ("home", "product", "cart")


class RecommendRequest(Struct, frozen=True, omit_defaults=True):
    """Ask for `n` items for a visitor in a slot.

    `item` is the seed of the `product` slot: the product whose page it is. `exclude` names what
    must not appear; `filter` says which items may (see docs/filters.md). `per_brand` and
    `per_category` cap how many items of one brand or category there are, `variety` is how much
    being unlike the items before counts beside the score.
    """

    slot: Slot
    user: Id | None = None
    session: Id | None = None
    n: Annotated[int, Meta(ge=1, le=100)] = 10
    item: Id | None = None
    exclude: Annotated[list[Id], Meta(max_length=500)] = []
    context: Context = Context()
    filter: Line | None = None
    per_brand: Annotated[int, Meta(ge=1, le=100)] | None = None
    per_category: Annotated[int, Meta(ge=1, le=100)] | None = None
    variety: Annotated[float, Meta(ge=0, le=1)] = 0.0
