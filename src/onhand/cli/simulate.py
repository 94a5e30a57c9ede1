"""`onhand simulate`: a flash sale against the real server, with the usual stack beside it."""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from onhand.app import App
from onhand.contracts.errors import OnhandError
from onhand.contracts.models import control_of
from onhand.engine import Engine
from onhand.offline.shop.play import HISTORY_DAYS, UNTIL, Play
from onhand.offline.shop.server import ServerError
from onhand.offline.shop.store import load_shop
from onhand.offline.simulation.figure import draw_figure, require_matplotlib
from onhand.offline.simulation.overload import CONNECTIONS, draw_overload, plan_drill
from onhand.offline.simulation.plan import Phase, Shop
from onhand.offline.simulation.report import draw_report, progress_line
from onhand.offline.simulation.run import DIRECT, Fault, Front, Result, run_sale
from onhand.offline.simulation.score import Clicked, Second
from onhand.offline.simulation.without import Foresight, compare_foresight
from onhand.ranking.artefact import ModelStore
from onhand.serving.faults import FAULTS
from onhand.serving.memory import refuse_huge_pages
from onhand.wiring import open_models, open_past

__all__ = ["app"]

PLAIN_LINE_S = 5
REPORT_COLUMNS = 100
EXAMPLES, HELD_OUT, TREES = 2_000, 400, 80
"""A ranker that is learned in seconds; `onhand train` takes five times the examples."""

app = typer.Typer(no_args_is_help=True)


@app.callback()
def simulate() -> None:
    """Drive the real server through what goes wrong in shops, and check every answer."""


Rate = Annotated[float, typer.Option(min=1, max=50_000, help="Page reads a second.")]
Events = Annotated[float, typer.Option(min=0, max=50_000, help="Events a second.")]
StockChanges = Annotated[
    float, typer.Option(min=0, max=10_000, help="Stock and price changes, holds, a second.")
]
Seed = Annotated[int, typer.Option(min=0, help="The same seed plans the same sale.")]
Out = Annotated[Path | None, typer.Option(help="Folder for a figure and a JSON of the run.")]
Ranker = Annotated[
    bool,
    typer.Option(
        "--ranker/--no-ranker",
        help="Train a small ranker first, which then works behind the pages.",
    ),
]
HistoryDays = Annotated[
    int, typer.Option(min=1, max=90, help="Days of the shop's past to load first.")
]


@app.command("flash-sale")
def flash_sale(
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="How long it lasts.")] = 60,
    rate: Rate = 2800,
    events: Events = 1000,
    stock_changes: StockChanges = 200,
    seed: Seed = 7,
    fault: Annotated[
        str | None, typer.Option(help=f"Break something: {', '.join(FAULTS)}.")
    ] = None,
    fault_at: Annotated[int, typer.Option(min=2, help="When it breaks, in seconds.")] = 20,
    fault_seconds: Annotated[int, typer.Option(min=1, help="For how long.")] = 10,
    out: Out = None,
    history_days: HistoryDays = HISTORY_DAYS,
    ranker: Ranker = True,
) -> None:
    """Sell out a real gift shop within seconds, and count what was shown though it was gone.

    The same lists behind caches of 2 and 30 seconds are counted beside it. docs/simulate.md says
    how to read the report. The exit status is 1 when an acknowledged sell-out was shown, a record
    was refused, or an acknowledged event was lost.
    """
    broken = _fault(fault, fault_at, fault_seconds, seconds)
    phases = [Phase(seconds, rate, events, stock_changes)]
    name = "flash-sale" if broken is None else f"flash-sale-{broken.name}"
    with _refusals() as console:
        sale = _Sale(console, history_days, ranker, seed, out)
        _end(sale.play(phases, name, broken))


@app.command()
def overload(
    seconds: Annotated[int, typer.Option(min=3, max=600, help="How long the overload lasts.")] = 60,
    times: Annotated[float, typer.Option(min=1, max=50, help="Times the usual load.")] = 10,
    connections: Annotated[
        int, typer.Option(min=1, max=4000, help="Over which pages come; others are turned away.")
    ] = CONNECTIONS,
    rate: Rate = 2800,
    events: Events = 1000,
    stock_changes: StockChanges = 200,
    seed: Seed = 7,
    out: Out = None,
    history_days: HistoryDays = HISTORY_DAYS,
    ranker: Ranker = True,
) -> None:
    """Send ten times the usual load for a minute, and count what is still answered in time.

    The usual load comes before and after it, then a climb that finds the server's peak.
    """
    drill = plan_drill(Phase(0, rate, events, stock_changes), times, seconds, connections)
    with _refusals() as console:
        sale = _Sale(console, history_days, ranker, seed, out)
        result = sale.play(
            drill.phases, "overload", drill.overload, drill.front, (drill.calm_end_s,)
        )
        console.print(draw_overload(result))
        _end(result)


