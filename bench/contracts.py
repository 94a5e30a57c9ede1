"""How fast does each wire format become checked records, against its own library alone?

    .venv/bin/python bench/contracts.py [--events 100000] [--json]

One generated stream goes through JSON, Avro (an object container file) and Protobuf
(length-delimited) in requests of 1,000. The bare libraries decode the same bytes in the same run:
msgspec into the same struct, fastavro's reader into dicts, protobuf's `FromString` with every set
field read out, which is where its lazy messages become Python values (and, for comparison,
`FromString` alone). Rates are the best of some rounds taken in turns. Then the records of each
format are folded, and the three states compared byte for byte. At last, how long a body of 64 KiB
takes at worst, in processor time, beside the bare decoder, into plain Python values.
"""

import argparse
import gc
import io
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import fastavro
import msgspec
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError

from onhand.app import App
from onhand.contracts.avro import avro_schema, read_varint
from onhand.contracts.batch import LIMITS
from onhand.contracts.errors import Invalid
from onhand.contracts.formats import AVRO, JSON, NDJSON, PROTOBUF, SEGMENT, parse
from onhand.contracts.protobuf import message_class
from onhand.contracts.records import Event
from onhand.contracts.registry import Registry
from onhand.contracts.shapes import Kind
from onhand.state.state import Limits, State

BATCH = 1_000
ROUNDS = 5
NOW_MS = 1_795_000_000_000
REGISTRY = Registry()
VERSIONS = REGISTRY.versions("events")
MESSAGE = message_class(VERSIONS)
SCHEMA = fastavro.parse_schema(avro_schema(VERSIONS[-1]))
CAPACITY = Limits(items=20_000, users=20_000, sessions=40_000)
BODY_BYTES = 65_000
MOST = LIMITS.records


class Rate(msgspec.Struct):
    """Events a second, of ours and of the bare library; `bytes` is the size of one event."""

    format: str
    bytes: float
    onhand: float
    bare: float
    ratio: float


class Result(msgspec.Struct):
    """All formats, and whether their states are equal."""

    events: int
    rates: list[Rate]
    parse_only_protobuf: float
    same_state: bool


def make_events(count: int) -> list[dict[str, Any]]:
    chance = random.Random(6)
    return [
        {
            "type": chance.choices(("view", "click", "cart_add", "purchase"), (6, 2, 1, 1))[0],
            "session": f"s{chance.randrange(20_000)}",
            "user": f"u{chance.randrange(10_000)}",
            "item": f"item-{chance.randrange(4_000)}",
            "time": NOW_MS - 600_000 + number * 600_000 // count,
            "id": f"e{number}",
            "value": chance.randrange(1, 5_000) / 100,
            "context": {"country": chance.choice(("GB", "DE", "FR"))},
        }
        for number in range(count)
    ]


