"""Memory made ready ahead of the fold.

Columns begin as zero pages, and the system finds memory for a page when it is first touched, on
the event loop (`bench/stalls.py`). So another thread has the pages that come next found before. It
changes no content, so nothing need wait for it.

Huge pages of 2 MiB, for which NumPy asks, take milliseconds to find, and a thread of the system's
(`khugepaged`) takes 5 ms at a time to make more of them, in which the processor does nothing else.
Neither a page nor a restart is faster for them, so the server has none.
"""

import ctypes
import mmap
import sys
from collections.abc import Iterable
from typing import Any, Final

from numpy.typing import NDArray

__all__ = ["Memory", "give_back", "grow_heap", "keep_heap", "refuse_huge_pages"]

_POPULATE_WRITE: Final = 23
"""MADV_POPULATE_WRITE, of Linux 5.14; other systems refuse it."""
_DONT_NEED: Final = 4
"""MADV_DONTNEED."""
_THP_DISABLE: Final = 41
"""PR_SET_THP_DISABLE of `prctl(2)`."""
_OWN_BYTES: Final = 4 << 20
_HEAP_BYTES: Final = 32 << 20
_BLOCK_BYTES: Final = 2 << 20
_MMAP_THRESHOLD: Final = -3
_TRIM_THRESHOLD: Final = -1
"""As `mallopt(3)` counts them."""
_libc = ctypes.CDLL(None)
_madvise = _libc.madvise
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def refuse_huge_pages() -> None:
    """Have no huge pages from now on, in this process and those that it begins, where the system
    can be told."""
    prctl = getattr(_libc, "prctl", None)
    if prctl is not None:
        prctl(_THP_DISABLE, 1, 0, 0, 0)


def keep_heap() -> None:
    """Have the allocator keep up to 64 MiB of a heap that are free at its end, and take the memory
    of large arrays from the system and give it back there; where it can be told."""
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _OWN_BYTES)
        mallopt(_TRIM_THRESHOLD, 2 * _HEAP_BYTES)


def grow_heap() -> None:
    """Have memory found for what this thread's heap will hold."""
    touched = [b"." * _BLOCK_BYTES for _ in range(_HEAP_BYTES // _BLOCK_BYTES)]
    del touched


def give_back(arrays: Iterable[NDArray[Any]]) -> None:
    """Have the system take back the memory of C-contiguous arrays that nobody will read again: when
    they go, that takes it milliseconds more, in which they keep the interpreter."""
    if sys.platform == "linux":
        for array in arrays:
            begin, end = array.ctypes.data, array.ctypes.data + array.nbytes
            first, last = -(-begin // mmap.PAGESIZE), end // mmap.PAGESIZE
            if first < last:
                _madvise(first * mmap.PAGESIZE, (last - first) * mmap.PAGESIZE, _DONT_NEED)


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