def _fault(name: str | None, at_s: float, for_s: float, seconds: float) -> Fault | None:
    """The fault that is asked for; it must be known, and end before the sale does."""
    if name is None:
        return None
    if name not in FAULTS:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(FAULTS)}", param_hint="--fault")
    if at_s + for_s >= seconds:
        raise typer.BadParameter(
            f"it ends at {at_s + for_s:g} s, and the sale at {seconds:g} s; there is nothing to "
            "see of the time after it",
            param_hint="--fault-at",
        )
    return Fault(name, at_s, for_s)


@contextmanager
def _refusals() -> Generator[Console]:
    """A console, and a sentence where something ends the run; whoever ends it, the server ends
    too."""
    console = Console(width=None if sys.stdout.isatty() else REPORT_COLUMNS)
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)
    try:
        yield console
    except (OnhandError, ServerError) as error:
        console.print(f"[bold red]The simulation ended:[/] {escape(str(error))}", highlight=False)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _end(result: Result) -> NoReturn:
    raise typer.Exit(0 if result.good else 1)


class _Sale:
    """One run on a fresh store: load, play, report."""

    def __init__(
        self, console: Console, history_days: int, ranker: bool, seed: int, out: Path | None
    ) -> None:
        self._console, self._seed, self._out = console, seed, out
        self._with_ranker = ranker
        refuse_huge_pages()  # those of the load would stop its processor while they are made
        if out is not None:
            require_matplotlib()
        with console.status("Opening the shop's books …"):
            self._play = Play(UNTIL, time.time_ns() // 1_000_000, history_days=history_days)

    def play(
        self,
        phases: list[Phase],
        name: str,
        fault: Fault | None,
        front: Front = DIRECT,
        marks_s: Sequence[float] = (),
    ) -> Result:
        """Play; print the report, and write it under a name."""
        console = self._console
        with tempfile.TemporaryDirectory(prefix="onhand-simulate-") as kept:
            folder = Path(kept)
            self._load(folder)
            if self._with_ranker:
                self._train(folder)
            with _watching(console, sum(phase.seconds for phase in phases)) as watch:
                shop = Shop.of(self._play)
                result = run_sale(
                    folder, shop, phases, self._seed, watch, fault, front, marks_s,
                    lambda begun, clicked: self._look_back(folder, begun, clicked),
                )  # fmt: skip
        console.print(draw_report(result))
        if self._out is not None:
            _write(console, result, self._out, name)
        return result

    def _load(self, folder: Path) -> None:
        words = "Loading the shop; the first run ever compiles for a minute …"
        with self._console.status(words) as status:

            def show(done: int, total: int) -> None:
                status.update(f"Loading the shop: {done:,} of {total:,} events …")

            load_shop(folder, self._play, show)

    def _look_back(self, folder: Path, begun: int, clicked: list[Clicked]) -> Foresight:
        """Make the pages that were clicked on again without foresight."""
        past, models = open_past(folder, App()), open_models(folder, App())
        return compare_foresight(past, models, folder / "decisions.db", begun, clicked)

    def _train(self, folder: Path) -> None:
        """Learn a ranker from the loaded past, and make it active."""
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        from onhand.offline.listwise import RankerSettings
        from onhand.offline.training import Training, train

        rankers = (RankerSettings(n_trees=TREES, learning_rate=0.15),)
        settings = Training(most=EXAMPLES, held_out=HELD_OUT, rankers=rankers, seed=self._seed)
        with self._console.status("Training a ranker …") as status:

            def show(what: str, done: int, total: int) -> None:
                status.update(f"Training a ranker: {what}, {done:,} of {total:,} …")

            model, card = train(open_past(folder, App()), "ranker", 1, settings, show)
            ModelStore(folder / "models").save(model, card)
            engine = Engine.open(folder)
            try:
                engine.ingest([control_of(engine.models.check(model.label))])
            finally:
                engine.close()
        quality = card.quality["model"].ndcg, card.quality["popular"].ndcg
        self._console.print(
            f"{model.label} ranks: NDCG@10 {quality[0]:.3f}, popular items {quality[1]:.3f}.",
            highlight=False,
        )


@contextmanager
def _watching(console: Console, seconds: float) -> "Generator[Watch]":
    """A bar on a terminal, a line now and then elsewhere."""
    columns = (BarColumn(), TextColumn("{task.description}"))
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        yield Watch(console, bar, seconds)


class Watch:
    """Shows each second as it ends."""

    def __init__(self, console: Console, bar: Progress, seconds: float) -> None:
        self._console, self._bar = console, bar
        self._task = bar.add_task("Starting the server …", total=seconds)

    def __call__(self, second: Second) -> None:
        """Show one."""
        line = progress_line(second)
        self._bar.update(self._task, advance=1, description=line)
        if not self._console.is_terminal and second.at_s % PLAIN_LINE_S == 0:
            self._console.print(line, highlight=False, soft_wrap=True)


def _write(console: Console, result: Result, out: Path, name: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(result)))
    draw_figure(result, out / f"{name}.png")
    console.print(f"\nWritten: {out / name}.png, {out / name}.json", highlight=False)
