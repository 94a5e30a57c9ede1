"""The real server as a process of its own, on a free port, with a data folder of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

START_S = 300.0  # the first start of a version compiles its kernels
STOP_S = 40.0


class Live:
    """A running server and a client for it."""

    def __init__(self, data: Path, environment: dict[str, str], *arguments: str) -> None:
        self.port = _free_port()
        self.data = data
        self._output = (data.parent / f"{data.name}.{self.port}.txt").open("w+")
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "onhand",
                "serve",
                *arguments,
                "--data",
                str(data),
                "--port",
                str(self.port),
            ],
            env=os.environ | environment,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def wait_ready(self) -> None:
        end_s = time.monotonic() + START_S
        while time.monotonic() < end_s:
            assert self.process.poll() is None, self.log()
            try:
                if self.client.get("/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"not ready within {START_S} s:\n{self.log()}")

    def log(self) -> str:
        return Path(self._output.name).read_text()

    def memory_bytes(self) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def settled_memory_bytes(self) -> int:
        """What it takes when the memory that is found ahead, after the start, has been found."""
        before, now = 0, self.memory_bytes()
        while now > before + 1_000_000:
            time.sleep(1)
            before, now = now, self.memory_bytes()
        return now

    def metric(self, name: str) -> float:
        for line in self.client.get("/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        raise AssertionError(f"no metric {name}")

    def post_events(self, events: list[dict[str, Any]]) -> dict[str, Any]:
        response = self.client.post("/v1/events", json=events)
        assert response.status_code == 202, response.text
        report: dict[str, Any] = response.json()
        return report

    def raw(self, content: bytes, wait_s: float = 20) -> bytes:
        """Send bytes as they are, and return what comes back until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait_s) as connection:
            connection.sendall(content)
            answer = b""
            while part := connection.recv(65536):
                answer += part
            return answer

    def stop(self, by: int = signal.SIGTERM) -> int:
        """Signal the process and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(by)
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.client.close()
            self._output.close()


Start = Callable[..., Live]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start servers, by default on one data folder; whatever still runs is stopped at the end."""
    started: list[Live] = []

    def start_one(data: Path = tmp_path / "data", *arguments: str, **environment: str) -> Live:
        server = Live(data, environment, *arguments)
        started.append(server)
        server.wait_ready()
        return server

    yield start_one
    for server in started:
        server.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One empty server for a module, quick to give up on slow clients."""
    live = Live(tmp_path_factory.mktemp("live") / "data", {"ONHAND_REQUEST_SECONDS": "2"})
    try:
        live.wait_ready()
        yield live
    finally:
        live.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def shop(server: Live) -> Live:
    """The module's server with twenty items, four of them sold out."""
    items = [
        {"id": f"i{number}", "title": f"Item {number}", "price": 2.5, "stock": number % 5}
        for number in range(20)
    ]
    assert server.client.put("/v1/items", json=items).status_code == 202
    return server


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
