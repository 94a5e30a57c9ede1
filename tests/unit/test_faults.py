"""The fault switchboard: what each fault does to its part, and that nobody comes by one."""

import asyncio
import errno
import os
import signal
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from onhand import wiring
from onhand.contracts.errors import Unavailable
from onhand.contracts.records import Event, Record
from onhand.engine import Engine
from onhand.log import faults as disks
from onhand.log import sqlite
from onhand.log.faults import FaultyDisk
from onhand.log.memory import MemoryLog
from onhand.log.port import LogFailed, LogFull
from onhand.log.sqlite import SqliteLog, SqliteReader
from onhand.ranking.model import Linear
from onhand.serving.app import App
from onhand.serving.faults import JUMP_MS, Faults, _BreakingScorer
from onhand.serving.keys import KeyFile
from onhand.serving.problems import HttpError
from onhand.serving.service import Service
from onhand.settings import Settings
from onhand.state.state import Limits


def events(number: int, count: int = 50) -> list[Record]:
    return [Event("view", session="s", item="mug", id=f"{number}-{at}") for at in range(count)]


def switchboard() -> Faults:
    return Faults(FaultyDisk(), lambda: 1_000)


def test_a_full_disk_loses_nothing_and_takes_more_when_there_is_room(tmp_path: Path):
    disk = FaultyDisk()
    log = SqliteLog(tmp_path / "log.db", disk.name)
    kept: list[Record] = []
    for number in range(30):
        disk.full = number % 3 == 1
        if disk.full:
            with pytest.raises(LogFull, match="Nothing of this request was taken"):
                log.append(events(number))
        else:
            kept += events(number)
            assert log.append(events(number)) == len(kept)
    log.close()
    again = SqliteReader(tmp_path / "log.db")
    assert [record for batch in again.read() for record in batch.records] == kept


def test_a_disk_that_is_full_at_a_checkpoint_does_not_end_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sqlite, "_WAL_PAGES", 0)
    disk = FaultyDisk()
    log = SqliteLog(tmp_path / "log.db", disk.name)
    real = log._checkpoint

    def checkpoint_full() -> None:
        disk.full = True
        real()
        disk.full = False

    monkeypatch.setattr(log, "_checkpoint", checkpoint_full)
    assert log.append(events(0)) == 50
    assert log.append(events(1)) == 100
    log.close()


def test_files_are_written_and_synced_by_calls_that_let_the_interpreter_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    calls: list[tuple[str, str]] = []

    def watch(name: str) -> None:
        real = getattr(os, name)

        def call(descriptor: int, *rest: object) -> object:
            calls.append((name, str(Path(f"/proc/self/fd/{descriptor}").readlink())))
            return real(descriptor, *rest)

        monkeypatch.setattr(disks.os, name, call)

    disk = FaultyDisk()
    log = SqliteLog(tmp_path / "log.db", disk.name)
    watch("pwrite")
    watch("fdatasync")
    log.append(events(0))
    assert calls[-1] == ("fdatasync", f"{tmp_path}/log.db-wal")
    assert ("pwrite", f"{tmp_path}/log.db-wal") in calls
    log.close()


@pytest.mark.parametrize(
    ("call", "code", "refusal"),
    [
        ("fdatasync", errno.EIO, LogFailed),
        ("pwrite", errno.EIO, LogFailed),
        ("pwrite", errno.ENOSPC, LogFull),
    ],
)
def test_an_error_of_the_real_disk_is_what_it_is_without_the_layer(
    call: str, code: int, refusal: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    disk = FaultyDisk()
    log = SqliteLog(tmp_path / "log.db", disk.name)
    log.append(events(0))

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as broken:
        broken.setattr(disks.os, call, fail)
        with pytest.raises(refusal):
            log.append(events(1))
    if refusal is LogFull:
        assert log.append(events(1)) == 100
    else:
        with pytest.raises(refusal):
            log.append(events(1))
    log.close()


def test_a_slow_disk_delays_each_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    slept: list[float] = []
    monkeypatch.setattr(disks.time, "sleep", slept.append)
    disk = FaultyDisk()
    log = SqliteLog(tmp_path / "log.db", disk.name)
    log.append(events(0))
    assert slept == []
    disk.slow = True
    log.append(events(1))
    assert slept
    assert set(slept) == {0.5}
    disk.slow = False
    log.close()


def test_the_clock_jumps_and_comes_back():
    faults = switchboard()
    faults.switch("clock-jump", True)
    assert faults.now_ms() == 1_000 + JUMP_MS
    faults.switch("clock-jump", False)
    assert faults.now_ms() == 1_000


def test_a_model_breaks_as_it_is_told(monkeypatch: pytest.MonkeyPatch):
    on, slept, killed = set[str](), list[float](), list[int]()
    monkeypatch.setattr("onhand.serving.faults.time.sleep", slept.append)
    monkeypatch.setattr("onhand.serving.faults.os.kill", lambda _, number: killed.append(number))
    model = _BreakingScorer(Linear(np.ones(2, np.float32)), on.__contains__)
    rows: NDArray[np.float32] = np.ones((3, 2), np.float32)

    assert model.score(rows).tolist() == [2, 2, 2]
    on.add("slow-model")
    assert model.score(rows).tolist() == [2, 2, 2]
    assert slept == [2.0]
    on.add("failing-model")
    with pytest.raises(RuntimeError, match="drill"):
        model.score(rows)
    on.clear()
    on.add("killed-scorer")
    model.score(rows)
    assert killed == [signal.SIGKILL]


def test_an_unknown_fault_is_refused():
    with pytest.raises(HttpError, match="no fault 'gremlin'"):
        switchboard().switch("gremlin", True)


def ask(faults: Faults | None, method: str, path: str) -> httpx.Response:
    engine = Engine(MemoryLog(), limits=Limits(10, 10, 10, 4, 10))
    app = App(Service(engine, Settings(), faults=faults))

    async def inner() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path)

    return asyncio.run(inner())


def test_the_route_switches_where_there_is_a_switchboard():
    faults = switchboard()
    assert ask(faults, "PUT", "/faults/clock-jump").status_code == 204
    assert faults.on() == ["clock-jump"]
    assert ask(faults, "DELETE", "/faults/clock-jump").status_code == 204
    assert faults.on() == []
    assert ask(faults, "PUT", "/faults/gremlin").status_code == 404
    assert ask(faults, "GET", "/faults/clock-jump").status_code == 405
    assert ask(faults, "PUT", "/elsewhere").status_code == 404


def test_there_is_no_such_route_by_default():
    assert Settings().faults is False
    assert ask(None, "PUT", "/faults/clock-jump").status_code == 404


def test_only_loopback_without_keys_may_be_broken(tmp_path: Path):
    keys = KeyFile(tmp_path)
    assert wiring._open_faults(Settings(), keys) is None
    for settings in (
        Settings(faults=True, host="::"),
        Settings(faults=True, admin_host="10.0.0.1"),
    ):
        with pytest.raises(Unavailable, match="drills on loopback"):
            wiring._open_faults(settings, keys)
    keys.create("read", 0)
    with pytest.raises(Unavailable, match="without keys"):
        wiring._open_faults(Settings(faults=True), keys)
