"""The keeper: refused records of several requests go to the store in one commit."""

import asyncio
import logging
from collections.abc import Sequence

from onhand.contracts.errors import OnhandError
from onhand.contracts.letters import DeadLetter
from onhand.log.dead_letters import DeadLetterStore
from onhand.serving.metrics import Metrics

__all__ = ["Keeper"]

_log = logging.getLogger("onhand")


class Keeper:
    """Keeps dead letters; a request is answered after its own are durable.

    Where the disk refuses, the letters are lost, which is counted and logged: the sender has been
    told of the refusal, and the good records of its request are in.
    """

    def __init__(self, store: DeadLetterStore, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._waiting: list[DeadLetter] = []
        self._next: asyncio.Task[None] | None = None
        self._writing: asyncio.Task[None] | None = None

    async def keep(self, letters: Sequence[DeadLetter]) -> None:
        """Return when `letters` are kept."""
        self._waiting.extend(letters)
        if self._next is None:
            self._next = asyncio.create_task(self._write())
        await asyncio.shield(self._next)

    async def close(self) -> None:
        """Wait for what is under way, and release the store."""
        while self._next is not None or self._writing is not None:
            await (self._next or self._writing)  # type: ignore[misc]
        await asyncio.to_thread(self._store.close)

    async def _write(self) -> None:
        if self._writing is not None:
            await asyncio.shield(self._writing)
        self._writing, self._next = self._next, None
        letters, self._waiting = self._waiting, []
        try:
            await asyncio.to_thread(self._store.append, letters)
        except OnhandError as error:
            self._metrics.letters_lost += len(letters)
            _log.error("%d refused records could not be kept: %s", len(letters), error)
        finally:
            self._writing = None
