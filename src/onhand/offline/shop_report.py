"""The report of an evaluation of a shop: a Markdown file, and a picture of its intervals."""

from datetime import UTC, datetime
from pathlib import Path

from onhand.offline.shop_evaluation import FULL, Figure, ShopEvaluation

__all__ = ["markdown", "write_report"]

_SHOWN = ("NDCG@10", "NDCG@20", "HR@10", "HR@20", "MRR@10", "MRR@20")


def markdown(result: ShopEvaluation) -> str:
    """Return the report as Markdown."""
    total = sum(result.moments.values())
    by_tier = ", ".join(f"{count:,} {tier}" for tier, count in result.moments.items())
    lines = [
        "# Accuracy on the shop's own log",
        "",
        f"{total:,} moments of {result.visits:,} visits from {_day(result.first_ms)} to "
        f"{_day(result.last_ms)} ({by_tier}), by a model of {result.trees} trees over "
        f"{result.features} features, learned from {result.examples:,} moments before. "
        f"{result.recall:.1%} of what visitors went on to was among the candidates.",
        "Brackets hold 95% of the means over resampled visits.",
        "",
        _row(["", *_SHOWN, "coverage@20", "popularity", "novelty"]),
        _row(["---", *["---:"] * (len(_SHOWN) + 3)]),
    ]
    for name, method in _ordered(result):
        cells = [_cell(method.figures[each]) for each in _SHOWN]
        extra = [f"{method.coverage:.3f}", f"{method.popularity:.3f}", f"{method.novelty:.2f}"]
        lines.append(_row([name, *cells, *extra]))
    tiers = [tier for tier, count in result.moments.items() if count]
    lines += ["", "## NDCG@10 by tier", "", _row(["", *tiers])]
    lines.append(_row(["---", *["---:"] * len(tiers)]))
    for name, method in _ordered(result):
        lines.append(_row([name, *(_cell(method.tiers[tier]["NDCG@10"]) for tier in tiers)]))
    lines += ["", "## Ahead of the best other, NDCG@10, moment by moment", ""]
    lines += [_row(["", "the best other", "difference"]), _row(["---", "---", "---:"])]
    for name, (over, difference) in result.leads.items():
        lines.append(_row([name, over, _cell(difference)]))
    return "\n".join([*lines, ""])


def write_report(result: ShopEvaluation, path: Path) -> list[Path]:
    """Write the Markdown to `path` and a PNG beside it; return what was written. Without
    matplotlib there is no picture."""
    path.write_text(markdown(result))
    try:
        import matplotlib
    except ModuleNotFoundError:
        return [path]
    matplotlib.use("Agg")
    from matplotlib import pyplot

    ordered = _ordered(result)[::-1]
    figure, axes = pyplot.subplots(figsize=(8, 0.4 * len(ordered) + 1.2))
    for place, (name, method) in enumerate(ordered):
        each = method.figures["NDCG@10"]
        error = [[each.mean - each.low], [each.high - each.mean]]
        color = "tab:orange" if name == FULL else "tab:blue"
        axes.errorbar(each.mean, place, xerr=error, fmt="o", color=color, capsize=3)
    axes.set_yticks(range(len(ordered)), [name for name, _ in ordered])
    axes.set_xlabel("NDCG@10, with 95% intervals")
    axes.grid(axis="x", alpha=0.3)
    picture = path.with_suffix(".png")
    figure.savefig(picture, dpi=120, bbox_inches="tight")
    pyplot.close(figure)
    return [path, picture]


def _ordered(result: ShopEvaluation):
    return sorted(result.methods.items(), key=lambda each: -each[1].figures["NDCG@10"].mean)


def _cell(figure: Figure) -> str:
    return f"{figure.mean:.4f} [{figure.low:.4f}, {figure.high:.4f}]"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _day(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).date().isoformat()
