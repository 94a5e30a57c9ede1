"""One conformance suite for every form of the log, and what only the file can get wrong."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import apsw
import msgspec
import pytest

from onhand.contracts.records import (
    Context,
    Control,
    Event,
    Fulfilment,
    Item,
    ItemDelete,
    ItemPatch,
    Record,
    Signal,
)
from onhand.log.memory import MemoryLog
from onhand.log.port import Batch, Log, LogDamaged, LogFailed, LogRefused, Packed
from onhand.log.sqlite import FORMAT_VERSION, SqliteLog

EVERY_KIND: list[Record] = [
    Event(type="view", user="u1", session="s1", item="85123A", time=1_323_000_000_000, id="e1"),
    Event(type="purchase", user="ü", value=2.55, quantity=6, context=Context(country="GB")),
    Item(id="85123A", title="WHITE HANGING HEART", price=2.55, stock=None, tags=["heart"]),
    Item(id="empty"),
    ItemPatch(id="85123A", stock=0, attributes={"fair": True, "weight": 0.5}),
    ItemDelete(id="85123A"),
    Signal(item="85123A", stock=3, flags=[], fulfilment=Fulfilment(slots=2, congestion=0.25)),
    Control(name="rule:pin", body={"item": "85123A"}),
]


def views(first: int, count: int) -> list[Record]:
    return [Event(type="view", item=f"i{n}", id=f"e{n}") for n in range(first, first + count)]


def unpacked(batch: Packed) -> list[Record]:
    header = b"\xdd" + batch.count.to_bytes(4, "big")
    return msgspec.msgpack.decode(header + batch.elements, type=list[Record])


def records_of(batches: Iterator[Batch]) -> list[tuple[int, Record]]:
    return [
        (batch.first + index, record)
        for batch in batches
        for index, record in enumerate(batch.records)
    ]


@pytest.fixture(params=["memory", "sqlite"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    made: Log = MemoryLog() if request.param == "memory" else SqliteLog(tmp_path / "log.sqlite")
    yield made
    made.close()


class TestEveryLog:
    def test_begins_empty(self, log: Log) -> None:
        assert log.last == 0
        assert list(log.read()) == []

    def test_offsets_begin_at_one_and_go_on_without_holes(self, log: Log) -> None:
        assert log.append(views(1, 3)) == 3
        assert log.append(views(4, 1)) == 4
        assert log.last == 4
        assert records_of(log.read()) == list(enumerate(views(1, 4), 1))

    def test_every_kind_of_record_comes_back_equal(self, log: Log) -> None:
        log.append(EVERY_KIND)
        assert [record for _, record in records_of(log.read())] == EVERY_KIND

    def test_an_empty_batch_changes_nothing(self, log: Log) -> None:
        assert log.append([]) == 0
        log.append(views(1, 2))
        assert log.append([]) == 2
        assert len(records_of(log.read())) == 2

    def test_read_begins_behind_any_offset_also_inside_a_batch(self, log: Log) -> None:
        for first in range(1, 31, 3):
            log.append(views(first, 3))
        everything = list(enumerate(views(1, 30), 1))
        for after in range(33):
            assert records_of(log.read(after)) == everything[after:]

    def test_what_is_packed_is_what_is_read_from_any_offset_on(self, log: Log) -> None:
        for first in range(1, 31, 3):
            log.append(views(first, 3))
        log.append(views(31, 20))
        for after in range(52):
            batches = [Batch(each.first, unpacked(each)) for each in log.packed(after)]
            assert records_of(iter(batches)) == records_of(log.read(after))

    def test_no_batch_is_empty(self, log: Log) -> None:
        log.append(views(1, 3))
        log.append(views(4, 3))
        assert all(batch.records for after in range(7) for batch in log.read(after))

    def test_a_caller_may_reuse_its_list(self, log: Log) -> None:
        mine = views(1, 2)
        log.append(mine)
        mine.clear()
        assert len(records_of(log.read())) == 2

    def test_appends_while_a_read_is_under_way(self, log: Log) -> None:
        for first in range(1, 10_001, 500):
            log.append(views(first, 500))
        seen: list[int] = []
        for batch in log.read():
            if not seen:
                log.append(views(10_001, 2))
            seen += range(batch.first, batch.first + len(batch.records))
        assert seen == list(range(1, 10_003))

    def test_append_on_another_thread_than_read(self, log: Log) -> None:
        def write() -> None:
            for first in range(1, 601, 3):
                log.append(views(first, 3))

        writer = threading.Thread(target=write)
        writer.start()
        while True:
            done = not writer.is_alive()
            seen = [offset for offset, _ in records_of(log.read())]
            assert seen == list(range(1, len(seen) + 1))
            if done:
                break
        writer.join()
        assert len(seen) == 600

    def test_closed_it_takes_no_more_and_closes_again(self, log: Log) -> None:
        log.append(views(1, 1))
        log.close()
        log.close()
        with pytest.raises(LogFailed, match="closed"):
            log.append(views(2, 1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "log.sqlite"


def write(path: Path, *batches: Sequence[Record]) -> None:
    log = SqliteLog(path)
    for batch in batches:
        log.append(batch)
    log.close()


def edit(path: Path, sql: str, *values: object) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(sql, values)  # type: ignore[arg-type]
    connection.close()


class TestSqliteLog:
    def test_goes_on_where_it_ended(self, path: Path) -> None:
        write(path, views(1, 3), views(4, 2))
        log = SqliteLog(path)
        assert log.last == 5
        assert log.append(views(6, 1)) == 6
        assert records_of(log.read()) == list(enumerate(views(1, 6), 1))
        log.close()

    def test_a_batch_is_one_row_of_messagepack_maps(self, path: Path) -> None:
        write(path, EVERY_KIND)
        connection = apsw.Connection(str(path))
        first, count, body = connection.execute("SELECT first, count, body FROM batches").fetchone()  # type: ignore[misc]
        connection.close()
        assert (first, count) == (1, len(EVERY_KIND))
        assert isinstance(body, bytes)
        assert msgspec.msgpack.decode(body) == msgspec.to_builtins(EVERY_KIND)

    def test_a_second_opening_is_refused_and_names_the_process(self, path: Path) -> None:
        log = SqliteLog(path)
        with pytest.raises(LogRefused, match=r"open in another process \(id \d+\)") as refused:
            SqliteLog(path)
        assert refused.value.code == "log_in_use"
        log.close()
        SqliteLog(path).close()

    def test_another_process_is_refused(self, path: Path) -> None:
        log = SqliteLog(path)
        opening = (
            "import sys, pathlib, onhand.log.sqlite as s; s.SqliteLog(pathlib.Path(sys.argv[1]))"
        )
        other = subprocess.run(
            [sys.executable, "-c", opening, str(path)], capture_output=True, text=True, check=False
        )
        assert other.returncode == 1
        assert f"open in another process (id {os.getpid()})" in other.stderr
        log.close()

    def test_a_newer_format_is_refused_untouched(self, path: Path) -> None:
        write(path, views(1, 1))
        edit(path, f"PRAGMA user_version = {FORMAT_VERSION + 1}")
        before = path.read_bytes()
        with pytest.raises(LogRefused, match="Upgrade onhand") as refused:
            SqliteLog(path)
        assert refused.value.code == "log_too_new"
        assert path.read_bytes() == before

    def test_another_database_is_refused(self, path: Path) -> None:
        path.parent.mkdir()
        edit(path, "CREATE TABLE theirs (x)")
        with pytest.raises(LogRefused, match="is not a log") as refused:
            SqliteLog(path)
        assert refused.value.code == "not_a_log"

    @pytest.mark.parametrize("content", [b"hello" * 1000, b"SQLite format 3\x00" + bytes(4080)])
    def test_a_file_that_is_no_database_is_refused(self, path: Path, content: bytes) -> None:
        path.parent.mkdir()
        path.write_bytes(content)
        with pytest.raises(LogRefused):
            SqliteLog(path)
        assert path.read_bytes() == content

    @pytest.mark.parametrize(
        ("sql", "offset"),
        [
            ("UPDATE batches SET body = substr(body, 1, length(body) - 1) WHERE first = 4", 4),
            ("UPDATE batches SET body = zeroblob(length(body)) WHERE first = 4", 4),
            ("UPDATE batches SET crc = crc + 1 WHERE first = 4", 4),
            ("UPDATE batches SET count = 2 WHERE first = 4", 4),
            ("DELETE FROM batches WHERE first = 4", 4),
            ("UPDATE batches SET body = x'c1', crc = 2768625435 WHERE first = 4", 4),
        ],
    )
    def test_damage_is_named_by_its_offset(self, path: Path, sql: str, offset: int) -> None:
        write(path, views(1, 3), views(4, 3), views(7, 3))
        edit(path, sql)
        log = SqliteLog(path)
        seen: list[tuple[int, int]] = []
        with pytest.raises(LogDamaged, match=f"at offset {offset} ") as damaged:
            seen.extend((batch.first, len(batch.records)) for batch in log.read())
        assert damaged.value.offset == offset
        assert seen == [(1, 3)]
        log.close()

    def test_a_long_log_survives_its_own_checkpoints(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("onhand.log.sqlite._WAL_PAGES", 5)
        log = SqliteLog(path)
        for first in range(1, 401, 4):
            log.append(views(first, 4))
        wal = path.with_name(path.name + "-wal")
        assert wal.stat().st_size < 40 * 16_384
        assert records_of(log.read()) == list(enumerate(views(1, 400), 1))
        log.close()

    def test_small_appends_are_read_together(self, path: Path) -> None:
        log = SqliteLog(path)
        for first in range(1, 101):
            log.append(views(first, 1))
        log.append(views(101, 8_000))
        log.append(views(8_101, 1))
        assert [(batch.first, len(batch.records)) for batch in log.read()] == [
            (1, 8_100),
            (8_101, 1),
        ]
        log.close()

    def test_a_read_left_early_holds_nothing(self, path: Path) -> None:
        log = SqliteLog(path)
        for first in range(1, 5_001, 1_000):
            log.append(views(first, 1_000))
        batches = log.read()
        next(batches)
        batches.close()  # type: ignore[attr-defined]
        log.close()
        assert not path.with_name(path.name + "-wal").exists()
