"""`onhand replay` and `onhand explain`: past decisions, made again."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from onhand.decision.models import Models
    from onhand.decision.records import DecisionRecord
    from onhand.offline.replay import Replayed
    from onhand.past import Past

__all__ = ["explain", "replay"]

SHOWN = 20

_Data = Annotated[Path, typer.Option(help="The data folder; a server may run on it.")]
_App = Annotated[Path | None, typer.Option(help="The app file that the server runs.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


def replay(
    decision: Annotated[str | None, typer.Argument(help="The decision of an answer.")] = None,
    data: _Data = Path("data"),
    app: _App = None,
    since: Annotated[
        str | None, typer.Option(help="Replay what was decided since: 1h, 2d.")
    ] = None,
    sample: Annotated[int, typer.Option(help="How many of these, evenly spread.", min=1)] = 1000,
    with_model: Annotated[
        str | None, typer.Option(help="What would this model have shown? Like `default@1`.")
    ] = None,
    json: _Json = False,
) -> None:
    """Make past decisions again from the log and compare them to the byte; exit 1 on a mismatch.

    **Examples**

    `onhand replay 5f3a09c1-2e --data data`

    `onhand replay --since 1h --sample 1000`
    """
    if (decision is None) == (since is None):
        _fail("Name one decision, or say --since how long ago.")
    from onhand.contracts.errors import OnhandError

    try:
        models = _models(data, app)
        if with_model is not None:
            models.find(with_model)
        records = [_record(data, decision)] if decision else _records(data, since or "", sample)
        mismatches = _replay(records, _past(data, app), models, with_model, json)
    except OnhandError as error:
        _fail(error.message)
    if with_model is None and mismatches:
        raise typer.Exit(1)


def explain(
    decision: Annotated[str, typer.Argument(help="The decision of an answer.")],
    data: _Data = Path("data"),
    app: _App = None,
    json: _Json = False,
) -> None:
    """Show every candidate of a past decision: score, sources, features, and why it was dropped.

    **Example**

    `onhand explain 5f3a09c1-2e --data data`
    """
    import msgspec

    from onhand.contracts.errors import OnhandError
    from onhand.decision.replay import explain as explain_decision
    from onhand.decision.replay import restore
    from onhand.retrieval.pool import make_pool
    from onhand.wiring import load_app

    try:
        record = _record(data, decision)
        state, listed = restore(record, _past(data, app), _models(data, app))
        vector = load_app(app).features.vector()
        told = explain_decision(state, record, make_pool(state.limits.items), vector, listed)
    except OnhandError as error:
        _fail(error.message)
    if json:
        typer.echo(msgspec.json.encode(told))
        return
    _print_candidates(msgspec.to_builtins(told))


def _replay(
    records: "list[DecisionRecord]", past: "Past", models: "Models", model: str | None, json: bool
) -> int:
    """Replay with a progress bar, print what differs, return how many do."""
    import msgspec
    from rich.progress import Progress

    from onhand.offline.replay import replay as replay_all

    differing = 0
    began_s = time.monotonic()
    with Progress(transient=True, disable=json or not sys.stderr.isatty()) as progress:
        task = progress.add_task("replaying", total=len(records))
        for each in replay_all(records, past, models, model):
            progress.advance(task)
            differing += bool(each.differences)
            if json:
                line = {"decision": each.answer.decision, "same": not each.differences,
                        "differences": each.differences}  # fmt: skip
                typer.echo(msgspec.json.encode(line))
            elif each.differences and differing <= SHOWN:
                _print_difference(each)
    if not json:
        seconds = time.monotonic() - began_s
        typer.echo(
            f"{len(records)} decisions made again in {seconds:.1f} s: "
            f"{len(records) - differing} equal to the byte, {differing} not."
        )
    return differing


def _print_difference(each: "Replayed") -> None:
    answer = each.answer
    typer.echo(f"{answer.decision} ({answer.slot}, as of {each.record.answer.as_of}) differs:")
    for difference in each.differences:
        was, now = difference.was, difference.now
        if difference.field == "items":
            was, now = _items(was), _items(now)
        typer.echo(f"  {difference.field}: was {was}\n  {'':{len(difference.field)}}  now {now}")


def _items(items: list[dict[str, Any]]) -> str:
    return " ".join(f"{item['id']}={item['score']:g}" for item in items)


def _print_candidates(told: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    same = "as recorded" if told["same"] else "NOT as recorded"
    table = Table(
        title=f"{told['decision']}: {told['slot']} as of {told['as_of']}, {told['model']}, {same}"
    )
    for heading in ("place", "item", "score", "parts", "gone", "dropped", "features not 0"):
        table.add_column(heading)
    for each in told["candidates"]:
        table.add_row(
            str(each["place"] or ""),
            each["item"],
            f"{each['score']:.4f}",
            " ".join(f"{name} {part:.3f}" for name, part in each["parts"].items()),
            f"{each['gone_chance']:.2f}" if each["gone_chance"] else "",
            each["dropped"] or "",
            " ".join(f"{name} {value:g}" for name, value in each["features"].items() if value),
        )
    Console().print(table)


def _models(data: Path, app: Path | None) -> "Models":
    from onhand.wiring import load_app, open_models

    return open_models(data, load_app(app))


def _record(data: Path, decision: str) -> "DecisionRecord":
    import msgspec

    from onhand.contracts.errors import Unknown
    from onhand.decision.records import DecisionRecord
    from onhand.log.decisions import read_decision

    body = read_decision(data / "decisions.db", decision)
    if body is None:
        raise Unknown("unknown_decision", f"There is no decision {decision!r} in {data}.")
    return msgspec.json.decode(body, type=DecisionRecord)


def _records(data: Path, since: str, sample: int) -> "list[DecisionRecord]":
    import msgspec

    from onhand.decision.records import DecisionRecord
    from onhand.features.windows import parse_duration_ms
    from onhand.log.decisions import read_decisions

    try:
        since_ms = time.time_ns() // 1_000_000 - parse_duration_ms(since)
    except ValueError as error:
        _fail(f"--since: {error}")
    bodies = read_decisions(data / "decisions.db", since_ms, sample)
    return [msgspec.json.decode(body, type=DecisionRecord) for body in bodies]


def _past(data: Path, app: Path | None) -> "Past":
    from onhand import wiring

    return wiring.open_past(data, wiring.load_app(app))


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)
