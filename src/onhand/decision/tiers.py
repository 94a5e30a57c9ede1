"""How well a visitor is known, by the interactions (view, click, cart, purchase) seen of them."""

from typing import Final

from onhand.kernel import shared_kernel
from onhand.retrieval.sight import Visitor
from onhand.state.state import State

__all__ = ["COLLABORATIVE_FROM", "TIERS", "find_tier", "tier_of"]

TIERS: Final = ("anonymous", "content", "collaborative")
COLLABORATIVE_FROM: Final = 10


@shared_kernel
def tier_of(interactions: int) -> int:
    """Return the place in `TIERS` of a visitor of whom so many interactions were seen."""
    return int(interactions > 0) + int(interactions >= COLLABORATIVE_FROM)


def find_tier(state: State, visitor: Visitor) -> int:
    """Return the place in `TIERS` of a visitor with none, 1 to 9, or 10 and more interactions of
    the session or of the user."""
    session, user = state.session.interactions, state.user.interactions
    return tier_of(max(session.item(visitor.session), user.item(visitor.user)))
