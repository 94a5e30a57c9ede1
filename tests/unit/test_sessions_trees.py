import json

import numpy as np
import pytest

from onhand.offline.listwise import Groups, RankerSettings, train_ranker
from onhand.ranking.trees import TreeEnsemble


def train(seed: int):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((3000, 7)).astype(np.float32)
    features[::3, 2] += 1.5
    groups = Groups.first_right(features, np.full(1000, 3, np.int64))
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


def test_more_leaves_than_bits_are_refused():
    tree: dict[str, object] = {"leaf_value": 0.0}
    for threshold in range(32):
        tree = {
            "split_feature": 0,
            "threshold": float(threshold),
            "decision_type": "<=",
            "missing_type": "None",
            "left_child": tree,
            "right_child": {"leaf_value": 1.0},
        }
    with pytest.raises(ValueError, match="32 leaves"):
        TreeEnsemble.from_lightgbm({"max_feature_idx": 0, "tree_info": [{"tree_structure": tree}]})


def test_scores_equal_xgboost_but_for_its_base():
    xgboost = pytest.importorskip("xgboost")
    rng = np.random.default_rng(0)
    features = np.round(rng.standard_normal((2000, 5)), 1).astype(np.float32)
    data = xgboost.DMatrix(features, label=features[:, 0] * features[:, 1])
    parameters = {"max_leaves": 31, "grow_policy": "lossguide", "max_depth": 0, "nthread": 1}
    booster = xgboost.train(parameters, data, 20)
    dump = [json.loads(tree) for tree in booster.get_dump(dump_format="json")]
    base = booster.predict(data, output_margin=True) - TreeEnsemble.from_xgboost(dump, 5).score(
        features
    )
    np.testing.assert_allclose(base, base[0], atol=1e-5)
