"""The background scorer: prepared lists follow their visitors' events, behind the page.

    event folded ─▶ mark ─▶ take ─▶ a turn of the replica ─▶ swap in
                   bounded  newest  its own process,         loop
                            first   breaker

A visitor who is marked again before their turn is one mark: a burst of clicks is one list. The
replica (`serving/replica.py`) follows the log in a process of its own, while a model is active. One
that hangs is killed, one that ended is begun anew. Pages wait for none of this.

Head lists come first, for they are many visitors'; after the marks come the lists that pages asked
for in vain, then those to be made by another model, then those of who is likely to come, whom the
replica knows.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Final

from msgspec import Struct

from onhand.contracts.records import Event, Record
from onhand.decision.breaker import Breaker
from onhand.decision.lists import Whom
from onhand.engine import Engine
from onhand.serving.metrics import SECONDS, Histogram
from onhand.serving.replica import (
    Failed,
    Gathered,
    Made,
    Message,
    Orders,
    Parent,
    Replica,
    ReplicaLost,
    Turn,
    unpack,
)
from onhand.settings import Settings

__all__ = ["Scorer"]

_log = logging.getLogger("onhand")

MARKS: Final = 20_000
"""Visitors that may wait for their turn; beyond it those marked longest ago are dropped."""
BATCH: Final = 4
"""Visitors of one turn."""
RECENT_MS: Final = 1_800_000
"""Events older than this, of a log that is caught up with, are nobody's who is here now."""
_IDLE_S: Final = 0.05
_BURST_S: Final = 0.2
"""Processor time that may be used at once after quiet: about 400 lists."""
_HUNG_S: Final = 3.0
"""How long a model may take before its replica is killed."""
_SILENT_S: Final = 30.0
"""The same of what comes before the model: it takes as long as the processors are wanted by all
else."""
_AGAIN_S: Final = 1.0
"""The pause before a replica that ended is begun anew."""
_FOLDED_S: Final = 1.0
"""How long a list waits until the server has folded what the replica has."""


class _Mark(Struct, frozen=True, gc=False):
    """Whom for, and since when: epoch ms, and the monotonic clock's seconds (0: not for an
    event)."""

    whom: Whom
    now_ms: int = 0
    since_s: float = 0.0


