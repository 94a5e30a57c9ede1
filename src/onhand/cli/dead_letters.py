"""`onhand dead-letters`: what was refused, and its way back."""

from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from onhand.cli.client import Client, KeyOption, UrlOption

__all__ = ["app"]

URL = "http://127.0.0.1:8080"

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Records that were refused, kept as they came.",
)

Contract = Annotated[str | None, typer.Option(help="Only those of this contract.")]
Code = Annotated[str | None, typer.Option(help="Only those refused for this reason.")]
Number = Annotated[int | None, typer.Option(help="Only this one.", min=1)]


@app.command("list")
def list_letters(
    contract: Contract = None,
    code: Code = None,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=1000)] = 50,
    after: Annotated[int, typer.Option(help="Only those with higher numbers.", min=0)] = 0,
    url: UrlOption = URL,
    key: KeyOption = None,
) -> None:
    """List dead letters, the oldest first."""
    asked = {"contract": contract, "code": code, "limit": limit, "after": after}
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    for letter in Client(url, key).ask("GET", f"/v1/dead-letters?{query}"):
        label = f"{letter['contract']}@{letter['version']}"
        typer.echo(f"{letter['number']:>8}  {label:10} {letter['code']:16} {letter['message']}")


@app.command()
def show(
    number: Annotated[int, typer.Argument(help="The letter's number.", min=1)],
    url: UrlOption = URL,
    key: KeyOption = None,
) -> None:
    """Show one dead letter, with its bytes."""
    _print(Client(url, key).ask("GET", f"/v1/dead-letters/{number}"))


@app.command()
def stats(url: UrlOption = URL, key: KeyOption = None) -> None:
    """Count dead letters by contract and reason."""
    answer = Client(url, key).ask("GET", "/v1/dead-letters/stats")
    for each in answer["by_code"]:
        label = f"{each['contract']}@{each['version']}"
        typer.echo(f"{each['letters']:>8}  {label:10} {each['code']}")
    typer.echo(
        f"{answer['letters']:>8}  in all, {answer['bytes']} bytes; "
        f"{answer['left']} left by age or size"
    )


@app.command()
def retry(
    contract: Contract = None,
    code: Code = None,
    number: Number = None,
    url: UrlOption = URL,
    key: KeyOption = None,
) -> None:
    """Put in what today's contracts can read, each exactly once; the others stay."""
    answer = Client(url, key).ask("POST", "/v1/dead-letters/retry", _which(contract, code, number))
    typer.echo(
        "{accepted} accepted, {duplicates} duplicates, {refused} refused again, "
        "{remaining} remain".format(**answer)
    )


@app.command()
def purge(
    contract: Contract = None,
    code: Code = None,
    number: Number = None,
    everything: Annotated[bool, typer.Option("--all", help="Forget all of them.")] = False,
    url: UrlOption = URL,
    key: KeyOption = None,
) -> None:
    """Forget dead letters for good."""
    which = _which(contract, code, number)
    if not which and not everything:
        raise typer.BadParameter("Say which: --contract, --code, --number, or --all.")
    answer = Client(url, key).ask("POST", "/v1/dead-letters/purge", which)
    typer.echo(f"{answer['purged']} purged")


def _which(contract: str | None, code: str | None, number: int | None) -> dict[str, Any]:
    asked = {"contract": contract, "code": code, "number": number}
    return {name: value for name, value in asked.items() if value is not None}


def _print(answer: Any) -> None:
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())
