"""Training a ranker from a shop's own log.

The log is folded once. At each sampled moment (see `moments`) the first pass finds candidates as
of the offset before it, and the features of those the visit went on to touch, and of some that it
did not, become one group for the listwise loss. The newest moments are held out: on them the new
model is compared with what is popular and with the default model, and the card says so.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import lightgbm
import numpy as np
from numpy.typing import NDArray

from onhand.contracts.errors import Invalid
from onhand.contracts.models import DEFAULT
from onhand.decision.prepared import Reader, Scratch, make_scratch
from onhand.decision.slots import PLANS
from onhand.decision.tiers import find_tier
from onhand.offline import metrics
from onhand.offline.listwise import Groups, RankerSettings, train_ranker, tune_ranker
from onhand.offline.moments import Interactions, Moment, read_interactions, sample
from onhand.past import Past
from onhand.ranking.card import Card, Data, Quality
from onhand.ranking.model import Model
from onhand.ranking.trees import TreeEnsemble
from onhand.retrieval.first_pass import Found, find
from onhand.retrieval.sight import Visitor, find_visitor, sight_of
from onhand.retrieval.sources import POPULAR, SOURCES
from onhand.state.state import State

__all__ = [
    "Case",
    "Learner",
    "Progress",
    "Trained",
    "Training",
    "cases",
    "default_scores",
    "split",
    "to_model",
    "train",
]

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is to do."""

_DAY_MS: Final = 86_400_000
_LEAST_HELD_OUT: Final = 300
_LEAST_EXAMPLES: Final = 200
_SHOWN: Final = 10


@dataclass(frozen=True)
class Training:
    """The settings of a training."""

    days: int = 180
    """How far back examples are taken from."""
    most: int = 10_000
    """Examples, at most: with all features 300 MB."""
    right: int = 16
    wrong: int = 48
    """Candidates of an example that are kept, at most: right ones, and others at random."""
    fresh_share: float = 0.4
    """Of the visits that are learned from, those of visitors who were hardly known: they are few,
    and what orders candidates for them is something else."""
    held_out: int = 2_000
    """Moments of the last day that the model is judged by, at most."""
    rankers: tuple[RankerSettings, ...] = (RankerSettings(n_trees=250, learning_rate=0.08),)
    n_threads: int = 2
    seed: int = 0


class Case(NamedTuple):
    """A moment with the candidates of its page: what was in the session's cart, or bought in it,
    is on no page, and is neither found nor asked for. `gains`, (k,), are those of the candidates,
    `relevant` the rows that the visit went on to touch."""

    moment: Moment
    state: State
    visitor: Visitor
    found: Found
    features: NDArray[np.float32]
    gains: NDArray[np.float32]
    relevant: set[int]


class Trained(NamedTuple):
    """A model and its card."""

    model: Model
    card: Card


def cases(
    past: Past, moments: list[Moment], reader: Reader, report: Callable[[int, int], None]
) -> Iterator[Case]:
    """Yield the moments, in the order of the log, that have something to show."""
    scratch: Scratch | None = None
    states = past.states([moment.offset for moment in moments])
    for at, (moment, state) in enumerate(zip(moments, states, strict=True), 1):
        scratch = scratch or make_scratch(state)
        case = _case(moment, state, reader, scratch)
        if case.relevant:
            yield case
        report(at, len(moments))


def _case(moment: Moment, state: State, reader: Reader, scratch: Scratch) -> Case:
    visitor = find_visitor(state, moment.request)
    found = find(state, sight_of(state), visitor, moment.time_ms, scratch.finding)
    session = state.session
    barred = np.append(session.cart_item[visitor.session], session.bought_item[visitor.session])
    kept = ~np.isin(found.items, barred)
    found = Found(found.items[kept], found.parts[kept], found.source[kept])
    rows = {state.items.rows.get(item, 0): gain for item, gain in moment.gains.items()}
    blocked = state.item.blocked
    gone = {0, *barred.tolist(), *(row for row in rows if blocked[row])}
    rows = {row: gain for row, gain in rows.items() if row not in gone}
    gains = np.array([rows.get(row, 0.0) for row in found.items.tolist()], np.float32)
    features = reader.read(state, found, visitor, moment.time_ms, scratch.places)
    return Case(moment, state, visitor, found, features, gains, set(rows))


