"""The server's log, written behind the page.

A line for a file may wait for the disk, one for a terminal or a pipe until somebody reads: written
by the event loop, every page would wait with it.
"""

import logging
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from logging.handlers import QueueHandler
from queue import Full, Queue
from threading import Thread
from typing import Final

from onhand.priority import interrupt_nobody

__all__ = ["logged_behind"]

_LINES: Final = 10_000
"""Lines that may wait; those that find no room are lost, and counted."""
_STOP_S: Final = 2.0


class _Queued(QueueHandler):
    """Leaves lines to another thread."""

    lost = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        """Never wait."""
        try:
            self.queue.put_nowait(record)
        except Full:
            self.lost += 1


@contextmanager
def logged_behind() -> Generator[None]:
    """Have what is logged meanwhile written by a thread of its own; at the end it has 2 s for what
    still waits."""
    root = logging.getLogger()
    lines: Queue[logging.LogRecord | None] = Queue(_LINES)
    before, queued = root.handlers, _Queued(lines)
    writer = Thread(target=_write, args=(lines, before), name="log", daemon=True)
    writer.start()
    root.handlers = [queued]
    try:
        yield
    finally:
        root.handlers = before
        with suppress(Full):
            lines.put(None, timeout=_STOP_S)
        writer.join(_STOP_S)
        if queued.lost:
            root.warning("%d lines of the log were lost: they came too fast", queued.lost)


def _write(lines: "Queue[logging.LogRecord | None]", handlers: Sequence[logging.Handler]) -> None:
    interrupt_nobody()
    while (record := lines.get()) is not None:
        for handler in handlers:
            handler.handle(record)
