"""The event loop's time: how long one stretch of work kept it, and letting others have theirs.

A stretch is what runs between two looks at the sockets. Whatever may take long is done in steps
(`onhand.steps`): all that is under way together gets half a millisecond when a look has found no
requests, or the last was a while ago, and what is not done by then takes its turn again behind the
others.

Requests that arrive while the loop works wait in the kernel, where nobody sees them. They are seen
when it looks again: all that is ready then is handled in one round, so how long a round has been
going on is what a request of it has waited at least.

The shortest round of a tenth of a second is the queueing delay: one long round is a hiccup, and
when even the shortest is long there is more to do than can be done (after CoDel: K. Nichols and V.
Jacobson, "Controlling queue delay", 2012). What is missed least gives way first: lists made behind
the page, then the better pages, then taking records other than signals.

Of pages as many are at their best as there is time for: a dimmer (after C. Klein and others,
"Brownout: building more robust cloud applications", 2014) goes down while the delay is long and up
while it is short.

A loop that waits for sockets lets its processor sleep, and that of a virtual machine may wake late.
So the loop can poll for a while after each request before it waits.
"""

import asyncio
from collections import deque
from time import monotonic, perf_counter, thread_time
from typing import Any, Final, NamedTuple, TypeVar

from onhand.serving.metrics import SECONDS, Histogram
from onhand.steps import Steps

__all__ = ["INGEST_DELAY_S", "SCORING_DELAY_S", "LoopMonitor"]

_T = TypeVar("_T")

_STRETCH_S: Final = 0.0005
"""A stretch of steps ends after so long; the last step may add as much again."""
_SHARE: Final = 0.1
"""A stretch takes this much of the round that it waited for, where that is more, up to `_MOST_S`:
under overload rounds are long, and records, what is on hand among them, waited for up to 8 s."""
_MOST_S: Final = 0.00125
"""With its last step a stretch is meant to stay under 2 ms."""
_REST_S: Final = 0.003
"""How long after a stretch requests that come have all of the loop, unless it finds none before."""
_WINDOW_S: Final = 60.0
_INTERVAL_S: Final = 0.1
_OLD_S: Final = 0.3
"""What was measured so long ago says nothing of now."""
SCORING_DELAY_S: Final = 0.001
"""Queueing delay from which no lists are made."""
_PAGE_DELAY_S: Final = 0.005
"""Queueing delay from which pages take the cheaper step of the ladder: CoDel's target. While some
take it, half of that."""
_LEAST: Final = 0.01
"""The smallest share of pages at their best, but for none."""
_GROWTH: Final = 4 / 3
"""Of that share, in each interval without a queue: from none to all of them in 1.8 s. All at once
would bring the queue back, which cheaper pages had made short."""
INGEST_DELAY_S: Final = 0.01
"""Queueing delay from which records are refused."""


class _Under(NamedTuple):
    """Work under way, and who waits for its result."""

    work: str
    steps: Steps[Any]
    result: asyncio.Future[Any]


