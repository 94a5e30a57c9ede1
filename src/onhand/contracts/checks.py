"""What a well-typed record must still satisfy: who, what, and when.

The types of `records` hold lengths and ranges. Here are the rules between fields, and the one
field that has several spellings: `time` leaves this module as epoch milliseconds. A time whose
unit is in doubt is refused, never guessed.
"""

import math
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from msgspec import UNSET

from onhand.contracts.contract import Contract, Field, Unit, standard
from onhand.contracts.errors import Fault
from onhand.contracts.ga4 import EVENT_NAMES
from onhand.contracts.records import Attributes, Event, Item, ItemPatch, Record, Signal
from onhand.contracts.shapes import RECORDS, Kind

__all__ = [
    "Fault",
    "SHAPES",
    "Rules",
    "check",
    "check_event",
    "check_item",
    "check_signal",
    "find_suspects",
    "read_moment",
]

CLOCK_SKEW_MS: Final = standard("events").clock_skew_ms
"""How far ahead of this server's clock a record's time may be, if its contract says nothing."""

_YEAR_2000_MS: Final = 946_684_800_000
_YEAR_2200_MS: Final = 7_258_118_400_000
_YEAR_1800_MS: Final = -5_364_662_400_000

_TYPE_SHAPE: Final = re.compile(r"[a-z][a-z0-9_]*")
_NEEDS: Final = {
    "view": "item",
    "click": "item",
    "hover": "item",
    "cart_add": "item",
    "cart_remove": "item",
    "purchase": "item",
    "impression": "item",
    "search": "query",
}


SHAPES: Final = {
    "digits": re.compile(r"[0-9]+", re.ASCII),
    "word": re.compile(r"[A-Za-z0-9_.:-]+", re.ASCII),
    "uuid": re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII),
}

_NEED_ITEM: Final = frozenset(name for name, need in _NEEDS.items() if need == "item")
_MISSING_ITEM: Final = {
    name: Fault("missing_item", f"A `{name}` event needs `item`, the product it is about.", "item")
    for name in _NEED_ITEM
}
_MISSING_QUERY: Final = Fault(
    "missing_query", "A `search` event needs `query`, the words searched for.", "query"
)
_MISSING_VISITOR: Final = Fault(
    "missing_visitor", "An event needs `user`, `session` or both: whose is it?"
)


class Rules(NamedTuple):
    """What a contract asks of a typed record, beyond what its type does.

    `narrowed` are the fields whose values it bounds more closely than the type.
    """

    units: tuple[Unit, ...]
    clock_skew_ms: int
    currency: str | None
    narrowed: tuple[tuple[str, Field], ...]

    @classmethod
    def of(cls, contract: Contract) -> "Rules":
        """Return the rules of a contract."""
        known = standard(contract.kind).fields
        narrowed = [
            (name, field)
            for name, field in contract.fields.items()
            if name in known and _bounds(field) != _bounds(known[name])
        ]
        times = [
            field.units
            for name, field in contract.fields.items()
            if name in known and field.type == "time"
        ]
        return cls(
            times[0] if times else (),
            contract.clock_skew_ms,
            contract.currency,
            tuple(narrowed),
        )


def _bounds(field: Field) -> tuple[object, ...]:
    return field.required, field.minimum, field.maximum, field.max_length, field.shape


_RULES: Final[dict[Kind, Rules]] = {kind: Rules.of(standard(kind)) for kind in RECORDS}


def check(record: Record, now_ms: int) -> Fault | None:
    """Check any record by the standard contracts and normalise its times in place; None when it
    may be logged."""
    if type(record) is Event:
        return check_event(record, now_ms)
    if type(record) is Signal:
        return check_signal(record, now_ms)
    if type(record) is Item or type(record) is ItemPatch:
        return check_item(record, now_ms)
    return None


def check_event(event: Event, now_ms: int, rules: Rules = _RULES["events"]) -> Fault | None:
    """Check one event and set its `time` to epoch milliseconds; the hot path of ingest. A type
    by its GA4 name gets ours."""
    need = _NEEDS.get(event.type)
    if need == "item":
        if event.item is None:
            return _MISSING_ITEM[event.type]
    elif need == "query":
        if not event.query:
            return _MISSING_QUERY
    elif event.type in EVENT_NAMES:
        event.type = EVENT_NAMES[event.type]
        return check_event(event, now_ms, rules)
    elif not _TYPE_SHAPE.fullmatch(event.type):
        return _bad_type(event.type)
    if event.user is None and event.session is None:
        return _MISSING_VISITOR
    if not f"{event.user}{event.session}{event.item}{event.id}".isprintable():
        return _find_unprintable(event)
    value = event.value
    if value is not None and not -1e9 <= value <= 1e9:
        return _not_finite("value", value)
    if event.attributes is not None:
        fault = _check_attributes(event.attributes)
        if fault is not None:
            return fault
    time = event.time
    latest_ms = now_ms + rules.clock_skew_ms
    if time is None:
        event.time = now_ms
    elif type(time) is not int or not _YEAR_2000_MS <= time <= latest_ms:
        moment = _epoch_ms("time", time, _YEAR_2000_MS, latest_ms, now_ms, rules.units)
        if isinstance(moment, Fault):
            return moment
        event.time = moment
    if event.currency is not None or rules.narrowed:
        return _check_narrowed(event, rules)
    return None


