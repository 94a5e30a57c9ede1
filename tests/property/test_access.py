"""No route answers a key it should not: every route of the table with every kind of key."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onhand.serving.guard import Guard, key_name
from onhand.serving.keys import ROLES, Key, Role, digest
from onhand.serving.problems import HttpError
from onhand.serving.route import Route
from onhand.serving.routes import ROUTES

NOW_MS = 1_795_000_000_000
OPEN = {"/healthz", "/readyz", "/openapi.json", "/docs", "/"}
TEXTS: dict[Role, str] = {role: f"onhand_{role}_1_secret-{role}" for role in ROLES}
KEYS = [Key(role, role, digest(text.encode()).hex(), 0) for role, text in TEXTS.items()]
EXPIRED = Key("old", "admin", digest(b"onhand_admin_old").hex(), 0, NOW_MS)
ROUTE = st.sampled_from(ROUTES)
WORDS = st.text("abcdefghij0123456789.-_~", min_size=1, max_size=12).filter(
    lambda word: word not in ("retry", "purge", "stats", "check", "versions", ".", "..")
)
GUARD = Guard([*KEYS, EXPIRED], (), lambda: 0.0, lambda: NOW_MS)


def ask(guard: Guard, route: Route, word: str, *headers: tuple[bytes, bytes]) -> int:
    path = route.path
    for parameter in route.parameters:
        path = path.replace("{" + parameter.name + "}", word)
    scope: dict[str, Any] = {
        "type": "http",
        "method": route.method,
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"x"), *headers],
        "server": ("127.0.0.1", 8080),
    }
    try:
        guard.check(scope)
    except HttpError as error:
        return error.status
    return 200


def bearer(text: str) -> tuple[bytes, bytes]:
    return b"authorization", b"Bearer " + text.encode()


def test_only_these_routes_are_open_to_all() -> None:
    assert {route.path for route in ROUTES if not route.access} == OPEN


@given(ROUTE, WORDS, st.sampled_from(ROLES))
def test_a_key_opens_what_its_role_may(route: Route, word: str, role: Any) -> None:
    allowed = not route.access or role in route.access
    assert ask(GUARD, route, word, bearer(TEXTS[role])) == (200 if allowed else 403)


@given(ROUTE, WORDS, st.text("abcdefonhand_mi", max_size=40))
def test_no_key_and_a_wrong_key_open_nothing(route: Route, word: str, text: str) -> None:
    closed = 401 if route.access else 200
    assert ask(GUARD, route, word) == closed
    assert ask(GUARD, route, word, bearer(text)) == closed
    assert ask(GUARD, route, word, bearer("onhand_admin_old")) == closed
    assert ask(GUARD, route, word, (b"authorization", text.encode())) == closed
    assert ask(GUARD, route, word, (b"authorization", b"Basic " + text.encode())) == closed


@given(ROUTE, WORDS)
def test_without_keys_everything_is_open(route: Route, word: str) -> None:
    guard = Guard((), (), lambda: 0.0, lambda: NOW_MS)
    assert ask(guard, route, word) == 200
    assert guard.admits_page([], None)


@given(ROUTE, WORDS)
def test_admin_routes_stay_on_their_own_address(route: Route, word: str) -> None:
    guard = Guard(KEYS, (), lambda: 0.0, lambda: NOW_MS, admin_port=9090)
    if route.access == ("admin",):
        assert ask(guard, route, word, bearer(TEXTS["admin"])) == 404


def test_a_head_is_a_get() -> None:
    assert GUARD.access_of("HEAD", "/v1/recommend/home") == ("read",)
    assert GUARD.access_of("GET", "/v1/items/a/b") == ("read",)
    assert GUARD.access_of("DELETE", "/v1/items/a/b") == ("ingest",)
    assert GUARD.access_of("GET", "/nothing") is None


def test_page_reads_take_the_same_key() -> None:
    assert GUARD.admits_page([], key_name([bearer(TEXTS["read"])]))
    for headers in ([], [bearer(TEXTS["ingest"])], [bearer("x")], [bearer("onhand_admin_old")]):
        assert not GUARD.admits_page(headers, key_name(headers))


def test_basic_authentication_and_the_query() -> None:
    for pair in (f"{TEXTS['ingest']}:", f"anyone:{TEXTS['ingest']}"):
        header = (b"authorization", b"Basic " + base64.b64encode(pair.encode()))
        assert ask(GUARD, next(r for r in ROUTES if r.name == "post_events"), "x", header) == 200
    scope: dict[str, Any] = {
        "method": "POST",
        "path": "/v1/events",
        "headers": [],
        "query_string": f"key={TEXTS['ingest']}".encode(),
    }
    GUARD.check(scope)
    scope |= {"method": "GET", "path": "/v1/dead-letters"}
    scope["query_string"] = f"key={TEXTS['admin']}".encode()
    with pytest.raises(HttpError):
        GUARD.check(scope)


def test_a_key_s_rate() -> None:
    clock = [100.0]
    key = Key("r", "read", digest(b"fast").hex(), 0, rate=5)
    guard = Guard([key], (), lambda: clock[0], lambda: NOW_MS)
    route = next(route for route in ROUTES if route.name == "get_item")
    statuses = [ask(guard, route, "x", bearer("fast")) for _ in range(12)]
    assert statuses == [200] * 10 + [429] * 2
    clock[0] += 0.2
    assert [ask(guard, route, "x", bearer("fast")) for _ in range(2)] == [200, 429]
    guard.use([key])
    assert ask(guard, route, "x", bearer("fast")) == 429, "reading the keys again fills no bucket"
    with pytest.raises(HttpError) as caught:
        guard.check({"method": "GET", "path": "/v1/items/x", "headers": [bearer("fast")],
                     "query_string": b""})  # fmt: skip
    assert (b"retry-after", b"1") in caught.value.headers
    assert caught.value.message.endswith("Send this again in a second.")


def test_pages_of_other_origins() -> None:
    origin = (b"origin", b"https://shop.example")
    post = next(route for route in ROUTES if route.name == "post_events")
    named = Guard((), ["https://shop.example"], lambda: 0.0, lambda: NOW_MS)
    assert ask(GUARD, post, "x", origin) == 403
    assert ask(named, post, "x", origin) == 200
    assert ask(named, post, "x", (b"origin", b"https://evil.example")) == 403
    assert ask(GUARD, post, "x", (b"origin", b"http://x"), bearer(TEXTS["ingest"])) == 200
    asked = {
        "method": "OPTIONS",
        "path": "/v1/events",
        "headers": [origin, (b"access-control-request-method", b"POST")],
    }
    assert (b"access-control-allow-origin", origin[1]) in (named.preflight(asked) or [])
