"""How well a visitor is known, by the interactions (view, click, cart, purchase) seen of them."""

from typing import Final

from onhand.retrieval.sight import Visitor
from onhand.state.state import State

__all__ = ["COLLABORATIVE_FROM", "TIERS", "find_tier"]

TIERS: Final = ("anonymous", "content", "collaborative")
COLLABORATIVE_FROM: Final = 10


def find_tier(state: State, visitor: Visitor) -> int:
    """Return the place in `TIERS` of a visitor with none, 1 to 9, or 10 and more interactions of
    the session or of the user."""
    session, user = state.session.interactions, state.user.interactions
    interactions = max(session.item(visitor.session), user.item(visitor.user))
    return int(interactions > 0) + int(interactions >= COLLABORATIVE_FROM)
