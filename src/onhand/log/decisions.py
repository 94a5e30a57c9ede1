"""The store of decision records: written behind the answer, bounded by count and age.

    batches(number INTEGER PRIMARY KEY,  -- of its first record, in the order of arrival
            count  INTEGER,              -- records in it
            at_ms  INTEGER,              -- when it was stored, epoch milliseconds
            run    TEXT, first INTEGER,  -- the two parts of its first record's id; indexed
            body   BLOB)                 -- MessagePack array of (id, record), packed by zlib

A decision's id is `run-number`: what tells the processes apart that made decisions, and an
ascending hexadecimal number. So one row a batch is index enough to find each record in it.

An answer does not wait for its record: `put` leaves it in memory, and a thread stores what has
gathered every `_GATHER_SECONDS`. So a crash loses the last moments of the *account* of decisions
(never of the log, from which they follow), and the file is fsynced only at its checkpoints
(`synchronous=NORMAL`). A disk that cannot keep up costs records, counted in `dropped`, and
never holds up an answer.

A batch is one packed row, a fraction of the bytes. With a row and two index entries for each record
the write-ahead log had to be copied into the file every second, and at 2,700 pages a second that
took their p99 from 3 to 13 ms. Its two statements need no transaction around them, and each one
more would ask for the interpreter again, from the thread that answers pages.
"""

import logging
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast

import apsw
import msgspec

from onhand.contracts.errors import Unavailable
from onhand.priority import interrupt_nobody

__all__ = ["DecisionStore", "read_decision", "read_decisions"]

_GATHER_SECONDS = 0.05
_BATCH = 1_024  # records in one row
_LEAVING = 64  # rows that leave, at most, as one comes
_WEEK_MS = 7 * 24 * 3600 * 1000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS batches (
    number INTEGER PRIMARY KEY, count INTEGER NOT NULL, at_ms INTEGER NOT NULL, run TEXT NOT NULL,
    first INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS batches_first ON batches (run, first)
"""
_LAST = "SELECT number + count FROM batches ORDER BY number DESC LIMIT 1"
_STORE = "INSERT INTO batches (number, count, at_ms, run, first, body) VALUES (?, ?, ?, ?, ?, ?)"
_GET = """
SELECT at_ms, body FROM batches WHERE run = ? AND first <= ? ORDER BY first DESC LIMIT 1
"""
_TRIM = """
DELETE FROM batches WHERE number IN (
    SELECT number FROM (SELECT number, count, at_ms FROM batches ORDER BY number LIMIT ?)
    WHERE number + count <= ? OR at_ms < ?)
"""
_SINCE = "SELECT count, body FROM batches WHERE at_ms >= ? ORDER BY number"
_COUNT = "SELECT coalesce(sum(count), 0) FROM batches WHERE at_ms >= ?"

_Record = tuple[str, bytes]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[_Record]).decode
_FASTEST = 1  # of zlib's levels

_logger = logging.getLogger(__name__)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class DecisionStore:
    """Decision records by id: at most `max_count` and a batch, and none older than `max_age_ms`.

    `put` may be called on one thread, `get` on any. `max_queued` bounds what waits in memory.
    Old records leave as new ones come.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_count: int = 1_000_000,
        max_age_ms: int = _WEEK_MS,
        max_queued: int = 20_000,
        clock_ms: Callable[[], int] = _now_ms,
    ) -> None:
        """Open or create the store at `path`. Raises `Unavailable` where the file is damaged."""
        self.dropped = 0
        self._max_count = max_count
        self._max_age_ms = max_age_ms
        self._max_queued = max_queued
        self._clock_ms = clock_ms
        self._queued: dict[str, bytes] = {}
        self._order: deque[str] = deque()
        """The names queued: a dictionary cannot be walked while another thread adds to it."""
        self._failing = False
        self._closing = threading.Event()
        self._reading = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._writer = _connect(path)
            self._writer.execute(_SCHEMA)
            last = self._writer.execute(_LAST).fetchone()
            self._number = cast("int", last[0]) if last else 0
            self._reader = _connect(path)
        except apsw.Error as error:
            raise Unavailable(
                "decisions_unreadable",
                f"The decision records in {path} cannot be opened ({error}). Move the file away: "
                "it holds only the account of past decisions, and a new one begins.",
            ) from error
        self._thread = threading.Thread(target=self._run, name="decisions", daemon=True)
        self._thread.start()

    def put(self, id: str, body: bytes) -> None:
        """Store `body` under `id` soon. Waits for nothing; drops it when the queue is full.

        `id` is `run-number`, one run in a process, its numbers ascending.
        """
        if len(self._queued) >= self._max_queued:
            self.dropped += 1
            return
        self._queued[id] = body
        self._order.append(id)

    def get(self, id: str) -> bytes | None:
        """Return the body put under `id`, also while it waits; None when it is not there."""
        body = self._queued.get(id)
        if body is not None:
            return body
        with self._reading:
            return _find(self._reader, id, self._clock_ms() - self._max_age_ms)

    def close(self) -> None:
        """Store what waits, then release the file; a second call does nothing."""
        self._closing.set()
        self._thread.join()
        with self._reading:
            self._reader.close()
        self._writer.close()

    def _run(self) -> None:
        interrupt_nobody()
        while not self._closing.wait(_GATHER_SECONDS):
            self._store_queued()
        self._store_queued()

    def _store_queued(self) -> None:
        while waiting := len(self._order):
            names = [self._order.popleft() for _ in range(min(waiting, _BATCH))]
            batch = [(name, self._queued[name]) for name in names]
            try:
                self._store(batch)
                self._failing = False
            except apsw.Error as error:
                self.dropped += len(batch)
                if not self._failing:
                    _logger.warning("decision records are being lost: %s", error)
                self._failing = True
            for name in names:
                del self._queued[name]

    def _store(self, batch: list[_Record]) -> None:
        now_ms = self._clock_ms()
        behind = self._number + len(batch)
        row = (self._number, len(batch), now_ms, *_parts(batch[0][0]), _pack(batch))
        bounds = (_LEAVING, behind - self._max_count, now_ms - self._max_age_ms)
        self._writer.execute(_TRIM, bounds)
        self._writer.execute(_STORE, row)
        self._number = behind


