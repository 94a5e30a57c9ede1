import math
from datetime import UTC, datetime, timedelta, timezone

import pytest

from onhand.contracts.checks import CLOCK_SKEW_MS, check
from onhand.contracts.records import (
    Control,
    Event,
    Fulfilment,
    Item,
    ItemDelete,
    ItemPatch,
    Record,
    Signal,
)

NOW_MS = 1_795_000_000_000


def code(record: Record) -> str | None:
    fault = check(record, NOW_MS)
    return None if fault is None else fault.code


def view(time: int | str | None) -> Event:
    return Event("view", user="u", item="i", time=time)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (Event("view", item="i"), "missing_visitor"),
        (Event("view", user="u"), "missing_item"),
        (Event("impression", session="s"), "missing_item"),
        (Event("search", session="s"), "missing_query"),
        (Event("search", session="s", query="mug"), None),
        (Event("view", user="u", item="i"), None),
        (Event("quick_look2", session="s"), None),
        (Event("Quick look", session="s"), "event_type"),
        (Event("view\n", session="s", item="i"), "event_type"),
        (Event("9lives", session="s"), "event_type"),
        (Event("view", user="u", item="i", value=math.nan), "range"),
        (Event("view", user="u", item="i", value=math.inf), "range"),
    ],
)
def test_rules_between_the_fields_of_an_event(event: Event, expected: str | None) -> None:
    assert code(event) == expected


def test_a_missing_time_is_now() -> None:
    event = view(None)
    assert check(event, NOW_MS) is None
    assert event.time == NOW_MS


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 11, 18, 10, 0, tzinfo=UTC),
        datetime(2026, 11, 18, 10, 0, 0, 123_000, tzinfo=UTC),
        datetime(2010, 12, 1, 8, 26, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    ],
)
def test_rfc3339_becomes_milliseconds(moment: datetime) -> None:
    event = view(moment.isoformat())
    assert check(event, NOW_MS) is None
    assert event.time == round(moment.timestamp() * 1000)


def test_z_is_a_zone() -> None:
    event = view("2026-11-18T10:00:00Z")
    assert check(event, NOW_MS) is None
    assert event.time == 1_794_996_000_000


@pytest.mark.parametrize(
    ("time", "expected", "says"),
    [
        (NOW_MS // 1000, "time_unit", "seconds"),
        (NOW_MS * 1000, "time_unit", "microseconds"),
        (NOW_MS * 1_000_000, "time_unit", "nanoseconds"),
        (NOW_MS + CLOCK_SKEW_MS, None, ""),
        (NOW_MS + CLOCK_SKEW_MS + 1, "clock_skew", "300 s ahead"),
        (5, "time_range", "too long ago"),
        (-1, "time_range", "too long ago"),
        (0, "time_range", "too long ago"),
        ("1999-12-31T23:59:59Z", "time_range", "too long ago"),
        ("2026-11-18T10:00:00", "time_zone", "no zone"),
        ("2026-11-18", "time_format", "RFC 3339"),
        ("yesterday", "time_format", "RFC 3339"),
        ("", "time_format", "RFC 3339"),
        ("2030-01-01T00:00:00Z", "clock_skew", "ahead"),
        ("0001-01-01T00:00:00+23:59", "time_range", ""),
    ],
)
def test_a_time_in_doubt_is_refused(time: int | str, expected: str | None, says: str) -> None:
    fault = check(view(time), NOW_MS)
    assert (fault.code if fault else None) == expected
    assert fault is None or says in fault.message


def test_every_plausible_unit_is_told_apart() -> None:
    year_ms = 365 * 86_400_000
    for ago in range(25):
        ms = NOW_MS - ago * year_ms
        assert code(view(ms)) is None
        for scaled in (ms // 1000, ms * 1000, ms * 1_000_000):
            assert code(view(scaled)) == "time_unit"


@pytest.mark.parametrize(
    ("signal", "expected"),
    [
        (Signal("i"), "no_facts"),
        (Signal("i", stock=0), None),
        (Signal("i", stock=None), None),
        (Signal("i", flags=[]), None),
        (Signal("i", price=math.nan), "range"),
        (Signal("i", fulfilment=Fulfilment(congestion=math.inf)), "range"),
    ],
)
def test_a_signal_states_something(signal: Signal, expected: str | None) -> None:
    assert code(signal) == expected


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (Item("a", price=math.inf), "range"),
        (Item("a", attributes={"x": math.nan}), "range"),
        (Item("a", created="1987-05-01T00:00:00Z"), None),
        (ItemPatch("a", created=NOW_MS // 1000), "time_unit"),
        (ItemPatch("a", created="soon"), "time_format"),
        (ItemPatch("a", title="t"), None),
        (ItemDelete("a"), None),
        (Control("a"), None),
    ],
)
def test_catalogue_entries(item: Record, expected: str | None) -> None:
    assert code(item) == expected


def test_created_becomes_milliseconds() -> None:
    item = Item("a", created="1987-05-01T00:00:00Z")
    assert check(item, NOW_MS) is None
    assert item.created == 546_825_600_000
