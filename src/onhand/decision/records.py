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
    version of the feature set, `candidates_as_of` the offset that the candidates were found as of
    (0: with the answer), `seed` where draws begin (0: none were made).
    """

    request: RecommendRequest
    now_ms: int
    answer: Recommendation
    app: str = ""
    candidates_as_of: int = 0
    seed: int = 0
    vectors: Vectors | None = None
