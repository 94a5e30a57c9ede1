from datetime import datetime
from typing import Any

import pytest

from onhand.app import App
from onhand.contracts.errors import Invalid, Unknown
from onhand.contracts.features import Entity, FeastRequest, FeatureRequest
from onhand.contracts.records import Context, Event, Item
from onhand.engine import Engine
from onhand.features.declare import count, last, sum
from onhand.features.facts import hour, weekday
from onhand.log.memory import MemoryLog
from onhand.state.state import Limits
from streams import START_MS

LIMITS = Limits(items=64, users=32, sessions=32, pairs=64)


@pytest.fixture
def engine() -> Engine:
    app = App(zone="Europe/London")
    app.feature(last("category", of="view", by="user", name="last_seen", ttl="1h"))
    app.feature(sum("quantity", of="gift", by="user", window="1h", name="gifts"))
    engine = Engine(MemoryLog(), limits=LIMITS, app=app)
    engine.load()
    seen: dict[str, Any] = {
        "session": "s",
        "user": "u",
        "item": "mug",
        "context": Context(country="UK"),
    }
    engine.ingest(
        [
            Item("mug", category="kitchen", brand="B", price=2.5, stock=3, created=START_MS),
            Event("view", time=START_MS, **seen),
            Event("purchase", time=START_MS + 1_000, quantity=2, value=5.0, **seen),
            Event("gift", time=START_MS + 1_000, quantity=3, **seen),
        ],
        START_MS + 1_000,
    )
    return engine


def test_values_have_their_types_and_ages_as_of_one_offset(engine: Engine):
    names = ["item_sales_5s", "user_top_category", "item_held", "gifts", "item_age_h", "country"]
    request = FeatureRequest([Entity(item="mug", user="u", session="s"), Entity()], names)
    answer = engine.read_features(request, START_MS + 3_000)
    assert answer.as_of == 4
    assert answer.features == names
    assert answer.values[0] == [2.0, "kitchen", False, 3.0, pytest.approx(3 / 3600), "UK"]
    assert answer.values[1][:4] == [0.0, None, False, 0.0]
    ages = answer.ages_ms[0]
    assert [*ages[:3], *ages[4:]] == [2_000, 3_000, None, None, None]
    assert ages[3] is not None
    assert 2_000 <= ages[3] < 122_000, "as old as its bucket of two minutes"
    assert answer.ages_ms[1] == [None] * 6
    assert answer.version != engine.read_features(FeatureRequest([Entity()])).version


def test_an_unknown_feature_is_named(engine: Engine):
    with pytest.raises(Unknown, match="nonsense"):
        engine.read_features(FeatureRequest([Entity()], ["nonsense"]))


def test_feast_is_answered_in_columns_with_statuses(engine: Engine):
    request = FeastRequest(
        {"user_id": ["u", "nobody"]}, ["users:last_seen", "users:user_clicks_7d"]
    )
    answer = engine.read_feast(request, START_MS + 60_000)
    assert answer.metadata.feature_names == ["user_id", "last_seen", "user_clicks_7d"]
    ids, seen, clicks = answer.results
    assert ids.values == ["u", "nobody"]
    assert seen.values == ["kitchen", None]
    assert seen.statuses == clicks.statuses == ["PRESENT", "NOT_FOUND"]
    assert clicks.values == [1, None]
    assert datetime.fromisoformat(seen.event_timestamps[0]).timestamp() * 1000 == START_MS
    later = engine.read_feast(request, START_MS + 3_700_000)
    assert later.results[1].statuses == ["OUTSIDE_MAX_AGE", "NOT_FOUND"]
    full = FeastRequest({"item": ["mug"]}, ["items:item_stock"], full_feature_names=True)
    assert engine.read_feast(full).metadata.feature_names == ["item", "items__item_stock"]
    assert engine.read_feast(full).results[1].values == [3]


@pytest.mark.parametrize(
    "request_",
    [
        FeastRequest({"driver_id": ["1"]}, ["x:item_stock"]),
        FeastRequest({"item": ["1"], "user": []}, ["x:item_stock"]),
        FeastRequest({"item": ["1"]}, feature_service="service"),
    ],
)
def test_what_feast_cannot_ask_is_refused(engine: Engine, request_: FeastRequest):
    with pytest.raises(Invalid):
        engine.read_feast(request_)


def test_calendar_days_and_hours_are_those_of_the_zone():
    midnight_ms = 1_792_882_800_000  # 2026-10-25T00:00+01:00, the night the clock goes back
    app = App(zone="Europe/London", ready=False)
    app.feature(count("session_start", by="user", window="2d", zone="Europe/London", name="days"))
    app.feature(hour())
    app.feature(weekday())
    engine = Engine(MemoryLog(), limits=LIMITS, app=app)
    engine.load()
    for at, step_ms in enumerate((-1, 0, 24 * 3_600_000)):
        event = Event("view", session=f"s{at}", user="u", item="mug", time=midnight_ms + step_ms)
        engine.ingest([event], midnight_ms + 10**9)

    def read(now_ms: int) -> list[Any]:
        return [*engine.read_features(FeatureRequest([Entity(user="u")]), now_ms).values[0]]

    assert read(midnight_ms + 25 * 3_600_000 - 1) == [3.0, 23, 6], "a day of 25 hours"
    assert read(midnight_ms + 25 * 3_600_000) == [2.0, 0, 0]
    assert read(midnight_ms + 24 * 3_600_000) == [3.0, 23, 6]


def test_sessions_in_seven_days_are_two_ready_features():
    app = App(zone="Europe/London")
    engine = Engine(MemoryLog(), limits=LIMITS, app=app)
    engine.load()
    midnight_ms = 1_793_318_400_000  # 2026-10-30T00:00Z
    eve = Event("view", session="s", user="u", item="mug", time=midnight_ms - 60_000)
    engine.ingest([eve], midnight_ms)
    names = ["user_sessions_7d", "user_sessions_7_calendar_days"]

    def read(days: float) -> list[Any]:
        request = FeatureRequest([Entity(user="u")], names)
        return engine.read_features(request, midnight_ms + int(days * 86_400_000)).values[0]

    assert read(5.9) == [1, 1]
    assert read(6.5) == [1, 0], "the eighth day by the calendar, 156 hours rolling"
    assert read(7.5) == [0, 0]
    units = {app.features[name].unit for name in names}
    assert (units, app.features[names[1]].doc.count("Europe/London")) == ({"events"}, 1)


def test_definitions_are_checked():
    app = App()
    with pytest.raises(ValueError, match="30x"):
        count("click", by="item", window="30x")
    with pytest.raises(ValueError, match="calendar"):
        count("click", by="item", window="5h", zone="UTC")
    with pytest.raises(ValueError, match="Nowhere"):
        count("click", by="item", window="7d", zone="Nowhere/None")
    with pytest.raises(ValueError, match="name"):
        app.feature(count("hover", by="item", name="item_stock"))
    assert app.feature(count("hover", by="item")).name in app.features.names
