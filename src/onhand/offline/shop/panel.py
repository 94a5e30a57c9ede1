"""Draw a run of the demo: a live panel on a terminal, a line now and then elsewhere."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from onhand.offline.shop.ledger import Product
from onhand.offline.shop.play import Play, Sample
from onhand.offline.shop.tally import Rate, Tally

__all__ = ["Scene", "curl_lines", "draw_panel", "draw_summary", "plain_line"]

TIER_STYLES = ("cyan", "green", "yellow", "magenta", "blue", "red")
BAR_CELLS = 40
PANEL_COLUMNS = 116
LIST_ROWS = 6


class Scene:
    """What does not change in a run, and the rates that need a memory."""

    def __init__(self, play: Play, tally: Tally, address: str, speed: float) -> None:
        self.play, self.tally, self.address, self.speed = play, tally, address, speed
        self.sample = play.sample()
        self.products: Mapping[str, Product] = play.products
        self._event_rate, self._page_rate = Rate(), Rate()

    def rates(self, now_s: float) -> "Rates":
        """Events and decisions in the last second."""
        return Rates(
            self._event_rate.at(now_s, self.tally.events),
            self._page_rate.at(now_s, self.tally.decisions),
        )

    def title(self, item: str, width: int = 34) -> str:
        """The title of an item, cut to a width."""
        product = self.products.get(item)
        text = item if product is None else product.title
        return text if len(text) <= width else text[: width - 1] + "…"

    def shop_time(self, played_ms: int) -> str:
        """How long the shop has been open in this run, nights left out."""
        hours, rest = divmod(played_ms // 60_000, 60)
        return f"{hours}:{rest:02d}"


class Rates(NamedTuple):
    """Per second, over the last second."""

    events: float
    decisions: float


def draw_panel(scene: Scene, now_s: float, elapsed_s: float, total_s: float | None) -> Panel:
    """The whole panel."""
    tally = scene.tally
    rates = scene.rates(now_s)
    numbers = Table.grid(expand=True, padding=(0, 2))
    for _ in range(3):
        numbers.add_column(ratio=1)
    numbers.add_row(traffic_block(tally, rates), reads_block(tally, rates), stock_block(tally))
    lists = Table.grid(expand=True, padding=(0, 2))
    lists.add_column(ratio=2)
    lists.add_column(ratio=1)
    lists.add_row(followed_block(scene), newest_block(scene))
    end = "Ctrl-C ends it" if total_s is None else f"of {total_s:g} s"
    return Panel(
        Group(numbers, Text(), tier_line(tally.tiers), Text(), lists),
        title=f"[bold]Onhand[/] · a real gift shop, live · [cyan]{scene.address}[/]",
        subtitle=(
            f"{elapsed_s:.0f} s {end} · opened {scene.play.opening:%a %d %b %Y %H:%M}, "
            f"{scene.shop_time(tally.played_ms)} h played at {scene.speed:g}x · "
            f"log offset {tally.offset:,}"
        ),
        box=box.ROUNDED,
        border_style="dim",
        padding=(1, 2, 0, 2),
        width=PANEL_COLUMNS,
    )


def block(heading: str, rows: Sequence[tuple[str, RenderableType]]) -> Table:
    """A heading over names and numbers."""
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_row(Text(heading, style="bold"))
    for name, value in rows:
        table.add_row(Text(name, style="dim"), value)
    return table


def traffic_block(tally: Tally, rates: Rates) -> Table:
    """What comes in."""
    return block(
        "Traffic",
        [
            ("events a second", Text(f"{rates.events:,.0f}", style="bold cyan")),
            ("events", f"{tally.events:,}"),
            ("purchases", f"{tally.purchases:,}"),
            ("visitors", f"{tally.visitors:,}"),
            ("refused", count_text(tally.rejected)),
        ],
    )


def reads_block(tally: Tally, rates: Rates) -> Table:
    """What goes out, and how fast."""
    p50, p99, p999 = tally.pages.percentiles_ms(0.5, 0.99, 0.999)
    return block(
        "Page reads",
        [
            ("decisions a second", Text(f"{rates.decisions:,.0f}", style="bold cyan")),
            ("p50", f"{p50:.2f} ms"),
            ("p99", f"{p99:.2f} ms"),
            ("p99.9", f"{p999:.2f} ms"),
            ("failed", count_text(tally.failures)),
        ],
    )


def stock_block(tally: Tally) -> Table:
    """What is gone, and whether it was shown."""
    return block(
        "Stock",
        [
            ("sold out now", f"{len(tally.sold_out):,}"),
            ("sell-outs", f"{tally.sell_outs:,}"),
            ("restocks", f"{tally.restocks:,}"),
            ("kept off pages", Text(f"{tally.kept_off:,}", style="bold cyan")),
            ("sold out, yet shown", count_text(len(tally.sold_out_shown))),
        ],
    )


def count_text(count: int) -> Text:
    """A count that should be zero."""
    return Text(f"{count:,}", style="bold green" if count == 0 else "bold red")


def tier_line(tiers: Counter[str]) -> Table:
    """How well visitors were known: a bar of all tiers and their shares."""
    total = max(tiers.total(), 1)
    bar, legend = Text(), Text()
    for style, (tier, count) in zip(TIER_STYLES, tiers.most_common(len(TIER_STYLES)), strict=False):
        bar.append("━" * max(1, round(BAR_CELLS * count / total)), style=style)
        legend.append(f"{tier} ", style=style).append(f"{count / total:.0%}   ")
    line = Table.grid(padding=(0, 2))
    line.add_row(Text("Tiers", style="bold"), bar, legend)
    return line


def followed_block(scene: Scene) -> Group:
    """One visitor's click, and the list that follows from it."""
    followed = scene.tally.followed
    table = Table.grid(padding=(0, 1))
    for justify in ("left", "right", "right", "left"):
        table.add_column(justify=justify, no_wrap=True)
    known = set(followed.before)
    for item, price, stock in followed.after[:LIST_ROWS]:
        new = item not in known
        table.add_row(
            Text(scene.title(item), style="green" if new else ""),
            "" if price is None else f"{price:,.2f}",
            Text("" if stock is None else f"{stock:,} left", style="dim"),
            Text("new" if new else "", style="bold green"),
        )
    fill_rows(table, len(followed.after))
    return Group(followed_line(scene), table)


