"""How well a visitor is known, by the interactions (view, click, cart, purchase) seen of them."""

__all__ = ["COLLABORATIVE_FROM", "tier"]

COLLABORATIVE_FROM = 10


def tier(interactions: int) -> str:
    """Return `anonymous` (none), `content` (1 to 9) or `collaborative` (10 and more)."""
    if interactions == 0:
        return "anonymous"
    return "content" if interactions < COLLABORATIVE_FROM else "collaborative"
