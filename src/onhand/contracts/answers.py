"""What Onhand answers: an ingest report, a recommendation."""

from msgspec import UNSET, Struct, UnsetType

from onhand.contracts.errors import RecordError
from onhand.contracts.records import Fulfilment, Item

__all__ = ["IngestReport", "ItemFacts", "Recommendation", "RecommendedItem"]


class IngestReport(Struct, frozen=True):
    """What became of a batch. `offset` is the log's end after it: a decision whose `as_of` is at
    least that has seen every accepted record."""

    accepted: int
    duplicates: int
    rejected: int
    offset: int
    errors: list[RecordError] = []


class RecommendedItem(Struct, frozen=True, gc=False):
    """One item of an answer, with the live facts it was chosen by."""

    id: str
    score: float
    source: str
    price: float | None
    stock: int | None


class Recommendation(Struct, frozen=True):
    """An answer, and how good it is.

    `as_of` is the log offset of the one snapshot it was made from. `tier` says how well the
    visitor is known, `degraded` which step of the ladder answered (null: the best one). `model` is
    the one whose prepared list the page began from. Where there was none, it is `default@1`, the
    slot's own sources as of now, also while a model is active: that is no lower step, so `degraded`
    is null then. Of a `stale` answer, `age_ms` is how long ago its list was made.
    """

    decision: str
    slot: str
    as_of: int
    tier: str
    model: str
    variant: str
    degraded: str | None
    items: list[RecommendedItem]
    took_us: int
    age_ms: int | UnsetType = UNSET


class ItemFacts(Struct, frozen=True):
    """An item's catalogue entry, and how it stands now.

    `windows` holds the live counts by name; `barrier` says why it is kept off pages, if it is.
    """

    item: Item
    price: float | None
    stock: int | None
    flags: list[str]
    fulfilment: Fulfilment
    barrier: str | None
    windows: dict[str, int]
    as_of: int
