"""The session recipe: from training sessions to a model that predicts the next item.

1. All sources are built on the earlier 90% of the sessions.
2. Every click of the last 10% is an example: the sources' candidates, one of them right.
3. A listwise ranker learns from these which signals to believe.
4. The sources are built again on all sessions; the ranker is kept.

So the ranker sees signals as they will be when it serves: made of sessions older than the one
at hand. What has to be chosen is chosen on a part of the last 10%, never on test data.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from onhand.features.session_items import count_items
from onhand.features.sessions import FEATURES
from onhand.offline.listwise import Groups, RankerSettings, train_ranker, tune_ranker
from onhand.offline.session_data import Queries, Sessions, Training
from onhand.ranking.trees import TreeEnsemble
from onhand.retrieval.sessions.candidates import SessionSources, find_many
from onhand.retrieval.sessions.index import SessionIndex
from onhand.retrieval.sessions.neighbours import NeighbourSettings
from onhand.retrieval.sessions.transitions import count_transitions
from onhand.retrieval.sessions.vectors import item_vectors

__all__ = ["Progress", "Recipe", "SessionModel", "SessionPredictor", "build_sources", "fit"]

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is to do."""

_Result = TypeVar("_Result")
_CHUNK = 256  # sessions whose candidates are in memory at a time, per thread
_MIN_EXAMPLES = 200  # with fewer, trees would learn noise: signals are added up instead
_BLEND = tuple(
    FEATURES.index(f"{signal}_share") for signal in ("neighbours", "close_neighbours", "together")
)


@dataclass(frozen=True)
class Recipe:
    """The settings of a fit: one set of them for all shops."""

    slice_share: float = 0.1
    """Newest share of the sessions that examples are made of."""
    max_examples: int = 40_000
    n_negatives: int = 40
    """Wrong candidates an example keeps, drawn at random."""
    sessions_per_item: int = 1000
    neighbours: NeighbourSettings = field(default_factory=NeighbourSettings)
    rankers: tuple[RankerSettings, ...] = (
        RankerSettings(n_leaves=15, learning_rate=0.08),
        RankerSettings(n_leaves=31, learning_rate=0.07),
    )
    """Settings to choose from; their number of trees is the most to try."""
    n_threads: int = 2
    seed: int = 0


@dataclass(frozen=True)
class SessionModel:
    """Sources and ranker. Immutable but for the index inside the sources, which can grow."""

    sources: SessionSources
    trees: TreeEnsemble | None
    """None when there was too little to learn from."""

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores float32 (n,) of candidates with `features` float32 (n, features)."""
        if self.trees is None:
            return features[:, _BLEND].sum(axis=1)
        return self.trees.score(features)

    def predictor(self) -> "SessionPredictor":
        """A predictor for one thread."""
        return SessionPredictor(self)


class SessionPredictor:
    """Predicts one session at a time, with working memory of its own."""

    def __init__(self, model: SessionModel) -> None:
        self._model = model
        self._arrays = model.sources.arrays()
        self._scratch = model.sources.scratch()
        self._allowed = model.sources.allow_all()

    def predict(
        self, items: NDArray[np.int32], times: NDArray[np.float64], n: int = 20
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The best `n` next items, best first, with scores.

        `items` int32 (clicks,) is the session, oldest first; `times` float64 (clicks,) its
        seconds, or empty.
        """
        sources = self._model.sources
        found = sources.find(self._arrays, self._scratch, items, times, self._allowed)
        score = self._model.score(found.features)
        order = np.argsort(-score, kind="stable")[:n]
        return found.items[order], score[order]


def fit(training: Training, recipe: Recipe, report: Progress) -> SessionModel:
    """Learn a model from training sessions."""
    sessions, category = training.sessions, training.category
    cut = len(sessions) - int(np.ceil(recipe.slice_share * len(sessions)))
    queries = _sample(sessions.between(cut, len(sessions)).queries(), recipe)
    trees = None
    if cut > 0 and len(queries) >= _MIN_EXAMPLES:
        report("sources from older sessions", 0, 1)
        older = build_sources(sessions.between(0, cut), category, recipe)
        report("sources from older sessions", 1, 1)
        groups = make_examples(older, queries, recipe, report)
        if len(groups.sizes) >= _MIN_EXAMPLES:
            ranker = tune_ranker(
                groups,
                recipe.rankers,
                seed=recipe.seed,
                n_threads=recipe.n_threads,
                report=lambda done, total: report("tuning", done, total),
            )
            booster = train_ranker(
                groups,
                ranker,
                seed=recipe.seed,
                n_threads=recipe.n_threads,
                report=lambda done, total: report("ranker", done, total),
            )
            trees = TreeEnsemble.from_lightgbm(booster.dump_model())
    report("sources from all sessions", 0, 1)
    sources = build_sources(sessions, category, recipe)
    report("sources from all sessions", 1, 1)
    return SessionModel(sources, trees)


