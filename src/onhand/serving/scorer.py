"""The background scorer: prepared lists follow their visitors' events, behind the page.

    event folded ─▶ mark ─▶ take ─▶ gather ─▶ score ─▶ swap in
                   bounded  newest  thread,   thread,   loop
                            first   no fold   breaker

A visitor who is marked again before their turn is one mark: a burst of clicks is one list. The
gather reads the state, so no fold runs meanwhile (they share a lock; each holds it for about a
millisecond). The model scores a copy after the lock is given back, and when it hangs its thread is
left behind. Pages wait for none of this.

After the marks come the lists that pages asked for in vain, then those to make ahead.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from threading import get_ident
from time import monotonic
from typing import Final

from onhand.contracts.records import Event, Record
from onhand.contracts.requests import Slot
from onhand.decision.breaker import Breaker
from onhand.decision.lists import Whom
from onhand.decision.prepared import Gathered, Prepared, Ranker, rank
from onhand.engine import Engine
from onhand.serving.aside import Aside
from onhand.serving.metrics import SECONDS, Histogram
from onhand.settings import Settings

__all__ = ["Scorer"]

_log = logging.getLogger("onhand")

MARKS: Final = 20_000
"""Visitors that may wait for their turn; beyond it those marked longest ago are dropped."""
BATCH: Final = 4
"""Visitors of one turn: the fold waits while their candidates are gathered."""
RECENT_MS: Final = 1_800_000
"""Events older than this, of a log that is caught up with, are nobody's who is here now."""
_IDLE_S: Final = 0.05
_BURST_S: Final = 0.2
"""Processor time that may be used at once after quiet: about 400 lists."""
_STUCK_MOST: Final = 4
"""Threads that may hang in a model before none is tried any more."""

_Mark = tuple[Whom, int, float]
"""Whom for, and since when: epoch ms, and the monotonic clock's seconds (0: not for an event)."""


