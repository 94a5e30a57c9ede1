"""The port: what the engine needs of a log, whatever keeps it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import msgspec

from onhand.contracts.errors import Unavailable
from onhand.contracts.records import Record

__all__ = ["Batch", "Log", "LogDamaged", "LogFailed", "LogFull", "LogRefused", "Packed", "Readable"]


class Batch(NamedTuple):
    """Records that follow each other; the first has offset `first`. How many come together is
    the log's choice, and need not be as they were appended."""

    first: int
    records: Sequence[Record]

    @property
    def last(self) -> int:
        """The offset of the last of them."""
        return self.first + len(self.records) - 1


class Packed(msgspec.Struct, frozen=True):
    """A batch that nobody has decoded: `count` records, MessagePack one behind the other."""

    first: int
    count: int
    elements: bytes

    @property
    def last(self) -> int:
        """The offset of the last of them."""
        return self.first + self.count - 1


class LogFailed(Unavailable):
    """The log could not make a batch durable; it refuses all further writes until reopened."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            "log_failed",
            f"The log could not be written ({reason}). Nothing of this request was taken; "
            "reads go on. Check the disk, then restart the server.",
        )


class LogFull(Unavailable):
    """The disk was full: nothing of a batch was kept, and the next may be."""

    def __init__(self) -> None:
        super().__init__(
            "log_full",
            "The disk is full. Nothing of this request was taken; reads go on. Make room, and "
            "send it again.",
        )


class LogRefused(Unavailable):
    """The log cannot be opened: `log_in_use`, `log_too_new`, `not_a_log` or `log_unreadable`."""


class LogDamaged(Unavailable):
    """What the log holds behind `offset` cannot be read back as it was written."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(
            "log_damaged",
            f"The log is damaged at offset {offset} ({reason}). Everything before it is intact. "
            "Restore the data folder from a backup, and check the disk.",
        )
        self.offset = offset


class Readable(Protocol):
    """What of a log can be had without being its one writer."""

    @property
    def last(self) -> int:
        """The offset of the last durable record; 0 when the log is empty."""
        ...

    def read(self, after: int = 0) -> Iterator[Batch]:
        """Yield the records behind offset `after`, in order, in batches, up to the last one.

        Raises `LogDamaged` where the stored bytes are not what was appended.
        """
        ...

    def packed(self, after: int = 0) -> Iterator[Packed]:
        """Yield what `read` does without decoding it."""
        ...


class Log(Readable, Protocol):
    """Offsets begin at 1 and have no holes; a batch is there whole or not at all."""

    def append(self, records: Sequence[Record]) -> int:
        """Make `records` durable together and return the offset of the last.

        Raises `LogFull`, or `LogFailed`, and that from then on for every append. May run on
        another thread than `read`, one append at a time.
        """
        ...

    def close(self) -> None:
        """Release what is held; a second call does nothing."""
        ...
