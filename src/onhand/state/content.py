"""Content vectors: what an item is about, in 64 small integers.

Every word of the title, category, brand and tags, and the price's band, has a hash whose 64 bits
are a vector of signs; an item's vector is the weighted sum of its words', scaled to length 127
and rounded to 8 bits (feature hashing: Weinberger et al., ICML 2009; dense random signs:
Achlioptas, "Database-friendly random projections", PODS 2001). So what is alike has a high cosine,
a search query lies in the same space, and the vector follows from the item alone. A session's
interest is a decayed sum of the vectors of what it touched, changed by each event and never added
up anew.
"""

import math
import re
from functools import lru_cache
from hashlib import blake2b
from typing import Final

import numpy as np

from onhand.contracts.records import Item
from onhand.kernel import Array, inner_kernel, kernel

__all__ = [
    "DIMENSIONS",
    "LENGTH",
    "dot",
    "item_words",
    "move",
    "pack",
    "price_band",
    "query_words",
    "signs",
    "unpack",
]

DIMENSIONS: Final = 64
LENGTH: Final = 127.0
_WORD: Final = re.compile(r"\w\w+")
_LEVEL_WEIGHT: Final = 0.7
_BAND_WEIGHT: Final = 0.5

KEEP: Final = 13
"""Sixteenths of a session's interest that stay when it moves."""


def price_band(price: float) -> int:
    """Return the number of the price's band, each half again as dear as the one before."""
    return 1 + int(math.log(1.0 + price) / math.log(1.5))


def item_words(item: Item, band: int) -> dict[str, float]:
    """Return the words of an item with their weights; `band` is its price's, 0 unknown."""
    words = dict.fromkeys(_words(" ".join(item.tags)), _LEVEL_WEIGHT) if item.tags else {}
    words |= _category_words(item.category)
    words |= dict.fromkeys(_words(item.title), 1.0)
    words |= _brand_words(item.brand)
    if band:
        words[f"price {band}"] = _BAND_WEIGHT
    return words


@lru_cache(8_192)
def _category_words(category: str) -> dict[str, float]:
    words = dict.fromkeys(_words(category), _LEVEL_WEIGHT)
    levels = category.split("/") if category else []
    return words | {"/" + "/".join(levels[: at + 1]): 1.0 for at in range(len(levels))}


@lru_cache(8_192)
def _brand_words(brand: str) -> dict[str, float]:
    return dict.fromkeys(_words(brand), 1.0)


def query_words(query: str) -> dict[str, float]:
    """Return the words of a search, in the space of the items'."""
    return dict.fromkeys(_words(query), 1.0)


def pack(words: dict[str, float]) -> list[int]:
    """Return the vector of weighted words as eight integers of eight bytes each."""
    count = len(words)
    hashes = np.fromiter(map(signs, words), np.int64, count)
    weights = np.fromiter(words.values(), np.float64, count)
    packed: list[int] = _pack(hashes, weights).tolist()
    return packed


def _words(text: str) -> list[str]:
    """Return the words of two letters and more, in lower case, those with a plural's s without."""
    return [
        word[:-1] if len(word) > 3 and word[-1] == "s" else word
        for word in _WORD.findall(text.lower())
    ]


@lru_cache(65_536)
def signs(word: str) -> int:
    """Return the 64 signs of a word, as the bits of an integer."""
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little", signed=True)


@kernel
def _pack(hashes: Array, weights: Array) -> Array:
    """Return the packed sum of vectors of signs, (n,) int64, with their weights, (n,) float64."""
    total = np.zeros(DIMENSIONS, np.float64)
    for word in range(hashes.shape[0]):
        for at in range(DIMENSIONS):
            total[at] += weights[word] if (hashes[word] >> at) & 1 else -weights[word]
    length = np.sqrt((total * total).sum())
    packed = np.zeros(8, np.int64)
    if length > 0.0:
        for at in range(DIMENSIONS):
            value = np.int64(np.rint(total[at] * LENGTH / length))
            packed[at // 8] |= (value & 255) << (8 * (at % 8))
    return packed


@inner_kernel
def unpack(vector: Array, packed: Array) -> None:
    """Write eight integers, (8,) int64, as a vector, (64,) int8."""
    for word in range(8):
        for byte in range(8):
            vector[8 * word + byte] = np.int8((packed[word] >> (8 * byte)) & 255)


@inner_kernel
def dot(vector: Array, direction: Array) -> Array:
    """Return the product of two vectors of 8-bit integers. Sums of 32 bits take half the time
    of sums of 64."""
    total = np.int32(0)
    for at in range(DIMENSIONS):
        total = np.int32(total + np.int32(np.int16(vector[at]) * np.int16(direction[at])))
    return np.int64(total)


@inner_kernel
def move(interest: Array, vector: Array, weight: int) -> None:
    """Move a session's interest, (64,) int16, towards a vector, (64,) int8, or away from it."""
    for at in range(DIMENSIONS):
        interest[at] = ((np.int32(interest[at]) * KEEP) >> 4) + weight * np.int32(vector[at])
