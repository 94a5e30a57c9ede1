"""A feature set: declarations, checked and frozen, and how they are counted and read.

Features stand in the order of their names, whatever the order they were registered in. `version`
is a hash of all definitions: two sets of one version give the same numbers.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from onhand.contracts.errors import Unknown
from onhand.features import read
from onhand.features.accumulators import Layout, lay_out
from onhand.features.declare import Feature
from onhand.features.stops import fold_with_stops
from onhand.features.tables import Accumulators
from onhand.features.zones import transitions
from onhand.state.state import Limits, State

__all__ = ["Asker", "FeatureSet", "Values", "Vector"]

_LOCAL: Final = (read.HOUR, read.WEEKDAY)


class Asker(NamedTuple):
    """Rows of the state: the user, the session, the country and the device; 0 is nobody."""

    user: int = 0
    session: int = 0
    country: int = 0
    device: int = 0


class Values(NamedTuple):
    """`values`, (rows, features) float32, and `ages`, (rows, features) int64: how long ago in ms
    the latest event that a value counts was, -1 where no event made it."""

    values: NDArray[np.float32]
    ages: NDArray[np.int64]


class FeatureSet:
    """Features that are counted together.

    `zone` is the shop's time zone, `zones` those of the visitors' countries. Raises `ValueError`
    where two features have one name or a zone is none.
    """

    def __init__(
        self, features: Iterable[Feature], zone: str = "UTC", zones: Mapping[str, str] | None = None
    ) -> None:
        self.features = tuple(sorted(features, key=lambda feature: feature.name))
        self.names = tuple(feature.name for feature in self.features)
        self.zone = zone
        self.zones = dict(sorted((zones or {}).items()))
        repeated = {name for name in self.names if self.names.count(name) > 1}
        if repeated:
            raise ValueError(f"two features are named {repeated.pop()!r}; give one another `name`")
        local = [zone, *self.zones.values()] if self._is_local() else []
        needs = (need for feature in self.features for need in feature.needs)
        self.layout = lay_out(needs, local)
        self.version = self._hash()
        self._by_name = {feature.name: feature for feature in self.features}

    def __getitem__(self, name: str) -> Feature:
        """Return a feature. Raises `Unknown`."""
        feature = self._by_name.get(name)
        if feature is None:
            raise Unknown(
                "unknown_feature",
                f"There is no feature {name[:128]!r}. `onhand features list` shows all.",
            )
        return feature

    def accumulators(self, limits: Limits) -> Accumulators:
        """Return empty counts for a state of `limits`."""
        return Accumulators(self.layout, self.version, limits)

    def vector(self, names: Sequence[str] | None = None) -> "Vector":
        """Return the reader of some features in the order given, or of all in the set's. Raises
        `Unknown`."""
        return Vector(self, self.names if names is None else tuple(names))

    def _is_local(self) -> bool:
        return any(feature.code in _LOCAL for feature in self.features)

    def _hash(self) -> str:
        definitions = [msgspec.structs.replace(feature, doc="") for feature in self.features]
        places = [self.zone, self.zones] if self._is_local() else []
        moments = [transitions(name) for name in self.layout.zones]
        content = msgspec.json.encode([definitions, places, moments])
        return hashlib.blake2b(content, digest_size=8).hexdigest()


class Vector:
    """Reads features for rows of candidates: one array, its columns in the order of `names`."""

    def __init__(self, features: FeatureSet, names: tuple[str, ...]) -> None:
        self.names = names
        self.features = tuple(features[name] for name in names)
        content = msgspec.json.encode([features.version, names])
        self.version = hashlib.blake2b(content, digest_size=8).hexdigest()
        self._set = features
        self._readers, self._floats, self._sums = _compile(self.features, features.layout)

    def gather(
        self, state: State, asker: Asker, items: NDArray[Any], now_ms: int
    ) -> NDArray[np.float32]:
        """Return the values for candidate rows `items`, (n,), at `now_ms`: (n, features) float32.

        Every value is finite. Nothing is created, and unknown rows read as defaults.
        """
        whose = np.empty((len(items), 5), np.int64)
        whose[:, 0] = items
        whose[:, 1:] = asker
        return self._gather(state, whose, np.full(len(items), now_ms, np.int64), 0).values

    def gather_rows(
        self, state: State, whose: NDArray[np.int64], now_ms: NDArray[np.int64]
    ) -> Values:
        """Return values and ages for rows of (item, user, session, country, device), (n, 5), each
        at its own moment, (n,)."""
        return self._gather(state, whose.astype(np.int64), now_ms, len(whose))

    def gather_at_stops(
        self,
        state: State,
        rows: NDArray[np.int64],
        last: int,
        upto: NDArray[np.int64],
        whose: NDArray[np.int64],
        now_ms: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Do `State.step`, and return the values of `gather_rows`, each row as of when the first
        `upto`, (rows,) ascending, operations were folded."""
        counts = _counts_of(state)
        values = np.empty((len(whose), len(self.names)), np.float32)
        fold_with_stops(
            state.item, state.session, state.user, state.place, state.context, state.cluster,
            state.shop, counts.tables, counts.own_cells, counts.layout.spec, counts.layout.starts,
            counts.layout.members, counts.zones, rows, self._readers, self._floats, self._sums,
            self._zone_of(state), upto, whose, now_ms, values,
        )  # fmt: skip
        state.offset = last
        return values

    def _gather(
        self, state: State, whose: NDArray[np.int64], now_ms: NDArray[np.int64], aged: int
    ) -> Values:
        counts = _counts_of(state)
        shape = (len(whose), len(self.names))
        result = Values(np.empty(shape, np.float32), np.empty((aged, len(self.names)), np.int64))
        read.gather(
            self._readers, self._floats, self._sums, counts.tables, counts.layout.spec,
            counts.zones, self._zone_of(state), state.item, state.session, state.user, whose,
            now_ms, *result,
        )  # fmt: skip
        return result

    def _zone_of(self, state: State) -> NDArray[np.int64]:
        """Return the zone of each country's row, -1 for UTC; row 0 has the shop's."""
        place = {zone: at for at, zone in enumerate(self._set.layout.zones)}
        zones = np.full(state.limits.countries, place.get(self._set.zone, -1), np.int64)
        for country, zone in self._set.zones.items():
            row = state.countries.rows.get(country)
            if row is not None:
                zones[row] = place.get(zone, -1)
        return zones


