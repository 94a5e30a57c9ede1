"""How fast does each wire format become checked records, against its own library alone?

    .venv/bin/python bench/contracts.py [--events 100000] [--json]

One generated stream goes through JSON, Avro (an object container file) and Protobuf
(length-delimited) in requests of 5,000. The bare libraries decode the same bytes in the same run:
msgspec into the same struct, fastavro's reader into dicts, protobuf's `FromString` with every set
field read out, which is where its lazy messages become Python values (and, for comparison,
`FromString` alone). Rates are the best of some rounds taken in turns. Then the records of each
format are folded, and the three states compared byte for byte. At last, how long a body of 64 KiB
takes at worst, in processor time: nothing but bad records, each with its reason and kept.
"""

import argparse
import gc
import io
import random
import time
from collections.abc import Callable
from typing import Any

import fastavro
import msgspec
from google.protobuf.json_format import ParseDict

from onhand.app import App
from onhand.contracts.avro import avro_schema
from onhand.contracts.batch import TooLarge
from onhand.contracts.formats import AVRO, JSON, NDJSON, PROTOBUF, SEGMENT, parse
from onhand.contracts.protobuf import message_class
from onhand.contracts.records import Event
from onhand.contracts.registry import Registry
from onhand.contracts.shapes import Kind
from onhand.state.state import Limits, State

BATCH = 5_000
ROUNDS = 5
NOW_MS = 1_795_000_000_000
REGISTRY = Registry()
VERSIONS = REGISTRY.versions("events")
MESSAGE = message_class(VERSIONS)
SCHEMA = fastavro.parse_schema(avro_schema(VERSIONS[-1]))
LIMITS = Limits(items=20_000, users=20_000, sessions=40_000)
BAD_RECORDS: tuple[tuple[Kind, bytes], ...] = (
    ("events", b'{"type":123}'),
    ("events", b'{"type":""}'),
    ("events", b'{"type":"view"}'),
    ("events", b'{"type":"A"}'),
    ("events", b'{"type":"x","user":""}'),
    ("events", b'{"type":"x","user":"u","time":""}'),
    ("events", b"1"),
    ("events", b'{"name":"x","params":{}}'),
    ("items", b'{"id":"a","price":-1}'),
    ("items", b'{"id":"a","text":1e+300}'),
    ("signals", b'{"item":"a","flags":[1]}'),
)
"""The slowest to refuse that are known, of those in JSON."""
BAD_BYTES = 65_000
BAD_MOST = 4_990


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
    state = State(LIMITS, App().features.accumulators(LIMITS))
    for body in bodies:
        records = read(media, body)
        state.apply(records, state.offset + len(records))
    arrays, values = state.dump().encode()
    return {name: array.tobytes() for name, array in arrays.items()} | values


def bad_bodies() -> dict[str, tuple[Kind, str, bytes]]:
    """Bodies of 64 KiB that hold nothing good, or less where no more records are allowed."""
    bodies: dict[str, tuple[Kind, str, bytes]] = {
        record.decode(): (kind, JSON, fill(record, b"[%b]")) for kind, record in BAD_RECORDS
    }
    products = b",".join([b"{}"] * 200)
    bodies |= {
        "200 items of GA4": (
            "events",
            JSON,
            fill(b'{"name":"x","params":{"items":[%b]}}' % products, b"[%b]"),
        ),
        "text that is not UTF-8": (
            "events",
            NDJSON,
            fill(b'{"type":"\xff"}', b"%b", b"\n"),
        ),
        "Segment": ("events", SEGMENT, fill(b'{"type":"page"}', b'{"batch":[%b]}')),
        "Segment, 500 products": (
            "events",
            SEGMENT,
            fill(
                b'{"type":"track","event":"Order Completed","properties":{"products":[%b]}}'
                % b",".join([b"1"] * 500),
                b'{"batch":[%b]}',
            ),
        ),
        "Avro": ("events", AVRO, encode_avro([{"type": "x"}] * 3_000)),
        "Protobuf": ("events", PROTOBUF, encode_protobuf([{"type": "x"}] * BAD_MOST)[0]),
    }
    return bodies


def fill(record: bytes, around: bytes, between: bytes = b",") -> bytes:
    count = min(BAD_BYTES // (len(record) + 1), BAD_MOST)
    return around % between.join([record] * count)


def refuse_ms(kind: Kind, media: str, body: bytes) -> float:
    """Milliseconds of processor time to refuse a bad body, the best of some rounds."""
    times: list[float] = []
    for _ in range(ROUNDS):
        began_s = time.process_time()
        try:
            parsed = parse(REGISTRY, kind, media, body, NOW_MS)
            assert parsed.rejected == len(parsed.refused) > 0, parsed.errors
            assert not parsed.records
        except TooLarge:
            pass
        times.append(time.process_time() - began_s)
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
    print("64 KiB of bad records:")
    for name, bad in bad_bodies().items():
        print(f"{name:33} {refuse_ms(*bad):6.2f} ms")
    if options.json:
        print(msgspec.json.encode(result).decode())
    if not result.same_state:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
