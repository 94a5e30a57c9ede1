"""Reading 40 features of 500 candidates: Onhand's gather, and the same read through Feast.

    .venv/bin/python bench/features_gather.py [--rounds 300] [--no-feast] [--json]

In-process: one `Vector.gather` of 500 rows x 40 features that are counted live, against
`get_online_features` of Feast's own SDK for the same 500 items x 40 values, from its embedded
online store (SQLite) and from Redis. Over HTTP: `POST /v1/features` and Onhand's
`/get-online-features` on a real server, against Feast's Python feature server, by the same client.
Feast runs in a virtual environment of its own; its values were computed by Onhand and written into
its stores beforehand, so that it only has to read them.
"""

import argparse
import json
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import polars as pl

from fold import START_MS, shop
from harness.feast_env import run_feast
from harness.servers import free_port, onhand, send
from onhand.app import App
from onhand.features.set import Asker
from onhand.state.state import Limits, State

CANDIDATES = 500
FEATURES = 40


def timed(read: Callable[[], object], rounds: int) -> dict[str, float]:
    for _ in range(20):
        read()
    took: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        read()
        took.append((time.perf_counter() - began) * 1000)
    return {"p50_ms": float(np.percentile(took, 50)), "p99_ms": float(np.percentile(took, 99))}


def post(connection: HTTPConnection, path: str, body: bytes) -> bytes:
    connection.request("POST", path, body, {"content-type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise RuntimeError(content[:500].decode())
    return content


def over_http(
    batches: Sequence[Sequence[object]], names: list[str], ids: list[str], rounds: int
) -> dict[str, dict[str, float]]:
    native = json.dumps({"features": names, "entities": [{"item": id} for id in ids]}).encode()
    feast = {"features": [f"items:{name}" for name in names], "entities": {"item_id": ids}}
    with tempfile.TemporaryDirectory() as folder, onhand(Path(folder)) as port:
        records = [record for batch in batches for record in batch]
        send(port, "PUT", "/v1/items", [r for r in records if type(r).__name__ == "Item"])
        send(port, "POST", "/v1/events", [r for r in records if type(r).__name__ == "Event"])
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        body = json.dumps(feast).encode()
        return {
            "onhand http /v1/features": timed(
                lambda: json.loads(post(connection, "/v1/features", native)), rounds
            ),
            "onhand http /get-online-features": timed(
                lambda: json.loads(post(connection, "/get-online-features", body)), rounds
            ),
        }


def redis(stack: ExitStack, folder: Path) -> int:
    port = free_port()
    process = subprocess.Popen(
        ["redis-server", "--port", str(port), "--save", "", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    time.sleep(1)
    return port


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=300)
    options.add_argument("--no-feast", action="store_true")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    batches = shop(100_000, random.Random(1))
    features = App().features
    names = [f.name for f in features.features if set(f.entities) <= {"item", "session", "user"}]
    names = [*[n for n in names if n.startswith("item")], *[n for n in names if n[:4] != "item"]][
        :FEATURES
    ]
    limits = Limits()
    state = State(limits, features.accumulators(limits))
    for batch in batches:
        state.apply(batch, state.offset + len(batch))
    vector = features.vector(names)
    now_ms = START_MS + 100_000 * 20
    rng = np.random.default_rng(1)
    askers = [Asker(int(n), int(n)) for n in rng.integers(1, 2_000, 64)]
    picks = [rng.choice(4_000, CANDIDATES, replace=False) + 1 for _ in range(64)]
    turn = iter(range(10**9))

    def read() -> None:
        at = next(turn) % 64
        vector.gather(state, askers[at], picks[at], now_ms)

    results = {"onhand gather": timed(read, 10 * given.rounds)}
    ids = [state.items.names[row] for row in range(1, 4_001)]
    results |= over_http(batches[:40], names, ids[:CANDIDATES], given.rounds)
    if not given.no_feast:
        values = vector.gather(state, askers[0], np.arange(1, 4_001), now_ms)
        moment = datetime.now(UTC)
        frame = pl.DataFrame({"item_id": ids, "event_timestamp": [moment] * len(ids)}).with_columns(
            pl.Series(name, values[:, at]) for at, name in enumerate(names)
        )
        with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
            folder = Path(name)
            frame.write_parquet(folder / "rows.parquet")
            rows, rounds = str(folder / "rows.parquet"), str(max(given.rounds // 5, 20))
            for kind in ("sqlite", "redis", "http"):
                port = redis(stack, folder) if kind == "redis" else free_port()
                place = folder / kind
                place.mkdir()
                results[f"feast {kind}"] = run_feast(kind, str(place), rows, str(port), rounds)
    for label, each in results.items():
        print(f"{label:34} p50 {each['p50_ms']:9.3f} ms   p99 {each['p99_ms']:9.3f} ms")
    if "feast http" in results:
        best = min(results["feast sqlite"]["p50_ms"], results["feast redis"]["p50_ms"])
        http = min(
            each["p50_ms"] for label, each in results.items() if label.startswith("onhand http")
        )
        ratio = best / results["onhand gather"]["p50_ms"]
        print(f"in-process: {ratio:.0f} times faster than the better of Feast's stores")
        ratio = results["feast http"]["p50_ms"] / http
        print(f"over HTTP: {ratio:.1f} times faster than Feast's feature server")
    if given.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
