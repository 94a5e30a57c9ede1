"""Lists prepared behind the page: who gets one, when, and what happens when the model fails."""

import asyncio
import gc
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import onhand
from onhand.contracts.models import control_of
from onhand.contracts.records import Context, Event, Item, Record
from onhand.contracts.requests import RecommendRequest
from onhand.decision.breaker import Breaker, BreakerRule
from onhand.decision.lists import HEAD_FADED_MS, LIST_BYTES, Lists, Whom, audience
from onhand.decision.models import Models
from onhand.decision.prepared import ModelFailed, Prepared, Reader
from onhand.decision.records import DecisionRecord
from onhand.engine import Engine
from onhand.log.decisions import read_decisions
from onhand.log.sqlite import SqliteReader
from onhand.offline.replay import replay
from onhand.past import Past
from onhand.ranking.artefact import ModelStore
from onhand.ranking.card import Card, Data, Quality
from onhand.ranking.model import Linear, Model
from onhand.retrieval.listed import NO_LIST, Listed
from onhand.serving import scorer as scorer_module
from onhand.serving.replica import Orders, Parent, ReplicaLost
from onhand.serving.scorer import Scorer
from onhand.settings import Settings
from onhand.state.state import Limits
from streams import START_MS

LIMITS = Limits(items=64, users=64, sessions=64, pairs=64)
NAMES = ("from_popular", "item_price")
PATIENT = BreakerRule(failures=2, timeout_ms=30_000, slow_ms=30_000, pause_ms=100)
QUICK = PATIENT._replace(timeout_ms=60, slow_ms=50)
PAGE = RecommendRequest(slot="home", session="s1", n=5)


def view(item: str, session: str = "s1", **fields: Any) -> Event:
    return Event("view", session=session, item=item, time=START_MS, **fields)


def activate(folder: Path, engine: Engine, version: int = 1) -> None:
    """Make a model active that prefers dear items."""
    reader = Reader(NAMES, onhand.App().features)
    weights = Linear(np.array([0.01, 1.0], np.float32))
    quality = {
        name: Quality(9, ndcg, 0.5, 0.2) for name, ndcg in (("model", 0.2), ("popular", 0.1))
    }
    card = Card(Data(1, 9, 0, 1, 5, 50, "none"), quality, {}, {}, 1.0, "test")
    store = ModelStore(folder / "models")
    store.save(Model("ranker", version, NAMES, reader.definitions, weights), card)
    engine.ingest([control_of(engine.models.check(f"ranker@{version}"))], START_MS)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine.open(tmp_path, LIMITS)
    engine.ingest([Item(f"mug{n}", price=float(n), stock=5) for n in range(1, 31)], START_MS)
    engine.ingest([view(f"mug{n}", f"o{n}") for n in range(1, 31)], START_MS)
    activate(tmp_path, engine)
    ranker = engine.models.ranker
    assert ranker is not None
    engine.gather(ranker, [audience(PAGE)], START_MS)  # the first call of a kernel may compile it
    yield engine
    engine.close()


def processes(parent: Parent) -> tuple["subprocess.Popen[bytes]", int]:
    """The parent's, and its replica's id."""
    process = parent._process
    assert process is not None
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return process, int(children)


def is_alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


class Site:
    """An engine with a scorer that runs, at a time that stands still."""

    def __init__(self, engine: Engine, folder: Path, ahead: int) -> None:
        self.engine = engine
        self.now_ms = START_MS
        self.faults: list[str] = []
        self.scorer = Scorer(
            engine,
            Settings(scoring_share=1.0),
            lambda: self.now_ms,
            Orders(str(folder), None, engine.features.version, LIMITS, ahead, faults=True),
            faults=lambda: self.faults,
        )
        self.scorer.breaker = Breaker(PATIENT)
        self.scorer._model = "ranker@1"  # so that the breaker stays

    async def send(self, *records: Record) -> None:
        self.engine.ingest(records, self.now_ms)
        self.scorer.follow(records)

    async def until(self, condition: Callable[[], bool]) -> None:
        end_s = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end_s, "it did not come to pass"
            await asyncio.sleep(0.002)


def run(
    engine: Engine, folder: Path, test: Callable[[Site], Awaitable[None]], ahead: int = 0
) -> None:
    async def inner() -> None:
        site = Site(engine, folder, ahead)
        task = asyncio.create_task(site.scorer.run())
        await test(site)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(inner())


