"""Records become operations: rows of eleven integers that the compiled folds apply.

An operation is (kind, item, session, user, country, time in ms, value) and, of events, (worth in
cents, dwell in ms, position, device). The value of an event is its quantity. Ids turn into row
numbers here, in record order, and what visitors never read on the hot path (catalogue text,
flag names, controls) is applied at once.
"""

from struct import pack_into
from typing import TYPE_CHECKING, Final

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from onhand.contracts.records import (
    EVENT_TYPES,
    Control,
    Event,
    Item,
    ItemDelete,
    ItemPatch,
    Record,
    Signal,
)
from onhand.contracts.registry import is_contract
from onhand.state import fold
from onhand.state.columns import TERMS
from onhand.state.content import item_words, pack, price_band, query_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from onhand.state.state import State

__all__ = [
    "KINDS",
    "MISSING",
    "WATERMARK",
    "WIDTH",
    "as_rows",
    "cents",
    "operations",
    "operations_each",
    "session_name",
]

WIDTH: Final = 11
_DESCRIBING: Final = {"title", "category", "brand", "tags", "attributes"}
MISSING: Final = -(2**62)
"""A worth that is not known. Of dwell and position, -1 is not known."""
KINDS: Final = {name: kind for kind, name in enumerate(EVENT_TYPES)}
"""The operation of each standard event type."""
WATERMARK: Final = "watermark"
"""A control whose body's `time_ms` says that time has come so far, when no event does."""


def cents(price: float) -> int:
    """Return a price in the currency's hundredths."""
    return round(price * 100)


def session_name(session: str | None, user: str | None) -> str:
    """Return the session's name; a user without one has a session of their own, nobody has none."""
    if session is None:
        return f"\0{user}" if user is not None else ""
    return session


def operations(state: "State", records: "Sequence[Record]") -> NDArray[np.int64]:
    """Return the operations of `records`, (n, 11) int64, naming in `state` what is new.

    An event whose id has been seen gives none.
    """
    flat: list[int] = []
    for run in _runs(records):
        _gather(state, _in_order(state, run) if state.held.active else _new(state, run), flat)
    return as_rows(flat)


def _runs(records: "Sequence[Record]") -> "Iterator[Sequence[Record]]":
    """Yield records in runs that end with a control: it may say that events are held back."""
    begin = 0
    for at, record in enumerate(records, 1):
        if type(record) is Control:
            yield records[begin:at]
            begin = at
    yield records[begin:]


def _new(state: "State", records: "Sequence[Record]") -> "Iterable[Record]":
    """Remember the ids of events, and leave out those that were seen."""
    ids = [record.id for record in records if type(record) is Event and record.id is not None]
    is_new = state.seen.add(ids)
    if is_new.all():
        return records
    known = iter(is_new.tolist())
    return (r for r in records if type(r) is not Event or r.id is None or next(known))


