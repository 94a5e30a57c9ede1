import numpy as np
import pytest

from onhand.offline.listwise import Groups, RankerSettings, train_ranker
from onhand.ranking.trees import TreeEnsemble


def train(seed: int):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((3000, 7)).astype(np.float32)
    features[::3, 2] += 1.5
    groups = Groups(features, np.full(1000, 3, np.int64))
    return features, train_ranker(
        groups, RankerSettings(n_trees=20), seed=seed, n_threads=1, report=lambda done, total: None
    )


def test_scores_equal_lightgbm():
    features, booster = train(seed=0)
    trees = TreeEnsemble.from_lightgbm(booster.dump_model())
    assert trees.n_trees == 20
    assert trees.n_features == 7
    own = np.asarray(booster.predict(features))
    np.testing.assert_allclose(trees.score(features), own, atol=1e-5)


def test_the_right_candidate_is_learned():
    features, booster = train(seed=0)
    score = TreeEnsemble.from_lightgbm(booster.dump_model()).score(features).reshape(-1, 3)
    assert (score.argmax(axis=1) == 0).mean() > 0.6


def test_same_seed_same_trees():
    assert train(seed=3)[1].dump_model() == train(seed=3)[1].dump_model()


def test_a_tree_without_splits_is_its_leaf():
    dump = {"max_feature_idx": 1, "tree_info": [{"tree_structure": {"leaf_value": 0.5}}]}
    score = TreeEnsemble.from_lightgbm(dump).score(np.zeros((2, 2), np.float32))
    assert score.tolist() == [0.5, 0.5]


def test_other_splits_are_refused():
    leaf = {"leaf_value": 0.0}
    split = {
        "split_feature": 0,
        "threshold": 1.0,
        "decision_type": "==",
        "missing_type": "None",
        "left_child": leaf,
        "right_child": leaf,
    }
    dump = {"max_feature_idx": 0, "tree_info": [{"tree_structure": split}]}
    with pytest.raises(ValueError, match="=="):
        TreeEnsemble.from_lightgbm(dump)
