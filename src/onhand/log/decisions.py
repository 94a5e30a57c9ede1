"""The store of decision records: written behind the answer, bounded by count and age.

    decisions(number INTEGER PRIMARY KEY,  -- in the order of arrival; the lowest leave first
              id     TEXT UNIQUE,
              at_ms  INTEGER,              -- when it was stored, epoch milliseconds; indexed
              body   BLOB)

An answer does not wait for its record: `put` leaves it in memory, and a thread stores what has
gathered every `_GATHER_SECONDS`. So a crash loses the last moments of the *account* of decisions
(never of the log, from which they follow), and the file is fsynced only at its checkpoints
(`synchronous=NORMAL`). A disk that cannot keep up costs records, counted in `dropped`, and
never holds up an answer.

A batch is one statement over an array of `id, NUL, body`: row by row, the thread would ask for
the interpreter once a row, and a busy event loop hands it over only every 5 ms.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import cast

import apsw

from onhand.contracts.errors import Unavailable

__all__ = ["DecisionStore", "read_decision", "read_decisions"]

_GATHER_SECONDS = 0.05
_BATCH = 4_096  # records in one transaction
_LEAVING = 2 * _BATCH  # at most, by age or by count, in one transaction: faster than they come
_WEEK_MS = 7 * 24 * 3600 * 1000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS decisions (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, at_ms INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS decisions_at_ms ON decisions (at_ms)
"""
_STORE = """
INSERT OR REPLACE INTO decisions (id, at_ms, body)
SELECT CAST(substr(value, 1, instr(value, x'00') - 1) AS TEXT), ?,
       substr(value, instr(value, x'00') + 1)
FROM carray(?)
"""
_GET = "SELECT body FROM decisions WHERE id = ? AND at_ms >= ?"
_TRIM_COUNT = """
DELETE FROM decisions WHERE number IN (
    SELECT number FROM decisions WHERE number <= (SELECT max(number) FROM decisions) - ?
    ORDER BY number LIMIT ?)
"""
_TRIM_AGE = """
DELETE FROM decisions WHERE number IN (
    SELECT number FROM decisions WHERE at_ms < ? ORDER BY at_ms LIMIT ?)
"""

_logger = logging.getLogger(__name__)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class DecisionStore:
    """Decision records by id: at most `max_count`, and none older than `max_age_ms`.

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
        self._queue: deque[tuple[str, bytes]] = deque()
        self._queued: dict[str, bytes] = {}
        self._failing = False
        self._closing = threading.Event()
        self._reading = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._writer = _connect(path)
            self._writer.execute(_SCHEMA)
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

        `id` is unique and holds no NUL.
        """
        if len(self._queue) >= self._max_queued:
            self.dropped += 1
            return
        self._queued[id] = body
        self._queue.append((id, body))

    def get(self, id: str) -> bytes | None:
        """Return the body put under `id`, also while it waits; None when it is not there."""
        body = self._queued.get(id)
        if body is not None:
            return body
        oldest_ms = self._clock_ms() - self._max_age_ms
        with self._reading:
            row = self._reader.execute(_GET, (id, oldest_ms)).fetchone()
        return cast("bytes", row[0]) if row else None

    def close(self) -> None:
        """Store what waits, then release the file; a second call does nothing."""
        self._closing.set()
        self._thread.join()
        with self._reading:
            self._reader.close()
        self._writer.close()

    def _run(self) -> None:
        while not self._closing.wait(_GATHER_SECONDS):
            self._store_queued()
        self._store_queued()

    def _store_queued(self) -> None:
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), _BATCH))]
            try:
                self._store(batch)
                self._failing = False
            except apsw.Error as error:
                self.dropped += len(batch)
                if not self._failing:
                    _logger.warning("decision records are being lost: %s", error)
                self._failing = True
            for name, _ in batch:
                self._queued.pop(name, None)

    def _store(self, batch: list[tuple[str, bytes]]) -> None:
        now_ms = self._clock_ms()
        rows = tuple(b"%b\0%b" % (name.encode(), body) for name, body in batch)
        with self._writer:
            self._writer.execute(_STORE, (now_ms, apsw.carray(rows)))
            self._writer.execute(_TRIM_COUNT, (self._max_count, _LEAVING))
            self._writer.execute(_TRIM_AGE, (now_ms - self._max_age_ms, _LEAVING))


def _connect(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(5_000)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "normal")
    return connection


def read_decision(path: Path, id: str) -> bytes | None:
    """Return the stored body of one decision, also beside the process that stores them."""
    rows = _read_bodies(path, "SELECT body FROM decisions WHERE id = ?", (id,))
    return rows[0] if rows else None


def read_decisions(path: Path, since_ms: int, count: int) -> list[bytes]:
    """Return up to `count` bodies stored since a moment, evenly spread over all of them."""
    (found,) = _read_bodies(path, "SELECT count(*) FROM decisions WHERE at_ms >= ?", (since_ms,))
    step = max(int(found) // max(count, 1), 1)
    query = (
        "SELECT body FROM (SELECT body, row_number() OVER (ORDER BY number) AS place "
        "FROM decisions WHERE at_ms >= ?) WHERE place % ? = 0 LIMIT ?"
    )
    return _read_bodies(path, query, (since_ms, step, count))


def _read_bodies(path: Path, query: str, values: tuple[str | int, ...]) -> list[bytes]:
    """Return the first column of a query. Raises `Unavailable` where the file cannot be read."""
    try:
        if not path.is_file():
            raise apsw.CantOpenError("no such file")
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        with closing(connection):
            connection.set_busy_timeout(5_000)
            return [cast("bytes", row[0]) for row in connection.execute(query, values)]
    except apsw.Error as error:
        raise Unavailable(
            "decisions_unreadable",
            f"The decision records in {path} cannot be read ({error}). Name the data folder that "
            "they lie in.",
        ) from error