@dataclass
class Learner:
    """Gathers examples, and learns from them."""

    reader: Reader
    settings: Training
    _rows: int = 0
    _sizes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        each = self.settings.right + self.settings.wrong
        width = len(self.reader.names)
        self._features = np.zeros((self.settings.most * each, width), np.float32)
        self._gains = np.zeros(len(self._features), np.float32)
        self._rng = np.random.default_rng(self.settings.seed)

    @property
    def examples(self) -> int:
        """How many there are."""
        return len(self._sizes)

    @property
    def rows(self) -> int:
        """How many candidates they have."""
        return self._rows

    def add(self, case: Case) -> None:
        """Take a case as an example, if it has right and wrong candidates."""
        right, wrong = np.flatnonzero(case.gains), np.flatnonzero(case.gains == 0)
        if not len(right) or not len(wrong) or self.examples == self.settings.most:
            return
        drawn = [
            self._rng.choice(places, min(len(places), most), replace=False)
            for places, most in ((right, self.settings.right), (wrong, self.settings.wrong))
        ]
        chosen = np.concatenate(drawn)
        end = self._rows + len(chosen)
        self._features[self._rows : end] = case.features[chosen]
        self._gains[self._rows : end] = case.gains[chosen]
        self._rows = end
        self._sizes.append(len(chosen))

    def fit(self, report: Progress) -> lightgbm.Booster:
        """Choose the number of trees on the newest examples, then learn from all. Raises
        `Invalid` when there are too few."""
        if self.examples < _LEAST_EXAMPLES:
            raise _too_few(self.examples)
        sizes = np.array(self._sizes, np.int64)
        groups = Groups(self._features[: self._rows], sizes, self._gains[: self._rows])
        seed, n_threads = self.settings.seed, self.settings.n_threads
        chosen = tune_ranker(
            groups, self.settings.rankers, seed=seed, n_threads=n_threads,
            report=lambda done, total: report("tuning", done, total),
        )  # fmt: skip
        return train_ranker(
            groups, chosen, seed=seed, n_threads=n_threads,
            report=lambda done, total: report("ranker", done, total),
        )  # fmt: skip


def train(past: Past, name: str, version: int, settings: Training, report: Progress) -> Trained:
    """Learn a model from a log. Raises `Invalid` where it holds too little."""
    began_s = time.monotonic()
    seen = read_interactions(past, lambda done, total: report("reading", done, total))
    if not len(seen):
        raise Invalid("too_little", "The log holds no view, click, cart or purchase to learn from.")
    end_ms = int(seen.time_ms.max()) + 1
    older, newer = split(seen, _cut_ms(seen, end_ms, settings), settings.held_out, settings)
    if len(older) < _LEAST_EXAMPLES or not newer:
        raise _too_few(len(older))
    every = Reader.every(past.features)
    learner = Learner(every, settings)
    booster: lightgbm.Booster | None = None
    model: Model | None = None
    judged: dict[str, list[NDArray[np.float64]]] = {"model": [], "popular": [], DEFAULT: []}
    for case in cases(
        past, older + newer, every, lambda done, total: report("examples", done, total)
    ):
        if case.moment.offset <= older[-1].offset:
            learner.add(case)
            continue
        if booster is None or model is None:
            booster = learner.fit(report)
            model = to_model(booster, every, name, version)
        _judge(case, model, every, judged)
    if booster is None or model is None:
        raise Invalid("too_little", "No visitor of the last day went on to anything.")
    positions = (
        "clicks by inverse propensity"
        if len(seen.propensities.seen)
        else ("not corrected: the log has too few impressions with positions")
    )
    data = Data(
        older[0].offset, newer[-1].offset, older[0].time_ms, newer[-1].time_ms,
        learner.examples, learner.rows, positions,
    )  # fmt: skip
    card = Card(
        data,
        {name: _quality(values) for name, values in judged.items()},
        importance(booster, every.names),
        {"trees": booster.num_trees(), "features": len(model.features)},
        round(time.monotonic() - began_s, 1),
        f"lightgbm {lightgbm.__version__}",
    )
    return Trained(model, card)


