"""`onhand prepare`: what a new version of an app needs, made while the old one serves."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onhand.cli.client import fail

if TYPE_CHECKING:
    from onhand.past import Past
    from onhand.state.state import State

__all__ = ["prepare"]


def prepare(
    app: Annotated[Path, typer.Argument(help="The Python file of the new app.")],
    data: Annotated[Path, typer.Option(help="The data folder; a server may run on it.")] = Path(
        "data"
    ),
) -> None:
    """Fold the log with the features of a new app, so that a start with it is quick.

    Writes a checkpoint beside those of the app that serves, and reads the log only. What comes
    meanwhile is folded at the start. Takes as much memory as the server.

    **Example**

    `onhand prepare shop.py --data data`, then start the server anew with `shop.py`
    """
    from onhand import wiring
    from onhand.contracts.errors import OnhandError

    try:
        declared = wiring.load_app(app)
        past = wiring.open_past(data, declared)
        began_s = time.monotonic()
        state = _fold(past)
        for name, draft in declared.events.items():
            state.contracts.declare(name, draft)
        past.save(state)
    except OnhandError as error:
        fail(error.message)
    typer.echo(
        f"{app} is prepared up to offset {state.offset:,}, in {time.monotonic() - began_s:.1f} s."
    )


def _fold(past: "Past") -> "State":
    """Return the state at the end of the log, with a progress bar."""
    from rich.progress import Progress

    with Progress(transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("folding", total=past.last)
        return next(
            past.states([past.last], lambda offset: progress.update(task, completed=offset))
        )
