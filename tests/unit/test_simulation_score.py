"""The judge of a sale: what counts as shown though gone, in time, recovered."""

import msgspec
import pytest

from onhand.offline.simulation.caches import Cache
from onhand.offline.simulation.run import Fault, caught_up_s, recovery_s
from onhand.offline.simulation.score import Answer, Score, Second

KEY = ("home", "", "GB")


def answer(*items: str, degraded: str | None = None) -> Answer:
    body = {
        "decision": "d",
        "degraded": degraded,
        "items": [{"id": item} for item in items],
        "as_of": 3,
    }
    return msgspec.convert(body, Answer)


def ask(score: Score, asked_s: float, *items: str, took_s: float = 0.002) -> list[int]:
    """Ask for a page; what each stack showed though it was gone, so far."""
    score.page(asked_s, asked_s, asked_s + took_s, answer(*items), KEY)
    return score.second.sold_out


def sell_out(score: Score, item: str, at_s: float) -> None:
    score.send(item, 0, None)
    score.acknowledge(item, 0, None, at_s)


def test_an_acknowledged_sell_out_must_not_be_shown():
    score = Score(["gone"])
    assert ask(score, 1.0, "mug", "tray") == [0, 0, 0]
    sell_out(score, "mug", 1.5)
    assert ask(score, 2.0, "mug", "tray")[0] == 1
    assert ask(score, 2.0, "gone")[0] == 2, "what had no stock from the start is gone too"


def test_a_page_asked_for_before_the_acknowledgement_may_show_it():
    score = Score([])
    score.send("mug", 0, None)
    assert ask(score, 1.0, "mug")[0] == 0
    score.acknowledge("mug", 0, None, 1.5)
    assert ask(score, 1.4, "mug")[0] == 0


def test_a_delivery_that_was_sent_ends_the_sell_out():
    score = Score([])
    sell_out(score, "mug", 1.0)
    score.send("mug", 20, None)
    assert ask(score, 2.0, "mug")[0] == 0


def test_a_hold_counts_like_a_sell_out_and_an_item_counts_once():
    score = Score([])
    score.send("mug", None, True)
    score.acknowledge("mug", None, True, 1.0)
    assert ask(score, 2.0, "mug")[0] == 1
    sell_out(score, "mug", 2.5)
    assert ask(score, 3.0, "mug")[0] == 2
    score.send("mug", None, False)
    assert ask(score, 4.0, "mug")[0] == 3, "it is still sold out"


def test_the_caches_show_what_onhand_no_longer_does():
    score = Score([])
    ask(score, 1.0, "mug", "tray")
    sell_out(score, "mug", 1.5)
    assert ask(score, 2.0, "tray") == [0, 1, 1]
    assert ask(score, 3.5, "tray") == [0, 1, 2], "2.5 s after, the 2 s cache has the new list"


def test_a_cache_keeps_lists_apart_by_key_and_by_age():
    cache = Cache(2.0)
    assert cache.show("home", 0.0, ["a"]) == ["a"]
    assert cache.show("cart", 1.0, ["b"]) == ["b"]
    assert cache.show("home", 2.0, ["c"]) == ["a"]
    assert cache.show("home", 2.1, ["c"]) == ["c"]
    assert cache.show("home", 4.0, ["d"]) == ["c"], "its age runs from when it was filled"


def test_a_dead_end_is_a_click_on_what_is_gone_by_then():
    score = Score([])
    first = score.page(1.0, 1.0, 1.01, answer("mug", "tray"), KEY)
    sell_out(score, "mug", 1.5)
    second = score.page(2.0, 2.0, 2.01, answer("tray", "pot"), KEY)
    assert score.click(first, 0, 3.0) == "mug"
    assert score.second.dead_ends == [1, 1, 1]
    assert score.click(second, 0, 3.0) == "tray"
    assert score.second.dead_ends == [1, 2, 2], "the caches still showed the mug there"
    assert score.click(first, 9, 3.0) == "tray", "a position beyond the list is its last"
    assert score.second.clicks == 3


def test_latency_runs_from_when_the_page_was_due():
    score = Score([])
    for number in range(99):
        score.page(1.0, 1.0, 1.001, answer("mug"), KEY)
        score.note_lag(0.0 if number else 0.004)
    score.page(1.0, 1.9, 2.0, answer("mug", degraded="stale"), KEY)
    score.fail(5.0)
    whole = score.window()
    assert (whole.pages, whole.in_time, whole.failed, whole.degraded) == (101, 99, 1, 1)
    assert whole.p50_ms == pytest.approx(1.0)
    assert whole.p999_ms == pytest.approx(1000.0)
    assert score.window(0.0, 2.0).failed == 0
    assert score.window(2.0, 9.0).pages == 1
    assert score.lag_p99_ms() == pytest.approx(4.0)


def test_a_second_that_ends_takes_its_counts_with_it():
    score = Score([])
    ask(score, 0.5, "mug")
    done = score.close_second()
    assert (done.at_s, done.answered, done.impressions, done.p50_ms) == (0, 1, 1, 2.0)
    assert (score.second.at_s, score.second.answered) == (1, 0)
    assert score.close_second().p99_ms == 0.0


def seconds(*p99s_ms: float) -> list[Second]:
    return [
        Second(at_s, answered=100, in_time=100, p99_ms=p99_ms)
        for at_s, p99_ms in enumerate(p99s_ms)
    ]


def test_recovery_is_the_first_second_that_is_as_before():
    played = seconds(9, 9, 9, 2, 2, 2, 2, 80, 80, 30, 3, 3)
    fault = Fault("slow-disk", 7, 2)
    assert recovery_s(played, fault) == 1
    played[10].answered = 200
    assert recovery_s(played, fault) == 2
    played[11].degraded = {"popular": 50}
    assert recovery_s(played, fault) is None


def test_records_are_caught_up_with_when_none_is_refused_any_more_or_waits_outside():
    played = seconds(*[2.0] * 14)
    fault = Fault("overload, 10x", 4, 3, switched=False, calm_s=5)
    assert caught_up_s(played, fault) == 0
    played[5].put_off = played[8].put_off = played[13].put_off = 4
    assert caught_up_s(played, fault) == 2
    played[9].outside = 4
    assert caught_up_s(played, fault) == 3
    played[11].outside = 4
    assert caught_up_s(played, fault) is None
