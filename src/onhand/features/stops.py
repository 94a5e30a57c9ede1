"""Folding with stops: features are read between the operations of one fold, in one compiled call.

A backfill stops hundreds of times in a batch. Were each stop a call of its own, the thread that
folds would ask for the interpreter lock at each, and another that is at work keeps it for 5 ms.
"""

from typing import Any

import numpy as np

from onhand.features.fold import fold as fold_counts
from onhand.features.read import gather
from onhand.kernel import Array, kernel
from onhand.state.fold import fold as fold_state

__all__ = ["fold_with_stops"]


@kernel
def fold_with_stops(
    items: Any, sessions: Any, users: Any, places: Any, contexts: Any, clusters: Any, shop: Any,
    tables: Any, own_cells: Array, spec: Array, starts: Array, members: Array, zones: Array,
    operations: Array, readers: Array, floats: Array, sums_of: Array, zone_of: Array, upto: Array,
    whose: Array, now_ms: Array, values: Array,
) -> None:  # fmt: skip
    """Apply `operations`, (n, 11) int64, as both folds do, and write `values` as `gather` does:
    row by row as of when the first `upto`, (rows,) ascending, operations were applied."""
    ageless = np.zeros((0, 0), np.int64)
    done = read = 0
    while read < upto.shape[0]:
        begin, stop = read, upto[read]
        while read < upto.shape[0] and upto[read] == stop:
            read += 1
        step = operations[done:stop]
        fold_state(items, sessions, users, places, contexts, clusters, shop, step)
        fold_counts(tables, own_cells, spec, starts, members, zones, step)
        done = stop
        gather(
            readers, floats, sums_of, tables, spec, zones, zone_of, items, sessions, users,
            whose[begin:read], now_ms[begin:read], values[begin:read], ageless,
        )  # fmt: skip
    fold_state(items, sessions, users, places, contexts, clusters, shop, operations[done:])
    fold_counts(tables, own_cells, spec, starts, members, zones, operations[done:])
