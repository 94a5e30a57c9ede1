"""Does a page cost more for a visitor with a long history, or in a large shop?

    .venv/bin/python bench/power_user.py [--small 10000 --large 999000] [--pages 20000]
        [--data FOLDER] [--json]

Real servers, read over HTTP on one connection each, in turns page by page, so that whatever else
the machine does is in both alike: first a visitor with 10,000 events and one with 10, then a
catalogue of 10,000 items and one of a million (less a thousand: rows are bounded). The large shop
takes some minutes to load; with `--data` the shops stay there and are not loaded again.
"""

import argparse
import random
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np

from harness.servers import connect, onhand
from onhand.contracts.records import Event, Item
from onhand.engine import Engine
from page import VISITS, make_events

HEAVY_EVENTS = 10_000
LIGHT_EVENTS = 10
LOADED = 2_000
TARGETS = {"history": 1.2, "catalogue": 2.0}


class Times(msgspec.Struct, frozen=True):
    p50_us: float
    p99_us: float


class Comparison(msgspec.Struct, frozen=True):
    """Page reads of two kinds, in turns."""

    more: Times
    less: Times
    p50_ratio: float
    p99_ratio: float


def items(count: int) -> Iterator[Item]:
    rng = random.Random(count)
    for i in range(count):
        stock = 0 if i % 20 == 0 else rng.randrange(1, 500)
        yield Item(f"item-{i}", title=f"Thing {i}", category=f"home/shelf-{i % 97}",
                   price=round(rng.uniform(0.5, 60), 2), stock=stock)  # fmt: skip


def visits(count: int) -> list[Event]:
    events = make_events(count, random.Random(count))
    return [msgspec.convert(event, Event) for event in events]


def history(name: str, events: int, catalogue: int) -> list[Event]:
    """Someone's events, spread over thirty days, from the popular items down."""
    rng = random.Random(events)
    now_ms = time.time_ns() // 1_000_000
    month_ms = 30 * 86_400_000
    return [
        Event(
            rng.choices(("view", "cart_add", "purchase"), (8, 1, 1))[0],
            session=name,
            user=name,
            item=f"item-{min(int(rng.paretovariate(0.6)), catalogue - 1)}",
            time=now_ms - month_ms + at * month_ms // events,
        )
        for at in range(events)
    ]


def load(folder: Path, catalogue: int) -> None:
    """Write the shop to a folder; a server on it begins with its checkpoint."""
    engine = Engine.open(folder)
    listed = items(catalogue)
    while batch := list(islice(listed, LOADED)):
        engine.ingest(batch)
    events = visits(catalogue)
    events += history("heavy", HEAVY_EVENTS, catalogue) + history("light", LIGHT_EVENTS, catalogue)
    for begin in range(0, len(events), LOADED):
        engine.ingest(events[begin : begin + LOADED])
    engine.close()


def ask(line: socket.socket, request: bytes) -> float:
    """Seconds that a page took."""
    began_s = time.perf_counter()
    line.sendall(request)
    data = line.recv(65536)
    took_s = time.perf_counter() - began_s
    if not data.startswith(b"HTTP/1.1 200") or data.count(b'"source"') != 10:
        raise RuntimeError(data[:500].decode())
    return took_s


def page(visitor: str) -> bytes:
    path = f"/v1/recommend/home?session={visitor}&user={visitor}&n=10"
    return f"GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n".encode()


def compare(ports: Sequence[int], visitors: Sequence[list[str]], pages: int) -> Comparison:
    """Read pages in turns: of the first port's visitors, then of the second's."""
    lines = [connect(port) for port in ports]
    requests = [[page(visitor) for visitor in each] for each in visitors]
    took_s: tuple[list[float], list[float]] = ([], [])
    for turn in range(pages):
        for line, those, taken in zip(lines, requests, took_s, strict=True):
            taken.append(ask(line, those[turn % len(those)]))
    more, less = (np.percentile(np.array(taken[pages // 20 :]) * 1e6, [50, 99]) for taken in took_s)
    p50, p99 = (more / less).tolist()
    return Comparison(Times(*more.tolist()), Times(*less.tolist()), p50, p99)


def main() -> None:
    parser = argparse.ArgumentParser(description="Does a page cost more for some than for others?")
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=999_000)
    parser.add_argument("--pages", type=int, default=20_000)
    parser.add_argument("--data", help="folder to keep the shops in")
    parser.add_argument("--json", action="store_true", help="results as JSON on the last line")
    options = parser.parse_args()
    strangers = [f"s{visit * 7919 % VISITS}" for visit in range(VISITS)]
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(options.data or folder)
        small, large = kept / f"{options.small}", kept / f"{options.large}"
        for shop, count in ((small, options.small), (large, options.large)):
            if not shop.exists():
                load(shop, count)
        with onhand(small) as small_port, onhand(large) as large_port:
            both = [small_port, small_port]
            by_history = compare(both, [["heavy"], ["light"]], options.pages)
            by_size = compare([large_port, small_port], [strangers] * 2, options.pages)
    results = {"history": by_history, "catalogue": by_size}
    names = {
        "history": (f"{HEAVY_EVENTS:,} events", f"{LIGHT_EVENTS} events"),
        "catalogue": (f"{options.large:,} items", f"{options.small:,} items"),
    }
    for what, result in results.items():
        print(f"page read by {what}, p50 / p99 us")
        for name, times in zip(names[what], (result.more, result.less), strict=True):
            print(f"  {name:<18} {times.p50_us:7.0f} / {times.p99_us:7.0f}")
        print(f"  ratio              {result.p50_ratio:7.2f} / {result.p99_ratio:7.2f}"
              f"   (p99 at most {TARGETS[what]})")  # fmt: skip
    if options.json:
        print(msgspec.json.encode(results).decode())


if __name__ == "__main__":
    main()
