"""`onhand ingest`: files of records into a server, or straight into a data folder."""

from collections.abc import Callable, Iterator
from enum import StrEnum
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn
from urllib.parse import urlsplit

import typer

__all__ = ["Kind", "ingest"]

BATCH_RECORDS = 1_000
ERRORS_SHOWN = 10

Report = dict[str, Any]
Send = Callable[[bytes], Report]


class Kind(StrEnum):
    """What the records of a file are."""

    events = "events"
    items = "items"
    signals = "signals"


class _Chunk(NamedTuple):
    """Some records as NDJSON, the place of the first in the file, and the bytes read so far."""

    body: bytes
    first: int
    position: int


def ingest(
    files: Annotated[
        list[Path],
        typer.Argument(help="JSON arrays or NDJSON.", exists=True, dir_okay=False, readable=True),
    ],
    kind: Annotated[Kind, typer.Option(help="What the records are.")] = Kind.events,
    url: Annotated[str, typer.Option(help="The running server.")] = "http://127.0.0.1:8080",
    data: Annotated[
        str | None,
        typer.Option(help="Write to this data folder instead; no server may be running on it."),
    ] = None,
) -> None:
    """Send files of records. Bad ones are listed, the others are kept; exit 1 if any was bad.

    **Examples**

    `onhand ingest items.ndjson --kind items`

    `onhand ingest events-*.json --url http://127.0.0.1:9000`

    `onhand ingest history.ndjson --data data`
    """
    import sys

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    totals = {"accepted": 0, "duplicates": 0, "rejected": 0}
    send, close = _to_folder(data, kind) if data else _to_server(url, kind)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[records]:,} records"),
        TimeElapsedColumn(),
    )
    try:
        with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
            for path in files:
                task = progress.add_task(path.name, total=path.stat().st_size, records=0)
                for chunk in _chunks(path):
                    report = send(chunk.body)
                    for name in totals:
                        totals[name] += report[name]
                    _show_errors(console, path, chunk.first, report)
                    progress.update(task, completed=chunk.position, records=sum(totals.values()))
    finally:
        close()
    typer.echo("{accepted} accepted, {duplicates} duplicates, {rejected} rejected".format(**totals))
    raise typer.Exit(1 if totals["rejected"] else 0)


def _show_errors(console: Any, path: Path, first: int, report: Report) -> None:
    for error in report["errors"][:ERRORS_SHOWN]:
        place = first + error["index"] + 1
        console.print(f"{path}: record {place}: {error['message']}", markup=False)


def _chunks(path: Path) -> Iterator[_Chunk]:
    with path.open("rb") as file:
        start = file.read(64).lstrip()
        file.seek(0)
        if start.startswith(b"["):
            yield from _array_chunks(path, file.read())
            return
        lines: list[bytes] = []
        first = 0
        position = 0
        for line in file:
            position += len(line)
            if line.strip():
                lines.append(line if line.endswith(b"\n") else line + b"\n")
            if len(lines) == BATCH_RECORDS:
                yield _Chunk(b"".join(lines), first, position)
                first += len(lines)
                lines.clear()
        if lines:
            yield _Chunk(b"".join(lines), first, position)


def _array_chunks(path: Path, content: bytes) -> Iterator[_Chunk]:
    import msgspec

    try:
        records = msgspec.json.decode(content, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _fail(f"{path} is not a JSON array: {error}")
    for first in range(0, len(records), BATCH_RECORDS):
        part = records[first : first + BATCH_RECORDS]
        body = b"".join(bytes(record).replace(b"\n", b" ") + b"\n" for record in part)
        position = len(content) * (first + len(part)) // len(records)
        yield _Chunk(body, first, position)


def _to_server(url: str, kind: Kind) -> tuple[Send, Callable[[], None]]:
    import msgspec

    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        _fail(f"{url} is not the address of a server; give one like http://127.0.0.1:8080")
    connection = HTTPConnection(parts.hostname, parts.port or 80, timeout=60)
    method = "PUT" if kind is Kind.items else "POST"

    def send(body: bytes) -> Report:
        headers = {"content-type": "application/x-ndjson"}
        try:
            connection.request(method, f"/v1/{kind.value}", body, headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, HTTPException) as error:
            _fail(f"{url} does not answer ({error}). Is it running? `onhand serve` starts one.")
        answer: Report = msgspec.json.decode(content)
        if response.status not in (202, 422):
            _fail(f"{url} refused a batch: {answer.get('detail', content[:200])}")
        return answer

    return send, connection.close


def _to_folder(data: str, kind: Kind) -> tuple[Send, Callable[[], None]]:
    import time

    import msgspec

    from onhand.contracts import batch
    from onhand.contracts.errors import OnhandError
    from onhand.settings import Settings
    from onhand.wiring import build_engine

    parse = {
        Kind.events: batch.parse_events,
        Kind.items: batch.parse_items,
        Kind.signals: batch.parse_signals,
    }[kind]
    try:
        engine = build_engine(Settings(data=data))
        engine.load()
    except OnhandError as error:
        _fail(error.message)

    def send(body: bytes) -> Report:
        now_ms = time.time_ns() // 1_000_000
        parsed = parse(body, True, now_ms, batch.LIMITS)
        report = batch.merge(parsed, engine.ingest(parsed.records, now_ms), batch.LIMITS)
        answer: Report = msgspec.to_builtins(report)
        return answer

    return send, engine.close


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)
