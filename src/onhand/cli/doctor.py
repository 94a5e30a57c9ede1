"""`onhand doctor`: is this machine fit, and is this data folder sound?"""

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

if TYPE_CHECKING:
    import apsw

__all__ = ["doctor"]

FSYNCS = 50
SLOW_FSYNC_MS = 20.0
ROOM_BYTES = 1 << 30
_OF_CONTROL = b"\xa7control"
"""The kind of a control record as the log spells it, in MessagePack."""


class Finding(NamedTuple):
    """One checked thing: `good` is False for what must be mended."""

    good: bool
    sentence: str


def doctor(
    data: Annotated[str, typer.Option(help="The data folder to look at.")] = "data",
) -> None:
    """Check Python, the compiler's cache, the disk, and all in the data folder: log, contracts,
    dead letters, keys, models; exit 1 if any is bad.

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
        lambda: _contracts(folder),
        lambda: _dead_letters(folder),
        lambda: _keys(folder),
        lambda: _models(folder),
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
    path = folder / "log.db"
    if not path.exists():
        return Finding(True, f"There is no log in {folder} yet; `onhand serve` makes it.")
    with closing(_opened(path)) as connection:
        damage = _damage(connection)
        last = connection.execute("SELECT max(first + count - 1) FROM batches").get
    if damage:
        return Finding(False, f"The log {path} is damaged ({damage}). Restore it from a backup.")
    size = path.stat().st_size
    return Finding(True, f"The log {path} is sound: {last or 0} records, {size / 1e6:.1f} MB.")


def _contracts(folder: Path) -> Finding:
    from onhand.contracts.registry import Registry

    registry = Registry(_controls(folder))
    latest = ", ".join(registry.version(name).label for name in registry.names)
    return Finding(True, f"The contracts in force are {latest}.")


def _dead_letters(folder: Path) -> Finding:
    path = folder / "dead_letters.db"
    if not path.exists():
        return Finding(True, "Nothing was refused yet: there are no dead letters.")
    query = (
        "SELECT contract || '@' || version, code, count(*) FROM letters GROUP BY 1, 2 "
        "ORDER BY 3 DESC"
    )
    with closing(_opened(path)) as connection:
        damage = _damage(connection)
        rows: list[Any] = connection.execute(query).fetchall()
    if damage:
        return Finding(
            False,
            f"The dead letters in {path} are damaged ({damage}). Move the file away: it holds only "
            "what was refused, and a new one begins.",
        )
    counts = "; most are " + ", ".join(f"{n} {code} by {name}" for name, code, n in rows[:3])
    return Finding(
        True, f"{sum(row[2] for row in rows)} dead letters in {path}{counts if rows else ''}."
    )


def _keys(folder: Path) -> Finding:
    from onhand.serving.keys import ROLES, KeyFile

    file = KeyFile(folder)
    keys = file.read()
    if not keys:
        return Finding(True, "There are no keys: the server answers this machine only, and openly.")
    now_ms = time.time_ns() // 1_000_000
    valid = [key for key in keys if key.expires_ms is None or key.expires_ms > now_ms]
    counts = ", ".join(f"{sum(key.role == role for key in valid)} {role}" for role in ROLES)
    if file.path.stat().st_mode & 0o022:
        return Finding(False, f"Others may write {file.path}, and so make keys: chmod 600 it.")
    return Finding(
        bool(valid), f"{len(valid)} of {len(keys)} keys in {file.path} are valid: {counts}."
    )


def _models(folder: Path) -> Finding:
    from onhand.contracts.errors import OnhandError
    from onhand.contracts.models import DEFAULT, active
    from onhand.ranking.artefact import ModelStore

    store = ModelStore(folder / "models")
    labels = store.labels()
    named = active(_controls(folder))
    for label in {*labels, named.model} if named is not None else labels:
        try:
            artefact = store.load(label)
        except OnhandError as error:
            return Finding(False, error.message)
        if named is not None and label == named.model and artefact.sha256 != named.sha256:
            return Finding(False, f"Model {label} is not the one that was activated: other bytes.")
    return Finding(
        True, f"{len(labels)} models are whole; {named.model if named else DEFAULT} is active."
    )


def _controls(folder: Path) -> dict[str, dict[str, Any]]:
    """What the log says about the engine itself, by name: the last of each holds."""
    import msgspec

    from onhand.contracts.records import Control, Record

    path = folder / "log.db"
    if not path.exists():
        return {}
    decode = msgspec.msgpack.Decoder(list[Record]).decode
    query = "SELECT body FROM batches WHERE instr(body, ?) ORDER BY first"
    with closing(_opened(path)) as connection:
        bodies: list[Any] = connection.execute(query, (_OF_CONTROL,)).fetchall()
    records = (record for (body,) in bodies for record in decode(body))
    controls = {record.name: record.body for record in records if isinstance(record, Control)}
    return {name: body for name, body in controls.items() if body}


def _opened(path: Path) -> "apsw.Connection":
    import apsw

    return apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)


def _damage(connection: "apsw.Connection") -> str | None:
    """What is wrong with a file, if anything is."""
    verdict = connection.execute("PRAGMA integrity_check").fetchall()
    return None if verdict == [("ok",)] else str(verdict[0][0])


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    place = folder.absolute()
    while not place.is_dir():
        place = place.parent
    return place
