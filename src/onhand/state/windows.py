"""Sliding windows, evaluated when they are read.

A window *is* its bucketing: `clicks_30s` counts the events in the newest 30 buckets of 1 s, the
current one included. Buckets lie in a ring; `newest` remembers the latest bucket written, so a
silent item's count falls to zero by itself, and an event too late for the ring changes nothing.
Clocks may step: a reading from before the newest bucket sees what lies in its own window.
"""

from typing import Final, NamedTuple

from onhand.kernel import Array, kernel

__all__ = ["WINDOWS", "Window", "add", "total"]


class Window(NamedTuple):
    """`buckets` buckets of `bucket_ms`; `place` is where an item's `newest` has it."""

    place: int
    buckets: int
    bucket_ms: int


WINDOWS: Final = {
    "clicks_30s": Window(0, 30, 1_000),
    "clicks_1d": Window(1, 24, 3_600_000),
    "sales_5s": Window(2, 50, 100),
    "sales_1d": Window(3, 24, 3_600_000),
}


@kernel
def add(ring: Array, newest: Array, place: int, time_ms: int, bucket_ms: int, amount: int) -> None:
    """Add `amount` at `time_ms` to one ring, (buckets,); `newest[place]` is its latest bucket."""
    buckets = ring.shape[0]
    bucket = time_ms // bucket_ms
    latest = newest[place]
    if bucket > latest:
        for gone in range(max(latest, bucket - buckets) + 1, bucket + 1):
            ring[gone % buckets] = 0
        newest[place] = bucket
    elif bucket <= latest - buckets:
        return
    ring[bucket % buckets] += amount


@kernel
def total(ring: Array, latest: int, now_ms: int, bucket_ms: int) -> int:
    """Return the sum over the window that ends at `now_ms`; `latest` is the ring's last bucket."""
    buckets = ring.shape[0]
    now = now_ms // bucket_ms
    count = 0
    for bucket in range(max(now, latest) - buckets + 1, min(now, latest) + 1):
        count += ring[bucket % buckets]
    return count
