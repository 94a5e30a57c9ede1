"""A circuit breaker: stop calling what fails or drags, and try again after a while.

    closed ──(failures in a row, or too many slow calls)──▶ open
    open ──(after a pause)──▶ half-open: one call at a time is let through
    half-open ──(it succeeds)──▶ closed      ──(it fails or is slow)──▶ open

After M. Nygard, "Release It!" (2007); the rate of slow calls as in Resilience4j.
"""

from collections import deque
from typing import Final, Literal, NamedTuple

__all__ = ["Breaker", "BreakerRule"]

Position = Literal["closed", "open", "half_open"]


class BreakerRule(NamedTuple):
    """When a breaker opens, and for how long. A call over `timeout_ms` is a failure, one over
    `slow_ms` is slow; of the last `calls` (no fewer) `slow_share` may be."""

    failures: int = 5
    timeout_ms: float = 150.0
    slow_ms: float = 50.0
    slow_share: float = 0.5
    calls: int = 20
    pause_ms: float = 2_000.0


RULE: Final = BreakerRule()


class Breaker:
    """Guards one thing that is called; whoever calls it tells what came of it."""

    def __init__(self, rule: BreakerRule = RULE) -> None:
        self.rule = rule
        self.position: Position = "closed"
        self.opened = 0
        """How often it has opened."""
        self._failures = 0
        self._slow: deque[bool] = deque(maxlen=rule.calls)
        self._opened_ms = 0.0
        self._trying = False

    def allows(self, now_ms: float) -> bool:
        """Whether a call may be made now; each that may must be told of by `succeed`, `fail` or
        `forgo`."""
        if self.position == "open" and now_ms - self._opened_ms >= self.rule.pause_ms:
            self.position, self._trying = "half_open", False
        if self.position == "half_open":
            allowed, self._trying = not self._trying, True
            return allowed
        return self.position == "closed"

    def succeed(self, took_ms: float, now_ms: float) -> None:
        """Note a call that gave an answer."""
        if took_ms > self.rule.timeout_ms:
            self.fail(now_ms)
            return
        slow = took_ms > self.rule.slow_ms
        self._failures = 0
        if self.position == "half_open":
            if slow:
                self._open(now_ms)
            else:
                self.position = "closed"
            return
        self._slow.append(slow)
        if (
            len(self._slow) == self.rule.calls
            and sum(self._slow) > self.rule.slow_share * self.rule.calls
        ):
            self._open(now_ms)

    def forgo(self) -> None:
        """Note that a call was not made after all."""
        self._trying = False

    def fail(self, now_ms: float) -> None:
        """Note a call that gave none: it raised, answered nonsense, or took too long."""
        self._failures += 1
        if self.position == "half_open" or self._failures >= self.rule.failures:
            self._open(now_ms)

    def _open(self, now_ms: float) -> None:
        if self.position != "open":
            self.opened += 1
        self.position, self._opened_ms = "open", now_ms
        self._failures = 0
        self._slow.clear()
