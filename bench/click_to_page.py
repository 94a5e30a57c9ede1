"""How soon does a page know a click, and what do pages pay for lists made behind them?

    .venv/bin/python bench/click_to_page.py [--clicks 400] [--seconds 4] [--json]

A synthetic shop and a ranker of 250 trees on a real server. Idle, one visitor after the other
clicks, and asks for a page as soon as the click is acknowledged: the answer is as of the click.
The server tells how long it took until the visitor's list, all features and the model, knew it
too. Then wrk reads pages at the pace of 10 million an hour, beside clicks from other threads, one
of which asks for a page after each, with the model active and, in turns, without. All share the
machine.
"""

import argparse
import json
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from random import Random
from typing import Any

import lightgbm
import msgspec
import numpy as np

from harness.load import Load, wrk
from harness.servers import get, onhand, send
from onhand.app import App
from onhand.decision.prepared import Reader
from onhand.ranking.artefact import ModelStore
from onhand.ranking.card import Card, Data, Quality
from onhand.ranking.model import Model
from onhand.ranking.trees import TreeEnsemble
from page import _PACE, _VISITORS, PACED_CONNECTIONS, VISITS, make_events, make_items, show

ITEMS = 4_000
TREES = 250
CLICKS_A_SECOND = 300
CLICKERS = 16
ROUNDS = 3


class Clicks(msgspec.Struct):
    """Clicks a second; milliseconds from a click's acknowledgement to the page that knows it; lists
    that were made, and until they knew it, as the bound of the server's histogram under which so
    many were."""

    clicks_per_s: float
    page_p50: float
    page_p99: float
    lists: int
    list_p50: float
    list_p99: float


def save_model(folder: Path) -> str:
    """Save a ranker over all features there are, of the size that `onhand train` makes."""
    reader = Reader.every(App().features)
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((4_000, len(reader.names))).astype(np.float32)
    parameters = {"verbose": -1, "use_missing": False, "num_leaves": 31, "seed": 1}
    labels = lightgbm.Dataset(rows, rows[:, :20].sum(axis=1) + rng.standard_normal(len(rows)))
    trees = TreeEnsemble.from_lightgbm(lightgbm.train(parameters, labels, TREES).dump_model())
    quality = {"model": Quality(1, 0.2, 0.1, 0.1), "popular": Quality(1, 0.1, 0.1, 0.1)}
    card = Card(Data(1, 2, 0, 1, 1, 1, "none"), quality, {}, {}, 1.0, "bench")
    model = Model("bench", 1, reader.names, reader.definitions, trees)
    ModelStore(folder / "models").save(model, card)
    return model.label


def call(connection: HTTPConnection, method: str, path: str, body: Any = None) -> Any:
    content = None if body is None else json.dumps(body)
    connection.request(method, path, content, {"content-type": "application/json"})
    response = connection.getresponse()
    answer = response.read()
    assert response.status in (200, 202), answer[:300]
    return json.loads(answer)


def click(connection: HTTPConnection, rng: Random) -> tuple[str, int]:
    session = f"s{rng.randrange(VISITS)}"
    event = {"type": "click", "session": session, "item": f"item-{rng.randrange(1, ITEMS, 2)}"}
    return session, call(connection, "POST", "/v1/events", event)["offset"]


def click_and_look(connection: HTTPConnection, rng: Random) -> float:
    """Click, and return how long after its acknowledgement there was a page that knows it, ms."""
    session, offset = click(connection, rng)
    began = time.perf_counter()
    page = call(connection, "GET", f"/v1/recommend/home?session={session}")
    assert page["as_of"] >= offset
    return (time.perf_counter() - began) * 1000


def idle_clicks(port: int, clicks: int) -> Clicks:
    rng, connection = Random(2), HTTPConnection("127.0.0.1", port, timeout=20)
    took: list[float] = []
    before, began = buckets(port), time.perf_counter()
    for _ in range(clicks):
        took.append(click_and_look(connection, rng))
        time.sleep(0.01)
    return summary(clicks / (time.perf_counter() - began), took, since(before, port))


def summary(clicks_per_s: float, took: list[float], seen: list[tuple[float, float]]) -> Clicks:
    page_p50, page_p99 = (float(each) for each in np.percentile(took, [50, 99]))
    lists = seen[-1][1]
    bounds = (at(seen, 0.5), at(seen, 0.99)) if lists else (0.0, 0.0)
    return Clicks(clicks_per_s, page_p50, page_p99, int(lists), *bounds)


