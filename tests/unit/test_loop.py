import asyncio
import gc
import weakref
from collections.abc import Callable
from itertools import pairwise
from time import perf_counter, sleep, thread_time

import pytest

from onhand.admission import Admission
from onhand.contracts.records import Event, Item, Signal
from onhand.engine import Engine
from onhand.log.memory import MemoryLog
from onhand.serving.committer import Committer
from onhand.serving.loop import LoopMonitor
from onhand.serving.metrics import Histogram, Metrics
from onhand.settings import Settings
from onhand.state.state import Limits
from onhand.steps import STEP_RECORDS, Steps, finish
from streams import START_MS

LIMITS = Limits(items=64, users=64, sessions=64)


def spin(seconds: float) -> None:
    end_s = thread_time() + seconds
    while thread_time() < end_s:
        pass


def work(steps: int, step_s: float) -> Steps[str]:
    for _ in range(steps):
        end_s = perf_counter() + step_s
        while perf_counter() < end_s:
            pass
        yield
    return "done"


def count_over_2_ms(histogram: Histogram) -> int:
    buckets = {
        sample.labels["le"]: sample.value
        for sample in histogram.family("x", "").samples
        if "le" in sample.labels
    }
    return int(buckets["+Inf"] - buckets["0.002"])


def test_steps_have_a_result():
    assert finish(work(3, 0)) == "done"


def test_long_work_lets_others_have_their_turn():
    monitor = LoopMonitor()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def run() -> str:
        other = asyncio.create_task(count())
        result = await monitor.take_turns("work", work(10, 0.0011))
        other.cancel()
        return result

    assert asyncio.run(run()) == "done"
    assert turns >= 9
    assert monitor.longest()["work"] >= 0.001


@pytest.mark.parametrize(("keep", "ran"), [(sleep, 0), (spin, 1)])
def test_a_stretch_runs_only_while_it_has_a_processor(keep: Callable[[float], object], ran: int):
    monitor = LoopMonitor()

    def keep_long() -> Steps[None]:
        keep(0.004)
        yield

    asyncio.run(monitor.take_turns("work", keep_long()))
    assert [count_over_2_ms(each) for each in (monitor.stretches, monitor.ran)] == [1, ran]


