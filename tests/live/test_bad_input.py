"""Whatever is sent: a 4xx problem document, the server goes on serving, its memory returns."""

import json
import select
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from tests.live.conftest import Live

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("shop")]

GOOD = {"type": "view", "session": "s1", "item": "i1"}
MB = 1_000_000


def check_problem(answer: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    assert answer.status_code == status, answer.text[:300]
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["status"] == status
    for member in ("type", "title", "detail", "code"):
        assert document[member]
    if code is not None:
        assert document["code"] == code
    assert len(answer.content) < 50_000
    return document


def check_serving(server: "Live") -> None:
    began_s = time.monotonic()
    assert server.client.get("/v1/recommend/home?session=s1").status_code == 200
    assert server.client.post("/v1/events", json=GOOD).status_code == 202
    assert time.monotonic() - began_s < 5


@pytest.fixture(autouse=True)
def still_serving(server: "Live") -> Iterator[None]:
    yield
    check_serving(server)


def post(server: "Live", content: bytes, path: str = "/v1/events") -> httpx.Response:
    return server.client.post(path, content=content, headers={"content-type": "application/json"})


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "empty_body"),
        (b'{"type":"view","session":"s1"', 400, "malformed"),
        (b"[" + json.dumps(GOOD).encode() + b",", 400, "malformed"),
        (b'{"type":"view","session":"s","item":"i","value":NaN}', 400, "malformed"),
        (b'{"type":"view","session":"s","item":"i","value":-Infinity}', 400, "malformed"),
        (b'{"type":"view","session":"s","item":"i","value":1e999}', 422, "nothing_accepted"),
        (b'{"type":7,"session":"s"}', 422, "nothing_accepted"),
        (b'"a string"', 400, "malformed"),
        (b"[[[[1]]]]", 422, "nothing_accepted"),
        (b"[" * 10_000 + b"]" * 10_000, 400, "too_deep"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, 400, "too_deep"),
        (b'{"type":"view","session":"s","item":"\xff\xfe"}', 422, "nothing_accepted"),
        (b"\xff\xfe\x00", 400, "malformed"),
        (b"[" + b"1," * MB + b"1]", 413, "too_many_records"),
        (b"[" + b"{}," * MB + b"{}]", 413, "too_many_records"),
        (b'{"type":"view","session":"' + b"x" * MB + b'","item":"i"}', 422, "nothing_accepted"),
        (b'{"type":"view","time":' + b"9" * 5000 + b"}", 422, "nothing_accepted"),
        (b'{"type":"view","session":"s","item":"i","time":1700000000}', 422, "nothing_accepted"),
        (b"\x00" * 1000, 400, "wrong_schema"),
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else str(value),
)
def test_bad_bodies(server: "Live", content: bytes, status: int, code: str) -> None:
    check_problem(post(server, content), status, code)


def test_every_write_route_refuses_the_same_way(server: "Live") -> None:
    for method, path in (
        ("PUT", "/v1/items"),
        ("POST", "/v1/signals"),
        ("PATCH", "/v1/items/i1"),
        ("POST", "/v1/recommend/home"),
    ):
        for content in (b"", b"{", b"\xff", b"[" * 10_000, b'{"a":' * 10_000):
            answer = server.client.request(
                method, path, content=content, headers={"content-type": "application/json"}
            )
            check_problem(answer, 400)
        answer = server.client.request(method, path, content=b"x" * 17 * 1024 * 1024)
        check_problem(answer, 413, "body_too_large")


def test_a_100_mb_body(server: "Live") -> None:
    before = server.settled_memory_bytes()
    content = b"[" + b" " * (100 * MB) + b"]"
    check_problem(post(server, content), 413, "body_too_large")

    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * MB

    answer = server.client.post(
        "/v1/events", content=chunks(), headers={"content-type": "application/json"}
    )
    check_problem(answer, 413, "body_too_large")
    assert server.memory_bytes() < before + 60 * MB


def test_memory_returns_after_large_bad_bodies(server: "Live") -> None:
    junk = b"[" + b'{"type":"view","session":"s","position":-1},' * 4_000 + b"1]"
    many = b"[" + b"1," * 7 * MB + b"1]"
    text = b'{"type":"view","session":"' + b"x" * 15 * MB + b'"}'
    for content in (junk, many, text):
        post(server, content)
    before = server.memory_bytes()
    for _ in range(5):
        for content in (junk, many, text):
            assert post(server, content).status_code in (413, 422)
    assert server.memory_bytes() < before + 40 * MB


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "unknown_route"),
        ("GET", "/v1/recommend", 404, "unknown_route"),
        ("GET", "/v1/recommend/nowhere", 404, "unknown_slot"),
        ("GET", "/v1/recommend/home/", 404, "unknown_slot"),
        ("GET", "/v1/items/" + "x" * 5000, 404, "unknown_item"),
        ("GET", "/v1/similar/%FF%FE", 404, "unknown_item"),
        ("GET", "/v1/decisions/" + "x" * 5000, 404, "unknown_decision"),
        ("GET", "/v1/events", 405, "method_not_allowed"),
        ("DELETE", "/v1/events", 405, "method_not_allowed"),
        ("DELETE", "/v1/recommend/home", 405, "method_not_allowed"),
        ("POST", "/v1/similar/i1", 405, "method_not_allowed"),
        ("BREW", "/v1/items/i1", 400, None),
        ("POST", "/metrics", 405, "method_not_allowed"),
        ("GET", "/v1/recommend/home?sesion=s", 400, "unknown_parameter"),
        ("GET", "/v1/recommend/home?n=1000", 400, "parameter"),
        ("GET", "/v1/recommend/home?user=" + "x" * 300, 400, "parameter"),
        ("GET", "/v1/similar/i1?n=none", 400, "parameter"),
        ("POST", "/v1/events?x=1", 400, "unknown_parameter"),
        ("GET", "/v1/items/i1?x=1", 400, "unknown_parameter"),
    ],
)
def test_unknown_routes_methods_parameters(
    server: "Live", method: str, path: str, status: int, code: str | None
) -> None:
    answer = server.client.request(method, path)
    document = check_problem(answer, status, code)
    if status == 405:
        assert answer.headers["allow"]
    if code == "unknown_parameter" and "recommend" in path:
        assert "`session`" in document["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "text/csv"},
        {"content-type": "application/json", "content-encoding": "br"},
    ],
)
def test_other_formats_are_415(server: "Live", headers: dict[str, str]) -> None:
    check_problem(server.client.post("/v1/events", content=b"{}", headers=headers), 415)


