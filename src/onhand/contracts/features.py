"""Asking for features, and what is answered: Onhand's own shape, and that of Feast's server."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from onhand.contracts.records import Id, Word

__all__ = [
    "Entity", "FeatureAnswer", "FeatureRequest", "FeastAnswer", "FeastColumn", "FeastMetadata",
    "FeastRequest",
]  # fmt: skip

Name = Annotated[str, Meta(min_length=1, max_length=256)]
Names = Annotated[list[Name], Meta(max_length=1_000)]


class Entity(Struct, frozen=True, forbid_unknown_fields=True):
    """Whom or what values are of: any of these ids."""

    item: Id | None = None
    user: Id | None = None
    session: Id | None = None
    country: Word | None = None
    device: Word | None = None


class FeatureRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Ask for features of entities; without names, for all of them in the set's order."""

    entities: Annotated[list[Entity], Meta(min_length=1, max_length=5_000)]
    features: Names | None = None


class FeatureAnswer(Struct, frozen=True):
    """Values, a list an entity, all as of one log offset and one moment.

    `version` is a hash of the definitions and their order. `ages_ms` say how long ago the latest
    event was that a value counts; null where no event made it.
    """

    as_of: int
    now_ms: int
    version: str
    features: list[str]
    values: list[list[float | int | bool | str | None]]
    ages_ms: list[list[int | None]]


class FeastRequest(Struct, frozen=True):
    """What a Feast client asks its feature server: columns of ids by join key, and `view:feature`
    names."""

    entities: Annotated[dict[str, list[Any]], Meta(min_length=1, max_length=5)]
    features: Names = []
    feature_service: str | None = None
    full_feature_names: bool = False


class FeastMetadata(Struct, frozen=True):
    """The names of the columns: join keys first."""

    feature_names: list[str]


class FeastColumn(Struct, frozen=True):
    """One column of the answer, with a status and a moment for each value."""

    values: list[Any]
    statuses: list[str]
    event_timestamps: list[str]


class FeastAnswer(Struct, frozen=True):
    """What Feast's Python feature server answers."""

    metadata: FeastMetadata
    results: list[FeastColumn]
