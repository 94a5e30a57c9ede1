"""Session files: clicks as rows or as lists, read into item numbers in time order.

Two forms, told apart by their columns; training and test may differ in form.

- rows: `session`, `item`, `time`, optional `category`. Sessions are sorted by time within, and
  among each other by their last click. In a test file every click but a session's first is one
  prediction from the clicks before it.
- lists: `items` in a training file, one session a row, oldest first, oldest session first;
  `prefix` and `label` in a test file, one prediction a row.

Ids may be integers or text. Times may be numbers (seconds, milliseconds, micro- or nanoseconds
since 1970, told apart by size) or dates.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onhand.contracts.errors import Invalid

__all__ = ["Queries", "SessionDataError", "Sessions", "Training", "read_test", "read_training"]

NEVER_SEEN = -1


class SessionDataError(Invalid):
    """A session file that cannot be used; the message says why and what is expected."""

    def __init__(self, message: str) -> None:
        super().__init__("session_data", message)


@dataclass(frozen=True)
class Sessions:
    """Sessions in time order: session `s` is `items[offsets[s]:offsets[s + 1]]`."""

    offsets: NDArray[np.int64]
    """(sessions + 1,)"""
    items: NDArray[np.int32]
    """(clicks,) item numbers; NEVER_SEEN for items outside the training data."""
    times: NDArray[np.float64]
    """(clicks,) seconds, or empty when not known."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def between(self, first: int, last: int) -> "Sessions":
        """Sessions `first` to `last - 1`."""
        begin, end = self.offsets[first], self.offsets[last]
        return Sessions(
            self.offsets[first : last + 1] - begin, self.items[begin:end], self.times[begin:end]
        )

    def queries(self) -> "Queries":
        """One prediction for every click but a session's first."""
        session = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        label = np.flatnonzero(np.arange(len(self.items)) > self.offsets[session])
        return Queries(
            self.items,
            self.times,
            self.offsets[session[label]],
            label.astype(np.int64),
            self.items[label],
        )


