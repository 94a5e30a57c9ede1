"""Backfill: feature values exactly as they were, for rows of entities and moments, in one pass.

A row with `offset` sees the state as of that offset. A row with only a `time` sees the state just
before the first event, in log order, whose time is that or later: so a value never contains the
event that is its label, nor anything after it. `time` is also the moment that windows end at;
a row with only an `offset` takes the latest event time up to there.

Rows come out in the order of the log. Memory holds the labels and one part of the result.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from onhand.contracts.errors import Invalid
from onhand.contracts.features import Entity
from onhand.contracts.records import Event, Record
from onhand.features.drift import profile_of
from onhand.features.online import rows_of
from onhand.features.set import Vector
from onhand.past import Folding, Past
from onhand.state.state import State

__all__ = ["Backfilled", "Label", "backfill", "read_labels", "values_at"]

PART_ROWS: Final = 200_000
KEYS: Final = ("item", "user", "session", "country", "device")
_BEGINNING_MS: Final = -(2**62)


class Label(NamedTuple):
    """Whom values are wanted of, and when; `row` is where the label stands in its file."""

    entity: Entity
    time_ms: int | None
    offset: int | None
    row: int


class Part(NamedTuple):
    """Values, (n, features) float32, of labels that saw the same state."""

    labels: Sequence[Label]
    as_of: int
    moments_ms: NDArray[np.int64]
    values: NDArray[np.float32]


class Backfilled(NamedTuple):
    """What a backfill wrote and went through."""

    rows: int
    records: int


class _Point(NamedTuple):
    """Labels that see the state after `upto` records of a batch."""

    upto: int
    labels: list[Label]


def values_at(
    labels: Sequence[Label],
    past: Past,
    vector: Vector,
    on_records: Callable[[Sequence[Record]], None] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Iterator[Part]:
    """Yield the values of all labels in one pass over the log.

    `on_records` is shown every record, `on_progress` is told the offset that is reached. Labels
    that all have an offset begin from the nearest checkpoint, unless records are to be shown.
    """
    by_time = sorted(
        (each for each in labels if each.offset is None), key=lambda each: each.time_ms or 0
    )
    by_offset = sorted((each for each in labels if each.offset is not None), key=_offset)
    whole = bool(by_time) or on_records is not None or not by_offset
    state = past.begin(0 if whole else _offset(by_offset[0]))
    reached_ms = _BEGINNING_MS
    yield from _read_due(state, vector, by_offset, reached_ms)
    with Folding(state) as folding:
        for batch in past.records(state.offset):
            times_ms = _reached(batch.records, reached_ms)
            done = 0
            for point in _points(by_time, by_offset, batch.first, times_ms):
                folding.reach(batch.records[done : point.upto], batch.first + point.upto - 1)
                done = point.upto
                latest_ms = int(times_ms[done - 1]) if done else reached_ms
                yield _read(state, vector, point.labels, latest_ms)
            folding.add(batch.records[done:], batch.last)
            reached_ms = int(times_ms[-1])
            if on_records is not None:
                on_records(batch.records)
            if on_progress is not None:
                on_progress(state.offset)
            if not by_time and not by_offset and on_records is None:
                return
        folding.wait()
    rest = by_time + by_offset
    if rest:
        yield _read(state, vector, rest, reached_ms)


def backfill(
    labels: pl.DataFrame,
    past: Past,
    vector: Vector,
    out: Path,
    on_progress: Callable[[int], None] | None = None,
    outcomes: "Callable[[Sequence[Record]], None] | None" = None,
    finish: Callable[[pl.LazyFrame], pl.LazyFrame] | None = None,
) -> Backfilled:
    """Write the rows of `labels` with `as_of`, `now_ms` and a float32 column a feature to the
    Parquet file `out`, and beside it a profile of their distributions. Raises `Invalid`."""
    wanted = read_labels(labels)
    begin = past.last
    with tempfile.TemporaryDirectory(dir=out.parent) as name:
        parts = Path(name)
        gathered: list[Part] = []
        count = written = 0
        for part in values_at(wanted, past, vector, outcomes, on_progress):
            gathered.append(part)
            count += len(part.labels)
            if count - written >= PART_ROWS:
                _frame(labels, gathered, vector).write_parquet(parts / f"{written:012d}.parquet")
                gathered, written = [], count
        _frame(labels, gathered, vector).write_parquet(parts / f"{written:012d}.parquet")
        rows = pl.scan_parquet(parts / "*.parquet")
        if finish is not None:
            rows = finish(rows)
        rows.sink_parquet(out)
    written = pl.scan_parquet(out)
    columns = ((name, written.select(name).collect()[name].to_numpy()) for name in vector.names)
    profile = profile_of(vector.version, columns)
    out.with_suffix(".profile.json").write_bytes(msgspec.json.encode(profile))
    return Backfilled(count, begin)


def read_labels(labels: pl.DataFrame) -> list[Label]:
    """Return the labels of a frame with any of item, user, session, country and device, and
    `time` (a datetime or epoch ms) or `offset`. Raises `Invalid`."""
    keys = [key for key in KEYS if key in labels.columns]
    if not keys or not {"time", "offset"} & set(labels.columns):
        raise Invalid(
            "labels",
            f"Labels need `time` or `offset`, and any of {', '.join(KEYS)}; these have "
            f"{', '.join(labels.columns)}.",
        )
    nothing = [None] * len(labels)
    times = _times_ms(labels) if "time" in labels.columns else nothing
    offsets = labels["offset"].to_list() if "offset" in labels.columns else nothing
    columns = [labels[key].cast(pl.String).to_list() for key in keys]
    return [
        Label(Entity(**dict(zip(keys, ids, strict=True))), time_ms, offset, row)
        for row, (time_ms, offset, *ids) in enumerate(zip(times, offsets, *columns, strict=True))
    ]


def _times_ms(labels: pl.DataFrame) -> list[int]:
    column = labels["time"]
    if column.null_count():
        raise Invalid("labels", f"{column.null_count()} labels have no `time`.")
    if column.dtype.is_temporal():
        return column.dt.epoch("ms").to_list()
    if column.dtype.is_integer():
        return column.to_list()
    raise Invalid("labels", f"`time` is {column.dtype}; it must be a datetime or epoch ms.")


def _offset(label: Label) -> int:
    return label.offset or 0


def _reached(records: Sequence[Record], before_ms: int) -> NDArray[np.int64]:
    """Return the latest event time up to each record."""
    times: list[Any] = [
        record.time if type(record) is Event else _BEGINNING_MS for record in records
    ]
    return np.maximum(np.maximum.accumulate(np.array(times, np.int64)), before_ms)


def _points(
    by_time: list[Label], by_offset: list[Label], first: int, times_ms: NDArray[np.int64]
) -> list[_Point]:
    """Take the labels that are due in a batch out of both lists, in the order of the log."""
    count = len(times_ms)
    due: dict[int, list[Label]] = {}
    taken = 0
    for label in by_time:
        if (label.time_ms or 0) > times_ms[-1]:
            break
        due.setdefault(int(np.searchsorted(times_ms, label.time_ms or 0)), []).append(label)
        taken += 1
    del by_time[:taken]
    taken = 0
    for label in by_offset:
        if _offset(label) >= first + count:
            break
        due.setdefault(_offset(label) + 1 - first, []).append(label)
        taken += 1
    del by_offset[:taken]
    return [_Point(upto, due[upto]) for upto in sorted(due)]


def _read_due(
    state: State, vector: Vector, by_offset: list[Label], reached_ms: int
) -> Iterator[Part]:
    """Read what is due before any record is folded."""
    due = [label for label in by_offset if _offset(label) <= state.offset]
    del by_offset[: len(due)]
    if due:
        yield _read(state, vector, due, reached_ms)


def _read(state: State, vector: Vector, labels: list[Label], latest_ms: int) -> Part:
    whose = np.array([rows_of(state, label.entity) for label in labels], np.int64)
    moments = [latest_ms if label.time_ms is None else label.time_ms for label in labels]
    moments_ms = np.array(moments, np.int64)
    return Part(
        labels, state.offset, moments_ms, vector.gather_rows(state, whose, moments_ms).values
    )


def _frame(labels: pl.DataFrame, parts: list[Part], vector: Vector) -> pl.DataFrame:
    rows = [label.row for part in parts for label in part.labels]
    as_of = [part.as_of for part in parts for _ in part.labels]
    values = [part.values for part in parts] or [np.zeros((0, len(vector.names)), np.float32)]
    moments = [part.moments_ms for part in parts] or [np.zeros(0, np.int64)]
    stacked = np.concatenate(values)
    given = labels[rows].rename({"offset": "label_offset"}, strict=False)
    return given.with_columns(
        pl.Series("as_of", as_of, pl.Int64),
        pl.Series("now_ms", np.concatenate(moments)),
        *(pl.Series(name, stacked[:, at]) for at, name in enumerate(vector.names)),
    )
