"""The store of dead letters: durable, bounded by age and size.

    letters(number INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice; the lowest leave first
            and the fields of `DeadLetter`)
    facts(name TEXT PRIMARY KEY, value)  -- token: this store's identity; left: letters that left

`append` returns after the fsync: what is refused is kept before the sender hears of it. A letter
counts as its bytes and `_OVERHEAD_BYTES`. When the store is over its size or a letter over its
age, the oldest leave, and are counted.
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, cast

import apsw
import msgspec

from onhand.contracts.errors import Unavailable
from onhand.contracts.letters import CodeCount, DeadLetter, LetterFilter, LetterStats
from onhand.log.transaction import transaction

__all__ = ["RAW_BYTES", "DeadLetterStore"]

RAW_BYTES: Final = 1 << 20
"""What is kept of one letter at most."""
ALL: Final = LetterFilter()
_OVERHEAD_BYTES: Final = 256
_DAY_MS: Final = 86_400_000
_COLUMNS: Final = tuple(name for name in DeadLetter.__struct_fields__ if name != "number")
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS letters (
    number INTEGER PRIMARY KEY AUTOINCREMENT, contract TEXT NOT NULL, version INTEGER NOT NULL,
    code TEXT NOT NULL, message TEXT NOT NULL, field TEXT, source TEXT NOT NULL,
    content_type TEXT NOT NULL, time_ms INTEGER NOT NULL, raw BLOB NOT NULL,
    truncated INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT;
INSERT OR IGNORE INTO facts VALUES ('left', 0);
"""
_INSERT: Final = (
    f"INSERT INTO letters ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - names of columns
)
_SELECT: Final = f"SELECT number, {', '.join(_COLUMNS)} FROM letters"  # noqa: S608
_SIZE: Final = f"length(raw) + {_OVERHEAD_BYTES}"
_OLDEST: Final = f"SELECT number, {_SIZE}, time_ms FROM letters ORDER BY number LIMIT 1000"  # noqa: S608


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class DeadLetterStore:
    """Refused records in order of arrival. May be used from any thread."""

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = 1 << 30,
        max_age_ms: int = 30 * _DAY_MS,
        clock_ms: Callable[[], int] = _now_ms,
    ) -> None:
        """Open or create the store at `path`. Raises `Unavailable` where the file is damaged."""
        self._max_bytes = max_bytes
        self._max_age_ms = max_age_ms
        self._clock_ms = clock_ms
        self._using = threading.RLock()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._file = apsw.Connection(str(path))
            self._file.set_busy_timeout(5_000)
            self._file.pragma("journal_mode", "wal")
            self._file.pragma("synchronous", "full")
            self._file.execute(_SCHEMA)
            self._file.execute(
                "INSERT OR IGNORE INTO facts VALUES ('token', ?)", (secrets.token_hex(8),)
            )
            self._bytes = self._sum_bytes()
        except apsw.Error as error:
            raise Unavailable(
                "dead_letters_unreadable",
                f"The dead letters in {path} cannot be opened ({error}). Move the file away: it "
                "holds only what was refused, and a new one begins.",
            ) from error

    @property
    def token(self) -> str:
        """The identity of this file: letter numbers mean something only together with it."""
        return cast("str", self._one("SELECT value FROM facts WHERE name = 'token'"))

    def append(self, letters: Sequence[DeadLetter]) -> None:
        """Keep letters; return when they are durable. Raises `Unavailable` when they cannot be."""
        rows = [_row(letter) for letter in letters]
        try:
            with self._using, transaction(self._file):
                self._file.executemany(_INSERT, rows)
                self._bytes += sum(len(letter.raw[:RAW_BYTES]) for letter in letters)
                self._bytes += _OVERHEAD_BYTES * len(rows)
                self._drop_oldest()
        except apsw.Error as error:
            raise Unavailable(
                "dead_letters_failed", f"The refused records could not be kept ({error})."
            ) from error

    def read(self, which: LetterFilter = ALL, limit: int = 100, after: int = 0) -> list[DeadLetter]:
        """Return at most `limit` letters with numbers over `after`, the oldest first."""
        where, values = _where(which)
        query = f"{_SELECT} WHERE {where} AND number > ? ORDER BY number LIMIT ?"
        with self._using:
            rows = self._file.execute(query, (*values, after, limit)).fetchall()
        return [_letter(row) for row in rows]

    def count(self, which: LetterFilter = ALL, after: int = 0) -> int:
        """Return how many letters match."""
        where, values = _where(which)
        query = f"SELECT count(*) FROM letters WHERE {where} AND number > ?"  # noqa: S608
        return cast("int", self._one(query, (*values, after)))

    def stats(self) -> LetterStats:
        """Return counts by contract and code."""
        with self._using:
            rows = self._file.execute(
                "SELECT contract, version, code, count(*) FROM letters "
                "GROUP BY 1, 2, 3 ORDER BY 4 DESC"
            ).fetchall()
            counts = [CodeCount(*cast("Any", row)) for row in rows]
            return LetterStats(
                sum(each.letters for each in counts),
                self._bytes,
                cast("int", self._one("SELECT value FROM facts WHERE name = 'left'")),
                cast("int | None", self._one("SELECT min(time_ms) FROM letters")),
                counts,
            )

    def remove(self, numbers: Iterable[int]) -> int:
        """Forget letters by number; return how many were there."""
        rows = [(number,) for number in numbers]
        with self._using:
            before = self._file.total_changes()
            with transaction(self._file):
                self._file.executemany("DELETE FROM letters WHERE number = ?", rows)
            self._bytes = self._sum_bytes()
            return self._file.total_changes() - before

    def refile(self, letters: Sequence[DeadLetter]) -> None:
        """Give letters the reason for which they were refused again."""
        with self._using, transaction(self._file):
            self._file.executemany(
                "UPDATE letters SET contract = ?, version = ?, code = ?, message = ?, field = ? "
                "WHERE number = ?",
                [(x.contract, x.version, x.code, x.message, x.field, x.number) for x in letters],
            )

    def purge(self, which: LetterFilter = ALL) -> int:
        """Forget all letters that match; return how many there were."""
        where, values = _where(which)
        with self._using:
            before = self._file.total_changes()
            self._file.execute(f"DELETE FROM letters WHERE {where}", values)  # noqa: S608
            self._bytes = self._sum_bytes()
            return self._file.total_changes() - before

    def close(self) -> None:
        """Release the file; a second call does nothing."""
        with self._using:
            self._file.close()

    def _drop_oldest(self) -> None:
        """Within a transaction: drop the oldest until age and size are within bounds."""
        oldest_ms = self._clock_ms() - self._max_age_ms
        left = 0
        done = False
        while not done:
            done = True
            for number, size, time_ms in self._file.execute(_OLDEST).fetchall():
                if self._bytes <= self._max_bytes and cast("int", time_ms) >= oldest_ms:
                    done = True
                    break
                self._file.execute("DELETE FROM letters WHERE number = ?", (number,))
                self._bytes -= cast("int", size)
                left += 1
                done = False
        if left:
            self._file.execute("UPDATE facts SET value = value + ? WHERE name = 'left'", (left,))

    def _sum_bytes(self) -> int:
        return cast("int", self._one(f"SELECT coalesce(sum({_SIZE}), 0) FROM letters"))  # noqa: S608

    def _one(self, query: str, values: tuple[Any, ...] = ()) -> Any:
        with self._using:
            return self._file.execute(query, values).get


def _row(letter: DeadLetter) -> tuple[Any, ...]:
    if len(letter.raw) > RAW_BYTES:
        letter = msgspec.structs.replace(letter, raw=letter.raw[:RAW_BYTES], truncated=True)
    return tuple(getattr(letter, name) for name in _COLUMNS)


def _letter(row: tuple[Any, ...]) -> DeadLetter:
    fields = dict(zip(_COLUMNS, row[1:], strict=True))
    fields["truncated"] = bool(fields["truncated"])
    return DeadLetter(**fields, number=row[0])


def _where(which: LetterFilter) -> tuple[str, tuple[Any, ...]]:
    given = {
        name: value
        for name in LetterFilter.__struct_fields__
        if (value := getattr(which, name)) is not None
    }
    clauses = [f"{name} = ?" for name in given]
    return " AND ".join(["true", *clauses]), tuple(given.values())
