"""`onhand prepare`: what a new version of an app needs, made while the old one serves."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onhand.cli.client import fail

if TYPE_CHECKING:
    from onhand.app import App
    from onhand.contracts.requests import Slot
    from onhand.decision.models import Models
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
    meanwhile is folded at the start. Takes as much memory as the server. Where a model is active,
    it also ranks ahead for the most active visitors, so that the start is warm; a server that
    stops meanwhile keeps its own lists instead.

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
        made = _rank(state, wiring.open_models(data, declared), declared, data / "lists")
    except OnhandError as error:
        fail(error.message)
    typer.echo(
        f"{app} is prepared up to offset {state.offset:,}, with {made:,} lists, in "
        f"{time.monotonic() - began_s:.1f} s."
    )


def _fold(past: "Past") -> "State":
    """Return the state at the end of the log, with a progress bar."""
    from rich.progress import Progress

    with Progress(transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("folding", total=past.last)
        return next(
            past.states([past.last], lambda offset: progress.update(task, completed=offset))
        )


def _rank(state: "State", models: "Models", app: "App", folder: Path) -> int:
    """Make lists for those who are likely to come, with a progress bar; return how many."""
    from rich.progress import track

    from onhand.decision.lists import Lists, likely
    from onhand.decision.prepared import make_scratch, prepare
    from onhand.retrieval.sight import find_visitor, sight_of

    models.follow(state.controls)
    ranker = models.ranker
    if ranker is None:
        return 0
    lists, sight, scratch = Lists(), sight_of(state), make_scratch(state)
    ahead: list[Slot] = [slot for slot, rule in app.slots.items() if rule.ahead]
    now_ms = time.time_ns() // 1_000_000
    whoms = likely(state, ahead, lists.capacity)[::-1]  # the latest used last, as they leave last
    for whom in track(whoms, "ranking", transient=True, disable=not sys.stderr.isatty()):
        visitor = find_visitor(state, whom.request())
        lists.put(whom, prepare(state, sight, ranker, visitor, now_ms, scratch))
    lists.save(folder, state.offset)
    return len(lists)
