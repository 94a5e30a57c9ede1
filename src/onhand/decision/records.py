"""The decision record: everything that a decision followed from, and what it was."""

from typing import Final

from msgspec import Struct

from onhand.contracts.answers import Recommendation
from onhand.contracts.errors import Unknown
from onhand.contracts.requests import RecommendRequest

__all__ = ["MODEL", "MODELS", "DecisionRecord", "Vectors", "find_model"]

MODEL: Final = "default@1"
MODELS: Final = (MODEL,)
"""The models there are, by name and version."""


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


def find_model(name: str) -> str:
    """Return the name of a known model. Raises `Unknown` with the known ones."""
    if name not in MODELS:
        known = ", ".join(MODELS)
        raise Unknown("unknown_model", f"There is no model {name[:128]!r}; known are {known}.")
    return name
