"""A small HTTP/1.1 client over asyncio streams: kept-alive connections, JSON both ways.

It speaks to one server that answers with a `content-length`, and nothing else: what a collector
beside the shop needs. A connection that the server closed while it lay idle is replaced, and the
request sent once more; records are safe to send twice (events have ids, stock is absolute). Records
that the server puts off are sent again when it says.
"""

import asyncio
from typing import Any, NamedTuple

import msgspec

__all__ = ["Client", "ClientError", "Reply"]

CONNECTIONS = 64
TIMEOUT_S = 10.0
HEAD_BYTES = 64 * 1024
PUT_OFF = 20
"""How often records may be put off before that is the answer."""


class ClientError(Exception):
    """The server did not answer, or not in HTTP as this client knows it."""


class Reply(NamedTuple):
    """A status, a body, and in how many seconds to send the request again (0: not at all)."""

    status: int
    body: bytes
    retry_s: int = 0

    def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)


class Connection:
    """One kept-alive connection; one exchange at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.used = False

    @property
    def closed(self) -> bool:
        """Whether either side has hung up."""
        return self._reader.at_eof() or self._writer.is_closing()

    async def exchange(self, request: bytes) -> Reply:
        """Send a request, read its answer."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        status, length, keep, retry_s = parse_head(head)
        body = await self._reader.readexactly(length) if length else b""
        self.used = True
        if not keep:
            self.close()
        return Reply(status, body, retry_s)

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


class Head(NamedTuple):
    """What an answer's head says: status, body length, whether the connection stays open, and when
    to send the request again, 0 where that is not said."""

    status: int
    length: int
    keep: bool
    retry_s: int


def parse_head(head: bytes) -> Head:
    """Read a head. Raises `ClientError` for a body without a length."""
    lines = head.split(b"\r\n")
    status, length, keep, retry_s = int(lines[0].partition(b" ")[2][:3]), 0, True, 0
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name == b"content-length":
            length = int(value)
        elif name == b"connection":
            keep = value.strip().lower() != b"close"
        elif name == b"retry-after":
            retry_s = int(value)
        elif name == b"transfer-encoding":
            raise ClientError("the server answered in chunks; a content-length is needed")
    return Head(status, length, keep, retry_s)


class Client:
    """A pool of connections to one server. More requests than connections wait their turn."""

    def __init__(self, host: str, port: int, connections: int = CONNECTIONS) -> None:
        self._host, self._port = host, port
        self._tail = f" HTTP/1.1\r\nhost: {host}:{port}\r\n".encode()
        self._idle: list[Connection] = []
        self._turn = asyncio.Semaphore(connections)

    async def get(self, path: str) -> Reply:
        """`GET path`."""
        return await self._send(b"GET " + path.encode() + self._tail + b"\r\n")

    async def send(self, method: str, path: str, records: object) -> Reply:
        """Send `records` as JSON, and again while they are put off, `PUT_OFF` times at most."""
        body = msgspec.json.encode(records)
        head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        request = f"{method} {path}".encode() + self._tail + head.encode() + body
        for _ in range(PUT_OFF):
            reply = await self._send(request)
            if not reply.retry_s:
                return reply
            await asyncio.sleep(reply.retry_s)
        return await self._send(request)

    async def close(self) -> None:
        """Hang up all idle connections."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _send(self, request: bytes) -> Reply:
        async with self._turn:
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    return await self._exchange(request)
            except TimeoutError:
                raise ClientError(f"no answer within {TIMEOUT_S:g} s") from None
            except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
                raise ClientError(f"no answer: {error}") from error

    async def _exchange(self, request: bytes) -> Reply:
        while True:
            connection = await self._connection()
            again = connection.used
            try:
                reply = await connection.exchange(request)
            except BaseException as error:
                connection.close()
                if again and isinstance(error, ConnectionError | asyncio.IncompleteReadError):
                    continue
                raise
            if not connection.closed:
                self._idle.append(connection)
            return reply

    async def _connection(self) -> Connection:
        """The connection used last, because the others may be idle for long; or a new one."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
            connection.close()
        return Connection(*await asyncio.open_connection(self._host, self._port, limit=HEAD_BYTES))
