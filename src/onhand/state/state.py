"""The state: a fold of the log, and the one thing a decision reads.

Numbers are in columns (`columns`), changed by one compiled fold (`fold`); names, text and ids
that were seen are Python objects. One thread folds and reads; another may `copy` while no fold
runs. Two states that folded the same records are equal byte for byte (`dump`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from onhand.contracts.answers import ItemFacts
from onhand.contracts.records import Body, Fulfilment, Item, Record
from onhand.contracts.registry import Registry
from onhand.state import columns, fold
from onhand.state.barriers import REASONS
from onhand.state.catalogue import Catalogue, terms_of
from onhand.state.clusters import most_clusters
from onhand.state.contexts import DEVICES_AT, REFERRERS, referrer_name
from onhand.state.lateness import Held
from onhand.state.names import Ids, Names, Paths, Visitors
from onhand.state.operations import KINDS, as_rows, fact, operations
from onhand.state.port import Aggregates
from onhand.state.seen import Seen
from onhand.state.texts import Texts, decode, encode

__all__ = ["SCHEMA", "Arrays", "Dump", "Limits", "State"]

Arrays = dict[str, NDArray[Any]]

ROWS_AHEAD: Final = 4_096
BYTES_AHEAD: Final = 1 << 21
"""How far beyond the used rows `State.ahead` goes, the lesser of both; at most twice as far."""


class Limits(msgspec.Struct, frozen=True):
    """How much a state holds. Memory is only committed for what is used."""

    items: int = 1_000_000
    users: int = 1_000_000
    sessions: int = 1_000_000
    countries: int = 512
    devices: int = 64
    categories: int = 8_192
    brands: int = 65_536
    terms: int = 65_536
    pairs: int = 1 << 20
    """Users x categories, and items x countries, of which features are kept."""
    event_ids: int = 1_000_000
    held_events: int = 1_000_000


class Dump(msgspec.Struct):
    """A state at rest: a copy that no fold changes."""

    arrays: Arrays
    texts: Texts

    def encode(self) -> tuple[Arrays, dict[str, bytes]]:
        """Return arrays and bytes as a checkpoint keeps them."""
        return self.arrays, encode(self.texts)


class State:
    """Everything known as of `offset`."""

    def __init__(self, limits: Limits = Limits(), aggregates: Aggregates | None = None) -> None:
        self.limits = limits
        self.aggregates = aggregates
        self.kinds = {**KINDS, **(aggregates.kinds if aggregates is not None else {})}
        self.offset = 0
        self.items = Ids()
        self.countries = Names()
        self.devices = Names()
        self.categories = Paths()
        self.brands = Names()
        self.referrers = Names()
        self.terms = Names()
        self.users = Visitors(limits.users)
        self.sessions = Visitors(limits.sessions)
        self.catalogue = Catalogue()
        self.flags: dict[int, list[str]] = {}
        self.controls: dict[str, Body] = {}
        self.seen = Seen(limits.event_ids)
        self.held = Held(limits.held_events)
        self.contracts = Registry()
        self.item = columns.zeros(columns.ItemColumns, limits.items)
        self.session = columns.zeros(columns.SessionColumns, limits.sessions)
        self.user = columns.zeros(columns.UserColumns, limits.users)
        self.place = columns.zeros(columns.PlaceColumns, limits.countries)
        self.context = columns.zeros(columns.ContextColumns, DEVICES_AT + limits.devices)
        self.cluster = columns.zeros(columns.ClusterColumns, most_clusters(limits.items))
        self.shop = columns.zeros(columns.ShopColumns, 1)

    def apply(self, records: Sequence[Record], last: int) -> None:
        """Fold `records`, the last of which has offset `last`: `name` them, then `step`."""
        self.step(self.name(records), last)

    def name(self, records: Sequence[Record]) -> NDArray[np.int64]:
        """Return the operations of `records`. Steps before may be under way on another thread,
        unless these are more than there `is_room` for."""
        return operations(self, records)

    def step(self, rows: NDArray[np.int64], last: int) -> None:
        """Fold operations, and be as of offset `last`: `change` and `count`, which may run at the
        same time."""
        self.change(rows)
        self.count(rows)
        self.offset = last

    def is_room(self, records: int) -> bool:
        """Whether so many records, and the events that they let go, can be named without anybody
        having to leave."""
        coming = records + len(self.held)
        return self.users.room >= coming and self.sessions.room >= coming

    def fold(self, flat: list[int]) -> None:
        """Fold operations at once that were gathered in `flat`, and empty it: whoever must leave
        next is only known then."""
        rows = as_rows(flat)
        self.change(rows)
        self.count(rows)
        flat.clear()

    def change(self, rows: NDArray[np.int64]) -> None:
        """Apply operations to the columns."""
        fold.fold(
            self.item, self.session, self.user, self.place, self.context, self.cluster, self.shop,
            rows,
        )  # fmt: skip

    def count(self, rows: NDArray[np.int64]) -> None:
        """Apply operations to the aggregates."""
        if self.aggregates is not None:
            self.aggregates.fold(rows)

    def read_contracts(self) -> None:
        """Follow the controls: the contracts they hold, and the lateness that these declare."""
        self.contracts = Registry(self.controls)
        self.held.lateness_ms = self.contracts.version("events").lateness_ms

    def item_row(self, id: str, flat: list[int]) -> int:
        """Return the row of an item; the operation that prepares a new one goes to `flat`."""
        row = self.items.rows.get(id)
        if row is None:
            row = self.items.row(id)
            flat += fact(fold.NEW_ITEM, row, 0, 0)
        return row

    def country_row(self, country: str) -> int:
        """Return the row of a country; those beyond the limit share row 0, the world."""
        return _bounded_row(self.countries, country, self.limits.countries)

    def device_row(self, device: str) -> int:
        """Return the row of a kind of device; those beyond the limit share row 0, unknown."""
        return _bounded_row(self.devices, device, self.limits.devices)

    def category_row(self, category: str) -> int:
        """Return the row of a category path; row 0 is that of none, or of one too many."""
        return _bounded_row(self.categories, category, self.limits.categories) if category else 0

    def brand_row(self, brand: str) -> int:
        """Return the row of a brand; row 0 is that of none, or of one too many."""
        return _bounded_row(self.brands, brand, self.limits.brands) if brand else 0

    def referrer_row(self, referrer: str) -> int:
        """Return the row of a referrer; those beyond the limit share row 0, unknown."""
        return _bounded_row(self.referrers, referrer_name(referrer), REFERRERS)

    def term_rows(self, item: Item) -> list[int]:
        """Return the rows of an item's tags and attributes, those beyond the limit left out."""
        rows = (_bounded_row(self.terms, term, self.limits.terms) for term in terms_of(item))
        return [row for row in rows if row]

    def facts(self, row: int, windows: dict[str, int]) -> ItemFacts:
        """Return the catalogue entry of a row and its live facts; `windows` are counts by name."""
        columns = self.item
        price_cents, stock = int(columns.price_cents[row]), int(columns.stock[row])
        slots, congestion = int(columns.slots[row]), float(columns.congestion[row])
        return ItemFacts(
            item=self.catalogue.entries[row],
            price=None if price_cents < 0 else price_cents / 100,
            stock=None if stock < 0 else stock,
            flags=self.flags.get(row, []),
            fulfilment=Fulfilment(
                slots=None if slots < 0 else slots,
                congestion=None if congestion < 0 else round(congestion, 3),
            ),
            barrier=REASONS[columns.blocked[row]] or None,
            windows=windows,
            as_of=self.offset,
        )

    def _tables(self) -> dict[str, tuple[Any, int]]:
        """The columns of each table, and how many of its rows are used."""
        return {
            "items": (self.item, len(self.items)),
            "sessions": (self.session, len(self.sessions)),
            "users": (self.user, len(self.users)),
            "places": (self.place, len(self.countries)),
            "contexts": (self.context, DEVICES_AT + len(self.devices)),
            "clusters": (self.cluster, int(self.shop.clusters[0])),
            "shop": (self.shop, 1),
        }

    def _used_rows(self) -> Arrays:
        return {
            f"{table}.{field}": column[:count]
            for table, (columns, count) in self._tables().items()
            for field, column in columns._asdict().items()
        }

    def _used(self) -> Arrays:
        arrays = self._used_rows() | self.seen.used()
        if self.aggregates is not None:
            counts = {table: count for table, (_, count) in self._tables().items()}
            arrays |= self.aggregates.used(counts)
        return arrays

    def ahead(self) -> list[NDArray[Any]]:
        """Return all that is used of each column, and the rows that come next: as many until those
        are used, so that it is seldom more than the last time. Folds may run meanwhile."""
        tables = self._tables()
        columns = [(column, count) for columns, count in tables.values() for column in columns]
        columns += self.seen.columns()
        if self.aggregates is not None:
            counts = {table: count for table, (_, count) in tables.items()}
            columns += self.aggregates.columns(counts)
        ahead: list[NDArray[Any]] = []
        for column, count in columns:
            rows = min(ROWS_AHEAD, BYTES_AHEAD // column.strides[0])
            ahead.append(column[: (count // rows + 2) * rows])
        return ahead

    def room(self) -> Arrays:
        """Return memory for a dump, committed already. Folds may run meanwhile: copying into memory
        that the system has still to find takes twenty times as long."""
        room: Arrays = {}
        for name, column in self._used().items():
            room[name] = np.empty((len(column) + len(column) // 8, *column.shape[1:]), column.dtype)
            room[name].fill(0)
        return room

    def dump(self, room: Arrays | None = None) -> Dump:
        """Return a copy of everything, in `room` as far as that goes. No fold may run meanwhile;
        reads may."""
        texts = Texts(
            offset=self.offset,
            items=self.items.names.copy(),
            countries=self.countries.names.copy(),
            devices=self.devices.names.copy(),
            categories=self.categories.names.copy(),
            brands=self.brands.names.copy(),
            referrers=self.referrers.names.copy(),
            terms=self.terms.names.copy(),
            users=self.users.names.copy(),
            users_free=self.users.free.copy(),
            sessions=self.sessions.names.copy(),
            sessions_free=self.sessions.free.copy(),
            catalogue=self.catalogue.entries.copy(),
            bands=self.catalogue.bands.copy(),
            flags=self.flags.copy(),
            controls=self.controls.copy(),
            held=self.held.events,
            newest_ms=self.held.newest_ms,
            floor_ms=self.held.floor_ms,
            late=self.held.late,
        )
        arrays = {name: _copy(column, room or {}, name) for name, column in self._used().items()}
        return Dump(arrays, texts)

    @classmethod
    def restore(
        cls,
        arrays: Mapping[str, NDArray[Any]],
        values: Mapping[str, bytes],
        limits: Limits,
        aggregates: Aggregates | None = None,
    ) -> "State":
        """Return the state that `Dump.encode` was taken of."""
        texts = decode(values)
        state = cls(limits, aggregates)
        state.offset = texts.offset
        state.items = Ids(texts.items)
        state.countries = Names(texts.countries)
        state.devices = Names(texts.devices)
        state.categories = Paths(texts.categories)
        state.brands = Names(texts.brands)
        state.referrers = Names(texts.referrers)
        state.terms = Names(texts.terms)
        state.users = Visitors(limits.users, texts.users, texts.users_free)
        state.sessions = Visitors(limits.sessions, texts.sessions, texts.sessions_free)
        state.catalogue = Catalogue(texts.catalogue, texts.bands)
        state.flags = texts.flags
        state.controls = texts.controls
        state.seen.restore(arrays)
        state.held = Held(
            limits.held_events, texts.held, texts.newest_ms, texts.floor_ms, texts.late
        )
        state.read_contracts()
        state.shop.clusters[:] = arrays["shop.clusters"]
        for name, column in state._used_rows().items():
            np.copyto(column, arrays[name])
        if aggregates is not None:
            aggregates.restore(arrays)
        return state

    @property
    def schema(self) -> str:
        """What a checkpoint of this state, aggregates included, must have been written with."""
        return SCHEMA if self.aggregates is None else f"{SCHEMA};{self.aggregates.schema}"


def _bounded_row(names: Names, name: str, limit: int) -> int:
    row = names.rows.get(name)
    if row is None:
        if len(names) >= limit:
            return 0
        row = names.row(name)
    return row


def _copy(column: NDArray[Any], room: Arrays, name: str) -> NDArray[Any]:
    if name not in room or len(room[name]) < len(column):
        return column.copy()
    copy = room[name][: len(column)]
    np.copyto(copy, column)
    return copy


def _schema() -> str:
    arrays = State(Limits(1, 1, 1, 1)).dump().arrays
    return "6;" + ";".join(f"{name}:{a.dtype}{a.shape[1:]}" for name, a in arrays.items())


SCHEMA = _schema()
"""What a checkpoint must have been written with to be read: bump the number with the meaning of
a column or a text; the columns' shapes speak for themselves."""