def fill_rows(table: Table, filled: int) -> None:
    """Empty rows up to `LIST_ROWS`, so that the panel keeps its height."""
    for _ in range(LIST_ROWS - filled):
        table.add_row("")


def followed_line(scene: Scene) -> Text:
    """What the followed visitor did, and how fast the list changed."""
    followed = scene.tally.followed
    if not followed.clicked:
        return Text("A visitor is about to click …", style="bold")
    return Text.assemble(
        ("A visitor clicks ", "bold"),
        (scene.title(followed.clicked, 30), "bold cyan"),
        (f" and {followed.answered_ms:.1f} ms later sees", "dim"),
    )


def newest_block(scene: Scene) -> Table:
    """The newest sell-outs, by name."""
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", justify="right")
    table.add_column(no_wrap=True)
    table.add_row("", Text("Newest sell-outs", style="bold"))
    newest = list(scene.tally.newest)[:LIST_ROWS]
    for played_ms, item in newest:
        table.add_row(scene.shop_time(played_ms), scene.title(item, 30))
    fill_rows(table, len(newest))
    return table


def plain_line(scene: Scene, now_s: float, elapsed_s: float) -> str:
    """One line for a log."""
    tally, rates = scene.tally, scene.rates(now_s)
    p50, p99, p999 = tally.pages.percentiles_ms(0.5, 0.99, 0.999)
    return (
        f"{elapsed_s:4.0f} s  {rates.events:,.0f} events/s  {rates.decisions:,.0f} decisions/s  "
        f"p50 {p50:.2f}  p99 {p99:.2f}  p99.9 {p999:.2f} ms  "
        f"{len(tally.sold_out)} sold out now, {len(tally.sold_out_shown)} shown  "
        f"offset {tally.offset:,}"
    )


def draw_summary(scene: Scene, elapsed_s: float) -> Table:
    """The end of a run, as a table."""
    tally = scene.tally
    p50, p99, p999 = tally.pages.percentiles_ms(0.5, 0.99, 0.999)
    table = Table(title="Summary", box=box.SIMPLE_HEAD, title_style="bold", show_header=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column(style="dim")
    seconds = max(elapsed_s, 1e-9)
    for name, value, note in (
        (
            "played",
            str(timedelta(seconds=round(elapsed_s))),
            f"{scene.shop_time(tally.played_ms)} h of the shop",
        ),
        (
            "events",
            f"{tally.events:,}",
            f"{tally.events / seconds:,.0f} a second, {tally.rejected} refused",
        ),
        ("purchases", f"{tally.purchases:,}", f"lines; {tally.visitors:,} visitors came"),
        (
            "decisions",
            f"{tally.decisions:,}",
            f"{tally.decisions / seconds:,.0f} a second, {tally.failures} failed",
        ),
        ("page reads", f"{p50:.2f} / {p99:.2f} / {p999:.2f} ms", "p50 / p99 / p99.9, client-side"),
        ("sent late", f"{tally.late:,}", "more than 250 ms behind their time"),
        (
            "click to new list",
            f"{tally.clicks.percentiles_ms(0.5)[0]:.2f} ms",
            f"p50 of {tally.clicks.count}, after the acknowledgement",
        ),
        ("tiers", "", ", ".join(f"{t} {n:,}" for t, n in tally.tiers.most_common())),
        (
            "degraded",
            f"{tally.degraded.total():,}",
            ", ".join(f"{d} {n:,}" for d, n in tally.degraded.most_common()),
        ),
        (
            "sell-outs, restocks",
            f"{tally.sell_outs:,}, {tally.restocks:,}",
            f"{len(tally.sold_out)} sold out at the end, {tally.arrivals} new items",
        ),
        ("kept off pages", f"{tally.kept_off:,}", "candidates that were sold out"),
    ):
        table.add_row(name, value, note)
    shown = len(tally.sold_out_shown)
    table.add_row("sold out, yet shown", count_text(shown), f"of {tally.impressions:,} impressions")
    return table


def curl_lines(address: str, sample: Sample) -> list[str]:
    """Three commands to try while the demo runs."""
    user, session, item = sample
    click = f'{{"type":"click","session":"{session}","item":"{item}"}}'
    return [
        f"curl '{address}/v1/recommend/home?user={user}&n=5'",
        f"curl '{address}/v1/events' -H 'content-type: application/json' -d '{click}'",
        f"curl '{address}/v1/recommend/product?item={item}&session={session}&n=5'",
    ]
