"""A disk that can be made slow or full while the server runs: an SQLite file layer for drills.

It lies over the real one and breaks it on demand: every fsync takes half a second, or every write
finds the disk full. Nothing else is changed, but that the folder of a new file is not synced: what
a drill shows is what SQLite and the stores do about it.

A file is written and synced by calls of Python's own, which let other threads have the interpreter
meanwhile, as SQLite does without this layer. apsw's calls to the layer beneath keep it: where the
host's disk took 0.8 s for an fsync, no page was answered for as long.
"""

import errno
import itertools
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
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
        self._descriptors: dict[tuple[int, int], int] = {}
        super().__init__(self.name, _BASE)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        """Open a file that breaks with the disk."""
        return _File(self, name, flags)

    def descriptor(self, path: str) -> int:
        """A descriptor of an open file, one for all who open it. It is never closed: with it the
        locks would go that SQLite has on the file (`fcntl(2)`)."""
        status = Path(path).stat()
        file = status.st_dev, status.st_ino
        if file not in self._descriptors:
            self._descriptors[file] = os.open(path, os.O_RDWR)
        return self._descriptors[file]


class _File(apsw.VFSFile):
    """One file on the disk."""

    def __init__(
        self, disk: FaultyDisk, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        super().__init__(_BASE, name, flags)  # type: ignore[arg-type]
        self._disk = disk
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        with _as_sqlite_says():
            self._descriptor = None if path is None else disk.descriptor(path)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        """Write, or find the disk full."""
        if self._disk.full:
            raise apsw.FullError("the disk is full, for a drill")
        if self._descriptor is None:
            super().xWrite(data, offset)
            return
        with _as_sqlite_says():
            if os.pwrite(self._descriptor, data, offset) < len(data):
                raise apsw.FullError("the disk took a part only")

    def xSync(self, flags: int) -> None:  # noqa: N802
        """Sync, slowly on a slow disk."""
        if self._disk.slow:
            time.sleep(SLOW_S)
        if self._descriptor is None:
            super().xSync(flags)
            return
        with _as_sqlite_says():
            os.fdatasync(self._descriptor)


@contextmanager
def _as_sqlite_says() -> Generator[None]:
    """Raise what the system says of a file as SQLite does."""
    try:
        yield
    except OSError as error:
        kind = apsw.FullError if error.errno == errno.ENOSPC else apsw.IOError
        raise kind(str(error)) from error
