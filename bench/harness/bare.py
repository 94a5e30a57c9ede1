"""Bare ASGI on uvicorn: the least that an HTTP answer costs in Python.

`python bare.py PORT page FILE` answers the bytes of FILE to everything.
`python bare.py PORT decode` decodes an array of events and does nothing with them.
"""

import sys
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

from onhand.contracts.records import Event


def page(body: bytes) -> Any:
    start = {
        "type": "http.response.start",
        "status": 200,
        "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ],
    }
    end = {"type": "http.response.body", "body": body}

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(start)
        await send(end)

    return app


def decode() -> Any:
    decoder = msgspec.json.Decoder(list[Event])
    body = b'{"accepted":500,"duplicates":0,"rejected":0,"offset":0,"errors":[]}'
    start = {
        "type": "http.response.start",
        "status": 202,
        "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ],
    }
    end = {"type": "http.response.body", "body": body}

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        chunks: list[bytes] = []
        more = True
        while more:
            message = await receive()
            chunks.append(message["body"])
            more = message["more_body"]
        content = b"".join(chunks)
        if content:  # a probe for readiness has none
            decoder.decode(content)
        await send(start)
        await send(end)

    return app


if __name__ == "__main__":
    port, what, *rest = sys.argv[1:]
    uvicorn.run(
        page(Path(rest[0]).read_bytes()) if what == "page" else decode(),
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
