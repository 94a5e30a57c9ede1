"""Counts of one run of the demo: latencies, rates, tiers, and the watch over sold-out items."""

from collections import Counter, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Followed", "Latencies", "Rate", "SoldOut", "Tally"]

BUCKETS = 100_000


class Latencies:
    """Every latency in whole microseconds: one bucket each up to 100 ms, above that a list."""

    def __init__(self) -> None:
        self._counts = np.zeros(BUCKETS, np.int64)
        self._above: list[int] = []
        self.count = 0

    def add(self, seconds: float) -> None:
        """Record one."""
        micros = int(seconds * 1e6)
        if micros < BUCKETS:
            self._counts[micros] += 1
        else:
            self._above.append(micros)
        self.count += 1

    def percentiles_ms(self, *shares: float) -> list[float]:
        """The smallest latency that at least this share of all stays within, in ms."""
        below = np.cumsum(self._counts)
        total = int(below[-1]) + len(self._above)
        above = sorted(self._above)
        return [self._nth(below, above, max(int(np.ceil(share * total)), 1)) for share in shares]

    @staticmethod
    def _nth(below: np.ndarray, above: list[int], rank: int) -> float:
        if rank <= below[-1]:
            return int(np.searchsorted(below, rank)) / 1000
        over = rank - int(below[-1]) - 1
        return above[over] / 1000 if over < len(above) else 0.0


class Rate:
    """How much was added in the last second, from a count that only grows."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def at(self, now_s: float, total: int) -> float:
        """Per second over the last second or so; call it a few times a second."""
        self._seen.append((now_s, total))
        while len(self._seen) > 2 and now_s - self._seen[1][0] >= 1:
            self._seen.popleft()
        before_s, before = self._seen[0]
        return (total - before) / (now_s - before_s) if now_s > before_s else 0.0


class SoldOut:
    """Which items are certainly sold out: from the acknowledgement of stock 0 until the moment
    that new stock is sent. An answer to a request sent within that time must not hold them."""

    def __init__(self, gone: Iterable[str] = ()) -> None:
        self._since_s = dict.fromkeys(gone, 0.0)
        self._sent: dict[str, int] = {}
        self.gone = len(self._since_s)

    def __len__(self) -> int:
        """Items sold out now, without those gone from the start."""
        return len(self._since_s) - self.gone

    def send(self, item: str, stock: int) -> bool:
        """New stock is about to be sent; True if that ends a sell-out."""
        self._sent[item] = stock
        return stock > 0 and self._since_s.pop(item, None) is not None

    def acknowledge(self, item: str, stock: int, now_s: float) -> bool:
        """It was acknowledged; True if that begins a sell-out."""
        if stock > 0 or self._sent.get(item, 0) > 0 or item in self._since_s:
            return False
        self._since_s[item] = now_s
        return True

    def shown(self, items: Collection[str], asked_s: float) -> list[str]:
        """The items of an answer that were certainly sold out when it was asked for."""
        since_s = self._since_s
        if since_s.keys().isdisjoint(items):
            return []
        return [item for item in items if since_s.get(item, asked_s) < asked_s]


@dataclass
class Followed:
    """One visitor's click and the lists before and after it."""

    session: str = ""
    clicked: str = ""
    before: list[str] = field(default_factory=list[str])
    after: list[tuple[str, float | None, int | None]] = field(
        default_factory=list[tuple[str, float | None, int | None]]
    )
    answered_ms: float = 0.0


@dataclass
class Tally:
    """All counts of a run; written by the traffic, read by the panel."""

    sold_out: SoldOut
    events: int = 0
    purchases: int = 0
    rejected: int = 0
    visitors: int = 0
    signals: int = 0
    sell_outs: int = 0
    restocks: int = 0
    arrivals: int = 0
    decisions: int = 0
    impressions: int = 0
    kept_off: int = 0
    failures: int = 0
    late: int = 0
    offset: int = 0
    played_ms: int = 0
    pages: Latencies = field(default_factory=Latencies)
    clicks: Latencies = field(default_factory=Latencies)
    tiers: Counter[str] = field(default_factory=Counter[str])
    degraded: Counter[str] = field(default_factory=Counter[str])
    sold_out_shown: list[str] = field(default_factory=list[str])
    newest: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=8))
    followed: Followed = field(default_factory=Followed)
    error: str = ""