class LoopMonitor:
    """Measures stretches by what they were for, and rounds of requests."""

    def __init__(self, poll_s: float = 0.0) -> None:
        self._poll_s = poll_s
        self._polling = False
        self._round_ended_s = 0.0
        self.stretches = Histogram(SECONDS)
        self.ran = Histogram(SECONDS)
        self.rounds = Histogram(SECONDS)
        self._longest: dict[str, float] = {}
        self._longest_before: dict[str, float] = {}
        self._since_s = monotonic()
        self._round_began_s = 0.0
        self._interval_began_s = 0.0
        self._shortest_s = 0.0
        self._delay_s = 0.0
        self._dimmer = 1.0
        self._owed = 0.0
        self._under_way: deque[_Under] = deque()
        self._stretch_ends_s = 0.0

    @property
    def delay_s(self) -> float:
        """The queueing delay of late."""
        return 0.0 if self._is_old() else self._delay_s

    @property
    def hurries(self) -> bool:
        """Whether pages take the cheaper step of the ladder, all or some."""
        return self._dimmer < 1.0 and not self._is_old()

    def takes_cheaper(self) -> bool:
        """Whether this page does: those at their best are spread evenly among the others."""
        self._owed += 1.0 if self._is_old() else self._dimmer
        if self._owed < 1.0:
            return True
        self._owed -= 1.0
        return False

    @property
    def waited_s(self) -> float:
        """How long the request that is being handled has waited, at least."""
        return perf_counter() - self._round_began_s if self._round_began_s else 0.0

    def begin_round(self) -> None:
        """Note that a socket is read: the first since the loop looked begins a round."""
        if not self._round_began_s:
            self._round_began_s = perf_counter()
            loop = asyncio.get_running_loop()
            loop.call_soon(self._end_round)
            if self._poll_s and not self._polling:
                self._polling = True
                loop.call_soon(self._poll)

    def _poll(self) -> None:
        """Have the loop look at its sockets again without sleeping, for so long after a round."""
        if perf_counter() - self._round_ended_s < self._poll_s:
            asyncio.get_running_loop().call_soon(self._poll)
        else:
            self._polling = False

    def _end_round(self) -> None:
        began_s, now_s = self._round_began_s, perf_counter()
        took_s = now_s - began_s
        is_old = self._is_old()
        self._round_began_s, self._round_ended_s = 0.0, now_s
        self.rounds.observe(took_s)
        if took_s < self._shortest_s:
            self._shortest_s = took_s
        if now_s - self._interval_began_s > _INTERVAL_S:
            self._delay_s, self._shortest_s, self._interval_began_s = (
                0.0 if is_old else self._shortest_s,
                took_s,
                now_s,
            )
            self._dim(is_old)

    def _dim(self, is_old: bool) -> None:
        """Adapt the share of pages at their best to the queueing delay."""
        if is_old:
            self._dimmer = 1.0
            return
        allowed_s = _PAGE_DELAY_S if self._dimmer == 1.0 else _PAGE_DELAY_S / 2
        if self._delay_s <= allowed_s:
            self._dimmer = min(max(self._dimmer * _GROWTH, _LEAST), 1.0)
        else:
            self._dimmer *= min(allowed_s / self._delay_s, 0.5)
            if self._dimmer < _LEAST:
                self._dimmer = 0.0

    def _is_old(self) -> bool:
        """Whether nobody had asked for a while, before this round."""
        return (self._round_began_s or perf_counter()) - self._interval_began_s > _OLD_S

    def note(self, work: str, seconds: float, ran_s: float) -> None:
        """Count a stretch of some `work`, in which the loop had a processor for `ran_s`: for the
        rest the system had given it to others."""
        self.stretches.observe(seconds)
        self.ran.observe(ran_s)
        if seconds > self._longest.get(work, 0.0):
            self._longest[work] = seconds

    def longest(self) -> dict[str, float]:
        """The longest stretch of each kind of work, in seconds, of the last one or two minutes."""
        now_s = monotonic()
        if now_s - self._since_s > _WINDOW_S:
            self._longest_before, self._longest, self._since_s = self._longest, {}, now_s
        works = self._longest.keys() | self._longest_before.keys()
        return {
            work: max(self._longest.get(work, 0.0), self._longest_before.get(work, 0.0))
            for work in sorted(works)
        }

    async def take_turns(self, work: str, steps: Steps[_T]) -> _T:
        """Do all steps of some `work`, with what else the loop has to do between them."""
        result: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        under = _Under(work, steps, result)
        try:
            if self._under_way or self._is_over() or not self._advance(under):
                self._under_way.append(under)
                return await result
            return result.result()
        finally:
            del under, result  # or an error would hold this frame, and that the error

    def _advance(self, under: _Under) -> bool:
        """Do steps until the stretch ends; return whether these were all."""
        began_s, had_s = perf_counter(), thread_time()
        if not self._stretch_ends_s:
            self._stretch_ends_s = began_s + min(max(_STRETCH_S, _SHARE * self.waited_s), _MOST_S)
            asyncio.get_running_loop().call_soon(self._begin_stretch)
        if under.result.done():  # nobody waits any more
            under.steps.close()
            return True
        try:
            while perf_counter() < self._stretch_ends_s:
                next(under.steps)
        except StopIteration as end:
            under.result.set_result(end.value)
            return True
        except Exception as error:
            under.result.set_exception(error)
            return True
        finally:
            self.note(under.work, perf_counter() - began_s, thread_time() - had_s)
            del under
        return False

    def _is_over(self) -> bool:
        """Whether there was a stretch since the loop looked, and its time is up."""
        return 0.0 < self._stretch_ends_s <= perf_counter()

    def _begin_stretch(self) -> None:
        """The loop has looked at its sockets: go on with what is under way, or let the requests
        that it found go first."""
        if self._round_began_s and perf_counter() < self._stretch_ends_s + _REST_S:
            asyncio.get_running_loop().call_soon(self._begin_stretch)
            return
        self._stretch_ends_s = 0.0
        while self._under_way and not self._is_over():
            if not self._advance(self._under_way[0]):
                self._under_way.rotate(-1)
                return
            self._under_way.popleft()
