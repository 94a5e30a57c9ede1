from random import Random

import numpy as np
import pytest

from onhand.contracts.records import Context, Event, Item, Record, Signal
from onhand.contracts.requests import RecommendRequest
from onhand.decision.decide import Desk, decide
from onhand.decision.slots import PLANS
from onhand.engine import Engine
from onhand.log.memory import MemoryLog
from onhand.retrieval import first_pass
from onhand.retrieval.arrivals import ENOUGH, NEW_MS
from onhand.retrieval.first_pass import Found, find, keep_best, make_scratch
from onhand.retrieval.listed import Listed
from onhand.retrieval.pool import make_pool
from onhand.retrieval.sight import find_visitor, sight_of
from onhand.retrieval.sources import SOURCES
from onhand.state.state import Limits, State
from streams import START_MS

LIMITS = Limits(items=2_048, users=64, sessions=256)
ITEMS = 1_500


@pytest.fixture(scope="module")
def state() -> State:
    rng = Random(4)
    records: list[Record] = [
        Item(f"i{n}", stock=0 if n % 7 == 0 else 5, created=START_MS + n) for n in range(ITEMS)
    ]
    for step in range(6_000):
        kind = rng.choice(["view", "click", "view", "purchase", "cart_add"])
        item = f"i{rng.randrange(rng.choice([40, ITEMS]))}"
        session = f"s{rng.randrange(200)}"
        records.append(Event(kind, session=session, item=item, time=START_MS + step * 100))
    state = State(LIMITS)
    state.apply(records, len(records))
    return state


def found_for(state: State, session: str) -> Found:
    visitor = find_visitor(state, RecommendRequest("home", session=session))
    return find(state, sight_of(state), visitor, START_MS + 700_000, make_scratch(state))


def test_candidates_are_many_and_may_all_be_shown(state: State):
    found = found_for(state, "s1")
    assert 100 < len(found.items) <= first_pass.MOST
    assert len(set(found.items.tolist())) == len(found.items)
    assert not state.item.blocked[found.items].any()
    assert found.parts.shape == (len(found.items), len(SOURCES))


def test_every_source_scales_to_one_and_the_label_is_the_greatest(state: State):
    found = found_for(state, "s1")
    best = found.parts.max(axis=0)
    spoken = {name for name, value in zip(SOURCES, best, strict=True) if value > 0}
    assert {"transitions", "copurchases", "popular", "newest", "sessions"} <= spoken
    assert set(np.round(best, 6).tolist()) <= {0.0, 1.0}
    labelled = found.parts[np.arange(len(found.items)), found.source]
    assert np.array_equal(labelled, found.parts.max(axis=1))


def test_the_same_state_gives_the_same_candidates_in_any_scratch(state: State):
    scratch, sight = make_scratch(state), sight_of(state)
    for session in ("s1", "s2", "s1"):
        visitor = find_visitor(state, RecommendRequest("home", session=session))
        again = find(state, sight, visitor, START_MS + 700_000, scratch)
        once = found_for(state, session)
        assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))


def test_of_equal_values_the_first_are_kept():
    values, kept = np.array([0.1, 0.5, 0.5, 0.0, 0.5, 0.9]), np.zeros(6, np.bool_)
    assert keep_best(values, kept, 3) == 3
    assert kept.tolist() == [False, True, True, False, False, True]
    again = keep_best(np.array([0.2, 0.0, 0.0, 0.0, 0.0, 0.1]), kept, 2)
    assert again == 1, "what is kept already takes no room"


def test_a_prepared_list_leads_and_live_sources_move_it(state: State):
    desk = Desk(state, make_pool(LIMITS.items))
    listed = Listed(
        np.array([702, 703, 704], np.int32),
        np.array([-1.0, 3.0, 2.0], np.float32),
        np.array([0, 1, 6], np.int8),
    )
    page = decide(desk, RecommendRequest("home", n=5), PLANS["home"], START_MS, listed)
    first, second = page.items[:2]
    assert [first.id, second.id] == [state.items.names[703], state.items.names[704]]
    assert (first.source, second.source) == ("copurchases", "popular_in_country")
    assert len(page.items) == 5, "the list is not enough: the sources complete the page"


def test_what_sold_out_since_leaves_a_prepared_list():
    state = State(Limits(items=16, users=4, sessions=4))
    records: list[Record] = [Item(f"i{n}", stock=5) for n in range(8)]
    records.append(Signal("i3", stock=0))
    state.apply(records, len(records))
    listed = Listed(
        np.array([4, 2], np.int32), np.array([2.0, 1.0], np.float32), np.array([0, 0], np.int8)
    )
    request = RecommendRequest("home", n=3)
    page = decide(Desk(state, make_pool(16)), request, PLANS["home"], START_MS, listed)
    assert page.items[0].id == "i1"
    assert "i3" not in {item.id for item in page.items}
    assert len(page.items) == 3


