"""Training the ranker: gradient-boosted trees with a listwise softmax loss.

One group is one prediction: one right candidate among wrong ones. The loss is the cross entropy
of the softmax over a group's scores (Cao et al., "ListNet", ICML 2007, with one relevant item).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import lightgbm
import numpy as np
from numpy.typing import NDArray

__all__ = ["Groups", "RankerSettings", "train_ranker", "tune_ranker"]

_HELD_OUT = 0.2  # newest share of the groups that settings are compared on
_MAX_TUNED = 10_000  # newest groups that tuning looks at
_TREE_STEP = 25
_GOOD_ENOUGH = 0.998  # of the best MRR: fewer trees answer sooner


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

    def between(self, first: int, last: int) -> "Groups":
        """Groups `first` to `last - 1`."""
        cuts = np.append(0, np.cumsum(self.sizes))
        return Groups(self.features[cuts[first] : cuts[last]], self.sizes[first:last])


@dataclass(frozen=True)
class RankerSettings:
    """Settings of the trees."""

    n_trees: int = 300
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


def tune_ranker(
    groups: Groups,
    choices: tuple[RankerSettings, ...],
    *,
    seed: int,
    n_threads: int,
    report: Callable[[int, int], None],
) -> RankerSettings:
    """Choose among settings, and the number of trees, on groups in time order.

    Each choice is trained on the older groups and compared on the newest fifth, at every 25
    trees. Wins the smallest number of trees whose MRR is within 0.2% of the best seen: a hundred
    trees more would cost every visitor more than they bring.
    """
    recent = groups.between(max(0, len(groups.sizes) - _MAX_TUNED), len(groups.sizes))
    cut = int(len(recent.sizes) * (1 - _HELD_OUT))
    older, newer = recent.between(0, cut), recent.between(cut, len(recent.sizes))
    tried: list[tuple[float, int, RankerSettings]] = []
    for k, choice in enumerate(choices):
        report(k, len(choices))
        booster = train_ranker(older, choice, seed=seed, n_threads=n_threads, report=_silent)
        score = np.zeros(len(newer.features))
        for first in range(0, choice.n_trees, _TREE_STEP):
            score += np.asarray(
                booster.predict(
                    newer.features,
                    start_iteration=first,
                    num_iteration=_TREE_STEP,
                    num_threads=n_threads,
                )
            )
            n_trees = min(first + _TREE_STEP, choice.n_trees)
            tried.append((_reciprocal_rank(score, newer), n_trees, choice))
    report(len(choices), len(choices))
    enough = max(quality for quality, _, _ in tried) * _GOOD_ENOUGH
    good = [(n_trees, choice) for quality, n_trees, choice in tried if quality >= enough]
    n_trees, choice = min(good, key=lambda one: one[0] * one[1].n_leaves)
    return replace(choice, n_trees=n_trees)


def _silent(_done: int, _total: int) -> None:
    """Tuning reports a choice at a time."""


def _reciprocal_rank(score: NDArray[np.float64], groups: Groups) -> float:
    """Mean reciprocal rank of the right candidates; a tie counts as a loss."""
    group_of = np.repeat(np.arange(len(groups.sizes)), groups.sizes)
    not_below = score >= score[groups.starts][group_of]
    return float(np.mean(1 / np.add.reduceat(not_below.astype(np.int64), groups.starts)))