def _counts_of(state: State) -> Accumulators:
    if not isinstance(state.aggregates, Accumulators):
        raise TypeError("this state counts no features; give it those of a FeatureSet")
    return state.aggregates


def _compile(
    features: Sequence[Feature], layout: Layout
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Return readers, floats and the list of sums, as `read.gather` takes them: in the order of
    their accumulators, which is that of scopes."""
    readers = np.full((len(features), read.READER_WIDTH), -1, np.int64)
    floats = np.zeros((len(features), 4))
    sums = sorted({pair for each in features for pair in _sums_of(each, layout)})
    for at, feature in enumerate(features):
        places = [layout.places[need.accumulator] for need in feature.needs]
        readers[at, read.CODE] = feature.code
        readers[at, read.FIRST : read.FIRST + len(places)] = places
        for which, pair in enumerate(_sums_of(feature, layout)):
            readers[at, read.SUMS + which] = sums.index(pair)
        readers[at, read.TTL] = feature.ttl_ms
        readers[at, read.PARAMETER] = feature.parameter
        readers[at, read.PER_ITEM] = bool({"item", "category"} & set(feature.entities))
        floats[at, : len(feature.floats)] = feature.floats
        floats[at, 3] = feature.default
    return readers, floats, np.array(sums, np.int64).reshape(-1, 2)


def _sums_of(feature: Feature, layout: Layout) -> list[tuple[int, int]]:
    """Return the accumulators that a feature adds up, and how many buckets of each."""
    places = [layout.places[need.accumulator] for need in feature.needs]
    return list(zip(places, feature.buckets, strict=False))
