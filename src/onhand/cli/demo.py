"""`onhand demo`: a real shop's days as live traffic, in one command."""

import gc
import signal
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from onhand.contracts.errors import OnhandError
from onhand.offline.shop.panel import Scene, curl_lines, draw_panel, draw_summary, plain_line
from onhand.offline.shop.play import UNTIL, Play
from onhand.offline.shop.player import Player
from onhand.offline.shop.server import Server, ServerError, free_port
from onhand.offline.shop.store import clear_folder, load_shop
from onhand.offline.shop.tally import SoldOut, Tally

__all__ = ["demo"]

FRAMES_A_SECOND = 4
PLAIN_LINE_S = 2.0
DEFAULT_DAY = datetime(UNTIL.year, UNTIL.month, UNTIL.day)
SWITCH_S = 0.0002
"""The traffic shares its process with the panel; it waits no longer than this for a frame."""


def demo(
    seconds: Annotated[
        float | None, typer.Option(min=1, help="End after this long; without it, at Ctrl-C.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the store, kept; without it, a temporary one.")
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the server; a free one if it is taken.")
    ] = 8080,
    speed: Annotated[
        float, typer.Option(min=1, max=100_000, help="Seconds of the shop in one second.")
    ] = 900,
    until: Annotated[
        datetime, typer.Option(formats=["%Y-%m-%d"], help="The day of the shop that is played.")
    ] = DEFAULT_DAY,
) -> None:
    """Play a real gift shop as live traffic: purchases, browsing, stock, and pages."""
    console = Console()
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)  # whoever ends it, the server ends too
    try:
        with demo_folder(data) as folder:
            good = Demo(console, folder, speed).run(until, port, seconds)
    except (OnhandError, ServerError) as error:
        console.print(f"[bold red]The demo ended:[/] {escape(str(error))}", highlight=False)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    raise typer.Exit(0 if good else 1)


@contextmanager
def demo_folder(data: Path | None) -> Generator[Path]:
    """The named folder, cleared if a demo made it; or a temporary one, removed afterwards."""
    if data is not None:
        clear_folder(data)
        yield data
        return
    with tempfile.TemporaryDirectory(prefix="onhand-demo-") as folder:
        clear_folder(Path(folder))
        yield Path(folder)


class Demo:
    """One run: load, serve, play, sum up."""

    def __init__(self, console: Console, folder: Path, speed: float) -> None:
        self._console = console
        self._folder = folder
        self._speed = speed

    def run(self, until: datetime, port: int, seconds: float | None) -> bool:
        """Whether the server lived to the end and showed nothing that was sold out."""
        with self._console.status("Opening the shop's books …"):
            play = Play(until.date(), time.time_ns() // 1_000_000)
        self._load(play)
        tally = Tally(SoldOut(item.id for item in play.items() if item.stock == 0))
        with Server(self._folder, free_port(port), self._folder / "server.log") as server:
            with self._console.status("Starting the server …"):
                server.wait_ready()
            scene = Scene(play, tally, server.address, self._speed)
            self._invite(scene)
            elapsed_s = self._play(scene, server, seconds)
            alive = server.alive
            words = "" if alive else server.last_words()
        self._sum_up(scene, elapsed_s, words)
        return alive and not tally.error and not tally.sold_out_shown and tally.decisions > 0

    def _load(self, play: Play) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("events"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as progress:
            bar = progress.add_task(
                "Warming up: the first run ever compiles for a while", total=None
            )

            def show(done: int, total: int) -> None:
                title = "Loading the shop's last 90 days"
                progress.update(bar, completed=done, total=total, description=title)

            loaded = load_shop(self._folder, play, show)
        self._console.print(
            f"Loaded {loaded.items:,} items and {loaded.events:,} events in "
            f"{loaded.seconds:.1f} s, {loaded.events / loaded.seconds:,.0f} a second.",
            highlight=False,
        )

    def _invite(self, scene: Scene) -> None:
        """Print the address and three commands to try."""
        self._console.print(f"\nServing at [bold cyan]{scene.address}[/]. Try, while it runs:\n")
        for line in curl_lines(scene.address, scene.sample):
            self._console.print(Text(line, style="cyan"), soft_wrap=True)
        self._console.print()

    def _play(self, scene: Scene, server: Server, seconds: float | None) -> float:
        """Play until the time is over, Ctrl-C, or an error; the seconds it took."""
        player = Player(scene, server.port, seconds)
        sys.setswitchinterval(SWITCH_S)
        gc.collect()
        gc.freeze()
        player.start()
        with suppress(KeyboardInterrupt):
            self._watch(scene, player, server, seconds)
        player.end()
        return player.elapsed_s

    def _watch(self, scene: Scene, player: Player, server: Server, seconds: float | None) -> None:
        scene.rates(time.monotonic())  # the rates count from here
        if not self._console.is_terminal:
            while player.wait(PLAIN_LINE_S) and server.alive:
                line = plain_line(scene, time.monotonic(), player.elapsed_s)
                self._console.print(line, highlight=False, soft_wrap=True)
            return

        def frame() -> Panel:
            return draw_panel(scene, time.monotonic(), player.elapsed_s, seconds)

        with Live(frame(), console=self._console, auto_refresh=False) as live:
            while player.wait(1 / FRAMES_A_SECOND) and server.alive:
                live.update(frame(), refresh=True)

    def _sum_up(self, scene: Scene, elapsed_s: float, last_words: str) -> None:
        tally = scene.tally
        self._console.print(draw_summary(scene, elapsed_s))
        if last_words:
            self._console.print(f"[bold red]The server ended by itself:[/]\n{last_words}")
        elif tally.error:
            self._console.print(f"[bold red]The traffic ended early:[/] {tally.error}")
        for item in tally.sold_out_shown[:5]:
            self._console.print(f"[bold red]Shown though sold out:[/] {item} {scene.title(item)}")
        self._console.print(f"While the demo runs, {scene.address} answers:")
        for line in curl_lines(scene.address, scene.sample):
            self._console.print(Text(line, style="cyan"), soft_wrap=True)
