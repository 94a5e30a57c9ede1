"""Bodies to records: one object, an array, or one object a line.

The fast path decodes an array into typed records, a long one in pieces, with others' turns between
them (`onhand.steps`). When that fails, or the contract renames or converts fields, the body is cut
into one part a record, and these are decoded a step at a time: straight into records where all of
a step are good, else each into an object first, so that the good ones are kept and each bad one
is named with its index, a code and a sentence. Whatever the bytes, the outcome is records or
`Invalid`.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, Final, Generic, NamedTuple, NoReturn, TypeVar, cast

import msgspec

from onhand.contracts import ga4
from onhand.contracts.answers import IngestReport
from onhand.contracts.checks import check_item
from onhand.contracts.errors import Fault, Invalid, RecordError
from onhand.contracts.explain import DECODE_ERRORS, Patience, explain, shorten
from onhand.contracts.features import FeastRequest, FeatureRequest
from onhand.contracts.gate import STANDARD, Gate
from onhand.contracts.records import Event, Item, ItemPatch, Signal
from onhand.contracts.requests import RecommendRequest
from onhand.steps import STEP_RECORDS, Steps, finish

__all__ = [
    "LIMITS",
    "Limits",
    "Parsed",
    "Refusal",
    "TooLarge",
    "check_all",
    "collect",
    "merge",
    "objects_of",
    "parse_events",
    "parse_item_patch",
    "parse_feast",
    "parse_features",
    "parse_items",
    "parse_json",
    "parse_recommend",
    "parse_signals",
    "refuse_batch",
    "refusals",
]

R = TypeVar("R", Event, Item, Signal)
T = TypeVar("T")


class TooLarge(Invalid):
    """A body or a batch is over its limit; nothing of it was read."""

    status = 413


class Limits(NamedTuple):
    """What one request may hold."""

    body_bytes: int = 16 * 1024 * 1024
    records: int = 1_000
    errors: int = 100


LIMITS: Final = Limits()


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """A record that was refused: its place in its body, and why."""

    place: int
    fault: Fault


class Parsed(NamedTuple, Generic[R]):
    """The good records of a body and their places in it, how many were bad, and why the first of
    those were. `refused` has all of the bad ones, and `part` gives the bytes of the record at a
    place, as they came."""

    records: list[R]
    places: Sequence[int]
    rejected: int
    errors: list[RecordError]
    refused: Sequence[Refusal]
    part: Callable[[int], bytes]


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise msgspec.ValidationError("Number out of range")
    return value


_PATCH = msgspec.json.Decoder(ItemPatch)
_FEATURES = msgspec.json.Decoder(FeatureRequest)
_FEAST = msgspec.json.Decoder(FeastRequest)
_RECOMMEND = msgspec.json.Decoder(RecommendRequest)
_PARTS = msgspec.json.Decoder(list[msgspec.Raw])
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_OBJECT = msgspec.json.Decoder()
_EXACT = msgspec.json.Decoder(float_hook=_float)
_NUMERIC: Final = bytes.maketrans(b"123456789+-E}] \t\r\n", b"00000000000e,,,,,,")
_LONG_EXPONENT: Final = re.compile(rb"e000+(,|\Z)")
_PIECE_BYTES: Final = 64 * 1024
"""Of a long array so much is decoded at once: 0.3 ms."""
_BETWEEN: Final = re.compile(rb"\},\s{0,8}\{")
_STEP_PARTS: Final = 256
"""Parts in a step: 0.3 ms if all are bad."""
_COMMAS: Final = 20
"""An array with more of them than this for each record it may have is counted before it is cut;
a record has one, and one for each further field."""
_RECOMMEND_FIELDS: Final = tuple(
    name for name in RecommendRequest.__struct_fields__ if name != "slot"
)


def parse_events(body: bytes, ndjson: bool, now_ms: int, limits: Limits = LIMITS) -> Parsed[Event]:
    """Decode and check events by the standard contract; their times become epoch milliseconds.

    Raises `Invalid` when the body as a whole cannot be read, `TooLarge` when it is over a limit.
    """
    return finish(parse_json(STANDARD["events"], body, ndjson, now_ms, limits))


def parse_items(body: bytes, ndjson: bool, now_ms: int, limits: Limits = LIMITS) -> Parsed[Item]:
    """Decode and check whole catalogue entries; errors as in `parse_events`."""
    return finish(parse_json(STANDARD["items"], body, ndjson, now_ms, limits))


def parse_signals(
    body: bytes, ndjson: bool, now_ms: int, limits: Limits = LIMITS
) -> Parsed[Signal]:
    """Decode and check fast facts; errors as in `parse_events`."""
    return finish(parse_json(STANDARD["signals"], body, ndjson, now_ms, limits))


def parse_json(
    gate: Gate[R], body: bytes, ndjson: bool, now_ms: int, limits: Limits = LIMITS
) -> Steps[Parsed[R]]:
    """Decode and check records as a contract says; errors as in `parse_events`."""
    if len(body) > limits.body_bytes:
        raise TooLarge(
            "body_too_large",
            f"The body has {len(body)} bytes; at most {limits.body_bytes} are taken. Split it.",
        )
    if not ndjson and not gate.reshapes:
        records = yield from _decode_whole(gate, body, limits.records)
        if records is not None:
            if len(records) > limits.records:
                refuse_batch(limits)
            return (yield from _keep_checked(gate, records, body, now_ms, limits))
    parts = _split(body, ndjson, limits)
    outcomes = _read_parts(gate, parts, _is_printable(body), now_ms, Patience(limits.errors))
    return (yield from collect(outcomes, lambda index: bytes(parts[index]), limits))


def parse_item_patch(body: bytes, item: str, now_ms: int) -> ItemPatch:
    """Decode the changed fields of `item`. Raises `Invalid`."""
    fields = _fields(body)
    own = fields.setdefault("id", msgspec.Raw(msgspec.json.encode(item)))
    patch = _decode_fields(_PATCH, fields)
    if patch.id != item:
        raise Invalid("id_mismatch", f"`id` {shorten(bytes(own))} is not the item of the path.")
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


def parse_features(body: bytes) -> FeatureRequest:
    """Decode a request for features. Raises `Invalid`."""
    return _decode_fields(_FEATURES, _fields(body))


def parse_feast(body: bytes) -> FeastRequest:
    """Decode the request of a Feast client. Raises `Invalid`."""
    return _decode_fields(_FEAST, _fields(body))


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


def refusals(gate: Gate[Any], parsed: Parsed[Any], report: IngestReport) -> list[Refusal]:
    """Return everything that was refused, here or by the engine."""
    late: list[Refusal] = []
    for error in report.errors:
        record, place = parsed.records[error.index], parsed.places[error.index]
        own = record.type if gate.is_own(record) else None
        late.append(Refusal(place, Fault(error.code, error.message, contract=own)))
    return [*parsed.refused, *late]


def collect(
    outcomes: Iterable[R | Fault | list[R | Fault]], part: Callable[[int], bytes], limits: Limits
) -> Steps[Parsed[R]]:
    """Gather what became of each part of a body: a record, a fault, or several of them; or of
    many parts at once, where all are good."""
    records: list[R] = []
    places: list[int] = []
    refused: list[Refusal] = []
    index = 0
    for outcome in outcomes:
        if type(outcome) is _Good:
            records += cast("list[R]", outcome)
            places += range(index, index + len(outcome))
            index += len(outcome)
            yield
            continue
        if type(outcome) is Fault:
            refused.append(Refusal(index, outcome))
        elif type(outcome) is list:
            for each in outcome:
                if type(each) is Fault:
                    refused.append(Refusal(index, each))
                else:
                    records.append(cast("R", each))
                    places.append(index)
            if len(records) + len(refused) > limits.records:
                refuse_batch(limits)
        else:
            records.append(cast("R", outcome))
            places.append(index)
        index += 1
        if index % STEP_RECORDS == 0:
            yield
    return Parsed(records, places, len(refused), _errors(refused, limits), refused, part)


def _errors(refused: Sequence[Refusal], limits: Limits) -> list[RecordError]:
    return [RecordError(each.place, *each.fault[:2]) for each in refused[: limits.errors]]


def _decode_whole(gate: Gate[R], body: bytes, most: int) -> Steps[list[R] | None]:
    """Decode a body into records, some more than `most` at most; or into None where that cannot be.

    A long array is cut between two braces. Where they are not those of two records, because they
    stand in a string or deeper, the pieces are no JSON: so what is decoded is what was sent.
    """
    records: list[R] = []
    begin, opening = 0, b""
    while True:
        cut = _BETWEEN.search(body, begin + _PIECE_BYTES)
        piece = opening + (body[begin:] if cut is None else body[begin : cut.start() + 1] + b"]")
        if len(piece) > 2 * _PIECE_BYTES or _has_long_exponents(piece):
            return None
        try:
            if piece.lstrip()[:1] == b"{":
                records.append(gate.one.decode(piece))
            else:
                records += gate.many.decode(piece)
        except DECODE_ERRORS:
            return None
        if cut is None or len(records) > most:
            return records
        begin, opening = cut.end() - 1, b"["
        yield


def _keep_checked(
    gate: Gate[R], records: list[R], body: bytes, now_ms: int, limits: Limits
) -> Steps[Parsed[R]]:
    @cache
    def parts() -> Sequence[bytes | msgspec.Raw]:
        return _split(body, False, limits)

    def part(index: int) -> bytes:
        return bytes(parts()[index])

    def read_again(index: int) -> Any:
        return _read_part(gate, parts()[index], now_ms, patience)

    patience = Patience(limits.errors)
    faults = yield from gate.find_faults(records, now_ms, _is_printable(body), read_again)
    if not faults:
        return Parsed(records, range(len(records)), 0, [], (), part)
    refused = [Refusal(index, fault) for index, fault in faults.items()]
    places = [index for index in range(len(records)) if index not in faults]
    good = [records[index] for index in places]
    return Parsed(good, places, len(refused), _errors(refused, limits), refused, part)


def _is_printable(body: bytes) -> bool:
    """Whether every string of some JSON is printable; False where that takes a closer look."""
    return body.isascii() and b"\\" not in body and b"\x7f" not in body


def _has_long_exponents(body: bytes) -> bool:
    """Whether some JSON may hold numbers like 1e300: msgspec takes 10 us for each of those."""
    return _LONG_EXPONENT.search(body.translate(_NUMERIC)) is not None


def objects_of(body: bytes) -> "msgspec.json.Decoder[Any]":
    """Return what decodes some JSON into objects, whatever numbers it holds."""
    return _EXACT if _has_long_exponents(body) else _OBJECT


def _read_parts(
    gate: Gate[R],
    parts: Sequence[bytes | msgspec.Raw],
    printable: bool,
    now_ms: int,
    patience: Patience,
) -> Iterator[R | Fault | list[R | Fault]]:
    """Decode and check the parts of a body, those of a step together."""
    for first in range(0, len(parts), _STEP_PARTS):
        step = parts[first : first + _STEP_PARTS]
        joined = b"[%b]" % b",".join(step)
        objects = objects_of(joined)
        records = None if gate.reshapes or objects is _EXACT else _decode_all(gate, step, joined)
        if records is None:
            values = _decode_array(joined, objects) if type(step[0]) is msgspec.Raw else None
            if values is None:
                values = _decode_each(gate, step, objects, now_ms, patience)
            yield from gate.read_each(values, now_ms, patience)
            continue

        def read_again(index: int, step: Sequence[bytes | msgspec.Raw] = step) -> Any:
            return _read_part(gate, step[index], now_ms, patience)

        yield from check_all(gate, records, printable, now_ms, read_again)


def check_all(
    gate: Gate[R],
    records: list[R],
    printable: bool,
    now_ms: int,
    read_again: Callable[[int], Any],
) -> Iterator[R | Fault | list[R | Fault]]:
    """Check the typed records of a step, as `Gate.find_faults` does; give them together where all
    are good."""
    faults = finish(gate.find_faults(records, now_ms, printable, read_again))
    if faults:
        yield from (faults.get(index, record) for index, record in enumerate(records))
    else:
        yield _Good(records)


def _decode_all(
    gate: Gate[R], parts: Sequence[bytes | msgspec.Raw], joined: bytes
) -> list[R] | None:
    """Decode the parts of a step; lines one by one, as two of them may be no two records."""
    try:
        if type(parts[0]) is msgspec.Raw:
            return gate.many.decode(joined)
        return [gate.one.decode(part) for part in parts]
    except DECODE_ERRORS:
        return None


def _decode_array(joined: bytes, objects: "msgspec.json.Decoder[Any]") -> list[Any] | None:
    """Decode the parts of a step in one call; None where one cannot be, or may be of GA4."""
    try:
        return None if b'"params"' in joined else objects.decode(joined)
    except DECODE_ERRORS:
        return None


def _read_part(
    gate: Gate[R], part: bytes | msgspec.Raw, now_ms: int, patience: Patience
) -> R | Fault | list[R | Fault]:
    values = _decode_each(gate, (part,), _OBJECT, now_ms, patience)
    return next(gate.read_each(values, now_ms, patience))


def _decode_each(
    gate: Gate[R],
    parts: Sequence[bytes | msgspec.Raw],
    objects: "msgspec.json.Decoder[Any]",
    now_ms: int,
    patience: Patience,
) -> Iterator[Any]:
    """Decode parts one by one, as `Gate.read_each` reads them: the slow path."""
    decode, is_events = objects.decode, gate.record is Event
    for part in parts:
        try:
            value = decode(part)
        except DECODE_ERRORS as error:
            if gate.reshapes or gate.own or type(error) is msgspec.DecodeError:
                yield explain(error, part, patience)
            else:
                yield _read_typed(gate, part, now_ms, patience)
            continue
        if is_events and type(value) is dict and "params" in value and ga4.is_ga4(value):
            events = ga4.to_events(value, gate.own)
            if type(events) is list:
                yield events[0] if len(events) == 1 else tuple(events)
            else:
                yield events
        else:
            yield value


def _read_typed(
    gate: Gate[R], part: bytes | msgspec.Raw, now_ms: int, patience: Patience
) -> R | Fault:
    """Decode a part whose text or numbers are wrong somewhere: in a field that no record has, they
    are passed over."""
    try:
        record = gate.one.decode(part)
    except DECODE_ERRORS as error:
        return explain(error, part, patience)
    return gate.check(record, now_ms) or record


def _split(body: bytes, ndjson: bool, limits: Limits) -> list[bytes] | list[msgspec.Raw]:
    """Cut the body into one part a record. Raises `Invalid` when it has no such shape."""
    if not body.strip():
        raise Invalid("empty_body", "The body is empty; send a JSON object, an array, or NDJSON.")
    if ndjson:
        lines = [line for line in body.split(b"\n", limits.records + 1) if line.strip()]
        if len(lines) > limits.records:
            refuse_batch(limits)
        return lines
    first = body.lstrip()[:1]
    if first == b"[":
        if body.count(b",") > _COMMAS * limits.records:
            _count_records(body, limits)
        try:
            parts = _PARTS.decode(body)
        except DECODE_ERRORS as error:
            _refuse_body(error)
        if len(parts) > limits.records:
            refuse_batch(limits)
        return parts
    if first == b"{":
        try:
            return [msgspec.json.decode(body, type=msgspec.Raw)]
        except DECODE_ERRORS as error:
            _refuse_body(error)
    raise Invalid(
        "malformed",
        f"The body begins with {shorten(body.lstrip()[:20])}; "
        "send a JSON object, an array of objects, or NDJSON as application/x-ndjson.",
    )


class _Good(list[R | Fault]):
    """Good records, one for each part."""


class _OverLimitError(Exception):
    """Ends a count early: there are more records than may be."""


class _Counted:
    """Stands for any array element while counting."""


def _count_records(body: bytes, limits: Limits) -> None:
    """Refuse an array of too many records without building them: stops at the first too many."""
    count = 0
    counted = _Counted()

    def count_one(_type: type, _value: Any) -> _Counted:
        nonlocal count
        count += 1
        if count > limits.records:
            raise _OverLimitError
        return counted

    try:
        msgspec.json.Decoder(list[_Counted], dec_hook=count_one, float_hook=str).decode(body)
    except _OverLimitError:
        refuse_batch(limits)
    except DECODE_ERRORS:
        return  # what is wrong with it is told by whoever decodes it in earnest


def refuse_batch(limits: Limits) -> NoReturn:
    """Refuse a body of too many records."""
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
    except DECODE_ERRORS as error:
        _refuse_body(error)


def _decode_fields(decoder: msgspec.json.Decoder[T], fields: dict[str, msgspec.Raw]) -> T:
    part = msgspec.json.encode(fields)
    try:
        return decoder.decode(part)
    except DECODE_ERRORS as error:
        fault = explain(error, part)
        raise Invalid(fault.code, fault.message) from None
