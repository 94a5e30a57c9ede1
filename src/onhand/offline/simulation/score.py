"""Check every answer of a sale against what was acknowledged, and count.

An impression is *sold out* when the item's sell-out (or its hold) was acknowledged before the page
was asked for, and nothing that could end it was sent before the answer came. A click is a *dead
end* when the item is gone at the moment of the click. Both are counted for three stacks that show
the same visitors the same lists: Onhand itself, and the usual caches with a time to live.

All times are seconds from the beginning of the sale.
"""

from array import array
from collections.abc import Hashable, Iterable, Sequence
from typing import Final

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from onhand.offline.shop.tally import SoldOut
from onhand.offline.simulation.caches import Cache

__all__ = ["CACHE_TTLS_S", "DEADLINE_S", "STACKS", "Answer", "Clicked", "Score", "Second", "Total",
           "Window"]  # fmt: skip

CACHE_TTLS_S: Final = (2.0, 30.0)
STACKS: Final = ("Onhand", *(f"cache of {ttl_s:g} s" for ttl_s in CACHE_TTLS_S))
DEADLINE_S: Final = 0.05
"""A page that is answered later than this is not answered in time."""

Shown = tuple[Sequence[str], ...]
"""What each stack shows: lists of item ids."""


class _Item(Struct, frozen=True, gc=False):
    id: str


class Answer(Struct, frozen=True, gc=False):
    """What of an answer is checked; `degraded` names the step that answered, None for the best."""

    decision: str
    degraded: str | None
    items: list[_Item]


def _none() -> list[int]:
    return [0] * len(STACKS)


class Second(Struct, tag="second"):
    """One second of the sale, by when answers came. `in_time` counts answers within the deadline;
    `sold_out` and `dead_ends` have a count for each of `STACKS`."""

    at_s: int
    answered: int = 0
    in_time: int = 0
    failed: int = 0
    impressions: int = 0
    clicks: int = 0
    events: int = 0
    stock_changes: int = 0
    put_off: int = 0
    """Records that the server would not take now; they are sent again."""
    outside: int = 0
    """Events that wait to be sent again, at its end."""
    acknowledged_ms: float = 0.0
    """The longest that a request with records waited for its acknowledgement."""
    stock_late_ms: float = 0.0
    """The longest from a stock change until it was acknowledged, also while it waited to be sent
    behind others."""
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    worst_ms: float = 0.0
    late_ms: float = 0.0
    """How late the load itself came to pages, 99th percentile."""
    work_us: float = 0.0
    """What work that is always the same took of the server's processor: see `Yardstick`."""
    degraded: dict[str, int] = field(default_factory=dict[str, int])
    sold_out: list[int] = field(default_factory=_none)
    dead_ends: list[int] = field(default_factory=_none)


class Window(Struct):
    """A stretch of the sale, by when pages were due; latencies run from then."""

    begin_s: float
    end_s: float
    pages: int
    in_time: int
    failed: int
    degraded: int
    p50_ms: float
    p99_ms: float
    p999_ms: float


class Clicked(Struct, frozen=True, array_like=True, gc=False):
    """A click on a position of a decision's page, when the log was acknowledged up to `as_of`."""

    decision: str
    position: int
    as_of: int


class Total(Struct, tag="total"):
    """The whole sale. `windows` are the stretches between the marks, `lag_p99_ms` how late
    the load itself was, `acknowledged` one bit an event, by number, packed."""

    whole: Window
    windows: list[Window]
    lag_p99_ms: float
    rejected: int
    last_offset: int
    events: int
    acknowledged: bytes
    processor_s: float
    """Processor time that the load took."""
    error: str = ""
    clicked: list[Clicked] = []


