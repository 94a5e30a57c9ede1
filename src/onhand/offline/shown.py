"""Shown items as training rows: one row an item of a recorded decision, joined to what came of it.

An outcome is an event that names the decision and the item, within a window after the answer.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import polars as pl

from onhand.contracts.records import Event, Record
from onhand.decision.records import DecisionRecord

__all__ = ["OUTCOMES", "Outcomes", "shown_items"]

OUTCOMES: Final = {"click": "clicked", "cart_add": "carted", "purchase": "purchased"}

_SCHEMA: Final = {
    "row": pl.Int64, "decision": pl.String, "slot": pl.String, "position": pl.Int64,
    "item": pl.String, "user": pl.String, "session": pl.String, "country": pl.String,
    "device": pl.String, "score": pl.Float64, "source": pl.String, "model": pl.String,
    "offset": pl.Int64, "time": pl.Int64,
}  # fmt: skip


def shown_items(records: Iterable[DecisionRecord]) -> pl.DataFrame:
    """Return one row a shown item, with the offset and the moment that it was chosen at."""
    rows = [
        (
            record.answer.decision, record.answer.slot, position, item.id, record.request.user,
            record.request.session, record.request.context.country, record.request.context.device,
            item.score, item.source, record.answer.model, record.answer.as_of, record.now_ms,
        )
        for record in records
        for position, item in enumerate(record.answer.items, 1)
    ]  # fmt: skip
    numbered = [(at, *row) for at, row in enumerate(rows)]
    return pl.DataFrame(numbered, schema=_SCHEMA, orient="row")


class Outcomes:
    """Watches a log go by for what came of shown items."""

    def __init__(self, shown: pl.DataFrame, window_ms: int) -> None:
        self._window_ms = window_ms
        keys = zip(shown["decision"], shown["item"], shown["row"], shown["time"], strict=True)
        self._rows = {(decision, item): (row, time_ms) for decision, item, row, time_ms in keys}
        self._found: dict[str, set[int]] = {name: set() for name in OUTCOMES.values()}

    def watch(self, records: Sequence[Record]) -> None:
        """Note the outcomes among `records`."""
        for record in records:
            if type(record) is not Event or record.decision is None or record.item is None:
                continue
            name = OUTCOMES.get(record.type)
            shown = self._rows.get((record.decision, record.item))
            if name is None or shown is None or not isinstance(record.time, int):
                continue
            if 0 <= record.time - shown[1] <= self._window_ms:
                self._found[name].add(shown[0])

    def join(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Add a column of 0 and 1 for each outcome."""
        return rows.with_columns(
            pl.col("row").is_in(sorted(found)).cast(pl.Int8).alias(name)
            for name, found in self._found.items()
        ).drop("row")
