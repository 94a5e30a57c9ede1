"""`onhand contracts`: what records must look like, and what may change."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from onhand.cli.client import Client, KeyOption, UrlOption, fail

__all__ = ["app"]

URL = "http://127.0.0.1:8080"

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown", help="What records must look like."
)


class Form(StrEnum):
    """The form of a contract."""

    contract = "contract"
    json = "json"
    avro = "avro"
    protobuf = "protobuf"


Name = Annotated[
    str, typer.Argument(help="`events`, `items`, `signals`, or an event type of the app's own.")
]
Version = Annotated[
    int | None, typer.Option(help="Which version.", show_default="the latest", min=1)
]
DraftFile = Annotated[
    Path, typer.Argument(help="A draft in JSON: what changes.", exists=True, dir_okay=False)
]


@app.command("list")
def list_contracts(url: UrlOption = URL, key: KeyOption = None) -> None:
    """List the latest version of every contract."""
    for contract in Client(url, key).ask("GET", "/v1/contracts"):
        fields = contract["fields"].values()
        required = sum(1 for field in fields if field.get("required"))
        name = f"{contract['name']}@{contract.get('version', 1)}"
        typer.echo(f"{name:20} {len(fields):3} fields, {required} required")


@app.command()
def show(name: Name, version: Version = None, url: UrlOption = URL, key: KeyOption = None) -> None:
    """Show all that a contract says."""
    typer.echo(_text(_fetch(Client(url, key), name, Form.contract, version)))


@app.command()
def export(
    name: Name,
    form: Annotated[Form, typer.Option("--format", help="Which schema.")] = Form.json,
    version: Version = None,
    output: Annotated[
        Path | None, typer.Option(help="The file to write.", show_default="standard output")
    ] = None,
    url: UrlOption = URL,
    key: KeyOption = None,
) -> None:
    """Write the schema for producers: JSON Schema, Avro (.avsc) or Protobuf (.proto).

    **Example**

    `onhand contracts export events --format avro --output events.avsc`
    """
    text = _text(_fetch(Client(url, key), name, form, version))
    if output is None:
        typer.echo(text)
    else:
        output.write_text(text + "\n")


@app.command()
def check(name: Name, file: DraftFile, url: UrlOption = URL, key: KeyOption = None) -> None:
    """Check whether a draft may become the next version; exit 1 if not."""
    _send(Client(url, key), f"/v1/contracts/{name}/check", file, "would be")


@app.command()
def register(name: Name, file: DraftFile, url: UrlOption = URL, key: KeyOption = None) -> None:
    """Register a draft as the next version."""
    _send(Client(url, key), f"/v1/contracts/{name}", file, "is")


def _send(client: Client, path: str, file: Path, verb: str) -> None:
    import msgspec

    try:
        draft = msgspec.json.decode(file.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        fail(f"{file} is not JSON: {error}")
    contract = client.ask("POST", path, draft)
    typer.echo(f"{file} {verb} {contract['name']}@{contract.get('version', 1)}")


def _fetch(client: Client, name: str, form: Form, version: int | None) -> Any:
    suffix = f"&version={version}" if version else ""
    return client.ask("GET", f"/v1/contracts/{name}?format={form.value}{suffix}")


def _text(answer: Any) -> str:
    import msgspec

    if isinstance(answer, str):
        return answer.rstrip()
    return msgspec.json.format(msgspec.json.encode(answer), indent=2).decode()
