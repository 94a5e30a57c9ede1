"""The accumulators' memory: one table a scope, and what a checkpoint keeps of it."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onhand.features.accumulators import OWN_CELLS, Layout
from onhand.features.fold import PRICE_STEPS, fold
from onhand.features.pairs import Pairs, pairs
from onhand.features.zones import table
from onhand.state.port import AGGREGATES
from onhand.state.state import Limits

__all__ = ["Accumulators", "Tables"]

Arrays = dict[str, NDArray[Any]]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_FORMAT: Final = 1


class Tables(NamedTuple):
    """Each scope's rows as int32, (rows, cells), and the same memory as int64, `*_wide`."""

    item: I32
    item_wide: I64
    user: I32
    user_wide: I64
    session: I32
    session_wide: I64
    leaning: I32  # user x category
    leaning_wide: I64
    leanings: Pairs
    place: I32  # item x country
    place_wide: I64
    places: Pairs
    shop: I32
    shop_wide: I64
    prices: I32  # (categories, steps): listed items at each price step
    clock: I64  # events folded


def _tables(layout: Layout, limits: Limits) -> Tables:
    leanings, places = pairs(limits.pairs), pairs(limits.pairs)
    rows = (
        limits.items,
        limits.users,
        limits.sessions,
        len(leanings.key) + 1,
        len(places.key) + 1,
        1,
    )
    item, user, session, leaning, place, shop = (
        np.zeros(shape, np.int32) for shape in zip(rows, layout.widths, strict=True)
    )
    return Tables(
        item, item.view(np.int64),
        user, user.view(np.int64),
        session, session.view(np.int64),
        leaning, leaning.view(np.int64), leanings,
        place, place.view(np.int64), places,
        shop, shop.view(np.int64),
        np.zeros((limits.categories, PRICE_STEPS), np.int32),
        np.zeros(1, np.int64),
    )  # fmt: skip


class Accumulators:
    """What a feature set counts: the `Aggregates` that a state drives.

    `version` is that of the definitions; a checkpoint made with other ones does not fit.
    """

    def __init__(self, layout: Layout, version: str, limits: Limits) -> None:
        self.layout = layout
        self.tables = _tables(layout, limits)
        self.zones = table(layout.zones)
        self.own_cells = np.array(OWN_CELLS, np.int64)
        self.schema = f"features {_FORMAT} {version}"
        self.kinds: Mapping[str, int] = layout.kinds

    def fold(self, operations: I64) -> None:
        """Apply operations, (n, 11) int64, in order."""
        layout = self.layout
        fold(
            self.tables, self.own_cells, layout.spec, layout.starts, layout.members, self.zones,
            operations,
        )  # fmt: skip

    def used(self, rows: Mapping[str, int]) -> Arrays:
        """Return every array up to its used rows; of the pairs, the used slots. A fold may run
        meanwhile where only the sizes count."""
        tables = self.tables
        arrays: Arrays = {
            "item": tables.item[: rows["items"]],
            "user": tables.user[: rows["users"]],
            "session": tables.session[: rows["sessions"]],
            "shop": tables.shop,
            "prices": tables.prices,
            "clock": tables.clock,
        }
        for name, index, cells in self._pairs():
            slots = np.flatnonzero(index.key != 0)  # of a copy: it fails on what a fold changes
            arrays |= {
                f"{name}.slot": slots,
                f"{name}.key": index.key[slots],
                f"{name}.row": index.row[slots],
                f"{name}.touched": index.touched[slots],
                f"{name}.cells": cells[: index.used[0] + 1],
            }
        return {AGGREGATES + name: array for name, array in arrays.items()}

    def columns(self, rows: Mapping[str, int]) -> list[tuple[NDArray[Any], int]]:
        """Return each array whole, and how many of its rows are used; of the pairs' slots all
        are. A fold may run meanwhile."""
        tables = self.tables
        columns: list[tuple[NDArray[Any], int]] = [
            (tables.item, rows["items"]),
            (tables.user, rows["users"]),
            (tables.session, rows["sessions"]),
            (tables.shop, 1),
            (tables.prices, len(tables.prices)),
        ]
        for _, index, cells in self._pairs():
            columns += [(slots, len(slots)) for slots in (index.key, index.row, index.touched)]
            columns.append((cells, int(index.used[0]) + 1))
        return columns

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `used` returned, into tables that are all zero."""
        kept = {
            name.removeprefix(AGGREGATES): array
            for name, array in arrays.items()
            if name.startswith(AGGREGATES)
        }
        for name in ("item", "user", "session", "shop", "prices", "clock"):
            table: NDArray[Any] = getattr(self.tables, name)
            table[: len(kept[name])] = kept[name]
        for name, index, cells in self._pairs():
            slots = kept[f"{name}.slot"]
            index.key[slots] = kept[f"{name}.key"]
            index.row[slots] = kept[f"{name}.row"]
            index.touched[slots] = kept[f"{name}.touched"]
            index.used[0] = len(slots)
            cells[: len(slots) + 1] = kept[f"{name}.cells"]

    def _pairs(self) -> tuple[tuple[str, Pairs, I32], ...]:
        tables = self.tables
        return (
            ("leaning", tables.leanings, tables.leaning),
            ("place", tables.places, tables.place),
        )
