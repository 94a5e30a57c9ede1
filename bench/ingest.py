"""How fast do durable events go in, against a server that only decodes them?

    .venv/bin/python bench/ingest.py [--events 500] [--seconds 5] [--json]

wrk posts arrays of 500 events over 8 connections to a real server, which checks, fsyncs and folds
them before it answers; in turns it posts the same bytes to a bare uvicorn ASGI app that decodes
them with msgspec and does nothing. wrk shares the machine. A second run posts single events over
64 connections: there one fsync serves many requests.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path

import msgspec

from harness.load import Load, wrk
from harness.servers import bare, get, onhand, send

ITEMS = 4_000
BODIES = 64
CONNECTIONS = 8
SINGLE_CONNECTIONS = 64
ROUNDS = 3


class Result(msgspec.Struct):
    """Rates are events a second; `ratio` is against the app that only decodes."""

    events: int
    onhand: Load
    onhand_rate: float
    decode: Load
    decode_rate: float
    ratio: float
    single: Load
    requests_a_commit: float


def make_body(events: int, rng: random.Random) -> str:
    now_ms = time.time_ns() // 1_000_000
    return msgspec.json.encode(
        [
            {
                "type": rng.choices(("view", "click", "cart_add", "purchase"), (6, 2, 1, 1))[0],
                "session": f"s{rng.randrange(20_000)}",
                "user": f"u{rng.randrange(10_000)}",
                "item": f"item-{min(int(rng.paretovariate(0.6)) - 1, ITEMS - 1)}",
                "time": now_ms - rng.randrange(600_000),
            }
            for _ in range(events)
        ]
    ).decode()


def make_script(folder: Path, bodies: list[str]) -> str:
    """A wrk script that posts the bodies in turn, from a file: they are too long for Lua text."""
    path = folder / f"bodies-{len(bodies[0])}.ndjson"
    path.write_text("\n".join(bodies))
    return f"""
local requests, i = {{}}, 0
init = function()
  for line in io.lines("{path}") do
    requests[#requests + 1] = wrk.format(
      "POST", "/v1/events", {{["content-type"] = "application/json"}}, line)
  end
end
request = function()
  i = i + 1
  return requests[i % #requests + 1]
end
"""


def middle(rounds: list[tuple[Load, Load]]) -> tuple[Load, Load]:
    """The round whose ratio is the median: the two of a round saw the same machine."""
    return sorted(rounds, key=lambda pair: pair[0].rate / pair[1].rate)[len(rounds) // 2]


def commits(port: int) -> tuple[float, float]:
    """How many group commits there were, and how many requests they served."""
    found = dict(
        line.rsplit(" ", 1)
        for line in get(port, "/metrics")[1].decode().splitlines()
        if line.startswith("onhand_commit_requests_")
    )
    return (
        float(found["onhand_commit_requests_count"]),
        float(found["onhand_commit_requests_sum"]),
    )


def measure(events: int, seconds: float) -> Result:
    rng = random.Random(events)
    with tempfile.TemporaryDirectory() as name, onhand(Path(name) / "data") as port:
        folder = Path(name)
        send(port, "PUT", "/v1/items", [{"id": f"item-{i}", "stock": 9} for i in range(ITEMS)])
        many = make_script(folder, [make_body(events, rng) for _ in range(BODIES)])
        single = make_script(folder, [make_body(1, rng) for _ in range(BODIES)])
        with bare("decode") as bare_port:
            wrk(port, 1, CONNECTIONS, many)
            rounds = [
                (
                    wrk(port, seconds, CONNECTIONS, many),
                    wrk(bare_port, seconds, CONNECTIONS, many),
                )
                for _ in range(ROUNDS)
            ]
        before = commits(port)
        singles = wrk(port, seconds, SINGLE_CONNECTIONS, single)
        after = commits(port)
    ours, theirs = middle(rounds)
    shared = (after[1] - before[1]) / (after[0] - before[0])
    ratio = ours.rate / theirs.rate
    return Result(
        events, ours, ours.rate * events, theirs, theirs.rate * events, ratio, singles, shared
    )


def show(name: str, events: int, load: Load) -> None:
    print(
        f"  {name:<26} {load.rate * events:>9,.0f} events/s   p50 {load.p50_us / 1000:6.2f} ms   "
        f"p99 {load.p99_us / 1000:6.2f} ms   errors {load.errors}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast do durable events go in?")
    parser.add_argument("--events", type=int, default=500, help="events in one array")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--json", action="store_true", help="the result as JSON on the last line")
    options = parser.parse_args()
    result = measure(options.events, options.seconds)
    print(f"POST /v1/events, {result.events} an array, {CONNECTIONS} connections")
    show("onhand, durable", result.events, result.onhand)
    show("bare ASGI, decodes only", result.events, result.decode)
    print(f"  ratio {result.ratio:.2f}")
    print(f"one event a request, {SINGLE_CONNECTIONS} connections")
    show("onhand, durable", 1, result.single)
    print(f"  {result.requests_a_commit:.1f} requests shared a commit")
    if options.json:
        print(msgspec.json.encode(result).decode())


if __name__ == "__main__":
    main()
