"""Bare ASGI on uvicorn: the least that an HTTP answer costs in Python.

`python bare.py PORT page FILE` answers the bytes of FILE to everything.
`python bare.py PORT sale FILE` answers them to GET, and takes whatever is sent.
`python bare.py PORT decode` decodes an array of events and does nothing with them.
`python bare.py PORT redis REDIS_PORT` answers what Redis has under the `session` asked for.
"""

import sys
from pathlib import Path
from typing import Any

import msgspec
import redis.asyncio
import uvicorn

from onhand.contracts.records import Event

_JSON = (b"content-type", b"application/json")
_TAKEN = b'{"accepted":500,"duplicates":0,"rejected":0,"offset":0,"errors":[]}'


def _answer(status: int, body: bytes) -> tuple[Any, Any]:
    headers = [_JSON, (b"content-length", str(len(body)).encode())]
    start = {"type": "http.response.start", "status": status, "headers": headers}
    return start, {"type": "http.response.body", "body": body}


async def _read(receive: Any) -> bytes:
    chunks: list[bytes] = []
    more = True
    while more:
        message = await receive()
        chunks.append(message["body"])
        more = message["more_body"]
    return b"".join(chunks)


def page(body: bytes) -> Any:
    start, end = _answer(200, body)

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(start)
        await send(end)

    return app


def sale(body: bytes) -> Any:
    shown, taken = _answer(200, body), _answer(202, _TAKEN)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        start, end = shown
        if scope["method"] != "GET":
            await _read(receive)
            start, end = taken
        await send(start)
        await send(end)

    return app


def decode() -> Any:
    decoder = msgspec.json.Decoder(list[Event])
    start, end = _answer(202, _TAKEN)

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        content = await _read(receive)
        if content:  # a probe for readiness has none
            decoder.decode(content)
        await send(start)
        await send(end)

    return app


def from_redis(port: int) -> Any:
    client = redis.asyncio.Redis(port=port)

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        query: bytes = scope["query_string"]
        key = query.removeprefix(b"session=").partition(b"&")[0]
        body: Any = await client.get(key) if key else b"{}"  # a probe for readiness has none
        start, end = _answer(404 if body is None else 200, body or b"")
        await send(start)
        await send(end)

    return app


def make(what: str, *rest: str) -> Any:
    if what == "page":
        return page(Path(rest[0]).read_bytes())
    if what == "sale":
        return sale(Path(rest[0]).read_bytes())
    return from_redis(int(rest[0])) if what == "redis" else decode()


if __name__ == "__main__":
    port, *what = sys.argv[1:]
    uvicorn.run(
        make(*what),
        port=int(port),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="error",
        server_header=False,
        proxy_headers=False,
    )
