"""Foresight: what will probably be gone before the visitor clicks.

An item's sales are taken for a Poisson process. What is known of its rate are the latest sales: so
many pieces (`RUSH_PIECES` at most) in so much time that the item was on sale, and the silence since
the last. With a prior of no sale in `HORIZON_MS` the mean of the rate is

    pieces / (horizon + time they took + silence)

so no more is ever expected within the horizon than was seen, and the rate fades while nothing is
sold. The fold keeps the pieces and their time (`state.fold.sell`). Time when the item was sold out
does not count: a delivery is as sought after as the lot before it from its first sale on.

The chance that `stock` pieces are sold within the horizon is P(N >= stock) for N ~ Poisson(rate x
horizon), by the cube root approximation of Wilson and Hilferty (PNAS 1931), within 0.01. Below
`HOLD_FROM` it takes its share of the item's score; from there on the item is held back, and shown
only where the page would be short without it.
"""

import math
from typing import Final

import numpy as np

from onhand.kernel import Array, inner_kernel
from onhand.state.barriers import SELLING_OUT
from onhand.state.fold import RUSH_GAP_MS

__all__ = ["HOLD_FROM", "HORIZON_MS", "foresee", "gone_chance", "release"]

HORIZON_MS: Final = 5_000
"""How far ahead: about what visitors take to click."""
HOLD_FROM: Final = 0.8
"""The chance from which an item is held back."""


@inner_kernel
def gone_chance(stock: int, pieces: int, span_ms: int, sold_ms: int, now_ms: int) -> float:
    """Return the chance that an item is sold out within `HORIZON_MS`: 0 where its stock is not
    tracked or it is in no rush. `pieces` were sold in `span_ms`, the last of them at `sold_ms`,
    negative where it was sold out since."""
    silence_ms = max(now_ms - abs(sold_ms), 0)
    if stock <= 0 or pieces == 0 or silence_ms > RUSH_GAP_MS:
        return 0.0
    expected = HORIZON_MS * pieces / (HORIZON_MS + span_ms + silence_ms)
    if stock >= 2 * expected + 6:  # less than 0.0001
        return 0.0
    if expected >= 8 * stock:  # more than 0.9995
        return 1.0
    deviations = 3 * math.sqrt(stock) * (np.cbrt(expected / stock) - 1 + 1 / (9 * stock))
    return 0.5 * math.erfc(-deviations / math.sqrt(2.0))


@inner_kernel
def foresee(
    candidates: Array, size: int, stock: Array, pieces: Array, span_ms: Array, sold_ms: Array,
    now_ms: int,
) -> None:  # fmt: skip
    """Demote the candidates that may be gone soon, and hold back those that probably will."""
    for at in range(size):
        candidate = candidates[at]
        item = candidate.item
        if candidate.reason != 0 or pieces[item] == 0:
            continue
        chance = gone_chance(stock[item], pieces[item], span_ms[item], sold_ms[item], now_ms)
        if chance >= HOLD_FROM:
            candidate.reason = SELLING_OUT
        else:
            candidate.score *= 1.0 - chance


@inner_kernel
def release(
    candidates: Array, size: int, stock: Array, pieces: Array, span_ms: Array, sold_ms: Array,
    now_ms: int,
) -> int:  # fmt: skip
    """Let those that were held back onto the page, demoted; return how many there are."""
    held = 0
    for at in range(size):
        candidate = candidates[at]
        if candidate.reason == SELLING_OUT:
            item = candidate.item
            candidate.reason = 0
            candidate.score *= 1.0 - gone_chance(
                stock[item], pieces[item], span_ms[item], sold_ms[item], now_ms
            )
            held += 1
    return held
