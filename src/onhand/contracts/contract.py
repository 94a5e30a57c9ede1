"""Contracts: what records of each kind must look like, version by version.

Version 1 of each kind is the standard one, read from the struct. A later version is registered as
a draft of what changes; it is a control record in the log like any other decision about the
engine, so a restart knows the same contracts. An event type that an app declares has a contract
of its own: that of events with the declaration's changes, and its versions go the same way.

A contract can widen what a producer may send (another time unit, a number sent as text, another
name of a field, a default), add fields, and narrow within the hard limits of the engine. Whether
a version may follow those before it is `find_breaks`'s to say.
"""

import re
from functools import cache
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from onhand.contracts.errors import Invalid
from onhand.contracts.ga4 import EVENT_NAMES
from onhand.contracts.records import EVENT_TYPES, Currency, Word
from onhand.contracts.shapes import RECORDS, FieldType, Kind, Member, members_of

__all__ = [
    "KINDS",
    "UNITS",
    "Break",
    "Contract",
    "Draft",
    "Field",
    "Incompatible",
    "Unit",
    "declare",
    "find_breaks",
    "follow",
    "standard",
    "succeed",
]

Unit = Literal["seconds", "milliseconds", "microseconds", "nanoseconds"]
IdShape = Literal["digits", "word", "uuid"]
KINDS: Final[tuple[Kind, ...]] = tuple(RECORDS)
UNITS: Final[tuple[Unit, ...]] = ("seconds", "milliseconds", "microseconds", "nanoseconds")
ADDED_TYPES: Final = ("string", "integer", "number", "boolean", "time")
"""Types of a field that a contract adds; its values are kept in `attributes`."""
MOST_LETTERS: Final = 1_024
"""The longest text that such a field may hold."""
MOST_VERSIONS: Final = 1_000

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_WIDER: Final = {("integer", "number")}


class Field(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One field of a contract.

    `units` are those in which a time may come as a number, told apart by range; `unit` says what
    any other number counts (`EUR`, `kg`). `from_text` reads a number that was sent as text.
    `default` stands for a field that was left out, and `aliases` are other names it may come
    under.
    """

    type: FieldType
    required: bool = False
    units: tuple[Unit, ...] = ()
    unit: Word | None = None
    minimum: float | None = None
    maximum: float | None = None
    max_length: Annotated[int, Meta(ge=1)] | None = None
    shape: IdShape | None = None
    from_text: bool = False
    default: str | float | bool | None = None
    aliases: Annotated[tuple[Word, ...], Meta(max_length=8)] = ()


class Policies(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What is not about the shape of one record, and may change freely between versions."""

    compatibility: Literal["backward_transitive", "none"] = "backward_transitive"
    unknown_fields: Literal["ignore", "reject"] = "ignore"
    unknown_item: Literal["accept", "reject"] = "accept"
    currency: Currency | None = None
    clock_skew_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 5 * 60 * 1000
    lateness_ms: Annotated[int, Meta(ge=0, le=7 * 86_400_000)] = 0
    late: Literal["keep", "reject"] = "keep"


class Contract(Policies, frozen=True, omit_defaults=True, kw_only=True):
    """One version of the contract of one kind of record, or of an event type of the app's own."""

    name: Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,63}$")]
    version: Annotated[int, Meta(ge=1, le=MOST_VERSIONS)] = 1
    fields: dict[str, Field]

    @property
    def label(self) -> str:
        """The name and version as people write them: `events@2`."""
        return f"{self.name}@{self.version}"

    @property
    def kind(self) -> Kind:
        """The kind of the records it is about."""
        return self.name if self.name in RECORDS else "events"

    @property
    def record_name(self) -> str:
        """What a record is called in schemas: `Event`, `Item`, `WishlistAddEvent`."""
        if self.name in RECORDS:
            return RECORDS[self.kind].__name__
        return "".join(word.capitalize() for word in self.name.split("_")) + "Event"


