"""Draw a run as a picture: what was shown though gone, latencies, dead ends, and how it was served.

Needs matplotlib, from the extra `simulation`.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from onhand.contracts.errors import Unavailable
from onhand.offline.simulation.run import Fault, Result, degraded_share
from onhand.offline.simulation.score import DEADLINE_S, STACKS
from onhand.offline.simulation.without import WITHOUT

__all__ = ["draw_figure", "require_matplotlib"]

COLOURS = ("#0b7a5c", "#e08a1e", "#c0392b")
BLUES = ("#9ecae1", "#4292c6", "#08519c")
GREY = "#666666"
PALE = "#a8d5c5"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "axes.edgecolor": "#999999",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
}


def require_matplotlib() -> None:
    """Raise `Unavailable` without it, before a long run rather than after."""
    if find_spec("matplotlib") is None:
        raise Unavailable(
            "matplotlib_missing", "The figure needs matplotlib: pip install 'onhand[simulation]'"
        )


def draw_figure(result: Result, path: Path) -> None:
    """Write a PNG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 6.6), dpi=150, layout="constrained")
        (sold_out, dead_ends), (latency, service) = figure.subplots(
            2, 2, gridspec_kw={"width_ratios": (2.1, 1)}
        )
        _draw_sold_out(sold_out, result)
        _draw_dead_ends(dead_ends, result)
        _draw_latency(latency, result)
        _draw_service(service, result)
        for axes in figure.axes:
            if axes is not dead_ends:
                axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
            legend = axes.get_legend()
            if legend is not None:
                legend.set_in_layout(False)  # a wide one would squeeze its plot
        figure.suptitle(_title(result), x=0.01, ha="left", fontsize=12.5, fontweight="bold")
        figure.savefig(path)


def _title(result: Result) -> str:
    phase = result.phases[0]
    title = (
        f"A flash sale of {result.played_s:.0f} s: {phase.rate:,.0f} pages, {phase.events:,.0f} "
        f"events and {phase.stock_changes:,.0f} stock changes a second"
    )
    return title if result.fault is None else f"{title}, with {result.fault.name}"


def _times(result: Result) -> list[int]:
    return [second.at_s + 1 for second in result.seconds]


def _shade(axes: Any, fault: Fault | None) -> None:
    if fault is not None:
        axes.axvspan(fault.at_s, fault.end_s, color="#f6d5d5", lw=0, zorder=0)


def _draw_sold_out(axes: Any, result: Result) -> None:
    for place in reversed(range(len(STACKS))):
        values = [second.sold_out[place] for second in result.seconds]
        label = f"{STACKS[place]}: {result.sold_out[place]:,}"
        axes.plot(_times(result), values, color=COLOURS[place], lw=1.8, label=label)
    _shade(axes, result.fault)
    axes.set(title="Impressions of what was sold out or held, a second", ylim=(-0.5, None))
    axes.margins(x=0.01)
    axes.set_ylim(top=axes.get_ylim()[1] * 1.25)
    axes.legend(loc="upper left", ncols=3, reverse=True)


def _draw_dead_ends(axes: Any, result: Result) -> None:
    shares = [100 * count / max(result.clicks, 1) for count in result.dead_ends]
    names, colours = [*STACKS], [*COLOURS]
    blind = result.foresight
    if blind is not None:
        shares.insert(1, 100 * blind.dead_ends_without / max(blind.clicks, 1))
        names.insert(1, WITHOUT)
        colours.insert(1, PALE)
    bars = axes.barh(range(len(names)), shares, color=colours, height=0.55)
    labels = [f" {share:.1f}%" for share in shares]
    axes.bar_label(bars, labels, color=GREY)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, max(*shares, 0.1) * 1.25)
    axes.set(title="Clicks on what was gone by then", xlabel=f"% of {result.clicks:,} clicks")


def _draw_latency(axes: Any, result: Result) -> None:
    whole = result.whole
    series: Sequence[tuple[str, list[float], float]] = (
        ("p50", [second.p50_ms for second in result.seconds], whole.p50_ms),
        ("p99", [second.p99_ms for second in result.seconds], whole.p99_ms),
        ("worst", [second.worst_ms for second in result.seconds], whole.p999_ms),
    )
    for (name, values, of_all), colour in zip(series, BLUES, strict=True):
        label = f"{name}, p99.9 of all {of_all:.1f}" if name == "worst" else f"{name} {of_all:.1f}"
        axes.plot(_times(result), values, color=colour, lw=1.6, label=label)
    axes.axhline(DEADLINE_S * 1000, color=GREY, lw=0.9, ls=(0, (4, 3)))
    axes.annotate("deadline", (1, DEADLINE_S * 1000), (-2, 3), xycoords=("axes fraction", "data"),
                  textcoords="offset points", ha="right", color=GREY, fontsize=8)  # fmt: skip
    _shade(axes, result.fault)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set(title="Page read, ms from when it was due, by the second", xlabel="seconds")
    axes.margins(x=0.01)
    axes.legend(loc="upper left", fontsize=8, ncols=3)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * 4)


def _draw_service(axes: Any, result: Result) -> None:
    answered = [second.answered for second in result.seconds]
    full = [second.answered * (1 - degraded_share(second)) for second in result.seconds]
    failed = [s.answered + s.failed for s in result.seconds]
    times = _times(result)
    axes.fill_between(times, failed, color="#c0392b", lw=0, label="not answered")
    axes.fill_between(times, answered, color="#b48ead", lw=0, label="degraded")
    axes.fill_between(times, full, color="#a8d5c5", lw=0, label="best step")
    _shade(axes, result.fault)
    axes.set(title="Pages a second, by how", xlabel="seconds", ylim=(0, max(failed) * 1.6))
    axes.margins(x=0.01)
    axes.legend(loc="upper left", reverse=True, fontsize=8)
