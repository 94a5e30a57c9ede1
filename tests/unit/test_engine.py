import threading
from pathlib import Path

import msgspec
import pytest

from onhand.contracts.errors import Invalid, Unavailable, Unknown
from onhand.contracts.records import Context, Event, Item, ItemDelete, ItemPatch, Signal
from onhand.engine import Engine
from onhand.log.memory import MemoryLog
from onhand.state.state import Limits
from streams import START_MS

LIMITS = Limits(items=64, users=32, sessions=32)
SHOP = [
    Item(id=f"mug{number}", title=f"Mug {number}", price=2.5, stock=10, created=START_MS + number)
    for number in range(12)
]


def visit(kind: str, item: str, session: str = "s1", **fields: object) -> Event:
    return Event(kind, session=session, item=item, time=START_MS, **fields)  # type: ignore[arg-type]


@pytest.fixture
def engine() -> Engine:
    engine = Engine(MemoryLog(), limits=LIMITS)
    engine.load()
    engine.ingest(SHOP, START_MS)
    return engine


def test_an_engine_that_has_not_loaded_answers_nothing():
    engine = Engine(MemoryLog(), limits=LIMITS)
    with pytest.raises(Unavailable, match="folded"):
        engine.recommend("home")
    with pytest.raises(Unavailable):
        engine.ingest([visit("view", "mug1")], START_MS)


def test_a_page_is_full_for_a_stranger(engine: Engine):
    answer = engine.recommend("home", session="nobody", now_ms=START_MS)
    assert len(answer.items) == 10
    assert answer.tier == "anonymous"
    assert answer.degraded is None
    assert answer.as_of == len(SHOP)
    assert answer.items[0].id == "mug11", "of items nobody has touched the newest comes first"


def test_who_says_nothing_of_themselves_is_not_a_user_of_that_name(engine: Engine):
    engine.ingest([Event("view", user="None", item="mug1", time=START_MS)], START_MS)
    assert engine.recommend("home", now_ms=START_MS).tier == "anonymous"
    assert engine.recommend("home", user="None", now_ms=START_MS).tier == "content"


def test_one_click_changes_the_next_answer(engine: Engine):
    for number in range(5):
        session = f"other{number}"
        engine.ingest([visit("view", "mug1", session), visit("view", "mug2", session)], START_MS)
    before = engine.recommend("home", session="s1", now_ms=START_MS)
    engine.ingest([visit("click", "mug1")], START_MS)
    after = engine.recommend("home", session="s1", now_ms=START_MS)
    assert after.items[0].id == "mug2"
    assert after.items[0].source == "transitions"
    assert before.items[0].source != "transitions"
    assert after.tier == "content"


def test_what_is_bought_together_is_shown_for_the_cart(engine: Engine):
    for number in range(3):
        session = f"other{number}"
        basket = [visit("purchase", "mug3", session), visit("purchase", "mug7", session)]
        engine.ingest(basket, START_MS)
    engine.ingest([visit("cart_add", "mug3")], START_MS)
    answer = engine.recommend("cart", session="s1", now_ms=START_MS)
    assert (answer.items[0].id, answer.items[0].source) == ("mug7", "copurchases")
    assert "mug3" not in {item.id for item in answer.items}


def test_popular_where_the_visitor_is(engine: Engine):
    for number in range(4):
        german = Context(country="DE")
        engine.ingest([visit("view", "mug5", f"de{number}", context=german)], START_MS)
        french = Context(country="FR")
        engine.ingest([visit("view", "mug6", f"fr{number}", context=french)] * 2, START_MS)
    answer = engine.recommend("home", context=Context(country="DE"), now_ms=START_MS)
    assert answer.items[0].id == "mug5"
    answer = engine.recommend("home", now_ms=START_MS)
    assert answer.items[0].id == "mug6"


def test_home_does_not_show_again_what_was_bought(engine: Engine):
    engine.ingest([visit("purchase", "mug4", user="u1")], START_MS)
    ids = {item.id for item in engine.recommend("home", user="u1", n=50, now_ms=START_MS).items}
    assert ids == {item.id for item in SHOP} - {"mug4"}
    again = engine.recommend("product", user="u1", n=50, now_ms=START_MS).items
    assert "mug4" in {item.id for item in again}


def test_the_catalogue_follows_its_records(engine: Engine):
    engine.ingest([ItemPatch(id="mug1", title="Blue mug", price=3.99)], START_MS)
    facts = engine.item("mug1")
    assert (facts.item.title, facts.price, facts.stock) == ("Blue mug", 3.99, 10)
    engine.ingest([Signal(item="mug1", stock=0, flags=["recall"])], START_MS)
    assert engine.item("mug1").barrier == "held"
    engine.ingest([Signal(item="mug1", flags=[])], START_MS)
    assert engine.item("mug1").barrier == "sold_out"
    engine.ingest([Item(id="mug1", title="Mug again")], START_MS)
    facts = engine.item("mug1")
    assert (facts.price, facts.stock) == (3.99, 0), "a feed without facts keeps the live ones"
    assert facts.item.created == START_MS + 1, "nor does it make the item new"
    engine.ingest([ItemDelete(id="mug1")], START_MS)
    with pytest.raises(Unknown):
        engine.item("mug1")


def test_windows_fall_silent_by_themselves(engine: Engine):
    engine.ingest([visit("purchase", "mug2", quantity=3), visit("click", "mug2")], START_MS)
    facts = engine.item("mug2", START_MS + 4_000)
    assert facts.windows == {"clicks_30s": 1, "clicks_1d": 1, "sales_5s": 3, "sales_1d": 3}
    facts = engine.item("mug2", START_MS + 6_000)
    assert facts.windows == {"clicks_30s": 1, "clicks_1d": 1, "sales_5s": 0, "sales_1d": 3}


