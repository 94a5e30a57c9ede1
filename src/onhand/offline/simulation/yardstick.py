"""How fast the server's processor is, second by second, whatever the server does with it.

A virtual machine's processor is half as fast while its host gives the other half of a core to
somebody else, and no count of the system's says so. So short work that is always the same is timed
by the processor's own clock, on a processor that the load leaves to the server.

It is work like the server's, of much code and many small objects: a bare loop, which stays in the
nearest cache, is slowed down less than the server is. And it is timed at its second turn: at the
first it fetches what the server had put out of the caches, which the server itself need not.
"""

import os
import threading
import time
from statistics import fmean
from typing import Final, Self
from urllib.parse import parse_qsl

from msgspec import json

__all__ = ["Yardstick"]

_EVERY_S: Final = 0.01
_TURNS: Final = 3
"""Twice so many are about 0.1 ms: one part in a hundred of a processor."""
_QUERY: Final = "session=f123&user=u77&item=22423&n=10&country=DE"
_PAGE: Final = json.encode(
    {
        "slot": "home",
        "degraded": None,
        "items": [
            {"id": f"{22423 + n}", "price": n * 1.25, "tags": ["new", "gift"]} for n in range(10)
        ],
    }
)


class Yardstick:
    """Measures from entering to leaving, on a thread of its own."""

    def __init__(self) -> None:
        self._took_us: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="yardstick", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def read_us(self) -> float:
        """What the work took since this was asked last, the mean in microseconds; 0 where it had
        no turn."""
        took_us, self._took_us = self._took_us, []
        return round(fmean(took_us), 1) if took_us else 0.0

    def _run(self) -> None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])  # of this thread alone
        while not self._over.wait(_EVERY_S):
            _work()  # the caches near the processor hold what is the server's
            began_ns = time.thread_time_ns()
            _work()
            self._took_us.append((time.thread_time_ns() - began_ns) / 1e3)


def _work() -> None:
    for _ in range(_TURNS):
        page = json.decode(_PAGE)
        page["items"].sort(key=lambda item: item["price"])
        json.encode(page)
        parse_qsl(_QUERY)
