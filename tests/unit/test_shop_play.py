from collections import Counter
from copy import copy
from datetime import date
from itertools import islice, pairwise

import msgspec
import pytest

from onhand.contracts.checks import check
from onhand.contracts.errors import Invalid
from onhand.contracts.records import Event, Item, Signal
from onhand.offline.shop.play import LONGEST_GAP_MS, Moment, Page, Play
from onhand.offline.shop.visits import DERIVED

NOW_MS = 1_800_000_000_000


@pytest.fixture(scope="module")
def play() -> Play:
    return Play(now_ms=NOW_MS)


@pytest.fixture(scope="module")
def moments(play: Play) -> list[Moment]:
    return list(islice(play.live(), 60_000))


def encoded(moments: list[Moment]) -> bytes:
    return msgspec.json.encode([(m.at_ms, type(m.what).__name__, m.what) for m in moments])


def test_the_same_seed_plays_the_same_moments(moments: list[Moment]):
    again = Play(now_ms=NOW_MS)
    assert encoded(list(islice(again.live(), 20_000))) == encoded(moments[:20_000])


def test_another_seed_plays_others(moments: list[Moment]):
    other = Play(now_ms=NOW_MS, seed=2)
    assert encoded(list(islice(other.live(), 2_000))) != encoded(moments[:2_000])


def test_moments_are_in_order_and_nights_are_cut(moments: list[Moment]):
    times_ms = [moment.at_ms for moment in moments]
    assert times_ms == sorted(times_ms)
    assert times_ms[0] >= 0
    assert max(b - a for a, b in pairwise(times_ms)) <= LONGEST_GAP_MS


def test_purchases_are_those_of_the_books(play: Play, moments: list[Moment]):
    bought = [
        (m.what.session, m.what.item, m.what.quantity)
        for m in moments
        if isinstance(m.what, Event) and m.what.type == "purchase"
    ]
    books = [
        (f"s{basket.invoice}", line.code, line.quantity)
        for basket in play.coming
        for line in basket.lines
    ]
    assert sorted(bought) == sorted(books[: len(bought)])


def test_all_but_purchases_is_labelled_derived(moments: list[Moment]):
    for moment in moments:
        if isinstance(moment.what, Event):
            referrer = moment.what.context.referrer if moment.what.context else None
            assert (referrer == DERIVED) == (moment.what.type != "purchase")


def test_each_browsed_line_is_seen_and_carted_before_it_is_bought(play: Play):
    basket = next(basket for basket in play.coming if 3 < len(basket.lines) < 20)
    session = f"s{basket.invoice}"
    seen: dict[str, list[str]] = {}
    for moment in islice(play.live(), 60_000):
        event = moment.what
        if isinstance(event, Event) and event.session == session and event.item is not None:
            seen.setdefault(event.item, []).append(event.type)
    for line in basket.lines:
        types = [t for t in seen[line.code] if t != "click"]
        assert types[-3:] == ["view", "cart_add", "purchase"]


def test_event_ids_are_all_different(moments: list[Moment]):
    ids = [m.what.id for m in moments if isinstance(m.what, Event)]
    assert None not in ids
    assert len(set(ids)) == len(ids)


def test_there_is_plenty_to_see(moments: list[Moment]):
    kinds = Counter(type(moment.what) for moment in moments)
    assert kinds[Event] > 20_000
    assert kinds[Page] > 10_000
    assert kinds[Item] > 0
    outs = [m for m in moments if isinstance(m.what, Signal) and m.what.stock == 0]
    assert len(outs) > 50


def test_the_past_ends_now_and_breaks_no_contract(play: Play):
    events = list(play.past_events())
    assert 150_000 < len(events) < 500_000
    times_ms = [event.time for event in events if isinstance(event.time, int)]
    assert times_ms == sorted(times_ms)
    assert NOW_MS - 3_600_000 < times_ms[-1] < NOW_MS
    assert all(check(event, NOW_MS) is None for event in events[::100])
    assert sum(event.type == "purchase" for event in events) == sum(
        len(basket.lines) for basket in play.past
    )


def test_the_catalogue_at_the_opening(play: Play):
    items = play.items()
    assert 4_000 < len(items) <= 4_717
    assert all(check(item, NOW_MS) is None for item in items)
    assert all(isinstance(item.stock, int) and item.stock >= 0 for item in items)
    assert all(isinstance(item.created, int) and item.created < NOW_MS for item in items)


def test_when_the_books_end_the_days_begin_again(play: Play):
    play = copy(play)
    play.coming = play.coming[:3]
    play.shelves = play.shelves._replace(moments=play.shelves.moments[:5])
    sessions = [
        m.what.session
        for m in islice(play.live(), 20_000)
        if isinstance(m.what, Event) and m.what.type == "purchase" and m.what.session
    ]
    first = f"s{play.coming[0].invoice}"
    assert first in sessions
    assert f"r2-{first}" in sessions


def test_the_sample_is_somebody_and_something_real(play: Play):
    sample = play.sample()
    assert sample.item in play.products
    assert int(sample.user) in {basket.customer for basket in play.past}


@pytest.mark.parametrize("until", [date(2010, 2, 28), date(2011, 12, 10)])
def test_a_day_outside_the_books_is_refused(until: date):
    with pytest.raises(Invalid, match="2010-03-01 to 2011-12-09"):
        Play(until)


@pytest.mark.parametrize("until", [date(2010, 3, 1), date(2011, 12, 9)])
def test_the_first_and_the_last_day_can_be_played(until: date):
    play = Play(until)
    assert len(list(islice(play.live(), 1_000))) == 1_000
    assert play.sample().item
