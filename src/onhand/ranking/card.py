"""The card of a model: what it was trained on, and how good it was when it was made."""

from msgspec import Struct

__all__ = ["Card", "Data", "Quality"]


class Data(Struct, frozen=True):
    """What part of the log was learned from: its offsets, the moments of the decisions, how many
    examples with how many rows, and what was done about positions."""

    first_offset: int
    last_offset: int
    first_ms: int
    last_ms: int
    examples: int
    rows: int
    positions: str


class Quality(Struct, frozen=True):
    """Accuracy of lists of ten over the last day before training ended."""

    decisions: int
    ndcg: float
    hit_rate: float
    reciprocal_rank: float


class Card(Struct, frozen=True):
    """`quality` is by name: `model`, `popular` and `default@1`, on the same held-out decisions.
    `importance` is each feature's share of the gain of all splits, the most important first."""

    data: Data
    quality: dict[str, Quality]
    importance: dict[str, float]
    settings: dict[str, float]
    seconds: float
    trained_by: str
