"""Admission: which of the checked records may go to the log, as the state stands.

Here is decided what depends on more than the record itself: whether it is a duplicate, whether
the catalogue knows its item or has room for it, whether it comes too late.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from onhand.contracts.contract import Contract
from onhand.contracts.errors import Fault, RecordError
from onhand.contracts.models import MODEL_CONTROL, Activation
from onhand.contracts.records import Control, Event, Item, ItemDelete, ItemPatch, Record, Signal
from onhand.contracts.registry import Registry, control_of, is_contract
from onhand.state.operations import WATERMARK
from onhand.state.state import State
from onhand.steps import STEP_RECORDS, Steps

__all__ = ["RETRIED", "Admission", "Group", "Retry", "admit"]

RETRIED: Final = "dead_letters"
"""The control that says which dead letters the log has taken last."""


class Admission(NamedTuple):
    """Groups of records on their way: what goes to the log, each group's report so far, and how
    many of the records name an item that is not in the catalogue, by kind."""

    records: list[Record]
    groups: list["Group"]
    unlisted: dict[str, int]


class Group(NamedTuple):
    """What became of one request's records; `upto` counts those admitted up to its end. Of a
    `Retry`, letters are counted, and the errors' indexes are their places."""

    accepted: int
    duplicates: int
    rejected: int
    errors: list[RecordError]
    upto: int


class Retry:
    """Refused records on their way back: `letters` are each a number in the store of dead letters
    that `token` names, and what it holds. Of each letter everything goes in or nothing.

    The numbers of those that are in are a record beside theirs, in the same batch of the log: a
    crash before the letters leave their store cannot put them in twice.
    """

    def __init__(self, token: str, letters: Sequence[tuple[int, Sequence[Record]]]) -> None:
        self.token = token
        self.letters = letters

    def __len__(self) -> int:
        return sum(len(records) for _, records in self.letters)


def admit(
    state: State, groups: Sequence[Sequence[Record] | Retry], now_ms: int
) -> Steps[Admission]:
    """Return what of `groups` goes to the log, in their order. Nothing may be folded between the
    steps."""
    admitted: list[Record] = []
    results: list[Group] = []
    arriving = _Arriving(state)
    for group in groups:
        if isinstance(group, Retry):
            results.append(_admit_retry(group, arriving, admitted, now_ms))
            continue
        before = len(admitted)
        arriving.look_up(group)
        duplicates = 0
        errors: list[RecordError] = []
        for index, record in enumerate(group):
            if index % STEP_RECORDS == STEP_RECORDS - 1:
                yield
            if type(record) is Event and record.id is not None and arriving.repeats(record.id):
                duplicates += 1
                continue
            fault = arriving.fault(record, now_ms)
            if fault is None:
                admitted.append(record)
            else:
                errors.append(RecordError(index, *fault[:2]))
        accepted = len(admitted) - before
        rejected = len(errors)
        results.append(Group(accepted, duplicates, rejected, errors, len(admitted)))
        yield
    return Admission(admitted, results, arriving.unlisted)


