"""`onhand simulate`: a flash sale against the real server, with the usual stack beside it."""

import signal
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from onhand.contracts.errors import OnhandError
from onhand.offline.shop.play import HISTORY_DAYS, UNTIL, Play
from onhand.offline.shop.server import ServerError
from onhand.offline.shop.store import load_shop
from onhand.offline.simulation.figure import draw_figure, require_matplotlib
from onhand.offline.simulation.plan import Phase, Shop
from onhand.offline.simulation.report import draw_report, progress_line
from onhand.offline.simulation.run import Fault, Result, run_sale
from onhand.offline.simulation.score import Second
from onhand.serving.faults import FAULTS

__all__ = ["app"]

PLAIN_LINE_S = 5

app = typer.Typer(no_args_is_help=True)


@app.callback()
def simulate() -> None:
    """Drive the real server through what goes wrong in shops, and check every answer."""


@app.command("flash-sale")
def flash_sale(
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="How long it lasts.")] = 60,
    rate: Annotated[float, typer.Option(min=1, max=50_000, help="Page reads a second.")] = 2800,
    events: Annotated[float, typer.Option(min=0, max=50_000, help="Events a second.")] = 1000,
    stock_changes: Annotated[
        float, typer.Option(min=0, max=10_000, help="Stock and price changes, holds, a second.")
    ] = 200,
    seed: Annotated[int, typer.Option(min=0, help="The same seed plans the same sale.")] = 7,
    out: Annotated[
        Path | None, typer.Option(help="Folder for `flash-sale.png` and `flash-sale.json`.")
    ] = None,
    fault: Annotated[
        str | None, typer.Option(help=f"Break something: {', '.join(FAULTS)}.")
    ] = None,
    fault_at: Annotated[int, typer.Option(min=2, help="When it breaks, in seconds.")] = 20,
    fault_seconds: Annotated[int, typer.Option(min=1, help="For how long.")] = 10,
    history_days: Annotated[
        int, typer.Option(min=1, max=90, help="Days of the shop's past to load first.")
    ] = HISTORY_DAYS,
) -> None:
    """Sell out a real gift shop within seconds, and count what was shown though it was gone.

    The same lists behind caches of 2 and 30 seconds are counted beside it. docs/simulate.md says
    how to read the report. The exit status is 1 when an acknowledged sell-out was shown, a record
    was refused, or an acknowledged event was lost.
    """
    console = Console()
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)  # whoever ends it, the server ends too
    phases = [Phase(seconds, rate, events, stock_changes)]
    broken = _fault(fault, fault_at, fault_seconds, seconds)
    try:
        if out is not None:
            require_matplotlib()
        with tempfile.TemporaryDirectory(prefix="onhand-simulate-") as folder:
            result = _run(console, Path(folder), phases, seed, history_days, broken)
        console.print(draw_report(result))
        if out is not None:
            _write(console, result, out)
    except (OnhandError, ServerError) as error:
        console.print(f"[bold red]The simulation ended:[/] {error}", highlight=False)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    raise typer.Exit(0 if result.good else 1)


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


def _run(
    console: Console,
    folder: Path,
    phases: list[Phase],
    seed: int,
    history_days: int,
    fault: Fault | None,
) -> Result:
    with console.status("Opening the shop's books …"):
        play = Play(UNTIL, time.time_ns() // 1_000_000, history_days=history_days)
        shop = Shop.of(play)
    with console.status("Loading the shop; the first run ever compiles for a minute …") as status:

        def show(done: int, total: int) -> None:
            status.update(f"Loading the shop: {done:,} of {total:,} events …")

        load_shop(folder, play, show)
    seconds = sum(phase.seconds for phase in phases)
    with _watching(console, seconds) as watch:
        return run_sale(folder, shop, phases, seed, fault, watch)


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


def _write(console: Console, result: Result, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    name = "flash-sale" if result.fault is None else f"flash-sale-{result.fault.name}"
    (out / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(result)))
    draw_figure(result, out / f"{name}.png")
    console.print(f"\nWritten: {out / name}.png, {out / name}.json", highlight=False)
