import asyncio
from collections.abc import Awaitable, Callable

import pytest

from onhand.offline.shop.client import Client, ClientError, parse_head

Answer = Callable[[bytes, int], tuple[bytes, bool]]
"""From a request and how many this connection saw before: the bytes to write, and whether to stay
connected."""


class Pretender:
    """A real server on a free port that answers by a function."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.connections = 0
        self.requests: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        seen, stay = 0, True
        while stay:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            length = parse_head(b"HTTP/1.1 200 OK\r\n" + head.partition(b"\r\n")[2]).length
            request = head + await reader.readexactly(length)
            self.requests.append(request)
            reply, stay = self.answer(request, seen)
            seen += 1
            writer.write(reply)
            await writer.drain()
        writer.close()
        await writer.wait_closed()


def ok(body: bytes = b"{}", more: bytes = b"") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n" % (len(body), more)
    return head + body


def talk(answer: Answer, talk_: Callable[[Client], Awaitable[None]], pool: int = 4) -> Pretender:
    pretender = Pretender(answer)

    async def main() -> None:
        server = await asyncio.start_server(pretender.serve, "127.0.0.1", 0)
        client = Client("127.0.0.1", server.sockets[0].getsockname()[1], pool)
        try:
            await talk_(client)
        finally:
            await client.close()
            server.close()
            await asyncio.sleep(0.01)

    asyncio.run(main())
    return pretender


def test_records_that_are_put_off_are_sent_again_when_the_answer_says():
    async def main(client: Client) -> None:
        assert (await client.send("POST", "/v1/events", [])).status == 200

    later = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 1\r\n\r\n"
    seen = talk(lambda request, before: (ok() if before else later, True), main)
    assert len(seen.requests) == 2
    assert seen.requests[0] == seen.requests[1]


def test_a_connection_is_kept_alive():
    async def main(client: Client) -> None:
        for n in range(5):
            reply = await client.get(f"/page?n={n}")
            assert (reply.status, reply.json()) == (200, {"a": 1})

    seen = talk(lambda request, before: (ok(b'{"a":1}'), True), main)
    assert seen.connections == 1
    assert seen.requests[4].startswith(b"GET /page?n=4 HTTP/1.1\r\nhost: 127.0.0.1:")


def test_records_are_sent_as_json():
    async def main(client: Client) -> None:
        reply = await client.send("POST", "/v1/events", [{"type": "view"}])
        assert reply.status == 200

    request = talk(lambda request, before: (ok(), True), main).requests[0]
    assert b"content-type: application/json\r\ncontent-length: 17\r\n" in request
    assert request.endswith(b'\r\n\r\n[{"type":"view"}]')


def test_a_connection_that_the_server_closed_is_replaced():
    async def main(client: Client) -> None:
        for _ in range(3):
            assert (await client.get("/")).status == 200
            await asyncio.sleep(0.01)

    assert talk(lambda request, before: (ok(), False), main).connections == 3


def test_a_request_lost_on_an_old_connection_is_sent_again():
    async def main(client: Client) -> None:
        assert (await client.get("/first")).status == 200
        assert (await client.get("/second")).status == 200

    seen = talk(lambda request, before: (ok(), True) if before == 0 else (b"", False), main)
    assert [r.split()[1] for r in seen.requests] == [b"/first", b"/second", b"/second"]


def test_connection_close_is_honoured():
    async def main(client: Client) -> None:
        await client.get("/")
        await client.get("/")

    more = b"connection: close\r\n"
    assert talk(lambda request, before: (ok(more=more), True), main).connections == 2


def test_more_requests_than_connections_wait_their_turn():
    async def main(client: Client) -> None:
        replies = await asyncio.gather(*(client.get(f"/{n}") for n in range(40)))
        assert [reply.status for reply in replies] == [200] * 40

    assert talk(lambda request, before: (ok(), True), main, pool=3).connections <= 3


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", b"no http\r\n\r\n", b"\r\n\r\n"],
)
def test_an_answer_that_is_none_is_an_error(answer: bytes):
    async def main(client: Client) -> None:
        with pytest.raises(ClientError, match="no answer"):
            await client.get("/")

    talk(lambda request, before: (answer, False), main)


def test_chunks_are_refused_with_a_sentence():
    async def main(client: Client) -> None:
        with pytest.raises(ClientError, match="chunks"):
            await client.get("/")

    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    talk(lambda request, before: (chunked, False), main)


def test_nobody_listening_is_an_error():
    async def main() -> None:
        server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        with pytest.raises(ClientError, match="no answer"):
            await Client("127.0.0.1", port).get("/")

    asyncio.run(main())


def test_a_slow_answer_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("onhand.offline.shop.client.TIMEOUT_S", 0.05)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        client = Client("127.0.0.1", server.sockets[0].getsockname()[1])
        with pytest.raises(ClientError, match=r"within 0\.05 s"):
            await client.get("/")
        server.close()
        await asyncio.sleep(0.01)

    asyncio.run(main())
