"""Bodies to records: one object, an array, or one object a line.

The fast path decodes the whole body into typed records in one call. Only when that fails is the
body split, and each part decoded by itself, so that the good ones are kept and each bad one is
named with its index, a code and a sentence. Whatever the bytes, the outcome is records or
`Invalid`.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, NamedTuple, NoReturn, TypeVar

import msgspec

from onhand.contracts.answers import IngestReport
from onhand.contracts.checks import Fault, check_event, check_item, check_signal
from onhand.contracts.errors import Invalid, RecordError
from onhand.contracts.records import Event, Item, ItemPatch, Signal
from onhand.contracts.requests import RecommendRequest

__all__ = [
    "LIMITS",
    "Limits",
    "Parsed",
    "TooLarge",
    "merge",
    "parse_events",
    "parse_item_patch",
    "parse_items",
    "parse_recommend",
    "parse_signals",
]

R = TypeVar("R", Event, Item, Signal)
T = TypeVar("T")

_DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class TooLarge(Invalid):
    """A body or a batch is over its limit; nothing of it was read."""

    status = 413


class Limits(NamedTuple):
    """What one request may hold.

    5,000 events decode, check and fold in about 40 ms: the longest that one request may keep
    the event loop from answering pages.
    """

    body_bytes: int = 16 * 1024 * 1024
    records: int = 5_000
    errors: int = 100


LIMITS: Final = Limits()


class Parsed(NamedTuple, Generic[R]):
    """The good records of a body and their places in it, how many were bad, and why the first of
    those were."""

    records: list[R]
    places: Sequence[int]
    rejected: int
    errors: list[RecordError]


class _Kind(Generic[R]):
    """The decoders and the check of one kind of record."""

    def __init__(self, record: type[R], check: Callable[[R, int], Fault | None]) -> None:
        self.one = msgspec.json.Decoder(record)
        self.many: msgspec.json.Decoder[list[R]] = msgspec.json.Decoder(list[record])
        self.check = check


_EVENTS = _Kind(Event, check_event)
_ITEMS = _Kind(Item, check_item)
_SIGNALS = _Kind(Signal, check_signal)
_PATCH = msgspec.json.Decoder(ItemPatch)
_RECOMMEND = msgspec.json.Decoder(RecommendRequest)
_PARTS = msgspec.json.Decoder(list[msgspec.Raw])
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RECOMMEND_FIELDS: Final = tuple(
    name for name in RecommendRequest.__struct_fields__ if name != "slot"
)


def parse_events(body: bytes, ndjson: bool, now_ms: int, limits: Limits = LIMITS) -> Parsed[Event]:
    """Decode and check events; their times become epoch milliseconds.

    Raises `Invalid` when the body as a whole cannot be read, `TooLarge` when it is over a limit.
    """
    return _parse(_EVENTS, body, ndjson, now_ms, limits)


def parse_items(body: bytes, ndjson: bool, now_ms: int, limits: Limits = LIMITS) -> Parsed[Item]:
    """Decode and check whole catalogue entries; errors as in `parse_events`."""
    return _parse(_ITEMS, body, ndjson, now_ms, limits)


def parse_signals(
    body: bytes, ndjson: bool, now_ms: int, limits: Limits = LIMITS
) -> Parsed[Signal]:
    """Decode and check fast facts; errors as in `parse_events`."""
    return _parse(_SIGNALS, body, ndjson, now_ms, limits)


def parse_item_patch(body: bytes, item: str, now_ms: int) -> ItemPatch:
    """Decode the changed fields of `item`. Raises `Invalid`."""
    fields = _fields(body)
    own = fields.setdefault("id", msgspec.Raw(msgspec.json.encode(item)))
    patch = _decode_fields(_PATCH, fields)
    if patch.id != item:
        raise Invalid("id_mismatch", f"`id` {_short(bytes(own))} is not the item of the path.")
    fault = check_item(patch, now_ms)
    if fault is not None:
        raise Invalid(fault.code, fault.message)
    return patch


def parse_recommend(body: bytes, slot: str) -> RecommendRequest:
    """Decode the body of a recommendation request for `slot`. Raises `Invalid`."""
    fields = _fields(body)
    for name in fields:
        if name not in _RECOMMEND_FIELDS:
            known = ", ".join(f"`{field}`" for field in _RECOMMEND_FIELDS)
            raise Invalid("unknown_field", f"There is no field `{name[:60]}`; known are {known}.")
    fields["slot"] = msgspec.Raw(msgspec.json.encode(slot))
    return _decode_fields(_RECOMMEND, fields)


def merge(parsed: Parsed[Any], report: IngestReport, limits: Limits = LIMITS) -> IngestReport:
    """Put what was refused here and what the engine refused into one report, by place."""
    if not parsed.rejected and not report.rejected:
        return report
    late = [
        msgspec.structs.replace(error, index=parsed.places[error.index]) for error in report.errors
    ]
    errors = sorted([*parsed.errors, *late], key=lambda error: error.index)
    return msgspec.structs.replace(
        report, rejected=parsed.rejected + report.rejected, errors=errors[: limits.errors]
    )


def _parse(kind: _Kind[R], body: bytes, ndjson: bool, now_ms: int, limits: Limits) -> Parsed[R]:
    if len(body) > limits.body_bytes:
        raise TooLarge(
            "body_too_large",
            f"The body has {len(body)} bytes; at most {limits.body_bytes} are taken. Split it.",
        )
    if body.count(b"{") > limits.records:
        _count_records(body, ndjson, limits)
    records = _decode_lines(kind, body) if ndjson else _decode_whole(kind, body)
    if records is None:
        return _parse_each(kind, body, ndjson, now_ms, limits)
    return _keep_checked(kind, records, now_ms, limits)


def _decode_whole(kind: _Kind[R], body: bytes) -> list[R] | None:
    try:
        if body.lstrip()[:1] == b"{":
            return [kind.one.decode(body)]
        return kind.many.decode(body)
    except _DECODE_ERRORS:
        return None


def _decode_lines(kind: _Kind[R], body: bytes) -> list[R] | None:
    """Decode one record a line, or None where lines and records do not correspond."""
    try:
        records = kind.one.decode_lines(body)
    except _DECODE_ERRORS:
        return None
    lines = body.count(b"\n") + (not body.endswith(b"\n"))
    return records if len(records) == lines else None


def _keep_checked(kind: _Kind[R], records: list[R], now_ms: int, limits: Limits) -> Parsed[R]:
    check = kind.check
    faults = [
        (index, fault)
        for index, record in enumerate(records)
        if (fault := check(record, now_ms)) is not None
    ]
    if not faults:
        return Parsed(records, range(len(records)), 0, [])
    bad = {index for index, _ in faults}
    places = [index for index in range(len(records)) if index not in bad]
    return Parsed(
        [records[index] for index in places],
        places,
        len(faults),
        [RecordError(index, *fault) for index, fault in faults[: limits.errors]],
    )


def _parse_each(
    kind: _Kind[R], body: bytes, ndjson: bool, now_ms: int, limits: Limits
) -> Parsed[R]:
    """Decode part by part: the slow path, taken when any record is bad."""
    records: list[R] = []
    places: list[int] = []
    errors: list[RecordError] = []
    rejected = 0
    for index, part in enumerate(_split(body, ndjson, limits)):
        try:
            record = kind.one.decode(part)
            fault = kind.check(record, now_ms)
            if fault is None:
                records.append(record)
                places.append(index)
                continue
        except _DECODE_ERRORS as error:
            fault = _explain(error, part)
        rejected += 1
        if len(errors) < limits.errors:
            errors.append(RecordError(index, *fault))
    return Parsed(records, places, rejected, errors)


def _split(body: bytes, ndjson: bool, limits: Limits) -> list[bytes] | list[msgspec.Raw]:
    """Cut the body into one part a record. Raises `Invalid` when it has no such shape."""
    if not body.strip():
        raise Invalid("empty_body", "The body is empty; send a JSON object, an array, or NDJSON.")
    if ndjson:
        lines = [line for line in body.split(b"\n", limits.records + 1) if line.strip()]
        if len(lines) > limits.records:
            _refuse_batch(limits)
        return lines
    first = body.lstrip()[:1]
    if first == b"[":
        _count_records(body, ndjson, limits)
        try:
            return _PARTS.decode(body)
        except _DECODE_ERRORS as error:
            _refuse_body(error)
    if first == b"{":
        try:
            return [msgspec.json.decode(body, type=msgspec.Raw)]
        except _DECODE_ERRORS as error:
            _refuse_body(error)
    raise Invalid(
        "malformed",
        f"The body begins with {_short(body.lstrip()[:20])}; "
        "send a JSON object, an array of objects, or NDJSON as application/x-ndjson.",
    )


class _OverLimitError(Exception):
    """Ends a count early: there are more records than may be."""


class _Counted:
    """Stands for any array element while counting."""


def _count_records(body: bytes, ndjson: bool, limits: Limits) -> None:
    """Refuse a body of too many records without building them: stops at the first too many."""
    if ndjson:
        if body.rstrip().count(b"\n") >= limits.records:
            _refuse_batch(limits)
        return
    count = 0
    counted = _Counted()

    def count_one(_type: type, _value: Any) -> _Counted:
        nonlocal count
        count += 1
        if count > limits.records:
            raise _OverLimitError
        return counted

    try:
        msgspec.json.Decoder(list[_Counted], dec_hook=count_one).decode(body)
    except _OverLimitError:
        _refuse_batch(limits)
    except _DECODE_ERRORS:
        return  # what is wrong with it is told by whoever decodes it in earnest


def _refuse_batch(limits: Limits) -> NoReturn:
    raise TooLarge(
        "too_many_records",
        f"The batch has more than {limits.records} records. Send it in parts of at most that many.",
    )


def _refuse_body(error: Exception) -> NoReturn:
    if isinstance(error, RecursionError):
        raise Invalid("too_deep", "The JSON is nested too deeply; records are flat.") from None
    if isinstance(error, UnicodeDecodeError):
        raise Invalid("not_utf8", "The body is not UTF-8; JSON is always UTF-8.") from None
    text = str(error)
    if "trailing characters" in text:
        text += "; for one object a line, send content-type application/x-ndjson"
    raise Invalid("malformed", f"The body is not JSON: {text}.") from None


def _fields(body: bytes) -> dict[str, msgspec.Raw]:
    """Cut one object into its fields. Raises `Invalid`."""
    if not body.strip():
        raise Invalid("empty_body", "The body is empty; send a JSON object.")
    try:
        return _FIELDS.decode(body)
    except msgspec.ValidationError as error:
        raise Invalid("wrong_type", f"The body must be one JSON object: {error}.") from None
    except _DECODE_ERRORS as error:
        _refuse_body(error)


def _decode_fields(decoder: msgspec.json.Decoder[T], fields: dict[str, msgspec.Raw]) -> T:
    part = msgspec.json.encode(fields)
    try:
        return decoder.decode(part)
    except _DECODE_ERRORS as error:
        fault = _explain(error, part)
        raise Invalid(fault.code, fault.message) from None


_PLACE = re.compile(r"(?P<what>.*?)(?: - at (?P<key>`key` in )?`\$\.?(?P<path>[^`]*)`)?", re.DOTALL)
_CODES: Final = (
    ("Object missing required field", "missing_field"),
    ("Number out of range", "range"),
    ("Integer value out of range", "range"),
    ("Invalid", "value"),
)


def _explain(error: Exception, part: bytes | msgspec.Raw) -> Fault:
    """Say which field of a record is wrong, and what it holds."""
    if isinstance(error, RecursionError):
        return Fault("too_deep", "The record is nested too deeply; records are flat.")
    if isinstance(error, UnicodeDecodeError):
        return Fault("not_utf8", "A string of the record is not UTF-8; JSON is always UTF-8.")
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return Fault("malformed", f"The record is not JSON: {text}.")
    found = _PLACE.fullmatch(text)
    if found is None:
        return Fault("value", text)
    what, path = found["what"], found["path"]
    code = _code(what)
    if not path:
        return Fault(code, f"{what}.")
    if found["key"]:
        return Fault(code, f"A key in `{path}`: {what}.")
    value = _value_at(part, path)
    return Fault(code, f"`{path}`: {what}" + (f"; it is {value}." if value else "."))


def _code(what: str) -> str:
    for beginning, code in _CODES:
        if what.startswith(beginning):
            return code
    if "of length" in what:
        return "length"
    return "range" if re.search(r"[<>]=? -?[\d.]", what) else "wrong_type"


def _value_at(part: bytes | msgspec.Raw, path: str) -> str | None:
    """Find the offending value by its path, shortened; None where it cannot be told."""
    try:
        value = msgspec.json.decode(part)
        for step in re.findall(r"[^.\[\]]+", path):
            value = value[int(step)] if step.isdigit() else value[step]
        return _short(msgspec.json.encode(value))
    except (*_DECODE_ERRORS, KeyError, IndexError, TypeError, ValueError):
        return None


def _short(value: bytes) -> str:
    text = value[:80].decode("utf-8", "replace")
    return text if len(text) <= 60 else text[:57] + "..."
