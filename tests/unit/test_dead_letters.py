"""What is refused is kept, leaves in order, and goes in exactly once."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from onhand import redelivery
from onhand.contracts.contract import Draft
from onhand.contracts.errors import Unavailable
from onhand.contracts.letters import DeadLetter, LetterFilter
from onhand.contracts.records import Item, Record
from onhand.contracts.registry import control_of
from onhand.engine import Engine
from onhand.log.dead_letters import DeadLetterStore
from onhand.log.memory import MemoryLog
from onhand.log.port import Log
from onhand.state.state import Limits

NOW_MS = 1_795_000_000_000
ALL = LetterFilter()
LIMITS = Limits(items=64, users=32, sessions=32)


def letter(raw: bytes = b"{}", code: str = "wrong_type", **fields: Any) -> DeadLetter:
    made = DeadLetter(
        "events", 1, code, "why", "item", "/v1/events", "application/json", NOW_MS, raw
    )
    return msgspec.structs.replace(made, **fields)


def event(n: int, time: int = NOW_MS * 10**6, **fields: Any) -> bytes:
    return msgspec.json.encode(
        {"type": "view", "session": "s", "item": f"i{n}", "time": time} | fields
    )


def opened(path: Path, **options: Any) -> DeadLetterStore:
    return DeadLetterStore(path / "dead_letters.db", clock_ms=lambda: NOW_MS, **options)  # type: ignore[arg-type]


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    store = opened(tmp_path)
    token = store.token
    store.append([letter(b"\xff\0x", "a"), letter(b"2", "b", field=None, contract="items")])
    first, second = store.read()
    assert (first.raw, first.number, second.field) == (b"\xff\0x", 1, None)
    assert [each.number for each in store.read(LetterFilter(code="b"))] == [2]
    assert [each.number for each in store.read(LetterFilter(contract="events"))] == [1]
    assert store.read(ALL, after=1) == [second]
    store.close()
    store = opened(tmp_path)
    assert store.token == token
    assert store.count() == 2
    stats = store.stats()
    assert (stats.letters, stats.left, stats.oldest_ms) == (2, 0, NOW_MS)
    assert {(each.contract, each.code) for each in stats.by_code} == {
        ("events", "a"),
        ("items", "b"),
    }
    assert store.purge(LetterFilter(code="a")) == 1
    assert store.remove([2, 77]) == 1
    assert store.stats().bytes == 0
    store.append([letter()])
    assert store.read()[0].number == 3, "numbers are never used twice"
    store.close()


def test_the_oldest_leave_first_and_are_counted(tmp_path: Path) -> None:
    store = opened(tmp_path, max_bytes=10_000, max_age_ms=1000)
    store.append([letter(time_ms=NOW_MS - 2000), letter()])
    assert [each.number for each in store.read()] == [2]
    for _ in range(30):
        store.append([letter(b"x" * 744)])
    assert store.stats().bytes <= 10_000
    assert store.stats().left == 22
    assert next(each.number for each in store.read()) == 23
    store.close()


def test_a_huge_one_is_cut_and_says_so(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.append([letter(b"x" * (2 << 20))])
    kept = store.read()[0]
    assert (len(kept.raw), kept.truncated) == (1 << 20, True)
    store.close()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "dead_letters.db").write_bytes(b"nonsense" * 1000)
    with pytest.raises(Unavailable, match="Move the file away"):
        opened(tmp_path)


def test_threads_may_share_it(tmp_path: Path) -> None:
    store = opened(tmp_path)
    threads = [
        threading.Thread(target=lambda: [store.append([letter()]) for _ in range(20)])
        for _ in range(4)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert store.count() == 80
    store.close()


class Crash(Exception):
    """The process ends here."""


class CrashingStore(DeadLetterStore):
    """Ends the process after the log has the letters, and before they leave."""

    crash = False

    def remove(self, numbers: Sequence[int]) -> int:  # type: ignore[override]
        if self.crash and numbers:
            raise Crash
        return super().remove(numbers)


def engine_on(log: Log) -> Engine:
    engine = Engine(log, limits=LIMITS)
    engine.load()
    return engine


def widen(engine: Engine) -> None:
    draft = {"fields": {"time": {"type": "time", "units": ["milliseconds", "nanoseconds"]}}}
    contract = engine.contracts.draft("events", msgspec.convert(draft, Draft))
    assert engine.ingest([control_of(contract)], NOW_MS).rejected == 0


def events_in(log: Log) -> list[Record]:
    return [r for batch in log.read() for r in batch.records if type(r).__name__ == "Event"]


@pytest.mark.parametrize("with_ids", [True, False])
def test_a_retry_puts_each_in_exactly_once_also_across_a_crash(
    tmp_path: Path, with_ids: bool
) -> None:
    log = MemoryLog()
    engine = engine_on(log)
    store = CrashingStore(tmp_path / "dead_letters.db")
    ids: list[dict[str, Any]] = [{"id": f"e{n}"} if with_ids else {} for n in range(450)]
    store.append([letter(event(n % 9, **ids[n]), "time_unit") for n in range(450)])
    report = redelivery.redeliver(engine, store, ALL, NOW_MS)
    assert (report.accepted, report.refused, report.remaining) == (0, 450, 450)
    widen(engine)
    store.crash = True
    with pytest.raises(Crash):
        redelivery.redeliver(engine, store, ALL, NOW_MS)
    assert (len(events_in(log)), store.count()) == (200, 450)
    store.crash = False
    engine = engine_on(log)
    report = redelivery.redeliver(engine, store, ALL, NOW_MS)
    assert (report.accepted, report.refused, report.remaining) == (250, 0, 0)
    assert len(events_in(log)) == 450
    report = redelivery.redeliver(engine, store, ALL, NOW_MS)
    assert (report.accepted, len(events_in(log))) == (0, 450)
    store.close()


def test_another_store_s_numbers_mean_nothing(tmp_path: Path) -> None:
    log = MemoryLog()
    engine = engine_on(log)
    store = opened(tmp_path)
    store.append([letter(event(1, NOW_MS))])
    assert redelivery.redeliver(engine, store, ALL, NOW_MS).accepted == 1
    store.close()
    (tmp_path / "dead_letters.db").unlink()
    store = opened(tmp_path)
    store.append([letter(event(2, NOW_MS))])
    assert redelivery.redeliver(engine, store, ALL, NOW_MS).accepted == 1
    store.close()


def test_what_is_refused_again_stays_with_its_new_reason(tmp_path: Path) -> None:
    engine = engine_on(MemoryLog())
    store = opened(tmp_path)
    two = b"[" + event(1, NOW_MS) + b"," + event(2, 5) + b"]"
    store.append(
        [
            letter(b'{"type":"view"'),
            letter(event(1, NOW_MS, id="x")),
            letter(event(1, NOW_MS, id="x")),
            letter(two),
            letter(event(1), content_type="text/csv"),
            letter(event(1), truncated=True),
        ]
    )
    report = redelivery.redeliver(engine, store, ALL, NOW_MS)
    assert (report.accepted, report.duplicates, report.refused) == (1, 1, 4)
    assert [(each.number, each.code) for each in store.read()] == [
        (1, "malformed"),
        (4, "time_range"),
        (5, "content_type"),
        (6, "truncated"),
    ]
    store.close()


def test_the_engine_s_refusals_stay_too(tmp_path: Path) -> None:
    engine = engine_on(MemoryLog())
    contract = engine.contracts.draft("events", Draft(unknown_item="reject"))
    engine.ingest([control_of(contract), Item("i1")], NOW_MS)
    store = opened(tmp_path)
    store.append([letter(event(1, NOW_MS)), letter(event(2, NOW_MS))])
    report = redelivery.redeliver(engine, store, ALL, NOW_MS)
    assert (report.accepted, report.refused) == (1, 1)
    assert store.read()[0].code == "unknown_item"
    engine.ingest([Item("i2")], NOW_MS)
    assert redelivery.redeliver(engine, store, ALL, NOW_MS).accepted == 1
    store.close()
