"""Group commit: requests that wait together share one fsync.

    submit ─▶ queue ─▶ admit ─▶ commit ─▶ apply ─▶ each request's report
              bounded  loop     thread    loop

Signals are urgent: under overload they pass the events that wait, because every page until they
are folded may show what is gone.

One task does it all, one group at a time, so what it awaits never overlaps: no fold runs while
the state is copied for a checkpoint. Page reads go on during the fsync and between the steps of
the others. A request is answered after its records are durable and applied, never before.
"""

import asyncio
import gc
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from threading import get_native_id
from typing import Any, Final, NamedTuple, TypeVar

from onhand.admission import Admission, Retry
from onhand.contracts.answers import IngestReport
from onhand.contracts.errors import OnhandError, Overloaded, Unavailable
from onhand.contracts.records import Record
from onhand.engine import Engine
from onhand.priority import give_way, interrupt_nobody, keep_off
from onhand.serving.loop import LoopMonitor
from onhand.serving.memory import give_back
from onhand.serving.metrics import Metrics
from onhand.settings import Settings
from onhand.state.state import Arrays, Dump
from onhand.steps import STEP_RECORDS, Steps

__all__ = ["Committer"]

_T = TypeVar("_T")

_log = logging.getLogger("onhand")
_APART_S: Final = 0.02
"""Groups begin so far apart while `_MANY_PAGES` a second are asked for: a group of one record costs
the loop nearly as much as one of fifty."""
_MANY_PAGES: Final = 500
_COUNTED_S: Final = 0.1
"""How long pages are counted, at least, before there is a rate of them."""
_SHORT_GROUP: Final = 100
"""Records after which a group closes while pages, all or some, take the cheaper step: it has a
tenth of the loop's time then, and signals that come meanwhile wait for its end."""
_PATIENCE: Final = 2
"""How many times as long a checkpoint waits while pages take the cheaper step."""


class _Waiting(NamedTuple):
    """One request's records and the future of its report."""

    records: Sequence[Record] | Retry
    report: "asyncio.Future[IngestReport]"
    since_s: float


