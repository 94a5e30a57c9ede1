"""Features, explanations, replay and backfill over the real server and the real command line."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

if TYPE_CHECKING:
    from tests.live.conftest import Live, Start

pytestmark = pytest.mark.live

FEAST_CLIENT = """
import json, sys
from datetime import timedelta
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.repo_config import RepoConfig
from feast.types import Bool, Float32, Int64, String

folder, address = sys.argv[1:]
store = FeatureStore(config=RepoConfig(
    project="shop", provider="local", registry=folder + "/registry.db",
    online_store={"type": "remote", "path": address}, offline_store={"type": "file"},
    entity_key_serialization_version=3,
))
user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
view = FeatureView(
    name="users", entities=[user], ttl=timedelta(days=30),
    schema=[Field(name="user_clicks_7d", dtype=Int64), Field(name="user_spent_30d", dtype=Float32),
            Field(name="user_top_category", dtype=String)],
    source=FileSource(path=folder + "/none.parquet", timestamp_field="event_timestamp"),
)
store.apply([user, view])
names = ["users:user_clicks_7d", "users:user_spent_30d", "users:user_top_category"]
rows = [{"user_id": "ann"}, {"user_id": "nobody"}]
whole = store.get_online_features(features=names, entity_rows=rows)
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
keys = [
    EntityKey(join_keys=["user_id"], entity_values=[Value(string_val=row["user_id"])])
    for row in rows
]
read = store._get_provider().online_store.online_read(
    store.config, view, keys, [name.split(":")[1] for name in names]
)
print(json.dumps({
    "values": whole.to_dict(),
    "statuses": [[int(status) for status in result.statuses] for result in whole.proto.results],
    "typed": [
        {name: value.WhichOneof("val") for name, value in values.items()} for _, values in read
    ],
}))
"""


def onhand(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "onhand", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def fill(live: "Live") -> int:
    """A small shop with one buyer; return a moment before the purchase."""
    now_ms = time.time_ns() // 1_000_000 - 60_000
    client = live.client
    mugs = [{"id": f"mug{n}", "category": "mugs", "price": 4.5, "stock": 9} for n in range(5)]
    assert client.put("/v1/items", json=mugs).status_code == 202
    who = {"user": "ann", "session": "s1", "item": "mug1"}
    events: list[dict[str, Any]] = [
        {"type": "view", "time": now_ms, **who},
        {"type": "click", "time": now_ms + 100, **who},
        {"type": "purchase", "time": now_ms + 30_000, "value": 4.5, "quantity": 2, **who},
    ]
    assert client.post("/v1/events", json=events).json()["accepted"] == 3
    return now_ms + 20_000


def test_features_of_entities_and_a_page_explained(start: "Start", tmp_path: Path):
    live = start()
    before_ms = fill(live)
    names = ["item_sales_1d", "user_top_category", "item_stock"]
    body = {"entities": [{"item": "mug1", "user": "ann"}, {"item": "none"}], "features": names}
    answer = live.client.post("/v1/features", json=body).json()
    assert answer["features"] == names
    assert answer["values"] == [[2, "mugs", 9], [0, None, 1_000_000]]
    assert answer["as_of"] == 8
    refused = live.client.post("/v1/features", json={**body, "features": ["nonsense"]})
    assert (refused.status_code, refused.json()["code"]) == (404, "unknown_feature")

    page = live.client.get("/v1/recommend/home?user=ann&session=s1&n=3").json()
    time.sleep(0.3)
    told = live.client.get(f"/v1/decisions/{page['decision']}/explain").json()
    assert told["same"]
    assert told["candidates"][0]["item"] == page["items"][0]["id"]
    assert {each["item"]: each["dropped"] for each in told["candidates"]}["mug1"] == "bought"

    data = ["--data", str(live.data)]
    replayed = onhand("replay", page["decision"], *data)
    assert replayed.returncode == 0, replayed.stderr
    assert "1 equal to the byte, 0 not" in replayed.stdout
    assert onhand("replay", "--since", "1h", *data).returncode == 0
    refused_model = onhand("replay", page["decision"], "--with-model", "other@2", *data)
    assert (refused_model.returncode, "no model other@2" in refused_model.stderr) == (1, True)
    explained = onhand("explain", page["decision"], "--json", *data)
    assert json.loads(explained.stdout)["same"]

    labels = pl.DataFrame({"item": ["mug1", "mug1"], "time": [before_ms, before_ms + 60_000]})
    labels.write_parquet(tmp_path / "labels.parquet")
    out = tmp_path / "train.parquet"
    done = onhand(
        "features",
        "backfill",
        "--labels",
        str(tmp_path / "labels.parquet"),
        "--out",
        str(out),
        *data,
    )
    assert done.returncode == 0, done.stderr
    assert pl.read_parquet(out)["item_sales_1d"].to_list() == [0, 2]
    shown = onhand("features", "backfill", "--decisions", "--out", str(out), *data)
    assert shown.returncode == 0, shown.stderr
    assert pl.read_parquet(out).height == len(page["items"])
    listed = onhand("features", "list")
    assert "item_clicks_30s" in listed.stdout


def test_an_app_file_is_served(tmp_path: Path):
    app = tmp_path / "shop.py"
    app.write_text(
        "import onhand\nfrom onhand.features.declare import count\n"
        "shop = onhand.App()\nshop.feature(count('hover', by='item', window='5m', name='hovers'))\n"
    )
    listed = onhand("features", "list", str(app), "--json")
    assert "hovers" in [json.loads(line)["name"] for line in listed.stdout.splitlines()]
    app.write_text("import onhand\n")
    assert "declares 0 apps" in onhand("features", "list", str(app)).stderr


def test_a_new_app_is_prepared_while_the_old_one_serves(start: "Start", tmp_path: Path):
    live = start()
    fill(live)
    app = tmp_path / "shop.py"
    app.write_text(
        "import onhand\nfrom onhand.features.declare import count\n"
        "shop = onhand.App()\nshop.feature(count('click', by='item', window='6h', name='new'))\n"
        "shop.event('wish')\n"
    )
    done = onhand("prepare", str(app), "--data", str(live.data))
    assert (done.returncode, "prepared up to offset 8" in done.stdout) == (0, True), done.stderr
    later = {"type": "click", "session": "s2", "item": "mug1"}
    assert live.client.post("/v1/events", json=later).json()["accepted"] == 1
    assert live.stop() == 0
    live = start(live.data, str(app))
    assert "the whole log is folded" not in live.log()
    body = {"entities": [{"item": "mug1"}], "features": ["new", "item_sales_1d"]}
    answer = live.client.post("/v1/features", json=body).json()
    assert (answer["values"], answer["as_of"]) == ([[2, 2]], 10)
    assert len(list((live.data / "checkpoints").iterdir())) == 2


@pytest.mark.feast
def test_the_real_feast_sdk_reads_from_a_remote_store(start: "Start", tmp_path: Path):
    """Set ONHAND_FEAST_VENV to an environment with feast, or let one be made."""
    from harness.feast_env import feast_python  # pyright: ignore[reportMissingImports]

    python = feast_python()
    if python is None:
        pytest.skip("the package feast cannot be installed here")
    live = start()
    fill(live)
    pl.DataFrame({"event_timestamp": []}).write_parquet(tmp_path / "none.parquet")
    script = tmp_path / "client.py"
    script.write_text(FEAST_CLIENT)
    done = subprocess.run(
        [python, script, str(tmp_path), live.url],
        capture_output=True, text=True, check=False, env=os.environ | {"FEAST_USAGE": "False"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["values"] == {
        "user_id": ["ann", "nobody"],
        "user_clicks_7d": [2, None],
        "user_spent_30d": [4.5, None],
        "user_top_category": ["mugs", None],
    }
    present, not_found = 1, 3
    assert told["statuses"] == [[present, present]] + 3 * [[present, not_found]]
    assert told["typed"][0] == {
        "user_clicks_7d": "int64_val",
        "user_spent_30d": "float_val",
        "user_top_category": "string_val",
    }
    assert told["typed"][1] == dict.fromkeys(told["typed"][0], None)
