"""Kill -9 under load: nothing acknowledged is lost, nothing is applied twice.

Clients post batches of clicks as fast as they can and send a batch again, with the same ids, until
it is acknowledged. The server is killed at random moments, some of them while it is still folding
its log, and started again on the same data. `ONHAND_SEED` repeats a run's draws.
"""

import http.client
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from onhand.contracts.records import Event, Item
from onhand.log.sqlite import SqliteLog

pytestmark = pytest.mark.live

KILLS = 20
CLIENTS = 3
START_S = 120  # a first start compiles the kernels


class Server:
    """`onhand serve` on one data folder, started again after each kill."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.output = folder / "server.txt"
        self.port: int | None = None

    def start(self) -> None:
        """Start, and return when the port is known; the log is folded behind that."""
        environment = os.environ | {"ONHAND_CHECKPOINT_RECORDS": "20000"}
        command = "from onhand.cli import main; main()"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", command, "serve", "--data", str(self.data), "--port", "0"],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.port = int(self.wait_for(r"http://127\.0\.0\.1:(\d+)")[1])

    def wait_for(self, pattern: str) -> re.Match[str]:
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            found = re.search(pattern, self.output.read_text())
            if found:
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        pytest.fail(f"the server did not say {pattern!r}:\n{self.output.read_text()}")

    def wait_until_ready(self) -> int:
        """Return the offset the server begins from."""
        self.wait_for("ready at offset")
        return self.ask("GET", "/readyz")["offset"]

    def ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port or 0, timeout=30)) as to:
            to.request(method, path, body, {"Content-Type": "application/json"})
            answer = to.getresponse()
            content = answer.read()
            assert answer.status in (200, 202), content
            return json.loads(content)

    def kill(self) -> None:
        self.port = None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(START_S)


class Client(threading.Thread):
    """Posts clicks on its own item; `acknowledged` has each batch's last id and the offset."""

    def __init__(self, number: int, server: Server, seed: int) -> None:
        super().__init__(name=f"client-{number}")
        self.item = f"item-{number}"
        self.server = server
        self.chance = random.Random(seed)
        self.stopping = threading.Event()
        self.sent = 0
        self.cut_off = 0
        self.known_already = 0
        self.acknowledged: list[tuple[int, int]] = []
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                self.post_until_acknowledged(self.next_batch())
        except Exception as failure:
            self.failure = failure

    def next_batch(self) -> list[dict[str, str]]:
        first = self.sent
        self.sent += self.chance.choice((1, 10, 100, 400))
        return [self.click(n) for n in range(first, self.sent)]

    def click(self, number: int) -> dict[str, str]:
        name = f"{self.item}-{number}"
        return {"type": "click", "item": self.item, "session": f"s-{number % 97}", "id": name}

    def post_until_acknowledged(self, batch: list[dict[str, str]]) -> None:
        body = json.dumps(batch).encode()
        while (report := self.post(body)) is None:
            time.sleep(0.005)
        assert report["rejected"] == 0
        assert report["accepted"] + report["duplicates"] == len(batch)
        self.known_already += report["duplicates"]
        self.acknowledged.append((self.sent - 1, report["offset"]))

    def post(self, body: bytes) -> dict[str, int] | None:
        """Return the report, or None when the server is gone, going, or not ready."""
        port = self.server.port
        if port is None:
            return None
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("POST", "/v1/events", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
        except ConnectionRefusedError:
            return None
        except (OSError, http.client.HTTPException):
            self.cut_off += 1
            return None
        finally:
            connection.close()
        if answer.status == 503:
            return None
        assert answer.status == 202, content
        return json.loads(content)

    @property
    def offset(self) -> int:
        return self.acknowledged[-1][1] if self.acknowledged else 0


@contextmanager
def posting(server: Server, seed: int) -> Generator[list[Client]]:
    clients = [Client(number, server, seed + number) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield clients
    finally:
        for client in clients:
            client.stopping.set()
        for client in clients:
            client.join(START_S)


def test_killed_at_random_moments(tmp_path: Path) -> None:
    seed = int(os.environ.get("ONHAND_SEED") or random.randrange(2**32))
    print(f"ONHAND_SEED={seed}")
    chance = random.Random(seed)
    server = Server(tmp_path)
    server.start()
    try:
        server.wait_until_ready()
        for number in range(CLIENTS):
            server.ask("PUT", "/v1/items", json.dumps({"id": f"item-{number}"}).encode())
        with posting(server, seed) as clients:
            kill_under_load(server, clients, chance)
        for client in clients:
            if client.failure:
                raise client.failure
        counts_must_be_exact(server, clients)
        assert server.stop() == 0, server.output.read_text()
    finally:
        server.kill()
    log_must_hold_each_event_once(server, clients)


def kill_under_load(server: Server, clients: list[Client], chance: random.Random) -> None:
    time.sleep(chance.uniform(0.05, 0.4))
    for number in range(KILLS):
        server.kill()
        acknowledged = max(client.offset for client in clients)
        server.start()
        if number < KILLS - 1 and chance.random() < 0.4:
            time.sleep(chance.uniform(0, 1))  # most likely it is folding its log
        else:
            assert server.wait_until_ready() >= acknowledged
            time.sleep(chance.uniform(0.05, 0.4))


def counts_must_be_exact(server: Server, clients: list[Client]) -> None:
    """What the API says equals what was sent; sent once more, all of it is a duplicate."""
    for client in clients:
        facts = server.ask("GET", f"/v1/items/{client.item}")
        assert facts["windows"]["clicks_1d"] == client.sent
        again = [client.click(n) for n in range(min(client.sent, 1_000))]
        report = server.ask("POST", "/v1/events", json.dumps(again).encode())
        assert (report["accepted"], report["duplicates"]) == (0, len(again))


def log_must_hold_each_event_once(server: Server, clients: list[Client]) -> None:
    offsets: dict[str, int] = {}
    end = 0
    with closing(SqliteLog(server.data / "log.db")) as log:
        for batch in log.read():
            assert batch.first == end + 1, "a hole in the offsets"
            for record in batch.records:
                end += 1
                if isinstance(record, Event):
                    assert record.id is not None
                    assert record.id not in offsets, "an event was applied twice"
                    offsets[record.id] = end
                else:
                    assert isinstance(record, Item)
        assert log.last == end
    for client in clients:
        for last, offset in client.acknowledged:
            assert offsets[f"{client.item}-{last}"] <= offset
        assert all(f"{client.item}-{n}" in offsets for n in range(client.sent))
    assert len(offsets) == sum(client.sent for client in clients)
    batches = sum(len(client.acknowledged) for client in clients)
    cut_off = sum(client.cut_off for client in clients)
    known = sum(client.known_already for client in clients)
    print(f"{KILLS} kills, {batches} batches of {len(offsets)} events: 0 lost, 0 twice;")
    print(f"{cut_off} batches cut off, {known} events of them durable before their second sending")
    assert cut_off, "no batch was under way at a kill: the load was too light"
