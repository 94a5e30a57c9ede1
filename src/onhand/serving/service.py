"""The service: an engine's life in a server, from loading to the last commit."""

import asyncio
import contextlib
import gc
import logging
import threading
import time
from collections.abc import Callable, Sequence

from onhand.contracts.answers import IngestReport
from onhand.contracts.batch import Limits
from onhand.contracts.records import Record
from onhand.engine import Engine
from onhand.serving.committer import Committer
from onhand.serving.metrics import Metrics
from onhand.serving.problems import not_ready
from onhand.settings import Settings

__all__ = ["Service", "wall_clock_ms"]

_log = logging.getLogger("onhand")
_LAG_EVERY_S = 0.02


def wall_clock_ms() -> int:
    """Epoch milliseconds."""
    return time.time_ns() // 1_000_000


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
    ) -> None:
        self.engine = engine
        self.settings = settings
        self.now_ms = now_ms
        self.warm = warm
        self.on_failure = on_failure
        self.metrics = Metrics()
        self.limits = Limits(settings.body_bytes, settings.batch_records)
        self.ready = False
        self._committer = Committer(engine, settings, self.metrics, now_ms)
        self._progress = (0, 0)
        self._stopping = False
        self._on_stop: Callable[[], None] = _do_nothing
        self._tasks: list[asyncio.Task[None]] = []
        self._describe_gauges()

    def start(self) -> None:
        """Begin to load the log, then to write. Returns at once."""
        self._tasks = [
            asyncio.create_task(self._load_and_write(), name="writer"),
            asyncio.create_task(self._measure_lag(), name="lag"),
        ]

    async def stop(self) -> None:
        """Write what waits, checkpoint, close."""
        self._stopping = True
        self._on_stop()
        self._committer.close()
        writer, lag = self._tasks
        lag.cancel()
        await writer
        await asyncio.to_thread(self.engine.close)

    def require_ready(self) -> None:
        """Raise `Unavailable` until the log is folded."""
        if not self.ready:
            raise not_ready(*self._progress)

    async def write(self, records: Sequence[Record]) -> IngestReport:
        """Make `records` durable and visible. Raises `Unavailable`."""
        self.require_ready()
        if not records:
            return IngestReport(0, 0, 0, self.engine.offset)
        return await self._committer.submit(records)

    async def _load_and_write(self) -> None:
        try:
            await self._warm_up()
            await asyncio.to_thread(self.engine.load, self._note_progress)
        except _StoppedLoadingError:
            return
        except Exception:
            _log.exception("the log could not be loaded")
            self.on_failure()
            return
        gc.collect()
        gc.freeze()  # the state is for good: collections need not walk it
        self.ready = True
        _log.info("ready at offset %d", self.engine.offset)
        await self._committer.run()

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

    def _describe_gauges(self) -> None:
        self.metrics.gauges |= {
            "onhand_ready": ("1 when the log is folded.", lambda: float(self.ready)),
            "onhand_fold_offset": ("Offset the state is folded to.", lambda: self.engine.offset),
            "onhand_queue_records": (
                "Records that wait for a commit.",
                lambda: self._committer.queued_records,
            ),
        }
        self.metrics.counters["onhand_items_kept_off"] = (
            "Items that live facts kept off pages, by reason.",
            "reason",
            lambda: dict(self.engine.kept_off),
        )
