"""The command line. What a command needs is imported when it runs, so that help is instant."""

import sys
from importlib import import_module
from typing import Final, NamedTuple, NoReturn

import typer

from onhand import __version__
from onhand.cli.doctor import doctor
from onhand.cli.ingest import ingest
from onhand.cli.serve import serve

__all__ = ["app", "main"]

app = typer.Typer(
    name="onhand",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""What should this visitor see, right now? And never something that is gone.

    **Begin**:  `onhand serve --data data`, then open http://127.0.0.1:8080

    **See it work**:  `onhand demo`

    **Load a catalogue**:  `onhand ingest items.ndjson --kind items`
    """,
)
app.command()(serve)
app.command()(ingest)
app.command()(doctor)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


class _Later(NamedTuple):
    """A command whose module is imported only when it is called."""

    module: str
    attribute: str
    summary: str


_LATER: Final = {
    "contracts": _Later("onhand.cli.contracts", "app", "What records must look like."),
    "dead-letters": _Later("onhand.cli.dead_letters", "app", "What was refused, and its way back."),
    "keys": _Later("onhand.cli.keys", "app", "Who may send, read and administer."),
    "models": _Later("onhand.cli.models", "app", "Which trained model ranks."),
    "demo": _Later("onhand.cli.demo", "demo", "Play a real shop live on this machine."),
    "simulate": _Later("onhand.cli.simulate", "app", "A flash sale, and what goes wrong in it."),
    "prepare": _Later("onhand.cli.prepare", "prepare", "Make a restart with a new app quick."),
    "replay": _Later("onhand.cli.replay", "replay", "Make past decisions again, and compare."),
    "explain": _Later("onhand.cli.replay", "explain", "Show every candidate of a past decision."),
    "features": _Later("onhand.cli.features", "app", "List, backfill and compare features."),
    "train": _Later("onhand.cli.train", "train", "Learn a ranker from the log."),
    "evaluate": _Later("onhand.cli.evaluate", "app", "Measure accuracy on recorded sessions."),
}
_OFFLINE: Final = ("polars", "lightgbm", "scipy")


def main() -> None:
    """The entry point `onhand`."""
    called = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    for name, later in _LATER.items():
        if name == called:
            _mount(name, later)
        else:
            app.command(name, help=later.summary)(_not_loaded)
    app()


def _mount(name: str, later: _Later) -> None:
    try:
        command = getattr(import_module(later.module), later.attribute)
    except ModuleNotFoundError as error:
        _refuse_import(name, error)
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name, help=later.summary)
    else:
        app.command(name)(command)


def _refuse_import(name: str, error: ModuleNotFoundError) -> NoReturn:
    if error.name in _OFFLINE:
        typer.echo(f"`onhand {name}` needs {error.name}: pip install 'onhand[offline]'", err=True)
        raise SystemExit(1)
    raise error


def _not_loaded() -> None:
    """Stands for a command in the list of all."""
