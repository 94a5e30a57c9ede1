"""The slots: which sources fill a page, and how much each counts.

The score of an item is the sum over the slot's sources of weight x value, where a source's best
item has value 1. Ties go to the more popular item. Where a source has nothing to say (a visitor
nobody knows, an empty cart), the others decide.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from onhand.contracts.requests import Slot
from onhand.retrieval import followers, newest, popular
from onhand.retrieval.pool import Pool
from onhand.retrieval.visitor import Visitor
from onhand.state.state import State

__all__ = ["FILL", "PLANS", "SIMILAR", "SOURCES", "Plan", "Step"]

Source = Callable[[State, Visitor, Pool, int, float], None]


class Step(NamedTuple):
    """One source of a plan: its function, its place in `SOURCES`, its weight."""

    source: Source
    code: int
    weight: float


class Plan(NamedTuple):
    """How a slot is filled; `repeat_bought` lets it show what the visitor has bought."""

    steps: tuple[Step, ...]
    repeat_bought: bool


SOURCES: Final = (
    "transitions",
    "copurchases",
    "history",
    "popular_in_country",
    "popular",
    "newest",
)
FILL: Final = SOURCES.index("popular")


def _plan(*weighted: tuple[Source, str, float], repeat_bought: bool) -> Plan:
    steps = tuple(Step(source, SOURCES.index(name), weight) for source, name, weight in weighted)
    return Plan(steps, repeat_bought)


PLANS: Final[dict[Slot, Plan]] = {
    "home": _plan(
        (followers.transitions, "transitions", 1.0),
        (followers.copurchases, "copurchases", 0.5),
        (followers.history, "history", 0.6),
        (popular.popular_in_country, "popular_in_country", 0.3),
        (popular.popular, "popular", 0.2),
        (newest.newest, "newest", 0.1),
        repeat_bought=False,
    ),
    "product": _plan(
        (followers.seed_transitions, "transitions", 1.0),
        (followers.seed_copurchases, "copurchases", 0.8),
        (followers.transitions, "transitions", 0.3),
        (popular.popular_in_country, "popular_in_country", 0.05),
        (popular.popular, "popular", 0.05),
        repeat_bought=True,
    ),
    "cart": _plan(
        (followers.cart_copurchases, "copurchases", 1.0),
        (followers.transitions, "transitions", 0.4),
        (followers.history, "history", 0.2),
        (popular.popular_in_country, "popular_in_country", 0.1),
        (popular.popular, "popular", 0.1),
        repeat_bought=False,
    ),
}
SIMILAR: Final = _plan(
    (followers.seed_transitions, "transitions", 1.0),
    (followers.seed_copurchases, "copurchases", 1.0),
    repeat_bought=True,
)
"""What `similar` answers by: the item alone, whoever asks."""
