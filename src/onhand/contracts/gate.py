"""A contract compiled: what turns decoded objects into records that may be logged.

A contract that only narrows is checked on typed records, at full speed. One that renames,
converts, adds or forbids fields first reads each object field by field. That of events also
knows the contracts of the app's own event types, and leaves their records to those.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar, cast

import msgspec

from onhand.contracts.checks import (
    SHAPES,
    Rules,
    check_event,
    check_item,
    check_signal,
    find_suspects,
    read_moment,
)
from onhand.contracts.contract import MOST_LETTERS, Contract, Field, standard
from onhand.contracts.errors import Fault
from onhand.contracts.explain import Patience, brief, explain_object
from onhand.contracts.flaws import flaws_of
from onhand.contracts.records import Event, Item, Signal
from onhand.contracts.shapes import RECORDS, Kind
from onhand.steps import STEP_RECORDS, Steps

__all__ = ["STANDARD", "Gate"]

R = TypeVar("R", Event, Item, Signal)

_CHECKS: Final[dict[Kind, Callable[..., Fault | None]]] = {
    "events": check_event,
    "items": check_item,
    "signals": check_signal,
}
_NUMBERS: Final = {
    int: re.compile(r"-?[0-9]{1,15}", re.ASCII),
    float: re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII),
}
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_TYPES: Final = {
    "string": str,
    "integer": (int, float),
    "number": (int, float),
    "boolean": bool,
    "time": (int, float, str),
}


class Gate(Generic[R]):
    """One version of a contract, ready to judge records.

    `reshapes` says that objects must go through `read`; otherwise they may be decoded straight
    into `record` and given to `check`, but for events of the types in `own`.
    """

    def __init__(self, contract: Contract, own: "Mapping[str, Gate[Event]]" = _NOTHING) -> None:
        known = standard(contract.kind).fields
        self.contract = contract
        self.label = contract.label
        self.own = own
        self.record = cast("type[R]", RECORDS[contract.kind])
        self.one: msgspec.json.Decoder[R] = msgspec.json.Decoder(self.record)
        self.many: msgspec.json.Decoder[list[R]] = msgspec.json.Decoder(list[self.record])
        self._flaws = flaws_of(self.record)
        self._check = _CHECKS[contract.kind]
        self._rules = Rules.of(contract)
        self._added = {name: f for name, f in contract.fields.items() if name not in known}
        self._aliases = {a: name for name, f in contract.fields.items() for a in f.aliases}
        self._defaults = {
            name: field.default
            for name, field in contract.fields.items()
            if field.default is not None
        }
        self._numbers = {
            name: int if field.type == "integer" else float
            for name, field in contract.fields.items()
            if field.from_text
        }
        self._dropped = [name for name in known if name not in contract.fields]
        self._strict = contract.unknown_fields == "reject"
        self.reshapes = bool(
            self._added or self._aliases or self._defaults or self._numbers or self._dropped
        ) or (self._strict)

    def judge(self, fault: Fault) -> Contract:
        """Return the contract that a fault is about."""
        return self.contract if fault.contract is None else self.own[fault.contract].contract

    def is_own(self, record: R) -> bool:
        """Whether a record is judged by another contract than that of its kind."""
        return bool(self.own) and type(record) is Event and record.type in self.own

    def check(self, record: R, now_ms: int) -> Fault | None:
        """Check a typed record and normalise its times in place; None when it may be logged."""
        if self.is_own(record):
            event = cast("Event", record)
            return _named(event.type, self.own[event.type].check(event, now_ms))
        fault = self._check(record, now_ms, self._rules)
        if fault is None and self._added:
            attributes: Any = getattr(record, "attributes", None)
            return self._check_added(attributes if isinstance(attributes, dict) else {}, now_ms)
        return fault

    def find_faults(
        self, records: list[R], now_ms: int, printable: bool, read_again: Callable[[int], Any]
    ) -> Steps[dict[int, Fault]]:
        """Check typed records as `check` does, and return the faults by their places.

        `printable` says that all text of the records is. One with a contract of its own is read
        again from what was sent, by that contract, and replaced in place.
        """
        suspects: Sequence[int] = range(len(records))
        if self.record is Event:
            events = cast("Sequence[Event]", records)
            suspects = find_suspects(events, now_ms, self._rules, printable)
        faults: dict[int, Fault] = {}
        check, rules, own = self._check, self._rules, bool(self.own)
        for count, index in enumerate(suspects, 1):
            if count % STEP_RECORDS == 0:
                yield
            if own and self.is_own(records[index]):
                outcome = read_again(index)
                if type(outcome) is Fault:
                    faults[index] = outcome
                else:
                    records[index] = outcome
            elif (fault := check(records[index], now_ms, rules)) is not None:
                faults[index] = fault
        return faults

    def read(self, value: Any, now_ms: int, patience: Patience | None = None) -> R | Fault:
        """Turn a decoded object into a record that may be logged, or say why it cannot be, in
        full as long as the patience lasts."""
        outcome = next(self.read_each((value,), now_ms, patience))
        assert not isinstance(outcome, list)
        return outcome

    def read_each(
        self, values: Iterable[Any], now_ms: int, patience: Patience | None = None
    ) -> Iterator[R | Fault | list[R | Fault]]:
        """Read many objects as `read` does; a tuple of them gives a list. What is a record or a
        fault already passes.

        One loop, because each function that catches an exception makes a frame for it: that
        doubled the time of a bad record.
        """
        find_flaw, record, check, rules = self._flaws.find, self.record, self._check, self._rules
        for value in values:
            if type(value) is tuple:
                yield [cast("R | Fault", each) for each in self.read_each(value, now_ms, patience)]
                continue
            if type(value) is Fault or type(value) is record:
                yield value
                continue
            if type(value) is dict and (self.own or self.reshapes):
                value, outcome = self._prepare(cast("dict[str, Any]", value), now_ms, patience)
                if outcome is not None:
                    yield outcome
                    continue
            flaw = find_flaw(value)
            if flaw is None:
                try:
                    found = msgspec.convert(value, record)
                except msgspec.ValidationError as error:
                    flaw = str(error)
                else:
                    yield check(found, now_ms, rules) or found
                    continue
            if patience is not None and not patience.left:
                yield brief(flaw)
            else:
                yield explain_object(flaw, value, patience)

    def _prepare(
        self, value: dict[str, Any], now_ms: int, patience: Patience | None
    ) -> tuple[dict[str, Any], R | Fault | None]:
        """Return an object under the engine's names, or what became of it already."""
        if self.own:
            name, renamed = self._find_own(value)
            if name:
                outcome = self.own[name].read(renamed, now_ms, patience)
                return value, cast("R | Fault", _named(name, outcome))
        return self._reshape(value, now_ms) if self.reshapes else (value, None)

    def _find_own(self, sent: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return the type of an object that has a contract of its own, under whatever name this
        contract lets it come, and the object with that under `type`; else an empty name."""
        for name in ("type", *self.contract.fields["type"].aliases):
            found = sent.get(name)
            if isinstance(found, str) and found in self.own:
                return found, {("type" if n == name else n): each for n, each in sent.items()}
        return "", sent

    def _reshape(self, sent: dict[str, Any], now_ms: int) -> tuple[dict[str, Any], Fault | None]:
        """Return the object under the engine's names, with numbers for text and defaults."""
        value = {self._aliases.get(name, name): each for name, each in sent.items()}
        for name in self._dropped:
            value.pop(name, None)
        if self._strict:
            for name in value:
                if name not in self.contract.fields and name != "kind":
                    known = ", ".join(self.contract.fields)
                    return value, Fault(
                        "unknown_field", f"There is no field {name[:60]!r}; known are {known}.",
                        name[:60],
                    )  # fmt: skip
        for name, default in self._defaults.items():
            value.setdefault(name, default)
        for name, number in self._numbers.items():
            if isinstance(value.get(name), str):
                if not _NUMBERS[number].fullmatch(value[name]):
                    return value, Fault(
                        "wrong_type", f"`{name}` {value[name][:60]!r} is not a number.", name
                    )
                value[name] = number(value[name])
        if self._added and isinstance(value.get("attributes", {}), dict | None):
            moved = {name: value.pop(name) for name in self._added if name in value}
            attributes = {**(value.get("attributes") or {}), **moved}
            fault = self._check_added(attributes, now_ms)
            if attributes:
                value["attributes"] = attributes
            return value, fault
        return value, None

    def _check_added(self, attributes: dict[str, Any], now_ms: int) -> Fault | None:
        """Check the fields that the contract adds, among the attributes, and normalise times."""
        for name, field in self._added.items():
            value = attributes.get(name)
            if value is None:
                if field.required:
                    return Fault("missing_field", f"The contract asks for `{name}`.", name)
                attributes.pop(name, None)
                continue
            fault = _check_value(name, value, field)
            if fault is None and field.type == "time":
                moment = read_moment(name, value, now_ms, field.units)
                if isinstance(moment, Fault):
                    return moment
                attributes[name] = moment
            if fault is not None:
                return fault
        return None


def _named(name: str, outcome: Any) -> Any:
    """The outcome of another contract's judgement; a fault says which one that was."""
    return outcome._replace(contract=name) if type(outcome) is Fault else outcome


def _check_value(name: str, value: Any, field: Field) -> Fault | None:
    expected = _TYPES[field.type]
    if (
        not isinstance(value, expected)
        or (expected is not bool and isinstance(value, bool))
        or (field.type == "integer" and value % 1 != 0)
    ):
        found = type(value).__name__
        return Fault("wrong_type", f"`{name}`: expected {field.type}, got `{found}`.", name)
    if isinstance(value, str):
        if len(value) > (field.max_length or MOST_LETTERS):
            most = field.max_length or MOST_LETTERS
            return Fault("length", f"`{name}` is over {most} characters.", name)
        if field.shape is not None and not SHAPES[field.shape].fullmatch(value):
            return Fault("id_shape", f"`{name}` {value[:60]!r} is not {field.shape}.", name)
    elif not (
        (field.minimum is None or value >= field.minimum)
        and (field.maximum is None or value <= field.maximum)
    ):
        return Fault("range", f"`{name}` is {value}, out of the contract's range.", name)
    return None


STANDARD: Final[dict[Kind, "Gate[Any]"]] = {kind: Gate(standard(kind)) for kind in RECORDS}