@dataclass(frozen=True)
class Queries:
    """Predictions to make: from `items[begin[q]:end[q]]`, the next item is `label[q]`."""

    items: NDArray[np.int32]
    times: NDArray[np.float64]
    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    label: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.label)

    def take(self, which: NDArray[np.int64]) -> "Queries":
        """The predictions numbered `which`, in that order."""
        return Queries(
            self.items, self.times, self.begin[which], self.end[which], self.label[which]
        )

    def clicks(self, query: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Items and times (or nothing) of one prediction."""
        clicks = slice(int(self.begin[query]), int(self.end[query]))
        return self.items[clicks], self.times[clicks] if len(self.times) else self.times


@dataclass(frozen=True)
class Training:
    """Training sessions with the numbering of their items."""

    sessions: Sessions
    ids: pl.Series
    """(items,) text ids by item number."""
    category: NDArray[np.int32]
    """(items,) number of the item's newest category, -1 when unknown."""

    @property
    def n_items(self) -> int:
        """Number of different items."""
        return len(self.ids)


def read_training(path: Path) -> Training:
    """Read training sessions. Raises SessionDataError when the file cannot be used."""
    frame = _read(path)
    if "items" in frame.columns:
        frame = _clicks_of_lists(frame, "items", path)
    else:
        frame = _clicks_of_rows(frame, path, ("items",))
    if frame.is_empty():
        raise SessionDataError(f"{path} holds no clicks: at least one session is needed.")
    ids = frame["item"].unique(maintain_order=True)
    frame = frame.with_columns(item=_numbers(frame["item"], ids))
    return Training(_sessions(frame), ids, _categories(frame, len(ids)))


def read_test(path: Path, ids: pl.Series) -> Queries:
    """Read predictions to make, for items numbered by `ids`. Raises SessionDataError."""
    frame = _read(path)
    if "prefix" in frame.columns:
        return _queries_of_lists(frame, ids, path)
    if "items" in frame.columns:
        frame = _clicks_of_lists(frame, "items", path)
    else:
        frame = _clicks_of_rows(frame, path, ("prefix", "label"))
    return _sessions(frame.with_columns(item=_numbers(frame["item"], ids))).queries()


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except FileNotFoundError:
        raise SessionDataError(f"There is no file {path}.") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SessionDataError(f"{path} cannot be read as Parquet: {error}") from None


def _clicks_of_rows(frame: pl.DataFrame, path: Path, lists: tuple[str, ...]) -> pl.DataFrame:
    """Columns session (int), item (text), time (seconds), category (text), sorted."""
    missing = [name for name in ("session", "item", "time") if name not in frame.columns]
    if missing:
        raise SessionDataError(
            f"{path} lacks {_quoted(missing)}: it has {_quoted(frame.columns)}. Expected are "
            f"rows with 'session', 'item', 'time' (and optionally 'category'), or lists with "
            f"{_quoted(lists)}."
        )
    category = _text(frame["category"]) if "category" in frame.columns else None
    frame = pl.DataFrame(
        {
            "session": _text(frame["session"]),
            "item": _text(frame["item"]),
            "time": _seconds(frame["time"], path),
            "category": pl.Series(category, dtype=pl.String)
            if category is not None
            else pl.Series([None] * len(frame), dtype=pl.String),
        }
    ).drop_nulls(["session", "item", "time"])
    ends = frame.group_by("session", maintain_order=True).agg(
        begin=pl.col("time").min(), end=pl.col("time").max()
    )
    order = ends.sort("end", "begin", maintain_order=True).with_row_index("number")
    return (
        frame.join(order.select("session", "number"), on="session", maintain_order="left")
        .sort("number", "time", maintain_order=True)
        .select(pl.col("number").cast(pl.Int64).alias("session"), "item", "time", "category")
    )


def _clicks_of_lists(frame: pl.DataFrame, column: str, path: Path) -> pl.DataFrame:
    """The same columns from one list of items a row; no times, no categories."""
    _check_lists(frame, column, path)
    clicks = (
        frame.select(pl.col(column).alias("item"))
        .with_row_index("session")
        .explode("item")
        .drop_nulls("item")
    )
    return clicks.select(
        pl.col("session").cast(pl.Int64),
        _text(clicks["item"]),
        pl.lit(None, pl.Float64).alias("time"),
        pl.lit(None, pl.String).alias("category"),
    )


def _queries_of_lists(frame: pl.DataFrame, ids: pl.Series, path: Path) -> Queries:
    if "label" not in frame.columns:
        raise SessionDataError(f"{path} has 'prefix' but lacks 'label', the item to predict.")
    _check_lists(frame, "prefix", path)
    frame = frame.filter(pl.col("label").is_not_null())
    clicks = frame.select(pl.col("prefix").alias("item")).with_row_index("query").explode("item")
    items = _numbers(_text(clicks["item"]), ids).to_numpy().astype(np.int32)
    lengths = np.bincount(clicks["query"].to_numpy(), minlength=len(frame)).astype(np.int64)
    end = np.cumsum(lengths)
    label = _numbers(_text(frame["label"]), ids).to_numpy().astype(np.int32)
    return Queries(items, np.zeros(0, np.float64), end - lengths, end, label)


def _check_lists(frame: pl.DataFrame, column: str, path: Path) -> None:
    if not isinstance(frame.schema[column], pl.List | pl.Array):
        raise SessionDataError(
            f"Column {column!r} of {path} is {frame.schema[column]}: expected a list of items."
        )


def _sessions(frame: pl.DataFrame) -> Sessions:
    session = frame["session"].to_numpy()
    begins = np.flatnonzero(np.diff(session, prepend=-1))
    offsets = np.append(begins, len(session)).astype(np.int64)
    known = frame["time"].null_count() == 0
    times = frame["time"].to_numpy().astype(np.float64) if known else np.zeros(0, np.float64)
    return Sessions(offsets, frame["item"].to_numpy().astype(np.int32), times)


def _categories(frame: pl.DataFrame, n_items: int) -> NDArray[np.int32]:
    """Each item's category at its last click, numbered."""
    category = np.full(n_items, -1, np.int32)
    known = frame.select("item", "category").drop_nulls("category")
    if not known.is_empty():
        names = known["category"].unique(maintain_order=True)
        category[known["item"].to_numpy()] = _numbers(known["category"], names).to_numpy()
    return category


def _numbers(values: pl.Series, ids: pl.Series) -> pl.Series:
    """Position of each value in `ids`, NEVER_SEEN when absent; int32."""
    table = pl.DataFrame({"id": ids}).with_row_index("number")
    found = pl.DataFrame({"id": values}).join(table, on="id", how="left", maintain_order="left")
    return found["number"].cast(pl.Int32).fill_null(NEVER_SEEN)


def _text(values: pl.Series) -> pl.Series:
    """Ids as text; a whole number that was stored as a float keeps its integer form."""
    if values.dtype.is_float():
        values = values.fill_nan(None)
    if values.dtype.is_float() and bool((values.drop_nulls() % 1 == 0).all()):
        values = values.cast(pl.Int64)
    return values.cast(pl.String)


def _seconds(time: pl.Series, path: Path) -> pl.Series:
    if time.dtype == pl.Date or isinstance(time.dtype, pl.Datetime):
        return time.cast(pl.Datetime("us")).dt.epoch("us") / 1e6
    if time.dtype == pl.String:
        number = time.cast(pl.Float64, strict=False)
        if number.null_count() > time.null_count():
            return _seconds(_dates(time, path), path)
        time = number
    if not time.dtype.is_numeric():
        raise SessionDataError(f"Column 'time' of {path} is {time.dtype}: expected numbers.")
    seconds = time.cast(pl.Float64).fill_nan(None)
    size = seconds.abs().median()
    scale = 1.0
    for limit, unit in ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3)):
        if isinstance(size, float) and size > limit:
            scale = unit
            break
    return seconds / scale


def _dates(time: pl.Series, path: Path) -> pl.Series:
    try:
        return time.str.to_datetime(strict=False, time_unit="us")
    except pl.exceptions.PolarsError:
        raise SessionDataError(
            f"Column 'time' of {path} is neither numbers nor dates: it has {time[0]!r}."
        ) from None


def _quoted(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(repr(name) for name in names)