def test_a_visitor_s_list_follows_their_events(engine: Engine, tmp_path: Path):
    async def test(site: Site) -> None:
        assert engine.decide(PAGE, START_MS).model == "default@1"
        heads = engine.lists.wanted_heads
        assert list(heads) == [Whom("home", None, None)], "nothing is known of them"
        heads.clear()
        await site.send(view("mug2"))
        await site.until(lambda: site.scorer.made == 1)
        answer = engine.decide(PAGE, START_MS)
        assert (answer.model, answer.degraded) == ("ranker@1", None)
        assert [item.id for item in answer.items][:2] == ["mug30", "mug29"]
        first = next(iter(engine.lists._entries.values())).prepared
        await site.send(view("mug3"))
        await site.until(lambda: site.scorer.made == 2)
        second = next(iter(engine.lists._entries.values())).prepared
        assert second.as_of == first.as_of + 1 == engine.offset
        assert engine.lists.reads == {("anonymous", "none"): 1, ("content", "fresh"): 1}

    run(engine, tmp_path, test)


def test_what_sold_out_after_a_list_was_made_is_on_no_page(engine: Engine, tmp_path: Path):
    async def test(site: Site) -> None:
        await site.send(view("mug2"))
        await site.until(lambda: site.scorer.made == 1)
        await site.send(onhand.Signal("mug30", stock=0))
        answer = engine.decide(PAGE, START_MS)
        assert answer.model == "ranker@1"
        assert [item.id for item in answer.items][:2] == ["mug29", "mug28"]

    run(engine, tmp_path, test)


def test_a_page_without_a_list_has_one_made_for_its_session_or_its_user(
    engine: Engine, tmp_path: Path
):
    async def test(site: Site) -> None:
        asked = [
            RecommendRequest(slot="cart", session="s1", user="u1"),
            RecommendRequest(slot="product", session="s1", item="mug4"),
        ]
        engine.ingest([view("mug2", "s1", user="u1")], START_MS)
        for request in asked:
            assert engine.decide(request, START_MS).model == "default@1"
        await site.until(lambda: site.scorer.made == 3)
        assert {(whom.slot, whom.session, whom.user) for whom in engine.lists} == {
            ("cart", "s1", None), ("cart", None, "u1"), ("product", "s1", None),
        }  # fmt: skip
        for request in asked:
            assert engine.decide(request, START_MS).model == "ranker@1"
        other = msgspec.structs.replace(asked[1], item="mug5")
        assert engine.decide(other, START_MS).model == "default@1", "a list is for one product"
        again = RecommendRequest(slot="cart", session="new", user="u1")
        assert engine.decide(again, START_MS).model == "ranker@1", "a known user in a new session"

    run(engine, tmp_path, test)


