"""The processors' time, among the threads of a server.

Whatever works behind the page wakes seldom and has much to do, and a system that shares time fairly
lets such a thread keep a processor for milliseconds while a page waits.
"""

import os
import sys
import threading
from typing import Final

__all__ = ["give_way"]

_LOWEST: Final = 19
"""As `nice` counts."""


def give_way() -> None:
    """Let all others have a processor before the thread that calls this, where the system can tell
    threads apart."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST)
