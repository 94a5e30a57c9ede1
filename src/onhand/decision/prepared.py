"""A prepared list: what a visitor should see, ranked ahead of the page by a model.

Three steps, of which only the first reads the state: `gather` finds candidates and reads their
features as of one offset, the model scores that copy, `settle` keeps the best. All are pure, so
offset, moment and model are enough to make a list again to the byte.
"""

import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from onhand.contracts.errors import Refused
from onhand.features.own import OWN, Places, make_places, read_own
from onhand.features.set import Asker, FeatureSet
from onhand.ranking.model import Model
from onhand.retrieval.first_pass import Found, find
from onhand.retrieval.first_pass import Scratch as Finding
from onhand.retrieval.first_pass import make_scratch as make_finding
from onhand.retrieval.listed import Listed
from onhand.retrieval.sight import Sight, Visitor
from onhand.retrieval.sources import SOURCES
from onhand.state.state import State

__all__ = ["Gathered", "LENGTH", "Prepared", "Ranker", "ModelFailed", "Reader", "Scratch", "gather",
           "make_scratch", "prepare", "rank", "settle"]  # fmt: skip

LENGTH: Final = 100
"""Items that a list keeps, at most."""
PARTS: Final = tuple(f"from_{source}" for source in SOURCES)
"""What each source says of a candidate, as features."""
_NAMED_THINGS: Final = ("category", "brand", "country", "device")
_MEANING: Final = 1
"""Changes with the meaning of a source's part or of `OWN`: a model learned from another does not
fit."""


class ModelFailed(Exception):
    """A model gave no scores that a list could be made of."""


class Scratch(NamedTuple):
    """Memory of one thread."""

    finding: Finding
    places: Places


def make_scratch(state: State) -> Scratch:
    """Return the memory for a state and any other of its size."""
    return Scratch(make_finding(state), make_places(len(state.item.blocked)))


class Reader:
    """Reads named features of candidates: parts of sources, of the visitor's own, declared ones.

    Raises `Refused` for a name that is none of these.
    """

    def __init__(self, names: tuple[str, ...], features: FeatureSet) -> None:
        declared = tuple(name for name in names if name not in PARTS and name not in OWN)
        missing = [name for name in declared if name not in features.names]
        if missing:
            raise Refused(
                "model_refused",
                f"The features {', '.join(missing[:5])} are not declared by this app.",
            )
        self.names = names
        self._vector = features.vector(declared)
        self._declared = _columns(names, declared)
        self._parts = _columns(names, PARTS)
        self._own = _columns(names, OWN)
        self.definitions = self._hash()
        self._features = features

    @classmethod
    def every(cls, features: FeatureSet) -> "Reader":
        """Return the reader of all that a model can learn from: names of things are no scale, and
        are left out."""
        declared = [each.name for each in features.features if each.type not in _NAMED_THINGS]
        return cls((*PARTS, *OWN, *declared), features)

    def only(self, names: tuple[str, ...]) -> "Reader":
        """Return the reader of some of the same app's features."""
        return Reader(names, self._features)

    def read(
        self, state: State, found: Found, visitor: Visitor, now_ms: int, places: Places
    ) -> NDArray[np.float32]:
        """Return the features of what was found, float32 (k, names), all finite."""
        values = np.empty((len(found.items), len(self.names)), np.float32)
        values[:, self._parts[0]] = found.parts[:, self._parts[1]]
        if len(self._own[0]):
            session, user, cohort = visitor.session, visitor.user, visitor.cohort
            own = read_own(state, session, user, cohort, found.items, now_ms, places)
            values[:, self._own[0]] = own[:, self._own[1]]
        if len(self._declared[0]):
            asker = Asker(visitor.user, visitor.session, visitor.country)
            values[:, self._declared[0]] = self._vector.gather(state, asker, found.items, now_ms)
        return values

    def _hash(self) -> str:
        meant = [msgspec.structs.replace(each, doc="") for each in self._vector.features]
        content = msgspec.json.encode([_MEANING, self.names, meant])
        return hashlib.blake2b(content, digest_size=8).hexdigest()


def _columns(
    names: tuple[str, ...], of: tuple[str, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where in `names` those of `of` stand, and where in `of`."""
    pairs = [(at, of.index(name)) for at, name in enumerate(names) if name in of]
    return np.array(pairs, np.int64).reshape(-1, 2).T.copy()  # type: ignore[return-value]


class Ranker:
    """A model with the reader of its features. Raises `Refused` where they are not the app's."""

    def __init__(self, model: Model, features: FeatureSet) -> None:
        self.model = model
        self.reader = Reader(model.features, features)
        if self.reader.definitions != model.definitions:
            raise Refused(
                "model_refused",
                f"Model {model.label} was trained on other definitions of its features; train "
                "it again.",
            )

    @property
    def label(self) -> str:
        """Name and version of the model."""
        return self.model.label


class Gathered(NamedTuple):
    """Candidates and their features, float32 (k, features), as of `as_of`."""

    found: Found
    features: NDArray[np.float32]
    as_of: int
    now_ms: int


class Prepared(NamedTuple):
    """A ranked list, best first; `listed` is what a decision takes."""

    listed: Listed
    as_of: int
    prepared_ms: int
    model: str


def gather(
    state: State, sight: Sight, ranker: Ranker, visitor: Visitor, now_ms: int, scratch: Scratch
) -> Gathered:
    """Return the candidates for a visitor and what `ranker` reads of them; no fold may run."""
    found = find(state, sight, visitor, now_ms, scratch.finding)
    features = ranker.reader.read(state, found, visitor, now_ms, scratch.places)
    return Gathered(found, features, state.offset, now_ms)


def settle(gathered: Gathered, scores: NDArray[np.float32], model: str) -> Prepared:
    """Return the list of the best by `scores`, (k,); equal ones in the order they were found."""
    found = gathered.found
    best = np.argsort(-scores, kind="stable")[:LENGTH]
    listed = Listed(
        found.items[best].astype(np.int32),
        scores[best].astype(np.float32),
        found.source[best].astype(np.int8),
    )
    return Prepared(listed, gathered.as_of, gathered.now_ms, model)


def rank(ranker: Ranker, gathered: Sequence[Gathered]) -> list[Prepared]:
    """Return the lists of several visitors, whose candidates are scored in one call.

    Raises `ModelFailed` where the model's scores are none, and whatever the model raises.
    """
    features = np.concatenate([each.features for each in gathered])
    scores = ranker.model.score(features)
    if scores.shape != (len(features),):
        raise ModelFailed(f"its scores have shape {scores.shape}, not ({len(features)},)")
    if not np.isfinite(scores).all():
        raise ModelFailed("it gave scores that are no numbers")
    ends = np.cumsum([len(each.features) for each in gathered])[:-1]
    parts = np.split(scores, ends)
    return [settle(each, part, ranker.label) for each, part in zip(gathered, parts, strict=True)]


def prepare(
    state: State, sight: Sight, ranker: Ranker, visitor: Visitor, now_ms: int, scratch: Scratch
) -> Prepared:
    """Return the list for a visitor as of the state's offset and `now_ms`."""
    return rank(ranker, [gather(state, sight, ranker, visitor, now_ms, scratch)])[0]
