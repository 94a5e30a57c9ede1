"""`onhand ingest`: files of records into a server, or straight into a data folder."""

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from onhand.cli.client import Client, KeyOption, UrlOption, fail

if TYPE_CHECKING:
    from onhand.contracts.shapes import Kind as RecordKind

__all__ = ["Kind", "ingest"]

BATCH_RECORDS = 1_000
ERRORS_SHOWN = 10

Report = dict[str, Any]


class Kind(StrEnum):
    """What the records of a file are."""

    events = "events"
    items = "items"
    signals = "signals"


class _Chunk(NamedTuple):
    """Some records, the place of the first in the file, the bytes read so far, the format."""

    body: bytes
    first: int
    position: int
    media: str = "application/x-ndjson"


Files = Annotated[
    list[Path],
    typer.Argument(
        help="JSON arrays, NDJSON, CSV, Parquet, Avro (.avro), Protobuf (.pb: messages, each "
        "behind its length).",
        exists=True,
        dir_okay=False,
        readable=True,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(help="Write to this data folder instead; no server may be running on it."),
]
Mapping = Annotated[
    list[str] | None,
    typer.Option("--map", help="`field=column`, for columns of another name. Repeat it."),
]
Constants = Annotated[
    list[str] | None, typer.Option("--set", help="`field=value`, for every row. Repeat it.")
]
Zone = Annotated[
    str | None, typer.Option(help="The zone of times that name none, like `Europe/London`.")
]
Guess = Annotated[
    bool, typer.Option("--guess", help="Propose a mapping of the columns, and send nothing.")
]


def ingest(
    files: Files,
    kind: Annotated[Kind, typer.Option(help="What the records are.")] = Kind.events,
    url: UrlOption = "http://127.0.0.1:8080",
    key: KeyOption = None,
    data: Data = None,
    mapping: Mapping = None,
    constants: Constants = None,
    zone: Zone = None,
    guess: Guess = False,
) -> None:
    """Send files of records. Bad ones are listed, the others are kept; exit 1 if any was bad.

    **Examples**

    `onhand ingest items.ndjson --kind items`

    `onhand ingest events-*.json --url http://127.0.0.1:9000`

    `onhand ingest history.ndjson --data data`

    `onhand ingest orders.csv --guess`

    `onhand ingest orders.csv --map item=StockCode --set type=purchase --zone Europe/London`
    """
    if guess:
        _propose(files, kind)
        return
    rows = _Rows(kind, _pairs(mapping, "--map"), _pairs(constants, "--set"), zone)
    target = _Folder(data, kind) if data else _Server(url, kind, key)
    try:
        totals = _send(files, rows, target)
    finally:
        target.close()
    typer.echo("{accepted} accepted, {duplicates} duplicates, {rejected} rejected".format(**totals))
    raise typer.Exit(1 if totals["rejected"] else 0)


def _send(files: list[Path], rows: "_Rows", target: "_Folder | _Server") -> dict[str, int]:
    """Send files with a progress bar; return how many records met which end."""
    import sys

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[records]:,} records"),
        TimeElapsedColumn(),
    )
    totals = {"accepted": 0, "duplicates": 0, "rejected": 0}
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
        for path in files:
            task = progress.add_task(path.name, total=path.stat().st_size, records=0)
            for chunk in _chunks(path, rows):
                report = target.send(chunk, str(path))
                for name in totals:
                    totals[name] += report[name]
                _show_errors(console, path, chunk.first, report)
                progress.update(task, completed=chunk.position, records=sum(totals.values()))
    return totals


def _show_errors(console: Any, path: Path, first: int, report: Report) -> None:
    for error in report["errors"][:ERRORS_SHOWN]:
        place = first + error["index"] + 1
        console.print(f"{path}: record {place}: {error['message']}", markup=False)


class _Rows(NamedTuple):
    """What the options say about the rows of tables."""

    kind: Kind
    mapping: dict[str, str]
    constants: dict[str, str]
    zone: str | None


def _pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts or ():
        field, equals, value = text.partition("=")
        if not equals:
            fail(f"{option} {text} is not of the form field=value")
        pairs[field] = value
    return pairs


def _propose(files: list[Path], kind: Kind) -> None:
    import shlex

    from onhand.cli.tables import columns_of, guess

    for path in files:
        found = guess(columns_of(path), kind.value)
        options = [f"--map {shlex.quote(f'{field}={column}')}" for field, column in found.items()]
        typer.echo(f"onhand ingest {path} --kind {kind.value} {' '.join(options)}")


