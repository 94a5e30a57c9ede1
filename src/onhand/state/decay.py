"""Decayed counts that stay integers.

A count that fades with time is usually a float multiplied at every touch: slow, and dependent on
the order of the additions. Forward decay (Cormode et al., "Forward decay: a practical time decay
model for streaming systems", ICDE 2009) instead lets *newer events weigh more*: an event at `t`
adds `2 ** ((t - landmark) / half_life)`. Ratios between counts are those of ordinary exponential
decay at any moment, reading costs nothing, and with integer weights sums do not depend on order.
When weights grow large, the landmark moves on and all counts are divided by the same power of two.
"""

from typing import Final

import numpy as np

from onhand.kernel import Array, inlined_kernel, inner_kernel

__all__ = [
    "EPOCH_HALVES",
    "EPOCH_MS",
    "HALF_LIFE_MS",
    "STEPS",
    "UNIT",
    "landmark_of",
    "weigh",
    "weight_at",
]

HALF_LIFE_MS: Final = 7 * 86_400_000
EPOCH_HALVES: Final = 20
"""Half-lives in an epoch: the landmark is the start of one."""
EPOCH_MS: Final = EPOCH_HALVES * HALF_LIFE_MS

_UNIT_BITS: Final = 10
UNIT: Final = 1 << _UNIT_BITS
"""The weight of an event at the landmark."""
STEPS: Final = 64
"""Weights that a half-life goes through."""
_FRACTIONS: Final[Array] = np.array(
    [round(2 ** (_UNIT_BITS + step / STEPS)) for step in range(STEPS)], np.int64
)


@inner_kernel
def landmark_of(time_ms: int) -> int:
    """Return the start of the epoch that `time_ms` lies in."""
    return time_ms // EPOCH_MS * EPOCH_MS


@inlined_kernel
def weigh(time_ms: int, landmark_ms: int, half_life_ms: int) -> int:
    """Return the integer weight of one unit at `time_ms`: `UNIT` at the landmark, doubling every
    half-life, 0 for what is over ten half-lives older."""
    steps = (time_ms - landmark_ms) * STEPS // half_life_ms
    halves = steps // STEPS
    fraction = _FRACTIONS[steps - halves * STEPS]
    if halves >= 0:
        return fraction << halves
    return fraction >> min(-halves, 63)


@inlined_kernel
def weight_at(time_ms: int, landmark_ms: int) -> int:
    """Return `weigh` for the half-life of the state's own counts."""
    return weigh(time_ms, landmark_ms, HALF_LIFE_MS)