def find_suspects(events: Sequence[Event], now_ms: int, rules: Rules, printable: bool) -> list[int]:
    """Return which of many events need a closer look, `check_event`; `printable` says that all
    their text is.

    Most events pass one expression here, in a fifth of the time that all the checks take. Those
    of other types than the standard ones never do.
    """
    suspects: list[int] = []
    latest_ms = now_ms + rules.clock_skew_ms
    if rules.narrowed or not printable:
        latest_ms = 0
    needs_item = _NEED_ITEM
    for index, event in enumerate(events):
        time = event.time
        if (
            type(time) is int
            and _YEAR_2000_MS <= time <= latest_ms
            and event.type in needs_item
            and event.item is not None
            and (event.session is not None or event.user is not None)
            and ((value := event.value) is None or -1e9 <= value <= 1e9)
            and event.currency is None
            and event.attributes is None
        ):
            continue
        suspects.append(index)
    return suspects


def check_signal(
    signal: Signal,
    now_ms: int,  # noqa: ARG001 - all checks alike
    rules: Rules = _RULES["signals"],
) -> Fault | None:
    """Check one signal: it must state something."""
    if not signal.item.isprintable():
        return _unprintable("item", signal.item)
    if (
        signal.stock is UNSET
        and signal.price is UNSET
        and signal.flags is UNSET
        and signal.fulfilment is UNSET
    ):
        return Fault(
            "no_facts",
            "A signal states at least one of `stock`, `price`, `flags`, `fulfilment`; "
            f"the one for item {_short(signal.item)} states none.",
        )
    if isinstance(signal.price, float) and not math.isfinite(signal.price):
        return _not_finite("price", signal.price)
    if signal.fulfilment is not UNSET:
        congestion = signal.fulfilment.congestion
        if congestion is not None and not math.isfinite(congestion):
            return _not_finite("fulfilment.congestion", congestion)
    if signal.currency is not None or rules.narrowed:
        return _check_narrowed(signal, rules)
    return None


def check_item(item: Item | ItemPatch, now_ms: int, rules: Rules = _RULES["items"]) -> Fault | None:
    """Check a catalogue entry or a part of one, and set `created` to epoch milliseconds."""
    if not item.id.isprintable():
        return _unprintable("id", item.id)
    if isinstance(item.price, float) and not math.isfinite(item.price):
        return _not_finite("price", item.price)
    if item.attributes is not UNSET:
        fault = _check_attributes(item.attributes)
        if fault is not None:
            return fault
    if item.created is not None and item.created is not UNSET:
        created = _epoch_ms(
            "created", item.created, _YEAR_1800_MS, _YEAR_2200_MS, now_ms, rules.units
        )
        if isinstance(created, Fault):
            return created
        item.created = created
    if type(item) is Item and (item.currency is not None or rules.narrowed):
        return _check_narrowed(item, rules)
    return None


def _check_attributes(attributes: Attributes) -> Fault | None:
    for name, value in attributes.items():
        if isinstance(value, float) and not math.isfinite(value):
            return _not_finite(f"attributes.{name}", value)
    return None


def _check_narrowed(record: Event | Item | Signal, rules: Rules) -> Fault | None:
    """Check what a contract asks beyond the type; the currency has then been told, and goes."""
    currency = record.currency
    if currency is not None and rules.currency is not None and currency != rules.currency:
        return Fault(
            "currency",
            f"`currency` is {_short(currency)}; the contract's is {rules.currency}. Convert the "
            "prices at the sender.",
            "currency",
        )
    for name, field in rules.narrowed:
        fault = _check_bounds(name, getattr(record, name), field)
        if fault is not None:
            return fault
    record.currency = None
    return None


