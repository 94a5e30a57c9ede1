"""The real server as a process of its own: started, waited for, and always stopped."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["HOST", "Server", "ServerError", "free_port"]

HOST = "127.0.0.1"
READY_S = 600.0
"""The first run ever compiles before it is ready, on a busy machine for minutes."""

STOP_S = 15.0
COMMAND = (sys.executable, "-c", "from onhand.cli import main; main()", "serve")


class ServerError(Exception):
    """The server did not start, or ended by itself."""


def free_port(wanted: int) -> int:
    """The wanted port if nobody listens there, else any free one."""
    for port in (wanted, 0):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((HOST, port))
            except OSError:
                continue
            return int(listener.getsockname()[1])
    raise ServerError("there is no free port on this machine")


class Server:
    """`onhand serve --data DATA --port PORT`; a context manager that stops it on leaving."""

    def __init__(
        self, data: Path, port: int, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.port = port
        self.address = f"http://{HOST}:{port}"
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603  # our own command
                [*COMMAND, "--data", str(data), "--port", str(port)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"NO_COLOR": "1"} | dict(environment or {}),
                process_group=0,  # Ctrl-C is for the demo, which then stops the server
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def wait_ready(self) -> None:
        """Return when `/readyz` answers 200; raise `ServerError` when that takes too long."""
        deadline_s = time.monotonic() + READY_S
        while time.monotonic() < deadline_s:
            if not self.alive:
                raise ServerError(f"the server ended at once:\n{self.last_words()}")
            if self._ready():
                return
            time.sleep(0.05)
        raise ServerError(f"the server is not ready after {READY_S:g} s:\n{self.last_words()}")

    def _ready(self) -> bool:
        connection = HTTPConnection(HOST, self.port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def stop(self) -> int:
        """SIGTERM, so that it finishes, commits and checkpoints; its exit status."""
        if self.alive:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def kill(self) -> None:
        """SIGKILL: what it had not finished is lost."""
        self._process.kill()
        self._process.wait()

    def last_words(self) -> str:
        """The end of what it wrote."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return "\n".join(text.splitlines()[-15:])
