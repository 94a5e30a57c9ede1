"""Show a run in the terminal: a line while it plays, tables and a plot at the end."""

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from onhand.offline.simulation.run import Result, degraded_share
from onhand.offline.simulation.score import DEADLINE_S, STACKS, Second, Window
from onhand.offline.simulation.without import WITHOUT

__all__ = ["draw_report", "progress_line"]

BLOCKS = " ▁▂▃▄▅▆▇█"
PLOT_COLUMNS = 46
STYLES = ("green", "yellow", "red")


def progress_line(second: Second) -> str:
    """One second in a line."""
    shown = "   ".join(
        f"{name} {count:,}" for name, count in zip(STACKS, second.sold_out, strict=True)
    )
    return (
        f"{second.at_s + 1:>4} s  {second.answered:,} pages/s  p99 {second.p99_ms:.1f} ms  "
        f"{second.events:,} events/s  {second.stock_changes:,} stock/s   sold out, shown: {shown}"
    )


def draw_report(result: Result) -> RenderableType:
    """Everything that came of a run."""
    parts: list[RenderableType] = [Text(), _stacks(result), Text(), _pages(result), Text()]
    if result.fault is not None:
        parts += [_windows(result), Text()]
    parts.append(_plot(result))
    if result.error:
        parts.append(Text(f"\nThe first refusal: {result.error}", style="bold red"))
    return Group(*parts)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def _stacks(result: Result) -> Table:
    """What each stack showed of what was gone."""
    table = _table("the same lists", "sold out, shown", "a minute", "dead-end clicks", "of")
    minutes = max(result.played_s / 60, 1e-9)
    for place, name in enumerate(STACKS):
        sold_out, dead_ends = result.sold_out[place], result.dead_ends[place]
        table.add_row(
            Text(name, style="bold" if not place else ""),
            Text(f"{sold_out:,}", style="bold red" if sold_out else "bold green"),
            f"{sold_out / minutes:,.0f}",
            f"{dead_ends:,}",
            f"{dead_ends / max(result.clicks, 1):.1%}",
        )
        blind = result.foresight
        if not place and blind is not None:
            share = f"{blind.dead_ends_without / max(blind.clicks, 1):.1%}"
            table.add_row(WITHOUT, "", "", f"{blind.dead_ends_without:,}", share)
    return table


def _pages(result: Result) -> Table:
    """How the server did."""
    whole = result.whole
    table = Table.grid(padding=(0, 3))
    rate = whole.pages / max(result.played_s, 1e-9)
    table.add_row("pages", f"{whole.pages:,}, {rate:,.0f} a second, {result.impressions:,} items")
    table.add_row(
        "page read",
        f"p50 {whole.p50_ms:.2f} ms   p99 {whole.p99_ms:.2f} ms   p99.9 {whole.p999_ms:.2f} ms",
    )
    busy = result.load_processor_s / max(result.played_s, 1e-9)
    table.add_row(
        "",
        f"of which the load itself was late: p99 {result.lag_p99_ms:.2f} ms; "
        f"it took {busy:.0%} of one of {result.cores} cores",
    )
    table.add_row(
        "answered",
        f"{_share(whole.in_time, whole.pages)} within {DEADLINE_S * 1000:g} ms, "
        f"{whole.failed:,} not at all, {_share(whole.degraded, whole.pages)} degraded",
    )
    table.add_row(
        "events",
        f"{result.acknowledged:,} of {result.events:,} acknowledged, {result.lost:,} of them lost",
    )
    changes = sum(second.stock_changes for second in result.seconds)
    late_ms = max((second.stock_late_ms for second in result.seconds), default=0.0)
    table.add_row("stock", f"{changes:,} changes, each acknowledged within {late_ms:,.0f} ms")
    stretches = result.stretches
    table.add_row(
        "event loop",
        f"{stretches.count:,} stretches of work beside pages, {stretches.long:,} longer than 2 ms, "
        f"{stretches.ran_long:,} of which had a processor for as long",
    )
    blind = result.foresight
    if blind is not None:
        table.add_row(
            "foresight",
            f"{blind.dead_ends:,} dead ends of {blind.clicks:,} clicks, without it "
            f"{blind.dead_ends_without:,}: {blind.changed:,} of these pages made again without it "
            "are others",
        )
    behind = result.behind
    if behind.get("made"):
        begun = {name: behind.get(name, 0) for name in ("fresh", "stale", "none")}
        from_lists = ", ".join(
            f"{_share(count, sum(begun.values()))} {name}" for name, count in begun.items()
        )
        table.add_row(
            "behind the page",
            f"{behind['made']:,} lists made; model calls: {behind.get('failed', 0):,} failed, "
            f"{behind.get('waited', 0):,} that pages waited for",
        )
        table.add_row("their use by pages", from_lists)
    return table


