"""`onhand doctor`: is this machine fit, and is this data folder sound?"""

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

__all__ = ["doctor"]

FSYNCS = 50
SLOW_FSYNC_MS = 20.0
ROOM_BYTES = 1 << 30


class Finding(NamedTuple):
    """One checked thing: `good` is False for what must be mended."""

    good: bool
    sentence: str


def doctor(
    data: Annotated[str, typer.Option(help="The data folder to look at.")] = "data",
) -> None:
    """Check Python, the compiler's cache, the disk, and the data folder; exit 1 if any is bad.

    **Example**

    `onhand doctor --data /var/lib/onhand`
    """
    findings = list(_examine(Path(data)))
    for finding in findings:
        mark = typer.style("ok  ", fg="green") if finding.good else typer.style("bad ", fg="red")
        typer.echo(mark + finding.sentence)
    raise typer.Exit(0 if all(finding.good for finding in findings) else 1)


def _examine(folder: Path) -> Iterator[Finding]:
    checks: tuple[Callable[[], Finding], ...] = (
        _python,
        _sqlite,
        _kernels,
        lambda: _room(folder),
        lambda: _fsync(folder),
        lambda: _log(folder),
    )
    for check in checks:
        try:
            yield check()
        except Exception as error:  # a check that breaks is itself a finding
            yield Finding(False, f"{type(error).__name__}: {error}")


def _python() -> Finding:
    version = platform.python_version()
    return Finding(sys.version_info >= (3, 11), f"Python {version} (3.11 or later is needed).")


def _sqlite() -> Finding:
    import apsw

    version = apsw.sqlite_lib_version()
    good = tuple(int(part) for part in version.split(".")) >= (3, 51, 3)
    return Finding(good, f"SQLite {version} (3.51.3 mended a fault of the write-ahead log).")


def _kernels() -> Finding:
    from onhand import kernel

    folder = Path(str(kernel.config.CACHE_DIR))  # pyright: ignore[reportAttributeAccessIssue]
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        return Finding(
            False,
            f"Compiled kernels cannot be kept in {folder}: every start compiles them again. "
            "Make it writable, or set XDG_CACHE_HOME.",
        )
    kept = sum(1 for _ in folder.rglob("*.nbc"))
    return Finding(True, f"{kept} compiled kernels in {folder}.")


def _room(folder: Path) -> Finding:
    place = _existing(folder)
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    return Finding(
        free >= ROOM_BYTES, f"{free / 1e9:.1f} GB free for {folder} (1 GB is the least)."
    )


def _fsync(folder: Path) -> Finding:
    path = _existing(folder) / f".onhand-doctor-{os.getpid()}"
    try:
        with path.open("wb") as file:
            began_s = time.perf_counter()
            for _ in range(FSYNCS):
                file.write(b"x" * 4096)
                file.flush()
                os.fsync(file.fileno())
            fsync_ms = (time.perf_counter() - began_s) * 1000 / FSYNCS
    finally:
        path.unlink(missing_ok=True)
    return Finding(
        fsync_ms < SLOW_FSYNC_MS,
        f"An fsync takes {fsync_ms:.2f} ms; every group of writes waits for one.",
    )


def _log(folder: Path) -> Finding:
    import apsw

    path = folder / "log.db"
    if not path.exists():
        return Finding(True, f"There is no log in {folder} yet; `onhand serve` makes it.")
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        verdict = connection.execute("PRAGMA integrity_check").fetchall()
        last = connection.execute("SELECT max(first + count - 1) FROM batches").get
    finally:
        connection.close()
    if verdict != [("ok",)]:
        return Finding(
            False, f"The log {path} is damaged ({verdict[0][0]}). Restore it from a backup."
        )
    size = path.stat().st_size
    return Finding(True, f"The log {path} is sound: {last or 0} records, {size / 1e6:.1f} MB.")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    place = folder.absolute()
    while not place.is_dir():
        place = place.parent
    return place