def head_and_document(answer: bytes) -> tuple[bytes, dict[str, Any]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, json.loads(body)


def test_a_slow_body_is_408(server: "Live") -> None:
    began_s = time.monotonic()
    answer = server.raw(
        b"POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b'content-length: 100\r\n\r\n{"type":'
    )
    head, document = head_and_document(answer)
    assert head.startswith(b"HTTP/1.1 408")
    assert document["code"] == "slow_body"
    assert time.monotonic() - began_s < 10


def letters(server: "Live", code: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.client.get(f"/v1/dead-letters?code={code}").json()
    return found


def test_what_is_refused_before_it_is_read_is_kept(server: "Live") -> None:
    client = server.client
    client.post("/v1/dead-letters/purge", json={})
    client.post("/v1/events", content=b"a,b", headers={"content-type": "text/csv"})
    coded = {"content-type": "application/json", "content-encoding": "gzip"}
    client.post("/v1/events", content=b"\x1f\x8bcut", headers=coded)
    client.post("/v1/items", content=b"[" + b"{}," * MB + b"{}]")
    client.post("/v1/track", content=b"{}", headers={"content-type": "text/csv"})
    server.raw(
        b"POST /v1/signals HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b'content-length: 100\r\n\r\n{"item":'
    )
    events, track = letters(server, "content_type")
    assert (events["source"], events["text"]) == ("/v1/events", "a,b")
    assert (events["content_type"], events["truncated"]) == ("text/csv", False)
    assert track["source"] == "/v1/track"
    (cut,) = letters(server, "content_encoding")
    assert cut["content_type"] == "application/json; content-encoding=gzip"
    (many,) = letters(server, "too_many_records")
    assert (many["truncated"], len(many["text"])) == (True, 1 << 20)
    (slow,) = letters(server, "slow_body")
    assert (slow["truncated"], slow["text"], slow["contract"]) == (True, '{"item":', "signals")
    report = client.post("/v1/dead-letters/retry", json={}).json()
    assert (report["accepted"], report["remaining"]) == (0, 5)


def test_a_refused_patch_is_kept_and_goes_in_when_its_item_is_there(server: "Live") -> None:
    client = server.client
    client.post("/v1/dead-letters/purge", json={})
    check_problem(client.patch("/v1/items/new/1", json={"price": 3.5}), 404, "unknown_item")
    check_problem(client.patch("/v1/items/i1", json={"price": "x"}), 400, "wrong_type")
    assert [each["source"] for each in letters(server, "wrong_type")] == ["/v1/items/i1"]
    client.put("/v1/items", json=[{"id": "new/1", "title": "Stays", "price": 1}])
    report = client.post("/v1/dead-letters/retry", json={}).json()
    assert (report["accepted"], report["remaining"]) == (1, 1)
    facts = client.get("/v1/items/new/1").json()
    assert (facts["item"]["title"], facts["price"]) == ("Stays", 3.5)


def test_a_slow_head_is_408(server: "Live") -> None:
    head, document = head_and_document(server.raw(b"GET /v1/recommend/home HTTP/1.1\r\nho"))
    assert head.startswith(b"HTTP/1.1 408")
    assert document["code"] == "slow_head"


def test_an_endless_head_is_431(server: "Live") -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        number = 0
        with suppress(BrokenPipeError, ConnectionResetError):
            for number in range(100_000):
                connection.sendall(b"x-%d: " % number + b"y" * 1000 + b"\r\n")
                if select.select([connection], [], [], 0)[0]:
                    break
        assert number < 99_999, "the server read 100 MB of head"
        assert connection.recv(1024).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "content",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: 9e9\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_not_http_is_400(server: "Live", content: bytes) -> None:
    head, document = head_and_document(server.raw(content))
    assert head.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404"))
    assert document["code"]


def test_many_idle_clients_do_not_stop_the_others(server: "Live") -> None:
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(200)]
    try:
        for connection in idle[:100]:
            connection.sendall(b"POST /v1/events HTTP/1.1\r\nhost: x\r\n")
        check_serving(server)
    finally:
        for connection in idle:
            connection.close()


def test_a_client_that_hangs_up_in_the_middle(server: "Live") -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(
                b"POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                b"content-length: 1000\r\n\r\n[{"
            )
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET /v1/recommend/home HTTP/1.1\r\nhost: x\r\n\r\n" * 50)
    assert server.client.get("/readyz").status_code == 200


def test_nothing_of_this_is_an_error_of_the_server(server: "Live") -> None:
    assert "Traceback" not in server.log(), server.log()
    assert 'status="500"' not in server.client.get("/metrics").text
