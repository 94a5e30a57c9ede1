"""Every feature against counting by hand over the raw events, at any moment."""

import math
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from onhand.contracts.records import Event, Item, Record
from onhand.features.declare import Feature, count, decayed, distinct, last, since, sum
from onhand.features.ready import READY
from onhand.features.set import Asker, FeatureSet
from onhand.features.windows import bucket_ms_of, parse_duration_ms
from onhand.state.state import State
from streams import FEATURES, LIMITS, START_MS, folded, streams

HOUR_MS = 3_600_000
steps = st.integers(-3_000, 9_000) | st.integers(-5 * HOUR_MS, 40 * HOUR_MS)
moments = st.lists(st.tuples(steps, st.integers(1, 9)), max_size=30)


def purchases(moments: list[tuple[int, int]]) -> list[Record]:
    return [
        Event(
            "purchase", user="u", session="s", item="mug", time=START_MS + step, quantity=quantity
        )
        for step, quantity in moments
    ]


def values_of(features: FeatureSet, state: State, now_ms: int) -> dict[str, float]:
    vector = features.vector()
    asker = Asker(state.users.rows.get("u", 0), state.sessions.rows.get("s", 0))
    row = vector.gather(state, asker, np.array([state.items.rows.get("mug", 0)]), now_ms)[0]
    return dict(zip(vector.names, row.tolist(), strict=True))


def folded_with(features: FeatureSet, stream: list[Record]) -> State:
    state = State(LIMITS, features.accumulators(LIMITS))
    state.apply(stream, len(stream))
    return state