def encode_avro(events: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    fastavro.writer(file, SCHEMA, events)
    return file.getvalue()


def encode_protobuf(events: list[dict[str, Any]]) -> tuple[bytes, list[bytes]]:
    messages = [ParseDict(event, MESSAGE()).SerializeToString() for event in events]
    return b"".join(_varint(len(each)) + each for each in messages), messages


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def read_fields(content: bytes) -> dict[str, Any]:
    """One message as a dict: what the bare library has to do for its fields to be at hand."""
    message = MESSAGE.FromString(content)
    return {descriptor.name: value for descriptor, value in message.ListFields()}


def best_rate(count: int, work: Callable[[], object]) -> float:
    gc.collect()
    began_s = time.perf_counter()
    work()
    return count / (time.perf_counter() - began_s)


def measure(events: list[dict[str, Any]]) -> Result:
    parts = [events[first : first + BATCH] for first in range(0, len(events), BATCH)]
    json = [msgspec.json.encode(part) for part in parts]
    avro = [encode_avro(part) for part in parts]
    protobuf = [encode_protobuf(part) for part in parts]
    messages = [message for _, each in protobuf for message in each]
    bodies = {JSON: json, AVRO: avro, PROTOBUF: [body for body, _ in protobuf]}
    typed = msgspec.json.Decoder(list[Event])
    bare: dict[str, Callable[[], object]] = {
        JSON: lambda: [typed.decode(body) for body in json],
        AVRO: lambda: [list(fastavro.reader(io.BytesIO(body))) for body in avro],
        PROTOBUF: lambda: [read_fields(message) for message in messages],
    }
    ours = dict.fromkeys(bodies, 0.0)
    theirs = dict(ours)
    parse_only = 0.0
    count = len(events)
    for _ in range(ROUNDS):
        for media, each in bodies.items():
            theirs[media] = max(theirs[media], best_rate(count, bare[media]))
            ours[media] = max(
                ours[media],
                best_rate(count, lambda m=media, e=each: [read(m, body) for body in e]),
            )
        parse_only = max(
            parse_only, best_rate(count, lambda: [MESSAGE.FromString(m) for m in messages])
        )
    states = [state_of(media, each) for media, each in bodies.items()]
    rates = [
        Rate(
            media, sum(map(len, each)) / count, ours[media], theirs[media],
            ours[media] / theirs[media],
        )
        for media, each in bodies.items()
    ]  # fmt: skip
    return Result(count, rates, parse_only, states[0] == states[1] == states[2])


def read(media: str, body: bytes) -> list[Event]:
    parsed = parse(REGISTRY, "events", media, body, NOW_MS)
    assert not parsed.rejected, parsed.errors
    return parsed.records


def state_of(media: str, bodies: list[bytes]) -> dict[str, bytes]:
    state = State(CAPACITY, App().features.accumulators(CAPACITY))
    for body in bodies:
        records = read(media, body)
        state.apply(records, state.offset + len(records))
    arrays, values = state.dump().encode()
    return {name: array.tobytes() for name, array in arrays.items()} | values


class Body(NamedTuple):
    """What a body is, and in which format."""

    name: str
    kind: Kind
    media: str
    content: bytes


def worst_bodies() -> list[Body]:
    """Bodies of 64 KiB, or less where no more records are allowed: the slowest that are known."""
    small: list[tuple[Kind, str, tuple[bytes, bytes], bytes]] = [
        ("events", JSON, ARRAY, b'{"type":123}'),
        ("events", JSON, ARRAY, b'{"type":"A"}'),
        ("events", JSON, ARRAY, b'{"type":"x","user":""}'),
        ("events", JSON, ARRAY, b'{"type":"x","user":"u","time":""}'),
        ("events", JSON, ARRAY, b'{"type":"x","user":"u","value":1e300}'),
        ("events", JSON, ARRAY, b'{"type":"x","user":"u","time":"2026-11-18T10:00:00Z"}'),
        (
            "events",
            JSON,
            ARRAY,
            b'{"type":"x","user":"u","attributes":{"a":1,"b":1,"c":1,"d":[]}}',
        ),
        ("events", JSON, ARRAY, b"1"),
        ("items", JSON, ARRAY, b'{"id":"a","price":-1}'),
        ("items", JSON, ARRAY, b'{"id":"a","text":1e+300}'),
        ("items", JSON, ARRAY, b'{"id":"a","created":""}'),
        ("signals", JSON, ARRAY, b'{"item":"a","flags":[1]}'),
        ("signals", JSON, ARRAY, b'{"item":"a","fulfilment":{"slots":-1}}'),
        ("events", NDJSON, LINES, b'{"type":"\xff"}'),
        ("events", NDJSON, LINES, b'{"type":"view","item":"a","session":"s"'),
        ("events", JSON, ARRAY, b'{"name":"x","params":{}}'),
        ("events", JSON, ARRAY, b'{"name":"view_item","params":{"items":[{"item_id":"a"}]}}'),
        ("events", SEGMENT, SEGMENTS, b'{"type":"page"}'),
        ("events", SEGMENT, SEGMENTS, b'{"type":"page","userId":"u"}'),
        (
            "events",
            SEGMENT,
            SEGMENTS,
            b'{"type":"track","event":"Product Viewed","userId":"u"}',
        ),
    ]
    bodies = [
        Body(record.decode("latin-1"), kind, media, fill(record, *around))
        for kind, media, around, record in small
    ]
    ga4 = b'{"name":"x","client_id":"c","params":{"items":[%b]}}'
    order = (
        b'{"type":"track","event":"Order Completed","userId":"u","properties":{"products":[%b]}}'
    )
    product = b'{"sku":"a","quantity":1,"price":2}'
    wide = WIDE | {"attributes": {name: {"number": 1.0} for name in WIDE["attributes"]}}
    return [
        *bodies,
        Body("GA4, 200 items", "events", JSON, fill(ga4 % many(b"{}", 200), *ARRAY)),
        Body("GA4, items of one event", "events", JSON, ga4 % many(b'{"item_id":"a"}', 200)),
        Body("GA4, good items", "events", JSON, fill(ga4 % many(b'{"item_id":"a"}', 90), *ARRAY)),
        Body("Segment, 500 products", "events", SEGMENT, fill(order % many(b"1", 500), *SEGMENTS)),
        Body(
            "Segment, good products", "events", SEGMENT, fill(order % many(product, 90), *SEGMENTS)
        ),
        Body("6,000 fields", "events", JSON, b"[{" + b",".join([b'"f":1'] * 10_000) + b"}]"),
        Body("numbers", "events", JSON, b'[{"type":"x","a":[%b]}]' % many(b"1e300", 10_000)),
        Body(
            "numbers, Segment",
            "events",
            SEGMENT,
            b'{"batch":[{"a":[%b]}]}' % many(b"1e300", 10_000),
        ),
        Body(
            "Segment, a bad product",
            "events",
            SEGMENT,
            fill(order % (many(b'{"sku":"a"}', 90) + b",1"), *SEGMENTS),
        ),
        Body("deep", "events", JSON, b'{"a":' * 13_000),
        Body("escapes", "events", JSON, b'[{"type":"%b"}]' % (b"\\u00e9" * 10_800)),
        Body("Avro", "events", AVRO, encode_avro(make_events(900))),
        Body("Avro, bad", "events", AVRO, encode_avro([{"type": "x"}] * MOST)),
        Body("Avro, wide", "events", AVRO, encode_avro([WIDE] * 500)),
        Body("Protobuf", "events", PROTOBUF, encode_protobuf(make_events(MOST))[0]),
        Body("Protobuf, bad", "events", PROTOBUF, encode_protobuf([{"type": "x"}] * MOST)[0]),
        Body("Protobuf, wide", "events", PROTOBUF, encode_protobuf([wide] * 500)[0]),
        Body("Protobuf, no messages", "events", PROTOBUF, b"\x02\xff\xff" * MOST),
    ]


ARRAY = b"[%b]", b","
LINES = b"%b", b"\n"
SEGMENTS = b'{"batch":[%b]}', b","
WIDE: dict[str, Any] = {
    "type": "view", "user": "u", "session": "s", "item": "a", "time": NOW_MS, "value": 1.0,
    "quantity": 2, "position": 1, "dwell_ms": 1,
    "attributes": {f"a{n}": float(n) for n in range(5)},
}  # fmt: skip


def many(part: bytes, count: int) -> bytes:
    return b",".join([part] * count)


def fill(record: bytes, around: bytes, between: bytes) -> bytes:
    count = max(min(BODY_BYTES // (len(record) + 1), MOST), 1)
    return around % between.join([record] * count)


def parse_ms(body: Body) -> float:
    """Milliseconds of processor time to decode and check a body, the best of some rounds."""
    return best_ms(lambda: read_any(body))


def read_any(body: Body) -> None:
    with suppress(Invalid):
        parsed = parse(REGISTRY, body.kind, body.media, body.content, NOW_MS)
        assert parsed.rejected == len(parsed.refused)


def bare_ms(body: Body) -> float | None:
    """The same for the bare library, where it takes the body at all."""
    content = body.content
    if body.media == AVRO:
        return best_ms(lambda: list(fastavro.reader(io.BytesIO(content))))
    if body.media == PROTOBUF:
        parts, position = [], 0
        while position < len(content):
            size, position = read_varint(content, position, zigzag=False)
            parts.append(content[position : position + size])
            position += size
        with suppress(DecodeError):
            return best_ms(lambda: [read_fields(part) for part in parts])
        return None
    parts = content.split(b"\n") if body.media == NDJSON else [content]
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return best_ms(lambda: [msgspec.json.decode(part) for part in parts])
    return None


def best_ms(work: Callable[[], object]) -> float:
    times: list[float] = []
    for _ in range(ROUNDS):
        began_s = time.thread_time()
        work()
        times.append(time.thread_time() - began_s)
    return min(times) * 1000


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--events", type=int, default=100_000)
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    result = measure(make_events(options.events))
    print(f"{result.events:,} events, {BATCH:,} a request, one thread\n")
    print(f"{'format':24} {'bytes':>6} {'onhand/s':>12} {'bare/s':>12} {'ratio':>6}")
    for rate in result.rates:
        print(
            f"{rate.format:24} {rate.bytes:6.0f} {rate.onhand:12,.0f} {rate.bare:12,.0f} "
            f"{rate.ratio:6.2f}"
        )
    print(f"\nprotobuf, parsed but not read: {result.parse_only_protobuf:,.0f}/s")
    print(f"byte-identical state from all formats: {result.same_state}")
    gc.freeze()  # as the server does when it has loaded
    print(f"\n{'64 KiB, or 1,000 records':64} {'bytes':>6} {'onhand':>9} {'bare':>9}")
    for body in worst_bodies():
        bare = bare_ms(body)
        beside = "refused" if bare is None else f"{bare:6.2f} ms"
        print(f"{body.name[:64]:64} {len(body.content):6} {parse_ms(body):6.2f} ms {beside:>9}")
    if options.json:
        print(msgspec.json.encode(result).decode())
    if not result.same_state:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
