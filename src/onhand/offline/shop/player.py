"""The traffic in a thread of its own, so that drawing does not delay it."""

import asyncio
import threading
import time
from contextlib import suppress

import uvloop

from onhand.offline.shop.client import Client
from onhand.offline.shop.panel import Scene
from onhand.offline.shop.server import HOST
from onhand.offline.shop.traffic import Traffic

__all__ = ["Player"]

STOP_S = 10.0


class Player(threading.Thread):
    """Plays a scene against the server on a port, for some seconds or until `end`."""

    def __init__(self, scene: Scene, port: int, seconds: float | None) -> None:
        super().__init__(name="traffic", daemon=True)
        self._scene, self._port, self._seconds = scene, port, seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._traffic: Traffic | None = None
        self._started_s = time.monotonic()
        self._ended_s = 0.0
        self._ended = threading.Event()

    @property
    def elapsed_s(self) -> float:
        """How long it has played."""
        return (self._ended_s or time.monotonic()) - self._started_s

    def run(self) -> None:
        """Play."""
        try:
            uvloop.run(self._run())
        except Exception as error:
            self._scene.tally.error = f"{type(error).__name__}: {error}"
            raise
        finally:
            self._ended_s = time.monotonic()
            self._ended.set()

    async def _run(self) -> None:
        scene = self._scene
        pages, writes = Client(HOST, self._port), Client(HOST, self._port)
        self._loop = asyncio.get_running_loop()
        self._traffic = Traffic(pages, writes, scene.play.live(), scene.speed, scene.tally)
        self._started_s = time.monotonic()
        await self._traffic.run(self._seconds)
        await pages.close()
        await writes.close()

    def wait(self, seconds: float) -> bool:
        """Wait a little; whether it still plays.

        On an event, not with `join`: one that Ctrl-C interrupts takes the thread for ended.
        """
        return not self._ended.wait(seconds)

    def end(self) -> None:
        """Stop playing, and wait for that."""
        if self._loop is not None and self._traffic is not None:
            with suppress(RuntimeError):  # the loop is closed: it has ended by itself
                self._loop.call_soon_threadsafe(self._traffic.stop.set)
        self._ended.wait(STOP_S)
