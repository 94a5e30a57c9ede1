"""What does a page read cost the event loop, socket aside?

    .venv/bin/python bench/answer.py [--items 4000] [--pages 3000] [--rounds 9] [--json]

In-process and on one thread: the bytes of a request in, the bytes of its answer out, with its
record and metrics, for pages as the flash sale asks for them. The figure is the thread's processor
time, so other work beside it shows in the caches only; the best of the rounds counts. Beside it, in
turns, is the least that any answer takes: encoding one that is there already.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from onhand.contracts.answers import Recommendation
from onhand.engine import Engine
from onhand.log.decisions import DecisionStore
from onhand.log.memory import MemoryLog
from onhand.serving.hot import HotRoutes
from onhand.serving.memory import refuse_huge_pages
from onhand.serving.service import Service
from onhand.settings import Settings
from onhand.wiring import warm_kernels
from page import VISITS, make_events, make_items

COUNTRIES = 30
KNOWN_EVERY = 5


def country(visitor: int) -> str:
    return f"C{visitor * 7919 % COUNTRIES}"


def user(visitor: int) -> dict[str, str]:
    return {} if visitor % KNOWN_EVERY else {"user": f"u{visitor}"}


def fill(engine: Engine, items: int, rng: random.Random) -> None:
    engine.ingest([{"kind": "item", **item} for item in make_items(items, rng)])
    events = make_events(items, rng)
    for event in events:
        visitor = int(event["session"][1:])
        event |= {"kind": "event", "context": {"country": country(visitor)}, **user(visitor)}
    engine.ingest(events)


def make_urls(items: int, pages: int, rng: random.Random) -> list[bytes]:
    urls: list[bytes] = []
    for _ in range(pages):
        visitor = rng.randrange(VISITS)
        slot = rng.choices(("home", "product", "cart"), (4, 5, 1))[0]
        names = {"session": f"s{visitor}", **user(visitor), "n": "10", "country": country(visitor)}
        if slot == "product":
            names["item"] = f"item-{min(int(rng.paretovariate(0.6)) - 1, items - 1)}"
        query = "&".join(f"{name}={value}" for name, value in names.items())
        urls.append(f"/v1/recommend/{slot}?{query}".encode())
    return urls


def each_us(function: Callable[[Any], object], arguments: Sequence[Any]) -> float:
    began_ns = time.thread_time_ns()
    for argument in arguments:
        function(argument)
    return (time.thread_time_ns() - began_ns) / len(arguments) / 1000


def measure(items: int, pages: int, rounds: int) -> dict[str, float]:
    rng = random.Random(items)
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(MemoryLog(), decisions=DecisionStore(Path(folder) / "decisions.db"))
        engine.load()
        fill(engine, items, rng)
        service = Service(engine, Settings(data=folder))
        service.ready = True
        routes, encode = HotRoutes(service), msgspec.json.Encoder().encode
        urls, headers = make_urls(items, pages, rng), [(b"date", b"Thu, 01 Jan 1970 00:00:00 GMT")]

        def answer(url: bytes) -> bytes:
            whole = routes.answer_now(url, headers)
            assert whole is not None, url
            return whole

        bodies = [answer(url).partition(b"\r\n\r\n")[2] for url in urls]
        answers = [msgspec.json.decode(body, type=Recommendation) for body in bodies]
        taken = [(each_us(answer, urls), each_us(encode, answers)) for _ in range(rounds)]
        engine.close()
    whole, least = (min(each) for each in zip(*taken, strict=True))
    return {"page_us": whole, "encode_us": least, "ratio": whole / least}


def main() -> None:
    parser = argparse.ArgumentParser(description="What does a page read cost the event loop?")
    parser.add_argument("--items", type=int, default=4_000)
    parser.add_argument("--pages", type=int, default=3_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--huge-pages", action="store_true", help="have them, as no server has")
    parser.add_argument("--json", action="store_true", help="results as JSON on the last line")
    options = parser.parse_args()
    if not options.huge_pages:
        refuse_huge_pages()
    warm_kernels()
    result = measure(options.items, options.pages, options.rounds)
    print(f"page read {result['page_us']:.1f} us, encoding its answer {result['encode_us']:.1f} us")
    if options.json:
        print(msgspec.json.encode(result).decode())


if __name__ == "__main__":
    main()
