"""The service: an engine's life in a server, from loading to the last commit."""

import asyncio
import contextlib
import gc
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

import msgspec
from starlette.types import Receive, Scope

from onhand import redelivery
from onhand.contracts.answers import IngestReport
from onhand.contracts.batch import Limits, Parsed, Refusal, merge, refusals
from onhand.contracts.errors import Fault, Invalid, OnhandError, Overloaded, Unavailable
from onhand.contracts.formats import JSON, NDJSON, TEXT
from onhand.contracts.gate import Gate
from onhand.contracts.letters import DeadLetter, LetterFilter, RetryReport, letters_of
from onhand.contracts.records import Control, Record
from onhand.engine import Engine
from onhand.log.dead_letters import RAW_BYTES, DeadLetterStore
from onhand.priority import interrupt_nobody
from onhand.serving.appointments import Appointments
from onhand.serving.body import Body
from onhand.serving.committer import Committer
from onhand.serving.faults import Faults
from onhand.serving.guard import Guard
from onhand.serving.keeper import Keeper
from onhand.serving.keys import KeyFile
from onhand.serving.loop import INGEST_DELAY_S, SCORING_DELAY_S, LoopMonitor
from onhand.serving.memory import Memory, grow_heap
from onhand.serving.metrics import Metrics
from onhand.serving.problems import not_ready
from onhand.serving.replica import Orders
from onhand.serving.scorer import Scorer
from onhand.settings import Settings
from onhand.state.operations import WATERMARK
from onhand.steps import Steps, finish

__all__ = ["Service", "wall_clock_ms"]

_log = logging.getLogger("onhand")
_LAG_EVERY_S = 0.02
_LOOK_EVERY_S = 1.0
_GROW_EVERY_S = 0.25
_COLLECTED: Final = (700, 1, 2**31 - 1)
"""When the three generations of objects are collected: the young ones often, because the loop waits
for as long as there are objects to look at, those that stay before there are many, and the old ones
not at all. Neither pages nor records leave cycles, so there is little to find."""
_WRITE_S: Final = 1.5
"""How long records may wait to be written, or new ones are refused."""
_SHORT_BYTES: Final = 4096
"""A body that is no longer waits for no other: a few events take as long as a page."""
_DECODES: Final = 8
"""Over so many bodies the time to decode one is averaged."""
_PART_MEDIA: Final = {NDJSON: JSON, TEXT: JSON}
"""What one part of a body is, where that is something else than the body."""


def wall_clock_ms() -> int:
    """Epoch milliseconds."""
    return time.time_ns() // 1_000_000


def _origins(settings: Settings) -> list[str]:
    return [origin.strip() for origin in settings.origins.split(",") if origin.strip()]


def _do_nothing() -> None:
    """Stands for what a caller does not need."""


class _StoppedLoadingError(Exception):
    """Ends the load of a server that is asked to stop."""