def _sample(queries: Queries, recipe: Recipe) -> Queries:
    n = min(len(queries), recipe.max_examples)
    rng = np.random.default_rng(recipe.seed)
    return queries.take(np.sort(rng.choice(len(queries), n, replace=False)))


def make_examples(
    sources: SessionSources, queries: Queries, recipe: Recipe, report: Progress
) -> Groups:
    """One group of candidates for every query whose label is among its candidates."""

    def pick(
        first: int,
        offsets: NDArray[np.int64],
        items: NDArray[np.int32],
        features: NDArray[np.float32],
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        rng = np.random.default_rng([recipe.seed, first])
        rows: list[NDArray[np.int64]] = []
        for k, (begin, end) in enumerate(pairwise(offsets)):
            hit = items[begin:end] == queries.label[first + k]
            wrong = np.flatnonzero(~hit)
            if not hit.any() or len(wrong) == 0:
                continue
            if len(wrong) > recipe.n_negatives:
                wrong = rng.choice(wrong, recipe.n_negatives, replace=False)
            rows.append(begin + np.append(np.flatnonzero(hit), wrong))
        chosen = np.concatenate(rows) if rows else np.zeros(0, np.int64)
        return features[chosen], np.array([len(group) for group in rows], np.int64)

    parts = gather(sources, queries, pick, recipe.n_threads, "examples", report)
    return Groups.first_right(
        np.concatenate([features for features, _ in parts]),
        np.concatenate([sizes for _, sizes in parts]),
    )


def build_sources(
    sessions: Sessions, category: NDArray[np.int32], recipe: Recipe
) -> SessionSources:
    """All sources from `sessions`; `category` int32 (items,)."""
    n_items = len(category)
    offsets, items = sessions.offsets, sessions.items
    transitions = count_transitions(offsets, items, n_items)
    clicks = np.bincount(items, minlength=n_items)
    vectors = item_vectors(transitions, clicks, seed=recipe.seed)
    return SessionSources(
        index=SessionIndex(offsets, items, n_items, sessions_per_item=recipe.sessions_per_item),
        transitions=transitions,
        table=count_items(offsets, items, category, vectors),
        popular=np.argsort(-clicks, kind="stable").astype(np.int32),
        settings=recipe.neighbours,
        may_repeat_last=_repeats_last(sessions),
    )


def _repeats_last(sessions: Sessions) -> bool:
    """Whether items are clicked twice in a row more than once in 500 clicks."""
    begins = np.zeros(len(sessions.items) + 1, np.bool_)
    begins[sessions.offsets] = True
    follows = ~begins[1 : len(sessions.items)]
    repeats = (sessions.items[1:] == sessions.items[:-1]) & follows
    return bool((repeats.sum() + 1) / (follows.sum() + 1) > 1 / 500)


def gather(
    sources: SessionSources,
    queries: Queries,
    use: Callable[[int, NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]], _Result],
    n_threads: int,
    what: str,
    report: Progress,
) -> list[_Result]:
    """Find candidates for all queries and `use` them chunk by chunk; its results in order.

    `use` gets the number of the chunk's first query, offsets int64 (queries + 1,), and the
    candidates they cut: items int32 (n,) and features float32 (n, features). The arrays are
    overwritten by the next chunk.
    """
    arrays = sources.arrays()
    allowed = sources.allow_all()
    begins = list(range(0, len(queries), _CHUNK))

    def work(begins: list[int]) -> list[_Result]:
        scratch = sources.scratch()
        items = np.empty(_CHUNK * sources.max_candidates, np.int32)
        features = np.empty((len(items), len(FEATURES)), np.float32)
        offsets = np.zeros(_CHUNK + 1, np.int64)
        results: list[_Result] = []
        for begin in begins:
            chunk = slice(begin, min(begin + _CHUNK, len(queries)))
            find_many(
                queries.items,
                queries.times,
                queries.begin[chunk],
                queries.end[chunk],
                allowed,
                arrays,
                scratch,
                items,
                features,
                offsets,
            )
            cuts = offsets[: chunk.stop - begin + 1]
            results.append(use(begin, cuts, items[: cuts[-1]], features[: cuts[-1]]))
            report(what, chunk.stop, len(queries))
        return results

    with ThreadPoolExecutor(n_threads) as pool:
        parts = list(pool.map(work, [begins[k::n_threads] for k in range(n_threads)]))
    return [parts[k % n_threads][k // n_threads] for k in range(len(begins))]
