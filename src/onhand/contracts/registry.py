"""The registry: every version of every contract, as the control records of the log say.

A schema id, which the Confluent wire format puts before each record, follows from contract,
version and format, so it is the same on every server and after every restart.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec

from onhand.contracts.contract import KINDS, Contract, Draft, standard, succeed
from onhand.contracts.errors import Invalid, Unknown
from onhand.contracts.gate import STANDARD, Gate
from onhand.contracts.records import Body, Control
from onhand.contracts.shapes import Kind

__all__ = ["FORMATS", "Format", "Registry", "SchemaId", "control_of", "is_contract"]

Format = Literal["avro", "protobuf", "json"]
FORMATS: Final[tuple[Format, ...]] = ("avro", "protobuf", "json")
_PREFIX: Final = "contract:"
_A_VERSION: Final = len(KINDS) * len(FORMATS)


class SchemaId(NamedTuple):
    """What a schema id stands for."""

    kind: Kind
    version: int
    format: Format

    @property
    def number(self) -> int:
        """The id; the first is 1."""
        place = KINDS.index(self.kind) * len(FORMATS) + FORMATS.index(self.format)
        return (self.version - 1) * _A_VERSION + place + 1

    @classmethod
    def of(cls, number: int) -> "SchemaId":
        """Return what `number`, at least 1, stands for."""
        version, place = divmod(number - 1, _A_VERSION)
        kind, format_ = divmod(place, len(FORMATS))
        return cls(KINDS[kind], version + 1, FORMATS[format_])


class Registry:
    """All contracts as of one offset of the log."""

    def __init__(self, controls: Mapping[str, Body] | None = None) -> None:
        self._versions: dict[Kind, list[Contract]] = {kind: [standard(kind)] for kind in KINDS}
        registered = [
            msgspec.convert(body, Contract)
            for name, body in (controls or {}).items()
            if is_contract(name)
        ]
        for contract in sorted(registered, key=lambda each: each.version):
            self._versions[contract.name].append(contract)
        self._gates: dict[Kind, Gate[Any]] = {
            kind: Gate(versions[-1]) if len(versions) > 1 else STANDARD[kind]
            for kind, versions in self._versions.items()
        }

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of records."""
        return KINDS

    def gate(self, kind: Kind) -> Gate[Any]:
        """Return the latest contract of a kind, compiled."""
        return self._gates[kind]

    def versions(self, kind: str) -> list[Contract]:
        """Return all versions of a contract, the oldest first. Raises `Unknown`."""
        if kind not in KINDS:
            known = ", ".join(KINDS)
            raise Unknown("unknown_contract", f"There is no contract {kind[:60]!r}, only {known}.")
        return list(self._versions[kind])

    def version(self, kind: str, version: int | None = None) -> Contract:
        """Return one version of a contract, the latest if not said which. Raises `Unknown`."""
        versions = self.versions(kind)
        if version is None:
            return versions[-1]
        if not 1 <= version <= len(versions):
            raise Unknown(
                "unknown_version",
                f"There is no version {version} of contract {kind!r}; the latest is "
                f"{len(versions)}.",
            )
        return versions[version - 1]

    def schema(self, number: int) -> tuple[SchemaId, Contract]:
        """Return what a schema id stands for, and its contract. Raises `Unknown`."""
        if not 1 <= number < 2**31:
            raise Unknown("unknown_schema", f"There is no schema {number}; ids begin at 1.")
        found = SchemaId.of(number)
        if found.version > len(self._versions[found.kind]):
            raise Unknown("unknown_schema", f"There is no schema {number}.")
        return found, self._versions[found.kind][found.version - 1]

    def framed(self, number: int, kind: Kind, format_: Format) -> Contract:
        """Return the contract by which a record in the Confluent wire format was written, whose
        schema must be of this kind and format. Raises `Invalid`."""
        try:
            found, contract = self.schema(number)
        except Unknown as error:
            raise Invalid("wrong_schema", error.message) from None
        if found.kind != kind or found.format != format_:
            raise Invalid(
                "wrong_schema",
                f"Schema {number} is {found.format} for {found.kind}; this takes {format_} for "
                f"{kind}.",
            )
        return contract

    def draft(self, kind: str, draft: Draft) -> Contract:
        """Return the next version with the draft's changes; nothing is registered.

        Raises `Unknown`, `Invalid` or `Incompatible`.
        """
        return succeed(self.versions(kind), draft)


def control_of(contract: Contract) -> Control:
    """Return the control record that registers a contract."""
    return Control(_PREFIX + contract.label, msgspec.to_builtins(contract))


def is_contract(name: str) -> bool:
    """Whether a control record of this name is a contract."""
    return name.startswith(_PREFIX)
