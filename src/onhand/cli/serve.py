"""`onhand serve`: the server."""

from pathlib import Path
from typing import Annotated, NoReturn

import typer

__all__ = ["serve"]


def serve(
    app: Annotated[
        Path | None,
        typer.Argument(
            help="A Python file that declares an App.", show_default="the ready-made app"
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Folder of the log; made if new.", show_default="data")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; 0 takes a free one.", show_default="8080")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Settings file.", show_default="onhand.toml, where there is one"),
    ] = None,
) -> None:
    """Serve pages and take records, until Ctrl-C or SIGTERM.

    The server listens at once and folds its log; `/readyz` says when it can answer. All settings
    are in docs/settings.md; each is also an environment variable, like `ONHAND_PORT=9000`.

    **Examples**

    `onhand serve`

    `onhand serve shop.py --data shop`

    `onhand serve --data /var/lib/onhand --port 9000`

    `curl 'http://127.0.0.1:8080/v1/recommend/home?session=s1'`
    """
    import logging

    from onhand.contracts.errors import OnhandError
    from onhand.settings import SettingsError, read_settings

    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", force=True
    )
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    try:
        settings = read_settings(config, options={"data": data, "host": host, "port": port})
    except SettingsError as error:
        _fail(str(error))

    from onhand import wiring

    try:
        stopped_by_request = wiring.serve(settings, app)
    except OSError as error:
        _fail(
            f"Cannot listen on {settings.host}:{settings.port} or use {settings.data}: "
            f"{error.strerror or error}. Choose another with --port, --host or --data."
        )
    except OnhandError as error:
        _fail(error.message)
    raise typer.Exit(0 if stopped_by_request else 1)


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)
