"""The server: uvicorn with the limits it lacks, and a stop that ends with exit status 0.

uvicorn waits for ever for a request whose head never ends, and answers what is not HTTP in plain
text. `Connection` bounds the head in bytes and time, and answers both with a problem document.

A page read is answered the moment its head is there, without a task and ASGI messages: a constant
answer then leaves at 2.3 times the rate of the bare ASGI app of `bench/page.py`. Clients send the
same header lines with each request of a connection, so lines that were judged plain once are not
parsed again. Whatever is not plain (an error, a body, a slow reader, the last request of a
connection) takes the ordinary way through the parser and the application.
"""

import asyncio
import contextlib
import re
import signal
import socket
import sys
from collections.abc import Generator, Sequence
from types import FrameType
from typing import Final, cast

import uvicorn
from httptools import HttpRequestParser
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from onhand.serving.app import App
from onhand.serving.guard import key_name
from onhand.serving.problems import Header, HttpError, describe

__all__ = ["Server", "listen"]

_HEAD_BYTES: Final = 64 * 1024
_REST_S: Final = 30.0
"""How long a client may go on sending a body that was refused already."""
_IDLE_S: Final = 75
"""How long a connection may be kept without a request."""
_ANSWERED_NOW: Final = 16
"""Page reads answered in one go when a client sends many without waiting; the rest take turns."""
_PAGE: Final = b"/v1/recommend/"
_PAGE_LINE: Final = re.compile(rb"GET (/v1/recommend/[!-~]*) HTTP/1\.1\r\n").match
_LINES_KEPT: Final = 4096
"""Header lines that are longer are parsed each time."""
_STOP_S: Final = 30
"""How long requests may take to finish after SIGTERM."""
_SWITCH_S: Final = 0.0005
"""How long another thread may keep the interpreter from the event loop; Python's own is 5 ms."""