class Service:
    """What the routes share.

    `warm` runs beside the event loop before the log is loaded, so that no request waits for a
    compiler; `on_failure` is called when the log cannot be loaded.
    """

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        warm: Callable[[], None] = _do_nothing,
        on_failure: Callable[[], None] = _do_nothing,
        now_ms: Callable[[], int] = wall_clock_ms,
        *,
        letters: DeadLetterStore | None = None,
        keys: KeyFile | None = None,
        faults: Faults | None = None,
        replica: Orders | None = None,
    ) -> None:
        self.faults = faults
        self.engine = engine
        self.settings = settings
        self.now_ms = now_ms
        self.warm = warm
        self.on_failure = on_failure
        self.metrics = Metrics()
        self.letters = letters
        self.guard = Guard(
            keys.read() if keys is not None else (),
            _origins(settings),
            time.monotonic,
            now_ms,
            settings.admin_port or None,
        )
        self.registering = asyncio.Lock()
        self._keys = keys
        self._keeper = None if letters is None else Keeper(letters, self.metrics)
        self._retrying = asyncio.Lock()
        self._decoding = asyncio.Lock()
        self._undecoded = 0
        self._decode_s = 0.0
        self._appointments = Appointments()
        self.limits = Limits(settings.body_bytes, settings.batch_records)
        self.ready = False
        self.refused = 0
        """Requests to write that were refused for want of time."""
        self.monitor = monitor = LoopMonitor(settings.poll_ms / 1000)
        self.scorer = Scorer(
            engine,
            settings,
            now_ms,
            replica,
            lambda: monitor.delay_s > SCORING_DELAY_S,
            list if faults is None else faults.on,
        )
        self._committer = Committer(
            engine, settings, self.metrics, self.monitor, now_ms, self.scorer.follow
        )
        self._progress = (0, 0)
        self._stopping = False
        self._on_stop: Callable[[], None] = _do_nothing
        self._tasks: list[asyncio.Task[None]] = []
        self._describe_gauges()

    def start(self) -> None:
        """Begin to load the log, then to write. Returns at once."""
        behind = ThreadPoolExecutor(thread_name_prefix="behind", initializer=interrupt_nobody)
        asyncio.get_running_loop().set_default_executor(behind)
        self._tasks = [
            asyncio.create_task(self._load_and_write(), name="writer"),
            asyncio.create_task(self._measure_lag(), name="lag"),
            asyncio.create_task(self._follow_keys(), name="keys"),
            asyncio.create_task(self._let_time_pass(), name="time"),
            asyncio.create_task(self._score(), name="scorer"),
            asyncio.create_task(self._make_memory_ready(), name="memory"),
        ]

    async def stop(self) -> None:
        """Write what waits, checkpoint, close."""
        self._stopping = True
        self._on_stop()
        self._committer.close()
        writer, *others = self._tasks
        for each in others:
            each.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await writer
        if self._keeper is not None:
            await self._keeper.close()
        await asyncio.to_thread(self.engine.close)

    def require_ready(self) -> None:
        """Raise `Unavailable` until the log is folded."""
        if not self.ready:
            raise not_ready(*self._progress)

    async def write(self, records: Sequence[Record], *, urgent: bool = False) -> IngestReport:
        """Make `records` durable and visible, `urgent` ones before others. Raises `Unavailable`."""
        self.require_ready()
        if not records:
            return IngestReport(0, 0, 0, self.engine.offset)
        return await self._committer.submit(records, urgent=urgent)

    async def read_body(self, scope: Scope, receive: Receive) -> bytes:
        """Read a body of JSON. Raises as `Body.read` does."""
        body = Body()
        await self._read(body, scope, receive, binary=False)
        return body.content

    async def read_records(
        self, scope: Scope, receive: Receive, gate: Gate[Any], source: str, binary: bool = False
    ) -> Body:
        """Read a body of records. Raises as `Body.read` does, and keeps what has come; and
        `Unavailable`, before anything is read, while there is more to do than can be done: but
        never for signals, because pages that are made must not show what is gone."""
        if gate.contract.kind != "signals":
            self._require_room()
        body = Body()
        try:
            await self._read(body, scope, receive, binary)
        except OnhandError as error:
            await self.refuse(gate, error, body, source)
            raise
        return body

    def _require_room(self) -> None:
        if self.monitor.delay_s > INGEST_DELAY_S or self._wait_s() > _WRITE_S:
            self.refused += 1
            raise Overloaded(
                "There is more to do than can be done, and pages go first.",
                self._appointments.make(time.monotonic()),
            )

    def _wait_s(self) -> float:
        return self._undecoded * self._decode_s + self._committer.wait_s

    async def _read(self, body: Body, scope: Scope, receive: Receive, binary: bool) -> None:
        limit_bytes, limit_s = self.limits.body_bytes, self.settings.request_seconds
        await body.read(scope, receive, limit_bytes, limit_s, binary)

    async def refuse(self, gate: Gate[Any], error: OnhandError, body: Body, source: str) -> None:
        """Keep what has come of a body that is refused as a whole; count it where nothing has."""
        if not body.content:
            self.metrics.count_refusal(gate.label, error.code)
            return
        refusal = Refusal(0, Fault(error.code, error.message))
        start = body.content[:RAW_BYTES]
        writing = letters_of(gate, [refusal], lambda _: start, source, body.media, self.now_ms())
        letters = finish(writing)
        is_cut = not body.whole or len(start) < len(body.content)
        await self._keep([msgspec.structs.replace(each, truncated=is_cut) for each in letters])

    async def ingest(
        self, gate: Gate[Any], parsing: Steps[Parsed[Any]], body: Body, source: str
    ) -> IngestReport:
        """Take a body: its good records are durable and visible, its bad ones among the dead
        letters, when this returns. Raises `Invalid` when it cannot be read, and keeps it."""
        urgent = gate.contract.kind == "signals"
        try:
            parsed = await self._decode(parsing, urgent or len(body.content) <= _SHORT_BYTES)
        except Invalid as error:
            await self.refuse(gate, error, body, source)
            raise
        report = await self.write(parsed.records, urgent=urgent)
        if not urgent:
            self._appointments.note_taken(time.monotonic())
        if not parsed.rejected and not report.rejected:
            self.metrics.count_report(gate.label, report)
            return report
        refused = refusals(gate, parsed, report)
        media = _PART_MEDIA.get(body.media, body.media)
        writing = letters_of(gate, refused, parsed.part, source, media, self.now_ms())
        await self._keep(await self.monitor.take_turns("decode", writing))
        report = merge(parsed, report, self.limits)
        self.metrics.count_report(gate.label, report)
        return report

    async def _decode(self, parsing: Steps[Parsed[Any]], at_once: bool) -> Parsed[Any]:
        """Decode one body after the other, but for those that may `at_once`: each that is under way
        keeps pages waiting for a stretch of work in every round."""
        if at_once:
            return await self.monitor.take_turns("decode", parsing)
        self._undecoded += 1
        try:
            async with self._decoding:
                began_s = time.monotonic()
                parsed = await self.monitor.take_turns("decode", parsing)
                self._decode_s += (time.monotonic() - began_s - self._decode_s) / _DECODES
                return parsed
        finally:
            self._undecoded -= 1

    async def retry(self, which: LetterFilter) -> RetryReport:
        """Put dead letters in, as far as today's contracts can read them. Raises `Unavailable`."""
        self.require_ready()
        store = self.letters
        if store is None:
            raise Unavailable("no_dead_letters", "This server keeps no dead letters.")
        engine = self.engine
        async with self._retrying:
            await asyncio.to_thread(redelivery.settle, engine, store)
            total, after = redelivery.start_report(), 0
            while True:
                attempt = await asyncio.to_thread(
                    redelivery.prepare, engine.contracts, store, which, after, self.now_ms()
                )
                if attempt is None:
                    break
                report = await self._committer.submit(attempt.retry)
                await asyncio.to_thread(redelivery.finish, engine.contracts, store, attempt, report)
                total, after = redelivery.sum_up(total, attempt, report), attempt.last
            remaining = await asyncio.to_thread(store.count, which)
        return msgspec.structs.replace(total, remaining=remaining, offset=engine.offset)

    async def _keep(self, letters: Sequence[DeadLetter]) -> None:
        counts = Counter((each.contract, each.version, each.code) for each in letters)
        for (contract, version, code), count in counts.items():
            self.metrics.count_refusal(f"{contract}@{version}", code, count)
        if self._keeper is not None:
            await self._keeper.keep(letters)

    async def _load_and_write(self) -> None:
        try:
            await self._warm_up()
            gc.disable()  # a load makes no cycles, and a collection walks all that it has made
            await asyncio.to_thread(self.engine.load, self._note_progress)
        except _StoppedLoadingError:
            return
        except Invalid as error:
            _log.error("the app does not fit the log: %s", error.message)
            self.on_failure()
            return
        except Exception:
            _log.exception("the log could not be loaded")
            self.on_failure()
            return
        finally:
            gc.enable()
        gc.collect()
        gc.freeze()  # the state is for good: collections need not walk it
        gc.set_threshold(*_COLLECTED)
        grow_heap()
        self.ready = True
        _log.info("ready at offset %d", self.engine.offset)
        try:
            await self._committer.run()
        except Exception:
            _log.exception("the writer failed")
            self.on_failure()

    async def _warm_up(self) -> None:
        """Run `warm` on a thread that a stop need not wait for: compiling takes up to a minute."""
        loop = asyncio.get_running_loop()
        warmed: asyncio.Future[None] = loop.create_future()

        def settle(error: Exception | None) -> None:
            if warmed.done():
                return
            if error is None:
                warmed.set_result(None)
            else:
                warmed.set_exception(error)

        def work() -> None:
            failure: Exception | None = None
            try:
                self.warm()
            except Exception as error:
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: the server has stopped
                loop.call_soon_threadsafe(settle, failure)

        self._on_stop = lambda: settle(_StoppedLoadingError())
        threading.Thread(target=work, name="warm", daemon=True).start()
        await warmed

    def _note_progress(self, folded: int, total: int) -> None:
        self._progress = (folded, total)
        if self._stopping:
            raise _StoppedLoadingError

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + _LAG_EVERY_S
            await asyncio.sleep(_LAG_EVERY_S)
            self.metrics.loop_lag_seconds.observe(max(loop.time() - due_s, 0.0))

    async def _let_time_pass(self) -> None:
        """Let go of held events when none has come for as long as they may be late. Measured by
        how long nothing came, not by the clock: events may be of last year."""
        newest_ms, since_s = 0, time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            held = self.engine.held
            if held.newest_ms != newest_ms or not len(held):
                newest_ms, since_s = held.newest_ms, time.monotonic()
            elif self.ready and (time.monotonic() - since_s) * 1000 > held.lateness_ms:
                passed_ms = held.newest_ms + held.lateness_ms + 1
                with suppress(Unavailable):
                    await self._committer.submit([Control(WATERMARK, {"time_ms": passed_ms})])

    async def _score(self) -> None:
        """Make lists behind the page, once there is a state to make them of."""
        while not self.ready:
            await asyncio.sleep(_LAG_EVERY_S)
        await self.scorer.run()

    async def _make_memory_ready(self) -> None:
        """Have memory found for the records that come next, as far as the system can."""
        memory, offset = Memory(), -1
        while True:
            await asyncio.sleep(_GROW_EVERY_S)
            if self.ready and offset != self.engine.offset:
                offset = self.engine.offset
                if not await asyncio.to_thread(lambda: memory.make_ready(self.engine.ahead())):
                    return

    async def _follow_keys(self) -> None:
        """Take keys that are created or revoked while the server runs."""
        if self._keys is None:
            return
        seen = self._keys.changed_ns()
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            now = self._keys.changed_ns()
            if now == seen:
                continue
            seen = now
            try:
                self.guard.use(self._keys.read())
                _log.info("the keys were read again")
            except OnhandError as error:
                _log.error("the keys stay as they were: %s", error)

    def _describe_lists(self) -> None:
        scorer, lists, metrics = self.scorer, self.engine.lists, self.metrics
        metrics.crossed |= {
            "onhand_degraded": (
                "Answers that were not the best, and why.",
                ("step", "reason"),
                self.engine.degraded,
            ),
            "onhand_prepared_reads": (
                "Page reads while a model is active, but for the cheaper ones of an overload, by "
                "how well the visitor was known and the list that there was.",
                ("tier", "list"),
                lists.reads,
            ),
        }
        metrics.histograms["onhand_click_to_prepared_seconds"] = (
            "From an event that is folded to the list that knows it.",
            scorer.click_seconds,
        )
        metrics.gauges |= {
            "onhand_prepared_lists": ("Lists that are kept.", lambda: len(lists)),
            "onhand_scoring_queue": ("Lists that wait to be made.", lambda: scorer.waiting),
            "onhand_scoring_stuck": ("1 while a model hangs.", lambda: float(scorer.hangs)),
            "onhand_model_breaker_open": (
                "1 while the model is not asked.",
                lambda: float(scorer.breaker.position != "closed"),
            ),
        }
        metrics.counters["onhand_scoring"] = (
            "Lists by what became of them: made, dropped (too many waited), failed (a turn of "
            "the model), left (for want of room); and waited: made on the thread that answers "
            "pages, which there is no way to ask for.",
            "outcome",
            lambda: {
                "made": scorer.made,
                "dropped": scorer.dropped,
                "failed": scorer.failures,
                "left": lists.left,
                "waited": self.engine.waited,
            },
        )

    def _describe_gauges(self) -> None:
        monitor = self.monitor
        self._describe_lists()
        self.metrics.histograms |= {
            "onhand_event_loop_stretch_seconds": (
                "How long a stretch of work kept the event loop: folding, reading a body, ...",
                monitor.stretches,
            ),
            "onhand_event_loop_stretch_processor_seconds": (
                "How long of that the event loop had a processor.",
                monitor.ran,
            ),
            "onhand_event_loop_round_seconds": (
                "How long the requests that were ready at once took together.",
                monitor.rounds,
            ),
        }
        self.metrics.labelled["onhand_event_loop_stretch_max_seconds"] = (
            "The longest stretch in the last minutes.",
            "work",
            monitor.longest,
        )
        self.metrics.gauges |= {
            "onhand_ready": ("1 when the log is folded.", lambda: float(self.ready)),
            "onhand_fold_offset": ("Offset the state is folded to.", lambda: self.engine.offset),
            "onhand_held_events": (
                "Events that wait for earlier ones.",
                lambda: len(self.engine.held),
            ),
            "onhand_queueing_delay_seconds": (
                "How long requests wait for the event loop at least.",
                lambda: self.monitor.delay_s,
            ),
            "onhand_queue_records": (
                "Records that wait for a commit.",
                lambda: self._committer.queued_records,
            ),
            "onhand_write_wait_seconds": (
                "How long those that come now will wait to be written, at least.",
                self._wait_s,
            ),
        }
        self.metrics.labelled["onhand_feature_drift"] = (
            "Population stability index of the shown items' features against the training set.",
            "feature",
            self.engine.drift,
        )
        self.metrics.counters["onhand_items_kept_off"] = (
            "Items that live facts kept off pages, by reason.",
            "reason",
            lambda: self.engine.kept_off,
        )
        self.metrics.counters["onhand_records_unlisted"] = (
            "Records that name an item which is not in the catalogue.",
            "kind",
            lambda: self.engine.unlisted,
        )
        self.metrics.counters["onhand_overload"] = (
            "Requests that were refused because there was more to do than can be done.",
            "kind",
            lambda: {"writes": self.refused},
        )
        self.metrics.counters["onhand_events_late"] = (
            "Events folded out of order, because they came later than their contract allows.",
            "kind",
            lambda: {"events": self.engine.held.late},
        )
        store = self.letters
        if store is not None:
            self.metrics.gauges["onhand_dead_letters"] = (
                "Dead letters that are kept.",
                lambda: store.stats().letters,
            )
            self.metrics.gauges["onhand_dead_letters_left"] = (
                "Dead letters that left by age or size.",
                lambda: store.stats().left,
            )
