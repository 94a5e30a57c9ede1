"""Train on a shop's folder, activate over HTTP, and what is refused there."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def onhand(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "onhand", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.live
def test_a_model_is_trained_activated_and_refused(start: Any, tmp_path: Path):
    data = tmp_path / "data"
    server = start(data)
    items = [{"id": f"i{n}", "category": f"c{n % 3}", "price": 1.0 + n} for n in range(30)]
    assert server.client.put("/v1/items", json=items).status_code == 202
    events = [
        {"type": "view", "session": f"s{n}", "item": f"i{(n * 7 + step) % 30}", "time": at_ms}
        for n in range(500)
        for step in range(4)
        if (at_ms := 1_760_000_000_000 + n * 600_000 + step * 1_000)
    ]
    for batch in (events[:1_000], events[1_000:]):
        assert server.client.post("/v1/events", json=batch).status_code == 202
    trained = onhand("train", "--data", str(data), "--most", "500")
    assert trained.returncode == 0, trained.stderr
    assert "onhand models activate ranker@1" in trained.stdout

    url = ("--url", str(server.client.base_url).rstrip("/"))
    assert onhand("models", "list", *url).stdout == "* default@1\n  ranker@1\n"
    card = json.loads(onhand("models", "show", "ranker@1", *url).stdout)
    assert card["quality"]["model"]["ndcg"] > card["quality"]["popular"]["ndcg"]
    assert "ranker@1 ranks from now on" in onhand("models", "activate", "ranker@1", *url).stdout
    models = server.client.get("/v1/models").json()
    assert {"model": "ranker@1", "active": True} in models

    card_file = data / "models" / "ranker@1" / "card.json"
    card_file.write_text(card_file.read_text().replace("0.", "1."))
    refused = server.client.post("/v1/models/ranker@1/activate")
    assert refused.status_code == 422
    assert "card.json is not the file" in refused.json()["detail"]
    assert server.client.post("/v1/models/ranker@9/activate").status_code == 404
    assert server.client.post("/v1/models/..%2Fx/activate").status_code in (400, 404)
    assert server.client.post("/v1/models/deactivate").json()["model"] == "default@1"
