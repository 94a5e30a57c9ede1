import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onhand.kernel import (
    Array,
    Held,
    entry_kernel,
    inlined_kernel,
    inner_kernel,
    kernel,
    short_kernel,
)


@pytest.mark.parametrize("compiled", [kernel, inner_kernel, short_kernel, entry_kernel])
def test_indexes_count_from_the_start(compiled: Callable[..., Any]):
    @inlined_kernel
    def read(numbers: Array, at: int) -> int:
        return numbers[at]

    @compiled
    def change(numbers: Array, table: Array, at: int) -> int:
        table[at, 1] = 7
        return read(numbers, at)

    numbers, table = np.arange(4), np.zeros((4, 2), np.int64)
    assert change(numbers[2:], table[2:], 1) == 3
    assert change(numbers[2:], table[2:], -1) == 1  # what lies before it, not its last
    assert table[:, 1].tolist() == [0, 7, 0, 7]


def test_held_tables_live_as_long_as_what_holds_them():
    @short_kernel
    def total(held: Any) -> int:
        one, (other, by) = held.tables
        return one.sum() + by * other.sum()

    held = Held((np.ones(100_000, np.int64), (np.full(100_000, 2, np.int32), 10)))
    gc.collect()
    scribbled = [np.zeros(100_000, np.int64) for _ in range(8)]
    assert total(held) == 2_100_000
    del scribbled
