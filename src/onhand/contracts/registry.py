"""The registry: every version of every contract, as the control records of the log say.

A schema id, which the Confluent wire format puts before each record, follows from contract,
version and format, and for an app's own event types from the order in which the log has them: so
it is the same on every server of a log and after every restart.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec

from onhand.contracts.contract import (
    KINDS,
    MOST_VERSIONS,
    Contract,
    Draft,
    declare,
    follow,
    standard,
    succeed,
)
from onhand.contracts.errors import Invalid, Unknown
from onhand.contracts.gate import STANDARD, Gate
from onhand.contracts.records import Body, Control, Event, Signal
from onhand.contracts.shapes import Kind

__all__ = ["FORMATS", "Format", "Registry", "SchemaId", "control_of", "is_contract"]

Format = Literal["avro", "protobuf", "json"]
FORMATS: Final[tuple[Format, ...]] = ("avro", "protobuf", "json")
_PREFIX: Final = "contract:"
_FIRST_OWN: Final = 100_001
"""Schema ids from here on are those of event types of the app's own."""
_MOST_OWN: Final = 256


class SchemaId(NamedTuple):
    """What a schema id stands for."""

    name: str
    version: int
    format: Format


class Registry:
    """All contracts as of one offset of the log."""

    def __init__(self, controls: Mapping[str, Body] | None = None) -> None:
        self._versions: dict[str, list[Contract]] = {kind: [standard(kind)] for kind in KINDS}
        registered = [
            msgspec.convert(body, Contract)
            for name, body in (controls or {}).items()
            if is_contract(name)
        ]
        for contract in sorted(registered, key=lambda each: each.version):
            self._versions.setdefault(contract.name, []).append(contract)
        self._own = tuple(name for name in self._versions if name not in KINDS)
        own = {name: Gate[Event](self._versions[name][-1]) for name in self._own}
        self._gates: dict[Kind, Gate[Any]] = {
            kind: Gate(versions[-1], own if kind == "events" else {})
            if len(versions := self._versions[kind]) > 1 or own
            else STANDARD[kind]
            for kind in KINDS
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all contracts: the kinds of records, and the app's own event types."""
        return (*KINDS, *self._own)

    def gate(self, kind: Kind) -> Gate[Any]:
        """Return the latest contract of a kind, compiled."""
        return self._gates[kind]

    def judging(self, record: Event | Signal) -> Contract:
        """Return the contract that a typed record is judged by."""
        if isinstance(record, Signal):
            return self._gates["signals"].contract
        gate = self._gates["events"]
        return gate.own.get(record.type, gate).contract

    def versions(self, name: str) -> list[Contract]:
        """Return all versions of a contract, the oldest first. Raises `Unknown`."""
        if name not in self._versions:
            known = ", ".join(self.names)
            raise Unknown("unknown_contract", f"There is no contract {name[:60]!r}, only {known}.")
        return list(self._versions[name])

    def version(self, name: str, version: int | None = None) -> Contract:
        """Return one version of a contract, the latest if not said which. Raises `Unknown`."""
        versions = self.versions(name)
        if version is None:
            return versions[-1]
        if not 1 <= version <= len(versions):
            raise Unknown(
                "unknown_version",
                f"There is no version {version} of contract {name!r}; the latest is "
                f"{len(versions)}.",
            )
        return versions[version - 1]

    def number(self, name: str, version: int, format_: Format) -> int:
        """Return the schema id of a version in a format; the first is 1."""
        place = FORMATS.index(format_)
        if name in KINDS:
            return ((version - 1) * len(KINDS) + KINDS.index(name)) * len(FORMATS) + place + 1
        row = self._own.index(name) * MOST_VERSIONS + version - 1
        return _FIRST_OWN + row * len(FORMATS) + place

    def schema(self, number: int) -> tuple[SchemaId, Contract]:
        """Return what a schema id stands for, and its contract. Raises `Unknown`."""
        own = number >= _FIRST_OWN
        row, place = divmod(number - (_FIRST_OWN if own else 1), len(FORMATS))
        if own:
            index, version = divmod(row, MOST_VERSIONS)
            names: tuple[str, ...] = self._own
        else:
            version, index = divmod(row, len(KINDS))
            names = KINDS
        if number < 1 or index >= len(names) or version >= len(self._versions[names[index]]):
            raise Unknown("unknown_schema", f"There is no schema {number}.")
        found = SchemaId(names[index], version + 1, FORMATS[place])
        return found, self._versions[found.name][version]

    def framed(self, number: int, kind: Kind, format_: Format) -> Contract:
        """Return the contract by which a record in the Confluent wire format was written, whose
        schema must be of this kind and format. Raises `Invalid`."""
        try:
            found, contract = self.schema(number)
        except Unknown as error:
            raise Invalid("wrong_schema", error.message) from None
        if contract.kind != kind or found.format != format_:
            raise Invalid(
                "wrong_schema",
                f"Schema {number} is {found.format} for {found.name}; this takes {format_} for "
                f"{kind}.",
            )
        return contract

    def next_version(self, name: str) -> int:
        """Return which version of a contract comes next."""
        return len(self._versions.get(name, ())) + 1

    def draft(self, name: str, draft: Draft) -> Contract:
        """Return the next version with the draft's changes; nothing is registered.

        Raises `Unknown`, `Invalid` or `Incompatible`.
        """
        return succeed(self.versions(name), draft)

    def declare(self, name: str, draft: Draft) -> Contract | None:
        """Return the contract to register for an event type as an app declares it; None where
        some version says the same, and the latest holds: so an older app can be started again.

        Raises `Invalid` or `Incompatible`.
        """
        first = declare(name, draft)
        versions = self._versions.get(name)
        if versions is None:
            if len(self._own) >= _MOST_OWN:
                raise Invalid("contract", f"`{name}` is one event type more than {_MOST_OWN}.")
            return first
        if any(msgspec.structs.replace(each, version=1) == first for each in versions):
            return None
        return follow(versions, first)


def control_of(contract: Contract) -> Control:
    """Return the control record that registers a contract."""
    return Control(_PREFIX + contract.label, msgspec.to_builtins(contract))


def is_contract(name: str) -> bool:
    """Whether a control record of this name is a contract."""
    return name.startswith(_PREFIX)
