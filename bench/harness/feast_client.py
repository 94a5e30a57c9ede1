# pyright: basic, reportMissingImports=false
"""What runs inside the virtual environment that has `feast`: one JSON object on the last line.

    python feast_client.py sqlite|redis|http|historical FOLDER ROWS.parquet [PORT] [ROUNDS]

`ROWS.parquet` has `item_id`, `event_timestamp` and one float column a feature. A local Feast
repository over it is made in FOLDER and materialized into the named online store; the reads are
timed through Feast's own SDK, or over HTTP from `feast serve`.
"""

import json
import sys
import time
from datetime import timedelta
from pathlib import Path

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource
from feast.repo_config import RepoConfig
from feast.types import Float32
from feast.value_type import ValueType


def make_store(kind: str, folder: Path, rows: Path, port: int) -> tuple[FeatureStore, list[str]]:
    stores = {
        "sqlite": {"type": "sqlite", "path": str(folder / "online.db")},
        "redis": {"type": "redis", "connection_string": f"127.0.0.1:{port}"},
    }
    config = RepoConfig(
        project="bench", provider="local", registry=str(folder / "registry.db"),
        online_store=stores.get(kind, stores["sqlite"]), offline_store={"type": "file"},
        entity_key_serialization_version=3,
    )  # fmt: skip
    store = FeatureStore(config=config)
    frame = pd.read_parquet(rows)
    names = [name for name in frame.columns if name not in ("item_id", "event_timestamp")]
    item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING)
    view = FeatureView(
        name="items", entities=[item], ttl=timedelta(days=3650),
        schema=[Field(name=name, dtype=Float32) for name in names],
        source=FileSource(path=str(rows), timestamp_field="event_timestamp"),
    )  # fmt: skip
    store.apply([item, view])
    if kind != "historical":
        store.write_to_online_store("items", df=frame.drop_duplicates("item_id", keep="last"))
    return store, [f"items:{name}" for name in names]


def timed(read, rounds: int) -> dict[str, float]:
    for _ in range(5):
        read()
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        read()
        took.append((time.perf_counter() - began) * 1000)
    took.sort()
    return {"p50_ms": took[len(took) // 2], "p99_ms": took[int(len(took) * 0.99)]}


def main() -> None:
    kind, folder, rows = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    port = int(sys.argv[4]) if len(sys.argv) > 4 else 0
    rounds = int(sys.argv[5]) if len(sys.argv) > 5 else 100
    store, features = make_store(kind, folder, rows, port)
    if kind == "historical":
        labels = pd.read_parquet(folder / "labels.parquet")
        began = time.perf_counter()
        done = store.get_historical_features(entity_df=labels, features=features).to_df()
        print(json.dumps({"seconds": time.perf_counter() - began, "rows": len(done)}))
        return
    ids = pd.read_parquet(rows)["item_id"].drop_duplicates().head(500).tolist()
    entities = [{"item_id": each} for each in ids]
    if kind == "http":
        import threading

        import requests
        import uvicorn
        from feast.feature_server import get_app

        server = uvicorn.Server(
            uvicorn.Config(get_app(store), host="127.0.0.1", port=port, log_level="error")
        )
        threading.Thread(target=server.run, daemon=True).start()
        while not server.started:
            time.sleep(0.05)
        session = requests.Session()
        body = {"features": features, "entities": {"item_id": ids}}
        address = f"http://127.0.0.1:{port}/get-online-features"

        def read() -> None:
            answer = session.post(address, json=body)
            assert len(answer.json()["results"]) == len(features) + 1
    else:

        def read() -> None:
            store.get_online_features(features=features, entity_rows=entities).to_dict()

    print(json.dumps(timed(read, rounds)))


if __name__ == "__main__":
    main()
