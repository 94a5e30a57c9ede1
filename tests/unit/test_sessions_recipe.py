from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest

from onhand.features.sessions import FEATURES, SIGNALS
from onhand.offline.listwise import RankerSettings
from onhand.offline.session_data import Sessions, Training
from onhand.offline.session_recipe import Recipe, SessionModel, build_sources, fit, gather


def silent(what: str, done: int, total: int) -> None:
    pass


def walks(n_sessions: int, n_items: int, *, seed: int = 0) -> Training:
    """Sessions that step through a circle of items, now and then back to the one before."""
    rng = np.random.default_rng(seed)
    sessions: list[list[int]] = []
    for _ in range(n_sessions):
        walk = [int(rng.integers(n_items))]
        for _ in range(int(rng.integers(1, 6))):
            step = int(rng.choice([1, 1, 1, 2, -1]))
            walk.append((walk[-1] + step) % n_items)
        sessions.append(walk)
    offsets = np.cumsum([0, *map(len, sessions)])
    items = np.concatenate(sessions).astype(np.int32)
    ids = pl.Series([str(item) for item in range(n_items)])
    times = np.arange(len(items), dtype=np.float64)
    return Training(Sessions(offsets, items, times), ids, (np.arange(n_items) % 4).astype(np.int32))


RECIPE = Recipe(rankers=(RankerSettings(n_trees=30),))


@pytest.fixture(scope="module")
def training():
    return walks(1500, 60)


@pytest.fixture(scope="module")
def model(training: Training) -> SessionModel:
    return fit(training, RECIPE, silent)


def predict(model: SessionModel, items: list[int], n: int = 20) -> list[int]:
    clicks = np.array(items, np.int32)
    return model.predictor().predict(clicks, np.zeros(0), n)[0].tolist()


def test_the_pattern_is_learned(model: SessionModel):
    assert model.trees is not None
    assert predict(model, [10, 11, 12], 1) == [13]


def test_the_last_item_is_not_offered_where_it_never_repeats(model: SessionModel):
    assert not model.sources.may_repeat_last
    assert 12 not in predict(model, [10, 11, 12])


def test_unknown_and_empty_sessions_get_popular_items(model: SessionModel):
    popular = model.sources.popular[:20].tolist()
    assert predict(model, []) == popular
    assert sorted(predict(model, [-1, 10_000])) == sorted(popular)


def test_unknown_items_are_passed_over(model: SessionModel):
    assert predict(model, [10, -1, 11, 12, 999]) == predict(model, [10, 11, 12])


def test_masked_items_never_appear_and_others_take_their_place(model: SessionModel):
    sources = model.sources
    allowed = sources.allow_all()
    allowed[[13, 14]] = False
    clicks = np.array([11, 12], np.int32)
    found = sources.find(sources.arrays(), sources.scratch(), clicks, np.zeros(0), allowed)
    assert not {13, 14} & set(found.items.tolist())
    assert len(found.items) >= 20


def test_a_live_session_is_a_neighbour_at_once(training: Training):
    sources = build_sources(training.sessions, training.category, RECIPE)
    scratch = sources.scratch(spare_sessions=1)
    clicks = np.array([5], np.int32)
    column = SIGNALS.index("neighbours_flat")

    def signal(own_session: int = -1) -> float:
        found = sources.find(
            sources.arrays(),
            scratch,
            clicks,
            np.zeros(0),
            sources.allow_all(),
            own_session=own_session,
        )
        score = dict(zip(found.items.tolist(), found.features[:, column].tolist(), strict=True))
        return score.get(40, 0.0)

    before = signal()
    number = sources.index.n_sessions
    sources.index.add(number, 5)
    sources.index.add(number, 40)
    assert signal() > before
    assert signal(own_session=number) == before


def test_one_at_a_time_equals_many(model: SessionModel, training: Training):
    queries = training.sessions.between(0, 120).queries()

    def copy(first: int, offsets: Any, items: Any, features: Any) -> list[tuple[Any, Any]]:
        return [(items[a:b].copy(), features[a:b].copy()) for a, b in pairwise(offsets)]

    many = [one for part in gather(model.sources, queries, copy, 2, "", silent) for one in part]
    scratch, arrays = model.sources.scratch(), model.sources.arrays()
    for query in range(len(queries)):
        clicks, times = queries.clicks(query)
        one = model.sources.find(arrays, scratch, clicks, times, model.sources.allow_all())
        np.testing.assert_array_equal(one.items, many[query][0])
        np.testing.assert_array_equal(one.features, many[query][1])


def test_every_feature_is_written_and_finite(model: SessionModel):
    scratch = model.sources.scratch()
    scratch.features[:] = np.nan
    clicks = np.array([3, 4, 3], np.int32)
    times = np.array([0.0, 5.0, 9.0])
    found = model.sources.find(
        model.sources.arrays(), scratch, clicks, times, model.sources.allow_all()
    )
    assert found.features.shape[1] == len(FEATURES) == len(set(FEATURES))
    assert np.isfinite(found.features).all()
    own = found.features[found.items == 4][0]
    assert own[FEATURES.index("own_steps")] == 1
    assert own[FEATURES.index("own_dwell")] == pytest.approx(np.log1p(4.0))
    assert own[FEATURES.index("last_gap")] == pytest.approx(np.log1p(4.0))


def test_the_same_seed_gives_the_same_model(model: SessionModel, training: Training):
    again = fit(training, RECIPE, silent)
    assert predict(again, [7, 8, 9]) == predict(model, [7, 8, 9])


def test_few_sessions_do_without_trees():
    model = fit(walks(20, 30), RECIPE, silent)
    assert model.trees is None
    assert len(predict(model, [1, 2])) == 20


def test_a_single_click_is_enough_to_fit():
    one = Sessions(np.array([0, 1]), np.zeros(1, np.int32), np.zeros(0))
    model = fit(Training(one, pl.Series(["a"]), np.full(1, -1, np.int32)), RECIPE, silent)
    assert predict(model, []) == [0]
