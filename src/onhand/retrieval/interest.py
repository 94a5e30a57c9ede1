"""What a visitor is about, as a direction among content vectors: see `state.content`."""

from typing import Final

import numpy as np

from onhand.kernel import Array, inner_kernel, kernel
from onhand.state.content import DIMENSIONS, LENGTH, dot

__all__ = ["FIT", "aim", "cosine"]

FIT: Final = 0.3
"""The cosine from which an item fits: unrelated ones are within 0.125 of 0, two times in three."""
_OWN: Final = 8
"""Latest items of a user that stand in for a session without interest."""


@kernel
def aim(interest: Array, recent: Array, content: Array, direction: Array) -> float:
    """Write where a session's interest points, or a user's latest items where it has none, as
    (64,) int8; return its length, 0 when nothing is known."""
    total = interest.astype(np.int64)
    if not total.any():
        for at in range(_OWN):
            if recent[at] == 0:
                break
            for dimension in range(DIMENSIONS):
                total[dimension] += (_OWN - at) * np.int64(content[recent[at], dimension])
    largest = np.abs(total).max()
    if largest == 0:
        return 0.0
    square = 0
    for dimension in range(DIMENSIONS):
        value = total[dimension] * 127 // largest
        direction[dimension] = value
        square += value * value
    return np.sqrt(square)


@inner_kernel
def cosine(vector: Array, direction: Array, length: float) -> float:
    """Return the cosine of an item's vector with a direction of a `length` above 0."""
    return dot(vector, direction) / (LENGTH * length)
