"""The fault switchboard: real faults in a running server, for drills and tests.

    PUT /faults/slow-disk       begins a fault
    DELETE /faults/slow-disk    ends it

There is none unless the setting `faults` is on, which only a server on loopback without keys may
have. The route is in no table and no document.

| fault | what breaks |
|---|---|
| `slow-model` | each call of the model takes 2 s |
| `failing-model` | each call raises |
| `stuck-thread` | each call hangs for ever |
| `killed-scorer` | the process that calls the model is killed (SIGKILL), in each turn |
| `slow-disk` | each fsync takes 500 ms |
| `full-disk` | each write of a log or store finds the disk full |
| `clock-jump` | the wall clock is an hour ahead, and jumps back at the end |
"""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from starlette.types import Receive, Scope, Send

from onhand.log.faults import FaultyDisk
from onhand.ranking.artefact import Artefact, ModelStore
from onhand.ranking.model import Scorer
from onhand.serving.problems import HttpError, method_not_allowed, not_found

__all__ = ["FAULTS", "BreakingModels", "Faults"]

FAULTS: Final = (
    "slow-model",
    "failing-model",
    "stuck-thread",
    "killed-scorer",
    "slow-disk",
    "full-disk",
    "clock-jump",
)
PATH: Final = "/faults/"
SLOW_MODEL_S: Final = 2.0
JUMP_MS: Final = 3_600_000


class Faults:
    """Which faults are on, and what they do to the parts that ask."""

    def __init__(self, disk: FaultyDisk, now_ms: Callable[[], int]) -> None:
        self._disk = disk
        self._true_ms = now_ms
        self._on: set[str] = set()

    def on(self) -> list[str]:
        """Which faults are on."""
        return sorted(self._on)

    def switch(self, name: str, on: bool) -> None:
        """Begin or end a fault. Raises `HttpError` 404 for an unknown one."""
        if name not in FAULTS:
            known = ", ".join(FAULTS)
            raise HttpError(404, "unknown_fault", f"There is no fault {name[:60]!r}; {known} are.")
        if on:
            self._on.add(name)
        else:
            self._on.discard(name)
        self._disk.slow = "slow-disk" in self._on
        self._disk.full = "full-disk" in self._on

    def now_ms(self) -> int:
        """The wall clock, as it is now or as it jumped: epoch ms."""
        return self._true_ms() + (JUMP_MS if "clock-jump" in self._on else 0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Answer a request that no other route does."""
        path: str = scope["path"]
        if not path.startswith(PATH):
            raise not_found(path)
        method: str = scope["method"]
        if method not in ("PUT", "DELETE"):
            raise method_not_allowed(method, ("PUT", "DELETE"))
        self.switch(path.removeprefix(PATH), method == "PUT")
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class BreakingModels(ModelStore):
    """The models of a data folder, which break when `is_on` says that a fault is on."""

    def __init__(self, folder: Path, is_on: Callable[[str], bool]) -> None:
        super().__init__(folder)
        self._is_on = is_on

    def load(self, label: str) -> Artefact:
        """Return a model that breaks with the faults. Raises what a sound store raises."""
        artefact = super().load(label)
        model = artefact.model
        breaking = _BreakingScorer(model.scorer, self._is_on)
        return artefact._replace(model=replace(model, scorer=breaking))


@dataclass(frozen=True)
class _BreakingScorer:
    """A scorer, and what befalls it."""

    sound: Scorer
    is_on: Callable[[str], bool]

    @property
    def n_features(self) -> int:
        """Number of columns that it reads."""
        return self.sound.n_features

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score, late, or not at all."""
        if self.is_on("slow-model"):
            time.sleep(SLOW_MODEL_S)
        if self.is_on("failing-model"):
            raise RuntimeError("the model fails, for a drill")
        if self.is_on("killed-scorer"):
            os.kill(os.getpid(), signal.SIGKILL)
        while self.is_on("stuck-thread"):
            time.sleep(SLOW_MODEL_S)
        return self.sound.score(features)
