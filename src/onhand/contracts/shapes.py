"""The shape of a record type, read from its struct: the one source of every schema.

JSON Schema, Avro, Protobuf and the contracts all derive from these members, so they cannot
disagree with what the server checks.
"""

from functools import cache
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import NODEFAULT, Struct, inspect

from onhand.contracts.records import Event, Item, Signal

__all__ = ["RECORDS", "FieldType", "Kind", "Member", "members_of"]

Kind = Literal["events", "items", "signals"]
FieldType = Literal[
    "string", "integer", "number", "boolean", "time", "strings", "attributes", "object"
]

RECORDS: dict[Kind, type[Event] | type[Item] | type[Signal]] = {
    "events": Event,
    "items": Item,
    "signals": Signal,
}


class Member(NamedTuple):
    """One field of a record type.

    `tells_absence`: that it is left out means something else than any value, an empty list
    included. `takes_null`: null in turn means something else than leaving it out. `members` are
    those of a nested object.
    """

    name: str
    type: FieldType
    required: bool
    tells_absence: bool
    takes_null: bool
    minimum: float | None = None
    maximum: float | None = None
    max_length: int | None = None
    members: tuple["Member", ...] = ()


@cache
def members_of(record: type[Struct]) -> tuple[Member, ...]:
    """Return the fields of a record type, in the order of its definition."""
    info = inspect.type_info(record)
    assert isinstance(info, inspect.StructType)
    return tuple(_member(field) for field in info.fields)


def _member(field: inspect.Field) -> Member:
    options = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
    values = [each for each in options if not isinstance(each, inspect.NoneType)]
    has_default = field.default is not NODEFAULT or field.default_factory is not NODEFAULT
    unset = not field.required and not has_default
    kind = _type(values)
    limits: Any = values[0]
    return Member(
        field.name,
        kind,
        field.required,
        unset or field.default is None,
        unset and len(values) < len(options),
        getattr(limits, "ge", None) if kind in ("integer", "number") else None,
        getattr(limits, "le", None) if kind in ("integer", "number") else None,
        getattr(limits, "max_length", None),
        members_of(limits.cls) if kind == "object" else (),
    )


def _type(values: list[msgspec.inspect.Type]) -> FieldType:
    first = values[0]
    if len(values) == 2 and isinstance(first, inspect.IntType):
        return "time"
    for kind, name in _NAMES.items():
        if isinstance(first, kind):
            return name
    raise TypeError(f"{first} has no place in a record")


_NAMES: dict[type, FieldType] = {
    inspect.StrType: "string",
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.BoolType: "boolean",
    inspect.ListType: "strings",
    inspect.DictType: "attributes",
    inspect.StructType: "object",
}
