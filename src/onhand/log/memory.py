"""The log in memory: nothing survives the process. For tests and simulations.

It keeps the batches as they came, and beside them each one's first offset to find a place by.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence

import msgspec

from onhand.contracts.records import Record
from onhand.log.port import Batch, LogFailed, Packed

__all__ = ["MemoryLog"]


class MemoryLog:
    """A `Log` whose records live as long as the object; the structs are kept, not copied."""

    def __init__(self) -> None:
        self._batches: list[Batch] = []
        self._firsts: list[int] = []
        self._last = 0
        self._closed = False

    @property
    def last(self) -> int:
        """The offset of the last record; 0 when the log is empty."""
        return self._last

    def append(self, records: Sequence[Record]) -> int:
        """Keep `records` and return the offset of the last. Raises `LogFailed` once closed."""
        if self._closed:
            raise LogFailed("it is closed")
        if records:
            first = self._last + 1
            self._batches.append(Batch(first, tuple(records)))
            self._firsts.append(first)
            self._last += len(records)
        return self._last

    def read(self, after: int = 0) -> Iterator[Batch]:
        """Yield the records behind offset `after`, in order, in batches, up to the last one."""
        position = max(after, 0)
        while position < self._last:
            batch = self._batches[bisect_right(self._firsts, position + 1) - 1]
            skip = position + 1 - batch.first
            yield Batch(position + 1, batch.records[skip:]) if skip else batch
            position = batch.last

    def packed(self, after: int = 0) -> Iterator[Packed]:
        """Yield what `read` does, encoded."""
        for first, records in self.read(after):
            yield Packed(first, len(records), b"".join(map(msgspec.msgpack.encode, records)))

    def close(self) -> None:
        """Take no more records; a second call does nothing."""
        self._closed = True
