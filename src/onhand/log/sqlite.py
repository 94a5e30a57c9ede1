"""The log in one SQLite file: an appended batch is one row, one commit, one fsync.

    batches(first INTEGER PRIMARY KEY,  -- offset of the batch's first record, from 1, no holes
            count INTEGER,              -- records in the batch
            crc   INTEGER,              -- zlib.crc32 of body
            body  BLOB)                 -- MessagePack array of records, each a map with its kind

The file is in WAL mode with `synchronous=FULL`: a commit returns after the write-ahead log is on
disk. The writer copies it back into the file itself about every `_WAL_PAGES` pages, because
SQLite's own automatic checkpoint swallows a failed fsync, and a failed fsync must stop the log. It
counts pages by what it appended: to be told by SQLite (`sqlite3_wal_hook`), its thread would ask
for the interpreter once more in each commit, from the one that answers pages.

`PRAGMA application_id` says that the file is a log, `user_version` which version of this format.
Beside it lies `<name>.lock`, held with flock by the one process that may write.
"""

import fcntl
import os
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from pathlib import Path
from typing import cast

import apsw
import msgspec

from onhand.contracts.records import Record
from onhand.log.port import Batch, LogDamaged, LogFailed, LogFull, LogRefused, Packed
from onhand.log.transaction import transaction

__all__ = ["FORMAT_VERSION", "SqliteLog", "SqliteReader"]

FORMAT_VERSION = 1

_APPLICATION_ID = 0x4F4E4844  # "ONHD"
_PAGE_BYTES = 16_384  # 500 records are about 60 kB: 4 pages, where the default size needs 15
_WAL_PAGES = 1_000  # 16 MB of write-ahead log between two checkpoints
_PAGES_BESIDE = 2  # of an append: the rest of the row, and where it is found
_READ_ROWS = 64  # rows a read holds at once; each chunk is its own short transaction
_READ_RECORDS = 8_000  # in a batch that is read, at least: handing one on takes up to 10 ms

_Row = tuple[int, int, int, bytes]  # first, count, crc, body

_LAST = "SELECT first + count - 1 FROM batches ORDER BY first DESC LIMIT 1"
_START = "SELECT first FROM batches WHERE first <= ? ORDER BY first DESC LIMIT 1"
_READ = "SELECT first, count, crc, body FROM batches WHERE first >= ? ORDER BY first LIMIT ?"
_decode = msgspec.msgpack.Decoder(list[Record]).decode
_APPEND = "INSERT INTO batches (first, count, crc, body) VALUES (?, ?, ?, ?)"


class SqliteReader:
    """The records of a log as they were when this was opened or advanced, also beside its one
    writer; for one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Open the log at `path`. Raises `LogRefused` where there is none."""
        self._path = path
        self._vfs: str | None = None
        try:
            if not path.is_file():
                raise apsw.CantOpenError("no such file")
            self._connection = self._connect()
            self.advance()
        except apsw.Error as error:
            raise LogRefused(
                "log_unreadable",
                f"The log {path} cannot be read ({error}). Name the data folder that it lies in.",
            ) from error

    def advance(self) -> None:
        """See what was appended meanwhile. Raises `apsw.Error`."""
        with self._reading() as connection:
            self._last = _last(connection)

    @property
    def last(self) -> int:
        """The offset of the last durable record; 0 when the log is empty."""
        return self._last

    def read(self, after: int = 0) -> Iterator[Batch]:
        """Yield the records behind offset `after`, in order, in batches, up to the last one.

        Small appends come together in one batch: a fold pays for each batch it takes. Raises
        `LogDamaged` where the bytes are not what was appended, after all batches before them.
        Close the iterator if you leave it early.
        """
        for first, rows in self._gathered(max(after, 0) + 1):
            records = [record for row in rows for record in _decoded(row)]
            yield Batch(first, records[first - rows[0][0] :])

    def packed(self, after: int = 0) -> Iterator[Packed]:
        """Yield what `read` does without decoding it: only checksums are looked at."""
        for first, rows in self._gathered(max(after, 0) + 1):
            skip = first - rows[0][0]
            elements = b"".join([_elements(rows[0], skip), *(_elements(row) for row in rows[1:])])
            yield Packed(first, sum(row[1] for row in rows) - skip, elements)

    def _gathered(self, begin: int) -> Iterator[tuple[int, list[_Row]]]:
        """Yield rows that come together, and the offset from which on their records are wanted."""
        rows: list[_Row] = []
        count = 0
        try:
            for row in self._stored(begin):
                rows.append(row)
                count += row[1]
                if count >= _READ_RECORDS:
                    yield max(begin, rows[0][0]), rows
                    rows, count = [], 0
        except LogDamaged:
            if rows:
                yield max(begin, rows[0][0]), rows
            raise
        if rows:
            yield max(begin, rows[0][0]), rows

    def _stored(self, begin: int) -> Iterator[_Row]:
        """Yield the rows from the one with offset `begin` on, their checksums checked."""
        if begin > self._last:
            return
        first = begin
        with self._reading() as connection:
            try:
                first = _batch_start(connection, begin)
                while first <= self._last:
                    for row in _rows(connection, first):
                        _check(row, first)
                        yield row
                        first += row[1]
            except (apsw.CorruptError, apsw.IOError, apsw.NotADBError) as error:
                raise LogDamaged(max(first, begin), _reason(error)) from error

    def _reading(self) -> AbstractContextManager[apsw.Connection]:
        """Return the one connection: opening it takes longer than reading what just came."""
        return nullcontext(self._connection)

    def _connect(self) -> apsw.Connection:
        connection = apsw.Connection(str(self._path), vfs=self._vfs)
        connection.set_busy_timeout(5_000)
        return connection


