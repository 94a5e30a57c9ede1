"""How much of a page's latency during a flash sale is Onhand's, and how much the machine's?

    .venv/bin/python bench/sale.py [--seconds 20] [--rounds 3] [--json]

The load of `onhand simulate flash-sale` (2,800 pages, 1,000 events, 200 stock changes a second, in
an open loop, on the same machine) goes, in turns, to a real server with a ranker behind its pages,
to one that keeps the processors `awake`, and to a bare uvicorn ASGI app that answers the bytes of
one page to all, and takes records without looking at them. Beside each turn stands what the host
took of the processors meanwhile.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from harness.servers import bare, get, onhand
from onhand.contracts.models import control_of
from onhand.engine import Engine
from onhand.offline.shop.play import UNTIL, Play
from onhand.offline.shop.store import load_shop
from onhand.offline.simulation.load import Orders
from onhand.offline.simulation.plan import Phase, Shop
from onhand.offline.simulation.run import Player
from onhand.offline.simulation.score import Second, Total

PHASE = (2_800.0, 1_000.0, 200.0)
"""Pages, events, stock changes a second."""
LISTS_S = 5
"""The ranker's process is up by then."""
SEED = 7


class Turn(Struct):
    """One turn: of all its pages, the median of its seconds' p99, how late the load itself was, and
    the share of the processors' time that the host took."""

    p50_ms: float
    p99_ms: float
    p999_ms: float
    second_p99_ms: float
    late_p99_ms: float
    unanswered: int
    taken: float


def play(port: int, shop: Shop, seconds: float) -> Turn:
    orders = Orders(port, shop, [Phase(seconds, *PHASE)], SEED)
    before, began_s = read_taken_s(), time.monotonic()
    with Player(orders) as player:
        told = list(player.told())
    taken = (read_taken_s() - before) / (time.monotonic() - began_s)
    each = [second.p99_ms for second in told if isinstance(second, Second) and second.answered]
    total = next(what for what in told if isinstance(what, Total))
    whole = total.whole
    if total.error:
        raise RuntimeError(total.error)
    return Turn(
        whole.p50_ms,
        whole.p99_ms,
        whole.p999_ms,
        float(np.median(each)),
        total.lag_p99_ms,
        whole.failed,
        taken,
    )


def read_taken_s() -> float:
    """Seconds that the host has taken from a processor, the average of all; Linux counts
    hundredths."""
    lines = Path("/proc/stat").read_text().splitlines()
    processors = sum(line.startswith("cpu") for line in lines) - 1
    return int(lines[0].split()[8]) / 100 / processors


def prepare(data: Path) -> Shop:
    """Load the bundled shop, and learn a ranker from it."""
    books = Play(UNTIL, time.time_ns() // 1_000_000)
    load_shop(data, books, lambda *_: None)
    train = [sys.executable, "-m", "onhand", "train", "--data", str(data), "--most", "2000"]
    subprocess.run(train, check=True, stdout=subprocess.DEVNULL)
    engine = Engine.open(data)
    try:
        engine.ingest([control_of(engine.models.check("ranker@1"))])
    finally:
        engine.close()
    return Shop.of(books)


@contextmanager
def ours(kept: Path, data: Path, awake: bool) -> Generator[int]:
    """A server on a copy of the store, so that the same sale can be played again."""
    shutil.copytree(kept, data)
    try:
        with onhand(data, ONHAND_AWAKE=str(awake).lower()) as port:
            time.sleep(LISTS_S)
            yield port
    finally:
        shutil.rmtree(data)


def show(name: str, turn: Turn) -> None:
    print(
        f"  {name:<22} p50 {turn.p50_ms:6.2f}   p99 {turn.p99_ms:6.2f}   "
        f"p99.9 {turn.p999_ms:6.2f} ms   median second's p99 {turn.second_p99_ms:6.2f}   "
        f"load late {turn.late_p99_ms:5.2f}   unanswered {turn.unanswered}   "
        f"host took {turn.taken:5.1%}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Whose latency is it?")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="results as JSON on the last line")
    options = parser.parse_args()
    rounds: list[dict[str, Turn]] = []
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        print("Loading the shop, training a ranker ...", flush=True)
        shop = prepare(folder / "store")
        body = folder / "page.json"
        for number in range(options.rounds):
            print(f"round {number + 1}")
            turns: dict[str, Turn] = {}
            for name, server in (
                ("onhand", ours(folder / "store", folder / "data", False)),
                ("onhand, awake", ours(folder / "store", folder / "data", True)),
                ("bare ASGI, one page", bare("sale", str(body))),
            ):
                with server as port:
                    if not body.exists():
                        body.write_bytes(get(port, "/v1/recommend/home?session=s1&n=10")[1])
                    turns[name] = play(port, shop, options.seconds)
                show(name, turns[name])
            rounds.append(turns)
    if options.json:
        print(json.dumps(msgspec.to_builtins(rounds)))


if __name__ == "__main__":
    main()
