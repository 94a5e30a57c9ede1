"""The application in-process: what it answers when things below it fail."""

import asyncio
import json
import logging
import os
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from onhand import engine
from onhand.contracts.records import Record
from onhand.engine import Engine
from onhand.log.memory import MemoryLog
from onhand.log.port import LogFailed
from onhand.serving.app import App
from onhand.serving.committer import Committer
from onhand.serving.loop import LoopMonitor
from onhand.serving.service import Service
from onhand.settings import Settings
from onhand.state.state import Limits
from onhand.steps import Steps

VIEW = {"type": "view", "session": "s", "item": "a"}
LIMITS = Limits(100, 100, 100, 4, 100)


class Disk(MemoryLog):
    """A log whose appends can be held up, and can fail."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()
        self.free.set()
        self.error: Exception | None = None
        self.appends: list[int] = []

    def append(self, records: Sequence[Record]) -> int:
        self.free.wait(10)
        if self.error is not None:
            raise self.error
        self.appends.append(len(records))
        return super().append(records)


class Site:
    """A running application on a disk, and a client for it."""

    def __init__(self, disk: Disk, service: Service, client: httpx.AsyncClient) -> None:
        self.disk = disk
        self.service = service
        self.client = client
        self.engine = service.engine

    async def post(self, *events: dict[str, Any]) -> httpx.Response:
        return await self.client.post("/v1/events", json=list(events))

    async def page(self) -> httpx.Response:
        return await self.client.get("/v1/recommend/home?session=s")


@asynccontextmanager
async def opened(checkpoints: Path | None = None, **settings: Any) -> AsyncGenerator[Site]:
    disk = Disk()
    service = Service(Engine(disk, checkpoints, limits=LIMITS), Settings(**settings))
    transport = httpx.ASGITransport(App(service))
    service.start()
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        while not service.ready:
            await asyncio.sleep(0.01)
        site = Site(disk, service, client)
        put = await client.put("/v1/items", json=[{"id": "a"}, {"id": "b"}])
        assert put.status_code == 202
        try:
            yield site
        finally:
            disk.free.set()
            await service.stop()


def run(test: Callable[[Site], Awaitable[None]], **settings: Any) -> None:
    async def inner() -> None:
        async with opened(**settings) as site:
            await test(site)

    asyncio.run(inner())


def is_problem(answer: httpx.Response, status: int, code: str) -> bool:
    assert answer.headers["content-type"] == "application/problem+json"
    return (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_failed_disk_refuses_writes_and_answers_pages() -> None:
    async def test(site: Site) -> None:
        site.disk.free.clear()
        site.disk.error = LogFailed("no space left")
        waiting = [asyncio.create_task(site.post(VIEW)) for _ in range(5)]
        await asyncio.sleep(0.05)
        assert (await site.page()).status_code == 200
        site.disk.free.set()
        for answer in await asyncio.gather(*waiting):
            assert is_problem(answer, 503, "log_failed")
            assert answer.headers["retry-after"] == "1"
        assert is_problem(await site.post(VIEW), 503, "log_failed")
        assert (await site.page()).status_code == 200
        assert site.engine.offset == 2

    run(test)


def test_a_broken_writer_refuses_writes_and_answers_pages() -> None:
    async def test(site: Site) -> None:
        site.disk.error = ValueError("a defect")
        assert is_problem(await site.post(VIEW), 503, "writer_failed")
        site.disk.error = None
        assert is_problem(await site.post(VIEW), 503, "writer_failed")
        assert (await site.page()).status_code == 200

    run(test)


def test_requests_that_wait_together_share_one_append() -> None:
    async def test(site: Site) -> None:
        site.disk.free.clear()
        first = asyncio.create_task(site.post(VIEW))
        await asyncio.sleep(0.02)
        others = [asyncio.create_task(site.post(VIEW, VIEW)) for _ in range(10)]
        await asyncio.sleep(0.05)
        site.disk.free.set()
        answers = await asyncio.gather(first, *others)
        assert site.disk.appends == [2, 1, 20]
        assert [answer.json()["offset"] for answer in answers] == [3, *range(5, 25, 2)]

    run(test)


def test_a_group_is_bounded() -> None:
    async def test(site: Site) -> None:
        site.disk.free.clear()
        posts = [asyncio.create_task(site.post(VIEW, VIEW, VIEW)) for _ in range(4)]
        await asyncio.sleep(0.05)
        site.disk.free.set()
        await asyncio.gather(*posts)
        assert max(site.disk.appends) <= 6
        assert sum(site.disk.appends) == 2 + 12

    run(test, commit_records=6)


def test_a_full_queue_says_so() -> None:
    async def test(site: Site) -> None:
        site.disk.free.clear()
        posts: list[asyncio.Task[httpx.Response]] = []
        for _ in range(6):
            posts.append(asyncio.create_task(site.post(VIEW, VIEW)))
            await asyncio.sleep(0.02)
        refused = await posts[-1]
        assert is_problem(refused, 503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        site.disk.free.set()
        statuses = [(await post).status_code for post in posts]
        assert statuses.count(202) >= 3

    run(test, queue_records=4)


def test_a_duplicate_in_the_same_group_counts_once() -> None:
    async def test(site: Site) -> None:
        answers = await asyncio.gather(*[site.post(VIEW | {"id": "e"}) for _ in range(8)])
        assert sum(answer.json()["accepted"] for answer in answers) == 1
        assert sum(answer.json()["duplicates"] for answer in answers) == 7

    run(test)


def test_what_the_engine_refuses_keeps_its_place_in_the_body() -> None:
    async def test(site: Site) -> None:
        events = [VIEW | {"item": f"i{number}"} for number in range(110)]
        answer = await site.post({"type": "view"}, *events)
        report = answer.json()
        assert answer.status_code == 202
        assert report["accepted"] + report["rejected"] == 111
        assert report["rejected"] == len(report["errors"]) > 10
        assert [error["code"] for error in report["errors"]][:2] == [
            "missing_item",
            "catalogue_full",
        ]
        assert report["errors"][-1]["index"] == 110

    run(test)


def test_a_page_gets_an_answer_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(site: Site) -> None:
        def fail(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(engine, "decide", fail)
        answer = await site.page()
        assert answer.status_code == 200
        assert (answer.json()["degraded"], answer.json()["items"]) == ("static", [])
        assert (
            'onhand_degraded_total{reason="error",step="static"} 1.0'
            in (await site.client.get("/metrics")).text
        )

    run(test)


def test_one_body_is_decoded_after_the_other_and_signals_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    under_way: list[str] = []
    most: list[int] = []
    take_turns = LoopMonitor.take_turns

    async def watched(monitor: LoopMonitor, work: str, steps: Steps[Any]) -> Any:
        under_way.append(work)
        most.append(under_way.count("decode"))
        await asyncio.sleep(0.01)
        try:
            return await take_turns(monitor, work, steps)
        finally:
            under_way.remove(work)

    async def test(site: Site) -> None:
        monkeypatch.setattr(LoopMonitor, "take_turns", watched)
        views = [VIEW] * 100
        assert len(json.dumps(views)) > 4096, "short ones wait for none"
        events = [site.post(*views) for _ in range(5)]
        answers = await asyncio.gather(*events)
        assert [answer.status_code for answer in answers] == [202] * 5
        assert max(most) == 1
        event = asyncio.create_task(site.post(*views))
        signal = site.client.post("/v1/signals", json=[{"item": "a", "stock": 5}])
        assert (await signal).status_code == (await event).status_code == 202
        assert max(most) == 2

    run(test)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no policies there")
def test_threads_behind_the_page_do_not_interrupt_the_one_that_answers_it() -> None:
    async def test(site: Site) -> None:
        assert (await site.post(VIEW)).status_code == 202
        commits = [each for each in threading.enumerate() if each.name.startswith("commit")]
        assert {os.sched_getscheduler(each.native_id or 0) for each in commits} == {os.SCHED_BATCH}
        assert await asyncio.to_thread(os.sched_getscheduler, 0) == os.SCHED_BATCH
        assert os.sched_getscheduler(0) == before

    before = os.sched_getscheduler(0)
    run(test)


def test_more_than_can_be_done_is_refused_writes_first_and_pages_get_the_cheaper_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(site: Site) -> None:
        monkeypatch.setattr(LoopMonitor, "delay_s", 0.03)
        monkeypatch.setattr(LoopMonitor, "takes_cheaper", lambda _: True)
        answers = [await site.post(VIEW) for _ in range(3)]
        assert all(is_problem(answer, 503, "overloaded") for answer in answers)
        assert [answer.headers["retry-after"] for answer in answers] == ["1", "2", "3"]
        assert answers[0].json()["detail"].endswith("Send this again in a second.")
        assert answers[2].json()["detail"].endswith("Send this again in 3 seconds.")
        signal = [{"item": "a", "stock": 5}]
        assert (await site.client.post("/v1/signals", json=signal)).status_code == 202
        page = (await site.page()).json()
        assert (page["degraded"], len(page["items"])) == ("popular", 2)
        metrics = (await site.client.get("/metrics")).text
        assert 'onhand_overload_total{kind="writes"} 3.0' in metrics
        assert 'onhand_degraded_total{reason="overload",step="popular"} 1.0' in metrics
        monkeypatch.setattr(LoopMonitor, "delay_s", 0.0)
        monkeypatch.setattr(LoopMonitor, "takes_cheaper", lambda _: False)
        assert (await site.post(VIEW)).status_code == 202
        assert (await site.page()).json()["degraded"] is None

    run(test)


def test_a_defect_is_500_with_a_reference_and_the_server_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(site: Site) -> None:
        def fail(*_: object) -> None:
            raise ZeroDivisionError

        with monkeypatch.context() as patch:
            patch.setattr(site.engine, "item", fail)
            answer = await site.client.get("/v1/items/a")
        assert is_problem(answer, 500, "internal")
        reference = answer.json()["detail"].split()[-1].rstrip(".")
        assert reference in caplog.text
        assert "ZeroDivisionError" in caplog.text
        assert (await site.client.get("/v1/items/a")).status_code == 200

    run(test)


def test_a_checkpoint_is_taken_after_so_many_records(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        for _ in range(4):
            await site.post(VIEW, VIEW, VIEW)
        for _ in range(200):
            if any(tmp_path.rglob("*.checkpoint")):
                return
            await asyncio.sleep(0.02)
        raise AssertionError("no checkpoint")

    run(test, checkpoints=tmp_path, checkpoint_records=5)


def test_a_checkpoint_that_fails_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)

    async def test(site: Site) -> None:
        for broken in ("room", "snapshot", "save"):
            with monkeypatch.context() as patch:
                patch.setattr(site.engine, broken, lambda *_: 1 / 0)
                while not caplog.records:
                    assert (await site.post(VIEW, VIEW, VIEW)).status_code == 202
            assert "ZeroDivisionError" in caplog.text
            caplog.clear()
        while not any(tmp_path.rglob("*.checkpoint")):
            assert (await site.post(VIEW, VIEW, VIEW)).status_code == 202

    run(test, checkpoints=tmp_path, checkpoint_records=5)


def test_before_the_log_is_folded_only_probes_are_answered() -> None:
    async def inner() -> None:
        folding = threading.Event()

        def fold() -> None:
            folding.wait(10)

        service = Service(Engine(Disk(), limits=LIMITS), Settings(), warm=fold)
        service.start()
        transport = httpx.ASGITransport(App(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            for method, path in (
                ("GET", "/readyz"),
                ("GET", "/v1/recommend/home"),
                ("GET", "/v1/similar/a"),
                ("GET", "/v1/items/a"),
                ("POST", "/v1/events"),
            ):
                answer = await client.request(method, path)
                assert is_problem(answer, 503, "not_ready")
                assert answer.headers["retry-after"] == "1"
            assert (await client.get("/healthz")).status_code == 200
            folding.set()
            while not service.ready:
                await asyncio.sleep(0.01)
            assert (await client.get("/readyz")).status_code == 200
        await service.stop()

    asyncio.run(inner())


def test_a_log_that_cannot_be_loaded_ends_the_server(caplog: pytest.LogCaptureFixture) -> None:
    async def inner() -> None:
        failed = asyncio.Event()
        engine = Engine(Disk(), limits=LIMITS)

        def damaged() -> None:
            raise OSError("damaged")

        service = Service(engine, Settings(), damaged, failed.set)
        service.start()
        await asyncio.wait_for(failed.wait(), 5)
        assert not service.ready
        await service.stop()

    asyncio.run(inner())
    assert "could not be loaded" in caplog.text


def test_a_writer_that_ends_by_itself_ends_the_server(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_: Committer) -> None:
        raise RuntimeError("a defect")

    async def inner() -> None:
        failed = asyncio.Event()
        service = Service(Engine(Disk(), limits=LIMITS), Settings(), on_failure=failed.set)
        service.start()
        await asyncio.wait_for(failed.wait(), 5)
        await service.stop()

    monkeypatch.setattr(Committer, "run", fail)
    asyncio.run(inner())
    assert "the writer failed" in caplog.text


def test_a_stop_does_not_wait_for_the_compiler() -> None:
    async def inner() -> None:
        compiling = threading.Event()

        def compile_for_long() -> None:
            compiling.wait(20)

        service = Service(Engine(Disk(), limits=LIMITS), Settings(), compile_for_long)
        service.start()
        await asyncio.sleep(0.02)
        async with asyncio.timeout(5):
            await service.stop()
        compiling.set()

    asyncio.run(inner())
