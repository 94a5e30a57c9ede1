"""Parity: what rankers saw live, as decision records keep it, against what a backfill says.

A feature's value is a mismatch where the bits differ. It is missing where only the backfill has
it, extra where only the record does: then the two were made with different feature sets.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from onhand.contracts.features import Entity
from onhand.decision.records import DecisionRecord, Vectors
from onhand.features.set import Vector
from onhand.offline.backfill import Label, values_at
from onhand.past import Past

__all__ = ["Parity", "Report", "parity"]


class Parity(Struct, frozen=True):
    """Of one feature: shares of the compared rows, 0 to 1."""

    feature: str
    mismatch: float
    missing: float
    extra: float


class Report(NamedTuple):
    """How many decisions and rows were compared; `live`, (rows, features), are the live values of
    the features that both have, by name."""

    decisions: int
    rows: int
    features: list[Parity]
    live: dict[str, NDArray[np.float32]]


class _Live(NamedTuple):
    """The logged rows of all decisions."""

    labels: list[Label]
    values: dict[str, list[NDArray[np.float32]]]
    decisions: int


def parity(records: Iterable[DecisionRecord], past: Past, vector: Vector) -> Report:
    """Compare the logged vectors among `records` with a backfill of the same rows."""
    live = _read_live(records)
    rows = len(live.labels)
    again = np.empty((rows, len(vector.names)), np.float32)
    if rows:
        for part in values_at(live.labels, past, vector):
            again[[label.row for label in part.labels]] = part.values
    columns = {name: np.concatenate(parts) for name, parts in live.values.items()}
    names = list(dict.fromkeys([*vector.names, *columns]))
    compared: list[Parity] = []
    for name in names:
        logged = columns.get(name, np.zeros(0, np.float32))
        if name not in vector.names:
            compared.append(Parity(name, 0.0, 0.0, _share(len(logged), rows)))
            continue
        known = ~np.isnan(logged) if len(logged) else np.zeros(rows, bool)
        column = again[:, vector.names.index(name)]
        differing = 0
        if len(logged):
            differing = int((logged.view(np.uint32) != column.view(np.uint32))[known].sum())
        compared.append(
            Parity(name, _share(differing, rows), _share(rows - int(known.sum()), rows), 0.0)
        )
    return Report(live.decisions, rows, compared, columns)


def _read_live(records: Iterable[DecisionRecord]) -> _Live:
    """Return every logged row; a feature that a record does not have is NaN there."""
    kept = [record for record in records if record.vectors is not None]
    every = list(dict.fromkeys(name for record in kept for name in _vectors(record).names))
    labels: list[Label] = []
    values: dict[str, list[NDArray[np.float32]]] = {name: [] for name in every}
    for record in kept:
        vectors, request, answer = _vectors(record), record.request, record.answer
        rows = np.frombuffer(vectors.values, "<f4").reshape(-1, max(len(vectors.names), 1))
        for name in every:
            has = name in vectors.names
            column = rows[:, vectors.names.index(name)] if has else np.full(len(rows), np.nan)
            values[name].append(column.astype(np.float32))
        for item in answer.items:
            context = request.context
            entity = Entity(item.id, request.user, request.session, context.country, context.device)
            labels.append(Label(entity, record.now_ms, answer.as_of, len(labels)))
    return _Live(labels, values, len(kept))


def _vectors(record: DecisionRecord) -> Vectors:
    assert record.vectors is not None
    return record.vectors


def _share(count: int, rows: int) -> float:
    return count / rows if rows else 0.0
