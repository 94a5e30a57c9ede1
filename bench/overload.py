"""How much of what an overload does to goodput is Onhand's, and how much the machine's?

    .venv/bin/python bench/overload.py [--seconds 60] [--rounds 1] [--json]

The drill of `onhand simulate overload` (ten times 2,800 pages, 1,000 events and 200 stock changes a
second, then a climb) goes, in turns, to a bare uvicorn ASGI app that answers the bytes of one page
to all and takes records without looking at them, and to a real server with a ranker behind its
pages. The bare app has nothing that an overload could put out of step, so where its worst stretch
of 3 seconds is below its best step, that is the machine.
"""

import argparse
import json
import tempfile
from pathlib import Path

import msgspec

from harness.servers import bare, get
from onhand.offline.simulation.load import Orders
from onhand.offline.simulation.overload import Drill, Goodput, Rate, goodput, plan_drill
from onhand.offline.simulation.plan import Phase, Shop
from onhand.offline.simulation.run import Player
from onhand.offline.simulation.score import Second
from onhand.offline.simulation.yardstick import Yardstick
from onhand.serving.memory import refuse_huge_pages
from sale import PHASE, SEED, ours, prepare

TIMES = 10.0


def play(port: int, shop: Shop, drill: Drill) -> Goodput:
    way = (drill.front.connections, drill.front.waits_s, drill.front.punctual_rate)
    orders = Orders(port, shop, drill.phases, SEED, [], *way)
    seconds: list[Second] = []
    with Yardstick() as yardstick, Player(orders) as player:
        for told in player.told():
            if isinstance(told, Second):
                told.work_us = yardstick.read_us()
                seconds.append(told)
            elif told.error:
                raise RuntimeError(told.error)
    return goodput(seconds, drill.overload)


def show(name: str, good: Goodput) -> None:
    def share(rate: Rate) -> str:
        return f"{rate.pages / good.peak.pages:4.0%} / {rate.even / good.peak.even:4.0%}"

    print(
        f"  {name:<20} peak {good.peak.pages:7,.0f} pages/s   of it, and at its speed: "
        f"median {share(good.median)}   worst 3 s {share(good.worst)}   "
        f"worst second {share(good.worst_second)}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Whose goodput is it?")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="results as JSON on the last line")
    options = parser.parse_args()
    refuse_huge_pages()
    drill = plan_drill(Phase(0, *PHASE), TIMES, options.seconds)
    rounds: list[dict[str, Goodput]] = []
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        print("Loading the shop, training a ranker ...", flush=True)
        shop = prepare(folder / "store")
        body = folder / "page.json"
        with ours(folder / "store", folder / "data", False) as port:
            body.write_bytes(get(port, "/v1/recommend/home?session=s1&n=10")[1])
        for number in range(options.rounds):
            print(f"round {number + 1}")
            turns: dict[str, Goodput] = {}
            for name, server in (
                ("bare ASGI, one page", bare("sale", str(body))),
                ("onhand", ours(folder / "store", folder / "data", False)),
            ):
                with server as port:
                    turns[name] = play(port, shop, drill)
                show(name, turns[name])
            rounds.append(turns)
    if options.json:
        print(json.dumps(msgspec.to_builtins(rounds)))


if __name__ == "__main__":
    main()