class Draft(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What changes in the next version. A field that is named is replaced, null takes it away;
    what is not named stays."""

    fields: Annotated[dict[str, Field | None], Meta(max_length=64)] = {}
    compatibility: Literal["backward_transitive", "none"] | UnsetType = UNSET
    unknown_fields: Literal["ignore", "reject"] | UnsetType = UNSET
    unknown_item: Literal["accept", "reject"] | UnsetType = UNSET
    currency: Currency | None | UnsetType = UNSET
    clock_skew_ms: Annotated[int, Meta(ge=0, le=86_400_000)] | UnsetType = UNSET
    lateness_ms: Annotated[int, Meta(ge=0, le=7 * 86_400_000)] | UnsetType = UNSET
    late: Literal["keep", "reject"] | UnsetType = UNSET


class Break(Struct, frozen=True):
    """Why records that were good under `version` would not be any more."""

    field: str
    version: int
    reason: str


class Incompatible(Invalid):
    """A new version would refuse what an older one took."""

    status = 409

    def __init__(self, name: str, breaks: list[Break]) -> None:
        first = breaks[0]
        super().__init__(
            "incompatible",
            f"Contract {name}, `{first.field}`: {first.reason}, which version {first.version} "
            'allowed. Widen it, or set `compatibility` to "none" if no producer still sends that.',
        )
        self.breaks = breaks


@cache
def standard(name: Kind) -> Contract:
    """Return version 1 of a contract: what the struct says."""
    return Contract(
        name=name, fields={each.name: _field(each) for each in members_of(RECORDS[name])}
    )


def succeed(versions: list[Contract], draft: Draft) -> Contract:
    """Return the version that follows `versions` with the draft's changes.

    Raises `Invalid` where the engine cannot keep it, `Incompatible` where it breaks an older one.
    """
    return follow(versions, _change(versions[-1], draft))


def declare(name: str, draft: Draft) -> Contract:
    """Return version 1 of the contract of an event type of an app's own. Raises `Invalid`."""
    if not _NAME.fullmatch(name) or name in RECORDS:
        raise _refused(name[:80], "is no name of an event type: lower-case letters, digits and "
                       "underscores")  # fmt: skip
    if name in EVENT_TYPES or name in EVENT_NAMES:
        raise _refused(name, "is a standard event type; its contract is `events`")
    return _change(msgspec.structs.replace(standard("events"), name=name), draft)


def follow(versions: list[Contract], contract: Contract) -> Contract:
    """Return `contract` as the version that follows `versions`. Raises `Incompatible`."""
    if len(versions) >= MOST_VERSIONS:
        raise _refused(contract.name, f"has {MOST_VERSIONS} versions, and may not have more")
    contract = msgspec.structs.replace(contract, version=versions[-1].version + 1)
    if contract.compatibility == "backward_transitive":
        breaks = [found for old in versions for found in find_breaks(old, contract)]
        if breaks:
            raise Incompatible(contract.name, breaks)
    return contract


def _change(base: Contract, draft: Draft) -> Contract:
    """Return `base` with the draft's changes. Raises `Invalid` where the engine cannot keep it."""
    fields = dict(base.fields)
    for name, field in draft.fields.items():
        if field is None:
            fields.pop(name, None)
        else:
            fields[name] = _checked(base.kind, name, field)
    changes: dict[str, Any] = {
        name: value
        for name in Policies.__struct_fields__
        if (value := getattr(draft, name)) is not UNSET
    }
    contract = msgspec.structs.replace(base, fields=fields, **changes)
    _check_whole(contract)
    return contract


def find_breaks(old: Contract, new: Contract) -> list[Break]:
    """Return why `new` could not read what was good under `old`; empty when it can."""
    found: list[Break] = []
    for name, field in new.fields.items():
        before = old.fields.get(name)
        reasons = _new_field(field) if before is None else _changed_field(before, field)
        found += [Break(name, old.version, reason) for reason in reasons]
    if new.unknown_fields == "reject":
        if old.unknown_fields == "ignore":
            found.append(Break("unknown_fields", old.version, "fields without a name are refused"))
        gone = [name for name in old.fields if name not in new.fields]
        found += [Break(name, old.version, "the field is gone, and so is refused") for name in gone]
    return found


def _new_field(field: Field) -> list[str]:
    if field.required and field.default is None:
        return ["a new field is required and has no default"]
    return []


def _changed_field(old: Field, new: Field) -> list[str]:
    reasons: list[str] = []
    if old.type != new.type and (old.type, new.type) not in _WIDER:
        reasons.append(f"{new.type} takes the place of {old.type}")
    if new.required and not old.required and new.default is None:
        reasons.append("it becomes required and has no default")
    if old.default is not None and new.default is None and old.required:
        reasons.append("its default is taken away")
    if _is_below(old.minimum, new.minimum):
        reasons.append(f"its least value rises to {new.minimum:g}")
    if _is_below(new.maximum, old.maximum, absent=float("inf")):
        reasons.append(f"its greatest value falls to {new.maximum:g}")
    if _is_below(new.max_length, old.max_length, absent=float("inf")):
        reasons.append(f"its greatest length falls to {new.max_length}")
    if new.shape is not None and new.shape != old.shape:
        reasons.append(f"it must be {new.shape} now")
    lost = [unit for unit in old.units if unit not in new.units]
    reasons += [f"{unit} are not taken any more" for unit in lost]
    if old.unit is not None and new.unit != old.unit:
        reasons.append(f"its unit is {new.unit or 'not said'} in place of {old.unit}")
    if old.from_text and not new.from_text:
        reasons.append("numbers as text are not taken any more")
    reasons += [
        f"the name {alias!r} is not taken any more"
        for alias in old.aliases
        if alias not in new.aliases
    ]
    return reasons


def _is_below(low: float | None, high: float | None, absent: float = float("-inf")) -> bool:
    """Whether a bound `low` lies below a bound `high`, none being no bound."""
    return (absent if low is None else low) < (absent if high is None else high)


def _field(member: Member) -> Field:
    return Field(
        member.type,
        required=member.required,
        units=("milliseconds",) if member.type == "time" else (),
        minimum=member.minimum,
        maximum=member.maximum,
        max_length=member.max_length,
    )


def _checked(kind: Kind, name: str, field: Field) -> Field:
    """Return a draft's field with the engine's limits where it names none. Raises `Invalid`."""
    known = standard(kind).fields.get(name)
    if known is None:
        return _checked_added(kind, name, field)
    if field.type != known.type:
        raise _refused(name, f"has type {known.type} in the engine, not {field.type}")
    if field.units and field.type != "time":
        raise _refused(name, "is no time, and so has no units")
    if field.from_text and field.type not in ("integer", "number"):
        raise _refused(name, "is no number, which `from_text` is for")
    if field.shape is not None and field.type != "string":
        raise _refused(name, "is no string, which `shape` is for")
    if known.required and not field.required and field.default is None:
        raise _refused(name, "is what a record cannot do without; leave it required")
    for bound in ("maximum", "max_length"):
        if _is_below(getattr(known, bound), getattr(field, bound) or 0.0, float("inf")):
            raise _refused(name, f"has a {bound} of {getattr(known, bound):g} in the engine")
    if field.minimum is not None and _is_below(field.minimum, known.minimum):
        raise _refused(name, f"has a minimum of {known.minimum:g} in the engine")
    return msgspec.structs.replace(
        field,
        units=field.units or known.units,
        minimum=known.minimum if field.minimum is None else field.minimum,
        maximum=known.maximum if field.maximum is None else field.maximum,
        max_length=field.max_length or known.max_length,
    )


def _checked_added(kind: Kind, name: str, field: Field) -> Field:
    if "attributes" not in standard(kind).fields:
        raise _refused(name, f"cannot be added: {kind} have no place for more")
    if not _NAME.fullmatch(name) or name == "kind":
        raise _refused(name[:80], "is no name: lower-case letters, digits and underscores")
    if field.type not in ADDED_TYPES:
        raise _refused(name, f"is {field.type}; a field that is added is a string, a number, an "
                       "integer, a boolean or a time")  # fmt: skip
    if field.units and field.type != "time":
        raise _refused(name, "is no time, and so has no units")
    if (field.max_length or 0) > MOST_LETTERS:
        raise _refused(name, f"has a max_length of {MOST_LETTERS} in the engine")
    if field.type == "time" and not field.units:
        return msgspec.structs.replace(field, units=("milliseconds",))
    return field


def _check_whole(contract: Contract) -> None:
    for name, field in standard(contract.kind).fields.items():
        if field.required and name not in contract.fields:
            raise _refused(name, "is what a record cannot do without")
    names = list(contract.fields)
    for field in contract.fields.values():
        names += field.aliases
    double = {name for name in names if names.count(name) > 1}
    if double:
        raise _refused(min(double), "stands for two fields")
    if contract.name != "events" and contract.lateness_ms:
        raise _refused("lateness_ms", "is for events; nothing else has a time to be late by")


def _refused(field: str, reason: str) -> Invalid:
    return Invalid("contract", f"`{field}` {reason}.")
