"""Memory made ready ahead: found before it is touched, unchanged, and ahead of what is used."""

import gc
import mmap
import platform
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from onhand.app import App
from onhand.contracts.records import Event, Item
from onhand.engine import Engine
from onhand.log.decisions import DecisionStore
from onhand.log.memory import MemoryLog
from onhand.serving.memory import Memory, give_back
from onhand.state.state import BYTES_AHEAD, ROWS_AHEAD, Limits, State

WORDS = 1 << 21
SMALL = Limits(items=100, users=100, sessions=100, pairs=64, event_ids=1_000)


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _fresh() -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Return zeros that nobody had before: what an allocator gives may have been touched."""
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    return np.frombuffer(mmap.mmap(-1, 8 * WORDS, private), np.int64)


def _touch(array: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> int:
    """Return how many pages the system has to find when each is written to."""
    before = _faults()
    array[::512] += 1
    return _faults() - before


def test_what_is_ready_is_not_found_when_it_is_touched() -> None:
    memory, plain, ready = Memory(), _fresh(), _fresh()
    ready[:3] = 7
    if not memory.make_ready([ready[: WORDS // 2]]):
        pytest.skip("this system has no call for it")
    assert memory.make_ready([ready])
    assert ready[:3].tolist() == [7, 7, 7]
    assert not ready[3:].any()
    untouched = _touch(plain)
    assert untouched > 0
    assert _touch(ready) < untouched / 2


def test_memory_goes_beyond_what_is_used() -> None:
    limits = Limits(items=20_000, users=20_000, sessions=20_000, pairs=1_024)
    state = State(limits, App().features.accumulators(limits))
    ends = [len(each) for each in state.ahead()]
    state.apply([Item(id="a", title="A")], 1)
    state.apply([Event("view", session=f"s{n}", item="a", time=1_000 + n) for n in range(64)], 65)
    aggregates = state.aggregates
    assert aggregates is not None
    for column in (
        *state.session,
        *aggregates.columns({"items": 2, "users": 1, "sessions": 65})[2][:1],
    ):
        here = [each for each in state.ahead() if each.ctypes.data == column.ctypes.data]
        assert len(here) == 1
        rows = min(ROWS_AHEAD, BYTES_AHEAD // column.strides[0])
        assert 65 + rows <= len(here[0]) <= 65 + 2 * rows
    assert all(now >= before for now, before in zip(map(len, state.ahead()), ends, strict=True))


def test_memory_ends_with_the_columns() -> None:
    engine = Engine(MemoryLog(), limits=SMALL)
    engine.load()
    assert max(len(each) for each in engine.ahead()) <= 8_192
    engine.close()


def test_pages_and_records_leave_no_cycles(tmp_path: Path) -> None:
    decisions = DecisionStore(tmp_path / "decisions.db")
    engine = Engine(MemoryLog(), decisions=decisions, limits=SMALL)
    engine.load()

    def go_on(numbers: range) -> None:
        for n in numbers:
            view = {"kind": "event", "type": "view", "session": f"s{n}", "item": "a", "id": f"e{n}"}
            engine.ingest([view, view | {"item": ""}])
            engine.recommend("home", session=f"s{n}")
            engine.recommend("product", session=f"s{n}", item="a", filter="price < 5")

    engine.ingest([{"kind": "item", "id": "a", "title": "A"}])
    go_on(range(10))
    gc.collect()
    gc.disable()
    try:
        go_on(range(10, 60))
        assert gc.collect() == 0
    finally:
        gc.enable()
    engine.close()


_IN_HEAP = """
import re, resource
from pathlib import Path
import numpy as np
from onhand.serving.memory import grow_heap, keep_heap

keep = {keep}
if keep:
    keep_heap()
for _ in range(3):  # a large one that goes back has glibc take larger ones from the heap
    np.ones(3 << 20)
array = np.ones(3 << 18)
heap = re.search(r"^(\\w+)-(\\w+) .*\\[heap\\]$", Path("/proc/self/maps").read_text(), re.M)
begin, end = (int(edge, 16) for edge in heap.groups())
grow_heap()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
bodies = [b"." * (1 << 20) for _ in range(24)]
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(begin <= array.ctypes.data < end, faults)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
@pytest.mark.parametrize("keep", [True, False])
def test_large_arrays_are_no_part_of_a_heap_that_was_touched_before(keep: bool) -> None:
    command = [sys.executable, "-c", _IN_HEAP.format(keep=keep)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    in_heap, faults = ran.stdout.split()
    assert in_heap == str(not keep)
    assert not keep or int(faults) < 10


_HUGE = """
import mmap, re
from pathlib import Path
from onhand.serving.memory import refuse_huge_pages

if {refuse}:
    refuse_huge_pages()
memory = mmap.mmap(-1, 64 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_HUGEPAGE)
memory[::4096] = b"." * (len(memory) // 4096)
print(re.search(r"AnonHugePages: *(\\d+) kB", Path("/proc/self/smaps_rollup").read_text())[1])
"""


def _huge_kb(*, refuse: bool) -> int:
    command = [sys.executable, "-c", _HUGE.format(refuse=refuse)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="no huge pages of this kind")
def test_a_process_that_refuses_huge_pages_has_none() -> None:
    if not _huge_kb(refuse=False):
        pytest.skip("this system gives none")
    assert _huge_kb(refuse=True) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="no call for it")
def test_memory_that_is_given_back_is_the_systems_again() -> None:
    large, small = _fresh(), np.arange(9)
    assert _touch(large) > _touch(large)
    give_back([large, small, large[:0]])
    assert _touch(large) > _touch(large)
    assert small.tolist() == list(range(9))
