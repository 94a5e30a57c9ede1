"""Training the ranker: gradient-boosted trees with a listwise softmax loss.

One group is one prediction: right candidates among wrong ones. Each right one is held against all
wrong ones of its group by the cross entropy of a softmax (Cao et al., "ListNet", ICML 2007), and
the right ones share the group's weight, its greatest gain, by their gains. They do not compete
with each other: where visits go on to many items, that is more accurate.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import lightgbm
import numpy as np
from numpy.typing import NDArray

__all__ = ["Groups", "RankerSettings", "train_ranker", "tune_ranker"]

_HELD_OUT = 0.2  # newest share of the groups that settings are compared on
_MAX_TUNED = 20_000  # newest groups that tuning looks at
_PATIENCE = 30  # trees without a gain after which a choice is given up
_GOOD_ENOUGH = 1.0005  # times the lowest loss: fewer trees answer sooner


@dataclass(frozen=True)
class Groups:
    """Training rows, group after group."""

    features: NDArray[np.float32]
    """(rows, features)"""
    sizes: NDArray[np.int64]
    """(groups,)"""
    gains: NDArray[np.float32]
    """(rows,) what a candidate is worth, 0 for a wrong one; every group has a right one."""

    @classmethod
    def first_right(cls, features: NDArray[np.float32], sizes: NDArray[np.int64]) -> "Groups":
        """Groups whose first row is the right candidate, and the only one."""
        gains = np.zeros(len(features), np.float32)
        gains[np.cumsum(sizes) - sizes] = 1
        return cls(features, sizes, gains)

    @property
    def starts(self) -> NDArray[np.int64]:
        """First row of each group."""
        return np.cumsum(self.sizes) - self.sizes

    def between(self, first: int, last: int) -> "Groups":
        """Groups `first` to `last - 1`."""
        cuts = np.append(0, np.cumsum(self.sizes))
        rows = slice(cuts[first], cuts[last])
        return Groups(self.features[rows], self.sizes[first:last], self.gains[rows])


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

    def after_tree(env: lightgbm.callback.CallbackEnv) -> None:
        report(env.iteration + 1, settings.n_trees)

    data = lightgbm.Dataset(groups.features, groups.gains)
    parameters = _parameters(groups, settings, seed, n_threads)
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

    Each choice is trained on the older groups and compared on the newest fifth after every tree.
    Wins the smallest ensemble whose loss is within 0.05% of the lowest seen. The loss decides and
    not the MRR, which jumps from tree to tree by more than a hundred trees bring.
    """
    n = len(groups.sizes)
    recent = groups.between(max(0, n - _MAX_TUNED), n)
    cut = int(len(recent.sizes) * (1 - _HELD_OUT))
    older, newer = recent.between(0, cut), recent.between(cut, len(recent.sizes))
    losses: list[list[float]] = []
    for k, choice in enumerate(choices):
        report(k, len(choices))
        losses.append(_loss_by_tree(older, newer, choice, seed, n_threads))
    report(len(choices), len(choices))
    enough = min(map(min, losses)) * _GOOD_ENOUGH
    good = [
        replace(choice, n_trees=n_trees)
        for choice, by_tree in zip(choices, losses, strict=True)
        for n_trees, loss in enumerate(by_tree, start=1)
        if loss <= enough
    ]
    return min(good, key=lambda choice: choice.n_trees * choice.n_leaves)


def _loss_by_tree(
    older: Groups, newer: Groups, settings: RankerSettings, seed: int, n_threads: int
) -> list[float]:
    """Mean loss on the newer groups after each tree, until it has not fallen for a while."""
    history: dict[str, dict[str, list[float]]] = {}

    def loss(score: NDArray[np.float64], _: lightgbm.Dataset) -> tuple[str, float, bool]:
        return "loss", _mean_loss(score, newer), False

    data = lightgbm.Dataset(older.features, older.gains, free_raw_data=False)
    lightgbm.train(
        _parameters(older, settings, seed, n_threads),
        data,
        settings.n_trees,
        valid_sets=[lightgbm.Dataset(newer.features, newer.gains, reference=data)],
        valid_names=["newer"],
        feval=loss,
        callbacks=[
            lightgbm.early_stopping(_PATIENCE, verbose=False),
            lightgbm.record_evaluation(history),
        ],
    )
    return history["newer"]["loss"]


def _parameters(
    groups: Groups, settings: RankerSettings, seed: int, n_threads: int
) -> dict[str, object]:
    return {
        "objective": _softmax_loss(groups),
        "metric": "none",
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


def _softmax_loss(
    groups: Groups,
) -> Callable[
    [NDArray[np.float64], lightgbm.Dataset], tuple[NDArray[np.float64], NDArray[np.float64]]
]:
    """Gradient and Hessian of the loss, times two as LightGBM's own softmax has it."""
    starts = groups.starts
    group_of = np.repeat(np.arange(len(starts)), groups.sizes)
    target, weight = _targets(groups)
    weight, right = weight[group_of], target > 0

    def loss(
        score: NDArray[np.float64], _: lightgbm.Dataset
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        mass = np.exp(score - np.maximum.reduceat(score, starts)[group_of])
        total = mass + np.add.reduceat(np.where(right, 0, mass), starts)[group_of]
        share = mass / total
        pull = np.add.reduceat(target / total, starts)[group_of] * mass
        spread = pull - np.add.reduceat(target / total**2, starts)[group_of] * mass**2
        gradient = np.where(right, target * (share - 1), pull)
        hessian = np.where(right, target * share * (1 - share), spread)
        return weight * gradient, weight * np.maximum(hessian, 1e-6) * 2

    return loss


def _targets(groups: Groups) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each row's share of its group's gains, (rows,), and the weight of each group, (groups,)."""
    gains = groups.gains.astype(np.float64)
    total = np.add.reduceat(gains, groups.starts)
    return gains / np.repeat(total, groups.sizes), np.maximum.reduceat(gains, groups.starts)


def _mean_loss(score: NDArray[np.float64], groups: Groups) -> float:
    """Weighted mean of the losses of the groups."""
    starts = groups.starts
    target, weight = _targets(groups)
    top = np.repeat(np.maximum.reduceat(score, starts), groups.sizes)
    mass = np.exp(score - top)
    wrong = np.add.reduceat(np.where(target > 0, 0, mass), starts)
    total = mass + np.repeat(wrong, groups.sizes)
    losses = np.add.reduceat(target * (np.log(total) + top - score), starts)
    return float(np.average(losses, weights=weight))
