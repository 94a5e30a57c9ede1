"""A producer's schema drifts in the middle of 10,000 good events; nothing is lost or corrupted."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.live.conftest import Live, Start

pytestmark = pytest.mark.live

GOOD = 10_000
START_MS = 1_780_000_000_000
ITEMS = [{"id": f"i{n}", "price": 2.5, "stock": 5, "created": START_MS} for n in range(40)]
LATENESS = {"lateness_ms": 3_600_000, "late": "reject"}
FIX = {
    "fields": {
        "time": {"type": "time", "units": ["milliseconds", "nanoseconds"]},
        "value": {"type": "number", "from_text": True},
        "campaign": {"type": "string"},
        "session": {"type": "string", "default": "unknown"},
    },
}


def good_events(seed: int) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    return [
        {
            "type": chance.choice(["view", "view", "click", "cart_add", "purchase"]),
            "session": f"s{chance.randrange(200)}",
            "item": f"i{chance.randrange(40)}",
            "time": START_MS + number * 100,
            "id": f"e{number}",
            "value": 2.5,
        }
        for number in range(GOOD + 400)
    ]


def drift(event: dict[str, Any], kind: int) -> dict[str, Any]:
    if kind == 0:
        return event | {"time": event["time"] * 1_000_000}
    if kind == 1:
        return event | {"campaign": "spring"}
    if kind == 2:
        return event | {"value": str(event["value"])}
    return {name: value for name, value in event.items() if name != "session"}


CODES = ("time_unit", "unknown_field", "wrong_type", "missing_visitor")


def batches(events: list[Any]) -> Iterator[list[Any]]:
    for first in range(0, len(events), 500):
        yield events[first : first + 500]


def register(server: "Live", **draft: Any) -> None:
    answer = server.client.post("/v1/contracts/events", json=draft)
    assert answer.status_code == 201, answer.text


def pages(server: "Live") -> list[list[str]]:
    answers = [
        server.client.get(f"/v1/recommend/home?session=s{n}&n=10").json() for n in range(0, 200, 9)
    ]
    return [[item["id"] for item in answer["items"]] for answer in answers]


def facts(server: "Live") -> list[Any]:
    found = [server.client.get(f"/v1/items/{item['id']}").json() for item in ITEMS]
    return [{**each, "as_of": 0} for each in found]


@pytest.mark.parametrize("lateness", [{}, LATENESS], ids=["at once", "in order"])
def test_the_drill(start: "Start", tmp_path: Path, lateness: dict[str, Any]) -> None:
    stream = good_events(7)
    bad = {number: (number // 2500) % 4 for number in range(1000, len(stream), 26)}
    good = [event for number, event in enumerate(stream) if number not in bad]
    drifted = [
        drift(event, bad[number]) if number in bad else event for number, event in enumerate(stream)
    ]
    servers = [start(tmp_path / name) for name in ("drifting", "good", "clean")]
    for server in servers:
        assert server.client.put("/v1/items", json=ITEMS).status_code == 202
        register(server, unknown_fields="reject", compatibility="none", **lateness)
    drifting, only_good, clean = servers
    report = Counter[str]()
    for batch in batches(drifted):
        answer = drifting.client.post("/v1/events", json=batch).json()
        report += {name: answer[name] for name in ("accepted", "rejected")}
    for batch in batches(good):
        assert only_good.client.post("/v1/events", json=batch).json()["rejected"] == 0
    assert report == {"accepted": len(good), "rejected": len(bad)}
    counts = Counter(CODES[kind] for kind in bad.values())
    stats = drifting.client.get("/v1/dead-letters/stats").json()
    assert {each["code"]: each["letters"] for each in stats["by_code"]} == counts
    letters = drifting.client.get("/v1/dead-letters?limit=1000").json()
    assert [json.loads(each["text"]) for each in letters] == [drifted[number] for number in bad]
    for code, count in counts.items():
        name = f'onhand_records_rejected_total{{code="{code}",contract="events@2"}}'
        assert drifting.metric(name) == count
    assert pages(drifting) == pages(only_good)
    assert facts(drifting) == facts(only_good)

    register(drifting, unknown_fields="reject", compatibility="none", **FIX)
    retried = drifting.client.post("/v1/dead-letters/retry", json={}).json()
    assert (retried["accepted"], retried["refused"], retried["remaining"]) == (len(bad), 0, 0)
    assert drifting.client.post("/v1/dead-letters/retry", json={}).json()["accepted"] == 0
    register(clean, unknown_fields="reject", compatibility="none", **FIX)
    for batch in batches(as_fixed(drifted, bad)):
        assert clean.client.post("/v1/events", json=batch).json()["rejected"] == 0
    assert facts(drifting) == facts(clean)
    if lateness:
        assert pages(drifting) == pages(clean)
        assert state(drifting) == state(clean)


def as_fixed(drifted: list[Any], bad: dict[int, int]) -> list[Any]:
    """What the producer would have sent had it never drifted from the fixed contract."""
    return [
        event | {"time": event["time"] // 1_000_000}
        if bad.get(number) == 0
        else event | {"value": 2.5}
        if bad.get(number) == 2
        else event
        for number, event in enumerate(drifted)
    ]


def state(server: "Live") -> dict[str, bytes]:
    """Everything in the state that the events make, byte by byte, from the data folder."""
    import signal

    from onhand.settings import Settings
    from onhand.wiring import build_engine

    server.stop(signal.SIGTERM)
    engine = build_engine(Settings(data=str(server.data)))
    engine.load()
    dump = engine.snapshot()
    engine.close()
    dump.texts.offset = 0
    dump.texts.controls = {}
    arrays, values = dump.encode()
    return {name: array.tobytes() for name, array in arrays.items()} | values
