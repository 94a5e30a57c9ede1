"""The store of decision records: it never waits, stays in its bounds, tells what it lost."""

import threading
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from onhand.contracts.errors import Unavailable
from onhand.log.decisions import DecisionStore


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
    bodies = {f"d{n}": b"\0\xff%d" % n for n in range(1000)}
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


def test_an_unknown_one_is_none(store: DecisionStore) -> None:
    assert store.get("never") is None


def test_an_empty_body_and_any_id_come_back(store: DecisionStore) -> None:
    store.put("Ü-€", b"")
    store.put("it's", b"x")
    wait_until_stored(store)
    assert store.get("Ü-€") == b""
    assert store.get("it's") == b"x"


def test_the_same_id_again_replaces(store: DecisionStore) -> None:
    store.put("d", b"before")
    store.put("d", b"after")
    wait_until_stored(store)
    assert store.get("d") == b"after"


def test_closing_stores_what_waits(path: Path) -> None:
    first = DecisionStore(path)
    for n in range(10_000):
        first.put(f"d{n}", b"%d" % n)
    first.close()
    first.close()
    second = DecisionStore(path)
    assert all(second.get(f"d{n}") == b"%d" % n for n in range(10_000))
    second.close()


def test_the_oldest_leave_first(path: Path) -> None:
    for start in range(0, 300, 100):
        store = DecisionStore(path, max_count=150)
        for n in range(start, start + 100):
            store.put(f"d{n}", b"x")
        store.close()
    store = DecisionStore(path, max_count=150)
    assert [n for n in range(300) if store.get(f"d{n}")] == list(range(150, 300))
    store.close()
    connection = apsw.Connection(str(path))
    assert connection.execute("SELECT count(*) FROM decisions").get == 150
    connection.close()


def test_none_is_older_than_the_bound(path: Path) -> None:
    clock = Clock()
    store = DecisionStore(path, max_age_ms=5_000, clock_ms=clock)
    store.put("old", b"x")
    wait_until_stored(store)
    clock.now_ms += 5_000
    assert store.get("old") == b"x"
    clock.now_ms += 1
    assert store.get("old") is None
    store.put("new", b"y")
    store.close()
    connection = apsw.Connection(str(path))
    assert connection.execute("SELECT id FROM decisions").get == "new"
    connection.close()


def test_a_full_queue_drops_and_counts(path: Path) -> None:
    store = DecisionStore(path, max_queued=0)
    store.put("d", b"x")
    assert store.dropped == 1
    assert store.get("d") is None
    store.close()


def test_a_failing_disk_is_counted_told_once_and_survived(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = DecisionStore(path)
    store._writer.pragma("query_only", True)
    for n in range(3):
        store.put(f"lost{n}", b"x")
        wait_until_stored(store)
    assert store.dropped == 3
    assert caplog.text.count("decision records are being lost") == 1
    store._writer.pragma("query_only", False)
    store.put("kept", b"y")
    store.close()
    again = DecisionStore(path)
    assert again.get("kept") == b"y"
    assert again.get("lost0") is None
    again.close()


def test_read_by_many_threads_while_written(store: DecisionStore) -> None:
    wrong: list[str] = []

    def look() -> None:
        for n in range(2000):
            body = store.get(f"d{n}")
            if body not in (None, b"%d" % n):
                wrong.append(f"d{n}")

    readers = [threading.Thread(target=look) for _ in range(3)]
    for reader in readers:
        reader.start()
    for n in range(2000):
        store.put(f"d{n}", b"%d" % n)
    for reader in readers:
        reader.join()
    assert wrong == []
    assert store.get("d1999") == b"1999"


def test_a_damaged_file_is_named(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(Unavailable, match="Move the file away"):
        DecisionStore(path)
