"""The prepared lists that pages read: a bounded store, the list that was longest unused leaves.

A list is for a visitor and a slot; one of the product slot also for the product. A *head* list is
for all of whom nothing is known but their country, or not even that. An event of the
visitor makes it *behind* until a new one is swapped in. Pages go on with it meanwhile, for live
stock and the session's own sources are theirs anyway, and say so when it takes too long.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct

from onhand.contracts.records import Context, Event
from onhand.contracts.requests import RecommendRequest, Slot
from onhand.decision.prepared import LENGTH, Prepared
from onhand.retrieval.listed import NO_LIST, Listed
from onhand.retrieval.sources import SOURCES
from onhand.state import checkpoint
from onhand.state.state import State

__all__ = ["Entry", "Lists", "Whom", "audience", "likely"]

LIST_BYTES: Final = 9 * LENGTH + 700
"""What a list takes: nine bytes an item, and the objects around them."""
BEHIND_MS: Final = 1_000
"""How long a list may be behind its visitor before a page says so."""
FADED_MS: Final = 600_000
"""Age from which a page that reads a list asks for a new one."""
HEAD_FADED_MS: Final = 60_000
"""The same of a head list, which no event makes behind."""
HEAD_COUNTRIES: Final = 16
"""The countries with the most visits, whose head lists are made before anybody asks."""
WANTED: Final = 1_000
"""Lists that pages may ask for at a time."""
HEAD_SHARE: Final = 0.2
"""The share of the visitors that lists are made for before they come."""


class Whom(Struct, frozen=True, array_like=True, gc=False):
    """Whom a list is for; `user` only where there is no session, `item` the product of a page. With
    neither it is a head list, of a `country` or (None) of all.

    Tens of thousands may wait to be made, so garbage collections do not look at them: one took 20
    ms for that."""

    slot: Slot
    session: str | None
    user: str | None
    item: str | None = None
    country: str | None = None

    @property
    def key(self) -> "Whom":
        """What there is one list of: this, whatever the product."""
        if self.item is None:
            return self
        return Whom(self.slot, self.session, self.user)

    @property
    def is_head(self) -> bool:
        """Whether it is everybody's of whom nothing more is known."""
        return self.session is None and self.user is None

    def request(self) -> RecommendRequest:
        """The request that a list answers ahead: all that is known comes from the state."""
        return RecommendRequest(
            slot=self.slot,
            session=self.session,
            user=self.user,
            item=self.item,
            context=Context(country=self.country),
        )


def audience(request: RecommendRequest, of_user: bool = False) -> Whom:
    """Return whom the list for a page is for: its session, or its user where there is none or
    `of_user` says so."""
    if request.session is None or of_user:
        return Whom(request.slot, None, request.user, request.item)
    return Whom(request.slot, request.session, None, request.item)


class Entry:
    """A list, and since when an event of its visitor has not been in it (0: none)."""

    __slots__ = ("behind_ms", "prepared", "whom")

    def __init__(self, whom: Whom, prepared: Prepared, behind_ms: int) -> None:
        self.whom = whom
        self.prepared = prepared
        self.behind_ms = behind_ms