@given(moments, steps, st.sampled_from(["5s", "30s", "1h", "1d"]))
def test_a_window_is_a_count_of_its_buckets(moments: list[tuple[int, int]], step: int, window: str):
    """Also when the clock has gone back, or events came out of order: what counts is what lies
    in the window that ends at the later of now and the latest event."""
    features = FeatureSet(
        [
            count("purchase", by="item", window=window, name="counted"),
            sum("quantity", of="purchase", by="item", window=window, name="summed"),
        ]
    )
    state = folded_with(features, purchases(moments))
    bucket_ms = bucket_ms_of(parse_duration_ms(window))
    size = parse_duration_ms(window) // bucket_ms
    now = (START_MS + step) // bucket_ms
    buckets = [((START_MS + at) // bucket_ms, quantity) for at, quantity in moments]
    latest = max([now, *(bucket for bucket, _ in buckets)])
    inside = [quantity for bucket, quantity in buckets if latest - size < bucket <= now]
    got = values_of(features, state, START_MS + step)
    assert got["counted"] == len(inside)
    assert got["summed"] == np.float32(np.sum(inside))


@given(moments, st.integers(0, 40 * HOUR_MS))
def test_latest_decayed_and_distinct(moments: list[tuple[int, int]], later_ms: int):
    features = FeatureSet(
        [
            last("quantity", of="purchase", by="session", name="last"),
            since("purchase", by="session", name="since"),
            decayed("purchase", by="session", half_life="1h", name="decayed"),
            count("purchase", by="session", name="total"),
        ]
    )
    state = folded_with(features, purchases(moments))
    newest = max((step for step, _ in moments), default=0)
    now_ms = START_MS + newest + later_ms
    got = values_of(features, state, now_ms)
    assert got["total"] == len(moments)
    if moments:
        assert got["last"] == [quantity for step, quantity in moments if step == newest][-1]
        assert got["since"] == np.float32(later_ms / 1000)
    expected = np.sum([2.0 ** ((step - newest - later_ms) / HOUR_MS) for step, _ in moments])
    assert math.isclose(got["decayed"], expected, rel_tol=0.02, abs_tol=0.01)


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 3 * HOUR_MS)), max_size=30),
    st.integers(0, 4 * HOUR_MS),
)
def test_distinct_counts_the_latest_members(visits: list[tuple[int, int]], step: int):
    feature = distinct("item", of="view", by="session", window="1h", most=4, name="items")
    stream: list[Record] = [
        Event("view", session="s", item=f"item{item}", time=START_MS + at) for item, at in visits
    ]
    features = FeatureSet([feature])
    state = folded_with(features, stream)
    seen: dict[int, int] = {}
    for item, at in visits:
        seen[item] = max(at, seen.get(item, 0))
    now = (START_MS + step) // 120_000
    latest = sorted(seen.values(), reverse=True)[:4]
    expected = len([at for at in latest if now - 30 < (START_MS + at) // 120_000 <= now])
    assert values_of(features, state, START_MS + step)["items"] == expected


askers = st.builds(Asker, st.integers(0, 7), st.integers(0, 7), st.integers(0, 3), st.just(0))


@given(streams, askers, st.integers(-90 * 24 * HOUR_MS, 600 * 24 * HOUR_MS))
def test_every_value_is_finite_and_none_is_negative_that_cannot_be(
    stream: list[Record], asker: Asker, step: int
):
    state = folded(stream)
    vector = FEATURES.vector()
    values = vector.gather(state, asker, np.arange(len(state.items)), START_MS + step)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    money = [name.endswith(("revenue_7d", "spent_30d")) for name in vector.names]
    assert (values[:, ~np.array(money)] >= 0).all()


@given(streams, askers, st.integers(0, 10**9))
def test_reading_changes_nothing_and_rows_do_not_depend_on_their_neighbours(
    stream: list[Record], asker: Asker, step: int
):
    state = folded(stream)
    vector = FEATURES.vector()
    items = np.arange(len(state.items))
    before = {name: array.tobytes() for name, array in state.dump().arrays.items()}
    together = vector.gather(state, asker, items, START_MS + step)
    alone = [vector.gather(state, asker, items[at : at + 1], START_MS + step) for at in items]
    assert np.concatenate(alone).tobytes() == together.tobytes()
    assert {name: array.tobytes() for name, array in state.dump().arrays.items()} == before


@given(streams, st.randoms(use_true_random=False), st.integers(0, 10**9))
def test_neither_the_order_of_registration_nor_other_features_change_a_value(
    stream: list[Record], random: Random, step: int
):
    shuffled: list[Feature] = list(READY)
    random.shuffle(shuffled)
    sets = FeatureSet(READY), FeatureSet(shuffled)
    assert sets[0].version == sets[1].version
    more = FeatureSet(
        [*READY, count(("click", "view"), by="item", window="60s"), count("hover", by="user")]
    )
    assert more.version != sets[0].version
    seen = []
    for features in (*sets, more):
        state = folded_with(features, stream)
        vector = features.vector(sets[0].names)
        items = np.arange(len(state.items))
        seen.append(vector.gather(state, Asker(1, 1), items, START_MS + step).tobytes())
    assert seen[0] == seen[1] == seen[2]


@given(streams)
def test_all_windows_expire_without_any_event(stream: list[Record]):
    state = folded(stream)
    names = [f.name for f in READY if f.code == 0 and f.buckets[0]]
    vector = FEATURES.vector(names)
    far_ms = START_MS + 600 * 24 * HOUR_MS
    for user in range(len(state.users)):
        values = vector.gather(state, Asker(user, user), np.arange(len(state.items)), far_ms)
        assert not values.any()


def test_a_time_to_live_is_honoured_at_read_time():
    features = FeatureSet(
        [last("price", of="view", by="session", ttl="30m", default=7.0, name="price")]
    )
    stream: list[Record] = [
        Item("mug", price=2.5),
        Event("view", session="s", item="mug", time=START_MS),
    ]
    state = folded_with(features, stream)
    assert values_of(features, state, START_MS + 30 * 60_000)["price"] == 2.5
    assert values_of(features, state, START_MS + 30 * 60_000 + 1)["price"] == 7.0
    assert values_of(features, state, START_MS - 5_000)["price"] == 2.5
