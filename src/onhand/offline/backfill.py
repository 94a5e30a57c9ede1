"""Backfill: feature values exactly as they were, for rows of entities and moments, in one pass.

A row with `offset` sees the state as of that offset. A row with only a `time` sees the state just
before the first event, in log order, whose time is that or later: so a value never contains the
event that is its label, nor anything after it. `time` is also the moment that windows end at;
a row with only an `offset` takes the latest event time up to there.

Rows come out in the order of the log. Memory holds the labels and one part of the result.
"""

import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
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
from onhand.log.port import Batch
from onhand.past import Folding, Past
from onhand.state.operations import as_rows
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
    """Values, (n, features) float32, of labels that were read together: each as of an offset, (n,),
    at a moment, (n,)."""

    labels: Sequence[Label]
    as_of: NDArray[np.int64]
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
    read: deque[Part] = deque()
    with Folding(state) as folding:
        for batch in past.records(state.offset):
            times_ms = _reached(batch.records, reached_ms)
            points = _points(by_time, by_offset, batch.first, times_ms)
            for stretch in _stretches(state, folding, batch, points, times_ms):
                folding.submit(partial(stretch.fold, state, vector, read))
            reached_ms = int(times_ms[-1])
            if on_records is not None:
                on_records(batch.records)
            if on_progress is not None:
                on_progress(state.offset)
            while read:
                yield read.popleft()
            if not by_time and not by_offset and on_records is None:
                break
        folding.wait()
    yield from read
    rest = by_time + by_offset
    if rest:
        stretch = _Stretch(state.offset)
        stretch.stop(state, rest, reached_ms)
        stretch.fold(state, vector, read)
        yield read.pop()


class _Stretch:
    """Operations that are folded in one go, and labels to be read on the way.

    Whose rows these are is looked up when the records before are named and those behind are not:
    so nobody is known before their time.
    """

    def __init__(self, offset: int) -> None:
        self._last = offset
        self._rows = [as_rows([])]
        self._count = 0
        self._labels: list[Label] = []
        self._places: list[tuple[int, int, int]] = []
        self._whose: list[tuple[int, int, int, int, int]] = []

    def add(self, rows: NDArray[np.int64], last: int) -> None:
        """Append the operations of the records up to offset `last`."""
        self._rows.append(rows)
        self._count += len(rows)
        self._last = last

    def stop(self, state: State, labels: Sequence[Label], latest_ms: int) -> None:
        """Read labels behind the operations so far; `latest_ms` is the moment of those that name
        none."""
        for label in labels:
            moment_ms = latest_ms if label.time_ms is None else label.time_ms
            self._labels.append(label)
            self._places.append((self._count, self._last, moment_ms))
            self._whose.append(rows_of(state, label.entity))

    def fold(self, state: State, vector: Vector, read: deque[Part]) -> None:
        """Fold, and append what is read."""
        rows = np.concatenate(self._rows)
        if not self._labels:
            state.step(rows, self._last)
            return
        upto, as_of, moments_ms = np.array(self._places, np.int64).T.copy()
        whose = np.array(self._whose, np.int64)
        values = vector.gather_at_stops(state, rows, self._last, upto, whose, moments_ms)
        read.append(Part(self._labels, as_of, moments_ms, values))


def _stretches(
    state: State,
    folding: Folding,
    batch: Batch,
    points: Sequence[_Point],
    times_ms: NDArray[np.int64],
) -> Iterator[_Stretch]:
    """Name a batch's records and yield them with the points to stop at: as one stretch, or, where
    visitors have to leave for others to enter, as one a point. Each has to be submitted before the
    next is asked for. `times_ms` is `_reached`."""
    together = state.is_room(len(batch.records))
    stretch = _Stretch(batch.first - 1)
    done = 0
    for point in points:
        records = batch.records[done : point.upto]
        stretch.add(folding.name(records), batch.first + point.upto - 1)
        stretch.stop(state, point.labels, int(times_ms[point.upto]))
        done = point.upto
        if not together:
            yield stretch
            stretch = _Stretch(batch.first + done - 1)
    stretch.add(folding.name(batch.records[done:]), batch.last)
    yield stretch


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
    """Return the latest event time before each record, and behind the last: (n + 1,)."""
    times: list[Any] = [before_ms]
    times += [record.time if type(record) is Event else _BEGINNING_MS for record in records]
    return np.maximum.accumulate(np.array(times, np.int64))


def _points(
    by_time: list[Label], by_offset: list[Label], first: int, times_ms: NDArray[np.int64]
) -> list[_Point]:
    """Take the labels that are due in a batch out of both lists, in the order of the log."""
    count = len(times_ms) - 1
    due: dict[int, list[Label]] = {}
    taken = 0
    for label in by_time:
        if (label.time_ms or 0) > times_ms[-1]:
            break
        upto = int(np.searchsorted(times_ms[1:], label.time_ms or 0))
        due.setdefault(upto, []).append(label)
        taken += 1
    del by_time[:taken]
    taken = 0
    for label in by_offset:
        if _offset(label) >= first + count:
            break
        due.setdefault(max(_offset(label) + 1 - first, 0), []).append(label)
        taken += 1
    del by_offset[:taken]
    return [_Point(upto, due[upto]) for upto in sorted(due)]


def _frame(labels: pl.DataFrame, parts: list[Part], vector: Vector) -> pl.DataFrame:
    rows = [label.row for part in parts for label in part.labels]
    nobody = np.zeros(0, np.int64)
    as_of = np.concatenate([nobody, *(part.as_of for part in parts)])
    moments_ms = np.concatenate([nobody, *(part.moments_ms for part in parts)])
    nothing = np.zeros((0, len(vector.names)), np.float32)
    values = np.concatenate([nothing, *(part.values for part in parts)])
    given = labels[rows].rename({"offset": "label_offset"}, strict=False)
    return given.with_columns(
        pl.Series("as_of", as_of),
        pl.Series("now_ms", moments_ms),
        *(pl.Series(name, values[:, at]) for at, name in enumerate(vector.names)),
    )
