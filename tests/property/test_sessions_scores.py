"""The compiled scorers equal the papers' formulas written out in plain Python."""

import math
from collections import defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from onhand.features.sessions import SIGNALS
from onhand.offline.session_data import Sessions
from onhand.offline.session_recipe import Recipe, build_sources
from onhand.retrieval.sessions import NeighbourSettings, SessionIndex, SessionSources
from onhand.retrieval.sessions.top import best
from onhand.retrieval.sessions.transitions import count_transitions

N_ITEMS = 8
item = st.integers(0, N_ITEMS - 1)
histories = st.lists(st.lists(item, min_size=1, max_size=6), min_size=1, max_size=12)
visit = st.lists(item, min_size=1, max_size=8)
History = list[list[int]]


def flat(history: History) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    offsets = np.cumsum([0, *map(len, history)]).astype(np.int64)
    return offsets, np.array([i for session in history for i in session], np.int32)


def sources_of(history: History, n_neighbours: int, per_item: int) -> SessionSources:
    offsets, items = flat(history)
    recipe = Recipe(
        sessions_per_item=per_item, neighbours=NeighbourSettings(n_neighbours=n_neighbours)
    )
    sessions = Sessions(offsets, items, np.zeros(0))
    return build_sources(sessions, np.full(N_ITEMS, -1, np.int32), recipe)


def signal(sources: SessionSources, visit: list[int], name: str) -> dict[int, float]:
    found = sources.find(
        sources.arrays(),
        sources.scratch(),
        np.array(visit, np.int32),
        np.zeros(0),
        sources.allow_all(),
    )
    values = found.features[:, SIGNALS.index(name)]
    pairs = zip(found.items.tolist(), values.tolist(), strict=True)
    return {number: value for number, value in pairs if value > 0}


def vmis(history: History, visit: list[int], k: int, m: int) -> dict[int, float]:
    """VMIS-kNN without the weight for rarity, as in the paper, by brute force."""
    latest = {number: place for place, number in enumerate(visit)}
    similarity: dict[int, float] = defaultdict(float)
    newest_shared: dict[int, int] = {}
    for number, place in latest.items():
        having = [s for s, past in enumerate(history) if number in past][-m:]
        for s in having:
            similarity[s] += float(np.float32((place + 1) / len(visit)))
            newest_shared[s] = max(newest_shared.get(s, -1), place)
    ordered = sorted(similarity, key=lambda s: (round(similarity[s], 5), s), reverse=True)
    score: dict[int, float] = defaultdict(float)
    for s in ordered[:k]:
        vote = similarity[s] * (1 - 0.1 * (len(visit) - newest_shared[s]))
        for number in set(history[s]):
            score[number] += max(0.0, vote)
    return {number: value for number, value in score.items() if value > 0}


def close(a: dict[int, float], b: dict[int, float]) -> bool:
    return a.keys() == b.keys() and all(math.isclose(a[i], b[i], rel_tol=1e-4) for i in a)


@settings(max_examples=150, deadline=None)
@given(histories, visit)
def test_neighbour_votes_equal_brute_force(history: History, visit: list[int]):
    got = signal(sources_of(history, 200, 1000), visit, "neighbours_flat")
    wanted = vmis(history, visit, 200, 1000)
    got.pop(visit[-1], None)  # may be forbidden as the next click
    wanted.pop(visit[-1], None)
    assert close(got, wanted)


@settings(max_examples=150, deadline=None)
@given(histories, item, st.integers(1, 4), st.integers(1, 6))
def test_the_most_recent_sessions_are_the_neighbours(
    history: History, clicked: int, k: int, m: int
):
    got = signal(sources_of(history, k, m), [clicked], "neighbours_flat")
    wanted = vmis(history, [clicked], k, m)
    got.pop(clicked, None)
    wanted.pop(clicked, None)
    assert close(got, wanted)


@settings(max_examples=150, deadline=None)
@given(histories)
def test_transitions_equal_brute_force(history: History):
    offsets, items = flat(history)
    table = count_transitions(offsets, items, N_ITEMS)
    after = np.zeros((N_ITEMS, N_ITEMS))
    following = np.zeros((N_ITEMS, N_ITEMS))
    for past in history:
        for i, a in enumerate(past):
            for lag, b in enumerate(past[i + 1 : i + 11], start=1):
                after[a, b] += 1 / lag
                following[a, b] += lag == 1
    clicks = np.bincount(items, minlength=N_ITEMS)
    both = (after + after.T) / np.sqrt(np.outer(clicks + 2, clicks + 2))
    wanted = {
        0: following / (following.sum(axis=1, keepdims=True) + 1),
        1: after / (after.sum(axis=1, keepdims=True) + 1),
        3: after.T / (after.T.sum(axis=1, keepdims=True) + 1),
        4: both,
    }
    for column, matrix in wanted.items():
        got = np.zeros((N_ITEMS, N_ITEMS))
        for a in range(N_ITEMS):
            entries = slice(table.start[a], table.start[a + 1])
            got[a, table.item[entries]] = table.weight[entries, column]
        np.testing.assert_allclose(got, matrix, rtol=1e-4, atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(histories, st.integers(1, 5))
def test_an_index_grown_click_by_click_equals_one_built(history: History, per_item: int):
    offsets, items = flat(history)
    built = SessionIndex(offsets, items, N_ITEMS, sessions_per_item=per_item)
    grown = SessionIndex(
        np.zeros(1, np.int64), np.zeros(0, np.int32), N_ITEMS, sessions_per_item=per_item
    )
    for session, past in enumerate(history):
        for number in past:
            grown.add(session, number)
    assert grown.n_sessions == built.n_sessions
    assert grown.sessions_of.tolist() == built.sessions_of.tolist()
    for session in range(len(history)):
        assert grown.sessions.row(session).tolist() == built.sessions.row(session).tolist()
    for number in range(N_ITEMS):
        assert set(grown.recent.row(number)) == set(built.recent.row(number))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=40),
    st.integers(1, 12),
)
def test_the_best_are_those_a_sort_finds(values: list[int], n: int):
    scores = np.array(values, np.float32)[:, None]
    numbers = np.arange(len(values), dtype=np.int32)
    heap = np.zeros(n, np.int32)
    size = best(numbers, len(numbers), scores, 0, n, heap)
    wanted = sorted(numbers.tolist(), key=lambda k: (values[k], k), reverse=True)[:n]
    assert sorted(heap[:size].tolist()) == sorted(wanted)