def _check_bounds(name: str, value: object, field: Field) -> Fault | None:
    if value is None or value is UNSET or value == "":
        if field.required:
            return Fault("missing_field", f"The contract asks for `{name}`.", name)
    elif isinstance(value, str):
        if field.shape is not None and not SHAPES[field.shape].fullmatch(value):
            return Fault("id_shape", f"`{name}` {_short(value)} is not {field.shape}.", name)
        if field.max_length is not None and len(value) > field.max_length:
            return Fault("length", f"`{name}` is over {field.max_length} characters.", name)
    elif isinstance(value, int | float):
        if field.minimum is not None and value < field.minimum:
            return Fault("range", f"`{name}` is {value:g}; at least {field.minimum:g}.", name)
        if field.maximum is not None and value > field.maximum:
            return Fault("range", f"`{name}` is {value:g}; at most {field.maximum:g}.", name)
    return None


def read_moment(
    field: str, value: float | str, now_ms: int, units: tuple[Unit, ...]
) -> int | Fault:
    """Turn the time in a field that a contract adds into epoch milliseconds."""
    if isinstance(value, float):
        if value % 1 != 0:
            return Fault("time_format", f"`{field}` {value} is not a whole number.", field)
        value = int(value)
    return _epoch_ms(field, value, _YEAR_1800_MS, _YEAR_2200_MS, now_ms, units)


def _epoch_ms(
    field: str,
    value: int | str,
    earliest_ms: int,
    latest_ms: int,
    now_ms: int,
    units: tuple[Unit, ...],
) -> int | Fault:
    """Turn a time into epoch milliseconds between the two bounds, or say what is wrong with it.

    A number in another unit than milliseconds is converted where the contract takes that unit.
    """
    if isinstance(value, str):
        moment = _parse_rfc3339(field, value)
        if isinstance(moment, Fault):
            return moment
    else:
        unit = _other_unit(value, now_ms)
        if unit is not None and unit not in units:
            return Fault(
                "time_unit",
                f"`{field}` {value} looks like {unit} since 1970; send milliseconds (13 digits) "
                "or RFC 3339.",
                field,
            )
        moment = value if unit is None else _to_ms(value, unit)
    if moment < earliest_ms:
        return Fault(
            "time_range",
            f"`{field}` {_short(value)} is too long ago; send epoch milliseconds.",
            field,
        )
    if moment > latest_ms:
        ahead_s = (moment - now_ms) // 1000
        return Fault(
            "clock_skew",
            f"`{field}` {_short(value)} is {ahead_s} s ahead of the server; at most "
            f"{(latest_ms - now_ms) // 1000} s are accepted. Check the sender's clock.",
            field,
        )
    return moment


def _parse_rfc3339(field: str, text: str) -> int | Fault:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or len(text) < len("2026-01-01T00:00Z"):
        return Fault(
            "time_format",
            f"`{field}` {_short(text)} is not a time; "
            "send RFC 3339 like 2026-05-01T10:00:00Z, or epoch milliseconds.",
            field,
        )
    if moment.tzinfo is None:
        return Fault(
            "time_zone",
            f"`{field}` {_short(text)} has no zone; end it with Z or an offset like +02:00.",
            field,
        )
    try:
        return int(moment.timestamp() * 1000 + 0.5)
    except (OverflowError, ValueError):
        return Fault("time_range", f"`{field}` {_short(text)} is outside the calendar.", field)


def _to_ms(value: int, unit: Unit) -> int:
    if unit == "seconds":
        return value * 1_000
    return value // (1_000 if unit == "microseconds" else 1_000_000)


def _other_unit(value: int, now_ms: int) -> Unit | None:
    """Name the unit in which `value` is a plausible time, if that is not milliseconds."""
    latest_ms = now_ms + 10 * 365 * 86_400_000
    if _YEAR_2000_MS // 1000 <= value <= latest_ms // 1000:
        return "seconds"
    if _YEAR_2000_MS * 1000 <= value <= latest_ms * 1000:
        return "microseconds"
    if _YEAR_2000_MS * 1_000_000 <= value <= latest_ms * 1_000_000:
        return "nanoseconds"
    return None


def _bad_type(event_type: str) -> Fault:
    return Fault(
        "event_type",
        f"`type` {_short(event_type)} is not a name; use lower-case letters, digits and "
        "underscores, beginning with a letter, like `quick_look`.",
        "type",
    )


def _not_finite(field: str, value: float) -> Fault:
    return Fault("range", f"`{field}` {value} is not a number within the limits.", field)


def _find_unprintable(event: Event) -> Fault:
    for name in ("user", "session", "item", "id"):
        value = getattr(event, name)
        if value is not None and not value.isprintable():
            return _unprintable(name, value)
    raise AssertionError("the ids together are printable if each is")


def _unprintable(field: str, value: str) -> Fault:
    return Fault(
        "id_shape", f"`{field}` {_short(value)} holds a character that cannot be printed.", field
    )


def _short(value: int | str) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