def buckets(port: int) -> list[tuple[float, float]]:
    """The cumulative histogram of how long lists took to follow a click: bounds in ms."""
    name = "onhand_click_to_prepared_seconds_bucket"
    lines = get(port, "/metrics")[1].decode().splitlines()
    found = [line.split('"')[1:] for line in lines if line.startswith(name)]
    return [(float(bound) * 1000, float(rest.split()[-1])) for bound, rest in found]


def since(before: list[tuple[float, float]], port: int) -> list[tuple[float, float]]:
    """What the histogram has more than before."""
    return [
        (bound, count - was) for (bound, count), (_, was) in zip(buckets(port), before, strict=True)
    ]


def activate(admin: HTTPConnection, port: int, label: str) -> None:
    """Activate the model, and wait until its list follows a click: its process is there."""
    call(admin, "POST", f"/v1/models/{label}/activate")
    before = buckets(port)
    for _ in range(600):
        click(admin, Random(4))  # always the same visitor: nobody else is left waiting
        time.sleep(0.1)
        if since(before, port)[-1][1]:
            return
    raise SystemExit("The model made no list within a minute.")


def at(seen: list[tuple[float, float]], share: float) -> float:
    return next(bound for bound, count in seen if count >= share * seen[-1][1])


def under_load(port: int, seconds: float) -> tuple[Load, Clicks]:
    """wrk's pages at the pace of 10 million an hour beside clicks at an even pace, each clicker one
    at a time; the first of them looks at a page after each."""
    ended = threading.Event()
    took: list[float] = []
    before = buckets(port)

    def keep_clicking(seed: int) -> int:
        rng, connection = Random(seed), HTTPConnection("127.0.0.1", port, timeout=20)
        clicks, due = 0, time.perf_counter()
        while not ended.is_set():
            if seed:
                click(connection, rng)
            else:
                took.append(click_and_look(connection, rng))
            clicks += 1
            due += CLICKERS / CLICKS_A_SECOND
            time.sleep(max(due - time.perf_counter(), 0))
        return clicks

    with ThreadPoolExecutor(CLICKERS) as pool:
        clicking = [pool.submit(keep_clicking, seed) for seed in range(CLICKERS)]
        try:
            load = wrk(port, seconds, PACED_CONNECTIONS, _PACE + _VISITORS)
        finally:
            ended.set()
    clicks_per_s = sum(each.result() for each in clicking) / load.seconds
    return load, summary(clicks_per_s, took, since(before, port))


def tell(when: str, clicks: Clicks) -> None:
    print(
        f"{when}: click acknowledged to page p50 {clicks.page_p50:.2f},"
        f" p99 {clicks.page_p99:.2f} ms;"
        f" folded to list p50 under {clicks.list_p50:g}, p99 under {clicks.list_p99:g} ms"
        f" ({clicks.clicks_per_s:,.0f} clicks a second, {clicks.lists:,} lists)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="How soon does a page know a click?")
    parser.add_argument("--clicks", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--json", action="store_true", help="results as JSON on the last line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, onhand(Path(folder) / "data") as port:
        label = save_model(Path(folder) / "data")
        rng = Random(ITEMS)
        send(port, "PUT", "/v1/items", make_items(ITEMS, rng))
        send(port, "POST", "/v1/events", make_events(ITEMS, rng))
        admin = HTTPConnection("127.0.0.1", port, timeout=60)
        activate(admin, port, label)
        idle_clicks(port, 20)
        idle = idle_clicks(port, options.clicks)
        rounds: list[tuple[Load, Load]] = []
        loaded: list[Clicks] = []
        for _ in range(ROUNDS):
            call(admin, "POST", "/v1/models/deactivate")
            without, _ = under_load(port, options.seconds)
            activate(admin, port, label)
            with_model, clicks = under_load(port, options.seconds)
            loaded.append(clicks)
            rounds.append((with_model, without))
    tell("idle", idle)
    for clicks in loaded:
        tell("under load", clicks)
    lists, none = sorted(rounds, key=lambda pair: pair[0].p99_us / pair[1].p99_us)[ROUNDS // 2]
    print(f"pages at 10 million an hour beside up to {CLICKS_A_SECOND} clicks a second")
    show("lists made behind", lists)
    show("no model", none)
    if options.json:
        result = {"idle": idle, "loaded": loaded, "lists": lists, "none": none}
        print(msgspec.json.encode(result).decode())


if __name__ == "__main__":
    main()