class Scorer:
    """Makes lists from one task; `lock` is also held by whoever folds."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        lock: asyncio.Lock,
        now_ms: Callable[[], int],
        is_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._engine = engine
        self._share = settings.scoring_share
        self._lock = lock
        self._now_ms = now_ms
        self._is_busy = is_busy
        self._marks: dict[tuple[Slot, str | None, str | None], _Mark] = {}
        self._ahead: deque[Whom] = deque()
        self._wake = asyncio.Event()
        self._gathering = Aside("gather")
        self._scoring = Aside("score")
        self._allowance_s = _BURST_S
        self._refilled_s = monotonic()
        self._paid_s = 0.0
        self._page_thread = 0
        self._model: str | None = None
        self._returning: set[asyncio.Task[None]] = set()
        self.breaker = Breaker()
        self.click_seconds = Histogram(SECONDS)
        """From an event that is folded to the list that knows it."""
        self.made = 0
        self.dropped = 0
        self.failures = 0
        self.waited = 0
        """Calls of a model on the thread that answers pages: only there would a page wait."""
        self.stuck = 0
        """Threads that hang in a model."""

    @property
    def waiting(self) -> int:
        """Lists that wait to be made."""
        return len(self._marks) + len(self._engine.lists.wanted) + len(self._ahead)

    def follow(self, records: Iterable[Record]) -> None:
        """Mark the visitors of records that were folded."""
        if self._engine.models.ranker is None:
            return
        now_ms, now_s = self._now_ms(), monotonic()
        lists, slots = self._engine.lists, self._engine.slots_ahead
        for record in records:
            if type(record) is Event and record.time >= now_ms - RECENT_MS:  # type: ignore[operator]
                for whom in lists.mark(record, slots, now_ms):
                    self._mark(whom, now_ms, now_s)
        if self._marks:
            self._wake.set()

    def prepare_ahead(self, whoms: Iterable[Whom]) -> None:
        """Make lists for visitors who may come, when there is nothing more urgent."""
        self._ahead.extend(whoms)
        self._wake.set()

    async def run(self) -> None:
        """Make lists until cancelled; whatever fails, go on. Pages are answered on this thread."""
        self._page_thread = get_ident()
        while True:
            try:
                await self._work()
            except Exception:
                _log.exception("the scorer failed and begins again")
                await asyncio.sleep(1)

    async def _work(self) -> None:
        while True:
            ranker, now_s = self._follow_model(), monotonic()
            self._refill(now_s)
            if self._allowance_s < 0.0 or self._is_busy():
                await asyncio.sleep(_IDLE_S / 5)
                continue
            if ranker is None or not self._is_due():
                await self._rest(_IDLE_S)
                continue
            failing = self.stuck >= _STUCK_MOST or not self.breaker.allows(now_s * 1000)
            self._engine.lists.failing = failing
            if failing:
                await asyncio.sleep(_IDLE_S)
                continue
            await self._make(ranker, self._take())

    def _refill(self, now_s: float) -> None:
        """Let the allowance grow with time, and pay what the threads have used."""
        used_s = self._gathering.used_s + self._scoring.used_s
        grown_s = self._share * (now_s - self._refilled_s) - (used_s - self._paid_s)
        self._allowance_s = min(self._allowance_s + grown_s, _BURST_S)
        self._refilled_s, self._paid_s = now_s, used_s

    def _is_due(self) -> bool:
        """Whether there is a list to make now; those ahead leave half the allowance to others."""
        if self._marks or self._engine.lists.wanted:
            return True
        return bool(self._ahead) and self._allowance_s > _BURST_S / 2

    def _follow_model(self) -> Ranker | None:
        """Return the active model; when it is another, all lists are to be made by it."""
        ranker = self._engine.models.ranker
        label = None if ranker is None else ranker.label
        if label != self._model:
            self._model, self.breaker = label, Breaker()
            self._engine.lists.failing = False
            self._ahead.clear()
            if label is None:
                self._marks.clear()
            else:
                self._ahead.extend(self._engine.lists)
                self._ahead.extend(self._engine.likely())
        return ranker

    async def _rest(self, seconds: float) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _mark(self, whom: Whom, now_ms: int, now_s: float) -> None:
        key = (whom.slot, whom.session, whom.user)
        before = self._marks.pop(key, None)
        if before is not None:
            now_ms, now_s = before[1], before[2]
        self._marks[key] = (whom, now_ms, now_s)
        if len(self._marks) > MARKS:
            del self._marks[next(iter(self._marks))]
            self.dropped += 1

    def _take(self) -> list[_Mark]:
        """Take the marks of one turn, the newest first; or else one list that is wanted, or one to
        make ahead."""
        wanted = self._engine.lists.wanted
        taken: list[_Mark] = []
        while self._marks and len(taken) < BATCH:
            mark = self._marks.popitem()[1]
            wanted.pop(mark[0], None)
            taken.append(mark)
        if not taken:
            taken.append((wanted.popitem()[0] if wanted else self._ahead.popleft(), 0, 0.0))
        return taken

    async def _make(self, ranker: Ranker, marks: list[_Mark]) -> None:
        """Gather, score and swap in the lists of one turn."""
        whoms = [whom for whom, _, _ in marks]
        async with self._lock:
            now_ms = self._now_ms()
            gathered = await self._gathering.call(
                lambda: self._engine.gather(ranker, whoms, now_ms)
            )
        began_s = monotonic()
        try:
            async with asyncio.timeout(self.breaker.rule.timeout_ms / 1000):
                lists = await self._scoring.call(lambda: self._rank(ranker, gathered))
        except Exception as error:
            self._note_failure(ranker, marks, error)
            return
        ended_s = monotonic()
        self.breaker.succeed((ended_s - began_s) * 1000, ended_s * 1000)
        for (whom, _, since_s), prepared in zip(marks, lists, strict=True):
            key = (whom.slot, whom.session, whom.user)
            again = self._marks.get(key)
            self._engine.lists.put(whom, prepared, again[1] if again is not None else 0)
            self.made += 1
            if since_s:
                self.click_seconds.observe(ended_s - since_s)

    def _rank(self, ranker: Ranker, gathered: Sequence[Gathered]) -> list[Prepared]:
        """Ask the model, and count it where pages wait for that."""
        self.waited += get_ident() == self._page_thread
        return rank(ranker, gathered)

    def _note_failure(self, ranker: Ranker, marks: list[_Mark], error: Exception) -> None:
        """Count a failure, leave a thread that hangs, and keep the marks of events for later."""
        self.failures += 1
        self.breaker.fail(monotonic() * 1000)
        if isinstance(error, TimeoutError):
            self._leave_thread()
        why = str(error) or type(error).__name__
        _log.error("model %s failed (%s); breaker: %s", ranker.label, why, self.breaker.position)
        for whom, now_ms, now_s in reversed(marks):
            if now_s:
                self._mark(whom, now_ms, now_s)

    def _leave_thread(self) -> None:
        """Count the thread as stuck until it comes back."""
        self.stuck += 1
        stuck, self._scoring = self._scoring, Aside("score")
        self._paid_s -= stuck.used_s

        async def come_back() -> None:
            await stuck.call(lambda: None)
            stuck.leave()
            self.stuck -= 1

        self._returning.add(task := asyncio.create_task(come_back()))
        task.add_done_callback(self._returning.discard)
