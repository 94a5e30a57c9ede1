"""Evaluating the session recipe on a test set: accuracy beside baselines, and latency."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from time import perf_counter_ns

import numpy as np
from numpy.typing import NDArray

from onhand.features.sessions import FEATURES
from onhand.offline import metrics
from onhand.offline.session_data import Queries, read_test, read_training
from onhand.offline.session_recipe import Progress, Recipe, SessionModel, fit, gather

__all__ = [
    "Accuracy",
    "Evaluation",
    "Latency",
    "evaluate_accuracy",
    "evaluate_files",
    "measure_latency",
]

_MODEL = "model"
_N_SHOWN = 20
_OWN_STEPS = FEATURES.index("own_steps")
_ALONE = {
    "VMIS-kNN alone": FEATURES.index("neighbours"),
    "transitions alone": FEATURES.index("followed_by"),
}


@dataclass(frozen=True)
class Accuracy:
    """Figures at 20, as fractions."""

    hit_rate: float
    mean_reciprocal_rank: float
    ndcg: float
    coverage: float


@dataclass(frozen=True)
class Latency:
    """Microseconds of one whole prediction (sources, features, ranker) on one thread."""

    p50_us: float
    p90_us: float
    p99_us: float


@dataclass(frozen=True)
class Evaluation:
    """What `onhand evaluate sessions` answers."""

    n_predictions: int
    model: Accuracy
    baselines: dict[str, Accuracy]
    latency: Latency


def evaluate_files(
    train: Path, test: Path, *, seed: int, n_threads: int, report: Progress
) -> Evaluation:
    """Fit on one file, evaluate on another. Raises SessionDataError when one cannot be used."""
    training = read_training(train)
    queries = read_test(test, training.ids)
    model = fit(training, Recipe(seed=seed, n_threads=n_threads), report)
    baselines = evaluate_accuracy(model, queries, n_threads=n_threads, report=report)
    accuracy = baselines.pop(_MODEL)
    latency = measure_latency(model, queries, seed=seed, report=report)
    return Evaluation(len(queries), accuracy, baselines, latency)


def evaluate_accuracy(
    model: SessionModel, queries: Queries, *, n_threads: int, report: Progress
) -> dict[str, Accuracy]:
    """Accuracy over all queries, by name: the model (`_MODEL`) and its baselines."""
    names = [_MODEL, *_ALONE, "own items by recency", "popular"]

    def rank(
        _: int,
        offsets: NDArray[np.int64],
        items: NDArray[np.int32],
        features: NDArray[np.float32],
    ) -> list[NDArray[np.int32]]:
        own_steps = features[:, _OWN_STEPS]
        own = np.where(own_steps >= 0, 1 / (own_steps + 1.5), 0)
        scores = [model.score(features), *(features[:, k] for k in _ALONE.values()), own]
        return [_best(score, offsets, items, k > 0) for k, score in enumerate(scores)]

    parts = gather(model.sources, queries, rank, n_threads, "predictions", report)
    lists = [np.concatenate(list(chunks)) for chunks in zip(*parts, strict=True)]
    lists.append(_popular(model, queries))
    return {
        name: _accuracy(shown, queries.label, model.sources.n_items)
        for name, shown in zip(names, lists, strict=True)
    }


def _best(
    score: NDArray[np.float32],
    offsets: NDArray[np.int64],
    items: NDArray[np.int32],
    positive_only: bool,
) -> NDArray[np.int32]:
    """Each query's best items, padded with -1; int32 (queries, 20). Ties keep their order."""
    lists = np.full((len(offsets) - 1, _N_SHOWN), -1, np.int32)
    for query, (begin, end) in enumerate(pairwise(offsets)):
        order = begin + np.argsort(-score[begin:end], kind="stable")[:_N_SHOWN]
        if positive_only:
            order = order[score[order] > 0]
        lists[query, : len(order)] = items[order]
    return lists


def _popular(model: SessionModel, queries: Queries) -> NDArray[np.int32]:
    """The same most popular items for everyone, without the last item where it cannot be."""
    popular = model.sources.popular[: _N_SHOWN + 1]
    shown = np.full((len(queries), _N_SHOWN), -1, np.int32)
    shown[:, : len(popular)] = popular[:_N_SHOWN]
    if not model.sources.may_repeat_last:
        for query in range(len(queries)):
            clicks = queries.clicks(query)[0]
            if len(clicks) and clicks[-1] in popular[:_N_SHOWN]:
                rest = popular[popular != clicks[-1]]
                shown[query] = -1
                shown[query, : len(rest)] = rest
    return shown


def _accuracy(lists: NDArray[np.int32], labels: NDArray[np.int32], n_items: int) -> Accuracy:
    rank = metrics.ranks(lists, labels)
    return Accuracy(
        metrics.hit_rate(rank),
        metrics.mean_reciprocal_rank(rank),
        metrics.ndcg(rank),
        metrics.coverage(lists, n_items),
    )


def measure_latency(
    model: SessionModel, queries: Queries, *, seed: int, report: Progress, n_sampled: int = 2000
) -> Latency:
    """Time single predictions of randomly drawn queries, after a warm-up."""
    predictor = model.predictor()
    rng = np.random.default_rng(seed)
    drawn = rng.permutation(len(queries))[:n_sampled]
    for query in drawn[:50]:
        predictor.predict(*queries.clicks(int(query)))
    took = np.zeros(len(drawn))
    for k, query in enumerate(drawn):
        clicks = queries.clicks(int(query))
        begin = perf_counter_ns()
        predictor.predict(*clicks)
        took[k] = (perf_counter_ns() - begin) / 1000
        report("latency", k + 1, len(drawn))
    if len(took) == 0:
        return Latency(0.0, 0.0, 0.0)
    p50, p90, p99 = np.percentile(took, [50, 90, 99])
    return Latency(float(p50), float(p90), float(p99))
