"""The cohorts: guests, who name no user; newcomers, users of whom little was seen; those known.

What each buys differs: to the bundled shop's visitors without a history, what is popular in their
cohort was worth an NDCG@10 of .101 and .094 in two spans of two months, what is popular at large
.071 and .082. A cohort is smaller than the world, so its counts fade half as fast.
"""

from typing import Final

from onhand.kernel import shared_kernel
from onhand.state import decay

__all__ = ["COHORTS", "HALF_LIFE_MS", "cohort_of"]

COHORTS: Final = 3
GUESTS: Final = 0
NEWCOMERS: Final = 1
KNOWN: Final = 2
KNOWN_FROM: Final = 30
"""Interactions of a user who is no newcomer any more."""
HALF_LIFE_MS: Final = 2 * decay.HALF_LIFE_MS


@shared_kernel
def cohort_of(has_user: bool, interactions: int) -> int:
    """Return the cohort of a visitor by the interactions that were seen of the user."""
    if not has_user:
        return GUESTS
    return KNOWN if interactions >= KNOWN_FROM else NEWCOMERS
