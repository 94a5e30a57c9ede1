"""The guard: which key may use which route, how fast, from which web page.

Everything follows from the one route table. Without keys every route is open, which the server
allows on loopback only. A web page of another origin may send or read only if the settings name
its origin; a page that nobody named could otherwise make a visitor's browser write here.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from math import ceil
from typing import Final, NamedTuple, NoReturn
from urllib.parse import parse_qsl

from starlette.types import Message, Scope, Send

from onhand.contracts.errors import send_again
from onhand.serving.keys import Key, digest, is_same
from onhand.serving.problems import Header, HttpError, retry_after
from onhand.serving.route import ADMIN, INGEST, READ, Access, Route
from onhand.serving.routes import ROUTES

__all__ = ["Guard", "key_name", "with_headers"]

_CHALLENGE: Final[Header] = (b"www-authenticate", b'Bearer realm="onhand"')
_BURST_S: Final = 2.0


class _Holder:
    """A key in use, and its bucket of requests."""

    __slots__ = ("digest", "filled_s", "key", "tokens")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.digest = bytes.fromhex(key.digest)
        self.tokens = key.rate * _BURST_S
        self.filled_s = 0.0

    def wait_s(self, now_s: float) -> float:
        """Take one token, and return 0; or return in how many seconds there will be one."""
        rate = self.key.rate
        if not rate:
            return 0.0
        tokens = min(self.tokens + (now_s - self.filled_s) * rate, max(rate * _BURST_S, 1.0))
        self.filled_s = now_s
        if tokens < 1:
            self.tokens = tokens
            return (1 - tokens) / rate
        self.tokens = tokens - 1
        return 0.0


class _Pattern(NamedTuple):
    """The routes of one path with parameters."""

    match: Callable[[str], object]
    by_method: Mapping[str, Access]


class Guard:
    """Judges requests before any route sees them."""

    def __init__(
        self,
        keys: Iterable[Key],
        origins: Iterable[str],
        clock_s: Callable[[], float],
        now_ms: Callable[[], int],
        admin_port: int | None = None,
    ) -> None:
        self._origins = frozenset(origins)
        self._clock_s = clock_s
        self._now_ms = now_ms
        self._admin_port = admin_port
        self._holders: dict[bytes, _Holder] = {}
        self._exact, self._patterns = _compile(ROUTES)
        self.use(keys)

    @property
    def open(self) -> bool:
        """Whether there are no keys, and so nobody is asked for one."""
        return not self._holders

    def use(self, keys: Iterable[Key]) -> None:
        """Take these keys from now on; the buckets of those that stay keep their level."""
        before = self._holders
        self._holders = {}
        for key in keys:
            name = bytes.fromhex(key.digest)
            held = before.get(name)
            self._holders[name] = held if held is not None and held.key == key else _Holder(key)

    def access_of(self, method: str, path: str) -> Access | None:
        """Return which keys a route answers, None where there is no such route."""
        by_method = self._exact.get(path)
        if by_method is None:
            by_method = next((p.by_method for p in self._patterns if p.match(path)), {})
        return by_method.get("GET" if method == "HEAD" else method)

    def admits_page(self, headers: Iterable[Header], name: bytes | None) -> bool:
        """Whether a page read with a key of this `name` may be answered at once; if not, `check`
        says why. A web page of another origin gets its answer with headers, which `check` knows."""
        if self._origins and any(header == b"origin" for header, _ in headers):
            return False
        if not self._holders:
            return True
        try:
            self._check_key(READ, name)
        except HttpError:
            return False
        return True

    def check(self, scope: Scope) -> list[Header]:
        """Return the headers that an answer needs for the web page that asked, if any.

        Raises `HttpError` 401, 403, 404 or 429.
        """
        method: str = scope["method"]
        path: str = scope["path"]
        headers: list[Header] = scope["headers"]
        access = self.access_of(method, path)
        if self._admin_port is not None and access == ADMIN:
            self._check_port(scope)
        extra = self._check_origin(method, headers)
        if access is not None and self._holders and method != "OPTIONS":
            query = scope["query_string"] if access == INGEST else b""
            self._check_key(access, key_name(headers, query))
        return extra

    def preflight(self, scope: Scope) -> list[Header] | None:
        """Return the answer to a browser's question whether it may send; None if it is none."""
        names = dict(scope["headers"])
        if scope["method"] != "OPTIONS" or b"access-control-request-method" not in names:
            return None
        return [
            *self._check_origin("OPTIONS", scope["headers"]),
            (b"access-control-allow-methods", b"GET, POST, PUT"),
            (b"access-control-allow-headers", b"authorization, content-type"),
            (b"access-control-max-age", b"600"),
        ]

    def _check_port(self, scope: Scope) -> None:
        server: tuple[str, int] | None = scope.get("server")
        if server is None or server[1] != self._admin_port:
            raise HttpError(404, "other_address", "This route is served on the admin address only.")

    def _check_origin(self, method: str, headers: Iterable[Header]) -> list[Header]:
        origin = host = b""
        for name, value in headers:
            if name == b"origin":
                origin = value
            elif name == b"host":
                host = value
        if not origin or origin.partition(b"://")[2] == host:
            return []
        text = origin.decode("latin-1")
        if text in self._origins or "*" in self._origins:
            return [(b"access-control-allow-origin", origin), (b"vary", b"origin")]
        if method in ("GET", "HEAD"):
            return []
        raise HttpError(
            403,
            "origin",
            f"Pages of {text[:100]!r} may not send here; name it in the setting `origins`.",
        )

    def _check_key(self, access: Access | None, name: bytes | None) -> None:
        if access is None or access == ():
            return
        if name is None:
            _refuse_nobody(access)
        holder = self._holders.get(name)
        if holder is None or not is_same(holder.digest, name):
            raise HttpError(
                401, "unknown_key", "There is no such key, or it was revoked.", (_CHALLENGE,)
            )
        key = holder.key
        if key.expires_ms is not None and key.expires_ms <= self._now_ms():
            raise HttpError(401, "expired_key", f"Key {key.id} has expired.", (_CHALLENGE,))
        if key.role not in access:
            raise HttpError(
                403, "wrong_role", f"Key {key.id} is for {key.role}; this takes {_or(access)}."
            )
        wait_s = holder.wait_s(self._clock_s())
        if wait_s:
            seconds = ceil(wait_s)
            raise HttpError(
                429,
                "rate",
                f"Key {key.id} may make {key.rate:g} requests a second. {send_again(seconds)}",
                (retry_after(seconds),),
            )


