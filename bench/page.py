"""How fast is a page read, against the least that any answer costs?

    .venv/bin/python bench/page.py [--items 4000 --items 100000] [--seconds 3] [--json]

A synthetic shop (Zipf visits over the catalogue) is sent to a real server. wrk then asks for the
pages of its visitors, as fast as 16 connections can, in turns with a bare uvicorn ASGI app that
returns the same bytes; then, again in turns, at the pace of 10 million an hour. wrk shares the
machine.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from harness.load import Load, wrk
from harness.servers import bare, get, onhand, send

VISITS = 4_000
EVENTS_A_VISIT = 6
CONNECTIONS = 16
ROUNDS = 5
PACED_CONNECTIONS = 56
PACED_DELAY_MS = 20

_VISITORS = """
local i = 0
request = function()
  i = i + 1
  return wrk.format("GET", "/v1/recommend/home?session=s" .. (i * 7919 % %VISITS%) .. "&n=10")
end
""".replace("%VISITS%", str(VISITS))
_PACE = f"delay = function() return math.random(1, {2 * PACED_DELAY_MS - 1}) end\n"


class Result(msgspec.Struct):
    """One catalogue size. `ratio` is against the bare app; `paced` and `bare_paced` are at 10
    million an hour."""

    items: int
    bytes: int
    onhand: Load
    bare: Load
    ratio: float
    paced: Load
    bare_paced: Load


def make_items(count: int, rng: random.Random) -> list[dict[str, Any]]:
    return [
        {
            "id": f"item-{i}",
            "title": f"Thing {i}",
            "category": f"home/shelf-{i % 97}",
            "price": round(rng.uniform(0.5, 60), 2),
            "stock": 0 if i % 20 == 0 else rng.randrange(1, 500),
        }
        for i in range(count)
    ]


def make_events(items: int, rng: random.Random) -> list[dict[str, Any]]:
    """Visits that begin near a Zipf-popular item and stay near it."""
    now_ms = time.time_ns() // 1_000_000
    events: list[dict[str, Any]] = []
    for visit in range(VISITS):
        begin = min(int(rng.paretovariate(0.6)) - 1, items - 1)
        for step in range(EVENTS_A_VISIT):
            item = (begin + rng.randrange(30)) % items
            type_ = rng.choices(("view", "cart_add", "purchase"), (8, 1, 1))[0]
            at_ms = now_ms - 3_600_000 + visit * 500 + step * 20
            events.append(
                {"type": type_, "session": f"s{visit}", "item": f"item-{item}", "time": at_ms}
            )
    return events


def in_turns(
    ports: tuple[int, int], seconds: float, connections: int, script: str, figure: str
) -> tuple[Load, Load]:
    """The round in which the ratio of a figure is the median: the two of a round saw the same
    machine."""
    rounds: list[tuple[Load, Load]] = []
    for _ in range(ROUNDS):
        ours, theirs = (wrk(port, seconds, connections, script) for port in ports)
        rounds.append((ours, theirs))
    return sorted(rounds, key=lambda pair: getattr(pair[0], figure) / getattr(pair[1], figure))[
        ROUNDS // 2
    ]


def measure(items: int, seconds: float) -> Result:
    rng = random.Random(items)
    with tempfile.TemporaryDirectory() as folder, onhand(Path(folder) / "data") as port:
        send(port, "PUT", "/v1/items", make_items(items, rng))
        send(port, "POST", "/v1/events", make_events(items, rng))
        body = Path(folder) / "page.json"
        body.write_bytes(get(port, "/v1/recommend/home?session=s1&n=10")[1])
        with bare("page", str(body)) as bare_port:
            wrk(port, 1, CONNECTIONS, _VISITORS)
            ports, pace = (port, bare_port), _PACE + _VISITORS
            ours, theirs = in_turns(ports, seconds, CONNECTIONS, _VISITORS, "rate")
            paced = in_turns(ports, seconds, PACED_CONNECTIONS, pace, "p99_us")
        ratio = ours.rate / theirs.rate
        return Result(items, body.stat().st_size, ours, theirs, ratio, *paced)


def show(name: str, load: Load) -> None:
    print(
        f"  {name:<22} {load.rate:>8,.0f}/s   p50 {load.p50_us / 1000:6.2f} ms   "
        f"p99 {load.p99_us / 1000:6.2f} ms   p99.9 {load.p999_us / 1000:6.2f} ms   "
        f"errors {load.errors}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast is a page read?")
    parser.add_argument("--items", type=int, action="append")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--json", action="store_true", help="results as JSON on the last line")
    options = parser.parse_args()
    results: list[Result] = []
    for items in options.items or [4_000, 100_000]:
        result = measure(items, options.seconds)
        results.append(result)
        print(f"page read, {items:,} items, 10 of them an answer, {result.bytes} bytes")
        show("onhand", result.onhand)
        show("bare ASGI, same bytes", result.bare)
        show("onhand, paced", result.paced)
        show("bare ASGI, paced", result.bare_paced)
        print(f"  ratio {result.ratio:.2f}")
    if options.json:
        print(msgspec.json.encode(results).decode())


if __name__ == "__main__":
    main()
