"""The scorer's replica: a process that follows the log and ranks, so that pages share neither
interpreter nor processor caches with a model.

    server                      the replica's parent
    a channel             ──▶   fork a replica for it, in place of the one before

    server                      replica
    Orders                ──▶   load the model and the newest checkpoint, fold the log
                          ◀──   Ready
    Turn(whoms, now_ms)   ──▶   fold what came since, gather candidates
                          ◀──   Gathered
                                score them
                          ◀──   Made, or Failed

It reads the log only, so it may be killed at any moment; it ends when its server does. Its parent
has loaded all that every replica needs, which takes most of the time that one takes to begin. A
frame is the length of a message, 4 bytes, and the message in MessagePack.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, TypeAlias, TypeVar

import msgspec
import numpy as np
from msgspec import Struct

from onhand.decision.lists import Whom
from onhand.decision.prepared import Prepared
from onhand.retrieval.listed import Listed
from onhand.state.state import Limits

__all__ = ["Failed", "Gathered", "Made", "Message", "Orders", "Parent", "Ready", "Replica",
           "ReplicaLost", "Turn", "frame", "pack", "read"]  # fmt: skip

LENGTH_BYTES: Final = 4
_ONE_THREAD: Final = {"OPENBLAS_NUM_THREADS": "1"}
"""A process that has threads does not fork well."""
_M = TypeVar("_M", bound=Struct)


class Orders(Struct, frozen=True):
    """What a replica follows: a data folder, with the app of a Python file and the server's own
    limits, so that rows have the same numbers."""

    data: str
    app: str | None
    features: str
    """The version of the app's features: the file may have changed since the server read it."""
    limits: Limits
    lists: int
    """How many lists the server keeps."""
    faults: bool = False
    """Whether its model may break."""


class Ready(Struct, frozen=True, tag="ready"):
    """The log is folded."""


class Turn(Struct, frozen=True):
    """Visitors to make lists for, as of the log's end, none for the next of those who are likely to
    come; and which faults are on."""

    whoms: list[Whom]
    now_ms: int
    faults: list[str] = []


class Gathered(Struct, frozen=True, tag="gathered"):
    """Their candidates are found: the model begins now."""


class Made(Struct, frozen=True, tag="made"):
    """The lists of a turn, none where there is nobody left to make one for: each its rows, scores
    and sources, one column behind the other. `model_s` is what the model took, `used_s` the
    processor's time of the whole turn."""

    as_of: int
    model: str
    whoms: list[Whom]
    lists: list[bytearray]
    model_s: float
    used_s: float


class Failed(Struct, frozen=True, tag="failed"):
    """The model gave nothing to make lists of."""

    why: str
    used_s: float


Message: TypeAlias = Ready | Gathered | Made | Failed
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Message).decode


class ReplicaLost(Exception):
    """The replica has ended."""


def frame(message: Struct) -> bytes:
    """Return the bytes of a message."""
    body = _encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def read(channel: socket.socket, kind: type[_M]) -> _M | None:
    """Return the next message, None where there will be none any more."""
    head = channel.recv(LENGTH_BYTES, socket.MSG_WAITALL)
    if len(head) < LENGTH_BYTES:
        return None
    body = channel.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL)
    return msgspec.msgpack.decode(body, type=kind)


def pack(prepared: Sequence[Prepared]) -> list[bytearray]:
    """Return lists as `Made` has them."""
    return [bytearray(b"".join(column.tobytes() for column in each.listed)) for each in prepared]


def unpack(made: Made, now_ms: int) -> list[Prepared]:
    """Return the lists that were made at a moment."""
    return [Prepared(_listed(body), made.as_of, now_ms, made.model) for body in made.lists]


def _listed(body: bytearray) -> Listed:
    count = len(body) // 9
    return Listed(
        np.frombuffer(body, np.int32, count),
        np.frombuffer(body, np.float32, count, 4 * count),
        np.frombuffer(body, np.int8, count, 8 * count),
    )


def _send_behind(process: int) -> None:
    """Let a process have only the time that nobody else of our session wants, and none of the first
    processor: the system moves no thread to one that is not idle, not even from behind another to
    where only this process runs."""
    os.sched_setscheduler(process, os.SCHED_IDLE, os.sched_param(0))
    processors = sorted(os.sched_getaffinity(process))
    os.sched_setaffinity(process, processors[1:] or processors)


class Parent:
    """The process that replicas are forked from, one at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    async def fork(self, orders: Orders) -> "Replica":
        """Begin a replica, and end the one before; what it says first is that it is ready. Raises
        `ReplicaLost`."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                await asyncio.to_thread(self._hand_over, theirs)
            except BaseException:
                ours.close()
                raise
        replica = Replica(*await asyncio.open_connection(sock=ours))
        replica.send(orders)
        return replica

    async def end(self) -> None:
        """End it, and its replica, at once: they have nothing to lose."""
        if self._process is not None:
            await asyncio.to_thread(self._end)

    def _hand_over(self, channel: socket.socket) -> None:
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._control is None:
            self._begin()
        assert self._control is not None
        try:
            socket.send_fds(self._control, [b"f"], [channel.fileno()])
        except OSError:
            raise ReplicaLost from None

    def _begin(self) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-m", "onhand.replica", str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 (our own module)
                command,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,  # Ctrl-C is for the server, whose end it follows
                env=os.environ | _ONE_THREAD,
            )
        self._control = ours
        _send_behind(self._process.pid)

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = self._control = None


class Replica:
    """The server's end of a replica. That ends when this is closed, or, where it hangs, as the next
    is begun."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._coming = 0

    def send(self, message: Orders | Turn) -> None:
        """Have it do something."""
        self._writer.write(frame(message))

    async def listen(self) -> Message:
        """Return what it says next; where that was cancelled, the next call goes on. Raises
        `ReplicaLost`."""
        try:
            if not self._coming:
                head = await self._reader.readexactly(LENGTH_BYTES)
                self._coming = int.from_bytes(head, "big")
            body = await self._reader.readexactly(self._coming)
        except (OSError, asyncio.IncompleteReadError):
            raise ReplicaLost from None
        self._coming = 0
        return _decode(body)

    def close(self) -> None:
        """Say no more to it."""
        self._writer.close()
