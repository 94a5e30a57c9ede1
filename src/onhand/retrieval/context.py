"""What visitors begin with in a context: a country, a referrer, a device, an hour of the day.

The share of an item in each context's sketch, smoothed towards its share in the world by `PRIOR`
events (Dirichlet smoothing: Zhai and Lafferty, SIGIR 2001), so that a context of few events says
little. All that is known of a visitor without a history.
"""

from typing import Final

from onhand.kernel import Array, inner_kernel, kernel
from onhand.retrieval.pool import offer

__all__ = ["offer_context"]

PRIOR: Final = 10.0
QUOTA: Final = 32


@kernel
def offer_context(
    candidates: Array, place: Array, size: Array, blocked: Array, members: Array, weights: Array,
    world: Array, world_weights: Array, unit: int,
) -> None:  # fmt: skip
    """Offer the smoothed shares of one context, its own items and the world's; `unit` is what an
    event of now weighs."""
    total = float(weights.sum())
    if total == 0.0:
        return
    trust = total / (total + PRIOR * unit)
    _offer_shares(candidates, place, size, blocked, members, weights, trust / total)
    everything = float(world_weights.sum())
    share = (1.0 - trust) / everything
    _offer_shares(candidates, place, size, blocked, world, world_weights, share)


@inner_kernel
def _offer_shares(
    candidates: Array, place: Array, size: Array, blocked: Array, members: Array, weights: Array,
    scale: float,
) -> None:  # fmt: skip
    left = QUOTA
    for slot in range(members.shape[0]):
        if members[slot] == 0 or left == 0:
            break
        left -= blocked[members[slot]] == 0
        offer(candidates, place, size, blocked, members[slot], scale * weights[slot])
