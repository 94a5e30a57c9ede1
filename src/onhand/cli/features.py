"""`onhand features`: what is known as numbers, live and over the log again."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from onhand.decision.records import DecisionRecord

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

_App = Annotated[Path | None, typer.Argument(help="The app file that the server runs.")]
_AppOption = Annotated[Path | None, typer.Option("--app", help="The app file.")]
_Data = Annotated[Path, typer.Option(help="The data folder; a server may run on it.")]


@app.command("list")
def list_features(
    app_file: _App = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")] = False,
) -> None:
    """List every feature with its type, unit, default, time to live and meaning.

    **Example**

    `onhand features list shop.py`
    """
    import msgspec
    from rich.console import Console
    from rich.table import Table

    from onhand.contracts.errors import OnhandError
    from onhand.wiring import load_app

    try:
        features = load_app(app_file).features
    except OnhandError as error:
        _fail(error.message)
    if json:
        for each in features.features:
            line = {name: getattr(each, name) for name in _SHOWN}
            typer.echo(msgspec.json.encode(line))
        return
    table = Table(title=f"{len(features.names)} features, version {features.version}")
    for heading in ("name", "of", "type", "unit", "default", "ttl", "meaning"):
        table.add_column(heading)
    for each in features.features:
        ttl = f"{each.ttl_ms / 1000:g} s" if each.ttl_ms else ""
        of = " x ".join(each.entities)
        table.add_row(each.name, of, each.type, each.unit, f"{each.default:g}", ttl, each.doc)
    Console(width=None if sys.stdout.isatty() else 200).print(table)


_SHOWN = ("name", "entities", "type", "unit", "default", "ttl_ms", "doc")


@app.command()
def backfill(
    out: Annotated[Path, typer.Option(help="The Parquet file to write.")],
    labels: Annotated[
        Path | None,
        typer.Option(help="Parquet: item, user, session, country, device; time or offset; more."),
    ] = None,
    decisions: Annotated[
        bool, typer.Option("--decisions", help="A row an item shown, with what came of it.")
    ] = False,
    window: Annotated[str, typer.Option(help="How long after, for --decisions.")] = "1d",
    data: _Data = Path("data"),
    app_file: _AppOption = None,
) -> None:
    """Write feature values exactly as they were, for training: one pass over the log.

    **Examples**

    `onhand features backfill --labels labels.parquet --out train.parquet`

    `onhand features backfill --decisions --window 1d --out shown.parquet`
    """
    if (labels is None) != decisions:
        _fail("Name --labels, or say --decisions.")
    import time

    import polars as pl
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from onhand.contracts.errors import OnhandError
    from onhand.features.windows import parse_duration_ms
    from onhand.offline.backfill import backfill as write_backfill
    from onhand.offline.shown import Outcomes, shown_items
    from onhand.wiring import load_app, open_past

    try:
        shop = load_app(app_file)
        past = open_past(data, shop)
        rows = shown_items(_decisions(data)) if labels is None else pl.read_parquet(labels)
        outcomes = Outcomes(rows, parse_duration_ms(window)) if labels is None else None
        began_s = time.monotonic()
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("records", total=past.last)
            done = write_backfill(
                rows, past, shop.features.vector(), out,
                on_progress=lambda offset: progress.update(task, completed=offset),
                outcomes=outcomes.watch if outcomes else None,
                finish=outcomes.join if outcomes else None,
            )  # fmt: skip
    except OnhandError as error:
        _fail(error.message)
    except (OSError, pl.exceptions.PolarsError, ValueError) as error:
        _fail(str(error))
    seconds = time.monotonic() - began_s
    typer.echo(
        f"{done.rows} rows x {len(shop.features.names)} features to {out}, over {done.records} "
        f"records in {seconds:.1f} s ({done.records / max(seconds, 1e-9):,.0f} records/s)."
    )


@app.command()
def parity(
    data: _Data = Path("data"),
    app_file: _AppOption = None,
    sample: Annotated[int, typer.Option(help="How many decisions at most.", min=1)] = 10_000,
    profile: Annotated[
        Path | None, typer.Option(help="The .profile.json of a training set: tell drift from it.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")] = False,
) -> None:
    """Compare the vectors that decisions kept with a backfill; exit 1 where they differ.

    The server keeps them for a share of decisions: setting `vector_share`.

    **Example**

    `onhand features parity --data data --profile train.profile.json`
    """
    import msgspec
    from rich.console import Console
    from rich.table import Table

    from onhand.contracts.errors import OnhandError
    from onhand.features.drift import Profile, stability
    from onhand.offline.parity import parity as compare
    from onhand.wiring import load_app, open_past

    try:
        shop = load_app(app_file)
        report = compare(_decisions(data, sample), open_past(data, shop), shop.features.vector())
        drift: dict[str, float] = {}
        if profile is not None:
            then = msgspec.json.decode(profile.read_bytes(), type=Profile)
            drift = stability(then, report.live)
    except OnhandError as error:
        _fail(error.message)
    except (OSError, msgspec.DecodeError) as error:
        _fail(f"{profile}: {error}")
    if not report.rows:
        _fail("No decision kept its vectors. Set `vector_share` above 0 and serve some pages.")
    table = Table(title=f"{report.rows} rows of {report.decisions} decisions")
    for heading in ("feature", "mismatch", "missing", "extra", "drift (PSI)"):
        table.add_column(heading)
    for each in report.features:
        if json:
            line = {**msgspec.to_builtins(each), "psi": drift.get(each.feature)}
            typer.echo(msgspec.json.encode(line))
            continue
        shares = [f"{share:.4%}" for share in (each.mismatch, each.missing, each.extra)]
        psi = f"{drift[each.feature]:.3f}" if each.feature in drift else ""
        table.add_row(each.feature, *shares, psi)
    if not json:
        Console(width=None if sys.stdout.isatty() else 120).print(table)
    if any(each.mismatch or each.missing or each.extra for each in report.features):
        raise typer.Exit(1)


def _decisions(data: Path, count: int = sys.maxsize) -> "list[DecisionRecord]":
    import msgspec

    from onhand.decision.records import DecisionRecord
    from onhand.log.decisions import read_decisions

    bodies = read_decisions(data / "decisions.db", 0, count)
    return [msgspec.json.decode(body, type=DecisionRecord) for body in bodies]


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)
