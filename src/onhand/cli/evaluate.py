"""`onhand evaluate`: how good the predictions are, measured on data held out."""

import json
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from onhand.offline.session_evaluation import Evaluation

__all__ = ["app"]

app = typer.Typer(help="Measure how good predictions are, on data held out.", no_args_is_help=True)


@app.callback()
def evaluate() -> None:
    """Measure how good predictions are, on data held out."""


@app.command()
def sessions(
    train: Annotated[
        Path, typer.Option(help="Parquet: rows (session, item, time[, category]) or lists (items).")
    ],
    test: Annotated[
        Path, typer.Option(help="Parquet: rows as in training, or lists (prefix, label).")
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="End with one JSON object instead of a table.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same accuracy.")] = 0,
) -> None:
    """Learn from training sessions, then predict the next item of test sessions.

    All items are ranked, those of the session among them. Every click of a test session but its
    first is one prediction from the clicks before it (with lists: each label from its prefix);
    an item never seen in training counts as a miss. What is tuned is tuned on the newest tenth
    of the training sessions.
    """
    # Threads that spin while they wait make training ten times slower beside other work.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        from onhand.offline.session_data import SessionDataError
        from onhand.offline.session_evaluation import evaluate_files
    except ModuleNotFoundError as error:
        raise _failure(f"{error}: install it with `pip install 'onhand[offline]'`.") from None
    n_threads = min(4, os.cpu_count() or 1)
    try:
        with _progress() as report:
            result = evaluate_files(train, test, seed=seed, n_threads=n_threads, report=report)
    except SessionDataError as error:
        raise _failure(str(error)) from None
    if as_json:
        typer.echo(json.dumps(_summary(result)))
    else:
        _print_table(result)


def _failure(message: str) -> typer.Exit:
    typer.echo(f"Error: {message}", err=True)
    return typer.Exit(2)


@contextmanager
def _progress() -> Generator[Callable[[str, int, int], None], None, None]:
    """Progress bars on standard error, on a terminal only."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:28}"), BarColumn(), TimeElapsedColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done)

        yield report


def _summary(result: "Evaluation") -> dict[str, float]:
    """The model's figures as the fields of the JSON answer."""
    model = result.model
    return {
        "hr@20": model.hit_rate,
        "mrr@20": model.mean_reciprocal_rank,
        "ndcg@20": model.ndcg,
        "coverage@20": model.coverage,
        "n": result.n_predictions,
        "p50_us": result.latency.p50_us,
        "p99_us": result.latency.p99_us,
    }


def _print_table(result: "Evaluation") -> None:
    console = Console()
    table = Table(title=f"Next item, {result.n_predictions:,} predictions, all items ranked")
    table.add_column("")
    for name in ("HR@20", "MRR@20", "NDCG@20", "coverage@20"):
        table.add_column(name, justify="right")
    for name, accuracy in {"onhand": result.model, **result.baselines}.items():
        figures = (accuracy.hit_rate, accuracy.mean_reciprocal_rank, accuracy.ndcg)
        cells = [f"{figure:.4f}" for figure in (*figures, accuracy.coverage)]
        table.add_row(name, *cells, style="bold" if name == "onhand" else "")
    console.print(table)
    latency = result.latency
    console.print(
        f"One prediction on one thread: p50 {latency.p50_us:.0f}, p90 {latency.p90_us:.0f}, "
        f"p99 {latency.p99_us:.0f} microseconds."
    )


if __name__ == "__main__":
    app()
