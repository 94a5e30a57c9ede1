"""The server from outside: every route, and what a stop and a restart keep."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from onhand.serving.routes import ROUTES

if TYPE_CHECKING:
    from tests.live.conftest import Live, Start

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("shop")]


def view(session: str, item: str, **fields: Any) -> dict[str, Any]:
    return {"type": "view", "session": session, "item": item, **fields}


def test_a_click_changes_the_next_answer(server: "Live") -> None:
    report = server.post_events([view("s-click", "i1"), view("s-click", "i2")])
    assert (report["accepted"], report["rejected"], report["duplicates"]) == (2, 0, 0)
    page = server.client.get("/v1/recommend/home", params={"session": "s-click", "n": 5}).json()
    assert page["as_of"] >= report["offset"]
    assert page["slot"] == "home"
    assert page["degraded"] is None
    assert 1 <= len(page["items"]) <= 5


def test_a_sold_out_item_is_gone_from_the_next_answer(server: "Live") -> None:
    ask = {"session": "s-gone", "n": 100}
    before = server.client.get("/v1/recommend/home", params=ask).json()
    first = before["items"][0]["id"]
    answer = server.client.post("/v1/signals", json={"item": first, "stock": 0})
    assert answer.status_code == 202
    after = server.client.get("/v1/recommend/home", params=ask).json()
    assert first not in [item["id"] for item in after["items"]]
    assert server.client.post("/v1/signals", json={"item": first, "stock": 3}).status_code == 202


def test_get_and_post_ask_the_same(server: "Live") -> None:
    by_get = server.client.get(
        "/v1/recommend/product?session=s9&n=3&item=i3&exclude=i4,i6&exclude=i7&country=GB"
    ).json()
    by_post = server.client.post(
        "/v1/recommend/product",
        json={
            "session": "s9",
            "n": 3,
            "item": "i3",
            "exclude": ["i4", "i6", "i7"],
            "context": {"country": "GB"},
        },
    ).json()
    assert by_get["items"] == by_post["items"]
    assert not {"i3", "i4", "i6", "i7"} & {item["id"] for item in by_get["items"]}


def split_answers(content: bytes) -> list[tuple[bytes, Any]]:
    """Cut a stream of answers into heads and decoded bodies."""
    answers: list[tuple[bytes, Any]] = []
    while content:
        head, _, content = content.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        answers.append((head, json.loads(content[:length])))
        content = content[length:]
    return answers


def test_a_page_read_is_the_same_whichever_way_it_takes(server: "Live") -> None:
    get = b"GET /v1/recommend/home?session=s9&n=%d HTTP/1.1\r\nhost: x\r\n%b\r\n"
    last = get % (3, b"connection: close\r\n")
    (plain_head, plain), (last_head, closing) = split_answers(server.raw(get % (3, b"") + last))
    assert plain["items"] == closing["items"]
    kept = [line for line in plain_head.split(b"\r\n") if b"content-length" not in line]
    closed = [line for line in last_head.split(b"\r\n") if b"content-length" not in line]
    assert [*kept, b"connection: close"] == closed
    with_body = get % (3, b"content-length: 5\r\n") + b"hello" + last
    assert [body["items"] for _, body in split_answers(server.raw(with_body))] == [
        plain["items"],
        plain["items"],
    ]


def read_answer(connection: socket.socket) -> tuple[bytes, Any]:
    """Read one answer to its end; its head and decoded body."""
    content = b""
    while b"\r\n\r\n" not in content:
        content += connection.recv(65536)
    head, _, body = content.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    assert len(body) == length
    return head, json.loads(body)


def test_header_lines_may_repeat_on_a_connection(server: "Live") -> None:
    page = b"GET /v1/recommend/home?session=s9&n=%d HTTP/1.1\r\nhost: x\r\n\r\n"
    post = b"POST /v1/%b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:

        def ask(*parts: bytes) -> tuple[bytes, Any]:
            for part in parts:
                connection.sendall(part)
                time.sleep(0.02 * (part is not parts[-1]))
            return read_answer(connection)

        head, first = ask(page % 3)
        for _ in range(3):
            assert ask(page % 3)[1]["items"] == first["items"]
        assert ask(page % 0)[0].startswith(b"HTTP/1.1 400")
        assert len(ask((page % 4)[:40], (page % 4)[40:])[1]["items"]) == 4
        assert len(ask(b"\r\n", page % 2)[1]["items"]) == 2
        for path in (b"events", b"nothing", b"recommend/home"):
            like_a_page = page % 5
            refused, _ = ask(post % (path, len(like_a_page)), like_a_page)
            assert refused.startswith(b"HTTP/1.1 4")
            assert len(ask(page % 2)[1]["items"]) == 2
        assert ask(page % 3)[0].split(b"\r\n")[0] == head.split(b"\r\n")[0]
        closing = (page % 2).replace(b"host: x", b"host: x\r\nconnection: close")
        assert len(ask(closing)[1]["items"]) == 2
        assert connection.recv(1) == b""


def test_pipelined_requests_are_answered_in_order(server: "Live") -> None:
    asked = [1, 2, 3, 0, 4, 5] * 20
    stream = b"".join(
        b"GET /v1/recommend/home?session=s9&n=%d HTTP/1.1\r\nhost: x\r\n\r\n" % n for n in asked
    )
    stream += b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    *pages, (_, health) = split_answers(server.raw(stream))
    assert [len(body.get("items", [])) for _, body in pages] == asked
    assert [head.split()[1] for head, _ in pages] == [b"200" if n else b"400" for n in asked]
    assert health["status"] == "ok"


def test_similar(server: "Live") -> None:
    page = server.client.get("/v1/similar/i1", params={"n": 4}).json()
    assert page["slot"] == "similar"
    assert len(page["items"]) == 4
    assert server.client.get("/v1/similar/nothing").status_code == 404


def test_an_item_s_life(server: "Live") -> None:
    client = server.client
    path = "/v1/items/life%2Fone"
    assert client.put("/v1/items", json={"id": "life/one", "title": "A"}).status_code == 202
    assert client.patch(path, json={"price": 3.5}).status_code == 202
    found = client.get(path).json()
    assert (found["item"]["title"], found["price"]) == ("A", 3.5)
    assert client.delete(path).status_code == 202
    assert client.get(path).status_code == 404
    for gone in (client.patch(path, json={"price": 1}), client.delete(path)):
        assert gone.status_code == 404
        assert gone.json()["code"] == "unknown_item"


def test_a_decision_s_record(server: "Live") -> None:
    page = server.client.get("/v1/recommend/home", params={"session": "s-record"}).json()
    record = server.client.get(f"/v1/decisions/{page['decision']}")
    assert record.status_code == 200
    assert record.headers["content-type"] == "application/json"
    assert page["decision"] in record.text
    assert server.client.get("/v1/decisions/none").status_code == 404


def test_ndjson_and_one_bad_line(server: "Live") -> None:
    lines = "\n".join(
        [json.dumps(view("n1", "i1")), '{"type":"view"}', "nonsense", json.dumps(view("n1", "i2"))]
    )
    answer = server.client.post(
        "/v1/events", content=lines, headers={"content-type": "application/x-ndjson"}
    )
    assert answer.status_code == 202
    report = answer.json()
    assert (report["accepted"], report["rejected"]) == (2, 2)
    assert [error["index"] for error in report["errors"]] == [1, 2]


def test_nothing_accepted_is_422_and_duplicates_are_202(server: "Live") -> None:
    refused = server.client.post("/v1/events", json=[{"type": "view"}, {"type": "x y"}])
    assert refused.status_code == 422
    assert refused.headers["content-type"] == "application/problem+json"
    document = refused.json()
    assert (document["code"], document["rejected"]) == ("nothing_accepted", 2)
    assert [error["index"] for error in document["errors"]] == [0, 1]
    event = view("twice", "i1", id="twice-1")
    assert server.post_events([event])["accepted"] == 1
    assert server.post_events([event]) | {"offset": 0, "errors": []} == {
        "accepted": 0,
        "duplicates": 1,
        "rejected": 0,
        "offset": 0,
        "errors": [],
    }
    assert server.post_events([])["accepted"] == 0


def test_operation_routes(server: "Live") -> None:
    client = server.client
    assert client.get("/healthz").json()["status"] == "ok"
    assert client.get("/readyz").json()["ready"] is True
    assert client.get("/openapi.json").json()["openapi"] == "3.1.0"
    for path in ("/", "/docs"):
        page = client.get(path)
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert "src=" not in page.text.replace("data:", "")
        assert "://" not in page.text.replace("http://127.0.0.1", "").replace(
            "http://www.w3.org/2000/svg", ""
        )
    text = client.get("/metrics").text
    for name in (
        "onhand_requests_total",
        "onhand_decisions_total",
        "onhand_records_accepted_total",
        "onhand_records_rejected_total",
        "onhand_items_kept_off_total",
        "onhand_page_read_seconds_bucket",
        "onhand_ingest_seconds_bucket",
        "onhand_commit_seconds_bucket",
        "onhand_commit_requests_bucket",
        "onhand_event_loop_lag_seconds_bucket",
        "onhand_fold_offset",
        "onhand_log_offset",
    ):
        assert name in text
    assert client.head("/healthz").status_code == 200
    assert client.head("/v1/recommend/home").status_code == 200


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_every_route_of_the_table_is_served(server: "Live", route: Any) -> None:
    path = route.path.format(
        slot="home",
        item="i1",
        id="i1",
        name="events",
        number=1,
        model="ranker@1",
        subject="events-value",
        version="latest",
    )
    body = route.body.example if route.body else None
    answer = server.client.request(route.method, path, json=body)
    assert answer.status_code in (*route.answers, 404, 422), answer.text
    if answer.status_code == 404:
        assert answer.json()["code"].startswith("unknown_")
        assert answer.json()["code"] != "unknown_route"


def test_concurrent_posts_share_commits(server: "Live") -> None:
    before = server.metric("onhand_commit_seconds_count")
    posts, threads = 40, 20

    def post(worker: int) -> int:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            for number in range(posts):
                event = view(f"w{worker}", "i1", id=f"w{worker}-{number}")
                assert client.post("/v1/events", json=event).status_code == 202
        return posts

    with ThreadPoolExecutor(threads) as pool:
        assert sum(pool.map(post, range(threads))) == posts * threads
    commits = server.metric("onhand_commit_seconds_count") - before
    assert commits < posts * threads * 0.9


def test_a_stop_is_graceful_and_a_restart_remembers(start: "Start") -> None:
    first = start()
    assert first.client.put("/v1/items", json={"id": "a", "stock": 3}).status_code == 202
    offset = first.post_events([view("s", "a", id="once")])["offset"]
    page = first.client.get("/v1/recommend/home?session=t").json()
    assert first.stop() == 0
    assert any((first.data / "checkpoints").rglob("*.checkpoint"))

    second = start()
    assert second.client.get("/readyz").json() == {"ready": True, "offset": offset}
    assert second.post_events([view("s", "a", id="once")])["duplicates"] == 1
    again = second.client.get("/v1/recommend/home?session=t").json()
    assert again["items"] == page["items"]
    assert again["as_of"] == offset


def test_what_is_acknowledged_before_a_stop_is_there_after_it(start: "Start") -> None:
    first = start()
    acknowledged: list[int] = []

    def post(worker: int) -> None:
        number = 0
        with httpx.Client(base_url=first.url, timeout=60) as client:
            while True:
                events = [view(f"w{worker}", "a", id=f"w{worker}-{number}-{k}") for k in range(5)]
                try:
                    answer = client.post("/v1/events", json=events)
                except httpx.TransportError:
                    return
                if answer.status_code != 202:
                    return
                acknowledged.append(answer.json()["accepted"])
                number += 1

    workers = [threading.Thread(target=post, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    while len(acknowledged) < 50:
        assert first.process.poll() is None
    assert first.stop() == 0
    for worker in workers:
        worker.join()
    second = start()
    assert second.client.get("/readyz").json()["offset"] >= sum(acknowledged)


def test_a_kill_loses_nothing_acknowledged(start: "Start") -> None:
    first = start()
    offset = first.post_events([view("s", "a", id=f"k{number}") for number in range(100)])["offset"]
    first.stop(signal.SIGKILL)
    second = start()
    assert second.client.get("/readyz").json()["offset"] == offset
    assert second.post_events([view("s", "a", id="k7")])["duplicates"] == 1


def test_a_second_server_on_the_same_folder_says_so(start: "Start", tmp_path: Path) -> None:
    first = start()
    with pytest.raises(AssertionError, match="open in another process"):
        start()
    assert first.client.get("/readyz").status_code == 200
    assert tmp_path == first.data.parent


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL])
def test_processors_stay_awake_as_long_as_the_server_runs(
    start: "Start", by: signal.Signals
) -> None:
    live = start(ONHAND_AWAKE="true")
    pid, processors = live.process.pid, os.sched_getaffinity(0)
    children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    spinners = [child for child in children if b"awake.py" in command(child)]
    assert len(spinners) == len(processors)
    until(lambda: {os.sched_getscheduler(each) for each in spinners} == {os.SCHED_IDLE})
    until(lambda: {*map(only_processor, spinners)} == processors)
    assert live.client.get("/v1/recommend/home?session=s").status_code == 200
    assert live.stop(by) == (0 if by == signal.SIGTERM else -by)
    until(lambda: not any(map(command, spinners)))


def command(pid: int) -> bytes:
    """The command line of a process; nothing where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def only_processor(pid: int) -> int:
    processors = os.sched_getaffinity(pid)
    return processors.pop() if len(processors) == 1 else -1


def until(condition: Callable[[], bool], limit_s: float = 20) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, "it did not come to pass"
        time.sleep(0.01)


def test_a_checkpoint_is_taken_while_serving(start: "Start") -> None:
    live = start(ONHAND_CHECKPOINT_RECORDS="50")
    live.post_events([view("s", "a") for _ in range(60)])
    folder, number = live.data / "checkpoints", 0
    while not any(folder.rglob("*.checkpoint")) and number < 2_000:
        live.post_events([view("s", "a", id=f"c{number}")])
        number += 1
    assert any(folder.rglob("*.checkpoint"))
    assert live.client.get("/v1/recommend/home?session=s").status_code == 200
