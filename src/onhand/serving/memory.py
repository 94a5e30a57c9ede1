"""Memory made ready ahead of the fold.

Columns begin as zero pages, and the system finds memory for a page when it is first touched. For a
huge page of 2 MiB that takes milliseconds, on the event loop (`bench/stalls.py`). So another thread
has the pages that come next found before. It changes no content, so nothing need wait for it.
"""

import ctypes
import mmap
from collections.abc import Iterable
from typing import Any, Final

from numpy.typing import NDArray

__all__ = ["Memory"]

_POPULATE_WRITE: Final = 23
"""MADV_POPULATE_WRITE, of Linux 5.14; other systems refuse it."""
_madvise = ctypes.CDLL(None).madvise
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class Memory:
    """Knows how far arrays that grow are ready."""

    def __init__(self) -> None:
        self._ready_bytes: dict[int, int] = {}

    def make_ready(self, arrays: Iterable[NDArray[Any]]) -> bool:
        """Have memory found for C-contiguous arrays, beyond what was found for those that begin at
        the same places before; return False where the system cannot."""
        for array in arrays:
            address, size = array.ctypes.data, array.nbytes
            begin = self._ready_bytes.get(address, 0)
            if size > begin:
                if not _populate(address + begin, size - begin):
                    return False
                self._ready_bytes[address] = size
        return True


def _populate(address: int, size: int) -> bool:
    before = address % mmap.PAGESIZE
    failed: int = _madvise(address - before, size + before, _POPULATE_WRITE)
    return not failed
