"""A page's items as JSON, written by compiled code.

An answer says of its items what is in columns anyway: no objects are made of them only to be
written as text.
"""

from typing import Any, Final

import numpy as np

from onhand.kernel import Array, inner_kernel
from onhand.retrieval.sources import LABELS

__all__ = ["ITEM_BYTES", "write_items"]

ITEM_BYTES: Final = 1_024
"""More than any item takes: an id is at most 128 characters, each at most six bytes."""


def _bytes(text: str) -> Array:
    return np.frombuffer(text.encode(), np.uint8)


_ID: Final = _bytes('{"id":')
_SCORE: Final = _bytes(',"score":')
_STOCK: Final = _bytes(',"stock":')
_NULL: Final = _bytes("null")
_BETWEEN: Final[Array] = np.array([f',"source":"{label}","price":' for label in LABELS], "S")
"""What follows an item's score, by the code of its source."""
_LENGTHS: Final[Array] = np.char.str_len(_BETWEEN)
_TEXTS: Final[Array] = _BETWEEN.view(np.uint8).reshape(len(LABELS), -1)


@inner_kernel
def put(out: Array, at: Any, text: Array) -> Any:
    """Write a text; return where it ends."""
    for byte in range(text.shape[0]):
        out[at + byte] = text[byte]
    return at + text.shape[0]


@inner_kernel
def put_integer(out: Array, at: Any, value: Any) -> Any:
    """Write a number, 0 and up."""
    size = np.int64(1)
    rest = value // 10
    while rest > 0:
        size += 1
        rest //= 10
    for place in range(at + size - 1, at - 1, -1):
        out[place] = 48 + value % 10
        value //= 10
    return at + size


@inner_kernel
def put_decimal(out: Array, at: Any, value: Any, digits: int) -> Any:
    """Write a number of so many digits behind the point, which are in `value` too; at least one of
    them, none that are 0 at the end."""
    if value < 0:
        out[at] = 45  # -
        at += 1
        value = -value
    unit = np.int64(1)
    for _ in range(digits):
        unit *= 10
    at = put_integer(out, at, value // unit)
    out[at] = 46  # .
    rest = value % unit
    for place in range(at + digits, at, -1):
        out[place] = 48 + rest % 10
        rest //= 10
    at += digits + 1
    while out[at - 1] == 48 and out[at - 2] != 46:
        at -= 1
    return at


@inner_kernel
def write_items(
    candidates: Array, chosen: Array, found: int, ends: Array, ids: Array, price_cents: Array,
    stock: Array, out: Array,
) -> Any:  # fmt: skip
    """Write the `found` chosen, with their live facts, as an array of `RecommendedItem`, scores to
    six digits; return its size. The JSON text of each id ends in `ids` where `ends` says, which has
    the row before it too."""
    out[0] = 91  # [
    at = np.int64(1)
    for slot in range(found):
        candidate = candidates[chosen[slot]]
        item, source = candidate.item, candidate.source
        if slot:
            out[at] = 44  # ,
            at += 1
        at = put(out, at, _ID)
        at = put(out, at, ids[ends[item] : ends[item + 1]])
        at = put(out, at, _SCORE)
        at = put_decimal(out, at, np.int64(np.rint(candidate.score * 1e6)), 6)
        put(out, at, _TEXTS[source])
        at += _LENGTHS[source]
        if price_cents[item] >= 0:
            at = put_decimal(out, at, np.int64(price_cents[item]), 2)
        else:
            at = put(out, at, _NULL)
        at = put(out, at, _STOCK)
        if stock[item] >= 0:
            at = put_integer(out, at, np.int64(stock[item]))
        else:
            at = put(out, at, _NULL)
        out[at] = 125  # }
        at += 1
    out[at] = 93  # ]
    return at + 1
