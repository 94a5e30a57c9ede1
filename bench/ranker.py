"""Which ranker, and how long does a whole decision take on one thread?

    .venv/bin/python bench/ranker.py [--visits 400] [--items 100000] [--json]

Accuracy: LightGBM with the product's listwise loss, CatBoost with QuerySoftMax, XGBoost with
LambdaMART and a linear model learn from the same examples of the bundled shop and order the same
later moments. Time: each scores the candidates of one moment (about 500), by its own `predict` on
one thread and, where its trees are compiled, by the product's kernel, also over columns of bytes
(every feature has at most 63 bins, so bytes lose nothing). Then whole decisions in a shop of
100,000 items: first pass, features, ranker, rules and layout. CatBoost is measured where it is
installed. Beside the time by the clock stands that of the processor, which other work on the
machine does not lengthen.
"""

import argparse
import json
import random
import time
from collections.abc import Callable
from typing import Any

import lightgbm
import numpy as np
import xgboost
from numpy.typing import NDArray

from onhand.app import App
from onhand.contracts.records import Context, Event, Item, Record
from onhand.contracts.requests import RecommendRequest
from onhand.decision.decide import Desk, decide
from onhand.decision.prepared import Ranker, Reader, gather, make_scratch, prepare
from onhand.decision.slots import PLANS
from onhand.offline import metrics
from onhand.offline.listwise import Groups
from onhand.offline.moments import read_interactions, sample
from onhand.offline.shop.books import books
from onhand.offline.training import (
    Case,
    Learner,
    Training,
    cases,
)
from onhand.past import Past
from onhand.ranking.model import Linear, Model
from onhand.ranking.trees import TreeArrays, TreeEnsemble, add_trees
from onhand.retrieval.first_pass import find
from onhand.retrieval.pool import make_pool
from onhand.retrieval.sight import find_visitor, sight_of
from onhand.state.state import Limits, State

DAY_MS = 86_400_000
START_MS = 1_760_000_000_000
HELD_OUT = 600
Score = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def quiet(*_: object) -> None:
    pass


def timed(work: Callable[[], object], rounds: int) -> dict[str, float]:
    for _ in range(5):
        work()
    took: list[tuple[float, float]] = []
    for _ in range(rounds):
        began, began_cpu = time.perf_counter(), time.thread_time()
        work()
        took.append((time.perf_counter() - began, time.thread_time() - began_cpu))
    (p50, cpu50), (p99, cpu99) = np.percentile(took, [50, 99], axis=0) * 1000
    return {"p50_ms": p50, "p99_ms": p99, "p50_cpu_ms": cpu50, "p99_cpu_ms": cpu99}


def show(name: str, told: dict[str, float]) -> None:
    figures = "  ".join(f"{key} {value:.4g}" for key, value in told.items())
    print(f"{name:44}", figures, flush=True)


def examples(visits: int) -> tuple[Learner, list[Case]]:
    """Examples, three a visit, of the 60 days before the last week of the shop's books, and moments
    of that week."""
    count = 3 * visits
    past = Past(books(), None, App().features, Limits(8_192, 8_192, 65_536))
    seen = read_interactions(past, quiet)
    end_ms = int(seen.time_ms.max())
    cut_ms = end_ms - 7 * DAY_MS
    older = sample(seen, cut_ms - 60 * DAY_MS, cut_ms, most=count)
    newer = sample(seen, cut_ms, end_ms, most=HELD_OUT)
    learner = Learner(Reader.every(past.features), Training(most=count, n_threads=2))
    held_out: list[Case] = []
    for case in cases(past, older + newer, learner.reader, quiet):
        if case.moment.offset <= older[-1].offset:
            learner.add(case)
        else:
            held_out.append(case)
    return learner, held_out


def groups_of(learner: Learner) -> Groups:
    sizes = np.array(learner._sizes, np.int64)
    return Groups(learner._features[: learner.rows], sizes, learner._gains[: learner.rows])


def ndcg(score: Score, held_out: list[Case]) -> float:
    values: list[float] = []
    for case in held_out:
        best = np.argsort(-score(case.features), kind="stable")[:10]
        hits = (case.gains[best] > 0)[None]
        values.append(float(metrics.gains_at(hits, np.array([len(case.relevant)]), 10)[0, 2]))
    return float(np.mean(values))


