"""A list that was made ahead for a visitor, offered like any other source.

Its best item is worth 1 and its last a tenth, whatever the scale of the scores; so all that the
plan's own sources add, a quarter of their weight beside a list, moves its items by what the
visitor did since.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onhand.kernel import Array, kernel
from onhand.retrieval.pool import enter

__all__ = ["LIVE_SHARE", "NO_LIST", "Listed", "offer_listed"]

LIVE_SHARE: Final = 0.25
"""What the weights of a plan's sources are multiplied by when there is a list."""
LAST: Final = 0.1


class Listed(NamedTuple):
    """Rows of items with their scores and the codes of the sources that found them; the arrays
    are C-contiguous."""

    rows: NDArray[np.int32]
    scores: NDArray[np.float32]
    sources: NDArray[np.int8]


NO_LIST: Final = Listed(np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.int8))


@kernel
def offer_listed(
    candidates: Array,
    place: Array,
    size: Array,
    blocked: Array,
    rows: Array,
    scores: Array,
    sources: Array,
) -> None:
    """Enter the items of a list with their scores, from 1 down to `LAST`, and their sources."""
    if rows.shape[0] == 0:
        return
    lowest, highest = scores.min(), scores.max()
    span = max(highest - lowest, 1e-9)
    for at in range(rows.shape[0]):
        entered = enter(candidates, place, size, rows[at], blocked[rows[at]])
        if entered >= 0:
            candidate = candidates[entered]
            candidate.score += 1.0 - (1.0 - LAST) * (highest - scores[at]) / span
            candidate.best = 1.0
            candidate.source = sources[at]
