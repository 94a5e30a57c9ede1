"""The store of decision records: it never waits, stays in its bounds, tells what it lost."""

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from onhand.contracts.errors import Unavailable
from onhand.log import decisions
from onhand.log.decisions import DecisionStore, read_decision, read_decisions


class Clock:
    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "decisions.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[DecisionStore]:
    made = DecisionStore(path)
    yield made
    made.close()


def test_what_was_put_is_there_at_once_and_later(store: DecisionStore) -> None:
    bodies = {f"run-{n:x}": b"\0\xff%d" % n for n in range(1000)}
    for name, body in bodies.items():
        store.put(name, body)
        assert store.get(name) == body
    wait_until_stored(store)
    assert {name: store.get(name) for name in bodies} == bodies


def wait_until_stored(store: DecisionStore) -> None:
    for _ in range(400):
        if not store._queued:
            return
        threading.Event().wait(0.01)
    pytest.fail("the records are still queued after 4 s")


@pytest.mark.parametrize(
    "id", ["run-5", "run-1ffff", "ran-3", "", "-", "run-", "run-x", "Ü-€", "a-" + "f" * 99]
)
def test_an_unknown_one_is_none(store: DecisionStore, id: str) -> None:
    for number in (3, 4, 6):
        store.put(f"run-{number:x}", b"")
    wait_until_stored(store)
    assert store.get(id) is None
    assert store.get("run-4") == b""


def test_runs_are_told_apart(path: Path) -> None:
    for run in ("b", "a", "c-d"):
        store = DecisionStore(path)
        for number in range(40):
            store.put(f"{run}-{number:x}", run.encode())
        store.close()
    found = [read_decision(path, f"{run}-{n:x}") for run in ("a", "b", "c-d") for n in (0, 27)]
    assert found == [b"a", b"a", b"b", b"b", b"c-d", b"c-d"]


def test_a_sample_is_spread_evenly(path: Path) -> None:
    store = DecisionStore(path)
    for number in range(3_000):
        store.put(f"run-{number:x}", b"%d" % number)
        if number % 700 == 0:
            wait_until_stored(store)
    store.close()
    assert read_decisions(path, 0, 10) == [b"%d" % number for number in range(299, 3_000, 300)]
    assert len(read_decisions(path, 0, 10_000)) == 3_000
    assert read_decisions(path, 2**60, 10) == []


def test_closing_stores_what_waits(path: Path) -> None:
    first = DecisionStore(path)
    for n in range(10_000):
        first.put(f"run-{n:x}", b"%d" % n)
    first.close()
    first.close()
    second = DecisionStore(path)
    assert all(second.get(f"run-{n:x}") == b"%d" % n for n in range(10_000))
    second.close()


def test_the_oldest_leave_first(path: Path) -> None:
    for start in range(0, 300, 100):
        store = DecisionStore(path, max_count=150)
        for n in range(start, start + 100):
            store.put(f"run-{n:x}", b"x")
        store.close()
    store = DecisionStore(path, max_count=150)
    kept = [n for n in range(300) if store.get(f"run-{n:x}")]
    assert kept == list(range(100, 300)), "a batch leaves when none of it is among the latest 150"
    store.close()
    assert len(read_decisions(path, 0, 300)) == 200


def test_none_is_older_than_the_bound(path: Path) -> None:
    clock = Clock()
    store = DecisionStore(path, max_age_ms=5_000, clock_ms=clock)
    store.put("run-1", b"x")
    wait_until_stored(store)
    clock.now_ms += 5_000
    assert store.get("run-1") == b"x"
    clock.now_ms += 1
    assert store.get("run-1") is None
    store.put("run-2", b"y")
    store.close()
    assert read_decisions(path, 0, 9) == [b"y"]


def test_a_full_queue_drops_and_counts(path: Path) -> None:
    store = DecisionStore(path, max_queued=0)
    store.put("run-1", b"x")
    assert store.dropped == 1
    assert store.get("run-1") is None
    store.close()


def test_a_failing_disk_is_counted_told_once_and_survived(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = DecisionStore(path)
    store._writer.pragma("query_only", True)
    for n in range(3):
        store.put(f"run-{n}", b"x")
        wait_until_stored(store)
    assert store.dropped == 3
    assert caplog.text.count("decision records are being lost") == 1
    store._writer.pragma("query_only", False)
    store.put("run-9", b"y")
    store.close()
    again = DecisionStore(path)
    assert again.get("run-9") == b"y"
    assert again.get("run-0") is None
    again.close()


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no policies there")
def test_storing_does_not_interrupt_answers(store: DecisionStore) -> None:
    store.put("run-1", b"a record")
    wait_until_stored(store)
    threads = [each for each in threading.enumerate() if each.name == "decisions"]
    assert {os.sched_getscheduler(each.native_id or 0) for each in threads} == {os.SCHED_BATCH}


def test_read_by_many_threads_while_written(store: DecisionStore) -> None:
    wrong: list[str] = []

    def look() -> None:
        for n in range(2000):
            body = store.get(f"run-{n:x}")
            if body not in (None, b"%d" % n):
                wrong.append(f"run-{n:x}")

    readers = [threading.Thread(target=look) for _ in range(3)]
    for reader in readers:
        reader.start()
    for n in range(2000):
        store.put(f"run-{n:x}", b"%d" % n)
    for reader in readers:
        reader.join()
    assert wrong == []
    assert store.get(f"run-{1999:x}") == b"1999"


def test_a_batch_is_taken_while_more_is_put(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"run-{n:x}" for n in range(40_000)]
    stored: list[str] = []
    store = DecisionStore(path, max_queued=len(names))
    monkeypatch.setattr(decisions, "_GATHER_SECONDS", 0.0)
    monkeypatch.setattr(store, "_store", lambda batch: stored.extend(name for name, _ in batch))
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for n, name in enumerate(names):
            store.put(name, b"x")
            for _ in range(n % 50):  # what waits is little, and is taken at all moments
                pass
        wait_until_stored(store)
    finally:
        sys.setswitchinterval(interval_s)
    store.close()
    assert stored == names


def test_a_damaged_file_is_named(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(Unavailable, match="Move the file away"):
        DecisionStore(path)