def fit_catboost(groups: Groups) -> Any:
    try:
        from catboost import CatBoost, Pool  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        return None
    of_group = np.repeat(np.arange(len(groups.sizes)), groups.sizes)
    pool = Pool(groups.features, groups.gains, group_id=of_group)
    model = CatBoost(
        {"loss_function": "QuerySoftMax", "iterations": 300, "depth": 6, "thread_count": 2,
         "verbose": False, "allow_writing_files": False}
    )  # fmt: skip
    return model.fit(pool)


def fit_xgboost(groups: Groups) -> xgboost.Booster:
    data = xgboost.DMatrix(groups.features, label=groups.gains.round())
    data.set_group(groups.sizes)
    parameters = {
        "objective": "rank:ndcg", "max_leaves": 31, "max_depth": 0, "grow_policy": "lossguide",
        "tree_method": "hist", "eta": 0.08, "nthread": 2,
    }  # fmt: skip
    return xgboost.train(parameters, data, 150)


def fit_linear(groups: Groups, rounds: int = 300, rate: float = 0.5) -> Linear:
    """Softmax regression by gradient descent over standardised features."""
    mean, spread = groups.features.mean(axis=0), groups.features.std(axis=0) + 1e-6
    features = (groups.features - mean) / spread
    starts, group_of = groups.starts, np.repeat(np.arange(len(groups.sizes)), groups.sizes)
    target = groups.gains / np.add.reduceat(groups.gains, starts)[group_of]
    weights = np.zeros(features.shape[1], np.float32)
    for _ in range(rounds):
        score = features @ weights
        share = np.exp(score - np.maximum.reduceat(score, starts)[group_of])
        share /= np.add.reduceat(share, starts)[group_of]
        weights += rate * ((target - share) @ features) / len(groups.sizes)
    return Linear((weights / spread).astype(np.float32))


def of_bytes(trees: TreeEnsemble) -> Score:
    """The trees over columns of bytes: a value's bin is how many thresholds are below it."""
    arrays: TreeArrays = trees.arrays
    cuts = [np.unique(arrays.threshold[arrays.feature == f]) for f in range(trees.n_features)]
    place = np.array(
        [
            np.searchsorted(cuts[f], t)
            for f, t in zip(arrays.feature, arrays.threshold, strict=True)
        ],
        np.uint8,
    )

    def score(features: NDArray[np.float32]) -> NDArray[np.float32]:
        columns = np.empty((trees.n_features, len(features)), np.uint8)
        for at, cut in enumerate(cuts):
            columns[at] = np.searchsorted(cut, features[:, at])
        out = np.zeros(len(features), np.float32)
        add_trees(columns, *arrays._replace(threshold=place), out)
        return out

    return score


def compare(visits: int) -> dict[str, dict[str, float]]:
    learner, held_out = examples(visits)
    groups = groups_of(learner)
    some = held_out[0].features
    results: dict[str, dict[str, float]] = {}

    def note(name: str, score: Score, seconds: float = 0.0) -> None:
        results[name] = {
            "ndcg@10": ndcg(score, held_out), "fit_s": seconds,
            **timed(lambda: score(some), 100),
        }  # fmt: skip
        show(name, results[name])

    began = time.perf_counter()
    booster = learner.fit(quiet)
    seconds = time.perf_counter() - began
    trees = TreeEnsemble.from_lightgbm(booster.dump_model())
    note(f"LightGBM, {trees.n_trees} trees: own predict",
         lambda x: np.asarray(booster.predict(x, num_threads=1)), seconds)  # fmt: skip
    note("LightGBM: compiled (the product)", trees.score)
    note("LightGBM: compiled, columns of bytes", of_bytes(trees))
    began = time.perf_counter()
    catboost = fit_catboost(groups)
    if catboost is not None:
        seconds = time.perf_counter() - began
        note("CatBoost, 300 trees: own predict",
             lambda x: catboost.predict(x, thread_count=1), seconds)  # fmt: skip
    began = time.perf_counter()
    xgb = fit_xgboost(groups)
    seconds = time.perf_counter() - began
    xgb.set_param({"nthread": 1})
    note("XGBoost, 150 trees: own predict", xgb.inplace_predict, seconds)
    dump = [json.loads(tree) for tree in xgb.get_dump(dump_format="json")]
    note("XGBoost: compiled", TreeEnsemble.from_xgboost(dump, some.shape[1]).score)
    began = time.perf_counter()
    linear = fit_linear(groups)
    note("linear", linear.score, time.perf_counter() - began)
    return results


