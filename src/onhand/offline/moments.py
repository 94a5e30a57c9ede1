"""Moments: when a visitor could have been shown something, and what the visit did next.

A visit is what one session does without a pause of half an hour. Each of its interactions is a
moment: a page could have been decided just before it, on all that the log held by then, and what
the visit touches within the next hour is what that page should have shown. A purchase counts 3, a
cart 2, a click or view 1. Of every visit the first moment is taken, which knows the least, and a
few others at random, so that long visits do not outweigh the rest.

The log is read once, into a few numbers an interaction.
"""

from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onhand.contracts.records import Context, Event
from onhand.contracts.requests import RecommendRequest
from onhand.decision.tiers import COLLABORATIVE_FROM
from onhand.past import Past
from onhand.state.operations import session_name

__all__ = ["GAINS", "Interactions", "Moment", "Propensities", "read_interactions", "sample"]

GAINS: Final = {"view": 1.0, "click": 1.0, "cart_add": 2.0, "purchase": 3.0}
"""What it is worth that a visitor did this to a shown item."""
PAUSE_MS: Final = 30 * 60_000
AHEAD_MS: Final = 60 * 60_000
AHEAD: Final = 50
"""Interactions after a moment that count, at most."""
_ENOUGH_SHOWN: Final = 1_000
_LEAST_SEEN: Final = 0.1


class Moment(NamedTuple):
    """The state as of `offset` should have shown the items of `gains` at `time_ms`."""

    offset: int
    time_ms: int
    request: RecommendRequest
    visit: int
    gains: dict[str, float]


class Propensities(NamedTuple):
    """How often an item is looked at by its position, the first 1; empty where not known."""

    seen: NDArray[np.float64]

    @classmethod
    def of(cls, shown: Counter[int], clicked: Counter[int]) -> "Propensities":
        """From how often items were shown and clicked at each position: the click rate there over
        that of the best, as if what is shown at each were equally good. That counts too little
        for low positions, so no weight is above ten (Joachims et al., WSDM 2017)."""
        if sum(shown.values()) < _ENOUGH_SHOWN or not clicked:
            return cls(np.zeros(0))
        places = range(max(shown) + 1)
        rate = np.array([(clicked[at] + 1) / (shown[at] + 20) for at in places])
        return cls(np.clip(rate / rate.max(), _LEAST_SEEN, 1))

    def weight(self, position: int) -> float:
        """What a click at a position counts."""
        return 1 / float(self.seen[position]) if 0 <= position < len(self.seen) else 1.0


@dataclass(frozen=True)
class Interactions:
    """All interactions of a log, in its order; each array has one entry for each."""

    offset: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    session: NDArray[np.int32]
    user: NDArray[np.int32]
    """-1: not known."""
    country: NDArray[np.int32]
    item: NDArray[np.int32]
    gain: NDArray[np.float32]
    position: NDArray[np.int32]
    """-1: not known."""
    sessions: list[str]
    users: list[str]
    countries: list[str]
    items: list[str]
    propensities: Propensities

    def __len__(self) -> int:
        return len(self.offset)


class _Names:
    def __init__(self) -> None:
        self.names: list[str] = []
        self._rows: dict[str, int] = {}

    def row(self, name: str | None) -> int:
        if name is None:
            return -1
        row = self._rows.get(name)
        if row is None:
            row = self._rows[name] = len(self.names)
            self.names.append(name)
        return row