def shop_of(sessions: int, *events: tuple[str, str]) -> tuple[Engine, State]:
    """Return an engine whose visitors touched (session, item) one after the other."""
    engine = Engine(MemoryLog(), limits=Limits(items=64, users=8, sessions=sessions))
    engine.load()
    engine.ingest([Item(f"i{n}", stock=5) for n in range(40)], START_MS)
    for at, (session, item) in enumerate(events):
        engine.ingest(
            [Event("view", session=session, item=item, time=START_MS + at)], START_MS + at
        )
    return engine, engine._state


def neighbours_of(state: State, session: str) -> dict[str, float]:
    visitor = find_visitor(state, RecommendRequest("home", session=session))
    found = find(state, sight_of(state), visitor, START_MS + 1_000, make_scratch(state))
    said = found.parts[:, SOURCES.index("sessions")]
    return {
        state.items.names[item]: value
        for item, value in zip(found.items.tolist(), said.tolist(), strict=True)
        if value > 0
    }


def test_a_session_seen_a_moment_ago_is_a_neighbour():
    engine, state = shop_of(16, *((f"s{n}", f"i{30 + n}") for n in range(6)), ("me", "i1"))
    assert neighbours_of(state, "me") == {}
    clicks = [Event("view", session="you", item=item, time=START_MS) for item in ("i1", "i9")]
    engine.ingest(clicks, START_MS)
    assert set(neighbours_of(state, "me")) == {"i1", "i9"}
    engine.ingest([Signal("i9", stock=0)], START_MS)
    assert "i9" not in neighbours_of(state, "me")


def test_a_row_that_another_session_took_is_no_neighbour():
    engine, state = shop_of(4, ("me", "i1"), ("old", "i1"), ("old", "i9"))
    engine.ingest([Event("view", session="me", item="i1", time=START_MS)], START_MS)
    row = state.sessions.rows["old"]
    for n in range(6):
        kept = [Event("view", session="me", item="i1", time=START_MS)]
        engine.ingest(
            [Event("view", session=f"new{n}", item="i20", time=START_MS), *kept], START_MS
        )
    assert "old" not in state.sessions.rows
    assert state.sessions.names[row] != "old"
    assert row in state.item.recent_session[state.items.rows["i1"]], "the ring still names the row"
    assert "i20" not in neighbours_of(state, "me")


def test_neighbours_that_share_more_and_later_items_count_more():
    _, state = shop_of(
        32,
        *[(f"o{n}", f"i{25 + n}") for n in range(10)],
        ("a", "i1"), ("a", "i2"), ("a", "i11"), ("b", "i1"), ("b", "i12"),
        ("c", "i2"), ("c", "i13"), ("me", "i1"), ("me", "i2"),
    )  # fmt: skip
    said = neighbours_of(state, "me")
    assert said["i11"] > said["i13"] > said["i12"] > 0


def said_of(state: State, session: str, source: str, now_ms: int) -> dict[str, float]:
    visitor = find_visitor(state, RecommendRequest("home", session=session))
    found = find(state, sight_of(state), visitor, now_ms, make_scratch(state))
    said = found.parts[:, SOURCES.index(source)].tolist()
    names = [state.items.names[item] for item in found.items.tolist()]
    return {name: value for name, value in zip(names, said, strict=True) if value > 0}


SHELF = [
    Item("red-mug", title="Red stoneware mug", category="home/kitchen/mugs", stock=3, created=1),
    Item("blue-mug", title="Blue stoneware mug", category="home/kitchen/mugs", stock=3, created=1),
    Item("old-mug", title="Green stoneware mug", category="home/kitchen/mugs", stock=0, created=1),
    Item("novel", title="A long winter", category="books/novels", stock=3, created=1),
    Item("rake", title="Garden rake, steel", category="garden/tools", stock=3, created=1),
]


@pytest.fixture
def shelf() -> Engine:
    engine = Engine(MemoryLog(), limits=LIMITS)
    engine.load()
    engine.ingest(SHELF, START_MS)
    return engine


def test_content_knows_what_is_alike_and_may_be_shown(shelf: Engine):
    state = shelf._state
    assert said_of(state, "s", "content", START_MS) == {}
    shelf.ingest([Event("click", session="s", item="red-mug", time=START_MS)], START_MS)
    assert set(said_of(state, "s", "content", START_MS)) == {"red-mug", "blue-mug"}
    shelf.ingest([Signal("old-mug", stock=4), Signal("red-mug", stock=0)], START_MS)
    assert set(said_of(state, "s", "content", START_MS)) == {"old-mug", "blue-mug"}


def test_a_search_and_a_hover_move_the_session(shelf: Engine):
    state = shelf._state
    shelf.ingest([Event("search", session="s", query="garden tools", time=START_MS)], START_MS)
    assert set(said_of(state, "s", "content", START_MS)) == {"rake"}
    hovers = [Event("hover", session="s", item="novel", dwell_ms=20_000, time=START_MS)] * 8
    shelf.ingest(hovers, START_MS)
    said = said_of(state, "s", "content", START_MS)
    assert max(said, key=said.__getitem__) == "novel"


def test_a_user_without_a_session_vector_is_known_by_what_they_saw(shelf: Engine):
    state = shelf._state
    events = [Event("view", session="s", user="u", item="red-mug", time=START_MS)]
    shelf.ingest(events, START_MS)
    visitor = find_visitor(state, RecommendRequest("home", session="other", user="u"))
    found = find(state, sight_of(state), visitor, START_MS, make_scratch(state))
    assert found.parts[:, SOURCES.index("content")].any()


