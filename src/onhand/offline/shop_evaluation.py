"""Evaluating the shop's own log: what would have been shown, against what visitors went on to.

Time is split: the model learns from moments before the last weeks and is judged by moments
within them, while the state goes on learning, as it does when it serves. All methods answer the
same moments and are held to the same rule: what is in the cart, or was bought in the session, is
not shown again. A right item that no candidate is counts as missed.
"""

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onhand.contracts.errors import Invalid
from onhand.contracts.models import DEFAULT
from onhand.decision.prepared import Reader
from onhand.decision.tiers import TIERS, find_tier
from onhand.offline import metrics
from onhand.offline.moments import Interactions, read_interactions
from onhand.offline.training import (
    Case,
    Learner,
    Progress,
    Training,
    cases,
    default_scores,
    split,
    to_model,
)
from onhand.past import Past
from onhand.ranking.model import Model
from onhand.retrieval.sources import SOURCES
from onhand.state.state import State

__all__ = [
    "FACTORIZATION",
    "FULL",
    "KS",
    "Figure",
    "Lead",
    "Method",
    "ShopEvaluation",
    "evaluate_shop",
]

FULL: Final = "onhand"
FACTORIZATION: Final = "implicit ALS"
KS: Final = (10, 20)
MEASURES: Final = ("HR", "MRR", "NDCG")
_DAY_MS: Final = 86_400_000
_RESAMPLES: Final = 1_000


class Figure(NamedTuple):
    """A mean, and where 95% of the means over resampled visits lie."""

    mean: float
    low: float
    high: float


class Lead(NamedTuple):
    """How far the whole system is ahead of the best of the sources and of those from outside: the
    mean difference of NDCG@10, moment by moment."""

    over: str
    difference: Figure


@dataclass(frozen=True)
class Method:
    """What one method reached: `figures` by measure (`NDCG@10`), `tiers` the same by tier;
    `coverage` is the share of the catalogue in its lists of 20, `popularity` the mean place of a
    shown item among all by popularity, 1 for the most popular, and `novelty` its mean
    information, -log2 of the share of interactions that are its."""

    figures: dict[str, Figure]
    tiers: dict[str, dict[str, Figure]]
    coverage: float
    popularity: float
    novelty: float


@dataclass(frozen=True)
class ShopEvaluation:
    """What `onhand evaluate shop` answers."""

    methods: dict[str, Method]
    """Those that had anything to show."""
    leads: dict[str, Lead]
    """In "all" moments, and by tier."""
    moments: dict[str, int]
    """By tier."""
    visits: int
    examples: int
    first_ms: int
    last_ms: int
    recall: float
    """The share of right items that were among the candidates."""
    features: int
    trees: int
    seconds: float


@dataclass
class _Kept:
    """What is kept of the moments: per method the lists and their hits."""

    lists: dict[str, list[NDArray[np.int64]]] = field(default_factory=lambda: defaultdict(list))
    hits: dict[str, list[NDArray[np.bool_]]] = field(default_factory=lambda: defaultdict(list))
    relevant: list[int] = field(default_factory=list)
    found: list[int] = field(default_factory=list)
    tiers: list[str] = field(default_factory=list)
    visits: list[int] = field(default_factory=list)

    def add(self, method: str, rows: NDArray[np.int64], relevant: set[int]) -> None:
        best = np.zeros(max(KS), np.int64)
        best[: len(rows)] = rows[: len(best)]
        self.lists[method].append(best)
        self.hits[method].append(np.isin(best, np.fromiter(relevant, np.int64)))


def evaluate_shop(
    past: Past, days: int, most: int, settings: Training, outside: bool, report: Progress
) -> ShopEvaluation:
    """Train on what lies before the last `days` of a log, judge by at most `most` moments within;
    `outside` also fits a matrix factorization. Raises `Invalid` where the log is too short."""
    began_s = time.monotonic()
    seen = read_interactions(past, lambda done, total: report("reading", done, total))
    if not len(seen):
        raise Invalid("too_little", "The log holds no view, click, cart or purchase.")
    end_ms = int(seen.time_ms.max()) + 1
    cut_ms = end_ms - days * _DAY_MS
    older, newer = split(seen, cut_ms, most, settings)
    if not older or not newer:
        raise Invalid("too_little", f"There is nothing before, or within, the last {days} days.")
    rival = _rival(seen) if outside else None
    every = Reader.every(past.features)
    learner = Learner(every, settings)
    model: Model | None = None
    trees, kept = 0, _Kept()
    state: State | None = None
    for case in cases(
        past, older + newer, every, lambda done, total: report("moments", done, total)
    ):
        if case.moment.offset <= older[-1].offset:
            learner.add(case)
            continue
        if model is None:
            booster = learner.fit(report)
            model, trees = to_model(booster, every, "evaluated", 1), booster.num_trees()
        state = case.state
        _judge(case, model, every, rival, kept)
    if model is None or state is None:
        raise Invalid("too_little", "No visitor of the last days went on to anything.")
    popularity = _popularity(seen, state, cut_ms)
    named = [name for name, lists in kept.lists.items() if np.any(lists)]
    report("intervals", 0, len(named))
    methods: dict[str, Method] = {}
    for done, name in enumerate(named, 1):
        methods[name] = _method(name, kept, popularity, state)
        report("intervals", done, len(named))
    return ShopEvaluation(
        methods=methods,
        leads=_leads(kept),
        moments={tier: kept.tiers.count(tier) for tier in TIERS},
        visits=len(set(kept.visits)),
        examples=learner.examples,
        first_ms=newer[0].time_ms,
        last_ms=newer[-1].time_ms,
        recall=sum(kept.found) / sum(kept.relevant),
        features=len(model.features),
        trees=trees,
        seconds=time.monotonic() - began_s,
    )


