"""The load's connections: who waits for an answer, for how long, and what comes of it."""

import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from onhand.offline.simulation.load import Lines

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Shop:
    """Accepts connections, and answers when it is told to."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.accepted: list[socket.socket] = []
        self._lines: list[Lines] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                self.accepted.append(self._listener.accept()[0])
            except OSError:
                return

    def lines(self, pages: int, records: int = 0) -> Lines:
        """Connections to it, all of them accepted."""
        lines, most = Lines(self.port, pages, records), pages + records
        self._lines.append(lines)
        for _ in range(1000):
            if len(self.accepted) == most:
                return lines
            time.sleep(0.005)
        raise AssertionError("the connections were not accepted")

    def answer(self, part: bytes) -> None:
        for connection in self.accepted:
            connection.sendall(part)

    def close(self) -> None:
        self._listener.close()
        for connection in self.accepted:
            connection.close()
        for lines in self._lines:
            for line in list(lines._all.values()):
                lines._close(line)
            lines._poll.close()
        self._lines.clear()


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    yield shop
    shop.close()


def ask(
    lines: Lines, until_s: float = math.inf, *, of_page: bool = True
) -> list[tuple[int, bytes]]:
    """Send a request; what is heard of it."""
    heard: list[tuple[int, bytes]] = []
    request = b"GET / HTTP/1.1\r\n\r\n"
    lines.send(
        request, lambda answer: heard.append((answer.status, answer.body)), until_s, of_page=of_page
    )
    return heard


def test_an_answer_frees_its_connection(shop: Shop):
    lines = shop.lines(1)
    heard = ask(lines)
    assert lines.busy
    assert not lines.free(of_page=True)
    shop.answer(ANSWER[:20])
    lines.wait(5)
    assert heard == []
    shop.answer(ANSWER[20:])
    lines.wait(5)
    assert heard == [(200, b"ok")]
    assert lines.free(of_page=True)
    assert not lines.busy


def test_a_page_is_given_up_on_and_a_record_is_not(shop: Shop):
    lines = shop.lines(1, 1)
    page, record = ask(lines, until_s=2.0), ask(lines, of_page=False)
    lines.give_up(1.9)
    assert (page, record) == ([], [])
    lines.give_up(2.0)
    assert (page, record) == ([(0, b"")], [])
    for connection in shop.accepted:
        with suppress(OSError):  # the one that was given up on
            connection.sendall(ANSWER)
    lines.wait(5)
    assert record == [(200, b"ok")]


def test_a_connection_that_breaks_is_no_answer(shop: Shop):
    lines = shop.lines(1)
    heard = ask(lines)
    shop.accepted[0].close()
    lines.wait(5)
    assert heard == [(0, b"")]
    assert not lines.busy


def test_records_take_no_connection_of_a_page(shop: Shop):
    lines = shop.lines(1, 1)
    ask(lines, of_page=False)
    assert not lines.free(of_page=False)
    assert lines.free(of_page=True)
    ask(lines)
    assert not lines.free(of_page=True)
    shop.answer(ANSWER)
    while lines.busy:
        lines.wait(5)
    assert lines.free(of_page=False)
    assert lines.free(of_page=True)
