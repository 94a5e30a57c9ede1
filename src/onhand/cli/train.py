"""`onhand train`: a ranker from the shop's own log."""

import os
from pathlib import Path
from typing import Annotated

import typer

from onhand.cli.learning import learning
from onhand.cli.progress import progress_bars

__all__ = ["train"]


def train(
    data: Annotated[Path, typer.Option(help="The data folder; a server may run on it.")] = Path(
        "data"
    ),
    app: Annotated[Path | None, typer.Option(help="The app file that the server runs.")] = None,
    name: Annotated[str, typer.Option(help="What to call the model.")] = "ranker",
    days: Annotated[int, typer.Option(help="How far back to learn from.", min=1)] = 180,
    most: Annotated[int, typer.Option(help="Examples, at most: memory.", min=500)] = 10_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same model.")] = 0,
) -> None:
    """Learn from the log what visitors go on to, and write the model into the data folder.

    It ranks nothing until it is activated: `onhand models activate ranker@1`.

    **Example**

    `onhand train --data data`
    """
    with learning("offline"):
        from onhand.offline.training import Training
        from onhand.offline.training import train as learn
        from onhand.ranking.artefact import ModelStore
        from onhand.ranking.model import parse_label
        from onhand.wiring import load_app, open_past

        store = ModelStore(data / "models")
        n_threads = min(4, os.cpu_count() or 1)
        settings = Training(days=days, most=most, n_threads=n_threads, seed=seed)
        parse_label(f"{name}@1")
        with progress_bars() as report:
            past = open_past(data, load_app(app))
            model, card = learn(past, name, store.next_version(name), settings, report)
        store.save(model, card)
    typer.echo(f"{model.label} in {card.seconds:.0f} s from {card.data.examples:,} examples:")
    for each, quality in card.quality.items():
        typer.echo(f"  {each:10} NDCG@10 {quality.ndcg:.4f}  HR@10 {quality.hit_rate:.4f}")
    typer.echo(f"Activate it: onhand models activate {model.label}")
