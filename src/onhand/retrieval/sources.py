"""The sources: their codes, which are also columns of what the first pass finds, and their names.

A source is a kernel in a file of its own. To add one, give it a code and a name here and run it:
in `gather`, when it takes microseconds and may be in a plan (`decision.slots`), else in
`first_pass`.
"""

from typing import Final

__all__ = ["GATHERED", "LABELS", "SOURCES"]

TRANSITIONS: Final = 0
COPURCHASES: Final = 1
HISTORY: Final = 2
CART: Final = 3
SEED_TRANSITIONS: Final = 4
SEED_COPURCHASES: Final = 5
POPULAR_IN_COUNTRY: Final = 6
POPULAR: Final = 7
NEWEST: Final = 8
CONTEXT: Final = 9
TRENDING: Final = 10
NEW_ARRIVALS: Final = 11
RECENT: Final = 12
REPEAT: Final = 13
POPULAR_IN_COHORT: Final = 14
NEIGHBOURS: Final = 15
CONTENT: Final = 16
SEED_CONTENT: Final = 17

SOURCES: Final = (
    "transitions",
    "copurchases",
    "history",
    "cart",
    "seed_transitions",
    "seed_copurchases",
    "popular_in_country",
    "popular",
    "newest",
    "context",
    "trending",
    "new_arrivals",
    "recent",
    "repeat",
    "popular_in_cohort",
    "sessions",
    "content",
    "seed_content",
)
"""The sources by code."""
GATHERED: Final = tuple(code for code in range(len(SOURCES)) if code != NEIGHBOURS)
"""Those that `gather` runs."""
_SHOWN: Final = {
    "cart": "copurchases",
    "seed_transitions": "transitions",
    "seed_copurchases": "copurchases",
    "seed_content": "content",
}
LABELS: Final = tuple(_SHOWN.get(name, name) for name in SOURCES)
"""What an answer calls the source of an item, by code."""