def with_headers(send: Send, extra: list[Header]) -> Send:
    """Return a `send` that puts `extra` among the headers of an answer."""

    async def send_with(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *extra]}
        await send(message)

    return send_with


def _compile(
    routes: Iterable[Route],
) -> tuple[dict[str, dict[str, Access]], list[_Pattern]]:
    exact: dict[str, dict[str, Access]] = {}
    for route in routes:
        exact.setdefault(route.path, {})[route.method] = route.access
    patterns = [
        _Pattern(re.compile(_regex(path)).fullmatch, exact.pop(path))
        for path in sorted(exact, key=len, reverse=True)
        if "{" in path
    ]
    return exact, patterns


def _regex(path: str) -> str:
    """The pattern of a path; `{id}` may hold slashes, as it does in routing."""
    parts = re.split(r"(\{[a-z]+\})", path)
    wild = {"{id}": ".+", "{item}": ".*", "{slot}": ".*"}
    return "".join(
        wild.get(part, "[^/]+") if part.startswith("{") else re.escape(part) for part in parts
    )


def key_name(headers: Iterable[Header], query: bytes = b"") -> bytes | None:
    """Return the name that a request's key is known by, None where it has none."""
    text = _key_text(headers, query)
    return None if text is None else digest(text)


def _key_text(headers: Iterable[Header], query: bytes) -> bytes | None:
    """Return the key of a request: of the Bearer or Basic scheme, or `key` in the query string,
    for browsers' beacons, which have no headers."""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, rest = value.partition(b" ")
            if scheme.lower() == b"bearer":
                return rest.strip()
            if scheme.lower() == b"basic":
                return _basic(rest.strip())
            return None
    if b"key=" in query:
        pairs = dict(parse_qsl(query.decode("latin-1")))
        if "key" in pairs:
            return pairs["key"].encode("latin-1", "replace")
    return None


def _basic(text: bytes) -> bytes | None:
    try:
        user, _, password = base64.b64decode(text, validate=True).partition(b":")
    except binascii.Error:
        return None
    return password or user


def _refuse_nobody(access: Access) -> NoReturn:
    raise HttpError(
        401,
        "no_key",
        f"Send a key for {_or(access)}: `Authorization: Bearer onhand_...`; "
        "`onhand keys create` makes one.",
        (_CHALLENGE,),
    )


def _or(access: Access) -> str:
    return " or ".join(access)
