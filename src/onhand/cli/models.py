"""`onhand models`: what models there are, and which one ranks."""

from typing import Annotated

import typer

from onhand.cli.client import Client, KeyOption, UrlOption

__all__ = ["app"]

URL = "http://127.0.0.1:8080"

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown", help="Which trained model ranks."
)

Model = Annotated[str, typer.Argument(help="Name and version: `ranker@3`.")]


@app.command("list")
def list_models(url: UrlOption = URL, key: KeyOption = None) -> None:
    """List the models of the server's data folder; a star stands by the active one."""
    for each in Client(url, key).ask("GET", "/v1/models"):
        typer.echo(f"{'*' if each['active'] else ' '} {each['model']}")


@app.command()
def show(model: Model, url: UrlOption = URL, key: KeyOption = None) -> None:
    """Show the card of a model: its data, its figures, its most important features."""
    import msgspec

    card = Client(url, key).ask("GET", f"/v1/models/{model}")
    typer.echo(msgspec.json.format(msgspec.json.encode(card)).decode())


@app.command()
def activate(model: Model, url: UrlOption = URL, key: KeyOption = None) -> None:
    """Make a model active, without a restart, if it passes its checks."""
    answer = Client(url, key).ask("POST", f"/v1/models/{model}/activate")
    typer.echo(f"{answer['model']} ranks from now on.")


@app.command()
def deactivate(url: UrlOption = URL, key: KeyOption = None) -> None:
    """Go back to the default model."""
    answer = Client(url, key).ask("POST", "/v1/models/deactivate")
    typer.echo(f"{answer['model']} ranks from now on.")
