"""A disk that can be made slow or full while the server runs: an SQLite file layer for drills.

It lies over the real one and breaks it on demand: every fsync takes half a second, or every write
finds the disk full. Nothing else is changed, so what a drill shows is what SQLite and the stores
do about it.
"""

import itertools
import time
from typing import Final

import apsw

__all__ = ["FaultyDisk"]

SLOW_S: Final = 0.5
"""What an fsync takes on a slow disk, in addition."""

_BASE: Final = "unix"
_numbers: Final = itertools.count()


class FaultyDisk(apsw.VFS):
    """A file layer under `name`, sound until `slow` or `full` is set."""

    def __init__(self) -> None:
        self.name = f"faulty-disk-{next(_numbers)}"
        self.slow = False
        self.full = False
        super().__init__(self.name, _BASE)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        """Open a file that breaks with the disk."""
        return _File(self, name, flags)


class _File(apsw.VFSFile):
    """One file on the disk."""

    def __init__(
        self, disk: FaultyDisk, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        super().__init__(_BASE, name, flags)  # type: ignore[arg-type]
        self._disk = disk

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        """Write, or find the disk full."""
        if self._disk.full:
            raise apsw.FullError("the disk is full, for a drill")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        """Sync, slowly on a slow disk."""
        if self._disk.slow:
            time.sleep(SLOW_S)
        super().xSync(flags)
