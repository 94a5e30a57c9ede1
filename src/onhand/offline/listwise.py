"""Training the ranker: gradient-boosted trees with a listwise softmax loss.

One group is one prediction: one right candidate among wrong ones. The loss is the cross entropy
of the softmax over a group's scores (Cao et al., "ListNet", ICML 2007, with one relevant item).
"""

from collections.abc import Callable
from dataclasses import dataclass

import lightgbm
import numpy as np
from numpy.typing import NDArray

__all__ = ["Groups", "RankerSettings", "train_ranker"]


@dataclass(frozen=True)
class Groups:
    """Training rows; a group's first row is its right candidate."""

    features: NDArray[np.float32]
    """(rows, features)"""
    sizes: NDArray[np.int64]
    """(groups,)"""

    @property
    def starts(self) -> NDArray[np.int64]:
        """First row of each group."""
        return np.cumsum(self.sizes) - self.sizes


@dataclass(frozen=True)
class RankerSettings:
    """Settings of the trees."""

    n_trees: int = 250
    n_leaves: int = 31
    learning_rate: float = 0.07
    min_rows_in_leaf: int = 50
    leaf_penalty: float = 5.0
    feature_share: float = 0.6


def train_ranker(
    groups: Groups,
    settings: RankerSettings,
    *,
    seed: int,
    n_threads: int,
    report: Callable[[int, int], None],
) -> lightgbm.Booster:
    """Fit the trees; `report` is called with how many are done and how many there will be."""
    starts = groups.starts
    group_of = np.repeat(np.arange(len(starts)), groups.sizes)
    label = np.zeros(len(group_of))
    label[starts] = 1

    def softmax_loss(
        score: NDArray[np.float64], _: lightgbm.Dataset
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        share = np.exp(score - np.maximum.reduceat(score, starts)[group_of])
        share /= np.add.reduceat(share, starts)[group_of]
        return share - label, np.maximum(share * (1 - share), 1e-6) * 2

    parameters = {
        "objective": softmax_loss,
        "num_leaves": settings.n_leaves,
        "learning_rate": settings.learning_rate,
        "min_data_in_leaf": settings.min_rows_in_leaf,
        "lambda_l2": settings.leaf_penalty,
        "feature_fraction": settings.feature_share,
        "max_bin": 63,
        "use_missing": False,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": n_threads,
        "seed": seed,
        "verbose": -1,
    }
    data = lightgbm.Dataset(groups.features, label, params=parameters)

    def after_tree(env: lightgbm.callback.CallbackEnv) -> None:
        report(env.iteration + 1, settings.n_trees)

    return lightgbm.train(parameters, data, settings.n_trees, callbacks=[after_tree])
