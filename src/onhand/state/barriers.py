"""Why an item must not be shown. One code an item, kept current by the fold.

Codes below `ITEM_REASONS` are facts about the item; the others hold for one request only.
"""

from typing import Any, Final

from onhand.kernel import inner_kernel

__all__ = ["REASONS", "refresh"]

UNLISTED: Final = 1
HELD: Final = 2
SOLD_OUT: Final = 3
UNDELIVERABLE: Final = 4
EXCLUDED: Final = 5
SEED: Final = 6
IN_CART: Final = 7
BOUGHT: Final = 8
FILTERED: Final = 9
SELLING_OUT: Final = 10

REASONS: Final = (
    "",
    "unlisted",
    "held",
    "sold_out",
    "undeliverable",
    "excluded",
    "seed",
    "in_cart",
    "bought",
    "filtered",
    "selling_out",
)
"""The reasons by code; code 0 is no barrier."""


@inner_kernel
def refresh(items: Any, item: int) -> None:
    """Set the barrier of one row of `ItemColumns` from its facts."""
    if items.listed[item] == 0:
        code = UNLISTED
    elif items.held[item] != 0:
        code = HELD
    elif items.stock[item] == 0:
        code = SOLD_OUT
    elif items.slots[item] == 0:
        code = UNDELIVERABLE
    else:
        code = 0
    items.blocked[item] = code
