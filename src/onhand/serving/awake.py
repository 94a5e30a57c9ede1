"""Processors that stay awake: on each a process that runs when nobody else wants to.

A virtual machine's processor with nothing to do sleeps, its host lends it to others, and it comes
back milliseconds after it is wanted again. So here is always something to do. The processes are of
the system's idle class (`sched(7)`), so that whatever else wants the processor has it at once.
"""

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

__all__ = ["stay_awake"]

_TURNS: Final = 2_000
"""Turns, some tens of microseconds, until others of the idle class may go on: what makes lists is
of it."""


@contextmanager
def stay_awake() -> Generator[None]:
    """Keep every processor of this process awake; they end with it, whatever ends it."""
    spinners = [
        subprocess.Popen(  # noqa: S603  # this file
            [sys.executable, "-I", "-S", __file__, str(processor), str(os.getpid())],
            process_group=0,  # Ctrl-C is not for them
        )
        for processor in sorted(os.sched_getaffinity(0))
    ]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


def _spin(processor: int, wanted_by: int) -> None:
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    os.sched_setaffinity(0, {processor})
    while os.getppid() == wanted_by:
        os.sched_yield()
        for _ in range(_TURNS):
            pass


if __name__ == "__main__":
    _spin(int(sys.argv[1]), int(sys.argv[2]))
