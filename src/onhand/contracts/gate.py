"""A contract compiled: what turns decoded objects into records that may be logged.

A contract that only narrows is checked on typed records, at full speed. One that renames,
converts, adds or forbids fields first reads each object field by field.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar, cast

import msgspec

from onhand.contracts.checks import Rules, check_event, check_item, check_signal, find_event_faults
from onhand.contracts.contract import Contract, Field, standard
from onhand.contracts.errors import Fault
from onhand.contracts.explain import Patience, explain_object
from onhand.contracts.records import Event, Item, Signal
from onhand.contracts.shapes import RECORDS, Kind

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
_TYPES: Final = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
}


class Gate(Generic[R]):
    """One version of a contract, ready to judge records.

    `reshapes` says that objects must go through `read`; otherwise they may be decoded straight
    into `record` and given to `check`.
    """

    def __init__(self, contract: Contract) -> None:
        known = standard(contract.name).fields
        self.contract = contract
        self.label = contract.label
        self.record = cast("type[R]", RECORDS[contract.name])
        self.one: msgspec.json.Decoder[R] = msgspec.json.Decoder(self.record)
        self.many: msgspec.json.Decoder[list[R]] = msgspec.json.Decoder(list[self.record])
        self._check = _CHECKS[contract.name]
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

    def check(self, record: R, now_ms: int) -> Fault | None:
        """Check a typed record and normalise its times in place; None when it may be logged."""
        return self._check(record, now_ms, self._rules)

    def find_faults(
        self, records: Sequence[R], now_ms: int, printable: bool
    ) -> list[tuple[int, Fault]]:
        """Check typed records as `check` does, and return the faults with their places;
        `printable` says that all text of the records is."""
        if self.record is Event:
            events = cast("Sequence[Event]", records)
            return find_event_faults(events, now_ms, self._rules, printable)
        return [
            (index, fault)
            for index, record in enumerate(records)
            if (fault := self._check(record, now_ms, self._rules)) is not None
        ]

    def read(self, value: Any, now_ms: int, patience: Patience | None = None) -> R | Fault:
        """Turn a decoded object into a record that may be logged, or say why it cannot be, in
        full as long as the patience lasts."""
        if self.reshapes and type(value) is dict:
            value, fault = self._reshape(cast("dict[str, Any]", value))
            if fault is not None:
                return fault
        try:
            record = msgspec.convert(value, self.record)
        except msgspec.ValidationError as error:
            return explain_object(error, value, patience)
        return self._check(record, now_ms, self._rules) or record

    def _reshape(self, sent: dict[str, Any]) -> tuple[dict[str, Any], Fault | None]:
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
        return value, self._move_added(value)

    def _move_added(self, value: dict[str, Any]) -> Fault | None:
        """Check the fields that the contract adds, and put them among the attributes."""
        attributes: dict[str, Any] = {}
        for name, field in self._added.items():
            if value.get(name) is not None:
                fault = _check_added(name, value[name], field)
                if fault is not None:
                    return fault
                attributes[name] = value.pop(name)
            elif field.required:
                return Fault("missing_field", f"The contract asks for `{name}`.", name)
        if attributes:
            given = value.get("attributes")
            value["attributes"] = (given if isinstance(given, dict) else {}) | attributes
        return None


def _check_added(name: str, value: Any, field: Field) -> Fault | None:
    expected = _TYPES[field.type]
    if not isinstance(value, expected) or (expected is not bool and isinstance(value, bool)):
        found = type(value).__name__
        return Fault("wrong_type", f"`{name}`: expected {field.type}, got `{found}`.", name)
    if isinstance(value, str):
        if len(value) > (field.max_length or 1024):
            return Fault("length", f"`{name}` is over {field.max_length or 1024} characters.", name)
    elif not (
        (field.minimum is None or value >= field.minimum)
        and (field.maximum is None or value <= field.maximum)
    ):
        return Fault("range", f"`{name}` is {value}, out of the contract's range.", name)
    return None


STANDARD: Final[dict[Kind, "Gate[Any]"]] = {kind: Gate(standard(kind)) for kind in RECORDS}
