"""What a well-typed record must still satisfy: who, what, and when.

The types of `records` hold lengths and ranges. Here are the rules between fields, and the one
field that has several spellings: `time` leaves this module as epoch milliseconds. A time whose
unit is in doubt is refused, never guessed.
"""

import math
import re
from datetime import datetime
from typing import Final, NamedTuple

from msgspec import UNSET

from onhand.contracts.records import Event, Item, ItemPatch, Record, Signal

__all__ = ["Fault", "check", "check_event", "check_item", "check_signal"]

CLOCK_SKEW_MS: Final = 5 * 60 * 1000
"""How far ahead of this server's clock a record's time may be."""

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


class Fault(NamedTuple):
    """Why a record is refused."""

    code: str
    message: str


def check(record: Record, now_ms: int) -> Fault | None:
    """Check any record and normalise its times in place; None when it may be logged."""
    if type(record) is Event:
        return check_event(record, now_ms)
    if type(record) is Signal:
        return check_signal(record, now_ms)
    if type(record) is Item or type(record) is ItemPatch:
        return check_item(record, now_ms)
    return None


def check_event(event: Event, now_ms: int) -> Fault | None:
    """Check one event and set its `time` to epoch milliseconds; the hot path of ingest."""
    need = _NEEDS.get(event.type)
    if need == "item":
        if event.item is None:
            return _missing_item(event.type)
    elif need == "query":
        if not event.query:
            return Fault("missing_query", "A `search` event needs `query`, the words searched for.")
    elif not _TYPE_SHAPE.fullmatch(event.type):
        return _bad_type(event.type)
    if event.user is None and event.session is None:
        return Fault("missing_visitor", "An event needs `user`, `session` or both: whose is it?")
    value = event.value
    if value is not None and not -1e9 <= value <= 1e9:
        return _not_finite("value", value)
    time = event.time
    if time is None:
        event.time = now_ms
    elif type(time) is not int or not _YEAR_2000_MS <= time <= now_ms + CLOCK_SKEW_MS:
        moment = _epoch_ms("time", time, _YEAR_2000_MS, now_ms + CLOCK_SKEW_MS, now_ms)
        if isinstance(moment, Fault):
            return moment
        event.time = moment
    return None


def check_signal(signal: Signal, now_ms: int) -> Fault | None:  # noqa: ARG001 - all checks alike
    """Check one signal: it must state something."""
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
    return None


def check_item(item: Item | ItemPatch, now_ms: int) -> Fault | None:
    """Check a catalogue entry or a part of one, and set `created` to epoch milliseconds."""
    if isinstance(item.price, float) and not math.isfinite(item.price):
        return _not_finite("price", item.price)
    if item.attributes is not UNSET:
        for name, value in item.attributes.items():
            if isinstance(value, float) and not math.isfinite(value):
                return _not_finite(f"attributes.{name}", value)
    if item.created is not None and item.created is not UNSET:
        created = _epoch_ms("created", item.created, _YEAR_1800_MS, _YEAR_2200_MS, now_ms)
        if isinstance(created, Fault):
            return created
        item.created = created
    return None


def _epoch_ms(
    field: str, value: int | str, earliest_ms: int, latest_ms: int, now_ms: int
) -> int | Fault:
    """Turn a time into epoch milliseconds between the two bounds, or say what is wrong with it."""
    if isinstance(value, str):
        moment = _parse_rfc3339(field, value)
        if isinstance(moment, Fault):
            return moment
    else:
        unit = _other_unit(value, now_ms)
        if unit is not None:
            return Fault(
                "time_unit",
                f"`{field}` {value} looks like {unit} since 1970; send milliseconds (13 digits) "
                "or RFC 3339.",
            )
        moment = value
    if moment < earliest_ms:
        return Fault(
            "time_range", f"`{field}` {_short(value)} is too long ago; send epoch milliseconds."
        )
    if moment > latest_ms:
        ahead_s = (moment - now_ms) // 1000
        return Fault(
            "clock_skew",
            f"`{field}` {_short(value)} is {ahead_s} s ahead of the server; at most "
            f"{CLOCK_SKEW_MS // 1000} s are accepted. Check the sender's clock.",
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
        )
    if moment.tzinfo is None:
        return Fault(
            "time_zone",
            f"`{field}` {_short(text)} has no zone; end it with Z or an offset like +02:00.",
        )
    try:
        return int(moment.timestamp() * 1000 + 0.5)
    except (OverflowError, ValueError):
        return Fault("time_range", f"`{field}` {_short(text)} is outside the calendar.")


def _other_unit(value: int, now_ms: int) -> str | None:
    """Name the unit in which `value` is a plausible time, if that is not milliseconds."""
    latest_ms = now_ms + 10 * 365 * 86_400_000
    if _YEAR_2000_MS // 1000 <= value <= latest_ms // 1000:
        return "seconds"
    if _YEAR_2000_MS * 1000 <= value <= latest_ms * 1000:
        return "microseconds"
    if _YEAR_2000_MS * 1_000_000 <= value <= latest_ms * 1_000_000:
        return "nanoseconds"
    return None


def _missing_item(event_type: str) -> Fault:
    return Fault("missing_item", f"A `{event_type}` event needs `item`, the product it is about.")


def _bad_type(event_type: str) -> Fault:
    return Fault(
        "event_type",
        f"`type` {_short(event_type)} is not a name; use lower-case letters, digits and "
        "underscores, beginning with a letter, like `quick_look`.",
    )


def _not_finite(field: str, value: float) -> Fault:
    return Fault("range", f"`{field}` {value} is not a number within the limits.")


def _short(value: int | str) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
