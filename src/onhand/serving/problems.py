"""Problem documents (RFC 9457): what every refused request gets."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.types import Send

from onhand.contracts.errors import OnhandError, Unavailable

__all__ = [
    "Header",
    "HttpError",
    "Problem",
    "describe",
    "method_not_allowed",
    "not_found",
    "not_ready",
    "retry_after",
    "send_json",
    "send_problem",
]

Header = tuple[bytes, bytes]

_JSON: Header = (b"content-type", b"application/json")
_PROBLEM: Header = (b"content-type", b"application/problem+json")
_encode = msgspec.json.Encoder().encode


class Problem(msgspec.Struct, frozen=True):
    """What went wrong: `title` for the status, `detail` for people, `code` for programs."""

    type: str
    title: str
    status: int
    detail: str
    code: str


class HttpError(OnhandError):
    """A request refused for a reason of HTTP: its method, its content type, its pace."""

    def __init__(
        self, status: int, code: str, message: str, headers: Sequence[Header] = ()
    ) -> None:
        super().__init__(code, message)
        self.status = status
        self.headers = headers


def retry_after(seconds: int) -> Header:
    """The header that says when to send a request again."""
    return b"retry-after", b"%d" % seconds


def not_found(path: str) -> HttpError:
    """No route has this path."""
    return HttpError(
        404, "unknown_route", f"There is no route {path[:120]!r}; GET /docs lists the routes."
    )


def method_not_allowed(method: str, allowed: Sequence[str]) -> HttpError:
    """The route is there, and takes other methods."""
    names = ", ".join(sorted(allowed))
    return HttpError(
        405,
        "method_not_allowed",
        f"{method} is not taken here; use {names}.",
        ((b"allow", names.encode()),),
    )


def not_ready(folded: int, total: int) -> Unavailable:
    """The server listens, and cannot answer yet."""
    doing = (
        f"folding its log ({folded} of {total} records, {100 * folded // total} %)"
        if total
        else "preparing its kernels (up to a minute at the first start of a version)"
    )
    return Unavailable(
        "not_ready",
        f"The server is {doing}. Try again in a second; GET /readyz tells when it is done.",
    )


def describe(error: OnhandError, extra: dict[str, Any] | None = None) -> tuple[bytes, list[Header]]:
    """Return the document of an error and its headers, content length included."""
    status = error.status
    fields: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": error.message,
        "code": error.code,
    }
    body = _encode(fields | extra if extra else fields) + b"\n"
    headers = [_PROBLEM, (b"content-length", b"%d" % len(body))]
    if isinstance(error, Unavailable):
        headers.append(retry_after(error.retry_s))
    if isinstance(error, HttpError):
        headers.extend(error.headers)
    return body, headers


async def send_problem(send: Send, error: OnhandError, extra: dict[str, Any] | None = None) -> None:
    """Answer with the problem document of `error`, `extra` members beside its own."""
    body, headers = describe(error, extra)
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_json(send: Send, status: int, body: bytes) -> None:
    """Answer with encoded JSON, a line end behind it: a shell's next prompt begins on its own
    line."""
    body = body + b"\n"
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [_JSON, (b"content-length", b"%d" % len(body))],
        }
    )
    await send({"type": "http.response.body", "body": body})
