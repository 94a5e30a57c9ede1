"""The decision record: everything that a decision followed from, and what it was."""

from msgspec import Struct

from onhand.contracts.answers import Recommendation
from onhand.contracts.requests import RecommendRequest

__all__ = ["DecisionRecord", "Vectors"]


class Vectors(Struct, frozen=True):
    """What was known of the shown items: `values` is little-endian float32, (items, features)."""

    names: list[str]
    values: bytes


class DecisionRecord(Struct, frozen=True, omit_defaults=True):
    """A decision as it is kept.

    The answer holds the offset that it was made as of, the model and the result. `app` is the
    version of the feature set, `seed` where draws begin (0: none were made). Where a prepared list
    was used, `candidates_as_of` is the offset and `prepared_ms` the moment that it was made as of
    (0: there was none), and `of_user` says that it was the user's and not the session's,
    `of_country` that it was the head list of a country (empty: of all) and not the visitor's.
    `foresight` says that what would soon be gone was demoted.
    """

    request: RecommendRequest
    now_ms: int
    answer: Recommendation
    app: str = ""
    candidates_as_of: int = 0
    prepared_ms: int = 0
    of_user: bool = False
    of_country: str | None = None
    foresight: bool = False
    seed: int = 0
    vectors: Vectors | None = None