def _connect(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(5_000)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "normal")
    return connection


def read_decision(path: Path, id: str) -> bytes | None:
    """Return the stored body of one decision, also beside the process that stores them. Raises
    `Unavailable` where the file cannot be read."""
    with _reading(path) as connection:
        return _find(connection, id, 0)


def read_decisions(path: Path, since_ms: int, count: int) -> list[bytes]:
    """Return up to `count` bodies stored since a moment, evenly spread over all of them. Raises
    `Unavailable` where the file cannot be read."""
    with _reading(path) as connection:
        (found,) = cast("tuple[int]", connection.execute(_COUNT, (since_ms,)).fetchone())
        step = max(found // max(count, 1), 1)
        bodies: list[bytes] = []
        before = 0
        for stored, body in connection.execute(_SINCE, (since_ms,)):
            bodies += [record for _, record in _unpack(body)[step - 1 - before % step :: step]]
            before += stored
    return bodies[:count]


def _pack(batch: list[_Record]) -> bytes:
    return zlib.compress(_encode(batch), _FASTEST)


def _unpack(body: bytes) -> list[_Record]:
    return _decode(zlib.decompress(body))


def _parts(id: str) -> tuple[str, int]:
    """Return the run and the number of an id. Raises `ValueError` where it has none."""
    run, _, number = id.rpartition("-")
    return run, int(number, 16)


def _find(connection: apsw.Connection, id: str, since_ms: int) -> bytes | None:
    """Return a record's body if it was stored since a moment."""
    try:
        row = connection.execute(_GET, _parts(id)).fetchone()
    except (ValueError, OverflowError):
        return None
    at_ms, body = cast("tuple[int, bytes]", row or (since_ms - 1, b""))
    return dict(_unpack(body)).get(id) if at_ms >= since_ms else None


@contextmanager
def _reading(path: Path) -> Generator[apsw.Connection]:
    """Open the file beside its writer. Raises `Unavailable` where it cannot be read."""
    try:
        if not path.is_file():
            raise apsw.CantOpenError("no such file")
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        with closing(connection):
            connection.set_busy_timeout(5_000)
            yield connection
    except apsw.Error as error:
        raise Unavailable(
            "decisions_unreadable",
            f"The decision records in {path} cannot be read ({error}). Name the data folder that "
            "they lie in.",
        ) from error
