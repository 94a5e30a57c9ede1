"""Sliding windows, evaluated when they are read.

A window *is* its bucketing: 30 s in buckets of 1 s counts the events in the newest 30 buckets, the
current one included. Buckets lie in a ring, and the latest bucket that was written is remembered
beside it: so a silent item's count falls to zero by itself, and an event too late for the ring
changes nothing. Two windows of one bucketing share a ring as long as the longer one, and neither
can tell. Clocks may step: a reading from before the latest bucket sees what lies in both its own
window and the ring's.
"""

from typing import Any, Final

import numpy as np

from onhand.kernel import Array, inlined_kernel, inner_kernel

__all__ = ["FULL", "add", "bucket_ms_of", "count", "parse_duration_ms", "total"]

FULL: Final = 2**31 - 1
"""Where a bucket of 32 bits stops counting."""

_UNITS_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_BUCKETS_MS: Final = (
    (10_000, 100),
    (120_000, 1_000),
    (600_000, 10_000),
    (7_200_000, 120_000),
    (172_800_000, 3_600_000),
    (1_209_600_000, 21_600_000),
)


def parse_duration_ms(text: str) -> int:
    """Return `"30s"`, `"5m"`, `"1h"`, `"7d"` in milliseconds. Raises `ValueError`."""
    number = text.rstrip("mshd")
    unit = _UNITS_MS.get(text[len(number) :])
    if unit is None or not number.isdecimal() or int(number) == 0:
        raise ValueError(f"{text!r} is no length of time; write one like 5s, 30m, 1h or 7d")
    return int(number) * unit


def bucket_ms_of(window_ms: int) -> int:
    """Return the usual bucket of a window: 24 to 100 of them fill it, up to two weeks."""
    for longest_ms, bucket_ms in _BUCKETS_MS:
        if window_ms <= longest_ms:
            return bucket_ms
    return 86_400_000


@inlined_kernel
def advance(
    rings: Array, row: int, at: int, buckets: int, memory: Array, place: int, bucket: int
) -> bool:
    """Make room for `bucket` in the ring of `buckets` cells at `rings[row, at]`, whose latest is
    `memory[row, place]`; False if it is too late."""
    latest = memory[row, place]
    if bucket > latest:
        gone = min(bucket - latest, buckets)
        cell = (bucket - gone + 1) % buckets
        for _ in range(gone):
            rings[row, at + cell] = 0
            cell = cell + 1 if cell + 1 < buckets else 0
        memory[row, place] = bucket
    return bucket > latest - buckets


@inlined_kernel
def add(
    rings: Array, row: int, at: int, buckets: int, cell: int, memory: Array, place: int,
    bucket: int, amount: int,
) -> None:  # fmt: skip
    """Add `amount` in `bucket`, whose place in the ring is `cell`, to one ring of int64."""
    if advance(rings, row, at, buckets, memory, place, bucket):
        rings[row, at + cell] += amount


@inlined_kernel
def count(
    rings: Array, row: int, at: int, buckets: int, cell: int, memory: Array, place: int,
    bucket: int, amount: int,
) -> None:  # fmt: skip
    """Add a positive `amount` to one ring of int32, whose buckets stop at `FULL`."""
    if advance(rings, row, at, buckets, memory, place, bucket):
        rings[row, at + cell] = np.int32(min(np.int64(rings[row, at + cell]) + amount, FULL))


@inner_kernel
def total(
    rings: Array, row: int, at: int, size: int, latest: int, now: int, buckets: int, cell: int
) -> Any:
    """Return the sum over the `buckets` that end at bucket `now`, out of a ring of `size` cells
    whose latest is `latest`; the first of them has its place at `cell`."""
    first = now - buckets + 1
    if latest > now:
        first = latest - buckets + 1
        cell = first % size
    within = max(min(now, latest) + 1 - first, 0)
    upto = min(cell + within, size)
    sum_ = np.int64(0)
    for amount in rings[row, at + cell : at + upto]:
        sum_ += amount
    for amount in rings[row, at : at + within - (upto - cell)]:
        sum_ += amount
    return sum_
