"""Servers as processes of their own: started on a free port, waited for, stopped."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import msgspec

HARNESS = Path(__file__).parent


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def onhand(data: Path, **environment: str) -> Generator[int]:
    """`onhand serve` on a data folder; yields its port."""
    port = free_port()
    command = [sys.executable, "-m", "onhand", "serve", "--data", str(data), "--port", str(port)]
    with _process(command, port, "/readyz", environment):
        yield port


@contextmanager
def bare(*what: str) -> Generator[int]:
    """A bare ASGI app of `bare.py`; yields its port."""
    port = free_port()
    with _process([sys.executable, str(HARNESS / "bare.py"), str(port), *what], port, "/", {}):
        yield port


def send(port: int, method: str, path: str, records: Sequence[Any]) -> None:
    """Send records in batches of 1,000; raises where any is refused."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    for first in range(0, len(records), 1000):
        body = msgspec.json.encode(records[first : first + 1000])
        connection.request(method, path, body, {"content-type": "application/json"})
        response = connection.getresponse()
        content = response.read()
        if response.status != 202:
            raise RuntimeError(content[:500].decode())
    connection.close()


def get(port: int, path: str) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content


def connect(port: int, limit_s: float = 10) -> socket.socket:
    """A connection to whoever will listen on a port soon."""
    end_s = time.monotonic() + limit_s
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=limit_s)
        except OSError:
            if time.monotonic() > end_s:
                raise
            time.sleep(0.05)


@contextmanager
def _process(
    command: list[str], port: int, path: str, environment: Mapping[str, str]
) -> Generator[None]:
    process = subprocess.Popen(command, env={**os.environ, "PYTHONUNBUFFERED": "1", **environment})
    try:
        _await(process, port, path)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(process: "subprocess.Popen[bytes]", port: int, path: str, limit_s: float = 180) -> None:
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode}")
        try:
            status, _ = get(port, path)
        except (OSError, HTTPException):
            status = 0
        if status in (200, 202):
            return
        time.sleep(0.1)
    raise RuntimeError(f"the server was not ready within {limit_s:g} s")
