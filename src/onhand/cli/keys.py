"""`onhand keys`: who may send, read and administer. A running server follows within a second."""

import time
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onhand.cli.client import fail

if TYPE_CHECKING:
    from onhand.serving.keys import KeyFile

__all__ = ["app"]

HOUR_MS = 3_600_000

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown", help="Who may send, read and administer."
)

DataOption = Annotated[
    Path, typer.Option(help="The data folder of the server.", envvar="ONHAND_DATA")
]


class Role(StrEnum):
    """What a key is for."""

    ingest = "ingest"
    read = "read"
    admin = "admin"


@app.command()
def create(
    role: Annotated[Role, typer.Argument(help="What the key is for.")],
    data: DataOption = Path("data"),
    days: Annotated[
        float | None, typer.Option(help="It expires after so long.", min=0, show_default="never")
    ] = None,
    rate: Annotated[
        float, typer.Option(help="Requests a second it may make; 0 is no limit.", min=0)
    ] = 0,
    note: Annotated[str, typer.Option(help="Whose it is.")] = "",
) -> None:
    """Create a key and print it: the only time it can be seen.

    **Rotation**: create the new one, hand it out, then revoke the old one, `--hours` from now.
    """
    lifetime_ms = None if days is None else int(days * 24 * HOUR_MS)
    typer.echo(_file(data).create(role.value, _now_ms(), lifetime_ms, rate, note))


@app.command("list")
def list_keys(data: DataOption = Path("data")) -> None:
    """List the keys, without their secrets."""
    for key in _file(data).read():
        ends = "" if key.expires_ms is None else f"until {_day(key.expires_ms)}"
        if key.expires_ms is not None and key.expires_ms <= _now_ms():
            ends = "expired"
        rate = f"{key.rate:g}/s" if key.rate else ""
        typer.echo(
            f"{key.id}  {key.role:6}  since {_day(key.created_ms)}  {ends:22} {rate:8} {key.note}"
        )


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="The key's id, as `onhand keys list` shows it.")],
    data: DataOption = Path("data"),
    hours: Annotated[float, typer.Option(help="It holds so much longer.", min=0)] = 0,
) -> None:
    """Let a key expire."""
    from onhand.contracts.errors import OnhandError

    try:
        key = _file(data).revoke(name, _now_ms(), int(hours * HOUR_MS))
    except OnhandError as error:
        fail(error.message)
    typer.echo(f"{key.id} ({key.role}) holds until {_day(key.expires_ms or 0)}")


def _file(data: Path) -> "KeyFile":
    from onhand.serving.keys import KeyFile

    return KeyFile(data)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _day(moment_ms: int) -> str:
    return datetime.fromtimestamp(moment_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