class Lists:
    """At most as many lists as fit into `capacity_bytes`."""

    def __init__(self, capacity_bytes: int = 1 << 26) -> None:
        self.capacity = max(capacity_bytes // LIST_BYTES, 1)
        self.reads: Counter[tuple[str, str]] = Counter()
        """Page reads by the visitor's tier and the list they began from: `fresh`, `stale` or
        `none`."""
        self.left = 0
        """Lists that left for want of room."""
        self.failing = False
        """Whether lists cannot be made now: one that is behind is stale at once then."""
        self.wanted: dict[Whom, None] = {}
        """Lists that pages asked for in vain, the latest last."""
        self.wanted_heads: dict[Whom, None] = {}
        """The same of head lists."""
        self._entries: OrderedDict[Whom, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Whom]:
        """Whom there are lists for, the latest used first."""
        for entry in reversed(self._entries.values()):
            yield entry.whom

    def find(self, request: RecommendRequest) -> Entry | None:
        """Return the list for a page, of its session or else of its user; None where there is
        none."""
        slot, entries, entry = request.slot, self._entries, None
        if request.session is not None:
            entry = entries.get(Whom(slot, request.session, None))
        if request.user is not None and (entry is None or entry.whom.item != request.item):
            entry = entries.get(Whom(slot, None, request.user))
        if entry is None or entry.whom.item != request.item:
            return None
        entries.move_to_end(entry.whom.key)
        return entry

    def find_head(self, slot: Slot, country: str | None) -> Entry | None:
        """Return the list for those of whom no more than the country is known, else that for all;
        ask for those that are missing."""
        for each in (country, None):
            whom = Whom(slot, None, None, country=each)
            entry = self._entries.get(whom)
            if entry is not None:
                self._entries.move_to_end(whom)
                return entry
            self._want(whom)
        return None

    def want(self, request: RecommendRequest) -> None:
        """Ask for the lists that a page looked for in vain: its session's, its user's."""
        if len(self.wanted) >= WANTED:
            return
        for whom in {audience(request), audience(request, request.user is not None)}:
            entry = self._entries.get(whom.key)
            if entry is None or entry.whom.item != whom.item:
                self._want(whom)

    def refresh(self, entry: Entry, now_ms: int) -> None:
        """Ask for a list anew that is used and was made long ago."""
        faded_ms = HEAD_FADED_MS if entry.whom.is_head else FADED_MS
        if now_ms - entry.prepared.prepared_ms > faded_ms:
            self._want(entry.whom)

    def is_stale(self, entry: Entry, now_ms: int) -> bool:
        """Whether a list has been behind its visitor for too long."""
        behind_ms = entry.behind_ms
        return behind_ms > 0 and (self.failing or now_ms - behind_ms > BEHIND_MS)

    def put(self, whom: Whom, prepared: Prepared, behind_ms: int = 0) -> None:
        """Swap a list in. `behind_ms` says since when there has been an event after it."""
        self.wanted.pop(whom, None)
        self.wanted_heads.pop(whom, None)
        self._entries[whom.key] = Entry(whom, prepared, behind_ms)
        self._entries.move_to_end(whom.key)
        while len(self._entries) > self.capacity:
            self._entries.popitem(last=False)
            self.left += 1

    def mark(self, event: Event, ahead: frozenset[Slot], now_ms: int) -> Iterator[Whom]:
        """Note an event that was folded; yield whom new lists should be made for: in the slots
        `ahead`, and where there is a list already."""
        visitors: list[tuple[str | None, str | None]] = []
        if event.session is not None:
            visitors.append((event.session, None))
        if event.user is not None:
            visitors.append((None, event.user))
        for place, (session, user) in enumerate(visitors):
            for slot in _SLOTS:
                whom = Whom(slot, session, user)
                entry = self._entries.get(whom)
                if entry is not None and entry.behind_ms == 0:
                    entry.behind_ms = now_ms
                if entry is not None or (place == 0 and slot in ahead):
                    yield Whom(slot, session, user, event.item if slot == "product" else None)

    def save(self, folder: Path, offset: int) -> None:
        """Write all lists to `folder`, those of one log as of `offset`. Raises `OSError`."""
        entries = list(self._entries.values())
        listed = [entry.prepared.listed for entry in entries]
        arrays = {
            "lengths": np.array([len(each.rows) for each in listed], np.int64),
            "as_of": np.array([entry.prepared.as_of for entry in entries], np.int64),
            "prepared_ms": np.array([entry.prepared.prepared_ms for entry in entries], np.int64),
            "behind_ms": np.array([entry.behind_ms for entry in entries], np.int64),
            "rows": np.concatenate([NO_LIST.rows, *(each.rows for each in listed)]),
            "scores": np.concatenate([NO_LIST.scores, *(each.scores for each in listed)]),
            "sources": np.concatenate([NO_LIST.sources, *(each.sources for each in listed)]),
        }
        names = [(entry.whom, entry.prepared.model) for entry in entries]
        checkpoint.save(folder, offset, _SCHEMA, arrays, {"names": msgspec.msgpack.encode(names)})

    def load(self, folder: Path, offset: int) -> None:
        """Take the lists that were saved last, none where they are of a log that goes beyond
        `offset`, of other sources, or damaged."""
        if not folder.is_dir():
            return
        kept = checkpoint.load_latest(folder, _SCHEMA, offset)
        if kept is None:
            return
        arrays = kept.arrays
        names = msgspec.msgpack.decode(kept.values["names"], type=list[tuple[Whom, str]])
        ends = np.cumsum(arrays["lengths"])[:-1].tolist()
        columns = [np.split(arrays[name], ends) for name in ("rows", "scores", "sources")]
        moments = [arrays[name].tolist() for name in ("as_of", "prepared_ms", "behind_ms")]
        for (whom, model), rows, scores, sources, as_of, prepared_ms, behind_ms in zip(
            names, *columns, *moments, strict=True
        ):
            listed = Listed(rows.copy(), scores.copy(), sources.copy())
            self.put(whom, Prepared(listed, as_of, prepared_ms, model), behind_ms)

    def _want(self, whom: Whom) -> None:
        wanted = self.wanted_heads if whom.is_head else self.wanted
        wanted.pop(whom, None)
        if len(wanted) < WANTED:
            wanted[whom] = None


def likely(state: State, ahead: Iterable[Slot], most: int) -> list[Whom]:
    """Return up to `most` whom lists should be made for before they come: the heads, then of the
    sessions and of the users the fifth with the most interactions, those first who were here last.
    """
    slots = list(ahead)
    heads = [Whom(slot, None, None, country=each) for each in _countries(state) for slot in slots]
    here: list[tuple[int, str | None, str | None]] = []
    for names, columns in ((state.sessions.names, state.session), (state.users.names, state.user)):
        count = len(names)
        interactions, touched = columns.interactions[:count], columns.touched[:count]
        active = np.flatnonzero(interactions)
        if not len(active):
            continue
        floor = np.quantile(interactions[active], 1.0 - HEAD_SHARE)
        for row in active[interactions[active] >= floor].tolist():
            name = names[row]
            if columns is state.user:
                here.append((int(touched[row]), None, name))
            elif not name.startswith("\0"):
                here.append((int(touched[row]), name, None))
    here.sort(key=lambda each: -each[0])
    known = [Whom(slot, session, user) for _, session, user in here for slot in slots]
    return (heads + known)[:most]


def _countries(state: State) -> list[str | None]:
    """Return no country, and those that most visits come from."""
    names = state.countries.names
    weights = state.place.popular_weight[1 : len(names)].sum(axis=1)
    most = np.argsort(-weights, kind="stable")[:HEAD_COUNTRIES]
    return [None, *(names[row + 1] for row in most.tolist())]


_SCHEMA: Final = f"lists 2 {SOURCES}"
"""What saved lists mean: the codes of the sources are in them."""
_SLOTS: Final[tuple[Slot, ...]] = ("home", "product", "cart")