def test_wrong_records_are_named_and_good_ones_kept(engine: Engine):
    report = engine.ingest(
        [
            {"kind": "event", "type": "view", "session": "s1", "item": "mug1"},
            {"kind": "event", "type": "view", "session": "s1"},
            {"kind": "event", "type": 5},
            {"kind": "item_patch", "id": "nothing", "title": "?"},
            {"kind": "event", "type": "view", "session": "s1", "item": "mug2"},
        ],
        START_MS,
    )
    assert (report.accepted, report.rejected, report.duplicates) == (2, 3, 0)
    assert [(error.index, error.code) for error in report.errors] == [
        (1, "missing_item"),
        (2, "wrong_type"),
        (3, "unknown_item"),
    ]
    assert report.offset == len(SHOP) + 2


def test_a_full_catalogue_refuses_more():
    engine = Engine(MemoryLog(), limits=Limits(items=4, users=8, sessions=8))
    engine.load()
    report = engine.ingest([Item(id=str(number)) for number in range(5)], START_MS)
    assert (report.accepted, report.rejected) == (3, 2)
    assert report.errors[0].code == "catalogue_full"
    assert len(engine.recommend("home", n=10, now_ms=START_MS).items) == 3


def test_a_group_shares_a_commit_and_each_gets_its_report(engine: Engine):
    first = [visit("view", "mug1", id="a"), visit("view", "mug2", id="b")]
    second = [visit("view", "mug1", id="a"), visit("view", "mug3", id="c")]
    reports = engine.write([first, second], START_MS)
    assert [(r.accepted, r.duplicates, r.offset - len(SHOP)) for r in reports] == [
        (2, 0, 2),
        (1, 1, 3),
    ]


def test_wrong_questions_are_refused(engine: Engine):
    with pytest.raises(Invalid):
        engine.recommend("hall")  # type: ignore[arg-type]
    with pytest.raises(Invalid):
        engine.recommend("home", n=0)
    with pytest.raises(Unknown):
        engine.similar("nothing")


def test_an_event_counts_once_across_a_restart(tmp_path: Path):
    click = visit("click", "mug1", id="once")
    engine = Engine.open(tmp_path, LIMITS)
    engine.ingest(SHOP, START_MS)
    assert engine.ingest([click], START_MS).accepted == 1
    engine.close()
    engine = Engine.open(tmp_path, LIMITS)
    report = engine.ingest([click], START_MS)
    assert (report.accepted, report.duplicates, report.offset) == (0, 1, len(SHOP) + 1)
    assert engine.item("mug1").windows["clicks_1d"] <= 1
    engine.close()


def test_the_same_state_with_and_without_a_checkpoint(tmp_path: Path):
    engine = Engine.open(tmp_path, LIMITS)
    engine.ingest([*SHOP, visit("view", "mug1"), visit("view", "mug2")], START_MS)
    engine.close()
    answers = []
    for folder in (tmp_path / "checkpoints", None):
        if folder is None:
            for path in (tmp_path / "checkpoints").rglob("*.checkpoint"):
                path.unlink()
        engine = Engine.open(tmp_path, LIMITS)
        answer = engine.recommend("home", session="s1", now_ms=START_MS)
        answers.append(msgspec.structs.replace(answer, decision="", took_us=0))
        engine.close()
    assert answers[0] == answers[1]


def test_a_checkpoint_ahead_of_the_log_is_passed_over(tmp_path: Path):
    engine = Engine.open(tmp_path, LIMITS)
    engine.ingest(SHOP, START_MS)
    engine.close()
    for path in tmp_path.glob("log.db*"):
        path.unlink()
    engine = Engine.open(tmp_path, LIMITS)
    assert engine.offset == 0
    engine.close()


def test_a_checkpoint_of_another_log_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    for price in (2.0, 3.0):
        engine = Engine.open(tmp_path, LIMITS)
        engine.ingest([Item("mug", price=price)], START_MS)
        engine.close()
        for path in tmp_path.glob("log.db*"):
            path.rename(tmp_path / f"{price}-{path.name}")
    (tmp_path / "2.0-log.db").rename(tmp_path / "log.db")
    engine = Engine.open(tmp_path, LIMITS)
    assert engine.item("mug").price == 2.0
    assert "of another log" in caplog.text
    engine.close()


def test_a_decision_is_kept(tmp_path: Path):
    engine = Engine.open(tmp_path, LIMITS)
    engine.ingest(SHOP, START_MS)
    answer = engine.recommend("home", session="s1", n=3, now_ms=START_MS)
    record = msgspec.json.decode(engine.decision(answer.decision))
    assert record["now_ms"] == START_MS
    assert record["request"]["session"] == "s1"
    assert [item["id"] for item in record["answer"]["items"]] == [i.id for i in answer.items]
    with pytest.raises(Unknown):
        engine.decision("nothing")
    engine.close()


def test_memory_for_a_copy_is_made_while_records_are_folded():
    """Of arrays that the fold changes: a size taken of one would be that of two moments."""
    limits = Limits(items=64, users=70_000, sessions=64)
    engine = Engine(MemoryLog(), limits=limits)
    engine.load()
    shelves = [msgspec.structs.replace(item, category=f"shelf{item.id}") for item in SHOP]
    engine.ingest(shelves, START_MS)
    events = [
        Event("view", user=f"u{number // 12}", item=SHOP[number % 12].id, time=START_MS)
        for number in range(24_000)
    ]
    folding = threading.Thread(target=engine.ingest, args=(events, START_MS))
    folding.start()
    rooms = 0
    while folding.is_alive():
        engine.room()
        rooms += 1
    folding.join()
    assert rooms > 3
    assert engine.offset == len(SHOP) + len(events)
