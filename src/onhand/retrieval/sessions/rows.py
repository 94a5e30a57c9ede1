"""Growing rows: many short integer lists in one array, each of which can be appended to.

Row `r` is `pool[start[r] : start[r] + length[r]]`, so a compiled kernel reads a row without
a Python object in between. A row that outgrows its place moves to the end of the pool with
twice the room (amortised constant time, at most a quarter of the pool is left behind). A row
with a limit becomes a ring: its newest value takes the place of its oldest.
"""

from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["GrowingRows", "RowArrays"]

_Number = TypeVar("_Number", bound=np.generic)


class RowArrays(NamedTuple):
    """What a kernel reads: `start` int64 (rows,), `length` int32 (rows,), `pool` int32 (any,)."""

    start: NDArray[np.int64]
    length: NDArray[np.int32]
    pool: NDArray[np.int32]


class GrowingRows:
    """Integer lists in one pool. Rows are made by appending to them.

    `start` int64 (rows,), `length` int32 (rows,) and `pool` int32 describe the rows to begin
    with; the arrays are owned from then on. `limit` is the length at which a row is a ring
    (0: no limit); a row that begins at the limit must be ordered from oldest to newest.
    """

    def __init__(
        self,
        start: NDArray[np.int64],
        length: NDArray[np.int32],
        pool: NDArray[np.int32],
        *,
        limit: int = 0,
    ) -> None:
        self.limit = limit
        self.n_rows = len(start)
        self._start = start
        self._length = length
        self._room = length.copy()
        self._appended = length.astype(np.int64)
        self._pool = pool
        self._used = len(pool)
        self._arrays = RowArrays(start, length, pool)

    @property
    def arrays(self) -> RowArrays:
        """The rows as they are now, for a kernel. Ask again after an append."""
        return self._arrays

    def row(self, row: int) -> NDArray[np.int32]:
        """A copy of row `row`, in the order of the pool."""
        start = int(self._start[row])
        return self._pool[start : start + int(self._length[row])].copy()

    def append(self, row: int, value: int) -> None:
        """Add `value` to `row`; rows up to `row` come into being empty."""
        if row >= self.n_rows:
            self._grow_rows(row + 1)
        length = int(self._length[row])
        if self.limit and length == self.limit:
            slot = int(self._appended[row]) % self.limit
            self._pool[self._start[row] + slot] = value
        else:
            if length == self._room[row]:
                self._move_row(row, length)
            self._pool[self._start[row] + length] = value
            self._length[row] = length + 1
        self._appended[row] += 1

    def _grow_rows(self, n_rows: int) -> None:
        if n_rows > len(self._start):
            size = max(n_rows, 2 * len(self._start))
            self._start = _resized(self._start, size)
            self._length = _resized(self._length, size)
            self._room = _resized(self._room, size)
            self._appended = _resized(self._appended, size)
            self._publish()
        self.n_rows = n_rows

    def _move_row(self, row: int, length: int) -> None:
        room = max(4, 2 * length)
        if self.limit:
            room = min(room, self.limit)
        if self._used + room > len(self._pool):
            self._pool = _resized(self._pool, max(2 * len(self._pool), self._used + room))
            self._publish()
        old = int(self._start[row])
        self._pool[self._used : self._used + length] = self._pool[old : old + length]
        self._start[row] = self._used
        self._room[row] = room
        self._used += room

    def _publish(self) -> None:
        self._arrays = RowArrays(self._start, self._length, self._pool)


def _resized(array: NDArray[_Number], size: int) -> NDArray[_Number]:
    grown = np.zeros(size, array.dtype)
    grown[: len(array)] = array
    return grown
