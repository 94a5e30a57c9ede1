"""Which threads go before which, where the system knows that (`sched(7)`).

The thread that answers pages wants all of a processor when many are asked for. A thread behind it
wakes some thousand times a second, from the disk or for the interpreter, and each time the system
has it interrupt whoever runs where it woke: that thread, more often than not.
"""

import os
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

__all__ = ["give_way", "interrupt_nobody", "keep_off"]

_LOWEST: Final = 19
"""A thread's priority, as `nice` counts."""


def interrupt_nobody() -> None:
    """Have this thread wait for a processor that is free, or for the end of another's turn."""
    if sys.platform == "linux":
        with suppress(OSError):  # a sandbox may forbid it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def give_way() -> None:
    """Let other threads have the processor first: a server that is asked for more than it can do
    answers pages with all that it has."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST)


@contextmanager
def keep_off(thread: int) -> Generator[None]:
    """Keep off the processor that another thread of this process is on, where there are others:
    whatever its priority, a thread has a processor for up to 4 ms once it has it, and for long work
    it has it again and again."""
    here: set[int] = set()
    if sys.platform == "linux":
        with suppress(OSError):
            here = os.sched_getaffinity(0)
            if others := here - {_processor_of(thread)}:
                os.sched_setaffinity(0, others)
    try:
        yield
    finally:
        if here:
            with suppress(OSError):
                os.sched_setaffinity(0, here)


def _processor_of(thread: int) -> int:
    """The processor that a thread of this process is on, or was last (`proc_pid_stat(5)`)."""
    said = Path(f"/proc/self/task/{thread}/stat").read_text()
    return int(said.rpartition(")")[2].split()[36])
