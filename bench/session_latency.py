"""`python bench/session_latency.py`: microseconds of session predictions on one thread.

On `serenade_toy`: VMIS-kNN alone, the twenty best items for every test prefix, beside the 66
microseconds at p90 that the paper's Rust implementation reports (Serenade, SIGMOD 2022; another
machine and data set, so an order of magnitude and no more). On `diginetica`: candidates with
features, and LightGBM's own `predict` beside the compiled trees on the same rows. Every figure is
the best of several passes, because other work on the machine only ever adds time.
"""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns

import numpy as np

from onhand.offline.listwise import RankerSettings, train_ranker
from onhand.offline.session_data import Queries, read_test, read_training
from onhand.offline.session_recipe import Recipe, build_sources, make_examples
from onhand.ranking.trees import TreeEnsemble
from onhand.retrieval.sessions import SessionSources
from onhand.retrieval.sessions.candidates import find_neighbours

DATA = Path(__file__).parents[2] / "shared" / "data"
N_PASSES = 7


def timed(call: Callable[[int], object], n: int) -> str:
    """Percentiles of `call(0..n-1)` in microseconds, each query at its best of all passes."""
    best = np.full(n, np.inf)
    for _ in range(N_PASSES):
        for k in range(n):
            begin = perf_counter_ns()
            call(k)
            best[k] = min(best[k], (perf_counter_ns() - begin) / 1000)
    p50, p90, p99 = np.percentile(best, [50, 90, 99])
    return f"p50 {p50:.0f}, p90 {p90:.0f}, p99 {p99:.0f} us"


def load(name: str, n: int) -> tuple[SessionSources, Queries, Queries]:
    """Sources from all training sessions, some training queries, `n` test queries."""
    training = read_training(DATA / name / "train.parquet")
    queries = read_test(DATA / name / "test.parquet", training.ids)
    drawn = np.random.default_rng(0).permutation(len(queries))[:n]
    last = training.sessions.between(len(training.sessions) - 1500, len(training.sessions))
    sources = build_sources(training.sessions, training.category, Recipe())
    return sources, last.queries(), queries.take(drawn)


def serenade() -> None:
    sources, _, queries = load("serenade_toy", 931)
    arrays, scratch = sources.arrays(), sources.scratch()
    sessions = [queries.clicks(k)[0] for k in range(len(queries))]
    took = timed(lambda k: find_neighbours(sessions[k], 20, arrays, scratch), len(sessions))
    print(f"serenade_toy, VMIS-kNN alone: {took} (published, Rust: p90 66 us)")


def diginetica() -> None:
    sources, older, queries = load("diginetica", 1000)
    arrays, scratch, allowed = sources.arrays(), sources.scratch(), sources.allow_all()
    sessions = [queries.clicks(k) for k in range(len(queries))]
    found = [
        sources.find(arrays, scratch, *session, allowed).features.copy() for session in sessions
    ]
    took = timed(lambda k: sources.find(arrays, scratch, *sessions[k], allowed), len(sessions))
    print(f"diginetica, candidates and features: {took}")
    examples = make_examples(sources, older, Recipe(), lambda what, done, total: None)  # noqa: ARG005
    booster = train_ranker(
        examples,
        RankerSettings(n_trees=150),
        seed=0,
        n_threads=2,
        report=lambda done, total: None,  # noqa: ARG005
    )
    trees = TreeEnsemble.from_lightgbm(booster.dump_model())
    trees.score(found[0])
    took = timed(lambda k: trees.score(found[k]), len(found))
    print(f"diginetica, 150 trees of 31 leaves, compiled: {took}")
    took = timed(lambda k: booster.predict(found[k], num_threads=1), len(found))
    print(f"diginetica, the same trees, LightGBM predict: {took}")


if __name__ == "__main__":
    for name, run in {"serenade_toy": serenade, "diginetica": diginetica}.items():
        if (DATA / name).exists():
            run()
        else:
            print(f"{name}: skipped, {DATA / name} is absent")
