"""Which threads go before which, where the system knows that (`sched(7)`).

The thread that answers pages wants all of a processor when many are asked for. A thread behind it
wakes some thousand times a second, from the disk or for the interpreter, and each time the system
has it interrupt whoever runs where it woke: that thread, more often than not.
"""

import os
import sys
import threading
from contextlib import suppress
from typing import Final

__all__ = ["give_way", "interrupt_nobody"]

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