class Scorer:
    """Makes lists from one task, by a replica that has `orders`; without them there are none.
    `faults` says which are on."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        now_ms: Callable[[], int],
        orders: Orders | None = None,
        is_busy: Callable[[], bool] = lambda: False,
        faults: Callable[[], list[str]] = list,
    ) -> None:
        self._engine = engine
        self._share = settings.scoring_share
        self._now_ms = now_ms
        self._orders = orders
        self._is_busy = is_busy
        self._faults = faults
        self._parent = Parent()
        self._replica: Replica | None = None
        self._marks: OrderedDict[Whom, _Mark] = OrderedDict()
        self._again: deque[Whom] = deque()
        self._ahead = True
        self._wake = asyncio.Event()
        self._allowance_s = _BURST_S
        self._refilled_s = monotonic()
        self._model: str | None = None
        self.breaker = Breaker()
        self.click_seconds = Histogram(SECONDS)
        """From an event that is folded to the list that knows it."""
        self.made = 0
        self.dropped = 0
        self.failures = 0
        self.hangs = False
        """Whether the model has not answered in time, and may still."""

    @property
    def waiting(self) -> int:
        """Lists that wait to be made."""
        lists = self._engine.lists
        wanted = len(lists.wanted) + len(lists.wanted_heads)
        return len(self._marks) + wanted + len(self._again)

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

    async def run(self) -> None:
        """Make lists until cancelled; whatever fails, go on."""
        if self._orders is None:
            return
        try:
            while True:
                try:
                    await self._work(self._orders)
                except Exception:
                    _log.exception("the scorer failed and begins again")
                    await asyncio.sleep(_AGAIN_S)
        finally:
            self._forget()
            await self._parent.end()

    async def _work(self, orders: Orders) -> None:
        while True:
            self._follow_model()
            now_s = monotonic()
            self._refill(now_s)
            if self._allowance_s < 0.0 or self._is_busy():
                await asyncio.sleep(_IDLE_S / 5)
            elif self._model is None:
                self._forget()
                await self._parent.end()
                await self._rest(_IDLE_S)
            elif not self._is_due():
                await self._rest(_IDLE_S)
            else:
                await self._take_turn(orders)

    async def _take_turn(self, orders: Orders) -> None:
        """Have one turn's lists made, unless the breaker is open."""
        marks: list[_Mark] = []
        try:
            replica = await self._started(orders)
            self._engine.lists.failing = not self.breaker.allows(monotonic() * 1000)
            if self._engine.lists.failing:
                await asyncio.sleep(_IDLE_S)
                return
            marks = self._take()
            await self._make(replica, marks)
        except ReplicaLost:
            self._engine.lists.failing = True
            self._note_failure(marks, "its process ended, or hung")
            self._forget()
            await asyncio.sleep(_AGAIN_S)

    def _refill(self, now_s: float) -> None:
        """Let the allowance grow with time."""
        grown_s = self._share * (now_s - self._refilled_s)
        self._allowance_s = min(self._allowance_s + grown_s, _BURST_S)
        self._refilled_s = now_s

    def _is_due(self) -> bool:
        """Whether there is a list to make now; those ahead leave half the allowance to others."""
        lists = self._engine.lists
        if self._marks or lists.wanted or lists.wanted_heads:
            return True
        return (self._ahead or bool(self._again)) and self._allowance_s > _BURST_S / 2

    def _follow_model(self) -> None:
        """Take the active model; when it is another, all lists are to be made by it."""
        ranker = self._engine.models.ranker
        label = None if ranker is None else ranker.label
        if label != self._model:
            self._model, self.breaker = label, Breaker()
            self._engine.lists.failing = False
            self._again.clear()
            if label is None:
                self._marks.clear()
            else:
                self._again.extend(self._engine.lists)
                self._ahead = True

    async def _rest(self, seconds: float) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _mark(self, whom: Whom, now_ms: int, now_s: float) -> None:
        key = whom.key
        before = self._marks.pop(key, None)
        if before is not None:
            now_ms, now_s = before.now_ms, before.since_s
        self._marks[key] = _Mark(whom, now_ms, now_s)
        if len(self._marks) > MARKS:
            self._marks.popitem(last=False)
            self.dropped += 1

    def _take(self) -> list[_Mark]:
        """Take the marks of one turn: head lists that are wanted, or the newest, or else one list
        that is wanted or to be made again; none for those ahead."""
        lists = self._engine.lists
        taken: list[_Mark] = []
        while lists.wanted_heads and len(taken) < BATCH:
            taken.append(_Mark(lists.wanted_heads.popitem()[0]))
        while self._marks and len(taken) < BATCH:
            mark = self._marks.popitem()[1]
            lists.wanted.pop(mark.whom, None)
            taken.append(mark)
        if not taken and (lists.wanted or self._again):
            whom = lists.wanted.popitem()[0] if lists.wanted else self._again.popleft()
            taken.append(_Mark(whom))
        return taken

    async def _started(self, orders: Orders) -> Replica:
        """Return the replica, begun and ready. Raises `ReplicaLost` when it ends before that."""
        if self._replica is None:
            self._ahead = True
            self._replica = await self._parent.fork(orders)
            await self._replica.listen()
        return self._replica

    def _forget(self) -> None:
        """Let go of a replica that hangs, has ended, or is of no use any more."""
        if self._replica is not None:
            self._replica.close()
            self._replica = None

    async def _make(self, replica: Replica, marks: list[_Mark]) -> None:
        """Have the lists of one turn made, and swap them in. Raises `ReplicaLost`."""
        whoms = [mark.whom for mark in marks]
        now_ms = self._now_ms()
        replica.send(Turn(whoms, now_ms, self._faults()))
        said = await _listen(replica, _SILENT_S)
        if isinstance(said, Gathered):
            said = await _listen(replica, self.breaker.rule.timeout_ms / 1000)
            if said is None:
                self._note_failure(marks, "it takes too long")
                await self._let_end(replica)
                return
        if said is None:
            raise ReplicaLost
        if isinstance(said, Made):
            self._allowance_s -= said.used_s
            self._ahead = self._ahead and bool(said.whoms)
            if said.whoms:
                self.breaker.succeed(said.model_s * 1000, monotonic() * 1000)
            else:
                self.breaker.forgo()
            await self._swap_in(said, marks or [_Mark(whom) for whom in said.whoms], now_ms)
        elif isinstance(said, Failed):
            self._allowance_s -= said.used_s
            self._note_failure(marks, said.why)

    async def _swap_in(self, made: Made, marks: list[_Mark], now_ms: int) -> None:
        """Put lists in, once the server has folded what the replica had: it reads what is durable,
        which may be a moment ahead."""
        until_s = monotonic() + _FOLDED_S
        while self._engine.offset < made.as_of:
            if monotonic() > until_s:
                return
            await asyncio.sleep(0.001)
        ended_s = monotonic()
        for mark, prepared in zip(marks, unpack(made, now_ms), strict=False):
            again = self._marks.get(mark.whom.key)
            self._engine.lists.put(mark.whom, prepared, again.now_ms if again is not None else 0)
            self.made += 1
            if mark.since_s:
                self.click_seconds.observe(ended_s - mark.since_s)

    async def _let_end(self, replica: Replica) -> None:
        """Wait for a model that takes too long, whose answer comes too late. Raises `ReplicaLost`
        where it hangs."""
        self.hangs = self._engine.lists.failing = True
        try:
            if await _listen(replica, _HUNG_S) is None:
                raise ReplicaLost
        finally:
            self.hangs = False

    def _note_failure(self, marks: list[_Mark], why: str) -> None:
        """Count a failure, and keep the marks of events for later."""
        self.failures += 1
        self.breaker.fail(monotonic() * 1000)
        _log.error("model %s failed (%s); breaker: %s", self._model, why, self.breaker.position)
        for mark in reversed(marks):
            if mark.since_s:
                self._mark(mark.whom, mark.now_ms, mark.since_s)


async def _listen(replica: Replica, seconds: float) -> Message | None:
    """Return what a replica says within so many seconds. Raises `ReplicaLost`."""
    try:
        async with asyncio.timeout(seconds):
            return await replica.listen()
    except TimeoutError:
        return None
