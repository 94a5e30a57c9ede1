"""Features for whoever asks by id: in Onhand's own shape, and in that of Feast's feature server.

Feast's view names are not looked at: a feature's name is enough. Its join keys may be `item`,
`user`, `session`, `country`, `device`, or the same with `_id`.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from onhand.contracts.errors import Invalid
from onhand.contracts.features import (
    Entity,
    FeastAnswer,
    FeastColumn,
    FeastMetadata,
    FeastRequest,
    FeatureAnswer,
    FeatureRequest,
)
from onhand.features.declare import Feature
from onhand.features.set import FeatureSet, Values, Vector
from onhand.state.operations import session_name
from onhand.state.state import State

__all__ = ["answer", "answer_feast", "rows_of"]

_KEYS: Final = ("item", "user", "session", "country", "device")
_NEVER: Final = "1970-01-01T00:00:00Z"
_NAMED: Final = ("category", "brand", "country", "device")
_ROW: Final = {name: at for at, name in enumerate(_KEYS)}


def rows_of(state: State, entity: Entity) -> tuple[int, int, int, int, int]:
    """Return the rows of (item, user, session, country, device), 0 for who is unknown; a user
    without a session has one of their own."""
    session = 0
    if entity.session is not None or entity.user is not None:
        session = state.sessions.rows.get(session_name(entity.session, entity.user), 0)
    return (
        state.items.rows.get(entity.item or "", 0),
        state.users.rows.get(entity.user or "", 0),
        session,
        state.countries.rows.get(entity.country or "", 0),
        state.devices.rows.get(entity.device or "", 0),
    )


def answer(
    state: State, features: FeatureSet, request: FeatureRequest, now_ms: int
) -> FeatureAnswer:
    """Return what is asked for, as of the state's offset. Raises `Unknown` for a feature."""
    vector = features.vector(request.features)
    read = _read(state, vector, request.entities, now_ms)[1]
    columns = [
        _plain(state, feature, read.values[:, at].tolist())
        for at, feature in enumerate(vector.features)
    ]
    return FeatureAnswer(
        as_of=state.offset,
        now_ms=now_ms,
        version=vector.version,
        features=list(vector.names),
        values=[list(row) for row in zip(*columns, strict=True)],
        ages_ms=[[None if age < 0 else age for age in row] for row in read.ages.tolist()],
    )


def answer_feast(
    state: State, features: FeatureSet, request: FeastRequest, now_ms: int
) -> FeastAnswer:
    """Return what a Feast client asks for. A value of an entity that nobody has heard of is null
    and NOT_FOUND; one past its time to live is null and OUTSIDE_MAX_AGE. Raises `Unknown` for a
    feature, `Invalid` for join keys that are none or of different lengths."""
    if request.feature_service is not None:
        raise Invalid("feature_service", "There are no feature services here; name `features`.")
    vector = features.vector([name.rpartition(":")[2] for name in request.features])
    whose, read = _read(state, vector, _entities(request), now_ms)
    count = len(whose)
    results = [
        FeastColumn(values, ["PRESENT"] * count, [_NEVER] * count)
        for values in request.entities.values()
    ]
    for at, feature in enumerate(vector.features):
        results.append(_column(state, feature, whose, read.values[:, at], read.ages[:, at], now_ms))
    full = request.full_feature_names
    named = [name.replace(":", "__") if full else name.rpartition(":")[2]
             for name in request.features]  # fmt: skip
    return FeastAnswer(FeastMetadata([*request.entities, *named]), results)


def _entities(request: FeastRequest) -> list[Entity]:
    columns: dict[str, list[Any]] = {}
    for key, values in request.entities.items():
        name = key.removesuffix("_id")
        if name not in _KEYS:
            known = ", ".join(_KEYS)
            raise Invalid("join_key", f"There is no entity {key[:64]!r}; known are {known}.")
        columns[name] = values
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1 or lengths == {0} or max(lengths) > 5_000:
        raise Invalid("entities", "Every join key needs equally many ids, 1 to 5000.")
    return [
        Entity(**{name: None if value is None else str(value)
                  for name, value in zip(columns, row, strict=True)})
        for row in zip(*columns.values(), strict=True)
    ]  # fmt: skip


def _read(
    state: State, vector: Vector, entities: list[Entity], now_ms: int
) -> tuple[NDArray[np.int64], Values]:
    whose = np.array([rows_of(state, entity) for entity in entities], np.int64)
    return whose, vector.gather_rows(state, whose, np.full(len(whose), now_ms, np.int64))


def _column(
    state: State, feature: Feature, whose: NDArray[np.int64], values: NDArray[np.float32],
    ages: NDArray[np.int64], now_ms: int,
) -> FeastColumn:  # fmt: skip
    plain = _plain(state, feature, values.tolist())
    needed = [_ROW[name] for name in feature.entities if name in ("item", "user", "session")]
    found: NDArray[np.bool_] = np.all(whose[:, needed] > 0, axis=1)
    late = (ages > feature.ttl_ms) & (feature.ttl_ms > 0)
    statuses = ["PRESENT"] * len(plain)
    for at in np.flatnonzero(late | ~found).tolist():
        statuses[at] = "OUTSIDE_MAX_AGE" if found[at] else "NOT_FOUND"
        plain[at] = None
    if feature.type in _NAMED:
        statuses = [
            "NULL_VALUE" if value is None and status == "PRESENT" else status
            for value, status in zip(plain, statuses, strict=True)
        ]
    moments = np.where(found, now_ms - np.maximum(ages, 0), 0).astype("datetime64[ms]")
    stamps = np.datetime_as_string(moments, timezone="UTC").tolist()
    return FeastColumn(plain, statuses, stamps)


def _plain(state: State, feature: Feature, values: list[float]) -> list[Any]:
    """Return numbers as what they stand for: whole ones, truths, names (null for none)."""
    if feature.type in ("int", "intent"):
        return [round(value) for value in values]
    if feature.type == "bool":
        return [bool(value) for value in values]
    if feature.type == "float":
        return list(values)
    names = {
        "category": state.categories,
        "brand": state.brands,
        "country": state.countries,
        "device": state.devices,
    }[feature.type].names
    return [names[int(value)] or None for value in values]
