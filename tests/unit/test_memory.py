"""Memory made ready ahead: found before it is touched, unchanged, and ahead of what is used."""

import resource

import numpy as np
import pytest

from onhand.app import App
from onhand.contracts.records import Event, Item
from onhand.engine import Engine
from onhand.log.memory import MemoryLog
from onhand.serving.memory import Memory
from onhand.state.state import BYTES_AHEAD, ROWS_AHEAD, Limits, State

_WORDS = 1 << 21


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _touch(array: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> int:
    """Return how many pages the system has to find when each is written to."""
    before = _faults()
    array[::512] += 1
    return _faults() - before


def test_what_is_ready_is_not_found_when_it_is_touched() -> None:
    memory, plain, ready = Memory(), np.zeros(_WORDS, np.int64), np.zeros(_WORDS, np.int64)
    ready[:3] = 7
    if not memory.make_ready([ready[: _WORDS // 2]]):
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
        assert len(here[0]) == 65 + min(ROWS_AHEAD, BYTES_AHEAD // column.strides[0])
    assert all(now >= before for now, before in zip(map(len, state.ahead()), ends, strict=True))


def test_memory_ends_with_the_columns() -> None:
    engine = Engine(MemoryLog(), limits=Limits(items=100, users=100, sessions=100, pairs=64))
    engine.load()
    assert max(len(each) for each in engine.ahead()) <= 8_192
    engine.close()