def test_new_arrivals_leave_after_their_time_and_their_sessions(shelf: Engine):
    state = shelf._state
    cup = Item("cup", title="Stoneware mug", category="home/kitchen/mugs", created=START_MS)
    shelf.ingest([cup, Event("click", session="s", item="red-mug", time=START_MS)], START_MS)
    assert set(said_of(state, "s", "new_arrivals", START_MS)) == {"cup"}
    assert set(said_of(state, "s", "new_arrivals", START_MS + NEW_MS - 1)) == {"cup"}
    assert said_of(state, "s", "new_arrivals", START_MS + NEW_MS) == {}
    visits = [Event("view", session=f"v{n}", item="cup", time=START_MS) for n in range(ENOUGH)]
    shelf.ingest(visits, START_MS)
    assert said_of(state, "s", "new_arrivals", START_MS) == {}


def test_what_surges_trends_until_it_is_usual(shelf: Engine):
    state, day_ms = shelf._state, 86_400_000
    for day in range(6):
        time_ms = START_MS + day * day_ms
        views = [Event("view", session="a", item="novel", time=time_ms + n) for n in range(50)]
        shelf.ingest(views, time_ms + 100)
    now_ms = START_MS + 6 * day_ms
    views = [Event("view", session="b", item="rake", time=now_ms + n) for n in range(12)]
    views += [Event("view", session="c", item="novel", time=now_ms + n) for n in range(12)]
    shelf.ingest(views, now_ms)
    said = said_of(state, "s", "trending", now_ms)
    assert said["rake"] == 1.0 > said["novel"] > 0
    assert said_of(state, "s", "trending", now_ms + day_ms) == {}


def test_a_session_that_logs_in_hands_over_what_it_saw(shelf: Engine):
    state = shelf._state
    seen = [Event("view", session="s", item=item, time=START_MS) for item in ("rake", "novel")]
    shelf.ingest([*seen, Event("purchase", session="s", item="red-mug", time=START_MS)], START_MS)
    assert state.users.rows == {}
    shelf.ingest([Event("search", session="s", user="u", query="x", time=START_MS)], START_MS)
    user = state.users.rows["u"]
    names = [state.items.names[row] for row in state.user.recent_item[user] if row]
    assert names == ["red-mug", "novel", "rake"]
    assert state.user.interactions[user] == 3
    assert state.items.names[state.user.bought_item[user, 0]] == "red-mug"
    shelf.ingest([Event("view", session="s", user="u", item="rake", time=START_MS)], START_MS)
    assert state.user.interactions[user] == 4, "once is enough"


def test_what_visitors_begin_with_by_device_and_referrer(shelf: Engine):
    state = shelf._state
    for n in range(60):
        phone = Context(device="phone", referrer="https://www.example.org/a")
        seen = Event("view", session=f"p{n}", item="rake", time=START_MS, context=phone)
        desk = Event("view", session=f"d{n}", item="novel", time=START_MS,
                     context=Context(device="desktop"))  # fmt: skip
        shelf.ingest([seen, desk, desk], START_MS)
    sight, scratch = sight_of(state), make_scratch(state)

    def first(context: Context) -> str:
        visitor = find_visitor(state, RecommendRequest("home", context=context))
        found = find(state, sight, visitor, START_MS, scratch)
        best = found.parts[:, SOURCES.index("context")].argmax()
        return state.items.names[found.items[best]]

    assert first(Context(device="phone")) == "rake"
    assert first(Context(device="desktop")) == "novel"
    assert first(Context(referrer="example.org/b")) == "rake"


def test_what_is_popular_in_the_visitors_cohort(shelf: Engine):
    state = shelf._state
    seen = [Event("view", user="known", item="red-mug", time=START_MS + n) for n in range(90)]
    for n in range(40):
        seen.append(Event("view", session=f"g{n}", item="rake", time=START_MS + n))
        seen.append(Event("view", user=f"u{n}", item="novel", time=START_MS + n))
    shelf.ingest(seen, START_MS + 90)
    sight, scratch = sight_of(state), make_scratch(state)

    def first(session: str | None, user: str | None) -> tuple[str, set[str]]:
        visitor = find_visitor(state, RecommendRequest("home", user=user, session=session))
        found = find(state, sight, visitor, START_MS + 90, scratch)
        said = found.parts[:, SOURCES.index("popular_in_cohort")]
        names = state.items.names
        return names[found.items[said.argmax()]], {names[row] for row in found.items[said > 0]}

    assert first("somebody", None) == ("rake", {"rake"})
    assert first(None, "nobody knows") == ("novel", {"novel", "red-mug"}), "a newcomer once too"
    assert first("g1", "u1")[0] == "novel"
    assert first(None, "known") == ("red-mug", {"red-mug"})
    shelf.ingest([Event("search", session="g2", user="known", query="x", time=START_MS)], START_MS)
    assert first("g2", None) == ("red-mug", {"red-mug"}), "the session is the user's now"
