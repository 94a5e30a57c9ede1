"""A transaction that leaves the interpreter to other threads while SQLite writes.

`with connection:` keeps the interpreter lock from its first statement to the end of its commit,
fsync and checkpoint included (apsw 3.54): 11 ms, every five seconds of the flash sale, in which no
page was answered. Statements of their own let it go.
"""

from collections.abc import Generator
from contextlib import contextmanager

import apsw

__all__ = ["transaction"]


@contextmanager
def transaction(connection: apsw.Connection) -> Generator[None]:
    """Write all of what is done within, or nothing. Raises `apsw.Error`."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite itself takes back what found no room
            connection.execute("ROLLBACK")
        raise
