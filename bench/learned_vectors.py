"""Would learned item vectors make the shop's ranking better?

    .venv/bin/python bench/learned_vectors.py [--most 3000] [--examples 3500] [--json]

Vectors of 64 dimensions are learned from which items visits have in common (log co-occurrence over
what popularity alone would give, its leading eigenvectors: Levy and Goldberg, NIPS 2014) and
rounded to 8 bits. The 96 items nearest to the decayed mean of a visitor's latest ones join the
candidates of the first pass, and three features the ranker's: the cosines with that mean and with
the last item, and the source's. The same examples and moments then go through the product's own
training without and with them. Vectors are learned from before the first example, for the moments
that judge from before the first of those. The interval is a bootstrap's over moments.
"""

import argparse
import json
import os
from typing import Any, Final, NamedTuple

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import eigsh

from onhand.app import App
from onhand.decision.prepared import Reader
from onhand.features.own import make_places
from onhand.offline import metrics
from onhand.offline.moments import Interactions, read_interactions
from onhand.offline.shop.books import books
from onhand.offline.training import Case, Learner, Training, cases, split
from onhand.past import Past
from onhand.retrieval.first_pass import Found
from onhand.retrieval.sources import SOURCES
from onhand.state.state import Limits, State

DIMENSIONS: Final = 64
QUOTA: Final = 96
LEAST: Final = 0.2
FADE: Final = 13 / 16
DAYS: Final = 60
SHOWN: Final = 10
Floats = NDArray[np.float32]


class Names(NamedTuple):
    """What a learner wants to know of a reader."""

    names: tuple[str, ...]


class Widened(NamedTuple):
    """A case with the learned vectors' candidates and features, and the rows of all candidates."""

    case: Case
    rows: NDArray[np.int64]


def unheard(*_told: Any) -> None:
    """Take a report of progress."""


def learn(seen: Interactions, offset: int) -> Floats:
    """Return the vectors of `seen.items`, learned from what the log held before `offset`."""
    before = seen.offset < offset
    pairs = (seen.session[before], seen.item[before])
    shape = (len(seen.sessions), len(seen.items))
    touched = csr_matrix((np.ones(before.sum(), np.float32), pairs), shape)
    touched = csr_matrix(touched > 0, dtype=np.float32)
    sizes = np.maximum(np.asarray(touched.sum(axis=1)), 1)
    both: Any = (touched.T @ csr_matrix(touched.multiply(1 / np.sqrt(sizes)))).tocoo()
    others = both.row != both.col
    row, column, weight = both.row[others], both.col[others], both.data[others]
    met = np.bincount(row, weight, minlength=shape[1]) + 1.0
    expected = met[row] * met[column] ** 0.75 * met.sum() ** 0.25
    strength = csr_matrix((np.log1p(weight * met.sum() / expected), (row, column)), both.shape)
    values, vectors = eigsh((strength + strength.T) / 2, DIMENSIONS, v0=np.ones(shape[1]))
    scaled = vectors * np.sqrt(np.abs(values))
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    return (np.rint(127 * scaled / np.maximum(lengths, 1e-6)) / 127).astype(np.float32)


def by_row(vectors: Floats, seen: Interactions, state: State) -> Floats:
    found = np.zeros((len(state.items), DIMENSIONS), np.float32)
    for name, vector in zip(seen.items, vectors, strict=True):
        found[state.items.rows.get(name, 0)] = vector
    found[0] = 0
    return found