def operations_each(
    state: "State", records: "Iterable[Record]"
) -> tuple[NDArray[np.int64], list[int]]:
    """Return the operations of records that nothing holds back and nobody has seen, and how many
    are each record's."""
    flat: list[int] = []
    widths: list[int] = []
    before = 0
    for record in records:
        _gather(state, (record,), flat)
        widths.append(len(flat) // WIDTH - before)
        before += widths[-1]
    return as_rows(flat), widths


def _gather(state: "State", records: "Iterable[Record]", flat: list[int]) -> None:
    """Append the operations of `records` to `flat`. The events' part is written out in one loop:
    nearly all records are events."""
    items, users, sessions = state.items.rows, state.users.rows, state.sessions.rows
    countries, devices = state.countries.rows, state.devices.rows
    kinds = state.kinds
    for record in records:
        if type(record) is not Event:
            _fact(state, record, flat)
            continue
        user = item = country = device = 0
        if record.user is not None:
            user = users.get(record.user) or _enter_user(state, record.user, flat)
        name = record.session if record.session is not None else session_name(None, record.user)
        session = sessions.get(name) or _enter_session(state, name, flat)
        if record.item is not None:
            item = items.get(record.item) or state.item_row(record.item, flat)
        context = record.context
        if context is not None:
            if context.country is not None:
                country = countries.get(context.country) or state.country_row(context.country)
            if context.device is not None:
                device = devices.get(context.device) or state.device_row(context.device)
            if context.referrer:
                row = state.referrer_row(context.referrer)
                flat += (fold.REFERRER, 0, session, 0, 0, 0, row, 0, 0, 0, 0)
        worth, dwell_ms, position = record.value, record.dwell_ms, record.position
        flat += (
            kinds.get(record.type, fold.OTHER),
            item,
            session,
            user,
            country,
            record.time,
            record.quantity,
            MISSING if worth is None else round(worth * 100),
            -1 if dwell_ms is None else dwell_ms,
            -1 if position is None else position,
            device,
        )  # type: ignore[assignment]
        if record.query and record.type == "search":
            flat += (fold.QUERY, 0, session, *pack(query_words(record.query)))


def _in_order(state: "State", records: "Iterable[Record]") -> "Iterator[Record]":
    """Yield `records` with the events held back until they are in order: see `lateness`."""
    held = state.held
    for record in records:
        if type(record) is Event:
            yield from _let_go(state, held.take(record, state.seen))
        elif type(record) is Control:
            yield record
            time_ms = record.body["time_ms"] if record.name == WATERMARK else 0
            yield from _let_go(state, held.release(time_ms))
        else:
            yield record


def _let_go(state: "State", events: list[Event]) -> list[Event]:
    """Remember the ids of events that are held back no longer."""
    state.seen.add([event.id for event in events if event.id is not None])
    return events


def as_rows(flat: list[int]) -> NDArray[np.int64]:
    """Return flat operations as rows, (n, 11) int64. NumPy takes twice as long to read a list."""
    rows = np.empty((len(flat) // WIDTH, WIDTH), np.int64)
    pack_into(f"{len(flat)}q", rows.data, 0, *flat)
    return rows


def fact(kind: int, item: int, time_ms: int, value: int) -> tuple[int, ...]:
    """Return the operation of a fact about an item."""
    return (kind, item, 0, 0, 0, time_ms, value, 0, 0, 0, 0)


def _enter_user(state: "State", name: str, flat: list[int]) -> int:
    if state.users.full:
        state.fold(flat)
        state.users.make_room(state.user.touched)
    row = state.users.enter(name)
    flat += (fold.CLEAR_USER, 0, 0, row, 0, 0, 0, 0, 0, 0, 0)
    return row


def _enter_session(state: "State", name: str, flat: list[int]) -> int:
    if state.sessions.full:
        state.fold(flat)
        state.sessions.make_room(state.session.touched)
    row = state.sessions.enter(name)
    flat += (fold.CLEAR_SESSION, 0, row, 0, 0, 0, 0, 0, 0, 0, 0)
    return row


def _fact(state: "State", record: Record, flat: list[int]) -> None:
    if type(record) is Signal:
        row = state.item_row(record.item, flat)
        if _enter_band(state, record, row):
            _describe(state, row, flat)
        _standing(state, record, row, flat)
    elif type(record) is Item:
        _item(state, record, flat)
    elif type(record) is ItemPatch:
        _patch(state, record, flat)
    elif type(record) is ItemDelete:
        _delete(state, record, flat)
    elif type(record) is Control:
        _control(state, record)


def _item(state: "State", item: Item, flat: list[int]) -> None:
    row = state.item_row(item.id, flat)
    created_ms = item.created if isinstance(item.created, int) else 0
    state.catalogue.put(row, item)
    flat += fact(fold.LIST, row, created_ms, 0)
    flat += fact(fold.CATEGORY, row, 0, state.category_row(item.category))
    flat += fact(fold.BRAND, row, 0, state.brand_row(item.brand))
    _enter_band(state, item, row)
    _describe(state, row, flat)
    _standing(state, item, row, flat)


def _patch(state: "State", patch: ItemPatch, flat: list[int]) -> None:
    row = state.item_row(patch.id, flat)
    if row in state.catalogue.entries:
        state.catalogue.patch(row, patch)
        if isinstance(patch.created, int):
            flat += fact(fold.LIST, row, patch.created, 0)
    if patch.category is not UNSET:
        flat += fact(fold.CATEGORY, row, 0, state.category_row(patch.category))
    if patch.brand is not UNSET:
        flat += fact(fold.BRAND, row, 0, state.brand_row(patch.brand))
    if _enter_band(state, patch, row) or _DESCRIBING & {
        name for name in patch.__struct_fields__ if getattr(patch, name) is not UNSET
    }:
        _describe(state, row, flat)
    _standing(state, patch, row, flat)


def _delete(state: "State", delete: ItemDelete, flat: list[int]) -> None:
    row = state.item_row(delete.id, flat)
    state.catalogue.drop(row)
    flat += fact(fold.UNLIST, row, 0, 0)


def _enter_band(state: "State", facts: Item | ItemPatch | Signal, row: int) -> bool:
    """Note the band of a price; return whether it is another than before."""
    if facts.price is UNSET:
        return False
    before = state.catalogue.bands.get(row)
    band = state.catalogue.bands[row] = price_band(facts.price)
    return band != before


def _describe(state: "State", row: int, flat: list[int]) -> None:
    """Append the vector and the terms of an item that is in the catalogue."""
    item = state.catalogue.entries.get(row)
    if item is None:
        return
    packed = pack(item_words(item, state.catalogue.bands.get(row, 0)))
    flat += (fold.CONTENT, row, 0, *packed)
    terms = state.term_rows(item)[:TERMS]
    for at in range(0, max(len(terms), 1), 8):
        eight = terms[at : at + 8]
        flat += (fold.TERMS, row, at, *eight, *([0] * (8 - len(eight))))


def _standing(state: "State", facts: Item | ItemPatch | Signal, row: int, flat: list[int]) -> None:
    if facts.stock is not UNSET:
        flat += fact(fold.STOCK, row, 0, -1 if facts.stock is None else facts.stock)
    if facts.price is not UNSET:
        flat += fact(fold.PRICE, row, 0, cents(facts.price))
    if not isinstance(facts, Signal):
        return
    if facts.flags is not UNSET:
        state.flags.pop(row, None)
        if facts.flags:
            state.flags[row] = facts.flags
        flat += fact(fold.HELD, row, 0, int(bool(facts.flags)))
    if facts.fulfilment is not UNSET:
        slots, congestion = facts.fulfilment.slots, facts.fulfilment.congestion
        permille = -1 if congestion is None else round(congestion * 1000)
        flat += fact(fold.SLOTS, row, 0, -1 if slots is None else slots)
        flat += fact(fold.CONGESTION, row, 0, permille)


def _control(state: "State", control: Control) -> None:
    if control.name == WATERMARK:
        return
    if control.body:
        state.controls[control.name] = control.body
    else:
        state.controls.pop(control.name, None)
    if is_contract(control.name):
        state.read_contracts()