@pytest.mark.parametrize("asked", [True, False])
def test_requests_go_before_steps_for_a_while(asked: bool):
    monitor = LoopMonitor()
    began_s: list[float] = []

    def steps() -> Steps[None]:
        for _ in range(9):
            began_s.append(perf_counter())
            yield from work(1, 0.0011)

    async def ask() -> None:
        while True:
            monitor.begin_round()
            await asyncio.sleep(0)

    async def run() -> None:
        asking = asyncio.create_task(ask())
        if asked:
            await asyncio.sleep(0.001)
        else:
            asking.cancel()
        await monitor.take_turns("work", steps())
        asking.cancel()

    asyncio.run(run())
    rests_s = sorted(after - before for before, after in pairwise(began_s))
    assert (rests_s[len(rests_s) // 2] > 0.003) == asked


def test_a_checkpoint_waits_while_pages_are_in_a_hurry(monkeypatch: pytest.MonkeyPatch):
    engine = Engine(MemoryLog(), limits=LIMITS)
    engine.load()
    settings, monitor = Settings(checkpoint_records=2), LoopMonitor()
    committer = Committer(engine, settings, Metrics(), monitor, lambda: START_MS, lambda _: None)
    hurries = False
    monkeypatch.setattr(LoopMonitor, "hurries", property(lambda _: hurries))
    due: list[tuple[bool, bool]] = []
    for _ in range(4):
        engine.ingest([Event("view", item="mug", session="s", time=START_MS)], now_ms=START_MS)
        hurries = False
        calm = committer._checkpoint_due()
        hurries = True
        due.append((calm, committer._checkpoint_due()))
    assert due == [(False, False), (True, False), (True, False), (True, True)]


@pytest.mark.parametrize("poll_s", [0.0, 0.1])
def test_the_loop_stays_awake_for_so_long_after_a_request(poll_s: float):
    monitor = LoopMonitor(poll_s)

    async def run() -> tuple[float, float]:
        monitor.begin_round()
        began_s = thread_time()
        await asyncio.sleep(0.08)
        awake_s = thread_time() - began_s
        await asyncio.sleep(0.08)
        began_s = thread_time()
        await asyncio.sleep(0.08)
        return awake_s, thread_time() - began_s

    awake_s, later_s = asyncio.run(run())
    assert (awake_s > 0.01) == bool(poll_s)
    assert later_s < 0.01


def test_all_that_is_under_way_shares_one_stretch_and_nobody_starves():
    monitor = LoopMonitor()
    looks: list[float] = []

    async def look() -> None:
        while True:
            looks.append(perf_counter())
            await asyncio.sleep(0)

    async def run() -> tuple[list[str], float]:
        other = asyncio.create_task(look())
        began_s = perf_counter()
        long = [asyncio.create_task(monitor.take_turns("long", work(20, 0.0005))) for _ in range(3)]
        await asyncio.sleep(0)
        assert await monitor.take_turns("short", work(2, 0.0001)) == "done"
        short_s = perf_counter() - began_s
        results = await asyncio.gather(*long)
        other.cancel()
        return results, short_s / (perf_counter() - began_s)

    results, share = asyncio.run(run())
    assert results == ["done"] * 3
    assert share < 0.5, "what is short is done before what is long"
    gaps = sorted(after - before for before, after in pairwise(looks))
    assert gaps[len(gaps) // 2] < 0.0025, "a stretch of each would take three times as long"


def test_work_that_fails_or_is_given_up_holds_up_nobody():
    monitor = LoopMonitor()

    def fails() -> Steps[str]:
        yield from work(2, 0.0011)
        raise ValueError("no")

    async def run() -> str:
        failing = asyncio.create_task(monitor.take_turns("work", fails()))
        given_up = asyncio.create_task(monitor.take_turns("work", work(1_000, 0.0011)))
        await asyncio.sleep(0)
        given_up.cancel()
        with pytest.raises(ValueError, match="no"):
            await failing
        return await monitor.take_turns("work", work(3, 0.0011))

    assert asyncio.run(asyncio.wait_for(run(), 0.5)) == "done"


def test_work_that_fails_leaves_no_cycles():
    monitor = LoopMonitor()

    class Body:
        pass

    def fails(body: Body, steps: int) -> Steps[str]:
        yield from work(steps, 0.0011)
        raise ValueError(repr(body))

    async def run(steps: int) -> "weakref.ref[Body]":
        body = Body()
        kept = weakref.ref(body)
        failing = fails(body, steps)
        del body
        with pytest.raises(ValueError, match="Body"):
            await monitor.take_turns("work", failing)
        return kept

    gc.disable()
    try:
        for steps in (0, 3):
            kept = asyncio.run(run(steps))
            assert kept() is None
    finally:
        gc.enable()


def test_a_round_is_as_long_as_the_requests_that_were_ready_together():
    monitor = LoopMonitor()

    async def run() -> float:
        monitor.begin_round()
        finish(work(1, 0.002))
        monitor.begin_round()
        waited_s = monitor.waited_s
        await asyncio.sleep(0)
        return waited_s

    assert asyncio.run(run()) >= 0.002
    assert monitor.waited_s == 0.0


def test_the_queueing_delay_is_the_shortest_round_of_late():
    monitor = LoopMonitor()

    async def rounds(seconds: list[float]) -> float:
        for each in seconds:
            monitor.begin_round()
            finish(work(1, each))
            await asyncio.sleep(0)
        return monitor.delay_s

    assert asyncio.run(rounds([0.13, 0.001, 0.13, 0.001])) < 0.1, "one long round is a hiccup"
    assert asyncio.run(rounds([0.03] * 12)) >= 0.03
    asyncio.run(asyncio.sleep(0.35))
    assert monitor.delay_s == 0.0, "nothing has come for a while"


class Rounds:
    """A monitor whose clock is moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        monkeypatch.setattr("onhand.serving.loop.perf_counter", lambda: self.now_s)
        self.monitor = LoopMonitor()

    def play(self, each_s: float, for_s: float) -> bool:
        """Have rounds of requests for so long; return whether pages are in a hurry then."""

        async def play() -> bool:
            end_s = self.now_s + for_s
            while self.now_s < end_s:
                self.monitor.begin_round()
                self.now_s += each_s
                await asyncio.sleep(0)
            return self.monitor.hurries

        return asyncio.run(play())

    def cheaper(self) -> list[bool]:
        """Which of a hundred pages take the cheaper step."""
        return [self.monitor.takes_cheaper() for _ in range(100)]


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Rounds:
    return Rounds(monkeypatch)


def test_pages_are_at_their_best_until_the_queueing_delay_is_long(rounds: Rounds):
    assert not rounds.play(0.004, 2.0)
    assert not any(rounds.cheaper())
    assert rounds.play(0.006, 0.3)
    assert 0 < sum(rounds.cheaper()) < 100


def test_a_long_queue_leaves_no_page_at_its_best(rounds: Rounds):
    assert rounds.play(0.06, 0.5)
    assert all(rounds.cheaper())
    assert rounds.play(0.003, 2.0), "half the delay is still too long then"
    assert all(rounds.cheaper())
    assert rounds.play(0.35, 2.0), "however long a round takes"
    assert all(rounds.cheaper())


def test_in_the_middle_of_a_round_a_long_queue_is_not_old(rounds: Rounds):
    async def wait() -> bool:
        rounds.monitor.begin_round()
        rounds.now_s += 0.35
        return rounds.monitor.hurries and all(rounds.cheaper())

    rounds.play(0.06, 0.5)
    assert asyncio.run(wait())


def test_pages_are_at_their_best_again_two_seconds_after_a_queue(rounds: Rounds):
    rounds.play(0.06, 0.5)
    shares = [rounds.play(0.001, 0.4) and sum(rounds.cheaper()) for _ in range(5)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] >= 96, "few at first, or the queue would be back"
    assert shares[-1] == 0
    assert not any(rounds.cheaper())


def test_pages_at_their_best_are_spread_among_the_cheaper_ones(rounds: Rounds):
    rounds.play(0.06, 0.5)
    rounds.play(0.001, 1.25)
    best = [number for number, each in enumerate(rounds.cheaper()) if not each]
    assert len(best) > 20
    gaps = [behind - before for before, behind in pairwise(best)]
    assert max(gaps) - min(gaps) == 1


def test_when_nobody_has_asked_for_a_while_there_is_no_queue(rounds: Rounds):
    assert rounds.play(0.06, 0.5)
    rounds.now_s += 0.4
    assert not rounds.monitor.hurries
    assert not any(rounds.cheaper())
    assert not rounds.play(0.001, 0.2)
    assert not any(rounds.cheaper())


def test_long_rounds_that_are_far_apart_are_no_queue(rounds: Rounds):
    for _ in range(4):
        assert not rounds.play(0.02, 0.02)
        rounds.now_s += 1.0


def test_between_the_steps_of_a_group_pages_are_answered_as_of_each_offset():
    engine = Engine(MemoryLog(), limits=LIMITS)
    engine.load()
    engine.ingest([Item("a", stock=1)], START_MS)
    events = [
        Event("view", session="s", item="a", time=START_MS + number)
        for number in range(3 * STEP_RECORDS)
    ]
    admission = finish(engine.admit([events, []], START_MS))
    engine.commit(admission)
    seen: list[tuple[int, int]] = []
    for reports in engine.apply(admission):
        answer = engine.recommend("home", session="s", now_ms=START_MS)
        seen.append((answer.as_of - 1, len(reports)))
    assert seen == [(STEP_RECORDS, 0), (2 * STEP_RECORDS, 0), (3 * STEP_RECORDS, 2)]


def test_a_request_is_answered_before_the_rest_of_its_group_is_folded():
    engine = Engine(MemoryLog(), limits=LIMITS)
    engine.load()
    monitor = LoopMonitor()
    told: list[int] = []
    committer = Committer(
        engine, Settings(commit_records=10_000), Metrics(), monitor, lambda: START_MS,
        lambda records: told.append(len(records)),
    )  # fmt: skip
    few = [Event("view", session="s", time=START_MS)]
    many = [Event("view", session="s", time=START_MS) for _ in range(9_999)]

    async def run() -> tuple[int, int]:
        first = asyncio.create_task(committer.submit(few))
        second = asyncio.create_task(committer.submit(many))
        await asyncio.sleep(0)
        writer = asyncio.create_task(committer.run())
        done = await first
        offset_then = engine.offset
        await second
        committer.close()
        await writer
        return done.offset, offset_then

    report_offset, offset_then = asyncio.run(run())
    assert report_offset == 1
    assert sum(told) == 10_000
    assert offset_then < 10_000
    assert monitor.longest()["fold"] > 0


def test_signals_pass_the_events_that_wait():
    engine = Engine(MemoryLog(), limits=LIMITS)
    engine.load()
    engine.ingest([Item("a", stock=1)], START_MS)
    committer = Committer(
        engine, Settings(commit_records=10), Metrics(), LoopMonitor(), lambda: START_MS,
        lambda _: None,
    )  # fmt: skip
    events = [Event("view", session="s", time=START_MS) for _ in range(10)]

    async def run() -> tuple[int, int, float, float]:
        waiting = [asyncio.create_task(committer.submit(events)) for _ in range(3)]
        signal = asyncio.create_task(committer.submit([Signal("a", stock=0)], urgent=True))
        await asyncio.sleep(0.01)
        wait_s = committer.wait_s
        writer = asyncio.create_task(committer.run())
        sold_out, (first, *_) = await signal, await asyncio.gather(*waiting)
        committer.close()
        await writer
        return sold_out.offset, first.offset, wait_s, committer.wait_s

    sold_out, first, wait_s, wait_after_s = asyncio.run(run())
    assert (sold_out, first) == (2, 12)
    assert wait_s > 0.005
    assert wait_after_s == 0.0


@pytest.mark.parametrize(("hurries", "groups"), [(False, [500]), (True, [100] * 5)])
def test_groups_are_short_while_pages_take_the_cheaper_step(
    hurries: bool, groups: list[int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(LoopMonitor, "hurries", hurries)
    engine = Engine(MemoryLog(), limits=LIMITS)
    engine.load()
    committer = Committer(
        engine, Settings(), Metrics(), LoopMonitor(), lambda: START_MS, lambda _: None
    )
    events = [Event("view", session="s", time=START_MS) for _ in range(100)]
    committed: list[int] = []
    commit = engine.commit

    def watched(admission: Admission) -> None:
        committed.append(len(admission.records))
        commit(admission)

    monkeypatch.setattr(engine, "commit", watched)

    async def run() -> None:
        waiting = [asyncio.create_task(committer.submit(events)) for _ in range(5)]
        writer = asyncio.create_task(committer.run())
        await asyncio.gather(*waiting)
        committer.close()
        await writer

    asyncio.run(run())
    assert committed == groups


@pytest.mark.parametrize("pages", [0, 20])
def test_groups_begin_apart_while_many_pages_are_asked_for(pages: int):
    engine = Engine(MemoryLog(), limits=LIMITS)
    engine.load()
    committer = Committer(
        engine, Settings(), Metrics(), LoopMonitor(), lambda: START_MS, lambda _: None
    )
    groups = 0

    async def run() -> None:
        nonlocal groups
        writer = asyncio.create_task(committer.run())
        end_s = perf_counter() + 0.6
        while perf_counter() < end_s:
            await committer.submit([Event("view", session="s", time=START_MS)])
            groups += perf_counter() > end_s - 0.3
            for _ in range(pages):
                engine.recommend("home", now_ms=START_MS)
        committer.close()
        await writer

    asyncio.run(run())
    assert (groups <= 17) == bool(pages)


@pytest.mark.parametrize("records", [0, 1, STEP_RECORDS, STEP_RECORDS + 1])
def test_every_group_gets_one_report(records: int):
    engine = Engine(MemoryLog(), limits=LIMITS)
    engine.load()
    events = [Event("view", session="s", time=START_MS) for _ in range(records)]
    reports = engine.write([[], events, []], START_MS)
    assert [report.offset for report in reports] == [0, records, records]