def widen(case: Case, vectors: Floats, reader: Reader) -> Widened:
    state, visitor = case.state, case.visitor
    latest = state.session.recent_item[visitor.session]
    if latest[0] == 0:
        latest = state.user.recent_item[visitor.user]
    latest = latest[latest > 0]
    if not len(latest):
        none = np.zeros((len(case.features), 3), np.float32)
        return Widened(case._replace(features=np.hstack([case.features, none])), case.found.items)
    mean = FADE ** np.arange(len(latest)) @ vectors[latest]
    cosines = vectors @ (mean / max(np.linalg.norm(mean), 1e-9))
    may = state.item.blocked[: len(vectors)] == 0
    may[state.session.cart_item[visitor.session]] = False
    may[state.session.bought_item[visitor.session]] = False
    near = np.argsort(np.where(may, -cosines, 1.0), kind="stable")[:QUOTA]
    near = near[may[near] & (cosines[near] > LEAST)]
    more = near[~np.isin(near, case.found.items)]
    parts = np.zeros((len(more), len(SOURCES)), np.float32)
    joining = Found(more, parts, np.zeros(len(more), np.int32))
    places = make_places(len(state.item.blocked))
    read = reader.read(state, joining, visitor, case.moment.time_ms, places)
    rows = np.append(case.found.items, more)
    source = np.where(np.isin(rows, near), cosines[rows], 0)
    own = np.stack([vectors[rows] @ vectors[latest[0]], cosines[rows], source], axis=1)
    features = np.hstack([np.vstack([case.features, read]), own]).astype(np.float32)
    worth = {state.items.rows.get(item, 0): gain for item, gain in case.moment.gains.items()}
    gains = [worth[row] if row in case.relevant else 0.0 for row in more.tolist()]
    widened = case._replace(features=features, gains=np.append(case.gains, gains))
    return Widened(widened, rows)


def ndcg(rows: NDArray[np.int64], scores: Any, relevant: set[int]) -> float:
    best = rows[np.argsort(-scores, kind="stable")[:SHOWN]]
    hits = np.zeros((1, SHOWN), np.bool_)
    hits[0, : len(best)] = np.isin(best, list(relevant))
    return float(metrics.gains_at(hits, np.array([len(relevant)]), SHOWN)[0, 2])


def compare(most: int, examples: int) -> dict[str, float]:
    features = App().features
    past = Past(books(), None, features, Limits(items=8_192, users=8_192, sessions=65_536))
    seen = read_interactions(past, unheard)
    settings = Training(most=examples)
    cut_ms = int(seen.time_ms.max()) + 1 - DAYS * 86_400_000
    older, newer = split(seen, cut_ms, most, settings)
    every = Reader.every(features)
    names = Names((*every.names, "learned_last", "learned_session", "from_learned"))
    without, given = Learner(every, settings), Learner(names, settings)  # type: ignore[arg-type]
    learned = [learn(seen, older[0].offset), learn(seen, newer[0].offset)]
    rows: dict[tuple[bool, int], Floats] = {}
    models: list[Any] = []
    values: list[tuple[float, float]] = []
    found = [0, 0, 0]
    for case in cases(past, older + newer, every, unheard):
        judging = case.moment.offset > older[-1].offset
        key = judging, len(case.state.items)
        if key not in rows:
            rows = {key: by_row(learned[judging], seen, case.state)}
        wide = widen(case, rows[key], every)
        if not judging:
            without.add(case)
            given.add(wide.case)
            continue
        models = models or [each.fit(unheard) for each in (without, given)]
        plain = ndcg(case.found.items, models[0].predict(case.features), case.relevant)
        values.append(
            (plain, ndcg(wide.rows, models[1].predict(wide.case.features), case.relevant))
        )
        found[0] += len(case.relevant)
        found[1] += len(case.relevant & set(case.found.items.tolist()))
        found[2] += len(case.relevant & set(wide.rows.tolist()))
    gain = np.diff(np.array(values), axis=1)[:, 0]
    drawn = np.random.default_rng(0).integers(0, len(gain), (1_000, len(gain)))
    low, high = np.percentile(gain[drawn].mean(axis=1), [2.5, 97.5])
    means = np.mean(values, axis=0)
    return {
        "moments": len(values),
        "without": float(means[0]),
        "with": float(means[1]),
        "gain": float(gain.mean()),
        "gain_low": float(low),
        "gain_high": float(high),
        "recall_without": found[1] / found[0],
        "recall_with": found[2] / found[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=3_000)
    parser.add_argument("--examples", type=int, default=3_500)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = compare(options.most, options.examples)
    for name, value in result.items():
        print(f"{name:<16} {value:10.4f}")
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
