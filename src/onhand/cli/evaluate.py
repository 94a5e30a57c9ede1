"""`onhand evaluate`: how good the predictions are, measured on data held out."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from onhand.cli.learning import learning
from onhand.cli.progress import progress_bars

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
    with learning("offline"):
        from onhand.offline.session_evaluation import evaluate_files

        n_threads = min(4, os.cpu_count() or 1)
        with progress_bars() as report:
            result = evaluate_files(train, test, seed=seed, n_threads=n_threads, report=report)
    if as_json:
        typer.echo(json.dumps(_summary(result)))
    else:
        _print_table(result)


@app.command()
def shop(
    data: Annotated[
        Path | None,
        typer.Option(help="The data folder.", show_default="the bundled shop's two years"),
    ] = None,
    app_file: Annotated[
        Path | None, typer.Option("--app", help="The app file that the server runs.")
    ] = None,
    days: Annotated[int, typer.Option(help="How many last days are held out.", min=1)] = 60,
    most: Annotated[int, typer.Option(help="Moments to judge by, at most.", min=100)] = 6_000,
    examples: Annotated[int, typer.Option(help="Moments to learn from, at most.", min=500)] = 8_000,
    outside: Annotated[
        bool, typer.Option(help="Also fit a matrix factorization of `implicit`.")
    ] = True,
    report_file: Annotated[
        Path | None, typer.Option("--report", help="Write Markdown here, and a PNG beside it.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same figures.")] = 0,
) -> None:
    """Judge the whole system by what the shop's visitors went on to, split by time.

    A model learns from before the last days and ranks at moments within them, beside what is
    popular, each source alone, and a matrix factorization from outside. Intervals are of 95%.

    **Example**

    `onhand evaluate shop --data data --days 30 --report accuracy.md`
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # implicit asks for it
    with learning("evaluation"):
        from onhand.offline.shop.books import books
        from onhand.offline.shop_evaluation import evaluate_shop
        from onhand.offline.shop_report import markdown, write_report
        from onhand.offline.training import Training
        from onhand.past import Past
        from onhand.state.state import Limits
        from onhand.wiring import load_app, open_past

        declared = load_app(app_file)
        if data is None:
            limits = Limits(items=8_192, users=8_192, sessions=65_536)
            past = Past(books(), None, declared.features, limits)
        else:
            past = open_past(data, declared)
        n_threads = min(4, os.cpu_count() or 1)
        settings = Training(most=examples, n_threads=n_threads, seed=seed)
        with progress_bars() as report:
            result = evaluate_shop(past, days, most, settings, outside, report)
    typer.echo(markdown(result))
    if report_file is not None:
        for path in write_report(result, report_file):
            typer.echo(f"Written: {path}")


@app.command()
def impressions(
    log: Annotated[
        Path,
        typer.Argument(help="Parquet of sessions with shown lists, as the RecSys Challenge 2019."),
    ],
    held_out: Annotated[
        float,
        typer.Option(help="The share of sessions, the latest, to judge by.", min=0.05, max=0.5),
    ] = 0.2,
    as_json: Annotated[
        bool, typer.Option("--json", help="End with one JSON object instead of a table.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same figures.")] = 0,
) -> None:
    """Learn which item of a shown list is clicked, then re-rank the lists of later sessions.

    Beside it stand the order that was shown, and the item that the session touched last put first.
    """
    with learning("offline"):
        from onhand.offline.impressions import evaluate_impressions

        n_threads = min(4, os.cpu_count() or 1)
        with progress_bars() as report:
            result = evaluate_impressions(
                log, held_out, seed=seed, n_threads=n_threads, report=report
            )
    if as_json:
        typer.echo(json.dumps(result._asdict()))
        return
    table = Table(title=f"The clicked item of {result.lists:,} shown lists")
    table.add_column("")
    table.add_column("MRR", justify="right")
    table.add_row("onhand", f"{result.model:.4f}", style="bold")
    table.add_row("last touched first", f"{result.last_touched_first:.4f}")
    table.add_row("as shown", f"{result.shown_order:.4f}")
    Console().print(table)


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
