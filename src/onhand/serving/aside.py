"""One thread beside the event loop, which can be left behind.

A pool's thread is waited for when the process ends, and a call cannot be taken back: a model that
hangs would keep the server from stopping. This thread ends with the process whatever it does, and
lets the loop and the disk go first where there are too few processors.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, TypeVar

__all__ = ["Aside"]

_NICE: Final = 10
"""Of Linux: this many levels behind the other threads."""
_T = TypeVar("_T")
_Call = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]
_Calls = SimpleQueue[_Call | None]


class Aside:
    """Runs one call after the other on a thread of its own."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: _Calls | None = None
        self.used_s = 0.0
        """Time of a processor that the calls took."""

    async def call(self, function: Callable[[], _T]) -> _T:
        """Run `function` on the thread. Raises what it raises."""
        if self._calls is None:
            self._calls = SimpleQueue()
            threading.Thread(
                target=self._work, args=(self._calls,), name=self._name, daemon=True
            ).start()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[_T] = loop.create_future()
        self._calls.put((function, done, loop))
        return await done

    def leave(self) -> None:
        """Leave the thread to what it does, if anything; the next call begins a new one."""
        if self._calls is not None:
            self._calls.put(None)
            self._calls = None

    def _work(self, calls: _Calls) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while (call := calls.get()) is not None:
            function, done, loop = call
            result: Any = None
            error: BaseException | None = None
            began_s = time.thread_time()
            try:
                result = function()
            except BaseException as raised:
                error = raised
            self.used_s += time.thread_time() - began_s
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_settle, done, result, error)


def _settle(done: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if done.done():
        return
    if isinstance(error, Exception):
        done.set_exception(error)
    elif error is not None:
        done.set_exception(RuntimeError(f"the thread was ended: {error!r}"))
    else:
        done.set_result(result)
