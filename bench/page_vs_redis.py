"""Is a page that is made live as fast as one that lay ready in Redis?

    .venv/bin/python bench/page_vs_redis.py [--items 4000] [--seconds 3] [--json]

The plain stack: an asyncio service that reads a visitor's prepared JSON list from Redis and returns
it as it is, a bare ASGI app on uvicorn with Onhand's loop and parser, `redis` with hiredis, over
loopback. Its lists are Onhand's own answers, so both send the same bytes to the same visitors.
Onhand filters and re-ranks at each read, behind keys, and keeps a record of each; it runs once
without a key too. Beside them the bare app that returns one page to all. wrk asks each in turns, as
fast as 16 connections can, and shares the machine. Needs `redis-server`.
"""

import argparse
import contextlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import msgspec
import redis

from harness.load import Load, wrk
from harness.servers import bare, connect, free_port, get, onhand, send
from page import _VISITORS, CONNECTIONS, VISITS, make_events, make_items, show

ROUNDS = 5


class Result(msgspec.Struct):
    """The round whose rate is the median, by stack; `ratios` are the medians of the rounds' ratios
    of rates of Onhand with keys to the other stacks."""

    items: int
    bytes: int
    stacks: dict[str, Load]
    ratios: dict[str, float]


@contextlib.contextmanager
def redis_server() -> Generator[int]:
    """A Redis of its own that keeps nothing on disk; yields its port."""
    if shutil.which("redis-server") is None:
        raise SystemExit("redis-server is needed: apt-get install redis-server")
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    process = subprocess.Popen([*command, "--appendonly", "no"], stdout=subprocess.DEVNULL)
    try:
        connect(port).close()
        yield port
    finally:
        process.terminate()
        process.wait()


def make_key(data: Path) -> str:
    command = [sys.executable, "-m", "onhand", "keys", "create", "read", "--data", str(data)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip().splitlines()[0]


def copy_pages(port: int, store: "redis.Redis") -> int:
    """Put each visitor's page into Redis; return the size of the first."""
    size = 0
    for visitor in range(VISITS):
        status, page = get(port, f"/v1/recommend/home?session=s{visitor}&n=10")
        assert status == 200, page
        store.set(f"s{visitor}", page)
        size = size or len(page)
    return size


def measure(items: int, seconds: float) -> Result:
    rng = random.Random(items)
    with (
        tempfile.TemporaryDirectory() as folder,
        redis_server() as redis_port,
        onhand(Path(folder) / "open") as open_port,
        onhand(Path(folder) / "keyed") as port,
    ):
        records = make_items(items, rng), make_events(items, rng)
        for each in (open_port, port):
            send(each, "PUT", "/v1/items", records[0])
            send(each, "POST", "/v1/events", records[1])
        size = copy_pages(open_port, redis.Redis(port=redis_port))
        page = Path(folder) / "page.json"
        page.write_bytes(get(open_port, "/v1/recommend/home?session=s1&n=10")[1])
        key = make_key(Path(folder) / "keyed")
        keyed = f'wrk.headers["authorization"] = "Bearer {key}"\n' + _VISITORS
        with bare("page", str(page)) as bare_port, bare("redis", str(redis_port)) as plain_port:
            asked = {
                "onhand, keys": (port, keyed),
                "onhand, no keys": (open_port, _VISITORS),
                "list from Redis": (plain_port, _VISITORS),
                "bare ASGI, one page": (bare_port, _VISITORS),
            }
            for each, script in asked.values():
                wrk(each, 1, CONNECTIONS, script)
            rounds = [
                {name: wrk(each, seconds, CONNECTIONS, s) for name, (each, s) in asked.items()}
                for _ in range(ROUNDS)
            ]
    first, *others = asked
    ratios = {
        name: statistics.median(each[first].rate / each[name].rate for each in rounds)
        for name in others
    }
    loads = {name: sorted((each[name] for each in rounds), key=lambda load: load.rate)
             for name in asked}  # fmt: skip
    stacks = {name: ordered[ROUNDS // 2] for name, ordered in loads.items()}
    return Result(items, size, stacks, ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description="Is a live page as fast as one from Redis?")
    parser.add_argument("--items", type=int, default=4_000)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--json", action="store_true", help="results as JSON on the last line")
    options = parser.parse_args()
    result = measure(options.items, options.seconds)
    print(f"page read, {result.items:,} items, 10 of them an answer, {result.bytes} bytes")
    for name, load in result.stacks.items():
        show(name, load)
    for name, ratio in result.ratios.items():
        print(f"  onhand with keys to {name}: {ratio:.2f}")
    if options.json:
        print(msgspec.json.encode(result).decode())


if __name__ == "__main__":
    main()
