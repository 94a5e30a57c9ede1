"""How fast does each wire format become checked records, against its own library alone?

    .venv/bin/python bench/contracts.py [--events 100000] [--json]

One generated stream goes through JSON, Avro (an object container file) and Protobuf
(length-delimited) in requests of 5,000. The bare libraries decode the same bytes in the same run:
msgspec into the same struct, fastavro's reader into dicts, protobuf's `FromString` with every set
field read out, which is where its lazy messages become Python values (and, for comparison,
`FromString` alone). Rates are the best of some rounds taken in turns. Then the records of each
format are folded, and the three states compared byte for byte. At last, how long a body of 64 KiB
takes at worst: nothing but bad records, each with its reason and kept.
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
from onhand.contracts.formats import AVRO, JSON, PROTOBUF, parse
from onhand.contracts.protobuf import message_class
from onhand.contracts.records import Event
from onhand.contracts.registry import Registry
from onhand.state.state import Limits, State

BATCH = 5_000
ROUNDS = 5
NOW_MS = 1_795_000_000_000
REGISTRY = Registry()
VERSIONS = REGISTRY.versions("events")
MESSAGE = message_class(VERSIONS)
SCHEMA = fastavro.parse_schema(avro_schema(VERSIONS[-1]))
LIMITS = Limits(items=20_000, users=20_000, sessions=40_000)
BAD_RECORDS = (b'{"type":123}', b'{"type":"view"}', b"1", b'{"name":"x","params":{}}')
"""The slowest to refuse that are known."""
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


def refuse_ms(record: bytes) -> float:
    """Milliseconds for a body of one bad record again and again, the best of some rounds."""
    count = min(BAD_BYTES // (len(record) + 1), BAD_MOST)
    body = b"[" + b",".join([record] * count) + b"]"
    times: list[float] = []
    for _ in range(ROUNDS):
        began_s = time.perf_counter()
        parsed = parse(REGISTRY, "events", JSON, body, NOW_MS)
        times.append(time.perf_counter() - began_s)
        assert parsed.rejected == len(parsed.refused) == count
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
    for record in BAD_RECORDS:
        print(f"{record.decode():24} {refuse_ms(record):6.2f} ms")
    if options.json:
        print(msgspec.json.encode(result).decode())
    if not result.same_state:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