def grown(items: int, visits: int = 30_000) -> State:
    """A shop whose visitors begin at Zipf-popular items and stay near them; some buy."""
    rng = random.Random(1)
    features, limits = App().features, Limits(items=items + 1)
    state = State(limits, features.accumulators(limits))
    records: list[Record] = [
        Item(f"i{n}", f"Thing {n % 997} {n % 89}", f"c{n % 97}", f"b{n % 500}",
             price=rng.uniform(1, 60), stock=0 if n % 20 == 0 else 9, created=START_MS - n * 60_000)
        for n in range(items)
    ]  # fmt: skip
    for visit in range(visits):
        begin = min(int(rng.paretovariate(0.6)) - 1, items - 1)
        user = f"u{visit % 9_000}" if visit % 3 else None
        for step in range(7):
            kind = rng.choices(("view", "click", "cart_add", "purchase"), (8, 4, 1, 1))[0]
            item = f"i{(begin + rng.randrange(60)) % items}"
            at_ms = START_MS + visit * 2_000 + step * 400
            records.append(
                Event(kind, user, f"s{visit}", item, at_ms, context=Context(country="GB"))
            )
    for begin in range(0, len(records), 5_000):
        batch = records[begin : begin + 5_000]
        state.apply(batch, state.offset + len(batch))
    return state


def decisions(items: int, rounds: int) -> dict[str, dict[str, float]]:
    """The time of a decision and of its parts, by a model of 250 trees that reads 48 features."""
    state = grown(items)
    sight, scratch = sight_of(state), make_scratch(state)
    desk = Desk(state, make_pool(state.limits.items))
    now_ms = START_MS + 30_000 * 2_000
    sessions = state.sessions.names[1:]
    rng = random.Random(2)
    requests = [RecommendRequest("home", session=rng.choice(sessions)) for _ in range(rounds)]
    ranker = trained(state, requests[:200], now_ms)
    turn = iter(range(10**9))

    def one() -> Any:
        request = requests[next(turn) % rounds]
        return request, find_visitor(state, request)

    def whole() -> None:
        request, visitor = one()
        made = prepare(state, sight, ranker, visitor, now_ms, scratch)
        decide(desk, request, PLANS["home"], now_ms, made.listed)

    some = gather(state, sight, ranker, one()[1], now_ms, scratch)
    found = [
        len(find(state, sight, find_visitor(state, r), now_ms, scratch.finding).items)
        for r in requests[:200]
    ]
    return {
        "candidates": {"p50": float(np.median(found))},
        "features": {"n": len(ranker.reader.names)},
        "first pass": timed(
            lambda: find(state, sight, one()[1], now_ms, scratch.finding), rounds
        ),
        "first pass and features": timed(
            lambda: gather(state, sight, ranker, one()[1], now_ms, scratch), rounds
        ),
        "ranker": timed(lambda: ranker.model.score(some.features), rounds),
        "whole decision": timed(whole, rounds),
    }  # fmt: skip


def trained(state: State, requests: list[RecommendRequest], now_ms: int) -> Ranker:
    """A ranker of 250 trees over 48 features; what it learned is of no interest here."""
    features = App().features
    every = Reader.every(features)
    sight, scratch = sight_of(state), make_scratch(state)
    parts: list[NDArray[np.float32]] = []
    for request in requests:
        visitor = find_visitor(state, request)
        found = find(state, sight, visitor, now_ms, scratch.finding)
        parts.append(every.read(state, found, visitor, now_ms, scratch.places)[:60])
    values = np.concatenate(parts)
    varied = np.sort(np.argsort([-len(np.unique(column)) for column in values.T])[:48])
    chosen = np.ascontiguousarray(values[:, varied])
    rng = np.random.default_rng(0)
    target = (chosen / (chosen.std(axis=0) + 1e-9)) @ rng.standard_normal(len(varied))
    parameters = {"num_leaves": 31, "max_bin": 63, "use_missing": False, "verbose": -1,
                  "feature_fraction": 0.6, "num_threads": 2}  # fmt: skip
    booster = lightgbm.train(parameters, lightgbm.Dataset(chosen, target), 250)
    names = tuple(every.names[at] for at in varied.tolist())
    scorer = TreeEnsemble.from_lightgbm(booster.dump_model())
    return Ranker(Model("bench", 1, names, every.only(names).definitions, scorer), features)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--visits", type=int, default=400)
    options.add_argument("--items", type=int, default=100_000)
    options.add_argument("--rounds", type=int, default=1_000)
    options.add_argument("--no-accuracy", action="store_true")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    rankers = {} if given.no_accuracy else compare(given.visits)
    parts = decisions(given.items, given.rounds)
    for name, told in parts.items():
        show(name, told)
    if given.json:
        print(json.dumps({"rankers": rankers, "decision": parts}))


if __name__ == "__main__":
    main()