class SqliteLog(SqliteReader):
    """The durable `Log`: `append` returns after the fsync.

    One process may hold it, one thread may append at a time; `read` opens its own connection, so
    any number of reads may run beside. `vfs` names the SQLite file layer; tests put a faulty
    disk there.
    """

    def __init__(self, path: Path, vfs: str | None = None) -> None:
        """Open or create the log at `path`.

        Raises `LogRefused` where another process holds it, a newer version wrote it, or the file
        is something else.
        """
        self._path = path
        self._vfs = vfs
        self._failure: str | None = None
        self._wal_pages = 0
        self._writing = threading.Lock()  # a close waits for the append under way
        self._encoder = msgspec.msgpack.Encoder()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(path)
        try:
            self._writer, self._last = self._open()
        except BaseException:
            os.close(self._lock)
            raise

    def append(self, records: Sequence[Record]) -> int:
        """Make `records` durable together and return the offset of the last.

        Raises `LogFull` when there was no room, which may pass. Raises `LogFailed` when the disk
        refused, and from then on at every append: after a failed fsync nobody knows what is on
        disk until the file has been read again.
        """
        body = self._encoder.encode(records)
        with self._writing:
            if self._failure is not None:
                raise LogFailed(self._failure)
            if records:
                self._commit((self._last + 1, len(records), zlib.crc32(body), body))
            return self._last

    def close(self) -> None:
        """Release the file and its lock; a second call does nothing."""
        with self._writing:
            self._failure = self._failure or "it is closed"
            _close(self._writer)
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1

    def _reading(self) -> AbstractContextManager[apsw.Connection]:
        """Return a connection of its own for each read: they run in threads."""
        return closing(self._connect())

    def _open(self) -> tuple[apsw.Connection, int]:
        """Return the writer's connection and the last offset."""
        try:
            writer = self._connect()
            try:
                writer.wal_autocheckpoint(0)
                return writer, _prepare(writer, self._path)
            except BaseException:
                _close(writer)
                raise
        except apsw.Error as error:
            raise LogRefused(
                "log_unreadable",
                f"The log {self._path} cannot be opened ({error}). Check the disk and the file's "
                "permissions, or restore the data folder from a backup.",
            ) from error

    def _commit(self, row: _Row) -> None:
        try:
            self._writer.execute(_APPEND, row)
        except apsw.FullError as error:
            # A write found no room, no fsync has failed: SQLite took the row back, and the next
            # append writes over what there is of it.
            raise LogFull from error
        except apsw.Error as error:
            self._failure = _reason(error)
            raise LogFailed(self._failure) from error
        self._last += row[1]
        self._wal_pages += len(row[3]) // _PAGE_BYTES + _PAGES_BESIDE
        if self._wal_pages >= _WAL_PAGES:
            self._checkpoint()

    def _checkpoint(self) -> None:
        try:
            self._writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except (apsw.BusyError, apsw.FullError):
            return  # a read is on the pages, or there is no room; the next append tries again
        except apsw.Error as error:
            self._failure = _reason(error)  # what was appended is safe in the write-ahead log
        else:
            self._wal_pages = 0