def _chunks(path: Path, rows: _Rows) -> Iterator[_Chunk]:
    from onhand.cli.tables import SUFFIXES

    if path.suffix in SUFFIXES:
        yield from _table_chunks(path, rows)
    elif path.suffix in (".pb", ".binpb"):
        yield from _message_chunks(path)
    else:
        yield from _json_chunks(path)


def _table_chunks(path: Path, rows: _Rows) -> Iterator[_Chunk]:
    from itertools import islice
    from zoneinfo import ZoneInfo

    import msgspec

    from onhand.cli.tables import Shape, rows_of

    encode, size = msgspec.json.Encoder().encode_lines, path.stat().st_size
    try:
        zone = ZoneInfo(rows.zone) if rows.zone else None
        shape = Shape(rows.kind.value, rows.mapping, rows.constants, zone)
        first, source = 0, rows_of(path)
        while part := [shape.record(row) for row in islice(source, BATCH_RECORDS)]:
            yield _Chunk(encode(part), first, size)
            first += len(part)
    except ModuleNotFoundError as error:
        extra = "offline" if error.name == "polars" else "formats"
        fail(f"{path} needs {error.name}: pip install 'onhand[{extra}]'")
    except (ValueError, OSError, KeyError) as error:
        fail(f"{path} cannot be read: {error}")


def _message_chunks(path: Path) -> Iterator[_Chunk]:
    from onhand.contracts.avro import read_varint
    from onhand.contracts.errors import Invalid

    content = path.read_bytes()
    begin = position = first = count = 0
    try:
        while position < len(content):
            size, position = read_varint(content, position, zigzag=False)
            position += size
            count += 1
            if count == BATCH_RECORDS or position >= len(content):
                yield _Chunk(content[begin:position], first, position, "application/x-protobuf")
                first, count, begin = first + count, 0, position
    except Invalid as error:
        fail(f"{path} is not messages behind their lengths: {error}")


def _json_chunks(path: Path) -> Iterator[_Chunk]:
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
        fail(f"{path} is not a JSON array: {error}")
    for first in range(0, len(records), BATCH_RECORDS):
        part = records[first : first + BATCH_RECORDS]
        body = b"".join(bytes(record).replace(b"\n", b" ") + b"\n" for record in part)
        position = len(content) * (first + len(part)) // len(records)
        yield _Chunk(body, first, position)


class _Server:
    """Sends to a server."""

    def __init__(self, url: str, kind: Kind, key: str | None) -> None:
        self._url = url
        self._path = f"/v1/{kind.value}"
        self._method = "PUT" if kind is Kind.items else "POST"
        self._client = Client(url, key)
        self.close = self._client.close

    def send(self, chunk: _Chunk, _source: str) -> Report:
        """Return what became of some records."""
        status, answer = self._client.send(self._method, self._path, chunk.body, chunk.media)
        if status not in (202, 422):
            detail = answer.get("detail") if isinstance(answer, dict) else answer[:200]
            fail(f"{self._url} refused a batch: {detail}")
        return answer


class _Folder:
    """Writes to a data folder, which no server may run on."""

    def __init__(self, data: str, kind: Kind) -> None:
        from onhand.contracts.errors import OnhandError
        from onhand.settings import Settings
        from onhand.wiring import build_engine, open_dead_letters

        settings = Settings(data=data)
        self._kind: RecordKind = kind.value
        try:
            self._engine = build_engine(settings)
            self._engine.load()
            self._letters = open_dead_letters(settings)
        except OnhandError as error:
            fail(error.message)

    def send(self, chunk: _Chunk, source: str) -> Report:
        """Return what became of some records."""
        import time

        import msgspec

        from onhand.contracts import batch
        from onhand.contracts.errors import OnhandError
        from onhand.contracts.formats import parse
        from onhand.contracts.letters import letters_of
        from onhand.steps import finish

        now_ms, registry = time.time_ns() // 1_000_000, self._engine.contracts
        try:
            parsed = parse(registry, self._kind, chunk.media, chunk.body, now_ms)
        except OnhandError as error:
            fail(f"{source}: {error.message}")
        report = self._engine.write([parsed.records], now_ms)[0]
        gate = registry.gate(self._kind)
        refused = batch.refusals(gate, parsed, report)
        if refused:
            writing = letters_of(gate, refused, parsed.part, source[:512], chunk.media, now_ms)
            self._letters.append(finish(writing))
        answer: Report = msgspec.to_builtins(batch.merge(parsed, report))
        return answer

    def close(self) -> None:
        """Checkpoint, and let go of the files."""
        self._letters.close()
        self._engine.close()