class Connection(HttpToolsProtocol):
    """An HTTP/1.1 connection that gives up on slow and endless heads."""

    _head_began_s = 0.0
    _head_bytes = 0
    _rest_began_s = 0.0
    _idle_since_s = 0.0
    _answered = False
    _answered_now = 0
    _between = True
    _data = b""
    _plain_lines = b""
    _plain_headers: Sequence[Header] = ()
    _plain_key: bytes | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a first request."""
        self._head_began_s = self.loop.time()
        app = cast(App, self.config.app)
        self._answer_now = app.answer_now
        self._begin_round = app.begin_round
        self._admits_page = app.admits_page
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, unless the head grows without end."""
        if self._head_began_s:
            if self._head_bytes > _HEAD_BYTES:
                self._refuse(431, "head_too_large", f"The head is over {_HEAD_BYTES} bytes.")
                return
            self._head_bytes += len(data)
        self._answered_now = 0
        self._begin_round()
        if self._answer_known(data):
            return
        self._data = data if self._between else b""
        super().data_received(data)

    def _answer_known(self, data: bytes) -> bool:
        """Answer one page read whose header lines are those of an earlier one; nothing else may be
        under way on the connection."""
        lines = self._plain_lines
        if not (lines and self._between and data.endswith(lines) and self._is_quiet()):
            return False
        line = _PAGE_LINE(data)
        if line is None or line.end() + len(lines) != len(data):
            return False
        if not self._admits_page(self._plain_headers, self._plain_key):
            return False
        answer = self._answer_now(line[1], self.server_state.default_headers)
        if answer is None:
            return False
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        self.transport.write(answer)
        self._idle_since_s = self.loop.time()
        return True

    def _keep_lines(self) -> None:
        """Remember the header lines of a plain page read that came whole and alone."""
        line = _PAGE_LINE(self._data)
        if line is None or len(self._data) > _LINES_KEPT:
            return
        lines = self._data[line.end() :]
        if lines.find(b"\r\n\r\n") == len(lines) - 4:
            self._plain_lines, self._plain_headers = lines, self.headers
            self._plain_key = key_name(self.headers)

    def on_message_begin(self) -> None:
        """A head begins: it has so much time."""
        self._between = False
        self._head_began_s = self.loop.time()
        self._idle_since_s = 0.0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is whole: answer a page read at once, begin a task for anything else."""
        began_s = self._head_began_s
        self._head_began_s = 0.0
        self._head_bytes = 0
        if (
            self.url.startswith(_PAGE)
            and self._is_plain()
            and self._admits_page(self.headers, key_name(self.headers))
        ):
            answer = self._answer_now(self.url, self.server_state.default_headers)
            if answer is not None:
                self.transport.write(answer)
                self._answered = True
                self._answered_now += 1
                self._idle_since_s = began_s
                self._keep_lines()
                return
        super().on_headers_complete()

    def _is_plain(self) -> bool:
        """Whether nothing but the next request will come, and nothing else waits to go out."""
        parser = cast(HttpRequestParser, self.parser)
        return (
            parser.get_method() == b"GET"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and not self.expect_100_continue
            and self._answered_now < _ANSWERED_NOW
            and self._is_quiet()
        )

    def _is_quiet(self) -> bool:
        """Whether no answer is owed and none waits to be sent."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return not self.flow.write_paused and (cycle is None or cycle.response_complete)

    def on_body(self, body: bytes) -> None:
        """Take a part of a body; of one that was refused already, throw it away for a while."""
        if self._answered:
            return
        if self.cycle.response_complete and not self._rest_began_s:
            self._rest_began_s = self.loop.time()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._between = True
        self._rest_began_s = 0.0
        if self._answered:
            self._answered = False
        else:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self._refuse(400, "not_http", f"{msg} This port speaks HTTP/1.1.")

    def close_if_slow(self, now_s: float, limit_s: float) -> None:
        """Give up on a head or a refused body that has been coming for too long."""
        if _is_over(self._head_began_s, now_s, limit_s):
            if self._head_bytes:
                self._refuse(408, "slow_head", f"No whole request came within {limit_s:g} s.")
            else:
                self.transport.close()
        elif _is_over(self._rest_began_s, now_s, _REST_S) or _is_over(
            self._idle_since_s, now_s, _IDLE_S
        ):
            self.transport.close()

    def _may_answer(self) -> bool:
        """Whether no answer is half sent."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is None or cycle.response_complete or not cycle.response_started

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._head_began_s = 0.0
        if self.transport.is_closing():
            return
        if self._may_answer():
            body, headers = describe(HttpError(status, code, message))
            lines = b"".join(b"%b: %b\r\n" % header for header in headers)
            self.transport.write(STATUS_LINE[status] + lines + b"connection: close\r\n\r\n" + body)
        self.transport.close()


def _is_over(began_s: float, now_s: float, limit_s: float) -> bool:
    """Whether what began (0: nothing did) has taken longer than it may."""
    return bool(began_s) and now_s - began_s > limit_s


class Server(uvicorn.Server):
    """Serves one application until SIGTERM or SIGINT, then finishes what it began."""

    def __init__(self, app: App, request_s: float) -> None:
        self._request_s = request_s
        super().__init__(
            uvicorn.Config(
                app,
                loop="uvloop",
                http=Connection,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=_IDLE_S,
                timeout_graceful_shutdown=_STOP_S,
                backlog=2048,
            )
        )
        self.failed = False

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until asked to stop."""
        sys.setswitchinterval(_SWITCH_S)
        super().run(sockets)

    def fail(self) -> None:
        """Stop, and say that it was not by request."""
        self.failed = True
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Stop on a signal without raising it again afterwards: a stop by request is a success."""
        before = {each: signal.signal(each, self.handle_exit) for each in _SIGNALS}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Ask for the stop; a second signal stops without waiting for clients."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Look after slow connections about once a second."""
        if counter % 10 == 0:
            now_s = asyncio.get_running_loop().time()
            for connection in tuple(self.server_state.connections):
                if isinstance(connection, Connection):
                    connection.close_if_slow(now_s, self._request_s)
        return await super().on_tick(counter)


_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def listen(host: str, port: int) -> socket.socket:
    """Bind and listen. Raises `OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(2048)
    except OSError:
        bound.close()
        raise
    return bound