def _lock(path: Path) -> int:
    """Take the one writer's lock, and leave our process id in the file for whoever comes next."""
    lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise LogRefused(
            "log_in_use",
            f"The log {path} is open in another process (id {holder}). Stop that one, or use "
            "another data folder.",
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _prepare(connection: apsw.Connection, path: Path) -> int:
    """Create or check the schema, set durability, and return the last offset."""
    application_id = connection.pragma("application_id")
    version = connection.pragma("user_version")
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
    if application_id != _APPLICATION_ID and (application_id or tables):
        raise LogRefused(
            "not_a_log",
            f"The file {path} is not a log (application id {application_id:#x}). Name another "
            "data folder.",
        )
    if version > FORMAT_VERSION:
        raise LogRefused(
            "log_too_new",
            f"The log {path} has format {version}, and this version reads up to "
            f"{FORMAT_VERSION}. Upgrade onhand, or use another data folder.",
        )
    if not tables:
        connection.pragma("page_size", _PAGE_BYTES)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    if not tables:
        with transaction(connection):
            connection.execute(
                "CREATE TABLE batches (first INTEGER PRIMARY KEY, count INTEGER NOT NULL, "
                "crc INTEGER NOT NULL, body BLOB NOT NULL) STRICT"
            )
            connection.pragma("application_id", _APPLICATION_ID)
            connection.pragma("user_version", FORMAT_VERSION)
    return _last(connection)


def _last(connection: apsw.Connection) -> int:
    """Return the offset of the last record, 0 when there is none."""
    last = connection.execute(_LAST).fetchone()
    return cast("int", last[0]) if last else 0


def _batch_start(connection: apsw.Connection, offset: int) -> int:
    """Return the first offset of the batch that holds `offset`."""
    row = connection.execute(_START, (offset,)).fetchone()
    return cast("int", row[0]) if row else 1


def _rows(connection: apsw.Connection, first: int) -> list[_Row]:
    rows = connection.execute(_READ, (first, _READ_ROWS)).fetchall()
    if not rows:
        raise LogDamaged(first, "the record is missing")
    return cast("list[_Row]", rows)


def _check(row: _Row, expected: int) -> None:
    """Raise `LogDamaged` unless a batch begins at offset `expected` and is as it was written."""
    first, count, crc, body = row
    if first != expected:
        raise LogDamaged(expected, f"the next batch begins at {first}")
    if zlib.crc32(body) != crc:
        raise LogDamaged(first, "the checksum does not match")
    held, _ = _head(body)
    if held != count:
        raise LogDamaged(first, f"{held} records instead of {count}")


def _head(body: bytes) -> tuple[int, int]:
    """Return the length of a MessagePack array, 0 where it is none, and where its elements
    begin."""
    head = body[0] if body else 0
    if head >> 4 == 9:
        return head & 15, 1
    size = {0xDC: 2, 0xDD: 4}.get(head, 0)
    return int.from_bytes(body[1 : 1 + size], "big"), 1 + size


def _decoded(row: _Row) -> list[Record]:
    first, _, _, body = row
    try:
        return _decode(body)
    except msgspec.DecodeError as error:
        raise LogDamaged(first, str(error)) from error


def _elements(row: _Row, skip: int = 0) -> bytes:
    """Return the records of a row behind the first `skip`, MessagePack one behind the other."""
    if skip:
        return b"".join(map(msgspec.msgpack.encode, _decoded(row)[skip:]))
    body = row[3]
    return body[_head(body)[1] :]


def _close(connection: apsw.Connection) -> None:
    # A last checkpoint that fails loses nothing: the write-ahead log stays for the next opening.
    with suppress(apsw.Error):
        connection.close(True)


def _reason(error: apsw.Error) -> str:
    return f"{type(error).__name__}: {error}"
