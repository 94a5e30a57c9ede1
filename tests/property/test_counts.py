"""Windows, decayed counts and sketches against counting by hand."""

from collections import Counter
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from onhand.features import windows
from onhand.state import decay, sketch

moments = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 9)), max_size=40)


@given(moments, st.integers(-50, 500), st.integers(1, 12), st.integers(1, 20))
def test_a_window_counts_its_buckets(
    moments: list[tuple[int, int]], now_ms: int, buckets: int, bucket_ms: int
):
    """In time order, a window at any later moment is the sum over its buckets."""
    rings, memory = np.zeros((2, buckets + 3), np.int32), np.zeros((2, 1), np.int64)
    moments.sort()
    for time_ms, amount in moments:
        bucket = time_ms // bucket_ms
        windows.count(rings, 1, 3, buckets, bucket % buckets, memory, 0, bucket, amount)
    now_ms = max(now_ms, moments[-1][0] if moments else 0)
    now = now_ms // bucket_ms
    expected = sum(n for time_ms, n in moments if now - buckets < time_ms // bucket_ms <= now)
    first = (now - buckets + 1) % buckets
    assert windows.total(rings, 1, 3, buckets, memory[1, 0], now, buckets, first) == expected


@given(moments, st.randoms(use_true_random=False), st.integers(-50, 900))
def test_a_window_does_not_mind_the_order(
    moments: list[tuple[int, int]], random: Random, now_ms: int
):
    shuffled = moments.copy()
    random.shuffle(shuffled)
    totals = []
    for order in (sorted(moments), shuffled):
        rings, memory = np.zeros((2, 7), np.int32), np.zeros((2, 1), np.int64)
        for time_ms, amount in order:
            bucket = time_ms // 10
            windows.count(rings, 1, 0, 7, bucket % 7, memory, 0, bucket, amount)
        now = now_ms // 10
        seen = windows.total(rings, 1, 0, 7, memory[1, 0], now, 7, (now - 6) % 7)
        totals.append((rings.tolist(), seen))
    assert totals[0] == totals[1]
    assert totals[0][1] >= 0


@given(st.integers(0, 2 * decay.EPOCH_MS), st.integers(0, 10 * decay.HALF_LIFE_MS))
def test_weights_double_every_half_life(time_ms: int, age_ms: int):
    landmark_ms = decay.landmark_of(time_ms)
    newer = decay.weight_at(time_ms, landmark_ms)
    older = decay.weight_at(time_ms - age_ms, landmark_ms)
    assert newer >= older >= 0
    expected = 1024 * 2 ** ((time_ms - age_ms - landmark_ms) / decay.HALF_LIFE_MS)
    assert expected * 0.988 - 1 < older < expected * 1.001 + 1  # steps of a 64th, rounded


additions = st.lists(st.tuples(st.integers(1, 20), st.integers(1, 50)), max_size=80)


def rows(additions: list[tuple[int, int]], slots: int) -> tuple[list[int], list[int]]:
    members, weights = np.zeros(slots, np.int32), np.zeros(slots, np.int64)
    for member, weight in additions:
        sketch.add(members, weights, member, weight)
    return members.tolist(), weights.tolist()


@given(additions)
def test_a_sketch_with_room_is_exact(additions: list[tuple[int, int]]):
    members, weights = rows(additions, 20)
    counted: Counter[int] = Counter()
    for member, weight in additions:
        counted[member] += weight
    assert {m: w for m, w in zip(members, weights, strict=True) if m} == dict(counted)


@given(additions, st.integers(2, 8))
def test_a_full_sketch_keeps_the_heavy_and_its_order(additions: list[tuple[int, int]], slots: int):
    members, weights = rows(additions, slots)
    counted: Counter[int] = Counter()
    for member, weight in additions:
        counted[member] += weight
    total = sum(counted.values())
    assert weights == sorted(weights, reverse=True)
    assert sum(weights) == total
    for member, weight in counted.items():
        if weight > total / slots:
            assert weights[members.index(member)] >= weight