def _rival(seen: Interactions) -> Any:
    from onhand.offline.factorization import Factorization

    return Factorization(seen)


def _judge(case: Case, model: Model, every: Reader, rival: Any, kept: _Kept) -> None:
    """Keep every method's list for one moment."""
    found, relevant, state = case.found, case.relevant, case.state
    columns = [every.names.index(name) for name in model.features]
    features = np.ascontiguousarray(case.features[:, columns])
    kept.add(FULL, _best(found.items, model.score(features)), relevant)
    kept.add(DEFAULT, _best(found.items, default_scores(case)), relevant)
    popular = state.place.popular_item[0]
    session = case.visitor.session
    barred = np.append(state.session.cart_item[session], state.session.bought_item[session])
    kept.add("popular", popular[~np.isin(popular, barred) & (popular > 0)], relevant)
    for code, source in enumerate(SOURCES):
        if source != "popular":
            said = found.parts[:, code]
            kept.add(source, _best(found.items[said > 0], said[said > 0]), relevant)
    if rival is not None:
        rows = _shown_rows(state, barred)
        scores = rival.scores(case.moment, [state.items.names[row] for row in rows.tolist()])
        listed = kept.lists["popular"][-1] if scores is None else _best(rows, scores)
        kept.add(FACTORIZATION, listed, relevant)
    kept.relevant.append(len(relevant))
    kept.found.append(int((case.gains > 0).sum()))
    kept.tiers.append(TIERS[find_tier(state, case.visitor)])
    kept.visits.append(case.moment.visit)


def _shown_rows(state: State, barred: NDArray[np.int32]) -> NDArray[np.int64]:
    """All items that may be shown and that somebody has touched."""
    used = len(state.items)
    rows = np.flatnonzero((state.item.blocked[:used] == 0) & (state.item.popularity[:used] > 0))
    return rows[~np.isin(rows, barred)]


def _best(rows: NDArray[np.int64], score: NDArray[np.float32]) -> NDArray[np.int64]:
    return rows[np.argsort(-score, kind="stable")[: max(KS)]]


def _popularity(seen: Interactions, state: State, cut_ms: int) -> NDArray[np.float64]:
    """How often each row of the state was touched before the split."""
    names = [state.items.rows.get(name, 0) for name in seen.items]
    rows = np.array(names)[seen.item[seen.time_ms < cut_ms]]
    return np.bincount(rows, minlength=len(state.items)).astype(np.float64)


def _method(name: str, kept: _Kept, popularity: NDArray[np.float64], state: State) -> Method:
    hits, lists = np.array(kept.hits[name]), np.array(kept.lists[name])
    relevant, tiers = np.array(kept.relevant), np.array(kept.tiers)
    values = {
        f"{measure}@{k}": column
        for k in KS
        for measure, column in zip(MEASURES, metrics.gains_at(hits, relevant, k).T, strict=True)
    }
    visits = np.unique(kept.visits, return_inverse=True)[1]
    shown = lists[lists > 0]
    place = np.empty(len(popularity))
    place[np.argsort(popularity, kind="stable")] = np.linspace(0, 1, len(popularity))
    share = (popularity + 1) / (popularity.sum() + len(popularity))
    listed = int((state.item.blocked[: len(state.items)] == 0).sum())
    return Method(
        figures=_figures(values, visits),
        tiers={
            each: _figures({name: v[tiers == each] for name, v in values.items()},
                           visits[tiers == each])
            for each in TIERS
            if (tiers == each).any()
        },
        coverage=len(np.unique(shown)) / max(listed, 1),
        popularity=float(place[shown].mean()) if len(shown) else 0.0,
        novelty=float(-np.log2(share[shown]).mean()) if len(shown) else 0.0,
    )  # fmt: skip


def _leads(kept: _Kept) -> dict[str, Lead]:
    """Compare method by method on the same moments, in all of them and by tier."""
    tiers, visits, relevant = map(np.array, (kept.tiers, kept.visits, kept.relevant))
    ndcg = {
        name: metrics.gains_at(np.array(hits), relevant, 10)[:, MEASURES.index("NDCG")]
        for name, hits in kept.hits.items()
    }
    others = [name for name in ndcg if name not in (FULL, DEFAULT)]
    among = {"all": np.ones(len(tiers), np.bool_)} | {tier: tiers == tier for tier in TIERS}
    leads: dict[str, Lead] = {}
    for name, rows in among.items():
        if not rows.any():
            continue
        best = others[int(np.argmax([ndcg[other][rows].mean() for other in others]))]
        difference = (ndcg[FULL] - ndcg[best])[rows]
        leads[name] = Lead(best, _figures({"": difference}, visits[rows])[""])
    return leads


def _figures(
    values: dict[str, NDArray[np.float64]], visits: NDArray[np.int64]
) -> dict[str, Figure]:
    """Means with bootstrap intervals; whole visits are drawn, as their moments are alike."""
    _, visit = np.unique(visits, return_inverse=True)
    count = np.bincount(visit)
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(len(count), np.full(len(count), 1 / len(count)), _RESAMPLES)
    sizes = drawn @ count
    figures: dict[str, Figure] = {}
    for name, column in values.items():
        means = drawn @ np.bincount(visit, column) / sizes
        low, high = np.percentile(means, [2.5, 97.5])
        figures[name] = Figure(float(column.mean()), float(low), float(high))
    return figures