def read_interactions(past: Past, report: Callable[[int, int], None]) -> Interactions:
    """Read all interactions of a log; `report` hears of how many records how many are read."""
    sessions, users, countries, items = _Names(), _Names(), _Names(), _Names()
    whole = [array("q"), array("q")]
    rows = [array("i") for _ in range(5)]
    gains = array("f")
    shown: Counter[int] = Counter()
    clicked: Counter[int] = Counter()
    last = past.last
    for batch in past.records(0):
        for offset, event in enumerate(batch.records, batch.first):
            if type(event) is not Event or event.item is None:
                continue
            if event.position is not None and event.type in ("impression", "click"):
                (shown if event.type == "impression" else clicked)[event.position] += 1
            gain = GAINS.get(event.type)
            if gain is None or not isinstance(event.time, int):
                continue
            name = session_name(event.session, event.user)
            country = event.context.country if event.context is not None else None
            position = -1 if event.position is None else event.position
            numbers = (
                sessions.row(name), users.row(event.user), countries.row(country),
                items.row(event.item), position,
            )  # fmt: skip
            whole[0].append(offset)
            whole[1].append(event.time)
            for column, number in zip(rows, numbers, strict=True):
                column.append(number)
            gains.append(gain)
        report(batch.first + len(batch.records) - 1, last)
    session, user, country, item, position = (np.array(column, np.int32) for column in rows)
    return Interactions(
        np.array(whole[0], np.int64), np.array(whole[1], np.int64), session, user, country, item,
        np.array(gains, np.float32), position, sessions.names, users.names, countries.names,
        items.names, Propensities.of(shown, clicked),
    )  # fmt: skip


def sample(
    of: Interactions,
    begin_ms: int,
    end_ms: int,
    *,
    most: int,
    per_visit: int = 3,
    fresh_share: float = 0.0,
    seed: int = 0,
) -> list[Moment]:
    """Return at most `most` moments from `begin_ms` up to `end_ms`, not included, in the order of
    the log: of visits drawn at random, up to `per_visit` each. `fresh_share` of the visits, where
    there are so many, are of visitors who are hardly known when they begin."""
    rng = np.random.default_rng(seed)
    order = np.argsort(of.session, kind="stable")
    session, time_ms = of.session[order], of.time_ms[order]
    parts = (np.diff(session) != 0) | (np.diff(time_ms) > PAUSE_MS)
    begins = np.append(0, np.flatnonzero(parts) + 1) if len(order) else np.zeros(0, np.int64)
    ends = np.append(begins[1:], len(order))
    inside = (time_ms[begins] >= begin_ms) & (time_ms[begins] < end_ms)
    begins, ends = begins[inside], ends[inside]
    moments: list[Moment] = []
    visits = rng.permutation(len(begins))
    fresh = _known_before(of)[order[begins[visits]]] < COLLABORATIVE_FROM
    fresh &= np.cumsum(fresh) <= fresh_share * most / per_visit
    for visit in np.append(visits[fresh], visits[~fresh]):
        begin, end = int(begins[visit]), int(ends[visit])
        later = np.arange(begin + 1, end)
        drawn = rng.choice(later, min(len(later), per_visit - 1), replace=False)
        rows = order[begin:end]
        moments += [_moment(of, rows, place - begin, int(visit)) for place in (begin, *drawn)]
        if len(moments) >= most:
            break
    return sorted(moments[:most], key=lambda moment: moment.offset)


def _known_before(of: Interactions) -> NDArray[np.int64]:
    """How many interactions of its user, or of its session, came before each."""
    owner = np.where(of.user >= 0, of.user, len(of.users) + of.session)
    order = np.argsort(owner, kind="stable")
    ordered = owner[order]
    begins = np.append(0, np.flatnonzero(np.diff(ordered)) + 1)
    first = np.repeat(begins, np.diff(np.append(begins, len(order))))
    known = np.empty(len(order), np.int64)
    known[order] = np.arange(len(order)) - first
    return known


def _moment(of: Interactions, rows: NDArray[np.int64], place: int, visit: int) -> Moment:
    """The moment before the interaction at `place` of a visit, whose rows are given."""
    at = int(rows[place])
    ahead = rows[place : place + AHEAD]
    ahead = ahead[of.time_ms[ahead] <= of.time_ms[at] + AHEAD_MS]
    gains: dict[str, float] = {}
    for row in ahead.tolist():
        item = of.items[of.item[row]]
        gain = float(of.gain[row]) * of.propensities.weight(int(of.position[row]))
        gains[item] = max(gain, gains.get(item, 0.0))
    user, country = int(of.user[at]), int(of.country[at])
    name = of.sessions[of.session[at]]
    request = RecommendRequest(
        "home",
        user=None if user < 0 else of.users[user],
        session=None if name.startswith("\0") else name,
        context=Context(country=None if country < 0 else of.countries[country]),
    )
    return Moment(int(of.offset[at]) - 1, int(of.time_ms[at]), request, visit, gains)