class Score:
    """The counts of one sale."""

    def __init__(self, gone: Iterable[str]) -> None:
        self.second = Second(0)
        self._gone, self._held = SoldOut(gone), SoldOut()
        self._caches = [Cache(ttl_s) for ttl_s in CACHE_TTLS_S]
        self._due_s, self._took_s, self._late_s = array("d"), array("d"), array("d")
        self._degraded = array("b")
        self._second_began = self._late_began = 0

    def note_lag(self, late_s: float) -> None:
        """The load came to a page so late."""
        self._late_s.append(late_s)

    def send(self, item: str, stock: int | None, held: bool | None) -> None:
        """A change is about to be sent."""
        if stock is not None:
            self._gone.send(item, stock)
        if held is not None:
            self._held.send(item, not held)

    def acknowledge(self, item: str, stock: int | None, held: bool | None, now_s: float) -> None:
        """A change was acknowledged."""
        if stock is not None:
            self._gone.acknowledge(item, stock, now_s)
        if held is not None:
            self._held.acknowledge(item, not held, now_s)

    def page(
        self, due_s: float, asked_s: float, now_s: float, answer: Answer, key: Hashable
    ) -> Shown:
        """A page was answered; return what each stack shows on it."""
        second, took_s = self.second, now_s - due_s
        second.answered += 1
        second.in_time += took_s <= DEADLINE_S
        self._note(due_s, took_s, answer.degraded is not None)
        if answer.degraded is not None:
            step = answer.degraded
            second.degraded[step] = second.degraded.get(step, 0) + 1
        fresh = [item.id for item in answer.items]
        second.impressions += len(fresh)
        shown = (fresh, *(cache.show(key, asked_s, fresh) for cache in self._caches))
        for place, items in enumerate(shown):
            second.sold_out[place] += self._count_gone(items, asked_s)
        return shown

    def fail(self, due_s: float) -> None:
        """A page was not answered, or not with a list."""
        self.second.failed += 1
        self._note(due_s, float("inf"), False)

    def click(self, shown: Shown, position: int, now_s: float) -> str | None:
        """A visitor clicks on a position of each stack's page; the item on Onhand's, if any."""
        if not shown[0]:
            return None
        self.second.clicks += 1
        clicked = [items[min(position, len(items) - 1)] for items in shown]
        for place, item in enumerate(clicked):
            self.second.dead_ends[place] += self._count_gone((item,), now_s)
        return clicked[0]

    def close_second(self) -> Second:
        """The second that ends now; a new one begins."""
        done = self.second
        took_s = np.array(self._took_s[self._second_began :])
        took_s = took_s[np.isfinite(took_s)]
        if len(took_s):
            done.p50_ms, done.p99_ms, done.worst_ms = _nearest_ms(took_s, 0.5, 0.99, 1.0)
        if late_s := self._late_s[self._late_began :]:
            (done.late_ms,) = _nearest_ms(np.array(late_s), 0.99)
        self._second_began, self._late_began = len(self._took_s), len(self._late_s)
        self.second = Second(done.at_s + 1)
        return done

    def window(self, begin_s: float = 0.0, end_s: float = float("inf")) -> Window:
        """The pages that were due in a stretch."""
        due_s = np.array(self._due_s)
        inside = (due_s >= begin_s) & (due_s < end_s)
        took_s = np.array(self._took_s)[inside]
        answered = np.isfinite(took_s)
        return Window(
            begin_s,
            end_s if np.isfinite(end_s) else float(due_s.max(initial=0.0)),
            len(took_s),
            int((took_s <= DEADLINE_S).sum()),
            int((~answered).sum()),
            int(np.array(self._degraded)[inside].sum()),
            *_nearest_ms(took_s[answered], 0.5, 0.99, 0.999),
        )

    def lag_p99_ms(self) -> float:
        """How late the load itself came to pages, 99th percentile."""
        return _nearest_ms(np.array(self._late_s), 0.99)[0]

    def _note(self, due_s: float, took_s: float, degraded: bool) -> None:
        self._due_s.append(due_s)
        self._took_s.append(took_s)
        self._degraded.append(degraded)

    def _count_gone(self, items: Sequence[str], asked_s: float) -> int:
        gone, held = self._gone.shown(items, asked_s), self._held.shown(items, asked_s)
        return len(gone) + sum(item not in gone for item in held)


def _nearest_ms(took_s: NDArray[np.float64], *shares: float) -> list[float]:
    """The smallest values that at least these shares stay within, in ms; 0 where there is none."""
    if not len(took_s):
        return [0.0] * len(shares)
    ordered = np.sort(took_s)
    ranks = [max(int(np.ceil(share * len(ordered))), 1) - 1 for share in shares]
    return [round(float(ordered[rank]) * 1000, 3) for rank in ranks]