class Committer:
    """Takes records from any number of requests; writes from one task."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        metrics: Metrics,
        monitor: LoopMonitor,
        now_ms: Callable[[], int],
        on_folded: Callable[[Sequence[Record]], None],
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._metrics = metrics
        self._monitor = monitor
        self._now_ms = now_ms
        self._on_folded = on_folded
        self._queue: deque[_Waiting] = deque()
        self._urgent: deque[_Waiting] = deque()
        self._began_s = self._group_s = 0.0
        self._counted_s, self._counted, self._pages_per_s = time.monotonic(), 0, 0.0
        self._queued_records = 0
        self._wake = asyncio.Event()
        self._closing = False
        self._broken: Unavailable | None = None
        self._disk = ThreadPoolExecutor(1, "commit", interrupt_nobody)
        self._aside = ThreadPoolExecutor(1, "checkpoint", give_way)
        self._answering = 0
        self._saving: asyncio.Task[None] | None = None
        self._room: asyncio.Future[Arrays] | None = None
        self._saved_offset = 0
        self._saved_at_s = time.monotonic()

    @property
    def queued_records(self) -> int:
        """Records that wait for a commit."""
        return self._queued_records

    @property
    def wait_s(self) -> float:
        """How long those that come now will wait: as long as the first of those that wait already
        has, or as the groups before them take when each takes as long as the last did."""
        if not self._queue:
            return 0.0
        groups = self._queued_records / self._group_records
        return max(time.monotonic() - self._queue[0].since_s, groups * self._group_s)

    async def submit(
        self, records: Sequence[Record] | Retry, *, urgent: bool = False
    ) -> IngestReport:
        """Have `records` written, `urgent` ones before others that wait; return when they are
        durable and visible.

        Raises `Unavailable` when too many wait already, or nothing can be written any more.
        """
        if self._broken is not None:
            raise self._broken
        if self._closing:
            raise Unavailable("stopping", "The server is stopping. Send this again to the next.")
        if self._queued_records and (
            self._queued_records + len(records) > self._settings.queue_records
        ):
            raise Overloaded(
                f"{self._queued_records} records wait to be written already.",
                ceil(self.wait_s) or 1,
            )
        report: asyncio.Future[IngestReport] = asyncio.get_running_loop().create_future()
        queue = self._urgent if urgent else self._queue
        queue.append(_Waiting(records, report, time.monotonic()))
        self._queued_records += len(records)
        self._wake.set()
        return await report

    async def run(self) -> None:
        """Write groups until closed and drained; begin when the engine has loaded."""
        self._saved_offset, self._answering = self._engine.offset, get_native_id()
        while not (self._closing and not self._waiting):
            if not self._waiting:
                await self._wait()
            if self._waiting:
                await self._let_more_come()
                self._began_s = time.monotonic()
                await self._write(self._take())
                self._group_s = time.monotonic() - self._began_s
            if self._checkpoint_due():
                await self._checkpoint()
        for task in (self._room, self._saving):
            if task is not None:
                await task
        self._disk.shutdown()
        self._aside.shutdown()

    def close(self) -> None:
        """Take no more; `run` returns when what waits is written."""
        self._closing = True
        self._wake.set()

    async def _wait(self) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(1):  # often enough to look whether a checkpoint is due
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _let_more_come(self) -> None:
        """Wait until the last group began long enough ago, where many pages are asked for."""
        now_s, decided = time.monotonic(), self._engine.decided
        if now_s - self._counted_s > _COUNTED_S:
            self._pages_per_s = (decided - self._counted) / (now_s - self._counted_s)
            self._counted_s, self._counted = now_s, decided
        rest_s = self._began_s + _APART_S - now_s
        if rest_s > 0 and self._pages_per_s > _MANY_PAGES and not self._closing:
            await asyncio.sleep(rest_s)

    @property
    def _waiting(self) -> bool:
        return bool(self._urgent or self._queue)

    @property
    def _group_records(self) -> int:
        most = self._settings.commit_records
        return min(most, _SHORT_GROUP) if self._monitor.hurries else most

    def _take(self) -> list[_Waiting]:
        """Take requests up to the bound on a group, urgent ones first; always at least one."""
        group: list[_Waiting] = []
        records, limit = 0, self._group_records
        for queue in (self._urgent, self._queue):
            while queue and (not group or records + len(queue[0].records) <= limit):
                group.append(queue.popleft())
                records += len(group[-1].records)
        self._queued_records -= records
        return group

    async def _write(self, group: list[_Waiting]) -> None:
        if self._broken is not None:
            _refuse(group, self._broken)
            return
        try:
            await self._admit_commit_apply(group)
        except OnhandError as error:
            _log.error("a group of %d requests was not written: %s", len(group), error)
            _refuse(group, error)
        except Exception:
            _log.exception("a group of %d requests broke the writer", len(group))
            self._broken = Unavailable(
                "writer_failed",
                "The server can take no more records: writing them failed for a reason that is in "
                "its log. Reads go on. Restart the server; what it acknowledged is kept.",
            )
            _refuse(group, self._broken)

    async def _admit_commit_apply(self, group: list[_Waiting]) -> None:
        admitting = self._engine.admit([waiting.records for waiting in group], self._now_ms())
        admission = await self._monitor.take_turns("admit", admitting)
        loop = asyncio.get_running_loop()
        began_s = time.perf_counter()
        await loop.run_in_executor(self._disk, self._engine.commit, admission)
        self._metrics.commit_seconds.observe(time.perf_counter() - began_s)
        self._metrics.commit_requests.observe(len(group))
        await self._monitor.take_turns("fold", self._apply(admission, group))

    def _apply(self, admission: Admission, group: list[_Waiting]) -> Steps[None]:
        """Fold, and answer each request as soon as its last record is folded."""
        answered = folded = 0
        for reports in self._engine.apply(admission):
            self._on_folded(admission.records[folded : folded + STEP_RECORDS])
            folded += STEP_RECORDS
            for waiting, report in zip(group[answered:], reports, strict=False):
                if not waiting.report.done():
                    waiting.report.set_result(report)
            answered += len(reports)
            yield

    def _checkpoint_due(self) -> bool:
        records = self._engine.offset - self._saved_offset
        if records <= 0 or (self._saving is not None and not self._saving.done()):
            return False
        waited_s = time.monotonic() - self._saved_at_s
        patience = _PATIENCE if self._monitor.hurries else 1
        return (
            records >= patience * self._settings.checkpoint_records
            or waited_s >= patience * self._settings.checkpoint_minutes * 60
        )

    def _elsewhere(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """Do long work, and keep off the processor on which pages are answered."""
        with keep_off(self._answering):
            return work(*arguments)

    def _save(self, copied: list[Dump]) -> None:
        """Write a copied state and let go of it, here and not on the event loop."""
        dump = copied.pop()
        self._engine.save(dump)
        give_back(dump.arrays.values())

    async def _checkpoint(self) -> None:
        """Copy the state while nothing folds; make the memory for it before, and write it after,
        while writing goes on."""
        loop = asyncio.get_running_loop()
        if self._room is None:
            self._room = loop.run_in_executor(self._aside, self._elsewhere, self._engine.room)
        if not self._room.done():
            return
        making, self._room = self._room, None
        offset = self._engine.offset
        self._saved_offset, self._saved_at_s = offset, time.monotonic()
        try:
            copied = [
                await loop.run_in_executor(
                    self._disk, self._elsewhere, self._engine.snapshot, making.result()
                )
            ]
        except Exception:
            _log.exception("the state at offset %d was not copied for a checkpoint", offset)
            return
        gc.collect(0)
        gc.freeze()  # what came since the last one is for good: no collection walks it again

        async def save() -> None:
            try:
                await loop.run_in_executor(self._aside, self._elsewhere, self._save, copied)
            except Exception:
                _log.exception("the checkpoint at offset %d was not saved", offset)
            else:
                _log.info("checkpoint saved at offset %d", offset)

        self._saving = asyncio.create_task(save())


def _refuse(group: list[_Waiting], error: Exception) -> None:
    for waiting in group:
        if not waiting.report.done():
            waiting.report.set_exception(error)