class _Arriving:
    """What the state knows, and what the records admitted before will have told it."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._ids: set[str] = set()
        """Of events that were admitted, or were seen before."""
        self._items: set[str] = set()
        self._listed: dict[str, bool] = {}
        self._newest_ms = 0
        self._contracts = state.contracts
        self.unlisted = {"events": 0, "signals": 0}

    def look_up(self, records: Iterable[Record]) -> None:
        """Find which events were seen, all at once, before it is asked of each."""
        ids = [record.id for record in records if type(record) is Event and record.id is not None]
        self._ids |= self._state.seen.among(ids)

    def repeats(self, id: str) -> bool:
        """Return whether an event id that was looked up has been seen, and see it."""
        if id in self._ids or id in self._state.held:
            return True
        self._ids.add(id)
        return False

    def fault(self, record: Record, now_ms: int) -> Fault | None:
        """Return why a record cannot be taken. An item that is new to the catalogue and does not
        say when it was created, was created now."""
        if type(record) is Event:
            if self._state.held.lateness_ms:
                fault = self._lateness(record)
                if fault is not None:
                    return fault
            return self._room(record.item, record)
        if type(record) is Signal:
            return self._room(record.item, record)
        if type(record) is Item:
            fault = self._room(record.id, None)
            if fault is None:
                if record.created is None and not self._is_listed(record.id):
                    record.created = now_ms
                self._listed[record.id] = True
            return fault
        if type(record) is ItemPatch or type(record) is ItemDelete:
            if not self._is_listed(record.id):
                return _unknown(record.id)
            if type(record) is ItemDelete:
                self._listed[record.id] = False
        if type(record) is Control:
            return _control_fault(record, self._contracts)
        return None

    def _lateness(self, event: Event) -> Fault | None:
        held = self._state.held
        assert isinstance(event.time, int)
        watermark_ms = max(held.watermark_ms, self._newest_ms - held.lateness_ms)
        self._newest_ms = max(self._newest_ms, event.time)
        if event.time >= watermark_ms or self._contracts.judging(event).late == "keep":
            return None
        return Fault(
            "late",
            f"`time` {event.time} is {watermark_ms - event.time} ms later than may be.",
            "time",
        )

    def _room(self, item: str | None, by: Event | Signal | None) -> Fault | None:
        """Return why an item cannot be named; `by` is a record that may name an unlisted one."""
        if item is None:
            return None
        if by is not None and not self._is_listed(item):
            contract = self._contracts.judging(by)
            if contract.unknown_item == "reject":
                return _unknown(item)
            self.unlisted[contract.kind] += 1
        names = self._state.items
        if item in names.rows or item in self._items:
            return None
        if len(names) + len(self._items) >= self._state.limits.items:
            return Fault(
                "catalogue_full", f"Item {item!r} is one more than this engine has room for."
            )
        self._items.add(item)
        return None

    def _is_listed(self, item: str) -> bool:
        listed = self._listed.get(item)
        if listed is None:
            return self._state.items.rows.get(item, 0) in self._state.catalogue.entries
        return listed


def _unknown(item: str) -> Fault:
    return Fault("unknown_item", f"There is no item {item!r} in the catalogue.", "item")


def _control_fault(control: Control, contracts: Registry) -> Fault | None:
    """Return why a control record that the fold reads cannot be taken."""
    if control.name == WATERMARK and type(control.body.get("time_ms")) is not int:
        return Fault("control", "A watermark says `time_ms`, a whole number.", "body")
    if control.name == MODEL_CONTROL and control.body:
        try:
            msgspec.convert(control.body, Activation)
        except msgspec.ValidationError as error:
            return Fault("model", f"{error}.", "body")
    if not is_contract(control.name):
        return None
    try:
        contract = msgspec.convert(control.body, Contract)
    except msgspec.ValidationError as error:
        return Fault("contract", f"{error}.", "body")
    if control != control_of(contract) or contract.version != contracts.next_version(contract.name):
        return Fault("contract", f"{control.name} is not the next version of its contract.", "name")
    return None


def _admit_retry(retry: Retry, arriving: "_Arriving", admitted: list[Record], now_ms: int) -> Group:
    """Admit letters one by one, whole or not at all, and a record that says which."""
    accepted: list[int] = []
    duplicates: list[int] = []
    errors: list[RecordError] = []
    arriving.look_up(record for _, records in retry.letters for record in records)
    for place, (number, records) in enumerate(retry.letters):
        faults = [fault for each in records if (fault := arriving.fault(each, now_ms)) is not None]
        if faults:
            errors.append(RecordError(place, *faults[0][:2]))
            continue
        new = [
            each
            for each in records
            if type(each) is not Event or each.id is None or not arriving.repeats(each.id)
        ]
        admitted.extend(new)
        (accepted if new else duplicates).append(number)
    if accepted or duplicates:
        body = {"token": retry.token, "numbers": [*accepted, *duplicates]}
        admitted.append(Control(RETRIED, body))
    return Group(len(accepted), len(duplicates), len(errors), errors, len(admitted))