def test_a_burst_is_one_list_the_newest_come_first_and_the_queue_is_bounded(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(scorer_module, "MARKS", 6)
    scorer = Scorer(engine, Settings(), lambda: START_MS)
    scorer.follow([view("mug1"), view("mug2"), view("mug3"), view("mug1", "s2"), view("mug1")])
    assert scorer.waiting == 2
    scorer.follow([view("mug1", f"t{n}") for n in range(6)])
    assert (scorer.waiting, scorer.dropped) == (6, 2)
    assert not any(
        gc.is_tracked(whom) or gc.is_tracked(mark) for whom, mark in scorer._marks.items()
    ), "a garbage collection would look at each"
    assert [mark.whom.session for mark in scorer._take()] == ["t5", "t4", "t3", "t2"]
    old = msgspec.structs.replace(view("mug1", "old"), time=START_MS - 3_600_000)
    scorer.follow([old])
    assert scorer.waiting == 2, "events of long ago are nobody's who is here"


@pytest.mark.parametrize(
    ("scores", "why"),
    [
        (lambda features: np.full(len(features), np.nan, np.float32), "no numbers"),
        (lambda features: np.zeros(len(features) + 1, np.float32), "shape"),
    ],
    ids=["nan", "shape"],
)
def test_scores_that_are_none_make_no_list(engine: Engine, scores: Callable[[Any], Any], why: str):
    ranker = engine.models.ranker
    assert ranker is not None

    class Scorer:
        n_features = len(NAMES)

        def score(self, features: Any) -> Any:
            return scores(features)

    ranker.model = replace(ranker.model, scorer=Scorer())
    with pytest.raises(ModelFailed, match=why):
        engine.prepare([audience(PAGE)], START_MS)
    assert len(engine.lists) == 0


def test_a_failing_model_opens_the_breaker_and_pages_say_stale_until_it_is_well(
    engine: Engine, tmp_path: Path
):
    async def test(site: Site) -> None:
        await site.send(view("mug2"))
        await site.until(lambda: site.scorer.made == 1)
        site.faults = ["failing-model"]
        site.now_ms = START_MS + 5
        await site.send(view("mug3"))
        await site.until(lambda: engine.lists.failing)
        assert site.scorer.breaker.position == "open"
        answer = engine.decide(PAGE, START_MS + 30)
        assert (answer.degraded, answer.age_ms, answer.model) == ("stale", 30, "ranker@1")
        assert engine.degraded == {("stale", "breaker"): 1}
        assert b'"age_ms":30' in msgspec.json.encode(answer)
        site.faults = []
        await site.until(lambda: site.scorer.made == 2)
        assert site.scorer.breaker.position == "closed"
        assert engine.decide(PAGE, START_MS + 30).degraded is None
        assert engine.waited == 0, "no list was made where pages are answered"

    run(engine, tmp_path, test)


def test_a_model_that_is_slow_hangs_falls_silent_or_is_killed_is_well_again_afterwards(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(scorer_module, "_HUNG_S", 0.2)
    monkeypatch.setattr(scorer_module, "_AGAIN_S", 0.01)

    async def test(site: Site) -> None:
        scorer = site.scorer
        scorer.breaker = Breaker(QUICK)
        for number, fault in enumerate(("stuck-thread", "killed-scorer"), 1):
            await site.send(view("mug2"))
            await site.until(lambda number=number: scorer.made == number)
            replica, failed = scorer._replica, scorer.failures
            site.faults = [fault]
            await site.send(view("mug3"))
            await site.until(lambda failed=failed: scorer.failures > failed)
            assert engine.decide(PAGE, START_MS).items, "no page waits for it"
            await site.until(lambda replica=replica: scorer._replica is not replica)
            site.faults = []
        await site.until(lambda: scorer.made == 3)
        assert not engine.lists.failing
        silent, failed = scorer._replica, scorer.failures
        assert silent is not None
        monkeypatch.setattr(scorer_module, "_SILENT_S", 0.2)
        os.kill(processes(scorer._parent)[1], signal.SIGSTOP)
        await site.send(view("mug3"))
        await site.until(lambda: scorer.failures > failed)
        monkeypatch.setattr(scorer_module, "_SILENT_S", 30.0)
        await site.until(lambda: scorer.made == 4)
        assert scorer._replica is not silent
        monkeypatch.setattr(scorer_module, "_HUNG_S", 30.0)
        replica = scorer._replica
        site.faults = ["slow-model"]
        await site.send(view("mug4"))
        await site.until(lambda: scorer.hangs)
        assert engine.decide(PAGE, START_MS + 1).degraded == "stale"
        site.faults = []
        await site.until(lambda: scorer.made == 5)
        assert scorer._replica is replica, "one that only was slow goes on"

    run(engine, tmp_path, test)


def test_lists_are_made_for_those_who_are_likely_to_come(engine: Engine, tmp_path: Path):
    likely = engine.likely()[:5]

    async def test(site: Site) -> None:
        await site.until(lambda: site.scorer.made == len(likely))
        assert set(engine.lists) == set(likely)
        await site.send(view("mug2"))
        await site.until(lambda: site.scorer.made == len(likely) + 1)

    run(engine, tmp_path, test, ahead=len(likely))


def test_a_replica_ends_with_its_model_and_with_its_server(engine: Engine, tmp_path: Path):
    async def test(site: Site) -> None:
        await site.send(view("mug2"))
        await site.until(lambda: site.scorer.made == 1)
        process, child = processes(site.scorer._parent)
        engine.models.ranker = None
        await site.until(lambda: not is_alive(process.pid) and not is_alive(child))
        parent = Parent()
        orders = Orders(str(tmp_path), None, engine.features.version, LIMITS, 0)
        other = await parent.fork(msgspec.structs.replace(orders, features="other"))
        with pytest.raises(ReplicaLost):
            await other.listen()
        other.close()
        first = await parent.fork(orders)
        await first.listen()
        process, child = processes(parent)
        second = await parent.fork(orders)
        with pytest.raises(ReplicaLost):
            await first.listen()
        await second.listen()
        assert parent._process is process
        assert not is_alive(child)
        process.kill()
        await asyncio.to_thread(process.wait)
        third = await parent.fork(orders)
        await third.listen()
        process, child = processes(parent)
        assert parent._control is not None
        parent._control.close()  # as when the server is killed
        assert await asyncio.to_thread(process.wait, 30) == 0
        assert not is_alive(child)
        await parent.end()
        for each in (first, second, third):
            each.close()

    run(engine, tmp_path, test)


def test_a_list_that_is_behind_for_long_is_stale(engine: Engine):
    engine.prepare([audience(PAGE)], START_MS)
    assert list(engine.lists.mark(view("mug2"), frozenset({"home"}), START_MS + 10))
    assert engine.decide(PAGE, START_MS + 1_010).degraded is None
    answer = engine.decide(PAGE, START_MS + 1_011)
    assert (answer.degraded, answer.age_ms) == ("stale", 1_011)
    engine.prepare([audience(PAGE)], START_MS + 1_012)
    assert engine.decide(PAGE, START_MS + 1_013).degraded is None


def test_decisions_from_lists_are_made_again_to_the_byte(tmp_path: Path):
    engine = Engine.open(tmp_path, LIMITS)
    engine.ingest([Item(f"mug{n}", price=float(n), stock=5) for n in range(1, 31)], START_MS)
    activate(tmp_path, engine)
    rng = np.random.default_rng(3)
    for step in range(40):
        now_ms = START_MS + 1_000 * step
        session, user, country = f"s{rng.integers(4)}", f"u{rng.integers(3)}", "GB"
        events = [
            Event(
                "view", session=session, user=user, item=f"mug{rng.integers(1, 31)}",
                time=now_ms, context=Context(country=country),
            )
            for _ in range(3)
        ]  # fmt: skip
        engine.ingest([*events, onhand.Signal(f"mug{rng.integers(1, 31)}", stock=0)], now_ms)
        request = RecommendRequest(
            slot="product" if step % 3 == 0 else "home",
            session=session,
            user=user,
            item="mug5" if step % 3 == 0 else None,
        )
        if step % 2:
            engine.prepare([audience(request, of_user=step % 4 == 1)], now_ms)
        if step == 20:
            activate(tmp_path, engine, version=2)
        engine.ingest([view("mug7", session), onhand.Signal("mug7", stock=3)], now_ms)
        engine.decide(request, now_ms + 900)
    told = [
        engine.explain(record.answer.decision)
        for record in _records(tmp_path)
        if record.prepared_ms
    ][-2:]
    engine.close()
    records = _records(tmp_path)
    models = {record.answer.model for record in records}
    assert models == {"default@1", "ranker@1", "ranker@2"}
    assert {record.of_user for record in records} == {True, False}
    features = onhand.App().features
    past = Past(SqliteReader(tmp_path / "log.db"), None, features, LIMITS)
    store = Models(ModelStore(tmp_path / "models"), features)
    replayed = list(replay(records, past, store))
    assert [each.differences for each in replayed] == [[]] * 40
    assert all(each.same for each in told)
    for each in told:
        for candidate in each.candidates:
            assert sum(candidate.parts.values()) == pytest.approx(candidate.score, abs=1e-5)
    other = list(replay(records, past, store, "default@1"))
    assert any(each.differences for each in other)


def _records(folder: Path) -> list[DecisionRecord]:
    return [
        msgspec.json.decode(body, type=DecisionRecord)
        for body in read_decisions(folder / "decisions.db", 0, 1_000)
    ]


def test_the_list_longest_unused_leaves():
    lists = Lists(3 * LIST_BYTES)
    prepared = Prepared(NO_LIST, 1, START_MS, "ranker@1")
    whoms = [Whom("home", f"s{n}", None) for n in range(4)]
    for whom in whoms[:3]:
        lists.put(whom, prepared)
    assert lists.find(RecommendRequest(slot="home", session="s0")) is not None
    lists.put(whoms[3], prepared)
    assert [whom.session for whom in lists] == ["s3", "s0", "s2"]
    assert lists.left == 1


def test_a_restart_begins_with_the_lists_there_were(tmp_path: Path):
    engine = Engine.open(tmp_path, LIMITS)
    engine.ingest([Item(f"mug{n}", price=float(n), stock=5) for n in range(1, 31)], START_MS)
    activate(tmp_path, engine)
    engine.ingest([view("mug2"), view("mug3", "s2")], START_MS)
    engine.prepare([audience(PAGE), Whom("home", "s2", None)], START_MS)
    list(engine.lists.mark(view("mug2", "s2"), frozenset(), START_MS + 1))
    before = engine.decide(PAGE, START_MS + 2)
    engine.close()
    again = Engine.open(tmp_path, LIMITS)
    after = again.decide(PAGE, START_MS + 2)
    assert after.model == "ranker@1"
    assert [item.id for item in after.items] == [item.id for item in before.items]
    other = msgspec.structs.replace(PAGE, session="s2")
    assert again.decide(other, START_MS + 2_000).degraded == "stale", "it was behind already"
    assert again.explain(after.decision).same
    again.ingest([control_of(None)], START_MS)
    again.close()
    bare = Engine.open(tmp_path, LIMITS)
    assert len(bare.lists) == 0, "without a model nobody reads them"
    bare.close()


def test_damaged_lists_and_those_of_a_longer_log_are_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    lists = Lists()
    rows = np.arange(3)
    listed = Listed(rows.astype(np.int32), rows.astype(np.float32), rows.astype(np.int8))
    lists.put(Whom("home", "s", None), Prepared(listed, 7, START_MS, "ranker@1"))
    lists.save(tmp_path, 9)
    for offset, kept in ((8, 0), (9, 1), (10, 1)):
        loaded = Lists()
        loaded.load(tmp_path, offset)
        assert len(loaded) == kept
    (path,) = tmp_path.rglob("*.checkpoint")
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)
    loaded = Lists()
    loaded.load(tmp_path, 10)
    assert len(loaded) == 0
    assert "checksum" in caplog.text


def test_those_who_did_most_are_likely_to_come_back(engine: Engine):
    for _ in range(3):
        engine.ingest([view("mug2", "o4", user="u1"), view("mug3", "o9")], START_MS)
    assert [(whom.slot, whom.session, whom.user) for whom in engine.likely()][:4] == [
        ("home", None, None),
        ("home", "o9", None),
        ("home", "o4", None),
        ("home", None, "u1"),
    ]


def test_a_page_in_a_hurry_looks_for_no_list_and_asks_for_none(engine: Engine):
    engine.ingest([view("mug2", "o4")], START_MS)
    known, stranger = (
        RecommendRequest(slot="home", session=session, n=5) for session in ("o4", "new")
    )
    for request in (known, stranger):
        answer = engine.decide(request, START_MS, hurry=True)
        assert (answer.model, answer.degraded) == ("default@1", "popular")
        assert engine.explain(answer.decision).same
    lists = engine.lists
    assert (len(lists.reads), len(lists.wanted), len(lists.wanted_heads)) == (0, 0, 0)
    engine.decide(known, START_MS)
    assert engine.lists.wanted


def test_strangers_begin_from_the_head_list_of_their_country(engine: Engine):
    for country, count in (("DE", 1), ("GB", 3)):
        engine.ingest(
            [view("mug2", f"{country}{n}", context=Context(country=country)) for n in range(count)],
            START_MS,
        )
    heads = [Whom("home", None, None, country=country) for country in (None, "GB", "DE")]
    assert engine.likely()[:3] == heads
    stranger = RecommendRequest(slot="home", session="new", context=Context(country="GB"), n=5)
    assert engine.decide(stranger, START_MS).model == "default@1"
    assert list(engine.lists.wanted_heads) == [heads[1], heads[0]]
    engine.prepare(heads[:2], START_MS)
    elsewhere = msgspec.structs.replace(stranger, context=Context(country="DE"))
    for request in (stranger, elsewhere, RecommendRequest(slot="home", n=5)):
        answer = engine.decide(request, START_MS)
        assert (answer.model, answer.tier, answer.degraded) == ("ranker@1", "anonymous", None)
        assert engine.explain(answer.decision).same
    assert engine.lists.reads["anonymous", "fresh"] == 3
    assert list(engine.lists.wanted_heads) == [heads[2]], "its own is still to be made"
    engine.decide(stranger, START_MS + HEAD_FADED_MS + 1)
    assert heads[1] in engine.lists.wanted_heads, "it is made anew while it is read"
    known = RecommendRequest(slot="home", session="GB1", context=Context(country="GB"), n=5)
    assert engine.decide(known, START_MS).model == "default@1", "of whom more is known"