def _windows(result: Result) -> RenderableType:
    """Before, during and after a fault."""
    fault = result.fault
    assert fault is not None
    columns = ("pages", "in time", "not", "degraded", "p50 ms", "p99", "p99.9", "records", "stock")
    table = _table("", *columns)
    for name, window in zip(("before", "during", "after"), result.windows, strict=False):
        inside = [s for s in result.seconds if window.begin_s < s.at_s + 1 <= window.end_s]
        waits_ms = (
            max((s.acknowledged_ms for s in inside), default=0.0),
            max((s.stock_late_ms for s in inside), default=0.0),
        )
        table.add_row(name, *_window_cells(window), *(f"{wait_ms:,.0f}" for wait_ms in waits_ms))
    pages = f"pages as before {_since(result.recovery_s)}"
    records = f"refused records all in {_since(result.caught_up_s)}"
    return Group(table, Text(f"{fault.name}: {pages}; {records}", style="dim"))


def _since(seconds: float | None) -> str:
    return "at no time seen" if seconds is None else f"within {seconds + 1:g} s of its end"


def _window_cells(window: Window) -> list[str]:
    return [
        f"{window.pages:,}",
        _share(window.in_time, window.pages),
        f"{window.failed:,}",
        _share(window.degraded, window.pages),
        f"{window.p50_ms:.1f}",
        f"{window.p99_ms:.1f}",
        f"{window.p999_ms:.1f}",
    ]


def _share(part: int, whole: int) -> str:
    """A share that says 100% only when it is all, and 0% only when it is none."""
    share = 100 * part / max(whole, 1)
    digits = 0 if part in (0, whole) else 1 if 1 <= share <= 99 else 3
    return f"{share:.{digits}f}%"


def _plot(result: Result) -> Table:
    """Each second of the run as a bar; the rows of the stacks share one scale."""
    seconds = result.seconds
    plot = Table.grid(padding=(0, 2))
    most = max((max(second.sold_out) for second in seconds), default=0)
    for place, name in enumerate(STACKS):
        values = [float(second.sold_out[place]) for second in seconds]
        label = f"sold out: {name}"
        plot.add_row(label, _bars(values, most, STYLES[place]), f"up to {max(values):,.0f}/s")
    p99s = [second.p99_ms for second in seconds]
    plot.add_row("page read p99", _bars(p99s, max(p99s), "cyan"), f"up to {max(p99s):,.1f} ms")
    waits = [second.acknowledged_ms for second in seconds]
    plot.add_row("records wait", _bars(waits, max(waits), "blue"), f"up to {max(waits):,.0f} ms")
    shares = [degraded_share(second) for second in seconds]
    if any(shares):
        plot.add_row("degraded", _bars(shares, 1.0, "magenta"), f"up to {max(shares):.0%}")
    return plot


def _bars(values: Sequence[float], most: float, style: str) -> Text:
    """Values as blocks, the highest of each column's seconds; a value over 0 is never blank."""
    columns = min(len(values), PLOT_COLUMNS)
    text = ""
    for column in range(columns):
        begin, end = column * len(values) // columns, (column + 1) * len(values) // columns
        value = max(values[begin:end])
        level = round(value / most * (len(BLOCKS) - 1)) if most else 0
        text += BLOCKS[max(level, 1) if value else 0]
    return Text(text, style=style)