def _too_few(count: int) -> Invalid:
    return Invalid(
        "too_little",
        f"The log has {count} moments to learn from; {_LEAST_EXAMPLES} are the least.",
    )


def split(
    seen: Interactions, cut_ms: int, held_out: int, settings: Training
) -> tuple[list[Moment], list[Moment]]:
    """Return moments before a time to learn from, and at most `held_out` behind them, each in the
    order of the log, to judge by."""
    begin_ms, end_ms = cut_ms - settings.days * _DAY_MS, int(seen.time_ms.max()) + 1
    older = sample(
        seen, begin_ms, cut_ms, most=settings.most, fresh_share=settings.fresh_share,
        seed=settings.seed,
    )  # fmt: skip
    newer = sample(seen, cut_ms, end_ms, most=held_out, seed=settings.seed)
    last = older[-1].offset if older else 0
    return older, [moment for moment in newer if moment.offset > last]


def _cut_ms(seen: Interactions, end_ms: int, settings: Training) -> int:
    """When the last day begins; earlier when too few moments lie in it to judge by, but never
    before half of all."""
    since_ms = end_ms - settings.days * _DAY_MS
    times = [moment.time_ms for moment in sample(seen, since_ms, end_ms, most=2 * settings.most)]
    times.sort()
    last_day, count = int(np.searchsorted(times, end_ms - _DAY_MS)), len(times)
    cut = max(count // 2, min(last_day, count - _LEAST_HELD_OUT, int(count * 0.9)))
    return times[cut] if times else end_ms


def to_model(booster: lightgbm.Booster, reader: Reader, name: str, version: int) -> Model:
    """Return a trained booster as a model that reads only the features that its splits use."""
    used = np.flatnonzero(booster.feature_importance("split")).tolist()
    names = tuple(reader.names[at] for at in used)
    dump = booster.dump_model()
    trees = TreeEnsemble.from_lightgbm(dump).renumber(used)
    return Model(name, version, names, reader.only(names).definitions, trees)


def importance(booster: lightgbm.Booster, names: Iterable[str]) -> dict[str, float]:
    """Each used feature's share of the gain of all splits, the most important first."""
    gain = booster.feature_importance("gain")
    shares = zip(names, (gain / gain.sum()).tolist(), strict=True)
    ordered = sorted(shares, key=lambda each: -each[1])
    return {name: round(share, 5) for name, share in ordered if share > 0}


def default_scores(case: Case) -> NDArray[np.float32]:
    """What the default model says of candidates: the weighted sources of the home slot."""
    plan = PLANS["home"]
    weights = np.zeros(len(SOURCES), np.float32)
    weights[plan.codes] = plan.weights[find_tier(case.state, case.visitor)]
    return case.found.parts @ weights


def _judge(
    case: Case, model: Model, every: Reader, judged: dict[str, list[NDArray[np.float64]]]
) -> None:
    columns = [every.names.index(name) for name in model.features]
    scores = {
        "model": model.score(np.ascontiguousarray(case.features[:, columns])),
        "popular": case.found.parts[:, POPULAR],
        DEFAULT: default_scores(case),
    }
    relevant = np.array([len(case.relevant)])
    for name, score in scores.items():
        best = np.argsort(-score, kind="stable")[:_SHOWN]
        hits = np.zeros((1, _SHOWN), np.bool_)
        hits[0, : len(best)] = case.gains[best] > 0
        judged[name].append(metrics.gains_at(hits, relevant, _SHOWN)[0])


def _quality(values: list[NDArray[np.float64]]) -> Quality:
    hit_rate, reciprocal, ndcg = np.mean(values, axis=0).round(5).tolist()
    return Quality(len(values), ndcg, hit_rate, reciprocal)
